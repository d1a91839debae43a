//! The tokens that are computed together, in the layout that llama.cpp reads. Never here: whether a context takes them
//! (`Context::decode` checks).

/// Tokens to compute together. Entries of the same slot must be added in rising position, and slots
/// in rising order: llama.cpp then puts neighbouring slots into one graph.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) token: Vec<i32>,
    pub(super) pos: Vec<i32>,
    pub(super) seq: Vec<i32>,
    pub(super) seq_count: Vec<i32>,
    pub(super) seq_ptr: Vec<*mut i32>,
    pub(super) output: Vec<i8>,
}

// SAFETY: the raw pointers are refilled from `seq` before every use and never read otherwise.
unsafe impl Send for Batch {}

impl Batch {
    /// Forgets all entries, keeps the memory.
    pub fn clear(&mut self) {
        self.token.clear();
        self.pos.clear();
        self.seq.clear();
        self.output.clear();
    }

    /// Adds a token of `slot` at `position`; `output` asks for its logits. Returns its index.
    pub fn add(&mut self, slot: u32, position: usize, token: i32, output: bool) -> usize {
        self.token.push(token);
        // Values beyond i32 become -1 and are refused by `Context::decode`.
        self.pos.push(i32::try_from(position).unwrap_or(-1));
        self.seq.push(i32::try_from(slot).unwrap_or(-1));
        self.output.push(i8::from(output));
        self.token.len() - 1
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.token.len()
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.token.is_empty()
    }

    pub(super) fn point(&mut self) {
        self.seq_count.clear();
        self.seq_count.resize(self.seq.len(), 1);
        self.seq_ptr.clear();
        let base = self.seq.as_mut_ptr();
        // SAFETY: `i` stays below the length of `seq`, which is not touched until decode returns.
        self.seq_ptr.extend((0..self.seq.len()).map(|i| unsafe { base.add(i) }));
    }
}
