//! The vocabulary of a file as `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`: byte-level byte pairs, and
//! SentencePiece of the byte-pair kind, whose merges follow from its scores. Never here: a way of cutting text that `from_folder` would
//! not know again.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::{Source, refused};
use crate::from_folder::{FolderError, cut_of};
use crate::gguf::{Array, GgufFile, Value};

/// Kinds of tokens, as llama.cpp numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// Purpose in the folder, key in the file.
const PURPOSES: [(&str, &str); 4] = [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")];

/// Tokens of a file.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
}

/// Whether the file has a tokenizer that can be written, before llama.cpp is asked about it.
pub(super) fn check(file: &GgufFile) -> Result<(), FolderError> {
    match file.str("tokenizer.ggml.model") {
        Ok("gpt2" | "llama") => Ok(()),
        Ok(other) => refused("tokenizer.ggml.model", format!("{other:?} cannot be written as a folder's tokenizer")),
        Err(_) => refused("tokenizer.ggml.model", "the file has no tokenizer"),
    }
}

/// The files with their contents.
pub(super) fn files(source: &Source<'_>) -> Result<Vec<(&'static str, Json)>, FolderError> {
    let tokens = read(source.file)?;
    let tokenizer = match source.file.str("tokenizer.ggml.model")? {
        "gpt2" => byte_level(source, &tokens)?,
        _ => sentence_pieces(source, &tokens)?,
    };
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": source.config.context_tokens,
        "clean_up_tokenization_spaces": false,
        "add_bos_token": source.vocab.wants_bos(),
        "add_eos_token": source.vocab.wants_eos(),
    });
    for (purpose, key) in PURPOSES {
        if let Some(text) = purpose_of(source.file, &tokens, key) {
            config[format!("{purpose}_token")] = json!(text);
        }
    }
    if let Ok(template) = source.file.str("tokenizer.chat_template") {
        config["chat_template"] = json!(template);
    }
    // All tokens at which llama.cpp ends an answer, also those that it knows by their look.
    let ends: Vec<i32> = (0..tokens.texts.len() as i32).filter(|id| source.vocab.is_end(*id)).collect();
    let id = |key: &str| source.file.u32(&format!("tokenizer.ggml.{key}_token_id")).ok();
    let generation = json!({"bos_token_id": id("bos"), "eos_token_id": ends, "pad_token_id": id("padding")});
    Ok(vec![("tokenizer.json", tokenizer), ("tokenizer_config.json", config), ("generation_config.json", generation)])
}

fn read(file: &GgufFile) -> Result<Tokens, FolderError> {
    let texts = file.strings("tokenizer.ggml.tokens")?.to_vec();
    let kinds = match file.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::I32(kinds))) if kinds.len() == texts.len() => kinds.clone(),
        _ => return refused("tokenizer.ggml.token_type", "is missing, or not as long as the list of tokens"),
    };
    Ok(Tokens { texts, kinds })
}

/// The text of the token of a purpose.
fn purpose_of<'a>(file: &GgufFile, tokens: &'a Tokens, key: &str) -> Option<&'a str> {
    let id = file.u32(&format!("tokenizer.ggml.{key}_token_id")).ok()?;
    tokens.texts.get(id as usize).map(String::as_str)
}

impl Tokens {
    fn of_kinds(&self, kinds: &[i32]) -> impl Iterator<Item = (usize, &str)> {
        let texts = self.texts.iter().map(String::as_str).enumerate();
        let chosen: Vec<(usize, &str)> = texts.filter(|(id, _)| kinds.contains(&self.kinds[*id])).collect();
        chosen.into_iter()
    }

    /// Tokens that are found in a text before it is cut.
    fn added(&self) -> Vec<Json> {
        let all = self.of_kinds(&[UNKNOWN, CONTROL, USER_DEFINED]);
        let entry = |(id, text): (usize, &str)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": self.kinds[id] != USER_DEFINED})
        };
        all.map(entry).collect()
    }

    /// Ids of all tokens by their texts. Added ones are among them, because the `tokenizers` crate gives an added token an id of its own
    /// where the vocabulary has none for it.
    fn vocabulary(&self) -> Json {
        let all = self.of_kinds(&[NORMAL, BYTE, UNKNOWN, CONTROL, USER_DEFINED]);
        Json::Object(all.map(|(id, text)| (text.to_owned(), json!(id))).collect::<Map<String, Json>>())
    }
}

fn byte_level(source: &Source<'_>, tokens: &Tokens) -> Result<Json, FolderError> {
    let file = source.file;
    const PRE: &str = "tokenizer.ggml.pre";
    let name = file.str(PRE)?;
    let Some((pre, whole)) = cut_of(name) else {
        return refused(PRE, format!("{name:?} is no way of cutting text that is known here"));
    };
    let merges: Vec<Vec<&str>> =
        file.strings("tokenizer.ggml.merges")?.iter().map(|pair| pair.splitn(2, ' ').collect()).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
        "vocab": tokens.vocabulary(), "merges": merges});
    Ok(whole_file(source, tokens, Json::Null, pre, bytes, model))
}

fn sentence_pieces(source: &Source<'_>, tokens: &Tokens) -> Result<Json, FolderError> {
    let file = source.file;
    let scores = match file.get("tokenizer.ggml.scores") {
        Some(Value::Array(Array::F32(scores))) if scores.len() == tokens.texts.len() => scores,
        _ => return refused("tokenizer.ggml.scores", "is missing, or not as long as the list of tokens"),
    };
    let ids: HashMap<&str, usize> = tokens.of_kinds(&[NORMAL]).map(|(id, text)| (text, id)).collect();
    // Every way to split a token in two is a merge, those of tokens of a better score first, as transformers derives them.
    let mut joined: Vec<(usize, &str)> = tokens.of_kinds(&[NORMAL]).collect();
    joined.sort_by(|(a, _), (b, _)| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let splits = joined.into_iter().flat_map(|(_, text)| {
        let ways = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        ways.filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right)).collect::<Vec<_>>()
    });
    let merges: Vec<[&str; 2]> = splits.map(|(left, right)| [left, right]).collect();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    // llama.cpp puts a space in front unless the file says otherwise.
    let prefix = !matches!(file.get("tokenizer.ggml.add_space_prefix"), Some(Value::Bool(false)));
    let normalizer = match prefix {
        true => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}),
        false => replace,
    };
    let strip = prefix.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    let space = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let steps: Vec<Json> =
        [space, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})].into_iter().chain(strip).collect();
    let unknown = tokens.of_kinds(&[UNKNOWN]).next().map(|(_, text)| text.to_owned());
    let model = json!({"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
        "vocab": tokens.vocabulary(), "merges": merges});
    let decoder = json!({"type": "Sequence", "decoders": steps});
    Ok(whole_file(source, tokens, normalizer, Json::Null, decoder, model))
}

fn whole_file(source: &Source<'_>, tokens: &Tokens, normalizer: Json, pre: Json, decoder: Json, model: Json) -> Json {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": normalizer,
        "pre_tokenizer": pre,
        "post_processor": around(source, tokens),
        "decoder": decoder,
        "model": model,
    })
}

/// The tokens that are put around a text.
fn around(source: &Source<'_>, tokens: &Tokens) -> Json {
    let (vocab, named) = (source.vocab, source.vocab.named());
    let token = |id: Option<i32>| {
        let id = id? as u32;
        Some((tokens.texts.get(id as usize)?, id))
    };
    let wanted = |yes: bool, id: Option<i32>| token(id).filter(|_| yes);
    let (first, last) = (wanted(vocab.wants_bos(), named.bos), wanted(vocab.wants_eos(), named.eos));
    if first.is_none() && last.is_none() {
        return Json::Null;
    }
    let special = |token: Option<(&String, u32)>, kind: u32| {
        token.map(|(text, _)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
    };
    let part = |name: &str, kind: u32| {
        let sequence = json!({"Sequence": {"id": name, "type_id": kind}});
        [special(first, kind), Some(sequence), special(last, kind)].into_iter().flatten().collect::<Vec<Json>>()
    };
    let single = part("A", 0);
    let pair: Vec<Json> = single.iter().cloned().chain(part("B", 1)).collect();
    let all = [first, last].into_iter().flatten();
    let named: Map<String, Json> =
        all.map(|(text, id)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}))).collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": named})
}
