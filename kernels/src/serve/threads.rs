//! How many threads compute. ggml's threads wait for each other by spinning, a few hundred times per
//! token: as soon as another program wants one of the cores, the others burn their time waiting for
//! the thread that was put aside, and speed falls ten times and more. One thread fewer than that is
//! far faster. So the count follows what the kernel's scheduler says about waiting.
//!
//! What never lives here: the threads themselves (ggml owns them).

use std::time::{Duration, Instant};

/// Time over which waiting is measured before the count may change.
const WINDOW: Duration = Duration::from_millis(250);
/// Waiting threads, as a mean over a window, from which on the machine counts as shared.
const SHARED_FROM: f64 = 0.15;
/// First pause before more threads are tried again; doubled after every try that failed.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest pause before more threads are tried again.
const RETRY_MAX: Duration = Duration::from_secs(32);

/// Physical cores that this process may use: two hardware threads of one core share its arithmetic
/// units, and spinning between them only costs.
pub fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cores = std::collections::HashSet::new();
    for cpu in 0..512 {
        let read = |name: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}"));
        let (Ok(package), Ok(core)) = (read("physical_package_id"), read("core_id")) else {
            break;
        };
        cores.insert((package, core));
    }
    match cores.len() {
        0 => allowed,
        n => n.min(allowed),
    }
}

/// Nanoseconds that all threads of this process have waited for a core while they could have run.
/// `None` where the system does not count them (not Linux, or a kernel without schedstat).
pub fn waited_ns() -> Option<u64> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end between listing and reading.
        let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else {
            continue;
        };
        total += text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some(total)
}

/// Chooses the number of threads from step to step.
#[derive(Debug)]
pub struct Governor {
    most: usize,
    now: usize,
    window: Option<(Instant, u64)>,
    /// When more threads may be tried.
    retry_at: Option<Instant>,
    retry_pause: Duration,
    /// Whether the present window is such a try.
    trying: bool,
}

impl Governor {
    /// Starts with `most` threads and never uses more.
    pub fn new(most: usize) -> Self {
        Self { most, now: most, window: None, retry_at: None, retry_pause: RETRY_FIRST, trying: false }
    }

    /// Threads to use now.
    pub fn threads(&self) -> usize {
        self.now
    }

    /// To be called after every step. True when `threads` changed.
    pub fn after_step(&mut self) -> bool {
        if self.most == 1 {
            return false;
        }
        let now = Instant::now();
        if self.window.is_some_and(|(from, _)| now - from < WINDOW) {
            return false;
        }
        let Some(waited) = waited_ns() else {
            return false;
        };
        let measured = self.window.replace((now, waited)).map(|(from, before)| {
            let waited_s = waited.saturating_sub(before) as f64 * 1e-9;
            waited_s / (now - from).as_secs_f64()
        });
        measured.is_some_and(|waiting| self.decide(waiting, now))
    }

    /// To be called when there is nothing to do: what happens meanwhile says nothing about computing.
    pub fn pause(&mut self) {
        self.window = None;
    }

    /// Takes the mean number of waiting threads over a window. True when `threads` changed.
    fn decide(&mut self, waiting: f64, now: Instant) -> bool {
        let before = self.now;
        let shared = waiting > SHARED_FROM;
        if shared && self.now > 1 {
            self.retry_pause = match self.trying {
                true => (self.retry_pause * 2).min(RETRY_MAX),
                false => RETRY_FIRST,
            };
            self.now = self.now.saturating_sub(waiting.ceil() as usize).max(1);
            self.retry_at = Some(now + self.retry_pause);
            self.trying = false;
        } else if !shared {
            if self.trying {
                self.retry_pause = RETRY_FIRST;
            }
            self.trying = false;
            if self.now < self.most && self.retry_at.is_none_or(|at| now >= at) {
                self.now = (self.now * 2).min(self.most);
                self.trying = true;
            }
        }
        self.now != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_counted() {
        let cores = physical_cores();
        assert!(cores >= 1 && cores <= std::thread::available_parallelism().unwrap().get());
        assert!(!cfg!(target_os = "linux") || waited_ns().is_some());
    }

    #[test]
    fn threads_step_back_for_others_and_return_when_they_are_gone() {
        let mut governor = Governor::new(4);
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(!governor.decide(0.0, at(0)));
        assert!(governor.decide(1.2, at(1)));
        assert_eq!(governor.threads(), 2);
        // Not before the pause is over.
        assert!(!governor.decide(0.0, at(2)));
        assert!(governor.decide(0.0, at(3)));
        assert_eq!(governor.threads(), 4);
        // The try failed: the next pause is longer.
        assert!(governor.decide(0.5, at(4)));
        assert_eq!(governor.threads(), 3);
        assert!(!governor.decide(0.0, at(7)));
        assert!(governor.decide(0.0, at(8)));
        assert_eq!(governor.threads(), 4);
        // The try went well: the pause is short again.
        assert!(!governor.decide(0.0, at(9)));
        assert!(governor.decide(9.0, at(10)));
        assert_eq!(governor.threads(), 1);
        assert!(!governor.decide(9.0, at(11)));
        assert!(governor.decide(0.1, at(12)));
        assert_eq!(governor.threads(), 2);
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut governor = Governor::new(2);
        let mut now = Instant::now();
        governor.decide(1.0, now);
        for _ in 0..10 {
            now += RETRY_MAX;
            assert!(governor.decide(0.0, now) && governor.trying);
            assert!(governor.decide(1.0, now));
        }
        assert_eq!(governor.retry_pause, RETRY_MAX);
        assert!(!Governor::new(1).after_step());
    }
}
