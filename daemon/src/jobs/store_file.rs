//! Bringing a finished file into the models folder under its final name: by reflink, else hard link, else copy.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::{Storage, WeightsFile};
use hone_protocol::value::Hash;

/// Links or copies `from` to `folder/name`, durably, and says how. The hash is the inspector's.
pub fn bring(from: &Path, folder: &Path, name: &str, sha256: Hash) -> Result<WeightsFile, Failure> {
    let fail = |what: &str, error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::StorageFull {
            FailureCode::DiskFull
        } else {
            FailureCode::FileUnreadable
        };
        Failure::new(code, format!("{what}: {error}")).at(from.display().to_string()).hint(HintCode::TryAgain)
    };
    std::fs::create_dir_all(folder).map_err(|e| fail("the models folder cannot be made", e))?;
    let target = folder.join(name);
    let storage = place(from, &target).map_err(|e| fail("the file cannot be brought into the store", e))?;
    let sync = std::fs::File::open(&target)
        .and_then(|f| f.sync_all())
        .and_then(|()| std::fs::File::open(folder))
        .and_then(|d| d.sync_all());
    sync.map_err(|e| fail("the file cannot be made durable", e))?;
    describe(&target, name, storage, sha256)
}

/// Describes a file that stays where it is.
pub fn in_place(path: &Path, sha256: Hash) -> Result<WeightsFile, Failure> {
    describe(path, &path.display().to_string(), Storage::InPlace, sha256)
}

fn describe(path: &Path, name: &str, storage: Storage, sha256: Hash) -> Result<WeightsFile, Failure> {
    let meta = std::fs::metadata(path).map_err(|e| {
        Failure::new(FailureCode::FileUnreadable, format!("the file cannot be read: {e}"))
            .at(path.display().to_string())
    })?;
    Ok(WeightsFile {
        path: name.to_owned(),
        storage,
        size_bytes: meta.len(),
        sha256,
        modified_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
    })
}

fn place(from: &Path, target: &Path) -> std::io::Result<Storage> {
    let temporary = target.with_extension("tmp");
    let _ = std::fs::remove_file(&temporary);
    if reflink(from, &temporary).is_ok() {
        std::fs::rename(&temporary, target)?;
        return Ok(Storage::Reflinked);
    }
    let _ = std::fs::remove_file(&temporary);
    match std::fs::hard_link(from, &temporary) {
        Ok(()) => {
            std::fs::rename(&temporary, target)?;
            Ok(Storage::HardLinked)
        }
        Err(_) => {
            std::fs::copy(from, &temporary)?;
            std::fs::rename(&temporary, target)?;
            Ok(Storage::Copied)
        }
    }
}

/// A file of its own with the same bytes, durable: whoever changes it changes nothing else.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if reflink(from, to).is_err() {
        let _ = std::fs::remove_file(to);
        std::fs::copy(from, to)?;
    }
    std::fs::File::open(to)?.sync_all()
}

fn reflink(from: &Path, to: &Path) -> std::io::Result<()> {
    let source = std::fs::File::open(from)?;
    let target = std::fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    rustix::fs::ioctl_ficlone(&target, &source).map_err(Into::into)
}

/// Whether a stored file still is what was hashed, by size and time; a full hash is `hone doctor`'s work.
pub fn unchanged(path: &Path, file: &WeightsFile) -> Result<(), Failure> {
    let now = describe(path, &file.path, file.storage, file.sha256)?;
    if now.size_bytes == file.size_bytes && now.modified_ns == file.modified_ns {
        return Ok(());
    }
    let message = "the weights file changed since it was registered; import it again as a new version";
    Err(Failure::new(FailureCode::HashMismatch, message).at(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brought_file_is_complete_and_a_changed_one_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("a.gguf");
        std::fs::write(&from, b"weights").unwrap();
        let models = folder.path().join("models");
        let file = bring(&from, &models, "v.gguf", Hash([0; 32])).unwrap();
        let stored = models.join(&file.path);
        assert_eq!(std::fs::read(&stored).unwrap(), b"weights");
        unchanged(&stored, &file).unwrap();
        std::fs::write(&stored, b"other bytes").unwrap();
        assert_eq!(unchanged(&stored, &file).unwrap_err().code, FailureCode::HashMismatch);
    }
}
