//! What the wall's clock said at moments of the clock that nobody sets, kept from start to start of the daemon: so a request of
//! before a restart is as old as it is, however the wall's clock was set meanwhile. Never here: limits themselves (`limits`).

use serde::{Deserialize, Serialize};

use super::limits::WINDOW_MS;
use crate::clock::Moment;

/// A wall's clock that is off by so much was set; less is drift.
const STEP_MS: i64 = 1000;
/// Marks that are kept. Somebody who sets the clock more often within a minute loses the oldest.
const MARKS_MAX: usize = 64;
/// Later than any clock says.
const NEVER_MS: i64 = i64::MAX / 4;

/// From here on, and until the next one, the wall's clock went as the steady one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    steady_ms: i64,
    wall_ms: i64,
}

impl Mark {
    fn offset_ms(self) -> i64 {
        self.wall_ms - self.steady_ms
    }
}

/// The marks of one boot of the machine, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    /// Which boot; the steady clock begins anew with each. 0 when the system does not tell.
    boot: u64,
    marks: Vec<Mark>,
}

impl Marks {
    /// Looks at both clocks; whether there is something to keep.
    pub(super) fn note(&mut self, boot: u64, now: Moment) -> bool {
        let is_new = self.boot != boot || self.marks.is_empty();
        if is_new {
            *self = Marks { boot, marks: Vec::new() };
        }
        let offset_ms = now.wall_ms - now.steady_ms;
        if self.marks.last().is_some_and(|last| (offset_ms - last.offset_ms()).abs() < STEP_MS) {
            return false;
        }
        self.marks.push(Mark { steady_ms: now.steady_ms, wall_ms: now.wall_ms });
        // What ended before the window is of no use.
        let old = self.marks.iter().skip(1).take_while(|next| next.steady_ms < now.steady_ms - WINDOW_MS - STEP_MS);
        let old = old.count().max(self.marks.len().saturating_sub(MARKS_MAX));
        self.marks.drain(..old);
        true
    }

    /// Whether they say anything about this boot.
    pub(super) fn are_of(&self, boot: u64, now_ms: i64) -> bool {
        boot != 0 && self.boot == boot && self.marks.last().is_some_and(|last| last.steady_ms <= now_ms)
    }

    /// Each mark with the end of its time. The last has none: what seems to be of later than now counts as of now.
    fn spans(&self) -> impl Iterator<Item = (Mark, i64)> + '_ {
        let ends = self.marks.iter().skip(1).map(|next| next.steady_ms).chain([NEVER_MS]);
        self.marks.iter().copied().zip(ends)
    }

    /// What the wall's clock may have said within the last minute, as ranges with both ends.
    pub(super) fn walls(&self, now_ms: i64) -> Vec<(i64, i64)> {
        let since_ms = now_ms - WINDOW_MS - STEP_MS;
        let of = |(mark, end): (Mark, i64)| {
            let from = mark.steady_ms.max(since_ms);
            (end >= since_ms).then(|| (from + mark.offset_ms() - STEP_MS, end + mark.offset_ms() + STEP_MS))
        };
        self.spans().filter_map(of).collect()
    }

    /// The latest moment of the steady clock at which the wall's can have said that.
    pub(super) fn latest(&self, wall_ms: i64, now_ms: i64) -> Option<i64> {
        let moments = self.spans().filter_map(|(mark, end)| {
            let at_ms = wall_ms - mark.offset_ms();
            (mark.steady_ms - STEP_MS..=end + STEP_MS).contains(&at_ms).then_some((at_ms + STEP_MS).min(now_ms))
        });
        moments.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady_ms: i64, wall_ms: i64) -> Moment {
        Moment { wall_ms, steady_ms }
    }

    #[test]
    fn a_wall_that_was_set_is_told_from_one_that_drifts() {
        let mut marks = Marks::default();
        assert!(marks.note(1, at(0, 1_000_000)));
        assert!(!marks.note(1, at(60_000, 1_060_900)), "drift");
        assert!(marks.note(1, at(61_000, 1_000_000 + 3_661_000)), "set on by an hour");
        assert!(marks.note(1, at(62_000, 1_062_000)), "and back");
        assert_eq!(marks.latest(1_061_500, 62_100), Some(62_100), "said twice: the later one counts, with the drift");
        assert_eq!(marks.latest(1_010_000, 62_100), Some(11_000));
        assert_eq!(marks.latest(9_000_000, 62_100), Some(62_100), "what is of later than now is of now");
        assert_eq!(marks.latest(500_000, 62_100), None, "before everything");
        assert_eq!(marks.walls(62_100).len(), 3);
        assert!(
            marks.note(2, at(5, 7)) && !marks.are_of(1, 9) && marks.are_of(2, 9) && !marks.are_of(2, 4),
            "another boot"
        );
    }

    #[test]
    fn somebody_who_plays_with_the_clock_fills_no_store() {
        let mut marks = Marks::default();
        for number in 0..1000 {
            assert!(marks.note(1, at(number, number * 5_000)));
        }
        assert_eq!(marks.marks.len(), MARKS_MAX);
        marks.note(1, at(200_000, 0));
        assert_eq!(marks.marks.len(), 2, "the one that was going on, and the new one");
    }
}
