//! Ollama's Modelfile: which weights, an adapter over them, and how they are served. Never here: weights themselves.

use std::path::{Path, PathBuf};

use hone_protocol::failure::{Failure, FailureCode, HintCode};

use super::{NotTaken, Taken, quoted};
use crate::cli::convert;
use crate::cli::model::name_from;

/// An instruction with its line, from 1.
#[derive(Debug, PartialEq)]
struct Instruction {
    line: usize,
    word: String,
    text: String,
}

/// Where Ollama keeps its models.
pub(super) fn ollama_models() -> PathBuf {
    let own = std::env::var_os("OLLAMA_MODELS").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".ollama/models");
    own.unwrap_or_else(home)
}

/// What a Modelfile comes to.
pub(super) fn read(path: &str, text: &str, ollama: &Path) -> Result<Taken, Failure> {
    let folder = Path::new(path).parent().unwrap_or(Path::new("."));
    let mut taken = Taken::default();
    let mut name = String::new();
    let mut context = None;
    let instructions = instructions(path, text)?;
    for Instruction { line, word, text } in &instructions {
        let not = |field: &str, reason: &str| NotTaken {
            file: path.to_owned(),
            line: *line,
            field: field.to_owned(),
            reason: reason.to_owned(),
        };
        match word.as_str() {
            "FROM" if name.is_empty() => {
                name = name_of(path, text);
                match weights(folder, text, ollama) {
                    Ok(source) => taken.commands.push(format!("hone model import {} --name {name}", quoted(&source))),
                    Err(reason) => taken.not_taken.push(not("FROM", &reason)),
                }
            }
            "FROM" => taken.not_taken.push(not("FROM", "a version has one file; models in parts are refused")),
            "ADAPTER" => {
                let adapter = folder.join(text);
                if convert::is_peft(&adapter) {
                    let source = quoted(&adapter.display().to_string());
                    let tuned = format!("{name}-tuned");
                    taken.commands.push(format!("hone model import {source} --base {name} --name {tuned}"));
                    name = tuned;
                } else {
                    let reason =
                        "adapters come in as the folder that PEFT wrote: hone model import FOLDER --base MODEL";
                    taken.not_taken.push(not("ADAPTER", reason));
                }
            }
            "PARAMETER" => {
                let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                match (key, value.trim().parse::<u32>()) {
                    ("num_ctx", Ok(tokens)) => context = Some(tokens),
                    _ => taken.not_taken.push(not(&format!("PARAMETER {key}"), parameter(key))),
                }
            }
            word => taken.not_taken.push(not(word, instruction(word))),
        }
    }
    if name.is_empty() {
        let message = "there is no FROM, so no weights are named";
        return Err(Failure::new(FailureCode::BadFile, message).at(path).hint(HintCode::CorrectFile));
    }
    let context = context.map_or_else(String::new, |tokens| format!(" --context {tokens}"));
    taken.commands.push(format!("hone service publish {name} {name}{context}"));
    Ok(taken)
}

/// What becomes of a parameter that no service has.
fn parameter(key: &str) -> &'static str {
    match key {
        "temperature" | "top_p" | "top_k" | "min_p" | "seed" | "frequency_penalty" | "presence_penalty" | "stop" => {
            "a service keeps no sampling; each request says it"
        }
        "repeat_penalty" | "repeat_last_n" => "each request says its penalties; repetition is looked for in 64 tokens",
        "num_predict" => "a service keeps no length; each request says max_tokens",
        "num_ctx" => "it is no whole number",
        _ => "hone has nothing of that kind, or decides it itself",
    }
}

fn instruction(word: &str) -> &'static str {
    match word {
        "SYSTEM" => "a service has no system text; each request sends it as its first message",
        "TEMPLATE" => "hone renders with the template inside the GGUF file; templates in Go are not read",
        "MESSAGE" => "a service has no messages of its own; each request sends them",
        "LICENSE" => "the licence is read from the GGUF file",
        "REQUIRES" => "this is about versions of Ollama",
        _ => "this is no instruction that is known",
    }
}

/// The name of the model: of the folder for a file called Modelfile, else of the weights.
fn name_of(path: &str, from: &str) -> String {
    let weights = Path::new(from).file_name().and_then(|name| name.to_str()).unwrap_or(from);
    let plain = weights.split(':').next().unwrap_or(weights).trim_end_matches(".gguf");
    let name = name_from(&format!("{plain}.gguf"));
    if name.is_empty() { name_from(path) } else { name }
}

/// What `hone model import` takes for the weights: a path, a hub's repository, or the blob in Ollama's own store.
fn weights(folder: &Path, from: &str, ollama: &Path) -> Result<String, String> {
    let path = folder.join(from);
    if path.is_dir() || path.is_file() {
        return Ok(path.display().to_string());
    }
    if let Some(repository) = from.strip_prefix("hf.co/").or_else(|| from.strip_prefix("huggingface.co/")) {
        return Ok(format!("hf:{repository}"));
    }
    if from.starts_with(['.', '/', '~']) || from.ends_with(".gguf") {
        return Err(format!("{} is not there", path.display()));
    }
    let blob = blob_of(from, ollama);
    blob.map(|blob| blob.display().to_string()).ok_or_else(|| {
        format!(
            "{from} is a name in Ollama's library and not in {}; fetch it there, or name a GGUF file",
            ollama.display()
        )
    })
}

/// The weights of a name in Ollama's store: its manifest names them by their hash.
fn blob_of(name: &str, ollama: &Path) -> Option<PathBuf> {
    let (name, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let name = if name.contains('/') { name.to_owned() } else { format!("library/{name}") };
    let plain = |part: &str| !part.is_empty() && part.split('/').all(|p| !p.is_empty() && p != ".." && p != ".");
    if !plain(&name) || !plain(tag) || tag.contains('/') {
        return None;
    }
    let text = super::read(&ollama.join("manifests/registry.ollama.ai").join(name).join(tag)).ok()?;
    let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
    let layers = manifest["layers"].as_array()?;
    let model = layers.iter().find(|layer| layer["mediaType"] == "application/vnd.ollama.image.model")?;
    let digest =
        model["digest"].as_str()?.strip_prefix("sha256:").filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(ollama.join("blobs").join(format!("sha256-{digest}"))).filter(|blob| blob.is_file())
}

/// The instructions of a text; `"""` and `"` may hold a text of several lines.
fn instructions(path: &str, text: &str) -> Result<Vec<Instruction>, Failure> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut rest = rest.trim().to_owned();
        // The mark stands at the beginning, or after the role or the key.
        let mark = ["\"\"\"", "\""].into_iter().find(|mark| {
            let opens = rest.starts_with(mark) || rest.contains(&format!(" {mark}"));
            opens && rest.matches(mark).count() % 2 == 1
        });
        if let Some(mark) = mark {
            loop {
                let Some((_, more)) = lines.next() else {
                    let failure =
                        Failure::new(FailureCode::BadFile, format!("a text that begins with {mark} does not end"));
                    return Err(failure.at(format!("{path}:{}", at + 1)).hint(HintCode::CorrectFile));
                };
                rest.push('\n');
                rest.push_str(more);
                if more.contains(mark) {
                    break;
                }
            }
        }
        let text = rest.replace("\"\"\"", "");
        let text = text.trim().trim_matches('"').to_owned();
        found.push(Instruction { line: at + 1, word: word.to_uppercase(), text });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# a support assistant
FROM ./weights/Support-7B.Q4_K_M.gguf

PARAMETER temperature 0.3
PARAMETER num_ctx 4096
PARAMETER stop "<|im_end|>"
parameter stop <|endoftext|>
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}<|im_start|>user
{{ .Prompt }}<|im_end|>
<|im_start|>assistant
"""
SYSTEM You answer questions about orders.
ADAPTER ./lora
MESSAGE user Is it open?
MESSAGE assistant """Yes,
until six."""
LICENSE """Apache 2.0"""
"#;

    #[test]
    fn a_modelfile_becomes_commands_and_a_list_of_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        };
        write("weights/Support-7B.Q4_K_M.gguf");
        write("lora/adapter_config.json");
        let path = folder.path().join("Modelfile").display().to_string();
        let taken = read(&path, FILE, folder.path()).unwrap();
        let here = |text: &str| text.replace(&folder.path().display().to_string(), "HERE");
        let commands: Vec<String> = taken.commands.iter().map(|c| here(c)).collect();
        assert_eq!(
            commands,
            [
                "hone model import HERE/./weights/Support-7B.Q4_K_M.gguf --name support-7b.q4_k_m",
                "hone model import HERE/./lora --base support-7b.q4_k_m --name support-7b.q4_k_m-tuned",
                "hone service publish support-7b.q4_k_m-tuned support-7b.q4_k_m-tuned --context 4096",
            ]
        );
        let missing: Vec<_> = taken.not_taken.iter().map(|n| (n.line, n.field.as_str())).collect();
        assert_eq!(
            missing,
            [
                (4, "PARAMETER temperature"),
                (6, "PARAMETER stop"),
                (7, "PARAMETER stop"),
                (8, "TEMPLATE"),
                (14, "SYSTEM"),
                (16, "MESSAGE"),
                (17, "MESSAGE"),
                (19, "LICENSE"),
            ]
        );
    }

    #[test]
    fn a_name_of_ollamas_library_is_found_in_its_store() {
        let store = tempfile::tempdir().unwrap();
        let manifest = store.path().join("manifests/registry.ollama.ai/library/smollm2");
        std::fs::create_dir_all(&manifest).unwrap();
        std::fs::create_dir(store.path().join("blobs")).unwrap();
        let digest = "ab".repeat(32);
        let layer = serde_json::json!({"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{digest}")});
        let other = serde_json::json!({"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:00"});
        std::fs::write(manifest.join("135m"), serde_json::json!({"layers": [other, layer]}).to_string()).unwrap();
        let blob = store.path().join(format!("blobs/sha256-{digest}"));
        std::fs::write(&blob, b"GGUF").unwrap();
        let taken = read("Modelfile", "FROM smollm2:135m\n", store.path()).unwrap();
        assert_eq!(taken.commands[0], format!("hone model import {} --name smollm2", blob.display()));
        assert!(taken.not_taken.is_empty(), "{:?}", taken.not_taken);
        let taken = read("Modelfile", "FROM llama3.2\n", store.path()).unwrap();
        assert!(taken.not_taken[0].reason.contains("library"), "{:?}", taken.not_taken);
        let hub = read("Modelfile", "FROM hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0\n", store.path()).unwrap();
        assert_eq!(hub.commands[0], "hone model import hf:Qwen/Qwen3-0.6B-GGUF:Q8_0 --name qwen3-0.6b-gguf");
    }

    #[test]
    fn what_does_not_end_or_names_no_weights_is_refused() {
        let none = Path::new("/nonexistent");
        assert_eq!(read("Modelfile", "FROM a\nSYSTEM \"\"\"never\n", none).unwrap_err().place, "Modelfile:2");
        assert_eq!(read("Modelfile", "SYSTEM x\n", none).unwrap_err().code, FailureCode::BadFile);
        let missing = read("Modelfile", "FROM ./gone.gguf\n", none).unwrap();
        assert_eq!(missing.not_taken[0].field, "FROM");
    }
}
