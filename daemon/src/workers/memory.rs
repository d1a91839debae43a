//! The watch over the memory of compute workers, whose address space cannot be limited because they map weights.
//! Lives here: how much one may hold, and the look at a sign of life. Never here: planning what fits (the pool does
//! that before the start; this catches a worker that takes more than the machine has).
//!
//! Nothing wakes up for it: a worker that holds more is one that works, and one that works sends heartbeats.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};

/// Memory that is left to the system and to other people when nobody said how much hone may use.
pub const MEMORY_RESERVE_BYTES: u64 = 1 << 30;
/// Signs of life that come closer together than this share one look.
const LOOK_MS: u64 = 250;

/// How much one worker may hold: what `--memory-mib` gives, else the machine's memory less the reserve, but at least
/// half of it. `None` when the system does not say how much it has.
pub fn bytes_max(given: u64, machine: u64) -> Option<u64> {
    match (given, machine) {
        (0, 0) => None,
        (0, machine) => Some(machine.saturating_sub(MEMORY_RESERVE_BYTES).max(machine / 2)),
        (given, _) => Some(given),
    }
}

/// Looks at one process.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    bytes_max: Option<u64>,
    looked: Mutex<Option<Instant>>,
}

impl Watch {
    /// A watch over a process that may hold so much; `None` never finds anything.
    pub fn new(pid: u32, bytes_max: Option<u64>) -> Watch {
        Watch { pid, bytes_max, looked: Mutex::new(None) }
    }

    /// To be called at a sign of life. The failure of a process that holds too much: the caller ends it.
    pub fn look(&self) -> Option<Failure> {
        let bytes_max = self.bytes_max?;
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|at| at.elapsed() < Duration::from_millis(LOOK_MS)) {
            return None;
        }
        *looked = Some(Instant::now());
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        judge(own_bytes(&statm, rustix::param::page_size() as u64)?, bytes_max)
    }
}

/// Resident memory less the pages of mapped files: those the system takes back when it needs them, so weights that
/// are mapped do not count.
fn own_bytes(statm: &str, page_bytes: u64) -> Option<u64> {
    let mut pages = statm.split_whitespace().skip(1).map(|word| word.parse::<u64>().ok());
    let (resident, of_files) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(of_files) * page_bytes)
}

fn judge(bytes: u64, bytes_max: u64) -> Option<Failure> {
    if bytes <= bytes_max {
        return None;
    }
    let (mib, mib_max) = (bytes >> 20, bytes_max >> 20);
    let message = format!(
        "the worker held {mib} MiB of memory and was ended; the limit is {mib_max} MiB: choose a shorter sequence, a \
         smaller batch or fewer slots, or start honed with a larger --memory-mib"
    );
    let failure = Failure::new(FailureCode::DoesNotFit, message).hint(HintCode::ReduceMemory);
    Some(failure.arg("held_mib", mib).arg("limit_mib", mib_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_was_given_or_what_the_machine_has_less_the_reserve() {
        assert_eq!(bytes_max(5, 100), Some(5));
        assert_eq!(bytes_max(0, 16 << 30), Some(15 << 30));
        assert_eq!(bytes_max(0, 1 << 30), Some(1 << 29));
        assert_eq!(bytes_max(0, 0), None);
    }

    #[test]
    fn mapped_files_do_not_count_and_the_failure_says_what_to_change() {
        assert_eq!(own_bytes("900 300 100 1 0 200 0\n", 4096), Some(200 * 4096));
        assert_eq!(own_bytes("", 4096), None);
        assert_eq!(judge(7 << 20, 7 << 20), None);
        let failure = judge(9 << 20, 7 << 20).unwrap();
        assert_eq!(failure.code, FailureCode::DoesNotFit);
        for words in ["9 MiB", "limit is 7 MiB", "--memory-mib"] {
            assert!(failure.message_en.contains(words), "{failure}");
        }
    }

    #[test]
    fn a_process_over_its_limit_is_found_at_the_first_look_and_not_looked_at_twice_at_once() {
        let own = std::process::id();
        let small = Watch::new(own, Some(1));
        assert!(small.look().is_some());
        assert!(small.look().is_none(), "signs of life that come together share a look");
        assert!(Watch::new(own, Some(u64::MAX)).look().is_none());
        assert!(Watch::new(own, None).look().is_none());
    }
}
