//! Conversions against what they must equal: llama.cpp's own logits of base and adapter, its own quantiser, and PEFT's
//! names and order of rows. Tiny seeded models, and the real starter.

mod initial;
mod merging;
mod peft;
mod quantizing;

use std::path::{Path, PathBuf};

use crate::arch::{self, Config};
use crate::gguf::{GgufFile, GgufWriter, Value};
use crate::train::SplitMix;

/// An adapter of every matrix of `model`'s layers with random values, of ranks that differ from layer to layer if `uneven`.
fn adapter(folder: &Path, model: &Path, rank: usize, alpha: f32, size: f32, uneven: bool) -> PathBuf {
    let file = GgufFile::open(model).unwrap();
    let (arch, config) = arch::recognise(&file).unwrap();
    let mut random = SplitMix::new(rank as u64 + 99);
    let mut writer = GgufWriter::new();
    writer
        .meta("general.type", Value::Str("adapter".into()))
        .meta("general.architecture", Value::Str(arch.name.into()))
        .meta("adapter.type", Value::Str("lora".into()))
        .meta("adapter.lora.alpha", Value::F32(alpha));
    for layer in 0..config.layers {
        let rank = if uneven && layer == 0 { rank * 2 } else { rank };
        for matrix in config.matrices() {
            let (input, output) = config.matrix_dims(matrix);
            let mut fill = |count: usize| (0..count).map(|_| random.symmetric() * size).collect::<Vec<f32>>();
            let (a, b) = (fill(input * rank), fill(output * rank));
            let name = matrix.weight_name(layer);
            writer.tensor_f32(&format!("{name}.lora_a"), &[input as u64, rank as u64], &a);
            writer.tensor_f32(&format!("{name}.lora_b"), &[rank as u64, output as u64], &b);
        }
    }
    let path = folder.join(format!("adapter-{rank}-{alpha}.gguf"));
    writer.write(&path).unwrap();
    path
}

fn config(model: &Path) -> Config {
    arch::recognise(&GgufFile::open(model).unwrap()).unwrap().1
}

/// Values of a tensor.
fn values(path: &Path, name: &str) -> Vec<f32> {
    let file = GgufFile::open(path).unwrap();
    let data = std::fs::File::open(path).unwrap();
    super::merge::values(&file, &data, file.tensor(name).unwrap()).unwrap()
}

fn hidden(_: u64, _: u64) {}
