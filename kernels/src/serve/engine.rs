//! The engine: takes requests, gives every adapter its context, lets contexts take turns by time,
//! and computes one batch per `step`.
//!
//! Single-threaded by design: the owner calls `submit`, `cancel` and `step` from one thread, so a
//! cancel takes effect before the next step. A step is bounded by the chunk budget plus one decode.
//!
//! What never lives here: frames, threads, clocks of the day.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::constraint::Constraint;
use super::embed::{EmbedRequest, Embedder, context_params};
use super::fair::Fair;
use super::lane::{CHUNK_TOKENS_MIN, Lane, Placed};
use super::llama::{Adapter, Context, ContextParams, KvType, Model, ThreadPool};
use super::request::{EngineError, EngineEvent, GenRequest, Refusal, STOP_BYTES_MAX, STOP_STRINGS_MAX, ScoreRequest};
use super::sampling::Sampler;
use super::slot::{Generation, Job, Work};
use super::text::TextStream;
use super::threads::{Governor, physical_cores};
use crate::inspect::Pooling;
use crate::vocab::Vocab;

/// Most slots of one context.
pub const SLOTS_MAX: usize = 256;
/// Most contexts, and thus adapters, that are resident at once.
pub const CONTEXTS_MAX: usize = 64;
/// Most tokens per slot.
pub const CONTEXT_TOKENS_MAX: u32 = 1 << 20;
/// Most tokens computed in one graph: beyond this prompts get no faster on a CPU, and buffers grow.
const GRAPH_TOKENS_MAX: u32 = 512;
/// Rows of logits for scoring in one step, beyond those of running streams. Each costs 4 bytes per
/// vocabulary entry.
const SCORE_OUTPUTS: u32 = 64;
/// So many times longer may a chunk of a prompt take when no stream waits for it: small ones cost a fifth of the speed.
const ALONE: f64 = 4.0;
/// Tokens of the warm-up batch.
const WARM_UP_TOKENS: usize = 16;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineParams {
    /// The base GGUF.
    pub model_path: PathBuf,
    /// Sequences generated at once, per adapter in use.
    pub slots: usize,
    /// Prompt and answer of one sequence, in tokens; rounded up to a multiple of 256.
    pub context_tokens_per_slot: u32,
    /// Most threads; `None` takes one per physical core. Fewer are used while other programs want the
    /// cores (see `threads`).
    pub threads: Option<usize>,
    /// Number format of the key/value cache.
    pub kv_type: KvType,
    /// Most time a running stream waits for others' prompts, per step, in milliseconds.
    pub chunk_budget_ms: u32,
    /// Most contexts at once. When another adapter is asked for, an idle one makes room; if none is
    /// idle, the least recently used one gets no new requests until it is.
    pub contexts_max: usize,
    /// Most requests that wait for a slot; further ones are refused.
    pub waiting_max: usize,
    /// Whether the model is an encoder, which makes embeddings and nothing else.
    pub is_encoder: bool,
    /// How the vectors of tokens become one; `None` where the file does not say, which means their mean.
    pub pooling: Option<Pooling>,
}

impl EngineParams {
    /// Defaults for a model file: 16 slots of 2,048 tokens, 200 ms chunks, 4 contexts.
    pub fn new(model_path: &Path) -> Self {
        Self {
            model_path: model_path.to_owned(),
            slots: 16,
            context_tokens_per_slot: 2048,
            threads: None,
            kv_type: KvType::F16,
            chunk_budget_ms: 200,
            contexts_max: 4,
            waiting_max: 1024,
            is_encoder: false,
            pooling: None,
        }
    }

    fn check(&self) -> Result<(), EngineError> {
        let fields = [
            ("slots", 1, SLOTS_MAX as u64, self.slots as u64),
            ("context_tokens_per_slot", 1, u64::from(CONTEXT_TOKENS_MAX), u64::from(self.context_tokens_per_slot)),
            ("threads", 1, 512, self.threads.unwrap_or(1) as u64),
            ("chunk_budget_ms", 1, 60_000, u64::from(self.chunk_budget_ms)),
            ("contexts_max", 1, CONTEXTS_MAX as u64, self.contexts_max as u64),
            ("waiting_max", 0, 1 << 20, self.waiting_max as u64),
        ];
        for (field, low, high, got) in fields {
            if !(low..=high).contains(&got) {
                return Err(EngineError::Params { field, low, high, got });
            }
        }
        Ok(())
    }
}

/// What the engine is doing and has done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// Requests in a slot.
    pub running: usize,
    /// Requests without one.
    pub waiting: usize,
    /// Contexts in memory.
    pub contexts: usize,
    /// Slots of one context.
    pub slots: usize,
    /// Tokens a slot holds.
    pub context_tokens_per_slot: usize,
    /// Threads that compute at present.
    pub threads: usize,
    /// Steps computed.
    pub steps: u64,
    /// Prompt tokens computed (cached ones not counted).
    pub prompt_tokens: u64,
    /// Tokens sampled.
    pub sampled_tokens: u64,
    /// Prompt tokens per second of the base context, running average.
    pub prompt_tokens_per_s: f64,
    /// Longest step so far, in milliseconds.
    pub longest_step_ms: f64,
}

/// A model being served.
pub struct Engine {
    params: EngineParams,
    model: Arc<Model>,
    vocab: Vocab,
    pool: Option<Arc<ThreadPool>>,
    governor: Governor,
    adapters: HashMap<String, Arc<Adapter>>,
    lanes: Vec<Lane>,
    /// An encoder's own; that of a decoder is made when embeddings are first asked for.
    embedder: Option<Embedder>,
    /// Adapter whose lane takes no new requests, so that it can make room.
    draining: Option<Option<String>>,
    /// In the order of their turns.
    waiting: VecDeque<Job>,
    fair: Fair,
    /// Events that did not need a step; given out by the next one.
    ready: Vec<EngineEvent>,
    slot_tokens: usize,
    stats: EngineStats,
}

impl Engine {
    /// Loads the model, makes its first context and warms it up.
    ///
    /// A context longer than the model was trained for is shortened to that.
    pub fn load(mut params: EngineParams) -> Result<Self, EngineError> {
        params.check()?;
        let model = Model::load(&params.model_path)?;
        if model.trained_context_tokens() > 0 {
            let most = model.trained_context_tokens();
            params.context_tokens_per_slot = params.context_tokens_per_slot.min(most);
        }
        let threads = params.threads.unwrap_or_else(physical_cores);
        let mut engine = Self {
            vocab: Vocab::of(model.clone()),
            pool: ThreadPool::new(threads),
            governor: Governor::new(threads),
            model,
            adapters: HashMap::new(),
            lanes: Vec::new(),
            embedder: None,
            draining: None,
            waiting: VecDeque::new(),
            fair: Fair::default(),
            ready: Vec::new(),
            slot_tokens: 0,
            stats: EngineStats::default(),
            params,
        };
        if engine.params.is_encoder {
            engine.slot_tokens = engine.params.context_tokens_per_slot as usize;
            engine.embedder = Some(engine.new_embedder()?);
            engine.warm_up_embedder();
            return Ok(engine);
        }
        let mut lane = engine.new_lane(None, 0.0)?;
        lane.warm_up(WARM_UP_TOKENS)?;
        engine.slot_tokens = lane.slot_tokens();
        engine.lanes.push(lane);
        Ok(engine)
    }

    /// The model's vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Tokens that a slot holds, prompt and answer together.
    pub fn context_tokens_per_slot(&self) -> usize {
        self.slot_tokens
    }

    /// Loads an adapter and makes it known under `name`; its context is made when it is first used.
    pub fn add_adapter(&mut self, name: &str, path: &Path) -> Result<(), EngineError> {
        let adapter = Adapter::load(&self.model, path)?;
        if self.adapters.contains_key(name) {
            self.remove_adapter(name)?;
        }
        self.adapters.insert(name.to_owned(), adapter);
        Ok(())
    }

    /// Forgets an adapter and its context. Refused while it has requests.
    pub fn remove_adapter(&mut self, name: &str) -> Result<(), EngineError> {
        let uses = |adapter: &Option<String>| adapter.as_deref() == Some(name);
        let lane_busy = self.lanes.iter().any(|l| uses(&l.adapter) && l.is_busy());
        if lane_busy || self.waiting.iter().any(|j| uses(&j.adapter)) {
            return Err(EngineError::AdapterBusy { name: name.to_owned() });
        }
        self.lanes.retain(|l| !uses(&l.adapter));
        self.adapters.remove(name);
        Ok(())
    }

    /// Takes a request to generate; its events come from later steps.
    pub fn submit(&mut self, request: GenRequest) -> Result<(), Refusal> {
        self.submit_of(request, 0, 1)
    }

    /// The same as one of an owner, who gets slots by its weight while others wait.
    pub fn submit_of(&mut self, request: GenRequest, owner: u64, weight: u32) -> Result<(), Refusal> {
        self.check_common(request.id, &request.adapter, &request.tokens)?;
        request.sampling.check()?;
        if request.max_tokens == 0 && !request.echo {
            return Err(Refusal::MaxTokens);
        }
        let vocab_size = self.vocab.size();
        let outside = |token: i32| usize::try_from(token).map_or(true, |t| t >= vocab_size);
        if let Some(&(token, _)) = request.sampling.bias.iter().find(|(token, _)| outside(*token)) {
            return Err(Refusal::Bias { token, vocab_size });
        }
        for (index, stop) in request.stop.iter().enumerate() {
            let bytes = stop.len();
            if index >= STOP_STRINGS_MAX || bytes == 0 || bytes > STOP_BYTES_MAX {
                return Err(Refusal::Stop { index, bytes });
            }
        }
        // One position must be left for the first answer token.
        self.check_length(request.tokens.len() + 1, request.tokens.len())?;
        let constraint = request.limit.as_ref().map(|limit| Constraint::new(limit, &self.vocab)).transpose()?;
        let echo = request.echo && request.chances.is_some();
        let turn = self.fair.arrive(owner, weight);
        let at = self.waiting.partition_point(|job| job.turn.start <= turn.start);
        let job = Job {
            id: request.id,
            adapter: request.adapter,
            work: Work::Generate(Box::new(Generation {
                sampler: Sampler::new(&request.sampling, vocab_size, constraint),
                text: TextStream::new(&request.stop),
                max_tokens: request.max_tokens,
                ignore_end: request.ignore_end,
                chances: request.chances,
                echo: echo.then(Vec::new),
                untold: Vec::new(),
                end: None,
            })),
            prompt: request.tokens,
            // What is cached has no logits left.
            scope: (!echo).then_some(request.cache_scope),
            submitted: Instant::now(),
            turn,
        };
        self.waiting.insert(at, job);
        Ok(())
    }

    /// Takes a request to score; one `Scored` event comes from a later step.
    pub fn submit_score(&mut self, request: ScoreRequest) -> Result<(), Refusal> {
        self.check_common(request.id, &request.adapter, &request.tokens)?;
        if request.trained.len() != request.tokens.len() {
            return Err(Refusal::Trained { trained: request.trained.len(), tokens: request.tokens.len() });
        }
        self.check_length(request.tokens.len(), request.tokens.len())?;
        let mut trained = request.trained;
        trained[0] = false;
        if !trained.contains(&true) {
            self.ready.push(EngineEvent::Scored { id: request.id, nll_sum: 0.0, count: 0 });
            return Ok(());
        }
        let turn = self.fair.arrive(0, 1);
        let at = self.waiting.partition_point(|job| job.turn.start <= turn.start);
        let job = Job {
            id: request.id,
            adapter: request.adapter,
            prompt: request.tokens,
            work: Work::Score { trained, nll_sum: 0.0, count: 0 },
            scope: None,
            submitted: Instant::now(),
            turn,
        };
        self.waiting.insert(at, job);
        Ok(())
    }

    /// Takes a request for vectors; its events come from later steps.
    pub fn submit_embed(&mut self, request: EmbedRequest) -> Result<(), Refusal> {
        if request.inputs.is_empty() {
            return Err(Refusal::Empty);
        }
        let tokens_max = self.context_tokens_per_slot();
        for (index, input) in request.inputs.iter().enumerate() {
            match input.len() {
                0 => return Err(Refusal::EmptyInput { index }),
                tokens if tokens > tokens_max => return Err(Refusal::InputTooLong { index, tokens, tokens_max }),
                _ => self.check_tokens(input)?,
            }
        }
        self.check_room(request.id)?;
        if self.embedder.is_none() {
            let made = self.new_embedder().map_err(|error| Refusal::NoContext { detail: error.to_string() })?;
            self.embedder = Some(made);
        }
        let busy = self.lanes.iter().filter(|lane| lane.is_busy()).map(|lane| lane.clock_s).min_by(f64::total_cmp);
        if let Some(embedder) = &mut self.embedder {
            // As for lanes: time that was not used does not come back.
            if let Some(least) = busy.filter(|_| !embedder.is_busy()) {
                embedder.clock_s = embedder.clock_s.max(least);
            }
            embedder.take(request);
        }
        Ok(())
    }

    fn check_common(&self, id: u64, adapter: &Option<String>, tokens: &[i32]) -> Result<(), Refusal> {
        if self.params.is_encoder {
            return Err(Refusal::Encoder);
        }
        if let Some(name) = adapter
            && !self.adapters.contains_key(name)
        {
            return Err(Refusal::UnknownAdapter { name: name.clone() });
        }
        if tokens.is_empty() {
            return Err(Refusal::Empty);
        }
        self.check_tokens(tokens)?;
        self.check_room(id)
    }

    fn check_tokens(&self, tokens: &[i32]) -> Result<(), Refusal> {
        let vocab_size = self.vocab.size();
        let outside = |t: &i32| usize::try_from(*t).map_or(true, |t| t >= vocab_size);
        match tokens.iter().position(outside) {
            Some(index) => Err(Refusal::Token { index, token: tokens[index], vocab_size }),
            None => Ok(()),
        }
    }

    fn check_room(&self, id: u64) -> Result<(), Refusal> {
        let embeds = self.embedder.as_ref().is_some_and(|embedder| embedder.holds(id));
        if embeds || self.waiting.iter().any(|j| j.id == id) || self.lanes.iter().any(|l| l.holds(id)) {
            return Err(Refusal::IdInUse { id });
        }
        let waiting = self.waiting.len() + self.embedder.as_ref().map_or(0, Embedder::waiting);
        if waiting >= self.params.waiting_max {
            return Err(Refusal::QueueFull { waiting });
        }
        Ok(())
    }

    fn check_length(&self, needed: usize, prompt_tokens: usize) -> Result<(), Refusal> {
        let context_tokens = self.context_tokens_per_slot();
        if needed > context_tokens {
            return Err(Refusal::PromptTooLong { prompt_tokens, context_tokens });
        }
        Ok(())
    }

    /// Stops a request, waiting or running. Its last event is returned; `None` if it is unknown or
    /// already over, in which case its last event was given out before.
    pub fn cancel(&mut self, id: u64) -> Option<EngineEvent> {
        if let Some(at) = self.waiting.iter().position(|j| j.id == id) {
            let job = self.waiting.remove(at)?;
            self.fair.leave(job.turn);
            return Some(job.cancelled(None));
        }
        if self.embedder.as_mut().is_some_and(|embedder| embedder.cancel(id)) {
            return Some(EngineEvent::Failed { id, error: "it was cancelled".into(), completion_tokens: 0 });
        }
        self.lanes.iter_mut().find_map(|lane| lane.cancel(id))
    }

    /// Places waiting requests and computes one batch of the context whose turn it is. Appends what
    /// happened to `out`. False when there is nothing left to do.
    pub fn step(&mut self, out: &mut Vec<EngineEvent>) -> bool {
        out.append(&mut self.ready);
        self.admit(out);
        let next = (0..self.lanes.len())
            .filter(|&i| self.lanes[i].is_busy())
            .min_by(|&a, &b| self.lanes[a].clock_s.total_cmp(&self.lanes[b].clock_s));
        let clock_s = next.map_or(f64::INFINITY, |next| self.lanes[next].clock_s);
        if self.embedder.as_ref().is_some_and(|embedder| embedder.is_busy() && embedder.clock_s < clock_s) {
            self.step_embedder(out);
            return self.is_busy();
        }
        let Some(next) = next else {
            self.governor.pause();
            return !self.waiting.is_empty();
        };
        let nobody_waits = !self.lanes.iter().any(Lane::has_streams);
        let budget_s = f64::from(self.params.chunk_budget_ms) / 1e3 * if nobody_waits { ALONE } else { 1.0 };
        let lane = &mut self.lanes[next];
        let stepped = lane.step(&self.vocab, budget_s, out);
        lane.clock_s += stepped.elapsed_s;
        self.stats.steps += 1;
        lane.last_used = self.stats.steps;
        self.stats.prompt_tokens += stepped.prompt_tokens;
        self.stats.sampled_tokens += stepped.sampled_tokens;
        self.stats.longest_step_ms = self.stats.longest_step_ms.max(stepped.elapsed_s * 1e3);
        self.follow_governor();
        self.is_busy()
    }

    fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
            || self.lanes.iter().any(Lane::is_busy)
            || self.embedder.as_ref().is_some_and(Embedder::is_busy)
    }

    fn step_embedder(&mut self, out: &mut Vec<EngineEvent>) {
        let Some(embedder) = &mut self.embedder else { return };
        let started = Instant::now();
        let tokens = embedder.step(out);
        let elapsed_s = started.elapsed().as_secs_f64();
        embedder.clock_s += elapsed_s;
        self.stats.steps += 1;
        self.stats.prompt_tokens += tokens as u64;
        self.stats.longest_step_ms = self.stats.longest_step_ms.max(elapsed_s * 1e3);
        self.follow_governor();
    }

    /// Computes with as many threads from now on as the governor says.
    fn follow_governor(&mut self) {
        if self.governor.after_step() {
            let threads = self.governor.threads();
            self.lanes.iter_mut().for_each(|lane| lane.set_threads(threads));
            self.embedder.iter_mut().for_each(|embedder| embedder.set_threads(threads));
        }
    }

    /// Gives slots to waiting requests, in order of their turns within each adapter.
    fn admit(&mut self, out: &mut Vec<EngineEvent>) {
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        let mut blocked: Vec<Option<String>> = Vec::new();
        let resident = |a: &Option<String>| self.lanes.iter().any(|l| l.adapter == *a);
        if self.waiting.iter().all(|j| resident(&j.adapter)) {
            self.draining = None;
        }
        while let Some(job) = self.waiting.pop_front() {
            if blocked.contains(&job.adapter) {
                kept.push_back(job);
                continue;
            }
            let lane = match self.lane_for(&job.adapter) {
                Ok(Some(lane)) => lane,
                Ok(None) => {
                    blocked.push(job.adapter.clone());
                    kept.push_back(job);
                    continue;
                }
                Err(error) => {
                    out.push(EngineEvent::Failed { id: job.id, error: error.to_string(), completion_tokens: 0 });
                    continue;
                }
            };
            let lane = &mut self.lanes[lane];
            if lane.running() == self.params.slots {
                blocked.push(job.adapter.clone());
                kept.push_back(job);
                continue;
            }
            // A request that waits for a shared beginning lets the next one go first.
            let turn = job.turn;
            match lane.place(job, out) {
                Placed::NotYet(job) => kept.push_back(job),
                _ => self.fair.begin(turn),
            }
        }
        self.waiting = kept;
    }

    /// The lane of an adapter, made if there is room; `None` when it has to wait for room.
    fn lane_for(&mut self, adapter: &Option<String>) -> Result<Option<usize>, EngineError> {
        if self.draining.as_ref() == Some(adapter) {
            // Once its last request is over it makes room; then it may come back in its turn.
            return Ok(None);
        }
        if let Some(at) = self.lanes.iter().position(|l| l.adapter == *adapter) {
            self.catch_up(at);
            return Ok(Some(at));
        }
        if self.lanes.len() >= self.params.contexts_max {
            let idle =
                (0..self.lanes.len()).filter(|&i| !self.lanes[i].is_busy()).min_by_key(|&i| self.lanes[i].last_used);
            let Some(idle) = idle else {
                let oldest = self.lanes.iter().min_by_key(|l| l.last_used);
                self.draining = oldest.map(|l| l.adapter.clone());
                return Ok(None);
            };
            self.lanes.remove(idle);
        }
        self.draining = None;
        let rate = self.lanes.first().map_or(0.0, Lane::prompt_rate);
        let lane = self.new_lane(adapter.clone(), rate)?;
        self.lanes.push(lane);
        self.catch_up(self.lanes.len() - 1);
        Ok(Some(self.lanes.len() - 1))
    }

    /// A lane that was idle does not get the time back that it did not use.
    fn catch_up(&mut self, at: usize) {
        if self.lanes[at].is_busy() {
            return;
        }
        let busy = self.lanes.iter().filter(|l| l.is_busy());
        if let Some(least) = busy.map(|l| l.clock_s).min_by(f64::total_cmp) {
            self.lanes[at].clock_s = self.lanes[at].clock_s.max(least);
        }
    }

    fn new_lane(&self, adapter: Option<String>, rate: f64) -> Result<Lane, EngineError> {
        let loaded = adapter.as_ref().and_then(|name| self.adapters.get(name));
        let slots = u32::try_from(self.params.slots).unwrap_or(u32::MAX);
        let context = Context::new(
            &self.model,
            loaded.cloned(),
            self.pool.clone(),
            ContextParams {
                slots,
                tokens_per_slot: self.params.context_tokens_per_slot,
                batch_tokens_max: GRAPH_TOKENS_MAX + slots,
                graph_tokens_max: GRAPH_TOKENS_MAX,
                outputs_max: slots + SCORE_OUTPUTS,
                threads: self.governor.threads(),
                kv_type: self.params.kv_type,
                embeds: false,
            },
        )?;
        Ok(Lane::new(adapter, context, self.model.can_cut_sequences(), rate.max(CHUNK_TOKENS_MIN as f64)))
    }

    fn new_embedder(&self) -> Result<Embedder, EngineError> {
        let sizes = context_params(&self.params, self.slot_tokens as u32, self.governor.threads());
        let context = Context::new(&self.model, None, self.pool.clone(), sizes)?;
        Ok(Embedder::new(context, &self.params))
    }

    /// As for a lane: pages of the weights are touched and buffers made before the first request.
    fn warm_up_embedder(&mut self) {
        if let Some(embedder) = &mut self.embedder {
            let tokens = WARM_UP_TOKENS.min(self.slot_tokens);
            embedder.take(EmbedRequest { id: 0, inputs: vec![vec![0; tokens]] });
            embedder.step(&mut Vec::new());
        }
    }

    /// Tokens that the slots of the bare model hold.
    #[cfg(test)]
    pub(super) fn held_tokens(&self) -> Vec<Vec<i32>> {
        self.lanes[0].held_tokens()
    }

    /// Bytes of all tensors of the base.
    pub fn weights_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }

    /// Of each context: the adapter's name, the tokens that its slots hold, and those that they could hold.
    pub fn held(&self) -> Vec<(Option<&str>, usize, usize)> {
        let most = self.params.slots * self.slot_tokens;
        self.lanes.iter().map(|lane| (lane.adapter.as_deref(), lane.tokens_held(), most)).collect()
    }

    /// What the engine is doing and has done.
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            running: self.lanes.iter().map(Lane::running).sum::<usize>()
                + self.embedder.as_ref().map_or(0, Embedder::running),
            waiting: self.waiting.len() + self.embedder.as_ref().map_or(0, Embedder::waiting),
            contexts: self.lanes.len(),
            slots: self.params.slots,
            context_tokens_per_slot: self.context_tokens_per_slot(),
            threads: self.governor.threads(),
            prompt_tokens_per_s: self.lanes.first().map_or(0.0, Lane::prompt_rate),
            ..self.stats.clone()
        }
    }
}
