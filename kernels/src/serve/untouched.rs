//! Gives back the memory that llama.cpp touched only to clear it: it writes zeros over a whole cache when it makes one,
//! which takes the pages of all slots at once. A zero page that is given back reads as zeros again, and is taken anew when
//! somebody writes to it: so a slot costs memory when it is used. Never here: whose memory it is; pages that hold anything
//! but zeros are left alone.

use std::ops::Range;

/// Bytes that are looked at together.
const PAGE: usize = 4096;
/// Smaller caches are not worth the look.
const BYTES_MIN: usize = 64 << 20;

/// Private memory of this process that is no file's.
pub(super) fn anonymous() -> Vec<Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(range_of).collect()
}

/// The range of a line, when it is writable, private, and neither a file's nor the heap's nor a stack's.
fn range_of(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_whitespace();
    let (range, mode) = (fields.next()?, fields.next()?);
    let is_plain = mode == "rw-p" && fields.nth(2) == Some("0") && fields.next().is_none();
    let (begin, end) = range.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    is_plain.then_some(parse(begin)?..parse(end)?)
}

/// What is in `now` and in none of `before`; both are sorted, as the system lists them.
fn added(now: &[Range<usize>], before: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for range in now {
        let mut begin = range.start;
        for old in before.iter().filter(|old| old.end > range.start && old.start < range.end) {
            if old.start > begin {
                found.push(begin..old.start);
            }
            begin = begin.max(old.end);
        }
        if begin < range.end {
            found.push(begin..range.end);
        }
    }
    found
}

/// Gives back the zero pages of a cache of about `bytes` that was made since `before`. To be called before anybody else
/// may write to it. Bytes that were given back.
pub(super) fn give_back(before: &[Range<usize>], bytes: u64) -> usize {
    let Ok(bytes) = usize::try_from(bytes) else { return 0 };
    if bytes < BYTES_MIN {
        return 0;
    }
    let mut given = 0;
    for range in added(&anonymous(), before) {
        for run in zero_runs(&range).into_iter().filter(|run| run.len() + 2 * PAGE >= bytes) {
            // SAFETY: the range is mapped, private and anonymous, made by the allocation of a cache that nobody else knows
            // yet, and holds only zeros, which is what it reads as afterwards.
            let code = unsafe { libc::madvise(run.start as *mut libc::c_void, run.len(), libc::MADV_DONTNEED) };
            given += if code == 0 { run.len() } else { 0 };
        }
    }
    given
}

/// Runs of pages that hold only zeros.
fn zero_runs(range: &Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for page in range.clone().step_by(PAGE) {
        // SAFETY: the page is mapped and readable, and nobody writes to it meanwhile.
        let words = unsafe { std::slice::from_raw_parts(page as *const u64, PAGE / 8) };
        if words.iter().fold(0, |all, word| all | word) != 0 {
            continue;
        }
        match runs.last_mut().filter(|run| run.end == page) {
            Some(run) => run.end += PAGE,
            None => runs.push(page..page + PAGE),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_memory_counts() {
        assert_eq!(range_of("7f00-7f10 rw-p 00000000 00:00 0 "), Some(0x7f00..0x7f10));
        for line in [
            "7f00-7f10 r--p 00000000 00:00 0",
            "7f00-7f10 rw-s 00000000 00:00 0",
            "7f00-7f10 rw-p 00000000 08:01 1234 /lib/x.so",
            "7f00-7f10 rw-p 00000000 00:00 0 [heap]",
        ] {
            assert_eq!(range_of(line), None, "{line}");
        }
        assert_eq!(added(&[10..20, 30..60], &[12..14, 30..40, 50..55]), [10..12, 14..20, 40..50, 55..60]);
        assert_eq!(added(&[10..20, 30..40, 50..60], &[5..25, 26..27]), [30..40, 50..60]);
    }

    /// That memory is given back is seen from outside, in tests/tests/crowd.rs: here other tests allocate at the same time.
    #[test]
    fn runs_of_zero_pages_are_found() {
        let mut bytes = vec![0_u8; 9 * PAGE];
        let begin = (bytes.as_ptr() as usize).next_multiple_of(PAGE);
        let offset = begin - bytes.as_ptr() as usize;
        bytes[offset + 3 * PAGE + 17] = 1;
        let pages = |from: usize, to: usize| begin + from * PAGE..begin + to * PAGE;
        assert_eq!(zero_runs(&pages(0, 8)), [pages(0, 3), pages(4, 8)]);
    }
}
