//! `hone completions` and `hone man`: made from the same tree as `--help`. No daemon is asked.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use hone_protocol::failure::{Failure, FailureCode};

use super::Cli;
use super::context::Context;
use super::tree;
use crate::print::{self, Outcome};

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone completions bash > ~/.local/share/bash-completion/completions/hone")]
pub(super) struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hone", &mut script);
        print::out(&String::from_utf8_lossy(&script))
    }
}

/// Write the man pages, one per noun and verb, into a folder; `man hone-model-import` shows them from then on.
///
/// They are made from what `--help` says at this moment, so they are as old as this program: write them again after an upgrade.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone man\n  hone man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The folder; made if it is not there [default: man/man1 below $XDG_DATA_HOME, else ~/.local/share].
    dir: Option<PathBuf>,
}

/// Where `man` looks for what a person has installed for herself.
fn own_pages() -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    let missing = || Failure::field("DIR", "HOME is not set; name the folder for the pages");
    Ok(data.ok_or_else(missing)?.join("man/man1"))
}

impl Man {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let dir = self.dir.map_or_else(own_pages, Ok)?;
        let place = dir.display().to_string();
        let unwritable =
            |error: std::io::Error| Failure::new(FailureCode::FileUnreadable, error.to_string()).at(&*place);
        std::fs::create_dir_all(&dir).map_err(unwritable)?;
        let command = tree::localise(Cli::command(), context.language);
        clap_mangen::generate_to(command, &dir).map_err(unwritable)?;
        let is_ours = |name: &str| name == "hone.1" || (name.starts_with("hone-") && name.ends_with(".1"));
        let written = std::fs::read_dir(&dir).map_err(unwritable)?.flatten();
        let count = written.filter(|entry| entry.file_name().to_str().is_some_and(is_ours)).count();
        context.say("cli.man_written", &[("n", &count.to_string()), ("dir", &place)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::catalogue::Language;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hone", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("publish") && script.contains("learning-rate"), "{shell}");
        }
    }

    /// A page for each command below `path`, with every flag and every example of its help.
    fn check(folder: &std::path::Path, command: &clap::Command, name: &str) -> usize {
        let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        // As people read it: troff writes a dash as \\-.
        let page = page.replace("\\-", "-");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_long().is_none_or(|long| page.contains(&format!("--{long}"))), "{name} {}", arg.get_id());
        }
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in example.lines().map(str::trim).filter(|line| line.starts_with("hone ")) {
            assert!(page.contains(line), "{name}: {line}");
        }
        let below = command.get_subcommands().map(|sub| check(folder, sub, &format!("{name}-{}", sub.get_name())));
        1 + below.sum::<usize>()
    }

    #[test]
    fn every_noun_and_verb_gets_a_man_page_with_all_its_flags_in_both_languages() {
        for language in [Language::En, Language::Zh] {
            let folder = tempfile::tempdir().unwrap();
            let command = tree::localise(Cli::command(), language);
            clap_mangen::generate_to(command.clone(), folder.path()).unwrap();
            let pages = check(folder.path(), &command, "hone");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), pages);
        }
    }
}
