//! Rows out of one or several versions into new files: a mixture by weight, or the parts of a split. Lives here: which row goes where, and
//! the line that it becomes. Never here: the layout of a segment, near duplicates themselves.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use hone_protocol::dataset::{CHOSEN, REJECTED, Row, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, PickSource, PickTask};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::segment::SegmentFile;
use super::window::check_segments;
use super::{Progress, unwritable};

/// Rows that are chosen from at most.
const ROWS_MAX: u64 = 20_000_000;
/// Fields of the formats that are imported: a row is written anew with them.
const OWN_FIELDS: [&str; 12] = [
    "messages",
    "conversations",
    "system",
    "instruction",
    "input",
    "output",
    "history",
    "prompt",
    "chosen",
    "rejected",
    "text",
    "parent",
];

/// Writes every chosen row to its file; says how many each has. Progress counts rows.
pub(super) fn pick(task: &PickTask, progress: Progress<'_>) -> Result<FromWorker, Failure> {
    let total: u64 = task.sources.iter().flat_map(|source| &source.segments).map(|segment| segment.rows).sum();
    if total > ROWS_MAX {
        let message = format!("the sources have {total} rows; at most {ROWS_MAX} are chosen from");
        return Err(Failure::new(FailureCode::LimitReached, message).hint(HintCode::CorrectField));
    }
    let mut files = Vec::new();
    for (path, _) in &task.parts {
        let path = Path::new(path);
        files.push((path, BufWriter::new(File::create(path).map_err(|error| unwritable(path, &error))?), 0));
    }
    // Rows that are the same but for case, signs and white space are of one group; a group is never divided.
    let mut groups: HashMap<[u8; 32], usize> = HashMap::new();
    let mut gone = 0;
    for (at, source) in task.sources.iter().enumerate() {
        check_segments(&source.segments)?;
        let threshold = threshold(task.seed, at, source);
        each_row(task, source, |row| {
            gone += 1;
            if gone % 256 == 0 {
                progress(gone, total);
            }
            if threshold.is_some_and(|threshold| rank(task.seed, at, row.row_id) > threshold) {
                return Ok(());
            }
            let part = match task.parts.len() {
                1 => 0,
                _ => *groups.entry(group(&row)).or_insert_with_key(|key| part_of(task, key)),
            };
            let Some((path, file, rows)) = files.get_mut(part) else { return Ok(()) };
            *rows += 1;
            writeln!(file, "{}", line(&row, &source.reference)).map_err(|error| unwritable(path, &error))
        })?;
    }
    let mut rows = Vec::new();
    for (path, mut file, written) in files {
        file.flush().map_err(|error| unwritable(path, &error))?;
        rows.push(written);
    }
    progress(total, total);
    Ok(FromWorker::Picked { rows })
}

fn each_row(
    task: &PickTask,
    source: &PickSource,
    mut with: impl FnMut(Row) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for segment in &source.segments {
        let file = SegmentFile::open(Path::new(&task.folder), segment)?;
        for block in 0..file.blocks() {
            let rows = file.read(block)?;
            for index in 0..rows.len() {
                with(rows.row(index).map_err(|reason| file.damaged(&reason))?)?;
            }
        }
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014) over seed, source and row.
fn rank(seed: u64, source: usize, row_id: u64) -> u64 {
    let mut z = seed
        .wrapping_add((source as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(row_id.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The rank up to which rows of a source are taken, so that it gives as many as it should; none for all of them.
fn threshold(seed: u64, at: usize, source: &PickSource) -> Option<u64> {
    let ids = source.segments.iter().flat_map(|s| s.first_row_id..s.first_row_id + s.rows);
    let mut ranks: Vec<u64> = ids.map(|id| rank(seed, at, id)).collect();
    let wanted = usize::try_from(source.rows).unwrap_or(usize::MAX);
    if wanted >= ranks.len() {
        return None;
    }
    let (_, last, _) = ranks.select_nth_unstable(wanted.checked_sub(1)?);
    Some(*last)
}

/// What makes rows near enough to stay together: their words.
fn group(row: &Row) -> [u8; 32] {
    let mut hash = Sha256::new();
    for message in row.messages.iter().filter(|message| message.role != "system") {
        let plain = message.content.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
        hash.update(plain.collect::<String>());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// The part of a group: by its hash and the seed, in the shares of the parts.
fn part_of(task: &PickTask, group: &[u8; 32]) -> usize {
    let [a, b, c, d, e, f, g, h, ..] = *group;
    let mut left = rank(task.seed, 0, u64::from_be_bytes([a, b, c, d, e, f, g, h])) % 100;
    for (at, (_, percent)) in task.parts.iter().enumerate() {
        match left.checked_sub(u64::from(*percent)) {
            Some(rest) => left = rest,
            None => return at,
        }
    }
    task.parts.len() - 1
}

/// A row as a line that can be imported: its messages, the fields that no format knows, and where it came from.
fn line(row: &Row, reference: &str) -> Value {
    let mut object = Map::new();
    match row.shape() {
        Shape::Text => {
            object.insert("text".into(), json!(row.messages.first().map(|message| &message.content)));
        }
        Shape::Preference => {
            let of = |role: &str| row.messages.iter().find(|message| message.role == role).map(|m| &m.content);
            let asked: Vec<_> = row.messages.iter().filter(|m| m.role != CHOSEN && m.role != REJECTED).collect();
            object.insert("prompt".into(), json!(asked));
            object.insert("chosen".into(), json!(of(CHOSEN)));
            object.insert("rejected".into(), json!(of(REJECTED)));
        }
        _ => {
            object.insert("messages".into(), json!(row.messages));
        }
    }
    if let Value::Object(original) = &row.original.0 {
        let more = original.iter().filter(|(key, _)| !OWN_FIELDS.contains(&key.as_str()));
        object.extend(more.map(|(key, value)| (key.clone(), value.clone())));
    }
    object.insert("parent".into(), json!({"dataset": reference, "row_id": row.row_id}));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::{ChatMessage, Segment};
    use hone_protocol::value::{Hash, Json};

    use super::*;

    fn row(row_id: u64, turns: &[(&str, &str)], original: Value) -> Row {
        let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
        let messages = turns.iter().map(message).collect();
        Row { row_id, messages, content_sha256: Hash([0; 32]), original: Json(original) }
    }

    fn source(rows: u64, wanted: u64) -> PickSource {
        let segment = Segment { sha256: Hash([1; 32]), size_bytes: 1, rows, first_row_id: 5 };
        PickSource { reference: "a@1".into(), segments: vec![segment], rows: wanted }
    }

    #[test]
    fn a_source_gives_exactly_what_it_should_and_always_the_same() {
        let taken = |seed, wanted| {
            let source = source(1000, wanted);
            let threshold = threshold(seed, 0, &source);
            (5..1005).filter(|id| threshold.is_none_or(|most| rank(seed, 0, *id) <= most)).collect::<Vec<u64>>()
        };
        for wanted in [1, 10, 999, 1000] {
            assert_eq!(taken(7, wanted).len() as u64, wanted);
        }
        assert_eq!(taken(7, 10), taken(7, 10));
        assert_ne!(taken(7, 10), taken(8, 10));
        let (few, more) = (taken(7, 10), taken(7, 20));
        assert!(few.iter().all(|id| more.contains(id)), "more rows are the same ones and others");
    }

    #[test]
    fn rows_that_differ_in_signs_only_are_never_divided_and_shares_are_kept() {
        let task = PickTask {
            sources: Vec::new(),
            folder: String::new(),
            seed: 3,
            parts: vec![("a".into(), 80), ("b".into(), 10), ("c".into(), 10)],
        };
        let same = [("user", "When do you open?"), ("assistant", "At nine.")];
        let near = [("user", "when do you OPEN"), ("assistant", "At nine")];
        assert_eq!(group(&row(1, &same, json!({}))), group(&row(2, &near, json!({}))));
        let mut counts = [0; 3];
        for number in 0..2000 {
            let question = format!("question {number}");
            counts[part_of(&task, &group(&row(number, &[("user", &question)], json!({}))))] += 1;
        }
        assert!((1530..1670).contains(&counts[0]) && counts[1] > 140 && counts[2] > 140, "{counts:?}");
    }

    #[test]
    fn lines_keep_what_no_format_knows_and_name_the_parent() {
        let original =
            json!({"instruction": "Hi", "output": "Hello", "label": "x", "generated": {"standard": "tone@1"}});
        let made = line(&row(3, &[("user", "Hi"), ("assistant", "Hello")], original), "a@1");
        assert_eq!(
            made,
            json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "label": "x",
                "generated": {"standard": "tone@1"}, "parent": {"dataset": "a@1", "row_id": 3}})
        );
        let pair = row(4, &[("user", "Hi"), (CHOSEN, "b"), (REJECTED, "c")], json!({}));
        let made = line(&pair, "a@1");
        assert_eq!(
            (&made["chosen"], &made["rejected"], &made["prompt"][0]["role"]),
            (&json!("b"), &json!("c"), &json!("user"))
        );
        assert_eq!(line(&row(5, &[("text", "words")], json!({})), "a@1")["text"], "words");
    }
}
