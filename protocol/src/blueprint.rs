//! A small model that is made from nothing: its sizes, by number or by name, and where its tokens come from. Never here: how
//! its weights are drawn (`kernels/src/convert/init.rs`).

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Sizes of a decoder. Its output head is its embedding matrix, as in small models of today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// The family.
    pub architecture: NewArchitecture,
    /// Transformer blocks.
    pub layers: u32,
    /// Width of embeddings.
    pub embedding: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width inside the feed-forward block.
    pub feed_forward: u32,
    /// Longest context in tokens.
    pub context_tokens: u32,
}

/// Families of which new models are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewArchitecture {
    /// Pre-norm decoder with rotary embedding, grouped-query attention, SwiGLU.
    Llama,
    /// The same with the heads of queries and keys normed.
    Qwen3,
}

impl NewArchitecture {
    /// The word on the wire, on the command line and in the file.
    pub fn word(self) -> &'static str {
        match self {
            NewArchitecture::Llama => "llama",
            NewArchitecture::Qwen3 => "qwen3",
        }
    }
}

/// Where the tokens of a new model come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// Byte pairs that are learnt from the texts of rows.
    Learn {
        /// `name` or `name@number` of a dataset of chats or texts.
        dataset: String,
        /// Tokens, at most; fewer where the texts have no more pairs.
        vocabulary: u32,
    },
    /// The tokenizer and chat template of a model.
    Of {
        /// `name`, `name@number` or `name:alias`.
        version: String,
    },
}

/// A named size: its sizes as a llama, and the tokens that suit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The word on the command line.
    pub word: &'static str,
    /// Layers, embedding, heads, key and value heads, feed-forward, context.
    sizes: [u32; 6],
    /// Tokens to learn.
    pub vocabulary: u32,
}

/// Named sizes, smallest first; the largest is that of SmolLM2-135M.
pub const SIZES: [Size; 4] = [
    Size { word: "tiny", sizes: [4, 128, 4, 2, 384, 512], vocabulary: 2_048 },
    Size { word: "small", sizes: [10, 256, 8, 4, 768, 1_024], vocabulary: 8_192 },
    Size { word: "medium", sizes: [12, 576, 9, 3, 1_536, 2_048], vocabulary: 16_384 },
    Size { word: "large", sizes: [30, 576, 9, 3, 1_536, 2_048], vocabulary: 49_152 },
];

impl Size {
    /// The size of that word.
    pub fn named(word: &str) -> Option<&'static Size> {
        SIZES.iter().find(|size| size.word == word)
    }

    /// Its sizes.
    pub fn blueprint(&self, architecture: NewArchitecture) -> Blueprint {
        let [layers, embedding, heads, kv_heads, feed_forward, context_tokens] = self.sizes;
        Blueprint { architecture, layers, embedding, heads, kv_heads, feed_forward, context_tokens }
    }
}

/// Fewest and most tokens that can be learnt: all bytes, the named ones and some pairs; beyond any use.
const VOCABULARY: (u32, u32) = (512, 262_144);
/// Rows of matrices are packed in blocks of so many values.
const BLOCK: u32 = 32;

impl Blueprint {
    /// Weights of a model of these sizes with so many tokens.
    pub fn parameters(&self, vocabulary: u32) -> u64 {
        let [width, inner] = [self.embedding, self.feed_forward].map(u64::from);
        let head = width / u64::from(self.heads.max(1));
        let keys = head * u64::from(self.kv_heads);
        let norms = 2 * width + if self.architecture == NewArchitecture::Qwen3 { 2 * head } else { 0 };
        let layer = 2 * width * width + 2 * width * keys + 3 * width * inner + norms;
        u64::from(vocabulary) * width + width + u64::from(self.layers) * layer
    }

    /// Names the first size that no model can have, or that does not fit the others.
    pub fn check(&self) -> Result<(), Failure> {
        let inside = |name: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Failure::field(name, format!("{name} is {value}; it must be between {low} and {high}")))
        };
        inside("layers", self.layers, 1, 256)?;
        inside("embedding", self.embedding, 2 * BLOCK, 8_192)?;
        inside("feed_forward", self.feed_forward, BLOCK, 65_536)?;
        inside("heads", self.heads, 1, 256)?;
        inside("kv_heads", self.kv_heads, 1, self.heads)?;
        inside("context_tokens", self.context_tokens, 32, 1 << 20)?;
        for (name, value) in [("embedding", self.embedding), ("feed_forward", self.feed_forward)] {
            if !value.is_multiple_of(BLOCK) {
                return Err(Failure::field(name, format!("{name} is {value}; it must be a multiple of {BLOCK}")));
            }
        }
        if !self.embedding.is_multiple_of(self.heads) || !(self.embedding / self.heads).is_multiple_of(16) {
            let message =
                format!("{} values do not make {} heads of a multiple of 16 values each", self.embedding, self.heads);
            return Err(Failure::field("heads", message));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let message = format!("{} query heads do not divide among {} key heads", self.heads, self.kv_heads);
            return Err(Failure::field("kv_heads", message));
        }
        Ok(())
    }
}

/// Whether so many tokens can be learnt.
pub fn check_vocabulary(tokens: u32) -> Result<(), Failure> {
    let (low, high) = VOCABULARY;
    if (low..=high).contains(&tokens) {
        return Ok(());
    }
    Err(Failure::field("vocabulary", format!("vocabulary is {tokens}; it must be between {low} and {high}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_sizes_are_possible_and_grow() {
        let mut last = 0;
        for size in &SIZES {
            assert_eq!(Size::named(size.word), Some(size));
            check_vocabulary(size.vocabulary).unwrap();
            for architecture in [NewArchitecture::Llama, NewArchitecture::Qwen3] {
                size.blueprint(architecture).check().unwrap();
            }
            let parameters = size.blueprint(NewArchitecture::Llama).parameters(size.vocabulary);
            assert!(parameters > 4 * last, "{}: {parameters}", size.word);
            last = parameters / 2;
        }
        // As many as SmolLM2-135M has by its own card.
        let large = Size::named("large").unwrap();
        assert_eq!(large.blueprint(NewArchitecture::Llama).parameters(large.vocabulary), 134_515_008);
    }

    #[test]
    fn impossible_sizes_are_named() {
        let fine = SIZES[0].blueprint(NewArchitecture::Llama);
        for (broken, field) in [
            (Blueprint { layers: 0, ..fine.clone() }, "layers"),
            (Blueprint { embedding: 100, ..fine.clone() }, "embedding"),
            (Blueprint { heads: 3, kv_heads: 1, ..fine.clone() }, "heads"),
            (Blueprint { heads: 8, kv_heads: 3, ..fine.clone() }, "kv_heads"),
            (Blueprint { feed_forward: 0, ..fine.clone() }, "feed_forward"),
            (Blueprint { context_tokens: 1, ..fine.clone() }, "context_tokens"),
        ] {
            assert_eq!(broken.check().unwrap_err().place, field);
        }
        assert_eq!(check_vocabulary(256).unwrap_err().place, "vocabulary");
    }
}
