//! Words, shingles of five words, and MinHash signatures of them.
//! Lives here: from a text to its set of shingles and its keys. Never here: comparing rows (see `near`).
//!
//! A word is a run of letters and digits in lower case; a character of a script without spaces between words is a word by
//! itself; everything else only separates. The order of mixing is frozen by a test: kept signatures depend on it.

/// Words in a shingle.
pub(super) const WORDS: usize = 5;
/// Keys of a row: rows that share one are compared.
pub(super) const BANDS: usize = 20;
/// Minima that make a key.
const BAND_ROWS: usize = 6;
/// Minima of a row.
const MINIMA: usize = BANDS * BAND_ROWS;

/// Odd multipliers and addends of the permutations, from SplitMix64.
const PERMUTATIONS: ([u32; MINIMA], [u32; MINIMA]) = permutations();

const fn permutations() -> ([u32; MINIMA], [u32; MINIMA]) {
    let (mut times, mut plus) = ([0; MINIMA], [0; MINIMA]);
    let (mut index, mut state) = (0, 0x686f_6e65_2d6e_6561_u64);
    while index < MINIMA {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let drawn = mix(state);
        times[index] = (drawn >> 32) as u32 | 1;
        plus[index] = drawn as u32;
        index += 1;
    }
    (times, plus)
}

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What an ASCII byte is in a word: its lower case, or 0 for what separates words.
const ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

fn step(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(PRIME).rotate_left(29)
}

/// Whether a character is a word by itself: scripts that write no spaces.
pub(super) fn stands_alone(c: char) -> bool {
    matches!(c as u32,
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x2e80..=0x2fdf | 0x3005..=0x3007 | 0x3021..=0x3029
        | 0x3040..=0x30ff | 0x3100..=0x312f | 0x31a0..=0x31bf | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff
        | 0xf900..=0xfaff | 0xff66..=0xff9f | 0x20000..=0x3ffff)
}

/// Hashes of the words of a text, in order.
pub(super) fn words(text: &str, words: &mut Vec<u64>) {
    let bytes = text.as_bytes();
    let (mut at, mut word) = (0, BASIS);
    let mut end = |word: &mut u64| {
        if *word != BASIS {
            words.push(std::mem::replace(word, BASIS));
        }
    };
    while let Some(byte) = bytes.get(at) {
        if let Some(lower) = ASCII.get(usize::from(*byte)) {
            at += 1;
            match lower {
                0 => end(&mut word),
                lower => word = step(word, u64::from(*lower)),
            }
            continue;
        }
        // `at` is at the beginning of a character.
        let Some(c) = text[at..].chars().next() else { break };
        at += c.len_utf8();
        if stands_alone(c) {
            end(&mut word);
            word = step(word, u64::from(u32::from(c)));
            end(&mut word);
        } else if c.is_alphanumeric() {
            for lower in c.to_lowercase() {
                word = step(word, u64::from(u32::from(lower)));
            }
        } else {
            end(&mut word);
        }
    }
    end(&mut word);
}

/// The hash of a run of words.
pub(super) fn run(words: &[u64]) -> u64 {
    mix(words.iter().fold(words.len() as u64, |hash, word| step(hash, *word)))
}

/// What is reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Shingler {
    words: Vec<u64>,
    shingles: Vec<u32>,
}

impl Shingler {
    /// The set of shingles of a text, sorted. A text of fewer words than a shingle has is one shingle; without a word it is
    /// the empty set.
    pub(super) fn shingles(&mut self, text: &str) -> &[u32] {
        self.words.clear();
        self.shingles.clear();
        words(text, &mut self.words);
        if self.words.is_empty() {
            return &self.shingles;
        }
        let width = WORDS.min(self.words.len());
        self.shingles.extend(self.words.windows(width).map(|words| (run(words) >> 32) as u32));
        self.shingles.sort_unstable();
        self.shingles.dedup();
        &self.shingles
    }
}

/// The keys of a set of shingles; none of the empty set.
pub(super) fn keys(shingles: &[u32]) -> [u64; BANDS] {
    let (times, plus) = &PERMUTATIONS;
    let mut minima = [u32::MAX; MINIMA];
    for shingle in shingles {
        // Without a branch, so that the compiler makes vector code of it.
        for ((minimum, times), plus) in minima.iter_mut().zip(times).zip(plus) {
            *minimum = (*minimum).min(shingle.wrapping_mul(*times).wrapping_add(*plus));
        }
    }
    let mut keys = [0; BANDS];
    for (band, (key, minima)) in keys.iter_mut().zip(minima.chunks_exact(BAND_ROWS)).enumerate() {
        *key = mix(minima.iter().fold(band as u64, |hash, minimum| step(hash, u64::from(*minimum))));
    }
    keys
}

/// How alike two sets of shingles are: common ones in all of both. Both are sorted; two empty sets have nothing in common.
pub(super) fn jaccard(one: &[u32], two: &[u32]) -> f64 {
    let (mut left, mut right, mut common) = (0, 0, 0usize);
    while let (Some(a), Some(b)) = (one.get(left), two.get(right)) {
        common += usize::from(a == b);
        left += usize::from(a <= b);
        right += usize::from(b <= a);
    }
    let all = one.len() + two.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Words by another road.
    fn plain_words(text: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for c in text.chars() {
            if stands_alone(c) {
                words.extend([c.to_string(), String::new()]);
            } else if c.is_alphanumeric() {
                words.last_mut().unwrap().extend(c.to_lowercase());
            } else {
                words.push(String::new());
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    pub(super) fn plain_jaccard(one: &str, two: &str) -> f64 {
        let set = |text: &str| -> HashSet<Vec<String>> {
            let words = plain_words(text);
            if words.is_empty() {
                return HashSet::new();
            }
            words.windows(WORDS.min(words.len())).map(<[String]>::to_vec).collect()
        };
        let (one, two) = (set(one), set(two));
        let all = one.union(&two).count();
        if all == 0 { 0.0 } else { one.intersection(&two).count() as f64 / all as f64 }
    }

    proptest! {
        #[test]
        fn words_and_likeness_are_those_of_plain_code(one in "[a-cA-C é中文ÀßΣ,.0-9\n]{0,60}", two in "[a-cA-C é中文ÀßΣ,.0-9\n]{0,60}") {
            let mut found = Vec::new();
            words(&one, &mut found);
            prop_assert_eq!(found.len(), plain_words(&one).len());
            let (mut first, mut second) = (Shingler::default(), Shingler::default());
            let found = jaccard(first.shingles(&one), second.shingles(&two));
            prop_assert!((found - plain_jaccard(&one, &two)).abs() < 1e-12, "{} {}", found, plain_jaccard(&one, &two));
        }
    }

    #[test]
    fn keys_never_change() {
        let mut shingler = Shingler::default();
        let found = keys(shingler.shingles("The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸"));
        let again = keys(shingler.shingles("the QUICK brown fox; jumps over the lazy dog 敏捷的棕色狐狸!"));
        assert_eq!(found, again);
        let shown: Vec<String> = found.iter().map(|key| format!("{key:016x}")).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    /// Sets that share a part s of their union collide with the chance 1 - (1 - s^6)^20.
    #[test]
    fn rows_share_a_key_as_often_as_theory_says() {
        for (common, wanted) in [(100u32, 0.270), (120, 0.616), (140, 0.918)] {
            let trials = 400;
            let hits = (0..trials)
                .filter(|trial| {
                    let draw = |n: u32| (mix(u64::from(trial * 10_000 + n)) >> 32) as u32;
                    let rest = (200 - common) / 2;
                    let one: Vec<u32> = (0..common + rest).map(draw).collect();
                    let two: Vec<u32> = (0..common).chain(common + rest..common + 2 * rest).map(draw).collect();
                    keys(&one).iter().zip(keys(&two)).any(|(a, b)| *a == b)
                })
                .count();
            let share = hits as f64 / f64::from(trials);
            assert!((share - wanted).abs() < 0.08, "{common}: {share}, not {wanted}");
        }
    }
}
