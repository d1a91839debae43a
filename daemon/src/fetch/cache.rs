//! The Hugging Face cache that the user's other programs fill: `models--OWNER--NAME/{refs,snapshots,blobs}`. What is
//! there is linked and not downloaded. Never here: writing into that cache.

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::value::Hash;

use super::choose::Entry;
use super::listing::{Listing, is_commit};

/// Files that a snapshot is searched for; more are left out.
const FILES_MAX: usize = 10_000;

/// The cached files of one repository.
pub(super) struct Cached {
    folder: PathBuf,
}

impl Cached {
    /// The folder of `repo` in the cache `hub`.
    pub(super) fn of(hub: &Path, repo: &str, rows: bool) -> Cached {
        let kind = if rows { "datasets" } else { "models" };
        Cached { folder: hub.join(format!("{kind}--{}", repo.replace('/', "--"))) }
    }

    /// The commit that `revision` meant when the cache was filled.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return self.folder.join("snapshots").join(revision).is_dir().then(|| revision.to_owned());
        }
        let plain = !revision.split('/').any(|part| part.is_empty() || part == "..");
        let text = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok().filter(|_| plain)?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Where the file of a snapshot really lies, if it is there whole.
    pub(super) fn file(&self, commit: &str, entry: &Entry) -> Option<PathBuf> {
        let path = self.folder.join("snapshots").join(commit).join(&entry.path).canonicalize().ok()?;
        let inside = self.folder.canonicalize().ok()?;
        let size = path.metadata().ok().filter(|meta| meta.is_file())?.len();
        // The blob's name is its hash: a file of another version is not taken.
        let same = match (entry.sha256, blob_hash(&path)) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        };
        (path.starts_with(inside) && same && entry.size.is_none_or(|wanted| wanted == size)).then_some(path)
    }

    /// What the cache alone knows of a revision, for work without a network.
    pub(super) fn listing(&self, revision: &str) -> Result<Listing, Failure> {
        let missing = || {
            let message = format!(
                "HF_HUB_OFFLINE is set and revision {revision:?} is not in {}: unset it, or fetch the files elsewhere",
                self.folder.display()
            );
            Failure::new(FailureCode::NotFound, message)
        };
        let commit = self.commit(revision).ok_or_else(missing)?;
        let root = self.folder.join("snapshots").join(&commit);
        let mut entries = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if let (Some(name), Ok(meta)) =
                    (path.strip_prefix(&root).ok().and_then(|p| p.to_str()), path.metadata())
                {
                    let sha256 = path.canonicalize().ok().and_then(|p| blob_hash(&p));
                    entries.push(Entry {
                        path: name.to_owned(),
                        size: Some(meta.len()),
                        sha256,
                        identity: String::new(),
                    });
                }
                if entries.len() >= FILES_MAX {
                    return Ok(Listing { commit, licence: String::new(), entries });
                }
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Listing { commit, licence: String::new(), entries })
    }
}

/// The SHA-256 that a blob of a large file has for a name.
fn blob_hash(path: &Path) -> Option<Hash> {
    Hash::from_hex(path.file_name()?.to_str()?)
}
