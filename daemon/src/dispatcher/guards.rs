//! Guards: setting and removing them, and counting what they found, by day, service and application. Never here: looking.

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::guard::{GUARDS_MAX, GuardCounts, GuardHit, GuardRecord, GuardSpec};
use hone_protocol::id::{ApplicationId, ServiceId};
use hone_protocol::request::Answer;

use super::Decider;
use super::commands::check_name;
use crate::clock;
use crate::guards;
use crate::store::{Store, StoreError, Table, codec, key};

/// Bytes of `YYYY-MM-DD`.
const DAY_BYTES: usize = 10;

/// The key of what a guard found. A name holds no zero byte.
pub(crate) fn guard_sum_key(guard: &str, day: &str, service: ServiceId, application: ApplicationId) -> Vec<u8> {
    key(&[guard.as_bytes(), &[0], day.as_bytes(), service.bytes(), application.bytes()])
}

/// The parts of such a key.
pub(crate) fn parts_of(key: &[u8]) -> Option<(String, String, ServiceId, ApplicationId)> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let (guard, rest) = (std::str::from_utf8(&key[..end]).ok()?, &key[end + 1..]);
    let day = std::str::from_utf8(rest.get(..DAY_BYTES)?).ok()?;
    let service = ServiceId::from_bytes(rest.get(DAY_BYTES..DAY_BYTES + 16)?.try_into().ok()?);
    let application = ApplicationId::from_bytes(rest.get(DAY_BYTES + 16..)?.try_into().ok()?);
    Some((guard.to_owned(), day.to_owned(), service, application))
}

/// All sums, as stored.
pub(super) fn sums(store: &Store) -> Result<BTreeMap<Vec<u8>, GuardCounts>, StoreError> {
    let pairs = store.prefix(Table::GuardSums, b"")?;
    pairs.into_iter().map(|(key, value)| Ok((key.clone(), codec::read(Table::GuardSums, &key, &value)?))).collect()
}

/// What each guard found, of all time.
pub(crate) fn totals(store: &Store) -> Result<BTreeMap<String, GuardCounts>, StoreError> {
    let mut totals: BTreeMap<String, GuardCounts> = BTreeMap::new();
    for (key, counts) in sums(store)? {
        if let Some((guard, ..)) = parts_of(&key) {
            totals.entry(guard).or_default().merge(&counts);
        }
    }
    Ok(totals)
}

impl Decider {
    pub(super) fn set_guard(&mut self, person: &str, name: &str, spec: GuardSpec) -> Result<Answer, Failure> {
        check_name("guard", name)?;
        if !self.state.guards.contains_key(name) && self.state.guards.len() >= GUARDS_MAX {
            let message = format!("there are {GUARDS_MAX} guards already; remove one, or add to one that is there");
            return Err(Failure::new(FailureCode::InvalidRequest, message).at("name"));
        }
        for service in &spec.services {
            self.state.service(service)?;
        }
        for application in &spec.applications {
            self.state.application(application)?;
        }
        guards::check(&spec)?;
        let record =
            GuardRecord { name: name.to_owned(), spec, changed_at_ms: self.now_ms, changed_by: person.to_owned() };
        self.writes.put(Table::Guards, name.as_bytes(), codec::record(&record));
        Arc::make_mut(&mut self.state.guards).insert(name.to_owned(), Arc::new(record));
        Ok(Answer::Done)
    }

    pub(super) fn remove_guard(&mut self, name: &str) -> Result<Answer, Failure> {
        if Arc::make_mut(&mut self.state.guards).remove(name).is_none() {
            return Err(Failure::not_found("guard", name));
        }
        self.writes.delete(Table::Guards, name.as_bytes());
        Ok(Answer::Done)
    }

    /// Counts what guards found in a request.
    pub(super) fn guarded(&mut self, service: ServiceId, application: ApplicationId, hits: &[GuardHit]) {
        let day = clock::day(self.now_ms, &self.state.fixed.zone);
        for hit in hits {
            let key = guard_sum_key(&hit.guard, &day, service, application);
            let sum = self.guard_sums.entry(key.clone()).or_default();
            sum.add(hit);
            self.writes.put(Table::GuardSums, key, codec::row(sum));
            Arc::make_mut(&mut self.state.guard_counts).entry(hit.guard.clone()).or_default().add(hit);
            self.alert_guard(service, application, hit);
        }
    }
}
