//! What is typed beside a row: a note, the reason of a flag, a better text. Never here: what keys say of a row.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hone_protocol::labelling::{How, LabelValue};

use super::Labelling;
use super::answers::Draft;
use crate::keymap::plain;
use crate::screens::Desk;
use crate::widgets::composer::{Composer, Typed};
use crate::widgets::line::TypedLine;

/// What is being typed beside a row.
pub(super) enum Typing {
    Note(TypedLine),
    Flag(TypedLine),
    Text(Box<Composer>),
}

impl Labelling {
    pub(super) fn typing_key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        let Some(typing) = &mut self.typing else { return };
        match typing {
            Typing::Note(line) => match key.code {
                KeyCode::Enter => {
                    let note = line.text().trim().to_owned();
                    if let Some(current) = self.work.as_mut().and_then(|work| work.current.as_mut()) {
                        current.note = note;
                    }
                    self.typing = None;
                }
                KeyCode::Esc => self.typing = None,
                _ => drop(line.key(key)),
            },
            Typing::Flag(line) => {
                let reasons = ["flag.unclear", "flag.harmful", "flag.broken", "flag.other_language"];
                let digit = match key.code {
                    KeyCode::Char(c) if line.is_empty() => {
                        plain(c).to_digit(10).and_then(|digit| reasons.get((digit as usize).checked_sub(1)?))
                    }
                    _ => None,
                };
                let reason = match (digit, key.code) {
                    (Some(reason), _) => Some(desk.view.t(reason).to_owned()),
                    (None, KeyCode::Enter) => Some(line.text().trim().to_owned())
                        .map(|text| if text.is_empty() { desk.view.t("flag.unclear").to_owned() } else { text }),
                    (None, KeyCode::Esc) => {
                        self.typing = None;
                        return;
                    }
                    _ => {
                        line.key(key);
                        None
                    }
                };
                if let Some(reason) = reason {
                    self.typing = None;
                    if let Some(work) = self.work.as_mut().filter(|work| work.shown().is_some()) {
                        work.decide(LabelValue::Skip, How::Own, &reason, desk);
                    }
                }
            }
            Typing::Text(composer) => {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('s') if control => {
                        let text = composer.text();
                        self.typing = None;
                        if let Some(work) = self.work.as_mut().filter(|_| !text.trim().is_empty()) {
                            work.decide(LabelValue::Text(text), How::Own, "", desk);
                        }
                    }
                    KeyCode::Esc => {
                        let text = composer.text();
                        self.typing = None;
                        if let Some(current) = self.work.as_mut().and_then(|work| work.current.as_mut()) {
                            current.draft = Draft::Edit(text);
                        }
                    }
                    // Enter makes a line here; the answer has several.
                    KeyCode::Enter => drop(composer.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT))),
                    _ => {
                        if composer.key(key) == Typed::Send {
                            self.typing = None;
                        }
                    }
                }
            }
        }
    }
}
