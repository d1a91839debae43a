//! Verdicts: which of the answers beside each other is better, said with a digit and kept by the daemon, and versions of the
//! dataset made of them. Never here: rows.

use hone_protocol::dataset::{DatasetSource, RowFormat};
use hone_protocol::failure::Failure;
use hone_protocol::job::JobSpec;
use hone_protocol::judgement::{Contender, JudgedSet, Judgement, Verdict};
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Json;
use serde_json::json;

use super::settings::Asked;
use super::tree::{Reply, Round, Said};
use super::{Pane, Playground};
use crate::action::Action;
use crate::screens::{Deed, Desk, Errand, View};
use crate::theme::Token;
use crate::widgets::canvas::{Piece, piece};

/// Names of the columns, from left to right.
pub(super) const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// What is known of verdicts.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Waits for the name of the dataset.
    pending: Option<Verdict>,
    /// Sent, and not yet acknowledged: the round; none for one that is taken back.
    sent: Option<(usize, Option<Verdict>)>,
    /// The set as the daemon told of it last.
    pub(super) set: Option<JudgedSet>,
    /// The set that was asked about last, and how many versions it had.
    asked: String,
}

fn is_answer(reply: &Reply) -> bool {
    reply.end.is_some() && reply.problem.is_none() && !reply.text.trim().is_empty()
}

/// What a verdict for one of the answers reads like.
fn better(view: &View<'_>, best: usize) -> String {
    view.fill("verdict.better", &[("letter", LETTERS[best.min(3)])])
}

/// How an answer was asked, as the row will tell.
fn told(asked: &Asked) -> serde_json::Value {
    json!({
        "sampling": asked.sampling,
        "tokens_max": asked.tokens_max,
        "typical_p": asked.typical_p,
        "stop": asked.stop,
        "format": asked.format,
    })
}

impl Playground {
    /// The last round of the branch, when its answers can be judged.
    pub(super) fn judgeable(&self) -> Option<usize> {
        let (round, _) = self.talk.path().pop()?;
        let Round { answers, said, .. } = &self.talk.rounds[round];
        let ready = answers.len() > 1 && said.is_none() && answers.iter().all(is_answer);
        (ready && self.streaming.is_none()).then_some(round)
    }

    /// What a digit says about so many answers.
    fn verdict_of(digit: u32, answers: usize) -> Option<Verdict> {
        let digit = digit.checked_sub(1)? as usize;
        match digit {
            _ if digit < answers => Some(Verdict::Best(digit as u32)),
            _ if digit == answers => Some(Verdict::Tie),
            _ if digit == answers + 1 => Some(Verdict::AllBad),
            _ => None,
        }
    }

    /// Takes a digit; false when it says nothing.
    pub(super) fn digit(&mut self, digit: u32, desk: &mut Desk<'_>) -> bool {
        let Some(round) = self.judgeable() else { return false };
        let Some(verdict) = Self::verdict_of(digit, self.talk.rounds[round].answers.len()) else { return false };
        self.judge(verdict, desk);
        true
    }

    fn judge(&mut self, verdict: Verdict, desk: &mut Desk<'_>) {
        let Some(index) = self.judgeable().filter(|_| self.verdicts.sent.is_none()) else { return };
        let dataset = self.settings.value("verdicts").to_owned();
        if !hone_protocol::paths::is_name(&dataset) {
            self.verdicts.pending = Some(verdict);
            self.pane = Pane::Settings;
            self.settings.form.focus_on("verdicts");
            self.settings.form.act(Action::Enter, &desk.view);
            desk.say(desk.view.t("verdict.name_it"));
            return;
        }
        let round = &self.talk.rounds[index];
        let contender = |reply: &Reply| Contender {
            service: reply.asked.service.clone(),
            version: reply.end.as_ref().map_or(String::new(), |end| end.version.clone()),
            settings: Json(told(&reply.asked)),
            text: reply.text.clone(),
            completion_tokens: reply.end.as_ref().map_or(reply.tokens, |end| end.completion_tokens),
        };
        let judgement = Judgement {
            messages: self.talk.messages(self.settings.value("system"), round.before, &round.question),
            contenders: round.answers.iter().map(contender).collect(),
            verdict,
            blind: round.blind,
        };
        self.verdicts.sent = Some((index, Some(verdict)));
        desk.ask(Errand::Act(Deed::Judge), Request::Judge { dataset, judgement: Box::new(judgement) });
    }

    /// Goes on with a verdict that waited for the name of its dataset.
    pub(super) fn judge_pending(&mut self, desk: &mut Desk<'_>) {
        if self.settings.form.is_editing() {
            return;
        }
        let named = hone_protocol::paths::is_name(self.settings.value("verdicts"));
        if let Some(verdict) = self.verdicts.pending.take().filter(|_| named) {
            self.pane = Pane::Transcript;
            self.judge(verdict, desk);
        }
    }

    /// Takes the verdict of the chosen round back, when there is one.
    pub(super) fn unjudge(&mut self, desk: &mut Desk<'_>) -> bool {
        let chosen = self.chosen_round().filter(|_| self.verdicts.sent.is_none());
        let Some((round, said)) = chosen.and_then(|r| Some((r, self.talk.rounds[r].said.clone()?))) else {
            return false;
        };
        self.verdicts.sent = Some((round, None));
        desk.ask(Errand::Act(Deed::Unjudge), Request::Unjudge { dataset: said.dataset, seq: said.seq });
        true
    }

    pub(super) fn judged(&mut self, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        let Some((index, verdict)) = self.verdicts.sent.take() else { return };
        let Ok(Answer::Judged { seq, set }) = answer else { return };
        if let Some(round) = self.talk.rounds.get_mut(index) {
            round.said = verdict.map(|verdict| Said { verdict, dataset: set.dataset.clone(), seq });
            // What is better is what the talk goes on from.
            if let Some(Verdict::Best(best)) = verdict {
                round.kept = best as usize;
            }
        }
        self.verdicts.set = Some(set);
        // Answers can be longer than the screen: what was kept is said where one looks.
        if let Some(said) = self.talk.rounds.get(index).and_then(|round| self.said_line(&desk.view, round)) {
            desk.say(&said);
        }
        self.keep_talk(desk);
    }

    /// What was said about a round, and where it is kept; none when nothing was.
    fn said_line(&self, view: &View<'_>, round: &Round) -> Option<String> {
        let said = round.said.as_ref()?;
        let word = match said.verdict {
            Verdict::Best(best) => better(view, best as usize),
            Verdict::Tie => view.t("verdict.same").to_owned(),
            Verdict::AllBad => view.t("verdict.bad").to_owned(),
        };
        let line = view.fill("verdict.saved", &[("verdict", &word), ("dataset", &said.dataset)]);
        let waiting = self.verdicts.set.as_ref().filter(|set| set.dataset == said.dataset && set.waiting_rows > 0);
        Some(match waiting {
            Some(set) => format!("{line}  {}", view.fill("verdict.waiting", &[("n", &set.waiting_rows.to_string())])),
            None => line,
        })
    }

    /// Asks for what waits in the named set, once.
    pub(super) fn need_set(&mut self, desk: &mut Desk<'_>) {
        let name = self.settings.value("verdicts");
        if self.settings.form.is_editing() {
            return;
        }
        // A new version of the dataset has what waited.
        let known = desk.view.mirror.datasets().iter().find(|known| known.record.name == name);
        let of = format!("{name}@{}", known.map_or(0, |known| known.versions.len()));
        if of == self.verdicts.asked {
            return;
        }
        self.verdicts.asked = of;
        self.verdicts.set.take_if(|set| set.dataset != name);
        if !name.is_empty() {
            desk.ask(Errand::Judged, Request::Judgements { dataset: name.to_owned(), count: 0 });
        }
    }

    /// Makes a version of the dataset of what waits; false when nothing does.
    pub(super) fn make_version(&mut self, desk: &mut Desk<'_>) -> bool {
        let Some(set) = self.verdicts.set.as_ref().filter(|set| set.waiting_rows > 0) else { return false };
        let source = DatasetSource::Judgements { until: set.next_seq };
        let spec = JobSpec::ImportDataset { source, name: set.dataset.clone(), format: RowFormat::Preference };
        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
        self.verdicts.set = None;
        true
    }

    /// What stands below answers beside each other: the digits, or what was said. Nothing while they stream.
    pub(super) fn verdict_lines(&self, view: &View<'_>, index: usize) -> Vec<Piece> {
        let round = &self.talk.rounds[index];
        if let Some(line) = self.said_line(view, round) {
            return vec![piece(line, Token::Ok)];
        }
        if self.judgeable() != Some(index) {
            return Vec::new();
        }
        let count = round.answers.len();
        let mut pieces = Vec::new();
        let mut key = |n: usize, text: String| {
            pieces.push(piece(format!("{n} "), Token::Accent));
            pieces.push(piece(format!("{text}   "), Token::Text));
        };
        // Of answers that are the same text none is better.
        if round.answers.windows(2).any(|pair| pair[0].text != pair[1].text) {
            (0..count).for_each(|n| key(n + 1, better(view, n)));
        }
        key(count + 1, view.t("verdict.same").to_owned());
        key(count + 2, view.t("verdict.bad").to_owned());
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_go_on_from_the_columns_to_same_and_all_bad() {
        assert_eq!(Playground::verdict_of(1, 2), Some(Verdict::Best(0)));
        assert_eq!(Playground::verdict_of(2, 2), Some(Verdict::Best(1)));
        assert_eq!(Playground::verdict_of(3, 2), Some(Verdict::Tie));
        assert_eq!(Playground::verdict_of(4, 2), Some(Verdict::AllBad));
        assert_eq!(Playground::verdict_of(4, 4), Some(Verdict::Best(3)));
        assert_eq!(Playground::verdict_of(7, 4), None);
        assert_eq!(Playground::verdict_of(0, 2), None);
    }
}
