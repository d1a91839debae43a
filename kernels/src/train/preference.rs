//! What pairs of rows cost: DPO and ORPO as functions of the log-probabilities of a chosen and a rejected row. Both come
//! down to a weight for each of the pair's targets, so that the graph of a likelihood serves them: where a target's
//! likelihood has the gradient d(-log p), the pair's has its weight times that. Nothing here computes log-probabilities.

use super::params::Objective;

/// The answer of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Answer {
    /// Log-probability of all its target tokens together.
    pub(crate) log_prob: f64,
    /// Its target tokens.
    pub(crate) targets: u64,
}

/// What a pair costs. Chosen comes before rejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judged {
    pub(crate) loss: f64,
    /// By how much the chosen answer is ahead: DPO's difference of rewards, ORPO's logarithm of the odds ratio.
    pub(crate) margin: f64,
    /// d loss / d(-log p) for each target of the two rows.
    pub(crate) weights: [f64; 2],
}

/// 1 / (1 + e^-x).
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// -log sigmoid(x), without overflow.
fn softplus_of_minus(x: f64) -> f64 {
    (-x.abs()).exp().ln_1p() + (-x).max(0.0)
}

impl Objective {
    /// Whether a pair is compared with what the base makes of it.
    pub(crate) fn wants_reference(self) -> bool {
        matches!(self, Objective::Dpo { .. })
    }

    /// The cost of a pair under the run's model, given the base's log-probabilities of the two answers where
    /// [`Objective::wants_reference`].
    pub(crate) fn judge(self, [chosen, rejected]: [Answer; 2], reference: [f64; 2]) -> Judged {
        match self {
            Objective::Dpo { beta } => {
                let beta = f64::from(beta);
                let ratio = (chosen.log_prob - reference[0]) - (rejected.log_prob - reference[1]);
                let margin = beta * ratio;
                let pull = beta * sigmoid(-margin);
                Judged { loss: softplus_of_minus(margin), margin, weights: [pull, -pull] }
            }
            Objective::Orpo { beta } => {
                let beta = f64::from(beta);
                // Log-odds of an answer are those of its mean token; 1 - p is kept from 0, where a certain answer has no odds.
                let mean = |answer: Answer| answer.log_prob / answer.targets as f64;
                let against = |answer: Answer| (-mean(answer).exp_m1()).max(1e-9);
                let odds = |answer: Answer| mean(answer) - against(answer).ln();
                let margin = odds(chosen) - odds(rejected);
                let pull = beta * sigmoid(-margin);
                let weights = [
                    (1.0 + pull / against(chosen)) / chosen.targets as f64,
                    -pull / against(rejected) / rejected.targets as f64,
                ];
                Judged { loss: beta * softplus_of_minus(margin) - mean(chosen), margin, weights }
            }
            Objective::Likelihood => unreachable!("rows without pairs are not judged"),
        }
    }
}

/// What the pairs of a step, or of an evaluation, came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PreferenceMetrics {
    /// Mean of the pairs' margins: by how much chosen answers are ahead.
    pub margin: f64,
    /// Share of the pairs whose chosen answer is ahead, 0 to 1.
    pub accuracy: f64,
}

/// Sums over pairs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pairs {
    pub(crate) count: u64,
    pub(crate) loss: f64,
    margin: f64,
    ahead: u64,
}

impl Pairs {
    pub(crate) fn add(&mut self, judged: Judged) {
        self.count += 1;
        self.loss += judged.loss;
        self.margin += judged.margin;
        self.ahead += u64::from(judged.margin > 0.0);
    }

    /// `None` where there were no pairs.
    pub(crate) fn metrics(&self) -> Option<PreferenceMetrics> {
        let count = self.count as f64;
        (self.count > 0).then(|| PreferenceMetrics { margin: self.margin / count, accuracy: self.ahead as f64 / count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: [f64; 2] = [-14.0, -9.0];

    fn pair(chosen: f64, rejected: f64) -> [Answer; 2] {
        [Answer { log_prob: chosen, targets: 7 }, Answer { log_prob: rejected, targets: 5 }]
    }

    #[test]
    fn a_pair_like_the_base_costs_ln_2_and_one_that_moved_apart_less() {
        let dpo = Objective::Dpo { beta: 0.1 };
        let level = dpo.judge(pair(-14.0, -9.0), REFERENCE);
        assert!((level.loss - 2f64.ln()).abs() < 1e-12 && level.margin == 0.0);
        assert!((level.weights[0] - 0.05).abs() < 1e-8 && level.weights[1] == -level.weights[0]);
        let ahead = dpo.judge(pair(-10.0, -12.0), REFERENCE);
        assert!((ahead.margin - 0.7).abs() < 1e-6 && ahead.loss < level.loss);
        let far = dpo.judge(pair(-1e5, -1.0), REFERENCE);
        assert!((far.loss + far.margin).abs() < 1e-6, "no overflow: {far:?}");
    }

    #[test]
    fn weights_are_the_slopes_of_the_loss() {
        for objective in [Objective::Dpo { beta: 0.3 }, Objective::Orpo { beta: 0.5 }] {
            for (chosen, rejected) in [(-14.0, -9.0), (-3.0, -20.0), (-0.5, -0.4), (-40.0, -2.0)] {
                let loss = |chosen, rejected| objective.judge(pair(chosen, rejected), REFERENCE).loss;
                let step = 1e-5;
                let slopes = [
                    -(loss(chosen + step, rejected) - loss(chosen - step, rejected)) / (2.0 * step),
                    -(loss(chosen, rejected + step) - loss(chosen, rejected - step)) / (2.0 * step),
                ];
                let weights = objective.judge(pair(chosen, rejected), REFERENCE).weights;
                for (weight, slope) in weights.into_iter().zip(slopes) {
                    assert!(
                        (weight - slope).abs() < 1e-6 * (1.0 + slope.abs()),
                        "{objective:?} {weights:?} {slopes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn sums_count_who_is_ahead() {
        let mut pairs = Pairs::default();
        assert_eq!(pairs.metrics(), None);
        for margin in [1.0, -0.5, 0.5, 3.0] {
            pairs.add(Judged { loss: 1.0, margin, weights: [0.0; 2] });
        }
        assert_eq!(pairs.metrics(), Some(PreferenceMetrics { margin: 1.0, accuracy: 0.75 }));
    }
}
