//! Each method on the real starter: its objective moves as it should on rows that no training batch saw. Never here: how losses
//! are computed (see kernels).

use std::collections::BTreeMap;

use hone_tests::{Client, Daemon, repository, train_spec};
use serde_json::{Value, json};

/// Questions and answers of the preset.
fn desk() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join("daemon/data/presets/support-desk.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let last_two = |row: Value| {
        let messages = row["messages"].as_array().unwrap().clone();
        let said = |at: usize| messages[messages.len() - at]["content"].as_str().unwrap().to_owned();
        (said(2), said(1))
    };
    rows.map(last_two).collect()
}

fn import(client: &mut Client, daemon: &Daemon, name: &str, rows: impl IntoIterator<Item = Value>) {
    let path = daemon.state().join(format!("{name}.jsonl"));
    std::fs::write(&path, rows.into_iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let source = json!({"path": {"path": path.display().to_string()}});
    client.job(json!({"import_dataset": {"source": source, "name": name, "format": "detect"}}));
}

/// Paragraphs of the documentation: English that is not about the help desk.
fn paragraphs() -> Vec<String> {
    let pages = ["docs/sandbox.md", "docs/datasets.md", "docs/jobs.md", "docs/http.md"];
    let texts = pages.map(|page| std::fs::read_to_string(repository().join(page)).unwrap());
    let paragraphs = texts.iter().flat_map(|text| text.split("\n\n")).filter(|text| text.len() > 120);
    paragraphs.map(|text| text.chars().take(600).collect()).collect()
}

/// A run of a method on a dataset; first and last value of every series that was asked for.
fn run(
    client: &mut Client,
    dataset: &str,
    changes: Value,
    replay: Value,
    series: &[&str],
) -> BTreeMap<String, (f64, f64)> {
    let mut spec = train_spec(0, Value::Null);
    // One thread each: the two tests run beside each other.
    spec["train"]["params"]["threads"] = json!(1);
    spec["train"]["dataset"] = json!(dataset);
    spec["train"]["replay"] = replay;
    for (key, value) in changes.as_object().unwrap() {
        spec["train"]["params"][key] = value.clone();
    }
    let job = client.submit(spec);
    let view = client.finish(&job);
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    let ends = series.iter().map(|name| {
        let points = client.ask(json!({"metrics": {"job": job, "series": name, "from_step": 0, "points": 0}}));
        let value = |point: &Value| point["value"].as_f64().unwrap_or(f64::NAN);
        let points = points.as_array().unwrap();
        assert!(points.len() > 1, "{name}: {points:?}");
        ((*name).to_owned(), (value(&points[0]), value(&points[points.len() - 1])))
    });
    let ends = ends.collect();
    println!("{dataset} {changes}: {ends:?}");
    ends
}

#[test]
fn preferred_answers_pull_ahead_on_pairs_that_were_held_out() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let rows = desk();
    let pairs = rows[..120]
        .iter()
        .zip(&rows[120..240])
        .map(|((question, answer), (_, other))| json!({"prompt": question, "chosen": answer, "rejected": other}));
    import(&mut client, &daemon, "pairs", pairs);
    let listed = client.ask(json!("datasets"));
    assert_eq!(listed[0]["record"]["shape"], "preference");
    let changes = |method: &str, beta: f64| {
        json!({"method": method, "beta": beta, "rank": 8, "alpha": 16.0, "targets": ["q", "k", "v", "o", "gate", "up", "down"],
            "batch_windows": 2, "evaluate_steps": 10, "learning_rate": 0.0005})
    };
    let series = ["loss", "eval_loss", "eval_margin", "eval_accuracy"];
    let dpo = run(&mut client, "pairs", changes("dpo", 0.1), Value::Null, &series);
    let (first, last) = dpo["eval_loss"];
    assert!((first - 2f64.ln()).abs() < 1e-3, "at its beginning a run is its own reference: {first}");
    assert!(last < 0.9 * first && dpo["eval_margin"].1 > 0.2, "{dpo:?}");
    assert!(dpo["eval_accuracy"].1 > 0.75, "{dpo:?}");
    let orpo = run(&mut client, "pairs", changes("orpo", 0.5), Value::Null, &series);
    assert!(orpo["eval_margin"].1 > orpo["eval_margin"].0 + 0.2, "{orpo:?}");
    assert!(orpo["eval_loss"].1 < 0.9 * orpo["eval_loss"].0, "{orpo:?}");

    let mut spec = train_spec(1, Value::Null);
    spec["train"]["dataset"] = json!("pairs");
    let refused = client.try_ask(json!({"submit": {"spec": spec}})).unwrap_err();
    assert!(refused["message_en"].as_str().unwrap().contains("for these rows choose dpo"), "{refused}");
}

#[test]
fn a_whole_model_is_trained_and_registered_as_a_model_of_its_own() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    let mut spec = train_spec(12, json!({"model": "whole", "alias": "", "publish": ""}));
    let changes = json!({"tuning": "full", "learning_rate": 0.0001, "evaluate_steps": 12, "batch_windows": 2,
        "threads": 1, "checkpoint_steps": 0, "schedule": "wsd"});
    for (key, value) in changes.as_object().unwrap() {
        spec["train"]["params"][key] = value.clone();
    }
    let job = client.submit(spec);
    let view = client.finish(&job);
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    let losses = client.ask(json!({"metrics": {"job": job, "series": "eval_loss", "from_step": 0, "points": 0}}));
    println!("whole model, held-out loss: {losses}");
    let [first, last] = [0, 1].map(|at: usize| losses[at]["value"].as_f64().unwrap());
    assert!(last < first - 0.3, "{losses}");
    let models = client.ask(json!("models"));
    let whole = models.as_array().unwrap().iter().find(|model| model["record"]["name"] == "whole").unwrap();
    let version = &whole["versions"][0];
    assert_eq!(version["record"]["weights"], "base");
    assert_eq!(version["record"]["facts"]["tensor_types"][0][0], "F16", "{version}");
    assert_eq!(version["record"]["lineage"]["source"], "trained on starter@1");
    // It stands on its own: the next run trains an adapter over it.
    let mut next = train_spec(1, Value::Null);
    next["train"]["base"] = json!("whole");
    next["train"]["params"]["threads"] = json!(1);
    client.job(next);
}

#[test]
fn fixed_prompts_are_answered_at_each_evaluation_as_the_endpoint_answers_them() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    let prompt = "How do I reset my password?";
    let mut spec = train_spec(6, json!({"model": "support", "alias": "", "publish": "support"}));
    spec["train"]["params"]["threads"] = json!(1);
    spec["train"]["samples"] = json!([prompt]);
    let refused = client.try_ask(json!({"submit": {"spec": spec}})).unwrap_err();
    assert_eq!((&refused["code"], &refused["place"]), (&json!("invalid_field"), &json!("samples")), "{refused}");
    spec["train"]["params"]["evaluate_steps"] = json!(4);
    let job = client.submit(spec);
    let view = client.finish(&job);
    let result = &view["record"]["state"]["succeeded"]["train"];
    assert!(
        result["duration_ms"].as_u64() > Some(0) && result["peak_memory_bytes"].as_u64() > Some(100 << 20),
        "{view}"
    );
    assert!(view["plan"].is_null() || view["plan"]["duration_ms"].as_u64() > Some(0), "{view}");
    let sampled = client.ask(json!({"samples": {"job": job, "from_step": 0, "count": 10}}));
    let at: Vec<(u64, String)> = sampled
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["step"].as_u64().unwrap(), one["answers"][0]["text"].as_str().unwrap().to_owned()))
        .collect();
    let steps: Vec<u64> = at.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 4, 6]);
    assert!(at.iter().all(|(_, text)| !text.trim().is_empty()) && at[0].1 != at[2].1, "{at:?}");
    let later = client.ask(json!({"samples": {"job": job, "from_step": 5, "count": 10}}));
    assert_eq!(later.as_array().unwrap().len(), 1);

    client.wait_for_service("support");
    let chat = json!({"chat": {"service": "support", "messages": [{"role": "user", "content": prompt}],
        "sampling": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "frequency_penalty": 0.0,
            "presence_penalty": 0.0, "repeat_penalty": 1.0, "seed": null}, "tokens_max": 64}});
    let mut text = String::new();
    let end = client.ask_with(chat, None, |part| text.push_str(part["text"]["text"].as_str().unwrap_or_default()));
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(text, at[2].1, "what the run said is what the endpoint says");
}

#[test]
fn texts_are_learnt_and_what_the_base_knew_is_kept() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let texts = desk().into_iter().take(200).map(|(question, answer)| json!({"text": format!("{question}\n{answer}")}));
    import(&mut client, &daemon, "texts", texts);
    import(&mut client, &daemon, "general", paragraphs().into_iter().map(|text| json!({"text": text})));
    let changes = json!({"method": "pretrain", "rank": 8, "alpha": 16.0, "scaling": "root_rank", "dropout": 0.05,
        "schedule": "wsd", "targets": ["q", "k", "v", "o", "gate", "up", "down"], "batch_windows": 2,
        "evaluate_steps": 10, "patience": 4, "learning_rate": 0.0005});
    let replay = json!({"dataset": "general", "percent": 20});
    let ends = run(&mut client, "texts", changes, replay, &["loss", "eval_loss", "replay_loss"]);
    let perplexity = |(first, last): (f64, f64)| (last - first).exp();
    assert!(perplexity(ends["eval_loss"]) < 0.5, "perplexity on the new texts halves: {ends:?}");
    assert!(perplexity(ends["replay_loss"]) < 1.05, "and rises by no more than a twentieth elsewhere: {ends:?}");
}
