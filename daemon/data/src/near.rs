//! Rows that are nearly the same: MinHash finds pairs, their true likeness decides.
//! Lives here: from texts to groups, in bounded memory. Never here: words and signatures (see `shingles`), what becomes of a group.
//!
//! Texts are cut into sets of shingles of five words. Rows that share one of 20 keys, each made of 6 minima, are compared by the
//! shingles themselves: nothing is called alike because of a hash alone. Shingles and keys lie in nameless files, one band of
//! keys is in memory at a time (some 40 bytes a row in all), and work is handed out in order: the answer does not depend on how
//! many threads there are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use hone_protocol::failure::{Failure, FailureCode};

use super::ordered::{ordered, threads};
use super::shingles::{BANDS, Shingler, jaccard, keys};
use super::spill::Spill;
use super::unwritable;

/// Likeness from which rows count as near duplicates unless somebody says otherwise. Of pairs of .7 nine in ten share a key, of .6 six in ten.
pub const THRESHOLD: f64 = 0.7;
/// Bytes of text that go to a thread at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Most texts that go to a thread at once.
const CHUNK_ROWS: usize = 1024;
/// Rows of one key that others are compared with, and rows of one group that are kept and compared with. Beyond them a row
/// counts as unlike: work stays linear where a key is very common.
const COMPARED_MAX: usize = 32;
/// Stack of the thread that sorts.
const STACK_BYTES: usize = 512 << 10;
/// What stands in a band's file for a row without words: it is like no other.
const NO_KEY: u64 = 0;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Alike {
    /// For each text the index of the first text of its group: itself where it is like no earlier one. Groups are closed: a row
    /// that is like one of a group is in it.
    pub group: Vec<u32>,
    /// For each text that can go, an earlier one that stays and how alike the two are: always the threshold at least. A row of
    /// a group that is like none of those that stay, stays too.
    pub twin: Vec<Option<(u32, f32)>>,
}

/// Groups of texts that are at least `threshold` alike, as the index of each group's first text; all in memory, for sets that
/// are there anyway.
pub fn near(texts: &mut dyn Iterator<Item = String>, threshold: f64) -> Result<Vec<u32>, Failure> {
    Near { threshold, folder: None, threads: threads() }.find(texts).map(|alike| alike.group)
}

/// A search.
#[derive(Debug, Clone)]
pub struct Near {
    /// Least share of common shingles.
    pub threshold: f64,
    /// Where nameless files go; without it all is held in memory.
    pub folder: Option<PathBuf>,
    /// Threads that compute.
    pub threads: usize,
}

impl Near {
    /// A search with files in `folder` and a thread for each core.
    pub fn new(threshold: f64, folder: &Path) -> Near {
        Near { threshold, folder: Some(folder.to_owned()), threads: threads() }
    }

    /// Finds what is alike among the texts.
    pub fn find(&self, texts: &mut dyn Iterator<Item = String>) -> Result<Alike, Failure> {
        let chunks = std::iter::from_fn(|| {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while bytes < CHUNK_BYTES && chunk.len() < CHUNK_ROWS {
                let Some(text) = texts.next() else { break };
                bytes += text.len();
                chunk.push(text);
            }
            (!chunk.is_empty()).then_some(chunk)
        });
        let plain = |chunk: Vec<String>| Ok(chunk.into_iter().map(|text| ((), text)).collect());
        self.find_in(chunks, plain, drop)
    }

    /// The same where the texts of a chunk are read by the thread that compares them. `whose` is told of each text whose it is,
    /// in order.
    pub(super) fn find_in<T: Send, W: Send>(
        &self,
        chunks: impl Iterator<Item = T>,
        texts: impl Fn(T) -> Result<Vec<(W, String)>, Failure> + Sync,
        mut whose: impl FnMut(W),
    ) -> Result<Alike, Failure> {
        let failed = |error: std::io::Error| unwritable(self.folder.as_deref().unwrap_or(Path::new("memory")), &error);
        let mut signed = Signed::new(self.folder.as_deref());
        let sign = |chunk: T| {
            let (owners, texts): (Vec<W>, Vec<String>) = texts(chunk)?.into_iter().unzip();
            Ok((owners, signatures(&texts)))
        };
        ordered(chunks, self.threads, sign, |(owners, chunk)| {
            owners.into_iter().for_each(&mut whose);
            signed.push(&chunk).map_err(failed)?;
            if u32::try_from(signed.rows()).is_err() {
                let message = "more than 4,294,967,295 rows cannot be compared with each other";
                return Err(Failure::new(FailureCode::LimitReached, message));
            }
            Ok(())
        })?;
        let group = signed.groups(self.threshold).map_err(failed)?;
        let twin = signed.twins(&group, self.threshold).map_err(failed)?;
        Ok(Alike { group, twin })
    }
}

/// Signatures of some texts.
#[derive(Debug, Default)]
struct Chunk {
    keys: Vec<[u64; BANDS]>,
    counts: Vec<u32>,
    shingles: Vec<u32>,
}

fn signatures(texts: &[String]) -> Chunk {
    let mut shingler = Shingler::default();
    let mut chunk = Chunk::default();
    for text in texts {
        let shingles = shingler.shingles(text);
        chunk.counts.push(shingles.len() as u32);
        chunk.shingles.extend_from_slice(shingles);
        chunk.keys.push(if shingles.is_empty() { [NO_KEY; BANDS] } else { keys(shingles) });
    }
    chunk
}

/// Keys and shingles of all texts.
struct Signed {
    /// Where the shingles of each text end.
    ends: Vec<u64>,
    shingles: Spill,
    bands: Vec<Spill>,
}

impl Signed {
    fn new(folder: Option<&Path>) -> Signed {
        let spill = || Spill::new(folder.map(Path::to_owned));
        Signed { ends: vec![0], shingles: spill(), bands: (0..BANDS).map(|_| spill()).collect() }
    }

    fn rows(&self) -> usize {
        self.ends.len() - 1
    }

    fn push(&mut self, chunk: &Chunk) -> io::Result<()> {
        let mut end = self.ends.last().copied().unwrap_or(0);
        for count in &chunk.counts {
            end += u64::from(*count);
            self.ends.push(end);
        }
        let bytes: Vec<u8> = chunk.shingles.iter().flat_map(|shingle| shingle.to_le_bytes()).collect();
        self.shingles.push(&bytes)?;
        for (band, spill) in self.bands.iter_mut().enumerate() {
            let bytes: Vec<u8> = chunk.keys.iter().flat_map(|keys| keys[band].to_le_bytes()).collect();
            spill.push(&bytes)?;
        }
        Ok(())
    }

    /// The shingles of a text.
    fn shingles(&self, row: u32) -> io::Result<Vec<u32>> {
        let (from, end) = (self.ends[row as usize], self.ends[row as usize + 1]);
        let mut bytes = vec![0; 4 * (end - from) as usize];
        self.shingles.read(4 * from, &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    }

    /// How many shingles a text has.
    fn count(&self, row: u32) -> u64 {
        self.ends[row as usize + 1] - self.ends[row as usize]
    }

    /// Whether the sizes of two sets allow them to be so alike.
    fn may_be_alike(&self, one: u32, two: u32, threshold: f64) -> bool {
        let (one, two) = (self.count(one), self.count(two));
        one.min(two) as f64 >= threshold * one.max(two) as f64
    }

    /// The rows that have a key in a band, in the order of keys, and of rows for each key.
    fn sorted(&self, band: usize) -> io::Result<Vec<(u64, u32)>> {
        let mut sorted = Vec::with_capacity(self.rows());
        let mut bytes = vec![0; 1 << 18];
        let (mut at, end) = (0, self.bands[band].len());
        while at < end {
            let here = (end - at).min(bytes.len() as u64) as usize;
            self.bands[band].read(at, &mut bytes[..here])?;
            for (key, row) in bytes[..here].chunks_exact(8).zip((at / 8) as u32..) {
                let key = u64::from_le_bytes(key.try_into().unwrap_or_default());
                if key != NO_KEY {
                    sorted.push((key, row));
                }
            }
            at += here as u64;
        }
        sorted.sort_unstable();
        Ok(sorted)
    }

    fn groups(&self, threshold: f64) -> io::Result<Vec<u32>> {
        let mut groups: Vec<u32> = (0..self.rows() as u32).collect();
        // One band is sorted while the one before is looked through.
        thread::scope(|scope| {
            let (give, bands) = sync_channel(0);
            let sort = move || {
                for band in 0..BANDS {
                    if give.send(self.sorted(band)).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, sort)?;
            for sorted in bands {
                for rows in sorted?.chunk_by(|one, two| one.0 == two.0).filter(|rows| rows.len() > 1) {
                    self.join(rows, threshold, &mut groups)?;
                }
            }
            io::Result::Ok(())
        })?;
        for row in 0..groups.len() as u32 {
            groups[row as usize] = root(&mut groups, row);
        }
        Ok(groups)
    }

    /// Puts rows that share a key and are alike into one group.
    fn join(&self, rows: &[(u64, u32)], threshold: f64, groups: &mut [u32]) -> io::Result<()> {
        let mut leaders: Vec<(u32, Option<Vec<u32>>)> = Vec::new();
        'rows: for (_, row) in rows {
            let own = root(groups, *row);
            if leaders.iter().any(|(leader, _)| root(groups, *leader) == own) {
                continue;
            }
            let mut shingles = None;
            for (leader, its) in &mut leaders {
                if !self.may_be_alike(*leader, *row, threshold) {
                    continue;
                }
                let mine = known(&mut shingles, || self.shingles(*row))?;
                if jaccard(known(its, || self.shingles(*leader))?, mine) >= threshold {
                    let other = root(groups, *leader);
                    groups[own.max(other) as usize] = own.min(other);
                    continue 'rows;
                }
            }
            if leaders.len() < COMPARED_MAX {
                leaders.push((*row, shingles));
            }
        }
        Ok(())
    }

    /// Of each group the first row stays, and each that is like none of those that stay.
    fn twins(&self, groups: &[u32], threshold: f64) -> io::Result<Vec<Option<(u32, f32)>>> {
        let mut twins = vec![None; groups.len()];
        let mut members: Vec<(u32, u32)> = (0u32..).zip(groups).map(|(row, group)| (*group, row)).collect();
        members.sort_unstable();
        for group in members.chunk_by(|one, two| one.0 == two.0).filter(|group| group.len() > 1) {
            let mut stay: Vec<(u32, Vec<u32>)> = Vec::new();
            for (_, row) in group {
                let mine = self.shingles(*row)?;
                let alike = |(other, its): &(u32, Vec<u32>)| {
                    let likeness = jaccard(its, &mine);
                    (likeness >= threshold).then_some((*other, likeness as f32))
                };
                twins[*row as usize] = stay.iter().find_map(alike);
                if twins[*row as usize].is_none() && stay.len() < COMPARED_MAX {
                    stay.push((*row, mine));
                }
            }
        }
        Ok(twins)
    }
}

fn known(kept: &mut Option<Vec<u32>>, read: impl FnOnce() -> io::Result<Vec<u32>>) -> io::Result<&Vec<u32>> {
    if kept.is_none() {
        *kept = Some(read()?);
    }
    Ok(kept.get_or_insert_default())
}

/// The first row of a row's group, so far.
pub(super) fn root(groups: &mut [u32], mut row: u32) -> u32 {
    while groups[row as usize] != row {
        let above = groups[groups[row as usize] as usize];
        groups[row as usize] = above;
        row = above;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(texts: &[String], threshold: f64, folder: Option<PathBuf>, threads: usize) -> Alike {
        Near { threshold, folder, threads }.find(&mut texts.iter().cloned()).unwrap()
    }

    fn likeness(one: &str, two: &str) -> f64 {
        let (mut first, mut second) = (Shingler::default(), Shingler::default());
        jaccard(first.shingles(one), second.shingles(two))
    }

    /// Rows of words out of few, some of them copies with some words changed.
    fn rows() -> impl Strategy<Value = Vec<String>> {
        let words = prop::collection::vec(0u8..40, 0..40);
        prop::collection::vec((words, any::<prop::sample::Index>(), 0u8..4, 0usize..40), 1..30).prop_map(|rows| {
            let mut texts: Vec<Vec<String>> = Vec::new();
            for (words, like, how, at) in rows {
                let mut text: Vec<String> = words.iter().map(|word| format!("w{word}")).collect();
                if how > 0 && !texts.is_empty() {
                    text = texts[like.index(texts.len())].clone();
                    if how > 1 && !text.is_empty() {
                        let at = at % text.len();
                        text[at] = "other".into();
                    }
                }
                texts.push(text);
            }
            texts.iter().map(|words| words.join(" ")).collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_is_grouped_that_is_not_alike_and_copies_always_are(texts in rows(), threshold in 0.5f64..1.0) {
            let alike = found(&texts, threshold, None, 2);
            // Naive: the closure of all truly alike pairs holds each group that was found.
            let mut closure: Vec<u32> = (0..texts.len() as u32).collect();
            for one in 0..texts.len() {
                for two in 0..one {
                    if likeness(&texts[one], &texts[two]) >= threshold {
                        let (a, b) = (root(&mut closure, one as u32), root(&mut closure, two as u32));
                        closure[a.max(b) as usize] = a.min(b);
                    }
                    if texts[one] == texts[two] && !texts[one].is_empty() {
                        prop_assert_eq!(alike.group[one], alike.group[two]);
                    }
                }
            }
            for row in 0..texts.len() {
                let group = alike.group[row] as usize;
                prop_assert_eq!(alike.group[group] as usize, group);
                prop_assert!(group <= row);
                prop_assert_eq!(root(&mut closure, row as u32), root(&mut closure, group as u32));
                if let Some((twin, share)) = alike.twin[row] {
                    prop_assert!(alike.twin[twin as usize].is_none() && (twin as usize) < row);
                    prop_assert!((likeness(&texts[row], &texts[twin as usize]) - f64::from(share)).abs() < 1e-6);
                    prop_assert!(f64::from(share) >= threshold - 1e-6);
                }
            }
        }

        #[test]
        fn threads_and_files_change_nothing(texts in rows()) {
            let folder = tempfile::tempdir().unwrap();
            let one = found(&texts, 0.7, None, 1);
            prop_assert_eq!(&one, &found(&texts, 0.7, Some(folder.path().to_owned()), 5));
            prop_assert_eq!(near(&mut texts.into_iter(), 0.7).unwrap(), one.group);
        }
    }

    #[test]
    fn rows_beyond_a_chunk_keep_their_order() {
        let text = |n: usize| (0..12).map(|word| format!("{} ", n * 31 + word * 7919)).collect::<String>();
        let texts: Vec<String> = (0..5000).map(|n| text(n % 2500)).collect();
        let alike = found(&texts, 0.9, None, 3);
        assert!((0..5000).all(|n| alike.group[n] as usize == n % 2500));
        assert!((2500..5000).all(|n| alike.twin[n] == Some((n as u32 - 2500, 1.0))));
    }

    #[test]
    fn rows_without_words_are_alone() {
        let alike = found(&["".into(), " - ".into(), "".into(), "word".into(), "Word!".into()], 0.7, None, 2);
        assert_eq!(alike.group, [0, 1, 2, 3, 3]);
        assert_eq!(alike.twin, [None, None, None, None, Some((3, 1.0))]);
    }
}
