//! Work on many things by several threads, with the results in the order of the things.
//! Lives here: threads and the bound on what is under way. Never here: what the work is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;

use hone_protocol::failure::{Failure, FailureCode, HintCode};

/// Most threads; more than this wait for the disk.
const THREADS_MAX: usize = 16;
/// Stack of a thread that computes.
const STACK_BYTES: usize = 1 << 20;

/// Threads for work on rows: the cores, up to a bound.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// Calls `work` for each thing on some thread, and `take` with each result on this one, in order. The first failure ends it.
/// At most `3 * threads + 1` things are under way.
pub(super) fn ordered<T: Send, R: Send>(
    things: impl Iterator<Item = T>,
    threads: usize,
    work: impl Fn(T) -> Result<R, Failure> + Sync,
    mut take: impl FnMut(R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let threads = threads.clamp(1, THREADS_MAX);
    let (give, given) = sync_channel::<(usize, T)>(threads);
    let (done, results) = sync_channel(2 * threads + 1);
    let given = Mutex::new(given);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (given, done, work) = (&given, done.clone(), &work);
            let loops = move || {
                loop {
                    let next = match given.lock() {
                        Ok(given) => given.recv(),
                        Err(_) => return,
                    };
                    let Ok((number, thing)) = next else { return };
                    if done.send((number, work(thing))).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, loops)
                .map_err(|error| no_thread(&error))?;
        }
        drop(done);
        // Both ends go before the scope waits for its threads, on every way out.
        let (give, results) = (give, results);
        let (mut early, mut under_way, mut taken) = (BTreeMap::new(), 0, 0);
        let mut arrived = |number: usize, result: Result<R, Failure>| -> Result<(), Failure> {
            early.insert(number, result?);
            while let Some(result) = early.remove(&taken) {
                taken += 1;
                take(result)?;
            }
            Ok(())
        };
        for thing in things.enumerate() {
            // A result is waited for before more is given than the channels hold, so that nobody waits for nobody.
            while under_way > 2 * threads {
                let Ok((number, result)) = results.recv() else { return Err(lost()) };
                under_way -= 1;
                arrived(number, result)?;
            }
            give.send(thing).map_err(|_| lost())?;
            under_way += 1;
        }
        drop(give);
        while under_way > 0 {
            let Ok((number, result)) = results.recv() else { return Err(lost()) };
            under_way -= 1;
            arrived(number, result)?;
        }
        Ok(())
    })
}

fn no_thread(error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::LimitReached, format!("a thread could not be started: {error}")).hint(HintCode::TryAgain)
}

fn lost() -> Failure {
    Failure::new(FailureCode::Internal, "a thread that works on rows ended").hint(HintCode::ReportBug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_failure_ends_it() {
        for threads in [1, 2, 7] {
            let mut taken = Vec::new();
            let twice = |n: u64| Ok(n * 2);
            ordered(0..1000u64, threads, twice, |n| {
                taken.push(n);
                Ok(())
            })
            .unwrap();
            assert!(taken.iter().zip(0..).all(|(n, expected)| *n == expected * 2) && taken.len() == 1000);

            let fails = |n: u64| if n == 300 { Err(lost()) } else { Ok(n) };
            let mut last = 0;
            let ended = ordered(0..u64::MAX, threads, fails, |n| {
                last = n;
                Ok(())
            });
            assert!(ended.is_err() && last <= 300);
            assert!(ordered(0..u64::MAX, threads, twice, |n| if n > 50 { Err(lost()) } else { Ok(()) }).is_err());
        }
    }
}
