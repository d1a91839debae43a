//! The step that gives rows another shape. Lives here: which shapes follow from which. Never here: formats of files.

use hone_protocol::dataset::{CHOSEN, ChatMessage, EXPECTED, Shape, TEXT};
use hone_protocol::recipe::Settings;

use super::item::{Item, Verdict, Why};
use super::{Built, RowStep};

const ASSISTANT: &str = "assistant";

pub(super) fn convert(settings: &Settings) -> Built {
    let to = match settings.text("to") {
        "text" => Shape::Text,
        "prompt" => Shape::Prompt,
        _ => Shape::Chat,
    };
    Built::row(Convert { to })
}

struct Convert {
    to: Shape,
}

impl RowStep for Convert {
    fn apply(&self, item: &mut Item) -> Verdict {
        let from = item.shape();
        if from == self.to {
            return Verdict::Keep;
        }
        if let Err(why) = reshape(&mut item.messages, from, self.to) {
            return Verdict::Drop(Why::new(why, 0.0, 0.0).of(format!("{} from {}", self.to.word(), from.word())));
        }
        item.rebuild();
        Verdict::Changed(Why::new("converted", 1.0, 0.0).of(format!("{} to {}", from.word(), self.to.word())))
    }
}

/// Gives the messages of a row another shape, or says why it cannot be. The worse answer of a preference goes.
fn reshape(messages: &mut Vec<ChatMessage>, from: Shape, to: Shape) -> Result<(), &'static str> {
    if from == Shape::Preference {
        messages.pop();
    }
    match to {
        Shape::Text => {
            let texts: Vec<&str> = messages.iter().map(|message| message.content.trim()).collect();
            *messages = vec![ChatMessage { role: TEXT.to_owned(), content: texts.join("\n\n") }];
        }
        Shape::Chat | Shape::Prompt if from != Shape::Text => {
            let role = if to == Shape::Chat { ASSISTANT } else { EXPECTED };
            // What follows the last answer of a chat is answered by nothing.
            let answer =
                messages.iter().rposition(|message| [ASSISTANT, CHOSEN, EXPECTED].contains(&message.role.as_str()));
            messages.truncate(answer.ok_or("no_answer")? + 1);
            if let Some(answer) = messages.last_mut() {
                role.clone_into(&mut answer.role);
            }
        }
        Shape::Chat | Shape::Prompt | Shape::Preference => return Err("no_such_shape"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::reason;

    #[test]
    fn shapes_follow_from_shapes() {
        let mut pair = chat(&[("user", "q"), ("chosen", "good"), ("rejected", "bad")]);
        assert_eq!(reason("convert", &[], &mut pair), "converted 1 0");
        assert_eq!(
            pair.original,
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}]}"#
        );
        assert_eq!(reason("convert", &[("to", "prompt")], &mut pair), "converted 1 0");
        assert_eq!(pair.original, r#"{"prompt":[{"role":"user","content":"q"}],"expected":"good"}"#);
        assert_eq!(reason("convert", &[("to", "chat")], &mut pair), "converted 1 0");
        assert_eq!(pair.messages[1].role, "assistant");
        assert_eq!(reason("convert", &[("to", "text")], &mut pair), "converted 1 0");
        assert_eq!(pair.original, "{\"text\":\"q\\n\\ngood\"}");
        assert_eq!(reason("convert", &[("to", "text")], &mut pair), "");
        assert_eq!(reason("convert", &[("to", "chat")], &mut pair), "no_such_shape 0 0");
        let mut open = chat(&[("user", "a question that nobody answers")]);
        assert_eq!(reason("convert", &[("to", "chat")], &mut open), "no_answer 0 0");
        let mut long = chat(&[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]);
        assert_eq!(reason("convert", &[("to", "prompt")], &mut long), "converted 1 0");
        assert_eq!(long.messages.len(), 4, "a question after the last answer is left out");
    }
}
