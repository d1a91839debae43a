//! What is known of a model, of a version, and of what measured it, as pages. Never here: the list or the forms.

use hone_protocol::model::{HistoryEntry, ModelView, Storage, TRASH_KEPT_MS, VersionView, Weights};

use super::super::View;
use super::super::tables::quantisation;
use crate::print;
use crate::theme::Token;
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;

/// Entries of a history that are shown.
const HISTORY_SHOWN: usize = 20;

pub(super) fn model_page(view: &View<'_>, model: &ModelView, page: &mut Page) {
    page.heading(cell(&model.record.name));
    if !model.record.title.is_empty() {
        page.text(cell(&model.record.title), Token::Text);
    }
    page.blank();
    let licence =
        if model.record.licence.is_empty() { view.t("models.licence_unknown") } else { &model.record.licence };
    page.fact(view.t("models.licence"), cell(licence));
    page.fact(view.t("models.made_by"), cell(&model.record.created_by));
    page.fact(view.t("models.made"), number::ago(view.language, view.now_ms, model.record.created_at_ms));
    page.blank().heading(view.t("models.versions"));
    for version in model.live().rev() {
        let what = match version.record.weights {
            Weights::Base => quantisation(version),
            Weights::Adapter { .. } => format!("LoRA < {}", version.base_reference.as_deref().unwrap_or("?")),
        };
        page.fact(&version.reference, what);
    }
    if !model.record.aliases.is_empty() {
        page.blank().heading(view.t("models.aliases"));
        for alias in &model.record.aliases {
            let at = view.mirror.version(alias.version).map(|v| v.reference.clone()).unwrap_or_default();
            page.fact(&format!(":{}", alias.name), at);
        }
    }
    if let Some(gates) = &model.record.gates {
        page.blank().heading(view.t("models.gates"));
        for gate in gates {
            page.fact(&format!(":{}", gate.alias), cell(&gate.gate));
        }
    }
}

pub(super) fn version_page(view: &View<'_>, model: &ModelView, version: &VersionView, page: &mut Page) {
    let record = &version.record;
    let facts = &record.facts;
    page.heading(version.reference.clone());
    page.text(
        view.t(if matches!(record.weights, Weights::Base) { "models.is_base" } else { "models.is_adapter" }),
        Token::Muted,
    );
    if let Some(at) = record.trashed_at_ms {
        let left = number::duration(view.language, (at + TRASH_KEPT_MS - view.now_ms).max(0).unsigned_abs());
        page.text(view.fill("models.in_trash", &[("t", &left)]), Token::Warn);
    }
    page.blank().heading(view.t("models.here"));
    let fits = |need: u64| {
        let sign = if need <= version.fit.pool_bytes { view.t("models.fits") } else { view.t("models.fits_not") };
        format!("{}  {sign}", number::bytes(need))
    };
    page.fact(view.t("models.serve"), fits(version.fit.serve_bytes));
    match &facts.trainable {
        Ok(()) => page.fact(view.t("models.train"), fits(version.fit.train_bytes)),
        Err(why) => page.fact_as(view.t("models.train"), cell(why), Token::Warn),
    };
    page.blank().heading(view.t("models.facts"));
    page.fact(view.t("models.architecture"), cell(&facts.architecture));
    page.fact(view.t("models.parameters"), number::grouped(facts.parameters));
    page.fact(
        view.t("models.context"),
        view.fill("models.tokens", &[("n", &number::grouped(u64::from(facts.context_tokens)))]),
    );
    if let Some(pooling) = facts.pooling {
        page.fact(view.t("models.pooling"), pooling.word().to_owned());
    }
    let types: Vec<String> = facts.tensor_types.iter().take(3).map(|(t, n)| format!("{t} x {n}")).collect();
    page.fact(view.t("models.types"), types.join(", "));
    page.fact(
        view.t("models.template"),
        view.t(if facts.has_chat_template { "models.template_yes" } else { "models.template_no" }),
    );
    page.fact(view.t("models.size"), number::bytes(record.file.size_bytes));
    let storage = match record.file.storage {
        Storage::Reflinked => "storage.reflinked",
        Storage::HardLinked => "storage.hard_linked",
        Storage::Copied => "storage.copied",
        Storage::InPlace => "storage.in_place",
        Storage::Removed => "storage.removed",
    };
    page.fact(view.t("models.storage"), view.t(storage));
    page.blank().heading(view.t("models.lineage"));
    if let Some(base) = &version.base_reference {
        page.fact_as(view.t("models.base"), base.clone(), Token::Accent);
    }
    if let Some(dataset) = record.lineage.dataset.and_then(|id| view.mirror.dataset_reference(id)) {
        page.fact_as(view.t("word.dataset"), dataset, Token::Accent);
    }
    if let Some(step) = record.lineage.step {
        page.fact(view.t("models.step"), step.to_string());
    }
    if let Some(parent) = record.lineage.parent.and_then(|id| view.mirror.version(id)) {
        page.fact_as(view.t("models.parent"), parent.reference.clone(), Token::Accent);
    }
    if !record.lineage.source.is_empty() {
        page.fact(view.t("models.source"), cell(&record.lineage.source));
    }
    page.fact(view.t("models.made"), number::ago(view.language, view.now_ms, record.created_at_ms));
    if let Some(warning) = &record.lineage.warning {
        page.text(cell(warning), Token::Warn);
    }
    if let Some(receipt) = &record.receipt {
        page.text(print::receipt(view.language, receipt), Token::Text);
    }
    page.blank().heading(view.t("models.use"));
    let served =
        if version.services.is_empty() { view.t("models.not_served").to_owned() } else { version.services.join(", ") };
    page.fact(view.t("word.service"), served);
    if let Some((suite, score)) = &version.score {
        page.fact(view.t("word.evaluation"), format!("{suite}  {score:.3}"));
    }
    let licence = [&model.record.licence, &facts.licence].into_iter().find(|l| !l.is_empty());
    page.fact(
        view.t("models.licence"),
        licence.map_or_else(|| view.t("models.licence_unknown").to_owned(), |l| cell(l)),
    );
    page.fact("sha256", record.file.sha256.to_string());
}

/// What touched a version, newest first.
pub(super) fn history_page(view: &View<'_>, entries: &[HistoryEntry], page: &mut Page) {
    for entry in entries.iter().take(HISTORY_SHOWN) {
        let (what, state) = print::history_words(view.language, entry);
        let made = if entry.made { view.t("models.made_this") } else { "" };
        let parts = [what, made.to_owned(), cell(&entry.other), state, entry.person.clone()];
        let said: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        page.fact(&number::ago(view.language, view.now_ms, entry.at_ms), said.join("  "));
    }
    if entries.len() > HISTORY_SHOWN {
        let more = view.fill("datasets.more_rejections", &[("n", &(entries.len() - HISTORY_SHOWN).to_string())]);
        page.text(more, Token::Muted);
    }
}

/// What measured a version, newest first.
pub(super) fn scores_page(view: &View<'_>, version: &VersionView, page: &mut Page) {
    page.heading(view.t("area.evaluation"));
    let mut any = false;
    for evaluation in view.mirror.evaluations().iter().filter(|e| e.version == version.record.id) {
        any = true;
        let suite = view.mirror.suites().iter().find(|s| s.id == evaluation.suite);
        let three = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        let said = format!(
            "{} {}  {} {}",
            view.t("col.score"),
            three(evaluation.score),
            view.t("col.loss"),
            three(evaluation.loss)
        );
        page.fact(suite.map_or("-", |s| s.name.as_str()), said);
    }
    if !any {
        page.text(view.t("models.not_evaluated"), Token::Muted);
    }
}
