//! What is written is read, and hostile files are refused.

use hone_protocol::labelling::{Order, ProjectCounts, ProjectRecord, ProjectSpec};
use hone_protocol::value::{Hash, JsonText};

use super::LabelFormat::{Argilla, Doccano, Hone, LabelStudio};
use super::argilla::argilla_question;
use super::*;

fn project(task: Task) -> ProjectView {
    let spec = ProjectSpec {
        title: String::new(),
        dataset: "chats@1".into(),
        standard: None,
        question: "Is it \"good\" & <kind>?".into(),
        task,
        guide: "Be fair.".into(),
        order: Order::File,
        seed: 0,
        repeat_percent: 0,
        persons: 2,
        rows_max: 0,
    };
    let (created_by, closed_at_ms) = ("ada".into(), None);
    let record =
        ProjectRecord { name: "p".into(), spec, rows: 3, is_chosen: false, created_at_ms: 0, created_by, closed_at_ms };
    ProjectView { record, counts: ProjectCounts::default() }
}

fn row(row_id: u64, messages: &[(&str, &str)], original: &str) -> Row {
    let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
    let messages = messages.iter().map(message).collect();
    Row { row_id, messages, content_sha256: Hash([0; 32]), original: JsonText::new(original) }
}

fn chat() -> Row {
    let messages = [("system", "Be 🚀 brief."), ("user", "Where\nis it?"), ("assistant", "In the 🚀 red \"box\".")];
    row(7, &messages, "{}")
}

fn pair() -> Row {
    row(8, &[("user", "Hi"), (CHOSEN, "Hello."), (REJECTED, "Go away.")], "{}")
}

fn text() -> Row {
    row(9, &[("text", "Ada 🚀 met Bob")], "{}")
}

fn three() -> Row {
    row(10, &[("user", "Hi")], r#"{"responses":["a",{"content":"b"},{"text":"c"}]}"#)
}

fn labels() -> Vec<LabelName> {
    [("good", "Good & well"), ("bad", "")]
        .map(|(name, title)| LabelName { name: name.into(), title: title.into(), keep: true })
        .to_vec()
}

fn names(names: &[&str]) -> LabelValue {
    LabelValue::Labels(names.iter().map(|name| (*name).to_owned()).collect())
}

fn span(message: u32, start: u32, end: u32) -> Span {
    Span { message, start, end, label: "good".into() }
}

fn label(seq: u64, person: &str, row_id: u64, value: LabelValue) -> LabelRecord {
    let (flag, note) = (format!("look {seq}"), if seq == 1 { "a \"note\"\n🚀".into() } else { String::new() });
    let decision = Decision { row_id, value, flag, note, spent_ms: 1234 + seq, how: How::Own };
    LabelRecord {
        seq,
        group: seq,
        person: person.into(),
        at_ms: 5,
        decision,
        is_repeat: false,
        as_suggested: None,
        taken_back_at_ms: None,
    }
}

fn file(format: LabelFormat, project: &ProjectView, pages: &[&[Labelled]]) -> String {
    let pages: Vec<String> = pages.iter().map(|page| write(format, project, page).unwrap()).collect();
    format!("{}{}{}", begin(format), pages.join(joiner(format)), end(format))
}

/// Rows, a task for them, and what can be said.
fn cases() -> Vec<(Task, Row, Vec<LabelValue>)> {
    let said = |answer, reason: &str| LabelValue::Pair { answer, reason: reason.into(), is_swapped: false };
    let pairs = PairAnswer::ALL.map(|(_, answer)| said(answer, "")).into_iter();
    let pairs = pairs.chain([said(PairAnswer::Second, "tone & \"style\"")]).collect();
    let spans = |spans: &[Span]| LabelValue::Spans(spans.to_vec());
    let places = |ranks: &[u32]| LabelValue::Ranks(ranks.to_vec());
    let reasons = vec!["tone & \"style\"".to_owned()];
    vec![
        (Task::Choice { labels: labels() }, chat(), vec![names(&["good"]), names(&["bad"])]),
        (Task::Several { labels: labels() }, text(), vec![names(&["good", "bad"]), names(&[]), names(&["bad"])]),
        (
            Task::Span { labels: labels() },
            chat(),
            vec![spans(&[span(0, 3, 4), span(2, 7, 8), span(2, 9, 12)]), spans(&[]), spans(&[span(1, 0, 12)])],
        ),
        (Task::Span { labels: labels() }, text(), vec![spans(&[span(0, 0, 3), span(0, 10, 13)]), spans(&[])]),
        (Task::Pair { reasons }, pair(), pairs),
        (Task::Rank, pair(), vec![places(&[2, 1]), places(&[1, 1]), places(&[1, 2])]),
        (Task::Rank, three(), vec![places(&[3, 1, 1]), places(&[2, 3, 1]), places(&[1, 1, 1])]),
        (Task::Rating { scale: 5 }, chat(), vec![LabelValue::Points(1), LabelValue::Points(5)]),
        (Task::Edit, chat(), vec![LabelValue::Text("On the \"roof\".\n\n🚀\t".into())]),
        (Task::Edit, text(), vec![LabelValue::Text("Ada".into())]),
    ]
}

#[test]
fn what_is_written_is_read() {
    for (format, (task, row, mut values)) in
        LabelFormat::ALL.into_iter().flat_map(|f| cases().into_iter().map(move |case| (f, case)))
    {
        if format.hold(&task).is_err() {
            continue;
        }
        let suggested = values[0].clone();
        values.push(LabelValue::Skip);
        let person = |at: u64| format!("p{at}.a_b-c");
        let labels: Vec<LabelRecord> =
            (0..).zip(&values).map(|(at, value)| label(at, &person(at), row.row_id, value.clone())).collect();
        let suggestion =
            Suggestion { row_id: row.row_id, value: suggested, probability: Some(0.9), by: "judge (small@3)".into() };
        let suggestion = Some(suggestion);
        let bare = Labelled { row: Row { row_id: 99, ..row.clone() }, labels: Vec::new(), suggestion: None };
        let labelled = Labelled { row: row.clone(), labels: labels.clone(), suggestion: suggestion.clone() };
        let project = project(task.clone());
        let text = file(format, &project, &[&[labelled], &[bare]]);
        let found = read(format, &task, &text).unwrap_or_else(|error| panic!("{format:?} {task:?}: {error}\n{text}"));
        let how = if format == Hone { How::Own } else { How::Imported };
        let mut expected: Vec<Read> = labels
            .into_iter()
            .map(|label| Read {
                row_id: row.row_id,
                person: label.person,
                decision: Decision { how, ..label.decision },
            })
            .collect();
        if format == LabelStudio {
            expected.sort_by(|one, other| one.person.cmp(&other.person));
        }
        assert_eq!(found.decisions, expected, "{format:?} {task:?}\n{text}");
        assert_eq!(found.without, 1, "{format:?}");
        let ties = matches!(&values[0], LabelValue::Ranks(ranks) if order(ranks).is_none());
        let held = !(format == Doccano || format == Argilla && ties);
        assert_eq!(found.suggestions, Vec::from_iter(suggestion.filter(|_| held)), "{format:?} {task:?}\n{text}");
        assert!(!text.contains('\u{feff}'));
        read(format, &task, &format!("\u{feff}{text}")).unwrap();
    }
}

#[test]
fn only_what_stands_is_written() {
    let task = Task::Rating { scale: 5 };
    let of = |seq, points| label(seq, "ada", 7, LabelValue::Points(points));
    let back = LabelRecord { taken_back_at_ms: Some(1), ..of(8, 4) };
    let again = LabelRecord { is_repeat: true, ..of(9, 5) };
    let labels = vec![of(3, 3), of(0, 1), back, again];
    let rows = [Labelled { row: chat(), labels, suggestion: None }];
    for format in [Hone, LabelStudio, Argilla] {
        let found = read(format, &task, &file(format, &project(task.clone()), &[&rows])).unwrap();
        assert_eq!(found.decisions.len(), 1);
        assert_eq!(found.decisions[0].decision.value, LabelValue::Points(3), "{format:?}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_and_the_others_named() {
    for task in [Task::Pair { reasons: Vec::new() }, Task::Rank, Task::Rating { scale: 5 }] {
        for error in [write(Doccano, &project(task.clone()), &[]).unwrap_err(), read(Doccano, &task, "{}").unwrap_err()]
        {
            assert!(error.contains(task.word()) && error.contains("hone, label-studio and argilla"), "{error}");
        }
    }
    let task = Task::Span { labels: labels() };
    for bad in [span(3, 0, 1), span(0, 0, 12), span(0, 5, u32::MAX), span(0, 4, 4)] {
        let labels = vec![label(0, "ada", 7, LabelValue::Spans(vec![bad]))];
        for format in [LabelStudio, Argilla, Doccano] {
            let rows = [Labelled { row: chat(), labels: labels.clone(), suggestion: None }];
            let error = write(format, &project(task.clone()), &rows).unwrap_err();
            assert!(error.starts_with("row 7: "), "{format:?} {error}");
        }
    }
}

#[test]
fn label_studios_own_files_are_read() {
    let task = Task::Choice { labels: labels() };
    let one = |by: &str, label: &str, at: &str| {
        format!(
            r#"{{"id":1,"completed_by":{by},"updated_at":"{at}","lead_time":7.39,"was_cancelled":false,
            "draft_created_at":null,"result":[{{"id":"x","from_name":"sentiment","to_name":"text","type":"choices",
            "value":{{"choices":["{label}"]}}}}]}}"#
        )
    };
    let text = format!(
        r#"[{{"id":7,"data":{{"text":"x"}},"meta":{{}},"drafts":[],"annotations":[{},{},{}],
        "predictions":[{{"model_version":null,"score":null,"result":[]}}]}},{{"id":8,"data":{{}}}}]"#,
        one("1", "Good & well", "2026-01-02"),
        one("1", "bad", "2026-01-01"),
        one(r#"{"id":3,"email":"Ada@Example.com"}"#, "bad", ""),
    );
    let found = read(LabelStudio, &task, &text).unwrap();
    let said = |read: &Read| (read.person.clone(), read.decision.value.clone(), read.decision.spent_ms);
    let expected = [("ada-example.com", "bad"), ("user-1", "good")].map(|(p, l)| (p.to_owned(), names(&[l]), 7390));
    assert_eq!(found.decisions.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!((found.without, found.suggestions.len()), (1, 0));

    let task = Task::Span { labels: labels() };
    let spans = |start: u32, end: u32, to: &str, said: &str| {
        let text = format!(
            r#"[{{"id":7,"data":{{"text":"Ada 🚀 met Bob"}},"annotations":[{{"result":[{{
            "type":"labels","to_name":"{to}",
            "value":{{"start":{start},"end":{end},{said}"labels":["good"]}}}}]}}]}}]"#
        );
        read(LabelStudio, &task, &text).map(|found| found.decisions[0].decision.value.clone())
    };
    let bob = LabelValue::Spans(vec![span(0, 10, 13)]);
    assert_eq!(spans(10, 13, "text", "").unwrap(), bob);
    assert_eq!(spans(10, 13, "other", r#""text":"Bob","#).unwrap(), bob);
    // Before code points were counted.
    assert_eq!(spans(11, 14, "text", r#""text":"Bob","#).unwrap(), bob);
    assert!(spans(11, 14, "text", "").unwrap_err().starts_with("item 1: annotations[0].result[0].value.end: "));

    let ranked = |buckets: &str| {
        let text = format!(
            r#"[{{"id":7,"data":{{}},"annotations":[{{"result":[
            {{"type":"ranker","value":{{"ranker":{buckets}}}}}]}}]}}]"#
        );
        read(LabelStudio, &Task::Rank, &text).map(|found| found.decisions[0].decision.value.clone())
    };
    assert_eq!(ranked(r#"{"rank":["answer_2","answer_1"]}"#).unwrap(), LabelValue::Ranks(vec![2, 1]));
    assert!(ranked(r#"{"1":["answer_2"],"_":["answer_1"]}"#).unwrap_err().contains("without a place"));
}

#[test]
fn argillas_own_files_are_read() {
    // As `Record.to_dict` writes it: no status, an order as a list of values.
    let text = r#"[{"id":"row-7","fields":{"text":"Ada 🚀 met Bob"},"metadata":{},"vectors":{},"status":"completed",
        "_server_id":null,"suggestions":{"rank":{"value":["answer_2","answer_1"],"score":[0.5,0.25],"agent":null}},
        "responses":{"rank":[{"value":["answer_1","answer_2"],"user_id":"3FA85f64-5717-b3fc"}]}}]"#;
    let found = read(Argilla, &Task::Rank, text).unwrap();
    assert_eq!(found.decisions[0].person, "3fa85f64-5717-b3fc");
    assert_eq!(found.decisions[0].decision.value, LabelValue::Ranks(vec![1, 2]));
    let suggested = &found.suggestions[0];
    assert_eq!((suggested.probability, suggested.by.as_str()), (Some(0.25), NOBODY));
    // UTF-16 code units.
    let text = r#"{"id":7,"fields":{"text":"Ada 🚀 met Bob"},"responses":{"span":[{"user_id":"b",
        "value":[{"label":"good","start":11,"end":14}]}],"done":[{"user_id":"b","value":"yes"}]}}"#;
    let task = Task::Span { labels: labels() };
    let found = read(Argilla, &task, &text.replace('\n', " ")).unwrap();
    assert_eq!(found.decisions[0].decision.value, LabelValue::Spans(vec![span(0, 10, 13)]));
}

#[test]
fn doccanos_own_files_are_read() {
    let task = Task::Span { labels: labels() };
    let text = "{\"id\":7,\"text\":\"Ada 🚀 met Bob\",\"label\":[[11,14,\"good\"]],\"Comments\":[]}\n\n\
        {\"id\":8,\"text\":\"x\",\"entities\":[{\"label\":\"good\",\"start_offset\":0,\"end_offset\":1}]}\n\
        {\"id\":9,\"text\":\"x\",\"label\":[]}\n";
    let found = read(Doccano, &task, text).unwrap();
    assert_eq!(found.decisions[0].decision.value, LabelValue::Spans(vec![span(0, 10, 13)]));
    assert_eq!(found.decisions[1].decision.value, LabelValue::Spans(vec![span(0, 0, 1)]));
    assert_eq!((found.decisions.len(), found.without), (2, 1));
}

/// A format, a task, a file with `\\n` for line ends, and below it what is said of it.
const HOSTILE: &str = r#"
hone choice {"row_id":NaN}
line 1: column 11: it is no JSON
hone choice null
line 1: it must be an object
hone choice {"row_id":1e999}
line 1: column
hone choice {"row_id":-1}
line 1: id: it must be the number of a row
hone choice {"row_id":18446744073709551616}
line 1: id:
hone choice {"row_id":1}\n{"row_id":1}
line 2: id: row 1 is there twice
hone choice {"row_id":1,"labels":[{"value":{"labels":["x"]}}]}
line 1: labels[0].label: "x" is no label
hone choice {"row_id":1,"labels":[{"value":{"points":3}}]}
line 1: labels[0].value: this is no answer
hone choice {"row_id":1,"labels":[{"value":7}]}
line 1: labels[0].value:
hone choice {"row_id":1,"labels":[{"value":"skip"},{"value":"skip"}]}
line 1: person: imported decided row 1 twice
hone choice {"row_id":1,"labels":[{"value":"skip","how":"guess"}]}
line 1: labels[0].how:
hone choice {"row_id":1,"labels":{}}
line 1: labels: it must be a list
hone choice {"row_id":1,"labels":[3]}
line 1: labels[0].value:
hone choice {"row_id":1,"suggestion":{"value":"skip","probability":1.5}}
line 1: suggestion.probability:
label-studio choice [{"id":7},
line 1: column 10: it is no JSON
label-studio choice [1]
item 1: it must be an object
label-studio choice [{"id":7}]
item 1: data: it must be an object
label-studio choice [{"data":{"hone_row_id":"x"}}]
item 1: id:
label-studio choice [{"id":7,"data":{},"annotations":[{"result":{}}]}]
item 1: annotations[0].result: it must be a list
label-studio choice [{"id":7,"data":{},"annotations":[{"result":[3]}]}]
item 1: annotations[0].result[0].type:
label-studio choice [{"id":7,"data":{},"annotations":[{"result":[{"type":"choices","value":{}}]}]}]
item 1: annotations[0].result[0].value.choices: it must be a list of texts
label-studio choice [{"id":7,"data":{},"annotations":[{"result":[{"type":"choices","value":{"choices":["x"]}}]}]}]
item 1: annotations[0].result.label: "x" is no label
label-studio several [{"id":7,"data":{},"annotations":[{"was_cancelled":1}]}]
item 1: annotations[0].was_cancelled:
label-studio several [{"id":7,"data":{},"annotations":[{"lead_time":-1}]}]
item 1: annotations[0].lead_time:
label-studio several [{"id":7,"data":{},"annotations":[{"lead_time":1e300}]}]
item 1: annotations[0].lead_time:
label-studio several [{"id":7,"data":{},"annotations":[{"completed_by":[]}]}]
item 1: annotations[0].completed_by:
label-studio several [{"id":7,"data":{}},{"id":7,"data":{}}]
item 2: id: row 7 is there twice
label-studio several [{"id":7,"data":{},"predictions":[{"score":7}]}]
item 1: predictions[0].score: it must be between 0 and 1
label-studio span [{"id":7,"data":{"text":"ab"},"annotations":[{"result":[SPAN(0,3)]}]}]
item 1: annotations[0].result[0].value.end: it must be a place within the text
label-studio span [{"id":7,"data":{"text":"ab"},"annotations":[{"result":[SPAN(1,1)]}]}]
item 1: annotations[0].result[0].value.end: it must be behind the start
label-studio span [{"id":7,"data":{"text":"ab"},"annotations":[{"result":[SPAN(-1,1)]}]}]
item 1: annotations[0].result[0].value.start:
label-studio span [{"id":7,"data":{"text":"ab"},"annotations":[{"result":[SPAN(0,18446744073709551615)]}]}]
item 1: annotations[0].result[0].value.end:
label-studio span [{"id":7,"data":{"text":"ab","hone_parts":[[0,1],[1,2]]},"annotations":[{"result":[SPAN(0,2)]}]}]
item 1: annotations[0].result[0].value.end: it must be behind the start, in the same message
label-studio span [{"id":7,"data":{"text":"ab","hone_parts":[[2,1]]},"annotations":[{"result":[SPAN(0,2)]}]}]
item 1: annotations[0].result[0].hone_parts:
label-studio span [{"id":7,"data":{},"annotations":[{"result":[SPAN(0,1)]}]}]
item 1: annotations[0].result[0].to_name:
label-studio span [{"id":7,"data":{},"annotations":[{"result":[{"type":"hypertextlabels"}]}]}]
item 1: annotations[0].result[0].type:
argilla choice [{"id":"row-7","responses":[]}]
item 1: responses: it must be an object
argilla choice [{"id":"row-7","responses":{"label":{}}}]
item 1: responses.label: it must be a list
argilla choice [{"id":"row-7","responses":{"label":[{"value":3}]}}]
item 1: responses.label: it must be a text
argilla choice [{"id":"row-7","responses":{"label":[{"value":"x"}]}}]
item 1: responses.label: "x" is no label
argilla choice [{"id":"row-7","responses":{"label":[{"value":"good"},{"value":"bad"}]}}]
item 1: responses.label: imported answered twice
argilla choice [{"id":"row-7","responses":{"a":[{"value":"good"}],"b":[{"value":"bad"}]}}]
item 1: responses.label: there is no question of that name; there is a, b
argilla choice [{"id":"row-7","responses":{"label":[{"value":"good"}]},"metadata":{"hone_note":3}}]
item 1: metadata.hone_note:
argilla choice [{"id":"5d0c"}]
item 1: id:
argilla rank [{"id":7,"responses":{"rank":[{"value":["answer_1","answer_1"]}]}}]
item 1: responses.rank:
argilla rank [{"id":7,"responses":{"rank":[{"value":["answer_0","answer_1"]}]}}]
item 1: responses.rank:
argilla rating [{"id":7,"responses":{"rating":[{"value":4294967296}]}}]
item 1: responses.rating: it must be a whole number
argilla rating [{"id":7,"responses":{"rating":[{"value":6}]}}]
item 1: responses.value: 6 points; it must be 1 to 5
doccano choice {"id":2,"text":"a","label":"good"}
line 1: label: it must be a list
doccano choice {"id":1,"text":"a"}\n\n{"id":2,"text":"a","label":[3]}
line 3: label: it must be a list of texts
doccano choice {"id":2,"text":"a","label":["x"]}
line 1: label: "x" is no label
doccano span {"id":2,"text":"a🚀","label":[[0,2,"good"]]}
line 1: label[0].end_offset: it must be a place within the text, between two characters
doccano span {"id":2,"text":"a🚀","label":[[0,4,"good"]]}
line 1: label[0].end_offset:
doccano span {"id":2,"text":"a🚀","label":[[0,1,"x"]]}
line 1: label[0].label: "x" is no label
doccano span {"id":2,"text":"a🚀","label":[[0,1]]}
line 1: label[0].label:
doccano span {"id":2,"text":"a🚀","label":[[0,1,"good"]],"hone_parts":[[0,3]]}
line 1: hone_parts:
doccano edit {"id":2,"text":"a","label":["a","b"]}
line 1: label: it must be a list of one text
doccano edit {"id":2,"text":"a","label":[" "]}
line 1: value: the text
"#;

#[test]
fn hostile_files_are_refused_with_the_item_and_the_field() {
    let tasks: Vec<Task> = cases().into_iter().map(|(task, ..)| task).collect();
    let refused = |format: LabelFormat, task: &Task, text: &str, expected: &str| {
        let error = read(format, task, text).expect_err(text);
        assert!(error.contains(expected), "{format:?}: {text}\n{error}\n{expected}");
    };
    let lines: Vec<&str> = HOSTILE.lines().filter(|line| !line.is_empty()).collect();
    for case in lines.chunks(2) {
        let [format, kind, text]: [&str; 3] = Vec::from_iter(case[0].splitn(3, ' ')).try_into().unwrap();
        let format = LabelFormat::ALL.into_iter().find(|known| known.word() == format).unwrap();
        let task = tasks.iter().find(|task| task.word() == kind).unwrap();
        let span = r#"{"type":"labels","to_name":"text","value":{"labels":["good"],"start":"#;
        let (mut text, mut left) = (String::new(), text.replace("\\n", "\n"));
        while let Some((before, (place, after))) =
            left.split_once("SPAN(").and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
        {
            let (start, end) = place.split_once(',').unwrap();
            text += &format!("{before}{span}{start},\"end\":{end}}}}}");
            left = after.to_owned();
        }
        refused(format, task, &(text + &left), case[1]);
    }
    for format in LabelFormat::ALL {
        refused(format, &tasks[0], "", "the file is empty");
        refused(format, &tasks[0], "\u{feff} \n", "the file is empty");
        refused(format, &tasks[0], "[[]]", "item 1: it must be an object");
        refused(format, &tasks[0], &("[".repeat(9_000) + &"]".repeat(9_000)), "item 1: ");
    }
}

#[test]
fn persons_become_names() {
    for (text, name) in [
        ("Ada@Example.com", "ada-example.com"),
        ("_Ada Lovelace", "ada-lovelace"),
        ("名", NOBODY),
        ("", NOBODY),
        ("a_b-c.d", "a_b-c.d"),
    ] {
        assert_eq!(person_of(text), name, "{text:?}");
    }
    assert_eq!(person_of(&"x".repeat(100)).len(), 64);
}

#[test]
fn tools_are_set_up_for_each_task() {
    for (task, ..) in cases() {
        let project = project(task.clone());
        let interface = config(LabelStudio, &project).unwrap();
        assert!(interface.contains("Is it &quot;good&quot; &amp; &lt;kind&gt;?") && !interface.contains("{{{"));
        let settings: Value = serde_json::from_str(&config(Argilla, &project).unwrap()).unwrap();
        assert_eq!(settings["guidelines"], "Be fair.");
        assert_eq!(settings["distribution"]["min_submitted"], 2);
        assert!(settings["questions"].as_array().unwrap().iter().any(|q| q["name"] == argilla_question(&task)));
        assert!(config(Hone, &project).is_none() && config(Doccano, &project).is_none());
    }
}
