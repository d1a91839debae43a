//! Candidates by invented answers: what is kept, what is let go and why, and that an attempt goes on from what was kept.

use hone_protocol::standard::{Bounds, Checks, Criterion, StandardSpec};

use super::super::prompts::message;
use super::*;

fn standard(shape: Shape) -> StandardRecord {
    StandardRecord {
        name: "tone".into(),
        number: 2,
        spec: StandardSpec::new(shape),
        created_at_ms: 0,
        created_by: "ann".into(),
        removed_at_ms: None,
    }
}

fn spec(method: GenerateMethod, count: u32) -> GenerateSpec {
    GenerateSpec {
        standard: "tone@2".into(),
        service: "desk".into(),
        name: "made".into(),
        method,
        source: "seeds@1".into(),
        count,
        seed: 7,
        temperature: 0.7,
        top_p: 1.0,
        tokens_max: 64,
        similarity_max_percent: 70,
        judge: String::new(),
        judge_least_percent: 50,
        requests_max: 0,
        total_tokens_max: 0,
        payer: "owner".into(),
        at_once: 0,
    }
}

fn seeds(texts: &[&str]) -> Vec<Source> {
    let row = |text: &str| vec![message("user", text), message("assistant", "We see to it.")];
    let source = |(at, text): (usize, &&str)| Source { seed: Seed::RowId(at as u64), messages: row(text) };
    texts.iter().enumerate().map(source).collect()
}

/// The kept row of a request that was answered so.
fn answered(wanted: &Wanted, row: u64, text: &str) -> BatchRow {
    let kept = Kept { text: text.into(), seeds: wanted.seeds.clone(), sent: wanted.question.messages.clone() };
    BatchRow {
        row,
        custom_id: wanted.stage.mark(wanted.candidate),
        answer: Ok(serde_json::to_string(&kept).unwrap()),
        finish: "stop".into(),
        version: "starter@1".into(),
        ledger: None,
        prompt_tokens: 10,
        cached_tokens: 0,
        completion_tokens: 5,
    }
}

/// A service that answers by the number of the request; the rows that are kept.
fn play(candidates: &mut Candidates<'_>, rounds: usize, answer: impl Fn(&Wanted, u64) -> String) -> Vec<BatchRow> {
    let mut kept = Vec::new();
    for _ in 0..rounds {
        let wanted = candidates.next(4);
        let first = candidates.next_row;
        let rows: Vec<BatchRow> = wanted
            .iter()
            .enumerate()
            .map(|(at, one)| answered(one, first + at as u64, &answer(one, first + at as u64)))
            .collect();
        rows.iter().for_each(|row| candidates.take(row));
        kept.extend(rows);
    }
    kept
}

/// New prompts that share no word, and answers.
fn inventive(wanted: &Wanted, row: u64) -> String {
    match wanted.stage {
        Stage::Write => format!("{{\"prompt\": \"w{row}a w{row}b w{row}c\"}}"),
        _ => format!("Answer {row}."),
    }
}

#[test]
fn new_prompts_are_answered_and_those_like_a_seed_or_another_are_not() {
    let (standard, spec) = (standard(Shape::Chat), spec(GenerateMethod::SelfInstruct, 3));
    let sources = seeds(&["When do you open on Sunday?", "Where is my parcel?"]);
    let mut candidates = Candidates::new(&spec, &standard, &sources).unwrap();
    let said = |wanted: &Wanted, row: u64| match (wanted.stage, row) {
        (Stage::Write, 0) => "{\"prompt\": \"When do you open on Monday?\"}".to_owned(),
        (Stage::Write, 1) => "{\"prompt\": \"Can I pay by card\"}".to_owned(),
        (Stage::Write, 2) => "{\"prompt\": \"Can I pay by card?\"}".to_owned(),
        _ => inventive(wanted, row),
    };
    play(&mut candidates, 6, said);
    assert!(candidates.is_complete());
    assert_eq!(candidates.made.len(), 3);
    let reasons: Vec<&str> = candidates.rejected.iter().map(|one| one.faults[0].reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "it is 83 percent like row 0 of the source; at most 70 is allowed",
            "it is 100 percent like candidate 1; at most 70 is allowed"
        ]
    );
    let prompts: Vec<String> = candidates.made.iter().map(|made| prompt_of(&made.candidate.row)).collect();
    assert_eq!(prompts.iter().filter(|prompt| prompt.starts_with("Can I pay")).count(), 1, "{prompts:?}");
}

#[test]
fn what_was_kept_makes_the_same_rows_again_and_nothing_is_asked_twice() {
    let (standard, spec) = (standard(Shape::Chat), spec(GenerateMethod::SelfInstruct, 6));
    let sources = seeds(&["When do you open?", "Where is my parcel?", "How much is it?"]);
    let mut whole = Candidates::new(&spec, &standard, &sources).unwrap();
    let kept = play(&mut whole, 12, inventive);
    assert!(whole.is_complete());
    for cut in 0..kept.len() {
        let mut again = Candidates::new(&spec, &standard, &sources).unwrap();
        kept[..cut].iter().for_each(|row| again.take(row));
        let more = play(&mut again, 12, inventive);
        assert!(again.is_complete(), "cut after {cut}");
        let mut asked: Vec<&String> = kept[..cut].iter().chain(&more).map(|row| &row.custom_id).collect();
        let all = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), all, "cut after {cut}: a request was made twice");
        let lines = |c: &Candidates<'_>| c.made.iter().map(|made| c.line(made, "seeds@1")).collect::<Vec<_>>();
        let mut replay = Candidates::new(&spec, &standard, &sources).unwrap();
        kept[..cut].iter().chain(&more).for_each(|row| replay.take(row));
        assert_eq!(lines(&replay), lines(&again), "cut after {cut}");
    }
}

#[test]
fn a_request_that_was_under_way_is_made_again() {
    let (standard, spec) = (standard(Shape::Chat), spec(GenerateMethod::Answers, 0));
    let mut sources = seeds(&["One?", "Two?", "Three?", "Four?"]);
    sources.iter_mut().for_each(|source| source.messages.truncate(1));
    let mut first = Candidates::new(&spec, &standard, &sources).unwrap();
    let wanted = first.next(4);
    let kept = answered(&wanted[2], 2, "Three it is.");
    let mut second = Candidates::new(&spec, &standard, &sources).unwrap();
    second.take(&kept);
    let again: Vec<u64> = second.next(9).iter().map(|one| one.candidate).collect();
    assert_eq!(again, [0, 1, 3], "the third is answered already");
    assert_eq!(second.made[0].candidate.row[1].content, "Three it is.");
    assert!(second.next(9).is_empty(), "each prompt is answered once");
}

#[test]
fn rows_keep_to_checks_and_judges_and_every_candidate_is_counted() {
    let mut standard = standard(Shape::Chat);
    standard.spec.checks = Checks { answer_chars: Bounds { min: Some(4), max: None }, ..Checks::default() };
    standard.spec.criteria = vec![Criterion { name: "kind".into(), about: "Is kind.".into(), weight: 1, scale: 5 }];
    let mut spec = spec(GenerateMethod::Answers, 0);
    spec.judge = "judge".into();
    let mut sources = seeds(&["One?", "Two?", "Three?"]);
    sources.iter_mut().for_each(|source| source.messages.truncate(1));
    let mut candidates = Candidates::new(&spec, &standard, &sources).unwrap();
    let said = |wanted: &Wanted, _: u64| match (wanted.stage, wanted.candidate) {
        (Stage::Answer, 0) => "No".to_owned(),
        (Stage::Answer, _) => "Certainly.".to_owned(),
        (_, 1) => "{\"kind\": 2}".to_owned(),
        _ => "{\"kind\": 5}".to_owned(),
    };
    let kept = play(&mut candidates, 3, said);
    assert_eq!((candidates.made.len(), candidates.rejected.len(), kept.len()), (1, 2, 5));
    let faults: Vec<&CheckFault> = candidates.rejected.iter().flat_map(|one| &one.faults).collect();
    assert_eq!(faults[0].reason, "the answer has 2 characters, not at least 4");
    assert_eq!(faults[1].reason, "the judge gave 25 percent of the points; at least 50 are wanted");
    assert_eq!(candidates.requests, 5);
    assert_eq!(candidates.tokens, 75);
    let line = candidates.line(&candidates.made[0], "seeds@1");
    assert_eq!(line["generated"]["judge"], json!({"service": "judge", "percent": 100.0}));
    assert_eq!(line["generated"]["seeds"], json!([{"dataset": "seeds@1", "row_id": 2}]));
    assert_eq!(line["generated"]["standard"], "tone@2");
    assert_eq!(line["generated"]["prompts"][0][0]["content"], "Three?");
}

#[test]
fn failed_and_cut_answers_are_let_go_by_their_reason() {
    let (standard, spec) = (standard(Shape::Text), spec(GenerateMethod::Paraphrase, 0));
    let text = |text: &str| vec![message(hone_protocol::dataset::TEXT, text)];
    let sources: Vec<Source> = ["One text.", "Another text."]
        .iter()
        .enumerate()
        .map(|(at, words)| Source { seed: Seed::RowId(at as u64), messages: text(words) })
        .collect();
    let mut candidates = Candidates::new(&spec, &standard, &sources).unwrap();
    let wanted = candidates.next(9);
    let mut cut = answered(&wanted[0], 0, "{\"text\": \"On");
    cut.finish = "length".into();
    let failure = Failure::new(hone_protocol::failure::FailureCode::ContextExceeded, "the prompt is too long");
    let failed = BatchRow { answer: Err(failure), ..answered(&wanted[1], 1, "") };
    candidates.take(&cut);
    candidates.take(&failed);
    let reasons: Vec<&str> = candidates.rejected.iter().map(|one| one.faults[0].reason.as_str()).collect();
    assert_eq!(reasons, ["the answer was cut at its longest length", "the prompt is too long"]);
    assert!(candidates.next(9).is_empty() && !candidates.is_complete());
}
