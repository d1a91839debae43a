//! How values are written: one format byte, then JSON for the records that people make (so that a later hone
//! can add a field without touching old rows), bincode for rows that come by the thousand.

use hone_protocol::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Pair, StoreError, Table};

/// Format byte of JSON records, layout 1.
const JSON_1: u8 = b'j';
/// Format byte of bincode rows, layout 1.
const BINCODE_1: u8 = 1;

/// Writes a record as JSON.
pub fn record<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![JSON_1];
    serde_json::to_writer(&mut bytes, value).expect("records are plain data and memory does not fail");
    bytes
}

/// Writes a row compactly.
pub fn row<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![BINCODE_1];
    bytes.extend(wire::encode(value));
    bytes
}

/// Reads either form.
pub fn read<T: DeserializeOwned>(table: Table, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let fail = |reason: String| StoreError::Value {
        table: table.name(),
        key: key.iter().map(|b| format!("{b:02x}")).collect(),
        reason,
    };
    match bytes.split_first() {
        Some((&JSON_1, rest)) => serde_json::from_slice(rest).map_err(|e| fail(e.to_string())),
        Some((&BINCODE_1, rest)) => wire::decode(rest).map_err(|e| fail(e.to_string())),
        Some((other, _)) => Err(fail(format!("unknown format byte {other}"))),
        None => Err(fail("empty value".into())),
    }
}

/// Reads the values of many pairs.
pub fn read_all<T: DeserializeOwned>(table: Table, pairs: &[Pair]) -> Result<Vec<T>, StoreError> {
    pairs.iter().map(|(key, value)| read(table, key, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_damage_names_table_and_key() {
        assert_eq!(read::<u32>(Table::Jobs, b"k", &record(&7u32)).unwrap(), 7);
        assert_eq!(read::<u32>(Table::Jobs, b"k", &row(&7u32)).unwrap(), 7);
        let error = read::<u32>(Table::Jobs, b"k", &[9, 9]).unwrap_err().to_string();
        assert_eq!(error, "table jobs, key 6b: unknown format byte 9");
    }
}
