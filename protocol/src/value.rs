//! Wrappers that choose their form by codec: text for people (JSON), compact bytes for frames.

use std::borrow::Cow;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A SHA-256. Hexadecimal in JSON, 32 bytes in frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Hash {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Hash> {
        let bytes = unhex(text)?;
        Some(Hash(bytes.try_into().ok()?))
    }
}
impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}
impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            Hash::from_hex(&text).ok_or_else(|| serde::de::Error::custom("a SHA-256 has 64 hexadecimal digits"))
        } else {
            <[u8; 32]>::deserialize(d).map(Hash)
        }
    }
}

/// Bytes that need not be text. Hexadecimal in JSON, as they are in frames.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&self.0.iter().map(|b| format!("{b:02x}")).collect::<String>())
        } else {
            s.serialize_bytes(&self.0)
        }
    }
}
impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            unhex(&text).map(Bytes).ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))
        } else {
            Vec::<u8>::deserialize(d).map(Bytes)
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// A JSON value. As it is in JSON, as text in frames (bincode cannot describe itself).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Json(pub serde_json::Value);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { self.0.serialize(s) } else { s.serialize_str(&self.0.to_string()) }
    }
}
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            serde_json::Value::deserialize(d).map(Json)
        } else {
            let text = String::deserialize(d)?;
            serde_json::from_str(&text).map(Json).map_err(serde::de::Error::custom)
        }
    }
}

/// JSON that is passed on as it stands: nobody on its way takes it apart. As it is in JSON, where it is checked (what is none becomes a
/// string), as text in frames.
#[derive(Debug, Clone)]
pub struct JsonText(String);

impl JsonText {
    /// Takes a text that is JSON.
    pub fn new(text: impl Into<String>) -> JsonText {
        JsonText(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same without line ends, which are white space between values in JSON.
    pub fn in_one_line(&self) -> Cow<'_, str> {
        let bytes = self.0.as_bytes();
        match bytes.contains(&b'\n') || bytes.contains(&b'\r') {
            true => self.0.replace(['\n', '\r'], " ").into(),
            false => self.as_str().into(),
        }
    }

    /// What it says, null where it is no JSON. Whole numbers beyond 64 bits are rounded.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// Texts are equal that say the same.
impl PartialEq for JsonText {
    fn eq(&self, other: &JsonText) -> bool {
        let said = |text: &JsonText| serde_json::from_str::<serde_json::Value>(&text.0).ok();
        self.0 == other.0 || said(self).is_some_and(|value| said(other).as_ref() == Some(&value))
    }
}
impl Default for JsonText {
    fn default() -> JsonText {
        JsonText::new("null")
    }
}
impl From<&serde_json::Value> for JsonText {
    fn from(value: &serde_json::Value) -> JsonText {
        JsonText(value.to_string())
    }
}
impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if !s.is_human_readable() {
            return s.serialize_str(&self.0);
        }
        // A line ends a message of the socket.
        let line = self.in_one_line();
        match serde_json::from_str::<&RawValue>(&line) {
            Ok(raw) => raw.serialize(s),
            Err(_) => s.serialize_str(&self.0),
        }
    }
}
impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            serde_json::Value::deserialize(d).map(|value| JsonText::from(&value))
        } else {
            String::deserialize(d).map(JsonText)
        }
    }
}

/// An amount of money in pico-units of the store's currency: tokens × micro-units per million tokens.
/// A decimal string in JSON, because JSON numbers lose digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pico(pub i128);

impl Pico {
    /// Pico-units in one whole unit.
    pub const PER_UNIT: i128 = 1_000_000_000_000;

    /// Pico-units in a micro-unit.
    const PER_MICRO: i128 = Self::PER_UNIT / 1_000_000;

    /// Rounded to whole micro-units, half away from zero: what stands on an invoice line.
    pub fn to_micros(self) -> Pico {
        let half = Self::PER_MICRO / 2;
        Pico((self.0 + half * self.0.signum()) / Self::PER_MICRO * Self::PER_MICRO)
    }

    /// The amount in units with six digits, rounded half away from zero: for an invoice line only.
    pub fn rounded(self) -> String {
        let micros = self.to_micros().0 / Self::PER_MICRO;
        let sign = if micros < 0 { "-" } else { "" };
        format!("{sign}{}.{:06}", micros.abs() / 1_000_000, micros.abs() % 1_000_000)
    }
}
impl Add for Pico {
    type Output = Pico;
    fn add(self, other: Pico) -> Pico {
        Pico(self.0 + other.0)
    }
}
impl Sub for Pico {
    type Output = Pico;
    fn sub(self, other: Pico) -> Pico {
        Pico(self.0 - other.0)
    }
}
impl Sum for Pico {
    fn sum<I: Iterator<Item = Pico>>(amounts: I) -> Pico {
        amounts.fold(Pico(0), Add::add)
    }
}
impl Serialize for Pico {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(&self.0) } else { self.0.serialize(s) }
    }
}
impl<'de> Deserialize<'de> for Pico {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map(Pico).map_err(serde::de::Error::custom)
        } else {
            i128::deserialize(d).map(Pico)
        }
    }
}

/// One value of a metric. JSON has no NaN, so the three that are not numbers are words there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// An ordinary number.
    Finite(f64),
    /// Not a number: the run has diverged.
    NaN,
    /// Positive infinity.
    PosInf,
    /// Negative infinity.
    NegInf,
}

impl From<f64> for Metric {
    fn from(value: f64) -> Metric {
        match value {
            v if v.is_nan() => Metric::NaN,
            f64::INFINITY => Metric::PosInf,
            f64::NEG_INFINITY => Metric::NegInf,
            v => Metric::Finite(v),
        }
    }
}
impl Metric {
    /// The floating-point value.
    pub fn value(self) -> f64 {
        match self {
            Metric::Finite(v) => v,
            Metric::NaN => f64::NAN,
            Metric::PosInf => f64::INFINITY,
            Metric::NegInf => f64::NEG_INFINITY,
        }
    }
}
impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (s.is_human_readable(), self) {
            (true, Metric::NaN) => s.serialize_str("nan"),
            (true, Metric::PosInf) => s.serialize_str("inf"),
            (true, Metric::NegInf) => s.serialize_str("-inf"),
            _ => s.serialize_f64(self.value()),
        }
    }
}
impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if !d.is_human_readable() {
            return f64::deserialize(d).map(Metric::from);
        }
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::Number(n) => Ok(Metric::from(n.as_f64().unwrap_or(f64::NAN))),
            serde_json::Value::String(s) if s == "nan" => Ok(Metric::NaN),
            serde_json::Value::String(s) if s == "inf" => Ok(Metric::PosInf),
            serde_json::Value::String(s) if s == "-inf" => Ok(Metric::NegInf),
            other => Err(serde::de::Error::custom(format!("{other} is no metric value"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_json_is_passed_on_in_one_line() {
        let shown = |text: &str| serde_json::to_string(&JsonText::new(text)).unwrap();
        assert_eq!(shown(r#"{"n": 12345678901234567890123}"#), r#"{"n": 12345678901234567890123}"#, "digit by digit");
        assert_eq!(shown("{\n\"a\":\r1}"), r#"{ "a": 1}"#);
        assert_eq!(shown("no JSON"), r#""no JSON""#);
        let text = JsonText::new(r#"{"a": [1]}"#);
        assert_eq!(crate::wire::decode::<JsonText>(&crate::wire::encode(&text)).unwrap(), text);
    }

    #[test]
    fn money_rounds_once_and_away_from_zero() {
        assert_eq!(Pico(1_499_999).rounded(), "0.000001");
        assert_eq!(Pico(1_500_000).rounded(), "0.000002");
        assert_eq!(Pico(-1_500_000).rounded(), "-0.000002");
        assert_eq!(Pico(3 * Pico::PER_UNIT).rounded(), "3.000000");
    }

    #[test]
    fn metrics_that_are_not_numbers_survive_json() {
        for value in [1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let metric = Metric::from(value);
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric, "{json}");
        }
    }
}
