//! The data that comes with hone, inside the program itself.
//! Lives here: the bytes, their names and licences. Never here: importing them (they take the road of any file).

use std::io::Write;
use std::path::{Path, PathBuf};

use hone_protocol::failure::Failure;

use super::complete::Complete;
use super::unwritable;

/// A dataset that comes with hone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name, for example `support-desk`.
    pub name: &'static str,
    /// Its rows as JSONL.
    pub jsonl: &'static str,
    /// Its licence, as an SPDX identifier.
    pub licence: &'static str,
    /// What it is, in one English sentence.
    pub about: &'static str,
}

/// All presets.
pub const PRESETS: &[Preset] = &[Preset {
    name: "support-desk",
    jsonl: include_str!("../../presets/support-desk.jsonl"),
    licence: "CC0-1.0",
    about: "the invented help desk of Zellavane: 669 chats whose manner and facts a tuned model visibly takes on",
}];

/// Writes a preset as `NAME.jsonl` into a folder, for an import to read, and says where it is.
pub fn write_preset(name: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let mut failure = Failure::not_found("preset", name);
        failure.message_en = format!("{}; there is {}", failure.message_en, names.join(", "));
        failure
    })?;
    let path = folder.join(format!("{name}.jsonl"));
    let write = || {
        let mut file = Complete::create(folder)?;
        file.write_all(preset.jsonl.as_bytes())?;
        file.keep(&path)
    };
    write().map_err(|error| unwritable(&path, &error))?;
    Ok(path)
}
