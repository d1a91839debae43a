//! `hone-worker tokenize`: rows as the model sees them, token by token.

use std::path::Path;

use hone_protocol::dataset::{RenderedRow, RenderedToken, Row, Shape};
use hone_protocol::failure::Failure;
use hone_protocol::worker::{FromWorker, ToWorker};

use super::child::{Channel, resident_bytes};
use super::rows::Renderer;
use super::{facts, wrong_task};
use crate::inspect;
use crate::template::{LossOn, SegmentKind, TrainingRow};
use crate::vocab::Vocab;

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::Tokenize { model_path }) = channel.recv() else {
        return Err(wrong_task("tokenize"));
    };
    let mut work = channel.work();
    work.progress("phase.load", 0, 0);
    let path = Path::new(&model_path);
    let found = inspect::inspect(path).map_err(facts::of_inspect)?;
    let renderer = Renderer::new(&found, Vocab::load(path).map_err(facts::of_vocab)?);
    channel.send(&FromWorker::Ready { memory_bytes: resident_bytes(), facts: Box::new(facts::of_file(&found)) });
    drop(work);
    while let Some(message) = channel.recv() {
        let ToWorker::Render { request, row } = message else {
            return Err(wrong_task("tokenize"));
        };
        let _work = channel.work();
        let row = render(&renderer, &row).map_err(|failure| failure.arg("row_id", row.row_id));
        channel.send(&FromWorker::Rendered { request, row });
    }
    Ok(())
}

fn render(renderer: &Renderer, row: &Row) -> Result<RenderedRow, Failure> {
    let vocab = renderer.vocab();
    let mut tokens = Vec::new();
    match row.shape() {
        Shape::Preference => {
            for rendered in renderer.pair(&row.messages)? {
                show(vocab, &rendered, &mut tokens);
            }
        }
        Shape::Text => {
            let text = renderer.text(&row.messages[0].content)?;
            tokens.extend(text.iter().map(|&id| RenderedToken {
                id,
                text: shown(&vocab.piece(id, true)),
                trained: true,
                markup: vocab.is_control(id),
            }));
        }
        Shape::Chat | Shape::Prompt => {
            show(vocab, &renderer.chat(&row.messages, LossOn::AllAssistantTurns)?, &mut tokens);
        }
    }
    let trained = tokens.iter().filter(|token| token.trained).count() as u32;
    Ok(RenderedRow { row_id: row.row_id, trained, tokens })
}

fn show(vocab: &Vocab, rendered: &TrainingRow, tokens: &mut Vec<RenderedToken>) {
    for (index, (&id, &trained)) in rendered.tokens.iter().zip(&rendered.trained).enumerate() {
        // A begin token in front of all parts is markup too.
        let content = rendered.parts.iter().any(|p| {
            p.segment.kind == SegmentKind::Content && (p.token_start..p.token_start + p.token_count).contains(&index)
        });
        tokens.push(RenderedToken { id, text: shown(&vocab.piece(id, true)), trained, markup: !content });
    }
}

/// Bytes as text; those that are no UTF-8 on their own as `\xNN`.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_numbers() {
        assert_eq!(shown("né".as_bytes()), "né");
        assert_eq!(shown(&[b'a', 0xE4, 0xBD]), "a\\xE4\\xBD");
    }
}
