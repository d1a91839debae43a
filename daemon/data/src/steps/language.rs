//! The step for languages. Lives here: which language a text is in, and rows in others. The detector is `whatlang` (trigrams and
//! scripts). Never here: translation.

use std::borrow::Cow;

use hone_protocol::recipe::Settings;

use super::item::{Item, Of, Verdict, Why};
use super::{Built, RowStep};

/// Characters that are looked at; more say nothing new.
const LOOKED_AT: usize = 1000;

/// Two-letter codes of languages that people write so; others have the three letters of ISO 639-3.
const SHORT: &[(&str, &str)] = &[
    ("cmn", "zh"),
    ("eng", "en"),
    ("jpn", "ja"),
    ("kor", "ko"),
    ("deu", "de"),
    ("fra", "fr"),
    ("spa", "es"),
    ("por", "pt"),
    ("ita", "it"),
    ("nld", "nl"),
    ("rus", "ru"),
    ("ukr", "uk"),
    ("pol", "pl"),
    ("ces", "cs"),
    ("slk", "sk"),
    ("hun", "hu"),
    ("ron", "ro"),
    ("bul", "bg"),
    ("ell", "el"),
    ("tur", "tr"),
    ("ara", "ar"),
    ("heb", "he"),
    ("pes", "fa"),
    ("hin", "hi"),
    ("ben", "bn"),
    ("urd", "ur"),
    ("tam", "ta"),
    ("tel", "te"),
    ("tha", "th"),
    ("vie", "vi"),
    ("ind", "id"),
    ("swe", "sv"),
    ("dan", "da"),
    ("nob", "no"),
    ("fin", "fi"),
    ("est", "et"),
    ("lav", "lv"),
    ("lit", "lt"),
    ("cat", "ca"),
    ("hrv", "hr"),
    ("srp", "sr"),
    ("slv", "sl"),
    ("afr", "af"),
    ("lat", "la"),
    ("epo", "eo"),
    ("mya", "my"),
    ("khm", "km"),
    ("kat", "ka"),
];

/// The language of a text and how certain it is.
pub(crate) fn language(text: &str) -> Option<(&'static str, f64)> {
    let end = text.char_indices().nth(LOOKED_AT).map_or(text.len(), |(at, _)| at);
    let found = whatlang::detect(&text[..end])?;
    let code = found.lang().code();
    Some((SHORT.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| short), found.confidence()))
}

pub(super) fn step(settings: &Settings) -> Built {
    Built::row(Language {
        keep: settings.words("languages"),
        of: Of::read(settings.text("of")),
        characters_min: settings.whole("characters_min") as usize,
        share_min: settings.real("share_min"),
        same: settings.yes("same"),
    })
}

struct Language {
    keep: Vec<String>,
    of: Of,
    characters_min: usize,
    share_min: f64,
    same: bool,
}

impl Language {
    fn of(&self, text: &str) -> Option<(&'static str, f64)> {
        if text.chars().take(self.characters_min).count() < self.characters_min {
            return None;
        }
        language(text).filter(|(_, share)| *share >= self.share_min)
    }
}

impl RowStep for Language {
    fn apply(&self, item: &mut Item) -> Verdict {
        if !self.keep.is_empty() {
            let text: Cow<'_, str> = item.text(self.of);
            if let Some((code, share)) = self.of(&text).filter(|(code, _)| !self.keep.iter().any(|kept| kept == code)) {
                return Verdict::Drop(Why::new("other_language", share, self.share_min).of(code));
            }
        }
        if self.same
            && let (Some(question), Some(at)) = (item.question(), item.answer_at())
            && let (Some((asked, _)), Some((answered, share))) =
                (self.of(question), self.of(&item.messages[at].content))
            && asked != answered
        {
            return Verdict::Drop(
                Why::new("answer_in_other_language", share, self.share_min).of(format!("{asked}, {answered}")),
            );
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::reason;
    use super::*;

    const ENGLISH: &str =
        "This is a longer text in the English language, which is easy enough to recognise for everybody.";
    const CHINESE: &str = "这是一段比较长的中文文本，应该很容易被识别出来，因为它的文字与众不同。";
    const GERMAN: &str =
        "Das ist ein längerer Text in deutscher Sprache, den man leicht erkennen sollte, weil er lang ist.";

    #[test]
    fn languages_are_recognised() {
        for (text, wanted) in [
            (ENGLISH, "en"),
            (CHINESE, "zh"),
            (GERMAN, "de"),
            ("これは日本語の文章です。", "ja"),
            ("Это русский текст", "ru"),
        ] {
            assert_eq!(language(text).map(|(code, _)| code), Some(wanted), "{text}");
        }
        assert_eq!(language("12345 --- !!"), None);
    }

    #[test]
    fn rows_in_other_languages_go() {
        let keep = [("languages", "en, zh")];
        assert_eq!(reason("language", &keep, &mut chat(&[("text", ENGLISH)])), "");
        assert_eq!(reason("language", &keep, &mut chat(&[("text", CHINESE)])), "");
        assert!(reason("language", &keep, &mut chat(&[("text", GERMAN)])).starts_with("other_language"));
        assert_eq!(reason("language", &keep, &mut chat(&[("text", "Ja, gut")])), "", "too short to judge");
        let same = [("same", "yes")];
        assert!(
            reason("language", &same, &mut chat(&[("user", ENGLISH), ("assistant", CHINESE)]))
                .starts_with("answer_in_other")
        );
        assert_eq!(reason("language", &same, &mut chat(&[("user", ENGLISH), ("assistant", ENGLISH)])), "");
    }
}
