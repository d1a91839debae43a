//! Evaluate: every row of a suite is scored (loss of its own answers) and answered greedily by a serving process of
//! its own; rows are stored as they are judged, so an interrupted evaluation goes on where it was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use hone_protocol::dataset::{ChatMessage, Row};
use hone_protocol::evaluation::{EvaluateSpec, EvaluationRow, Scorer, SuiteRecord};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Channel, Prompt, Share, Wish};
use hone_protocol::job::JobSpec;
use hone_protocol::model::Weights;
use hone_protocol::value::{Hash, Json};
use hone_protocol::worker::{FromWorker, GenerateTask, ReadTask, Sampling, Select, ServeTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::train::weights_path;
use super::{Kind, Work, evaluation_id, store_file};
use crate::dispatcher::event::{Fact, Produced};
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::store::{Table, codec};
use crate::workers::line::Line;
use crate::workers::process::Program;

pub(super) const KIND: Kind = Kind { word: "evaluate", check, pin, memory, heavy: true, run };

/// Rows at once.
const SLOTS: u32 = 8;
const ANSWER_TOKENS_MAX: u32 = 4096;
/// The number of the adapter in the serving process.
const ADAPTER: u32 = 1;
/// Rows that are read at once.
const WINDOW: u32 = 200;

fn spec_of(spec: &JobSpec) -> Result<&EvaluateSpec, Failure> {
    match spec {
        JobSpec::Evaluate(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not an evaluation")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    state.version(&spec.version)?;
    state.suite(&spec.suite)?;
    if !(1..=ANSWER_TOKENS_MAX).contains(&spec.answer_tokens_max) {
        let message = format!("answer_tokens_max must be between 1 and {ANSWER_TOKENS_MAX}");
        return Err(Failure::field("answer_tokens_max", message));
    }
    Ok(())
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let mut spec = spec_of(&spec)?.clone();
    spec.version = state.version_reference(state.version(&spec.version)?.id);
    Ok(JobSpec::Evaluate(spec))
}

fn memory(state: &State, spec: &JobSpec) -> Need {
    let Ok(version) = spec_of(spec).and_then(|s| state.version(&s.version)) else { return Need::exactly(0) };
    Need::exactly(state.serve_bytes(state.base_of(version), SLOTS, 2048))
}

fn run(context: Context) -> Work {
    Box::pin(evaluate(context))
}

async fn evaluate(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let suite = context.state.suite(&spec.suite)?.clone();
    let rows = read_rows(&mut context, &suite, spec.rows_max).await?;
    if rows.is_empty() {
        return Err(Failure::new(FailureCode::NoRows, "the suite has no rows").at(spec.suite.clone()).into());
    }
    let done = stored_rows(&context)?;
    let mut judged: Vec<EvaluationRow> = done.values().cloned().collect();
    let open: VecDeque<Row> = rows.into_iter().filter(|r| !done.contains_key(&r.row_id)).collect();
    if !open.is_empty() {
        let mut line = serve(&mut context, spec).await?;
        judge_all(&mut context, &mut line, spec, &suite, open, &mut judged).await?;
    }
    let loss_sum = judged.iter().map(|r| r.loss_sum).sum();
    let loss_tokens = judged.iter().map(|r| r.loss_tokens).sum();
    let scored: Vec<f64> = judged.iter().filter_map(|r| r.scores.first()).map(|(_, s)| *s).collect();
    let score = (!scored.is_empty()).then(|| scored.iter().sum::<f64>() / scored.len() as f64);
    Ok(Produced::Evaluation { rows: judged.len() as u64, loss_sum, loss_tokens, score })
}

async fn read_rows(context: &mut Context, suite: &SuiteRecord, rows_max: u64) -> Result<Vec<Row>, Stop> {
    let version = context.state.dataset_versions.get(&suite.dataset).cloned();
    let version = version.ok_or_else(|| Failure::not_found("dataset version", &suite.dataset.to_string()))?;
    let mut line = context.child(Program::Daemon("data"), Paths::none().read(&context.places.blobs)).await?;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let select = Select::Window { offset: rows.len() as u64, count: WINDOW, split: suite.split, part: suite.part };
        let task = ReadTask {
            request: rows.len() as u64,
            folder: context.places.blobs.display().to_string(),
            segments: version.segments.clone(),
            select,
        };
        line.send(&ToWorker::Read(task)).await?;
        let total = match context.next(&mut line).await? {
            FromWorker::Window { rows: Ok(window), total, .. } => {
                let empty = window.is_empty();
                rows.extend(window);
                if empty { rows.len() as u64 } else { total }
            }
            FromWorker::Window { rows: Err(failure), .. } => return Err(failure.into()),
            other => return Err(unexpected(&other)),
        };
        let wanted = if rows_max == 0 { total } else { total.min(rows_max) };
        if rows.len() as u64 >= wanted {
            rows.truncate(wanted as usize);
            return Ok(rows);
        }
    }
}

fn stored_rows(context: &Context) -> Result<BTreeMap<u64, EvaluationRow>, Stop> {
    let id = evaluation_id(context.job.id);
    let broken = |e: crate::store::StoreError| Failure::new(FailureCode::Internal, e.to_string());
    let pairs = context.store.prefix(Table::EvaluationRows, id.bytes()).map_err(broken)?;
    let rows: Vec<EvaluationRow> = codec::read_all(Table::EvaluationRows, &pairs).map_err(broken)?;
    Ok(rows.into_iter().map(|r| (r.row_id, r)).collect())
}

async fn serve(context: &mut Context, spec: &EvaluateSpec) -> Result<Line, Stop> {
    let state = context.state.clone();
    let version = state.version(&spec.version)?;
    let base = state.versions.get(&state.base_of(version)).cloned();
    let base = base.ok_or_else(|| Failure::not_found("version", &spec.version))?;
    let model_path = weights_path(&context.places, &base);
    store_file::unchanged(&model_path, &base.file)?;
    context.progress("phase.load", 0, 0).await;
    let paths = Paths::none().read(&context.places.models).read(&model_path);
    let mut line = context.child(Program::Worker("serve"), paths).await?;
    let task = ServeTask {
        model_path: model_path.display().to_string(),
        slots: SLOTS,
        context_tokens: base.facts.context_tokens.min(2048),
        threads: state.threads(state.pool_of(&context.job)),
    };
    line.send(&ToWorker::Serve(task)).await?;
    loop {
        match context.next(&mut line).await? {
            FromWorker::Ready { .. } => break,
            FromWorker::Load { .. } | FromWorker::Memory { .. } => {}
            other => return Err(unexpected(&other)),
        }
    }
    if matches!(version.weights, Weights::Adapter { .. }) {
        let path = weights_path(&context.places, version);
        store_file::unchanged(&path, &version.file)?;
        let task = ToWorker::AddAdapter { request: 0, adapter: ADAPTER, path: path.display().to_string() };
        line.send(&task).await?;
        loop {
            match context.next(&mut line).await? {
                FromWorker::AdapterReady { .. } => break,
                FromWorker::Load { .. } | FromWorker::Memory { .. } => {}
                FromWorker::Refused { failure, .. } => return Err(failure.into()),
                other => return Err(unexpected(&other)),
            }
        }
    }
    Ok(line)
}

/// A row whose answer and loss are on their way.
struct Open {
    row: Row,
    prompt: Vec<ChatMessage>,
    expected: String,
    answer: String,
    answered: bool,
    loss: Option<(f64, u64)>,
    started: Instant,
    answer_ms: f64,
}

impl Open {
    fn new(row: Row) -> Open {
        let last = row.messages.iter().rposition(|m| m.role == "assistant");
        let prompt = row.messages[..last.unwrap_or(row.messages.len())].to_vec();
        let expected = last.map_or(String::new(), |i| row.messages[i].content.clone());
        let started = Instant::now();
        Open { row, prompt, expected, answer: String::new(), answered: false, loss: None, started, answer_ms: 0.0 }
    }

    fn done(&self) -> bool {
        self.answered && self.loss.is_some()
    }
}

async fn judge_all(
    context: &mut Context,
    line: &mut Line,
    spec: &EvaluateSpec,
    suite: &SuiteRecord,
    mut waiting: VecDeque<Row>,
    judged: &mut Vec<EvaluationRow>,
) -> Result<(), Stop> {
    let adapter = matches!(context.state.version(&spec.version)?.weights, Weights::Adapter { .. }).then_some(ADAPTER);
    let total = (waiting.len() + judged.len()) as u64;
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    let mut next_request = 2;
    context.progress("phase.evaluate", judged.len() as u64, total).await;
    while !(waiting.is_empty() && open.is_empty()) {
        while open.len() < SLOTS as usize
            && let Some(row) = waiting.pop_front()
        {
            // Even numbers answer, odd numbers score.
            let row = Open::new(row);
            let generate = GenerateTask {
                request: next_request,
                adapter,
                prompt: Prompt::chat(row.prompt.clone()),
                wish: Wish { tokens_max: spec.answer_tokens_max, sampling: Sampling::greedy(), ..Wish::default() },
                scope: Hash([0; 32]),
                turn: Share::default(),
            };
            line.send(&ToWorker::Generate(generate)).await?;
            let messages = row.row.messages.clone();
            line.send(&ToWorker::Score { request: next_request + 1, adapter, messages }).await?;
            open.insert(next_request, row);
            next_request += 2;
        }
        let message = context.next(line).await?;
        let Some(request) = take(&mut open, message)? else { continue };
        if let Some(row) = open.remove(&request) {
            let row = judge(row, &suite.scorers);
            judged.push(row.clone());
            context.durable(Fact::EvaluationRows(vec![row])).await?;
            context.progress("phase.evaluate", judged.len() as u64, total).await;
        }
    }
    Ok(())
}

/// Takes one message; the number of the row that is complete now, if any.
fn take(open: &mut BTreeMap<u64, Open>, message: FromWorker) -> Result<Option<u64>, Stop> {
    let number = match &message {
        FromWorker::Load { .. } | FromWorker::Memory { .. } | FromWorker::Began { .. } => return Ok(None),
        FromWorker::Piece { request, .. } | FromWorker::Ended { request, .. } => *request,
        FromWorker::Scored { request, .. } => request & !1,
        FromWorker::Refused { request, failure } => {
            let row = open.get(&(request & !1)).map_or(0, |r| r.row.row_id);
            return Err(failure.clone().at(format!("row {row}")).into());
        }
        other => return Err(unexpected(other)),
    };
    let Some(row) = open.get_mut(&number) else { return Err(unexpected(&message)) };
    match message {
        FromWorker::Piece { text, channel: Channel::Text, .. } => row.answer.push_str(&text),
        FromWorker::Ended { .. } => {
            row.answered = true;
            row.answer_ms = row.started.elapsed().as_secs_f64() * 1000.0;
        }
        FromWorker::Scored { loss_sum, tokens, .. } => row.loss = Some((loss_sum, tokens)),
        _ => {}
    }
    Ok(row.done().then_some(number))
}

fn judge(row: Open, scorers: &[Scorer]) -> EvaluationRow {
    let mut scores = Vec::new();
    let mut notes = serde_json::Map::new();
    for scorer in scorers {
        match scorer {
            Scorer::Loss => {}
            Scorer::Expect => {
                let (score, missed) = expect(&row.row.original.value(), &row.answer);
                if let Some(score) = score {
                    scores.push(("expect".to_owned(), score));
                    notes.insert("missed".into(), missed.into_iter().collect::<Vec<_>>().into());
                }
            }
            Scorer::Exact => {
                let same = row.answer.trim() == row.expected.trim();
                scores.push(("exact".to_owned(), f64::from(u8::from(same))));
            }
        }
    }
    let (loss_sum, loss_tokens) = row.loss.unwrap_or_default();
    EvaluationRow {
        row_id: row.row.row_id,
        prompt: row.prompt.last().map_or(String::new(), |m| m.content.clone()),
        expected: row.expected,
        answer: row.answer,
        loss_sum,
        loss_tokens,
        scores,
        notes: Json(notes.into()),
        answer_ms: row.answer_ms,
    }
}

/// The share of the row's own checks that hold, and those that do not. `None` when the row has none.
fn expect(original: &serde_json::Value, answer: &str) -> (Option<f64>, BTreeSet<String>) {
    let answer = answer.trim().to_lowercase();
    let expect = &original["expect"];
    let text = |v: &serde_json::Value| v.as_str().map(|s| s.trim().to_lowercase());
    let mut checks: Vec<(String, bool)> = Vec::new();
    for wanted in expect["contains"].as_array().into_iter().flatten().filter_map(text) {
        checks.push((format!("contains {wanted:?}"), answer.contains(&wanted)));
    }
    if let Some(wanted) = text(&expect["starts_with"]) {
        checks.push((format!("starts with {wanted:?}"), answer.starts_with(&wanted)));
    }
    if let Some(wanted) = text(&expect["ends_with"]) {
        checks.push((format!("ends with {wanted:?}"), answer.ends_with(&wanted)));
    }
    let held = checks.iter().filter(|(_, holds)| *holds).count();
    let score = (!checks.is_empty()).then(|| held as f64 / checks.len() as f64);
    (score, checks.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_score_is_the_share_of_checks_that_hold() {
        let row = serde_json::json!({"expect": {"contains": ["30 days"], "starts_with": "Hello", "ends_with": "bye!"}});
        let (score, missed) = expect(&row, "  hello, it is 30 DAYS. Bye!\n");
        assert_eq!(score, Some(1.0));
        assert!(missed.is_empty());
        let (score, missed) = expect(&row, "It is 31 days");
        assert_eq!(score, Some(0.0));
        assert_eq!(missed.len(), 3);
        assert_eq!(expect(&serde_json::json!({}), "x").0, None);
    }
}
