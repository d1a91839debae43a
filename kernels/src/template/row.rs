//! Turns the segments of a whole conversation into a row to train on: tokens, which of them carry
//! loss, and where the segments lie, for showing the row as the model sees it.
//!
//! What never lives here: packing of rows into batches (see `train`).

use super::{ChatMessage, ChatTemplate, Segment, SegmentKind, TemplateError, missing_bos};
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
    /// The segments with their tokens; a begin token that was put in front, or an end token behind, belongs to none.
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
/// Answers, counted from the end, that are compared with the prompt that serving would send; one before them is taken to begin
/// where its contents do. Each comparison renders the conversation up to it.
const COMPARED_MAX: usize = 64;

/// The row of a conversation. An answer is trained from where the prompt that serving sends before it ends, which may lie in
/// front of its contents (a template that writes an empty thought there, or has no generation prompt). Where serving would send
/// something else than what stands before an answer, that answer is not trained. If nothing ends the last answer, the
/// vocabulary's end token is put behind it: without one a model learns to speak and not to stop.
pub(super) fn build(
    template: &ChatTemplate,
    vocab: &Vocab,
    messages: &[ChatMessage],
    segments: Vec<Segment>,
    loss_on: LossOn,
) -> Result<TrainingRow, TemplateError> {
    let pieces = said(template, messages, segments, loss_on)?;
    let last_answer = pieces.iter().rposition(|piece| piece.answer);
    let mut row = TrainingRow::default();
    for (at, piece) in pieces.iter().enumerate() {
        let markup = piece.segment.kind == SegmentKind::Markup;
        let tokens = vocab.tokenize(&piece.segment.text, markup)?;
        if row.tokens.is_empty()
            && let Some(bos) = missing_bos(vocab, &tokens)
        {
            row.push(&[bos], 0);
        }
        let ends = at > 0 && pieces[at - 1].answer && markup;
        let ending = if ends { ending_tokens(vocab, &tokens) } else { 0 };
        if ending == 0 && at > 0 && last_answer == Some(at - 1) {
            row.end(vocab);
        }
        let part = RowPart { segment: piece.segment.clone(), token_start: row.tokens.len(), token_count: tokens.len() };
        row.parts.push(part);
        row.push(&tokens, if piece.learnt { tokens.len() } else { ending });
    }
    if last_answer.is_some() && last_answer == pieces.len().checked_sub(1) {
        row.end(vocab);
    }
    Ok(row)
}

impl TrainingRow {
    /// Adds tokens, of which the first `learnt` carry loss.
    fn push(&mut self, tokens: &[i32], learnt: usize) {
        self.trained.extend((0..tokens.len()).map(|i| i < learnt));
        self.tokens.extend(tokens);
    }

    /// Adds the vocabulary's end token, to be learnt; it belongs to no part.
    fn end(&mut self, vocab: &Vocab) {
        let end: Vec<i32> = vocab.named().eos.into_iter().collect();
        self.push(&end, end.len());
    }
}

/// A segment, and what the model has to do with it.
struct Piece {
    segment: Segment,
    /// It is to be said by the model.
    learnt: bool,
    /// It is the contents of an answer that is learnt.
    answer: bool,
}

/// Which segments the model must say.
fn said(
    template: &ChatTemplate,
    messages: &[ChatMessage],
    segments: Vec<Segment>,
    loss_on: LossOn,
) -> Result<Vec<Piece>, TemplateError> {
    let wanted = |index: usize| match loss_on {
        LossOn::AllAssistantTurns => messages[index].role == ASSISTANT,
        LossOn::LastTurn => index + 1 == messages.len(),
    };
    let mut answers = segments.iter().filter(|segment| segment.message.is_some_and(wanted)).count();
    let (mut text, mut pieces) = (String::new(), Vec::new());
    for segment in segments {
        let mut learnt = false;
        if let Some(index) = segment.message.filter(|&index| wanted(index)) {
            let compared = answers <= COMPARED_MAX;
            answers -= 1;
            learnt = match compared.then(|| lead(template, &messages[..index], &text)).transpose()? {
                None => true,
                Some(lead) => lead.is_some_and(|bytes| learn_end(&mut pieces, bytes)),
            };
        }
        text.push_str(&segment.text);
        pieces.push(Piece { segment, learnt, answer: learnt });
    }
    Ok(pieces)
}

/// How many bytes at the end of `text`, which stands before an answer, the model must say itself, because the prompt that
/// serving sends ends before them; `None` where serving would send something else.
fn lead(template: &ChatTemplate, before: &[ChatMessage], text: &str) -> Result<Option<usize>, TemplateError> {
    if before.is_empty() {
        return Ok(Some(0));
    }
    match template.render_text(before, true) {
        Ok(prompt) => Ok(text.strip_prefix(&prompt).map(str::len)),
        Err(TemplateError::Raised { .. } | TemplateError::Render { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Marks the last bytes of the pieces as to be learnt, where they are markup of one piece.
fn learn_end(pieces: &mut Vec<Piece>, bytes: usize) -> bool {
    if bytes == 0 {
        return true;
    }
    let Some(last) = pieces.last_mut().filter(|last| last.segment.kind == SegmentKind::Markup) else { return false };
    let Some(at) = last.segment.text.len().checked_sub(bytes) else { return false };
    let segment = Segment { text: last.segment.text.split_off(at), ..last.segment.clone() };
    if last.segment.text.is_empty() {
        pieces.pop();
    }
    pieces.push(Piece { segment, learnt: true, answer: false });
    true
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
