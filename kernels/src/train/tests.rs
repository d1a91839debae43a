//! What training must get right, against oracles that share no code with it: the naive F64 model of `reference`,
//! llama.cpp itself, and a run compared with its own interruption.

mod adapter;
mod forward;
mod full;
mod gradient;
pub(crate) mod llama_cpp;
mod memory;
pub(crate) mod models;
mod resume;
mod run;
mod saved;
