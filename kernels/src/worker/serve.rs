//! `hone-worker serve`: one base model answering many requests, and its adapters.
//!
//! What never lives here: batching and sampling (see `crate::serve`), prices, limits of callers.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use hone_protocol::embed::EmbedTask;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Prompt, TokenizerFacts, Wish};
use hone_protocol::value::{Bytes, Hash};
use hone_protocol::worker::{Finish, FromWorker, GenerateTask, ServeTask, ToWorker};
use sha2::{Digest, Sha256};

use super::answer::Answer;
use super::child::{Busy, Channel, resident_bytes};
use super::talk::{self, Ready, Talk};
use super::{facts, wrong_task};
use crate::inspect::{self, Facts};
use crate::serve::{EmbedRequest, Engine, EngineEvent, EngineParams, GenRequest, Sampling, ScoreRequest};
use crate::template::LossOn;

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
    talk: Result<Talk, Failure>,
    answers: HashMap<u64, Answer>,
    /// Requests for vectors, and which of their inputs were cut.
    embeds: HashMap<u64, Vec<bool>>,
    architecture: String,
    is_encoder: bool,
    kv_bytes_per_token: u64,
    /// Bytes of each adapter's file, by its number.
    adapter_bytes: HashMap<u32, u64>,
    events: Vec<EngineEvent>,
    /// Adapters that are used no more but by requests that they have.
    dropping: Vec<u32>,
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
            is_encoder: model.is_encoder,
            pooling: model.pooling,
            ..EngineParams::new(path)
        })
        .map_err(facts::of_engine)?;
        let talk = facts::template(&found, engine.vocab()).map(Talk::new);
        let server = Self {
            channel,
            talk,
            answers: HashMap::new(),
            embeds: HashMap::new(),
            architecture: model.architecture.clone(),
            is_encoder: model.is_encoder,
            kv_bytes_per_token: model.kv_bytes_per_token,
            adapter_bytes: HashMap::new(),
            engine,
            events: Vec::new(),
            dropping: Vec::new(),
            told: None,
            told_at: Instant::now(),
        };
        channel.send(&FromWorker::Ready { memory_bytes: resident_bytes(), facts: Box::new(facts::of_file(&found)) });
        server.tell_memory();
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
            let mut words = Vec::new();
            for event in std::mem::take(&mut self.events) {
                self.tell(event, &mut words);
            }
            self.channel.send_all(&words);
            self.tell_load(more);
            self.drop_adapters();
            if !more {
                return Ok(());
            }
        }
    }

    /// Lets adapters go whose last request has ended.
    fn drop_adapters(&mut self) {
        let engine = &mut self.engine;
        self.dropping.retain(|adapter| engine.remove_adapter(&adapter_name(*adapter)).is_err());
    }

    fn take(&mut self, message: ToWorker) -> Result<(), Failure> {
        let (request, result) = match message {
            ToWorker::Generate(task) => (task.request, self.generate(task)),
            ToWorker::Embed(task) => (task.request, self.embed(task)),
            ToWorker::Spell { request, prompt } => (request, self.spell(request, &prompt)),
            ToWorker::AboutTokenizer { request } => {
                let facts = Box::new(self.tokenizer());
                self.channel.send(&FromWorker::Tokenizer { request, facts });
                return Ok(());
            }
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
            ToWorker::DropAdapter { adapter } => {
                self.dropping.push(adapter);
                return Ok(());
            }
            ToWorker::CancelRequest { request } => {
                // An unknown request has ended already and said so.
                if let Some(event) = self.engine.cancel(request) {
                    let mut words = Vec::new();
                    match self.embeds.remove(&request) {
                        Some(_) => {
                            let (finish, end) = (Finish::Cancelled, Vec::new());
                            words.push(FromWorker::Ended { request, finish, tokens: 0, end });
                        }
                        None => self.tell(event, &mut words),
                    }
                    self.channel.send_all(&words);
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

    /// What an event of the engine is to the daemon.
    fn tell(&mut self, event: EngineEvent, words: &mut Vec<FromWorker>) {
        let id = match &event {
            EngineEvent::Scored { id, nll_sum, count } => {
                words.push(FromWorker::Scored { request: *id, loss_sum: *nll_sum, tokens: u64::from(*count) });
                return;
            }
            EngineEvent::EmbedStarted { id, tokens } => {
                words.push(FromWorker::Began { request: *id, prompt_tokens: *tokens, cached_tokens: 0 });
                return;
            }
            EngineEvent::Embedded { .. } => return self.tell_vector(event, words),
            EngineEvent::Started { id, .. }
            | EngineEvent::Echoed { id, .. }
            | EngineEvent::Piece { id, .. }
            | EngineEvent::Finished { id, .. }
            | EngineEvent::Failed { id, .. } => *id,
        };
        match self.answers.get_mut(&id) {
            Some(answer) => {
                if answer.take(self.engine.vocab(), event, words) {
                    self.answers.remove(&id);
                }
            }
            // Scoring or embedding that was cancelled or failed.
            None => {
                self.embeds.remove(&id);
                if let EngineEvent::Failed { error, .. } = event {
                    eprintln!("hone-worker serve: request {id}: {error}");
                }
                words.push(FromWorker::Refused {
                    request: id,
                    failure: Failure::new(FailureCode::Internal, "this request could not be computed")
                        .hint(HintCode::ReadLog),
                });
            }
        }
    }

    fn generate(&mut self, task: GenerateTask) -> Result<(), Failure> {
        task.wish.check()?;
        let Ready { tokens, limit, check, ear } = self.ready(&task.prompt, &task.wish)?;
        let wish = task.wish;
        let answer = Answer::new(task.request, &wish, tokens.clone(), ear, check);
        let template = self.talk.as_ref().map_or([0; 32], |talk| talk.template().sha256());
        let request = GenRequest {
            id: task.request,
            adapter: task.adapter.map(adapter_name),
            tokens,
            sampling: sampling(&wish),
            limit,
            chances: wish.chances.map(|count| count as usize),
            echo: wish.echo,
            stop: wish.stop,
            max_tokens: wish.tokens_max,
            cache_scope: cache_scope(task.scope, task.adapter, &template),
            ignore_end: wish.ignore_end,
        };
        self.engine.submit_of(request, task.turn.owner, task.turn.weight).map_err(|e| facts::of_refusal(&e))?;
        self.answers.insert(task.request, answer);
        Ok(())
    }

    fn tell_vector(&mut self, event: EngineEvent, words: &mut Vec<FromWorker>) {
        let EngineEvent::Embedded { id, index, vector, left } = event else { return };
        let cut = self.embeds.get(&id).and_then(|cuts| cuts.get(index as usize)).copied().unwrap_or(false);
        if left == 0 {
            self.embeds.remove(&id);
        }
        words.push(FromWorker::Embedded { request: id, index, vector, cut, left });
    }

    fn embed(&mut self, task: EmbedTask) -> Result<(), Failure> {
        let mut inputs = task.inputs.iter().map(|prompt| self.input(prompt)).collect::<Result<Vec<_>, _>>()?;
        let most = self.engine.context_tokens_per_slot();
        let (_, last) = self.engine.vocab().around();
        let mut cuts = vec![false; inputs.len()];
        for (tokens, cut) in inputs.iter_mut().zip(&mut cuts) {
            if task.cut && tokens.len() > most {
                // What ends the whole text ends the cut one.
                let end = tokens.last().copied().filter(|token| Some(*token) == last);
                tokens.truncate(most - usize::from(end.is_some()));
                tokens.extend(end);
                *cut = true;
            }
        }
        self.engine.submit_embed(EmbedRequest { id: task.request, inputs }).map_err(|e| facts::of_refusal(&e))?;
        self.embeds.insert(task.request, cuts);
        Ok(())
    }

    /// The tokens of an input, with those that the model expects around it.
    fn input(&self, prompt: &Prompt) -> Result<Vec<i32>, Failure> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
            Prompt::Text { text, parse_special, add_special } => {
                let vocab = self.engine.vocab();
                let (first, last) = if *add_special { vocab.around() } else { (None, None) };
                let text = vocab.tokenize(text, *parse_special).map_err(facts::of_vocab)?;
                Ok(first.into_iter().chain(text).chain(last).collect())
            }
            Prompt::Chat(_) => Err(Failure::field("input", "a conversation cannot be embedded; send texts or tokens")),
        }
    }

    fn ready(&self, prompt: &Prompt, wish: &Wish) -> Result<Ready, Failure> {
        let tokens = match prompt {
            Prompt::Chat(chat) => {
                let talk = self.talk.as_ref().map_err(Clone::clone)?;
                return talk.ready(self.engine.vocab(), chat, &wish.format);
            }
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Text { text, parse_special, add_special } => {
                let vocab = self.engine.vocab();
                let bos = vocab.named().bos.filter(|_| *add_special && vocab.wants_bos());
                let text = vocab.tokenize(text, *parse_special).map_err(facts::of_vocab)?;
                bos.into_iter().chain(text).collect()
            }
        };
        let (limit, check) = talk::of_format(&wish.format)?;
        Ok(Ready { tokens, limit, check, ear: None })
    }

    fn spell(&self, request: u64, prompt: &Prompt) -> Result<(), Failure> {
        let vocab = self.engine.vocab();
        let tokens = match self.is_encoder {
            true => self.input(prompt)?,
            false => self.ready(prompt, &Wish::default())?.tokens,
        };
        let known = |token: &&i32| usize::try_from(**token).is_ok_and(|t| t < vocab.size());
        if let Some(token) = tokens.iter().find(|token| !known(token)) {
            let size = vocab.size();
            return Err(Failure::field("tokens", format!("there is no token {token}; the vocabulary has {size}")));
        }
        let pieces = tokens.iter().map(|&token| Bytes(vocab.piece(token, true))).collect();
        self.channel.send(&FromWorker::Spelled { request, tokens, pieces });
        Ok(())
    }

    fn tokenizer(&self) -> TokenizerFacts {
        let vocab = self.engine.vocab();
        let named = vocab.named();
        TokenizerFacts {
            bos: vocab.spelling(named.bos),
            eos: vocab.spelling(named.eos),
            pad: vocab.spelling(named.pad),
            adds_bos: vocab.wants_bos(),
            vocabulary: u32::try_from(vocab.size()).unwrap_or(u32::MAX),
            chat_template: self.talk.as_ref().map_or(String::new(), |talk| talk.template().source().to_owned()),
        }
    }

    fn score(
        &mut self,
        request: u64,
        adapter: Option<u32>,
        messages: &[crate::template::ChatMessage],
    ) -> Result<(), Failure> {
        let talk = self.talk.as_ref().map_err(Clone::clone)?;
        let row = talk
            .template()
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
        let own = self.talk.as_ref().map(|talk| Hash(talk.template().sha256()).to_string());
        if let (Some(trained), Ok(own)) = (&found.template_sha256, &own)
            && trained != own
        {
            return Err(wrong(format!(
                "the adapter was trained with another chat template (sha256 {trained}, the base has {own})"
            )));
        }
        self.engine.add_adapter(&adapter_name(adapter), path).map_err(facts::of_engine)?;
        self.adapter_bytes.insert(adapter, std::fs::metadata(path).map_or(0, |file| file.len()));
        Ok(())
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
        self.tell_memory();
    }

    fn tell_memory(&self) {
        let bytes = |tokens: usize| tokens as u64 * self.kv_bytes_per_token;
        let context = |(name, held, most): (Option<&str>, usize, usize)| {
            let adapter = name.and_then(|name| name.parse().ok());
            let file = adapter.and_then(|adapter: u32| self.adapter_bytes.get(&adapter)).copied().unwrap_or(0);
            (adapter, file, bytes(held), bytes(most))
        };
        let contexts = self.engine.held().into_iter().map(context).collect();
        self.channel.send(&FromWorker::Memory { weights_bytes: self.engine.weights_bytes(), contexts });
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

fn sampling(wish: &Wish) -> Sampling {
    let wanted = &wish.sampling;
    Sampling {
        temperature: wanted.temperature,
        top_p: wanted.top_p,
        top_k: wanted.top_k,
        typical_p: wish.typical_p,
        min_p: wanted.min_p,
        repeat_penalty: wanted.repeat_penalty,
        frequency_penalty: wanted.frequency_penalty,
        presence_penalty: wanted.presence_penalty,
        penalty_tokens: PENALTY_TOKENS,
        bias: wish.logit_bias.clone(),
        seed: wanted.seed.map(|s| (s ^ (s >> 32)) as u32),
    }
}
