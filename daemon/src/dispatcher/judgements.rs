//! Judgements of the playground and notes of persons: what is durable the moment it is acknowledged. Never here: making
//! rows of judgements (a job does).

use std::sync::Arc;

use hone_protocol::dataset::{DatasetSource, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::judgement::{
    CONTENDERS_MAX, CONTENDERS_MIN, JUDGEMENT_BYTES_MAX, JudgedSet, Judgement, JudgementRecord, Verdict,
};
use hone_protocol::note::{NOTE_BYTES_MAX, NOTE_TITLE_CHARS_MAX, NoteHead, NoteKind, NoteRecord};
use hone_protocol::request::Answer;
use hone_protocol::value::Json;
use hone_protocol::wire;

use super::Decider;
use super::commands::check_name;
use crate::judged::{judgement_key, note_key};
use crate::state::State;
use crate::store::{Table, codec};

/// Who is compared with whom, for the audit log.
pub(super) fn subject(dataset: &str, judgement: &Judgement) -> String {
    let names: Vec<&str> = judgement.contenders.iter().map(|c| c.version.as_str()).collect();
    let word = match judgement.verdict {
        Verdict::Best(best) => names.get(best as usize).map_or("?".to_owned(), |name| format!("{name} is best")),
        Verdict::Tie => "tie".to_owned(),
        Verdict::AllBad => "all bad".to_owned(),
    };
    format!("{dataset}: {} ({word})", names.join(", "))
}

fn check(state: &State, judgement: &Judgement) -> Result<(), Failure> {
    let count = judgement.contenders.len();
    if !(CONTENDERS_MIN..=CONTENDERS_MAX).contains(&count) {
        let message =
            format!("{count} answers were judged; it must be {CONTENDERS_MIN} to {CONTENDERS_MAX} side by side");
        return Err(Failure::field("judgement.contenders", message));
    }
    if judgement.messages.last().is_none_or(|message| message.role != "user") {
        let message = "the conversation must end with a user turn, which the answers follow";
        return Err(Failure::field("judgement.messages", message));
    }
    let role = |role: &str| matches!(role, "system" | "user" | "assistant");
    if let Some(message) = judgement.messages.iter().find(|message| !role(&message.role)) {
        let reason = format!("{:?} is no role; use system, user or assistant", message.role);
        return Err(Failure::field("judgement.messages", reason));
    }
    for contender in &judgement.contenders {
        if contender.text.trim().is_empty() {
            let message = format!("the answer of {} is empty; only answers can be judged", contender.service);
            return Err(Failure::field("judgement.contenders", message));
        }
        let upstreams = state.services.values().filter(|service| service.upstream.is_some());
        let names = upstreams.map(|service| state.version_reference(service.version));
        if !names.into_iter().any(|name| name == contender.version) {
            state.any_version(&contender.version)?;
        }
    }
    let bytes = wire::encode(judgement).len();
    if bytes > JUDGEMENT_BYTES_MAX {
        let message = format!("the judgement has {bytes} bytes; at most {JUDGEMENT_BYTES_MAX} are taken");
        return Err(Failure::field("judgement", message));
    }
    if let Verdict::Best(best) = judgement.verdict {
        if best as usize >= count {
            let message = format!("answer {best} is said to be best, and the last of {count} is {}", count - 1);
            return Err(Failure::field("judgement.verdict", message));
        }
        if judgement.pairs().is_empty() {
            let message = "the answers are the same text: none is better; judge it a tie";
            return Err(Failure::field("judgement.verdict", message));
        }
    }
    Ok(())
}

impl Decider {
    pub(super) fn judge(&mut self, person: &str, dataset: &str, judgement: Judgement) -> Result<Answer, Failure> {
        check_name("dataset", dataset)?;
        if let Some(known) = self.state.dataset(dataset)
            && known.shape != Shape::Preference
        {
            let message = format!("{dataset} holds {} rows; judgements make rows of preferences", known.shape.word());
            return Err(Failure::field("dataset", message).hint(HintCode::ChooseAnotherName));
        }
        check(&self.state, &judgement)?;
        let seq = self.judged_set(dataset).next_seq;
        let rows = judgement.pairs().len() as u64;
        let record = JudgementRecord { seq, person: person.to_owned(), at_ms: self.now_ms, judgement };
        self.writes.put(Table::Judgements, judgement_key(dataset, seq), codec::record(&record));
        Arc::make_mut(&mut self.state.unmade).insert((dataset.to_owned(), seq), rows);
        let set = self.put_judged_set(dataset, |set| set.next_seq += 1);
        Ok(Answer::Judged { seq, set })
    }

    pub(super) fn unjudge(&mut self, dataset: &str, seq: u64) -> Result<Answer, Failure> {
        let wrong = |message: String| Err(Failure::new(FailureCode::WrongState, message).at("seq"));
        if seq < self.judged_set(dataset).made_until {
            return wrong(format!("judgement {seq} is in a version of {dataset} already, and versions do not change"));
        }
        let makes = |spec: &JobSpec| matches!(spec, JobSpec::ImportDataset { source: DatasetSource::Judgements { .. }, name, .. } if name == dataset);
        if self.queued.iter().filter_map(|id| self.state.jobs.get(id)).any(|job| makes(&job.spec)) {
            return wrong(format!("a version of {dataset} is being made of its judgements; wait for the job to end"));
        }
        if Arc::make_mut(&mut self.state.unmade).remove(&(dataset.to_owned(), seq)).is_none() {
            return Err(Failure::not_found("judgement", &format!("{dataset} {seq}")));
        }
        self.writes.delete(Table::Judgements, judgement_key(dataset, seq));
        let set = self.put_judged_set(dataset, |_| {});
        Ok(Answer::Judged { seq, set })
    }

    /// Judgements below a number are in a version now.
    pub(super) fn made_of_judgements(&mut self, dataset: &str, until: u64) {
        Arc::make_mut(&mut self.state.unmade).retain(|(name, seq), _| name != dataset || *seq >= until);
        self.put_judged_set(dataset, |set| set.made_until = set.made_until.max(until));
    }

    fn judged_set(&self, dataset: &str) -> JudgedSet {
        let none = || JudgedSet { dataset: dataset.to_owned(), ..JudgedSet::default() };
        self.state.judged_sets.get(dataset).map_or_else(none, |set| (**set).clone())
    }

    /// Changes a set, counts what waits in it anew, and stores it.
    fn put_judged_set(&mut self, dataset: &str, change: impl FnOnce(&mut JudgedSet)) -> JudgedSet {
        let mut set = self.judged_set(dataset);
        change(&mut set);
        let waiting = self.state.unmade.iter().filter(|((name, _), _)| name == dataset).map(|(_, rows)| *rows);
        (set.waiting_rows, set.waiting_undecided) =
            waiting.fold((0, 0), |(rows, undecided), more| (rows + more, undecided + u64::from(more == 0)));
        self.writes.put(Table::JudgedSets, set.dataset.as_bytes(), codec::record(&set));
        Arc::make_mut(&mut self.state.judged_sets).insert(set.dataset.clone(), Arc::new(set.clone()));
        set
    }

    pub(super) fn keep_note(
        &mut self,
        person: &str,
        kind: NoteKind,
        name: String,
        title: String,
        value: Json,
    ) -> Result<Answer, Failure> {
        for (field, text) in [("name", &name), ("title", &title)] {
            let chars = text.chars().count();
            if chars > NOTE_TITLE_CHARS_MAX || text.chars().any(char::is_control) {
                let message = format!("{field} has {chars} characters; at most {NOTE_TITLE_CHARS_MAX} on one line");
                return Err(Failure::field(field, message));
            }
        }
        if name.is_empty() {
            return Err(Failure::field("name", "a note needs a name"));
        }
        let bytes = value.0.to_string().len();
        if bytes > NOTE_BYTES_MAX {
            let message = format!("the note has {bytes} bytes of JSON; at most {NOTE_BYTES_MAX} are kept");
            return Err(Failure::field("value", message));
        }
        let record = NoteRecord { head: NoteHead { name, title, at_ms: self.now_ms }, value };
        self.writes.put(Table::Notes, note_key(person, kind, &record.head.name), codec::record(&record));
        Ok(Answer::Done)
    }

    pub(super) fn drop_note(&mut self, person: &str, kind: NoteKind, name: &str) -> Answer {
        self.writes.delete(Table::Notes, note_key(person, kind, name));
        Answer::Done
    }
}
