//! A GGUF file in fewer bits, by llama.cpp's own quantiser, so that a format means here what it means everywhere. A
//! source that was quantised already is taken, and the result says so. Never here: judging what was lost.

use std::ffi::{CString, c_char};
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use llama_cpp_sys_2 as sys;

use super::importance::Importance;
use super::{ConvertError, PARENT_KEY, WARNING_KEY, is_adapter, quantised_types, refuse};
use crate::ggml;
use crate::gguf::{GgufFile, Value};

/// Longest text that llama.cpp takes for a metadata value, in bytes.
const TEXT_BYTES_MAX: usize = 127;
/// Rows that llama.cpp keeps in memory at a time, in bytes; its own default is beyond what a job is admitted with.
const BUFFERS_BYTES: usize = 512 << 20;
/// How long at most until the caller's `progress` is called again, so that it can say that the work lives.
const PATIENCE: Duration = Duration::from_secs(1);

/// A format of llama.cpp: the word of `llama-quantize` in lower case, and llama.cpp's number.
pub const FORMATS: &[(&str, sys::llama_ftype)] = &[
    ("f32", sys::LLAMA_FTYPE_ALL_F32),
    ("f16", sys::LLAMA_FTYPE_MOSTLY_F16),
    ("bf16", sys::LLAMA_FTYPE_MOSTLY_BF16),
    ("q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
    ("q6_k", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
    ("q5_k_m", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("q5_k_s", sys::LLAMA_FTYPE_MOSTLY_Q5_K_S),
    ("q5_1", sys::LLAMA_FTYPE_MOSTLY_Q5_1),
    ("q5_0", sys::LLAMA_FTYPE_MOSTLY_Q5_0),
    ("q4_k_m", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("q4_k_s", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S),
    ("iq4_nl", sys::LLAMA_FTYPE_MOSTLY_IQ4_NL),
    ("q4_1", sys::LLAMA_FTYPE_MOSTLY_Q4_1),
    ("q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    ("q3_k_m", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
];

/// What to quantise.
#[derive(Debug)]
pub struct Quantize<'a> {
    /// GGUF file.
    pub source: &'a Path,
    /// File to write.
    pub target: &'a Path,
    /// A word of [`FORMATS`].
    pub format: &'a str,
    /// Compute threads, at least one.
    pub threads: usize,
    /// SHA-256 of the source as hexadecimal digits, written into the result if not empty.
    pub source_sha256: &'a str,
    /// Sentence to write into the result; empty for none.
    pub warning: &'a str,
    /// What to round with less error, and the name of the rows that say so.
    pub importance: Option<(&'a Importance, &'a str)>,
}

/// The sentence about a source that was quantised already; `None` for one of floats.
pub fn requantising(file: &GgufFile) -> Option<String> {
    let types = quantised_types(file);
    (!types.is_empty()).then(|| {
        format!("made from weights that were quantised already ({}); what that lost stays lost", types.join(", "))
    })
}

/// Quantises. `progress` is told tensors done and in all, at least once a second. Answers a sentence on tensors whose
/// rows do not fit the format's blocks and that llama.cpp stored in another type, if there are any.
pub fn quantize(task: &Quantize<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Option<String>, ConvertError> {
    let source = GgufFile::open(task.source)?;
    if is_adapter(&source) {
        return refuse(task.source, "general.type", "is an adapter; merge it first, then quantise the result");
    }
    let Some(&(_, number)) = FORMATS.iter().find(|(word, _)| *word == task.format) else {
        let known: Vec<&str> = FORMATS.iter().map(|(word, _)| *word).collect();
        let problem = format!("{:?} is no format; there are {}", task.format, known.join(", "));
        return refuse(task.source, "format", problem);
    };
    let mut temporary = task.target.as_os_str().to_owned();
    temporary.push(format!(".tmp-{}", std::process::id()));
    let temporary = Path::new(&temporary);
    let result = run(task, temporary, number, source.tensors.len() as u64, progress)
        .and_then(|note| check(temporary, &source).map(|()| note))
        .and_then(|note| keep(temporary, task.target).map(|()| note));
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(temporary);
    }
    result
}

fn run(
    task: &Quantize<'_>,
    temporary: &Path,
    number: sys::llama_ftype,
    tensors: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<String>, ConvertError> {
    let (from, to) = (text(task.source)?, text(temporary)?);
    let (overrides, columns) = (overrides(task), columns(task.importance.map(|(importance, _)| importance)));
    // Shared with the thread below, which only reads what they point at.
    let lists = Lists { overrides: overrides.as_ptr(), columns: columns.as_ptr() };
    let lines = ggml::listen();
    let mut heard = Heard::default();
    let status = thread::scope(|scope| {
        let running = scope.spawn(|| {
            let lists = &lists;
            // SAFETY: the defaults are plain data; the strings, the list of overrides, which a key of no length ends, and
            // that of columns, which no name ends, outlive the call.
            unsafe {
                let mut params = sys::llama_model_quantize_default_params();
                params.nthread = task.threads.max(1) as i32;
                params.ftype = number;
                params.allow_requantize = true;
                params.max_buf_size = BUFFERS_BYTES;
                params.kv_overrides = lists.overrides;
                if task.importance.is_some() {
                    params.imatrix = lists.columns;
                }
                sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &params)
            }
        });
        let mut done = 0;
        while !running.is_finished() {
            if let Some(line) = lines.recv_within(PATIENCE) {
                done = tensor_number(&line).unwrap_or(done);
                heard.keep(&line);
            }
            progress(done.min(tensors), tensors);
        }
        while let Some(line) = lines.recv_within(Duration::ZERO) {
            heard.keep(&line);
        }
        running.join().unwrap_or(1)
    });
    if status != 0 {
        let problem = if heard.problem.is_empty() { format!("status {status}") } else { heard.problem };
        return Err(ConvertError::Quantiser { path: task.source.to_owned(), problem });
    }
    progress(tensors, tensors);
    Ok(heard.fallback)
}

/// `[  12/ 272] blk.3.attn_q.weight …`: the first number.
fn tensor_number(line: &str) -> Option<u64> {
    line.strip_prefix('[')?.split_once('/')?.0.trim().parse().ok()
}

/// What of llama.cpp's words matters to a person.
#[derive(Debug, Default)]
struct Heard {
    problem: String,
    fallback: Option<String>,
}

impl Heard {
    fn keep(&mut self, line: &str) {
        if let Some((_, said)) = line.split_once("failed to quantize: ") {
            said.trim().clone_into(&mut self.problem);
        }
        if let Some((said, _)) = line.split_once(" tensor(s) required fallback quantization") {
            let counts = said.rsplit(": ").next().unwrap_or_default();
            self.fallback =
                Some(format!("{counts} tensors have rows that do not fit the format's blocks and got another type"));
        }
    }
}

fn text(path: &Path) -> Result<CString, ConvertError> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).or_else(|_| refuse(path, "path", "holds a zero byte"))
}

/// What the quantiser reads while it runs.
struct Lists {
    overrides: *const sys::llama_model_kv_override,
    columns: *const sys::llama_model_imatrix_data,
}

// SAFETY: both lists are only read, and live longer than the thread that reads them.
unsafe impl Sync for Lists {}

/// The importance of each matrix, ended by an entry without a name.
fn columns(importance: Option<&Importance>) -> Vec<sys::llama_model_imatrix_data> {
    let columns = importance.map_or(&[][..], |importance| &importance.columns);
    let mut list: Vec<_> = columns
        .iter()
        .map(|columns| sys::llama_model_imatrix_data {
            name: columns.name.as_ptr(),
            data: columns.mean_squares.as_ptr(),
            size: columns.mean_squares.len(),
        })
        .collect();
    list.push(sys::llama_model_imatrix_data { name: std::ptr::null(), data: std::ptr::null(), size: 0 });
    list
}

/// Metadata to add, ended by an entry without a key. What it says of the importance matrix is what `llama-quantize` says.
fn overrides(task: &Quantize<'_>) -> Vec<sys::llama_model_kv_override> {
    let empty = sys::llama_model_kv_override {
        tag: sys::LLAMA_KV_OVERRIDE_TYPE_STR,
        key: [0; 128],
        __bindgen_anon_1: sys::llama_model_kv_override__bindgen_ty_1 { val_str: [0; 128] },
    };
    let entry = |key: &str, tag, value| {
        let mut entry = sys::llama_model_kv_override { tag, __bindgen_anon_1: value, ..empty };
        copy(key, &mut entry.key);
        entry
    };
    let rows = task.importance.map_or("", |(_, rows)| rows);
    let texts = [(PARENT_KEY, task.source_sha256), (WARNING_KEY, task.warning), ("quantize.imatrix.dataset", rows)];
    let mut list = Vec::new();
    for (key, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        let mut value = [0; 128];
        copy(text, &mut value);
        let value = sys::llama_model_kv_override__bindgen_ty_1 { val_str: value };
        list.push(entry(key, sys::LLAMA_KV_OVERRIDE_TYPE_STR, value));
    }
    if let Some((importance, _)) = task.importance {
        let counts = [("entries_count", importance.columns.len() as u64), ("chunks_count", importance.rows)];
        for (key, count) in counts {
            let value = sys::llama_model_kv_override__bindgen_ty_1 { val_i64: count as i64 };
            list.push(entry(&format!("quantize.imatrix.{key}"), sys::LLAMA_KV_OVERRIDE_TYPE_INT, value));
        }
    }
    list.push(empty);
    list
}

/// As many whole characters as fit, the rest staying zero.
fn copy(text: &str, into: &mut [c_char; 128]) {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    for (slot, byte) in into.iter_mut().zip(text[..end].bytes()) {
        *slot = byte as c_char;
    }
}

/// The result must be whole and say the same of tokenizer and template as the source.
fn check(temporary: &Path, source: &GgufFile) -> Result<(), ConvertError> {
    let made = GgufFile::open(temporary)?;
    let differs = source
        .metadata
        .iter()
        .find(|(key, value)| key.starts_with("tokenizer.") && !made.get(key).is_some_and(|there| same(there, value)));
    match differs {
        Some((key, _)) => refuse(&source.path, key, "the quantiser did not carry it over"),
        None if made.tensors.len() != source.tensors.len() => {
            refuse(&source.path, "tensors", format!("{} became {}", source.tensors.len(), made.tensors.len()))
        }
        None => Ok(()),
    }
}

/// Equal bit for bit: scores may be NaN, which no comparison of floats finds equal.
fn same(one: &Value, other: &Value) -> bool {
    one == other || format!("{one:?}") == format!("{other:?}")
}

fn keep(temporary: &Path, target: &Path) -> Result<(), ConvertError> {
    let fail = |source| ConvertError::Io { action: "write", path: target.to_owned(), source };
    File::open(temporary).and_then(|file| file.sync_all()).map_err(fail)?;
    fs::rename(temporary, target).map_err(fail)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}
