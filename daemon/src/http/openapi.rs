//! `GET /openapi.json`: the routes and their fields as an OpenAPI document, for tools that generate clients or tests.
//! Lives here: the table of fields, from which the document is made; a test keeps docs/openapi.json equal to it.
//! Never here: checks of what comes in, which `fields.rs` and its neighbours do.

use axum::body::Body;
use axum::http::Response;
use serde_json::{Map, Value, json};

use super::fields::{CHOICES_MAX, RANGES};
use super::lines::ENDPOINTS;
use super::{Answer, ROUTES, Route, json_response};

/// The route.
pub(super) async fn openapi() -> Response<Body> {
    json_response(document().to_string().into_bytes())
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hone", "version": hone_protocol::VERSION,
            "description": "Services of a hone daemon in the shapes of known protocols. What each field does: docs/http.md.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {"Error": error(), "AnthropicError": anthropic_error()},
        },
    })
}

fn operation(route: &Route) -> Value {
    let (summary, request) = said(route.answer);
    let dialect = if route.path.starts_with("/v1/messages") { "AnthropicError" } else { "Error" };
    let schema = json!({"schema": {"$ref": format!("#/components/schemas/{dialect}")}});
    let mut kinds = json!({"application/json": {"schema": {}}});
    if request.as_ref().is_some_and(|fields| fields.iter().any(|(name, ..)| *name == "stream")) {
        kinds["text/event-stream"] = json!({"schema": {"type": "string"}});
    }
    match route.answer {
        Answer::Livez => kinds = json!({"text/plain": {"schema": {"const": "ok\n"}}}),
        Answer::Metrics => kinds = json!({"text/plain": {"schema": {"type": "string"}}}),
        Answer::FileContent => kinds = json!({"application/jsonl": {"schema": {"type": "string"}}}),
        _ => {}
    }
    let mut operation = json!({
        "summary": summary,
        "responses": {
            "200": {"description": "the answer", "content": kinds},
            "default": {"description": "an error", "content": {"application/json": schema}},
        },
    });
    if route.key {
        operation["security"] = json!([{"bearer": []}, {"x-api-key": []}]);
    }
    if let Some(name) = route.path.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(name, _)| name) {
        operation["parameters"] = json!([{"name": name, "in": "path", "required": true, "schema": {"type": "string"}}]);
    }
    if matches!(route.answer, Answer::TokenizerInfo) {
        operation["parameters"] = json!([{"name": "model", "in": "query", "schema": {"type": "string"}}]);
    }
    if matches!(route.answer, Answer::Usage) {
        operation["parameters"] = super::usage::PARAMETERS
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
    }
    if let Some(fields) = request {
        let kind = if matches!(route.answer, Answer::UploadFile) { "multipart/form-data" } else { "application/json" };
        operation["requestBody"] = json!({"required": true, "content": {kind: {"schema": object(&fields)}}});
    }
    if matches!(route.answer, Answer::Batches) {
        operation["parameters"] = json!([
            {"name": "limit", "in": "query", "schema": whole(1, Some(100))},
            {"name": "after", "in": "query", "schema": {"type": "string"}},
        ]);
    }
    operation
}

/// A field of a request: name, schema, whether it must be there.
type Field = (&'static str, Value, bool);

fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema, _)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = fields.iter().filter(|(.., must)| *must).map(|(name, ..)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// What a route does, and the fields of its body.
fn said(answer: Answer) -> (&'static str, Option<Vec<Field>>) {
    match answer {
        Answer::Livez => ("Says that the daemon runs", None),
        Answer::OpenApi => ("This document", None),
        Answer::Models => ("Lists what this key may call", None),
        Answer::Model => ("Shows one service", None),
        Answer::TokenizerInfo => ("Special tokens and chat template", None),
        Answer::Usage => ("What the application of this key has used", None),
        Answer::Metrics => ("Everything that is counted, for Prometheus; for keys of owner only", None),
        Answer::Chat => (
            "Answers a conversation",
            Some(
                [
                    vec![
                        ("messages", list(json!({"type": "object"})), true),
                        ("max_completion_tokens", whole(1, None), false),
                        ("logprobs", flag(), false),
                        ("top_logprobs", whole(0, Some(20)), false),
                        ("tools", list(json!({"type": "object"})), false),
                        ("tool_choice", json!({"type": ["string", "object"]}), false),
                        ("parallel_tool_calls", flag(), false),
                        ("chat_template_kwargs", json!({"type": "object"}), false),
                    ],
                    answering(),
                    generating(),
                ]
                .concat(),
            ),
        ),
        Answer::Completions => (
            "Goes on from texts or tokens",
            Some(
                [
                    vec![
                        ("prompt", json!({"type": ["string", "array"]}), true),
                        ("echo", flag(), false),
                        ("logprobs", whole(0, Some(20)), false),
                        ("parse_special", flag(), false),
                        ("add_special_tokens", flag(), false),
                    ],
                    answering(),
                    generating(),
                ]
                .concat(),
            ),
        ),
        Answer::Responses => (
            "Answers in the shape of the Responses API, without a memory",
            Some(
                [
                    vec![
                        ("input", json!({"type": ["string", "array"]}), true),
                        ("instructions", json!({"type": "string"}), false),
                        ("max_output_tokens", whole(1, None), false),
                        ("text", json!({"type": "object"}), false),
                        ("tools", list(json!({"type": "object"})), false),
                        ("tool_choice", json!({"type": ["string", "object"]}), false),
                        ("parallel_tool_calls", flag(), false),
                        ("user", json!({"type": "string", "maxLength": 256}), false),
                        ("stop", json!({"type": ["string", "array"]}), false),
                    ],
                    generating(),
                ]
                .concat(),
            ),
        ),
        Answer::Messages => (
            "Answers in the shape of Anthropic's Messages API",
            Some(
                [
                    messages(),
                    vec![
                        ("max_tokens", whole(1, None), true),
                        ("stop_sequences", list(json!({"type": "string"})), false),
                    ],
                    generating(),
                ]
                .concat(),
            ),
        ),
        Answer::CountTokens => ("Counts the tokens of a prompt", Some([vec![model(true)], messages()].concat())),
        Answer::Tokenize => (
            "The tokens of a text or a conversation",
            Some(vec![
                model(false),
                ("prompt", json!({"type": "string"}), false),
                ("messages", list(json!({"type": "object"})), false),
                ("add_special_tokens", flag(), false),
                ("parse_special", flag(), false),
                ("return_token_strs", flag(), false),
            ]),
        ),
        Answer::UploadFile => (
            "Uploads a file of requests",
            Some(vec![
                ("file", json!({"type": "string", "format": "binary"}), true),
                ("purpose", json!({"const": "batch"}), true),
            ]),
        ),
        Answer::Files => ("Lists the uploaded files", None),
        Answer::File => ("Shows a file", None),
        Answer::FileContent => ("The bytes of a file", None),
        Answer::Feedback => (
            "Says whether an answer was good, or gives a better one",
            Some(vec![
                ("response_id", json!({"type": "string"}), true),
                ("rating", json!({"enum": ["up", "down"]}), false),
                ("comment", json!({"type": "string"}), false),
                ("correction", json!({"type": "string"}), false),
                ("user", json!({"type": "string"}), false),
            ]),
        ),
        Answer::DeleteFile => ("Deletes a file", None),
        Answer::MakeBatch => (
            "Answers the lines of a file in the background",
            Some(vec![
                ("input_file_id", json!({"type": "string"}), true),
                ("endpoint", json!({"enum": ENDPOINTS}), true),
                ("completion_window", json!({"const": "24h"}), true),
                ("metadata", json!({"type": "object"}), false),
            ]),
        ),
        Answer::Batches => ("Lists batches, newest first", None),
        Answer::Batch => ("Shows a batch", None),
        Answer::CancelBatch => ("Ends a batch; what was answered stays", None),
        Answer::Detokenize => (
            "The text of tokens",
            Some(vec![model(false), ("tokens", list(json!({"type": "integer", "minimum": 0})), true)]),
        ),
        Answer::Embeddings => (
            "A vector for each text or list of tokens",
            Some(vec![
                model(true),
                ("input", json!({"type": ["string", "array"]}), true),
                ("encoding_format", json!({"enum": ["float", "base64"]}), false),
                ("dimensions", whole(1, None), false),
                ("truncate", flag(), false),
                ("user", json!({"type": "string", "maxLength": 256}), false),
            ]),
        ),
    }
}

fn model(must: bool) -> Field {
    ("model", json!({"type": "string", "description": "name of a service"}), must)
}

fn messages() -> Vec<Field> {
    vec![
        ("messages", list(json!({"type": "object"})), true),
        ("system", json!({"type": ["string", "array"]}), false),
        ("tools", list(json!({"type": "object"})), false),
        ("tool_choice", json!({"type": "object"}), false),
    ]
}

/// Fields of the two OpenAI routes that take `n`.
fn answering() -> Vec<Field> {
    vec![
        ("n", whole(1, Some(CHOICES_MAX)), false),
        ("max_tokens", whole(0, None), false),
        ("response_format", json!({"type": "object"}), false),
        ("stop", json!({"type": ["string", "array"]}), false),
        ("stream_options", json!({"type": "object"}), false),
        ("user", json!({"type": "string", "maxLength": 256}), false),
    ]
}

/// Fields of every route that generates.
fn generating() -> Vec<Field> {
    let mut fields = vec![model(true), ("stream", flag(), false), ("metadata", json!({"type": "object"}), false)];
    for (name, least, most, above) in RANGES {
        let bound = if *above { "exclusiveMinimum" } else { "minimum" };
        fields.push((name, json!({"type": "number", bound: least, "maximum": most}), false));
    }
    fields.push(("top_k", whole(0, None), false));
    fields.push(("seed", json!({"type": "integer"}), false));
    fields.push((
        "logit_bias",
        json!({"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}}),
        false,
    ));
    fields.push(("ignore_eos", flag(), false));
    fields
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items, "minItems": 1})
}

fn whole(least: u64, most: Option<u64>) -> Value {
    match most {
        Some(most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        None => json!({"type": "integer", "minimum": least}),
    }
}

fn error() -> Value {
    json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "object", "properties": {
        "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]}, "code": {"type": "string"},
    }, "required": ["message", "type", "param", "code"]}}})
}

fn anthropic_error() -> Value {
    json!({"type": "object", "required": ["type", "error"], "properties": {"type": {"const": "error"}, "error": {
        "type": "object", "properties": {"type": {"type": "string"}, "message": {"type": "string"}}, "required": ["type", "message"],
    }}})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `make docs`, as the list of messages is.
    #[test]
    fn the_document_in_docs_is_this_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = format!("{:#}\n", document());
        if std::env::var_os("HONE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "docs/openapi.json is old: run `make docs`");
    }

    #[test]
    fn every_route_and_every_number_with_a_range_is_in_it() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            assert!(operation["summary"].is_string(), "{route:?}");
            assert_eq!(operation["security"].is_array(), route.key, "{route:?}");
            let has_body = route.method == "POST" && !route.path.ends_with("/cancel");
            assert_eq!(operation["requestBody"].is_object(), has_body, "{route:?}");
        }
        let chat =
            &document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"];
        for (name, least, most, _) in RANGES {
            let field = &chat["properties"][name];
            let bound = field.get("minimum").or(field.get("exclusiveMinimum"));
            assert_eq!((bound, field.get("maximum")), (Some(&json!(least)), Some(&json!(most))), "{name}");
        }
    }
}
