//! From older layouts to this one, in one commit. Never here: the layout of today.

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::id::{ApplicationId, KeyId, LedgerId, ServiceId, VersionId};
use hone_protocol::service::Price;
use hone_protocol::value::Pico;
use serde::{Deserialize, Serialize};

use super::{SCHEMA, Store, StoreError, Table, Writes, codec};
use crate::sums::Sums;

/// Brings a store of layout `found` to this one.
pub(super) fn from(store: &Store, found: u32) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    if found < 2 {
        to_2(store, &mut writes)?;
    }
    writes.put(Table::Meta, *b"schema", SCHEMA.to_le_bytes().to_vec());
    store.commit(&writes)
}

/// A ledger row of layout 1.
#[derive(Debug, Serialize, Deserialize)]
struct Row1 {
    id: LedgerId,
    application: ApplicationId,
    key: Option<KeyId>,
    service: ServiceId,
    version: VersionId,
    opened_at_ms: i64,
    day: String,
    closed_at_ms: Option<i64>,
    outcome: Outcome,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    price: Price,
    amount: Pico,
    user: String,
    first_token_ms: Option<u32>,
}

/// Rows gained `metadata` and `total_ms`; sums are told apart by price, key and user.
fn to_2(store: &Store, writes: &mut Writes) -> Result<(), StoreError> {
    let mut sums = Sums::default();
    for (key, value) in store.prefix(Table::Ledger, b"")? {
        let old: Row1 = codec::read(Table::Ledger, &key, &value)?;
        let row = LedgerRow {
            id: old.id,
            application: old.application,
            key: old.key,
            service: old.service,
            version: old.version,
            opened_at_ms: old.opened_at_ms,
            day: old.day,
            closed_at_ms: old.closed_at_ms,
            outcome: old.outcome,
            prompt_tokens: old.prompt_tokens,
            cached_tokens: old.cached_tokens,
            completion_tokens: old.completion_tokens,
            price: old.price,
            amount: old.amount,
            user: old.user,
            metadata: Vec::new(),
            first_token_ms: old.first_token_ms,
            total_ms: None,
        };
        writes.put(Table::Ledger, key, codec::row(&row));
        // Open rows come into the sums when the start closes them.
        if row.closed_at_ms.is_some() {
            sums.add(&row, writes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key;

    #[test]
    fn rows_of_layout_1_are_kept_and_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let row = |number: u8, closed_at_ms| Row1 {
            id: LedgerId::from_bytes([number; 16]),
            application: ApplicationId::from_bytes([1; 16]),
            key: Some(KeyId::from_bytes([2; 16])),
            service: ServiceId::from_bytes([3; 16]),
            version: VersionId::from_bytes([4; 16]),
            opened_at_ms: 5,
            day: "2026-11-28".into(),
            closed_at_ms,
            outcome: Outcome::Complete,
            prompt_tokens: 10,
            cached_tokens: 4,
            completion_tokens: 7,
            price: Price { input_micros: Some(1), cached_micros: None, output_micros: Some(2) },
            amount: Pico(24),
            user: "lin".into(),
            first_token_ms: Some(9),
        };
        let store = Store::open(&path).unwrap();
        let mut writes = Writes::default();
        for row in [row(1, Some(6)), row(2, Some(7)), row(3, None)] {
            writes.put(Table::Ledger, key(&[row.application.bytes(), row.id.bytes()]), codec::row(&row));
        }
        writes.put(Table::Meta, *b"schema", 1u32.to_le_bytes().to_vec());
        store.commit(&writes).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        let rows: Vec<LedgerRow> = codec::read_all(Table::Ledger, &store.prefix(Table::Ledger, b"").unwrap()).unwrap();
        assert_eq!((rows.len(), rows[1].user.as_str(), rows[1].amount), (3, "lin", Pico(24)));
        let sums = Sums::load(&store).unwrap();
        let all = sums.of(ApplicationId::from_bytes([1; 16]));
        assert_eq!((all.requests, all.completion_tokens, all.amount), (2, 14, Pico(48)));
        assert_eq!(store.prefix(Table::UserSums, b"").unwrap().len(), 1);
        assert_eq!(store.get(Table::Meta, b"schema").unwrap().unwrap(), SCHEMA.to_le_bytes());
    }
}
