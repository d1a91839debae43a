//! The one thread that decides. It drains what is waiting, decides all of it in memory, hands the changes to
//! the committing thread, and decides the next drain while that one is committed. Effects, replies and
//! publications happen only after the commit. Never here: I/O other than handing over, or waiting for anyone.

mod alerts;
mod applications;
mod apply;
mod attempts;
mod batches;
mod commands;
mod compute;
mod dataset_versions;
pub mod effect;
pub mod event;
mod following;
mod guards;
mod hooks;
mod judgements;
pub mod labelling;
mod ledger;
mod limits;
mod log;
mod marks;
mod people;
mod pools;
mod produce;
mod promotion;
mod reserved;
mod services;
mod serving;
mod sleep;
mod slurm;
mod standards;
#[cfg(test)]
mod tests;
mod trash;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hone_protocol::event::Change;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::guard::GuardCounts;
use hone_protocol::id::*;
use hone_protocol::job::JobState;
use hone_protocol::request::AuditRow;
use hone_protocol::value::Hash;

use crate::clock::{self, Moment};
use crate::hub::Hub;
use crate::labelling::desk::Desk;
use crate::state::State;
use crate::store::{Store, StoreError, Table, Writes, codec};
use crate::sums::Sums;
use effect::Effect;
use event::Event;

pub(crate) use attempts::{metric_key, sample_key};
pub(crate) use batches::{batch_key, batch_prefix};
pub(crate) use dataset_versions::has as has_segment;
pub(crate) use guards::{parts_of as guard_sum_parts, totals as guard_totals};
pub(crate) use ledger::ledger_key;
pub use limits::{Allowance, Room};
pub(crate) use promotion::{move_key, report as gate_report};
pub(crate) use standards::candidate_key;

/// The prefix of an application's ledger rows.
pub(crate) fn ledger_prefix(application: ApplicationId) -> Vec<u8> {
    application.bytes().to_vec()
}

/// Events that may wait for the dispatcher; at the bound the sender waits.
pub const EVENTS_WAITING_MAX: usize = 4096;
/// Events decided together at most.
const DRAIN_MAX: usize = 512;
/// A job's progress is published at most this often.
const PROGRESS_MS: u64 = 100;
/// How long an idempotency id is remembered.
const ONCE_KEPT_MS: i64 = 7 * 24 * 3600 * 1000;

/// The dispatcher's door. Cheap to clone.
#[derive(Clone)]
pub struct Events(SyncSender<Event>);

impl Events {
    /// Hands over an event from a plain thread; waits while the queue is full.
    pub fn send(&self, event: Event) {
        // The dispatcher ends only with the process.
        let _ = self.0.send(event);
    }

    /// Hands over an event from a task. When the queue is full the wait happens on a blocking thread.
    pub async fn post(&self, event: Event) {
        if let Err(std::sync::mpsc::TrySendError::Full(event)) = self.0.try_send(event) {
            let sender = self.0.clone();
            let _ = tokio::task::spawn_blocking(move || sender.send(event)).await;
        }
    }
}

/// Makes the door and what is behind it.
pub fn door() -> (Events, Receiver<Event>) {
    let (sender, receiver) = sync_channel(EVENTS_WAITING_MAX);
    (Events(sender), receiver)
}

/// What changed, by identity; the view is built once per drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Model(ModelId),
    Dataset(DatasetId),
    Job(JobId),
    Service(ServiceId),
    Application(ApplicationId),
    Suite(SuiteId),
    Evaluation(EvaluationId),
    Machine,
    Pools,
    Hook(HookId),
    Alert(AlertId),
}

/// An answer that is remembered for a repeated request.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Remembered {
    at_ms: i64,
    payload: Hash,
    answer: Result<hone_protocol::request::Answer, Failure>,
}

/// Decides. All mutable state of the daemon's facts is here.
pub(crate) struct Decider {
    pub(crate) state: State,
    pub(crate) writes: Writes,
    pub(crate) effects: Vec<Effect>,
    pub(crate) dirty: BTreeSet<Subject>,
    /// Projects of labelling that changed.
    dirty_projects: BTreeSet<String>,
    /// The wall's clock, Unix milliseconds: for what people read.
    pub(crate) now_ms: i64,
    /// A clock that is never set: for how long something took and when a window ends.
    steady_ms: i64,
    /// Jobs that are neither done nor given up, oldest first.
    pub(crate) queued: BTreeSet<JobId>,
    remembered: BTreeMap<Hash, Remembered>,
    audit_seq: u64,
    /// Sums over closed rows, as stored.
    sums: Sums,
    /// What guards found, as stored.
    guard_sums: BTreeMap<Vec<u8>, GuardCounts>,
    /// What limits and budgets look at.
    begins: limits::Begins,
    /// When the wall's clock was set.
    marks: marks::Marks,
    /// When each service was last asked, by the steady clock.
    used_at_ms: BTreeMap<ServiceId, i64>,
    /// Services for which a look at their idleness is under way.
    looks: BTreeSet<ServiceId>,
    /// The number of the newest serving process.
    generation: u64,
    /// Versions that answered until others took over, while requests may still be on their way to them.
    retiring: BTreeMap<VersionId, following::Retiring>,
    /// Adapters that could not be loaded.
    failed_adapters: BTreeMap<VersionId, Failure>,
    /// Who moved an alias to a version, since the daemon started.
    movers: BTreeMap<VersionId, String>,
    /// The number of the next move of an alias.
    moves: u64,
    /// Alerts that wait for hooks.
    deliveries: hooks::Deliveries,
    /// What alerts look at.
    watch: alerts::Watch,
    /// Adapters that a serving process was asked to load.
    asked_adapters: BTreeSet<(u64, VersionId)>,
    /// Time of reserved services that no row of the ledger has yet.
    reserving: reserved::Reserving,
    /// Projects of labelling at work.
    desks: BTreeMap<String, Desk>,
    progress_at: BTreeMap<JobId, Instant>,
    /// Jobs whose progress waits for its time.
    held_back: BTreeSet<JobId>,
}

impl Decider {
    pub(crate) fn new(state: State, store: &Store, now: Moment) -> Result<Decider, StoreError> {
        let last = store.range(Table::Audit, &[], &[u8::MAX; 9], true, 1)?;
        let audit_seq = match last.first() {
            Some((key, value)) => codec::read::<AuditRow>(Table::Audit, key, value)?.seq + 1,
            None => 0,
        };
        let mut remembered = BTreeMap::new();
        for (key, value) in store.prefix(Table::Idempotency, b"")? {
            if let Ok(bytes) = <[u8; 32]>::try_from(key.as_slice()) {
                remembered.insert(Hash(bytes), codec::read(Table::Idempotency, &key, &value)?);
            }
        }
        let queued = state.jobs.values().filter(|j| j.state == JobState::Queued).map(|j| j.id).collect();
        let mut decider = Decider {
            state,
            writes: Writes::default(),
            effects: Vec::new(),
            dirty: BTreeSet::new(),
            dirty_projects: BTreeSet::new(),
            desks: BTreeMap::new(),
            now_ms: now.wall_ms,
            steady_ms: now.steady_ms,
            queued,
            remembered,
            audit_seq,
            sums: Sums::load(store)?,
            guard_sums: guards::sums(store)?,
            begins: limits::Begins::default(),
            marks: marks::Marks::default(),
            used_at_ms: BTreeMap::new(),
            looks: BTreeSet::new(),
            generation: 0,
            retiring: BTreeMap::new(),
            failed_adapters: BTreeMap::new(),
            movers: BTreeMap::new(),
            moves: promotion::next_move(store)?,
            deliveries: hooks::waiting(store)?,
            watch: alerts::Watch::default(),
            asked_adapters: BTreeSet::new(),
            reserving: reserved::Reserving::default(),
            progress_at: BTreeMap::new(),
            held_back: BTreeSet::new(),
        };
        decider.forget_old_answers();
        decider.make_owner();
        decider.watch();
        decider.close_cut_rows(store)?;
        decider.recall_begins(store)?;
        decider.set_up_desks(store)?;
        decider.note_clocks();
        decider.resolve_wishes();
        decider.finish_removals();
        decider.finish_row_removals();
        decider.sleep_until_asked();
        decider.adopt_slurm();
        decider.begin_reservations();
        decider.go_on_delivering();
        decider.arrange();
        Ok(decider)
    }

    /// Decides one event that came at a moment.
    pub(crate) fn decide(&mut self, event: Event, now: Moment) {
        (self.now_ms, self.steady_ms) = (now.wall_ms, now.steady_ms);
        self.note_clocks();
        match event {
            Event::Request { person, once, request, reply } => self.request(&person, once, *request, reply),
            Event::Attempt { job, number, fact, done } => self.attempt_fact(job, number, fact, done),
            Event::AttemptEnded { job, number, end } => self.attempt_ended(job, number, end),
            Event::Serving { base, generation, fact } => self.serving_fact(base, generation, fact),
            Event::RetryServing { base, generation } => self.retry_serving(base, generation),
            Event::Wake { service, reply } => self.wake(service, reply),
            Event::LookIdle { service } => self.look_idle(service),
            Event::LookRetired => self.look_retired(),
            Event::OpenRow { row, tokens_most, reply } => self.open_row(*row, tokens_most, reply),
            Event::Watermark { id, prompt_tokens, cached_tokens, tokens, mark } => {
                self.watermark(id, prompt_tokens, cached_tokens, tokens, mark);
            }
            Event::CloseRow { id, close, reply } => self.close_row(id, close, reply),
            Event::Counted { id, prompt_tokens, answer_most } => self.counted(id, prompt_tokens, answer_most),
            Event::Knock { application, reply } => drop(reply.send(self.knock(application))),
            Event::BatchRow { job, number, kept, done } => self.keep_batch_row(job, number, *kept, done),
            Event::File { wish, reply } => self.file_wish(wish, reply),
            Event::Guarded { service, application, hits } => self.guarded(service, application, &hits),
            Event::LeaveDesk { person, project, session } => {
                if let Some(desk) = self.desks.get_mut(&project) {
                    desk.leave(&person, session);
                }
            }
            Event::HandOut { person, project, session, held, count, reply } => {
                self.hand_out(&person, (&project, session), &held, count, reply);
            }
            Event::Feedback { record, reply } => self.keep_feedback(*record, reply),
            Event::Delivered { hook, alert, outcome, ms } => self.delivered(hook, alert, outcome, ms),
            Event::RetryDelivery { hook, alert } => self.deliver(hook, alert),
            Event::DiskFree(bytes) => self.note_disk(bytes),
            Event::Machine(machine) => {
                self.note_disk(machine.disk_free_bytes);
                self.state.machine = Arc::new(machine);
                self.dirty.insert(Subject::Machine);
            }
            Event::Http(addresses) => self.state.http = Arc::new(addresses),
            Event::LookReserved => self.look_reserved(),
            Event::EmptyTrash => {
                self.empty_trash();
                self.empty_dataset_trash();
                self.meter_serving_of_all();
            }
            Event::Stop => self.stop(),
            Event::StopNow => self.effects.push(Effect::Exit(0)),
        }
    }

    /// Lets what follows from the new facts happen: jobs start, serving processes come and go, a stop completes.
    pub(crate) fn arrange(&mut self) {
        self.schedule();
        self.follow();
        self.arrange_serving();
        if self.state.stopping && self.state.attempts.is_empty() && self.state.open_rows.is_empty() {
            self.effects.push(Effect::Exit(0));
        }
    }

    fn stop(&mut self) {
        if self.state.stopping {
            return;
        }
        self.state.stopping = true;
        self.charge_all_reserved();
        let running: Vec<JobId> = self.state.attempts.keys().copied().collect();
        for job in running {
            if self.leave_slurm(job) {
                continue;
            }
            self.effects.push(Effect::StopAttempt(job, effect::StopHow::AtCheckpoint));
        }
    }

    /// Notes who did what.
    pub(crate) fn audit(&mut self, person: &str, verb: &str, subject: &str) {
        let row = AuditRow {
            seq: self.audit_seq,
            at_ms: self.now_ms,
            person: person.to_owned(),
            verb: verb.to_owned(),
            subject: subject.to_owned(),
        };
        self.writes.put(Table::Audit, row.seq.to_be_bytes(), codec::record(&row));
        self.audit_seq += 1;
    }

    fn forget_old_answers(&mut self) {
        let limit = self.now_ms - ONCE_KEPT_MS;
        let old: Vec<Hash> = self.remembered.iter().filter(|(_, r)| r.at_ms < limit).map(|(k, _)| *k).collect();
        for key in old {
            self.remembered.remove(&key);
            self.writes.delete(Table::Idempotency, key.0);
        }
    }

    /// The views of what changed. Progress of a job is held back when its last one is too young.
    fn changes(&mut self) -> Vec<Change> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.extend(std::mem::take(&mut self.held_back).into_iter().map(Subject::Job));
        let mut changes = Vec::new();
        for subject in dirty {
            if let Subject::Job(job) = subject {
                let young =
                    self.progress_at.get(&job).is_some_and(|at| at.elapsed() < Duration::from_millis(PROGRESS_MS));
                if young && self.state.attempts.contains_key(&job) {
                    self.held_back.insert(job);
                    continue;
                }
                self.progress_at.insert(job, Instant::now());
                if !self.state.attempts.contains_key(&job) {
                    self.progress_at.remove(&job);
                }
            }
            changes.extend(self.change(subject));
        }
        let projects = std::mem::take(&mut self.dirty_projects);
        let views = projects.iter().filter_map(|name| self.state.project_view(name));
        changes.extend(views.map(|view| Change::Project(Box::new(view))));
        changes
    }

    fn change(&self, subject: Subject) -> Option<Change> {
        let state = &self.state;
        match subject {
            Subject::Model(id) => state.model_view(id).map(Change::Model),
            Subject::Dataset(id) => state.dataset_view(id).map(Change::Dataset),
            Subject::Job(id) => state.job_view(id).map(|v| Change::Job(Box::new(v))),
            Subject::Service(id) => match state.service_view(id) {
                Some(view) => Some(Change::Service(Box::new(view))),
                None => Some(Change::ServiceGone(id)),
            },
            Subject::Application(id) => state.application_view(id).map(Change::Application),
            Subject::Suite(id) => state.suites.get(&id).map(|s| Change::Suite((**s).clone())),
            Subject::Evaluation(id) => state.evaluations.get(&id).map(|e| Change::Evaluation((**e).clone())),
            Subject::Pools => Some(Change::Pools(state.pool_views())),
            Subject::Hook(id) => match state.hooks.get(&id) {
                Some(hook) => Some(Change::Hook((**hook).clone())),
                None => Some(Change::HookGone(id)),
            },
            Subject::Alert(id) => state.alerts.get(&id).map(|alert| Change::Alert((**alert).clone())),
            Subject::Machine => Some(Change::Machine((*state.machine).clone())),
        }
    }
}

/// What one drain decided.
struct Drain {
    writes: Writes,
    effects: Vec<Effect>,
    changes: Vec<Change>,
    state: State,
}

/// Carries out effects. Called on the committing thread, so it must not wait.
pub trait Perform: Send + 'static {
    /// Does one thing.
    fn perform(&mut self, effect: Effect);
}

/// Runs the dispatcher until the process ends. `store` has been loaded into `state`.
pub fn run(
    state: State,
    store: Arc<Store>,
    hub: Arc<Hub>,
    events: Receiver<Event>,
    perform: impl Perform,
) -> Result<(), StoreError> {
    let decider = Decider::new(state, &store, clock::moment())?;
    // One drain waits while one commits: the dispatcher decides batch N+1 during the commit of batch N.
    let (drains, queue) = sync_channel::<Drain>(1);
    let committer = std::thread::Builder::new()
        .name("committer".into())
        .spawn(move || commit_all(&store, &hub, queue, perform))
        .map_err(|e| StoreError::Write(e.to_string()))?;
    std::thread::Builder::new()
        .name("dispatcher".into())
        .spawn(move || decide_all(decider, events, drains))
        .map_err(|e| StoreError::Write(e.to_string()))?;
    drop(committer);
    Ok(())
}

fn decide_all(mut decider: Decider, events: Receiver<Event>, drains: SyncSender<Drain>) {
    loop {
        let drain = Drain {
            changes: decider.changes(),
            writes: std::mem::take(&mut decider.writes),
            effects: std::mem::take(&mut decider.effects),
            state: decider.state.clone(),
        };
        if drains.send(drain).is_err() {
            return;
        }
        let first = if decider.held_back.is_empty() {
            events.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            events.recv_timeout(Duration::from_millis(PROGRESS_MS))
        };
        match first {
            Ok(event) => decider.decide(event, clock::moment()),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for _ in 1..DRAIN_MAX {
            match events.try_recv() {
                Ok(event) => decider.decide(event, clock::moment()),
                Err(_) => break,
            }
        }
        decider.arrange();
    }
}

fn commit_all(store: &Store, hub: &Hub, queue: Receiver<Drain>, mut perform: impl Perform) {
    for drain in queue {
        let saved = if drain.writes.is_empty() { Ok(()) } else { store.commit(&drain.writes) };
        if let Err(error) = saved {
            // Nothing of this drain is true. Say so to everyone who waits, and end: disk is the only judge now.
            eprintln!("honed: {error}; ending, the next start reads what is on disk");
            for effect in drain.effects {
                refuse(effect, &error, &mut perform);
            }
            perform.perform(Effect::Exit(EXIT_NOT_SAVED));
            return;
        }
        hub.publish(drain.state, drain.changes);
        for effect in drain.effects {
            perform.perform(effect);
        }
    }
}

/// Exit status after a commit that failed: `EX_IOERR` of sysexits.
const EXIT_NOT_SAVED: u8 = 74;

/// Tells those who wait for an effect of a drain that was not saved; nothing else of it happens.
fn refuse(effect: Effect, error: &StoreError, perform: &mut impl Perform) {
    let failure = Failure::new(FailureCode::NotSaved, error.to_string()).hint(HintCode::FreeDisk);
    match effect {
        Effect::Reply(to, _) => perform.perform(Effect::Reply(to, Err(failure))),
        Effect::Opened(to, _) => drop(to.send(Err(failure))),
        Effect::Awake(to) | Effect::FileDone(to) | Effect::Heard(to) => drop(to.send(Err(failure))),
        Effect::Closed(to, _) => drop(to.send(Err(failure))),
        _ => {}
    }
}
