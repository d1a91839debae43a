//! Carrying out effects: on the committing thread, hence without waiting; what takes time goes to a task.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hone_protocol::id::JobId;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::desk::ServiceDesk;
use crate::dispatcher::effect::{Effect, StopHow};
use crate::dispatcher::event::Event;
use crate::dispatcher::{Events, Perform};
use crate::guards::GuardTable;
use crate::jobs::attempt::{self, Context, job_folder};
use crate::jobs::kept;
use crate::request_log::RequestLog;
use crate::store::Store;
use crate::workers::hooks::Messenger;
use crate::workers::serving::Keeper;

/// Carries out effects.
pub(crate) struct Performer {
    /// Runs tasks.
    pub runtime: Handle,
    /// Keeps serving processes, and holds what attempts share with them.
    pub keeper: Keeper,
    /// Tells hooks.
    pub messenger: Messenger,
    /// For what earlier attempts stored.
    pub store: Arc<Store>,
    /// Takes delayed events.
    pub events: Events,
    /// Where requests are logged.
    pub log: RequestLog,
    /// Guards that are compiled already.
    pub guards: GuardTable,
    /// Told the exit status.
    pub exit: mpsc::UnboundedSender<u8>,
    /// The wish to stop of each running attempt.
    pub attempts: HashMap<JobId, watch::Sender<Option<StopHow>>>,
}

impl Perform for Performer {
    fn perform(&mut self, effect: Effect) {
        // A receiver that went away wants no answer.
        match effect {
            Effect::Reply(to, answer) => drop(to.send(answer)),
            Effect::Opened(to, allowance) => drop(to.send(Ok(allowance))),
            Effect::Closed(to, row) => drop(to.send(Ok(*row))),
            Effect::Marked(mark, tokens) => mark.raise(tokens),
            Effect::Durable(done) => drop(done.send(())),
            Effect::StartAttempt(job) => {
                let (wish, stop) = watch::channel(None);
                self.attempts.retain(|_, wish| !wish.is_closed());
                self.attempts.insert(job.id, wish);
                let context = Context {
                    job,
                    state: self.keeper.hub.state(),
                    places: self.keeper.places.clone(),
                    store: self.store.clone(),
                    spawner: self.keeper.spawner.clone(),
                    events: self.events.clone(),
                    desk: ServiceDesk {
                        hub: self.keeper.hub.clone(),
                        events: self.events.clone(),
                        serving: self.keeper.table.clone(),
                        store: self.store.clone(),
                        places: self.keeper.places.clone(),
                        guards: self.guards.clone(),
                        log: self.log.clone(),
                    },
                    stop,
                    far: None,
                };
                self.runtime.spawn(attempt::run(context));
            }
            Effect::StopAttempt(job, how) => {
                if let Some(wish) = self.attempts.get(&job) {
                    let _ = wish.send(Some(how));
                }
            }
            Effect::StartServing(start) => {
                let _inside = self.runtime.enter();
                self.keeper.start(start);
            }
            Effect::AddAdapter { base, adapter } => {
                let _inside = self.runtime.enter();
                self.keeper.add_adapter(base, adapter);
            }
            Effect::DropAdapter { base, adapter } => self.keeper.drop_adapter(base, adapter),
            Effect::StopServing(base) => self.keeper.table.stop(base),
            Effect::RetryServing { base, generation, after_ms } => {
                let events = self.events.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    events.post(Event::RetryServing { base, generation }).await;
                });
            }
            Effect::Awake(to) => drop(to.send(Ok(()))),
            Effect::LookIdle { service, after_ms } => {
                let events = self.events.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    events.post(Event::LookIdle { service }).await;
                });
            }
            Effect::LookRetired { after_ms } => {
                let events = self.events.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    events.post(Event::LookRetired).await;
                });
            }
            Effect::Deliver(delivering) => drop(self.runtime.spawn(self.messenger.clone().deliver(*delivering))),
            Effect::RetryDelivery { hook, alert, after_ms } => {
                let events = self.events.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    events.post(Event::RetryDelivery { hook, alert }).await;
                });
            }
            Effect::CleanJob { job, keep_result } => {
                let folder = job_folder(&self.keeper.places, job);
                self.runtime.spawn_blocking(move || kept::clean(&folder, keep_result));
            }
            Effect::FileDone(to) | Effect::Heard(to) => drop(to.send(Ok(()))),
            Effect::ClearLog(application) => self.log.clear(application),
            Effect::SweepLog => self.log.sweep(&self.keeper.hub.state(), crate::clock::now_ms()),
            Effect::RemoveFile(file) => {
                let path = self.keeper.places.files().join(file.to_string());
                // What cannot be removed now has no record, and is removed at the next start.
                self.runtime.spawn_blocking(move || drop(std::fs::remove_file(path)));
            }
            Effect::RemoveWeights(name) => {
                let path = self.keeper.places.models.join(name);
                // What cannot be removed now is tried again at the next start.
                self.runtime.spawn_blocking(move || drop(std::fs::remove_file(path)));
            }
            Effect::RemoveSegment(hash) => {
                let path = hone_data::segment_path(&self.keeper.places.blobs, &hash);
                // What cannot be removed now is tried again at the next start.
                self.runtime.spawn_blocking(move || drop(std::fs::remove_file(path)));
            }
            Effect::RemoveFarFolder(folder) => {
                // What cannot be removed lies in a folder of the person's own.
                self.runtime.spawn_blocking(move || drop(std::fs::remove_dir_all(folder)));
            }
            Effect::LookReserved { after_ms } => {
                let events = self.events.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    events.post(Event::LookReserved).await;
                });
            }
            Effect::Exit(status) => drop(self.exit.send(status)),
        }
    }
}
