//! Verdicts that wait, and the version that is made of them while others come.

use hone_protocol::dataset::ChatMessage;
use hone_protocol::judgement::{Contender, JudgedSet, Judgement, Verdict};
use hone_protocol::value::Json;

use super::*;

fn judge(verdict: Verdict) -> Request {
    let contender = |text: &str| Contender {
        service: "desk".into(),
        version: "starter@1".into(),
        settings: Json::default(),
        text: text.into(),
        completion_tokens: 2,
    };
    let judgement = Judgement {
        messages: vec![ChatMessage { role: "user".into(), content: "?".into() }],
        contenders: vec![contender("yes"), contender("no"), contender("maybe")],
        verdict,
        blind: false,
    };
    Request::Judge { dataset: "prefs".into(), judgement: Box::new(judgement) }
}

fn make(until: u64) -> JobSpec {
    let source = DatasetSource::Judgements { until };
    JobSpec::ImportDataset { source, name: "prefs".into(), format: RowFormat::Preference }
}

fn made(first_row_id: u64, rows: u64) -> AttemptEnd {
    let report = ImportReport { format: "preference".into(), read: rows, kept: rows, ..ImportReport::default() };
    let segment = Segment { sha256: Hash([first_row_id as u8; 32]), size_bytes: 9, rows, first_row_id };
    let licence = String::new();
    AttemptEnd::Produced(Box::new(Produced::Dataset {
        report,
        segments: vec![segment],
        first_row_id,
        licence,
        lineage: None,
        responses: Vec::new(),
        processed: None,
    }))
}

fn set(desk: &Desk) -> JudgedSet {
    (**desk.state().judged_sets.get("prefs").unwrap()).clone()
}

#[test]
fn a_verdict_during_the_making_waits_for_the_next_version_and_a_crash_loses_none() {
    let mut desk = Desk::furnished();
    assert_eq!(
        desk.ask("", Request::Submit { spec: make(0), payer: None, pool: None }).unwrap_err().code,
        FailureCode::NoRows
    );
    desk.ask("", judge(Verdict::Best(0))).unwrap();
    desk.ask("", judge(Verdict::AllBad)).unwrap();
    assert_eq!((set(&desk).waiting_rows, set(&desk).waiting_undecided), (2, 1), "the best of three makes two rows");
    let job = desk.submit("", make(0));
    let pinned = &desk.state().job(job).unwrap().spec;
    assert_eq!(*pinned, make(2), "the job means the same whatever is judged later");
    desk.ask("", judge(Verdict::Best(2))).unwrap();
    let taken_back = desk.ask("", Request::Unjudge { dataset: "prefs".into(), seq: 0 }).unwrap_err();
    assert_eq!(taken_back.code, FailureCode::WrongState, "what is being made into rows stays");
    desk.start("");
    assert_eq!(set(&desk).waiting_rows, 4);
    desk.end("", job, made(0, 2));
    let after = set(&desk);
    assert_eq!((after.made_until, after.waiting_rows, after.waiting_undecided), (2, 2, 0));
    let job = desk.submit("", make(99));
    assert_eq!(desk.state().job(job).unwrap().spec, make(3), "no further than there are");
    desk.end("", job, made(2, 2));
    desk.start("");
    let version = desk.state().dataset_version("prefs@2").unwrap();
    let rows: Vec<u64> = version.segments.iter().map(|segment| segment.first_row_id).collect();
    assert_eq!((version.rows, rows), (4, vec![0, 2]), "the rows of the version before, then the new ones");
    assert_eq!((set(&desk).waiting_rows, set(&desk).next_seq), (0, 3));
    assert!(desk.state().unmade.is_empty());
}

#[test]
fn what_cannot_become_rows_is_refused_with_its_field() {
    let mut desk = Desk::furnished();
    let mut refused = |change: fn(&mut Judgement)| {
        let Request::Judge { dataset, mut judgement } = judge(Verdict::Best(0)) else { unreachable!() };
        change(&mut judgement);
        desk.ask("", Request::Judge { dataset, judgement }).unwrap_err()
    };
    assert_eq!(refused(|j| j.contenders.truncate(1)).place, "judgement.contenders");
    assert_eq!(refused(|j| j.contenders[1].text = " \n".into()).place, "judgement.contenders");
    assert_eq!(refused(|j| j.messages.clear()).place, "judgement.messages");
    assert_eq!(refused(|j| j.messages[0].role = "tool".into()).place, "judgement.messages");
    assert_eq!(refused(|j| j.verdict = Verdict::Best(3)).place, "judgement.verdict");
    assert_eq!(refused(|j| j.contenders[0].version = "nobody@1".into()).code, FailureCode::NotFound);
    let long = "x".repeat(2 << 20);
    let Request::Judge { dataset, mut judgement } = judge(Verdict::Tie) else { unreachable!() };
    judgement.contenders[0].text = long;
    assert_eq!(desk.ask("", Request::Judge { dataset, judgement }).unwrap_err().place, "judgement");
    assert!(desk.state().judged_sets.is_empty());
}
