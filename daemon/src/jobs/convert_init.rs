//! A small model from nothing: rows whose texts tokens are learnt from are written out by a data child, and a computing child
//! makes the file. Never here: what is in it.

use std::path::Path;

use hone_protocol::blueprint::{Tokens, check_vocabulary};
use hone_protocol::convert::{Card, Conversion, ConvertWork, TokensFile, WeightsFormat};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::VersionId;
use hone_protocol::model::ModelFacts;
use hone_protocol::value::Hash;

use super::attempt::{Context, Stop};
use super::convert::{conversion, require_disk, run_child, text, usable, whole};
use super::{convert_receipt, import_model, store_file};
use crate::clock::new_id;
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::State;

/// Formats in which random weights make sense.
const FORMATS: [WeightsFormat; 3] = [WeightsFormat::F32, WeightsFormat::F16, WeightsFormat::Bf16];

/// Sizes fit each other, and what tokens come from is there.
pub(super) fn check(state: &State, wanted: &Conversion) -> Result<(), Failure> {
    let Conversion::Init { blueprint, tokens, format, .. } = wanted else {
        return Err(Failure::new(FailureCode::Internal, "not a new model"));
    };
    blueprint.check()?;
    if !FORMATS.contains(format) {
        let message = "a new model is stored as f32, f16 or bf16; quantise what was trained";
        return Err(Failure::field("format", message));
    }
    match tokens {
        Tokens::Learn { dataset, vocabulary } => {
            check_vocabulary(*vocabulary)?;
            state.dataset_version(dataset).map(|_| ())
        }
        Tokens::Of { version } => whole(state, version, "take its base's tokens").map(|_| ()),
    }
}

pub(super) async fn make(mut context: Context, folder: &Path) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let Conversion::Init { blueprint, tokens, format, seed, name } = conversion(&job.spec)? else {
        return Err(Failure::new(FailureCode::Internal, "not a new model").into());
    };
    // What an attempt before left is of no use.
    let _ = tokio::fs::remove_dir_all(folder).await;
    let most = match tokens {
        Tokens::Learn { vocabulary, .. } => *vocabulary,
        Tokens::Of { version } => context.state.version(version)?.facts.vocabulary,
    };
    // As F32 at most; the tokens' texts are small beside it.
    require_disk(&context, 4 * blueprint.parameters(most))?;
    let (file, paths) = match tokens {
        Tokens::Learn { dataset, vocabulary } => {
            let rows = folder.join("rows.jsonl");
            convert_receipt::export(&mut context, dataset, 0, folder, &rows).await?;
            (TokensFile::Learn { rows_path: text(&rows), vocabulary: *vocabulary }, Paths::none())
        }
        Tokens::Of { version } => {
            let version = context.state.version(version)?.clone();
            let path = usable(&context, &version)?;
            (TokensFile::Of { path: text(&path) }, Paths::none().read(path))
        }
    };
    let from = origin(tokens);
    let card = Card {
        name: name.clone(),
        version: String::new(),
        base: String::new(),
        licence: String::new(),
        dataset: String::new(),
        source: format!("made from nothing, {from}, seed {seed}"),
        warning: String::new(),
        sha256: Hash([0; 32]),
    };
    let work = ConvertWork::Init { blueprint: blueprint.clone(), tokens: file, format: *format, seed: *seed };
    let made = run_child(&mut context, work, paths, folder, card).await?;
    let [file] = made.files.as_slice() else {
        return Err(Failure::new(FailureCode::BadFrame, "the worker made another number of files than one").into());
    };
    let path = folder.join(file);
    let (facts, sha256) = import_model::inspect(&mut context, &path).await?;
    let version: VersionId = new_id();
    let (models, stored) = (context.places.models.clone(), format!("{version}.gguf"));
    let file = tokio::task::spawn_blocking(move || store_file::bring(&path, &models, &stored, sha256))
        .await
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??;
    let source = describe(&facts, &from, *seed);
    Ok(Produced::Model { version, facts, file, source })
}

fn origin(tokens: &Tokens) -> String {
    match tokens {
        Tokens::Learn { dataset, .. } => format!("tokens learnt from {dataset}"),
        Tokens::Of { version } => format!("tokens of {version}"),
    }
}

/// Where the version came from, for its lineage.
fn describe(facts: &ModelFacts, from: &str, seed: u64) -> String {
    format!(
        "made from nothing: {} of {} layers, width {}, {} {from}, seed {seed}",
        facts.architecture, facts.layers, facts.embedding, facts.vocabulary
    )
}
