//! Reads about rows: which of them a standard refuses, what a generation may come to, what it let go, and the trash of datasets. Never
//! here: the checks themselves, children.

use std::sync::Arc;

use hone_protocol::dataset::{DatasetVersionRecord, Part, Split};
use hone_protocol::failure::Failure;
use hone_protocol::generation::GenerateSpec;
use hone_protocol::id::JobId;
use hone_protocol::job::JobSpec;
use hone_protocol::model::{TRASH_KEPT_MS, TrashItem};
use hone_protocol::request::{Answer, ROWS_MAX};
use hone_protocol::standard::{CheckedRows, FaultyRow};
use hone_protocol::worker::Select;

use super::connection::Room;
use super::reads::unreadable;
use crate::dispatcher::{candidate_key, has_segment};
use crate::jobs::generate;
use crate::jobs::generate::estimate::{SAMPLE_ROWS, estimate as estimate_of};
use crate::standards::Checker;
use crate::state::State;
use crate::store::{Table, after, codec};
use crate::usage;

fn window(offset: u64, count: u32) -> Select {
    Select::Window { offset, count, split: Split { held_out_percent: 0, seed: 0 }, part: Part::All }
}

/// Rows of a window that a standard refuses.
pub(super) async fn check_rows(
    room: &Arc<Room>,
    state: &State,
    standard: &str,
    dataset: &str,
    (offset, count): (u64, u32),
) -> Result<Answer, Failure> {
    let standard = state.standard(standard)?.clone();
    let version = state.dataset_version(dataset)?;
    let (rows, total) = room.readers.rows(version, window(offset, count.min(ROWS_MAX))).await?;
    let until = offset + rows.len() as u64;
    let checked = usage::aside(move || {
        let checker = Checker::new(&standard.spec)?;
        let faulty = rows.iter().filter_map(|row| {
            let faults = checker.faults(&row.messages);
            (!faults.is_empty()).then_some(FaultyRow { row_id: row.row_id, faults })
        });
        Ok(CheckedRows { standard: standard.reference(), until, total, faulty: faulty.collect() })
    });
    checked.await.map(Answer::Checked)
}

/// What a generation may come to.
pub(super) async fn estimate(room: &Arc<Room>, state: &State, spec: GenerateSpec) -> Result<Answer, Failure> {
    let spec = JobSpec::Generate(Box::new(spec));
    generate::check(state, &spec)?;
    let JobSpec::Generate(spec) = spec else { return Err(Failure::not_found("form", "generate")) };
    let standard = state.standard(&spec.standard)?;
    let (sample, total) = match spec.source.as_str() {
        "" => (Vec::new(), 0),
        source => room.readers.rows(state.dataset_version(source)?, window(0, SAMPLE_ROWS)).await?,
    };
    estimate_of(state, &room.store, &spec, &standard.spec, &sample, total).map(Answer::Estimate)
}

/// Candidates of a generation that became no rows.
pub(super) fn rejected(room: &Room, state: &State, job: JobId, from: u64, count: u32) -> Result<Answer, Failure> {
    state.job(job)?;
    let (first, last) = (candidate_key(job, from), after(job.bytes()));
    let pairs = room.store.range(Table::RejectedCandidates, &first, &last, false, count.min(ROWS_MAX) as usize);
    codec::read_all(Table::RejectedCandidates, &pairs.map_err(unreadable)?).map(Answer::Rejected).map_err(unreadable)
}

/// Versions in the trash, the oldest first. Rows that another version has free nothing.
pub(super) fn trash(state: &State) -> Vec<TrashItem> {
    let in_trash = |version: &&Arc<DatasetVersionRecord>| !version.is_live() && !version.is_removed();
    let mut versions: Vec<_> = state.dataset_versions.values().filter(in_trash).collect();
    versions.sort_by_key(|version| version.trashed_at_ms);
    let item = |version: &Arc<DatasetVersionRecord>| {
        let others = || state.dataset_versions.values().filter(|other| other.id != version.id && !other.is_removed());
        let own = version.segments.iter().filter(|segment| !others().any(|other| has_segment(other, &segment.sha256)));
        let trashed_at_ms = version.trashed_at_ms.unwrap_or_default();
        TrashItem {
            version: state.dataset_reference(version),
            trashed_at_ms,
            removed_at_ms: trashed_at_ms + TRASH_KEPT_MS,
            frees_bytes: own.map(|segment| segment.size_bytes).sum(),
        }
    };
    versions.into_iter().map(item).collect()
}
