//! Pictures of the import form with what would become of a file, and of a search through rows, at three sizes in both languages. Only tests
//! see this.

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::catalogue::Language;
use hone_protocol::dataset::{
    ChatMessage, DatasetSource, FieldMap, FieldRole, ImportPreview, PreviewField, Rejection, Row, Shape,
};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::request::{Answer, Down, Request};
use hone_protocol::value::{Hash, JsonText};

use crate::action::{Action, Area};
use crate::event::Event;
use crate::screens::Place;
use crate::screens::bench::{Bench, SIZES, keep, word};
use crate::screens::sample::{self, NOW_MS};

fn row(row_id: u64, ask: &str, answer: &str) -> Row {
    let say = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let messages = vec![say("user", ask), say("assistant", answer)];
    Row {
        row_id,
        messages,
        content_sha256: Hash([7; 32]),
        original: JsonText::from(&serde_json::json!({"question": ask})),
    }
}

fn preview() -> ImportPreview {
    let field = |name: &str| PreviewField { name: name.into(), kind: "a string".into(), rows: 42 };
    let map = |field: &str, role| FieldMap { field: field.into(), role };
    ImportPreview {
        container: "csv".into(),
        format: "csv:mapped_chat".into(),
        shape: Shape::Chat,
        mapping: vec![map("question", FieldRole::User), map("answer", FieldRole::Assistant)],
        fields: vec![field("id"), field("question"), field("answer")],
        read: 42,
        kept: 41,
        rows: vec![row(669, "Where is my order?", "It left on Monday."), row(670, "我的订单在哪里？", "周一已发出。")],
        rejections: vec![Rejection { line: 17, field: "answer".into(), reason: "empty".into() }],
        whole: true,
    }
}

fn form(language: Language) -> Bench {
    let mut bench = Bench::new(language, sample::filled());
    bench.app.open(Place::ImportDataset("/rows/questions.csv".into()));
    bench.app.update(Event::Tick, NOW_MS);
    bench
}

#[test]
fn an_import_form_shows_what_would_become_of_a_file_before_it_is_accepted() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("import_{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = form(language);
            let asks = bench.asks();
            let (id, _) = asks
                .iter()
                .find(|(_, request)| matches!(request, Request::PreviewImport { path, .. } if path == "/rows/questions.csv"))
                .expect("the form asks what the file is");
            keep(name("looking"), &bench.picture(size));
            bench.answer(*id, Answer::ImportPreview(Box::new(preview())));
            keep(name("preview"), &bench.picture(size));
            let mut bench = form(language);
            let id =
                bench.asks().iter().find(|(_, request)| matches!(request, Request::PreviewImport { .. })).unwrap().0;
            let failure = Failure::new(FailureCode::BadFile, "/rows/questions.csv is UTF-16; save it as UTF-8")
                .at("/rows/questions.csv")
                .hint(HintCode::CorrectFile);
            bench.app.update(Event::Down(1, Box::new(Down::Answer { id, answer: Err(failure) })), NOW_MS);
            keep(name("refused"), &bench.picture(size));
        }
    }
}

#[test]
fn rows_of_a_hub_are_named_and_fetched() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.app.open(Place::ImportDataset("quiet/owls:train.jsonl".into()));
    bench.app.update(Event::Tick, NOW_MS);
    // From a file to the hub.
    bench.press(Action::Right);
    bench.app.update(Event::Tick, NOW_MS);
    assert!(!bench.asks().iter().any(|(_, request)| matches!(request, Request::PreviewImport { .. })));
    keep("import_hub_100x30_en".into(), &bench.picture((100, 30)));
    bench.press(Action::Run);
    let asked = bench.asks();
    let source = asked.iter().find_map(|(_, request)| match request {
        Request::Submit { spec: JobSpec::ImportDataset { source: DatasetSource::Hub(source), .. }, .. } => Some(source),
        _ => None,
    });
    let source = source.expect("the import is asked for");
    assert_eq!((source.repo.as_str(), source.file.as_str()), ("quiet/owls", "train.jsonl"));
}

#[test]
fn a_search_asks_for_rows_with_the_text_and_lets_go_of_it_again() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("search_{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, sample::filled());
            bench.go(Area::Datasets);
            bench.press(Action::Enter);
            bench.app.update(Event::Tick, NOW_MS);
            bench.asks();
            bench.press(Action::Filter);
            bench.typed("Refund");
            keep(name("typing"), &bench.picture(size));
            bench.key(KeyEvent::from(KeyCode::Enter));
            bench.app.update(Event::Tick, NOW_MS);
            let asks = bench.asks();
            let found = asks.iter().find_map(|(id, request)| match request {
                Request::FindRows { filter, .. } => Some((*id, filter)),
                _ => None,
            });
            let (id, filter) = found.expect("rows with the text are asked for");
            assert!(filter.contains == "Refund" && filter.ignore_case);
            let rows = vec![row(12, "Can I get a refund?", "Within 45 days."), row(80, "refund please", "Gladly.")];
            bench.answer(id, Answer::Rows { rows, total: 2 });
            keep(name("found"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.update(Event::Tick, NOW_MS);
            assert!(bench.asks().iter().any(|(_, request)| matches!(request, Request::Rows { .. })), "all rows again");
        }
    }
}
