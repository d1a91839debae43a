//! Models made of something other than training: from nothing but sizes ([`init`]), an adapter added to its base ([`merge`]), fewer
//! bits ([`quantize`], [`importance`]), PEFT folders in both directions ([`peft`]), what a file says to other programs ([`card`]), and how near a
//! version is to its parent ([`receipt`]), what formats come to on this machine ([`bench`]). Here live what they share: errors, and metadata that names where a file came from.
//! Never here: training, serving, and reading of whole Hugging Face models.

pub mod bench;
pub mod card;
pub mod importance;
pub mod init;
pub mod merge;
pub mod peft;
pub mod quantize;
pub mod receipt;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::arch::ArchError;
use crate::from_folder::FolderError;
use crate::gguf::{GgufError, GgufFile, Value};
use crate::inspect::InspectError;
use crate::serve::{EngineError, LlamaError};

/// Key for the SHA-256 of the adapter that was merged.
pub const ADAPTER_KEY: &str = "hone.adapter.sha256";
/// Key for the SHA-256 of the file that was quantised.
pub const PARENT_KEY: &str = "hone.parent.sha256";
/// Key for the sentence on what a person should know about how the file was made.
pub const WARNING_KEY: &str = "hone.warning";

/// Why a conversion was not done.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A GGUF file could not be read or written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A GGUF file is not what it must be.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The base is of no known architecture.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// A new model's own folder is not what a folder must be.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// llama.cpp could not compute it.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// The engine could not serve it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Something that the result could not hold; leaving it out would change the model without a word.
    #[error("{}: {field}: {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Key, tensor or module.
        field: String,
        /// Why, and what to do.
        problem: String,
    },
    /// llama.cpp's quantiser gave up.
    #[error("{} could not be quantised: {problem}", path.display())]
    Quantiser {
        /// The source.
        path: PathBuf,
        /// What it said.
        problem: String,
    },
}

pub(crate) fn refuse<T>(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Result<T, ConvertError> {
    Err(ConvertError::Refused { path: path.to_owned(), field: field.into(), problem: problem.into() })
}

/// Sets `key`, in its place if it is there already.
pub fn set(metadata: &mut Vec<(String, Value)>, key: &str, value: Value) {
    match metadata.iter_mut().find(|(there, _)| there == key) {
        Some((_, old)) => *old = value,
        None => metadata.push((key.to_owned(), value)),
    }
}

/// Replaces what the file says of its parents by one of that name.
pub fn set_parent(metadata: &mut Vec<(String, Value)>, name: &str) {
    metadata.retain(|(key, _)| !key.starts_with("general.base_model."));
    set(metadata, "general.base_model.count", Value::U32(1));
    set(metadata, "general.base_model.0.name", Value::Str(name.to_owned()));
}

/// SHA-256 of `bytes` as hexadecimal digits.
pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `file` is an adapter and not a model.
pub(crate) fn is_adapter(file: &GgufFile) -> bool {
    file.str("general.type").is_ok_and(|kind| kind == "adapter")
}

/// The types in which matrices of `file` are quantised, each once; empty for a file of floats.
pub fn quantised_types(file: &GgufFile) -> Vec<&'static str> {
    let mut types: Vec<&'static str> = Vec::new();
    for tensor in &file.tensors {
        let block = crate::ggml::block_elements(tensor.type_id);
        if block > 1 && !types.contains(&tensor.type_name) {
            types.push(tensor.type_name);
        }
    }
    types
}
