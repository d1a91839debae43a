//! Judgements: a person saw several answers to one conversation and said which is better. They are durable when they are
//! acknowledged, and become rows of preferences when a version of the dataset is made of them. Never here: the rows.

use serde::{Deserialize, Serialize};

use crate::dataset::ChatMessage;
use crate::value::Json;

/// Fewest answers that can be judged.
pub const CONTENDERS_MIN: usize = 2;
/// Most answers of one judgement.
pub const CONTENDERS_MAX: usize = 4;
/// Longest judgement in bytes of its text.
pub const JUDGEMENT_BYTES_MAX: usize = 1 << 20;

/// What was said about several answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The conversation that was answered; it ends with a user turn.
    pub messages: Vec<ChatMessage>,
    /// The answers, as they stood from left to right: 2 to 4.
    pub contenders: Vec<Contender>,
    /// Which is better.
    pub verdict: Verdict,
    /// Whether the person did not see who answered.
    pub blind: bool,
}

/// One of the answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// Name of the service that answered.
    pub service: String,
    /// `name@number` of what answered.
    pub version: String,
    /// How it was asked, as an object: temperature and the like.
    pub settings: Json,
    /// The answer.
    pub text: String,
    /// Its tokens, as billed.
    pub completion_tokens: u64,
}

/// Which answer is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// This one, from 0, is better than each other.
    Best(u32),
    /// They are equally good.
    Tie,
    /// None is good enough to learn from.
    AllBad,
}

/// A judgement as it is stored, for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgementRecord {
    /// Its number in the set, from 0; a number is not given twice.
    pub seq: u64,
    /// Who judged.
    pub person: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// What was said.
    pub judgement: Judgement,
}

/// The judgements for one dataset, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JudgedSet {
    /// Name of the dataset.
    pub dataset: String,
    /// The next number.
    pub next_seq: u64,
    /// Judgements below this number have been made into a version.
    pub made_until: u64,
    /// Rows that wait to be made into a version: each best answer beside each other one.
    pub waiting_rows: u64,
    /// Judgements without a best answer among those that no version has yet. They are kept, and become no rows.
    pub waiting_undecided: u64,
}

impl Judgement {
    /// The pairs of answers, better and worse, that it says something about. A tie says nothing about which is better, and two
    /// answers of the same text are no preference.
    pub fn pairs(&self) -> Vec<(&Contender, &Contender)> {
        let Verdict::Best(best) = self.verdict else { return Vec::new() };
        let Some(best) = self.contenders.get(best as usize) else { return Vec::new() };
        self.contenders.iter().filter(|other| other.text != best.text).map(|other| (best, other)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_three_makes_two_pairs_and_a_tie_none() {
        let contender = |text: &str| Contender {
            service: "desk".into(),
            version: "desk@1".into(),
            settings: Json::default(),
            text: text.into(),
            completion_tokens: 1,
        };
        let mut judgement = Judgement {
            messages: Vec::new(),
            contenders: vec![contender("a"), contender("b"), contender("c")],
            verdict: Verdict::Best(1),
            blind: false,
        };
        let texts = |j: &Judgement| j.pairs().iter().map(|(a, b)| format!("{}{}", a.text, b.text)).collect::<Vec<_>>();
        assert_eq!(texts(&judgement), ["ba", "bc"]);
        judgement.contenders[2].text = "b".into();
        assert_eq!(texts(&judgement), ["ba"]);
        judgement.verdict = Verdict::Best(3);
        assert!(judgement.pairs().is_empty());
        judgement.verdict = Verdict::Tie;
        assert!(judgement.pairs().is_empty());
    }
}
