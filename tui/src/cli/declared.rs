//! `hone apply` and `hone export`: services, applications, aliases, hooks and prices as a file. Lives here: the two verbs. `declared/`:
//! reading the file, writing it, and what is to be changed. Never here: changing anything, which the daemon does as one.

mod plan;
mod read;
mod write;

use clap::Args;
use hone_protocol::declared::Declared;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Hash;
use serde::Serialize;

use super::context::{Context, surprise};
use crate::link::Link;
use crate::print::{self, End, Outcome};

/// Exit status of a plan that would change something.
const EXIT_CHANGES: u8 = 2;

/// Create or change what a file declares, all of it or nothing; a second time changes nothing.
///
/// With `--plan` it only says what would change: exit status 0 for nothing, 2 for something. What the file does not name stays as it
/// is, unless `--prune` removes it. Keys and payments are never in a file.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone apply -f hone.toml --plan\n  hone apply -f hone.toml\n  hone apply -f hone.toml --prune"
)]
pub(super) struct Apply {
    /// The file.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    declared_file: String,
    /// Only say what would change.
    #[arg(long)]
    plan: bool,
    /// Remove services, aliases, gates, hooks and standards that the file does not name.
    #[arg(long)]
    prune: bool,
}

impl Apply {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let path = &self.declared_file;
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::new(FailureCode::FileUnreadable, format!("the file cannot be read: {e}")).at(path.clone())
        })?;
        let wanted = read::read(path, &text)?;
        let mut link = context.link()?;
        let (now, stamp) = declared(&mut link)?;
        let steps = plan::plan(&now, &wanted, self.prune);
        if self.plan {
            show(context, &steps, &[])?;
            return if steps.is_empty() { Ok(()) } else { Err(End::Said(EXIT_CHANGES)) };
        }
        if steps.is_empty() {
            return show(context, &steps, &[]);
        }
        let changes = steps.iter().flat_map(|step| step.requests.clone()).collect();
        let answer = link.ask(Request::Apply { made_for: stamp, changes })?;
        let Answer::Applied { secrets } = &answer else { return Err(surprise(&answer).into()) };
        show(context, &steps, secrets)
    }
}

/// What was changed, or would be.
#[derive(Serialize)]
struct Shown<'s> {
    changes: &'s [plan::Step],
    secrets: &'s [(String, String)],
}

fn show(context: &Context, steps: &[plan::Step], secrets: &[(String, String)]) -> Outcome {
    if context.json {
        return print::json(&Shown { changes: steps, secrets });
    }
    print::out(&plan::text(context.language, steps))?;
    for (hook, secret) in secrets {
        context.say("cli.hook_once", &[("hook", hook)]);
        print::out(&format!("{secret}\n"))?;
    }
    Ok(())
}

/// Write what is declared as a file that changes nothing when it is applied; to stdout.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone export > hone.toml")]
pub(super) struct Export {}

impl Export {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (now, _) = declared(&mut context.link()?)?;
        if context.json {
            return print::json(&now);
        }
        print::out(&write::write(&now))
    }
}

fn declared(link: &mut Link) -> Result<(Declared, Hash), Failure> {
    match link.ask(Request::Declared)? {
        Answer::Declared { declared, stamp } => Ok((*declared, stamp)),
        other => Err(surprise(&other)),
    }
}
