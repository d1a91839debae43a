//! Generation and scoring over llama.cpp: continuous batching, prefix reuse, sampling, stop strings
//! and the token counts that metering rests on.
//!
//! `llama` owns the C objects, `request` says what can be asked and what comes back, `sampling` picks
//! tokens, `constraint` says which may come, `grammar` and `schema` what that rests on, `text` turns tokens into text that may be shown, `slot` is one sequence, `lane` is one
//! context with its slots, `embed` makes vectors of texts, `engine` decides what is computed next, `fair` who of those
//! that wait gets the next slot.
//!
//! What never lives here: frames, sockets, prices, chat templates.

pub mod constraint;
pub mod embed;
pub mod engine;
mod fair;
pub mod grammar;
pub mod lane;
pub mod llama;
mod pattern;
pub mod request;
pub mod sampling;
pub mod schema;
pub mod slot;
pub mod text;
pub mod threads;

#[cfg(test)]
mod tests;

pub use constraint::Limit;
pub use embed::EmbedRequest;
pub use engine::{Engine, EngineParams, EngineStats};
pub use llama::{KvType, LlamaError};
pub use request::{EngineError, EngineEvent, Finish, GenRequest, Refusal, ScoreRequest};
pub use sampling::{Chance, Sampling};
