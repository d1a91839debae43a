//! Folders and ZIP archives: which of their files are read.
//! Lives here: the walk, and what is taken of an archive. Never here: reading rows. Names of members are only told, never written to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hone_protocol::failure::Failure;

use super::archive::{self, Packed};
use super::open::{Found, Kind, Opened, Packing, bad, kind};
use super::unreadable;

/// Files of one folder or archive; more are refused.
const FILES_MAX: usize = 10_000;
/// Characters of a member's name that are told.
const NAME_CHARACTERS_MAX: usize = 200;
/// Folders within folders.
const DEPTH_MAX: usize = 8;

/// The files of a folder, by name. Where there are files of rows, texts beside them (a README) are passed over.
pub(super) fn walk(folder: &Path) -> Result<Opened, Failure> {
    let mut paths = Vec::new();
    let mut passed = Vec::new();
    gather(folder, folder, 0, &mut paths, &mut passed)?;
    let mut files = Vec::new();
    for path in paths {
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        if !known(&name) {
            passed.push((name, "not read: its name says no kind of file that holds rows".to_owned()));
            continue;
        }
        let packing = match name.rsplit_once('.').map(|(_, end)| end) {
            Some("gz") => Packing::Gzip,
            Some("zst") => Packing::Zstd,
            _ => Packing::None,
        };
        match kind(&path, unpacked(&name), packing) {
            Ok(kind) => files.push(Found { path, name: Some(Arc::from(name)), kind, packing }),
            Err(failure) => passed.push((name, failure.message_en)),
        }
    }
    finish(folder, files, passed, "folder")
}

fn gather(
    root: &Path,
    folder: &Path,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    passed: &mut Vec<(String, String)>,
) -> Result<(), Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(folder, &error))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match () {
            () if kind.is_dir() && depth < DEPTH_MAX => gather(root, &path, depth + 1, paths, passed)?,
            () if kind.is_dir() => passed.push((name, format!("not read: more than {DEPTH_MAX} folders deep"))),
            () if kind.is_file() => paths.push(path),
            () if kind.is_symlink() => passed.push((name, "not read: a symbolic link".to_owned())),
            () => passed.push((name, "not read: not a regular file".to_owned())),
        }
        if paths.len() + passed.len() > FILES_MAX {
            return Err(bad(root, &format!("has more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// The members of a ZIP archive.
pub(super) fn archive(path: &Path, file: &File) -> Result<Opened, Failure> {
    let members = archive::members(file).map_err(|reason| bad(path, &format!("is a damaged ZIP archive: {reason}")))?;
    let (mut files, mut passed) = (Vec::new(), Vec::new());
    for member in members {
        let name: String = member.name.chars().take(NAME_CHARACTERS_MAX).collect();
        let hidden = name.rsplit('/').next().is_some_and(|last| last.starts_with('.')) || name.starts_with("__MACOSX/");
        if member.packing == Packed::Folder || hidden {
            continue;
        }
        let reason = match member.packing {
            Packed::Link => Some("not read: a symbolic link"),
            Packed::Encrypted => Some("not read: encrypted"),
            Packed::Otherwise => Some("not read: packed in a way that this version does not read"),
            _ if !known(&name) || unpacked(&name) != name => {
                Some("not read: its name says no kind of file that holds rows")
            }
            _ => None,
        };
        if let Some(reason) = reason {
            passed.push((name, reason.to_owned()));
            continue;
        }
        let (start, bytes, deflated) = (member.start, member.bytes, member.packing == Packed::Deflated);
        let packing = Packing::Member { start, bytes, deflated };
        match kind(path, &name.to_lowercase(), packing) {
            Ok(kind) => files.push(Found { path: path.to_owned(), name: Some(Arc::from(name)), kind, packing }),
            Err(failure) => passed.push((name, failure.message_en)),
        }
    }
    finish(path, files, passed, "zip")
}

fn finish(
    path: &Path,
    files: Vec<Found>,
    mut passed: Vec<(String, String)>,
    container: &str,
) -> Result<Opened, Failure> {
    let is_prose = |file: &Found| matches!(file.kind, Kind::Text | Kind::Markdown);
    let (prose, mut rows): (Vec<Found>, Vec<Found>) = files.into_iter().partition(is_prose);
    if rows.is_empty() {
        rows = prose;
    } else {
        let reason = "not read: a text beside files of rows";
        passed.extend(
            prose.into_iter().map(|file| (file.name.as_deref().unwrap_or_default().to_owned(), reason.to_owned())),
        );
    }
    if rows.is_empty() {
        let why = passed.first().map_or(String::new(), |(name, reason)| format!("; {name}: {reason}"));
        return Err(bad(path, &format!("has no file of rows{why}")));
    }
    Ok(Opened::new(rows, passed, container.to_owned()))
}

fn unpacked(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// Whether a name is that of a file of rows.
fn known(name: &str) -> bool {
    let name = unpacked(name).to_lowercase();
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    let ends = [
        "jsonl", "ndjson", "json", "csv", "tsv", "tab", "parquet", "arrow", "feather", "txt", "text", "md", "markdown",
    ];
    ends.contains(&end)
}
