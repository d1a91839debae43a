//! Steps for longer texts: repetition and words by Gopher's measures, lines by FineWeb's.
//! Lives here: these measures, with the thresholds that the recipe gives. Never here: chats' own faults (see `answers`).

use std::collections::{HashMap, HashSet};

use hone_protocol::recipe::Settings;

use super::item::{Item, Of, Verdict, Why};
use super::words::{stands_alone, words};
use super::{Built, RowStep};

/// Words of the groups of which the most common one is measured.
const TOP: [usize; 3] = [2, 3, 4];
/// Words of the runs of which the repeated ones are measured.
const RUNS: [usize; 6] = [5, 6, 7, 8, 9, 10];

pub(super) fn repetition(settings: &Settings) -> Built {
    Built::row(Repetition {
        of: Of::read(settings.text("of")),
        words_min: settings.whole("words_min") as usize,
        lines: settings.real("lines"),
        line_characters: settings.real("line_characters"),
        top: TOP.map(|n| settings.real(&format!("top_{n}"))),
        runs: RUNS.map(|n| settings.real(&format!("repeated_{n}"))),
    })
}

struct Repetition {
    of: Of,
    words_min: usize,
    lines: f64,
    line_characters: f64,
    top: [f64; 3],
    runs: [f64; 6],
}

/// Reasons, as the settings are called.
const TOP_REASONS: [&str; 3] = ["top_2", "top_3", "top_4"];
const RUN_REASONS: [&str; 6] = ["repeated_5", "repeated_6", "repeated_7", "repeated_8", "repeated_9", "repeated_10"];

impl RowStep for Repetition {
    fn apply(&self, item: &mut Item) -> Verdict {
        let text = item.text(self.of);
        let words: Vec<&str> = words(&text).collect();
        if words.len() < self.words_min.max(1) {
            return Verdict::Keep;
        }
        let (lines, characters) = repeated_lines(&text);
        let measures = [("lines", lines, self.lines), ("line_characters", characters, self.line_characters)];
        for (reason, value, threshold) in measures {
            if value > threshold {
                return Verdict::Drop(Why::new(reason, value, threshold));
            }
        }
        let counted = Counted::new(&words);
        for ((n, threshold), reason) in TOP.into_iter().zip(self.top).zip(TOP_REASONS) {
            let value = counted.top(n);
            if value > threshold {
                return Verdict::Drop(Why::new(reason, value, threshold));
            }
        }
        for ((n, threshold), reason) in RUNS.into_iter().zip(self.runs).zip(RUN_REASONS) {
            let value = counted.repeated(n);
            if value > threshold {
                return Verdict::Drop(Why::new(reason, value, threshold));
            }
        }
        Verdict::Keep
    }
}

/// Share of lines that were there before, and of characters in them.
fn repeated_lines(text: &str) -> (f64, f64) {
    let mut seen = HashSet::new();
    let (mut all, mut again, mut characters) = (0u64, 0u64, 0u64);
    for line in text.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        all += 1;
        if !seen.insert(line) {
            again += 1;
            characters += line.chars().count() as u64;
        }
    }
    let length = text.chars().count().max(1) as f64;
    (again as f64 / all.max(1) as f64, characters as f64 / length)
}

/// Words as numbers, with their characters.
struct Counted {
    words: Vec<u32>,
    characters: Vec<u64>,
    all: f64,
}

impl Counted {
    fn new(words: &[&str]) -> Counted {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let next = |numbers: &HashMap<&str, u32>| numbers.len() as u32;
        let mut numbered = Vec::with_capacity(words.len());
        for word in words {
            let number = next(&numbers);
            numbered.push(*numbers.entry(word).or_insert(number));
        }
        let characters: Vec<u64> = words.iter().map(|word| word.chars().count() as u64).collect();
        let all = characters.iter().sum::<u64>().max(1) as f64;
        Counted { words: numbered, characters, all }
    }

    fn size(&self, at: usize, n: usize) -> u64 {
        self.characters[at..at + n].iter().sum()
    }

    /// Share of characters in the most common group of `n` words, when it comes more than once.
    fn top(&self, n: usize) -> f64 {
        let mut counts: HashMap<&[u32], (u64, usize)> = HashMap::new();
        for (at, group) in self.words.windows(n).enumerate() {
            counts.entry(group).or_insert((0, at)).0 += 1;
        }
        let shares = counts.values().filter(|(count, _)| *count > 1).map(|(count, at)| count * self.size(*at, n));
        (shares.max().unwrap_or(0) as f64 / self.all).min(1.0)
    }

    /// Share of characters in runs of `n` words that were there before. Behind a run the look goes on after it.
    fn repeated(&self, n: usize) -> f64 {
        let mut seen = HashSet::new();
        let (mut at, mut characters) = (0, 0);
        while at + n <= self.words.len() {
            if seen.insert(&self.words[at..at + n]) {
                at += 1;
            } else {
                characters += self.size(at, n);
                at += n;
            }
        }
        characters as f64 / self.all
    }
}

pub(super) fn word_rules(settings: &Settings) -> Built {
    Built::row(Words {
        least: settings.whole("min"),
        most: settings.whole("max"),
        mean_min: settings.real("mean_min"),
        mean_max: settings.real("mean_max"),
        symbols_max: settings.real("symbols_max"),
        bullets_max: settings.real("bullets_max"),
        ellipses_max: settings.real("ellipses_max"),
        letters_min: settings.real("letters_min"),
        common_min: settings.whole("common_min"),
    })
}

struct Words {
    least: u64,
    most: u64,
    mean_min: f64,
    mean_max: f64,
    symbols_max: f64,
    bullets_max: f64,
    ellipses_max: f64,
    letters_min: f64,
    common_min: u64,
}

/// Words without which an English text is none.
const COMMON: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

impl RowStep for Words {
    fn apply(&self, item: &mut Item) -> Verdict {
        match self.fault(&item.text(Of::Row)) {
            Some(why) => Verdict::Drop(why),
            None => Verdict::Keep,
        }
    }
}

impl Words {
    fn fault(&self, text: &str) -> Option<Why> {
        let words: Vec<&str> = words(text).collect();
        let count = words.len() as u64;
        let below =
            |reason, value: f64, threshold: f64| (value < threshold).then(|| Why::new(reason, value, threshold));
        let above =
            |reason, value: f64, threshold: f64| (value > threshold).then(|| Why::new(reason, value, threshold));
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        let spelled: Vec<&&str> = words.iter().filter(|word| !word.contains(stands_alone)).collect();
        let mean = share(spelled.iter().map(|word| word.chars().count()).sum(), spelled.len());
        let lines: Vec<&str> = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
        let lines_that = |test: fn(&str) -> bool| share(lines.iter().filter(|line| test(line)).count(), lines.len());
        let ellipses = text.matches("...").count() + text.matches('…').count();
        let letters = words.iter().filter(|word| word.contains(char::is_alphabetic)).count();
        let is_spelled = spelled.len() * 2 > words.len();
        let low: HashSet<String> = spelled.iter().map(|word| word.to_lowercase()).collect();
        let common = COMMON.iter().filter(|word| low.contains(**word)).count() as f64;
        let latin = is_spelled && words.iter().filter(|word| word.is_ascii()).count() * 2 > words.len();
        below("few_words", count as f64, self.least as f64)
            .or_else(|| above("many_words", count as f64, self.most as f64))
            .or_else(|| if is_spelled { below("short_words", mean, self.mean_min) } else { None })
            .or_else(|| if is_spelled { above("long_words", mean, self.mean_max) } else { None })
            .or_else(|| above("hash_signs", share(text.matches('#').count(), words.len()), self.symbols_max))
            .or_else(|| above("ellipses", share(ellipses, words.len()), self.symbols_max))
            .or_else(|| above("bullets", lines_that(|line| line.starts_with(['•', '-', '*'])), self.bullets_max))
            .or_else(|| {
                above("cut_lines", lines_that(|line| line.ends_with("...") || line.ends_with('…')), self.ellipses_max)
            })
            .or_else(|| below("words_without_letters", share(letters, words.len()), self.letters_min))
            .or_else(|| if latin { below("no_common_words", common, self.common_min as f64) } else { None })
    }
}

pub(super) fn line_rules(settings: &Settings) -> Built {
    Built::row(Lines {
        ends_min: settings.real("ends_min"),
        short_max: settings.real("short_max"),
        newlines_max: settings.real("newlines_max"),
    })
}

struct Lines {
    ends_min: f64,
    short_max: f64,
    newlines_max: f64,
}

/// Characters of a short line.
const SHORT_LINE: usize = 30;

impl RowStep for Lines {
    fn apply(&self, item: &mut Item) -> Verdict {
        let text = item.text(Of::Row);
        let lines: Vec<&str> = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Verdict::Keep;
        }
        let share =
            |test: &dyn Fn(&str) -> bool| lines.iter().filter(|line| test(line)).count() as f64 / lines.len() as f64;
        let ends =
            share(&|line| line.ends_with(['.', '?', '!', '"', '\'', '”', '。', '？', '！', '…', '」', '：', ':']));
        let short = share(&|line| line.chars().count() <= SHORT_LINE);
        let newlines = text.matches('\n').count() as f64 / words(&text).count().max(1) as f64;
        if ends < self.ends_min {
            return Verdict::Drop(Why::new("few_full_ends", ends, self.ends_min));
        }
        // One short line is a short text, which another step judges.
        if lines.len() > 1 && short > self.short_max {
            return Verdict::Drop(Why::new("short_lines", short, self.short_max));
        }
        if newlines > self.newlines_max {
            return Verdict::Drop(Why::new("many_lines", newlines, self.newlines_max));
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::reason;
    use super::*;

    fn sentence(n: usize) -> String {
        (0..n).map(|word| format!("word{} ", word * 7 % 1009)).collect()
    }

    #[test]
    fn repetition_is_found_and_plain_text_stays() {
        let plain = sentence(120);
        let line = "one line that comes again and again\n".repeat(3) + &sentence(60);
        for (text, wanted) in [
            (plain.clone(), ""),
            ("the same ".repeat(40), "top_2 1 0.2"),
            ("short short".to_owned(), ""),
            (line.clone() + &line, "lines 0.571 0.3"),
            // Two halves that are the same, in one line: no group is common, but every run comes again.
            (sentence(60) + &sentence(60), "repeated_5 0.5 0.15"),
            ("重复的话".repeat(40), "top_2 0.5 0.2"),
        ] {
            assert_eq!(reason("repetition", &[], &mut chat(&[("text", text.as_str())])), wanted, "{text:.60}");
        }
        assert_eq!(reason("repetition", &[("words_min", "500")], &mut chat(&[("text", &"a b ".repeat(100))])), "");
    }

    #[test]
    fn runs_are_counted_as_a_naive_scan_counts_them() {
        let words: Vec<&str> = "a b c d e f a b c d e x a b c d e f g".split(' ').collect();
        // The second and third "a b c d e" are ten of nineteen letters.
        assert!((Counted::new(&words).repeated(5) - 10.0 / 19.0).abs() < 1e-9);
        assert!((Counted::new(&words).top(2) - 6.0 / 19.0).abs() < 1e-9);
    }

    #[test]
    fn words_and_lines_have_their_measures() {
        let good = "The people of this town have to be there with all that they own and the rest of us. ".repeat(4);
        for (text, wanted) in [
            (good.clone(), ""),
            ("too few".to_owned(), "few_words 2 50"),
            ("a b c d ".repeat(20), "short_words 1 3"),
            ("# ".repeat(30) + &good, "hash_signs 0.395 0.1"),
            (sentence(60), "no_common_words 0 2"),
            ("12 34 56 78 90 11 22 ".repeat(10).replace(' ', "345 "), "words_without_letters 0 0.8"),
            ("中文没有空格但是每个字都是一个词".repeat(5), ""),
        ] {
            assert_eq!(reason("words", &[], &mut chat(&[("text", text.as_str())])), wanted, "{text:.40}");
        }
        for (text, wanted) in [
            ("Home\nAbout\nShop\nCart", "few_full_ends 0 0.12"),
            ("Yes.\nNo.\nAnd one that is so long that it is no short line, with many words in it.", ""),
            ("Yes.\nNo.\nOr.\nAnd a line that is longer than thirty.", "short_lines 0.75 0.67"),
            ("One sentence.", ""),
            ("", ""),
        ] {
            assert_eq!(reason("lines", &[], &mut chat(&[("text", text)])), wanted, "{text}");
        }
    }
}
