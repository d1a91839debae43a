//! How a buffer of the processor is cleared: its pages are given back to the system, which gives zeros when somebody
//! writes or reads. ggml would write zeros over them, and llama.cpp does that with the caches of all slots at once: so a
//! slot costs time and memory when it is used, not when the service starts. Never here: who clears what.
//!
//! The linker puts [`__wrap_ggml_backend_buffer_clear`] in the place of ggml's function of that name (`--wrap`, see
//! `build.rs`); `__real_` is ggml's own. Only Linux says of given-back pages that they are zeros.

use std::ffi::c_void;

use llama_cpp_sys_2 as sys;

/// Bytes that the system gives and takes at once, or a multiple of them.
const PAGE: usize = 4096;
/// Smaller buffers are cleared as ggml does: giving pages back costs a call.
const BYTES_MIN: usize = 1 << 20;

unsafe extern "C" {
    fn __real_ggml_backend_buffer_clear(buffer: sys::ggml_backend_buffer_t, value: u8);
}

/// ggml's `ggml_backend_buffer_clear`: fills a buffer with one byte.
///
/// # Safety
/// As for ggml's: the buffer is alive, and nobody else uses it during the call.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_ggml_backend_buffer_clear(buffer: sys::ggml_backend_buffer_t, value: u8) {
    // SAFETY: the buffer is alive, says the caller.
    let cleared = value == 0 && unsafe { give_back(buffer) };
    if !cleared {
        // SAFETY: as above.
        unsafe { __real_ggml_backend_buffer_clear(buffer, value) }
    }
}

/// Makes a big buffer of the processor read as zeros by giving its pages back. False where it did not.
unsafe fn give_back(buffer: sys::ggml_backend_buffer_t) -> bool {
    if buffer.is_null() {
        return false;
    }
    // SAFETY: the buffer is alive; these read plain values. The processor's own type of buffers comes from malloc: private
    // memory that is no file's and that no device has pinned. Other types may be anything.
    let (begin, size) = unsafe {
        let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
        let size = sys::ggml_backend_buffer_get_size(buffer);
        if size < BYTES_MIN
            || device.is_null()
            || sys::ggml_backend_buffer_get_type(buffer) != sys::ggml_backend_dev_buffer_type(device)
        {
            return false;
        }
        (sys::ggml_backend_buffer_get_base(buffer) as usize, size)
    };
    let (first, last) = (begin.next_multiple_of(PAGE), (begin + size) / PAGE * PAGE);
    // SAFETY: whole pages inside the buffer. Where the system's pages are bigger and these do not begin with one, or where
    // they are locked, it refuses and nothing is done.
    if unsafe { libc::madvise(first as *mut c_void, last - first, libc::MADV_DONTNEED) } != 0 {
        return false;
    }
    // SAFETY: the two ends lie inside the buffer.
    unsafe {
        std::ptr::write_bytes(begin as *mut u8, 0, first - begin);
        std::ptr::write_bytes(last as *mut u8, 0, begin + size - last);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of a range that are in memory.
    fn resident(begin: usize, bytes: usize) -> usize {
        let mut seen = vec![0_u8; bytes / PAGE];
        // SAFETY: the range is mapped, begins with a page, and there is one byte for each of its pages.
        assert_eq!(unsafe { libc::mincore(begin as *mut c_void, bytes, seen.as_mut_ptr()) }, 0);
        seen.iter().filter(|&&page| page & 1 == 1).count()
    }

    #[test]
    fn a_cleared_buffer_is_all_zeros_and_takes_no_memory() {
        let size = 16 * BYTES_MIN + 3 * PAGE + 100;
        // SAFETY: the buffer is alive until it is freed, and used by this thread alone.
        unsafe {
            let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
            let buffer = sys::ggml_backend_buft_alloc_buffer(sys::ggml_backend_dev_buffer_type(device), size);
            let begin = sys::ggml_backend_buffer_get_base(buffer) as usize;
            let size = sys::ggml_backend_buffer_get_size(buffer);
            let bytes = std::slice::from_raw_parts_mut(begin as *mut u8, size);
            sys::ggml_backend_buffer_clear(buffer, 7);
            assert!(bytes.iter().all(|&byte| byte == 7));
            let (first, last) = (begin.next_multiple_of(PAGE), (begin + size) / PAGE * PAGE);
            assert_eq!(resident(first, last - first), (last - first) / PAGE);
            sys::ggml_backend_buffer_clear(buffer, 0);
            assert_eq!(resident(first, last - first), 0);
            assert!(bytes.iter().all(|&byte| byte == 0), "reading makes pages of zeros");
            sys::ggml_backend_buffer_free(buffer);
        }
    }
}
