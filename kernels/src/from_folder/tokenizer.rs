//! The vocabulary of a folder as metadata of a GGUF file: byte-level byte pairs, SentencePiece, or word pieces. Anything
//! else is refused. Never here: how text is cut (`pretokenizer.rs`), and what is around the vocabulary (`special.rs`).

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json5;

use crate::gguf::{Array, Value};

use super::config::{Family, Model};
use super::json::{self, Json};
use super::special::Said;
use super::{FolderError, pretokenizer, refused, sentencepiece};

/// Kinds of tokens, as llama.cpp numbers them.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// Longest SentencePiece file in bytes.
const MODEL_BYTES_MAX: u64 = 64 << 20;
/// Score of a token that merges never make.
const NEVER: f32 = -1000.0;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) kind: i32,
    pub(super) score: f32,
}

/// All tokens of a file.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// `tokenizer.ggml.model`.
    pub(super) model: &'static str,
    /// `tokenizer.ggml.pre`.
    pre: &'static str,
    pub(super) pieces: Vec<Piece>,
    merges: Option<Vec<String>>,
    /// Whether a space is put in front of a text (SentencePiece only).
    prefix: Option<bool>,
    /// Ids by the text in the folder, which may differ from that in the file.
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// The token of a text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }
}

/// A token that was added to the vocabulary.
struct Added {
    id: u32,
    text: String,
    special: bool,
}

/// All `tokenizer.*` keys for an embedding of so many rows.
pub(super) fn metadata(folder: &Path, model: &Model, rows: usize) -> Result<Vec<(String, Value)>, FolderError> {
    let tokenizer = Json::find(folder, "tokenizer.json")?;
    let tokenizer_config = Json::find(folder, "tokenizer_config.json")?;
    let added = added(folder, tokenizer.as_ref(), tokenizer_config.as_ref())?;
    let mut vocabulary = vocabulary(folder, model, tokenizer.as_ref(), &added)?;
    fit(&mut vocabulary, &added, rows)?;
    let said = Said { folder, config: &model.config, tokenizer: tokenizer.as_ref(), tokenizer_config };
    let special = said.metadata(&vocabulary)?;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut keys = vec![
        (key("model"), Value::Str(vocabulary.model.into())),
        (key("pre"), Value::Str(vocabulary.pre.into())),
        (key("tokens"), Value::Array(Array::Str(vocabulary.pieces.iter().map(|p| p.text.clone()).collect()))),
        (key("token_type"), Value::Array(Array::I32(vocabulary.pieces.iter().map(|p| p.kind).collect()))),
    ];
    if vocabulary.model == "llama" {
        keys.push((key("scores"), Value::Array(Array::F32(vocabulary.pieces.iter().map(|p| p.score).collect()))));
    }
    if let Some(merges) = vocabulary.merges {
        keys.push((key("merges"), Value::Array(Array::Str(merges))));
    }
    if let Some(prefix) = vocabulary.prefix {
        keys.push((key("add_space_prefix"), Value::Bool(prefix)));
    }
    keys.extend(special);
    Ok(keys)
}

/// Every token that a folder adds to its vocabulary, from all files that may name some.
fn added(folder: &Path, tokenizer: Option<&Json>, config: Option<&Json>) -> Result<Vec<Added>, FolderError> {
    let mut list = Vec::new();
    let one = |id: Option<u64>, entry: &Json5| {
        let id = u32::try_from(id?).ok()?;
        let special = entry.get("special").and_then(Json5::as_bool).unwrap_or(false);
        Some(Added { id, text: entry.get("content")?.as_str()?.to_owned(), special })
    };
    if let Some(Json5::Object(map)) = Json::find(folder, "added_tokens.json")?.map(|json| json.value) {
        for (text, id) in map {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                list.push(Added { id, text, special: false });
            }
        }
    }
    if let Some(Json5::Object(map)) = config.and_then(|config| config.get("added_tokens_decoder")) {
        list.extend(map.iter().filter_map(|(id, entry)| one(id.parse().ok(), entry)));
    }
    if let Some(Json5::Array(entries)) = tokenizer.and_then(|tokenizer| tokenizer.get("added_tokens")) {
        list.extend(entries.iter().filter_map(|entry| one(entry.get("id").and_then(Json5::as_u64), entry)));
    }
    Ok(list)
}

fn vocabulary(
    folder: &Path,
    model: &Model,
    tokenizer: Option<&Json>,
    added: &[Added],
) -> Result<Vocabulary, FolderError> {
    let kind = tokenizer.and_then(|tokenizer| tokenizer.inside("model"));
    let word = kind.as_ref().and_then(|kind| kind.text("type")).unwrap_or_default().to_owned();
    let bytes_fall_back = kind.as_ref().and_then(|kind| kind.flag("byte_fallback")).unwrap_or(false);
    match (tokenizer, kind) {
        (Some(tokenizer), Some(kind)) if word == "WordPiece" && model.family == Family::Bert => {
            word_pieces(tokenizer, &kind)
        }
        (Some(tokenizer), Some(kind)) if word == "BPE" && !bytes_fall_back => byte_level(tokenizer, &kind),
        (tokenizer, kind) => {
            if let Some(bytes) = json::bytes(folder, "tokenizer.model", MODEL_BYTES_MAX)? {
                return sentence_pieces(&bytes, tokenizer);
            }
            match (tokenizer, kind) {
                (Some(tokenizer), Some(kind)) if word == "BPE" => derived_sentence_pieces(tokenizer, &kind, added),
                (Some(_), Some(_)) => refused(
                    "tokenizer.json: model.type",
                    format!("{word:?} cannot be converted; BPE and WordPiece can"),
                ),
                _ => refused("tokenizer.json", "is missing, and so is tokenizer.model"),
            }
        }
    }
}

/// The vocabulary of `tokenizer.json`: texts by id.
fn entries(kind: &Json) -> Result<Vec<(String, u32)>, FolderError> {
    let Some(Json5::Object(map)) = kind.get("vocab") else {
        return refused("tokenizer.json: model.vocab", "is no object of texts and ids");
    };
    let mut list = Vec::with_capacity(map.len());
    for (text, id) in map {
        match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => list.push((text.clone(), id)),
            None => return refused("tokenizer.json: model.vocab", format!("{text:?} has no id")),
        }
    }
    Ok(list)
}

/// Pairs to merge, in order. Newer files write lists, older ones a text with a space.
fn merges(kind: &Json) -> Result<Vec<(String, String)>, FolderError> {
    let place = "tokenizer.json: model.merges";
    let Some(Json5::Array(list)) = kind.get("merges") else {
        return refused(place, "is missing");
    };
    let pair = |entry: &Json5| match entry {
        Json5::String(text) => text.split_once(' ').map(|(l, r)| (l.to_owned(), r.to_owned())),
        Json5::Array(pair) => match pair.as_slice() {
            [Json5::String(left), Json5::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        _ => None,
    };
    match list.iter().map(pair).collect::<Option<Vec<_>>>() {
        Some(pairs) => Ok(pairs),
        None => refused(place, "holds what is no pair"),
    }
}

/// Pieces in order of their ids; ids without a text are filled later.
fn in_order(entries: Vec<(String, u32)>, piece: impl Fn(&str, u32) -> Piece) -> Result<Vec<Piece>, FolderError> {
    let size = entries.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0);
    if size > crate::inspect::VOCAB_MAX {
        return refused("tokenizer.json: model.vocab", format!("{size} tokens are too many"));
    }
    let mut pieces = (0..size).map(padding).collect::<Vec<Piece>>();
    for (text, id) in entries {
        pieces[id as usize] = piece(&text, id);
    }
    Ok(pieces)
}

/// A row of the embedding that stands for no text.
fn padding(id: usize) -> Piece {
    Piece { text: format!("[PAD{id}]"), kind: UNUSED, score: -10_000.0 }
}

fn plain_model(kind: &Json) -> Result<(), FolderError> {
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if kind.text(field).is_some_and(|text| !text.is_empty()) {
            return refused(format!("tokenizer.json: model.{field}"), "has no place in the file");
        }
    }
    if kind.number("dropout")?.is_some_and(|share| share > 0.0) {
        return refused("tokenizer.json: model.dropout", "merges at random");
    }
    Ok(())
}

fn byte_level(tokenizer: &Json, kind: &Json) -> Result<Vocabulary, FolderError> {
    plain_model(kind)?;
    match tokenizer.get("normalizer").map(|n| n.get("type").and_then(Json5::as_str).unwrap_or("?").to_owned()) {
        None => {}
        // llama.cpp does not compose characters, and text that people type is composed already.
        Some(kind) if kind == "NFC" => {}
        Some(other) => {
            return refused("tokenizer.json: normalizer", format!("{other:?} rewrites text, which llama.cpp does not"));
        }
    }
    let pre = pretokenizer::name(tokenizer)?;
    let entries = entries(kind)?;
    let ids = entries.iter().cloned().collect();
    let pieces = in_order(entries, |text, _| Piece { text: text.to_owned(), kind: NORMAL, score: 0.0 })?;
    let merges = merges(kind)?;
    if let Some((left, right)) = merges.iter().find(|(l, r)| l.contains(' ') || r.contains(' ')) {
        return refused("tokenizer.json: model.merges", format!("{left:?} and {right:?} hold a space"));
    }
    let merges = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    Ok(Vocabulary { model: "gpt2", pre, pieces, merges: Some(merges), prefix: None, ids })
}

fn sentence_pieces(bytes: &[u8], tokenizer: Option<&Json>) -> Result<Vocabulary, FolderError> {
    let model = sentencepiece::read(bytes)?;
    // The folder's own tokenizer counts: some put no space in front although the model's file says so.
    let prefix = match tokenizer {
        Some(tokenizer) => sentencepiece::prefix(tokenizer)?,
        None => model.prefix,
    };
    let ids = model.pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id as u32)).collect();
    Ok(Vocabulary { model: "llama", pre: "default", pieces: model.pieces, merges: None, prefix: Some(prefix), ids })
}

fn derived_sentence_pieces(tokenizer: &Json, kind: &Json, added: &[Added]) -> Result<Vocabulary, FolderError> {
    plain_model(kind)?;
    let prefix = sentencepiece::prefix(tokenizer)?;
    let entries = entries(kind)?;
    let ids: HashMap<String, u32> = entries.iter().cloned().collect();
    let by_text = entries.iter().map(|(text, id)| (text.as_str(), *id as usize)).collect();
    let added = added.iter().map(|token| token.text.as_str()).collect();
    let scores = sentencepiece::scores(&merges(kind)?, &by_text, &added)?;
    let unknown = kind.text("unk_token").map(str::to_owned);
    let mut pieces = in_order(entries, |text, _| {
        let is_byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let kind = match () {
            () if unknown.as_deref() == Some(text) => UNKNOWN,
            () if is_byte => BYTE,
            () => NORMAL,
        };
        Piece { text: text.to_owned(), kind, score: NEVER * 1000.0 }
    })?;
    if !pieces.iter().any(|piece| piece.kind == BYTE) {
        return refused("tokenizer.json: model.vocab", "has no tokens for bytes (<0x00> to <0xFF>)");
    }
    for (id, score) in scores {
        pieces[id].score = score;
    }
    Ok(Vocabulary { model: "llama", pre: "default", pieces, merges: None, prefix: Some(prefix), ids })
}

fn word_pieces(tokenizer: &Json, kind: &Json) -> Result<Vocabulary, FolderError> {
    let normalizer = tokenizer.inside("normalizer");
    let says = |key: &str| normalizer.as_ref().and_then(|n| n.flag(key));
    let lower = says("lowercase") == Some(true) && says("strip_accents") != Some(false);
    if !lower || says("handle_chinese_chars") == Some(false) {
        let problem =
            "llama.cpp lowers letters, drops accents and splits at Chinese characters; this tokenizer does not";
        return refused("tokenizer.json: normalizer", problem);
    }
    let cut = tokenizer.get("pre_tokenizer").and_then(|cut| cut.get("type")).and_then(Json5::as_str).unwrap_or("none");
    if cut != "BertPreTokenizer" {
        return refused("tokenizer.json: pre_tokenizer", format!("{cut:?} cuts other words than BertPreTokenizer"));
    }
    if kind.text("continuing_subword_prefix").unwrap_or("##") != "##" {
        return refused("tokenizer.json: model.continuing_subword_prefix", "only ## is known");
    }
    let entries = entries(kind)?;
    let ids = entries.iter().cloned().collect();
    // llama.cpp marks beginnings of words, the folder marks what is none.
    let pieces = in_order(entries, |text, _| {
        let text = match text.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None => format!("▁{text}"),
        };
        Piece { text, kind: NORMAL, score: 0.0 }
    })?;
    Ok(Vocabulary { model: "bert", pre: "default", pieces, merges: None, prefix: None, ids })
}

/// Puts the added tokens in and makes as many tokens as the embedding has rows.
fn fit(vocabulary: &mut Vocabulary, added: &[Added], rows: usize) -> Result<(), FolderError> {
    let size = added.iter().map(|token| token.id as usize + 1).max().unwrap_or(0).max(vocabulary.pieces.len());
    if size > rows {
        let problem = format!("there are {size} tokens and {rows} rows of embeddings");
        return refused("tokenizer.json", problem);
    }
    for id in vocabulary.pieces.len()..rows {
        vocabulary.pieces.push(padding(id));
    }
    for token in added {
        let piece = &mut vocabulary.pieces[token.id as usize];
        if piece.kind == UNKNOWN {
            continue;
        }
        let control = token.special || looks_special(&token.text);
        let text = if control { token.text.clone() } else { token.text.replace('▁', " ") };
        *piece = Piece { text, kind: if control { CONTROL } else { USER_DEFINED }, score: NEVER };
        vocabulary.ids.insert(token.text.clone(), token.id);
    }
    Ok(())
}

/// Some folders do not mark tokens as special that are; these are known by their look, as in llama.cpp's converter.
fn looks_special(text: &str) -> bool {
    let around = |first: &str, last: &str| text.starts_with(first) && text.ends_with(last);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || around("<|", "|>")
        || around("<｜", "｜>")
        || around("<unused", ">")
}
