//! Pages of a ledger: each row as it reached the step and as it left it. Lives here: finding both. Never here: writing ledgers.

use std::path::Path;

use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::Failure;
use hone_protocol::recipe::LedgerEntry;
use hone_protocol::worker::LedgerTask;

use super::item::Item;
use super::ledger::{Ledger, Line};
use super::source::Source;

/// Characters of a message that are shown of a row; the version itself holds the whole.
const SHOWN_CHARACTERS: usize = 4000;

/// Messages cut to what is shown.
pub(super) fn shown(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let cut = |message: &ChatMessage| match message.content.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => ChatMessage { role: message.role.clone(), content: format!("{}…", &message.content[..at]) },
        None => message.clone(),
    };
    messages.iter().map(cut).collect()
}

/// A page of the ledger of one step, and how many rows it has.
pub(crate) fn page(task: &LedgerTask) -> Result<(Vec<LedgerEntry>, u64), Failure> {
    let folder = Path::new(&task.ledgers);
    let mut source = Source::open(Path::new(&task.folder), &task.segments, None)?;
    let Some((name, before)) = task.names.split_last() else {
        return Err(Failure::field("step", "the version has no such step"));
    };
    for name in before {
        source.after(Ledger::open(folder, name)?);
    }
    let ledger = Ledger::open(folder, name)?;
    let entries = ledger.entries(task.offset..task.offset.saturating_add(u64::from(task.count)))?;
    let rows = source.rows_at(entries.iter().map(|(place, _)| *place))?;
    let entry = |((_, line), row): ((u64, Line), Option<Item>)| LedgerEntry {
        row_id: line.row,
        act: line.act,
        reason: line.reason,
        value: line.value,
        threshold: line.threshold,
        detail: line.detail,
        before: row.map(|row| shown(&row.messages)).unwrap_or_default(),
        after: shown(&line.messages),
    };
    Ok((entries.into_iter().zip(rows).map(entry).collect(), ledger.len()))
}
