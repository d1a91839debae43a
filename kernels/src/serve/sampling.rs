//! Picks the next token from a row of logits: greedy, or by llama.cpp's own chain of samplers in
//! llama.cpp's order (bias, penalties, top-k, typical, top-p, min-p, temperature, draw), within the grammar of the answer.
//!
//! What never lives here: decoding, stop conditions.

use std::hash::{BuildHasher, Hasher, RandomState};

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;

use super::constraint::Constraint;
use crate::cpu::math::exp;
use crate::train::SplitMix;

/// Longest stretch of sampled tokens that penalties look back on.
pub const PENALTY_TOKENS_MAX: u32 = 4096;

/// So many candidates the grammar is asked about at first, after the drawn one was refused; then so many times more.
const ASKED_FIRST: usize = 8;
/// See `ASKED_FIRST`.
const ASKED_MORE: usize = 8;

/// How tokens are picked. `Sampling::default()` is what an OpenAI client gets who asks for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; 1 leaves the model's distribution as it is. In [0, 2].
    pub temperature: f32,
    /// Keep the most likely tokens that together have this probability. In (0, 1]; 1 is off.
    pub top_p: f32,
    /// Keep this many of the most likely tokens; 0 is off.
    pub top_k: u32,
    /// Keep the tokens whose surprise is nearest to the expected one, until they have this probability together. In
    /// (0, 1]; 1 is off.
    pub typical_p: f32,
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
    /// Added to the logits of these tokens, before everything else.
    pub bias: Vec<(i32, f32)>,
    /// Start of the random draw; `None` draws one.
    pub seed: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            typical_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_tokens: 256,
            bias: Vec::new(),
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
            ("typical_p", f32::MIN_POSITIVE, 1.0, self.typical_p),
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

    /// Whether nothing but biases and the temperature shape the draw.
    fn is_plain(&self) -> bool {
        let keeps_all = self.top_k == 0 && self.typical_p >= 1.0 && self.top_p >= 1.0 && self.min_p <= 0.0;
        !self.penalises() && (keeps_all || self.temperature <= 0.0)
    }

    fn penalises(&self) -> bool {
        self.penalty_tokens > 0
            && (self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

/// The sampler of one request.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    bias: Vec<(i32, f32)>,
    /// Whether llama.cpp's samplers are not needed, which walk over all candidates several times.
    is_plain: bool,
    /// All that changes or removes candidates.
    shape: LlamaSampler,
    /// What chooses among those that are left.
    last: LlamaSampler,
    candidates: LlamaTokenDataArray,
    constraint: Option<Constraint>,
    /// For plain draws, and for the order of candidates within a grammar.
    random: SplitMix,
    /// Logits with the biases added.
    biased: Vec<f32>,
}

impl Sampler {
    /// A sampler for checked parameters over a vocabulary of `vocab_size` tokens.
    pub fn new(sampling: &Sampling, vocab_size: usize, constraint: Option<Constraint>) -> Self {
        let seed = draw_seed(sampling.seed);
        let last = if sampling.temperature <= 0.0 { LlamaSampler::greedy() } else { LlamaSampler::dist(seed) };
        Self {
            temperature: sampling.temperature,
            bias: sampling.bias.clone(),
            is_plain: sampling.is_plain(),
            shape: LlamaSampler::chain_simple(shape(sampling, vocab_size)),
            last,
            candidates: LlamaTokenDataArray::new(Vec::new(), false),
            constraint,
            random: SplitMix::new(u64::from(seed)),
            biased: Vec::new(),
        }
    }

    /// Picks a token and remembers it for the penalties and the grammar. `None` when the logits hold no finite
    /// number, which means that the weights or the computation are broken, or when the grammar allows no token.
    pub fn pick(&mut self, logits: &[f32]) -> Option<i32> {
        let mut token = match self.is_plain {
            true => self.pick_plainly(logits)?,
            false => {
                argmax(logits)?;
                self.choose(logits)?
            }
        };
        if self.constraint.as_mut().is_some_and(|c| c.is_active() && !c.allows(token)) {
            if self.is_plain {
                self.fill(logits);
                self.shape.apply(&mut self.candidates);
            }
            token = match self.next_allowed(token) {
                Some(token) => token,
                None => self.choose_from_all(logits)?,
            };
        }
        if let Some(constraint) = &mut self.constraint
            && !constraint.accept(token)
        {
            // What follows the trigger does not fit: the answer is plain text then.
            self.constraint = None;
        }
        if !self.is_plain {
            self.shape.accept(LlamaToken::new(token));
        }
        Some(token)
    }

    /// The likeliest token, or a draw from all of them.
    fn pick_plainly(&mut self, logits: &[f32]) -> Option<i32> {
        let row = match self.bias.is_empty() {
            true => logits,
            false => {
                self.biased.clear();
                self.biased.extend_from_slice(logits);
                for &(token, bias) in &self.bias {
                    if let Some(logit) = usize::try_from(token).ok().and_then(|at| self.biased.get_mut(at)) {
                        *logit += bias;
                    }
                }
                &self.biased
            }
        };
        let best = argmax(row)?;
        if self.temperature <= 0.0 {
            return Some(best);
        }
        let part = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        draw(row, best, self.temperature, part)
    }

    /// Another candidate in the place of a refused one, drawn from those that the grammar allows in proportion to their
    /// probabilities; the likeliest of them when greedy. `None` when it allows none that the samplers left.
    ///
    /// The greatest of logits with Gumbel noise is such a draw, among any of them (Maddison, Tarlow, Minka: A* Sampling,
    /// 2014, section 2): so the candidates are put in that order, and the grammar is asked about as few as will do.
    fn next_allowed(&mut self, refused: i32) -> Option<i32> {
        let constraint = self.constraint.as_mut()?;
        let candidates = self.candidates.data.iter().filter(|c| c.id().0 != refused && c.logit() > f32::NEG_INFINITY);
        let mut order: Vec<(f32, i32)> = candidates.map(|c| (c.logit(), c.id().0)).collect();
        if self.temperature > 0.0 {
            order.iter_mut().for_each(|(logit, _)| *logit += gumbel(&mut self.random));
        }
        let mut rest = order.as_mut_slice();
        let mut count = ASKED_FIRST;
        let mut asked = Vec::new();
        while !rest.is_empty() {
            let greatest_first = |a: &(f32, i32), b: &(f32, i32)| b.0.total_cmp(&a.0);
            if count < rest.len() {
                rest.select_nth_unstable_by(count, greatest_first);
            }
            let (some, others) = rest.split_at_mut(count.min(rest.len()));
            some.sort_unstable_by(greatest_first);
            asked.clear();
            asked.extend(some.iter().map(|&(_, token)| token));
            if let Some(token) = constraint.first_allowed(&asked) {
                return Some(token);
            }
            rest = others;
            count = count.saturating_mul(ASKED_MORE);
        }
        None
    }

    /// Draws with the grammar as the first of the samplers, for when they left nothing that it allows.
    fn choose_from_all(&mut self, logits: &[f32]) -> Option<i32> {
        self.fill(logits);
        if !self.constraint.as_mut()?.mask(&mut self.candidates.data) {
            return None;
        }
        self.choose_from_candidates()
    }

    fn choose(&mut self, logits: &[f32]) -> Option<i32> {
        self.fill(logits);
        self.choose_from_candidates()
    }

    fn choose_from_candidates(&mut self) -> Option<i32> {
        self.shape.apply(&mut self.candidates);
        self.last.apply(&mut self.candidates);
        self.candidates.selected_token().map(|token| token.0)
    }

    fn fill(&mut self, logits: &[f32]) {
        let candidates = &mut self.candidates;
        candidates.data.clear();
        candidates
            .data
            .extend((0_i32..).zip(logits).map(|(id, &logit)| LlamaTokenData::new(LlamaToken::new(id), logit, 0.0)));
        candidates.selected = None;
        candidates.sorted = false;
    }
}

/// llama.cpp's samplers in llama.cpp's order, without the last one, which chooses.
fn shape(sampling: &Sampling, vocab_size: usize) -> Vec<LlamaSampler> {
    let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let vocab = i32::try_from(vocab_size).unwrap_or(i32::MAX);
    let mut chain = Vec::new();
    if !sampling.bias.is_empty() {
        let biases: Vec<_> =
            sampling.bias.iter().map(|&(token, bias)| LlamaLogitBias::new(LlamaToken::new(token), bias)).collect();
        chain.push(LlamaSampler::logit_bias(vocab, &biases));
    }
    if sampling.penalises() {
        chain.push(LlamaSampler::penalties(
            vocab,
            sampling.penalty_tokens.cast_signed(),
            sampling.repeat_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        ));
    }
    if sampling.temperature <= 0.0 {
        return chain;
    }
    if sampling.top_k > 0 {
        chain.push(LlamaSampler::top_k(whole(sampling.top_k)));
    }
    if sampling.typical_p < 1.0 {
        chain.push(LlamaSampler::typical(sampling.typical_p, 1));
    }
    if sampling.top_p < 1.0 {
        chain.push(LlamaSampler::top_p(sampling.top_p, 1));
    }
    if sampling.min_p > 0.0 {
        chain.push(LlamaSampler::min_p(sampling.min_p, 1));
    }
    chain.push(LlamaSampler::temp(sampling.temperature));
    chain
}

/// A number of the standard Gumbel distribution.
fn gumbel(random: &mut SplitMix) -> f32 {
    // In (0, 1), both ends out: 23 bits and a half fill a mantissa.
    let uniform = ((random.next() >> 41) as f32 + 0.5) / (1_u32 << 23) as f32;
    -(-uniform.ln()).ln()
}

/// The token at which the probabilities that `logits` give at a temperature, added up from the first, pass `part` of
/// their sum. `best` is the likeliest one, whose logit is finite. What has no number, or e^-87 of the best one's
/// probability, is not drawn.
///
/// Two passes over what is in the cache anyway: sums of chunks as vector code, then the one chunk token by token.
fn draw(logits: &[f32], best: i32, temperature: f32, part: f64) -> Option<i32> {
    const CHUNK: usize = 512;
    const LANES: usize = 16;
    const LEAST: f32 = -87.0;
    let top = *logits.get(usize::try_from(best).ok()?)?;
    let scale = 1.0 / temperature;
    // `max` takes the number where the other is NaN.
    let weight = |logit: f32| exp(((logit - top) * scale).max(LEAST));
    let sum_of = |chunk: &[f32]| {
        let mut lanes = [0.0_f32; LANES];
        let (whole, rest) = chunk.as_chunks::<LANES>();
        for some in whole {
            for (lane, &logit) in lanes.iter_mut().zip(some) {
                *lane += weight(logit);
            }
        }
        f64::from(rest.iter().map(|&logit| weight(logit)).sum::<f32>() + lanes.iter().sum::<f32>())
    };
    let sums: Vec<f64> = logits.chunks(CHUNK).map(sum_of).collect();
    let mut left = sums.iter().sum::<f64>() * part;
    let mut chunk = 0;
    while chunk + 1 < sums.len() && left >= sums[chunk] {
        left -= sums[chunk];
        chunk += 1;
    }
    // Rounding may leave a little at the chunk's end: then it is the last one that may be drawn.
    let mut drawn = best;
    for (token, &logit) in (0_i32..).zip(logits).skip(chunk * CHUNK).take(CHUNK) {
        if (logit - top) * scale > LEAST {
            drawn = token;
            left -= f64::from(weight(logit));
            if left < 0.0 {
                break;
            }
        }
    }
    Some(drawn)
}

/// How likely a token was, before any sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct Chance {
    /// The token.
    pub token: i32,
    /// Natural logarithm of its probability.
    pub ln_p: f32,
    /// The likeliest tokens in its place with theirs, the likeliest first.
    pub top: Vec<(i32, f32)>,
}

/// How likely `logits` make `token`, and the `count` likeliest. `None` when they hold no finite number.
pub fn chance(logits: &[f32], token: i32, count: usize) -> Option<Chance> {
    let ln_p = -negative_log_probability(logits, token)?;
    let own = f64::from(*logits.get(usize::try_from(token).ok()?)?);
    // One constant for all, so that equal tokens have equal numbers.
    let ln_sum = own - ln_p;
    let mut top: Vec<(i32, f32)> = Vec::with_capacity(count + 1);
    for (id, &logit) in (0_i32..).zip(logits) {
        if count == 0 || logit.is_nan() || (top.len() == count && top[count - 1].1 >= logit) {
            continue;
        }
        let at = top.partition_point(|&(_, other)| other >= logit);
        top.insert(at, (id, logit));
        top.truncate(count);
    }
    for entry in &mut top {
        entry.1 = (f64::from(entry.1) - ln_sum) as f32;
    }
    Some(Chance { token, ln_p: ln_p as f32, top })
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
    let sum: f64 = logits.iter().filter(|v| !v.is_nan()).map(|&v| f64::from((v - top).exp())).sum();
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
        assert_eq!(Sampler::new(&Sampling::greedy(), 6, None).pick(&LOGITS), Some(1));
        assert_eq!(argmax(&[2.0, 2.0]), Some(0));
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(argmax(&[]), None);
    }

    #[test]
    fn a_seed_fixes_the_draw_and_top_k_one_is_greedy() {
        let logits: Vec<f32> = (0..512).map(|i| (i % 7) as f32 * 0.3).collect();
        let draw = |seed| {
            let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
            let mut sampler = Sampler::new(&sampling, logits.len(), None);
            (0..16).map(|_| sampler.pick(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let sampling = Sampling { top_k: 1, ..Sampling::default() };
        assert_eq!(Sampler::new(&sampling, 6, None).pick(&[0.0, 1.0, 5.0, 2.0, 0.0, 0.0]), Some(2));
    }

    #[test]
    fn plain_draws_are_in_proportion_and_leave_out_what_is_no_number_or_banned() {
        // More than one chunk, and a rest; one in the first, the best in the last.
        let mut logits = vec![-20.0_f32; 1100];
        (logits[3], logits[700], logits[1099], logits[5], logits[6]) = (1.0, 2.0, 2.5, f32::NAN, 3.0);
        let sampling = Sampling { bias: vec![(6, -200.0)], temperature: 0.5, seed: Some(1), ..Sampling::default() };
        let mut sampler = Sampler::new(&sampling, logits.len(), None);
        let draws = 20_000;
        let mut seen = [0.0; 1100];
        for _ in 0..draws {
            seen[sampler.pick(&logits).unwrap() as usize] += 1.0 / f64::from(draws);
        }
        let sum = 2.0_f64.exp() + 4.0_f64.exp() + 5.0_f64.exp();
        for (token, logit) in [(3, 2.0_f64), (700, 4.0), (1099, 5.0)] {
            assert!((seen[token] - logit.exp() / sum).abs() < 0.01, "{token}: {}", seen[token]);
        }
        assert_eq!((seen[5], seen[6]), (0.0, 0.0));
        assert_eq!((draw(&logits, 6, 1e-3, 0.5), draw(&logits, 6, 1.0, 1.0 - 1e-16)), (Some(6), Some(1099)));
    }

    #[test]
    fn min_p_and_top_p_keep_only_likely_tokens() {
        let logits = [10.0, 9.9, 0.0, 0.0];
        for sampling in [
            Sampling { min_p: 0.5, seed: Some(1), ..Sampling::default() },
            Sampling { top_p: 0.6, seed: Some(1), ..Sampling::default() },
        ] {
            let mut sampler = Sampler::new(&sampling, 4, None);
            assert!((0..64).all(|_| sampler.pick(&logits).unwrap() < 2));
        }
    }

    #[test]
    fn a_presence_penalty_moves_on_to_the_next_token() {
        let sampling = Sampling { presence_penalty: 2.0, ..Sampling::greedy() };
        let mut sampler = Sampler::new(&sampling, 3, None);
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
    fn a_bias_bans_a_token_or_forces_it() {
        let pick = |bias| {
            Sampler::new(&Sampling { bias, ..Sampling::greedy() }, 6, None).pick(&[0.0, 3.0, 1.0, 0.0, 0.0, 0.0])
        };
        assert_eq!(pick(vec![(1, -100.0)]), Some(2));
        assert_eq!(pick(vec![(5, 100.0)]), Some(5));
    }

    #[test]
    fn typical_sampling_leaves_out_what_is_too_certain() {
        // One token with 0.3 of the probability, 200 with little: the expected surprise is nearer to that of the many.
        let mut logits = vec![0.0_f32; 201];
        logits[0] = (86.0_f32).ln();
        let sampling = Sampling { typical_p: 0.2, seed: Some(3), ..Sampling::default() };
        let mut sampler = Sampler::new(&sampling, logits.len(), None);
        assert!((0..64).all(|_| sampler.pick(&logits).unwrap() != 0));
    }

    #[test]
    fn chances_name_the_likeliest_in_order() {
        let found = chance(&LOGITS, 5, 3).unwrap();
        assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(found.top[2].1, found.ln_p);
        let whole: f64 = chance(&[0.5, 3.0, -1.0], 0, 3).unwrap().top.iter().map(|t| f64::from(t.1).exp()).sum();
        assert!((whole - 1.0).abs() < 1e-6);
        assert!(chance(&LOGITS, 5, 0).unwrap().top.is_empty() && chance(&LOGITS, 9, 1).is_none());
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
