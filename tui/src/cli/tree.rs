//! The clap tree as data: its help in the chosen language, and the test that the docs know every verb.

use clap::{Arg, ArgAction, Command};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::form;

use super::run_file;

/// The tree with its sentences in a language. English stands in the doc comments; Chinese comes from the catalogue,
/// by the verb's path (`cli.verb.model.list`) and the flag's name (`cli.flag.detach`).
pub(super) fn localise(command: Command, language: Language) -> Command {
    match language {
        Language::En => command,
        Language::Zh => translate(command, "cli.verb", language),
    }
}

fn translate(mut command: Command, path: &str, language: Language) -> Command {
    let key = if command.get_name() == "hone" { path.to_owned() } else { format!("{path}.{}", command.get_name()) };
    if let Some(about) = catalogue::find(language, &key) {
        // The short sentence is said in Chinese; the long English one would only be half of a translation.
        command = command.about(about).long_about(None::<&str>);
    }
    let after = command.get_after_help().map(|text| after_help(&text.to_string(), language));
    if let Some(after) = after {
        command = command.after_help(after);
    }
    let flags: Vec<String> = command.get_arguments().map(|a| a.get_id().to_string()).collect();
    for id in flags {
        command = command.mut_arg(&id, |arg| {
            let default = if arg.is_positional() { "Arguments" } else { "Options" };
            let heading = arg.get_help_heading().unwrap_or(default).to_owned();
            let arg = arg.help_heading(catalogue::find(language, &format!("cli.help.{heading}")));
            if let Some(field) = form::field(&id).filter(|_| key.starts_with("cli.verb.train")) {
                return arg.help(run_file::help(field, language));
            }
            let own = catalogue::find(language, &format!("{key}.{id}"));
            match own.or_else(|| catalogue::find(language, &format!("cli.flag.{id}"))) {
                Some(help) => arg.help(help).long_help(None::<&str>),
                None => arg,
            }
        });
    }
    let verbs: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for verb in verbs {
        command = command.mut_subcommand(&verb, |sub| translate(sub, &key, language));
    }
    let say = |key: &'static str| catalogue::text(language, key);
    // clap makes its help flag, its "Usage:" and its "Commands:" by itself, in English only.
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    let template =
        format!("{{about-with-newline}}\n{}：{{usage}}\n\n{{all-args}}{{after-help}}", say("cli.help.usage"));
    command
        .disable_help_flag(true)
        .arg(help.help(say("cli.flag.help")).help_heading(say("cli.help.Options")))
        .subcommand_help_heading(say("cli.help.Commands"))
        .help_template(template)
}

/// The example stays as it is, since it is typed; its heading and the sentence on exit status are said.
fn after_help(english: &str, language: Language) -> String {
    ["cli.help.exit_status", "cli.help.example"].into_iter().fold(english.to_owned(), |text, key| {
        text.replace(catalogue::text(Language::En, key), catalogue::text(language, key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    /// All commands with their paths: `hone model list`.
    fn walk(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        let path =
            if path.is_empty() { command.get_name().to_owned() } else { format!("{path} {}", command.get_name()) };
        found.push((path.clone(), command.clone()));
        command.get_subcommands().for_each(|sub| walk(sub, &path, found));
    }

    fn tree() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        let mut command = Cli::command();
        // Names of programs in usage lines are put in when the tree is built.
        command.build();
        walk(&command, "", &mut found);
        found
    }

    fn verbs() -> Vec<(String, Command)> {
        tree().into_iter().filter(|(_, c)| !c.has_subcommands()).collect()
    }

    fn docs(name: &str) -> String {
        let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    #[test]
    fn every_verb_has_an_example_that_parses() {
        for (path, mut command) in verbs() {
            let help = command.render_long_help().to_string();
            let example = help.split("Example:\n").nth(1).unwrap_or_else(|| panic!("{path} has no example"));
            let lines: Vec<&str> = example.lines().map(str::trim).take_while(|l| l.starts_with("hone")).collect();
            assert!(!lines.is_empty(), "{path}");
            for line in lines {
                assert!(line.starts_with(&path), "{line} is no example of {path}");
                // Up to the first thing that is the shell's.
                let line = line.split([';', '|', '>', '&']).next().unwrap();
                let mut words: Vec<String> = Vec::new();
                for (i, part) in line.split('"').enumerate() {
                    if i % 2 == 1 {
                        words.push(part.to_owned());
                    } else {
                        words.extend(part.split_whitespace().map(str::to_owned));
                    }
                }
                Cli::command().try_get_matches_from(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
            }
        }
    }

    #[test]
    fn every_verb_stands_in_the_docs_of_both_languages() {
        for name in ["cli.md", "zh/cli.md"] {
            let text = docs(name);
            for (path, command) in verbs() {
                assert!(text.contains(&format!("`{path}")), "{path} is not in docs/{name}");
                // One example each: a line of a code block that begins with the verb.
                let shown = text.lines().any(|line| line == path || line.starts_with(&format!("{path} ")));
                assert!(shown, "docs/{name} has no example of {path}");
                for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
                    if let Some(long) = arg.get_long() {
                        assert!(text.contains(&format!("--{long}")), "--{long} of {path} is not in docs/{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_verb_gives_a_flag_of_all_verbs_another_meaning() {
        let root = Cli::command();
        let everywhere: Vec<&str> =
            root.get_arguments().filter(|a| a.is_global_set()).filter_map(Arg::get_long).collect();
        assert!(everywhere.contains(&"as") && everywhere.contains(&"json"), "{everywhere:?}");
        for (path, command) in verbs() {
            for arg in command.get_arguments().filter(|a| !a.is_global_set()) {
                assert!(!arg.get_long().is_some_and(|long| everywhere.contains(&long)), "{path} {}", arg.get_id());
            }
        }
    }

    #[test]
    fn the_docs_show_no_verb_that_is_not_there() {
        for name in ["cli.md", "zh/cli.md"] {
            let text = docs(name);
            let blocks = text.split("```").skip(1).step_by(2);
            let known: Vec<String> = tree().into_iter().map(|(path, _)| path).collect();
            for line in blocks.flat_map(str::lines).filter(|l| l.starts_with("hone ")) {
                let is_verb = |path: &String| line == path || line.starts_with(&format!("{path} "));
                assert!(known.iter().any(is_verb), "docs/{name}: {line}");
                let words = || line.split_whitespace().skip(1).take_while(|w| !w.starts_with(['-', '"', '.', '/']));
                let longest = known.iter().filter(|p| is_verb(p)).map(|p| p.split(' ').count()).max().unwrap_or(0);
                assert!(longest > 1 || words().count() == 0, "docs/{name}: {line}");
            }
        }
    }

    #[test]
    fn every_exit_status_stands_in_the_docs_of_both_languages() {
        for name in ["exit-codes.md", "zh/exit-codes.md"] {
            let text = docs(name);
            for &code in hone_protocol::failure::FailureCode::ALL {
                let word = crate::print::code_word(code);
                let status = code.exit_status();
                let listed =
                    text.lines().any(|l| l.starts_with(&format!("| {status} |")) && l.contains(&format!("`{word}`")));
                assert!(listed, "docs/{name} does not list {word} under {status}");
            }
        }
    }

    #[test]
    fn every_verb_speaks_chinese() {
        let mut found = Vec::new();
        walk(&localise(Cli::command(), Language::Zh), "", &mut found);
        for (path, command) in found {
            let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(chinese(&about), "{path}: {about:?}");
            for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(chinese(&help), "{path} {}: {help:?}", arg.get_id());
            }
        }
    }

    #[test]
    fn every_sentence_that_is_said_is_in_the_catalogue() {
        let folder = format!("{}/src", env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![format!("{folder}/print.rs"), format!("{folder}/cli.rs")];
        for entry in std::fs::read_dir(format!("{folder}/cli")).unwrap() {
            files.push(entry.unwrap().path().to_str().unwrap().to_owned());
        }
        for file in files.iter().filter(|f| f.ends_with(".rs") && !f.ends_with("tree.rs")) {
            let text = std::fs::read_to_string(file).unwrap();
            for key in text.split("\"cli.").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(catalogue::find(Language::En, &format!("cli.{key}")).is_some(), "{file}: cli.{key}");
            }
        }
    }

    #[test]
    fn help() {
        let mut texts = String::new();
        for (path, command) in tree() {
            let mut command = command.term_width(100);
            // The flags of every verb stand once, at the top.
            if path != "hone" {
                for id in ["state", "person", "json", "lang", "once", "payer", "pool"] {
                    command = command.mut_arg(id, |arg| arg.hide(true));
                }
            }
            texts.push_str(&format!("===== {path}\n{}\n", command.render_long_help()));
        }
        insta::assert_snapshot!("help", texts);
        let mut zh = localise(Cli::command(), Language::Zh).term_width(100);
        insta::assert_snapshot!("help-zh", zh.render_long_help().to_string());
        let mut train = localise(Cli::command(), Language::Zh);
        train.build();
        let mut start =
            train.find_subcommand("train").unwrap().find_subcommand("start").unwrap().clone().term_width(100);
        insta::assert_snapshot!("help-zh-train-start", start.render_long_help().to_string());
    }
}
