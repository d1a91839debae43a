//! How a service is called from outside: curl, Python and the OpenAI client, with the real address and name filled in.
//! Never here: a secret; keys are shown once, when they are made.

use super::View;
use crate::theme::Token;
use crate::widgets::canvas::{Piece, piece};

/// Where the text stands for a key.
pub(super) const KEY_VARIABLE: &str = "HONE_KEY";

/// Base address of the endpoint, or what stands for it while nothing listens.
pub(super) fn base_address(view: &View<'_>) -> String {
    let mut addresses = view.mirror.http();
    addresses.sort_by_key(|a| !a.starts_with("http"));
    match addresses.into_iter().next() {
        Some(address) => address,
        None => "http://127.0.0.1:PORT".to_owned(),
    }
}

/// A curl line that works once the key is in the environment.
pub(super) fn curl(view: &View<'_>, service: &str) -> String {
    format!(
        "curl {}/v1/chat/completions \\\n  -H \"Authorization: Bearer ${KEY_VARIABLE}\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -d '{{\"model\": \"{service}\", \"stream\": true,\n       \
         \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'",
        base_address(view)
    )
}

/// The same with the official Python client.
pub(super) fn python(view: &View<'_>, service: &str) -> String {
    format!(
        "import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=\"{}/v1\", api_key=os.environ[\"{KEY_VARIABLE}\"])\n\
         for part in client.chat.completions.create(\n    model=\"{service}\", stream=True,\n    \
         messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}],\n):\n    if part.choices:\n        \
         print(part.choices[0].delta.content or \"\", end=\"\", flush=True)",
        base_address(view)
    )
}

/// The same two for a service that makes embeddings.
fn vectors(view: &View<'_>, service: &str) -> [(&'static str, String); 2] {
    let address = base_address(view);
    let curl = format!(
        "curl {address}/v1/embeddings \\\n  -H \"Authorization: Bearer ${KEY_VARIABLE}\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -d '{{\"model\": \"{service}\", \"input\": [\"Hello\", \"Good morning\"]}}'"
    );
    let python = format!(
        "import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=\"{address}/v1\", api_key=os.environ[\"{KEY_VARIABLE}\"])\n\
         answer = client.embeddings.create(model=\"{service}\", input=[\"Hello\", \"Good morning\"])\n\
         print([len(item.embedding) for item in answer.data], answer.usage)"
    );
    [("curl", curl), ("Python (openai)", python)]
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
    if view.mirror.services().iter().any(|s| s.is_encoder && s.record.name == service) {
        vectors(view, service).iter().for_each(|(title, body)| section(title, body));
    } else {
        section("curl", &curl(view, service));
        section("Python (openai)", &python(view, service));
        section(view.t("howto.command"), &command(service));
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
        let [(_, vector_curl), (_, vector_python)] = vectors(&view, "desk");
        for text in [curl(&view, "desk"), python(&view, "desk"), vector_curl.clone(), vector_python] {
            assert!(text.contains("http://127.0.0.1:8080/v1"), "{text}");
            assert!(text.contains("desk") && text.contains(KEY_VARIABLE));
        }
        // What stands between the quotes of -d is JSON.
        for curl in [curl(&view, "desk"), vector_curl] {
            let body = curl.split("-d '").nth(1).unwrap().trim_end_matches('\'');
            assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["model"], "desk");
        }
    }
}
