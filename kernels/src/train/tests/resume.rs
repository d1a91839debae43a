//! A run that was interrupted and one that was not end in the same bits, and a checkpoint of another run is refused.

use std::fs;
use std::path::Path;

use super::models::{tiny, tiny_rows};
use crate::train::{Objective, StepOutcome, TrainParams, Trainer};

fn params() -> TrainParams {
    TrainParams {
        sequence_tokens: 32,
        batch_windows: 2,
        epochs: 3,
        accumulation: 2,
        learning_rate: 1e-2,
        ..TrainParams::default()
    }
}

fn steps(trainer: &mut Trainer, count: usize) -> Vec<u64> {
    let losses = (0..count).map(|_| match trainer.step(&|| false).unwrap() {
        StepOutcome::Updated(metrics) => metrics.loss.to_bits(),
        other => panic!("{other:?}"),
    });
    losses.collect()
}

fn values(trainer: &mut Trainer) -> Vec<u32> {
    trainer.parts().0.values.to_vec::<f32>().into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_resumed_run_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 21);
    let rows = tiny_rows(&[20, 31, 9, 12, 27, 18, 30, 22, 11, 16, 25, 14], 4);
    for (name, params) in [
        ("plain", params()),
        ("dropout", TrainParams { dropout: 0.2, rank_stabilised: true, ..params() }),
        ("dpo", TrainParams { objective: Objective::Dpo { beta: 0.2 }, batch_windows: 1, accumulation: 1, ..params() }),
    ] {
        resumes(&model, &rows, params, &folder.path().join(name));
    }
}

fn resumes(model: &Path, rows: &[crate::train::TokenRow], params: TrainParams, saved: &Path) {
    let rows = rows.to_vec();
    let mut whole = Trainer::new(model, rows.clone(), params.clone()).unwrap();
    let total = whole.steps_total() as usize;
    assert!(total >= 6, "the test spans epochs: {total} steps");
    let expected = steps(&mut whole, total);
    assert_eq!(whole.step(&|| false).unwrap(), StepOutcome::Finished);

    let mut first = Trainer::new(model, rows.clone(), params.clone()).unwrap();
    let mut losses = steps(&mut first, 3);
    // A stopped step changes nothing, and neither does an evaluation.
    assert_eq!(first.step(&|| true).unwrap(), StepOutcome::Stopped);
    first.evaluate(&rows, &|| false).unwrap().unwrap();
    first.checkpoint(saved).unwrap();
    drop(first);
    let mut second = Trainer::resume(model, rows, params, saved).unwrap();
    assert_eq!((second.steps_done(), second.resume_note()), (3, None));
    losses.extend(steps(&mut second, total - 3));
    assert_eq!(losses, expected);
    assert_eq!(values(&mut second), values(&mut whole));
}

/// Resumes and returns the refusal's text.
fn refused(model: &Path, rows: &[crate::train::TokenRow], params: TrainParams, dir: &Path) -> String {
    match Trainer::resume(model, rows.to_vec(), params, dir) {
        Ok(_) => panic!("resumed"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_checkpoint_of_another_run_or_damaged_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 22);
    let rows = tiny_rows(&[20, 31, 9], 4);
    let mut trainer = Trainer::new(&model, rows.clone(), params()).unwrap();
    steps(&mut trainer, 1);
    let saved = folder.path().join("saved");
    trainer.checkpoint(&saved).unwrap();
    assert!(trainer.checkpoint(&saved).unwrap_err().to_string().contains("exists already"));

    let text = refused(&model, &rows, TrainParams { learning_rate: 5e-3, ..params() }, &saved);
    assert!(text.contains("learning_rate"), "{text}");
    let text = refused(&model, &rows[..2], params(), &saved);
    assert!(text.contains("the rows"), "{text}");
    let text = refused(&tiny(folder.path(), 23), &rows, params(), &saved);
    assert!(text.contains("the model"), "{text}");
    let threads = TrainParams { threads: 1, ..params() };
    let resumed = Trainer::resume(&model, rows.clone(), threads, &saved).unwrap();
    assert!(resumed.resume_note().unwrap().contains("threads were 2, are 1"));

    let moment = saved.join("first_moment.f32");
    let mut bytes = fs::read(&moment).unwrap();
    bytes[10] ^= 1;
    fs::write(&moment, &bytes).unwrap();
    let text = refused(&model, &rows, params(), &saved);
    assert!(text.contains("first_moment.f32") && text.contains("SHA-256"), "{text}");
    fs::write(&moment, &bytes[..40]).unwrap();
    assert!(refused(&model, &rows, params(), &saved).contains("40 bytes"));
    fs::write(saved.join("manifest.json"), b"{").unwrap();
    assert!(refused(&model, &rows, params(), &saved).contains("manifest.json"));
}

#[test]
fn what_a_crash_left_is_cleared_and_a_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 24);
    let rows = tiny_rows(&[20], 4);
    let trainer = Trainer::new(&model, rows.clone(), params()).unwrap();
    let saved = folder.path().join("saved");
    let leftover = folder.path().join("saved.tmp");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("adapter.f32"), b"half").unwrap();
    trainer.checkpoint(&saved).unwrap();
    assert!(!leftover.exists());
    Trainer::resume(&model, rows, params(), &saved).unwrap();
    let nowhere = folder.path().join("no-such-folder/saved");
    assert!(trainer.checkpoint(&nowhere).is_err());
    assert!(!nowhere.exists());
}
