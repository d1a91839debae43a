//! A whole model as a Hugging Face folder: `config.json`, `model.safetensors`, a tokenizer, as transformers loads them. The way back
//! of `from_folder`, whose tables it reads the other way round, tensor by tensor in memory that does not grow with the model.
//! Lives here: the order of things, and values. `to_folder/config.rs` writes the sizes, `tokenizer.rs` the vocabulary.
//! Never here: a guess. What transformers would compute otherwise is refused by its name before a byte is written.

mod config;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::arch::{self, Arch, Config};
use crate::from_folder::{FolderError, Turn, folder_name};
use crate::ggml::{self, BF16, F16, F32, Type};
use crate::gguf::{GgufFile, TensorInfo};
use crate::vocab::Vocab;

/// Values that are turned at a time, at least one row.
const STRIP_VALUES: usize = 1 << 20;
/// Largest value of a 16-bit float.
const F16_MAX: f32 = 65_504.0;
/// The weights.
const VALUES_FILE: &str = "model.safetensors";

fn refused<T>(place: impl Into<String>, problem: impl Into<String>) -> Result<T, FolderError> {
    Err(FolderError::Refused { place: place.into(), problem: problem.into() })
}

/// A model that is written.
struct Source<'a> {
    file: &'a GgufFile,
    arch: &'static Arch,
    config: &'a Config,
    /// What llama.cpp makes of the file's tokens.
    vocab: &'a Vocab,
}

/// A tensor of the folder.
struct Planned<'a> {
    name: String,
    turn: Turn,
    tensor: &'a TensorInfo,
    kind: Type,
}

/// Writes the files of `folder` and says their names. `progress` hears of bytes read, of so many.
pub fn to_folder(model: &Path, folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<String>, FolderError> {
    let file = GgufFile::open(model)?;
    let (arch, config) = arch::recognise(&file)?;
    tokenizer::check(&file)?;
    let vocab = Vocab::load(model).or_else(|error| refused("tokenizer", error.to_string()))?;
    let source = Source { file: &file, arch, config: &config, vocab: &vocab };
    let tensors = plan(&source)?;
    let mut texts = vec![("config.json", config::config(&source, dtype(&tensors))?)];
    texts.extend(tokenizer::files(&source)?);
    values(&source, &tensors, &folder.join(VALUES_FILE), progress)?;
    let mut names = vec![VALUES_FILE.to_owned()];
    for (name, value) in texts {
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(&value).expect("plain JSON can be written") + "\n";
        fs::write(&path, text).map_err(|source| FolderError::Io { path, source })?;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Every tensor under its name in the folder.
fn plan<'a>(source: &Source<'a>) -> Result<Vec<Planned<'a>>, FolderError> {
    let mut list = Vec::new();
    // They follow from the configuration, which says so or refuses.
    for tensor in source.file.tensors.iter().filter(|tensor| tensor.name != "rope_freqs.weight") {
        let place = format!("tensor {:?}", tensor.name);
        let Some((name, turn)) = folder_name(source.arch.name, &tensor.name, source.config.head_dim) else {
            return refused(place, format!("has no name in a folder of {}", source.arch.name));
        };
        if !ggml::can_decode(tensor.type_id as Type) {
            return refused(place, format!("{} cannot be turned into numbers here", tensor.type_name));
        }
        // What a coarse type stands for has no place in a folder but as floats.
        let kind = if [F32, F16, BF16].contains(&tensor.type_id) { tensor.type_id } else { F16 };
        list.push(Planned { name, turn, tensor, kind });
    }
    Ok(list)
}

/// The type that most values have, by transformers' name.
fn dtype(tensors: &[Planned<'_>]) -> &'static str {
    let most = tensors.iter().max_by_key(|planned| planned.tensor.elements()).map_or(F32, |planned| planned.kind);
    match most {
        F16 => "float16",
        BF16 => "bfloat16",
        _ => "float32",
    }
}

/// Writes the weights. Format: <https://github.com/huggingface/safetensors#format>.
fn values(
    source: &Source<'_>,
    tensors: &[Planned<'_>],
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), FolderError> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut end = 0;
    for planned in tensors {
        let begin = end;
        end += planned.bytes();
        let shape: Vec<u64> = planned.tensor.dims.iter().rev().copied().collect();
        let word = match planned.kind {
            F16 => "F16",
            BF16 => "BF16",
            _ => "F32",
        };
        header.insert(planned.name.clone(), json!({"dtype": word, "shape": shape, "data_offsets": [begin, end]}));
    }
    let mut text = Json::Object(header).to_string();
    // Data begins at a multiple of eight bytes.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let fail = |source| FolderError::Io { path: path.to_owned(), source };
    let mut out = BufWriter::new(File::create(path).map_err(fail)?);
    out.write_all(&(text.len() as u64).to_le_bytes()).and_then(|()| out.write_all(text.as_bytes())).map_err(fail)?;
    let unread = |error| FolderError::Io { path: source.file.path.clone(), source: error };
    let data = File::open(&source.file.path).map_err(unread)?;
    let (mut done, total) = (0, tensors.iter().map(|planned| planned.tensor.size_bytes).sum());
    for planned in tensors {
        planned.write(&source.file.path, &data, &mut out, &fail)?;
        done += planned.tensor.size_bytes;
        progress(done, total);
    }
    out.into_inner().map_err(|error| fail(error.into_error()))?.sync_all().map_err(fail)
}

impl Planned<'_> {
    fn bytes(&self) -> u64 {
        let width = if self.kind == F32 { 4 } else { 2 };
        width * self.tensor.elements()
    }

    fn write(
        &self,
        from: &Path,
        data: &File,
        out: &mut impl Write,
        fail: &impl Fn(std::io::Error) -> FolderError,
    ) -> Result<(), FolderError> {
        // A vector is one column, so that its values can be reordered like rows, unless its type has no such rows.
        let vector = self.tensor.dims.len() == 1;
        let (width, rows) = match vector && ggml::block_elements(self.tensor.type_id) == 1 {
            true => (1, self.tensor.dim(0) as usize),
            false => (self.tensor.dim(0) as usize, (self.tensor.elements() / self.tensor.dim(0)) as usize),
        };
        let row_bytes = ggml::row_bytes(self.tensor.type_id, width);
        let strip = (STRIP_VALUES / width).max(1);
        let (mut stored, mut numbers, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..rows).step_by(strip) {
            let count = strip.min(rows - first);
            stored.resize(count * row_bytes, 0);
            self.read(from, data, first, row_bytes, &mut stored)?;
            if self.kind == self.tensor.type_id && self.turn != Turn::MinusOne {
                out.write_all(&stored).map_err(fail)?;
                continue;
            }
            numbers.resize(count * width, 0.0);
            ggml::decode(self.tensor.type_id, &stored, &mut numbers);
            if self.turn == Turn::MinusOne {
                numbers.iter_mut().for_each(|value| *value -= 1.0);
            }
            self.check(&numbers)?;
            encoded.resize(ggml::row_bytes(self.kind, numbers.len()), 0);
            ggml::encode(self.kind, &numbers, numbers.len(), &mut encoded);
            out.write_all(&encoded).map_err(fail)?;
        }
        Ok(())
    }

    /// Reads the rows that the folder has from `first` on, as many as fit.
    fn read(
        &self,
        from: &Path,
        data: &File,
        first: usize,
        row_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), FolderError> {
        let at = |row: usize| self.tensor.offset_bytes + (row * row_bytes) as u64;
        let read = match self.turn {
            Turn::Halves(head) => out
                .chunks_exact_mut(row_bytes)
                .enumerate()
                .try_for_each(|(index, row)| data.read_exact_at(row, at(to_neighbours(first + index, head)))),
            _ => data.read_exact_at(out, at(first)),
        };
        read.map_err(|source| FolderError::Io { path: from.to_owned(), source })
    }

    /// Whether every value has a place in the folder's type.
    fn check(&self, values: &[f32]) -> Result<(), FolderError> {
        let most = if self.kind == F16 { F16_MAX } else { f32::MAX };
        match values.iter().find(|value| !value.is_finite() || value.abs() > most) {
            Some(value) => refused(format!("tensor {:?}", self.tensor.name), format!("{value} has no place in F16")),
            None => Ok(()),
        }
    }
}

/// The row of the file that becomes row `row` of the folder: the way back of neighbours to halves.
fn to_neighbours(row: usize, head: usize) -> usize {
    let (start, within, half) = (row - row % head, row % head, head / 2);
    start + 2 * (within % half) + within / half
}
