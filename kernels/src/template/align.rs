//! Finds the contents of messages in a rendered prompt with the help of a second rendering that has
//! placeholders in their place.
//!
//! What never lives here: rendering, tokens.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::{Segment, SegmentKind};

/// One unguessable word per content. An empty content keeps its emptiness, because templates ask
/// whether a content is empty.
pub(super) fn placeholders(contents: &[&str]) -> Vec<String> {
    // Two hashers with fresh random keys: 128 bits that a content cannot guess.
    let word = |seed: u64| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(seed);
        hasher.finish()
    };
    let nonce = format!("{:016x}{:016x}", word(1), word(2));
    contents
        .iter()
        .enumerate()
        .map(|(i, content)| match content.is_empty() {
            true => String::new(),
            false => format!("q{nonce}n{i}e"),
        })
        .collect()
}

enum Part<'a> {
    Markup(&'a str),
    Content(usize),
}

/// Segments whose texts together are `truth`, or `None` where the contents cannot be found in it as
/// they are or trimmed.
pub(super) fn segments(truth: &str, masked: &str, placeholders: &[String], contents: &[&str]) -> Option<Vec<Segment>> {
    let parts = split(masked, placeholders);
    let mut segments: Vec<Segment> = Vec::with_capacity(parts.len());
    let mut rest = truth;
    for (i, part) in parts.iter().enumerate() {
        let (text, kind, message) = match part {
            Part::Markup(text) => (*text, SegmentKind::Markup, None),
            Part::Content(index) => {
                let next = match parts.get(i + 1) {
                    Some(Part::Markup(text)) => text,
                    Some(Part::Content(_)) => "",
                    None => "",
                };
                let last = i + 1 == parts.len();
                let found = variants(contents[*index]).into_iter().find(|v| {
                    rest.strip_prefix(v).is_some_and(|after| after.starts_with(next) && (!last || after.is_empty()))
                })?;
                (found, SegmentKind::Content, Some(*index))
            }
        };
        rest = rest.strip_prefix(text)?;
        if !text.is_empty() {
            segments.push(Segment { text: text.to_owned(), kind, message });
        }
    }
    rest.is_empty().then_some(segments)
}

/// What templates make of a content and still call it the content.
fn variants(content: &str) -> [&str; 5] {
    [content, content.trim(), content.trim_end(), content.trim_start(), content.trim_matches('\n')]
}

fn split<'a>(masked: &'a str, placeholders: &[String]) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let Some(prefix) = placeholders.iter().find(|p| !p.is_empty()).and_then(|p| p.rfind('n').map(|end| &p[..=end]))
    else {
        return vec![Part::Markup(masked)];
    };
    let mut rest = masked;
    while let Some(at) = rest.find(prefix) {
        let after = &rest[at + prefix.len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let index = after[..digits].parse::<usize>().ok();
        let whole = index.filter(|&i| placeholders.get(i).is_some_and(|p| rest[at..].starts_with(p.as_str())));
        let Some(index) = whole else { break };
        if at > 0 {
            parts.push(Part::Markup(&rest[..at]));
        }
        parts.push(Part::Content(index));
        rest = &rest[at + placeholders[index].len()..];
    }
    if !rest.is_empty() {
        parts.push(Part::Markup(rest));
    }
    parts
}
