//! Clients that hold on to the endpoint without using it: others are served meanwhile, and nothing grows.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use hone_tests::{Daemon, http, repository};
use serde_json::json;

/// Connections that say nothing.
const IDLE: usize = 1000;
/// What the daemon may hold then, with everything that it holds anyway.
const RESIDENT_KIB_MAX: u64 = 200 << 10;

/// What a serving process may hold after some of its slots were used.
const WORKER_KIB_MAX: u64 = 400 << 10;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn idle_slow_and_deaf_clients_leave_others_served() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let price = json!({"input_micros": null, "cached_micros": null, "output_micros": null});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": 16, "context_tokens": 2048, "price": price}}),
    );
    client.wait_for_service("base");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": ""}}));
    let secret = key["secret"].as_str().unwrap().to_owned();

    let mut crowd = Command::new("python3")
        .arg(repository().join("tests/python/idle.py"))
        .args([daemon.http(), IDLE.to_string()])
        .env("HONE_KEY", &secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(crowd.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "held");

    let chat = json!({"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8});
    for _ in 0..3 {
        let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&chat));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(http(&daemon.http(), "GET", "/livez", None, None).status, 200);
    let resident = resident_kib(daemon.process.id());
    assert!(resident < RESIDENT_KIB_MAX, "honed holds {resident} KiB");

    // The caches of 16 slots are 720 MiB; memory is taken where slots were used.
    let workers: Vec<u64> = daemon.children().into_iter().map(resident_kib).collect();
    assert!(workers.iter().all(|kib| *kib < WORKER_KIB_MAX), "workers hold {workers:?} KiB");
    let held = hone_tests::wait_until("the worker says what its memory is for", || {
        let memory = client.ask(json!("services"))[0]["memory"].clone();
        (memory["contexts"][0]["cache_bytes"].as_u64()? > 0).then_some(memory)
    });
    let most = held["contexts"][0]["cache_bytes_max"].as_u64().unwrap();
    assert_eq!(most, 16 * 2048 * 23_040, "keys and values of sixteen full slots");
    assert!(held["weights_bytes"].as_u64().unwrap() > 90_000_000 && held["contexts"][0]["adapter"].is_null(), "{held}");

    drop(crowd.stdin.take());
    assert_eq!(said.next().unwrap().unwrap(), "ended", "a request that never ends its headers was kept");
    assert!(crowd.wait().unwrap().success());
    // The stream that nobody read was ended and billed for what was written at most.
    let rows = hone_tests::wait_until("the deaf client's row is closed", || {
        let rows = client.ask(json!({"ledger": {"application": "shop", "count": 50}}));
        let rows = rows.as_array()?.clone();
        rows.iter().all(|row| row["outcome"] != "open").then_some(rows)
    });
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().any(|row| row["outcome"] == "disconnected"), "{rows:?}");
}
