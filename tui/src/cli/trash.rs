//! `hone model trash`, `restore`, `purge`, and the list of what is in the trash. Never here: whether something still uses a
//! version, which the daemon decides.

use clap::Args;
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::model::{TRASH_KEPT_MS, TrashItem};
use hone_protocol::request::Request;

use super::context::{Context, answer};
use super::model;
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Put a version into the trash. Its file goes after 30 days; until then `restore` takes it out.
///
/// Refused while a service that is on, an alias, an adapter trained on it, or a job that has not ended uses it; the failure
/// lists them. Its number is never given again, and what was made from it still names it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model trash support@3")]
pub(super) struct Trash {
    /// The version: NAME@NUMBER.
    version: String,
}

impl Trash {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        context.change(&mut link, "trash", Request::Trash { version: self.version.clone() })?;
        let (record, until) = now(&mut link, &self.version)?;
        if context.json {
            return print::json(&record);
        }
        context.say("cli.trashed", &[("version", &self.version), ("until", &until)]);
        Ok(())
    }
}

/// Take a version out of the trash.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model restore support@3")]
pub(super) struct Restore {
    /// The version: NAME@NUMBER.
    version: String,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        context.change(&mut link, "restore", Request::Restore { version: self.version.clone() })?;
        let (record, _) = now(&mut link, &self.version)?;
        if context.json {
            return print::json(&record);
        }
        context.say("cli.restored", &[("version", &self.version)]);
        Ok(())
    }
}

/// Remove the files of versions in the trash now; without `--yes` only say what that would free.
///
/// A file that you have elsewhere, because it was linked or left in place, is never touched. It cannot be taken back.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone model purge\n  hone model purge --yes\n  hone model purge support@3 --yes")]
pub(super) struct Purge {
    /// Versions, NAME@NUMBER [default: all that are in the trash].
    versions: Vec<String>,
    /// Do it.
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let mut items = answer!(link.ask(Request::TrashList)?, Trash);
        if let Some(missing) = self.versions.iter().find(|name| items.iter().all(|item| item.version != **name)) {
            let message = format!("{missing} is not in the trash; hone model list --trash shows what is");
            return Err(Failure::new(FailureCode::NotFound, message).at("version").into());
        }
        items.retain(|item| self.versions.is_empty() || self.versions.contains(&item.version));
        if self.yes && !items.is_empty() {
            let versions = items.iter().map(|item| item.version.clone()).collect();
            context.change(&mut link, "purge", Request::Purge { versions })?;
        }
        show(context, &items)?;
        if !items.is_empty() {
            let bytes = print::bytes(items.iter().map(|item| item.frees_bytes).sum());
            context.say(if self.yes { "cli.purged" } else { "cli.purge_would" }, &[("bytes", &bytes)]);
        }
        Ok(())
    }
}

/// Shows what is in the trash.
pub(super) fn list(context: &Context) -> Outcome {
    show(context, &answer!(context.link()?.ask(Request::TrashList)?, Trash))
}

pub(super) fn show(context: &Context, items: &[TrashItem]) -> Outcome {
    if context.json {
        return print::json(&items);
    }
    if items.is_empty() {
        context.say("cli.trash_empty", &[]);
        return Ok(());
    }
    print::out(&table(context.language, items).render(print::colour()))
}

fn table(language: Language, items: &[TrashItem]) -> Table {
    let mut table =
        Table::new(language, &["cli.col.version", "cli.col.trashed", "cli.col.removed_on", "cli.col.frees"]);
    for item in items {
        table.row(vec![
            item.version.as_str().into(),
            print::moment(item.trashed_at_ms).into(),
            print::moment(item.removed_at_ms).into(),
            Cell::number(print::bytes(item.frees_bytes)),
        ]);
    }
    table
}

/// The version as it is now, and when its file will go.
fn now(link: &mut Link, reference: &str) -> Result<(hone_protocol::model::VersionView, String), Failure> {
    let models = model::all(link)?;
    let found = models.into_iter().flat_map(|model| model.versions).find(|version| version.reference == reference);
    let version = found.ok_or_else(|| Failure::not_found("version", reference))?;
    let until = version.record.trashed_at_ms.map_or_else(String::new, |at| print::moment(at + TRASH_KEPT_MS));
    Ok((version, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trash_says_when_files_go_and_what_that_frees() {
        let item = |version: &str, trashed_at_ms, frees_bytes| TrashItem {
            version: version.into(),
            trashed_at_ms,
            removed_at_ms: trashed_at_ms + TRASH_KEPT_MS,
            frees_bytes,
        };
        let items = [item("support@3", crate::sample::NOW_MS, 9_800_000), item("mine@1", crate::sample::NOW_MS, 0)];
        insta::assert_snapshot!("trash", table(Language::En, &items).render(false));
    }
}
