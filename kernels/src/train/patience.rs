//! Whether held-out loss still falls, and for how long a run goes on when it does not. A pure function of the losses, kept in
//! checkpoints, so an interrupted run ends where an uninterrupted one would.

use serde::{Deserialize, Serialize};

/// What the evaluations of a run came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Patience {
    /// Step and loss of the lowest so far.
    best: Option<(u64, f64)>,
    /// Evaluations since then.
    since: u32,
}

impl Patience {
    /// Takes the next evaluation; says whether it is the lowest so far. A loss that is no number is none.
    pub(crate) fn see(&mut self, step: u64, loss: f64) -> bool {
        let lower = loss.is_finite() && self.best.is_none_or(|(_, best)| loss < best);
        if lower {
            (self.best, self.since) = (Some((step, loss)), 0);
        } else {
            self.since += 1;
        }
        lower
    }

    /// Whether so many evaluations in a row brought no new low; never for 0.
    pub(crate) fn ended(&self, most: u32) -> bool {
        most > 0 && self.since >= most
    }

    /// The step of the lowest.
    pub(crate) fn best_step(&self) -> Option<u64> {
        self.best.map(|(step, _)| step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_after_so_many_looks_without_a_new_low() {
        let mut patience = Patience::default();
        let seen: Vec<bool> =
            [3.0, 2.0, 2.5, 1.9, 2.0, f64::NAN].iter().zip(1..).map(|(loss, step)| patience.see(step, *loss)).collect();
        assert_eq!(seen, [true, true, false, true, false, false]);
        assert_eq!(patience.best_step(), Some(4));
        assert!(patience.ended(2) && !patience.ended(3) && !patience.ended(0));
        let text = serde_json::to_string(&patience).unwrap();
        assert_eq!(serde_json::from_str::<Patience>(&text).unwrap(), patience);
    }
}
