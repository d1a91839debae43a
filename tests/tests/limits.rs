//! Limits, budgets and keys over the real endpoint: what is refused, with which words, and what a restart keeps. Never here: the
//! arithmetic (see the daemon's dispatcher).

use hone_tests::{Client, Daemon, Response, http};
use serde_json::{Value, json};

/// The starter as a service with a price of one unit for a million tokens, and an application with a key.
fn shop(client: &mut Client) -> String {
    client.import_starter();
    let price = json!({"input_micros": 1_000_000, "cached_micros": 1_000_000, "output_micros": 1_000_000});
    client.ask(
        json!({"publish": {"name": "desk", "version": "starter", "slots": 2, "context_tokens": 512, "price": price}}),
    );
    client.wait_for_service("desk");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    key(client)
}

fn key(client: &mut Client) -> String {
    let made = client.ask(json!({"create_key": {"application": "shop", "label": "web", "expires_at_ms": null}}));
    made["secret"].as_str().unwrap().to_owned()
}

fn ask(daemon: &Daemon, secret: &str) -> Response {
    let body = json!({"model": "desk", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4,
        "temperature": 0});
    http(&daemon.http(), "POST", "/v1/chat/completions", Some(secret), Some(&body))
}

fn limit(client: &mut Client, limits: Value, budget: Value) {
    client.ask(json!({"set_limits": {"application": "shop", "limits": limits, "budget": budget}}));
}

fn limits(requests: Option<u64>, tokens: Option<u64>, parallel: Option<u64>) -> Value {
    json!({"requests_per_minute": requests, "tokens_per_minute": tokens, "parallel": parallel})
}

fn error(response: &Response) -> (u16, Value) {
    let body: Value = serde_json::from_str(&response.body).unwrap();
    (response.status, body["error"].clone())
}

fn application(client: &mut Client) -> Value {
    let all = client.ask(json!("applications"));
    all.as_array().unwrap().iter().find(|one| one["record"]["name"] == "shop").unwrap().clone()
}

#[test]
fn what_passes_a_limit_is_refused_also_after_a_crash() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    limit(&mut client, limits(Some(2), None, None), json!("none"));
    for _ in 0..2 {
        assert_eq!(ask(&daemon, &secret).status, 200);
    }
    let refused = ask(&daemon, &secret);
    let (status, said) = error(&refused);
    assert_eq!((status, &said["code"]), (429, &json!("rate_limit_exceeded")), "{said}");
    assert!(refused.headers.to_lowercase().contains("retry-after: "), "{}", refused.headers);
    assert!(said["message"].as_str().unwrap().contains("2 requests a minute"), "{said}");
    let billed = application(&mut client)["usage"]["requests"].clone();
    assert_eq!(billed, 2, "what was refused is no request");

    daemon.crash();
    let mut client = daemon.connect();
    client.wait_for_service("desk");
    assert_eq!(error(&ask(&daemon, &secret)).0, 429, "a restart refills nothing");
    limit(&mut client, limits(None, Some(20), None), json!("none"));
    let (status, said) = error(&ask(&daemon, &secret));
    assert_eq!(status, 429);
    assert!(said["message"].as_str().unwrap().contains("20"), "{said}");
    limit(&mut client, limits(None, None, None), json!("none"));
    assert_eq!(ask(&daemon, &secret).status, 200);
}

#[test]
fn a_prepaid_budget_pays_for_what_the_ledger_says_and_no_more() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    assert_eq!(ask(&daemon, &secret).status, 200, "before there is a budget");
    limit(&mut client, limits(None, None, None), json!("prepaid"));
    let (status, said) = error(&ask(&daemon, &secret));
    assert_eq!((status, &said["code"]), (429, &json!("insufficient_quota")), "{said}");
    let unpaid = client.try_ask(json!({"pay": {"application": "owner", "amount": "1", "note": ""}})).unwrap_err();
    assert_eq!(unpaid["code"], "wrong_state");
    // A hundred tokens at a millionth each.
    client.ask(json!({"pay": {"application": "shop", "amount": "100000000", "note": "first"}}));
    let before: i128 = application(&mut client)["usage"]["amount"].as_str().unwrap().parse().unwrap();
    let mut answered = 0;
    let last = loop {
        let response = ask(&daemon, &secret);
        if response.status != 200 {
            break response;
        }
        answered += 1;
    };
    assert_eq!(error(&last).1["code"], "insufficient_quota");
    let shop = application(&mut client);
    let after: i128 = shop["usage"]["amount"].as_str().unwrap().parse().unwrap();
    let left: i128 = shop["left"].as_str().unwrap().parse().unwrap();
    assert!(answered > 0 && left >= 0, "{answered} answers, {left} left");
    assert_eq!(left, 100_000_000 - (after - before), "what is left is what the ledger does not have");
    let payments = client.ask(json!({"payments": {"application": "shop"}}));
    assert_eq!((payments.as_array().unwrap().len(), &payments[0]["note"]), (1, &json!("first")));

    limit(&mut client, limits(None, None, None), json!({"monthly": "1000000000000"}));
    assert_eq!(ask(&daemon, &secret).status, 200);
}

#[test]
fn a_key_is_rotated_with_an_overlap_ends_and_says_when_it_was_used() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let old = shop(&mut client);
    assert_eq!(ask(&daemon, &old).status, 200);
    let first = application(&mut client)["keys"][0].clone();
    assert!(first["last_used_at_ms"].is_i64(), "{first}");
    let rotated = client.ask(json!({"rotate_key": {"key": first["id"], "overlap_ms": 3_600_000}}));
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert_eq!((ask(&daemon, &old).status, ask(&daemon, &new).status), (200, 200), "both, for an hour");
    client.ask(json!({"rotate_key": {"key": first["id"], "overlap_ms": 0}}));
    assert_eq!((ask(&daemon, &old).status, ask(&daemon, &new).status), (401, 200));
    let again = client.try_ask(json!({"rotate_key": {"key": first["id"], "overlap_ms": 0}})).unwrap_err();
    assert_eq!(again["code"], "wrong_state", "{again}");
    let past = json!({"create_key": {"application": "shop", "label": "", "expires_at_ms": 1}});
    assert_eq!(client.try_ask(past).unwrap_err()["place"], "expires_at_ms");
}
