//! A checkpoint, also one without its moments, becomes the very file that the run wrote at its step; one of another model does not.

use std::path::Path;

use super::models::{tiny, tiny_rows};
use crate::train::{StepOutcome, TrainParams, Trainer, Tuning, save_checkpoint};

fn meta(tuning: Tuning) -> Vec<(String, String)> {
    let name = (tuning == Tuning::Full).then(|| ("general.name".to_owned(), "kept".to_owned()));
    name.into_iter().chain([("hone.base.sha256".to_owned(), "ab12".to_owned())]).collect()
}

/// The file that the run writes after two steps, and where its checkpoint of the same step lies.
fn run(model: &Path, folder: &Path, tuning: Tuning) -> (Vec<u8>, String) {
    let params = TrainParams { tuning, sequence_tokens: 32, batch_windows: 2, ..TrainParams::default() };
    let mut trainer = Trainer::new(model, tiny_rows(&[20, 31, 9, 12, 27, 18], 4), params).unwrap();
    for _ in 0..2 {
        assert!(matches!(trainer.step(&|| false).unwrap(), StepOutcome::Updated(_)));
    }
    trainer.checkpoint(&folder.join("2")).unwrap();
    let path = folder.join("result.gguf");
    match tuning {
        Tuning::Lora => trainer.save_adapter(&path, "kept", &meta(tuning)).unwrap(),
        Tuning::Full => trainer.save_model(&path, &meta(tuning)).unwrap(),
    }
    (std::fs::read(path).unwrap(), trainer.model_sha256().to_owned())
}

#[test]
fn a_checkpoint_becomes_the_file_that_the_run_would_have_written() {
    for tuning in [Tuning::Lora, Tuning::Full] {
        let folder = tempfile::tempdir().unwrap();
        let model = tiny(folder.path(), 5);
        let (written, sha256) = run(&model, folder.path(), tuning);
        let kept = folder.path().join("2");
        // What only going on needs is not wanted.
        for name in ["first_moment.f32", "second_moment.f32"] {
            std::fs::remove_file(kept.join(name)).unwrap();
        }
        let target = folder.path().join("kept.gguf");
        let save = |sha256: &str| save_checkpoint(&kept, &model, sha256, &target, "kept", meta);
        assert_eq!(save(&sha256).unwrap(), 2);
        assert_eq!(std::fs::read(&target).unwrap(), written, "{tuning:?}");
        std::fs::remove_file(&target).unwrap();
        let refused = save(&"0".repeat(64)).unwrap_err().to_string();
        assert!(refused.contains("the model (SHA-256)"), "{refused}");
        let values = kept.join(hone_protocol::paths::CHECKPOINT_FILES[1]);
        let mut bytes = std::fs::read(&values).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&values, bytes).unwrap();
        let refused = save(&sha256).unwrap_err().to_string();
        assert!(refused.contains("its SHA-256 is not the manifest's"), "{refused}");
        assert!(!target.exists());
    }
}
