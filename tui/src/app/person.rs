//! The person's side of the client: keys, pastes and actions, in the order in which they are understood. Never here:
//! what a screen does with an action.

use crossterm::event::KeyEvent;
use hone_protocol::catalogue::{fill, text};
use hone_protocol::request::Request;

use super::{App, Effect, INTERRUPT_MS, Toast, view};
#[cfg(test)]
use crate::action::Area;
use crate::action::{Action, Offer};
use crate::keymap::{self, Context};
use crate::layers::Layer;
use crate::screens::{Place, Tone, Wish};
use crate::widgets::line::TypedLine;
use crate::widgets::text::one_line;

impl App {
    /// What keys mean now.
    pub(crate) fn context(&self) -> Context {
        match self.layers.last() {
            Some(Layer::Question(_)) => Context::Decide,
            Some(Layer::Help { .. } | Layer::Palette { .. }) => Context::Field,
            Some(_) => Context::Browse,
            None => self.screens[self.area as usize].context(),
        }
    }

    /// The actions of the shown screen.
    pub(crate) fn offers(&mut self) -> Vec<Offer> {
        let away = self.is_away();
        let view = view(&self.mirror, &self.settings, self.now_ms, self.class, away);
        self.screens[self.area as usize].offers(&view)
    }

    /// Lets a screen do an action without the shell's own meaning of its key.
    #[cfg(test)]
    pub(crate) fn with_screen_for_test(&mut self, area: Area, action: Action) {
        self.with_screen(area, |screen, desk| screen.act(action, desk));
    }

    pub(super) fn key(&mut self, key: KeyEvent) {
        // A serious message stays until a key.
        if self.toast.as_ref().is_some_and(|t| t.tone == Tone::Error) {
            self.toast = None;
        }
        let interrupt = keymap::action(Context::Field, key) == Some(Action::Interrupt);
        if !self.layers.is_empty() {
            if interrupt {
                self.layers.pop();
                return;
            }
            return self.layer_key(key);
        }
        let context = self.context();
        if context == Context::Browse {
            let digit = keymap::written(key).chars().next().filter(char::is_ascii_digit);
            if digit.is_some() && self.screens[self.area as usize].takes_digits() {
                return self.with_screen(self.area, |screen, desk| screen.key(key, desk));
            }
            if keymap::written(key) == "g" {
                self.layers.push(Layer::Areas);
                return;
            }
        }
        if self.screens[self.area as usize].takes(key) {
            return self.with_screen(self.area, |screen, desk| screen.key(key, desk));
        }
        match keymap::action(context, key) {
            Some(action) => {
                self.act(action);
            }
            None => self.with_screen(self.area, |screen, desk| screen.key(key, desk)),
        }
    }

    pub(super) fn layer_key(&mut self, key: KeyEvent) {
        let away = self.is_away();
        let view = view(&self.mirror, &self.settings, self.now_ms, self.class, away);
        let Some(layer) = self.layers.last_mut() else { return };
        let reply = layer.key(key, &view);
        if reply.close {
            self.layers.pop();
        }
        for wish in reply.wishes {
            self.fulfil(self.area, wish);
        }
    }

    pub(super) fn paste(&mut self, pasted: &str) {
        if let Some(layer) = self.layers.last_mut() {
            return layer.paste(pasted);
        }
        if self.with_screen(self.area, |screen, desk| screen.paste(pasted, desk)) {
            return;
        }
        // Never taken as keys: a path is offered for import, anything else is named and dropped.
        let path = pasted.trim().trim_matches(['\'', '"']).to_owned();
        let place = match path.rsplit('.').next() {
            Some("gguf") => Some(Place::ImportModel(path.clone())),
            Some("jsonl" | "json") => Some(Place::ImportDataset(path.clone())),
            _ => None,
        };
        let view = self.view();
        match place.filter(|_| !path.contains('\n')) {
            Some(place) => {
                let title = view.t("paste.import").to_owned();
                self.layers.push(Layer::ask(title, vec![one_line(&path)], "ask.import", vec![Wish::Open(place)]));
            }
            None => {
                let said = view.fill("paste.ignored", &[("n", &pasted.chars().count().to_string())]);
                self.say(Tone::Info, said);
            }
        }
    }

    /// Does an action; false when it means nothing here.
    pub(crate) fn act(&mut self, action: Action) -> bool {
        if self.is_away() && action == Action::Run {
            self.retry();
            return true;
        }
        if self.only.is_some() && matches!(action, Action::Palette | Action::Jobs | Action::Suspend) {
            // Whoever came to label one project finds nothing else, and has no shell to go back to.
            return true;
        }
        match action {
            Action::Go(area) => self.go(area),
            // Where something is labelled the guide comes first; it says the keys as well.
            Action::Help if self.with_screen(self.area, |screen, desk| screen.act(Action::Help, desk)) => {}
            Action::Help => {
                let offers = self.offers();
                let help = Layer::Help { area: self.area, offers, filter: TypedLine::default(), at: 0 };
                self.layers.push(help);
            }
            Action::Palette => {
                let offers = self.offers();
                self.layers.push(Layer::Palette { offers, line: TypedLine::default(), at: 0 });
            }
            Action::Menu => {
                let offers = self.offers();
                if offers.is_empty() {
                    let said = fill(self.settings.language, "key.not_here", &[("key", "x")]);
                    self.say(Tone::Info, said);
                } else {
                    self.layers.push(Layer::Menu { offers, at: 0 });
                }
            }
            Action::Jobs => self.layers.push(Layer::Jobs { at: 0 }),
            Action::Mouse => self.hand_over_mouse(),
            Action::Repaint => self.effects.push(Effect::Repaint),
            Action::Suspend => self.effects.push(Effect::Suspend),
            Action::Refresh => {
                for screen in &mut self.screens {
                    screen.forget();
                }
                self.send(Request::Watch);
            }
            Action::Zoom => self.zoomed = !self.zoomed,
            Action::Back => self.travel(true),
            Action::Forward => self.travel(false),
            Action::Interrupt => self.interrupt(),
            Action::Quit => {
                if !self.with_screen(self.area, |screen, desk| screen.act(Action::Out, desk)) {
                    self.effects.push(Effect::Leave);
                }
            }
            _ => {
                if self.zoomed && action == Action::Out {
                    self.zoomed = false;
                    return true;
                }
                let done = self.with_screen(self.area, |screen, desk| screen.act(action, desk));
                if !done && !is_movement(action) {
                    let key = keymap::keys(action).into_iter().next().unwrap_or_default();
                    let said = fill(self.settings.language, "key.not_here", &[("key", &key)]);
                    self.say(Tone::Info, said);
                }
                return done;
            }
        }
        true
    }

    fn travel(&mut self, back: bool) {
        if self.only.is_some() {
            return;
        }
        let (from, to) = if back { (&mut self.back, &mut self.forward) } else { (&mut self.forward, &mut self.back) };
        if let Some(area) = from.pop() {
            to.push(self.area);
            self.area = area;
        }
    }

    fn interrupt(&mut self) {
        if self.with_screen(self.area, |screen, desk| screen.interrupt(desk)) {
            return;
        }
        if self.interrupt_until_ms.take().is_some() {
            self.effects.push(Effect::Leave);
            return;
        }
        self.interrupt_until_ms = Some(self.now_ms + INTERRUPT_MS);
        let said = text(self.settings.language, "key.interrupt_again").to_owned();
        self.toast = Some(Toast { tone: Tone::Info, text: said, until_ms: self.now_ms + INTERRUPT_MS });
    }
}

fn is_movement(action: Action) -> bool {
    matches!(
        action,
        Action::Up
            | Action::Down
            | Action::Left
            | Action::Right
            | Action::PageUp
            | Action::PageDown
            | Action::First
            | Action::Last
            | Action::Out
            | Action::Enter
            | Action::NextPane
            | Action::PreviousPane
    )
}
