//! What attempts made becomes records: result, state, lineage and everything that follows commit together.

use std::sync::Arc;

use hone_protocol::batch::{BatchSpec, DatasetLineage};
use hone_protocol::convert::{Conversion, Receipt};
use hone_protocol::dataset::{
    DatasetRecord, DatasetSource, DatasetVersionRecord, ImportReport, Release, Segment, Shape,
};
use hone_protocol::evaluation::EvaluationRecord;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{DatasetVersionId, JobId, ModelId, VersionId};
use hone_protocol::job::{JobRecord, JobResult, JobSpec, JobState};
use hone_protocol::model::{Lineage, ModelFacts, ModelRecord, VersionRecord, Weights, WeightsFile};
use hone_protocol::recipe::{DatasetFacts, Processed};
use hone_protocol::service::Price;
use hone_protocol::train::{Register, TrainResult, Tuning};

use super::event::Produced;
use super::{Decider, Subject};
use crate::clock::new_id;
use crate::jobs;
use crate::request_log::rows::logged_key;
use crate::store::{Table, codec};

/// Why the first row of a report was rejected.
fn first_reason(report: &ImportReport) -> String {
    report.rejections.first().map_or(String::new(), |first| format!("; of row {}: {}", first.line, first.reason))
}

/// A version that is about to be recorded.
struct NewVersion {
    id: VersionId,
    weights: Weights,
    file: WeightsFile,
    facts: ModelFacts,
    lineage: Lineage,
    receipt: Option<Receipt>,
}

impl Decider {
    /// Records what an attempt made and ends its job.
    pub(super) fn produced(&mut self, job: JobId, produced: Produced) {
        let Some(record) = self.state.jobs.get(&job).cloned() else { return };
        let ended = match produced {
            Produced::Model { version, facts, file, source } => {
                let lineage =
                    Lineage { job: Some(job), step: None, dataset: None, source, parent: None, warning: None };
                let name = match &record.spec {
                    JobSpec::ImportModel { name, .. } | JobSpec::Convert(Conversion::Init { name, .. }) => name.clone(),
                    _ => facts.name.clone(),
                };
                let licence = facts.licence.clone();
                let new = NewVersion { id: version, weights: Weights::Base, file, facts, lineage, receipt: None };
                Ok(JobResult::Model(self.add_version(&record.person, &name, &licence, new)))
            }
            Produced::Dataset { report, segments, first_row_id, licence, lineage, responses, processed } => {
                let made =
                    self.add_dataset_version(&record, report, segments, first_row_id, &licence, (lineage, processed));
                if let (Ok(_), JobSpec::ImportDataset { name, .. }) = (&made, &record.spec) {
                    for response in responses {
                        self.writes.put(Table::LoggedRows, logged_key(name, response), codec::record(&()));
                    }
                }
                made
            }
            Produced::Generated { made, report, segments, first_row_id } => {
                self.add_generated(&record, made, report, segments, first_row_id)
            }
            Produced::Picked { sources, parts } => self.add_picked(&record, &sources, parts),
            Produced::Suggested(rows) => {
                self.let_rows_go(record.id, false);
                Ok(JobResult::Suggested(rows))
            }
            Produced::Batch(counts) => Ok(JobResult::Batch(counts)),
            Produced::Facts(version, facts) => self.add_facts(version, facts),
            Produced::Adapter { version, result } => self.add_adapter(&record, version, result),
            Produced::Converted { version, facts, file, adapter, parent, source, warning, receipt } => {
                let lineage = Lineage {
                    job: Some(job),
                    step: None,
                    dataset: None,
                    source,
                    parent: Some(parent),
                    warning: Some(warning).filter(|text| !text.is_empty()),
                };
                let new = NewVersion { id: version, weights: Weights::Base, file, facts, lineage, receipt };
                self.add_converted(&record, adapter, new)
            }
            Produced::Registered { version, facts, file, step } => {
                self.add_registered(&record, (version, file, facts), step)
            }
            Produced::Bench(report) => Ok(JobResult::Bench(report)),
            Produced::Exported { path, files } => Ok(JobResult::Exported { path, files }),
            Produced::Evaluation { rows, loss_sum, loss_tokens, score } => {
                self.add_evaluation(&record, rows, loss_sum, loss_tokens, score)
            }
        };
        match ended {
            Ok(result) => self.end_job(job, JobState::Succeeded(result)),
            Err(failure) => self.end_job(job, JobState::Failed(failure)),
        }
    }

    fn model_named(&mut self, person: &str, name: &str, licence: &str) -> ModelId {
        if let Some(model) = self.state.model(name) {
            return model.id;
        }
        let model = ModelRecord {
            id: new_id(),
            name: name.to_owned(),
            title: String::new(),
            licence: licence.to_owned(),
            aliases: Vec::new(),
            gates: None,
            created_at_ms: self.now_ms,
            created_by: person.to_owned(),
        };
        let id = model.id;
        self.writes.put(Table::Models, *id.bytes(), codec::record(&model));
        Arc::make_mut(&mut self.state.models).insert(id, Arc::new(model));
        id
    }

    fn add_version(&mut self, person: &str, model: &str, licence: &str, new: NewVersion) -> VersionId {
        let model = self.model_named(person, model, licence);
        let number = self.state.versions_of(model).last().map_or(1, |v| v.number + 1);
        let version = VersionRecord {
            id: new.id,
            model,
            number,
            weights: new.weights,
            file: new.file,
            facts: new.facts,
            lineage: new.lineage,
            created_at_ms: self.now_ms,
            created_by: person.to_owned(),
            receipt: new.receipt,
            trashed_at_ms: None,
        };
        self.writes.put(Table::Versions, *version.id.bytes(), codec::record(&version));
        Arc::make_mut(&mut self.state.versions).insert(version.id, Arc::new(version));
        self.dirty.insert(Subject::Model(model));
        new.id
    }

    pub(super) fn add_dataset_version(
        &mut self,
        job: &JobRecord,
        report: ImportReport,
        segments: Vec<Segment>,
        first_row_id: u64,
        licence: &str,
        (lineage, processed): (Option<DatasetLineage>, Option<Box<Processed>>),
    ) -> Result<JobResult, Failure> {
        let name = match &job.spec {
            JobSpec::ImportDataset { name, .. } => name,
            JobSpec::Batch(BatchSpec::Dataset(batch)) => &batch.name,
            JobSpec::Process(spec) => &spec.name,
            JobSpec::Generate(spec) => &spec.name,
            _ => return Err(Failure::new(FailureCode::Internal, "rows came from a job that makes none")),
        };
        let result = self.add_rows(job, name, (report, segments, first_row_id), licence, lineage)?;
        if let (Some(processed), JobResult::Dataset(version, _)) = (processed, &result) {
            // What a service wrote stays what a service wrote, and a draft stays a draft.
            let source = self.state.dataset_versions.get(&processed.source).cloned();
            self.with_dataset_version(*version, |version| {
                version.parents = Some(vec![processed.source]);
                version.processed = Some(processed);
                if let Some(source) = source {
                    version.generated = source.generated.clone();
                    if !source.is_released() {
                        version.release = Some(Release::Draft);
                    }
                }
            });
        }
        Ok(result)
    }

    /// Adds a version of a dataset, which is made if it is not there.
    pub(super) fn add_rows(
        &mut self,
        job: &JobRecord,
        name: &str,
        (report, mut segments, first_row_id): (ImportReport, Vec<Segment>, u64),
        licence: &str,
        lineage: Option<DatasetLineage>,
    ) -> Result<JobResult, Failure> {
        let rows: u64 = segments.iter().map(|s| s.rows).sum();
        if rows == 0 {
            let message = format!("none of the {} rows could be kept{}", report.read, first_reason(&report));
            return Err(Failure::new(FailureCode::NoRows, message).at(report.source).hint(HintCode::CorrectFile));
        }
        let shape = Shape::of_format(&report.format);
        let mut dataset = match self.state.dataset(name) {
            Some(dataset) if dataset.shape != shape => {
                let message = format!(
                    "{name} holds {} rows, these are {} rows; import them under another name",
                    dataset.shape.word(),
                    shape.word()
                );
                return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
            }
            Some(dataset) => (**dataset).clone(),
            None => DatasetRecord {
                id: new_id(),
                name: name.to_owned(),
                title: String::new(),
                shape,
                licence: licence.to_owned(),
                next_row_id: 0,
                created_at_ms: self.now_ms,
                created_by: job.person.clone(),
            },
        };
        if dataset.next_row_id != first_row_id {
            let message = "another import gave out row ids of this dataset in the meantime";
            return Err(Failure::new(FailureCode::Interrupted, message).hint(HintCode::TryAgain));
        }
        dataset.next_row_id = first_row_id + rows;
        let number = self.state.dataset_versions_of(dataset.id).last().map_or(1, |newest| newest.number + 1);
        let before = self.state.dataset_versions_of(dataset.id).into_iter().rfind(|v| v.is_live()).cloned();
        if let JobSpec::ImportDataset { source: DatasetSource::Judgements { .. } | DatasetSource::Log(_), .. } =
            &job.spec
        {
            // What was judged or logged before stays: the new rows follow those of the version before.
            segments.splice(0..0, before.map(|before| before.segments.clone()).unwrap_or_default());
        }
        if let JobSpec::ImportDataset { source: DatasetSource::Judgements { until }, .. } = &job.spec {
            self.made_of_judgements(name, *until);
        }
        let rows = segments.iter().map(|s| s.rows).sum();
        let version = DatasetVersionRecord {
            id: new_id(),
            dataset: dataset.id,
            number,
            segments,
            rows,
            import: report.clone(),
            job: Some(job.id),
            lineage,
            processed: None,
            facts: None,
            created_at_ms: self.now_ms,
            created_by: job.person.clone(),
            generated: None,
            release: Some(Release::Released { at_ms: self.now_ms, by: job.person.clone() }),
            trashed_at_ms: None,
            removed: None,
            parents: None,
        };
        if version.lineage.is_some() {
            self.let_rows_go(job.id, false);
        }
        let result = JobResult::Dataset(version.id, report);
        self.writes.put(Table::Datasets, *dataset.id.bytes(), codec::record(&dataset));
        self.writes.put(Table::DatasetVersions, *version.id.bytes(), codec::record(&version));
        self.dirty.insert(Subject::Dataset(dataset.id));
        Arc::make_mut(&mut self.state.datasets).insert(dataset.id, Arc::new(dataset));
        Arc::make_mut(&mut self.state.dataset_versions).insert(version.id, Arc::new(version));
        Ok(result)
    }

    fn add_facts(&mut self, version: DatasetVersionId, facts: Box<DatasetFacts>) -> Result<JobResult, Failure> {
        if !self.state.dataset_versions.contains_key(&version) {
            return Err(Failure::not_found("dataset version", &version.to_string()));
        }
        self.with_dataset_version(version, |version| version.facts = Some(facts));
        Ok(JobResult::Facts(version))
    }

    fn add_adapter(
        &mut self,
        job: &JobRecord,
        made: Option<(VersionId, WeightsFile, ModelFacts)>,
        mut result: TrainResult,
    ) -> Result<JobResult, Failure> {
        let JobSpec::Train(spec) = &job.spec else {
            return Err(Failure::new(FailureCode::Internal, "an adapter came from a job that trains none"));
        };
        if let (Some(register), Some(made)) = (&spec.register, made) {
            result.version = Some(self.add_trained(job, job, register, made, result.kept_step)?);
        }
        Ok(JobResult::Train(result))
    }

    /// A kept checkpoint of a run becomes a version of it, whatever became of the run.
    fn add_registered(
        &mut self,
        job: &JobRecord,
        made: (VersionId, WeightsFile, ModelFacts),
        step: u64,
    ) -> Result<JobResult, Failure> {
        let JobSpec::Register(spec) = &job.spec else {
            return Err(Failure::new(FailureCode::Internal, "a checkpoint came from a job that registers none"));
        };
        let run = self.state.job(spec.run)?.clone();
        Ok(JobResult::Model(self.add_trained(job, &run, &spec.register, made, step)?))
    }

    /// Adds what a step of a run holds as a version; `job` asked for it.
    fn add_trained(
        &mut self,
        job: &JobRecord,
        run: &JobRecord,
        register: &Register,
        (id, file, facts): (VersionId, WeightsFile, ModelFacts),
        step: u64,
    ) -> Result<VersionId, Failure> {
        let JobSpec::Train(spec) = &run.spec else {
            return Err(Failure::new(FailureCode::Internal, "a checkpoint came from a job that trains none"));
        };
        let base = self.state.version(&spec.base)?.clone();
        let licence = self.state.models.get(&base.model).map_or(String::new(), |m| m.licence.clone());
        let lineage = Lineage {
            job: Some(run.id),
            step: Some(step),
            dataset: Some(self.state.dataset_version(&spec.dataset)?.id),
            source: format!("trained on {}", spec.base),
            parent: None,
            warning: None,
        };
        let (rank, alpha) = (spec.params.rank, spec.params.alpha_over_rank());
        let weights = match spec.params.tuning {
            Tuning::Lora => Weights::Adapter { base: base.id, rank, alpha },
            Tuning::Full => Weights::Base,
        };
        let new = NewVersion { id, weights, file, facts, lineage, receipt: None };
        let version = self.add_version(&job.person, &register.model, &licence, new);
        self.after_register(job, register, version);
        Ok(version)
    }

    /// A version made of another keeps its licence and, unless it is an adapter, the data it was trained on.
    fn add_converted(
        &mut self,
        job: &JobRecord,
        adapter: Option<(u32, f32)>,
        mut new: NewVersion,
    ) -> Result<JobResult, Failure> {
        let (
            JobSpec::Convert(
                Conversion::Merge { name, .. }
                | Conversion::Quantize { name, .. }
                | Conversion::ImportPeft { name, .. },
            ),
            Some(parent),
        ) = (&job.spec, new.lineage.parent)
        else {
            return Err(Failure::new(FailureCode::Internal, "a version came from a job that makes none"));
        };
        let Some(before) = self.state.versions.get(&parent).cloned() else {
            return Err(Failure::not_found("version", &parent.to_string()));
        };
        match adapter {
            Some((rank, alpha)) => new.weights = Weights::Adapter { base: parent, rank, alpha },
            None => {
                new.lineage.step = before.lineage.step;
                new.lineage.dataset = before.lineage.dataset;
            }
        }
        let licence = self.state.models.get(&before.model).map_or(String::new(), |m| m.licence.clone());
        Ok(JobResult::Model(self.add_version(&job.person, name, &licence, new)))
    }

    /// Alias and service, as part four of the form asked. What fails here is noted, and the version stays.
    fn after_register(&mut self, job: &JobRecord, register: &Register, version: VersionId) {
        if !register.alias.is_empty() {
            let reference = self.state.version_reference(version);
            let model = reference.split_once('@').map_or("", |(model, _)| model).to_owned();
            match self.set_alias(&job.person, &model, &register.alias, &reference, None) {
                Ok(_) => self.audit(&job.person, "set_alias", &format!("{model}:{} = {reference}", register.alias)),
                Err(failure) => self.job_event(job.id, hone_protocol::job::JobEventKind::Interrupted(failure)),
            }
        }
        if !register.publish.is_empty() {
            let reference = self.state.version_reference(version);
            let price = self.state.service(&register.publish).map_or(Price::default(), |s| s.price);
            match self.publish(&job.person, &register.publish, &reference, (0, 0), price, (None, None)) {
                Ok(_) => self.audit(&job.person, "publish", &format!("{} = {reference}", register.publish)),
                Err(failure) => {
                    let kind = hone_protocol::job::JobEventKind::Interrupted(failure);
                    self.job_event(job.id, kind);
                }
            }
        }
    }

    fn add_evaluation(
        &mut self,
        job: &JobRecord,
        rows: u64,
        loss_sum: f64,
        loss_tokens: u64,
        score: Option<f64>,
    ) -> Result<JobResult, Failure> {
        let JobSpec::Evaluate(spec) = &job.spec else {
            return Err(Failure::new(FailureCode::Internal, "an evaluation came from a job that makes none"));
        };
        let evaluation = EvaluationRecord {
            id: jobs::evaluation_id(job.id),
            suite: self.state.suite(&spec.suite)?.id,
            version: self.state.version(&spec.version)?.id,
            job: job.id,
            rows,
            loss: (loss_tokens > 0).then(|| loss_sum / loss_tokens as f64),
            loss_tokens,
            score,
            created_at_ms: self.now_ms,
        };
        let id = evaluation.id;
        self.writes.put(Table::Evaluations, *id.bytes(), codec::record(&evaluation));
        self.dirty.insert(Subject::Evaluation(id));
        if let Some(version) = self.state.versions.get(&evaluation.version) {
            self.dirty.insert(Subject::Model(version.model));
        }
        Arc::make_mut(&mut self.state.evaluations).insert(id, Arc::new(evaluation));
        Ok(JobResult::Evaluation(id))
    }
}
