//! The bounds-checked parser behind `GgufFile::open`. It trusts nothing: a count is compared with the limit and with
//! what is left of the file before a byte of memory is reserved for it. It never looks at tensor data.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{
    ALIGNMENT_DEFAULT, ALIGNMENT_MAX, ARRAY_LEN_MAX, Array, DIMS_MAX, GgufError, GgufFile, HEADER_BYTES_MAX,
    KEY_BYTES_MAX, KEYS_MAX, METADATA_MEMORY_BYTES_MAX, STRING_BYTES_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX,
    TensorInfo, Value, data_bytes, type_name,
};

/// Bytes read from the file at a time.
const BUFFER_BYTES: usize = 256 * 1024;

const TAG_BOOL: u32 = 7;
const TAG_STRING: u32 = 8;
const TAG_ARRAY: u32 = 9;

pub(super) fn open(path: &Path) -> Result<GgufFile, GgufError> {
    let io = |source| GgufError::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    if !about.is_file() {
        return Err(GgufError::Malformed {
            path: path.to_owned(),
            offset: 0,
            field: "file".to_owned(),
            problem: "not a regular file".to_owned(),
        });
    }
    let mut cursor = Cursor {
        path,
        source: BufReader::with_capacity(BUFFER_BYTES, file),
        offset: 0,
        file_bytes: about.len(),
        memory_bytes: 0,
    };
    parse(&mut cursor)
}

/// A position in the file that knows how much is left.
struct Cursor<'a> {
    path: &'a Path,
    source: BufReader<File>,
    offset: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

fn parse(cursor: &mut Cursor<'_>) -> Result<GgufFile, GgufError> {
    let magic: [u8; 4] = cursor.bytes("magic")?;
    if &magic != b"GGUF" {
        return Err(cursor.malformed(
            0,
            "magic",
            format!("expected \"GGUF\", found {:?}", magic.escape_ascii().to_string()),
        ));
    }
    let version = u32::from_le_bytes(cursor.bytes("version")?);
    if version & 0xffff == 0 && version != 0 {
        return Err(cursor.malformed(
            4,
            "version",
            "the file is big-endian; convert it on a little-endian machine".to_owned(),
        ));
    }
    if !(2..=3).contains(&version) {
        return Err(cursor.malformed(
            4,
            "version",
            format!("{version} is not supported (2 and 3 are); convert the model again"),
        ));
    }
    // The smallest tensor entry is 24 bytes (empty name, no dimension), the smallest key entry 13.
    let tensor_count = cursor.count("tensor count", TENSORS_MAX, 24)?;
    let key_count = cursor.count("key count", KEYS_MAX, 13)?;
    let metadata = parse_metadata(cursor, key_count)?;
    let alignment_bytes = alignment(cursor, &metadata)?;
    let tensors = parse_tensor_list(cursor, tensor_count)?;
    let data_offset_bytes = cursor.offset.next_multiple_of(alignment_bytes);
    let mut file = GgufFile {
        path: cursor.path.to_owned(),
        version,
        metadata,
        tensors: Vec::with_capacity(tensors.len()),
        alignment_bytes,
        data_offset_bytes,
        file_bytes: cursor.file_bytes,
    };
    for entry in tensors {
        file.tensors.push(place(cursor, entry, data_offset_bytes, alignment_bytes)?);
    }
    refuse_overlap(cursor, &file.tensors)?;
    Ok(file)
}

fn parse_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<(String, Value)>, GgufError> {
    let mut metadata = Vec::with_capacity(count as usize);
    let mut seen = HashSet::new();
    for index in 0..count {
        let at = cursor.offset;
        let key = cursor.text(&format!("key {index}"), KEY_BYTES_MAX)?;
        if key.is_empty() {
            return Err(cursor.malformed(at, &format!("key {index}"), "empty key".to_owned()));
        }
        if !seen.insert(key.clone()) {
            return Err(cursor.malformed(at, &format!("key {index}"), format!("{key:?} appears twice")));
        }
        let value = parse_value(cursor, &key)?;
        metadata.push((key, value));
    }
    Ok(metadata)
}

fn parse_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, GgufError> {
    let at = cursor.offset;
    let tag = u32::from_le_bytes(cursor.bytes(key)?);
    Ok(match tag {
        0 => Value::U8(u8::from_le_bytes(cursor.bytes(key)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.bytes(key)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.bytes(key)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.bytes(key)?)),
        4 => Value::U32(u32::from_le_bytes(cursor.bytes(key)?)),
        5 => Value::I32(i32::from_le_bytes(cursor.bytes(key)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.bytes(key)?)),
        TAG_BOOL => Value::Bool(cursor.boolean(key)?),
        TAG_STRING => Value::Str(cursor.text(key, STRING_BYTES_MAX)?),
        TAG_ARRAY => Value::Array(parse_array(cursor, key)?),
        10 => Value::U64(u64::from_le_bytes(cursor.bytes(key)?)),
        11 => Value::I64(i64::from_le_bytes(cursor.bytes(key)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.bytes(key)?)),
        _ => return Err(cursor.malformed(at, key, format!("unknown value type {tag}"))),
    })
}

fn parse_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, GgufError> {
    let at = cursor.offset;
    let tag = u32::from_le_bytes(cursor.bytes(key)?);
    let element_bytes = match tag {
        0 | 1 | TAG_BOOL => 1,
        2 | 3 => 2,
        4..=6 => 4,
        TAG_STRING | 10..=12 => 8,
        TAG_ARRAY => return Err(cursor.malformed(at, key, "arrays of arrays are not supported".to_owned())),
        _ => return Err(cursor.malformed(at, key, format!("unknown array element type {tag}"))),
    };
    let len = cursor.count(key, ARRAY_LEN_MAX, element_bytes)?;
    let in_memory = if tag == TAG_STRING { size_of::<String>() as u64 } else { element_bytes };
    cursor.account(key, len * in_memory)?;
    Ok(match tag {
        0 => Array::U8(cursor.numbers(key, len, u8::from_le_bytes)?),
        1 => Array::I8(cursor.numbers(key, len, i8::from_le_bytes)?),
        2 => Array::U16(cursor.numbers(key, len, u16::from_le_bytes)?),
        3 => Array::I16(cursor.numbers(key, len, i16::from_le_bytes)?),
        4 => Array::U32(cursor.numbers(key, len, u32::from_le_bytes)?),
        5 => Array::I32(cursor.numbers(key, len, i32::from_le_bytes)?),
        6 => Array::F32(cursor.numbers(key, len, f32::from_le_bytes)?),
        TAG_BOOL => {
            let mut flags = Vec::with_capacity(len as usize);
            for _ in 0..len {
                flags.push(cursor.boolean(key)?);
            }
            Array::Bool(flags)
        }
        10 => Array::U64(cursor.numbers(key, len, u64::from_le_bytes)?),
        11 => Array::I64(cursor.numbers(key, len, i64::from_le_bytes)?),
        12 => Array::F64(cursor.numbers(key, len, f64::from_le_bytes)?),
        _ => {
            let mut texts = Vec::with_capacity(len as usize);
            for _ in 0..len {
                texts.push(cursor.text(key, STRING_BYTES_MAX)?);
            }
            Array::Str(texts)
        }
    })
}

fn alignment(cursor: &Cursor<'_>, metadata: &[(String, Value)]) -> Result<u64, GgufError> {
    let key = "general.alignment";
    let Some((_, value)) = metadata.iter().find(|(name, _)| name == key) else { return Ok(ALIGNMENT_DEFAULT) };
    match value {
        Value::U32(bytes) if bytes.is_power_of_two() && u64::from(*bytes) <= ALIGNMENT_MAX => Ok((*bytes).into()),
        other => Err(cursor.malformed(
            cursor.offset,
            key,
            format!("{other:?} is not a u32 power of two up to {ALIGNMENT_MAX}"),
        )),
    }
}

/// A tensor's entry before its place in the file is known.
struct Entry {
    at: u64,
    name: String,
    dims: Vec<u64>,
    type_id: u32,
    relative_bytes: u64,
}

fn parse_tensor_list(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Entry>, GgufError> {
    let mut entries = Vec::with_capacity(count as usize);
    let mut seen = HashSet::new();
    for index in 0..count {
        let at = cursor.offset;
        let field = format!("tensor {index}");
        let name = cursor.text(&field, TENSOR_NAME_BYTES_MAX)?;
        if !seen.insert(name.clone()) {
            return Err(cursor.malformed(at, &field, format!("{name:?} appears twice")));
        }
        let field = format!("tensor {name:?}");
        let dim_at = cursor.offset;
        let dim_count = u32::from_le_bytes(cursor.bytes(&field)?);
        if !(1..=DIMS_MAX).contains(&dim_count) {
            return Err(cursor.malformed(
                dim_at,
                &field,
                format!("{dim_count} dimensions, 1 to {DIMS_MAX} are possible"),
            ));
        }
        let mut dims = Vec::with_capacity(dim_count as usize);
        for _ in 0..dim_count {
            let dim_at = cursor.offset;
            let dim = u64::from_le_bytes(cursor.bytes(&field)?);
            if dim == 0 || dim > i64::MAX as u64 {
                return Err(cursor.malformed(dim_at, &field, format!("dimension of {dim} elements")));
            }
            dims.push(dim);
        }
        let type_id = u32::from_le_bytes(cursor.bytes(&field)?);
        let relative_bytes = u64::from_le_bytes(cursor.bytes(&field)?);
        entries.push(Entry { at, name, dims, type_id, relative_bytes });
    }
    Ok(entries)
}

/// Turns an entry into a tensor whose data lies inside the file.
fn place(cursor: &Cursor<'_>, entry: Entry, data_offset: u64, alignment: u64) -> Result<TensorInfo, GgufError> {
    let fail = |problem: String| cursor.malformed(entry.at, &format!("tensor {:?}", entry.name), problem);
    let Some(type_name) = type_name(entry.type_id) else {
        return Err(fail(format!("unknown storage type {}", entry.type_id)));
    };
    let rows = entry.dims[1..].iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let size = rows.and_then(|rows| data_bytes(entry.type_id, entry.dims[0], rows));
    let Some(size_bytes) = size else {
        return Err(fail(format!("dimensions {:?} do not fit storage type {type_name}", entry.dims)));
    };
    // The product of the dimensions is at most the bytes times the largest block, so it cannot overflow below.
    if !entry.relative_bytes.is_multiple_of(alignment) {
        return Err(fail(format!("data offset {} is not a multiple of {alignment}", entry.relative_bytes)));
    }
    let begin = data_offset.checked_add(entry.relative_bytes);
    let end = begin.and_then(|begin| begin.checked_add(size_bytes));
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(fail(format!("data offset {} overflows", entry.relative_bytes)));
    };
    if end > cursor.file_bytes {
        return Err(fail(format!(
            "data ends at byte {end}, the file at {}; the file is cut short, fetch it again",
            cursor.file_bytes
        )));
    }
    Ok(TensorInfo {
        name: entry.name,
        dims: entry.dims,
        type_id: entry.type_id,
        type_name,
        offset_bytes: begin,
        size_bytes,
    })
}

fn refuse_overlap(cursor: &Cursor<'_>, tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset_bytes);
    for pair in order.windows(2) {
        if pair[0].offset_bytes + pair[0].size_bytes > pair[1].offset_bytes {
            let problem = format!("its data overlaps that of {:?}", pair[0].name);
            return Err(cursor.malformed(pair[1].offset_bytes, &format!("tensor {:?}", pair[1].name), problem));
        }
    }
    Ok(())
}

impl Cursor<'_> {
    fn malformed(&self, offset: u64, field: &str, problem: String) -> GgufError {
        GgufError::Malformed { path: self.path.to_owned(), offset, field: field.to_owned(), problem }
    }

    /// Refuses to go on when fewer than `len` bytes are left or the header grows past its limit.
    fn need(&self, field: &str, len: u64) -> Result<(), GgufError> {
        let left = self.file_bytes - self.offset;
        if len > left {
            let problem = format!("needs {len} bytes, {left} are left; the file is cut short, fetch it again");
            return Err(self.malformed(self.offset, field, problem));
        }
        if self.offset + len > HEADER_BYTES_MAX {
            return Err(self.malformed(self.offset, field, format!("the header exceeds {HEADER_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn account(&mut self, field: &str, bytes: u64) -> Result<(), GgufError> {
        self.memory_bytes += bytes;
        if self.memory_bytes > METADATA_MEMORY_BYTES_MAX {
            let problem = format!("the metadata exceeds {METADATA_MEMORY_BYTES_MAX} bytes of memory");
            return Err(self.malformed(self.offset, field, problem));
        }
        Ok(())
    }

    fn fill(&mut self, field: &str, buffer: &mut [u8]) -> Result<(), GgufError> {
        self.need(field, buffer.len() as u64)?;
        self.source.read_exact(buffer).map_err(|source| GgufError::Io {
            action: "read",
            path: self.path.to_owned(),
            source,
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, field: &str) -> Result<[u8; N], GgufError> {
        let mut buffer = [0; N];
        self.fill(field, &mut buffer)?;
        Ok(buffer)
    }

    /// A count that is within `limit` and whose elements of at least `element_bytes` fit what is left of the file.
    fn count(&mut self, field: &str, limit: u64, element_bytes: u64) -> Result<u64, GgufError> {
        let at = self.offset;
        let count = u64::from_le_bytes(self.bytes(field)?);
        if count > limit {
            return Err(self.malformed(at, field, format!("count {count} exceeds the limit of {limit}")));
        }
        self.need(field, count * element_bytes)?;
        Ok(count)
    }

    fn text(&mut self, field: &str, limit: u64) -> Result<String, GgufError> {
        let at = self.offset;
        let len = u64::from_le_bytes(self.bytes(field)?);
        if len > limit {
            return Err(self.malformed(at, field, format!("text of {len} bytes exceeds the limit of {limit}")));
        }
        self.need(field, len)?;
        self.account(field, len)?;
        let mut buffer = vec![0; len as usize];
        self.fill(field, &mut buffer)?;
        String::from_utf8(buffer).map_err(|_| self.malformed(at, field, "text is not UTF-8".to_owned()))
    }

    fn boolean(&mut self, field: &str) -> Result<bool, GgufError> {
        let at = self.offset;
        match self.bytes::<1>(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.malformed(at, field, format!("boolean of value {other}"))),
        }
    }

    fn numbers<T, const N: usize>(
        &mut self,
        field: &str,
        len: u64,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let mut numbers = Vec::with_capacity(len as usize);
        for _ in 0..len {
            numbers.push(decode(self.bytes(field)?));
        }
        Ok(numbers)
    }
}
