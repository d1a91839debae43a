//! A pull from a model hub, from the task to complete files in its folder. Lives here: the order of things, and what an
//! interrupted attempt left (`pull`: the commit that the job began with). Never here: HTTP, and what files are.

use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::model::{Hub, HubSource};
use hone_protocol::worker::{HubFiles, HubTask};

use super::cache::Cached;
use super::choose::{Entry, choose};
use super::choose_rows::rows_of;
use super::download::{Wanted, download};
use super::http::{Client, Patience};
use super::listing::{self, Listing};
use super::place::Places;
use crate::child::Work;

/// The file that keeps the commit of the first attempt.
const PINNED: &str = "commit";

/// Brings what the task asks for. `places` says where the hub is and what is on this machine already.
pub(super) fn pull(
    work: &mut Work<'_>,
    task: &HubTask,
    places: &Places<'_>,
    patience: Patience,
) -> Result<HubFiles, Failure> {
    let (source, folder) = (&task.source, Path::new(&task.folder));
    work.progress("phase.fetch", 0, 0);
    let cached = places.hub_cache().filter(|_| source.hub == Hub::Huggingface);
    let cached = cached.map(|hub| Cached::of(&hub, &source.repo, task.rows));
    let named = listing::main_revision(source);
    if places.offline(source.hub) {
        let nothing = || Failure::new(FailureCode::NotFound, "HF_HUB_OFFLINE is set and there is no cache");
        let cached = cached.ok_or_else(nothing)?;
        let listing = cached.listing(named)?;
        return bring(work, task, &listing, Some(&cached), None);
    }
    let client = Client::new(&places.endpoint(source.hub), places.token(source.hub), patience)?;
    let revision = pinned(folder, source).unwrap_or_else(|| named.to_owned());
    let listing = listing::ask(&client, work, task, &revision)?;
    let pin = folder.join(PINNED);
    std::fs::write(&pin, &listing.commit).map_err(|error| {
        Failure::new(FailureCode::DiskFull, format!("the commit cannot be noted: {error}"))
            .at(pin.display().to_string())
    })?;
    eprintln!("honed fetch: {} at {}: licence {:?}", source.repo, listing.commit, listing.licence);
    bring(work, task, &listing, cached.as_ref(), Some((&client, named)))
}

/// The commit that an earlier attempt of this job began with, for a hub that serves commits.
fn pinned(folder: &Path, source: &HubSource) -> Option<String> {
    let commit = std::fs::read_to_string(folder.join(PINNED)).ok()?;
    (source.hub == Hub::Huggingface && listing::is_commit(&commit)).then_some(commit)
}

/// Links or downloads each wanted file.
fn bring(
    work: &mut Work<'_>,
    task: &HubTask,
    listing: &Listing,
    cached: Option<&Cached>,
    hub: Option<(&Client, &str)>,
) -> Result<HubFiles, Failure> {
    let (source, folder) = (&task.source, Path::new(&task.folder));
    let (entries, convert) = match task.rows {
        true => (rows_of(source, &listing.entries)?, false),
        false => choose(source, &listing.entries)?,
    };
    let total = entries.iter().map(|entry| entry.size.unwrap_or(0)).sum();
    let (mut before, mut files) = (0, Vec::new());
    for entry in entries {
        let name = local_name(entry);
        let target = folder.join(&name);
        match (cached.and_then(|cached| cached.file(&listing.commit, entry)), hub) {
            (Some(path), _) => {
                eprintln!("honed fetch: {} is in the cache: {}", entry.path, path.display());
                let _ = std::fs::remove_file(&target);
                std::os::unix::fs::symlink(&path, &target).map_err(|error| {
                    Failure::new(FailureCode::FileUnreadable, format!("{} cannot be linked: {error}", path.display()))
                })?;
            }
            (None, Some((client, revision))) => {
                let url = listing::address(client, task, listing, revision, &entry.path);
                let commit = (source.hub == Hub::Huggingface).then_some(listing.commit.as_str());
                let wanted = Wanted { url, entry, commit, name: name.clone(), total, before };
                download(client, work, folder, &wanted)
                    .map_err(|failure| listing::explained(failure, client, source, revision))?;
            }
            (None, None) => {
                let message = format!("HF_HUB_OFFLINE is set and {} is not whole in the cache", entry.path);
                return Err(Failure::new(FailureCode::NotFound, message).at(source.repo.clone()));
            }
        }
        before += entry.size.unwrap_or(0);
        files.push((entry.path.clone(), name, entry.sha256));
    }
    Ok(HubFiles { commit: listing.commit.clone(), licence: listing.licence.clone(), files, convert })
}

/// The name of a file in the folder: its path with dashes for slashes, and never that of a note of ours.
fn local_name(entry: &Entry) -> String {
    format!("hub-{}", entry.path.replace('/', "--"))
}
