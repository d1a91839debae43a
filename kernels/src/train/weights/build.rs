//! Bringing a file's tensors into their forms, strip by strip on all threads, so that memory is bounded whatever the size of a
//! matrix. Nothing here chooses a form.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cpu::{self, Packing, Width};
use crate::ggml::{self, Tensor, Type};
use crate::gguf::{GgufError, GgufFile, TensorInfo};

use super::super::TrainError;

/// Edge of the square blocks in which a matrix is transposed, so that both sides stay in cache.
const TRANSPOSE_BLOCK: usize = 32;
/// Values that a thread brings into form at a time.
const STRIP_VALUES: usize = 1 << 19;

/// One tensor to be brought into its form.
pub(super) struct Job<'a> {
    pub(super) info: &'a TensorInfo,
    pub(super) tensor: Tensor,
    pub(super) form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Rows { transposed: bool },
    Panels { width: Width, transposed: bool },
}

/// Brings the jobs' tensors into form on `threads` threads; the first error ends the rest.
pub(super) fn build(file: &GgufFile, jobs: &[Job<'_>], threads: usize) -> Result<(), TrainError> {
    let io = |source| GgufError::Io { action: "read", path: file.path.clone(), source };
    let source = File::open(&file.path).map_err(io)?;
    let strips: Vec<Strip<'_>> = jobs.iter().flat_map(Strip::of).collect();
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<std::io::Error>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut scratch = Scratch::new();
                while let Some(strip) = strips.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = scratch.build(&source, strip) {
                        next.store(strips.len(), Ordering::Relaxed);
                        *failure.lock().expect("no thread panics while it holds the lock") = Some(error);
                    }
                }
            });
        }
    });
    match failure.into_inner().expect("the threads have ended") {
        Some(error) => Err(io(error).into()),
        None => Ok(()),
    }
}

/// Some rows of a job: what a thread does at a time, so that its memory is bounded whatever the size of the matrix.
struct Strip<'a> {
    job: &'a Job<'a>,
    first: usize,
    rows: usize,
}

impl<'a> Strip<'a> {
    fn of(job: &'a Job<'a>) -> impl Iterator<Item = Strip<'a>> {
        let (input, output) = (job.info.dim(0) as usize, job.info.dim(1) as usize);
        // A transposed strip becomes a piece of every row of the copy, which must be whole blocks.
        let unit = match job.form {
            Form::Panels { transposed: true, .. } => cpu::BLOCK,
            Form::Panels { .. } => cpu::PANEL,
            Form::Rows { .. } => ggml::block_elements(job.tensor.kind()),
        };
        let rows = (STRIP_VALUES / input).max(1).next_multiple_of(unit);
        (0..output).step_by(rows).map(move |first| Strip { job, first, rows: rows.min(output - first) })
    }
}

/// A thread's own memory while it brings tensors into form.
struct Scratch {
    packing: Box<cpu::Scratch>,
    stored: Vec<u8>,
    values: Vec<f32>,
    turned: Vec<f32>,
    encoded: Vec<u8>,
}

impl Scratch {
    fn new() -> Scratch {
        let (stored, values, turned, encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Scratch { packing: Box::new(cpu::Scratch::new()), stored, values, turned, encoded }
    }

    fn build(&mut self, source: &File, strip: &Strip<'_>) -> std::io::Result<()> {
        let Job { info, tensor, form } = *strip.job;
        let input = info.dim(0) as usize;
        let row_bytes = ggml::row_bytes(info.type_id, input);
        self.stored.resize(strip.rows * row_bytes, 0);
        source.read_exact_at(&mut self.stored, info.offset_bytes + (strip.first * row_bytes) as u64)?;
        let transposed = match form {
            Form::Panels { width, transposed } => {
                self.pack(strip, input, width, transposed);
                return Ok(());
            }
            Form::Rows { transposed } => transposed,
        };
        if !transposed && tensor.kind() == info.type_id {
            tensor.write_bytes(&self.stored, strip.first * row_bytes);
            return Ok(());
        }
        self.values.resize(strip.rows * input, 0.0);
        ggml::decode(info.type_id, &self.stored, &mut self.values);
        if transposed {
            self.turn_rows(strip, input)
        } else {
            self.copy_rows(strip, input)
        }
        Ok(())
    }

    fn pack(&mut self, strip: &Strip<'_>, input: usize, width: Width, transposed: bool) {
        let Job { info, tensor, .. } = *strip.job;
        let packing = Packing { kind: info.type_id, input, output: info.dim(1) as usize, width, transposed };
        for (index, stored) in self.stored.chunks(packing.unit() * ggml::row_bytes(info.type_id, input)).enumerate() {
            let first = strip.first + index * packing.unit();
            packing.pack(stored, first, &mut self.packing, |place, bytes| tensor.write_bytes(bytes, place));
        }
    }

    fn encode(&mut self, turned: bool, kind: Type, row: usize) {
        let values = if turned { &self.turned } else { &self.values };
        self.encoded.resize(ggml::row_bytes(kind, row) * (values.len() / row), 0);
        ggml::encode(kind, values, row, &mut self.encoded);
    }

    fn copy_rows(&mut self, strip: &Strip<'_>, input: usize) {
        let tensor = strip.job.tensor;
        self.encode(false, tensor.kind(), input);
        tensor.write_bytes(&self.encoded, strip.first * tensor.strides()[1]);
    }

    /// A piece of every row of the transposed copy.
    fn turn_rows(&mut self, strip: &Strip<'_>, input: usize) {
        let tensor = strip.job.tensor;
        self.turned.resize(strip.rows * input, 0.0);
        transpose(&self.values, input, &mut self.turned, strip.rows);
        self.encode(true, tensor.kind(), strip.rows);
        let before = ggml::row_bytes(tensor.kind(), strip.first);
        for (row, piece) in self.encoded.chunks_exact(ggml::row_bytes(tensor.kind(), strip.rows)).enumerate() {
            tensor.write_bytes(piece, row * tensor.strides()[1] + before);
        }
    }
}

/// `source` has `rows` rows of `width` values; `out` gets `width` rows of `rows` values.
fn transpose(source: &[f32], width: usize, out: &mut [f32], rows: usize) {
    for first_row in (0..rows).step_by(TRANSPOSE_BLOCK) {
        for first_column in (0..width).step_by(TRANSPOSE_BLOCK) {
            for column in first_column..(first_column + TRANSPOSE_BLOCK).min(width) {
                for row in first_row..(first_row + TRANSPOSE_BLOCK).min(rows) {
                    out[column * rows + row] = source[row * width + column];
                }
            }
        }
    }
}
