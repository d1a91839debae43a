//! Aliases: where they point, the gates before them, and every move that they made. Never here: what a gate means
//! (`hone_protocol::gate`), services that follow an alias (`following`).

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::gate::{Asked, Figure, Gate, GateReport, Looked};
use hone_protocol::id::{ModelId, VersionId};
use hone_protocol::model::{Alias, AliasGate, AliasMove, ModelRecord, MovedBy, VersionRecord};
use hone_protocol::request::Answer;

use super::commands::check_name;
use super::{Decider, Subject};
use crate::state::State;
use crate::store::{Store, StoreError, Table, codec, key};

/// Longest reason for passing by a gate, in characters.
const REASON_CHARS_MAX: usize = 200;

/// What a gate says of a version that is to get an alias. Without a gate it holds.
pub(crate) fn report(state: &State, model: &ModelRecord, alias: &str, version: &VersionRecord) -> GateReport {
    let current = model.aliases.iter().find(|known| known.name == alias).map(|known| known.version);
    let text = model.gate(alias).unwrap_or_default().to_owned();
    let mut report = GateReport {
        gate: text,
        version: state.version_reference(version.id),
        current: current.map(|id| state.version_reference(id)),
        holds: true,
        lines: Vec::new(),
        run: Vec::new(),
    };
    // A stored gate was read when it was set.
    let Ok(gate) = Gate::read(&report.gate) else { return report };
    let of = |asked: &Asked| if asked.current { current } else { Some(version.id) };
    report.lines = gate.judge(|asked| match of(asked) {
        Some(id) => measured(state, id, asked),
        None => Looked::NoVersion,
    });
    report.holds = report.lines.iter().all(|line| line.holds);
    for asked in gate.asks() {
        let Some(id) = of(&asked).filter(|id| measured(state, *id, &asked) == Looked::Missing) else { continue };
        let suite = if asked.suite.is_empty() { "SUITE" } else { asked.suite.as_str() };
        let command = format!("hone eval start {} --suite {suite}", state.version_reference(id));
        if !report.run.contains(&command) {
            report.run.push(command);
        }
    }
    report
}

/// The newest evaluation of a version that has a figure.
fn measured(state: &State, version: VersionId, asked: &Asked) -> Looked {
    let suite = state.suite(&asked.suite).ok().map(|suite| suite.id);
    let of = |e: &&Arc<hone_protocol::evaluation::EvaluationRecord>| {
        e.version == version && (asked.suite.is_empty() || Some(e.suite) == suite)
    };
    let value = state.evaluations.values().rev().filter(of).find_map(|evaluation| match asked.figure {
        Figure::Score => evaluation.score,
        Figure::Loss => evaluation.loss,
        Figure::Perplexity => evaluation.perplexity(),
        Figure::Rows => Some(evaluation.rows as f64),
    });
    value.map_or(Looked::Missing, Looked::Value)
}

impl Decider {
    /// Moves an alias when its gate holds, or when somebody says why it may pass by.
    pub(super) fn set_alias(
        &mut self,
        person: &str,
        model: &str,
        alias: &str,
        version: &str,
        past_gate: Option<&str>,
    ) -> Result<Answer, Failure> {
        check_name("alias", alias)?;
        let version = self.state.version(version)?.clone();
        let model = self.state.model(model).ok_or_else(|| Failure::not_found("model", model))?.clone();
        if version.model != model.id {
            let message = format!("the version belongs to another model than {}", model.name);
            return Err(Failure::field("version", message));
        }
        let by = self.may_pass(&model, alias, &version, past_gate)?;
        self.move_alias(person, model.id, alias, version.id, by)?;
        Ok(Answer::Done)
    }

    /// How an alias may move to a version, or why it may not.
    pub(super) fn may_pass(
        &self,
        model: &ModelRecord,
        alias: &str,
        version: &VersionRecord,
        past_gate: Option<&str>,
    ) -> Result<MovedBy, Failure> {
        let report = report(&self.state, model, alias, version);
        match past_gate {
            Some(reason) if reason.trim().is_empty() || reason.chars().count() > REASON_CHARS_MAX => {
                let message = format!("say in 1 to {REASON_CHARS_MAX} characters why the gate may be passed by");
                Err(Failure::field("past_gate", message))
            }
            Some(reason) if !report.holds => Ok(MovedBy::PastGate(reason.to_owned(), report.words())),
            _ if report.holds && report.gate.is_empty() => Ok(MovedBy::Person),
            _ if report.holds => Ok(MovedBy::Gate(report.words())),
            _ => {
                let run = report.run.first().map_or(String::new(), |run| format!("; run {run}"));
                let message = format!(
                    "the gate of {}:{alias} does not hold for {}: {}{run}",
                    model.name,
                    report.version,
                    report.words()
                );
                Err(Failure::new(FailureCode::GateClosed, message)
                    .at(format!("{}:{alias}", model.name))
                    .arg("gate", &report.gate)
                    .arg("version", &report.version))
            }
        }
    }

    /// Moves an alias back to where it pointed before; twice is forth again. No gate is asked.
    pub(super) fn roll_back(&mut self, person: &str, model: &str, alias: &str) -> Result<Answer, Failure> {
        let model = self.state.model(model).ok_or_else(|| Failure::not_found("model", model))?.clone();
        let name = format!("{}:{alias}", model.name);
        let known = model.aliases.iter().find(|known| known.name == alias);
        let known = known.ok_or_else(|| Failure::not_found("alias", &name))?;
        let Some(before) = known.previous else {
            let message = format!("{name} has not moved yet: there is nothing to roll back to");
            return Err(Failure::new(FailureCode::WrongState, message).at("alias"));
        };
        // A version in the trash says so, and how it comes out.
        let before = self.state.version(&self.state.version_reference(before))?.id;
        self.move_alias(person, model.id, alias, before, MovedBy::RollBack)?;
        Ok(Answer::Done)
    }

    pub(super) fn remove_alias(&mut self, person: &str, model: &str, alias: &str) -> Result<Answer, Failure> {
        let mut model = (**self.state.model(model).ok_or_else(|| Failure::not_found("model", model))?).clone();
        let name = format!("{}:{alias}", model.name);
        let at = model.aliases.iter().position(|known| known.name == alias);
        let at = at.ok_or_else(|| Failure::not_found("alias", &name))?;
        let followers: Vec<String> =
            self.followers(model.id, alias).iter().map(|s| format!("service {}", s.name)).collect();
        if !followers.is_empty() {
            let message = format!("{name} is followed by {}", followers.join(", "));
            return Err(Failure::new(FailureCode::InUse, message).at("alias").arg("users", followers.join(", ")));
        }
        let from = model.aliases.remove(at).version;
        self.put_model(model);
        self.note_move(person, &name, Some(from), None, MovedBy::Person);
        Ok(Answer::Done)
    }

    /// Sets what must be measured before an alias moves; none lets everything through. It holds for moves from now on.
    pub(super) fn set_gate(&mut self, model: &str, alias: &str, gate: Option<&str>) -> Result<Answer, Failure> {
        check_name("alias", alias)?;
        let mut model = (**self.state.model(model).ok_or_else(|| Failure::not_found("model", model))?).clone();
        let mut gates = model.gates.take().unwrap_or_default();
        gates.retain(|known| known.alias != alias);
        if let Some(gate) = gate {
            for asked in Gate::read(gate)?.asks().iter().filter(|asked| !asked.suite.is_empty()) {
                self.state.suite(&asked.suite)?;
            }
            gates.push(AliasGate { alias: alias.to_owned(), gate: gate.to_owned() });
            gates.sort_by(|a, b| a.alias.cmp(&b.alias));
        }
        model.gates = (!gates.is_empty()).then_some(gates);
        self.put_model(model);
        Ok(Answer::Done)
    }

    fn put_model(&mut self, model: ModelRecord) {
        self.writes.put(Table::Models, *model.id.bytes(), codec::record(&model));
        self.dirty.insert(Subject::Model(model.id));
        Arc::make_mut(&mut self.state.models).insert(model.id, Arc::new(model));
    }

    /// Points an alias at a version of the model, and notes the move.
    pub(super) fn move_alias(
        &mut self,
        person: &str,
        model: ModelId,
        alias: &str,
        version: VersionId,
        by: MovedBy,
    ) -> Result<(), Failure> {
        let Some(mut model) = self.state.models.get(&model).map(|model| (**model).clone()) else { return Ok(()) };
        self.may_follow(model.id, alias, version)?;
        let from = match model.aliases.iter_mut().find(|known| known.name == alias) {
            // Asked for again, a version that could not be loaded is tried again.
            Some(known) if known.version == version => {
                self.forgive_loading(version);
                return Ok(());
            }
            Some(known) => {
                let from = std::mem::replace(&mut known.version, version);
                known.previous = Some(from);
                Some(from)
            }
            None => {
                model.aliases.push(Alias { name: alias.to_owned(), version, previous: None });
                None
            }
        };
        let name = format!("{}:{alias}", model.name);
        self.put_model(model);
        self.forgive_loading(version);
        self.movers.insert(version, person.to_owned());
        self.note_move(person, &name, from, Some(version), by);
        Ok(())
    }

    fn note_move(&mut self, person: &str, name: &str, from: Option<VersionId>, to: Option<VersionId>, by: MovedBy) {
        let reference = |id: VersionId| self.state.version_reference(id);
        let moved = AliasMove {
            seq: self.moves,
            at_ms: self.now_ms,
            person: person.to_owned(),
            alias: name.to_owned(),
            from: from.map(reference),
            to: to.map(reference),
            by,
        };
        self.writes.put(Table::AliasMoves, move_key(name, self.moves), codec::record(&moved));
        self.moves += 1;
    }
}

/// The number that the next move gets.
pub(super) fn next_move(store: &Store) -> Result<u64, StoreError> {
    let moves: Vec<AliasMove> = codec::read_all(Table::AliasMoves, &store.prefix(Table::AliasMoves, b"")?)?;
    Ok(moves.iter().map(|moved| moved.seq + 1).max().unwrap_or(0))
}

/// The key of a move; its front is that of all moves of the alias.
pub(crate) fn move_key(name: &str, seq: u64) -> Vec<u8> {
    key(&[name.as_bytes(), &[0], &seq.to_be_bytes()])
}
