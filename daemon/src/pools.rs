//! Pools as readers see them: what each has, what is in it, what is free. Lives here: that arithmetic over the published facts.
//! Never here: making or changing one (the dispatcher does), or starting anything in one.

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{JobId, ServiceId, VersionId};
use hone_protocol::job::{JobRecord, JobState};
use hone_protocol::pool::{LOCAL_POOL, PoolPlace, PoolRecord, PoolView, Priority, Share, SlurmPlace, SlurmView};
use hone_protocol::service::ServiceState;
use hone_protocol::train::TrainPlan;
use serde::{Deserialize, Serialize};

use crate::state::State;

/// Memory that shares leave to `local` at least.
pub const LOCAL_BYTES_MIN: u64 = 256 << 20;
/// Users of a pool that are named; of more the number is said.
const USERS_NAMED_MAX: usize = 20;

/// What work in a pool may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Cores; of one job in a Slurm pool.
    pub cores: u32,
    /// Bytes; of one job in a Slurm pool, 0 for the cluster's default.
    pub memory_bytes: u64,
}

/// Which GPUs a child may see; none for those that the daemon's environment names.
pub type Cards = Option<Vec<String>>;

/// An attempt whose work is a job of Slurm: what finds it again after a restart. It is there from before the submission to the
/// end of the attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlurmRun {
    /// The job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: u32,
    /// The pool as it was when the attempt began.
    pub place: SlurmPlace,
    /// Absolute path of the attempt's folder on the shared disk.
    pub folder: String,
    /// Bytes of the child's frames whose facts are stored.
    pub position: u64,
    /// When the attempt began, Unix milliseconds.
    pub began_at_ms: i64,
    /// The plan of the run, once known.
    pub plan: Option<TrainPlan>,
    /// What Slurm said last.
    pub view: SlurmView,
}

impl SlurmRun {
    /// The name of the Slurm job: by it a submission is found whose number was not stored.
    pub fn name(&self) -> String {
        format!("hone-{}-{}", self.job, self.attempt)
    }
}

impl State {
    /// A pool by name.
    pub fn pool(&self, name: &str) -> Result<&Arc<PoolRecord>, Failure> {
        self.pools.get(name).ok_or_else(|| Failure::not_found("pool", name))
    }

    /// The pool of a job.
    pub fn pool_of<'j>(&self, job: &'j JobRecord) -> &'j str {
        job.pool.as_deref().unwrap_or(LOCAL_POOL)
    }

    /// Where jobs of a pool are submitted; none for pools of this machine.
    pub fn slurm_place(&self, pool: &str) -> Option<&SlurmPlace> {
        match &self.pools.get(pool)?.place {
            Some(PoolPlace::Slurm(place)) => Some(place),
            _ => None,
        }
    }

    /// The shares of this machine that pools have.
    pub fn shares(&self) -> impl Iterator<Item = (&str, &Share)> {
        self.pools.values().filter_map(|pool| match &pool.place {
            Some(PoolPlace::Share(share)) => Some((pool.name.as_str(), share)),
            _ => None,
        })
    }

    /// What a pool has. `local` has what the shares leave, and never less than a core: a daemon may be started again with less.
    pub fn capacity(&self, pool: &str) -> Capacity {
        match self.pools.get(pool).and_then(|pool| pool.place.as_ref()) {
            Some(PoolPlace::Share(share)) => Capacity { cores: share.cores, memory_bytes: share.memory_bytes },
            Some(PoolPlace::Slurm(place)) => {
                Capacity { cores: place.cores, memory_bytes: place.memory_mib.unwrap_or(0) << 20 }
            }
            None => {
                let cores: u32 = self.shares().map(|(_, share)| share.cores).sum();
                let bytes: u64 = self.shares().map(|(_, share)| share.memory_bytes).sum();
                Capacity {
                    cores: self.fixed.cores.saturating_sub(cores).max(1),
                    memory_bytes: self.fixed.pool_memory_bytes.saturating_sub(bytes),
                }
            }
        }
    }

    /// Threads that a child of a pool may compute with; 0 where the pool is the whole machine and the child may choose.
    pub fn threads(&self, pool: &str) -> u32 {
        let cores = self.capacity(pool).cores;
        if pool == LOCAL_POOL && cores >= self.fixed.cores { 0 } else { cores }
    }

    /// GPUs that a child of a pool may see.
    pub fn cards(&self, pool: &str) -> Cards {
        match self.pools.get(pool).and_then(|pool| pool.place.as_ref()) {
            Some(PoolPlace::Share(share)) => Some(share.gpus.clone()),
            _ => None,
        }
    }

    /// The pool that the serving process of a base is in: that of its services.
    pub fn pool_of_base(&self, base: VersionId) -> &str {
        let on = |id: &VersionId| self.versions.get(id).is_some_and(|version| self.base_of(version) == base);
        let mut services = self.services.values().filter(|service| service.wanted && on(&service.version));
        services.next().map_or(LOCAL_POOL, |service| service.pool.as_str())
    }

    /// Bytes that attempts and serving processes of a pool hold or were admitted with.
    pub fn committed_bytes(&self, pool: &str) -> u64 {
        let attempts = self.attempts.values().filter(|attempt| attempt.pool == pool && !attempt.is_remote);
        let serving = self.serving.iter().filter(|(_, serving)| {
            serving.pool == pool && matches!(serving.state, ServiceState::On | ServiceState::Starting)
        });
        attempts.map(|attempt| attempt.memory_bytes).sum::<u64>()
            + serving.map(|(base, _)| self.held_bytes(*base)).sum::<u64>()
    }

    /// Bytes of a pool that nothing holds.
    pub fn free_bytes(&self, pool: &str) -> u64 {
        self.capacity(pool).memory_bytes.saturating_sub(self.committed_bytes(pool))
    }

    /// What is in a pool: jobs that have not ended, and services.
    pub fn users_of_pool(&self, pool: &str) -> Vec<String> {
        let waits = |job: &&Arc<JobRecord>| job.state == JobState::Queued && self.pool_of(job) == pool;
        let jobs = self.jobs.values().filter(waits).map(|job| format!("{} ({})", job.id, job.spec.kind()));
        let services = self.services.values().filter(|service| service.pool == pool);
        let mut users: Vec<String> = services.map(|service| format!("service {}", service.name)).chain(jobs).collect();
        if users.len() > USERS_NAMED_MAX {
            let more = users.len() - USERS_NAMED_MAX;
            users.truncate(USERS_NAMED_MAX);
            users.push(format!("{more} more"));
        }
        users
    }

    /// Refuses work in a pool of another kind, or in none.
    pub fn check_service_pool(&self, pool: &str, service: ServiceId, base: VersionId) -> Result<(), Failure> {
        self.pool(pool)?;
        if self.slurm_place(pool).is_some() {
            let message = format!("{pool} is a Slurm pool, which runs jobs; a service runs in a pool of this machine");
            return Err(Failure::field("pool", message));
        }
        let others = self.services.values().filter(|other| other.id != service && other.wanted && other.pool != pool);
        let shares = |version: &VersionId| self.versions.get(version).is_some_and(|v| self.base_of(v) == base);
        match others.into_iter().find(|other| shares(&other.version)) {
            None => Ok(()),
            Some(other) => {
                let message = format!(
                    "service {} runs on the same base in pool {}, and services of one base share a process; name that pool, \
                     or stop {} first",
                    other.name, other.pool, other.name
                );
                Err(Failure::new(FailureCode::InUse, message).at("pool").hint(HintCode::StopUsers))
            }
        }
    }

    /// A pool as lists show it.
    pub fn pool_view(&self, record: &PoolRecord) -> PoolView {
        let Capacity { cores, memory_bytes } = self.capacity(&record.name);
        PoolView {
            record: record.clone(),
            cores,
            memory_bytes,
            used_bytes: self.committed_bytes(&record.name),
            users: self.users_of_pool(&record.name),
        }
    }

    /// All pools, `local` first.
    pub fn pool_views(&self) -> Vec<PoolView> {
        let mut pools: Vec<&Arc<PoolRecord>> = self.pools.values().collect();
        pools.sort_by_key(|pool| (pool.name != LOCAL_POOL, pool.name.clone()));
        pools.into_iter().map(|pool| self.pool_view(pool)).collect()
    }

    /// The priority of who pays for a job.
    pub fn priority_of(&self, job: &JobRecord) -> Priority {
        self.applications.get(&job.payer).and_then(|payer| payer.priority).unwrap_or_default()
    }
}

/// How a pool is called in a sentence about it: nobody who has only one needs to know its name.
pub fn called(pool: &str) -> String {
    if pool == LOCAL_POOL { "the pool".to_owned() } else { format!("the pool {pool}") }
}
