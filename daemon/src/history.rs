//! What touched a version or a model: read out of the records of jobs and of who did what. There is no other record of it, so
//! it cannot disagree with them. Never here: reading the store.

use std::collections::BTreeSet;

use hone_protocol::id::{JobId, VersionId};
use hone_protocol::job::{JobRecord, JobResult, JobSpec, JobState};
use hone_protocol::model::{HistoryEntry, VersionRecord};
use hone_protocol::request::AuditRow;

use crate::state::State;

/// Most entries in one answer; the newest count.
pub const ENTRIES_MAX: usize = 500;

/// Acts of persons that concern a version: the words of the audit log.
const ACTS: [&str; 8] = ["publish", "follow", "set_alias", "pass_gate", "roll_back", "trash", "restore", "purge"];

/// Everything that touched these versions, newest first. `audit` are rows of who did what.
pub fn of(state: &State, audit: &[AuditRow], wanted: &BTreeSet<VersionId>) -> Vec<HistoryEntry> {
    let mut entries: Vec<HistoryEntry> = state.jobs.values().flat_map(|job| of_job(state, job, wanted)).collect();
    let names = wanted.iter().map(|id| state.version_reference(*id));
    let acts = names.flat_map(|name| audit.iter().filter_map(move |row| of_act(row, &name)));
    entries.extend(acts);
    entries.sort_by(|a, b| b.at_ms.cmp(&a.at_ms).then_with(|| a.version.cmp(&b.version)));
    entries.truncate(ENTRIES_MAX);
    entries
}

/// The version that a job made, if it made one.
fn made_by(job: &JobRecord) -> Option<VersionId> {
    match &job.state {
        JobState::Succeeded(JobResult::Model(id)) => Some(*id),
        JobState::Succeeded(JobResult::Train(result)) => result.version,
        _ => None,
    }
}

fn of_job(state: &State, job: &JobRecord, wanted: &BTreeSet<VersionId>) -> Vec<HistoryEntry> {
    let made = made_by(job);
    let worked_on = job.spec.works_on().and_then(|reference| state.any_version(reference).ok()).map(|v| v.id);
    let mut entries = Vec::new();
    for version in wanted.iter().filter_map(|id| state.versions.get(id)) {
        // A run also made what was registered of its checkpoints later.
        let is_made = made == Some(version.id) || comes_from(version, job.id);
        if is_made || worked_on == Some(version.id) {
            let other = if is_made { origin(state, job, version) } else { outcome(state, job) };
            entries.push(entry(state, job, version, is_made, other));
        }
    }
    entries
}

fn comes_from(version: &VersionRecord, job: JobId) -> bool {
    version.lineage.job == Some(job)
}

fn entry(state: &State, job: &JobRecord, version: &VersionRecord, made: bool, other: String) -> HistoryEntry {
    HistoryEntry {
        version: state.version_reference(version.id),
        at_ms: job.created_at_ms,
        person: job.person.clone(),
        what: job.spec.kind().to_owned(),
        made,
        job: Some(job.id),
        state: state.job_view(job.id).map(|view| view.shown),
        other,
    }
}

/// What a version was made of.
fn origin(state: &State, job: &JobRecord, version: &VersionRecord) -> String {
    match &job.spec {
        JobSpec::Train(spec) => format!("{}, {}", spec.base, spec.dataset),
        JobSpec::Register(spec) => {
            let step = spec.step.map(|step| format!(" @{step}")).unwrap_or_default();
            format!("{}{step}", spec.run.short())
        }
        JobSpec::Convert(_) => {
            version.lineage.parent.map_or_else(|| version.lineage.source.clone(), |id| state.version_reference(id))
        }
        _ => version.lineage.source.clone(),
    }
}

/// What came of a job that worked on a version.
fn outcome(state: &State, job: &JobRecord) -> String {
    match (&job.state, &job.spec) {
        (JobState::Failed(failure), _) => failure.message_en.clone(),
        (JobState::Succeeded(JobResult::Evaluation(id)), _) => {
            let Some(evaluation) = state.evaluations.get(id) else { return String::new() };
            let suite = state.suites.get(&evaluation.suite).map_or("?", |suite| suite.name.as_str());
            let score = evaluation.score.map(|score| format!(", {score:.3}")).unwrap_or_default();
            format!("{suite}{score}")
        }
        (JobState::Succeeded(JobResult::Exported { path, .. }), _) => path.clone(),
        (_, JobSpec::Evaluate(spec)) => spec.suite.clone(),
        _ => made_by(job).map_or_else(String::new, |id| state.version_reference(id)),
    }
}

/// An act on the version of this name. The subject of the audit log ends with the exact name, or lists several.
fn of_act(row: &AuditRow, name: &str) -> Option<HistoryEntry> {
    let subject = row.subject.as_str();
    let concerns = ACTS.contains(&row.verb.as_str()) && subject.split(' ').any(|word| word == name);
    concerns.then(|| HistoryEntry {
        version: name.to_owned(),
        at_ms: row.at_ms,
        person: row.person.clone(),
        what: row.verb.clone(),
        made: false,
        job: None,
        state: None,
        other: subject.split_once(" = ").map_or(String::new(), |(other, _)| other.to_owned()),
    })
}
