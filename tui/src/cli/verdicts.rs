//! `hone dataset verdicts` and `hone dataset make`: what was judged in the playground, and a version made of it. Never here:
//! judging.

use clap::Args;
use hone_protocol::catalogue::{Language, text};
use hone_protocol::dataset::{DatasetSource, RowFormat};
use hone_protocol::job::JobSpec;
use hone_protocol::judgement::{JudgementRecord, Verdict};
use hone_protocol::request::{Answer, ROWS_MAX, Request};

use super::context::{Context, surprise};
use super::dataset;
use crate::print::{self, Cell, Outcome, Table};

/// List verdicts of the playground for a dataset, newest first; with --json the answers and their settings too.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset verdicts prefs --count 20")]
pub(super) struct Verdicts {
    /// NAME of the dataset that the verdicts are for.
    name: String,
    /// How many, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Verdicts {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let asked = Request::Judgements { dataset: self.name, count: self.count };
        let answer = context.link()?.ask(asked)?;
        let Answer::Judgements { set, judgements } = answer else { return Err(surprise(&answer).into()) };
        if context.json {
            return print::json(&serde_json::json!({ "set": set, "judgements": judgements }));
        }
        print::out(&table(context.language, &judgements, set.made_until).render(print::colour()))?;
        let waiting = [("rows", set.waiting_rows.to_string()), ("undecided", set.waiting_undecided.to_string())];
        context.say("cli.verdicts_wait", &waiting.each_ref().map(|(k, v)| (*k, v.as_str())));
        Ok(())
    }
}

fn table(language: Language, judgements: &[JudgementRecord], made_until: u64) -> Table {
    let headings =
        ["cli.col.number", "cli.col.verdict", "cli.col.answers", "cli.col.person", "cli.col.row", "cli.col.made"];
    let mut table = Table::new(language, &headings);
    for record in judgements {
        let judgement = &record.judgement;
        let verdict = match judgement.verdict {
            Verdict::Best(best) => judgement.contenders.get(best as usize).map_or("?", |best| best.version.as_str()),
            Verdict::Tie => text(language, "verdict.same"),
            Verdict::AllBad => text(language, "verdict.bad"),
        };
        let versions: Vec<&str> = judgement.contenders.iter().map(|contender| contender.version.as_str()).collect();
        let row = match judgement.pairs().len() {
            0 => "cli.row_none",
            _ if record.seq < made_until => "cli.row_made",
            _ => "cli.row_waits",
        };
        table.row(vec![
            Cell::number(record.seq),
            verdict.into(),
            versions.join(" | ").into(),
            record.person.as_str().into(),
            text(language, row).into(),
            print::moment(record.at_ms).into(),
        ]);
    }
    table
}

/// Make a version of a dataset: its rows, and those of the verdicts that wait.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset make prefs")]
pub(super) struct Make {
    /// NAME of the dataset that the verdicts are for.
    name: String,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Make {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let source = DatasetSource::Judgements { until: 0 };
        let spec = JobSpec::ImportDataset { source, name: self.name.clone(), format: RowFormat::Preference };
        dataset::bring_in(context, &self.name, spec, self.detach)
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::ChatMessage;
    use hone_protocol::judgement::{Contender, Judgement};
    use hone_protocol::value::Json;

    use super::*;

    #[test]
    fn the_table_says_which_verdicts_are_rows() {
        let contender = |text: &str, version: &str| Contender {
            service: "desk".into(),
            version: version.into(),
            settings: Json::default(),
            text: text.into(),
            completion_tokens: 1,
        };
        let record = |seq, verdict| JudgementRecord {
            seq,
            person: "lin".into(),
            at_ms: crate::sample::NOW_MS,
            judgement: Judgement {
                messages: vec![ChatMessage { role: "user".into(), content: "?".into() }],
                contenders: vec![contender("a", "desk@2"), contender("b", "base@1")],
                verdict,
                blind: false,
            },
        };
        let records = [record(2, Verdict::Best(0)), record(1, Verdict::Tie), record(0, Verdict::Best(1))];
        insta::assert_snapshot!(table(Language::En, &records, 1).render(false));
    }
}
