//! `hone dataset mix` and `split`: new datasets out of rows that are there. Never here: which row goes where.

use clap::Args;
use hone_protocol::dataset::DatasetView;
use hone_protocol::failure::Failure;
use hone_protocol::job::{JobResult, JobSpec};
use hone_protocol::mixture::{MixSource, MixSpec, SplitPart, SplitSpec};
use hone_protocol::request::Request;

use super::context::{Context, answer};
use super::wait;
use crate::print::{self, Outcome};

/// Make a dataset of rows of several, by weight, and wait until it is there.
///
/// The same seed chooses the same rows. Each row keeps its fields and names its parent.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset mix blend --from support-desk:3 --from made:1 --rows 400")]
pub(super) struct Mix {
    /// Name of the dataset that gets the version.
    name: String,
    /// A dataset with its weight, NAME:WEIGHT; several times.
    #[arg(long = "from", value_name = "DATASET:WEIGHT", required = true)]
    sources: Vec<String>,
    /// Rows in all; 0 for as many as the weights allow without taking a row twice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Another seed, other rows.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

/// A name and a number behind a colon; 1 where there is none.
fn named(typed: &str, field: &str) -> Result<(String, u32), Failure> {
    match typed.rsplit_once(':') {
        None => Ok((typed.to_owned(), 1)),
        Some((name, number)) => {
            let wrong = |_| Failure::field(field, format!("{number:?} in {typed:?} is no number; write NAME:NUMBER"));
            Ok((name.to_owned(), number.parse().map_err(wrong)?))
        }
    }
}

impl Mix {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let source = |typed: &String| named(typed, "from").map(|(dataset, weight)| MixSource { dataset, weight });
        let sources = self.sources.iter().map(source).collect::<Result<_, _>>()?;
        let spec = MixSpec { sources, name: self.name, rows: self.rows, seed: self.seed };
        make(context, JobSpec::Mix(Box::new(spec)), self.detach)
    }
}

/// Make several datasets of the rows of one, and wait until they are there.
///
/// Rows that differ only in case, signs and white space are in the same part, so what is held out is not known already.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone dataset split support-desk --into desk-train:80 --into desk-validation:10 --into desk-test:10"
)]
pub(super) struct SplitOff {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// A part with its percent of the rows, NAME:PERCENT; 100 together.
    #[arg(long = "into", value_name = "NAME:PERCENT", required = true)]
    parts: Vec<String>,
    /// Another seed, another split.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl SplitOff {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let part = |typed: &String| named(typed, "into").map(|(name, percent)| SplitPart { name, percent });
        let parts = self.parts.iter().map(part).collect::<Result<_, _>>()?;
        let spec = SplitSpec { dataset: self.dataset, parts, seed: self.seed };
        make(context, JobSpec::Split(Box::new(spec)), self.detach)
    }
}

fn make(context: &Context, spec: JobSpec, detach: bool) -> Outcome {
    let mut link = context.link()?;
    let Some((view, result)) = wait::submit(context, &mut link, "make", spec, detach)? else { return Ok(()) };
    if context.json {
        return print::json(&view);
    }
    let made = match result {
        JobResult::Dataset(id, _) => vec![id],
        JobResult::Datasets(ids) => ids,
        _ => Vec::new(),
    };
    let datasets: Vec<DatasetView> = answer!(link.ask(Request::Datasets)?, Datasets);
    for id in made {
        let found = datasets.iter().find_map(|d| Some((d, d.versions.iter().find(|version| version.id == id)?)));
        if let Some((dataset, version)) = found {
            let rows = version.rows.to_string();
            let reference = format!("{}@{}", dataset.record.name, version.number);
            print::out(&(context.fill("cli.made_rows", &[("version", &reference), ("rows", &rows)]) + "\n"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_stand_behind_a_colon() {
        assert_eq!(named("desk:3", "from").unwrap(), ("desk".into(), 3));
        assert_eq!(named("desk@2:3", "from").unwrap(), ("desk@2".into(), 3));
        assert_eq!(named("desk", "from").unwrap(), ("desk".into(), 1));
        assert_eq!(named("desk:x", "from").unwrap_err().place, "from");
    }
}
