//! `hone dataset from-log`: rows out of an application's request log. Never here: choosing them (the daemon does).

use clap::{Args, ValueEnum};
use hone_protocol::dataset::{DatasetSource, RowFormat, Shape};
use hone_protocol::failure::Failure;
use hone_protocol::job::JobSpec;
use hone_protocol::log::{LogSelection, response_id};

use super::context::Context;
use super::dataset;
use super::log::Filters;
use crate::print::Outcome;

/// What rows are made, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Conversations, with the answer or its correction
    Chat,
    /// A better and a worse answer to one prompt
    Preference,
}

/// Make a version of a dataset of logged requests: its rows, and new ones. No response makes a row twice.
///
/// A chat ends with the answer as it was delivered, or with the newest correction. A preference has the correction before what was
/// delivered, or the better of two rated answers to the same prompt before the worse one.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone dataset from-log shop support --since 7d --feedback up\n  hone dataset from-log shop prefs --rows preference"
)]
pub(super) struct FromLog {
    /// Name of the application.
    app: String,
    /// NAME of the dataset that gets the version.
    name: String,
    #[command(flatten)]
    filters: Filters,
    /// What rows are made.
    #[arg(long, value_enum, value_name = "SHAPE", default_value = "chat")]
    rows: Rows,
    /// Only these responses, with commas between, in any of the forms in which clients are told them.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    responses: Vec<String>,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl FromLog {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let id = |text: &String| {
            response_id(text).ok_or_else(|| Failure::field("--responses", format!("{text:?} is no id of a response")))
        };
        let ids = self.responses.iter().map(id).collect::<Result<Vec<_>, _>>()?;
        let shape = match self.rows {
            Rows::Chat => Shape::Chat,
            Rows::Preference => Shape::Preference,
        };
        let query = self.filters.query(self.app, String::new(), 1);
        let source = DatasetSource::Log(Box::new(LogSelection { query, ids, shape }));
        let spec = JobSpec::ImportDataset { source, name: self.name.clone(), format: RowFormat::Detect };
        dataset::bring_in(context, &self.name, spec, self.detach)
    }
}
