//! Text in cells: display width, cutting, wrapping, and making foreign text harmless. Never here: colours.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Cells that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

fn cell_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Foreign text (rows, answers, file names) made safe to show: control characters become visible, joined emoji
/// fall apart, direction overrides are written out. A terminal never gets a byte of it that it could obey.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            '\n' => out.push('\n'),
            '\r' => {}
            '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => {}
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push_str(&format!("\\u{{{:x}}}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// Foreign text on one line.
pub(crate) fn one_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `max` cells of a text; `ellipsis` takes the end when something is missing.
pub(crate) fn cut(text: &str, max: usize, ellipsis: &str) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let room = max.saturating_sub(width(ellipsis));
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        if used + cell_width(c) > room {
            break;
        }
        used += cell_width(c);
        out.push(c);
    }
    if max >= width(ellipsis) {
        out.push_str(ellipsis);
    }
    out
}

/// A text filled up with spaces to exactly `cells`, cut when it is longer.
pub(crate) fn pad(text: &str, cells: usize, ellipsis: &str) -> String {
    let mut out = cut(text, cells, ellipsis);
    out.extend(std::iter::repeat_n(' ', cells.saturating_sub(width(&out))));
    out
}

/// Whether a line may end before this character: Chinese text has no spaces.
fn is_breakable(c: char) -> bool {
    cell_width(c) == 2 && !matches!(c, '，' | '。' | '、' | '；' | '：' | '！' | '？' | '）' | '」' | '』' | '”' | '》')
}

/// Lines of at most `cells`; breaks at spaces and between Chinese characters, inside a word only when it must.
/// Line breaks of the text are kept.
pub(crate) fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(2);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        // Byte position in `line` after which it may be broken.
        let mut border: Option<usize> = None;
        for c in paragraph.chars() {
            if is_breakable(c) && !line.is_empty() {
                border = Some(line.len());
            }
            if used + cell_width(c) > cells {
                if c == ' ' {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                    (used, border) = (0, None);
                    continue;
                }
                let rest = match border.filter(|at| *at > 0) {
                    Some(at) => line.split_off(at),
                    None => String::new(),
                };
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
                line = rest;
                used = width(&line);
                border = None;
            }
            line.push(c);
            used += cell_width(c);
            if c == ' ' {
                border = Some(line.len());
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_never_splits_a_wide_character() {
        assert_eq!(cut("模型训练", 5, "…"), "模型…");
        assert_eq!(cut("模型训练", 8, "…"), "模型训练");
        assert_eq!(width(&pad("模型训练", 6, "…")), 6);
        assert_eq!(cut("abc", 0, "…"), "");
    }

    #[test]
    fn lines_break_at_spaces_and_between_chinese_characters() {
        assert_eq!(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrap("怎么修改收货地址", 8), ["怎么修改", "收货地址"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
        for line in wrap("Zella 在这里！订单 8841 已经发出，请等待 3 working days。", 9) {
            assert!(width(&line) <= 9, "{line}");
        }
    }

    #[test]
    fn escape_sequences_in_data_are_shown_and_not_obeyed() {
        assert_eq!(clean("a\x1b]52;c;aGk=\x07b\0"), "a\\x1b]52;c;aGk=\\x07b\\x00");
        assert_eq!(one_line("a\n b\tc"), "a b c");
        assert_eq!(clean("\u{202e}x"), "\\u{202e}x");
    }
}
