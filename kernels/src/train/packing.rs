//! Which rows share a pass, in which order, and where their tokens lie. All of it is a pure function of the rows, the
//! seed and the epoch, so that a resumed run sees exactly what an uninterrupted one would. Nothing here knows models.
//!
//! A pass ([`MicroBatch`]) is a flat run of tokens in which rows follow each other without padding between them;
//! every matrix multiplication works on it. Attention alone works on lanes: equally long strips in which whole rows
//! are laid out side by side with a mask per row. Padding therefore costs only the small attention products.

use sha2::{Digest, Sha256};

use super::params::LongRows;

/// Passes that are being filled at the same time. When all are open and none has room for the next row, the fullest
/// is closed.
const OPEN_BATCHES_MAX: usize = 16;
/// Lanes are a multiple of this many tokens, which ggml's fast F32 products ask for.
const LANE_STEP: usize = 16;

/// One training example as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The row's id in its dataset.
    pub row_id: u64,
    /// Token ids.
    pub tokens: Vec<i32>,
    /// Whether token i is a target (position i - 1 predicts it). As long as `tokens`; the first entry has no position
    /// that could predict it and counts for nothing.
    pub trained: Vec<bool>,
}

/// A row that takes part, after cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document {
    /// Index into the rows.
    pub(crate) row: usize,
    /// Tokens used.
    pub(crate) len: usize,
    /// Targets among them.
    pub(crate) targets: usize,
}

/// The rows that take part and what became of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) documents: Vec<Document>,
    pub(crate) cut: usize,
    pub(crate) refused: usize,
    pub(crate) without_target: usize,
    pub(crate) tokens: u64,
    pub(crate) targets: u64,
}

/// Chooses the rows that take part. A row whose kept part has no target is left out and counted. Where rows come in
/// groups of `group`, a group takes part as a whole and counts once; documents of a group then follow each other.
pub(crate) fn prepare(rows: &[TokenRow], sequence_tokens: usize, long_rows: LongRows, group: usize) -> Prepared {
    let mut prepared = Prepared::default();
    for (index, rows) in rows.chunks_exact(group).enumerate() {
        let long = rows.iter().any(|row| row.tokens.len() > sequence_tokens);
        if long && long_rows == LongRows::Refuse {
            prepared.refused += 1;
            continue;
        }
        let documents = rows.iter().zip(index * group..).map(|(row, index)| {
            let len = row.tokens.len().min(sequence_tokens);
            let targets = row.trained[..len].iter().skip(1).filter(|&&trained| trained).count();
            Document { row: index, len, targets }
        });
        if documents.clone().any(|document| document.targets == 0) {
            prepared.without_target += 1;
            continue;
        }
        prepared.cut += usize::from(long);
        for document in documents {
            prepared.tokens += document.len as u64;
            prepared.targets += document.targets as u64;
            prepared.documents.push(document);
        }
    }
    prepared
}

/// Sizes that every pass of a run shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Tokens that a pass computes.
    pub(crate) flat_tokens: usize,
    /// Tokens of rows that it may hold. One less than `flat_tokens` unless rows fill the lanes exactly: attention's
    /// empty places read the last flat token, which must then belong to no row.
    pub(crate) capacity: usize,
    /// Tokens of a lane.
    pub(crate) lane_len: usize,
    /// Documents that share a pass whatever happens.
    pub(crate) group: usize,
}

impl Layout {
    /// The layout for passes of `batch_tokens` tokens with documents in groups of `group`.
    pub(crate) fn new(documents: &[Document], batch_tokens: usize, group: usize) -> Layout {
        let longest = documents.iter().map(|document| document.len).max().unwrap_or(1);
        let longest_group = documents.chunks(group).map(tokens_of).max().unwrap_or(1);
        let lane_len = longest.next_multiple_of(LANE_STEP);
        let exact = batch_tokens.is_multiple_of(lane_len) && documents.iter().all(|document| document.len == lane_len);
        let flat_tokens = if exact || longest_group < batch_tokens { batch_tokens } else { batch_tokens + LANE_STEP };
        let capacity = if exact { flat_tokens } else { flat_tokens - 1 };
        Layout { flat_tokens, capacity, lane_len, group }
    }
}

fn tokens_of(documents: &[Document]) -> usize {
    documents.iter().map(|document| document.len).sum()
}

/// Where one row lies in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which row, and how much of it.
    pub(crate) document: Document,
    /// Its first place in the flat run.
    pub(crate) offset: usize,
    /// Its lane.
    pub(crate) lane: usize,
    /// Its first place in the lane.
    pub(crate) lane_offset: usize,
}

/// The rows of one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MicroBatch {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) lanes: usize,
    pub(crate) tokens: usize,
    pub(crate) targets: usize,
}

impl MicroBatch {
    /// Lanes that attention must have so that an empty place exists whenever the flat run has padding.
    pub(crate) fn lanes_needed(&self, layout: Layout) -> usize {
        let full = self.lanes * layout.lane_len == self.tokens;
        self.lanes + usize::from(full && self.tokens < layout.flat_tokens)
    }
}

/// The passes of one epoch in the order in which they run. `order` gives the order of the documents' groups.
pub(crate) fn pack(documents: &[Document], order: &[usize], layout: Layout) -> Vec<MicroBatch> {
    let mut open: Vec<Vec<Document>> = Vec::new();
    let mut used: Vec<usize> = Vec::new();
    let mut closed: Vec<Vec<Document>> = Vec::new();
    for &index in order {
        let group = &documents[index * layout.group..][..layout.group];
        let tokens = tokens_of(group);
        // The fullest pass that still has room keeps the leftovers small.
        let fits = (0..open.len()).filter(|&at| used[at] + tokens <= layout.capacity);
        let best = fits.max_by_key(|&at| (used[at], std::cmp::Reverse(at)));
        let at = best.unwrap_or_else(|| {
            if open.len() == OPEN_BATCHES_MAX {
                let fullest =
                    (0..open.len()).max_by_key(|&at| (used[at], std::cmp::Reverse(at))).expect("some are open");
                closed.push(open.remove(fullest));
                used.remove(fullest);
            }
            open.push(Vec::new());
            used.push(0);
            open.len() - 1
        });
        open[at].extend_from_slice(group);
        used[at] += tokens;
    }
    closed.extend(open);
    closed.iter().map(|documents| lay_out(documents, layout)).collect()
}

/// Gives every row of one pass its place: flat places in order, lanes longest first into the first that has room.
fn lay_out(documents: &[Document], layout: Layout) -> MicroBatch {
    let mut batch = MicroBatch::default();
    for &document in documents {
        batch.pieces.push(Piece { document, offset: batch.tokens, lane: 0, lane_offset: 0 });
        batch.tokens += document.len;
        batch.targets += document.targets;
    }
    let mut by_length: Vec<usize> = (0..documents.len()).collect();
    by_length.sort_by_key(|&at| std::cmp::Reverse(documents[at].len));
    let mut lanes: Vec<usize> = Vec::new();
    for at in by_length {
        let len = documents[at].len;
        let lane = lanes.iter().position(|used| used + len <= layout.lane_len).unwrap_or_else(|| {
            lanes.push(0);
            lanes.len() - 1
        });
        batch.pieces[at].lane = lane;
        batch.pieces[at].lane_offset = lanes[lane];
        lanes[lane] += len;
    }
    batch.lanes = lanes.len();
    batch
}

/// The documents' order in `epoch`: a Fisher-Yates shuffle that depends on nothing but seed, epoch and count.
pub(crate) fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = SplitMix::new(seed ^ epoch.wrapping_add(1).wrapping_mul(0xd1b5_4a32_d192_ed03));
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

/// SHA-256 over the rows as they take part: ids, tokens and targets, each list led by its length.
pub(crate) fn rows_sha256(rows: &[TokenRow]) -> String {
    let mut hash = Sha256::new();
    hash.update((rows.len() as u64).to_le_bytes());
    let mut buffer = Vec::new();
    for row in rows {
        buffer.clear();
        buffer.extend(row.row_id.to_le_bytes());
        buffer.extend((row.tokens.len() as u64).to_le_bytes());
        buffer.extend(row.tokens.iter().flat_map(|token| token.to_le_bytes()));
        buffer.extend(row.trained.iter().map(|&trained| u8::from(trained)));
        hash.update(&buffer);
    }
    super::hex(&hash.finalize())
}

/// SplitMix64 (<https://doi.org/10.1145/2714064.2660195>): a small generator whose sequence is ours to keep stable.
#[derive(Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64) -> SplitMix {
        SplitMix(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `bound` (bias below 2^-32 for the bounds used here).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in [-1, 1).
    pub(crate) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(id: u64, len: usize, target_from: usize) -> TokenRow {
        TokenRow { row_id: id, tokens: vec![1; len], trained: (0..len).map(|at| at >= target_from).collect() }
    }

    #[test]
    fn long_rows_and_rows_without_targets_are_counted() {
        let rows = [row(1, 10, 5), row(2, 30, 5), row(3, 30, 25), row(4, 8, 8), row(5, 1, 0)];
        let refused = prepare(&rows, 20, LongRows::Refuse, 1);
        assert_eq!((refused.refused, refused.cut, refused.without_target), (2, 0, 2));
        assert_eq!((refused.tokens, refused.targets), (10, 5));
        let cut = prepare(&rows, 20, LongRows::Cut, 1);
        assert_eq!((cut.refused, cut.cut, cut.without_target), (0, 1, 3));
        assert_eq!(cut.documents[1], Document { row: 1, len: 20, targets: 15 });
    }

    #[test]
    fn pairs_take_part_whole_and_stay_together() {
        let lengths = [12, 9, 30, 5, 20, 20, 7, 6];
        let rows: Vec<TokenRow> = lengths.iter().enumerate().map(|(at, &len)| row(at as u64 / 2, len, 2)).collect();
        let prepared = prepare(&rows, 20, LongRows::Refuse, 2);
        assert_eq!((prepared.refused, prepared.cut, prepared.without_target), (1, 0, 0));
        assert_eq!(prepared.documents.iter().map(|d| d.row).collect::<Vec<_>>(), [0, 1, 4, 5, 6, 7]);
        assert_eq!(prepare(&rows, 20, LongRows::Cut, 2).cut, 1);
        let layout = Layout::new(&prepared.documents, 40, 2);
        assert!(layout.capacity >= 40, "the longest pair fits");
        let batches = pack(&prepared.documents, &[2, 0, 1], layout);
        let found: Vec<Vec<usize>> =
            batches.iter().map(|batch| batch.pieces.iter().map(|piece| piece.document.row).collect()).collect();
        assert_eq!(found, [vec![6, 7, 0, 1], vec![4, 5]]);
    }

    #[test]
    fn exact_rows_need_no_spare_token() {
        let documents = vec![Document { row: 0, len: 128, targets: 1 }; 9];
        let layout = Layout::new(&documents, 512, 1);
        assert_eq!(layout, Layout { flat_tokens: 512, capacity: 512, lane_len: 128, group: 1 });
        let order: Vec<usize> = (0..9).collect();
        let batches = pack(&documents, &order, layout);
        assert_eq!(batches.iter().map(|batch| batch.tokens).collect::<Vec<_>>(), [512, 512, 128]);
        assert_eq!(batches.iter().map(|batch| batch.lanes_needed(layout)).max(), Some(4));
    }

    #[test]
    fn a_row_as_long_as_the_pass_still_fits() {
        let documents = [Document { row: 0, len: 50, targets: 1 }, Document { row: 1, len: 3, targets: 1 }];
        let layout = Layout::new(&documents, 50, 1);
        assert!(layout.capacity >= 50 && layout.flat_tokens > layout.capacity);
        assert!(pack(&documents, &[0, 1], layout).iter().all(|batch| batch.tokens <= layout.capacity));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn nothing_is_lost_and_nothing_overlaps(
            lengths in proptest::collection::vec(2usize..90, 1..120),
            batch_tokens in 90usize..600,
            seed in any::<u64>(),
            epoch in 0u64..5,
        ) {
            let documents: Vec<Document> = lengths
                .iter()
                .enumerate()
                .map(|(row, &len)| Document { row, len, targets: len - 1 })
                .collect();
            let layout = Layout::new(&documents, batch_tokens, 1);
            let order = shuffled(documents.len(), seed, epoch);
            let batches = pack(&documents, &order, layout);
            prop_assert_eq!(&batches, &pack(&documents, &shuffled(documents.len(), seed, epoch), layout));
            let mut seen: Vec<Document> = batches.iter().flat_map(|b| b.pieces.iter().map(|p| p.document)).collect();
            seen.sort_by_key(|document| document.row);
            prop_assert_eq!(seen, documents);
            for batch in &batches {
                prop_assert!(batch.tokens <= layout.capacity);
                let lanes = batch.lanes_needed(layout);
                let mut flat = vec![false; layout.flat_tokens];
                let mut places = vec![false; lanes * layout.lane_len];
                for piece in &batch.pieces {
                    prop_assert!(piece.lane_offset + piece.document.len <= layout.lane_len);
                    for at in 0..piece.document.len {
                        let place = piece.lane * layout.lane_len + piece.lane_offset + at;
                        prop_assert!(!std::mem::replace(&mut flat[piece.offset + at], true));
                        prop_assert!(!std::mem::replace(&mut places[place], true));
                    }
                }
                if flat.contains(&false) {
                    prop_assert!(!flat[layout.flat_tokens - 1], "the last flat token is padding");
                    prop_assert!(places.contains(&false), "an empty place exists");
                }
            }
        }

        #[test]
        fn the_order_is_a_permutation_that_differs_by_epoch(count in 8usize..200, seed in any::<u64>()) {
            let mut first = shuffled(count, seed, 0);
            prop_assert_ne!(&first, &shuffled(count, seed, 1));
            first.sort_unstable();
            prop_assert_eq!(first, (0..count).collect::<Vec<_>>());
        }
    }
}
