//! What training must get right, against oracles that share no code with it: the naive F64 model of `reference`,
//! llama.cpp itself, and a run compared with its own interruption.

mod adapter;
mod forward;
mod full;
mod gradient;
mod llama_cpp;
mod memory;
mod models;
mod resume;
mod run;
