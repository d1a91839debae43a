//! What a step did, row by row: a file of lines in the order of the rows, an index into it, and the sums.
//! Lives here: these three files, complete or absent. Never here: what is done with them.
//!
//! A ledger's name is the hash of all that decides it: the rows that went in, the steps before, the step's settings. So it is also what
//! the step need not do again. A row that is in no ledger passed all steps as it was.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::recipe::LedgerAct;
use hone_protocol::value::Hash;
use serde::{Deserialize, Serialize};

use super::item::{Item, Why};
use crate::complete::Complete;
use crate::{unreadable, unwritable};

/// Bytes of an entry of the index: the row's place, and where its line begins.
const ENTRY_BYTES: u64 = 16;
/// Bytes gathered before a write.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// One row that a step dropped or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) row: u64,
    pub(super) act: LedgerAct,
    pub(super) reason: String,
    pub(super) value: f64,
    pub(super) threshold: f64,
    pub(super) detail: String,
    /// What a changed row is now.
    pub(super) messages: Vec<ChatMessage>,
    pub(super) original: String,
}

impl Line {
    pub(super) fn dropped(row: u64, why: Why) -> Line {
        Line::of(row, LedgerAct::Dropped, why)
    }

    pub(super) fn changed(item: &Item, why: Why) -> Line {
        let (messages, original) = (item.messages.clone(), item.original.clone());
        Line { messages, original, ..Line::of(item.row_id, LedgerAct::Changed, why) }
    }

    fn of(row: u64, act: LedgerAct, why: Why) -> Line {
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        let (value, threshold) = (finite(why.value), finite(why.threshold));
        let (reason, detail) = (why.reason.into_owned(), why.detail);
        Line { row, act, reason, value, threshold, detail, messages: Vec::new(), original: String::new() }
    }
}

/// The sums of a ledger.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) dropped: u64,
    pub(super) changed: u64,
    /// By reason, most first.
    pub(super) reasons: Vec<(String, u64)>,
}

fn paths(folder: &Path, name: &Hash) -> [PathBuf; 3] {
    ["lines", "index", "sums"].map(|ending| folder.join(format!("{name}.{ending}")))
}

/// The sums of a ledger that is complete. Of one that is damaged nothing is known.
pub(super) fn known(folder: &Path, name: &Hash) -> Option<Sums> {
    let [lines, index, sums] = paths(folder, name);
    let sums: Sums = serde_json::from_slice(&std::fs::read(sums).ok()?).ok()?;
    let entries = sums.dropped + sums.changed;
    let whole = index.metadata().ok()?.len() == entries * ENTRY_BYTES && lines.is_file();
    whole.then_some(sums)
}

/// A ledger in the making. Rows come in their order.
pub(super) struct Writer {
    folder: PathBuf,
    name: Hash,
    lines: BufWriter<Complete>,
    index: BufWriter<Complete>,
    bytes: u64,
    sums: Sums,
    reasons: HashMap<String, u64>,
}

impl Writer {
    pub(super) fn new(folder: &Path, name: Hash) -> Result<Writer, Failure> {
        let create = || -> Result<_, Failure> {
            let file = Complete::create(folder).map_err(|error| unwritable(folder, &error))?;
            Ok(BufWriter::with_capacity(WRITE_BUFFER_BYTES, file))
        };
        let (lines, index) = (create()?, create()?);
        let folder = folder.to_owned();
        Ok(Writer { folder, name, lines, index, bytes: 0, sums: Sums::default(), reasons: HashMap::new() })
    }

    pub(super) fn push(&mut self, place: u64, line: &Line) -> Result<(), Failure> {
        let failed = |error: io::Error| unwritable(&self.folder, &error);
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.index.write_all(&place.to_le_bytes()).map_err(failed)?;
        self.index.write_all(&self.bytes.to_le_bytes()).map_err(failed)?;
        self.lines.write_all(&text).map_err(failed)?;
        self.bytes += text.len() as u64;
        match line.act {
            LedgerAct::Dropped => self.sums.dropped += 1,
            LedgerAct::Changed => self.sums.changed += 1,
        }
        match self.reasons.get_mut(&line.reason) {
            Some(count) => *count += 1,
            None => {
                self.reasons.insert(line.reason.clone(), 1);
            }
        }
        Ok(())
    }

    /// Makes it complete; the sums come last.
    pub(super) fn finish(mut self) -> Result<Sums, Failure> {
        self.sums.reasons = self.reasons.into_iter().collect();
        self.sums.reasons.sort_by(|one, two| two.1.cmp(&one.1).then_with(|| one.0.cmp(&two.0)));
        let [lines, index, sums] = paths(&self.folder, &self.name);
        let keep = |file: BufWriter<Complete>, path: &Path| {
            let file = file.into_inner().map_err(|error| unwritable(path, error.error()))?;
            file.keep(path).map_err(|error| unwritable(path, &error))
        };
        keep(self.lines, &lines)?;
        keep(self.index, &index)?;
        let failed = |error: io::Error| unwritable(&sums, &error);
        let mut file = Complete::create(&self.folder).map_err(failed)?;
        file.write_all(&serde_json::to_vec(&self.sums).map_err(|error| failed(error.into()))?).map_err(failed)?;
        file.keep(&sums).map_err(failed)?;
        Ok(self.sums)
    }
}

/// A complete ledger.
pub(super) struct Ledger {
    path: PathBuf,
    lines: File,
    index: File,
    entries: u64,
    bytes: u64,
}

impl Ledger {
    pub(super) fn open(folder: &Path, name: &Hash) -> Result<Ledger, Failure> {
        let [path, index_path, _] = paths(folder, name);
        let open = |path: &Path| -> Result<_, Failure> {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
            Ok((file, bytes))
        };
        let (lines, bytes) = open(&path)?;
        let (index, index_bytes) = open(&index_path)?;
        Ok(Ledger { path, lines, index, entries: index_bytes / ENTRY_BYTES, bytes })
    }

    /// Rows in it.
    pub(super) fn len(&self) -> u64 {
        self.entries
    }

    fn entry(&self, number: u64) -> Result<(u64, u64), Failure> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        self.index.read_exact_at(&mut bytes, number * ENTRY_BYTES).map_err(|error| unreadable(&self.path, &error))?;
        let [place, at] = [0, 8].map(|from| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(word)
        });
        Ok((place, at))
    }

    /// The first entry at a place or after it.
    pub(super) fn first_from(&self, place: u64) -> Result<u64, Failure> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 < place { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Entries by number, with the place of each row.
    pub(super) fn entries(&self, numbers: std::ops::Range<u64>) -> Result<Vec<(u64, Line)>, Failure> {
        let end = numbers.end.min(self.entries);
        if numbers.start >= end {
            return Ok(Vec::new());
        }
        let mut places = Vec::new();
        for number in numbers.start..end {
            places.push(self.entry(number)?);
        }
        let from = places[0].1;
        let until = if end == self.entries { self.bytes } else { self.entry(end)?.1 };
        let damaged = |reason: &str| {
            Failure::new(
                FailureCode::BadFile,
                format!("the ledger {} is damaged: {reason}; run the recipe again", self.path.display()),
            )
            .at(self.path.display().to_string())
            .hint(HintCode::TryAgain)
        };
        let length = until
            .checked_sub(from)
            .filter(|_| until <= self.bytes)
            .ok_or_else(|| damaged("its index points beyond it"))?;
        let mut bytes = vec![0; length as usize];
        self.lines.read_exact_at(&mut bytes, from).map_err(|error| unreadable(&self.path, &error))?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Line> = lines
            .map(|line| serde_json::from_slice(line).map_err(|error| damaged(&error.to_string())))
            .collect::<Result<_, _>>()?;
        if lines.len() != places.len() {
            return Err(damaged("its lines are not as many as its index says"));
        }
        Ok(places.into_iter().map(|(place, _)| place).zip(lines).collect())
    }

    /// The entries of rows at these places.
    pub(super) fn of(&self, places: std::ops::Range<u64>) -> Result<Vec<(u64, Line)>, Failure> {
        let from = self.first_from(places.start)?;
        let until = self.first_from(places.end)?;
        self.entries(from..until)
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::*;

    #[test]
    fn entries_are_found_by_number_and_by_place() {
        let folder = tempfile::tempdir().unwrap();
        let name = Hash([7; 32]);
        assert_eq!(known(folder.path(), &name), None);
        let mut writer = Writer::new(folder.path(), name).unwrap();
        for place in (0..300u64).filter(|place| place % 3 == 0) {
            let mut item = chat(&[("text", "line\nbreak")]);
            item.row_id = place + 1000;
            let why = Why::new(if place % 2 == 0 { "even" } else { "odd" }, 1.0, f64::INFINITY);
            let line = if place % 2 == 0 { Line::dropped(item.row_id, why) } else { Line::changed(&item, why) };
            writer.push(place, &line).unwrap();
        }
        let sums = writer.finish().unwrap();
        assert_eq!(sums, Sums { dropped: 50, changed: 50, reasons: vec![("even".into(), 50), ("odd".into(), 50)] });
        assert_eq!(known(folder.path(), &name), Some(sums));
        let ledger = Ledger::open(folder.path(), &name).unwrap();
        assert_eq!(ledger.len(), 100);
        let rows = |found: Vec<(u64, Line)>| found.iter().map(|(place, line)| (*place, line.row)).collect::<Vec<_>>();
        assert_eq!(rows(ledger.entries(98..500).unwrap()), [(294, 1294), (297, 1297)]);
        assert_eq!(rows(ledger.of(5..10).unwrap()), [(6, 1006), (9, 1009)]);
        assert_eq!(rows(ledger.of(298..900).unwrap()), []);
        assert_eq!(ledger.entries(1..2).unwrap()[0].1.messages[0].content, "line\nbreak");
        std::fs::write(folder.path().join(format!("{name}.index")), [0; 17]).unwrap();
        assert_eq!(known(folder.path(), &name), None);
    }
}
