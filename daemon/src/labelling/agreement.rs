//! How far the persons of a project agree: shares of equal values, Cohen's kappa of each two, Fleiss' kappa,
//! Krippendorff's alpha, how far each agrees with themselves, and intervals of all of these. Never here: reading labels
//! from the store, which rows are disputed, what persons see of the numbers.
//!
//! Rows on which the same was said are counted together as a pattern, and everything is computed from patterns and
//! their counts.

use std::borrow::Cow;
use std::collections::HashMap;

use hone_protocol::labelling::{
    Agreement, Estimate, How, LabelRecord, LabelValue, PairAgreement, PairAnswer, Span, Task,
};

/// With more values than this, what two persons said is not crossed: nobody reads so wide a table, and it grows with
/// the square.
const CROSSED_MAX: usize = 64;
/// Resamples of a bootstrap.
const RESAMPLES: u64 = 1_000;
/// Resamples where rows are drawn one by one, at most.
const ROW_RESAMPLES: u64 = 200;
/// And at least.
const ROW_RESAMPLES_LEAST: u64 = 40;
/// Rows drawn one by one in all resamples of a value, about.
const ROWS_DRAWN: u64 = 20_000_000;
/// Up to so many patterns, their counts are drawn and not the rows.
const PATTERNS_MAX: usize = 2_000;
/// Beyond this variance a binomial number is drawn from the normal distribution.
const NORMAL_VARIANCE: f64 = 100.0;
/// Every bootstrap begins with it, so that the same labels have the same intervals.
const SEED: u64 = 0x686f_6e65;

/// How many rows there are of each pattern: what one said and what the other said.
type Tally = Vec<((u32, u32), u64)>;

/// How far persons agree. `labels` are all of a project in the order of their numbers. Labels of persons that are not
/// in `persons`, and values of another kind than the task's, are left out.
pub(crate) fn agreement(task: &Task, persons: &[String], labels: &[LabelRecord]) -> Agreement {
    let judged = Judged::read(task, persons, labels);
    let (rows, pairs, own) = judged.tallies(persons.len());
    let mut found = Agreement { rows: rows.iter().map(|(_, count)| count).sum(), ..Agreement::default() };
    (found.fleiss_persons, found.fleiss_rows) = most_frequent(&rows);
    if judged.is_nominal() {
        [found.fleiss, found.alpha] = judged.together(&rows, found.fleiss_persons as usize);
    }
    let mut tallies = pairs.iter();
    for (at, one) in persons.iter().enumerate() {
        for (other, tally) in persons[at + 1..].iter().zip(&mut tallies).filter(|(_, tally)| !tally.is_empty()) {
            found.pairs.push(judged.pair(one, other, tally));
        }
    }
    found.own = own.iter().map(|tally| judged.own(tally)).collect();
    found
}

/// What a person said of a row.
#[derive(Clone, Copy)]
struct Said {
    row: u64,
    /// Index of the person.
    person: u32,
    is_repeat: bool,
    /// Index of the value.
    value: u32,
}

/// All that counts.
struct Judged<'l> {
    task: &'l Task,
    /// By row, person and repeat; one of each.
    said: Vec<Said>,
    /// The different values, in the order in which they are shown.
    values: Vec<Cow<'l, str>>,
    /// The spans of each value, sorted, each once.
    spans: Vec<Vec<&'l Span>>,
}

/// Counts of rows: by all values of a row, of each two persons, and of each person against their repeats.
type Tallies = (Vec<(Vec<u32>, u64)>, Vec<Tally>, Vec<Tally>);

impl<'l> Judged<'l> {
    /// Of each person and row the newest label and the newest repeat, with values as numbers.
    fn read(task: &'l Task, persons: &[String], labels: &'l [LabelRecord]) -> Judged<'l> {
        let persons: HashMap<&str, u32> = persons.iter().map(String::as_str).zip(0..).collect();
        let mut numbers: HashMap<Cow<'l, str>, u32> = HashMap::new();
        let mut firsts: Vec<&LabelValue> = Vec::new();
        let mut said = Vec::new();
        for label in labels {
            let LabelRecord { decision, is_repeat, .. } = label;
            let counts = label.taken_back_at_ms.is_none() && decision.how != How::Final && fits(task, &decision.value);
            let Some(person) = persons.get(label.person.as_str()).filter(|_| counts) else { continue };
            let value = *numbers.entry(key(&decision.value)).or_insert_with(|| {
                firsts.push(&decision.value);
                firsts.len() as u32 - 1
            });
            said.push(Said { row: decision.row_id, person: *person, is_repeat: *is_repeat, value });
        }
        // The order is stable: the last of equals is the newest.
        said.sort_by_key(|said| (said.row, said.person, said.is_repeat));
        let newest = said.chunk_by(|a, b| (a.row, a.person, a.is_repeat) == (b.row, b.person, b.is_repeat));
        let mut said: Vec<Said> = newest.filter_map(|same| same.last().copied()).collect();
        let mut ordered: Vec<(Cow<str>, u32)> = numbers.into_iter().collect();
        ordered.sort_by(|(a, _), (b, _)| place(task, a).cmp(&place(task, b)).then_with(|| a.cmp(b)));
        let mut ranks = vec![0; ordered.len()];
        ordered.iter().zip(0..).for_each(|((_, number), rank)| ranks[*number as usize] = rank);
        said.iter_mut().for_each(|said| said.value = ranks[said.value as usize]);
        let spans = ordered.iter().map(|(_, number)| sorted_spans(firsts[*number as usize])).collect();
        Judged { task, said, values: ordered.into_iter().map(|(key, _)| key).collect(), spans }
    }

    /// Whether values are compared as a whole, and not part by part.
    fn is_nominal(&self) -> bool {
        !matches!(self.task, Task::Span { .. } | Task::Edit)
    }

    /// Counts rows.
    fn tallies(&self, persons: usize) -> Tallies {
        let mut rows: HashMap<Vec<u32>, u64> = HashMap::new();
        let mut pairs = vec![HashMap::new(); persons * persons.saturating_sub(1) / 2];
        let mut own = vec![HashMap::new(); persons];
        for row in self.said.chunk_by(|a, b| a.row == b.row) {
            for both in row.windows(2).filter(|both| both[0].person == both[1].person) {
                *own[both[0].person as usize].entry((both[0].value, both[1].value)).or_insert(0) += 1;
            }
            let row: Vec<&Said> = row.iter().filter(|said| !said.is_repeat).collect();
            for (at, one) in row.iter().enumerate() {
                for other in &row[at + 1..] {
                    let (first, second) = (one.person as usize, other.person as usize);
                    // Pairs stand in the order of the first person, then of the second.
                    let index = first * (2 * persons - first - 1) / 2 + second - first - 1;
                    *pairs[index].entry((one.value, other.value)).or_insert(0) += 1;
                }
            }
            if row.len() > 1 {
                let mut values: Vec<u32> = row.iter().map(|said| said.value).collect();
                values.sort_unstable();
                *rows.entry(values).or_insert(0) += 1;
            }
        }
        let sort = |tallies: Vec<HashMap<_, _>>| tallies.into_iter().map(sorted).collect();
        (sorted(rows), sort(pairs), sort(own))
    }

    /// How far apart values are.
    fn distance(&self, values: &[u32]) -> Distance {
        let points = |value: &u32| self.values[*value as usize].parse().unwrap_or(0.0);
        match self.task {
            Task::Rating { .. } => Distance::Squared(values.iter().map(points).collect()),
            _ => Distance::Nominal,
        }
    }

    /// How far two persons agree.
    fn pair(&self, one: &str, other: &str, tally: &Tally) -> PairAgreement {
        let mut found = PairAgreement {
            one: one.to_owned(),
            other: other.to_owned(),
            rows: tally.iter().map(|(_, count)| count).sum(),
            same: self.same(tally, false),
            kappa: None,
            values: Vec::new(),
            confusion: Vec::new(),
        };
        if self.is_nominal() {
            let (values, tally) = compact(tally);
            found.kappa = cohen(&self.distance(&values), values.len(), &tally);
            if values.len() <= CROSSED_MAX {
                found.values = values.iter().map(|value| self.values[*value as usize].to_string()).collect();
                found.confusion = vec![vec![0; values.len()]; values.len()];
                tally.iter().for_each(|((a, b), count)| found.confusion[*a as usize][*b as usize] = *count);
            }
        }
        found
    }

    /// How far a person agrees with themselves; none where nothing was repeated.
    fn own(&self, tally: &Tally) -> Option<Estimate> {
        if tally.is_empty() {
            None
        } else if self.is_nominal() {
            let (values, tally) = compact(tally);
            cohen(&self.distance(&values), values.len(), &tally)
        } else {
            Some(self.same(tally, true))
        }
    }

    /// The F1 of one's parts against the other's, over all rows or as the mean of the rows; 1 where nobody has parts. A
    /// value that is no list of spans is one part, so that either is the share of equal values.
    fn same(&self, tally: &Tally, is_mean: bool) -> Estimate {
        let mut rows: HashMap<(u64, u64), u64> = HashMap::new();
        for ((one, other), count) in tally {
            let (a, b) = (&self.spans[*one as usize], &self.spans[*other as usize]);
            let parts = match self.task {
                Task::Span { .. } => (a.iter().filter(|span| b.binary_search(span).is_ok()).count(), a.len() + b.len()),
                _ => (usize::from(one == other), 2),
            };
            *rows.entry((parts.0 as u64, parts.1 as u64)).or_insert(0) += count;
        }
        let (parts, counts): (Vec<(u64, u64)>, Vec<u64>) = sorted(rows).into_iter().unzip();
        let [found] = bootstrap(&counts, |counts| {
            let (mut common, mut whole) = (0.0, 0.0);
            for ((both, parts), count) in parts.iter().zip(counts).filter(|((_, parts), _)| *parts > 0) {
                let weight = if is_mean { *count as f64 / *parts as f64 } else { *count as f64 };
                common += 2.0 * *both as f64 * weight;
                whole += *parts as f64 * weight;
            }
            [(whole > 0.0).then(|| common / whole)]
        });
        found.unwrap_or(Estimate { value: 1.0, low: 1.0, high: 1.0 })
    }

    /// Fleiss' kappa (Fleiss 1971, "Measuring Nominal Scale Agreement among Many Raters") over rows of `persons`
    /// values, and Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability") over all
    /// rows. Both are 1 − observed / expected disagreement: of n values, n·Do / De for kappa and (n − 1)·Do / De for
    /// alpha, with Do the distances within rows, each row's over its persons less one, and De the distances of all
    /// values to all.
    fn together(&self, rows: &[(Vec<u32>, u64)], persons: usize) -> [Option<Estimate>; 2] {
        let all: Vec<u32> = (0..self.values.len() as u32).collect();
        let distance = self.distance(&all);
        let within: Vec<[f64; 2]> =
            rows.iter().map(|(values, _)| [Distance::Nominal.within(values), distance.within(values)]).collect();
        let counts: Vec<u64> = rows.iter().map(|(_, count)| *count).collect();
        bootstrap(&counts, |counts| {
            let mut of = [vec![0.0; all.len()], vec![0.0; all.len()]];
            let mut observed = [0.0; 2];
            let mut whole = [0.0; 2];
            for (((values, _), within), count) in rows.iter().zip(&within).zip(counts) {
                for which in usize::from(values.len() != persons)..2 {
                    values.iter().for_each(|value| of[which][*value as usize] += *count as f64);
                    observed[which] += within[which] * *count as f64;
                    whole[which] += (values.len() as u64 * count) as f64;
                }
            }
            let [fleiss, alpha] = &of;
            let fleiss =
                Distance::Nominal.expected(fleiss, fleiss).map(|expected| 1.0 - whole[0] * observed[0] / expected);
            let alpha = distance.expected(alpha, alpha).map(|expected| 1.0 - (whole[1] - 1.0) * observed[1] / expected);
            [fleiss, alpha]
        })
    }
}

/// How far apart two values are.
enum Distance {
    /// Equal or not.
    Nominal,
    /// The square of the difference of points: the interval metric of alpha, and the quadratic weights of kappa.
    Squared(Vec<f64>),
}

impl Distance {
    /// Of two values.
    fn between(&self, one: u32, other: u32) -> f64 {
        match self {
            Distance::Nominal => f64::from(u8::from(one != other)),
            Distance::Squared(points) => (points[one as usize] - points[other as usize]).powi(2),
        }
    }

    /// Of all ordered pairs in a row, over its values less one.
    fn within(&self, values: &[u32]) -> f64 {
        let rest =
            |(at, one): (usize, &u32)| values[at + 1..].iter().map(|other| self.between(*one, *other)).sum::<f64>();
        2.0 * values.iter().enumerate().map(rest).sum::<f64>() / (values.len() as f64 - 1.0)
    }

    /// Of all of one's values to all of the other's, which are given as counts of each value; none where there is one
    /// value only, so that nothing can differ. In closed form: the values may be many.
    fn expected(&self, one: &[f64], other: &[f64]) -> Option<f64> {
        if one.iter().zip(other).filter(|(a, b)| **a + **b > 0.0).count() < 2 {
            return None;
        }
        let sum = |of: &[f64]| of.iter().sum::<f64>();
        Some(match self {
            Distance::Nominal => sum(one) * sum(other) - one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>(),
            Distance::Squared(points) => {
                let times = |of: &[f64], power| of.iter().zip(points).map(|(n, p)| n * p.powi(power)).sum::<f64>();
                sum(one) * times(other, 2) + sum(other) * times(one, 2) - 2.0 * times(one, 1) * times(other, 1)
            }
        })
    }
}

/// Cohen's kappa (Cohen 1960, "A Coefficient of Agreement for Nominal Scales"; with weights Cohen 1968, "Weighted
/// Kappa"): 1 − n·Do / De, with Do the distances of what both said of a row, and De those of all that one said to all
/// that the other said.
fn cohen(distance: &Distance, values: usize, tally: &Tally) -> Option<Estimate> {
    let counts: Vec<u64> = tally.iter().map(|(_, count)| *count).collect();
    let [found] = bootstrap(&counts, |counts| {
        let (mut one, mut other) = (vec![0.0; values], vec![0.0; values]);
        let (mut observed, mut whole) = (0.0, 0.0);
        for (((a, b), _), count) in tally.iter().zip(counts) {
            let count = *count as f64;
            one[*a as usize] += count;
            other[*b as usize] += count;
            observed += count * distance.between(*a, *b);
            whole += count;
        }
        [distance.expected(&one, &other).map(|expected| 1.0 - whole * observed / expected)]
    });
    found
}

/// Whether a value answers the task; a skip answers none.
fn fits(task: &Task, value: &LabelValue) -> bool {
    match task {
        Task::Choice { .. } | Task::Several { .. } => matches!(value, LabelValue::Labels(_)),
        Task::Span { .. } => matches!(value, LabelValue::Spans(_)),
        Task::Pair { .. } => matches!(value, LabelValue::Pair { .. }),
        Task::Rank => matches!(value, LabelValue::Ranks(_)),
        Task::Rating { .. } => matches!(value, LabelValue::Points(_)),
        Task::Edit => matches!(value, LabelValue::Text(_)),
    }
}

/// [`LabelValue::key`], without a copy of long texts.
fn key(value: &LabelValue) -> Cow<'_, str> {
    match value {
        LabelValue::Text(text) => Cow::Borrowed(text.trim()),
        value => Cow::Owned(value.key()),
    }
}

/// The place of a value among the others; those of one place stand by their keys.
fn place(task: &Task, key: &str) -> usize {
    let found = match task {
        Task::Choice { labels } => labels.iter().position(|label| label.name == key),
        Task::Pair { .. } => PairAnswer::ALL.iter().position(|(word, _)| *word == key),
        Task::Rating { .. } => key.parse().ok(),
        _ => None,
    };
    found.unwrap_or(usize::MAX)
}

/// The spans of a value, each once; none of a value that has no spans.
fn sorted_spans(value: &LabelValue) -> Vec<&Span> {
    let LabelValue::Spans(spans) = value else { return Vec::new() };
    let mut spans: Vec<&Span> = spans.iter().collect();
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// The counts by ascending pattern: the order of a hash map is another one each time.
fn sorted<K: Ord>(counts: HashMap<K, u64>) -> Vec<(K, u64)> {
    let mut counts: Vec<(K, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    counts
}

/// The values that two persons used, in order, and their tally with the places of the values among these.
fn compact(tally: &Tally) -> (Vec<u32>, Tally) {
    let mut values: Vec<u32> = tally.iter().flat_map(|((a, b), _)| [*a, *b]).collect();
    values.sort_unstable();
    values.dedup();
    let place = |value| values.partition_point(|other| *other < value) as u32;
    let tally = tally.iter().map(|((a, b), count)| ((place(*a), place(*b)), *count)).collect();
    (values, tally)
}

/// The number of persons that most rows have, the larger of two that are as frequent, and how many rows have it.
fn most_frequent(rows: &[(Vec<u32>, u64)]) -> (u32, u64) {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    rows.iter().for_each(|(values, count)| *counts.entry(values.len() as u32).or_insert(0) += count);
    counts.into_iter().max_by_key(|(persons, rows)| (*rows, *persons)).unwrap_or((0, 0))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    /// The next 64 bits.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// How often of `times` something happens that has a probability. By inversion, one term of the distribution after
    /// the other; where the variance is beyond [`NORMAL_VARIANCE`] it is the nearest whole number of a normal one (Box,
    /// Muller 1958), which no interval can tell apart.
    fn binomial(&mut self, times: u64, probability: f64) -> u64 {
        if times == 0 || probability <= 0.0 {
            return 0;
        } else if probability >= 1.0 {
            return times;
        } else if probability > 0.5 {
            return times - self.binomial(times, 1.0 - probability);
        }
        let n = times as f64;
        let variance = n * probability * (1.0 - probability);
        if variance > NORMAL_VARIANCE {
            let (length, turn) = ((-2.0 * (1.0 - self.unit()).ln()).sqrt(), std::f64::consts::TAU * self.unit());
            return (n * probability + variance.sqrt() * length * turn.cos()).round().clamp(0.0, n) as u64;
        }
        // The first term is not below 2^-400, and nothing is so far above the mean: rounding shall not lead there.
        let most = times.min((n * probability) as u64 + 200);
        let odds = probability / (1.0 - probability);
        let (mut term, mut rest, mut found) = ((n * (-probability).ln_1p()).exp(), self.unit(), 0);
        while rest >= term && found < most {
            rest -= term;
            found += 1;
            term *= odds * (times - found + 1) as f64 / found as f64;
        }
        found
    }

    /// As many rows as there are, with replacement, counted by pattern: one binomial number after the other, each of
    /// the rows that are left.
    fn multinomial(&mut self, counts: &[u64], drawn: &mut [u64]) {
        let mut left: u64 = counts.iter().sum();
        let mut share = left;
        for (count, drawn) in counts.iter().zip(drawn) {
            *drawn = self.binomial(left, *count as f64 / share.max(1) as f64);
            left -= *drawn;
            share -= count;
        }
    }
}

/// Values of the counts of patterns with percentile intervals of a bootstrap over rows (Efron 1979, "Bootstrap
/// Methods"). Up to [`PATTERNS_MAX`] patterns their counts are drawn from the multinomial distribution, which is the
/// same as to draw rows and count them; with more patterns rows are drawn, fewer times. Resamples in which a value is
/// not defined are left out; where more than half are, the value stands for both ends.
fn bootstrap<const N: usize>(
    counts: &[u64],
    mut values: impl FnMut(&[u64]) -> [Option<f64>; N],
) -> [Option<Estimate>; N] {
    let whole: u64 = counts.iter().sum();
    let of_rows: Option<Vec<u32>> = (counts.len() > PATTERNS_MAX)
        .then(|| counts.iter().zip(0..).flat_map(|(count, at)| std::iter::repeat_n(at, *count as usize)).collect());
    let resamples = match &of_rows {
        Some(_) => (ROWS_DRAWN / whole).clamp(ROW_RESAMPLES_LEAST, ROW_RESAMPLES),
        None => RESAMPLES,
    };
    let mut random = Random(SEED);
    let mut drawn = vec![0; counts.len()];
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..resamples {
        match &of_rows {
            Some(of_rows) => {
                drawn.fill(0);
                for _ in 0..whole {
                    let row = (u128::from(random.next()) * u128::from(whole)) >> 64;
                    drawn[of_rows[row as usize] as usize] += 1;
                }
            }
            None => random.multinomial(counts, &mut drawn),
        }
        values(&drawn).into_iter().zip(&mut found).for_each(|(value, found)| found.extend(value));
    }
    let mut estimates = values(counts).into_iter().zip(found);
    std::array::from_fn(|_| {
        let (value, mut found) = estimates.next()?;
        let value = value?;
        if 2 * (found.len() as u64) < resamples {
            return Some(Estimate { value, low: value, high: value });
        }
        found.sort_unstable_by(f64::total_cmp);
        Some(Estimate { value, low: percentile(&found, 0.025), high: percentile(&found, 0.975) })
    })
}

/// Of sorted numbers, linear between two of them.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::labelling::{Decision, LabelName};

    fn label(person: &str, row_id: u64, value: LabelValue) -> LabelRecord {
        let (flag, note) = (String::new(), String::new());
        let decision = Decision { row_id, value, flag, note, spent_ms: 0, how: How::Own };
        LabelRecord {
            seq: 0,
            group: 0,
            person: person.into(),
            at_ms: 0,
            decision,
            is_repeat: false,
            as_suggested: None,
            taken_back_at_ms: None,
        }
    }

    fn named(name: &str) -> LabelValue {
        LabelValue::Labels(vec![name.into()])
    }

    fn choice(names: &[&str]) -> Task {
        let label = |name: &&str| LabelName { name: (*name).into(), title: String::new(), keep: true };
        Task::Choice { labels: names.iter().map(label).collect() }
    }

    fn people(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn close(found: Option<Estimate>, wanted: f64) {
        let found = found.unwrap();
        assert!((found.value - wanted).abs() < 1e-12, "{found:?} {wanted}");
        assert!(found.low < found.value && found.value < found.high, "{found:?}");
    }

    /// The data of Krippendorff 2011, a row of text for each person. Values of scikit-learn 1.9.1, statsmodels 0.15.0
    /// and krippendorff 0.9.0 (tests/peers/agreement.py); the paper has 0.743 and 0.849 for alpha.
    #[test]
    fn values_of_libraries() {
        let said = [("a", "123321412..."), ("b", "1233224125.3"), ("c", ".3332342251."), ("d", "12332441251.")];
        let of = |task: &Task, value: &dyn Fn(u32) -> LabelValue| {
            let row = |person, (row, c): (u64, char)| Some(label(person, row, value(c.to_digit(10)?)));
            let labels =
                said.iter().flat_map(|(person, values)| (0..).zip(values.chars()).filter_map(|at| row(person, at)));
            agreement(task, &people(&["a", "b", "c", "d"]), &labels.collect::<Vec<_>>())
        };
        let nominal = of(&choice(&[]), &|value| named(&value.to_string()));
        let points = of(&Task::Rating { scale: 5 }, &LabelValue::Points);
        let kappas = [
            (0.8448275862068966, 0.9395973154362416),
            (0.4782608695652174, 0.5384615384615384),
            (0.85, 0.5524861878453038),
            (0.5423728813559321, 0.8571428571428572),
            (0.8701298701298701, 0.8709677419354839),
            (0.6153846153846154, 0.8920863309352518),
        ];
        for ((plain, weighted), (of_plain, of_points)) in kappas.iter().zip(nominal.pairs.iter().zip(&points.pairs)) {
            assert!((of_plain.kappa.unwrap().value - plain).abs() < 1e-12);
            assert!((of_points.kappa.unwrap().value - weighted).abs() < 1e-12);
        }
        for found in [&nominal, &points] {
            assert_eq!((found.rows, found.fleiss_persons, found.fleiss_rows, found.pairs.len()), (11, 4, 8, 6));
            close(found.fleiss, 0.6414565826330533);
        }
        close(nominal.alpha, 0.743421052631579);
        close(points.alpha, 0.8491071428571428);
        assert_eq!(points, of(&Task::Rating { scale: 5 }, &LabelValue::Points));
    }

    #[test]
    fn the_newest_that_stands_counts() {
        let mut labels = vec![label("ann", 1, named("x")), label("ann", 1, named("z")), label("bo", 1, named("x"))];
        labels.extend([label("ann", 1, LabelValue::Skip), label("ann", 1, LabelValue::Points(1))]);
        labels.extend((2..4).flat_map(|row| [label("bo", row, named("y")), label("ann", row, named("y"))]));
        labels.extend([label("cy", 1, named("z")), label("ann", 9, named("z"))]);
        let mut not = [label("bo", 1, named("y")), label("bo", 1, named("y"))];
        not[0].taken_back_at_ms = Some(1);
        not[1].decision.how = How::Final;
        labels.extend(not);
        let again = |row, name| LabelRecord { is_repeat: true, ..label("ann", row, named(name)) };
        labels.extend([again(1, "z"), again(2, "z"), again(2, "y"), again(3, "y"), again(5, "x")]);
        let found = agreement(&choice(&["z", "y", "x"]), &people(&["bo", "ann"]), &labels);
        let pair = &found.pairs[0];
        assert_eq!((found.rows, found.fleiss_persons, found.fleiss_rows, found.pairs.len()), (3, 2, 3, 1));
        assert_eq!((pair.one.as_str(), pair.other.as_str(), pair.rows), ("bo", "ann", 3));
        assert_eq!(pair.values, ["z", "y", "x"]);
        assert_eq!(pair.confusion, [[0, 0, 0], [0, 2, 0], [1, 0, 0]]);
        assert_eq!(pair.same.value, 2.0 / 3.0);
        assert_eq!((found.own[0], found.own[1].unwrap().value), (None, 1.0));
    }

    #[test]
    fn spans_and_texts_have_shares_only() {
        let span = |start| Span { message: 0, start, end: start + 2, label: "x".into() };
        let spans = |starts: &[u32]| LabelValue::Spans(starts.iter().map(|start| span(*start)).collect());
        let said = [(1, vec![1, 5, 5], vec![5, 9, 12]), (2, vec![], vec![]), (3, vec![4], vec![4])];
        let mut labels = Vec::new();
        for (row, one, other) in &said {
            labels.extend([label("a", *row, spans(one)), label("b", *row, spans(other))]);
            labels.push(LabelRecord { is_repeat: true, ..label("a", *row, spans(other)) });
        }
        let task = Task::Span { labels: Vec::new() };
        let found = agreement(&task, &people(&["a", "b"]), &labels);
        let pair = &found.pairs[0];
        assert_eq!((pair.same.value, pair.kappa, found.fleiss, found.alpha), (4.0 / 7.0, None, None, None));
        assert!(pair.values.is_empty() && pair.confusion.is_empty());
        assert_eq!(found.own[0].unwrap().value, (2.0 / 5.0 + 1.0) / 2.0);
        let nothing = [label("a", 1, spans(&[])), label("b", 1, spans(&[]))];
        let whole = Estimate { value: 1.0, low: 1.0, high: 1.0 };
        assert_eq!(agreement(&task, &people(&["a", "b"]), &nothing).pairs[0].same, whole);
        let texts = [("a", 1, "so "), ("b", 1, "so"), ("a", 2, "so"), ("b", 2, "no")];
        let texts = texts.map(|(person, row, text)| label(person, row, LabelValue::Text(text.into())));
        let found = agreement(&Task::Edit, &people(&["a", "b"]), &texts);
        assert_eq!((found.pairs[0].same.value, found.pairs[0].kappa, found.alpha), (0.5, None, None));
    }

    #[test]
    fn what_is_not_defined_is_none() {
        assert_eq!(agreement(&Task::Rank, &[], &[]), Agreement::default());
        let labels = ["a", "b"].map(|person| label(person, 1, named("x")));
        let found = agreement(&choice(&["x"]), &people(&["a", "b"]), &labels);
        assert_eq!((found.fleiss, found.alpha, found.pairs[0].kappa), (None, None, None));
        assert_eq!((found.pairs[0].same.value, found.fleiss_rows), (1.0, 1));
        // A value that few resamples have stands for its ends.
        let [found] = bootstrap(&[50, 50], |drawn| [(drawn[0] == 50).then_some(0.5)]);
        assert_eq!(found, Some(Estimate { value: 0.5, low: 0.5, high: 0.5 }));
    }

    #[test]
    fn drawn_counts_are_binomial() {
        for (times, probability) in [(7, 0.3), (300, 0.9), (100_000, 0.000_5), (5_000, 0.4)] {
            let (mut random, draws) = (Random(3), 20_000);
            let drawn: Vec<f64> = (0..draws).map(|_| random.binomial(times, probability) as f64).collect();
            let mean = drawn.iter().sum::<f64>() / f64::from(draws);
            let variance = drawn.iter().map(|found| (found - mean).powi(2)).sum::<f64>() / f64::from(draws);
            let wanted = times as f64 * probability * (1.0 - probability);
            assert!((mean - times as f64 * probability).abs() < 4.0 * (wanted / f64::from(draws)).sqrt(), "{mean}");
            assert!((variance / wanted - 1.0).abs() < 0.05, "{variance} {wanted}");
        }
    }

    #[test]
    fn few_and_many_patterns_have_the_same_intervals() {
        // A share of 0.8 of 4,000 rows: ± 1.96 · √(0.8 · 0.2 / 4,000).
        let share = |equal: usize, counts: &[u64]| {
            let equal: u64 = counts[..equal].iter().sum();
            [Some(equal as f64 / 4_000.0)]
        };
        for (counts, equal) in [(vec![3_200, 800], 1), (vec![1; 4_000], 3_200)] {
            let [found] = bootstrap(&counts, |counts| share(equal, counts));
            let found = found.unwrap();
            let half = 1.96 * (0.8f64 * 0.2 / 4_000.0).sqrt();
            assert!((found.low - 0.8 + half).abs() < 0.15 * half, "{found:?}");
            assert!((found.high - 0.8 - half).abs() < 0.15 * half, "{found:?}");
        }
    }
}
