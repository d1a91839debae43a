//! Versions into the trash and out of it, and their files' removal. A record stays for ever as a tombstone, so that a number is
//! never given again and lineage keeps its names. Never here: touching a file; that is an effect, after the commit.

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::job::{JobSpec, JobState};
use hone_protocol::model::{Storage, TRASH_KEPT_MS, VersionRecord, Weights};
use hone_protocol::request::Answer;

use super::effect::Effect;
use super::{Decider, Subject};
use crate::state::State;
use crate::store::{Table, codec};

/// Whom the audit log names when the time of a version in the trash is over.
pub(super) const NOBODY: &str = "honed";

impl Decider {
    /// Puts a version into the trash, unless something uses it.
    pub(super) fn trash(&mut self, reference: &str) -> Result<Answer, Failure> {
        let version = self.numbered(reference)?;
        if !version.is_live() {
            return Err(Failure::new(FailureCode::WrongState, format!("{reference} is in the trash already")));
        }
        let users = users_of(&self.state, &version);
        if !users.is_empty() {
            return Err(in_use(reference, &users));
        }
        let at_ms = self.now_ms;
        self.with_version(version.id, |version| version.trashed_at_ms = Some(at_ms));
        Ok(Answer::Done)
    }

    /// Takes a version out of the trash. An adapter needs its base beside it.
    pub(super) fn restore(&mut self, reference: &str) -> Result<Answer, Failure> {
        let version = self.numbered(reference)?;
        if version.is_live() {
            return Err(Failure::new(FailureCode::WrongState, format!("{reference} is not in the trash")));
        }
        if version.is_removed() {
            let message = format!("the file of {reference} is removed; it cannot come back");
            return Err(Failure::new(FailureCode::WrongState, message));
        }
        if let Weights::Adapter { base, .. } = version.weights {
            // Says by itself that the base is in the trash, and how it comes out.
            self.state.version(&self.state.version_reference(base))?;
        }
        self.with_version(version.id, |version| version.trashed_at_ms = None);
        Ok(Answer::Done)
    }

    /// Removes the files of versions in the trash, all or none.
    pub(super) fn purge(&mut self, references: &[String]) -> Result<Answer, Failure> {
        let mut chosen = Vec::new();
        for reference in references {
            let version = self.numbered(reference)?;
            if version.is_live() || version.is_removed() {
                let problem = if version.is_live() { "is not in the trash" } else { "is removed already" };
                return Err(Failure::new(FailureCode::WrongState, format!("{reference} {problem}")));
            }
            chosen.push(version.id);
        }
        for id in &chosen {
            let needs = self.still_needed_by(*id, &chosen);
            if !needs.is_empty() {
                return Err(in_use(&self.state.version_reference(*id), &needs));
            }
        }
        chosen.into_iter().for_each(|id| self.remove_file(id));
        Ok(Answer::Done)
    }

    /// Removes the files of versions whose time in the trash is over, but for those that a service would miss.
    pub(super) fn empty_trash(&mut self) {
        let limit = self.now_ms - TRASH_KEPT_MS;
        let is_over = |version: &VersionRecord| version.trashed_at_ms.is_some_and(|at| at <= limit);
        let over = self.state.versions.values().filter(|version| is_over(version) && !version.is_removed());
        let mut over: Vec<VersionId> = over.map(|version| version.id).collect();
        // What needs one of them that stays keeps it too.
        while let Some(at) = over.iter().position(|id| !self.still_needed_by(*id, &over).is_empty()) {
            over.remove(at);
        }
        for id in over {
            self.remove_file(id);
            self.audit(NOBODY, "purge", &self.state.version_reference(id));
        }
    }

    /// At start: removals that a crash kept from being carried out.
    pub(super) fn finish_removals(&mut self) {
        let removed: Vec<String> =
            self.state.versions.values().filter(|v| v.is_removed()).map(|v| v.file.path.clone()).collect();
        removed.into_iter().for_each(|path| self.remove_path(path));
    }

    fn remove_file(&mut self, id: VersionId) {
        let mut path = String::new();
        self.with_version(id, |version| {
            path.clone_from(&version.file.path);
            version.file.storage = Storage::Removed;
        });
        self.remove_path(path);
    }

    /// Only a name of the store's own, which no other version has: what lies elsewhere is a person's.
    fn remove_path(&mut self, path: String) {
        let shared = self.state.versions.values().any(|version| !version.is_removed() && version.file.path == path);
        if !shared && !path.contains('/') && !path.is_empty() {
            self.effects.push(Effect::RemoveWeights(path));
        }
    }

    /// What stands in the way of removing a version in the trash: an adapter over it that may still come back, and a service
    /// that is off.
    fn still_needed_by(&self, id: VersionId, removed_too: &[VersionId]) -> Vec<String> {
        let adapters = self.state.versions.values().filter(|version| {
            let over_it = matches!(version.weights, Weights::Adapter { base, .. } if base == id);
            over_it && !version.is_removed() && !removed_too.contains(&version.id)
        });
        let adapters = adapters.map(|version| format!("adapter {}", self.state.version_reference(version.id)));
        let services = self.state.services.values().filter(|service| service.version == id);
        adapters.chain(services.map(|service| format!("service {}", service.name))).collect()
    }

    fn numbered(&self, reference: &str) -> Result<Arc<VersionRecord>, Failure> {
        if !reference.contains('@') {
            let message = format!("{reference:?} may mean another version tomorrow; say which one: NAME@NUMBER");
            return Err(Failure::field("version", message));
        }
        self.state.any_version(reference).cloned()
    }

    /// Changes a version's record and stores it.
    fn with_version(&mut self, id: VersionId, change: impl FnOnce(&mut VersionRecord)) {
        let versions = Arc::make_mut(&mut self.state.versions);
        let Some(record) = versions.get_mut(&id).map(Arc::make_mut) else { return };
        change(record);
        let model = record.model;
        self.writes.put(Table::Versions, *id.bytes(), codec::record(&*record));
        self.dirty.insert(Subject::Model(model));
    }
}

pub(super) fn in_use(reference: &str, users: &[String]) -> Failure {
    let message = format!("{reference} is used by {}", users.join(", "));
    let failure = Failure::new(FailureCode::InUse, message).at("version").hint(HintCode::StopUsers);
    failure.arg("users", users.join(", "))
}

/// Everything that would miss a version: services that are on, aliases, adapters over it, and jobs that have not ended.
fn users_of(state: &State, version: &VersionRecord) -> Vec<String> {
    let id = version.id;
    let mut users = Vec::new();
    for service in state.services.values().filter(|service| service.wanted && service.version == id) {
        users.push(format!("service {}", service.name));
    }
    if let Some(model) = state.models.get(&version.model) {
        let aliases = model.aliases.iter().filter(|alias| alias.version == id);
        users.extend(aliases.map(|alias| format!("alias {}:{}", model.name, alias.name)));
    }
    for adapter in state.versions.values().filter(|other| other.is_live()) {
        if matches!(adapter.weights, Weights::Adapter { base, .. } if base == id) {
            users.push(format!("adapter {}", state.version_reference(adapter.id)));
        }
    }
    for job in state.jobs.values().filter(|job| job.state == JobState::Queued) {
        if job_reads(state, &job.spec).contains(&id) {
            users.push(format!("job {} ({})", job.id, job.spec.kind()));
        }
    }
    users
}

/// Versions whose files a job may open: what it works on, the base of that, and what either was made from, because
/// conversions begin at the least quantised ancestor.
fn job_reads(state: &State, spec: &JobSpec) -> Vec<VersionId> {
    let mut found = Vec::new();
    let works_on = match spec {
        // What a run was over says how its checkpoints are to be read.
        JobSpec::Register(register) => state.jobs.get(&register.run).and_then(|run| run.spec.works_on()),
        spec => spec.works_on(),
    };
    let first = works_on.and_then(|reference| state.any_version(reference).ok());
    let mut next: Vec<VersionId> = first.map(|version| version.id).into_iter().collect();
    while let Some(id) = next.pop() {
        let Some(version) = state.versions.get(&id).filter(|_| !found.contains(&id)) else { continue };
        found.push(id);
        next.push(state.base_of(version));
        if matches!(spec, JobSpec::Convert(_)) {
            next.extend(version.lineage.parent);
        }
    }
    found
}
