//! A run's state on disk: adapter values and both moments as flat little-endian F32 files, and a manifest that names
//! them with size and SHA-256 beside everything that must be equal when the run goes on. The folder is complete or
//! absent: files and folder are synced under a temporary name, then renamed. The step number is the data cursor and
//! the state of the random generator, because both are pure functions of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::divergence::Watch;
use super::hex;
use super::params::TrainParams;
use super::patience::Patience;

/// Raised when the files' meaning changes.
const FORMAT: u32 = 3;
const MANIFEST: &str = "manifest.json";
/// Largest manifest that is read; a larger one is refused.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const FILES: [&str; 3] = ["adapter.f32", "first_moment.f32", "second_moment.f32"];

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("cannot {action} checkpoint {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The folder is already there.
    #[error("checkpoint {} exists already; choose another folder, one per step", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what the manifest says.
    #[error("checkpoint {}: {file}: {problem}; use an earlier checkpoint", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The checkpoint belongs to another run.
    #[error("checkpoint {} is of another run: {field} was {was}, is {is}; start a new run or restore it", path.display())]
    Differs {
        /// The folder.
        path: PathBuf,
        /// What differs.
        field: String,
        /// Value in the checkpoint.
        was: String,
        /// Value now.
        is: String,
    },
}

/// What must be equal for a run to go on, beside its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) model_sha256: String,
    pub(crate) rows_sha256: String,
    /// Equal names compute equal bits at equal threads; a difference is allowed and noted.
    pub(crate) kernel_path: String,
}

/// The state itself.
pub(crate) struct State {
    pub(crate) steps_done: u64,
    pub(crate) steps_total: u64,
    pub(crate) watch: Watch,
    pub(crate) patience: Patience,
    pub(crate) values: Vec<f32>,
    pub(crate) first_moment: Vec<f32>,
    pub(crate) second_moment: Vec<f32>,
}

/// What was read.
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Why the continued run may differ in the last bits.
    pub(crate) note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    steps_done: u64,
    steps_total: u64,
    watch: Watch,
    patience: Patience,
    params: TrainParams,
    identity: Identity,
    files: Vec<FileEntry>,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Bytes of a checkpoint of so many values, beside its manifest.
pub(crate) fn bytes(values: usize) -> u64 {
    (FILES.len() * size_of::<f32>() * values) as u64
}

/// Writes `state` into the new folder `dir`.
pub(crate) fn write(
    dir: &Path,
    params: &TrainParams,
    identity: &Identity,
    state: &State,
) -> Result<(), CheckpointError> {
    if dir.exists() {
        return Err(CheckpointError::Exists { path: dir.to_owned() });
    }
    let mut temporary = dir.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let result = write_all(&temporary, dir, params, identity, state);
    if result.is_err() {
        // The first error is the one to report; the next attempt clears what is left.
        let _ = fs::remove_dir_all(&temporary);
    }
    result.map_err(|source| CheckpointError::Io { action: "write", path: dir.to_owned(), source })
}

fn write_all(temporary: &Path, dir: &Path, params: &TrainParams, identity: &Identity, state: &State) -> io::Result<()> {
    if temporary.exists() {
        fs::remove_dir_all(temporary)?;
    }
    fs::create_dir(temporary)?;
    let mut files = Vec::new();
    for (name, values) in FILES.into_iter().zip([&state.values, &state.first_moment, &state.second_moment]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        write_synced(&temporary.join(name), &bytes)?;
        files.push(FileEntry {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
        });
    }
    let manifest = Manifest {
        format: FORMAT,
        steps_done: state.steps_done,
        steps_total: state.steps_total,
        watch: state.watch.clone(),
        patience: state.patience.clone(),
        params: params.clone(),
        identity: identity.clone(),
        files,
    };
    write_synced(&temporary.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A checkpoint of which only the values are wanted; the moments may be gone.
pub(crate) struct Kept {
    dir: PathBuf,
    manifest: Manifest,
    pub(crate) params: TrainParams,
    pub(crate) steps_done: u64,
}

/// Opens the checkpoint in `dir`, which must be of a run over the model of that hash.
pub(crate) fn open(dir: &Path, model_sha256: &str) -> Result<Kept, CheckpointError> {
    let manifest = read_manifest(dir)?;
    if manifest.identity.model_sha256 != model_sha256 {
        return Err(CheckpointError::Differs {
            path: dir.to_owned(),
            field: "the model (SHA-256)".to_owned(),
            was: manifest.identity.model_sha256,
            is: model_sha256.to_owned(),
        });
    }
    let (params, steps_done) = (manifest.params.clone(), manifest.steps_done);
    Ok(Kept { dir: dir.to_owned(), manifest, params, steps_done })
}

impl Kept {
    /// The trained values, so many.
    pub(crate) fn values(&self, count: usize) -> Result<Vec<f32>, CheckpointError> {
        read_values(&self.dir, &self.manifest, FILES[0], count)
    }
}

/// Reads the checkpoint in `dir` for a run of these settings and identity with `values` values in each file.
pub(crate) fn read(
    dir: &Path,
    params: &TrainParams,
    identity: &Identity,
    values: usize,
) -> Result<Loaded, CheckpointError> {
    let manifest = read_manifest(dir)?;
    compare(dir, &manifest, params, identity)?;
    let mut parts = Vec::new();
    for name in FILES {
        parts.push(read_values(dir, &manifest, name, values)?);
    }
    let [adapter, first_moment, second_moment] =
        <[Vec<f32>; 3]>::try_from(parts).expect("one part per name was pushed");
    let note = note(&manifest, params, identity);
    let state = State {
        steps_done: manifest.steps_done,
        steps_total: manifest.steps_total,
        watch: manifest.watch,
        patience: manifest.patience,
        values: adapter,
        first_moment,
        second_moment,
    };
    Ok(Loaded { state, note })
}

/// One of the flat files, as the manifest says it is.
fn read_values(dir: &Path, manifest: &Manifest, name: &str, values: usize) -> Result<Vec<f32>, CheckpointError> {
    let damaged = |problem: String| CheckpointError::Damaged { path: dir.to_owned(), file: name.to_owned(), problem };
    let entry = manifest.files.iter().find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| damaged("is not in the manifest".to_owned()))?;
    let bytes = read_file(dir, name, values as u64 * 4)?;
    if bytes.len() as u64 != entry.bytes || bytes.len() != values * 4 {
        return Err(damaged(format!("has {} bytes, expected {}", bytes.len(), values * 4)));
    }
    if hex(&Sha256::digest(&bytes)) != entry.sha256 {
        return Err(damaged("its SHA-256 is not the manifest's".to_owned()));
    }
    Ok(bytes.chunks_exact(4).map(|raw| f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])).collect())
}

fn read_manifest(dir: &Path) -> Result<Manifest, CheckpointError> {
    let bytes = read_file(dir, MANIFEST, MANIFEST_BYTES_MAX)?;
    let damaged =
        |problem: String| CheckpointError::Damaged { path: dir.to_owned(), file: MANIFEST.to_owned(), problem };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(damaged(format!("format {} is not {FORMAT}; it was written by another version", manifest.format)));
    }
    if manifest.steps_done > manifest.steps_total {
        return Err(damaged(format!("{} of {} steps are done", manifest.steps_done, manifest.steps_total)));
    }
    Ok(manifest)
}

fn read_file(dir: &Path, name: &str, bytes_max: u64) -> Result<Vec<u8>, CheckpointError> {
    let path = dir.join(name);
    let io = |source| CheckpointError::Io { action: "read", path: path.clone(), source };
    let len = fs::metadata(&path).map_err(io)?.len();
    if len > bytes_max {
        let problem = format!("has {len} bytes, at most {bytes_max} are possible");
        return Err(CheckpointError::Damaged { path: dir.to_owned(), file: name.to_owned(), problem });
    }
    fs::read(&path).map_err(io)
}

/// Refuses the first difference by name. Threads and how the run fits into memory may differ: they change no number
/// that the run is defined by.
fn compare(dir: &Path, manifest: &Manifest, params: &TrainParams, identity: &Identity) -> Result<(), CheckpointError> {
    let differs = |field: &str, was: String, is: String| {
        Err(CheckpointError::Differs { path: dir.to_owned(), field: field.to_owned(), was, is })
    };
    let fields = |params: &TrainParams| {
        let comparable = TrainParams { threads: 0, recompute_every: None, memory_max_bytes: None, ..params.clone() };
        serde_json::to_value(comparable).expect("settings are plain data")
    };
    let (was, is) = (fields(&manifest.params), fields(params));
    for (field, now) in is.as_object().expect("settings are a struct") {
        if was[field] != *now {
            return differs(field, was[field].to_string(), now.to_string());
        }
    }
    for (field, was, is) in [
        ("the model (SHA-256)", &manifest.identity.model_sha256, &identity.model_sha256),
        ("the rows (SHA-256)", &manifest.identity.rows_sha256, &identity.rows_sha256),
    ] {
        if was != is {
            return differs(field, was.clone(), is.clone());
        }
    }
    Ok(())
}

fn note(manifest: &Manifest, params: &TrainParams, identity: &Identity) -> Option<String> {
    let mut notes = Vec::new();
    if manifest.params.threads != params.threads {
        notes.push(format!("threads were {}, are {}", manifest.params.threads, params.threads));
    }
    if manifest.identity.kernel_path != identity.kernel_path {
        notes.push(format!("kernels were {}, are {}", manifest.identity.kernel_path, identity.kernel_path));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}
