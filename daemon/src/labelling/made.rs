//! What rows become of labels: one word for each row, out of what persons said of it. Lives here: whose word counts, what is left out and
//! why. Never here: the rows themselves (a child writes them).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use hone_protocol::labelling::{
    How, LabelRecord, LabelValue, LabelledRow, PairAnswer, ProjectSpec, RowChange, Span, Suggestion, Task,
};
use hone_protocol::value::Json;
use serde_json::{Value, json};

/// What became of the rows that somebody said something of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Made {
    /// Rows that are written.
    pub(crate) rows: u64,
    /// Of them, those that nobody decided and a service was sure enough of.
    pub(crate) suggested: u64,
    /// Rows that persons disagree on.
    pub(crate) disputed: u64,
    /// Rows with a label that is not kept, and pairs of which neither answer is better.
    pub(crate) unkept: u64,
    /// Rows that were only skipped or flagged.
    pub(crate) open: u64,
    /// Who decided.
    pub(crate) persons: BTreeSet<String>,
}

impl Made {
    /// In words, for the report of the version.
    pub(crate) fn said(&self, project: &str) -> String {
        let names = self.persons.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut said = format!("labels of {project} by {}", if names.is_empty() { "nobody" } else { &names });
        for (count, what) in [
            (self.suggested, "as suggested"),
            (self.disputed, "disputed and left out"),
            (self.unkept, "not kept"),
            (self.open, "not decided"),
        ] {
            if count > 0 {
                said.push_str(&format!("; {count} {what}"));
            }
        }
        said
    }
}

/// What counts on one row.
struct Word<'l> {
    value: LabelValue,
    /// Those who said so.
    labels: Vec<&'l LabelRecord>,
    how: &'static str,
}

/// Writes a line for each row that has a word, by ascending row id. `labels` are in order.
pub(crate) fn write(
    spec: &ProjectSpec,
    labels: &[LabelRecord],
    suggestions: &[Suggestion],
    least_percent: Option<u32>,
    out: &mut impl Write,
) -> io::Result<Made> {
    let mut made = Made::default();
    let mut rows: BTreeMap<u64, Vec<&LabelRecord>> = BTreeMap::new();
    for label in labels.iter().filter(|label| label.taken_back_at_ms.is_none() && !label.is_repeat) {
        rows.entry(label.decision.row_id).or_default().push(label);
    }
    let sure = |suggestion: &&Suggestion| {
        least_percent.is_some_and(|least| suggestion.probability.is_some_and(|p| p * 100.0 >= least as f32))
    };
    let mut sure: BTreeMap<u64, &Suggestion> = suggestions.iter().filter(sure).map(|s| (s.row_id, s)).collect();
    let ids: BTreeSet<u64> = rows.keys().chain(sure.keys()).copied().collect();
    for row_id in ids {
        let said = rows.remove(&row_id).unwrap_or_default();
        let suggestion = sure.remove(&row_id);
        let (label, value) = match (word(&spec.task, &said), suggestion) {
            (Some(Some(word)), _) => {
                made.persons.extend(word.labels.iter().map(|label| label.person.clone()));
                (shown(&spec.task, &word), word.value)
            }
            (Some(None), _) => {
                made.disputed += 1;
                continue;
            }
            (None, Some(suggestion)) if said.is_empty() => {
                made.suggested += 1;
                let label = json!({
                    "value": value_of(&spec.task, &suggestion.value),
                    "how": "suggested",
                    "by": suggestion.by,
                    "probability": suggestion.probability,
                });
                (label, suggestion.value.clone())
            }
            (None, _) => {
                made.open += 1;
                continue;
            }
        };
        let Some(change) = change(&spec.task, &value) else {
            made.unkept += 1;
            made.suggested -= u64::from(label["how"] == "suggested");
            continue;
        };
        made.rows += 1;
        let line = LabelledRow { row_id, label: Json(label), change };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(made)
}

/// The word on a row: what was settled, else what most said; `Some(None)` where persons disagree, `None` where nobody decided.
fn word<'l>(task: &Task, said: &[&'l LabelRecord]) -> Option<Option<Word<'l>>> {
    if let Some(last) = said.iter().rfind(|label| label.decision.how == How::Final) {
        return Some(Some(Word { value: last.decision.value.clone(), labels: vec![last], how: "settled" }));
    }
    let mut newest: BTreeMap<&str, &LabelRecord> = BTreeMap::new();
    for label in said {
        newest.insert(&label.person, label);
    }
    let standing: Vec<&LabelRecord> = newest.into_values().filter(|label| !label.decision.value.is_skip()).collect();
    let first = standing.first()?;
    let values = || standing.iter().map(|label| &label.decision.value);
    match task {
        Task::Span { .. } => {
            let value = LabelValue::Spans(most_spans(values().collect()));
            Some(Some(Word { value, labels: standing, how: "decided" }))
        }
        Task::Rating { .. } => {
            let points: Vec<u32> =
                values().filter_map(|value| if let LabelValue::Points(p) = value { Some(*p) } else { None }).collect();
            let mean = f64::from(points.iter().sum::<u32>()) / points.len().max(1) as f64;
            Some(Some(Word { value: LabelValue::Points(mean.round() as u32), labels: standing, how: "decided" }))
        }
        _ => {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            values().for_each(|value| *counts.entry(value.key()).or_default() += 1);
            let most = counts.values().max().copied().unwrap_or(0);
            if counts.values().filter(|count| **count == most).count() > 1 {
                return Some(None);
            }
            let key = counts.into_iter().find(|(_, count)| *count == most).map_or(String::new(), |(key, _)| key);
            let agreed = |label: &&LabelRecord| label.decision.value.key() == key;
            let value = standing.iter().find(|label| agreed(label)).unwrap_or(first).decision.value.clone();
            let labels = standing.into_iter().filter(agreed).collect();
            Some(Some(Word { value, labels, how: "decided" }))
        }
    }
}

/// Spans that more than half of the persons marked.
fn most_spans(values: Vec<&LabelValue>) -> Vec<Span> {
    let mut counts: BTreeMap<&Span, usize> = BTreeMap::new();
    for value in &values {
        if let LabelValue::Spans(spans) = value {
            let spans: BTreeSet<&Span> = spans.iter().collect();
            spans.into_iter().for_each(|span| *counts.entry(span).or_default() += 1);
        }
    }
    counts.into_iter().filter(|(_, count)| count * 2 > values.len()).map(|(span, _)| span.clone()).collect()
}

/// A value as it stands in a row.
fn value_of(task: &Task, value: &LabelValue) -> Value {
    match value {
        LabelValue::Skip => Value::Null,
        LabelValue::Labels(names) => match (task, names.as_slice()) {
            (Task::Choice { .. }, [name]) => json!(name),
            _ => json!(names),
        },
        LabelValue::Spans(spans) => json!(spans),
        LabelValue::Pair { answer, .. } => json!(answer.word()),
        LabelValue::Ranks(ranks) => json!(ranks),
        LabelValue::Points(points) => json!(points),
        LabelValue::Text(_) => json!("edited"),
    }
}

/// A word as it stands in a row: the value, by whom, when, and what was written beside it.
fn shown(task: &Task, word: &Word<'_>) -> Value {
    let mut label = json!({
        "value": value_of(task, &word.value),
        "how": word.how,
        "persons": word.labels.iter().map(|label| label.person.as_str()).collect::<Vec<_>>(),
        "at_ms": word.labels.iter().map(|label| label.at_ms).max(),
    });
    let notes: Vec<&str> =
        word.labels.iter().map(|l| l.decision.note.as_str()).filter(|note| !note.is_empty()).collect();
    if !notes.is_empty() {
        label["note"] = json!(notes.join("\n"));
    }
    if let LabelValue::Pair { reason, .. } = &word.value
        && !reason.is_empty()
    {
        label["reason"] = json!(reason);
    }
    label
}

/// What becomes of the row's messages; none where the row is not kept.
fn change(task: &Task, value: &LabelValue) -> Option<RowChange> {
    let keeps = |name: &str| task.label(name).is_none_or(|label| label.keep);
    match value {
        LabelValue::Skip => None,
        LabelValue::Labels(names) => names.iter().all(|name| keeps(name)).then_some(RowChange::None),
        LabelValue::Spans(spans) => spans.iter().all(|span| keeps(&span.label)).then_some(RowChange::None),
        LabelValue::Pair { answer, .. } => match answer {
            PairAnswer::FirstMuch | PairAnswer::First => Some(RowChange::None),
            PairAnswer::Second | PairAnswer::SecondMuch => Some(RowChange::Swap),
            PairAnswer::Same | PairAnswer::BothBad => None,
        },
        LabelValue::Ranks(ranks) => {
            let places = (0..ranks.len()).flat_map(|one| (0..ranks.len()).map(move |other| (one, other)));
            let better = places.filter(|(one, other)| ranks[*one] < ranks[*other]);
            let pairs: Vec<(u32, u32)> = better.map(|(one, other)| (one as u32, other as u32)).collect();
            (!pairs.is_empty()).then_some(RowChange::Pairs(pairs))
        }
        LabelValue::Points(_) => Some(RowChange::None),
        LabelValue::Text(text) => Some(RowChange::Last(text.clone())),
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::labelling::{Decision, LabelName};

    use super::*;
    use crate::labelling::sample_spec;

    fn spec(task: Task) -> ProjectSpec {
        ProjectSpec { persons: 2, ..sample_spec(task) }
    }

    fn label(seq: u64, person: &str, row_id: u64, value: LabelValue, how: How) -> LabelRecord {
        let decision = Decision { row_id, value, flag: String::new(), note: String::new(), spent_ms: 1, how };
        LabelRecord {
            seq,
            group: seq,
            person: person.into(),
            at_ms: seq as i64,
            decision,
            is_repeat: false,
            as_suggested: None,
            taken_back_at_ms: None,
        }
    }

    fn made(spec: &ProjectSpec, labels: &[LabelRecord], suggestions: &[Suggestion]) -> (Made, Vec<LabelledRow>) {
        let mut out = Vec::new();
        let made = write(spec, labels, suggestions, Some(90), &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap();
        (made, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn word(name: &str) -> LabelValue {
        LabelValue::Labels(vec![name.into()])
    }

    #[test]
    fn most_decide_a_settled_row_stands_above_and_what_is_open_is_counted() {
        let name = |name: &str, keep| LabelName { name: name.into(), title: String::new(), keep };
        let spec = spec(Task::Choice { labels: vec![name("good", true), name("bad", false)] });
        let mut labels = vec![
            label(0, "ada", 1, word("good"), How::Own),
            label(1, "lin", 1, word("good"), How::Own),
            label(2, "ada", 2, word("good"), How::Own),
            label(3, "lin", 2, word("bad"), How::Own),
            label(4, "ada", 3, word("good"), How::Own),
            label(5, "lin", 3, word("bad"), How::Own),
            label(6, "mo", 3, word("good"), How::Final),
            label(7, "ada", 4, word("bad"), How::Own),
            label(8, "ada", 5, LabelValue::Skip, How::Own),
            label(9, "ada", 6, word("good"), How::Own),
            label(10, "ada", 6, word("bad"), How::Own),
            label(11, "ada", 7, word("good"), How::Own),
        ];
        labels[11].taken_back_at_ms = Some(1);
        let suggest = |row_id, name: &str, probability| Suggestion {
            row_id,
            value: word(name),
            probability: Some(probability),
            by: "desk".into(),
        };
        let suggestions = [
            suggest(1, "bad", 1.0),
            suggest(5, "good", 1.0),
            suggest(8, "good", 0.95),
            suggest(9, "good", 0.5),
            suggest(10, "bad", 1.0),
        ];
        let (said, lines) = made(&spec, &labels, &suggestions);
        let ids: Vec<u64> = lines.iter().map(|line| line.row_id).collect();
        assert_eq!(ids, [1, 3, 8]);
        assert_eq!(lines[0].label.0["persons"], json!(["ada", "lin"]));
        assert_eq!((&lines[1].label.0["how"], &lines[1].label.0["value"]), (&json!("settled"), &json!("good")));
        assert_eq!(lines[2].label.0["how"], "suggested");
        assert_eq!((said.rows, said.suggested, said.disputed, said.unkept, said.open), (3, 1, 1, 3, 1));
        assert_eq!(
            said.said("tone"),
            "labels of tone by ada, lin, mo; 1 as suggested; 1 disputed and left out; 3 not kept; 1 not decided"
        );
    }

    #[test]
    fn pairs_change_places_ranks_become_pairs_and_spans_are_those_of_most() {
        let pair = |answer| LabelValue::Pair { answer, reason: "tone".into(), is_swapped: true };
        let spec_of_pairs = spec(Task::Pair { reasons: vec!["tone".into()] });
        let labels = [
            label(0, "ada", 1, pair(PairAnswer::First), How::Own),
            label(1, "ada", 2, pair(PairAnswer::SecondMuch), How::Own),
            label(2, "ada", 3, pair(PairAnswer::BothBad), How::Own),
        ];
        let (said, lines) = made(&spec_of_pairs, &labels, &[]);
        assert_eq!((said.rows, said.unkept), (2, 1));
        assert_eq!((&lines[0].change, &lines[1].change), (&RowChange::None, &RowChange::Swap));
        assert_eq!(lines[1].label.0["reason"], "tone");
        let labels = [label(0, "ada", 1, LabelValue::Ranks(vec![2, 1, 2]), How::Own)];
        let (_, lines) = made(&spec(Task::Rank), &labels, &[]);
        assert_eq!(lines[0].change, RowChange::Pairs(vec![(1, 0), (1, 2)]));
        let span = |start, end| Span { message: 0, start, end, label: "name".into() };
        let spans = |all: &[Span]| LabelValue::Spans(all.to_vec());
        let labels = [
            label(0, "ada", 1, spans(&[span(0, 3), span(5, 9)]), How::Own),
            label(1, "lin", 1, spans(&[span(0, 3)]), How::Own),
        ];
        let names = vec![LabelName { name: "name".into(), title: String::new(), keep: true }];
        let (_, lines) = made(&spec(Task::Span { labels: names }), &labels, &[]);
        assert_eq!(lines[0].label.0["value"], json!([span(0, 3)]));
        let labels =
            [label(0, "ada", 1, LabelValue::Points(2), How::Own), label(1, "lin", 1, LabelValue::Points(5), How::Own)];
        let (_, lines) = made(&spec(Task::Rating { scale: 5 }), &labels, &[]);
        assert_eq!(lines[0].label.0["value"], 4);
    }

    #[test]
    fn an_edit_says_what_stands_there_now() {
        let labels = [label(0, "ada", 1, LabelValue::Text("better".into()), How::Own)];
        let (_, lines) = made(&spec(Task::Edit), &labels, &[]);
        assert_eq!(lines[0].change, RowChange::Last("better".into()));
    }
}
