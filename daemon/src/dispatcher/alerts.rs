//! When something is worth an alert: ends of jobs, services that go down and come back, services whose requests fail, budgets that
//! are used up, guards that found something, a disk that fills. Never here: who is told (`hooks`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hone_protocol::application::{ApplicationRecord, Budget, LedgerRow, Outcome};
use hone_protocol::failure::Failure;
use hone_protocol::guard::{GuardAct, GuardHit, GuardSide};
use hone_protocol::hook::AlertKind;
use hone_protocol::id::{ApplicationId, JobId, ServiceId, VersionId};
use hone_protocol::job::JobState;
use hone_protocol::value::Pico;

use super::Decider;

/// Shares of a budget, in percent, that are told of when they are crossed.
const SHARES: [u8; 3] = [50, 80, 100];
/// Less free disk is told of…
const DISK_LOW_BYTES: u64 = 2 << 30;
/// …and told of again only after so much was free.
const DISK_WELL_BYTES: u64 = 3 << 30;
/// Requests of a service that are looked at, the newest.
const OUTCOMES: usize = 50;
/// Older ones are not looked at.
const OUTCOMES_MS: i64 = 5 * 60_000;
/// So many of them must have failed…
const ERRORS_MIN: usize = 5;
/// …and one in so many.
const ERRORS_SHARE: usize = 5;
/// Errors of a service, and what a guard finds, are told of no more often than this.
const QUIET_MS: i64 = 60_000;

/// What was seen since the daemon started.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// Whether alerts are made: not while the facts are read.
    is_on: bool,
    down: BTreeSet<ServiceId>,
    outcomes: BTreeMap<ServiceId, VecDeque<(i64, bool)>>,
    /// The largest share of its budget that an application crossed.
    shares: BTreeMap<ApplicationId, u8>,
    said_at_ms: BTreeMap<(AlertKind, ServiceId), i64>,
    /// When each guard was told of last.
    guards_said_at_ms: BTreeMap<String, i64>,
    disk_is_low: bool,
}

impl Decider {
    /// From now on alerts are made; what budgets are at is known and told of no more.
    pub(super) fn watch(&mut self) {
        for application in self.state.applications.values().cloned().collect::<Vec<_>>() {
            let left = self.budget_left(&application);
            self.note_budget(&application, left);
        }
        self.watch.is_on = true;
    }

    /// A job ended.
    pub(super) fn alert_end(&mut self, id: JobId) {
        let Some(job) = self.state.jobs.get(&id).cloned() else { return };
        let kind = job.spec.kind();
        let (alert, how) = match &job.state {
            JobState::Queued => return,
            JobState::Succeeded(_) => (AlertKind::JobSucceeded, "succeeded".to_owned()),
            JobState::Failed(failure) => (AlertKind::JobFailed, format!("failed: {}", failure.message_en)),
            JobState::Cancelled => (AlertKind::JobCancelled, "was cancelled".to_owned()),
        };
        let facts = [("job", id.to_string()), ("kind", kind.to_owned()), ("person", job.person.clone())];
        self.alert(alert, &id.to_string(), format!("the {kind} job {id} {how}"), &facts);
    }

    /// Whether a service may be told of now.
    fn may_say(&mut self, kind: AlertKind, service: ServiceId) -> bool {
        let last = self.watch.said_at_ms.get(&(kind, service));
        let may = last.is_none_or(|last| self.steady_ms - last >= QUIET_MS);
        if may {
            self.watch.said_at_ms.insert((kind, service), self.steady_ms);
        }
        may
    }

    /// The process of a base ended by itself.
    pub(super) fn alert_down(&mut self, base: VersionId, failure: &Failure) {
        for id in self.services_on(base) {
            let Some(service) = self.state.services.get(&id).cloned() else { continue };
            if self.watch.down.insert(id) {
                let message = format!("service {} is down: {}", service.name, failure.message_en);
                self.alert(AlertKind::ServiceDown, &service.name, message, &[("reason", failure.message_en.clone())]);
            }
        }
    }

    /// The process of a base answers.
    pub(super) fn alert_up(&mut self, base: VersionId) {
        for id in self.services_on(base) {
            let Some(service) = self.state.services.get(&id).cloned() else { continue };
            if self.watch.down.remove(&id) {
                self.alert(AlertKind::ServiceUp, &service.name, format!("service {} answers again", service.name), &[]);
            }
        }
    }

    /// A request of a service ended.
    pub(super) fn alert_outcome(&mut self, row: &LedgerRow) {
        if !self.watch.is_on || row.outcome == Outcome::Disconnected {
            return;
        }
        let now_ms = self.steady_ms;
        let outcomes = self.watch.outcomes.entry(row.service).or_default();
        outcomes.push_back((now_ms, row.outcome.is_error()));
        while outcomes.len() > OUTCOMES || outcomes.front().is_some_and(|(at_ms, _)| now_ms - at_ms > OUTCOMES_MS) {
            outcomes.pop_front();
        }
        let (all, errors) = (outcomes.len(), outcomes.iter().filter(|(_, is_error)| *is_error).count());
        if !row.outcome.is_error() || errors < ERRORS_MIN || errors * ERRORS_SHARE < all {
            return;
        }
        // The count begins anew: the next alert needs as many again.
        outcomes.clear();
        if self.may_say(AlertKind::ServiceErrors, row.service) {
            let name = self.state.service_name(row.service);
            let message = format!("{errors} of the last {all} requests of service {name} failed");
            let facts = [("errors", errors.to_string()), ("requests", all.to_string())];
            self.alert(AlertKind::ServiceErrors, &name, message, &facts);
        }
    }

    /// A guard found something. What it finds within a minute is counted, and told of no more.
    pub(super) fn alert_guard(&mut self, service: ServiceId, application: ApplicationId, hit: &GuardHit) {
        let said = self.watch.guards_said_at_ms.get(&hit.guard);
        if !self.watch.is_on || said.is_some_and(|at_ms| self.steady_ms - at_ms < QUIET_MS) {
            return;
        }
        self.watch.guards_said_at_ms.insert(hit.guard.clone(), self.steady_ms);
        let application =
            self.state.applications.get(&application).map_or_else(String::new, |known| known.name.clone());
        let service = self.state.service_name(service);
        let did = match hit.act {
            GuardAct::Mask => "masked",
            GuardAct::Refuse => "refused",
            GuardAct::Flag => "flagged",
        };
        let (side, text) = match hit.side {
            GuardSide::Input => ("input", format!("what application {application} sent to service {service}")),
            GuardSide::Output => ("output", format!("what service {service} answered to application {application}")),
        };
        let message = format!("guard {} {did} {text} ({} matches)", hit.guard, hit.matches);
        let facts = [
            ("service", service),
            ("application", application),
            ("side", side.to_owned()),
            ("act", hit.act.word().to_owned()),
            ("matches", hit.matches.to_string()),
        ];
        self.alert(AlertKind::GuardHit, &hit.guard, message, &facts);
    }

    /// What is left of a budget changed.
    pub(super) fn note_budget(&mut self, application: &ApplicationRecord, left: Option<Pico>) {
        let total = match application.budget {
            Some(Budget::Prepaid { paid, .. }) => paid.0,
            Some(Budget::Monthly { amount }) => amount.0,
            None => 0,
        };
        let share = match left {
            // Nothing was paid in yet: there is nothing to use up.
            None => 0,
            Some(_) if total <= 0 => 0,
            Some(left) => {
                let used = total - left.0;
                SHARES.into_iter().rev().find(|share| used * 100 >= total * i128::from(*share)).unwrap_or(0)
            }
        };
        let before = self.watch.shares.insert(application.id, share).unwrap_or(0);
        if share > before && self.watch.is_on {
            let left = left.unwrap_or_default().rounded();
            let message = format!("application {} used {share} % of its budget; {left} is left", application.name);
            let facts = [("share_percent", share.to_string()), ("left", left)];
            self.alert(AlertKind::BudgetCrossed, &application.name, message, &facts);
        }
    }

    /// So much disk is free.
    pub(super) fn note_disk(&mut self, free_bytes: u64) {
        if free_bytes >= DISK_WELL_BYTES {
            self.watch.disk_is_low = false;
        }
        if free_bytes < DISK_LOW_BYTES && !std::mem::replace(&mut self.watch.disk_is_low, true) {
            let message = format!("{} MiB of disk are left for the state and the models", free_bytes >> 20);
            let facts = [("free_bytes", free_bytes.to_string())];
            self.alert(AlertKind::DiskLow, "disk", message, &facts);
        }
    }
}
