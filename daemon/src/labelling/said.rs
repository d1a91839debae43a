//! Labels in short: what one did, which of them stand on a row, and what they add up to for a person. Never here: whose turn a row is
//! (`desk.rs`), whether a value fits the task (`values.rs`).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use hone_protocol::labelling::{Decision, How, PersonCounts};

/// What a label did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Skipped,
    Flagged,
    Decided,
    Repeated,
    /// A repeat that was skipped: it says nothing.
    Passed,
    Settled,
}

/// A label in short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) person: u16,
    pub(super) seq: u64,
    pub(super) what: What,
    pub(super) key: u64,
    pub(super) spent_ms: u64,
    pub(super) as_suggested: Option<bool>,
}

/// One person at the desk.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat {
    pub(super) counts: PersonCounts,
    /// Requests that stand, the newest last: the number of the first label, and the rows with the numbers of theirs.
    pub(super) groups: Vec<(u64, Vec<(u64, u64)>)>,
    /// Rows that were skipped and not decided later, in order.
    pub(super) skipped: BTreeSet<(u64, u64)>,
    /// Places in the order before this one need not be looked at.
    pub(super) cursor: usize,
    /// Whether the last decisions on rows with a suggestion said the same.
    pub(super) recent: VecDeque<bool>,
    /// Rows handed out since the start of the daemon: chooses repeats.
    pub(super) handed: u64,
    /// Rows that are shown again and not answered yet.
    pub(super) repeats: HashSet<u64>,
}

pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn what(decision: &Decision, is_repeat: bool) -> What {
    match (decision.how, decision.value.is_skip()) {
        (How::Final, _) => What::Settled,
        (_, true) if is_repeat => What::Passed,
        (_, true) if !decision.flag.is_empty() => What::Flagged,
        (_, true) => What::Skipped,
        (_, false) if is_repeat => What::Repeated,
        (_, false) => What::Decided,
    }
}

/// What counts of the words on a row: each person's newest decision.
pub(super) fn standing(said: &[Said]) -> impl Iterator<Item = &Said> {
    said.iter()
        .enumerate()
        .filter(|(at, one)| {
            let newer = |other: &Said| {
                other.person == one.person && matches!(other.what, What::Decided | What::Skipped | What::Flagged)
            };
            one.what == What::Decided && !said[at + 1..].iter().any(newer)
        })
        .map(|(_, said)| said)
}

/// Whether the newest word of a person on a row is a flag.
pub(super) fn is_flagged(said: &[Said]) -> bool {
    said.iter().enumerate().any(|(at, one)| {
        let newer = |other: &Said| {
            other.person == one.person && matches!(other.what, What::Decided | What::Skipped | What::Flagged)
        };
        one.what == What::Flagged && !said[at + 1..].iter().any(newer)
    })
}

impl Seat {
    /// Counts what a label adds to sums, or takes from them.
    pub(super) fn tell(&mut self, said: &Said, first: Option<Said>, sign: i64) {
        let add =
            |sum: &mut u64, by: u64| *sum = if sign > 0 { sum.saturating_add(by) } else { sum.saturating_sub(by) };
        if said.what == What::Settled {
            return;
        }
        add(&mut self.counts.spent_ms, said.spent_ms);
        if said.what == What::Passed {
            return;
        }
        if said.what == What::Repeated {
            add(&mut self.counts.repeats, 1);
            add(&mut self.counts.repeats_same, u64::from(first.is_some_and(|first| first.key == said.key)));
            return;
        }
        add(&mut self.counts.suggested, u64::from(said.as_suggested.is_some()));
        add(&mut self.counts.suggested_same, u64::from(said.as_suggested == Some(true)));
    }

    /// Counts what the person's word on a row was before and is now.
    pub(super) fn now(&mut self, row_id: u64, before: Option<(What, u64)>, after: Option<(What, u64)>) {
        for (word, sign) in [(before, -1), (after, 1)] {
            let sum = match word {
                Some((What::Decided, _)) => &mut self.counts.done,
                Some((What::Skipped, _)) => &mut self.counts.skipped,
                Some((What::Flagged, _)) => &mut self.counts.flagged,
                _ => continue,
            };
            *sum = sum.saturating_add_signed(sign);
        }
        if let Some((What::Skipped, before)) = before {
            self.skipped.remove(&(before, row_id));
        }
        if let Some((What::Skipped, now)) = after {
            self.skipped.insert((now, row_id));
        }
    }
}
