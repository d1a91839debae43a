//! The rows of the bench: chats of many lengths, some of them Chinese, with lines that are broken in the ways in which lines break.
//! Never here: measuring.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What was made.
pub(crate) struct Made {
    pub(crate) rows: u64,
    pub(crate) broken: u64,
    pub(crate) bytes: u64,
}

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, in_ten_thousand: u64) -> bool {
        self.below(10_000) < in_ten_thousand
    }
}

/// Writes rows with broken lines among them, and the same rows without these.
pub(crate) fn write(rows: u64, with_broken: &Path, clean: &Path) -> std::io::Result<Made> {
    let open = |path: &Path| File::create(path).map(|file| BufWriter::with_capacity(1 << 20, file));
    let (mut all, mut good) = (open(with_broken)?, open(clean)?);
    let mut dice = Dice(7);
    let words = words(&mut dice);
    let (mut made, mut line) = (Made { rows, broken: 0, bytes: 0 }, String::new());
    for number in 0..rows {
        line.clear();
        row(&mut dice, &words, number, &mut line);
        let broken = dice.chance(50);
        let bytes = if broken { break_line(&mut dice, &line) } else { line.clone().into_bytes() };
        made.broken += u64::from(broken);
        made.bytes += bytes.len() as u64 + 1;
        all.write_all(&bytes)?;
        all.write_all(b"\n")?;
        if !broken {
            good.write_all(&bytes)?;
            good.write_all(b"\n")?;
        }
    }
    all.flush()?;
    good.flush()?;
    Ok(made)
}

fn words(dice: &mut Dice) -> Vec<String> {
    let (starts, ends) = ("b c d f g h l m n p r s t v st tr pl gr sh", "a e i o u ai ea oo");
    let (starts, ends): (Vec<&str>, Vec<&str>) = (starts.split(' ').collect(), ends.split(' ').collect());
    let mut made: Vec<String> = (0..4000)
        .map(|_| {
            let syllables = 1 + dice.below(3);
            let pick = |dice: &mut Dice, of: &[&str]| of[dice.below(of.len() as u64) as usize].to_owned();
            (0..=syllables).map(|_| pick(dice, &starts) + &pick(dice, &ends)).collect()
        })
        .collect();
    made[1234] = "whale".to_owned();
    made
}

fn row(dice: &mut Dice, words: &[String], number: u64, line: &mut String) {
    let chinese = dice.chance(1500);
    let rounds = 1 + u64::from(dice.chance(4000)) + u64::from(dice.chance(1500));
    line.push_str("{\"messages\":[");
    if dice.chance(2500) {
        line.push_str("{\"role\":\"system\",\"content\":\"You are a careful assistant.\"},");
    }
    for round in 0..rounds {
        let comma = if round > 0 { "," } else { "" };
        let _ = write!(line, "{comma}{{\"role\":\"user\",\"content\":\"");
        let length = 20 + dice.below(160);
        text(dice, words, chinese, length, line);
        line.push_str("\"},{\"role\":\"assistant\",\"content\":\"");
        // Lengths as people's answers have them: many short ones, a long tail.
        let tail = dice.below(1000);
        let length = match tail {
            0..=699 => 40 + dice.below(520),
            700..=949 => 400 + dice.below(1000),
            950..=994 => 1200 + dice.below(3600),
            _ => 4500 + dice.below(12_000),
        };
        text(dice, words, chinese, length, line);
        line.push_str("\"}");
    }
    let _ = write!(line, "],\"id\":{number},\"meta\":{{\"source\":\"bench\",\"score\":0.{}}}}}", dice.below(1000));
}

fn text(dice: &mut Dice, words: &[String], chinese: bool, bytes: u64, line: &mut String) {
    let end = line.len() + bytes as usize;
    while line.len() < end {
        if chinese {
            let code = 0x4e00 + dice.below(0x3000) as u32;
            line.push(char::from_u32(code).unwrap_or('中'));
            if dice.chance(600) {
                line.push('，');
            }
            continue;
        }
        line.push_str(&words[dice.below(words.len() as u64) as usize]);
        match dice.below(60) {
            0 => line.push_str(".\\n"),
            1 => line.push_str(", \\\"so\\\" "),
            2 => line.push_str(". "),
            _ => line.push(' '),
        }
    }
}

/// A line as it is when it is broken: cut, with a byte that is no text, with a mark too much, or with the wrong things in it.
fn break_line(dice: &mut Dice, line: &str) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    match dice.below(6) {
        0 => bytes.truncate(bytes.len() / 2),
        1 => {
            let middle = bytes.len() / 2;
            bytes[middle] = 0xff;
        }
        2 => bytes.extend_from_slice(b",}"),
        3 => bytes = line.replace("\"role\":\"user\"", "\"role\":\"king\"").into_bytes(),
        4 => bytes = line.replace("\"messages\":[", "\"messages\":7,\"was\":[").into_bytes(),
        _ => bytes = line.replace('"', "'").into_bytes(),
    }
    bytes
}
