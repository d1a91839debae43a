//! `config.json` as metadata of a GGUF file. Each family says what it may be; a value that would change what is computed
//! and has no place in the file is refused by name. What llama.cpp takes from the size of a model rather than from its
//! file (Gemma's factor on scores) must agree with the folder. Never here: tensors and tokens.

use std::path::Path;

use crate::gguf::Value;

use super::json::Json;
use super::{FolderError, refused, sentence};

/// What a folder calls itself, and what it is.
const ARCHITECTURES: &[(&str, Family)] = &[
    ("LlamaForCausalLM", Family::Llama),
    ("MistralForCausalLM", Family::Llama),
    ("Qwen2ForCausalLM", Family::Qwen2),
    ("Qwen3ForCausalLM", Family::Qwen3),
    ("Gemma2ForCausalLM", Family::Gemma2),
    ("Gemma3ForCausalLM", Family::Gemma3),
    ("Phi3ForCausalLM", Family::Phi3),
    ("Ernie4_5ForCausalLM", Family::Ernie),
    ("Ernie4_5_ForCausalLM", Family::Ernie),
    ("BertModel", Family::Bert),
    ("BertForMaskedLM", Family::Bert),
];

/// A way of naming and shaping tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    Phi3,
    Ernie,
    Bert,
}

impl Family {
    /// The decoder that a file calls itself.
    pub(super) fn of_arch(arch: &str) -> Option<Family> {
        const DECODERS: [Family; 7] =
            [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma2, Family::Gemma3, Family::Phi3, Family::Ernie];
        DECODERS.into_iter().find(|family| family.arch() == arch)
    }

    fn arch(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3",
            Family::Phi3 => "phi3",
            Family::Ernie => "ernie4_5",
            Family::Bert => "bert",
        }
    }

    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }
}

/// The sizes of one model and its metadata.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) family: Family,
    /// `general.architecture`.
    pub(super) arch: &'static str,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Whether the head is the embedding matrix.
    pub(super) tied: bool,
    /// Divisors of rotary frequencies, where the file has them as a tensor.
    pub(super) rope_factors: Option<Vec<f32>>,
    /// `config.json`.
    pub(super) config: Json,
    keys: Vec<(String, Value)>,
}

impl Model {
    pub(super) fn read(folder: &Path) -> Result<Model, FolderError> {
        let config = Json::open(folder, "config.json")?;
        let family = family(&config)?;
        refuse_always(&config)?;
        let heads = config.count("num_attention_heads")? as usize;
        let width = config.count("hidden_size")? as usize;
        if heads == 0 || width == 0 {
            return refused("config.json: num_attention_heads", "no heads or no width");
        }
        let kv_heads = config.count_or_none("num_key_value_heads")?.map_or(heads, |n| n as usize);
        let head_dim = config.count_or_none("head_dim")?.map_or(width / heads, |n| n as usize);
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return refused("config.json: head_dim", format!("{head_dim} values per head cannot be rotated in pairs"));
        }
        let mut model = Model {
            family,
            arch: family.arch(),
            layers: config.count("num_hidden_layers")? as usize,
            heads,
            kv_heads,
            head_dim,
            tied: tied(family, &config),
            rope_factors: None,
            config,
            keys: Vec::new(),
        };
        if family == Family::Bert {
            model.encoder(folder)?;
        } else {
            model.decoder()?;
        }
        Ok(model)
    }

    /// The metadata of the architecture.
    pub(super) fn metadata(&self) -> Vec<(String, Value)> {
        self.keys.clone()
    }

    /// Whether it is in the registry of what can be trained.
    pub(super) fn is_decoder(&self) -> bool {
        self.family != Family::Bert
    }

    fn key(&mut self, suffix: &str, value: Value) {
        self.keys.push((format!("{}.{suffix}", self.arch), value));
    }

    fn count(&mut self, suffix: &str, field: &str) -> Result<(), FolderError> {
        let value = self.config.count(field)?;
        self.key(suffix, Value::U32(value));
        Ok(())
    }

    /// What every family has.
    fn sizes(&mut self) -> Result<(), FolderError> {
        self.key("block_count", Value::U32(self.layers as u32));
        self.count("embedding_length", "hidden_size")?;
        self.count("feed_forward_length", "intermediate_size")?;
        self.key("attention.head_count", Value::U32(self.heads as u32));
        Ok(())
    }

    fn decoder(&mut self) -> Result<(), FolderError> {
        self.sizes()?;
        self.context()?;
        self.key("attention.head_count_kv", Value::U32(self.kv_heads as u32));
        self.key("attention.key_length", Value::U32(self.head_dim as u32));
        self.key("attention.value_length", Value::U32(self.head_dim as u32));
        self.count("vocab_size", "vocab_size")?;
        let eps = self.config.number("rms_norm_eps")?.unwrap_or(1e-6);
        self.key("attention.layer_norm_rms_epsilon", Value::F32(eps as f32));
        let silu = ["silu", "swish"];
        let gelu = ["gelu_pytorch_tanh"];
        self.activation(if self.family.is_gemma() { &gelu } else { &silu })?;
        self.windows()?;
        self.rotary()?;
        self.scores()
    }

    fn activation(&self, known: &[&str]) -> Result<(), FolderError> {
        for field in ["hidden_act", "hidden_activation"] {
            if let Some(found) = self.config.text(field)
                // Gemma's first folders name the wrong one there; `hidden_activation` counts.
                && !(field == "hidden_act" && self.family.is_gemma())
                && !known.contains(&found)
            {
                return refused(format!("config.json: {field}"), format!("{found:?} is not {}", known.join(" or ")));
            }
        }
        Ok(())
    }

    /// The longest context, within which attention sees all.
    fn context(&mut self) -> Result<(), FolderError> {
        let mut context = self.config.count("max_position_embeddings")?;
        // llama.cpp has no window for this family: within it both compute the same.
        if self.family == Family::Llama
            && let Some(window) = self.config.count_or_none("sliding_window")?
        {
            context = context.min(window.max(1));
        }
        self.key("context_length", Value::U32(context));
        Ok(())
    }

    /// Layers that see only the last keys.
    fn windows(&mut self) -> Result<(), FolderError> {
        let kinds = self.layer_kinds()?;
        let local = |layer: usize, every: usize| !(layer + 1).is_multiple_of(every);
        let every = match self.family {
            Family::Gemma2 => 2,
            Family::Gemma3 => 6,
            Family::Phi3 => {
                let window = self.config.count_or_none("sliding_window")?.unwrap_or(0);
                self.key("attention.sliding_window", Value::U32(window));
                return Ok(());
            }
            Family::Qwen2 | Family::Qwen3 if self.config.flag("use_sliding_window") == Some(true) => {
                return refused("config.json: use_sliding_window", "windows of this family are not in a GGUF file");
            }
            Family::Llama => return Ok(()),
            _ => {
                return match kinds.and_then(|kinds| kinds.into_iter().find(|local| *local)) {
                    Some(_) => refused("config.json: layer_types", "only full attention can be converted here"),
                    None => Ok(()),
                };
            }
        };
        let pattern = self.config.count_or_none("sliding_window_pattern")?;
        let fits = match (&kinds, pattern) {
            (Some(kinds), _) => kinds.iter().enumerate().all(|(layer, is)| *is == local(layer, every)),
            (None, Some(pattern)) => pattern as usize == every,
            (None, None) => true,
        };
        if !fits {
            let problem =
                format!("every {every}th layer of this family sees everything, and no other pattern is known");
            return refused("config.json: layer_types", problem);
        }
        self.count("attention.sliding_window", "sliding_window")
    }

    /// Which layers are local, as the folder lists them.
    fn layer_kinds(&self) -> Result<Option<Vec<bool>>, FolderError> {
        let Some(list) = self.config.get("layer_types").and_then(|list| list.as_array()) else { return Ok(None) };
        let mut kinds = Vec::new();
        for kind in list {
            match kind.as_str() {
                Some("full_attention") => kinds.push(false),
                Some("sliding_attention") => kinds.push(true),
                _ => return refused("config.json: layer_types", format!("{kind} is no kind of layer that is known")),
            }
        }
        Ok(Some(kinds))
    }

    fn rotary(&mut self) -> Result<(), FolderError> {
        let given = ["rope_parameters", "rope_scaling"].into_iter().find_map(|key| self.config.inside(key));
        let all = given.as_ref().and_then(|given| given.inside("full_attention")).or(given.clone());
        let local = given.as_ref().and_then(|given| given.inside("sliding_attention"));
        let base = match all.as_ref().map(|all| all.number("rope_theta")).transpose()?.flatten() {
            Some(base) => base,
            None => self.config.number("rope_theta")?.unwrap_or(match self.family {
                Family::Gemma3 => 1_000_000.0,
                Family::Ernie => 500_000.0,
                _ => 10_000.0,
            }),
        };
        self.key("rope.freq_base", Value::F32(base as f32));
        let share = match all.as_ref().map(|all| all.number("partial_rotary_factor")).transpose()?.flatten() {
            Some(share) => share,
            None => self.config.number("partial_rotary_factor")?.unwrap_or(1.0),
        };
        if share != 1.0 && self.family != Family::Phi3 {
            return refused(
                "config.json: partial_rotary_factor",
                format!("{share} of a head is rotated, all is known"),
            );
        }
        self.key("rope.dimension_count", Value::U32((share * self.head_dim as f64) as u32));
        if self.family == Family::Gemma3 {
            self.local_rotary(local)?;
        }
        match all {
            Some(all) => self.scaling(&all, base),
            None => Ok(()),
        }
    }

    /// Gemma 3: rotary frequencies of their own in local layers.
    fn local_rotary(&mut self, local: Option<Json>) -> Result<(), FolderError> {
        let own = match &local {
            Some(local) => local.number("rope_theta")?,
            None => self.config.number("rope_local_base_freq")?,
        };
        if let Some(kind) = local.as_ref().and_then(|local| local.text("rope_type")).filter(|kind| *kind != "default") {
            return refused("config.json: rope_parameters", format!("local layers scale their positions by {kind:?}"));
        }
        self.key("rope.freq_base_swa", Value::F32(own.unwrap_or(10_000.0) as f32));
        Ok(())
    }

    fn scaling(&mut self, all: &Json, base: f64) -> Result<(), FolderError> {
        let kind = all.text("rope_type").or_else(|| all.text("type")).unwrap_or("default").to_owned();
        match kind.as_str() {
            "default" => Ok(()),
            "linear" => {
                let Some(factor) = all.number("factor")?.filter(|factor| *factor > 0.0) else {
                    return refused(format!("{}: factor", all.place), "is missing");
                };
                self.key("rope.scaling.type", Value::Str("linear".into()));
                self.key("rope.scaling.factor", Value::F32(factor as f32));
                Ok(())
            }
            "llama3" if self.family == Family::Llama => {
                self.rope_factors = Some(llama3_factors(all, base, self.head_dim)?);
                Ok(())
            }
            other => {
                let problem = format!("scaling positions by {other:?} has no place in a GGUF file that hone can train");
                refused(all.place.clone(), problem)
            }
        }
    }

    /// Factors and caps on scores and logits.
    fn scores(&mut self) -> Result<(), FolderError> {
        let caps = [
            ("attn_logit_softcapping", "attn_logit_softcapping", self.family == Family::Gemma2),
            ("final_logit_softcapping", "final_logit_softcapping", self.family.is_gemma()),
        ];
        for (field, suffix, known) in caps {
            match self.config.number(field)? {
                Some(cap) if known => self.key(suffix, Value::F32(cap as f32)),
                Some(cap) => {
                    return refused(format!("config.json: {field}"), format!("{cap} is not known in this family"));
                }
                None => {}
            }
        }
        if !self.family.is_gemma() {
            return Ok(());
        }
        let width = self.config.count("hidden_size")? as usize;
        let by_width = self.layers == if self.family == Family::Gemma2 { 46 } else { 62 };
        let fixed = if by_width { width / self.heads } else { self.head_dim };
        match self.config.number("query_pre_attn_scalar")? {
            Some(scalar) if scalar != fixed as f64 => {
                let problem = format!("{scalar}, but the engine divides scores by the root of {fixed} at this size");
                refused("config.json: query_pre_attn_scalar", problem)
            }
            _ => Ok(()),
        }
    }

    fn encoder(&mut self, folder: &Path) -> Result<(), FolderError> {
        self.sizes()?;
        self.count("context_length", "max_position_embeddings")?;
        let eps = self.config.number("layer_norm_eps")?.unwrap_or(1e-12);
        self.key("attention.layer_norm_epsilon", Value::F32(eps as f32));
        self.key("attention.causal", Value::Bool(false));
        self.activation(&["gelu"])?;
        match self.config.text("position_embedding_type") {
            None | Some("absolute") => {}
            Some(other) => {
                return refused("config.json: position_embedding_type", format!("{other:?} is not absolute"));
            }
        }
        self.key("pooling_type", Value::U32(sentence::pooling(folder)?));
        let kinds = self.config.count_or_none("type_vocab_size")?.unwrap_or(1);
        self.keys.push(("tokenizer.ggml.token_type_count".to_owned(), Value::U32(kinds)));
        Ok(())
    }
}

fn family(config: &Json) -> Result<Family, FolderError> {
    let list = config.get("architectures").and_then(|list| list.as_array());
    let found = list.and_then(|list| list.first()?.as_str()).unwrap_or_default();
    match ARCHITECTURES.iter().find(|(name, _)| *name == found) {
        Some((_, family)) => Ok(*family),
        None => Err(FolderError::Architecture {
            found: found.to_owned(),
            known: ARCHITECTURES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// What no family has.
fn refuse_always(config: &Json) -> Result<(), FolderError> {
    if let Some(quantised) = config.inside("quantization_config") {
        let method = quantised.text("quant_method").unwrap_or("?").to_owned();
        let problem = format!("the weights are quantised by {method}; take the folder they were made from");
        return refused("config.json: quantization_config", problem);
    }
    for field in ["vision_config", "audio_config", "text_config"] {
        if config.has(field) {
            return refused(format!("config.json: {field}"), "models of images or sound cannot be converted");
        }
    }
    for field in ["num_local_experts", "num_experts", "moe_num_experts"] {
        if config.count_or_none(field)?.is_some_and(|count| count > 0) {
            return refused(format!("config.json: {field}"), "mixtures of experts cannot be converted");
        }
    }
    Ok(())
}

/// Whether the head is the embedding matrix; where the folder is silent, transformers' default of the family.
fn tied(family: Family, config: &Json) -> bool {
    let silent = family.is_gemma() || matches!(family, Family::Ernie | Family::Bert);
    config.flag("tie_word_embeddings").unwrap_or(silent)
}

/// Llama 3's divisors of rotary frequencies: none for short waves, the factor for long ones, a ramp between.
pub(super) fn llama3_factors(all: &Json, base: f64, head_dim: usize) -> Result<Vec<f32>, FolderError> {
    let factor = all.number("factor")?.unwrap_or(8.0);
    let low = all.number("low_freq_factor")?.unwrap_or(1.0);
    let high = all.number("high_freq_factor")?.unwrap_or(4.0);
    let old = all.number("original_max_position_embeddings")?.unwrap_or(8192.0);
    if factor <= 0.0 || low <= 0.0 || high <= low {
        return refused(all.place.clone(), "its factors are not positive and rising");
    }
    let one = |pair: usize| {
        let wave = 2.0 * std::f64::consts::PI * base.powf(2.0 * pair as f64 / head_dim as f64);
        if wave < old / high {
            1.0
        } else if wave > old / low {
            factor
        } else {
            let smooth = (old / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok((0..head_dim / 2).map(|pair| one(pair) as f32).collect())
}
