//! Several wishes as one: all of them are carried out, or none, and none when somebody changed what they were made for. Never
//! here: what each of them does.

use hone_protocol::declared::CHANGES_MAX;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Hash;

use super::Decider;
use super::commands::words;
use crate::declared::{declared, stamp};

/// Whether a wish may stand among others: what a file can declare, and nothing that shows a secret of a key.
fn may_be_applied(request: &Request) -> bool {
    use Request::*;
    matches!(
        request,
        SetPool { .. }
            | RemovePool { .. }
            | SetGate { .. }
            | SetAlias { past_gate: None, .. }
            | RemoveAlias { .. }
            | Publish { .. }
            | PublishUpstream { .. }
            | SetService { .. }
            | DeleteService { .. }
            | SetApplication { .. }
            | SetLimits { .. }
            | SetGuard { .. }
            | RemoveGuard { .. }
            | SetHook { .. }
            | RemoveHook { .. }
            | SetStandard { .. }
            | RemoveStandard { .. }
    )
}

impl Decider {
    /// Carries out all changes, if nobody changed what they were made for.
    pub(super) fn apply(&mut self, person: &str, made_for: Hash, changes: Vec<Request>) -> Result<Answer, Failure> {
        if changes.len() > CHANGES_MAX {
            return Err(Failure::field("changes", format!("at most {CHANGES_MAX} changes are applied at once")));
        }
        if let Some(at) = changes.iter().position(|request| !may_be_applied(request)) {
            let message = "this request cannot be applied together with others";
            return Err(Failure::new(FailureCode::InvalidRequest, message).at(format!("changes[{at}]")));
        }
        if stamp(&declared(&self.state)) != made_for {
            let message = "somebody changed services, applications, aliases, guards, hooks, standards or prices since the plan was made; plan again";
            return Err(Failure::new(FailureCode::WrongState, message).at("made_for").hint(HintCode::TryAgain));
        }
        let before = self.mark();
        let mut secrets = Vec::new();
        for change in changes {
            let (verb, subject) = words(&self.state, &change);
            match self.wish_of(person, change) {
                Ok(Answer::Hook { hook, secret: Some(secret) }) => secrets.push((hook.name.clone(), secret)),
                Ok(_) => {}
                Err(failure) => {
                    self.back_to(before);
                    return Err(failure);
                }
            }
            self.audit(person, verb, &subject);
        }
        Ok(Answer::Applied { secrets })
    }

    /// How things are now. A wish that a file can hold changes the state, writes and effects, and what stands here.
    fn mark(&self) -> Mark {
        Mark {
            state: self.state.clone(),
            puts: self.writes.puts.len(),
            sweeps: self.writes.sweeps.len(),
            effects: self.effects.len(),
            audit_seq: self.audit_seq,
            moves: self.moves,
            retiring: self.retiring.clone(),
            deliveries: self.deliveries.clone(),
            watch: self.watch.clone(),
        }
    }

    fn back_to(&mut self, mark: Mark) {
        self.state = mark.state;
        self.writes.puts.truncate(mark.puts);
        self.writes.sweeps.truncate(mark.sweeps);
        self.effects.truncate(mark.effects);
        (self.audit_seq, self.moves) = (mark.audit_seq, mark.moves);
        (self.retiring, self.deliveries, self.watch) = (mark.retiring, mark.deliveries, mark.watch);
    }
}

/// How things were before the first change.
struct Mark {
    state: crate::state::State,
    puts: usize,
    sweeps: usize,
    effects: usize,
    audit_seq: u64,
    moves: u64,
    retiring: std::collections::BTreeMap<hone_protocol::id::VersionId, super::following::Retiring>,
    deliveries: super::hooks::Deliveries,
    watch: super::alerts::Watch,
}
