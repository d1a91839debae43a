//! Opening what is to be imported: a file, a packed file, or a folder of files.
//! Lives here: what a file is by its first bytes and its name, unpacking within bounds. Never here: rows (see the reader of each kind).

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hone_protocol::failure::{Failure, FailureCode, HintCode};

use super::array::ArrayPieces;
use super::json::Fault;
use super::mapping::Plan;
use super::pieces::{Gather, LinePieces, Piece, Pieces};
use super::prose::ProsePieces;
use super::table::TablePieces;
use super::{folder, record_batches, unreadable};

/// Unpacked, a file may have so many times its packed size. Rows seldom reach 30.
const RATIO_MAX: u64 = 250;
/// Below so many unpacked bytes nobody asks.
const RATIO_FROM_BYTES: u64 = 64 << 20;
/// The first bytes that are looked at.
const SNIFF_BYTES: usize = 256 * 1024;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
    /// A member of a ZIP archive.
    Member {
        start: u64,
        bytes: u64,
        deflated: bool,
    },
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lines,
    /// A JSON array, or values one after the other on lines of their own.
    Json,
    Table {
        delimiter: u8,
    },
    Parquet,
    Arrow,
    Text,
    Markdown,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Lines => "jsonl",
            Kind::Json => "json",
            Kind::Table { delimiter: b'\t' } => "tsv",
            Kind::Table { .. } => "csv",
            Kind::Parquet => "parquet",
            Kind::Arrow => "arrow",
            Kind::Text => "text",
            Kind::Markdown => "markdown",
        }
    }
}

/// A file that is to be read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its name among several.
    pub(super) name: Option<Arc<str>>,
    pub(super) kind: Kind,
    pub(super) packing: Packing,
}

/// What is to be imported.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) files: Vec<Found>,
    /// Files among them that are not read, and why.
    pub(super) passed: Vec<(String, String)>,
    container: String,
    size_bytes: u64,
    done: Arc<AtomicU64>,
}

/// Finds out what is at a path, without waiting for a pipe that nobody writes to.
pub(super) fn open(path: &Path) -> Result<Opened, Failure> {
    let file = open_file(path)?;
    let facts = file.metadata().map_err(|error| unreadable(path, &error))?;
    let mut opened = if facts.is_dir() {
        folder::walk(path)?
    } else if facts.is_file() {
        match packing(path, &file)? {
            None => folder::archive(path, &file)?,
            Some(packing) => {
                let kind = kind(path, &unpacked_name(path, packing), packing)?;
                let packed = match packing {
                    Packing::Gzip => ".gz",
                    Packing::Zstd => ".zst",
                    _ => "",
                };
                let files = vec![Found { path: path.to_owned(), name: None, kind, packing }];
                Opened::new(files, Vec::new(), format!("{}{packed}", kind.word()))
            }
        }
    } else {
        return Err(bad(path, "is not a regular file"));
    };
    let paths: std::collections::BTreeSet<&Path> = opened.files.iter().map(|file| file.path.as_path()).collect();
    opened.size_bytes = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|facts| facts.len()).sum();
    Ok(opened)
}

impl Opened {
    pub(super) fn new(files: Vec<Found>, passed: Vec<(String, String)>, container: String) -> Opened {
        Opened { files, passed, container, size_bytes: 0, done: Arc::default() }
    }

    /// Bytes on the disk.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes read from the disk so far.
    pub(super) fn progress(&self) -> Arc<AtomicU64> {
        self.done.clone()
    }

    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// The name of container and format in a report. Lines of JSON are not named, as they were the only container once.
    pub(super) fn named(&self, plan: &Plan) -> String {
        match self.container.as_str() {
            "jsonl" => plan.name(),
            container => format!("{container}:{}", plan.name()),
        }
    }

    /// Its rows, from the beginning.
    pub(super) fn pieces(&self) -> Result<Box<dyn Pieces>, Failure> {
        self.done.store(0, Ordering::Relaxed);
        let mut passed = Gather::default();
        for (name, reason) in &self.passed {
            passed.fault(0, Fault::line(format!("{name}: {reason}")));
        }
        let passed = passed.take(&None);
        Ok(Box::new(Chain { files: self.files.clone().into_iter(), open: None, passed, done: self.done.clone() }))
    }
}

/// Files one after the other.
struct Chain {
    files: std::vec::IntoIter<Found>,
    open: Option<Box<dyn Pieces>>,
    passed: Option<Piece>,
    done: Arc<AtomicU64>,
}

impl Pieces for Chain {
    fn next(&mut self) -> Result<Option<Piece>, Failure> {
        if let Some(passed) = self.passed.take() {
            return Ok(Some(passed));
        }
        loop {
            if let Some(open) = &mut self.open {
                if let Some(piece) = open.next()? {
                    return Ok(Some(piece));
                }
                self.open = None;
            }
            let Some(found) = self.files.next() else { return Ok(None) };
            self.open = Some(found.pieces(&self.done)?);
        }
    }
}

impl Found {
    fn pieces(&self, done: &Arc<AtomicU64>) -> Result<Box<dyn Pieces>, Failure> {
        let (path, name) = (self.path.clone(), self.name.clone());
        match self.kind {
            Kind::Parquet => return record_batches::parquet(&path, name, done),
            Kind::Arrow => return record_batches::arrow(&path, name, done),
            _ => {}
        }
        let stream = stream(&path, self.packing, done)?;
        Ok(match self.kind {
            Kind::Lines => Box::new(LineFile { lines: LinePieces::new(stream, name), path }),
            Kind::Table { delimiter } => Box::new(TablePieces::new(BufReader::new(stream), delimiter, path, name)),
            Kind::Text | Kind::Markdown => {
                Box::new(ProsePieces::new(BufReader::new(stream), self.kind == Kind::Markdown, path, name))
            }
            _ => Box::new(ArrayPieces::new(BufReader::with_capacity(SNIFF_BYTES, stream), path, name)),
        })
    }
}

struct LineFile {
    lines: LinePieces<Box<dyn Read + Send>>,
    path: PathBuf,
}

impl Pieces for LineFile {
    fn next(&mut self) -> Result<Option<Piece>, Failure> {
        let body = self.lines.read().map_err(|error| stopped(&self.path, &error))?;
        Ok(body.map(|body| Piece { file: self.lines.file().clone(), body }))
    }
}

/// A file's bytes, unpacked. `done` counts what is read from the disk.
fn stream(path: &Path, packing: Packing, done: &Arc<AtomicU64>) -> Result<Box<dyn Read + Send>, Failure> {
    let mut file = open_file(path)?;
    let mut left = u64::MAX;
    if let Packing::Member { start, bytes, .. } = packing {
        io::Seek::seek(&mut file, io::SeekFrom::Start(start)).map_err(|error| unreadable(path, &error))?;
        left = bytes;
    }
    let packed = Arc::new(AtomicU64::new(0));
    let counted = Counted { file: file.take(left), all: done.clone(), own: packed.clone() };
    let bounded = |stream| Box::new(Bounded { stream, packed, unpacked: 0 });
    Ok(match packing {
        Packing::None | Packing::Member { deflated: false, .. } => Box::new(counted),
        Packing::Gzip => bounded(Box::new(flate2::read::MultiGzDecoder::new(counted)) as Box<dyn Read + Send>),
        Packing::Member { .. } => bounded(Box::new(flate2::read::DeflateDecoder::new(counted))),
        Packing::Zstd => {
            let stream = zstd::stream::read::Decoder::new(counted).map_err(|error| unreadable(path, &error))?;
            bounded(Box::new(stream))
        }
    })
}

/// A file, or the part of it that is a member, with what was read of it.
struct Counted {
    file: io::Take<File>,
    all: Arc<AtomicU64>,
    own: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.all.fetch_add(read as u64, Ordering::Relaxed);
        self.own.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// An unpacked stream that ends where no honest file would go on.
struct Bounded {
    stream: Box<dyn Read + Send>,
    packed: Arc<AtomicU64>,
    unpacked: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.unpacked += read as u64;
        if self.unpacked > RATIO_FROM_BYTES + RATIO_MAX * self.packed.load(Ordering::Relaxed) {
            let reason = format!("it unpacks to more than {RATIO_MAX} times its size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(read)
    }
}

/// A failure in the middle of a file: the disk's, or the packing's.
pub(super) fn stopped(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => bad(path, &format!("cannot be unpacked: {error}")),
        _ => unreadable(path, error),
    }
}

/// What a file that is no file of rows is told.
pub(super) fn bad(path: &Path, reason: &str) -> Failure {
    Failure::new(FailureCode::BadFile, format!("{} {reason}", path.display()))
        .at(path.display().to_string())
        .hint(HintCode::CorrectFile)
}

pub(super) fn open_file(path: &Path) -> Result<File, Failure> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(nonblocking).open(path).map_err(|error| unreadable(path, &error))
}

/// How a file is packed; nothing for an archive of several files.
fn packing(path: &Path, file: &File) -> Result<Option<Packing>, Failure> {
    let mut head = Vec::new();
    file.take(4).read_to_end(&mut head).map_err(|error| unreadable(path, &error))?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Packing::Zstd),
        b"PK\x03\x04" | b"PK\x05\x06" => None,
        _ => Some(Packing::None),
    })
}

fn unpacked_name(path: &Path, packing: Packing) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    match packing {
        Packing::None | Packing::Member { .. } => name,
        _ => name.trim_end_matches(".gz").trim_end_matches(".zst").to_owned(),
    }
}

/// What a file holds, by its first bytes and, where they say nothing, its name.
pub(super) fn kind(path: &Path, name: &str, packing: Packing) -> Result<Kind, Failure> {
    let mut head = Vec::new();
    let stream = stream(path, packing, &Arc::default())?;
    stream.take(SNIFF_BYTES as u64).read_to_end(&mut head).map_err(|error| stopped(path, &error))?;
    let by_name = name.rsplit_once('.').map_or("", |(_, end)| end);
    match head.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(bad(path, "is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"));
        }
        [b'P', b'A', b'R', b'1', ..] if packing == Packing::None => return Ok(Kind::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] if packing == Packing::None => return Ok(Kind::Arrow),
        [0xff, 0xff, 0xff, 0xff, ..] if by_name == "arrow" && packing == Packing::None => return Ok(Kind::Arrow),
        [b'P', b'A', b'R', b'1', ..] | [b'A', b'R', b'R', b'O', b'W', b'1', ..] => {
            return Err(bad(path, "is a Parquet or Arrow file that was packed again; unpack it first"));
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'P', b'K', 3, 4, ..] => {
            return Err(bad(path, "is packed twice; unpack it first"));
        }
        _ => {}
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    Ok(match (text.first(), by_name) {
        (_, "csv") => Kind::Table { delimiter: TablePieces::<&[u8]>::delimiter(text) },
        (_, "tsv" | "tab") => Kind::Table { delimiter: b'\t' },
        (_, "txt" | "text") => Kind::Text,
        (_, "md" | "markdown") => Kind::Markdown,
        (Some(b'['), _) if !is_list_of_turns(text) => Kind::Json,
        (Some(b'{'), "json") if !first_line_is_json(text) => Kind::Json,
        _ => Kind::Lines,
    })
}

fn first_line_is_json(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).is_ok_and(|line| super::json::parse(line.trim()).is_ok()) || line.len() == text.len()
}

/// Whether the first line is a row that is a list by itself, as Qianfan has them.
fn is_list_of_turns(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let row = std::str::from_utf8(line).ok().and_then(|line| super::json::parse(line.trim()).ok());
    row.is_some_and(|row| super::prompted::qianfan_responses(&row).is_some())
}
