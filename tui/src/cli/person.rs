//! `hone person`: who is let in beside the daemon's own user, and what they may do. Never here: enforcing it (the daemon does).

use clap::{Args, Subcommand};
use hone_protocol::person::Role;
use hone_protocol::request::Request;

use super::context::{Context, answer};
use crate::print::{self, Outcome, Table};

/// Persons: who may use this hone, and for what.
#[derive(Debug, Subcommand)]
pub(super) enum PersonVerb {
    List(List),
    Set(Set),
    Remove(Remove),
}

impl PersonVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            PersonVerb::List(verb) => verb.run(context),
            PersonVerb::Set(verb) => verb.run(context),
            PersonVerb::Remove(verb) => verb.run(context),
        }
    }
}

/// List persons with their roles.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone person list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let people = answer!(context.link()?.ask(Request::People)?, People);
        if context.json {
            return print::json(&people);
        }
        if people.is_empty() {
            context.say("cli.no_people", &[]);
            return Ok(());
        }
        let keys = ["cli.col.person", "cli.col.role", "cli.col.uid", "cli.col.projects", "cli.col.made"];
        let mut table = Table::new(context.language, &keys);
        for person in &people {
            table.row(vec![
                person.name.as_str().into(),
                person.role.word().into(),
                person.uid.map_or("-".to_owned(), |uid| uid.to_string()).into(),
                person.projects.join(", ").into(),
                format!("{} ({})", print::moment(person.changed_at_ms), person.changed_by).into(),
            ]);
        }
        print::out(&table.render(print::colour()))
    }
}

/// Let a person in, or change what they may do.
///
/// With --uid they come as that user of this machine, over the socket that `honed --share PATH` opens (HONE_SOCKET=PATH for their hone).
/// Without it, they come as you, with --as NAME: for a forced command of SSH.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone person set lin --role annotator --uid 1001 --projects tone\n  hone person set ada --role developer --uid 1002"
)]
pub(super) struct Set {
    /// Their name.
    name: String,
    /// owner, developer, annotator or viewer.
    #[arg(long, value_name = "ROLE", value_parser = ["owner", "developer", "annotator", "viewer"])]
    role: String,
    /// Number of the user of this machine that they come as.
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// Projects that an annotator labels, with commas between them; all otherwise.
    #[arg(long, value_name = "PROJECTS", value_delimiter = ',')]
    projects: Vec<String>,
}

impl Set {
    fn run(self, context: &Context) -> Outcome {
        let role = Role::ALL.into_iter().find(|(word, _)| *word == self.role).map_or(Role::Viewer, |(_, role)| role);
        let request = Request::SetPerson { name: self.name.clone(), role, uid: self.uid, projects: self.projects };
        context.change(&mut context.link()?, "person", request)?;
        context.say("cli.person_set", &[("person", &self.name), ("role", &self.role)]);
        Ok(())
    }
}

/// Let a person in no longer. What they did keeps their name.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone person remove lin")]
pub(super) struct Remove {
    /// Their name.
    name: String,
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        context.change(&mut context.link()?, "person", Request::RemovePerson { name: self.name.clone() })?;
        context.say("cli.person_removed", &[("person", &self.name)]);
        Ok(())
    }
}
