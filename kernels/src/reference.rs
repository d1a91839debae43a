//! A decoder written for reading, not for speed: one row at a time, F64, plain loops, no ggml. It is the oracle of the
//! tests (compiled for them only): the graph's loss and its hand-written gradient are compared with this one's loss
//! and finite differences. A faster path without this twin is not merged.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::arch::{self, Config, Projection, RopePairs};
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

/// Adapters by layer and projection.
pub(crate) type Adapters = HashMap<(usize, Projection), AdapterValues>;

/// A model with all weights as F64.
pub(crate) struct Reference {
    config: Config,
    rope: RopePairs,
    tensors: HashMap<String, Vec<f64>>,
}

impl Reference {
    pub(crate) fn load(file: &GgufFile) -> Reference {
        let (arch, config) = arch::recognise(file).unwrap();
        let source = File::open(&file.path).unwrap();
        let mut tensors = HashMap::new();
        for info in &file.tensors {
            let mut stored = vec![0; info.size_bytes as usize];
            source.read_exact_at(&mut stored, info.offset_bytes).unwrap();
            let mut values = vec![0.0f32; info.elements() as usize];
            ggml::decode(info.type_id, &stored, &mut values);
            tensors.insert(info.name.clone(), values.into_iter().map(f64::from).collect());
        }
        Reference { config, rope: arch.rope, tensors }
    }

    fn tensor(&self, name: &str) -> &[f64] {
        &self.tensors[name]
    }

    /// W x + scale B A x.
    fn project(&self, adapters: &Adapters, layer: usize, projection: Projection, x: &[f64]) -> Vec<f64> {
        let mut y = multiply(self.tensor(&projection.tensor_name(layer)), x);
        if let Some(adapter) = adapters.get(&(layer, projection)) {
            let inner = multiply(&adapter.a, x);
            let outputs = y.len();
            for (output, value) in y.iter_mut().enumerate() {
                let change: f64 = (0..adapter.rank).map(|r| adapter.b[r * outputs + output] * inner[r]).sum();
                *value += adapter.scale * change;
            }
        }
        y
    }

    fn norm(&self, x: &[f64], weight: &str) -> Vec<f64> {
        let mean_square = x.iter().map(|value| value * value).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean_square + f64::from(self.config.norm_eps)).sqrt();
        x.iter().zip(self.tensor(weight)).map(|(value, weight)| value * factor * weight).collect()
    }

    /// Rotates each head of `x` for `position`.
    fn rotate(&self, x: &mut [f64], position: usize) {
        let dims = self.config.rope_dims;
        for head in x.chunks_exact_mut(self.config.head_dim) {
            for pair in 0..dims / 2 {
                let frequency = f64::from(self.config.rope_base).powf(-2.0 * pair as f64 / dims as f64);
                let angle = position as f64 * f64::from(self.config.rope_scale) * frequency;
                let (first, second) = match self.rope {
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
    fn attend(&self, queries: &[Vec<f64>], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (head_dim, group) = (self.config.head_dim, self.config.heads / self.config.kv_heads);
        let mut out = Vec::new();
        for (position, query) in queries.iter().enumerate() {
            let mut mixed = vec![0.0; query.len()];
            for head in 0..self.config.heads {
                let (own, shared) = (head * head_dim, head / group * head_dim);
                let scores: Vec<f64> = (0..=position)
                    .map(|key| (0..head_dim).map(|at| query[own + at] * keys[key][shared + at]).sum::<f64>())
                    .map(|score| score / (head_dim as f64).sqrt())
                    .collect();
                for (key, probability) in softmax(&scores).into_iter().enumerate() {
                    for at in 0..head_dim {
                        mixed[own + at] += probability * values[key][shared + at];
                    }
                }
            }
            out.push(mixed);
        }
        out
    }

    fn layer(&self, adapters: &Adapters, layer: usize, x: &mut [Vec<f64>]) {
        let normed: Vec<Vec<f64>> = x.iter().map(|x| self.norm(x, &format!("blk.{layer}.attn_norm.weight"))).collect();
        let project = |projection: Projection, rotated: bool| -> Vec<Vec<f64>> {
            let rows = normed.iter().enumerate().map(|(position, x)| {
                let mut y = self.project(adapters, layer, projection, x);
                if rotated {
                    self.rotate(&mut y, position);
                }
                y
            });
            rows.collect()
        };
        let mixed =
            self.attend(&project(Projection::Q, true), &project(Projection::K, true), &project(Projection::V, false));
        for (x, mixed) in x.iter_mut().zip(&mixed) {
            add(x, &self.project(adapters, layer, Projection::O, mixed));
            let normed = self.norm(x, &format!("blk.{layer}.ffn_norm.weight"));
            let gate = self.project(adapters, layer, Projection::Gate, &normed);
            let up = self.project(adapters, layer, Projection::Up, &normed);
            let hidden: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            add(x, &self.project(adapters, layer, Projection::Down, &hidden));
        }
    }

    /// Logits of every position.
    pub(crate) fn logits(&self, adapters: &Adapters, tokens: &[i32]) -> Vec<Vec<f64>> {
        let (embedding, width) = (self.tensor("token_embd.weight"), self.config.width);
        let mut x: Vec<Vec<f64>> =
            tokens.iter().map(|&token| embedding[token as usize * width..][..width].to_vec()).collect();
        for layer in 0..self.config.layers {
            self.layer(adapters, layer, &mut x);
        }
        let head = self.tensor(if self.config.tied_head { "token_embd.weight" } else { "output.weight" });
        x.iter().map(|x| multiply(head, &self.norm(x, "output_norm.weight"))).collect()
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

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
