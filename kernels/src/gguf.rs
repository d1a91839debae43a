//! GGUF files in pure Rust: what a file says about itself, every length checked before it is believed, and a
//! writer for adapters and small models. Here live the value types, limits, errors and getters; `gguf/read.rs`
//! parses, `gguf/write.rs` writes what is in memory, `gguf/stream.rs` what is larger. Tensor data is never interpreted here and ggml is never called, so a stranger's
//! file can be inspected by this module before any native code sees it.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

mod read;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use stream::{GgufStream, PlannedTensor};
pub use write::GgufWriter;

/// Most metadata keys that a file may have; a file with more is refused.
pub const KEYS_MAX: u64 = 65_536;
/// Most tensors that a file may have; a file with more is refused.
pub const TENSORS_MAX: u64 = 262_144;
/// Longest metadata key in bytes (the format's own limit); a longer one is refused.
pub const KEY_BYTES_MAX: u64 = 65_535;
/// Longest string value in bytes; a longer one is refused. The longest seen in practice is a chat template.
pub const STRING_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most elements of one array; a longer one is refused. The longest seen in practice is a vocabulary's merges.
pub const ARRAY_LEN_MAX: u64 = 16 * 1024 * 1024;
/// Longest tensor name in bytes (ggml keeps 64 with the closing zero); a longer one is refused.
pub const TENSOR_NAME_BYTES_MAX: u64 = 63;
/// Most dimensions of a tensor (ggml's own limit); a tensor with more is refused.
pub const DIMS_MAX: u32 = 4;
/// Longest header (metadata and tensor list) in bytes; reading stops with an error there.
pub const HEADER_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most bytes that the parsed metadata may take in memory; reading stops with an error there. It stops a file whose
/// arrays of one-byte or empty elements would grow many times in memory.
pub const METADATA_MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Alignment of tensor data when `general.alignment` is absent.
pub const ALIGNMENT_DEFAULT: u64 = 32;
/// Largest alignment that is accepted; a larger one is refused.
pub const ALIGNMENT_MAX: u64 = 65_536;

/// Type id of 32-bit floats.
pub const TYPE_F32: u32 = 0;

/// Storage types by ggml id: (id, name, values per block, bytes per block).
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unsigned 8-bit integer.
    U8(u8),
    /// Signed 8-bit integer.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// 32-bit float.
    F32(f32),
    /// Boolean.
    Bool(bool),
    /// UTF-8 text.
    Str(String),
    /// Elements of one type.
    Array(Array),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// 64-bit float.
    F64(f64),
}

/// A metadata array: elements of one type. Arrays of arrays are refused (ggml refuses them too).
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned 8-bit integers.
    U8(Vec<u8>),
    /// Signed 8-bit integers.
    I8(Vec<i8>),
    /// Unsigned 16-bit integers.
    U16(Vec<u16>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// Booleans.
    Bool(Vec<bool>),
    /// UTF-8 texts.
    Str(Vec<String>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// 64-bit floats.
    F64(Vec<f64>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Value {
    /// The type's name as errors print it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::U8(_) => "u8",
            Value::I8(_) => "i8",
            Value::U16(_) => "u16",
            Value::I16(_) => "i16",
            Value::U32(_) => "u32",
            Value::I32(_) => "i32",
            Value::F32(_) => "f32",
            Value::Bool(_) => "bool",
            Value::Str(_) => "string",
            Value::Array(_) => "array",
            Value::U64(_) => "u64",
            Value::I64(_) => "i64",
            Value::F64(_) => "f64",
        }
    }

    /// The value as a non-negative integer, whatever integer type the file chose; `None` when negative or not one.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }
}

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the file.
    pub name: String,
    /// Elements per dimension, fastest first (ggml's order); 1 to 4 entries.
    pub dims: Vec<u64>,
    /// ggml's type id.
    pub type_id: u32,
    /// ggml's type name, for instance `Q4_1`.
    pub type_name: &'static str,
    /// First byte of the data, counted from the start of the file.
    pub offset_bytes: u64,
    /// Length of the data in bytes.
    pub size_bytes: u64,
}

impl TensorInfo {
    /// Number of values.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Elements of dimension `index`, 1 beyond the last.
    pub fn dim(&self, index: usize) -> u64 {
        self.dims.get(index).copied().unwrap_or(1)
    }
}

/// Why a GGUF file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is not what a GGUF file must be.
    #[error("{} at byte {offset}: {field}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file the field begins.
        offset: u64,
        /// Which field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A metadata key that is needed is not there.
    #[error("{}: metadata key {key:?} is missing; the file was not made for this use or its converter is too old", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A metadata value has another type than its key's meaning needs.
    #[error("{}: metadata key {key:?} is of type {found}, expected {wanted}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type needed.
        wanted: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// A tensor that is needed is not there.
    #[error("{}: tensor {name:?} is missing; the file is incomplete or of another architecture", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The caller asked to write something that the format cannot hold.
    #[error("cannot write {}: {field}: {problem}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Which key or tensor.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a GGUF file says about itself; the tensor data stays in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufFile {
    /// The file that was read.
    pub path: PathBuf,
    /// Format version, 2 or 3.
    pub version: u32,
    /// Keys and values in file order.
    pub metadata: Vec<(String, Value)>,
    /// Tensors in file order.
    pub tensors: Vec<TensorInfo>,
    /// Alignment of the tensor data in bytes.
    pub alignment_bytes: u64,
    /// Where tensor data begins.
    pub data_offset_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}

impl GgufFile {
    /// Reads the header of `path`. Nothing in it is trusted: every count and length is checked against the limits of
    /// this module and against the size of the file before memory is taken for it.
    pub fn open(path: &Path) -> Result<GgufFile, GgufError> {
        read::open(path)
    }

    /// The value of `key`, if present.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The tensor called `name`, if present.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The tensor called `name`, or an error that names it.
    pub fn require_tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.tensor(name).ok_or_else(|| GgufError::MissingTensor { path: self.path.clone(), name: name.to_owned() })
    }

    /// The value of `key`, or an error that names it.
    pub fn require(&self, key: &str) -> Result<&Value, GgufError> {
        self.get(key).ok_or_else(|| GgufError::MissingKey { path: self.path.clone(), key: key.to_owned() })
    }

    /// Text of `key`.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        match self.require(key)? {
            Value::Str(text) => Ok(text),
            other => Err(self.wrong_type(key, "string", other)),
        }
    }

    /// Non-negative integer of `key` that fits 32 bits, whatever integer type the file chose.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        let value = self.require(key)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.wrong_type(key, "u32", value))
    }

    /// Non-negative integer of `key`, whatever integer type the file chose.
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        let value = self.require(key)?;
        value.as_u64().ok_or_else(|| self.wrong_type(key, "u64", value))
    }

    /// Float of `key` (a 64-bit one is rounded).
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        match self.require(key)? {
            Value::F32(number) => Ok(*number),
            Value::F64(number) => Ok(*number as f32),
            other => Err(self.wrong_type(key, "f32", other)),
        }
    }

    /// Boolean of `key`.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        match self.require(key)? {
            Value::Bool(flag) => Ok(*flag),
            other => Err(self.wrong_type(key, "bool", other)),
        }
    }

    /// Array of texts of `key`.
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        match self.require(key)? {
            Value::Array(Array::Str(texts)) => Ok(texts),
            other => Err(self.wrong_type(key, "array of strings", other)),
        }
    }

    /// Array of 32-bit floats of `key`.
    pub fn f32s(&self, key: &str) -> Result<&[f32], GgufError> {
        match self.require(key)? {
            Value::Array(Array::F32(numbers)) => Ok(numbers),
            other => Err(self.wrong_type(key, "array of f32", other)),
        }
    }

    /// Array of signed 32-bit integers of `key`.
    pub fn i32s(&self, key: &str) -> Result<&[i32], GgufError> {
        match self.require(key)? {
            Value::Array(Array::I32(numbers)) => Ok(numbers),
            other => Err(self.wrong_type(key, "array of i32", other)),
        }
    }

    /// `general.architecture`, for instance `llama`.
    pub fn architecture(&self) -> Result<&str, GgufError> {
        self.str("general.architecture")
    }

    fn wrong_type(&self, key: &str, wanted: &'static str, found: &Value) -> GgufError {
        GgufError::WrongType { path: self.path.clone(), key: key.to_owned(), wanted, found: found.type_name() }
    }
}

/// ggml's name of a storage type, `None` for an id that this reader does not know.
pub fn type_name(type_id: u32) -> Option<&'static str> {
    TYPES.iter().find(|row| row.0 == type_id).map(|row| row.1)
}

/// Bytes of `rows` rows of `row_elements` values in storage type `type_id`; `None` when the type is unknown, the row
/// is not a whole number of blocks, or the size overflows.
pub fn data_bytes(type_id: u32, row_elements: u64, rows: u64) -> Option<u64> {
    let (_, _, block_values, block_bytes) = *TYPES.iter().find(|row| row.0 == type_id)?;
    if !row_elements.is_multiple_of(block_values) {
        return None;
    }
    (row_elements / block_values).checked_mul(block_bytes)?.checked_mul(rows)
}
