//! Turns one pass of the packing into the numbers that the graph reads: tokens, positions, masks, and the indices that
//! carry values between the flat run and attention's lanes. The vectors are made once per run and refilled.

use crate::arch::Config;
use crate::ggml::{Backend, BackendError, Buffer, Context, F32, I32, I64, Tensor};

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
    /// I32 [heads * places]: for every (lane, head, place) the row of the flat queries seen as [head_dim, heads * tokens].
    pub(crate) to_query_lanes: Tensor,
    /// I32 [kv_heads * places], the same for keys and values.
    pub(crate) to_key_lanes: Tensor,
    /// I32 [heads * tokens]: the way back.
    pub(crate) from_query_lanes: Tensor,
    /// I32 [kv_heads * tokens]: the way back.
    pub(crate) from_key_lanes: Tensor,
    /// F32 [lane_len, lane_len, 1, lanes]: 0 where the query (dimension 1) sees the key (dimension 0), else -inf.
    pub(crate) mask: Tensor,
    /// I32 [targets]: flat places whose output predicts a target.
    pub(crate) predictors: Tensor,
    /// I32 [targets]: index of the target's value inside its chunk of [vocab, chunk] logits.
    pub(crate) labels: Tensor,
    /// I64 [targets], the same.
    pub(crate) labels_wide: Tensor,
    /// F32 [1, targets]: weight of each target in the loss, 0 for unused places.
    pub(crate) weights: Tensor,
    /// F32 [1, targets], written by the graph: log-probability of each target.
    pub(crate) log_probs: Tensor,
    /// F32 [width, targets], written and read by the graph: gradient of what goes into the head.
    pub(crate) head_gradient: Tensor,
    host: Host,
}

#[derive(Default)]
struct Host {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    first_keys: Vec<i32>,
    to_query_lanes: Vec<i32>,
    to_key_lanes: Vec<i32>,
    from_query_lanes: Vec<i32>,
    from_key_lanes: Vec<i32>,
    mask: Vec<f32>,
    predictors: Vec<i32>,
    labels: Vec<i32>,
    labels_wide: Vec<i64>,
    weights: Vec<f32>,
    log_probs: Vec<f32>,
    /// Flat token of every place; the last flat token for empty ones.
    flat_of_place: Vec<usize>,
    /// Place of every flat token; an empty place for padding.
    place_of_flat: Vec<usize>,
    /// Row number of every place, `NOBODY` for empty ones.
    owner: Vec<usize>,
}

const NOBODY: usize = usize::MAX;

impl Inputs {
    pub(crate) fn new(backend: &Backend, config: &Config, shape: Shape) -> Result<Inputs, BackendError> {
        let context = Context::new(16, 0)?;
        let (places, tokens) = (shape.places(), shape.tokens);
        let mut inputs = Inputs {
            tokens: context.tensor(I32, &[tokens]),
            positions: context.tensor(I32, &[tokens]),
            first_keys: context.tensor(I32, &[tokens]),
            to_query_lanes: context.tensor(I32, &[config.heads * places]),
            to_key_lanes: context.tensor(I32, &[config.kv_heads * places]),
            from_query_lanes: context.tensor(I32, &[config.heads * tokens]),
            from_key_lanes: context.tensor(I32, &[config.kv_heads * tokens]),
            mask: context.tensor(F32, &[shape.lane_len, shape.lane_len, 1, shape.lanes]),
            predictors: context.tensor(I32, &[shape.targets]),
            labels: context.tensor(I32, &[shape.targets]),
            labels_wide: context.tensor(I64, &[shape.targets]),
            weights: context.tensor(F32, &[1, shape.targets]),
            log_probs: context.tensor(F32, &[1, shape.targets]),
            head_gradient: context.tensor(F32, &[config.width, shape.targets]),
            host: Host::default(),
            buffer: backend.allocate(&context, "the inputs of a pass")?,
            _context: context,
        };
        let host = &mut inputs.host;
        host.tokens.resize(tokens, 0);
        host.positions.resize(tokens, 0);
        host.first_keys.resize(tokens, 0);
        host.to_query_lanes.resize(config.heads * places, 0);
        host.to_key_lanes.resize(config.kv_heads * places, 0);
        host.from_query_lanes.resize(config.heads * tokens, 0);
        host.from_key_lanes.resize(config.kv_heads * tokens, 0);
        host.mask.resize(shape.lane_len * places, 0.0);
        host.predictors.resize(shape.targets, 0);
        host.labels.resize(shape.targets, 0);
        host.labels_wide.resize(shape.targets, 0);
        host.weights.resize(shape.targets, 0.0);
        host.log_probs.resize(shape.targets, 0.0);
        host.flat_of_place.resize(places, 0);
        host.place_of_flat.resize(tokens, 0);
        host.owner.resize(places, NOBODY);
        Ok(inputs)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    /// Writes one pass. Every target weighs `weight`.
    pub(crate) fn fill(&mut self, rows: &[TokenRow], batch: &MicroBatch, config: &Config, shape: Shape, weight: f32) {
        let host = &mut self.host;
        host.fill(rows, batch, shape);
        host.fill_targets(rows, batch, shape, config.vocab, weight);
        host.fill_mask(shape);
        index_heads(&mut host.to_query_lanes, &host.flat_of_place, config.heads, shape.lane_len);
        index_heads(&mut host.to_key_lanes, &host.flat_of_place, config.kv_heads, shape.lane_len);
        index_places(&mut host.from_query_lanes, &host.place_of_flat, config.heads, shape.lane_len);
        index_places(&mut host.from_key_lanes, &host.place_of_flat, config.kv_heads, shape.lane_len);
        self.tokens.write(&host.tokens);
        self.positions.write(&host.positions);
        self.first_keys.write(&host.first_keys);
        self.to_query_lanes.write(&host.to_query_lanes);
        self.to_key_lanes.write(&host.to_key_lanes);
        self.from_query_lanes.write(&host.from_query_lanes);
        self.from_key_lanes.write(&host.from_key_lanes);
        self.mask.write(&host.mask);
        self.predictors.write(&host.predictors);
        self.labels.write(&host.labels);
        self.labels_wide.write(&host.labels_wide);
        self.weights.write(&host.weights);
    }

    /// Negative log-likelihood of each target of the last pass, in the order of pieces and positions.
    pub(crate) fn target_losses(&mut self, targets: usize) -> impl Iterator<Item = f64> + '_ {
        self.log_probs.read(&mut self.host.log_probs);
        self.host.log_probs[..targets].iter().map(|&log_prob| -f64::from(log_prob))
    }
}

impl Host {
    fn fill(&mut self, rows: &[TokenRow], batch: &MicroBatch, shape: Shape) {
        self.tokens.fill(0);
        self.positions.fill(0);
        self.flat_of_place.fill(shape.tokens - 1);
        self.owner.fill(NOBODY);
        for (number, piece) in batch.pieces.iter().enumerate() {
            let len = piece.document.len;
            let tokens = &rows[piece.document.row].tokens[..len];
            self.tokens[piece.offset..][..len].copy_from_slice(tokens);
            let first = piece.lane * shape.lane_len + piece.lane_offset;
            for at in 0..len {
                self.positions[piece.offset + at] = at as i32;
                self.first_keys[piece.offset + at] = piece.offset as i32;
                self.flat_of_place[first + at] = piece.offset + at;
                self.place_of_flat[piece.offset + at] = first + at;
                self.owner[first + at] = number;
            }
        }
        // Padding reads an empty place: it takes part in nothing, so whatever flows through it is zero going back.
        let empty = self.owner.iter().position(|&owner| owner == NOBODY);
        for token in batch.tokens..shape.tokens {
            self.first_keys[token] = token as i32;
            self.place_of_flat[token] = empty.expect("Shape has an empty place whenever a pass has padding");
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

    /// A place sees itself and the earlier places of its row; an empty place sees only itself, so that its softmax
    /// has something to normalise.
    fn fill_mask(&mut self, shape: Shape) {
        for place in 0..shape.places() {
            let first = place - place % shape.lane_len;
            let sees = &mut self.mask[place * shape.lane_len..][..shape.lane_len];
            for (at, value) in sees.iter_mut().enumerate() {
                let key = first + at;
                let same_row = self.owner[key] == self.owner[place] && self.owner[place] != NOBODY;
                *value = if key == place || (same_row && key < place) { 0.0 } else { f32::NEG_INFINITY };
            }
        }
    }
}

/// Fills `out` [lanes][heads][lane_len] with the row of (flat token, head) in a flat [head_dim, heads * tokens] tensor.
fn index_heads(out: &mut [i32], flat_of_place: &[usize], heads: usize, lane_len: usize) {
    for (lane, places) in flat_of_place.chunks_exact(lane_len).enumerate() {
        for head in 0..heads {
            let row = &mut out[(lane * heads + head) * lane_len..][..lane_len];
            for (index, &flat) in row.iter_mut().zip(places) {
                *index = (flat * heads + head) as i32;
            }
        }
    }
}

/// Fills `out` [tokens][heads] with the row of (lane, head, place) in a [head_dim, lane_len * heads * lanes] tensor.
fn index_places(out: &mut [i32], place_of_flat: &[usize], heads: usize, lane_len: usize) {
    for (row, &place) in out.chunks_exact_mut(heads).zip(place_of_flat) {
        let (lane, at) = (place / lane_len, place % lane_len);
        for (head, index) in row.iter_mut().enumerate() {
            *index = ((lane * heads + head) * lane_len + at) as i32;
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
        fn no_token_sees_another_row(lengths in proptest::collection::vec(2usize..40, 1..30), seed in any::<u64>()) {
            let documents: Vec<Document> =
                lengths.iter().enumerate().map(|(row, &len)| Document { row, len, targets: len - 1 }).collect();
            let rows: Vec<TokenRow> = lengths
                .iter()
                .enumerate()
                .map(|(id, &len)| TokenRow { row_id: id as u64, tokens: vec![id as i32 + 1; len], trained: vec![true; len] })
                .collect();
            let layout = Layout::new(&documents, 96);
            let batches = pack(&documents, &shuffled(documents.len(), seed, 0), layout);
            let shape = Shape::of(layout, batches.iter());
            let (tokens, places) = (shape.tokens, shape.places());
            for batch in &batches {
                let mut host = Host {
                    tokens: vec![0; tokens],
                    positions: vec![0; tokens],
                    first_keys: vec![0; tokens],
                    mask: vec![0.0; places * shape.lane_len],
                    predictors: vec![0; shape.targets],
                    labels: vec![0; shape.targets],
                    labels_wide: vec![0; shape.targets],
                    weights: vec![0.0; shape.targets],
                    flat_of_place: vec![0; places],
                    place_of_flat: vec![0; tokens],
                    owner: vec![NOBODY; places],
                    ..Host::default()
                };
                host.fill(&rows, batch, shape);
                host.fill_mask(shape);
                host.fill_targets(&rows, batch, shape, 100, 1.0);
                for place in 0..places {
                    for at in 0..shape.lane_len {
                        let key = place - place % shape.lane_len + at;
                        let seen = host.mask[place * shape.lane_len + at] == 0.0;
                        let (asker, asked) = (host.flat_of_place[place], host.flat_of_place[key]);
                        let real = host.owner[place] != NOBODY && host.owner[key] != NOBODY;
                        let wanted = key == place
                            || (real && host.tokens[asker] == host.tokens[asked] && host.positions[asked] < host.positions[asker]);
                        prop_assert_eq!(seen, wanted);
                    }
                }
                for flat in 0..tokens {
                    let first = host.first_keys[flat] as usize;
                    let alone = flat >= batch.tokens;
                    let before = if alone { 0 } else { host.positions[flat] as usize };
                    prop_assert_eq!(flat - first, before);
                }
                for flat in 0..batch.tokens {
                    prop_assert_eq!(host.flat_of_place[host.place_of_flat[flat]], flat);
                }
                for padding in batch.tokens..tokens {
                    prop_assert_eq!(host.owner[host.place_of_flat[padding]], NOBODY);
                }
                prop_assert_eq!(host.weights.iter().filter(|&&weight| weight == 1.0).count(), batch.targets);
            }
        }
    }
}
