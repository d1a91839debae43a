//! Tiny calls: a server that answers each with one token and nothing to compute, and clients that call at a steady rate.
//! Never here: what is between them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hone_tests::PATIENCE;

/// Connections of the clients.
pub(crate) const CONNECTIONS: usize = 48;
/// What each client asks.
const BODY: &str = r#"{"model":"tiny","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;
const STREAM: &str = concat!(
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":"ok"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#,
    "\n\ndata: [DONE]\n\n",
);

/// Starts the server in threads of its own; its address.
pub(crate) fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || converse(stream));
        }
    });
    address
}

fn converse(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let head = |kind: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let (whole, streamed) = (head("application/json", WHOLE), head("text/event-stream", STREAM));
    let list = head("application/json", r#"{"object":"list","data":[{"id":"tiny","object":"model"}]}"#);
    while let Some((first, body)) = read(&mut reader) {
        let is_stream = has(&body, b"\"stream\":true") || has(&body, b"\"stream\": true");
        let answer = match (first.starts_with("GET"), is_stream) {
            (true, _) => &list,
            (false, true) => &streamed,
            (false, false) => &whole,
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The first line and the body of a message; none at the end of the connection.
fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// How calls went.
pub(crate) struct Calls {
    /// Answered calls a second.
    pub(crate) rate: f64,
    /// From when each call was due to its answer, in milliseconds, sorted: one that began late has waited.
    pub(crate) due_ms: Vec<f64>,
    /// From when each call was sent to its answer, in milliseconds, sorted.
    pub(crate) sent_ms: Vec<f64>,
    /// Calls that were not answered with 200.
    pub(crate) errors: usize,
}

impl Calls {
    /// The value below which so many of a hundred lie.
    pub(crate) fn of(sorted: &[f64], percent: usize) -> f64 {
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }
}

/// Calls at so many a second for so long, over [`CONNECTIONS`] that are kept. A connection that is behind calls at once.
pub(crate) fn call(address: &str, key: &str, rate: f64, duration: Duration) -> Calls {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let found = Mutex::new((Vec::new(), Vec::new(), 0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let (request, found) = (request.as_bytes(), &found);
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("it listens");
                stream.set_nodelay(true).expect("a socket option");
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
                let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
                let (mut due_ms, mut sent_ms, mut errors) = (Vec::new(), Vec::new(), 0);
                for turn in 0.. {
                    let due = Duration::from_secs_f64((turn * CONNECTIONS + number) as f64 / rate);
                    if due >= duration || begun.elapsed() >= duration {
                        break;
                    }
                    std::thread::sleep(due.saturating_sub(begun.elapsed()));
                    let sent = Instant::now();
                    stream.write_all(request).expect("it reads");
                    let (first, _) = read(&mut reader).expect("it answers");
                    errors += usize::from(!first.contains(" 200 "));
                    sent_ms.push(sent.elapsed().as_secs_f64() * 1e3);
                    due_ms.push((begun.elapsed() - due).as_secs_f64() * 1e3);
                }
                let mut all = found.lock().expect("no thread panics with it");
                all.0.extend(due_ms);
                all.1.extend(sent_ms);
                all.2 += errors;
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (mut due_ms, mut sent_ms, errors) = found.into_inner().expect("no thread panics with it");
    due_ms.sort_by(f64::total_cmp);
    sent_ms.sort_by(f64::total_cmp);
    Calls { rate: (due_ms.len() - errors) as f64 / seconds, due_ms, sent_ms, errors }
}
