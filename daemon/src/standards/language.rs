//! Whether a text is in a language: by its script, and where several languages share one, by their commonest words. It is for texts
//! that claim to be in a language, not for telling which of a hundred it is. Never here: what follows from it.

/// Share of a text's letters that must be of the script.
const SCRIPT_SHARE: f64 = 0.6;
/// Words that a text must have before its words say anything.
const WORDS_LEAST: usize = 12;
/// Share of common words below which a text is in none of these languages.
const COMMON_SHARE: f64 = 0.08;

/// The commonest words of languages in Latin script.
const COMMON: &[(&str, &[&str])] = &[
    (
        "en",
        &[
            "the", "of", "and", "to", "a", "in", "is", "you", "that", "it", "for", "on", "with", "your", "are", "this",
            "be", "we", "can", "have", "not", "or", "from", "by", "at", "as", "our", "if", "will", "was", "i", "my",
            "do", "how",
        ],
    ),
    (
        "de",
        &[
            "der", "die", "das", "und", "ist", "nicht", "ein", "eine", "zu", "mit", "auf", "für", "sie", "wir", "ich",
            "von", "den", "im", "es", "dem", "als", "auch", "sich", "an", "wird", "haben", "kann", "ihre",
        ],
    ),
    (
        "fr",
        &[
            "le", "la", "les", "de", "des", "et", "est", "un", "une", "vous", "nous", "que", "pour", "dans", "pas",
            "sur", "votre", "avec", "du", "au", "il", "ce", "qui", "je", "ne", "en", "par", "sont",
        ],
    ),
    (
        "es",
        &[
            "el", "la", "los", "las", "de", "y", "es", "un", "una", "que", "en", "para", "por", "con", "no", "su",
            "se", "del", "al", "lo", "como", "más", "su", "usted", "puede", "está", "si", "nos",
        ],
    ),
];

/// A script by its characters.
fn script(c: char) -> &'static str {
    match u32::from(c) {
        0x41..=0x5a | 0x61..=0x7a | 0xc0..=0x24f => "latin",
        0x400..=0x52f => "cyrillic",
        0x600..=0x6ff | 0x750..=0x77f => "arabic",
        0x900..=0x97f => "devanagari",
        0xe00..=0xe7f => "thai",
        0x3040..=0x30ff => "kana",
        0x1100..=0x11ff | 0xac00..=0xd7af => "hangul",
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0x2_0000..=0x2_fa1f => "han",
        _ if c.is_alphabetic() => "other",
        _ => "",
    }
}

/// `Ok` when a text may be in a language; else why not, to stand behind "the turn of user".
pub(super) fn is(language: &str, text: &str) -> Result<(), String> {
    let letters: Vec<&str> = text.chars().map(script).filter(|script| !script.is_empty()).collect();
    if letters.is_empty() {
        // Numbers and signs are in every language.
        return Ok(());
    }
    let share = |scripts: &[&str]| {
        letters.iter().filter(|script| scripts.contains(script)).count() as f64 / letters.len() as f64
    };
    let no = || Err(format!("is not in {language}"));
    match language {
        // Chinese has no kana; a Japanese text has some.
        "zh" if share(&["han"]) < 0.5 || share(&["kana"]) > 0.1 => no(),
        "ja" if share(&["han", "kana"]) < 0.5 || share(&["kana"]) < 0.1 => no(),
        "ko" if share(&["hangul"]) < 0.5 => no(),
        "ru" if share(&["cyrillic"]) < SCRIPT_SHARE => no(),
        "ar" if share(&["arabic"]) < SCRIPT_SHARE => no(),
        "th" if share(&["thai"]) < SCRIPT_SHARE => no(),
        "hi" if share(&["devanagari"]) < SCRIPT_SHARE => no(),
        "en" | "de" | "fr" | "es" => latin(language, text, share(&["latin"])),
        _ => Ok(()),
    }
}

fn latin(language: &str, text: &str, share: f64) -> Result<(), String> {
    if share < SCRIPT_SHARE {
        return Err(format!("is not in {language}"));
    }
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphabetic() && c != '\'')
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.len() < WORDS_LEAST {
        return Ok(());
    }
    let common = |list: &[&str]| words.iter().filter(|word| list.contains(&word.as_str())).count() as f64;
    let counts: Vec<(&str, f64)> =
        COMMON.iter().map(|(name, list)| (*name, common(list) / words.len() as f64)).collect();
    let own = counts.iter().find(|(name, _)| *name == language).map_or(0.0, |(_, share)| *share);
    match counts.iter().filter(|(name, other)| *name != language && *other > own).max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((other, share)) if *share >= COMMON_SHARE => Err(format!("is in {other}, not in {language}")),
        _ if own < COMMON_SHARE => Err(format!("is not in {language}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_common_words_tell() {
        let english = "You can return the parcel within thirty days, and we will pay for the way back to our shop.";
        let french =
            "Vous pouvez nous rendre le colis dans les trente jours et nous payons pour le retour de votre paquet.";
        let chinese = "您可以在三十天内退货，运费由我们承担。";
        let japanese = "三十日以内であれば返品できます。送料は当店が負担します。";
        for (language, text) in [("en", english), ("fr", french), ("zh", chinese), ("ja", japanese)] {
            for (other, _) in [("en", 0), ("fr", 0), ("zh", 0), ("ja", 0)] {
                assert_eq!(is(other, text).is_ok(), other == language, "{other} for {text}");
            }
        }
        assert_eq!(is("en", french).unwrap_err(), "is in fr, not in en");
        assert!(is("en", "42").is_ok() && is("zh", "42!").is_ok(), "numbers are in every language");
        assert!(is("en", "Bonjour").is_ok(), "one word says nothing");
        assert!(is("en", "שלום לכולם").is_err(), "letters of another script are letters");
        assert!(is("zh", "用 GPU 训练").is_ok(), "names stay as they are");
        assert!(is("en", "qwert zxcvb asdfg hjkl poiu mnbv lkjh gfds aqwe rtyu vbnm zxcv bnmk").is_err());
    }
}
