//! The format advisor: what formats of a model come to on this machine, and the rule by which one is advised. Never here:
//! measuring (`kernels/src/convert/bench.rs`).

use serde::{Deserialize, Serialize};

use crate::convert::{Receipt, WeightsFormat};

/// Formats that are measured when none are named: one of 16 bits, and one for each of the usual sizes below.
pub const USUAL_FORMATS: [WeightsFormat; 5] =
    [WeightsFormat::F16, WeightsFormat::Q80, WeightsFormat::Q5KM, WeightsFormat::Q4KM, WeightsFormat::Q40];
/// A format is only advised when its distribution of the next token diverges from its source's by no more, in nats.
pub const KL_MAX: f64 = 0.05;
/// Formats whose speeds differ by no more than this share count as equally fast; the nearer to the source is advised.
pub const SAME_SPEED: f64 = 0.05;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// `name@number` of the least quantised ancestor, that all formats were made from.
    pub source: String,
    /// Compute threads.
    pub threads: u32,
    /// Every format, in the order asked for.
    pub formats: Vec<FormatFigures>,
    /// The format to train adapters over.
    pub train_on: Option<WeightsFormat>,
    /// The format to serve.
    pub serve: Option<WeightsFormat>,
}

/// One format on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormatFigures {
    /// The format.
    pub format: WeightsFormat,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// Tokens a second of LoRA training over it, at the default settings; none where it does not train here.
    pub train_tokens_per_s: Option<f64>,
    /// Prompt tokens a second of one request.
    pub prefill_tokens_per_s: f64,
    /// Answer tokens a second of one request.
    pub decode_tokens_per_s: f64,
    /// How near it is to its source on the rows.
    pub receipt: Receipt,
    /// What a person should know: sentences in English; empty for none.
    pub note: String,
}

impl FormatFigures {
    /// Whether it is near enough to its source to be advised.
    pub fn is_near(&self) -> bool {
        self.receipt.mean_kl <= KL_MAX
    }
}

/// The fastest of those that are near enough to their source, by `speed`; among equally fast ones the nearest. Where none is
/// near enough, the nearest of all that have a speed.
pub fn advise(formats: &[FormatFigures], speed: impl Fn(&FormatFigures) -> Option<f64>) -> Option<WeightsFormat> {
    let running: Vec<(&FormatFigures, f64)> = formats.iter().filter_map(|f| Some((f, speed(f)?))).collect();
    let near = |f: &&(&FormatFigures, f64)| f.0.is_near();
    let best = running.iter().filter(near).map(|(_, speed)| *speed).fold(f64::NEG_INFINITY, f64::max);
    let by_distance =
        |a: &&(&FormatFigures, f64), b: &&(&FormatFigures, f64)| a.0.receipt.mean_kl.total_cmp(&b.0.receipt.mean_kl);
    let fast = running.iter().filter(near).filter(|(_, speed)| *speed >= best * (1.0 - SAME_SPEED));
    let chosen = fast.min_by(by_distance).or_else(|| running.iter().min_by(by_distance));
    chosen.map(|(figures, _)| figures.format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(format: WeightsFormat, speed: f64, kl: f64) -> FormatFigures {
        FormatFigures {
            format,
            size_bytes: 1,
            train_tokens_per_s: None,
            prefill_tokens_per_s: 1.0,
            decode_tokens_per_s: speed,
            receipt: Receipt {
                dataset: "rows@1".into(),
                rows: 1,
                tokens: 1,
                perplexity: 1.0,
                parent_perplexity: 1.0,
                mean_kl: kl,
                same_greedy: 1.0,
                imatrix: None,
            },
            note: String::new(),
        }
    }

    #[test]
    fn the_fastest_near_format_is_advised_and_a_tie_goes_to_the_nearest() {
        use WeightsFormat::{F16, Q3KM, Q40, Q80};
        let decode = |f: &FormatFigures| Some(f.decode_tokens_per_s);
        let mut formats = vec![figures(F16, 50.0, 0.0), figures(Q80, 90.0, 0.001), figures(Q40, 100.0, 0.04)];
        assert_eq!(advise(&formats, decode), Some(Q40));
        formats.push(figures(Q3KM, 120.0, 0.2));
        assert_eq!(advise(&formats, decode), Some(Q40), "what is too far away is not advised");
        formats[1].decode_tokens_per_s = 97.0;
        assert_eq!(advise(&formats, decode), Some(Q80), "equally fast, and nearer");
        let far = [figures(Q40, 100.0, 0.3), figures(Q3KM, 120.0, 0.2)];
        assert_eq!(advise(&far, decode), Some(Q3KM), "none is near: the nearest");
        assert_eq!(advise(&formats, |f| f.train_tokens_per_s), None);
    }
}
