//! Bytes that are written once, end to end, and read back by place: in memory while they are few, else in a file without a
//! name, which goes away with the process.
//! Lives here: that file. Never here: what the bytes mean.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::complete::PARTIAL_SUFFIX;

/// Bytes gathered before a write.
const BUFFER_BYTES: usize = 1 << 20;

/// The bytes. Without a folder they stay in memory.
#[derive(Debug)]
pub(super) struct Spill {
    folder: Option<PathBuf>,
    file: Option<File>,
    /// Bytes that the file holds.
    written: u64,
    buffer: Vec<u8>,
}

impl Spill {
    /// What does not fit into memory goes to a nameless file in `folder`.
    pub(super) fn new(folder: Option<PathBuf>) -> Spill {
        Spill { folder, file: None, written: 0, buffer: Vec::new() }
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds bytes at the end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        match &self.folder {
            Some(folder) if self.buffer.len() >= BUFFER_BYTES => {
                if self.file.is_none() {
                    self.file = Some(nameless(folder)?);
                }
                if let Some(file) = &mut self.file {
                    file.write_all(&self.buffer)?;
                }
                self.written += self.buffer.len() as u64;
                self.buffer.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads `bytes.len()` bytes from a place on.
    pub(super) fn read(&self, from: u64, bytes: &mut [u8]) -> io::Result<()> {
        let in_file = self.written.saturating_sub(from).min(bytes.len() as u64) as usize;
        let (head, tail) = bytes.split_at_mut(in_file);
        match &self.file {
            Some(file) if !head.is_empty() => file.read_exact_at(head, from)?,
            _ => {}
        }
        if !tail.is_empty() {
            let at = (from + in_file as u64 - self.written) as usize;
            let there = self.buffer.get(at..at + tail.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            tail.copy_from_slice(there);
        }
        Ok(())
    }
}

fn nameless(folder: &std::path::Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".{}-spill{number}{PARTIAL_SUFFIX}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_read_across_the_edge_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for folder in [None, Some(folder.path().to_owned())] {
            let mut spill = Spill::new(folder);
            let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            for chunk in bytes.chunks(70_001) {
                spill.push(chunk).unwrap();
            }
            assert_eq!(spill.len(), bytes.len() as u64);
            for (from, count) in [(0, 10), (1_049_000, 9_000), (2_900_000, 100_000), (5, 2_999_995), (3_000_000, 0)] {
                let mut read = vec![0; count];
                spill.read(from as u64, &mut read).unwrap();
                assert!(read == bytes[from..from + count], "{from} {count}");
            }
            assert!(spill.read(2_999_999, &mut [0; 2]).is_err());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
    }
}
