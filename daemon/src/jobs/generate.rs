//! Generation: a service writes rows to a standard, in rounds. Answers are kept as those of a batch are, each with its bill, so that an
//! interrupted generation goes on without paying twice. `prompts.rs` has what is said, `candidates.rs` what becomes of answers,
//! `estimate.rs` what it may come to. Never here: how requests are made (`batch_ask.rs`), metering.

mod candidates;
pub(crate) mod estimate;
mod prompts;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use hone_protocol::batch::{BatchRow, ROWS_AT_ONCE_MAX};
use hone_protocol::dataset::{DatasetVersionRecord, ImportReport, REJECTIONS_MAX, Rejection, Row, RowFormat, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Prompt, Sampling, Wish};
use hone_protocol::generation::{
    GENERATED_MAX, GenerateEstimate, GenerateMethod, GenerateSpec, Generated, RejectedCandidate, SEED_ROWS_MAX,
};
use hone_protocol::job::JobSpec;
use hone_protocol::paths::is_name;
use hone_protocol::standard::StandardRecord;
use hone_protocol::worker::{FromWorker, ImportTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::batch::{Rows, TOKENS_MAX, caller, may_call, unreadable};
use super::batch_ask::{Feed, Item, ask_all};
use super::{Kind, Work};
use crate::dispatcher::batch_prefix;
use crate::dispatcher::event::{Fact, Produced};
use crate::http::desk::Ask;
use crate::http::lines;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::store::{Table, after, codec};
use crate::workers::process::Program;
use candidates::{Candidates, Kept, Seed, Source, Stage, Wanted};

pub(super) const KIND: Kind = Kind { word: "generate", check, pin, memory, heavy: false, run };

/// Requests of a round, in times of those that are made at once: what becomes of them is looked at between rounds.
const ROUND_TIMES: usize = 3;
/// Shortest and longest piece of a document, in characters.
const CHUNK_CHARS: std::ops::RangeInclusive<u32> = 100..=20_000;
/// Rows of a batch that are read at once.
const KEYS: usize = 1000;
/// The file of rows, in the job's folder.
const ROWS: &str = "generated.jsonl";

fn spec_of(spec: &JobSpec) -> Result<&GenerateSpec, Failure> {
    match spec {
        JobSpec::Generate(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a generation")),
    }
}

/// Refuses a form that cannot work.
pub(crate) fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    let standard = state.standard(&spec.standard)?;
    let payer = state.application(&spec.payer)?;
    may_call(state, payer, &spec.service)?;
    if !spec.judge.is_empty() {
        may_call(state, payer, &spec.judge)?;
        if standard.spec.criteria.is_empty() {
            let message =
                format!("{} has no rubric to judge by; give it criteria, or leave the judge out", spec.standard);
            return Err(Failure::field("judge", message));
        }
    }
    for service in [&spec.service, &spec.judge].into_iter().filter(|name| !name.is_empty()) {
        if state.is_encoder(state.service(service)?.version) {
            return Err(Failure::field("service", format!("{service} makes embeddings; it writes nothing")));
        }
    }
    numbers(spec)?;
    shapes(state, spec, standard.spec.shape)?;
    if !is_name(&spec.name) {
        let message =
            format!("{:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit", spec.name);
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    sampling(spec, 0).check()
}

fn numbers(spec: &GenerateSpec) -> Result<(), Failure> {
    let inside = |field: &str, value: u32, low: u32, high: u32| match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(Failure::field(field, format!("{field} is {value}; it must be between {low} and {high}"))),
    };
    inside("count", spec.count, 0, GENERATED_MAX)?;
    inside("tokens_max", spec.tokens_max, 1, TOKENS_MAX)?;
    inside("similarity_max_percent", spec.similarity_max_percent, 0, 100)?;
    inside("judge_least_percent", spec.judge_least_percent, 0, 100)?;
    inside("at_once", spec.at_once, 0, ROWS_AT_ONCE_MAX)?;
    match &spec.method {
        GenerateMethod::SelfInstruct if spec.count == 0 => {
            Err(Failure::field("count", "say how many rows are wanted: new prompts have no end of their own"))
        }
        GenerateMethod::Documents { chunk_chars, overlap_chars } => {
            inside("chunk_chars", *chunk_chars, *CHUNK_CHARS.start(), *CHUNK_CHARS.end())?;
            inside("overlap_chars", *overlap_chars, 0, chunk_chars / 2)
        }
        GenerateMethod::Translate { language } if language.trim().is_empty() || language.len() > 64 => {
            Err(Failure::field("language", "say into which language, in 1 to 64 bytes"))
        }
        _ => Ok(()),
    }
}

fn shapes(state: &State, spec: &GenerateSpec, shape: Shape) -> Result<(), Failure> {
    if shape == Shape::Preference {
        let message = "pairs of answers are not generated; make chats and judge answers in the playground";
        return Err(Failure::field("standard", message));
    }
    let chats_only = matches!(spec.method, GenerateMethod::Answers | GenerateMethod::Documents { .. });
    if chats_only && shape == Shape::Text {
        let message = format!("{} makes chats, the standard is of text rows", spec.method.word());
        return Err(Failure::field("method", message));
    }
    let made = if shape == Shape::Text { Shape::Text } else { Shape::Chat };
    if let Some(dataset) = state.dataset(&spec.name).filter(|dataset| dataset.shape != made) {
        let message = format!("{} holds {} rows, these would be {} rows", spec.name, dataset.shape.word(), made.word());
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    if spec.source.is_empty() {
        let good = state.standard(&spec.standard)?.spec.examples.iter().filter(|example| example.good).count();
        if !matches!(spec.method, GenerateMethod::SelfInstruct | GenerateMethod::Paraphrase) || good == 0 {
            let message = "name the rows that it begins with; only self_instruct and paraphrase can begin with the good examples of a standard";
            return Err(Failure::field("source", message));
        }
        return Ok(());
    }
    let version = state.dataset_version(&spec.source)?;
    let there = state.datasets.get(&version.dataset).map_or(Shape::Chat, |dataset| dataset.shape);
    let fits = match spec.method {
        GenerateMethod::Documents { .. } => matches!(there, Shape::Text | Shape::Chat),
        GenerateMethod::Answers => there != Shape::Text,
        GenerateMethod::Translate { .. } | GenerateMethod::Paraphrase | GenerateMethod::SelfInstruct => {
            (there == Shape::Text) == (shape == Shape::Text) && there != Shape::Preference
        }
    };
    if !fits {
        let message = format!(
            "{} holds {} rows; {} cannot make {} rows of them",
            spec.source,
            there.word(),
            spec.method.word(),
            made.word()
        );
        return Err(Failure::field("source", message));
    }
    Ok(())
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let mut spec = spec_of(&spec)?.clone();
    spec.standard = state.standard(&spec.standard)?.reference();
    if !spec.source.is_empty() {
        spec.source = state.dataset_reference(state.dataset_version(&spec.source)?);
    }
    Ok(JobSpec::Generate(Box::new(spec)))
}

/// What reads and writes rows takes as much as an import; the services are there anyway.
fn memory(_: &State, _: &JobSpec) -> Need {
    Need::exactly(128 << 20)
}

/// Why a generation may not begin now, beside memory.
pub(super) fn waits_for(state: &State, spec: &GenerateSpec) -> Result<(), String> {
    let off = |name: &&String| state.service(name).is_ok_and(|service| !service.wanted);
    match [&spec.service, &spec.judge].into_iter().find(off) {
        Some(name) => Err(format!("service {name} is off; hone service start {name} turns it on")),
        None => Ok(()),
    }
}

/// How tokens of a request are chosen: another seed for each, so that no two are the same draw.
fn sampling(spec: &GenerateSpec, row: u64) -> Sampling {
    let seed = spec.seed.wrapping_add(row.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Sampling { temperature: spec.temperature, top_p: spec.top_p, seed: Some(seed), ..Sampling::default() }
}

fn run(context: Context) -> Work {
    Box::pin(generate(context))
}

async fn generate(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let standard = context.state.standard(&spec.standard)?.clone();
    context.progress("phase.export", 0, 0).await;
    let (sources, sample, rows) = sources(&mut context, spec, &standard).await?;
    let said = estimate::estimate(&context.state, &context.store, spec, &standard.spec, &sample, rows)?;
    let mut candidates = Candidates::new(spec, &standard, &sources)?;
    kept_rows(&context, 0)?.iter().for_each(|done| candidates.take(done));
    context.durable(Fact::BatchCounted(said.requests.max(candidates.requests))).await?;
    let mut told = 0;
    let why = rounds(&mut context, spec, &mut candidates, &said, &mut told).await?;
    if !why.is_empty() {
        candidates.close(&why);
    }
    tell_rejected(&context, &candidates, &mut told).await?;
    finish(&mut context, spec, &standard, candidates, why).await
}

/// Asks until all rows are there: why it ended earlier, or nothing.
async fn rounds(
    context: &mut Context,
    spec: &GenerateSpec,
    candidates: &mut Candidates<'_>,
    said: &GenerateEstimate,
    told: &mut usize,
) -> Result<String, Stop> {
    let slots = context.state.service(&spec.service)?.slots;
    let at_once = if spec.at_once == 0 { slots.saturating_sub(1).clamp(1, ROWS_AT_ONCE_MAX) } else { spec.at_once };
    let caller = caller(context);
    while !candidates.is_complete() {
        let left = said.requests_max.saturating_sub(candidates.requests);
        if left == 0 {
            return Ok(format!("the ceiling of {} requests is reached", said.requests_max));
        }
        let most = (at_once as usize * ROUND_TIMES).min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut wanted = VecDeque::from(candidates.next(most));
        if wanted.is_empty() {
            return Ok("every candidate that may be tried was tried".into());
        }
        while !wanted.is_empty() {
            let mut tokens = said.total_tokens_max.saturating_sub(candidates.tokens);
            let mut items = VecDeque::new();
            let first = candidates.next_row;
            while let Some(one) = wanted.front() {
                // What a request could come to at the most: no token has less than a byte.
                let could = most_tokens(one, spec);
                if could > tokens {
                    break;
                }
                tokens -= could;
                let row = first + items.len() as u64;
                items.extend(wanted.pop_front().map(|one| item(context, spec, one, row)));
            }
            if items.is_empty() {
                return Ok(format!(
                    "the ceiling of {} tokens leaves too few for another request",
                    said.total_tokens_max
                ));
            }
            let left = said.requests.saturating_sub(candidates.requests);
            ask_all(context, caller.clone(), &mut Round(items), at_once as usize, left).await?;
            kept_rows(context, first)?.iter().for_each(|done| candidates.take(done));
        }
        tell_rejected(context, candidates, told).await?;
    }
    Ok(String::new())
}

/// Keeps the candidates that were let go since the last time; again those of earlier attempts, which are the same.
async fn tell_rejected(context: &Context, candidates: &Candidates<'_>, told: &mut usize) -> Result<(), Stop> {
    let rejected = candidates.rejected[*told..].to_vec();
    *told = candidates.rejected.len();
    if rejected.is_empty() { Ok(()) } else { context.durable(Fact::Rejected(rejected)).await }
}

/// Most tokens that a request could come to.
fn most_tokens(wanted: &Wanted, spec: &GenerateSpec) -> u64 {
    /// Marks that a template puts around a message.
    const AROUND_TOKENS: u64 = 32;
    let bytes: u64 = wanted.question.messages.iter().map(|m| m.content.len() as u64 + AROUND_TOKENS).sum();
    bytes + AROUND_TOKENS + u64::from(spec.tokens_max)
}

fn item(context: &Context, spec: &GenerateSpec, wanted: Wanted, row: u64) -> Item {
    let Wanted { stage, candidate, seeds, question } = wanted;
    let service = if stage == Stage::Judge { &spec.judge } else { &spec.service };
    let sampling = if stage == Stage::Judge { Sampling::greedy() } else { sampling(spec, row) };
    let sent = question.messages.clone();
    let ask = Ask {
        service: service.clone(),
        prompts: vec![Prompt::chat(question.messages)],
        answers: 1,
        wish: Wish { sampling, format: question.format, ..Wish::default() },
        tokens_max: Some(spec.tokens_max),
        // So that the ledger says for which job.
        user: context.job.id.to_string(),
        metadata: Vec::new(),
        route: "batch",
    };
    let write: lines::Write = Arc::new(move |_, gathered, _| {
        let text = gathered.first().map_or(String::new(), |choice| choice.text.clone());
        if text.trim().is_empty() {
            return Err(Failure::new(FailureCode::FormatNotKept, "the answer is empty"));
        }
        let kept = Kept { text, seeds: seeds.clone(), sent: sent.clone() };
        serde_json::to_string(&kept).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
    });
    Item::new(row, stage.mark(candidate), Ok(lines::Wanted::Answer(ask, write)), true)
}

/// The requests of a round.
struct Round(VecDeque<Item>);

impl Feed for Round {
    async fn next(&mut self, _: &mut Context) -> Result<Option<Item>, Stop> {
        Ok(self.0.pop_front())
    }
}

/// What earlier rounds and attempts kept from a request on, by number.
fn kept_rows(context: &Context, from: u64) -> Result<Vec<BatchRow>, Stop> {
    let mut rows: Vec<BatchRow> = Vec::new();
    for failed in [false, true] {
        let prefix = batch_prefix(context.job.id, failed);
        let mut next = crate::dispatcher::batch_key(context.job.id, failed, from);
        loop {
            let pairs =
                context.store.range(Table::BatchRows, &next, &after(&prefix), false, KEYS).map_err(unreadable)?;
            let Some((last, _)) = pairs.last() else { break };
            next = [last.as_slice(), &[0]].concat();
            rows.extend(codec::read_all::<BatchRow>(Table::BatchRows, &pairs).map_err(unreadable)?);
        }
    }
    rows.sort_by_key(|row| row.row);
    Ok(rows)
}

/// What it begins with, the first rows of the source, and how many rows that has.
async fn sources(
    context: &mut Context,
    spec: &GenerateSpec,
    standard: &StandardRecord,
) -> Result<(Vec<Source>, Vec<Row>, u64), Stop> {
    if spec.source.is_empty() {
        let good = standard.spec.examples.iter().enumerate().filter(|(_, example)| example.good);
        let source = |(at, example): (usize, &hone_protocol::standard::StandardExample)| Source {
            seed: Seed::Example(at as u32 + 1),
            messages: example.messages.clone(),
        };
        return Ok((good.map(source).collect(), Vec::new(), 0));
    }
    let version: DatasetVersionRecord = (**context.state.dataset_version(&spec.source)?).clone();
    let mut rows = Rows::new(&version, version.rows.min(SEED_ROWS_MAX as u64));
    let (mut sources, mut sample) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next(context).await? {
        if sample.len() < estimate::SAMPLE_ROWS as usize {
            sample.push(row.clone());
        }
        let whole = || row.messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n");
        match spec.method {
            GenerateMethod::Documents { chunk_chars, overlap_chars } => {
                let pieces = prompts::pieces(&whole(), chunk_chars as usize, overlap_chars as usize);
                sources.extend(pieces.into_iter().enumerate().map(|(at, piece)| Source {
                    seed: Seed::Piece(row.row_id, at as u32),
                    messages: vec![prompts::message("user", piece)],
                }));
            }
            GenerateMethod::Answers => {
                // What stands before the last answer; a row without a question answers nothing.
                if let Ok(messages) = super::batch::sent(&row, "") {
                    sources.push(Source { seed: Seed::RowId(row.row_id), messages });
                }
            }
            _ => sources.push(Source { seed: Seed::RowId(row.row_id), messages: row.messages }),
        }
    }
    if sources.is_empty() {
        let message = format!("{} has no row that a generation can begin with", spec.source);
        return Err(Failure::new(FailureCode::NoRows, message).at("source").into());
    }
    Ok((sources, sample, version.rows))
}

/// Makes a dataset version of the rows.
async fn finish(
    context: &mut Context,
    spec: &GenerateSpec,
    standard: &StandardRecord,
    candidates: Candidates<'_>,
    ended: String,
) -> Result<Produced, Stop> {
    let made = candidates.made.len() as u64;
    context.progress("phase.import", made, made).await;
    let path = context.folder().join(ROWS);
    write_rows(&candidates, &spec.source, &path)?;
    let mut report = report(&candidates, spec);
    // The state now: others may have added rows to the dataset meanwhile.
    let state = context.desk.hub.state();
    let first_row_id = state.dataset(&spec.name).map_or(0, |dataset| dataset.next_row_id);
    let mut segments = Vec::new();
    if made > 0 {
        let format = if standard.spec.shape == Shape::Text { RowFormat::Text } else { RowFormat::OpenAi };
        let task = ImportTask {
            path: path.display().to_string(),
            source: report.source.clone(),
            format,
            folder: context.places.blobs.display().to_string(),
            first_row_id,
        };
        let paths = Paths::none().read(&path).write(&context.places.blobs);
        let mut line = context.child(Program::Daemon("data"), paths).await?;
        line.send(&ToWorker::Import(task)).await?;
        match context.next(&mut line).await? {
            FromWorker::Imported { report: imported, segments: written } => {
                segments = written;
                report.format = imported.format;
                report.kept = imported.kept;
                report.duplicates = imported.duplicates;
                report.rejected = report.read - imported.kept;
                report.rejections.extend(imported.rejections);
                report.rejections.truncate(REJECTIONS_MAX);
            }
            other => return Err(unexpected(&other)),
        }
    }
    let source = match spec.source.as_str() {
        "" => None,
        source => Some(context.state.dataset_version(source)?.id),
    };
    let made = Generated {
        standard: standard.reference(),
        method: spec.method.word().to_owned(),
        source,
        service: spec.service.clone(),
        versions: candidates.versions(),
        requests: candidates.requests,
        kept: report.kept,
        rejected: report.rejected,
        ended,
    };
    Ok(Produced::Generated { made, report, segments, first_row_id })
}

fn write_rows(candidates: &Candidates<'_>, source: &str, path: &Path) -> Result<(), Failure> {
    let unwritable =
        |error: std::io::Error| Failure::new(FailureCode::DiskFull, format!("rows cannot be written: {error}"));
    let mut file = BufWriter::new(File::create(path).map_err(unwritable)?);
    for made in &candidates.made {
        writeln!(file, "{}", candidates.line(made, source)).map_err(unwritable)?;
    }
    file.flush().map_err(unwritable)
}

/// What became of the candidates: read = kept + rejected, and the first that were rejected with their numbers.
fn report(candidates: &Candidates<'_>, spec: &GenerateSpec) -> ImportReport {
    let rejection = |one: &RejectedCandidate| {
        let fault = one.faults.first();
        let said = |part: fn(&hone_protocol::standard::CheckFault) -> &String| {
            fault.map_or(String::new(), |f| part(f).clone())
        };
        Rejection { line: one.number, field: said(|fault| &fault.check), reason: said(|fault| &fault.reason) }
    };
    let rejected = candidates.rejected.len() as u64;
    let from =
        if spec.source.is_empty() { spec.standard.clone() } else { format!("{} to {}", spec.source, spec.standard) };
    ImportReport {
        source: format!("{} of {from} by {}", spec.method.word(), spec.service),
        read: candidates.made.len() as u64 + rejected,
        rejected,
        rejections: candidates.rejected.iter().take(REJECTIONS_MAX).map(rejection).collect(),
        ..ImportReport::default()
    }
}
