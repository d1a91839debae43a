//! The files of one application's log: entries are lines, one after the other; a file is closed at a size or an age, and the oldest
//! file goes when all of it is too old or the log is too big. A file that another daemon wrote is never written again, so that what
//! a crash tore is one last line that nobody can read. Never here: what a line says.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hone_protocol::log::LogSettings;

/// A file is closed when its first entry is so old.
pub(super) const FILE_MS: i64 = 24 * 3600 * 1000;
/// A file is closed when it is so big, or a sixteenth of the log.
const FILE_BYTES: (u64, u64) = (64 << 10, 4 << 20);
/// How the names end.
const ENDING: &str = ".jsonl";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its number: later files have higher ones.
    pub(super) number: u64,
    /// When its first entry was closed, Unix milliseconds.
    pub(super) from_ms: i64,
    /// Its size.
    pub(super) bytes: u64,
}

impl Part {
    fn name(&self) -> String {
        format!("{:010}-{}{ENDING}", self.number, self.from_ms)
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }
}

/// The files of a folder, the oldest first.
pub(super) fn parts(folder: &Path) -> io::Result<VecDeque<Part>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        entries => entries?,
    };
    let mut parts = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let numbers = name.strip_suffix(ENDING).and_then(|name| name.split_once('-'));
        if let Some((number, from_ms)) = numbers.and_then(|(n, ms)| Some((n.parse().ok()?, ms.parse().ok()?))) {
            parts.push(Part { number, from_ms, bytes: entry.metadata()?.len() });
        }
    }
    parts.sort_by_key(|part| part.number);
    Ok(parts.into())
}

/// See the module.
pub(super) struct Files {
    folder: PathBuf,
    parts: VecDeque<Part>,
    /// The last of the parts, while it is written.
    open: Option<File>,
}

impl Files {
    pub(super) fn open(folder: &Path) -> io::Result<Files> {
        Ok(Files { folder: folder.to_owned(), parts: parts(folder)?, open: None })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Appends a line. Room is made before, so that the log is never bigger than it may be.
    pub(super) fn append(&mut self, line: &[u8], at_ms: i64, settings: &LogSettings) -> io::Result<()> {
        let more = line.len() as u64;
        let (least, most) = FILE_BYTES;
        let file_bytes = (settings.bytes_max / 16).clamp(least, most);
        let is_over = |part: &Part| {
            part.bytes + more > file_bytes.max(more) || at_ms - part.from_ms >= FILE_MS || at_ms < part.from_ms
        };
        if self.parts.back().is_none_or(is_over) {
            self.open = None;
        }
        self.fit(settings.bytes_max.saturating_sub(more))?;
        if self.open.is_none() {
            let number = self.parts.back().map_or(0, |part| part.number + 1);
            let part = Part { number, from_ms: at_ms, bytes: 0 };
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(part.path(&self.folder))?;
            self.open = Some(file);
            self.parts.push_back(part);
        }
        let (Some(file), Some(part)) = (&mut self.open, self.parts.back_mut()) else { return Ok(()) };
        match file.write_all(line) {
            Ok(()) => {
                part.bytes += more;
                Ok(())
            }
            Err(error) => {
                // Half a line stands there now, perhaps: what follows begins a new file.
                part.bytes = file.metadata().map_or(part.bytes + more, |meta| meta.len());
                self.open = None;
                Err(error)
            }
        }
    }

    /// Removes the oldest files until no more than so many bytes are left.
    fn fit(&mut self, bytes: u64) -> io::Result<()> {
        while self.bytes() > bytes {
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(part) = self.parts.front() else { return Ok(()) };
        match std::fs::remove_file(part.path(&self.folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.parts.pop_front();
        if self.parts.is_empty() {
            self.open = None;
        }
        Ok(())
    }

    /// Lets go what is too old or too much.
    pub(super) fn sweep(&mut self, settings: &LogSettings, now_ms: i64) -> io::Result<()> {
        let since_ms = oldest_ms(settings, now_ms);
        // No entry of a file is younger than its first one and the time that a file is written.
        while self.parts.front().is_some_and(|part| part.from_ms + FILE_MS < since_ms) {
            self.remove_oldest()?;
        }
        self.fit(settings.bytes_max)
    }
}

/// Entries that were closed before this are not shown any more.
pub(super) fn oldest_ms(settings: &LogSettings, now_ms: i64) -> i64 {
    now_ms - i64::from(settings.retention_days) * 24 * 3600 * 1000
}
