//! How like two texts are: ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"), the F-measure over the longest
//! common subsequence of words, as Self-Instruct (Wang et al. 2022) cuts with. A Han, kana or Hangul character is a word of its own.
//! The subsequence is found bit by bit (Hyyrö 2004), and only where lengths and common words allow that much. Never here: hashes of
//! near duplicates in large sets.

use std::collections::HashMap;

/// Words of a text that are looked at; two long documents are not compared to their ends.
const WORDS_MAX: usize = 2_000;

/// Texts that others are compared with.
#[derive(Default)]
pub(crate) struct Likeness {
    vocabulary: HashMap<String, u32>,
    texts: Vec<Words>,
}

/// A text as numbers of its words.
struct Words {
    order: Vec<u32>,
    sorted: Vec<u32>,
}

fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let stands_alone = matches!(u32::from(c), 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xac00..=0xd7af | 0x2_0000..=0x2_fa1f);
        if c.is_alphanumeric() && !stands_alone {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if stands_alone {
            found.push(c.to_string());
        }
        if found.len() >= WORDS_MAX {
            break;
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found.truncate(WORDS_MAX);
    found
}

impl Likeness {
    /// Adds a text.
    pub(crate) fn add(&mut self, text: &str) {
        let order: Vec<u32> = words(text)
            .into_iter()
            .map(|word| {
                let next = self.vocabulary.len() as u32;
                *self.vocabulary.entry(word).or_insert(next)
            })
            .collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        self.texts.push(Words { order, sorted });
    }

    /// The text that is most like this one, with percent and place, if it is more like it than `cut` percent. Texts without words
    /// are like nothing.
    pub(crate) fn nearest(&self, text: &str, cut: f64) -> Option<(f64, usize)> {
        // Words that no text has are like none; each keeps its place.
        let order: Vec<u32> =
            words(text).iter().map(|word| self.vocabulary.get(word).copied().unwrap_or(u32::MAX)).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let masks = masks(&order);
        let mut best: Option<(f64, usize)> = None;
        for (at, other) in self.texts.iter().enumerate() {
            let least = best.map_or(cut, |(percent, _)| percent);
            let whole = (order.len() + other.order.len()) as f64;
            let percent = |common: usize| 200.0 * common as f64 / whole.max(1.0);
            let cannot = percent(order.len().min(other.order.len())) <= least;
            if cannot || percent(common(&sorted, &other.sorted)) <= least {
                continue;
            }
            let percent = percent(subsequence(order.len(), &masks, &other.order));
            if percent > least {
                best = Some((percent, at));
            }
        }
        best
    }
}

/// Words that both have, each as often as in the one that has fewer.
fn common(a: &[u32], b: &[u32]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, count) = (i + 1, j + 1, count + 1),
        }
    }
    count
}

/// The places of each word, a bit for each.
fn masks(order: &[u32]) -> HashMap<u32, Vec<u64>> {
    let mut masks: HashMap<u32, Vec<u64>> = HashMap::new();
    for (at, word) in order.iter().enumerate().filter(|(_, word)| **word != u32::MAX) {
        masks.entry(*word).or_insert_with(|| vec![0; order.len().div_ceil(64)])[at / 64] |= 1 << (at % 64);
    }
    masks
}

/// Length of the longest common subsequence.
fn subsequence(length: usize, masks: &HashMap<u32, Vec<u64>>, other: &[u32]) -> usize {
    let mut row = vec![u64::MAX; length.div_ceil(64)];
    for mask in other.iter().filter_map(|word| masks.get(word)) {
        let mut carry = false;
        for (bits, mask) in row.iter_mut().zip(mask) {
            let both = *bits & mask;
            let (sum, first) = bits.overflowing_add(both);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *bits = sum | (*bits & !mask);
        }
    }
    // A zero stands for each word of the subsequence; bits behind the last word never become one.
    row.iter().map(|bits| bits.count_zeros() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the book: a table of lengths.
    fn plain(a: &str, b: &str) -> f64 {
        let (a, b) = (words(a), words(b));
        let mut table = vec![vec![0usize; b.len() + 1]; a.len() + 1];
        for i in 0..a.len() {
            for j in 0..b.len() {
                table[i + 1][j + 1] = if a[i] == b[j] { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
            }
        }
        200.0 * table[a.len()][b.len()] as f64 / ((a.len() + b.len()) as f64).max(1.0)
    }

    fn one(a: &str, b: &str) -> f64 {
        let mut known = Likeness::default();
        known.add(b);
        known.nearest(a, -1.0).map_or(0.0, |(percent, _)| percent)
    }

    #[test]
    fn known_values() {
        // The example of Lin 2004: "police killed the gunman" against "police kill the gunman" and "the gunman kill police".
        assert_eq!(one("police kill the gunman", "police killed the gunman"), 75.0);
        assert_eq!(one("the gunman kill police", "police killed the gunman"), 50.0);
        assert_eq!(one("The same, words!", "the same words"), 100.0);
        assert_eq!(one("三十天内退货", "三十天内可以退货"), 100.0 * 12.0 / 14.0);
        assert_eq!(one("", "words"), 0.0);
    }

    #[test]
    fn bits_find_what_a_table_finds() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let mut text =
                |most: u64, of: u64| (0..next(most)).map(|_| format!("w{}", next(of))).collect::<Vec<_>>().join(" ");
            let (a, b) = (text(200, 12), text(200, 12));
            let (found, wanted) = (one(&a, &b), plain(&a, &b));
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}: {a} | {b}");
        }
    }

    #[test]
    fn the_nearest_beyond_the_cut_is_named() {
        let mut known = Likeness::default();
        ["how do I return a parcel", "where is my parcel now", "how do I return the parcel today"]
            .iter()
            .for_each(|text| known.add(text));
        let (percent, at) = known.nearest("how do I return the parcel", 70.0).unwrap();
        assert_eq!((percent.round(), at), (92.0, 2));
        assert_eq!(known.nearest("what does it cost", 70.0), None);
    }
}
