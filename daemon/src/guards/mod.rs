//! Guards at work: which of them stand at a service for an application, what goes in, what comes out. Counting is the dispatcher's.
//! `matcher.rs` says what is looked for, `stream.rs` looks through texts in pieces, `outward.rs` stands between a worker's
//! words and whoever reads the answer. Never here: a decision about who may ask, a bill.

mod matcher;
mod outward;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Prompt, Turn};
use hone_protocol::guard::{GuardAct, GuardHit, GuardSide, GuardSpec, GuardTrial};
use serde_json::Value;

use crate::state::State;
use matcher::Part;
use stream::{Bit, Scanner};

pub(crate) use outward::Outward;

/// A guard, compiled.
pub(crate) struct Guard {
    name: String,
    act: GuardAct,
    parts: Vec<Part>,
    /// What it was compiled of.
    spec: GuardSpec,
}

/// The guards that look at one text.
#[derive(Clone)]
pub(crate) struct Set {
    /// Those that change it or end it.
    stops: Arc<[Arc<Guard>]>,
    /// Those that only count.
    flags: Arc<[Arc<Guard>]>,
}

impl Set {
    fn is_empty(&self) -> bool {
        self.stops.is_empty() && self.flags.is_empty()
    }
}

/// Says what is wrong with a guard.
pub(crate) fn check(spec: &GuardSpec) -> Result<(), Failure> {
    if !spec.input && !spec.output {
        return Err(Failure::field("input", "a guard looks at input, at output, or at both"));
    }
    matcher::parts(spec).map(drop)
}

/// What a guard would do to a text.
pub(crate) fn trial(spec: &GuardSpec, text: &str) -> Result<GuardTrial, Failure> {
    let guard =
        Arc::new(Guard { name: String::new(), act: spec.act, parts: matcher::parts(spec)?, spec: spec.clone() });
    let guards: Arc<[Arc<Guard>]> = Arc::new([guard]);
    let found = stream::matches(&guards, text);
    let matches = found.into_iter().map(|(range, _, what)| (range.start as u64, range.end as u64, what.to_owned()));
    let mut trial = GuardTrial { passes: String::new(), refused: false, matches: matches.collect() };
    for bit in Scanner::new(guards).push(text, true) {
        match bit {
            Bit::Plain(text) => trial.passes.push_str(&text),
            Bit::Mask { mask, .. } => trial.passes.push_str(mask),
            Bit::Flag(_) => {}
            Bit::Refused(_) => trial.refused = true,
        }
    }
    Ok(trial)
}

/// Guards that are compiled already. Cheap to clone.
#[derive(Clone, Default)]
pub struct GuardTable(Arc<Mutex<HashMap<String, Arc<Guard>>>>);

impl GuardTable {
    /// The guards on one side of a service, for an application; none where none stands there. What cannot be compiled lets
    /// nothing through.
    pub(crate) fn of(
        &self,
        state: &State,
        side: GuardSide,
        service: &str,
        application: &str,
    ) -> Result<Option<Set>, Failure> {
        let meant = |names: &[String], name: &str| names.is_empty() || names.iter().any(|known| known == name);
        let mut both: [Vec<Arc<Guard>>; 2] = [Vec::new(), Vec::new()];
        for record in state.guards.values() {
            let spec = &record.spec;
            let looks = if side == GuardSide::Input { spec.input } else { spec.output };
            if looks && meant(&spec.services, service) && meant(&spec.applications, application) {
                both[usize::from(spec.act == GuardAct::Flag)].push(self.compiled(&record.name, spec)?);
            }
        }
        let [stops, flags] = both.map(Arc::from);
        let set = Set { stops, flags };
        Ok(Some(set).filter(|set| !set.is_empty()))
    }

    fn compiled(&self, name: &str, spec: &GuardSpec) -> Result<Arc<Guard>, Failure> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(name).filter(|known| known.spec == *spec) {
            return Ok(known.clone());
        }
        let failed = |failure: Failure| {
            let message = format!("guard {name} cannot be used: {}", failure.message_en);
            Failure::new(FailureCode::Internal, message).hint(HintCode::ReadLog)
        };
        let parts = matcher::parts(spec).map_err(failed)?;
        let guard = Arc::new(Guard { name: name.to_owned(), act: spec.act, parts, spec: spec.clone() });
        table.insert(name.to_owned(), guard.clone());
        Ok(guard)
    }
}

/// What guards found in one request.
#[derive(Default)]
pub(crate) struct Hits(Vec<GuardHit>);

impl Hits {
    fn add(&mut self, guard: &Guard, side: GuardSide) {
        match self.0.iter_mut().find(|hit| hit.guard == guard.name && hit.side == side) {
            Some(hit) => hit.matches += 1,
            None => self.0.push(GuardHit { guard: guard.name.clone(), side, act: guard.act, matches: 1 }),
        }
    }

    /// All of them; nothing is left.
    pub(crate) fn take(&mut self) -> Vec<GuardHit> {
        std::mem::take(&mut self.0)
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[GuardHit] {
        &self.0
    }
}

/// The refusal of a request.
fn refused(guard: &Guard, place: &str) -> Failure {
    // Which words are forbidden is not told; which guard it was, the owner has to find.
    let message = format!("the guard {} does not let this request in", guard.name);
    Failure::new(FailureCode::RefusedByGuard, message).at(place)
}

/// Looks through what goes in.
struct Inward<'s> {
    set: &'s Set,
    hits: &'s mut Hits,
}

impl Inward<'_> {
    fn text(&mut self, text: &mut String, place: &str) -> Result<(), Failure> {
        for guard in stream::matches(&self.set.flags, text).into_iter().map(|(_, guard, _)| guard) {
            self.hits.add(&self.set.flags[guard], GuardSide::Input);
        }
        if self.set.stops.is_empty() {
            return Ok(());
        }
        let mut passes = String::with_capacity(text.len());
        for bit in Scanner::new(self.set.stops.clone()).push(text, true) {
            match bit {
                Bit::Plain(plain) => passes.push_str(&plain),
                Bit::Mask { mask, guard, .. } => {
                    passes.push_str(mask);
                    self.hits.add(&self.set.stops[guard], GuardSide::Input);
                }
                Bit::Refused(guard) => {
                    self.hits.add(&self.set.stops[guard], GuardSide::Input);
                    return Err(refused(&self.set.stops[guard], place));
                }
                Bit::Flag(_) => {}
            }
        }
        *text = passes;
        Ok(())
    }

    fn value(&mut self, value: &mut Value, place: &str) -> Result<(), Failure> {
        match value {
            Value::String(text) => self.text(text, place),
            Value::Array(list) => list.iter_mut().try_for_each(|one| self.value(one, place)),
            Value::Object(fields) => fields.values_mut().try_for_each(|one| self.value(one, place)),
            // A number is a text too, when it is one that is masked: of a telephone, say.
            Value::Number(number) => {
                let before = number.to_string();
                let mut text = before.clone();
                self.text(&mut text, place)?;
                if text != before {
                    *value = Value::String(text);
                }
                Ok(())
            }
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn turn(&mut self, turn: &mut Turn) -> Result<(), Failure> {
        self.text(&mut turn.content, "messages")?;
        turn.calls.iter_mut().try_for_each(|call| self.value(&mut call.arguments.0, "messages"))
    }
}

/// Looks through what goes in: masks it, or refuses it. What was found is noted in either case.
pub(crate) fn inward(set: &Set, prompts: &mut [Prompt], hits: &mut Hits) -> Result<(), Failure> {
    let mut inward = Inward { set, hits };
    for prompt in prompts {
        match prompt {
            Prompt::Chat(chat) => chat.turns.iter_mut().try_for_each(|turn| inward.turn(turn))?,
            Prompt::Text { text, .. } => inward.text(text, "prompt")?,
            Prompt::Tokens(_) => {
                let message =
                    "a guard looks at what goes into this service, and it reads texts; send the prompt as text";
                return Err(Failure::field("prompt", message));
            }
        }
    }
    Ok(())
}
