//! `hone model merge`, `quantize`, `export`, and the import of a PEFT folder. Never here: what a format is or where files go,
//! which a child of the daemon and the daemon decide.

use std::path::Path;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hone_protocol::convert::{Conversion, ExportFormat, WeightsFormat};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::job::{JobResult, JobSpec};

use super::context::Context;
use super::{model, wait};
use crate::link::Link;
use crate::print::{self, Outcome};

/// Settings of PEFT, by which a folder is known.
const PEFT_CONFIG: &str = "adapter_config.json";

/// Add an adapter to the weights of its base; the result is a version that needs no adapter.
///
/// The base is read from its least quantised version that is kept. f16 loses least for its size; `same` stores every tensor
/// as the base does, which for a quantised base may round away much of what the adapter learned.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model merge support@3\n  hone model merge support:live --type q4_k_m --name support-merged"
)]
pub(super) struct Merge {
    /// The adapter: NAME (its newest version), NAME@NUMBER or NAME:ALIAS.
    model: String,
    /// How the result is stored.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16", ignore_case = true, value_parser = formats(true))]
    weights: WeightsFormat,
    #[command(flatten)]
    made: Made,
}

impl Merge {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let Made { name, receipt_rows, detach } = self.made;
        let name = model::name_or(name, name_of(&self.model))?;
        let conversion = Conversion::Merge { version: self.model, format: self.weights, name, receipt_rows };
        submit(context, "merge", conversion, detach)
    }
}

/// What becomes of a version that is made.
#[derive(Debug, Args)]
struct Made {
    /// Name of the model that gets the version [default: that of what it is made from].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Measure the result against what it was made from on the first 64 rows of this dataset.
    #[arg(long, value_name = "DATASET")]
    receipt_rows: Option<String>,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

/// Store a model in fewer bits, by llama.cpp's own quantiser.
///
/// It is made from the least quantised version that is kept. Rounding what was rounded already is done, and said.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model quantize support@4 --type q4_k_m --receipt-rows support-desk\n  hone model quantize support@4 --type q4_0 --imatrix-rows support-desk"
)]
pub(super) struct Quantize {
    /// The model: NAME (its newest version), NAME@NUMBER or NAME:ALIAS.
    model: String,
    /// How the result is stored.
    #[arg(long = "type", value_name = "TYPE", ignore_case = true, value_parser = formats(false))]
    weights: WeightsFormat,
    /// Round with less error where it matters on the first 1,024 rows of this dataset (importance matrix).
    #[arg(long, value_name = "DATASET")]
    imatrix_rows: Option<String>,
    #[command(flatten)]
    made: Made,
}

impl Quantize {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let Made { name, receipt_rows, detach } = self.made;
        let name = model::name_or(name, name_of(&self.model))?;
        let (version, format, imatrix_rows) = (self.model, self.weights, self.imatrix_rows);
        let conversion = Conversion::Quantize { version, format, name, receipt_rows, imatrix_rows };
        submit(context, "quantize", conversion, detach)
    }
}

/// Write a version for other programs; nothing is written over.
///
/// `gguf` writes the file with a Modelfile and a model card beside it, or the file alone when PATH ends in .gguf. `peft`
/// writes an adapter as a folder for transformers and PEFT, `huggingface` a whole model as a folder for transformers.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model export support@4 --to ./support\n  hone model export support@3 --to ./support-peft --format peft\n  hone model export support@4 --to ./support-hf --format huggingface"
)]
pub(super) struct Export {
    /// The version: NAME (its newest), NAME@NUMBER or NAME:ALIAS.
    model: String,
    /// Folder to make, or a file that ends in .gguf.
    #[arg(long, value_name = "PATH")]
    to: String,
    /// What to write.
    #[arg(long, value_name = "FORMAT", default_value = "gguf", value_parser = export_formats())]
    format: ExportFormat,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let path = std::path::absolute(&self.to).ok().and_then(|path| path.into_os_string().into_string().ok());
        let path = path.ok_or_else(|| Failure::field("--to", "the path cannot be used").at(self.to.as_str()))?;
        let conversion = Conversion::Export { version: self.model, format: self.format, path };
        submit(context, "export", conversion, self.detach)
    }
}

/// Imports a PEFT folder over a base.
pub(super) fn import_peft(context: &Context, typed: &str, base: String, name: Option<String>, detach: bool) -> Outcome {
    let unreadable = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(typed);
    let folder = std::fs::canonicalize(typed).map_err(|e| unreadable(format!("the folder cannot be read: {e}")))?;
    if !is_peft(&folder) {
        return Err(unreadable(format!("it is no folder with {PEFT_CONFIG}, which PEFT writes")).into());
    }
    let name = model::name_or(name, model::name_from(typed))?;
    let path = folder.into_os_string().into_string().map_err(|_| unreadable("the path is not UTF-8".into()))?;
    submit(context, "import", Conversion::ImportPeft { path, base, name }, detach)
}

/// Whether PEFT wrote this folder.
pub(super) fn is_peft(folder: &Path) -> bool {
    folder.join(PEFT_CONFIG).is_file()
}

pub(super) fn submit(context: &Context, part: &str, conversion: Conversion, detach: bool) -> Outcome {
    let mut link = context.link()?;
    let Some((view, result)) = wait::submit(context, &mut link, part, JobSpec::Convert(conversion), detach)? else {
        return Ok(());
    };
    if context.json {
        return print::json(&view);
    }
    show(context, &mut link, &result)
}

fn show(context: &Context, link: &mut Link, result: &JobResult) -> Outcome {
    match result {
        JobResult::Model(id) => model::show_made(context, link, *id),
        JobResult::Exported { path, files } => {
            let is_folder = Path::new(path).is_dir();
            let line = |file: &String| if is_folder { format!("{path}/{file}\n") } else { format!("{path}\n") };
            print::out(&files.iter().map(line).collect::<String>())
        }
        _ => Ok(()),
    }
}

/// The model's name in a reference.
fn name_of(reference: &str) -> String {
    reference.split(['@', ':']).next().unwrap_or_default().to_owned()
}

pub(super) fn formats(same: bool) -> impl TypedValueParser<Value = WeightsFormat> {
    let kept = move |format: &&WeightsFormat| same || **format != WeightsFormat::Same;
    let words: Vec<&str> = WeightsFormat::ALL.iter().filter(kept).map(|format| format.word()).collect();
    PossibleValuesParser::new(words).try_map(|word| WeightsFormat::named(&word).ok_or("no such type"))
}

fn export_formats() -> impl TypedValueParser<Value = ExportFormat> {
    PossibleValuesParser::new(["gguf", "peft", "huggingface"]).map(|word| match word.as_str() {
        "peft" => ExportFormat::Peft,
        "huggingface" => ExportFormat::Huggingface,
        _ => ExportFormat::Gguf,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_stands_before_number_and_alias() {
        for typed in ["support", "support@3", "support:live"] {
            assert_eq!(name_of(typed), "support");
        }
    }
}
