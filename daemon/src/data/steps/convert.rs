//! The step that gives rows another shape. Lives here: which shapes follow from which. Never here: formats of files.

use hone_protocol::dataset::{CHOSEN, ChatMessage, Shape, TEXT};
use hone_protocol::recipe::Settings;

use super::item::{Item, Verdict, Why};
use super::{Built, RowStep};

pub(super) fn convert(settings: &Settings) -> Built {
    Built::row(Convert { to: if settings.text("to") == "text" { Shape::Text } else { Shape::Chat } })
}

struct Convert {
    to: Shape,
}

impl RowStep for Convert {
    fn apply(&self, item: &mut Item) -> Verdict {
        let from = item.shape();
        match (from, self.to) {
            (from, to) if from == to => return Verdict::Keep,
            (Shape::Preference, Shape::Chat) => {
                item.messages.pop();
                for message in item.messages.iter_mut().filter(|message| message.role == CHOSEN) {
                    "assistant".clone_into(&mut message.role);
                }
            }
            (Shape::Chat | Shape::Preference, Shape::Text) => {
                if from == Shape::Preference {
                    item.messages.pop();
                }
                let texts: Vec<&str> = item.messages.iter().map(|message| message.content.trim()).collect();
                item.messages = vec![ChatMessage { role: TEXT.to_owned(), content: texts.join("\n\n") }];
            }
            _ => {
                return Verdict::Drop(Why::new("no_such_shape", 0.0, 0.0).of(format!(
                    "{} from {}",
                    self.to.word(),
                    from.word()
                )));
            }
        }
        item.rebuild();
        Verdict::Changed(Why::new("converted", 1.0, 0.0).of(format!("{} to {}", from.word(), self.to.word())))
    }
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
        assert_eq!(reason("convert", &[("to", "text")], &mut pair), "converted 1 0");
        assert_eq!(pair.original, "{\"text\":\"q\\n\\ngood\"}");
        assert_eq!(reason("convert", &[("to", "text")], &mut pair), "");
        assert_eq!(reason("convert", &[("to", "chat")], &mut pair), "no_such_shape 0 0");
    }
}
