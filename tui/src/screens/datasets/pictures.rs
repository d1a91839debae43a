//! Tests: recipes, what their steps did, and facts, at three sizes in both languages and all states. Never here: what others test.

use hone_protocol::catalogue::Language;
use hone_protocol::dataset::{ChatMessage, DatasetVersionRecord};
use hone_protocol::event::Snapshot;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::DatasetVersionId;
use hone_protocol::job::JobSpec;
use hone_protocol::note::{NoteHead, NoteKind, NoteRecord};
use hone_protocol::recipe::{
    DatasetFacts, LedgerAct, LedgerEntry, Preview, PreviewRow, Processed, Recipe, StepOutcome, StepSpec, preset,
};
use hone_protocol::request::{Answer, Down, Request};
use hone_protocol::value::{Hash, Json};

use crate::action::{Action, Area};
use crate::event::Event;
use crate::screens::bench::{Bench, SIZES, keep, word};
use crate::screens::sample::{self, NOW_MS};

fn messages(question: &str, answer: &str) -> Vec<ChatMessage> {
    let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    vec![message("user", question), message("assistant", answer)]
}

fn facts() -> DatasetFacts {
    DatasetFacts {
        rows: 669,
        characters: 301_050,
        messages: 1_338,
        tokens: Some((80_281, "smollm2-135m@1".into())),
        lengths: vec![0, 0, 3, 60, 210, 320, 71, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        length_marks: [421, 1_204, 1_990, 2_811],
        languages: vec![("en".into(), 640), ("zh".into(), 20), ("?".into(), 9)],
        turns: vec![0, 0, 600, 0, 60, 0, 9, 0, 0, 0, 0, 0],
        exact_duplicates: 1,
        near_duplicates: 12,
        private: vec![("email".into(), 14), ("phone".into(), 3)],
    }
}

/// The furnished client with a version that a recipe made, and its facts.
fn processed() -> Snapshot {
    let mut snapshot = sample::filled();
    let dataset = snapshot.datasets.first_mut().unwrap();
    let first = dataset.versions[0].clone();
    let outcome = |(at, spec): (usize, StepSpec)| {
        let (dropped, changed) = match spec.step.as_str() {
            "spaces" => (0, 2),
            "phrases" => (2, 0),
            "near" => (12, 0),
            _ => (0, 0),
        };
        let reasons =
            if dropped + changed > 0 { vec![("near_duplicate".into(), dropped + changed)] } else { Vec::new() };
        let ledger = Hash([at as u8; 32]);
        StepOutcome { spec: spec.effective(), ledger, cached: false, dropped, changed, reasons }
    };
    let steps = preset("chat").unwrap().steps.into_iter().enumerate().map(outcome).collect();
    let (source_name, recipe_name) = (format!("{}@1", dataset.record.name), "chat".into());
    let processed = Processed { source: first.id, source_name, recipe_name, rows_in: 669, rows_out: 655, steps };
    dataset.versions.push(DatasetVersionRecord {
        id: DatasetVersionId::from_bytes([42; 16]),
        number: 2,
        rows: 655,
        processed: Some(Box::new(processed)),
        facts: Some(Box::new(facts())),
        ..first
    });
    snapshot
}

fn answered(request: &Request) -> Option<Answer> {
    match request {
        Request::PreviewRecipe { recipe, .. } => {
            let (question, answer) = ("How do I reset  my password?", "Open Settings, then Security.");
            let row = |row_id, acts: Vec<(u32, LedgerAct, String)>, after| PreviewRow {
                row_id,
                before: messages(question, answer),
                after,
                acts,
            };
            let rows = vec![
                row(
                    7,
                    vec![(2, LedgerAct::Changed, "white_space".into())],
                    messages("How do I reset my password?", answer),
                ),
                row(12, vec![(9, LedgerAct::Dropped, "near_duplicate".into())], Vec::new()),
                row(13, Vec::new(), messages(question, answer)),
            ];
            let counts = (0..recipe.steps.len() as u64).map(|at| (u64::from(at == 9), u64::from(at == 2))).collect();
            Some(Answer::RecipePreview(Preview { rows, looked_at: 500, counts }))
        }
        Request::RecipeLedger { .. } => {
            let entry = |row_id, act, reason: &str, after| LedgerEntry {
                row_id,
                act,
                reason: reason.into(),
                value: 0.8571,
                threshold: 0.7,
                detail: "row 11".into(),
                before: messages("How  do I reset my password?", "Open Settings, then Security."),
                after,
            };
            let after = messages("How do I reset my password?", "Open Settings, then Security.");
            let entries = vec![
                entry(204, LedgerAct::Dropped, "near_duplicate", Vec::new()),
                entry(311, LedgerAct::Changed, "white_space", after),
            ];
            Some(Answer::RecipeLedger { entries, total: 2 })
        }
        _ => None,
    }
}

fn answer_all(bench: &mut Bench) {
    bench.app.update(Event::Tick, NOW_MS);
    for (id, request) in bench.asks() {
        if let Some(answer) = answered(&request) {
            bench.answer(id, answer);
        }
    }
}

fn fail_all(bench: &mut Bench) {
    bench.app.update(Event::Tick, NOW_MS);
    for (id, _) in bench.asks() {
        let failure = Failure::new(FailureCode::BadFile, "a segment is damaged");
        bench.app.update(Event::Down(1, Box::new(Down::Answer { id, answer: Err(failure) })), NOW_MS);
    }
}

#[test]
fn recipes_their_ledgers_and_facts() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, processed());
            bench.picture(size);
            bench.go(Area::Datasets);
            bench.press(Action::Edit);
            keep(name("recipe_loading"), &bench.picture(size));
            answer_all(&mut bench);
            bench.press(Action::Down);
            bench.press(Action::Down);
            keep(name("recipe"), &bench.picture(size));
            bench.press(Action::Add);
            keep(name("recipe_kinds"), &bench.picture(size));
            bench.press(Action::Out);
            for _ in 0..7 {
                bench.press(Action::Down);
            }
            bench.press(Action::Enter);
            keep(name("recipe_settings"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Run);
            keep(name("recipe_run"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Out);
            bench.press(Action::Log);
            keep(name("ledger_loading"), &bench.picture(size));
            answer_all(&mut bench);
            bench.press(Action::Mark);
            keep(name("ledger"), &bench.picture(size));
            bench.press(Action::Left);
            keep(name("ledger_nothing"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Inspect);
            keep(name("facts"), &bench.picture(size));
            bench.press(Action::Out);

            let mut bench = Bench::new(language, sample::filled());
            bench.picture(size);
            bench.go(Area::Datasets);
            bench.press(Action::Inspect);
            keep(name("facts_unknown"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Edit);
            fail_all(&mut bench);
            keep(name("recipe_failed"), &bench.picture(size));
        }
    }
}

#[test]
fn what_is_done_to_steps_is_what_runs() {
    let mut bench = Bench::new(Language::En, processed());
    bench.picture((200, 50));
    bench.go(Area::Datasets);
    bench.press(Action::Edit);
    answer_all(&mut bench);
    let preview = |bench: &mut Bench| {
        bench.app.update(Event::Tick, NOW_MS);
        let mut asked = bench.asks().into_iter().filter_map(|(_, request)| match request {
            Request::PreviewRecipe { recipe, .. } => Some(recipe),
            _ => None,
        });
        asked.next_back().expect("each change is previewed").steps.into_iter().map(|step| step.step).collect::<Vec<_>>()
    };
    let before: Vec<String> = preset("chat").unwrap().steps.into_iter().map(|step| step.step).collect();
    bench.press(Action::Delete);
    assert_eq!(preview(&mut bench), before[1..]);
    bench.press(Action::Right);
    let moved = preview(&mut bench);
    assert_eq!((moved[0].as_str(), moved[1].as_str()), (before[2].as_str(), before[1].as_str()));
    bench.press(Action::Undo);
    bench.press(Action::Undo);
    assert_eq!(preview(&mut bench), before);
    bench.press(Action::Pause);
    let other: Vec<String> = preset("preference").unwrap().steps.into_iter().map(|step| step.step).collect();
    assert_eq!(preview(&mut bench), other);
    bench.press(Action::Run);
    bench.press(Action::Run);
    bench.app.update(Event::Tick, NOW_MS);
    let submitted = bench.asks().into_iter().find_map(|(_, request)| match request {
        Request::Submit { spec: JobSpec::Process(spec), .. } => Some(spec),
        _ => None,
    });
    let spec = submitted.expect("the run is asked for");
    assert_eq!((spec.name.as_str(), spec.source.as_str()), ("support-desk-preference", "support-desk@2"));
    assert_eq!(spec.recipe, preset("preference").unwrap());
}

#[test]
fn a_saved_recipe_is_one_of_those_to_choose_from() {
    let mut bench = Bench::new(Language::En, processed());
    bench.picture((100, 30));
    bench.go(Area::Datasets);
    bench.press(Action::Edit);
    bench.app.update(Event::Tick, NOW_MS);
    let head = NoteHead { name: "mine".into(), title: String::new(), at_ms: NOW_MS };
    for (id, request) in bench.asks() {
        if let Request::Notes { kind: NoteKind::Recipe } = request {
            bench.answer(id, Answer::Notes(vec![head.clone()]));
        }
    }
    // Behind those that come with hone.
    for _ in 0..hone_protocol::recipe::PRESETS.len() {
        bench.press(Action::Pause);
    }
    let (id, _) = bench.asks().into_iter().find(|(_, request)| matches!(request, Request::Note { .. })).unwrap();
    let recipe = Recipe { steps: vec![StepSpec { step: "html".into(), ..StepSpec::default() }] };
    let value = Json(recipe.to_json());
    bench.answer(id, Answer::Note(Box::new(NoteRecord { head, value })));
    let picture = bench.picture((100, 30));
    assert!(picture.contains("Recipe mine") && picture.contains("HTML") && !picture.contains("Near"), "{picture}");
}

#[test]
fn marked_rows_are_rescued_from_the_step_in_sight() {
    let mut bench = Bench::new(Language::En, processed());
    bench.picture((200, 50));
    bench.go(Area::Datasets);
    bench.press(Action::Log);
    answer_all(&mut bench);
    bench.press(Action::Mark);
    bench.press(Action::Run);
    bench.app.update(Event::Tick, NOW_MS);
    let submitted = bench.asks().into_iter().find_map(|(_, request)| match request {
        Request::Submit { spec: JobSpec::Process(spec), .. } => Some(spec),
        _ => None,
    });
    let spec = submitted.expect("the run is asked for");
    assert_eq!((spec.name.as_str(), spec.source.as_str()), ("support-desk", "support-desk@1"));
    // The first step that did something is in sight: spaces.
    assert_eq!(spec.recipe.steps[2].keep, [204]);
}
