//! Writes GGUF version 3 files: adapters, and the small models that tests make. The file is complete or absent:
//! temporary file beside it, fsync, rename, fsync of the folder. It never changes a file in place.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{ALIGNMENT_DEFAULT, Array, GgufError, KEY_BYTES_MAX, TENSOR_NAME_BYTES_MAX, TYPE_F32, Value, data_bytes};

/// Collects metadata and tensors, then writes them in one go.
#[derive(Debug, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    name: String,
    dims: Vec<u64>,
    type_id: u32,
    data: Vec<u8>,
}

impl GgufWriter {
    /// An empty file.
    pub fn new() -> GgufWriter {
        GgufWriter::default()
    }

    /// Adds a metadata entry; a key written twice is refused by [`GgufWriter::write`].
    pub fn meta(&mut self, key: &str, value: Value) -> &mut GgufWriter {
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Adds an F32 tensor; `dims` fastest first, `data` of as many values as their product.
    pub fn tensor_f32(&mut self, name: &str, dims: &[u64], data: &[f32]) -> &mut GgufWriter {
        let bytes = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, dims, TYPE_F32, bytes)
    }

    /// Adds a tensor of any storage type whose data is already encoded.
    pub fn tensor(&mut self, name: &str, dims: &[u64], type_id: u32, data: Vec<u8>) -> &mut GgufWriter {
        self.tensors.push(Pending { name: name.to_owned(), dims: dims.to_vec(), type_id, data });
        self
    }

    /// Writes the file: either the whole of it is at `path` afterwards and survives a power cut, or nothing is.
    pub fn write(&self, path: &Path) -> Result<(), GgufError> {
        self.check(path)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".tmp-{}", std::process::id()));
        let temporary = Path::new(&temporary);
        let result = self.write_through(temporary, path);
        if result.is_err() {
            // The first error is the one to report; a leftover temporary file is swept with its folder.
            let _ = fs::remove_file(temporary);
        }
        result.map_err(|source| GgufError::Io { action: "write", path: path.to_owned(), source })
    }

    fn check(&self, path: &Path) -> Result<(), GgufError> {
        let fail = |field: String, problem: &str| {
            Err(GgufError::Unwritable { path: path.to_owned(), field, problem: problem.to_owned() })
        };
        for (index, (key, _)) in self.metadata.iter().enumerate() {
            let field = format!("key {key:?}");
            if key.is_empty() || key.len() as u64 > KEY_BYTES_MAX {
                return fail(field, "the key is empty or too long");
            }
            if key == "general.alignment" {
                return fail(field, "the writer always uses the default alignment");
            }
            if self.metadata[..index].iter().any(|(earlier, _)| earlier == key) {
                return fail(field, "the key is set twice");
            }
        }
        for (index, tensor) in self.tensors.iter().enumerate() {
            let field = format!("tensor {:?}", tensor.name);
            if tensor.name.is_empty() || tensor.name.len() as u64 > TENSOR_NAME_BYTES_MAX {
                return fail(field, "the name is empty or too long");
            }
            if self.tensors[..index].iter().any(|earlier| earlier.name == tensor.name) {
                return fail(field, "the name is used twice");
            }
            if tensor.dims.is_empty() || tensor.dims.len() > 4 || tensor.dims.contains(&0) {
                return fail(field, "one to four dimensions of at least one element are needed");
            }
            let rows = tensor.dims[1..].iter().product();
            if data_bytes(tensor.type_id, tensor.dims[0], rows) != Some(tensor.data.len() as u64) {
                return fail(field, "the data does not have the length that its dimensions and type need");
            }
        }
        Ok(())
    }

    fn write_through(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        let mut out = Counted { inner: BufWriter::new(File::create(temporary)?), written: 0 };
        self.write_header(&mut out)?;
        for tensor in &self.tensors {
            out.pad()?;
            out.put(&tensor.data)?;
        }
        // ggml wants the last tensor padded like the others.
        out.pad()?;
        out.keep(temporary, path)
    }

    fn write_header(&self, out: &mut Counted) -> io::Result<()> {
        out.put(b"GGUF")?;
        out.put(&3u32.to_le_bytes())?;
        out.put(&(self.tensors.len() as u64).to_le_bytes())?;
        out.put(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in &self.metadata {
            out.text(key)?;
            out.value(value)?;
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            out.text(&tensor.name)?;
            out.put(&(tensor.dims.len() as u32).to_le_bytes())?;
            for dim in &tensor.dims {
                out.put(&dim.to_le_bytes())?;
            }
            out.put(&tensor.type_id.to_le_bytes())?;
            out.put(&offset.to_le_bytes())?;
            offset = (offset + tensor.data.len() as u64).next_multiple_of(ALIGNMENT_DEFAULT);
        }
        Ok(())
    }
}

/// A buffered file that knows its length, so that data can be aligned.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) inner: BufWriter<File>,
    pub(super) written: u64,
}

impl Counted {
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    /// Makes what was written to `temporary` durable and gives it its name.
    pub(super) fn keep(self, temporary: &Path, path: &Path) -> io::Result<()> {
        let file = self.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }

    fn pad(&mut self) -> io::Result<()> {
        self.pad_to(ALIGNMENT_DEFAULT)
    }

    pub(super) fn pad_to(&mut self, alignment: u64) -> io::Result<()> {
        let gap = self.written.next_multiple_of(alignment) - self.written;
        self.put(&vec![0; gap as usize])
    }

    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.put(&(text.len() as u64).to_le_bytes())?;
        self.put(text.as_bytes())
    }

    fn tagged(&mut self, tag: u32, bytes: &[u8]) -> io::Result<()> {
        self.put(&tag.to_le_bytes())?;
        self.put(bytes)
    }

    pub(super) fn value(&mut self, value: &Value) -> io::Result<()> {
        match value {
            Value::U8(v) => self.tagged(0, &v.to_le_bytes()),
            Value::I8(v) => self.tagged(1, &v.to_le_bytes()),
            Value::U16(v) => self.tagged(2, &v.to_le_bytes()),
            Value::I16(v) => self.tagged(3, &v.to_le_bytes()),
            Value::U32(v) => self.tagged(4, &v.to_le_bytes()),
            Value::I32(v) => self.tagged(5, &v.to_le_bytes()),
            Value::F32(v) => self.tagged(6, &v.to_le_bytes()),
            Value::Bool(v) => self.tagged(7, &[u8::from(*v)]),
            Value::Str(v) => {
                self.put(&8u32.to_le_bytes())?;
                self.text(v)
            }
            Value::Array(v) => {
                self.put(&9u32.to_le_bytes())?;
                self.array(v)
            }
            Value::U64(v) => self.tagged(10, &v.to_le_bytes()),
            Value::I64(v) => self.tagged(11, &v.to_le_bytes()),
            Value::F64(v) => self.tagged(12, &v.to_le_bytes()),
        }
    }

    fn array(&mut self, array: &Array) -> io::Result<()> {
        let len = array.len() as u64;
        match array {
            Array::U8(v) => self.numbers(0, len, v.iter().map(|x| x.to_le_bytes())),
            Array::I8(v) => self.numbers(1, len, v.iter().map(|x| x.to_le_bytes())),
            Array::U16(v) => self.numbers(2, len, v.iter().map(|x| x.to_le_bytes())),
            Array::I16(v) => self.numbers(3, len, v.iter().map(|x| x.to_le_bytes())),
            Array::U32(v) => self.numbers(4, len, v.iter().map(|x| x.to_le_bytes())),
            Array::I32(v) => self.numbers(5, len, v.iter().map(|x| x.to_le_bytes())),
            Array::F32(v) => self.numbers(6, len, v.iter().map(|x| x.to_le_bytes())),
            Array::Bool(v) => self.numbers(7, len, v.iter().map(|x| [u8::from(*x)])),
            Array::Str(v) => {
                self.put(&8u32.to_le_bytes())?;
                self.put(&len.to_le_bytes())?;
                v.iter().try_for_each(|text| self.text(text))
            }
            Array::U64(v) => self.numbers(10, len, v.iter().map(|x| x.to_le_bytes())),
            Array::I64(v) => self.numbers(11, len, v.iter().map(|x| x.to_le_bytes())),
            Array::F64(v) => self.numbers(12, len, v.iter().map(|x| x.to_le_bytes())),
        }
    }

    fn numbers<const N: usize>(&mut self, tag: u32, len: u64, values: impl Iterator<Item = [u8; N]>) -> io::Result<()> {
        self.put(&tag.to_le_bytes())?;
        self.put(&len.to_le_bytes())?;
        for value in values {
            self.put(&value)?;
        }
        Ok(())
    }
}
