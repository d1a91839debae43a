//! `hone eval`: suites, evaluations, per-row results. Never here: scoring.

use clap::{Args, Subcommand, ValueEnum};
use hone_protocol::catalogue::Language;
use hone_protocol::dataset::{DatasetView, Part};
use hone_protocol::evaluation::{EvaluateSpec, EvaluationRecord, EvaluationRow, Scorer, SuiteRecord};
use hone_protocol::failure::Failure;
use hone_protocol::id::EvaluationId;
use hone_protocol::job::{JobResult, JobSpec};
use hone_protocol::model::ModelView;
use hone_protocol::request::{Answer, ROWS_MAX, Request};

use super::context::{Context, answer, by_suffix, surprise};
use super::dataset::SplitArgs;
use super::{model, wait};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Suites and evaluations.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    #[command(subcommand)]
    Suite(SuiteVerb),
    Start(Start),
    List(List),
    Rows(Rows),
}

/// Suites: rows with the scorers that judge answers to them.
#[derive(Debug, Subcommand)]
pub(super) enum SuiteVerb {
    Create(SuiteCreate),
    List(SuiteList),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Suite(SuiteVerb::Create(verb)) => verb.run(context),
            Verb::Suite(SuiteVerb::List(verb)) => verb.run(context),
            Verb::Start(verb) => verb.run(context),
            Verb::List(verb) => verb.run(context),
            Verb::Rows(verb) => verb.run(context),
        }
    }
}

/// Make a suite. Its rows are by default the held-out part of the split that training uses by default.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone eval suite create desk --dataset support-desk --scorer loss --scorer expect")]
pub(super) struct SuiteCreate {
    /// Its name.
    name: String,
    /// NAME (its newest version) or NAME@NUMBER.
    #[arg(long)]
    dataset: String,
    /// How answers are judged; may be given several times.
    #[arg(long = "scorer", value_enum, value_name = "SCORER", default_values = ["loss", "expect"])]
    scorers: Vec<ScorerArg>,
    #[command(flatten)]
    split: SplitArgs,
}

/// A scorer, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScorerArg {
    /// Mean loss per target token of the row's own answers
    Loss,
    /// Share of the row's own checks that hold
    Expect,
    /// The answer equals the row's
    Exact,
}

impl From<ScorerArg> for Scorer {
    fn from(scorer: ScorerArg) -> Scorer {
        match scorer {
            ScorerArg::Loss => Scorer::Loss,
            ScorerArg::Expect => Scorer::Expect,
            ScorerArg::Exact => Scorer::Exact,
        }
    }
}

impl SuiteCreate {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::CreateSuite {
            name: self.name,
            dataset: self.dataset,
            split: self.split.split(),
            part: self.split.part(Part::HeldOut),
            scorers: self.scorers.into_iter().map(Scorer::from).collect(),
        };
        let mut link = context.link()?;
        let suite = answer!(context.change(&mut link, "suite", request)?, Suite);
        if context.json {
            return print::json(&suite);
        }
        let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
        print::out(&suites_table(context.language, &[suite], &datasets).render(print::colour()))
    }
}

/// List suites.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone eval suite list")]
pub(super) struct SuiteList {}

impl SuiteList {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (suites, _) = all(&mut link)?;
        if context.json {
            return print::json(&suites);
        }
        if suites.is_empty() {
            context.say("cli.no_suites", &[]);
            return Ok(());
        }
        let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
        print::out(&suites_table(context.language, &suites, &datasets).render(print::colour()))
    }
}

/// Evaluate a version by a suite and wait for the result. Answers are decoded greedily.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone eval start support@1 --suite desk --answer-tokens 64")]
pub(super) struct Start {
    /// NAME, NAME@NUMBER or NAME:ALIAS.
    version: String,
    /// The suite.
    #[arg(long)]
    suite: String,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    answer_tokens: u32,
    /// At most so many rows; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Start {
    fn run(self, context: &Context) -> Outcome {
        let spec = JobSpec::Evaluate(EvaluateSpec {
            version: self.version,
            suite: self.suite,
            answer_tokens_max: self.answer_tokens,
            rows_max: self.rows,
        });
        let mut link = context.link()?;
        let Some((view, result)) = wait::submit(context, &mut link, "evaluate", spec, self.detach)? else {
            return Ok(());
        };
        let JobResult::Evaluation(id) = result else { return print::json(&view) };
        let (suites, evaluations) = all(&mut link)?;
        let found: Vec<EvaluationRecord> = evaluations.into_iter().filter(|e| e.id == id).collect();
        if context.json {
            return print::json(&view);
        }
        print::out(&table(context.language, &found, &suites, &model::all(&mut link)?).render(print::colour()))
    }
}

/// List evaluations, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone eval list --json")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (suites, evaluations) = all(&mut link)?;
        if context.json {
            return print::json(&evaluations);
        }
        if evaluations.is_empty() {
            context.say("cli.no_evaluations", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &evaluations, &suites, &model::all(&mut link)?).render(print::colour()))
    }
}

/// Print what was found on each row; with --json, one row a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone eval rows last --count 5")]
pub(super) struct Rows {
    /// An evaluation's id, the end of it, or `last`.
    evaluation: String,
    /// Index of the first row.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// At most so many rows.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Rows {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let evaluation = match self.evaluation.parse() {
            Ok(id) => id,
            Err(_) => resolve(&mut link, &self.evaluation)?,
        };
        let request = Request::EvaluationRows { evaluation, offset: self.offset, count: self.count };
        let rows = answer!(link.ask(request)?, EvaluationRows);
        if context.json {
            return rows.iter().try_for_each(print::json);
        }
        rows.iter().try_for_each(|row| print::out(&row_text(context.language, row)))
    }
}

fn resolve(link: &mut Link, typed: &str) -> Result<EvaluationId, Failure> {
    let (_, evaluations) = all(link)?;
    let ids: Vec<EvaluationId> = evaluations.iter().map(|e| e.id).collect();
    match (typed, ids.first()) {
        ("last", Some(id)) => Ok(*id),
        _ => by_suffix("evaluation", &ids, typed),
    }
}

fn all(link: &mut Link) -> Result<(Vec<SuiteRecord>, Vec<EvaluationRecord>), Failure> {
    match link.ask(Request::Evaluations)? {
        Answer::Evaluations { suites, evaluations } => Ok((suites, evaluations)),
        other => Err(surprise(&other)),
    }
}

fn suites_table(language: Language, suites: &[SuiteRecord], datasets: &[DatasetView]) -> Table {
    let keys = ["cli.col.suite", "cli.col.dataset", "cli.col.part", "cli.col.held_out", "cli.col.scorers"];
    let mut table = Table::new(language, &keys);
    for suite in suites {
        let dataset = datasets
            .iter()
            .find_map(|d| {
                d.versions.iter().find(|v| v.id == suite.dataset).map(|v| format!("{}@{}", d.record.name, v.number))
            })
            .unwrap_or_else(|| suite.dataset.to_string());
        let scorers: Vec<String> = suite.scorers.iter().map(print::word_of).collect();
        table.row(vec![
            suite.name.as_str().into(),
            dataset.into(),
            print::word_of(&suite.part).into(),
            Cell::number(format!("{} % ({})", suite.split.held_out_percent, suite.split.seed)),
            scorers.join(" ").into(),
        ]);
    }
    table
}

fn table(language: Language, evaluations: &[EvaluationRecord], suites: &[SuiteRecord], models: &[ModelView]) -> Table {
    let mut table = Table::new(
        language,
        &[
            "cli.col.evaluation",
            "cli.col.version",
            "cli.col.suite",
            "cli.col.rows",
            "cli.col.loss",
            "cli.col.perplexity",
            "cli.col.score",
            "cli.col.ended",
        ],
    );
    let real = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".into(), |v| format!("{v:.digits$}"));
    for evaluation in evaluations {
        let suite = suites.iter().find(|s| s.id == evaluation.suite).map(|s| s.name.clone());
        table.row(vec![
            evaluation.id.short().into(),
            model::reference(models, evaluation.version).into(),
            suite.unwrap_or_else(|| evaluation.suite.to_string()).into(),
            Cell::number(evaluation.rows),
            Cell::number(real(evaluation.loss, 4)),
            Cell::number(real(evaluation.perplexity(), 2)),
            Cell::number(real(evaluation.score, 3)),
            print::moment(evaluation.created_at_ms).into(),
        ]);
    }
    table
}

fn row_text(language: Language, row: &EvaluationRow) -> String {
    let loss = if row.loss_tokens > 0 { row.loss_sum / row.loss_tokens as f64 } else { f64::NAN };
    let scores: Vec<String> = row.scores.iter().map(|(name, score)| format!("{name} {score:.3}")).collect();
    let tabular = |text: &str| print::harmless(text);
    format!(
        "#{}  loss {loss:.4}  {}\n{}\n",
        row.row_id,
        scores.join("  "),
        print::pairs(
            language,
            &[
                ("cli.col.prompt", tabular(&row.prompt)),
                ("cli.col.expected", tabular(&row.expected)),
                ("cli.col.answer", tabular(&row.answer)),
            ],
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::dataset::Split;
    use hone_protocol::id::{DatasetVersionId, JobId, SuiteId};
    use hone_protocol::value::Json;

    #[test]
    fn tables() {
        let suite = SuiteRecord {
            id: SuiteId::from_bytes([1; 16]),
            name: "desk".into(),
            dataset: DatasetVersionId::from_bytes([2; 16]),
            split: Split { held_out_percent: 15, seed: 42 },
            part: Part::HeldOut,
            scorers: vec![Scorer::Loss, Scorer::Expect],
            created_at_ms: 0,
            created_by: "ada".into(),
        };
        let model = model::tests::model();
        let evaluation = EvaluationRecord {
            id: EvaluationId::from_bytes([3; 16]),
            suite: suite.id,
            version: model.versions[0].record.id,
            job: JobId::from_bytes([4; 16]),
            rows: 97,
            loss: Some(1.5),
            loss_tokens: 4000,
            score: None,
            created_at_ms: 1_795_449_912_345,
        };
        let row = EvaluationRow {
            row_id: 7,
            prompt: "Where is my parcel?".into(),
            expected: "Hello!\nIt is on its way.".into(),
            answer: "I do not know.".into(),
            loss_sum: 12.0,
            loss_tokens: 8,
            scores: vec![("expect".into(), 0.5)],
            notes: Json::default(),
            answer_ms: 12.0,
        };
        let suites = [suite];
        insta::assert_snapshot!("eval-suites", suites_table(Language::En, &suites, &[]).render(false));
        insta::assert_snapshot!("eval-list", table(Language::En, &[evaluation], &suites, &[model]).render(false));
        insta::assert_snapshot!("eval-rows", row_text(Language::En, &row));
    }
}
