//! What a run makes of rows without an update: losses of held-out rows, what the base makes of pairs, and logits. Nothing
//! here changes a run.

use super::batch::{Inputs, Shape};
use super::blocks::{Mode, Pass, PassSpec};
use super::packing::{self, Layout, Prepared, TokenRow};
use super::params::{Objective, TrainParams};
use super::plan::admit;
use super::preference::{Answer, Pairs, PreferenceMetrics};
use super::trainer::Trainer;
use super::{TrainError, packing::rows_sha256};

/// Loss of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowLoss {
    /// The row.
    pub row_id: u64,
    /// Sum of its targets' negative log-likelihoods.
    pub loss_sum: f64,
    /// Its targets.
    pub targets: u64,
}

impl RowLoss {
    fn answer(self) -> Answer {
        Answer { log_prob: -self.loss_sum, targets: self.targets }
    }
}

/// Losses without an update.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Sum over all targets, or over all pairs.
    pub loss_sum: f64,
    /// Targets, or pairs.
    pub targets: u64,
    /// Each row that took part, in the order given.
    pub rows: Vec<RowLoss>,
    /// What pairs came to.
    pub preference: Option<PreferenceMetrics>,
    /// Rows cut to `sequence_tokens`.
    pub cut: usize,
    /// Rows left out because they are longer than `sequence_tokens`.
    pub refused: usize,
    /// Rows left out because they have no target.
    pub without_target: usize,
}

impl Evaluation {
    /// Mean loss per target token, or per pair.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.targets as f64
    }

    /// exp(loss).
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }
}

impl Trainer {
    /// Losses of `rows` under the adapter as it is, without an update; `None` when `stop`, asked before every pass,
    /// said yes. The settings' `objective`, `sequence_tokens` and `long_rows` apply.
    pub fn evaluate(&mut self, rows: &[TokenRow], stop: &dyn Fn() -> bool) -> Result<Option<Evaluation>, TrainError> {
        let prepared = admit(rows, &self.params, &self.config)?;
        let Some(losses) = self.row_losses(rows, &prepared, stop)? else { return Ok(None) };
        let (mut loss_sum, mut targets, mut pairs) = (0.0, 0, Pairs::default());
        if self.params.objective == Objective::Likelihood {
            for row in &losses {
                loss_sum += row.loss_sum;
                targets += row.targets;
            }
        } else {
            let Some(reference) = self.reference_of(rows, &prepared, stop)? else { return Ok(None) };
            for (pair, reference) in losses.chunks_exact(2).zip(reference.chunks_exact(2)) {
                let answers = [pair[0].answer(), pair[1].answer()];
                pairs.add(self.params.objective.judge(answers, [reference[0], reference[1]]));
            }
            (loss_sum, targets) = (pairs.loss, pairs.count);
        }
        Ok(Some(Evaluation {
            loss_sum,
            targets,
            rows: losses,
            preference: pairs.metrics(),
            cut: prepared.cut,
            refused: prepared.refused,
            without_target: prepared.without_target,
        }))
    }

    /// Losses of the rows that take part, in their order.
    fn row_losses(
        &self,
        rows: &[TokenRow],
        prepared: &Prepared,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<RowLoss>>, TrainError> {
        let group = self.params.objective.rows_per_group();
        let layout = Layout::new(&prepared.documents, self.params.batch_tokens(), group);
        let order: Vec<usize> = (0..prepared.documents.len() / group).collect();
        let batches = packing::pack(&prepared.documents, &order, layout);
        let shape = Shape::of(layout, batches.iter());
        let (mut inputs, pass) = self.side_pass(shape, Mode::Evaluate)?;
        let mut by_row: Vec<Option<RowLoss>> = vec![None; rows.len()];
        for batch in &batches {
            if stop() {
                return Ok(None);
            }
            inputs.fill(rows, batch, &self.config, shape, 1.0, 0);
            pass.compute(&self.backend)?;
            let mut losses = inputs.target_losses(batch.targets);
            for piece in &batch.pieces {
                let document = piece.document;
                by_row[document.row] = Some(RowLoss {
                    row_id: rows[document.row].row_id,
                    loss_sum: losses.by_ref().take(document.targets).sum(),
                    targets: document.targets as u64,
                });
            }
        }
        Ok(Some(by_row.into_iter().flatten().collect()))
    }

    /// What the base alone makes of the rows that take part: log-probabilities in their order, zeros where the objective
    /// does not ask. Kept for the rows that were asked about last.
    fn reference_of(
        &mut self,
        rows: &[TokenRow],
        prepared: &Prepared,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f64>>, TrainError> {
        if !self.params.objective.wants_reference() {
            return Ok(Some(vec![0.0; prepared.documents.len()]));
        }
        let key = rows_sha256(rows);
        if let Some((_, known)) = self.held_out_reference.as_ref().filter(|(known, _)| *known == key) {
            return Ok(Some(known.clone()));
        }
        let found = self.base_log_probs(rows, prepared, stop)?;
        self.held_out_reference = found.clone().map(|found| (key, found));
        Ok(found)
    }

    fn base_log_probs(
        &self,
        rows: &[TokenRow],
        prepared: &Prepared,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f64>>, TrainError> {
        let values = self.lora.values.to_vec::<f32>();
        self.lora.values.clear();
        let losses = self.row_losses(rows, prepared, stop);
        self.lora.values.write(&values);
        Ok(losses?.map(|losses| losses.iter().map(|row| -row.loss_sum).collect()))
    }

    /// Computes what the base makes of the run's rows, if the objective asks for it and it is not there yet: a forward pass
    /// over all rows. Says no when `stop`, asked before every pass, said yes. [`Trainer::step`] does it where it was not done.
    pub fn prepare(&mut self, stop: &dyn Fn() -> bool) -> Result<bool, TrainError> {
        if !self.params.objective.wants_reference() || !self.reference.is_empty() {
            return Ok(true);
        }
        let Some(found) = self.base_log_probs(&self.rows, &self.prepared, stop)? else { return Ok(false) };
        self.reference = vec![0.0; self.rows.len()];
        for (document, log_prob) in self.prepared.documents.iter().zip(found) {
            self.reference[document.row] = log_prob;
        }
        Ok(true)
    }

    /// Logits of one row under the adapter as it is: `vocab` values for each position but the last.
    pub fn logits(&self, tokens: &[i32]) -> Result<Vec<f32>, TrainError> {
        let row = TokenRow { row_id: 0, tokens: tokens.to_vec(), trained: vec![true; tokens.len()] };
        let params = TrainParams {
            objective: Objective::Likelihood,
            sequence_tokens: self.params.sequence_tokens.max(tokens.len() as u32),
            ..self.params.clone()
        };
        let rows = [row];
        let prepared = admit(&rows, &params, &self.config)?;
        let layout = Layout::new(&prepared.documents, tokens.len(), 1);
        let batches = packing::pack(&prepared.documents, &[0], layout);
        let shape = Shape::of(layout, batches.iter());
        let (mut inputs, pass) = self.side_pass(shape, Mode::Logits)?;
        inputs.fill(&rows, &batches[0], &self.config, shape, 1.0, 0);
        pass.compute(&self.backend)?;
        Ok(pass.logits().expect("a pass in this mode has logits"))
    }

    /// Inputs and graph of a pass beside the run's own.
    fn side_pass(&self, shape: Shape, mode: Mode) -> Result<(Inputs, Pass), TrainError> {
        let inputs = Inputs::new(&self.backend, &self.config, shape, !self.weights.packed)?;
        let spec = PassSpec {
            config: &self.config,
            weights: &self.weights,
            lora: &self.lora,
            inputs: &inputs,
            shape,
            mode,
            recompute_every: 0,
            dropout: None,
        };
        let pass = Pass::new(&self.backend, &spec)?;
        Ok((inputs, pass))
    }
}
