//! Applications: what they may call, ask for and spend, and their keys. Never here: whether a request may begin (`limits`).

use std::sync::Arc;

use hone_protocol::application::{ApplicationRecord, Budget, BudgetKind, KeyRecord, Limits, Payment, Services};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ApplicationId, Id, KeyId};
use hone_protocol::pool::Priority;
use hone_protocol::request::Answer;
use hone_protocol::value::Pico;

use super::commands::check_name;
use super::{Decider, Subject};
use crate::clock::new_id;
use crate::secret;
use crate::state::OWNER;
use crate::store::{Table, codec, key};

/// Longest label of a key and note of a payment, in characters.
const LABEL_CHARS_MAX: usize = 64;
/// Longest time that two keys overlap: a year.
const OVERLAP_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// Largest amount that is taken: 10^12 units, far from the end of what sums hold.
const AMOUNT_MAX: i128 = 1_000_000_000_000 * Pico::PER_UNIT;
/// A key's last use is noted no more often than this.
const USE_NOTED_MS: i64 = 60_000;

impl Decider {
    pub(super) fn set_application(
        &mut self,
        person: &str,
        name: &str,
        title: &str,
        services: &[String],
        priority: Option<Priority>,
    ) -> Result<Answer, Failure> {
        check_name("application", name)?;
        let listed = services.iter().map(|s| self.state.service(s).map(|s| s.id)).collect::<Result<Vec<_>, _>>()?;
        let before = self.state.application(name).ok().cloned();
        let application = ApplicationRecord {
            id: before.as_ref().map_or_else(new_id, |b| b.id),
            name: name.to_owned(),
            title: title.to_owned(),
            services: if listed.is_empty() { Services::All } else { Services::Listed(listed) },
            limits: before.as_ref().and_then(|b| b.limits),
            budget: before.as_ref().and_then(|b| b.budget),
            log: before.as_ref().and_then(|b| b.log),
            priority: priority.or(before.as_ref().and_then(|b| b.priority)),
            created_at_ms: before.as_ref().map_or(self.now_ms, |b| b.created_at_ms),
            created_by: before.as_ref().map_or_else(|| person.to_owned(), |b| b.created_by.clone()),
        };
        self.put_application(application);
        Ok(Answer::Done)
    }

    pub(super) fn put_application(&mut self, application: ApplicationRecord) {
        self.writes.put(Table::Applications, *application.id.bytes(), codec::record(&application));
        let id = application.id;
        self.dirty.insert(Subject::Application(id));
        Arc::make_mut(&mut self.state.applications).insert(id, Arc::new(application));
        self.publish_left(id);
    }

    /// At start: the application that pays for jobs is always there.
    pub(super) fn make_owner(&mut self) {
        if self.state.application(OWNER).is_err() {
            let owner = ApplicationRecord {
                id: new_id(),
                name: OWNER.to_owned(),
                title: String::new(),
                services: Services::All,
                limits: None,
                budget: None,
                log: None,
                priority: None,
                created_at_ms: self.now_ms,
                created_by: String::new(),
            };
            self.put_application(owner);
        }
    }

    pub(super) fn set_limits(&mut self, name: &str, limits: Limits, budget: BudgetKind) -> Result<Answer, Failure> {
        let mut application = (**self.state.application(name)?).clone();
        let each = [
            ("requests_per_minute", limits.requests_per_minute),
            ("tokens_per_minute", limits.tokens_per_minute),
            ("parallel", limits.parallel),
        ];
        if let Some((field, _)) = each.iter().find(|(_, limit)| *limit == Some(0)) {
            let message = format!("{field} is 0, which would let nothing begin; leave it out for no limit");
            return Err(Failure::field(field, message));
        }
        application.limits = (limits != Limits::default()).then_some(limits);
        application.budget = match (budget, application.budget) {
            (BudgetKind::None, _) => None,
            (BudgetKind::Monthly(amount), _) => {
                bounded(amount)?;
                Some(Budget::Monthly { amount })
            }
            (BudgetKind::Prepaid, Some(before @ Budget::Prepaid { .. })) => Some(before),
            (BudgetKind::Prepaid, _) => {
                Some(Budget::Prepaid { paid: Pico(0), used_before: self.spent(application.id) })
            }
        };
        self.put_application(application);
        Ok(Answer::Done)
    }

    pub(super) fn pay(&mut self, person: &str, name: &str, amount: Pico, note: &str) -> Result<Answer, Failure> {
        let mut application = (**self.state.application(name)?).clone();
        bounded(Pico(amount.0.abs()))?;
        if note.chars().count() > LABEL_CHARS_MAX {
            return Err(Failure::field("note", format!("note is longer than {LABEL_CHARS_MAX} characters")));
        }
        let Some(Budget::Prepaid { paid, .. }) = &mut application.budget else {
            let message = format!("{name} has no prepaid budget; give it one first (hone app limit {name} --prepaid)");
            return Err(Failure::new(FailureCode::WrongState, message).at("application"));
        };
        *paid = *paid + amount;
        bounded(Pico(paid.0.abs()))?;
        let payment = Payment {
            application: application.id,
            at_ms: self.now_ms,
            amount,
            note: note.to_owned(),
            person: person.to_owned(),
        };
        let id: Id<Payment> = new_id();
        self.writes.put(Table::Payments, key(&[application.id.bytes(), id.bytes()]), codec::record(&payment));
        self.put_application(application);
        Ok(Answer::Done)
    }

    pub(super) fn create_key(
        &mut self,
        application: &str,
        label: &str,
        expires_at_ms: Option<i64>,
    ) -> Result<Answer, Failure> {
        let application = self.state.application(application)?.id;
        if expires_at_ms.is_some_and(|end| end <= self.now_ms) {
            return Err(Failure::field("expires_at_ms", "the key would have ended already"));
        }
        self.make_key(application, label, expires_at_ms)
    }

    fn make_key(
        &mut self,
        application: ApplicationId,
        label: &str,
        expires_at_ms: Option<i64>,
    ) -> Result<Answer, Failure> {
        if label.chars().count() > LABEL_CHARS_MAX {
            return Err(Failure::field("label", format!("label is longer than {LABEL_CHARS_MAX} characters")));
        }
        let id: KeyId = new_id();
        let text = secret::make(id)?;
        let key = KeyRecord {
            id,
            application,
            sha256: secret::hash(&text),
            label: label.to_owned(),
            created_at_ms: self.now_ms,
            revoked_at_ms: None,
            expires_at_ms,
            last_used_at_ms: None,
        };
        self.put_key(key);
        Ok(Answer::Key { key: id, secret: text })
    }

    fn put_key(&mut self, key: KeyRecord) {
        self.writes.put(Table::Keys, *key.id.bytes(), codec::record(&key));
        self.dirty.insert(Subject::Application(key.application));
        Arc::make_mut(&mut self.state.keys).insert(key.id, Arc::new(key));
    }

    fn known_key(&self, id: KeyId) -> Result<KeyRecord, Failure> {
        self.state.keys.get(&id).map(|key| (**key).clone()).ok_or_else(|| Failure::not_found("key", &id.to_string()))
    }

    /// A new key with the old one's label and end; the old one ends after the overlap, or before if it would have.
    pub(super) fn rotate_key(&mut self, id: KeyId, overlap_ms: u64) -> Result<Answer, Failure> {
        let mut old = self.known_key(id)?;
        if !old.is_live(self.now_ms) {
            return Err(Failure::new(FailureCode::WrongState, "the key has ended; make a new one").at("key"));
        }
        if overlap_ms > OVERLAP_MS_MAX {
            return Err(Failure::field("overlap_ms", "two keys may overlap by a year at most"));
        }
        let made = self.make_key(old.application, &old.label.clone(), old.expires_at_ms)?;
        let end = self.now_ms + overlap_ms as i64;
        old.expires_at_ms = Some(old.expires_at_ms.map_or(end, |before| before.min(end)));
        self.put_key(old);
        Ok(made)
    }

    pub(super) fn revoke_key(&mut self, id: KeyId) -> Result<Answer, Failure> {
        let mut key = self.known_key(id)?;
        key.revoked_at_ms.get_or_insert(self.now_ms);
        self.put_key(key);
        Ok(Answer::Done)
    }

    /// A key opened a request.
    pub(super) fn note_use(&mut self, id: KeyId) {
        let Ok(mut key) = self.known_key(id) else { return };
        if key.last_used_at_ms.is_none_or(|before| self.now_ms - before >= USE_NOTED_MS) {
            key.last_used_at_ms = Some(self.now_ms);
            self.put_key(key);
        }
    }
}

fn bounded(amount: Pico) -> Result<(), Failure> {
    if (0..=AMOUNT_MAX).contains(&amount.0) {
        return Ok(());
    }
    Err(Failure::field("amount", format!("an amount must be between 0 and {}", Pico(AMOUNT_MAX).rounded())))
}
