//! Safetensors files: what each holds, checked against its length, and values read in rows and turned on the way into the
//! file. Format: <https://github.com/huggingface/safetensors#format>. Never here: which tensor is wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::ggml;
use crate::gguf::{GgufStream, TYPE_F32};

use super::json::{self, Json};
use super::tensors::{Change, Planned};
use super::{FolderError, refused};

/// ggml's ids of storage types.
pub(super) const F16: u32 = 1;
pub(super) const Q8_0: u32 = 8;
pub(super) const BF16: u32 = 30;

/// Longest header of a file in bytes (the format's own limit).
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Most files of one model.
const FILES_MAX: usize = 1024;
/// Values that are turned at a time, at least one row.
const BLOCK_VALUES: usize = 1 << 20;
/// Largest value that F16 holds.
const F16_MAX: f32 = 65_504.0;

/// How a source stores its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    fn named(word: &str) -> Option<Dtype> {
        match word {
            "F32" => Some(Dtype::F32),
            "F16" => Some(Dtype::F16),
            "BF16" => Some(Dtype::Bf16),
            _ => None,
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    pub(super) fn type_id(self) -> u32 {
        match self {
            Dtype::F32 => TYPE_F32,
            Dtype::F16 => F16,
            Dtype::Bf16 => BF16,
        }
    }
}

/// Where the values of one tensor are.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: Arc<(PathBuf, File)>,
    name: String,
    pub(super) dtype: Dtype,
    /// Slowest first.
    pub(super) shape: Vec<u64>,
    start: u64,
    pub(super) size_bytes: u64,
}

/// All tensors of a folder.
#[derive(Debug)]
pub(super) struct Weights {
    sources: BTreeMap<String, Source>,
}

impl Weights {
    /// Reads the headers of all `model*.safetensors`.
    pub(super) fn open(folder: &Path) -> Result<Weights, FolderError> {
        let fail = |source| FolderError::Io { path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.is_empty() {
            let problem = "has no model*.safetensors; folders with pytorch_model.bin must be saved anew as safetensors";
            return refused(folder.display().to_string(), problem);
        }
        if paths.len() > FILES_MAX {
            return refused(folder.display().to_string(), format!("has more than {FILES_MAX} safetensors files"));
        }
        let mut sources = BTreeMap::new();
        for path in paths {
            for source in header(path)? {
                if let Some(earlier) = sources.insert(source.name.clone(), source) {
                    return refused(format!("tensor {:?}", earlier.name), "stands in two safetensors files");
                }
            }
        }
        complete(folder, &sources)?;
        Ok(Weights { sources })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Source> {
        self.sources.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Writes one tensor. `progress` hears of the bytes read.
    pub(super) fn write(
        &self,
        tensor: &Planned,
        stream: &mut GgufStream,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), FolderError> {
        let Some(source) = &tensor.source else {
            let Change::Values(values) = &tensor.change else { return Ok(()) };
            return Ok(stream.data(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?);
        };
        let dims = &tensor.planned.dims;
        // A vector is one column, so that its values can be reordered like rows.
        let (width, rows) = if dims.len() == 1 { (1, dims[0] as usize) } else { (dims[0] as usize, dims[1] as usize) };
        let block = (BLOCK_VALUES / width).max(1);
        let as_it_is = tensor.planned.type_id == source.dtype.type_id() && tensor.change != Change::PlusOne;
        let (mut raw, mut values, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..rows).step_by(block) {
            let count = block.min(rows - first);
            source.rows(&tensor.change, first, count, width, &mut raw)?;
            if as_it_is {
                stream.data(&raw)?;
            } else {
                values.resize(count * width, 0.0);
                ggml::decode(source.dtype.type_id() as ggml::Type, &raw, &mut values);
                if tensor.change == Change::PlusOne {
                    values.iter_mut().for_each(|value| *value += 1.0);
                }
                source.check(&values, tensor.planned.type_id)?;
                // A vector is one row of the file.
                let row = if dims.len() == 1 { count } else { width };
                let kind = tensor.planned.type_id as ggml::Type;
                out.resize(ggml::row_bytes(kind, row) * (values.len() / row), 0);
                ggml::encode(kind, &values, row, &mut out);
                stream.data(&out)?;
            }
            progress(raw.len() as u64);
        }
        Ok(())
    }
}

impl Source {
    /// Reads `count` rows of the file from `first` on.
    fn rows(
        &self,
        change: &Change,
        first: usize,
        count: usize,
        width: usize,
        raw: &mut Vec<u8>,
    ) -> Result<(), FolderError> {
        let row = width * self.dtype.bytes() as usize;
        raw.resize(count * row, 0);
        let Change::Neighbours(head) = change else {
            return self.read(raw, (first * row) as u64);
        };
        for (index, out) in raw.chunks_exact_mut(row).enumerate() {
            self.read(out, (from_halves(first + index, *head) * row) as u64)?;
        }
        Ok(())
    }

    fn read(&self, out: &mut [u8], at: u64) -> Result<(), FolderError> {
        let (path, file) = &*self.file;
        file.read_exact_at(out, self.start + at).map_err(|source| FolderError::Io { path: path.clone(), source })
    }

    /// Whether every value has a place in the storage type.
    fn check(&self, values: &[f32], type_id: u32) -> Result<(), FolderError> {
        let most = if type_id == F16 { F16_MAX } else { f32::MAX };
        match values.iter().find(|value| !value.is_finite() || value.abs() > most) {
            Some(value) if value.is_finite() => {
                refused(format!("tensor {:?}", self.name), format!("holds {value}, which F16 cannot; choose bf16"))
            }
            Some(value) => {
                refused(format!("tensor {:?}", self.name), format!("holds {value}: the weights are damaged"))
            }
            None => Ok(()),
        }
    }
}

/// The row of the folder that becomes row `row` of the file: transformers rotates value i of a head with value i + half,
/// the file's value 2i with value 2i + 1.
fn from_halves(row: usize, head: usize) -> usize {
    let (start, within) = (row - row % head, row % head);
    start + (within % 2) * (head / 2) + within / 2
}

/// The tensors that a file says it holds.
fn header(path: PathBuf) -> Result<Vec<Source>, FolderError> {
    let fail = |source| FolderError::Io { path: path.clone(), source };
    let file = File::open(&path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let place = path.file_name().and_then(|n| n.to_str()).unwrap_or("a safetensors file").to_owned();
    let mut size = [0; 8];
    file.read_exact_at(&mut size, 0).map_err(fail)?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_BYTES_MAX || size + 8 > length {
        return refused(place, format!("its header of {size} bytes does not fit the file of {length} bytes"));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 8).map_err(fail)?;
    let Ok(Value::Object(entries)) = serde_json::from_slice(&bytes) else {
        return refused(place, "its header is no JSON object");
    };
    let data = size + 8;
    let file = Arc::new((path.clone(), file));
    let mut sources = Vec::new();
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        let number = |value: &Value| value.as_u64();
        let list = |key: &str| entry.get(key)?.as_array()?.iter().map(number).collect::<Option<Vec<u64>>>();
        let word = entry.get("dtype").and_then(Value::as_str).unwrap_or("?");
        let Some(dtype) = Dtype::named(word) else {
            // Positions and the like are whole numbers; what means nothing is not stored further on.
            if ["I64", "I32", "BOOL", "U8"].contains(&word) && name.ends_with("position_ids") {
                continue;
            }
            return refused(
                format!("{place}: tensor {name:?}"),
                format!("is of type {word}; F32, F16 and BF16 are known"),
            );
        };
        let (Some(shape), Some(offsets)) = (list("shape"), list("data_offsets")) else {
            return refused(format!("{place}: tensor {name:?}"), "has no shape or no place");
        };
        let values = shape.iter().try_fold(1u64, |all, &n| all.checked_mul(n));
        let wanted = values.and_then(|values| values.checked_mul(dtype.bytes()));
        let fits = matches!(offsets[..], [from, to] if from <= to && Some(to - from) == wanted
            && to.checked_add(data).is_some_and(|end| end <= length));
        if !fits {
            let problem = format!("{shape:?} of {word} at {offsets:?} does not fit the file: it is damaged or cut");
            return refused(format!("{place}: tensor {name:?}"), problem);
        }
        let (start, size_bytes) = (data + offsets[0], offsets[1] - offsets[0]);
        sources.push(Source { file: Arc::clone(&file), name: name.clone(), dtype, shape, start, size_bytes });
    }
    Ok(sources)
}

/// Whether everything that the index names is there.
fn complete(folder: &Path, sources: &BTreeMap<String, Source>) -> Result<(), FolderError> {
    const INDEX: &str = "model.safetensors.index.json";
    let Some(index) = Json::find(folder, INDEX)? else { return Ok(()) };
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return refused(INDEX, "has no weight_map");
    };
    for (name, file) in map {
        if !sources.contains_key(name) && !name.ends_with("position_ids") {
            return refused(
                format!("{INDEX}: {name:?}"),
                format!("is to be in {file}, which is missing or incomplete"),
            );
        }
    }
    Ok(())
}

/// The text of a small file, byte for byte; none when it is not there.
pub(super) fn text(folder: &Path, name: &str, most: u64) -> Result<Option<String>, FolderError> {
    let Some(bytes) = json::bytes(folder, name, most)? else { return Ok(None) };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => refused(name, "is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::from_halves;

    #[test]
    fn halves_become_neighbours() {
        let rows: Vec<usize> = (0..16).map(|row| from_halves(row, 8)).collect();
        assert_eq!(rows, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
    }
}
