//! `adapter_config.json`: the scale of every module, and a refusal by name of whatever changes the model in a way that
//! an adapter in GGUF cannot hold. Never here: values.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::convert::{ConvertError, refuse};

/// Longest settings file that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Settings that must be absent, null, false, zero or empty, and what to do when they are not.
const OFF: &[(&str, &str)] = &[
    ("use_dora", "DoRA rescales the base's weights; merge it in PEFT and import the merged model"),
    ("lora_bias", "biases of the adapter have no place in GGUF; merge it in PEFT and import the merged model"),
    ("modules_to_save", "these modules were trained whole; merge it in PEFT and import the merged model"),
    ("trainable_token_indices", "these embeddings were trained whole; merge it in PEFT and import the merged model"),
    ("target_parameters", "adapted parameters outside linear modules have no place in GGUF"),
    ("layer_replication", "the model has more layers than its base; merge it in PEFT and import the merged model"),
    ("use_qalora", "QA-LoRA pools the input first; merge it in PEFT and import the merged model"),
    ("alora_invocation_tokens", "the adapter takes effect only behind these tokens"),
    ("use_bdlora", "block-diagonal adapters have no place in GGUF"),
    ("arrow_config", "routing between adapters has no place in GGUF"),
];

/// The settings of an adapter.
#[derive(Debug)]
pub(super) struct Settings {
    path: PathBuf,
    alpha: f64,
    by_root: bool,
    alphas: Vec<(String, f64)>,
}

impl Settings {
    /// Reads and judges the file.
    pub(super) fn read(path: &Path) -> Result<Settings, ConvertError> {
        let fail = |source| ConvertError::Io { action: "read", path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(CONFIG_BYTES_MAX).read_to_string(&mut text)).map_err(fail)?;
        let all: Map<String, Value> =
            serde_json::from_str(&text).or_else(|error| refuse(path, "JSON", error.to_string()))?;
        let kind = all.get("peft_type").and_then(Value::as_str).unwrap_or_default();
        if kind != "LORA" {
            return refuse(path, "peft_type", format!("is {kind:?}; only \"LORA\" adapters can be imported"));
        }
        if let Some((key, why)) = OFF.iter().find(|(key, _)| all.get(*key).is_some_and(is_on)) {
            return refuse(path, *key, format!("is {}: {why}", all[*key]));
        }
        match all.get("bias").and_then(Value::as_str) {
            None | Some("none") => {}
            Some(other) => {
                let why = "trained biases have no place in GGUF; merge it in PEFT and import the merged model";
                return refuse(path, "bias", format!("is {other:?}: {why}"));
            }
        }
        let Some(alpha) = all.get("lora_alpha").and_then(Value::as_f64).filter(|alpha| usable(*alpha)) else {
            return refuse(path, "lora_alpha", "must be a number other than 0");
        };
        let mut alphas = Vec::new();
        for (module, value) in all.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
            let plain = module.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
            match value.as_f64().filter(|alpha| plain && usable(*alpha)) {
                Some(alpha) => alphas.push((module.clone(), alpha)),
                None => {
                    let problem = format!("{module:?}: {value}: only plain names and numbers other than 0 can be read");
                    return refuse(path, "alpha_pattern", problem);
                }
            }
        }
        // `fan_in_fan_out` only says how PEFT lays the base's weight out when it merges; A and B are the same.
        let by_root = all.get("use_rslora").is_some_and(is_on);
        Ok(Settings { path: path.to_owned(), alpha, by_root, alphas })
    }

    /// The factor on B A of a module.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<f64, ConvertError> {
        // As PEFT matches: the first that is the name or its end.
        let own = self.alphas.iter().find(|(key, _)| {
            module.strip_suffix(key.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        });
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let divisor = if self.by_root { (rank as f64).sqrt() } else { rank as f64 };
        let scale = alpha / divisor;
        if scale.is_finite() { Ok(scale) } else { refuse(&self.path, module, format!("has a scale of {scale}")) }
    }
}

fn usable(alpha: f64) -> bool {
    alpha.is_finite() && alpha != 0.0
}

fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
