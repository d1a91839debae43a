//! What a stranger's Arrow file claims of its own sizes, looked at before its reader believes it.
//! Lives here: those looks. Never here: rows.

use std::fs::File;
use std::os::unix::fs::FileExt;

use arrow::ipc::reader::read_footer_length;
use arrow::ipc::{Block, RecordBatch, root_as_footer, root_as_message};

/// Bytes of a footer or of the header of one message.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one message, and of one column of it when it is unpacked.
const BODY_BYTES_MAX: u64 = 256 << 20;
/// Footer length and magic at the end of an Arrow file, and the magic with its padding at the front.
const TRAILER_BYTES: u64 = 10;
const HEAD_BYTES: u64 = 8;

/// Whether all that a file or stream says of itself lies inside it and within bounds.
pub(super) fn check(file: &File) -> Result<(), String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if read(file, 0, 6.min(size))? == b"ARROW1" {
        return check_file(file, size);
    }
    let mut at = 0;
    while at < size {
        match check_message(file, at, size)? {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(())
}

fn check_file(file: &File, size: u64) -> Result<(), String> {
    let end = size.checked_sub(TRAILER_BYTES).filter(|end| *end >= HEAD_BYTES).ok_or("it ends early")?;
    let trailer = read(file, end, TRAILER_BYTES)?;
    let trailer: [u8; TRAILER_BYTES as usize] = trailer.try_into().map_err(|_| "it ends early")?;
    let length = read_footer_length(trailer).map_err(|error| error.to_string())? as u64;
    if length > HEADER_BYTES_MAX || length > end - HEAD_BYTES {
        return Err(format!("its footer claims {length} bytes"));
    }
    let footer = read(file, end - length, length)?;
    let footer = root_as_footer(&footer).map_err(|error| error.to_string())?;
    let blocks = footer.dictionaries().into_iter().chain(footer.recordBatches()).flatten();
    for block in blocks {
        check_block(file, block, size)?;
    }
    Ok(())
}

fn check_block(file: &File, block: &Block, size: u64) -> Result<(), String> {
    let outside = || format!("its footer places a block outside the file, at byte {}", block.offset());
    let place = u64::try_from(block.offset()).map_err(|_| outside())?;
    let header = u64::try_from(block.metaDataLength()).map_err(|_| outside())?;
    let body = u64::try_from(block.bodyLength()).map_err(|_| outside())?;
    let inside = header <= HEADER_BYTES_MAX && body <= BODY_BYTES_MAX;
    if !inside || place.checked_add(header + body).is_none_or(|end| end > size) {
        return Err(outside());
    }
    check_message(file, place, size).map(drop)
}

/// Looks at one message; where the next one begins, or nothing at the end.
fn check_message(file: &File, at: u64, size: u64) -> Result<Option<u64>, String> {
    let start = read(file, at, 8.min(size - at))?;
    let number = |from: usize| start.get(from..from + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (begins, length) = match number(0) {
        Some(u32::MAX) => (at + 8, number(4).ok_or("it ends early")?),
        Some(length) => (at + 4, length),
        None => return Err("it ends early".to_owned()),
    };
    if length == 0 {
        return Ok(None);
    }
    let length = u64::from(length);
    if length > HEADER_BYTES_MAX || begins + length > size {
        return Err(format!("a message at byte {at} claims a header of {length} bytes"));
    }
    let header = read(file, begins, length)?;
    let message = root_as_message(&header).map_err(|error| error.to_string())?;
    let body = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
    if body > BODY_BYTES_MAX || begins + length + body > size {
        return Err(format!("a message at byte {at} claims {body} bytes; at most {BODY_BYTES_MAX} are read"));
    }
    let batch = message
        .header_as_record_batch()
        .or_else(|| message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()));
    if let Some(batch) = batch {
        check_unpacked(file, &batch, begins + length, body)?;
    }
    Ok(Some(begins + length + body))
}

/// A packed column says before its bytes how many there will be.
fn check_unpacked(file: &File, batch: &RecordBatch<'_>, start: u64, body: u64) -> Result<(), String> {
    if batch.compression().is_none() {
        return Ok(());
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let (place, length) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length()));
        let (Ok(place), Ok(length)) = (place, length) else { return Err("a column has a negative place".to_owned()) };
        if length < 8 {
            continue;
        }
        if place.checked_add(length).is_none_or(|end| end > body) {
            return Err("a column lies outside its message".to_owned());
        }
        let claim = read(file, start + place, 8)?;
        let claim = claim.try_into().map(i64::from_le_bytes).map_err(|_| "it ends early")?;
        // Minus one stands for bytes that are not packed.
        if claim < -1 || claim > BODY_BYTES_MAX as i64 {
            return Err(format!("a column claims {claim} bytes; at most {BODY_BYTES_MAX} are read"));
        }
    }
    Ok(())
}

fn read(file: &File, from: u64, bytes: u64) -> Result<Vec<u8>, String> {
    let mut buffer = vec![0; bytes as usize];
    file.read_exact_at(&mut buffer, from).map_err(|error| error.to_string())?;
    Ok(buffer)
}
