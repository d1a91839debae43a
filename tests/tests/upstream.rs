//! Services whose engine is a server elsewhere, with the real programs: one hone as the upstream of another, the official
//! client, what both ledgers say, and where a key is not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use hone_tests::{Client, Daemon, http, programs, repository, starter, wait_until};
use serde_json::{Value, json};

/// A daemon with an application `shop` and a key.
fn daemon() -> (Daemon, Client, String) {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": ""}}));
    let secret = key["secret"].as_str().unwrap().to_owned();
    (daemon, client, secret)
}

/// The price of everything here.
fn price() -> Value {
    json!({"input_micros": 1_000_000, "cached_micros": null, "output_micros": 2_000_000})
}

/// A daemon that serves the starter as `base`.
fn near() -> (Daemon, Client, String) {
    let (daemon, mut client, secret) = daemon();
    client.import_starter();
    let wish = json!({"name": "base", "version": "starter", "slots": 4, "context_tokens": 2048, "price": price()});
    client.ask(json!({"publish": wish}));
    client.wait_for_service("base");
    (daemon, client, secret)
}

/// Publishes a server elsewhere as `far`; its view when it answers.
fn publish(client: &mut Client, url: &str, key: Option<&str>) -> Value {
    let upstream = json!({"url": url, "model": "base", "key": key, "plain_http": ""});
    let wish = json!({"name": "far", "upstream": upstream, "slots": 0, "context_tokens": 0, "price": price()});
    client.ask(json!({"publish_upstream": wish}));
    client.wait_for_service("far");
    service(client)
}

fn service(client: &mut Client) -> Value {
    let services = client.ask(json!("services"));
    services.as_array().unwrap().iter().find(|s| s["record"]["name"] == "far").unwrap().clone()
}

fn chat(daemon: &Daemon, secret: &str) -> (u16, Value) {
    let body = json!({"model": "far", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4});
    let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(secret), Some(&body));
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn rows(client: &mut Client) -> Vec<Value> {
    client.ask(json!({"ledger": {"application": "shop", "count": 500}})).as_array().unwrap().clone()
}

/// Prompt and completion tokens of all rows.
fn tokens(rows: &[Value]) -> (u64, u64) {
    let sum = |field: &str| rows.iter().map(|row| row[field].as_u64().unwrap()).sum();
    (sum("prompt_tokens"), sum("completion_tokens"))
}

#[test]
fn one_hone_is_the_upstream_of_another() {
    let (near, mut near_client, near_key) = near();
    let (far, mut client, secret) = daemon();
    let view = publish(&mut client, &format!("http://{}", near.http()), Some(&near_key));
    assert_eq!((&view["version_reference"], &view["trouble"]), (&json!("upstream:base"), &Value::Null));
    let packages = starter().parent().unwrap().join("python/openai-3.54.0");
    let output = Command::new("python3")
        .arg(repository().join("tests/python/upstream.py"))
        .args([format!("http://{}/v1", far.http()), "far".into()])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENAI_API_KEY", &secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (ours, theirs) = (rows(&mut client), rows(&mut near_client));
    for used in told["used"].as_array().unwrap() {
        let short = used[0].as_str().unwrap().rsplit('-').next().unwrap();
        let row = ours.iter().find(|row| row["id"].as_str().unwrap().ends_with(short)).expect("a row");
        assert_eq!((&row["prompt_tokens"], &row["completion_tokens"]), (&used[1], &used[2]), "{used}");
        assert!(row["metadata"].as_array().unwrap().is_empty(), "the upstream counted: {row}");
    }
    // The one request with three answers is three there, and its prompt counts once here.
    let three = told["used"].as_array().unwrap().iter().find(|used| used[2] == 18).unwrap()[1].as_u64().unwrap();
    let (ours, theirs) = (tokens(&ours), tokens(&theirs));
    assert_eq!((ours.0 + 2 * three, ours.1), theirs);
    // Limits, usage and the socket's chat are those of any service.
    let limits = json!({"requests_per_minute": 1, "tokens_per_minute": null, "parallel": null});
    client.ask(json!({"set_limits": {"application": "shop", "limits": limits, "budget": "none"}}));
    assert_eq!(chat(&far, &secret).0, 429);
    let usage = http(&far.http(), "GET", "/v1/usage?group_by=service", Some(&secret), None);
    assert!(usage.body.contains("\"service\":\"far\""), "{}", usage.body);
    let mut text = String::new();
    let ask = json!({"chat": {"service": "far", "messages": [{"role": "user", "content": "Hi"}], "tokens_max": 4,
        "sampling": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "frequency_penalty": 0.0,
        "presence_penalty": 0.0, "repeat_penalty": 1.0, "seed": null}, "typical_p": null, "stop": null, "format": null,
        "chances": null}});
    let end = client.ask_with(ask, None, |part| text.push_str(part["text"]["text"].as_str().unwrap_or(""))).unwrap();
    assert_eq!((&end["version"], &end["completion_tokens"]), (&json!("upstream:base"), &json!(4)));
    assert!(!text.is_empty());
}

#[test]
fn an_upstream_that_refuses_or_goes_away_is_not_the_clients_fault() {
    let (near, _near_client, near_key) = near();
    let (mut far, mut client, secret) = daemon();
    let url = format!("http://{}", near.http());
    let view = publish(&mut client, &url, Some("sk-wrong-key-of-the-upstream"));
    assert_eq!(view["trouble"]["code"], "upstream_failed");
    let (status, body) = chat(&far, &secret);
    assert_eq!((status, &body["error"]["code"]), (502, &json!("upstream_failed")), "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("service far") && !message.contains(&near.http()), "{message}");
    publish(&mut client, &url, Some(&near_key));
    assert_eq!(chat(&far, &secret).0, 200);
    // The key outlives the daemon, and nothing but the store has it.
    far.crash();
    let mut client = far.connect();
    client.wait_for_service("far");
    assert_eq!(chat(&far, &secret).0, 200);
    secret_is_nowhere(&far, &mut client, &near_key);
    drop(near);
    let (status, body) = chat(&far, &secret);
    assert_eq!((status, &body["error"]["code"]), (503, &json!("upstream_unavailable")), "{body}");
    wait_until("the trouble is shown", || {
        (service(&mut client)["trouble"]["code"] == "upstream_unavailable").then_some(())
    });
    // A child that dies is started again; another service would not have noticed.
    let child = child_of(&far).expect("honed upstream runs");
    Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap();
    wait_until("another process speaks to it", || child_of(&far).filter(|pid| *pid != child));
    client.wait_for_service("far");
    assert_eq!(service(&mut client)["restarts"], 1);
}

/// The process that speaks to the upstream.
fn child_of(daemon: &Daemon) -> Option<u32> {
    let is_it =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains("upstream"));
    daemon.children().into_iter().find(is_it)
}

fn secret_is_nowhere(daemon: &Daemon, client: &mut Client, secret: &str) {
    use std::os::unix::fs::PermissionsExt;
    let mut folders = vec![daemon.state().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let has = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(secret);
                assert_eq!(has, path.ends_with("store.redb"), "{}", path.display());
                if has {
                    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
                }
            }
        }
    }
    for pid in daemon.children().into_iter().chain([daemon.process.id()]) {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(secret), "{file} of {pid}");
        }
    }
    for ask in [json!("services"), json!("status"), json!({"audit": {"count": 100}})] {
        assert!(!client.ask(ask.clone()).to_string().contains(secret), "{ask}");
    }
}

/// Reads the head and the body of a request.
fn read_request(stream: &mut impl Read) -> String {
    let (mut text, mut block) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut block).unwrap();
        assert!(count > 0, "the child closed the connection");
        text.push_str(&String::from_utf8_lossy(&block[..count]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

/// A server that has no list of models and hands every other request's connection out.
fn scripted() -> (String, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (give, take) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if read_request(&mut stream).starts_with("GET ") {
                let _ = stream.write_all(b"HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            } else if give.send(stream).is_err() {
                return;
            }
        }
    });
    (format!("http://{address}"), take)
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

fn event(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

#[test]
fn what_was_delivered_before_a_cut_is_billed_as_an_estimate() {
    let (far, mut client, secret) = daemon();
    let (url, asked) = scripted();
    publish(&mut client, &url, None);
    let body = json!({"model": "far", "messages": [{"role": "user", "content": "Hello"}], "stream": true});
    // Cut in the middle by the upstream.
    let told = std::thread::scope(|scope| {
        let answer = scope.spawn(|| http(&far.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&body)));
        let mut stream = asked.recv().unwrap();
        stream.write_all(format!("{HEAD}{}{}", event("one"), event(" two")).as_bytes()).unwrap();
        drop(stream);
        answer.join().unwrap().body
    });
    assert!(told.contains("\" two\"") && told.contains("in the middle of the answer"), "{told}");
    assert!(!told.contains("[DONE]"), "{told}");
    // The client goes away: so does the request at the upstream.
    let mut stream = TcpStream::connect(far.http()).unwrap();
    let text = body.to_string();
    let length = text.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}",
        far.http()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut upstream = asked.recv().unwrap();
    upstream.write_all(format!("{HEAD}{}", event("first")).as_bytes()).unwrap();
    let mut seen = String::new();
    while !seen.contains("first") {
        let mut block = [0; 1024];
        let count = stream.read(&mut block).unwrap();
        seen.push_str(&String::from_utf8_lossy(&block[..count]));
    }
    drop(stream);
    upstream.set_read_timeout(Some(hone_tests::PATIENCE)).unwrap();
    assert_eq!(upstream.read(&mut [0; 8]).unwrap_or(0), 0, "the child hangs up");
    let rows = wait_until("both rows are closed", || {
        let rows = rows(&mut client);
        (rows.len() == 2 && rows.iter().all(|row| row["outcome"] != "open")).then_some(rows)
    });
    let outcomes: Vec<&Value> = rows.iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["disconnected", "failed"]);
    assert_eq!((&rows[0]["completion_tokens"], &rows[1]["completion_tokens"]), (&json!(1), &json!(2)));
    for row in rows {
        assert_eq!(row["metadata"], json!([["hone.tokens", "estimated"]]));
        assert!(row["prompt_tokens"].as_u64().unwrap() > 0);
    }
    // An answer without counts says so too.
    let whole = json!({"model": "far", "messages": [{"role": "user", "content": "Hello"}]});
    let told = std::thread::scope(|scope| {
        let answer = scope.spawn(|| http(&far.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&whole)));
        let mut stream = asked.recv().unwrap();
        stream.write_all(format!("{HEAD}{}data: [DONE]\n\n", event("hi")).as_bytes()).unwrap();
        drop(stream);
        serde_json::from_str::<Value>(&answer.join().unwrap().body).unwrap()
    });
    assert_eq!((&told["usage"]["estimated"], &told["usage"]["completion_tokens"]), (&json!(true), &json!(1)));
}

/// An https server that answers "safe" as `localhost`, with a certificate that is its own authority, in `folder`. Gives its port
/// and the requests that came in.
fn secure(folder: &Path) -> (u16, Receiver<String>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("authority.pem"), own.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (give, take) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let config = Arc::new(config);
        for stream in listener.incoming().flatten() {
            let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), stream);
            // A client that trusts nobody here ends the handshake.
            if stream.flush().is_err() {
                continue;
            }
            let request = read_request(&mut stream);
            let answer = match request.starts_with("GET ") {
                true => "HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                false => format!("{HEAD}{}data: [DONE]\n\n", event("safe")),
            };
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
            if give.send(request).is_err() {
                return;
            }
        }
    });
    (port, take)
}

#[test]
fn https_is_spoken_with_who_is_trusted_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (port, requests) = secure(folder.path());
    let authority = folder.path().join("authority.pem").display().to_string();
    let far = Daemon::start_with(&[("SSL_CERT_FILE", &authority)]);
    let mut client = far.connect();
    let key = client.ask(json!({"create_key": {"application": "owner", "label": ""}}));
    let secret = key["secret"].as_str().unwrap().to_owned();
    publish(&mut client, &format!("https://localhost:{port}/v1"), Some("sk-over-tls"));
    let (status, answer) = chat(&far, &secret);
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("safe")), "{answer}");
    let asked = requests.try_iter().find(|request| request.starts_with("POST ")).unwrap();
    assert!(asked.to_lowercase().contains("authorization: bearer sk-over-tls"), "{asked}");

    // The same server under a name that its certificate does not have, and where nobody vouches for it.
    let stranger = Daemon::start();
    for (daemon, host) in [(&far, "127.0.0.1"), (&stranger, "localhost")] {
        let mut client = daemon.connect();
        let upstream =
            json!({"url": format!("https://{host}:{port}"), "model": "base", "key": "sk-2", "plain_http": ""});
        let wish = json!({"name": "far", "upstream": upstream, "slots": 0, "context_tokens": 0, "price": price()});
        client.ask(json!({"publish_upstream": wish}));
        let trouble = wait_until("the certificate is not trusted", || {
            let trouble = service(&mut client)["trouble"]["message_en"].as_str()?.to_owned();
            trouble.contains("certificate").then_some(trouble)
        });
        assert!(trouble.contains("service far"), "{trouble}");
    }
    assert!(requests.try_iter().all(|request| !request.contains("sk-2")), "the key went to nobody");
}

#[test]
fn the_command_line_publishes_and_shows_it() {
    let (far, mut client, secret) = daemon();
    let (url, _asked) = scripted();
    let hone = |words: &[&str], typed: &str| {
        let mut command = Command::new(programs().join("hone"));
        command.args(words).env("HONE_STATE", far.state()).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let publish = ["service", "publish", "far", "--upstream", &url, "--upstream-model", "big"];
    let (status, _, words) = hone(&[&publish[..], &["--upstream-key-file", "-"]].concat(), "sk-from-stdin\n");
    assert_eq!(status, Some(0), "{words}");
    let (_, shown, _) = hone(&["service", "show", "far"], "");
    assert!(shown.contains(&url) && shown.contains("kept") && !shown.contains("sk-from-stdin"), "{shown}");
    let (status, shown, _) = hone(&["--json", "service", "publish", "far", "--upstream-model", "bigger"], "");
    let view: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((status, &view["record"]["upstream"]["model"]), (Some(0), &json!("bigger")));
    assert_eq!(view["record"]["upstream"]["has_key"], true);
    let elsewhere = ["service", "publish", "far", "--upstream", "http://gpu7.example", "--upstream-model", "m"];
    let (status, _, words) = hone(&elsewhere, "");
    assert_eq!(status, Some(2));
    assert!(words.contains("--plain-http gpu7.example"), "{words}");
    let (status, _, words) = hone(&["service", "publish", "far", "starter", "--upstream", "https://a"], "");
    assert_eq!(status, Some(2), "{words}");
    let models = http(&far.http(), "GET", "/v1/models", Some(&secret), None);
    assert!(models.body.contains("upstream:bigger"), "{}", models.body);
    hone(&["service", "stop", "far"], "");
    assert_eq!(hone(&["service", "delete", "far"], "").0, Some(0));
    assert!(client.ask(json!("services")).as_array().unwrap().is_empty());
}
