//! Every fact that the daemon knows, in memory: the stored records, and the facts of memory beside them
//! (attempts, serving processes). Lives here: lookups and the views that clients see. Never here: changing
//! anything (only the dispatcher does) or I/O, but for loading at start.
//!
//! A `State` is cheap to clone: each map is shared until the dispatcher changes it, so a published snapshot is
//! immutable for its readers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hone_protocol::application::{ApplicationRecord, ApplicationView, KeyRecord, LedgerRow, Services, Usage};
use hone_protocol::batch::FileRecord;
use hone_protocol::dataset::{DatasetRecord, DatasetVersionRecord, DatasetView};
use hone_protocol::evaluation::{EvaluationRecord, SuiteRecord};
use hone_protocol::event::{Machine, SNAPSHOT_ALERTS_MAX, SNAPSHOT_JOBS_MAX, Snapshot};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::guard::{GuardCounts, GuardRecord};
use hone_protocol::hook::{AlertRecord, HookRecord};
use hone_protocol::id::*;
use hone_protocol::job::{JobRecord, JobState, JobView, Progress, ShownState, Wish};
use hone_protocol::judgement::JudgedSet;
use hone_protocol::labelling::{ProjectCounts, ProjectRecord};
use hone_protocol::log::FeedbackCounts;
use hone_protocol::model::{Fit, ModelFacts, ModelRecord, ModelView, VersionRecord, VersionView, Weights};
use hone_protocol::person::PersonRecord;
use hone_protocol::pool::{LOCAL_POOL, PoolRecord, SlurmView};
use hone_protocol::service::{Moving, ServiceRecord, ServiceState, ServiceView, ServingMemory};
use hone_protocol::standard::StandardRecord;
use hone_protocol::train::TrainPlan;
use hone_protocol::usage::{ComputePrice, ComputeUsage, ReservedUsage};
use hone_protocol::value::Pico;

use crate::counts::Counts;
use crate::judged;
use crate::pools::SlurmRun;
use crate::secret;
use crate::store::{Store, StoreError, Table, codec};
use crate::sums::application_of;

/// A map that is shared with published snapshots until it is changed.
pub type Map<K, V> = Arc<BTreeMap<K, V>>;

/// The name of the application that pays for jobs and socket chats.
pub const OWNER: &str = "owner";

/// Facts that never change while the daemon runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    /// Differs from start to start.
    pub epoch: u64,
    /// Differs from boot to boot of the machine; 0 when the system does not tell.
    pub boot: u64,
    /// The store's currency.
    pub currency: String,
    /// The store's billing zone.
    pub zone: String,
    /// Cores of this machine that pools may use.
    pub cores: u32,
    /// Memory of this machine that pools may use, in bytes.
    pub pool_memory_bytes: u64,
    /// What secrets of hooks are made of.
    pub hook_key: HookKey,
}

/// The bytes that secrets of hooks are made of. They lie in a file of their own beside the store, and in no copy of it.
#[derive(Clone, PartialEq, Eq)]
pub struct HookKey(pub [u8; 32]);

impl std::fmt::Debug for HookKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookKey")
    }
}

impl HookKey {
    /// What bodies of a hook are signed with.
    pub fn secret_of(&self, hook: HookId) -> String {
        format!("hone_hook_{}", secret::hmac_hex(&self.0, hook.bytes()))
    }
}

/// A running attempt: a fact of memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Which one, from 1.
    pub number: u32,
    /// The process that does the work now.
    pub pid: Option<u32>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// The plan of a training run.
    pub plan: Option<TrainPlan>,
    /// The last loss.
    pub last_loss: Option<f64>,
    /// Tokens per second of a batch.
    pub tokens_per_s: Option<f64>,
    /// What it was admitted with, in bytes.
    pub memory_bytes: u64,
    /// Cores that it holds.
    pub cores: u32,
    /// The pool that it computes in.
    pub pool: String,
    /// Whether it computes on another machine, so that nothing of this one is taken.
    pub is_remote: bool,
    /// When it began, Unix milliseconds.
    pub began_at_ms: i64,
    /// The same on the clock that is never set.
    pub began_steady_ms: i64,
}

/// The time of a serving process that no row of the ledger has yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Since when, Unix milliseconds.
    pub began_at_ms: i64,
    /// For how long it was loaded.
    pub loaded_ms: u64,
    /// For how long of that it was answering.
    pub busy_ms: u64,
    ticked_ms: i64,
}

impl Meter {
    /// Begins now.
    pub fn new(now_ms: i64, steady_ms: i64) -> Meter {
        Meter { began_at_ms: now_ms, loaded_ms: 0, busy_ms: 0, ticked_ms: steady_ms }
    }

    /// Counts the time since the last tick, in which it was busy or not.
    pub fn tick(&mut self, was_busy: bool, steady_ms: i64) {
        let passed = (steady_ms - self.ticked_ms).max(0) as u64;
        self.ticked_ms = steady_ms;
        self.loaded_ms += passed;
        if was_busy {
            self.busy_ms += passed;
        }
    }
}

/// The serving process of a base version: a fact of memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// Raised with each process.
    pub generation: u64,
    /// Whether it answers.
    pub state: ServiceState,
    /// Processes started again since the daemon started.
    pub restarts: u32,
    /// Tries in a row that ended before or soon after answering.
    pub failures: u32,
    /// Adapters that it has loaded.
    pub adapters: BTreeSet<VersionId>,
    /// Slots it was started with, for each adapter.
    pub slots: u32,
    /// Context it was started with.
    pub context_tokens: u32,
    /// Requests in slots.
    pub active: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Resident bytes.
    pub memory_bytes: u64,
    /// What they are for, once it said so.
    pub memory: Option<ServingMemory>,
    /// Its time, once it answers; none of a server elsewhere.
    pub meter: Option<Meter>,
    /// The pool that it is in.
    pub pool: String,
    /// What is wrong with the server elsewhere that it speaks to.
    pub trouble: Option<Failure>,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct State {
    /// Facts that never change.
    pub fixed: Arc<Fixed>,
    /// Jobs.
    pub jobs: Map<JobId, Arc<JobRecord>>,
    /// Running attempts.
    pub attempts: Map<JobId, Attempt>,
    /// Models.
    pub models: Map<ModelId, Arc<ModelRecord>>,
    /// Versions.
    pub versions: Map<VersionId, Arc<VersionRecord>>,
    /// Datasets.
    pub datasets: Map<DatasetId, Arc<DatasetRecord>>,
    /// Dataset versions.
    pub dataset_versions: Map<DatasetVersionId, Arc<DatasetVersionRecord>>,
    /// Judgements in numbers, by the name of the dataset that they are for.
    pub judged_sets: Map<String, Arc<JudgedSet>>,
    /// Judgements that no version has yet, by dataset name and number: the rows that each will make.
    pub unmade: Map<(String, u64), u64>,
    /// Projects of labelling by name.
    pub projects: Map<String, Arc<ProjectRecord>>,
    /// Ids of their rows, ascending, where they do not have all of their version.
    pub project_rows: Map<String, Arc<Vec<u64>>>,
    /// How far they are.
    pub project_counts: Map<String, Arc<ProjectCounts>>,
    /// Persons that are let in, by name.
    pub people: Map<String, Arc<PersonRecord>>,
    /// Suites.
    pub suites: Map<SuiteId, Arc<SuiteRecord>>,
    /// Evaluations.
    pub evaluations: Map<EvaluationId, Arc<EvaluationRecord>>,
    /// Services.
    pub services: Map<ServiceId, Arc<ServiceRecord>>,
    /// Serving processes by base version.
    pub serving: Map<VersionId, Serving>,
    /// Services that follow an alias and do not serve its version yet.
    pub moving: Map<ServiceId, Moving>,
    /// Wanted services that are not loaded until they are asked.
    pub asleep: Arc<BTreeSet<ServiceId>>,
    /// Requests closed since the daemon started.
    pub service_requests: Map<ServiceId, u64>,
    /// Applications.
    pub applications: Map<ApplicationId, Arc<ApplicationRecord>>,
    /// Keys.
    pub keys: Map<KeyId, Arc<KeyRecord>>,
    /// Usage of all time, open rows included.
    pub usage: Map<ApplicationId, Usage>,
    /// Computing of all time.
    pub compute: Map<ApplicationId, ComputeUsage>,
    /// Reserved time of all time.
    pub reserved: Map<ApplicationId, ReservedUsage>,
    /// Attempts that are jobs of Slurm.
    pub slurm: Map<JobId, Arc<SlurmRun>>,
    /// Pools by name.
    pub pools: Map<String, Arc<PoolRecord>>,
    /// Services that were removed.
    pub former_services: Map<ServiceId, Arc<ServiceRecord>>,
    /// What was counted since the daemon started.
    pub counts: Map<(ServiceId, ApplicationId), Counts>,
    /// Guards by name.
    pub guards: Map<String, Arc<GuardRecord>>,
    /// What guards found of all time, by their names.
    pub guard_counts: Map<String, GuardCounts>,
    /// What people said of answers since the daemon started.
    pub feedback_counts: Map<(ServiceId, ApplicationId), FeedbackCounts>,
    /// What is left of budgets, what open requests may come to set aside.
    pub budgets_left: Map<ApplicationId, Pico>,
    /// Open ledger rows as last committed.
    pub open_rows: Map<LedgerId, LedgerRow>,
    /// Hooks.
    pub hooks: Map<HookId, Arc<HookRecord>>,
    /// The newest alerts.
    pub alerts: Map<AlertId, Arc<AlertRecord>>,
    /// Files that applications uploaded.
    pub files: Map<FileId, Arc<FileRecord>>,
    /// Versions of standards by name and number, removed ones included.
    pub standards: Map<(String, u32), Arc<StandardRecord>>,
    /// The machine.
    pub machine: Arc<Machine>,
    /// Where HTTP listens.
    pub http: Arc<Vec<String>>,
    /// Whether the daemon is stopping.
    pub stopping: bool,
}

fn load<T: serde::de::DeserializeOwned, K: Ord>(
    store: &Store,
    table: Table,
    id: impl Fn(&T) -> K,
) -> Result<Map<K, Arc<T>>, StoreError> {
    let records: Vec<T> = codec::read_all(table, &store.prefix(table, b"")?)?;
    Ok(Arc::new(records.into_iter().map(|r| (id(&r), Arc::new(r))).collect()))
}

/// All pools; the one that is always there has no price before somebody says one.
fn pools(store: &Store) -> Result<Map<String, Arc<PoolRecord>>, StoreError> {
    let mut pools = load(store, Table::Pools, |r: &PoolRecord| r.name.clone())?;
    let local = || {
        let (name, price) = (LOCAL_POOL.to_owned(), ComputePrice::default());
        Arc::new(PoolRecord { name, price, changed_at_ms: 0, changed_by: String::new(), place: None })
    };
    Arc::make_mut(&mut pools).entry(LOCAL_POOL.to_owned()).or_insert_with(local);
    Ok(pools)
}

impl State {
    /// Reads all records. Facts of memory start empty: nothing runs yet.
    pub fn load(store: &Store, fixed: Fixed) -> Result<State, StoreError> {
        let mut usage: BTreeMap<ApplicationId, Usage> = BTreeMap::new();
        for (key, value) in store.prefix(Table::Sums, b"")? {
            let day: Usage = codec::read(Table::Sums, &key, &value)?;
            if let Some(id) = application_of(&key) {
                usage.entry(id).or_default().merge(&day);
            }
        }
        let mut compute: BTreeMap<ApplicationId, ComputeUsage> = BTreeMap::new();
        for (key, value) in store.prefix(Table::ComputeSums, b"")? {
            let day: ComputeUsage = codec::read(Table::ComputeSums, &key, &value)?;
            if let Some(id) = application_of(&key) {
                compute.entry(id).or_default().merge(&day);
            }
        }
        let mut reserved: BTreeMap<ApplicationId, ReservedUsage> = BTreeMap::new();
        for (key, value) in store.prefix(Table::ReservedSums, b"")? {
            let day: ReservedUsage = codec::read(Table::ReservedSums, &key, &value)?;
            if let Some(id) = application_of(&key) {
                reserved.entry(id).or_default().merge(&day);
            }
        }
        let judged_sets: Map<String, Arc<JudgedSet>> =
            load(store, Table::JudgedSets, |r: &JudgedSet| r.dataset.clone())?;
        let unmade = Arc::new(judged::unmade(store, judged_sets.values())?);
        Ok(State {
            fixed: Arc::new(fixed),
            jobs: load(store, Table::Jobs, |r: &JobRecord| r.id)?,
            attempts: Map::default(),
            models: load(store, Table::Models, |r: &ModelRecord| r.id)?,
            versions: load(store, Table::Versions, |r: &VersionRecord| r.id)?,
            datasets: load(store, Table::Datasets, |r: &DatasetRecord| r.id)?,
            dataset_versions: load(store, Table::DatasetVersions, |r: &DatasetVersionRecord| r.id)?,
            judged_sets,
            unmade,
            projects: load(store, Table::Projects, |r: &ProjectRecord| r.name.clone())?,
            project_rows: Map::default(),
            project_counts: Map::default(),
            people: load(store, Table::People, |r: &PersonRecord| r.name.clone())?,
            suites: load(store, Table::Suites, |r: &SuiteRecord| r.id)?,
            evaluations: load(store, Table::Evaluations, |r: &EvaluationRecord| r.id)?,
            services: load(store, Table::Services, |r: &ServiceRecord| r.id)?,
            serving: Map::default(),
            moving: Map::default(),
            asleep: Arc::default(),
            service_requests: Map::default(),
            applications: load(store, Table::Applications, |r: &ApplicationRecord| r.id)?,
            keys: load(store, Table::Keys, |r: &KeyRecord| r.id)?,
            usage: Arc::new(usage),
            compute: Arc::new(compute),
            reserved: Arc::new(reserved),
            slurm: load(store, Table::SlurmRuns, |r: &SlurmRun| r.job)?,
            pools: pools(store)?,
            former_services: load(store, Table::FormerServices, |r: &ServiceRecord| r.id)?,
            counts: Map::default(),
            guards: load(store, Table::Guards, |r: &GuardRecord| r.name.clone())?,
            guard_counts: Arc::new(crate::dispatcher::guard_totals(store)?),
            feedback_counts: Map::default(),
            budgets_left: Arc::default(),
            open_rows: Map::default(),
            hooks: load(store, Table::Hooks, |r: &HookRecord| r.id)?,
            alerts: load(store, Table::Alerts, |r: &AlertRecord| r.id)?,
            files: load(store, Table::Files, |r: &FileRecord| r.id)?,
            standards: load(store, Table::Standards, |r: &StandardRecord| (r.name.clone(), r.number))?,
            machine: Arc::default(),
            http: Arc::default(),
            stopping: false,
        })
    }

    /// A model by name.
    pub fn model(&self, name: &str) -> Option<&Arc<ModelRecord>> {
        self.models.values().find(|m| m.name == name)
    }

    /// Versions of a model, oldest first.
    pub fn versions_of(&self, model: ModelId) -> Vec<&Arc<VersionRecord>> {
        let mut versions: Vec<_> = self.versions.values().filter(|v| v.model == model).collect();
        versions.sort_by_key(|v| v.number);
        versions
    }

    /// A version that can be used, by `name`, `name@number` or `name:alias`; the newest such one where only the name is
    /// said.
    pub fn version(&self, reference: &str) -> Result<&Arc<VersionRecord>, Failure> {
        let version = self.any_version(reference)?;
        if version.is_live() {
            return Ok(version);
        }
        let reference = self.version_reference(version.id);
        let message = match version.is_removed() {
            true => format!("{reference} was in the trash, and its file is removed; it cannot come back"),
            false => format!("{reference} is in the trash; hone model restore {reference} takes it out"),
        };
        Err(Failure::new(FailureCode::NotFound, message).at("version").arg("name", reference))
    }

    /// The same for versions in the trash too, where a number is said.
    pub fn any_version(&self, reference: &str) -> Result<&Arc<VersionRecord>, Failure> {
        let missing = || Failure::not_found("version", reference);
        let (name, number, alias) = match (reference.split_once('@'), reference.split_once(':')) {
            (Some((name, number)), _) => (name, Some(number), None),
            (None, Some((name, alias))) => (name, None, Some(alias)),
            (None, None) => (reference, None, None),
        };
        let model = self.model(name).ok_or_else(|| Failure::not_found("model", name))?;
        let versions = self.versions_of(model.id);
        match (number, alias) {
            (Some(number), _) => {
                let number: u32 = number.parse().map_err(|_| missing())?;
                versions.into_iter().find(|v| v.number == number).ok_or_else(missing)
            }
            (None, Some(alias)) => {
                let alias = model.aliases.iter().find(|a| a.name == alias).ok_or_else(missing)?;
                self.versions.get(&alias.version).ok_or_else(missing)
            }
            (None, None) => {
                let message = format!("every version of {name} is in the trash; hone model list --trash shows them");
                let all_trashed = Failure::new(FailureCode::NotFound, message).at("version").arg("name", name);
                let none = if versions.is_empty() { missing() } else { all_trashed };
                versions.into_iter().rfind(|v| v.is_live()).ok_or(none)
            }
        }
    }

    /// `name@number` of a version.
    pub fn version_reference(&self, id: VersionId) -> String {
        let Some(version) = self.versions.get(&id) else {
            let upstream = self.upstream_service(id).and_then(|service| service.upstream.as_ref());
            return upstream.map_or_else(|| id.to_string(), |upstream| format!("upstream:{}", upstream.model));
        };
        let name = self.models.get(&version.model).map_or("?", |m| m.name.as_str());
        format!("{name}@{}", version.number)
    }

    /// Whether a version's model makes embeddings and nothing else.
    pub fn is_encoder(&self, id: VersionId) -> bool {
        let base = self.versions.get(&id).and_then(|version| self.versions.get(&self.base_of(version)));
        base.is_some_and(|base| base.facts.pooling.is_some())
    }

    /// The service that a server elsewhere answers, by what stands in the place of its version.
    pub fn upstream_service(&self, id: VersionId) -> Option<&Arc<ServiceRecord>> {
        self.services.values().find(|service| service.version == id && service.upstream.is_some())
    }

    /// What names the process that answers for a service: the complete model, or what stands in the place of a version.
    pub fn engine_of(&self, service: &ServiceRecord) -> Option<VersionId> {
        match service.upstream {
            Some(_) => Some(service.version),
            None => self.versions.get(&service.version).map(|version| self.base_of(version)),
        }
    }

    /// The complete model that a version runs on: itself, or an adapter's base.
    pub fn base_of(&self, version: &VersionRecord) -> VersionId {
        match version.weights {
            Weights::Base => version.id,
            Weights::Adapter { base, .. } => base,
        }
    }

    /// A dataset by name.
    pub fn dataset(&self, name: &str) -> Option<&Arc<DatasetRecord>> {
        self.datasets.values().find(|d| d.name == name)
    }

    /// Versions of a dataset, oldest first.
    pub fn dataset_versions_of(&self, dataset: DatasetId) -> Vec<&Arc<DatasetVersionRecord>> {
        let mut versions: Vec<_> = self.dataset_versions.values().filter(|v| v.dataset == dataset).collect();
        versions.sort_by_key(|v| v.number);
        versions
    }

    /// A dataset version that can be used, by `name` or `name@number`; the newest such one where only the name is said.
    pub fn dataset_version(&self, reference: &str) -> Result<&Arc<DatasetVersionRecord>, Failure> {
        let version = self.any_dataset_version(reference)?;
        if version.is_live() {
            return Ok(version);
        }
        let reference = self.dataset_reference(version);
        let message = match version.is_removed() {
            true => format!("{reference} was in the trash, and its rows are removed; they cannot come back"),
            false => format!("{reference} is in the trash; hone dataset restore {reference} takes it out"),
        };
        Err(Failure::new(FailureCode::NotFound, message).at("dataset").arg("name", reference))
    }

    /// The same for versions in the trash too: where a number is said, and where no other is left.
    pub fn any_dataset_version(&self, reference: &str) -> Result<&Arc<DatasetVersionRecord>, Failure> {
        let (name, number) = match reference.split_once('@') {
            Some((name, number)) => (name, Some(number)),
            None => (reference, None),
        };
        let missing = || Failure::not_found("dataset version", reference);
        let dataset = self.dataset(name).ok_or_else(|| Failure::not_found("dataset", name))?;
        let versions = self.dataset_versions_of(dataset.id);
        match number {
            Some(number) => {
                let number: u32 = number.parse().map_err(|_| missing())?;
                versions.into_iter().find(|v| v.number == number).ok_or_else(missing)
            }
            None => {
                let newest = versions.iter().rfind(|version| version.is_live()).or(versions.last());
                newest.copied().ok_or_else(missing)
            }
        }
    }

    /// A service by name.
    pub fn service(&self, name: &str) -> Result<&Arc<ServiceRecord>, Failure> {
        self.services.values().find(|s| s.name == name).ok_or_else(|| Failure::not_found("service", name))
    }

    /// The name of a service, also of one that was removed.
    pub fn service_name(&self, id: ServiceId) -> String {
        let found = self.services.get(&id).or_else(|| self.former_services.get(&id));
        found.map_or_else(|| id.to_string(), |service| service.name.clone())
    }

    /// An application by name.
    pub fn application(&self, name: &str) -> Result<&Arc<ApplicationRecord>, Failure> {
        self.applications.values().find(|a| a.name == name).ok_or_else(|| Failure::not_found("application", name))
    }

    /// A suite by name.
    pub fn suite(&self, name: &str) -> Result<&Arc<SuiteRecord>, Failure> {
        self.suites.values().find(|s| s.name == name).ok_or_else(|| Failure::not_found("suite", name))
    }

    /// A job by id.
    pub fn job(&self, id: JobId) -> Result<&Arc<JobRecord>, Failure> {
        self.jobs.get(&id).ok_or_else(|| Failure::not_found("job", &id.to_string()))
    }

    /// Bytes that the serving process of a base holds or was admitted with.
    pub fn held_bytes(&self, base: VersionId) -> u64 {
        let held = |s: &Serving| s.memory_bytes.max(self.serve_bytes(base, s.slots, s.context_tokens));
        self.serving.get(&base).map_or(0, held)
    }

    /// An estimate of what serving a base takes: file, keys and values, and working memory.
    pub fn serve_bytes(&self, base: VersionId, slots: u32, context_tokens: u32) -> u64 {
        let Some(version) = self.versions.get(&base) else { return 0 };
        let kv = version.facts.kv_bytes_per_token * u64::from(slots) * u64::from(context_tokens);
        version.facts.size_bytes + kv + (64 << 20)
    }

    fn fit(&self, version: &VersionRecord) -> Fit {
        let base = self.versions.get(&self.base_of(version));
        let facts = base.map_or(&version.facts, |b| &b.facts);
        Fit {
            serve_bytes: facts.size_bytes + facts.kv_bytes_per_token * 2048 + (64 << 20),
            train_bytes: train_bytes_estimate(facts, 512).least,
            pool_bytes: self.fixed.pool_memory_bytes,
        }
    }
}

/// A rough size of LoRA training before the file was opened; the trainer's own plan is within a tenth. At its fastest
/// it holds forms of about three bytes a weight and the activations of all layers; at its smallest the file itself and
/// the activations of as many layers as there are runs of them.
pub fn train_bytes_estimate(facts: &ModelFacts, window_tokens: u64) -> Need {
    let layer = 4 * window_tokens * u64::from(facts.embedding) * 16;
    let layers = u64::from(facts.layers);
    let rest = 128 << 20;
    Need {
        least: facts.size_bytes + layer * layers.isqrt() + rest,
        wish: 3 * facts.parameters + layer * layers + 4 * rest,
    }
}

/// The same where the whole model is trained: values, gradient, two moments, the host's copy and the update's, in F32.
pub fn full_train_bytes_estimate(facts: &ModelFacts, window_tokens: u64) -> Need {
    let lora = train_bytes_estimate(facts, window_tokens);
    let values = 6 * 4 * facts.parameters;
    Need { least: lora.least + values - facts.size_bytes.min(lora.least), wish: lora.wish + values }
}

/// Memory of an attempt in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// With less it cannot begin.
    pub least: u64,
    /// More would not make it faster.
    pub wish: u64,
}

impl Need {
    /// Always the same.
    pub fn exactly(bytes: u64) -> Need {
        Need { least: bytes, wish: bytes }
    }
}

// What clients see.
impl State {
    /// A model with its versions.
    pub fn model_view(&self, id: ModelId) -> Option<ModelView> {
        let record = self.models.get(&id)?;
        let versions = self.versions_of(id).into_iter().map(|v| self.version_view(v)).collect();
        Some(ModelView { record: (**record).clone(), versions })
    }

    fn version_view(&self, version: &Arc<VersionRecord>) -> VersionView {
        let newest = self.evaluations.values().rev().find(|e| e.version == version.id && e.score.is_some());
        VersionView {
            record: (**version).clone(),
            reference: self.version_reference(version.id),
            base_reference: match version.weights {
                Weights::Base => None,
                Weights::Adapter { base, .. } => Some(self.version_reference(base)),
            },
            services: self.services.values().filter(|s| s.version == version.id).map(|s| s.name.clone()).collect(),
            score: newest.and_then(|e| Some((self.suites.get(&e.suite)?.name.clone(), e.score?))),
            fit: self.fit(version),
        }
    }

    /// A dataset with its versions.
    pub fn dataset_view(&self, id: DatasetId) -> Option<DatasetView> {
        let record = self.datasets.get(&id)?;
        let versions = self.dataset_versions_of(id).into_iter().map(|v| (**v).clone()).collect();
        Some(DatasetView { record: (**record).clone(), versions })
    }

    /// A job with its facts of memory.
    pub fn job_view(&self, id: JobId) -> Option<JobView> {
        let record = self.jobs.get(&id)?;
        let attempt = self.attempts.get(&id);
        let shown = self.shown(record);
        let waits_for = if shown == ShownState::Queued { self.waits_for(record) } else { String::new() };
        Some(JobView {
            record: (**record).clone(),
            shown,
            waits_for,
            progress: attempt.and_then(|a| a.progress.clone()),
            plan: attempt.and_then(|a| a.plan),
            last_loss: attempt.and_then(|a| a.last_loss),
            tokens_per_s: attempt.and_then(|a| a.tokens_per_s),
            pid: attempt.and_then(|a| a.pid),
            slurm: self.slurm.get(&id).map(|run| run.view.clone()),
        })
    }

    /// The state of a job that people see.
    pub fn shown(&self, job: &JobRecord) -> ShownState {
        match (&job.state, self.attempts.get(&job.id), job.wish) {
            (JobState::Succeeded(_), ..) => ShownState::Succeeded,
            (JobState::Failed(_), ..) => ShownState::Failed,
            (JobState::Cancelled, ..) => ShownState::Cancelled,
            // What waits in Slurm waits.
            (JobState::Queued, Some(attempt), _) if attempt.is_remote && self.is_pending(job.id) => ShownState::Queued,
            (JobState::Queued, Some(_), _) => ShownState::Running,
            (JobState::Queued, None, Some(Wish::Pause)) => ShownState::Paused,
            (JobState::Queued, None, _) => ShownState::Queued,
        }
    }

    /// Whether an attempt was submitted to Slurm and has not begun there.
    fn is_pending(&self, job: JobId) -> bool {
        self.slurm.get(&job).is_some_and(|run| run.view.state == "PENDING")
    }

    fn waits_for(&self, job: &JobRecord) -> String {
        if let Some(run) = self.slurm.get(&job.id) {
            let SlurmView { number, state, reason, .. } = &run.view;
            let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
            return format!("Slurm job {number} is {}{reason}", state.to_lowercase());
        }
        match crate::jobs::admit(self, job) {
            Ok(_) => "its turn".to_owned(),
            Err(reason) => reason,
        }
    }

    /// A service with its facts of memory.
    pub fn service_view(&self, id: ServiceId) -> Option<ServiceView> {
        let record = self.services.get(&id)?;
        let serving = self.engine_of(record).and_then(|engine| self.serving.get(&engine));
        let adapter_missing = serving.is_some_and(|s| {
            self.versions
                .get(&record.version)
                .is_some_and(|v| matches!(v.weights, Weights::Adapter { .. }) && !s.adapters.contains(&v.id))
        });
        let state = match serving {
            _ if !record.wanted => ServiceState::Off,
            _ if self.asleep.contains(&id) => ServiceState::Asleep,
            None => ServiceState::Starting,
            Some(s) if s.state == ServiceState::On && adapter_missing => ServiceState::Starting,
            Some(s) => s.state.clone(),
        };
        Some(ServiceView {
            record: (**record).clone(),
            version_reference: self.version_reference(record.version),
            state,
            active: serving.map_or(0, |s| s.active),
            waiting: serving.map_or(0, |s| s.waiting),
            restarts: serving.map_or(0, |s| s.restarts),
            requests: self.service_requests.get(&id).copied().unwrap_or(0),
            memory_bytes: serving.map_or(0, |s| s.memory_bytes),
            is_encoder: self.is_encoder(record.version),
            memory: serving.and_then(|s| s.memory.clone()),
            moving: self.moving.get(&id).cloned(),
            trouble: serving.and_then(|s| s.trouble.clone()),
        })
    }

    /// An application with its keys and usage.
    pub fn application_view(&self, id: ApplicationId) -> Option<ApplicationView> {
        let record = self.applications.get(&id)?;
        let services = match &record.services {
            Services::All => self.services.values().map(|s| s.name.clone()).collect(),
            Services::Listed(ids) => {
                ids.iter().filter_map(|id| self.services.get(id)).map(|s| s.name.clone()).collect()
            }
        };
        let mut usage = self.usage.get(&id).copied().unwrap_or_default();
        self.open_rows.values().filter(|r| r.application == id).for_each(|r| usage.add(r));
        Some(ApplicationView {
            record: (**record).clone(),
            services,
            keys: self.keys.values().filter(|k| k.application == id).map(|k| (**k).clone()).collect(),
            usage,
            compute: self.compute.get(&id).copied().unwrap_or_default(),
            reserved: self.reserved.get(&id).copied().unwrap_or_default(),
            left: self.budgets_left.get(&id).copied(),
        })
    }

    /// The newest jobs, newest first.
    pub fn job_views(&self, count: usize) -> Vec<JobView> {
        self.jobs.keys().rev().take(count).filter_map(|id| self.job_view(*id)).collect()
    }

    /// Everything that a mirror needs.
    pub fn snapshot(&self, seq: u64, person: &str) -> Snapshot {
        Snapshot {
            epoch: self.fixed.epoch,
            seq,
            at_ms: crate::clock::now_ms(),
            person: person.to_owned(),
            machine: (*self.machine).clone(),
            models: self.models.keys().filter_map(|id| self.model_view(*id)).collect(),
            datasets: self.datasets.keys().filter_map(|id| self.dataset_view(*id)).collect(),
            jobs: self.job_views(SNAPSHOT_JOBS_MAX),
            services: self.services.keys().filter_map(|id| self.service_view(*id)).collect(),
            applications: self.applications.keys().filter_map(|id| self.application_view(*id)).collect(),
            suites: self.suites.values().map(|s| (**s).clone()).collect(),
            evaluations: self.evaluations.values().rev().map(|e| (**e).clone()).collect(),
            http: (*self.http).clone(),
            currency: self.fixed.currency.clone(),
            pools: self.pool_views(),
            hooks: self.hooks.values().map(|h| (**h).clone()).collect(),
            alerts: self.alerts.values().rev().take(SNAPSHOT_ALERTS_MAX).map(|a| (**a).clone()).collect(),
            projects: self.project_views(),
        }
    }
}
