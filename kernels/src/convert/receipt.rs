//! The quality receipt: how near a version is to its parent on rows that a person chose. Both are computed side by side, token for
//! token, in chunks, so that memory holds some rows of logits and two mapped models. Never here: which rows, and what
//! counts as near enough.

use std::path::Path;

use super::{ConvertError, refuse};
use crate::serve::KvType;
use crate::serve::llama::{Adapter, Batch, Context, ContextParams, Model};
use crate::train::TokenRow;

/// Tokens that are computed at a time.
const CHUNK_TOKENS: usize = 128;
/// Longest part of a row that is judged, in tokens.
pub const ROW_TOKENS_MAX: usize = 1024;
/// Tokens that are computed in all, at most; rows behind them are left out.
pub const TOKENS_MAX: usize = 32_768;

/// One of the two.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// GGUF file of a whole model.
    pub model: &'a Path,
    /// GGUF file of an adapter over it.
    pub adapter: Option<&'a Path>,
}

/// What was measured, over the target tokens of all rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Receipt {
    /// Rows with a target.
    pub rows: u64,
    /// Target tokens.
    pub tokens: u64,
    /// Of the version.
    pub perplexity: f64,
    /// Of its parent.
    pub parent_perplexity: f64,
    /// Mean divergence of the version's distribution from its parent's, in nats: sum of p ln(p / q), p the parent's.
    pub mean_kl: f64,
    /// Share of the tokens at which both find the same token likeliest.
    pub same_greedy: f64,
}

/// Measures `version` against `parent`. `progress` is told rows done and in all.
pub fn measure(
    version: Side<'_>,
    parent: Side<'_>,
    rows: &[TokenRow],
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Receipt, ConvertError> {
    let longest = rows.iter().map(|row| row.tokens.len().min(ROW_TOKENS_MAX)).max().unwrap_or(0);
    let (mut ours, mut theirs) = (open(version, longest, threads)?, open(parent, longest, threads)?);
    let mut sums = Sums::default();
    for (number, row) in rows.iter().enumerate() {
        if sums.computed >= TOKENS_MAX {
            break;
        }
        sums.row(&mut ours, &mut theirs, row)?;
        progress(number as u64 + 1, rows.len() as u64);
    }
    let tokens = sums.tokens as f64;
    let receipt = Receipt {
        rows: sums.rows,
        tokens: sums.tokens,
        perplexity: (sums.loss / tokens).exp(),
        parent_perplexity: (sums.parent_loss / tokens).exp(),
        mean_kl: sums.kl / tokens,
        same_greedy: sums.same as f64 / tokens,
    };
    let numbers = [receipt.perplexity, receipt.parent_perplexity, receipt.mean_kl];
    if sums.tokens == 0 {
        return refuse(version.model, "rows", "none has a token that a model would be trained on");
    }
    if numbers.iter().any(|number| !number.is_finite()) {
        return refuse(version.model, "logits", "are no numbers; the conversion or its source is damaged");
    }
    Ok(receipt)
}

fn open(side: Side<'_>, longest: usize, threads: usize) -> Result<Context, ConvertError> {
    let model = Model::load(side.model)?;
    let adapter = side.adapter.map(|path| Adapter::load(&model, path)).transpose()?;
    let chunk = CHUNK_TOKENS as u32;
    let params = ContextParams {
        slots: 1,
        tokens_per_slot: longest.max(1) as u32,
        batch_tokens_max: chunk,
        graph_tokens_max: chunk,
        outputs_max: chunk,
        threads,
        kv_type: KvType::F16,
        embeds: false,
    };
    Ok(Context::new(&model, adapter, None, params)?)
}

#[derive(Debug, Default)]
struct Sums {
    rows: u64,
    tokens: u64,
    loss: f64,
    parent_loss: f64,
    kl: f64,
    same: u64,
    computed: usize,
    /// A long text is many token rows of one row.
    last_row: Option<u64>,
}

impl Sums {
    fn row(&mut self, ours: &mut Context, theirs: &mut Context, row: &TokenRow) -> Result<(), ConvertError> {
        let length = row.tokens.len().min(ROW_TOKENS_MAX);
        // The logits of a position are judged by the token behind it.
        let judged = |at: usize| at + 1 < length && row.trained[at + 1];
        if !(0..length).any(judged) {
            return Ok(());
        }
        self.rows += u64::from(self.last_row.replace(row.row_id) != Some(row.row_id));
        self.computed += length;
        ours.clear();
        theirs.clear();
        for start in (0..length).step_by(CHUNK_TOKENS) {
            let end = (start + CHUNK_TOKENS).min(length);
            for context in [&mut *ours, &mut *theirs] {
                let mut batch = Batch::default();
                for at in start..end {
                    batch.add(0, at, row.tokens[at], judged(at));
                }
                context.decode(&mut batch)?;
            }
            for at in (start..end).filter(|at| judged(*at)) {
                if let (Some(q), Some(p)) = (ours.logits(at - start), theirs.logits(at - start)) {
                    self.token(q, p, row.tokens[at + 1] as usize);
                }
            }
        }
        Ok(())
    }

    fn token(&mut self, q: &[f32], p: &[f32], target: usize) {
        let (q_top, q_norm) = normal(q);
        let (p_top, p_norm) = normal(p);
        self.tokens += 1;
        self.loss += q_norm - f64::from(q[target]);
        self.parent_loss += p_norm - f64::from(p[target]);
        self.same += u64::from(q_top == p_top);
        for (q, p) in q.iter().zip(p) {
            let (q, p) = (f64::from(*q) - q_norm, f64::from(*p) - p_norm);
            self.kl += p.exp() * (p - q);
        }
    }
}

/// The likeliest token, and the logarithm of the sum of powers.
fn normal(logits: &[f32]) -> (usize, f64) {
    let (top, most) = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (at, &v)| if v > best.1 { (at, v) } else { best });
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    (top, f64::from(most) + sum.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_no_distance_from_itself_and_another_one_is() {
        let mut sums = Sums::default();
        sums.token(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], 2);
        assert!(sums.kl.abs() < 1e-12 && sums.same == 1 && (sums.loss - sums.parent_loss).abs() < 1e-12);
        // Uniform beside (1/2, 1/4, 1/4): 1/2 ln(3/2) + 2 x 1/4 ln(3/4).
        let mut sums = Sums::default();
        sums.token(&[0.0, 0.0, 0.0], &[2f32.ln(), 0.0, 0.0], 0);
        assert!((sums.kl - (0.5 * 1.5f64.ln() + 0.5 * 0.75f64.ln())).abs() < 1e-7, "{}", sums.kl);
        assert!((sums.loss - 3f64.ln()).abs() < 1e-7 && (sums.parent_loss - 2f64.ln()).abs() < 1e-7);
    }
}
