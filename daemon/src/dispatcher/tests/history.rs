//! What is told of a version, and what is left of a run long after its end.

use std::collections::BTreeSet;

use hone_protocol::paths::{CHECKPOINT_FILES, CHECKPOINTS};
use hone_protocol::train::RUNS_KEPT_MS;

use super::*;
use crate::config::Places;
use crate::history;
use crate::jobs::attempt::job_folder;
use crate::jobs::kept;

/// Entries as words: what, whether it made the version, and the other end.
fn told(desk: &Desk, versions: &[&str]) -> Vec<(String, bool, String)> {
    let wanted: BTreeSet<VersionId> = versions.iter().map(|v| desk.state().any_version(v).unwrap().id).collect();
    let rows = desk.store.as_ref().unwrap().prefix(Table::Audit, b"").unwrap();
    let rows: Vec<AuditRow> = codec::read_all(Table::Audit, &rows).unwrap();
    let entries = history::of(desk.state(), &rows, &wanted);
    assert!(entries.windows(2).all(|pair| pair[0].at_ms >= pair[1].at_ms), "newest first");
    let mut words: Vec<_> = entries.into_iter().map(|e| (e.what, e.made, e.other)).collect();
    words.sort();
    words
}

#[test]
fn a_versions_history_is_what_jobs_and_the_audit_log_say_of_it() {
    let mut desk = Desk::furnished();
    let run = desk.submit("", train());
    desk.end("", run, AttemptEnd::Produced(Box::new(adapter())));
    let quantize = Conversion::Quantize {
        version: "starter".into(),
        format: WeightsFormat::Q80,
        name: "small".into(),
        receipt_rows: None,
        imatrix_rows: None,
    };
    let job = desk.submit("", JobSpec::Convert(quantize));
    let failure = Failure::new(FailureCode::BadFile, "a tensor is damaged");
    desk.end("", job, AttemptEnd::Failed(failure));
    let suite = Request::CreateSuite {
        name: "exam".into(),
        dataset: "desk".into(),
        split: split(),
        part: Part::HeldOut,
        scorers: vec![Scorer::Loss],
    };
    desk.ask("", suite).unwrap();
    let spec = EvaluateSpec { suite: "exam".into(), version: "desk:latest".into(), rows_max: 0, answer_tokens_max: 32 };
    let job = desk.submit("", JobSpec::Evaluate(spec));
    let judged = Produced::Evaluation { rows: 9, loss_sum: 9.0, loss_tokens: 9, score: Some(0.5) };
    desk.end("", job, AttemptEnd::Produced(Box::new(judged)));
    // A movable name is noted as the version that it means.
    desk.ask(
        "",
        Request::Publish {
            name: "other".into(),
            version: "desk:latest".into(),
            slots: 1,
            context_tokens: 512,
            price: Price::default(),
            keep: None,
            pool: None,
        },
    )
    .unwrap();
    let entry = |what: &str, made, other: &str| (what.to_owned(), made, other.to_owned());
    assert_eq!(
        told(&desk, &["starter@1"]),
        [
            entry("import_model", true, "a path"),
            entry("quantize", false, "a tensor is damaged"),
            entry("train", false, "desk@1"),
        ]
    );
    assert_eq!(
        told(&desk, &["desk@1"]),
        [
            entry("evaluate", false, "exam, 0.500"),
            entry("publish", false, "desk"),
            entry("publish", false, "other"),
            entry("set_alias", false, "desk:latest"),
            entry("train", true, "starter@1, desk@1"),
        ]
    );
    assert_eq!(told(&desk, &["starter@1", "desk@1"]).len(), 8);
}

#[test]
fn what_a_run_left_goes_thirty_days_after_its_end() {
    let mut desk = Desk::furnished();
    let run = desk.submit("", train());
    let folder = tempfile::tempdir().unwrap();
    let places = Places::new(folder.path().to_owned(), None);
    let checkpoint = job_folder(&places, run).join(CHECKPOINTS).join("4");
    std::fs::create_dir_all(&checkpoint).unwrap();
    for name in CHECKPOINT_FILES {
        std::fs::write(checkpoint.join(name), b"x").unwrap();
    }
    let log = job_folder(&places, run).join("log");
    std::fs::write(&log, b"steps").unwrap();
    let long_after = clock::now_ms() + RUNS_KEPT_MS;
    kept::sweep(&places, desk.state(), long_after + RUNS_KEPT_MS);
    assert!(checkpoint.exists(), "a run that has not ended keeps everything");
    desk.end("", run, died_for_good());
    let ended = desk.state().job(run).unwrap().ended_at_ms.unwrap();
    kept::sweep(&places, desk.state(), ended + RUNS_KEPT_MS - 1);
    assert!(checkpoint.exists());
    kept::sweep(&places, desk.state(), ended + RUNS_KEPT_MS);
    assert!(!checkpoint.exists() && log.exists());
}

fn died_for_good() -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(FailureCode::Diverged, "the run has diverged"))
}
