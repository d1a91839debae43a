//! Pictures of standards, of versions and of their forms, at three sizes in both languages: empty, loading, full, failed. Only tests see
//! this.

use hone_protocol::catalogue::Language;
use hone_protocol::dataset::{
    ChatMessage, DatasetDiff, DatasetVersionRecord, DiffRow, LineageEdge, LineageKind, Release, Row,
};
use hone_protocol::event::Snapshot;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generation::{GenerateEstimate, Generated, RejectedCandidate};
use hone_protocol::id::{DatasetVersionId, JobId};
use hone_protocol::request::{Answer, Down, Request};
use hone_protocol::standard::{CheckFault, StandardView};
use hone_protocol::value::{Hash, JsonText, Pico};

use super::super::bench::{Bench, SIZES, keep, word};
use super::super::sample::{self, NOW_MS};
use crate::action::{Action, Area};
use crate::event::Event;

/// A dataset of three versions: one of people, one that a service wrote, one in the trash.
fn facts() -> Snapshot {
    let mut facts = sample::filled();
    let dataset = &mut facts.datasets[0];
    let first = dataset.versions[0].clone();
    let made = Generated {
        standard: "tone@2".into(),
        method: "self_instruct".into(),
        source: Some(first.id),
        service: "desk".into(),
        versions: vec!["support-desk-tuned@1".into()],
        requests: 125,
        kept: 48,
        rejected: 14,
        ended: "the ceiling of 125 requests is reached".into(),
    };
    let second = DatasetVersionRecord {
        id: DatasetVersionId::from_bytes([42; 16]),
        number: 2,
        rows: 48,
        job: Some(JobId::from_bytes([17; 16])),
        generated: Some(made),
        release: Some(Release::Draft),
        created_at_ms: NOW_MS - 3_600_000,
        ..first.clone()
    };
    let third = DatasetVersionRecord {
        id: DatasetVersionId::from_bytes([43; 16]),
        number: 3,
        trashed_at_ms: Some(NOW_MS - 2 * 24 * 3_600_000),
        ..first
    };
    dataset.versions.extend([second, third]);
    facts
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.into(), content: content.into() }
}

fn row(row_id: u64, answer: &str) -> Row {
    let messages = vec![message("user", "When do you open?"), message("assistant", answer)];
    Row { row_id, messages, content_sha256: Hash([0; 32]), original: JsonText::default() }
}

fn told(request: &Request) -> Option<Answer> {
    let standard = sample::standard();
    match request {
        Request::Standards => {
            Some(Answer::Standards(vec![StandardView { name: standard.name.clone(), versions: vec![standard] }]))
        }
        Request::EstimateGenerate { .. } => Some(Answer::Estimate(GenerateEstimate {
            rows: 20,
            requests: 50,
            prompt_tokens: 12_000,
            completion_tokens: 6_400,
            cost: Some(Pico(18_400_000_000)),
            duration_ms: Some(94_000),
            requests_max: 200,
            total_tokens_max: 73_600,
        })),
        Request::RejectedCandidates { .. } => Some(Answer::Rejected(vec![RejectedCandidate {
            number: 7,
            messages: vec![message("user", "When do you open?")],
            faults: vec![CheckFault {
                check: "similarity".into(),
                reason: "it is 83 percent like row 0 of the source; at most 70 is allowed".into(),
            }],
        }])),
        Request::DiffDatasets { .. } => Some(Answer::Diff(Box::new(DatasetDiff {
            added: 1,
            removed: 621,
            changed: 1,
            same: 46,
            rows: vec![
                DiffRow { before: Some(row(3, "At ten.")), after: Some(row(3, "At nine.")) },
                DiffRow { before: None, after: Some(row(669, "On Sunday at ten.")) },
            ],
        }))),
        Request::DatasetLineage { .. } => Some(Answer::Lineage(vec![LineageEdge {
            from: "support-desk@1".into(),
            kind: LineageKind::Generation,
            by: "desk to tone@2".into(),
            to: "support-desk@2".into(),
        }])),
        _ => None,
    }
}

/// Answers what was asked, until nothing is.
fn tell(bench: &mut Bench) {
    bench.app.update(Event::Tick, NOW_MS);
    loop {
        let asked = bench.asks();
        if asked.is_empty() {
            return;
        }
        for (id, request) in asked {
            if let Some(answer) = told(&request) {
                bench.answer(id, answer);
            }
        }
        bench.app.update(Event::Tick, NOW_MS);
    }
}

fn refuse(bench: &mut Bench) {
    bench.app.update(Event::Tick, NOW_MS);
    for (id, _) in bench.asks() {
        let failure = Failure::new(FailureCode::Internal, "the store cannot be read");
        bench.app.update(Event::Down(1, Box::new(Down::Answer { id, answer: Err(failure) })), NOW_MS);
    }
}

#[test]
fn standards_and_their_forms() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, facts());
            bench.picture(size);
            bench.go(Area::Datasets);
            bench.press(Action::NextTab);
            keep(name("standards_loading"), &bench.picture(size));
            tell(&mut bench);
            keep(name("standards"), &bench.picture(size));
            bench.press(Action::Edit);
            keep(name("form_standard"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Run);
            keep(name("form_generate_loading"), &bench.picture(size));
            tell(&mut bench);
            keep(name("form_generate"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Delete);
            keep(name("question_remove_standard"), &bench.picture(size));
        }
        let mut bench = Bench::new(language, facts());
        bench.picture((100, 30));
        bench.go(Area::Datasets);
        bench.press(Action::NextTab);
        refuse(&mut bench);
        keep(format!("standards_failed_100x30_{}", word(language)), &bench.picture((100, 30)));
        let mut bench = Bench::new(language, facts());
        bench.picture((100, 30));
        bench.go(Area::Datasets);
        bench.press(Action::NextTab);
        bench.app.update(Event::Tick, NOW_MS);
        for (id, request) in bench.asks() {
            if matches!(request, Request::Standards) {
                bench.answer(id, Answer::Standards(Vec::new()));
            }
        }
        keep(format!("standards_empty_100x30_{}", word(language)), &bench.picture((100, 30)));
    }
}

#[test]
fn versions_with_what_may_be_done_with_them() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, facts());
            bench.picture(size);
            bench.go(Area::Datasets);
            bench.press(Action::PreviousTab);
            keep(name("versions_trashed"), &bench.picture(size));
            bench.press(Action::Delete);
            keep(name("question_purge_dataset"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Down);
            tell(&mut bench);
            keep(name("versions"), &bench.picture(size));
            bench.press(Action::Compare);
            tell(&mut bench);
            keep(name("versions_diff"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Enter);
            tell(&mut bench);
            keep(name("versions_rejected"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Delete);
            keep(name("question_trash_dataset"), &bench.picture(size));
        }
    }
}

#[test]
fn what_is_pressed_is_asked_for() {
    let mut bench = Bench::new(Language::En, facts());
    bench.picture((100, 30));
    bench.go(Area::Datasets);
    bench.press(Action::PreviousTab);
    tell(&mut bench);
    bench.press(Action::Undo);
    let asked = |bench: &mut Bench| bench.asks().into_iter().map(|(_, request)| request).collect::<Vec<_>>();
    let restore = Request::RestoreDataset { dataset: "support-desk@3".into() };
    assert!(asked(&mut bench).contains(&restore));
    bench.press(Action::Down);
    tell(&mut bench);
    bench.press(Action::Run);
    let release = Request::ReleaseDataset { version: "support-desk@2".into(), released: true };
    assert!(asked(&mut bench).contains(&release));
    bench.press(Action::PreviousTab);
    tell(&mut bench);
    bench.press(Action::Run);
    tell(&mut bench);
    bench.press(Action::Run);
    let submitted = asked(&mut bench).into_iter().find_map(|request| match request {
        Request::Submit { spec: hone_protocol::job::JobSpec::Generate(spec), .. } => Some(spec),
        _ => None,
    });
    let spec = submitted.expect("rows are asked for");
    assert_eq!((spec.standard.as_str(), spec.name.as_str(), spec.count), ("tone", "tone-made", 20));
    bench.press(Action::Out);
    bench.press(Action::Edit);
    bench.press(Action::Run);
    let set = asked(&mut bench).into_iter().find_map(|request| match request {
        Request::SetStandard { name, spec } => Some((name, *spec)),
        _ => None,
    });
    assert_eq!(set, Some(("tone".into(), sample::standard().spec)), "what was not changed stays");
}
