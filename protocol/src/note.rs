//! Notes: small things that a person keeps in the daemon's store, so that they outlive the client: talks of the playground,
//! settings under a name and recipes. Never here: what is in them, which is the client's own.

use serde::{Deserialize, Serialize};

use crate::value::Json;

/// Longest note in bytes of its JSON.
pub const NOTE_BYTES_MAX: usize = 1 << 20;
/// Longest name and title of a note, in characters.
pub const NOTE_TITLE_CHARS_MAX: usize = 200;

/// What a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// A talk of the playground, all its branches.
    Talk,
    /// Settings of the playground under a name.
    Preset,
    /// A recipe: see [`Recipe::to_json`](crate::recipe::Recipe::to_json).
    Recipe,
}

impl NoteKind {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            NoteKind::Talk => "talk",
            NoteKind::Preset => "preset",
            NoteKind::Recipe => "recipe",
        }
    }
}

/// A note without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteHead {
    /// Its name, unique for person and kind.
    pub name: String,
    /// A title to show, may be empty.
    pub title: String,
    /// When it was kept, Unix milliseconds.
    pub at_ms: i64,
}

/// A note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoteRecord {
    /// Name, title, time.
    pub head: NoteHead,
    /// The thing.
    pub value: Json,
}
