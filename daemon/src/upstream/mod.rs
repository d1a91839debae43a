//! `honed upstream`: the child that speaks to one OpenAI-compatible server elsewhere, over the same frames as
//! `hone-worker serve`, so that whoever asks need not know the difference. One process for each service: it knows one key,
//! and what one server sends can harm nobody else. Lives here: requests under way, and how the server is. `client`: HTTP;
//! `ask`: requests; `sse` and `answer`: answers; `trouble`: failures. Never here: prices, limits, who asks.

mod answer;
mod ask;
mod client;
mod frames;
mod sse;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hone_protocol::embed::EmbedTask;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::Finish;
use hone_protocol::upstream::UpstreamTask;
use hone_protocol::worker::{FromWorker, GenerateTask, HEARTBEAT_MS, ToWorker};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use self::answer::{Counts, Reading, Vectors};
use self::ask::Quirks;
use self::client::{Client, Patience, Reply};
use self::frames::Reader;
use self::trouble::{Named, Trouble};
use crate::child;

/// Messages to the daemon that may wait; at the bound the answers that they are of wait.
const TO_DAEMON_MAX: usize = 1024;
/// Longest answer in bytes; a longer one is broken off.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest body with vectors in bytes: 2048 inputs of some thousand numbers.
const VECTORS_BYTES_MAX: usize = 256 << 20;
/// Longest list of models in bytes.
const MODELS_BYTES_MAX: usize = 8 << 20;
/// Names of models that a failure lists.
const MODELS_SHOWN: usize = 5;
/// Least time between two reports of load.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The child's main.
pub fn run() -> ExitCode {
    let (socket, hello) = match child::open() {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("honed upstream: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("honed upstream: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(socket, hello, Patience::default())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("honed upstream: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the daemon goes away.
async fn serve(socket: UnixStream, hello: FromWorker, patience: Patience) -> Result<(), String> {
    let (mut reader, writer) = frames::open(socket).map_err(|error| error.to_string())?;
    let (out, queue) = mpsc::channel(TO_DAEMON_MAX);
    let writing = tokio::spawn(writer.run(queue));
    let say = |message: FromWorker| async { out.send(message).await.map_err(|_| "the daemon is gone".to_owned()) };
    say(hello).await?;
    let task = match reader.next().await? {
        Some(ToWorker::Upstream(task)) => task,
        Some(_) => return Err("honed upstream takes one upstream task first".into()),
        None => return Ok(()),
    };
    let made = Client::new(&task, patience);
    let client = match made {
        Ok(client) => Arc::new(client),
        Err(failure) => {
            say(FromWorker::Failed(failure)).await?;
            drop(out);
            let _ = writing.await;
            return Ok(());
        }
    };
    let named = Named { service: task.service.clone(), url: task.url.clone(), model: task.model.clone() };
    let upstream = Arc::new(Upstream {
        slots: Semaphore::new(task.slots.max(1) as usize),
        task,
        named,
        client,
        out,
        quirks: Mutex::default(),
        active: AtomicU32::new(0),
        trouble: Mutex::default(),
        noted: Notify::new(),
    });
    Serving { upstream, open: HashMap::new(), tasks: JoinSet::new(), told: (0, 0) }.run(reader).await
}

/// Requests under way.
struct Serving {
    upstream: Arc<Upstream>,
    open: HashMap<u64, AbortHandle>,
    tasks: JoinSet<u64>,
    told: (u32, u32),
}

impl Serving {
    async fn run(mut self, mut reader: Reader) -> Result<(), String> {
        let look = tokio::spawn(Arc::clone(&self.upstream).look_after());
        let mut beat = tokio::time::interval(LOAD_INTERVAL);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beaten = Instant::now();
        let ended = loop {
            // While there is nothing to do this waits for a message without waking up.
            let has_work = !self.open.is_empty() || self.told != (0, 0) || self.upstream.client.keeps_any();
            tokio::select! {
                message = reader.next() => match message {
                    Ok(Some(message)) => self.take(message).await,
                    Ok(None) => break Ok(()),
                    Err(reason) => break Err(reason),
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok(request) = ended {
                        self.open.remove(&request);
                    }
                }
                _ = beat.tick(), if has_work => {
                    self.upstream.client.let_go();
                    self.tell_load().await;
                    if !self.open.is_empty() && beaten.elapsed() >= Duration::from_millis(HEARTBEAT_MS / 2) {
                        beaten = Instant::now();
                        self.upstream.say(FromWorker::Alive).await;
                    }
                }
            }
        };
        look.abort();
        ended
    }

    async fn tell_load(&mut self) {
        let active = self.upstream.active.load(Ordering::Relaxed);
        let load = (active, (self.open.len() as u32).saturating_sub(active));
        if load != self.told {
            self.told = load;
            self.upstream.say(FromWorker::Load { active: load.0, waiting: load.1, memory_bytes: 0 }).await;
        }
    }

    async fn take(&mut self, message: ToWorker) {
        let upstream = Arc::clone(&self.upstream);
        let (request, handle) = match message {
            ToWorker::Generate(task) => (task.request, self.tasks.spawn(async move { upstream.generate(task).await })),
            ToWorker::Embed(task) => (task.request, self.tasks.spawn(async move { upstream.embed(task).await })),
            ToWorker::CancelRequest { request } => {
                if let Some(task) = self.open.remove(&request) {
                    task.abort();
                    let (finish, end) = (Finish::Cancelled, Vec::new());
                    upstream.say(FromWorker::Ended { request, finish, tokens: 0, end }).await;
                }
                return;
            }
            ToWorker::Spell { request, .. } | ToWorker::AboutTokenizer { request } => {
                let service = &upstream.task.service;
                let message = format!("service {service} is answered by an upstream, whose tokens hone does not know");
                let failure = Failure::new(FailureCode::Unsupported, message);
                return upstream.say(FromWorker::Refused { request, failure }).await;
            }
            _ => {
                let message = "honed upstream was asked what only a model of ours can do";
                return upstream.say(FromWorker::Failed(Failure::new(FailureCode::BadFrame, message))).await;
            }
        };
        self.open.insert(request, handle);
    }
}

/// One server elsewhere.
struct Upstream {
    task: UpstreamTask,
    named: Named,
    client: Arc<Client>,
    out: mpsc::Sender<FromWorker>,
    slots: Semaphore,
    quirks: Mutex<Quirks>,
    /// Requests that the server has.
    active: AtomicU32,
    /// What was last told of it.
    trouble: Mutex<Option<Failure>>,
    /// Told when that changes.
    noted: Notify,
}

/// A place among the requests that the server has.
struct Place<'u> {
    active: &'u AtomicU32,
    _permit: tokio::sync::SemaphorePermit<'u>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn learn(quirks: Quirks, trouble: &Trouble) -> Option<Quirks> {
    match trouble {
        Trouble::Status { status, body, .. } => quirks.learn(*status, body),
        _ => None,
    }
}

impl Upstream {
    /// When the daemon is gone this process ends by itself.
    async fn say(&self, message: FromWorker) {
        let _ = self.out.send(message).await;
    }

    async fn place(&self) -> Option<Place<'_>> {
        let permit = self.slots.acquire().await.ok()?;
        self.active.fetch_add(1, Ordering::Relaxed);
        Some(Place { active: &self.active, _permit: permit })
    }

    async fn generate(&self, task: GenerateTask) -> u64 {
        let request = task.request;
        if let Some(_place) = self.place().await {
            let answered = self.answer(&task).await;
            self.end(request, answered).await;
        }
        request
    }

    async fn embed(&self, task: EmbedTask) -> u64 {
        let request = task.request;
        if let Some(_place) = self.place().await {
            let answered = self.vectors(&task).await;
            self.end(request, answered).await;
        }
        request
    }

    async fn end(&self, request: u64, answered: Result<(), Failure>) {
        let Err(failure) = answered else { return };
        if matches!(failure.code, FailureCode::UpstreamFailed | FailureCode::UpstreamUnavailable) {
            self.note(Some(failure.clone())).await;
        }
        self.say(FromWorker::Refused { request, failure }).await;
    }

    fn is_in_trouble(&self) -> bool {
        lock(&self.trouble).is_some()
    }

    /// Tells how the server is when that has changed.
    async fn note(&self, trouble: Option<Failure>) {
        {
            let mut told = lock(&self.trouble);
            let same = |a: &Failure, b: &Failure| a.message_en == b.message_en;
            match (&*told, &trouble) {
                (None, None) => return,
                (Some(before), Some(now)) if same(before, now) => return,
                _ => told.clone_from(&trouble),
            }
        }
        self.noted.notify_one();
        self.say(FromWorker::Health(trouble)).await;
    }

    async fn ask(&self, task: &GenerateTask) -> Result<(Reply, Reading), Failure> {
        loop {
            let quirks = *lock(&self.quirks);
            let (route, body) = ask::generate(task, &self.task.model, quirks)?;
            match self.client.ask(route.path(), Some(body.to_string().into_bytes())).await {
                Ok(reply) => return Ok((reply, Reading::new(route, task.wish.chances.is_some()))),
                Err(trouble) => match learn(quirks, &trouble) {
                    Some(learnt) => *lock(&self.quirks) = learnt,
                    None => return Err(self.named.tell(trouble)),
                },
            }
        }
    }

    async fn answer(&self, task: &GenerateTask) -> Result<(), Failure> {
        let request = task.request;
        let (mut reply, mut reading) = self.ask(task).await?;
        let prompt_tokens = ask::estimate(&task.prompt);
        self.say(FromWorker::Began { request, prompt_tokens, cached_tokens: 0 }).await;
        let read = match reply.is_stream {
            true => self.read_events(request, &mut reply, &mut reading).await,
            false => self.read_whole(request, &mut reply, &mut reading).await,
        };
        let finish = match (read, reading.ended()) {
            // After its end only counts are missing.
            (_, Some(finish)) => finish,
            (Ok(()), None) => return Err(self.named.tell(Trouble::Cut)),
            (Err(trouble), None) => return Err(self.named.tell(trouble)),
        };
        self.note(None).await;
        let mut tokens = reading.tokens;
        if let Some(Counts { prompt, cached, tokens: counted }) = reading.counts {
            tokens = counted;
            let (prompt_tokens, cached_tokens) = (prompt, cached);
            self.say(FromWorker::Counted { request, prompt_tokens, cached_tokens, tokens }).await;
        }
        self.say(FromWorker::Ended { request, finish, tokens, end: std::mem::take(&mut reading.end) }).await;
        if reading.is_done {
            // The end of the body follows the end mark; then the connection is used again.
            let _ = reply.next(self.client.patience.tail).await;
        }
        Ok(())
    }

    async fn read_events(&self, request: u64, reply: &mut Reply, reading: &mut Reading) -> Result<(), Trouble> {
        let (mut events, mut ready, mut bytes_read) = (sse::Events::default(), Vec::new(), 0);
        loop {
            let patience = self.client.patience;
            let wait = if reading.finish.is_some() { patience.tail } else { patience.idle };
            let bytes = reply.next(wait).await?;
            bytes_read += bytes.as_ref().map_or(0, |bytes| bytes.len());
            let is_too_long = match &bytes {
                Some(bytes) => events.take(bytes, &mut ready).is_err() || bytes_read > ANSWER_BYTES_MAX,
                None => {
                    events.finish(&mut ready);
                    false
                }
            };
            for data in ready.drain(..) {
                match (bytes.is_none(), reading.take(&data)) {
                    (_, Ok(said)) => self.say_all(request, said).await,
                    // Half an event is how a cut connection looks.
                    (true, Err(Trouble::Garbage(_))) => return Err(Trouble::Cut),
                    (_, Err(trouble)) => return Err(trouble),
                }
            }
            if is_too_long {
                return Err(Trouble::Garbage("an event or an answer that is too long".into()));
            }
            if bytes.is_none() || reading.is_done {
                return Ok(());
            }
        }
    }

    async fn read_whole(&self, request: u64, reply: &mut Reply, reading: &mut Reading) -> Result<(), Trouble> {
        let body = reply.whole(ANSWER_BYTES_MAX).await?;
        let said = reading.take(&body)?;
        self.say_all(request, said).await;
        Ok(())
    }

    async fn say_all(&self, request: u64, said: Vec<answer::Said>) {
        for answer::Said { channel, text, tokens, chances } in said {
            self.say(FromWorker::Piece { request, channel, text, tokens, chances }).await;
        }
    }

    async fn vectors(&self, task: &EmbedTask) -> Result<(), Failure> {
        let request = task.request;
        let body = ask::embed(task, &self.task.model)?.to_string().into_bytes();
        let tell = |trouble| self.named.tell(trouble);
        let mut reply = self.client.ask("/embeddings", Some(body)).await.map_err(tell)?;
        let body = reply.whole(VECTORS_BYTES_MAX).await.map_err(tell)?;
        let (vectors, counts) = Vectors::read(&body, task.inputs.len()).map_err(tell)?;
        self.note(None).await;
        let estimate = task.inputs.iter().map(ask::estimate).fold(0, u32::saturating_add);
        self.say(FromWorker::Began { request, prompt_tokens: estimate, cached_tokens: 0 }).await;
        if let Some(Counts { prompt, cached, .. }) = counts {
            let (prompt_tokens, cached_tokens) = (prompt, cached);
            self.say(FromWorker::Counted { request, prompt_tokens, cached_tokens, tokens: 0 }).await;
        }
        let count = vectors.len();
        for (index, vector) in vectors.into_iter().enumerate() {
            let (index, left) = (index as u32, (count - 1 - index) as u32);
            self.say(FromWorker::Embedded { request, index, vector, cut: false, left }).await;
        }
        Ok(())
    }

    /// Looks at the server once and says how it is; then again and again while it is in trouble.
    async fn look_after(self: Arc<Self>) {
        let first = self.look().await;
        lock(&self.trouble).clone_from(&first);
        self.say(FromWorker::Health(first)).await;
        let patience = self.client.patience;
        let mut pause = patience.look;
        loop {
            if !self.is_in_trouble() {
                // Nobody looks at what works: the next trouble is a request's.
                self.noted.notified().await;
                pause = patience.look;
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(patience.look_max);
            let found = self.look().await;
            self.note(found).await;
        }
    }

    /// Asks for the list of models. A server that has none is there all the same.
    async fn look(&self) -> Option<Failure> {
        let mut reply = match self.client.ask("/models", None).await {
            Ok(reply) => reply,
            Err(Trouble::Status { status: 400 | 404 | 405 | 501, .. }) => return None,
            Err(trouble) => return Some(self.named.tell(trouble)),
        };
        let body = match reply.whole(MODELS_BYTES_MAX).await {
            Ok(body) => body,
            Err(trouble) => return Some(self.named.tell(trouble)),
        };
        let list: Value = serde_json::from_slice(&body).ok()?;
        let names: Vec<&str> = list.get("data")?.as_array()?.iter().filter_map(|m| m.get("id")?.as_str()).collect();
        let model = self.task.model.as_str();
        if names.is_empty() || names.contains(&model) {
            return None;
        }
        let shown: Vec<String> = names.iter().take(MODELS_SHOWN).map(|name| trouble::words(name)).collect();
        let body = serde_json::json!({"error": format!("it has {}", shown.join(", "))}).to_string().into_bytes();
        let status = Trouble::Status { status: 404, retry_after_s: None, location: None, body };
        Some(self.named.tell(status))
    }
}
