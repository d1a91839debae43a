//! What a mirror needs: one snapshot, then numbered facts. A gap in the numbers is mended by a new snapshot.

use serde::{Deserialize, Serialize};

use crate::application::ApplicationView;
use crate::dataset::DatasetView;
use crate::evaluation::{EvaluationRecord, SuiteRecord};
use crate::hook::{AlertRecord, HookRecord};
use crate::id::{HookId, ServiceId};
use crate::job::JobView;
use crate::labelling::ProjectView;
use crate::model::ModelView;
use crate::pool::PoolView;
use crate::service::ServiceView;

/// Jobs in a snapshot; older ones are asked for.
pub const SNAPSHOT_JOBS_MAX: usize = 500;
/// Alerts in a snapshot; older ones are asked for.
pub const SNAPSHOT_ALERTS_MAX: usize = 20;

/// Everything a mirror needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Differs from start to start of the daemon.
    pub epoch: u64,
    /// Number of the last event that is contained.
    pub seq: u64,
    /// The daemon's clock, Unix milliseconds.
    pub at_ms: i64,
    /// The peer's person, as the daemon understood it.
    pub person: String,
    /// The machine.
    pub machine: Machine,
    /// All models.
    pub models: Vec<ModelView>,
    /// All datasets.
    pub datasets: Vec<DatasetView>,
    /// The newest jobs, newest first.
    pub jobs: Vec<JobView>,
    /// All services.
    pub services: Vec<ServiceView>,
    /// All applications.
    pub applications: Vec<ApplicationView>,
    /// All suites.
    pub suites: Vec<SuiteRecord>,
    /// All evaluations, newest first.
    pub evaluations: Vec<EvaluationRecord>,
    /// Where HTTP listens.
    pub http: Vec<String>,
    /// The store's currency.
    pub currency: String,
    /// All pools with their prices.
    pub pools: Vec<PoolView>,
    /// All hooks.
    pub hooks: Vec<HookRecord>,
    /// The newest alerts, newest first.
    pub alerts: Vec<AlertRecord>,
    /// All projects of labelling.
    pub projects: Vec<ProjectView>,
}

/// A fact that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The daemon's start.
    pub epoch: u64,
    /// One more than the event before.
    pub seq: u64,
    /// What changed.
    pub change: Change,
}

/// What changed: the whole new view of the thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A model or one of its versions or aliases.
    Model(ModelView),
    /// A dataset or one of its versions.
    Dataset(DatasetView),
    /// A job, at most ten times a second each.
    Job(Box<JobView>),
    /// A service.
    Service(Box<ServiceView>),
    /// A service that was removed.
    ServiceGone(ServiceId),
    /// All pools: one was made, changed or removed, or what it is used by changed.
    Pools(Vec<PoolView>),
    /// An application, its keys or usage.
    Application(ApplicationView),
    /// A suite.
    Suite(SuiteRecord),
    /// An evaluation.
    Evaluation(EvaluationRecord),
    /// A hook.
    Hook(HookRecord),
    /// A hook that was removed.
    HookGone(HookId),
    /// An alert.
    Alert(AlertRecord),
    /// A project of labelling, or how far it is.
    Project(Box<ProjectView>),
    /// The machine, at most once a second and only while somebody watches.
    Machine(Machine),
}

/// This machine now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// Processor cores that the pool may use.
    pub cores: u32,
    /// Busy share of all cores, 0 to 1; none before the second look.
    pub cpu_busy: Option<f32>,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory that could be had, in bytes.
    pub memory_available_bytes: u64,
    /// What the pool may use, in bytes.
    pub pool_memory_bytes: u64,
    /// Free disk in the state directory, in bytes.
    pub disk_free_bytes: u64,
    /// GPUs, by name; empty on a CPU-only machine.
    pub gpus: Vec<String>,
}
