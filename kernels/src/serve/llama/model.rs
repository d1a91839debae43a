//! A model: loaded on the cards that are chosen for it, else for the CPU. Never here: contexts, adapters, and the rule
//! by which cards are chosen (`ggml/device.rs`).

use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::{LlamaError, c_path, forget_last_error, last_error, start};
use crate::ggml::{self, Device, DeviceKind};

/// What a card needs beside the weights for cache and graphs, as a part of them and at least: a rule of thumb, because
/// the contexts of a service are made later.
const BESIDE_WEIGHTS_PART: u64 = 4;
const BESIDE_WEIGHTS_BYTES_MIN: u64 = 1 << 30;

/// The cards that a service of the model at `path` gets. When there are cards but none holds it, that is said.
fn cards_for(path: &Path, wish: Option<&str>) -> Result<Vec<Device>, LlamaError> {
    let devices = ggml::devices();
    let weights = std::fs::metadata(path).map_or(0, |file| file.len());
    let bytes = weights + (weights / BESIDE_WEIGHTS_PART).max(BESIDE_WEIGHTS_BYTES_MIN);
    let cards = ggml::span(&devices, wish, bytes).map_err(LlamaError::Device)?;
    if cards.is_empty() && wish.is_none() && devices.iter().any(|device| device.kind == DeviceKind::Gpu) {
        eprintln!("all cards together have less than {bytes} bytes free, which this model needs: the CPU computes");
    }
    Ok(cards)
}

fn names(cards: &[Device]) -> Vec<String> {
    cards.iter().map(|card| card.name.clone()).collect()
}

/// A loaded model, or only its vocabulary. Immutable after loading.
#[derive(Debug)]
pub struct Model {
    pub(super) ptr: NonNull<sys::llama_model>,
    pub(super) vocab_only: bool,
    devices: Vec<String>,
}

// SAFETY: after loading, llama.cpp reads a model only; the calls that change it (adapter loading,
// context creation) are made below while holding `MODEL_CHANGES`.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

/// Serialises the two llama.cpp calls that write into a shared model.
pub(super) static MODEL_CHANGES: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Model {
    /// Loads a GGUF file with its weights: on the cards that [`ggml::span`] gives it, else mapped for the CPU.
    pub fn load(path: &Path) -> Result<Arc<Self>, LlamaError> {
        start();
        let wish = ggml::wished();
        let cards = cards_for(path, wish.as_deref())?;
        if cards.is_empty() {
            return Self::load_on(path, false, &[]);
        }
        let on = names(&cards).join(", ");
        match Self::load_on(path, false, &cards) {
            Ok(model) => {
                eprintln!("the model's layers are on {on}");
                Ok(model)
            }
            // What was free when it was looked at may be gone. A card that was named is not silently left.
            Err(error) if wish.is_none() => {
                eprintln!("{on} did not take the model ({error}); the CPU computes");
                Self::load_on(path, false, &[])
            }
            Err(error) => Err(error),
        }
    }

    /// Loads the vocabulary of a GGUF file and no weights.
    pub fn load_vocab_only(path: &Path) -> Result<Arc<Self>, LlamaError> {
        start();
        Self::load_on(path, true, &[])
    }

    /// On these cards, or with none of them for the CPU.
    fn load_on(path: &Path, vocab_only: bool, cards: &[Device]) -> Result<Arc<Self>, LlamaError> {
        let c = c_path(path)?;
        let mut handles = ggml::handles(cards);
        // SAFETY: returns a plain struct by value.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.vocab_only = vocab_only;
        params.devices = handles.as_mut_ptr();
        if cards.is_empty() {
            params.n_gpu_layers = 0;
        }
        forget_last_error();
        // SAFETY: the path is a valid C string; the list of devices ends with null, lives until after the call and is
        // copied by it.
        let ptr = unsafe { sys::llama_model_load_from_file(c.as_ptr(), params) };
        let ptr =
            NonNull::new(ptr).ok_or_else(|| LlamaError::ModelLoad { path: path.to_owned(), detail: last_error() })?;
        Ok(Arc::new(Self { ptr, vocab_only, devices: names(cards) }))
    }

    /// Names of the cards that hold its layers; none when the CPU computes alone.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Whether only the vocabulary was loaded.
    pub fn is_vocab_only(&self) -> bool {
        self.vocab_only
    }

    pub(crate) fn vocab_ptr(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is alive as long as `self`.
        unsafe { sys::llama_model_get_vocab(self.ptr.as_ptr()) }
    }

    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        // SAFETY: the vocabulary lives as long as the model.
        let n = unsafe { sys::llama_vocab_n_tokens(self.vocab_ptr()) };
        usize::try_from(n).unwrap_or(0)
    }

    /// Width of the vectors that the model makes of tokens.
    pub fn vector_width(&self) -> usize {
        // SAFETY: the model is alive.
        let n = unsafe { sys::llama_model_n_embd_out(self.ptr.as_ptr()) };
        usize::try_from(n).unwrap_or(0)
    }

    /// Context length the model was trained for, in tokens.
    pub fn trained_context_tokens(&self) -> u32 {
        // SAFETY: the model is alive.
        let n = unsafe { sys::llama_model_n_ctx_train(self.ptr.as_ptr()) };
        u32::try_from(n).unwrap_or(0)
    }

    /// Whether a sequence can be cut at any position and continued from there. False for recurrent
    /// and hybrid models and for sliding-window attention, whose early states are gone.
    pub fn can_cut_sequences(&self) -> bool {
        // SAFETY: the model is alive.
        unsafe {
            !sys::llama_model_is_recurrent(self.ptr.as_ptr())
                && !sys::llama_model_is_hybrid(self.ptr.as_ptr())
                && sys::llama_model_n_swa(self.ptr.as_ptr()) == 0
        }
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_size(self.ptr.as_ptr()) }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: made by llama_model_load_from_file and freed once; contexts and adapters hold an
        // `Arc` of it, so none is left.
        unsafe { sys::llama_model_free(self.ptr.as_ptr()) }
    }
}
