//! One sequence: what its stretch of the cache holds and what is being done with it.
//!
//! What never lives here: batches, other slots, llama.cpp.

use std::time::Instant;

use super::fair::Turn;
use super::request::{EngineEvent, Finish, Times};
use super::sampling::{Chance, Sampler, chance};
use super::text::TextStream;

/// What a request wants from its slot.
#[derive(Debug)]
pub(super) enum Work {
    /// Sample tokens.
    Generate(Box<Generation>),
    /// Sum up -ln p of the marked tokens.
    Score { trained: Vec<bool>, nll_sum: f64, count: u32 },
}

/// A generation under way.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) sampler: Sampler,
    pub(super) text: TextStream,
    pub(super) max_tokens: u32,
    pub(super) ignore_end: bool,
    /// How many of the likeliest tokens to tell beside each; `None` tells no log-probabilities.
    pub(super) chances: Option<usize>,
    /// Of the prompt's tokens so far, when they are wanted.
    pub(super) echo: Option<Vec<Chance>>,
    /// Of tokens that are not wholly shown yet.
    pub(super) untold: Vec<Chance>,
    /// Of the end token.
    pub(super) end: Option<Chance>,
}

impl Generation {
    /// The log-probabilities of the tokens that became wholly part of the text.
    fn told(&mut self, tokens_total: u32) -> Vec<Chance> {
        // What waits are always the last tokens that were sampled.
        let waiting = (self.text.tokens_pushed() - tokens_total) as usize;
        let ready = self.untold.len().saturating_sub(waiting);
        self.untold.drain(..ready).collect()
    }

    fn piece(&mut self, id: u64, emission: super::text::Emission) -> EngineEvent {
        let chances = self.told(emission.tokens_total);
        EngineEvent::Piece { id, text: emission.text, tokens_total: emission.tokens_total, chances }
    }
}

/// A request that passed its checks.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) adapter: Option<String>,
    pub(super) prompt: Vec<i32>,
    pub(super) work: Work,
    /// `None`: never reuse a cache, never leave one behind.
    pub(super) scope: Option<[u8; 32]>,
    pub(super) submitted: Instant,
    /// Its place among those that wait.
    pub(super) turn: Turn,
}

impl Job {
    /// Whether the logits after prompt token `index` are needed.
    pub(super) fn wants_output(&self, index: usize) -> bool {
        match &self.work {
            Work::Generate(wanted) => wanted.echo.is_some() || index + 1 == self.prompt.len(),
            Work::Score { trained, .. } => trained.get(index + 1).copied().unwrap_or(false),
        }
    }

    /// Prompt tokens that must be computed: scoring needs none after the last scored token.
    pub(super) fn tokens_needed(&self) -> usize {
        match &self.work {
            Work::Generate(_) => self.prompt.len(),
            Work::Score { trained, .. } => trained.iter().rposition(|&t| t).unwrap_or(0),
        }
    }

    /// The last event of a request that never got or will get no further.
    pub(super) fn cancelled(&self, active: Option<&Active>) -> EngineEvent {
        let completion_tokens = match &self.work {
            Work::Generate(wanted) => wanted.text.tokens_emitted(),
            Work::Score { .. } => 0,
        };
        EngineEvent::Finished {
            id: self.id,
            finish: Finish::Cancelled,
            prompt_tokens: self.prompt.len() as u32,
            cached_tokens: active.map_or(0, |a| a.cached_tokens),
            completion_tokens,
            sampled_tokens: active.map_or(0, |a| a.sampled),
            end: Vec::new(),
            times: active.map_or_else(
                || Times { queue_ms: ms(self.submitted, Instant::now()), ..Times::default() },
                Active::times,
            ),
        }
    }
}

fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

/// A job in a slot.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) job: Job,
    /// Prompt tokens found in the cache.
    pub(super) cached_tokens: u32,
    /// The sampled token that is not in the cache yet; `None` while the prompt is computed.
    pub(super) pending: Option<i32>,
    /// Tokens sampled.
    pub(super) sampled: u32,
    /// Rises with every placement: older prompts are computed first.
    pub(super) order: u64,
    started: Instant,
    first: Option<Instant>,
}

/// What one more sampled token led to.
pub(super) enum Sampled {
    GoOn,
    Ended(Finish),
    /// The logits held no finite number.
    Broken,
}

impl Active {
    pub(super) fn new(job: Job, cached_tokens: usize, order: u64) -> Self {
        Self {
            job,
            cached_tokens: cached_tokens as u32,
            pending: None,
            sampled: 0,
            order,
            started: Instant::now(),
            first: None,
        }
    }

    fn times(&self) -> Times {
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        Times {
            queue_ms: ms(self.job.submitted, self.started),
            prompt_ms: ms(self.started, first),
            generate_ms: ms(first, now),
        }
    }

    /// Samples from `logits`; `full` says that the slot has no room for another token after it.
    pub(super) fn sample(
        &mut self,
        logits: &[f32],
        vocab: &crate::vocab::Vocab,
        full: bool,
        out: &mut Vec<EngineEvent>,
    ) -> Sampled {
        let id = self.job.id;
        let Work::Generate(wanted) = &mut self.job.work else {
            return Sampled::Broken;
        };
        if let Some(chances) = wanted.echo.take() {
            out.push(EngineEvent::Echoed { id, chances });
        }
        if wanted.max_tokens == 0 {
            return Sampled::Ended(Finish::MaxTokens);
        }
        let Some(token) = wanted.sampler.pick(logits) else {
            return Sampled::Broken;
        };
        self.first.get_or_insert_with(Instant::now);
        self.sampled += 1;
        let told = match wanted.chances.map(|count| chance(logits, token, count)) {
            Some(None) => return Sampled::Broken,
            told => told.flatten(),
        };
        if vocab.is_end(token) && !wanted.ignore_end {
            wanted.end = told;
            return Sampled::Ended(Finish::End);
        }
        wanted.untold.extend(told);
        let pushed = wanted.text.push(&vocab.piece(token, false));
        if let Some(emission) = pushed.emission {
            out.push(wanted.piece(id, emission));
        }
        if let Some(stop) = pushed.stopped {
            return Sampled::Ended(Finish::StopString(stop));
        }
        if wanted.text.tokens_pushed() >= wanted.max_tokens {
            return Sampled::Ended(Finish::MaxTokens);
        }
        if full {
            return Sampled::Ended(Finish::ContextFull);
        }
        self.pending = Some(token);
        Sampled::GoOn
    }

    /// Adds one scored token. False if the logits hold no finite number.
    pub(super) fn score(&mut self, logits: &[f32], target: i32) -> bool {
        let (nll_sum, count) = match &mut self.job.work {
            Work::Score { nll_sum, count, .. } => (nll_sum, count),
            Work::Generate(wanted) => {
                let told = chance(logits, target, wanted.chances.unwrap_or(0));
                return match (&mut wanted.echo, told) {
                    (Some(echo), Some(told)) => {
                        echo.push(told);
                        true
                    }
                    _ => false,
                };
            }
        };
        match super::sampling::negative_log_probability(logits, target) {
            Some(nll) => {
                *nll_sum += nll;
                *count += 1;
                true
            }
            None => false,
        }
    }

    /// The last events of a job that ended by itself.
    pub(super) fn finish(&mut self, finish: Finish, out: &mut Vec<EngineEvent>) {
        let id = self.job.id;
        let times = self.times();
        match &mut self.job.work {
            Work::Score { nll_sum, count, .. } => {
                out.push(EngineEvent::Scored { id, nll_sum: *nll_sum, count: *count })
            }
            Work::Generate(wanted) => {
                let at_stop = matches!(finish, Finish::StopString(_));
                if !at_stop && let Some(emission) = wanted.text.flush() {
                    out.push(wanted.piece(id, emission));
                }
                let mut end = std::mem::take(&mut wanted.untold);
                if at_stop {
                    end.clear();
                }
                end.extend(wanted.end.take());
                out.push(EngineEvent::Finished {
                    id,
                    finish,
                    prompt_tokens: self.job.prompt.len() as u32,
                    cached_tokens: self.cached_tokens,
                    completion_tokens: wanted.text.tokens_emitted(),
                    sampled_tokens: self.sampled,
                    end,
                    times,
                });
            }
        }
    }

    /// The last event of a job that cannot go on.
    pub(super) fn fail(&self, error: &str) -> EngineEvent {
        EngineEvent::Failed {
            id: self.job.id,
            error: error.to_owned(),
            completion_tokens: match &self.job.work {
                Work::Generate(wanted) => wanted.text.tokens_emitted(),
                Work::Score { .. } => 0,
            },
        }
    }
}

/// One sequence of a context.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Tokens whose keys and values are in the cache, from position 0.
    pub(super) tokens: Vec<i32>,
    /// Who may reuse them.
    pub(super) scope: Option<[u8; 32]>,
    pub(super) active: Option<Active>,
    /// Rises with use: the least recently used free slot is overwritten first.
    pub(super) last_used: u64,
}

impl Slot {
    /// Tokens at the start of `prompt` that this slot holds and `scope` may reuse. Never the whole
    /// prompt: the last token must be computed to have logits to sample from.
    pub(super) fn reusable(&self, prompt: &[i32], scope: Option<[u8; 32]>) -> usize {
        if scope.is_none() || self.scope != scope {
            return 0;
        }
        common_prefix(&self.tokens, prompt).min(prompt.len().saturating_sub(1))
    }

    /// Prompt tokens that are still to be computed; 0 when generating or free.
    pub(super) fn prompt_left(&self) -> usize {
        match &self.active {
            Some(a) if a.pending.is_none() => a.job.tokens_needed().saturating_sub(self.tokens.len()),
            _ => 0,
        }
    }
}

/// Length of the common beginning of two token lists.
pub(super) fn common_prefix(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
