//! Turns one pass of the packing into the numbers that the graph reads: tokens, positions, what each may see, and the
//! targets. The vectors are made once per run and refilled.

use crate::arch::Config;
use crate::ggml::{Backend, BackendError, Buffer, Context, F32, I32, I64, Tensor};

use super::lanes::Lanes;
use super::packing::{Layout, MicroBatch, TokenRow};

/// Sizes of the graph, fixed for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Tokens that a pass computes.
    pub(crate) tokens: usize,
    /// Tokens of a lane of attention.
    pub(crate) lane_len: usize,
    /// Lanes of attention.
    pub(crate) lanes: usize,
    /// Places for targets at the head.
    pub(crate) targets: usize,
    /// Targets whose logits exist at the same time.
    pub(crate) chunk: usize,
}

impl Shape {
    /// The smallest shape that holds every pass of `batches`.
    pub(crate) fn of<'a>(layout: Layout, batches: impl Iterator<Item = &'a MicroBatch>) -> Shape {
        let (lanes, targets) = batches.fold((1, 1), |(lanes, targets), batch| {
            (lanes.max(batch.lanes_needed(layout)), targets.max(batch.targets))
        });
        Shape {
            tokens: layout.flat_tokens,
            lane_len: layout.lane_len,
            lanes,
            targets,
            chunk: targets.min(TARGET_CHUNK),
        }
    }

    /// The union of two shapes of one layout.
    pub(crate) fn join(self, other: Shape) -> Shape {
        let targets = self.targets.max(other.targets);
        Shape { lanes: self.lanes.max(other.lanes), targets, chunk: targets.min(TARGET_CHUNK), ..self }
    }

    /// Places in all lanes.
    pub(crate) fn places(self) -> usize {
        self.lanes * self.lane_len
    }
}

/// Targets per chunk at the head: the logits of a chunk are `TARGET_CHUNK * vocab` floats.
pub(crate) const TARGET_CHUNK: usize = 128;

/// The graph's inputs, in memory of their own.
pub(crate) struct Inputs {
    _context: Context,
    buffer: Buffer,
    /// I32 [tokens].
    pub(crate) tokens: Tensor,
    /// I32 [tokens], restarting with every row.
    pub(crate) positions: Tensor,
    /// I32 [tokens]: flat place of the first token of each token's row; padding is a row of its own each.
    pub(crate) first_keys: Tensor,
    /// I32 [tokens]: flat place of the first token that each token sees in layers that see only the last keys.
    pub(crate) first_local_keys: Option<Tensor>,
    /// Where attention is built from ggml's own operations.
    pub(crate) lanes: Option<Lanes>,
    /// I32 [targets]: flat places whose output predicts a target.
    pub(crate) predictors: Tensor,
    /// I32 [targets]: index of the target's value inside its chunk of [vocab, chunk] logits.
    pub(crate) labels: Tensor,
    /// I64 [targets], the same.
    pub(crate) labels_wide: Tensor,
    /// F32 [1, targets]: weight of each target in the loss, 0 for unused places.
    pub(crate) weights: Tensor,
    /// I32 [2]: number of the pass, from which it is drawn what is dropped.
    pub(crate) dropout_key: Tensor,
    /// F32 [1, targets], written by the graph: log-probability of each target.
    pub(crate) log_probs: Tensor,
    /// F32 [width, targets], written and read by the graph: gradient of what goes into the head.
    pub(crate) head_gradient: Tensor,
    host: Host,
}

struct Host {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    first_keys: Vec<i32>,
    first_local_keys: Vec<i32>,
    predictors: Vec<i32>,
    labels: Vec<i32>,
    labels_wide: Vec<i64>,
    weights: Vec<f32>,
    log_probs: Vec<f32>,
}

impl Inputs {
    /// `lanes`: whether attention is built from ggml's own operations.
    pub(crate) fn new(backend: &Backend, config: &Config, shape: Shape, lanes: bool) -> Result<Inputs, BackendError> {
        let context = Context::new(20, 0)?;
        let tokens = || context.tensor(I32, &[shape.tokens]);
        let inputs = Inputs {
            tokens: tokens(),
            positions: tokens(),
            first_keys: tokens(),
            first_local_keys: config.local.as_ref().map(|_| tokens()),
            lanes: lanes.then(|| Lanes::new(&context, config, shape)),
            predictors: context.tensor(I32, &[shape.targets]),
            labels: context.tensor(I32, &[shape.targets]),
            labels_wide: context.tensor(I64, &[shape.targets]),
            weights: context.tensor(F32, &[1, shape.targets]),
            dropout_key: context.tensor(I32, &[2]),
            log_probs: context.tensor(F32, &[1, shape.targets]),
            head_gradient: context.tensor(F32, &[config.width, shape.targets]),
            host: Host::new(shape),
            buffer: backend.allocate(&context, "the inputs of a pass")?,
            _context: context,
        };
        Ok(inputs)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    /// Writes one pass. Every target weighs `weight`; what is dropped is a function of `pass`.
    pub(crate) fn fill(
        &mut self,
        rows: &[TokenRow],
        batch: &MicroBatch,
        config: &Config,
        shape: Shape,
        weight: f32,
        pass: u64,
    ) {
        let host = &mut self.host;
        host.fill(rows, batch, config.local.as_ref().map_or(usize::MAX, |local| local.keys));
        host.fill_targets(rows, batch, shape, config.vocab, weight);
        self.dropout_key.write(&[pass as i32, (pass >> 32) as i32]);
        self.tokens.write(&host.tokens);
        self.positions.write(&host.positions);
        self.first_keys.write(&host.first_keys);
        if let Some(keys) = self.first_local_keys {
            keys.write(&host.first_local_keys);
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.fill(batch, config, shape);
        }
        self.predictors.write(&host.predictors);
        self.labels.write(&host.labels);
        self.labels_wide.write(&host.labels_wide);
        self.weights.write(&host.weights);
    }

    /// Gives the targets of each row of the pass a weight of their own.
    pub(crate) fn weigh(&mut self, batch: &MicroBatch, weight_of_row: impl Fn(usize) -> f32) {
        let mut places = self.host.weights.iter_mut();
        for piece in &batch.pieces {
            let weight = weight_of_row(piece.document.row);
            places.by_ref().take(piece.document.targets).for_each(|place| *place = weight);
        }
        self.weights.write(&self.host.weights);
    }

    /// Negative log-likelihood of each target of the last pass, in the order of pieces and positions.
    pub(crate) fn target_losses(&mut self, targets: usize) -> impl Iterator<Item = f64> + '_ {
        self.log_probs.read(&mut self.host.log_probs);
        self.host.log_probs[..targets].iter().map(|&log_prob| -f64::from(log_prob))
    }
}

impl Host {
    fn new(shape: Shape) -> Host {
        let (tokens, targets) = (vec![0; shape.tokens], vec![0; shape.targets]);
        Host {
            positions: tokens.clone(),
            first_keys: tokens.clone(),
            first_local_keys: tokens.clone(),
            tokens,
            labels: targets.clone(),
            predictors: targets,
            labels_wide: vec![0; shape.targets],
            weights: vec![0.0; shape.targets],
            log_probs: vec![0.0; shape.targets],
        }
    }

    /// `keys`: how many a token sees in layers that see only the last.
    fn fill(&mut self, rows: &[TokenRow], batch: &MicroBatch, keys: usize) {
        self.tokens.fill(0);
        self.positions.fill(0);
        for piece in &batch.pieces {
            let (begin, len) = (piece.offset, piece.document.len);
            self.tokens[begin..][..len].copy_from_slice(&rows[piece.document.row].tokens[..len]);
            for at in 0..len {
                self.positions[begin + at] = at as i32;
                self.first_keys[begin + at] = begin as i32;
                self.first_local_keys[begin + at] = (begin + (at + 1).saturating_sub(keys)) as i32;
            }
        }
        for token in batch.tokens..self.tokens.len() {
            self.first_keys[token] = token as i32;
            self.first_local_keys[token] = token as i32;
        }
    }

    fn fill_targets(&mut self, rows: &[TokenRow], batch: &MicroBatch, shape: Shape, vocab: usize, weight: f32) {
        let mut next = 0;
        for piece in &batch.pieces {
            let row = &rows[piece.document.row];
            for at in (1..piece.document.len).filter(|&at| row.trained[at]) {
                self.predictors[next] = (piece.offset + at - 1) as i32;
                let label = (next % shape.chunk) * vocab + row.tokens[at] as usize;
                self.labels[next] = label as i32;
                self.labels_wide[next] = label as i64;
                next += 1;
            }
        }
        self.weights[..next].fill(weight);
        self.weights[next..].fill(0.0);
        for unused in next..shape.targets {
            self.predictors[unused] = 0;
            // Places of a chunk must differ: set_rows writes them in parallel.
            let label = (unused % shape.chunk) * vocab;
            self.labels[unused] = label as i32;
            self.labels_wide[unused] = label as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packing::{Document, pack, shuffled};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn every_token_sees_its_row_from_the_right_place_and_every_target_weighs(
            lengths in proptest::collection::vec(2usize..40, 1..30),
            keys in 1usize..60,
            seed in any::<u64>(),
        ) {
            let documents: Vec<Document> =
                lengths.iter().enumerate().map(|(row, &len)| Document { row, len, targets: len - 1 }).collect();
            let rows: Vec<TokenRow> = lengths
                .iter()
                .enumerate()
                .map(|(id, &len)| TokenRow { row_id: id as u64, tokens: vec![id as i32 + 1; len], trained: vec![true; len] })
                .collect();
            let layout = Layout::new(&documents, 96, 1);
            let batches = pack(&documents, &shuffled(documents.len(), seed, 0), layout);
            let shape = Shape::of(layout, batches.iter());
            let mut host = Host::new(shape);
            for batch in &batches {
                host.fill(&rows, batch, keys);
                host.fill_targets(&rows, batch, shape, 100, 1.0);
                for flat in 0..shape.tokens {
                    let before = if flat < batch.tokens { host.positions[flat] as usize } else { 0 };
                    prop_assert_eq!(flat - host.first_keys[flat] as usize, before);
                    prop_assert_eq!(flat - host.first_local_keys[flat] as usize, before.min(keys - 1));
                    let owner = host.tokens[host.first_keys[flat] as usize];
                    prop_assert_eq!(host.tokens[flat], owner);
                }
                prop_assert_eq!(host.weights.iter().filter(|&&weight| weight == 1.0).count(), batch.targets);
            }
        }
    }
}
