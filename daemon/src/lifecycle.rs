//! From nothing to a serving daemon and back: directories, the lock that proves life, store, listeners, signals.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hone_protocol::paths;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::{Options, Places};
use crate::desk::ServiceDesk;
use crate::dispatcher::event::Event;
use crate::dispatcher::{self, Events};
use crate::guards::GuardTable;
use crate::hub::Hub;
use crate::jobs::{kept, ledgers_folder};
use crate::perform::Performer;
use crate::request_log::{self, RequestLog};
use crate::socket::connection::Room;
use crate::socket::readers::Readers;
use crate::state::{Fixed, HookKey, State};
use crate::store::{Store, Table, Writes};
use crate::workers::hooks::Messenger;
use crate::workers::memory;
use crate::workers::process::Spawner;
use crate::workers::serving::{Keeper, ServingTable};
use crate::{archive, clock, http, listening, machine, socket};
use hone_data::PARTIAL_SUFFIX;

/// How long a graceful stop may take: checkpoints first.
const STOP_MS: u64 = 60_000;
/// The machine is looked at so often while somebody watches.
const LOOK_MS: u64 = 1000;
/// How often the trash and old runs are looked at.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A ledger that no version names is kept for so long after it was written.
const LEDGERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Exit status when another daemon holds the lock.
pub const EXIT_IN_USE: u8 = 75;

/// Holds the lock as long as it lives.
struct Lock(#[allow(dead_code)] File);

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon has this state directory.
    #[error(
        "the state directory {state} is in use by {holder}; talk to it with `hone`, or set HONE_STATE to another directory"
    )]
    InUse {
        /// The directory.
        state: String,
        /// What the other one wrote about itself.
        holder: String,
    },
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

fn take_lock(state: &Path) -> Result<Lock, StartError> {
    let path = state.join(paths::LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.with_context(|| format!("{} cannot be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "another honed".to_owned() } else { holder.trim().to_owned() };
            return Err(StartError::InUse { state: state.display().to_string(), holder });
        }
        Err(TryLockError::Error(error)) => {
            return Err(anyhow::Error::from(error).context(format!("{} cannot be locked", path.display())).into());
        }
    }
    let words = format!("honed pid {} since {}\n", std::process::id(), clock::text(clock::now_ms()));
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(words.as_bytes()));
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(Lock(file))
}

/// Runs the daemon to its end; returns the exit status.
pub async fn run(options: Options) -> Result<u8, StartError> {
    let places = Arc::new(options.places.clone());
    let share = options.share.clone();
    machine::raise_open_files();
    make_private(&places.state)?;
    for folder in [
        &places.state.join(paths::RUN),
        &places.models,
        &places.blobs,
        &places.state.join(paths::JOBS),
        &places.files(),
    ] {
        make_private(folder)?;
    }
    check_private(&places.state.join(paths::RUN))?;
    let lock = take_lock(&places.state)?;
    sweep_unfinished(&places.blobs);
    sweep_unfinished(&places.models);
    let store = Arc::new(Store::open(&places.state.join(paths::STORE)).map_err(anyhow::Error::from)?);
    let state = State::load(&store, fixed(&store, &options)?).map_err(anyhow::Error::from)?;
    let hook_key = state.fixed.hook_key.clone();
    archive::sweep(&places.files(), &state);
    sweep_ledgers(&ledgers_folder(&places.blobs), &named_ledgers(&state), SystemTime::now());
    let listener = socket::bind(&places.socket(), socket::OWN_MODE).map_err(anyhow::Error::from)?;
    let shared = options.share.as_deref().map(socket::share).transpose().map_err(anyhow::Error::from)?;
    let mut notes = notes(&places.state);
    let listening = listening::bind(&options, &places.state.join(paths::RUN)).await?;
    notes.extend(listening.notes);

    let hub = Arc::new(Hub::new(state.clone()));
    let (events, queue) = dispatcher::door();
    let spawner = Spawner::start(memory::bytes_max(options.pool_memory_bytes, machine::memory().0))
        .context("the spawner cannot be started")?;
    let serving = ServingTable::default();
    let log =
        RequestLog::start(&places.state.join(request_log::FOLDER)).context("the request log cannot be started")?;
    let guards = GuardTable::default();
    let keeper = Keeper {
        places: places.clone(),
        hub: hub.clone(),
        events: events.clone(),
        spawner: spawner.clone(),
        table: serving.clone(),
        store: store.clone(),
    };
    let (exit, mut exited) = mpsc::unbounded_channel();
    let performer = Performer {
        runtime: tokio::runtime::Handle::current(),
        keeper,
        messenger: Messenger::new(spawner.clone(), places.clone(), events.clone(), hook_key),
        store: store.clone(),
        events: events.clone(),
        log: log.clone(),
        guards: guards.clone(),
        exit,
        attempts: Default::default(),
    };
    dispatcher::run(state, store.clone(), hub.clone(), queue, performer).map_err(anyhow::Error::from)?;
    events.post(Event::Http(listening.addresses)).await;

    let desk = ServiceDesk {
        hub: hub.clone(),
        events: events.clone(),
        serving: serving.clone(),
        store: store.clone(),
        places: places.clone(),
        guards,
        log: log.clone(),
    };
    let (stop_http, http_stop) = watch::channel(false);
    let http_task = tokio::spawn(http::run(listening.listeners, desk.clone(), http_stop));
    let room = Arc::new(Room {
        hub: hub.clone(),
        store,
        events: events.clone(),
        desk,
        readers: Readers::new(places.clone(), spawner.clone()),
        spawner,
        options: options.clone(),
        notes,
        started_at_ms: clock::now_ms(),
    });
    if let Some(shared) = shared {
        tokio::spawn(socket::accept(shared, room.clone()));
    }
    tokio::spawn(socket::accept(listener, room));
    tokio::spawn(look_at_machine(hub.clone(), events.clone(), options));
    tokio::spawn(tidy_up(hub.clone(), events.clone(), places.clone(), log));
    tokio::spawn(listen_to_signals(events));

    let status = exited.recv().await.unwrap_or(70);
    let _ = stop_http.send(true);
    serving.stop_all();
    // Answers that are written already get a moment to leave.
    let _ = tokio::time::timeout(Duration::from_secs(2), http_task).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = std::fs::remove_file(places.socket());
    if let Some(shared) = &share {
        let _ = std::fs::remove_file(shared);
    }
    drop(lock);
    Ok(status)
}

/// Removes what writers left unfinished when they were killed: never a complete file, never another's. Call it while
/// holding the lock and before any child.
fn sweep_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let blob = name.starts_with('.') && name.ends_with(PARTIAL_SUFFIX);
        let weights = name.starts_with("ver-") && name.ends_with(".tmp");
        if blob || weights {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Ledgers that versions name, those in the trash too.
fn named_ledgers(state: &State) -> HashSet<String> {
    let processed = state.dataset_versions.values().filter_map(|version| version.processed.as_ref());
    processed.flat_map(|processed| &processed.steps).map(|step| step.ledger.to_string()).collect()
}

/// Removes ledgers that no version names, a while after they were written: they are only what a recipe need not do again. Call it
/// before any child.
fn sweep_ledgers(folder: &Path, named: &HashSet<String>, now: SystemTime) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let is_old = changed.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LEDGERS_KEPT));
        if is_old && !named.contains(stem) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn check_private(run: &Path) -> anyhow::Result<()> {
    let meta = std::fs::symlink_metadata(run).with_context(|| format!("{} cannot be read", run.display()))?;
    let own = rustix::process::geteuid().as_raw();
    anyhow::ensure!(meta.is_dir(), "{} is not a directory", run.display());
    anyhow::ensure!(meta.uid() == own, "{} belongs to uid {}, not to you (uid {own})", run.display(), meta.uid());
    anyhow::ensure!(
        meta.mode() & 0o077 == 0,
        "{} can be entered by others (mode {:o}); run: chmod 700 {}",
        run.display(),
        meta.mode() & 0o777,
        run.display()
    );
    Ok(())
}

/// Facts that never change while the daemon runs. Currency and zone are written once per store.
fn fixed(store: &Store, options: &Options) -> anyhow::Result<Fixed> {
    let word = |key: &'static str, default: String| -> anyhow::Result<String> {
        match store.get(Table::Meta, key.as_bytes())? {
            Some(value) => Ok(String::from_utf8(value).context("a word of the store is not UTF-8")?),
            None => {
                let mut writes = Writes::default();
                writes.put(Table::Meta, key.as_bytes(), default.clone().into_bytes());
                store.commit(&writes)?;
                Ok(default)
            }
        }
    };
    let currency = word("currency", std::env::var("HONE_CURRENCY").unwrap_or_else(|_| "EUR".into()))?;
    let zone = word("zone", clock::system_zone())?;
    let (_, available) = machine::memory();
    let pool = if options.pool_memory_bytes > 0 { options.pool_memory_bytes } else { available / 5 * 4 };
    let cores = if options.cores > 0 { options.cores } else { machine::cores() };
    // Milliseconds differ from start to start as long as starts take longer than one.
    let (boot, hook_key) = (machine::boot(), hook_key(&options.places.state)?);
    Ok(Fixed { epoch: clock::now_ms().cast_unsigned(), boot, currency, zone, cores, pool_memory_bytes: pool, hook_key })
}

/// The bytes that secrets of hooks are made of; made with the first start.
fn hook_key(state: &Path) -> anyhow::Result<HookKey> {
    let path = state.join(paths::HOOK_KEY);
    if let Ok(bytes) = std::fs::read(&path) {
        let bytes = <[u8; 32]>::try_from(bytes.as_slice());
        return bytes.map(HookKey).map_err(|_| {
            anyhow::anyhow!("{} has not 32 bytes; remove it, and give receivers of hooks new secrets", path.display())
        });
    }
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("the system gave no random bytes: {e}"))?;
    // Under another name first: a half-written key would be taken for damage.
    let partial = path.with_extension("tmp");
    let _ = std::fs::remove_file(&partial);
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    let written = open.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    written
        .and_then(|()| std::fs::rename(&partial, &path))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(HookKey(bytes))
}

fn notes(state: &Path) -> Vec<String> {
    let network = machine::network_file_system(state).map(|name| {
        format!(
            "the state directory {} is on a network file system ({name}), where locks and sockets are not safe; \
             stop honed, move it to a local disk, and set HONE_STATE to the new place",
            state.display()
        )
    });
    network.into_iter().collect()
}

async fn look_at_machine(hub: Arc<Hub>, events: Events, options: Options) {
    let mut ticks = None;
    let mut before = None;
    loop {
        // Nobody watching: wake up rarely and send nothing.
        if hub.watchers() == 0 {
            ticks = None;
            hub.someone_watches().await;
        }
        let fixed = hub.state().fixed.clone();
        let (now, new_ticks) = machine::look(&options.places.state, fixed.cores, fixed.pool_memory_bytes, ticks);
        ticks = new_ticks;
        if before.as_ref() != Some(&now) {
            events.post(Event::Machine(now.clone())).await;
            before = Some(now);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// Once a day: an idle daemon wakes up for nothing else.
async fn tidy_up(hub: Arc<Hub>, events: Events, places: Arc<Places>, log: RequestLog) {
    loop {
        log.sweep(&hub.state(), clock::now_ms());
        events.post(Event::EmptyTrash).await;
        if let Some(bytes) = machine::disk_free_bytes(&places.state) {
            events.post(Event::DiskFree(bytes)).await;
        }
        let (places, state) = (places.clone(), hub.state());
        // What is not removed today is tomorrow.
        let _ = tokio::task::spawn_blocking(move || kept::sweep(&places, &state, clock::now_ms())).await;
        tokio::time::sleep(DAY).await;
    }
}

async fn listen_to_signals(events: Events) {
    let streams = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = streams else { return };
    let mut asked = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // A terminal or SSH session that ends is no reason to stop.
            _ = hangup.recv() => continue,
        }
        if asked {
            events.post(Event::StopNow).await;
            return;
        }
        asked = true;
        events.post(Event::Stop).await;
        let later = events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(STOP_MS)).await;
            later.post(Event::StopNow).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unfinished_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".12-1.partial", "ver-0.tmp", "ver-0.gguf", "notes.tmp", "x.partial"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        sweep_unfinished(folder.path());
        let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes.tmp", "ver-0.gguf", "x.partial"]);
    }

    #[test]
    fn ledgers_that_no_version_names_go_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["aa.lines", "aa.sums", "bb.lines", "bb.sums"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        let named = HashSet::from(["aa".to_owned()]);
        let left = |now| {
            sweep_ledgers(folder.path(), &named, now);
            let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
            left.sort();
            left
        };
        assert_eq!(left(SystemTime::now()).len(), 4);
        assert_eq!(left(SystemTime::now() + LEDGERS_KEPT + DAY), ["aa.lines", "aa.sums"]);
        sweep_ledgers(&folder.path().join("none"), &named, SystemTime::now());
    }
}
