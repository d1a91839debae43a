//! Files that are complete or absent: written beside their place, flushed to the disk, then renamed.
//! Lives here: that order of operations. Never here: what is in the files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The end of the name of a file in the making. A child that was killed leaves such files behind; whoever owns
/// the folder may delete them when no child writes there.
pub const PARTIAL_SUFFIX: &str = ".partial";

/// A file in the making. Dropped without [`Complete::keep`], it is removed.
#[derive(Debug)]
pub(super) struct Complete {
    file: File,
    partial: PathBuf,
    kept: bool,
}

impl Complete {
    /// Begins a file in `folder`, readable by its owner alone.
    pub(super) fn create(folder: &Path) -> io::Result<Complete> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let partial = folder.join(format!(".{}-{number}{PARTIAL_SUFFIX}", std::process::id()));
        // A leftover of an earlier process with the same id may be there: it is nobody's now.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        Ok(Complete { file, partial, kept: false })
    }

    /// Makes the file complete under its name, in the folder where it was begun: data, then name, then folder.
    pub(super) fn keep(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.partial, path)?;
        self.kept = true;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Write for Complete {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Complete {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done about a file that cannot be removed; its name says what it is.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_complete_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut dropped = Complete::create(folder.path()).unwrap();
        dropped.write_all(b"half").unwrap();
        assert_eq!(names(), 1);
        drop(dropped);
        assert_eq!(names(), 0);

        let mut kept = Complete::create(folder.path()).unwrap();
        kept.write_all(b"whole").unwrap();
        kept.keep(&folder.path().join("name")).unwrap();
        assert_eq!(std::fs::read(folder.path().join("name")).unwrap(), b"whole");
        assert_eq!(names(), 1);
    }
}
