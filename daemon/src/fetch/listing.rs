//! What a hub says of a repository: the commit that a revision means, the licence, the files with size and hash. Two
//! hubs, two forms of answer; what comes out is the same. Never here: downloading files.

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::{Hub, HubSource};
use hone_protocol::value::Hash;
use hone_protocol::worker::HubTask;
use serde::Deserialize;

use super::choose::Entry;
use super::http::{Client, encoded};
use crate::child::Work;

/// A repository at a commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit.
    pub(super) commit: String,
    /// Licence as the hub names it; may be empty.
    pub(super) licence: String,
    /// Its files.
    pub(super) entries: Vec<Entry>,
}

/// Asks the hub about `source` at `revision`.
pub(super) fn ask(client: &Client, work: &Work<'_>, task: &HubTask, revision: &str) -> Result<Listing, Failure> {
    let source = &task.source;
    let listing = match source.hub {
        Hub::Huggingface => huggingface(client, work, task, revision),
        Hub::Modelscope if task.rows => {
            let message = "rows come from Hugging Face or a mirror of it; ModelScope serves models here";
            Err(Failure::new(FailureCode::InvalidRequest, message).hint(HintCode::CorrectField))
        }
        Hub::Modelscope => modelscope(client, work, source, revision),
    };
    listing.map_err(|failure| explained(failure, client, source, revision))
}

/// Where a file is fetched from.
pub(super) fn address(client: &Client, task: &HubTask, listing: &Listing, revision: &str, path: &str) -> String {
    let (base, source) = (&client.base, &task.source);
    let kind = if task.rows { "datasets/" } else { "" };
    match source.hub {
        Hub::Huggingface => format!("{base}/{kind}{}/resolve/{}/{}", source.repo, listing.commit, encoded(path, true)),
        // A file's version is checked by its hash, because this hub does not promise to serve every commit by its id.
        Hub::Modelscope => format!(
            "{base}/api/v1/models/{}/repo?Revision={}&FilePath={}",
            source.repo,
            encoded(revision, false),
            encoded(path, false)
        ),
    }
}

/// The revision that is meant when the person named none.
pub(super) fn main_revision(source: &HubSource) -> &str {
    match (source.revision.as_str(), source.hub) {
        ("", Hub::Huggingface) => "main",
        ("", Hub::Modelscope) => "master",
        (named, _) => named,
    }
}

#[derive(Deserialize)]
struct HfModel {
    sha: String,
    #[serde(default, rename = "cardData")]
    card: Option<HfCard>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    siblings: Vec<HfFile>,
}

#[derive(Deserialize)]
struct HfCard {
    #[serde(default)]
    license: Option<serde_json::Value>,
    #[serde(default)]
    license_name: Option<String>,
}

#[derive(Deserialize)]
struct HfFile {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "blobId")]
    blob: Option<String>,
    #[serde(default)]
    lfs: Option<HfLfs>,
}

#[derive(Deserialize)]
struct HfLfs {
    sha256: String,
    #[serde(default)]
    size: Option<u64>,
}

fn huggingface(client: &Client, work: &Work<'_>, task: &HubTask, revision: &str) -> Result<Listing, Failure> {
    let kind = if task.rows { "datasets" } else { "models" };
    let (repo, revision) = (&task.source.repo, encoded(revision, false));
    let url = format!("{}/api/{kind}/{repo}/revision/{revision}?blobs=true", client.base);
    let model: HfModel = client.json(work, &url)?;
    if !is_commit(&model.sha) {
        return Err(Failure::new(FailureCode::DownloadFailed, format!("the hub names {:?} as commit", model.sha)));
    }
    let named = model.card.and_then(|card| match (card.license_name, card.license) {
        (Some(name), _) if !name.is_empty() => Some(name),
        (_, Some(serde_json::Value::String(name))) => Some(name),
        (_, Some(serde_json::Value::Array(list))) => list.first().and_then(|l| l.as_str().map(str::to_owned)),
        _ => None,
    });
    let tagged = || model.tags.iter().find_map(|tag| tag.strip_prefix("license:").map(str::to_owned));
    let entries = model.siblings.into_iter().map(|file| {
        let sha256 = file.lfs.as_ref().and_then(|lfs| Hash::from_hex(&lfs.sha256));
        let identity = file.lfs.as_ref().map(|lfs| lfs.sha256.clone()).or(file.blob).unwrap_or_default();
        Entry { path: file.rfilename, size: file.lfs.and_then(|lfs| lfs.size).or(file.size), sha256, identity }
    });
    Ok(Listing { commit: model.sha, licence: plain(named.or_else(tagged)), entries: entries.collect() })
}

/// Every answer of ModelScope.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsAnswer<T> {
    #[serde(default)]
    code: i64,
    #[serde(default = "yes")]
    success: bool,
    #[serde(default)]
    message: Option<String>,
    data: Option<T>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsFiles {
    #[serde(default)]
    files: Vec<MsFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsFile {
    path: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    revision: Option<String>,
    #[serde(default)]
    committed_date: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MsModel {
    #[serde(default)]
    license: Option<String>,
}

fn modelscope(client: &Client, work: &Work<'_>, source: &HubSource, revision: &str) -> Result<Listing, Failure> {
    let model = format!("{}/api/v1/models/{}", client.base, source.repo);
    let url = format!("{model}/repo/files?Revision={}&Recursive=True", encoded(revision, false));
    let files = data::<MsFiles>(client.json(work, &url)?)?.files;
    let licence =
        data::<MsModel>(client.json(work, &format!("{model}?Revision={}", encoded(revision, false)))?)?.license;
    // The newest change of any file: that is what the revision holds now.
    let newest = files.iter().filter(|f| f.revision.is_some()).max_by_key(|f| f.committed_date);
    let commit =
        newest.and_then(|f| f.revision.clone()).filter(|c| is_commit(c)).unwrap_or_else(|| revision.to_owned());
    let entries = files.into_iter().filter(|file| file.r#type != "tree").map(|file| {
        let sha256 = file.sha256.as_deref().and_then(Hash::from_hex);
        let identity = file.sha256.or(file.revision).unwrap_or_default();
        Entry { path: file.path, size: file.size, sha256, identity }
    });
    Ok(Listing { commit, licence: plain(licence), entries: entries.collect() })
}

fn data<T>(answer: MsAnswer<T>) -> Result<T, Failure> {
    match answer.data {
        Some(data) if answer.success => Ok(data),
        _ => {
            let message = answer.message.unwrap_or_default();
            let code = if answer.code == 404 || message.contains("not exist") || message.contains("not found") {
                FailureCode::NotFound
            } else {
                FailureCode::DownloadFailed
            };
            Err(Failure::new(code, format!("the hub answered {}: {}", answer.code, plain(Some(message)))))
        }
    }
}

/// A hub's word as one short line.
fn plain(word: Option<String>) -> String {
    word.unwrap_or_default().chars().filter(|c| !c.is_control()).take(128).collect()
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A refusal as a sentence that says what to do.
pub(super) fn explained(failure: Failure, client: &Client, source: &HubSource, revision: &str) -> Failure {
    let word = |name: &str| failure.args.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let (error, status) = (word("error"), word("status"));
    let (repo, base) = (&source.repo, &client.base);
    let token = match source.hub {
        Hub::Huggingface => "set HF_TOKEN for honed (or run `hf auth login` as its user)",
        Hub::Modelscope => "set MODELSCOPE_API_TOKEN for honed",
    };
    let have = if client.has_token() { "the token that is set does not allow it" } else { "no token is set" };
    let message = match (failure.code, error) {
        (FailureCode::Forbidden, "RepoNotFound") | (FailureCode::NotFound, "RepoNotFound") => {
            format!("{base} has no repository {repo}, or it is private and {have}: check the name, or {token}")
        }
        (FailureCode::Forbidden, _) => format!(
            "{repo} is not given out to everybody ({status}), and {have}: accept its licence at {base}/{repo}, then \
             {token} and try again"
        ),
        (FailureCode::NotFound, "RevisionNotFound") => format!("{repo} has no revision {revision:?}"),
        (FailureCode::NotFound, _) => {
            format!("{base} has no repository {repo} with revision {revision:?} ({})", failure.message_en)
        }
        _ => return Failure { args: Vec::new(), ..failure }.at(repo.clone()),
    };
    Failure::new(failure.code, message).at(repo.clone()).hint(HintCode::TryAgain)
}
