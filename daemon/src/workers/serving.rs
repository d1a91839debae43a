//! Serving processes: one task keeps each, hands requests to it and its words back. Tokens pass here and never
//! through the dispatcher.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::paths;
use hone_protocol::service::{ContextMemory, ServingMemory};
use hone_protocol::worker::{FromWorker, ServeTask, ToWorker};
use tokio::sync::{Notify, mpsc};

use super::line::{Child, Line, LineReader, SILENCE_MS};
use super::process::{Program, Spawner};
use super::turns::Turns;
use crate::config::Places;
use crate::dispatcher::Events;
use crate::dispatcher::effect::ServingStart;
use crate::dispatcher::event::{Event, ServingFact};
use crate::hub::Hub;
use crate::jobs::store_file;
use crate::sandbox::Paths;
use crate::store::Store;

/// Messages to a process that may wait; at the bound the asker waits.
const TO_WORKER_MAX: usize = 256;
/// Pieces of one answer that may wait for its client; longer than any context in use, and at the bound the answer
/// is ended rather than others held up.
const PIECES_MAX: usize = 16 * 1024;
/// A log of a serving process is begun anew over this size.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// One running process, as askers see it.
pub struct Serving {
    generation: u64,
    to_worker: mpsc::Sender<ToWorker>,
    requests: Mutex<HashMap<u64, mpsc::Sender<FromWorker>>>,
    adapters: Mutex<HashMap<VersionId, u32>>,
    next_request: AtomicU64,
    next_adapter: AtomicU32,
    /// Who goes first.
    pub turns: Arc<Turns>,
    stop: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Serving {
    /// Requests under way.
    pub fn open_requests(&self) -> usize {
        lock(&self.requests).len()
    }

    /// The number of an adapter; `None` when it was never loaded here.
    pub fn adapter(&self, version: VersionId) -> Option<u32> {
        lock(&self.adapters).get(&version).copied()
    }

    /// Takes a number for a request, and the channel that its words come on.
    pub fn request(&self) -> (u64, mpsc::Receiver<FromWorker>) {
        self.requests(1)
    }

    /// Takes numbers for several requests, one after the other, and the one channel that their words come on. Gives the
    /// first number.
    pub fn requests(&self, count: usize) -> (u64, mpsc::Receiver<FromWorker>) {
        let first = self.next_request.fetch_add(count as u64, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(PIECES_MAX * count);
        let mut requests = lock(&self.requests);
        requests.extend((first..first + count as u64).map(|request| (request, sender.clone())));
        (first, receiver)
    }

    /// Hands a message over; `false` when the process is gone.
    pub async fn send(&self, message: ToWorker) -> bool {
        self.to_worker.send(message).await.is_ok()
    }

    /// Ends a request that nobody waits for any more.
    pub fn forget(&self, request: u64) {
        if lock(&self.requests).remove(&request).is_some() {
            // A full queue means the worker is gone or far behind; it ends the request by itself then.
            let _ = self.to_worker.try_send(ToWorker::CancelRequest { request });
        }
    }

    /// What a process says of its memory, with versions in the place of numbers.
    fn memory(&self, weights_bytes: u64, contexts: &[(Option<u32>, u64, u64, u64)]) -> ServingMemory {
        let known = lock(&self.adapters);
        let version = |number: u32| known.iter().find(|(_, known)| **known == number).map(|(version, _)| *version);
        let context = |&(adapter, adapter_bytes, cache_bytes, cache_bytes_max): &(Option<u32>, u64, u64, u64)| {
            ContextMemory { adapter: adapter.and_then(version), adapter_bytes, cache_bytes, cache_bytes_max }
        };
        ServingMemory { weights_bytes, contexts: contexts.iter().map(context).collect() }
    }

    fn give(&self, request: u64, message: FromWorker) {
        let last = matches!(
            message,
            FromWorker::Ended { .. }
                | FromWorker::Embedded { left: 0, .. }
                | FromWorker::Refused { .. }
                | FromWorker::Scored { .. }
                | FromWorker::Spelled { .. }
                | FromWorker::Tokenizer { .. }
                | FromWorker::AdapterReady { .. }
        );
        let mut requests = lock(&self.requests);
        let Some(sender) = requests.get(&request) else { return };
        let given = sender.try_send(message).is_ok();
        if last || !given {
            requests.remove(&request);
        }
        if !given && !last {
            let _ = self.to_worker.try_send(ToWorker::CancelRequest { request });
        }
    }
}

/// All serving processes by base. Cheap to clone.
#[derive(Clone, Default)]
pub struct ServingTable {
    table: Arc<Mutex<HashMap<VersionId, Arc<Serving>>>>,
}

impl ServingTable {
    /// The process of a base, when one is there.
    pub fn get(&self, base: VersionId) -> Option<Arc<Serving>> {
        lock(&self.table).get(&base).cloned()
    }

    /// Ends the process of a base.
    pub fn stop(&self, base: VersionId) {
        if let Some(serving) = lock(&self.table).remove(&base) {
            serving.stop.notify_one();
        }
    }

    /// Ends all processes.
    pub fn stop_all(&self) {
        for (_, serving) in lock(&self.table).drain() {
            serving.stop.notify_one();
        }
    }
}

/// What keeping a process needs.
#[derive(Clone)]
pub struct Keeper {
    /// Where files are.
    pub places: Arc<Places>,
    /// The facts.
    pub hub: Arc<Hub>,
    /// Takes reports.
    pub events: Events,
    /// Starts processes.
    pub spawner: Spawner,
    /// All serving processes.
    pub table: ServingTable,
    /// For the keys of servers elsewhere.
    pub store: Arc<Store>,
}

impl Keeper {
    /// Registers a process at once, so that a stop finds it, and keeps it in a task of its own.
    pub fn start(&self, start: ServingStart) {
        let (to_worker, queue) = mpsc::channel(TO_WORKER_MAX);
        let serving = Arc::new(Serving {
            generation: start.generation,
            to_worker,
            requests: Mutex::default(),
            adapters: Mutex::default(),
            next_request: AtomicU64::new(1),
            next_adapter: AtomicU32::new(1),
            turns: Arc::default(),
            stop: Notify::new(),
        });
        if let Some(before) = lock(&self.table.table).insert(start.base, serving.clone()) {
            before.stop.notify_one();
        }
        let keeper = self.clone();
        tokio::spawn(async move { keeper.keep(start, serving, queue).await });
    }

    /// Makes an adapter known to the process of its base.
    pub fn add_adapter(&self, base: VersionId, adapter: VersionId) {
        let Some(serving) = self.table.get(base) else { return };
        let keeper = self.clone();
        tokio::spawn(async move { keeper.load_adapter(base, &serving, adapter).await });
    }

    /// An adapter is used no more; requests that it has go on to their ends.
    pub fn drop_adapter(&self, base: VersionId, adapter: VersionId) {
        let Some(serving) = self.table.get(base) else { return };
        if let Some(number) = lock(&serving.adapters).remove(&adapter) {
            // A full queue means a worker far behind: then the adapter stays until it ends, which costs memory only.
            let _ = serving.to_worker.try_send(ToWorker::DropAdapter { adapter: number });
        }
    }

    pub(super) async fn report(&self, base: VersionId, generation: u64, fact: ServingFact) {
        self.events.post(Event::Serving { base, generation, fact }).await;
    }

    async fn keep(&self, start: ServingStart, serving: Arc<Serving>, queue: mpsc::Receiver<ToWorker>) {
        let (base, generation) = (start.base, start.generation);
        let failure = tokio::select! {
            biased;
            () = serving.stop.notified() => None,
            failure = self.serve(start, &serving, queue) => Some(failure),
        };
        // Senders are dropped: whoever waits for an answer learns that the process is gone.
        lock(&serving.requests).clear();
        {
            let mut table = lock(&self.table.table);
            if table.get(&base).is_some_and(|s| s.generation == generation) {
                table.remove(&base);
            }
        }
        if let Some(failure) = failure {
            self.report(base, generation, ServingFact::Ended(failure)).await;
        }
    }

    /// Serves until the process ends; returns why. Dropping the future ends the process.
    async fn serve(&self, start: ServingStart, serving: &Arc<Serving>, mut queue: mpsc::Receiver<ToWorker>) -> Failure {
        let (process, mut reader, mut writer) = match self.open(&start).await {
            Ok(line) => line.split(),
            Err(failure) => return failure,
        };
        let send = async move {
            while let Some(message) = queue.recv().await {
                if !writer.send(&message).await {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        for adapter in start.adapters.clone() {
            self.add_adapter(start.base, adapter);
        }
        tokio::select! {
            () = send => Failure::new(FailureCode::Internal, "unreachable: sending never ends by itself"),
            failure = self.receive(&start, serving, &process, &mut reader) => failure,
        }
    }

    async fn open(&self, start: &ServingStart) -> Result<Line, Failure> {
        let log = self.places.state.join(paths::LOGS).join(format!("serve-{}.log", start.base.short()));
        if std::fs::metadata(&log).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
            let _ = std::fs::remove_file(&log);
        }
        if let Some(service) = start.upstream {
            return self.open_upstream(start, service, &log).await;
        }
        let state = self.hub.state();
        let version = state.versions.get(&start.base);
        let version = version.ok_or_else(|| Failure::not_found("version", &start.base.to_string()))?;
        let path = self.places.models.join(&version.file.path);
        store_file::unchanged(&path, &version.file)?;
        // Adapters come later, and always lie in the models folder.
        let paths = Paths::none().read(&self.places.models).read(&path);
        let cards = start.cards.clone();
        let mut line = Line::open(&self.spawner, Program::Worker("serve"), paths, cards, &log).await?;
        let task = ServeTask {
            model_path: path.display().to_string(),
            slots: start.slots,
            context_tokens: start.context_tokens,
            threads: start.threads,
        };
        line.send(&ToWorker::Serve(task)).await?;
        loop {
            match line.recv().await? {
                FromWorker::Ready { memory_bytes, .. } => {
                    self.report(start.base, start.generation, ServingFact::Ready { memory_bytes }).await;
                    return Ok(line);
                }
                FromWorker::Progress { .. } | FromWorker::Load { .. } | FromWorker::Memory { .. } => {}
                _ => return Err(Failure::new(FailureCode::BadFrame, "the serving worker did not become ready")),
            }
        }
    }

    async fn receive(
        &self,
        start: &ServingStart,
        serving: &Serving,
        process: &Child,
        reader: &mut LineReader,
    ) -> Failure {
        loop {
            let message = match tokio::time::timeout(Duration::from_millis(SILENCE_MS), reader.recv()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(failure))) => return failure,
                Ok(None) => return process.death().await,
                // An idle process has nothing to say; a busy one that is silent hangs.
                Err(_) if serving.open_requests() == 0 => continue,
                Err(_) => {
                    process.kill();
                    let message = format!("the worker answered nothing for {} s and was ended", SILENCE_MS / 1000);
                    return Failure::new(FailureCode::WorkerSilent, message).hint(HintCode::ReadLog);
                }
            };
            if let Some(failure) = process.look() {
                process.kill();
                return failure;
            }
            let request = match &message {
                FromWorker::Began { request, .. }
                | FromWorker::Piece { request, .. }
                | FromWorker::Ended { request, .. }
                | FromWorker::Refused { request, .. }
                | FromWorker::Scored { request, .. }
                | FromWorker::Echoed { request, .. }
                | FromWorker::Prompted { request, .. }
                | FromWorker::Spelled { request, .. }
                | FromWorker::Tokenizer { request, .. }
                | FromWorker::Embedded { request, .. }
                | FromWorker::Counted { request, .. }
                | FromWorker::AdapterReady { request } => *request,
                FromWorker::Load { active, waiting, memory_bytes } => {
                    let fact = ServingFact::Load { active: *active, waiting: *waiting, memory_bytes: *memory_bytes };
                    self.report(start.base, start.generation, fact).await;
                    continue;
                }
                FromWorker::Memory { weights_bytes, contexts } => {
                    let fact = ServingFact::Memory(serving.memory(*weights_bytes, contexts));
                    self.report(start.base, start.generation, fact).await;
                    continue;
                }
                FromWorker::Health(trouble) => {
                    self.tell_health(start, trouble.clone()).await;
                    continue;
                }
                FromWorker::Failed(failure) => return failure.clone(),
                FromWorker::Alive | FromWorker::Progress { .. } => continue,
                _ => return Failure::new(FailureCode::BadFrame, "the serving worker sent what it must not"),
            };
            serving.give(request, message);
        }
    }

    async fn load_adapter(&self, base: VersionId, serving: &Serving, adapter: VersionId) {
        let loaded = self.try_load_adapter(serving, adapter).await;
        let fact = match loaded {
            Ok(()) => ServingFact::AdapterReady(adapter),
            Err(failure) => ServingFact::AdapterFailed(adapter, failure),
        };
        self.report(base, serving.generation, fact).await;
    }

    async fn try_load_adapter(&self, serving: &Serving, adapter: VersionId) -> Result<(), Failure> {
        let state = self.hub.state();
        let version =
            state.versions.get(&adapter).ok_or_else(|| Failure::not_found("version", &adapter.to_string()))?;
        let path = self.places.models.join(&version.file.path);
        store_file::unchanged(&path, &version.file)?;
        let number = serving.next_adapter.fetch_add(1, Ordering::Relaxed);
        let (request, mut words) = serving.request();
        let task = ToWorker::AddAdapter { request, adapter: number, path: path.display().to_string() };
        let gone = || Failure::new(FailureCode::WorkerDied, "the serving process ended");
        if !serving.send(task).await {
            return Err(gone());
        }
        match words.recv().await {
            Some(FromWorker::AdapterReady { .. }) => {
                lock(&serving.adapters).insert(adapter, number);
                Ok(())
            }
            Some(FromWorker::Refused { failure, .. }) => Err(failure),
            _ => Err(gone()),
        }
    }
}
