//! The one codec module: bincode for frames, JSON for lines. Nothing else in hone names bincode.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::FRAME_BYTES_MAX;

/// Why bytes did not become a message.
#[derive(Debug, thiserror::Error)]
#[error("the bytes are not a message of this protocol: {0}")]
pub struct DecodeError(String);

fn config() -> impl bincode::config::Config {
    // The limit also bounds what a hostile length prefix may make us allocate.
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

/// Encodes a message with bincode (little endian, variable-length integers).
///
/// # Panics
/// Never for the types of this crate: serialising plain data into memory has no failing case, and a test
/// walks every message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(message, bincode::config::standard())
        .expect("plain data always serialises into memory")
}

/// Decodes one bincode message that must fill `bytes` exactly.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (message, used) = bincode::serde::decode_from_slice(bytes, config()).map_err(|e| DecodeError(e.to_string()))?;
    if used != bytes.len() {
        return Err(DecodeError(format!("{} bytes are left over", bytes.len() - used)));
    }
    Ok(message)
}

/// Encodes a message as one JSON line, newline included.
pub fn encode_line<T: Serialize>(message: &T) -> String {
    let mut line = serde_json::to_string(message).expect("plain data always serialises into memory");
    line.push('\n');
    line
}

/// Decodes one JSON line. The error names the column.
pub fn decode_line<T: DeserializeOwned>(line: &str) -> Result<T, DecodeError> {
    serde_json::from_str(line).map_err(|e| DecodeError(e.to_string()))
}
