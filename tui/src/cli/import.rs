//! `hone import`: what another program was told, as hone's own commands and run file, with a list of everything that hone could
//! not take. Here: telling the two kinds of files apart, and writing down what came of one. Never here: what a key means
//! (`import/`), or doing anything: what is printed is for a person to look at first.
//!
//! These are a person's own small texts, so this process reads them itself, as it reads run files: with the person's rights,
//! at most [`FILE_BYTES_MAX`], by parsers in safe Rust. What they point at (weights, rows) is read by children of the daemon.

mod llama_factory;
mod modelfile;
mod yaml;

use std::path::Path;

use clap::Args;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use serde::Serialize;

use super::context::Context;
use super::run_file::{self, Values, Written};
use crate::print::{self, Outcome};

/// Largest file that is read; a larger one is no settings file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Read what LLaMA-Factory or Ollama was told: a run file and commands come out, and a list of what hone cannot take.
///
/// FILE is LLaMA-Factory's YAML, with dataset_info.json beside it or in its dataset_dir, or an Ollama Modelfile. Nothing is
/// done: the commands and the run file go to stdout, everything that could not be taken to stderr, by file, line and field.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone import train_lora.yaml > run.toml\n  hone import Modelfile\n  hone import train_lora.yaml --json"
)]
pub(super) struct Import {
    /// LLaMA-Factory's YAML, or a Modelfile.
    file: String,
}

/// Something that hone could not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct NotTaken {
    /// The file.
    file: String,
    /// From 1.
    line: usize,
    /// The key.
    field: String,
    /// Why, and what hone does instead.
    reason: String,
}

/// What came of a file.
#[derive(Debug, Default, Serialize)]
struct Taken {
    /// Lines for a shell, in order, before the run.
    commands: Vec<String>,
    /// Keys and values of a run file, in the order of the form; empty where the file is no training.
    run: Vec<(String, String)>,
    /// In the order of the file.
    not_taken: Vec<NotTaken>,
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let text = read(Path::new(&self.file))?;
        let taken = if is_modelfile(&self.file, &text) {
            modelfile::read(&self.file, &text, &modelfile::ollama_models())?
        } else {
            llama_factory::read(&self.file, &text)?
        };
        if context.json {
            return print::json(&taken);
        }
        print::out(&written(&taken))?;
        for missing in &taken.not_taken {
            print::note(&format!("{}:{}: {}: {}", missing.file, missing.line, missing.field, missing.reason));
        }
        let counts = [("n", taken.not_taken.len().to_string())];
        let counts: Vec<(&str, &str)> = counts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        context.say("cli.not_taken", &counts);
        Ok(())
    }
}

/// A person's small text file.
fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display().to_string();
    let unreadable = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(&*shown);
    let size = std::fs::metadata(path).map_err(|e| unreadable(format!("the file cannot be read: {e}")))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("the file has {}; settings have at most 1 MiB", print::bytes(size))));
    }
    let bytes = std::fs::read(path).map_err(|e| unreadable(format!("the file cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(FailureCode::BadFile, "the file is not UTF-8").at(&*shown).hint(HintCode::CorrectFile)
    })
}

/// A Modelfile is known by its name, or by its first instruction.
fn is_modelfile(path: &str, text: &str) -> bool {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let yaml = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    !yaml && (name.contains("modelfile") || first.to_lowercase().starts_with("from "))
}

/// A run file with the commands before it as comments; the commands alone where there is no run.
fn written(taken: &Taken) -> String {
    if taken.run.is_empty() {
        return taken.commands.iter().map(|command| format!("{command}\n")).collect();
    }
    let before = taken.commands.iter().map(|command| format!("# {command}\n")).collect::<String>();
    let run = taken.run.iter().map(|(key, text)| format!("{key} = {}\n", toml_value(text))).collect::<String>();
    let space = if before.is_empty() { "" } else { "\n" };
    format!("{before}{space}{run}")
}

/// Numbers as numbers, everything else as text.
fn toml_value(text: &str) -> String {
    let plain = text.parse::<f64>().is_ok_and(f64::is_finite) && !text.starts_with(['.', '+']) && !text.ends_with('.');
    if plain { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:=+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What is right by the training form; what it refuses is added to what could not be taken, with its reason.
fn checked(mut values: Values, not_taken: &mut Vec<NotTaken>) -> Result<Values, Failure> {
    loop {
        let Err(failure) = run_file::spec(&values, None) else { return Ok(values) };
        let found = values.iter().find(|(_, written)| written.place == failure.place).map(|(key, _)| key.clone());
        let Some(key) = found else { return Err(failure) };
        if let Some(written) = values.remove(&key) {
            not_taken.push(refused(&written, failure.message_en));
        }
    }
}

/// A place is `FILE:LINE: FIELD`.
fn place(file: &str, line: usize, field: &str) -> String {
    format!("{file}:{line}: {field}")
}

fn refused(written: &Written, reason: String) -> NotTaken {
    let (at, field) = written.place.rsplit_once(": ").unwrap_or((&written.place, ""));
    let (file, line) = at.rsplit_once(':').unwrap_or((at, "0"));
    NotTaken { file: file.to_owned(), line: line.parse().unwrap_or(0), field: field.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_kinds_of_files_are_told_apart() {
        for (path, text, is) in [
            ("Modelfile", "", true),
            ("my.Modelfile", "", true),
            ("x", "# mine\nFROM ./a.gguf\n", true),
            ("train.yaml", "from: x\n", false),
            ("x", "model_name_or_path: a/b\n", false),
        ] {
            assert_eq!(is_modelfile(path, text), is, "{path}");
        }
    }

    #[test]
    fn values_are_toml_and_words_are_safe_for_a_shell() {
        assert_eq!(toml_value("1.0e-4"), "1.0e-4");
        assert_eq!(toml_value("8"), "8");
        assert_eq!(toml_value("sft"), "\"sft\"");
        assert_eq!(toml_value("a\"b"), "'a\"b'");
        assert_eq!(quoted("/a b/c"), "'/a b/c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B");
        let run = Taken { run: vec![("rank".into(), "8".into())], commands: vec!["hone x".into()], ..Taken::default() };
        assert_eq!(written(&run), "# hone x\n\nrank = 8\n");
    }
}
