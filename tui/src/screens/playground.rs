//! Playground: settings at the left, each with its explanation, and a talk with a service at the right that streams.
//! Never here: what a model answers, or a fact about the service.

mod talk;

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::Failure;
use hone_protocol::form::FieldKind;
use hone_protocol::request::{Answer, ChatEnd, Request, StreamPart};
use hone_protocol::service::ServiceState;
use hone_protocol::worker::Sampling;
use ratatui::layout::Rect;

use super::tables::{chat_names, service_state};
use super::{Class, Desk, Errand, Place, Screen, View, Wish};
use crate::action::{Action, Offer, offer};
use crate::keymap::Context;
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::composer::{Composer, Typed};
use crate::widgets::form::{Form, FormField, FormReply, Rule, Stride};
use crate::widgets::page::Page;

/// Turns that are kept in a talk; the oldest are dropped from the screen and from what is sent.
const TURNS_MAX: usize = 200;
/// Rows of the composer at most.
const COMPOSER_ROWS: u16 = 6;
/// Presets of the settings: name, temperature, top-p.
const PRESETS: [(&str, &str, &str); 3] =
    [("chat.precise", "0", "1"), ("chat.balanced", "0.7", "0.95"), ("chat.creative", "1.1", "0.98")];

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pane {
    #[default]
    Composer,
    Settings,
    Transcript,
}

/// One turn.
struct Turn {
    from_person: bool,
    text: String,
    tokens: u64,
    end: Option<ChatEnd>,
    problem: Option<String>,
    stopped: bool,
}

impl Turn {
    fn new(from_person: bool, text: String) -> Turn {
        Turn { from_person, text, tokens: 0, end: None, problem: None, stopped: false }
    }
}

/// The area.
pub(crate) struct Playground {
    settings: Form,
    pane: Pane,
    composer: Composer,
    turns: Vec<Turn>,
    streaming: bool,
    /// Lines above the end; 0 follows.
    up: usize,
    /// The chosen turn in the transcript.
    chosen: usize,
    preset: usize,
    sent: Option<String>,
}

impl Default for Playground {
    fn default() -> Self {
        let section = "chat.settings";
        let real = |low, high| FieldKind::Real { low, high };
        let number = |key, label, about, kind, step, default: &str| {
            FormField::text(key, section, label, about).of(kind, Stride::Add(step), default)
        };
        let whole = |low, high| FieldKind::Whole { low, high };
        let settings = Form::new(vec![
            FormField::text("service", "chat.who", "word.service", "field.chat_service.about").rule(Rule::OneOf),
            FormField::text("system", "chat.who", "field.system", "field.system.about"),
            number("temperature", "field.temperature", "field.temperature.about", real(0.0, 2.0), 0.1, "0.7"),
            number("top_p", "field.top_p", "field.top_p.about", real(0.01, 1.0), 0.05, "0.95"),
            number("top_k", "field.top_k", "field.top_k.about", whole(0, 1000), 10.0, "0"),
            number("min_p", "field.min_p", "field.min_p.about", real(0.0, 1.0), 0.05, "0"),
            number("repeat", "field.repeat", "field.repeat.about", real(0.5, 2.0), 0.05, "1"),
            number("frequency", "field.frequency", "field.frequency.about", real(-2.0, 2.0), 0.1, "0"),
            number("presence", "field.presence", "field.presence.about", real(-2.0, 2.0), 0.1, "0"),
            number("tokens", "field.tokens", "field.tokens.about", whole(1, 32_768), 64.0, "256"),
            FormField::text("seed", section, "field.seed", "field.seed.about"),
        ]);
        Playground {
            settings,
            pane: Pane::default(),
            composer: Composer::default(),
            turns: Vec::new(),
            streaming: false,
            up: 0,
            chosen: 0,
            preset: 1,
            sent: None,
        }
    }
}

impl Playground {
    fn sampling(&self) -> Option<Sampling> {
        let s = &self.settings;
        Some(Sampling {
            temperature: s.number("temperature")?,
            top_p: s.number("top_p")?,
            top_k: s.number("top_k")?,
            min_p: s.number("min_p")?,
            frequency_penalty: s.number("frequency")?,
            presence_penalty: s.number("presence")?,
            repeat_penalty: s.number("repeat")?,
            seed: s.number("seed"),
        })
    }

    /// Chooses a service when none is chosen: one that answers, the newest.
    fn fill_in(&mut self, view: &View<'_>) {
        let names = chat_names(view);
        if self.settings.value("service").is_empty() {
            let mut chat = view.mirror.services().iter().rev().filter(|s| !s.is_encoder);
            let on = chat.clone().find(|s| s.state == ServiceState::On);
            let name = on.or(chat.next()).map(|s| s.record.name.clone());
            self.settings.set("service", name.unwrap_or_default());
        }
        self.settings.offer("service", names);
    }

    fn send(&mut self, desk: &mut Desk<'_>) {
        let said = self.composer.text();
        if said.trim().is_empty() || self.streaming {
            return;
        }
        let service = self.settings.value("service").to_owned();
        if service.is_empty() {
            desk.warn(desk.view.t("chat.no_service"));
            return;
        }
        if desk.view.mirror.services().iter().any(|s| s.is_encoder && s.record.name == service) {
            desk.warn(desk.view.fill("chat.encoder", &[("service", &service)]));
            return;
        }
        self.turns.push(Turn::new(true, said.clone()));
        self.sent = Some(said);
        self.composer = Composer::default();
        self.ask(desk);
    }

    /// Asks for an answer to the talk as it stands.
    fn ask(&mut self, desk: &mut Desk<'_>) {
        if self.settings.problems(&desk.view) > 0 || desk.view.away {
            let key = if desk.view.away { "link.not_now" } else { "form.wrong" };
            desk.warn(desk.view.t(key));
            return;
        }
        let Some(sampling) = self.sampling() else { return };
        let system = self.settings.value("system").to_owned();
        let message = |role: &str, content: String| ChatMessage { role: role.to_owned(), content };
        let mut messages = Vec::new();
        if !system.is_empty() {
            messages.push(message("system", system));
        }
        let spoken = self.turns.iter().filter(|t| t.problem.is_none() && !t.text.is_empty());
        messages.extend(spoken.map(|t| message(if t.from_person { "user" } else { "assistant" }, t.text.clone())));
        self.turns.push(Turn::new(false, String::new()));
        if self.turns.len() > TURNS_MAX {
            self.turns.drain(..2);
        }
        self.streaming = true;
        self.up = 0;
        self.chosen = self.turns.len() - 1;
        desk.ask(
            Errand::Chat,
            Request::Chat {
                service: self.settings.value("service").to_owned(),
                messages,
                sampling,
                tokens_max: self.settings.number("tokens").unwrap_or(256),
            },
        );
    }

    fn stop(&mut self, desk: &mut Desk<'_>) {
        desk.wishes.push(Wish::Stop(Errand::Chat));
        self.streaming = false;
        if let Some(turn) = self.turns.last_mut() {
            turn.stopped = true;
        }
    }

    fn act_on_transcript(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let last = self.turns.len().saturating_sub(1);
        match action {
            Action::Up => self.chosen = self.chosen.min(last).saturating_sub(1),
            Action::Down => self.chosen = (self.chosen + 1).min(last),
            Action::PageUp => self.up += 10,
            Action::PageDown => self.up = self.up.saturating_sub(10),
            Action::First => self.chosen = 0,
            Action::Last | Action::Follow => {
                self.chosen = last;
                self.up = 0;
            }
            Action::Copy => match self.turns.get(self.chosen) {
                Some(turn) => desk.copy(turn.text.clone()),
                None => return false,
            },
            Action::Edit => {
                // Back to the question: what followed it is dropped and it stands in the box again.
                let question =
                    (0..=self.chosen.min(last)).rev().find(|i| self.turns.get(*i).is_some_and(|t| t.from_person));
                let Some(at) = question.filter(|_| !self.streaming) else { return false };
                self.composer = Composer::with(&self.turns[at].text);
                self.turns.truncate(at);
                self.pane = Pane::Composer;
            }
            Action::Delete if !self.turns.is_empty() && !self.streaming => self.turns.clear(),
            Action::Enter => self.pane = Pane::Composer,
            _ => return false,
        }
        true
    }

    fn retry(&mut self, desk: &mut Desk<'_>) -> bool {
        if self.streaming || self.turns.is_empty() {
            return false;
        }
        while self.turns.last().is_some_and(|t| !t.from_person) {
            self.turns.pop();
        }
        self.ask(desk);
        true
    }

    /// What is known of the service that answers: the third pane.
    fn service_facts(&self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let mut page = Page::new();
        let name = self.settings.value("service");
        if let Some(service) = view.mirror.services().iter().find(|s| s.record.name == name) {
            super::service_pages::service_page(view, service, &mut page, canvas);
        }
        page.draw_top(canvas, area);
    }

    fn draw_settings(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let focused = self.pane == Pane::Settings;
        let (cursor, from) = (canvas.cursor, canvas.hits.len());
        // The settings pane is narrow whatever the screen is: fields above, explanation below.
        let narrow = View { class: Class::S, ..*view };
        let explain = (area.height / 3).clamp(4, 12);
        let fields = Rect { height: area.height.saturating_sub(explain), ..area };
        self.settings.draw_list(canvas, fields, &narrow);
        let mut page = Page::new();
        match focused {
            true => self.settings.explain(view, &mut page),
            false => {
                let name = self.settings.value("service").to_owned();
                if let Some(service) = view.mirror.services().iter().find(|s| s.record.name == name) {
                    page.line(vec![service_state(view, service, canvas.glyphs)]);
                    page.text(service.version_reference.clone(), Token::Muted);
                }
                page.text(view.t("chat.tab_to_change"), Token::Muted);
            }
        }
        canvas.rule(area, fields.bottom(), true);
        let below = Rect { x: area.x + 1, y: fields.bottom() + 1, width: area.width - 2, height: explain - 1 };
        page.draw_top(canvas, below);
        canvas.clickable_pane(area, Pane::Settings as u8, from);
        if !focused {
            canvas.cursor = cursor;
        }
    }
}

impl Screen for Playground {
    fn trail(&self, _: &View<'_>) -> Vec<String> {
        let service = self.settings.value("service");
        if service.is_empty() { Vec::new() } else { vec![service.to_owned()] }
    }

    fn context(&self) -> Context {
        match self.pane {
            Pane::Composer => Context::Text,
            Pane::Settings if self.settings.is_editing() => Context::Field,
            _ => Context::Browse,
        }
    }

    fn takes_digits(&self) -> bool {
        self.pane == Pane::Settings && self.settings.takes_digits()
    }

    fn offers(&mut self, _: &View<'_>) -> Vec<Offer> {
        match self.pane {
            Pane::Composer => vec![
                offer(Action::Enter, "chat.send"),
                offer(Action::Out, if self.streaming { "chat.stop" } else { "chat.leave_box" }),
                offer(Action::NextPane, "chat.settings"),
            ],
            Pane::Settings => vec![
                offer(Action::Left, "form.step"),
                offer(Action::Right, "form.step"),
                offer(Action::Enter, "form.edit"),
                offer(Action::Pause, "training.presets"),
                offer(Action::Delete, "form.default"),
                offer(Action::NextPane, "chat.to_chat"),
                offer(Action::PreviousPane, "chat.to_box"),
                offer(Action::Out, "chat.to_box"),
            ],
            Pane::Transcript => {
                let mut offers = vec![offer(Action::Enter, "chat.write"), offer(Action::NextPane, "chat.to_box")];
                if !self.turns.is_empty() {
                    offers.push(offer(Action::Copy, "hint_row.copy"));
                    if !self.streaming {
                        offers.push(offer(Action::Run, "chat.retry"));
                        offers.push(offer(Action::Edit, "chat.edit"));
                        offers.push(offer(Action::Delete, "chat.clear"));
                    }
                }
                offers.push(offer(Action::Inspect, "services.how_to"));
                offers
            }
        }
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        if self.streaming && action == Action::Out {
            self.stop(desk);
            return true;
        }
        match (self.pane, action) {
            (_, Action::NextPane) => {
                self.pane = match self.pane {
                    Pane::Composer => Pane::Settings,
                    Pane::Settings => Pane::Transcript,
                    Pane::Transcript => Pane::Composer,
                };
            }
            (_, Action::PreviousPane) => {
                self.pane = match self.pane {
                    Pane::Composer => Pane::Transcript,
                    Pane::Settings => Pane::Composer,
                    Pane::Transcript => Pane::Settings,
                };
            }
            (Pane::Settings, Action::Pause) => {
                self.preset = (self.preset + 1) % PRESETS.len();
                let (name, temperature, top_p) = PRESETS[self.preset];
                self.settings.set("temperature", temperature);
                self.settings.set("top_p", top_p);
                desk.say(desk.view.t(name));
            }
            (Pane::Settings, Action::Out) => self.pane = Pane::Composer,
            (Pane::Settings, Action::Run) => return self.retry(desk),
            (Pane::Settings, action) => return self.settings.act(action, &desk.view) != FormReply::No,
            (Pane::Composer, Action::Enter) => self.send(desk),
            (Pane::Composer, Action::Out) => {
                self.pane = Pane::Transcript;
                self.chosen = self.turns.len().saturating_sub(1);
            }
            (Pane::Transcript, Action::Run) => return self.retry(desk),
            (Pane::Transcript, Action::Inspect) => {
                desk.open(Place::HowTo(self.settings.value("service").to_owned()));
            }
            (Pane::Transcript, action) => return self.act_on_transcript(action, desk),
            _ => return false,
        }
        true
    }

    fn key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        match self.pane {
            Pane::Settings => {
                self.settings.key(key);
            }
            Pane::Transcript => {}
            Pane::Composer => match key.code {
                KeyCode::Esc => {
                    self.act(Action::Out, desk);
                }
                KeyCode::Tab => {
                    self.act(Action::NextPane, desk);
                }
                KeyCode::BackTab => {
                    self.act(Action::PreviousPane, desk);
                }
                KeyCode::PageUp => self.up += 10,
                KeyCode::PageDown => self.up = self.up.saturating_sub(10),
                // An empty box recalls what was sent last.
                KeyCode::Up if self.composer.is_empty() => {
                    if let Some(sent) = &self.sent {
                        self.composer = Composer::with(sent);
                    }
                }
                _ => {
                    if self.composer.key(key) == Typed::Send {
                        self.send(desk);
                    }
                }
            },
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        match self.pane {
            Pane::Composer => self.composer.insert(text),
            Pane::Settings if self.settings.is_editing() => self.settings.paste(text),
            _ => return false,
        }
        true
    }

    fn open(&mut self, place: Place, _: &mut Desk<'_>) {
        if let Place::Chat(service) = place {
            if !service.is_empty() {
                self.settings.set("service", service);
            }
            self.pane = Pane::Composer;
        }
    }

    fn focus(&mut self, pane: u8) {
        let panes = [Pane::Composer, Pane::Settings, Pane::Transcript];
        self.pane = panes.into_iter().find(|p| *p as u8 == pane).unwrap_or_default();
    }

    fn wheel(&mut self, action: Action, desk: &mut Desk<'_>) {
        match (self.pane, action) {
            (Pane::Settings | Pane::Transcript, action) => {
                self.act(action, desk);
            }
            (_, Action::Up) => self.up += 1,
            _ => self.up = self.up.saturating_sub(1),
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        self.fill_in(&desk.view);
    }

    fn part(&mut self, errand: Errand, part: StreamPart) {
        if let (Errand::Chat, StreamPart::Text { text, tokens }, Some(turn)) = (errand, part, self.turns.last_mut())
            && !turn.from_person
            && !turn.stopped
        {
            turn.text.push_str(&text);
            turn.tokens = tokens;
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        if errand != Errand::Chat {
            return;
        }
        self.streaming = false;
        let Some(turn) = self.turns.last_mut().filter(|t| !t.from_person) else { return };
        match answer {
            Ok(Answer::Chat(end)) => turn.end = Some(end),
            Ok(_) => {}
            Err(_) if turn.stopped => {}
            Err(failure) => {
                let mut said = desk.view.failure(&failure);
                if let Some(hint) = desk.view.hint(&failure) {
                    said = format!("{said} - {hint}");
                }
                turn.problem = Some(said);
            }
        }
    }

    fn forget(&mut self) {
        if std::mem::take(&mut self.streaming)
            && let Some(turn) = self.turns.last_mut()
        {
            turn.stopped = true;
        }
    }

    fn interrupt(&mut self, desk: &mut Desk<'_>) -> bool {
        if self.streaming {
            self.stop(desk);
            return true;
        }
        false
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if view.class >= Class::M {
            let left = (area.width / 3).min(56);
            self.draw_settings(canvas, Rect { width: left, ..area }, view);
            canvas.bar(left, area);
            let right = if view.class == Class::Xl { area.width * 3 / 10 } else { 0 };
            let width = area.width - left - 2 - right;
            self.draw_chat(canvas, Rect { x: left + 2, width, ..area }, view);
            if right > 0 {
                canvas.bar(area.right() - right, area);
                let x = area.right() - right + 2;
                self.service_facts(canvas, Rect { x, width: area.right() - x, ..area }, view);
            }
        } else if self.pane == Pane::Settings {
            self.draw_settings(canvas, area, view);
        } else {
            self.draw_chat(canvas, Rect { x: area.x + 1, width: area.width - 1, ..area }, view);
        }
    }
}
