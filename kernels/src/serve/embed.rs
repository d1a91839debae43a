//! Embeddings: one vector of length 1 for each input. Several inputs are computed together, those of different requests by
//! turns, so that a long list holds up nobody.
//!
//! An encoder (bert and its kin) sees whole inputs: a batch is as many as fit. A decoder keeps keys and values, so its
//! inputs are computed in small pieces, and it has one vector for each token too. Pooling is done here, in F64, for both.
//!
//! What never lives here: texts, the context's C side, whose turn it is beside running answers (`engine`).

use std::collections::{HashMap, VecDeque};

use super::engine::EngineParams;
use super::llama::{Batch, Context, ContextParams, LlamaError};
use super::request::EngineEvent;
use crate::inspect::Pooling;

/// Inputs that are computed together.
const SEATS: u32 = 16;
/// Least tokens of a batch of an encoder: short inputs are computed together up to here. More cost more than they
/// bring, because each token is compared with all others of its batch.
const ENCODER_TOKENS: u32 = 512;
/// Tokens of a batch of a decoder. Each costs 4 bytes for each token of the vocabulary, although nobody reads these.
const DECODER_TOKENS: u32 = 64;

/// A wish for vectors.
#[derive(Clone, Debug)]
pub struct EmbedRequest {
    /// Chosen by the caller; must not be in use.
    pub id: u64,
    /// The tokens of each input, begin and end tokens included.
    pub inputs: Vec<Vec<i32>>,
}

/// Inputs of a request that have no seat yet.
struct Waiting {
    id: u64,
    inputs: VecDeque<(u32, Vec<i32>)>,
}

/// A request that is not over.
struct Open {
    tokens: u32,
    left: u32,
    is_told: bool,
}

/// An input that is being computed; its number among these is its sequence.
struct Seat {
    id: u64,
    index: u32,
    tokens: Vec<i32>,
    done: usize,
    sum: Vec<f64>,
    /// Its request is over.
    is_gone: bool,
}

impl Seat {
    fn is_done(&self) -> bool {
        self.is_gone || self.done == self.tokens.len()
    }
}

/// The context of a model's embeddings and what waits for it.
pub(super) struct Embedder {
    /// Seconds of computing it was given, as a lane has them.
    pub(super) clock_s: f64,
    context: Context,
    pooling: Pooling,
    /// Tokens of all inputs that are computed together.
    room: usize,
    batch: Batch,
    waiting: VecDeque<Waiting>,
    open: HashMap<u64, Open>,
    seats: Vec<Seat>,
}

/// What the context of embeddings is to be, for inputs of at most `input_tokens`.
pub(super) fn context_params(params: &EngineParams, input_tokens: u32, threads: usize) -> ContextParams {
    let batch = if params.is_encoder { input_tokens.max(ENCODER_TOKENS) } else { DECODER_TOKENS };
    ContextParams {
        slots: SEATS,
        tokens_per_slot: input_tokens.max(batch),
        batch_tokens_max: batch,
        graph_tokens_max: batch,
        outputs_max: batch,
        threads,
        kv_type: params.kv_type,
        embeds: true,
    }
}

impl Embedder {
    pub(super) fn new(context: Context, params: &EngineParams) -> Embedder {
        let sizes = context.params();
        let room = if params.is_encoder { sizes.batch_tokens_max } else { sizes.tokens_per_slot } as usize;
        Embedder {
            clock_s: 0.0,
            context,
            pooling: params.pooling.unwrap_or(Pooling::Mean),
            room,
            batch: Batch::default(),
            waiting: VecDeque::new(),
            open: HashMap::new(),
            seats: Vec::new(),
        }
    }

    pub(super) fn set_threads(&mut self, threads: usize) {
        self.context.set_threads(threads);
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn holds(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    /// Requests of which nothing was computed yet.
    pub(super) fn waiting(&self) -> usize {
        self.open.values().filter(|open| !open.is_told).count()
    }

    /// Requests that are being computed.
    pub(super) fn running(&self) -> usize {
        self.open.len() - self.waiting()
    }

    /// Takes a request that was checked.
    pub(super) fn take(&mut self, request: EmbedRequest) {
        let EmbedRequest { id, inputs } = request;
        let tokens = inputs.iter().map(|tokens| tokens.len() as u32).sum();
        self.open.insert(id, Open { tokens, left: inputs.len() as u32, is_told: false });
        self.waiting.push_back(Waiting { id, inputs: (0..).zip(inputs).collect() });
    }

    /// Forgets a request; false when it is not here.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        self.waiting.retain(|waiting| waiting.id != id);
        self.seats.iter_mut().filter(|seat| seat.id == id).for_each(|seat| seat.is_gone = true);
        self.open.remove(&id).is_some()
    }

    /// Computes one batch. Gives the number of its tokens.
    pub(super) fn step(&mut self, out: &mut Vec<EngineEvent>) -> usize {
        if self.seats.is_empty() {
            self.sit(out);
        }
        let entries = self.fill();
        if entries.is_empty() {
            // All who sat here are gone.
            self.rise(out);
            return 0;
        }
        match self.compute(&entries) {
            Ok(()) => self.rise(out),
            Err(error) => self.fail_all(&error.to_string(), out),
        }
        entries.len()
    }

    /// Gives seats to inputs, one of each request in turn, until the next one does not fit.
    fn sit(&mut self, out: &mut Vec<EngineEvent>) {
        let mut room = self.room;
        while self.seats.len() < SEATS as usize
            && let Some(mut waiting) = self.waiting.pop_front()
        {
            let id = waiting.id;
            match waiting.inputs.pop_front() {
                Some((index, tokens)) if tokens.len() <= room => {
                    room -= tokens.len();
                    if let Some(open) = self.open.get_mut(&id)
                        && !std::mem::replace(&mut open.is_told, true)
                    {
                        out.push(EngineEvent::EmbedStarted { id, tokens: open.tokens });
                    }
                    self.seats.push(Seat { id, index, tokens, done: 0, sum: Vec::new(), is_gone: false });
                }
                Some(input) => {
                    waiting.inputs.push_front(input);
                    self.waiting.push_front(waiting);
                    return;
                }
                None => continue,
            }
            if !waiting.inputs.is_empty() {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Fills the batch with what the seats have left; gives seat and position of each entry.
    fn fill(&mut self) -> Vec<(usize, usize)> {
        self.batch.clear();
        let most = self.context.params().batch_tokens_max as usize;
        let mut entries = Vec::new();
        for (number, seat) in self.seats.iter_mut().enumerate() {
            while !seat.is_done() && entries.len() < most {
                self.batch.add(number as u32, seat.done, seat.tokens[seat.done], true);
                entries.push((number, seat.done));
                seat.done += 1;
            }
        }
        entries
    }

    /// Computes the batch and adds the vectors of its tokens where pooling wants them.
    fn compute(&mut self, entries: &[(usize, usize)]) -> Result<(), LlamaError> {
        self.context.decode(&mut self.batch)?;
        for (entry, &(number, at)) in entries.iter().enumerate() {
            let seat = &mut self.seats[number];
            let counts = match self.pooling {
                Pooling::Mean => true,
                Pooling::First => at == 0,
                Pooling::Last => at + 1 == seat.tokens.len(),
            };
            if !counts {
                continue;
            }
            let vector = self.context.token_vector(entry);
            let vector = vector.ok_or(LlamaError::Batch { why: "llama.cpp left no vector for a token".into() })?;
            seat.sum.resize(vector.len(), 0.0);
            seat.sum.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        Ok(())
    }

    /// When all seats are done: tells their vectors and empties them.
    fn rise(&mut self, out: &mut Vec<EngineEvent>) {
        if !self.seats.iter().all(Seat::is_done) {
            return;
        }
        self.context.clear();
        for seat in std::mem::take(&mut self.seats) {
            let Some(open) = self.open.get_mut(&seat.id).filter(|_| !seat.is_gone) else { continue };
            let Some(vector) = unit(&seat.sum) else {
                let error =
                    "the model gave no vector of finite numbers: its weights or this machine's arithmetic are broken";
                out.push(EngineEvent::Failed { id: seat.id, error: error.into(), completion_tokens: 0 });
                self.cancel(seat.id);
                continue;
            };
            open.left -= 1;
            let left = open.left;
            if left == 0 {
                self.open.remove(&seat.id);
            }
            out.push(EngineEvent::Embedded { id: seat.id, index: seat.index, vector, left });
        }
    }

    /// A failed computation ends every request that has a seat.
    fn fail_all(&mut self, error: &str, out: &mut Vec<EngineEvent>) {
        self.context.clear();
        for seat in std::mem::take(&mut self.seats).into_iter().filter(|seat| !seat.is_gone) {
            if self.cancel(seat.id) {
                out.push(EngineEvent::Failed { id: seat.id, error: error.to_owned(), completion_tokens: 0 });
            }
        }
    }
}

/// A vector of length 1 in this direction; none where there is no direction. The mean of vectors points where their sum
/// does.
fn unit(sum: &[f64]) -> Option<Vec<f32>> {
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    (length.is_finite() && length > 0.0).then(|| sum.iter().map(|value| (value / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_or_there_is_none() {
        assert_eq!(unit(&[3.0, -4.0]).unwrap(), [0.6, -0.8]);
        for nothing in [&[0.0, 0.0][..], &[f64::NAN, 1.0], &[f64::INFINITY], &[]] {
            assert_eq!(unit(nothing), None, "{nothing:?}");
        }
    }
}
