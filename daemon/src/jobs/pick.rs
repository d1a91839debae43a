//! Mixtures and splits: a child writes the chosen rows as lines, others import them. Never here: which row goes where (`data/pick.rs`).

use hone_protocol::dataset::{DatasetVersionRecord, RowFormat, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::mixture::{MIX_SOURCES_MAX, MixSpec, SPLIT_PARTS_MAX, SplitSpec, WEIGHT_MAX};
use hone_protocol::paths::is_name;
use hone_protocol::worker::{FromWorker, ImportTask, PickSource, PickTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::{Kind, Work};
use crate::dispatcher::event::{PickedPart, Produced};
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

pub(super) const MIX: Kind = Kind { word: "mix", check, pin, memory, heavy: false, run };
pub(super) const SPLIT: Kind = Kind { word: "split", check, pin, memory, heavy: false, run };

/// What a job makes rows of, and into what: references with the rows to take, names with their shares.
struct Plan {
    sources: Vec<(String, u64)>,
    parts: Vec<(String, u32)>,
    seed: u64,
}

fn plan(state: &State, spec: &JobSpec) -> Result<Plan, Failure> {
    match spec {
        JobSpec::Mix(spec) => mix(state, spec),
        JobSpec::Split(spec) => split(state, spec),
        _ => Err(Failure::new(FailureCode::Internal, "neither a mixture nor a split")),
    }
}

fn mix(state: &State, spec: &MixSpec) -> Result<Plan, Failure> {
    if spec.sources.is_empty() || spec.sources.len() > MIX_SOURCES_MAX {
        return Err(Failure::field("sources", format!("name 1 to {MIX_SOURCES_MAX} datasets")));
    }
    if let Some(at) = spec.sources.iter().position(|source| !(1..=WEIGHT_MAX).contains(&source.weight)) {
        return Err(Failure::field(
            &format!("sources[{at}].weight"),
            format!("weight must be between 1 and {WEIGHT_MAX}"),
        ));
    }
    let versions = spec.sources.iter().map(|source| state.dataset_version(&source.dataset));
    let versions = versions.collect::<Result<Vec<_>, _>>()?;
    let there: Vec<u64> = versions.iter().map(|version| version.rows).collect();
    let shares = spec.shares(&there).map_err(|lacking| {
        let (name, rows) = (&spec.sources[lacking].dataset, there[lacking]);
        let message = format!("{name} has {rows} rows, which are too few for its share; ask for fewer rows, or for 0 to take as many as there are");
        Failure::field("rows", message)
    })?;
    let sources = versions.iter().zip(shares).map(|(version, rows)| (state.dataset_reference(version), rows)).collect();
    Ok(Plan { sources, parts: vec![(spec.name.clone(), 100)], seed: spec.seed })
}

fn split(state: &State, spec: &SplitSpec) -> Result<Plan, Failure> {
    if spec.parts.len() < 2 || spec.parts.len() > SPLIT_PARTS_MAX {
        return Err(Failure::field("parts", format!("name 2 to {SPLIT_PARTS_MAX} parts")));
    }
    let sum: u64 = spec.parts.iter().map(|part| u64::from(part.percent)).sum();
    if sum != 100 || spec.parts.iter().any(|part| part.percent == 0) {
        return Err(Failure::field(
            "parts",
            format!("the shares are {sum} percent together; 100 are wanted, each above 0"),
        ));
    }
    let twice = |at: usize| spec.parts[..at].iter().any(|before| before.name == spec.parts[at].name);
    if let Some(at) = (0..spec.parts.len()).find(|at| twice(*at)) {
        return Err(Failure::field("parts", format!("{} stands twice", spec.parts[at].name)));
    }
    let version = state.dataset_version(&spec.dataset)?;
    let parts = spec.parts.iter().map(|part| (part.name.clone(), part.percent)).collect();
    Ok(Plan { sources: vec![(state.dataset_reference(version), version.rows)], parts, seed: spec.seed })
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let plan = plan(state, spec)?;
    let mut shapes = Vec::new();
    for (reference, _) in &plan.sources {
        let version = state.dataset_version(reference)?;
        shapes.push(state.datasets.get(&version.dataset).map_or(Shape::Chat, |dataset| dataset.shape));
    }
    let shape = shapes[0];
    if let Some(at) = shapes.iter().position(|other| *other != shape) {
        let (first, other) = (&plan.sources[0].0, &plan.sources[at].0);
        let message = format!("{first} holds {} rows, {other} holds {} rows", shape.word(), shapes[at].word());
        return Err(Failure::field("sources", message));
    }
    for (name, _) in &plan.parts {
        if !is_name(name) {
            let message =
                format!("{name:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit");
            return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
        }
        if let Some(dataset) = state.dataset(name).filter(|dataset| dataset.shape != shape) {
            let message = format!("{name} holds {} rows, these are {} rows", dataset.shape.word(), shape.word());
            return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
        }
    }
    Ok(())
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let exact = |name: &str| Ok::<_, Failure>(state.dataset_reference(state.dataset_version(name)?));
    match spec {
        JobSpec::Mix(mut spec) => {
            for source in &mut spec.sources {
                source.dataset = exact(&source.dataset)?;
            }
            Ok(JobSpec::Mix(spec))
        }
        JobSpec::Split(mut spec) => {
            spec.dataset = exact(&spec.dataset)?;
            Ok(JobSpec::Split(spec))
        }
        spec => Ok(spec),
    }
}

/// A base, and what rows are compared by: their place, their key, their group.
fn memory(state: &State, spec: &JobSpec) -> Need {
    let rows = plan(state, spec).map_or(0, |plan| plan.sources.iter().map(|(_, rows)| rows).sum::<u64>());
    Need::exactly((256 << 20) + 64 * rows)
}

fn run(context: Context) -> Work {
    Box::pin(pick(context))
}

async fn pick(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let plan = plan(&context.state, &job.spec)?;
    let versions: Vec<DatasetVersionRecord> = plan
        .sources
        .iter()
        .map(|(reference, _)| context.state.dataset_version(reference).map(|version| (**version).clone()))
        .collect::<Result<_, _>>()?;
    let folder = context.folder();
    let path = |at: usize| folder.join(format!("part-{at}.jsonl"));
    let sources = plan.sources.iter().zip(&versions).map(|((reference, rows), version)| PickSource {
        reference: reference.clone(),
        segments: version.segments.clone(),
        rows: *rows,
    });
    let task = PickTask {
        sources: sources.collect(),
        folder: context.places.blobs.display().to_string(),
        seed: plan.seed,
        parts: plan
            .parts
            .iter()
            .enumerate()
            .map(|(at, (_, percent))| (path(at).display().to_string(), *percent))
            .collect(),
    };
    let mut line =
        context.child(Program::Daemon("data"), Paths::none().read(&context.places.blobs).write(&folder)).await?;
    line.send(&ToWorker::Pick(task)).await?;
    let rows = match context.next(&mut line).await? {
        FromWorker::Picked { rows } => rows,
        other => return Err(unexpected(&other)),
    };
    let shape = context.state.datasets.get(&versions[0].dataset).map_or(Shape::Chat, |dataset| dataset.shape);
    let format = match shape {
        Shape::Preference => RowFormat::Preference,
        Shape::Text => RowFormat::Text,
        Shape::Prompt => RowFormat::Prompt,
        Shape::Chat => RowFormat::OpenAi,
    };
    let names: Vec<String> = plan.sources.iter().map(|(reference, _)| reference.clone()).collect();
    let mut parts = Vec::new();
    for (at, (name, _)) in plan.parts.iter().enumerate() {
        if rows.get(at).is_none_or(|rows| *rows == 0) {
            let message = format!("no row is left for {name}; choose larger shares, or more rows");
            return Err(Failure::new(FailureCode::NoRows, message).at("parts").into());
        }
        let state = context.desk.hub.state();
        let first_row_id = state.dataset(name).map_or(0, |dataset| dataset.next_row_id);
        let file = path(at);
        let task = ImportTask {
            path: file.display().to_string(),
            source: names.join(" + "),
            format: format.clone(),
            folder: context.places.blobs.display().to_string(),
            first_row_id,
        };
        let paths = Paths::none().read(&file).write(&context.places.blobs);
        let mut line = context.child(Program::Daemon("data"), paths).await?;
        line.send(&ToWorker::Import(task)).await?;
        match context.next(&mut line).await? {
            FromWorker::Imported { report, .. } if report.rejected > 0 => {
                let first = report.rejections.first();
                let why = first.map_or(String::new(), |it| format!("; line {}, {}: {}", it.line, it.field, it.reason));
                let message = format!("{} rows for {name} could not be written as rows{why}", report.rejected);
                return Err(Failure::new(FailureCode::Internal, message).at("parts").hint(HintCode::ReportBug).into());
            }
            FromWorker::Imported { report, segments } => {
                parts.push(PickedPart { name: name.clone(), report, segments, first_row_id });
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(Produced::Picked { sources: versions.iter().map(|version| version.id).collect(), parts })
}
