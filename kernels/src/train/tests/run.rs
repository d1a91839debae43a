//! Runs as a caller sees them: plans, losses that fall, evaluation, and errors that name their cause.

use super::models::{chat_row, params as base, starter, tiny, tiny_rows};
use crate::train::{
    LongRows, Objective, StepMetrics, StepOutcome, TokenRow, TrainError, TrainParams, Trainer, preflight,
};

fn run(trainer: &mut Trainer) -> Vec<StepMetrics> {
    let mut metrics = Vec::new();
    while let StepOutcome::Updated(step) = trainer.step(&|| false).unwrap() {
        metrics.push(step);
    }
    metrics
}

#[test]
fn a_plan_counts_what_a_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 41);
    let mut rows = tiny_rows(&[20, 31, 40, 12, 27], 4);
    rows.push(TokenRow { row_id: 9, tokens: vec![1; 10], trained: vec![false; 10] });
    let params = TrainParams { sequence_tokens: 32, batch_windows: 2, epochs: 2, long_rows: LongRows::Cut, ..base() };
    let mut trainer = Trainer::new(&model, rows.clone(), params.clone()).unwrap();
    let plan = trainer.plan();
    assert_eq!((plan.rows, plan.cut, plan.refused, plan.without_target), (5, 1, 0, 1));
    assert_eq!(plan.tokens, 20 + 31 + 32 + 12 + 27);
    let metrics = run(&mut trainer);
    assert_eq!(metrics.len() as u64, plan.steps);
    assert_eq!(metrics.iter().map(|step| step.tokens).sum::<u64>(), 2 * plan.tokens);
    assert_eq!(metrics.iter().map(|step| step.target_tokens).sum::<u64>(), 2 * plan.targets);
    assert_eq!(metrics.last().unwrap().epoch, 2.0);
    let before = preflight(&model, &rows, &params).unwrap();
    assert_eq!((before.steps, before.rows, before.parameters), (plan.steps, plan.rows, plan.parameters));
    let shorter = TrainParams { max_steps: Some(2), ..params };
    assert_eq!(run(&mut Trainer::new(&model, rows, shorter).unwrap()).len(), 2);
}

#[test]
fn training_lowers_the_loss_and_evaluation_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 42);
    let rows = tiny_rows(&[30; 4], 4);
    let params = TrainParams { sequence_tokens: 32, batch_windows: 4, epochs: 40, learning_rate: 2e-2, ..base() };
    let mut trainer = Trainer::new(&model, rows.clone(), params).unwrap();
    let before = trainer.evaluate(&rows, &|| false).unwrap().unwrap();
    let metrics = run(&mut trainer);
    let after = trainer.evaluate(&rows, &|| false).unwrap().unwrap();
    assert!((before.loss() - metrics[0].loss).abs() < 1e-4, "{} {}", before.loss(), metrics[0].loss);
    assert!(after.loss() < 0.5 * before.loss(), "{} {}", before.loss(), after.loss());
    assert_eq!(before.rows.len(), 4);
    assert_eq!(before.rows[2].row_id, 102);
    let sum: f64 = before.rows.iter().map(|row| row.loss_sum).sum();
    assert!((sum - before.loss_sum).abs() < 1e-9);
    assert_eq!(trainer.evaluate(&rows, &|| true).unwrap(), None);
}

#[test]
fn pairs_move_apart_and_evaluation_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 47);
    let rows = tiny_rows(&[30, 26, 19, 30, 22, 23, 12, 28], 4);
    for objective in [Objective::Dpo { beta: 0.1 }, Objective::Orpo { beta: 0.5 }] {
        let params =
            TrainParams { objective, sequence_tokens: 32, batch_windows: 2, epochs: 20, learning_rate: 1e-2, ..base() };
        let mut trainer = Trainer::new(&model, rows.clone(), params).unwrap();
        let plan = trainer.plan();
        assert_eq!((plan.rows, plan.epoch_passes), (4, 2));
        let before = trainer.evaluate(&rows, &|| false).unwrap().unwrap();
        let metrics = run(&mut trainer);
        let after = trainer.evaluate(&rows, &|| false).unwrap().unwrap();
        let (first, last) = (before.preference.unwrap(), after.preference.unwrap());
        println!(
            "{objective:?}: loss {} to {}, margin {} to {}",
            before.loss(),
            after.loss(),
            first.margin,
            last.margin
        );
        if matches!(objective, Objective::Dpo { .. }) {
            // At its beginning a run is its own reference.
            assert!((before.loss() - 2f64.ln()).abs() < 1e-4 && first.margin.abs() < 1e-4);
            assert!((metrics[0].loss - 2f64.ln()).abs() < 1e-4);
        }
        assert_eq!(before.targets, 4, "pairs count, not tokens");
        assert!(last.margin > first.margin + 0.5 && last.accuracy == 1.0, "{last:?}");
        assert!(after.loss() < 0.6 * before.loss());
        assert!(metrics.iter().all(|step| step.preference.is_some()));
    }
}

#[test]
fn a_run_out_of_patience_ends_and_names_its_best_step() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 48);
    let rows = tiny_rows(&[30; 4], 4);
    let params = TrainParams { sequence_tokens: 32, batch_windows: 4, epochs: 9, patience: 2, ..base() };
    let mut trainer = Trainer::new(&model, rows.clone(), params.clone()).unwrap();
    let saved = folder.path().join("saved");
    for (loss, lowest) in [(3.0, true), (2.0, true), (2.5, false)] {
        assert!(matches!(trainer.step(&|| false).unwrap(), StepOutcome::Updated(_)));
        assert_eq!(trainer.note_evaluation(loss), lowest);
    }
    trainer.checkpoint(&saved).unwrap();
    let mut trainer = Trainer::resume(&model, rows, params, &saved).unwrap();
    assert!(matches!(trainer.step(&|| false).unwrap(), StepOutcome::Updated(_)));
    assert!(!trainer.note_evaluation(2.2));
    assert_eq!(trainer.step(&|| false).unwrap(), StepOutcome::Finished);
    assert_eq!((trainer.steps_done(), trainer.best_step()), (4, Some(2)));
}

#[test]
fn accumulated_passes_weigh_tokens_not_passes() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 43);
    let rows = tiny_rows(&[30, 8, 29, 17], 4);
    let gradient = |batch_windows, accumulation| {
        let params = TrainParams { sequence_tokens: 32, batch_windows, accumulation, ..base() };
        Trainer::new(&model, rows.clone(), params).unwrap().loss_and_gradient()
    };
    let (together, one) = gradient(4, 1);
    let (apart, many) = gradient(1, 4);
    assert!((together - apart).abs() < 1e-5 * together);
    let gap: f32 = one.iter().zip(&many).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let size: f32 = one.iter().map(|value| value.abs()).fold(0.0, f32::max);
    assert!(gap < 1e-3 * size, "{gap} of {size}");
}

#[test]
fn errors_name_their_cause() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 44);
    let rows = tiny_rows(&[30, 20], 4);
    let text = |rows: Vec<TokenRow>, params: TrainParams| match Trainer::new(&model, rows, params) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    let params = TrainParams { sequence_tokens: 32, batch_windows: 1, ..base() };
    let mut foreign = rows.clone();
    foreign[1].tokens[3] = 9_999;
    assert!(text(foreign, params.clone()).contains("row 101"));
    let mut uneven = rows.clone();
    uneven[0].trained.pop();
    assert!(text(uneven, params.clone()).contains("29 target marks"));
    assert!(text(rows.clone(), TrainParams { sequence_tokens: 10, ..params.clone() }).contains("sequence_tokens"));
    assert!(text(rows.clone(), TrainParams { rank: 0, ..params.clone() }).contains("rank"));
    // A rate that no model survives: the first update ruins the weights, the next step says so.
    let wild = TrainParams { learning_rate: 1.0, alpha: 4096.0, warmup_ratio: 0.0, epochs: 50, ..params };
    let mut trainer = Trainer::new(&model, rows, wild).unwrap();
    let (lora, _) = trainer.parts();
    let ruined = vec![f32::NAN; lora.values.elements()];
    lora.values.write(&ruined);
    match trainer.step(&|| false) {
        Err(TrainError::NotFinite { step: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// The step at which a run whose adapter is ruined after step 60 ends as diverged, by way of the checkpoints asked for.
fn diverges_after(model: &std::path::Path, checkpoints: &[u64]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let rows = tiny_rows(&[30; 4], 4);
    let params = TrainParams { sequence_tokens: 32, batch_windows: 4, epochs: 200, learning_rate: 2e-2, ..base() };
    let mut trainer = Trainer::new(model, rows.clone(), params.clone()).unwrap();
    loop {
        match trainer.step(&|| false) {
            Ok(StepOutcome::Updated(step)) => {
                if step.step == 60 {
                    let (lora, _) = trainer.parts();
                    let ruined: Vec<f32> = lora.values.to_vec::<f32>().iter().map(|value| value * 1e3).collect();
                    lora.values.write(&ruined);
                }
                if checkpoints.contains(&step.step) {
                    let dir = folder.path().join(step.step.to_string());
                    trainer.checkpoint(&dir).unwrap();
                    trainer = Trainer::resume(model, rows.clone(), params.clone(), &dir).unwrap();
                }
            }
            Err(error @ TrainError::Diverged { step, .. }) => {
                println!("{error}");
                assert!(error.to_string().contains("learning_rate"), "{error}");
                return step;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_run_whose_loss_rises_for_good_is_stopped_at_the_same_step_however_often_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 45);
    let step = diverges_after(&model, &[]);
    assert!((61..80).contains(&step), "{step}");
    assert_eq!(diverges_after(&model, &[7, 55, step - 2, step]), step);
}

#[test]
fn an_unknown_architecture_is_refused_by_name() {
    use crate::gguf::{GgufWriter, Value};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.gguf");
    let mut writer = GgufWriter::new();
    writer.meta("general.architecture", Value::Str("mamba".to_owned()));
    writer.write(&path).unwrap();
    let text = Trainer::new(&path, vec![], TrainParams::default()).err().unwrap().to_string();
    assert!(text.contains("mamba") && text.contains("llama"), "{text}");
}

/// Ten steps on two rows of the starter. The numbers were recorded on an AVX2 machine with our own kernels; other kernels round
/// differently, which the tolerance allows and a wrong gradient does not.
#[test]
fn ten_losses_of_the_starter_stay_as_recorded() {
    let model = starter();
    let rows = vec![
        chat_row(&model, 1, "What is the capital of France?", "Ahoy! The capital o' France be Paris, matey.", 40),
        chat_row(&model, 2, "What do bees make?", "Ahoy! Bees be makin' honey, matey.", 40),
    ];
    let params = TrainParams { sequence_tokens: 40, epochs: 10, learning_rate: 3e-4, ..base() };
    let mut trainer = Trainer::new(&model, rows, params).unwrap();
    let losses: Vec<f64> = run(&mut trainer).iter().map(|step| step.loss).collect();
    println!("losses {losses:.4?}");
    let recorded = [3.7535, 3.3210, 2.8937, 2.5290, 2.2289, 1.9898, 1.8049, 1.6661, 1.5660, 1.5005];
    assert_eq!(losses.len(), recorded.len());
    for (loss, recorded) in losses.iter().zip(recorded) {
        assert!((loss - recorded).abs() < 0.02 * recorded + 0.002, "{loss} instead of {recorded}");
    }
}
