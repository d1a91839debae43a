//! A small client of raw HTTP/1.1, so that tests say exactly which bytes they send and see which come back.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::{Hosts, Limits, Listeners, run};
use super::fake::{Fake, KEY, PATIENCE};

/// A running endpoint.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ended: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(desk: &Fake) -> Server {
        Server::with(desk, Limits::default()).await
    }

    pub(super) async fn with(desk: &Fake, limits: Limits) -> Server {
        Server::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), desk, limits)
    }

    pub(super) fn on(listener: TcpListener, desk: &Fake, limits: Limits) -> Server {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let listeners = Listeners {
            tcp: vec![listener],
            hosts: Hosts { names: vec!["models.example".to_owned()], addresses: false },
            limits,
            ..Listeners::default()
        };
        let ended = tokio::spawn(run(listeners, desk.clone(), stopped));
        Server { address, stop, ended }
    }

    pub(super) async fn client(&self) -> Client {
        Client { stream: BufReader::new(TcpStream::connect(self.address).await.unwrap()) }
    }

    /// A client whose receive buffer is as small as the system allows.
    pub(super) async fn narrow_client(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        Client { stream: BufReader::new(socket.connect(self.address).await.unwrap()) }
    }

    /// One request on its own connection.
    pub(super) async fn ask(&self, request: &str) -> Reply {
        let mut client = self.client().await;
        client.send(request).await;
        client.reply().await
    }
}

/// Status, headers and body.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The JSON of each `data:` line; the end mark as it is.
    pub(super) fn events(&self) -> Vec<String> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

pub(super) struct Client {
    pub(super) stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        tokio::time::timeout(PATIENCE, self.stream.read_until(b'\n', &mut line)).await.expect("a line").unwrap();
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Status and headers; the body is empty.
    pub(super) async fn head(&mut self) -> Reply {
        let status = self.line().await;
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {status:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                return Reply { status, headers, body: String::new() };
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    async fn exactly(&mut self, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut buffer)).await.expect("bytes").unwrap();
        String::from_utf8(buffer).expect("each frame is whole text")
    }

    /// The next chunk of a chunked body; empty at its end.
    pub(super) async fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(&self.line().await, 16).unwrap();
        let chunk = self.exactly(size).await;
        assert_eq!(self.line().await, "");
        chunk
    }

    /// A whole response.
    pub(super) async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                reply.body.push_str(&chunk);
            }
        } else {
            let bytes = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
            reply.body = self.exactly(bytes).await;
        }
        reply
    }

    /// Everything until the server ends the connection; a reset is an end too.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest))
            .await
            .expect("the end of the connection");
        rest
    }
}

/// A GET with a good key.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n")
}

/// A chat request with a good key.
pub(super) fn post(body: &str) -> String {
    post_to("/v1/chat/completions", body)
}

/// A request to a route with a good key.
pub(super) fn post_to(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A chat request with one message, and more fields.
pub(super) fn chat(service: &str, more: &str) -> String {
    post(&format!("{{\"model\":\"{service}\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]{more}}}"))
}
