//! `hone standard`: what good data looks like, and which rows are not so. Never here: checking rows, which the daemon does.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use clap::{Args, Subcommand};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{ROWS_MAX, Request};
use hone_protocol::standard::{CheckedRows, STANDARD_BYTES_MAX, StandardRecord, StandardView};

use super::context::{Context, answer};
use super::standard_file;
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Standards: what good data looks like.
#[derive(Debug, Subcommand)]
pub(super) enum StandardVerb {
    List(List),
    Show(Show),
    Set(Set),
    Edit(Edit),
    Remove(Remove),
    Check(Check),
}

impl StandardVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            StandardVerb::List(verb) => verb.run(context),
            StandardVerb::Show(verb) => verb.run(context),
            StandardVerb::Set(verb) => verb.run(context),
            StandardVerb::Edit(verb) => verb.run(context),
            StandardVerb::Remove(verb) => verb.run(context),
            StandardVerb::Check(verb) => verb.run(context),
        }
    }
}

/// List standards with their newest versions.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone standard list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let standards = answer!(context.link()?.ask(Request::Standards)?, Standards);
        if context.json {
            return print::json(&standards);
        }
        if standards.is_empty() {
            context.say("cli.no_standards", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &standards).render(print::colour()))
    }
}

fn table(language: Language, standards: &[StandardView]) -> Table {
    let keys =
        ["cli.col.standard", "cli.col.shape", "cli.col.criteria", "cli.col.examples", "cli.col.title", "cli.col.made"];
    let mut table = Table::new(language, &keys);
    for newest in standards.iter().filter_map(|standard| standard.versions.last()) {
        table.row(vec![
            newest.reference().into(),
            print::word_of(&newest.spec.shape).into(),
            Cell::number(newest.spec.criteria.len()),
            Cell::number(newest.spec.examples.len()),
            newest.spec.title.as_str().into(),
            format!("{} ({})", print::moment(newest.created_at_ms), newest.created_by).into(),
        ]);
    }
    table
}

/// Print a standard as the file that `set` reads.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone standard show tone\n  hone standard show tone@1 > tone.toml")]
pub(super) struct Show {
    /// NAME (its newest version) or NAME@NUMBER.
    standard: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        show(context, &one(&mut context.link()?, &self.standard)?)
    }
}

fn one(link: &mut Link, standard: &str) -> Result<StandardRecord, Failure> {
    match link.ask(Request::Standard { standard: standard.to_owned() })? {
        hone_protocol::request::Answer::Standard(record) => Ok(*record),
        other => Err(super::context::surprise(&other)),
    }
}

fn show(context: &Context, record: &StandardRecord) -> Outcome {
    if context.json {
        return print::json(record);
    }
    print::out(&text(record))
}

fn text(record: &StandardRecord) -> String {
    let made = print::moment(record.created_at_ms);
    format!("# {} ({made}, {})\n{}", record.reference(), record.created_by, standard_file::write(&record.spec))
}

/// Make a standard, or a new version of one, from a file in TOML or JSON.
///
/// An edit makes a new number; what equals the newest version makes none. Rows and jobs name the number that they were made to.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone standard set tone tone.toml")]
pub(super) struct Set {
    /// Its name.
    name: String,
    /// The file, or - for stdin.
    file: String,
}

impl Set {
    fn run(self, context: &Context) -> Outcome {
        let spec = standard_file::read(&self.file, &text_of(&self.file)?)?;
        set(context, &mut context.link()?, &self.name, spec)
    }
}

fn set(context: &Context, link: &mut Link, name: &str, spec: hone_protocol::standard::StandardSpec) -> Outcome {
    let request = Request::SetStandard { name: name.to_owned(), spec: Box::new(spec) };
    let record = answer!(context.change(link, "standard", request)?, Standard);
    if context.json {
        return print::json(&record);
    }
    context.say("cli.standard_is", &[("standard", &record.reference())]);
    Ok(())
}

/// The text of a file, or of stdin for `-`.
fn text_of(path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let most = STANDARD_BYTES_MAX as u64 + 1;
    let read = match path {
        "-" => std::io::stdin().lock().take(most).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)),
    };
    let wrong = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(path);
    read.map_err(|error| wrong(format!("{path} cannot be read: {error}")))?;
    match text.len() > STANDARD_BYTES_MAX {
        true => Err(wrong(format!("{path} is longer than {STANDARD_BYTES_MAX} bytes")).hint(HintCode::CorrectFile)),
        false => Ok(text),
    }
}

/// Change a standard in your editor ($VISUAL, else $EDITOR, else vi). A name that is not there begins an empty one.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone standard edit tone")]
pub(super) struct Edit {
    /// Its name.
    name: String,
}

impl Edit {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let before = match one(&mut link, &self.name) {
            Ok(record) => standard_file::write(&record.spec),
            Err(failure) if failure.code == FailureCode::NotFound => {
                standard_file::write(&hone_protocol::standard::StandardSpec::new(hone_protocol::dataset::Shape::Chat))
            }
            Err(failure) => return Err(failure.into()),
        };
        let path = std::env::temp_dir().join(format!("hone-standard-{}.toml", std::process::id()));
        let edited = edited(&path, &before);
        let spec = edited.and_then(|text| standard_file::read(&path.display().to_string(), &text));
        match spec {
            Ok(spec) => {
                set(context, &mut link, &self.name, spec)?;
                // Only now: what was refused can be corrected and set by hand.
                let _ = std::fs::remove_file(&path);
                Ok(())
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What a person made of a text.
fn edited(path: &std::path::Path, text: &str) -> Result<String, Failure> {
    let place = path.display().to_string();
    let wrong = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(place.clone());
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| wrong(format!("the file to edit cannot be written: {error}")))?;
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // The variable may hold flags, as git and others take it.
    let ended = std::process::Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path).status();
    match ended {
        Ok(status) if status.success() => {
            std::fs::read_to_string(path).map_err(|error| wrong(format!("the edited file cannot be read: {error}")))
        }
        Ok(status) => Err(wrong(format!("{editor} ended with {status}; nothing was changed"))),
        Err(error) => Err(wrong(format!("{editor} cannot be started: {error}"))),
    }
}

/// Remove a standard. Refused while a job uses it; what was made to it still names it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone standard remove tone")]
pub(super) struct Remove {
    /// Its name.
    name: String,
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::RemoveStandard { name: self.name.clone() };
        let done = context.change(&mut context.link()?, "standard", request)?;
        if context.json {
            return print::json(&done);
        }
        context.say("cli.standard_removed", &[("standard", &self.name)]);
        Ok(())
    }
}

/// List the rows of a dataset that do not pass a standard's checks, with every reason.
///
/// Exit status 5 when there is one. Nothing is changed, and no model is asked.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone standard check tone support-desk")]
pub(super) struct Check {
    /// The standard: NAME or NAME@NUMBER.
    standard: String,
    /// The dataset: NAME or NAME@NUMBER.
    dataset: String,
}

/// Exit status where a row does not pass.
const EXIT_FAULTY: u8 = 5;

impl Check {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (mut offset, mut faulty) = (0, 0u64);
        loop {
            let (standard, dataset) = (self.standard.clone(), self.dataset.clone());
            let request = Request::CheckRows { standard, dataset, offset, count: ROWS_MAX };
            let checked = answer!(link.ask(request)?, Checked);
            faulty += checked.faulty.len() as u64;
            match context.json {
                true => checked.faulty.iter().try_for_each(print::json)?,
                false => print::out(&faults(&checked))?,
            }
            if checked.until >= checked.total || checked.until == offset {
                let numbers = [faulty.to_string(), checked.total.to_string()];
                let args = [("faulty", &*numbers[0]), ("rows", &*numbers[1]), ("standard", &checked.standard)];
                context.say("cli.standard_checked", &args);
                break;
            }
            offset = checked.until;
        }
        if faulty > 0 { Err(print::End::Said(EXIT_FAULTY)) } else { Ok(()) }
    }
}

fn faults(checked: &CheckedRows) -> String {
    let line = |row: &hone_protocol::standard::FaultyRow| {
        let faults: Vec<String> = row.faults.iter().map(|fault| format!("{}: {}", fault.check, fault.reason)).collect();
        print::harmless(&format!("#{}  {}", row.row_id, faults.join("; "))) + "\n"
    };
    checked.faulty.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use hone_protocol::standard::{CheckFault, FaultyRow};

    use super::*;

    #[test]
    fn lists_files_and_faults() {
        let record = crate::sample::standard();
        let view = StandardView { name: record.name.clone(), versions: vec![record.clone()] };
        insta::assert_snapshot!("standard-list", table(Language::En, &[view]).render(false));
        insta::assert_snapshot!("standard-show", text(&record));
        let fault = |check: &str, reason: &str| CheckFault { check: check.into(), reason: reason.into() };
        let row = FaultyRow {
            row_id: 12,
            faults: vec![
                fault("turns", "there is no answer"),
                fault("pii", "\"a@b.org\" in user is personal data (email)"),
            ],
        };
        let checked = CheckedRows { standard: "tone@2".into(), until: 100, total: 100, faulty: vec![row] };
        assert_eq!(
            faults(&checked),
            "#12  turns: there is no answer; pii: \"a@b.org\" in user is personal data (email)\n"
        );
    }
}
