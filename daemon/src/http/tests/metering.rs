//! What is billed is what `write()` accepted: to the frame, whoever goes away and whenever.

use std::time::Duration;

use hone_protocol::application::Outcome;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::worker::Finish;
use serde_json::Value;
use tokio::net::TcpSocket;

use super::super::Limits;
use super::client::{Reply, Server, chat};
use super::fake::{Fake, Script, Step, piece};

const USAGE: &str = r#","stream":true,"stream_options":{"include_usage":true}"#;

fn usage(reply: &Reply) -> Value {
    let events = reply.events();
    let json = if events.is_empty() { &reply.body } else { &events[events.len() - 2] };
    serde_json::from_str::<Value>(json).unwrap()["usage"].clone()
}

#[tokio::test]
async fn a_usage_object_equals_its_row() {
    // The last tokens gave no text (a stop text that was cut off): they are not billed.
    let steps = vec![piece("one", 1), piece(" two", 5), Step::End(Finish::Stop, 9)];
    let desk = Fake::new([("base", Script::new(steps))]);
    let server = Server::start(&desk).await;
    for more in ["", USAGE] {
        let reply = server.ask(&chat("base", more)).await;
        let row = desk.rows().pop().unwrap();
        assert_eq!(row.outcome, Outcome::Complete);
        assert_eq!(row.completion_tokens, 5);
        let usage = usage(&reply);
        assert_eq!(usage["prompt_tokens"], row.prompt_tokens);
        assert_eq!(usage["completion_tokens"], row.completion_tokens);
        assert_eq!(usage["total_tokens"], row.prompt_tokens + row.completion_tokens);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], row.cached_tokens);
        let id = format!("chatcmpl-{}", row.id);
        assert!(reply.body.contains(&id), "{id} in {}", reply.body);
        assert_eq!(reply.header("x-request-id"), Some(row.id.to_string().as_str()));
    }
}

#[tokio::test]
async fn usage_and_the_end_mark_leave_only_after_the_closing_commit() {
    let script = Script { close_at_gate: true, ..Script::new(vec![piece("one", 1), Step::End(Finish::Stop, 1)]) };
    let desk = Fake::new([("base", script)]);
    let server = Server::start(&desk).await;
    let mut client = server.client().await;
    client.send(&chat("base", USAGE)).await;
    client.head().await;
    assert!(client.chunk().await.contains("assistant"));
    assert!(client.chunk().await.contains("one"));
    desk.logged("closing").await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.chunk()).await;
    assert!(early.is_err(), "{early:?} left before the commit");
    desk.open_gate();
    desk.logged("closed Complete 1").await;
}

#[tokio::test]
async fn a_client_that_goes_away_pays_for_what_was_written() {
    let steps = vec![
        piece("one", 1),
        piece(" two", 2),
        piece(" three", 7),
        Step::Gate,
        piece("late", 8),
        Step::End(Finish::Stop, 8),
    ];
    let desk = Fake::new([("base", Script::new(steps))]);
    let server = Server::start(&desk).await;
    let mut client = server.client().await;
    client.send(&chat("base", USAGE)).await;
    client.head().await;
    for part in ["assistant", "one", " two", " three"] {
        assert!(client.chunk().await.contains(part));
    }
    drop(client);
    assert_eq!(desk.logged("dropped").await, "dropped 7");
    assert!(desk.rows().is_empty(), "a lost client closes by drop, not by a usage object");
}

#[tokio::test]
async fn a_client_that_leaves_before_a_plain_answer_pays_for_no_token() {
    let steps = vec![piece("one", 1), Step::Gate, Step::End(Finish::Stop, 1)];
    let desk =
        Fake::new([("base", Script::new(steps)), ("queued", Script { begin_at_gate: true, ..Script::default() })]);
    let server = Server::start(&desk).await;
    let mut client = server.client().await;
    client.send(&chat("base", "")).await;
    desk.logged("at the gate").await;
    drop(client);
    assert_eq!(desk.logged("dropped").await, "dropped 0");

    let mut client = server.client().await;
    client.send(&chat("queued", "")).await;
    desk.logged("begin queued").await;
    drop(client);
    desk.logged("begin dropped").await;
}

#[tokio::test]
async fn a_close_that_began_is_finished_whoever_leaves() {
    let script = Script { close_at_gate: true, ..Script::new(vec![piece("one", 1), Step::End(Finish::Stop, 1)]) };
    let desk = Fake::new([("base", script)]);
    let server = Server::start(&desk).await;
    let mut client = server.client().await;
    client.send(&chat("base", "")).await;
    desk.logged("closing").await;
    drop(client);
    desk.open_gate();
    desk.logged("closed Complete 1").await;
}

#[tokio::test]
async fn a_failing_answer_is_billed_for_what_was_written() {
    let failure = Failure::new(FailureCode::WorkerDied, "signal 9");
    let desk = Fake::new([("base", Script::new(vec![piece("one", 1), piece("two", 2), Step::Fail(failure)]))]);
    let server = Server::start(&desk).await;
    let reply = server.ask(&chat("base", USAGE)).await;
    assert_eq!(desk.logged("closed").await, "closed Failed 2");
    let events = reply.events();
    assert!(events.last().unwrap().contains("worker_died"), "{events:?}");
    assert!(!reply.body.contains("[DONE]"));

    let reply = server.ask(&chat("base", "")).await;
    assert_eq!((reply.status, desk.rows()[1].completion_tokens, desk.rows()[1].outcome), (503, 0, Outcome::Failed));
}

/// Frames that are larger than what the sockets hold, so that `write()` takes them in parts.
#[tokio::test]
async fn a_client_that_stops_reading_is_billed_to_the_frame() {
    let text = "x".repeat(20_000);
    let steps = (1..=2000).map(|tokens| piece(&text, tokens)).chain([Step::End(Finish::Stop, 2000)]);
    let desk = Fake::new([("base", Script::new(steps.collect()))]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(8192).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let limits = Limits { stall: Duration::from_millis(150), ..Limits::default() };
    let server = Server::on(socket.listen(8).unwrap(), &desk, limits);
    let mut client = server.narrow_client().await;
    client.send(&chat("base", USAGE)).await;
    let closed = desk.logged("closed").await;
    let billed: usize =
        closed.strip_prefix("closed Disconnected ").unwrap_or_else(|| panic!("{closed}")).parse().unwrap();
    assert!(billed < 500, "{billed} frames of 20 kB into buffers of some kB");
    // What the kernel had accepted arrives after all: the whole frames in it are exactly what is billed.
    let received = client.rest().await;
    let whole = received
        .windows(text.len() + 1)
        .filter(|w| w[text.len()] == b'"' && w[..text.len()].iter().all(|b| *b == b'x'));
    assert_eq!(whole.count(), billed);
    assert!(!received.ends_with(b"0\r\n\r\n"), "a cut answer must not look whole");
}

#[tokio::test]
async fn never_more_than_64_tokens_are_written_beyond_the_bill() {
    let steps = (1..=200).map(|tokens| piece("t ", tokens)).chain([Step::End(Finish::Length, 200)]);
    let script = Script { commit_at_gate: true, ..Script::new(steps.collect()) };
    let desk = Fake::new([("base", script)]);
    let server = Server::start(&desk).await;
    let mut client = server.client().await;
    client.send(&chat("base", USAGE)).await;
    client.head().await;
    client.chunk().await;
    for (commit, until) in [(0, 64), (64, 128), (128, 192)] {
        for token in commit..until {
            assert!(client.chunk().await.contains("\"t \""), "token {token}");
        }
        let line = format!("waits with {until} delivered");
        desk.logged(&line).await;
        let early = tokio::time::timeout(Duration::from_millis(30), client.stream.get_ref().readable()).await;
        assert!(early.is_err(), "a token left before the commit at {until}");
        desk.open_gate();
    }
    desk.logged("closed Complete 200").await;
}

#[tokio::test]
async fn what_cannot_be_recorded_gets_no_usage() {
    let script = Script {
        close: Some(Failure::new(FailureCode::NotSaved, "no space")),
        ..Script::new(vec![piece("one", 1), Step::End(Finish::Stop, 1)])
    };
    let desk = Fake::new([("base", script)]);
    let server = Server::start(&desk).await;
    let streamed = server.ask(&chat("base", USAGE)).await;
    assert!(streamed.body.contains("not_saved"), "{streamed:?}");
    assert!(!streamed.body.contains("[DONE]") && !streamed.body.contains("total_tokens"));
    let plain = server.ask(&chat("base", "")).await;
    assert_eq!(plain.status, 503);
    assert!(!plain.body.contains("one") && plain.header("retry-after").is_some());
}
