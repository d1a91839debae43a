//! One streamed completion over HTTP/1.1 as a client sees it: when each piece of the answer came. Only for measuring a service
//! of this machine: plain text on loopback, no TLS, no redirects. Never here: what is measured, or how it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode};
use serde_json::{Value, json};

/// Longest silence of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Longest line of an answer that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// `127.0.0.1:7077`.
    pub(super) address: String,
    /// The key.
    pub(super) secret: String,
    /// The service.
    pub(super) service: String,
    /// The prompt.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the answer: exactly so many.
    pub(super) output_tokens: u32,
}

/// When the pieces of an answer came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heard {
    /// From the request to the first piece.
    pub(super) first: Duration,
    /// Between two pieces, one after the other.
    pub(super) between: Vec<Duration>,
    /// From the request to the end.
    pub(super) total: Duration,
    /// Prompt tokens, as the answer's usage says.
    pub(super) prompt_tokens: u64,
    /// Tokens of the answer, as its usage says.
    pub(super) completion_tokens: u64,
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::ServiceUnavailable, format!("the endpoint did not answer to the end: {error}")).at("http")
}

/// Asks once and reads to the end.
pub(super) fn ask(ask: &Ask) -> Result<Heard, Failure> {
    let body = json!({
        "model": ask.service, "prompt": ask.tokens, "max_tokens": ask.output_tokens, "temperature": 0, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let began = Instant::now();
    let mut lines = send(&ask.address, &ask.secret, "POST", "/v1/completions", Some(&body))?;
    let mut heard = Heard {
        first: Duration::ZERO,
        between: Vec::new(),
        total: Duration::ZERO,
        prompt_tokens: 0,
        completion_tokens: 0,
    };
    let mut last: Option<Instant> = None;
    while let Some(line) = next_line(&mut lines)? {
        let Some(event) = line.trim_end().strip_prefix("data: ") else { continue };
        if event == "[DONE]" {
            heard.total = began.elapsed();
            return Ok(heard);
        }
        let event: Value = serde_json::from_str(event).map_err(broken)?;
        if let Some(message) = event["error"]["message"].as_str() {
            return Err(broken(message));
        }
        if let Some(usage) = event["usage"].as_object() {
            let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or_default();
            (heard.prompt_tokens, heard.completion_tokens) = (count("prompt_tokens"), count("completion_tokens"));
        }
        if event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
            let now = Instant::now();
            match last.replace(now) {
                None => heard.first = began.elapsed(),
                Some(before) => heard.between.push(now - before),
            }
        }
    }
    Err(broken("the connection ended"))
}

/// The JSON of a plain answer.
pub(super) fn get(address: &str, secret: &str, path: &str) -> Result<Value, Failure> {
    let mut lines = send(address, secret, "GET", path, None)?;
    let mut text = String::new();
    lines.read_to_string(&mut text).map_err(broken)?;
    serde_json::from_str(&text).map_err(broken)
}

/// Sends a request and reads the head of its answer; what is left is the body. Chunk sizes stand in it as lines of their own,
/// which no event begins like.
fn send(
    address: &str,
    secret: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<BufReader<TcpStream>, Failure> {
    let mut stream = TcpStream::connect(address).map_err(broken)?;
    stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(SILENCE_MAX))).map_err(broken)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut lines = BufReader::new(stream);
    let status = next_line(&mut lines)?.unwrap_or_default();
    let good = status.split(' ').nth(1) == Some("200");
    while next_line(&mut lines)?.is_some_and(|line| line != "\r\n") {}
    if good {
        return Ok(lines);
    }
    let mut said = String::new();
    lines.take(LINE_BYTES_MAX).read_to_string(&mut said).map_err(broken)?;
    let said: Value = serde_json::from_str(&said).unwrap_or_default();
    let message = said["error"]["message"].as_str().unwrap_or("no reason given");
    Err(Failure::new(FailureCode::ServiceUnavailable, format!("{}: {message}", status.trim_end())).at("http"))
}

fn next_line(lines: &mut BufReader<TcpStream>) -> Result<Option<String>, Failure> {
    let mut line = String::new();
    let read = lines.take(LINE_BYTES_MAX).read_line(&mut line).map_err(broken)?;
    Ok((read > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one connection with these bytes; gives the address.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                head.read_line(&mut line).unwrap();
                length = line.strip_prefix("Content-Length: ").map_or(length, |n| n.trim().parse().unwrap());
                if line == "\r\n" {
                    break;
                }
            }
            head.read_exact(&mut vec![0; length]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    fn question(address: String) -> Ask {
        Ask { address, secret: "s".into(), service: "desk".into(), tokens: vec![1], output_tokens: 2 }
    }

    #[test]
    fn pieces_and_usage_are_heard_and_a_refusal_says_why() {
        let good = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2a\r\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n\r\n\
                    data: {\"choices\":[{\"text\":\"b\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
                    data: [DONE]\n\n0\r\n\r\n";
        let heard = ask(&question(server(good))).unwrap();
        assert_eq!((heard.between.len(), heard.prompt_tokens, heard.completion_tokens), (1, 1, 2));
        assert!(heard.first <= heard.total);
        let refused = "HTTP/1.1 429 Too Many Requests\r\n\r\n{\"error\":{\"message\":\"later\"}}";
        let failure = ask(&question(server(refused))).unwrap_err();
        assert!(failure.message_en.contains("429") && failure.message_en.contains("later"), "{failure}");
        let cut = "HTTP/1.1 200 OK\r\n\r\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n";
        assert!(ask(&question(server(cut))).unwrap_err().message_en.contains("ended"));
    }
}
