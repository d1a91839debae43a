//! The name that llama.cpp has for the way a byte-level tokenizer cuts text before it merges. A folder says how it cuts; it
//! is compared step by step with what llama.cpp does under each name, so a vocabulary of any training is recognised, and a
//! way of cutting that llama.cpp lacks is refused. (Its own converter looks a hash of sample tokens up, which knows
//! published vocabularies only.) Never here: the vocabulary.

use serde_json::{Value, json};

use super::FolderError;
use super::json::Json;
use super::refused;

const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 and 2.5 cut text.
pub(crate) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// One step of cutting.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    /// Each digit alone.
    Digits,
    /// Where the expression matches, the matches kept.
    Split(&'a str),
    /// GPT-2's words, then bytes.
    Words,
    /// Bytes only.
    Bytes,
}

/// Steps, whether whole words of the vocabulary are taken without merging (`None`: either), and llama.cpp's name.
type Known = (&'static [Step<'static>], Option<bool>, &'static str);

const KNOWN: &[Known] = &[
    (&[Step::Words], Some(false), "gpt-2"),
    (&[Step::Split(GPT2_WORDS), Step::Bytes], Some(false), "gpt-2"),
    (&[Step::Digits, Step::Words], Some(false), "smollm"),
    (&[Step::Split(LLAMA3), Step::Bytes], Some(true), "llama-bpe"),
    (&[Step::Split(LLAMA3), Step::Bytes], Some(false), "smaug-bpe"),
    (&[Step::Split(QWEN2), Step::Bytes], Some(false), "qwen2"),
    (&[Step::Split(QWEN35), Step::Bytes], Some(false), "qwen35"),
    (&[Step::Split(TEKKEN), Step::Bytes], Some(true), "tekken"),
    (&[Step::Split(GPT4O), Step::Bytes], Some(false), "gpt-4o"),
];

/// llama.cpp's name for how `tokenizer` (the root of `tokenizer.json`) cuts text.
pub(super) fn name(tokenizer: &Json) -> Result<&'static str, FolderError> {
    let place = "tokenizer.json: pre_tokenizer";
    let Some(root) = tokenizer.get("pre_tokenizer") else {
        return refused(place, "is missing; a byte-level tokenizer has one");
    };
    let list = match root.get("pretokenizers").and_then(Value::as_array) {
        Some(list) => list.iter().collect(),
        None => vec![root],
    };
    let steps = list.iter().map(|step| read(step)).collect::<Result<Vec<Step<'_>>, String>>();
    let steps = match steps {
        Ok(steps) => steps,
        Err(problem) => return refused(place, problem),
    };
    let whole = tokenizer.get("model").and_then(|model| model.get("ignore_merges")?.as_bool()).unwrap_or(false);
    let alike: Vec<&Known> = KNOWN.iter().filter(|(known, ..)| *known == steps.as_slice()).collect();
    match alike.iter().find(|(_, wanted, _)| wanted.is_none_or(|wanted| wanted == whole)) {
        Some((.., name)) => Ok(name),
        None if !alike.is_empty() => refused(
            "tokenizer.json: model.ignore_merges",
            format!("{whole} is not how llama.cpp merges after this cut"),
        ),
        None => refused(place, format!("llama.cpp has no name for cutting text by {steps:?}")),
    }
}

/// The `pre_tokenizer` that cuts text as llama.cpp does under a name, and whether whole words are taken without merging.
pub(crate) fn cut_of(name: &str) -> Option<(Value, bool)> {
    let (steps, whole, _) = KNOWN.iter().find(|(.., known)| *known == name)?;
    let bytes =
        |words: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words});
    let step = |step: &Step<'_>| match step {
        Step::Digits => json!({"type": "Digits", "individual_digits": true}),
        Step::Split(regex) => {
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
        }
        Step::Words => bytes(true),
        Step::Bytes => bytes(false),
    };
    let steps: Vec<Value> = steps.iter().map(step).collect();
    Some((json!({"type": "Sequence", "pretokenizers": steps}), whole.unwrap_or(false)))
}

fn read(step: &Value) -> Result<Step<'_>, String> {
    let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str, other: bool| step.get(key).and_then(Value::as_bool).unwrap_or(other);
    match text("type") {
        "Digits" if flag("individual_digits", false) => Ok(Step::Digits),
        "ByteLevel" if flag("add_prefix_space", true) => {
            Err("puts a space in front of every text, which llama.cpp does not".to_owned())
        }
        "ByteLevel" if flag("use_regex", true) => Ok(Step::Words),
        "ByteLevel" => Ok(Step::Bytes),
        "Split" if text("behavior") == "Isolated" && !flag("invert", false) => {
            match step.get("pattern").and_then(|pattern| pattern.get("Regex")?.as_str()) {
                Some(regex) => Ok(Step::Split(regex)),
                None => Err("splits by a text, not by an expression".to_owned()),
            }
        }
        "Split" if text("behavior") == "Removed" && flag("invert", false) => {
            match step.get("pattern").and_then(|pattern| pattern.get("Regex")?.as_str()) {
                // To keep only the matches is the same when everything matches, as it does with these expressions.
                Some(regex) => Ok(Step::Split(regex)),
                None => Err("splits by a text, not by an expression".to_owned()),
            }
        }
        other => Err(format!("{other:?} with {step} is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pre: Value, ignore_merges: bool) -> Result<&'static str, String> {
        let value = json!({"pre_tokenizer": pre, "model": {"ignore_merges": ignore_merges}});
        name(&Json { place: "tokenizer.json".into(), value }).map_err(|error| error.to_string())
    }

    #[test]
    fn cuts_are_told_apart_and_the_unknown_is_refused() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let words = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let all = |list: Vec<Value>| json!({"type": "Sequence", "pretokenizers": list});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        assert_eq!(named(words.clone(), false).unwrap(), "gpt-2");
        assert_eq!(named(all(vec![digits, words.clone()]), false).unwrap(), "smollm");
        assert_eq!(named(all(vec![split(QWEN2), bytes.clone()]), false).unwrap(), "qwen2");
        assert_eq!(named(all(vec![split(LLAMA3), bytes.clone()]), true).unwrap(), "llama-bpe");
        assert_eq!(named(all(vec![split(LLAMA3), bytes.clone()]), false).unwrap(), "smaug-bpe");
        assert!(named(all(vec![split(QWEN2), bytes.clone()]), true).unwrap_err().contains("ignore_merges"));
        let unknown = named(all(vec![split(r"\w+"), bytes]), false).unwrap_err();
        assert!(unknown.contains(r"\\w+"), "{unknown}");
        let spaced = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        assert!(named(spaced, false).unwrap_err().contains("space in front"));
        assert!(named(json!({"type": "Whitespace"}), false).unwrap_err().contains("Whitespace"));
        for (.., name) in KNOWN {
            let (cut, whole) = cut_of(name).unwrap();
            assert_eq!(named(cut, whole).unwrap(), *name, "what is written is known again");
        }
    }
}
