//! Length-prefixed frames in byte buffers: `u32` little endian, then that many bytes. No I/O.

/// The largest frame that is read or written. A longer announced length ends the connection.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a byte stream stopped being frames.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The announced length is over [`FRAME_BYTES_MAX`].
    #[error("a frame of {length} bytes was announced; at most {FRAME_BYTES_MAX} are allowed")]
    TooLong {
        /// The announced length in bytes.
        length: u64,
    },
    /// The length is zero, which no message has.
    #[error("an empty frame was announced; every message has at least one byte")]
    Empty,
}

/// Puts one encoded message behind its length.
pub fn frame(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    check(payload.len() as u64)?;
    let mut bytes = Vec::with_capacity(4 + payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Reads the length header of a frame.
pub fn length(header: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header);
    check(u64::from(length))?;
    Ok(length as usize)
}

fn check(length: u64) -> Result<(), FrameError> {
    match length {
        0 => Err(FrameError::Empty),
        n if n > FRAME_BYTES_MAX as u64 => Err(FrameError::TooLong { length: n }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_lengths_are_refused_before_anything_is_allocated() {
        assert_eq!(length(0u32.to_le_bytes()), Err(FrameError::Empty));
        assert_eq!(length(u32::MAX.to_le_bytes()), Err(FrameError::TooLong { length: u64::from(u32::MAX) }));
        assert_eq!(length(5u32.to_le_bytes()), Ok(5));
    }

    #[test]
    fn a_frame_is_its_length_and_its_payload() {
        assert_eq!(frame(b"ab").unwrap(), [2, 0, 0, 0, b'a', b'b']);
        assert_eq!(frame(b""), Err(FrameError::Empty));
    }
}
