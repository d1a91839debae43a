//! An adapter added to the weights of its base: W' = W + scale B A, tensor by tensor and strip by strip, so that memory
//! is bounded by the adapter and some strips whatever the model's size. What the adapter does not touch is copied as it
//! is where its type stays. Never here: formats that mix types (`quantize` makes them of a merged file of floats).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use super::{ConvertError, is_adapter, refuse, set};
use crate::ggml::{self, BF16, F16, F32, Type};
use crate::gguf::{GgufFile, GgufStream, PlannedTensor, TensorInfo, Value};
use crate::inspect::{self, Facts};

/// Values that a thread takes at a time: 4 MiB as F32.
const STRIP_VALUES: u64 = 1 << 20;
/// Largest value of a 16-bit float.
const F16_MAX: f32 = 65_504.0;

/// How the result stores its matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// As the base does. Quantised tensors that the adapter changes are rounded again.
    Same,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit floats with the range of 32-bit ones.
    Bf16,
}

impl Store {
    fn kind(self) -> Option<Type> {
        match self {
            Store::Same => None,
            Store::F32 => Some(F32),
            Store::F16 => Some(F16),
            Store::Bf16 => Some(BF16),
        }
    }
}

/// What to merge.
#[derive(Debug)]
pub struct Merge<'a> {
    /// GGUF file of the base.
    pub base: &'a Path,
    /// GGUF file of the adapter.
    pub adapter: &'a Path,
    /// File to write.
    pub target: &'a Path,
    /// How the result is stored.
    pub store: Store,
    /// Compute threads, at least one.
    pub threads: usize,
}

/// One adapted matrix, as F32.
struct Pair {
    /// [rank][input].
    a: Vec<f32>,
    /// [output][rank].
    b: Vec<f32>,
    rank: usize,
    scale: f32,
}

/// Merges. `change` may set metadata before it is written; `progress` is told bytes of the base done and in all.
pub fn merge(
    task: &Merge<'_>,
    change: impl FnOnce(&mut Vec<(String, Value)>),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), ConvertError> {
    let base = GgufFile::open(task.base)?;
    let adapter = GgufFile::open(task.adapter)?;
    let pairs = pairs(&base, &adapter)?;
    let mut planned = Vec::with_capacity(base.tensors.len());
    for tensor in &base.tensors {
        let kind = target_kind(tensor, task.store);
        check_encodable(&base, tensor, kind, pairs.contains_key(tensor.name.as_str()))?;
        planned.push(PlannedTensor { name: tensor.name.clone(), dims: tensor.dims.clone(), type_id: kind });
    }
    let mut metadata = base.metadata.clone();
    let file_type = match task.store {
        Store::Same => None,
        Store::F32 => Some(0),
        Store::F16 => Some(1),
        Store::Bf16 => Some(32),
    };
    if let Some(number) = file_type {
        set(&mut metadata, "general.file_type", Value::U32(number));
    }
    change(&mut metadata);
    let mut out = GgufStream::create(task.target, &metadata, &planned)?;
    let data = open(task.base)?;
    let total: u64 = base.tensors.iter().map(|tensor| tensor.size_bytes).sum();
    let mut done = 0;
    for (tensor, plan) in base.tensors.iter().zip(&planned) {
        let pair = pairs.get(tensor.name.as_str());
        let work = Work { path: task.base, data: &data, tensor, target: plan.type_id, pair };
        work.write(&mut out, task.threads, &mut |bytes| progress(done + bytes, total))?;
        done += tensor.size_bytes;
    }
    out.finish()?;
    progress(total, total);
    Ok(())
}

fn open(path: &Path) -> Result<File, ConvertError> {
    File::open(path).map_err(|source| ConvertError::Io { action: "read", path: path.to_owned(), source })
}

/// All bytes of a tensor as F32.
pub(super) fn values(file: &GgufFile, data: &File, tensor: &TensorInfo) -> Result<Vec<f32>, ConvertError> {
    if !ggml::can_decode(tensor.type_id) {
        return refuse(&file.path, &tensor.name, format!("storage type {} cannot be decoded", tensor.type_name));
    }
    let mut stored = vec![0; tensor.size_bytes as usize];
    data.read_exact_at(&mut stored, tensor.offset_bytes).map_err(|source| ConvertError::Io {
        action: "read",
        path: file.path.clone(),
        source,
    })?;
    let mut values = vec![0.0; tensor.elements() as usize];
    ggml::decode(tensor.type_id, &stored, &mut values);
    if values.iter().any(|value| !value.is_finite()) {
        return refuse(&file.path, &tensor.name, "holds values that are no numbers; the file is damaged");
    }
    Ok(values)
}

/// The adapter's pairs by the name of the tensor of the base that they change.
fn pairs<'a>(base: &GgufFile, adapter: &'a GgufFile) -> Result<HashMap<&'a str, Pair>, ConvertError> {
    if is_adapter(base) {
        return refuse(&base.path, "general.type", "is an adapter; an adapter is merged into a model");
    }
    if !is_adapter(adapter) {
        return refuse(&adapter.path, "general.type", "is a model; only an adapter can be merged");
    }
    let Facts::Adapter(facts) = inspect::facts(adapter)? else {
        return refuse(&adapter.path, "general.type", "is a model; only an adapter can be merged");
    };
    let architecture = base.architecture()?;
    if facts.architecture != architecture {
        let problem = format!("is {:?}, the base is {architecture:?}", facts.architecture);
        return refuse(&adapter.path, "general.architecture", problem);
    }
    if adapter.get("adapter.alora.invocation_tokens").is_some() {
        let problem = "the adapter takes effect only behind these tokens; merged it would always";
        return refuse(&adapter.path, "adapter.alora.invocation_tokens", problem);
    }
    let data = open(&adapter.path)?;
    let mut pairs = HashMap::new();
    for a in &adapter.tensors {
        let Some(stem) = a.name.strip_suffix(".lora_a") else { continue };
        let b = adapter.require_tensor(&format!("{stem}.lora_b"))?;
        let Some(target) = base.tensor(stem) else {
            return refuse(&adapter.path, &a.name, format!("the base has no tensor {stem}; it is of another model"));
        };
        if stem == "token_embd.weight" || target.dims.len() > 2 {
            return refuse(&adapter.path, &a.name, "only adapters of plain matrices can be merged");
        }
        let rank = a.dim(1);
        if a.dim(0) != target.dim(0) || b.dim(1) != target.dim(1) {
            let problem = format!(
                "{} x {} does not fit {stem} of {} x {}; the adapter is of another model",
                a.dim(0),
                b.dim(1),
                target.dim(0),
                target.dim(1)
            );
            return refuse(&adapter.path, &a.name, problem);
        }
        // As llama.cpp has it: an alpha of 0 is no scale at all.
        let scale = if facts.alpha == 0.0 { 1.0 } else { facts.alpha / rank as f32 };
        let (a, b) = (values(adapter, &data, a)?, values(adapter, &data, b)?);
        pairs.insert(stem, Pair { a, b, rank: rank as usize, scale });
    }
    Ok(pairs)
}

/// The type that a tensor gets: vectors and what llama.cpp keeps whole stay as they are.
fn target_kind(tensor: &TensorInfo, store: Store) -> Type {
    match store.kind() {
        Some(kind) if tensor.dims.len() > 1 && (tensor.type_id != F32 || is_matrix(&tensor.name)) => kind,
        _ => tensor.type_id,
    }
}

/// Whether llama.cpp multiplies by the tensor in any type.
fn is_matrix(name: &str) -> bool {
    let plain = |stem: &str| stem.starts_with("attn_") || stem.starts_with("ffn_");
    let inside = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, stem)| stem);
    name == "token_embd.weight"
        || name == "output.weight"
        || inside.is_some_and(|stem| {
            plain(stem)
                && stem.ends_with(".weight")
                && !stem.ends_with("_norm.weight")
                && !stem.starts_with("ffn_gate_inp")
        })
}

fn check_encodable(base: &GgufFile, tensor: &TensorInfo, kind: Type, adapted: bool) -> Result<(), ConvertError> {
    if kind == tensor.type_id && !adapted {
        return Ok(());
    }
    if !ggml::can_decode(tensor.type_id) {
        let problem = format!("storage type {} cannot be decoded; use another file of the model", tensor.type_name);
        return refuse(&base.path, &tensor.name, problem);
    }
    if !ggml::can_encode(kind) {
        let problem = format!("values cannot be stored as {} again; choose another type", ggml::type_name(kind));
        return refuse(&base.path, &tensor.name, problem);
    }
    Ok(())
}

/// One tensor on its way.
struct Work<'a> {
    path: &'a Path,
    data: &'a File,
    tensor: &'a TensorInfo,
    target: Type,
    pair: Option<&'a Pair>,
}

impl Work<'_> {
    fn write(&self, out: &mut GgufStream, threads: usize, progress: &mut dyn FnMut(u64)) -> Result<(), ConvertError> {
        let row = self.tensor.dim(0);
        let rows = self.tensor.elements() / row;
        let per_strip = (STRIP_VALUES / row).max(1);
        let starts: Vec<u64> = (0..rows).step_by(per_strip as usize).collect();
        for batch in starts.chunks(threads.max(1)) {
            let strips: Vec<Result<Vec<u8>, ConvertError>> = thread::scope(|scope| {
                let running: Vec<_> = batch
                    .iter()
                    .map(|&first| scope.spawn(move || self.strip(first, per_strip.min(rows - first))))
                    .collect();
                running.into_iter().map(|strip| strip.join().expect("a strip does not panic")).collect()
            });
            for strip in strips {
                out.data(&strip?)?;
            }
            let last = batch.last().map_or(0, |first| (first + per_strip).min(rows));
            progress(self.tensor.size_bytes / rows * last);
        }
        Ok(())
    }

    /// Rows `first..first + rows` in the target's type.
    fn strip(&self, first: u64, rows: u64) -> Result<Vec<u8>, ConvertError> {
        let row = self.tensor.dim(0) as usize;
        let row_bytes = ggml::row_bytes(self.tensor.type_id, row);
        let mut stored = vec![0; row_bytes * rows as usize];
        let offset = self.tensor.offset_bytes + first * row_bytes as u64;
        self.data.read_exact_at(&mut stored, offset).map_err(|source| ConvertError::Io {
            action: "read",
            path: self.path.to_owned(),
            source,
        })?;
        if self.pair.is_none() && self.target == self.tensor.type_id {
            return Ok(stored);
        }
        let mut values = vec![0.0f32; row * rows as usize];
        ggml::decode(self.tensor.type_id, &stored, &mut values);
        if let Some(pair) = self.pair {
            pair.add(&mut values, row, first as usize);
        }
        self.check(&values)?;
        let mut bytes = vec![0; ggml::row_bytes(self.target, row) * rows as usize];
        ggml::encode(self.target, &values, row, &mut bytes);
        Ok(bytes)
    }

    fn check(&self, values: &[f32]) -> Result<(), ConvertError> {
        let limit = if self.target == F16 { F16_MAX } else { f32::MAX };
        match values.iter().find(|value| value.is_nan() || value.abs() > limit) {
            Some(value) if value.is_finite() => {
                refuse(self.path, &self.tensor.name, format!("{value} is beyond 16-bit floats; choose bf16 or f32"))
            }
            Some(_) => refuse(self.path, &self.tensor.name, "holds values that are no numbers"),
            None => Ok(()),
        }
    }
}

impl Pair {
    /// Adds scale B A to rows of `row` values, of which the first is row `first` of the matrix.
    fn add(&self, values: &mut [f32], row: usize, first: usize) {
        for (values, b) in values.chunks_exact_mut(row).zip(self.b[first * self.rank..].chunks_exact(self.rank)) {
            for (a, &b) in self.a.chunks_exact(row).zip(b) {
                let factor = self.scale * b;
                for (value, &a) in values.iter_mut().zip(a) {
                    *value += factor * a;
                }
            }
        }
    }
}
