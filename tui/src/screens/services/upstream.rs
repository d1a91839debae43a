//! The part of the publish form that is about a server elsewhere. Never here: the rest of the form, rules of an address.

use hone_protocol::form::FieldKind;
use hone_protocol::request::Request;
use hone_protocol::service::{Price, ServiceView};
use hone_protocol::upstream::{Secret, UpstreamWish};

use super::super::service_pages::MICROS;
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::number;

/// Where a field is about a version.
pub(super) const VERSION: &[(&str, &[&str])] = &[("engine", &["version"])];
/// Where it is about a server elsewhere.
const UPSTREAM: &[(&str, &[&str])] = &[("engine", &["upstream"])];
/// What is typed to forget a key.
const NO_KEY: &str = "-";

/// What answers.
pub(super) fn engine(section: &'static str) -> FormField {
    let kind = FieldKind::Choice(&["version", "upstream"]);
    FormField::text("engine", section, "field.engine", "field.engine.about").of(kind, Stride::Add(1.0), "version")
}

/// Where the server is.
pub(super) fn fields(section: &'static str) -> Vec<FormField> {
    let text = |key, label, about| FormField { only: UPSTREAM, ..FormField::text(key, section, label, about) };
    vec![
        text("url", "field.upstream_url", "field.upstream_url.about"),
        text("model", "field.upstream_model", "field.upstream_model.about"),
        text("key", "field.upstream_key", "field.upstream_key.about").rule(Rule::Secret),
        text("plain_http", "field.plain_http", "field.plain_http.about"),
    ]
}

/// The fields of a service that is there.
pub(super) fn fill(form: &mut Form, service: &ServiceView) {
    let Some(upstream) = &service.record.upstream else { return };
    form.set("engine", "upstream");
    form.set("version", "");
    form.set("url", upstream.url.clone());
    form.set("model", upstream.model.clone());
    let price = service.record.price;
    for (key, micros) in [("input", price.input_micros), ("output", price.output_micros)] {
        if let Some(micros) = micros {
            form.set(key, number::typed(micros as f64 / MICROS));
        }
    }
}

/// What the form asks for.
pub(super) fn request(form: &Form, known: Option<&ServiceView>) -> Request {
    let text = |key: &str| form.value(key).to_owned();
    let micros = |key: &str| form.number::<f64>(key).map(|units| (units * MICROS).round() as u64);
    let key = match form.value("key") {
        "" => None,
        NO_KEY => Some(Secret(String::new())),
        key => Some(Secret(key.to_owned())),
    };
    Request::PublishUpstream {
        name: text("name"),
        upstream: UpstreamWish { url: text("url"), model: text("model"), key, plain_http: text("plain_http") },
        slots: form.number("slots").unwrap_or(0),
        context_tokens: form.number("context").unwrap_or(0),
        // The form does not have what cached tokens cost: it stays as it was.
        price: Price {
            input_micros: micros("input"),
            cached_micros: known.and_then(|known| known.record.price.cached_micros),
            output_micros: micros("output"),
        },
    }
}
