//! What a server is asked to embed: texts or tokens, of which each becomes one vector. Never here: shapes of HTTP, the
//! engine.

use serde::{Deserialize, Serialize};

use crate::generate::Prompt;

/// Most inputs of one request; more are refused.
pub const INPUTS_MAX: usize = 2048;

/// How the vectors of an input's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one, that of `[CLS]`.
    First,
    /// The last one.
    Last,
}

impl Pooling {
    /// The word in `1_Pooling/config.json` and of llama.cpp.
    pub fn word(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::First => "cls",
            Pooling::Last => "last",
        }
    }
}

/// One request to a server for vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedTask {
    /// Chosen by the daemon, unique in the life of the process.
    pub request: u64,
    /// Texts or tokens, never conversations; at most [`INPUTS_MAX`].
    pub inputs: Vec<Prompt>,
    /// Whether an input that is too long is cut; else it is refused.
    pub cut: bool,
    /// Numbers that each vector is to have, for an upstream; a model of ours has one width.
    pub dimensions: Option<u32>,
}
