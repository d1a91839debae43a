//! `hone-worker convert`: one change of form, then the end. The files have fixed names in the task's folder. Never here: how
//! it is done (`crate::convert`), and where the files go (the daemon moves them).

use std::fs;
use std::path::{Path, PathBuf};

use hone_protocol::bench::FormatFigures;
use hone_protocol::convert::{Card, ConvertTask, ConvertWork, Converted, Receipt, WeightsFormat};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, ToWorker};

use super::child::{Busy, Channel};
use super::rows::Renderer;
use super::{facts, init, wrong_task};
use crate::convert::bench::{Bench, bench};
use crate::convert::card::{self, Origin};
use crate::convert::importance::{self, Importance, importance};
use crate::convert::merge::{Merge, Store, merge};
use crate::convert::quantize::{Quantize, quantize, requantising};
use crate::convert::receipt::{ROW_TOKENS_MAX, Side, measure};
use crate::convert::{self, ADAPTER_KEY, ConvertError, WARNING_KEY, peft, quantised_types, set, set_parent};
use crate::gguf::{GgufFile, Value};
use crate::inspect::{self, BASE_KEY, TEMPLATE_KEY};
use crate::to_folder::to_folder;
use crate::train::TokenRow;
use crate::vocab::Vocab;

/// Name of a model that was made.
const MODEL_FILE: &str = "model.gguf";
/// Name of an adapter that was made.
const ADAPTER_FILE: &str = "adapter.gguf";
/// Name of a merged file of floats on its way to fewer bits.
const FLOATS_FILE: &str = "floats.gguf";

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::Convert(task)) = channel.recv() else {
        return Err(wrong_task("convert"));
    };
    crate::log_to_stderr();
    let mut work = channel.work();
    let converted = convert(&task, &mut work)?;
    channel.send(&FromWorker::Converted(converted));
    Ok(())
}

fn convert(task: &ConvertTask, busy: &mut Busy<'_>) -> Result<Converted, Failure> {
    let folder = Path::new(&task.folder);
    match &task.work {
        ConvertWork::Init { .. } => {
            let warnings = init::make(task, &folder.join(MODEL_FILE), busy)?;
            Ok(made(MODEL_FILE, None, warnings))
        }
        ConvertWork::Merge { .. } => merge_into(task, folder, busy),
        ConvertWork::Quantize { path, sha256, format, imatrix_rows } => {
            let source = GgufFile::open(Path::new(path)).map_err(|e| of_convert(e.into()))?;
            // What the source's own making lost is lost in the result too.
            let before = Some(task.card.warning.clone()).filter(|text| !text.is_empty());
            let mut warnings: Vec<String> = before.into_iter().chain(requantising(&source)).collect();
            let importance = match imatrix_rows {
                Some((name, rows)) => Some((important(task, Path::new(path), Path::new(rows), busy)?, name.as_str())),
                None => None,
            };
            let importance = importance.as_ref().map(|(importance, name)| (importance, *name));
            let step = Step { format: *format, threads: task.threads, sha256: sha256.to_string(), importance };
            let note = step.run(Path::new(path), &folder.join(MODEL_FILE), &warnings.join("; "), busy)?;
            warnings.extend(note);
            Ok(made(MODEL_FILE, None, warnings))
        }
        ConvertWork::ImportPeft { peft_path, base_path, base_sha256 } => {
            busy.progress("phase.convert", 0, 0);
            let metadata = adapter_metadata(Path::new(base_path), *base_sha256, &task.card)?;
            let target = folder.join(ADAPTER_FILE);
            let adapter = peft::from_peft(Path::new(peft_path), Path::new(base_path), &target, &metadata);
            let adapter = adapter.map_err(of_convert)?;
            Ok(made(ADAPTER_FILE, Some((adapter.rank, adapter.alpha)), Vec::new()))
        }
        ConvertWork::ExportPeft { adapter_path, base_path } => {
            busy.progress("phase.convert", 0, 0);
            let base = GgufFile::open(Path::new(base_path)).map_err(|e| of_convert(e.into()))?;
            let name = card::repository(&base, &task.card.base);
            let files = peft::to_peft(Path::new(adapter_path), Path::new(base_path), folder, &name);
            let mut files: Vec<String> = files.map_err(of_convert)?.into_iter().map(str::to_owned).collect();
            files.push(write(folder, "README.md", &card::readme(&origin(&task.card), "peft", &task.card.name))?);
            Ok(Converted { files, ..Converted::default() })
        }
        ConvertWork::Measure { model_path, parent_path, parent_adapter_path, rows_path } => {
            let version = Side { model: Path::new(model_path), adapter: None };
            let parent = Side { model: Path::new(parent_path), adapter: parent_adapter_path.as_deref().map(Path::new) };
            let rows = rendered(parent.model, Path::new(rows_path), ROW_TOKENS_MAX, busy)?;
            let receipt = measure(version, parent, &rows, threads(task), &mut |done, all| {
                busy.progress("phase.receipt", done, all);
            });
            let receipt = Some(as_told(receipt.map_err(of_convert)?));
            Ok(Converted { receipt, ..Converted::default() })
        }
        ConvertWork::ExportFolder { path } => {
            let path = Path::new(path);
            let made = to_folder(path, folder, &mut |done, all| busy.progress("phase.convert", done, all));
            let mut files = made.map_err(|error| of_convert(error.into()))?;
            files.push(write(
                folder,
                "README.md",
                &card::readme(&origin(&task.card), "transformers", &task.card.name),
            )?);
            Ok(Converted { files, ..Converted::default() })
        }
        ConvertWork::Bench { .. } => Ok(Converted { figures: measured(task, folder, busy)?, ..Converted::default() }),
        ConvertWork::Describe { path, file } => describe(Path::new(path), file, folder, &task.card),
    }
}

/// Rows as tokens of a model.
fn rendered(model: &Path, rows: &Path, tokens_max: usize, busy: &mut Busy<'_>) -> Result<Vec<TokenRow>, Failure> {
    let found = inspect::inspect(model).map_err(facts::of_inspect)?;
    let renderer = Renderer::new(&found, Vocab::load(model).map_err(facts::of_vocab)?);
    renderer.read(rows, tokens_max, busy)
}

/// ggml's threads wait for each other busily: one core is left to whoever else computes.
fn threads(task: &ConvertTask) -> usize {
    (task.threads as usize).saturating_sub(1).max(1)
}

/// The importance matrix of a model over rows.
fn important(task: &ConvertTask, model: &Path, rows: &Path, busy: &mut Busy<'_>) -> Result<Importance, Failure> {
    let rows = rendered(model, rows, importance::ROW_TOKENS_MAX, busy)?;
    let found = importance(model, &rows, threads(task), &mut |done, all| busy.progress("phase.imatrix", done, all));
    found.map_err(of_convert)
}

/// Makes, measures and removes one format after the other.
fn measured(task: &ConvertTask, folder: &Path, busy: &mut Busy<'_>) -> Result<Vec<FormatFigures>, Failure> {
    let ConvertWork::Bench { path, rows_path, formats, memory_max_bytes } = &task.work else {
        return Err(wrong_task("convert"));
    };
    let (source, threads) = (Path::new(path), task.threads.max(1) as usize);
    let rows = rendered(source, Path::new(rows_path), ROW_TOKENS_MAX, busy)?;
    let mut all = Vec::new();
    for &format in formats {
        let model = folder.join(format!("{}.gguf", format.word()));
        let step = Step { format, threads: task.threads, sha256: String::new(), importance: None };
        let note = step.run(source, &model, "", busy)?;
        let unread = |source| ConvertError::Io { action: "measure", path: model.clone(), source };
        let size_bytes = fs::metadata(&model).map_err(unread).map_err(of_convert)?.len();
        let memory_max_bytes = (*memory_max_bytes > 0).then_some(*memory_max_bytes);
        let work = Bench { model: &model, source, rows: &rows, threads, memory_max_bytes };
        let done = all.len() as u64;
        let found = bench(&work, &mut |phase| busy.progress(phase, done, formats.len() as u64)).map_err(of_convert)?;
        // The next one needs the room.
        let _ = fs::remove_file(&model);
        let untrained = found.train.as_ref().err().map(|why| format!("no adapter trains over it here: {why}"));
        let notes: Vec<String> = note.into_iter().chain(untrained).collect();
        all.push(FormatFigures {
            format,
            size_bytes,
            train_tokens_per_s: found.train.ok(),
            prefill_tokens_per_s: found.prefill,
            decode_tokens_per_s: found.decode,
            receipt: as_told(found.receipt),
            note: notes.join("; "),
        });
    }
    Ok(all)
}

fn as_told(receipt: crate::convert::receipt::Receipt) -> Receipt {
    Receipt {
        // The daemon knows its name.
        dataset: String::new(),
        rows: receipt.rows,
        tokens: receipt.tokens,
        perplexity: receipt.perplexity,
        parent_perplexity: receipt.parent_perplexity,
        mean_kl: receipt.mean_kl,
        same_greedy: receipt.same_greedy,
        imatrix: None,
    }
}

fn made(file: &str, adapter: Option<(u32, f32)>, warnings: Vec<String>) -> Converted {
    Converted { files: vec![file.to_owned()], adapter, warnings, ..Converted::default() }
}

fn merge_into(task: &ConvertTask, folder: &Path, busy: &mut Busy<'_>) -> Result<Converted, Failure> {
    let ConvertWork::Merge { base_path, base_sha256, trained_sha256, adapter_path, adapter_sha256, format } =
        &task.work
    else {
        return Err(wrong_task("convert"));
    };
    let (base_path, adapter_path) = (Path::new(base_path), Path::new(adapter_path));
    let base = GgufFile::open(base_path).map_err(|e| of_convert(e.into()))?;
    let adapter = GgufFile::open(adapter_path).map_err(|e| of_convert(e.into()))?;
    check_base(&adapter, *trained_sha256)?;
    let mut warnings = merge_warnings(&base, &adapter, *format);
    let store = match format {
        WeightsFormat::Same => Store::Same,
        WeightsFormat::F32 => Store::F32,
        WeightsFormat::Bf16 => Store::Bf16,
        _ => Store::F16,
    };
    // Formats that mix types are made of floats by llama.cpp's quantiser.
    let floats = format.is_quantised();
    let target = folder.join(if floats { FLOATS_FILE } else { MODEL_FILE });
    let change = |metadata: &mut Vec<(String, Value)>| {
        set_parent(metadata, &task.card.base);
        set(metadata, "general.name", Value::Str(task.card.name.clone()));
        set(metadata, BASE_KEY, Value::Str(base_sha256.to_string()));
        set(metadata, ADAPTER_KEY, Value::Str(adapter_sha256.to_string()));
        if !task.card.dataset.is_empty() {
            set(metadata, "general.dataset.count", Value::U32(1));
            set(metadata, "general.dataset.0.name", Value::Str(task.card.dataset.clone()));
        }
        if !warnings.is_empty() {
            set(metadata, WARNING_KEY, Value::Str(warnings.join("; ")));
        }
    };
    let threads = task.threads.max(1) as usize;
    let work = Merge { base: base_path, adapter: adapter_path, target: &target, store, threads };
    merge(&work, change, &mut |done, total| busy.progress("phase.merge", done, total)).map_err(of_convert)?;
    if floats {
        let step = Step { format: *format, threads: task.threads, sha256: String::new(), importance: None };
        let note = step.run(&target, &folder.join(MODEL_FILE), "", busy)?;
        warnings.extend(note);
        // It is swept with the job's folder otherwise.
        let _ = fs::remove_file(&target);
    }
    Ok(made(MODEL_FILE, None, warnings))
}

/// An adapter that says which base it was trained on must be merged into that one.
fn check_base(adapter: &GgufFile, trained: Hash) -> Result<(), Failure> {
    match adapter.str(BASE_KEY) {
        Ok(said) if said != trained.to_string() => {
            let message = format!("the adapter was trained on a base of SHA-256 {said}, this one has {trained}");
            Err(Failure::new(FailureCode::HashMismatch, message).at(adapter.path.display().to_string()))
        }
        _ => Ok(()),
    }
}

fn merge_warnings(base: &GgufFile, adapter: &GgufFile, format: WeightsFormat) -> Vec<String> {
    let mut warnings = Vec::new();
    let types = quantised_types(base).join(", ");
    if !types.is_empty() {
        warnings.push(match format {
            WeightsFormat::Same => format!(
                "the sum was rounded to the base's types ({types}) again, which may lose much of the adapter; compare it with the adapter or merge to f16"
            ),
            _ => format!("made from a base that is quantised ({types}); what that lost stays lost"),
        });
    }
    let template = base.str("tokenizer.chat_template").map(|source| convert::hex_sha256(source.as_bytes()));
    if let (Ok(trained), Ok(there)) = (adapter.str(TEMPLATE_KEY), template)
        && trained != there
    {
        warnings.push("the base's chat template is not the one that the adapter was trained with".to_owned());
    }
    warnings
}

/// What an imported adapter says of itself.
fn adapter_metadata(base: &Path, base_sha256: Hash, card: &Card) -> Result<Vec<(String, Value)>, Failure> {
    let base = GgufFile::open(base).map_err(|e| of_convert(e.into()))?;
    let mut metadata = vec![("general.name".to_owned(), Value::Str(card.name.clone()))];
    set_parent(&mut metadata, &card.base);
    set(&mut metadata, BASE_KEY, Value::Str(base_sha256.to_string()));
    if let Ok(template) = base.str("tokenizer.chat_template") {
        set(&mut metadata, TEMPLATE_KEY, Value::Str(convert::hex_sha256(template.as_bytes())));
    }
    Ok(metadata)
}

/// One run of the quantiser.
struct Step<'a> {
    format: WeightsFormat,
    threads: u32,
    sha256: String,
    importance: Option<(&'a Importance, &'a str)>,
}

impl Step<'_> {
    fn run(&self, source: &Path, target: &Path, warning: &str, busy: &mut Busy<'_>) -> Result<Option<String>, Failure> {
        let task = Quantize {
            source,
            target,
            format: self.format.word(),
            threads: self.threads.max(1) as usize,
            source_sha256: &self.sha256,
            warning,
            importance: self.importance,
        };
        let mut told = (u64::MAX, 0);
        let note = quantize(&task, &mut |done, total| {
            // A tensor that takes long is progress too, as long as the thread lives; it is told once.
            if told == (done, total) {
                busy.tick();
            } else {
                busy.progress("phase.quantize", done, total);
                told = (done, total);
            }
        });
        note.map_err(of_convert)
    }
}

fn describe(path: &Path, file: &str, folder: &Path, card: &Card) -> Result<Converted, Failure> {
    let gguf = GgufFile::open(path).map_err(|e| of_convert(e.into()))?;
    let origin = origin(card);
    let modelfile = match convert::is_adapter(&gguf) {
        true => card::adapter_modelfile(file, &origin),
        false => card::modelfile(&gguf, file),
    };
    let files = vec![
        write(folder, "Modelfile", &modelfile)?,
        write(folder, "README.md", &card::readme(&origin, "gguf", &card.name))?,
    ];
    Ok(Converted { files, ..Converted::default() })
}

fn origin(card: &Card) -> Origin {
    Origin {
        version: card.version.clone(),
        base: card.base.clone(),
        licence: card.licence.clone(),
        dataset: card.dataset.clone(),
        source: card.source.clone(),
        warning: card.warning.clone(),
        sha256: card.sha256.to_string(),
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<String, Failure> {
    let path: PathBuf = folder.join(name);
    fs::write(&path, text).map_err(|source| of_convert(ConvertError::Io { action: "write", path, source }))?;
    Ok(name.to_owned())
}

pub(super) fn of_convert(error: ConvertError) -> Failure {
    let text = error.to_string();
    match error {
        ConvertError::Gguf(error) => facts::of_gguf(error),
        ConvertError::Inspect(error) => facts::of_inspect(error),
        ConvertError::Folder(_) => Failure::new(FailureCode::BadFile, text),
        ConvertError::Llama(error) => facts::of_llama(&error),
        ConvertError::Engine(_) => Failure::new(FailureCode::BadFile, text),
        ConvertError::Arch(_) => Failure::new(FailureCode::UnsupportedArchitecture, text),
        ConvertError::Io { source, .. } if facts::disk_is_full(&source) => {
            Failure::new(FailureCode::DiskFull, text).hint(HintCode::FreeDisk)
        }
        ConvertError::Io { .. } => Failure::new(FailureCode::FileUnreadable, text),
        ConvertError::Refused { field, .. } => Failure::new(FailureCode::BadFile, text).at(field),
        ConvertError::Quantiser { .. } => Failure::new(FailureCode::BadFile, text).hint(HintCode::ReadLog),
    }
}
