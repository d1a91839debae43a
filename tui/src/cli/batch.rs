//! `hone batch`: many questions through a service as one job, and what became of each. Never here: how rows are asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hone_protocol::batch::{BatchRow, BatchSpec, DatasetBatch, ROWS_AT_ONCE_MAX};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Format, Sampling};
use hone_protocol::job::{JobResult, JobSpec, JobView};
use hone_protocol::request::{ROWS_MAX, Request};
use hone_protocol::value::Json;

use super::context::{Context, answer};
use super::{job, wait};
use crate::print::{self, Cell, Outcome, Table};

/// Longest name of a dataset.
const NAME_BYTES_MAX: usize = 64;

/// Many questions through a service as one job of low priority.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Run(Box<Run>),
    List(List),
    Rows(Rows),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Run(verb) => verb.run(context),
            Verb::List(verb) => verb.run(context),
            Verb::Rows(verb) => verb.run(context),
        }
    }
}

/// Send the rows of a dataset through a service, and wait for the dataset of answers.
///
/// Whoever waits for an answer of the service goes first. The job can be paused, resumed and cancelled; each row is
/// answered and paid once, also over a crash.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone batch run support-desk --service desk --name drafts --max-tokens 200")]
pub(super) struct Run {
    /// NAME (its newest version) or NAME@NUMBER. Of a chat everything before its last answer is sent.
    dataset: String,
    /// The service that is asked.
    #[arg(long)]
    service: String,
    /// Name of the dataset of answers [default: DATASET-SERVICE].
    #[arg(long)]
    name: Option<String>,
    /// What the model is told first, in the place of a row's own system message.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Longest answer in tokens; 0 for as long as the context allows.
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: u32,
    /// 0 always takes the likeliest token; up to 2.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Share of the probability to keep.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Same seed, same answer.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A file with a JSON schema that each answer must keep to.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Rows that are asked at once; 0 for one less than the service has slots.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(ROWS_AT_ONCE_MAX)))]
    rows_at_once: u32,
    /// At most so many rows; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Run {
    fn run(self, context: &Context) -> Outcome {
        let detach = self.detach;
        let spec = JobSpec::Batch(BatchSpec::Dataset(Box::new(self.batch(context.payer.as_deref())?)));
        let mut link = context.link()?;
        let Some((view, result)) = wait::submit(context, &mut link, "batch", spec, detach)? else {
            return Ok(());
        };
        if context.json {
            return print::json(&view);
        }
        print::out(&job::details(context.language, &view))?;
        if let JobResult::Dataset(_, report) = &result
            && report.rejected > 0
        {
            context.say("cli.batch_failed", &[("n", &report.rejected.to_string()), ("job", &view.record.id.short())]);
        }
        Ok(())
    }

    /// What is to be done; `payer` is the application that pays, whose limits and budget hold.
    fn batch(self, payer: Option<&str>) -> Result<DatasetBatch, Failure> {
        let format = match &self.schema {
            Some(path) => Format::Schema(Json(schema(path)?)),
            None => Format::Text,
        };
        let name = self.name.unwrap_or_else(|| {
            let from = self.dataset.split('@').next().unwrap_or_default();
            let mut name = format!("{from}-{}", self.service);
            name.truncate(NAME_BYTES_MAX);
            name
        });
        let sampling =
            Sampling { temperature: self.temperature, top_p: self.top_p, seed: self.seed, ..Sampling::default() };
        Ok(DatasetBatch {
            dataset: self.dataset,
            service: self.service,
            name,
            system: self.system.unwrap_or_default(),
            sampling,
            tokens_max: self.max_tokens,
            format,
            payer: payer.unwrap_or("owner").to_owned(),
            rows_at_once: self.rows_at_once,
            rows_max: self.rows,
        })
    }
}

fn schema(path: &std::path::Path) -> Result<serde_json::Value, Failure> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(FailureCode::FileUnreadable, error.to_string()).at(place.clone()))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(FailureCode::BadFile, format!("the schema is not JSON: {error}")).at(place))
}

/// List batches, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone batch list --json")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let jobs = answer!(link.ask(Request::Jobs { count: ROWS_MAX })?, Jobs);
        let batches: Vec<JobView> =
            jobs.into_iter().filter(|job| matches!(job.record.spec, JobSpec::Batch(_))).collect();
        if context.json {
            return print::json(&batches);
        }
        if batches.is_empty() {
            context.say("cli.no_batches", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &batches).render(print::colour()))
    }
}

fn table(language: Language, batches: &[JobView]) -> Table {
    let keys = [
        "cli.col.job",
        "cli.col.subject",
        "cli.col.state",
        "cli.col.rows",
        "cli.col.answered",
        "cli.col.failed",
        "cli.col.prompt_tokens",
        "cli.col.completion_tokens",
        "cli.col.tokens_per_s",
    ];
    let mut table = Table::new(language, &keys);
    for view in batches {
        let counts = view.record.batch.unwrap_or_default();
        table.row(vec![
            view.record.id.short().into(),
            job::subject(&view.record.spec).into(),
            print::job_state(language, view.shown),
            Cell::number(counts.rows),
            Cell::number(counts.answered),
            Cell::number(counts.failed),
            Cell::number(counts.prompt_tokens),
            Cell::number(counts.completion_tokens),
            Cell::number(view.tokens_per_s.map_or_else(|| "-".into(), |rate| format!("{rate:.0}"))),
        ]);
    }
    table
}

/// Print what became of the rows of a batch; with --json, one row a line.
///
/// Rows with answers are here until they have become a dataset; those that failed stay.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone batch rows last --failed")]
pub(super) struct Rows {
    /// A job's id, the end of it, or `last`.
    job: String,
    /// Rows that failed, with the reason, instead of those with answers.
    #[arg(long)]
    failed: bool,
    /// From this row on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Rows {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let request = Request::BatchRows { job, failed: self.failed, from_row: self.from, count: self.count };
        let rows = answer!(link.ask(request)?, BatchRows);
        if context.json {
            return rows.iter().try_for_each(print::json);
        }
        rows.iter().try_for_each(|row| print::out(&row_text(row)))
    }
}

fn row_text(row: &BatchRow) -> String {
    let text = match &row.answer {
        Ok(text) => format!("{}  {}", row.finish, print::harmless(text)),
        Err(failure) => {
            let place = if failure.place.is_empty() { String::new() } else { format!(" ({})", failure.place) };
            print::harmless(&format!("{}: {}{place}", print::code_word(failure.code), failure.message_en))
        }
    };
    format!("#{}  {}+{}  {text}\n", row.row, row.prompt_tokens, row.completion_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::batch::BatchCounts;
    use hone_protocol::job::{JobState, Progress, ShownState};

    use crate::sample;

    fn batch() -> JobView {
        let batch = DatasetBatch {
            dataset: "support-desk@1".into(),
            service: "desk".into(),
            name: "drafts".into(),
            system: String::new(),
            sampling: Sampling::greedy(),
            tokens_max: 200,
            format: Format::Text,
            payer: "owner".into(),
            rows_at_once: 0,
            rows_max: 0,
        };
        let spec = JobSpec::Batch(BatchSpec::Dataset(Box::new(batch)));
        let mut view = sample::job(7, spec, JobState::Queued, ShownState::Running, 4);
        view.record.batch = Some(BatchCounts {
            rows: 669,
            answered: 120,
            failed: 2,
            prompt_tokens: 9_400,
            cached_tokens: 400,
            completion_tokens: 12_100,
        });
        let progress = Progress { phase: "phase.batch".into(), done: 122, total: 669, remaining_ms: Some(240_000) };
        view.progress = Some(progress);
        view.tokens_per_s = Some(311.4);
        view
    }

    #[test]
    fn tables_rows_and_details() {
        insta::assert_snapshot!("batch-list", table(Language::En, &[batch()]).render(false));
        insta::assert_snapshot!("batch-show", job::details(Language::En, &batch()));
        let row = BatchRow {
            row: 12,
            custom_id: String::new(),
            answer: Ok("We open at nine.\nSee you!".into()),
            finish: "stop".into(),
            version: "support@1".into(),
            ledger: None,
            prompt_tokens: 31,
            cached_tokens: 0,
            completion_tokens: 9,
        };
        let failure = Failure::new(FailureCode::ContextExceeded, "the prompt has 900 tokens and the context holds 512");
        let failed = BatchRow { answer: Err(failure), prompt_tokens: 0, completion_tokens: 0, ..row.clone() };
        insta::assert_snapshot!("batch-rows", format!("{}{}", row_text(&row), row_text(&failed)));
    }
}
