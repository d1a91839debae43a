//! The child against a server that does what a script says: slow, cut, garbage, too much, gone. Over the real frames and
//! real connections on loopback.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hone_protocol::dataset::ChatMessage;
use hone_protocol::embed::EmbedTask;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Channel, Finish, Prompt, Wish};
use hone_protocol::upstream::{Secret, UpstreamTask};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, GenerateTask, ToWorker};
use hone_protocol::{frame, wire};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::client::Patience;
use super::serve;
use crate::http::RETRY_AFTER_ARG;

/// What the server does after a request.
#[derive(Clone)]
enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends nothing until the client goes away, and says when it did.
    Wait,
    /// Ends the connection.
    Close,
}

/// A request as the server saw it.
#[derive(Debug)]
struct Seen {
    path: String,
    head: String,
    body: Value,
    connection: usize,
}

enum Note {
    Asked(Seen),
    Left,
}

struct Fake {
    address: String,
    notes: mpsc::UnboundedReceiver<Note>,
    scripts: Arc<Mutex<VecDeque<Vec<Act>>>>,
}

impl Fake {
    async fn start(scripts: Vec<Vec<Act>>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let (note, notes) = mpsc::unbounded_channel();
        let scripts = Arc::new(Mutex::new(VecDeque::from(scripts)));
        let all = Arc::clone(&scripts);
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, number, Arc::clone(&all), note.clone()));
            }
        });
        Fake { address, notes, scripts }
    }

    async fn asked(&mut self) -> Seen {
        loop {
            if let Note::Asked(seen) = self.notes.recv().await.unwrap() {
                return seen;
            }
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    scripts: Arc<Mutex<VecDeque<Vec<Act>>>>,
    notes: mpsc::UnboundedSender<Note>,
) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while bytes.len() < end + length {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        let body = serde_json::from_slice(&bytes[end..end + length]).unwrap_or(Value::Null);
        bytes.drain(..end + length);
        let path = head.split(' ').nth(1).unwrap().to_owned();
        // The look at the start is answered like a server without that route.
        let acts = match path.ends_with("/models") {
            true => None,
            false => scripts.lock().unwrap().pop_front(),
        };
        let _ = notes.send(Note::Asked(Seen { path, head, body, connection }));
        for act in acts.unwrap_or_else(|| vec![status(404, "")]) {
            match act {
                Act::Send(bytes) => stream.write_all(&bytes).await.unwrap(),
                Act::Wait => {
                    let mut rest = [0; 1];
                    let _ = stream.read(&mut rest).await;
                    let _ = notes.send(Note::Left);
                    return;
                }
                Act::Close => return,
            }
        }
    }
}

fn status(status: u16, body: &str) -> Act {
    answer(status, "application/json", "", body)
}

fn answer(status: u16, kind: &str, more: &str, body: &str) -> Act {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{more}\r\n");
    Act::Send([head.as_bytes(), body.as_bytes()].concat())
}

/// The head of an answer that ends with its connection.
fn stream_head() -> Act {
    Act::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec())
}

fn events(events: &str) -> Act {
    Act::Send(events.as_bytes().to_vec())
}

/// A whole stream with its length, so that the connection goes on.
fn whole_stream(body: &str) -> Act {
    answer(200, "text/event-stream", "", body)
}

const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\n\
                     data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const COUNTS: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn patience() -> Patience {
    let ms = Duration::from_millis;
    // What a test waits for comes in far less; what a test waits out is one of these.
    Patience {
        connect: ms(30_000),
        first: ms(30_000),
        idle: ms(30_000),
        tail: ms(30_000),
        look: ms(30_000),
        look_max: ms(30_000),
    }
}

/// The daemon's end of the line.
struct Daemon {
    line: UnixStream,
    bytes: Vec<u8>,
}

impl Daemon {
    async fn start(fake: &mut Fake, patience: Patience) -> Daemon {
        let (mut daemon, health) = Daemon::of(&fake.address, patience).await;
        assert_eq!(health, None);
        assert!(fake.asked().await.path.ends_with("/v1/models"));
        daemon.bytes.shrink_to_fit();
        daemon
    }

    async fn of(url: &str, patience: Patience) -> (Daemon, Option<Failure>) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let hello = FromWorker::Hello { protocol: 0, version: String::new(), sandbox: Vec::new() };
        tokio::spawn(async move { serve(theirs, hello, patience).await.unwrap() });
        ours.set_nonblocking(true).unwrap();
        let mut daemon = Daemon { line: UnixStream::from_std(ours).unwrap(), bytes: Vec::new() };
        assert!(matches!(daemon.hear().await, FromWorker::Hello { .. }));
        let task = UpstreamTask {
            service: "desk".into(),
            url: url.into(),
            model: "big".into(),
            key: Secret("sk-upstream".into()),
            slots: 4,
        };
        daemon.say(ToWorker::Upstream(task)).await;
        match daemon.hear().await {
            FromWorker::Health(health) => (daemon, health),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, message: ToWorker) {
        self.line.write_all(&frame::frame(&wire::encode(&message)).unwrap()).await.unwrap();
    }

    /// What comes, but for reports of load and signs of life.
    async fn hear(&mut self) -> FromWorker {
        loop {
            if let Some(header) = self.bytes.first_chunk::<4>() {
                let length = frame::length(*header).unwrap();
                if self.bytes.len() >= 4 + length {
                    let message = wire::decode(&self.bytes[4..4 + length]).unwrap();
                    self.bytes.drain(..4 + length);
                    if matches!(message, FromWorker::Load { .. } | FromWorker::Alive) {
                        continue;
                    }
                    return message;
                }
            }
            assert!(self.line.read_buf(&mut self.bytes).await.unwrap() > 0, "the child is gone");
        }
    }

    async fn ask(&mut self, request: u64) {
        let prompt = Prompt::chat(vec![ChatMessage { role: "user".into(), content: "hello there".into() }]);
        let wish = Wish { tokens_max: 9, ..Wish::default() };
        let task = GenerateTask {
            request,
            adapter: None,
            prompt,
            wish,
            scope: Hash([0; 32]),
            turn: hone_protocol::generate::Share { owner: 0, weight: 1 },
        };
        self.say(ToWorker::Generate(task)).await;
    }

    /// Everything up to the end of a request: text, counts, how it ended.
    async fn gather(&mut self) -> (String, Option<(u32, u32)>, Result<(Finish, u32), Failure>) {
        let (mut text, mut counts) = (String::new(), None);
        loop {
            match self.hear().await {
                FromWorker::Piece { text: piece, channel: Channel::Text, .. } => text.push_str(&piece),
                FromWorker::Counted { prompt_tokens, tokens, .. } => counts = Some((prompt_tokens, tokens)),
                FromWorker::Ended { finish, tokens, .. } => return (text, counts, Ok((finish, tokens))),
                FromWorker::Refused { failure, .. } => return (text, counts, Err(failure)),
                FromWorker::Began { .. } | FromWorker::Health(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_with_counts_on_one_kept_connection() {
    let body = [HELLO, END, COUNTS, DONE].concat();
    let mut fake = Fake::start(vec![vec![whole_stream(&body)], vec![whole_stream(&body)]]).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    let mut connections = Vec::new();
    for request in [1, 2] {
        daemon.ask(request).await;
        assert_eq!(daemon.gather().await, ("hello".into(), Some((11, 5)), Ok((Finish::Stop, 5))));
        let seen = fake.asked().await;
        assert_eq!(seen.path, "/v1/chat/completions");
        assert!(seen.head.contains("authorization: Bearer sk-upstream\r\n"), "{}", seen.head);
        assert_eq!((&seen.body["model"], &seen.body["max_tokens"]), (&json!("big"), &json!(9)));
        connections.push(seen.connection);
    }
    assert_eq!(connections, [0, 0], "the connection of the first look is used again");
}

#[tokio::test]
async fn streams_that_end_oddly() {
    let cut = "data: {\"choices\":[{\"del";
    for (name, acts, text, counted, ended) in [
        ("no end mark", vec![stream_head(), events(HELLO), events(END), Act::Close], "hello", None, Ok(2)),
        (
            "no last empty line",
            vec![stream_head(), events(HELLO), events("data: [DONE]"), Act::Close],
            "hello",
            None,
            Ok(2),
        ),
        ("crlf", vec![stream_head(), events(&[HELLO, DONE].concat().replace('\n', "\r\n"))], "hello", None, Ok(2)),
        ("comments", vec![stream_head(), events(": ping\n\n"), events(HELLO), events(DONE)], "hello", None, Ok(2)),
        ("cut", vec![stream_head(), events(HELLO), Act::Close], "hello", None, Err("in the middle")),
        (
            "cut in an event",
            vec![stream_head(), events(HELLO), events(cut), Act::Close],
            "hello",
            None,
            Err("in the middle"),
        ),
        (
            "an error",
            vec![stream_head(), events(HELLO), events("data: {\"error\":{\"message\":\"out of memory\"}}\n\n")],
            "hello",
            None,
            Err("broke the answer off: out of memory"),
        ),
        ("no JSON", vec![stream_head(), events("data: <html>\n\n")], "", None, Err("no answer of the OpenAI protocol")),
        (
            "counts, then cut",
            vec![stream_head(), events(HELLO), events(END), events(COUNTS), Act::Close],
            "hello",
            Some((11, 5)),
            Ok(5),
        ),
        (
            "not a stream",
            vec![status(
                200,
                r#"{"choices":[{"message":{"content":"hello"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
            )],
            "hello",
            Some((3, 4)),
            Ok(4),
        ),
    ] {
        let mut fake = Fake::start(vec![acts]).await;
        let mut daemon = Daemon::start(&mut fake, patience()).await;
        daemon.ask(1).await;
        let (said, counts, end) = daemon.gather().await;
        assert_eq!((said.as_str(), counts), (text, counted), "{name}");
        match (end, ended) {
            (Ok((_, tokens)), Ok(expected)) => assert_eq!(tokens, expected, "{name}"),
            (Err(failure), Err(part)) => {
                assert_eq!(failure.code, FailureCode::UpstreamFailed, "{name}");
                assert!(failure.message_en.contains(part), "{name}: {}", failure.message_en);
            }
            (end, _) => panic!("{name}: {end:?}"),
        }
    }
}

#[tokio::test]
async fn refusals_are_told_and_change_how_the_service_is() {
    let moved = answer(302, "text/plain", "location: http://127.0.0.1:9/steal\r\n", "");
    let busy = answer(429, "application/json", "retry-after: 9\r\n", "{}");
    let body = [HELLO, END, DONE].concat();
    let scripts = vec![
        vec![status(401, "{}")],
        vec![moved],
        vec![busy],
        vec![status(400, r#"{"error":{"message":"no such field"}}"#)],
        vec![whole_stream(&body)],
    ];
    let mut fake = Fake::start(scripts).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    for (code, part, health) in [
        (FailureCode::UpstreamFailed, "refuses the key that hone has", true),
        (FailureCode::UpstreamFailed, "redirects to http://127.0.0.1:9/steal", true),
        (FailureCode::UpstreamUnavailable, "is asked too much", true),
        (FailureCode::InvalidRequest, "no such field", false),
    ] {
        daemon.ask(1).await;
        if health {
            assert!(
                matches!(daemon.hear().await, FromWorker::Health(Some(failure)) if failure.message_en.contains(part))
            );
        }
        let FromWorker::Refused { failure, .. } = daemon.hear().await else { panic!("{part}") };
        assert_eq!(failure.code, code);
        assert!(failure.message_en.contains(part), "{}", failure.message_en);
        let waits = failure.args.iter().any(|arg| *arg == (RETRY_AFTER_ARG.to_owned(), "9".to_owned()));
        assert_eq!(waits, code == FailureCode::UpstreamUnavailable);
    }
    daemon.ask(2).await;
    assert!(matches!(daemon.hear().await, FromWorker::Began { .. }));
    loop {
        match daemon.hear().await {
            FromWorker::Piece { .. } => {}
            FromWorker::Health(None) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(fake.scripts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_at_the_server() {
    let mut fake = Fake::start(vec![vec![stream_head(), events(HELLO), Act::Wait]]).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    daemon.ask(7).await;
    while !matches!(daemon.hear().await, FromWorker::Piece { tokens: 2, .. }) {}
    daemon.say(ToWorker::CancelRequest { request: 7 }).await;
    assert!(matches!(daemon.hear().await, FromWorker::Ended { finish: Finish::Cancelled, .. }));
    while !matches!(fake.notes.recv().await, Some(Note::Left)) {}
}

#[tokio::test]
async fn waits_have_an_end() {
    let short = Duration::from_millis(1500);
    let body = [HELLO, END].concat();
    for (patience, acts, part) in [
        (Patience { first: short, ..patience() }, vec![Act::Wait], "did not begin to answer"),
        (Patience { idle: short, ..patience() }, vec![stream_head(), events(HELLO), Act::Wait], "did not go on"),
    ] {
        // The look at the start is answered at once, whatever the patience is.
        let mut fake = Fake::start(vec![acts]).await;
        let mut daemon = Daemon::start(&mut fake, patience).await;
        daemon.ask(1).await;
        let failure = daemon.gather().await.2.unwrap_err();
        assert_eq!(failure.code, FailureCode::UpstreamUnavailable);
        assert!(failure.message_en.contains(part), "{}", failure.message_en);
    }
    let tail = Patience { tail: short, ..patience() };
    let mut fake = Fake::start(vec![vec![stream_head(), events(&body), Act::Wait]]).await;
    let mut daemon = Daemon::start(&mut fake, tail).await;
    daemon.ask(1).await;
    assert_eq!(daemon.gather().await, ("hello".into(), None, Ok((Finish::Stop, 2))), "only counts were missing");
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let (mut daemon, health) = Daemon::of(&closed, patience()).await;
    assert!(health.unwrap().message_en.contains("cannot be reached"));
    daemon.ask(1).await;
    let failure = daemon.gather().await.2.unwrap_err();
    assert_eq!(failure.code, FailureCode::UpstreamUnavailable);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_no_trouble() {
    let body = [HELLO, END, DONE].concat();
    let scripts = vec![vec![whole_stream(&body), Act::Close], vec![whole_stream(&body), Act::Close]];
    let mut fake = Fake::start(scripts).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    for request in [1, 2] {
        daemon.ask(request).await;
        assert_eq!(daemon.gather().await.0, "hello");
    }
}

#[tokio::test]
async fn what_a_server_does_not_know_is_not_asked_again() {
    let body = [HELLO, END, DONE].concat();
    let scripts = vec![
        vec![status(400, r#"{"error":{"message":"unknown field: stream_options"}}"#)],
        vec![status(400, r#"{"error":{"message":"use max_completion_tokens"}}"#)],
        vec![whole_stream(&body)],
    ];
    let mut fake = Fake::start(scripts).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    daemon.ask(1).await;
    assert_eq!(daemon.gather().await.1, None);
    let (first, _, last) = (fake.asked().await, fake.asked().await, fake.asked().await);
    assert!(first.body["stream_options"].is_object() && last.body.get("stream_options").is_none());
    assert_eq!(last.body["max_completion_tokens"], 9);
}

#[tokio::test]
async fn vectors_and_what_only_our_models_can_do() {
    let vectors =
        r#"{"data":[{"index":1,"embedding":[0.0,1.0]},{"index":0,"embedding":[1.0,0.0]}],"usage":{"prompt_tokens":4}}"#;
    let mut fake = Fake::start(vec![vec![status(200, vectors)]]).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    let text = |text: &str| Prompt::Text { text: text.into(), parse_special: false, add_special: true };
    let task = EmbedTask { request: 1, inputs: vec![text("a"), text("b")], cut: false, dimensions: Some(2) };
    daemon.say(ToWorker::Embed(task)).await;
    assert!(matches!(daemon.hear().await, FromWorker::Began { .. }));
    assert!(matches!(daemon.hear().await, FromWorker::Counted { prompt_tokens: 4, .. }));
    let first = daemon.hear().await;
    assert_eq!(first, FromWorker::Embedded { request: 1, index: 0, vector: vec![1.0, 0.0], cut: false, left: 1 });
    assert!(matches!(daemon.hear().await, FromWorker::Embedded { index: 1, left: 0, .. }));
    let seen = fake.asked().await;
    assert_eq!((seen.path.as_str(), &seen.body["dimensions"]), ("/v1/embeddings", &json!(2)));
    daemon.say(ToWorker::Spell { request: 2, prompt: text("a") }).await;
    assert!(
        matches!(daemon.hear().await, FromWorker::Refused { request: 2, failure } if failure.code == FailureCode::Unsupported)
    );
}

#[tokio::test]
async fn a_huge_line_ends_the_answer_and_not_the_process() {
    let line = format!("data: {}", "x".repeat(super::sse::EVENT_BYTES_MAX + 1));
    let body = [HELLO, END, DONE].concat();
    let mut fake = Fake::start(vec![vec![stream_head(), events(&line), Act::Wait], vec![whole_stream(&body)]]).await;
    let mut daemon = Daemon::start(&mut fake, patience()).await;
    daemon.ask(1).await;
    assert!(daemon.gather().await.2.unwrap_err().message_en.contains("too long"));
    daemon.ask(2).await;
    assert_eq!(daemon.gather().await.0, "hello");
}
