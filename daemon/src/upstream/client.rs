//! HTTP/1.1 to one server: connections that are kept and used again, TLS, and a limit to every wait and every size.
//! Redirects are not followed. Never here: what is asked and what answers mean.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::upstream::{Address, UpstreamTask};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::trouble::Trouble;

/// Connections that are kept while nobody uses them; more are closed.
const IDLE_MAX: usize = 256;
/// How long one is kept; many servers close theirs after five seconds.
const IDLE: Duration = Duration::from_secs(4);
/// Longest head of an answer in bytes; hyper ends the connection beyond it.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest body of an error that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Name, connection and TLS.
    pub(super) connect: Duration,
    /// The first byte of an answer: a long prompt on a slow server.
    pub(super) first: Duration,
    /// The next bytes.
    pub(super) idle: Duration,
    /// What follows the last piece: counts and the end mark.
    pub(super) tail: Duration,
    /// First pause before an upstream in trouble is looked at again; doubled up to [`Patience::look_max`].
    pub(super) look: Duration,
    /// Longest of these pauses.
    pub(super) look_max: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            first: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            tail: Duration::from_secs(5),
            look: Duration::from_secs(2),
            look_max: Duration::from_secs(60),
        }
    }
}

/// A client of one server.
pub(super) struct Client {
    address: Address,
    host: HeaderValue,
    key: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<(SendRequest<Full<Bytes>>, Instant)>>,
    pub(super) patience: Patience,
}

impl Client {
    pub(super) fn new(task: &UpstreamTask, patience: Patience) -> Result<Client, Failure> {
        let wrong = |what: &str| Failure::new(FailureCode::InvalidField, what).at("upstream");
        let address = Address::read(&task.url)?;
        let host = HeaderValue::from_str(&address.authority()).map_err(|_| wrong("the host is no header"))?;
        let key = match task.key.0.as_str() {
            "" => None,
            key => {
                let mut header =
                    HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| wrong("the key is none"))?;
                header.set_sensitive(true);
                Some(header)
            }
        };
        let tls = match address.secure {
            true => {
                let name =
                    ServerName::try_from(address.host.clone()).map_err(|_| wrong("the host has no certificate"))?;
                Some((connector()?, name))
            }
            false => None,
        };
        Ok(Client { address, host, key, tls, idle: Mutex::default(), patience })
    }

    /// Whether connections are kept.
    pub(super) fn keeps_any(&self) -> bool {
        !self.kept().is_empty()
    }

    /// Closes connections that nobody used for long.
    pub(super) fn let_go(&self) {
        self.kept().retain(|(_, since)| since.elapsed() < IDLE);
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<(SendRequest<Full<Bytes>>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        let mut kept = self.kept();
        if kept.len() < IDLE_MAX && !connection.is_closed() {
            kept.push((connection, Instant::now()));
        }
    }

    /// One request. Success is a reply with a status of 200 to 299.
    pub(super) async fn ask(self: &Arc<Self>, route: &str, body: Option<Vec<u8>>) -> Result<Reply, Trouble> {
        let body = body.map(Bytes::from);
        loop {
            let kept = self.take_kept();
            let was_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = connection.send_request(self.request(route, body.clone()));
            match tokio::time::timeout(self.patience.first, answer).await {
                Err(_) => return Err(Trouble::Silent("did not begin to answer", millis(self.patience.first))),
                Ok(Ok(response)) => return self.reply(response, connection).await,
                // The server closed a connection that was kept, as it may at any time; nothing of an answer has come.
                Ok(Err(_)) if was_kept => {}
                Ok(Err(error)) => return Err(broken(&error)),
            }
        }
    }

    fn take_kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut kept = self.kept();
        while let Some((connection, since)) = kept.pop() {
            if since.elapsed() < IDLE && connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn request(&self, route: &str, body: Option<Bytes>) -> Request<Full<Bytes>> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        let path = format!("{}{route}", self.address.path);
        *request.method_mut() = method;
        // What the address may hold and what routes are is a path.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("hone/", env!("CARGO_PKG_VERSION"))));
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        request
    }

    async fn reply(
        self: &Arc<Self>,
        answer: Response<Incoming>,
        link: SendRequest<Full<Bytes>>,
    ) -> Result<Reply, Trouble> {
        let (head, body) = answer.into_parts();
        let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let is_stream = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
        let (wait, location) = (text(RETRY_AFTER).and_then(|wait| wait.trim().parse().ok()), text(LOCATION));
        let location = location.map(str::to_owned);
        let mut reply = Reply { body, link: Some(link), client: Arc::clone(self), is_stream };
        if head.status.is_success() {
            return Ok(reply);
        }
        let body = reply.whole(ERROR_BYTES_MAX).await.unwrap_or_default();
        Err(Trouble::Status { status: head.status.as_u16(), retry_after_s: wait, location, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        match tokio::time::timeout(self.patience.connect, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(Trouble::Silent("cannot be connected to", millis(self.patience.connect))),
        }
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let unreachable = |error: std::io::Error| Trouble::Unreachable(error.to_string());
        // All addresses of the name, one after the other.
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        match &self.tls {
            None => speak(stream).await,
            Some((connector, name)) => speak(connector.connect(name.clone(), stream).await.map_err(unreachable)?).await,
        }
    }
}

/// Begins HTTP on a stream. Its connection ends when nobody holds it any more.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Trouble> {
    let begun = Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(|error| broken(&error))?;
    tokio::spawn(async move {
        // Whoever asks hears of what goes wrong.
        let _ = connection.await;
    });
    Ok(sender)
}

fn broken(error: &hyper::Error) -> Trouble {
    match error.is_parse() || error.is_parse_too_large() {
        true => Trouble::Garbage(error.to_string()),
        false => Trouble::Unreachable(format!("the connection ended before an answer began: {error}")),
    }
}

fn millis(wait: Duration) -> u64 {
    wait.as_millis().min(u128::from(u64::MAX)) as u64
}

/// TLS with the certificate authorities of this system, or of `SSL_CERT_FILE`.
fn connector() -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let message = "no certificate authorities were found on this system: install ca-certificates, or name a file of \
                       them in SSL_CERT_FILE for honed";
        return Err(Failure::new(FailureCode::UpstreamFailed, message).hint(HintCode::ReadLog));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// An answer whose body comes. Dropping it before its end closes the connection, which is how a server hears that nobody
/// waits any more.
pub(super) struct Reply {
    body: Incoming,
    link: Option<SendRequest<Full<Bytes>>>,
    client: Arc<Client>,
    /// Whether it comes as events.
    pub(super) is_stream: bool,
}

impl Reply {
    /// The next bytes within `wait`; none at the end, after which the connection can be used again.
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Option<Bytes>, Trouble> {
        loop {
            let body = &mut self.body;
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx));
            match tokio::time::timeout(wait, frame).await {
                Err(_) => return Err(Trouble::Silent("did not go on with the answer", millis(wait))),
                Ok(None) => {
                    if let Some(link) = self.link.take() {
                        self.client.keep(link);
                    }
                    return Ok(None);
                }
                Ok(Some(Err(_))) => return Err(Trouble::Cut),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole body, when it is not longer than that.
    pub(super) async fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, Trouble> {
        let (wait, mut whole) = (self.client.patience.idle, Vec::new());
        while let Some(bytes) = self.next(wait).await? {
            if whole.len() + bytes.len() > bytes_max {
                return Err(Trouble::Garbage(format!("more than {bytes_max} bytes")));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}
