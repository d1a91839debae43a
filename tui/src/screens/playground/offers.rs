//! What keys do on this screen now, most useful first. Never here: doing it.

use super::{Over, Pane, Playground};
use crate::action::{Action, Offer, offer};
use crate::screens::View;

impl Playground {
    pub(super) fn what_works(&mut self, view: &View<'_>) -> Vec<Offer> {
        match &self.over {
            Some(Over::Code(_)) => vec![
                offer(Action::NextTab, "chat.next_language"),
                offer(Action::PreviousTab, "chat.next_language"),
                offer(Action::Copy, "hint_row.copy"),
                offer(Action::Down, "hint_row.scroll"),
                offer(Action::Out, "hint_row.close"),
            ],
            Some(Over::Chances(_)) => vec![
                offer(Action::Left, "chances.step"),
                offer(Action::Right, "chances.step"),
                offer(Action::NextPane, "chances.unsure"),
                offer(Action::Out, "hint_row.close"),
            ],
            Some(Over::Talks) => {
                let mut offers = Vec::new();
                if !self.talk_rows(view).is_empty() {
                    offers.push(offer(Action::Enter, "hint_row.open"));
                    offers.push(offer(Action::Delete, "chat.drop_talk"));
                }
                offers.push(offer(Action::Filter, "chat.find_talk"));
                offers.push(offer(Action::Out, "hint_row.close"));
                offers
            }
            None => match self.pane {
                Pane::Composer => vec![
                    offer(Action::Enter, "chat.send"),
                    offer(Action::Out, if self.streaming.is_some() { "chat.stop" } else { "chat.leave_box" }),
                    offer(Action::NextPane, "chat.settings"),
                ],
                Pane::Settings => self.of_settings(),
                Pane::Transcript => self.of_transcript(),
            },
        }
    }

    fn of_settings(&self) -> Vec<Offer> {
        let mut offers = vec![
            offer(Action::Left, "form.step"),
            offer(Action::Right, "form.step"),
            offer(Action::Enter, "form.edit"),
            offer(Action::Pause, "training.presets"),
            offer(Action::Undo, "form.undo"),
            offer(Action::Add, "form.all_fields"),
        ];
        let focused = self.settings.form.focused().map_or("", |field| field.key);
        match focused {
            "preset" if self.is_own_preset() => offers.push(offer(Action::Delete, "chat.drop_talk")),
            "preset" => {}
            _ => offers.push(offer(Action::Delete, "form.default")),
        }
        offers.extend(self.of_columns());
        if self.settings.count() > 1 {
            offers.push(offer(Action::NextTab, "chat.next_column"));
            offers.push(offer(Action::PreviousTab, "chat.next_column"));
        }
        offers.push(offer(Action::NextPane, "chat.to_chat"));
        offers.push(offer(Action::PreviousPane, "chat.to_box"));
        offers.push(offer(Action::Out, "chat.to_box"));
        offers
    }

    fn of_columns(&self) -> Vec<Offer> {
        let mut offers = Vec::new();
        if self.streaming.is_none() {
            if self.settings.count() < super::settings::COLUMNS_MAX {
                offers.push(offer(Action::Compare, "chat.add_column"));
            }
            if self.settings.count() > 1 {
                offers.push(offer(Action::Stop, "chat.drop_column"));
            }
        }
        offers
    }

    fn of_transcript(&self) -> Vec<Offer> {
        let still = self.streaming.is_none();
        let chosen = self.chosen_round().map(|round| &self.talk.rounds[round]);
        let mut offers = vec![offer(Action::Enter, "chat.write")];
        if chosen.is_some() && still {
            offers.push(offer(Action::Run, "chat.retry"));
            offers.push(offer(Action::Edit, "chat.edit"));
        }
        offers.extend(self.of_columns());
        if let Some(round) = chosen {
            offers.push(offer(Action::Copy, "hint_row.copy"));
            if still {
                offers.push(offer(Action::Clone, "chat.fork"));
            }
            if round.answers.len() > 1 {
                offers.push(offer(Action::Left, "chat.next_answer"));
                offers.push(offer(Action::Right, "chat.next_answer"));
                if still && self.talk.at == self.chosen_round() {
                    offers.push(offer(Action::Mark, "chat.keep_answer"));
                }
            }
            if still && round.said.is_some() {
                offers.push(offer(Action::Undo, "verdict.undo"));
            }
            offers.push(offer(Action::Inspect, "chances.show"));
        }
        if still && self.verdicts.set.as_ref().is_some_and(|set| set.waiting_rows > 0) {
            offers.push(offer(Action::Add, "verdict.make_version"));
        }
        if still && self.has_branches() {
            offers.push(offer(Action::NextTab, "chat.next_branch"));
        }
        offers.push(offer(Action::Export, "chat.as_code"));
        offers.push(offer(Action::Log, "chat.talks"));
        offers.push(offer(Action::NextPane, "chat.to_box"));
        if still && !self.talk.rounds.is_empty() {
            offers.push(offer(Action::Delete, "chat.clear"));
        }
        offers
    }

    fn has_branches(&self) -> bool {
        let at_end = self.chosen + 1 >= self.talk.path().len();
        let beside = self.chosen_round().is_some_and(|round| self.talk.siblings(round).len() > 1);
        beside || (at_end && !self.talk.after(self.talk.at).is_empty())
    }
}
