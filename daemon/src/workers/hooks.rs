//! Carrying deliveries out: one child for each try, fenced as its class, with a deadline. Tries of one hook come one after the
//! other, so that a slow one holds up nobody else. Never here: which alert goes to whom, and when it is tried again (the dispatcher).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::hook::{AlertRecord, HookOutcome, HookRecord, HookTarget, HookTask};
use hone_protocol::id::HookId;
use hone_protocol::paths;
use hone_protocol::worker::{FromWorker, ToWorker};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::line::Line;
use super::process::{Program, Spawner};
use crate::clock;
use crate::config::Places;
use crate::dispatcher::Events;
use crate::dispatcher::effect::Delivering;
use crate::dispatcher::event::Event;
use crate::sandbox::Paths;
use crate::state::HookKey;

/// Tries at once over all hooks.
const AT_ONCE: usize = 4;
/// A child that is not done so long after its deadline is ended.
const SLACK: Duration = Duration::from_secs(10);
/// A log of hooks is begun anew over this size.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// What carrying out needs. Cheap to clone.
#[derive(Clone)]
pub struct Messenger {
    spawner: Spawner,
    places: Arc<Places>,
    events: Events,
    key: HookKey,
    at_once: Arc<Semaphore>,
    turns: Arc<Mutex<HashMap<HookId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Messenger {
    /// Nothing is under way.
    pub fn new(spawner: Spawner, places: Arc<Places>, events: Events, key: HookKey) -> Messenger {
        Messenger { spawner, places, events, key, at_once: Arc::new(Semaphore::new(AT_ONCE)), turns: Arc::default() }
    }

    /// Tries a delivery when its turn comes, and reports how it went.
    pub async fn deliver(self, delivering: Delivering) {
        let Delivering { hook, alert, number } = delivering;
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(hook.id).or_default().clone();
        let _turn = turn.lock().await;
        let Ok(_permit) = self.at_once.acquire().await else { return };
        let began = Instant::now();
        let outcome = match self.attempt(&hook, &alert, number).await {
            Ok(outcome) => outcome,
            Err(failure) => HookOutcome { ok: false, status: None, words: failure.message_en },
        };
        let ms = began.elapsed().as_millis() as u64;
        let event = Event::Delivered { hook: hook.id, alert: alert.id, outcome, ms };
        self.events.post(event).await;
    }

    async fn attempt(&self, hook: &HookRecord, alert: &AlertRecord, number: u32) -> Result<HookOutcome, Failure> {
        let (program, paths, secret) = match &hook.target {
            HookTarget::Command(words) => {
                let folder = self.places.state.join(paths::HOOKS).join(&hook.name);
                std::fs::create_dir_all(&folder).map_err(|e| unready(&folder, &e))?;
                let program = Path::new(words.first().map_or("", String::as_str));
                // What lies beside the program belongs to it, unless that is where our own things are.
                let own = program.parent().filter(|folder| !self.places.state.starts_with(folder)).unwrap_or(program);
                (Program::Daemon("hook-run"), Paths::none().read(own).write(folder), String::new())
            }
            HookTarget::Webhook(_) => (Program::Daemon("hook-post"), Paths::none(), self.key.secret_of(hook.id)),
        };
        let task = HookTask {
            target: hook.target.clone(),
            alert: alert.id.to_string(),
            body: body(hook, alert, number),
            secret,
            at_s: clock::now_ms() / 1000,
            timeout_ms: hook.timeout_ms,
        };
        let log = self.places.state.join(paths::LOGS).join("hooks.log");
        if std::fs::metadata(&log).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
            let _ = std::fs::remove_file(&log);
        }
        let mut line = Line::open(&self.spawner, program, paths, None, &log).await?;
        line.send(&ToWorker::Hook(Box::new(task))).await?;
        let limit = Duration::from_millis(hook.timeout_ms.into()) + SLACK;
        match tokio::time::timeout(limit, line.recv()).await {
            Ok(Ok(FromWorker::Hooked(outcome))) => Ok(outcome),
            Ok(Ok(_)) => Err(Failure::new(FailureCode::BadFrame, "the child answered what was not asked")),
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                line.process.kill();
                Err(Failure::new(FailureCode::WorkerSilent, "the child was not done in time and was ended"))
            }
        }
    }
}

fn unready(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::FileUnreadable, format!("{} cannot be made: {error}", folder.display()))
}

/// What a hook reads.
fn body(hook: &HookRecord, alert: &AlertRecord, number: u32) -> String {
    let facts: Map<String, Value> = alert.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let body = json!({
        "id": alert.id.to_string(),
        "kind": alert.kind.word(),
        "at_ms": alert.at_ms,
        "subject": alert.subject,
        "message": alert.message,
        "facts": facts,
        "hook": hook.name,
        "try": number,
    });
    body.to_string()
}
