//! The engine room of hone: model files, training, and what the worker needs to serve. Reading order: `gguf` (files),
//! `ggml` (owners over the native library, the only place that calls it for training), `arch` (architectures as
//! data), `train` (LoRA training), `convert` (models in and out). This crate never opens the store, never listens, and knows no wire format.

pub mod arch;
pub mod convert;
mod cpu;
pub mod from_folder;
mod ggml;
pub mod gguf;
pub mod inspect;
pub mod parity;
#[cfg(test)]
mod reference;
pub mod serve;
pub mod template;
pub mod to_folder;
pub mod train;
pub mod vocab;

pub use ggml::{BACKENDS_VARIABLE, BackendError, DEVICE_VARIABLE, Device, DeviceKind};
pub use ggml::{choose, devices, log_to_stderr, span, wished};
pub mod worker;
