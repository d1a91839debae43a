//! Standards: a new number with each edit, and removal, which keeps what was. And what generations made to them. Never here: whether a
//! row is as a standard says (see `standards`), asking services.

use std::sync::Arc;

use hone_protocol::dataset::{ImportReport, Release, Segment};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generation::{Generated, RejectedCandidate};
use hone_protocol::id::JobId;
use hone_protocol::job::{JobRecord, JobResult, JobSpec, JobState};
use hone_protocol::request::Answer;
use hone_protocol::standard::{STANDARDS_MAX, StandardRecord, StandardSpec, StandardView};

use super::Decider;
use super::commands::check_name;
use crate::standards;
use crate::state::State;
use crate::store::{Table, codec, key};

/// The key of a version of a standard. A name holds no zero byte.
fn standard_key(name: &str, number: u32) -> Vec<u8> {
    key(&[name.as_bytes(), &[0], &number.to_be_bytes()])
}

/// The key of a candidate of a generation that became no row.
pub(crate) fn candidate_key(job: JobId, number: u64) -> Vec<u8> {
    key(&[job.bytes(), &number.to_be_bytes()])
}

impl State {
    /// A version of a standard by `name` or `name@number`; of a removed one only where a number is said.
    pub fn standard(&self, reference: &str) -> Result<&Arc<StandardRecord>, Failure> {
        let (name, number) = match reference.split_once('@') {
            Some((name, number)) => (name, Some(number)),
            None => (reference, None),
        };
        let missing = || Failure::not_found("standard", reference);
        let mut versions =
            self.standards.range((name.to_owned(), 0)..=(name.to_owned(), u32::MAX)).map(|(_, record)| record);
        match number {
            Some(number) => {
                let number: u32 = number.parse().map_err(|_| missing())?;
                self.standards.get(&(name.to_owned(), number)).ok_or_else(missing)
            }
            None => versions.next_back().filter(|newest| newest.removed_at_ms.is_none()).ok_or_else(missing),
        }
    }

    /// Standards that are not removed, with their versions.
    pub fn standard_views(&self) -> Vec<StandardView> {
        let mut views: Vec<StandardView> = Vec::new();
        for record in self.standards.values().filter(|record| record.removed_at_ms.is_none()) {
            match views.last_mut().filter(|view| view.name == record.name) {
                Some(view) => view.versions.push((**record).clone()),
                None => views.push(StandardView { name: record.name.clone(), versions: vec![(**record).clone()] }),
            }
        }
        views
    }
}

impl Decider {
    /// Makes a standard, or a new version of one.
    pub(super) fn set_standard(&mut self, person: &str, name: &str, spec: StandardSpec) -> Result<Answer, Failure> {
        check_name("name", name)?;
        standards::check(&spec)?;
        let mut versions = self.state.standards.range((name.to_owned(), 0)..=(name.to_owned(), u32::MAX));
        let newest = versions.next_back().map(|(_, record)| record.clone());
        if let Some(newest) = &newest
            && newest.removed_at_ms.is_none()
            && newest.spec == spec
        {
            return Ok(Answer::Standard(Box::new((**newest).clone())));
        }
        let is_new = newest.is_none();
        let names: std::collections::BTreeSet<&String> = self.state.standards.keys().map(|(name, _)| name).collect();
        if is_new && names.len() >= STANDARDS_MAX {
            let message = format!("there are {STANDARDS_MAX} standards already; change one that is there");
            return Err(Failure::new(FailureCode::InvalidRequest, message).at("name"));
        }
        let record = StandardRecord {
            name: name.to_owned(),
            number: newest.map_or(1, |newest| newest.number + 1),
            spec,
            created_at_ms: self.now_ms,
            created_by: person.to_owned(),
            removed_at_ms: None,
        };
        self.put_standard(record.clone());
        Ok(Answer::Standard(Box::new(record)))
    }

    fn put_standard(&mut self, record: StandardRecord) {
        let (name, number) = (record.name.clone(), record.number);
        self.writes.put(Table::Standards, standard_key(&name, number), codec::record(&record));
        Arc::make_mut(&mut self.state.standards).insert((name, number), Arc::new(record));
    }

    /// Removes a standard. Its versions stay readable by number, because rows and jobs name them.
    pub(super) fn remove_standard(&mut self, name: &str) -> Result<Answer, Failure> {
        self.state.standard(name)?;
        let uses = |job: &&Arc<JobRecord>| match &job.spec {
            JobSpec::Generate(spec) => job.state == JobState::Queued && spec.standard.split('@').next() == Some(name),
            _ => false,
        };
        let users: Vec<String> = self.state.jobs.values().filter(uses).map(|job| job.id.to_string()).collect();
        if !users.is_empty() {
            let message = format!("{name} is used by job {}", users.join(", job "));
            return Err(Failure::new(FailureCode::InUse, message).at("name").hint(HintCode::StopUsers));
        }
        let versions = self.state.standards.range((name.to_owned(), 0)..=(name.to_owned(), u32::MAX));
        let versions: Vec<StandardRecord> = versions.map(|(_, record)| (**record).clone()).collect();
        for version in versions.into_iter().filter(|version| version.removed_at_ms.is_none()) {
            self.put_standard(StandardRecord { removed_at_ms: Some(self.now_ms), ..version });
        }
        Ok(Answer::Done)
    }

    /// Keeps candidates that became no rows.
    pub(super) fn keep_rejected(&mut self, job: JobId, candidates: Vec<RejectedCandidate>) {
        for candidate in candidates {
            let key = candidate_key(job, candidate.number);
            self.writes.put(Table::RejectedCandidates, key, codec::record(&candidate));
        }
    }

    /// Rows that a service wrote become a version, which is a draft until a person releases it.
    pub(super) fn add_generated(
        &mut self,
        job: &JobRecord,
        made: Generated,
        report: ImportReport,
        segments: Vec<Segment>,
        first_row_id: u64,
    ) -> Result<JobResult, Failure> {
        let licence = made.source.and_then(|source| self.state.dataset_versions.get(&source));
        let licence = licence.and_then(|version| self.state.datasets.get(&version.dataset));
        let licence = licence.map_or(String::new(), |dataset| dataset.licence.clone());
        let result = self.add_dataset_version(job, report, segments, first_row_id, &licence, (None, None))?;
        if let JobResult::Dataset(version, _) = &result {
            self.with_dataset_version(*version, |version| {
                version.generated = Some(made);
                version.release = Some(Release::Draft);
            });
        }
        // The rows have what was asked and answered; what failed is kept, because nothing else has it.
        self.let_rows_go(job.id, false);
        Ok(result)
    }
}
