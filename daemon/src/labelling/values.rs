//! Whether a project makes sense, and whether a decision fits its task and its row. Never here: who may decide which row (`desk.rs`).

use hone_protocol::dataset::{Row, Shape};
use hone_protocol::failure::{Failure, HintCode};
use hone_protocol::labelling::{
    Decision, EDIT_BYTES_MAX, GUIDE_BYTES_MAX, LABELS_MAX, LabelName, LabelValue, PERSONS_MAX, ProjectSpec, RATING_MAX,
    REASONS_MAX, REMARK_BYTES_MAX, REPEAT_PERCENT_MAX, SPANS_MAX, Span, TITLE_CHARS_MAX, Task, answers,
};
use hone_protocol::paths::is_name;

/// Longest look at a row in milliseconds: a day.
const SPENT_MS_MAX: u64 = 24 * 3600 * 1000;

/// Refuses a project that cannot work.
pub(crate) fn check_spec(spec: &ProjectSpec, shape: Shape) -> Result<(), Failure> {
    for (field, text) in [("title", &spec.title), ("question", &spec.question)] {
        line(field, text)?;
    }
    if spec.guide.len() > GUIDE_BYTES_MAX {
        let message = format!("the guide has {} bytes; at most {GUIDE_BYTES_MAX} are kept", spec.guide.len());
        return Err(Failure::field("guide", message));
    }
    if !(1..=PERSONS_MAX).contains(&spec.persons) {
        return Err(Failure::field("persons", format!("persons must be between 1 and {PERSONS_MAX}")));
    }
    if spec.repeat_percent > REPEAT_PERCENT_MAX {
        let message = format!("repeat_percent must be between 0 and {REPEAT_PERCENT_MAX}");
        return Err(Failure::field("repeat_percent", message));
    }
    let unfit = |wants: &str| {
        let message = format!("{} needs {wants}, {} holds {} rows", spec.task.word(), spec.dataset, shape.word());
        Err(Failure::field("task", message).hint(HintCode::CorrectField))
    };
    match &spec.task {
        Task::Choice { labels } => check_labels(labels, 2),
        Task::Several { labels } | Task::Span { labels } => check_labels(labels, 1),
        Task::Pair { reasons } => {
            if reasons.len() > REASONS_MAX {
                return Err(Failure::field("task.reasons", format!("at most {REASONS_MAX} reasons have a key")));
            }
            reasons.iter().try_for_each(|reason| line("task.reasons", reason))?;
            if shape == Shape::Preference { Ok(()) } else { unfit("preference rows: a prompt with two answers") }
        }
        Task::Rank if shape == Shape::Text => unfit("rows with several answers"),
        Task::Rank => Ok(()),
        Task::Rating { scale } if !(2..=RATING_MAX).contains(scale) => {
            Err(Failure::field("task.scale", format!("scale must be between 2 and {RATING_MAX}")))
        }
        Task::Rating { .. } => Ok(()),
        Task::Edit if shape == Shape::Preference => unfit("rows with one answer"),
        Task::Edit => Ok(()),
    }
}

fn line(field: &str, text: &str) -> Result<(), Failure> {
    let chars = text.chars().count();
    if chars > TITLE_CHARS_MAX || text.chars().any(char::is_control) {
        let message = format!("{field} has {chars} characters; at most {TITLE_CHARS_MAX} on one line are kept");
        return Err(Failure::field(field, message));
    }
    Ok(())
}

fn check_labels(labels: &[LabelName], least: usize) -> Result<(), Failure> {
    if !(least..=LABELS_MAX).contains(&labels.len()) {
        let message = format!("{} labels; it must be {least} to {LABELS_MAX}", labels.len());
        return Err(Failure::field("task.labels", message));
    }
    for (at, label) in labels.iter().enumerate() {
        if !is_name(&label.name) {
            let message = format!("{:?} cannot be a label: use 1 to 64 of a-z 0-9 . _ -", label.name);
            return Err(Failure::field("task.labels", message).hint(HintCode::ChooseAnotherName));
        }
        if labels[..at].iter().any(|before| before.name == label.name) {
            return Err(Failure::field("task.labels", format!("the label {} stands twice", label.name)));
        }
        line("task.labels", &label.title)?;
    }
    Ok(())
}

/// Refuses a change of a project that would make its labels mean something else.
pub(crate) fn check_change(before: &ProjectSpec, after: &ProjectSpec) -> Result<(), Failure> {
    let fixed = |field: &str, what: &str| {
        let message = format!("{what} of a project cannot change, because its labels are of it; make another project");
        Err(Failure::field(field, message).hint(HintCode::ChooseAnotherName))
    };
    if before.dataset != after.dataset {
        return fixed("dataset", "the dataset");
    }
    if before.seed != after.seed || before.rows_max != after.rows_max {
        return fixed("rows_max", "the rows");
    }
    let same = match (&before.task, &after.task) {
        (Task::Rating { scale: before }, Task::Rating { scale: after }) => before == after,
        (before, after) => before.word() == after.word(),
    };
    if !same {
        return fixed("task", "the task");
    }
    match before.task.labels().iter().find(|label| after.task.label(&label.name).is_none()) {
        Some(gone) => {
            let message = format!("the label {} cannot go, because rows may have it; change its title", gone.name);
            Err(Failure::field("task.labels", message))
        }
        None => Ok(()),
    }
}

/// Refuses a decision that does not fit its task. `at` is its index in the request.
pub(crate) fn check(task: &Task, decision: &Decision, at: usize) -> Result<(), Failure> {
    let field = |name: &str, message: String| {
        Failure::field(&format!("decisions[{at}].{name}"), format!("row {}: {message}", decision.row_id))
    };
    for (name, text) in [("note", &decision.note), ("flag", &decision.flag)] {
        if text.len() > REMARK_BYTES_MAX {
            return Err(field(name, format!("the {name} has {} bytes; at most {REMARK_BYTES_MAX}", text.len())));
        }
    }
    if decision.spent_ms > SPENT_MS_MAX {
        return Err(field("spent_ms", format!("nobody looks at a row for {} ms", decision.spent_ms)));
    }
    value(task, &decision.value).map_err(|message| field("value", message))
}

/// Why a value does not fit a task, if so.
pub(crate) fn value(task: &Task, value: &LabelValue) -> Result<(), String> {
    let known = |name: &String| match task.label(name) {
        Some(_) => Ok(()),
        None => {
            let names: Vec<&str> = task.labels().iter().map(|label| label.name.as_str()).collect();
            Err(format!("{name:?} is no label of the project; there is {}", names.join(", ")))
        }
    };
    match (task, value) {
        (_, LabelValue::Skip) => Ok(()),
        (Task::Choice { .. }, LabelValue::Labels(names)) if names.len() != 1 => {
            Err(format!("{} labels were chosen; a choice is one", names.len()))
        }
        (Task::Choice { .. } | Task::Several { .. }, LabelValue::Labels(names)) => names.iter().try_for_each(known),
        (Task::Span { .. }, LabelValue::Spans(spans)) if spans.len() > SPANS_MAX => {
            Err(format!("{} spans; at most {SPANS_MAX} are kept", spans.len()))
        }
        (Task::Span { .. }, LabelValue::Spans(spans)) => spans.iter().try_for_each(|span| {
            known(&span.label)?;
            if span.start < span.end { Ok(()) } else { Err(format!("the span {} is empty", shown(span))) }
        }),
        (Task::Pair { reasons }, LabelValue::Pair { reason, .. }) => {
            match reason.is_empty() || reasons.contains(reason) {
                true => Ok(()),
                false => Err(format!("{reason:?} is no reason of the project")),
            }
        }
        (Task::Rank, LabelValue::Ranks(ranks)) => {
            let fits = !ranks.is_empty() && ranks.iter().all(|place| (1..=ranks.len() as u32).contains(place));
            if fits { Ok(()) } else { Err("places must be between 1 and the number of answers".to_owned()) }
        }
        (Task::Rating { scale }, LabelValue::Points(points)) => match (1..=*scale).contains(points) {
            true => Ok(()),
            false => Err(format!("{points} points; it must be 1 to {scale}")),
        },
        (Task::Edit, LabelValue::Text(text)) if text.trim().is_empty() => Err("the text is empty".to_owned()),
        (Task::Edit, LabelValue::Text(text)) if text.len() > EDIT_BYTES_MAX => {
            Err(format!("the text has {} bytes; at most {EDIT_BYTES_MAX}", text.len()))
        }
        (Task::Edit, LabelValue::Text(_)) => Ok(()),
        (task, _) => Err(format!("this is no answer to a task of kind {}", task.word())),
    }
}

fn shown(span: &Span) -> String {
    format!("{}..{} of message {}", span.start, span.end, span.message)
}

/// Whether a value can only be checked with its row at hand.
pub(crate) fn needs_row(value: &LabelValue) -> bool {
    matches!(value, LabelValue::Spans(spans) if !spans.is_empty()) || matches!(value, LabelValue::Ranks(_))
}

/// Refuses a decision that does not fit its row.
pub(crate) fn check_row(decision: &Decision, row: &Row, at: usize) -> Result<(), Failure> {
    let fault = |message: String| {
        Err(Failure::field(&format!("decisions[{at}].value"), format!("row {}: {message}", decision.row_id)))
    };
    match &decision.value {
        LabelValue::Spans(spans) => {
            for span in spans {
                let Some(message) = row.messages.get(span.message as usize) else {
                    return fault(format!("the row has {} messages, the span is {}", row.messages.len(), shown(span)));
                };
                let chars = message.content.chars().count();
                if span.end as usize > chars {
                    return fault(format!("the message has {chars} characters, the span is {}", shown(span)));
                }
            }
            Ok(())
        }
        LabelValue::Ranks(ranks) => {
            let there = answers(row.original.as_str(), &row.messages).len();
            if ranks.len() == there && there > 1 {
                return Ok(());
            }
            fault(format!("{} places for {there} answers", ranks.len()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED};
    use hone_protocol::labelling::{How, PairAnswer};
    use hone_protocol::value::{Hash, JsonText};

    use super::*;
    use crate::labelling::sample_spec;

    fn labels(names: &[&str]) -> Vec<LabelName> {
        names.iter().map(|name| LabelName { name: (*name).into(), title: String::new(), keep: true }).collect()
    }

    fn spec(task: Task) -> ProjectSpec {
        ProjectSpec { repeat_percent: 5, ..sample_spec(task) }
    }

    #[test]
    fn projects_that_cannot_work_are_refused_by_field() {
        let place = |spec: &ProjectSpec, shape| check_spec(spec, shape).unwrap_err().place;
        assert!(check_spec(&spec(Task::Choice { labels: labels(&["a", "b"]) }), Shape::Chat).is_ok());
        assert_eq!(place(&spec(Task::Choice { labels: labels(&["a"]) }), Shape::Chat), "task.labels");
        assert_eq!(place(&spec(Task::Several { labels: labels(&["a", "a"]) }), Shape::Chat), "task.labels");
        assert_eq!(place(&spec(Task::Span { labels: labels(&["A b"]) }), Shape::Text), "task.labels");
        assert_eq!(place(&spec(Task::Pair { reasons: Vec::new() }), Shape::Chat), "task");
        assert!(check_spec(&spec(Task::Pair { reasons: Vec::new() }), Shape::Preference).is_ok());
        assert_eq!(place(&spec(Task::Rating { scale: 11 }), Shape::Chat), "task.scale");
        assert_eq!(place(&ProjectSpec { persons: 0, ..spec(Task::Edit) }, Shape::Chat), "persons");
        assert_eq!(place(&ProjectSpec { repeat_percent: 51, ..spec(Task::Edit) }, Shape::Chat), "repeat_percent");
        assert_eq!(place(&ProjectSpec { question: "a\nb".into(), ..spec(Task::Edit) }, Shape::Chat), "question");
        let (two, three) =
            (Task::Choice { labels: labels(&["a", "b"]) }, Task::Choice { labels: labels(&["b", "a", "c"]) });
        assert!(check_change(&spec(two.clone()), &spec(three.clone())).is_ok());
        assert!(check_change(&spec(three), &spec(two.clone())).is_err());
        assert!(check_change(&spec(two), &spec(Task::Edit)).is_err());
    }

    #[test]
    fn values_fit_their_task_or_are_refused() {
        let task = Task::Choice { labels: labels(&["a", "b"]) };
        let of = |names: &[&str]| LabelValue::Labels(names.iter().map(|name| (*name).to_owned()).collect());
        assert!(value(&task, &of(&["a"])).is_ok() && value(&task, &LabelValue::Skip).is_ok());
        assert!(value(&task, &of(&[])).is_err() && value(&task, &of(&["a", "b"])).is_err());
        assert!(value(&task, &of(&["c"])).unwrap_err().contains("there is a, b"));
        assert!(value(&task, &LabelValue::Points(1)).is_err());
        let several = Task::Several { labels: labels(&["a", "b"]) };
        assert!(value(&several, &of(&[])).is_ok() && value(&several, &of(&["b", "a"])).is_ok());
        assert!(value(&Task::Rating { scale: 5 }, &LabelValue::Points(6)).is_err());
        assert!(value(&Task::Rank, &LabelValue::Ranks(vec![1, 3])).is_err());
        assert!(value(&Task::Rank, &LabelValue::Ranks(vec![1, 1])).is_ok());
        assert!(value(&Task::Edit, &LabelValue::Text(" ".into())).is_err());
        let pair = LabelValue::Pair { answer: PairAnswer::First, reason: "tone".into(), is_swapped: false };
        assert!(value(&Task::Pair { reasons: vec!["tone".into()] }, &pair).is_ok());
        assert!(value(&Task::Pair { reasons: Vec::new() }, &pair).is_err());
    }

    #[test]
    fn spans_and_places_fit_their_row_or_are_refused_with_its_number() {
        let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
        let row = |messages, original: &str| Row {
            row_id: 3,
            messages,
            content_sha256: Hash([0; 32]),
            original: JsonText::new(original),
        };
        let text = row(vec![message("text", "王小明在家")], "{}");
        let decide =
            |value| Decision { row_id: 3, value, flag: String::new(), note: String::new(), spent_ms: 0, how: How::Own };
        let span =
            |message, start, end| decide(LabelValue::Spans(vec![Span { message, start, end, label: "name".into() }]));
        assert!(check_row(&span(0, 0, 3), &text, 0).is_ok() && check_row(&span(0, 3, 5), &text, 0).is_ok());
        let fault = check_row(&span(0, 3, 6), &text, 4).unwrap_err();
        assert_eq!(fault.place, "decisions[4].value");
        assert_eq!(fault.message_en, "row 3: the message has 5 characters, the span is 3..6 of message 0");
        assert!(check_row(&span(1, 0, 1), &text, 0).is_err());
        let pair = row(vec![message("user", "q"), message(CHOSEN, "a"), message(REJECTED, "b")], "{}");
        assert!(check_row(&decide(LabelValue::Ranks(vec![2, 1])), &pair, 0).is_ok());
        let three = row(pair.messages.clone(), r#"{"responses":["a","b","c"]}"#);
        assert!(check_row(&decide(LabelValue::Ranks(vec![2, 1])), &three, 0).is_err());
        assert!(check_row(&decide(LabelValue::Ranks(vec![2, 1, 2])), &three, 0).is_ok());
    }
}
