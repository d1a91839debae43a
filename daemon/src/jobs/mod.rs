//! The table of job kinds. Adding one is a variant in `protocol::job::JobSpec`, a file here, and a line in
//! [`KINDS`]. Never here: changing a job's state (the dispatcher does) or starting a process (workers do).

pub mod attempt;
mod batch;
mod batch_ask;
mod batch_file;
mod convert;
mod convert_bench;
mod convert_export;
mod convert_init;
mod convert_receipt;
mod evaluate;
mod facts;
pub(crate) mod generate;
mod import_dataset;
mod import_model;
pub(crate) mod kept;
mod labelled;
mod pick;
mod process;
mod register;
pub mod store_file;
mod suggest;
mod suggest_ask;
mod train;
mod train_far;

use std::future::Future;
use std::pin::Pin;

use hone_protocol::convert::Conversion;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{EvaluationId, JobId};
use hone_protocol::job::{JobRecord, JobSpec};

use crate::pools::called;
use crate::state::{Attempt, Need, State};
use attempt::{Context, Stop};

pub use process::{ledgers_folder, others_of};
pub use train::plan_without_starting;

/// The work of one attempt.
pub type Work = Pin<Box<dyn Future<Output = Result<crate::dispatcher::event::Produced, Stop>> + Send>>;

/// One kind of job.
pub struct Kind {
    /// The word on the wire.
    pub word: &'static str,
    /// Refuses what cannot work, naming the field, before the job is accepted.
    pub check: fn(&State, &JobSpec) -> Result<(), Failure>,
    /// Replaces movable names by exact ones, so that the job means the same tomorrow.
    pub pin: fn(&State, JobSpec) -> Result<JobSpec, Failure>,
    /// Memory that an attempt needs and could use.
    pub memory: fn(&State, &JobSpec) -> Need,
    /// Whether it keeps all cores busy: one such job at a time.
    pub heavy: bool,
    /// Does the work.
    pub run: fn(Context) -> Work,
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    import_model::KIND,
    import_dataset::KIND,
    train::KIND,
    evaluate::KIND,
    convert::INIT,
    convert::BENCH,
    convert::MERGE,
    convert::QUANTIZE,
    convert::IMPORT_ADAPTER,
    convert::EXPORT,
    register::KIND,
    batch::KIND,
    process::KIND,
    facts::KIND,
    generate::KIND,
    pick::MIX,
    pick::SPLIT,
    suggest::KIND,
];

/// Light attempts at once.
const LIGHT_MAX: usize = 2;
/// Attempts in a Slurm pool at once, waiting ones included: each is a task that looks at a file.
const FAR_MAX: usize = 32;

/// The kind of a job.
pub fn kind(spec: &JobSpec) -> &'static Kind {
    let word = spec.kind();
    KINDS.iter().find(|k| k.word == word).expect("a test walks every kind of spec through the table")
}

/// Replaces movable names in a specification by exact ones.
pub fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    (kind(&spec).pin)(state, spec)
}

/// Refuses what a pool could never hold.
pub fn fits(state: &State, spec: &JobSpec, pool: &str) -> Result<(), Failure> {
    let needed = (kind(spec).memory)(state, spec).least;
    let there = state.capacity(pool).memory_bytes;
    // A cluster's own default is known when the job is there.
    if needed <= there || (there == 0 && state.slurm_place(pool).is_some()) {
        return Ok(());
    }
    let message = format!("it needs about {} MiB, {} has {} MiB", needed >> 20, called(pool), there >> 20);
    let place = if matches!(spec, JobSpec::Train(_)) { "sequence_tokens" } else { "pool" };
    Err(Failure::new(FailureCode::DoesNotFit, message).at(place).hint(HintCode::ReduceMemory))
}

/// Whether an attempt may begin now: the bytes it is admitted with, or why it waits.
pub fn admit(state: &State, job: &JobRecord) -> Result<u64, String> {
    cores_free(state, job)?;
    let pool = state.pool_of(job);
    let needed = (kind(&job.spec).memory)(state, &job.spec);
    if state.slurm_place(pool).is_some() {
        // What a job is given there is the cluster's to plan; 0 is its default.
        return Ok(state.capacity(pool).memory_bytes);
    }
    let free = state.free_bytes(pool);
    if needed.least > free {
        let pool = called(pool);
        return Err(format!("it needs {} MiB of memory, {pool} has {} MiB free", needed.least >> 20, free >> 20));
    }
    Ok(needed.wish.min(free))
}

/// The bytes that an attempt needs, when nothing but memory keeps it from beginning.
pub fn lacks_memory(state: &State, job: &JobRecord) -> Option<u64> {
    cores_free(state, job).ok()?;
    let pool = state.pool_of(job);
    let needed = (kind(&job.spec).memory)(state, &job.spec).least;
    (state.slurm_place(pool).is_none() && needed > state.free_bytes(pool)).then_some(needed)
}

fn cores_free(state: &State, job: &JobRecord) -> Result<(), String> {
    let kind = kind(&job.spec);
    let pool = state.pool_of(job);
    if state.slurm_place(pool).is_some() {
        let there = state.attempts.values().filter(|attempt| attempt.pool == pool).count();
        let full = || format!("{FAR_MAX} jobs are in the pool {pool} already");
        return if there < FAR_MAX { Ok(()) } else { Err(full()) };
    }
    let running = |heavy: bool| {
        let here = state.attempts.iter().filter(|(_, attempt)| !attempt.is_remote && (!heavy || attempt.pool == pool));
        let attempts = here.filter_map(|(id, _)| state.jobs.get(id));
        attempts.filter(|j| self::kind(&j.spec).heavy == heavy && !batch::asks_services(&j.spec)).count()
    };
    if kind.heavy && running(true) > 0 {
        return Err(
            "another job uses the cores: a training, an evaluation, a new model, a bench, a merge or a quantisation"
                .into(),
        );
    }
    if batch::asks_services(&job.spec) {
        batch::waits_for(state, &job.spec)?;
    } else if !kind.heavy && running(false) >= LIGHT_MAX {
        return Err(format!("{LIGHT_MAX} imports and recipes run already"));
    }
    Ok(())
}

/// Cores that an attempt holds: those that its form names, all of the pool for work that keeps them busy, else one.
fn cores(state: &State, job: &JobRecord) -> u32 {
    let named = match &job.spec {
        JobSpec::Train(spec) => spec.params.threads,
        JobSpec::Convert(Conversion::Bench { threads, .. }) => *threads,
        _ => 0,
    };
    let all = state.capacity(state.pool_of(job)).cores;
    match kind(&job.spec).heavy {
        true if named > 0 => named.min(all),
        true => all,
        false => 1,
    }
}

/// The attempt of a job that begins now, on the wall's clock and on the one that is never set.
pub fn attempt_of(state: &State, job: &JobRecord, memory_bytes: u64, (wall_ms, steady_ms): (i64, i64)) -> Attempt {
    let pool = state.pool_of(job);
    Attempt {
        number: job.attempt,
        pid: None,
        progress: None,
        plan: None,
        last_loss: None,
        tokens_per_s: None,
        memory_bytes,
        cores: cores(state, job),
        pool: pool.to_owned(),
        is_remote: state.slurm_place(pool).is_some(),
        began_at_ms: wall_ms,
        began_steady_ms: steady_ms,
    }
}

/// The evaluation that a job makes: the same bytes, so that its rows can be stored before it ends.
pub fn evaluation_id(job: JobId) -> EvaluationId {
    EvaluationId::from_bytes(*job.bytes())
}

/// For kinds whose names are exact already.
fn keep(_: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    Ok(spec)
}
