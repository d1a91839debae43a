//! Writes a GGUF version 3 file whose tensors are larger than memory: the header first, then the data of each planned
//! tensor in order and in pieces of any length. Complete or absent, as with `write.rs`: a temporary file beside the
//! path, fsync, rename. It never changes a file in place and never looks at the data.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::write::Counted;
use super::{ALIGNMENT_DEFAULT, GgufError, Value, data_bytes};

/// Bytes gathered before a write.
const BUFFER_BYTES: usize = 1 << 20;

/// A tensor whose data will follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Name, unique in the file.
    pub name: String,
    /// Elements per dimension, fastest first.
    pub dims: Vec<u64>,
    /// ggml's type id.
    pub type_id: u32,
}

impl PlannedTensor {
    /// Length of its data; `None` when the type is unknown or its rows are no whole number of blocks.
    pub fn size_bytes(&self) -> Option<u64> {
        let rows = self.dims.iter().skip(1).try_fold(1u64, |rows, &dim| rows.checked_mul(dim))?;
        data_bytes(self.type_id, *self.dims.first()?, rows)
    }
}

/// A file that is being written. Dropped before [`GgufStream::finish`], nothing of it stays.
#[derive(Debug)]
pub struct GgufStream {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once it is finished.
    out: Option<Counted>,
    alignment: u64,
    /// Lengths of the tensors that are not complete, the next one last.
    left: Vec<u64>,
}

impl GgufStream {
    /// Begins `path` with all of its metadata; `general.alignment`, if among it, is kept to.
    pub fn create(
        path: &Path,
        metadata: &[(String, Value)],
        tensors: &[PlannedTensor],
    ) -> Result<GgufStream, GgufError> {
        let alignment = match metadata.iter().find(|(key, _)| key == "general.alignment") {
            Some((_, value)) => value.as_u64().filter(|bytes| bytes.is_power_of_two()).unwrap_or(ALIGNMENT_DEFAULT),
            None => ALIGNMENT_DEFAULT,
        };
        let mut left = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            left.push(tensor.size_bytes().ok_or_else(|| GgufError::Unwritable {
                path: path.to_owned(),
                field: format!("tensor {:?}", tensor.name),
                problem: format!("dimensions {:?} do not fit storage type {}", tensor.dims, tensor.type_id),
            })?);
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".tmp-{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let fail = |source| GgufError::Io { action: "write", path: path.to_owned(), source };
        let file = File::create(&temporary).map_err(fail)?;
        let out = Counted { inner: BufWriter::with_capacity(BUFFER_BYTES, file), written: 0 };
        let mut stream = GgufStream { path: path.to_owned(), temporary, out: Some(out), alignment, left };
        stream.header(metadata, tensors).map_err(fail)?;
        stream.left.reverse();
        Ok(stream)
    }

    fn header(&mut self, metadata: &[(String, Value)], tensors: &[PlannedTensor]) -> io::Result<()> {
        let (alignment, sizes) = (self.alignment, &self.left);
        let Some(out) = &mut self.out else { return Ok(()) };
        out.put(b"GGUF")?;
        out.put(&3u32.to_le_bytes())?;
        out.put(&(tensors.len() as u64).to_le_bytes())?;
        out.put(&(metadata.len() as u64).to_le_bytes())?;
        for (key, value) in metadata {
            out.text(key)?;
            out.value(value)?;
        }
        let mut offset = 0u64;
        for (tensor, size) in tensors.iter().zip(sizes) {
            out.text(&tensor.name)?;
            out.put(&(tensor.dims.len() as u32).to_le_bytes())?;
            for dim in &tensor.dims {
                out.put(&dim.to_le_bytes())?;
            }
            out.put(&tensor.type_id.to_le_bytes())?;
            out.put(&offset.to_le_bytes())?;
            offset = (offset + size).next_multiple_of(alignment);
        }
        out.pad_to(alignment)
    }

    /// The next bytes of the tensor in hand; the one after it follows when they complete it.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), GgufError> {
        let Some(left) = self.left.last_mut().filter(|left| **left >= bytes.len() as u64) else {
            return Err(self.wrong("more data than was planned"));
        };
        *left -= bytes.len() as u64;
        let (complete, alignment) = (*left == 0, self.alignment);
        let Some(out) = &mut self.out else { return Ok(()) };
        let written = out.put(bytes).and_then(|()| if complete { out.pad_to(alignment) } else { Ok(()) });
        if complete {
            self.left.pop();
        }
        written.map_err(|source| self.io(source))
    }

    /// The whole file is at its path afterwards and survives a power cut.
    pub fn finish(mut self) -> Result<(), GgufError> {
        if !self.left.is_empty() {
            return Err(self.wrong("less data than was planned"));
        }
        match self.out.take() {
            Some(out) => out.keep(&self.temporary, &self.path).map_err(|source| {
                // The first error is the one to report.
                let _ = fs::remove_file(&self.temporary);
                self.io(source)
            }),
            None => Ok(()),
        }
    }

    fn io(&self, source: io::Error) -> GgufError {
        GgufError::Io { action: "write", path: self.path.clone(), source }
    }

    fn wrong(&self, problem: &str) -> GgufError {
        GgufError::Unwritable { path: self.path.clone(), field: "tensor data".to_owned(), problem: problem.to_owned() }
    }
}

impl Drop for GgufStream {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            // Whoever gave up has an error to report already.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{GgufFile, TYPE_F32};

    fn planned(name: &str, dims: &[u64]) -> PlannedTensor {
        PlannedTensor { name: name.to_owned(), dims: dims.to_vec(), type_id: TYPE_F32 }
    }

    #[test]
    fn what_comes_in_pieces_is_one_file_and_what_is_given_up_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.gguf");
        let metadata =
            vec![("a".to_owned(), Value::Str("文".into())), ("general.alignment".to_owned(), Value::U32(64))];
        let tensors = [planned("one", &[3]), planned("two", &[2, 2])];
        let mut stream = GgufStream::create(&path, &metadata, &tensors).unwrap();
        for piece in [[1u8; 8].as_slice(), &[2; 4], &[3; 16]] {
            stream.data(piece).unwrap();
        }
        assert!(stream.data(&[0]).unwrap_err().to_string().contains("more data"));
        stream.finish().unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.metadata, metadata);
        assert_eq!(file.tensors[1].offset_bytes - file.tensors[0].offset_bytes, 64);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(&bytes[file.tensors[1].offset_bytes as usize..][..16], [3; 16]);

        let short = GgufStream::create(&folder.path().join("no.gguf"), &metadata, &tensors).unwrap();
        assert!(short.finish().unwrap_err().to_string().contains("less data"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
