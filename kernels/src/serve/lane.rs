//! One context with its slots: where a request is placed, what one batch holds, and what its logits
//! lead to.
//!
//! What never lives here: several adapters (see `engine`), text rules, sampling rules.

use std::time::Instant;

use super::llama::{Batch, Context, LlamaError};
use super::request::{EngineEvent, Finish};
use super::slot::{Active, Job, Sampled, Slot, Work, common_prefix};
use crate::vocab::Vocab;

/// Tokens that must be gained for a copy of another slot's cache, or for waiting until another slot
/// has computed a shared beginning. Computing this many takes longer than copying a slot.
const SHARE_TOKENS_MIN: usize = 64;
/// ggml's attention on the CPU is several times as fast from so many tokens of one sequence on (`GGML_FA_TILE_Q`).
const TILE_TOKENS: usize = 64;
/// Smallest chunk of prompt tokens, however slow the machine.
pub(super) const CHUNK_TOKENS_MIN: usize = 32;
/// Weight of the newest measurement in the running averages of speed.
const NEWEST_WEIGHT: f64 = 0.3;

/// What to do with a logits row after decoding.
#[derive(Clone, Copy, Debug)]
enum Use {
    Sample,
    Score { target: i32 },
}

#[derive(Clone, Copy, Debug)]
struct Row {
    slot: usize,
    batch_index: usize,
    what: Use,
}

/// What one step computed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stepped {
    pub(super) prompt_tokens: u64,
    pub(super) sampled_tokens: u64,
    pub(super) elapsed_s: f64,
}

/// What became of a request that asked for a slot.
pub(super) enum Placed {
    /// It has a slot; the number says how many prompt tokens were cached.
    Yes,
    /// It must wait; here it is back.
    NotYet(Job),
}

pub(super) struct Lane {
    pub(super) adapter: Option<String>,
    /// Seconds of computing this lane was given; the lane with the fewest goes next.
    pub(super) clock_s: f64,
    pub(super) last_used: u64,
    context: Context,
    slots: Vec<Slot>,
    batch: Batch,
    rows: Vec<Row>,
    /// Prompt tokens per second, running average.
    prompt_rate: f64,
    /// Seconds of a step without prompt tokens, running average.
    decode_s: f64,
    /// Whether cached tokens can be reused for this model.
    can_cut: bool,
    uses: u64,
}

impl Lane {
    pub(super) fn new(adapter: Option<String>, context: Context, can_cut: bool, rate: f64) -> Self {
        let slots = (0..context.params().slots).map(|_| Slot::default());
        Self {
            adapter,
            clock_s: 0.0,
            last_used: 0,
            slots: slots.collect(),
            context,
            batch: Batch::default(),
            rows: Vec::new(),
            prompt_rate: rate,
            decode_s: 0.0,
            can_cut,
            uses: 0,
        }
    }

    pub(super) fn slot_tokens(&self) -> usize {
        self.context.params().tokens_per_slot as usize
    }

    pub(super) fn running(&self) -> usize {
        self.slots.iter().filter(|s| s.active.is_some()).count()
    }

    /// Whether an answer is being written, which waits while a prompt is computed.
    pub(super) fn has_streams(&self) -> bool {
        self.slots.iter().any(|s| s.active.as_ref().is_some_and(|a| a.pending.is_some()))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.slots.iter().any(|s| s.active.is_some())
    }

    /// Computes with so many threads from the next step on. What was measured with another number is
    /// forgotten as far as it is about time.
    pub(super) fn set_threads(&mut self, threads: usize) {
        self.context.set_threads(threads);
        self.decode_s = 0.0;
    }

    pub(super) fn prompt_rate(&self) -> f64 {
        self.prompt_rate
    }

    /// Tokens whose keys and values are in the cache.
    pub(super) fn tokens_held(&self) -> usize {
        self.slots.iter().map(|slot| slot.tokens.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn held_tokens(&self) -> Vec<Vec<i32>> {
        self.slots.iter().map(|s| s.tokens.clone()).collect()
    }

    pub(super) fn holds(&self, id: u64) -> bool {
        self.slots.iter().any(|s| s.active.as_ref().is_some_and(|a| a.job.id == id))
    }

    /// Gives the job a slot, with as much of its prompt cached as its scope allows.
    pub(super) fn place(&mut self, job: Job, out: &mut Vec<EngineEvent>) -> Placed {
        let scope = if self.can_cut { job.scope } else { None };
        let (mut own, mut own_cached) = (None, 0);
        let (mut source, mut source_cached) = (None, 0);
        let mut soon = 0;
        for (i, slot) in self.slots.iter().enumerate() {
            let cached = slot.reusable(&job.prompt, scope);
            if slot.active.is_none() && cached > own_cached {
                (own, own_cached) = (Some(i), cached);
            }
            if cached > source_cached {
                (source, source_cached) = (Some(i), cached);
            }
            if let Some(active) = &slot.active
                && slot.prompt_left() > 0
                && scope.is_some()
                && slot.scope == scope
            {
                soon = soon.max(common_prefix(&active.job.prompt, &job.prompt));
            }
        }
        // Another slot is about to have computed much of this prompt: wait and copy then. Nothing is
        // lost by it, because that older prompt is computed first in any case.
        if soon > source_cached && soon >= own_cached + SHARE_TOKENS_MIN {
            return Placed::NotYet(job);
        }
        let Some((slot, cached)) = self.choose(own, own_cached, source, source_cached) else {
            return Placed::NotYet(job);
        };
        let (id, prompt_tokens) = (job.id, job.prompt.len() as u32);
        let generates = matches!(job.work, Work::Generate(_));
        let cached_tokens = self.occupy(slot, cached, job) as u32;
        if generates {
            out.push(EngineEvent::Started { id, prompt_tokens, cached_tokens });
        }
        Placed::Yes
    }

    /// The slot to use and how many of its tokens to keep, after copying where that gains much.
    fn choose(
        &mut self,
        own: Option<usize>,
        own_cached: usize,
        source: Option<usize>,
        source_cached: usize,
    ) -> Option<(usize, usize)> {
        if let Some(own) = own {
            let lost = self.slots[own].tokens.len() - own_cached;
            let beaten = source_cached >= own_cached + SHARE_TOKENS_MIN;
            let other = self.free_slot(Some(own));
            let empty = other.is_some_and(|s| self.slots[s].tokens.is_empty());
            // Keep a long cache that this prompt only shares the beginning with.
            let spare = lost >= SHARE_TOKENS_MIN && own_cached >= SHARE_TOKENS_MIN && empty;
            if !beaten && !spare {
                return Some((own, own_cached));
            }
        }
        let target = self.free_slot(source)?;
        match source {
            Some(source) if source_cached >= SHARE_TOKENS_MIN && source != target => {
                let copied = self.context.copy_slot(source as u32, target as u32);
                if !copied {
                    return Some((target, 0));
                }
                self.slots[target].tokens = self.slots[source].tokens.clone();
                Some((target, source_cached))
            }
            Some(source) if source == target => Some((target, source_cached)),
            _ => Some((target, 0)),
        }
    }

    fn free_slot(&self, avoid: Option<usize>) -> Option<usize> {
        pick_free(&self.slots, avoid)
    }

    /// Puts a job into a slot; gives the number of cached tokens that could be kept.
    fn occupy(&mut self, index: usize, cached: usize, job: Job) -> usize {
        self.uses += 1;
        let slot = &mut self.slots[index];
        let kept = if self.context.cut(index as u32, cached) {
            cached
        } else {
            // Removing a whole sequence never fails.
            self.context.cut(index as u32, 0);
            0
        };
        slot.tokens.truncate(kept);
        slot.scope = job.scope;
        slot.last_used = self.uses;
        slot.active = Some(Active::new(job, kept, self.uses));
        kept
    }

    /// Stops a request. Its slot is free at once; its cache stays for the same scope.
    pub(super) fn cancel(&mut self, id: u64) -> Option<EngineEvent> {
        let index = self.slots.iter().position(|s| s.active.as_ref().is_some_and(|a| a.job.id == id))?;
        let active = self.slots[index].active.take()?;
        self.release(index);
        Some(active.job.cancelled(Some(&active)))
    }

    /// After a job left: a slot without scope keeps nothing.
    fn release(&mut self, index: usize) {
        self.uses += 1;
        let slot = &mut self.slots[index];
        slot.last_used = self.uses;
        if slot.scope.is_none() {
            slot.tokens.clear();
            self.context.cut(index as u32, 0);
        }
    }

    /// Computes one batch: the next token of every running stream and one chunk of prompts that
    /// should take `chunk_budget_s`.
    pub(super) fn step(&mut self, vocab: &Vocab, chunk_budget_s: f64, out: &mut Vec<EngineEvent>) -> Stepped {
        let started = Instant::now();
        let prompt_tokens = self.fill_batch(chunk_budget_s);
        // An empty batch is refused by `decode`, so that a slot that cannot go on ends with an error.
        if let Err(error) = self.context.decode(&mut self.batch) {
            self.fail_all(&error, out);
            return Stepped { elapsed_s: started.elapsed().as_secs_f64(), ..Stepped::default() };
        }
        let sampled = self.use_rows(vocab, out);
        let elapsed_s = started.elapsed().as_secs_f64();
        self.measure(prompt_tokens, elapsed_s);
        Stepped { prompt_tokens: prompt_tokens as u64, sampled_tokens: sampled, elapsed_s }
    }

    /// Prompt tokens per step: what the budget allows at the measured speed, but rather a whole tile in up to twice the
    /// time. Rounded down to a power of two or the middle between two of them, so that chunks (and with them rounding
    /// errors) rarely change from run to run.
    fn chunk_tokens(&self, budget_s: f64) -> usize {
        let params = self.context.params();
        let most = params.batch_tokens_max.saturating_sub(params.slots).max(1) as usize;
        let wanted = (self.prompt_rate * budget_s) as usize;
        let wanted = match wanted {
            0..TILE_TOKENS if 2 * wanted >= TILE_TOKENS => TILE_TOKENS,
            few => few.max(CHUNK_TOKENS_MIN),
        };
        let power = 1_usize << wanted.ilog2();
        let rounded = if wanted >= power + power / 2 { power + power / 2 } else { power };
        // llama.cpp computes the first token of a prompt beside those of running streams, and only the rest in one graph.
        rounded.min(most) + usize::from(self.has_streams())
    }

    /// Fills `batch` and `rows`; gives the number of prompt tokens in it.
    fn fill_batch(&mut self, budget_s: f64) -> usize {
        self.batch.clear();
        self.rows.clear();
        let takes = self.plan_prompts(self.chunk_tokens(budget_s));
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(active) = &mut slot.active else {
                continue;
            };
            if let Some(token) = active.pending.take() {
                let batch_index = self.batch.add(index as u32, slot.tokens.len(), token, true);
                slot.tokens.push(token);
                self.rows.push(Row { slot: index, batch_index, what: Use::Sample });
                continue;
            }
            for _ in 0..takes[index] {
                let at = slot.tokens.len();
                let token = active.job.prompt[at];
                let wanted = active.job.wants_output(at);
                let batch_index = self.batch.add(index as u32, at, token, wanted);
                slot.tokens.push(token);
                if wanted {
                    let what = match active.job.prompt.get(at + 1) {
                        Some(&target) => Use::Score { target },
                        None => Use::Sample,
                    };
                    self.rows.push(Row { slot: index, batch_index, what });
                }
            }
        }
        takes.iter().sum()
    }

    /// How many prompt tokens each slot may compute in this step: oldest request first, within the
    /// chunk and within the logits rows that the context has room for.
    fn plan_prompts(&self, chunk: usize) -> Vec<usize> {
        let mut takes = vec![0; self.slots.len()];
        let running = |s: &&Slot| s.active.as_ref().is_some_and(|a| a.pending.is_some());
        let decoding = self.slots.iter().filter(running).count();
        let mut outputs = (self.context.params().outputs_max as usize).saturating_sub(decoding);
        let mut tokens = chunk;
        let mut waiting: Vec<usize> = (0..self.slots.len()).filter(|&i| self.slots[i].prompt_left() > 0).collect();
        waiting.sort_by_key(|&i| self.slots[i].active.as_ref().map_or(0, |a| a.order));
        for index in waiting {
            let slot = &self.slots[index];
            let Some(active) = &slot.active else { continue };
            let most = slot.prompt_left().min(tokens);
            for at in slot.tokens.len()..slot.tokens.len() + most {
                if active.job.wants_output(at) {
                    if outputs == 0 {
                        break;
                    }
                    outputs -= 1;
                }
                takes[index] += 1;
            }
            tokens -= takes[index];
        }
        takes
    }

    /// Uses every row of logits; gives the number of tokens sampled.
    fn use_rows(&mut self, vocab: &Vocab, out: &mut Vec<EngineEvent>) -> u64 {
        let slot_tokens = self.slot_tokens();
        let mut sampled = 0;
        for i in 0..self.rows.len() {
            let row = self.rows[i];
            let slot = &mut self.slots[row.slot];
            let Some(active) = &mut slot.active else {
                continue;
            };
            let Some(logits) = self.context.logits(row.batch_index) else {
                out.push(active.fail("llama.cpp left no logits for a token that asked for them"));
                slot.active = None;
                self.release(row.slot);
                continue;
            };
            let ended = match row.what {
                Use::Sample => {
                    sampled += 1;
                    // Prompt and answer together never exceed what a slot holds.
                    let full = slot.tokens.len() + 1 >= slot_tokens;
                    match active.sample(logits, vocab, full, out) {
                        Sampled::GoOn => continue,
                        Sampled::Ended(finish) => Ok(finish),
                        Sampled::Broken => Err(()),
                    }
                }
                Use::Score { target } => {
                    let fine = active.score(logits, target);
                    if fine && slot.tokens.len() < active.job.tokens_needed() {
                        continue;
                    }
                    let last = self.rows[i + 1..].iter().all(|r| r.slot != row.slot);
                    match (fine, last) {
                        (false, _) => Err(()),
                        (true, false) => continue,
                        (true, true) => Ok(Finish::End),
                    }
                }
            };
            match ended {
                Ok(finish) => active.finish(finish, out),
                Err(()) => out.push(
                    active.fail("the model gave no finite number: its weights or this machine's arithmetic are broken"),
                ),
            }
            slot.active = None;
            self.release(row.slot);
        }
        sampled
    }

    /// A failed decode leaves the cache in an unknown state: every request of this lane ends and
    /// every slot is forgotten.
    fn fail_all(&mut self, error: &LlamaError, out: &mut Vec<EngineEvent>) {
        let error = error.to_string();
        for slot in &mut self.slots {
            if let Some(active) = slot.active.take() {
                out.push(active.fail(&error));
            }
            slot.tokens.clear();
        }
        self.context.clear();
    }

    fn measure(&mut self, prompt_tokens: usize, elapsed_s: f64) {
        let blend = |old: f64, new: f64| match old > 0.0 {
            true => old + NEWEST_WEIGHT * (new - old),
            false => new,
        };
        if prompt_tokens == 0 {
            self.decode_s = blend(self.decode_s, elapsed_s);
        } else if prompt_tokens >= CHUNK_TOKENS_MIN / 2 {
            let decoding = self.rows.len() > 1 || prompt_tokens < self.batch.len();
            let rest = if decoding { self.decode_s } else { 0.0 };
            let for_prompt = (elapsed_s - rest).max(elapsed_s / 2.0);
            self.prompt_rate = blend(self.prompt_rate, prompt_tokens as f64 / for_prompt);
        }
    }

    /// Runs one token and then a batch of `tokens` through slot 0 and forgets them: pages of the weights are touched,
    /// buffers are made, and the speed is known before the first request.
    pub(super) fn warm_up(&mut self, tokens: usize) -> Result<f64, LlamaError> {
        let mut rate = 0.0;
        for count in [1, tokens.clamp(1, self.slot_tokens())] {
            self.batch.clear();
            for position in 0..count {
                self.batch.add(0, position, 0, position + 1 == count);
            }
            let started = Instant::now();
            self.context.decode(&mut self.batch)?;
            // Reading the logits waits for the computation where it runs aside.
            let _ = self.context.logits(count - 1);
            rate = count as f64 / started.elapsed().as_secs_f64().max(1e-9);
            self.context.cut(0, 0);
        }
        self.batch.clear();
        self.prompt_rate = rate;
        Ok(rate)
    }
}

/// A free slot: an empty one if there is any, else one of the less recently used half, so that caches
/// live long. Among these the one with the most busy neighbours: llama.cpp computes neighbouring
/// slots in one graph and reads the weights once more for every gap. `avoid` only if it is the last.
fn pick_free(slots: &[Slot], avoid: Option<usize>) -> Option<usize> {
    let busy = |i: usize| slots.get(i).is_some_and(|s| s.active.is_some());
    let mut free: Vec<usize> = (0..slots.len()).filter(|&i| !busy(i) && Some(i) != avoid).collect();
    if free.is_empty() {
        return avoid.filter(|&i| !busy(i));
    }
    let empty: Vec<usize> = free.iter().copied().filter(|&i| slots[i].tokens.is_empty()).collect();
    if empty.is_empty() {
        free.sort_by_key(|&i| slots[i].last_used);
        free.truncate(free.len().div_ceil(2));
    } else {
        free = empty;
    }
    let neighbours = |i: usize| usize::from(busy(i + 1)) + usize::from(i > 0 && busy(i - 1));
    // The first of equals: the least recently used, or the lowest of the empty ones.
    free.into_iter().min_by_key(|&i| std::cmp::Reverse(neighbours(i)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(states: &[(bool, usize, u64)]) -> Vec<Slot> {
        let make = |&(busy, held, last_used): &(bool, usize, u64)| Slot {
            tokens: vec![0; held],
            scope: None,
            active: busy.then(|| Active::new(job(), 0, 0)),
            last_used,
        };
        states.iter().map(make).collect()
    }

    fn job() -> Job {
        Job {
            id: 0,
            adapter: None,
            prompt: vec![1],
            work: Work::Score { trained: vec![], nll_sum: 0.0, count: 0 },
            scope: None,
            submitted: Instant::now(),
            turn: Default::default(),
        }
    }

    #[test]
    fn slots_are_taken_beside_busy_ones_and_long_lived_caches_are_kept() {
        // Empty ones first, beside a busy one.
        let mixed = slots(&[(false, 9, 1), (false, 0, 0), (true, 9, 5), (false, 0, 0)]);
        assert_eq!(pick_free(&mixed, None), Some(1));
        assert_eq!(pick_free(&mixed, Some(1)), Some(3));
        // None empty: of the two older ones the one beside the busy slot.
        let full = slots(&[(false, 9, 1), (true, 9, 9), (false, 9, 2), (false, 9, 3), (false, 9, 4)]);
        assert_eq!(pick_free(&full, None), Some(0));
        assert_eq!(pick_free(&full, Some(0)), Some(2));
        // A gap between two busy slots is closed.
        let gap = slots(&[(false, 9, 1), (false, 9, 3), (true, 9, 0), (false, 9, 2), (true, 9, 0)]);
        assert_eq!(pick_free(&gap, None), Some(3));
        assert_eq!(pick_free(&slots(&[(true, 1, 1), (false, 1, 1)]), Some(1)), Some(1));
        assert_eq!(pick_free(&slots(&[(true, 1, 1)]), None), None);
        assert_eq!(pick_free(&slots(&[(true, 1, 1)]), Some(0)), None);
    }
}
