//! The store: one redb file. Lives here: opening, reading, and committing batches of puts durably. Never here:
//! a decision. Only this folder names redb.
//!
//! Every acknowledged commit is `Durability::Immediate` with quick repair (two-phase), so that a crash during
//! recovery cannot roll an acknowledged write back. After a failed commit the store is not written again:
//! the caller answers "not saved" and the daemon ends, because a page that failed to sync must not be trusted.

pub mod codec;
mod migrate;
mod tables;

use std::ops::ControlFlow;
use std::path::Path;

use redb::{Database, Durability, ReadableDatabase};

pub use tables::Table;

/// The number of this layout. A newer store is refused; older ones are brought to it in one commit.
pub const SCHEMA: u32 = 2;

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or is damaged.
    #[error("the store {path} cannot be opened: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What redb said.
        reason: String,
    },
    /// A store of a later hone.
    #[error("the store {path} has layout {found}, this honed knows {SCHEMA}: upgrade honed, or move the store away")]
    Newer {
        /// The file.
        path: String,
        /// Its layout number.
        found: u32,
    },
    /// Reading failed.
    #[error("the store cannot be read: {0}")]
    Read(String),
    /// Nothing of the batch was saved.
    #[error("not saved: {0}")]
    Write(String),
    /// A value is not what it should be.
    #[error("table {table}, key {key}: {reason}")]
    Value {
        /// The table.
        table: &'static str,
        /// The key in hexadecimal.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// One change. `None` deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The new value.
    pub value: Option<Vec<u8>>,
}

/// A half-open range of keys to delete, for what cannot be named one by one (metrics after a step).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Where.
    pub table: Table,
    /// First key to delete.
    pub from: Vec<u8>,
    /// First key to keep.
    pub to: Vec<u8>,
}

/// Changes that become durable together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Deleted ranges, carried out before the puts.
    pub sweeps: Vec<Sweep>,
    /// Puts in order; the last one on a key wins.
    pub puts: Vec<Put>,
}

impl Writes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.sweeps.is_empty() && self.puts.is_empty()
    }
    /// Adds a put.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.puts.push(Put { table, key: key.into(), value: Some(value) });
    }
    /// Adds a deletion.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.puts.push(Put { table, key: key.into(), value: None });
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The open store.
pub struct Store {
    database: Database,
}

/// Makes the file nobody else's to read, also where only its folder kept others out before.
fn own_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

impl Store {
    /// Opens or makes the store, checks its layout number, and makes the file's name durable.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let fail = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
        own_only(path).map_err(|e| fail(e.to_string()))?;
        let database = Database::builder().set_cache_size(64 << 20).create(path).map_err(|e| fail(e.to_string()))?;
        if let Some(folder) = path.parent() {
            // redb syncs the file, not the directory that names it.
            std::fs::File::open(folder).and_then(|d| d.sync_all()).map_err(|e| fail(e.to_string()))?;
        }
        let store = Store { database };
        store.make_tables().map_err(|e| fail(e.to_string()))?;
        match store.get(Table::Meta, b"schema")?.and_then(|v| v.try_into().ok()).map(u32::from_le_bytes) {
            None => {
                let mut writes = Writes::default();
                writes.put(Table::Meta, *b"schema", SCHEMA.to_le_bytes().to_vec());
                store.commit(&writes)?;
            }
            Some(found) if found < SCHEMA => migrate::from(&store, found)?,
            Some(found) if found > SCHEMA => {
                return Err(StoreError::Newer { path: path.display().to_string(), found });
            }
            Some(_) => {}
        }
        Ok(store)
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        for table in Table::ALL {
            txn.open_table(table.definition())?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Commits all changes or none, durably.
    pub fn commit(&self, writes: &Writes) -> Result<(), StoreError> {
        self.try_commit(writes).map_err(|e| StoreError::Write(e.to_string()))
    }

    fn try_commit(&self, writes: &Writes) -> Result<(), redb::Error> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        for sweep in &writes.sweeps {
            let mut table = txn.open_table(sweep.table.definition())?;
            table.retain_in(sweep.from.as_slice()..sweep.to.as_slice(), |_, _| false)?;
        }
        // One pass per table: opening a table is dearer than a put.
        for table in Table::ALL {
            let mut puts = writes.puts.iter().filter(|p| p.table == *table).peekable();
            if puts.peek().is_none() {
                continue;
            }
            let mut open = txn.open_table(table.definition())?;
            for put in puts {
                match &put.value {
                    Some(value) => drop(open.insert(put.key.as_slice(), value.as_slice())?),
                    None => drop(open.remove(put.key.as_slice())?),
                }
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// One value.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let txn = self.database.begin_read()?;
            let open = txn.open_table(table.definition())?;
            Ok(open.get(key)?.map(|v| v.value().to_vec()))
        };
        read().map_err(|e| StoreError::Read(e.to_string()))
    }

    /// Pairs whose key is in `from..to`, in order or backwards, at most `count`.
    pub fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        backwards: bool,
        count: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let read = || -> Result<Vec<Pair>, redb::Error> {
            let txn = self.database.begin_read()?;
            let open = txn.open_table(table.definition())?;
            let pairs = open.range(from..to)?;
            type Guarded<'t> = (redb::AccessGuard<'t, &'static [u8]>, redb::AccessGuard<'t, &'static [u8]>);
            let own = |pair: Result<Guarded<'_>, redb::StorageError>| {
                pair.map(|(k, v)| (k.value().to_vec(), v.value().to_vec()))
            };
            let found: Result<Vec<Pair>, _> = if backwards {
                pairs.rev().take(count).map(own).collect()
            } else {
                pairs.take(count).map(own).collect()
            };
            Ok(found?)
        };
        read().map_err(|e| StoreError::Read(e.to_string()))
    }

    /// Shows pairs whose key is in `from..to`, in order or backwards, until `look` has seen enough. For what is too much to
    /// hold at once.
    pub fn visit<E: From<StoreError>>(
        &self,
        table: Table,
        (from, to): (&[u8], &[u8]),
        backwards: bool,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let unread = |error: redb::Error| StoreError::Read(error.to_string());
        let txn = self.database.begin_read().map_err(|e| unread(e.into()))?;
        let open = txn.open_table(table.definition()).map_err(|e| unread(e.into()))?;
        let mut pairs = open.range(from..to).map_err(|e| unread(e.into()))?;
        while let Some(pair) = if backwards { pairs.next_back() } else { pairs.next() } {
            let (key, value) = pair.map_err(|e| unread(e.into()))?;
            if look(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Every pair whose key begins with `prefix`.
    pub fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.range(table, prefix, &after(prefix), false, usize::MAX)
    }
}

/// The first key after all keys with this prefix.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Every byte was 0xff (or there was none): longer than any key that is used.
    vec![u8::MAX; 64]
}

/// A key made of parts.
pub fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_batch_is_there_after_reopening_and_sweeps_come_first() {
        let (folder, store) = open();
        let mut writes = Writes::default();
        for step in 1u64..=5 {
            writes.put(Table::Metrics, key(&[b"run", &step.to_be_bytes()]), vec![1]);
        }
        store.commit(&writes).unwrap();
        let mut writes = Writes::default();
        writes.sweeps.push(Sweep {
            table: Table::Metrics,
            from: key(&[b"run", &3u64.to_be_bytes()]),
            to: after(b"run"),
        });
        writes.put(Table::Metrics, key(&[b"run", &4u64.to_be_bytes()]), vec![2]);
        store.commit(&writes).unwrap();
        drop(store);
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let steps: Vec<_> = store.prefix(Table::Metrics, b"run").unwrap().into_iter().map(|(_, v)| v[0]).collect();
        assert_eq!(steps, [1, 1, 2]);
        let last = store.range(Table::Metrics, b"run", &after(b"run"), true, 1).unwrap();
        assert_eq!(last[0].1, [2]);
    }

    #[test]
    fn a_store_of_a_later_layout_is_refused_with_both_numbers() {
        let (folder, store) = open();
        let mut writes = Writes::default();
        writes.put(Table::Meta, *b"schema", 9u32.to_le_bytes().to_vec());
        store.commit(&writes).unwrap();
        drop(store);
        let error = Store::open(&folder.path().join("store.redb")).err().unwrap().to_string();
        assert!(error.contains("layout 9") && error.contains(&SCHEMA.to_string()), "{error}");
    }

    #[test]
    fn the_key_after_a_prefix_is_after_all_its_keys() {
        assert_eq!(after(b"ab"), b"ac");
        assert_eq!(after(&[1, 255]), [2]);
        assert!(after(&[255, 255]) > vec![255, 255, 255]);
    }
}
