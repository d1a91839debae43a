//! The HTTP endpoint: OpenAI clients call services with a bearer key.
//! Lives here: the accept loop, the route table, limits, the graceful stop. The guards are in `auth.rs`, metering in
//! `answer.rs`, the counting writer in `wire.rs`, what comes in in `fields.rs` and `ask.rs`, shapes of what leaves in
//! `openai.rs`, one file per route and `failure.rs`. Never here: management of anything, a decision about facts, a socket other than HTTP's.
//!
//! Not `axum::serve`: it has no header timeout, and the counting writer must stand under hyper.

pub(crate) mod answer;
pub mod archive;
mod ask;
mod auth;
mod batches;
mod chat;
mod completions;
mod conversation;
pub mod desk;
mod embeddings;
mod failure;
mod feedback;
mod fields;
mod files;
pub(crate) mod lines;
mod messages;
mod models;
mod openai;
mod openapi;
mod rate;
mod responses;
mod sse;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod wire;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPECT, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, get, post};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use self::desk::Desk;
use self::failure::Refusal;
use self::wire::{Counted, Wire};

pub use self::failure::RETRY_AFTER_ARG;

/// Connections at once on one listener, of which an idle one costs some kilobytes. More wait in its backlog. Each listener has its own, so that whoever fills
/// the loopback port, which every local user can, does not fill the Unix socket.
const CONNECTIONS_MAX: usize = 2048;
/// Headers of a request. More are answered with 431.
const HEADERS_MAX: usize = 64;
/// Bytes of request line and headers. More are answered with 431.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// hyper's buffer for reading and for writing on one connection.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Bytes of an unwanted body that are read and thrown away, so that the client sees the refusal instead of a
/// reset. Past it the connection ends.
const DRAIN_BYTES_MAX: usize = 16 << 20;
/// How long such a body is read.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed `accept` (most often: no file descriptors left) the loop waits, from the first to the second.
const ACCEPT_WAIT_MIN: Duration = Duration::from_millis(50);
const ACCEPT_WAIT_MAX: Duration = Duration::from_secs(1);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the end of one answer, or from the connection, to the last byte of the next headers; then it closes.
    pub header: Duration,
    /// Between two parts of a body; then 408.
    pub body_idle: Duration,
    /// How long a client may take nothing of an answer; then its answer ends as disconnected.
    pub stall: Duration,
    /// Between two comments of a stream that has nothing to say.
    pub keep_alive: Duration,
    /// How long answers may go on after the wish to stop; then they are cut.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            stall: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            stop: Duration::from_secs(10),
        }
    }
}

/// What a request may name as its host, besides 127.0.0.1, localhost and \[::1\]. A web page that was led here by a name
/// of its own (DNS rebinding) names that one.
#[derive(Debug, Default)]
pub struct Hosts {
    /// Names without a port.
    pub names: Vec<String>,
    /// Whether any address in numbers is allowed: no page can be led to one by a name.
    pub addresses: bool,
}

/// Where the endpoint listens and under which names.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Bound sockets of addresses; loopback unless the owner has consented to more.
    pub tcp: Vec<TcpListener>,
    /// Bound Unix sockets, 0600 in a folder of the owner's.
    pub unix: Vec<UnixListener>,
    /// Under which hosts.
    pub hosts: Hosts,
    /// How long things may take.
    pub limits: Limits,
}

/// One line of the route table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path, as the router reads it.
    pub path: &'static str,
    /// Whether it wants a key.
    pub key: bool,
    answer: Answer,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Livez,
    OpenApi,
    Models,
    Model,
    Chat,
    Completions,
    Responses,
    Messages,
    CountTokens,
    Tokenize,
    Detokenize,
    TokenizerInfo,
    Embeddings,
    Usage,
    Metrics,
    UploadFile,
    Files,
    File,
    FileContent,
    DeleteFile,
    MakeBatch,
    Batches,
    Batch,
    CancelBatch,
    Feedback,
}

/// Every route. A test insists that each stands in docs/http.md in both languages and behind the guards.
pub const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/livez", key: false, answer: Answer::Livez },
    Route { method: "GET", path: "/openapi.json", key: true, answer: Answer::OpenApi },
    Route { method: "GET", path: "/v1/models", key: true, answer: Answer::Models },
    Route { method: "GET", path: "/v1/models/{id}", key: true, answer: Answer::Model },
    Route { method: "POST", path: "/v1/chat/completions", key: true, answer: Answer::Chat },
    Route { method: "POST", path: "/v1/completions", key: true, answer: Answer::Completions },
    Route { method: "POST", path: "/v1/responses", key: true, answer: Answer::Responses },
    Route { method: "POST", path: "/v1/messages", key: true, answer: Answer::Messages },
    Route { method: "POST", path: "/v1/messages/count_tokens", key: true, answer: Answer::CountTokens },
    Route { method: "POST", path: "/tokenize", key: true, answer: Answer::Tokenize },
    Route { method: "POST", path: "/detokenize", key: true, answer: Answer::Detokenize },
    Route { method: "GET", path: "/tokenizer_info", key: true, answer: Answer::TokenizerInfo },
    Route { method: "POST", path: "/v1/embeddings", key: true, answer: Answer::Embeddings },
    Route { method: "GET", path: "/v1/usage", key: true, answer: Answer::Usage },
    Route { method: "GET", path: "/metrics", key: true, answer: Answer::Metrics },
    Route { method: "POST", path: "/v1/files", key: true, answer: Answer::UploadFile },
    Route { method: "GET", path: "/v1/files", key: true, answer: Answer::Files },
    Route { method: "GET", path: "/v1/files/{id}", key: true, answer: Answer::File },
    Route { method: "DELETE", path: "/v1/files/{id}", key: true, answer: Answer::DeleteFile },
    Route { method: "GET", path: "/v1/files/{id}/content", key: true, answer: Answer::FileContent },
    Route { method: "POST", path: "/v1/batches", key: true, answer: Answer::MakeBatch },
    Route { method: "GET", path: "/v1/batches", key: true, answer: Answer::Batches },
    Route { method: "GET", path: "/v1/batches/{id}", key: true, answer: Answer::Batch },
    Route { method: "POST", path: "/v1/batches/{id}/cancel", key: true, answer: Answer::CancelBatch },
    Route { method: "POST", path: "/v1/feedback", key: true, answer: Answer::Feedback },
];

/// What every route has at hand.
#[derive(Debug, Clone)]
struct Room<D> {
    desk: D,
    limits: Limits,
}

/// What every connection shares.
struct Endpoint<D> {
    desk: D,
    router: Router,
    hosts: Hosts,
    limits: Limits,
    wrong_keys: auth::WrongKeys,
}

/// The id of a request, as its response carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequestId(String);

/// Serves until `stop` turns true or its sender is gone; returns when every connection has ended. Answers that
/// are under way may finish within [`Limits::stop`].
pub async fn run<D: Desk>(listeners: Listeners, desk: D, stop: watch::Receiver<bool>) {
    let Listeners { tcp, unix, hosts, limits } = listeners;
    let router = router(Room { desk: desk.clone(), limits });
    let endpoint = Arc::new(Endpoint { desk, router, hosts, limits, wrong_keys: auth::WrongKeys::default() });
    let mut loops = JoinSet::new();
    for listener in tcp {
        loops.spawn(accept(listener, Arc::clone(&endpoint), stop.clone()));
    }
    for listener in unix {
        loops.spawn(accept(listener, Arc::clone(&endpoint), stop.clone()));
    }
    while loops.join_next().await.is_some() {}
}

/// A listening socket.
trait Listen: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// The next connection and, for addresses, whose it is.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Listen for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // A token is a small packet and must not wait for the next; a connection that cannot is still one.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(peer.ip())))
    }
}

impl Listen for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

/// Accepts on one listener until the wish to stop; then ends its connections.
async fn accept<D: Desk, L: Listen>(listener: L, endpoint: Arc<Endpoint<D>>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut wait = ACCEPT_WAIT_MIN;
    let mut stopping = pin!(stopped(stop.clone()));
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            // Takes the ended ones out, so that the set stays as small as the connections are few.
            Some(_) = connections.join_next() => continue,
            accepted = next_connection(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                wait = ACCEPT_WAIT_MIN;
                connections.spawn(serve_connection(stream, peer, place, Arc::clone(&endpoint), stop.clone()));
            }
            // The client left before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if wait == ACCEPT_WAIT_MIN {
                    eprintln!("honed: an HTTP connection could not be accepted: {error}");
                }
                tokio::select! {
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(ACCEPT_WAIT_MAX),
                }
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // Past the bound the set is dropped, which cuts the rest; their rows close as disconnected.
    let _ = tokio::time::timeout(endpoint.limits.stop, all_ended).await;
}

/// Waits for a place first, so that what cannot be served stays in the backlog.
async fn next_connection<L: Listen>(
    listener: &L,
    places: &Arc<Semaphore>,
) -> io::Result<(L::Stream, Option<IpAddr>, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(|_| io::Error::other("the places of the endpoint are closed"))?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// Returns when the wish to stop is there.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is left who could wish anything: the same wish.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// HTTP/1 on one connection until it ends.
async fn serve_connection<D: Desk, S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: Option<IpAddr>,
    _place: OwnedSemaphorePermit,
    endpoint: Arc<Endpoint<D>>,
    stop: watch::Receiver<bool>,
) {
    let wire = Arc::new(Wire::default());
    let counted = TokioIo::new(Counted::new(stream, Arc::clone(&wire)));
    let limits = endpoint.limits;
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (endpoint, wire) = (Arc::clone(&endpoint), Arc::clone(&wire));
        async move { Ok::<_, Infallible>(serve(&endpoint, peer, wire, request.map(Body::new)).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(counted, service);
    let mut connection = pin!(connection);
    // An error here is the client's going away or its broken HTTP; there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// One request: the guards, then the routes, then the headers that every response has. What hyper itself refuses
/// (400 and 431 for broken HTTP) never comes here and has no body.
async fn serve<D: Desk>(
    endpoint: &Endpoint<D>,
    peer: Option<IpAddr>,
    wire: Arc<Wire>,
    mut request: Request<Body>,
) -> Response<Body> {
    let mut response = match guard(endpoint, peer, &mut request).await {
        Ok(()) => {
            request.extensions_mut().insert(wire);
            match endpoint.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Err(refusal) => {
            let is_anthropic = request.uri().path().starts_with("/v1/messages");
            drain(request).await;
            if is_anthropic { refusal.anthropic() } else { refusal }.into_response()
        }
    };
    let id = response.extensions_mut().remove::<RequestId>();
    let id = id.map_or_else(|| format!("http-{}", uuid::Uuid::now_v7().simple()), |RequestId(id)| id);
    if let Some(trouble) = response.extensions_mut().remove::<failure::Trouble>() {
        trouble.log(&id);
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    // A second less than the truth, so that a client does not write into a connection that closes.
    let idle_s = endpoint.limits.header.as_secs().saturating_sub(1).max(1);
    if let Ok(hint) = HeaderValue::try_from(format!("timeout={idle_s}")) {
        headers.insert(KEEP_ALIVE, hint);
    }
    response
}

/// The guards, before every route and before every 404.
async fn guard<D: Desk>(
    endpoint: &Endpoint<D>,
    peer: Option<IpAddr>,
    request: &mut Request<Body>,
) -> Result<(), Refusal> {
    auth::check_source(request, &endpoint.hosts)?;
    let open =
        |route: &Route| !route.key && route.method == request.method().as_str() && route.path == request.uri().path();
    if !ROUTES.iter().any(open) {
        match auth::caller(&endpoint.desk, request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(refusal) => {
                if refusal.status() == StatusCode::UNAUTHORIZED {
                    tokio::time::sleep(endpoint.wrong_keys.note(peer, Instant::now())).await;
                }
                return Err(refusal);
            }
        }
    }
    match (request.method(), request.uri().path()) {
        // A form with a file: it has its own bound, which it counts itself.
        (&Method::POST, "/v1/files") => Ok(()),
        (method, _) => auth::check_body(method, request.headers()),
    }
}

fn router<D: Desk>(room: Room<D>) -> Router {
    let mut paths: Vec<(&str, MethodRouter<Room<D>>, String)> = Vec::new();
    for route in ROUTES {
        let answers: MethodRouter<Room<D>> = match route.answer {
            Answer::Livez => get(livez),
            Answer::OpenApi => get(openapi::openapi),
            Answer::Models => get(models::list::<D>),
            Answer::Model => get(models::retrieve::<D>),
            Answer::Chat => post(chat::complete::<D>),
            Answer::Completions => post(completions::complete::<D>),
            Answer::Responses => post(responses::respond::<D>),
            Answer::Messages => post(messages::create::<D>),
            Answer::CountTokens => post(messages::count_tokens::<D>),
            Answer::Tokenize => post(tokens::tokenize::<D>),
            Answer::Detokenize => post(tokens::detokenize::<D>),
            Answer::TokenizerInfo => get(tokens::tokenizer_info::<D>),
            Answer::Embeddings => post(embeddings::embed::<D>),
            Answer::Usage => get(usage::usage::<D>),
            Answer::Metrics => get(usage::metrics::<D>),
            Answer::UploadFile => post(files::create::<D>),
            Answer::Files => get(files::list::<D>),
            Answer::File => get(files::retrieve::<D>),
            Answer::FileContent => get(files::content::<D>),
            Answer::DeleteFile => delete(files::delete::<D>),
            Answer::MakeBatch => post(batches::create::<D>),
            Answer::Batches => get(batches::list::<D>),
            Answer::Batch => get(batches::retrieve::<D>),
            Answer::CancelBatch => post(batches::cancel::<D>),
            Answer::Feedback => post(feedback::create::<D>),
        };
        let allow = if route.method == "GET" { "GET, HEAD" } else { route.method };
        // Methods of one path share one router, which says at a wrong method what there is.
        match paths.iter_mut().find(|(path, ..)| *path == route.path) {
            Some((_, known, allowed)) => {
                *known = std::mem::take(known).merge(answers);
                allowed.push_str(&format!(", {allow}"));
            }
            None => paths.push((route.path, answers, allow.to_owned())),
        }
    }
    let mut router = Router::new();
    for (path, answers, allow) in paths {
        router = router.route(path, answers.fallback(move |request| wrong_method(request, allow)));
    }
    router.fallback(unknown_route).with_state(room)
}

/// A response that is a JSON document.
fn json_response(json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Says that the daemon runs, and nothing else.
async fn livez() -> Response<Body> {
    let mut response = Response::new(Body::from("ok\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

async fn unknown_route(request: Request) -> Refusal {
    let refusal = Refusal::unknown_route(request.method().as_str(), request.uri().path());
    drain(request).await;
    refusal
}

async fn wrong_method(request: Request, allow: String) -> Refusal {
    let refusal = Refusal::wrong_method(request.method().as_str(), &allow);
    drain(request).await;
    refusal
}

/// Reads the body of a request, at most [`auth::BODY_BYTES_MAX`].
async fn read_body(request: Request, limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let mut body = request.into_body();
    let announced = body.size_hint().lower().min(auth::BODY_BYTES_MAX as u64);
    // What is announced is not believed beyond a buffer: memory follows the bytes that came.
    let mut bytes = Vec::with_capacity((announced as usize).min(BUFFER_BYTES_MAX));
    loop {
        let frame = match tokio::time::timeout(limits.body_idle, next_frame(&mut body)).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(Refusal::malformed("the body ended before its announced end")),
            Ok(None) => return Ok(bytes),
            Err(_) => {
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "request_timeout",
                    format!("no part of the body came for {} s", limits.body_idle.as_secs()),
                ));
            }
        };
        let Ok(data) = frame.into_data() else {
            // Trailers say nothing here.
            continue;
        };
        if bytes.len() + data.len() > auth::BODY_BYTES_MAX {
            drain_body(body).await;
            return Err(auth::too_large());
        }
        bytes.extend_from_slice(&data);
    }
}

async fn next_frame(body: &mut Body) -> Option<Result<http_body::Frame<axum::body::Bytes>, axum::Error>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// Reads away the body of a refused request. A client that waits to be told to go on has not sent it.
async fn drain(request: Request) {
    if !request.headers().contains_key(EXPECT) && request.method() != Method::CONNECT {
        drain_body(request.into_body()).await;
    }
}

async fn drain_body(mut body: Body) {
    let read = async {
        let mut bytes = 0;
        while bytes <= DRAIN_BYTES_MAX {
            match next_frame(&mut body).await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len()),
                Some(Err(_)) | None => break,
            }
        }
    };
    // Past the bound the connection ends, which may cost the client the sight of the answer.
    let _ = tokio::time::timeout(DRAIN, read).await;
}
