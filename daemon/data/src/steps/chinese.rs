//! Traditional Chinese in simplified characters, by the tables of OpenCC (Apache-2.0, `opencc/`): the longest phrase that is in the
//! table, else the character. Lives here: the tables and the walk. Never here: regional words.

use std::collections::HashMap;
use std::sync::LazyLock;

use hone_protocol::recipe::Settings;

use super::item::{Item, Verdict};
use super::{Built, RowStep};

static PHRASES: &str = include_str!("opencc/TSPhrases.txt");
static CHARACTERS: &str = include_str!("opencc/TSCharacters.txt");

struct Tables {
    phrases: HashMap<&'static str, &'static str>,
    /// Characters of the longest phrase.
    longest: usize,
    /// First characters of phrases.
    begins: HashMap<char, ()>,
    characters: HashMap<char, &'static str>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    // `from TAB to other…`: the first is the usual one.
    let pairs = |text: &'static str| {
        text.lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(from, to)| Some((from, to.split(' ').next()?)))
    };
    let phrases: HashMap<_, _> = pairs(PHRASES).collect();
    Tables {
        longest: phrases.keys().map(|phrase| phrase.chars().count()).max().unwrap_or(0),
        begins: phrases.keys().filter_map(|phrase| phrase.chars().next()).map(|c| (c, ())).collect(),
        characters: pairs(CHARACTERS).filter_map(|(from, to)| Some((from.chars().next()?, to))).collect(),
        phrases,
    }
});

pub(super) fn simplified(_: &Settings) -> Built {
    Built::row(Simplified)
}

struct Simplified;

impl RowStep for Simplified {
    fn apply(&self, item: &mut Item) -> Verdict {
        item.rewrite("simplified", |text| {
            if text.is_ascii() {
                return None;
            }
            let simple = simple(text);
            (simple != text).then_some(simple)
        })
    }
}

fn simple(text: &str) -> String {
    let tables = &*TABLES;
    let mut simple = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if tables.begins.contains_key(&c) {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).take(tables.longest);
            let ends: Vec<usize> = ends.collect();
            if let Some((end, to)) = ends.iter().rev().find_map(|end| Some((*end, *tables.phrases.get(&rest[..*end])?)))
            {
                simple.push_str(to);
                rest = &rest[end..];
                continue;
            }
        }
        match tables.characters.get(&c) {
            Some(to) => simple.push_str(to),
            None => simple.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    simple
}
