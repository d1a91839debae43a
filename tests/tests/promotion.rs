//! A service follows an alias over the real endpoint with the real starter and tuned adapters: requests that are under way while the
//! alias moves forth, back and to another base all succeed, on the version that they began on; a version that cannot be loaded
//! changes nothing. Never here: what a gate means (protocol), what is decided when (the dispatcher's tests).

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hone_tests::{Client, Daemon, http, programs, train_spec, wait_until};
use serde_json::{Value, json};

/// Clients that ask one after the other while aliases move.
const CLIENTS: usize = 3;

fn adapter(client: &mut Client, model: &str) {
    let mut spec = train_spec(2, json!({"model": model, "alias": "", "publish": ""}));
    spec["train"]["params"]["threads"] = json!(1);
    client.job(spec);
}

fn hone(daemon: &Daemon, words: &[&str]) -> Output {
    let state = daemon.state().display().to_string();
    Command::new(programs().join("hone")).args(["--state", &state]).args(words).output().unwrap()
}

fn good(daemon: &Daemon, words: &[&str]) -> String {
    let output = hone(daemon, words);
    assert!(output.status.success(), "hone {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn publish(client: &mut Client, version: &str) {
    let price = json!({"input_micros": 1, "cached_micros": null, "output_micros": 1});
    client.ask(
        json!({"publish": {"name": "desk", "version": version, "slots": 4, "context_tokens": 256, "price": price}}),
    );
    client.wait_for_service("desk");
}

fn service(client: &mut Client) -> Value {
    let services = client.ask(json!("services"));
    services.as_array().unwrap().iter().find(|s| s["record"]["name"] == "desk").unwrap().clone()
}

/// Asks until it is told to stop; the versions that answered, in order. Every answer must be good.
fn asks(address: String, secret: String, number: usize, stop: Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut versions = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let body = json!({"model": "desk", "max_tokens": 24, "temperature": 0, "stream": number == 0,
                "messages": [{"role": "user", "content": format!("Say {number} words.")}]});
            let answer = http(&address, "POST", "/v1/chat/completions", Some(&secret), Some(&body));
            assert_eq!(answer.status, 200, "{}", answer.body);
            if number == 0 {
                assert!(answer.body.contains("data: [DONE]"), "a stream that was cut: {}", answer.body);
                assert!(!answer.body.contains("\"error\""), "{}", answer.body);
                continue;
            }
            let answer: Value = serde_json::from_str(&answer.body).unwrap();
            versions.push(answer["system_fingerprint"].as_str().unwrap_or_default().to_owned());
        }
        versions
    })
}

fn audience(daemon: &Daemon, secret: &str) -> (Arc<AtomicBool>, Vec<JoinHandle<Vec<String>>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|n| asks(daemon.http(), secret.to_owned(), n, stop.clone())).collect();
    (stop, clients)
}

fn closed_rows(client: &mut Client) -> u64 {
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 500}}));
    rows.as_array().unwrap().iter().filter(|row| row["outcome"] != "open").count() as u64
}

/// Waits until so many more requests of the audience ended.
fn more(client: &mut Client, count: u64) {
    let before = closed_rows(client);
    wait_until("the audience goes on", || (closed_rows(client) >= before + count).then_some(()));
}

#[test]
fn requests_under_way_succeed_whatever_the_alias_does() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    adapter(&mut client, "support");
    adapter(&mut client, "support");
    client.ask(json!({"set_alias": {"model": "support", "alias": "live", "version": "support@1", "past_gate": null}}));
    publish(&mut client, "support:live");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": "", "expires_at_ms": null}}));
    let (stop, clients) = audience(&daemon, key["secret"].as_str().unwrap());
    more(&mut client, 3);

    // A gate holds it back until the suite was run; then it moves, and back with one verb.
    client
        .ask(json!({"create_suite": {"name": "exam", "dataset": "desk", "split": {"held_out_percent": 10, "seed": 7},
        "part": "held_out", "scorers": ["loss"]}}));
    good(&daemon, &["model", "gate", "support", "live", "loss(exam) <= 9"]);
    let refused = hone(&daemon, &["model", "promote", "support", "live"]);
    assert_eq!(refused.status.code(), Some(4));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("hone eval start support@2 --suite exam"), "{said}");
    client.job(json!({"evaluate": {"suite": "exam", "version": "support@2", "rows_max": 2, "answer_tokens_max": 8}}));
    let moved = good(&daemon, &["model", "promote", "support", "live"]);
    assert!(moved.contains("support:live -> support@2") && moved.contains("desk = support@2"), "{moved}");
    more(&mut client, 3);
    let back = good(&daemon, &["model", "rollback", "support", "live"]);
    assert!(back.contains("desk = support@1"), "{back}");
    more(&mut client, 3);
    good(&daemon, &["model", "rollback", "support", "live"]);

    // A version whose file is damaged: the one before goes on, and it is said.
    let third = damaged(&daemon, &mut client);
    let stuck = hone(&daemon, &["model", "promote", "support", "live", &third, "--override", "a test"]);
    assert!(!stuck.status.success());
    let said = String::from_utf8_lossy(&stuck.stderr).into_owned();
    assert!(said.contains("goes on with support@2"), "{said}");
    more(&mut client, 3);
    assert_eq!(service(&mut client)["version_reference"], "support@2");
    good(&daemon, &["model", "rollback", "support", "live"]);

    stop.store(true, Ordering::Relaxed);
    for asking in clients {
        asking.join().expect("every request succeeded");
    }
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 500}}));
    let outcomes: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == "complete"), "{outcomes:?}");
    let versions: std::collections::BTreeSet<&str> =
        rows.as_array().unwrap().iter().map(|row| row["version"].as_str().unwrap()).collect();
    assert_eq!(versions.len(), 2, "both versions answered");
    let moves = client.ask(json!({"moves": {"model": "support", "alias": "live"}}));
    let by: Vec<&Value> = moves.as_array().unwrap().iter().rev().map(|moved| &moved["by"]).collect();
    assert_eq!((by.len(), by[0], by[2]), (6, &json!("person"), &json!("roll_back")), "{moves}");
    assert!(by[1]["gate"].as_str().unwrap().contains("loss(exam) is "), "{moves}");
    assert_eq!(by[4]["past_gate"][0], "a test");
}

/// A third version whose file is changed behind the store's back.
fn damaged(daemon: &Daemon, client: &mut Client) -> String {
    adapter(client, "support");
    let models = client.ask(json!("models"));
    let support = models.as_array().unwrap().iter().find(|m| m["record"]["name"] == "support").unwrap();
    let version = &support["versions"][2];
    let file: PathBuf = daemon.state().join("models").join(version["record"]["file"]["path"].as_str().unwrap());
    std::fs::write(file, b"no weights").unwrap();
    version["reference"].as_str().unwrap().to_owned()
}
