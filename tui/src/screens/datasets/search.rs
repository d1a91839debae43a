//! The text that rows are looked through for. Never here: looking through them (the daemon's reader does).

use crossterm::event::{KeyCode, KeyEvent};
use hone_protocol::dataset::{Part, RowFilter, Split};
use hone_protocol::request::Request;

use super::WINDOW;
use crate::draft::SPLIT_SEED;
use crate::widgets::line::TypedLine;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pub(super) line: TypedLine,
    pub(super) typing: bool,
    /// What was typed last; empty for all rows.
    pub(super) text: String,
}

impl Search {
    /// Takes a key; says whether other rows are wanted now.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Esc => self.clear(),
            KeyCode::Enter => {
                self.typing = false;
                let changed = self.text != self.line.text();
                self.text = self.line.text().to_string();
                changed
            }
            _ => {
                self.line.key(key);
                false
            }
        }
    }

    /// Shows all rows again; says whether it did not before.
    pub(super) fn clear(&mut self) -> bool {
        let searched = !self.text.is_empty();
        *self = Search::default();
        searched
    }

    /// The wish for a window of the rows.
    pub(super) fn request(&self, dataset: String, offset: u64) -> Request {
        let (split, part) = (Split { held_out_percent: 15, seed: SPLIT_SEED }, Part::All);
        if self.text.is_empty() {
            return Request::Rows { dataset, offset, count: WINDOW, split, part };
        }
        let filter = RowFilter {
            contains: self.text.clone(),
            ignore_case: true,
            role: String::new(),
            min_characters: 0,
            max_characters: 0,
            split,
            part,
        };
        Request::FindRows { dataset, filter, offset, count: WINDOW }
    }
}
