//! `hone hook`: who is told of what happens, by a command or an address. Never here: when something is worth an alert.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::hook::{AlertKind, AlertRecord, HookRecord, HookTarget, HookTry, TIMEOUT_MS_MAX};
use hone_protocol::request::{Answer, ROWS_MAX, Request};

use super::context::{Context, answer, surprise};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// How often a hook is looked at while a test is under way.
const LOOK: Duration = Duration::from_millis(100);
/// What a test waits beyond the hook's own deadline: others may be told first.
const SLACK: Duration = Duration::from_secs(30);

/// Hooks: a command or an address that is told of alerts.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Add(Add),
    List(List),
    Show(Show),
    Test(Test),
    Remove(Remove),
    Alerts(Alerts),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Add(verb) => verb.run(context),
            Verb::List(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Test(verb) => verb.run(context),
            Verb::Remove(verb) => verb.run(context),
            Verb::Alerts(verb) => verb.run(context),
        }
    }
}

/// Make a hook, or change it. A new address gets a secret, which is written to stdout, now and never again.
///
/// A command reads the alert as JSON on its input; it has no network and may write only its own folder. An address gets the same
/// JSON by POST, signed with the secret.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone hook add ops --on job_failed,service_down --url https://ops.example/hone > secret.txt\n  hone hook add log --on job_succeeded,job_failed -- /usr/bin/logger -t hone"
)]
pub(super) struct Add {
    /// Its name.
    name: String,
    /// Kinds of alerts, with commas between: job_succeeded, job_failed, job_cancelled, service_down, service_up, service_errors,
    /// budget_crossed, disk_low, guard_hit.
    #[arg(long, value_name = "KINDS", required = true, value_delimiter = ',')]
    on: Vec<String>,
    /// Address that gets a POST.
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    url: Option<String>,
    /// Seconds that a try may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(TIMEOUT_MS_MAX / 1000)))]
    timeout: u32,
    /// Program with its arguments, behind `--`.
    #[arg(last = true, required_unless_present = "url")]
    command: Vec<String>,
}

impl Add {
    fn run(self, context: &Context) -> Outcome {
        let on = self.on.iter().map(|word| kind(word)).collect::<Result<Vec<_>, _>>()?;
        let target = match self.url {
            Some(url) => HookTarget::Webhook(url),
            None => HookTarget::Command(self.command),
        };
        let request = Request::SetHook { name: self.name, on, target, timeout_ms: self.timeout * 1000 };
        let answer = context.change(&mut context.link()?, "hook", request)?;
        let Answer::Hook { hook, secret } = &answer else { return Err(surprise(&answer).into()) };
        match (context.json, secret) {
            (true, _) => print::json(&answer),
            (false, Some(secret)) => {
                context.say("cli.hook_once", &[("hook", &hook.name)]);
                print::out(&format!("{secret}\n"))
            }
            (false, None) => {
                context.say("cli.hook_set", &[("hook", &hook.name)]);
                Ok(())
            }
        }
    }
}

/// The kind of alert of a word.
pub(super) fn kind(word: &str) -> Result<AlertKind, Failure> {
    let known = AlertKind::named(word).filter(|kind| *kind != AlertKind::Test);
    known.ok_or_else(|| {
        let words = AlertKind::WORDS.iter().filter(|(kind, _)| *kind != AlertKind::Test).map(|(_, word)| *word);
        let message = format!("{word:?} is no kind of alert; there are {}", words.collect::<Vec<_>>().join(", "));
        Failure::field("on", message)
    })
}

/// List hooks with how their last try went.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone hook list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let hooks = all(&mut context.link()?)?;
        if context.json {
            return print::json(&hooks);
        }
        if hooks.is_empty() {
            context.say("cli.no_hooks", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &hooks).render(print::colour()))
    }
}

/// Show a hook: what it is told of, how, and what came of it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone hook show ops")]
pub(super) struct Show {
    /// Its name.
    name: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let hook = find(&mut context.link()?, &self.name)?;
        if context.json {
            return print::json(&hook);
        }
        print::out(&details(context.language, &hook))
    }
}

/// Send a hook an alert that means nothing, and wait for how it went.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone hook test ops")]
pub(super) struct Test {
    /// Its name.
    name: String,
}

impl Test {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let alert = answer!(context.change(&mut link, "test", Request::TestHook { name: self.name.clone() })?, Alert);
        let mut until = None;
        let tried = loop {
            let hook = find(&mut link, &self.name)?;
            let limit = Duration::from_millis(hook.timeout_ms.into()) + SLACK;
            let until = *until.get_or_insert_with(|| Instant::now() + limit);
            match hook.last {
                Some(tried) if tried.alert == alert.id => break tried,
                _ if Instant::now() > until => {
                    let message =
                        format!("hook {} was not told in time: {} alerts wait for it", self.name, hook.waiting);
                    return Err(Failure::new(FailureCode::WorkerSilent, message).at(self.name).into());
                }
                _ => std::thread::sleep(LOOK),
            }
        };
        if context.json {
            print::json(&tried)?;
        } else {
            print::out(&format!("{}\n", tried_words(context.language, &tried)))?;
        }
        match tried.ok {
            true => Ok(()),
            false => Err(print::End::Said(FailureCode::WorkerDied.exit_status())),
        }
    }
}

/// Remove a hook, and what waits for it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone hook remove ops")]
pub(super) struct Remove {
    /// Its name.
    name: String,
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::RemoveHook { name: self.name.clone() };
        let answer = context.change(&mut context.link()?, "remove", request)?;
        if context.json {
            return print::json(&answer);
        }
        context.say("cli.hook_removed", &[("hook", &self.name)]);
        Ok(())
    }
}

/// List alerts, newest first, whether a hook was told or not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone hook alerts --count 20")]
pub(super) struct Alerts {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Alerts {
    fn run(self, context: &Context) -> Outcome {
        let alerts = answer!(context.link()?.ask(Request::Alerts { count: self.count })?, Alerts);
        if context.json {
            return alerts.iter().try_for_each(print::json);
        }
        print::out(&alerts_table(context.language, &alerts).render(print::colour()))
    }
}

fn all(link: &mut Link) -> Result<Vec<HookRecord>, Failure> {
    Ok(answer!(link.ask(Request::Hooks)?, Hooks))
}

fn find(link: &mut Link, name: &str) -> Result<HookRecord, Failure> {
    let hooks = all(link)?;
    hooks.into_iter().find(|hook| hook.name == name).ok_or_else(|| Failure::not_found("hook", name))
}

/// What a hook is told of, with commas between.
pub(crate) fn kinds(hook: &HookRecord) -> String {
    hook.on.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(",")
}

/// How a hook is told.
pub(crate) fn target(hook: &HookRecord) -> String {
    match &hook.target {
        HookTarget::Command(words) => words.join(" "),
        HookTarget::Webhook(url) => url.clone(),
    }
}

/// How a try went, in a line.
pub(crate) fn tried_words(language: Language, tried: &HookTry) -> String {
    let key = if tried.ok { "hook.delivered" } else { "hook.not_delivered" };
    let status = tried.status.map_or("-".to_owned(), |status| status.to_string());
    let number = tried.number.to_string();
    let head = catalogue::fill(language, key, &[("status", &status), ("number", &number)]);
    match tried.words.trim() {
        "" => head,
        words => format!("{head}: {}", words.lines().next_back().unwrap_or_default()),
    }
}

fn table(language: Language, hooks: &[HookRecord]) -> Table {
    let keys = [
        "cli.col.hook",
        "cli.col.told_of",
        "cli.col.told_by",
        "cli.col.waiting",
        "cli.col.delivered",
        "cli.col.given_up",
        "cli.col.last",
    ];
    let mut table = Table::new(language, &keys);
    for hook in hooks {
        let last = hook.last.as_ref().map_or("-".to_owned(), |tried| tried_words(language, tried));
        table.row(vec![
            hook.name.as_str().into(),
            kinds(hook).into(),
            target(hook).into(),
            Cell::number(hook.waiting),
            Cell::number(hook.delivered),
            Cell::number(hook.given_up + hook.dropped),
            last.into(),
        ]);
    }
    table
}

fn details(language: Language, hook: &HookRecord) -> String {
    let mut pairs = vec![
        ("cli.col.hook", hook.name.clone()),
        ("cli.col.told_of", kinds(hook)),
        ("cli.col.told_by", target(hook)),
        ("cli.col.timeout", print::duration(hook.timeout_ms.into())),
        ("cli.col.made_by", format!("{}, {}", hook.created_by, print::moment(hook.created_at_ms))),
        ("cli.col.waiting", hook.waiting.to_string()),
        ("cli.col.delivered", hook.delivered.to_string()),
        ("cli.col.given_up", (hook.given_up + hook.dropped).to_string()),
    ];
    if let Some(tried) = &hook.last {
        pairs.push(("cli.col.last", format!("{} ({})", tried_words(language, tried), print::moment(tried.at_ms))));
    }
    print::pairs(language, &pairs)
}

fn alerts_table(language: Language, alerts: &[AlertRecord]) -> Table {
    let mut table = Table::new(language, &["cli.col.at", "cli.col.kind", "cli.col.subject", "cli.col.message"]);
    for alert in alerts {
        table.row(vec![
            print::moment(alert.at_ms).into(),
            alert.kind.word().into(),
            alert.subject.as_str().into(),
            alert.message.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let hooks = crate::sample::hooks();
        for (language, name) in [(Language::En, ""), (Language::Zh, "-zh")] {
            insta::assert_snapshot!(format!("hook-list{name}"), table(language, &hooks).render(false));
            insta::assert_snapshot!(format!("hook-show{name}"), details(language, &hooks[0]));
            let alerts = alerts_table(language, &crate::sample::alerts()).render(false);
            insta::assert_snapshot!(format!("alerts{name}"), alerts);
        }
    }

    #[test]
    fn a_kind_that_is_none_is_refused_with_all_that_are() {
        assert_eq!(kind("job_failed").unwrap(), AlertKind::JobFailed);
        let wrong = kind("job_faild").unwrap_err();
        assert!(wrong.message_en.contains("job_failed, ") && !wrong.message_en.contains("test"), "{wrong}");
    }
}
