//! Batches on the real starter: every row exactly once over crashes and pauses, each billed once, behind everybody who waits for
//! an answer. Never here: the rule of turns (see the daemon's workers), shapes of answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use hone_tests::{Client, Daemon, http, programs, repository, starter, upload, wait_until};
use serde_json::{Value, json};

/// Rows of the dataset that the tests send, the last of which is too long for the context.
const ROWS: u64 = 24;

fn publish(client: &mut Client, slots: u32) {
    client.import_starter();
    let price = json!({"input_micros": 1_000_000, "cached_micros": 1_000_000, "output_micros": 1_000_000});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": slots, "context_tokens": 512, "price": price}}),
    );
    client.wait_for_service("base");
}

/// Short questions and one that no context of the service holds.
fn questions(daemon: &Daemon, client: &mut Client) {
    let mut lines = String::new();
    for number in 1..ROWS {
        let question = format!("Count from {number} to {}.", number + 8);
        let row = json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "?"}]});
        writeln!(lines, "{row}").unwrap();
    }
    let long = "word ".repeat(2000);
    let row = json!({"messages": [{"role": "user", "content": long}, {"role": "assistant", "content": "?"}]});
    writeln!(lines, "{row}").unwrap();
    let path = daemon.state().join("questions.jsonl");
    std::fs::write(&path, lines).unwrap();
    let source = json!({"path": {"path": path}});
    client.job(json!({"import_dataset": {"source": source, "name": "questions", "format": "detect"}}));
}

fn batch(payer: &str, tokens_max: u32) -> Value {
    let sampling = json!({"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "frequency_penalty": 0.0,
        "presence_penalty": 0.0, "repeat_penalty": 1.0, "seed": null});
    json!({"batch": {"dataset": {"dataset": "questions", "service": "base", "name": "answers", "system": "", "sampling": sampling,
        "tokens_max": tokens_max, "format": "text", "payer": payer, "rows_at_once": 0, "rows_max": 0}}})
}

fn counts(client: &mut Client, job: &str) -> Value {
    client.ask(json!({"job": {"job": job}}))["record"]["batch"].clone()
}

fn wait_for_rows(client: &mut Client, job: &str, least: u64) {
    wait_until("rows are answered", || (counts(client, job)["answered"].as_u64()? >= least).then_some(()));
}

/// The rows of the answers, by the row that each was made of; every parent stands once.
fn answers(client: &mut Client) -> BTreeMap<u64, Value> {
    let split = json!({"held_out_percent": 0, "seed": 0});
    let request = json!({"rows": {"dataset": "answers", "offset": 0, "count": 1000, "split": split, "part": "all"}});
    let rows = client.ask_with(request, None, |_| ()).unwrap();
    let rows = rows["rows"].as_array().unwrap_or_else(|| rows.as_array().unwrap()).clone();
    let all = rows.len();
    let by_parent: BTreeMap<u64, Value> = rows
        .into_iter()
        .map(|row| (row["original"]["parent"]["row_id"].as_u64().unwrap(), row["original"].clone()))
        .collect();
    assert_eq!(by_parent.len(), all, "no row stands twice");
    by_parent
}

fn sum(rows: impl IntoIterator<Item = Value>, field: &str) -> u64 {
    rows.into_iter().map(|row| row[field].as_u64().unwrap()).sum()
}

/// The ledger has the tokens of the answers and no others, and nothing is open.
fn ledger_is(client: &mut Client, application: &str, rows: &BTreeMap<u64, Value>) {
    let ledger = client.ask(json!({"ledger": {"application": application, "count": 1000}}));
    let ledger = ledger.as_array().unwrap();
    for field in ["prompt_tokens", "completion_tokens"] {
        assert_eq!(sum(ledger.iter().cloned(), field), sum(rows.values().cloned(), field), "{field}");
    }
    let complete: Vec<&Value> = ledger.iter().filter(|row| row["outcome"] == "complete").collect();
    assert_eq!(complete.len(), rows.len(), "one row of the ledger for each answer");
    for row in rows.values() {
        assert!(complete.iter().any(|one| one["id"] == row["request"]), "{row}");
    }
    assert!(ledger.iter().all(|row| row["outcome"] != "open"));
}

fn report(view: &Value) -> Value {
    view["record"]["state"]["succeeded"]["dataset"][1].clone()
}

#[test]
fn a_dataset_goes_through_a_service_once_over_crashes_of_daemon_and_worker() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client, 3);
    questions(&daemon, &mut client);
    let job = client.submit(batch("owner", 24));
    wait_for_rows(&mut client, &job, 3);
    daemon.crash();
    let mut client = daemon.connect();
    wait_for_rows(&mut client, &job, 8);
    // The serving worker dies: rows under way are put back.
    let worker = daemon.children().into_iter().find(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("hone-worker") && line.contains("serve")
    });
    let killed = std::process::Command::new("kill").args(["-9", &worker.unwrap().to_string()]).status().unwrap();
    assert!(killed.success());
    let view = client.finish(&job);
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);

    let report = report(&view);
    assert_eq!((&report["read"], &report["kept"], &report["rejected"]), (&json!(ROWS), &json!(ROWS - 1), &json!(1)));
    let refused = &report["rejections"][0];
    assert_eq!(refused["line"], ROWS - 1, "the row that failed is named: {refused}");
    assert!(refused["reason"].as_str().unwrap().contains("512"), "{refused}");
    let rows = answers(&mut client);
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (0..ROWS - 1).collect::<Vec<_>>());
    ledger_is(&mut client, "owner", &rows);
    let first = &rows[&0];
    assert_eq!((&first["parent"]["dataset"], &first["version"]), (&json!("questions@1"), &json!("starter@1")));
    assert_eq!(first["messages"][0]["content"], "Count from 1 to 9.");
    assert_eq!(first["messages"][1]["role"], "assistant");
    let failed = client.ask(json!({"batch_rows": {"job": job, "failed": true, "from_row": 0, "count": 10}}));
    assert_eq!((failed.as_array().unwrap().len(), &failed[0]["row"]), (1, &json!(ROWS - 1)));
    let datasets = client.ask(json!("datasets"));
    let made = datasets.as_array().unwrap().iter().find(|one| one["record"]["name"] == "answers").unwrap();
    let lineage = &made["versions"][0]["lineage"];
    assert_eq!((&lineage["service"], &lineage["versions"]), (&json!("base"), &json!(["starter@1"])));
}

#[test]
fn a_batch_is_paused_resumed_and_cancelled_and_its_answers_stay_readable() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client, 2);
    questions(&daemon, &mut client);
    let job = client.submit(batch("owner", 16));
    wait_for_rows(&mut client, &job, 2);
    client.ask(json!({"pause": {"job": job}}));
    wait_until("it is paused", || (client.ask(json!({"job": {"job": job}}))["shown"] == "paused").then_some(()));
    let paused = counts(&mut client, &job);
    assert!(paused["answered"].as_u64().unwrap() < ROWS - 1, "{paused}");
    let ledger = client.ask(json!({"ledger": {"application": "owner", "count": 1000}}));
    let billed = sum(ledger.as_array().unwrap().iter().cloned(), "completion_tokens");
    assert_eq!(paused["completion_tokens"], billed, "what was under way is billed nothing");
    client.ask(json!({"resume": {"job": job}}));
    let view = client.finish(&job);
    assert_eq!(report(&view)["kept"], ROWS - 1, "{view}");
    let rows = answers(&mut client);
    ledger_is(&mut client, "owner", &rows);

    let second = client.submit(batch("owner", 16));
    wait_for_rows(&mut client, &second, 2);
    client.ask(json!({"cancel": {"job": second}}));
    let view = client.finish(&second);
    assert_eq!(view["record"]["state"], "cancelled");
    let kept = client.ask(json!({"batch_rows": {"job": second, "failed": false, "from_row": 0, "count": 1000}}));
    assert_eq!(kept.as_array().unwrap().len() as u64, view["record"]["batch"]["answered"].as_u64().unwrap());
}

/// One slot, taken by a line that cannot end before its four hundred tokens: who asks is answered, and the line was put back for it.
#[test]
fn whoever_waits_for_an_answer_goes_before_the_batch() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client, 1);
    let (shop, asker) = (shop(&mut client, "shop"), shop(&mut client, "asker"));
    let chat =
        |tokens: u64| json!({"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": tokens});
    let mut body = chat(400);
    body["ignore_eos"] = json!(true);
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body});
    let file = upload(&daemon.http(), &shop, &format!("{line}\n"));
    let batch = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let made = http(&daemon.http(), "POST", "/v1/batches", Some(&shop), Some(&batch));
    assert_eq!(made.status, 200, "{}", made.body);
    let rows = |client: &mut Client| client.ask(json!({"ledger": {"application": "shop", "count": 10}}));
    let under_way = wait_until("the line is under way", || {
        rows(&mut client).as_array()?.iter().find(|row| row["outcome"] == "open").map(|row| row["id"].clone())
    });
    let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(&asker), Some(&chat(2)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let of = |rows: Value, id: &Value| rows.as_array().unwrap().iter().find(|row| row["id"] == *id).unwrap().clone();
    let row = wait_until("the line is put back", || {
        Some(of(rows(&mut client), &under_way)).filter(|row| row["outcome"] != "open")
    });
    let billed = row["prompt_tokens"].as_u64().unwrap() + row["completion_tokens"].as_u64().unwrap();
    assert_eq!((&row["outcome"], billed), (&json!("failed"), 0), "it gave way and is billed nothing: {row}");
    let job = client.ask(json!({"jobs": {"count": 1}}))[0]["record"]["id"].as_str().unwrap().to_owned();
    let view = client.finish(&job);
    assert_eq!(view["record"]["batch"]["answered"], 1, "it was asked again: {view}");
}

#[test]
fn a_spent_budget_ends_the_batch_with_a_sentence_and_a_payment_lets_it_go_on() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client, 3);
    questions(&daemon, &mut client);
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let limits = json!({"requests_per_minute": null, "tokens_per_minute": null, "parallel": null});
    client.ask(json!({"set_limits": {"application": "shop", "limits": limits, "budget": "prepaid"}}));
    // Some hundred tokens at a millionth each.
    client.ask(json!({"pay": {"application": "shop", "amount": "400000000", "note": ""}}));
    let job = client.submit(batch("shop", 16));
    let view = client.finish(&job);
    let failure = &view["record"]["state"]["failed"];
    assert_eq!(failure["code"], "budget_spent", "{view}");
    assert!(failure["message_en"].as_str().unwrap().contains("budget"), "{failure}");
    let before = view["record"]["batch"]["answered"].as_u64().unwrap();
    assert!(before > 0 && before < ROWS - 1, "{before}");
    client.ask(json!({"pay": {"application": "shop", "amount": "100000000000", "note": ""}}));
    client.ask(json!({"resume": {"job": job}}));
    let view = client.finish(&job);
    assert_eq!(report(&view)["kept"], ROWS - 1, "{view}");
    let rows = answers(&mut client);
    ledger_is(&mut client, "shop", &rows);
}

fn shop(client: &mut Client, name: &str) -> String {
    client.ask(json!({"set_application": {"name": name, "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": name, "label": "", "expires_at_ms": null}}));
    key["secret"].as_str().unwrap().to_owned()
}

#[test]
fn the_openai_client_uploads_batches_and_reads_answers_of_its_own_only() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client, 3);
    let secret = shop(&mut client, "shop");
    let packages = starter().parent().unwrap().join("python/openai-3.54.0");
    assert!(packages.exists(), "{} is missing: run `make assets`", packages.display());
    let output = Command::new("python3")
        .arg(repository().join("tests/python/openai_batch.py"))
        .args([format!("http://{}/v1", daemon.http()), "base".into()])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENAI_API_KEY", &secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Every usage in a body equals its row of the ledger, and no other row is billed.
    let ledger = client.ask(json!({"ledger": {"application": "shop", "count": 1000}}));
    let ledger = ledger.as_array().unwrap();
    let used = told["used"].as_array().unwrap();
    for one in used {
        let digits = one[0].as_str().unwrap().rsplit('-').next().unwrap();
        let found: Vec<&Value> = ledger.iter().filter(|row| row["id"].as_str().unwrap().ends_with(digits)).collect();
        assert_eq!(found.len(), 1, "{one}");
        assert_eq!((&found[0]["prompt_tokens"], &found[0]["completion_tokens"]), (&one[1], &one[2]), "{one}");
    }
    let billed = ledger.iter().filter(|row| row["completion_tokens"].as_u64() > Some(0)).count();
    assert_eq!(billed, used.len(), "one billed row for each answer");
    // Another application sees nothing of it.
    let other = shop(&mut client, "other");
    let see = |path: String| http(&daemon.http(), "GET", &path, Some(&other), None);
    for path in [
        format!("/v1/files/{}", told["file"].as_str().unwrap()),
        format!("/v1/files/{}/content", told["output"].as_str().unwrap()),
        format!("/v1/batches/{}", told["batch"].as_str().unwrap()),
    ] {
        assert_eq!(see(path.clone()).status, 404, "{path}");
    }
    for path in ["/v1/files", "/v1/batches"] {
        let list: Value = serde_json::from_str(&see(path.into()).body).unwrap();
        assert_eq!(list["data"], json!([]), "{path}");
    }
}

/// The command line runs a batch to its end, and the bench says how many clients a service carries.
#[test]
fn the_command_line_runs_batches_and_measures_services() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client, 2);
    questions(&daemon, &mut client);
    let hone = |args: &[&str]| {
        let output =
            Command::new(programs().join("hone")).args(args).env("HONE_STATE", daemon.state()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let run = [
        "batch",
        "run",
        "questions",
        "--service",
        "base",
        "--max-tokens",
        "4",
        "--rows",
        "3",
        "--system",
        "Be brief.",
        "--json",
    ];
    let view: Value = serde_json::from_str(&hone(&run)).unwrap();
    assert_eq!(report(&view)["kept"], 3, "{view}");
    let rows = hone(&["dataset", "rows", "questions-base", "--json"]);
    let first: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert!(rows.contains("Be brief."), "{first}");
    assert!(hone(&["batch", "list"]).contains("questions@1 > base"));

    let bench = [
        "service",
        "bench",
        "base",
        "--clients",
        "2",
        "--input-tokens",
        "16",
        "--output-tokens",
        "8",
        "--rounds",
        "1",
        "--first-token-ms",
        "600000",
        "--tokens-per-s",
        "0",
        "--json",
    ];
    let found: Value = serde_json::from_str(&hone(&bench)).unwrap();
    assert_eq!((found["carries"].as_u64(), found["loads"].as_array().unwrap().len()), (Some(2), 2), "{found}");
    assert!(found["loads"].as_array().unwrap().iter().all(|load| load["tokens_per_s"].as_f64() > Some(0.0)), "{found}");
    // One request to wake up, then one and two; each metered to the application that was made for it.
    let ledger = client.ask(json!({"ledger": {"application": "bench", "count": 100}}));
    let tokens: Vec<u64> =
        ledger.as_array().unwrap().iter().map(|row| row["completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(tokens, [8, 8, 8, 2], "the newest first");
    let applications = client.ask(json!("applications"));
    let made = applications.as_array().unwrap().iter().find(|one| one["record"]["name"] == "bench").unwrap();
    assert!(made["keys"][0]["revoked_at_ms"].is_i64(), "the key is revoked: {made}");
}
