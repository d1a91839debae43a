//! Models made of something other than training: from nothing but sizes, merged, quantised, of PEFT folders, and copies for
//! other programs. What a person asks for, and what the daemon tells the child that does it. Never here: how it is done
//! (`kernels/src/convert`).

use serde::{Deserialize, Serialize};

use crate::bench::FormatFigures;
use crate::blueprint::{Blueprint, Tokens};
use crate::value::Hash;

/// A closed list of formats, and the list of all of them from the same lines.
macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident $word:literal $reduced:literal,)*) => {
        /// How weights are stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum WeightsFormat {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl WeightsFormat {
            /// All of them.
            pub const ALL: &[WeightsFormat] = &[$(WeightsFormat::$name,)*];

            /// The word on the wire and on the command line.
            pub fn word(self) -> &'static str {
                match self {
                    $(WeightsFormat::$name => $word,)*
                }
            }

            /// Whether values are rounded to fewer bits than a 16-bit float has.
            pub fn is_quantised(self) -> bool {
                match self {
                    $(WeightsFormat::$name => $reduced,)*
                }
            }
        }
    };
}

formats! {
    /// Each tensor in the type that the source has it in. For merging only.
    Same "same" false,
    /// 32-bit floats.
    F32 "f32" false,
    /// 16-bit floats.
    F16 "f16" false,
    /// 16-bit floats with the range of 32-bit ones.
    Bf16 "bf16" false,
    /// 8 bits and a scale for every 32 values.
    Q80 "q8_0" true,
    /// 6 bits in blocks of 256.
    Q6K "q6_k" true,
    /// 5 bits in blocks of 256, the most sensitive tensors with more.
    Q5KM "q5_k_m" true,
    /// 5 bits in blocks of 256.
    Q5KS "q5_k_s" true,
    /// 5 bits, a scale and a least value for every 32.
    Q51 "q5_1" true,
    /// 5 bits and a scale for every 32 values.
    Q50 "q5_0" true,
    /// 4 bits in blocks of 256, the most sensitive tensors with more.
    Q4KM "q4_k_m" true,
    /// 4 bits in blocks of 256.
    Q4KS "q4_k_s" true,
    /// 4 bits of a curved scale for every 32 values.
    Iq4Nl "iq4_nl" true,
    /// 4 bits, a scale and a least value for every 32.
    Q41 "q4_1" true,
    /// 4 bits and a scale for every 32 values.
    Q40 "q4_0" true,
    /// 3 bits in blocks of 256, the most sensitive tensors with more.
    Q3KM "q3_k_m" true,
}

impl WeightsFormat {
    /// The format of that word, in upper or lower case.
    pub fn named(word: &str) -> Option<WeightsFormat> {
        WeightsFormat::ALL.iter().copied().find(|format| format.word().eq_ignore_ascii_case(word))
    }
}

/// One change of form, as a person asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conversion {
    /// Make a small model from nothing: random weights, and tokens that are learnt or taken over.
    Init {
        /// Its sizes.
        blueprint: Blueprint,
        /// Where its tokens come from.
        tokens: Tokens,
        /// How matrices are stored: f32, f16 or bf16.
        format: WeightsFormat,
        /// The same seed draws the same weights.
        seed: u64,
        /// Name of the model to add the version to.
        name: String,
    },
    /// Add an adapter to the weights of its base; the result needs no adapter.
    Merge {
        /// The adapter: `name`, `name@number` or `name:alias`.
        version: String,
        /// How the result is stored.
        format: WeightsFormat,
        /// Name of the model to add the version to.
        name: String,
        /// Rows to measure the result on against the adapter: `name` or `name@number` of a dataset.
        receipt_rows: Option<String>,
    },
    /// Store a model in fewer bits.
    Quantize {
        /// The model: `name`, `name@number` or `name:alias`.
        version: String,
        /// How the result is stored.
        format: WeightsFormat,
        /// Name of the model to add the version to.
        name: String,
        /// Rows to measure the result on against what it was made from: `name` or `name@number` of a dataset.
        receipt_rows: Option<String>,
        /// Rows whose importance matrix the quantiser rounds by: `name` or `name@number` of a dataset.
        imatrix_rows: Option<String>,
    },
    /// Bring a LoRA adapter in that PEFT wrote.
    ImportPeft {
        /// Absolute path of the folder with `adapter_config.json` and `adapter_model.safetensors`.
        path: String,
        /// The model it was trained on: `name`, `name@number` or `name:alias`.
        base: String,
        /// Name of the model to add the version to.
        name: String,
    },
    /// Measure formats of a model on this machine and say which to train on and which to serve.
    Bench {
        /// The model: `name`, `name@number` or `name:alias`.
        version: String,
        /// Rows to train on and to compare on: `name` or `name@number` of a dataset.
        dataset: String,
        /// The formats, each once; none for the usual ones.
        formats: Vec<WeightsFormat>,
        /// Compute threads; 0 for the pool's cores.
        threads: u32,
    },
    /// Write a version for other programs.
    Export {
        /// The version: `name`, `name@number` or `name:alias`.
        version: String,
        /// As what.
        format: ExportFormat,
        /// Absolute path that does not exist yet: of a folder, or of a file that ends in `.gguf`.
        path: String,
    },
}

impl Conversion {
    /// The word for the kind of job.
    pub fn kind(&self) -> &'static str {
        match self {
            Conversion::Init { .. } => "init",
            Conversion::Merge { .. } => "merge",
            Conversion::Quantize { .. } => "quantize",
            Conversion::ImportPeft { .. } => "import_adapter",
            Conversion::Bench { .. } => "bench",
            Conversion::Export { .. } => "export",
        }
    }

    /// The model version that it works on, as it is written; none where it learns all from rows.
    pub fn works_on(&self) -> Option<&str> {
        match self {
            Conversion::Init { tokens: Tokens::Learn { .. }, .. } => None,
            Conversion::Merge { version, .. }
            | Conversion::Quantize { version, .. }
            | Conversion::Bench { version, .. }
            | Conversion::Export { version, .. }
            | Conversion::Init { tokens: Tokens::Of { version }, .. }
            | Conversion::ImportPeft { base: version, .. } => Some(version),
        }
    }

    /// What it begins with, and what it makes, in a few words.
    pub fn ends(&self) -> (&str, String) {
        match self {
            Conversion::Init {
                tokens: Tokens::Learn { dataset: from, .. } | Tokens::Of { version: from },
                name,
                ..
            } => (from, name.clone()),
            Conversion::Merge { version, format, name, .. } | Conversion::Quantize { version, format, name, .. } => {
                (version, format!("{name} {}", format.word()))
            }
            Conversion::ImportPeft { path, name, .. } => (path, name.clone()),
            Conversion::Bench { version, dataset, .. } => (version, dataset.clone()),
            Conversion::Export { version, path, .. } => (version, path.clone()),
        }
    }
}

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// The GGUF file itself, with a Modelfile and a model card beside it.
    Gguf,
    /// An adapter as PEFT reads it: `adapter_config.json` and `adapter_model.safetensors`, and a model card.
    Peft,
    /// A whole model as transformers loads it: `config.json`, `model.safetensors`, a tokenizer, and a model card.
    Huggingface,
}

/// The task of `hone-worker convert`. Answer: [`Converted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvertTask {
    /// What to do.
    pub work: ConvertWork,
    /// The one folder that may be written; results have fixed names there.
    pub folder: String,
    /// Compute threads.
    pub threads: u32,
    /// What the result says about itself.
    pub card: Card,
}

/// What a converting child does. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvertWork {
    /// Sizes into `model.gguf`.
    Init {
        /// The sizes.
        blueprint: Blueprint,
        /// Where tokens come from.
        tokens: TokensFile,
        /// How matrices are stored.
        format: WeightsFormat,
        /// Draws the weights.
        seed: u64,
    },
    /// Base and adapter into `model.gguf`.
    Merge {
        /// GGUF file of the base, or of its least quantised ancestor.
        base_path: String,
        /// Hash of that file.
        base_sha256: Hash,
        /// Hash of the base that the adapter must have been trained on, if it says.
        trained_sha256: Hash,
        /// GGUF file of the adapter.
        adapter_path: String,
        /// Hash of that file.
        adapter_sha256: Hash,
        /// How the result is stored.
        format: WeightsFormat,
    },
    /// A model into `model.gguf`.
    Quantize {
        /// GGUF file.
        path: String,
        /// Hash of that file.
        sha256: Hash,
        /// How the result is stored.
        format: WeightsFormat,
        /// Rows whose importance matrix the quantiser rounds by: their name, and the file as `Export` wrote it.
        imatrix_rows: Option<(String, String)>,
    },
    /// A PEFT folder into `adapter.gguf`.
    ImportPeft {
        /// The folder.
        peft_path: String,
        /// GGUF file of the base.
        base_path: String,
        /// Hash of that file.
        base_sha256: Hash,
    },
    /// An adapter into `adapter_config.json`, `adapter_model.safetensors` and `README.md`.
    ExportPeft {
        /// GGUF file of the adapter.
        adapter_path: String,
        /// GGUF file of the base.
        base_path: String,
    },
    /// A model into the files of a Hugging Face folder and `README.md`.
    ExportFolder {
        /// GGUF file of the model.
        path: String,
    },
    /// Figures of formats.
    Bench {
        /// GGUF file that the formats are made from.
        path: String,
        /// Rows as `Export` wrote them.
        rows_path: String,
        /// The formats.
        formats: Vec<WeightsFormat>,
        /// Memory that training keeps below.
        memory_max_bytes: u64,
    },
    /// How near a model is to what it was made from.
    Measure {
        /// GGUF file of the model.
        model_path: String,
        /// GGUF file of its parent, or of the base of a parent that is an adapter.
        parent_path: String,
        /// GGUF file of a parent that is an adapter.
        parent_adapter_path: Option<String>,
        /// Rows as `Export` wrote them.
        rows_path: String,
    },
    /// `Modelfile` and `README.md` for a GGUF file that is copied beside them.
    Describe {
        /// The GGUF file.
        path: String,
        /// Name of the copy.
        file: String,
    },
}

/// Where the tokens of a new model come from, as files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokensFile {
    /// Rows as `Export` wrote them, and the tokens to learn from them.
    Learn {
        /// The rows.
        rows_path: String,
        /// Tokens, at most.
        vocabulary: u32,
    },
    /// The GGUF file of a model.
    Of {
        /// Its path.
        path: String,
    },
}

/// What a result says about itself, in its metadata and in a model card. Texts may be empty where nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the result.
    pub name: String,
    /// `name@number` of the version that it was made from.
    pub version: String,
    /// `name@number` of the base model.
    pub base: String,
    /// Licence of the model.
    pub licence: String,
    /// `name@number` of the training data.
    pub dataset: String,
    /// What the version was imported from or trained on.
    pub source: String,
    /// What the version's own making warned of.
    pub warning: String,
    /// Hash of the version's file.
    pub sha256: Hash,
}

/// What a converting child made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Converted {
    /// Names of the files in the task's folder.
    pub files: Vec<String>,
    /// Rank and alpha of an adapter that was made.
    pub adapter: Option<(u32, f32)>,
    /// What the person should know about the result; sentences in English.
    pub warnings: Vec<String>,
    /// What was measured.
    pub receipt: Option<Receipt>,
    /// What formats came to.
    pub figures: Vec<FormatFigures>,
}

/// How near a version is to what it was made from, on the target tokens of some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// `name@number` of the rows.
    pub dataset: String,
    /// Rows with a target.
    pub rows: u64,
    /// Target tokens.
    pub tokens: u64,
    /// Of the version.
    pub perplexity: f64,
    /// Of what it was made from.
    pub parent_perplexity: f64,
    /// Mean divergence from the parent's distribution of the next token, in nats.
    pub mean_kl: f64,
    /// Share of the tokens at which both find the same token likeliest, 0 to 1.
    pub same_greedy: f64,
    /// `name@number` of the rows whose importance matrix the quantiser rounded by; none without one.
    pub imatrix: Option<String>,
}

/// Rows that a receipt is measured on, at most: the first of the dataset.
pub const RECEIPT_ROWS_MAX: u64 = 64;
/// Rows that an importance matrix is measured on, at most: the first of the dataset.
pub const IMATRIX_ROWS_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_their_formats() {
        for &format in WeightsFormat::ALL {
            assert_eq!(WeightsFormat::named(&format.word().to_uppercase()), Some(format));
            assert_eq!(serde_json::to_value(format).unwrap(), format.word());
        }
        assert_eq!(WeightsFormat::named("q9_0"), None);
    }
}
