//! Whether a run still learns: the loss of its last steps against the lowest before. A pure function of the losses, so an
//! interrupted run is judged as an uninterrupted one. Numbers that are none are the trainer's own check.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Steps whose losses are taken together: single steps see easy and hard rows.
pub(crate) const WINDOW: usize = 20;

/// What a run's losses were.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Sum of losses and targets of the last steps, oldest first.
    recent: VecDeque<(f64, u64)>,
    /// Lowest mean of a whole window; `None` before there was one.
    lowest: Option<f64>,
}

/// Means per target of a window, and of the lowest window before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rise {
    pub(crate) mean: f64,
    pub(crate) lowest: f64,
}

impl Watch {
    /// Takes the mean loss of the next step over so many targets; says so if the run has diverged: if the mean of the last steps
    /// lies more than `rise_max` nats above the lowest before.
    pub(crate) fn see(&mut self, loss: f64, targets: u64, rise_max: f64) -> Option<Rise> {
        self.recent.push_back((loss * targets as f64, targets));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        if self.recent.len() < WINDOW {
            return None;
        }
        let (sum, targets) =
            self.recent.iter().fold((0.0, 0), |(sum, all), (loss, targets)| (sum + loss, all + targets));
        let mean = sum / targets as f64;
        let lowest = self.lowest.map_or(mean, |lowest| lowest.min(mean));
        self.lowest = Some(lowest);
        (mean > lowest + rise_max).then_some(Rise { mean, lowest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_alarm(losses: impl IntoIterator<Item = f64>) -> Option<usize> {
        let mut watch = Watch::default();
        losses.into_iter().position(|loss| watch.see(loss, 100, 3.0).is_some())
    }

    #[test]
    fn a_run_that_falls_wavers_or_jumps_once_goes_on() {
        assert_eq!(first_alarm((0..500).map(|step| 4.0 / (1.0 + step as f64 / 50.0))), None);
        assert_eq!(first_alarm((0..500).map(|step| if step % 2 == 0 { 0.5 } else { 5.0 })), None);
        assert_eq!(first_alarm((0..500).map(|step| if step == 200 { 40.0 } else { 1.0 })), None);
    }

    #[test]
    fn a_run_that_stays_high_is_stopped_within_a_window() {
        let alarm = first_alarm((0..500).map(|step| if step < 100 { 2.0 } else { 9.0 })).unwrap();
        assert!((100..120).contains(&alarm), "{alarm}");
        let slow = first_alarm((0..500).map(|step| 1.0 + step as f64 / 50.0)).unwrap();
        assert!((150..200).contains(&slow), "{slow}");
        let mut strict = Watch::default();
        let waver = (0..500).map(|step| if step % 40 < 20 { 1.0 } else { 1.5 });
        assert_eq!(waver.clone().position(|loss| strict.see(loss, 100, 0.4).is_some()), Some(36));
        assert_eq!(first_alarm(waver), None);
    }

    #[test]
    fn few_targets_weigh_little_and_what_is_written_goes_on_the_same() {
        let mut watch = Watch::default();
        for step in 0..60 {
            let (loss, targets) = if step % 2 == 0 { (1.0, 1000) } else { (12.0, 1) };
            assert_eq!(watch.see(loss, targets, 3.0), None);
        }
        let text = serde_json::to_string(&watch).unwrap();
        let read: Watch = serde_json::from_str(&text).unwrap();
        assert_eq!(read, watch);
    }
}
