//! The connection to the daemon: the hello, requests with their answers, and starting a daemon when nothing answers.
//! Blocking, on plain threads. Never here: what a request means, drawing, or a second attempt at a request.

mod door;
mod streams;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::frame::FrameError;
use hone_protocol::hello::{Hello, Kind};
use hone_protocol::request::{Answer, Down, Request, StreamPart, Up};
use hone_protocol::wire::{self, DecodeError};
use hone_protocol::{PROTOCOL, VERSION};
use interprocess::local_socket::prelude::*;
use rustix::io::Errno;

use crate::start;

pub use door::Options;
pub(crate) use door::make_private_folder;
use door::open;
use streams::HandshakeError;
pub use streams::{LinkReader, LinkWriter};

/// Longest wait for the daemon's first message. Beyond it the connection counts as lost.
pub const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the answer to a request without a stream (a plan or a rendered row loads a model first).
/// Beyond it the request fails with `worker_silent`; the connection stays usable, late answers are skipped.
pub const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The daemon closed it between two messages.
    #[error("the daemon closed the connection")]
    Closed,
    /// It ended inside a message.
    #[error("the connection was lost in the middle of a message, after {got} bytes of it")]
    Cut {
        /// Bytes of the message that had come.
        got: usize,
    },
    /// The set time passed without a message; the connection is still good.
    #[error("nothing came within the set time")]
    TimedOut,
    /// An impossible length.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A message that is none.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// The system said no.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl LinkError {
    /// As a failure, with where it happened.
    pub fn into_failure(self, place: &str) -> Failure {
        let (code, hint) = match self {
            LinkError::Closed | LinkError::Cut { .. } | LinkError::Io(_) => {
                (FailureCode::ServiceUnavailable, HintCode::StartDaemon)
            }
            LinkError::TimedOut => (FailureCode::WorkerSilent, HintCode::TryAgain),
            LinkError::Frame(_) | LinkError::Decode(_) => (FailureCode::BadFrame, HintCode::ReportBug),
        };
        Failure::new(code, self.to_string()).at(place).hint(hint)
    }
}

/// One connection that asks and is answered, one request at a time.
#[derive(Debug)]
pub struct Link {
    reader: LinkReader,
    writer: LinkWriter,
    socket: String,
    next_id: u64,
    /// Version of the daemon, as it said in its welcome.
    pub daemon_version: String,
}

impl Link {
    /// Connects, starting a daemon first when the options say so and nothing answers.
    pub fn connect(options: &Options) -> Result<Link, Failure> {
        match Link::connect_once(options)? {
            Some(link) => Ok(link),
            None if options.start_daemon => start::ensure_daemon(options),
            None => {
                let socket = options.socket()?;
                Err(Failure::new(FailureCode::ServiceUnavailable, "no daemon answers")
                    .at(socket)
                    .hint(HintCode::StartDaemon))
            }
        }
    }

    /// Connects if something answers; `None` when the socket is missing or nobody listens on it.
    pub fn connect_once(options: &Options) -> Result<Option<Link>, Failure> {
        let socket = options.socket()?;
        let Some(stream) = open(options, &socket)? else { return Ok(None) };
        let stream = Arc::new(stream);
        let fail = |error: LinkError| error.into_failure(&socket);
        let mut reader = LinkReader { stream: stream.clone(), buffer: Vec::new() };
        let writer = LinkWriter { stream };
        let mut fields = vec![("client".to_owned(), "hone".to_owned()), ("version".to_owned(), VERSION.to_owned())];
        if let Some(person) = &options.person {
            fields.push(("person".to_owned(), person.clone()));
        }
        if let Some(project) = &options.project {
            fields.push(("project".to_owned(), project.clone()));
        }
        let hello = Hello { protocol: PROTOCOL, kind: Kind::Hello, fields };
        // A daemon that is ending has its connections closed before it answers: then nothing answers.
        match writer.write(&hello.to_bytes()) {
            Err(LinkError::Closed) => return Ok(None),
            written => written.map_err(fail)?,
        }
        reader.set_timeout(Some(HELLO_WAIT)).map_err(fail)?;
        let welcome = match reader.hello() {
            Err(HandshakeError::Link(LinkError::Closed)) => return Ok(None),
            welcome => welcome.map_err(|e| e.into_failure(&socket))?,
        };
        reader.set_timeout(None).map_err(fail)?;
        judge(&welcome, &socket)?;
        let daemon_version = welcome.field("version").unwrap_or_default().to_owned();
        Ok(Some(Link { reader, writer, socket, next_id: 1, daemon_version }))
    }

    /// Asks and waits for the answer, at most [`ANSWER_WAIT`].
    pub fn ask(&mut self, request: Request) -> Result<Answer, Failure> {
        self.exchange(request, None, Some(ANSWER_WAIT), |_| Ok(()))
    }

    /// Asks under a key: the same key with the same request is answered the same for seven days.
    pub fn ask_once(&mut self, request: Request, once_key: &str) -> Result<Answer, Failure> {
        self.exchange(request, Some(once_key.to_owned()), Some(ANSWER_WAIT), |_| Ok(()))
    }

    /// Asks for something that comes in parts. Waits without a bound: a followed job may be silent for hours.
    /// The daemon's end, or the person's Ctrl-C, ends it.
    pub fn ask_streaming(&mut self, request: Request, mut part: impl FnMut(StreamPart)) -> Result<Answer, Failure> {
        self.ask_streaming_while(request, |piece| {
            part(piece);
            Ok(())
        })
    }

    /// As [`Link::ask_streaming`]; an error from `part` tells the daemon to stop the stream, and is returned.
    pub fn ask_streaming_while<E: From<Failure>>(
        &mut self,
        request: Request,
        part: impl FnMut(StreamPart) -> Result<(), E>,
    ) -> Result<Answer, E> {
        self.exchange(request, None, None, part)
    }

    /// The two directions apart, for a client that reads on one thread and writes on another.
    pub fn into_parts(self) -> (LinkReader, LinkWriter) {
        (self.reader, self.writer)
    }

    fn exchange<E: From<Failure>>(
        &mut self,
        request: Request,
        once: Option<String>,
        wait: Option<Duration>,
        mut on_part: impl FnMut(StreamPart) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let id = self.next_id;
        self.next_id += 1;
        let socket = self.socket.clone();
        let fail = |error: LinkError| error.into_failure(&socket);
        self.writer.send(&Up::Ask { id, once, request }).map_err(fail)?;
        self.reader.set_timeout(wait).map_err(fail)?;
        loop {
            match self.reader.read().map_err(fail)? {
                Down::Answer { id: answered, answer } if answered == id => return Ok(answer.map(|a| *a)?),
                Down::Part { id: answered, part } if answered == id => {
                    if let Err(error) = on_part(part) {
                        self.writer.send(&Up::Stop { id }).map_err(fail)?;
                        return Err(error);
                    }
                }
                // Late answers to requests that were given up, and events of an earlier `watch`.
                Down::Answer { .. } | Down::Part { .. } | Down::Snapshot(_) | Down::Event(_) => {}
            }
        }
    }
}

/// What the daemon's first message means for us.
fn judge(welcome: &Hello, socket: &str) -> Result<(), Failure> {
    let version = welcome.field("version").unwrap_or("of an unknown version");
    match welcome.kind {
        Kind::Welcome if welcome.protocol == PROTOCOL => Ok(()),
        Kind::Welcome | Kind::Mismatch => {
            let theirs = welcome.protocol;
            let act = if theirs > PROTOCOL {
                "hone is the older side: upgrade hone"
            } else {
                "the running daemon is the older side: upgrade it, then `hone daemon stop` and `hone daemon start`"
            };
            let message =
                format!("hone {VERSION} speaks protocol {PROTOCOL}, honed {version} speaks protocol {theirs}; {act}");
            Err(Failure::new(FailureCode::VersionMismatch, message)
                .at(socket)
                .arg("ours", PROTOCOL)
                .arg("theirs", theirs)
                .hint(HintCode::Upgrade))
        }
        Kind::Refused => {
            let say = welcome.field("say").unwrap_or("it did not say why");
            Err(Failure::new(FailureCode::Forbidden, format!("the daemon refused the connection: {say}")).at(socket))
        }
        Kind::Hello => Err(Failure::new(
            FailureCode::VersionMismatch,
            "the peer sent a hello where an answer was due; it is not a daemon",
        )
        .at(socket)),
    }
}

/// Asks a daemon of any protocol number to end, by the JSON line that every version understands.
/// Returns whether one was there.
pub fn shut_down_by_line(options: &Options) -> Result<bool, Failure> {
    let socket = options.socket()?;
    let Some(stream) = open(options, &socket)? else { return Ok(false) };
    let line = wire::encode_line(&Up::Ask { id: 1, once: None, request: Request::Shutdown });
    let fail = |e: io::Error| LinkError::Io(e).into_failure(&socket);
    (&stream).write_all(line.as_bytes()).map_err(fail)?;
    stream.set_recv_timeout(Some(HELLO_WAIT)).map_err(fail)?;
    let mut answer = [0; 4096];
    match (&stream).read(&mut answer) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => Ok(true),
        Err(error) => Err(fail(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread::JoinHandle;

    use hone_protocol::event::{Change, Event, Machine};
    use hone_protocol::frame::{self, FRAME_BYTES_MAX};
    use hone_protocol::hello::HEADER_BYTES;
    use hone_protocol::paths;

    /// A daemon with one connection and a script, on a real socket.
    struct FakeDaemon {
        folder: tempfile::TempDir,
        thread: Option<JoinHandle<()>>,
    }

    impl FakeDaemon {
        fn start(script: impl FnOnce(UnixStream) + Send + 'static) -> FakeDaemon {
            let folder = tempfile::tempdir().unwrap();
            let state = folder.path().to_str().unwrap();
            make_private_folder(&format!("{state}/run")).unwrap();
            let listener = UnixListener::bind(paths::socket(state)).unwrap();
            let thread = std::thread::spawn(move || script(listener.accept().unwrap().0));
            FakeDaemon { folder, thread: Some(thread) }
        }

        /// Reads the hello, answers it, and goes on with the script.
        fn welcoming(script: impl FnOnce(&mut UnixStream) + Send + 'static) -> FakeDaemon {
            FakeDaemon::start(|mut stream| {
                let hello = read_hello(&mut stream);
                assert_eq!((hello.protocol, hello.kind), (PROTOCOL, Kind::Hello));
                assert_eq!(hello.field("person"), Some("ada"));
                answer_hello(&mut stream, PROTOCOL, Kind::Welcome, "");
                script(&mut stream);
            })
        }

        fn options(&self) -> Options {
            let state_dir = self.folder.path().to_str().unwrap().to_owned();
            Options { state_dir, person: Some("ada".into()), start_daemon: false, shared: None, project: None }
        }
    }

    impl Drop for FakeDaemon {
        fn drop(&mut self) {
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn read_hello(stream: &mut UnixStream) -> Hello {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).unwrap();
        let (hello, length) = Hello::from_header(&header).unwrap();
        let mut text = vec![0; length];
        stream.read_exact(&mut text).unwrap();
        hello.with_text(&text).unwrap()
    }

    fn answer_hello(stream: &mut UnixStream, protocol: u16, kind: Kind, say: &str) {
        let fields = vec![("version".to_owned(), "9.8.7".to_owned()), ("say".to_owned(), say.to_owned())];
        stream.write_all(&Hello { protocol, kind, fields }.to_bytes()).unwrap();
    }

    fn read_up(stream: &mut UnixStream) -> Up {
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut payload = vec![0; frame::length(header).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        wire::decode(&payload).unwrap()
    }

    fn send(stream: &mut UnixStream, down: &Down) {
        stream.write_all(&frame::frame(&wire::encode(down)).unwrap()).unwrap();
    }

    fn done(id: u64) -> Down {
        Down::Answer { id, answer: Ok(Box::new(Answer::Done)) }
    }

    #[test]
    fn asks_are_answered_and_what_belongs_to_nobody_is_skipped() {
        let daemon = FakeDaemon::welcoming(|stream| {
            assert_eq!(read_up(stream), Up::Ask { id: 1, once: None, request: Request::Status });
            let machine = Change::Machine(Machine::default());
            send(stream, &Down::Event(Box::new(Event { epoch: 1, seq: 1, change: machine })));
            send(stream, &done(99));
            send(stream, &done(1));
            let once = Some("k".to_owned());
            assert_eq!(read_up(stream), Up::Ask { id: 2, once, request: Request::Shutdown });
            send(stream, &Down::Answer { id: 2, answer: Err(Failure::not_found("model", "x")) });
        });
        let mut link = Link::connect(&daemon.options()).unwrap();
        assert_eq!(link.daemon_version, "9.8.7");
        assert_eq!(link.ask(Request::Status).unwrap(), Answer::Done);
        assert_eq!(link.ask_once(Request::Shutdown, "k").unwrap_err(), Failure::not_found("model", "x"));
    }

    #[test]
    fn parts_come_before_the_answer_and_an_error_stops_the_stream() {
        let text = |n: u64| StreamPart::Text { text: "é".into(), tokens: n };
        let daemon = FakeDaemon::welcoming(move |stream| {
            for id in [1, 2] {
                read_up(stream);
                send(stream, &Down::Part { id, part: text(1) });
                if id == 1 {
                    send(stream, &Down::Part { id, part: text(2) });
                    send(stream, &done(id));
                }
            }
            assert_eq!(read_up(stream), Up::Stop { id: 2 });
        });
        let mut link = Link::connect(&daemon.options()).unwrap();
        let mut got = Vec::new();
        assert_eq!(link.ask_streaming(Request::Watch, |part| got.push(part)).unwrap(), Answer::Done);
        assert_eq!(got, [text(1), text(2)]);
        let stopped = Failure::new(FailureCode::Interrupted, "enough");
        let result: Result<Answer, Failure> = link.ask_streaming_while(Request::Watch, |_| Err(stopped.clone()));
        assert_eq!(result.unwrap_err(), stopped);
    }

    #[test]
    fn a_mismatch_says_which_side_to_upgrade() {
        for (theirs, kind, words) in [
            (PROTOCOL + 1, Kind::Mismatch, "upgrade hone"),
            (PROTOCOL - 1, Kind::Mismatch, "the running daemon is the older side"),
            (PROTOCOL + 1, Kind::Welcome, "upgrade hone"),
        ] {
            let daemon = FakeDaemon::start(move |mut stream| {
                read_hello(&mut stream);
                answer_hello(&mut stream, theirs, kind, "");
            });
            let failure = Link::connect(&daemon.options()).unwrap_err();
            assert_eq!(failure.code, FailureCode::VersionMismatch);
            assert!(failure.message_en.contains(words), "{}", failure.message_en);
            assert!(failure.message_en.contains("honed 9.8.7"), "{}", failure.message_en);
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let daemon = FakeDaemon::start(|mut stream| {
            read_hello(&mut stream);
            answer_hello(&mut stream, PROTOCOL, Kind::Refused, "user 12 is not allowed here");
        });
        let failure = Link::connect(&daemon.options()).unwrap_err();
        assert_eq!(failure.code, FailureCode::Forbidden);
        assert!(failure.message_en.ends_with("user 12 is not allowed here"));
    }

    #[test]
    fn a_daemon_that_is_ending_does_not_answer() {
        let daemon = FakeDaemon::start(drop);
        assert!(Link::connect_once(&daemon.options()).unwrap().is_none());
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_named_so() {
        let daemon = FakeDaemon::start(|mut stream| {
            read_hello(&mut stream);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let failure = Link::connect(&daemon.options()).unwrap_err();
        assert!(failure.message_en.contains("does not speak hone's protocol"), "{}", failure.message_en);
    }

    /// What `ask` makes of some bytes that come where an answer is due.
    fn answered_with(bytes: &'static [u8]) -> Failure {
        let daemon = FakeDaemon::welcoming(move |stream| {
            read_up(stream);
            stream.write_all(bytes).unwrap();
        });
        Link::connect(&daemon.options()).unwrap().ask(Request::Status).unwrap_err()
    }

    #[test]
    fn broken_streams_are_told_apart() {
        let too_long = answered_with(&[0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(too_long.code, FailureCode::BadFrame);
        assert!(too_long.message_en.contains(&FRAME_BYTES_MAX.to_string()), "{}", too_long.message_en);
        let empty = answered_with(&[0, 0, 0, 0]);
        assert_eq!(empty.code, FailureCode::BadFrame);
        let cut = answered_with(&[100, 0, 0, 0, 1, 2, 3]);
        assert_eq!(cut.code, FailureCode::ServiceUnavailable);
        assert!(cut.message_en.contains("in the middle of a message, after 7 bytes"), "{}", cut.message_en);
        let closed = answered_with(&[]);
        assert!(closed.message_en.contains("closed the connection"), "{}", closed.message_en);
        let nonsense = answered_with(&[3, 0, 0, 0, 250, 250, 250]);
        assert_eq!(nonsense.code, FailureCode::BadFrame);
    }

    #[test]
    fn a_time_limit_leaves_the_connection_usable() {
        let (gate, opened) = std::sync::mpsc::channel();
        let daemon = FakeDaemon::welcoming(move |stream| {
            let bytes = frame::frame(&wire::encode(&done(1))).unwrap();
            stream.write_all(&bytes[..3]).unwrap();
            opened.recv().unwrap();
            stream.write_all(&bytes[3..]).unwrap();
        });
        let (mut reader, writer) = Link::connect(&daemon.options()).unwrap().into_parts();
        reader.set_timeout(Some(Duration::from_millis(5))).unwrap();
        assert!(matches!(reader.read(), Err(LinkError::TimedOut)));
        gate.send(()).unwrap();
        reader.set_timeout(None).unwrap();
        assert_eq!(reader.read().unwrap(), done(1));
        writer.close();
        assert!(matches!(reader.read(), Err(LinkError::Closed)));
    }

    #[test]
    fn a_path_that_is_too_long_names_the_variable() {
        let state_dir = format!("/{}", "x".repeat(120));
        let options = Options { state_dir, person: None, start_daemon: true, shared: None, project: None };
        let failure = Link::connect(&options).unwrap_err();
        assert_eq!(failure.hint, Some(HintCode::MoveState));
        assert!(failure.message_en.contains("HONE_STATE") && failure.message_en.contains("107"), "{failure}");
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused_and_no_daemon_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_str().unwrap().to_owned();
        let options =
            Options { state_dir: state.clone(), person: None, start_daemon: false, shared: None, project: None };
        assert!(Link::connect_once(&options).unwrap().is_none(), "no folder");
        let run = format!("{state}/run");
        make_private_folder(&run).unwrap();
        assert!(Link::connect_once(&options).unwrap().is_none(), "no socket");
        drop(UnixListener::bind(paths::socket(&state)).unwrap());
        assert!(Link::connect_once(&options).unwrap().is_none(), "a socket that a killed daemon left");
        let failure = Link::connect(&options).unwrap_err();
        assert_eq!((failure.code, failure.hint), (FailureCode::ServiceUnavailable, Some(HintCode::StartDaemon)));
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        let failure = Link::connect_once(&options).unwrap_err();
        assert_eq!(failure.code, FailureCode::Forbidden);
        assert!(failure.message_en.contains("0755"), "{failure}");
    }

    #[test]
    fn another_version_can_be_stopped_by_a_line() {
        let daemon = FakeDaemon::start(|mut stream| {
            let mut line = [0; 256];
            let got = stream.read(&mut line).unwrap();
            let up: Up = wire::decode_line(std::str::from_utf8(&line[..got]).unwrap()).unwrap();
            assert_eq!(up, Up::Ask { id: 1, once: None, request: Request::Shutdown });
            stream.write_all(wire::encode_line(&done(1)).as_bytes()).unwrap();
        });
        assert!(shut_down_by_line(&daemon.options()).unwrap());
    }
}
