//! Looking through a text that comes in pieces, so that what passes is the same however it is cut: what could still become a match
//! is held back until that is decided. Here too: JSON, whose texts are looked at as they are meant and passed on as they are
//! written. Never here: answers, tokens, what is counted.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use hone_protocol::guard::GuardAct;

use super::Guard;

/// What became of a part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bit {
    /// It passes.
    Plain(String),
    /// So many bytes are replaced.
    Mask {
        /// By this.
        mask: &'static str,
        /// So many.
        bytes: usize,
        /// By which guard of the list.
        guard: usize,
    },
    /// It passes, and was counted: nothing stands here.
    Flag(usize),
    /// The text ends here.
    Refused(usize),
}

/// A match that is decided.
struct Found {
    range: Range<usize>,
    guard: usize,
    act: GuardAct,
    mask: &'static str,
    what: &'static str,
}

/// The match that counts among those that begin first: one that refuses before others, then the longest.
fn first(guards: &[Arc<Guard>], text: &str, from: usize) -> Option<Found> {
    let all =
        guards.iter().enumerate().flat_map(|(at, guard)| guard.parts.iter().map(move |part| (at, guard.act, part)));
    let found = all.filter_map(|(guard, act, part)| {
        part.first(text, from).map(|range| Found { range, guard, act, mask: part.mask, what: part.what })
    });
    found.min_by_key(|f| (f.range.start, f.act != GuardAct::Refuse, std::cmp::Reverse(f.range.end)))
}

/// All matches in a whole text, in order: their bytes, the number of their guard, and what they are.
pub(super) fn matches(guards: &[Arc<Guard>], text: &str) -> Vec<(Range<usize>, usize, &'static str)> {
    let (mut all, mut from) = (Vec::new(), 0);
    while let Some(found) = first(guards, text, from) {
        from = found.range.end;
        all.push((found.range, found.guard, found.what));
    }
    all
}

/// Looks through one text.
pub(super) struct Scanner {
    guards: Arc<[Arc<Guard>]>,
    /// The character before what is undecided, then what is.
    buffer: String,
    /// Bytes of the buffer that are decided.
    done: usize,
}

impl Scanner {
    pub(super) fn new(guards: Arc<[Arc<Guard>]>) -> Scanner {
        Scanner { guards, buffer: String::new(), done: 0 }
    }

    /// Bytes that are held back.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.len() - self.done
    }

    /// Takes more of the text, or with `is_last` its end; gives what is decided by it.
    pub(super) fn push(&mut self, text: &str, is_last: bool) -> Vec<Bit> {
        self.buffer.push_str(text);
        let end = self.buffer.len();
        let parts = || self.guards.iter().flat_map(|guard| &guard.parts);
        let mut bits = Vec::new();
        loop {
            let decided = match is_last {
                true => end,
                false => parts().map(|part| part.undecided(&self.buffer, self.done)).min().unwrap_or(end),
            };
            let found = first(&self.guards, &self.buffer, self.done);
            let Some(found) = found.filter(|found| found.range.start < decided) else {
                if decided > self.done {
                    bits.push(Bit::Plain(self.buffer[self.done..decided].to_owned()));
                    self.done = decided;
                }
                break;
            };
            if found.range.start > self.done {
                bits.push(Bit::Plain(self.buffer[self.done..found.range.start].to_owned()));
            }
            self.done = found.range.end;
            match found.act {
                GuardAct::Mask => {
                    let (mask, bytes, guard) = (found.mask, found.range.len(), found.guard);
                    bits.push(Bit::Mask { mask, bytes, guard });
                }
                GuardAct::Flag => {
                    bits.push(Bit::Flag(found.guard));
                    bits.push(Bit::Plain(self.buffer[found.range].to_owned()));
                }
                GuardAct::Refuse => {
                    bits.push(Bit::Refused(found.guard));
                    break;
                }
            }
        }
        let before = self.buffer[..self.done].chars().next_back().map_or(0, char::len_utf8);
        self.buffer.drain(..self.done - before);
        self.done = before;
        bits
    }
}

/// What is no escape means this.
const UNKNOWN: char = '\u{fffd}';

/// One character of JSON as it is meant, and as it is written.
struct Letter {
    meant: char,
    written: String,
    /// Whether it is inside a text.
    is_inside: bool,
}

/// Reads JSON that comes in pieces: the characters as they are meant.
#[derive(Default)]
pub(super) struct Letters {
    /// What was read and is not decided.
    waiting: VecDeque<Letter>,
    /// An escape that is not whole.
    escape: String,
    is_inside: bool,
}

impl Letters {
    /// Takes more of it; gives the same as it is meant.
    pub(super) fn read(&mut self, text: &str, is_last: bool) -> String {
        let mut meant = String::new();
        text.chars().for_each(|c| self.hear(c, &mut meant));
        if is_last && !self.escape.is_empty() {
            let written = std::mem::take(&mut self.escape);
            self.add(UNKNOWN, written, true, &mut meant);
        }
        meant
    }

    fn hear(&mut self, c: char, text: &mut String) {
        if !self.escape.is_empty() || (self.is_inside && c == '\\') {
            self.escape.push(c);
            let Some(letter) = unescaped(&self.escape) else { return };
            let mut written = std::mem::take(&mut self.escape);
            if letter != UNKNOWN {
                return self.add(letter, written, true, text);
            }
            // What follows the beginning of something that is no escape is read by itself, so that nothing hides in it.
            let rest = written.split_off(written.char_indices().nth(2).map_or(written.len(), |(at, _)| at));
            self.add(letter, written, true, text);
            return rest.chars().for_each(|c| self.hear(c, text));
        }
        if c == '"' {
            self.is_inside = !self.is_inside;
        }
        self.add(c, c.to_string(), self.is_inside && c != '"', text);
    }

    fn add(&mut self, meant: char, written: String, is_inside: bool, text: &mut String) {
        text.push(meant);
        self.waiting.push_back(Letter { meant, written, is_inside });
    }

    fn take(&mut self, mut bytes: usize) -> Vec<Letter> {
        let mut letters = Vec::new();
        while bytes > 0 {
            let Some(letter) = self.waiting.pop_front() else { break };
            bytes = bytes.saturating_sub(letter.meant.len_utf8());
            letters.push(letter);
        }
        letters
    }

    /// The same bits over what is written. A mask outside of texts becomes a text; one over a text's end cannot be written.
    pub(super) fn written(&mut self, bits: Vec<Bit>) -> Vec<(Bit, usize)> {
        let mut all = Vec::new();
        for bit in bits {
            match bit {
                Bit::Plain(meant) => {
                    let written: String = self.take(meant.len()).into_iter().map(|letter| letter.written).collect();
                    let bytes = written.len();
                    all.push((Bit::Plain(written), bytes));
                }
                Bit::Mask { mask, bytes, guard } => {
                    let letters = self.take(bytes);
                    let written = letters.iter().map(|letter| letter.written.len()).sum();
                    let inside = letters.iter().filter(|letter| letter.is_inside).count();
                    let has_end = letters.iter().any(|letter| letter.meant == '"' && !letter.is_inside);
                    if has_end || (inside > 0 && inside < letters.len()) {
                        all.push((Bit::Refused(guard), 0));
                        break;
                    }
                    let quote = if inside == 0 { "\"" } else { "" };
                    // Pieces around the mask, so that its own text stays a constant.
                    if !quote.is_empty() {
                        all.push((Bit::Plain(quote.into()), 0));
                    }
                    all.push((Bit::Mask { mask, bytes: written, guard }, written));
                    if !quote.is_empty() {
                        all.push((Bit::Plain(quote.into()), 0));
                    }
                }
                other => all.push((other, 0)),
            }
        }
        all
    }
}

/// What an escape means; nothing while it is not whole. What is no escape means a replacement character.
fn unescaped(escape: &str) -> Option<char> {
    let mut rest = escape.strip_prefix('\\').unwrap_or(escape).chars();
    let unknown = Some(UNKNOWN);
    match rest.next()? {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        c @ ('"' | '\\' | '/') => Some(c),
        'u' => match hex(rest.as_str()) {
            Hex::Begun => None,
            Hex::Wrong => unknown,
            // The first half of a pair: the second may follow.
            Hex::Code(0xd800..=0xdbff, second) if "\\u".starts_with(second) => None,
            Hex::Code(high @ 0xd800..=0xdbff, second) => match second.strip_prefix("\\u").map(hex) {
                Some(Hex::Begun) => None,
                Some(Hex::Code(low @ 0xdc00..=0xdfff, _)) => {
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                }
                _ => unknown,
            },
            Hex::Code(code, _) => char::from_u32(code).or(unknown),
        },
        _ => unknown,
    }
}

/// Four digits, and what follows them.
enum Hex<'t> {
    Begun,
    Wrong,
    Code(u32, &'t str),
}

fn hex(text: &str) -> Hex<'_> {
    if text.chars().take(4).any(|c| !c.is_ascii_hexdigit()) {
        return Hex::Wrong;
    }
    match text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(code) => Hex::Code(code, &text[4..]),
        None => Hex::Begun,
    }
}
