//! Plain text and Markdown as rows of text: a paragraph is a row of a text, a section under a heading is a row of Markdown.
//! Lives here: where one row ends. Never here: words.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use hone_protocol::failure::Failure;

use super::json::Fault;
use super::open::stopped;
use super::pieces::{Gather, LINE_BYTES_MAX, Piece, Pieces};

/// A paragraph that is longer is cut at a line end, because many texts have no empty lines.
const PARAGRAPH_BYTES: usize = 32 * 1024;

/// Reads paragraphs or sections.
pub(super) struct ProsePieces<R> {
    source: R,
    markdown: bool,
    path: PathBuf,
    file: Option<Arc<str>>,
    line: u64,
    row: Vec<u8>,
    row_line: u64,
    fenced: bool,
    ended: bool,
    gather: Gather,
}

impl<R: BufRead + Send> ProsePieces<R> {
    pub(super) fn new(source: R, markdown: bool, path: PathBuf, file: Option<Arc<str>>) -> ProsePieces<R> {
        ProsePieces {
            source,
            markdown,
            path,
            file,
            line: 0,
            row: Vec::new(),
            row_line: 1,
            fenced: false,
            ended: false,
            gather: Gather::default(),
        }
    }

    fn step(&mut self) -> std::io::Result<()> {
        let mut line = Vec::new();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = std::io::Read::take(&mut self.source, most).read_until(b'\n', &mut line)?;
        if read == 0 {
            self.ended = true;
            self.close();
            return Ok(());
        }
        self.line += 1;
        if read as u64 == most {
            let rest = self.source.skip_until(b'\n')?;
            self.close();
            self.gather.fault(self.line, super::rows::too_long((read + rest) as u64));
            self.row_line = self.line + 1;
            return Ok(());
        }
        let trimmed = line.trim_ascii();
        let ends = match self.markdown {
            true => {
                self.fenced ^= trimmed.starts_with(b"```");
                !self.fenced && line.starts_with(b"#")
            }
            false => trimmed.is_empty() || self.row.len() + line.len() > PARAGRAPH_BYTES,
        };
        if ends || self.row.len() + line.len() > LINE_BYTES_MAX {
            self.close();
            self.row_line = self.line;
        }
        self.row.extend_from_slice(&line);
        Ok(())
    }

    fn close(&mut self) {
        let row = std::mem::take(&mut self.row);
        let text = row.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&row).trim_ascii();
        if text.is_empty() {
            return;
        }
        let blank = row.iter().take_while(|byte| byte.is_ascii_whitespace()).filter(|byte| **byte == b'\n').count();
        let line = self.row_line + blank as u64;
        match std::str::from_utf8(text) {
            Ok(text) => self.gather.push(line, &serde_json::json!({ "text": text }).to_string()),
            Err(error) => {
                let reason = format!("invalid UTF-8 at byte {} of the text that begins here", error.valid_up_to());
                self.gather.fault(line, Fault::line(reason));
            }
        }
    }
}

impl<R: BufRead + Send> Pieces for ProsePieces<R> {
    fn next(&mut self) -> Result<Option<Piece>, Failure> {
        while !self.gather.is_full() && !self.ended {
            self.step().map_err(|error| stopped(&self.path, &error))?;
        }
        Ok(self.gather.take(&self.file))
    }
}
