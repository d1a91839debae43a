//! What outlives the client: earlier talks and presets of one's own, kept by the daemon. Never here: what is in a talk.

use hone_protocol::failure::Failure;
use hone_protocol::note::{NoteHead, NoteKind};
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Json;
use ratatui::layout::Rect;
use serde_json::json;

use super::settings::PRESETS;
use super::tree::Talk;
use super::{Over, Pane, Playground};
use crate::layers::Layer;
use crate::screens::{Deed, Desk, Errand, View, Wish};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;

/// What is known of notes.
#[derive(Default)]
pub(super) struct Shelf {
    /// Names of own presets; none while nobody asked.
    presets: Option<Vec<NoteHead>>,
    /// Earlier talks; none while nobody asked.
    talks: Option<Vec<NoteHead>>,
    /// What the talk that is open is kept as; empty before its first answer.
    pub(super) name: String,
    pub(super) list: Listing,
}

impl Playground {
    /// Keeps the talk as it stands.
    pub(super) fn keep_talk(&mut self, desk: &mut Desk<'_>) {
        if self.talk.rounds.is_empty() {
            return;
        }
        if self.shelf.name.is_empty() {
            self.shelf.name = format!("t{}", desk.view.now_ms);
        }
        let value = json!({ "talk": self.talk, "settings": self.settings.keep() });
        let (name, title) = (self.shelf.name.clone(), self.talk.title());
        self.shelf.talks = None;
        let request = Request::KeepNote { kind: NoteKind::Talk, name, title, value: Json(value) };
        desk.ask(Errand::Saved(NoteKind::Talk), request);
    }

    /// Asks for the names that are shown and not there.
    pub(super) fn need_notes(&mut self, desk: &mut Desk<'_>) {
        if desk.view.away || !desk.view.mirror.is_filled() {
            return;
        }
        if self.shelf.presets.is_none() {
            self.shelf.presets = Some(Vec::new());
            desk.ask(Errand::Notes(NoteKind::Preset), Request::Notes { kind: NoteKind::Preset });
        }
        if matches!(self.over, Some(Over::Talks)) && self.shelf.talks.is_none() {
            self.shelf.talks = Some(Vec::new());
            desk.ask(Errand::Notes(NoteKind::Talk), Request::Notes { kind: NoteKind::Talk });
        }
        let own = self.shelf.presets.iter().flatten().map(|head| head.name.clone());
        let names = PRESETS.iter().map(|preset| preset.name.to_owned()).chain(own).collect();
        self.settings.form.offer("preset", names);
    }

    /// Names are asked for again.
    pub(super) fn forget_notes(&mut self) {
        (self.shelf.presets, self.shelf.talks) = (None, None);
    }

    pub(super) fn noted(&mut self, kind: NoteKind, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (answer, kind) {
            (Ok(Answer::Notes(heads)), NoteKind::Preset) => self.shelf.presets = Some(heads),
            (Ok(Answer::Notes(heads)), NoteKind::Talk) => self.shelf.talks = Some(heads),
            (Ok(Answer::Note(note)), NoteKind::Preset) => {
                self.settings.take(&note.value.0);
                self.settings.form.set("preset", note.head.name);
            }
            (Ok(Answer::Note(note)), NoteKind::Talk) => {
                let Ok(talk) = serde_json::from_value::<Talk>(note.value.0["talk"].clone()) else {
                    desk.warn(desk.view.t("chat.unreadable"));
                    return;
                };
                self.settings.restore(&note.value.0["settings"]);
                self.chosen = talk.path().len().saturating_sub(1);
                (self.talk, self.shelf.name, self.over, self.up) = (talk, note.head.name, None, 0);
                self.pane = Pane::Transcript;
            }
            (Ok(_), _) => {}
            (Err(failure), _) => desk.warn(desk.view.failure(&failure)),
        }
    }

    /// After the preset's field changed: takes one of the known sets of values, or keeps the values under a new name.
    pub(super) fn preset_named(&mut self, desk: &mut Desk<'_>) {
        let name = self.settings.value("preset").to_owned();
        if name.is_empty() || self.settings.apply(&name) {
            return;
        }
        let own = self.shelf.presets.get_or_insert_default();
        if own.iter().any(|head| head.name == name) {
            desk.ask(Errand::Note(NoteKind::Preset), Request::Note { kind: NoteKind::Preset, name });
            return;
        }
        own.push(NoteHead { name: name.clone(), title: String::new(), at_ms: desk.view.now_ms });
        let value = Json(self.settings.preset_values());
        desk.say(desk.view.fill("chat.preset_kept", &[("name", &name)]));
        let request = Request::KeepNote { kind: NoteKind::Preset, name, title: String::new(), value };
        desk.ask(Errand::Saved(NoteKind::Preset), request);
    }

    /// Whether the named preset is one of the person's own.
    pub(super) fn is_own_preset(&self) -> bool {
        let name = self.settings.value("preset");
        self.shelf.presets.iter().flatten().any(|head| head.name == name)
    }

    /// Asks whether an own preset shall go; false when the named one comes with hone.
    pub(super) fn drop_preset(&mut self, desk: &mut Desk<'_>) -> bool {
        if !self.is_own_preset() {
            return false;
        }
        let name = self.settings.value("preset").to_owned();
        ask_to_drop(desk, NoteKind::Preset, name.clone(), name);
        true
    }

    pub(super) fn talk_rows(&self, view: &View<'_>) -> Vec<Row> {
        let row = |head: &NoteHead| {
            let open = head.name == self.shelf.name;
            let title = if head.title.is_empty() { head.name.clone() } else { head.title.clone() };
            let mark = if open { view.t("chat.open_now") } else { "" };
            let ago = number::ago(view.language, view.now_ms, head.at_ms);
            let cells = vec![piece(cell(&title), Token::Text), piece(mark, Token::Accent), piece(ago, Token::Muted)];
            Row { key: head.name.clone(), cells }
        };
        self.shelf.list.passing(self.shelf.talks.iter().flatten().map(row).collect())
    }

    /// Opens the selected talk.
    pub(super) fn open_talk(&mut self, desk: &mut Desk<'_>) -> bool {
        let Some(name) = self.shelf.list.selected(&self.talk_rows(&desk.view)) else { return false };
        desk.ask(Errand::Note(NoteKind::Talk), Request::Note { kind: NoteKind::Talk, name });
        true
    }

    /// Asks whether the selected talk shall go.
    pub(super) fn drop_talk(&mut self, desk: &mut Desk<'_>) -> bool {
        let Some(name) = self.shelf.list.selected(&self.talk_rows(&desk.view)) else { return false };
        let head = self.shelf.talks.iter().flatten().find(|head| head.name == name);
        let title = head.map_or(name.clone(), |head| head.title.clone());
        ask_to_drop(desk, NoteKind::Talk, name, title);
        true
    }

    pub(super) fn draw_talks(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let rows = self.talk_rows(view);
        if rows.is_empty() && !self.shelf.list.is_filtered() {
            let mut page = Page::new();
            page.heading(view.t("chat.talks")).blank().text(view.t("chat.no_talks"), Token::Muted);
            page.draw_top(canvas, area);
            canvas.cursor_at(area.x, area.y);
            return;
        }
        let columns = [column(view.t("chat.talks"), 0), column("", 8).from(60), column(view.t("col.when"), 12).right()];
        self.shelf.list.draw(canvas, area, &columns, &rows, true);
    }
}

fn ask_to_drop(desk: &mut Desk<'_>, kind: NoteKind, name: String, title: String) {
    let wish = Wish::Ask { errand: Errand::Act(Deed::DropNote), request: Request::DropNote { kind, name } };
    let asked = desk.view.t(if kind == NoteKind::Talk { "ask.drop_talk" } else { "ask.drop_preset" }).to_owned();
    let body = vec![crate::widgets::text::one_line(&title), desk.view.t("ask.for_ever").to_owned()];
    desk.push(Layer::ask(asked, body, "ask.drop", vec![wish]));
}
