//! `hone dataset facts`. Never here: finding them.

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::job::{FactsSpec, JobSpec};
use hone_protocol::recipe::DatasetFacts;
use hone_protocol::request::Request;

use super::context::{Context, answer};
use super::dataset::find;
use super::wait;
use crate::print::{self, Outcome};

/// Cells of the longest bar.
const BAR_CELLS: u64 = 40;

/// Find facts of a version: lengths, languages, turns, duplicates, personal data and secrets, and a model's tokens.
///
/// They are kept with the version; the next call shows them at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone dataset facts support-desk\n  hone dataset facts support-desk@1 --model smollm2-135m"
)]
pub(super) struct Facts {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// Count the tokens of this model version, too.
    #[arg(long, value_name = "VERSION")]
    model: Option<String>,
    /// Find them again although they are known.
    #[arg(long)]
    again: bool,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Facts {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
        let (_, version) = find(&datasets, &self.dataset)?;
        let known =
            version.facts.as_deref().filter(|facts| !self.again && (self.model.is_none() || facts.tokens.is_some()));
        if let Some(facts) = known {
            return show(context, facts);
        }
        let id = version.id;
        let spec = JobSpec::Facts(FactsSpec { dataset: self.dataset.clone(), model: self.model });
        if wait::submit(context, &mut link, "facts", spec, self.detach)?.is_none() {
            return Ok(());
        }
        let datasets = answer!(link.ask(Request::Datasets)?, Datasets);
        let version = datasets.iter().flat_map(|dataset| &dataset.versions).find(|version| version.id == id);
        match version.and_then(|version| version.facts.as_deref()) {
            Some(facts) => show(context, facts),
            None => Ok(()),
        }
    }
}

fn show(context: &Context, facts: &DatasetFacts) -> Outcome {
    if context.json {
        return print::json(facts);
    }
    print::out(&facts_text(context.language, facts))
}

/// Names of classes of lengths, in characters.
pub(crate) fn length_name(class: usize) -> String {
    print::count(16 << class)
}

fn facts_text(language: Language, facts: &DatasetFacts) -> String {
    let mut pairs = vec![
        ("facts.rows", facts.rows.to_string()),
        ("facts.messages", facts.messages.to_string()),
        ("facts.characters", facts.characters.to_string()),
    ];
    if let Some((tokens, model)) = &facts.tokens {
        pairs.push(("facts.tokens", format!("{tokens} ({model})")));
    }
    pairs.push(("facts.marks", facts.length_marks.map(|mark| mark.to_string()).join(", ")));
    pairs.push(("facts.exact", facts.exact_duplicates.to_string()));
    pairs.push(("facts.near", facts.near_duplicates.to_string()));
    let mut text = print::pairs(language, &pairs);
    let lengths = facts.lengths.iter().enumerate().map(|(class, rows)| (format!("<= {}", length_name(class)), *rows));
    let turns = facts.turns.iter().enumerate().map(|(turns, rows)| (turns.to_string(), *rows));
    text.push_str(&bars(language, "facts.lengths", lengths.collect()));
    text.push_str(&bars(language, "facts.turns", turns.collect()));
    text.push_str(&bars(language, "facts.languages", facts.languages.clone()));
    text.push_str(&bars(language, "facts.private", facts.private.clone()));
    text
}

fn bars(language: Language, key: &'static str, counts: Vec<(String, u64)>) -> String {
    let counts: Vec<_> = counts.into_iter().filter(|(_, rows)| *rows > 0).collect();
    let mut text = format!("\n{}\n", catalogue::text(language, key));
    if counts.is_empty() {
        return text + "  " + catalogue::text(language, "facts.none") + "\n";
    }
    let most = counts.iter().map(|(_, rows)| *rows).max().unwrap_or(1).max(1);
    for (name, rows) in counts {
        let bar = "#".repeat((rows * BAR_CELLS).div_ceil(most) as usize);
        text.push_str(&format!("  {:<12} {rows:>10}  {bar}\n", print::harmless(&name)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> DatasetFacts {
        DatasetFacts {
            rows: 669,
            characters: 301_050,
            messages: 1_338,
            tokens: Some((80_281, "smollm2-135m@1".into())),
            lengths: vec![0, 0, 3, 60, 210, 320, 71, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            length_marks: [421, 1_204, 1_990, 2_811],
            languages: vec![("en".into(), 640), ("zh".into(), 20), ("?".into(), 9)],
            turns: vec![0, 0, 600, 0, 60, 0, 9, 0, 0, 0, 0, 0],
            exact_duplicates: 1,
            near_duplicates: 12,
            private: vec![("email".into(), 14), ("phone".into(), 3)],
        }
    }

    #[test]
    fn facts_are_told_in_both_languages() {
        insta::assert_snapshot!("facts-en", facts_text(Language::En, &sample()));
        insta::assert_snapshot!("facts-zh", facts_text(Language::Zh, &sample()));
    }
}
