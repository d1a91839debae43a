//! What sentence-transformers' files say around an encoder: the steps from tokens to one vector. Steps that a GGUF file has
//! no place for are refused by name. Never here: the encoder itself.

use std::path::Path;

use serde_json::Value;

use super::json::Json;
use super::{FolderError, refused};

const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";
/// The ways of pooling that llama.cpp has a number for.
const MODES: &[(&str, u32)] = &[("mean_tokens", 1), ("mean", 1), ("cls_token", 2), ("cls", 2), ("lasttoken", 3)];

/// llama.cpp's number of how the vectors of tokens become one. Vectors are given the length 1 in any case, so a
/// step that does so changes nothing.
pub(super) fn pooling(folder: &Path) -> Result<u32, FolderError> {
    check_modules(folder)?;
    // Without sentence-transformers' file nobody says how; the mean is what it would take itself.
    let Some(config) = Json::find(folder, POOLING)? else { return Ok(1) };
    let flags = config.value.as_object().into_iter().flatten();
    let on = flags.filter_map(|(key, value)| (value == true).then(|| key.strip_prefix("pooling_mode_")).flatten());
    let modes: Vec<&str> = config.text("pooling_mode").into_iter().chain(on).collect();
    match modes[..] {
        [mode] => match MODES.iter().find(|(name, _)| *name == mode) {
            Some((_, number)) => Ok(*number),
            None => refused(format!("{POOLING}: pooling_mode_{mode}"), "only mean, cls and lasttoken are known"),
        },
        [] => refused(POOLING, "names no way of pooling"),
        _ => refused(POOLING, format!("joins several vectors ({}), the file has a place for one", modes.join(", "))),
    }
}

fn check_modules(folder: &Path) -> Result<(), FolderError> {
    let Some(modules) = Json::find(folder, MODULES)? else { return Ok(()) };
    let Some(list) = modules.value.as_array() else { return refused(MODULES, "is no list") };
    for module in list {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, path) = (text("type"), text("path"));
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" if path.is_empty() => {}
            "Pooling" if path.is_empty() || path == "1_Pooling" => {}
            "Normalize" => {}
            _ => {
                return refused(
                    MODULES,
                    format!("{kind:?} in {path:?} changes the vectors, and the file has no place for it"),
                );
            }
        }
    }
    Ok(())
}
