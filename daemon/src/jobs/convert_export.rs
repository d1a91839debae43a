//! Files for other programs where a person wants them. A child writes texts and values into this job's folder; the daemon
//! itself, which is fenced by nothing but the user's rights, puts all of it under a name beside the wanted one and renames it
//! when it is whole. It never writes over anything. Never here: what is in the files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hone_protocol::convert::{Conversion, ConvertWork, ExportFormat};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::Weights;

use super::attempt::{Context, Stop};
use super::convert::{card, conversion, convert, require_disk, text, usable};
use super::store_file;
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;

/// How the name of a single file ends.
const FILE_END: &str = ".gguf";

/// The wanted place must be absent, in a folder that is there.
pub(super) fn check_target(path: &str, format: ExportFormat) -> Result<(), Failure> {
    let target = Path::new(path);
    if !target.is_absolute() || target.file_name().is_none() {
        return Err(Failure::field("path", format!("{path:?} is not an absolute path")));
    }
    if !target.parent().is_some_and(Path::is_dir) {
        return Err(Failure::field("path", format!("{path:?} is not in a folder that exists")));
    }
    if is_file(path) && format != ExportFormat::Gguf {
        return Err(Failure::field("path", "this format is a folder; its name cannot end in .gguf"));
    }
    absent(target)
}

fn is_file(path: &str) -> bool {
    path.ends_with(FILE_END)
}

fn absent(target: &Path) -> Result<(), Failure> {
    // A link to nothing is something too.
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    let message = "there is something of that name already; nothing is written over";
    Err(Failure::new(FailureCode::NameTaken, message).at(text(target)).hint(HintCode::ChooseAnotherName))
}

pub(super) async fn export(mut context: Context, folder: &Path) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let Conversion::Export { version: reference, format, path } = conversion(&job.spec)? else {
        return Err(Failure::new(FailureCode::Internal, "not an export").into());
    };
    let version = context.state.version(reference)?.clone();
    let source = usable(&context, &version)?;
    let base_id = context.state.base_of(&version);
    let base_reference = context.state.version_reference(base_id);
    let of_base = matches!(version.weights, Weights::Adapter { .. }).then_some(base_reference.as_str());
    let card = card(&context.state, &version, reference, of_base.unwrap_or_default());
    let name = format!("{}{FILE_END}", reference.replace(['@', ':'], "-"));
    let mut parts: Vec<(PathBuf, String)> = Vec::new();
    match format {
        ExportFormat::Gguf => {
            parts.push((source.clone(), name.clone()));
            if !is_file(path) {
                let paths = Paths::none().read(&source);
                let work = ConvertWork::Describe { path: text(&source), file: name };
                let made = convert(&mut context, work, paths, folder, card).await?;
                parts.extend(made.files.into_iter().map(|file| (folder.join(&file), file)));
            }
        }
        ExportFormat::Peft => {
            let base = context.state.versions.get(&base_id).cloned();
            let base = base.ok_or_else(|| Failure::not_found("version", &base_reference))?;
            let base_path = usable(&context, &base)?;
            let paths = Paths::none().read(&source).read(&base_path);
            let work = ConvertWork::ExportPeft { adapter_path: text(&source), base_path: text(&base_path) };
            let made = convert(&mut context, work, paths, folder, card).await?;
            parts.extend(made.files.into_iter().map(|file| (folder.join(&file), file)));
        }
        ExportFormat::Huggingface => {
            // Floats of at most four bytes, which are written twice: here, and where they are wanted.
            require_disk(&context, 4 * version.facts.parameters)?;
            let work = ConvertWork::ExportFolder { path: text(&source) };
            let made = convert(&mut context, work, Paths::none().read(&source), folder, card).await?;
            parts.extend(made.files.into_iter().map(|file| (folder.join(&file), file)));
        }
    }
    context.progress("phase.copy", 0, 0).await;
    let (target, files) = (PathBuf::from(path), parts.iter().map(|(_, name)| name.clone()).collect());
    let temporary = PathBuf::from(format!("{path}.part-{}", job.id));
    tokio::task::spawn_blocking(move || place(&parts, &temporary, &target))
        .await
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??;
    Ok(Produced::Exported { path: path.clone(), files })
}

/// Copies the parts, makes them durable, and gives the whole its name.
fn place(parts: &[(PathBuf, String)], temporary: &Path, target: &Path) -> Result<(), Failure> {
    let alone = target.to_str().is_some_and(is_file);
    clear(temporary);
    let placed = absent(target).and_then(|()| {
        copy_all(parts, temporary, alone).map_err(|error| unwritable(target, &error))?;
        absent(target)?;
        let renamed = fs::rename(temporary, target).and_then(|()| match target.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        });
        renamed.map_err(|error| unwritable(target, &error))
    });
    if placed.is_err() {
        clear(temporary);
    }
    placed
}

/// Removes what an attempt left under its own name; what cannot be removed shows when it is made anew.
fn clear(temporary: &Path) {
    let _ = fs::remove_file(temporary);
    let _ = fs::remove_dir_all(temporary);
}

fn copy_all(parts: &[(PathBuf, String)], temporary: &Path, alone: bool) -> io::Result<()> {
    if !alone {
        fs::create_dir(temporary)?;
    }
    for (from, name) in parts {
        let to = if alone { temporary.to_owned() } else { temporary.join(name) };
        store_file::copy(from, &to)?;
    }
    if alone { Ok(()) } else { File::open(temporary)?.sync_all() }
}

fn unwritable(target: &Path, error: &io::Error) -> Failure {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if full { FailureCode::DiskFull } else { FailureCode::FileUnreadable };
    let hint = if full { HintCode::FreeDisk } else { HintCode::TryAgain };
    Failure::new(code, format!("the files cannot be written: {error}")).at(text(target)).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_whole_or_absent_and_writes_over_nothing() {
        let home = tempfile::tempdir().unwrap();
        let from = home.path().join("source");
        fs::write(&from, b"weights").unwrap();
        let parts = vec![(from.clone(), "a.gguf".to_owned()), (from.clone(), "Modelfile".to_owned())];
        let target = home.path().join("out");
        let temporary = home.path().join("out.part");
        place(&parts, &temporary, &target).unwrap();
        assert_eq!(fs::read(target.join("a.gguf")).unwrap(), b"weights");
        assert_eq!(place(&parts, &temporary, &target).unwrap_err().code, FailureCode::NameTaken);
        let missing = vec![(from.clone(), "a.gguf".to_owned()), (home.path().join("none"), "b".to_owned())];
        let other = home.path().join("other");
        assert_eq!(place(&missing, &temporary, &other).unwrap_err().code, FailureCode::FileUnreadable);
        assert!(!other.exists() && !temporary.exists());
        let file = home.path().join("one.gguf");
        place(&parts[..1], &temporary, &file).unwrap();
        // The copy is a file of its own: who changes it does not change the store.
        fs::write(&file, b"changed").unwrap();
        assert_eq!(fs::read(&from).unwrap(), b"weights");
    }

    #[test]
    fn the_wanted_place_is_judged_before_work_begins() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).display().to_string();
        check_target(&at("new"), ExportFormat::Peft).unwrap();
        check_target(&at("new.gguf"), ExportFormat::Gguf).unwrap();
        for (path, format, code) in [
            ("relative".to_owned(), ExportFormat::Gguf, FailureCode::InvalidField),
            (at("no/such/folder"), ExportFormat::Gguf, FailureCode::InvalidField),
            (at("x.gguf"), ExportFormat::Peft, FailureCode::InvalidField),
            (at(""), ExportFormat::Gguf, FailureCode::NameTaken),
        ] {
            assert_eq!(check_target(&path, format).unwrap_err().code, code, "{path}");
        }
    }
}
