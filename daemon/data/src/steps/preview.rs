//! What a recipe would do to the first rows of a version; nothing is written. Lives here: that. Never here: whole runs (see `run`).
//!
//! Steps that see all rows see only those that are looked at, so what they would drop in the whole set may be more.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::Failure;
use hone_protocol::recipe::{LedgerAct, PREVIEW_ROWS_MAX, Preview, PreviewRow};
use hone_protocol::worker::RecipePreviewTask;

use super::item::Item;
use super::page::shown;
use super::run::one;
use super::source::Source;
use super::{Built, Rows, build};

/// Rows that are looked at.
const LOOKED_AT: usize = 500;
/// Rows of each other dataset that are looked at.
const OTHERS_ROWS: u64 = 5_000;

/// Rows in memory.
struct Few(Vec<Item>);

impl Rows for Few {
    fn chunks(&self) -> usize {
        1
    }
    fn read(&self, _: usize) -> Result<Vec<Item>, Failure> {
        Ok(self.0.clone())
    }
    fn folder(&self) -> Option<PathBuf> {
        None
    }
}

/// What the recipe would do.
pub(crate) fn preview(task: &RecipePreviewTask) -> Result<Preview, Failure> {
    let blobs = Path::new(&task.folder);
    let source = Source::open(blobs, &task.segments, None)?;
    let mut items = Vec::new();
    let first = source.chunk_of(task.from).unwrap_or(0);
    for chunk in first..source.chunks() {
        items.extend(source.read(chunk)?.into_iter().filter(|item| item.index >= task.from));
        if items.len() >= LOOKED_AT {
            break;
        }
    }
    items.truncate(LOOKED_AT);
    let looked_at = items.len() as u64;
    let before: Vec<(u64, Vec<ChatMessage>)> = items.iter().map(|item| (item.row_id, shown(&item.messages))).collect();
    let mut acts: HashMap<u64, Vec<(u32, LedgerAct, String)>> = HashMap::new();
    let mut counts = Vec::new();
    for (index, spec) in task.recipe.steps.iter().enumerate() {
        let wanted = spec.others();
        let others: Vec<_> = task.others.iter().filter(|(name, _)| wanted.contains(name)).cloned().collect();
        let built = build(index, spec, Source::others(blobs, &others, OTHERS_ROWS)?)?;
        let (mut dropped, mut changed) = (0, 0);
        let mut note = |row_id: u64, act: LedgerAct, reason: String| {
            match act {
                LedgerAct::Dropped => dropped += 1,
                LedgerAct::Changed => changed += 1,
            }
            acts.entry(row_id).or_default().push((index as u32, act, reason));
        };
        items = match built {
            Built::Row(step) => {
                let mut left = Vec::new();
                for item in items {
                    let (item, line) = one(item, &*step, &spec.keep);
                    if let Some(line) = line {
                        note(line.row, line.act, line.reason);
                    }
                    left.extend(item);
                }
                left
            }
            Built::Set(step) => {
                let few = Few(items);
                let mut gone = HashSet::new();
                for one in step.decide(&few, &mut |_| {})? {
                    if !spec.keep.contains(&one.row_id) {
                        gone.insert(one.index);
                        note(one.row_id, LedgerAct::Dropped, one.why.reason.into_owned());
                    }
                }
                few.0.into_iter().filter(|item| !gone.contains(&item.index)).collect()
            }
        };
        counts.push((dropped, changed));
    }
    let after: HashMap<u64, Vec<ChatMessage>> = items.iter().map(|item| (item.row_id, shown(&item.messages))).collect();
    let (touched, untouched): (Vec<_>, Vec<_>) = before.into_iter().partition(|(row_id, _)| acts.contains_key(row_id));
    let rows = touched.into_iter().chain(untouched).take(task.count.min(PREVIEW_ROWS_MAX) as usize);
    let row = |(row_id, before): (u64, Vec<ChatMessage>)| PreviewRow {
        row_id,
        before,
        after: after.get(&row_id).cloned().unwrap_or_default(),
        acts: acts.get(&row_id).cloned().unwrap_or_default(),
    };
    Ok(Preview { rows: rows.map(row).collect(), looked_at, counts })
}
