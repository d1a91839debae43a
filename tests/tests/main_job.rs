//! The main job end to end on the real starter and the preset rows, with what must hold along the way.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use hone_tests::{Client, Daemon, http, repository, starter, train_spec, wait_until};
use serde_json::{Value, json};

/// Two trainers on two cores spin against each other; one at a time is quicker for all.
static CORES: Mutex<()> = Mutex::new(());

fn ready() -> (Daemon, Client) {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    (daemon, client)
}

fn key(client: &mut Client, application: &str) -> String {
    client.ask(json!({"set_application": {"name": application, "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": application, "label": ""}}));
    key["secret"].as_str().unwrap().to_owned()
}

fn series(client: &mut Client, job: &str, name: &str) -> Vec<u64> {
    let points = client.ask(json!({"metrics": {"job": job, "series": name, "from_step": 0, "points": 0}}));
    points.as_array().unwrap().iter().map(|p| p["step"].as_u64().unwrap()).collect()
}

#[test]
fn rows_become_a_tuned_model_on_a_metered_endpoint() {
    let _cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let (daemon, mut client) = ready();
    let register = json!({"model": "support", "alias": "best", "publish": "support"});
    let job = client.submit(train_spec(4, register));
    let mut kinds: Vec<String> = Vec::new();
    let request = json!({"follow": {"job": job, "from_seq": 0}});
    let view = client
        .ask_with(request, None, |part| {
            let kind = &part["job"]["kind"];
            let word = kind.as_str().map(str::to_owned).or_else(|| kind.as_object()?.keys().next().cloned());
            assert_eq!(part["job"]["seq"], kinds.len(), "events have no gap");
            kinds.extend(word);
        })
        .unwrap();
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    assert_eq!(kinds.first().map(String::as_str), Some("submitted"));
    assert!(kinds.contains(&"planned".into()) && kinds.contains(&"checkpointed".into()), "{kinds:?}");
    assert_eq!(series(&mut client, &job, "loss"), [1, 2, 3, 4]);

    client.wait_for_service("support");
    let models = client.ask(json!("models"));
    let support = models.as_array().unwrap().iter().find(|m| m["record"]["name"] == "support").unwrap();
    assert_eq!(support["record"]["aliases"][0]["name"], "best");
    assert_eq!(support["versions"][0]["base_reference"], "starter@1");
    assert_eq!(support["versions"][0]["record"]["lineage"]["job"], job.as_str());

    let secret = key(&mut client, "shop");
    let body = json!({"model": "support", "messages": [{"role": "user", "content": "When are you open?"}], "temperature": 0, "max_tokens": 12});
    let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let usage = serde_json::from_str::<Value>(&answer.body).unwrap()["usage"].clone();
    let ledger = client.ask(json!({"ledger": {"application": "shop", "count": 5}}));
    assert_eq!(ledger[0]["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(ledger[0]["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(ledger[0]["outcome"], "complete");
    let invoice = client.ask(json!({"invoice": {"application": "shop", "month": ""}}));
    assert_eq!(invoice["tokens"][0]["usage"]["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(invoice["amount"], ledger[0]["amount"]);

    let wrong = http(&daemon.http(), "POST", "/v1/chat/completions", Some("hone_nonsense"), Some(&body));
    assert_eq!(wrong.status, 401);
    let unknown = json!({"model": "suport", "messages": [{"role": "user", "content": "x"}]});
    let unknown = http(&daemon.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&unknown));
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("support"), "names the nearest: {}", unknown.body);
    streams_through_the_official_client(&daemon, &mut client, &secret);

    client.ask(json!({"set_service": {"name": "support", "wanted": false}}));
    let off = http(&daemon.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&body));
    assert_eq!(off.status, 503, "{}", off.body);
    assert!(off.body.contains("service support is off"), "{}", off.body);
    let listed = http(&daemon.http(), "GET", "/v1/models", Some(&secret), None);
    assert!(!listed.body.contains("support"), "{}", listed.body);
}

/// The `openai` package streams from the endpoint; the usage it is told is on the ledger.
fn streams_through_the_official_client(daemon: &Daemon, client: &mut Client, secret: &str) {
    let assets = starter().parent().unwrap().join("python/openai-3.54.0");
    assert!(assets.exists(), "{} is missing: run `make assets`", assets.display());
    let output = Command::new("python3")
        .arg(repository().join("tests/python/openai_stream.py"))
        .args([format!("http://{}/v1", daemon.http()), "support".into()])
        .env("PYTHONPATH", assets)
        .env("OPENAI_API_KEY", secret)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["pieces"].as_u64().unwrap() > 1, "{told}");
    let ledger = client.ask(json!({"ledger": {"application": "shop", "count": 1}}));
    assert_eq!(ledger[0]["prompt_tokens"], told["usage"]["prompt_tokens"]);
    assert_eq!(ledger[0]["completion_tokens"], told["usage"]["completion_tokens"]);
}

/// The lines that the README shows do what it says, as they stand there.
#[test]
fn the_five_lines_of_the_readme_run() {
    let _cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let (daemon, _client) = ready();
    for page in ["README.md", "README.zh-CN.md"] {
        let text = std::fs::read_to_string(repository().join(page)).unwrap();
        let (_, rest) = text.split_once("<!-- socket-example -->\n```python\n").unwrap();
        let lines = rest.split_once("```").unwrap().0;
        assert_eq!(lines.lines().count(), 5, "{page}");
        let output = Command::new("python3")
            .args(["-c", lines])
            .current_dir(repository().join("tests/demo"))
            .env("PYTHONPATH", ".")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HONE_STATE", daemon.state())
            .output()
            .unwrap();
        assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said[0], "['starter']", "{page}");
        assert_eq!(said[1], "0 submitted", "{page}");
        assert!(said[said.len() - 2].contains("'succeeded'"), "{page}: {said:?}");
        assert!(
            said[said.len() - 1].starts_with("[{'step': 1, 'value': ") && said[said.len() - 1].contains("'step': 2,"),
            "{page}: {said:?}"
        );
    }
}

#[test]
fn a_crash_in_the_middle_of_a_run_leaves_a_series_without_gap_or_repeat() {
    let _cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut daemon, mut client) = ready();
    let job = client.submit(train_spec(8, Value::Null));
    wait_until("a checkpoint is accepted", || {
        let view = client.ask(json!({"job": {"job": job}}));
        view["record"]["checkpoint"]["step"].as_u64().filter(|s| *s >= 2)
    });
    let worker = client.ask(json!({"job": {"job": job}}))["pid"].as_u64();
    daemon.crash();
    let mut client = daemon.connect();
    let view = client.finish(&job);
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    assert!(view["record"]["attempt"].as_u64().unwrap() >= 2);
    assert_eq!(series(&mut client, &job, "loss"), (1..=8).collect::<Vec<u64>>());
    if let Some(pid) = worker {
        // A process that has ended keeps its name until init asks after it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(!stat.contains("(hone-worker") || stat.contains(") Z "), "worker {pid} outlived its daemon: {stat}");
    }
}

#[test]
fn runs_are_paused_resumed_and_cancelled() {
    let _cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let (_daemon, mut client) = ready();
    let job = client.submit(train_spec(200, Value::Null));
    let running = |client: &mut Client| client.ask(json!({"job": {"job": job}}));
    wait_until("two steps are done", || {
        let progress = running(&mut client)["progress"].clone();
        (progress["phase"] == "phase.train" && progress["done"].as_u64()? >= 2).then_some(())
    });
    client.ask(json!({"pause": {"job": job}}));
    let paused = wait_until("it is paused", || {
        let view = running(&mut client);
        (view["shown"] == "paused").then_some(view)
    });
    assert!(paused["record"]["checkpoint"]["step"].as_u64().unwrap() >= 2);
    client.ask(json!({"resume": {"job": job}}));
    wait_until("it runs again", || (running(&mut client)["shown"] == "running").then_some(()));
    client.ask(json!({"cancel": {"job": job}}));
    let ended = client.finish(&job);
    assert_eq!(ended["record"]["state"], "cancelled");
    let failure = client.try_ask(json!({"cancel": {"job": job}})).unwrap_err();
    assert_eq!(failure["code"], "wrong_state");
}

#[test]
fn rows_are_shown_as_the_model_sees_them_and_judged() {
    let _cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let (daemon, mut client) = ready();
    let split = json!({"held_out_percent": 15, "seed": 7});
    let window = json!({"rows": {"dataset": "desk", "offset": 0, "count": 3, "split": split, "part": "held_out"}});
    let rows = client.ask(window.clone());
    // The child that pages rows is kept; when it has died meanwhile, nobody notices.
    let readers: Vec<u32> = daemon.children();
    assert!(!readers.is_empty(), "a reader is kept");
    for reader in readers {
        // One that has ended by itself in the meantime is as good.
        let _ = Command::new("kill").args(["-9", &reader.to_string()]).output().unwrap();
    }
    assert_eq!(client.ask(window)["total"], rows["total"]);
    assert!(rows["total"].as_u64().unwrap() >= 64, "{}", rows["total"]);
    let row_id = rows["rows"][0]["row_id"].clone();
    let rendered = client.ask(json!({"render_row": {"dataset": "desk", "row_id": row_id, "version": "starter"}}));
    let tokens = rendered["tokens"].as_array().unwrap();
    let trained: String = tokens.iter().filter(|t| t["trained"] == true).map(|t| t["text"].as_str().unwrap()).collect();
    // Every assistant turn is trained, with the mark that ends it, and nothing else.
    let messages = rows["rows"][0]["messages"].as_array().unwrap();
    let answers = messages.iter().filter(|m| m["role"] == "assistant");
    let wanted: String = answers.map(|m| format!("{}<|im_end|>", m["content"].as_str().unwrap())).collect();
    assert_eq!(trained, wanted);

    client.ask(json!({"create_suite": {"name": "held", "dataset": "desk", "split": split, "part": "held_out", "scorers": ["expect", "loss"]}}));
    let result =
        client.job(json!({"evaluate": {"version": "starter", "suite": "held", "answer_tokens_max": 8, "rows_max": 4}}));
    let all = client.ask(json!("evaluations"));
    let mut evaluations = all["evaluations"].as_array().unwrap().iter();
    let found = evaluations.find(|e| e["id"] == result["evaluation"]).unwrap();
    assert_eq!(found["rows"], 4);
    assert!(found["loss"].as_f64().unwrap() > 1.0, "an untrained model does not know the desk");
}

#[test]
fn a_truncated_model_and_a_foreign_file_are_refused_by_name() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.gguf");
    std::fs::write(&cut, &std::fs::read(starter()).unwrap()[..50_000_000]).unwrap();
    let text = folder.path().join("text.gguf");
    std::fs::write(&text, "this is no model").unwrap();
    for path in [cut, text, folder.path().join("missing.gguf")] {
        let source = json!({"path": {"path": path.display().to_string(), "in_place": false}});
        let job = client.submit(json!({"import_model": {"source": source, "name": "broken"}}));
        let failure = client.finish(&job)["record"]["state"]["failed"].clone();
        let code = failure["code"].as_str().unwrap();
        assert!(["bad_file", "file_unreadable"].contains(&code), "{failure}");
        assert!(failure.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{failure}");
    }
    assert_eq!(client.ask(json!("models")), json!([]));
}

#[test]
fn imports_count_every_line_of_the_fixtures() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let folder = repository().join("tests/fixtures/import");
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let files = expected.get("files").unwrap_or(&expected).as_object().unwrap().clone();
    assert!(files.len() >= 10);
    for (number, (name, wanted)) in files.iter().enumerate() {
        let path = folder.join(name).display().to_string();
        let spec = json!({"import_dataset": {"source": {"path": {"path": path}}, "name": format!("set-{number}"), "format": "detect"}});
        let job = client.submit(spec);
        let state = client.finish(&job)["record"]["state"].clone();
        let kept = wanted["kept"].as_u64().unwrap();
        if kept == 0 {
            assert!(!state["failed"].is_null(), "{name}: {state}");
            continue;
        }
        let report = &state["succeeded"]["dataset"][1];
        assert_eq!(report["read"], wanted["read"], "{name}: {report}");
        assert_eq!(report["kept"], kept, "{name}: {report}");
        assert_eq!(report["rejected"].as_u64().unwrap() + kept, report["read"].as_u64().unwrap(), "{name}");
    }
}
