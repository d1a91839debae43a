//! A talk as a tree of rounds: each round is a question with one answer of every column, and goes on from one answer of the
//! round before it. An edited question, another try and a fork are rounds beside a round, so nothing that was said is lost.
//! Never here: keys, drawing, asking.

use hone_protocol::dataset::ChatMessage;
use hone_protocol::generate::TokenChance;
use hone_protocol::judgement::Verdict;
use hone_protocol::request::ChatEnd;
use serde::{Deserialize, Serialize};

use super::settings::Asked;

/// Rounds of one talk, all branches together; beyond it a new talk has to begin.
pub(super) const ROUNDS_MAX: usize = 500;
/// Cells of the title that a talk takes from its first question.
const TITLE_CHARS: usize = 60;

/// One answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reply {
    /// The column that it is of.
    pub(super) column: u8,
    /// How it was asked.
    pub(super) asked: Asked,
    /// Its text so far.
    pub(super) text: String,
    /// Tokens so far.
    pub(super) tokens: u64,
    /// How it ended; none while it streams, when it failed or was stopped.
    pub(super) end: Option<ChatEnd>,
    /// Why there is none.
    pub(super) problem: Option<String>,
    /// The person stopped it.
    pub(super) stopped: bool,
    /// How likely its tokens were, where that was asked for. Not kept with the talk.
    #[serde(skip)]
    pub(super) chances: Vec<TokenChance>,
}

/// What the person said about the answers of a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    /// The dataset that it is for, and its number there.
    pub(super) dataset: String,
    pub(super) seq: u64,
}

/// A question with its answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Round {
    /// The round before, and which of its answers this one goes on from.
    pub(super) before: Option<(usize, usize)>,
    pub(super) question: String,
    /// From left to right.
    pub(super) answers: Vec<Reply>,
    /// The answer that the talk goes on from, as long as no round follows.
    pub(super) kept: usize,
    /// Who answers is not shown until the verdict.
    pub(super) blind: bool,
    pub(super) said: Option<Said>,
}

impl Round {
    /// Whether names stay hidden.
    pub(super) fn is_hidden(&self) -> bool {
        self.blind && self.said.is_none() && self.answers.len() > 1
    }
}

/// The tree, and the branch that is shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Talk {
    pub(super) rounds: Vec<Round>,
    /// The last round of the branch that is shown.
    pub(super) at: Option<usize>,
}

impl Talk {
    /// The rounds of the branch that is shown, in order, each with the answer that the next one goes on from.
    pub(super) fn path(&self) -> Vec<(usize, usize)> {
        let mut path = Vec::new();
        let mut next = self.at.and_then(|at| self.rounds.get(at).map(|round| (at, round.kept)));
        while let Some((index, kept)) = next {
            path.push((index, kept));
            // A round only ever follows an earlier one, so this ends.
            next = self.rounds[index].before.filter(|(before, _)| *before < index);
        }
        path.reverse();
        path
    }

    /// What is sent for a round that follows `last`: rounds without a kept answer are left out.
    pub(super) fn messages(&self, system: &str, last: Option<(usize, usize)>, question: &str) -> Vec<ChatMessage> {
        let message = |role: &str, content: &str| ChatMessage { role: role.to_owned(), content: content.to_owned() };
        let mut messages = Vec::new();
        if !system.is_empty() {
            messages.push(message("system", system));
        }
        let mut before = Vec::new();
        let mut next = last;
        while let Some((index, kept)) = next {
            let Some(round) = self.rounds.get(index) else { break };
            before.push((round, kept));
            next = round.before.filter(|(before, _)| *before < index);
        }
        for (round, kept) in before.into_iter().rev() {
            if let Some(answer) = round.answers.get(kept).filter(|a| a.problem.is_none() && !a.text.is_empty()) {
                messages.push(message("user", &round.question));
                messages.push(message("assistant", &answer.text));
            }
        }
        if !question.is_empty() {
            messages.push(message("user", question));
        }
        messages
    }

    /// Rounds that follow a round, or that begin the talk.
    pub(super) fn after(&self, round: Option<usize>) -> Vec<usize> {
        let before = |index: usize| self.rounds[index].before.map(|(before, _)| before);
        (0..self.rounds.len()).filter(|next| before(*next) == round).collect()
    }

    /// Rounds that begin at the same place, in the order in which they were asked.
    pub(super) fn siblings(&self, round: usize) -> Vec<usize> {
        self.after(self.rounds[round].before.map(|(before, _)| before))
    }

    /// Shows the branch of the round beside this one; false when it has none.
    pub(super) fn switch(&mut self, round: usize, on: bool) -> bool {
        let siblings = self.siblings(round);
        let Some(here) = siblings.iter().position(|s| *s == round).filter(|_| siblings.len() > 1) else { return false };
        let count = siblings.len();
        self.at = Some(siblings[if on { (here + 1) % count } else { (here + count - 1) % count }]);
        self.follow();
        true
    }

    /// Goes on from the end of what is shown along the newest rounds; false when it is the end already.
    pub(super) fn follow(&mut self) -> bool {
        let from = self.at;
        while let Some(next) = self.after(self.at).pop() {
            self.at = Some(next);
        }
        self.at != from
    }

    /// Shows what was said before a round, from which another question may go on.
    pub(super) fn go_before(&mut self, round: usize) {
        self.at = self.rounds[round].before.map(|(before, kept)| {
            self.rounds[before].kept = kept;
            before
        });
    }

    /// Adds a round and shows it.
    pub(super) fn ask(&mut self, round: Round) -> usize {
        self.rounds.push(round);
        let index = self.rounds.len() - 1;
        self.at = Some(index);
        index
    }

    /// What the talk is called in the list of earlier ones.
    pub(super) fn title(&self) -> String {
        let first = self.rounds.first().map_or("", |round| round.question.as_str());
        crate::widgets::text::one_line(first).chars().take(TITLE_CHARS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(before: Option<(usize, usize)>, question: &str, answers: &[&str]) -> Round {
        let reply = |(column, text): (usize, &&str)| Reply {
            column: column as u8,
            asked: Asked::default(),
            text: (*text).to_owned(),
            tokens: 0,
            end: None,
            problem: None,
            stopped: false,
            chances: Vec::new(),
        };
        let answers = answers.iter().enumerate().map(reply).collect();
        Round { before, question: question.into(), answers, kept: 0, blind: false, said: None }
    }

    fn texts(messages: &[ChatMessage]) -> Vec<&str> {
        messages.iter().map(|m| m.content.as_str()).collect()
    }

    #[test]
    fn a_branch_is_what_led_to_its_last_round_and_no_other_branch_is_lost() {
        let mut talk = Talk::default();
        let first = talk.ask(round(None, "a", &["A", "AA"]));
        talk.ask(round(Some((first, 1)), "b", &["B"]));
        let other = talk.ask(round(Some((first, 0)), "c", &["C"]));
        assert_eq!(talk.path(), [(0, 0), (2, 0)]);
        assert_eq!(texts(&talk.messages("", Some((other, 0)), "d")), ["a", "A", "c", "C", "d"]);
        assert!(talk.switch(other, true));
        assert_eq!(talk.path(), [(0, 1), (1, 0)], "the branch remembers the answer that it went on from");
        assert_eq!(texts(&talk.messages("s", Some((1, 0)), "")), ["s", "a", "AA", "b", "B"]);
        assert!(!talk.switch(first, true), "there is nothing beside the first round");
        talk.go_before(1);
        assert_eq!(talk.path(), [(0, 1)], "an edited question goes on from the same answer");
        assert!(talk.follow() && !talk.follow());
        assert_eq!(talk.at, Some(other));
        let again = talk.ask(round(None, "a2", &["X"]));
        assert!(talk.switch(again, true));
        assert_eq!(talk.at, Some(other), "to the end of the other branch, by its newest rounds");
    }

    #[test]
    fn a_round_that_failed_is_not_sent_on() {
        let mut talk = Talk::default();
        let mut failed = round(None, "a", &[""]);
        failed.answers[0].problem = Some("no".into());
        let first = talk.ask(failed);
        assert_eq!(texts(&talk.messages("", Some((first, 0)), "b")), ["b"]);
    }

    #[test]
    fn a_talk_survives_being_kept() {
        let mut talk = Talk::default();
        talk.ask(round(None, "Wo ist mein Paket? 包裹", &["x"]));
        let kept = serde_json::to_value(&talk).unwrap();
        let back: Talk = serde_json::from_value(kept).unwrap();
        assert_eq!(back.path(), talk.path());
        assert_eq!(back.title(), "Wo ist mein Paket? 包裹");
    }
}
