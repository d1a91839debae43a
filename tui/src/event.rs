//! Everything that can happen to the client, as one closed list, and the threads that make it happen: one that reads
//! the terminal, one for each connection, one that writes to it. Never here: what an event means.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use crossterm::event::{self, KeyEvent, KeyEventKind, MouseEvent};
use hone_protocol::failure::Failure;
use hone_protocol::request::{Down, Up};

use crate::link::{Link, LinkWriter, Options};

/// Events that wait for the loop. When it is full the reading threads wait: the daemon then sees a full outbox and
/// mends it with a fresh snapshot, and the terminal keeps its keys.
pub(crate) const EVENTS_MAX: usize = 1024;
/// Messages that wait to be written to the daemon. When it is full the connection counts as lost.
pub(crate) const OUTBOX_MAX: usize = 256;

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse was clicked or its wheel turned.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
    /// The terminal is gone.
    NoTerminal,
    /// A connection to the daemon stands.
    Linked(Outbox),
    /// The daemon said something on the connection of this number.
    Down(u64, Box<Down>),
    /// No connection, or the one of this number ended.
    Unlinked(u64, Failure),
    /// A moment that was waited for has come.
    Tick,
}

/// Where messages to the daemon are put. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Number of the connection.
    pub(crate) number: u64,
    sender: SyncSender<Up>,
    closer: Option<LinkWriter>,
}

impl Outbox {
    /// Puts a message; false when the connection is lost or does not drain.
    pub(crate) fn put(&self, up: Up) -> bool {
        match self.sender.try_send(up) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// An outbox whose messages a test reads.
    #[cfg(test)]
    pub(crate) fn for_test() -> (Outbox, Receiver<Up>) {
        let (sender, receiver) = sync_channel(OUTBOX_MAX);
        (Outbox { number: 1, sender, closer: None }, receiver)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if let Some(writer) = &self.closer {
            writer.close();
        }
    }
}

/// Reads the terminal until it or the loop ends.
pub(crate) fn read_terminal(events: SyncSender<Event>) {
    thread::spawn(move || {
        loop {
            let event = match event::read() {
                Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
                Ok(event::Event::Mouse(mouse)) => Event::Mouse(mouse),
                Ok(event::Event::Paste(text)) => Event::Paste(text),
                Ok(event::Event::Resize(columns, rows)) => Event::Resize(columns, rows),
                Ok(_) => continue,
                Err(_) => Event::NoTerminal,
            };
            let last = matches!(event, Event::NoTerminal);
            if events.send(event).is_err() || last {
                return;
            }
        }
    });
}

/// Connects on a thread of its own and reads the connection until it ends.
pub(crate) fn connect(options: Options, number: u64, events: SyncSender<Event>) {
    thread::spawn(move || {
        let socket = options.socket().unwrap_or_default();
        let (mut reader, writer) = match Link::connect(&options) {
            Ok(link) => link.into_parts(),
            Err(failure) => {
                let _ = events.send(Event::Unlinked(number, failure));
                return;
            }
        };
        let (sender, receiver) = sync_channel(OUTBOX_MAX);
        let outbox = Outbox { number, sender, closer: Some(writer.clone()) };
        thread::spawn(move || write(&writer, &receiver));
        if events.send(Event::Linked(outbox)).is_err() {
            return;
        }
        loop {
            let event = match reader.read() {
                Ok(down) => Event::Down(number, Box::new(down)),
                Err(error) => Event::Unlinked(number, error.into_failure(&socket)),
            };
            let last = matches!(event, Event::Unlinked(..));
            if events.send(event).is_err() || last {
                return;
            }
        }
    });
}

fn write(writer: &LinkWriter, messages: &Receiver<Up>) {
    while let Ok(up) = messages.recv() {
        if writer.send(&up).is_err() {
            // The reader of the same connection sees the end and reports it.
            writer.close();
            return;
        }
    }
}
