//! Suggestions: a service says what it thinks of the rows of a project that have no suggestion yet. Answers are kept as those of a batch
//! are, each with its bill, so that an interrupted job goes on without paying twice. `suggest_ask.rs` has what is asked and what answers
//! mean. Never here: how requests are made (`batch_ask.rs`), which order rows get by it (`labelling/desk.rs`).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use hone_protocol::batch::{BatchRow, ROWS_AT_ONCE_MAX};
use hone_protocol::dataset::{DatasetVersionRecord, Row};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Prompt, Sampling, Wish};
use hone_protocol::job::JobSpec;
use hone_protocol::labelling::{ProjectRecord, SUGGESTIONS_MAX, SuggestSpec, Suggestion, Task};
use hone_protocol::worker::{FromWorker, ReadTask, Select, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::batch::{caller, may_call, unreadable};
use super::batch_ask::{Feed, Item, ask_all, done_rows};
use super::suggest_ask::{Asker, Thought};
use super::{Kind, Work};
use crate::dispatcher::event::{Fact, Produced};
use crate::dispatcher::{batch_key, batch_prefix};
use crate::http::desk::Ask;
use crate::http::lines;
use crate::labelling;
use crate::labelling::desk::Desk;
use crate::labelling::values;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::store::{Table, after, codec};
use crate::workers::line::Line;
use crate::workers::process::Program;

pub(super) const KIND: Kind =
    Kind { word: "suggest", check, pin, memory: |_, _| Need::exactly(128 << 20), heavy: false, run };

/// Rows of a round, in times of those that are asked at once: suggestions are stored between rounds.
const ROUND_TIMES: usize = 8;

fn spec_of(spec: &JobSpec) -> Result<&SuggestSpec, Failure> {
    match spec {
        JobSpec::Suggest(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a suggestion of labels")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    let project = state.project(&spec.project)?;
    if project.closed_at_ms.is_some() {
        let message = format!("{} is closed", spec.project);
        return Err(Failure::new(FailureCode::WrongState, message).at("project"));
    }
    if project.spec.task == Task::Rank {
        let message = "no service is asked to rank answers; label pairs instead, or send suggestions of your own";
        return Err(Failure::field("project", message));
    }
    may_call(state, state.application(&spec.payer)?, &spec.service)?;
    if state.is_encoder(state.service(&spec.service)?.version) {
        return Err(Failure::field("service", format!("{} makes embeddings; it suggests nothing", spec.service)));
    }
    if spec.at_once > ROWS_AT_ONCE_MAX {
        return Err(Failure::field("at_once", format!("at_once must be between 0 and {ROWS_AT_ONCE_MAX}")));
    }
    Ok(())
}

fn pin(_: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    Ok(spec)
}

/// Why suggestions may not begin now, beside memory.
pub(super) fn waits_for(state: &State, spec: &SuggestSpec) -> Result<(), String> {
    match state.service(&spec.service).is_ok_and(|service| !service.wanted) {
        true => Err(format!("service {} is off; hone service start {} turns it on", spec.service, spec.service)),
        false => Ok(()),
    }
}

fn run(context: Context) -> Work {
    Box::pin(suggest(context))
}

/// Rows of a project without a suggestion, in its order.
fn open_rows(context: &Context, project: &ProjectRecord) -> Result<Vec<u64>, Failure> {
    let chosen = match project.is_chosen {
        true => {
            let value = context.store.get(Table::ProjectRows, project.name.as_bytes()).map_err(unreadable)?;
            let read = |value: Vec<u8>| codec::read(Table::ProjectRows, project.name.as_bytes(), &value);
            value.map(read).transpose().map_err(unreadable)?
        }
        false => None,
    };
    let mut desk = Desk::new(&project.spec, context.state.rows_of(&project.spec.dataset), chosen);
    let there = context.store.prefix(Table::Suggestions, &labelling::prefix(&project.name)).map_err(unreadable)?;
    let there: Vec<Suggestion> = codec::read_all(Table::Suggestions, &there).map_err(unreadable)?;
    there.iter().for_each(|suggestion| desk.suggest(suggestion));
    Ok(desk.unsuggested(&project.spec))
}

async fn suggest(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let project = context.state.project(&spec.project)?.clone();
    let version: DatasetVersionRecord = (**context.state.any_dataset_version(&project.spec.dataset)?).clone();
    let standard = project.spec.standard.as_deref().map(|name| context.state.standard(name)).transpose()?;
    let asker = Asker::new(&project.spec, standard.map(|standard| &standard.spec));
    let mut kept = tell_left(&context, spec).await?;
    let done: HashSet<u64> = done_rows(&context)?;
    let mut open = open_rows(&context, &project)?;
    open.retain(|row_id| !done.contains(row_id));
    if spec.rows_max > 0 {
        open.truncate(usize::try_from(spec.rows_max.saturating_sub(done.len() as u64)).unwrap_or(usize::MAX));
    }
    let rows = done.len() as u64 + open.len() as u64;
    context.durable(Fact::BatchCounted(rows)).await?;
    context.progress("phase.suggest", done.len() as u64, rows).await;
    let slots = context.state.service(&spec.service)?.slots;
    let at_once = if spec.at_once == 0 { slots.saturating_sub(1).clamp(1, ROWS_AT_ONCE_MAX) } else { spec.at_once };
    let mut reader = context.child(Program::Daemon("data"), Paths::none().read(&context.places.blobs)).await?;
    let caller = caller(&context);
    let (mut number, mut seen) = (0, done.len() as u64);
    for round in open.chunks(at_once as usize * ROUND_TIMES) {
        number += 1;
        let found = read(&mut context, &mut reader, &version, (number, round.to_vec())).await?;
        let items: VecDeque<Item> = found.into_iter().map(|row| item(&context, spec, &asker, row)).collect();
        let left = rows.saturating_sub(seen);
        seen += round.len() as u64;
        ask_all(&mut context, caller.clone(), &mut Round(items), at_once as usize, left).await?;
        let answered = answers_of(&context, round)?;
        kept += answered.len() as u64;
        tell(&context, spec, answered).await?;
    }
    Ok(Produced::Suggested(kept))
}

async fn read(
    context: &mut Context,
    reader: &mut Line,
    version: &DatasetVersionRecord,
    (request, row_ids): (u64, Vec<u64>),
) -> Result<Vec<Row>, Stop> {
    let (mut left, mut rows) = (row_ids, Vec::new());
    while !left.is_empty() {
        let task = ReadTask {
            request,
            folder: context.places.blobs.display().to_string(),
            segments: version.segments.clone(),
            select: Select::Ids { row_ids: left.clone() },
        };
        reader.send(&ToWorker::Read(task)).await?;
        let page = match context.next(reader).await? {
            FromWorker::Window { rows, .. } => rows?,
            other => return Err(unexpected(&other)),
        };
        let Some(last) = page.last().map(|row| row.row_id) else { break };
        left = left.iter().position(|id| *id == last).map_or(Vec::new(), |at| left[at + 1..].to_vec());
        rows.extend(page);
    }
    Ok(rows)
}

fn item(context: &Context, spec: &SuggestSpec, asker: &Asker, row: Row) -> Item {
    let row_id = row.row_id;
    let question = asker.question(&row);
    let ask = Ask {
        service: spec.service.clone(),
        prompts: vec![Prompt::chat(question.messages)],
        answers: 1,
        wish: Wish {
            sampling: Sampling::greedy(),
            format: question.format,
            chances: question.chances,
            ..Wish::default()
        },
        tokens_max: Some(question.tokens_max),
        // So that the ledger says for which job.
        user: context.job.id.to_string(),
        metadata: Vec::new(),
        route: "batch",
    };
    let (reading, task) = (asker.clone(), asker.task.clone());
    let write: lines::Write = Arc::new(move |_, gathered, _| {
        let choice = gathered.first().ok_or_else(|| Failure::new(FailureCode::FormatNotKept, "there is no answer"))?;
        let thought = reading.thought(&row, &choice.text, choice.chances());
        let thought = thought.map_err(|reason| Failure::new(FailureCode::FormatNotKept, reason))?;
        // An upstream need not keep to a schema.
        values::value(&task, &thought.value).map_err(|reason| Failure::new(FailureCode::FormatNotKept, reason))?;
        serde_json::to_string(&thought).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
    });
    Item::new(row_id, String::new(), Ok(lines::Wanted::Answer(ask, write)), true)
}

/// The rows of a round.
struct Round(VecDeque<Item>);

impl Feed for Round {
    async fn next(&mut self, _: &mut Context) -> Result<Option<Item>, Stop> {
        Ok(self.0.pop_front())
    }
}

/// Stores the suggestions of these answers.
async fn tell(context: &Context, spec: &SuggestSpec, answered: Vec<BatchRow>) -> Result<(), Stop> {
    let new = answered.into_iter().filter_map(|row| {
        let thought: Thought = serde_json::from_str(row.answer.as_ref().ok()?).ok()?;
        let by = format!("{} ({})", spec.service, row.version);
        Some(Suggestion { row_id: row.row, value: thought.value, probability: thought.probability, by })
    });
    let new: Vec<Suggestion> = new.collect();
    for chunk in new.chunks(SUGGESTIONS_MAX) {
        context.durable(Fact::Suggested(spec.project.clone(), chunk.to_vec())).await?;
    }
    Ok(())
}

/// What an earlier attempt kept and did not come to tell; and how many answers there are.
async fn tell_left(context: &Context, spec: &SuggestSpec) -> Result<u64, Stop> {
    let prefix = batch_prefix(context.job.id, false);
    let from = batch_key(context.job.id, false, 0);
    let pairs = context.store.range(Table::BatchRows, &from, &after(&prefix), false, usize::MAX).map_err(unreadable)?;
    let mut answered: Vec<BatchRow> = codec::read_all(Table::BatchRows, &pairs).map_err(unreadable)?;
    let kept = answered.len() as u64;
    let there = context.store.prefix(Table::Suggestions, &labelling::prefix(&spec.project)).map_err(unreadable)?;
    let there: HashSet<u64> =
        there.iter().filter_map(|(key, _)| Some(u64::from_be_bytes(*key.last_chunk()?))).collect();
    answered.retain(|row| !there.contains(&row.row));
    tell(context, spec, answered).await?;
    Ok(kept)
}

/// The answers to the rows of a round.
fn answers_of(context: &Context, row_ids: &[u64]) -> Result<Vec<BatchRow>, Failure> {
    let read = |row_id: &u64| {
        let key = batch_key(context.job.id, false, *row_id);
        let value = context.store.get(Table::BatchRows, &key).map_err(unreadable)?;
        value.map(|value| codec::read(Table::BatchRows, &key, &value)).transpose().map_err(unreadable)
    };
    row_ids.iter().filter_map(|row_id| read(row_id).transpose()).collect()
}
