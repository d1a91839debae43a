//! Bodies in, requests or named refusals out.

use super::super::fields::{RANGES, ignored_header};
use super::*;
use hone_protocol::generate::{Format, ToolChoice, Turn};
use hone_protocol::value::Json;
use hone_protocol::worker::Sampling;
use serde_json::{Value, json};

/// Reads a request with one message and the given fields.
fn with(extra: Value) -> Result<ChatRequest, Refusal> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    read(body.to_string().as_bytes())
}

fn refusal(extra: Value) -> String {
    let refusal = with(extra.clone()).expect_err(&extra.to_string());
    String::from_utf8(crate::http::openai::json(&refusal.body())).unwrap()
}

#[test]
fn every_wrong_field_is_named() {
    let deep = json!([[[1]]]);
    let cases = [
        json!({"model": 3}),
        json!({"model": null}),
        json!({"model": ""}),
        json!({"messages": []}),
        json!({"messages": null}),
        json!({"messages": "hi"}),
        json!({"messages": ["hi"]}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "pirate", "content": "c"}]}),
        json!({"messages": [{"content": "a"}]}),
        json!({"messages": [{"role": 1, "content": "a"}]}),
        json!({"messages": [{"role": "tool", "content": "a"}]}),
        json!({"messages": [{"role": "tool", "content": "a", "tool_call_id": "x"}]}),
        json!({"messages": [{"role": "user", "content": "a", "tool_call_id": "x"}]}),
        json!({"messages": [{"role": "user", "content": "a", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "no spaces"}}]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}),
        json!({"messages": [{"role": "function", "content": "a"}]}),
        json!({"messages": [{"role": "user"}]}),
        json!({"messages": [{"role": "user", "content": 1}]}),
        json!({"messages": [{"role": "user", "content": []}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
        json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
        json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]}),
        json!({"temperature": -1}),
        json!({"temperature": 2.5}),
        json!({"temperature": 1e308}),
        json!({"temperature": "hot"}),
        json!({"top_p": 0}),
        json!({"top_p": 3}),
        json!({"top_p": 1e-60}),
        json!({"top_k": -1}),
        json!({"top_k": 1.5}),
        json!({"min_p": 2}),
        json!({"frequency_penalty": 9}),
        json!({"presence_penalty": -9}),
        json!({"repeat_penalty": 0}),
        json!({"max_tokens": 0}),
        json!({"max_tokens": 9223372036854775808_u64}),
        json!({"max_tokens": "many"}),
        json!({"max_tokens": 1, "max_completion_tokens": 2}),
        json!({"max_completion_tokens": -1}),
        json!({"stop": ""}),
        json!({"stop": vec!["a"; 17]}),
        json!({"stop": [1]}),
        json!({"stop": 1}),
        json!({"stop": ["x".repeat(65)]}),
        json!({"seed": 1e30}),
        json!({"seed": "s"}),
        json!({"seed": 1.5}),
        json!({"n": 129}),
        json!({"n": 100, "user": "", "messages": [{"role": "user", "content": "x".repeat(200_000)}]}),
        json!({"n": 0}),
        json!({"n": -1}),
        json!({"stream": 1}),
        json!({"user": 5}),
        json!({"user": "a\u{1b}[31m"}),
        json!({"user": "u".repeat(257)}),
        json!({"metadata": []}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": {"a": "v".repeat(513)}}),
        json!({"stream_options": {"include_usage": true}}),
        json!({"stream": true, "stream_options": 1}),
        json!({"stream": true, "stream_options": {"include_usage": 1}}),
        json!({"logprobs": 3}),
        json!({"top_logprobs": 3}),
        json!({"logprobs": true, "top_logprobs": 21}),
        json!({"typical_p": 0}),
        json!({"tools": {}}),
        json!({"tools": [{"type": "function"}]}),
        json!({"tools": [{"type": "web_search"}]}),
        json!({"tools": [{"type": "function", "function": {"parameters": {}}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}]}),
        json!({"tool_choice": "required"}),
        json!({"tool_choice": "sometimes"}),
        json!({"tool_choice": {"type": "function", "function": {"name": "g"}}}),
        json!({"chat_template_kwargs": 1}),
        json!({"functions": [{}]}),
        json!({"response_format": "json"}),
        json!({"response_format": {"type": "yaml"}}),
        json!({"response_format": {"type": "json_schema"}}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "b"}}}),
        json!({"logit_bias": [1]}),
        json!({"logit_bias": {"x": 1}}),
        json!({"logit_bias": {"5": 101}}),
        json!({"modalities": ["text", "audio"]}),
        json!({"audio": deep}),
    ];
    let rows: Vec<String> = cases
        .into_iter()
        .map(|case| {
            let mut shown = case.to_string();
            if shown.len() > 160 {
                shown = format!("{}…", shown.chars().take(80).collect::<String>());
            }
            format!("{shown}\n    {}", refusal(case))
        })
        .collect();
    insta::assert_snapshot!("wrong_fields", rows.join("\n"));
}

fn turns(prompts: &[Prompt]) -> &[Turn] {
    match prompts {
        [Prompt::Chat(chat)] => &chat.turns,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tools_calls_and_results_arrive() {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "description": "d", "strict": true,
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}})
    };
    let read = with(json!({
        "tools": [tool("f"), {"type": "function", "function": {"name": "g"}}],
        "tool_choice": {"type": "function", "function": {"name": "g"}}, "parallel_tool_calls": false,
        "chat_template_kwargs": {"enable_thinking": false},
        "messages": [{"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
                "function": {"name": "f", "arguments": "{\"a\": 1}"}}, {"id": "c2", "type": "function",
                "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "one"}]}],
    }))
    .unwrap();
    let [Prompt::Chat(chat)] = &read.ask.prompts[..] else { panic!() };
    assert_eq!(chat.tools.iter().map(|t| (t.name.as_str(), t.strict)).collect::<Vec<_>>(), [("f", true), ("g", false)]);
    assert_eq!(chat.tools[1].parameters, Json(Value::Null));
    assert_eq!((&chat.tool_choice, chat.parallel_calls), (&ToolChoice::Named("g".into()), false));
    assert_eq!(chat.variables, Json(json!({"enable_thinking": false})));
    assert_eq!(chat.turns[1].calls[0].arguments, Json(json!({"a": 1})));
    assert_eq!(chat.turns[1].calls[1].arguments, Json(json!({})));
    assert_eq!(chat.turns[2].call_id.as_deref(), Some("c2"));
    assert_eq!((chat.turns[3].role.as_str(), chat.turns[3].content.as_str()), ("tool", "one"));
    assert!(read.ignored.is_empty());
}

#[test]
fn bodies_that_are_no_request_are_refused() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    for (body, part) in [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{\"model\":1e999}", "not valid JSON"),
        ("{\"messages\":[]}", "model is missing"),
        ("{\"model\":\"m\"}", "messages is missing"),
        ("{\"model\":\"\\ud800\"}", "not valid JSON"),
        (deep.as_str(), "nested deeper than 64 at byte 68"),
    ] {
        let refusal = read(body.as_bytes()).unwrap_err();
        let text = String::from_utf8(crate::http::openai::json(&refusal.body())).unwrap();
        assert!(text.contains(part), "{body}: {text}");
    }
    assert!(read(b"\xff\xfe").is_err());
    let brackets_in_text = "[".repeat(100);
    with(json!({"user": brackets_in_text, "x\\\"": ["[[\\\"["]})).unwrap();
}

#[test]
fn what_is_left_out_has_the_defaults_of_the_protocol() {
    let plain = with(json!({})).unwrap();
    assert_eq!(plain.ask.wish, Wish::default());
    assert_eq!((plain.ask.answers, plain.ask.prompts.len()), (1, 1));
    assert_eq!((plain.ask.tokens_max, plain.stream, plain.include_usage), (None, false, false));
    assert!(plain.ignored.is_empty() && plain.ask.user.is_empty());
}

#[test]
fn every_field_arrives() {
    let full = with(json!({
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "", "refusal": null, "tool_calls": null, "annotations": []},
        ],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "frequency_penalty": -0.5,
        "presence_penalty": 0.25, "repeat_penalty": 1.1, "seed": -1, "max_completion_tokens": 7, "n": 3,
        "logprobs": true, "top_logprobs": 2, "logit_bias": {"7": -100, "8": 0.5}, "typical_p": 0.5, "ignore_eos": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "null"}}},
        "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true}, "user": "ü",
    }))
    .unwrap();
    let wish = full.ask.wish;
    let roles: Vec<_> = turns(&full.ask.prompts).iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
    assert_eq!(roles, [("system", "be brief"), ("user", "one\ntwo"), ("assistant", "")]);
    assert_eq!(
        wish.sampling,
        Sampling {
            temperature: 0.5,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.05,
            frequency_penalty: -0.5,
            presence_penalty: 0.25,
            repeat_penalty: 1.1,
            seed: Some(u64::MAX),
        }
    );
    assert_eq!((full.ask.tokens_max, wish.stop.len(), full.ask.user.as_str()), (Some(7), 2, "ü"));
    assert_eq!((full.ask.answers, wish.chances, wish.typical_p, wish.ignore_end), (3, Some(2), 0.5, true));
    assert_eq!(wish.logit_bias, [(7, -100.0), (8, 0.5)]);
    assert_eq!(wish.format, Format::Schema(Json(json!({"type": "null"}))));
    assert!(full.stream && full.include_usage && full.ignored.is_empty());
}

#[test]
fn values_that_ask_for_nothing_pass_and_unknown_fields_are_reported() {
    let request = with(json!({
        "logprobs": false, "top_logprobs": 0, "tools": [], "tool_choice": "auto", "functions": [], "response_format": {"type": "text"},
        "logit_bias": {}, "modalities": ["text"], "audio": null, "stop": null, "metadata": {"run": "7"},
        "reasoning_effort": "low", "a b\r\nx": 1, "store": false,
    }))
    .unwrap();
    assert_eq!(ignored_header(&request.ignored).unwrap(), "reasoning_effort,a?b??x,store");
    let many: Vec<String> = (0..20).map(|i| format!("f{i}")).collect();
    assert!(ignored_header(&many).unwrap().ends_with("f15,+4"));
    assert_eq!(ignored_header(&[]), None);
}

#[test]
fn the_ranges_are_those_of_the_daemon() {
    for (name, least, most, above) in RANGES {
        for (number, good) in [(*least, !above), (*most, true), (least - 0.001, false), (most + 0.001, false)] {
            assert_eq!(with(json!({*name: number})).is_ok(), good, "{name} {number}");
            let mut wish = Wish::default();
            let sampling = &mut wish.sampling;
            let field = match *name {
                "typical_p" => &mut wish.typical_p,
                "temperature" => &mut sampling.temperature,
                "top_p" => &mut sampling.top_p,
                "min_p" => &mut sampling.min_p,
                "frequency_penalty" => &mut sampling.frequency_penalty,
                "presence_penalty" => &mut sampling.presence_penalty,
                "repeat_penalty" => &mut sampling.repeat_penalty,
                other => panic!("{other} is in no place of Sampling"),
            };
            *field = number as f32;
            assert_eq!(wish.check().is_ok(), good, "{name} {number}");
        }
    }
}
