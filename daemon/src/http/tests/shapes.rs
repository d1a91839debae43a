//! What answers look like, and what errors look like.

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Channel, Finish, TokenChance};
use hone_protocol::value::Bytes;

use super::super::desk::{AnswerStep, Piece};
use super::super::{RETRY_AFTER_ARG, ROUTES};
use super::client::{Reply, Server, chat, get, post, post_to};
use super::fake::{Fake, KEY, Script, Step, piece};

fn desk() -> Fake {
    let failing = |code| Script { begin: Some(Failure::new(code, "the sentence of the desk")), ..Script::default() };
    Fake::new([
        ("base", Script::new(vec![piece("Hel", 1), piece("", 2), piece("lo!", 3), Step::End(Finish::Stop, 3)])),
        ("cut", Script::new(vec![piece("one two", 2), Step::End(Finish::Length, 2)])),
        ("silent", Script::new(vec![Step::End(Finish::Stop, 0)])),
        (
            "breaks",
            Script::new(vec![
                piece("par", 1),
                Step::Fail(Failure::new(FailureCode::WorkerDied, "signal 11 in /opt/x")),
            ]),
        ),
        ("ended", Script::new(vec![piece("par", 1), Step::End(Finish::Cancelled, 1)])),
        (
            "unsaved",
            Script {
                steps: vec![piece("par", 1), Step::End(Finish::Stop, 1)],
                close: Some(Failure::new(FailureCode::NotSaved, "no space on /home/owner")),
                ..Script::default()
            },
        ),
        (
            "calls",
            Script::new(vec![
                step(Channel::Reasoning, "hm", 1),
                step(Channel::Text, "Look: ", 2),
                step(Channel::Call { index: 0, name: "f".into() }, "", 5),
                step(Channel::Arguments { index: 0 }, "{\"a\"", 6),
                step(Channel::Arguments { index: 0 }, ": 1}", 7),
                step(Channel::Call { index: 1, name: "g".into() }, "", 9),
                step(Channel::Arguments { index: 1 }, "{}", 10),
                Step::End(Finish::Calls, 12),
            ]),
        ),
        (
            "chances",
            Script::new(vec![
                Step::Plain(AnswerStep::Echo {
                    choice: 0,
                    text: "né".into(),
                    chances: vec![chance(b"n", None), chance("é".as_bytes(), Some(-0.5))],
                }),
                Step::Plain(AnswerStep::Piece(Piece {
                    choice: 0,
                    channel: Channel::Text,
                    text: "a".into(),
                    tokens: 1,
                    chances: vec![chance(b"a", Some(f32::NEG_INFINITY))],
                })),
                Step::Plain(AnswerStep::Ended {
                    choice: 0,
                    finish: Finish::Stop,
                    tokens: 1,
                    end: vec![chance(b"</s>", Some(0.0))],
                }),
            ]),
        ),
        (
            "two",
            Script::new(vec![
                Step::Plain(AnswerStep::Piece(Piece {
                    choice: 1,
                    channel: Channel::Text,
                    text: "b".into(),
                    tokens: 1,
                    chances: vec![],
                })),
                Step::Plain(AnswerStep::Ended { choice: 1, finish: Finish::Length, tokens: 1, end: vec![] }),
                Step::Plain(AnswerStep::Piece(Piece {
                    choice: 0,
                    channel: Channel::Text,
                    text: "a".into(),
                    tokens: 3,
                    chances: vec![],
                })),
                Step::Plain(AnswerStep::Ended { choice: 0, finish: Finish::Stop, tokens: 3, end: vec![] }),
            ]),
        ),
        ("long", failing(FailureCode::ContextExceeded)),
        ("busy", failing(FailureCode::Overloaded)),
        ("off", failing(FailureCode::ServiceUnavailable)),
        (
            "limited",
            Script {
                begin: Some(
                    Failure::new(FailureCode::LimitReached, "60 requests in this minute").arg(RETRY_AFTER_ARG, 17),
                ),
                ..Script::default()
            },
        ),
    ])
}

const MESSAGES: &str = r#"{"model":"calls","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;

fn step(channel: Channel, text: &str, tokens: u64) -> Step {
    Step::Plain(AnswerStep::Piece(Piece { choice: 0, channel, text: text.into(), chances: Vec::new(), tokens }))
}

fn chance(bytes: &[u8], ln_p: Option<f32>) -> TokenChance {
    let top = ln_p.map(|_| (7, Bytes(b"x".to_vec()), -0.25));
    TokenChance { token: 1, bytes: Bytes(bytes.to_vec()), ln_p, top: top.into_iter().collect() }
}

/// Status, the headers that mean something, and the body.
fn shown(reply: &Reply) -> String {
    let noise = ["date", "keep-alive", "cache-control", "x-content-type-options", "content-length"];
    let mut text = format!("{}\n", reply.status);
    for (name, value) in reply.headers.iter().filter(|(name, _)| !noise.contains(&name.as_str())) {
        let value = if value.starts_with("http-") { "http-…" } else { value };
        text.push_str(&format!("{name}: {value}\n"));
    }
    format!("{text}\n{}", reply.body)
}

#[tokio::test]
async fn answers_have_the_whole_shape() {
    let server = Server::start(&desk()).await;
    let usage = r#","stream":true,"stream_options":{"include_usage":true}"#;
    for (name, request) in [
        ("livez", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        ("models", get("/v1/models")),
        ("model", get("/v1/models/base")),
        ("chat", chat("base", "")),
        ("chat_length", chat("cut", r#","top_k":4,"surprise":1,"metadata":{"a":"b"}"#)),
        ("chat_silent", chat("silent", "")),
        ("stream", chat("base", r#","stream":true"#)),
        ("stream_usage", chat("base", usage)),
        ("stream_silent", chat("silent", usage)),
        ("stream_breaks", chat("breaks", usage)),
        ("stream_ended_by_server", chat("ended", usage)),
        ("stream_not_saved", chat("unsaved", usage)),
        ("chat_calls", chat("calls", "")),
        ("stream_calls", chat("calls", r#","stream":true"#)),
        ("chat_chances", chat("chances", r#","logprobs":true,"top_logprobs":1"#)),
        ("chat_two", chat("two", r#","n":2"#)),
        ("stream_two", chat("two", &usage.replacen(",", r#","n":2,"#, 1))),
        ("text", post_to("/v1/completions", r#"{"model":"base","prompt":"hi","max_tokens":9}"#)),
        ("text_chances", post_to("/v1/completions", r#"{"model":"chances","prompt":"x","logprobs":1,"echo":true}"#)),
        (
            "text_stream",
            post_to(
                "/v1/completions",
                r#"{"model":"chances","prompt":"x","logprobs":1,"echo":true,"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
        ),
        ("responses", post_to("/v1/responses", r#"{"model":"calls","input":"hi","instructions":"be brief"}"#)),
        (
            "responses_stream",
            post_to("/v1/responses", r#"{"model":"calls","input":[{"role":"user","content":"hi"}],"stream":true}"#),
        ),
        ("responses_cut", post_to("/v1/responses", r#"{"model":"cut","input":"hi"}"#)),
        ("responses_breaks", post_to("/v1/responses", r#"{"model":"breaks","input":"hi","stream":true}"#)),
        ("messages", post_to("/v1/messages", MESSAGES)),
        ("messages_stream", post_to("/v1/messages", &MESSAGES.replace("}]}", r#"}],"stream":true}"#))),
        (
            "messages_breaks",
            post_to("/v1/messages", &MESSAGES.replace("calls", "breaks").replace("}]}", r#"}],"stream":true}"#)),
        ),
        (
            "messages_wrong",
            post_to("/v1/messages", r#"{"model":"base","max_tokens":4,"messages":[{"role":"system","content":"hi"}]}"#),
        ),
        ("count_tokens", post_to("/v1/messages/count_tokens", MESSAGES)),
        ("tokenize", post_to("/tokenize", r#"{"model":"base","prompt":"hi","return_token_strs":true}"#)),
        ("detokenize", post_to("/detokenize", r#"{"model":"base","tokens":[104,105]}"#)),
        ("tokenizer_info", get("/tokenizer_info?model=base")),
        ("tokenizer_info_of_what", get("/tokenizer_info")),
        ("embeddings", post_to("/v1/embeddings", r#"{"model":"base","input":["a","b"],"truncate":true,"surprise":1}"#)),
        (
            "embeddings_base64",
            post_to("/v1/embeddings", r#"{"model":"base","input":[7,8],"encoding_format":"base64"}"#),
        ),
        ("embeddings_too_long", post_to("/v1/embeddings", r#"{"model":"long","input":"a"}"#)),
    ] {
        let reply = server.ask(&request).await;
        // Ids count up within a desk; each shape is taken from what stands there.
        let text = mask_ids(&shown(&reply));
        insta::assert_snapshot!(name, text);
    }
}

/// The last characters of an id depend on how many requests came before.
fn mask_ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("req-") {
        let (before, id) = rest.split_at(at);
        out.push_str(before);
        out.push_str(&id[..id.len().min(20)]);
        out.push('…');
        rest = &id[30..];
    }
    out + rest
}

#[tokio::test]
async fn every_error_has_its_shape() {
    let server = Server::start(&desk()).await;
    let plain = |body: &str| post(body).replace("Content-Type: application/json\r\n", "Content-Type: text/plain\r\n");
    let cases = [
        ("no key", get("/v1/models").replace("Authorization", "X-Nothing")),
        ("wrong key", get("/v1/models").replace(KEY, "hone_other")),
        ("stopping", get("/v1/models").replace(KEY, "hone_stopping")),
        ("unknown route", get("/v1/images")),
        ("unknown route, escaped", get("/v1/..%2f..%2fetc")),
        ("unknown model", get("/v1/models/bsae")),
        ("a model that is no text", get("/v1/models/%ff%00")),
        ("a model outside", get("/v1/models/..%2fbase")),
        ("wrong method", get("/v1/chat/completions")),
        ("wrong method on models", post("{}").replace("/v1/chat/completions", "/v1/models")),
        ("wrong content type", plain("{}")),
        ("no JSON", post("{")),
        ("empty body", post("")),
        ("unknown model in chat", chat("Base", "")),
        (
            "wrong role",
            post(r#"{"model":"base","messages":[{"role":"user","content":"a"},{"role":"pirate","content":"b"}]}"#),
        ),
        ("temperature", chat("base", r#","temperature":-1"#)),
        ("tools", chat("base", r#","tools":[{"type":"function","function":{"name":"f f"}}]"#)),
        ("too long", chat("long", "")),
        ("busy", chat("busy", r#","stream":true"#)),
        ("off", chat("off", "")),
        ("limited", chat("limited", "")),
        ("worker died", chat("breaks", "")),
        ("ended by the server", chat("ended", "")),
        ("not saved", chat("unsaved", "")),
    ];
    let mut rows = Vec::new();
    for (name, request) in cases {
        rows.push(format!("## {name}\n{}", shown(&server.ask(&request).await)));
    }
    insta::assert_snapshot!("errors", rows.join("\n\n"));
}

#[tokio::test]
async fn what_was_asked_arrives_at_the_desk() {
    let desk = desk();
    let server = Server::start(&desk).await;
    server.ask(&chat("cut", r#","max_tokens":2,"seed":5,"stop":"x","user":"u7""#)).await;
    let asks = desk.asks();
    let wish = &asks[0].wish;
    assert_eq!((asks[0].service.as_str(), asks[0].tokens_max, wish.sampling.seed), ("cut", Some(2), Some(5)));
    assert_eq!((wish.stop.as_slice(), asks[0].user.as_str()), (&["x".to_owned()][..], "u7"));
}

#[tokio::test]
async fn frames_are_whole_text_and_join_to_the_answer() {
    let pieces = ["日本", "語 \"q\"\n", "👩‍👩‍👧", "é", "\u{2028}\\", "ﷺ"];
    let steps = pieces.iter().zip(1..).map(|(text, tokens)| piece(text, tokens)).chain([Step::End(Finish::Stop, 6)]);
    let server = Server::start(&Fake::new([("base", Script::new(steps.collect()))])).await;
    let mut client = server.client().await;
    client.send(&chat("base", r#","stream":true"#)).await;
    client.head().await;
    let mut text = String::new();
    loop {
        // `chunk` insists on UTF-8 within each HTTP chunk.
        let chunk = client.chunk().await;
        if chunk.is_empty() {
            break;
        }
        for line in chunk.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]") {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            text.push_str(value["choices"][0]["delta"]["content"].as_str().unwrap_or(""));
        }
    }
    assert_eq!(text, pieces.concat());
}

#[test]
fn every_route_and_field_stands_in_the_docs_of_both_languages() {
    let english = include_str!("../../../../docs/http.md");
    let chinese = include_str!("../../../../docs/zh/http.md");
    let fields = [
        "model",
        "messages",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repeat_penalty",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "n",
        "stream",
        "stream_options",
        "user",
        "metadata",
        "logprobs",
        "tools",
        "response_format",
        "logit_bias",
        "typical_p",
        "input",
        "encoding_format",
        "dimensions",
        "truncate",
        "top_logprobs",
        "tool_choice",
        "parallel_tool_calls",
        "chat_template_kwargs",
        "ignore_eos",
        "echo",
        "parse_special",
        "format_not_kept",
        "x-hone-ignored-fields",
        "x-request-id",
        "Retry-After",
        "invalid_api_key",
        "model_not_found",
        "context_length_exceeded",
    ];
    for (language, text) in [("en", english), ("zh", chinese)] {
        for route in ROUTES {
            let line = format!("`{} {}`", route.method, route.path);
            assert!(text.contains(&line), "{line} is missing in docs/http.md ({language})");
        }
        for field in fields {
            assert!(text.contains(&format!("`{field}`")), "`{field}` is missing in docs/http.md ({language})");
        }
    }
}
