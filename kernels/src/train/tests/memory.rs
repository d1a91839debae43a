//! What a run takes and how it fits: every arrangement gives the same bits, and what cannot fit is refused before
//! anything is loaded.

use super::models::{params as base, starter, tiny, tiny_rows};
use crate::train::{Objective, StepOutcome, TrainError, TrainParams, Trainer, Weights, preflight};

const MIB: u64 = 1 << 20;

#[test]
fn every_arrangement_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 5);
    let rows = tiny_rows(&[30, 22, 31, 12], 3);
    let run = |weights, recompute_every| {
        let params = TrainParams { weights, recompute_every, epochs: 3, ..base() };
        let mut trainer = Trainer::new(&model, rows.clone(), params).unwrap();
        while let StepOutcome::Updated(_) = trainer.step(&|| false).unwrap() {}
        trainer.parts().0.values.to_vec::<f32>()
    };
    let fast = run(Weights::Auto, Some(0));
    for (weights, recompute_every) in [(Weights::Auto, Some(1)), (Weights::Small, Some(0)), (Weights::Small, Some(1))] {
        assert!(run(weights, recompute_every) == fast, "{weights:?} {recompute_every:?}");
    }
}

#[test]
fn the_plan_keeps_below_the_limit_and_is_true() {
    let model = starter();
    let rows = tiny_rows(&[120; 4], 3);
    let mut plans = Vec::new();
    for limit in [None, Some(500 * MIB), Some(330 * MIB)] {
        let params = TrainParams {
            sequence_tokens: 128,
            batch_windows: 4,
            memory_max_bytes: limit,
            max_steps: Some(1),
            ..base()
        };
        let plan = preflight(&model, &rows, &params).unwrap();
        assert!(plan.memory.total() <= limit.unwrap_or(u64::MAX));
        let taken = Trainer::new(&model, rows.clone(), params).unwrap().plan();
        let ratio = taken.memory.total() as f64 / plan.memory.total() as f64;
        println!("limit {limit:?}: {:?}, taken over predicted {ratio:.3}", plan.memory);
        assert!((0.95..1.05).contains(&ratio), "{:?} {:?}", plan.memory, taken.memory);
        assert_eq!((plan.streamed, plan.recompute_every), (taken.streamed, taken.recompute_every));
        plans.push((plan.streamed, plan.recompute_every));
    }
    assert_eq!(plans[0], (false, 0), "without a limit the fastest");
    assert!(plans[1].1 > 0, "then what is computed again: {plans:?}");
    assert!(plans[2].0 && plans[2].1 > 0, "then also what is made on the way: {plans:?}");
}

#[test]
fn the_plan_of_pairs_counts_the_pass_that_judges_them() {
    let model = starter();
    let rows = tiny_rows(&[120; 8], 3);
    for objective in [Objective::Dpo { beta: 0.1 }, Objective::Orpo { beta: 0.1 }] {
        let params = TrainParams { objective, sequence_tokens: 128, batch_windows: 2, max_steps: Some(1), ..base() };
        let plan = preflight(&model, &rows, &params).unwrap();
        let taken = Trainer::new(&model, rows.clone(), params).unwrap().plan();
        let ratio = taken.memory.total() as f64 / plan.memory.total() as f64;
        println!("{objective:?}: {:?}, {:?}, taken over predicted {ratio:.3}", plan.memory, taken.memory);
        assert!((0.95..1.05).contains(&ratio), "{:?} {:?}", plan.memory, taken.memory);
    }
}

#[test]
fn what_cannot_fit_is_refused_with_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 5);
    let rows = tiny_rows(&[30], 3);
    for (limit, advice) in [(1_000, "choose a smaller"), (MIB, "lower batch_windows, then sequence_tokens")] {
        let params = TrainParams {
            memory_max_bytes: Some(limit),
            batch_windows: 64,
            targets: vec![crate::arch::Projection::Q],
            ..base()
        };
        for error in [
            preflight(&model, &rows, &params).unwrap_err(),
            Trainer::new(&model, rows.clone(), params.clone()).err().unwrap(),
        ] {
            assert!(matches!(error, TrainError::DoesNotFit { .. }) && error.to_string().contains(advice), "{error}");
        }
    }
}
