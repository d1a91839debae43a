//! SentencePiece vocabularies, from `tokenizer.model` (a protocol buffer, read field by field) or, where a folder has only
//! `tokenizer.json`, from the merges that were derived from one. llama.cpp merges the pair whose joined piece has the best
//! score; merges are therefore accepted only if they say the same. Never here: byte-level tokenizers.

use std::collections::{HashMap, HashSet};

use super::json::Json;
use super::tokenizer::{BYTE, CONTROL, NORMAL, Piece, UNKNOWN, UNUSED};
use super::{FolderError, refused};

/// Pieces of a model, in order of their ids.
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    /// Whether a space is put in front of a text.
    pub(super) prefix: bool,
}

/// Reads `tokenizer.model`.
pub(super) fn read(bytes: &[u8]) -> Result<Model, FolderError> {
    const PLACE: &str = "tokenizer.model";
    let broken = || FolderError::Refused { place: PLACE.into(), problem: "is no SentencePiece model".into() };
    let mut model = Model { pieces: Vec::new(), prefix: true };
    for field in Fields(bytes) {
        match field.ok_or_else(broken)? {
            (1, Field::Bytes(piece)) => model.pieces.push(read_piece(piece).ok_or_else(broken)?),
            (2, Field::Bytes(trainer)) => {
                // 1 is unigram, the default; 2 is byte pairs.
                let mut kind = 1;
                for field in Fields(trainer) {
                    if let (3, Field::Number(number)) = field.ok_or_else(broken)? {
                        kind = number;
                    }
                }
                if kind != 2 {
                    return refused(PLACE, "is of the unigram kind; only byte pairs can be converted");
                }
            }
            (3, Field::Bytes(normalizer)) => {
                for field in Fields(normalizer) {
                    match field.ok_or_else(broken)? {
                        (2, Field::Bytes(table)) if !table.is_empty() => {
                            return refused(PLACE, "rewrites characters by a table, which the file cannot hold");
                        }
                        (3, Field::Number(number)) => model.prefix = number != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if model.pieces.is_empty() { Err(broken()) } else { Ok(model) }
}

fn read_piece(bytes: &[u8]) -> Option<Piece> {
    let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(piece)) => text = String::from_utf8(piece.to_vec()).ok()?,
            (2, Field::Fixed(bits)) => score = f32::from_bits(bits),
            (3, Field::Number(number)) => kind = number,
            _ => {}
        }
    }
    let kind = match kind {
        2 => UNKNOWN,
        3 => CONTROL,
        5 => UNUSED,
        6 => BYTE,
        // What the model's maker marked as text of its own comes with the added tokens.
        _ => NORMAL,
    };
    Some(Piece { text, kind, score })
}

/// A field of a protocol buffer.
enum Field<'a> {
    Number(u64),
    Fixed(u32),
    Bytes(&'a [u8]),
    Other,
}

/// Fields with their numbers; nothing for bytes that are none.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Scores that make llama.cpp merge as these merges do. `added` are texts that are taken out of a text before anything is
/// merged, so that nothing about them matters.
pub(super) fn scores(
    merges: &[(String, String)],
    ids: &HashMap<&str, usize>,
    added: &HashSet<&str>,
) -> Result<Vec<(usize, f32)>, FolderError> {
    const PLACE: &str = "tokenizer.json: model.merges";
    let mut scores: Vec<(usize, f32)> = Vec::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut pairs = 0;
    for (left, right) in merges {
        let joined = format!("{left}{right}");
        let Some(&id) = ids.get(joined.as_str()) else {
            return refused(PLACE, format!("{left:?} and {right:?} make {joined:?}, which is no token"));
        };
        if [left.as_str(), right, &joined].iter().any(|text| added.contains(text)) {
            continue;
        }
        pairs += 1;
        match seen.get(&id) {
            Some(at) if at + 1 == scores.len() => {}
            Some(_) => return refused(PLACE, format!("{joined:?} is made at two ranks, which scores cannot say")),
            None => {
                seen.insert(id, scores.len());
                scores.push((id, -(scores.len() as f32)));
            }
        }
    }
    // llama.cpp joins any two tokens whose join is a token: every way to split each token must be a merge.
    let plain = |text: &str| ids.contains_key(text) && !added.contains(text);
    let splits = |text: &str| {
        let ways = text.char_indices().skip(1);
        ways.filter(|(at, _)| plain(&text[..*at]) && plain(&text[*at..])).count()
    };
    let made = ids.iter().filter(|(text, id)| seen.contains_key(id) && !added.contains(**text));
    let possible: usize = made.map(|(text, _)| splits(text)).sum();
    if possible != pairs {
        let problem = format!("{pairs} merges where a SentencePiece model of these tokens has {possible}");
        return refused(PLACE, problem);
    }
    Ok(scores)
}

/// How text is prepared: whether a space goes in front. Anything but spaces as `▁` is refused.
pub(super) fn prefix(tokenizer: &Json) -> Result<bool, FolderError> {
    let place = |what: &str| format!("tokenizer.json: {what}");
    let mut prefix = None;
    let normalizer = tokenizer.inside("normalizer");
    let list = |json: &Json, key: &str| -> Vec<serde_json::Value> {
        json.get(key).and_then(|list| list.as_array().cloned()).unwrap_or_else(|| vec![json.value.clone()])
    };
    for step in normalizer.iter().flat_map(|json| list(json, "normalizers")) {
        let text = |key: &str| step.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let pattern = step.get("pattern").and_then(|p| p.get("String")?.as_str()).unwrap_or_default();
        match text("type").as_str() {
            "Prepend" if text("prepend") == "▁" => prefix = Some(true),
            "Replace" if pattern == " " && text("content") == "▁" => prefix = prefix.or(Some(false)),
            _ => return refused(place("normalizer"), format!("{step} is not how SentencePiece prepares text")),
        }
    }
    let pre = tokenizer.inside("pre_tokenizer");
    for step in pre.iter().flat_map(|json| list(json, "pretokenizers")) {
        let text = |key: &str| step.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let pattern = step.get("pattern").and_then(|p| p.get("String")?.as_str()).unwrap_or_default();
        match text("type").as_str() {
            "Metaspace" if text("replacement") == "▁" && step.get("split") == Some(&false.into()) => {
                prefix = Some(text("prepend_scheme") != "never");
            }
            // After the replacement no space is left to split at.
            "Split" if pattern == " " && prefix.is_some() => {}
            _ => return refused(place("pre_tokenizer"), format!("{step} is not how SentencePiece prepares text")),
        }
    }
    match prefix {
        Some(prefix) => Ok(prefix),
        None => refused(place("normalizer"), "spaces are not written as ▁, so this is no SentencePiece vocabulary"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut inner = vec![0x0A, text.len() as u8];
        inner.extend(text.as_bytes());
        inner.push(0x15);
        inner.extend(score.to_bits().to_le_bytes());
        inner.extend([0x18, kind]);
        let mut outer = vec![0x0A, inner.len() as u8];
        outer.extend(inner);
        outer
    }

    #[test]
    fn a_model_is_read_field_by_field() {
        let mut bytes = piece("<unk>", 0.0, 2);
        bytes.extend(piece("<s>", 0.0, 3));
        bytes.extend(piece("<0x0A>", 0.0, 6));
        bytes.extend(piece("▁the", -3.5, 1));
        bytes.extend([0x12, 2, 0x18, 2]);
        bytes.extend([0x1A, 2, 0x18, 0]);
        let model = read(&bytes).unwrap();
        assert!(!model.prefix);
        let kinds: Vec<i32> = model.pieces.iter().map(|p| p.kind).collect();
        assert_eq!(kinds, [UNKNOWN, CONTROL, BYTE, NORMAL]);
        assert_eq!((model.pieces[3].text.as_str(), model.pieces[3].score), ("▁the", -3.5));
        let mut unigram = piece("a", 0.0, 1);
        unigram.extend([0x12, 2, 0x18, 1]);
        assert!(read(&unigram).err().unwrap().to_string().contains("unigram"));
        for length in 1..bytes.len() {
            // Whatever is cut off, it is read as less or refused, never believed beyond its end.
            let _ = read(&bytes[..length]);
        }
        assert!(read(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF").is_err() && read(b"").is_err());
    }

    #[test]
    fn merges_of_a_sentencepiece_model_are_scores_and_others_are_refused() {
        let texts = ["a", "b", "c", "ab", "bc", "abc"];
        let ids: HashMap<&str, usize> = texts.iter().enumerate().map(|(id, text)| (*text, id)).collect();
        let merge = |list: &[(&str, &str)]| {
            let merges: Vec<_> = list.iter().map(|(l, r)| ((*l).to_owned(), (*r).to_owned())).collect();
            scores(&merges, &ids, &HashSet::from(["zz"]))
        };
        let all = merge(&[("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c")]).unwrap();
        assert_eq!(all, [(3, -0.0), (4, -1.0), (5, -2.0)]);
        assert!(merge(&[("a", "b"), ("b", "c"), ("ab", "c")]).unwrap_err().to_string().contains("3 merges"));
        assert!(merge(&[("a", "bc"), ("a", "b"), ("ab", "c")]).unwrap_err().to_string().contains("two ranks"));
        assert!(merge(&[("a", "c")]).unwrap_err().to_string().contains("no token"));
    }
}
