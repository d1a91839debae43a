//! How a service is called from outside, as a sheet: what `hone_protocol::snippet` writes, with the address that is
//! listened on. Never here: a secret; keys are shown once, when they are made.

use hone_protocol::snippet::{self, Call, Endpoint, KEY_VARIABLE, Tool};

use super::View;
use crate::theme::Token;
use crate::widgets::canvas::{Piece, piece};

/// Where the endpoint listens, or what stands for it while nothing does.
pub(super) fn endpoint(view: &View<'_>) -> Endpoint {
    Endpoint::of(&view.mirror.http()).unwrap_or_else(|| Endpoint::from_listener("127.0.0.1:PORT"))
}

/// Base address of the endpoint, with `/v1`.
pub(super) fn base_url(view: &View<'_>) -> String {
    endpoint(view).base_url
}

/// A curl line that works once the key is in the environment.
pub(super) fn curl(view: &View<'_>, service: &str) -> String {
    snippet::snippet(Tool::Curl, &endpoint(view), &Call::first(service, is_encoder(view, service))).unwrap_or_default()
}

/// Whether a service makes embeddings and no chats.
fn is_encoder(view: &View<'_>, service: &str) -> bool {
    view.mirror.services().iter().any(|s| s.is_encoder && s.record.name == service)
}

/// The same from the command line of hone, which needs no key.
pub(super) fn command(service: &str) -> String {
    format!("hone service call {service} \"Hello\"")
}

/// How a service is called, as lines.
pub(super) fn lines(view: &View<'_>, service: &str) -> Vec<Piece> {
    let mut lines =
        vec![piece(view.fill("howto.intro", &[("variable", KEY_VARIABLE)]), Token::Muted), piece("", Token::Text)];
    let mut section = |title: &str, body: &str| {
        lines.push(piece(title, Token::Heading));
        lines.extend(body.lines().map(|l| piece(format!("  {l}"), Token::Text)));
        lines.push(piece("", Token::Text));
    };
    let is_encoder = is_encoder(view, service);
    if !is_encoder {
        section(view.t("howto.command"), &command(service));
    }
    for (tool, text) in snippet::all(&endpoint(view), &Call::first(service, is_encoder)) {
        section(tool.title(), &text);
    }
    if view.mirror.http().is_empty() {
        lines.push(piece(view.t("howto.no_listener"), Token::Warn));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror;

    #[test]
    fn the_examples_carry_the_real_address_and_name() {
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let view = View::plain(&mirror);
        let text: Vec<String> = lines(&view, "desk").iter().map(|line| line.text.clone()).collect();
        let text = text.join("\n");
        for tool in Tool::ALL {
            assert!(text.contains(tool.title()), "{text}");
        }
        assert!(text.contains("http://127.0.0.1:8080/v1") && text.contains(KEY_VARIABLE), "{text}");
        // What stands between the quotes of -d is JSON.
        let curl = curl(&view, "desk");
        let body = curl.split("-d '").nth(1).unwrap().trim_end_matches('\'');
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["model"], "desk");
    }
}
