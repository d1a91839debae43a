//! Sums over closed ledger rows: by day, service and price, which the dispatcher holds in memory because budgets look at them,
//! and by key and user, which only readers hold. Lives here: the layout of their keys, adding a row. Never here: a limit, a page.

use std::collections::{BTreeMap, HashMap};

use hone_protocol::application::{LedgerRow, Usage};
use hone_protocol::id::{ApplicationId, KeyId, ServiceId};
use hone_protocol::service::Price;
use hone_protocol::usage::{ComputePrice, ComputeRow, ComputeUsage, ReservedRow, ReservedUsage};
use hone_protocol::value::Pico;

use crate::clock;
use crate::store::{Store, StoreError, Table, Writes, codec, key};

/// Bytes of `YYYY-MM-DD`, and of an identifier.
const DAY_BYTES: usize = 10;
const ID_BYTES: usize = 16;
/// Sums by user that are held at once. Beyond it a new part is begun, and readers add the parts up: so nobody ever has to read a
/// sum before adding to it.
const USERS_HELD_MAX: usize = 10_000;

/// Sums by day, service and price, and by day and kind of computing, of all time; by key and user of what was added lately.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    days: BTreeMap<Vec<u8>, Usage>,
    compute: BTreeMap<Vec<u8>, ComputeUsage>,
    reserved: BTreeMap<Vec<u8>, ReservedUsage>,
    users: HashMap<Vec<u8>, Usage>,
    /// The part that `users` is; made with its first entry.
    part: [u8; ID_BYTES],
}

/// What the sums of a service and price are told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DayKey {
    /// Billing day.
    pub(crate) day: String,
    /// The service.
    pub(crate) service: ServiceId,
    /// The price.
    pub(crate) price: Price,
}

/// What the sums of a key and user are told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserKey {
    /// Billing day.
    pub(crate) day: String,
    /// The service.
    pub(crate) service: ServiceId,
    /// The key; none for the socket.
    pub(crate) key: Option<KeyId>,
    /// OpenAI `user`.
    pub(crate) user: String,
}

/// What the sums of computing are told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComputeKey {
    /// Billing day.
    pub(crate) day: String,
    /// The price.
    pub(crate) price: ComputePrice,
    /// The kind of job, or `serving`.
    pub(crate) kind: String,
}

/// What the sums of reserved time are told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReservedKey {
    /// Billing day.
    pub(crate) day: String,
    /// The service.
    pub(crate) service: ServiceId,
    /// The price of an hour.
    pub(crate) hour_micros: u64,
}

/// A number that may be missing, in nine bytes that sort: missing first.
fn number(number: Option<u64>) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[0] = u8::from(number.is_some());
    bytes[1..].copy_from_slice(&number.unwrap_or(0).to_be_bytes());
    bytes
}

/// Takes the front of a key apart.
struct Front<'k>(&'k [u8]);

impl<'k> Front<'k> {
    fn bytes(&mut self, count: usize) -> Option<&'k [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }
    fn id(&mut self) -> Option<[u8; ID_BYTES]> {
        self.bytes(ID_BYTES)?.try_into().ok()
    }
    fn day(&mut self) -> Option<String> {
        String::from_utf8(self.bytes(DAY_BYTES)?.to_vec()).ok()
    }
    fn number(&mut self) -> Option<Option<u64>> {
        let (is_there, bytes) = self.bytes(9)?.split_first()?;
        let number = u64::from_be_bytes(bytes.try_into().ok()?);
        Some((*is_there == 1).then_some(number))
    }
}

/// The application that the key of a sum begins with.
pub(crate) fn application_of(key: &[u8]) -> Option<ApplicationId> {
    Front(key).id().map(ApplicationId::from_bytes)
}

impl DayKey {
    fn bytes(row: &LedgerRow) -> Vec<u8> {
        let Price { input_micros, cached_micros, output_micros } = row.price;
        let price = [input_micros, cached_micros, output_micros].map(number).concat();
        key(&[row.application.bytes(), row.day.as_bytes(), row.service.bytes(), &price])
    }

    /// Reads the key of [`Table::Sums`].
    pub(crate) fn read(key: &[u8]) -> Option<DayKey> {
        let mut front = Front(key.get(ID_BYTES..)?);
        let (day, service) = (front.day()?, ServiceId::from_bytes(front.id()?));
        let (input_micros, cached_micros, output_micros) = (front.number()?, front.number()?, front.number()?);
        Some(DayKey { day, service, price: Price { input_micros, cached_micros, output_micros } })
    }
}

impl UserKey {
    /// Without the part, which stands before the user.
    fn bytes(row: &LedgerRow) -> Vec<u8> {
        let by = row.key.map_or([0; ID_BYTES], |key| *key.bytes());
        key(&[row.application.bytes(), row.day.as_bytes(), row.service.bytes(), &by, row.user.as_bytes()])
    }

    /// Reads the key of [`Table::UserSums`].
    pub(crate) fn read(key: &[u8]) -> Option<UserKey> {
        let mut front = Front(key.get(ID_BYTES..)?);
        let (day, service, by) = (front.day()?, ServiceId::from_bytes(front.id()?), front.id()?);
        front.id()?;
        let user = String::from_utf8(front.0.to_vec()).ok()?;
        Some(UserKey { day, service, key: (by != [0; ID_BYTES]).then(|| KeyId::from_bytes(by)), user })
    }
}

impl ComputeKey {
    fn bytes(row: &ComputeRow) -> Vec<u8> {
        let price = [row.price.core_hour_micros, row.price.gpu_hour_micros].map(number).concat();
        key(&[row.application.bytes(), row.day.as_bytes(), &price, row.what.kind().as_bytes()])
    }

    /// Reads the key of [`Table::ComputeSums`].
    pub(crate) fn read(key: &[u8]) -> Option<ComputeKey> {
        let mut front = Front(key.get(ID_BYTES..)?);
        let day = front.day()?;
        let (core_hour_micros, gpu_hour_micros) = (front.number()?, front.number()?);
        let kind = String::from_utf8(front.0.to_vec()).ok()?;
        Some(ComputeKey { day, price: ComputePrice { core_hour_micros, gpu_hour_micros }, kind })
    }
}

impl ReservedKey {
    fn bytes(row: &ReservedRow) -> Vec<u8> {
        let price = row.hour_micros.to_be_bytes();
        key(&[row.application.bytes(), row.day.as_bytes(), row.service.bytes(), &price])
    }

    /// Reads the key of [`Table::ReservedSums`].
    pub(crate) fn read(key: &[u8]) -> Option<ReservedKey> {
        let mut front = Front(key.get(ID_BYTES..)?);
        let (day, service) = (front.day()?, ServiceId::from_bytes(front.id()?));
        Some(ReservedKey { day, service, hour_micros: u64::from_be_bytes(front.0.try_into().ok()?) })
    }
}

impl Sums {
    /// Reads what budgets look at. Sums by user stay in the store.
    pub(crate) fn load(store: &Store) -> Result<Sums, StoreError> {
        let mut sums = Sums::default();
        for (key, value) in store.prefix(Table::Sums, b"")? {
            let sum = codec::read(Table::Sums, &key, &value)?;
            sums.days.insert(key, sum);
        }
        for (key, value) in store.prefix(Table::ComputeSums, b"")? {
            let sum = codec::read(Table::ComputeSums, &key, &value)?;
            sums.compute.insert(key, sum);
        }
        for (key, value) in store.prefix(Table::ReservedSums, b"")? {
            let sum = codec::read(Table::ReservedSums, &key, &value)?;
            sums.reserved.insert(key, sum);
        }
        Ok(sums)
    }

    /// Adds a closed row.
    pub(crate) fn add(&mut self, row: &LedgerRow, writes: &mut Writes) {
        let by_day = DayKey::bytes(row);
        let sum = self.days.entry(by_day.clone()).or_default();
        sum.add(row);
        writes.put(Table::Sums, by_day, codec::row(sum));

        let by_user = UserKey::bytes(row);
        if self.users.is_empty() || (self.users.len() >= USERS_HELD_MAX && !self.users.contains_key(&by_user)) {
            self.users.clear();
            self.part = *clock::new_id::<()>().bytes();
        }
        let sum = self.users.entry(by_user.clone()).or_default();
        sum.add(row);
        let (front, user) = by_user.split_at(3 * ID_BYTES + DAY_BYTES);
        writes.put(Table::UserSums, key(&[front, &self.part, user]), codec::row(sum));
    }

    /// Adds computing.
    pub(crate) fn add_compute(&mut self, row: &ComputeRow, writes: &mut Writes) {
        let by_kind = ComputeKey::bytes(row);
        let sum = self.compute.entry(by_kind.clone()).or_default();
        sum.add(row);
        writes.put(Table::ComputeSums, by_kind, codec::row(sum));
    }

    /// Adds reserved time.
    pub(crate) fn add_reserved(&mut self, row: &ReservedRow, writes: &mut Writes) {
        let by_price = ReservedKey::bytes(row);
        let sum = self.reserved.entry(by_price.clone()).or_default();
        sum.add(row);
        writes.put(Table::ReservedSums, by_price, codec::row(sum));
    }

    /// What an application spent on days that begin with `days`: a month `YYYY-MM`, a day.
    pub(crate) fn spent(&self, application: ApplicationId, days: &str) -> Pico {
        let prefix = key(&[application.bytes(), days.as_bytes()]);
        let of = |key: &Vec<u8>| key.starts_with(&prefix);
        let tokens = self.days.range(prefix.clone()..).take_while(|(key, _)| of(key)).map(|(_, sum)| sum.amount);
        let compute = self.compute.range(prefix.clone()..).take_while(|(key, _)| of(key)).map(|(_, sum)| sum.amount);
        let reserved = self.reserved.range(prefix.clone()..).take_while(|(key, _)| of(key)).map(|(_, sum)| sum.amount);
        tokens.chain(compute).chain(reserved).sum()
    }

    /// Requests of all time.
    #[cfg(test)]
    pub(crate) fn of(&self, application: ApplicationId) -> Usage {
        let mut all = Usage::default();
        self.days
            .iter()
            .filter(|(key, _)| application_of(key) == Some(application))
            .for_each(|(_, sum)| all.merge(sum));
        all
    }
}

#[cfg(test)]
mod tests {
    use hone_protocol::application::Outcome;
    use hone_protocol::id::{LedgerId, VersionId};

    use super::*;

    fn row(number: u64, user: &str) -> LedgerRow {
        LedgerRow {
            id: LedgerId::from_bytes([1; 16]),
            application: ApplicationId::from_bytes([2; 16]),
            key: number.is_multiple_of(2).then(|| KeyId::from_bytes([3; 16])),
            service: ServiceId::from_bytes([4; 16]),
            version: VersionId::from_bytes([5; 16]),
            opened_at_ms: 0,
            day: format!("2026-11-{:02}", 1 + number % 28),
            closed_at_ms: Some(1),
            outcome: Outcome::Complete,
            prompt_tokens: number,
            cached_tokens: 0,
            completion_tokens: 1,
            price: Price { input_micros: Some(1), cached_micros: None, output_micros: Some(number % 3) },
            amount: Pico(i128::from(number)),
            user: user.to_owned(),
            metadata: Vec::new(),
            first_token_ms: None,
            total_ms: None,
        }
    }

    #[test]
    fn more_users_than_are_held_are_parts_that_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let (mut sums, mut writes) = (Sums::default(), Writes::default());
        // Each user comes twice, the second time when the first is no longer held.
        let users = USERS_HELD_MAX as u64 + 100;
        for number in (0..users).chain(0..users) {
            sums.add(&row(number, &format!("user {number}")), &mut writes);
        }
        store.commit(&writes).unwrap();
        let (mut by_user, mut pairs): (BTreeMap<String, Usage>, usize) = (BTreeMap::new(), 0);
        for (key, value) in store.prefix(Table::UserSums, b"").unwrap() {
            let sum: Usage = codec::read(Table::UserSums, &key, &value).unwrap();
            by_user.entry(UserKey::read(&key).unwrap().user).or_default().merge(&sum);
            pairs += 1;
        }
        assert_eq!(by_user.len() as u64, users);
        assert!(pairs as u64 > users, "nobody's sum was read before adding to it");
        assert!(by_user.iter().all(|(user, sum)| sum.requests == 2
            && user.ends_with(&format!(" {}", sum.prompt_tokens / 2))
            && sum.amount.0 == i128::from(sum.prompt_tokens)));
        let by_day: Usage =
            store.prefix(Table::Sums, b"").unwrap().iter().fold(Usage::default(), |mut all, (key, value)| {
                assert!(DayKey::read(key).unwrap().day.starts_with("2026-11-"));
                all.merge(&codec::read(Table::Sums, key, value).unwrap());
                all
            });
        assert_eq!((by_day.requests, by_day.amount.0), (2 * users, i128::from(users * (users - 1))));
        assert_eq!(sums.spent(ApplicationId::from_bytes([2; 16]), "2026-11"), by_day.amount);
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let row = row(7, "行 🦀");
        let key = DayKey::bytes(&row);
        let read = DayKey::read(&key).unwrap();
        assert_eq!((read.day, read.service, read.price), (row.day.clone(), row.service, row.price));
        assert_eq!(DayKey::read(&key[..key.len() - 1]), None, "a key that is cut is no key");
        let bytes = UserKey::bytes(&row);
        let (front, user) = bytes.split_at(3 * ID_BYTES + DAY_BYTES);
        let read = UserKey::read(&[front, &[9; ID_BYTES], user].concat()).unwrap();
        assert_eq!((read.key, read.user.as_str()), (None, "行 🦀"));
    }
}
