//! Labelling: projects, the desk where rows are judged one key each, rows judged together, and where persons disagree. Never here: which row
//! is whose (the daemon decides), formulas of agreement.

mod answers;
mod forms;
mod pages;
mod paint;
#[cfg(test)]
mod pictures;
mod settle;
mod span_paint;
mod spans;
mod typing;
mod work;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hone_protocol::dataset::{DatasetSource, RowFormat};
use hone_protocol::failure::Failure;
use hone_protocol::job::JobSpec;
use hone_protocol::labelling::{Agreement, Disputed, How, LabelAnswer, LabelRequest, LabelValue, ProjectView, Task};
use hone_protocol::request::{Answer, Request};
use ratatui::layout::Rect;

use super::models::form_offers;
use super::panes::{draw_empty, panes};
use super::window::Window;
use super::{Class, Deed, Desk, Errand, Place, Screen, View};
use crate::action::{Action, Offer, offer};
use crate::keymap::{Context, plain};
use crate::layers::{Layer, Sheet};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::composer::Composer;
use crate::widgets::form::{Form, FormReply};
use crate::widgets::line::TypedLine;
use crate::widgets::list::{Listing, Row, cell, column};
use crate::widgets::number;
use crate::widgets::text::one_line;

use answers::{Draft, Said, index_of, is_swapped};
use spans::Step;
use typing::Typing;
use work::Work;

/// Rows of disagreement that are asked for at once.
const DISPUTED: u32 = 200;
/// Cells of a guide.
const GUIDE_CELLS: usize = 72;

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Level {
    #[default]
    List,
    Form,
    /// One row after the other.
    Work,
    /// Rows that wait, as a list.
    Bulk,
    /// How far persons agree, and rows that they do not agree on.
    Agreement,
    /// One of those rows, to be settled.
    Settle,
}

/// The area.
#[derive(Default)]
pub(crate) struct Labelling {
    level: Level,
    list: Listing,
    form: Form,
    /// The project that the form changes; empty for a new one.
    changes: String,
    work: Option<Work>,
    typing: Option<Typing>,
    bulk: Listing,
    marked: Vec<u64>,
    agreement: Window<(String, u64), Agreement>,
    disputed: Window<(String, u64), (Vec<Disputed>, u64)>,
    disputed_list: Listing,
    settling: Option<Draft>,
    /// Rows that were settled here, the last one last.
    settled: Vec<u64>,
    standards: Window<(), Vec<String>>,
    scroll: usize,
    sessions: u64,
    /// Whether there are labels beyond the digits.
    has_many_labels: bool,
}

fn list_rows(view: &View<'_>) -> Vec<Row> {
    let row = |project: &ProjectView| {
        let counts = &project.counts;
        let done = counts.done as f64 / project.record.rows.max(1) as f64;
        let last = counts.persons.iter().map(|person| person.last_at_ms).max().unwrap_or(0);
        let persons = counts.persons.iter().filter(|person| person.done > 0).map(|person| person.person.as_str());
        let is_closed = project.record.closed_at_ms.is_some();
        Row {
            key: project.record.name.clone(),
            cells: vec![
                piece(cell(&project.record.name), if is_closed { Token::Muted } else { Token::Text }),
                piece(view.t(task_word(&project.record.spec.task)), Token::Muted),
                piece(number::grouped(project.record.rows), Token::Text),
                piece(number::percent(done), if done >= 1.0 { Token::Ok } else { Token::Accent }),
                piece(if counts.disputed > 0 { counts.disputed.to_string() } else { "-".into() }, Token::Warn),
                piece(cell(&persons.collect::<Vec<_>>().join(", ")), Token::Text),
                piece(
                    match (is_closed, last) {
                        (true, _) => view.t("labelling.closed").to_owned(),
                        (false, 0) => "-".to_owned(),
                        (false, last) => number::ago(view.language, view.now_ms, last),
                    },
                    Token::Muted,
                ),
            ],
        }
    };
    view.mirror.projects().iter().map(row).collect()
}

/// Catalogue key of a kind of task.
fn task_word(task: &Task) -> &'static str {
    match task {
        Task::Choice { .. } => "task.choice",
        Task::Several { .. } => "task.several",
        Task::Span { .. } => "task.span",
        Task::Pair { .. } => "task.pair",
        Task::Rank => "task.rank",
        Task::Rating { .. } => "task.rating",
        Task::Edit => "task.edit",
    }
}

impl Labelling {
    fn selected<'a>(&mut self, view: &View<'a>) -> Option<&'a ProjectView> {
        let rows = self.list.passing(list_rows(view));
        let key = self.list.selected(&rows)?;
        view.mirror.projects().iter().find(|project| project.record.name == key)
    }

    /// The project at work, as it is.
    fn project<'a>(&self, view: &View<'a>) -> Option<&'a ProjectView> {
        self.work.as_ref()?.view(view)
    }

    fn start(&mut self, name: &str, desk: &mut Desk<'_>) {
        self.sessions += 1;
        if self.work.as_ref().is_none_or(|work| work.project != name) {
            // Any number will do that another window does not have.
            let session = (desk.view.now_ms as u64) << 20 ^ u64::from(std::process::id()) << 8 ^ self.sessions;
            self.work = Some(Work::new(name, session));
        }
        self.level = Level::Work;
        self.typing = None;
        self.list.select(name);
        let project = desk.view.mirror.projects().iter().find(|project| project.record.name == name);
        let fresh =
            project.is_some_and(|project| project.person(desk.view.mirror.person()).is_none_or(|own| own.done == 0));
        if fresh && project.is_some_and(|project| !project.record.spec.guide.trim().is_empty()) {
            self.show_guide(desk);
        }
        if let Some(work) = &mut self.work {
            work.look_again();
            work.needs(desk);
        }
    }

    fn show_guide(&mut self, desk: &mut Desk<'_>) {
        let Some(project) = self.project(&desk.view) else { return };
        let lines = paint::guide(&desk.view, project, GUIDE_CELLS);
        let title = format!("{} - {}", project.record.name, desk.view.t("labelling.guide"));
        desk.push(Layer::Sheet(Sheet { title, lines, copy: None, scroll: 0 }));
    }

    fn open_form(&mut self, project: Option<&ProjectView>, dataset: &str, desk: &mut Desk<'_>) {
        let standards = self.standards.get().cloned().unwrap_or_default();
        self.form = forms::project_form(&desk.view, project, dataset, &standards);
        self.changes = project.map_or(String::new(), |project| project.record.name.clone());
        self.level = Level::Form;
    }

    fn submit(&mut self, desk: &mut Desk<'_>) {
        let before = desk.view.mirror.projects().iter().find(|project| project.record.name == self.changes);
        let Some(spec) = forms::project_spec(&self.form, before) else { return };
        let name = self.form.value("name").to_owned();
        let request = LabelRequest::SetProject { name, spec: Box::new(spec), rows: None };
        desk.ask(Errand::Act(Deed::Project), Request::Labelling(request));
    }

    /// What a key says of the row on the table, or of the one that was gone back to.
    fn say(
        &mut self,
        say: impl FnOnce(&mut Draft, &Task, &hone_protocol::labelling::NextRow, bool) -> Said,
        how: How,
        desk: &mut Desk<'_>,
    ) {
        let Some(project) = self.project(&desk.view) else { return };
        let spec = &project.record.spec;
        let Some(work) = &mut self.work else { return };
        let is_browsing = work.browsing.is_some();
        let Some((row, decision)) = work.shown() else { return };
        let swapped = is_swapped(spec.seed, row.row.row_id);
        let row = row.clone();
        let mut fresh = Draft::new(&spec.task, &row, decision.map(|decision| &decision.value), false);
        let draft = match (&mut work.current, is_browsing) {
            (Some(current), false) => &mut current.draft,
            _ => &mut fresh,
        };
        match say(draft, &spec.task, &row, swapped) {
            Said::Value(value) => work.decide(value, how, "", desk),
            Said::Changed if is_browsing => {
                // A row that is gone back to and takes several keys is laid on the table first.
                work.browsing = None;
                desk.say(desk.view.t("labelling.undo_first"));
            }
            Said::Changed | Said::Nothing => {}
        }
    }

    /// A key that answers.
    fn answer_key(&mut self, key: char, desk: &mut Desk<'_>) {
        if key == '=' {
            return self.say(|draft, _, _, _| draft.tie(), How::Own, desk);
        }
        if let Some(index) = index_of(key) {
            self.say(|draft, task, row, swapped| draft.choose(task, row, swapped, index), How::Own, desk);
        }
    }

    /// Enter: what was suggested, where it is offered, else the answer as it stands.
    fn accept(&mut self, desk: &mut Desk<'_>) {
        let Some(project) = self.project(&desk.view) else { return };
        let task = project.record.spec.task.clone();
        let Some(work) = &mut self.work else { return };
        if work.browsing.is_some() {
            work.browsing = None;
            return;
        }
        let Some(current) = &mut work.current else { return self.make_version(desk) };
        if let Draft::Spans(spans) = &mut current.draft
            && spans.accept() == Said::Changed
        {
            return;
        }
        let untouched = match &current.draft {
            Draft::Several(chosen) => chosen.is_empty(),
            Draft::Edit(text) => current.row.row.messages.last().is_some_and(|last| last.content == *text),
            Draft::One { .. } => true,
            _ => false,
        };
        let suggestion = current.row.suggestion.as_ref().filter(|_| work.is_suggesting && untouched);
        if let Some(suggestion) = suggestion {
            let value = suggestion.value.clone();
            return work.decide(value, How::Accepted, "", desk);
        }
        self.say(move |draft, _, _, swapped| draft.finish(&task, swapped), How::Own, desk);
    }

    fn edit_text(&mut self) {
        let Some(work) = self.work.as_ref().filter(|work| work.browsing.is_none()) else { return };
        if let Some(Draft::Edit(text)) = work.current.as_ref().map(|current| &current.draft) {
            self.typing = Some(Typing::Text(Box::new(Composer::with(text))));
        }
    }

    /// Makes the next version of the dataset of what was decided.
    fn make_version(&mut self, desk: &mut Desk<'_>) {
        let project = match self.level {
            Level::Work => self.project(&desk.view),
            _ => self.selected(&desk.view),
        };
        let Some(project) = project else { return };
        let name = made_name(project);
        let source =
            DatasetSource::Labels { project: project.record.name.clone(), until: 0, suggested_least_percent: None };
        let spec = JobSpec::ImportDataset { source, name, format: RowFormat::Detect };
        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
    }

    fn work_act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let is_span =
            matches!(self.project(&desk.view).map(|project| &project.record.spec.task), Some(Task::Span { .. }));
        let Some(work) = &mut self.work else { return false };
        let step = |work: &mut Work, step, forward| {
            if let Some(current) = &mut work.current
                && let Draft::Spans(spans) = &mut current.draft
            {
                spans.go(&current.row, step, forward);
            }
        };
        match action {
            Action::Out if work.browsing.take().is_some() => {}
            Action::Out => self.level = Level::List,
            Action::Left if is_span && work.browsing.is_none() => step(work, Step::Word, false),
            Action::Right if is_span && work.browsing.is_none() => step(work, Step::Word, true),
            Action::Up if is_span && work.browsing.is_none() => step(work, Step::Message, false),
            Action::Down if is_span && work.browsing.is_none() => step(work, Step::Message, true),
            Action::NextPane if is_span => self.say(|draft, _, _, _| select(draft, true), How::Own, desk),
            Action::PreviousPane if is_span => self.say(|draft, _, _, _| select(draft, false), How::Own, desk),
            Action::Compare if is_span => self.say(|draft, _, _, _| begin(draft), How::Own, desk),
            Action::Left | Action::PreviousTab => {
                if !work.back() {
                    desk.say(desk.view.t("labelling.first"));
                }
            }
            Action::Right | Action::NextTab => drop(work.forward()),
            Action::Up => work.scroll = work.scroll.saturating_sub(1),
            Action::Down => work.scroll += 1,
            Action::PageUp => work.scroll = work.scroll.saturating_sub(10),
            Action::PageDown => work.scroll += 10,
            Action::Undo => work.undo(desk),
            Action::Stop => {
                if work.shown().is_some() {
                    work.decide(LabelValue::Skip, How::Own, "", desk);
                }
            }
            Action::New if work.browsing.is_some() => desk.say(desk.view.t("labelling.note_later")),
            Action::New => {
                let note = work.current.as_ref().map(|current| current.note.clone()).unwrap_or_default();
                self.typing = Some(Typing::Note(TypedLine::with(&note)));
            }
            Action::Flag => self.typing = work.shown().is_some().then(|| Typing::Flag(TypedLine::default())),
            Action::Edit => self.edit_text(),
            Action::Inspect => {
                let Some((row, _)) = work.shown() else { return true };
                let title = desk.view.fill("labelling.row", &[("n", &row.row.row_id.to_string())]);
                let value = row.row.original.value();
                let text = serde_json::to_string_pretty(&value).unwrap_or_default();
                let lines = text.lines().map(|line| piece(crate::widgets::text::clean(line), Token::Text)).collect();
                desk.push(Layer::Sheet(Sheet { title, lines, copy: Some(text), scroll: 0 }));
            }
            Action::Help => self.show_guide(desk),
            Action::Enter => self.accept(desk),
            Action::Mark => {
                let task = self.project(&desk.view).map(|project| project.record.spec.task.clone());
                let Some(task) = task else { return true };
                self.say(move |draft, _, _, swapped| draft.finish(&task, swapped), How::Own, desk);
            }
            Action::Run if work.current.is_none() => self.train(desk),
            Action::Label | Action::Filter => {
                self.marked.clear();
                self.level = Level::Bulk;
            }
            _ => return false,
        }
        true
    }

    fn train(&mut self, desk: &mut Desk<'_>) {
        if let Some(project) = self.project(&desk.view) {
            desk.open(Place::NewRun { base: String::new(), dataset: made_name(project) });
        }
    }

    /// Rows that are held, for judging several at once.
    fn bulk_rows(&self) -> Vec<Row> {
        let Some(work) = &self.work else { return Vec::new() };
        let row = |next: &hone_protocol::labelling::NextRow| {
            let text = next.row.messages.iter().map(|m| one_line(&m.content)).collect::<Vec<_>>().join("  ");
            let sure = next.suggestion.as_ref().and_then(|suggestion| suggestion.probability);
            let mark = if self.marked.contains(&next.row.row_id) { "[x]" } else { "[ ]" };
            Row {
                key: next.row.row_id.to_string(),
                cells: vec![
                    piece(mark, Token::Accent),
                    piece(format!("#{}", next.row.row_id), Token::Muted),
                    piece(sure.map_or("-".to_owned(), |sure| format!("{sure:.2}")), Token::Model),
                    piece(text, Token::Text),
                ],
            }
        };
        work.ahead().map(row).collect()
    }

    fn bulk_act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let rows = self.bulk.passing(self.bulk_rows());
        match action {
            Action::Mark => {
                if let Some(id) = self.bulk.selected(&rows).and_then(|key| key.parse::<u64>().ok()) {
                    match self.marked.iter().position(|marked| *marked == id) {
                        Some(at) => drop(self.marked.remove(at)),
                        None => self.marked.push(id),
                    }
                    self.bulk.act(Action::Down, &rows);
                }
            }
            Action::Out if self.bulk.is_filtered() => self.bulk.clear_filter(),
            Action::Out => self.level = Level::Work,
            Action::Undo => {
                if let Some(work) = &mut self.work {
                    work.undo(desk);
                }
            }
            action => return self.bulk.act(action, &rows),
        }
        true
    }

    /// Judges the marked rows, or the selected one.
    fn bulk_key(&mut self, key: char, desk: &mut Desk<'_>) {
        if key == 'a' {
            let rows = self.bulk.passing(self.bulk_rows());
            self.marked = rows.iter().filter_map(|row| row.key.parse().ok()).collect();
            return;
        }
        let Some(project) = self.project(&desk.view) else { return };
        let value = match (&project.record.spec.task, index_of(key)) {
            (Task::Choice { labels }, Some(index)) => {
                labels.get(index).map(|label| LabelValue::Labels(vec![label.name.clone()]))
            }
            (Task::Several { labels }, Some(index)) => {
                labels.get(index).map(|label| LabelValue::Labels(vec![label.name.clone()]))
            }
            (Task::Rating { scale }, Some(index)) => {
                Some(index as u32 + 1).filter(|points| points <= scale).map(LabelValue::Points)
            }
            _ => None,
        };
        let Some(value) = value else { return };
        let rows = self.bulk.passing(self.bulk_rows());
        let selected = self.bulk.selected(&rows).and_then(|key| key.parse().ok());
        let chosen: Vec<u64> =
            if self.marked.is_empty() { selected.into_iter().collect() } else { std::mem::take(&mut self.marked) };
        if let Some(work) = &mut self.work {
            work.decide_many(&chosen, &value, desk);
        }
    }

    fn list_act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        let rows = self.list.passing(list_rows(&desk.view));
        if self.list.act(action, &rows) {
            return true;
        }
        let selected = self.selected(&desk.view).cloned();
        match (action, selected) {
            (Action::New, _) | (Action::Enter, None) => self.open_form(None, "", desk),
            (Action::Enter, Some(project)) if project.record.closed_at_ms.is_some() => {
                desk.say(desk.view.t("labelling.is_closed"));
            }
            (Action::Enter, Some(project)) => self.start(&project.record.name, desk),
            (Action::Edit, Some(project)) => self.open_form(Some(&project), "", desk),
            (Action::Compare, Some(project)) => {
                self.list.select(project.record.name.clone());
                self.level = Level::Agreement;
            }
            (Action::Add, Some(_)) => self.make_version(desk),
            (Action::Run, Some(project)) => {
                desk.open(Place::NewRun { base: String::new(), dataset: made_name(&project) });
            }
            (Action::Try, Some(project)) => self.suggest(&project, desk),
            (Action::Delete, Some(project)) => {
                let closed = project.record.closed_at_ms.is_none();
                let request = LabelRequest::CloseProject { name: project.record.name.clone(), closed };
                desk.ask(Errand::Act(Deed::CloseProject), Request::Labelling(request));
            }
            (Action::Out, _) if self.list.is_filtered() => self.list.clear_filter(),
            _ => return false,
        }
        true
    }

    /// Lets the first service suggest labels for the rows that have none.
    fn suggest(&mut self, project: &ProjectView, desk: &mut Desk<'_>) {
        let Some(service) =
            desk.view.mirror.services().iter().find(|service| service.record.wanted && !service.is_encoder)
        else {
            return desk.warn(desk.view.t("labelling.no_service"));
        };
        let spec = hone_protocol::labelling::SuggestSpec {
            project: project.record.name.clone(),
            service: service.record.name.clone(),
            payer: "owner".to_owned(),
            at_once: 0,
            rows_max: 0,
        };
        let rows = project.record.rows.saturating_sub(project.counts.suggested);
        let args = [("service", service.record.name.as_str()), ("rows", &number::grouped(rows))];
        let title = desk.view.fill("labelling.ask_suggest", &args);
        let body = vec![desk.view.t("labelling.ask_suggest_body").to_owned()];
        let request = Request::Submit { spec: JobSpec::Suggest(spec), payer: None, pool: None };
        let wish = super::Wish::Ask { errand: Errand::Act(Deed::Submit), request };
        desk.push(Layer::ask(title, body, "labelling.suggest", vec![wish]));
    }
}

/// The dataset that labels make a version of. Ranked answers become pairs, which are no rows of the same shape.
fn made_name(project: &ProjectView) -> String {
    let spec = &project.record.spec;
    let own = spec.dataset.split('@').next().unwrap_or_default();
    if spec.task == Task::Rank { format!("{own}-ranked") } else { own.to_owned() }
}

fn select(draft: &mut Draft, forward: bool) -> Said {
    match draft {
        Draft::Spans(spans) => spans.next(forward),
        _ => Said::Nothing,
    }
}

fn begin(draft: &mut Draft) -> Said {
    match draft {
        Draft::Spans(spans) => {
            spans.begin();
            Said::Changed
        }
        _ => Said::Nothing,
    }
}

impl Screen for Labelling {
    fn trail(&self, view: &View<'_>) -> Vec<String> {
        let name = || self.list.key().map(str::to_owned).unwrap_or_default();
        match self.level {
            Level::List => Vec::new(),
            Level::Form if self.changes.is_empty() => vec![view.t("labelling.new").to_owned()],
            Level::Form => vec![self.changes.clone()],
            Level::Work => vec![name()],
            Level::Bulk => vec![name(), view.t("labelling.together").to_owned()],
            Level::Agreement => vec![name(), view.t("labelling.agreement").to_owned()],
            Level::Settle => vec![name(), view.t("labelling.settle").to_owned()],
        }
    }

    fn context(&self) -> Context {
        match (self.level, &self.typing) {
            (Level::Work, Some(Typing::Text(_))) => Context::Text,
            (Level::Work, Some(_)) => Context::Field,
            (Level::Work | Level::Settle, None) => Context::Decide,
            (Level::Bulk, _) if self.bulk.filtering => Context::Field,
            (Level::Bulk, _) => Context::Decide,
            (Level::Form, _) if self.form.is_editing() => Context::Field,
            (Level::List, _) if self.list.filtering => Context::Field,
            (Level::Agreement, _) if self.disputed_list.filtering => Context::Field,
            _ => Context::Browse,
        }
    }

    fn takes_digits(&self) -> bool {
        self.level == Level::Form && self.form.takes_digits()
    }

    fn takes(&self, key: KeyEvent) -> bool {
        let is_plain = !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        // Letters are persons where something is settled; capitals are labels beyond the tenth.
        let capital = is_plain && matches!(key.code, KeyCode::Char('A'..='Z')) && self.has_many_labels;
        let letter = is_plain && matches!(key.code, KeyCode::Char('a'..='z'));
        match self.level {
            Level::Work if self.typing.is_none() => {
                let arrows = matches!(key.code, KeyCode::Left | KeyCode::Right);
                capital || arrows && key.modifiers.intersects(KeyModifiers::SHIFT | KeyModifiers::ALT)
            }
            Level::Bulk => capital && !self.bulk.filtering,
            Level::Settle => capital || letter,
            _ => false,
        }
    }

    fn offers(&mut self, view: &View<'_>) -> Vec<Offer> {
        match self.level {
            Level::Form => form_offers("form.save"),
            Level::Work if self.typing.is_some() => Vec::new(),
            Level::Work => self.work_offers(view),
            Level::Bulk => vec![
                offer(Action::Mark, "act.mark"),
                offer(Action::Undo, "labelling.undo"),
                offer(Action::Filter, "hint_row.filter"),
                offer(Action::Out, "act.out"),
            ],
            Level::Agreement => vec![
                offer(Action::Enter, "labelling.settle"),
                offer(Action::Undo, "labelling.take_back"),
                offer(Action::Filter, "hint_row.filter"),
                offer(Action::Out, "act.out"),
            ],
            Level::Settle => vec![offer(Action::Down, "hint_row.scroll"), offer(Action::Out, "act.out")],
            Level::List => {
                let mut offers = vec![offer(Action::New, "labelling.new")];
                if let Some(project) = self.selected(view) {
                    offers.insert(0, offer(Action::Enter, "labelling.label"));
                    offers.push(offer(Action::Try, "labelling.suggest"));
                    offers.push(offer(Action::Add, "labelling.make"));
                    offers.push(offer(Action::Compare, "labelling.agreement"));
                    offers.push(offer(Action::Edit, "act.edit"));
                    let close =
                        if project.record.closed_at_ms.is_some() { "labelling.open" } else { "labelling.close" };
                    offers.push(offer(Action::Delete, close));
                    offers.push(offer(Action::Filter, "hint_row.filter"));
                }
                offers
            }
        }
    }

    fn act(&mut self, action: Action, desk: &mut Desk<'_>) -> bool {
        match self.level {
            Level::List => self.list_act(action, desk),
            Level::Work => self.work_act(action, desk),
            Level::Bulk => self.bulk_act(action, desk),
            Level::Agreement => self.agreement_act(action, desk),
            Level::Settle => self.settle_act(action, desk),
            Level::Form => {
                match action {
                    Action::Out => self.level = Level::List,
                    action => match self.form.act(action, &desk.view) {
                        FormReply::No => return false,
                        FormReply::Start => self.submit(desk),
                        FormReply::Wrong => desk.warn(desk.view.t("form.wrong")),
                        _ => {}
                    },
                }
                true
            }
        }
    }

    fn key(&mut self, key: KeyEvent, desk: &mut Desk<'_>) {
        match self.level {
            Level::Form => drop(self.form.key(key)),
            Level::List => self.list.type_key(key),
            Level::Agreement => self.disputed_list.type_key(key),
            Level::Bulk if self.bulk.filtering => self.bulk.type_key(key),
            Level::Work if self.typing.is_some() => self.typing_key(key, desk),
            _ => {
                let KeyCode::Char(c) = key.code else { return self.shape_key(key, desk) };
                if key.modifiers.contains(KeyModifiers::CONTROL) {
                    return;
                }
                match (self.level, plain(c)) {
                    (Level::Work, key) => self.answer_key(key, desk),
                    (Level::Bulk, key) => self.bulk_key(key, desk),
                    (Level::Settle, key) => self.settle_key(key, desk),
                    _ => {}
                }
            }
        }
    }

    fn paste(&mut self, text: &str, _: &mut Desk<'_>) -> bool {
        match (&mut self.typing, self.level) {
            (Some(Typing::Note(line) | Typing::Flag(line)), _) => line.insert(text),
            (Some(Typing::Text(composer)), _) => composer.insert(text),
            (None, Level::Form) if self.form.is_editing() => self.form.paste(text),
            _ => return false,
        }
        true
    }

    fn open(&mut self, place: Place, desk: &mut Desk<'_>) {
        match place {
            Place::Label(name) => self.start(&name, desk),
            Place::NewProject(dataset) => self.open_form(None, &dataset, desk),
            _ => self.level = Level::List,
        }
    }

    fn needs(&mut self, desk: &mut Desk<'_>) {
        if desk.view.away {
            return;
        }
        match self.level {
            Level::Work | Level::Bulk => {
                if let Some(work) = &mut self.work {
                    work.lay(desk);
                    work.needs(desk);
                }
                self.has_many_labels = self.project(&desk.view).is_some_and(|p| p.record.spec.task.labels().len() > 10);
            }
            Level::Form => {
                if self.standards.want(()) {
                    desk.ask(Errand::Standards, Request::Standards);
                }
            }
            Level::Agreement | Level::Settle => {
                self.has_many_labels =
                    self.shown_project(&desk.view).is_some_and(|p| p.record.spec.task.labels().len() > 10);
                self.agreement_needs(desk);
            }
            Level::List => {
                let beside = desk.view.class == Class::Xl;
                if beside && self.selected(&desk.view).is_some() {
                    self.agreement_needs(desk);
                }
            }
        }
    }

    fn answer(&mut self, errand: Errand, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        match (errand, answer) {
            (Errand::NextRows, Ok(Answer::Labelling(LabelAnswer::Next(next)))) => {
                if let Some(work) = &mut self.work {
                    work.take(next, desk);
                }
            }
            (Errand::NextRows, Err(failure)) => {
                if let Some(work) = &mut self.work {
                    work.failed(&desk.view);
                }
                let said = desk.view.failure(&failure);
                desk.warn(said);
            }
            (Errand::AgainRow, Ok(Answer::Labelling(LabelAnswer::Rows(rows)))) => {
                if let Some(work) = &mut self.work {
                    work.again(rows, desk);
                }
            }
            (Errand::LastLabels, Ok(Answer::Labelling(LabelAnswer::Labels(labels)))) => {
                if let Some(work) = &mut self.work {
                    work.earlier = labels;
                }
            }
            (Errand::Decision(number), answer) => {
                if let Some(work) = &mut self.work {
                    work.answered(number, answer, desk);
                }
                self.disputed.forget();
                self.agreement.forget();
            }
            (Errand::Agreement, Ok(Answer::Labelling(LabelAnswer::Agreement(agreement)))) => {
                self.agreement.take(*agreement)
            }
            (Errand::Agreement, Err(failure)) => self.agreement.fail(desk.view.failure(&failure)),
            (Errand::Disputed, Ok(Answer::Labelling(LabelAnswer::Disputed { rows, total }))) => {
                self.disputed.take((rows, total))
            }
            (Errand::Disputed, Err(failure)) => self.disputed.fail(desk.view.failure(&failure)),
            (Errand::Standards, Ok(Answer::Standards(standards))) => {
                let names: Vec<String> = standards.into_iter().map(|standard| standard.name).collect();
                self.form.offer("standard", names.clone());
                self.standards.take(names);
            }
            (Errand::Act(Deed::Project), Ok(Answer::Labelling(LabelAnswer::Project(project)))) => {
                self.list.select(project.record.name.clone());
                self.level = Level::List;
            }
            (Errand::Act(Deed::Project), Err(failure)) => {
                let field = failure.place.rsplit('.').next().unwrap_or_default().to_owned();
                self.form.remote.insert(field.clone(), desk.view.failure(&failure));
                self.form.focus_on(&field);
            }
            (Errand::Act(Deed::Submit), Ok(Answer::Job(job))) => desk.open(Place::Job(job.record.id)),
            _ => {}
        }
    }

    fn forget(&mut self) {
        if let Some(work) = &mut self.work {
            work.forget();
        }
        self.agreement.forget();
        self.disputed.forget();
        self.standards.forget();
    }

    fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        match self.level {
            Level::Form => self.form.draw(canvas, area, view, pages::form_more(view)),
            Level::Work => self.draw_work(canvas, area, view),
            Level::Bulk => self.draw_bulk(canvas, area, view),
            Level::Agreement => self.draw_agreement(canvas, area, view),
            Level::Settle => self.draw_settle(canvas, area, view),
            Level::List => {
                let rows = self.list.passing(list_rows(view));
                if rows.is_empty() && !self.list.is_filtered() {
                    return draw_empty(canvas, area, view.t("labelling.empty"));
                }
                let panes = panes(canvas, area, view, 12, true);
                let columns = [
                    column(view.t("labelling.project"), 0),
                    column(view.t("labelling.task"), 18).from(84),
                    column(view.t("word.row"), 9).right(),
                    column(view.t("labelling.done"), 6).right(),
                    column(view.t("labelling.disputed"), 9).right().from(64),
                    column(view.t("labelling.who"), 14).from(104),
                    column(view.t("labelling.last_at"), 12).from(60),
                ];
                self.list.draw(canvas, panes.list, &columns, &rows, true);
                let selected = self.selected(view);
                if let (Some(reader), Some(project)) = (panes.reader, selected) {
                    let mut page = pages::summary(view, project);
                    if project.counts.done >= project.record.rows {
                        page.blank().text(view.t("labelling.all_done"), Token::Ok);
                    }
                    page.draw_top(canvas, reader);
                }
                if let (Some(context), Some(project)) = (panes.context, selected) {
                    let agreement = self.agreement.get_if(|(name, _)| *name == project.record.name);
                    pages::agreement(view, project, agreement).draw_top(canvas, context);
                }
            }
        }
    }
}
