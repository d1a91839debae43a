//! Reads of labelling: rows for who asks, labels, agreement, rows that persons disagree on; and whether decisions fit their rows. Never
//! here: who gets which row (the dispatcher decides), changing anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::dataset::Row;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::labelling::{
    How, LabelAnswer, LabelRecord, LabelRequest, NextRow, NextRows, ProjectRecord, Suggestion, Task,
};
use hone_protocol::person::Standing;
use hone_protocol::request::{Answer, ROWS_MAX, Request};
use hone_protocol::wire;
use hone_protocol::worker::Select;
use tokio::sync::oneshot;

use super::connection::Room;
use super::reads::unreadable;
use crate::dispatcher::event::Event;
use crate::labelling::{self, agreement, values};
use crate::state::State;
use crate::store::{Table, after, codec};
use crate::usage;

/// Most bytes of rows in an answer, so that it fits into a frame.
const ANSWER_BYTES: usize = 12 << 20;

/// The rows of a project, as its version has them.
async fn rows_of(room: &Room, project: &ProjectRecord, row_ids: Vec<u64>) -> Result<Vec<Row>, Failure> {
    if row_ids.is_empty() {
        return Ok(Vec::new());
    }
    let state = room.hub.state();
    let mut row_ids = row_ids;
    if let Some(own) = state.project_rows.get(&project.name) {
        // Whoever labels a part sees no other rows.
        row_ids.retain(|row_id| own.binary_search(row_id).is_ok());
    }
    if row_ids.is_empty() {
        return Ok(Vec::new());
    }
    let version = state.any_dataset_version(&project.spec.dataset)?;
    if version.is_removed() {
        let message = format!("the rows of {} were removed", project.spec.dataset);
        return Err(Failure::new(FailureCode::NoRows, message).at("project"));
    }
    Ok(room.readers.rows(version, Select::Ids { row_ids }).await?.0)
}

/// Rows for who asks.
pub(super) async fn next(room: &Room, person: &str, request: LabelRequest) -> Result<Answer, Failure> {
    let LabelRequest::Next { project, session, held, count } = request else {
        return Err(Failure::new(FailureCode::Internal, "this request wants no rows"));
    };
    let (reply, handed) = oneshot::channel();
    let person = person.to_owned();
    room.events.post(Event::HandOut { person, project, session, held, count, reply }).await;
    let handed = handed.await.map_err(|_| Failure::new(FailureCode::NotSaved, "the daemon is ending"))??;
    let rows = dressed(room, &handed.project, handed.row_ids).await?;
    Ok(Answer::Labelling(LabelAnswer::Next(NextRows { rows, is_suggesting: handed.is_suggesting })))
}

/// Rows with what was suggested for them, and with their words where those are wanted.
async fn dressed(room: &Room, project: &ProjectRecord, row_ids: Vec<u64>) -> Result<Vec<NextRow>, Failure> {
    let rows = rows_of(room, project, row_ids).await?;
    let mut words = match &project.spec.task {
        Task::Span { .. } if !rows.is_empty() => {
            let texts = rows.iter().flat_map(|row| &row.messages).map(|message| message.content.clone());
            room.readers.words(texts.collect()).await?
        }
        _ => Vec::new(),
    }
    .into_iter();
    let mut dressed: Vec<NextRow> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let key = labelling::suggestion_key(&project.name, row.row_id);
        let value = room.store.get(Table::Suggestions, &key).map_err(unreadable)?;
        let read = |value: Vec<u8>| codec::read(Table::Suggestions, &key, &value);
        let suggestion: Option<Suggestion> = value.map(read).transpose().map_err(unreadable)?;
        let words = words.by_ref().take(row.messages.len()).collect();
        let next = NextRow { row, suggestion, words };
        bytes += wire::encode(&next).len();
        // What does not fit into an answer is asked for again.
        if bytes > ANSWER_BYTES && !dressed.is_empty() {
            break;
        }
        dressed.push(next);
    }
    Ok(dressed)
}

/// Refuses decisions that do not fit the text of their rows, and those that are not the person's to make.
pub(super) async fn check(room: &Room, standing: &Standing, request: &Request) -> Result<(), Failure> {
    let Request::Labelling(LabelRequest::Decide { project, person, decisions }) = request else { return Ok(()) };
    let is_anybodys = |how: How| matches!(how, How::Final | How::Imported);
    if let Some(at) = decisions.iter().position(|d| is_anybodys(d.how)).filter(|_| !standing.settles()) {
        let message = format!("{} may neither settle what others disagree on nor bring labels in", standing.person);
        let failure = Failure::new(FailureCode::Forbidden, message).at(format!("decisions[{at}].how"));
        return Err(failure.hint(HintCode::AskOwner));
    }
    if person.is_some() && (!standing.settles() || decisions.iter().any(|d| !is_anybodys(d.how))) {
        let message = "only labels that are brought in or settled can be somebody else's";
        return Err(Failure::field("person", message));
    }
    let mut wanted: Vec<u64> = decisions.iter().filter(|d| values::needs_row(&d.value)).map(|d| d.row_id).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() || wanted.len() > ROWS_MAX as usize {
        return Ok(());
    }
    let state = room.hub.state();
    let record = state.project(project)?;
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    let mut left = &wanted[..];
    while !left.is_empty() {
        let page = rows_of(room, record, left.to_vec()).await?;
        let Some(last) = page.last().map(|row| row.row_id) else { break };
        // A page may be full before all are in it.
        left = left.iter().position(|id| *id == last).map_or(&[], |at| &left[at + 1..]);
        rows.extend(page.into_iter().map(|row| (row.row_id, row)));
    }
    for (at, decision) in decisions.iter().enumerate().filter(|(_, d)| values::needs_row(&d.value)) {
        match rows.get(&decision.row_id) {
            Some(row) => values::check_row(decision, row, at)?,
            None => {
                let message = format!("row {} is not in {project}", decision.row_id);
                return Err(Failure::field(&format!("decisions[{at}].row_id"), message));
            }
        }
    }
    Ok(())
}

/// Answers a read.
pub(super) async fn answer(
    room: &Arc<Room>,
    state: &State,
    standing: &Standing,
    request: LabelRequest,
) -> Result<Answer, Failure> {
    let answer = match request {
        LabelRequest::Projects => {
            let views = state.project_views().into_iter();
            LabelAnswer::Projects(views.filter(|view| standing.sees(&view.record.name)).collect())
        }
        LabelRequest::Rows { project, mut row_ids } => {
            let record = state.project(&project)?;
            row_ids.truncate(ROWS_MAX as usize);
            LabelAnswer::Rows(dressed(room, record, row_ids).await?)
        }
        LabelRequest::Labels { project, person, row_id, before, taken_back, count } => {
            state.project(&project)?;
            let store = room.store.clone();
            let read = move || {
                let wanted = |label: &LabelRecord| {
                    (person.is_empty() || label.person == person)
                        && row_id.is_none_or(|row_id| label.decision.row_id == row_id)
                        && (taken_back || label.taken_back_at_ms.is_none())
                };
                labelling::newest(&store, &project, before, count.min(ROWS_MAX) as usize, wanted).map_err(unreadable)
            };
            LabelAnswer::Labels(usage::aside(read).await?)
        }
        LabelRequest::Agreement { project } => {
            let record = state.project(&project)?.clone();
            let counts = state.project_counts.get(&project).cloned().unwrap_or_default();
            let store = room.store.clone();
            let read = move || {
                let labels = labelling::labels(&store, &project).map_err(unreadable)?;
                let persons: Vec<String> = counts.persons.iter().map(|counts| counts.person.clone()).collect();
                Ok(agreement::agreement(&record.spec.task, &persons, &labels))
            };
            LabelAnswer::Agreement(Box::new(usage::aside(read).await?))
        }
        LabelRequest::Disputed { project, offset, count } => disputed(room, state, &project, offset, count).await?,
        LabelRequest::Suggestions { project, from, count } => {
            state.project(&project)?;
            let prefix = labelling::prefix(&project);
            let from = labelling::suggestion_key(&project, from);
            let pairs =
                room.store.range(Table::Suggestions, &from, &after(&prefix), false, count.min(ROWS_MAX) as usize);
            LabelAnswer::Suggestions(
                codec::read_all(Table::Suggestions, &pairs.map_err(unreadable)?).map_err(unreadable)?,
            )
        }
        _ => return Err(Failure::new(FailureCode::Internal, "this request is no read")),
    };
    Ok(Answer::Labelling(answer))
}

/// Rows that persons disagree on and nobody has settled.
async fn disputed(
    room: &Arc<Room>,
    state: &State,
    project: &str,
    offset: u64,
    count: u32,
) -> Result<LabelAnswer, Failure> {
    let record = state.project(project)?.clone();
    let (store, name) = (room.store.clone(), project.to_owned());
    let read = move || {
        let labels = labelling::labels(&store, &name).map_err(unreadable)?;
        let mut rows: BTreeMap<u64, Vec<LabelRecord>> = BTreeMap::new();
        for label in labels.into_iter().filter(|label| label.taken_back_at_ms.is_none() && !label.is_repeat) {
            rows.entry(label.decision.row_id).or_default().push(label);
        }
        rows.retain(|_, labels| is_disputed(labels));
        let total = rows.len() as u64;
        let page: Vec<(u64, Vec<LabelRecord>)> =
            rows.into_iter().skip(offset as usize).take(count.min(ROWS_MAX) as usize).collect();
        Ok((page, total))
    };
    let (page, total) = usage::aside(read).await?;
    let rows = rows_of(room, &record, page.iter().map(|(row_id, _)| *row_id).collect()).await?;
    let mut labels: BTreeMap<u64, Vec<LabelRecord>> = page.into_iter().collect();
    let mut bytes = 0;
    let mut disputed = Vec::new();
    for row in rows {
        let Some(labels) = labels.remove(&row.row_id) else { continue };
        let one = hone_protocol::labelling::Disputed { row, labels };
        bytes += wire::encode(&one).len();
        if bytes > ANSWER_BYTES && !disputed.is_empty() {
            break;
        }
        disputed.push(one);
    }
    Ok(LabelAnswer::Disputed { rows: disputed, total })
}

/// Whether the newest words of persons on a row differ, or one is a flag, and nobody has settled it.
fn is_disputed(labels: &[LabelRecord]) -> bool {
    if labels.iter().any(|label| label.decision.how == How::Final) {
        return false;
    }
    let mut newest: BTreeMap<&str, &LabelRecord> = BTreeMap::new();
    for label in labels {
        newest.insert(&label.person, label);
    }
    let mut keys =
        newest.values().filter(|label| !label.decision.value.is_skip()).map(|label| label.decision.value.key());
    let differ = keys.next().is_some_and(|first| keys.any(|key| key != first));
    differ || newest.values().any(|label| !label.decision.flag.is_empty())
}
