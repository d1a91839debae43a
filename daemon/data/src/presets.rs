//! The rows that come with hone, inside the program itself.
//! Lives here: the bytes. Never here: what presets there are (see `hone_protocol::preset`), importing them (they take the road of any file).

use std::io::Write;
use std::path::{Path, PathBuf};

use hone_protocol::failure::Failure;

use super::complete::Complete;
use super::unwritable;

/// The names of the presets that come with hone, and their rows as JSONL.
pub(super) const INSIDE: [(&str, &str); 3] = [
    ("support-desk", include_str!("../presets/support-desk.jsonl")),
    ("support-preferences", include_str!("../presets/support-preferences.jsonl")),
    ("support-handbook", include_str!("../presets/support-handbook.jsonl")),
];

/// Writes a preset that comes with hone as `NAME.jsonl` into a folder, for an import to read, and says where it is.
pub fn write_preset(name: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let found = INSIDE.iter().find(|(inside, _)| *inside == name);
    let (_, jsonl) = found.ok_or_else(|| Failure::not_found("preset", name))?;
    let path = folder.join(format!("{name}.jsonl"));
    let write = || {
        let mut file = Complete::create(folder)?;
        file.write_all(jsonl.as_bytes())?;
        file.keep(&path)
    };
    write().map_err(|error| unwritable(&path, &error))?;
    Ok(path)
}
