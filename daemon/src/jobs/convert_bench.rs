//! The format advisor: rows are written out by a data child, and a computing child makes, measures and removes one format after the
//! other in this job's folder. Never here: the figures, and what is advised by them (`hone_protocol::bench`).

use std::path::Path;

use hone_protocol::bench::{BenchReport, FormatFigures, USUAL_FORMATS, advise};
use hone_protocol::convert::{
    Conversion, ConvertTask, ConvertWork, Converted, RECEIPT_ROWS_MAX, Receipt, WeightsFormat,
};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::worker::{FromWorker, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::convert::{card, conversion, least_quantised, require_disk, text, usable, whole};
use super::convert_receipt;
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::State;
use crate::workers::process::Program;

/// The model can be quantised, and the rows are there.
pub(super) fn check(state: &State, version: &str, dataset: &str, formats: &[WeightsFormat]) -> Result<(), Failure> {
    whole(state, version, "merge it first, then measure the result")?;
    state.dataset_version(dataset)?;
    if formats.contains(&WeightsFormat::Same) {
        return Err(Failure::field("formats", "\"same\" is no format to choose; name others"));
    }
    let twice = formats.iter().enumerate().find(|(at, format)| formats[..*at].contains(format));
    match twice {
        Some((_, format)) => Err(Failure::field("formats", format!("{} is named twice", format.word()))),
        None => Ok(()),
    }
}

pub(super) async fn bench(mut context: Context, folder: &Path) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let Conversion::Bench { version, dataset, formats, threads } = conversion(&job.spec)? else {
        return Err(Failure::new(FailureCode::Internal, "not a bench").into());
    };
    // What an attempt before left is of no use.
    let _ = tokio::fs::remove_dir_all(folder).await;
    let asked = whole(&context.state, version, "merge it first")?;
    let from = least_quantised(&context.state, &asked);
    let path = usable(&context, &from)?;
    let formats = if formats.is_empty() { USUAL_FORMATS.to_vec() } else { formats.clone() };
    // One format at a time.
    let widest = if formats.contains(&WeightsFormat::F32) { 4 } else { 2 };
    require_disk(&context, widest * from.facts.parameters)?;
    let rows = folder.join("rows.jsonl");
    convert_receipt::export(&mut context, dataset, RECEIPT_ROWS_MAX, folder, &rows).await?;
    let cores = context.state.capacity(context.state.pool_of(&job)).cores;
    let threads = if *threads == 0 { cores } else { (*threads).min(cores) };
    let memory_max_bytes = context.state.attempts.get(&job.id).map_or(0, |attempt| attempt.memory_bytes);
    let work =
        ConvertWork::Bench { path: text(&path), rows_path: text(&rows), formats: formats.clone(), memory_max_bytes };
    let task = ConvertTask { work, folder: text(folder), threads, card: card(&context.state, &from, "", "") };
    let paths = Paths::none().read(&path).write(folder);
    let mut line = context.child(Program::Worker("convert"), paths).await?;
    line.send(&ToWorker::Convert(Box::new(task))).await?;
    let figures = match context.next(&mut line).await? {
        FromWorker::Converted(Converted { figures, .. }) => judged(figures, &formats, dataset)?,
        other => return Err(unexpected(&other)),
    };
    Ok(Produced::Bench(BenchReport {
        source: context.state.version_reference(from.id),
        threads,
        train_on: advise(&figures, |figures| figures.train_tokens_per_s),
        serve: advise(&figures, |figures| Some(figures.decode_tokens_per_s)),
        formats: figures,
    }))
}

/// What a child says is looked at: the formats asked for, and numbers.
fn judged(told: Vec<FormatFigures>, asked: &[WeightsFormat], dataset: &str) -> Result<Vec<FormatFigures>, Failure> {
    let bad = |what: &str| Failure::new(FailureCode::BadFrame, format!("the worker measured {what}"));
    if !told.iter().map(|figures| figures.format).eq(asked.iter().copied()) {
        return Err(bad("other formats than it was asked for"));
    }
    let named = told.into_iter().map(|figures| {
        let receipt = &figures.receipt;
        let numbers = [receipt.perplexity, receipt.parent_perplexity, receipt.mean_kl, receipt.same_greedy];
        let speeds = [figures.prefill_tokens_per_s, figures.decode_tokens_per_s];
        let fine = numbers.iter().chain(&speeds).chain(&figures.train_tokens_per_s).all(|number| number.is_finite());
        if !fine {
            return Err(bad("what is no number"));
        }
        Ok(FormatFigures { receipt: Receipt { dataset: dataset.to_owned(), ..figures.receipt }, ..figures })
    });
    named.collect()
}
