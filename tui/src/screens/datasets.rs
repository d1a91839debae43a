//! Datasets: the list with what an import kept and rejected, a window of rows, one row as a model sees it, and the
//! import form; below `datasets/` recipes, what their steps did, and facts. Never here: more rows than are shown.

mod arriving;
mod facts;
mod ledger;
#[cfg(test)]
mod pictures;
#[cfg(test)]
mod pictures_rows;
#[cfg(test)]
mod pictures_standards;
mod rows;
mod search;
mod shelves;
mod standard_forms;
mod steps;
mod through;

use crossterm::event::KeyEvent;
use hone_protocol::dataset::{DatasetView, ImportPreview, ImportReport, RenderedRow, Row as DataRow, Shape, Split};
use hone_protocol::failure::Failure;
use hone_protocol::form::FieldKind;
use hone_protocol::job::{FactsSpec, JobSpec};
use hone_protocol::note::NoteKind;
use hone_protocol::preset;
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use self::arriving::ArrivingKey;
use self::search::Search;
use self::shelves::{Shelves, TABS};
use super::models::{as_name, form_offers};
use super::panes::{draw_empty, draw_tabs, panes};
use super::window::Window;
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::draft::SPLIT_SEED;
use crate::keymap::Context;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::form::{Form, FormField, FormReply, Rule, Stride};
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;

/// Rows in one window: three screens.
const WINDOW: u32 = 150;
/// The preset that comes with hone.
pub(super) const PRESET: &str = "support-desk";
/// All presets, as words of the form.
const PRESETS: &[&str] = &{
    let mut names = [""; preset::PRESETS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = preset::PRESETS[at].name;
        at += 1;
    }
    names
};
const SOURCES: &[&str] = &["preset", "file", "hub"];
const FORMATS: &[&str] = &[
    "detect",
    "openai",
    "sharegpt",
    "alpaca",
    "preference",
    "text",
    "completion",
    "ranked",
    "prompt",
    "qianfan",
    "qianfan-ranked",
];

#[derive(Default, PartialEq, Eq)]
enum Level {
    #[default]
    List,
    Rows,
    OneRow,
    Form,
    /// The form that sends a dataset through a service.
    Through,
    /// The editor of a recipe.
    Steps,
    /// What the steps of a recipe did.
    Ledger,
    /// Facts of the newest version.
    Facts,
}

/// Version, first row and what was looked for.
type RowsKey = (String, u64, String);
/// Rows, how many there are in all, and the index of the first of these.
type RowsHeld = (Vec<DataRow>, u64, u64);
type RenderKey = (String, u64, String);

/// The area.
#[derive(Default)]
pub(crate) struct Datasets {
    list: Listing,
    level: Level,
    form: Form,
    rows: Window<RowsKey, RowsHeld>,
    search: Search,
    arriving: Window<ArrivingKey, ImportPreview>,
    at: u64,
    rendered: Window<RenderKey, RenderedRow>,
    base: usize,
    scroll: usize,
    editor: steps::Editor,
    ledger: ledger::Ledger,
    shelves: Shelves,
}

fn list_rows(view: &View<'_>) -> Vec<Row> {
    let row = |d: &DatasetView| Row {
        key: d.record.name.clone(),
        cells: vec![
            piece(cell(&d.record.name), Token::Text),
            piece(view.t(shape(d.record.shape)), Token::Muted),
            piece(d.newest().map_or_else(String::new, |v| number::grouped(v.rows)), Token::Text),
            piece(d.newest().map_or_else(String::new, |v| format!("@{}", v.number)), Token::Muted),
            piece(number::ago(view.language, view.now_ms, d.record.created_at_ms), Token::Muted),
        ],
    };
    view.mirror.datasets().iter().filter(|d| d.newest().is_some()).map(row).collect()
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Chat => "shape.chat",
        Shape::Preference => "shape.preference",
        Shape::Text => "shape.text",
        Shape::Prompt => "shape.prompt",
    }
}

/// What an import read, kept and rejected.
pub(super) fn report_facts(view: &View<'_>, report: &ImportReport, page: &mut Page) {
    page.heading(view.t("datasets.import_report"));
    page.fact(view.t("datasets.source"), cell(&report.source));
    page.fact(view.t("datasets.format"), cell(&report.format));
    let sum = [("read", report.read), ("kept", report.kept), ("rejected", report.rejected)];
    let sum: Vec<(&str, String)> = sum.iter().map(|(k, v)| (*k, number::grouped(*v))).collect();
    let args: Vec<(&str, &str)> = sum.iter().map(|(k, v)| (*k, v.as_str())).collect();
    page.fact(view.t("word.row"), view.fill("datasets.sum", &args));
    if report.duplicates > 0 {
        page.fact(view.t("datasets.duplicates"), number::grouped(report.duplicates));
    }
    for rejection in report.rejections.iter().take(8) {
        let line = rejection.line.to_string();
        let field = if rejection.field.is_empty() { String::new() } else { format!(" {}", cell(&rejection.field)) };
        let said = view
            .fill("datasets.rejection", &[("line", &line), ("field", &field), ("reason", &cell(&rejection.reason))]);
        page.text(format!("! {said}"), Token::Warn);
    }
    let more = report.rejected.saturating_sub(8);
    if more > 0 {
        page.text(view.fill("datasets.more_rejections", &[("n", &number::grouped(more))]), Token::Muted);
    }
}

impl Datasets {
    fn selected<'a>(&mut self, view: &View<'a>) -> Option<&'a DatasetView> {
        let rows = self.list.passing(list_rows(view));
        let key = self.list.selected(&rows)?;
        view.mirror.datasets().iter().find(|d| d.record.name == key)
    }

    fn import_form(&mut self, path: &str) {
        let file = std::path::Path::new(path).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let (source, name) = match path.is_empty() {
            true => (SOURCES[0], PRESET.to_owned()),
            false => (SOURCES[1], as_name(file)),
        };
        let section = "datasets.import";
        self.form = Form::new(vec![
            FormField::text("source", section, "field.source", "field.data_source.about").of(
                FieldKind::Choice(SOURCES),
                Stride::Add(1.0),
                source,
            ),
            FormField::text("preset", section, "field.preset", "field.data_preset.about").of(
                FieldKind::Choice(PRESETS),
                Stride::Add(1.0),
                PRESET,
            ),
            FormField::text("path", section, "field.path", "field.data_path.about").filled(path, Vec::new()),
            FormField::text("format", section, "field.format", "field.format.about").of(
                FieldKind::Choice(FORMATS),
                Stride::Add(1.0),
                FORMATS[0],
            ),
            FormField::text("map", section, "field.map", "field.data_map.about"),
            FormField::text("name", section, "field.name", "field.data_name.about")
                .rule(Rule::Name)
                .filled(name, Vec::new()),
        ]);
        self.arriving.forget();
        self.level = Level::Form;
    }

    fn submit(&mut self, desk: &mut Desk<'_>) {
        if self.level == Level::Through {
            let spec = through::spec(&self.form);
            return desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
        }
        let Some(source) = self.row_source() else {
            let needed = if self.form.value("source") == SOURCES[2] { "form.rows_repository" } else { "form.absolute" };
            self.form.remote.insert("path".into(), desk.view.t(needed).to_owned());
            self.form.focus_on("path");
            return;
        };
        let format = self.row_format();
        let spec = JobSpec::ImportDataset { source, name: self.form.value("name").to_owned(), format };
        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
    }

    /// The versions whose template a row can be rendered with.
    fn renderers(view: &View<'_>) -> Vec<String> {
        view.mirror.bases().filter(|v| v.record.facts.has_chat_template).map(|v| v.reference.clone()).collect()
    }

    fn current_row(&self) -> Option<&DataRow> {
        let (rows, _, from) = self.rows.get()?;
        rows.get(self.at.checked_sub(*from)? as usize)
    }

    /// First row of the window around the selection.
    fn window_start(&self) -> u64 {
        let step = u64::from(WINDOW) / 3;
        (self.at / step).saturating_sub(1) * step
    }

    fn total(&self) -> u64 {
        self.rows.get().map_or(0, |(_, total, _)| *total)
    }

    fn act_on_rows(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let last = self.total().saturating_sub(1);
        let one = self.level == Level::OneRow;
        match action {
            Action::Up if one => self.scroll = self.scroll.saturating_sub(1),
            Action::Down if one => self.scroll += 1,
            Action::Left if one => self.at = self.at.saturating_sub(1),
            Action::Right if one => self.at = (self.at + 1).min(last),
            Action::Up => self.at = self.at.saturating_sub(1),
            Action::Down => self.at = (self.at + 1).min(last),
            Action::PageUp => self.at = self.at.saturating_sub(20),
            Action::PageDown => self.at = (self.at + 20).min(last),
            Action::First => self.at = 0,
            Action::Last => self.at = last,
            Action::Enter if !one && self.total() > 0 => {
                self.level = Level::OneRow;
                self.scroll = 0;
            }
            Action::Enter => return one,
            Action::Edit if one => self.base += 1,
            Action::Copy => match self.current_row() {
                Some(row) => desk.copy(row.original.as_str().to_owned()),
                None => return false,
            },
            Action::Filter if !one => self.search.typing = true,
            Action::Out if !one && !self.search.text.is_empty() => {
                self.search.clear();
                self.at = 0;
            }
            Action::Out => self.level = if one { Level::Rows } else { Level::List },
            _ => return false,
        }
        true
    }

    fn facts(&mut self, view: &View<'_>, dataset: &DatasetView) -> Page {
        let mut page = Page::new();
        page.heading(cell(&dataset.record.name));
        if !dataset.record.title.is_empty() {
            page.text(cell(&dataset.record.title), Token::Text);
        }
        page.blank();
        page.fact(view.t("datasets.shape"), view.t(shape(dataset.record.shape)));
        let licence = match dataset.record.licence.as_str() {
            "" => view.t("models.licence_unknown"),
            known => known,
        };
        page.fact(view.t("models.licence"), cell(licence));
        page.fact(view.t("models.made_by"), cell(&dataset.record.created_by));
        for version in dataset.versions.iter().rev().filter(|version| version.is_live()).take(3) {
            let rows = view.fill("datasets.rows", &[("n", &number::grouped(version.rows))]);
            let ago = number::ago(view.language, view.now_ms, version.created_at_ms);
            page.fact(&format!("@{}", version.number), format!("{rows}  {ago}"));
        }
        if let Some(version) = dataset.newest() {
            let split = Split { held_out_percent: 15, seed: SPLIT_SEED };
            page.fact(
                view.t("datasets.split"),
                view.fill("datasets.split_of", &[("p", &split.held_out_percent.to_string())]),
            );
            page.blank();
            report_facts(view, &version.import, &mut page);
        }
        page
    }
}

impl Screen for Datasets {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        if self.shelves.is_shown() {
            return self.shelves.trail(view);
        }
        let name = self.rows_key().map(|(name, ..)| name).unwrap_or_default();
        match self.level {
            Level::List => Vec::new(),
            Level::Rows => vec![name],
            Level::OneRow => vec![name, self.current_row().map(|r| format!("#{}", r.row_id)).unwrap_or_default()],
            Level::Form => vec![view.t("datasets.import").to_owned()],
            Level::Through => vec![view.t("datasets.through").to_owned()],
            Level::Steps => self.editor.trail(view),
            Level::Ledger => self.ledger.trail(view),
            Level::Facts => {
                vec![self.list.key().unwrap_or_default().to_owned(), view.t("datasets.facts").to_owned()]
            }
        }
    }

    fn context(&self) -> Context {
        let typing = match self.level {
            _ if self.shelves.is_shown() => self.shelves.is_typing(),
            Level::Form | Level::Through => self.form.is_editing(),
            Level::List => self.list.filtering,
            Level::Rows => self.search.typing,
            Level::Steps => self.editor.is_typing(),
            _ => false,
        };
        if typing { Context::Field } else { Context::Browse }
    }

    fn takes_digits(&self) -> bool {
        match self.level {
            Level::Steps => self.editor.takes_digits(),
            _ => self.shelves.takes_digits() || self.in_form() && self.form.takes_digits(),
        }
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        if self.shelves.is_shown() {
            return self.shelves.offers(view);
        }
        match self.level {
            Level::Form | Level::Through => form_offers("form.go"),
            Level::Steps => self.editor.offers(view),
            Level::Ledger => self.ledger.offers(),
            Level::Facts => vec![
                offer(Action::Run, "datasets.find_facts"),
                offer(Action::Down, "hint_row.scroll"),
                offer(Action::Out, "act.out"),
            ],
            Level::Rows => {
                let mut offers = vec![offer(Action::Down, "hint_row.choose"), offer(Action::Out, "act.out")];
                if self.current_row().is_some() {
                    offers.insert(0, offer(Action::Enter, "datasets.whole_row"));
                    offers.insert(2, offer(Action::Copy, "datasets.copy_row"));
                }
                offers.push(offer(Action::Filter, "datasets.search"));
                offers
            }
            Level::OneRow => {
                let mut offers = vec![
                    offer(Action::Left, "datasets.next_row"),
                    offer(Action::Right, "datasets.next_row"),
                    offer(Action::Down, "hint_row.scroll"),
                    offer(Action::Out, "act.out"),
                ];
                if self.current_row().is_some() {
                    offers.insert(3, offer(Action::Copy, "datasets.copy_row"));
                }
                if Self::renderers(view).len() > 1 {
                    offers.insert(3, offer(Action::Edit, "datasets.other_model"));
                }
                offers
            }
            Level::List => {
                let mut offers = Vec::new();
                if self.selected(view).is_some() {
                    offers.push(offer(Action::Enter, "datasets.rows_of"));
                    offers.push(offer(Action::Run, "datasets.train_on"));
                    offers.push(offer(Action::Label, "labelling.label"));
                    offers.push(offer(Action::Edit, "datasets.steps"));
                    offers.push(offer(Action::Inspect, "datasets.facts"));
                    if self.selected(view).is_some_and(|d| d.versions.iter().any(|v| v.processed.is_some())) {
                        offers.push(offer(Action::Log, "datasets.ledger"));
                    }
                    if !view.mirror.services().is_empty() {
                        offers.push(offer(Action::Try, "datasets.through"));
                    }
                    offers.push(offer(Action::Copy, "models.copy_name"));
                }
                offers.push(offer(Action::New, "datasets.import"));
                offers.push(offer(Action::NextTab, "act.next_tab"));
                if !view.mirror.datasets().is_empty() {
                    offers.push(offer(Action::Filter, "hint_row.filter"));
                }
                offers
            }
        }
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let turns = self.level == Level::List && !(self.shelves.is_shown() && self.shelves.is_inside());
        if turns && matches!(action, Action::NextTab | Action::PreviousTab) {
            self.shelves.turn(action == Action::NextTab);
            return true;
        }
        if self.shelves.is_shown() {
            return self.shelves.act(action, desk);
        }
        match self.level {
            Level::Form | Level::Through => match action {
                Action::Out => self.level = Level::List,
                action => match self.form.act(action, &desk.view) {
                    FormReply::No => return false,
                    FormReply::Start => self.submit(desk),
                    FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                    _ => {}
                },
            },
            Level::Rows | Level::OneRow => return self.act_on_rows(action, desk),
            Level::Steps | Level::Ledger => {
                let meant = match self.level {
                    Level::Steps => self.editor.act(action, desk),
                    _ => self.ledger.act(action, desk),
                };
                if meant.is_none() {
                    self.level = Level::List;
                }
                return meant.unwrap_or(true);
            }
            Level::Facts => match (action, self.list.key().map(str::to_owned)) {
                (Action::Out, _) => self.level = Level::List,
                (Action::Up, _) => self.scroll = self.scroll.saturating_sub(1),
                (Action::Down, _) => self.scroll += 1,
                (Action::Run, Some(dataset)) => {
                    let model = desk.view.mirror.bases().next().map(|version| version.reference.clone());
                    let spec = JobSpec::Facts(FactsSpec { dataset, model });
                    desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
                }
                _ => return false,
            },
            Level::List => {
                let rows = self.list.passing(list_rows(&desk.view));
                if self.list.act(action, &rows) {
                    return true;
                }
                match (action, self.selected(&desk.view)) {
                    (Action::New, _) | (Action::Enter, None) => self.import_form(""),
                    (Action::Out, _) if self.list.is_filtered() => self.list.clear_filter(),
                    (Action::Enter, Some(_)) => {
                        self.level = Level::Rows;
                        self.search = Search::default();
                        self.at = 0;
                    }
                    (Action::Label, Some(d)) => desk.open(Place::NewProject(d.record.name.clone())),
                    (Action::Run, Some(d)) => {
                        desk.open(Place::NewRun { base: String::new(), dataset: d.record.name.clone() });
                    }
                    (Action::Copy, Some(d)) => desk.copy(d.record.name.clone()),
                    (Action::Edit, Some(d)) => {
                        self.editor.open(d);
                        self.level = Level::Steps;
                    }
                    (Action::Inspect, Some(_)) => (self.level, self.scroll) = (Level::Facts, 0),
                    (Action::Log, Some(d)) if self.ledger.open(d) => self.level = Level::Ledger,
                    (Action::Try, Some(d)) if !desk.view.mirror.services().is_empty() => {
                        self.form = through::form(&desk.view, &d.record.name);
                        self.level = Level::Through;
                    }
                    _ => return false,
                }
            }
        }
        true
    }

    fn key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        if self.shelves.is_shown() {
            return self.shelves.key(key);
        }
        match self.level {
            Level::Steps => self.editor.key(key, desk),
            Level::Form | Level::Through => {
                self.form.key(key);
            }
            Level::Rows if self.search.typing => {
                if self.search.key(key) {
                    self.at = 0;
                }
            }
            _ => self.list.type_key(key),
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        if self.shelves.is_shown() {
            return self.shelves.paste(text);
        }
        if self.level == Level::Steps {
            return self.editor.paste(text);
        }
        let typing = self.in_form() && self.form.is_editing();
        if typing {
            self.form.paste(text);
        }
        typing
    }

    fn open(&mut self, place: Place, _: &mut Desk<'_>) {
        self.shelves.leave();
        match place {
            Place::ImportDataset(path) => self.import_form(&path),
            Place::Dataset(name) => {
                self.level = Level::List;
                self.list.clear_filter();
                self.list.select(name);
            }
            _ => {}
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        if self.shelves.is_shown() {
            return self.shelves.needs(desk);
        }
        match self.level {
            Level::Form => self.want_arriving(desk),
            Level::Steps => return self.editor.needs(desk),
            Level::Ledger => return self.ledger.needs(desk),
            _ => {}
        }
        let Some(dataset) = self.selected(&desk.view) else { return };
        // The third pane shows the first rows of the selected one.
        let previews = self.level == Level::List && desk.view.class == Class::Xl;
        let reads = matches!(self.level, Level::Rows | Level::OneRow);
        if !(previews || reads) || desk.view.away {
            return;
        }
        let Some(version) = dataset.newest() else { return };
        let name = format!("{}@{}", dataset.record.name, version.number);
        let offset = if previews { 0 } else { self.window_start() };
        let all = Search::default();
        let search = if previews { &all } else { &self.search };
        if self.rows.want((name.clone(), offset, search.text.clone())) {
            desk.ask(Errand::Rows, search.request(name.clone(), offset));
        }
        let renderers = Self::renderers(&desk.view);
        let version = renderers.get(self.base % renderers.len().max(1)).cloned();
        let fits = self.rows.get_if(|(n, o, _)| *n == name && *o == offset).is_some();
        let row_id = self.current_row().map(|r| r.row_id).filter(|_| fits && self.level == Level::OneRow);
        if let (Some(row_id), Some(version)) = (row_id, version)
            && self.rendered.want((name.clone(), row_id, version.clone()))
        {
            desk.ask(Errand::Rendered, Request::RenderRow { dataset: name, row_id, version });
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        let answer = match self.shelves.is_shown() {
            true => match self.shelves.answer(errand, answer, desk) {
                Some(answer) => answer,
                None => return,
            },
            false => answer,
        };
        match (errand, answer) {
            (Errand::Rows, Ok(Answer::Rows { rows, total })) => {
                let offset = self.rows.asked().map_or(0, |(_, offset, _)| *offset);
                self.rows.take((rows, total, offset));
            }
            (Errand::Rows, Err(failure)) => self.rows.fail(desk.view.failure(&failure)),
            (Errand::Arriving, Ok(Answer::ImportPreview(made))) => self.arriving.take(*made),
            (Errand::Arriving, Err(failure)) => self.arriving.fail(desk.view.failure(&failure)),
            (Errand::Rendered, Ok(Answer::Rendered(row))) => self.rendered.take(row),
            (Errand::Rendered, Err(failure)) => self.rendered.fail(desk.view.failure(&failure)),
            (Errand::Notes(NoteKind::Recipe), Ok(Answer::Notes(heads))) => self.editor.know_saved(heads),
            (Errand::Note(NoteKind::Recipe), Ok(Answer::Note(note))) => self.editor.take_saved(*note, desk),
            (Errand::Note(NoteKind::Recipe), Err(failure)) => desk.warn(desk.view.failure(&failure)),
            (Errand::Preview, Ok(Answer::RecipePreview(preview))) => self.editor.previewed(Ok(preview)),
            (Errand::Preview, Err(failure)) => self.editor.previewed(Err(desk.view.failure(&failure))),
            (Errand::StepLedger, Ok(Answer::RecipeLedger { entries, total })) => {
                self.ledger.paged(Ok((entries, total)));
            }
            (Errand::StepLedger, Err(failure)) => self.ledger.paged(Err(desk.view.failure(&failure))),
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) => {
                self.level = Level::List;
                self.editor.submitted();
                self.ledger.submitted();
                desk.open(Place::Job(job.record.id));
            }
            (Errand::Act(_), Err(failure)) if self.level == Level::Steps => {
                self.editor.refused(&failure.place, desk.view.failure(&failure), desk);
            }
            (Errand::Act(_), Err(failure)) if matches!(self.level, Level::Ledger | Level::Facts) => {
                desk.warn(desk.view.failure(&failure));
            }
            (Errand::Act(_), Err(failure)) => {
                self.form.remote.insert(failure.place.clone(), desk.view.failure(&failure));
                self.form.focus_on(&failure.place);
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.rows.forget();
        self.arriving.forget();
        self.rendered.forget();
        self.editor.forget();
        self.ledger.forget();
        self.shelves.forget();
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        if self.shelves.is_shown() {
            return self.shelves.draw(canvas, area, view);
        }
        match self.level {
            Level::Form | Level::Through => {
                let mut more = Page::new();
                more.blank().text(view.t("form.r_goes"), Token::Accent);
                if self.level == Level::Form {
                    more.append(self.arriving_page(view));
                }
                self.form.draw(canvas, area, view, more);
            }
            Level::Steps => self.editor.draw(canvas, area, view),
            Level::Ledger => self.ledger.draw(canvas, area, view),
            Level::Facts => {
                let Some(dataset) = self.selected(view) else { return };
                let page = facts::page(view, dataset);
                page.draw(canvas, Rect { x: area.x + 1, width: area.width - 2, ..area }, &mut self.scroll);
            }
            Level::Rows => self.draw_rows(canvas, area, view),
            Level::OneRow => self.draw_row(canvas, area, view),
            Level::List => {
                draw_tabs(canvas, Rect { height: 1, ..area }, view, &TABS, 0);
                let area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
                let rows = self.list.passing(list_rows(view));
                if rows.is_empty() && !self.list.is_filtered() {
                    return draw_empty(canvas, area, view.t("datasets.empty"));
                }
                let panes = panes(canvas, area, view, 10, true);
                let below = if view.class == Class::S { area.height * 3 / 5 } else { 0 };
                let columns = [
                    column(view.t("col.name"), 0),
                    column(view.t("col.shape"), 8),
                    column(view.t("col.rows"), 9).right(),
                    column(view.t("col.version"), 7),
                    column(view.t("col.made"), 10).from(60),
                ];
                let list = Rect { height: area.height - below, ..panes.list };
                self.list.draw(canvas, list, &columns, &rows, true);
                let Some(dataset) = self.selected(view) else { return };
                let page = self.facts(view, dataset);
                if let Some(reader) = panes.reader {
                    page.draw_top(canvas, reader);
                    if let Some(context) = panes.context {
                        self.preview(view, dataset).draw_top(canvas, context);
                    }
                } else if below > 0 {
                    canvas.rule(area, list.bottom(), true);
                    page.draw_top(
                        canvas,
                        Rect { x: 1, y: list.bottom() + 1, width: area.width - 2, height: below - 1 },
                    );
                }
            }
        }
    }
}

impl Datasets {
    fn in_form(&self) -> bool {
        matches!(self.level, Level::Form | Level::Through)
    }

    fn rows_key(&self) -> Option<RowsKey> {
        self.rows.asked().cloned()
    }
}
