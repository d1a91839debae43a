//! The importance matrix of llama.cpp (imatrix): for each column of each matrix, the mean square of what flows into it, over rows that
//! a person chose. The quantiser then rounds columns that matter with less error. Formula: llama.cpp's `tools/imatrix`, sum of
//! x^2 over tokens divided by their number, for the matrices of the blocks. Never here: which rows, and rounding.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::{ConvertError, refuse};
use crate::serve::llama::{self, LlamaError};
use crate::train::TokenRow;

/// Longest part of a row that is looked at, in tokens; it is computed at once.
pub const ROW_TOKENS_MAX: usize = 512;
/// Tokens that are looked at in all, at most; rows behind them are left out.
pub const TOKENS_MAX: usize = 32_768;

/// One matrix: its name, and the mean square of each input column.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    /// Name of the tensor.
    pub name: CString,
    /// As many as the matrix has columns.
    pub mean_squares: Vec<f32>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// Matrices in order of their names.
    pub columns: Vec<Columns>,
    /// Rows looked at.
    pub rows: u64,
    /// Tokens looked at.
    pub tokens: u64,
}

/// Sums of one matrix, in F64 so that the order of rows does not show in the result.
#[derive(Debug, Default)]
struct Sums {
    squares: Vec<f64>,
    count: u64,
}

/// What the callback fills. Owned by a box, whose address llama.cpp keeps.
#[derive(Debug, Default)]
struct Watch {
    sums: BTreeMap<CString, Sums>,
    values: Vec<f32>,
}

/// Measures `model` over the rows. `progress` is told rows done and in all.
pub fn importance(
    model: &Path,
    rows: &[TokenRow],
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Importance, ConvertError> {
    let mut run = Run::open(model, threads)?;
    let (mut tokens, mut done) = (0, 0);
    for row in rows {
        if tokens >= TOKENS_MAX {
            break;
        }
        let part = &row.tokens[..row.tokens.len().min(ROW_TOKENS_MAX)];
        if part.is_empty() {
            continue;
        }
        run.compute(part)?;
        tokens += part.len();
        done += 1;
        progress(done, rows.len() as u64);
    }
    let watch = std::mem::take(&mut *run.watch);
    let columns: Vec<Columns> = watch.sums.into_iter().map(|(name, sums)| sums.columns(name)).collect();
    if columns.is_empty() {
        return refuse(model, "imatrix_rows", "no row has a token to look at");
    }
    if columns.iter().any(|columns| columns.mean_squares.iter().any(|value| !value.is_finite())) {
        return refuse(model, "activations", "are no numbers; the conversion or its source is damaged");
    }
    Ok(Importance { columns, rows: done, tokens: tokens as u64 })
}

impl Sums {
    fn columns(self, name: CString) -> Columns {
        let count = self.count.max(1) as f64;
        Columns { name, mean_squares: self.squares.iter().map(|sum| (sum / count) as f32).collect() }
    }

    fn add(&mut self, values: &[f32], width: usize) {
        self.squares.resize(width, 0.0);
        for row in values.chunks_exact(width) {
            self.count += 1;
            for (sum, &value) in self.squares.iter_mut().zip(row) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
    }
}

/// A model and a context whose graph is watched.
struct Run {
    context: NonNull<sys::llama_context>,
    model: NonNull<sys::llama_model>,
    watch: Box<Watch>,
}

impl Run {
    fn open(path: &Path, threads: usize) -> Result<Run, ConvertError> {
        llama::start();
        let failed = |detail: &str| LlamaError::ModelLoad { path: path.to_owned(), detail: detail.to_owned() };
        let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| LlamaError::Path { path: path.to_owned() })?;
        let mut watch = Box::<Watch>::default();
        let threads = i32::try_from(threads.max(1)).unwrap_or(1);
        // SAFETY: the defaults are plain data, the path lives for the call, and both handles are checked for null. The watch is
        // boxed and owned by the run, which frees the context before it.
        unsafe {
            let mut params = sys::llama_model_default_params();
            // What flows in is read where it is computed: on the CPU.
            params.n_gpu_layers = 0;
            let model = NonNull::new(sys::llama_model_load_from_file(text.as_ptr(), params));
            let model = model.ok_or_else(|| failed("the log says why"))?;
            let mut params = sys::llama_context_default_params();
            params.n_ctx = ROW_TOKENS_MAX as u32;
            params.n_batch = ROW_TOKENS_MAX as u32;
            params.n_ubatch = ROW_TOKENS_MAX as u32;
            params.n_outputs_max = ROW_TOKENS_MAX as u32;
            params.n_threads = threads;
            params.n_threads_batch = threads;
            params.no_perf = true;
            params.cb_eval = Some(on_node);
            params.cb_eval_user_data = (&raw mut *watch).cast();
            match NonNull::new(sys::llama_init_from_model(model.as_ptr(), params)) {
                Some(context) => Ok(Run { context, model, watch }),
                None => {
                    sys::llama_model_free(model.as_ptr());
                    Err(failed("no context could be made").into())
                }
            }
        }
    }

    /// Computes a row from its beginning. All of its tokens have outputs, because the last layer computes no others.
    fn compute(&mut self, tokens: &[i32]) -> Result<(), ConvertError> {
        let count = tokens.len();
        let mut tokens = tokens.to_vec();
        let mut positions: Vec<i32> = (0..count as i32).collect();
        let (mut counts, mut zero, mut outputs) = (vec![1; count], [0], vec![1; count]);
        let mut sequences = vec![zero.as_mut_ptr(); count];
        let batch = sys::llama_batch {
            n_tokens: count as i32,
            token: tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: counts.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: outputs.as_mut_ptr(),
        };
        // SAFETY: every array of the batch has `count` entries and lives for the call; the context is alive.
        let code = unsafe {
            sys::llama_memory_clear(sys::llama_get_memory(self.context.as_ptr()), false);
            sys::llama_decode(self.context.as_ptr(), batch)
        };
        match code {
            0 => Ok(()),
            code => Err(LlamaError::Decode { code, meaning: "while measuring what flows into the matrices" }.into()),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: both were made by `open` and are freed once, the context before its model.
        unsafe {
            sys::llama_free(self.context.as_ptr());
            sys::llama_model_free(self.model.as_ptr());
        }
    }
}

/// llama.cpp asks about every node before it is computed (`ask`), and shows it afterwards if it was wanted.
unsafe extern "C" fn on_node(node: *mut sys::ggml_tensor, ask: bool, watch: *mut c_void) -> bool {
    // SAFETY: llama.cpp passes a live node, and the pointer that `open` gave it; nobody else uses the watch during a decode.
    unsafe {
        let Some(name) = wanted(node) else { return !ask };
        if ask {
            return true;
        }
        let (watch, input) = (&mut *watch.cast::<Watch>(), (*node).src[1]);
        let width = (*input).ne[0] as usize;
        watch.values.resize(sys::ggml_nelements(input) as usize, 0.0);
        sys::ggml_backend_tensor_get(input, watch.values.as_mut_ptr().cast(), 0, sys::ggml_nbytes(input));
        watch.sums.entry(name.to_owned()).or_default().add(&watch.values, width);
        true
    }
}

/// The name of the block's matrix that a node multiplies with.
///
/// # Safety
/// `node` is a live node of a graph, whose sources are live too.
unsafe fn wanted<'a>(node: *const sys::ggml_tensor) -> Option<&'a CStr> {
    // SAFETY: as promised; names end with a zero byte.
    unsafe {
        let (op, weight, input) = ((*node).op, (*node).src[0], (*node).src[1]);
        if op != sys::GGML_OP_MUL_MAT || weight.is_null() || input.is_null() {
            return None;
        }
        let plain = (*input).type_ == sys::GGML_TYPE_F32 && sys::ggml_is_contiguous(input);
        let name = CStr::from_ptr((*weight).name.as_ptr());
        let bytes = name.to_bytes();
        (plain && bytes.starts_with(b"blk.") && bytes.ends_with(b".weight")).then_some(name)
    }
}
