//! What computing costs: attempts of jobs and serving processes become rows of the ledger when they end. Lengths are of the clock
//! that is never set; days are of the wall's. Never here: requests (`ledger`), whether something may begin (`limits`).

use std::sync::Arc;

use hone_protocol::id::{ApplicationId, JobId, VersionId};
use hone_protocol::pool::SlurmView;
use hone_protocol::usage::{ComputePrice, ComputeRow, ComputeUsage, ComputeWhat};

use super::{Decider, Subject};
use crate::clock;
use crate::state::{Attempt, OWNER};
use crate::store::{Table, codec, key};

/// A serving process that is busy gets a row about so often, so that a crash loses little of its time.
const METERED_MS: u64 = 15 * 60_000;

impl Decider {
    /// Charges an attempt that ended, however it did, to the payer of its job. What ran in Slurm is charged as Slurm counts.
    pub(super) fn charge_attempt(&mut self, id: JobId, attempt: &Attempt, slurm: Option<&SlurmView>) {
        let Some(job) = self.state.jobs.get(&id).cloned() else { return };
        let length_ms = (self.steady_ms - attempt.began_steady_ms).max(0) as u64;
        let what = ComputeWhat::Attempt { job: id, kind: job.spec.kind().to_owned(), attempt: attempt.number };
        let here = (length_ms * u64::from(attempt.cores), 0);
        let there = |view: &SlurmView| {
            let elapsed_ms = view.elapsed_s.saturating_mul(1000);
            (elapsed_ms.saturating_mul(view.cpus.into()), elapsed_ms.saturating_mul(view.gpus.into()))
        };
        let held = slurm.map_or(here, there);
        let row = self.compute_row(job.payer, what, &attempt.pool, attempt.began_at_ms, held);
        self.with_job(id, |job| job.compute.get_or_insert_default().add(&row));
        self.put_compute(&row);
    }

    /// No child of this machine tells yet which device it took, and training takes none: its time of GPUs is 0.
    fn compute_row(
        &self,
        application: ApplicationId,
        what: ComputeWhat,
        pool: &str,
        began_at_ms: i64,
        (core_ms, gpu_ms): (u64, u64),
    ) -> ComputeRow {
        let price = self.state.pools.get(pool).map_or(ComputePrice::default(), |pool| pool.price);
        ComputeRow {
            id: clock::new_id(),
            application,
            what,
            pool: pool.to_owned(),
            began_at_ms,
            ended_at_ms: self.now_ms,
            day: clock::day(self.now_ms, &self.state.fixed.zone),
            core_ms,
            gpu_ms,
            price,
            amount: price.amount(core_ms, gpu_ms),
        }
    }

    fn put_compute(&mut self, row: &ComputeRow) {
        self.writes.put(Table::Compute, key(&[row.application.bytes(), row.id.bytes()]), codec::row(row));
        self.sums.add_compute(row, &mut self.writes);
        let all: &mut ComputeUsage = Arc::make_mut(&mut self.state.compute).entry(row.application).or_default();
        all.add(row);
        self.publish_left(row.application);
        self.dirty.insert(Subject::Application(row.application));
    }

    /// Charges a serving process for its time since it was charged last, to the owner.
    pub(super) fn meter_serving(&mut self, base: VersionId) {
        let (steady_ms, now_ms) = (self.steady_ms, self.now_ms);
        let Some(serving) = Arc::make_mut(&mut self.state.serving).get_mut(&base) else { return };
        let Some(meter) = serving.meter.as_mut() else { return };
        meter.tick(serving.active > 0, steady_ms);
        let (began_at_ms, loaded_ms, busy_ms) = (meter.began_at_ms, meter.loaded_ms, meter.busy_ms);
        (meter.began_at_ms, meter.loaded_ms, meter.busy_ms) = (now_ms, 0, 0);
        let Ok(owner) = self.state.application(OWNER).map(|owner| owner.id) else { return };
        let what = ComputeWhat::Serving { version: self.state.version_reference(base), loaded_ms };
        let pool = self.state.serving.get(&base).map(|serving| serving.pool.clone()).unwrap_or_default();
        let held = (busy_ms * u64::from(self.state.capacity(&pool).cores), 0);
        let row = self.compute_row(owner, what, &pool, began_at_ms, held);
        self.put_compute(&row);
    }

    /// Charges all of them, once a day.
    pub(super) fn meter_serving_of_all(&mut self) {
        for base in self.state.serving.keys().copied().collect::<Vec<_>>() {
            self.meter_serving(base);
        }
    }

    /// Charges one whose last row is old.
    pub(super) fn meter_long_serving(&mut self, base: VersionId) {
        let meter = self.state.serving.get(&base).and_then(|serving| serving.meter);
        if meter.is_some_and(|meter| meter.loaded_ms >= METERED_MS) {
            self.meter_serving(base);
        }
    }
}
