//! Import rows: a child reads the file, keeps or rejects every row with a reason, and writes segments.

use std::path::Path;

use hone_protocol::dataset::DatasetSource;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::paths::is_name;
use hone_protocol::worker::{FromWorker, ImportTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::{Kind, Work};
use crate::data::{PRESETS, write_preset};
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

pub(super) const KIND: Kind = Kind {
    word: "import_dataset",
    check,
    pin: super::keep,
    memory: |_, _| Need::exactly(128 << 20),
    heavy: false,
    run,
};

fn check(_: &State, spec: &JobSpec) -> Result<(), Failure> {
    let JobSpec::ImportDataset { source, name, .. } = spec else {
        return Err(Failure::new(FailureCode::Internal, "not an import of rows"));
    };
    if !is_name(name) {
        let message =
            format!("{name:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit");
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    match source {
        DatasetSource::Path { path } if !Path::new(path).is_absolute() => {
            Err(Failure::field("source.path", format!("{path:?} is not an absolute path")))
        }
        DatasetSource::Preset { name } if !PRESETS.iter().any(|p| p.name == name) => {
            Err(Failure::not_found("preset", name))
        }
        _ => Ok(()),
    }
}

fn run(context: Context) -> Work {
    Box::pin(import(context))
}

async fn import(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let JobSpec::ImportDataset { source, name, format } = &job.spec else {
        return Err(Failure::new(FailureCode::Internal, "not an import of rows").into());
    };
    let (path, said, licence) = match source {
        DatasetSource::Path { path } => (path.clone(), path.clone(), String::new()),
        DatasetSource::Preset { name } => {
            let path = write_preset(name, &context.folder())?;
            let licence = PRESETS.iter().find(|p| p.name == name).map_or("", |p| p.licence);
            (path.display().to_string(), format!("preset:{name}"), licence.to_owned())
        }
    };
    let first_row_id = context.state.dataset(name).map_or(0, |d| d.next_row_id);
    context.progress("phase.import", 0, 0).await;
    let paths = Paths::none().read(&path).write(&context.places.blobs);
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    let task = ImportTask {
        path,
        source: said,
        format: *format,
        folder: context.places.blobs.display().to_string(),
        first_row_id,
    };
    line.send(&ToWorker::Import(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::Imported { report, segments } => {
            let rows: u64 = segments.iter().map(|s| s.rows).sum();
            if report.read != report.kept + report.rejected || rows != report.kept {
                let message = "the importer's counts do not add up";
                return Err(Failure::new(FailureCode::BadFrame, message).hint(HintCode::ReportBug).into());
            }
            Ok(Produced::Dataset { report, segments, first_row_id, licence, lineage: None })
        }
        other => Err(unexpected(&other)),
    }
}
