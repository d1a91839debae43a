//! The request log, feedback, rows of a log and guards, over the real endpoint with the real model and the official client. Never
//! here: matching (see the daemon's guards), files (its request log).

use std::process::Command;

use hone_tests::{Client, Daemon, Response, http, programs, repository, starter, wait_until};
use serde_json::{Value, json};

/// The starter as a service with room for several at once, and an application with a key.
fn shop(client: &mut Client) -> String {
    client.import_starter();
    let price = json!({"input_micros": 1_000_000, "cached_micros": 1_000_000, "output_micros": 1_000_000});
    client.ask(
        json!({"publish": {"name": "desk", "version": "starter", "slots": 4, "context_tokens": 512, "price": price}}),
    );
    client.wait_for_service("desk");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    key(client, "shop")
}

fn key(client: &mut Client, application: &str) -> String {
    let made = client.ask(json!({"create_key": {"application": application, "label": "", "expires_at_ms": null}}));
    made["secret"].as_str().unwrap().to_owned()
}

fn log_on(client: &mut Client, more: Value) {
    let mut log = json!({"share_percent": 100, "retention_days": 30, "mask_pii": false, "bytes_max": 1 << 20, "entry_bytes_max": 65_536});
    log.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.ask(json!({"set_log": {"application": "shop", "log": log}}));
}

fn post(daemon: &Daemon, secret: &str, path: &str, body: &Value) -> Response {
    http(&daemon.http(), "POST", path, Some(secret), Some(body))
}

fn body(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.body))
}

fn chat(content: &str, tokens: u64) -> Value {
    json!({"model": "desk", "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0})
}

fn page(client: &mut Client, more: Value) -> Vec<Value> {
    let mut query = json!({"application": "shop", "service": "", "user": "", "since_ms": null, "until_ms": null, "id": "",
        "text": "", "feedback": null, "after": "", "count": 100});
    query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.ask(json!({"log_page": query}))["lines"].as_array().unwrap().clone()
}

fn entry(client: &mut Client, response: &Value) -> Value {
    client.ask(json!({"log_entry": {"response": response}}))
}

fn guard(client: &mut Client, name: &str, more: Value) {
    let mut spec = json!({"words": [], "patterns": [], "kinds": [], "input": true, "output": true, "act": "mask",
        "services": [], "applications": []});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.ask(json!({"set_guard": {"name": name, "spec": spec}}));
}

fn counts(client: &mut Client, name: &str) -> Value {
    let guards = client.ask(json!("guards"));
    guards.as_array().unwrap().iter().find(|guard| guard["record"]["name"] == name).unwrap()["counts"].clone()
}

fn hone(daemon: &Daemon, words: &[&str]) -> String {
    let state = daemon.state().display().to_string();
    let output = Command::new(programs().join("hone")).args(["--state", &state]).args(words).output().unwrap();
    assert!(output.status.success(), "hone {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The texts of a stream's events put together, why it ended, and its usage.
fn streamed(response: &Response) -> (String, String, Value) {
    let (mut text, mut finish, mut usage) = (String::new(), String::new(), Value::Null);
    for event in response.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let event: Value = serde_json::from_str(event).unwrap();
        let choice = &event["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().or(choice["text"].as_str()).unwrap_or_default());
        finish.push_str(choice["finish_reason"].as_str().unwrap_or_default());
        if !event["usage"].is_null() {
            usage = event["usage"].clone();
        }
    }
    (text, finish, usage)
}

#[test]
fn a_logged_answer_opens_its_prompt_as_rendered_is_judged_and_becomes_rows() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    let unlogged = body(&post(&daemon, &secret, "/v1/chat/completions", &chat("Say hello.", 8)));
    assert_eq!(page(&mut client, json!({})).len(), 0, "nothing is logged before it is turned on");
    log_on(&mut client, json!({}));
    let mut asked = chat("Write a <|im_end|> sentence.", 12);
    asked["user"] = json!("ann");
    asked["metadata"] = json!({"page": "help"});
    let answer = body(&post(&daemon, &secret, "/v1/chat/completions", &asked));
    let response = answer["id"].clone();

    // What the model saw is what the tokenizer says of the same messages.
    let logged = entry(&mut client, &response);
    let kept = &logged["entry"];
    let spelled = body(&post(&daemon, &secret, "/tokenize", &json!({"model": "desk", "messages": asked["messages"]})));
    let rendered = &kept["rendered"][0];
    assert_eq!(rendered["tokens"], spelled["count"], "{spelled}");
    let tokens = json!({"model": "desk", "tokens": spelled["tokens"]});
    let text = body(&post(&daemon, &secret, "/detokenize", &tokens))["prompt"].clone();
    assert_eq!(rendered["text"], text);
    let control = |range: &Value| {
        let at = |n: usize| range[n].as_u64().unwrap() as usize;
        rendered["text"].as_str().unwrap()[at(0)..at(1)].to_owned()
    };
    let controls: Vec<String> = rendered["control"].as_array().unwrap().iter().map(control).collect();
    // The markup is control, what the user wrote is not, however it looks.
    let ends = controls.iter().filter(|token| *token == "<|im_end|>").count();
    let written = text.as_str().unwrap().matches("<|im_end|>").count();
    assert_eq!(ends + 1, written, "{controls:?} in {text}");
    assert_eq!(kept["answers"][0]["text"], answer["choices"][0]["message"]["content"]);
    assert_eq!(kept["completion_tokens"], answer["usage"]["completion_tokens"]);
    assert_eq!(
        (&kept["user"], &kept["metadata"][0][1], &kept["version"]),
        (&json!("ann"), &json!("help"), &json!("starter@1"))
    );

    // The stream of the same request says and logs the same.
    let mut streams = asked.clone();
    streams["stream"] = json!(true);
    let streamed_answer = post(&daemon, &secret, "/v1/chat/completions", &streams);
    assert_eq!(streamed(&streamed_answer).0, answer["choices"][0]["message"]["content"].as_str().unwrap());
    let lines = page(&mut client, json!({"user": "ann"}));
    assert_eq!((lines.len(), &lines[0]["answered"]), (2, &lines[1]["answered"]));

    // Feedback: of one's own responses only, whether they were logged or not; the last word of a user counts.
    let say = |secret: &str, more: Value| {
        let mut said = json!({"response_id": response, "user": "ann"});
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&daemon, secret, "/v1/feedback", &said)
    };
    client.ask(json!({"set_application": {"name": "other", "title": "", "services": []}}));
    let other = key(&mut client, "other");
    assert_eq!(say(&other, json!({"rating": "up"})).status, 404);
    assert_eq!(say(&secret, json!({"rating": 5})).status, 400);
    assert_eq!(say(&secret, json!({})).status, 400);
    assert_eq!(say(&secret, json!({"rating": "up"})).status, 200);
    let corrected = say(&secret, json!({"rating": "down", "comment": "no", "correction": "A better sentence."}));
    assert_eq!(body(&corrected)["rating"], "down");
    assert_eq!(say(&secret, json!({"rating": "up", "response_id": unlogged["id"]})).status, 200);
    let judged = entry(&mut client, &response);
    assert_eq!(judged["feedback"].as_array().unwrap().len(), 1);
    assert_eq!(judged["feedback"][0]["feedback"]["correction"], "A better sentence.");
    assert_eq!(entry(&mut client, &unlogged["id"])["entry"], Value::Null);
    hone(&daemon, &["--as", "lin", "log", "rate", response.as_str().unwrap(), "down"]);
    let stats = client.ask(json!({"stats": {"span": "hour"}}));
    let line = stats["lines"].as_array().unwrap().iter().find(|line| line["application"] == "shop").unwrap().clone();
    assert_eq!(line["feedback"], json!({"up": 1, "down": 2, "corrections": 1}));

    // All of it is there after a crash.
    daemon.crash();
    let mut client = daemon.connect();
    client.wait_for_service("desk");
    assert_eq!(entry(&mut client, &response)["entry"]["rendered"][0]["text"], text);
    let listed: Value =
        serde_json::from_str(&hone(&daemon, &["log", "list", "shop", "--feedback", "corrected", "--json"])).unwrap();
    assert_eq!((listed["lines"].as_array().unwrap().len(), &listed["lines"][0]["ratings"]), (1, &json!([0, 2])));

    // Rows: the correction before what was delivered; a second time there is nothing new.
    hone(&daemon, &["dataset", "from-log", "shop", "prefs", "--rows", "preference"]);
    let split = json!({"held_out_percent": 0, "seed": 1});
    let rows = |client: &mut Client, dataset: &str| {
        let rows = json!({"rows": {"dataset": dataset, "offset": 0, "count": 10, "split": split, "part": "all"}});
        client.ask(rows)["rows"].as_array().unwrap().clone()
    };
    let pairs = rows(&mut client, "prefs");
    assert_eq!((pairs.len(), &pairs[0]["messages"][1]["content"]), (1, &json!("A better sentence.")));
    assert_eq!(pairs[0]["messages"][2]["content"], answer["choices"][0]["message"]["content"]);
    assert_eq!(pairs[0]["original"]["log"]["rejected"]["version"], "starter@1");
    let again = Command::new(programs().join("hone"))
        .args([
            "--state",
            &daemon.state().display().to_string(),
            "dataset",
            "from-log",
            "shop",
            "prefs",
            "--rows",
            "preference",
        ])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(5), "{}", String::from_utf8_lossy(&again.stderr));
    hone(&daemon, &["dataset", "from-log", "shop", "chats", "--feedback", "corrected"]);
    let chats = rows(&mut client, "chats");
    assert_eq!(chats[0]["messages"][1]["content"], "A better sentence.");
    assert_eq!(chats[0]["original"]["log"]["response"], kept["id"]);

    hone(&daemon, &["log", "clear", "shop"]);
    assert_eq!(page(&mut client, json!({})).len(), 0);
}

#[test]
fn a_forbidden_word_that_is_split_over_tokens_is_never_delivered() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    log_on(&mut client, json!({}));
    let asked = chat("Tell me about the moon in three sentences.", 48);
    let free = body(&post(&daemon, &secret, "/v1/chat/completions", &asked));
    let said = free["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    // Words of the answer itself, over two tokens and more: a phrase from its middle.
    let words: Vec<&str> = said.split(' ').collect();
    let phrase = words[3..6].join(" ").trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    assert!(said.contains(&phrase) && phrase.contains(' '), "{phrase:?} of {said:?}");
    guard(&mut client, "phrase", json!({"words": [phrase], "input": false}));
    let expected = said.replace(&phrase, "[MASKED]");

    let whole = body(&post(&daemon, &secret, "/v1/chat/completions", &asked));
    assert_eq!(whole["choices"][0]["message"]["content"].as_str().unwrap(), expected);
    let mut streams = asked.clone();
    streams["stream"] = json!(true);
    streams["stream_options"] = json!({"include_usage": true});
    let stream = post(&daemon, &secret, "/v1/chat/completions", &streams);
    let (text, finish, usage) = streamed(&stream);
    assert_eq!((text.as_str(), &usage["completion_tokens"]), (expected.as_str(), &whole["usage"]["completion_tokens"]));
    assert_eq!(usage["completion_tokens"], free["usage"]["completion_tokens"], "what is masked is told of by its mask");
    assert_eq!(finish, free["choices"][0]["finish_reason"].as_str().unwrap());

    // The other protocols, several answers, log-probabilities.
    let responses = json!({"model": "desk", "input": "Tell me about the moon in three sentences.", "max_output_tokens": 48, "temperature": 0});
    let response = body(&post(&daemon, &secret, "/v1/responses", &responses));
    assert_eq!(response["output"][0]["content"][0]["text"].as_str().unwrap(), expected);
    let messages = json!({"model": "desk", "messages": asked["messages"], "max_tokens": 48, "temperature": 0});
    let message = body(&post(&daemon, &secret, "/v1/messages", &messages));
    assert_eq!(message["content"][0]["text"].as_str().unwrap(), expected);
    let mut several = asked.clone();
    (several["n"], several["logprobs"], several["top_logprobs"]) = (json!(2), json!(true), json!(3));
    let two = body(&post(&daemon, &secret, "/v1/chat/completions", &several));
    for choice in two["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"].as_str().unwrap(), expected);
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let told: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert!(!told.contains(&phrase), "{told}");
    }

    // Refused: the answer ends in front of it, and what was not delivered is not billed.
    guard(&mut client, "phrase", json!({"words": [phrase], "input": false, "act": "refuse"}));
    let before = said.split(&phrase).next().unwrap();
    let stream = post(&daemon, &secret, "/v1/chat/completions", &streams);
    let (text, finish, usage) = streamed(&stream);
    assert_eq!((text.as_str(), finish.as_str()), (before, "content_filter"));
    let cut = body(&post(&daemon, &secret, "/v1/chat/completions", &asked));
    assert_eq!(cut["choices"][0]["message"]["content"].as_str().unwrap(), before);
    assert_eq!(cut["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(cut["usage"], usage);
    assert!(usage["completion_tokens"].as_u64().unwrap() < free["usage"]["completion_tokens"].as_u64().unwrap());
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 1}}));
    assert_eq!(rows[0]["completion_tokens"], usage["completion_tokens"]);
    let response = body(&post(&daemon, &secret, "/v1/responses", &responses));
    assert_eq!(response["incomplete_details"]["reason"], "content_filter");
    let message = body(&post(&daemon, &secret, "/v1/messages", &messages));
    assert_eq!((&message["stop_reason"], message["content"][0]["text"].as_str().unwrap()), (&json!("refusal"), before));
    let logged = page(&mut client, json!({}));
    assert_eq!((&logged[0]["finish"], logged[0]["guarded"].as_u64()), (&json!("content_filter"), Some(1)));
    assert!(!logged[0]["answered"].as_str().unwrap().contains(&phrase));
    // A slot is free again at once: nothing is generated for nobody.
    wait_until("the answer is no longer generated", || {
        let services = client.ask(json!("services"));
        (services[0]["active"] == 0).then_some(())
    });

    wait_until("all are counted", || (counts(&mut client, "phrase")["output"].as_u64()? >= 10).then_some(()));
    let metrics = http(&daemon.http(), "GET", "/metrics", Some(&key(&mut client, "owner")), None);
    assert!(metrics.body.contains("hone_guard_refused_total{guard=\"phrase\"}"), "{}", metrics.body);
    client.ask(json!({"remove_guard": {"name": "phrase"}}));
    let free_again = body(&post(&daemon, &secret, "/v1/chat/completions", &asked));
    assert_eq!(free_again["choices"], free["choices"]);
}

#[test]
fn what_goes_in_is_masked_before_it_is_seen_or_logged_and_refusals_cost_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    log_on(&mut client, json!({}));
    hone(&daemon, &["guard", "set", "pii", "--kinds", "email,phone,card", "--on", "input"]);
    hone(
        &daemon,
        &["guard", "set", "rivals", "--words", "Blue Ox", "--act", "refuse", "--on", "input", "--apps", "shop"],
    );
    let answer =
        body(&post(&daemon, &secret, "/v1/chat/completions", &chat("I am ann@example.com, call 13800138000.", 4)));
    let logged = entry(&mut client, &answer["id"]);
    let rendered = logged["entry"]["rendered"][0]["text"].as_str().unwrap();
    assert!(rendered.contains("I am [EMAIL], call [PHONE]."), "{rendered}");
    assert!(!logged.to_string().contains("ann@example.com"));
    assert_eq!(logged["entry"]["guards"][0], json!({"guard": "pii", "side": "input", "act": "mask", "matches": 2}));

    let requests = |client: &mut Client| {
        let all = client.ask(json!("applications"));
        all.as_array().unwrap().iter().find(|a| a["record"]["name"] == "shop").unwrap()["usage"]["requests"].clone()
    };
    let before = requests(&mut client);
    let refused = post(&daemon, &secret, "/v1/chat/completions", &chat("Is blue ox better?", 4));
    assert_eq!((refused.status, &body(&refused)["error"]["code"]), (400, &json!("content_filter")), "{}", refused.body);
    let refused = post(
        &daemon,
        &secret,
        "/v1/completions",
        &json!({"model": "desk", "prompt": ["fine", "a BLUE OX"], "max_tokens": 1}),
    );
    assert_eq!(body(&refused)["error"]["code"], "content_filter");
    let tokens =
        post(&daemon, &secret, "/v1/completions", &json!({"model": "desk", "prompt": [1, 2], "max_tokens": 1}));
    assert_eq!(tokens.status, 400, "tokens cannot be looked at");
    assert_eq!(requests(&mut client), before, "what is refused is no request and costs nothing");
    // They are counted when the client has long been told.
    let both = json!({"input": 2, "output": 0, "refused": 2});
    wait_until("both are counted", || (counts(&mut client, "rivals") == both).then_some(()));
    let owner = key(&mut client, "owner");
    assert_eq!(post(&daemon, &owner, "/v1/chat/completions", &chat("Blue Ox", 1)).status, 200, "it is for shop alone");

    let letter = daemon.state().join("letter.txt");
    std::fs::write(&letter, "write to ann@example.com or +44 20 7946 0958").unwrap();
    let trial: Value =
        serde_json::from_str(&hone(&daemon, &["guard", "test", "pii", letter.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(trial["passes"], "write to [EMAIL] or [PHONE]");
    let wrong = client.try_ask(json!({"set_guard": {"name": "x", "spec": {"words": [], "patterns": ["("], "kinds": [],
        "input": true, "output": true, "act": "mask", "services": [], "applications": []}}}));
    assert_eq!(wrong.unwrap_err()["place"], "patterns");
}

#[test]
fn the_official_client_sees_guards_and_says_what_it_thinks() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    log_on(&mut client, json!({}));
    guard(&mut client, "moon", json!({"words": ["moon", "the"], "input": false}));
    guard(&mut client, "never", json!({"words": ["forbidden topic"], "act": "refuse", "output": false}));
    let packages = starter().parent().unwrap().join("python/openai-3.54.0");
    assert!(packages.exists(), "{} is missing: run `make assets`", packages.display());
    let output = Command::new("python3")
        .arg(repository().join("tests/python/guards.py"))
        .args([format!("http://{}/v1", daemon.http()), "desk".into()])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENAI_API_KEY", &secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["refused"], "content_filter");
    assert_eq!(told["whole"], told["streamed"]);
    assert!(told["whole"].as_str().unwrap().contains("[MASKED]"), "{told}");
    let logged = entry(&mut client, &told["id"]);
    assert_eq!(logged["entry"]["answers"][0]["text"], told["whole"]);
    assert_eq!(logged["feedback"][0]["feedback"]["rating"], "up");
}
