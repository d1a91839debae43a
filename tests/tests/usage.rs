//! What was used, over the real endpoint with the real client: what a client was told, `GET /v1/usage`, `hone usage` and the
//! invoice say the same, also after a crash; prices of computing; what limits leave; what is counted. The accounting bugs of
//! other proxies that research/features-models.md lists are tests here. Never here: arithmetic over days (the dispatcher's tests).

use std::process::Command;

use hone_tests::{Client, Daemon, Response, http, programs, repository, starter, wait_until};
use serde_json::{Value, json};

/// The starter as a service with different prices for each kind of token, and an application with a key.
fn shop(client: &mut Client) -> String {
    client.import_starter();
    publish(client, 150_000);
    client.wait_for_service("desk");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    key(client, "shop")
}

fn publish(client: &mut Client, input_micros: u64) {
    let price = json!({"input_micros": input_micros, "cached_micros": 15_000, "output_micros": 600_000});
    client.ask(
        json!({"publish": {"name": "desk", "version": "starter", "slots": 4, "context_tokens": 512, "price": price}}),
    );
}

fn key(client: &mut Client, application: &str) -> String {
    let made = client.ask(json!({"create_key": {"application": application, "label": "", "expires_at_ms": null}}));
    made["secret"].as_str().unwrap().to_owned()
}

fn chat(tokens: u64) -> Value {
    json!({"model": "desk", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": tokens, "temperature": 0})
}

fn ask(daemon: &Daemon, secret: &str, body: &Value) -> Response {
    http(&daemon.http(), "POST", "/v1/chat/completions", Some(secret), Some(body))
}

fn get(daemon: &Daemon, secret: &str, path: &str) -> Response {
    http(&daemon.http(), "GET", path, Some(secret), None)
}

fn read(daemon: &Daemon, secret: &str, path: &str) -> Value {
    let response = get(daemon, secret, path);
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

fn code(response: &Response) -> (u16, String) {
    let body: Value = serde_json::from_str(&response.body).unwrap();
    (response.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    let mut lines = response.headers.lines();
    lines.find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

fn hone(daemon: &Daemon, words: &[&str]) -> String {
    let state = daemon.state().display().to_string();
    let output = Command::new(programs().join("hone")).args(["--state", &state]).args(words).output().unwrap();
    assert!(output.status.success(), "hone {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All usages that the official client was told.
fn client_in_python(daemon: &Daemon, secret: &str) -> Vec<(String, [u64; 3])> {
    let packages = starter().parent().unwrap().join("python/openai-3.54.0");
    assert!(packages.exists(), "{} is missing: run `make assets`", packages.display());
    let output = Command::new("python3")
        .arg(repository().join("tests/python/usage.py"))
        .args([format!("http://{}/v1", daemon.http()), "desk".into()])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENAI_API_KEY", secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Vec<(String, u64, u64, u64)> = serde_json::from_slice(&output.stdout).unwrap();
    told.into_iter().map(|(user, prompt, cached, completion)| (user, [prompt, cached, completion])).collect()
}

/// What tokens cost, by the test's own arithmetic.
fn pico(tokens: &[u64; 3], input_micros: u64) -> u64 {
    let [prompt, cached, completion] = tokens;
    (prompt - cached) * input_micros + cached * 15_000 + completion * 600_000
}

fn application(client: &mut Client) -> Value {
    let all = client.ask(json!("applications"));
    all.as_array().unwrap().iter().find(|one| one["record"]["name"] == "shop").unwrap().clone()
}

fn number(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn client_usage_route_command_line_and_invoice_say_the_same_also_after_a_crash() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    let first = client_in_python(&daemon, &secret);
    assert_eq!(first.len(), 10);
    daemon.crash();
    let mut client = daemon.connect();
    // The price changes while nothing is asked for: the invoice has two lines.
    publish(&mut client, 200_000);
    client.wait_for_service("desk");
    let second = client_in_python(&daemon, &secret);

    let both = || first.iter().map(|told| (told, 150_000)).chain(second.iter().map(|told| (told, 200_000)));
    let sum = |at: usize| both().map(|((_, tokens), _)| tokens[at]).sum::<u64>();
    let amount: u64 = both().map(|((_, tokens), price)| pico(tokens, price)).sum();
    let expected = json!({"requests": 20, "errors": 0, "input_tokens": sum(0), "cached_tokens": sum(1),
        "output_tokens": sum(2), "amount_pico": amount.to_string()});

    let page = read(&daemon, &secret, "/v1/usage?group_by=day,user");
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&page["total"][name], value, "{name} of {page}");
    }
    assert_eq!((&page["application"], &page["has_more"]), (&json!("shop"), &json!(false)));
    for user in ["ada", "lin", ""] {
        let mine: u64 = both().filter(|((u, _), _)| u == user).map(|((_, tokens), price)| pico(tokens, price)).sum();
        let lines = page["data"].as_array().unwrap().iter().filter(|line| line["user"] == user);
        assert_eq!(lines.map(|line| number(&line["amount_pico"])).sum::<i128>(), i128::from(mine), "{user}: {page}");
    }

    // Page by page it is the same.
    let (mut next, mut requests, mut pages) = (String::new(), 0, 0);
    loop {
        let path = format!("/v1/usage?group_by=user&limit=1&page={next}");
        let page = read(&daemon, &secret, &path);
        requests += page["data"][0]["requests"].as_u64().unwrap();
        pages += 1;
        match page["next_page"].as_str() {
            Some(place) => next = place.to_owned(),
            None => break,
        }
    }
    assert_eq!((requests, pages), (20, 4));
    for wrong in ["from=yesterday", "group_by=weather", "limit=0", "page=zz", "service=nobody", "month=11"] {
        assert_eq!(get(&daemon, &secret, &format!("/v1/usage?{wrong}")).status, 400, "{wrong}");
    }
    // Another application sees only its own.
    client.ask(json!({"set_application": {"name": "other", "title": "", "services": []}}));
    let other = key(&mut client, "other");
    assert_eq!(read(&daemon, &other, "/v1/usage")["total"]["requests"], 0);

    let table: Value =
        serde_json::from_str(&hone(&daemon, &["usage", "--app", "shop", "--by", "service", "--json"])).unwrap();
    assert_eq!(table["total"]["amount"], amount.to_string());
    assert_eq!(table["lines"][0]["usage"]["requests"], 20);
    let csv = hone(&daemon, &["usage", "--app", "shop", "--by", "user", "--csv"]);
    assert!(csv.contains("\"'=HYPERLINK(\"\"http://x\"\")\","), "a formula is defused: {csv}");
    let invoice: Value = serde_json::from_str(&hone(&daemon, &["app", "invoice", "shop", "--json"])).unwrap();
    assert_eq!(invoice["amount"], amount.to_string());
    let lines = invoice["tokens"].as_array().unwrap();
    let of = |told: &[(String, [u64; 3])], price| told.iter().map(|(_, t)| pico(t, price)).sum::<u64>().to_string();
    let mut amounts: Vec<&str> = lines.iter().map(|line| line["usage"]["amount"].as_str().unwrap()).collect();
    let mut expected = [of(&first, 150_000), of(&second, 200_000)];
    amounts.sort_unstable();
    expected.sort_unstable();
    assert_eq!(amounts, expected, "a price that changed is two lines");
    // Metadata stands on rows.
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 100}}));
    let marked = rows.as_array().unwrap().iter().filter(|row| row["metadata"][0][0] == "run").count();
    assert_eq!(marked, 8);
}

#[test]
fn jobs_are_charged_to_their_payer_and_stand_on_the_invoice() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    hone(&daemon, &["pool", "price", "local", "--core-hour", "3600"]);
    let spec =
        json!({"import_dataset": {"source": {"preset": {"name": "support-desk"}}, "name": "desk", "format": "detect"}});
    let job = client.ask(json!({"submit": {"spec": spec, "payer": "shop"}}));
    let view = client.finish(job["record"]["id"].as_str().unwrap());
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    let compute = &view["record"]["compute"];
    let core_ms = compute["core_ms"].as_u64().unwrap();
    // 3,600 units for an hour are one unit for a second of the one core.
    assert_eq!(number(&compute["amount"]), i128::from(core_ms) * 1_000_000_000);
    let invoice: Value = serde_json::from_str(&hone(&daemon, &["app", "invoice", "shop", "--json"])).unwrap();
    assert_eq!(invoice["compute"][0]["kind"], "import_dataset");
    assert_eq!((&invoice["compute"][0]["usage"]["core_ms"], &invoice["amount"]), (&json!(core_ms), &compute["amount"]));
    let csv = hone(&daemon, &["app", "invoice", "shop", "--csv"]);
    assert!(csv.lines().any(|line| line.contains(",compute,import_dataset,") && line.contains(",3600,")), "{csv}");
    let unknown = json!({"submit": {"spec": {"import_dataset": {"source": {"preset": {"name": "support-desk"}},
        "name": "desk", "format": "detect"}}, "payer": "nobody"}});
    assert_eq!(client.try_ask(unknown).unwrap_err()["code"], "not_found");
}

#[test]
fn answers_and_refusals_say_what_limits_leave() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    let free = ask(&daemon, &secret, &chat(2));
    assert_eq!(header(&free, "x-ratelimit-limit-requests"), None, "without limits nothing is said");
    let limits = json!({"requests_per_minute": 3, "tokens_per_minute": 4000, "parallel": null});
    client.ask(json!({"set_limits": {"application": "shop", "limits": limits, "budget": "none"}}));
    let second = ask(&daemon, &secret, &chat(2));
    assert_eq!((second.status, header(&second, "x-ratelimit-limit-requests")), (200, Some("3")));
    assert_eq!(header(&second, "x-ratelimit-remaining-requests"), Some("1"));
    assert!(header(&second, "x-ratelimit-reset-requests").unwrap().ends_with('s'));
    let left: u64 = header(&second, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((1..4000).contains(&left), "{left}");
    // Counting tokens costs nothing and is a request, too.
    let text = json!({"model": "desk", "prompt": "Hello."});
    let counted = http(&daemon.http(), "POST", "/tokenize", Some(&secret), Some(&text));
    assert_eq!(counted.status, 200, "{}", counted.body);
    let refused = http(&daemon.http(), "POST", "/tokenize", Some(&secret), Some(&text));
    assert_eq!(code(&refused), (429, "rate_limit_exceeded".into()));
    let refused = ask(&daemon, &secret, &chat(2));
    assert_eq!(code(&refused), (429, "rate_limit_exceeded".into()));
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("0"));
    assert!(header(&refused, "retry-after").is_some() && header(&refused, "x-should-retry").is_none());
    let none = json!({"requests_per_minute": null, "tokens_per_minute": null, "parallel": null});
    client.ask(json!({"set_limits": {"application": "shop", "limits": none, "budget": "prepaid"}}));
    let spent = ask(&daemon, &secret, &chat(2));
    assert_eq!(code(&spent), (429, "insufficient_quota".into()));
    assert_eq!((header(&spent, "x-should-retry"), header(&spent, "retry-after")), (Some("false"), None));
}

#[test]
fn a_scrape_loads_nothing_and_is_for_the_owner() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    let owner = key(&mut client, "owner");
    assert_eq!(ask(&daemon, &secret, &chat(4)).status, 200);
    assert_eq!(get(&daemon, &secret, "/metrics").status, 403);
    assert_eq!(http(&daemon.http(), "GET", "/metrics", None, None).status, 401);
    let text = get(&daemon, &owner, "/metrics").body;
    for line in [
        "hone_requests_total{service=\"desk\",application=\"shop\",status=\"complete\"} 1",
        "hone_completion_tokens_total{service=\"desk\",application=\"shop\"} 4",
        "hone_request_seconds_count{service=\"desk\",application=\"shop\"} 1",
        "hone_first_token_seconds_bucket{service=\"desk\",application=\"shop\",le=\"+Inf\"} 1",
        "hone_service_loaded{service=\"desk\"} 1",
        "hone_jobs{state=\"succeeded\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    client.ask(json!({"set_service": {"name": "desk", "wanted": false}}));
    wait_until("the worker has ended", || daemon.children().is_empty().then_some(()));
    for _ in 0..5 {
        let text = get(&daemon, &owner, "/metrics").body;
        assert!(text.contains("hone_service_loaded{service=\"desk\"} 0"), "{text}");
        assert_eq!(daemon.children(), Vec::<u32>::new(), "a scrape starts no process");
    }
    // What it did while it was on is still told, and deleting it does not take that away.
    client.ask(json!({"delete_service": {"name": "desk"}}));
    let stats: Value = serde_json::from_str(&hone(&daemon, &["service", "stats", "desk", "--json"])).unwrap();
    assert_eq!(stats["lines"][0]["usage"]["requests"], 1, "{stats}");
    assert!(stats["lines"][0]["total_ms"][0].as_u64().unwrap() > 0);
    assert_eq!(read(&daemon, &secret, "/v1/usage?group_by=service")["data"][0]["service"], "desk");
}

/// litellm#37923: streams were billed 0 when the client did not ask for usage, so budgets never tripped.
#[test]
fn a_stream_is_billed_whether_or_not_the_client_asks_for_its_usage() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    let mut body = chat(8);
    body["stream"] = json!(true);
    let streamed = ask(&daemon, &secret, &body);
    assert!(streamed.body.contains("[DONE]") && !streamed.body.contains("\"usage\":{"), "{}", streamed.body);
    let whole = ask(&daemon, &secret, &chat(8));
    let told: Value = serde_json::from_str(&whole.body).unwrap();
    let usage = application(&mut client)["usage"].clone();
    assert_eq!(usage["completion_tokens"].as_u64(), told["usage"]["completion_tokens"].as_u64().map(|one| 2 * one));
    assert_eq!(usage["prompt_tokens"].as_u64(), told["usage"]["prompt_tokens"].as_u64().map(|one| 2 * one));
}

/// litellm#38111, #27735, #37736 and #26672: what was set aside was never given back and good keys were refused; an old sum blocked
/// a key whose budget was raised; the counter that was shown was not the one that was enforced; budgets were passed in parallel.
#[test]
fn what_is_set_aside_comes_back_and_the_sum_that_is_enforced_is_the_one_that_is_shown() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let secret = shop(&mut client);
    let none = json!({"requests_per_minute": null, "tokens_per_minute": null, "parallel": null});
    let budget = |client: &mut Client, amount: i128| {
        let monthly = json!({"monthly": amount.to_string()});
        client.ask(json!({"set_limits": {"application": "shop", "limits": none, "budget": monthly}}));
    };
    // Room for what two requests may come to, and for many that are as short as these are.
    let most = 400 * 600_000 + 200 * 150_000;
    budget(&mut client, 2 * most);
    let left = |client: &mut Client| number(&application(client)["left"]);
    let before = left(&mut client);
    for body in [
        chat(400),
        json!({"model": "desk", "messages": [{"role": "user", "content": "x ".repeat(600)}], "max_tokens": 4}),
    ] {
        let mut short = body.clone();
        short["stop"] = json!(["e", "a", "o"]);
        for _ in 0..4 {
            ask(&daemon, &secret, &short);
        }
    }
    let shown = application(&mut client);
    let spent = number(&shown["usage"]["amount"]);
    assert_eq!(number(&shown["left"]), before - spent, "nothing stays set aside");
    let by_service = read(&daemon, &secret, "/v1/usage?group_by=service");
    assert_eq!(number(&by_service["data"][0]["amount_pico"]), spent);
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 100}}));
    assert_eq!(rows.as_array().unwrap().iter().map(|row| number(&row["amount"])).sum::<i128>(), spent);

    // Eight at once: however they interleave, the budget holds.
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(&daemon, &secret, &chat(300)).status)).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(answers.contains(&200) && answers.iter().all(|status| [200, 429].contains(status)), "{answers:?}");
    assert!(left(&mut client) >= 0);
    // Spent is spent; more is more at once.
    let spent = number(&application(&mut client)["usage"]["amount"]);
    budget(&mut client, spent);
    assert_eq!(code(&ask(&daemon, &secret, &chat(2))), (429, "insufficient_quota".into()));
    budget(&mut client, 10 * most);
    assert_eq!(ask(&daemon, &secret, &chat(2)).status, 200);
}
