//! Who of those that wait gets the next slot: start-time fair queueing between owners. While several owners wait, each gets
//! slots in proportion to its weight; what one does not use goes to the others; within an owner the order is that of arrival.
//! Never here: slots, lanes, and how long an answer takes.
//!
//! It was chosen over plain priority with ageing because it bounds both sides: a low weight is never starved, and a flood from
//! one owner delays nobody by more than the request in hand.

use std::collections::HashMap;

/// One request of an owner of weight 1 moves that owner's time on by this.
const UNIT: u64 = 1 << 20;
/// Highest weight.
const WEIGHT_MAX: u32 = 1 << 10;
/// Owners whose time is remembered. Beyond it those are forgotten that lie behind, which changes nothing for them.
const OWNERS_MAX: usize = 4096;

/// A place in the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    owner: u64,
    weight: u32,
    /// The smaller goes first.
    pub(super) start: u64,
}

/// The order.
#[derive(Debug, Default)]
pub(super) struct Fair {
    /// The start of the request that began last.
    now: u64,
    /// When the last request of each owner is over, if all had their shares.
    over: HashMap<u64, u64>,
}

fn length(weight: u32) -> u64 {
    UNIT / u64::from(weight.clamp(1, WEIGHT_MAX))
}

impl Fair {
    /// A request comes.
    pub(super) fn arrive(&mut self, owner: u64, weight: u32) -> Turn {
        let start = self.over.get(&owner).copied().unwrap_or(0).max(self.now);
        self.over.insert(owner, start + length(weight));
        Turn { owner, weight, start }
    }

    /// It got a slot.
    pub(super) fn begin(&mut self, turn: Turn) {
        self.now = self.now.max(turn.start);
        if self.over.len() > OWNERS_MAX {
            let now = self.now;
            self.over.retain(|_, over| *over > now);
        }
    }

    /// It went away without a slot: its owner does not pay for it.
    pub(super) fn leave(&mut self, turn: Turn) {
        if let Some(over) = self.over.get_mut(&turn.owner) {
            *over = over.saturating_sub(length(turn.weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// A queue in the order of turns, as the engine keeps it.
    #[derive(Default)]
    struct Queue {
        fair: Fair,
        waiting: VecDeque<(Turn, usize)>,
    }

    impl Queue {
        fn arrive(&mut self, owner: u64, weight: u32, number: usize) {
            let turn = self.fair.arrive(owner, weight);
            let at = self.waiting.partition_point(|(other, _)| other.start <= turn.start);
            self.waiting.insert(at, (turn, number));
        }
        fn begin(&mut self) -> Option<(u64, usize)> {
            let (turn, number) = self.waiting.pop_front()?;
            self.fair.begin(turn);
            Some((turn.owner, number))
        }
    }

    #[test]
    fn who_comes_into_a_flood_is_next() {
        let mut queue = Queue::default();
        (0..100).for_each(|number| queue.arrive(1, 2, number));
        (0..10).for_each(|_| {
            queue.begin();
        });
        queue.arrive(2, 2, 1000);
        let position = (0..).find(|_| queue.begin() == Some((2, 1000))).unwrap();
        assert!(position <= 1, "{position} others went first");
    }

    #[test]
    fn who_gave_up_is_not_behind_for_it() {
        let mut fair = Fair::default();
        let turns: Vec<Turn> = (0..50).map(|_| fair.arrive(1, 1)).collect();
        turns.into_iter().for_each(|turn| fair.leave(turn));
        assert_eq!(fair.arrive(1, 1).start, fair.arrive(2, 1).start);
    }

    proptest! {
        /// Owners that always wait get slots by their weights, to within one request each; nobody is starved; the order within an
        /// owner is that of arrival.
        #[test]
        fn shares_are_kept_and_nobody_is_starved(
            weights in proptest::collection::vec(1u32..=8, 2..6),
            slots in 50usize..400,
        ) {
            let mut queue = Queue::default();
            for (owner, weight) in weights.iter().enumerate() {
                (0..slots).for_each(|number| queue.arrive(owner as u64, *weight, number));
            }
            let mut got = vec![0usize; weights.len()];
            for _ in 0..slots {
                let (owner, number) = queue.begin().unwrap();
                prop_assert_eq!(number, got[owner as usize]);
                got[owner as usize] += 1;
            }
            let all: u32 = weights.iter().sum();
            for (weight, got) in weights.iter().zip(&got) {
                let share = slots as f64 * f64::from(*weight) / f64::from(all);
                // Each other owner may be one request ahead, and the lengths are rounded.
                prop_assert!((*got as f64 - share).abs() <= weights.len() as f64 + f64::from(*weight), "{got} for {share}");
            }
        }

        /// Arrivals in any order: a slot is never left empty while somebody waits, everybody is served once, and between two
        /// requests of an owner others get no more than their weights give them.
        #[test]
        fn everybody_is_served_once(
            acts in proptest::collection::vec((0u64..4, proptest::bool::ANY), 1..300),
        ) {
            let weights = [1, 2, 4, 4];
            let mut queue = Queue::default();
            let (mut came, mut served, mut passed) = (vec![Vec::new(); 4], vec![Vec::new(); 4], vec![0usize; 4]);
            for (number, (owner, begins)) in acts.iter().enumerate() {
                match begins {
                    false => {
                        if came[*owner as usize].len() == served[*owner as usize].len() {
                            passed[*owner as usize] = 0;
                        }
                        came[*owner as usize].push(number);
                        queue.arrive(*owner, weights[*owner as usize], number);
                    }
                    true => {
                        let waits = !queue.waiting.is_empty();
                        let Some((owner, number)) = queue.begin() else {
                            prop_assert!(!waits);
                            continue;
                        };
                        served[owner as usize].push(number);
                        for other in 0..4 {
                            let is_behind = other != owner as usize && came[other].len() > served[other].len();
                            passed[other] = if is_behind { passed[other] + 1 } else { 0 };
                            // All weights together over its own, and one request in hand of each.
                            let most = 11 / weights[other] as usize + 2 * 4;
                            prop_assert!(passed[other] <= most, "owner {other} was passed {} times", passed[other]);
                        }
                    }
                }
            }
            while let Some((owner, number)) = queue.begin() {
                served[owner as usize].push(number);
            }
            prop_assert_eq!(came, served);
        }
    }
}
