//! A connection that speaks frames, as `hone` itself does. Never here: a client of JSON lines (see the crate's root).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hone_protocol::failure::Failure;
use hone_protocol::hello::{Hello, Kind};
use hone_protocol::request::{Answer, Down, Request, Up};
use hone_protocol::{PROTOCOL, frame, wire};

use crate::PATIENCE;

/// What a client says first.
pub fn hello(protocol: u16) -> Vec<u8> {
    Hello { protocol, kind: Kind::Hello, fields: vec![("person".into(), "tester".into())] }.to_bytes()
}

/// A connection.
pub struct Frames {
    stream: UnixStream,
}

impl Frames {
    /// Connects to the daemon of a state directory and is welcomed.
    pub fn connect(state: &Path) -> Frames {
        let mut stream = UnixStream::connect(state.join("run/hone.sock")).expect("honed listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.write_all(&hello(PROTOCOL)).expect("honed reads");
        let mut header = [0; 14];
        stream.read_exact(&mut header).expect("a welcome");
        let mut fields = vec![0; usize::from(u16::from_le_bytes([header[12], header[13]]))];
        stream.read_exact(&mut fields).expect("a welcome");
        Frames { stream }
    }

    /// Sends a payload as a frame.
    pub fn send(&mut self, payload: &[u8]) {
        self.stream.write_all(&frame::frame(payload).expect("it fits a frame")).expect("honed reads");
    }

    /// The next answer, with the number of what it answers.
    pub fn answer(&mut self) -> (u64, Result<Answer, Failure>) {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).expect("an answer");
            let mut payload = vec![0; u32::from_le_bytes(length) as usize];
            self.stream.read_exact(&mut payload).expect("a whole answer");
            if let Down::Answer { id, answer } = wire::decode(&payload).expect("a message") {
                return (id, answer.map(|answer| *answer));
            }
        }
    }

    /// Asks.
    pub fn ask(&mut self, request: Request) -> Result<Answer, Failure> {
        self.send(&wire::encode(&Up::Ask { id: 1, once: None, request }));
        self.answer().1
    }
}
