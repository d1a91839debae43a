//! Rows of a dataset as token rows to train on: a chat is one row, a preference two (chosen, rejected), a text as many as
//! it fills windows.
//!
//! What never lives here: which rows take part (see `crate::train`), markup of chats (see `crate::template`).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use hone_protocol::dataset::{CHOSEN, ChatMessage, Row, Shape};
use hone_protocol::failure::{Failure, FailureCode};

use super::child::Busy;
use super::facts;
use crate::inspect::Facts;
use crate::template::{ChatTemplate, LossOn, TrainingRow};
use crate::train::TokenRow;
use crate::vocab::Vocab;

/// Longest line of a rows file; a longer one ends the job.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What turns rows into tokens.
pub(super) struct Renderer {
    vocab: Vocab,
    /// Why there is none is said when a row wants it.
    template: Result<ChatTemplate, Failure>,
}

impl Renderer {
    pub(super) fn new(facts: &Facts, vocab: Vocab) -> Renderer {
        let template = facts::template(facts, &vocab);
        Renderer { vocab, template }
    }

    pub(super) fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// SHA-256 of the chat template; `None` where the model has none.
    pub(super) fn template_sha256(&self) -> Option<[u8; 32]> {
        self.template.as_ref().ok().map(ChatTemplate::sha256)
    }

    /// A conversation with its tokens.
    pub(super) fn chat(&self, messages: &[ChatMessage], loss_on: LossOn) -> Result<TrainingRow, Failure> {
        let template = self.template.as_ref().map_err(Clone::clone)?;
        template.training_row(&self.vocab, &facts::messages(messages), loss_on).map_err(facts::of_template)
    }

    /// The two conversations of a preference: the better answer, then the worse.
    pub(super) fn pair(&self, messages: &[ChatMessage]) -> Result<[TrainingRow; 2], Failure> {
        let [prompt @ .., chosen, rejected] = messages else {
            return Err(Failure::new(FailureCode::BadFile, "a preference has a prompt and two answers").at("messages"));
        };
        if chosen.role != CHOSEN || prompt.is_empty() {
            return Err(Failure::new(FailureCode::BadFile, "a preference ends with chosen, rejected").at("messages"));
        }
        let with = |answer: &ChatMessage| {
            let mut messages = prompt.to_vec();
            messages.push(ChatMessage { role: "assistant".into(), content: answer.content.clone() });
            self.chat(&messages, LossOn::LastTurn)
        };
        Ok([with(chosen)?, with(rejected)?])
    }

    /// A text between the tokens that begin and end one.
    pub(super) fn text(&self, text: &str) -> Result<Vec<i32>, Failure> {
        let opening = self.opening(text)?;
        Ok(opening.into_iter().chain(self.vocab.named().eos).collect())
    }

    /// A text to go on with, after the token that begins one.
    pub(super) fn opening(&self, text: &str) -> Result<Vec<i32>, Failure> {
        let tokens = self.vocab.tokenize(text, false).map_err(facts::of_vocab)?;
        let begin = self.vocab.named().bos.filter(|_| self.vocab.wants_bos());
        Ok(begin.into_iter().chain(tokens).collect())
    }

    /// A person's turn, up to where the answer begins.
    pub(super) fn question(&self, text: &str) -> Result<Vec<i32>, Failure> {
        let template = self.template.as_ref().map_err(Clone::clone)?;
        let turn = ChatMessage { role: "user".into(), content: text.to_owned() };
        template.tokens(&self.vocab, &facts::messages(&[turn]), true).map_err(facts::of_template)
    }

    /// The token rows of a row. A text is cut into windows of `window_tokens`.
    fn token_rows(&self, row: &Row, window_tokens: usize) -> Result<Vec<TokenRow>, Failure> {
        let of =
            |row_id, rendered: TrainingRow| TokenRow { row_id, tokens: rendered.tokens, trained: rendered.trained };
        match row.shape() {
            Shape::Preference => Ok(self.pair(&row.messages)?.map(|rendered| of(row.row_id, rendered)).into()),
            Shape::Text => {
                let tokens = self.text(&row.messages[0].content)?;
                let windows = tokens.chunks(window_tokens.max(2)).map(|window| TokenRow {
                    row_id: row.row_id,
                    tokens: window.to_vec(),
                    trained: vec![true; window.len()],
                });
                Ok(windows.collect())
            }
            Shape::Chat | Shape::Prompt => {
                Ok(vec![of(row.row_id, self.chat(&row.messages, LossOn::AllAssistantTurns)?)])
            }
        }
    }

    /// Rows of a JSONL file.
    pub(super) fn read(
        &self,
        path: &Path,
        window_tokens: usize,
        work: &mut Busy<'_>,
    ) -> Result<Vec<TokenRow>, Failure> {
        let unreadable = |e: &std::io::Error| {
            Failure::new(FailureCode::FileUnreadable, e.to_string()).at(path.display().to_string())
        };
        let file = File::open(path).map_err(|e| unreadable(&e))?;
        let total = file.metadata().map_err(|e| unreadable(&e))?.len();
        let mut reader = BufReader::new(file);
        let (mut rows, mut line, mut number, mut done) = (Vec::new(), Vec::new(), 0_u64, 0);
        loop {
            line.clear();
            number += 1;
            let place = || format!("{}:{number}", path.display());
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(|e| unreadable(&e))?;
            if read == 0 {
                return Ok(rows);
            }
            done += read as u64;
            if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                let message = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                return Err(Failure::new(FailureCode::BadFile, message).at(place()));
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let row: Row = serde_json::from_slice(&line)
                .map_err(|e| Failure::new(FailureCode::BadFile, e.to_string()).at(place()))?;
            rows.extend(self.token_rows(&row, window_tokens).map_err(|failure| {
                let place = format!("row {} ({})", row.row_id, failure.place);
                failure.arg("row_id", row.row_id).at(place)
            })?);
            work.progress("phase.tokenize", done, total);
        }
    }
}
