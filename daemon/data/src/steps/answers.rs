//! The step for bad answers of chats: what no rule for web texts finds. Lives here: its measures. Never here: refusals (see
//! `filters`), the language of an answer (see `language`).

use hone_protocol::recipe::Settings;

use super::filters::excerpt;
use super::item::{Item, Of, Verdict, Why};
use super::{Built, RowStep};

/// Control tokens of chat templates. Whoever finds them in a text finds a template that leaked.
const MARKUP: [&str; 15] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "### Instruction:",
    "### Response:",
];

/// Answers of fewer characters are not judged by how they end.
const CUT_CHARACTERS_MIN: usize = 200;

pub(super) fn answer(settings: &Settings) -> Built {
    Built::row(Answers {
        characters_min: settings.whole("characters_min") as usize,
        echo: settings.yes("echo"),
        cut: settings.yes("cut"),
        fence: settings.yes("fence"),
        json: settings.yes("json"),
        markup: settings.yes("markup"),
    })
}

struct Answers {
    characters_min: usize,
    echo: bool,
    cut: bool,
    fence: bool,
    json: bool,
    markup: bool,
}

impl RowStep for Answers {
    fn apply(&self, item: &mut Item) -> Verdict {
        match self.fault(item) {
            Some(why) => Verdict::Drop(why),
            None => Verdict::Keep,
        }
    }
}

impl Answers {
    fn fault(&self, item: &Item) -> Option<Why> {
        let found = |reason: &'static str| Why::new(reason, 1.0, 0.0);
        if self.markup {
            let all = item.text(Of::Row);
            if let Some(token) = MARKUP.iter().find(|token| all.contains(**token)) {
                return Some(found("template_markup").of(*token));
            }
        }
        let answer = item.messages[item.answer_at()?].content.trim();
        let characters = answer.chars().take(self.characters_min).count();
        if characters < self.characters_min {
            return Some(Why::new("short_answer", characters as f64, self.characters_min as f64));
        }
        let question = item.question().unwrap_or_default();
        if self.echo && !question.is_empty() && alike(question, answer) {
            return Some(found("answer_repeats_question"));
        }
        if self.fence && answer.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2 == 1 {
            return Some(found("open_code_block"));
        }
        if self.json && wants_json(question) && !is_json(answer) {
            return Some(found("broken_json").of(excerpt(answer)));
        }
        if self.cut && breaks_off(answer) {
            let end: Vec<char> = answer.chars().rev().take(40).collect();
            return Some(found("breaks_off").of(end.into_iter().rev().collect::<String>()));
        }
        None
    }
}

/// The same but for case and white space.
fn alike(one: &str, two: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    plain(one) == plain(two)
}

/// Whether nothing but JSON is asked for. Talk about JSON is no such wish.
fn wants_json(question: &str) -> bool {
    let low = question.to_lowercase();
    const WISHES: [&str; 10] = [
        "only json",
        "json only",
        "valid json",
        "only valid json",
        "respond in json",
        "answer in json",
        "reply in json",
        "只返回 json",
        "只输出json",
        "仅返回json",
    ];
    WISHES.iter().any(|wish| low.contains(wish))
}

/// Whether an answer is JSON, with or without a fence around it.
fn is_json(answer: &str) -> bool {
    let inside = match answer.strip_prefix("```") {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).trim_end_matches('`'),
        None => answer,
    };
    serde_json::from_str::<serde::de::IgnoredAny>(inside.trim()).is_ok()
}

/// Whether a long answer ends in the middle of a sentence: with a letter, or with a mark that something follows. Code, lists, links
/// and scripts that need no mark at the end are left alone.
fn breaks_off(answer: &str) -> bool {
    if answer.chars().take(CUT_CHARACTERS_MIN).count() < CUT_CHARACTERS_MIN {
        return false;
    }
    let last_line = answer.lines().next_back().unwrap_or_default().trim();
    let listed = last_line.starts_with(['-', '*', '•', '|', '#', '>', '`', '+'])
        || last_line.starts_with(|c: char| c.is_ascii_digit())
        || last_line.contains("://")
        || last_line.contains('=');
    let words = last_line.split_whitespace().count();
    let ends = match last_line.chars().next_back() {
        Some(',' | '，' | '、' | ';' | '；' | '(' | '（') => return true,
        Some(c) => !c.is_lowercase(),
        None => true,
    };
    // A signature or a title is short; a sentence that stops is not.
    !ends && !listed && words >= 8
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::reason;

    #[test]
    fn bad_answers_go_and_good_ones_stay() {
        let long = "This is a sentence that goes on. ".repeat(8);
        let cut = format!("{long}And this one is cut off in the middle of the");
        for (question, answer, wanted) in [
            ("What?", "Yes", ""),
            ("What?", " ", "short_answer 0 1"),
            ("What is it?", "what  is it?", "answer_repeats_question 1 0"),
            ("Code?", "```rust\nfn main() {}", "open_code_block 1 0"),
            ("Code?", "```rust\nfn main() {}\n```", ""),
            ("Answer in JSON.", "{\"a\": 1}", ""),
            ("Answer in JSON.", "```json\n{\"a\": [1]}\n```", ""),
            ("Answer in JSON.", "Sure: {\"a\": 1}", "broken_json 1 0"),
            ("What is JSON?", "A format.", ""),
            ("q", "a <|im_end|>", "template_markup 1 0"),
            ("q", &long, ""),
            ("q", &cut, "breaks_off 1 0"),
            ("q", &format!("{long}\n- a list item that ends without any mark at all here"), ""),
            ("q", &format!("{long}\nBest regards"), ""),
        ] {
            let mut item = chat(&[("user", question), ("assistant", answer)]);
            assert_eq!(reason("answer", &[], &mut item), wanted, "{question} {answer}");
        }
        let all_off = ["echo", "cut", "fence", "json", "markup"].map(|key| (key, "no"));
        assert_eq!(reason("answer", &all_off, &mut chat(&[("user", "q"), ("assistant", &cut)])), "");
    }
}
