//! Gates: what must be measured of a version before an alias moves to it. A gate is a small predicate that is written as text,
//! read and judged here, and knows nothing of how evaluations are kept. Never here: looking anything up, moving anything.
//!
//! `score(exam) >= 0.8 and loss(exam) <= loss(exam, current) + 0.05`: comparisons with `and` between them; each side is a sum of
//! numbers and figures; a figure is of the new version, or of the one that the alias points at now.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Longest gate in bytes.
pub const GATE_BYTES_MAX: usize = 1000;
/// Most comparisons.
const COMPARISONS_MAX: usize = 16;
/// Most terms on one side.
const TERMS_MAX: usize = 8;
/// What two figures may differ by and still be the same: sums of decimal fractions are not exact.
const SAME: f64 = 1e-9;

/// A gate that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    comparisons: Vec<Comparison>,
}

#[derive(Debug, Clone, PartialEq)]
struct Comparison {
    /// As it was typed.
    text: String,
    left: Vec<(f64, Term)>,
    sign: Sign,
    right: Vec<(f64, Term)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Least,
    Above,
    Most,
    Below,
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Number(f64),
    Figure(Asked),
}

/// A figure that a gate asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// What of an evaluation.
    pub figure: Figure,
    /// Name of the suite; empty for the newest evaluation that has the figure.
    pub suite: String,
    /// Whether of the version that the alias points at now.
    pub current: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Mean rule score, 0 to 1.
    Score,
    /// Mean loss in nats per token.
    Loss,
    /// Its exponential.
    Perplexity,
    /// Rows judged.
    Rows,
}

impl Figure {
    /// All of them with their words.
    pub const WORDS: [(Figure, &str); 4] =
        [(Figure::Score, "score"), (Figure::Loss, "loss"), (Figure::Perplexity, "perplexity"), (Figure::Rows, "rows")];
    /// Its word.
    pub fn word(self) -> &'static str {
        Figure::WORDS.iter().find(|(figure, _)| *figure == self).map_or("", |(_, word)| word)
    }
}

impl Asked {
    /// As a gate writes it.
    pub fn text(&self) -> String {
        let word = self.figure.word();
        match (self.suite.as_str(), self.current) {
            ("", false) => word.to_owned(),
            ("", true) => format!("{word}(current)"),
            (suite, false) => format!("{word}({suite})"),
            (suite, true) => format!("{word}({suite}, current)"),
        }
    }
}

/// What a look for a figure gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Looked {
    /// It was measured.
    Value(f64),
    /// It was not.
    Missing,
    /// There is no such version: the alias points at nothing yet.
    NoVersion,
}

/// Whether a gate lets a version through, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// The gate; empty when there is none.
    pub gate: String,
    /// `name@number` of the version that is to pass.
    pub version: String,
    /// `name@number` of what the alias points at now.
    pub current: Option<String>,
    /// Whether the alias may move.
    pub holds: bool,
    /// Each comparison.
    pub lines: Vec<GateLine>,
    /// Commands that measure what is missing.
    pub run: Vec<String>,
}

/// One comparison of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateLine {
    /// As it is written.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// Each figure with what was measured; nothing where that is missing.
    pub figures: Vec<(String, Option<f64>)>,
}

impl GateReport {
    /// One line that says why, in English: for failures, logs and history.
    pub fn words(&self) -> String {
        let figure = |(name, value): &(String, Option<f64>)| match value {
            Some(value) => format!("{name} is {}", number(*value)),
            None => format!("{name} is not measured yet"),
        };
        let line = |line: &GateLine| {
            let figures: Vec<String> = line.figures.iter().map(figure).collect();
            match figures.is_empty() {
                true => line.text.clone(),
                false => format!("{} ({})", line.text, figures.join(", ")),
            }
        };
        self.lines.iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

/// A figure with six digits at most.
pub fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Gate {
    /// Reads a gate.
    pub fn read(text: &str) -> Result<Gate, Failure> {
        if text.len() > GATE_BYTES_MAX {
            return Err(Failure::field("gate", format!("a gate has at most {GATE_BYTES_MAX} bytes")));
        }
        let mut reader = Reader { text, at: 0 };
        let mut comparisons = Vec::new();
        loop {
            comparisons.push(reader.comparison()?);
            reader.space();
            match reader.word() {
                "" if reader.rest().is_empty() => return Ok(Gate { comparisons }),
                "and" if comparisons.len() < COMPARISONS_MAX => reader.at += 3,
                "and" => return Err(reader.wrong(&format!("a gate has at most {COMPARISONS_MAX} comparisons"))),
                _ => return Err(reader.wrong("here `and` with another comparison may follow, or nothing")),
            }
        }
    }

    /// Every figure that is asked for, each once.
    pub fn asks(&self) -> Vec<Asked> {
        let terms = self.comparisons.iter().flat_map(|c| c.left.iter().chain(&c.right));
        let mut asked: Vec<Asked> = terms.filter_map(|(_, term)| term.asked().cloned()).collect();
        asked.sort();
        asked.dedup();
        asked
    }

    /// Judges each comparison. What compares with a version that is not there holds; what is not measured never does.
    pub fn judge(&self, look: impl Fn(&Asked) -> Looked) -> Vec<GateLine> {
        self.comparisons.iter().map(|comparison| comparison.judge(&look)).collect()
    }
}

impl Term {
    fn asked(&self) -> Option<&Asked> {
        match self {
            Term::Number(_) => None,
            Term::Figure(asked) => Some(asked),
        }
    }
}

impl Comparison {
    fn judge(&self, look: &impl Fn(&Asked) -> Looked) -> GateLine {
        let sum = |side: &[(f64, Term)]| {
            side.iter().try_fold(0.0, |sum, (factor, term)| match term {
                Term::Number(value) => Ok(sum + factor * value),
                Term::Figure(asked) => match look(asked) {
                    Looked::Value(value) => Ok(sum + factor * value),
                    other => Err(other),
                },
            })
        };
        let asked = self.left.iter().chain(&self.right).filter_map(|(_, term)| term.asked());
        let all: Vec<(&Asked, Looked)> = asked.map(|asked| (asked, look(asked))).collect();
        let holds = match (sum(&self.left), sum(&self.right)) {
            (Ok(left), Ok(right)) => self.sign.holds(left, right),
            // Nothing else may be missing beside a version that is not there.
            _ => all.iter().all(|(_, looked)| !matches!(looked, Looked::Missing)),
        };
        let value = |looked| if let Looked::Value(value) = looked { Some(value) } else { None };
        let figures = all.into_iter().map(|(asked, looked)| (asked.text(), value(looked))).collect();
        GateLine { text: self.text.clone(), holds, figures }
    }
}

impl Sign {
    /// Figures that are no numbers compare with nothing.
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Sign::Least => left - right >= -SAME,
            Sign::Above => left - right > SAME,
            Sign::Most => right - left >= -SAME,
            Sign::Below => right - left > SAME,
        }
    }
}

/// Reads a gate from left to right.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The letters that come next.
    fn word(&self) -> &'t str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())]
    }

    /// The name of a suite that comes next.
    fn name(&self) -> &'t str {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        &rest[..rest.find(|c: char| !is_part(c)).unwrap_or(rest.len())]
    }

    fn take(&mut self, text: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// What is wrong, with the column of where.
    fn wrong(&self, what: &str) -> Failure {
        let column = self.text.get(..self.at).unwrap_or(self.text).chars().count() + 1;
        let found: String = self.rest().chars().take(12).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        Failure::field("gate", format!("column {column}: {what}; found {found}")).arg("column", column)
    }

    fn comparison(&mut self) -> Result<Comparison, Failure> {
        self.space();
        let begin = self.at;
        let left = self.sum()?;
        let signs = [(">=", Sign::Least), ("<=", Sign::Most), (">", Sign::Above), ("<", Sign::Below)];
        let sign = signs.into_iter().find(|(text, _)| self.take(text)).map(|(_, sign)| sign);
        let sign = sign.ok_or_else(|| self.wrong("a comparison needs >=, <=, > or < here"))?;
        let right = self.sum()?;
        let text = self.text[begin..self.at].trim().to_owned();
        let comparison = Comparison { text, left, sign, right };
        match comparison.left.iter().chain(&comparison.right).any(|(_, term)| term.asked().is_some()) {
            true => Ok(comparison),
            false => Err(Reader { text: self.text, at: begin }.wrong("this compares numbers with numbers only")),
        }
    }

    fn sum(&mut self) -> Result<Vec<(f64, Term)>, Failure> {
        let mut factor = if self.take("-") { -1.0 } else { 1.0 };
        let mut terms = Vec::new();
        loop {
            terms.push((factor, self.term()?));
            factor = match () {
                () if terms.len() >= TERMS_MAX => return Err(self.wrong("this side has too many terms")),
                () if self.take("+") => 1.0,
                () if self.take("-") => -1.0,
                () => return Ok(terms),
            };
        }
    }

    fn term(&mut self) -> Result<Term, Failure> {
        self.space();
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
        if !digits.is_empty() {
            let value: f64 = digits.parse().map_err(|_| self.wrong("this is no number"))?;
            self.at += digits.len();
            return Ok(Term::Number(value));
        }
        let word = self.word();
        let figure = Figure::WORDS.iter().find(|(_, known)| *known == word);
        let Some((figure, _)) = figure else {
            return Err(self.wrong("here a number or one of score, loss, perplexity and rows must stand"));
        };
        self.at += word.len();
        let mut asked = Asked { figure: *figure, suite: String::new(), current: false };
        if self.take("(") {
            self.space();
            let name = self.name();
            if name.is_empty() {
                return Err(self.wrong("here the name of a suite must stand"));
            }
            self.at += name.len();
            if name == CURRENT {
                asked.current = true;
            } else {
                asked.suite = name.to_owned();
                if self.take(",") {
                    self.space();
                    if self.name() != CURRENT {
                        return Err(self.wrong("only `current` may stand here: the version that the alias points at"));
                    }
                    self.at += CURRENT.len();
                    asked.current = true;
                }
            }
            if !self.take(")") {
                return Err(self.wrong("here ) must stand"));
            }
        }
        Ok(Term::Figure(asked))
    }
}

/// The word for the version that an alias points at now.
const CURRENT: &str = "current";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(gate: &str, look: impl Fn(&Asked) -> Looked) -> bool {
        Gate::read(gate).unwrap().judge(look).iter().all(|line| line.holds)
    }

    #[test]
    fn figures_are_compared_with_numbers_and_with_what_is_there() {
        let look = |asked: &Asked| match (asked.figure, asked.suite.as_str(), asked.current) {
            (Figure::Score, "exam", false) => Looked::Value(0.79),
            (Figure::Score, "exam", true) => Looked::Value(0.8),
            (Figure::Loss, _, _) => Looked::Value(2.0),
            (Figure::Rows, ..) => Looked::Value(64.0),
            _ => Looked::Missing,
        };
        assert!(!holds("score(exam) >= 0.8", look));
        assert!(holds("score(exam) >= score(exam, current) - 0.01", look), "the difference is 0.01, not a little more");
        assert!(!holds("score(exam) > score(exam, current) - 0.01", look));
        assert!(holds("loss <= 2 and rows(exam)>=64", look));
        assert!(!holds("loss <= 2 and score(other) >= 0", look), "what is not measured never passes");
        assert!(!holds("score(other) < 1", look));
        assert!(holds("-loss + 3 >= 1", look));
    }

    #[test]
    fn the_first_version_has_nothing_to_be_compared_with() {
        let look = |asked: &Asked| if asked.current { Looked::NoVersion } else { Looked::Value(0.1) };
        assert!(holds("score(exam) >= score(exam, current)", look));
        assert!(!holds("score(exam) >= score(exam, current) and score(exam) >= 0.8", look));
        let unmeasured = |asked: &Asked| if asked.current { Looked::NoVersion } else { Looked::Missing };
        assert!(!holds("score(exam) >= score(exam, current)", unmeasured), "it must be measured all the same");
    }

    #[test]
    fn no_number_passes_nothing() {
        for gate in ["loss < 9", "loss > 1", "loss <= loss", "loss >= loss"] {
            assert!(!holds(gate, |_| Looked::Value(f64::NAN)), "{gate}");
        }
    }

    #[test]
    fn mistakes_say_where_and_what() {
        let said = |text: &str| Gate::read(text).unwrap_err().message_en;
        assert_eq!(
            said("scor(exam) >= 1"),
            "column 1: here a number or one of score, loss, perplexity and rows must stand; found \"scor(exam) >\""
        );
        assert_eq!(said("score(exam) = 1"), "column 13: a comparison needs >=, <=, > or < here; found \"= 1\"");
        assert_eq!(said("score(exam >= 1"), "column 12: here ) must stand; found \">= 1\"");
        assert_eq!(
            said("score(exam, best) >= 1"),
            "column 13: only `current` may stand here: the version that the alias points at; found \"best) >= 1\""
        );
        assert_eq!(
            said("loss <= 2 or rows > 1"),
            "column 11: here `and` with another comparison may follow, or nothing; found \"or rows > 1\""
        );
        assert_eq!(said("1 <= 2"), "column 1: this compares numbers with numbers only; found \"1 <= 2\"");
        assert_eq!(
            said(""),
            "column 1: here a number or one of score, loss, perplexity and rows must stand; found the end"
        );
        assert_eq!(said("loss <= 1.2.3"), "column 9: this is no number; found \"1.2.3\"");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9(),.<>= 行+-]{0,60}") {
            if let Ok(gate) = Gate::read(&text) {
                gate.judge(|_| Looked::Value(1.0));
            }
        }
    }
}
