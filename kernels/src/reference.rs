//! A decoder written for reading, not for speed: one row at a time, F64, plain loops, no ggml. It is the oracle of the
//! tests (compiled for them only): the graph's loss and its hand-written gradient are compared with this one's loss
//! and finite differences. A faster path without this twin is not merged.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::arch::{self, Activation, Config, Matrix, Projection, RopePairs};
use crate::ggml;
use crate::gguf::GgufFile;

/// Values of one adapter: A [input, rank] and B^T [output, rank], fastest first, and the factor on B A.
#[derive(Clone)]
pub(crate) struct AdapterValues {
    pub(crate) a: Vec<f64>,
    pub(crate) b: Vec<f64>,
    pub(crate) rank: usize,
    pub(crate) scale: f64,
}

/// Adapters by layer and matrix.
pub(crate) type Adapters = HashMap<(usize, Matrix), AdapterValues>;

/// A model with all weights as F64.
pub(crate) struct Reference {
    config: Config,
    tensors: HashMap<String, Vec<f64>>,
}

impl Reference {
    pub(crate) fn load(file: &GgufFile) -> Reference {
        let (_, config) = arch::recognise(file).unwrap();
        let source = File::open(&file.path).unwrap();
        let mut tensors = HashMap::new();
        for info in &file.tensors {
            let mut stored = vec![0; info.size_bytes as usize];
            source.read_exact_at(&mut stored, info.offset_bytes).unwrap();
            let mut values = vec![0.0f32; info.elements() as usize];
            ggml::decode(info.type_id, &stored, &mut values);
            tensors.insert(info.name.clone(), values.into_iter().map(f64::from).collect());
        }
        Reference { config, tensors }
    }

    /// A tensor's values, to be changed.
    pub(crate) fn tensor_mut(&mut self, name: &str) -> &mut Vec<f64> {
        self.tensors.get_mut(name).expect("the model has this tensor")
    }

    fn tensor(&self, name: &str) -> &[f64] {
        &self.tensors[name]
    }

    /// W x + scale B A x + bias, of which the part of `projection`.
    fn project(&self, adapters: &Adapters, layer: usize, projection: Projection, x: &[f64]) -> Vec<f64> {
        let matrix = self.config.matrices().find(|matrix| matrix.parts().contains(&projection)).unwrap();
        let mut y = multiply(self.tensor(&matrix.weight_name(layer)), x);
        if let Some(adapter) = adapters.get(&(layer, matrix)) {
            let inner = multiply(&adapter.a, x);
            let outputs = y.len();
            for (output, value) in y.iter_mut().enumerate() {
                let change: f64 = (0..adapter.rank).map(|r| adapter.b[r * outputs + output] * inner[r]).sum();
                *value += adapter.scale * change;
            }
        }
        if self.config.biases.contains(&matrix) {
            add(&mut y, self.tensor(&matrix.bias_name(layer)));
        }
        let before = matrix.parts().iter().take_while(|&&part| part != projection);
        let first: usize = before.map(|&part| self.config.projection_dims(part).1).sum();
        y[first..][..self.config.projection_dims(projection).1].to_vec()
    }

    fn norm(&self, x: &[f64], weight: &str) -> Vec<f64> {
        let mean_square = x.iter().map(|value| value * value).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean_square + f64::from(self.config.norm_eps)).sqrt();
        x.iter().zip(self.tensor(weight)).map(|(value, weight)| value * factor * weight).collect()
    }

    /// What a block adds, normed first where the model does.
    fn added(&self, layer: usize, stem: &str, y: Vec<f64>) -> Vec<f64> {
        if self.config.post_norms { self.norm(&y, &format!("blk.{layer}.{stem}.weight")) } else { y }
    }

    /// Norms each head of `x` where the model does, and rotates it for `position`.
    fn rotate(&self, layer: usize, stem: &str, x: &mut [f64], position: usize) {
        let config = &self.config;
        let dims = config.rope_dims;
        let local = config.local(layer);
        let (base, scale) =
            local.map_or((config.rope_base, config.rope_scale), |local| (local.rope_base, local.rope_scale));
        for head in x.chunks_exact_mut(config.head_dim) {
            if config.head_norms {
                let normed = self.norm(head, &format!("blk.{layer}.{stem}.weight"));
                head.copy_from_slice(&normed);
            }
            for pair in 0..dims / 2 {
                let frequency = f64::from(base).powf(-2.0 * pair as f64 / dims as f64);
                let angle = position as f64 * f64::from(scale) * frequency;
                let (first, second) = match config.rope {
                    RopePairs::Neighbours => (2 * pair, 2 * pair + 1),
                    RopePairs::Halves => (pair, pair + dims / 2),
                };
                let (a, b) = (head[first], head[second]);
                head[first] = a * angle.cos() - b * angle.sin();
                head[second] = a * angle.sin() + b * angle.cos();
            }
        }
    }

    /// Causal attention of all positions at once: [position][heads * head_dim].
    fn attend(&self, layer: usize, queries: &[Vec<f64>], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let config = &self.config;
        let (head_dim, group) = (config.head_dim, config.heads / config.kv_heads);
        let mut out = Vec::new();
        for (position, query) in queries.iter().enumerate() {
            let first = config.local(layer).map_or(0, |local| (position + 1).saturating_sub(local.keys));
            let mut mixed = vec![0.0; query.len()];
            for head in 0..config.heads {
                let (own, shared) = (head * head_dim, head / group * head_dim);
                let scores: Vec<f64> = (first..=position)
                    .map(|key| (0..head_dim).map(|at| query[own + at] * keys[key][shared + at]).sum::<f64>())
                    .map(|score| capped(score * f64::from(config.score_scale), config.score_cap))
                    .collect();
                for (key, probability) in (first..).zip(softmax(&scores)) {
                    for at in 0..head_dim {
                        mixed[own + at] += probability * values[key][shared + at];
                    }
                }
            }
            out.push(mixed);
        }
        out
    }

    fn active(&self, gate: f64) -> f64 {
        let argument = match self.config.activation {
            Activation::Silu => gate,
            Activation::Gelu => 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044_715 * gate.powi(3)),
        };
        gate / (1.0 + (-argument).exp())
    }

    fn layer(&self, adapters: &Adapters, layer: usize, x: &mut [Vec<f64>]) {
        let normed: Vec<Vec<f64>> = x.iter().map(|x| self.norm(x, &format!("blk.{layer}.attn_norm.weight"))).collect();
        let project = |projection: Projection, norm: Option<&str>| -> Vec<Vec<f64>> {
            let rows = normed.iter().enumerate().map(|(position, x)| {
                let mut y = self.project(adapters, layer, projection, x);
                if let Some(norm) = norm {
                    self.rotate(layer, norm, &mut y, position);
                }
                y
            });
            rows.collect()
        };
        let (q, k) = (project(Projection::Q, Some("attn_q_norm")), project(Projection::K, Some("attn_k_norm")));
        let mixed = self.attend(layer, &q, &k, &project(Projection::V, None));
        for (x, mixed) in x.iter_mut().zip(&mixed) {
            add(x, &self.added(layer, "post_attention_norm", self.project(adapters, layer, Projection::O, mixed)));
            let normed = self.norm(x, &format!("blk.{layer}.ffn_norm.weight"));
            let gate = self.project(adapters, layer, Projection::Gate, &normed);
            let up = self.project(adapters, layer, Projection::Up, &normed);
            let hidden: Vec<f64> = gate.iter().zip(&up).map(|(&gate, up)| self.active(gate) * up).collect();
            add(x, &self.added(layer, "post_ffw_norm", self.project(adapters, layer, Projection::Down, &hidden)));
        }
    }

    /// Logits of every position.
    pub(crate) fn logits(&self, adapters: &Adapters, tokens: &[i32]) -> Vec<Vec<f64>> {
        let (embedding, width) = (self.tensor("token_embd.weight"), self.config.width);
        let mut x: Vec<Vec<f64>> =
            tokens.iter().map(|&token| embedding[token as usize * width..][..width].to_vec()).collect();
        x.iter_mut().flatten().for_each(|value| *value *= f64::from(self.config.embedding_scale));
        for layer in 0..self.config.layers {
            self.layer(adapters, layer, &mut x);
        }
        let head = self.tensor(self.config.head_name());
        let logits = x.iter().map(|x| multiply(head, &self.norm(x, "output_norm.weight")));
        logits.map(|row| row.into_iter().map(|logit| capped(logit, self.config.logit_cap)).collect()).collect()
    }

    /// Sum of the targets' negative log-likelihoods and their number.
    pub(crate) fn loss(&self, adapters: &Adapters, tokens: &[i32], trained: &[bool]) -> (f64, usize) {
        let logits = self.logits(adapters, tokens);
        let targets = (1..tokens.len()).filter(|&at| trained[at]);
        let losses: Vec<f64> = targets.map(|at| -softmax(&logits[at - 1])[tokens[at] as usize].ln()).collect();
        (losses.iter().sum(), losses.len())
    }
}

/// `weight` [input, outputs], fastest first, times `x`.
fn multiply(weight: &[f64], x: &[f64]) -> Vec<f64> {
    weight.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// cap * tanh(x / cap), or `x` without a cap.
fn capped(x: f64, cap: f32) -> f64 {
    let cap = f64::from(cap);
    if cap == 0.0 { x } else { cap * (x / cap).tanh() }
}

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
