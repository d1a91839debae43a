//! What is around the vocabulary: tokens with a purpose, whether they are put around a text, and the chat template byte for
//! byte. Never here: the tokens themselves.

use std::path::Path;

use serde_json::Value as Json5;

use crate::gguf::Value;

use super::json::Json;
use super::tokenizer::Vocabulary;
use super::weights::text;
use super::{FolderError, refused};

/// Longest template in bytes; a longer one is refused. The longest seen in practice has 30 kB.
const TEMPLATE_BYTES_MAX: u64 = 4 << 20;

/// Purpose in the folder's files, key in the GGUF file.
const PURPOSES: &[(&str, &str)] = &[
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
];

/// Tokens at which llama.cpp ends an answer by their look, whatever the file says.
const KNOWN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
];

/// The files that say so.
pub(super) struct Said<'a> {
    pub(super) folder: &'a Path,
    pub(super) config: &'a Json,
    pub(super) tokenizer: Option<&'a Json>,
    pub(super) tokenizer_config: Option<Json>,
}

impl Said<'_> {
    /// Keys of the file.
    pub(super) fn metadata(&self, vocabulary: &Vocabulary) -> Result<Vec<(String, Value)>, FolderError> {
        let mut ids: Vec<(&str, u32)> = Vec::new();
        for (purpose, key) in PURPOSES {
            if let Some(id) = self.token(purpose, vocabulary)? {
                ids.push((key, id));
            }
        }
        let of = |ids: &[(&str, u32)], key: &str| ids.iter().find(|(k, _)| *k == key).map(|(_, id)| *id);
        if vocabulary.model == "bert" {
            // The encoder's begin and end have names of their own.
            for (own, common) in [("cls", "bos"), ("seperator", "eos")] {
                if let (Some(id), None) = (of(&ids, own), of(&ids, common)) {
                    ids.push((common, id));
                }
            }
        }
        let (bos, eos) = (of(&ids, "bos"), of(&ids, "eos"));
        // Where generation ends at more tokens than one, the file has two more places.
        let mut ends = self.ends()?.into_iter().filter(|id| {
            let piece = vocabulary.pieces.get(*id as usize);
            Some(*id) != eos && piece.is_some_and(|piece| !KNOWN_ENDS.contains(&piece.text.as_str()))
        });
        for key in ["eot", "eom"] {
            if let Some(id) = ends.next() {
                ids.push((key, id));
            }
        }
        if let Some(id) = ends.next() {
            let problem = format!("token {id} ends answers too, and the file has places for two such tokens");
            return refused("generation_config.json: eos_token_id", problem);
        }
        let mut keys: Vec<(String, Value)> =
            ids.iter().map(|(key, id)| (format!("tokenizer.ggml.{key}_token_id"), Value::U32(*id))).collect();
        let (first, last) = self.around(vocabulary, bos, eos)?;
        keys.push(("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(first && bos.is_some())));
        keys.push(("tokenizer.ggml.add_eos_token".to_owned(), Value::Bool(last && eos.is_some())));
        keys.extend(self.templates()?);
        Ok(keys)
    }

    /// The token of a purpose: by its text in `tokenizer_config.json`, else by its id in `config.json`.
    fn token(&self, purpose: &str, vocabulary: &Vocabulary) -> Result<Option<u32>, FolderError> {
        let field = format!("{purpose}_token");
        let entry = self.tokenizer_config.as_ref().and_then(|config| config.get(&field));
        let content = entry.and_then(|entry| entry.as_str().or_else(|| entry.get("content")?.as_str()));
        if let Some(content) = content {
            return match vocabulary.id(content) {
                Some(id) => Ok(Some(id)),
                None => refused(format!("tokenizer_config.json: {field}"), format!("{content:?} is no token")),
            };
        }
        let id = self.config.get(&format!("{purpose}_token_id")).and_then(Json5::as_u64);
        Ok(id.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < vocabulary.pieces.len()))
    }

    /// All tokens at which the folder's maker ends an answer.
    fn ends(&self) -> Result<Vec<u32>, FolderError> {
        let generation = Json::find(self.folder, "generation_config.json")?;
        let given = generation.as_ref().and_then(|g| g.get("eos_token_id")).or_else(|| self.config.get("eos_token_id"));
        let list = match given {
            Some(Json5::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        Ok(list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect())
    }

    /// Whether a begin and an end token are put around a text.
    fn around(&self, vocabulary: &Vocabulary, bos: Option<u32>, eos: Option<u32>) -> Result<(bool, bool), FolderError> {
        let processor = self.tokenizer.and_then(|tokenizer| tokenizer.get("post_processor"));
        // Without a word, SentencePiece models begin texts and others do not.
        let mut around = (processor.is_none() && vocabulary.model == "llama", false);
        let steps = processor.map(|p| match p.get("processors").and_then(Json5::as_array) {
            Some(list) => list.iter().collect(),
            None => vec![p],
        });
        for step in steps.into_iter().flatten() {
            match step.get("type").and_then(Json5::as_str).unwrap_or_default() {
                "ByteLevel" => {}
                "TemplateProcessing" => around = template(step, vocabulary, bos, eos)?,
                "BertProcessing" if vocabulary.model == "bert" => around = (true, true),
                other => {
                    let problem = format!("{other:?} puts tokens around a text in a way that is not known");
                    return refused("tokenizer.json: post_processor", problem);
                }
            }
        }
        let flag = |name: &str| self.tokenizer_config.as_ref().and_then(|config| config.flag(name));
        Ok((flag("add_bos_token").unwrap_or(around.0), flag("add_eos_token").unwrap_or(around.1)))
    }

    /// The chat template and those with names.
    fn templates(&self) -> Result<Vec<(String, Value)>, FolderError> {
        const KEY: &str = "tokenizer.chat_template";
        let one = |text: String| vec![(KEY.to_owned(), Value::Str(text))];
        // As transformers does: a file of its own counts before what stands in the configuration.
        if let Some(own) = text(self.folder, "chat_template.jinja", TEMPLATE_BYTES_MAX)? {
            return Ok(one(own));
        }
        let file = Json::find(self.folder, "chat_template.json")?;
        let found = file.as_ref().and_then(|file| file.get("chat_template"));
        match found.or_else(|| self.tokenizer_config.as_ref()?.get("chat_template")) {
            None => Ok(Vec::new()),
            Some(Json5::String(text)) => Ok(one(text.clone())),
            Some(Json5::Array(list)) => {
                let mut keys = Vec::new();
                let mut names = Vec::new();
                for entry in list {
                    let part = |key: &str| entry.get(key).and_then(Json5::as_str);
                    match (part("name"), part("template")) {
                        (Some("default"), Some(text)) => keys.extend(one(text.to_owned())),
                        (Some(name), Some(text)) => {
                            keys.push((format!("{KEY}.{name}"), Value::Str(text.to_owned())));
                            names.push(name.to_owned());
                        }
                        _ => {
                            return refused(
                                "tokenizer_config.json: chat_template",
                                "a template has no name or no text",
                            );
                        }
                    }
                }
                if !names.is_empty() {
                    keys.push(("tokenizer.chat_templates".to_owned(), Value::Array(crate::gguf::Array::Str(names))));
                }
                Ok(keys)
            }
            Some(_) => refused("tokenizer_config.json: chat_template", "is neither a text nor a list of texts"),
        }
    }
}

/// `[CLS] A [SEP]` and the like.
fn template(
    step: &Json5,
    vocabulary: &Vocabulary,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<(bool, bool), FolderError> {
    let single = step.get("single").and_then(Json5::as_array).cloned().unwrap_or_default();
    let special = |part: &Json5| {
        let text = part.get("SpecialToken").and_then(|token| token.get("id")?.as_str().map(str::to_owned));
        text.and_then(|text| vocabulary.id(&text))
    };
    let ids: Vec<Option<u32>> = single.iter().map(special).collect();
    match ids[..] {
        [None] => Ok((false, false)),
        [first @ Some(_), None] if first == bos => Ok((true, false)),
        [None, last @ Some(_)] if last == eos => Ok((false, true)),
        [first @ Some(_), None, last @ Some(_)] if first == bos && last == eos => Ok((true, true)),
        _ => refused(
            "tokenizer.json: post_processor",
            format!("{single:?} puts tokens around a text that the file cannot"),
        ),
    }
}
