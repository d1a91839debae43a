//! Server-sent events out of a body that comes in any pieces: lines end with LF, CR or both, events with an empty line.
//! Lives here: bytes into the data of events. Never here: what the data means.

/// Longest event in bytes; a longer one ends the answer. A whole choice with log-probabilities stays far below it.
pub(super) const EVENT_BYTES_MAX: usize = 4 << 20;

/// An event is longer than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
}

impl Events {
    /// Takes what came, and adds the data of each event that is whole to `events`.
    pub(super) fn take(&mut self, mut bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        if std::mem::take(&mut self.after_cr) && bytes.first() == Some(&b'\n') {
            bytes = &bytes[1..];
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.grow(&bytes[..end])?;
            let was_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if was_cr {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.end_line(events)?;
        }
        self.grow(bytes)
    }

    /// What is left at the end of the body: some servers leave out the last empty line.
    pub(super) fn finish(&mut self, events: &mut Vec<Vec<u8>>) {
        // What is too long was refused when it came.
        if self.end_line(events).is_ok() {
            events.extend(self.data.take());
        }
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
        if held + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            events.extend(self.data.take());
            return Ok(());
        }
        // A comment, or a field that no answer needs.
        let Some(value) = line.strip_prefix(b"data").and_then(|rest| match rest {
            [] => Some(rest),
            [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
            _ => None,
        }) else {
            return Ok(());
        };
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let (mut reader, mut events) = (Events::default(), Vec::new());
        pieces.iter().for_each(|piece| reader.take(piece, &mut events).unwrap());
        reader.finish(&mut events);
        events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let body = b": hello\r\nevent: x\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:two\n\nid: 7\rdata\rdata: \xc3\xa4\r\r\ndata: [DONE]";
        let whole = read(&[body]);
        assert_eq!(whole, ["{\"a\":\n1}", "two", "\n\u{e4}", "[DONE]"]);
        for cut in 0..=body.len() {
            assert_eq!(read(&[&body[..cut], &body[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(read(&bytes), whole);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut reader = Events::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; EVENT_BYTES_MAX / 2], b"\n"].concat();
        assert_eq!(reader.take(&line, &mut Vec::new()), Ok(()));
        assert_eq!(reader.take(&line, &mut Vec::new()), Err(TooLong));
    }
}
