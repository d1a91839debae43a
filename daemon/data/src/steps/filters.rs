//! Steps that drop rows by simple measures: length, turns, order of roles, kinds of characters, phrases, expressions, fields.
//! Lives here: these measures. Never here: repetition and quality of long texts (see `quality`), answers of chats (see `answers`).

use hone_protocol::dataset::{CHOSEN, Shape};
use hone_protocol::failure::Failure;
use hone_protocol::recipe::Settings;
use regex_automata::meta::{self, Regex};
use serde_json::Value;

use super::item::{Item, Of, Verdict, Why};
use super::words::words;
use super::{Built, RowStep};

/// Most memory of a compiled expression.
const REGEX_BYTES_MAX: usize = 4 << 20;
/// Characters of a detail.
const DETAIL_CHARACTERS_MAX: usize = 200;

/// The beginning of a text, for a detail.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(DETAIL_CHARACTERS_MAX).collect()
}

pub(super) fn length(settings: &Settings) -> Built {
    Built::row(Length {
        of: Of::read(settings.text("of")),
        unit: settings.text("unit").to_owned(),
        min: settings.whole("min"),
        max: settings.whole("max"),
    })
}

struct Length {
    of: Of,
    unit: String,
    min: u64,
    max: u64,
}

impl RowStep for Length {
    fn apply(&self, item: &mut Item) -> Verdict {
        let text = item.text(self.of);
        let length = match self.unit.as_str() {
            "words" => words(&text).count() as u64,
            "tokens" => tokens(&text),
            _ => text.chars().count() as u64,
        };
        match length {
            length if length < self.min => Verdict::Drop(Why::new("too_short", length as f64, self.min as f64)),
            length if self.max > 0 && length > self.max => {
                Verdict::Drop(Why::new("too_long", length as f64, self.max as f64))
            }
            _ => Verdict::Keep,
        }
    }
}

/// About how many tokens a text has.
fn tokens(text: &str) -> u64 {
    let tenths: u64 = words(text).map(|word| if word.chars().any(super::words::stands_alone) { 10 } else { 13 }).sum();
    tenths.div_ceil(10)
}

pub(super) fn turns(settings: &Settings) -> Built {
    Built::row(Turns { min: settings.whole("min"), max: settings.whole("max") })
}

struct Turns {
    min: u64,
    max: u64,
}

impl RowStep for Turns {
    fn apply(&self, item: &mut Item) -> Verdict {
        let turns = item.messages.iter().filter(|message| message.role != "system").count() as u64;
        match turns {
            turns if turns < self.min => Verdict::Drop(Why::new("too_few_turns", turns as f64, self.min as f64)),
            turns if turns > self.max => Verdict::Drop(Why::new("too_many_turns", turns as f64, self.max as f64)),
            _ => Verdict::Keep,
        }
    }
}

pub(super) fn roles(_: &Settings) -> Built {
    Built::row(Roles)
}

struct Roles;

impl RowStep for Roles {
    fn apply(&self, item: &mut Item) -> Verdict {
        let Some((at, reason)) = disorder(item) else { return Verdict::Keep };
        let detail = item.messages.get(at).map_or(String::new(), |message| format!("messages[{at}]: {}", message.role));
        Verdict::Drop(Why::new(reason, at as f64, 0.0).of(detail))
    }
}

/// The first message that is out of order, and why. Tools answer calls, so they stand anywhere behind an assistant.
fn disorder(item: &Item) -> Option<(usize, &'static str)> {
    if item.shape() == Shape::Text {
        return None;
    }
    let mut last = "";
    for (at, message) in item.messages.iter().enumerate() {
        match (message.role.as_str(), last) {
            ("system", "") if at == 0 => continue,
            ("system", _) => return Some((at, "system_not_first")),
            ("user", "user") | ("assistant", "assistant") => return Some((at, "same_role_twice")),
            ("assistant" | "tool", "") => return Some((at, "no_user_first")),
            (CHOSEN, last) if last != "user" => return Some((at, "no_user_before_answers")),
            (role, _) => last = role,
        }
    }
    let end = item.messages.len().saturating_sub(1);
    (item.shape() == Shape::Chat && last != "assistant").then_some((end, "no_answer_last"))
}

pub(super) fn characters(settings: &Settings) -> Built {
    Built::row(Characters {
        of: Of::read(settings.text("of")),
        special_max: settings.real("special_max"),
        letters_min: settings.real("letters_min"),
    })
}

struct Characters {
    of: Of,
    special_max: f64,
    letters_min: f64,
}

impl RowStep for Characters {
    fn apply(&self, item: &mut Item) -> Verdict {
        let text = item.text(self.of);
        let (mut all, mut letters, mut spaces) = (0u64, 0u64, 0u64);
        for c in text.chars() {
            all += 1;
            letters += u64::from(c.is_alphanumeric());
            spaces += u64::from(c.is_whitespace());
        }
        if all == 0 {
            return Verdict::Keep;
        }
        let share = |count: u64| count as f64 / all as f64;
        let (special, letters) = (share(all - letters - spaces), share(letters));
        if special > self.special_max {
            return Verdict::Drop(Why::new("special_characters", special, self.special_max));
        }
        if letters < self.letters_min {
            return Verdict::Drop(Why::new("few_letters", letters, self.letters_min));
        }
        Verdict::Keep
    }
}

pub(super) fn phrases(settings: &Settings) -> Built {
    let built_in = if settings.text("built_in") == "refusals" { REFUSALS } else { &[] };
    let own = settings.texts("list").into_iter().map(|text| text.to_lowercase());
    Built::row(Phrases {
        phrases: built_in.iter().map(|text| (*text).to_owned()).chain(own).collect(),
        of: Of::read(settings.text("of")),
        within: settings.whole("within") as usize,
    })
}

/// How models refuse, and talk of themselves. Apostrophes are the plain one.
const REFUSALS: &[&str] = &[
    "as an ai language model",
    "as a language model",
    "as an ai assistant, i",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm sorry, i can't",
    "i cannot fulfill",
    "i can't fulfill",
    "i cannot assist with",
    "i can't assist with",
    "i can't help with that",
    "i cannot help with that",
    "i'm unable to assist",
    "i am unable to assist",
    "i'm not able to help with that",
    "i cannot provide that",
    "i can't provide that",
    "i must decline",
    "it is not appropriate for me to",
    "i don't have personal opinions",
    "i do not have personal opinions",
    "作为一个人工智能",
    "作为人工智能语言模型",
    "作为一个语言模型",
    "作为ai",
    "作为一个ai",
    "我是一个人工智能",
    "很抱歉，我无法",
    "抱歉，我无法",
    "抱歉，我不能",
    "对不起，我无法",
    "对不起，我不能",
    "我无法提供",
    "我不能提供",
    "无法回答您的问题",
    "我没有个人观点",
];

struct Phrases {
    phrases: Vec<String>,
    of: Of,
    within: usize,
}

impl RowStep for Phrases {
    fn apply(&self, item: &mut Item) -> Verdict {
        let text = item.text(self.of);
        let end = text.char_indices().nth(if self.within == 0 { usize::MAX } else { self.within });
        let low = text[..end.map_or(text.len(), |(at, _)| at)].to_lowercase().replace('’', "'");
        let found = self.phrases.iter().find_map(|phrase| Some((phrase, low.find(phrase.as_str())?)));
        match found {
            Some((phrase, at)) => Verdict::Drop(Why::new("phrase", at as f64, self.within as f64).of(phrase.as_str())),
            None => Verdict::Keep,
        }
    }
}

/// An expression, or what is wrong with it.
pub(super) fn compiled(pattern: &str) -> Result<Regex, String> {
    let config = meta::Config::new().nfa_size_limit(Some(REGEX_BYTES_MAX)).hybrid_cache_capacity(REGEX_BYTES_MAX);
    Regex::builder().configure(config).build(pattern).map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("the expression {:?} cannot be used: {why}", excerpt(pattern))
    })
}

pub(super) fn regex(settings: &Settings) -> Result<Built, Failure> {
    let pattern = settings.text("pattern");
    if pattern.is_empty() {
        return Err(Failure::field("pattern", "the step regex needs an expression in `pattern`"));
    }
    Ok(Built::row(Expression {
        regex: compiled(pattern).map_err(|message| Failure::field("pattern", message))?,
        of: Of::read(settings.text("of")),
        drop_matching: settings.text("drop") == "matching",
    }))
}

struct Expression {
    regex: Regex,
    of: Of,
    drop_matching: bool,
}

impl RowStep for Expression {
    fn apply(&self, item: &mut Item) -> Verdict {
        let text = item.text(self.of);
        match (self.regex.find(text.as_ref()), self.drop_matching) {
            (Some(found), true) => {
                Verdict::Drop(Why::new("matches", found.start() as f64, 0.0).of(excerpt(&text[found.range()])))
            }
            (None, false) => Verdict::Drop(Why::new("does_not_match", 0.0, 1.0)),
            _ => Verdict::Keep,
        }
    }
}

pub(super) fn field(settings: &Settings) -> Result<Built, Failure> {
    let test = settings.text("test").to_owned();
    let value = settings.text("value").to_owned();
    if settings.text("path").is_empty() {
        return Err(Failure::field("path", "the step field needs the name of a field in `path`"));
    }
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
    if test.starts_with("at_") && number.is_none() {
        return Err(Failure::field("value", format!("{value:?} is not a number, which {test} needs")));
    }
    let drop_matching = settings.text("drop") == "matching";
    Ok(Built::row(Field { path: settings.text("path").to_owned(), test, value, number, drop_matching }))
}

struct Field {
    path: String,
    test: String,
    value: String,
    number: Option<f64>,
    drop_matching: bool,
}

impl Field {
    fn holds(&self, found: Option<&Value>) -> bool {
        let Some(found) = found.filter(|value| !value.is_null()) else { return false };
        let number = match found {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match (self.test.as_str(), self.number, number) {
            ("at_least", Some(wanted), Some(number)) => number >= wanted,
            ("at_most", Some(wanted), Some(number)) => number <= wanted,
            ("at_least" | "at_most", ..) => false,
            ("exists", ..) => true,
            ("equals", Some(wanted), Some(number)) if wanted == number => true,
            ("equals", ..) => shown(found) == self.value,
            _ => match found {
                Value::Array(list) => list.iter().any(|one| shown(one) == self.value),
                other => shown(other).to_lowercase().contains(&self.value.to_lowercase()),
            },
        }
    }
}

/// A value as people write it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl RowStep for Field {
    fn apply(&self, item: &mut Item) -> Verdict {
        let found = item.field(&self.path);
        if self.holds(found.as_ref()) != self.drop_matching {
            return Verdict::Keep;
        }
        let reason = if self.drop_matching { "field_matches" } else { "field_does_not_match" };
        let value = found.as_ref().and_then(Value::as_f64).filter(|value| value.is_finite()).unwrap_or(0.0);
        let said = found.as_ref().map_or("missing".to_owned(), shown);
        let detail = format!("{}: {}", self.path, excerpt(&said));
        Verdict::Drop(Why::new(reason, value, self.number.unwrap_or(0.0)).of(detail))
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::{reason, row_step};
    use super::*;
    use hone_protocol::recipe::StepSpec;

    #[test]
    fn rows_are_dropped_for_what_they_are_and_kept_at_the_threshold() {
        let pair = &[("user", "question"), ("assistant", "answer")][..];
        for (step, settings, messages, wanted) in [
            ("length", &[("min", "8"), ("of", "prompt")][..], pair, ""),
            ("length", &[("min", "9"), ("of", "prompt")], pair, "too_short 8 9"),
            ("length", &[("max", "5"), ("of", "answer")], pair, "too_long 6 5"),
            ("length", &[("max", "6"), ("of", "answer")], pair, ""),
            ("length", &[("unit", "words"), ("min", "5")], &[("text", "two words 三个字")], ""),
            ("length", &[("unit", "tokens"), ("max", "5")], &[("text", "two words 三个字")], "too_long 6 5"),
            ("turns", &[("min", "3")], pair, "too_few_turns 2 3"),
            ("turns", &[("max", "2")], &[("system", "s"), ("user", "a"), ("assistant", "b")], ""),
            ("roles", &[], pair, ""),
            ("roles", &[], &[("system", "s"), ("user", "a"), ("assistant", "b")], ""),
            ("roles", &[], &[("user", "a"), ("system", "s"), ("assistant", "b")], "system_not_first 1 0"),
            ("roles", &[], &[("user", "a"), ("user", "b"), ("assistant", "c")], "same_role_twice 1 0"),
            ("roles", &[], &[("assistant", "b")], "no_user_first 0 0"),
            ("roles", &[], &[("user", "a"), ("assistant", "b"), ("user", "c")], "no_answer_last 2 0"),
            ("roles", &[], &[("user", "a"), ("chosen", "b"), ("rejected", "c")], ""),
            ("roles", &[], &[("text", "a")], ""),
            ("characters", &[], &[("text", "###$$$abc")], "special_characters 0.667 0.4"),
            ("characters", &[("special_max", "1")], &[("text", "### a")], "few_letters 0.2 0.25"),
            ("characters", &[], &[("text", "")], ""),
            ("phrases", &[], &[("user", "q"), ("assistant", "I’m sorry, but I can’t do that.")], "phrase 0 200"),
            ("phrases", &[], &[("user", "q"), ("assistant", "很抱歉，我无法回答。")], "phrase 0 200"),
            ("phrases", &[("within", "5")], &[("user", "q"), ("assistant", "Well, I must decline.")], ""),
            (
                "phrases",
                &[("built_in", "none"), ("list", "Foo | BAR")],
                &[("user", "q"), ("assistant", "a bar")],
                "phrase 2 200",
            ),
            ("regex", &[("pattern", "an.wer")], pair, "matches 9 0"),
            ("regex", &[("pattern", "(?i)QUEST"), ("drop", "others")], pair, ""),
            ("regex", &[("pattern", "xyz"), ("drop", "others")], pair, "does_not_match 0 1"),
        ] {
            assert_eq!(reason(step, settings, &mut chat(messages)), wanted, "{step} {settings:?} {messages:?}");
        }
    }

    #[test]
    fn fields_are_compared_as_numbers_and_as_texts() {
        for (test, value, wanted) in [
            ("exists", "", ""),
            ("equals", "4.0", ""),
            ("equals", "5", "field_does_not_match 4 5"),
            ("at_least", "4", ""),
            ("at_least", "4.5", "field_does_not_match 4 4.5"),
            ("at_most", "3", "field_does_not_match 4 3"),
        ] {
            let mut item = chat(&[("text", "t")]);
            item.original = r#"{"text":"t","meta":{"score":4}}"#.into();
            let settings = [("path", "meta.score"), ("test", test), ("value", value)];
            assert_eq!(reason("field", &settings, &mut item), wanted, "{test} {value}");
        }
        let mut item = chat(&[("text", "t")]);
        assert_eq!(reason("field", &[("path", "none")], &mut item), "field_does_not_match 0 0");
        item.original = r#"{"tags":["a","b"],"source":"Web Crawl"}"#.into();
        let contains = |path, value| [("path", path), ("test", "contains"), ("value", value), ("drop", "matching")];
        assert_eq!(reason("field", &contains("tags", "b"), &mut item), "field_matches 0 0");
        assert_eq!(reason("field", &contains("tags", "c"), &mut item), "");
        assert_eq!(reason("field", &contains("source", "crawl"), &mut item), "field_matches 0 0");
    }

    #[test]
    fn expressions_that_cannot_be_used_are_refused() {
        for pattern in ["(", "", "(a{1000}){1000}"] {
            let spec =
                StepSpec { step: "regex".into(), settings: vec![("pattern".into(), pattern.into())], keep: Vec::new() };
            let settings = spec.checked(0).unwrap();
            assert_eq!(regex(&settings).err().map(|failure| failure.place), Some("pattern".into()), "{pattern}");
        }
        let _ = row_step;
    }
}
