//! Labelling at work: the rows that wait, the one that is looked at, what was decided, and the wishes that go to the daemon. Never here:
//! what a key means for a kind of task (`answers.rs`), drawing (`paint.rs`).

use std::collections::VecDeque;

use hone_protocol::labelling::{
    Decision, How, LEASE_MS, LabelAnswer, LabelRecord, LabelRequest, LabelValue, NextRow, NextRows, ProjectView,
};
use hone_protocol::request::{Answer, Request};

use super::answers::Draft;
use crate::screens::{Desk, Errand, View};

/// Rows that are held ahead: the next one is there before the key is up.
pub(super) const AHEAD: usize = 24;
/// More are asked for when so few are left.
const LOW: usize = 14;
/// Decided rows that can be gone back to without asking.
const KEPT: usize = 500;
/// Decisions that say how fast the person is.
const PACE_DECISIONS: usize = 20;
/// Rows that are held are asked to stay so often: well within the time that they are.
const RENEW_MS: i64 = LEASE_MS / 3;
/// A longer look at one row is a break.
const BREAK_MS: i64 = 5 * 60 * 1000;

/// A row on the table.
pub(super) struct Current {
    pub(super) row: NextRow,
    pub(super) draft: Draft,
    pub(super) note: String,
    /// When it was first seen, Unix milliseconds.
    pub(super) since_ms: i64,
}

/// A row that was decided in this session.
pub(super) struct Past {
    pub(super) row: NextRow,
    pub(super) decision: Decision,
    /// The number of the wish.
    pub(super) number: u32,
    pub(super) at_ms: i64,
}

/// A project being labelled.
pub(super) struct Work {
    pub(super) project: String,
    /// Tells this window from others of the same person.
    session: u64,
    queue: VecDeque<NextRow>,
    pub(super) current: Option<Current>,
    pub(super) past: Vec<Past>,
    /// Which of `past` is looked at; none for the current row.
    pub(super) browsing: Option<usize>,
    /// Decisions of earlier sessions, newest first.
    pub(super) earlier: Vec<LabelRecord>,
    pub(super) is_suggesting: bool,
    /// The daemon had no more rows.
    pub(super) is_exhausted: bool,
    /// How many rows were asked for and not answered yet; none where nothing was asked.
    asked: Option<u32>,
    asked_earlier: bool,
    /// When the rows that are held were asked to stay, Unix milliseconds.
    renewed_ms: i64,
    /// The project's labels when there were no more rows.
    exhausted_at: u64,
    numbers: u32,
    /// Rows seen in this session: the guide opens with the first.
    pub(super) seen: usize,
    pub(super) scroll: usize,
}

impl Work {
    pub(super) fn new(project: &str, session: u64) -> Work {
        Work {
            project: project.to_owned(),
            session,
            queue: VecDeque::new(),
            current: None,
            past: Vec::new(),
            browsing: None,
            earlier: Vec::new(),
            is_suggesting: true,
            is_exhausted: false,
            asked: None,
            asked_earlier: false,
            renewed_ms: 0,
            exhausted_at: 0,
            numbers: 0,
            seen: 0,
            scroll: 0,
        }
    }

    /// The project's facts.
    pub(super) fn view<'a>(&self, view: &View<'a>) -> Option<&'a ProjectView> {
        view.mirror.projects().iter().find(|project| project.record.name == self.project)
    }

    /// Rows that are held and not decided.
    pub(super) fn ahead(&self) -> impl Iterator<Item = &NextRow> {
        self.current.iter().map(|current| &current.row).chain(&self.queue)
    }

    /// Asks for what is missing.
    pub(super) fn needs(&mut self, desk: &mut Desk<'_>) {
        // Before the first facts are there nobody is asked.
        if desk.view.away || !desk.view.mirror.is_filled() {
            return;
        }
        if !self.asked_earlier {
            self.asked_earlier = true;
            let labels = LabelRequest::Labels {
                project: self.project.clone(),
                person: desk.view.mirror.person().to_owned(),
                row_id: None,
                before: None,
                taken_back: false,
                count: 6,
            };
            desk.ask(Errand::LastLabels, Request::Labelling(labels));
        }
        // Others work too: what was nobody's may be there again.
        let next_seq = self.view(&desk.view).map_or(0, |project| project.counts.next_seq);
        self.is_exhausted &= next_seq == self.exhausted_at;
        let held = self.ahead().count();
        let renews = held > 0 && desk.view.now_ms - self.renewed_ms > RENEW_MS;
        // What waits on this machine is not the daemon's yet: it would hand the same rows out again.
        if self.asked.is_some() || desk.view.waiting > 0 || (held > LOW || self.is_exhausted) && !renews {
            return;
        }
        self.renewed_ms = desk.view.now_ms;
        let held: Vec<u64> = self.ahead().map(|next| next.row.row_id).collect();
        let count = (AHEAD - held.len().min(AHEAD)) as u32;
        self.asked = Some(count);
        let next = LabelRequest::Next { project: self.project.clone(), session: self.session, held, count };
        desk.ask(Errand::NextRows, Request::Labelling(next));
    }

    /// Rows came.
    pub(super) fn take(&mut self, next: NextRows, desk: &mut Desk<'_>) {
        let wanted = self.asked.take().unwrap_or(0);
        self.is_suggesting = next.is_suggesting;
        self.no_more(next.rows.is_empty() && wanted > 0, &desk.view);
        for row in next.rows {
            if !self.ahead().any(|held| held.row.row_id == row.row.row_id) {
                self.queue.push_back(row);
            }
        }
        self.lay(desk);
    }

    /// Nothing that was asked will be answered.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        // Whoever answers next knows nothing of who holds what.
        self.renewed_ms = 0;
        self.is_exhausted = false;
        self.asked_earlier = false;
    }

    /// Asking did not work.
    pub(super) fn failed(&mut self, view: &View<'_>) {
        self.asked = None;
        self.no_more(true, view);
    }

    /// Whether there are no more rows, as far as is known now.
    fn no_more(&mut self, none: bool, view: &View<'_>) {
        self.is_exhausted = none;
        self.exhausted_at = self.view(view).map_or(0, |project| project.counts.next_seq);
    }

    /// The person came back to the desk.
    pub(super) fn look_again(&mut self) {
        self.is_exhausted = false;
    }

    /// Lays the next row on the table.
    pub(super) fn lay(&mut self, desk: &mut Desk<'_>) {
        if self.current.is_some() {
            return;
        }
        let Some(row) = self.queue.pop_front() else { return };
        let task = self.view(&desk.view).map(|project| project.record.spec.task.clone());
        let Some(task) = task else { return };
        self.scroll = 0;
        self.seen += 1;
        let draft = Draft::new(&task, &row, None, self.is_suggesting);
        self.current = Some(Current { row, draft, note: String::new(), since_ms: desk.view.now_ms });
    }

    /// Decides the row on the table, or the one that was gone back to, and moves on.
    pub(super) fn decide(&mut self, value: LabelValue, how: How, flag: &str, desk: &mut Desk<'_>) {
        let now_ms = desk.view.now_ms;
        let (row, note, since_ms) = match self.browsing.take() {
            Some(at) => {
                let Some(past) = self.past.get(at) else { return };
                (past.row.clone(), past.decision.note.clone(), now_ms)
            }
            None => {
                let Some(current) = self.current.take() else { return };
                (current.row, current.note, current.since_ms)
            }
        };
        let spent_ms = (now_ms - since_ms).clamp(0, BREAK_MS) as u64;
        let decision = Decision { row_id: row.row.row_id, value, flag: flag.to_owned(), note, spent_ms, how };
        self.send(vec![(row, decision)], desk);
        self.lay(desk);
        self.needs(desk);
    }

    /// Decides several rows at once: one step of undo.
    pub(super) fn decide_many(&mut self, row_ids: &[u64], value: &LabelValue, desk: &mut Desk<'_>) {
        let mut taken = Vec::new();
        if let Some(current) = self.current.take_if(|current| row_ids.contains(&current.row.row.row_id)) {
            taken.push(current.row);
        }
        let (chosen, left): (VecDeque<NextRow>, VecDeque<NextRow>) =
            std::mem::take(&mut self.queue).into_iter().partition(|next| row_ids.contains(&next.row.row_id));
        self.queue = left;
        taken.extend(chosen);
        let decide = |row: NextRow| {
            let (row_id, flag, note) = (row.row.row_id, String::new(), String::new());
            (row, Decision { row_id, value: value.clone(), flag, note, spent_ms: 0, how: How::Bulk })
        };
        let taken: Vec<(NextRow, Decision)> = taken.into_iter().map(decide).collect();
        if !taken.is_empty() {
            self.send(taken, desk);
        }
        self.lay(desk);
        self.needs(desk);
    }

    fn send(&mut self, decided: Vec<(NextRow, Decision)>, desk: &mut Desk<'_>) {
        self.numbers += 1;
        let decisions = decided.iter().map(|(_, decision)| decision.clone()).collect();
        let request = LabelRequest::Decide { project: self.project.clone(), person: None, decisions };
        desk.keep(Errand::Decision(self.numbers), Request::Labelling(request));
        for (row, decision) in decided {
            let row_id = decision.row_id;
            self.past.retain(|past| past.row.row.row_id != row_id);
            self.past.push(Past { row, decision, number: self.numbers, at_ms: desk.view.now_ms });
        }
        if self.past.len() > KEPT {
            self.past.drain(..self.past.len() - KEPT);
        }
    }

    /// Takes the newest decision back and lays its row on the table again.
    pub(super) fn undo(&mut self, desk: &mut Desk<'_>) {
        self.browsing = None;
        self.numbers += 1;
        let Some(last) = self.past.last() else {
            // Of an earlier session: the daemon knows which it was.
            let request = LabelRequest::TakeBack { project: self.project.clone(), row_id: None };
            return desk.keep(Errand::Decision(self.numbers), Request::Labelling(request));
        };
        let (number, row_id) = (last.number, last.row.row.row_id);
        let request = LabelRequest::TakeBack { project: self.project.clone(), row_id: Some(row_id) };
        desk.keep(Errand::Decision(self.numbers), Request::Labelling(request));
        // What was decided at once is taken back at once.
        let at = self.past.iter().position(|past| past.number == number).unwrap_or(self.past.len());
        let taken: Vec<Past> = self.past.drain(at..).collect();
        let mut rows = taken.into_iter().map(|past| (past.row, past.decision));
        let Some((first, decision)) = rows.next() else { return };
        let rest: Vec<NextRow> = rows.map(|(row, _)| row).collect();
        if let Some(current) = self.current.take() {
            self.queue.push_front(current.row);
        }
        rest.into_iter().rev().for_each(|row| self.queue.push_front(row));
        self.lay_again(first, Some(&decision), desk);
    }

    /// Lays a row that was decided on the table, as it was decided.
    fn lay_again(&mut self, row: NextRow, before: Option<&Decision>, desk: &mut Desk<'_>) {
        let Some(task) = self.view(&desk.view).map(|project| project.record.spec.task.clone()) else { return };
        if let Some(current) = self.current.take() {
            self.queue.push_front(current.row);
        }
        self.queue.retain(|next| next.row.row_id != row.row.row_id);
        self.is_exhausted = false;
        self.scroll = 0;
        let draft = Draft::new(&task, &row, before.map(|decision| &decision.value), self.is_suggesting);
        let note = before.map_or(String::new(), |decision| decision.note.clone());
        self.current = Some(Current { row, draft, note, since_ms: desk.view.now_ms });
    }

    /// A decision was answered. Rows of earlier sessions that were taken back are asked for.
    pub(super) fn answered(
        &mut self,
        number: u32,
        answer: Result<Answer, hone_protocol::failure::Failure>,
        desk: &mut Desk<'_>,
    ) {
        match answer {
            Ok(Answer::Labelling(LabelAnswer::TakenBack { row_ids, seqs, .. })) => {
                self.earlier.retain(|label| !seqs.contains(&label.seq));
                let here = |row_id: &u64| self.ahead().any(|held| held.row.row_id == *row_id);
                let missing: Vec<u64> = row_ids.into_iter().filter(|row_id| !here(row_id)).collect();
                if !missing.is_empty() {
                    let request = LabelRequest::Rows { project: self.project.clone(), row_ids: missing };
                    desk.ask(Errand::AgainRow, Request::Labelling(request));
                }
            }
            Ok(_) => {}
            Err(failure) => {
                // Refused: somebody else was faster, or the project was closed. It was not decided.
                self.past.retain(|past| past.number != number);
                self.is_exhausted = false;
                let said = desk.view.failure(&failure);
                desk.warn(said);
            }
        }
    }

    /// A row of an earlier session came back.
    pub(super) fn again(&mut self, rows: Vec<NextRow>, desk: &mut Desk<'_>) {
        for row in rows {
            self.lay_again(row, None, desk);
        }
    }

    /// Back to the row that was decided before the one that is looked at.
    pub(super) fn back(&mut self) -> bool {
        let at = self.browsing.unwrap_or(self.past.len());
        if at == 0 {
            return false;
        }
        self.browsing = Some(at - 1);
        self.scroll = 0;
        true
    }

    /// Forward again, at last to the row that waits.
    pub(super) fn forward(&mut self) -> bool {
        let Some(at) = self.browsing else { return false };
        self.browsing = Some(at + 1).filter(|at| *at < self.past.len());
        self.scroll = 0;
        true
    }

    /// The row that is looked at, and what was said of it where it was gone back to.
    pub(super) fn shown(&self) -> Option<(&NextRow, Option<&Decision>)> {
        match self.browsing {
            Some(at) => self.past.get(at).map(|past| (&past.row, Some(&past.decision))),
            None => self.current.as_ref().map(|current| (&current.row, None)),
        }
    }

    /// Rows a minute over the last decisions; none before there are a few.
    pub(super) fn pace(&self) -> Option<f64> {
        let recent = &self.past[self.past.len().saturating_sub(PACE_DECISIONS)..];
        let (first, last) = (recent.first()?, recent.last()?);
        let minutes = (last.at_ms - first.at_ms) as f64 / 60_000.0;
        (recent.len() > 4 && minutes > 0.0).then(|| (recent.len() - 1) as f64 / minutes)
    }
}
