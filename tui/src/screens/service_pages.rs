//! Services, applications, keys and ledger rows as list rows and pages. Never here: keys, forms or requests.

use hone_protocol::application::{ApplicationView, Budget, KeyRecord, LedgerRow, Outcome, Usage};
use hone_protocol::pool::LOCAL_POOL;
use hone_protocol::service::{ContextMemory, Keep, ServiceState, ServiceView};

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
            piece(served(view, service), Token::Muted),
            piece(number::grouped(service.requests), Token::Text),
            piece(
                if service.memory_bytes == 0 { "-".into() } else { number::bytes(service.memory_bytes) },
                Token::Muted,
            ),
        ],
    }
}

/// What a service serves; of one that does not chat, that too.
fn served(view: &View<'_>, service: &ServiceView) -> String {
    let version = cell(&service.version_reference);
    if service.is_encoder { format!("{version} {}", view.t("services.embeddings")) } else { version }
}

/// An application in the list.
pub(super) fn application_row(application: &ApplicationView, now_ms: i64) -> Row {
    let usage = &application.usage;
    let live = application.keys.iter().filter(|k| k.is_live(now_ms)).count();
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

/// Whether a key is valid, in a word or two.
pub(super) fn key_state(view: &View<'_>, key: &KeyRecord) -> String {
    match (key.revoked_at_ms, key.expires_at_ms) {
        (Some(_), _) => view.t("services.revoked").to_owned(),
        (None, Some(end)) if end <= view.now_ms => view.t("services.expired").to_owned(),
        (None, Some(end)) => {
            let left = number::duration(view.language, (end - view.now_ms) as u64);
            view.fill("services.valid_for", &[("t", &left)])
        }
        (None, None) => view.t("services.valid").to_owned(),
    }
}

/// Limits and budget of an application, where it has some.
fn limit_facts(view: &View<'_>, application: &ApplicationView, page: &mut Page) {
    let limits = application.record.limits.unwrap_or_default();
    let each = [
        ("field.requests_limit", limits.requests_per_minute),
        ("field.tokens_limit", limits.tokens_per_minute),
        ("field.parallel_limit", limits.parallel),
    ];
    for (key, limit) in each {
        if let Some(limit) = limit {
            page.fact(view.t(key), number::grouped(limit));
        }
    }
    let left = application.left.unwrap_or_default();
    let (key, amount) = match application.record.budget {
        None => return,
        Some(Budget::Monthly { amount }) => ("services.monthly", amount),
        Some(Budget::Prepaid { paid, .. }) => ("services.prepaid", paid),
    };
    page.fact(view.t("field.budget"), view.fill(key, &[("amount", &amount.rounded())]));
    let token = if left.0 > 0 { Token::Text } else { Token::Error };
    page.fact_as(view.t("services.left"), left.rounded(), token);
}

/// A key in the list.
pub(super) fn key_row(view: &View<'_>, application: &ApplicationView, key: &KeyRecord) -> Row {
    let state = match key.is_live(view.now_ms) {
        false => piece(format!("- {}", key_state(view, key)), Token::Waiting),
        true => piece(key_state(view, key), Token::Ok),
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
    let ill = match &service.state {
        ServiceState::Waiting { failure, .. } | ServiceState::Failed { failure } => Some(failure),
        ServiceState::On => service.trouble.as_ref(),
        _ => None,
    };
    if let Some(failure) = ill {
        page.text(format!("! {}", view.failure(failure)), Token::Error);
        if let Some(hint) = view.hint(failure) {
            page.text(hint, Token::Text);
        }
    }
    page.blank();
    page.fact_as(view.t("word.version"), service.version_reference.clone(), Token::Accent);
    if let (Some(alias), Some((model, _))) = (&service.record.follows, service.version_reference.split_once('@')) {
        page.fact(view.t("services.follows"), format!("{model}:{alias}"));
    }
    if let Some(moving) = &service.moving {
        let version = [("version", moving.version_reference.as_str())];
        match &moving.failure {
            None => drop(page.text(view.fill("services.moving", &version), Token::Running)),
            Some(failure) => {
                page.text(format!("! {}", view.fill("services.stuck", &version)), Token::Warn);
                page.text(view.failure(failure), Token::Text);
            }
        }
    }
    if let Some(upstream) = &service.record.upstream {
        page.fact(view.t("services.upstream"), cell(&upstream.url));
        let key = if upstream.has_key { "services.upstream_key_kept" } else { "services.upstream_no_key" };
        page.fact(view.t("services.upstream_key"), view.t(key).to_owned());
    }
    let kind = if service.is_encoder { "services.embeddings" } else { "services.chat" };
    page.fact(view.t("col.kind"), view.t(kind).to_owned());
    page.fact(view.t("services.address"), howto::base_url(view));
    page.fact(view.t("field.slots"), service.record.slots.to_string());
    page.fact(
        view.t("field.context"),
        view.fill("models.tokens", &[("n", &number::grouped(u64::from(service.record.context_tokens)))]),
    );
    let keep = match service.record.keep.unwrap_or_default() {
        Keep::Ready => "ready".to_owned(),
        Keep::Pinned => "pinned".to_owned(),
        Keep::Minutes(minutes) => format!("{minutes} min"),
    };
    page.fact(view.t("field.keep"), keep);
    page.fact(
        view.t("col.memory"),
        if service.memory_bytes == 0 { "-".into() } else { number::bytes(service.memory_bytes) },
    );
    memory_facts(view, service, page);
    page.fact(
        view.t("services.now"),
        view.fill(
            "services.active",
            &[("active", &service.active.to_string()), ("waiting", &service.waiting.to_string())],
        ),
    );
    page.fact(view.t("col.requests"), number::grouped(service.requests));
    page.fact(view.t("services.restarts"), service.restarts.to_string());
    if service.record.pool != LOCAL_POOL {
        page.fact(view.t("field.pool"), cell(&service.record.pool));
    }
    page.blank().heading(view.t("services.price"));
    page.fact(view.t("col.prompt"), price_text(view, service.record.price.input_micros));
    page.fact(view.t("col.answer"), price_text(view, service.record.price.output_micros));
    if let Some(reserved) = service.record.reserved {
        let application = view.mirror.applications().iter().find(|a| a.record.id == reserved.application);
        let name = application.map_or_else(|| reserved.application.short(), |a| a.record.name.clone());
        let price = number::typed(reserved.hour_micros as f64 / MICROS);
        let words = view.fill("cli.reserved_for", &[("application", &cell(&name)), ("price", &price)]);
        page.fact(view.t("services.reserved"), words);
    }
}

/// What a service's worker says that its memory is for: the base, and what the service's own adapter has.
fn memory_facts(view: &View<'_>, service: &ServiceView, page: &mut Page) {
    let Some(memory) = &service.memory else { return };
    page.fact(view.t("services.weights"), number::bytes(memory.weights_bytes));
    let own = |context: &&ContextMemory| context.adapter.is_none_or(|version| version == service.record.version);
    // The service's own adapter stands before the bare base.
    let Some(context) = memory.contexts.iter().filter(own).max_by_key(|context| context.adapter.is_some()) else {
        return;
    };
    if context.adapter.is_some() {
        page.fact(view.t("services.adapter"), number::bytes(context.adapter_bytes));
    }
    let (used, most) = (number::bytes(context.cache_bytes), number::bytes(context.cache_bytes_max));
    page.fact(view.t("services.cache"), view.fill("services.of", &[("used", &used), ("most", &most)]));
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
    limit_facts(view, application, page);
    if let Some(log) = application.record.log.filter(|log| log.share_percent > 0) {
        let values = [("share", log.share_percent.to_string()), ("days", log.retention_days.to_string())];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        page.fact(view.t("services.log_setting"), view.fill("services.log_share", &values));
    }
    if let Some(priority) = application.record.priority {
        page.fact(view.t("word.priority"), priority.word());
    }
    page.blank().heading(view.t("services.usage"));
    usage_facts(view, &application.usage, page);
    page.fact(view.t("col.cost"), application.usage.amount.rounded());
    if application.compute.rows > 0 {
        page.fact(view.t("services.computing"), application.compute.amount.rounded());
    }
    if application.reserved.rows > 0 {
        page.fact(view.t("services.reserved_time"), application.reserved.amount.rounded());
    }
    page.blank().heading(view.t("col.keys"));
    for key in &application.keys {
        page.fact(&short_key(key), format!("{}  {}", cell(&key.label), key_state(view, key)));
    }
    if application.keys.is_empty() {
        page.text(view.t("services.no_keys"), Token::Muted);
    }
}
