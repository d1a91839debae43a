//! Labelling: projects made, changed and closed, rows handed out, decisions taken and taken back, suggestions kept. Never here: the bytes
//! of rows, who works on which row (`labelling/desk.rs`), agreement.

use std::sync::Arc;

use hone_protocol::dataset::Shape;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::labelling::{
    DECISIONS_MAX, Decision, How, LabelAnswer, LabelRecord, LabelRequest, NEXT_ROWS_MAX, Order, PROJECT_ROWS_MAX,
    PROJECTS_MAX, ProjectRecord, ProjectSpec, ProjectView, SUGGESTIONS_MAX, Suggestion,
};
use hone_protocol::request::Answer;
use tokio::sync::oneshot;

use super::Decider;
use super::commands::check_name;
use crate::labelling::desk::Desk;
use crate::labelling::{label_key, suggestion_key, values};
use crate::state::State;
use crate::store::{Store, StoreError, Table, codec};

/// Rows that a window keeps at most.
const HELD_MAX: usize = 1000;

/// Rows for somebody who labels: the project, the ids in order, and whether suggestions may be chosen beforehand.
pub struct HandedOut {
    /// The project as it is.
    pub project: Arc<ProjectRecord>,
    /// The rows.
    pub row_ids: Vec<u64>,
    /// Whether suggestions may be chosen beforehand.
    pub is_suggesting: bool,
}

/// Where rows that are handed out go.
pub type HandTo = oneshot::Sender<Result<HandedOut, Failure>>;

impl State {
    /// A project by its name.
    pub fn project(&self, name: &str) -> Result<&Arc<ProjectRecord>, Failure> {
        self.projects.get(name).ok_or_else(|| Failure::not_found("project", name))
    }

    /// A project as lists show it.
    pub fn project_view(&self, name: &str) -> Option<ProjectView> {
        Some(self.view_of((**self.projects.get(name)?).clone()))
    }

    fn view_of(&self, record: ProjectRecord) -> ProjectView {
        let counts = self.project_counts.get(&record.name).map(|counts| (**counts).clone()).unwrap_or_default();
        ProjectView { record, counts }
    }

    /// All projects, those that were made last first.
    pub fn project_views(&self) -> Vec<ProjectView> {
        let mut views: Vec<ProjectView> = self.projects.keys().filter_map(|name| self.project_view(name)).collect();
        views.sort_by_key(|view| (view.record.closed_at_ms.is_some(), std::cmp::Reverse(view.record.created_at_ms)));
        views
    }
}

/// For the audit log: what is worth a line there. Decisions stand with who and when in a table of their own.
pub(super) fn words(request: &LabelRequest) -> Option<(&'static str, String)> {
    match request {
        LabelRequest::SetProject { name, .. } => Some(("set_project", name.clone())),
        LabelRequest::CloseProject { name, closed: true } => Some(("close_project", name.clone())),
        LabelRequest::CloseProject { name, closed: false } => Some(("open_project", name.clone())),
        LabelRequest::Suggest { project, suggestions } => {
            Some(("suggest", format!("{project}: {} rows", suggestions.len())))
        }
        _ => None,
    }
}

impl Decider {
    /// At start: the desks of all projects.
    pub(super) fn set_up_desks(&mut self, store: &Store) -> Result<(), StoreError> {
        self.desks = crate::labelling::desks(&self.state, store)?;
        for name in self.desks.keys().cloned().collect::<Vec<_>>() {
            let Some(persons) = self.state.projects.get(&name).map(|project| project.spec.persons) else { continue };
            if let Some(desk) = self.desks.get_mut(&name) {
                desk.recount(persons);
            }
            self.publish_rows(&name);
            self.publish_counts(&name);
        }
        Ok(())
    }

    pub(super) fn labelling(&mut self, person: &str, request: LabelRequest) -> Result<Answer, Failure> {
        let answer = match request {
            LabelRequest::SetProject { name, spec, rows } => self.set_project(person, &name, *spec, rows)?,
            LabelRequest::CloseProject { name, closed } => self.close_project(&name, closed)?,
            LabelRequest::Decide { project, person: of, decisions } => {
                if let Some(of) = &of {
                    check_name("person", of)?;
                }
                self.decide_rows(of.as_deref().unwrap_or(person), &project, decisions)?
            }
            LabelRequest::TakeBack { project, row_id } => self.take_back(person, &project, row_id)?,
            LabelRequest::Suggest { project, suggestions } => {
                self.suggest(&project, suggestions)?;
                return Ok(Answer::Done);
            }
            _ => return Err(Failure::new(FailureCode::Internal, "this request is no wish")),
        };
        Ok(Answer::Labelling(answer))
    }

    fn set_project(
        &mut self,
        person: &str,
        name: &str,
        mut spec: ProjectSpec,
        rows: Option<Vec<u64>>,
    ) -> Result<LabelAnswer, Failure> {
        check_name("name", name)?;
        let before = self.state.projects.get(name).cloned();
        // What a project is of does not move with the dataset.
        let version = match &before {
            Some(before) if before.spec.dataset.split('@').next() == Some(spec.dataset.as_str()) => {
                self.state.any_dataset_version(&before.spec.dataset)?
            }
            _ => self.state.dataset_version(&spec.dataset)?,
        };
        let shape = self.state.datasets.get(&version.dataset).map_or(Shape::Chat, |dataset| dataset.shape);
        spec.dataset = self.state.dataset_reference(version);
        if let Some(standard) = &mut spec.standard {
            *standard = self.state.standard(standard)?.reference();
        }
        values::check_spec(&spec, shape)?;
        if let Some(before) = before {
            return self.change_project(&before, spec, rows.is_some());
        }
        if self.state.projects.len() >= PROJECTS_MAX {
            let message = format!("there are {PROJECTS_MAX} projects already; change one that is there");
            return Err(Failure::new(FailureCode::LimitReached, message).at("name"));
        }
        let there = version.rows;
        let chosen = rows.as_ref().map_or(there, |rows| rows.len() as u64);
        if chosen > PROJECT_ROWS_MAX && (spec.rows_max == 0 || spec.rows_max > PROJECT_ROWS_MAX) {
            let message = format!("{chosen} rows; a project has {PROJECT_ROWS_MAX} at most, rows_max takes fewer");
            return Err(Failure::field("rows_max", message));
        }
        let desk = Desk::new(&spec, self.state.rows_of(&spec.dataset), rows.clone());
        if let Some(row_id) = rows.iter().flatten().find(|row_id| spec.rows_max == 0 && !desk.has(**row_id)) {
            return Err(Failure::field("rows", format!("{} has no row {row_id}", spec.dataset)));
        }
        if desk.len() == 0 {
            let message = format!("{} has no row to label", spec.dataset);
            return Err(Failure::new(FailureCode::NoRows, message).at("rows"));
        }
        let record = ProjectRecord {
            name: name.to_owned(),
            rows: desk.len(),
            is_chosen: rows.is_some(),
            spec,
            created_at_ms: self.now_ms,
            created_by: person.to_owned(),
            closed_at_ms: None,
        };
        if let Some(rows) = rows {
            self.writes.put(Table::ProjectRows, name.as_bytes(), codec::row(&rows));
        }
        self.desks.insert(name.to_owned(), desk);
        let answer = self.put_project(record);
        self.publish_rows(name);
        Ok(answer)
    }

    fn change_project(
        &mut self,
        before: &ProjectRecord,
        spec: ProjectSpec,
        rows: bool,
    ) -> Result<LabelAnswer, Failure> {
        values::check_change(&before.spec, &spec)?;
        if rows {
            let message = "the rows of a project cannot change, because its labels are of them; make another project";
            return Err(Failure::field("rows", message));
        }
        if let Some(desk) = self.desks.get_mut(&before.name) {
            desk.recount(spec.persons);
            desk.reorder();
        }
        Ok(self.put_project(ProjectRecord { spec, ..before.clone() }))
    }

    fn close_project(&mut self, name: &str, closed: bool) -> Result<LabelAnswer, Failure> {
        let project = (**self.state.project(name)?).clone();
        if project.closed_at_ms.is_some() == closed {
            let message = format!("{name} is {} already", if closed { "closed" } else { "open" });
            return Err(Failure::new(FailureCode::WrongState, message).at("name"));
        }
        Ok(self.put_project(ProjectRecord { closed_at_ms: closed.then_some(self.now_ms), ..project }))
    }

    fn put_project(&mut self, record: ProjectRecord) -> LabelAnswer {
        let name = record.name.clone();
        self.writes.put(Table::Projects, name.as_bytes(), codec::record(&record));
        Arc::make_mut(&mut self.state.projects).insert(name.clone(), Arc::new(record.clone()));
        self.publish_counts(&name);
        LabelAnswer::Project(Box::new(self.state.view_of(record)))
    }

    /// Lets readers know which rows a project has, where it does not have all of its version. They never change.
    fn publish_rows(&mut self, name: &str) {
        let Some((desk, project)) = self.desks.get(name).zip(self.state.projects.get(name)) else { return };
        let all: u64 = self.state.rows_of(&project.spec.dataset).iter().map(|(_, rows)| rows).sum();
        if desk.len() < all {
            let rows = Arc::new(desk.row_ids().to_vec());
            Arc::make_mut(&mut self.state.project_rows).insert(name.to_owned(), rows);
        }
    }

    /// Says how far a project is.
    fn publish_counts(&mut self, name: &str) {
        let Some(desk) = self.desks.get(name) else { return };
        Arc::make_mut(&mut self.state.project_counts).insert(name.to_owned(), Arc::new(desk.counts()));
        self.dirty_projects.insert(name.to_owned());
    }

    fn open_project(&self, name: &str) -> Result<Arc<ProjectRecord>, Failure> {
        let project = self.state.project(name)?.clone();
        if project.closed_at_ms.is_some() {
            let message = format!("{name} is closed; hone label reopen {name} opens it again");
            return Err(Failure::new(FailureCode::WrongState, message).at("project"));
        }
        Ok(project)
    }

    /// Rows for somebody. Who holds what is a fact of memory.
    pub(super) fn hand_out(
        &mut self,
        person: &str,
        (name, session): (&str, u64),
        held: &[u64],
        count: u32,
        to: HandTo,
    ) {
        let handed = self.open_project(name).and_then(|project| {
            let desk = self.desks.get_mut(name).ok_or_else(|| Failure::not_found("project", name))?;
            let count = count.min(NEXT_ROWS_MAX) as usize;
            let held = &held[..held.len().min(HELD_MAX)];
            let row_ids = desk.hand_out(&project.spec, (person, session), held, count, self.steady_ms);
            let is_suggesting = desk.is_suggesting(person);
            Ok(HandedOut { project, row_ids, is_suggesting })
        });
        // Who asked may be gone; the rows are free again when their time is over.
        let _ = to.send(handed);
    }

    fn decide_rows(&mut self, person: &str, name: &str, decisions: Vec<Decision>) -> Result<LabelAnswer, Failure> {
        let project = self.open_project(name)?;
        if decisions.is_empty() || decisions.len() > DECISIONS_MAX {
            let message = format!("{} decisions; a request has 1 to {DECISIONS_MAX}", decisions.len());
            return Err(Failure::field("decisions", message));
        }
        let desk = self.desks.get_mut(name).ok_or_else(|| Failure::not_found("project", name))?;
        for (at, decision) in decisions.iter().enumerate() {
            values::check(&project.spec.task, decision, at)?;
            let row_id = decision.row_id;
            let place = format!("decisions[{at}].row_id");
            if !desk.has(row_id) {
                return Err(Failure::field(&place, format!("row {row_id} is not in {name}")));
            }
            if decisions[..at].iter().any(|before| before.row_id == row_id) {
                return Err(Failure::field(&place, format!("row {row_id} stands twice in the request")));
            }
            let binds = !matches!(decision.how, How::Final | How::Imported);
            if let Some(by) = desk.taken_by(&project.spec, person, row_id).filter(|_| binds) {
                let message = format!("row {row_id} was decided by {by} meanwhile; nothing was changed");
                return Err(Failure::new(FailureCode::WrongState, message).arg("by", by).at(place));
            }
        }
        let first = desk.next_seq();
        for (seq, decision) in (first..).zip(decisions) {
            let measures = decision.flag.is_empty() && !matches!(decision.how, How::Final | How::Imported);
            let is_repeat = measures && desk.is_repeat(person, decision.row_id);
            let record = LabelRecord {
                seq,
                group: first,
                person: person.to_owned(),
                at_ms: self.now_ms,
                is_repeat,
                as_suggested: desk.as_suggested(&decision),
                decision,
                taken_back_at_ms: None,
            };
            self.writes.put(Table::Labels, label_key(name, seq), codec::row(&record));
            desk.add(&record, project.spec.persons);
        }
        let counts = desk.counts();
        self.publish_counts(name);
        Ok(LabelAnswer::Decided { seq: first, counts })
    }

    fn take_back(&mut self, person: &str, name: &str, row_id: Option<u64>) -> Result<LabelAnswer, Failure> {
        let project = self.open_project(name)?;
        let desk = self.desks.get_mut(name).ok_or_else(|| Failure::not_found("project", name))?;
        let Some(group) = desk.newest_group(person, row_id) else {
            let what = row_id.map_or_else(|| "nothing".to_owned(), |row_id| format!("nothing on row {row_id}"));
            let message = format!("{person} has decided {what} in {name} that could be taken back");
            return Err(Failure::new(FailureCode::NotFound, message).at("row_id"));
        };
        for (row_id, seq) in &group {
            // The label stays as it was written; that it was taken back stands beside it.
            self.writes.put(Table::LabelsBack, label_key(name, *seq), codec::row(&self.now_ms));
            desk.remove((person, *row_id, *seq), project.spec.persons);
        }
        let counts = desk.counts();
        self.publish_counts(name);
        let (row_ids, seqs) = group.into_iter().rev().unzip();
        Ok(LabelAnswer::TakenBack { row_ids, seqs, counts })
    }

    /// Keeps what a job's service thinks of rows, but for what does not fit the project as it is now.
    pub(super) fn keep_suggested(&mut self, name: &str, mut suggestions: Vec<Suggestion>) -> Result<(), Failure> {
        let project = self.state.project(name)?.clone();
        let desk = self.desks.get(name).ok_or_else(|| Failure::not_found("project", name))?;
        suggestions.retain(|one| {
            let sure = one.probability.is_none_or(|sure| (0.0..=1.0).contains(&sure));
            sure && desk.has(one.row_id)
                && !one.value.is_skip()
                && values::value(&project.spec.task, &one.value).is_ok()
        });
        self.suggest(name, suggestions)
    }

    /// Keeps what a service or a script thinks of rows.
    pub(super) fn suggest(&mut self, name: &str, suggestions: Vec<Suggestion>) -> Result<(), Failure> {
        let project = self.state.project(name)?.clone();
        let desk = self.desks.get_mut(name).ok_or_else(|| Failure::not_found("project", name))?;
        if suggestions.len() > SUGGESTIONS_MAX {
            let message = format!("{} suggestions; a request has at most {SUGGESTIONS_MAX}", suggestions.len());
            return Err(Failure::field("suggestions", message));
        }
        for (at, suggestion) in suggestions.iter().enumerate() {
            let field = |name: &str, message: String| Failure::field(&format!("suggestions[{at}].{name}"), message);
            if !desk.has(suggestion.row_id) {
                return Err(field("row_id", format!("row {} is not in {name}", suggestion.row_id)));
            }
            if suggestion.value.is_skip() {
                return Err(field("value", format!("row {}: nothing is suggested", suggestion.row_id)));
            }
            values::value(&project.spec.task, &suggestion.value)
                .map_err(|message| field("value", format!("row {}: {message}", suggestion.row_id)))?;
            if suggestion.probability.is_some_and(|sure| !(0.0..=1.0).contains(&sure)) {
                return Err(field("probability", format!("row {}: it must be between 0 and 1", suggestion.row_id)));
            }
        }
        for suggestion in suggestions {
            self.writes.put(Table::Suggestions, suggestion_key(name, suggestion.row_id), codec::row(&suggestion));
            desk.suggest(&suggestion);
        }
        if project.spec.order == Order::Unsure {
            desk.reorder();
        }
        self.publish_counts(name);
        Ok(())
    }
}
