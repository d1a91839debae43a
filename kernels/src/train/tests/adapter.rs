//! An adapter that was trained and saved gives the same logits in llama.cpp as in the graph that trained it.

use super::llama_cpp::{difference, logits};
use super::models::{params as base, tiny, tiny_rows};
use crate::arch::Projection;
use crate::gguf::GgufFile;
use crate::train::{StepOutcome, TrainParams, Trainer, Weights};

#[test]
fn a_saved_adapter_gives_the_same_logits_in_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 31);
    let rows = tiny_rows(&[30, 28, 25, 31], 6);
    let params = TrainParams {
        rank: 4,
        sequence_tokens: 32,
        batch_windows: 4,
        epochs: 12,
        learning_rate: 3e-2,
        weights: Weights::Exact,
        ..base()
    };
    let mut trainer = Trainer::new(&model, rows.clone(), params).unwrap();
    let before = trainer.logits(&rows[0].tokens).unwrap();
    while let StepOutcome::Updated(_) = trainer.step(&|| false).unwrap() {}
    let ours = trainer.logits(&rows[0].tokens).unwrap();
    let path = folder.path().join("adapter.gguf");
    let meta = [("hone.base.sha256".to_owned(), trainer.model_sha256().to_owned())];
    trainer.save_adapter(&path, "pirate", &meta).unwrap();

    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.str("adapter.type").unwrap(), "lora");
    assert_eq!(file.str("hone.base.sha256").unwrap(), trainer.model_sha256());
    assert_eq!(file.tensors.len(), 2 * 2 * Projection::ALL.len());
    let theirs = logits(&model, Some(&path), &rows[0].tokens);
    let (largest, rms) = difference(&ours, &theirs);
    let (moved, _) = difference(&before, &theirs);
    println!("adapter, ours - llama.cpp: max {largest:.2e}, rms {rms:.2e}; training moved logits by {moved:.2}");
    assert!(moved > 0.5, "training moved the logits: {moved}");
    assert!(largest < 1e-3 && rms < 1e-4, "{largest} {rms}");
}
