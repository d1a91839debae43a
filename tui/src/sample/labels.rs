//! Facts of labelling for tests: projects of each kind, rows that wait, what was said. Only tests see this. Never here: a test.

use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED, Row, TEXT};
use hone_protocol::labelling::{
    Agreement, Decision, Disputed, Estimate, How, LabelRecord, LabelValue, NextRow, Order, PairAgreement, PersonCounts,
    ProjectCounts, ProjectRecord, ProjectSpec, ProjectView, Span, Suggestion, Task,
};
use hone_protocol::value::{Hash, JsonText};

use super::{MINUTE_MS, NOW_MS};
use crate::labels;

/// A project of a kind; the middle of its work.
pub(crate) fn project(name: &str, task: Task) -> ProjectView {
    let person = |person: &str, done: u64| PersonCounts {
        person: person.into(),
        done,
        skipped: 12,
        flagged: 7,
        repeats: 40,
        repeats_same: 38,
        suggested: 600,
        suggested_same: 546,
        spent_ms: done * 3_300,
        last_at_ms: NOW_MS - 3 * MINUTE_MS,
    };
    ProjectView {
        record: ProjectRecord {
            name: name.into(),
            spec: ProjectSpec {
                title: String::new(),
                dataset: "support@1".into(),
                standard: Some("tone@2".into()),
                question: "Is this a good answer to learn from?".into(),
                task,
                guide: "\"good\" is true and polite, and would satisfy the customer. \"fixable\" is nearly so.".into(),
                order: Order::Unsure,
                seed: 7,
                repeat_percent: 5,
                persons: 2,
                rows_max: 0,
            },
            rows: 2_000,
            is_chosen: false,
            created_at_ms: NOW_MS - 3 * 24 * 60 * MINUTE_MS,
            created_by: "lin".into(),
            closed_at_ms: None,
        },
        counts: ProjectCounts {
            done: 1_204,
            begun: 1_320,
            disputed: 31,
            suggested: 2_000,
            next_seq: 2_500,
            persons: vec![person("lin", 1_204), person("ada", 900)],
        },
    }
}

/// The quality project that lists show, and one of spans that is closed.
pub(crate) fn projects() -> Vec<ProjectView> {
    let mut spans =
        project("faq-zh-names", Task::Span { labels: labels::parse("name=姓名, phone=电话, address=地址") });
    spans.record.closed_at_ms = Some(NOW_MS - 60 * MINUTE_MS);
    spans.counts = ProjectCounts::default();
    vec![project("support-quality", quality()), spans]
}

/// One label of six.
pub(crate) fn quality() -> Task {
    let labels =
        "good, fixable, -wrong-fact=wrong fact, -wrong-tone=wrong tone, -unsafe, -language=not English / Chinese";
    Task::Choice { labels: labels::parse(labels) }
}

fn row(row_id: u64, messages: Vec<ChatMessage>, original: &str) -> Row {
    Row { row_id, messages, content_sha256: Hash([1; 32]), original: JsonText::new(original) }
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.into(), content: content.into() }
}

/// Rows that wait for a project of a kind, with suggestions.
pub(crate) fn next_rows(task: &Task) -> Vec<NextRow> {
    (0..24).map(|at| next_row(task, 1_204 + at)).collect()
}

fn next_row(task: &Task, row_id: u64) -> NextRow {
    let suggest = |value| Some(Suggestion { row_id, value, probability: Some(0.94), by: "desk (starter@1)".into() });
    let ask = "My parcel says delivered but it is not here. What now?";
    let answer = "I am sorry about that. Please check with neighbours and the safe place on your card. If it is not there, reply with your order number and I will open a trace today.";
    match task {
        Task::Span { .. } => {
            let text = "你好，我叫王小明，电话是138-0013-8000，请把包裹改寄到杭州市西湖区文三路90号，谢谢。";
            let words = vec![
                0, 2, 3, 4, 5, 6, 8, 9, 11, 12, 15, 16, 20, 21, 25, 26, 27, 28, 30, 32, 33, 36, 39, 42, 44, 45, 46, 48,
            ];
            let span = |start, end, label: &str| Span { message: 0, start, end, label: label.into() };
            let value = LabelValue::Spans(vec![span(5, 8, "name"), span(33, 45, "address")]);
            let row = row(row_id, vec![message(TEXT, text)], "{}");
            NextRow { row, suggestion: suggest(value), words: vec![words] }
        }
        Task::Pair { .. } => {
            let messages = vec![
                message("user", "Customer is angry: refund still not here after 9 days."),
                message(
                    CHOSEN,
                    "Thank you for waiting, and I am sorry it has been nine days. Your refund left us on 3 May; the bank shows it by 14 May.",
                ),
                message(
                    REJECTED,
                    "Refunds can take up to 10 business days. Please wait. If you still do not see it contact your bank.",
                ),
            ];
            NextRow { row: row(row_id, messages, "{}"), suggestion: None, words: Vec::new() }
        }
        Task::Rank => {
            let original = r#"{"prompt":"Name a colour.","responses":["Blue is a colour.","Seven.","Red, green or blue: take your pick."]}"#;
            let messages = vec![message("user", "Name a colour."), message("assistant", "Blue is a colour.")];
            NextRow { row: row(row_id, messages, original), suggestion: None, words: Vec::new() }
        }
        _ => {
            let value = match task {
                Task::Choice { .. } => LabelValue::Labels(vec!["good".into()]),
                Task::Several { .. } => LabelValue::Labels(vec!["delivery".into(), "refund".into()]),
                Task::Rating { .. } => LabelValue::Points(4),
                _ => LabelValue::Text("I am sorry. Please send me your order number; I open a trace today.".into()),
            };
            let row = row(row_id, vec![message("user", ask), message("assistant", answer)], r#"{"topic":"delivery"}"#);
            NextRow { row, suggestion: suggest(value), words: Vec::new() }
        }
    }
}

/// A label as it is stored.
pub(crate) fn label(seq: u64, person: &str, row_id: u64, value: LabelValue) -> LabelRecord {
    let decision = Decision { row_id, value, flag: String::new(), note: String::new(), spent_ms: 2_900, how: How::Own };
    LabelRecord {
        seq,
        group: seq,
        person: person.into(),
        at_ms: NOW_MS - 60 * MINUTE_MS,
        decision,
        is_repeat: false,
        as_suggested: Some(seq.is_multiple_of(2)),
        taken_back_at_ms: None,
    }
}

fn word(name: &str) -> LabelValue {
    LabelValue::Labels(vec![name.into()])
}

/// What the person said last, before this session.
pub(crate) fn last_labels() -> Vec<LabelRecord> {
    vec![
        label(2_499, "lin", 1_203, word("good")),
        label(2_497, "lin", 1_202, word("wrong-fact")),
        label(2_496, "lin", 1_201, word("fixable")),
        label(2_494, "lin", 1_200, LabelValue::Skip),
    ]
}

/// How far the two agree.
pub(crate) fn agreement() -> Agreement {
    let estimate = |value: f64| Estimate { value, low: value - 0.03, high: value + 0.03 };
    let values = ["good", "fixable", "wrong-fact"].map(str::to_owned).to_vec();
    Agreement {
        rows: 900,
        fleiss: Some(estimate(0.712)),
        fleiss_persons: 2,
        fleiss_rows: 900,
        alpha: Some(estimate(0.713)),
        pairs: vec![PairAgreement {
            one: "lin".into(),
            other: "ada".into(),
            rows: 900,
            same: estimate(0.846),
            kappa: Some(estimate(0.712)),
            values,
            confusion: vec![vec![520, 61, 4], vec![40, 180, 10], vec![3, 20, 62]],
        }],
        own: vec![Some(estimate(0.91)), None],
    }
}

/// Rows that the two do not agree on.
pub(crate) fn disputed() -> Vec<Disputed> {
    let one = |row_id: u64| Disputed {
        row: next_row(&quality(), row_id).row,
        labels: vec![
            label(row_id * 2, "lin", row_id, word("good")),
            label(row_id * 2 + 1, "ada", row_id, word("fixable")),
        ],
    };
    [17, 88, 311].map(one).to_vec()
}
