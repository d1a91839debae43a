//! The first bytes of a bincode connection. Their layout is frozen forever, so that any two versions of
//! hone can at least tell each other which of them is older. JSON-lines connections skip this: their first
//! byte is `{`.
//!
//! ```text
//! Hello    magic 8 | protocol u16 LE | kind u8 = 0          | 0 | length u16 LE | UTF-8 "key=value\n"…
//! Answer   magic 8 | protocol u16 LE | kind u8 = 1, 2 or 3  | 0 | length u16 LE | UTF-8 "key=value\n"…
//! ```
//! Kind 1 is Welcome, 2 Mismatch (protocol numbers differ), 3 Refused (for example another user's uid).

/// The first eight bytes. The first one is not `{`, not printable and not valid UTF-8 on its own.
pub const MAGIC: [u8; 8] = *b"\x93HONE\r\n\x1a";
/// Bytes before the text.
pub const HEADER_BYTES: usize = 14;
/// The longest text that is accepted behind a header.
pub const TEXT_BYTES_MAX: usize = 4096;

/// What kind of first message this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The connecting side introduces itself.
    Hello,
    /// The listening side accepts.
    Welcome,
    /// The protocol numbers differ; the text says which side to upgrade.
    Mismatch,
    /// The listening side will not talk to this peer; the text says why.
    Refused,
}

/// One first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The sender's protocol number.
    pub protocol: u16,
    /// What this message is.
    pub kind: Kind,
    /// `key=value` pairs: `person`, `client`, `version`, `say`.
    pub fields: Vec<(String, String)>,
}

/// Why the first bytes were not a hello.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HelloError {
    /// Other first bytes.
    #[error("the peer does not speak hone's protocol (unexpected first bytes)")]
    Magic,
    /// Kind byte above 3.
    #[error("the peer sent an unknown kind of first message ({0})")]
    Kind(u8),
    /// Text longer than allowed or not UTF-8.
    #[error("the peer's first message is too long or not UTF-8")]
    Text,
}

impl Hello {
    /// The value of a field, if the peer sent it.
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The frozen bytes. Newlines in values become spaces; text over the limit is cut at a field border.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        for (key, value) in &self.fields {
            let line = format!("{key}={}\n", value.replace(['\n', '\r'], " "));
            if text.len() + line.len() <= TEXT_BYTES_MAX {
                text.push_str(&line);
            }
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.protocol.to_le_bytes());
        bytes.push(match self.kind {
            Kind::Hello => 0,
            Kind::Welcome => 1,
            Kind::Mismatch => 2,
            Kind::Refused => 3,
        });
        bytes.push(0);
        bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    /// Reads the header; returns the message without its text, and how many bytes of text follow.
    pub fn from_header(header: &[u8; HEADER_BYTES]) -> Result<(Hello, usize), HelloError> {
        if header[..8] != MAGIC {
            return Err(HelloError::Magic);
        }
        let kind = match header[10] {
            0 => Kind::Hello,
            1 => Kind::Welcome,
            2 => Kind::Mismatch,
            3 => Kind::Refused,
            other => return Err(HelloError::Kind(other)),
        };
        let length = usize::from(u16::from_le_bytes([header[12], header[13]]));
        if length > TEXT_BYTES_MAX {
            return Err(HelloError::Text);
        }
        let protocol = u16::from_le_bytes([header[8], header[9]]);
        Ok((Hello { protocol, kind, fields: Vec::new() }, length))
    }

    /// Adds the text that follows the header.
    pub fn with_text(mut self, text: &[u8]) -> Result<Hello, HelloError> {
        let text = std::str::from_utf8(text).map_err(|_| HelloError::Text)?;
        self.fields = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_frozen() {
        let hello = Hello { protocol: 1, kind: Kind::Hello, fields: vec![("person".into(), "ada".into())] };
        let bytes = hello.to_bytes();
        assert_eq!(bytes, b"\x93HONE\r\n\x1a\x01\x00\x00\x00\x0b\x00person=ada\n");
        let header: [u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().unwrap();
        let (read, length) = Hello::from_header(&header).unwrap();
        assert_eq!(length, 11);
        assert_eq!(read.with_text(&bytes[HEADER_BYTES..]).unwrap(), hello);
    }

    #[test]
    fn foreign_bytes_are_named() {
        assert_eq!(Hello::from_header(b"GET / HTTP/1.1").unwrap_err(), HelloError::Magic);
    }
}
