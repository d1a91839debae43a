//! Services that follow an alias: the version that it points at is loaded beside the one that answers; when it can answer it takes
//! over, and the old one goes when its last request has ended. What cannot be loaded changes nothing, and is said. Never here:
//! moving an alias (`promotion`), processes (`serving`).

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{ModelId, ServiceId, VersionId};
use hone_protocol::model::Weights;
use hone_protocol::service::{Moving, ServiceRecord, ServiceState};

use super::effect::Effect;
use super::{Decider, Subject};

/// How long what no longer answers stays loaded at least: requests that found it before are on their way to it.
pub(super) const GRACE_MS: i64 = 10_000;

/// A version that answered until another took over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retiring {
    pub(super) service: ServiceId,
    pub(super) slots: u32,
    pub(super) context_tokens: u32,
    since_ms: i64,
}

impl Decider {
    /// Services that follow an alias of a model.
    pub(super) fn followers(&self, model: ModelId, alias: &str) -> Vec<Arc<ServiceRecord>> {
        let is_of = |id: &VersionId| self.state.versions.get(id).is_some_and(|version| version.model == model);
        let follows = |s: &&Arc<ServiceRecord>| s.follows.as_deref() == Some(alias) && is_of(&s.version);
        self.state.services.values().filter(follows).cloned().collect()
    }

    /// The version that a service is to serve.
    fn target(&self, service: &ServiceRecord) -> Option<VersionId> {
        let alias = service.follows.as_deref()?;
        let model = self.state.models.get(&self.state.versions.get(&service.version)?.model)?;
        model.aliases.iter().find(|known| known.name == alias).map(|known| known.version)
    }

    /// Whether the services that follow an alias can serve a version.
    pub(super) fn may_follow(&self, model: ModelId, alias: &str, version: VersionId) -> Result<(), Failure> {
        let Some(record) = self.state.versions.get(&version) else { return Ok(()) };
        let facts = self.state.versions.get(&self.state.base_of(record)).map_or(&record.facts, |base| &base.facts);
        for service in self.followers(model, alias) {
            if self.state.is_encoder(service.version) != self.state.is_encoder(version) {
                let message =
                    format!("service {} follows the alias, and one of both models is an encoder", service.name);
                return Err(Failure::field("version", message));
            }
            if service.context_tokens > facts.context_tokens {
                let message = format!(
                    "service {} follows the alias with {} tokens of context; this model takes {}",
                    service.name, service.context_tokens, facts.context_tokens
                );
                return Err(Failure::field("version", message));
            }
        }
        Ok(())
    }

    /// A version that could not be loaded may be tried again.
    pub(super) fn forgive_loading(&mut self, version: VersionId) {
        if self.failed_adapters.remove(&version).is_some() {
            self.asked_adapters.retain(|(_, adapter)| *adapter != version);
        }
        if let Some(record) = self.state.versions.get(&version).cloned() {
            self.forgive_serving(self.state.base_of(&record));
        }
    }

    /// Lets services that follow an alias come nearer to it. Called before processes are arranged.
    pub(super) fn follow(&mut self) {
        let behind = |s: &&Arc<ServiceRecord>| self.target(s).is_some_and(|target| target != s.version);
        let behind: Vec<Arc<ServiceRecord>> = self.state.services.values().filter(behind).cloned().collect();
        let gone = |id: &ServiceId| !behind.iter().any(|service| service.id == *id);
        let there: Vec<ServiceId> = self.state.moving.keys().copied().filter(gone).collect();
        for service in there {
            Arc::make_mut(&mut self.state.moving).remove(&service);
            self.dirty.insert(Subject::Service(service));
        }
        for service in behind {
            if let Some(target) = self.target(&service) {
                self.come_nearer(&service, target);
            }
        }
    }

    fn come_nearer(&mut self, service: &ServiceRecord, target: VersionId) {
        if !service.wanted {
            // Nobody is answered: there is nothing to keep.
            return self.take_over(service, target);
        }
        if self.state.asleep.contains(&service.id) {
            // Loaded beside the other when somebody asks.
            return self.set_moving(service.id, target, None);
        }
        let Some(record) = self.state.versions.get(&target).cloned() else { return };
        let base = self.state.base_of(&record);
        let failure = match self.state.serving.get(&base).map(|serving| serving.state.clone()) {
            None => self.room_beside(service, base).err(),
            Some(ServiceState::Failed { failure } | ServiceState::Waiting { failure, .. }) => Some(failure),
            Some(ServiceState::On) => match record.weights {
                Weights::Base => return self.take_over(service, target),
                Weights::Adapter { .. } => {
                    let loaded = self.state.serving.get(&base).is_some_and(|s| s.adapters.contains(&target));
                    if loaded {
                        return self.take_over(service, target);
                    }
                    self.failed_adapters.get(&target).cloned()
                }
            },
            Some(_) => None,
        };
        self.set_moving(service.id, target, failure);
    }

    fn set_moving(&mut self, service: ServiceId, target: VersionId, failure: Option<Failure>) {
        let moving = Moving { version: target, version_reference: self.state.version_reference(target), failure };
        if self.state.moving.get(&service) != Some(&moving) {
            Arc::make_mut(&mut self.state.moving).insert(service, moving);
            self.dirty.insert(Subject::Service(service));
        }
    }

    /// Room for a process beside the one that answers, or what is missing.
    fn room_beside(&mut self, service: &ServiceRecord, base: VersionId) -> Result<(), Failure> {
        let needed = self.state.serve_bytes(base, service.slots, service.context_tokens);
        let keep = self.state.versions.get(&service.version).map(|version| self.state.base_of(version));
        if self.make_room_beside(&service.pool, needed, keep) {
            return Ok(());
        }
        let all = self.state.capacity(&service.pool).memory_bytes;
        let free = all.saturating_sub(self.state.committed_bytes(&service.pool));
        let message = format!(
            "it needs {} MiB beside what answers now, the pool has {} MiB free; stop something, or let it go down \
             while the new one loads: hone service publish {} with the same alias",
            needed >> 20,
            free >> 20,
            service.name
        );
        Err(Failure::new(FailureCode::DoesNotFit, message).at(service.name.clone()).hint(HintCode::ReduceMemory))
    }

    /// Whether what a service served until now can stay loaded for its requests while a process of another base begins.
    pub(super) fn may_stay_beside(&mut self, before: &ServiceRecord, pool: &str, base: VersionId, needed: u64) -> bool {
        let keep = self.state.versions.get(&before.version).map(|version| self.state.base_of(version));
        keep == Some(base) || self.state.serving.contains_key(&base) || self.make_room_beside(pool, needed, keep)
    }

    fn take_over(&mut self, service: &ServiceRecord, target: VersionId) {
        let record = ServiceRecord { version: target, ..service.clone() };
        let subject = format!("{} = {}", service.name, self.state.version_reference(target));
        let person = self.movers.get(&target).cloned().unwrap_or_else(|| service.created_by.clone());
        self.audit(&person, "follow", &subject);
        self.put_service(record);
        self.touch_model_of(service.version);
        self.touch_model_of(target);
        Arc::make_mut(&mut self.state.moving).remove(&service.id);
        self.retire(service);
    }

    /// What a service served until now stays loaded for the requests that it has.
    pub(super) fn retire(&mut self, before: &ServiceRecord) {
        if let Some(now) = self.state.services.get(&before.id) {
            self.retiring.remove(&now.version);
        }
        if !before.wanted || self.state.asleep.contains(&before.id) {
            return;
        }
        let (slots, context_tokens) = (before.slots, before.context_tokens);
        let retiring = Retiring { service: before.id, slots, context_tokens, since_ms: self.steady_ms };
        self.retiring.insert(before.version, retiring);
        self.effects.push(Effect::LookRetired { after_ms: GRACE_MS as u64 });
    }

    /// Lets go of what no longer answers and has no request any more.
    pub(super) fn look_retired(&mut self) {
        let (now_ms, open) = (self.steady_ms, &self.state.open_rows);
        let is_busy = |version: &VersionId| open.values().any(|row| row.version == *version);
        self.retiring.retain(|version, one| now_ms - one.since_ms < GRACE_MS || is_busy(version));
    }

    /// A request of a version ended.
    pub(super) fn note_end_of(&mut self, version: VersionId) {
        if self.retiring.contains_key(&version) {
            self.look_retired();
        }
    }

    /// A service that is turned off keeps nothing.
    pub(super) fn forget_retired(&mut self, service: ServiceId) {
        self.retiring.retain(|_, one| one.service != service);
    }
}
