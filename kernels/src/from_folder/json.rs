//! JSON files of a folder, read whole within a bound, and fields of them by name with errors that say which. Never here:
//! what a field means.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{FolderError, refused};

/// Longest JSON file in bytes; a longer one is refused. The longest seen in practice is a tokenizer of 35 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A file's root, or an object inside it.
#[derive(Debug, Clone)]
pub(super) struct Json {
    /// `config.json`, or `config.json: rope_scaling`.
    pub(super) place: String,
    pub(super) value: Value,
}

impl Json {
    /// Reads a file that must be there.
    pub(super) fn open(folder: &Path, name: &str) -> Result<Json, FolderError> {
        match Json::find(folder, name)? {
            Some(json) => Ok(json),
            None => refused(name, format!("is not in {}; a Hugging Face folder has it", folder.display())),
        }
    }

    /// Reads a file if it is there.
    pub(super) fn find(folder: &Path, name: &str) -> Result<Option<Json>, FolderError> {
        let Some(bytes) = bytes(folder, name, FILE_BYTES_MAX)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(Json { place: name.to_owned(), value })),
            Err(error) => refused(name, format!("is no JSON: {error}")),
        }
    }

    /// An object or list inside; none when absent or null.
    pub(super) fn inside(&self, key: &str) -> Option<Json> {
        let value = self.get(key)?.clone();
        Some(Json { place: format!("{}: {key}", self.place), value })
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A whole number that fits 32 bits; none when absent.
    pub(super) fn count_or_none(&self, key: &str) -> Result<Option<u32>, FolderError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => refused(format!("{}: {key}", self.place), format!("{value} is no count")),
        }
    }

    /// A whole number that must be there.
    pub(super) fn count(&self, key: &str) -> Result<u32, FolderError> {
        match self.count_or_none(key)? {
            Some(number) => Ok(number),
            None => refused(format!("{}: {key}", self.place), "is missing"),
        }
    }

    /// A finite number; none when absent.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, FolderError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => refused(format!("{}: {key}", self.place), format!("{value} is no number")),
        }
    }
}

/// A file's bytes within a bound; none when it is not there.
pub(super) fn bytes(folder: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>, FolderError> {
    let path = folder.join(name);
    let fail = |source| FolderError::Io { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > most {
        return refused(name, format!("is longer than {most} bytes"));
    }
    Ok(Some(bytes))
}
