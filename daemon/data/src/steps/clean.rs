//! Steps that make text clean: Unicode form, characters that cannot be seen, white space, HTML, boilerplate lines.
//! Lives here: what is rewritten. Never here: dropping rows, but for those of which nothing is left.

use hone_protocol::recipe::Settings;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

use super::item::{Item, Verdict};
use super::{Built, RowStep};

pub(super) fn unicode(settings: &Settings) -> Built {
    Built::row(Unicode { compatible: settings.text("form") == "nfkc" })
}

struct Unicode {
    compatible: bool,
}

impl RowStep for Unicode {
    fn apply(&self, item: &mut Item) -> Verdict {
        let one = |text: &str| {
            if text.is_ascii() {
                return None;
            }
            let is = if self.compatible { is_nfkc_quick(text.chars()) } else { is_nfc_quick(text.chars()) };
            if is == IsNormalized::Yes {
                return None;
            }
            let form: String = if self.compatible { text.nfkc().collect() } else { text.nfc().collect() };
            (form != text).then_some(form)
        };
        item.rewrite("unicode_form", one)
    }
}

pub(super) fn control(_: &Settings) -> Built {
    Built::row(Control)
}

struct Control;

/// Characters without a picture of their own that change nothing but how others stand. Joiners inside scripts and emoji stay.
fn is_unseen(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
        || matches!(c, '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{00ad}' | '\u{fff9}'..='\u{fffb}')
}

impl RowStep for Control {
    fn apply(&self, item: &mut Item) -> Verdict {
        item.rewrite("control_characters", |text| {
            text.contains(is_unseen).then(|| text.chars().filter(|c| !is_unseen(*c)).collect())
        })
    }
}

pub(super) fn spaces(settings: &Settings) -> Built {
    Built::row(Spaces { blank_lines: settings.whole("blank_lines") as usize })
}

struct Spaces {
    blank_lines: usize,
}

impl RowStep for Spaces {
    fn apply(&self, item: &mut Item) -> Verdict {
        item.rewrite("white_space", |text| {
            let tidy = tidy(text, self.blank_lines);
            (tidy != text).then_some(tidy)
        })
    }
}

/// Spaces that are not the plain one, a tab or a line end. The ideographic space stays: it is how Chinese indents.
fn plain(c: char) -> char {
    match c {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => ' ',
        c => c,
    }
}

fn tidy(text: &str, blank_lines: usize) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut blank = 0;
    let unified = text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
    for line in unified.split('\n') {
        let line: String = line.trim_end().chars().map(plain).collect();
        if line.is_empty() {
            blank += 1;
            continue;
        }
        if !tidy.is_empty() {
            tidy.extend(std::iter::repeat_n('\n', 1 + blank.min(blank_lines)));
        }
        blank = 0;
        tidy.push_str(if tidy.is_empty() { line.trim_start() } else { &line });
    }
    tidy
}

pub(super) fn html(settings: &Settings) -> Built {
    Built::row(Html { strip: settings.text("tags") == "strip" })
}

struct Html {
    strip: bool,
}

impl RowStep for Html {
    fn apply(&self, item: &mut Item) -> Verdict {
        item.rewrite("html", |text| {
            let mut plain = None;
            if self.strip && text.contains('<') {
                plain = Some(without_tags(text));
            }
            let so_far = plain.as_deref().unwrap_or(text);
            let read = so_far.contains('&').then(|| unescaped(so_far));
            read.or(plain).filter(|new| new != text)
        })
    }
}

/// Tags that end a line.
const BLOCKS: [&str; 8] = ["br", "p", "div", "li", "tr", "h1", "h2", "h3"];

/// Text without tags. A `<` that begins none stays.
fn without_tags(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest[1..].trim_start_matches('/');
        let is_tag = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!');
        match rest.find('>').filter(|end| is_tag && !rest[1..*end].contains('<')) {
            Some(end) => {
                let word: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
                if BLOCKS.contains(&word.to_ascii_lowercase().as_str()) && !plain.ends_with('\n') {
                    plain.push('\n');
                }
                rest = &rest[end + 1..];
            }
            None => {
                plain.push('<');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// The entities that texts of the web hold; numbers are read, too.
const ENTITIES: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("hellip", "…"),
    ("mdash", "—"),
    ("ndash", "–"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("deg", "°"),
    ("plusmn", "±"),
    ("times", "×"),
    ("divide", "÷"),
    ("frac12", "½"),
    ("frac14", "¼"),
    ("frac34", "¾"),
    ("sup2", "²"),
    ("sup3", "³"),
    ("euro", "€"),
    ("pound", "£"),
    ("yen", "¥"),
    ("cent", "¢"),
    ("sect", "§"),
    ("para", "¶"),
    ("micro", "µ"),
    ("agrave", "à"),
    ("aacute", "á"),
    ("acirc", "â"),
    ("atilde", "ã"),
    ("auml", "ä"),
    ("aring", "å"),
    ("aelig", "æ"),
    ("ccedil", "ç"),
    ("egrave", "è"),
    ("eacute", "é"),
    ("ecirc", "ê"),
    ("euml", "ë"),
    ("iacute", "í"),
    ("icirc", "î"),
    ("iuml", "ï"),
    ("ntilde", "ñ"),
    ("oacute", "ó"),
    ("ocirc", "ô"),
    ("ouml", "ö"),
    ("oslash", "ø"),
    ("uacute", "ú"),
    ("ucirc", "û"),
    ("uuml", "ü"),
    ("szlig", "ß"),
    ("Auml", "Ä"),
    ("Ouml", "Ö"),
    ("Uuml", "Ü"),
    ("Eacute", "É"),
    ("larr", "←"),
    ("rarr", "→"),
    ("uarr", "↑"),
    ("darr", "↓"),
    ("le", "≤"),
    ("ge", "≥"),
    ("ne", "≠"),
    ("infin", "∞"),
    ("ensp", " "),
    ("emsp", " "),
    ("thinsp", " "),
    ("shy", ""),
    ("zwnj", "\u{200c}"),
    ("zwj", "\u{200d}"),
];

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.find(';').filter(|end| *end > 0 && *end <= 10).map(|end| &rest[..end]);
        match name.and_then(entity) {
            Some(meant) => {
                plain.push_str(&meant);
                rest = &rest[name.map_or(0, str::len) + 1..];
            }
            None => plain.push('&'),
        }
    }
    plain.push_str(rest);
    plain
}

fn entity(name: &str) -> Option<String> {
    let Some(number) = name.strip_prefix('#') else {
        return ENTITIES.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code).filter(|c| *c != '\0').map(String::from)
}

pub(super) fn boilerplate(settings: &Settings) -> Built {
    let built_in = if settings.yes("built_in") { BOILERPLATE } else { &[] };
    let own = settings.texts("list").into_iter().map(|text| text.to_lowercase());
    Built::row(Boilerplate {
        phrases: built_in.iter().map(|text| (*text).to_owned()).chain(own).collect(),
        line_characters_max: settings.whole("line_characters_max") as usize,
    })
}

/// What lines of web pages say that are not their text: the list of C4, and its like in Chinese.
const BOILERPLATE: &[&str] = &[
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "accept cookies",
    "enable javascript",
    "all rights reserved",
    "sign up for our newsletter",
    "click here to subscribe",
    "skip to content",
    "隐私政策",
    "用户协议",
    "使用条款",
    "版权所有",
    "保留所有权利",
    "接受 cookie",
    "使用 cookie",
    "请启用 javascript",
    "点击订阅",
    "关注我们的公众号",
    "扫码关注",
    "未经授权不得转载",
];

struct Boilerplate {
    phrases: Vec<String>,
    line_characters_max: usize,
}

impl RowStep for Boilerplate {
    fn apply(&self, item: &mut Item) -> Verdict {
        let goes = |line: &str| {
            let short = line.chars().take(self.line_characters_max + 1).count() <= self.line_characters_max;
            short && !line.is_empty() && {
                let low = line.to_lowercase();
                self.phrases.iter().any(|phrase| low.contains(phrase.as_str()))
            }
        };
        item.rewrite("boilerplate", |text| {
            text.split('\n')
                .any(goes)
                .then(|| text.split('\n').filter(|line| !goes(line)).collect::<Vec<_>>().join("\n"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::*;
    use hone_protocol::recipe::StepSpec;

    fn cleaned(step: &str, settings: &[(&str, &str)], text: &str) -> String {
        let settings = settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let spec = StepSpec { step: step.into(), settings, keep: Vec::new() };
        let mut item = chat(&[("text", text)]);
        match super::super::tests::row_step(&spec).apply(&mut item) {
            Verdict::Drop(why) => format!("dropped: {}", why.reason),
            Verdict::Keep => item.messages[0].content.clone(),
            Verdict::Changed(_) => {
                let original: serde_json::Value = serde_json::from_str(&item.original).unwrap();
                assert_eq!(original["text"], item.messages[0].content.as_str(), "the original says the same");
                item.messages[0].content.clone()
            }
        }
    }

    #[test]
    fn text_becomes_clean_and_clean_text_stays() {
        for (step, settings, text, wanted) in [
            ("unicode", &[][..], "e\u{301}A", "éA"),
            ("unicode", &[], "ＡＢ", "ＡＢ"),
            ("unicode", &[("form", "nfkc")], "ＡＢ", "AB"),
            ("control", &[], "a\u{0}b\u{200b}c\u{feff}\n\td\u{202e}", "abc\n\td"),
            ("control", &[], "family 👩\u{200d}👧 stays", "family 👩\u{200d}👧 stays"),
            ("spaces", &[], "\n\n a  b \t\r\nc\u{a0}d\n\n\n\n  e\n", "a  b\nc d\n\n  e"),
            ("spaces", &[("blank_lines", "0")], "a\n\n\nb", "a\nb"),
            ("spaces", &[], "already tidy\n\n    code", "already tidy\n\n    code"),
            ("html", &[], "a &amp; b &lt;3 &#20013;&#x6587; &unknown; &", "a & b <3 中文 &unknown; &"),
            ("html", &[], "<b>bold</b>", "<b>bold</b>"),
            (
                "html",
                &[("tags", "strip")],
                "<p>one<br/>two</p> 1 < 2 <b class='x'>three</b>",
                "\none\ntwo\n 1 < 2 three",
            ),
            ("boilerplate", &[], "Home\nThis site uses cookies.\nText", "Home\nText"),
            ("boilerplate", &[], "版权所有 2026\n正文", "正文"),
            (
                "boilerplate",
                &[("built_in", "no"), ("list", "read more | share")],
                "Text\nREAD MORE…\nuses cookies",
                "Text\nuses cookies",
            ),
            ("boilerplate", &[], "uses cookies", "dropped: nothing_left"),
            ("simplified", &[], "漢語轉換，乾隆皇帝乾淨", "汉语转换，乾隆皇帝干净"),
            ("simplified", &[], "plain 简体", "plain 简体"),
        ] {
            assert_eq!(cleaned(step, settings, text), wanted, "{step} {text:?}");
        }
    }
}
