//! The sub-tabs beside the list of datasets: standards, and all versions with what may be done with them. Here too: the forms that set a
//! standard and that let a service write rows to it, with what that may come to. Never here: rows, imports.

use crossterm::event::KeyEvent;
use hone_protocol::dataset::{DatasetDiff, DatasetVersionRecord, DatasetView, LineageEdge, Row as DataRow};
use hone_protocol::failure::Failure;
use hone_protocol::generation::{GenerateEstimate, RejectedCandidate};
use hone_protocol::job::JobSpec;
use hone_protocol::model::TRASH_KEPT_MS;
use hone_protocol::request::{Answer, ROWS_MAX, Request};
use hone_protocol::standard::{StandardRecord, StandardView};
use ratatui::layout::Rect;

use super::super::models::form_offers;
use super::super::panes::{draw_empty, draw_tabs, panes};
use super::super::window::Window;
use super::super::{Class, Deed, Desk, Errand, Place, View, Wish};
use super::standard_forms::{generate_form, generate_spec, standard_form, standard_spec};
use crate::action::{Action, Offer, offer};
use crate::layers::Layer;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::form::{Form, FormReply};
use crate::widgets::list::{Column, Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Standards are read again no more often than this.
const READ_MS: i64 = 5_000;
/// Differences that are shown at once.
const DIFF_ROWS: u32 = 200;
/// The names of the sub-tabs, the list of datasets first.
pub(super) const TABS: [&str; 3] = ["datasets.tab_datasets", "datasets.tab_standards", "datasets.tab_versions"];
const STANDARDS: usize = 1;
const VERSIONS: usize = 2;

#[derive(Default, PartialEq, Eq)]
enum Level {
    #[default]
    List,
    /// The form of a standard.
    Standard,
    /// The form of a generation.
    Generate,
    /// Candidates of the selected version that became no rows.
    Rejected,
    /// What differs from the version before.
    Diff,
}

/// The sub-tabs.
#[derive(Default)]
pub(super) struct Shelves {
    /// Which sub-tab is shown; 0 is the list of datasets.
    tab: usize,
    list: Listing,
    level: Level,
    form: Form,
    standards: Window<(i64, u64), Vec<StandardView>>,
    /// Raised with each change, so that it is read again.
    changes: u64,
    estimate: Window<String, GenerateEstimate>,
    rejected: Window<String, Vec<RejectedCandidate>>,
    diff: Window<(String, String), Box<DatasetDiff>>,
    lineage: Window<(String, u64), Vec<LineageEdge>>,
    scroll: usize,
}

/// A version with its dataset.
type Item<'v> = (&'v DatasetView, &'v DatasetVersionRecord);

fn reference((dataset, version): Item<'_>) -> String {
    format!("{}@{}", dataset.record.name, version.number)
}

/// All versions whose rows are there, newest first within each dataset.
fn items<'v>(view: &View<'v>) -> Vec<Item<'v>> {
    let of = |dataset: &'v DatasetView| {
        dataset.versions.iter().rev().filter(|v| !v.is_removed()).map(move |version| (dataset, version))
    };
    view.mirror.datasets().iter().flat_map(of).collect()
}

/// The version before one of the same dataset whose rows are there.
fn before<'v>((dataset, version): Item<'v>) -> Option<&'v DatasetVersionRecord> {
    let earlier = |other: &&DatasetVersionRecord| other.number < version.number && other.is_live();
    dataset.versions.iter().rfind(earlier).filter(|_| version.is_live())
}

fn diff_side(sign: &str, row: &DataRow, token: Token, page: &mut Page) {
    page.text(format!("{sign} #{}", row.row_id), token);
    for message in &row.messages {
        page.indented(format!("{}: {}", message.role, text::clean(&message.content)), Token::Muted, 2);
    }
}

fn state(version: &DatasetVersionRecord) -> (&'static str, Token) {
    match (version.is_live(), version.is_released()) {
        (false, _) => ("dataset.in_trash", Token::Warn),
        (true, false) => ("dataset.draft", Token::Waiting),
        (true, true) => ("dataset.released", Token::Ok),
    }
}

impl Shelves {
    /// Whether one of these is shown instead of the list of datasets.
    pub(super) fn is_shown(&self) -> bool {
        self.tab != 0
    }

    /// Goes to the next sub-tab, or the one before.
    pub(super) fn turn(&mut self, forward: bool) {
        self.tab = (self.tab + if forward { 1 } else { TABS.len() - 1 }) % TABS.len();
        self.list = Listing::default();
        self.level = Level::List;
    }

    /// Whether a form or a page of it is open.
    pub(super) fn is_inside(&self) -> bool {
        self.level != Level::List
    }

    /// Back to the list of datasets.
    pub(super) fn leave(&mut self) {
        (self.tab, self.level) = (0, Level::List);
    }

    /// Where the person is.
    pub(super) fn trail(&self, view: &View<'_>) -> Vec<String> {
        let tab = view.t(TABS[self.tab]).to_owned();
        match self.level {
            Level::List => vec![tab],
            Level::Standard => vec![tab, view.t("datasets.standard").to_owned()],
            Level::Generate => vec![tab, view.t("datasets.generate").to_owned()],
            Level::Rejected => vec![tab, view.t("datasets.rejected").to_owned()],
            Level::Diff => vec![tab, view.t("datasets.diff").to_owned()],
        }
    }

    fn in_form(&self) -> bool {
        matches!(self.level, Level::Standard | Level::Generate)
    }

    pub(super) fn is_typing(&self) -> bool {
        if self.in_form() { self.form.is_editing() } else { self.list.filtering }
    }

    pub(super) fn takes_digits(&self) -> bool {
        self.in_form() && self.form.takes_digits()
    }

    fn newest(&self) -> impl Iterator<Item = &StandardRecord> {
        self.standards.get().into_iter().flatten().filter_map(|standard| standard.versions.last())
    }

    fn standard(&mut self, view: &View<'_>) -> Option<StandardRecord> {
        let rows = self.list.passing(self.rows(view));
        let key = self.list.selected(&rows).filter(|_| self.tab == STANDARDS)?;
        self.newest().find(|standard| standard.name == key).cloned()
    }

    fn version<'v>(&mut self, view: &View<'v>) -> Option<Item<'v>> {
        let rows = self.list.passing(self.rows(view));
        let key = self.list.selected(&rows).filter(|_| self.tab == VERSIONS)?;
        items(view).into_iter().find(|item| reference(*item) == key)
    }

    fn rows(&self, view: &View<'_>) -> Vec<Row> {
        if self.tab == STANDARDS {
            let row = |standard: &StandardRecord| Row {
                key: standard.name.clone(),
                cells: vec![
                    piece(cell(&standard.reference()), Token::Text),
                    piece(view.t(super::shape(standard.spec.shape)), Token::Muted),
                    piece(cell(&standard.spec.title), Token::Muted),
                    piece(number::ago(view.language, view.now_ms, standard.created_at_ms), Token::Muted),
                ],
            };
            return self.newest().map(row).collect();
        }
        let row = |item: Item<'_>| {
            let (_, version) = item;
            let (word, token) = state(version);
            let made = version.generated.as_ref().map_or("", |made| made.standard.as_str());
            Row {
                key: reference(item),
                cells: vec![
                    piece(cell(&reference(item)), Token::Text),
                    piece(number::grouped(version.rows), Token::Text),
                    piece(view.t(word), token),
                    piece(cell(made), Token::Muted),
                    piece(number::ago(view.language, view.now_ms, version.created_at_ms), Token::Muted),
                ],
            }
        };
        items(view).into_iter().map(row).collect()
    }

    fn columns(&self, view: &View<'_>) -> Vec<Column> {
        let c = |key, cells| column(view.t(key), cells);
        match self.tab {
            STANDARDS => vec![c("col.name", 20), c("col.shape", 8), c("col.title", 0), c("col.made", 10).from(60)],
            _ => vec![
                c("col.version", 0),
                c("col.rows", 9).right(),
                c("col.state", 12),
                c("col.standard", 12).from(76),
                c("col.made", 10).from(64),
            ],
        }
    }

    pub(super) fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        if self.in_form() {
            return form_offers("form.go");
        }
        if matches!(self.level, Level::Rejected | Level::Diff) {
            return vec![offer(Action::Down, "hint_row.scroll"), offer(Action::Out, "act.out")];
        }
        let mut offers = Vec::new();
        if self.standard(view).is_some() {
            if !view.mirror.services().is_empty() {
                offers.push(offer(Action::Run, "datasets.generate"));
            }
            offers.push(offer(Action::Edit, "datasets.standard_edit"));
            offers.push(offer(Action::Delete, "datasets.standard_remove"));
        }
        if let Some(item) = self.version(view) {
            let (_, version) = item;
            if before(item).is_some() {
                offers.push(offer(Action::Compare, "datasets.diff"));
            }
            match version.is_live() {
                false => {
                    offers.push(offer(Action::Undo, "datasets.restore"));
                    offers.push(offer(Action::Delete, "datasets.purge"));
                }
                true => {
                    let key = if version.is_released() { "datasets.take_back" } else { "datasets.release" };
                    offers.push(offer(Action::Run, key));
                    offers.push(offer(Action::Delete, "datasets.trash"));
                }
            }
            if version.generated.is_some() {
                offers.push(offer(Action::Enter, "datasets.rejected"));
            }
        }
        if self.tab == STANDARDS {
            offers.push(offer(Action::New, "datasets.standard"));
        }
        offers.push(offer(Action::NextTab, "act.next_tab"));
        offers.push(offer(Action::Out, "act.out"));
        offers
    }

    pub(super) fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match self.level {
            Level::Standard | Level::Generate => match action {
                Action::Out => self.level = Level::List,
                action => match self.form.act(action, &desk.view) {
                    FormReply::No => return false,
                    FormReply::Start => self.submit(desk),
                    FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                    _ => {}
                },
            },
            Level::Rejected | Level::Diff => match action {
                Action::Out => self.level = Level::List,
                Action::Up => self.scroll = self.scroll.saturating_sub(1),
                Action::Down => self.scroll += 1,
                Action::PageUp => self.scroll = self.scroll.saturating_sub(20),
                Action::PageDown => self.scroll += 20,
                _ => return false,
            },
            Level::List => return self.act_on_list(action, desk),
        }
        true
    }

    fn act_on_list(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let rows = self.list.passing(self.rows(&desk.view));
        if self.list.act(action, &rows) {
            return true;
        }
        match action {
            Action::Out if self.list.is_filtered() => self.list.clear_filter(),
            Action::Out => self.leave(),
            Action::New if self.tab == STANDARDS => {
                self.form = standard_form(None);
                self.level = Level::Standard;
            }
            _ if self.tab == STANDARDS => return self.act_on_standard(action, desk),
            _ => return self.act_on_version(action, desk),
        }
        true
    }

    fn act_on_standard(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let Some(standard) = self.standard(&desk.view) else { return false };
        match action {
            Action::Enter | Action::Edit => {
                self.form = standard_form(Some(&standard));
                self.level = Level::Standard;
            }
            Action::Run if !desk.view.mirror.services().is_empty() => {
                self.form = generate_form(&desk.view, &standard);
                self.level = Level::Generate;
            }
            Action::Copy => desk.copy(standard.name),
            Action::Delete => {
                let title = desk.view.fill("ask.remove_standard", &[("name", &standard.name)]);
                let body = vec![desk.view.t("ask.remove_standard_body").to_owned()];
                let request = Request::RemoveStandard { name: standard.name };
                let wish = Wish::Ask { errand: Errand::Act(Deed::RemoveStandard), request };
                desk.push(Layer::ask(title, body, "datasets.standard_remove", vec![wish]));
            }
            _ => return false,
        }
        true
    }

    fn act_on_version(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let Some(item) = self.version(&desk.view) else { return false };
        let (name, version) = (reference(item), item.1);
        match action {
            Action::Enter if version.generated.is_some() => {
                self.level = Level::Rejected;
                self.scroll = 0;
            }
            Action::Compare if before(item).is_some() => {
                self.level = Level::Diff;
                self.scroll = 0;
            }
            Action::Copy => desk.copy(name),
            Action::Run if version.is_live() => {
                let released = !version.is_released();
                let deed = if released { Deed::Release } else { Deed::TakeBack };
                desk.ask(Errand::Act(deed), Request::ReleaseDataset { version: name, released });
            }
            Action::Undo if !version.is_live() => {
                desk.ask(Errand::Act(Deed::Restore), Request::RestoreDataset { dataset: name });
            }
            Action::Delete if version.is_live() => {
                let title = desk.view.fill("ask.trash_dataset", &[("version", &name)]);
                let body = vec![desk.view.t("ask.trash_dataset_body").to_owned()];
                let wish =
                    Wish::Ask { errand: Errand::Act(Deed::PutAway), request: Request::TrashDataset { dataset: name } };
                desk.push(Layer::ask(title, body, "datasets.trash", vec![wish]));
            }
            Action::Delete => {
                let title = desk.view.fill("ask.purge_dataset", &[("version", &name)]);
                let body = vec![desk.view.t("ask.purge_dataset_body").to_owned()];
                let request = Request::PurgeDatasets { versions: vec![name.clone()] };
                let wish = Wish::Ask { errand: Errand::Act(Deed::RemoveRows), request };
                desk.push(Layer::ask_name(title, body, name, vec![wish]));
            }
            _ => return false,
        }
        true
    }

    fn submit(&mut self, desk: &mut Desk<'_>) {
        if self.level == Level::Generate {
            let spec = JobSpec::Generate(Box::new(generate_spec(&self.form)));
            return desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
        }
        let name = self.form.value("name").to_owned();
        let before = self.newest().find(|standard| standard.name == name).map(|standard| standard.spec.clone());
        match standard_spec(&self.form, before) {
            Ok(spec) => {
                let request = Request::SetStandard { name, spec: Box::new(spec) };
                desk.ask(Errand::Act(Deed::Standard), request);
            }
            Err((field, word)) => {
                self.form.remote.insert(field.into(), desk.view.fill("datasets.not_understood", &[("word", &word)]));
                self.form.focus_on(field);
            }
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) {
        if self.in_form() {
            self.form.key(key);
        } else {
            self.list.type_key(key);
        }
    }

    pub(super) fn paste(&mut self, text: &str) -> bool {
        let typing = self.in_form() && self.form.is_editing();
        if typing {
            self.form.paste(text);
        }
        typing
    }

    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        if desk.view.away {
            return;
        }
        if !self.standards.is_waiting() && self.standards.want((desk.view.now_ms / READ_MS, self.changes)) {
            desk.ask(Errand::Standards, Request::Standards);
        }
        if self.level == Level::Generate && self.form.problems(&desk.view) == 0 {
            let spec = generate_spec(&self.form);
            if self.estimate.want(serde_json::to_string(&spec).unwrap_or_default()) {
                desk.ask(Errand::Estimate, Request::EstimateGenerate { spec: Box::new(spec) });
            }
        }
        if self.tab == VERSIONS
            && let Some(item) = self.version(&desk.view)
        {
            let dataset = reference(item);
            // Read again when there are other versions or jobs: a model may have been made of it.
            let facts = (desk.view.mirror.datasets().len() + desk.view.mirror.models().len()) as u64;
            if self.lineage.want((dataset.clone(), facts)) {
                desk.ask(Errand::Lineage, Request::DatasetLineage { dataset });
            }
        }
        if self.level == Level::Diff
            && let Some(item) = self.version(&desk.view)
            && let Some(earlier) = before(item)
        {
            let (before, after) = (reference((item.0, earlier)), reference(item));
            if self.diff.want((before.clone(), after.clone())) {
                desk.ask(Errand::Diff, Request::DiffDatasets { before, after, offset: 0, count: DIFF_ROWS });
            }
        }
        if self.level == Level::Rejected
            && let Some(item) = self.version(&desk.view)
            && let Some(job) = item.1.job
            && self.rejected.want(reference(item))
        {
            desk.ask(Errand::Rejected, Request::RejectedCandidates { job, from: 0, count: ROWS_MAX });
        }
    }

    /// Takes an answer; gives back what is none of these.
    pub(super) fn answer(
        &mut self,
        errand: Errand,
        answer: Result<Answer, Failure>,
        desk: &mut Desk<'_>,
    ) -> Option<Result<Answer, Failure>> {
        match (errand, answer) {
            (Errand::Standards, Ok(Answer::Standards(standards))) => self.standards.take(standards),
            (Errand::Standards, Err(failure)) => self.standards.fail(desk.view.failure(&failure)),
            (Errand::Estimate, Ok(Answer::Estimate(estimate))) => self.estimate.take(estimate),
            (Errand::Estimate, Err(failure)) => self.estimate.fail(desk.view.failure(&failure)),
            (Errand::Rejected, Ok(Answer::Rejected(rejected))) => self.rejected.take(rejected),
            (Errand::Rejected, Err(failure)) => self.rejected.fail(desk.view.failure(&failure)),
            (Errand::Diff, Ok(Answer::Diff(diff))) => self.diff.take(diff),
            (Errand::Diff, Err(failure)) => self.diff.fail(desk.view.failure(&failure)),
            (Errand::Lineage, Ok(Answer::Lineage(edges))) => self.lineage.take(edges),
            (Errand::Lineage, Err(failure)) => self.lineage.fail(desk.view.failure(&failure)),
            (Errand::Act(Deed::Standard | Deed::RemoveStandard), Ok(_)) => {
                self.changes += 1;
                self.level = Level::List;
            }
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) if self.level == Level::Generate => {
                self.level = Level::List;
                desk.open(Place::Job(job.record.id));
            }
            (Errand::Act(_), Err(failure)) if self.in_form() => {
                // A field of the daemon's is one of the form's by its first word.
                let place = failure.place.split(['.', '[']).nth(usize::from(failure.place.starts_with("checks.")));
                let place = place.unwrap_or_default().to_owned();
                self.form.remote.insert(place.clone(), desk.view.failure(&failure));
                self.form.focus_on(&place);
            }
            (_, answer) => return Some(answer),
        }
        None
    }

    pub(super) fn forget(&mut self) {
        self.standards.forget();
        self.estimate.forget();
        self.rejected.forget();
        self.diff.forget();
        self.lineage.forget();
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        match self.level {
            Level::Standard => {
                let mut more = Page::new();
                more.blank().text(view.t("datasets.standard_more"), Token::Muted);
                more.text(view.t("form.r_goes"), Token::Accent);
                self.form.draw(canvas, area, view, more);
            }
            Level::Generate => {
                let more = self.estimated(view);
                self.form.draw(canvas, area, view, more);
            }
            Level::Rejected | Level::Diff => {
                let page = if self.level == Level::Diff { self.differences(view) } else { self.candidates(view) };
                let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
                page.draw(canvas, inner, &mut self.scroll);
            }
            Level::List => self.draw_list(canvas, area, view),
        }
    }

    /// What the generation of the form may come to.
    fn estimated(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        page.blank().heading(view.t("datasets.estimate"));
        match (self.estimate.get_if(|asked| Some(asked) == self.estimate.asked()), &self.estimate.problem) {
            (_, Some(problem)) => page.text(format!("! {problem}"), Token::Warn),
            (None, None) => page.text(view.t("datasets.loading"), Token::Muted),
            (Some(estimate), None) => {
                page.text(crate::cli::generate::estimate_text(view.language, estimate), Token::Text)
            }
        };
        page.blank().text(view.t("form.r_goes"), Token::Accent);
        page
    }

    fn candidates(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        page.heading(view.t("datasets.rejected")).blank();
        let Some(candidates) = self.rejected.get_if(|asked| Some(asked) == self.rejected.asked()) else {
            let said = self.rejected.problem.clone().map(|problem| format!("! {problem}"));
            page.text(said.unwrap_or_else(|| view.t("datasets.loading").to_owned()), Token::Muted);
            return page;
        };
        if candidates.is_empty() {
            page.text(view.t("datasets.none_rejected"), Token::Muted);
        }
        for candidate in candidates {
            let reasons: Vec<String> = candidate.faults.iter().map(|f| format!("{}: {}", f.check, f.reason)).collect();
            page.text(format!("#{}  {}", candidate.number, text::clean(&reasons.join("; "))), Token::Warn);
            for message in &candidate.messages {
                page.indented(format!("{}: {}", message.role, text::clean(&message.content)), Token::Muted, 2);
            }
            page.blank();
        }
        page
    }

    fn differences(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        let Some(diff) = self.diff.get_if(|asked| Some(asked) == self.diff.asked()) else {
            let said = self.diff.problem.clone().map(|problem| format!("! {problem}"));
            page.text(said.unwrap_or_else(|| view.t("datasets.loading").to_owned()), Token::Muted);
            return page;
        };
        let numbers = [diff.added, diff.removed, diff.changed, diff.same].map(number::grouped);
        let args =
            [("added", &*numbers[0]), ("removed", &*numbers[1]), ("changed", &*numbers[2]), ("same", &*numbers[3])];
        page.heading(view.fill("cli.diff_sum", &args)).blank();
        for row in &diff.rows {
            let sides = [("-", &row.before, Token::Warn), ("+", &row.after, Token::Ok)];
            for (sign, side, token) in sides.into_iter().filter_map(|(s, side, t)| Some((s, side.as_ref()?, t))) {
                diff_side(sign, side, token, &mut page);
            }
            page.blank();
        }
        page
    }

    fn draw_list(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        draw_tabs(canvas, Rect { height: 1, ..area }, view, &TABS, self.tab);
        let area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let rows = self.list.passing(self.rows(view));
        if rows.is_empty() && !self.list.is_filtered() {
            let waits = self.tab == STANDARDS && self.standards.get().is_none();
            let said = match (&self.standards.problem, waits) {
                (Some(problem), true) => format!("! {problem}"),
                (None, true) => view.t("datasets.loading").to_owned(),
                _ if self.tab == STANDARDS => view.t("datasets.no_standards").to_owned(),
                _ => view.t("datasets.empty").to_owned(),
            };
            return draw_empty(canvas, area, &said);
        }
        let panes = panes(canvas, area, view, 10, false);
        let below = if view.class < Class::M { area.height / 2 } else { 0 };
        let list = Rect { height: panes.list.height - below, ..panes.list };
        let columns = self.columns(view);
        self.list.draw(canvas, list, &columns, &rows, true);
        let page = self.page(view);
        match panes.reader {
            Some(reader) => drop(page.draw_top(canvas, reader)),
            None => {
                canvas.rule(area, list.bottom(), true);
                let rest = Rect { x: area.x + 1, y: list.bottom() + 1, width: area.width - 2, height: below - 1 };
                page.draw_top(canvas, rest);
            }
        }
    }

    /// What is known of the selected thing.
    fn page(&mut self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        if let Some(standard) = self.standard(view) {
            standard_page(view, &standard, &mut page);
        }
        if let Some(item) = self.version(view) {
            version_page(view, item, &mut page);
            let name = reference(item);
            page.blank().heading(view.t("datasets.lineage"));
            match (self.lineage.get_if(|(of, _)| *of == name), &self.lineage.problem) {
                (Some(edges), _) => edges.iter().for_each(|edge| {
                    let how = view.wire(&format!("lineage.{}", edge.kind.word()));
                    page.text(text::clean(&format!("{} > {how} > {}", edge.from, edge.to)), Token::Muted);
                }),
                (None, Some(problem)) => drop(page.text(format!("! {problem}"), Token::Warn)),
                (None, None) => drop(page.text(view.t("datasets.loading"), Token::Muted)),
            }
            page.blank();
            super::report_facts(view, &item.1.import, &mut page);
        }
        page
    }
}

fn standard_page(view: &View<'_>, standard: &StandardRecord, page: &mut Page) {
    let spec = &standard.spec;
    page.heading(cell(&standard.reference()));
    if !spec.title.is_empty() {
        page.text(cell(&spec.title), Token::Text);
    }
    page.text(text::clean(&spec.about), Token::Muted).blank();
    page.fact(view.t("datasets.shape"), view.t(super::shape(spec.shape)));
    let bounds = [
        ("datasets.prompt_chars", spec.checks.prompt_chars),
        ("datasets.answer_chars", spec.checks.answer_chars),
        ("datasets.turns", spec.checks.turns),
    ];
    for (key, bounds) in bounds.into_iter().filter(|(_, bounds)| !bounds.is_open()) {
        page.fact(view.t(key), super::standard_forms::range(bounds));
    }
    let pii: Vec<&str> = spec.checks.pii.iter().map(|kind| kind.word()).collect();
    let texts = [
        ("datasets.must_match", spec.checks.must_match.join("  ")),
        ("datasets.must_not_match", spec.checks.must_not_match.join("  ")),
        ("datasets.language", spec.checks.language.clone()),
        ("datasets.pii", pii.join(" ")),
        ("datasets.similarity", spec.checks.similarity_max_percent.map_or(String::new(), |most| format!("{most} %"))),
        ("datasets.schema", spec.checks.schema().map_or(String::new(), |schema| schema.0.to_string())),
    ];
    for (key, said) in texts.into_iter().filter(|(_, said)| !said.is_empty()) {
        page.fact(view.t(key), text::clean(&said));
    }
    if !spec.criteria.is_empty() {
        page.blank().heading(view.t("datasets.rubric"));
    }
    for criterion in &spec.criteria {
        let said = format!("{} x{} 1-{}: {}", criterion.name, criterion.weight, criterion.scale, criterion.about);
        page.text(text::clean(&said), Token::Text);
    }
    if !spec.examples.is_empty() {
        page.blank().heading(view.t("datasets.examples"));
    }
    for example in &spec.examples {
        let (sign, token) = if example.good { ("+", Token::Ok) } else { ("-", Token::Warn) };
        page.text(format!("{sign} {}", text::clean(&example.reason)), token);
        for message in &example.messages {
            page.indented(format!("{}: {}", message.role, text::clean(&message.content)), Token::Muted, 2);
        }
    }
}

fn version_page(view: &View<'_>, item: Item<'_>, page: &mut Page) {
    let (_, version) = item;
    let (word, token) = state(version);
    page.heading(cell(&reference(item)));
    page.fact_as(view.t("col.state"), view.t(word), token);
    if let Some(hone_protocol::dataset::Release::Released { at_ms, by }) = &version.release {
        page.fact(
            view.t("datasets.released_by"),
            format!("{} ({})", cell(by), number::ago(view.language, view.now_ms, *at_ms)),
        );
    }
    if let Some(at) = version.trashed_at_ms {
        let left = number::duration(view.language, (at + TRASH_KEPT_MS - view.now_ms).max(0).unsigned_abs());
        page.text(view.fill("models.goes_in", &[("t", &left)]), Token::Warn);
    }
    page.fact(view.t("models.made_by"), cell(&version.created_by));
    if let Some(made) = &version.generated {
        page.blank().heading(view.t("datasets.made_to"));
        page.fact(view.t("word.standard"), cell(&made.standard));
        page.fact(view.t("datasets.method"), view.wire(&format!("method.{}", made.method)));
        page.fact(view.t("word.service"), format!("{} ({})", cell(&made.service), made.versions.join(", ")));
        page.fact(view.t("datasets.requests"), number::grouped(made.requests));
        if !made.ended.is_empty() {
            page.text(format!("! {}", text::clean(&made.ended)), Token::Warn);
        }
        page.text(view.t("datasets.never_held_out"), Token::Muted);
    }
}
