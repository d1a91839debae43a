//! Services, applications, keys and ledger rows as list rows and pages. Never here: keys, forms or requests.

use hone_protocol::application::{ApplicationView, KeyRecord, LedgerRow, Outcome, Usage};
use hone_protocol::service::{ServiceState, ServiceView};

use super::View;
use super::howto;
use super::tables::service_state;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::list::{Row, cell};
use crate::widgets::number;
use crate::widgets::page::Page;

/// Micro-units in one unit of the currency.
pub(super) const MICROS: f64 = 1e6;

/// The end of a key's id: enough to tell keys apart.
pub(super) fn short_key(key: &KeyRecord) -> String {
    format!("..{}", key.id.short())
}

/// A service in the list.
pub(super) fn service_row(view: &View<'_>, service: &ServiceView, glyphs: &crate::glyphs::Glyphs) -> Row {
    Row {
        key: service.record.name.clone(),
        cells: vec![
            piece(cell(&service.record.name), Token::Text),
            service_state(view, service, glyphs),
            piece(cell(&service.version_reference), Token::Muted),
            piece(number::grouped(service.requests), Token::Text),
            piece(
                if service.memory_bytes == 0 { "-".into() } else { number::bytes(service.memory_bytes) },
                Token::Muted,
            ),
        ],
    }
}

/// An application in the list.
pub(super) fn application_row(application: &ApplicationView) -> Row {
    let usage = &application.usage;
    let live = application.keys.iter().filter(|k| k.revoked_at_ms.is_none()).count();
    Row {
        key: application.record.name.clone(),
        cells: vec![
            piece(cell(&application.record.name), Token::Text),
            piece(live.to_string(), Token::Text),
            piece(number::grouped(usage.requests), Token::Text),
            piece(number::grouped(usage.prompt_tokens + usage.completion_tokens), Token::Text),
            piece(usage.amount.rounded(), Token::Muted),
        ],
    }
}

/// A key in the list.
pub(super) fn key_row(view: &View<'_>, application: &ApplicationView, key: &KeyRecord) -> Row {
    let state = match key.revoked_at_ms {
        Some(_) => piece(format!("- {}", view.t("services.revoked")), Token::Waiting),
        None => piece(view.t("services.valid"), Token::Ok),
    };
    Row {
        key: key.id.to_string(),
        cells: vec![
            piece(short_key(key), Token::Text),
            piece(cell(&application.record.name), Token::Text),
            piece(cell(&key.label), Token::Muted),
            state,
            piece(number::ago(view.language, view.now_ms, key.created_at_ms), Token::Muted),
        ],
    }
}

/// A metered request in the list.
pub(super) fn ledger_row(view: &View<'_>, row: &LedgerRow) -> Row {
    let service = view.mirror.services().iter().find(|s| s.record.id == row.service).map(|s| s.record.name.clone());
    let application =
        view.mirror.applications().iter().find(|a| a.record.id == row.application).map(|a| a.record.name.clone());
    let (outcome, token) = match row.outcome {
        Outcome::Open => ("outcome.open", Token::Running),
        Outcome::Complete => ("outcome.complete", Token::Ok),
        Outcome::Disconnected => ("outcome.disconnected", Token::Warn),
        Outcome::Failed => ("outcome.failed", Token::Error),
        Outcome::CutByRestart => ("outcome.cut", Token::Warn),
    };
    Row {
        key: row.id.to_string(),
        cells: vec![
            piece(number::ago(view.language, view.now_ms, row.opened_at_ms), Token::Muted),
            piece(service.unwrap_or_else(|| row.service.short()), Token::Text),
            piece(application.unwrap_or_else(|| row.application.short()), Token::Text),
            piece(number::grouped(row.prompt_tokens), Token::Text),
            piece(number::grouped(row.completion_tokens), Token::Text),
            piece(row.amount.rounded(), Token::Muted),
            piece(view.t(outcome), token),
        ],
    }
}

fn price_text(view: &View<'_>, micros: Option<u64>) -> String {
    let currency = view.mirror.facts().map_or("", |f| f.currency.as_str());
    match micros {
        None => view.t("services.no_price").to_owned(),
        Some(micros) => view
            .fill("services.per_million", &[("price", &number::typed(micros as f64 / MICROS)), ("currency", currency)]),
    }
}

/// All about a service.
pub(super) fn service_page(view: &View<'_>, service: &ServiceView, page: &mut Page, canvas: &Canvas<'_>) {
    page.heading(cell(&service.record.name));
    page.line(vec![service_state(view, service, canvas.glyphs)]);
    if let ServiceState::Waiting { failure, .. } | ServiceState::Failed { failure } = &service.state {
        page.text(format!("! {}", view.failure(failure)), Token::Error);
        if let Some(hint) = view.hint(failure) {
            page.text(hint, Token::Text);
        }
    }
    page.blank();
    page.fact_as(view.t("word.version"), service.version_reference.clone(), Token::Accent);
    page.fact(view.t("services.address"), format!("{}/v1", howto::base_address(view)));
    page.fact(view.t("field.slots"), service.record.slots.to_string());
    page.fact(
        view.t("field.context"),
        view.fill("models.tokens", &[("n", &number::grouped(u64::from(service.record.context_tokens)))]),
    );
    page.fact(
        view.t("col.memory"),
        if service.memory_bytes == 0 { "-".into() } else { number::bytes(service.memory_bytes) },
    );
    page.fact(
        view.t("services.now"),
        view.fill(
            "services.active",
            &[("active", &service.active.to_string()), ("waiting", &service.waiting.to_string())],
        ),
    );
    page.fact(view.t("col.requests"), number::grouped(service.requests));
    page.fact(view.t("services.restarts"), service.restarts.to_string());
    page.blank().heading(view.t("services.price"));
    page.fact(view.t("col.prompt"), price_text(view, service.record.price.input_micros));
    page.fact(view.t("col.answer"), price_text(view, service.record.price.output_micros));
    page.blank().text(view.t("services.i_shows"), Token::Muted);
}

/// Sums over ledger rows.
pub(super) fn usage_facts(view: &View<'_>, usage: &Usage, page: &mut Page) {
    page.fact(view.t("col.requests"), number::grouped(usage.requests));
    page.fact(view.t("col.prompt"), number::grouped(usage.prompt_tokens));
    page.fact(view.t("services.cached"), number::grouped(usage.cached_tokens));
    page.fact(view.t("col.answer"), number::grouped(usage.completion_tokens));
}

/// All about an application.
pub(super) fn application_page(view: &View<'_>, application: &ApplicationView, page: &mut Page) {
    page.heading(cell(&application.record.name));
    if !application.record.title.is_empty() {
        page.text(cell(&application.record.title), Token::Text);
    }
    page.blank();
    let services = match &application.record.services {
        hone_protocol::application::Services::All => view.t("services.all").to_owned(),
        hone_protocol::application::Services::Listed(_) => application.services.join(", "),
    };
    page.fact(view.t("services.may_call"), services);
    page.blank().heading(view.t("services.usage"));
    usage_facts(view, &application.usage, page);
    page.fact(view.t("col.cost"), application.usage.amount.rounded());
    page.blank().heading(view.t("col.keys"));
    for key in &application.keys {
        let state = if key.revoked_at_ms.is_some() { view.t("services.revoked") } else { view.t("services.valid") };
        page.fact(&short_key(key), format!("{}  {state}", cell(&key.label)));
    }
    if application.keys.is_empty() {
        page.text(view.t("services.no_keys"), Token::Muted);
    }
}
