//! Tells apart what a model says: the answer, what it thought before it, and the calls of tools that it writes between
//! tags. Nothing is dropped: what only looks like a call is given out as text.
//!
//! What never lives here: tokens, the grammar that calls keep to (see `crate::serve::grammar`).

use hone_protocol::worker::Finish;

use crate::serve::grammar::{CALL_ARGUMENTS, CALL_NAME, CALL_TAGS};

/// Around what a model thinks.
pub(super) const THINK_OPEN: &str = "<think>";
/// Its end.
pub(super) const THINK_CLOSE: &str = "</think>";
/// Longest name of a tool, in bytes; the daemon takes no longer one.
const NAME_BYTES_MAX: usize = 64;

/// A stretch of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Reasoning(String),
    Call { index: u32, name: String },
    Arguments { index: u32, text: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing but white space was said; a thought may begin.
    Start,
    Think,
    Text,
    /// After the opening tag of a call.
    Head,
    /// In the arguments: open brackets, and whether in a text and behind a backslash there.
    Arguments {
        depth: u32,
        in_text: bool,
        escaped: bool,
    },
    /// After the arguments, before the closing tag.
    Tail,
}

/// Listens to one answer.
#[derive(Debug)]
pub(super) struct Ear {
    mode: Mode,
    /// Said, but not understood yet.
    held: String,
    calls: bool,
    index: u32,
    /// White space is passed over until something else comes.
    trims: bool,
}

impl Ear {
    /// For an answer that may think first (`thinks`; `thinking` when the prompt began the thought) and call tools.
    pub(super) fn new(thinks: bool, thinking: bool, calls: bool) -> Self {
        let mode = match (thinking, thinks) {
            (true, _) => Mode::Think,
            (false, true) => Mode::Start,
            (false, false) => Mode::Text,
        };
        Self { mode, held: String::new(), calls, index: 0, trims: thinking }
    }

    /// Takes more text. What it gives back ends where `is_holding` begins.
    pub(super) fn hear(&mut self, text: &str) -> Vec<Said> {
        self.held.push_str(text);
        let mut said = Vec::new();
        while self.go_on(&mut said) {}
        said
    }

    /// Whether something was said that is not given out yet.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The rest, when nothing more comes.
    pub(super) fn end(&mut self) -> Vec<Said> {
        let rest = std::mem::take(&mut self.held);
        match self.mode {
            Mode::Head => vec![Said::Text(format!("{}{rest}", CALL_TAGS.open))],
            Mode::Think if !rest.is_empty() => vec![Said::Reasoning(rest)],
            Mode::Start | Mode::Text if !rest.is_empty() => vec![Said::Text(rest)],
            _ => Vec::new(),
        }
    }

    /// Why the answer ended, as the client is told.
    pub(super) fn finish(&self, finish: Finish) -> Finish {
        match finish {
            Finish::Stop | Finish::StopText(_) if self.index > 0 => Finish::Calls,
            other => other,
        }
    }

    /// Whether there were calls.
    pub(super) fn heard_calls(&self) -> bool {
        self.index > 0
    }

    /// One step; false when more must be heard first.
    fn go_on(&mut self, said: &mut Vec<Said>) -> bool {
        if self.trims && matches!(self.mode, Mode::Text | Mode::Think) {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
            self.trims = self.held.is_empty();
        }
        match self.mode {
            Mode::Start => self.start(),
            Mode::Think => self.until(THINK_CLOSE, Mode::Text, said),
            Mode::Text if self.calls => self.until(CALL_TAGS.open, Mode::Head, said),
            Mode::Text => self.give(self.held.len(), said),
            Mode::Head => self.head(said),
            Mode::Arguments { .. } => self.arguments(said),
            Mode::Tail => match self.held.find(CALL_TAGS.close) {
                Some(at) => {
                    self.held.drain(..at + CALL_TAGS.close.len());
                    self.index += 1;
                    (self.mode, self.trims) = (Mode::Text, true);
                    true
                }
                None => false,
            },
        }
    }

    fn start(&mut self) -> bool {
        let begun = self.held.trim_start();
        if let Some(thought) = begun.strip_prefix(THINK_OPEN) {
            self.held = thought.to_owned();
            (self.mode, self.trims) = (Mode::Think, true);
            return true;
        }
        if THINK_OPEN.starts_with(begun) {
            return false;
        }
        self.mode = Mode::Text;
        true
    }

    /// Gives out what comes before a tag, and goes over to the next mode behind it.
    fn until(&mut self, tag: &str, next: Mode, said: &mut Vec<Said>) -> bool {
        if let Some(at) = self.held.find(tag) {
            self.give(at, said);
            self.held.drain(..tag.len());
            (self.mode, self.trims) = (next, next == Mode::Text);
            return true;
        }
        let partial = (1..tag.len()).rev().find(|&n| self.held.ends_with(&tag[..n])).unwrap_or(0);
        self.give(self.held.len() - partial, said);
        false
    }

    fn give(&mut self, bytes: usize, said: &mut Vec<Said>) -> bool {
        let text: String = self.held.drain(..bytes).collect();
        if !text.is_empty() {
            said.push(if self.mode == Mode::Think { Said::Reasoning(text) } else { Said::Text(text) });
        }
        false
    }

    fn head(&mut self, said: &mut Vec<Said>) -> bool {
        let begun = self.held.trim_start();
        let Some(rest) = begun.strip_prefix(CALL_NAME) else {
            return !CALL_NAME.starts_with(begun) && self.is_no_call(said);
        };
        match rest.find(CALL_ARGUMENTS) {
            Some(at) if at <= NAME_BYTES_MAX => {
                said.push(Said::Call { index: self.index, name: rest[..at].to_owned() });
                self.held = rest[at + CALL_ARGUMENTS.len()..].to_owned();
                self.mode = Mode::Arguments { depth: 0, in_text: false, escaped: false };
                true
            }
            None if rest.len() <= NAME_BYTES_MAX + CALL_ARGUMENTS.len() => false,
            _ => self.is_no_call(said),
        }
    }

    /// What followed the tag is no call: all of it was text, and so is the rest.
    fn is_no_call(&mut self, said: &mut Vec<Said>) -> bool {
        said.push(Said::Text(CALL_TAGS.open.to_owned()));
        (self.mode, self.calls) = (Mode::Text, false);
        true
    }

    fn arguments(&mut self, said: &mut Vec<Said>) -> bool {
        let Mode::Arguments { mut depth, mut in_text, mut escaped } = self.mode else { return false };
        let mut end = None;
        for (at, byte) in self.held.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b'}' | b']' if !in_text => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        end = Some(at + 1);
                        break;
                    }
                }
                _ => {}
            }
        }
        let text: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
        if !text.is_empty() {
            said.push(Said::Arguments { index: self.index, text });
        }
        self.mode = if end.is_some() { Mode::Tail } else { Mode::Arguments { depth, in_text, escaped } };
        end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO_CALLS: &str = "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ul}m\\\"\", \"days\": [1]}}\n</tool_call>\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";

    /// Everything that was said, neighbours of one kind put together.
    fn listen(ear: &mut Ear, pieces: &[&str]) -> Vec<Said> {
        let mut all: Vec<Said> = Vec::new();
        let mut take = |said: Vec<Said>| {
            for s in said {
                match (all.last_mut(), s) {
                    (Some(Said::Text(t)), Said::Text(more)) => t.push_str(&more),
                    (Some(Said::Reasoning(t)), Said::Reasoning(more)) => t.push_str(&more),
                    (Some(Said::Arguments { text, .. }), Said::Arguments { text: more, .. }) => text.push_str(&more),
                    (_, s) => all.push(s),
                }
            }
        };
        for piece in pieces {
            take(ear.hear(piece));
        }
        take(ear.end());
        all
    }

    fn text(t: &str) -> Said {
        Said::Text(t.into())
    }

    fn calls() -> Vec<Said> {
        vec![
            text("Let me look.\n"),
            Said::Call { index: 0, name: "weather".into() },
            Said::Arguments { index: 0, text: "{\"city\": \"Ul}m\\\"\", \"days\": [1]}".into() },
            Said::Call { index: 1, name: "time".into() },
            Said::Arguments { index: 1, text: "{}".into() },
        ]
    }

    #[test]
    fn thoughts_answers_and_calls_are_told_apart() {
        let mut ear = Ear::new(true, false, true);
        let whole = format!("\n<think>\nHm. 2 < 3\n</think>\n\n{TWO_CALLS}");
        let said = listen(&mut ear, &[&whole]);
        assert_eq!(said[0], Said::Reasoning("Hm. 2 < 3\n".into()));
        assert_eq!(said[1..], calls());
        assert_eq!(ear.finish(Finish::Stop), Finish::Calls);
        assert_eq!(ear.finish(Finish::Length), Finish::Length);
        // The template began the thought.
        assert_eq!(
            listen(&mut Ear::new(true, true, false), &["so", "</thi", "nk>yes"]),
            [Said::Reasoning("so".into()), text("yes")]
        );
        // A model that may think need not.
        assert_eq!(listen(&mut Ear::new(true, false, false), &["<th", "ree"]), [text("<three")]);
    }

    #[test]
    fn what_only_looks_like_a_call_stays_text() {
        for whole in [
            "<tool_call>hello</tool_call>",
            "<tool_call>\n{\"nam\": 1}",
            "a <tool_cal",
            "<tool_call>\n{\"name\": \"x",
            "<think>no tag of ours</think>",
        ] {
            let mut ear = Ear::new(false, false, true);
            assert_eq!(listen(&mut ear, &[whole]), [text(whole)], "{whole}");
            assert_eq!(ear.finish(Finish::Stop), Finish::Stop);
        }
        // Without tools tags are text.
        assert_eq!(listen(&mut Ear::new(false, false, false), &[TWO_CALLS]), [text(TWO_CALLS)]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0usize..200, 0..30)) {
            let whole = TWO_CALLS;
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| c < whole.len()).chain([0, whole.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|w| &whole[w[0]..w[1]]).collect();
            prop_assert_eq!(listen(&mut Ear::new(false, false, true), &pieces), calls());
        }
    }
}
