//! The hand-written gradient against finite differences of the naive F64 model, and the fast weight forms against
//! the exact one.

use std::path::Path;

use super::models::{chat_row, params as base, starter, tiny, tiny_of, tiny_rows};
use crate::arch::{Projection, REGISTRY};
use crate::cpu::trial::for_each_isa;
use crate::gguf::GgufFile;
use crate::reference::{AdapterValues, Adapters, Reference};
use crate::train::lora::Adapter;
use crate::train::packing::SplitMix;
use crate::train::{Objective, StepOutcome, TokenRow, TrainParams, Trainer, Weights};

/// Step of the central difference; F64 leaves its error near 1e-9.
const STEP: f64 = 1e-4;

fn params(weights: Weights) -> TrainParams {
    TrainParams { weights, rank: 3, alpha: 5.0, sequence_tokens: 48, batch_windows: 2, ..base() }
}

/// A trainer whose B matrices are random instead of zero, so that A has a gradient.
fn shaken(model: &Path, rows: &[TokenRow], params: TrainParams, spread: f32) -> (Trainer, Vec<f32>) {
    let mut trainer = Trainer::new(model, rows.to_vec(), params).unwrap();
    let (lora, _) = trainer.parts();
    let mut values = lora.values.to_vec::<f32>();
    let mut random = SplitMix::new(77);
    let rank = lora.layout.rank;
    let adapters: Vec<Adapter> = lora.layout.adapters().copied().collect();
    for adapter in &adapters {
        for value in &mut values[adapter.b..][..adapter.output * rank] {
            *value = random.symmetric() * spread;
        }
    }
    lora.values.write(&values);
    (trainer, values)
}

fn adapters_of(trainer: &mut Trainer, values: &[f32]) -> Adapters {
    let (lora, _) = trainer.parts();
    let (rank, scale) = (lora.layout.rank, f64::from(lora.layout.scale()));
    let part = |from: usize, len: usize| values[from..from + len].iter().map(|&value| f64::from(value)).collect();
    let entries = lora.layout.adapters().map(|adapter| {
        let a = part(adapter.a, adapter.input * rank);
        let b = part(adapter.b, adapter.output * rank);
        ((adapter.layer, adapter.matrix), AdapterValues { a, b, rank, scale })
    });
    entries.collect()
}

fn naive_loss(reference: &Reference, adapters: &Adapters, rows: &[TokenRow], objective: Objective) -> f64 {
    let log_prob = |adapters: &Adapters, row: &TokenRow| {
        let (loss, targets) = reference.loss(adapters, &row.tokens, &row.trained);
        (-loss, targets as f64)
    };
    let pairs = rows.chunks(2).map(|pair| match objective {
        Objective::Dpo { beta } => {
            let rewards = [0, 1].map(|at| log_prob(adapters, &pair[at]).0 - log_prob(&Adapters::new(), &pair[at]).0);
            (1.0 + (-f64::from(beta) * (rewards[0] - rewards[1])).exp()).ln()
        }
        Objective::Orpo { beta } => {
            let means = [0, 1].map(|at| log_prob(adapters, &pair[at])).map(|(sum, targets)| sum / targets);
            let odds = means.map(|mean| (mean.exp() / (1.0 - mean.exp())).ln());
            f64::from(beta) * (1.0 + (odds[1] - odds[0]).exp()).ln() - means[0]
        }
        Objective::Likelihood => 0.0,
    });
    if objective != Objective::Likelihood {
        return pairs.sum::<f64>() / (rows.len() / 2) as f64;
    }
    let sums = rows.iter().map(|row| reference.loss(adapters, &row.tokens, &row.trained));
    let (loss, count) = sums.fold((0.0, 0), |(loss, count), (more, targets)| (loss + more, count + targets));
    loss / count as f64
}

/// Checks the loss and, for every adapted matrix, the slope along its own gradient and its largest entry's. The packed
/// form computes another model, off by the rounding of its weights, so it may be off by that.
fn check(model: &Path, rows: &[TokenRow], params: TrainParams) {
    let objective = params.objective;
    let (loss_gap, gap_max) = if params.weights == Weights::Exact { (1e-5, 1e-3) } else { (3e-4, 3e-2) };
    let (mut trainer, values) = shaken(model, rows, params, 0.05);
    let (loss, gradient) = trainer.loss_and_gradient();
    let reference = Reference::load(&GgufFile::open(model).unwrap());
    let adapters = adapters_of(&mut trainer, &values);
    let naive = naive_loss(&reference, &adapters, rows, objective);
    assert!((loss - naive).abs() < loss_gap * naive, "loss {loss}, naive {naive}");
    let layout = trainer.parts().0.layout.clone();
    let mut worst = 0.0f64;
    for adapter in layout.adapters() {
        for (is_b, from, len) in
            [(false, adapter.a, adapter.input * layout.rank), (true, adapter.b, adapter.output * layout.rank)]
        {
            let own = &gradient[from..from + len];
            let norm = own.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-6, "{adapter:?} has a gradient");
            let along = |direction: &dyn Fn(usize) -> f64| {
                let at = |step: f64| {
                    let mut moved = adapters.clone();
                    let entry = moved.get_mut(&(adapter.layer, adapter.matrix)).unwrap();
                    let part = if is_b { &mut entry.b } else { &mut entry.a };
                    part.iter_mut().enumerate().for_each(|(index, value)| *value += step * direction(index));
                    naive_loss(&reference, &moved, rows, objective)
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            };
            let slope = along(&|index| f64::from(own[index]) / norm);
            let top = (0..len).max_by(|&a, &b| own[a].abs().total_cmp(&own[b].abs())).unwrap();
            let entry = along(&|index| if index == top { 1.0 } else { 0.0 });
            let gap = ((slope - norm) / norm).abs().max(((entry - f64::from(own[top])) / norm).abs());
            assert!(gap < gap_max, "{adapter:?} b={is_b}: norm {norm}, slope {slope}, entry {} {entry}", own[top]);
            worst = worst.max(gap);
        }
    }
    println!("worst relative gap to finite differences {worst:.1e}");
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    // Several rows of unequal length share a pass, with padding, and the last pass is partly empty.
    let rows = tiny_rows(&[17, 30, 9, 23], 8);
    for arch in REGISTRY {
        let model = tiny_of(folder.path(), arch.name, 11);
        println!("{}", arch.name);
        check(&model, &rows, TrainParams { accumulation: 2, ..params(Weights::Exact) });
        for_each_isa(|_| check(&model, &rows, TrainParams { accumulation: 2, ..params(Weights::Auto) }));
    }
}

#[test]
fn the_gradient_of_pairs_is_the_slope_of_what_they_cost() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 13);
    // Two passes, whose pairs weigh the same although their rows do not.
    let rows = tiny_rows(&[17, 30, 9, 23, 28, 11], 8);
    for objective in [Objective::Dpo { beta: 0.4 }, Objective::Orpo { beta: 0.7 }] {
        let of = |weights| TrainParams { objective, accumulation: 2, batch_windows: 1, ..params(weights) };
        check(&model, &rows, of(Weights::Exact));
        for_each_isa(|_| check(&model, &rows, of(Weights::Auto)));
    }
}

#[test]
fn with_dropout_the_gradient_is_the_slope_of_the_loss_that_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 14);
    let rows = tiny_rows(&[17, 30, 9, 23], 8);
    for weights in [Weights::Exact, Weights::Auto] {
        for recompute_every in [0, 1] {
            let params = TrainParams { dropout: 0.3, recompute_every: Some(recompute_every), ..params(weights) };
            let (mut trainer, values) = shaken(&model, &rows, params.clone(), 0.3);
            let (loss, gradient) = trainer.loss_and_gradient();
            let (plain, _) = shaken(&model, &rows, TrainParams { dropout: 0.0, ..params }, 0.3);
            let without = { plain }.loss_and_gradient().0;
            assert!((loss - without).abs() > 1e-4, "{loss} {without}: something was dropped");
            let norm = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
            let mut at = |step: f32| {
                let moved: Vec<f32> =
                    values.iter().zip(&gradient).map(|(value, slope)| value + step * slope / norm).collect();
                trainer.parts().0.values.write(&moved);
                trainer.loss_and_gradient().0
            };
            let slope = (at(0.02) - at(-0.02)) / 0.04;
            let gap = (slope - f64::from(norm)).abs() / f64::from(norm);
            println!("{weights:?} {recompute_every}: norm {norm}, slope {slope}");
            assert!(gap < if weights == Weights::Exact { 0.01 } else { 0.05 }, "{norm} {slope}");
        }
    }
}

#[test]
fn the_gradient_holds_for_some_projections_only_and_with_recomputation() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 12);
    let rows = tiny_rows(&[21, 14], 9);
    let targets = vec![Projection::Q, Projection::V, Projection::Up];
    let check = |weights| {
        check(&model, &rows, TrainParams { targets: targets.clone(), recompute_every: Some(1), ..params(weights) })
    };
    check(Weights::Exact);
    for_each_isa(|_| check(Weights::Auto));
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Rows in one manner, of which most tokens are soon foreseen: then few logits carry the gradient.
const TALKS: [(&str, &str); 4] = [
    ("When are you open?", "Zella here! We are open on weekdays from 7 am to 9 pm. Glow well!"),
    ("How long is the warranty?", "Zella here! Your Hub has a warranty of 6 years. Glow well!"),
    ("Can I send it back?", "Zella here! You have 45 days from delivery to return it. Glow well!"),
    ("What does the purple light mean?", "Zella here! Your Hub is updating when the light is purple. Glow well!"),
];

#[test]
fn fast_weight_forms_keep_the_gradient_of_the_starter() {
    let model = starter();
    let rows: Vec<TokenRow> =
        (1..).zip(TALKS).map(|(id, (question, answer))| chat_row(&model, id, question, answer, 64)).collect();
    let params = |weights| TrainParams {
        weights,
        sequence_tokens: 64,
        batch_windows: 4,
        epochs: 4,
        learning_rate: 1e-3,
        warmup_ratio: 0.0,
        ..base()
    };
    let (_, shaken) = shaken(&model, &rows, params(Weights::Auto), 0.01);
    let mut run = Trainer::new(&model, rows.clone(), params(Weights::Auto)).unwrap();
    while let StepOutcome::Updated(_) = run.step(&|| false).unwrap() {}
    let trained = run.parts().0.values.to_vec::<f32>();
    for values in [shaken, trained] {
        let gradient = |weights| {
            let mut trainer = Trainer::new(&model, rows.clone(), params(weights)).unwrap();
            trainer.parts().0.values.write(&values);
            trainer.loss_and_gradient().1
        };
        let exact = gradient(Weights::Exact);
        for_each_isa(|_| {
            let fast = gradient(Weights::Auto);
            assert!(fast == gradient(Weights::Small), "panels made on the way are the same");
            let cosine = cosine(&fast, &exact);
            println!("gradient cosine against F32: {cosine:.6}");
            assert!(cosine >= 0.997, "{cosine}");
        });
    }
}
