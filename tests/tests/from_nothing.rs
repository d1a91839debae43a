//! A model from nothing to an answer: tokens learnt from real texts in two languages, weights drawn, all of it trained,
//! published and asked. Never here: what tokens and weights must be (see kernels).

use hone_tests::{Client, Daemon, http, repository, train_spec};
use serde_json::{Value, json};

/// Paragraphs of the documentation in English and Chinese.
fn import_pages(client: &mut Client, daemon: &Daemon) {
    let mut rows = String::new();
    for folder in ["docs", "docs/zh"] {
        let mut pages: Vec<_> =
            std::fs::read_dir(repository().join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
        pages.retain(|page| page.extension().is_some_and(|end| end == "md"));
        pages.sort();
        for page in pages {
            let text = std::fs::read_to_string(page).unwrap();
            for paragraph in text.split("\n\n").filter(|paragraph| paragraph.len() > 80) {
                rows.push_str(&format!("{}\n", json!({ "text": paragraph })));
            }
        }
    }
    let path = daemon.state().join("pages.jsonl");
    std::fs::write(&path, rows).unwrap();
    let source = json!({"path": {"path": path.display().to_string()}});
    client.job(json!({"import_dataset": {"source": source, "name": "pages", "format": "detect"}}));
}

fn blueprint(architecture: &str) -> Value {
    json!({"architecture": architecture, "layers": 4, "embedding": 128, "heads": 4, "kv_heads": 2,
        "feed_forward": 384, "context_tokens": 512})
}

fn init(name: &str, architecture: &str, tokens: Value) -> Value {
    json!({"convert": {"init": {"blueprint": blueprint(architecture), "tokens": tokens, "format": "f16", "seed": 1, "name": name}}})
}

/// First and last value of a series.
fn ends(client: &mut Client, job: &str, series: &str) -> (f64, f64) {
    let points = client.ask(json!({"metrics": {"job": job, "series": series, "from_step": 0, "points": 0}}));
    let points = points.as_array().unwrap();
    let value = |at: usize| points[at]["value"].as_f64().unwrap();
    (value(0), value(points.len() - 1))
}

#[test]
fn a_model_from_nothing_learns_is_published_and_answers() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import_pages(&mut client, &daemon);
    client.job(init("born", "llama", json!({"learn": {"dataset": "pages", "vocabulary": 1024}})));
    let models = client.ask(json!("models"));
    let version = models[0]["versions"][0]["record"].clone();
    assert_eq!(version["weights"], "base");
    let facts = &version["facts"];
    assert_eq!((facts["vocabulary"].as_u64(), facts["layers"].as_u64()), (Some(1024), Some(4)), "{facts}");
    assert_eq!(facts["parameters"], 1024 * 128 + 128 + 4 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 384 + 256));
    assert_eq!(facts["trainable"], json!({"Ok": null}));
    let source = version["lineage"]["source"].as_str().unwrap();
    assert!(source.contains("tokens learnt from pages@1") && source.contains("seed 1"), "{source}");

    let mut spec = train_spec(300, json!({"model": "raised", "alias": "", "publish": ""}));
    let changes = json!({"method": "pretrain", "tuning": "full", "learning_rate": 0.003, "warmup_ratio": 0.1, "schedule": "cosine",
        "batch_windows": 4, "evaluate_steps": 100, "epochs": 50, "checkpoint_steps": 0, "threads": 1});
    for (key, value) in changes.as_object().unwrap() {
        spec["train"]["params"][key] = value.clone();
    }
    spec["train"]["base"] = json!("born");
    spec["train"]["dataset"] = json!("pages");
    let job = client.submit(spec);
    let view = client.finish(&job);
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    let (first, last) = ends(&mut client, &job, "loss");
    let held_out = ends(&mut client, &job, "eval_loss");
    println!("loss {first:.3} to {last:.3}, held out {held_out:?}, ln(vocabulary) {:.3}", 1024f64.ln());
    assert!((first - 1024f64.ln()).abs() < 0.2, "who knows nothing guesses: {first}");
    assert!((held_out.0 - 1024f64.ln()).abs() < 0.2 && held_out.1 < held_out.0 - 1.5, "{held_out:?}");
    assert!(last < first - 1.5, "{first} {last}");

    says_what_pages_say(&daemon, &mut client);

    // Its template renders chats: an adapter learns turns over it.
    client.import_rows();
    let mut chats = train_spec(2, Value::Null);
    chats["train"]["base"] = json!("raised");
    chats["train"]["params"]["sequence_tokens"] = json!(256);
    chats["train"]["params"]["threads"] = json!(1);
    client.job(chats);
}

fn says_what_pages_say(daemon: &Daemon, client: &mut Client) {
    let price = json!({"input_micros": 0, "cached_micros": 0, "output_micros": 0});
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": ""}}));
    let key = key["secret"].as_str().unwrap();
    let publish = json!({"name": "raised", "version": "raised@1", "slots": 1, "context_tokens": 256, "price": price});
    client.ask(json!({ "publish": publish }));
    client.wait_for_service("raised");
    let body = json!({"model": "raised", "messages": [{"role": "user", "content": "hone"}], "temperature": 0, "max_tokens": 24});
    let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(key), Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    println!("{}", answer["choices"][0]["message"]["content"]);
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{answer}");
}

#[test]
fn tokens_are_taken_over_and_what_cannot_be_is_refused_by_its_field() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.job(init("twin", "qwen3", json!({"of": {"version": "starter"}})));
    let models = client.ask(json!("models"));
    let named = |name: &str| {
        let model = models.as_array().unwrap().iter().find(|model| model["record"]["name"] == name).unwrap();
        model["versions"][0]["record"]["facts"].clone()
    };
    let (twin, starter) = (named("twin"), named("starter"));
    assert_eq!(twin["architecture"], "qwen3");
    for same in ["vocabulary", "template_sha256"] {
        assert_eq!(twin[same], starter[same]);
    }
    let of = json!({"of": {"version": "starter"}});
    for (field, key, value) in [("heads", "heads", json!(3)), ("embedding", "embedding", json!(100))] {
        let mut spec = init("x", "llama", of.clone());
        spec["convert"]["init"]["blueprint"][key] = value;
        let refused = client.try_ask(json!({"submit": {"spec": spec}})).unwrap_err();
        assert_eq!((refused["code"].as_str(), refused["place"].as_str()), (Some("invalid_field"), Some(field)));
    }
    let mut spec = init("x", "llama", of);
    spec["convert"]["init"]["format"] = json!("q4_0");
    let refused = client.try_ask(json!({"submit": {"spec": spec}})).unwrap_err();
    assert_eq!(refused["place"], "format", "{refused}");
    let none = init("x", "llama", json!({"learn": {"dataset": "none", "vocabulary": 1024}}));
    let refused = client.try_ask(json!({"submit": {"spec": none}})).unwrap_err();
    assert_eq!(refused["code"], "not_found", "{refused}");
}
