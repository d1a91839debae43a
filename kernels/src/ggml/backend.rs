//! The device that computes, the memory it gives, and the allocator of a graph's temporary tensors. The device comes
//! from ggml's registry, never from a function of one backend, so that backends loaded at run time link too.

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};

use llama_cpp_sys_2 as sys;

use super::device::{self, Device, DeviceKind};
use super::{BackendError, Context, Graph, Tensor, log_to_stderr};

/// A computing device.
pub(crate) struct Backend(NonNull<sys::ggml_backend>);

// SAFETY: a backend may move between threads; it is used by one at a time because its methods need its owner.
unsafe impl Send for Backend {}

type SetThreads = unsafe extern "C" fn(sys::ggml_backend_t, c_int);

impl Backend {
    /// The CPU with `threads` threads.
    pub(crate) fn cpu(threads: usize) -> Result<Backend, BackendError> {
        log_to_stderr();
        // SAFETY: the registry is initialised on first use; the parameter string may be null.
        let raw = unsafe { sys::ggml_backend_init_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU, ptr::null()) };
        let backend = Backend(NonNull::new(raw).ok_or(BackendError::NoDevice)?);
        backend.set_threads(threads)?;
        Ok(backend)
    }

    /// A device of the list. `threads` are for the processor; others have their own.
    pub(crate) fn open(device: &Device, threads: usize) -> Result<Backend, BackendError> {
        log_to_stderr();
        let busy = || BackendError::DeviceBusy { name: device.name.clone() };
        let handle = device::handle(&device.name).ok_or(BackendError::NoDevice)?;
        // SAFETY: a device of the registry lives as long as the process; the parameter string may be null.
        let raw = unsafe { sys::ggml_backend_dev_init(handle, ptr::null()) };
        let backend = Backend(NonNull::new(raw).ok_or_else(busy)?);
        if device.kind == DeviceKind::Cpu {
            backend.set_threads(threads)?;
        }
        Ok(backend)
    }

    fn set_threads(&self, threads: usize) -> Result<(), BackendError> {
        let name = "ggml_backend_set_n_threads";
        let address = self.function(name).ok_or(BackendError::NoFunction { name })?;
        // SAFETY: the registry documents this name as a function of exactly this signature.
        unsafe {
            let set_threads: SetThreads = mem::transmute(address);
            set_threads(self.0.as_ptr(), threads as c_int);
        }
        Ok(())
    }

    /// Whether the device can run the node that makes `tensor`.
    pub(crate) fn supports(&self, tensor: Tensor) -> bool {
        // SAFETY: backend and tensor live; the call reads their description.
        unsafe { sys::ggml_backend_supports_op(self.0.as_ptr(), tensor.as_ptr()) }
    }

    fn function(&self, name: &str) -> Option<*mut c_void> {
        let name = CString::new(name).ok()?;
        // SAFETY: backend, device and registry entry live as long as the process or `self`.
        let address = unsafe {
            let device = sys::ggml_backend_get_device(self.0.as_ptr());
            let registry = sys::ggml_backend_dev_backend_reg(device);
            sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
        };
        (!address.is_null()).then_some(address)
    }

    /// Gives memory to every tensor of `context`.
    pub(crate) fn allocate(&self, context: &Context, what: &'static str) -> Result<Buffer, BackendError> {
        // SAFETY: context and backend live; the sizes are read only.
        let (raw, bytes) = unsafe {
            let kind = sys::ggml_backend_get_default_buffer_type(self.0.as_ptr());
            let bytes = sys::ggml_backend_alloc_ctx_tensors_from_buft_size(context.as_ptr(), kind);
            (sys::ggml_backend_alloc_ctx_tensors(context.as_ptr(), self.0.as_ptr()), bytes)
        };
        let raw = NonNull::new(raw).ok_or(BackendError::Memory { what, bytes })?;
        ask_for_large_pages(raw.as_ptr());
        Ok(Buffer(raw))
    }

    /// Runs every node of `graph` in order and waits for the end.
    pub(crate) fn compute(&self, graph: &Graph) -> Result<(), BackendError> {
        // SAFETY: graph and backend live; the graph's tensors have memory, because `GraphMemory::new` took the graph.
        let status = unsafe { sys::ggml_backend_graph_compute(self.0.as_ptr(), graph.raw()) };
        if status == sys::GGML_STATUS_SUCCESS { Ok(()) } else { Err(BackendError::Compute { status }) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: made by one of the constructors above and freed once.
        unsafe { sys::ggml_backend_free(self.0.as_ptr()) }
    }
}

/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;

/// Asks the system to hold a buffer that nobody has touched in large pages, of which the processor remembers more at a time. Where
/// it has none, small ones serve as well.
fn ask_for_large_pages(buffer: sys::ggml_backend_buffer_t) {
    // SAFETY: the buffer lives; the advice covers whole pages inside it and changes no content.
    #[cfg(target_os = "linux")]
    unsafe {
        if sys::ggml_backend_buffer_is_host(buffer) {
            let begin = sys::ggml_backend_buffer_get_base(buffer) as usize;
            let end = begin + sys::ggml_backend_buffer_get_size(buffer);
            let (begin, end) = (begin.next_multiple_of(LARGE_PAGE), end / LARGE_PAGE * LARGE_PAGE);
            if begin < end {
                libc::madvise(begin as *mut c_void, end - begin, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = buffer;
}

/// Memory of the tensors of one context.
pub(crate) struct Buffer(NonNull<sys::ggml_backend_buffer>);

// SAFETY: plain memory, reached only through its owner and the tensors beside it.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: the buffer lives.
        unsafe { sys::ggml_backend_buffer_get_size(self.0.as_ptr()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: freed once; tensors that point into it are not used after their owner is dropped (module rule).
        unsafe { sys::ggml_backend_buffer_free(self.0.as_ptr()) }
    }
}

/// Memory of a graph's temporary tensors, laid out once so that tensors which do not live together share it.
pub(crate) struct GraphMemory(NonNull<sys::ggml_gallocr>);

// SAFETY: plain memory and its plan, reached only through its owner.
unsafe impl Send for GraphMemory {}

impl GraphMemory {
    /// Lays out and takes the memory of `graph`.
    pub(crate) fn new(backend: &Backend, graph: &Graph) -> Result<GraphMemory, BackendError> {
        let memory = GraphMemory::empty(backend)?;
        // SAFETY: allocator and graph live; the graph's inputs already have memory of their own.
        if unsafe { sys::ggml_gallocr_alloc_graph(memory.0.as_ptr(), graph.raw()) } {
            let mut asked = ptr::null_mut();
            for (_, node) in graph.nodes() {
                // SAFETY: the node lives; views have no memory of their own.
                let buffer = unsafe { (*node.as_ptr()).buffer };
                if !buffer.is_null() && buffer != asked {
                    ask_for_large_pages(buffer);
                    asked = buffer;
                }
            }
            Ok(memory)
        } else {
            // A second allocator: one that has only been measured with would not take memory afterwards.
            let bytes = GraphMemory::empty(backend)?.size_of(graph);
            Err(BackendError::Memory { what: "activations", bytes })
        }
    }

    fn empty(backend: &Backend) -> Result<GraphMemory, BackendError> {
        // SAFETY: the buffer type is a static of the live backend.
        let raw = unsafe { sys::ggml_gallocr_new(sys::ggml_backend_get_default_buffer_type(backend.0.as_ptr())) };
        NonNull::new(raw).map(GraphMemory).ok_or(BackendError::Memory { what: "the graph allocator", bytes: 0 })
    }

    fn size_of(&self, graph: &Graph) -> usize {
        let mut bytes = 0;
        // SAFETY: one buffer type means one size is written; null node ids mean buffer 0.
        unsafe { sys::ggml_gallocr_reserve_n_size(self.0.as_ptr(), graph.raw(), ptr::null(), ptr::null(), &mut bytes) };
        bytes
    }

    /// Bytes taken.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: the allocator lives and has one buffer.
        unsafe { sys::ggml_gallocr_get_buffer_size(self.0.as_ptr(), 0) }
    }
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        // SAFETY: made by ggml_gallocr_new and freed once.
        unsafe { sys::ggml_gallocr_free(self.0.as_ptr()) }
    }
}

#[repr(C)]
struct Feature {
    name: *const c_char,
    value: *const c_char,
}

type GetFeatures = unsafe extern "C" fn(sys::ggml_backend_reg_t) -> *const Feature;

/// Whether ggml's CPU backend as loaded was compiled with instruction set `name` (its own spelling, `AVX2`).
pub(crate) fn has_cpu_feature(backend: &Backend, name: &str) -> bool {
    let Some(address) = backend.function("ggml_backend_get_features") else { return false };
    // SAFETY: the registry documents the name as a function that returns a static list ended by a null name.
    unsafe {
        let features: GetFeatures = mem::transmute(address);
        let device = sys::ggml_backend_get_device(backend.0.as_ptr());
        let mut entry = features(sys::ggml_backend_dev_backend_reg(device));
        while !entry.is_null() && !(*entry).name.is_null() {
            if std::ffi::CStr::from_ptr((*entry).name).to_bytes() == name.as_bytes() {
                return true;
            }
            entry = entry.add(1);
        }
    }
    false
}
