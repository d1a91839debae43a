//! What a guard looks for, compiled: expressions with the length that a match can have, and whether a text that ends somewhere could
//! still become a match. Never here: what becomes of a match, what has been told already.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use hone_protocol::failure::Failure;
use hone_protocol::guard::{GuardSpec, MASK, PATTERN_BYTES_MAX, PATTERNS_MAX, WINDOW_BYTES, WORD_BYTES_MAX, WORDS_MAX};
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

use hone_data::pii::{self, Rule};

/// Memory of a compiled expression. A bigger one is refused.
const NFA_BYTES_MAX: usize = 4 << 20;
/// Memory of one set of states that are made while a text is looked at; past it they are made anew.
const STATES_BYTES_MAX: usize = 1 << 20;
/// Sets of states that are kept for the next text.
const STATES_KEPT: usize = 8;

/// One thing to look for.
pub(super) struct Part {
    regex: Regex,
    /// Says whether a match could still begin at a place. It has no answer where words are told apart in the whole of Unicode.
    automaton: DFA,
    states: Mutex<Vec<dfa::Cache>>,
    /// Longest match in bytes.
    pub(super) bytes_max: usize,
    rule: Option<Rule>,
    /// What stands in the place of a match.
    pub(super) mask: &'static str,
    /// What it is: `word`, `pattern` or a kind of personal data.
    pub(super) what: &'static str,
}

impl Part {
    fn new(source: &str, rule: Option<Rule>, mask: &'static str, what: &'static str) -> Result<Part, String> {
        let hir = regex_syntax::ParserBuilder::new().nest_limit(64).build().parse(source);
        let hir: Hir = hir.map_err(|error| last_line(&error.to_string()))?;
        let properties = hir.properties();
        if properties.minimum_len() == Some(0) {
            return Err("it matches the empty text".into());
        }
        let bytes_max = properties.maximum_len().filter(|most| *most <= WINDOW_BYTES).unwrap_or(WINDOW_BYTES);
        let meta = meta::Config::new().nfa_size_limit(Some(NFA_BYTES_MAX)).match_kind(MatchKind::LeftmostFirst);
        let nest = syntax::Config::new().nest_limit(64);
        let regex = meta::Builder::new().configure(meta).syntax(nest).build(source);
        let regex = regex.map_err(|_| "it is too big".to_owned())?;
        let hybrid = DFA::config()
            .match_kind(MatchKind::LeftmostFirst)
            .unicode_word_boundary(true)
            .cache_capacity(STATES_BYTES_MAX)
            .skip_cache_capacity_check(true);
        let thompson = regex_automata::nfa::thompson::Config::new().nfa_size_limit(Some(NFA_BYTES_MAX));
        let automaton = DFA::builder().configure(hybrid).thompson(thompson).syntax(nest).build(source);
        let automaton = automaton.map_err(|_| "it is too big".to_owned())?;
        Ok(Part { regex, automaton, states: Mutex::default(), bytes_max, rule, mask, what })
    }

    /// The first match that begins at a byte or later. It follows from at most [`Part::bytes_max`] bytes from its beginning and a
    /// character on each side.
    pub(super) fn first(&self, text: &str, mut from: usize) -> Option<Range<usize>> {
        loop {
            let found = self.regex.search(&Input::new(text).range(from..))?;
            let start = found.start();
            let range = match found.len() > self.bytes_max {
                // The same beginning, and no further than is ever waited for.
                true => {
                    let mut end = start + self.bytes_max;
                    while !text.is_char_boundary(end) {
                        end -= 1;
                    }
                    self.regex.search(&Input::new(text).range(start..end).anchored(Anchored::Yes)).map(|m| m.range())
                }
                false => Some(found.range()),
            };
            let judged = range.filter(|range| !range.is_empty()).and_then(|range| match self.rule {
                Some(rule) => pii::judge(text, range, rule).map(|end| start..end),
                None => Some(range),
            });
            match judged {
                Some(range) => return Some(range),
                None if start >= text.len() => return None,
                None => from = pii::next_character(text, start),
            }
        }
    }

    /// The first place from a byte on where a match could begin that the text does not decide yet; the text's end where there is none.
    pub(super) fn undecided(&self, text: &str, from: usize) -> usize {
        let kept = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut states = kept.unwrap_or_else(|| self.automaton.create_cache());
        // Before this a match would be over.
        let mut at = from.max(text.len().saturating_sub(self.bytes_max));
        while !text.is_char_boundary(at) {
            at += 1;
        }
        while at < text.len() && !self.could_begin(&mut states, text, at) {
            at = pii::next_character(text, at);
        }
        let mut kept = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < STATES_KEPT {
            kept.push(states);
        }
        at
    }

    /// Whether more text could make, change or end a match that begins here.
    fn could_begin(&self, states: &mut dfa::Cache, text: &str, at: usize) -> bool {
        let input = Input::new(text).range(at..).anchored(Anchored::Yes);
        let Ok(mut state) = self.automaton.start_state_forward(states, &input) else { return true };
        for &byte in &text.as_bytes()[at..] {
            state = match self.automaton.next_state(states, state, byte) {
                Ok(next) => next,
                // It has no room for states or no answer: wait as long as a match can be.
                Err(_) => return true,
            };
            if state.is_dead() {
                return false;
            }
            if state.is_quit() {
                return true;
            }
        }
        true
    }
}

/// The sentence of an error that draws a picture of the expression first.
fn last_line(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// One expression for all words, the longest first.
fn of_words(words: &[String]) -> String {
    let mut sorted: Vec<&str> = words.iter().map(|word| word.trim()).collect();
    sorted.sort_by_key(|word| (std::cmp::Reverse(word.len()), *word));
    let one = |word: &str| {
        let edge = |c: Option<char>| if c.is_some_and(|c| c.is_ascii_alphanumeric()) { r"(?-u:\b)" } else { "" };
        let (first, last) = (edge(word.chars().next()), edge(word.chars().next_back()));
        format!("{first}{}{last}", regex_syntax::escape(word))
    };
    let all: Vec<String> = sorted.into_iter().map(one).collect();
    format!("(?i)(?:{})", all.join("|"))
}

/// Everything that a guard looks for; what is wrong with it is named.
pub(super) fn parts(spec: &GuardSpec) -> Result<Vec<Part>, Failure> {
    if spec.words.len() > WORDS_MAX || spec.patterns.len() > PATTERNS_MAX {
        let message = format!("a guard has at most {WORDS_MAX} words and {PATTERNS_MAX} patterns");
        return Err(Failure::field("words", message));
    }
    if let Some(word) = spec.words.iter().find(|word| word.trim().is_empty() || word.len() > WORD_BYTES_MAX) {
        let shown: String = word.chars().take(40).collect();
        return Err(Failure::field("words", format!("{shown:?} is no word of 1 to {WORD_BYTES_MAX} bytes")));
    }
    let mut parts = Vec::new();
    if !spec.words.is_empty() {
        let part = Part::new(&of_words(&spec.words), None, MASK, "word");
        parts
            .push(part.map_err(|reason| Failure::field("words", format!("the words cannot be looked for: {reason}")))?);
    }
    for pattern in &spec.patterns {
        let wrong = |reason: String| {
            let shown: String = pattern.chars().take(80).collect();
            Failure::field("patterns", format!("the pattern {shown:?} cannot be used: {reason}"))
        };
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(wrong(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        parts.push(Part::new(pattern, None, MASK, "pattern").map_err(wrong)?);
    }
    for &kind in &spec.kinds {
        let part = Part::new(pii::expression(kind), Some(pii::rule(kind)), kind.mask(), kind.word());
        parts.push(part.map_err(|reason| Failure::field("kinds", reason))?);
    }
    if parts.is_empty() {
        return Err(Failure::field("words", "a guard needs words, patterns or kinds to look for"));
    }
    Ok(parts)
}
