//! Where words begin in a text: by the rules of Unicode (UAX 29), and by a dictionary where Chinese characters follow each other. Never
//! here: what is done with words.

use std::sync::OnceLock;

use jieba_rs::{Jieba, TokenizeMode};
use unicode_segmentation::UnicodeSegmentation;

/// Longest text whose words are found, in bytes; of a longer one they are found in its beginning.
const BYTES_MAX: usize = 1 << 20;

/// The dictionary takes a while to be read, so it is read where somebody needs it.
fn dictionary() -> &'static Jieba {
    static DICTIONARY: OnceLock<Jieba> = OnceLock::new();
    DICTIONARY.get_or_init(Jieba::new)
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// The characters, counted in Unicode scalar values, that words and signs begin at; white space begins nothing.
pub(super) fn begins(text: &str) -> Vec<u32> {
    let mut end = text.len().min(BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let mut begins = Vec::new();
    let (mut at, mut rest) = (0, text);
    while let Some(first) = rest.chars().next() {
        let same = rest.char_indices().find(|(_, c)| is_han(*c) != is_han(first)).map_or(rest.len(), |(at, _)| at);
        let run = &rest[..same];
        if is_han(first) {
            let tokens = dictionary().tokenize(run, TokenizeMode::Default, true);
            begins.extend(tokens.iter().map(|token| at + token.start as u32));
        } else {
            let mut chars = 0;
            for word in run.split_word_bounds() {
                // A mark that belongs to the space before it begins nothing either, but what follows it does.
                if let Some(spaces) = word.chars().position(|c| !c.is_whitespace()) {
                    begins.push(at + chars + spaces as u32);
                }
                chars += word.chars().count() as u32;
            }
        }
        at += run.chars().count() as u32;
        rest = &rest[same..];
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        let begins = begins(text);
        let ends = begins.iter().skip(1).map(|begin| *begin as usize).chain([chars.len()]);
        let words = begins.iter().zip(ends).map(|(begin, end)| chars[*begin as usize..end].iter().collect::<String>());
        words.map(|word| word.trim_end().to_owned()).collect()
    }

    #[test]
    fn chinese_is_divided_by_a_dictionary_and_all_else_by_the_rules_of_unicode() {
        let said = words("请把包裹改寄到杭州市西湖区文三路90号。");
        assert_eq!(said, ["请", "把", "包裹", "改寄", "到", "杭州市", "西湖区", "文三路", "90", "号", "。"]);
        assert_eq!(
            words("My parcel isn't here, 3.5 days!"),
            ["My", "parcel", "isn't", "here", ",", "3.5", "days", "!"]
        );
        assert_eq!(words("  电话 138-0013  "), ["电话", "138", "-", "0013"]);
        assert_eq!(begins(""), Vec::<u32>::new());
    }

    #[test]
    fn any_text_has_ascending_words_inside_it() {
        proptest::proptest!(|(text in "\\PC{0,60}|[你好世界a1 ，🙂é\\n]{0,60}")| {
            let begins = begins(&text);
            let chars: Vec<char> = text.chars().collect();
            assert!(begins.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(begins.iter().all(|at| !chars[*at as usize].is_whitespace()));
        });
    }
}
