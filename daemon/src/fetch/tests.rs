//! Pulls from a hub that lives in the test: its API, its redirects to another host, and everything that goes wrong on the
//! way. Never here: the real hubs.

mod server;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::model::{Hub, HubSource, WeightsAs};
use hone_protocol::value::Hash;
use hone_protocol::worker::{HubFiles, HubTask};
use serde_json::json;
use sha2::{Digest, Sha256};

use self::server::{Asked, Reply, Server};
use super::http::Patience;
use super::hub::pull;
use super::place::Places;
use crate::child::Channel;

const REPO: &str = "quiet/owl-GGUF";
const COMMIT: &str = "1111111111111111111111111111111111111111";
const NEXT_COMMIT: &str = "2222222222222222222222222222222222222222";
const TOKEN: &str = "hf_secret";
const PATIENCE: Patience = Patience {
    pause: Duration::from_millis(1),
    retry_after_max: Duration::from_secs(2),
    idle: Duration::from_millis(1500),
};

/// Bytes without a pattern that a shifted range would repeat.
fn weights(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    Hash(Sha256::digest(bytes).into()).to_string()
}

/// The answer of the API for one file.
fn model(commit: &str, file: &str, bytes: &[u8]) -> Reply {
    let lfs = json!({"sha256": hex(bytes), "size": bytes.len(), "pointerSize": 134});
    let siblings = json!([{"rfilename": "README.md", "size": 5, "blobId": "aa"}, {"rfilename": file, "size": bytes.len(), "lfs": lfs}]);
    let card = json!({"license": "apache-2.0"});
    Reply::of(200, json!({"id": REPO, "sha": commit, "cardData": card, "siblings": siblings}).to_string())
}

/// A hub that serves one file at [`COMMIT`] through `data`, which sees the request and the file.
fn hub(bytes: Vec<u8>, data: impl Fn(&Asked, &[u8]) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |asked| match &*asked.path {
        path if path.starts_with("/api/models/") => model(COMMIT, "owl-Q8_0.gguf", &bytes),
        path if path == format!("/{REPO}/resolve/{COMMIT}/owl-Q8_0.gguf") => {
            let tag = format!("\"{}\"", hex(&bytes));
            data(asked, &bytes).header("X-Repo-Commit", COMMIT).header("X-Linked-Etag", tag)
        }
        _ => Reply::of(404, "").header("X-Error-Code", "EntryNotFound"),
    })
}

/// The environment and scratch folder of a pull.
struct World {
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
    variables: HashMap<&'static str, String>,
    /// Whether rows are wanted, not a model.
    rows: bool,
}

impl World {
    fn at(server: &Server) -> World {
        let home = tempfile::tempdir().unwrap();
        let variables = HashMap::from([
            ("HF_ENDPOINT", server.base.clone()),
            ("MODELSCOPE_ENDPOINT", server.base.clone()),
            ("HF_TOKEN", TOKEN.to_owned()),
            ("HOME", home.path().display().to_string()),
        ]);
        World { folder: tempfile::tempdir().unwrap(), home, variables, rows: false }
    }

    fn pull_as(&self, hub: Hub, file: &str) -> Result<HubFiles, Failure> {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        // Nobody reads what the child says; the socket is larger than these few frames.
        let channel = Channel::over(ours, || ()).unwrap();
        let mut work = channel.work();
        let source = HubSource {
            hub,
            repo: REPO.into(),
            revision: String::new(),
            file: file.into(),
            weights: WeightsAs::AsStored,
        };
        let task = HubTask { source, rows: self.rows, folder: self.folder.path().display().to_string() };
        let variable = |name: &str| self.variables.get(name).map(OsString::from);
        pull(&mut work, &task, &Places::of(&variable), PATIENCE)
    }

    fn pull(&self) -> Result<HubFiles, Failure> {
        self.pull_as(Hub::Huggingface, "")
    }

    /// The one file that a pull brought.
    fn fetched(&self, files: &HubFiles) -> Vec<u8> {
        std::fs::read(self.folder.path().join(&files.files[0].1)).unwrap()
    }
}

#[test]
fn rows_come_from_the_address_of_datasets() {
    let (train, test) = (b"{\"text\":\"a\"}\n".to_vec(), b"{\"text\":\"b\"}\n".to_vec());
    let served = train.clone();
    let server = Server::start(move |asked| match &*asked.path {
        path if path.starts_with(&format!("/api/datasets/{REPO}/revision/")) => {
            let file = |name: &str, bytes: &[u8]| json!({"rfilename": name, "size": bytes.len(), "lfs": {"sha256": hex(bytes), "size": bytes.len(), "pointerSize": 1}});
            let siblings = [
                json!({"rfilename": "README.md", "size": 5, "blobId": "aa"}),
                file("data/train.jsonl", &served),
                file("data/test.jsonl", &test),
            ];
            Reply::of(
                200,
                json!({"id": REPO, "sha": COMMIT, "cardData": {"license": "cc0-1.0"}, "siblings": siblings})
                    .to_string(),
            )
        }
        path if path == format!("/datasets/{REPO}/resolve/{COMMIT}/data/train.jsonl") => {
            Reply::range(asked, &served).header("X-Repo-Commit", COMMIT)
        }
        _ => Reply::of(404, "").header("X-Error-Code", "EntryNotFound"),
    });
    let world = World { rows: true, ..World::at(&server) };
    let files = world.pull().unwrap();
    assert_eq!((files.licence.as_str(), files.files.len(), files.convert), ("cc0-1.0", 1, false));
    assert_eq!(files.files[0].0, "data/train.jsonl");
    assert_eq!(world.fetched(&files), train);
    assert!(world.pull_as(Hub::Modelscope, "").unwrap_err().message_en.contains("ModelScope serves models"));
}

#[test]
fn a_file_comes_from_another_host_that_never_sees_the_token() {
    let bytes = weights(700_000);
    let stored = bytes.clone();
    let cdn = Server::start(move |asked| Reply::range(asked, &stored));
    let place = format!("{}/blob?Signature=x", cdn.base);
    let server = hub(bytes.clone(), move |_, _| Reply::of(302, "").header("Location", &place));
    let world = World::at(&server);
    let files = world.pull().unwrap();
    assert_eq!(world.fetched(&files), bytes);
    assert_eq!((files.commit.as_str(), files.licence.as_str(), files.convert), (COMMIT, "apache-2.0", false));
    assert_eq!(files.files[0].2.unwrap().to_string(), hex(&bytes));
    assert!(server.asked().iter().all(|a| a.headers["authorization"] == format!("Bearer {TOKEN}")));
    assert_eq!(cdn.asked().len(), 1);
    assert!(cdn.asked().iter().all(|a| !a.headers.contains_key("authorization")), "the token left the hub");
    let left: Vec<_> = std::fs::read_dir(world.folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn cut_at_every_tenth_it_goes_on_in_place() {
    let bytes = weights(1_000_000);
    for tenth in 1..10 {
        let cut_at = bytes.len() / 10 * tenth;
        let server = hub(bytes.clone(), move |asked, bytes| {
            let reply = Reply::range(asked, bytes);
            match asked.from() {
                None => Reply { cut_after: Some(cut_at), ..reply },
                Some(_) => reply,
            }
        });
        let world = World::at(&server);
        assert_eq!(world.fetched(&world.pull().unwrap()), bytes, "cut at {cut_at}");
        let ranges: Vec<usize> = server.asked().iter().filter_map(Asked::from).collect();
        assert_eq!(ranges.len(), 1);
        // What lay in the connection's buffers when it was cut may be lost, no more.
        assert!(ranges[0] <= cut_at && cut_at - ranges[0] < 64 << 10, "cut at {cut_at}, resumed at {}", ranges[0]);
    }
}

#[test]
fn cut_at_every_tenth_of_one_download_it_arrives() {
    let bytes = weights(1_000_000);
    let server =
        hub(bytes.clone(), |asked, bytes| Reply { cut_after: Some(bytes.len() / 10), ..Reply::range(asked, bytes) });
    let world = World::at(&server);
    assert_eq!(world.fetched(&world.pull().unwrap()), bytes);
    assert!(server.asked().len() > 10);
}

#[test]
fn a_later_attempt_goes_on_where_an_earlier_one_ended_and_keeps_its_commit() {
    let bytes = weights(400_000);
    let moved = Arc::new(AtomicUsize::new(0));
    let (stored, now) = (bytes.clone(), Arc::clone(&moved));
    let server = Server::start(move |asked| {
        let at_main = if now.load(Ordering::SeqCst) > 0 { NEXT_COMMIT } else { COMMIT };
        match &*asked.path {
            p if p.ends_with("/revision/main?blobs=true") => model(at_main, "owl.gguf", &stored),
            p if p.contains(&format!("/revision/{COMMIT}")) => model(COMMIT, "owl.gguf", &stored),
            // The first attempt gets a third and then only errors.
            p if p.contains(COMMIT) && now.load(Ordering::SeqCst) == 0 => match asked.from() {
                None => Reply { cut_after: Some(stored.len() / 3), ..Reply::range(asked, &stored) },
                Some(_) => Reply::of(503, ""),
            },
            p if p.contains(COMMIT) => Reply::range(asked, &stored).header("X-Repo-Commit", COMMIT),
            _ => Reply::of(404, ""),
        }
    });
    let world = World::at(&server);
    let failure = world.pull().unwrap_err();
    assert_eq!(failure.code, FailureCode::DownloadFailed);
    assert!(failure.message_en.contains("resume the job"), "{}", failure.message_en);
    moved.store(1, Ordering::SeqCst);
    let files = world.pull().unwrap();
    assert_eq!((world.fetched(&files), files.commit.as_str()), (bytes.clone(), COMMIT));
    let last = server.asked().pop().unwrap();
    let from = last.from().unwrap();
    assert!(from <= bytes.len() / 3 && from > bytes.len() / 3 - (64 << 10), "{from}");
}

#[test]
fn a_version_that_changes_under_a_download_is_never_mixed() {
    let server = hub(weights(100_000), |asked, bytes| match asked.from() {
        None => Reply { cut_after: Some(50_000), ..Reply::range(asked, bytes) },
        // Another version is served for the rest.
        Some(_) => Reply::range(asked, bytes).header("x-repo-commit", NEXT_COMMIT),
    });
    let world = World::at(&server);
    let failure = world.pull().unwrap_err();
    assert_eq!(failure.code, FailureCode::HashMismatch);
    assert!(failure.message_en.contains(NEXT_COMMIT), "{}", failure.message_en);
    // The same name with another hash: what came of the old version is thrown away.
    let partial = world.folder.path().join("hub-owl-Q8_0.gguf.partial");
    assert!(partial.exists());
    let bytes = weights(90_000);
    let server = hub(bytes.clone(), Reply::range);
    let later = World { variables: World::at(&server).variables, ..world };
    std::fs::remove_file(later.folder.path().join("commit")).unwrap();
    assert_eq!(later.fetched(&later.pull().unwrap()), bytes);
    assert_eq!(server.asked().iter().filter_map(Asked::from).count(), 0, "it began anew");
}

#[test]
fn wrong_bytes_are_removed_and_said() {
    let server = hub(weights(100_000), |asked, bytes| {
        let mut wrong = bytes.to_vec();
        wrong[77] ^= 1;
        Reply::range(asked, &wrong)
    });
    let world = World::at(&server);
    let failure = world.pull().unwrap_err();
    assert_eq!(failure.code, FailureCode::HashMismatch);
    assert!(failure.message_en.contains("announced"), "{}", failure.message_en);
    let left: Vec<_> = std::fs::read_dir(world.folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with("gguf")), "{left:?}");
}

#[test]
fn too_many_requests_are_waited_out_within_a_bound() {
    let asked_before = AtomicUsize::new(0);
    let bytes = weights(10_000);
    let server = hub(bytes.clone(), move |asked, bytes| match asked_before.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::of(429, "slow down").header("Retry-After", 1),
        1 => Reply::of(503, ""),
        _ => Reply::range(asked, bytes),
    });
    let world = World::at(&server);
    let begun = std::time::Instant::now();
    assert_eq!(world.fetched(&world.pull().unwrap()), bytes);
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
    let server = hub(bytes, |_, _| Reply::of(429, "").header("Retry-After", 86_400));
    let failure = World::at(&server).pull().unwrap_err();
    assert!(failure.message_en.contains("86400 s"), "{}", failure.message_en);
    let server = Server::start(|_| Reply::of(429, ""));
    let failure = World::at(&server).pull().unwrap_err();
    assert!(failure.message_en.contains("6 tries"), "{}", failure.message_en);
    assert_eq!(server.asked().len(), 6);
}

#[test]
fn a_hub_that_stands_still_is_given_up() {
    let stuck = AtomicUsize::new(0);
    let bytes = weights(50_000);
    let server = hub(bytes.clone(), move |asked, bytes| {
        if stuck.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply { cut_after: Some(20_000), stall: true, ..Reply::range(asked, bytes) };
        }
        Reply::range(asked, bytes)
    });
    let world = World::at(&server);
    let begun = std::time::Instant::now();
    assert_eq!(world.fetched(&world.pull().unwrap()), bytes);
    assert!(begun.elapsed() >= PATIENCE.idle);
    assert!(
        server.asked().pop().unwrap().from().is_some_and(|from| from > 0),
        "what came before it stood still is kept"
    );
}

#[test]
fn what_is_not_given_out_says_what_to_do() {
    let gated = Server::start(|_| Reply::of(403, "").header("X-Error-Code", "GatedRepo"));
    let failure = World::at(&gated).pull().unwrap_err();
    assert_eq!(failure.code, FailureCode::Forbidden);
    for word in ["accept its licence", &format!("{}/{REPO}", gated.base), "HF_TOKEN", "the token that is set"] {
        assert!(failure.message_en.contains(word), "{word}: {}", failure.message_en);
    }
    let missing = Server::start(|_| Reply::of(401, "").header("X-Error-Code", "RepoNotFound"));
    let mut world = World::at(&missing);
    world.variables.remove("HF_TOKEN");
    let failure = world.pull().unwrap_err();
    assert!(
        failure.message_en.contains("no repository") && failure.message_en.contains("no token is set"),
        "{failure}"
    );
    assert!(!missing.asked()[0].headers.contains_key("authorization"));
    let revision = Server::start(|_| Reply::of(404, "").header("X-Error-Code", "RevisionNotFound"));
    let failure = World::at(&revision).pull().unwrap_err();
    assert!(failure.message_en.contains("no revision \"main\""), "{failure}");
    // Whatever goes wrong, the token is in no sentence.
    assert!(!format!("{failure:?}").contains(TOKEN));
}

#[test]
fn a_full_disk_is_a_sentence() {
    // The system's own answer to a write without space.
    let server = hub(weights(300_000), Reply::range);
    let world = World::at(&server);
    let partial = world.folder.path().join("hub-owl-Q8_0.gguf.partial");
    let identity = format!("owl-Q8_0.gguf\n{}\nSome(300000)\n", hex(&weights(300_000)));
    std::fs::write(world.folder.path().join("hub-owl-Q8_0.gguf.origin"), identity).unwrap();
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let failure = world.pull().unwrap_err();
    assert_eq!(failure.code, FailureCode::DiskFull);
    assert!(failure.message_en.contains("the disk is full"), "{failure}");
    // A file that cannot fit is refused before a byte of it is fetched.
    let server = Server::start(|asked| match asked.path.starts_with("/api/") {
        true => {
            let lfs = json!({"sha256": hex(b""), "size": 1u64 << 50});
            let body = json!({"sha": COMMIT, "siblings": [{"rfilename": "a.gguf", "lfs": lfs}]});
            Reply::of(200, body.to_string())
        }
        false => Reply::of(500, ""),
    });
    let failure = World::at(&server).pull().unwrap_err();
    assert_eq!(failure.code, FailureCode::DiskFull);
    assert!(failure.message_en.contains("MiB are free"), "{failure}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn what_the_users_cache_has_is_linked() {
    let bytes = weights(60_000);
    let server = hub(bytes.clone(), |_, _| Reply::of(500, ""));
    let mut world = World::at(&server);
    let cached = world.home.path().join(".cache/huggingface/hub/models--quiet--owl-GGUF");
    let snapshot = cached.join("snapshots").join(COMMIT);
    for folder in [&cached.join("blobs"), &cached.join("refs"), &snapshot] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let blob = cached.join("blobs").join(hex(&bytes));
    std::fs::write(&blob, &bytes).unwrap();
    std::fs::write(cached.join("refs/main"), COMMIT).unwrap();
    std::os::unix::fs::symlink(Path::new("../../blobs").join(hex(&bytes)), snapshot.join("owl-Q8_0.gguf")).unwrap();
    let files = world.pull().unwrap();
    let found = world.folder.path().join(&files.files[0].1).canonicalize().unwrap();
    assert_eq!(found, blob.canonicalize().unwrap());
    let before = server.asked().len();
    world.variables.insert("HF_HUB_OFFLINE", "1".into());
    let offline = world.pull().unwrap();
    assert_eq!(offline.files[0].2, files.files[0].2);
    assert_eq!(server.asked().len(), before, "offline nothing is asked");
    world.variables.insert("HOME", "/nonexistent".into());
    let failure = world.pull().unwrap_err();
    assert!(failure.message_en.contains("HF_HUB_OFFLINE"), "{failure}");
}

#[test]
fn modelscope_speaks_its_own_form() {
    let bytes = weights(80_000);
    let stored = bytes.clone();
    let gone = Arc::new(Mutex::new(false));
    let now = Arc::clone(&gone);
    let server = Server::start(move |asked| {
        let file = json!({"Path": "owl-q4_k_m.gguf", "Type": "blob", "Size": stored.len(), "Sha256": hex(&stored),
            "Revision": COMMIT, "CommittedDate": 7});
        let tree = json!({"Path": "sub", "Type": "tree", "Size": 0});
        match &*asked.path {
            _ if *now.lock().unwrap() => Reply::of(
                200,
                json!({"Code": 10010205001u64, "Success": false, "Message": "Record not found", "Data": null})
                    .to_string(),
            ),
            p if p == format!("/api/v1/models/{REPO}/repo/files?Revision=master&Recursive=True") => {
                Reply::of(200, json!({"Code": 200, "Success": true, "Data": {"Files": [tree, file]}}).to_string())
            }
            p if p == format!("/api/v1/models/{REPO}?Revision=master") => Reply::of(
                200,
                json!({"Code": 200, "Success": true, "Data": {"License": "Apache License 2.0"}}).to_string(),
            ),
            p if p == format!("/api/v1/models/{REPO}/repo?Revision=master&FilePath=owl-q4_k_m.gguf") => {
                Reply::range(asked, &stored)
            }
            _ => Reply::of(404, ""),
        }
    });
    let world = World::at(&server);
    let files = world.pull_as(Hub::Modelscope, "Q4_K_M").unwrap();
    assert_eq!(world.fetched(&files), bytes);
    assert_eq!((files.commit.as_str(), files.licence.as_str()), (COMMIT, "Apache License 2.0"));
    assert!(server.asked().iter().all(|a| !a.headers.contains_key("authorization")), "that token is another hub's");
    *gone.lock().unwrap() = true;
    let failure = world.pull_as(Hub::Modelscope, "").unwrap_err();
    assert_eq!(failure.code, FailureCode::NotFound);
}
