//! The daemon's side of the client: what it said, what was asked of it, and what happens when it does not answer.
//! Never here: keys, or anything that is drawn.

use hone_protocol::catalogue::text;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::request::{Answer, Down, Request, Up};

use super::{App, Effect, LinkState};
use crate::action::Area;
use crate::mirror::Applied;
use crate::screens::{Errand, Tone};

/// Waits before the next try to reach the daemon, in milliseconds; the last one repeats.
const RETRY_MS: [i64; 5] = [1_000, 2_000, 4_000, 8_000, 15_000];

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
