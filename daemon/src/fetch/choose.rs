//! Which files of a repository are wanted: a GGUF file by its path or quantisation, or the files of a Hugging Face
//! folder. Never here: requests.

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::{HubSource, is_repo_path};
use hone_protocol::value::Hash;

/// What is taken when a repository has several GGUF files and the person named none, as llama.cpp does.
const QUANTISATION_DEFAULT: &str = "Q4_K_M";
/// Files that a failure lists; more are counted.
const LISTED_MAX: usize = 24;
/// Files of a Hugging Face folder, beside the weights, that a conversion may need.
const FOLDER_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.txt",
    "modules.json",
    "1_Pooling/config.json",
    "model.safetensors.index.json",
];

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path in the repository.
    pub(super) path: String,
    /// Size in bytes; none when the hub did not say.
    pub(super) size: Option<u64>,
    /// Hash that the hub announced.
    pub(super) sha256: Option<Hash>,
    /// What changes when the file does: hash, etag or blob id.
    pub(super) identity: String,
}

impl Entry {
    fn is_gguf(&self) -> bool {
        self.path.to_lowercase().ends_with(".gguf")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The wanted files, and whether they are to be converted.
pub(super) fn choose<'e>(source: &HubSource, entries: &'e [Entry]) -> Result<(Vec<&'e Entry>, bool), Failure> {
    let safe: Vec<&Entry> = entries.iter().filter(|e| is_repo_path(&e.path)).collect();
    let gguf: Vec<&Entry> = safe.iter().copied().filter(|e| e.is_gguf()).collect();
    // A projector of images is no model of its own.
    let models: Vec<&Entry> = gguf.iter().copied().filter(|e| !e.name().to_lowercase().contains("mmproj")).collect();
    if !source.file.is_empty() {
        return named(source, &gguf, &models).map(|entry| (vec![entry], false));
    }
    match models[..] {
        [] => folder(source, &safe).map(|entries| (entries, true)),
        [one] => whole(source, one, &models).map(|entry| (vec![entry], false)),
        _ => {
            let usual: Vec<&Entry> = models.iter().copied().filter(|e| is_of(e, QUANTISATION_DEFAULT)).collect();
            match usual[..] {
                [one] => whole(source, one, &models).map(|entry| (vec![entry], false)),
                _ => Err(list(source, "has several GGUF files; name one", &models)),
            }
        }
    }
}

/// The GGUF file that the person named.
fn named<'e>(source: &HubSource, gguf: &[&'e Entry], models: &[&'e Entry]) -> Result<&'e Entry, Failure> {
    let wanted = source.file.as_str();
    let exact = gguf.iter().find(|e| e.path == wanted).or_else(|| gguf.iter().find(|e| e.name() == wanted));
    if let Some(entry) = exact {
        return whole(source, entry, models);
    }
    let of_type: Vec<&Entry> = models.iter().copied().filter(|e| is_of(e, wanted)).collect();
    match of_type[..] {
        [one] => whole(source, one, models),
        [] if models.is_empty() => Err(list(source, "has no GGUF file", &[])),
        [] => Err(list(source, &format!("has no GGUF file {wanted:?}"), models)),
        _ => {
            let whole: Vec<&Entry> = of_type.iter().copied().filter(|e| part(e.name()).is_none()).collect();
            match whole[..] {
                [one] => Ok(one),
                _ => Err(list(source, &format!("has several GGUF files for {wanted:?}; name one"), &of_type)),
            }
        }
    }
}

/// Refuses one part of a model that was cut into several files.
fn whole<'e>(source: &HubSource, entry: &'e Entry, models: &[&Entry]) -> Result<&'e Entry, Failure> {
    let Some((number, count)) = part(entry.name()) else { return Ok(entry) };
    let problem = format!(
        "has {:?} only as one of {count} parts (this is {number}), which hone cannot join; choose a smaller file",
        entry.path
    );
    let whole: Vec<&Entry> = models.iter().copied().filter(|e| part(e.name()).is_none()).collect();
    Err(list(source, &problem, &whole))
}

/// Number and count of `NAME-00001-of-00003.gguf`.
fn part(name: &str) -> Option<(u32, u32)> {
    let stem = name.get(..name.len().checked_sub(5)?)?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    Some((digits(number)?, digits(count)?))
}

/// Whether a file's name (or that of its folder) says that quantisation: the word with no letter, digit or `_` around.
fn is_of(entry: &Entry, quantisation: &str) -> bool {
    let (path, word) = (entry.path.to_uppercase(), quantisation.to_uppercase());
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    !word.is_empty()
        && path.match_indices(&word).any(|(at, _)| {
            let before = path[..at].chars().next_back();
            let after = path[at + word.len()..].chars().next();
            !before.is_some_and(joins) && !after.is_some_and(joins)
        })
}

/// The files of a Hugging Face folder.
fn folder<'e>(source: &HubSource, entries: &[&'e Entry]) -> Result<Vec<&'e Entry>, Failure> {
    let weights =
        |e: &&&Entry| e.path.ends_with(".safetensors") && e.path.starts_with("model") && !e.path.contains('/');
    let has = |name: &str| entries.iter().any(|e| e.path == name);
    if !entries.iter().any(|e| weights(&e)) || !has("config.json") {
        return Err(list(source, "has neither a GGUF file nor config.json with model*.safetensors", entries));
    }
    let wanted = |e: &&&Entry| weights(e) || FOLDER_FILES.contains(&e.path.as_str());
    Ok(entries.iter().filter(wanted).copied().collect())
}

/// A failure with the files that there are.
fn list(source: &HubSource, problem: &str, entries: &[&Entry]) -> Failure {
    let size = |e: &Entry| match e.size {
        Some(bytes) if bytes >= 1_000_000_000 => format!(" ({:.1} GB)", bytes as f64 / 1e9),
        Some(bytes) => format!(" ({:.0} MB)", bytes as f64 / 1e6),
        None => String::new(),
    };
    let mut listed: Vec<String> = entries.iter().take(LISTED_MAX).map(|e| format!("{}{}", e.path, size(e))).collect();
    if entries.len() > LISTED_MAX {
        listed.push(format!("and {} more", entries.len() - LISTED_MAX));
    }
    let there = if listed.is_empty() { String::new() } else { format!("; there are: {}", listed.join(", ")) };
    Failure::new(FailureCode::NotFound, format!("{} {problem}{there}", source.repo))
        .at(source.repo.clone())
        .hint(HintCode::CorrectField)
}

#[cfg(test)]
mod tests {
    use hone_protocol::model::{Hub, WeightsAs};

    use super::*;

    fn entries(paths: &[&str]) -> Vec<Entry> {
        let entry = |path: &&str| Entry {
            path: (*path).to_owned(),
            size: Some(400_000_000),
            sha256: None,
            identity: String::new(),
        };
        paths.iter().map(entry).collect()
    }

    fn chosen(file: &str, paths: &[&str]) -> Result<Vec<String>, String> {
        let source = HubSource {
            hub: Hub::Huggingface,
            repo: "o/r".into(),
            revision: String::new(),
            file: file.into(),
            weights: WeightsAs::AsStored,
        };
        let entries = entries(paths);
        let (chosen, _) = choose(&source, &entries).map_err(|failure| failure.message_en)?;
        Ok(chosen.iter().map(|e| e.path.clone()).collect())
    }

    #[test]
    fn a_file_is_chosen_by_path_or_quantisation() {
        let paths =
            ["m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m.q4_k.gguf", "mmproj-f16.gguf", "BF16/m-bf16.gguf", "README.md"];
        assert_eq!(chosen("q4_k_m", &paths).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen("Q4_K", &paths).unwrap(), ["m.q4_k.gguf"]);
        assert_eq!(chosen("BF16", &paths).unwrap(), ["BF16/m-bf16.gguf"]);
        assert_eq!(chosen("m-Q4_K_S.gguf", &paths).unwrap(), ["m-Q4_K_S.gguf"]);
        assert_eq!(chosen("", &paths).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen("", &["only-q8_0.gguf", "mmproj.gguf"]).unwrap(), ["only-q8_0.gguf"]);
    }

    #[test]
    fn what_cannot_be_chosen_lists_what_there_is() {
        let none = chosen("Q6_K", &["m-Q4_0.gguf", "m-Q8_0.gguf"]).unwrap_err();
        assert!(none.contains("Q6_K") && none.contains("m-Q4_0.gguf (400 MB), m-Q8_0.gguf"), "{none}");
        let several = chosen("", &["a.gguf", "b.gguf"]).unwrap_err();
        assert!(several.contains("name one"), "{several}");
        let parts = chosen("Q8_0", &["m-Q8_0-00001-of-00002.gguf", "m-Q4_0.gguf"]).unwrap_err();
        assert!(parts.contains("one of 2 parts") && parts.ends_with("m-Q4_0.gguf (400 MB)"), "{parts}");
        assert!(chosen("", &["pytorch_model.bin", "config.json"]).unwrap_err().contains("neither a GGUF file"));
        assert!(chosen("Q4_0", &["model.safetensors", "config.json"]).unwrap_err().contains("no GGUF file"));
    }

    #[test]
    fn a_folder_is_what_a_conversion_needs() {
        let paths = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "README.md",
            "onnx/model.safetensors",
            "../model.safetensors",
            "pytorch_model.bin",
        ];
        let chosen = chosen("", &paths).unwrap();
        assert_eq!(chosen, paths[..5]);
    }
}
