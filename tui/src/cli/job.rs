//! `hone job`: the queue, one job, its log, its life, and wishes for it. Never here: what a job does.

use clap::{Args, Subcommand};
use hone_protocol::batch::BatchCounts;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::convert::WeightsFormat;
use hone_protocol::dataset::DatasetSource;
use hone_protocol::failure::Failure;
use hone_protocol::id::JobId;
use hone_protocol::job::{JobEvent, JobEventKind, JobResult, JobSpec, JobState, JobView};
use hone_protocol::model::ModelSource;
use hone_protocol::pool::SlurmView;
use hone_protocol::request::{Answer, LOG_BYTES_MAX, ROWS_MAX, Request, StreamPart};
use hone_protocol::value::Metric;

use super::context::{Context, answer, surprise};
use super::{bench, wait};
use crate::print::{self, End, Outcome, Table};

/// Jobs: the queue, logs, and what to do with them.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Show(Show),
    Log(Log),
    Follow(Follow),
    Cancel(Cancel),
    Pause(Pause),
    Resume(Resume),
    Wait(Wait),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Log(verb) => verb.run(context),
            Verb::Follow(verb) => verb.run(context),
            Verb::Cancel(verb) => wish(context, &verb.job, "cancel", |job| Request::Cancel { job }),
            Verb::Pause(verb) => wish(context, &verb.job, "pause", |job| Request::Pause { job }),
            Verb::Resume(verb) => wish(context, &verb.job, "resume", |job| Request::Resume { job }),
            Verb::Wait(verb) => verb.run(context),
        }
    }
}

/// List jobs, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job list --count 20")]
pub(super) struct List {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let jobs = answer!(context.link()?.ask(Request::Jobs { count: self.count })?, Jobs);
        if context.json {
            return print::json(&jobs);
        }
        if jobs.is_empty() {
            context.say("cli.no_jobs", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &jobs, print::now_ms()).render(print::colour()))
    }
}

/// Show a job: its specification, state, progress and result.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job show last --json")]
pub(super) struct Show {
    /// A job's id, the end of it, or `last`.
    job: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let view = answer!(link.ask(Request::Job { job })?, Job);
        if context.json {
            return print::json(&view);
        }
        let mut text = details(context.language, &view);
        if let JobState::Succeeded(JobResult::Bench(report)) = &view.record.state {
            text.push_str(&format!("\n{}", bench::show(context.language, report, print::colour())));
        }
        print::out(&text)
    }
}

/// Print the end of a job's log.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job log last --bytes 4000")]
pub(super) struct Log {
    /// A job's id, the end of it, or `last`.
    job: String,
    /// At most so many bytes from the end.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=i64::from(LOG_BYTES_MAX)))]
    bytes: u32,
}

impl Log {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let answer = link.ask(Request::Log { job, bytes: self.bytes })?;
        let Answer::Log { text, size_bytes } = &answer else { return Err(surprise(&answer).into()) };
        if context.json {
            return print::json(&answer);
        }
        if *size_bytes > text.len() as u64 {
            context.say("cli.log_cut", &[("size", &print::bytes(*size_bytes))]);
        }
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        print::out(&format!("{}{newline}", print::harmless(text)))
    }
}

/// Print what happens to a job until it ends; with --json, one event a line.
///
/// The events are durable: following from 0 replays the job's whole life, also after it has ended.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job follow last --from 0 --json")]
pub(super) struct Follow {
    /// A job's id, the end of it, or `last`.
    job: String,
    /// Number of the first event.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
}

impl Follow {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let mut failed = None;
        link.ask_streaming_while(Request::Follow { job, from_seq: self.from }, |part| {
            let StreamPart::Job(event) = part else { return Ok(()) };
            if let JobEventKind::Failed(failure) = &event.kind {
                failed = Some(failure.clone());
            }
            if context.json {
                print::json(&event)
            } else {
                print::out(&format!("{}\n", event_line(context.language, &event)))
            }
        })?;
        // The last line has already said why.
        failed.map_or(Ok(()), |failure| Err(End::Said(failure.code.exit_status())))
    }
}

/// End a job. What it has made so far is kept.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job cancel last")]
pub(super) struct Cancel {
    /// A job's id, the end of it, or `last`.
    job: String,
}

/// Stop a job at a checkpoint and keep it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job pause last")]
pub(super) struct Pause {
    /// A job's id, the end of it, or `last`.
    job: String,
}

/// Let a paused or failed job go on from its checkpoint.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job resume last")]
pub(super) struct Resume {
    /// A job's id, the end of it, or `last`.
    job: String,
}

fn wish(context: &Context, typed: &str, part: &str, request: impl FnOnce(JobId) -> Request) -> Outcome {
    let mut link = context.link()?;
    let job = context.job(&mut link, typed)?;
    let view = answer!(context.change(&mut link, part, request(job))?, Job);
    if context.json {
        return print::json(&view);
    }
    print::out(&table(context.language, std::slice::from_ref(&view), print::now_ms()).render(print::colour()))
}

/// Wait until a job has ended; the exit status says how.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone job wait last && echo done")]
pub(super) struct Wait {
    /// A job's id, the end of it, or `last`.
    job: String,
}

impl Wait {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let (view, _) = wait::finish(context, &mut link, job)?;
        if context.json {
            return print::json(&view);
        }
        print::out(&details(context.language, &view))
    }
}

/// What a job is about, in a few words.
pub(super) fn subject(spec: &JobSpec) -> String {
    match spec {
        JobSpec::ImportModel { source, name } => match source {
            ModelSource::Starter => format!("starter -> {name}"),
            ModelSource::Path { path, .. } => format!("{path} -> {name}"),
            ModelSource::Pip { package, member, .. } => format!("{package} {member} -> {name}"),
            ModelSource::Hub(source) => format!("{} -> {name}", source.typed()),
            ModelSource::Folder { path, .. } => format!("{path} -> {name}"),
        },
        JobSpec::ImportDataset { source, name, .. } => match source {
            DatasetSource::Preset { name: preset } => format!("preset {preset} -> {name}"),
            DatasetSource::Package { package, member, .. } => format!("{package}:{member} -> {name}"),
            DatasetSource::Hub(source) => format!("{} -> {name}", source.repo),
            DatasetSource::Path { path } => format!("{path} -> {name}"),
            DatasetSource::Judgements { .. } => format!("judgements -> {name}"),
            DatasetSource::Labels { project, .. } => format!("labels of {project} -> {name}"),
            DatasetSource::Log(selection) => format!("log of {} -> {name}", selection.query.application),
        },
        JobSpec::Train(spec) => {
            let target = spec.register.as_ref().map_or_else(String::new, |r| format!(" -> {}", r.model));
            format!("{} on {}{target}", spec.base, spec.dataset)
        }
        JobSpec::Evaluate(spec) => format!("{} by {}", spec.version, spec.suite),
        JobSpec::Batch(spec) => {
            let (from, to) = spec.ends();
            format!("{from} -> {to}")
        }
        JobSpec::Process(spec) => format!("{} -> {}", spec.source, spec.name),
        JobSpec::Facts(spec) => spec.dataset.clone(),
        JobSpec::Suggest(spec) => format!("{} for {}", spec.service, spec.project),
        JobSpec::Mix(spec) => {
            let sources: Vec<&str> = spec.sources.iter().map(|source| source.dataset.as_str()).collect();
            format!("{} -> {}", sources.join(" + "), spec.name)
        }
        JobSpec::Split(spec) => {
            let parts: Vec<&str> = spec.parts.iter().map(|part| part.name.as_str()).collect();
            format!("{} -> {}", spec.dataset, parts.join(" + "))
        }
        JobSpec::Generate(spec) => format!("{} to {} -> {}", spec.service, spec.standard, spec.name),
        JobSpec::Register(spec) => {
            let step = spec.step.map(|step| format!(" step {step}")).unwrap_or_default();
            format!("{} < {}{step}", spec.register.model, spec.run)
        }
        JobSpec::Convert(conversion) => {
            let (from, to) = conversion.ends();
            format!("{from} -> {to}")
        }
    }
}

fn kind(language: Language, spec: &JobSpec) -> String {
    let key = format!("kind.{}", spec.kind());
    catalogue::find(language, &key).map_or_else(|| spec.kind().to_owned(), str::to_owned)
}

pub(super) fn table(language: Language, jobs: &[JobView], now_ms: i64) -> Table {
    let mut table = Table::new(
        language,
        &["cli.col.job", "cli.col.kind", "cli.col.subject", "cli.col.state", "cli.col.progress", "cli.col.asked"],
    );
    for view in jobs {
        table.row(vec![
            view.record.id.short().into(),
            kind(language, &view.record.spec).into(),
            subject(&view.record.spec).into(),
            print::job_state(language, view.shown),
            progress(language, view).into(),
            print::ago(language, view.record.created_at_ms, now_ms).into(),
        ]);
    }
    table
}

fn progress(language: Language, view: &JobView) -> String {
    match &view.record.state {
        JobState::Failed(failure) => print::code_word(failure.code),
        _ if view.progress.is_some() => print::progress(language, view),
        _ => view.waits_for.clone(),
    }
}

/// One job in full.
pub(super) fn details(language: Language, view: &JobView) -> String {
    let record = &view.record;
    let mut pairs = vec![
        ("cli.col.job", record.id.to_string()),
        ("cli.col.kind", kind(language, &record.spec)),
        ("cli.col.subject", subject(&record.spec)),
        ("cli.col.state", catalogue_state(language, view)),
        ("cli.col.person", record.person.clone()),
        ("cli.col.asked", print::moment(record.created_at_ms)),
        ("cli.col.attempt", record.attempt.to_string()),
    ];
    if view.progress.is_some() || !view.waits_for.is_empty() {
        pairs.push(("cli.col.progress", print::progress(language, view)));
    }
    if let Some(at) = record.started_at_ms {
        pairs.push(("cli.col.started", print::moment(at)));
        if let Some(end) = record.ended_at_ms {
            let took = print::duration(u64::try_from(end - at).unwrap_or(0));
            pairs.push(("cli.col.ended", format!("{} ({took})", print::moment(end))));
        }
    }
    if let Some(compute) = &record.compute {
        let hours = format!("{:.3}", compute.core_ms as f64 / 3.6e6);
        pairs.push(("cli.col.core_hours", hours));
        if compute.amount.0 > 0 {
            pairs.push(("cli.col.cost", super::application::money(compute.amount)));
        }
    }
    if let Some(checkpoint) = &record.checkpoint {
        pairs.push(("cli.col.checkpoint", checkpoint.step.to_string()));
    }
    if let Some(counts) = &record.batch {
        pairs.push(("cli.col.rows", counts_text(language, counts)));
        let (prompt, completion) = (counts.prompt_tokens.to_string(), counts.completion_tokens.to_string());
        let args = [("prompt", prompt.as_str()), ("completion", &completion)];
        pairs.push(("cli.col.tokens", catalogue::fill(language, "cli.batch_tokens", &args)));
    }
    if let Some(pool) = &record.pool {
        pairs.push(("cli.col.pool", pool.clone()));
    }
    if let Some(slurm) = &view.slurm {
        pairs.push(("cli.col.slurm", slurm_text(language, slurm)));
    }
    if let Some(pid) = view.pid {
        pairs.push(("cli.col.process", pid.to_string()));
    }
    match &record.state {
        JobState::Succeeded(result) => pairs.push(("cli.col.result", result_text(result))),
        JobState::Failed(failure) => pairs.push(("cli.col.failure", failure_text(failure))),
        JobState::Queued | JobState::Cancelled => {}
    }
    print::pairs(language, &pairs)
}

/// Where a job stands in Slurm.
fn slurm_text(language: Language, view: &SlurmView) -> String {
    let SlurmView { number, state, reason, node, .. } = view;
    let state = if reason.is_empty() { state.clone() } else { format!("{state} ({reason})") };
    let args = [("number", number.as_str()), ("state", &state), ("node", node)];
    print::harmless(&match node.is_empty() {
        true => catalogue::fill(language, "cli.event.slurm", &args[..2]),
        false => catalogue::fill(language, "cli.event.slurm_node", &args),
    })
}

/// How far a batch is, in a sentence.
fn counts_text(language: Language, counts: &BatchCounts) -> String {
    let numbers = [counts.answered, counts.failed, counts.rows].map(|number| number.to_string());
    let args = [("answered", numbers[0].as_str()), ("failed", &numbers[1]), ("rows", &numbers[2])];
    catalogue::fill(language, "cli.batch_counts", &args)
}

fn catalogue_state(language: Language, view: &JobView) -> String {
    let key = format!("state.{}", print::word_of(&view.shown));
    catalogue::find(language, &key).unwrap_or_default().to_owned()
}

fn failure_text(failure: &Failure) -> String {
    let place = if failure.place.is_empty() { String::new() } else { format!(" ({})", failure.place) };
    print::harmless(&format!("{}: {}{place}", print::code_word(failure.code), failure.message_en))
}

/// What a job made, in a few words.
pub(super) fn result_text(result: &JobResult) -> String {
    match result {
        JobResult::Model(id) => id.to_string(),
        JobResult::Dataset(id, report) => format!("{id}, {} rows", report.kept),
        JobResult::Datasets(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        JobResult::Evaluation(id) => id.to_string(),
        JobResult::Batch(counts) => counts_text(Language::En, counts),
        JobResult::Facts(id) => id.to_string(),
        JobResult::Suggested(rows) => format!("{rows} rows have a suggestion"),
        JobResult::Exported { path, files } => format!("{path}: {}", files.join(", ")),
        JobResult::Bench(report) => {
            let word = |format: Option<WeightsFormat>| format.map_or("-", WeightsFormat::word);
            format!("train on {}, serve {}", word(report.train_on), word(report.serve))
        }
        JobResult::Train(train) => {
            let version = train.version.map_or_else(String::new, |id| format!(", {id}"));
            let loss = train.loss.value();
            let (steps, tokens) = (train.steps, train.tokens);
            format!(
                "loss {loss:.4} after {steps} steps, {tokens} tokens at {:.0} tokens/s{version}",
                train.tokens_per_s
            )
        }
    }
}

/// A loss in an event.
fn figure(value: Metric) -> String {
    format!("{:.3}", value.value())
}

/// One event of a job, as a line.
fn event_line(language: Language, event: &JobEvent) -> String {
    let text = |key: &'static str| catalogue::text(language, key).to_owned();
    let what = match &event.kind {
        JobEventKind::Submitted => text("cli.event.submitted"),
        JobEventKind::Started { attempt, from_step } => {
            let mut line = catalogue::fill(language, "cli.event.started", &[("n", &attempt.to_string())]);
            if let Some(step) = from_step {
                line.push_str(&catalogue::fill(language, "cli.event.from_step", &[("step", &step.to_string())]));
            }
            line
        }
        JobEventKind::Planned(plan) => {
            let numbers = [plan.rows.to_string(), plan.steps.to_string(), print::bytes(plan.memory_bytes)];
            let args = [("rows", numbers[0].as_str()), ("steps", &numbers[1]), ("memory", &numbers[2])];
            catalogue::fill(language, "cli.event.planned", &args)
        }
        JobEventKind::Warned(warned) => {
            let numbers = [warned.step.to_string(), figure(warned.value), figure(warned.against)];
            let what = text(warned.rule.key());
            let args =
                [("step", numbers[0].as_str()), ("what", &what), ("value", &numbers[1]), ("against", &numbers[2])];
            catalogue::fill(language, "cli.event.warned", &args)
        }
        JobEventKind::Checkpointed { step } => {
            catalogue::fill(language, "cli.event.checkpointed", &[("step", &step.to_string())])
        }
        JobEventKind::Interrupted(failure) => {
            catalogue::fill(language, "cli.event.interrupted", &[("why", &failure_text(failure))])
        }
        JobEventKind::Paused => text("state.paused"),
        JobEventKind::Resumed => text("cli.event.resumed"),
        JobEventKind::Succeeded(result) => format!("{}: {}", text("state.succeeded"), result_text(result)),
        JobEventKind::Failed(failure) => format!("{}: {}", text("state.failed"), failure_text(failure)),
        JobEventKind::Cancelled => text("state.cancelled"),
        JobEventKind::Slurm(view) => slurm_text(language, view),
    };
    format!("{:>4}  {}  {what}", event.seq, print::moment(event.at_ms))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sample;
    use hone_protocol::evaluation::EvaluateSpec;
    use hone_protocol::failure::FailureCode;
    use hone_protocol::job::{Progress, ShownState};
    use hone_protocol::train::TrainResult;
    use hone_protocol::train::{Warned, WatchRule};
    use hone_protocol::value::Metric;

    /// A queued evaluation.
    pub(in crate::cli) fn job() -> JobView {
        let spec = JobSpec::Evaluate(EvaluateSpec {
            version: "support@1".into(),
            suite: "desk".into(),
            answer_tokens_max: 64,
            rows_max: 0,
        });
        let mut job = sample::job(5, spec, JobState::Queued, ShownState::Queued, 0);
        job.record.started_at_ms = None;
        job.waits_for = "another job has the cores".into();
        job
    }

    #[test]
    fn tables_details_and_events() {
        let waiting = job();
        let mut running = job();
        running.shown = ShownState::Running;
        running.waits_for = String::new();
        running.progress = Some(Progress { phase: "phase.evaluate".into(), done: 3, total: 97, remaining_ms: None });
        let mut failed = running.clone();
        failed.progress = None;
        let failure = Failure::new(FailureCode::WorkerDied, "the worker ended with signal 9").at("attempt 3");
        failed.record.state = JobState::Failed(failure.clone());
        failed.record.started_at_ms = Some(1_795_449_913_000);
        failed.record.ended_at_ms = Some(1_795_449_974_000);
        failed.shown = ShownState::Failed;
        let now = 1_795_449_912_345 + 3 * 60_000;
        let jobs = [waiting, running, failed.clone()];
        insta::assert_snapshot!("job-list", table(Language::En, &jobs, now).render(false));
        insta::assert_snapshot!("job-list-zh", table(Language::Zh, &jobs, now).render(false));
        insta::assert_snapshot!("job-show", details(Language::En, &failed));
        let result = TrainResult {
            steps: 80,
            kept_step: 80,
            tokens: 40_000,
            loss: Metric::Finite(1.25),
            tokens_per_s: 244.6,
            duration_ms: Some(163_000),
            peak_memory_bytes: Some(1_250_000_000),
            version: None,
        };
        let events = [
            JobEventKind::Submitted,
            JobEventKind::Started { attempt: 2, from_step: Some(40) },
            JobEventKind::Warned(Warned {
                step: 60,
                rule: WatchRule::RisingEvalLoss,
                value: Metric::Finite(2.5),
                against: Metric::Finite(2.25),
            }),
            JobEventKind::Checkpointed { step: 80 },
            JobEventKind::Interrupted(failure),
            JobEventKind::Succeeded(JobResult::Train(result)),
        ];
        let lines: Vec<String> = (0u64..)
            .zip(events)
            .map(|(seq, kind)| event_line(Language::En, &JobEvent { seq, at_ms: 1_795_449_912_345, kind }))
            .collect();
        insta::assert_snapshot!("job-follow", lines.join("\n"));
    }
}
