//! What several screens say about the same thing in the same way: a job in one line, its state, a version's facts.

use hone_protocol::convert::Conversion;
use hone_protocol::job::{JobResult, JobSpec, JobState, JobView, ShownState};
use hone_protocol::model::{ModelSource, VersionView};
use hone_protocol::service::{ServiceState, ServiceView};

use super::View;
use crate::glyphs::Glyphs;
use crate::theme::Token;
use crate::widgets::canvas::{Piece, piece};
use crate::widgets::number;
use crate::widgets::text::{one_line, pad};

/// What a job is about, without its kind.
pub(crate) fn job_subject(job: &JobView) -> String {
    let text = match &job.record.spec {
        JobSpec::ImportModel { name, source: ModelSource::Path { path, .. } } if name.is_empty() => path.clone(),
        JobSpec::ImportModel { name, .. } | JobSpec::ImportDataset { name, .. } => name.clone(),
        JobSpec::Train(spec) => match &spec.register {
            Some(register) if !register.model.is_empty() => format!("{} < {}", register.model, spec.dataset),
            _ => format!("{} < {}", spec.base, spec.dataset),
        },
        JobSpec::Evaluate(spec) => format!("{} on {}", spec.version, spec.suite),
        JobSpec::Register(spec) => {
            let step = spec.step.map(|step| format!(" @{step}")).unwrap_or_default();
            format!("{} < {}{step}", spec.register.model, spec.run.short())
        }
        JobSpec::Convert(conversion) => {
            let (from, to) = conversion.ends();
            format!("{to} < {from}")
        }
        JobSpec::Batch(spec) => {
            let (from, to) = spec.ends();
            format!("{to} < {from}")
        }
        JobSpec::Process(spec) => format!("{} < {}", spec.name, spec.source),
        JobSpec::Facts(spec) => spec.dataset.clone(),
        JobSpec::Mix(spec) => {
            let sources: Vec<&str> = spec.sources.iter().map(|source| source.dataset.as_str()).collect();
            format!("{} < {}", spec.name, sources.join(" + "))
        }
        JobSpec::Split(spec) => {
            let parts: Vec<&str> = spec.parts.iter().map(|part| part.name.as_str()).collect();
            format!("{} < {}", parts.join(" + "), spec.dataset)
        }
        JobSpec::Suggest(spec) => format!("{} < {}", spec.project, spec.service),
        JobSpec::Generate(spec) => format!("{} < {} > {}", spec.name, spec.standard, spec.service),
    };
    one_line(&text)
}

/// Catalogue key of a job's kind.
pub(crate) fn job_kind(job: &JobView) -> &'static str {
    match &job.record.spec {
        JobSpec::ImportModel { .. } => "kind.import_model",
        JobSpec::ImportDataset { .. } => "kind.import_dataset",
        JobSpec::Train(_) => "kind.train",
        JobSpec::Evaluate(_) => "kind.evaluate",
        JobSpec::Register(_) => "kind.register",
        JobSpec::Batch(_) => "kind.batch",
        JobSpec::Process(_) => "kind.process",
        JobSpec::Facts(_) => "kind.facts",
        JobSpec::Generate(_) => "kind.generate",
        JobSpec::Mix(_) => "kind.mix",
        JobSpec::Split(_) => "kind.split",
        JobSpec::Suggest(_) => "kind.suggest",
        JobSpec::Convert(Conversion::Init { .. }) => "kind.init",
        JobSpec::Convert(Conversion::Bench { .. }) => "kind.bench",
        JobSpec::Convert(Conversion::Merge { .. }) => "kind.merge",
        JobSpec::Convert(Conversion::Quantize { .. }) => "kind.quantize",
        JobSpec::Convert(Conversion::ImportPeft { .. }) => "kind.import_adapter",
        JobSpec::Convert(Conversion::Export { .. }) => "kind.export",
    }
}

/// A state's sign, word and token.
pub(crate) fn job_state(view: &View<'_>, job: &JobView, glyphs: &Glyphs) -> Piece {
    let (sign, word, token) = match job.shown {
        ShownState::Queued => (".", "state.queued", Token::Waiting),
        ShownState::Running => (glyphs.point, "state.running", Token::Running),
        ShownState::Paused => ("=", "state.paused", Token::Waiting),
        ShownState::Succeeded => (glyphs.ok, "state.succeeded", Token::Ok),
        ShownState::Failed => (glyphs.bad, "state.failed", Token::Error),
        ShownState::Cancelled => ("-", "state.cancelled", Token::Waiting),
    };
    piece(format!("{sign} {}", view.t(word)), token)
}

/// The done share of a running job.
pub(crate) fn job_share(job: &JobView) -> Option<f64> {
    let progress = job.progress.as_ref().filter(|p| p.total > 0)?;
    Some(progress.done as f64 / progress.total as f64)
}

/// The newest loss of a run: what it reported last, else its result.
pub(super) fn job_loss(job: &JobView) -> Option<f64> {
    job.last_loss.or(match &job.record.state {
        JobState::Succeeded(JobResult::Train(result)) => Some(result.loss.value()),
        _ => None,
    })
}

/// How far a job is, in words: percent and time left, what it waits for, or why it failed.
pub(crate) fn job_progress(view: &View<'_>, job: &JobView) -> String {
    match job.shown {
        ShownState::Running => {
            let Some(progress) = &job.progress else { return String::new() };
            let phase = view.wire(&progress.phase);
            let share = job_share(job).map(number::percent).unwrap_or_default();
            let left = progress
                .remaining_ms
                .map(|ms| view.fill("jobs.left", &[("t", &number::duration(view.language, ms))]))
                .unwrap_or_default();
            let rate = job.tokens_per_s.map(|rate| format!("{rate:.0} tok/s")).unwrap_or_default();
            [phase, share, left, rate].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("  ")
        }
        ShownState::Queued => one_line(&job.waits_for),
        ShownState::Failed => match &job.record.state {
            JobState::Failed(failure) => one_line(&view.failure(failure)),
            _ => String::new(),
        },
        ShownState::Paused => job
            .record
            .checkpoint
            .as_ref()
            .map(|c| view.fill("jobs.checkpoint", &[("step", &c.step.to_string())]))
            .unwrap_or_default(),
        ShownState::Succeeded | ShownState::Cancelled => {
            job.record.ended_at_ms.map(|at| number::ago(view.language, view.now_ms, at)).unwrap_or_default()
        }
    }
}

/// A job in one line: sign and state, kind, subject, progress.
pub(crate) fn job_line(view: &View<'_>, job: &JobView, glyphs: &Glyphs) -> Vec<Piece> {
    let state = job_state(view, job, glyphs);
    vec![
        piece(pad(&state.text, 12, glyphs.ellipsis), state.token),
        piece(pad(view.t(job_kind(job)), 15, glyphs.ellipsis), Token::Muted),
        piece(pad(&job_subject(job), 32, glyphs.ellipsis), Token::Text),
        piece(format!(" {}", job_progress(view, job)), Token::Muted),
    ]
}

/// A service's sign, word and token.
pub(crate) fn service_state(view: &View<'_>, service: &ServiceView, glyphs: &Glyphs) -> Piece {
    let (sign, word, token) = match &service.state {
        ServiceState::Off => ("-", "state.off", Token::Waiting),
        ServiceState::Asleep => ("-", "state.asleep", Token::Waiting),
        ServiceState::Starting => (".", "state.starting", Token::Running),
        ServiceState::On => (glyphs.ok, "state.on", Token::Ok),
        ServiceState::Waiting { .. } => ("!", "state.waiting", Token::Warn),
        ServiceState::Failed { .. } => (glyphs.bad, "state.failed", Token::Error),
    };
    piece(format!("{sign} {}", view.t(word)), token)
}

/// The tensor type that most bytes have.
pub(crate) fn quantisation(version: &VersionView) -> String {
    version.record.facts.tensor_types.first().map(|(name, _)| name.clone()).unwrap_or_default()
}

/// Whether a version fits here, in a word or two.
pub(crate) fn fit(view: &View<'_>, version: &VersionView) -> Piece {
    let fit = &version.record.facts.trainable;
    let pool = version.fit.pool_bytes;
    if version.fit.serve_bytes > pool {
        piece(view.t("models.too_big"), Token::Error)
    } else if fit.is_ok() && version.fit.train_bytes <= pool {
        piece(view.t("models.fit_train"), Token::Ok)
    } else {
        piece(view.t("models.fit_serve"), Token::Warn)
    }
}

/// References of all versions, newest of each model first.
pub(crate) fn version_names(view: &View<'_>) -> Vec<String> {
    view.mirror.models().iter().flat_map(|m| m.live().rev().map(|v| v.reference.clone())).collect()
}

/// References of versions that training can start from.
pub(crate) fn base_names(view: &View<'_>) -> Vec<String> {
    let bases = view.mirror.bases().filter(|v| v.record.facts.trainable.is_ok());
    bases.map(|v| v.reference.clone()).collect()
}

/// Names of all pools, `local` first.
pub(crate) fn pool_names(view: &View<'_>) -> Vec<String> {
    view.mirror.pools().iter().map(|pool| pool.record.name.clone()).collect()
}

/// Names of all datasets.
pub(crate) fn dataset_names(view: &View<'_>) -> Vec<String> {
    view.mirror.datasets().iter().map(|d| d.record.name.clone()).collect()
}

/// Names of all services.
pub(crate) fn service_names(view: &View<'_>) -> Vec<String> {
    view.mirror.services().iter().map(|s| s.record.name.clone()).collect()
}

/// Names of the services that answer a conversation.
pub(crate) fn chat_names(view: &View<'_>) -> Vec<String> {
    view.mirror.services().iter().filter(|s| !s.is_encoder).map(|s| s.record.name.clone()).collect()
}

/// Names of all applications.
pub(crate) fn application_names(view: &View<'_>) -> Vec<String> {
    view.mirror.applications().iter().map(|a| a.record.name.clone()).collect()
}
