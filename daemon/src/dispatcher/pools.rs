//! Pools: making, changing and removing them, and the order in which jobs get them. Never here: what a pool has (`crate::pools`
//! reckons it), what computing in it costs (`compute`).

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::JobId;
use hone_protocol::job::{JobRecord, JobSpec};
use hone_protocol::pool::{LOCAL_POOL, POOLS_MAX, PoolPlace, PoolRecord, Priority, Share, WORD_BYTES_MAX};
use hone_protocol::request::Answer;
use hone_protocol::usage::ComputePrice;

use super::commands::check_name;
use super::{Decider, Subject};
use crate::pools::{LOCAL_BYTES_MIN, called};
use crate::state::State;
use crate::store::{Table, codec};

/// Highest price of an hour in micro-units: a million units.
pub(super) const HOUR_MICROS_MAX: u64 = 1_000_000_000_000;
/// Least memory of a share.
const SHARE_BYTES_MIN: u64 = 64 << 20;
/// GPUs of a share at most.
const CARDS_MAX: usize = 64;
/// A job of one priority goes before one of the next lower priority that came up to so much earlier, and behind those that came
/// before that: so nobody waits for ever.
const HEAD_START_MS: i64 = 6 * 3600 * 1000;

/// When a job counts as come: the smaller goes first.
pub(super) fn place_in_line(job: &JobRecord, priority: Priority) -> (i64, JobId) {
    let behind = match priority {
        Priority::High => 0,
        Priority::Normal => HEAD_START_MS,
        Priority::Low => 2 * HEAD_START_MS,
    };
    (job.created_at_ms.saturating_add(behind), job.id)
}

impl Decider {
    /// Jobs that wait, in the order in which they may begin.
    pub(super) fn line(&self) -> Vec<JobId> {
        let waiting = self.queued.iter().filter(|id| !self.state.attempts.contains_key(id));
        let mut line: Vec<(i64, JobId)> = waiting
            .filter_map(|id| self.state.jobs.get(id))
            .map(|job| place_in_line(job, self.state.priority_of(job)))
            .collect();
        line.sort_unstable();
        line.into_iter().map(|(_, id)| id).collect()
    }

    /// Makes a pool, or says what it is and costs from now on. What ends from now on pays the price.
    pub(super) fn set_pool(
        &mut self,
        person: &str,
        name: &str,
        price: ComputePrice,
        place: Option<PoolPlace>,
    ) -> Result<Answer, Failure> {
        check_name("pool", name)?;
        for (field, micros) in [("core_hour", price.core_hour_micros), ("gpu_hour", price.gpu_hour_micros)] {
            if micros.is_some_and(|micros| micros > HOUR_MICROS_MAX) {
                return Err(Failure::field(field, format!("{field} is more than a million units for an hour")));
            }
        }
        let before = self.state.pools.get(name).cloned();
        let place = match (name, place, &before) {
            (LOCAL_POOL, Some(_), _) => {
                let message = format!("{LOCAL_POOL} is what the other pools leave of this machine; change those");
                return Err(Failure::field("pool", message));
            }
            (_, None, Some(before)) => before.place.clone(),
            (_, Some(place), _) => Some(place),
            (_, None, None) => {
                let message = format!(
                    "there is no pool {name:?}; to make it, say which cores and memory it has, or its Slurm folder"
                );
                return Err(Failure::new(FailureCode::NotFound, message).at("pool").arg("name", name));
            }
        };
        if before.is_none() && self.state.pools.len() >= POOLS_MAX {
            return Err(Failure::field("pool", format!("there are {POOLS_MAX} pools, which is the most")));
        }
        self.check_place(name, before.as_deref(), place.as_ref())?;
        let pool = PoolRecord {
            name: name.to_owned(),
            price,
            changed_at_ms: self.now_ms,
            changed_by: person.to_owned(),
            place,
        };
        self.writes.put(Table::Pools, name.as_bytes(), codec::record(&pool));
        Arc::make_mut(&mut self.state.pools).insert(name.to_owned(), Arc::new(pool));
        self.dirty.insert(Subject::Pools);
        Ok(Answer::Done)
    }

    /// What is in pools changed. A machine with only `local` has nobody to tell.
    pub(super) fn touch_pools(&mut self) {
        if self.state.pools.len() > 1 {
            self.dirty.insert(Subject::Pools);
        }
    }

    /// Refuses what a pool cannot be beside the others.
    fn check_place(&self, name: &str, before: Option<&PoolRecord>, place: Option<&PoolPlace>) -> Result<(), Failure> {
        let is_slurm = |place: &PoolPlace| matches!(place, PoolPlace::Slurm(_));
        let was = before.and_then(|before| before.place.as_ref());
        if let (Some(was), Some(place)) = (was, place)
            && is_slurm(was) != is_slurm(place)
            && !self.state.users_of_pool(name).is_empty()
        {
            return Err(self.pool_in_use(name));
        }
        match place {
            None => return Ok(()),
            Some(PoolPlace::Slurm(slurm)) => {
                slurm.check().map_err(|(field, message)| Failure::field(field, message))?;
            }
            Some(PoolPlace::Share(share)) => self.check_share(name, share)?,
        }
        // What works now must still have what it was promised.
        let mut after: State = self.state.clone();
        let record = PoolRecord {
            name: name.to_owned(),
            price: ComputePrice::default(),
            changed_at_ms: 0,
            changed_by: String::new(),
            place: place.cloned(),
        };
        Arc::make_mut(&mut after.pools).insert(name.to_owned(), Arc::new(record));
        for pool in [name, LOCAL_POOL] {
            let (held, left) = (after.committed_bytes(pool), after.capacity(pool).memory_bytes);
            if held > left && after.slurm_place(pool).is_none() {
                let message = format!(
                    "jobs and services hold {} MiB of {}, which would have {} MiB; stop some of them first, or give it more",
                    held >> 20,
                    called(pool),
                    left >> 20
                );
                return Err(Failure::new(FailureCode::InUse, message).at("memory").hint(HintCode::StopUsers));
            }
        }
        Ok(())
    }

    /// Refuses a share that the machine does not have beside the other shares.
    fn check_share(&self, name: &str, share: &Share) -> Result<(), Failure> {
        let others = || self.state.shares().filter(|(other, _)| *other != name).map(|(_, share)| share);
        let (cores, bytes) = (self.state.fixed.cores, self.state.fixed.pool_memory_bytes);
        let taken: u32 = others().map(|other| other.cores).sum();
        let free = cores.saturating_sub(taken).saturating_sub(1);
        if share.cores == 0 || share.cores > free {
            let message = format!(
                "cores is {}; of the {cores} of this machine other pools have {taken} and {LOCAL_POOL} keeps one, so 1 to {free} are possible",
                share.cores
            );
            return Err(Failure::field("cores", message));
        }
        let taken: u64 = others().map(|other| other.memory_bytes).sum();
        let free = bytes.saturating_sub(taken).saturating_sub(LOCAL_BYTES_MIN);
        if share.memory_bytes < SHARE_BYTES_MIN || share.memory_bytes > free {
            let message = format!(
                "memory is {} MiB; of {} MiB other pools have {} MiB and {LOCAL_POOL} keeps {} MiB, so {} to {} MiB are possible",
                share.memory_bytes >> 20,
                bytes >> 20,
                taken >> 20,
                LOCAL_BYTES_MIN >> 20,
                SHARE_BYTES_MIN >> 20,
                free >> 20
            );
            return Err(Failure::field("memory", message));
        }
        let plain = |card: &String| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"-:./".contains(&b);
            !card.is_empty() && card.len() <= WORD_BYTES_MAX && card.bytes().all(known)
        };
        if share.gpus.len() > CARDS_MAX || !share.gpus.iter().all(plain) {
            return Err(Failure::field("gpus", "name GPUs by their index or UUID"));
        }
        let twice = |card: &&String| {
            others().any(|other| other.gpus.contains(card))
                || share.gpus.iter().filter(|other| other == card).count() > 1
        };
        match share.gpus.iter().find(twice) {
            Some(card) => Err(Failure::field("gpus", format!("GPU {card} is in another pool, or stands twice"))),
            None => Ok(()),
        }
    }

    fn pool_in_use(&self, name: &str) -> Failure {
        let users = self.state.users_of_pool(name).join(", ");
        let message = format!("pool {name} is in use: {users}");
        Failure::new(FailureCode::InUse, message).at("pool").arg("users", users).hint(HintCode::StopUsers)
    }

    /// Removes a pool that nothing is in. What it cost stays in the ledger under its name.
    pub(super) fn remove_pool(&mut self, name: &str) -> Result<Answer, Failure> {
        self.state.pool(name)?;
        if name == LOCAL_POOL {
            return Err(Failure::field("pool", format!("{LOCAL_POOL} is always there")));
        }
        if !self.state.users_of_pool(name).is_empty() {
            return Err(self.pool_in_use(name));
        }
        self.writes.delete(Table::Pools, name.as_bytes());
        Arc::make_mut(&mut self.state.pools).remove(name);
        self.dirty.insert(Subject::Pools);
        Ok(Answer::Done)
    }

    /// Refuses a pool that a job cannot compute in; none is `local`.
    pub(super) fn check_job_pool(&self, spec: &JobSpec, pool: Option<&str>) -> Result<(), Failure> {
        let Some(name) = pool else { return Ok(()) };
        self.state.pool(name)?;
        if matches!(spec, JobSpec::Batch(_) | JobSpec::Generate(_)) && name != LOCAL_POOL {
            let message = "a batch asks a service, which computes in the service's own pool; leave pool out";
            return Err(Failure::field("pool", message));
        }
        if self.state.slurm_place(name).is_some() && !matches!(spec, JobSpec::Train(_)) {
            let message =
                format!("{name} is a Slurm pool, which runs training; {} runs in a pool of this machine", spec.kind());
            return Err(Failure::field("pool", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Of two priorities the higher goes first unless the other came long before; nobody who came later than both head starts
        /// ever goes first, so the wait behind others is bounded.
        #[test]
        fn a_head_start_is_bounded(early_ms in 0i64..i64::MAX / 2, gap_ms in 0i64..4 * HEAD_START_MS, a in 0usize..3, b in 0usize..3) {
            let place = |at_ms: i64, number: u8, priority: usize| {
                let behind = (2 - priority as i64) * HEAD_START_MS;
                (at_ms + behind, JobId::from_bytes([number; 16]))
            };
            let (first, second) = (place(early_ms, 1, a), place(early_ms + gap_ms, 2, b));
            if second < first {
                prop_assert!(b > a, "only a higher priority overtakes");
                prop_assert!(gap_ms < 2 * HEAD_START_MS);
            }
            if b > a && gap_ms < HEAD_START_MS {
                prop_assert!(second < first, "within the head start it does");
            }
        }
    }
}
