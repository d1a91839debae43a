//! `hone model register` and `hone train checkpoints`: versions out of what a run left. Never here: what is kept, and how a
//! checkpoint becomes a file.

use clap::Args;
use hone_protocol::catalogue::Language;
use hone_protocol::failure::Failure;
use hone_protocol::job::{JobResult, JobSpec, RegisterSpec};
use hone_protocol::paths;
use hone_protocol::request::Request;
use hone_protocol::train::{KeptCheckpoint, Register};

use super::context::{Context, answer};
use super::{model, wait};
use crate::print::{self, Cell, Outcome, Table};

/// Make a version of a kept checkpoint of a run, or of the result of a run that was not registered.
///
/// The run may be running, ended, failed or cancelled. Without `--step` it is the run's result, else its newest checkpoint;
/// `hone train checkpoints RUN` lists what is kept.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model register last --name support\n  hone model register last --name support --step 40 --alias early"
)]
pub(super) struct RegisterRun {
    /// The run: a job's id, the end of it, or `last`.
    job: String,
    /// Name of the model that gets the version; made if it is not there.
    #[arg(long)]
    name: String,
    /// The step of the checkpoint [default: the run's result, else its newest checkpoint].
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Alias to move to the new version.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Publish the new version as a service of this name.
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl RegisterRun {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if !paths::is_name(&self.name) {
            return Err(Failure::field("--name", format!("{:?} is no name", self.name)).into());
        }
        let mut link = context.link()?;
        let run = context.job(&mut link, &self.job)?;
        let register = Register {
            model: self.name,
            alias: self.alias.unwrap_or_default(),
            publish: self.publish.unwrap_or_default(),
        };
        let spec = JobSpec::Register(RegisterSpec { run, step: self.step, register });
        let Some((view, result)) = wait::submit(context, &mut link, "register", spec, self.detach)? else {
            return Ok(());
        };
        if context.json {
            return print::json(&view);
        }
        let JobResult::Model(id) = result else { return Ok(()) };
        model::show_made(context, &mut link, id)
    }
}

/// List what is kept of a run, newest first: each step can become a version.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone train checkpoints last")]
pub(super) struct Checkpoints {
    /// The run: a job's id, the end of it, or `last`.
    job: String,
}

impl Checkpoints {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let kept = answer!(link.ask(Request::Checkpoints { job })?, Checkpoints);
        if context.json {
            return print::json(&kept);
        }
        if kept.is_empty() {
            context.say("cli.nothing_kept", &[("job", &job.to_string())]);
            return Ok(());
        }
        print::out(&table(context.language, &kept).render(print::colour()))
    }
}

fn table(language: Language, kept: &[KeptCheckpoint]) -> Table {
    let mut table = Table::new(language, &["cli.col.step", "cli.col.size", "cli.col.result"]);
    for checkpoint in kept {
        let result = if checkpoint.result { "cli.yes" } else { "cli.no" };
        table.row(vec![
            Cell::number(checkpoint.step),
            Cell::number(print::bytes(checkpoint.size_bytes)),
            hone_protocol::catalogue::text(language, result).into(),
        ]);
    }
    table
}
