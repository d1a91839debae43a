//! The daemon's side of the client: what it said, what was asked of it, and what happens when it does not answer.
//! Never here: keys, or anything that is drawn.

use std::collections::HashSet;

use hone_protocol::catalogue::text;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::request::{Answer, Down, Request, Up};

use super::{App, Effect, LinkState};
use crate::action::Area;
use crate::mirror::Applied;
use crate::screens::{Errand, Tone};

/// Waits before the next try to reach the daemon, in milliseconds; the last one repeats.
const RETRY_MS: [i64; 5] = [1_000, 2_000, 4_000, 8_000, 15_000];
/// How long after the daemon could not take a wish it is sent again.
const RESEND_MS: i64 = 2_000;

impl App {
    pub(super) fn retry(&mut self) {
        if let LinkState::Away { retry_at_ms, .. } = &mut self.link
            && retry_at_ms.take().is_some()
        {
            self.connection += 1;
            self.effects.push(Effect::Connect(self.connection));
        }
    }

    pub(super) fn lost(&mut self, failure: Failure) {
        self.outbox = None;
        self.asks.clear();
        self.latest.clear();
        self.sent.clear();
        self.resend_at_ms = None;
        for screen in &mut self.screens {
            screen.forget();
        }
        let (since_ms, tries) = match &self.link {
            LinkState::Away { since_ms, tries, .. } => (*since_ms, tries + 1),
            _ => (self.now_ms, 0),
        };
        let wait = RETRY_MS[tries.min(RETRY_MS.len() - 1)];
        self.link = LinkState::Away { since_ms, failure, tries, retry_at_ms: Some(self.now_ms + wait) };
    }

    pub(super) fn send(&mut self, request: Request) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let sent = self.outbox.as_ref()?.put(Up::Ask { id, once: None, request });
        if !sent {
            self.lost(Failure::new(FailureCode::ServiceUnavailable, "the daemon does not read what it is sent"));
            return None;
        }
        Some(id)
    }

    /// Sends a wish of the journal; without a link it waits for one.
    pub(super) fn send_once(&mut self, once: String, request: Request) {
        let id = self.next_id;
        self.next_id += 1;
        let Some(outbox) = &self.outbox else { return };
        if outbox.put(Up::Ask { id, once: Some(once.clone()), request }) {
            self.sent.insert(id, once);
        } else {
            self.lost(Failure::new(FailureCode::ServiceUnavailable, "the daemon does not read what it is sent"));
        }
    }

    /// Sends all that waits and is not under way, in the order in which it was wished.
    pub(super) fn send_waiting(&mut self) {
        self.resend_at_ms = None;
        let under_way: HashSet<&String> = self.sent.values().collect();
        let waiting = self.journal.waiting().filter(|waiting| !under_way.contains(&waiting.once));
        let waiting: Vec<(String, Request)> =
            waiting.map(|waiting| (waiting.once.clone(), waiting.request.clone())).collect();
        for (once, request) in waiting {
            self.send_once(once, request);
        }
    }

    /// Takes the answer to a wish of the journal.
    fn kept(&mut self, once: &str, answer: Result<Answer, Failure>) {
        if let Err(failure) = &answer
            && failure.code.is_transient()
        {
            // It stays in the journal, and is sent again soon, or with the next connection.
            let line = self.view().failure(failure);
            self.say(Tone::Error, line);
            self.resend_at_ms.get_or_insert(self.now_ms + RESEND_MS);
            return;
        }
        self.journal.done(once);
        match self.makers.remove(once) {
            Some((area, errand)) => self.with_screen(area, |screen, desk| screen.answer(errand, answer, desk)),
            // A client that is gone wished it.
            None => {
                if let Err(failure) = answer {
                    let line = self.view().failure(&failure);
                    self.say(Tone::Error, line);
                }
            }
        }
    }

    pub(super) fn down(&mut self, down: Down) {
        match down {
            Down::Snapshot(snapshot) => {
                let was_away = self.is_away();
                self.mirror.replace(*snapshot);
                self.link = LinkState::Online;
                if was_away {
                    self.say(Tone::Info, text(self.settings.language, "link.back").to_owned());
                }
            }
            Down::Event(event) => {
                if self.mirror.apply(*event) == Applied::Gap {
                    self.send(Request::Watch);
                }
            }
            Down::Part { id, part } => {
                let Some((area, errand)) = self.asks.get(&id).copied() else { return };
                if self.latest.get(&(area, errand)) == Some(&id) {
                    self.screens[area as usize].part(errand, part);
                }
            }
            Down::Answer { id, answer } => {
                if let Some(once) = self.sent.remove(&id) {
                    return self.kept(&once, answer.map(|a| *a));
                }
                let Some((area, errand)) = self.asks.remove(&id) else { return };
                let is_latest = self.latest.get(&(area, errand)) == Some(&id);
                match errand {
                    Errand::Act(_) => {}
                    _ if !is_latest => return,
                    _ => {
                        self.latest.remove(&(area, errand));
                    }
                }
                self.answered(area, errand, answer.map(|a| *a));
            }
        }
    }

    fn answered(&mut self, area: Area, errand: Errand, answer: Result<Answer, Failure>) {
        if let Errand::Act(deed) = errand {
            match &answer {
                Ok(_) => self.say(Tone::Info, text(self.settings.language, deed.done()).to_owned()),
                Err(failure) => {
                    let view = self.view();
                    let mut line = view.failure(failure);
                    if let Some(hint) = view.hint(failure) {
                        line = format!("{line} - {hint}");
                    }
                    self.say(Tone::Error, line);
                }
            }
        }
        self.with_screen(area, |screen, desk| screen.answer(errand, answer, desk));
    }
}
