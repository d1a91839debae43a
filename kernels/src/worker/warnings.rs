//! Whether a person should look at a run: a loss that jumps, a held-out loss that keeps rising. A pure function of the losses
//! of one attempt; each rule speaks once and again only after it was quiet.
//!
//! What never lives here: what ends a run (`crate::train` decides that).

use std::collections::VecDeque;

use hone_protocol::train::{Warned, WatchRule};
use hone_protocol::value::Metric;

/// Losses whose median a step is compared with.
const WINDOW: usize = 50;
/// Fewer say nothing yet.
const WINDOW_LEAST: usize = 10;
/// A loss of so many medians is a spike.
const SPIKE: f64 = 3.0;
/// Rises of the held-out loss in a row.
const RISES: usize = 3;

/// What an attempt's losses were.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    losses: VecDeque<f64>,
    spiking: bool,
    held_out: VecDeque<f64>,
    rising: bool,
}

impl Warnings {
    /// Takes the loss of a step.
    pub(super) fn see(&mut self, step: u64, loss: f64) -> Option<Warned> {
        let median = (self.losses.len() >= WINDOW_LEAST).then(|| median(&self.losses));
        let spikes = median.is_some_and(|median| loss > SPIKE * median.max(1e-6));
        let began = spikes && !self.spiking;
        self.spiking = spikes;
        keep(&mut self.losses, loss, WINDOW);
        began.then(|| warned(step, WatchRule::Spike, loss, median.unwrap_or_default()))
    }

    /// Takes a held-out loss.
    pub(super) fn see_held_out(&mut self, step: u64, loss: f64) -> Option<Warned> {
        keep(&mut self.held_out, loss, RISES + 1);
        let rises = self.held_out.iter().zip(self.held_out.iter().skip(1)).filter(|(before, now)| now > before).count();
        let rising = rises == RISES;
        let began = rising && !self.rising;
        self.rising = rising;
        began.then(|| warned(step, WatchRule::RisingEvalLoss, loss, self.held_out[0]))
    }
}

fn keep(losses: &mut VecDeque<f64>, loss: f64, most: usize) {
    losses.push_back(loss);
    if losses.len() > most {
        losses.pop_front();
    }
}

fn median(losses: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = losses.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn warned(step: u64, rule: WatchRule, value: f64, against: f64) -> Warned {
    Warned { step, rule, value: Metric::from(value), against: Metric::from(against) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_said_once_and_a_wavering_loss_is_none() {
        let mut warnings = Warnings::default();
        let losses = (0..40).map(|step| 2.0 + f64::from(step % 3) * 0.4).chain([9.0, 9.5, 2.0, 8.0]);
        let said: Vec<(u64, f64)> = losses
            .zip(1..)
            .filter_map(|(loss, step)| warnings.see(step, loss))
            .map(|warned| (warned.step, warned.against.value()))
            .collect();
        assert_eq!(said, [(41, 2.4), (44, 2.4)]);
    }

    #[test]
    fn three_rises_of_the_held_out_loss_are_said_once() {
        let mut warnings = Warnings::default();
        let losses = [3.0, 2.5, 2.4, 2.45, 2.5, 2.6, 2.7, 2.5, 2.6, 2.7, 2.8];
        let said: Vec<u64> = losses
            .into_iter()
            .zip(0..)
            .filter_map(|(loss, step)| warnings.see_held_out(step, loss))
            .map(|w| w.step)
            .collect();
        assert_eq!(said, [5, 10]);
    }
}
