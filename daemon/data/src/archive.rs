//! The directory of a ZIP archive: which members there are and where their bytes lie.
//! Lives here: that directory, within bounds. Never here: unpacking (see `open`), names as paths; they are only told.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Members of one archive.
const MEMBERS_MAX: u16 = 10_000;
/// Bytes of a directory.
const DIRECTORY_BYTES_MAX: u32 = 16 << 20;
/// The record at the end, and the longest comment after it.
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 65_535;
/// Bytes of an entry and of a member's own header before their names.
const ENTRY_BYTES: usize = 46;
const HEADER_BYTES: u64 = 30;
/// Stands for a size that is written elsewhere, in archives beyond 4 GiB.
const ELSEWHERE: u32 = u32::MAX;

/// One member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) packing: Packed,
}

/// How a member lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    Stored,
    Deflated,
    Folder,
    Link,
    Encrypted,
    Otherwise,
}

/// The members in the order of the directory, or what is wrong with it.
pub(super) fn members(file: &File) -> Result<Vec<Member>, String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let (count, length, offset) = end(file, size)?;
    if count > MEMBERS_MAX || length > DIRECTORY_BYTES_MAX {
        return Err(format!("its directory has {count} members and {length} bytes"));
    }
    let directory = read(file, u64::from(offset), length as usize)?;
    let mut rest = directory.as_slice();
    let mut members = Vec::new();
    for _ in 0..count {
        if rest.len() < ENTRY_BYTES || !rest.starts_with(b"PK\x01\x02") {
            return Err("its directory ends early".to_owned());
        }
        let [names, extras, comments] = [28, 30, 32].map(|at| usize::from(short(rest, at)));
        let name = rest.get(ENTRY_BYTES..ENTRY_BYTES + names).ok_or("its directory ends early")?;
        members.push(member(file, rest, String::from_utf8_lossy(name).into_owned())?);
        rest = rest.get(ENTRY_BYTES + names + extras + comments..).ok_or("its directory ends early")?;
    }
    Ok(members)
}

fn member(file: &File, entry: &[u8], name: String) -> Result<Member, String> {
    let (flags, method, bytes, place) = (short(entry, 8), short(entry, 10), long(entry, 20), long(entry, 42));
    if bytes == ELSEWHERE || place == ELSEWHERE {
        return Err("it is larger than 4 GiB; unpack it first".to_owned());
    }
    // The upper half of the attributes is a Unix mode when a Unix made it.
    let mode = if entry[5] == 3 { long(entry, 38) >> 16 & 0o170_000 } else { 0 };
    let packing = match (name.ends_with('/'), mode, flags & 1, method) {
        (true, ..) => Packed::Folder,
        (_, 0o120_000, ..) => Packed::Link,
        (_, _, 1, _) => Packed::Encrypted,
        (_, _, _, 0) => Packed::Stored,
        (_, _, _, 8) => Packed::Deflated,
        _ => Packed::Otherwise,
    };
    let header = read(file, u64::from(place), HEADER_BYTES as usize)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err("a member is not where its directory says".to_owned());
    }
    let start = u64::from(place) + HEADER_BYTES + u64::from(short(&header, 26)) + u64::from(short(&header, 28));
    Ok(Member { name, start, bytes: u64::from(bytes), packing })
}

/// Members, bytes and place of the directory, from the record at the end.
fn end(file: &File, size: u64) -> Result<(u16, u32, u32), String> {
    let tail = size.min((END_BYTES + COMMENT_BYTES_MAX) as u64);
    let tail = read(file, size - tail, tail as usize)?;
    let at = memchr::memmem::rfind(&tail, b"PK\x05\x06").filter(|at| tail.len() - at >= END_BYTES);
    let record = &tail[at.ok_or("it has no directory")?..];
    Ok((short(record, 10), long(record, 12), long(record, 16)))
}

fn read(file: &File, from: u64, bytes: usize) -> Result<Vec<u8>, String> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, from).map_err(|error| error.to_string())?;
    Ok(buffer)
}

/// A number of two bytes; the caller has checked that they are there.
fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}
