//! Thin owners over the raw ggml interface: backend, buffers, contexts, graphs and allocators, each freed by `Drop`.
//! Training calls the native library only through this folder. Here is no knowledge of models or training.
//!
//! A [`Tensor`] is a plain handle and stays valid while the [`Context`] that made it lives; every struct of this crate
//! that keeps handles keeps their contexts and buffers beside them. That rule is what the `SAFETY` comments below
//! lean on, and why this module is visible inside the crate only.

mod backend;
#[cfg(target_os = "linux")]
mod clear;
mod device;
mod graph;
mod work;

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::time::Duration;

use llama_cpp_sys_2 as sys;

pub(crate) use backend::{Backend, Buffer, GraphMemory, has_cpu_feature};
pub(crate) use device::handles;
pub use device::{BACKENDS_VARIABLE, DEVICE_VARIABLE, Device, DeviceKind, choose, devices, span, wished};
pub(crate) use graph::{Graph, Rope};
pub(crate) use work::Work;

/// ggml's number of a storage type.
pub(crate) type Type = sys::ggml_type;

pub(crate) const F32: Type = sys::GGML_TYPE_F32;
pub(crate) const F16: Type = sys::GGML_TYPE_F16;
pub(crate) const BF16: Type = sys::GGML_TYPE_BF16;
pub(crate) const Q8_0: Type = sys::GGML_TYPE_Q8_0;
pub(crate) const Q4_0: Type = sys::GGML_TYPE_Q4_0;
pub(crate) const Q4_1: Type = sys::GGML_TYPE_Q4_1;
pub(crate) const Q4_K: Type = sys::GGML_TYPE_Q4_K;
pub(crate) const I8: Type = sys::GGML_TYPE_I8;
pub(crate) const I16: Type = sys::GGML_TYPE_I16;
pub(crate) const I32: Type = sys::GGML_TYPE_I32;
pub(crate) const I64: Type = sys::GGML_TYPE_I64;
/// 64-bit float.
pub(crate) const F64: Type = sys::GGML_TYPE_F64;

/// Why the native library could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The registry has no such device.
    #[error("no CPU backend is registered in ggml; the build lacks it or its library was not found beside the program")]
    NoDevice,
    /// No device is called that.
    #[error("no device is called {name}; there are {there}\nhint: set HONE_DEVICE to one of them, or unset it")]
    UnknownDevice {
        /// The name asked for.
        name: String,
        /// The names there are.
        there: String,
    },
    /// A listed device could not be opened.
    #[error(
        "the device {name} could not be opened; another process may hold all of it: wait, or name another one in HONE_DEVICE"
    )]
    DeviceBusy {
        /// Its name.
        name: String,
    },
    /// The backend does not offer a function that is needed.
    #[error("the ggml backend does not offer {name}; it is of another version than this program")]
    NoFunction {
        /// The function's registered name.
        name: &'static str,
    },
    /// Not enough memory.
    #[error(
        "no memory for {what} ({bytes} bytes); free memory, or lower batch_windows, sequence_tokens or recompute_every"
    )]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
    },
    /// A graph did not run to its end.
    #[error("ggml ended a computation with status {status}")]
    Compute {
        /// ggml's status code.
        status: i32,
    },
}

/// Where tensors are described. It holds no tensor data; a [`Buffer`] or a [`GraphMemory`] does.
pub(crate) struct Context(NonNull<sys::ggml_context>);

// SAFETY: a context is a plain memory arena without thread affinity; it is reached only through its owner.
unsafe impl Send for Context {}

impl Context {
    /// Room for `tensors` descriptions and for a graph of `nodes` nodes (0: no graph).
    pub(crate) fn new(tensors: usize, nodes: usize) -> Result<Context, BackendError> {
        // SAFETY: the size functions read constants; ggml_init copies its argument and allocates the arena itself.
        let (raw, bytes) = unsafe {
            let graph = if nodes > 0 { sys::ggml_graph_overhead_custom(nodes, false) } else { 0 };
            let bytes = sys::ggml_tensor_overhead() * tensors + graph + 4096;
            let params = sys::ggml_init_params { mem_size: bytes, mem_buffer: ptr::null_mut(), no_alloc: true };
            (sys::ggml_init(params), bytes)
        };
        NonNull::new(raw).map(Context).ok_or(BackendError::Memory { what: "tensor descriptions", bytes })
    }

    /// A new tensor of up to four dimensions, fastest first.
    pub(crate) fn tensor(&self, kind: Type, dims: &[usize]) -> Tensor {
        let mut ne = [1i64; 4];
        for (slot, &dim) in ne.iter_mut().zip(dims) {
            *slot = dim as i64;
        }
        // SAFETY: the context lives, `ne` holds the four values read, and ggml aborts rather than return null.
        Tensor::wrap(unsafe { sys::ggml_new_tensor(self.0.as_ptr(), kind, 4, ne.as_ptr()) })
    }

    /// Rows of `width` elements of `a`, which has memory, from element `first` on, one after the other.
    pub(crate) fn view(&self, a: Tensor, width: usize, rows: usize, first: usize) -> Tensor {
        let element = a.strides()[0];
        // SAFETY: the context lives; ggml asserts that the view lies inside `a`.
        Tensor::wrap(unsafe {
            sys::ggml_view_2d(self.0.as_ptr(), a.as_ptr(), width as i64, rows as i64, width * element, first * element)
        })
    }

    fn as_ptr(&self) -> *mut sys::ggml_context {
        self.0.as_ptr()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by ggml_init and freed once.
        unsafe { sys::ggml_free(self.0.as_ptr()) }
    }
}

/// A handle on a tensor; see the module's rule on how long it is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tensor(NonNull<sys::ggml_tensor>);

// SAFETY: a handle is an address; who sends it sends its context with it (module rule).
unsafe impl Send for Tensor {}
// SAFETY: shared handles only read the description; who writes data from several threads writes distinct tensors.
unsafe impl Sync for Tensor {}

impl Tensor {
    fn wrap(raw: *mut sys::ggml_tensor) -> Tensor {
        Tensor(NonNull::new(raw).expect("ggml aborts instead of returning null from tensor constructors"))
    }

    fn as_ptr(self) -> *mut sys::ggml_tensor {
        self.0.as_ptr()
    }

    /// Elements per dimension, fastest first.
    pub(crate) fn dims(self) -> [usize; 4] {
        // SAFETY: the context lives (module rule).
        unsafe { self.0.as_ref().ne }.map(|dim| dim as usize)
    }

    /// Bytes from one element to the next, per dimension.
    pub(crate) fn strides(self) -> [usize; 4] {
        // SAFETY: the context lives (module rule).
        unsafe { self.0.as_ref().nb }
    }

    /// Storage type.
    pub(crate) fn kind(self) -> Type {
        // SAFETY: the context lives (module rule).
        unsafe { self.0.as_ref().type_ }
    }

    /// What the node that makes this tensor reads.
    pub(crate) fn operands(self) -> impl Iterator<Item = Tensor> {
        // SAFETY: the context lives (module rule), and operands are null or tensors of it.
        unsafe { self.0.as_ref().src }.into_iter().map_while(NonNull::new).map(Tensor)
    }

    /// Number of elements.
    pub(crate) fn elements(self) -> usize {
        self.dims().iter().product()
    }

    /// Bytes of the data.
    pub(crate) fn bytes(self) -> usize {
        // SAFETY: the context lives (module rule).
        unsafe { sys::ggml_nbytes(self.as_ptr()) }
    }

    /// Whether memory was given to the tensor.
    fn is_allocated(self) -> bool {
        // SAFETY: the context lives (module rule).
        unsafe { !self.0.as_ref().data.is_null() }
    }

    /// Copies `bytes` into the tensor's memory from byte `offset` on.
    pub(crate) fn write_bytes(self, bytes: &[u8], offset: usize) {
        assert!(self.is_allocated() && bytes.len() + offset <= self.bytes(), "write past the end of a tensor");
        // SAFETY: the tensor has memory of at least that many bytes (asserted).
        unsafe { sys::ggml_backend_tensor_set(self.as_ptr(), bytes.as_ptr().cast(), offset, bytes.len()) }
    }

    /// Copies all values to the tensor. The tensor's element must be as wide as `T`.
    pub(crate) fn write<T: Plain>(self, values: &[T]) {
        assert_eq!((self.kind(), self.elements()), (T::KIND, values.len()), "values of another type or number");
        assert!(self.is_allocated(), "write to a tensor without memory");
        // SAFETY: type, length and memory were asserted; T is plain data.
        unsafe { sys::ggml_backend_tensor_set(self.as_ptr(), values.as_ptr().cast(), 0, size_of_val(values)) }
    }

    /// Copies all values out of the tensor into `values`.
    pub(crate) fn read<T: Plain>(self, values: &mut [T]) {
        assert_eq!((self.kind(), self.elements()), (T::KIND, values.len()), "values of another type or number");
        assert!(self.is_allocated(), "read from a tensor without memory");
        // SAFETY: type, length and memory were asserted; T is plain data.
        unsafe { sys::ggml_backend_tensor_get(self.as_ptr(), values.as_mut_ptr().cast(), 0, size_of_val(values)) }
    }

    /// All values as a new vector.
    pub(crate) fn to_vec<T: Plain>(self) -> Vec<T> {
        let mut values = vec![T::default(); self.elements()];
        self.read(&mut values);
        values
    }

    /// All bytes.
    #[cfg(test)]
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes()];
        assert!(self.is_allocated(), "read from a tensor without memory");
        // SAFETY: the tensor has memory of exactly that many bytes.
        unsafe { sys::ggml_backend_tensor_get(self.as_ptr(), bytes.as_mut_ptr().cast(), 0, bytes.len()) }
        bytes
    }

    /// Sets every byte to zero.
    pub(crate) fn clear(self) {
        assert!(self.is_allocated(), "clearing a tensor without memory");
        // SAFETY: the tensor has memory of exactly that many bytes.
        unsafe { sys::ggml_backend_tensor_memset(self.as_ptr(), 0, 0, self.bytes()) }
    }
}

/// Element types that are copied to and from tensors as they are.
pub(crate) trait Plain: Copy + Default {
    /// ggml's type of the same layout.
    const KIND: Type;
}

impl Plain for f32 {
    const KIND: Type = F32;
}
impl Plain for i32 {
    const KIND: Type = I32;
}
impl Plain for i64 {
    const KIND: Type = I64;
}

/// Bytes of `elements` values of one row in storage type `kind`.
pub(crate) fn row_bytes(kind: Type, elements: usize) -> usize {
    // SAFETY: reads a static table; `kind` comes from the constants above or from a checked file.
    unsafe { sys::ggml_row_size(kind, elements as i64) }
}

/// Values per block of storage type `kind`.
pub(crate) fn block_elements(kind: Type) -> usize {
    // SAFETY: reads a static table.
    unsafe { sys::ggml_blck_size(kind) as usize }
}

/// The type's name, for instance `q8_0`.
pub(crate) fn type_name(kind: Type) -> &'static str {
    // SAFETY: ggml returns a static, zero-terminated ASCII string.
    let name = unsafe { CStr::from_ptr(sys::ggml_type_name(kind)) };
    name.to_str().expect("type names are ASCII")
}

/// Whether rows of this type can be turned into F32.
pub(crate) fn can_decode(kind: Type) -> bool {
    // SAFETY: reads a static table.
    kind == F32 || unsafe { (*sys::ggml_get_type_traits(kind)).to_float.is_some() }
}

/// Whether F32 can be turned into this type without knowing which inputs matter.
pub(crate) fn can_encode(kind: Type) -> bool {
    let traits = |kind| {
        // SAFETY: reads static tables.
        unsafe {
            (*sys::ggml_get_type_traits(kind)).from_float_ref.is_some() && !sys::ggml_quantize_requires_imatrix(kind)
        }
    };
    [F32, F16, BF16].contains(&kind) || (block_elements(kind) > 1 && traits(kind))
}

/// Turns stored bytes of whole blocks into F32; `out` must have as many values as the blocks hold.
pub(crate) fn decode(kind: Type, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), row_bytes(kind, out.len()), "stored bytes do not match the number of values");
    if kind == F32 {
        for (value, raw) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        }
        return;
    }
    // SAFETY: the static table's function reads row_bytes(kind, n) bytes and writes n values, both asserted above.
    unsafe {
        let to_float = (*sys::ggml_get_type_traits(kind)).to_float.expect("can_decode was asked first");
        to_float(bytes.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64);
    }
}

/// Turns rows of `row` F32 values into storage type `kind`.
pub(crate) fn encode(kind: Type, values: &[f32], row: usize, out: &mut [u8]) {
    assert!(values.len().is_multiple_of(row) && row.is_multiple_of(block_elements(kind)), "rows are not whole");
    assert_eq!(out.len(), row_bytes(kind, row) * (values.len() / row), "output has another length");
    let count = values.len() as i64;
    // SAFETY: input and output lengths were asserted to be what each function reads and writes.
    unsafe {
        match kind {
            F32 => ptr::copy_nonoverlapping(values.as_ptr().cast(), out.as_mut_ptr(), out.len()),
            BF16 => sys::ggml_fp32_to_bf16_row(values.as_ptr(), out.as_mut_ptr().cast(), count),
            F16 => sys::ggml_fp32_to_fp16_row(values.as_ptr(), out.as_mut_ptr().cast(), count),
            _ => {
                let rows = count / row as i64;
                sys::ggml_quantize_chunk(
                    kind,
                    values.as_ptr(),
                    out.as_mut_ptr().cast(),
                    0,
                    rows,
                    row as i64,
                    ptr::null(),
                );
            }
        }
    }
}

/// Sends what ggml and llama.cpp have to say (warnings and errors) to standard error; standard output stays the
/// program's own. Later calls change nothing.
pub fn log_to_stderr() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback is a static function that needs no user data.
    ONCE.call_once(|| unsafe {
        sys::llama_log_set(Some(log_line), ptr::null_mut());
        sys::ggml_log_set(Some(log_line), ptr::null_mut());
    });
}

/// Who hears every line, below warnings too.
static LISTENER: Mutex<Option<mpsc::Sender<String>>> = Mutex::new(None);
/// One listens at a time; others wait.
static EARS: Mutex<()> = Mutex::new(());

/// Hears what ggml and llama.cpp say while it lives.
pub(crate) struct Listener {
    lines: mpsc::Receiver<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Listener {
    /// The next line, if one comes in time.
    pub(crate) fn recv_within(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Begins to listen.
pub(crate) fn listen() -> Listener {
    log_to_stderr();
    // Whoever routes the log first passes on what it hears.
    crate::serve::llama::start();
    let alone = EARS.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, lines) = mpsc::channel();
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Listener { lines, _alone: alone }
}

/// Passes a line of the log to who listens.
pub(crate) fn hear(text: &str) {
    if let Some(listener) = &*LISTENER.lock().unwrap_or_else(PoisonError::into_inner) {
        // A listener that went away misses nothing.
        let _ = listener.send(text.to_owned());
    }
}

unsafe extern "C" fn log_line(level: sys::ggml_log_level, text: *const c_char, _data: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: ggml passes a zero-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    hear(&text);
    if level == sys::GGML_LOG_LEVEL_WARN || level == sys::GGML_LOG_LEVEL_ERROR {
        eprint!("{text}");
    }
}
