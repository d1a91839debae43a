//! Training of whole models: the gradient of every tensor of every architecture against finite differences of the naive F64 model,
//! and the written model in llama.cpp.

use std::path::Path;

use super::llama_cpp::{difference, logits};
use super::models::{params as base, starter, tiny, tiny_of, tiny_rows};
use crate::arch::REGISTRY;
use crate::cpu::trial::for_each_isa;
use crate::gguf::GgufFile;
use crate::reference::{Adapters, Reference};
use crate::train::{StepOutcome, TokenRow, TrainParams, Trainer, Tuning, Weights, preflight};

/// Step of the central difference.
const STEP: f64 = 1e-4;

fn params(weights: Weights) -> TrainParams {
    TrainParams { tuning: Tuning::Full, weights, sequence_tokens: 48, batch_windows: 2, accumulation: 2, ..base() }
}

fn naive_loss(reference: &Reference, rows: &[TokenRow]) -> f64 {
    let sums = rows.iter().map(|row| reference.loss(&Adapters::new(), &row.tokens, &row.trained));
    let (loss, count) = sums.fold((0.0, 0), |(loss, count), (more, targets)| (loss + more, count + targets));
    loss / count as f64
}

/// The slope of the loss along each tensor's own gradient is that gradient's norm.
fn check(model: &Path, rows: &[TokenRow], params: TrainParams) {
    let gap_max = if params.weights == Weights::Exact { 1e-3 } else { 3e-2 };
    let mut trainer = Trainer::new(model, rows.to_vec(), params).unwrap();
    let (loss, gradient) = trainer.loss_and_gradient();
    let mut reference = Reference::load(&GgufFile::open(model).unwrap());
    let naive = naive_loss(&reference, rows);
    assert!((loss - naive).abs() < 3e-4 * naive, "loss {loss}, naive {naive}");
    let layout = trainer.parts().0.layout.clone();
    let mut worst = 0.0f64;
    for whole in &layout.whole {
        let own: Vec<f64> = gradient[whole.first..][..whole.values].iter().map(|&value| f64::from(value)).collect();
        let norm = own.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!(norm > 1e-6, "{} has a gradient", whole.name);
        let mut at = |step: f64| {
            let values = reference.tensor_mut(&whole.name);
            values.iter_mut().zip(&own).for_each(|(value, slope)| *value += step * slope / norm);
            naive_loss(&reference, rows)
        };
        let slope = (at(STEP) - at(-2.0 * STEP)) / (2.0 * STEP);
        at(STEP);
        let gap = ((slope - norm) / norm).abs();
        assert!(gap < gap_max, "{}: norm {norm}, slope {slope}", whole.name);
        worst = worst.max(gap);
    }
    println!("{} tensors, worst relative gap to finite differences {worst:.1e}", layout.whole.len());
}

#[test]
fn every_tensor_has_the_gradient_that_is_the_slope_of_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    let rows = tiny_rows(&[17, 30, 9, 23], 8);
    for arch in REGISTRY {
        let model = tiny_of(folder.path(), arch.name, 11);
        println!("{}", arch.name);
        check(&model, &rows, params(Weights::Exact));
        for_each_isa(|_| check(&model, &rows, params(Weights::Auto)));
    }
    let model = tiny(folder.path(), 12);
    check(&model, &rows, TrainParams { recompute_every: Some(1), ..params(Weights::Exact) });
}

#[test]
fn a_whole_model_learns_and_is_the_same_in_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 42);
    let rows = tiny_rows(&[30; 4], 4);
    let params = TrainParams {
        sequence_tokens: 32,
        batch_windows: 4,
        accumulation: 1,
        epochs: 40,
        learning_rate: 3e-3,
        ..params(Weights::Auto)
    };
    let mut trainer = Trainer::new(&model, rows.clone(), params.clone()).unwrap();
    let before = trainer.evaluate(&rows, &|| false).unwrap().unwrap().loss();
    let half = trainer.steps_total() / 2;
    let saved = folder.path().join("half");
    while let StepOutcome::Updated(step) = trainer.step(&|| false).unwrap() {
        if step.step == half {
            trainer.checkpoint(&saved).unwrap();
        }
    }
    let after = trainer.evaluate(&rows, &|| false).unwrap().unwrap().loss();
    assert!(after < 0.5 * before, "{before} {after}");

    let mut resumed = Trainer::resume(&model, rows.clone(), params, &saved).unwrap();
    while let StepOutcome::Updated(_) = resumed.step(&|| false).unwrap() {}
    let bits = |trainer: &mut Trainer| -> Vec<u32> {
        trainer.parts().0.values.to_vec::<f32>().into_iter().map(f32::to_bits).collect()
    };
    assert!(bits(&mut trainer) == bits(&mut resumed), "an interrupted run ends in the same bits");

    let path = folder.path().join("tuned.gguf");
    trainer.save_model(&path, &[("general.name".to_owned(), "tuned".to_owned())]).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.require_tensor("blk.0.attn_q.weight").unwrap().type_name, "F16");
    let tokens = &rows[0].tokens;
    let own = trainer.logits(tokens).unwrap();
    let theirs = logits(&path, None, tokens);
    let (largest, rms) = difference(&own, &theirs);
    println!("loss {before} to {after}; logits differ by at most {largest:.2e}, rms {rms:.2e}");
    // The file has F16, the run multiplies twelve bits.
    assert!(largest < 0.05 && rms < 0.01, "{largest} {rms}");
}

#[test]
fn the_plan_of_a_whole_model_is_true() {
    let model = starter();
    let rows = tiny_rows(&[120; 4], 3);
    let params = TrainParams {
        sequence_tokens: 128,
        batch_windows: 4,
        accumulation: 1,
        max_steps: Some(1),
        ..params(Weights::Auto)
    };
    let plan = preflight(&model, &rows, &params).unwrap();
    let taken = Trainer::new(&model, rows, params).unwrap().plan();
    let ratio = taken.memory.total() as f64 / plan.memory.total() as f64;
    println!("{:?}, {:?}, taken over predicted {ratio:.3}", plan.memory, taken.memory);
    assert!((0.95..1.05).contains(&ratio), "{:?} {:?}", plan.memory, taken.memory);
    assert_eq!(taken.parameters, 134_515_008, "every value of the starter");
}
