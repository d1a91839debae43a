//! A Hugging Face folder (`config.json`, safetensors, tokenizer) into a GGUF file, tensor by tensor, in memory that does
//! not grow with the model. Lives here: the order of things and the error. `from_folder/config.rs` reads the sizes,
//! `tensors.rs` says which tensor becomes which, `weights.rs` reads and turns their values, `tokenizer.rs` and its
//! neighbours carry the vocabulary over. Never here: a guess. What is not known is refused by its name before a byte is
//! written, and what is written is what the registry (`crate::arch`) and llama.cpp read.

mod config;
mod json;
mod pretokenizer;
mod sentence;
mod sentencepiece;
mod special;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;
mod weights;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::arch::{self, ArchError};
use crate::gguf::{ALIGNMENT_DEFAULT, GgufError, GgufFile, GgufStream, PlannedTensor, TensorInfo, Value, type_name};
use crate::inspect::{self, InspectError};

use config::{Family, Model};
pub(crate) use pretokenizer::QWEN2 as QWEN2_WORDS;
pub(crate) use pretokenizer::cut_of;
pub(crate) use tensors::Turn;
use weights::Weights;

/// How matrices are stored. Vectors are always F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As they are.
    AsStored,
    /// F32.
    F32,
    /// F16.
    F16,
    /// BF16.
    Bf16,
    /// Q8_0.
    Q8_0,
}

/// What is to be converted.
#[derive(Debug, Clone, Copy)]
pub struct Conversion<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The file to write: complete or absent afterwards.
    pub target: &'a Path,
    /// How matrices are stored.
    pub stored: Stored,
    /// `general.name`.
    pub name: &'a str,
    /// `general.license`; empty when not known, then the folder's own card is asked.
    pub licence: &'a str,
    /// Where the folder came from; empty when not known.
    pub source: &'a str,
}

/// Why a folder cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Something that would be lost or wrong.
    #[error("{place}: {problem}")]
    Refused {
        /// File and field, or tensor.
        place: String,
        /// What it is and what to do.
        problem: String,
    },
    /// An architecture that is not in the table.
    #[error("config.json: architecture {found:?} cannot be converted; known: {known}")]
    Architecture {
        /// What the folder calls itself.
        found: String,
        /// The table.
        known: String,
    },
    /// The planned file is not what the registry knows.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// The planned file would not be accepted by an import.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The file cannot be written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

fn refused<T>(place: impl Into<String>, problem: impl Into<String>) -> Result<T, FolderError> {
    Err(FolderError::Refused { place: place.into(), problem: problem.into() })
}

/// Converts; the answer is the number of tensors. `progress` hears of bytes read, of so many.
pub fn convert(task: &Conversion<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, FolderError> {
    let model = Model::read(task.folder)?;
    let weights = Weights::open(task.folder)?;
    let plan = tensors::plan(&model, &weights, task.stored)?;
    let rows = plan.iter().find(|t| t.planned.name == "token_embd.weight").map_or(0, |t| t.planned.dims[1]);
    let mut metadata = general(task, &model, &plan);
    metadata.extend(model.metadata());
    metadata.extend(tokenizer::metadata(task.folder, &model, rows as usize)?);
    let planned: Vec<PlannedTensor> = plan.iter().map(|tensor| tensor.planned.clone()).collect();
    check(task.target, &model, &metadata, &planned)?;
    let total = plan.iter().map(|tensor| tensor.source_bytes()).sum();
    let mut stream = GgufStream::create(task.target, &metadata, &planned)?;
    let mut done = 0;
    for tensor in &plan {
        weights.write(tensor, &mut stream, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
    }
    stream.finish()?;
    Ok(plan.len() as u64)
}

/// The name that a tensor of a file has in a folder, and how its values are turned on the way; `None` where there is none.
pub(crate) fn folder_name(arch: &str, name: &str, head_dim: usize) -> Option<(String, Turn)> {
    tensors::folder_name(Family::of_arch(arch)?, name, head_dim)
}

/// Divisors of rotary frequencies by the rule that `rope_parameters` of a folder say.
pub(crate) fn llama3_divisors(rule: &serde_json::Value, base: f64, head_dim: usize) -> Result<Vec<f32>, FolderError> {
    let rule = json::Json { place: "rope_parameters".to_owned(), value: rule.clone() };
    config::llama3_factors(&rule, base, head_dim)
}

/// Keys of the sizes that `config.json` of a folder says.
pub(crate) fn sizes(folder: &Path) -> Result<Vec<(String, Value)>, FolderError> {
    Ok(Model::read(folder)?.metadata())
}

/// Keys of the tokens and templates of a folder, for an embedding of so many rows.
pub(crate) fn tokens(folder: &Path, rows: u32) -> Result<Vec<(String, Value)>, FolderError> {
    tokenizer::metadata(folder, &Model::read(folder)?, rows as usize)
}

/// The licence in the front matter of a folder's card (`README.md`); empty where there is none.
fn card_licence(folder: &Path) -> String {
    const CARD_BYTES_MAX: u64 = 16 << 10;
    let mut bytes = Vec::new();
    if let Ok(card) = std::fs::File::open(folder.join("README.md")) {
        // A card that cannot be read says nothing.
        let _ = card.take(CARD_BYTES_MAX).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let front = text.strip_prefix("---").and_then(|rest| rest.split_once("\n---")).map_or("", |(front, _)| front);
    let said = front.lines().find_map(|line| line.strip_prefix("license:")).unwrap_or("").trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    if said.len() <= 64 && said.chars().all(plain) { said.to_owned() } else { String::new() }
}

/// What the file says of itself.
fn general(task: &Conversion<'_>, model: &Model, plan: &[tensors::Planned]) -> Vec<(String, Value)> {
    // llama.cpp's numbers of what most of a file is.
    let kinds = [("F32", 0), ("F16", 1), ("BF16", 32), ("Q8_0", 7)];
    let largest = plan.iter().max_by_key(|t| t.planned.dims.iter().product::<u64>());
    let kind = largest.and_then(|t| type_name(t.planned.type_id)).unwrap_or("F32");
    let file_type = kinds.iter().find(|(name, _)| *name == kind).map_or(0, |(_, number)| *number);
    let text = |text: &str| Value::Str(text.to_owned());
    let mut list = vec![
        ("general.architecture".to_owned(), text(model.arch)),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text(task.name)),
        ("general.file_type".to_owned(), Value::U32(file_type)),
        ("general.quantization_version".to_owned(), Value::U32(2)),
    ];
    let licence = if task.licence.is_empty() { card_licence(task.folder) } else { task.licence.to_owned() };
    let said = [("general.license", licence.as_str()), ("hone.source", task.source)];
    list.extend(said.iter().filter(|(_, said)| !said.is_empty()).map(|(key, said)| ((*key).to_owned(), text(said))));
    list
}

/// Asks the registry and the inspector about the file before it is written.
fn check(
    target: &Path,
    model: &Model,
    metadata: &[(String, Value)],
    planned: &[PlannedTensor],
) -> Result<(), FolderError> {
    let mut tensors = Vec::with_capacity(planned.len());
    for tensor in planned {
        let size_bytes = tensor.size_bytes().unwrap_or(0);
        let type_name = type_name(tensor.type_id).unwrap_or("?");
        tensors.push(TensorInfo {
            name: tensor.name.clone(),
            dims: tensor.dims.clone(),
            type_id: tensor.type_id,
            type_name,
            offset_bytes: 0,
            size_bytes,
        });
    }
    let file = GgufFile {
        path: target.to_owned(),
        version: 3,
        metadata: metadata.to_vec(),
        tensors,
        alignment_bytes: ALIGNMENT_DEFAULT,
        data_offset_bytes: 0,
        file_bytes: 0,
    };
    if model.is_decoder() {
        arch::recognise(&file)?;
    }
    inspect::facts(&file)?;
    Ok(())
}
