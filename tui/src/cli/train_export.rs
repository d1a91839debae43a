//! `hone train export`: all series of a run as files that other tools read. Never here: showing them.
//!
//! TensorBoard's event files are records of a length, a masked CRC-32C of it, a protocol buffer `Event`, and a masked CRC-32C of
//! that (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto).

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::job::JobSpec;
use hone_protocol::request::Request;
use hone_protocol::train::{Point, SERIES};
use serde_json::{Map, Value, json};

use super::context::{Context, answer};
use crate::print::{self, Outcome};

/// Write all series of a run into a folder, for TensorBoard or as JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone train export last --to runs/first\n  tensorboard --logdir runs")]
pub(super) struct Export {
    /// A training job's id, the end of it, or `last`.
    job: String,
    /// The folder; it is made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// How.
    #[arg(long, value_enum, default_value = "tensorboard")]
    format: Format,
}

/// File formats, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An event file of TensorBoard
    Tensorboard,
    /// metrics.jsonl: one object for each step
    Jsonl,
}

/// Points by series.
type Run = Vec<(&'static str, Vec<Point>)>;

impl Export {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let job = context.job(&mut link, &self.job)?;
        let view = answer!(link.ask(Request::Job { job })?, Job);
        if !matches!(view.record.spec, JobSpec::Train(_)) {
            let message = format!("{job} is no training job; it has no series");
            return Err(Failure::new(FailureCode::InvalidRequest, message).at("job").into());
        }
        let mut run = Run::new();
        for name in SERIES {
            let request = Request::Metrics { job, series: name.to_owned(), from_step: 0, points: 0 };
            run.push((name, answer!(link.ask(request)?, Metrics)));
        }
        let began_s = view.record.started_at_ms.unwrap_or(view.record.created_at_ms) as f64 / 1e3;
        let (name, bytes) = match self.format {
            Format::Tensorboard => (format!("events.out.tfevents.{began_s:.0}.hone"), events(&run, began_s)),
            Format::Jsonl => ("metrics.jsonl".to_owned(), lines(&run)),
        };
        let path = self.to.join(name);
        std::fs::create_dir_all(&self.to).and_then(|()| std::fs::write(&path, bytes)).map_err(|e| {
            Failure::new(FailureCode::DiskFull, format!("cannot be written: {e}")).at(path.display().to_string())
        })?;
        if context.json {
            return print::json(&json!({"path": path}));
        }
        print::out(&format!("{}\n", path.display()))
    }
}

/// One JSON object for each step, with the series that have a value there.
fn lines(run: &Run) -> Vec<u8> {
    let mut steps: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for (name, points) in run {
        for point in points {
            let step =
                steps.entry(point.step).or_insert_with(|| Map::from_iter([("step".to_owned(), json!(point.step))]));
            step.insert((*name).to_owned(), json!(point.value));
        }
    }
    steps.into_values().flat_map(|step| format!("{}\n", Value::Object(step)).into_bytes()).collect()
}

/// An event file. The store keeps no time of each step, so all events carry that of the run's beginning.
fn events(run: &Run, began_s: f64) -> Vec<u8> {
    let mut file = Vec::new();
    record(&mut file, &event(began_s, 0, 3, b"brain.Event:2"));
    for (name, points) in run {
        // What is measured on rows that no batch saw gets a name of its own, beside the others in TensorBoard's groups.
        let group = if name.starts_with("eval_") || *name == "replay_loss" { "held_out" } else { "train" };
        for point in points {
            let mut value = Vec::new();
            delimited(&mut value, 1, format!("{group}/{name}").as_bytes());
            value.push(2 << 3 | 5);
            value.extend((point.value.value() as f32).to_le_bytes());
            let mut summary = Vec::new();
            delimited(&mut summary, 1, &value);
            record(&mut file, &event(began_s, point.step, 5, &summary));
        }
    }
    file
}

/// An `Event`: wall time, step, and one field of bytes.
fn event(wall_time_s: f64, step: u64, field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time_s.to_le_bytes());
    event.push(2 << 3);
    varint(&mut event, step);
    delimited(&mut event, field, bytes);
    event
}

fn delimited(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn record(file: &mut Vec<u8>, bytes: &[u8]) {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length));
    file.extend(bytes);
    file.extend(masked(bytes));
}

#[cfg(test)]
mod tests {
    use hone_protocol::value::Metric;

    use super::*;

    fn run() -> Run {
        let point = |step, value: f64| Point { step, value: Metric::from(value) };
        vec![("loss", vec![point(1, 2.5), point(300, f64::NAN)]), ("eval_loss", vec![point(0, 3.0)])]
    }

    #[test]
    fn lines_gather_the_series_of_a_step() {
        let text = String::from_utf8(lines(&run())).unwrap();
        assert_eq!(
            text,
            "{\"step\":0,\"eval_loss\":3.0}\n{\"step\":1,\"loss\":2.5}\n{\"step\":300,\"loss\":\"nan\"}\n"
        );
    }

    #[test]
    fn events_are_records_of_known_bytes() {
        let file = events(&run(), 1.0);
        let mut at = 0;
        let mut sizes = Vec::new();
        while at < file.len() {
            let size = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
            sizes.push(size);
            at += 8 + 4 + size + 4;
        }
        assert_eq!((at, sizes.len()), (file.len(), 4));
        // Golden, read by TensorBoard 2.20: `EventAccumulator` found train/loss and held_out/eval_loss.
        let mut wanted = vec![9];
        wanted.extend(1.0f64.to_le_bytes());
        wanted.extend([16, 1, 42, 19, 10, 17, 10, 10]);
        wanted.extend(b"train/loss");
        wanted.push(21);
        wanted.extend(2.5f32.to_le_bytes());
        assert_eq!(event(1.0, 1, 5, &wanted[13..]), wanted);
        assert!(file.windows(wanted.len()).any(|part| part == wanted));
    }
}
