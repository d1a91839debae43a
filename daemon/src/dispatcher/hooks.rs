//! Alerts and who is told of them. An alert is kept in the transaction of what it tells of, with a delivery for each hook that asks
//! for it; a delivery goes when it succeeded or was tried often enough. So none is lost by a crash, and one may come twice, with the
//! same id. Never here: carrying a delivery out (`workers::hooks`), when something is worth an alert (`alerts`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::hook::{
    AlertKind, AlertRecord, HookOutcome, HookRecord, HookTarget, HookTry, TIMEOUT_MS_MAX, WORDS_BYTES_MAX,
};
use hone_protocol::id::{AlertId, HookId};
use hone_protocol::request::Answer;
use serde::{Deserialize, Serialize};

use super::commands::check_name;
use super::effect::{Delivering, Effect};
use super::{Decider, Subject};
use crate::clock::new_id;
use crate::store::{Store, StoreError, Table, codec, key};

/// Most hooks.
const HOOKS_MAX: usize = 32;
/// Alerts that wait for one hook. Beyond it alerts are counted as dropped and not delivered to it.
const WAITING_MAX: u32 = 100;
/// Alerts that are kept; the oldest go.
const ALERTS_KEPT: usize = 500;
/// Tries to deliver an alert; then it is given up. The last comes about 70 minutes after the first.
const TRIES_MAX: u32 = 12;
/// The pause after the first try; doubled each time.
const PAUSE_MS: u64 = 2_000;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 3_600_000;
/// Most words of a command, and most bytes of one and of an address.
const WORDS_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 2_000;
/// How long a try may take when nothing is said.
const TIMEOUT_MS: u32 = 30_000;

/// An alert on its way to a hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Delivery {
    alert: AlertRecord,
    /// Tries that failed.
    tries: u32,
}

/// What waits, by hook and alert.
pub(super) type Deliveries = BTreeMap<(HookId, AlertId), Delivery>;

fn delivery_key(hook: HookId, alert: AlertId) -> Vec<u8> {
    key(&[hook.bytes(), alert.bytes()])
}

/// Reads what waits.
pub(super) fn waiting(store: &Store) -> Result<Deliveries, StoreError> {
    let mut all = Deliveries::new();
    for (key, value) in store.prefix(Table::Deliveries, b"")? {
        let delivery: Delivery = codec::read(Table::Deliveries, &key, &value)?;
        if let Some(hook) = key.get(..16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) {
            all.insert((HookId::from_bytes(hook), delivery.alert.id), delivery);
        }
    }
    Ok(all)
}

impl Decider {
    /// Keeps an alert and begins to deliver it to every hook that asks for its kind.
    pub(super) fn alert(&mut self, kind: AlertKind, subject: &str, message: String, facts: &[(&str, String)]) {
        let asking: Vec<HookId> = self.state.hooks.values().filter(|h| h.on.contains(&kind)).map(|h| h.id).collect();
        if asking.is_empty() && !kind.is_trouble() {
            return;
        }
        let alert = self.new_alert(kind, subject, message, facts);
        self.keep_alert(&alert);
        for hook in asking {
            self.queue(hook, &alert);
        }
    }

    fn new_alert(&self, kind: AlertKind, subject: &str, message: String, facts: &[(&str, String)]) -> AlertRecord {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        AlertRecord { id: new_id(), kind, at_ms: self.now_ms, subject: subject.to_owned(), message, facts }
    }

    fn keep_alert(&mut self, alert: &AlertRecord) {
        self.writes.put(Table::Alerts, *alert.id.bytes(), codec::record(alert));
        let alerts = Arc::make_mut(&mut self.state.alerts);
        alerts.insert(alert.id, Arc::new(alert.clone()));
        self.dirty.insert(Subject::Alert(alert.id));
        while alerts.len() > ALERTS_KEPT
            && let Some((oldest, _)) = alerts.pop_first()
        {
            self.writes.delete(Table::Alerts, *oldest.bytes());
        }
    }

    fn queue(&mut self, hook: HookId, alert: &AlertRecord) {
        let Some(mut record) = self.state.hooks.get(&hook).map(|hook| (**hook).clone()) else { return };
        if record.waiting >= WAITING_MAX {
            record.dropped += 1;
            return self.put_hook(record);
        }
        record.waiting += 1;
        self.put_hook(record);
        let delivery = Delivery { alert: alert.clone(), tries: 0 };
        self.writes.put(Table::Deliveries, delivery_key(hook, alert.id), codec::record(&delivery));
        self.deliveries.insert((hook, alert.id), delivery);
        self.deliver(hook, alert.id);
    }

    /// Tries to deliver an alert.
    pub(super) fn deliver(&mut self, hook: HookId, alert: AlertId) {
        let (Some(hook), Some(delivery)) = (self.state.hooks.get(&hook), self.deliveries.get(&(hook, alert))) else {
            return;
        };
        if self.state.stopping {
            // The next start goes on.
            return;
        }
        let delivering = Delivering { hook: hook.clone(), alert: delivery.alert.clone(), number: delivery.tries + 1 };
        self.effects.push(Effect::Deliver(Box::new(delivering)));
    }

    /// At start: everything that waits is tried at once.
    pub(super) fn go_on_delivering(&mut self) {
        let all: Vec<(HookId, AlertId)> = self.deliveries.keys().copied().collect();
        for (hook, alert) in all {
            self.deliver(hook, alert);
        }
    }

    /// A try ended.
    pub(super) fn delivered(&mut self, hook: HookId, alert: AlertId, outcome: HookOutcome, ms: u64) {
        let Some(mut record) = self.state.hooks.get(&hook).map(|hook| (**hook).clone()) else { return };
        let Some(mut delivery) = self.deliveries.remove(&(hook, alert)) else { return };
        delivery.tries += 1;
        let HookOutcome { ok, status, mut words } = outcome;
        // What comes from a child is not trusted.
        while words.len() > WORDS_BYTES_MAX {
            words.pop();
        }
        record.last = Some(HookTry { alert, at_ms: self.now_ms, number: delivery.tries, ok, status, words, ms });
        let is_over = ok || delivery.tries >= TRIES_MAX || delivery.alert.kind == AlertKind::Test;
        if is_over {
            record.delivered += u64::from(ok);
            record.given_up += u64::from(!ok);
            record.waiting = record.waiting.saturating_sub(1);
            self.writes.delete(Table::Deliveries, delivery_key(hook, alert));
        } else {
            let after_ms = (PAUSE_MS << (delivery.tries - 1).min(20)).min(PAUSE_MS_MAX);
            self.effects.push(Effect::RetryDelivery { hook, alert, after_ms });
            self.writes.put(Table::Deliveries, delivery_key(hook, alert), codec::record(&delivery));
            self.deliveries.insert((hook, alert), delivery);
        }
        self.put_hook(record);
    }

    fn put_hook(&mut self, hook: HookRecord) {
        self.writes.put(Table::Hooks, *hook.id.bytes(), codec::record(&hook));
        self.dirty.insert(Subject::Hook(hook.id));
        Arc::make_mut(&mut self.state.hooks).insert(hook.id, Arc::new(hook));
    }

    fn hook(&self, name: &str) -> Result<&Arc<HookRecord>, Failure> {
        self.state.hooks.values().find(|hook| hook.name == name).ok_or_else(|| Failure::not_found("hook", name))
    }

    /// Makes a hook, or changes it. A new address gets a secret, which is shown once.
    pub(super) fn set_hook(
        &mut self,
        person: &str,
        name: &str,
        on: Vec<AlertKind>,
        target: HookTarget,
        timeout_ms: u32,
    ) -> Result<Answer, Failure> {
        check_name("hook", name)?;
        check_target(&target)?;
        if on.is_empty() {
            return Err(Failure::field("on", "say at least one kind of alert that the hook is told of"));
        }
        if timeout_ms > TIMEOUT_MS_MAX {
            return Err(Failure::field("timeout_ms", format!("a try may take at most {} s", TIMEOUT_MS_MAX / 1000)));
        }
        let before = self.hook(name).ok().map(|hook| (**hook).clone());
        if before.is_none() && self.state.hooks.len() >= HOOKS_MAX {
            return Err(Failure::field("hook", format!("there are {HOOKS_MAX} hooks already; remove one first")));
        }
        let was_webhook = before.as_ref().is_some_and(|b| matches!(b.target, HookTarget::Webhook(_)));
        let mut kinds = on;
        kinds.sort_unstable();
        kinds.dedup();
        let timeout_ms = if timeout_ms == 0 { TIMEOUT_MS } else { timeout_ms };
        let hook = match before {
            Some(before) => HookRecord { on: kinds, target, timeout_ms, ..before },
            None => HookRecord {
                id: new_id(),
                name: name.to_owned(),
                on: kinds,
                target,
                timeout_ms,
                created_at_ms: self.now_ms,
                created_by: person.to_owned(),
                last: None,
                delivered: 0,
                given_up: 0,
                dropped: 0,
                waiting: 0,
            },
        };
        let is_webhook = matches!(hook.target, HookTarget::Webhook(_));
        let secret = (is_webhook && !was_webhook).then(|| self.state.fixed.hook_key.secret_of(hook.id));
        self.put_hook(hook.clone());
        Ok(Answer::Hook { hook: Box::new(hook), secret })
    }

    pub(super) fn remove_hook(&mut self, name: &str) -> Result<Answer, Failure> {
        let id = self.hook(name)?.id;
        let waiting: Vec<AlertId> = self.deliveries.keys().filter(|(hook, _)| *hook == id).map(|(_, a)| *a).collect();
        for alert in waiting {
            self.deliveries.remove(&(id, alert));
            self.writes.delete(Table::Deliveries, delivery_key(id, alert));
        }
        self.writes.delete(Table::Hooks, *id.bytes());
        Arc::make_mut(&mut self.state.hooks).remove(&id);
        self.dirty.insert(Subject::Hook(id));
        Ok(Answer::Done)
    }

    /// Tells one hook of nothing, once.
    pub(super) fn test_hook(&mut self, person: &str, name: &str) -> Result<Answer, Failure> {
        let hook = self.hook(name)?.clone();
        if hook.waiting >= WAITING_MAX {
            let message = format!("{WAITING_MAX} alerts wait for {name} already");
            return Err(Failure::new(FailureCode::Overloaded, message).at("hook"));
        }
        let message = format!("{person} tries the hook {name}");
        let alert = self.new_alert(AlertKind::Test, name, message, &[("person", person.to_owned())]);
        self.queue(hook.id, &alert);
        Ok(Answer::Alert(alert))
    }
}

fn check_target(target: &HookTarget) -> Result<(), Failure> {
    match target {
        HookTarget::Command(words) => {
            let program = words.first().map_or("", String::as_str);
            if !program.starts_with('/') {
                return Err(Failure::field("command", "the program must be an absolute path"));
            }
            if words.len() > WORDS_MAX || words.iter().any(|word| word.len() > WORD_BYTES_MAX || word.contains('\0')) {
                let message = format!("a command has at most {WORDS_MAX} words of {WORD_BYTES_MAX} bytes");
                return Err(Failure::field("command", message));
            }
        }
        HookTarget::Webhook(url) => {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
            let is_good = host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
            if !is_good || url.len() > WORD_BYTES_MAX || url.chars().any(|c| c.is_control() || c == ' ') {
                return Err(Failure::field(
                    "url",
                    "an address is http:// or https:// with a host, without a user name",
                ));
            }
        }
    }
    Ok(())
}
