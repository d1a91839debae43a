//! A terminal for the client: a real pseudo-terminal, and an emulator that reads what is drawn on it.

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::{PATIENCE, programs, wait_until};

/// A client in a terminal.
pub struct Terminal {
    screen: Arc<Mutex<(vt100::Parser, u64)>>,
    written: Arc<Mutex<Vec<u8>>>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Runs `hone` on the daemon of a state directory.
    pub fn open(state: &Path, language: &str, columns: u16, rows: u16) -> Terminal {
        Terminal::open_at(state, language, (columns, rows), &[])
    }

    /// The same with arguments.
    pub fn open_at(state: &Path, language: &str, (columns, rows): (u16, u16), arguments: &[&str]) -> Terminal {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let mut command = CommandBuilder::new(programs().join("hone"));
        command.args(["--lang", language]);
        command.args(arguments);
        command.env_clear();
        command.env("HONE_STATE", state);
        command.env("HOME", state);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env("PATH", std::env::var("PATH").unwrap_or_default());
        let child = pair.slave.spawn_command(command).expect("hone starts");
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().expect("a reader");
        let keys = pair.master.take_writer().expect("a writer");
        let sides = NonZero::new(rows).zip(NonZero::new(columns)).expect("a terminal has rows and columns");
        let screen = Arc::new(Mutex::new((vt100::Parser::new(sides.0, sides.1, 0), 0)));
        let reading = screen.clone();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writing = written.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut screen = reading.lock().unwrap_or_else(PoisonError::into_inner);
                screen.0.process(&bytes[..count]);
                screen.1 += count as u64;
                writing.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { screen, written, keys, child, _master: pair.master }
    }

    /// Texts that were put into the clipboard (OSC 52), in order.
    pub fn copied(&self) -> Vec<String> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&written);
        let ends = ['\x07', '\x1b'];
        let whole = text.split("\x1b]52;c;").skip(1).filter_map(|rest| rest.split_once(ends));
        whole.map(|(coded, _)| String::from_utf8_lossy(&from_base64(coded)).into_owned()).collect()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("hone reads its terminal");
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).0.screen().contents()
    }

    /// Whether the client asked for clicks.
    pub fn has_mouse(&self) -> bool {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.0.screen().mouse_protocol_mode() != vt100::MouseProtocolMode::None
    }

    /// Bytes that were written so far.
    pub fn bytes(&self) -> u64 {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Waits until a text stands on the screen; one that never does fails with what stood there.
    pub fn wait_for(&self, text: &str) {
        let start = Instant::now();
        wait_until(&format!("{text:?} on the screen"), || {
            let seen = self.text();
            assert!(start.elapsed() < PATIENCE, "{text:?} is not on the screen:\n{seen}");
            seen.contains(text).then_some(())
        });
    }

    /// Kills the client: it cannot say or save anything any more.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        let _ = self.child.wait();
    }

    /// Whether the client has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

/// The bytes of a base64 text (RFC 4648, standard alphabet).
fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        held = (held << 6 | u32::from(six)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
