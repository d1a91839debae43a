//! The rows that come with hone, inside the program itself.
//! Lives here: the bytes. Never here: what presets there are (see `hone_protocol::preset`), importing them (they take the road of any file).

use std::io::Write;
use std::path::{Path, PathBuf};

use hone_protocol::failure::Failure;

use super::complete::Complete;
use super::unwritable;

/// The name of the preset that comes with hone, and its rows as JSONL.
pub(super) const INSIDE: (&str, &str) = ("support-desk", include_str!("../presets/support-desk.jsonl"));

/// Writes the preset that comes with hone as `NAME.jsonl` into a folder, for an import to read, and says where it is.
pub fn write_preset(name: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let (_, jsonl) =
        Some(INSIDE).filter(|(inside, _)| *inside == name).ok_or_else(|| Failure::not_found("preset", name))?;
    let path = folder.join(format!("{name}.jsonl"));
    let write = || {
        let mut file = Complete::create(folder)?;
        file.write_all(jsonl.as_bytes())?;
        file.keep(&path)
    };
    write().map_err(|error| unwritable(&path, &error))?;
    Ok(path)
}
