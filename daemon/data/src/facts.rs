//! Facts of a version: how long its rows are, in which languages, how many repeat, what private things are in them.
//! Lives here: that task. Never here: tokens, which only a model's vocabulary can count.

use std::collections::HashMap;
use std::path::Path;

use hone_protocol::failure::Failure;
use hone_protocol::recipe::DatasetFacts;
use hone_protocol::worker::FactsTask;
use sha2::{Digest, Sha256};

use super::distinct::{self, Distinct};
use super::near::{Near, THRESHOLD};
use super::ordered::{ordered, threads};
use super::steps::{Item, Rows, Source, language, normalised, private_kinds};
use super::{Progress, unwritable};

/// Classes of lengths; the last holds all that is longer.
const LENGTHS: usize = 18;
/// Characters of the first class.
const SHORTEST: u64 = 16;
/// Classes of numbers of messages.
const TURNS: usize = 12;
/// Certainty from which a language counts.
const CERTAIN: f64 = 0.5;

/// What is seen of one row.
struct Seen {
    characters: u64,
    messages: u64,
    language: &'static str,
    hash: [u8; 32],
    private: Vec<&'static str>,
}

fn seen(item: &Item) -> Seen {
    let mut hash = Sha256::new();
    let (mut text, mut all) = (String::new(), String::new());
    for message in &item.messages {
        text.clear();
        normalised(&message.content, &mut text);
        hash.update(message.role.as_bytes());
        hash.update([0x1f]);
        hash.update(text.as_bytes());
        if all.len() < 4000 {
            all.push_str(&message.content);
            all.push('\n');
        }
    }
    Seen {
        characters: item.messages.iter().map(|message| message.content.chars().count() as u64).sum(),
        messages: item.messages.iter().filter(|message| message.role != "system").count() as u64,
        language: language(&all).filter(|(_, share)| *share >= CERTAIN).map_or("?", |(code, _)| code),
        hash: hash.finalize().into(),
        private: private_kinds(item),
    }
}

/// Finds the facts. Progress counts rows, twice.
pub(super) fn facts(task: &FactsTask, progress: Progress<'_>) -> Result<DatasetFacts, Failure> {
    let scratch = Path::new(&task.scratch);
    let source = Source::open(Path::new(&task.folder), &task.segments, Some(scratch))?;
    let total = source.rows() * 2;
    let mut facts = Counts::default();
    let look = |chunk| Ok(source.read(chunk)?.iter().map(seen).collect::<Vec<_>>());
    let mut different = Distinct::new(scratch);
    let failed = |error: std::io::Error| unwritable(scratch, &error);
    ordered(0..source.chunks(), threads(), look, |chunk: Vec<Seen>| {
        for seen in chunk {
            different.push(distinct::key(&seen.hash)).map_err(failed)?;
            facts.add(seen);
        }
        progress(facts.rows, total);
        Ok(())
    })?;
    let mut compared = 0;
    let texts = |chunk| {
        let text = |item: &Item| item.messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n");
        Ok(source.read(chunk)?.iter().map(|item| ((), text(item))).collect())
    };
    let alike = Near::new(THRESHOLD, scratch).find_in(0..source.chunks(), texts, |()| {
        compared += 1;
        progress(source.rows() + compared, total);
    })?;
    let different = different.count().map_err(failed)?;
    Ok(facts.finish(different, alike.twin.iter().flatten().count() as u64))
}

#[derive(Default)]
struct Counts {
    rows: u64,
    characters: u64,
    messages: u64,
    by_length: Vec<u32>,
    languages: HashMap<&'static str, u64>,
    turns: [u64; TURNS],
    private: HashMap<&'static str, u64>,
}

impl Counts {
    fn add(&mut self, seen: Seen) {
        self.rows += 1;
        self.characters += seen.characters;
        self.messages += seen.messages;
        self.by_length.push(u32::try_from(seen.characters).unwrap_or(u32::MAX));
        *self.languages.entry(seen.language).or_default() += 1;
        self.turns[(seen.messages as usize).min(TURNS - 1)] += 1;
        for kind in seen.private {
            *self.private.entry(kind).or_default() += 1;
        }
    }

    fn finish(mut self, different: u64, near_duplicates: u64) -> DatasetFacts {
        self.by_length.sort_unstable();
        let mut lengths = vec![0; LENGTHS];
        for length in &self.by_length {
            let class = u64::from(*length).div_ceil(SHORTEST).next_power_of_two().trailing_zeros() as usize;
            lengths[class.min(LENGTHS - 1)] += 1;
        }
        let mark = |percent: usize| {
            let last = self.by_length.len().saturating_sub(1);
            self.by_length.get(last * percent / 100).copied().map_or(0, u64::from)
        };
        let sorted = |counts: HashMap<&'static str, u64>| {
            let mut counts: Vec<(String, u64)> =
                counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect();
            counts.sort_by(|one, two| two.1.cmp(&one.1).then_with(|| one.0.cmp(&two.0)));
            counts
        };
        DatasetFacts {
            rows: self.rows,
            characters: self.characters,
            messages: self.messages,
            tokens: None,
            lengths,
            length_marks: [50, 95, 99, 100].map(mark),
            languages: sorted(self.languages),
            turns: self.turns.to_vec(),
            exact_duplicates: self.rows - different,
            near_duplicates,
            private: sorted(self.private),
        }
    }
}
