//! Which wanted services are loaded. One that was idle long enough sleeps until it is asked again; idle ones make room for
//! what else needs their memory. Never here: processes (see `serving`), and what a process holds.

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{ServiceId, VersionId};
use hone_protocol::service::{Keep, ServiceRecord};
use tokio::sync::oneshot;

use super::effect::Effect;
use super::{Decider, Subject};
use crate::pools::called;

const MINUTE_MS: u64 = 60_000;

impl Decider {
    /// At start: what is kept for minutes is loaded when it is first asked.
    pub(super) fn sleep_until_asked(&mut self) {
        let lazy = |service: &&Arc<ServiceRecord>| {
            matches!(service.keep, Some(Keep::Minutes(_))) && service.reserved.is_none()
        };
        let asleep = self.state.services.values().filter(lazy).map(|service| service.id).collect();
        self.state.asleep = Arc::new(asleep);
    }

    /// Loads a service that somebody asks. Refused when its memory cannot be had.
    pub(super) fn wake(&mut self, id: ServiceId, reply: oneshot::Sender<Result<(), Failure>>) {
        if self.state.asleep.contains(&id)
            && let Some(service) = self.state.services.get(&id).cloned()
            && let Err(failure) = self.room_for(&service)
        {
            let _ = reply.send(Err(failure));
            return;
        }
        self.rouse(id);
        self.effects.push(Effect::Awake(reply));
    }

    /// A service is wanted loaded now.
    pub(super) fn rouse(&mut self, id: ServiceId) {
        Arc::make_mut(&mut self.state.asleep).remove(&id);
        self.dirty.insert(Subject::Service(id));
        self.used(id);
    }

    /// Notes that a service was used, and when to look whether it was used again: one look waits at a time, however many
    /// requests there are.
    pub(super) fn used(&mut self, id: ServiceId) {
        self.used_at_ms.insert(id, self.steady_ms);
        if let Some(Keep::Minutes(minutes)) = self.state.services.get(&id).and_then(|service| service.keep)
            && self.looks.insert(id)
        {
            self.effects.push(Effect::LookIdle { service: id, after_ms: u64::from(minutes) * MINUTE_MS });
        }
    }

    /// The time of a service may be over.
    pub(super) fn look_idle(&mut self, id: ServiceId) {
        self.looks.remove(&id);
        let Some(Keep::Minutes(minutes)) = self.state.services.get(&id).and_then(|service| service.keep) else {
            return;
        };
        let idle_ms = (self.steady_ms - self.used_at_ms.get(&id).copied().unwrap_or(0)).max(0) as u64;
        let keep_ms = u64::from(minutes) * MINUTE_MS;
        let is_reserved = self.state.services.get(&id).is_some_and(|service| service.reserved.is_some());
        if is_reserved || self.is_busy(id) {
            // What is reserved stays; the end of a request is a use, which looks again.
        } else if idle_ms >= keep_ms {
            self.sleep(id);
        } else if self.looks.insert(id) {
            self.effects.push(Effect::LookIdle { service: id, after_ms: keep_ms - idle_ms });
        }
    }

    fn is_busy(&self, id: ServiceId) -> bool {
        self.state.open_rows.values().any(|row| row.service == id)
    }

    fn sleep(&mut self, id: ServiceId) {
        Arc::make_mut(&mut self.state.asleep).insert(id);
        self.dirty.insert(Subject::Service(id));
    }

    /// Room for a service's process, or what is missing.
    fn room_for(&mut self, service: &ServiceRecord) -> Result<(), Failure> {
        let Some(base) = self.state.engine_of(service) else { return Ok(()) };
        if self.state.serving.contains_key(&base) {
            return Ok(());
        }
        let needed = self.state.serve_bytes(base, service.slots, service.context_tokens);
        if self.make_room(&service.pool, needed) {
            return Ok(());
        }
        let free = self.state.free_bytes(&service.pool);
        let message = format!(
            "service {} needs {} MiB to load, {} has {} MiB free; jobs and busy or pinned services hold the rest",
            service.name,
            needed >> 20,
            called(&service.pool),
            free >> 20
        );
        Err(Failure::new(FailureCode::DoesNotFit, message).at(service.name.clone()).hint(HintCode::ReduceMemory))
    }

    /// Lets idle services of a pool sleep, the longest unused first, until so many bytes of it are free. None sleeps for nothing: `false`
    /// when even all of them would not be enough.
    pub(super) fn make_room(&mut self, pool: &str, needed: u64) -> bool {
        self.make_room_beside(pool, needed, None)
    }

    /// The same, but for one base that stays.
    pub(super) fn make_room_beside(&mut self, pool: &str, needed: u64, keep: Option<VersionId>) -> bool {
        let all = self.state.capacity(pool).memory_bytes;
        let fits = |committed: u64| committed.saturating_add(needed) <= all;
        let committed = self.state.committed_bytes(pool);
        if fits(committed) {
            return true;
        }
        let there = self.state.serving.iter().filter(|(base, serving)| {
            // A server elsewhere takes nothing here.
            serving.pool == pool && Some(**base) != keep && self.state.versions.contains_key(*base)
        });
        let mut idle: Vec<(i64, VersionId)> =
            there.filter_map(|(&base, _)| Some((self.idle_since(base)?, base))).collect();
        let reclaimable: u64 = idle.iter().map(|&(_, base)| self.state.held_bytes(base)).sum();
        if !fits(committed.saturating_sub(reclaimable)) {
            return false;
        }
        idle.sort_unstable();
        for (_, base) in idle {
            for id in self.services_on(base) {
                self.sleep(id);
            }
            self.arrange_serving();
            if fits(self.state.committed_bytes(pool)) {
                break;
            }
        }
        true
    }

    pub(super) fn services_on(&self, base: VersionId) -> Vec<ServiceId> {
        let on = |service: &&Arc<ServiceRecord>| service.wanted && self.state.engine_of(service) == Some(base);
        self.state.services.values().filter(on).map(|service| service.id).collect()
    }

    /// When a base was last asked; `None` while it is busy or pinned.
    fn idle_since(&self, base: VersionId) -> Option<i64> {
        let services = self.services_on(base);
        let stays = |id: &ServiceId| {
            let service = self.state.services.get(id);
            let pinned = service.is_some_and(|s| s.keep == Some(Keep::Pinned) || s.reserved.is_some());
            pinned || self.is_busy(*id)
        };
        if services.iter().any(stays) {
            return None;
        }
        services.iter().map(|id| self.used_at_ms.get(id).copied().unwrap_or(0)).max()
    }
}
