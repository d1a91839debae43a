//! `hone guard`: what must not pass into services or out of them. Never here: looking for it.

use std::io::Read;

use clap::{Args, Subcommand, ValueEnum};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::guard::{GuardAct, GuardSpec, GuardTrial, GuardView, PiiKind, TRIAL_BYTES_MAX};
use hone_protocol::request::{Answer, Request};

use super::context::{Context, answer};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Guards on what goes into services and comes out of them.
#[derive(Debug, Subcommand)]
pub(super) enum GuardVerb {
    Set(Set),
    List(List),
    Show(Show),
    Test(Test),
    Remove(Remove),
}

impl GuardVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            GuardVerb::Set(verb) => verb.run(context),
            GuardVerb::List(verb) => verb.run(context),
            GuardVerb::Show(verb) => verb.run(context),
            GuardVerb::Test(verb) => verb.run(context),
            GuardVerb::Remove(verb) => verb.run(context),
        }
    }
}

/// What becomes of a match, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Act {
    /// A mark stands in its place
    Mask,
    /// The request is refused, or the answer ends in front of it
    Refuse,
    /// It passes and is counted
    Flag,
}

/// Which side, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// What goes in
    Input,
    /// What comes out
    Output,
}

/// A kind of personal data, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// E-mail addresses
    Email,
    /// Telephone numbers
    Phone,
    /// Payment cards, by their check digit
    Card,
    /// IBANs, by their check digits
    Iban,
    /// Chinese resident identity numbers, by their check digit
    ChineseId,
    /// IPv4 addresses
    Ipv4,
}

impl Kind {
    fn kind(self) -> PiiKind {
        match self {
            Kind::Email => PiiKind::Email,
            Kind::Phone => PiiKind::Phone,
            Kind::Card => PiiKind::Card,
            Kind::Iban => PiiKind::Iban,
            Kind::ChineseId => PiiKind::ChineseId,
            Kind::Ipv4 => PiiKind::Ipv4,
        }
    }
}

/// Make a guard, or set what it does. What an earlier one of this name did is replaced.
///
/// Matches are found in streams too, wherever they are cut: what could become one waits until that is decided.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone guard set pii --kinds email,phone,card --act mask\n  hone guard set rivals --words \"Acme,Blue Ox\" --on output --act refuse --services desk"
)]
pub(super) struct Set {
    /// Its name.
    name: String,
    /// Words and phrases, with commas between.
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    words: Vec<String>,
    /// File of words and phrases, one a line.
    #[arg(long, value_name = "FILE")]
    words_file: Option<String>,
    /// Regular expression; may be given several times.
    #[arg(long = "pattern", value_name = "REGEX")]
    patterns: Vec<String>,
    /// Kinds of personal data, with commas between.
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// What it looks at, with commas between [default: both].
    #[arg(long, value_enum, value_name = "SIDES", value_delimiter = ',')]
    on: Vec<Side>,
    /// What becomes of a match.
    #[arg(long, value_enum, value_name = "ACT", default_value = "mask")]
    act: Act,
    /// Services that it stands at, with commas between [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    services: Vec<String>,
    /// Applications that it is for, with commas between [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    apps: Vec<String>,
}

impl Set {
    fn spec(&self) -> Result<GuardSpec, Failure> {
        let mut words: Vec<String> = self.words.iter().map(|word| word.trim().to_owned()).collect();
        if let Some(path) = &self.words_file {
            words.extend(text_of(path)?.lines().map(|line| line.trim().to_owned()));
        }
        words.retain(|word| !word.is_empty());
        let has = |side| self.on.is_empty() || self.on.contains(&side);
        Ok(GuardSpec {
            words,
            patterns: self.patterns.clone(),
            kinds: self.kinds.iter().map(|kind| kind.kind()).collect(),
            input: has(Side::Input),
            output: has(Side::Output),
            act: match self.act {
                Act::Mask => GuardAct::Mask,
                Act::Refuse => GuardAct::Refuse,
                Act::Flag => GuardAct::Flag,
            },
            services: self.services.clone(),
            applications: self.apps.clone(),
        })
    }

    fn run(self, context: &Context) -> Outcome {
        let spec = Box::new(self.spec()?);
        let mut link = context.link()?;
        let _done: Answer = context.change(&mut link, "guard", Request::SetGuard { name: self.name.clone(), spec })?;
        show(context, &find(&mut link, &self.name)?)
    }
}

fn all(link: &mut Link) -> Result<Vec<GuardView>, Failure> {
    Ok(answer!(link.ask(Request::Guards)?, Guards))
}

fn find(link: &mut Link, name: &str) -> Result<GuardView, Failure> {
    let guards = all(link)?;
    guards.into_iter().find(|guard| guard.record.name == name).ok_or_else(|| Failure::not_found("guard", name))
}

/// The text of a file, or of stdin for `-`.
fn text_of(path: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = TRIAL_BYTES_MAX as u64 + 1;
    let read = match path {
        "-" => std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    let wrong = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(path);
    read.map_err(|error| wrong(format!("{path} cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| wrong(format!("{path} is no text in UTF-8")).hint(HintCode::CorrectFile))
}

/// List guards with what they found.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone guard list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let guards = all(&mut context.link()?)?;
        if context.json {
            return print::json(&guards);
        }
        if guards.is_empty() {
            context.say("cli.no_guards", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &guards).render(print::colour()))
    }
}

/// What it looks for, in numbers and words.
fn looks_for(spec: &GuardSpec) -> String {
    let words = (!spec.words.is_empty()).then(|| format!("{} words", spec.words.len()));
    let patterns = (!spec.patterns.is_empty()).then(|| format!("{} patterns", spec.patterns.len()));
    let kinds = spec.kinds.iter().map(|kind| kind.word().to_owned());
    words.into_iter().chain(patterns).chain(kinds).collect::<Vec<_>>().join(" ")
}

fn sides(spec: &GuardSpec) -> &'static str {
    match (spec.input, spec.output) {
        (true, true) => "input output",
        (true, false) => "input",
        _ => "output",
    }
}

fn names(language: Language, names: &[String]) -> String {
    match names {
        [] => hone_protocol::catalogue::text(language, "cli.all_services").to_owned(),
        names => names.join(" "),
    }
}

fn table(language: Language, guards: &[GuardView]) -> Table {
    let keys = [
        "cli.col.guard",
        "cli.col.looks_for",
        "cli.col.on",
        "cli.col.guard_act",
        "cli.col.services",
        "cli.col.applications",
        "cli.col.found_in",
        "cli.col.found_out",
        "cli.col.refused",
    ];
    let mut table = Table::new(language, &keys);
    for guard in guards {
        let spec = &guard.record.spec;
        table.row(vec![
            guard.record.name.as_str().into(),
            looks_for(spec).into(),
            sides(spec).into(),
            spec.act.word().into(),
            names(language, &spec.services).into(),
            names(language, &spec.applications).into(),
            Cell::number(guard.counts.input),
            Cell::number(guard.counts.output),
            Cell::number(guard.counts.refused),
        ]);
    }
    table
}

/// Show a guard: everything that it looks for, and what it found.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone guard show pii")]
pub(super) struct Show {
    /// Its name.
    name: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        show(context, &find(&mut context.link()?, &self.name)?)
    }
}

fn show(context: &Context, guard: &GuardView) -> Outcome {
    if context.json {
        return print::json(guard);
    }
    print::out(&details(context.language, guard))
}

fn details(language: Language, guard: &GuardView) -> String {
    let (record, spec) = (&guard.record, &guard.record.spec);
    let kinds: Vec<&str> = spec.kinds.iter().map(|kind| kind.word()).collect();
    print::pairs(
        language,
        &[
            ("cli.col.guard", record.name.clone()),
            ("cli.col.words", spec.words.join(", ")),
            ("cli.col.patterns", spec.patterns.join("  ")),
            ("cli.col.kinds", kinds.join(" ")),
            ("cli.col.on", sides(spec).to_owned()),
            ("cli.col.guard_act", spec.act.word().to_owned()),
            ("cli.col.services", names(language, &spec.services)),
            ("cli.col.applications", names(language, &spec.applications)),
            ("cli.col.found_in", guard.counts.input.to_string()),
            ("cli.col.found_out", guard.counts.output.to_string()),
            ("cli.col.refused", guard.counts.refused.to_string()),
            ("cli.col.made", format!("{} ({})", print::moment(record.changed_at_ms), record.changed_by)),
        ],
    )
}

/// Try a guard on a text: what it finds, and what would pass. Nothing is counted.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone guard test pii ./letter.txt")]
pub(super) struct Test {
    /// Its name.
    name: String,
    /// File of the text, or - for stdin.
    file: String,
}

impl Test {
    fn run(self, context: &Context) -> Outcome {
        let text = text_of(&self.file)?;
        let mut link = context.link()?;
        let spec = Box::new(find(&mut link, &self.name)?.record.spec);
        let trial = answer!(link.ask(Request::TestGuard { spec, text: text.clone() })?, Trial);
        if context.json {
            return print::json(&trial);
        }
        print::out(&trial_text(context.language, &text, &trial))
    }
}

fn trial_text(language: Language, text: &str, trial: &GuardTrial) -> String {
    let mut table = Table::new(language, &["cli.col.first_byte", "cli.col.kind", "cli.col.match"]);
    for (start, end, what) in &trial.matches {
        let found = text.get(*start as usize..*end as usize).unwrap_or_default();
        table.row(vec![Cell::number(start), what.as_str().into(), found.into()]);
    }
    let found = if table.is_empty() { String::new() } else { format!("{}\n", table.render(false)) };
    let key = if trial.refused { "cli.guard_refuses" } else { "cli.guard_passes" };
    format!("{found}== {}\n{}\n", hone_protocol::catalogue::text(language, key), trial.passes.trim_end())
}

/// Remove a guard. What it found stays counted.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone guard remove rivals")]
pub(super) struct Remove {
    /// Its name.
    name: String,
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::RemoveGuard { name: self.name.clone() };
        let done: Answer = context.change(&mut context.link()?, "guard", request)?;
        if context.json {
            return print::json(&done);
        }
        context.say("cli.guard_removed", &[("guard", &self.name)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_details_and_trials() {
        let guards = crate::sample::guards();
        insta::assert_snapshot!("guard-list", table(Language::En, &guards).render(false));
        insta::assert_snapshot!("guard-show", details(Language::En, &guards[1]));
        let trial =
            GuardTrial { passes: "write to [EMAIL]".into(), refused: false, matches: vec![(9, 16, "email".into())] };
        insta::assert_snapshot!("guard-test", trial_text(Language::En, "write to a@b.org", &trial));
    }
}
