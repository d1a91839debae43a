//! Steps that drop rows because of others: exact and near duplicates, and words shared with rows that are held out.
//! Lives here: what makes two rows the same. Never here: MinHash (see `near`).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use hone_protocol::failure::Failure;
use hone_protocol::recipe::Settings;
use sha2::{Digest, Sha256};

use super::item::{Item, Of, Why};
use super::words::words;
use super::{Built, Dropped, Others, Rows, SetStep};
use crate::near::Near;
use crate::ordered::{ordered, threads};
use crate::shingles;
use crate::spill::Spill;
use crate::unwritable;

/// Half of a SHA-256: among 10^9 rows two different ones share it with a chance of 1 in 10^20.
type Key = [u8; 16];

pub(super) fn exact(settings: &Settings, others: Others) -> Built {
    Built::set(Exact { of: Of::read(settings.text("of")), normalise: settings.yes("normalise"), others })
}

struct Exact {
    of: Of,
    normalise: bool,
    others: Others,
}

/// Keys are looked at in so many parts, one at a time, so that memory holds a share of them.
const PARTS: usize = 16;
/// Bytes of a key with whose it is.
const RECORD_BYTES: usize = 40;
/// What stands for a row of the set itself where another one has the number of its dataset.
const OWN: u64 = u64::MAX;

/// A key and the row that has it.
#[derive(Debug, Clone, Copy)]
struct Keyed {
    key: Key,
    set: u64,
    index: u64,
    row_id: u64,
}

impl Keyed {
    fn bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..16].copy_from_slice(&self.key);
        for (at, word) in [self.set, self.index, self.row_id].into_iter().enumerate() {
            bytes[16 + 8 * at..24 + 8 * at].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Keyed {
        let (mut key, mut words) = ([0; 16], [0; 3]);
        key.copy_from_slice(&bytes[..16]);
        for (at, word) in words.iter_mut().enumerate() {
            let mut little = [0; 8];
            little.copy_from_slice(&bytes[16 + 8 * at..24 + 8 * at]);
            *word = u64::from_le_bytes(little);
        }
        Keyed { key, set: words[0], index: words[1], row_id: words[2] }
    }
}

impl SetStep for Exact {
    fn decide(&self, rows: &dyn Rows, progress: &mut dyn FnMut(u64)) -> Result<Vec<Dropped>, Failure> {
        let folder = rows.folder();
        let failed = |error: std::io::Error| unwritable(folder.as_deref().unwrap_or(Path::new("memory")), &error);
        let mut parts: Vec<Spill> = (0..PARTS).map(|_| Spill::new(folder.clone())).collect();
        let mut push = |keyed: &Keyed| parts[usize::from(keyed.key[0]) % PARTS].push(&keyed.bytes()).map_err(failed);
        // Others come first: a row that is in one of them goes.
        for (set, other) in (0..).zip(&self.others) {
            self.keyed(&*other.rows, set, &mut |keyed| push(&keyed))?;
        }
        self.keyed(rows, OWN, &mut |keyed| {
            progress(keyed.index);
            push(&keyed)
        })?;
        let mut dropped = Vec::new();
        for part in &parts {
            let mut bytes = vec![0; part.len() as usize];
            part.read(0, &mut bytes).map_err(failed)?;
            let mut keyed: Vec<Keyed> = bytes.chunks_exact(RECORD_BYTES).map(Keyed::read).collect();
            drop(bytes);
            // Stable, so that the first of equal ones is the first of them all.
            keyed.sort_by_key(|one| one.key);
            for same in keyed.chunk_by(|one, two| one.key == two.key) {
                let Some((first, later)) = same.split_first() else { continue };
                let like = || match self.others.get(first.set as usize) {
                    Some(other) if first.set != OWN => other.name.clone(),
                    _ => format!("row {}", first.row_id),
                };
                dropped.extend(later.iter().filter(|one| one.set == OWN).map(|one| Dropped {
                    index: one.index,
                    row_id: one.row_id,
                    why: Why::new("exact_duplicate", 1.0, 1.0).of(like()),
                }));
            }
        }
        dropped.sort_by_key(|one| one.index);
        Ok(dropped)
    }
}

impl Exact {
    /// The keys of rows, in order.
    fn keyed(
        &self,
        rows: &dyn Rows,
        set: u64,
        take: &mut dyn FnMut(Keyed) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let keys = |chunk| {
            let of = |item: &Item| Keyed { key: self.key(item), set, index: item.index, row_id: item.row_id };
            Ok(rows.texts(chunk)?.iter().map(of).collect::<Vec<_>>())
        };
        ordered(0..rows.chunks(), threads(), keys, |keyed| keyed.into_iter().try_for_each(&mut *take))
    }

    fn key(&self, item: &Item) -> Key {
        let mut hash = Sha256::new();
        if self.of == Of::Row {
            let mut text = String::new();
            for message in &item.messages {
                hash.update(message.role.as_bytes());
                hash.update([0x1f]);
                if self.normalise {
                    text.clear();
                    normalised(&message.content, &mut text);
                    hash.update(text.as_bytes());
                } else {
                    hash.update(message.content.as_bytes());
                }
                hash.update([0x1e]);
            }
        } else {
            let text = item.text(self.of);
            if self.normalise {
                let mut plain = String::new();
                normalised(&text, &mut plain);
                hash.update(plain.as_bytes());
            } else {
                hash.update(text.as_bytes());
            }
        }
        let whole: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&whole[..16]);
        key
    }
}

/// Lower case, and each run of white space as one space; none at the ends.
pub(crate) fn normalised(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len());
    let mut at = 0;
    let mut space = false;
    let begin = out.len();
    while at < bytes.len() {
        // A run of ASCII that is no white space is written at once.
        let run = bytes[at..].iter().take_while(|byte| byte.is_ascii() && **byte > b' ').count();
        if run > 0 {
            if space && out.len() > begin {
                out.push(' ');
            }
            space = false;
            let from = out.len();
            out.push_str(&text[at..at + run]);
            out[from..].make_ascii_lowercase();
            at += run;
            continue;
        }
        let Some(c) = text[at..].chars().next() else { break };
        at += c.len_utf8();
        if c.is_whitespace() {
            space = true;
            continue;
        }
        if space && out.len() > begin {
            out.push(' ');
        }
        space = false;
        if shingles::stands_alone(c) { out.push(c) } else { out.extend(c.to_lowercase()) }
    }
}

pub(super) fn near(settings: &Settings, others: Others) -> Built {
    Built::set(NearStep { of: Of::read(settings.text("of")), threshold: settings.real("threshold"), others })
}

struct NearStep {
    of: Of,
    threshold: f64,
    others: Others,
}

/// Which row a text is of.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Other(usize),
    Own { index: u64, row_id: u64 },
}

impl SetStep for NearStep {
    fn decide(&self, rows: &dyn Rows, progress: &mut dyn FnMut(u64)) -> Result<Vec<Dropped>, Failure> {
        let mut whose = Vec::new();
        let others =
            (0..self.others.len()).flat_map(|set| (0..self.others[set].rows.chunks()).map(move |c| (Some(set), c)));
        let chunks = others.chain((0..rows.chunks()).map(|chunk| (None, chunk)));
        let texts = |(set, chunk): (Option<usize>, usize)| {
            let items = match set {
                Some(set) => self.others[set].rows.texts(chunk)?,
                None => rows.texts(chunk)?,
            };
            let of = |item: &Item| match set {
                Some(set) => Whose::Other(set),
                None => Whose::Own { index: item.index, row_id: item.row_id },
            };
            Ok(items.iter().map(|item| (of(item), item.text(self.of).into_owned())).collect())
        };
        let search = Near { threshold: self.threshold, folder: rows.folder(), threads: threads() };
        let alike = search.find_in(chunks, texts, |who| {
            if let Whose::Own { index, .. } = who {
                progress(index);
            }
            whose.push(who);
        })?;
        let mut dropped = Vec::new();
        for (who, twin) in whose.iter().zip(&alike.twin) {
            let (Whose::Own { index, row_id }, Some((twin, share))) = (*who, twin) else { continue };
            let like = match whose[*twin as usize] {
                Whose::Own { row_id, .. } => format!("row {row_id}"),
                Whose::Other(set) => self.others[set].name.clone(),
            };
            let why = Why::new("near_duplicate", f64::from(*share), self.threshold).of(like);
            dropped.push(Dropped { index, row_id, why });
        }
        Ok(dropped)
    }
}

pub(super) fn decontaminate(settings: &Settings, others: Others) -> Result<Built, Failure> {
    if settings.texts("against").is_empty() {
        let message = "the step decontaminate needs the datasets of evaluations in `against`";
        return Err(Failure::field("against", message));
    }
    Ok(Built::set(Decontaminate { words: settings.whole("words") as usize, others }))
}

struct Decontaminate {
    words: usize,
    others: Others,
}

impl SetStep for Decontaminate {
    fn decide(&self, rows: &dyn Rows, progress: &mut dyn FnMut(u64)) -> Result<Vec<Dropped>, Failure> {
        let mut runs: HashMap<u64, (u32, u64)> = HashMap::new();
        for (set, other) in self.others.iter().enumerate() {
            for chunk in 0..other.rows.chunks() {
                for item in other.rows.texts(chunk)? {
                    for run in self.runs(&item) {
                        runs.entry(run).or_insert((set as u32, item.row_id));
                    }
                }
            }
        }
        let known: HashSet<u64> = runs.keys().copied().collect();
        let mut dropped = Vec::new();
        let find = |chunk| {
            let items = rows.texts(chunk)?;
            let found = |item: &Item| self.runs(item).into_iter().enumerate().find(|(_, run)| known.contains(run));
            let of = |item: &Item| (item.index, item.row_id, found(item).map(|(at, run)| (run, self.said(item, at))));
            Ok(items.iter().map(of).collect::<Vec<_>>())
        };
        ordered(0..rows.chunks(), threads(), find, |found| {
            for (index, row_id, run) in found {
                progress(index);
                let Some((run, said)) = run else { continue };
                let Some((set, theirs)) = runs.get(&run) else { continue };
                let detail = format!("{} row {theirs}: {said}", self.others[*set as usize].name);
                let why = Why::new("contaminated", self.words as f64, self.words as f64).of(detail);
                dropped.push(Dropped { index, row_id, why });
            }
            Ok(())
        })?;
        Ok(dropped)
    }
}

impl Decontaminate {
    /// The runs of words of all messages but the system's, in the order of the words.
    fn runs(&self, item: &Item) -> Vec<u64> {
        let mut words = Vec::new();
        for message in item.messages.iter().filter(|message| message.role != "system") {
            shingles::words(&message.content, &mut words);
        }
        words.windows(self.words).map(shingles::run).collect()
    }

    /// The words of a run.
    fn said(&self, item: &Item, at: usize) -> String {
        let messages = item.messages.iter().filter(|message| message.role != "system");
        let run: Vec<&str> = messages.flat_map(|m| words(&m.content)).skip(at).take(self.words).collect();
        run.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::{Held, decided};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn normalised_text_is_that_of_plain_code(text in "[aB\u{e9}\u{c9}中 \u{3000}\n\t\u{df}ß.]{0,40}") {
            let plain = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            let mut found = String::new();
            normalised(&text, &mut found);
            prop_assert_eq!(found, plain);
        }
    }

    fn rows(texts: &[&str]) -> Vec<Item> {
        let of = |(at, text): (usize, &&str)| {
            let mut item = chat(&[("user", text), ("assistant", "yes")]);
            (item.index, item.row_id) = (at as u64, at as u64 + 100);
            item
        };
        texts.iter().enumerate().map(of).collect()
    }

    #[test]
    fn the_first_of_equal_rows_stays_and_is_named() {
        let set = rows(&["One  two", "other", "one two", "ONE TWO ", "other"]);
        assert_eq!(
            decided("exact", &[], set.clone(), &[]),
            ["102 exact_duplicate row 100", "103 exact_duplicate row 100", "104 exact_duplicate row 101"]
        );
        assert_eq!(decided("exact", &[("normalise", "no")], set.clone(), &[]), ["104 exact_duplicate row 101"]);
        assert_eq!(decided("exact", &[("of", "answer")], set.clone(), &[]).len(), 4);
        let other = Held::named("suite", rows(&["OTHER"]));
        assert_eq!(
            decided("exact", &[("against", "suite")], set, &[other]),
            [
                "101 exact_duplicate suite",
                "102 exact_duplicate row 100",
                "103 exact_duplicate row 100",
                "104 exact_duplicate suite"
            ]
        );
    }

    #[test]
    fn near_rows_name_the_row_that_stays() {
        let long: String = (0..40).map(|n| format!("word{n} ")).collect();
        let changed = long.replace("word39", "changed");
        let set = rows(&[&long, "something else that is long enough to be cut into runs", &changed]);
        let found = decided("near", &[], set.clone(), &[]);
        assert!(found.len() == 1 && found[0].starts_with("102 near_duplicate row 100"), "{found:?}");
        let other = Held::named("suite", rows(&[&changed]));
        assert_eq!(
            decided("near", &[("against", "suite")], set, &[other]),
            ["100 near_duplicate suite", "102 near_duplicate suite"]
        );
    }

    #[test]
    fn runs_of_held_out_rows_are_found_and_shown() {
        let held = "a question of the evaluation that nobody should ever have been trained on at all";
        let set = rows(&["harmless", &format!("Intro. {}!", held.to_uppercase())]);
        let other = || Held::named("suite", rows(&[held]));
        let found = decided("decontaminate", &[("against", "suite")], set.clone(), &[other()]);
        let said =
            "101 contaminated suite row 100: A QUESTION OF THE EVALUATION THAT NOBODY SHOULD EVER HAVE BEEN TRAINED ON";
        assert_eq!(found, [said]);
        assert!(decided("decontaminate", &[("against", "suite"), ("words", "20")], set, &[other()]).is_empty());
    }
}
