//! What a GGUF file says to other programs: a Modelfile with the texts that end an answer, and a model card that names
//! where it came from. Never here: weights.

use std::fmt::Write as _;

use crate::gguf::GgufFile;

/// What is known of a version beyond its file. Empty texts are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `name@number` of the version.
    pub version: String,
    /// `name@number` of the base of an adapter.
    pub base: String,
    /// Licence.
    pub licence: String,
    /// `name@number` of the training data.
    pub dataset: String,
    /// What it was imported from or trained on.
    pub source: String,
    /// What its making warned of.
    pub warning: String,
    /// SHA-256 of its file as hexadecimal digits.
    pub sha256: String,
}

/// Texts of the tokens that end an answer, in the order in which llama.cpp looks for them.
pub fn end_texts(file: &GgufFile) -> Vec<String> {
    let Ok(tokens) = file.strings("tokenizer.ggml.tokens") else { return Vec::new() };
    let mut texts: Vec<String> = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        let text = file.u32(key).ok().and_then(|id| tokens.get(id as usize));
        let new = text.filter(|text| !texts.contains(text)).cloned();
        texts.extend(new);
    }
    texts
}

/// A Modelfile for a whole model in `name`.
pub fn modelfile(file: &GgufFile, name: &str) -> String {
    let mut text = format!("FROM ./{name}\n");
    for end in end_texts(file) {
        let quoted = end.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "PARAMETER stop \"{quoted}\"");
    }
    text
}

/// A Modelfile for an adapter in `name`, whose base is another export.
pub fn adapter_modelfile(name: &str, origin: &Origin) -> String {
    let base = origin.base.replace(['@', ':'], "-");
    format!(
        "# The base stands beside it after: hone model export {} --to FOLDER/{base}.gguf\nFROM ./{base}.gguf\nADAPTER ./{name}\n",
        origin.base
    )
}

/// A model card. `library`: `gguf`, `peft` or `transformers`.
pub fn readme(origin: &Origin, library: &str, title: &str) -> String {
    let mut text = String::from("---\n");
    let plain = |licence: &str| licence.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    if !origin.licence.is_empty() && plain(&origin.licence) {
        let _ = writeln!(text, "license: {}", origin.licence.to_lowercase());
    }
    let _ = writeln!(text, "library_name: {library}\ntags:\n- {library}\n- hone\n---\n\n# {title}\n");
    let lines = [
        ("Version", &origin.version),
        ("Base model", &origin.base),
        ("Licence", &origin.licence),
        ("Training data", &origin.dataset),
        ("Source", &origin.source),
        ("Note", &origin.warning),
        ("SHA-256 of the version's file", &origin.sha256),
    ];
    for (label, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "- {label}: {value}");
    }
    text
}

/// The repository that a base came from, as far as its file says; else `name`.
pub fn repository(file: &GgufFile, name: &str) -> String {
    let url = |key: &str| file.str(key).ok().and_then(|text| text.strip_prefix("https://huggingface.co/"));
    let keys = ["general.source.huggingface.repository", "general.source.repo_url", "general.repo_url"];
    let plain = file.str(keys[0]).ok().filter(|text| !text.is_empty() && !text.contains("://"));
    plain.or_else(|| keys.iter().find_map(|key| url(key))).unwrap_or(name).to_owned()
}
