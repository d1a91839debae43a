//! API keys: making, hashing and comparing them. A key is `hone_<26 characters of its id>_<52 of its secret>`;
//! the secret has 256 random bits, so a plain SHA-256 is enough to store. Never here: storing anything.

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::KeyId;
use hone_protocol::value::Hash;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Makes the text of a key. Fails only when the system has no randomness to give.
pub(crate) fn make(id: KeyId) -> Result<String, Failure> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(FailureCode::Internal, format!("the system gave no random bytes: {e}")))?;
    let mut text = format!("hone_{}_", id.to_string().trim_start_matches("key-"));
    for bit in (0..256).step_by(5) {
        let value = (0..5).fold(0u8, |value, i| {
            let at = bit + i;
            let one = at < 256 && bytes[at / 8] >> (7 - at % 8) & 1 == 1;
            value << 1 | u8::from(one)
        });
        text.push(ALPHABET[usize::from(value)] as char);
    }
    Ok(text)
}

/// What is stored of a key.
pub(crate) fn hash(text: &str) -> Hash {
    Hash(Sha256::digest(text.as_bytes()).into())
}

/// HMAC-SHA256 (RFC 2104) in hexadecimal.
pub(crate) fn hmac_hex(key: &[u8], message: &[u8]) -> String {
    const BLOCK: usize = 64;
    let mut block = [0u8; BLOCK];
    match key.len() > BLOCK {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let with = |pad: u8, rest: &[u8]| {
        let mut hasher = Sha256::new();
        hasher.update(block.map(|byte| byte ^ pad));
        hasher.update(rest);
        hasher.finalize()
    };
    let outer = with(0x5c, &with(0x36, message));
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id that a key's text claims.
pub(crate) fn claimed_id(text: &str) -> Option<KeyId> {
    let (id, _) = text.strip_prefix("hone_")?.split_once('_')?;
    format!("key-{id}").parse().ok()
}

/// Whether a text is the key of this hash, in constant time.
pub(crate) fn matches(text: &str, stored: &Hash) -> bool {
    hash(text).0.ct_eq(&stored.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, wanted) in cases {
            assert_eq!(hmac_hex(key, message), wanted);
        }
    }

    #[test]
    fn a_key_names_its_id_and_matches_only_itself() {
        let id: KeyId = crate::clock::new_id();
        let text = make(id).unwrap();
        assert_eq!(text.len(), 5 + 26 + 1 + 52);
        assert_eq!(claimed_id(&text), Some(id));
        assert!(matches(&text, &hash(&text)));
        assert!(!matches(&make(id).unwrap(), &hash(&text)));
        assert_eq!(claimed_id("sk-abc"), None);
    }
}
