//! Reads what was used out of the sums: pages of lines, told apart by day, application, service, user and key. Never here:
//! adding anything, invoices (`invoice`), rows one by one (`stats`).

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};

use hone_protocol::application::{ApplicationRecord, Usage};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::ServiceId;
use hone_protocol::request::ROWS_MAX;
use hone_protocol::usage::{ComputeUsage, ReservedUsage, UsageBy, UsageLine, UsagePage, UsageQuery};

use crate::clock;
use crate::state::State;
use crate::store::{Store, StoreError, Table, after, codec, key};
use crate::sums::{ComputeKey, DayKey, ReservedKey, UserKey};

/// Lines that one question may come to over all pages. Beyond it the question is refused: it would hold too much at once.
const LINES_MAX: usize = 100_000;
/// Bytes of `YYYY-MM`.
const MONTH_BYTES: usize = 7;

/// What a line is told apart by, in the order in which lines come.
type Apart = [Option<String>; 5];

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(FailureCode::Internal, error.to_string())
    }
}

/// Reads on a thread that may wait.
pub(crate) async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err(Failure::new(FailureCode::Internal, "reading the ledger panicked")))
}

/// First and last billing day of a question.
pub(crate) fn days(state: &State, from: &str, to: &str) -> Result<(String, String), Failure> {
    let today = clock::day(clock::now_ms(), &state.fixed.zone);
    let first = || format!("{}-01", today.get(..MONTH_BYTES).unwrap_or_default());
    let from = if from.is_empty() { first() } else { from.to_owned() };
    let to = if to.is_empty() { today.clone().max(from.clone()) } else { to.to_owned() };
    for (place, day) in [("from", &from), ("to", &to)] {
        if !clock::is_day(day) {
            return Err(Failure::field(place, format!("{day:?} is no day; write it as YYYY-MM-DD")));
        }
    }
    if from > to {
        return Err(Failure::field("from", format!("{from} is after {to}")));
    }
    Ok((from, to))
}

/// The applications that are meant by a name; all of them by none.
fn applications<'s>(state: &'s State, name: &str) -> Result<Vec<&'s ApplicationRecord>, Failure> {
    match name {
        "" => Ok(state.applications.values().map(|a| &**a).collect()),
        name => Ok(vec![state.application(name)?]),
    }
}

/// Names of services by identity, each looked up once.
struct Names<'s> {
    state: &'s State,
    known: HashMap<ServiceId, String>,
}

impl Names<'_> {
    fn of(&mut self, id: ServiceId) -> &str {
        self.known.entry(id).or_insert_with(|| self.state.service_name(id))
    }
}

/// The range of keys of an application's days.
pub(crate) fn range(application: &ApplicationRecord, from: &str, to: &str) -> (Vec<u8>, Vec<u8>) {
    let of = |day: &str| key(&[application.id.bytes(), day.as_bytes()]);
    (of(from), after(&of(to)))
}

/// A page of usage.
pub(crate) fn page(store: &Store, state: &State, query: &UsageQuery) -> Result<UsagePage, Failure> {
    let (from, to) = days(state, &query.from, &query.to)?;
    let is_known = |s: &str| state.services.values().chain(state.former_services.values()).any(|r| r.name == s);
    if !query.service.is_empty() && !is_known(&query.service) {
        return Err(Failure::not_found("service", &query.service));
    }
    let applications = applications(state, &query.application)?;
    let mut lines: BTreeMap<Apart, Usage> = BTreeMap::new();
    let mut total = Usage::default();
    let mut names = Names { state, known: HashMap::new() };
    for application in &applications {
        gather(store, application, (&from, &to), query, &mut names, |apart, usage| {
            total.merge(&usage);
            lines.entry(apart).or_default().merge(&usage);
            match lines.len() > LINES_MAX {
                true => {
                    Err(Failure::field("by", format!("that would be more than {LINES_MAX} lines; name fewer days")))
                }
                false => Ok(()),
            }
        })?;
    }
    let begin = match query.after.as_str() {
        "" => Bound::Unbounded,
        text => Bound::Excluded(read_place(text)?),
    };
    let count = query.count.clamp(1, ROWS_MAX) as usize;
    let mut rest = lines.range((begin, Bound::Unbounded));
    let page: Vec<(&Apart, &Usage)> = rest.by_ref().take(count).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|(apart, _)| write_place(apart));
    let compute = match query.service.is_empty() {
        true => Some(compute(store, &applications, &from, &to)?),
        false => None,
    };
    let mut reserved = ReservedUsage::default();
    for application in &applications {
        each_reserved(store, application, &from, &to, |key, usage| {
            if query.service.is_empty() || query.service == state.service_name(key.service) {
                reserved.merge(&usage);
            }
        })?;
    }
    let lines = page.into_iter().map(|(apart, usage)| {
        let [day, application, service, user, key] = apart.clone();
        UsageLine { day, application, service, user, key, usage: *usage }
    });
    let (zone, currency) = (state.fixed.zone.clone(), state.fixed.currency.clone());
    Ok(UsagePage { from, to, zone, currency, lines: lines.collect(), next, total, compute, reserved })
}

/// Shows what an application used on some days, told apart as the question wants it.
fn gather(
    store: &Store,
    application: &ApplicationRecord,
    (from, to): (&str, &str),
    query: &UsageQuery,
    names: &mut Names<'_>,
    mut take: impl FnMut(Apart, Usage) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let by = |wanted| query.by.contains(&wanted);
    let is_fine = by(UsageBy::User) || by(UsageBy::Key);
    let table = if is_fine { Table::UserSums } else { Table::Sums };
    let (first, end) = range(application, from, to);
    store.visit(table, (&first, &end), false, |key, value| {
        let damaged = || Failure::new(FailureCode::Internal, format!("a key of {} is damaged", table.name()));
        let (day, service, by_key, user) = match is_fine {
            true => UserKey::read(key).map(|k| (k.day, k.service, k.key, k.user)).ok_or_else(damaged)?,
            false => DayKey::read(key).map(|k| (k.day, k.service, None, String::new())).ok_or_else(damaged)?,
        };
        let service = names.of(service);
        if query.service.is_empty() || query.service == service {
            let apart = [
                by(UsageBy::Day).then_some(day),
                by(UsageBy::Application).then(|| application.name.clone()),
                by(UsageBy::Service).then(|| service.to_owned()),
                by(UsageBy::User).then_some(user),
                by(UsageBy::Key).then(|| by_key.map_or(String::new(), |key| key.to_string())),
            ];
            take(apart, codec::read(table, key, value)?)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Computing of some applications on some days.
fn compute(store: &Store, applications: &[&ApplicationRecord], from: &str, to: &str) -> Result<ComputeUsage, Failure> {
    let mut all = ComputeUsage::default();
    for application in applications {
        each_compute(store, application, from, to, |_, usage| all.merge(&usage))?;
    }
    Ok(all)
}

/// Shows sums of computing of an application.
pub(crate) fn each_compute(
    store: &Store,
    application: &ApplicationRecord,
    from: &str,
    to: &str,
    mut take: impl FnMut(ComputeKey, ComputeUsage),
) -> Result<(), Failure> {
    let (first, end) = range(application, from, to);
    store.visit(Table::ComputeSums, (&first, &end), false, |key, value| {
        let usage = codec::read(Table::ComputeSums, key, value)?;
        if let Some(key) = ComputeKey::read(key) {
            take(key, usage);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Shows sums of reserved time of an application.
pub(crate) fn each_reserved(
    store: &Store,
    application: &ApplicationRecord,
    from: &str,
    to: &str,
    mut take: impl FnMut(ReservedKey, ReservedUsage),
) -> Result<(), Failure> {
    let (first, end) = range(application, from, to);
    store.visit(Table::ReservedSums, (&first, &end), false, |key, value| {
        let usage = codec::read(Table::ReservedSums, key, value)?;
        if let Some(key) = ReservedKey::read(key) {
            take(key, usage);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Where a page ended, as a text that addresses can hold.
fn write_place(apart: &Apart) -> String {
    let json = serde_json::to_vec(apart).unwrap_or_default();
    json.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_place(text: &str) -> Result<Apart, Failure> {
    let wrong = || Failure::field("after", "this is no place that a page ended at");
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    serde_json::from_slice(&bytes.ok_or_else(wrong)?).map_err(|_| wrong())
}
