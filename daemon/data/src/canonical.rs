//! The canonical form of messages and its hash.
//! Lives here: RFC 8785 (JSON Canonicalization Scheme) for lists of `{content, role}`. Never here: other shapes.

use sha2::{Digest, Sha256};

use super::quick::special_from;

/// SHA-256 over the canonical JSON of messages, given as role and content in order.
///
/// The form is that of RFC 8785: no white space, keys in order (`content` before `role`), text in UTF-8 with only
/// `"`, `\` and control characters escaped (`\b \t \n \f \r`, else `\u00xx` in lower case). Fields other than role
/// and content do not count, so two rows that train alike hash alike. No Unicode normalisation is done.
pub fn content_sha256<'m>(messages: impl IntoIterator<Item = (&'m str, &'m str)>) -> [u8; 32] {
    hash_of(messages.into_iter().map(|(role, content)| (role, Content::Text(content))))
}

/// A content in one of two forms.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'m> {
    /// As it reads.
    Text(&'m str),
    /// As JSON, without its quotes, with the escapes of RFC 8785 and no others.
    Escaped(&'m str),
}

/// The same over contents that may stand in canonical JSON already.
pub(super) fn hash_of<'m>(messages: impl IntoIterator<Item = (&'m str, Content<'m>)>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut open = "[{\"content\":\"";
    for (role, content) in messages {
        hash.update(open);
        open = ",{\"content\":\"";
        match content {
            Content::Text(text) => escape(text, |piece| hash.update(piece)),
            Content::Escaped(text) => hash.update(text),
        }
        hash.update("\",\"role\":\"");
        escape(role, |piece| hash.update(piece));
        hash.update("\"}");
    }
    // Without any message nothing was opened.
    hash.update(if open.starts_with('[') { "[]" } else { "]" });
    hash.finalize().into()
}

/// Gives a text as it stands between the quotes of canonical JSON, piece by piece; serde_json writes the same.
pub(super) fn escape(text: &str, mut put: impl FnMut(&str)) {
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    loop {
        let here = special_from(bytes, plain_from);
        put(&text[plain_from..here]);
        let Some(byte) = bytes.get(here) else { return };
        plain_from = here + 1;
        match byte {
            b'"' => put("\\\""),
            b'\\' => put("\\\\"),
            0x08 => put("\\b"),
            b'\t' => put("\\t"),
            b'\n' => put("\\n"),
            0x0c => put("\\f"),
            b'\r' => put("\\r"),
            byte => put(&format!("\\u{byte:04x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same form by another road: serde_json escapes as RFC 8785 asks, and the keys are written in order.
    fn expected(messages: &[(String, String)]) -> [u8; 32] {
        let objects: Vec<String> = messages
            .iter()
            .map(|(role, content)| {
                format!(
                    "{{\"content\":{},\"role\":{}}}",
                    serde_json::to_string(content).unwrap(),
                    serde_json::to_string(role).unwrap()
                )
            })
            .collect();
        Sha256::digest(format!("[{}]", objects.join(","))).into()
    }

    #[test]
    fn golden() {
        let hash = content_sha256([("user", "a\u{1f}\"\\\n\u{7f}é中"), ("assistant", "b")]);
        let text = "[{\"content\":\"a\\u001f\\\"\\\\\\n\u{7f}é中\",\"role\":\"user\"},{\"content\":\"b\",\"role\":\"assistant\"}]";
        assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(text)));
        assert_eq!(content_sha256([]), <[u8; 32]>::from(Sha256::digest("[]")));
    }

    proptest! {
        #[test]
        fn equals_json_written_by_another_road(messages in prop::collection::vec((any::<String>(), "(\\PC{0,40}[\"\n\\\\]?){0,4}"), 0..5)) {
            let pairs = messages.iter().map(|(role, content)| (role.as_str(), content.as_str()));
            prop_assert_eq!(content_sha256(pairs), expected(&messages));
        }
    }
}
