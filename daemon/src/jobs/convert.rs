//! Models in another form: a child merges, quantises or reads a PEFT folder into this job's own folder; the result is
//! inspected like any import and becomes a version. Never here: new models (`convert_init`), figures of formats
//! (`convert_bench`), writing where a person wants files (`convert_export`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hone_protocol::blueprint::Tokens;
use hone_protocol::convert::{
    Card, Conversion, ConvertTask, ConvertWork, Converted, ExportFormat, IMATRIX_ROWS_MAX, Receipt, WeightsFormat,
};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::job::JobSpec;
use hone_protocol::model::{ModelFacts, VersionRecord, Weights};
use hone_protocol::paths::is_name;
use hone_protocol::worker::{FromWorker, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::train::weights_path;
use super::{Kind, Work, convert_bench, convert_export, convert_init, convert_receipt, import_model, store_file};
use crate::clock::new_id;
use crate::dispatcher::event::Produced;
use crate::machine;
use crate::sandbox::Paths;
use crate::state::{Need, State, train_bytes_estimate};
use crate::workers::process::Program;

/// Strips of tensors in work, and what a process holds anyway.
const STRIPS_BYTES: u64 = 512 << 20;
/// What llama.cpp's quantiser keeps in buffers beside mapped files.
const QUANTISER_BYTES: u64 = 1 << 30;

/// What learning tokens takes for as many texts as a child takes (`kernels/src/worker/init.rs`).
const LEARNER_BYTES: u64 = 2 << 30;

const HEAVY: Kind = Kind { word: "", check, pin, memory, heavy: true, run };
const LIGHT: Kind = Kind { heavy: false, ..HEAVY };
pub(super) const INIT: Kind = Kind { word: "init", ..HEAVY };
pub(super) const BENCH: Kind = Kind { word: "bench", ..HEAVY };
pub(super) const MERGE: Kind = Kind { word: "merge", ..HEAVY };
pub(super) const QUANTIZE: Kind = Kind { word: "quantize", ..HEAVY };
pub(super) const IMPORT_ADAPTER: Kind = Kind { word: "import_adapter", ..LIGHT };
pub(super) const EXPORT: Kind = Kind { word: "export", ..LIGHT };

pub(super) fn conversion(spec: &JobSpec) -> Result<&Conversion, Failure> {
    match spec {
        JobSpec::Convert(conversion) => Ok(conversion),
        _ => Err(Failure::new(FailureCode::Internal, "not a conversion")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    match conversion(spec)? {
        Conversion::Init { name, .. } => {
            check_name(name)?;
            convert_init::check(state, conversion(spec)?)
        }
        Conversion::Merge { version, name, receipt_rows, .. } => {
            check_name(name)?;
            convert_receipt::check(state, receipt_rows.as_deref())?;
            adapter(state, version).map(|_| ())
        }
        Conversion::Quantize { version, format, name, receipt_rows, imatrix_rows } => {
            check_name(name)?;
            convert_receipt::check(state, receipt_rows.as_deref())?;
            convert_receipt::check(state, imatrix_rows.as_deref())?;
            if imatrix_rows.is_some() && !format.is_quantised() {
                let message = format!("{} rounds nothing by importance; leave the rows out", format.word());
                return Err(Failure::field("imatrix_rows", message));
            }
            if *format == WeightsFormat::Same {
                let message = "\"same\" is the format that the model has; choose another one";
                return Err(Failure::field("format", message));
            }
            whole(state, version, "merge it first, then quantise the result").map(|_| ())
        }
        Conversion::ImportPeft { path, base, name } => {
            check_name(name)?;
            if !Path::new(path).is_absolute() {
                return Err(Failure::field("path", format!("{path:?} is not an absolute path")));
            }
            let base_version = whole(state, base, "an adapter lies over a complete model")?;
            base_version.facts.trainable.clone().map_err(|reason| {
                let message = format!("adapters over {base} cannot be converted: {reason}");
                Failure::new(FailureCode::UnsupportedArchitecture, message).at("base")
            })
        }
        Conversion::Bench { version, dataset, formats, .. } => convert_bench::check(state, version, dataset, formats),
        Conversion::Export { version, format, path } => {
            match format {
                ExportFormat::Gguf => state.version(version).map(|_| ())?,
                ExportFormat::Peft => adapter(state, version).map(|_| ())?,
                ExportFormat::Huggingface => {
                    let whole = whole(state, version, "write it as peft, or merge it first")?;
                    whole.facts.trainable.clone().map_err(|reason| {
                        let message = format!("{version} cannot be written as a folder: {reason}");
                        Failure::new(FailureCode::UnsupportedArchitecture, message).at("version")
                    })?;
                }
            }
            convert_export::check_target(path, *format)
        }
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    if is_name(name) {
        return Ok(());
    }
    let message = format!("{name:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit");
    Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName))
}

/// An adapter and its base.
fn adapter(state: &State, reference: &str) -> Result<(Arc<VersionRecord>, Arc<VersionRecord>), Failure> {
    let version = state.version(reference)?;
    let Weights::Adapter { base, .. } = version.weights else {
        let message = format!("{reference} is a complete model, not an adapter");
        return Err(Failure::field("version", message));
    };
    let base = state.versions.get(&base).ok_or_else(|| Failure::not_found("version", &base.to_string()))?;
    Ok((Arc::clone(version), Arc::clone(base)))
}

pub(super) fn whole(state: &State, reference: &str, otherwise: &str) -> Result<Arc<VersionRecord>, Failure> {
    let version = state.version(reference)?;
    match version.weights {
        Weights::Base => Ok(Arc::clone(version)),
        Weights::Adapter { .. } => Err(Failure::field("version", format!("{reference} is an adapter; {otherwise}"))),
    }
}

/// The version that this one was quantised from, and so on, as far as they are kept: rounding what was rounded loses
/// twice.
pub(super) fn least_quantised(state: &State, version: &Arc<VersionRecord>) -> Arc<VersionRecord> {
    let mut found = Arc::clone(version);
    let is_quantised = |version: &VersionRecord| {
        let job = version.lineage.job.and_then(|job| state.jobs.get(&job));
        job.is_some_and(|job| matches!(job.spec, JobSpec::Convert(Conversion::Quantize { .. })))
    };
    while is_quantised(&found)
        && let Some(parent) =
            found.lineage.parent.and_then(|parent| state.versions.get(&parent)).filter(|p| p.is_live())
    {
        found = Arc::clone(parent);
    }
    found
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let mut pinned = conversion(&spec)?.clone();
    let exact = |reference: &mut String| -> Result<(), Failure> {
        *reference = state.version_reference(state.version(reference)?.id);
        Ok(())
    };
    match &mut pinned {
        Conversion::Merge { version, receipt_rows, .. } => {
            exact(version)?;
            convert_receipt::pin(state, receipt_rows)?;
        }
        Conversion::Quantize { version, receipt_rows, imatrix_rows, .. } => {
            exact(version)?;
            convert_receipt::pin(state, receipt_rows)?;
            convert_receipt::pin(state, imatrix_rows)?;
        }
        Conversion::Init { tokens: Tokens::Of { version }, .. } | Conversion::Export { version, .. } => exact(version)?,
        Conversion::Bench { version, dataset, .. } => {
            exact(version)?;
            *dataset = convert_receipt::exact(state, dataset)?;
        }
        Conversion::Init { tokens: Tokens::Learn { dataset, .. }, .. } => {
            *dataset = convert_receipt::exact(state, dataset)?;
        }
        Conversion::ImportPeft { base, .. } => exact(base)?,
    }
    Ok(JobSpec::Convert(pinned))
}

fn memory(state: &State, spec: &JobSpec) -> Need {
    if let Ok(Conversion::Bench { version, .. }) = conversion(spec) {
        return state.version(version).map_or(Need::exactly(0), |version| bench_memory(&version.facts));
    }
    // Twice: as it is in the file, and as F32.
    let adapter = |reference: &str| state.version(reference).map_or(0, |v| 2 * v.file.size_bytes);
    Need::exactly(match conversion(spec) {
        Ok(Conversion::Merge { version, format, .. }) => {
            adapter(version) + if format.is_quantised() { QUANTISER_BYTES } else { STRIPS_BYTES }
        }
        Ok(Conversion::Quantize { version, imatrix_rows, .. }) => {
            // The matrix is of one row of logits for each token of a row; the model itself is mapped.
            let logits = |v: &Arc<VersionRecord>| 512 * 4 * u64::from(v.facts.vocabulary);
            let measured = imatrix_rows.is_some().then(|| state.version(version).map_or(0, logits));
            QUANTISER_BYTES + measured.unwrap_or(0)
        }
        Ok(Conversion::Init { tokens: Tokens::Learn { .. }, .. }) => LEARNER_BYTES,
        Ok(Conversion::Export { version, format: ExportFormat::Peft, .. }) => STRIPS_BYTES + adapter(version),
        _ => STRIPS_BYTES,
    })
}

/// What measuring formats takes: training over one of 16 bits, at most.
fn bench_memory(facts: &ModelFacts) -> Need {
    let train = train_bytes_estimate(facts, 512);
    Need { least: train.least.max(QUANTISER_BYTES), wish: train.wish.max(QUANTISER_BYTES) }
}

fn run(context: Context) -> Work {
    Box::pin(async move {
        let spec = context.job.spec.clone();
        let folder = context.folder().join("made");
        let done = match conversion(&spec)? {
            Conversion::Init { .. } => convert_init::make(context, &folder).await,
            Conversion::Bench { .. } => convert_bench::bench(context, &folder).await,
            Conversion::Export { .. } => convert_export::export(context, &folder).await,
            made => make(context, made, &folder).await,
        };
        // What became a version or an export has its own name by now; the rest is of no use.
        let _ = tokio::fs::remove_dir_all(&folder).await;
        done
    })
}

/// What a conversion begins with and how it is told.
struct Plan {
    work: ConvertWork,
    paths: Paths,
    parent: VersionId,
    source: String,
    card: Card,
    /// Bytes that it may write.
    disk_bytes: u64,
    /// Rows to measure the result on.
    receipt_rows: Option<String>,
}

async fn make(mut context: Context, wanted: &Conversion, folder: &Path) -> Result<Produced, Stop> {
    let plan = plan(&context, wanted, folder)?;
    require_disk(&context, plan.disk_bytes)?;
    // What an attempt before left is of no use.
    let _ = tokio::fs::remove_dir_all(folder).await;
    let imatrix = match &plan.work {
        ConvertWork::Quantize { imatrix_rows, .. } => imatrix_rows.clone(),
        _ => None,
    };
    if let Some((rows, path)) = &imatrix {
        convert_receipt::export(&mut context, rows, IMATRIX_ROWS_MAX, folder, Path::new(path)).await?;
    }
    let converted = run_child(&mut context, plan.work, plan.paths, folder, plan.card).await?;
    let [file] = converted.files.as_slice() else {
        return Err(Failure::new(FailureCode::BadFrame, "the worker made another number of files than one").into());
    };
    let path = folder.join(file);
    let (facts, sha256) = import_model::inspect(&mut context, &path).await?;
    let receipt = match &plan.receipt_rows {
        Some(rows) => {
            let told = convert_receipt::measure(&mut context, &path, plan.parent, rows).await?;
            Some(Receipt { imatrix: imatrix.map(|(rows, _)| rows), ..told })
        }
        None => None,
    };
    let version: VersionId = new_id();
    let (models, name) = (context.places.models.clone(), format!("{version}.gguf"));
    let file = tokio::task::spawn_blocking(move || store_file::bring(&path, &models, &name, sha256))
        .await
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??;
    Ok(Produced::Converted {
        version,
        facts,
        file,
        adapter: converted.adapter,
        parent: plan.parent,
        source: plan.source,
        warning: converted.warnings.join("; "),
        receipt,
    })
}

fn plan(context: &Context, wanted: &Conversion, folder: &Path) -> Result<Plan, Failure> {
    let state = &context.state;
    match wanted {
        Conversion::Merge { version, format, name, receipt_rows } => {
            let (adapter, trained) = adapter(state, version)?;
            let base = least_quantised(state, &trained);
            let (base_path, adapter_path) = (usable(context, &base)?, usable(context, &adapter)?);
            let over = state.version_reference(base.id);
            Ok(Plan {
                paths: Paths::none().read(&base_path).read(&adapter_path),
                work: ConvertWork::Merge {
                    base_path: text(&base_path),
                    base_sha256: base.file.sha256,
                    trained_sha256: trained.file.sha256,
                    adapter_path: text(&adapter_path),
                    adapter_sha256: adapter.file.sha256,
                    format: *format,
                },
                parent: adapter.id,
                source: format!("{version} merged into {over} as {}", format.word()),
                card: card(state, &adapter, name, &over),
                disk_bytes: disk_bytes(*format, &base),
                receipt_rows: receipt_rows.clone(),
            })
        }
        Conversion::Quantize { version, format, name, receipt_rows, imatrix_rows } => {
            let asked = whole(state, version, "merge it first")?;
            let from = least_quantised(state, &asked);
            let (path, over) = (usable(context, &from)?, state.version_reference(from.id));
            let by = imatrix_rows.as_ref().map_or(String::new(), |rows| format!(" by the importance matrix of {rows}"));
            let imatrix_rows = imatrix_rows.clone().map(|rows| (rows, text(&folder.join("imatrix.jsonl"))));
            Ok(Plan {
                paths: Paths::none().read(&path),
                work: ConvertWork::Quantize {
                    path: text(&path),
                    sha256: from.file.sha256,
                    format: *format,
                    imatrix_rows,
                },
                parent: from.id,
                source: format!("{over} quantised to {}{by}", format.word()),
                card: card(state, &from, name, &over),
                disk_bytes: disk_bytes(*format, &from),
                receipt_rows: receipt_rows.clone(),
            })
        }
        Conversion::ImportPeft { path, base, name } => {
            let base_version = whole(state, base, "an adapter lies over a complete model")?;
            let base_path = usable(context, &base_version)?;
            let mut card = card(state, &base_version, name, base);
            card.source.clone_from(path);
            Ok(Plan {
                paths: Paths::none().read(path).read(&base_path),
                work: ConvertWork::ImportPeft {
                    peft_path: path.clone(),
                    base_path: text(&base_path),
                    base_sha256: base_version.file.sha256,
                },
                parent: base_version.id,
                source: format!("peft:{path}"),
                card,
                disk_bytes: 0,
                receipt_rows: None,
            })
        }
        Conversion::Init { .. } | Conversion::Bench { .. } | Conversion::Export { .. } => {
            Err(Failure::new(FailureCode::Internal, "an export makes no version"))
        }
    }
}

/// Most bytes that a model of this format takes, with the floats on the way to it.
fn disk_bytes(format: WeightsFormat, source: &VersionRecord) -> u64 {
    let values = source.facts.parameters;
    match format {
        WeightsFormat::Same => source.file.size_bytes,
        WeightsFormat::F32 => 4 * values,
        WeightsFormat::F16 | WeightsFormat::Bf16 => 2 * values,
        _ => 3 * values,
    }
}

pub(super) fn require_disk(context: &Context, needed: u64) -> Result<(), Failure> {
    let folder = context.folder();
    // A system that does not say how much is free is asked when it matters.
    match machine::disk_free_bytes(&folder) {
        Some(free) if free < needed => {
            let message =
                format!("it writes up to {} MiB, {} MiB are free there", needed.div_ceil(1 << 20), free >> 20);
            let failure = Failure::new(FailureCode::DiskFull, message).at(folder.display().to_string());
            Err(failure.hint(HintCode::FreeDisk))
        }
        _ => Ok(()),
    }
}

/// The file of a version, which must be what was recorded.
pub(super) fn usable(context: &Context, version: &VersionRecord) -> Result<PathBuf, Failure> {
    let path = weights_path(&context.places, version);
    store_file::unchanged(&path, &version.file)?;
    Ok(path)
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What is known of a version, for metadata and cards.
pub(super) fn card(state: &State, version: &VersionRecord, name: &str, base: &str) -> Card {
    let dataset = version.lineage.dataset.and_then(|id| state.dataset_versions.get(&id)).map(|rows| {
        let name = state.datasets.get(&rows.dataset).map_or("?", |d| d.name.as_str());
        format!("{name}@{}", rows.number)
    });
    Card {
        name: name.to_owned(),
        version: state.version_reference(version.id),
        base: base.to_owned(),
        licence: state.models.get(&version.model).map_or(String::new(), |m| m.licence.clone()),
        dataset: dataset.unwrap_or_default(),
        source: version.lineage.source.clone(),
        warning: version.lineage.warning.clone().unwrap_or_default(),
        sha256: version.file.sha256,
    }
}

/// Lets a child do it in `folder`, which is made anew.
pub(super) async fn convert(
    context: &mut Context,
    work: ConvertWork,
    paths: Paths,
    folder: &Path,
    card: Card,
) -> Result<Converted, Stop> {
    // What an attempt before left is of no use.
    let _ = tokio::fs::remove_dir_all(folder).await;
    run_child(context, work, paths, folder, card).await
}

/// The same in a folder that may hold something.
pub(super) async fn run_child(
    context: &mut Context,
    work: ConvertWork,
    paths: Paths,
    folder: &Path,
    card: Card,
) -> Result<Converted, Stop> {
    let full = |e: std::io::Error| Failure::new(FailureCode::DiskFull, e.to_string()).at(text(folder));
    tokio::fs::create_dir_all(folder).await.map_err(full)?;
    let mut line = context.child(Program::Worker("convert"), paths.write(folder)).await?;
    let threads = context.state.capacity(context.state.pool_of(&context.job)).cores;
    let task = ConvertTask { work, folder: text(folder), threads, card };
    line.send(&ToWorker::Convert(Box::new(task))).await?;
    match context.next(&mut line).await? {
        FromWorker::Converted(converted) => {
            let plain = |name: &String| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
            match converted.files.iter().find(|name| !plain(name) || !folder.join(name).is_file()) {
                Some(name) => {
                    let message = format!("the worker reported a file {name:?} that is not in its folder");
                    Err(Failure::new(FailureCode::BadFrame, message).into())
                }
                None => Ok(converted),
            }
        }
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::blueprint::{NewArchitecture, SIZES};

    use super::*;

    #[test]
    fn the_word_of_each_kind_is_that_of_its_conversion() {
        let text = || "x".to_owned();
        let format = WeightsFormat::F16;
        let tokens = Tokens::Of { version: text() };
        let blueprint = SIZES[0].blueprint(NewArchitecture::Llama);
        let all = [
            (INIT, Conversion::Init { blueprint, tokens, format, seed: 1, name: text() }),
            (BENCH, Conversion::Bench { version: text(), dataset: text(), formats: Vec::new(), threads: 0 }),
            (MERGE, Conversion::Merge { version: text(), format, name: text(), receipt_rows: None }),
            (
                QUANTIZE,
                Conversion::Quantize { version: text(), format, name: text(), receipt_rows: None, imatrix_rows: None },
            ),
            (IMPORT_ADAPTER, Conversion::ImportPeft { path: text(), base: text(), name: text() }),
            (EXPORT, Conversion::Export { version: text(), format: ExportFormat::Gguf, path: text() }),
        ];
        for (kind, conversion) in all {
            assert_eq!(kind.word, conversion.kind());
            // What only reads and copies does not wait for the cores.
            assert_eq!(kind.heavy, matches!(kind.word, "init" | "bench" | "merge" | "quantize"));
        }
    }
}
