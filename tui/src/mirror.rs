//! The client's disposable copy of the daemon's facts: one snapshot, then numbered events. A gap in the numbers is
//! never guessed over: the mirror says so and a fresh snapshot is asked for. Never here: a fact of the client's own.

use hone_protocol::event::{Change, Event, Machine, SNAPSHOT_ALERTS_MAX, SNAPSHOT_JOBS_MAX, Snapshot};
use hone_protocol::id::{DatasetVersionId, JobId, VersionId};
use hone_protocol::job::{JobSpec, JobView, ShownState};
use hone_protocol::model::{ModelView, VersionView, Weights};
use hone_protocol::service::ServiceView;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The facts changed.
    Yes,
    /// Nothing that is shown changed.
    Quiet,
    /// Events are missing: ask for a new snapshot. Events are ignored until it is there.
    Gap,
}

/// The copy.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    facts: Option<Snapshot>,
    /// A gap was seen and the new snapshot is not there yet.
    gap: bool,
}

impl Mirror {
    /// Takes a whole new state.
    pub(crate) fn replace(&mut self, snapshot: Snapshot) {
        self.facts = Some(snapshot);
        self.gap = false;
    }

    /// Whether a snapshot has ever come.
    pub(crate) fn is_filled(&self) -> bool {
        self.facts.is_some()
    }

    /// The facts, once there.
    pub(crate) fn facts(&self) -> Option<&Snapshot> {
        self.facts.as_ref()
    }

    /// Takes one event.
    pub(crate) fn apply(&mut self, event: Event) -> Applied {
        let Some(facts) = self.facts.as_mut().filter(|_| !self.gap) else { return Applied::Quiet };
        if event.epoch != facts.epoch || event.seq != facts.seq + 1 {
            // Events numbered at or below the snapshot were on their way when it was taken.
            if event.epoch == facts.epoch && event.seq <= facts.seq {
                return Applied::Quiet;
            }
            self.gap = true;
            return Applied::Gap;
        }
        facts.seq = event.seq;
        match event.change {
            Change::Model(view) => put(&mut facts.models, view, |a, b| a.record.id == b.record.id, Vec::push),
            Change::Dataset(view) => put(&mut facts.datasets, view, |a, b| a.record.id == b.record.id, Vec::push),
            Change::Job(view) => {
                put(&mut facts.jobs, *view, |a, b| a.record.id == b.record.id, |jobs, job| jobs.insert(0, job));
                facts.jobs.truncate(SNAPSHOT_JOBS_MAX);
            }
            Change::ServiceGone(id) => facts.services.retain(|service| service.record.id != id),
            Change::Pools(pools) => facts.pools = pools,
            Change::Service(view) => put(&mut facts.services, *view, |a, b| a.record.id == b.record.id, Vec::push),
            Change::Application(view) => {
                put(&mut facts.applications, view, |a, b| a.record.id == b.record.id, Vec::push);
            }
            Change::Suite(record) => put(&mut facts.suites, record, |a, b| a.id == b.id, Vec::push),
            Change::Evaluation(record) => {
                put(&mut facts.evaluations, record, |a, b| a.id == b.id, |all, one| all.insert(0, one));
            }
            Change::Project(view) => {
                put(&mut facts.projects, *view, |a, b| a.record.name == b.record.name, |all, one| all.insert(0, one));
            }
            Change::Hook(hook) => put(&mut facts.hooks, hook, |a, b| a.id == b.id, Vec::push),
            Change::HookGone(id) => facts.hooks.retain(|hook| hook.id != id),
            Change::Alert(alert) => {
                put(&mut facts.alerts, alert, |a, b| a.id == b.id, |all, one| all.insert(0, one));
                facts.alerts.truncate(SNAPSHOT_ALERTS_MAX);
            }
            Change::Machine(machine) => {
                if !worth_showing(&facts.machine, &machine, is_busy(facts)) {
                    return Applied::Quiet;
                }
                facts.machine = machine;
            }
        }
        Applied::Yes
    }

    /// All models.
    pub(crate) fn models(&self) -> &[ModelView] {
        self.facts.as_ref().map_or(&[], |f| &f.models)
    }

    /// All jobs known here, newest first.
    pub(crate) fn jobs(&self) -> &[JobView] {
        self.facts.as_ref().map_or(&[], |f| &f.jobs)
    }

    /// All services.
    pub(crate) fn services(&self) -> &[ServiceView] {
        self.facts.as_ref().map_or(&[], |f| &f.services)
    }

    /// All datasets.
    pub(crate) fn datasets(&self) -> &[hone_protocol::dataset::DatasetView] {
        self.facts.as_ref().map_or(&[], |f| &f.datasets)
    }

    /// All applications.
    pub(crate) fn applications(&self) -> &[hone_protocol::application::ApplicationView] {
        self.facts.as_ref().map_or(&[], |f| &f.applications)
    }

    /// All hooks.
    pub(crate) fn hooks(&self) -> &[hone_protocol::hook::HookRecord] {
        self.facts.as_ref().map_or(&[], |f| &f.hooks)
    }

    /// The newest alerts, newest first.
    pub(crate) fn alerts(&self) -> &[hone_protocol::hook::AlertRecord] {
        self.facts.as_ref().map_or(&[], |f| &f.alerts)
    }

    /// All pools, `local` first.
    pub(crate) fn pools(&self) -> &[hone_protocol::pool::PoolView] {
        self.facts.as_ref().map_or(&[], |f| &f.pools)
    }

    /// All projects of labelling.
    pub(crate) fn projects(&self) -> &[hone_protocol::labelling::ProjectView] {
        self.facts.as_ref().map_or(&[], |f| &f.projects)
    }

    /// Who we are, as the daemon understood it.
    pub(crate) fn person(&self) -> &str {
        self.facts.as_ref().map_or("", |f| &f.person)
    }

    /// All suites.
    pub(crate) fn suites(&self) -> &[hone_protocol::evaluation::SuiteRecord] {
        self.facts.as_ref().map_or(&[], |f| &f.suites)
    }

    /// All evaluations, newest first.
    pub(crate) fn evaluations(&self) -> &[hone_protocol::evaluation::EvaluationRecord] {
        self.facts.as_ref().map_or(&[], |f| &f.evaluations)
    }

    /// One job.
    pub(crate) fn job(&self, id: JobId) -> Option<&JobView> {
        self.jobs().iter().find(|j| j.record.id == id)
    }

    /// All versions that can be used, in the order of the models.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &VersionView> {
        self.models().iter().flat_map(ModelView::live)
    }

    /// One version, also one that is in the trash.
    pub(crate) fn version(&self, id: VersionId) -> Option<&VersionView> {
        self.models().iter().flat_map(|m| &m.versions).find(|v| v.record.id == id)
    }

    /// `name@number` of a dataset version.
    pub(crate) fn dataset_reference(&self, id: DatasetVersionId) -> Option<String> {
        self.datasets()
            .iter()
            .find_map(|d| d.versions.iter().find(|v| v.id == id).map(|v| format!("{}@{}", d.record.name, v.number)))
    }

    /// Jobs that are running or about to.
    pub(crate) fn running(&self) -> impl Iterator<Item = &JobView> {
        self.jobs().iter().filter(|j| matches!(j.shown, ShownState::Running | ShownState::Queued))
    }

    /// Training jobs, newest first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &JobView> {
        self.jobs().iter().filter(|j| matches!(j.record.spec, JobSpec::Train(_)))
    }

    /// Complete models, the ones one can train from.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &VersionView> {
        self.versions().filter(|v| matches!(v.record.weights, Weights::Base))
    }

    /// Adapters: what training made.
    pub(crate) fn adapters(&self) -> impl Iterator<Item = &VersionView> {
        self.versions().filter(|v| matches!(v.record.weights, Weights::Adapter { .. }))
    }

    /// Base addresses of the endpoint, as a client writes them.
    pub(crate) fn http(&self) -> Vec<String> {
        let addresses = self.facts.as_ref().map_or(&[][..], |f| &f.http);
        addresses
            .iter()
            // Programs call the TCP addresses; the Unix socket is for the command line.
            .filter(|a| !a.starts_with("unix:"))
            .map(|a| if a.contains("://") { a.clone() } else { format!("http://{a}") })
            .map(|a| a.trim_end_matches('/').to_owned())
            .collect()
    }
}

fn put<T>(all: &mut Vec<T>, new: T, same: impl Fn(&T, &T) -> bool, add: impl Fn(&mut Vec<T>, T)) {
    match all.iter_mut().find(|old| same(old, &new)) {
        Some(old) => *old = new,
        None => add(all, new),
    }
}

fn is_busy(facts: &Snapshot) -> bool {
    facts.jobs.iter().any(|j| j.shown == ShownState::Running) || facts.services.iter().any(|s| s.active > 0)
}

/// While nothing runs, figures that wobble are not worth bytes on the wire: only a change of a tenth is. How busy the
/// processor is, is shown only while something runs.
fn worth_showing(old: &Machine, new: &Machine, busy: bool) -> bool {
    let moved = |a: u64, b: u64, whole: u64| a.abs_diff(b) > whole / 10;
    busy || old.host != new.host
        || old.cores != new.cores
        || old.gpus != new.gpus
        || old.memory_bytes != new.memory_bytes
        || old.pool_memory_bytes != new.pool_memory_bytes
        || moved(old.memory_available_bytes, new.memory_available_bytes, new.memory_bytes)
        || moved(old.disk_free_bytes, new.disk_free_bytes, old.disk_free_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screens::sample;

    fn machine(seq: u64, epoch: u64) -> Event {
        Event { epoch, seq, change: Change::Machine(Machine { host: format!("h{seq}"), ..Machine::default() }) }
    }

    #[test]
    fn a_gap_is_said_once_and_mended_by_a_snapshot() {
        let mut mirror = Mirror::default();
        mirror.replace(sample::filled());
        let seq = mirror.facts().unwrap().seq;
        let epoch = mirror.facts().unwrap().epoch;
        assert_eq!(mirror.apply(machine(seq + 1, epoch)), Applied::Yes);
        assert_eq!(mirror.apply(machine(seq + 3, epoch)), Applied::Gap);
        assert_eq!(mirror.apply(machine(seq + 4, epoch)), Applied::Quiet);
        assert_eq!(mirror.facts().unwrap().machine.host, format!("h{}", seq + 1));
        mirror.replace(sample::filled());
        assert_eq!(mirror.apply(machine(seq + 1, epoch)), Applied::Yes);
        assert_eq!(mirror.apply(machine(seq + 2, epoch + 1)), Applied::Gap);
    }

    #[test]
    fn a_known_job_is_replaced_and_a_new_one_goes_first() {
        let mut mirror = Mirror::default();
        mirror.replace(sample::filled());
        let (epoch, seq) = (mirror.facts().unwrap().epoch, mirror.facts().unwrap().seq);
        let count = mirror.jobs().len();
        let mut job = mirror.jobs()[1].clone();
        job.waits_for = "changed".into();
        mirror.apply(Event { epoch, seq: seq + 1, change: Change::Job(Box::new(job.clone())) });
        assert_eq!(mirror.jobs().len(), count);
        assert_eq!(mirror.jobs()[1].waits_for, "changed");
        job.record.id = JobId::from_bytes([9; 16]);
        mirror.apply(Event { epoch, seq: seq + 2, change: Change::Job(Box::new(job)) });
        assert_eq!(mirror.jobs().len(), count + 1);
        assert_eq!(mirror.jobs()[0].record.id, JobId::from_bytes([9; 16]));
    }

    #[test]
    fn an_idle_machine_does_not_wobble() {
        let old = Machine { memory_bytes: 100, memory_available_bytes: 50, cpu_busy: Some(0.1), ..Machine::default() };
        let new = Machine { memory_available_bytes: 52, cpu_busy: Some(0.2), ..old.clone() };
        assert!(!worth_showing(&old, &new, false));
        assert!(worth_showing(&old, &new, true));
    }
}
