//! Serving processes: one for each base that some wanted service needs. Which ones run is derived from the
//! services, so a restart of the daemon brings them all back.

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ServiceId, VersionId};
use hone_protocol::model::Weights;
use hone_protocol::service::ServiceState;

use super::effect::{Effect, ServingStart};
use super::event::ServingFact;
use super::{Decider, Subject};
use crate::state::{Meter, Serving};

/// Tries in a row before a serving process is given up until somebody asks for it again.
const TRIES_MAX: u32 = 6;
/// The first pause after a process ended; doubled each time.
const PAUSE_MS: u64 = 500;

/// What the wanted services ask of one base.
#[derive(Default, PartialEq)]
struct Wanted {
    slots: u32,
    context_tokens: u32,
    adapters: Vec<VersionId>,
    pool: String,
    upstream: Option<ServiceId>,
}

impl Decider {
    fn wanted_serving(&self) -> BTreeMap<VersionId, Wanted> {
        let mut wanted: BTreeMap<VersionId, Wanted> = BTreeMap::new();
        for service in self.state.services.values().filter(|s| s.wanted && !self.state.asleep.contains(&s.id)) {
            let Some(engine) = self.state.engine_of(service) else { continue };
            let entry = wanted.entry(engine).or_default();
            // Services of one base are in one pool.
            entry.pool.clone_from(&service.pool);
            entry.slots = entry.slots.max(service.slots);
            entry.context_tokens = entry.context_tokens.max(service.context_tokens);
            entry.upstream = service.upstream.as_ref().map(|_| service.id);
            let version = self.state.versions.get(&service.version);
            if let Some(version) = version.filter(|version| matches!(version.weights, Weights::Adapter { .. }))
                && !entry.adapters.contains(&version.id)
            {
                entry.adapters.push(version.id);
            }
        }
        self.wanted_beside(&mut wanted);
        wanted
    }

    /// What is to take over, and what no longer answers but has requests.
    fn wanted_beside(&self, wanted: &mut BTreeMap<VersionId, Wanted>) {
        let services = &self.state.services;
        let coming = self.state.moving.iter().filter_map(|(id, moving)| {
            let service = services.get(id).filter(|s| s.wanted && !self.state.asleep.contains(id))?;
            // What does not fit is not begun; what failed otherwise is tried again by its own rules.
            let fits = moving.failure.as_ref().is_none_or(|failure| failure.code != FailureCode::DoesNotFit);
            fits.then(|| (moving.version, service.slots, service.context_tokens, service.pool.clone()))
        });
        let pool_of = |id: &VersionId| {
            let base = self.state.versions.get(id).map(|version| self.state.base_of(version));
            base.and_then(|base| self.state.serving.get(&base)).map_or(String::new(), |serving| serving.pool.clone())
        };
        let going = self.retiring.iter().map(|(id, one)| (*id, one.slots, one.context_tokens, pool_of(id)));
        for (id, slots, context_tokens, pool) in coming.chain(going) {
            let Some(version) = self.state.versions.get(&id) else { continue };
            let entry = wanted.entry(self.state.base_of(version)).or_default();
            if entry.pool.is_empty() {
                entry.pool = pool;
            }
            entry.slots = entry.slots.max(slots);
            entry.context_tokens = entry.context_tokens.max(context_tokens);
            let is_adapter = matches!(version.weights, Weights::Adapter { .. });
            if is_adapter && !entry.adapters.contains(&id) && !self.failed_adapters.contains_key(&id) {
                entry.adapters.push(id);
            }
        }
    }

    /// Starts, changes and ends serving processes so that they are what the services ask for.
    pub(super) fn arrange_serving(&mut self) {
        let wanted = if self.state.stopping { BTreeMap::new() } else { self.wanted_serving() };
        // A stopping daemon ends them when the open answers are written.
        if self.state.stopping && !self.state.open_rows.is_empty() {
            return;
        }
        let gone: Vec<VersionId> = self.state.serving.keys().filter(|b| !wanted.contains_key(b)).copied().collect();
        for base in gone {
            self.meter_serving(base);
            Arc::make_mut(&mut self.state.serving).remove(&base);
            self.effects.push(Effect::StopServing(base));
            self.touch_services_of(base);
        }
        for (base, wanted) in wanted {
            let is_ours = wanted.upstream.is_none();
            match self.state.serving.get(&base) {
                None => self.start_serving(base, wanted, 0, 0),
                Some(s)
                    if s.slots < wanted.slots
                        || (is_ours && s.context_tokens < wanted.context_tokens)
                        || s.pool != wanted.pool =>
                {
                    // More room is asked for than the process has, or another pool: it is started again with the new shape.
                    let restarts = s.restarts;
                    self.meter_serving(base);
                    self.effects.push(Effect::StopServing(base));
                    self.start_serving(base, wanted, restarts + 1, 0);
                }
                Some(s) if s.state == ServiceState::On => {
                    let unused: Vec<VersionId> =
                        s.adapters.iter().filter(|a| !wanted.adapters.contains(a)).copied().collect();
                    let missing: Vec<VersionId> = wanted
                        .adapters
                        .into_iter()
                        .filter(|a| !s.adapters.contains(a) && !self.asked_adapters.contains(&(s.generation, *a)))
                        .collect();
                    let generation = s.generation;
                    for adapter in unused {
                        self.drop_adapter(base, generation, adapter);
                    }
                    for adapter in missing {
                        self.asked_adapters.insert((generation, adapter));
                        self.effects.push(Effect::AddAdapter { base, adapter });
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn drop_adapter(&mut self, base: VersionId, generation: u64, adapter: VersionId) {
        if let Some(serving) = Arc::make_mut(&mut self.state.serving).get_mut(&base) {
            serving.adapters.remove(&adapter);
        }
        self.asked_adapters.remove(&(generation, adapter));
        self.effects.push(Effect::DropAdapter { base, adapter });
    }

    fn start_serving(&mut self, base: VersionId, wanted: Wanted, restarts: u32, failures: u32) {
        self.generation += 1;
        let generation = self.generation;
        for adapter in &wanted.adapters {
            self.asked_adapters.insert((generation, *adapter));
        }
        let serving = Serving {
            generation,
            state: ServiceState::Starting,
            restarts,
            failures,
            adapters: Default::default(),
            slots: wanted.slots,
            context_tokens: wanted.context_tokens,
            active: 0,
            waiting: 0,
            memory_bytes: 0,
            memory: None,
            meter: None,
            pool: wanted.pool.clone(),
            trouble: None,
        };
        Arc::make_mut(&mut self.state.serving).insert(base, serving);
        self.effects.push(Effect::StartServing(ServingStart {
            base,
            generation,
            slots: wanted.slots,
            context_tokens: wanted.context_tokens,
            adapters: wanted.adapters,
            threads: self.state.threads(&wanted.pool),
            cards: self.state.cards(&wanted.pool),
            upstream: wanted.upstream,
        }));
        self.touch_services_of(base);
    }

    fn touch_services_of(&mut self, base: VersionId) {
        let touched: Vec<_> = self
            .state
            .services
            .values()
            .filter(|s| {
                let coming = self.state.moving.get(&s.id).map(|moving| moving.version);
                let of = |id: &VersionId| self.state.versions.get(id).is_some_and(|v| self.state.base_of(v) == base);
                self.state.engine_of(s) == Some(base) || coming.as_ref().is_some_and(of)
            })
            .map(|s| Subject::Service(s.id))
            .collect();
        self.dirty.extend(touched);
    }

    /// Takes a report of a serving process.
    pub(super) fn serving_fact(&mut self, base: VersionId, generation: u64, fact: ServingFact) {
        let (now_ms, steady_ms) = (self.now_ms, self.steady_ms);
        // The time of a server elsewhere is not this machine's.
        let is_ours = self.state.versions.contains_key(&base);
        let serving = Arc::make_mut(&mut self.state.serving);
        let Some(serving) = serving.get_mut(&base).filter(|s| s.generation == generation) else { return };
        match fact {
            ServingFact::Ready { memory_bytes } => {
                serving.state = ServiceState::On;
                serving.memory_bytes = memory_bytes;
                serving.meter = is_ours.then(|| Meter::new(now_ms, steady_ms));
                self.alert_up(base);
            }
            ServingFact::Health(trouble) => {
                if trouble.is_none() {
                    serving.failures = 0;
                }
                serving.trouble = trouble;
            }
            ServingFact::AdapterReady(version) => {
                serving.adapters.insert(version);
                serving.failures = 0;
            }
            ServingFact::AdapterFailed(version, failure) => {
                eprintln!("honed: adapter {version}: {failure}");
                self.failed_adapters.insert(version, failure);
            }
            ServingFact::Load { active, waiting, memory_bytes } => {
                if active > 0 {
                    serving.failures = 0;
                }
                if let Some(meter) = &mut serving.meter {
                    meter.tick(serving.active > 0, steady_ms);
                }
                serving.active = active;
                serving.waiting = waiting;
                serving.memory_bytes = memory_bytes;
                self.meter_long_serving(base);
            }
            ServingFact::Memory(memory) => serving.memory = Some(memory),
            ServingFact::Ended(failure) => self.serving_ended(base, generation, failure),
        }
        self.touch_services_of(base);
    }

    fn serving_ended(&mut self, base: VersionId, generation: u64, failure: Failure) {
        let now_ms = self.now_ms;
        self.meter_serving(base);
        self.alert_down(base, &failure);
        let serving = Arc::make_mut(&mut self.state.serving);
        let Some(serving) = serving.get_mut(&base) else { return };
        serving.meter = None;
        serving.failures += 1;
        serving.adapters.clear();
        serving.active = 0;
        serving.waiting = 0;
        serving.memory_bytes = 0;
        serving.memory = None;
        if serving.failures >= TRIES_MAX {
            serving.state = ServiceState::Failed { failure };
            return;
        }
        let after_ms = PAUSE_MS << (serving.failures - 1).min(6);
        serving.state = ServiceState::Waiting { retry_at_ms: now_ms + after_ms as i64, failure };
        self.effects.push(Effect::RetryServing { base, generation, after_ms });
    }

    /// The pause after an end is over.
    pub(super) fn retry_serving(&mut self, base: VersionId, generation: u64) {
        let Some(serving) = self.state.serving.get(&base).filter(|s| s.generation == generation) else { return };
        if !matches!(serving.state, ServiceState::Waiting { .. }) {
            return;
        }
        let (restarts, failures) = (serving.restarts + 1, serving.failures);
        if let Some(wanted) = self.wanted_serving().remove(&base) {
            self.start_serving(base, wanted, restarts, failures);
        }
    }

    /// Somebody asks again for a process that was given up.
    pub(super) fn forgive_serving(&mut self, base: VersionId) {
        let given_up = self.state.serving.get(&base).is_some_and(|s| matches!(s.state, ServiceState::Failed { .. }));
        if given_up {
            Arc::make_mut(&mut self.state.serving).remove(&base);
        }
    }
}
