//! The command line: `hone <noun> <verb>`. One struct per verb; its doc comment is its help. Every act is a request
//! of the protocol, so what the screens can do, a script can do. Here: the tree, the flags that every verb has, the
//! exit status. Never here: what a verb does (below `cli/`), or how text is laid out (`print`).

mod application;
mod batch;
mod bench;
mod budget;
mod chat;
mod context;
mod convert;
mod csv;
mod daemon;
mod dataset;
mod dataset_file;
mod dataset_versions;
mod declared;
mod evaluation;
mod facts;
mod from_log;
pub(crate) mod generate;
mod guard;
pub(crate) mod hook;
mod howto;
mod import;
mod init;
mod invoice;
mod job;
mod key;
mod label;
mod label_files;
mod label_out;
mod log;
mod mixture;
mod model;
mod person;
mod pool;
mod promotion;
mod pull;
mod recipe;
mod register;
mod reserve;
mod run_file;
mod serve;
mod service;
mod service_bench;
mod shell;
mod standard;
mod standard_file;
mod stats;
mod status;
mod stream;
mod train;
mod train_export;
mod trash;
mod tree;
mod upstream;
mod usage;
mod verdicts;
mod wait;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode};

use crate::link::Options;
use crate::print::{self, End, Outcome};
use context::Context;

/// Train, evaluate and serve language models on this machine.
///
/// Without a verb, `hone` opens the full screen. Every verb talks to the daemon `honed`, which is started when it
/// is needed and goes on when you leave.
#[derive(Debug, Parser)]
#[command(
    name = "hone",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Example:\n  hone serve starter\n\nExit status: 0 done; 1 cancelled; 2 wrong use; 3 not found; \
                  others in docs/exit-codes.md"
)]
pub struct Cli {
    /// State directory: store, socket, logs [default: $HONE_STATE, else ~/.local/state/hone].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    state: Option<String>,
    /// Whom the act is attributed to [default: your user name].
    #[arg(long = "as", global = true, value_name = "PERSON", help_heading = "Everywhere")]
    person: Option<String>,
    /// Write JSON to stdout: one document, or one a line for what goes on.
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    /// Language of sentences [default: from LC_ALL, LC_MESSAGES or LANG].
    #[arg(long, global = true, value_enum, value_name = "LANG", help_heading = "Everywhere")]
    lang: Option<Lang>,
    /// Makes a repeat harmless: the same key with the same act is done once in seven days.
    #[arg(long, global = true, value_name = "KEY", help_heading = "Everywhere")]
    once: Option<String>,
    /// Application that pays for the job [default: owner].
    #[arg(long, global = true, value_name = "APP", help_heading = "Everywhere")]
    payer: Option<String>,
    /// Pool of the job or service [default: local].
    #[arg(long, global = true, value_name = "POOL", help_heading = "Everywhere")]
    pool: Option<String>,
    /// Print the version.
    #[arg(short = 'v', long, action = ArgAction::Version, help_heading = "Everywhere")]
    version: Option<bool>,
    #[command(subcommand)]
    noun: Option<Noun>,
}

/// A language, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// English
    En,
    /// 简体中文
    Zh,
}

/// The nouns.
#[derive(Debug, Subcommand)]
enum Noun {
    #[command(subcommand)]
    Daemon(daemon::Verb),
    Status(status::Status),
    #[command(subcommand)]
    Model(model::Verb),
    #[command(subcommand)]
    Dataset(dataset::Verb),
    #[command(subcommand)]
    Recipe(recipe::RecipeVerb),
    #[command(subcommand)]
    Standard(standard::StandardVerb),
    #[command(subcommand)]
    Label(label::Verb),
    #[command(subcommand)]
    Train(train::Verb),
    #[command(subcommand)]
    Job(job::Verb),
    #[command(subcommand)]
    Eval(evaluation::Verb),
    #[command(subcommand)]
    Batch(batch::Verb),
    #[command(subcommand)]
    Service(service::Verb),
    #[command(subcommand)]
    App(application::AppVerb),
    #[command(subcommand)]
    Key(key::KeyVerb),
    #[command(subcommand)]
    Log(log::LogVerb),
    #[command(subcommand)]
    Guard(guard::GuardVerb),
    Usage(usage::UsageVerb),
    Ledger(application::Ledger),
    #[command(subcommand)]
    Person(person::PersonVerb),
    #[command(subcommand)]
    Pool(pool::Verb),
    #[command(subcommand)]
    Hook(hook::Verb),
    Apply(declared::Apply),
    Export(declared::Export),
    Audit(status::Audit),
    Serve(serve::Serve),
    Chat(chat::Chat),
    Import(import::Import),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Runs the command line of this process and gives its exit status.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let language = language_of(&args);
    let command = tree::localise(Cli::command(), language);
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help and version go to stdout with 0, mistakes to stderr with 2. A closed pipe is no concern of ours.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let as_json = cli.json;
    match run(cli, language) {
        Ok(()) | Err(End::PipeClosed) => ExitCode::SUCCESS,
        Err(End::Said(status)) => ExitCode::from(status),
        Err(End::Failed(failure)) => {
            if as_json {
                print::note(hone_protocol::wire::encode_line(&serde_json::json!({ "failure": *failure })).trim_end());
            } else {
                print::note(print::failure(language, &failure).trim_end());
            }
            ExitCode::from(failure.code.exit_status())
        }
    }
}

fn run(cli: Cli, language: Language) -> Outcome {
    let options = Options::from_env(cli.state.as_deref(), cli.person)?;
    let context = Context { options, json: cli.json, language, once: cli.once, payer: cli.payer, pool: cli.pool };
    let Some(noun) = cli.noun else { return full_screen(&context) };
    match noun {
        Noun::Daemon(verb) => verb.run(&context),
        Noun::Status(verb) => verb.run(&context),
        Noun::Model(verb) => verb.run(&context),
        Noun::Dataset(verb) => verb.run(&context),
        Noun::Recipe(verb) => verb.run(&context),
        Noun::Standard(verb) => verb.run(&context),
        Noun::Label(verb) => verb.run(&context),
        Noun::Train(verb) => verb.run(&context),
        Noun::Job(verb) => verb.run(&context),
        Noun::Eval(verb) => verb.run(&context),
        Noun::Batch(verb) => verb.run(&context),
        Noun::Service(verb) => verb.run(&context),
        Noun::App(verb) => verb.run(&context),
        Noun::Key(verb) => verb.run(&context),
        Noun::Log(verb) => verb.run(&context),
        Noun::Guard(verb) => verb.run(&context),
        Noun::Usage(verb) => verb.run(&context),
        Noun::Ledger(verb) => verb.run(&context),
        Noun::Person(verb) => verb.run(&context),
        Noun::Pool(verb) => verb.run(&context),
        Noun::Hook(verb) => verb.run(&context),
        Noun::Apply(verb) => verb.run(&context),
        Noun::Export(verb) => verb.run(&context),
        Noun::Audit(verb) => verb.run(&context),
        Noun::Serve(verb) => verb.run(&context),
        Noun::Chat(verb) => verb.run(&context),
        Noun::Import(verb) => verb.run(&context),
        Noun::Completions(verb) => verb.run(),
        Noun::Man(verb) => verb.run(&context),
    }
}

fn full_screen(context: &Context) -> Outcome {
    show(context, context.options.clone(), None)
}

/// The full screen at a project of labelling; `only` there, and nowhere else, where the person is bound to it.
fn full_screen_at(context: &Context, project: &str, only: bool) -> Outcome {
    let project = Some(project.to_owned());
    let options = Options { project: project.clone().filter(|_| only), ..context.options.clone() };
    show(context, options, project)
}

fn show(context: &Context, options: Options, label: Option<String>) -> Outcome {
    crate::app::run(options, context.language, label).map_err(|error| {
        // The screens answer to people, not to scripts: what ends them is one sentence.
        Failure::new(FailureCode::WrongState, format!("{error:#}")).into()
    })
}

/// The language: `--lang` before anything is parsed, because help itself is in it; else the locale.
fn language_of(args: &[OsString]) -> Language {
    let words: Vec<&str> = args.iter().filter_map(|a| a.to_str()).collect();
    let typed = words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix("--lang") {
        Some("") => words.get(i + 1).copied(),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    match typed {
        Some("zh") => Language::Zh,
        Some("en") => Language::En,
        _ => {
            let values = ["LC_ALL", "LC_MESSAGES", "LANG"].map(|name| std::env::var(name).ok());
            Language::from_locale([values[0].as_deref(), values[1].as_deref(), values[2].as_deref()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_language_is_known_before_parsing() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(language_of(&args(&["hone", "--lang", "zh", "status"])), Language::Zh);
        assert_eq!(language_of(&args(&["hone", "status", "--lang=zh"])), Language::Zh);
        assert_eq!(language_of(&args(&["hone", "status", "--lang=en"])), Language::En);
    }
}
