//! Questions on their way: what is sent for each column, and how its answer comes in. Never here: drawing.

use hone_protocol::failure::Failure;
use hone_protocol::generate::Format;
use hone_protocol::request::{Answer, Request, StreamPart};

use super::tree::{ROUNDS_MAX, Reply, Round};
use super::{Pane, Playground};
use crate::screens::{Desk, Errand, Wish};
use crate::widgets::composer::Composer;

/// Answers that are on their way.
pub(super) struct Streaming {
    /// The round that they are of.
    pub(super) round: usize,
    /// The columns that have not ended.
    pub(super) columns: Vec<u8>,
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014), for an order that nobody can foresee by looking.
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The columns from left to right; where names are hidden, in an order of chance (Fisher and Yates, 1938).
pub(super) fn order(count: usize, shuffled: bool, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev().filter(|_| shuffled) {
        order.swap(last, (scramble(seed.wrapping_add(last as u64)) % (last as u64 + 1)) as usize);
    }
    order
}

impl Playground {
    /// Sends what stands in the box.
    pub(super) fn send(&mut self, desk: &mut Desk<'_>) {
        let said = self.composer.text();
        if said.trim().is_empty() || self.streaming.is_some() {
            return;
        }
        let before = self.talk.path().last().copied();
        if self.ask(desk, before, said.clone()) {
            self.sent = Some(said);
            self.composer = Composer::default();
        }
    }

    /// Asks every column; false, with the reason said, when nothing was asked.
    pub(super) fn ask(&mut self, desk: &mut Desk<'_>, before: Option<(usize, usize)>, question: String) -> bool {
        let count = self.settings.count();
        let makes_vectors =
            |name: &&str| desk.view.mirror.services().iter().any(|s| s.is_encoder && s.record.name == **name);
        if let Some(name) = (0..count).map(|column| self.settings.of(column, "service")).find(makes_vectors) {
            desk.warn(desk.view.fill("chat.encoder", &[("service", name)]));
            return false;
        }
        let refusal = if (0..count).any(|column| self.settings.of(column, "service").is_empty()) {
            Some("chat.no_service")
        } else if desk.view.away || !desk.view.mirror.is_filled() {
            Some("link.not_now")
        } else if self.settings.problems(&desk.view) > 0 {
            self.pane = Pane::Settings;
            Some("form.wrong")
        } else {
            (self.talk.rounds.len() >= ROUNDS_MAX).then_some("chat.too_long")
        };
        if let Some(key) = refusal {
            desk.warn(desk.view.t(key));
            return false;
        }
        let rounds = &self.talk.rounds;
        let tries = rounds.iter().filter(|r| r.before == before && r.question == question).count() as u64;
        let blind = count > 1 && self.settings.value("blind") == "on";
        let seed = scramble(desk.view.now_ms as u64 ^ rounds.len() as u64);
        let columns = order(count, blind, seed);
        let reply = |column: &usize| {
            let asked = self.settings.asked(*column, tries)?;
            let (text, chances) = (String::new(), Vec::new());
            let column = *column as u8;
            Some(Reply { column, asked, text, tokens: 0, end: None, problem: None, stopped: false, chances })
        };
        let Some(answers) = columns.iter().map(reply).collect::<Option<Vec<Reply>>>() else {
            desk.warn(desk.view.t("form.wrong"));
            return false;
        };
        let messages = self.talk.messages(self.settings.value("system"), before, &question);
        let chances = self.settings.form.number::<u32>("chances").filter(|top| *top > 0);
        for answer in &answers {
            let asked = answer.asked.clone();
            let request = Request::Chat {
                service: asked.service,
                messages: messages.clone(),
                sampling: asked.sampling,
                tokens_max: asked.tokens_max,
                typical_p: Some(asked.typical_p).filter(|p| *p < 1.0),
                stop: Some(asked.stop).filter(|stop| !stop.is_empty()),
                format: Some(asked.format).filter(|format| *format != Format::Text),
                chances,
            };
            desk.ask(Errand::Chat(answer.column), request);
        }
        let columns = answers.iter().map(|answer| answer.column).collect();
        let round = self.talk.ask(Round { before, question, answers, kept: 0, blind, said: None });
        self.streaming = Some(Streaming { round, columns });
        self.up = 0;
        self.side = 0;
        self.chosen = self.talk.path().len() - 1;
        true
    }

    /// Asks the chosen question again; the earlier answers stay as a branch.
    pub(super) fn retry(&mut self, desk: &mut Desk<'_>) -> bool {
        let Some(round) = self.chosen_round().filter(|_| self.streaming.is_none()) else { return false };
        let (before, question) = (self.talk.rounds[round].before, self.talk.rounds[round].question.clone());
        self.ask(desk, before, question);
        true
    }

    /// Ends every answer that is on its way.
    pub(super) fn stop(&mut self, desk: &mut Desk<'_>) {
        let Some(streaming) = self.streaming.take() else { return };
        for column in &streaming.columns {
            desk.wishes.push(Wish::Stop(Errand::Chat(*column)));
        }
        self.cut(&streaming);
        self.keep_talk(desk);
    }

    /// Marks answers that will not come to their end.
    pub(super) fn cut(&mut self, streaming: &Streaming) {
        let round = self.talk.rounds.get_mut(streaming.round);
        for answer in round.into_iter().flat_map(|round| &mut round.answers) {
            answer.stopped |= streaming.columns.contains(&answer.column);
        }
    }

    /// The answer of a column that is on its way.
    fn reply(&mut self, column: u8) -> Option<&mut Reply> {
        let streaming = self.streaming.as_ref().filter(|streaming| streaming.columns.contains(&column))?;
        let round = self.talk.rounds.get_mut(streaming.round)?;
        round.answers.iter_mut().find(|answer| answer.column == column)
    }

    pub(super) fn came(&mut self, column: u8, part: StreamPart) {
        let Some(reply) = self.reply(column) else { return };
        match part {
            StreamPart::Text { text, tokens } => {
                reply.text.push_str(&text);
                reply.tokens = tokens;
            }
            StreamPart::Chances(chances) => reply.chances.extend(chances),
            StreamPart::Job(_) => {}
        }
    }

    pub(super) fn ended(&mut self, column: u8, answer: Result<Answer, Failure>, desk: &mut Desk<'_>) {
        let Some(reply) = self.reply(column) else { return };
        match answer {
            Ok(Answer::Chat(end)) => reply.end = Some(end),
            Ok(_) => {}
            Err(failure) => {
                let mut said = desk.view.failure(&failure);
                if let Some(hint) = desk.view.hint(&failure) {
                    said = format!("{said} - {hint}");
                }
                reply.problem = Some(said);
            }
        }
        let Some(streaming) = &mut self.streaming else { return };
        streaming.columns.retain(|other| *other != column);
        if streaming.columns.is_empty() {
            self.streaming = None;
            self.keep_talk(desk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn a_blind_order_has_every_column_once_and_is_not_always_the_same() {
        assert_eq!(order(3, false, 7), [0, 1, 2]);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut order = order(3, true, seed);
            seen.insert(order.clone());
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
        }
        assert_eq!(seen.len(), 6, "every order occurs");
    }
}
