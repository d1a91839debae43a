//! Versions of datasets: released or drafts, in the trash and out of it, and whose rows were written by a service. A record stays for
//! ever as a tombstone, as those of models do. Never here: touching a file; that is an effect, after the commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use hone_protocol::batch::BatchSpec;
use hone_protocol::blueprint::Tokens;
use hone_protocol::convert::Conversion;
use hone_protocol::dataset::{DatasetVersionRecord, Release};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::DatasetVersionId;
use hone_protocol::job::{JobRecord, JobResult, JobSpec, JobState};
use hone_protocol::labelling::ProjectRecord;
use hone_protocol::model::TRASH_KEPT_MS;
use hone_protocol::request::Answer;
use hone_protocol::value::Hash;

use super::effect::Effect;
use super::event::PickedPart;
use super::trash::{NOBODY, in_use};
use super::{Decider, Subject};
use crate::state::State;
use crate::store::{Table, codec};

impl State {
    /// `name@number` of a version of a dataset.
    pub fn dataset_reference(&self, version: &DatasetVersionRecord) -> String {
        let name = self.datasets.get(&version.dataset).map_or("?", |dataset| dataset.name.as_str());
        format!("{name}@{}", version.number)
    }

    /// The version nearest in the lineage of this one whose rows a service wrote to a standard; itself, or one that it was made of.
    pub fn generated_in(&self, id: DatasetVersionId) -> Option<String> {
        let mut seen = BTreeSet::new();
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            let Some(version) = self.dataset_versions.get(&id).filter(|_| seen.insert(id)) else { continue };
            if version.generated.is_some() {
                return Some(self.dataset_reference(version));
            }
            next.extend(version.lineage.as_ref().map(|lineage| lineage.source));
            next.extend(version.parents.iter().flatten().copied());
            next.extend(self.generated_beside(version));
        }
        None
    }

    /// Versions of the same dataset that share rows with this one: an import of verdicts or of a log goes on from the rows before.
    fn generated_beside(&self, version: &DatasetVersionRecord) -> Vec<DatasetVersionId> {
        let shares = |other: &&Arc<DatasetVersionRecord>| {
            let has = |segment: &Hash| version.segments.iter().any(|own| own.sha256 == *segment);
            other.dataset == version.dataset
                && other.number < version.number
                && other.segments.iter().any(|s| has(&s.sha256))
        };
        self.dataset_versions.values().filter(shares).map(|other| other.id).collect()
    }
}

impl Decider {
    /// Says whether a version may be trained on.
    pub(super) fn release_dataset(&mut self, person: &str, reference: &str, released: bool) -> Result<Answer, Failure> {
        let version = self.numbered_dataset(reference)?;
        if !version.is_live() {
            let message = format!("{reference} is in the trash; hone dataset restore {reference} takes it out");
            return Err(Failure::new(FailureCode::WrongState, message).at("version"));
        }
        if version.is_released() == released {
            let message = format!("{reference} is {} already", if released { "released" } else { "a draft" });
            return Err(Failure::new(FailureCode::WrongState, message).at("version"));
        }
        let release = match released {
            true => Release::Released { at_ms: self.now_ms, by: person.to_owned() },
            false => Release::Draft,
        };
        self.with_dataset_version(version.id, |version| version.release = Some(release));
        Ok(Answer::Done)
    }

    /// Puts versions into the trash, unless something uses one of them.
    pub(super) fn trash_dataset(&mut self, reference: &str) -> Result<Answer, Failure> {
        let chosen =
            self.dataset_versions_named(reference, DatasetVersionRecord::is_live, "is in the trash already")?;
        let mut users = BTreeSet::new();
        chosen.iter().for_each(|version| users.extend(users_of(&self.state, version)));
        if !users.is_empty() {
            return Err(in_use(reference, &users.into_iter().collect::<Vec<_>>()));
        }
        let at_ms = self.now_ms;
        for version in chosen {
            self.with_dataset_version(version.id, |version| version.trashed_at_ms = Some(at_ms));
        }
        Ok(Answer::Done)
    }

    /// Takes versions out of the trash.
    pub(super) fn restore_dataset(&mut self, reference: &str) -> Result<Answer, Failure> {
        let waits = |version: &DatasetVersionRecord| !version.is_live() && !version.is_removed();
        let chosen = self.dataset_versions_named(reference, waits, "is not in the trash, or its rows are removed")?;
        for version in chosen {
            self.with_dataset_version(version.id, |version| version.trashed_at_ms = None);
        }
        Ok(Answer::Done)
    }

    /// Removes the rows of versions in the trash, all or none.
    pub(super) fn purge_datasets(&mut self, references: &[String]) -> Result<Answer, Failure> {
        let mut chosen = Vec::new();
        for reference in references {
            let version = self.numbered_dataset(reference)?;
            if version.is_live() || version.is_removed() {
                let problem = if version.is_live() { "is not in the trash" } else { "is removed already" };
                return Err(Failure::new(FailureCode::WrongState, format!("{reference} {problem}")).at("versions"));
            }
            chosen.push(version.id);
        }
        chosen.into_iter().for_each(|id| self.remove_rows(id));
        Ok(Answer::Done)
    }

    /// Removes the rows of versions whose time in the trash is over.
    pub(super) fn empty_dataset_trash(&mut self) {
        let limit = self.now_ms - TRASH_KEPT_MS;
        let is_over = |v: &&Arc<DatasetVersionRecord>| v.trashed_at_ms.is_some_and(|at| at <= limit) && !v.is_removed();
        let over: Vec<DatasetVersionId> = self.state.dataset_versions.values().filter(is_over).map(|v| v.id).collect();
        for id in over {
            self.remove_rows(id);
            let reference = self.state.dataset_versions.get(&id).map(|version| self.state.dataset_reference(version));
            self.audit(NOBODY, "purge", &reference.unwrap_or_default());
        }
    }

    /// At start: removals that a crash kept from being carried out.
    pub(super) fn finish_row_removals(&mut self) {
        let removed: Vec<DatasetVersionId> =
            self.state.dataset_versions.values().filter(|v| v.is_removed()).map(|v| v.id).collect();
        removed.into_iter().for_each(|id| self.remove_segments_of(id));
    }

    fn remove_rows(&mut self, id: DatasetVersionId) {
        self.with_dataset_version(id, |version| version.removed = Some(true));
        self.remove_segments_of(id);
    }

    /// Only segments that no other version has.
    fn remove_segments_of(&mut self, id: DatasetVersionId) {
        let Some(version) = self.state.dataset_versions.get(&id).cloned() else { return };
        for segment in &version.segments {
            if self.state.dataset_versions.values().all(|other| other.is_removed() || !has(other, &segment.sha256)) {
                self.effects.push(Effect::RemoveSegment(segment.sha256));
            }
        }
    }

    fn numbered_dataset(&self, reference: &str) -> Result<Arc<DatasetVersionRecord>, Failure> {
        if !reference.contains('@') {
            let message = format!("{reference:?} may mean another version tomorrow; say which one: NAME@NUMBER");
            return Err(Failure::field("version", message));
        }
        self.state.any_dataset_version(reference).cloned()
    }

    /// The named version, or all of a dataset that `fits` says; a failure where none does.
    fn dataset_versions_named(
        &self,
        reference: &str,
        fits: impl Fn(&DatasetVersionRecord) -> bool,
        problem: &str,
    ) -> Result<Vec<Arc<DatasetVersionRecord>>, Failure> {
        let all = match reference.contains('@') {
            true => vec![self.state.any_dataset_version(reference)?.clone()],
            false => {
                let dataset = self.state.dataset(reference).ok_or_else(|| Failure::not_found("dataset", reference))?;
                self.state.dataset_versions_of(dataset.id).into_iter().cloned().collect()
            }
        };
        let chosen: Vec<_> = all.into_iter().filter(|version| fits(version)).collect();
        if chosen.is_empty() {
            return Err(Failure::new(FailureCode::WrongState, format!("{reference} {problem}")).at("dataset"));
        }
        Ok(chosen)
    }

    /// Rows of other versions become versions: all of them, or none. Of a draft only drafts are made.
    pub(super) fn add_picked(
        &mut self,
        job: &JobRecord,
        sources: &[DatasetVersionId],
        parts: Vec<PickedPart>,
    ) -> Result<JobResult, Failure> {
        let next = |name: &str| self.state.dataset(name).map_or(0, |dataset| dataset.next_row_id);
        if parts.iter().any(|part| next(&part.name) != part.first_row_id || part.segments.is_empty()) {
            let message = "another import gave out row ids of these datasets in the meantime";
            return Err(Failure::new(FailureCode::Interrupted, message).hint(HintCode::TryAgain));
        }
        let versions = || sources.iter().filter_map(|id| self.state.dataset_versions.get(id));
        let is_draft = versions().any(|version| !version.is_released());
        let licences = versions().filter_map(|version| self.state.datasets.get(&version.dataset));
        let licences: BTreeSet<&str> = licences.map(|dataset| dataset.licence.as_str()).collect();
        let licence = licences.into_iter().filter(|licence| !licence.is_empty()).collect::<Vec<_>>().join(" + ");
        let mut made = Vec::new();
        let mut result = None;
        for part in parts {
            let rows = (part.report, part.segments, part.first_row_id);
            let added = self.add_rows(job, &part.name, rows, &licence, None)?;
            if let JobResult::Dataset(id, _) = &added {
                made.push(*id);
                self.with_dataset_version(*id, |version| {
                    version.parents = Some(sources.to_vec());
                    if is_draft {
                        version.release = Some(Release::Draft);
                    }
                });
            }
            result = Some(added);
        }
        match (made.len(), result) {
            (1, Some(result)) => Ok(result),
            _ => Ok(JobResult::Datasets(made)),
        }
    }

    /// Changes a version's record and stores it.
    pub(super) fn with_dataset_version(
        &mut self,
        id: DatasetVersionId,
        change: impl FnOnce(&mut DatasetVersionRecord),
    ) {
        let versions = Arc::make_mut(&mut self.state.dataset_versions);
        let Some(record) = versions.get_mut(&id).map(Arc::make_mut) else { return };
        change(record);
        let dataset = record.dataset;
        self.writes.put(Table::DatasetVersions, *id.bytes(), codec::record(&*record));
        self.dirty.insert(Subject::Dataset(dataset));
    }
}

pub(crate) fn has(version: &DatasetVersionRecord, segment: &Hash) -> bool {
    version.segments.iter().any(|own| own.sha256 == *segment)
}

/// Everything that would miss a version: suites, and jobs that have not ended.
fn users_of(state: &State, version: &DatasetVersionRecord) -> Vec<String> {
    let mut users: Vec<String> = state
        .suites
        .values()
        .filter(|suite| suite.dataset == version.id)
        .map(|suite| format!("suite {}", suite.name))
        .collect();
    let labelled = |project: &&Arc<ProjectRecord>| {
        let own = state.any_dataset_version(&project.spec.dataset).is_ok_and(|read| read.id == version.id);
        own && project.closed_at_ms.is_none()
    };
    users.extend(state.projects.values().filter(labelled).map(|project| format!("project {}", project.name)));
    for job in state.jobs.values().filter(|job| job.state == JobState::Queued) {
        let reads = datasets_of(&job.spec)
            .into_iter()
            .any(|reference| state.any_dataset_version(reference).is_ok_and(|read| read.id == version.id));
        if reads {
            users.push(format!("job {} ({})", job.id, job.spec.kind()));
        }
    }
    users
}

/// Datasets that a job reads, as it names them; pinned when it was submitted.
fn datasets_of(spec: &JobSpec) -> Vec<&str> {
    match spec {
        JobSpec::Train(spec) => {
            let replay = spec.replay.iter().map(|replay| replay.dataset.as_str());
            [spec.dataset.as_str()].into_iter().chain(replay).collect()
        }
        JobSpec::Convert(Conversion::Init { tokens: Tokens::Learn { dataset, .. }, .. })
        | JobSpec::Convert(Conversion::Bench { dataset, .. }) => vec![dataset],
        JobSpec::Batch(BatchSpec::Dataset(batch)) => vec![&batch.dataset],
        JobSpec::Generate(spec) => vec![&spec.source],
        JobSpec::Mix(spec) => spec.sources.iter().map(|source| source.dataset.as_str()).collect(),
        JobSpec::Split(spec) => vec![&spec.dataset],
        _ => Vec::new(),
    }
}
