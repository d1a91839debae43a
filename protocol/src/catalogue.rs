//! The message catalogue: every sentence that a client shows, in English and Simplified Chinese, under a key.
//! Compiled in, so that `--help` and screens need no daemon. Variables stand in braces: `{name}`.
//! Each area has its own table below `catalogue/`; this file only looks things up.

mod area;
mod batches;
mod cli;
mod convert;
mod gates;
mod help;
mod label_help;
mod labelling;
mod money;
mod oversight;
mod playground;
mod pools;
mod recipes;
mod rows;
mod screen;
mod standards;
mod state;
mod trouble;
mod upstream;
mod versions;

/// A language of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    En,
    /// Simplified Chinese.
    Zh,
}

impl Language {
    /// From `LC_ALL`, `LC_MESSAGES` or `LANG`, in this order: the first that is set decides.
    pub fn from_locale(values: [Option<&str>; 3]) -> Language {
        match values.into_iter().flatten().find(|v| !v.is_empty()) {
            Some(v) if v.starts_with("zh") => Language::Zh,
            _ => Language::En,
        }
    }
}

/// One message: key, English, Chinese.
pub type Message = (&'static str, &'static str, &'static str);

/// All tables.
pub const TABLES: &[&[Message]] = &[
    area::MESSAGES,
    batches::MESSAGES,
    cli::MESSAGES,
    convert::MESSAGES,
    gates::MESSAGES,
    help::MESSAGES,
    label_help::MESSAGES,
    labelling::MESSAGES,
    playground::MESSAGES,
    money::MESSAGES,
    oversight::MESSAGES,
    pools::MESSAGES,
    recipes::MESSAGES,
    rows::MESSAGES,
    screen::MESSAGES,
    standards::MESSAGES,
    state::MESSAGES,
    trouble::MESSAGES,
    upstream::MESSAGES,
    versions::MESSAGES,
];

/// The text of a key; the key itself when it is unknown (a test insists that none is).
pub fn text(language: Language, key: &'static str) -> &'static str {
    find(language, key).unwrap_or(key)
}

/// The text of a key that came over a wire.
pub fn find(language: Language, key: &str) -> Option<&'static str> {
    TABLES.iter().flat_map(|t| t.iter()).find(|(k, _, _)| *k == key).map(|(_, en, zh)| match language {
        Language::En => *en,
        Language::Zh => *zh,
    })
}

/// The text of a key with its variables filled in.
pub fn fill(language: Language, key: &'static str, args: &[(&str, &str)]) -> String {
    args.iter().fold(text(language, key).to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn variables(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
    }

    #[test]
    fn keys_are_unique_and_both_languages_have_the_same_variables() {
        let mut seen = BTreeSet::new();
        for (key, en, zh) in TABLES.iter().flat_map(|t| t.iter()) {
            assert!(seen.insert(*key), "{key} stands twice");
            assert!(!en.is_empty() && !zh.is_empty(), "{key} is empty in one language");
            assert_eq!(variables(en), variables(zh), "{key}");
        }
    }
}
