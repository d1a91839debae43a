//! `hone model bench`: what formats of a model come to on this machine, as one table and two sentences of advice. Never here: measuring,
//! or the rule of the advice, which the protocol has.

use clap::Args;
use hone_protocol::bench::{BenchReport, FormatFigures, KL_MAX};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::convert::{Conversion, WeightsFormat};
use hone_protocol::job::{JobResult, JobSpec};

use super::context::Context;
use super::{convert, wait};
use crate::print::{self, Cell, Outcome, Table};

/// Measure formats of a model on this machine and say which to train on and which to serve.
///
/// Each format is made from the least quantised version that is kept, measured, and removed again: tokens a second of LoRA training,
/// of a prompt and of an answer, its size, and how near it is to its source on your rows. Nothing else should run meanwhile.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model bench smollm2-135m --rows support-desk\n  hone model bench support@4 --rows support-desk --formats f16,q8_0,q4_0 --json"
)]
pub(super) struct Bench {
    /// The model: NAME (its newest version), NAME@NUMBER or NAME:ALIAS.
    model: String,
    /// Rows to train on and to compare on: the first 64 of this dataset.
    #[arg(long, value_name = "DATASET")]
    rows: String,
    /// Formats to measure [default: f16, q8_0, q5_k_m, q4_k_m, q4_0].
    #[arg(long, value_name = "TYPES", value_delimiter = ',', ignore_case = true, value_parser = convert::formats(false))]
    formats: Vec<WeightsFormat>,
    /// Compute threads [default: all cores of the pool].
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    threads: u32,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Bench {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let Bench { model: version, rows: dataset, formats, threads, detach } = self;
        let spec = JobSpec::Convert(Conversion::Bench { version, dataset, formats, threads });
        let Some((view, result)) = wait::submit(context, &mut context.link()?, "bench", spec, detach)? else {
            return Ok(());
        };
        match result {
            _ if context.json => print::json(&view),
            JobResult::Bench(report) => print::out(&show(context.language, &report, print::colour())),
            _ => Ok(()),
        }
    }
}

/// The table and what follows from it.
pub(super) fn show(language: Language, report: &BenchReport, colour: bool) -> String {
    let mut table = Table::new(
        language,
        &[
            "cli.col.type",
            "cli.col.size",
            "cli.col.train_speed",
            "cli.col.prefill_speed",
            "cli.col.decode_speed",
            "cli.col.perplexity",
            "cli.col.mean_kl",
            "cli.col.same_greedy",
        ],
    );
    let speed = |value: f64| Cell::number(format!("{value:.0}"));
    for figures in &report.formats {
        table.row(vec![
            figures.format.word().into(),
            Cell::number(print::bytes(figures.size_bytes)),
            figures.train_tokens_per_s.map_or_else(|| Cell::number("-"), speed),
            speed(figures.prefill_tokens_per_s),
            speed(figures.decode_tokens_per_s),
            Cell::number(format!("{:.3}", figures.receipt.perplexity)),
            Cell::number(format!("{:.4}", figures.receipt.mean_kl)),
            Cell::number(format!("{:.1} %", 100.0 * figures.receipt.same_greedy)),
        ]);
    }
    let mut text = table.render(colour);
    for figures in report.formats.iter().filter(|figures| !figures.note.is_empty()) {
        text.push_str(&format!("{}: {}\n", figures.format.word(), print::harmless(&figures.note)));
    }
    let train = |figures: &FormatFigures| figures.train_tokens_per_s;
    let decode = |figures: &FormatFigures| Some(figures.decode_tokens_per_s);
    text.push('\n');
    text.push_str(&advice(language, report, "cli.bench_train", report.train_on, train));
    text.push_str(&advice(language, report, "cli.bench_serve", report.serve, decode));
    text
}

/// Which format, and why: its speed beside that of the slowest, and how far it is from its source.
fn advice(
    language: Language,
    report: &BenchReport,
    key: &'static str,
    chosen: Option<WeightsFormat>,
    speed: impl Fn(&FormatFigures) -> Option<f64>,
) -> String {
    let Some(figures) = report.formats.iter().find(|figures| Some(figures.format) == chosen) else {
        return String::new();
    };
    let own = speed(figures).unwrap_or(0.0);
    let with_speed = report.formats.iter().filter_map(|figures| Some((figures, speed(figures)?)));
    let slowest = with_speed.min_by(|a, b| a.1.total_cmp(&b.1));
    let (slow, least) = slowest.map_or((figures, own), |(figures, speed)| (figures, speed));
    let why = if figures.is_near() { "cli.bench_near" } else { "cli.bench_none_near" };
    let args = [
        ("format", figures.format.word().to_owned()),
        ("speed", format!("{own:.0}")),
        ("ratio", format!("{:.1}", own / least.max(f64::MIN_POSITIVE))),
        ("slowest", slow.format.word().to_owned()),
        ("kl", format!("{:.4}", figures.receipt.mean_kl)),
        ("limit", format!("{KL_MAX}")),
        ("source", report.source.clone()),
    ];
    let args: Vec<(&str, &str)> = args.iter().map(|(name, value)| (*name, value.as_str())).collect();
    format!("{}{}\n", catalogue::fill(language, key, &args), catalogue::fill(language, why, &args))
}

#[cfg(test)]
mod tests {
    use hone_protocol::convert::Receipt;

    use super::*;

    fn report() -> BenchReport {
        let figures = |format, size_bytes, train, decode, mean_kl: f64| FormatFigures {
            format,
            size_bytes,
            train_tokens_per_s: train,
            prefill_tokens_per_s: 2.0 * decode,
            decode_tokens_per_s: decode,
            receipt: Receipt {
                dataset: "desk@1".into(),
                rows: 64,
                tokens: 2048,
                perplexity: 8.0 + mean_kl,
                parent_perplexity: 8.0,
                mean_kl,
                same_greedy: 1.0 - mean_kl,
                imatrix: None,
            },
            note: String::new(),
        };
        let mut formats = vec![
            figures(WeightsFormat::F16, 269_000_000, Some(210.0), 55.0, 0.0),
            figures(WeightsFormat::Q80, 143_000_000, Some(215.0), 88.0, 0.0008),
            figures(WeightsFormat::Q40, 91_000_000, Some(480.0), 120.0, 0.031),
            figures(WeightsFormat::Q3KM, 80_000_000, None, 125.0, 0.2),
        ];
        formats[3].note = "no adapter trains over it here: an example".into();
        BenchReport {
            source: "support@2".into(),
            threads: 2,
            formats,
            train_on: Some(WeightsFormat::Q40),
            serve: Some(WeightsFormat::Q40),
        }
    }

    #[test]
    fn one_table_and_two_sentences() {
        insta::assert_snapshot!("model-bench", show(Language::En, &report(), false));
        insta::assert_snapshot!("model-bench-zh", show(Language::Zh, &report(), false));
    }
}
