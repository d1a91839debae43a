//! Hooks with real children: a command and an address on this machine are told of a job that failed; what fails is tried again, and
//! over a crash. And a file that declares everything, applied and written again. Never here: which alert is made when (the
//! dispatcher's tests).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

use hone_tests::{Client, Daemon, programs, wait_until};
use serde_json::{Value, json};

fn hone(daemon: &Daemon, words: &[&str]) -> Output {
    let state = daemon.state().display().to_string();
    Command::new(programs().join("hone")).args(["--state", &state]).args(words).output().unwrap()
}

fn good(daemon: &Daemon, words: &[&str]) -> String {
    let output = hone(daemon, words);
    assert!(output.status.success(), "hone {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A request that came in: its headers and its body.
struct Post {
    headers: Vec<(String, String)>,
    body: String,
}

impl Post {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

/// Answers posts, each with the next status, and the last one for ever.
fn receiver(statuses: &'static [u16]) -> (String, Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, posts) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut headers = Vec::new();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.push((name.to_owned(), value.to_owned()));
            }
            let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let mut body = vec![0; length.unwrap().1.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let status = statuses[number.min(statuses.len() - 1)];
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nheard");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send(Post { headers, body: String::from_utf8(body).unwrap() }).is_err() {
                return;
            }
        }
    });
    (address, posts)
}

fn fail_a_job(client: &mut Client) -> String {
    let source = json!({"path": {"path": "/nowhere/rows.jsonl"}});
    let job = client.submit(json!({"import_dataset": {"source": source, "name": "rows", "format": "detect"}}));
    client.finish(&job);
    job
}

fn hook(client: &mut Client, name: &str) -> Value {
    let hooks = client.ask(json!("hooks"));
    hooks.as_array().unwrap().iter().find(|hook| hook["name"] == name).unwrap().clone()
}

/// HMAC-SHA256 by another implementation.
fn signature(secret: &str, message: &str) -> String {
    let script = "import hmac,sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), 'sha256').hexdigest())";
    let output = Command::new("python3").args(["-c", script, secret, message]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_address_is_told_signed_and_again_until_it_hears_also_over_a_crash() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let (address, posts) = receiver(&[500, 204]);
    let made = good(&daemon, &["hook", "add", "ops", "--on", "job_failed", "--url", &address]);
    let secret = made.trim();
    assert!(secret.starts_with("hone_hook_"), "{made}");
    let job = fail_a_job(&mut client);
    let first = posts.recv().unwrap();
    wait_until("the refusal is known", || hook(&mut client, "ops")["last"].is_object().then_some(()));
    daemon.crash();
    let mut client = daemon.connect();
    let again = posts.recv().unwrap();
    wait_until("it is delivered", || (hook(&mut client, "ops")["delivered"] == 1).then_some(()));
    let (one, two): (Value, Value) =
        (serde_json::from_str(&first.body).unwrap(), serde_json::from_str(&again.body).unwrap());
    assert_eq!((&one["id"], &one["subject"], &one["kind"]), (&two["id"], &json!(job), &json!("job_failed")));
    assert_eq!((&one["try"], &two["try"]), (&json!(1), &json!(2)));
    for post in [&first, &again] {
        assert_eq!(post.header("Hone-Alert"), one["id"].as_str().unwrap());
        let signed = format!("{}.{}", post.header("Hone-Timestamp"), post.body);
        assert_eq!(post.header("Hone-Signature"), format!("sha256={}", signature(secret, &signed)));
    }
    let last = &hook(&mut client, "ops")["last"];
    assert_eq!((&last["ok"], &last["status"], &last["words"]), (&json!(true), &json!(204), &json!("")));
    let key = daemon.state().join("hook.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let store = std::fs::read(daemon.state().join("store.redb")).unwrap();
    assert!(!store.windows(secret.len()).any(|window| window == secret.as_bytes()), "the secret is in no store");
}

#[test]
fn a_command_reads_the_alert_and_ends_with_its_deadline() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let script = daemon.state().join("tell.sh");
    std::fs::write(&script, "#!/bin/sh\necho \"told $1\"\ncat\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.display().to_string();
    good(&daemon, &["hook", "add", "log", "--on", "job_failed,service_down", "--", &script, "me"]);
    let job = fail_a_job(&mut client);
    wait_until("it is delivered", || (hook(&mut client, "log")["delivered"] == 1).then_some(()));
    let words = hook(&mut client, "log")["last"]["words"].as_str().unwrap().to_owned();
    let (first, body) = words.split_once('\n').unwrap();
    assert_eq!(first, "told me");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["subject"], json!(job));

    good(&daemon, &["hook", "add", "log", "--on", "job_failed", "--timeout", "1", "--", "/bin/sh", "-c", "sleep 600"]);
    let tried = hone(&daemon, &["hook", "test", "log"]);
    assert_eq!(tried.status.code(), Some(9));
    assert!(String::from_utf8_lossy(&tried.stdout).contains("ended after 1000 ms"), "{tried:?}");
    // A command cannot reach the network, nor read what is ours: only an address is called.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = daemon.state().join("hook.key").display().to_string();
    let reach = format!("cat {key} && echo it was read; (exec 3<>/dev/tcp/127.0.0.1/{port}) || echo neither");
    good(&daemon, &["hook", "add", "log", "--on", "job_failed", "--", "/bin/bash", "-c", &reach]);
    let tried = hone(&daemon, &["--json", "hook", "test", "log"]);
    let words = serde_json::from_slice::<Value>(&tried.stdout).unwrap()["words"].as_str().unwrap().to_owned();
    assert!(words.contains("neither") && !words.contains("it was read"), "{words}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let listed = good(&daemon, &["hook", "list"]);
    assert!(listed.contains("log") && listed.contains("/bin/bash"), "{listed}");
    good(&daemon, &["hook", "remove", "log"]);
    assert_eq!(client.ask(json!("hooks")), json!([]));
    assert!(good(&daemon, &["hook", "alerts"]).contains("job_failed"));
}

#[test]
fn what_is_exported_changes_nothing_and_a_file_makes_all_of_it() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let file = daemon.state().join("hone.toml");
    let path = file.display().to_string();
    let text = r#"
[pools.local]
core_hour = 0.05

[aliases."starter:live"]
version = "starter@1"

[services.desk]
version = "starter:live"
slots = 2
context_tokens = 256
price_in = 0.15
on = false

[services.far]
url = "http://127.0.0.1:9"
model = "big"
key_env = "HONE_TEST_FAR_KEY"
on = false

[guards.pii]
personal = ["email"]
on = ["input"]
services = ["desk"]

[applications.shop]
title = "Web shop"
services = ["desk"]
requests_per_minute = 60
monthly = 25

[hooks.log]
on = ["job_failed"]
command = ["/usr/bin/logger", "-t", "hone"]
"#;
    std::fs::write(&file, text).unwrap();
    let keyless = hone(&daemon, &["apply", "-f", &path, "--plan"]);
    assert_eq!(keyless.status.code(), Some(5), "a key that is not there is missed before anything is done");
    let with_key = |words: &[&str]| {
        let state = daemon.state().display().to_string();
        let mut command = Command::new(programs().join("hone"));
        command.args(["--state", &state]).args(words).env("HONE_TEST_FAR_KEY", "sk-far-away").output().unwrap()
    };
    let plan = with_key(&["apply", "-f", &path, "--plan"]);
    assert_eq!(plan.status.code(), Some(2), "something would change: {plan:?}");
    assert!(String::from_utf8_lossy(&plan.stdout).contains("+ service desk"), "{plan:?}");
    assert_eq!(client.ask(json!("services")), json!([]), "a plan changes nothing");
    let applied = with_key(&["apply", "-f", &path]);
    assert!(applied.status.success() && !String::from_utf8_lossy(&applied.stdout).contains("sk-far"), "{applied:?}");
    assert_eq!(with_key(&["apply", "-f", &path, "--plan"]).status.code(), Some(0), "a second time nothing changes");
    let services = client.ask(json!("services"));
    let far = services.as_array().unwrap().iter().find(|view| view["record"]["name"] == "far").unwrap();
    assert_eq!(far["record"]["upstream"], json!({"url": "http://127.0.0.1:9/v1", "model": "big", "has_key": true}));

    let exported = good(&daemon, &["export"]);
    std::fs::write(&file, &exported).unwrap();
    let plan = hone(&daemon, &["apply", "-f", &path, "--plan", "--prune"]);
    assert_eq!(plan.status.code(), Some(0), "{exported}\n{plan:?}");
    assert!(!exported.contains("hone_") && !exported.contains("sk-"), "no secret is in a file: {exported}");
    assert!(exported.contains("[services.far]\nurl = \"http://127.0.0.1:9/v1\"") && exported.contains("[guards.pii]"));

    let (slots, limit) = (exported.replace("slots = 2", "slots = 3"), "requests_per_minute = 60");
    std::fs::write(&file, slots.replace(limit, "requests_per_minute = 30")).unwrap();
    let changed = good(&daemon, &["--json", "apply", "-f", &path]);
    let changed: Value = serde_json::from_str(&changed).unwrap();
    let of: Vec<(&str, &str)> = changed["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["what"].as_str().unwrap(), step["name"].as_str().unwrap()))
        .collect();
    assert_eq!(of, [("change", "desk"), ("change", "shop")]);

    std::fs::write(&file, "[services.desk]\nversion = \"starter:live\"\nslot = 2\n").unwrap();
    let wrong = hone(&daemon, &["apply", "-f", &path]);
    assert_eq!(wrong.status.code(), Some(5));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("did you mean slots?") && said.contains("hone.toml:3:1"), "{said}");

    std::fs::write(&file, "[applications.shop]\n").unwrap();
    good(&daemon, &["apply", "-f", &path]);
    assert_eq!(client.ask(json!("services")).as_array().unwrap().len(), 2, "nothing goes unasked");
    let pruned = good(&daemon, &["apply", "-f", &path, "--prune"]);
    assert!(
        ["- service desk", "- service far", "- guard pii", "- hook log"].iter().all(|line| pruned.contains(line)),
        "{pruned}"
    );
    assert_eq!((client.ask(json!("services")), client.ask(json!("hooks"))), (json!([]), json!([])));
}
