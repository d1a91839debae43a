//! Safe owners of the few llama.cpp objects that serving needs: a model, a context, an adapter,
//! a batch and the thread pool, each freed by `Drop` and each keeping alive what it points into.
//!
//! The `llama-cpp-2` wrapper ties a context to a borrow of its model and wants `&mut` to the model
//! to load an adapter, which cannot express "adapters come and go while contexts live"; so these
//! owners sit on `llama-cpp-sys-2` and count references instead. Everything that llama.cpp answers
//! with an assertion (and thus the end of the process) is checked here first.
//!
//! What never lives here: scheduling, sampling, any knowledge of requests.

mod batch;
mod model;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Once};

use llama_cpp_sys_2 as sys;

pub use batch::Batch;
use model::MODEL_CHANGES;
pub use model::Model;

use crate::ggml::BackendError;

/// Why a llama.cpp object could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// The path has a NUL byte or is not UTF-8, which the C interface cannot take.
    #[error("path {path} cannot be passed to llama.cpp (NUL byte or not UTF-8)")]
    Path {
        /// The path as given.
        path: PathBuf,
    },
    /// The device asked for is not there.
    #[error(transparent)]
    Device(BackendError),
    /// llama.cpp refused the model file.
    #[error("llama.cpp could not load {path}: {detail}\nhint: inspect the file first; its header names what is wrong")]
    ModelLoad {
        /// The model file.
        path: PathBuf,
        /// The last error line llama.cpp wrote, if any.
        detail: String,
    },
    /// llama.cpp refused the adapter file.
    #[error(
        "llama.cpp could not load the adapter {path}: {detail}\nhint: an adapter fits only the base it was trained on"
    )]
    AdapterLoad {
        /// The adapter file.
        path: PathBuf,
        /// The last error line llama.cpp wrote, if any.
        detail: String,
    },
    /// No context could be made: nearly always too little memory.
    #[error(
        "no context of {context_tokens} tokens in {slots} slots could be made: {detail}\nhint: lower the slots or the context"
    )]
    Context {
        /// Tokens in all slots together.
        context_tokens: u32,
        /// Sequences.
        slots: u32,
        /// The last error line llama.cpp wrote, if any.
        detail: String,
    },
    /// The adapter could not be attached to the context.
    #[error("llama.cpp refused to attach the adapter (code {code})")]
    Attach {
        /// What `llama_set_adapters_lora` answered.
        code: i32,
    },
    /// A batch that llama.cpp would answer with an assertion.
    #[error("batch refused: {why}")]
    Batch {
        /// Which bound it breaks.
        why: String,
    },
    /// `llama_decode` failed.
    #[error("llama_decode answered {code} ({meaning})")]
    Decode {
        /// Its code.
        code: i32,
        /// What the header says the code means.
        meaning: &'static str,
    },
}

/// Most bytes of a log line that are kept for an error message.
const LOG_LINE_BYTES_MAX: usize = 512;

static LAST_ERROR: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());
static START: Once = Once::new();

/// Receives llama.cpp's log: warnings and errors go to stderr, the last error is kept for messages.
unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives for the call.
    let line = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    crate::ggml::hear(&line);
    if !(sys::GGML_LOG_LEVEL_WARN..=sys::GGML_LOG_LEVEL_ERROR).contains(&level) {
        return;
    }
    let line = line.trim_end();
    if level == sys::GGML_LOG_LEVEL_ERROR
        && let Ok(mut last) = LAST_ERROR.lock()
    {
        last.clear();
        last.extend(line.chars().take(LOG_LINE_BYTES_MAX));
    }
    eprintln!("llama.cpp: {line}");
}

/// Starts llama.cpp once per process and routes its log to stderr. Cheap to call again.
pub fn start() {
    START.call_once(|| {
        // SAFETY: called once; the callback is a static function without user data.
        unsafe {
            sys::llama_log_set(Some(on_log), std::ptr::null_mut());
            sys::llama_backend_init();
        }
    });
}

fn forget_last_error() {
    if let Ok(mut last) = LAST_ERROR.lock() {
        last.clear();
    }
}

fn last_error() -> String {
    match LAST_ERROR.lock() {
        Ok(last) if !last.is_empty() => last.clone(),
        _ => "no reason given".to_owned(),
    }
}

fn c_path(path: &Path) -> Result<CString, LlamaError> {
    let refused = || LlamaError::Path { path: path.to_owned() };
    CString::new(path.to_str().ok_or_else(refused)?).map_err(|_| refused())
}

/// A LoRA adapter loaded beside its base model.
#[derive(Debug)]
pub struct Adapter {
    ptr: NonNull<sys::llama_adapter_lora>,
    _model: Arc<Model>,
}

// SAFETY: an adapter is only read after loading.
unsafe impl Send for Adapter {}
// SAFETY: as above.
unsafe impl Sync for Adapter {}

impl Adapter {
    /// Loads an adapter GGUF; llama.cpp checks that its tensors fit `model`.
    pub fn load(model: &Arc<Model>, path: &Path) -> Result<Arc<Self>, LlamaError> {
        let c = c_path(path)?;
        let _turn = MODEL_CHANGES.lock().unwrap_or_else(|e| e.into_inner());
        forget_last_error();
        // SAFETY: model and path are valid; the call registers the adapter in the model, which is
        // serialised by the lock.
        let ptr = unsafe { sys::llama_adapter_lora_init(model.ptr.as_ptr(), c.as_ptr()) };
        let ptr =
            NonNull::new(ptr).ok_or_else(|| LlamaError::AdapterLoad { path: path.to_owned(), detail: last_error() })?;
        Ok(Arc::new(Self { ptr, _model: model.clone() }))
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _turn = MODEL_CHANGES.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: made by llama_adapter_lora_init, freed once, while its model still lives; every
        // context that used it holds an `Arc` and is therefore gone.
        unsafe { sys::llama_adapter_lora_free(self.ptr.as_ptr()) }
    }
}

/// Worker threads that several contexts share, as long as they compute one after the other.
#[derive(Debug)]
pub struct ThreadPool {
    ptr: NonNull<sys::ggml_threadpool>,
    free: unsafe extern "C" fn(*mut sys::ggml_threadpool),
    threads: usize,
}

// SAFETY: the pool is an opaque handle that ggml locks inside.
unsafe impl Send for ThreadPool {}
// SAFETY: as above; attaching is done under `&mut Context`.
unsafe impl Sync for ThreadPool {}

type PoolNew = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
type PoolFree = unsafe extern "C" fn(*mut sys::ggml_threadpool);

impl ThreadPool {
    /// Starts `threads` threads (the caller's included). `None` when this build's CPU backend has
    /// no pool; llama.cpp then starts threads for every graph.
    ///
    /// The functions come from the backend's registry, never by name, so that a backend loaded at
    /// run time works too.
    pub fn new(threads: usize) -> Option<Arc<Self>> {
        start();
        let count = i32::try_from(threads).ok()?;
        // SAFETY: the registry and device are static objects of ggml; the addresses are those that
        // the CPU backend publishes under these names with these signatures (ggml-cpu.h).
        unsafe {
            let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
            if device.is_null() {
                return None;
            }
            let registry = sys::ggml_backend_dev_backend_reg(device);
            let new = sys::ggml_backend_reg_get_proc_address(registry, c"ggml_threadpool_new".as_ptr());
            let free = sys::ggml_backend_reg_get_proc_address(registry, c"ggml_threadpool_free".as_ptr());
            if new.is_null() || free.is_null() {
                return None;
            }
            let new: PoolNew = std::mem::transmute::<*mut c_void, PoolNew>(new);
            let free: PoolFree = std::mem::transmute::<*mut c_void, PoolFree>(free);
            let mut params = sys::ggml_threadpool_params_default(count);
            let ptr = NonNull::new(new(&raw mut params))?;
            Some(Arc::new(Self { ptr, free, threads }))
        }
    }

    /// Threads in the pool, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // SAFETY: made by ggml_threadpool_new and freed once; contexts that use it hold an `Arc`.
        unsafe { (self.free)(self.ptr.as_ptr()) }
    }
}

/// Number format of the key/value cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Two bytes a value: the default.
    F16,
    /// About one byte a value, for long contexts in little memory.
    Q8_0,
}

/// What a context is made for.
#[derive(Clone, Debug)]
pub struct ContextParams {
    /// Sequences that can live at once; each has its own stretch of the cache.
    pub slots: u32,
    /// Tokens per sequence; llama.cpp rounds it up to a multiple of 256.
    pub tokens_per_slot: u32,
    /// Most tokens in one call of decode.
    pub batch_tokens_max: u32,
    /// Most tokens computed in one graph.
    pub graph_tokens_max: u32,
    /// Most rows of logits in one call of decode.
    pub outputs_max: u32,
    /// Threads for single tokens and for batches alike.
    pub threads: usize,
    /// Number format of the cache.
    pub kv_type: KvType,
    /// Vectors of tokens are wanted instead of logits. The slots then share one stretch of `tokens_per_slot`, and attention
    /// has its plain form, which rounds nothing to F16 on the way.
    pub embeds: bool,
}

/// A context: the key/value cache and compute buffers of one model with at most one adapter.
#[derive(Debug)]
pub struct Context {
    ptr: NonNull<sys::llama_context>,
    model: Arc<Model>,
    adapter: Option<Arc<Adapter>>,
    pool: Option<Arc<ThreadPool>>,
    params: ContextParams,
    /// Rows of logits that the last decode left behind.
    outputs: Vec<bool>,
}

// SAFETY: a context may be used from any one thread at a time; `&mut` guards every use.
unsafe impl Send for Context {}

impl Context {
    /// Makes a context over `model`, with `adapter` applied at scale 1 (alpha/rank is in the file).
    pub fn new(
        model: &Arc<Model>,
        adapter: Option<Arc<Adapter>>,
        pool: Option<Arc<ThreadPool>>,
        mut wanted: ContextParams,
    ) -> Result<Self, LlamaError> {
        let stretches = if wanted.embeds { 1 } else { wanted.slots };
        let total = stretches.saturating_mul(wanted.tokens_per_slot);
        let refused = |detail: String| LlamaError::Context { context_tokens: total, slots: wanted.slots, detail };
        // SAFETY: no arguments.
        let slots_max = unsafe { sys::llama_max_parallel_sequences() };
        if wanted.slots == 0 || wanted.slots as usize > slots_max {
            return Err(refused(format!("slots must be in [1, {slots_max}]")));
        }
        if wanted.tokens_per_slot == 0 || model.vocab_only {
            return Err(refused("no tokens per slot, or no weights loaded".into()));
        }
        let params = raw_context_params(&wanted, total);
        let turn = MODEL_CHANGES.lock().unwrap_or_else(|e| e.into_inner());
        forget_last_error();
        // SAFETY: the model is alive; the call may write its trained context, hence the lock.
        let ptr = unsafe { sys::llama_init_from_model(model.ptr.as_ptr(), params) };
        drop(turn);
        let ptr = NonNull::new(ptr).ok_or_else(|| refused(last_error()))?;
        // SAFETY: the context was just made. llama.cpp may have rounded these.
        unsafe {
            wanted.tokens_per_slot = sys::llama_n_ctx_seq(ptr.as_ptr());
            wanted.batch_tokens_max = sys::llama_n_batch(ptr.as_ptr());
            wanted.graph_tokens_max = sys::llama_n_ubatch(ptr.as_ptr());
        }
        let mut context = Self { ptr, model: model.clone(), adapter, pool, params: wanted, outputs: Vec::new() };
        context.attach()?;
        Ok(context)
    }

    fn attach(&mut self) -> Result<(), LlamaError> {
        if let Some(pool) = &self.pool {
            // SAFETY: both live; `self.pool` keeps the pool alive until the context is freed.
            unsafe {
                sys::llama_attach_threadpool(self.ptr.as_ptr(), pool.ptr.as_ptr(), pool.ptr.as_ptr());
            }
        }
        if let Some(adapter) = &self.adapter {
            let mut adapters = [adapter.ptr.as_ptr()];
            let mut scales = [1.0_f32];
            // SAFETY: arrays of length 1; the adapter belongs to this context's model.
            let code = unsafe {
                sys::llama_set_adapters_lora(
                    self.ptr.as_ptr(),
                    adapters.as_mut_ptr(),
                    adapters.len(),
                    scales.as_mut_ptr(),
                )
            };
            if code != 0 {
                return Err(LlamaError::Attach { code });
            }
        }
        Ok(())
    }

    /// The parameters as llama.cpp rounded them.
    pub fn params(&self) -> &ContextParams {
        &self.params
    }

    /// Computes a batch. Afterwards `logits(i)` gives the row of every token that asked for one.
    pub fn decode(&mut self, batch: &mut Batch) -> Result<(), LlamaError> {
        self.check(batch)?;
        self.outputs.clear();
        batch.point();
        let raw = sys::llama_batch {
            n_tokens: i32::try_from(batch.len()).expect("checked against batch_tokens_max above"),
            token: batch.token.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: batch.pos.as_mut_ptr(),
            n_seq_id: batch.seq_count.as_mut_ptr(),
            seq_id: batch.seq_ptr.as_mut_ptr(),
            logits: batch.output.as_mut_ptr(),
        };
        // SAFETY: every array has n_tokens entries (`point` filled the pointers), and sizes, token
        // ids and sequence ids were checked against the context's bounds.
        let code = unsafe { sys::llama_decode(self.ptr.as_ptr(), raw) };
        let meaning = match code {
            0 => {
                self.outputs.extend(batch.output.iter().map(|&o| o != 0));
                return Ok(());
            }
            1 => "no room in the key/value cache",
            2 => "aborted",
            -1 => "invalid batch",
            _ => "fatal error",
        };
        Err(LlamaError::Decode { code, meaning })
    }

    fn check(&self, batch: &Batch) -> Result<(), LlamaError> {
        let refused = |why: String| Err(LlamaError::Batch { why });
        let p = &self.params;
        if batch.is_empty() || batch.len() > p.batch_tokens_max as usize {
            return refused(format!("{} tokens; must be in [1, {}]", batch.len(), p.batch_tokens_max));
        }
        let outputs = batch.output.iter().filter(|&&o| o != 0).count();
        if outputs > p.outputs_max as usize {
            return refused(format!("{outputs} outputs; at most {}", p.outputs_max));
        }
        let vocab = self.model.vocab_size();
        for i in 0..batch.len() {
            let (token, seq, pos) = (batch.token[i], batch.seq[i], batch.pos[i]);
            if usize::try_from(token).map_or(true, |t| t >= vocab) {
                return refused(format!("token {token}; the vocabulary has {vocab}"));
            }
            if !(0..p.slots.cast_signed()).contains(&seq) {
                return refused(format!("slot {seq}; there are {}", p.slots));
            }
            if !(0..p.tokens_per_slot.cast_signed()).contains(&pos) {
                return refused(format!("position {pos}; a slot has {}", p.tokens_per_slot));
            }
        }
        Ok(())
    }

    /// Logits for entry `index` of the last batch, `vocab_size` values. `None` if that entry did not
    /// ask for an output or the last decode failed.
    pub fn logits(&mut self, index: usize) -> Option<&[f32]> {
        if !self.outputs.get(index).copied().unwrap_or(false) {
            return None;
        }
        let i = i32::try_from(index).ok()?;
        // SAFETY: entry `index` asked for an output and the decode succeeded.
        let ptr = unsafe { sys::llama_get_logits_ith(self.ptr.as_ptr(), i) };
        if ptr.is_null() {
            return None;
        }
        // SAFETY: llama.cpp returns a row of vocab_size floats, valid until the next decode, which
        // needs `&mut self` as this borrow does.
        Some(unsafe { std::slice::from_raw_parts(ptr, self.model.vocab_size()) })
    }

    /// The vector of entry `index` of the last batch, as wide as the model; `None` if the last decode failed or this is no
    /// context of vectors.
    pub fn token_vector(&mut self, index: usize) -> Option<&[f32]> {
        if !self.params.embeds || !self.outputs.get(index).copied().unwrap_or(false) {
            return None;
        }
        let i = i32::try_from(index).ok()?;
        // SAFETY: entry `index` asked for an output and the decode succeeded; the context was made without pooling.
        let ptr = unsafe { sys::llama_get_embeddings_ith(self.ptr.as_ptr(), i) };
        if ptr.is_null() {
            return None;
        }
        // SAFETY: llama.cpp returns a row of so many floats, valid until the next decode, which needs `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(ptr, self.model.vector_width()) })
    }

    /// Forgets the positions of a slot from `from` on. False if the model cannot cut there.
    pub fn cut(&mut self, slot: u32, from: usize) -> bool {
        let (Some(seq), Ok(p0)) = (self.seq(slot), i32::try_from(from)) else {
            return false;
        };
        // SAFETY: the context is alive and the slot exists.
        unsafe {
            let memory = sys::llama_get_memory(self.ptr.as_ptr());
            sys::llama_memory_seq_rm(memory, seq, p0, -1)
        }
    }

    /// Computes with so many threads from now on; the pool must have as many.
    pub fn set_threads(&mut self, threads: usize) {
        let most = self.pool.as_ref().map_or(threads, |p| p.threads());
        let threads = threads.clamp(1, most);
        let count = i32::try_from(threads).unwrap_or(1);
        // SAFETY: the context is alive; the call only stores the numbers.
        unsafe { sys::llama_set_n_threads(self.ptr.as_ptr(), count, count) }
        self.params.threads = threads;
    }

    /// Makes `to` hold what `from` holds (a copy of the whole stretch of cache: the cost is its
    /// bytes, paid at the next decode). What `to` held is forgotten.
    pub fn copy_slot(&mut self, from: u32, to: u32) -> bool {
        let (Some(src), Some(dst)) = (self.seq(from), self.seq(to)) else {
            return false;
        };
        if src == dst || !self.cut(to, 0) {
            return false;
        }
        // SAFETY: the context is alive, both slots exist, and the whole range is copied, the only
        // form that separate stretches support.
        unsafe {
            let memory = sys::llama_get_memory(self.ptr.as_ptr());
            sys::llama_memory_seq_cp(memory, src, dst, -1, -1);
        }
        true
    }

    /// Forgets everything in every slot.
    pub fn clear(&mut self) {
        // SAFETY: the context is alive.
        unsafe {
            let memory = sys::llama_get_memory(self.ptr.as_ptr());
            sys::llama_memory_clear(memory, false);
        }
    }

    fn seq(&self, slot: u32) -> Option<i32> {
        (slot < self.params.slots).then(|| slot.cast_signed())
    }
}

fn raw_context_params(wanted: &ContextParams, total: u32) -> sys::llama_context_params {
    // SAFETY: returns a plain struct by value.
    let mut params = unsafe { sys::llama_context_default_params() };
    let kv = match wanted.kv_type {
        KvType::F16 => sys::GGML_TYPE_F16,
        KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
    };
    let threads = i32::try_from(wanted.threads).unwrap_or(1);
    params.n_ctx = total;
    params.n_batch = wanted.batch_tokens_max;
    params.n_ubatch = wanted.graph_tokens_max;
    params.n_seq_max = wanted.slots;
    params.n_outputs_max = wanted.outputs_max;
    params.n_threads = threads;
    params.n_threads_batch = threads;
    params.type_k = kv;
    params.type_v = kv;
    params.no_perf = true;
    params.kv_unified = wanted.embeds;
    params.embeddings = wanted.embeds;
    if wanted.embeds {
        // Pooling is ours.
        params.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    params
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by llama_init_from_model and freed once, before its model, adapter and pool.
        unsafe { sys::llama_free(self.ptr.as_ptr()) }
    }
}
