//! Connections: keeping, pipelining, limits, slow and broken clients, the graceful stop, Unix sockets.

use std::time::{Duration, Instant};

use hone_protocol::worker::Finish;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::super::{HEADER_BYTES_MAX, HEADERS_MAX, Limits, Listeners, auth, run};
use super::client::{Server, chat, get, post};
use super::fake::{Fake, KEY, PATIENCE, Script, Step, piece};

const SHORT: Duration = Duration::from_millis(100);

fn desk() -> Fake {
    Fake::new([
        ("base", Script::new(vec![piece("hi", 1), Step::End(Finish::Stop, 1)])),
        ("slow", Script::new(vec![piece("hi", 1), Step::Gate, piece(" there", 2), Step::End(Finish::Stop, 2)])),
    ])
}

#[tokio::test]
async fn a_connection_is_kept_after_every_kind_of_answer() {
    let server = Server::start(&desk()).await;
    let mut client = server.client().await;
    let requests = [
        (200, chat("base", r#","stream":true"#)),
        (200, chat("base", "")),
        (404, chat("nothing", "")),
        (400, post("{")),
        (401, get("/v1/models").replace(KEY, "x")),
        (404, get("/nothing")),
        (200, chat("base", r#","stream":true"#)),
        (200, get("/v1/models")),
    ];
    for (status, request) in requests {
        client.send(&request).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{request}");
        assert_eq!(reply.header("keep-alive"), Some("timeout=9"));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let desk = desk();
    let server = Server::start(&desk).await;
    let mut client = server.client().await;
    let stream = chat("slow", r#","stream":true"#);
    client.send(&format!("{stream}{}{}", chat("base", ""), get("/v1/models"))).await;
    desk.logged("at the gate").await;
    desk.open_gate();
    let first = client.reply().await;
    assert!(first.body.ends_with("data: [DONE]\n\n"), "{first:?}");
    assert!(client.reply().await.body.contains("chat.completion"));
    assert!(client.reply().await.body.contains("\"object\":\"list\""));
    assert_eq!(desk.log().iter().filter(|line| line.starts_with("closed Complete")).count(), 2);
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_kept_alive_by_comments() {
    let desk = desk();
    let limits = Limits { keep_alive: Duration::from_millis(20), ..Limits::default() };
    let server = Server::with(&desk, limits).await;
    let mut client = server.client().await;
    client.send(&chat("slow", r#","stream":true"#)).await;
    client.head().await;
    client.chunk().await;
    assert!(client.chunk().await.contains("hi"));
    assert_eq!(client.chunk().await, ": keep-alive\n\n");
    assert_eq!(client.chunk().await, ": keep-alive\n\n");
    desk.open_gate();
    let mut rest = String::new();
    loop {
        let chunk = client.chunk().await;
        if chunk.is_empty() {
            break;
        }
        rest.push_str(&chunk);
    }
    assert!(rest.contains(" there") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    desk.logged("closed Complete 2").await;
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let server = Server::with(&desk(), Limits { header: SHORT, ..Limits::default() }).await;
    for start in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let begun = Instant::now();
        let mut client = server.client().await;
        client.send(start).await;
        assert_eq!(client.rest().await, b"", "{start:?}");
        assert!(begun.elapsed() >= SHORT, "{start:?}");
    }
    let mut idle = server.client().await;
    idle.send(&get("/v1/models")).await;
    assert_eq!(idle.reply().await.status, 200);
    assert_eq!(idle.rest().await, b"", "an idle connection ends too");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_timeout() {
    let server = Server::with(&desk(), Limits { body_idle: SHORT, ..Limits::default() }).await;
    let reply = server.ask(&chat("base", "").replace("Content-Length: ", "Content-Length: 9")).await;
    assert_eq!(reply.status, 408, "{reply:?}");
    let mut client = server.client().await;
    client.send(&chat("base", "").replace("Content-Length: ", "Content-Length: 9")).await;
    client.stream.get_mut().shutdown().await.unwrap();
    // Half a request and no more to come: nobody is left to answer.
    client.rest().await;
}

#[tokio::test]
async fn a_body_past_the_bound_is_refused() {
    let server = Server::start(&desk()).await;
    let announced = post("")
        .replace("Content-Length: 0", &format!("Content-Length: {}\r\nExpect: 100-continue", auth::BODY_BYTES_MAX + 1));
    assert_eq!(server.ask(&announced).await.status, 413);
    let padded = |bytes: usize| {
        let body = r#"{"model":"base","messages":[{"role":"user","content":"hi"}]}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    assert_eq!(server.ask(&post(&padded(auth::BODY_BYTES_MAX + 1))).await.status, 413);
    assert_eq!(server.ask(&post(&padded(auth::BODY_BYTES_MAX))).await.status, 200);
    let chunked = |bytes: usize| {
        let body = padded(bytes);
        post("").replace("Content-Length: 0", "Transfer-Encoding: chunked")
            + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    assert_eq!(server.ask(&chunked(auth::BODY_BYTES_MAX + 1)).await.status, 413);
    assert_eq!(server.ask(&chunked(1000)).await.status, 200);
}

#[tokio::test]
async fn broken_http_is_refused_and_the_next_client_is_served() {
    let server = Server::start(&desk()).await;
    let many: String = (0..=HEADERS_MAX).map(|i| format!("X-{i}: y\r\n")).collect();
    let head = |line: &str| format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{line}\r\n");
    for (broken, statuses) in [
        (head(&many), &[431][..]),
        (head(&format!("X-Long: {}\r\n", "y".repeat(HEADER_BYTES_MAX))), &[431]),
        ("GET /livez\r\n\r\n".to_owned(), &[400]),
        ("nonsense\r\n\r\n".to_owned(), &[400]),
        (head("Content-Length: -1\r\n"), &[400]),
        (head("Content-Length: 1\r\nContent-Length: 2\r\n"), &[400]),
        (head("Transfer-Encoding: gzip\r\n"), &[400]),
        (head("X-Space : y\r\n"), &[400]),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), &[400, 401, 404, 405]),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), &[400, 401, 404]),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), &[403]),
    ] {
        let reply = server.ask(&broken).await;
        assert!(statuses.contains(&reply.status), "{broken:?}: {reply:?}");
    }
    let mut preface = server.client().await;
    preface.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    preface.rest().await;
    let bad_chunk = post("").replace("Content-Length: 0", "Transfer-Encoding: chunked") + "ffffffffffffffffff\r\n";
    assert_eq!(server.ask(&bad_chunk).await.status, 400);
    assert_eq!(server.ask(&get("/v1/models")).await.status, 200);
}

#[tokio::test]
async fn a_graceful_stop_lets_answers_end_and_closes_idle_connections() {
    let desk = desk();
    let server = Server::start(&desk).await;
    let mut idle = server.client().await;
    idle.send(&get("/v1/models")).await;
    idle.reply().await;
    let mut busy = server.client().await;
    busy.send(&chat("slow", r#","stream":true"#)).await;
    desk.logged("at the gate").await;
    server.stop.send(true).unwrap();
    assert_eq!(idle.rest().await, b"");
    desk.open_gate();
    assert!(busy.reply().await.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(busy.rest().await, b"");
    tokio::time::timeout(PATIENCE, server.ended).await.expect("run returns").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn answers_that_take_longer_than_the_stop_are_cut_and_closed() {
    let desk = desk();
    let server = Server::with(&desk, Limits { stop: SHORT, ..Limits::default() }).await;
    let mut busy = server.client().await;
    busy.send(&chat("slow", r#","stream":true"#)).await;
    desk.logged("at the gate").await;
    server.stop.send(true).unwrap();
    assert_eq!(desk.logged("dropped").await, "dropped 1");
    tokio::time::timeout(PATIENCE, server.ended).await.expect("run returns").unwrap();
}

#[tokio::test]
async fn a_unix_socket_speaks_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let (stop, stopped) = watch::channel(false);
    let listeners = Listeners { unix: vec![UnixListener::bind(&path).unwrap()], ..Listeners::default() };
    let ended = tokio::spawn(run(listeners, desk(), stopped));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = chat("base", r#","stream":true"#).replace("Host: localhost", "Connection: close\r\nHost: localhost");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut reply)).await.expect("an answer").unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("data: [DONE]"), "{reply}");
    drop(stop);
    tokio::time::timeout(PATIENCE, ended).await.expect("a lost sender is the wish to stop").unwrap();
}
