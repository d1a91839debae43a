//! `hone dataset release`, `trash`, `restore`, `purge`: what becomes of versions of datasets. Never here: whether something still uses
//! one, which the daemon decides.

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::dataset::{ChatMessage, DiffRow, LineageEdge, Row};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::model::TRASH_KEPT_MS;
use hone_protocol::request::{ROWS_MAX, Request};

use super::context::{Context, answer};
use super::{dataset, trash};
use crate::print::{self, Outcome, Table};

/// Say that a version may be trained on. What is imported is released already, unless it came in as a draft.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset release made@1\n  hone dataset release made@1 --take-back")]
pub(super) struct Release {
    /// The version: NAME@NUMBER.
    version: String,
    /// Make it a draft again.
    #[arg(long)]
    take_back: bool,
}

impl Release {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let request = Request::ReleaseDataset { version: self.version.clone(), released: !self.take_back };
        let done = context.change(&mut context.link()?, "release", request)?;
        if context.json {
            return print::json(&done);
        }
        let key = if self.take_back { "cli.is_draft" } else { "cli.is_released" };
        context.say(key, &[("version", &self.version)]);
        Ok(())
    }
}

/// Put a version, or all of a dataset, into the trash. Its rows go after 30 days; until then `restore` takes it out.
///
/// Refused while a suite or a job that has not ended uses it; the failure lists them. Its number is never given again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset trash made@1")]
pub(super) struct Trash {
    /// NAME@NUMBER, or NAME for all versions.
    dataset: String,
}

impl Trash {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let done = context.change(&mut link, "trash", Request::TrashDataset { dataset: self.dataset.clone() })?;
        if context.json {
            return print::json(&done);
        }
        let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
        let trashed = dataset::find(&datasets, &self.dataset).ok().and_then(|(_, version)| version.trashed_at_ms);
        let until = trashed.map_or_else(String::new, |at| print::moment(at + TRASH_KEPT_MS));
        context.say("cli.dataset_trashed", &[("dataset", &self.dataset), ("until", &until)]);
        Ok(())
    }
}

/// Take a version, or all of a dataset, out of the trash.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset restore made@1")]
pub(super) struct Restore {
    /// NAME@NUMBER, or NAME for all versions.
    dataset: String,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let request = Request::RestoreDataset { dataset: self.dataset.clone() };
        let done = context.change(&mut context.link()?, "restore", request)?;
        if context.json {
            return print::json(&done);
        }
        context.say("cli.restored", &[("version", &self.dataset)]);
        Ok(())
    }
}

/// Remove the rows of versions in the trash now; without `--yes` only say what that would free. It cannot be taken back.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset purge\n  hone dataset purge made@1 --yes")]
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
        let mut items = answer!(link.ask(Request::DatasetTrash)?, DatasetTrash);
        if let Some(missing) = self.versions.iter().find(|name| items.iter().all(|item| item.version != **name)) {
            let message = format!("{missing} is not in the trash; hone dataset list --trash shows what is");
            return Err(Failure::new(FailureCode::NotFound, message).at("version").into());
        }
        items.retain(|item| self.versions.is_empty() || self.versions.contains(&item.version));
        if self.yes && !items.is_empty() {
            let versions = items.iter().map(|item| item.version.clone()).collect();
            context.change(&mut link, "purge", Request::PurgeDatasets { versions })?;
        }
        trash::show(context, &items)?;
        if !items.is_empty() {
            let bytes = print::bytes(items.iter().map(|item| item.frees_bytes).sum());
            context.say(if self.yes { "cli.purged" } else { "cli.purge_would" }, &[("bytes", &bytes)]);
        }
        Ok(())
    }
}

/// Print what differs between two versions: rows added (+), removed (-) and changed (~); with --json, one difference a line.
///
/// A row is changed where both versions have its id, or its prompt, with another content.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset diff support-desk@1 support-desk@2")]
pub(super) struct Diff {
    /// The earlier version: NAME@NUMBER.
    before: String,
    /// The later version: NAME@NUMBER.
    after: String,
    /// Index of the first difference.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Diff {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let Diff { before, after, offset, count } = self;
        let diff = answer!(context.link()?.ask(Request::DiffDatasets { before, after, offset, count })?, Diff);
        for row in &diff.rows {
            match context.json {
                true => print::json(row)?,
                false => print::out(&diff_text(row))?,
            }
        }
        let numbers = [diff.added, diff.removed, diff.changed, diff.same].map(|number| number.to_string());
        let args =
            [("added", &*numbers[0]), ("removed", &*numbers[1]), ("changed", &*numbers[2]), ("same", &*numbers[3])];
        context.say("cli.diff_sum", &args);
        Ok(())
    }
}

fn diff_text(row: &DiffRow) -> String {
    let side = |sign: &str, row: &Row| {
        let line = |message: &ChatMessage| {
            let content = print::harmless(&message.content).replace('\n', "\n               ");
            format!("{sign}   {:<9}  {content}\n", print::harmless(&message.role))
        };
        format!("{sign} #{}\n{}", row.row_id, row.messages.iter().map(line).collect::<String>())
    };
    match (&row.before, &row.after) {
        (Some(before), Some(after)) => side("~-", before) + &side("~+", after),
        (before, after) => {
            let removed = before.as_ref().map_or(String::new(), |row| side("- ", row));
            removed + &after.as_ref().map_or(String::new(), |row| side("+ ", row))
        }
    }
}

/// Print what a dataset was made of and what was made of it, one step a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset lineage made")]
pub(super) struct Lineage {
    /// NAME or NAME@NUMBER.
    dataset: String,
}

impl Lineage {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let edges = answer!(context.link()?.ask(Request::DatasetLineage { dataset: self.dataset })?, Lineage);
        if context.json {
            return print::json(&edges);
        }
        print::out(&lineage_table(context.language, &edges).render(print::colour()))
    }
}

fn lineage_table(language: Language, edges: &[LineageEdge]) -> Table {
    let mut table = Table::new(language, &["cli.col.from", "cli.col.how", "cli.col.by", "cli.col.made_thing"]);
    for edge in edges {
        let how = catalogue::find(language, &format!("lineage.{}", edge.kind.word())).unwrap_or(edge.kind.word());
        table.row(vec![edge.from.as_str().into(), how.into(), edge.by.as_str().into(), edge.to.as_str().into()]);
    }
    table
}

/// Shows what is in the trash.
pub(super) fn list_trash(context: &Context) -> Outcome {
    trash::show(context, &answer!(context.link()?.ask(Request::DatasetTrash)?, DatasetTrash))
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::LineageKind;
    use hone_protocol::value::{Hash, JsonText};

    use super::*;

    fn row(row_id: u64, answer: &str) -> Row {
        let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
        let messages = vec![message("user", "When do you open?"), message("assistant", answer)];
        Row { row_id, messages, content_sha256: Hash([0; 32]), original: JsonText::default() }
    }

    #[test]
    fn differences_and_lineage() {
        let changed = DiffRow { before: Some(row(3, "At ten.")), after: Some(row(9, "At nine.\nEvery day.")) };
        let added = DiffRow { before: None, after: Some(row(10, "At six.")) };
        let removed = DiffRow { before: Some(row(4, "Never.")), after: None };
        let text: String = [changed, added, removed].iter().map(diff_text).collect();
        insta::assert_snapshot!("dataset-diff", text);
        let edge = |from: &str, kind, by: &str, to: &str| LineageEdge {
            from: from.into(),
            kind,
            by: by.into(),
            to: to.into(),
        };
        let edges = [
            edge("preset:support-desk", LineageKind::Import, "openai", "support-desk@1"),
            edge("support-desk@1", LineageKind::Generation, "desk to tone@2", "made@1"),
            edge("made@1", LineageKind::Training, "", "support@4"),
        ];
        insta::assert_snapshot!("dataset-lineage", lineage_table(Language::En, &edges).render(false));
    }
}
