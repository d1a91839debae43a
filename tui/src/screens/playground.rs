//! Playground: a talk with up to four columns that answer side by side, settings with their explanations, verdicts that
//! become rows of preferences, token probabilities, the context meter, and the talk as code. Never here: what a model
//! answers, or a fact about the service.

mod chances;
mod code;
mod meter;
mod offers;
mod settings;
mod shelf;
mod talk;
#[cfg(test)]
mod tests;
mod tree;
mod turns;
mod verdict;

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::failure::Failure;
use hone_protocol::request::{Answer, StreamPart};
use hone_protocol::service::ServiceState;
use ratatui::layout::Rect;

use self::chances::Chances;
use self::code::{Code, LANGUAGES};
use self::meter::Meter;
use self::settings::Settings;
use self::shelf::Shelf;
use self::tree::Talk;
use self::turns::Streaming;
use self::verdict::{LETTERS, Verdicts};
use super::tables::{chat_names, service_state};
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer};
use crate::keymap::{Context, plain};
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::composer::{Composer, Typed};
use crate::widgets::form::FormReply;
use crate::widgets::page::Page;

/// Rows of the composer at most.
const COMPOSER_ROWS: u16 = 6;
/// Cells of a column that is read well; with less, columns go before the settings beside them.
const READ_CELLS: u16 = 40;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pane {
    #[default]
    Composer,
    Settings,
    Transcript,
}

/// What stands in place of the talk.
enum Over {
    /// The talk as code.
    Code(Code),
    /// How likely the tokens of an answer were.
    Chances(Chances),
    /// Earlier talks.
    Talks,
}

/// The area.
#[derive(Default)]
pub(crate) struct Playground {
    settings: Settings,
    pane: Pane,
    over: Option<Over>,
    composer: Composer,
    talk: Talk,
    streaming: Option<Streaming>,
    /// Lines above the end; 0 follows.
    up: usize,
    /// The chosen round of the branch that is shown.
    chosen: usize,
    /// The answer of the chosen round that is looked at, from the left.
    side: usize,
    sent: Option<String>,
    meter: Meter,
    verdicts: Verdicts,
    shelf: Shelf,
}

impl Playground {
    /// Chooses a service where none is chosen: one that answers, the newest.
    fn fill_in(&mut self, view: &View<'_>) {
        if self.settings.value("service").is_empty() {
            let mut chat = view.mirror.services().iter().rev().filter(|s| !s.is_encoder);
            let on = chat.clone().find(|s| s.state == ServiceState::On);
            let name = on.or(chat.next()).map(|s| s.record.name.clone());
            self.settings.form.set("service", name.unwrap_or_default());
        }
        self.settings.form.offer("service", chat_names(view));
        let sets =
            view.mirror.datasets().iter().filter(|d| d.record.shape == hone_protocol::dataset::Shape::Preference);
        self.settings.form.offer("verdicts", sets.map(|d| d.record.name.clone()).collect());
    }

    /// The round that is looked at.
    fn chosen_round(&self) -> Option<usize> {
        let path = self.talk.path();
        path.get(self.chosen.min(path.len().saturating_sub(1))).map(|(round, _)| *round)
    }

    /// Looks at another answer of the chosen round; its column is the one that the settings show.
    fn step_side(&mut self, right: bool) -> bool {
        let Some(round) = self.chosen_round() else { return false };
        let round = &self.talk.rounds[round];
        let last = round.answers.len().saturating_sub(1);
        let side = if right { self.side.saturating_add(1).min(last) } else { self.side.min(last).saturating_sub(1) };
        self.side = side;
        if !round.is_hidden()
            && let Some(reply) = round.answers.get(side)
        {
            self.settings.focus(usize::from(reply.column));
        }
        last > 0
    }

    fn step_branch(&mut self, on: bool) -> bool {
        if self.streaming.is_some() {
            return false;
        }
        let at_end = self.chosen + 1 >= self.talk.path().len();
        // Behind the end there may be a branch that was left; beside the chosen round another one.
        let moved = (on && at_end && self.talk.follow())
            || self.chosen_round().is_some_and(|round| self.talk.switch(round, on));
        self.side = 0;
        moved
    }

    fn begin_anew(&mut self) {
        (self.talk, self.up, self.chosen, self.side) = (Talk::default(), 0, 0, 0);
        self.shelf.name.clear();
    }

    /// Shows the code of what the focused column would ask, or asked for the chosen round.
    fn show_code(&mut self, desk: &mut Desk<'_>) {
        let mut code = match self.over.take() {
            Some(Over::Code(code)) => code,
            _ => Code::default(),
        };
        if self.chosen_round().is_some_and(|round| self.talk.rounds[round].is_hidden()) {
            // The code would tell who answered.
            return desk.say(desk.view.t("field.blind.about"));
        }
        let system = self.settings.value("system");
        let draft = self.composer.text();
        let (asked, messages) = match self.chosen_round().map(|round| &self.talk.rounds[round]) {
            Some(round) => {
                let reply = &round.answers[self.side.min(round.answers.len() - 1)];
                (Some(reply.asked.clone()), self.talk.messages(system, round.before, &round.question))
            }
            None => {
                let question = if draft.trim().is_empty() { "Hello" } else { draft.trim() };
                (self.settings.asked(self.settings.column, 0), self.talk.messages(system, None, question))
            }
        };
        let Some(asked) = asked else { return desk.warn(desk.view.t("form.wrong")) };
        code.write(&desk.view, &asked, &messages);
        self.over = Some(Over::Code(code));
    }

    fn show_chances(&mut self, desk: &mut Desk<'_>) -> bool {
        let Some(round) = self.chosen_round().map(|round| &self.talk.rounds[round]) else { return false };
        let reply = &round.answers[self.side.min(round.answers.len() - 1)];
        if reply.chances.is_empty() {
            desk.say(desk.view.t("chances.none"));
            return true;
        }
        let name = match round.is_hidden() {
            true => LETTERS[self.side.min(3)].to_owned(),
            false => reply.asked.service.clone(),
        };
        self.over = Some(Over::Chances(Chances::of(name, reply.chances.clone())));
        true
    }

    fn act_over(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match (&mut self.over, action) {
            (_, Action::Out) => self.over = None,
            (Some(Over::Code(code)), Action::NextTab | Action::PreviousTab | Action::Right | Action::Left) => {
                let on = matches!(action, Action::NextTab | Action::Right);
                code.language = (code.language + if on { 1 } else { LANGUAGES.len() - 1 }) % LANGUAGES.len();
                self.show_code(desk);
            }
            (Some(Over::Code(code)), Action::Copy) => desk.copy(code.text.clone()),
            (Some(Over::Code(code)), Action::Up) => code.scroll = code.scroll.saturating_sub(1),
            (Some(Over::Code(code)), Action::Down) => code.scroll += 1,
            (Some(Over::Code(code)), Action::PageUp) => code.scroll = code.scroll.saturating_sub(10),
            (Some(Over::Code(code)), Action::PageDown) => code.scroll += 10,
            (Some(Over::Chances(chances)), action) => return chances.act(action),
            (Some(Over::Talks), Action::Enter) => return self.open_talk(desk),
            (Some(Over::Talks), Action::Delete) => return self.drop_talk(desk),
            (Some(Over::Talks), action) => {
                let rows = self.talk_rows(&desk.view);
                return self.shelf.list.act(action, &rows);
            }
            _ => return false,
        }
        true
    }

    fn act_on_transcript(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let last = self.talk.path().len().saturating_sub(1);
        let still = self.streaming.is_none();
        match action {
            Action::Up => self.chosen = self.chosen.min(last).saturating_sub(1),
            Action::Down => self.chosen = (self.chosen + 1).min(last),
            Action::Left | Action::Right => return self.step_side(action == Action::Right),
            Action::PageUp => self.up += 10,
            Action::PageDown => self.up = self.up.saturating_sub(10),
            Action::First => self.chosen = 0,
            Action::Last | Action::Follow => (self.chosen, self.up) = (last, 0),
            Action::NextTab | Action::PreviousTab => return self.step_branch(action == Action::NextTab),
            Action::Copy => {
                let Some(round) = self.chosen_round().map(|round| &self.talk.rounds[round]) else { return false };
                desk.copy(round.answers[self.side.min(round.answers.len() - 1)].text.clone());
            }
            Action::Edit => {
                let Some(round) = self.chosen_round().filter(|_| still) else { return false };
                self.composer = Composer::with(&self.talk.rounds[round].question);
                self.talk.go_before(round);
                self.pane = Pane::Composer;
            }
            Action::Clone => {
                let Some(round) = self.chosen_round().filter(|_| still) else { return false };
                self.talk.at = Some(round);
                self.pane = Pane::Composer;
            }
            Action::Mark => {
                let leaf = self.talk.at.filter(|at| still && self.chosen_round() == Some(*at));
                let Some(round) = leaf.map(|at| &mut self.talk.rounds[at]) else { return false };
                round.kept = self.side.min(round.answers.len() - 1);
            }
            Action::Delete if still && !self.talk.rounds.is_empty() => self.begin_anew(),
            Action::Run => return self.retry(desk),
            Action::Undo => return self.unjudge(desk),
            Action::Add => return self.make_version(desk),
            Action::Inspect => return self.show_chances(desk),
            Action::Export => self.show_code(desk),
            Action::Log => self.over = Some(Over::Talks),
            Action::Compare => return self.add_column(desk),
            Action::Stop if still => return self.settings.drop_column(),
            Action::Enter => self.pane = Pane::Composer,
            _ => return false,
        }
        true
    }

    fn add_column(&mut self, desk: &mut Desk<'_>) -> bool {
        let names = chat_names(&desk.view);
        if self.streaming.is_some() || !self.settings.add(&names) {
            return false;
        }
        let letter = LETTERS[self.settings.column.min(3)];
        desk.say(desk.view.fill("chat.column_added", &[("letter", letter)]));
        self.pane = Pane::Settings;
        self.settings.form.focus_on("service");
        true
    }

    fn act_on_settings(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let count = self.settings.count();
        let on_preset = self.settings.form.focused().is_some_and(|field| field.key == "preset");
        match action {
            Action::Pause => self.settings.form.focus_on("preset"),
            Action::Delete if on_preset => return self.drop_preset(desk),
            Action::Out => self.pane = Pane::Composer,
            Action::Run => return self.retry(desk),
            Action::Compare => return self.add_column(desk),
            Action::Stop if self.streaming.is_none() => return self.settings.drop_column(),
            Action::NextTab if count > 1 => self.settings.focus((self.settings.column + 1) % count),
            Action::PreviousTab if count > 1 => self.settings.focus((self.settings.column + count - 1) % count),
            action => {
                let reply = self.settings.form.act(action, &desk.view);
                self.settled(reply, on_preset, desk);
                return reply != FormReply::No;
            }
        }
        true
    }

    /// What follows from a change of a setting.
    fn settled(&mut self, reply: FormReply, on_preset: bool, desk: &mut Desk<'_>) {
        if reply == FormReply::Changed && on_preset {
            self.preset_named(desk);
        }
        self.judge_pending(desk);
    }

    fn next_pane(&mut self, on: bool) {
        let order = [Pane::Composer, Pane::Settings, Pane::Transcript];
        let here = order.iter().position(|pane| *pane == self.pane).unwrap_or(0);
        self.pane = order[(here + if on { 1 } else { 2 }) % 3];
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
        let mut fields = Rect { height: area.height.saturating_sub(explain), ..area };
        if self.settings.count() > 1 {
            let mut x = area.x + 1;
            for column in 0..self.settings.count() {
                let here = column == self.settings.column;
                let name = format!("{} {}", LETTERS[column.min(3)], self.settings.of(column, "service"));
                let label = if here { format!("[{name}] ") } else { format!(" {name}  ") };
                let token = if here { Token::Heading } else { Token::Muted };
                x = canvas.put(x, area.y, area.right().saturating_sub(x), &label, token);
            }
            fields = Rect { y: fields.y + 1, height: fields.height.saturating_sub(1), ..fields };
        }
        self.settings.form.draw_list(canvas, fields, &narrow);
        let mut page = Page::new();
        match focused {
            true => self.settings.form.explain(view, &mut page),
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

    fn draw_right(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
        match &mut self.over {
            Some(Over::Code(code)) => code.draw(canvas, inner, view),
            Some(Over::Chances(chances)) => chances.draw(canvas, inner, view),
            Some(Over::Talks) => self.draw_talks(canvas, inner, view),
            None => self.draw_chat(canvas, area, view),
        }
    }
}

impl Screen for Playground {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        let names: Vec<&str> = (0..self.settings.count()).map(|column| self.settings.of(column, "service")).collect();
        let place = match &self.over {
            Some(Over::Code(_)) => Some(view.t("chat.as_code").to_owned()),
            Some(Over::Chances(_)) => Some(view.t("chances.trail").to_owned()),
            Some(Over::Talks) => Some(view.t("chat.talks").to_owned()),
            None => None,
        };
        let names = (!names[0].is_empty()).then(|| names.join(" | "));
        names.into_iter().chain(place).collect()
    }

    fn context(&self) -> Context {
        match (&self.over, self.pane) {
            (Some(Over::Talks), _) if self.shelf.list.filtering => Context::Field,
            (Some(_), _) => Context::Browse,
            (None, Pane::Composer) => Context::Text,
            (None, Pane::Settings) if self.settings.form.is_editing() => Context::Field,
            _ => Context::Browse,
        }
    }

    fn takes_digits(&self) -> bool {
        match self.pane {
            _ if self.over.is_some() => false,
            Pane::Settings => self.settings.form.takes_digits(),
            Pane::Transcript => self.judgeable().is_some(),
            Pane::Composer => false,
        }
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        self.what_works(view)
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        if self.over.is_some() {
            return self.act_over(action, desk);
        }
        if self.streaming.is_some() && action == Action::Out {
            self.stop(desk);
            return true;
        }
        match (self.pane, action) {
            (_, Action::NextPane | Action::PreviousPane) => self.next_pane(action == Action::NextPane),
            (Pane::Settings, action) => return self.act_on_settings(action, desk),
            (Pane::Composer, Action::Enter) => self.send(desk),
            (Pane::Composer, Action::Out) => {
                self.pane = Pane::Transcript;
                self.chosen = self.talk.path().len().saturating_sub(1);
            }
            (Pane::Transcript, action) => return self.act_on_transcript(action, desk),
            _ => return false,
        }
        true
    }

    fn key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        if self.over.is_some() {
            return self.shelf.list.type_key(key);
        }
        match self.pane {
            Pane::Settings => {
                let on_preset = self.settings.form.focused().is_some_and(|field| field.key == "preset");
                let reply = self.settings.form.key(key);
                self.settled(reply, on_preset, desk);
            }
            Pane::Transcript => {
                if let KeyCode::Char(c) = key.code
                    && let Some(digit) = plain(c).to_digit(10)
                    && !self.digit(digit, desk)
                {
                    desk.say(desk.view.t("verdict.digits"));
                }
            }
            Pane::Composer => match key.code {
                KeyCode::Esc => {
                    self.act(Action::Out, desk);
                }
                KeyCode::Tab => self.next_pane(true),
                KeyCode::BackTab => self.next_pane(false),
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
            _ if self.over.is_some() => return false,
            Pane::Composer => self.composer.insert(text),
            Pane::Settings if self.settings.form.is_editing() => self.settings.form.paste(text),
            _ => return false,
        }
        true
    }

    fn open(&mut self, place: Place, _: &mut Desk<'_>) {
        if let Place::Chat(service) = place {
            if !service.is_empty() {
                self.settings.form.set("service", service);
            }
            self.over = None;
            self.pane = Pane::Composer;
        }
    }

    fn focus(&mut self, pane: u8) {
        let panes = [Pane::Composer, Pane::Settings, Pane::Transcript];
        self.pane = panes.into_iter().find(|p| *p as u8 == pane).unwrap_or_default();
    }

    fn wheel(&mut self, action: Action, desk: &mut Desk<'_>) {
        match (self.pane, action) {
            (_, action) if self.over.is_some() => {
                self.act(action, desk);
            }
            (Pane::Settings, action) => {
                self.act(action, desk);
            }
            (_, Action::Up) => self.up += 1,
            _ => self.up = self.up.saturating_sub(1),
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        self.fill_in(&desk.view);
        self.need_notes(desk);
        self.need_set(desk);
        self.need_count(desk);
    }

    fn part(&mut self, errand: Errand, part: StreamPart) {
        if let Errand::Chat(column) = errand {
            self.came(column, part);
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match errand {
            Errand::Chat(column) => self.ended(column, answer, desk),
            Errand::Count => self.counted(answer),
            Errand::Notes(kind) | Errand::Note(kind) | Errand::Saved(kind) => self.noted(kind, answer, desk),
            Errand::Act(Deed::DropNote) => self.forget_notes(),
            Errand::Act(Deed::Judge | Deed::Unjudge) => self.judged(answer, desk),
            Errand::Judged => {
                // One that was on its way when a verdict was saved is older than what that told.
                if let Ok(Answer::Judgements { set, .. }) = answer
                    && self.verdicts.set.as_ref().is_none_or(|known| known.next_seq <= set.next_seq)
                {
                    self.verdicts.set = Some(set);
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        if let Some(streaming) = self.streaming.take() {
            self.cut(&streaming);
        }
        self.forget_count();
        self.forget_notes();
        self.verdicts = Verdicts::default();
    }

    fn interrupt(&mut self, desk: &mut Desk<'_>) -> bool {
        let streams = self.streaming.is_some();
        self.stop(desk);
        streams
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let columns = self.settings.count() as u16;
        let settings_only = self.pane == Pane::Settings && self.over.is_none();
        if view.class < Class::M && settings_only {
            return self.draw_settings(canvas, area, view);
        }
        let left = (area.width / 3).min(56);
        // Columns beside each other take the settings' room where they could not be read well without it.
        let cramped = columns > 1 && (area.width - left) / columns < READ_CELLS;
        if view.class < Class::M || (cramped && !settings_only) {
            return self.draw_right(canvas, Rect { x: area.x + 1, width: area.width - 1, ..area }, view);
        }
        self.draw_settings(canvas, Rect { width: left, ..area }, view);
        canvas.bar(left, area);
        let right = if view.class == Class::Xl && columns == 1 { area.width * 3 / 10 } else { 0 };
        let width = area.width - left - 2 - right;
        self.draw_right(canvas, Rect { x: left + 2, width, ..area }, view);
        if right > 0 {
            canvas.bar(area.right() - right, area);
            let x = area.right() - right + 2;
            self.service_facts(canvas, Rect { x, width: area.right() - x, ..area }, view);
        }
    }
}
