//! CSV and TSV as rows: the first record names the fields, each further one is an object of texts.
//! Lives here: records within bounds. Never here: what a cell means; `=1+1` is the text it is.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use hone_protocol::failure::Failure;

use super::json::Fault;
use super::open::{bad, stopped};
use super::pieces::{Gather, LINE_BYTES_MAX, Piece, Pieces};

/// Columns of a table.
const COLUMNS_MAX: usize = 4096;
/// Bytes of the names of the columns.
const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// Reads records.
pub(super) struct TablePieces<R> {
    source: R,
    reader: Box<Reader>,
    path: PathBuf,
    file: Option<Arc<str>>,
    header: Option<Vec<String>>,
    cells: Vec<u8>,
    ends: Vec<usize>,
    gather: Gather,
    ended: bool,
}

/// One record.
enum Record {
    Cells { line: u64, cells: usize },
    TooLong { line: u64 },
    End,
}

impl<R: BufRead + Send> TablePieces<R> {
    pub(super) fn new(source: R, delimiter: u8, path: PathBuf, file: Option<Arc<str>>) -> TablePieces<R> {
        let reader = Box::new(ReaderBuilder::new().delimiter(delimiter).build());
        let (cells, ends) = (vec![0; 64 * 1024], vec![0; COLUMNS_MAX]);
        TablePieces { source, reader, path, file, header: None, cells, ends, gather: Gather::default(), ended: false }
    }

    /// The mark between cells that the first line has most of.
    pub(super) fn delimiter(head: &[u8]) -> u8 {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |mark: u8| memchr::memchr_iter(mark, line).count();
        [b',', b';', b'\t', b'|']
            .into_iter()
            .rev()
            .max_by_key(|mark| count(*mark))
            .filter(|mark| count(*mark) > 0)
            .unwrap_or(b',')
    }

    fn record(&mut self) -> std::io::Result<Record> {
        let line = self.reader.line();
        let (mut output, mut fields) = (0, 0);
        let mut too_long = false;
        loop {
            let input = self.source.fill_buf()?;
            // Without input the reader closes the last record.
            let (result, read, written, ended) =
                self.reader.read_record(input, &mut self.cells[output..], &mut self.ends[fields..]);
            self.source.consume(read);
            output += written;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.cells.len() < LINE_BYTES_MAX && !too_long => {
                    self.cells.resize(self.cells.len() * 2, 0);
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    // The rest of the record is read over its beginning.
                    too_long = true;
                    (output, fields) = (0, 0);
                }
                ReadRecordResult::Record if too_long => return Ok(Record::TooLong { line }),
                ReadRecordResult::Record => return Ok(Record::Cells { line, cells: fields }),
                ReadRecordResult::End => return Ok(if too_long { Record::TooLong { line } } else { Record::End }),
            }
        }
    }

    fn cell(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.cells[start..self.ends[index]]
    }

    fn read_header(&mut self) -> Result<(), Failure> {
        let record = self.record().map_err(|error| stopped(&self.path, &error))?;
        let cells = match record {
            Record::Cells { cells, .. } => cells,
            Record::TooLong { .. } => {
                return Err(bad(&self.path, "begins with a record that is too long to name fields"));
            }
            Record::End => {
                self.ended = true;
                return Ok(());
            }
        };
        let mut names: Vec<String> = Vec::new();
        for index in 0..cells {
            let cell = self.cell(index);
            let cell = if index == 0 { cell.strip_prefix(b"\xef\xbb\xbf").unwrap_or(cell) } else { cell };
            let name = std::str::from_utf8(cell)
                .map_err(|_| bad(&self.path, "names its fields in bytes that are not UTF-8"))?;
            let name = match name.trim() {
                "" => format!("column {}", index + 1),
                name => name.to_owned(),
            };
            if names.contains(&name) {
                return Err(bad(&self.path, &format!("has two columns that are named {name:?}; rename one")));
            }
            names.push(name);
        }
        if names.iter().map(String::len).sum::<usize>() > HEADER_BYTES_MAX {
            return Err(bad(&self.path, "begins with a record that is too long to name fields"));
        }
        self.header = Some(names);
        Ok(())
    }

    fn add(&mut self, line: u64, cells: usize) {
        let Some(header) = &self.header else { return };
        if cells != header.len() {
            // An empty line is no record to csv; one cell of white space is the same to people.
            if cells == 1 && self.cell(0).trim_ascii().is_empty() {
                return;
            }
            let reason = format!("the record has {cells} fields, and the first one names {}", header.len());
            return self.gather.fault(line, Fault::line(reason));
        }
        let mut row = serde_json::Map::with_capacity(cells);
        for (index, name) in header.iter().enumerate() {
            match std::str::from_utf8(self.cell(index)) {
                Ok(text) => row.insert(name.clone(), text.into()),
                Err(error) => {
                    let reason = format!("invalid UTF-8 at byte {} of the cell", error.valid_up_to());
                    return self.gather.fault(line, Fault::new(name.clone(), reason));
                }
            };
        }
        self.gather.push(line, &serde_json::Value::Object(row).to_string());
    }
}

impl<R: BufRead + Send> Pieces for TablePieces<R> {
    fn next(&mut self) -> Result<Option<Piece>, Failure> {
        if self.header.is_none() && !self.ended {
            self.read_header()?;
        }
        while !self.gather.is_full() && !self.ended {
            match self.record().map_err(|error| stopped(&self.path, &error))? {
                Record::Cells { line, cells } => self.add(line, cells),
                Record::TooLong { line } => {
                    let reason = format!("the record has more than {LINE_BYTES_MAX} bytes or {COLUMNS_MAX} fields");
                    self.gather.fault(line, Fault::line(reason));
                }
                Record::End => self.ended = true,
            }
        }
        Ok(self.gather.take(&self.file))
    }
}
