//! The rows of one piece: read, judged, and made into batches. It runs in several threads.
//! Lives here: lines into rows, what is wrong with a line as a whole. Never here: the order of pieces, files (see `import`).

use arrow::error::ArrowError;
use hone_protocol::dataset::REJECTIONS_MAX;

use super::canonical::{Content, hash_of};
use super::distinct::{Key, key};
use super::format::Turn;
use super::json::{self, Fault};
use super::mapping::Plan;
use super::pieces::{Body, LINE_BYTES_MAX, Piece};
use super::quick::{self, Literal, Places};
use super::segment_writer::{Encoded, Encoder};

/// What became of a piece.
#[derive(Default)]
pub(super) struct Done {
    pub(super) batches: Vec<Encoded>,
    pub(super) keys: Vec<Key>,
    pub(super) read: u64,
    pub(super) kept: u64,
    /// The first rejections with their lines, counted from 1 in a piece of lines, else as the piece says.
    pub(super) faults: Vec<(u64, Fault)>,
    /// Lines in a piece of lines, for the numbers of the next one.
    pub(super) lines: Option<u64>,
    pub(super) bytes: u64,
}

/// Does the work of one thread.
pub(super) struct RowWork<'p> {
    plan: &'p Plan,
    encoder: Encoder,
    places: Places,
    literals: Vec<Literal>,
}

impl<'p> RowWork<'p> {
    pub(super) fn new(plan: &'p Plan) -> Result<RowWork<'p>, ArrowError> {
        Ok(RowWork { plan, encoder: Encoder::new()?, places: Places::default(), literals: Vec::new() })
    }

    pub(super) fn piece(&mut self, piece: &Piece) -> Result<Done, ArrowError> {
        let mut done = Done::default();
        match &piece.body {
            Body::TooLong { bytes } => {
                done.bytes = *bytes;
                done.lines = Some(1);
                self.row(&mut done, 1, Err(too_long(*bytes)))?;
            }
            Body::Rows { text, rows } => {
                done.bytes = text.len() as u64;
                self.encoder.begin(text.len());
                let mut from = 0;
                for made in rows {
                    let row = match &made.end {
                        Ok(end) => Ok(&text[std::mem::replace(&mut from, *end)..*end]),
                        Err(fault) => Err(fault.clone()),
                    };
                    self.row(&mut done, made.line, row)?;
                }
            }
            Body::Lines { bytes, start } => {
                done.bytes = bytes.len() as u64;
                self.encoder.begin(bytes.len());
                let mut lines = 0;
                for_each_line(bytes, *start, |row| {
                    lines += 1;
                    match row {
                        Ok("") => Ok(()),
                        row => self.row(&mut done, lines, row),
                    }
                })?;
                done.lines = Some(lines);
            }
        }
        done.batches.extend(self.encoder.take()?);
        Ok(done)
    }

    fn row(&mut self, done: &mut Done, line: u64, row: Result<&str, Fault>) -> Result<(), ArrowError> {
        done.read += 1;
        match row.and_then(|text| self.keep(done, text)) {
            Ok(full) => {
                done.kept += 1;
                if full {
                    done.batches.extend(self.encoder.take()?);
                }
            }
            Err(fault) if done.faults.len() < REJECTIONS_MAX => done.faults.push((line, fault)),
            Err(_) => {}
        }
        Ok(())
    }

    /// Keeps a row, and says whether the batch is full.
    fn keep(&mut self, done: &mut Done, text: &str) -> Result<bool, Fault> {
        let row = match quick::parse(text, &mut self.places) {
            Some(row) => row,
            None => json::parse(text)?,
        };
        let turns = self.plan.turns(&row)?;
        self.find_literals(text, &turns);
        let literals = self.literals.as_slice();
        let hash = hash_of(turns.iter().enumerate().map(|(index, turn)| {
            let content = match literals.get(index) {
                Some(literal) if literal.canonical => Content::Escaped(&text[literal.start..literal.end]),
                _ => Content::Text(&turn.content),
            };
            (turn.role.word(), content)
        }));
        done.keys.push(key(&hash));
        Ok(self.encoder.push(&turns, &hash, text, literals))
    }

    /// The literals of all contents, in order; none when one was put together or they stand in another order.
    fn find_literals(&mut self, text: &str, turns: &[Turn<'_>]) {
        self.literals.clear();
        let mut end = 0;
        for turn in turns {
            match self.places.literal(text, &turn.content) {
                Some(literal) if literal.start > end => {
                    end = literal.end;
                    self.literals.push(literal);
                }
                _ => return self.literals.clear(),
            }
        }
    }
}

/// What is said of a row that is too long.
pub(super) fn too_long(bytes: u64) -> Fault {
    Fault::line(format!("the line has {bytes} bytes; at most {LINE_BYTES_MAX} are read"))
}

/// Gives each line without its end, without a byte order mark and without white space around it. `start` is where the lines begin in
/// the file.
pub(super) fn for_each_line<E>(
    bytes: &[u8],
    start: u64,
    mut each: impl FnMut(Result<&str, Fault>) -> Result<(), E>,
) -> Result<(), E> {
    // A piece is proved at once; only one with a fault is looked at line by line.
    let whole = simdutf8::basic::from_utf8(bytes).ok();
    let mut from = 0;
    while from < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |end| from + end);
        let line = &bytes[from..end];
        let begins = line.strip_prefix(b"\xef\xbb\xbf").map_or(from, |_| from + 3);
        let trimmed = bytes[begins..end].trim_ascii();
        let skipped = bytes[begins..end].len() - bytes[begins..end].trim_ascii_start().len();
        let place = begins + skipped;
        if line.len() - usize::from(line.ends_with(b"\r")) > LINE_BYTES_MAX {
            each(Err(too_long((end - from + usize::from(end < bytes.len())) as u64)))?;
        } else {
            match whole.and_then(|whole| whole.get(place..place + trimmed.len())) {
                Some(text) => each(Ok(text))?,
                None => each(text(trimmed, start + from as u64))?,
            }
        }
        from = end + 1;
    }
    Ok(())
}

fn text(line: &[u8], start: u64) -> Result<&str, Fault> {
    std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        let byte = line.get(at).copied().unwrap_or_default();
        Fault::line(format!(
            "invalid UTF-8: byte 0x{byte:02x} at byte {at} of the line, which begins at byte {start} of the file"
        ))
    })
}
