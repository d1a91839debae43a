//! What attention built from ggml's own operations reads beside the flat run of tokens: equally long lanes in which
//! whole rows lie side by side, the indices that carry values there and back, and masks. Our own kernels need none of
//! it. The vectors are made once per run and refilled.

use crate::arch::Config;
use crate::ggml::{Context, F32, I32, Tensor};

use super::batch::Shape;
use super::packing::MicroBatch;

/// Indices and masks of a pass.
pub(crate) struct Lanes {
    /// I32 [heads * places]: for every (lane, head, place) the row of the flat queries seen as [head_dim, heads * tokens].
    pub(crate) to_queries: Tensor,
    /// I32 [kv_heads * places], the same for keys and values.
    pub(crate) to_keys: Tensor,
    /// I32 [heads * tokens]: the way back.
    pub(crate) from_queries: Tensor,
    /// I32 [kv_heads * tokens]: the way back.
    pub(crate) from_keys: Tensor,
    /// F32 [lane_len, lane_len, 1, lanes]: 0 where the query (dimension 1) sees the key (dimension 0), else -inf.
    pub(crate) mask: Tensor,
    /// The same for layers that see only the last keys.
    pub(crate) local_mask: Option<Tensor>,
    places: Places,
    indices: Vec<i32>,
    sees: Vec<f32>,
}

/// Where tokens lie.
struct Places {
    /// Flat token of every place; the last flat token for empty ones.
    flat: Vec<usize>,
    /// Place of every flat token; an empty place for padding.
    of_flat: Vec<usize>,
    /// Row number of every place, `NOBODY` for empty ones.
    owner: Vec<usize>,
}

const NOBODY: usize = usize::MAX;

impl Lanes {
    /// Describes the tensors in `context`, which gives them memory.
    pub(crate) fn new(context: &Context, config: &Config, shape: Shape) -> Lanes {
        let (places, tokens) = (shape.places(), shape.tokens);
        let mask = || context.tensor(F32, &[shape.lane_len, shape.lane_len, 1, shape.lanes]);
        Lanes {
            to_queries: context.tensor(I32, &[config.heads * places]),
            to_keys: context.tensor(I32, &[config.kv_heads * places]),
            from_queries: context.tensor(I32, &[config.heads * tokens]),
            from_keys: context.tensor(I32, &[config.kv_heads * tokens]),
            mask: mask(),
            local_mask: config.local.as_ref().map(|_| mask()),
            places: Places::new(shape),
            indices: Vec::new(),
            sees: vec![0.0; shape.lane_len * places],
        }
    }

    /// Writes one pass.
    pub(crate) fn fill(&mut self, batch: &MicroBatch, config: &Config, shape: Shape) {
        let (places, indices) = (&mut self.places, &mut self.indices);
        places.fill(batch, shape);
        for (tensor, heads) in [(self.to_queries, config.heads), (self.to_keys, config.kv_heads)] {
            index_heads(indices, &places.flat, heads, shape.lane_len);
            tensor.write(indices);
        }
        for (tensor, heads) in [(self.from_queries, config.heads), (self.from_keys, config.kv_heads)] {
            index_places(indices, &places.of_flat, heads, shape.lane_len);
            tensor.write(indices);
        }
        let local = self.local_mask.zip(config.local.as_ref()).map(|(mask, local)| (mask, local.keys));
        for (tensor, keys) in [(self.mask, usize::MAX)].into_iter().chain(local) {
            places.mask(shape, keys, &mut self.sees);
            tensor.write(&self.sees);
        }
    }
}

impl Places {
    fn new(shape: Shape) -> Places {
        let places = shape.places();
        Places { flat: vec![0; places], of_flat: vec![0; shape.tokens], owner: vec![NOBODY; places] }
    }

    fn fill(&mut self, batch: &MicroBatch, shape: Shape) {
        self.flat.fill(shape.tokens - 1);
        self.owner.fill(NOBODY);
        for (number, piece) in batch.pieces.iter().enumerate() {
            let first = piece.lane * shape.lane_len + piece.lane_offset;
            for at in 0..piece.document.len {
                self.flat[first + at] = piece.offset + at;
                self.of_flat[piece.offset + at] = first + at;
                self.owner[first + at] = number;
            }
        }
        // Padding reads an empty place: it takes part in nothing, so whatever flows through it is zero going back.
        let empty = self.owner.iter().position(|&owner| owner == NOBODY);
        for token in batch.tokens..shape.tokens {
            self.of_flat[token] = empty.expect("Shape has an empty place whenever a pass has padding");
        }
    }

    /// A place sees itself and the `keys` - 1 places of its row before it; an empty place sees only itself, so that its
    /// softmax has something to normalise.
    fn mask(&self, shape: Shape, keys: usize, out: &mut [f32]) {
        for place in 0..shape.places() {
            let first = place - place % shape.lane_len;
            let sees = &mut out[place * shape.lane_len..][..shape.lane_len];
            for (at, value) in sees.iter_mut().enumerate() {
                let key = first + at;
                let same_row = self.owner[key] == self.owner[place] && self.owner[place] != NOBODY;
                let seen = key == place || (same_row && key < place && place - key < keys);
                *value = if seen { 0.0 } else { f32::NEG_INFINITY };
            }
        }
    }
}

/// Fills `out` [lanes][heads][lane_len] with the row of (flat token, head) in a flat [head_dim, heads * tokens] tensor.
fn index_heads(out: &mut Vec<i32>, flat_of_place: &[usize], heads: usize, lane_len: usize) {
    out.clear();
    for places in flat_of_place.chunks_exact(lane_len) {
        for head in 0..heads {
            out.extend(places.iter().map(|&flat| (flat * heads + head) as i32));
        }
    }
}

/// Fills `out` [tokens][heads] with the row of (lane, head, place) in a [head_dim, lane_len * heads * lanes] tensor.
fn index_places(out: &mut Vec<i32>, place_of_flat: &[usize], heads: usize, lane_len: usize) {
    out.clear();
    for &place in place_of_flat {
        let (lane, at) = (place / lane_len, place % lane_len);
        out.extend((0..heads).map(|head| ((lane * heads + head) * lane_len + at) as i32));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packing::{Document, Layout, pack, shuffled};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn no_token_sees_another_row(
            lengths in proptest::collection::vec(2usize..40, 1..30),
            keys in 1usize..60,
            seed in any::<u64>(),
        ) {
            let documents: Vec<Document> =
                lengths.iter().enumerate().map(|(row, &len)| Document { row, len, targets: len - 1 }).collect();
            let layout = Layout::new(&documents, 96, 1);
            let batches = pack(&documents, &shuffled(documents.len(), seed, 0), layout);
            let shape = Shape::of(layout, batches.iter());
            let mut places = Places::new(shape);
            let mut mask = vec![0.0; shape.places() * shape.lane_len];
            for batch in &batches {
                places.fill(batch, shape);
                places.mask(shape, keys, &mut mask);
                // Row and position of every flat token; padding belongs to no row.
                let mut tokens = vec![None; shape.tokens];
                for piece in &batch.pieces {
                    for at in 0..piece.document.len {
                        tokens[piece.offset + at] = Some((piece.document.row, at));
                    }
                }
                for place in 0..shape.places() {
                    for at in 0..shape.lane_len {
                        let key = place - place % shape.lane_len + at;
                        let real = places.owner[place] != NOBODY && places.owner[key] != NOBODY;
                        let wanted = key == place || real && {
                            let (asker, asked) = (tokens[places.flat[place]].unwrap(), tokens[places.flat[key]].unwrap());
                            asker.0 == asked.0 && asked.1 < asker.1 && asker.1 - asked.1 < keys
                        };
                        prop_assert_eq!(mask[place * shape.lane_len + at] == 0.0, wanted);
                    }
                }
                for flat in 0..shape.tokens {
                    let place = places.of_flat[flat];
                    if flat < batch.tokens {
                        prop_assert_eq!(places.flat[place], flat);
                    } else {
                        prop_assert_eq!(places.owner[place], NOBODY);
                    }
                }
            }
        }
    }
}
