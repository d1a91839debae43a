//! Identifiers: UUIDv7, 16 bytes, shown as a type prefix and 26 base32 characters (Crockford's alphabet).
//! Made in the daemon, where clock and randomness are; here they are only carried and written.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What an identifier names.
pub trait Kind {
    /// The word before the dash.
    const PREFIX: &'static str;
}

/// An identifier of one kind of thing.
pub struct Id<K> {
    bytes: [u8; 16],
    kind: PhantomData<fn() -> K>,
}

impl<K> Id<K> {
    /// Wraps 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// The 16 bytes; UUIDv7 sorts by time of making.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// The Unix milliseconds that a UUIDv7 carries in its first six bytes.
    pub fn made_at_ms(&self) -> i64 {
        self.bytes[..6].iter().fold(0, |ms, byte| ms << 8 | i64::from(*byte))
    }

    /// The last eight characters: enough to tell things apart on a screen.
    pub fn short(&self) -> String {
        base32(&self.bytes)[18..].to_owned()
    }
}

fn base32(bytes: &[u8; 16]) -> String {
    let number = u128::from_be_bytes(*bytes);
    // 26 characters carry 130 bits; the first holds only the top three.
    (0..26).map(|i| ALPHABET[(number >> (125 - 5 * i) & 31) as usize] as char).collect()
}

/// Why a text is no identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an id of the form {prefix}-XXXXXXXXXXXXXXXXXXXXXXXXXX")]
pub struct IdError {
    text: String,
    prefix: &'static str,
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = || IdError { text: text.chars().take(64).collect(), prefix: K::PREFIX };
        let digits = text.strip_prefix(K::PREFIX).and_then(|t| t.strip_prefix('-')).ok_or_else(fail)?;
        if digits.len() != 26 {
            return Err(fail());
        }
        let mut number: u128 = 0;
        for (i, c) in digits.bytes().enumerate() {
            let value = ALPHABET.iter().position(|a| *a == c).ok_or_else(fail)? as u128;
            if i == 0 && value > 7 {
                return Err(fail());
            }
            number = number << 5 | value;
        }
        Ok(Self::from_bytes(number.to_be_bytes()))
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", K::PREFIX, base32(&self.bytes))
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}
impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.bytes.serialize(serializer) }
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self::from_bytes)
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $marker:ident, $alias:ident, $prefix:literal;)*) => {$(
        #[doc = concat!("Marker of [`", stringify!($alias), "`].")]
        #[derive(Debug)]
        pub enum $marker {}
        impl Kind for $marker { const PREFIX: &'static str = $prefix; }
        $(#[$doc])*
        pub type $alias = Id<$marker>;
    )*};
}
kinds! {
    /// A job: what was asked for.
    Job, JobId, "job";
    /// A named line of weights.
    Model, ModelId, "model";
    /// An immutable state of a model.
    Version, VersionId, "ver";
    /// A named set of rows.
    Dataset, DatasetId, "data";
    /// An immutable state of a dataset.
    DatasetVersion, DatasetVersionId, "dver";
    /// Rows and scorers.
    Suite, SuiteId, "suite";
    /// One run of a suite on a version.
    Evaluation, EvaluationId, "eval";
    /// What can be called.
    Service, ServiceId, "svc";
    /// Who calls and who pays.
    Application, ApplicationId, "app";
    /// An API key of an application.
    Key, KeyId, "key";
    /// A metered request: a row of the ledger.
    LedgerEntry, LedgerId, "req";
    /// Computing that somebody pays for: another row of the ledger.
    ComputeEntry, ComputeId, "use";
    /// A file that an application uploaded.
    File, FileId, "file";
    /// Something that somebody may want to be told of.
    Alert, AlertId, "alert";
    /// Who is told.
    Hook, HookId, "hook";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let id = JobId::from_bytes([0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xfe]);
        let text = id.to_string();
        assert_eq!(text.len(), "job-".len() + 26);
        assert_eq!(text.parse::<JobId>().unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("{text:?}"));
        assert!(text.ends_with(&id.short()));
    }

    #[test]
    fn foreign_prefixes_and_overflow_are_refused() {
        assert!("model-00000000000000000000000000".parse::<JobId>().is_err());
        assert!("job-z0000000000000000000000000".parse::<JobId>().is_err());
        assert!("job-0000".parse::<JobId>().is_err());
    }
}
