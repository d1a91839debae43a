//! How many different rows there were, exactly and in bounded memory, for any number of rows.
//! Lives here: sorted runs and their merge. Never here: what makes two rows equal (see `canonical`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::complete::PARTIAL_SUFFIX;

/// Half of a SHA-256. Among 10^9 rows two different ones share it with a chance of 1 in 10^20.
pub(super) type Key = u128;

/// The key of a row's hash.
pub(super) fn key(content_sha256: &[u8; 32]) -> Key {
    content_sha256[..16].iter().fold(0, |key, byte| key << 8 | Key::from(*byte))
}

/// Keys held in memory (64 MiB); beyond it they are sorted and written to a file without a name.
const KEYS_IN_MEMORY_MAX: usize = 1 << 22;

/// Read-ahead of each run while merging.
const RUN_BUFFER_BYTES: usize = 64 * 1024;

/// Counts different hashes.
#[derive(Debug)]
pub(super) struct Distinct {
    folder: PathBuf,
    keys: Vec<Key>,
    keys_max: usize,
    runs: Vec<File>,
}

impl Distinct {
    /// Runs go to nameless files in `folder`.
    pub(super) fn new(folder: &Path) -> Distinct {
        Distinct { folder: folder.to_owned(), keys: Vec::new(), keys_max: KEYS_IN_MEMORY_MAX, runs: Vec::new() }
    }

    /// Counts a row in by the key of its hash.
    pub(super) fn push(&mut self, key: Key) -> io::Result<()> {
        if self.keys.len() == self.keys_max {
            self.write_run()?;
        }
        self.keys.push(key);
        Ok(())
    }

    /// How many different rows were counted in.
    pub(super) fn count(mut self) -> io::Result<u64> {
        self.keys.sort_unstable();
        if self.runs.is_empty() {
            self.keys.dedup();
            return Ok(self.keys.len() as u64);
        }
        self.write_run()?;
        merge(self.runs)
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.keys.sort_unstable();
        let path = self.folder.join(format!(".{}-run{}{PARTIAL_SUFFIX}", std::process::id(), self.runs.len()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        // Without a name the file goes away with the process, however that ends.
        std::fs::remove_file(&path)?;
        let mut writer = BufWriter::with_capacity(RUN_BUFFER_BYTES, &file);
        for key in &self.keys {
            writer.write_all(&key.to_be_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        self.keys.clear();
        self.runs.push(file);
        Ok(())
    }
}

fn merge(runs: Vec<File>) -> io::Result<u64> {
    let mut sources = Vec::new();
    let mut heads = BinaryHeap::new();
    for (index, mut file) in runs.into_iter().enumerate() {
        io::Seek::rewind(&mut file)?;
        let mut source = BufReader::with_capacity(RUN_BUFFER_BYTES, file);
        if let Some(key) = next(&mut source)? {
            heads.push(Reverse((key, index)));
        }
        sources.push(source);
    }
    let mut count = 0;
    let mut last = None;
    while let Some(Reverse((key, index))) = heads.pop() {
        count += u64::from(last != Some(key));
        last = Some(key);
        if let Some(key) = next(&mut sources[index])? {
            heads.push(Reverse((key, index)));
        }
    }
    Ok(count)
}

fn next(source: &mut impl Read) -> io::Result<Option<Key>> {
    let mut key = [0; 16];
    match source.read_exact(&mut key) {
        Ok(()) => Ok(Some(Key::from_be_bytes(key))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn runs_count_as_a_set_does() {
        let folder = tempfile::tempdir().unwrap();
        for keys_max in [3, 7, 1000] {
            let mut distinct = Distinct { keys_max, ..Distinct::new(folder.path()) };
            let mut set = HashSet::new();
            for number in 0..500u32 {
                // A walk with repeats, near and far.
                let mut hash = [0; 32];
                hash[..4].copy_from_slice(&(number * number % 211).to_le_bytes());
                distinct.push(key(&hash)).unwrap();
                set.insert(hash);
            }
            assert_eq!(distinct.count().unwrap(), set.len() as u64, "{keys_max}");
        }
        assert_eq!(Distinct::new(folder.path()).count().unwrap(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
    }
}
