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
        let mut lines = Lines::open(path)?;
        let mut rows = Vec::new();
        while let Some(row) = lines.next().transpose()? {
            rows.extend(self.token_rows(&row, window_tokens).map_err(|failure| {
                let place = format!("row {} ({})", row.row_id, failure.place);
                failure.arg("row_id", row.row_id).at(place)
            })?);
            work.progress("phase.tokenize", lines.done, lines.total);
        }
        Ok(rows)
    }
}

/// The rows of a JSONL file, one at a time.
pub(super) struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    /// Bytes read.
    pub(super) done: u64,
    /// Bytes of the file.
    pub(super) total: u64,
}

impl Lines<'_> {
    pub(super) fn open(path: &Path) -> Result<Lines<'_>, Failure> {
        let file = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (total, file) = file.map_err(|e| unreadable(path, &e))?;
        Ok(Lines { path, reader: BufReader::new(file), line: Vec::new(), number: 0, done: 0, total })
    }

    fn row(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            self.line.clear();
            self.number += 1;
            let limited = self.reader.by_ref().take(LINE_BYTES_MAX);
            let read = { limited }.read_until(b'\n', &mut self.line).map_err(|e| unreadable(self.path, &e))?;
            if read == 0 {
                return Ok(None);
            }
            self.done += read as u64;
            let bad = |message: String| {
                Failure::new(FailureCode::BadFile, message).at(format!("{}:{}", self.path.display(), self.number))
            };
            if read as u64 == LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                return Err(bad(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return serde_json::from_slice(&self.line).map(Some).map_err(|e| bad(e.to_string()));
            }
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Row, Failure>;

    fn next(&mut self) -> Option<Result<Row, Failure>> {
        self.row().transpose()
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::FileUnreadable, error.to_string()).at(path.display().to_string())
}
