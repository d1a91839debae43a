//! Forward logits against llama.cpp and against the naive F64 model.

use std::path::Path;

use super::llama_cpp::{difference, logits};
use super::models::{dequantised, params as base, starter, tiny_of, tiny_rows};
use crate::arch::REGISTRY;
use crate::cpu::trial::for_each_isa;
use crate::gguf::GgufFile;
use crate::reference::{Adapters, Reference};
use crate::train::{TokenRow, TrainParams, Trainer, Weights};

fn trainer(model: &std::path::Path, row: &TokenRow, weights: Weights) -> Trainer {
    let params = TrainParams { weights, sequence_tokens: 64, batch_windows: 1, ..base() };
    Trainer::new(model, vec![row.clone()], params).unwrap()
}

#[test]
fn logits_of_every_architecture_equal_llama_cpp_and_the_naive_model() {
    let folder = tempfile::tempdir().unwrap();
    for arch in REGISTRY {
        compare_tiny(&tiny_of(folder.path(), arch.name, 3));
    }
}

fn compare_tiny(model: &Path) {
    let row = &tiny_rows(&[41], 5)[0];
    let naive = Reference::load(&GgufFile::open(model).unwrap()).logits(&Adapters::new(), &row.tokens);
    let naive: Vec<Vec<f32>> = naive.iter().map(|row| row.iter().map(|&value| value as f32).collect()).collect();
    let theirs = logits(model, None, &row.tokens);
    // The packed form rounds weights to 12 bits and activations to 14.
    let compare = |weights, largest_max, rms_max| {
        let ours = trainer(model, row, weights).logits(&row.tokens).unwrap();
        // llama.cpp reads GELU from a table of F16 numbers.
        let table = if model.to_str().unwrap().contains("gemma") { 100.0 } else { 1.0 };
        for (other, name, more) in [(&naive, "the naive F64 model", 1.0), (&theirs, "llama.cpp", table)] {
            let (largest, rms) = difference(&ours, other);
            println!("{}, {weights:?} weights, against {name}: max {largest:.2e}, rms {rms:.2e}", model.display());
            assert!(largest < more * largest_max && rms < more * rms_max, "{largest} {rms}");
        }
    };
    compare(Weights::Exact, 2e-4, 2e-5);
    for_each_isa(|_| compare(Weights::Auto, 2e-2, 3e-3));
}

/// Any 48 tokens of the starter's vocabulary will do: the comparison is between two engines.
fn starter_row() -> TokenRow {
    let tokens: Vec<i32> = (0..48).map(|at| (at * at * 31 + at * 577 + 11) % 40_000).collect();
    TokenRow { row_id: 1, trained: vec![true; tokens.len()], tokens }
}

#[test]
fn starter_logits_equal_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let (model, row) = (starter(), starter_row());
    let exact = folder.path().join("starter-f32.gguf");
    dequantised(&model, &exact);
    let theirs = logits(&exact, None, &row.tokens);
    let ours = trainer(&model, &row, Weights::Exact).logits(&row.tokens).unwrap();
    let (largest, rms) = difference(&ours, &theirs);
    println!("starter, F32 weights in both: max {largest:.2e}, rms {rms:.2e}");
    assert!(largest < 5e-3 && rms < 5e-4, "{largest} {rms}");
    // llama.cpp rounds the activations of every product to 8 bits, we those of most.
    let on_file = logits(&model, None, &row.tokens);
    let (their_largest, their_rms) = difference(&on_file.concat(), &theirs);
    println!("starter, llama.cpp on the file against F32: max {their_largest:.2e}, rms {their_rms:.2e}");
    for_each_isa(|_| {
        let fast = trainer(&model, &row, Weights::Auto).logits(&row.tokens).unwrap();
        let (largest, rms) = difference(&fast, &theirs);
        println!("starter, our fast copies against F32: max {largest:.2e}, rms {rms:.2e}");
        assert!(largest < their_largest && rms < their_rms, "{largest} {rms}");
        let (largest, rms) = difference(&fast, &on_file);
        println!("starter, our fast copies against llama.cpp on the file: max {largest:.2e}, rms {rms:.2e}");
        assert!(largest < 4.0 && rms < 0.6, "{largest} {rms}");
    });
}
