//! `hone-worker serve`: one base model answering many requests, and its adapters.
//!
//! What never lives here: batching and sampling (see `crate::serve`), prices, limits of callers.

use std::path::Path;
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use hone_protocol::worker::{self, FromWorker, GenerateTask, ServeTask, ToWorker};
use sha2::{Digest, Sha256};

use super::child::{Busy, Channel, resident_bytes};
use super::{facts, wrong_task};
use crate::inspect::{self, Facts};
use crate::serve::{Engine, EngineEvent, EngineParams, Finish, GenRequest, Sampling, ScoreRequest};
use crate::template::{ChatTemplate, LossOn};

/// Least time between two reports of load.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Sampled tokens that the multiplicative penalty looks back on, as the protocol says.
const PENALTY_TOKENS: u32 = 64;

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::Serve(task)) = channel.recv() else {
        return Err(wrong_task("serve"));
    };
    let mut server = {
        let mut work = channel.work();
        Server::load(channel, &task, &mut work)?
    };
    // While there is nothing to do this waits for a message without waking up.
    while let Some(message) = channel.recv() {
        server.take(message)?;
        server.work_until_idle()?;
    }
    Ok(())
}

struct Server<'c> {
    channel: &'c Channel,
    engine: Engine,
    template: Result<ChatTemplate, Failure>,
    architecture: String,
    events: Vec<EngineEvent>,
    told: Option<(u32, u32)>,
    told_at: Instant,
}

impl<'c> Server<'c> {
    fn load(channel: &'c Channel, task: &ServeTask, work: &mut Busy<'_>) -> Result<Self, Failure> {
        work.progress("phase.load", 0, 0);
        let path = Path::new(&task.model_path);
        // Our own reader first: ggml sees the file only when every rule holds.
        let found = inspect::inspect(path).map_err(facts::of_inspect)?;
        let Facts::Model(model) = &found else {
            let message = format!("{} is an adapter and cannot be served alone", path.display());
            return Err(Failure::new(FailureCode::BadFile, message));
        };
        let engine = Engine::load(EngineParams {
            slots: task.slots as usize,
            context_tokens_per_slot: task.context_tokens,
            threads: (task.threads > 0).then_some(task.threads as usize),
            ..EngineParams::new(path)
        })
        .map_err(facts::of_engine)?;
        let template = facts::template(&found, engine.vocab());
        let server = Self {
            channel,
            template,
            architecture: model.architecture.clone(),
            engine,
            events: Vec::new(),
            told: None,
            told_at: Instant::now(),
        };
        channel.send(&FromWorker::Ready { memory_bytes: resident_bytes(), facts: Box::new(facts::of_file(&found)) });
        Ok(server)
    }

    /// Computes until nothing is left, taking messages between steps.
    fn work_until_idle(&mut self) -> Result<(), Failure> {
        let work = self.channel.work();
        loop {
            while let Some(message) = self.channel.try_recv() {
                self.take(message)?;
            }
            let more = self.engine.step(&mut self.events);
            work.tick();
            let answers: Vec<FromWorker> = self.events.drain(..).map(answer).collect();
            self.channel.send_all(&answers);
            self.tell_load(more);
            if !more {
                return Ok(());
            }
        }
    }

    fn take(&mut self, message: ToWorker) -> Result<(), Failure> {
        let (request, result) = match message {
            ToWorker::Generate(task) => (task.request, self.generate(task)),
            ToWorker::Score { request, adapter, messages } => {
                (request, self.score(request, adapter, &facts::messages(&messages)))
            }
            ToWorker::AddAdapter { request, adapter, path } => {
                let added = self.add_adapter(adapter, Path::new(&path));
                if added.is_ok() {
                    self.channel.send(&FromWorker::AdapterReady { request });
                }
                (request, added)
            }
            ToWorker::CancelRequest { request } => {
                // An unknown request has ended already and said so.
                if let Some(event) = self.engine.cancel(request) {
                    self.channel.send(&answer(event));
                }
                return Ok(());
            }
            _ => return Err(wrong_task("serve")),
        };
        if let Err(failure) = result {
            self.channel.send(&FromWorker::Refused { request, failure });
        }
        Ok(())
    }

    fn generate(&mut self, task: GenerateTask) -> Result<(), Failure> {
        task.sampling.check()?;
        let template = self.template.as_ref().map_err(Clone::clone)?;
        let messages = facts::messages(&task.messages);
        let tokens = template.tokens(self.engine.vocab(), &messages, true).map_err(facts::of_template)?;
        let request = GenRequest {
            id: task.request,
            adapter: task.adapter.map(adapter_name),
            tokens,
            sampling: sampling(&task.sampling),
            stop: task.stop,
            max_tokens: task.tokens_max,
            cache_scope: cache_scope(task.scope, task.adapter, &template.sha256()),
            ignore_end: false,
        };
        self.engine.submit(request).map_err(|e| facts::of_refusal(&e))
    }

    fn score(
        &mut self,
        request: u64,
        adapter: Option<u32>,
        messages: &[crate::template::ChatMessage],
    ) -> Result<(), Failure> {
        let template = self.template.as_ref().map_err(Clone::clone)?;
        let row = template
            .training_row(self.engine.vocab(), messages, LossOn::AllAssistantTurns)
            .map_err(facts::of_template)?;
        let request =
            ScoreRequest { id: request, adapter: adapter.map(adapter_name), tokens: row.tokens, trained: row.trained };
        self.engine.submit_score(request).map_err(|e| facts::of_refusal(&e))
    }

    fn add_adapter(&mut self, adapter: u32, path: &Path) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(FailureCode::BadFile, message).at(path.display().to_string());
        let Facts::Adapter(found) = inspect::inspect(path).map_err(facts::of_inspect)? else {
            return Err(wrong("this file is a model and not an adapter".into()));
        };
        if found.architecture != self.architecture {
            return Err(wrong(format!(
                "the adapter is for architecture {:?}, the base is {:?}",
                found.architecture, self.architecture
            )));
        }
        let own = self.template.as_ref().map(|t| Hash(t.sha256()).to_string());
        if let (Some(trained), Ok(own)) = (&found.template_sha256, &own)
            && trained != own
        {
            return Err(wrong(format!(
                "the adapter was trained with another chat template (sha256 {trained}, the base has {own})"
            )));
        }
        self.engine.add_adapter(&adapter_name(adapter), path).map_err(facts::of_engine)
    }

    /// Reports load when it changed, at most once per `LOAD_INTERVAL`, and always when work ends.
    fn tell_load(&mut self, more: bool) {
        let stats = self.engine.stats();
        let load = (stats.running as u32, stats.waiting as u32);
        if self.told == Some(load) || (more && self.told_at.elapsed() < LOAD_INTERVAL) {
            return;
        }
        self.told = Some(load);
        self.told_at = Instant::now();
        self.channel.send(&FromWorker::Load { active: load.0, waiting: load.1, memory_bytes: resident_bytes() });
    }
}

fn adapter_name(number: u32) -> String {
    number.to_string()
}

/// Prefixes are shared only where application, adapter and template are the same.
fn cache_scope(scope: Hash, adapter: Option<u32>, template: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(scope.0);
    hash.update(adapter.map_or(0, |a| u64::from(a) + 1).to_le_bytes());
    hash.update(template);
    hash.finalize().into()
}

fn sampling(wanted: &worker::Sampling) -> Sampling {
    Sampling {
        temperature: wanted.temperature,
        top_p: wanted.top_p,
        top_k: wanted.top_k,
        min_p: wanted.min_p,
        repeat_penalty: wanted.repeat_penalty,
        frequency_penalty: wanted.frequency_penalty,
        presence_penalty: wanted.presence_penalty,
        penalty_tokens: PENALTY_TOKENS,
        seed: wanted.seed.map(|s| (s ^ (s >> 32)) as u32),
    }
}

fn answer(event: EngineEvent) -> FromWorker {
    match event {
        EngineEvent::Started { id, prompt_tokens, cached_tokens } => {
            FromWorker::Began { request: id, prompt_tokens, cached_tokens }
        }
        EngineEvent::Piece { id, text, tokens_total } => FromWorker::Piece { request: id, text, tokens: tokens_total },
        EngineEvent::Finished { id, finish, completion_tokens, .. } => FromWorker::Ended {
            request: id,
            finish: match finish {
                Finish::End | Finish::StopString => worker::Finish::Stop,
                Finish::MaxTokens | Finish::ContextFull => worker::Finish::Length,
                Finish::Cancelled => worker::Finish::Cancelled,
            },
            tokens: completion_tokens,
        },
        EngineEvent::Scored { id, nll_sum, count } => {
            FromWorker::Scored { request: id, loss_sum: nll_sum, tokens: u64::from(count) }
        }
        EngineEvent::Failed { id, error, .. } => FromWorker::Refused {
            request: id,
            failure: Failure::new(FailureCode::Internal, error).hint(HintCode::ReadLog),
        },
    }
}
