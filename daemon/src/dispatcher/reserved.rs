//! Reserved services: kept loaded for an application, at a price by the hour while they are on. Their time becomes rows of the
//! ledger every hour, at midnight of the store's zone, and whenever something about it changes, so that no row crosses a day or a
//! price and a crash loses an hour at most: nobody pays for our crash. Never here: what a service is, its tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::ServiceId;
use hone_protocol::request::Answer;
use hone_protocol::service::Reserved;
use hone_protocol::usage::{ReservedRow, reserved_amount};

use super::effect::Effect;
use super::pools::HOUR_MICROS_MAX;
use super::{Decider, Subject};
use crate::clock;
use crate::store::{Table, codec, key};

/// Time that no row has is never longer than this.
const ROW_MS: u64 = 3_600_000;

/// Since when a service is reserved without a row.
#[derive(Debug, Clone, Copy)]
struct Since {
    wall_ms: i64,
    steady_ms: i64,
}

/// Time that no row of the ledger has yet.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    since: BTreeMap<ServiceId, Since>,
    /// Whether a look is under way.
    is_timed: bool,
}

impl Decider {
    /// Keeps a service for an application, or for nobody any more. What was before is charged up to now.
    pub(super) fn reserve(
        &mut self,
        name: &str,
        application: Option<&str>,
        hour_micros: u64,
    ) -> Result<Answer, Failure> {
        let mut service = (**self.state.service(name)?).clone();
        if hour_micros > HOUR_MICROS_MAX {
            return Err(Failure::field("hour", "hour is more than a million units"));
        }
        let reserved = match application {
            None if service.reserved.is_none() => {
                let message = format!("service {name} is not reserved");
                return Err(Failure::new(FailureCode::WrongState, message).at("service"));
            }
            None => None,
            Some(application) => Some(Reserved { application: self.state.application(application)?.id, hour_micros }),
        };
        let id = service.id;
        self.charge_reserved(id);
        self.reserving.since.remove(&id);
        service.reserved = reserved;
        self.put_service(service);
        self.note_reserved(id);
        let view = self.state.service_view(id).ok_or_else(|| Failure::not_found("service", name))?;
        Ok(Answer::Service(Box::new(view)))
    }

    /// A service was turned on or off, or reserved: its time begins or ends.
    pub(super) fn note_reserved(&mut self, id: ServiceId) {
        let is_on = self.state.services.get(&id).is_some_and(|service| service.wanted && service.reserved.is_some());
        match (self.reserving.since.contains_key(&id), is_on) {
            (true, false) => {
                self.charge_reserved(id);
                self.reserving.since.remove(&id);
            }
            (false, true) => {
                let now = Since { wall_ms: self.now_ms, steady_ms: self.steady_ms };
                self.reserving.since.insert(id, now);
                self.time_reserved();
            }
            _ => {}
        }
    }

    /// At start: what was reserved is reserved from now on. Time without a daemon costs nothing.
    pub(super) fn begin_reservations(&mut self) {
        for id in self.state.services.keys().copied().collect::<Vec<_>>() {
            self.note_reserved(id);
        }
    }

    /// An hour or a day is over.
    pub(super) fn look_reserved(&mut self) {
        self.reserving.is_timed = false;
        self.charge_all_reserved();
        self.time_reserved();
    }

    /// Charges all of them up to now.
    pub(super) fn charge_all_reserved(&mut self) {
        for id in self.reserving.since.keys().copied().collect::<Vec<_>>() {
            self.charge_reserved(id);
        }
    }

    fn time_reserved(&mut self) {
        if self.reserving.since.is_empty() || self.reserving.is_timed {
            return;
        }
        self.reserving.is_timed = true;
        let midnight_ms = clock::day_after_ms(self.now_ms, &self.state.fixed.zone);
        let after_ms = ROW_MS.min((midnight_ms - self.now_ms).max(1) as u64);
        self.effects.push(Effect::LookReserved { after_ms });
    }

    /// Charges the time since the last row; its length is of the steady clock, its days are of the wall's.
    fn charge_reserved(&mut self, id: ServiceId) {
        let now = Since { wall_ms: self.now_ms, steady_ms: self.steady_ms };
        let Some(since) = self.reserving.since.get_mut(&id) else { return };
        let before = std::mem::replace(since, now);
        let length_ms = (now.steady_ms - before.steady_ms).max(0) as u64;
        let zone = self.state.fixed.zone.clone();
        if clock::day(before.wall_ms, &zone) == clock::day(now.wall_ms, &zone) {
            self.put_reserved(id, before.wall_ms, now.wall_ms, length_ms);
            return;
        }
        let midnight_ms = clock::day_of_ms(now.wall_ms, &zone);
        let today_ms = length_ms.min((now.wall_ms - midnight_ms).max(0) as u64);
        // The end of a day belongs to it: one millisecond before midnight.
        self.put_reserved(id, before.wall_ms, midnight_ms - 1, length_ms - today_ms);
        self.put_reserved(id, midnight_ms, now.wall_ms, today_ms);
    }

    fn put_reserved(&mut self, id: ServiceId, began_at_ms: i64, ended_at_ms: i64, reserved_ms: u64) {
        let Some(Reserved { application, hour_micros }) = self.state.services.get(&id).and_then(|s| s.reserved) else {
            return;
        };
        if reserved_ms == 0 {
            return;
        }
        let row = ReservedRow {
            id: clock::new_id(),
            application,
            service: id,
            began_at_ms,
            ended_at_ms,
            day: clock::day(ended_at_ms, &self.state.fixed.zone),
            reserved_ms,
            hour_micros,
            amount: reserved_amount(reserved_ms, hour_micros),
        };
        self.writes.put(Table::Reserved, key(&[application.bytes(), row.id.bytes()]), codec::row(&row));
        self.sums.add_reserved(&row, &mut self.writes);
        Arc::make_mut(&mut self.state.reserved).entry(application).or_default().add(&row);
        self.publish_left(application);
        self.dirty.insert(Subject::Application(application));
    }
}
