//! Which tensor of a folder becomes which of the file, and how its values are turned. One table per family; what the
//! folder has beyond it is refused by name, because leaving a weight out would be wrong in silence. Never here: reading.

use std::collections::BTreeSet;

use crate::gguf::{PlannedTensor, TYPE_F32};

use super::config::{Family, Model};
use super::weights::{BF16, Dtype, F16, Q8_0, Source, Weights};
use super::{FolderError, Stored, refused};

/// What is done with the values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// Nothing.
    Keep,
    /// One is added: Gemma's norms are stored without it.
    PlusOne,
    /// Rows of each head of so many rows are reordered: halves become neighbours.
    Neighbours(usize),
    /// There is no source: these values.
    Values(Vec<f32>),
}

/// A tensor of the file.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) planned: PlannedTensor,
    pub(super) change: Change,
    /// Where its values are; none for values that are made here.
    pub(super) source: Option<Source>,
}

impl Planned {
    pub(super) fn source_bytes(&self) -> u64 {
        self.source.as_ref().map_or(0, |source| source.size_bytes)
    }
}

/// How a name of the table is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Must be there.
    Plain,
    /// May be there.
    Bias,
    /// A norm, must be there.
    Norm,
    /// Queries or keys, must be there.
    Query,
    /// As above, may be there.
    QueryBias,
}

type Row = (&'static str, &'static str, Kind);

/// Attention and the feed-forward block of llama and what is named like it.
const BLOCKS: &[Row] = &[
    ("self_attn.q_proj.weight", "attn_q.weight", Kind::Query),
    ("self_attn.q_proj.bias", "attn_q.bias", Kind::QueryBias),
    ("self_attn.k_proj.weight", "attn_k.weight", Kind::Query),
    ("self_attn.k_proj.bias", "attn_k.bias", Kind::QueryBias),
    ("self_attn.v_proj.weight", "attn_v.weight", Kind::Plain),
    ("self_attn.v_proj.bias", "attn_v.bias", Kind::Bias),
    ("self_attn.o_proj.weight", "attn_output.weight", Kind::Plain),
    ("self_attn.o_proj.bias", "attn_output.bias", Kind::Bias),
    ("mlp.gate_proj.weight", "ffn_gate.weight", Kind::Plain),
    ("mlp.gate_proj.bias", "ffn_gate.bias", Kind::Bias),
    ("mlp.up_proj.weight", "ffn_up.weight", Kind::Plain),
    ("mlp.up_proj.bias", "ffn_up.bias", Kind::Bias),
    ("mlp.down_proj.weight", "ffn_down.weight", Kind::Plain),
    ("mlp.down_proj.bias", "ffn_down.bias", Kind::Bias),
];

const FUSED_BLOCKS: &[Row] = &[
    ("self_attn.qkv_proj.weight", "attn_qkv.weight", Kind::Plain),
    ("self_attn.o_proj.weight", "attn_output.weight", Kind::Plain),
    ("mlp.gate_up_proj.weight", "ffn_up.weight", Kind::Plain),
    ("mlp.down_proj.weight", "ffn_down.weight", Kind::Plain),
];

const NORMS: &[Row] = &[
    ("input_layernorm.weight", "attn_norm.weight", Kind::Norm),
    ("post_attention_layernorm.weight", "ffn_norm.weight", Kind::Norm),
];

const GEMMA_NORMS: &[Row] = &[
    ("input_layernorm.weight", "attn_norm.weight", Kind::Norm),
    ("post_attention_layernorm.weight", "post_attention_norm.weight", Kind::Norm),
    ("pre_feedforward_layernorm.weight", "ffn_norm.weight", Kind::Norm),
    ("post_feedforward_layernorm.weight", "post_ffw_norm.weight", Kind::Norm),
];

const HEAD_NORMS: &[Row] = &[
    ("self_attn.q_norm.weight", "attn_q_norm.weight", Kind::Norm),
    ("self_attn.k_norm.weight", "attn_k_norm.weight", Kind::Norm),
];

const BERT_LAYER: &[Row] = &[
    ("attention.self.query.weight", "attn_q.weight", Kind::Plain),
    ("attention.self.query.bias", "attn_q.bias", Kind::Plain),
    ("attention.self.key.weight", "attn_k.weight", Kind::Plain),
    ("attention.self.key.bias", "attn_k.bias", Kind::Plain),
    ("attention.self.value.weight", "attn_v.weight", Kind::Plain),
    ("attention.self.value.bias", "attn_v.bias", Kind::Plain),
    ("attention.output.dense.weight", "attn_output.weight", Kind::Plain),
    ("attention.output.dense.bias", "attn_output.bias", Kind::Plain),
    ("attention.output.LayerNorm.weight", "attn_output_norm.weight", Kind::Norm),
    ("attention.output.LayerNorm.bias", "attn_output_norm.bias", Kind::Norm),
    ("intermediate.dense.weight", "ffn_up.weight", Kind::Plain),
    ("intermediate.dense.bias", "ffn_up.bias", Kind::Plain),
    ("output.dense.weight", "ffn_down.weight", Kind::Plain),
    ("output.dense.bias", "ffn_down.bias", Kind::Plain),
    ("output.LayerNorm.weight", "layer_output_norm.weight", Kind::Norm),
    ("output.LayerNorm.bias", "layer_output_norm.bias", Kind::Norm),
];

const BERT_INPUT: &[Row] = &[
    ("embeddings.word_embeddings.weight", "token_embd.weight", Kind::Plain),
    ("embeddings.token_type_embeddings.weight", "token_types.weight", Kind::Plain),
    ("embeddings.position_embeddings.weight", "position_embd.weight", Kind::Plain),
    ("embeddings.LayerNorm.weight", "token_embd_norm.weight", Kind::Norm),
    ("embeddings.LayerNorm.bias", "token_embd_norm.bias", Kind::Norm),
];

/// Names whose values change nothing that is computed.
fn means_nothing(model: &Model, name: &str) -> bool {
    match model.family {
        Family::Bert => {
            let plain = name.strip_prefix("bert.").unwrap_or(name);
            plain == "embeddings.position_ids" || plain.starts_with("pooler.") || plain.starts_with("cls.")
        }
        // Frequencies that follow from the configuration, and a head that is the embedding.
        _ => name.ends_with(".rotary_emb.inv_freq") || (model.tied && name == "lm_head.weight"),
    }
}

fn tables(family: Family) -> Vec<&'static [Row]> {
    match family {
        Family::Llama | Family::Qwen2 | Family::Ernie => vec![NORMS, BLOCKS],
        Family::Qwen3 => vec![NORMS, HEAD_NORMS, BLOCKS],
        Family::Gemma2 => vec![GEMMA_NORMS, BLOCKS],
        Family::Gemma3 => vec![GEMMA_NORMS, HEAD_NORMS, BLOCKS],
        Family::Phi3 => vec![NORMS, FUSED_BLOCKS],
        Family::Bert => vec![BERT_LAYER],
    }
}

/// What is done with the values on the way back to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Keep,
    /// One is subtracted, the way back of [`Change::PlusOne`].
    MinusOne,
    /// Rows of each head of so many rows are reordered: neighbours become halves.
    Halves(usize),
}

/// The name that a tensor of a file of this decoder has in a folder, and how its values are turned.
pub(crate) fn folder_name(family: Family, name: &str, head_dim: usize) -> Option<(String, Turn)> {
    let norm = if family.is_gemma() { Turn::MinusOne } else { Turn::Keep };
    match name {
        "token_embd.weight" => return Some(("model.embed_tokens.weight".to_owned(), Turn::Keep)),
        "output_norm.weight" => return Some(("model.norm.weight".to_owned(), norm)),
        "output.weight" => return Some(("lm_head.weight".to_owned(), Turn::Keep)),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (stem, _, kind) = tables(family).into_iter().flatten().find(|(_, in_file, _)| *in_file == rest)?;
    let turn = match kind {
        Kind::Query | Kind::QueryBias if family == Family::Llama => Turn::Halves(head_dim),
        Kind::Norm => norm,
        _ => Turn::Keep,
    };
    Some((format!("model.layers.{layer}.{stem}"), turn))
}

/// Every tensor of the file, in order, or the name of what has no place in it.
pub(super) fn plan(model: &Model, weights: &Weights, stored: Stored) -> Result<Vec<Planned>, FolderError> {
    let mut planner = Planner { model, weights, stored, used: BTreeSet::new(), plan: Vec::new() };
    planner.ends()?;
    for layer in 0..model.layers {
        let (from, to) = match model.family {
            Family::Bert => (format!("encoder.layer.{layer}."), format!("blk.{layer}.")),
            _ => (format!("model.layers.{layer}."), format!("blk.{layer}.")),
        };
        for row in tables(model.family).into_iter().flatten() {
            planner.take(&from, &to, *row)?;
        }
    }
    let unused = weights.names().find(|name| !planner.used.contains(*name) && !means_nothing(model, name));
    match unused {
        Some(name) => refused(format!("tensor {name:?}"), format!("is not part of {} as hone knows it", model.arch)),
        None => Ok(planner.plan),
    }
}

struct Planner<'a> {
    model: &'a Model,
    weights: &'a Weights,
    stored: Stored,
    used: BTreeSet<String>,
    plan: Vec<Planned>,
}

impl Planner<'_> {
    /// What is not in a layer.
    fn ends(&mut self) -> Result<(), FolderError> {
        if self.model.family == Family::Bert {
            return BERT_INPUT.iter().try_for_each(|row| self.take("", "", *row));
        }
        self.take("model.", "", ("embed_tokens.weight", "token_embd.weight", Kind::Plain))?;
        self.take("model.", "", ("norm.weight", "output_norm.weight", Kind::Norm))?;
        if !self.model.tied {
            self.take("", "", ("lm_head.weight", "output.weight", Kind::Plain))?;
        }
        if let Some(factors) = &self.model.rope_factors {
            let planned = PlannedTensor {
                name: "rope_freqs.weight".to_owned(),
                dims: vec![factors.len() as u64],
                type_id: TYPE_F32,
            };
            self.plan.push(Planned { planned, change: Change::Values(factors.clone()), source: None });
        }
        Ok(())
    }

    fn take(&mut self, from: &str, to: &str, (stem, name, kind): Row) -> Result<(), FolderError> {
        let mut wanted = format!("{from}{stem}");
        if self.model.family == Family::Bert && self.weights.find(&wanted).is_none() {
            wanted = format!("bert.{wanted}");
        }
        let Some(source) = self.weights.find(&wanted) else {
            return match kind {
                Kind::Bias | Kind::QueryBias => Ok(()),
                _ => refused(format!("tensor {wanted:?}"), "is missing from the safetensors files"),
            };
        };
        let dims: Vec<u64> = source.shape.iter().rev().copied().collect();
        if dims.is_empty() || dims.len() > 2 || dims.contains(&0) {
            return refused(
                format!("tensor {wanted:?}"),
                format!("has shape {:?}, one or two sizes are known", source.shape),
            );
        }
        let (model, name) = (self.model, format!("{to}{name}"));
        let change = match kind {
            Kind::Query | Kind::QueryBias if model.family == Family::Llama => {
                let rows = dims[dims.len() - 1] as usize;
                if !rows.is_multiple_of(model.head_dim) {
                    let problem = format!("has {rows} rows, which are no whole heads of {}", model.head_dim);
                    return refused(format!("tensor {wanted:?}"), problem);
                }
                Change::Neighbours(model.head_dim)
            }
            Kind::Norm if model.family.is_gemma() => Change::PlusOne,
            _ => Change::Keep,
        };
        let type_id = self.type_of(&name, &dims, source.dtype);
        let planned = PlannedTensor { name, dims, type_id };
        self.plan.push(Planned { planned, change, source: Some(source.clone()) });
        self.used.insert(wanted);
        Ok(())
    }

    /// The storage type of a tensor of the file.
    fn type_of(&self, name: &str, dims: &[u64], dtype: Dtype) -> u32 {
        // Small tables that the engine looks values up in.
        let small = ["token_types.weight", "position_embd.weight"].contains(&name);
        if dims.len() < 2 || small {
            return TYPE_F32;
        }
        match self.stored {
            Stored::AsStored => dtype.type_id(),
            Stored::F32 => TYPE_F32,
            Stored::F16 => F16,
            Stored::Bf16 => BF16,
            Stored::Q8_0 if dims[0].is_multiple_of(32) => Q8_0,
            Stored::Q8_0 => F16,
        }
    }
}
