//! A web server of a test: it answers on loopback as the test says, and remembers what it was asked. Never here: what a
//! hub answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked. Names of headers are in lower case.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
}

impl Asked {
    /// The byte from which the rest is wanted.
    pub(super) fn from(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(super) cut_after: Option<usize>,
    /// And instead of ending, the connection stands still until the client leaves.
    pub(super) stall: bool,
}

impl Reply {
    pub(super) fn of(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Reply {
        self.headers.push((name, value.to_string()));
        self
    }

    /// `body` from the asked byte on.
    pub(super) fn range(asked: &Asked, body: &[u8]) -> Reply {
        match asked.from() {
            None => Reply::of(200, body),
            Some(from) if from < body.len() => Reply::of(206, &body[from..])
                .header("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len())),
            Some(_) => Reply::of(416, ""),
        }
    }
}

/// A running server. Its thread ends with the test's process.
pub(super) struct Server {
    /// `http://127.0.0.1:PORT`.
    pub(super) base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (remembered, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, remembered) = (Arc::clone(&answer), Arc::clone(&remembered));
                // A client that goes away in the middle is what some tests are about.
                std::thread::spawn(move || drop(one(stream, &*answer, &remembered)));
            }
        });
        Server { base, asked }
    }

    /// Everything that was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn one(stream: TcpStream, answer: &dyn Fn(&Asked) -> Reply, remembered: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut asked = Asked { path: first.split(' ').nth(1).unwrap_or("").to_owned(), headers: BTreeMap::new() };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        asked.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let reply = answer(&asked);
    remembered.lock().unwrap().push(asked);
    let mut head =
        format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(&reply.body[..reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len())])?;
    if reply.stall {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
