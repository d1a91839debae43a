//! Picks the next token from a row of logits: greedy, or by llama.cpp's own chain of samplers in
//! llama.cpp's order (penalties, top-k, top-p, min-p, temperature, draw).
//!
//! What never lives here: decoding, stop conditions.

use std::hash::{BuildHasher, Hasher, RandomState};

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

/// Longest stretch of sampled tokens that penalties look back on.
pub const PENALTY_TOKENS_MAX: u32 = 4096;

/// How tokens are picked. `Sampling::default()` is what an OpenAI client gets who asks for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; 1 leaves the model's distribution as it is. In [0, 2].
    pub temperature: f32,
    /// Keep the most likely tokens that together have this probability. In (0, 1]; 1 is off.
    pub top_p: f32,
    /// Keep this many of the most likely tokens; 0 is off.
    pub top_k: u32,
    /// Keep tokens at least this likely relative to the most likely one. In [0, 1]; 0 is off.
    pub min_p: f32,
    /// Divides (multiplies, if negative) the logits of tokens said before. In [0.1, 10]; 1 is off.
    pub repeat_penalty: f32,
    /// Taken from a token's logit once per time it was said. In [-2, 2]; 0 is off.
    pub frequency_penalty: f32,
    /// Taken from a token's logit if it was said at all. In [-2, 2]; 0 is off.
    pub presence_penalty: f32,
    /// How many sampled tokens the penalties look back on. The prompt is never penalised.
    pub penalty_tokens: u32,
    /// Start of the random draw; `None` draws one.
    pub seed: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_tokens: 256,
            seed: None,
        }
    }
}

/// A sampling parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} must be in [{low}, {high}], got {got}")]
pub struct OutOfRange {
    /// Name of the field.
    pub field: &'static str,
    /// Least value.
    pub low: f32,
    /// Greatest value.
    pub high: f32,
    /// Value given.
    pub got: f32,
}

impl Sampling {
    /// Greedy: the most likely token every time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every field's range. NaN is in none.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let fields = [
            ("temperature", 0.0, 2.0, self.temperature),
            ("top_p", f32::MIN_POSITIVE, 1.0, self.top_p),
            ("min_p", 0.0, 1.0, self.min_p),
            ("repeat_penalty", 0.1, 10.0, self.repeat_penalty),
            ("frequency_penalty", -2.0, 2.0, self.frequency_penalty),
            ("presence_penalty", -2.0, 2.0, self.presence_penalty),
            ("penalty_tokens", 0.0, PENALTY_TOKENS_MAX as f32, self.penalty_tokens as f32),
        ];
        for (field, low, high, got) in fields {
            if !(low..=high).contains(&got) {
                return Err(OutOfRange { field, low, high, got });
            }
        }
        Ok(())
    }

    fn penalises(&self) -> bool {
        self.penalty_tokens > 0
            && (self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

/// The sampler of one request.
#[derive(Debug)]
pub struct Sampler {
    /// `None` for plain greedy, which needs no chain.
    chain: Option<LlamaSampler>,
    candidates: LlamaTokenDataArray,
}

impl Sampler {
    /// A sampler for checked parameters over a vocabulary of `vocab_size` tokens.
    pub fn new(sampling: &Sampling, vocab_size: usize) -> Self {
        let greedy = sampling.temperature <= 0.0;
        let mut chain = Vec::new();
        if sampling.penalises() {
            chain.push(LlamaSampler::penalties(
                i32::try_from(vocab_size).unwrap_or(i32::MAX),
                sampling.penalty_tokens.cast_signed(),
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            ));
        }
        if greedy {
            if !chain.is_empty() {
                chain.push(LlamaSampler::greedy());
            }
        } else {
            if sampling.top_k > 0 {
                chain.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            if sampling.top_p < 1.0 {
                chain.push(LlamaSampler::top_p(sampling.top_p, 1));
            }
            if sampling.min_p > 0.0 {
                chain.push(LlamaSampler::min_p(sampling.min_p, 1));
            }
            chain.push(LlamaSampler::temp(sampling.temperature));
            chain.push(LlamaSampler::dist(draw_seed(sampling.seed)));
        }
        Self {
            chain: (!chain.is_empty()).then(|| LlamaSampler::chain_simple(chain)),
            candidates: LlamaTokenDataArray::new(Vec::new(), false),
        }
    }

    /// Picks a token and remembers it for the penalties. `None` when the logits hold no finite
    /// number, which means that the weights or the computation are broken.
    pub fn pick(&mut self, logits: &[f32]) -> Option<i32> {
        let best = argmax(logits)?;
        let Some(chain) = &mut self.chain else {
            return Some(best);
        };
        let candidates = &mut self.candidates;
        candidates.data.clear();
        candidates
            .data
            .extend((0_i32..).zip(logits).map(|(id, &logit)| LlamaTokenData::new(LlamaToken::new(id), logit, 0.0)));
        candidates.selected = None;
        candidates.sorted = false;
        chain.apply(candidates);
        let token = candidates.selected_token()?;
        chain.accept(token);
        Some(token.0)
    }
}

/// Index of the greatest finite value, the first of equals.
pub fn argmax(values: &[f32]) -> Option<i32> {
    let mut best = f32::NEG_INFINITY;
    for chunk in values.chunks(64) {
        // Plain maximum over a chunk is vectorised by the compiler; NaN loses every comparison.
        let top = chunk.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
        if top > best {
            best = top;
        }
    }
    if !best.is_finite() {
        return None;
    }
    let index = values.iter().position(|&v| v == best)?;
    i32::try_from(index).ok()
}

/// -ln of the probability that `logits` give to `target`: log-sum-exp with the greatest logit taken
/// out, terms in F32 (relative error below 2^-22 each), summed in F64.
pub fn negative_log_probability(logits: &[f32], target: i32) -> Option<f64> {
    let target = *logits.get(usize::try_from(target).ok()?)?;
    let top = logits[usize::try_from(argmax(logits)?).ok()?];
    let sum: f64 = logits.iter().map(|&v| f64::from((v - top).exp())).sum();
    let result = f64::from(top) - f64::from(target) + sum.ln();
    result.is_finite().then_some(result)
}

fn draw_seed(seed: Option<u32>) -> u32 {
    /// llama.cpp takes this seed to mean "draw one".
    const DRAWN_BY_ENGINE: u32 = u32::MAX;
    match seed {
        Some(DRAWN_BY_ENGINE) => 0,
        Some(seed) => seed,
        None => RandomState::new().build_hasher().finish() as u32 & 0x7fff_ffff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [0.5, 3.0, -1.0, 2.9, f32::NAN, 1.0];

    #[test]
    fn greedy_takes_the_first_greatest_and_passes_over_nan() {
        assert_eq!(Sampler::new(&Sampling::greedy(), 6).pick(&LOGITS), Some(1));
        assert_eq!(argmax(&[2.0, 2.0]), Some(0));
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(argmax(&[]), None);
    }

    #[test]
    fn a_seed_fixes_the_draw_and_top_k_one_is_greedy() {
        let logits: Vec<f32> = (0..512).map(|i| (i % 7) as f32 * 0.3).collect();
        let draw = |seed| {
            let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
            let mut sampler = Sampler::new(&sampling, logits.len());
            (0..16).map(|_| sampler.pick(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let sampling = Sampling { top_k: 1, ..Sampling::default() };
        assert_eq!(Sampler::new(&sampling, 6).pick(&[0.0, 1.0, 5.0, 2.0, 0.0, 0.0]), Some(2));
    }

    #[test]
    fn min_p_and_top_p_keep_only_likely_tokens() {
        let logits = [10.0, 9.9, 0.0, 0.0];
        for sampling in [
            Sampling { min_p: 0.5, seed: Some(1), ..Sampling::default() },
            Sampling { top_p: 0.6, seed: Some(1), ..Sampling::default() },
        ] {
            let mut sampler = Sampler::new(&sampling, 4);
            assert!((0..64).all(|_| sampler.pick(&logits).unwrap() < 2));
        }
    }

    #[test]
    fn a_presence_penalty_moves_on_to_the_next_token() {
        let sampling = Sampling { presence_penalty: 2.0, ..Sampling::greedy() };
        let mut sampler = Sampler::new(&sampling, 3);
        let logits = [1.0, 2.5, 2.0];
        assert_eq!(sampler.pick(&logits), Some(1));
        assert_eq!(sampler.pick(&logits), Some(2));
    }

    #[test]
    fn every_field_has_a_range_and_nan_is_outside() {
        assert!(Sampling::default().check().is_ok());
        let cases = [
            Sampling { temperature: -1.0, ..Sampling::default() },
            Sampling { temperature: f32::NAN, ..Sampling::default() },
            Sampling { top_p: 0.0, ..Sampling::default() },
            Sampling { min_p: 1.5, ..Sampling::default() },
            Sampling { repeat_penalty: 0.0, ..Sampling::default() },
            Sampling { frequency_penalty: 3.0, ..Sampling::default() },
            Sampling { presence_penalty: f32::INFINITY, ..Sampling::default() },
            Sampling { penalty_tokens: 5000, ..Sampling::default() },
        ];
        for case in cases {
            assert!(case.check().is_err(), "{case:?}");
        }
    }

    #[test]
    fn log_probability_equals_the_definition() {
        let logits = [1.0_f32, 2.0, 3.0];
        let sum: f64 = logits.iter().map(|&v| f64::from(v).exp()).sum();
        let expected = sum.ln() - 2.0;
        assert!((negative_log_probability(&logits, 1).unwrap() - expected).abs() < 1e-6);
        assert!(negative_log_probability(&logits, 3).is_none());
        assert!(negative_log_probability(&logits, -1).is_none());
    }
}
