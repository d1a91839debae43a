//! One sequence: what its stretch of the cache holds and what is being done with it.
//!
//! What never lives here: batches, other slots, llama.cpp.

use std::time::Instant;

use super::request::{EngineEvent, Finish, Times};
use super::sampling::Sampler;
use super::text::TextStream;

/// What a request wants from its slot.
#[derive(Debug)]
pub(super) enum Work {
    /// Sample tokens.
    Generate { sampler: Sampler, text: TextStream, max_tokens: u32, ignore_end: bool },
    /// Sum up -ln p of the marked tokens.
    Score { trained: Vec<bool>, nll_sum: f64, count: u32 },
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
}

impl Job {
    /// Whether the logits after prompt token `index` are needed.
    pub(super) fn wants_output(&self, index: usize) -> bool {
        match &self.work {
            Work::Generate { .. } => index + 1 == self.prompt.len(),
            Work::Score { trained, .. } => trained.get(index + 1).copied().unwrap_or(false),
        }
    }

    /// Prompt tokens that must be computed: scoring needs none after the last scored token.
    pub(super) fn tokens_needed(&self) -> usize {
        match &self.work {
            Work::Generate { .. } => self.prompt.len(),
            Work::Score { trained, .. } => trained.iter().rposition(|&t| t).unwrap_or(0),
        }
    }

    /// The last event of a request that never got or will get no further.
    pub(super) fn cancelled(&self, active: Option<&Active>) -> EngineEvent {
        let completion_tokens = match &self.work {
            Work::Generate { text, .. } => text.tokens_emitted(),
            Work::Score { .. } => 0,
        };
        EngineEvent::Finished {
            id: self.id,
            finish: Finish::Cancelled,
            prompt_tokens: self.prompt.len() as u32,
            cached_tokens: active.map_or(0, |a| a.cached_tokens),
            completion_tokens,
            sampled_tokens: active.map_or(0, |a| a.sampled),
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
        let Work::Generate { sampler, text, max_tokens, ignore_end } = &mut self.job.work else {
            return Sampled::Broken;
        };
        let Some(token) = sampler.pick(logits) else {
            return Sampled::Broken;
        };
        self.first.get_or_insert_with(Instant::now);
        self.sampled += 1;
        if vocab.is_end(token) && !*ignore_end {
            return Sampled::Ended(Finish::End);
        }
        let pushed = text.push(&vocab.piece(token, false));
        if let Some(emission) = pushed.emission {
            out.push(EngineEvent::Piece { id: self.job.id, text: emission.text, tokens_total: emission.tokens_total });
        }
        if pushed.stopped {
            return Sampled::Ended(Finish::StopString);
        }
        if text.tokens_pushed() >= *max_tokens {
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
        let Work::Score { nll_sum, count, .. } = &mut self.job.work else {
            return false;
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
            Work::Generate { text, .. } => {
                if finish != Finish::StopString
                    && let Some(emission) = text.flush()
                {
                    out.push(EngineEvent::Piece { id, text: emission.text, tokens_total: emission.tokens_total });
                }
                out.push(EngineEvent::Finished {
                    id,
                    finish,
                    prompt_tokens: self.job.prompt.len() as u32,
                    cached_tokens: self.cached_tokens,
                    completion_tokens: text.tokens_emitted(),
                    sampled_tokens: self.sampled,
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
                Work::Generate { text, .. } => text.tokens_emitted(),
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
