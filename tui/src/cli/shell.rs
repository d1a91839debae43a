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

/// Write the man pages, one per noun and verb, into a folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone man ~/.local/share/man/man1")]
pub(super) struct Man {
    /// The folder; made if it is not there.
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let place = self.dir.display().to_string();
        let unwritable =
            |error: std::io::Error| Failure::new(FailureCode::FileUnreadable, error.to_string()).at(&*place);
        std::fs::create_dir_all(&self.dir).map_err(unwritable)?;
        let command = tree::localise(Cli::command(), context.language);
        clap_mangen::generate_to(command, &self.dir).map_err(unwritable)?;
        let count = std::fs::read_dir(&self.dir).map_err(unwritable)?.count();
        context.say("cli.man_written", &[("n", &count.to_string()), ("dir", &place)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hone", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("publish") && script.contains("learning-rate"), "{shell}");
        }
    }

    #[test]
    fn every_verb_gets_a_man_page() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
        let page = std::fs::read_to_string(folder.path().join("hone-train-start.1")).unwrap();
        assert!(page.contains("learning\\-rate"), "{page}");
    }
}
