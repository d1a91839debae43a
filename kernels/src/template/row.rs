//! Turns the segments of a whole conversation into a row to train on: tokens, which of them carry
//! loss, and where the segments lie, for showing the row as the model sees it.
//!
//! What never lives here: packing of rows into batches (see `train`).

use super::{ChatMessage, Segment, SegmentKind, TemplateError, missing_bos};
use crate::vocab::Vocab;

/// Which tokens carry loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossOn {
    /// Every message of role `assistant`, and the end-of-turn token after each.
    AllAssistantTurns,
    /// The last message and the end-of-turn token after it.
    LastTurn,
}

/// One segment of a row with the tokens it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPart {
    /// The segment.
    pub segment: Segment,
    /// Index of its first token.
    pub token_start: usize,
    /// How many tokens it has.
    pub token_count: usize,
}

/// A conversation as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrainingRow {
    /// Token ids.
    pub tokens: Vec<i32>,
    /// For each token whether the model is trained to predict it.
    pub trained: Vec<bool>,
    /// The segments with their tokens; a begin token that was put in front belongs to none.
    pub parts: Vec<RowPart>,
}

impl TrainingRow {
    /// Tokens that carry loss.
    pub fn trained_count(&self) -> usize {
        self.trained.iter().filter(|&&t| t).count()
    }
}

/// Role whose words are trained.
const ASSISTANT: &str = "assistant";

pub(super) fn build(
    vocab: &Vocab,
    messages: &[ChatMessage],
    segments: Vec<Segment>,
    loss_on: LossOn,
) -> Result<TrainingRow, TemplateError> {
    let mut row = TrainingRow::default();
    let mut after_answer = false;
    for segment in segments {
        let markup = segment.kind == SegmentKind::Markup;
        let tokens = vocab.tokenize(&segment.text, markup)?;
        if row.tokens.is_empty()
            && let Some(bos) = missing_bos(vocab, &tokens)
        {
            row.tokens.push(bos);
            row.trained.push(false);
        }
        let answer = segment.message.is_some_and(|i| match loss_on {
            LossOn::AllAssistantTurns => messages[i].role == ASSISTANT,
            LossOn::LastTurn => i + 1 == messages.len(),
        });
        let ending = match after_answer && markup {
            true => ending_tokens(vocab, &tokens),
            false => 0,
        };
        after_answer = answer;
        row.parts.push(RowPart { segment, token_start: row.tokens.len(), token_count: tokens.len() });
        row.trained.extend((0..tokens.len()).map(|i| answer || i < ending));
        row.tokens.extend(tokens);
    }
    Ok(row)
}

/// How many tokens of the markup after an answer the model must say itself to end its turn: those up
/// to an end token, if only white space comes before it; else none.
fn ending_tokens(vocab: &Vocab, markup: &[i32]) -> usize {
    for (i, &token) in markup.iter().enumerate() {
        if vocab.is_end(token) {
            return i + 1;
        }
        if !vocab.piece(token, true).iter().all(u8::is_ascii_whitespace) {
            return 0;
        }
    }
    0
}
