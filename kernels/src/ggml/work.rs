//! How the threads of a custom operation share its units: each takes the next one, so that a thread that the system
//! holds up delays the others by one unit and not by its half. Which thread computes a unit changes no bit, because
//! units write values of their own. Nothing here knows what a unit is.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a custom operation is given beside its tensors.
pub(crate) struct Work {
    /// The operation's own numbers.
    pub(crate) flags: usize,
    /// The next unit that nobody has taken.
    next: AtomicUsize,
    /// Threads that found none left.
    done: AtomicUsize,
}

impl Work {
    pub(super) fn new(flags: usize) -> Work {
        Work { flags, next: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    /// The work behind what ggml passes to the function of a custom operation.
    ///
    /// # Safety
    /// `data` is what ggml passes to a function that [`super::Graph`] was given.
    pub(crate) unsafe fn of<'a>(data: *mut c_void) -> &'a Work {
        // SAFETY: the graph that is running owns it.
        unsafe { &*data.cast() }
    }

    /// Units below `total`, each handed to one of `workers` threads. Every thread of the operation iterates once, to the
    /// end, with the same total.
    pub(crate) fn units(&self, total: usize, workers: c_int) -> impl Iterator<Item = usize> {
        let workers = workers as usize;
        std::iter::from_fn(move || {
            let unit = self.next.fetch_add(1, Ordering::Relaxed);
            if unit < total {
                return Some(unit);
            }
            // The last to come away empty leaves everything as it was found. Threads meet before the next operation.
            if self.done.fetch_add(1, Ordering::AcqRel) + 1 == workers {
                self.next.store(0, Ordering::Relaxed);
                self.done.store(0, Ordering::Release);
            }
            None
        })
    }
}
