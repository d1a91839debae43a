//! Models: the gallery of every model with its versions on shelves, what is known about each, and everything that can be done
//! with one by a key. Never here: training, evaluating or publishing; their forms live in their own areas.

mod forms;
mod pages;
mod shelf;

use crossterm::event::KeyEvent;
use hone_protocol::failure::Failure;
use hone_protocol::model::{Alias, HistoryEntry, ModelView, TrashItem, VersionView, Weights};
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use forms::FormKind;
#[cfg(test)]
pub(super) use forms::STARTER;
pub(super) use forms::as_name;
use pages::{history_page, model_page, scores_page, version_page};
use shelf::{Item, SHELVES, Shelf, items, row};

use super::panes::{draw_empty, draw_tabs, panes};
use super::services::hooks::roll_back;
use super::window::Window;
use super::{Class, Deed, Desk, Errand, Place, Screen, View, Wish};
use crate::action::{Action, Offer, offer};
use crate::keymap::Context;
use crate::layers::Layer;
use crate::theme::Token;
use crate::widgets::canvas::Canvas;
use crate::widgets::form::{Form, FormReply};
use crate::widgets::list::{Listing, Row, column};
use crate::widgets::number;
use crate::widgets::page::Page;

/// Rows of a page that one key goes by.
const PAGE_ROWS: usize = 15;

/// The area.
#[derive(Default)]
pub(crate) struct Models {
    shelf: Shelf,
    list: Listing,
    form: Option<(FormKind, Form)>,
    reading: bool,
    scroll: usize,
    /// What touched the selected version, with a number that changes when there is more.
    history: Window<(String, u64), Vec<HistoryEntry>>,
    trash: Window<u64, Vec<TrashItem>>,
}

impl Models {
    fn rows(&self, view: &View<'_>) -> Vec<Row> {
        self.list.passing(items(view, self.shelf).iter().map(|(key, item)| row(view, key, item)).collect())
    }

    /// The selected version; the newest one of a selected model.
    fn version<'a>(&mut self, view: &View<'a>) -> Option<&'a VersionView> {
        let rows = self.rows(view);
        let key = self.list.selected(&rows)?;
        items(view, self.shelf).into_iter().find(|(k, _)| *k == key).map(|(_, item)| match item {
            Item::Model(_, version) | Item::Version(_, version) => version,
        })
    }

    /// The selected version's model with all its versions, and what measured it: the third pane.
    fn family(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(version) = self.version(view) else { return page };
        let model = view.mirror.models().iter().find(|m| m.versions.iter().any(|v| v.record.id == version.record.id));
        if let Some(model) = model {
            model_page(view, model, &mut page);
        }
        page.blank();
        scores_page(view, version, &mut page);
        self.record(view, version, &mut page);
        page
    }

    /// What touched a version, as far as it was told.
    fn record(&self, view: &View<'_>, version: &VersionView, page: &mut Page) {
        let told = self.history.get_if(|(reference, _)| *reference == version.reference);
        page.blank().heading(view.t("models.history"));
        match (told, &self.history.problem) {
            (Some(entries), _) => history_page(view, entries, page),
            (None, Some(problem)) => drop(page.text(format!("! {problem}"), Token::Warn)),
            (None, None) => drop(page.text(view.t("datasets.loading"), Token::Muted)),
        }
    }

    fn reader(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let rows = self.rows(view);
        let Some(key) = self.list.selected(&rows) else { return page };
        let Some((_, item)) = items(view, self.shelf).into_iter().find(|(k, _)| *k == key) else { return page };
        let (model, version) = match item {
            Item::Model(model, version) | Item::Version(model, version) => (model, version),
        };
        // At three panes the model and the history have one of their own.
        let alone = view.class < Class::Xl;
        if matches!(item, Item::Model(..)) && alone {
            model_page(view, model, &mut page);
            page.blank();
        }
        version_page(view, model, version, &mut page);
        if alone {
            self.record(view, version, &mut page);
        }
        page
    }

    /// What can be done with a version that is not in the trash, most useful first.
    fn offers_of(&self, view: &View<'_>, version: &VersionView) -> Vec<Offer> {
        let base = matches!(version.record.weights, Weights::Base);
        let mut offers = vec![offer(Action::Try, "models.try")];
        if base && version.record.facts.trainable.is_ok() {
            offers.push(offer(Action::Run, "models.train_from"));
        }
        offers.push(offer(Action::Evaluate, "models.evaluate"));
        offers.push(offer(Action::Add, "models.publish"));
        offers.push(offer(Action::Inspect, "models.api"));
        offers.push(offer(Action::Edit, "models.alias"));
        if rolls_back(view, version).is_some() {
            offers.push(offer(Action::Undo, "models.roll_back"));
        }
        offers.push(match base {
            true => offer(Action::Quantize, "models.quantize"),
            false => offer(Action::Merge, "models.merge"),
        });
        offers.push(offer(Action::Export, "models.export"));
        offers.push(offer(Action::Delete, "models.trash"));
        offers.push(offer(Action::Copy, "models.copy_name"));
        offers
    }

    fn verb(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let view = desk.view;
        match (action, self.version(&view)) {
            (Action::New, _) => self.import_form(""),
            (Action::Enter, Some(_)) => self.reading = true,
            (Action::Enter, None) if self.shelf == Shelf::All => self.import_form(""),
            (Action::NextTab, _) => self.turn(1),
            (Action::PreviousTab, _) => self.turn(SHELVES.len() - 1),
            (Action::Out, _) if self.list.is_filtered() => self.list.clear_filter(),
            (Action::Out, _) if self.shelf != Shelf::All => self.shelf = Shelf::All,
            (action, Some(version)) if version.record.is_live() => return self.live_verb(action, version, desk),
            (action, Some(version)) => return self.trash_verb(action, version, desk),
            _ => return false,
        }
        true
    }

    fn turn(&mut self, by: usize) {
        self.shelf = SHELVES[(self.shelf as usize + by) % SHELVES.len()].0;
        self.scroll = 0;
    }

    fn live_verb(&mut self, action: Action, version: &VersionView, desk: &mut Desk<'_>) -> bool {
        let view = desk.view;
        let reference = version.reference.clone();
        let base = matches!(version.record.weights, Weights::Base);
        match action {
            Action::Run if base => desk.open(Place::NewRun { base: reference, dataset: String::new() }),
            Action::Evaluate => desk.open(Place::Evaluate(reference)),
            Action::Try | Action::Inspect => match version.services.first() {
                Some(service) if action == Action::Try => desk.open(Place::Chat(service.clone())),
                Some(service) => desk.open(Place::HowTo(service.clone())),
                None => {
                    desk.say(view.t("models.publish_first"));
                    desk.open(Place::Publish(reference));
                }
            },
            Action::Add => desk.open(Place::Publish(reference)),
            Action::Undo => match rolls_back(&view, version) {
                Some((model, alias)) => roll_back(model, alias, desk),
                None => return false,
            },
            Action::Edit => self.alias_form(version, &view),
            Action::Merge if !base => self.convert_form(FormKind::Merge, version, &view),
            Action::Quantize if base => self.convert_form(FormKind::Quantize, version, &view),
            Action::Export => self.export_form(version),
            Action::Copy => desk.copy(reference),
            Action::Delete => {
                let title = view.fill("ask.trash", &[("version", &reference)]);
                let request = Request::Trash { version: reference };
                let wish = Wish::Ask { errand: Errand::Act(Deed::Trash), request };
                desk.push(Layer::ask(title, vec![view.t("ask.trash_body").to_owned()], "ask.trash_it", vec![wish]));
            }
            _ => return false,
        }
        true
    }

    fn trash_verb(&mut self, action: Action, version: &VersionView, desk: &mut Desk<'_>) -> bool {
        let reference = version.reference.clone();
        match action {
            Action::Undo => desk.ask(Errand::Act(Deed::Restore), Request::Restore { version: reference }),
            Action::Delete => {
                let view = &desk.view;
                let title = view.fill("ask.purge", &[("version", &reference)]);
                let item = self.trash.get().and_then(|items| items.iter().find(|item| item.version == reference));
                let frees = item.map_or_else(String::new, |item| {
                    view.fill("ask.purge_frees", &[("bytes", &number::bytes(item.frees_bytes))])
                });
                let body = vec![view.t("ask.purge_body").to_owned(), frees];
                let request = Request::Purge { versions: vec![reference.clone()] };
                let wish = Wish::Ask { errand: Errand::Act(Deed::Purge), request };
                desk.push(Layer::ask_name(title, body, reference, vec![wish]));
            }
            _ => return false,
        }
        true
    }
}

/// An alias on a version that was on another one before.
fn rolls_back<'a>(view: &View<'a>, version: &VersionView) -> Option<(&'a ModelView, &'a Alias)> {
    let model = view.mirror.models().iter().find(|model| model.record.id == version.record.model)?;
    let is_on = |alias: &&Alias| alias.version == version.record.id && alias.previous.is_some();
    Some((model, model.record.aliases.iter().find(is_on)?))
}

impl Screen for Models {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        if let Some((kind, _)) = &self.form {
            return vec![view.t(kind.title()).to_owned()];
        }
        let shelf = Some(self.shelf).filter(|shelf| *shelf != Shelf::All);
        let shelf = shelf.map(|shelf| view.t(SHELVES[shelf as usize].1).to_owned());
        let read = self.list.key().filter(|_| self.reading).map(str::to_owned);
        shelf.into_iter().chain(read).collect()
    }

    fn context(&self) -> Context {
        let typing = self.form.as_ref().is_some_and(|(_, f)| f.is_editing()) || self.list.filtering;
        if typing { Context::Field } else { Context::Browse }
    }

    fn takes_digits(&self) -> bool {
        self.form.as_ref().is_some_and(|(_, f)| f.takes_digits())
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        if self.form.is_some() {
            return form_offers("form.go");
        }
        let mut offers = Vec::new();
        if let Some(version) = self.version(view) {
            if self.reading {
                offers.push(offer(Action::Down, "hint_row.scroll"));
                offers.push(offer(Action::Out, "act.out"));
            } else {
                offers.push(offer(Action::Enter, "models.read"));
            }
            match version.record.is_live() {
                true => offers.extend(self.offers_of(view, version)),
                false => {
                    offers.push(offer(Action::Undo, "models.restore"));
                    offers.push(offer(Action::Delete, "models.purge"));
                }
            }
        }
        offers.push(offer(Action::New, "models.import"));
        if !view.mirror.models().is_empty() {
            offers.push(offer(Action::NextTab, "models.next_shelf"));
            offers.push(offer(Action::PreviousTab, "models.shelf_before"));
            offers.push(offer(Action::Filter, "hint_row.filter"));
        }
        offers
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        if let Some((_, form)) = &mut self.form {
            match action {
                Action::Out => self.form = None,
                action => match form.act(action, &desk.view) {
                    FormReply::No => return false,
                    FormReply::Start => self.submit(desk),
                    FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                    _ => {}
                },
            }
            return true;
        }
        if self.reading {
            match action {
                Action::Up => self.scroll = self.scroll.saturating_sub(1),
                Action::Down => self.scroll += 1,
                Action::PageUp => self.scroll = self.scroll.saturating_sub(PAGE_ROWS),
                Action::PageDown => self.scroll += PAGE_ROWS,
                Action::First => self.scroll = 0,
                // The page knows where it ends.
                Action::Last => self.scroll = usize::MAX / 2,
                Action::Out | Action::Enter => self.reading = false,
                Action::Filter => {
                    self.reading = false;
                    let rows = self.rows(&desk.view);
                    return self.list.act(action, &rows);
                }
                _ => return self.verb(action, desk),
            }
            return true;
        }
        let rows = self.rows(&desk.view);
        if self.list.act(action, &rows) {
            self.scroll = 0;
            return true;
        }
        self.verb(action, desk)
    }

    fn key(&mut self, key: KeyEvent, _: &mut Desk<'_>) {
        match &mut self.form {
            Some((_, form)) => {
                form.key(key);
            }
            None => self.list.type_key(key),
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        match &mut self.form {
            Some((_, form)) if form.is_editing() => form.paste(text),
            _ => return false,
        }
        true
    }

    fn open(&mut self, place: Place, desk: &mut Desk<'_>) {
        match place {
            Place::ImportModel(path) => self.import_form(&path),
            Place::Register(run) => self.register_form(run, desk),
            Place::Model(name) => {
                self.form = None;
                self.shelf = Shelf::All;
                self.list.clear_filter();
                self.list.select(name);
            }
            _ => {}
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        let view = desk.view;
        if view.away || self.form.is_some() {
            return;
        }
        let mirror = view.mirror;
        if self.shelf == Shelf::Trash {
            let put_away = mirror.models().iter().flat_map(|m| &m.versions).filter(|v| !v.record.is_live());
            let stamp = put_away.map(|v| 1 + u64::from(v.record.is_removed())).sum();
            if !self.trash.is_waiting() && self.trash.want(stamp) {
                desk.ask(Errand::Trash, Request::TrashList);
            }
        }
        let Some(version) = self.version(&view) else { return };
        // More may be told once a job came or ended, or the version is used in another way.
        let ended = mirror.jobs().iter().filter(|job| job.record.ended_at_ms.is_some()).count();
        let used = version.services.len() + usize::from(!version.record.is_live());
        let stamp = (mirror.jobs().len() + ended + used) as u64;
        if !self.history.is_waiting() && self.history.want((version.reference.clone(), stamp)) {
            desk.ask(Errand::History, Request::History { model: version.reference.clone() });
        }
    }

    fn forget(&mut self) {
        self.history.forget();
        self.trash.forget();
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (errand, answer) {
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) => {
                self.form = None;
                desk.open(Place::Job(job.record.id));
            }
            (Errand::Act(Deed::Alias), Ok(_)) => self.form = None,
            (Errand::Act(Deed::Trash | Deed::Restore | Deed::Purge), Ok(_)) => self.reading = false,
            (Errand::History, Ok(Answer::History(entries))) => self.history.take(entries),
            (Errand::History, Err(failure)) => self.history.fail(desk.view.failure(&failure)),
            (Errand::Trash, Ok(Answer::Trash(items))) => self.trash.take(items),
            (Errand::Trash, Err(failure)) => self.trash.fail(desk.view.failure(&failure)),
            (Errand::Kept, Ok(Answer::Checkpoints(kept))) => self.take_kept(&kept, &desk.view),
            (Errand::Kept, Err(failure)) => {
                if let Some((_, form)) = &mut self.form {
                    form.remote.insert("step".into(), desk.view.failure(&failure));
                }
            }
            (Errand::Act(_), Err(failure)) => {
                if let Some((_, form)) = &mut self.form {
                    form.remote.insert(failure.place.clone(), desk.view.failure(&failure));
                    form.focus_on(&failure.place);
                }
            }
            _ => {}
        }
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if let Some((_, form)) = &mut self.form {
            let mut more = Page::new();
            more.blank().text(view.t("form.r_goes"), Token::Accent);
            return form.draw(canvas, area, view, more);
        }
        let rows = self.rows(view);
        if rows.is_empty() && view.mirror.models().is_empty() {
            return draw_empty(canvas, area, view.t("models.empty"));
        }
        draw_tabs(canvas, area, view, &SHELVES.map(|(_, key)| key), self.shelf as usize);
        let area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        if rows.is_empty() && !self.list.is_filtered() {
            let said = if self.shelf == Shelf::Trash { "models.trash_empty" } else { "models.shelf_empty" };
            return draw_empty(canvas, area, view.t(said));
        }
        let page = self.reader(view);
        let wide = view.class >= Class::M;
        if self.reading && !wide {
            page.draw(canvas, Rect { x: area.x + 1, width: area.width - 2, ..area }, &mut self.scroll);
            return;
        }
        let panes = panes(canvas, area, view, 12, true);
        let columns = [
            column(view.t("col.name"), 0),
            column(view.t("col.size"), 7).right(),
            column(view.t("col.kind"), 9),
            column(view.t("col.parameters"), 6).right().from(66),
            column(view.t("col.here"), 18),
            column(view.t("col.made"), 10).from(84),
        ];
        self.list.draw(canvas, panes.list, &columns, &rows, !self.reading);
        if let Some(reader) = panes.reader {
            page.draw(canvas, reader, &mut self.scroll);
            if self.reading {
                canvas.cursor_at(reader.x, reader.y);
            }
        }
        if let Some(context) = panes.context {
            self.family(view).draw_top(canvas, context);
        }
    }
}

/// The keys of every form but the training form's.
pub(super) fn form_offers(go: &'static str) -> Vec<Offer> {
    vec![
        offer(Action::Run, go),
        offer(Action::Down, "form.field"),
        offer(Action::Left, "form.step"),
        offer(Action::Right, "form.step"),
        offer(Action::Enter, "form.edit"),
        offer(Action::Delete, "form.default"),
        offer(Action::Undo, "form.undo"),
        offer(Action::Out, "act.out"),
    ]
}
