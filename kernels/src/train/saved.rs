//! What trained values become: an adapter or a whole model as a GGUF file, out of a running trainer or out of a checkpoint.
//! Never here: steps, or what a checkpoint holds beside its values.

use std::path::Path;

use crate::arch;
use crate::gguf::{GgufFile, GgufWriter, Value};

use super::TrainError;
use super::checkpoint;
use super::lora::LoraLayout;
use super::params::Tuning;

/// llama.cpp's number for files whose matrices are mostly F16.
const FILE_TYPE_F16: u32 = 1;

/// An adapter that llama.cpp loads over the same base. `meta` adds entries.
pub(super) fn adapter(
    layout: &LoraLayout,
    values: &[f32],
    architecture: &str,
    name: &str,
    meta: &[(String, String)],
) -> GgufWriter {
    let mut writer = GgufWriter::new();
    layout.describe(values, architecture, &mut writer);
    writer.meta("general.name", Value::Str(name.to_owned()));
    for (key, value) in meta {
        writer.meta(key, Value::Str(value.clone()));
    }
    writer
}

/// A whole model with the metadata of the file that the run began from, matrices in F16; `meta` replaces and adds entries.
pub(super) fn model(file: &GgufFile, layout: &LoraLayout, values: &[f32], meta: &[(String, String)]) -> GgufWriter {
    let mut writer = GgufWriter::new();
    for (key, value) in &file.metadata {
        if key != "general.file_type" && meta.iter().all(|(known, _)| known != key) {
            writer.meta(key, value.clone());
        }
    }
    writer.meta("general.file_type", Value::U32(FILE_TYPE_F16));
    for (key, value) in meta {
        writer.meta(key, Value::Str(value.clone()));
    }
    layout.describe_model(values, &mut writer);
    writer
}

/// Writes what the checkpoint in `dir` holds as a GGUF file to `target`: the same bytes that the run would have written at
/// that step. The run was over the model at `model_path`, whose hash is `model_sha256`. Says the step.
///
/// `meta` are the entries of the file; a whole model takes its name from them, an adapter is called `name`.
pub fn save_checkpoint(
    dir: &Path,
    model_path: &Path,
    model_sha256: &str,
    target: &Path,
    name: &str,
    meta: impl FnOnce(Tuning) -> Vec<(String, String)>,
) -> Result<u64, TrainError> {
    let kept = checkpoint::open(dir, model_sha256)?;
    let file = GgufFile::open(model_path)?;
    let (arch, config) = arch::recognise(&file)?;
    let layout = match kept.params.tuning {
        Tuning::Lora => LoraLayout::new(&config, &kept.params),
        Tuning::Full => LoraLayout::full(&file, &config),
    };
    let values = kept.values(layout.padded())?;
    let meta = meta(kept.params.tuning);
    let writer = match kept.params.tuning {
        Tuning::Lora => adapter(&layout, &values, arch.name, name, &meta),
        Tuning::Full => model(&file, &layout, &values, &meta),
    };
    drop(values);
    writer.write(target)?;
    Ok(kept.steps_done)
}
