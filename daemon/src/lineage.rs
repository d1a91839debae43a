//! What came from what among datasets, read out of records: imports, batches, generations, models trained on a version and suites over
//! it. Never here: a fact of its own.

use std::collections::BTreeSet;

use hone_protocol::dataset::{DatasetSource, DatasetVersionRecord, LineageEdge, LineageKind};
use hone_protocol::failure::Failure;
use hone_protocol::id::DatasetVersionId;
use hone_protocol::job::JobSpec;

use crate::state::State;

/// Edges around a dataset or one version of it: all that it was made of, and all that was made of it.
pub(crate) fn around(state: &State, reference: &str) -> Result<Vec<LineageEdge>, Failure> {
    let begin: Vec<DatasetVersionId> = match reference.contains('@') {
        true => vec![state.any_dataset_version(reference)?.id],
        false => {
            let dataset = state.dataset(reference).ok_or_else(|| Failure::not_found("dataset", reference))?;
            state.dataset_versions_of(dataset.id).into_iter().map(|version| version.id).collect()
        }
    };
    let mut edges = Vec::new();
    let mut seen: BTreeSet<DatasetVersionId> = BTreeSet::new();
    let mut up = begin.clone();
    while let Some(id) = up.pop() {
        let Some(version) = state.dataset_versions.get(&id).filter(|_| seen.insert(id)) else { continue };
        for (parent, edge) in made_of(state, version) {
            up.extend(parent);
            edges.push(edge);
        }
    }
    let mut seen: BTreeSet<DatasetVersionId> = BTreeSet::new();
    let mut down = begin;
    while let Some(id) = down.pop() {
        let Some(version) = state.dataset_versions.get(&id).filter(|_| seen.insert(id)) else { continue };
        for other in state.dataset_versions.values() {
            for (parent, edge) in made_of(state, other) {
                if parent == Some(id) {
                    down.push(other.id);
                    edges.push(edge);
                }
            }
        }
        edges.extend(used_by(state, version));
    }
    edges.sort_by(|a, b| (&a.from, a.kind.word(), &a.to, &a.by).cmp(&(&b.from, b.kind.word(), &b.to, &b.by)));
    edges.dedup();
    Ok(edges)
}

/// What a version was made of.
fn made_of(state: &State, version: &DatasetVersionRecord) -> Vec<(Option<DatasetVersionId>, LineageEdge)> {
    let to = state.dataset_reference(version);
    let named = |id: &DatasetVersionId| {
        state.dataset_versions.get(id).map_or_else(|| id.to_string(), |version| state.dataset_reference(version))
    };
    let edge = |from: String, kind, by: String| LineageEdge { from, kind, by, to: to.clone() };
    if let Some(made) = &version.generated {
        let from = made.source.as_ref().map_or_else(|| made.standard.clone(), named);
        let by = format!("{} to {}", made.service, made.standard);
        return vec![(made.source, edge(from, LineageKind::Generation, by))];
    }
    if let Some(lineage) = &version.lineage {
        return vec![(Some(lineage.source), edge(named(&lineage.source), LineageKind::Batch, lineage.service.clone()))];
    }
    if let Some(parents) = &version.parents {
        let is_split =
            version.job.and_then(|job| state.jobs.get(&job)).is_some_and(|job| matches!(job.spec, JobSpec::Split(_)));
        let spec = version.job.and_then(|job| state.jobs.get(&job)).map(|job| &job.spec);
        let (kind, by) = match spec {
            _ if is_split => (LineageKind::Split, String::new()),
            Some(JobSpec::ImportDataset { source: DatasetSource::Labels { project, .. }, .. }) => {
                (LineageKind::Labels, project.clone())
            }
            _ => (LineageKind::Mix, String::new()),
        };
        return parents.iter().map(|id| (Some(*id), edge(named(id), kind, by.clone()))).collect();
    }
    let spec = version.job.and_then(|job| state.jobs.get(&job)).map(|job| &job.spec);
    let kind = match spec {
        Some(JobSpec::ImportDataset { source: DatasetSource::Judgements { .. }, .. }) => LineageKind::Judgements,
        Some(JobSpec::ImportDataset { source: DatasetSource::Log(_), .. }) => LineageKind::Log,
        _ => LineageKind::Import,
    };
    vec![(None, edge(version.import.source.clone(), kind, version.import.format.clone()))]
}

/// Models that were trained on a version, and suites over it.
fn used_by(state: &State, version: &DatasetVersionRecord) -> Vec<LineageEdge> {
    let from = state.dataset_reference(version);
    let edge = |kind, to: String| LineageEdge { from: from.clone(), kind, by: String::new(), to };
    let trained = state.versions.values().filter(|model| model.lineage.dataset == Some(version.id));
    let trained = trained.map(|model| edge(LineageKind::Training, state.version_reference(model.id)));
    let suites = state.suites.values().filter(|suite| suite.dataset == version.id);
    trained.chain(suites.map(|suite| edge(LineageKind::Suite, suite.name.clone()))).collect()
}
