//! Publishing servers elsewhere. What a service's process is told of one (address, model, key) has an id in the place of a
//! version, which is made anew with every change: so a change is another process, as another version is. The key goes from
//! the wish into its own table, and nowhere else. Never here: connections (`honed upstream`), which processes run.

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::pool::LOCAL_POOL;
use hone_protocol::request::Answer;
use hone_protocol::service::{Price, ServiceRecord};
use hone_protocol::upstream::{Address, Secret, Upstream, UpstreamWish};

use super::commands::{SLOTS_MAX, check_name};
use super::{Decider, Subject};
use crate::clock::new_id;
use crate::store::{Table, codec};

/// Requests at once when none are asked for.
const SLOTS: u32 = 64;
/// What an answer without a wished length may come to, when nothing is said.
const CONTEXT_TOKENS: u32 = 8192;
/// Most that can be said.
const CONTEXT_TOKENS_MAX: u32 = 1 << 24;

impl Decider {
    /// Publishes a server elsewhere, or changes how a service reaches it.
    pub(super) fn publish_upstream(
        &mut self,
        person: &str,
        name: &str,
        wish: UpstreamWish,
        (slots, context_tokens): (u32, u32),
        price: Price,
    ) -> Result<Answer, Failure> {
        check_name("service", name)?;
        let address = wish.check()?;
        let before = self.state.service(name).ok().cloned();
        let old = before.as_ref().and_then(|before| before.upstream.clone());
        self.check_itself(name, &address, &wish.model)?;
        let has_key = match &wish.key {
            Some(Secret(key)) => !key.is_empty(),
            None => kept_key(old.as_ref(), &address)?,
        };
        let limits = |said: u32, before: Option<u32>, usual: u32| if said > 0 { said } else { before.unwrap_or(usual) };
        let was = before.as_ref().filter(|_| old.is_some());
        let slots = limits(slots, was.map(|b| b.slots), SLOTS);
        let context_tokens = limits(context_tokens, was.map(|b| b.context_tokens), CONTEXT_TOKENS);
        if slots > SLOTS_MAX {
            return Err(Failure::field("slots", format!("slots is {slots}; at most {SLOTS_MAX} are possible")));
        }
        if !(64..=CONTEXT_TOKENS_MAX).contains(&context_tokens) {
            let message = format!("context_tokens is {context_tokens}; it must be 64 to {CONTEXT_TOKENS_MAX}");
            return Err(Failure::field("context_tokens", message));
        }
        let upstream = Upstream { url: address.to_string(), model: wish.model, has_key };
        let is_as_before = wish.key.is_none() && old.as_ref() == Some(&upstream);
        let version = before.as_ref().filter(|_| is_as_before).map_or_else(new_id, |before| before.version);
        let service = ServiceRecord {
            id: before.as_ref().map_or_else(new_id, |b| b.id),
            name: name.to_owned(),
            version,
            pool: LOCAL_POOL.to_owned(),
            slots,
            context_tokens,
            price,
            wanted: true,
            keep: None,
            reserved: before.as_ref().and_then(|b| b.reserved),
            follows: None,
            created_at_ms: before.as_ref().map_or(self.now_ms, |b| b.created_at_ms),
            created_by: before.as_ref().map_or_else(|| person.to_owned(), |b| b.created_by.clone()),
            upstream: Some(upstream),
        };
        let id = service.id;
        match wish.key {
            Some(key) if has_key => self.writes.put(Table::UpstreamKeys, *id.bytes(), codec::record(&key)),
            Some(_) => self.writes.delete(Table::UpstreamKeys, *id.bytes()),
            None => {}
        }
        if let Some(before) = before {
            self.touch_model_of(before.version);
        } else {
            self.dirty.insert(Subject::Service(id));
        }
        self.put_service(service);
        self.forgive_serving(version);
        self.rouse(id);
        let view = self.state.service_view(id).ok_or_else(|| Failure::not_found("service", name))?;
        Ok(Answer::Service(Box::new(view)))
    }

    /// A service that asks itself would ask for ever.
    fn check_itself(&self, name: &str, address: &Address, model: &str) -> Result<(), Failure> {
        let own = |at: &String| Address::read(at).is_ok_and(|own| own.port == address.port);
        if model == name && address.is_loopback() && self.state.http.iter().any(own) {
            let message = format!("{address} is this daemon, and {model} there is this very service");
            return Err(Failure::new(FailureCode::InvalidField, message).at("url"));
        }
        Ok(())
    }

    /// The key of an upstream that a service had goes with it.
    pub(super) fn forget_upstream_key(&mut self, before: &ServiceRecord) {
        if before.upstream.as_ref().is_some_and(|upstream| upstream.has_key) {
            self.writes.delete(Table::UpstreamKeys, *before.id.bytes());
        }
    }
}

/// Whether the kept key stays. A key that was given for one place does not go to another.
fn kept_key(old: Option<&Upstream>, address: &Address) -> Result<bool, Failure> {
    let Some(old) = old.filter(|old| old.has_key) else { return Ok(false) };
    match Address::read(&old.url) {
        Ok(before) if before.same_place(address) => Ok(true),
        _ => {
            let message = format!(
                "the kept key was given for {}; with another host, port or scheme give the key again, or an empty one",
                old.url
            );
            Err(Failure::field("key", message))
        }
    }
}
