//! Rows out of one or several versions into new files: a mixture by weight, or the parts of a split. Lives here: which row goes where, and
//! the line that it becomes. Never here: the layout of a segment, what makes rows alike (see `near`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, PickSource, PickTask};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::near::{Near, THRESHOLD, root};
use super::steps::{Item, Rows, Source};
use super::{Progress, unwritable};

/// Rows that are chosen from at most.
const ROWS_MAX: u64 = 20_000_000;

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
    let sources: Vec<Source> = task
        .sources
        .iter()
        .map(|source| Source::open(Path::new(&task.folder), &source.segments, None))
        .collect::<Result<_, _>>()?;
    let parts = if task.parts.len() > 1 { parts(task, &sources)? } else { Vec::new() };
    let mut gone = 0;
    for (at, (source, wanted)) in sources.iter().zip(&task.sources).enumerate() {
        let threshold = threshold(task.seed, at, wanted);
        for chunk in 0..source.chunks() {
            for item in source.read(chunk)? {
                let part = parts.get(gone as usize).map_or(0, |part| usize::from(*part));
                gone += 1;
                if threshold.is_some_and(|threshold| rank(task.seed, at, item.row_id) > threshold) {
                    continue;
                }
                let Some((path, file, rows)) = files.get_mut(part) else { continue };
                *rows += 1;
                writeln!(file, "{}", line(&item, &wanted.reference)).map_err(|error| unwritable(path, &error))?;
            }
            progress(gone, total);
        }
    }
    let mut rows = Vec::new();
    for (path, mut file, written) in files {
        file.flush().map_err(|error| unwritable(path, &error))?;
        rows.push(written);
    }
    Ok(FromWorker::Picked { rows })
}

/// The part of each row, in order. Rows that are the same but for case, signs and white space, and near duplicates, are of one
/// group; a group is never divided.
fn parts(task: &PickTask, sources: &[Source]) -> Result<Vec<u8>, Failure> {
    let folder = Path::new(&task.parts[0].0).parent().unwrap_or(Path::new(""));
    let chunks = sources.iter().flat_map(|source| (0..source.chunks()).map(move |chunk| (source, chunk)));
    let texts = |(source, chunk): (&Source, usize)| {
        let items = source.texts(chunk)?;
        Ok(items.iter().map(|item| (words(item), said(item))).collect())
    };
    let mut keys: Vec<u64> = Vec::new();
    let alike = Near::new(THRESHOLD, folder).find_in(chunks, texts, |key| keys.push(key))?;
    let groups = united(alike.group, &keys);
    Ok(groups.iter().map(|first| part_of(task, keys[*first as usize])).collect())
}

/// Groups that also hold rows of one key together: for each row the first row of its group.
fn united(mut groups: Vec<u32>, keys: &[u64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_unstable_by_key(|row| (keys[*row as usize], *row));
    for pair in order.windows(2).filter(|pair| keys[pair[0] as usize] == keys[pair[1] as usize]) {
        let (one, two) = (root(&mut groups, pair[0]), root(&mut groups, pair[1]));
        groups[one.max(two) as usize] = one.min(two);
    }
    for row in 0..groups.len() as u32 {
        groups[row as usize] = root(&mut groups, row);
    }
    groups
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

/// What rows are compared by: all that is said in a row but the system's words, which many rows have in common.
fn said(item: &Item) -> String {
    let said = item.messages.iter().filter(|message| message.role != "system").map(|message| message.content.as_str());
    said.collect::<Vec<_>>().join("\n")
}

/// What rows have in common that differ in case, signs and white space only: a part of the hash of their words.
fn words(item: &Item) -> u64 {
    let mut hash = Sha256::new();
    for message in item.messages.iter().filter(|message| message.role != "system") {
        let plain = message.content.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
        hash.update(plain.collect::<String>());
        hash.update([0]);
    }
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The part of a group: by the key of its first row and the seed, in the shares of the parts.
fn part_of(task: &PickTask, key: u64) -> u8 {
    let mut left = rank(task.seed, 0, key) % 100;
    for (at, (_, percent)) in (0..).zip(&task.parts) {
        match left.checked_sub(u64::from(*percent)) {
            Some(rest) => left = rest,
            None => return at,
        }
    }
    task.parts.len() as u8 - 1
}

/// A row as a line that can be imported, and where it came from.
fn line(item: &Item, reference: &str) -> Value {
    let mut fields = item.rebuilt();
    fields.insert("parent".into(), json!({"dataset": reference, "row_id": item.row_id}));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::{CHOSEN, ChatMessage, EXPECTED, REJECTED, Segment};
    use hone_protocol::value::Hash;

    use super::*;

    fn row(row_id: u64, turns: &[(&str, &str)], original: Value) -> Item {
        let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
        let messages = turns.iter().map(message).collect();
        Item { index: row_id, row_id, messages, original: original.to_string() }
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
        assert_eq!(words(&row(1, &same, json!({}))), words(&row(2, &near, json!({}))));
        let mut counts = [0; 3];
        for number in 0..2000 {
            let question = format!("question {number}");
            counts[usize::from(part_of(&task, words(&row(number, &[("user", &question)], json!({})))))] += 1;
        }
        assert!((1530..1670).contains(&counts[0]) && counts[1] > 140 && counts[2] > 140, "{counts:?}");
    }

    #[test]
    fn near_duplicates_and_rows_of_the_same_words_are_one_group() {
        // Rows 0 and 2 are near, 2 and 3 have the same words, and so have 1 and 4.
        assert_eq!(united(vec![0, 1, 0, 3, 4, 5], &[10, 20, 30, 30, 20, 40]), [0, 1, 0, 0, 1, 5]);
        // The key joins two groups from behind.
        assert_eq!(united(vec![0, 1, 1, 0], &[1, 2, 3, 3]), [0, 0, 0, 0]);
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
        let asked = row(6, &[("user", "Hi"), (EXPECTED, "Hello")], json!({"input": "Hi", "ideal": "Hello"}));
        assert_eq!(line(&asked, "a@1")["expected"], "Hello");
        let pair = row(4, &[("user", "Hi"), (CHOSEN, "b"), (REJECTED, "c")], json!({}));
        let made = line(&pair, "a@1");
        assert_eq!(
            (&made["chosen"], &made["rejected"], &made["prompt"][0]["role"]),
            (&json!("b"), &json!("c"), &json!("user"))
        );
        assert_eq!(line(&row(5, &[("text", "words")], json!({})), "a@1")["text"], "words");
    }
}
