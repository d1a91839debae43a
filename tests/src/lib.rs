//! The harness of the end-to-end tests: the real honed with the real worker in a directory of its own, a client of
//! its socket in JSON lines, a raw HTTP client, and a terminal. Never here: a fake of anything that hone is.
#![forbid(unsafe_code)]

pub mod frames;
pub mod slurm;
pub mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test says that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The folder of the built programs: where `make build` put them.
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    // Tests run from target/release/deps, benches from target/release.
    let folder = own.ancestors().skip(1).take(2).find(|folder| folder.join("honed").exists());
    folder.unwrap_or_else(|| panic!("no honed beside {}: run `make build` first", own.display())).to_owned()
}

/// The starter model's file: a real asset that must be there.
pub fn starter() -> PathBuf {
    let folder = std::env::var_os("HONE_ASSETS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/hone/assets"));
    let path = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing: run `make assets` (make test does)", path.display());
    path
}

/// A folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// A running honed in a directory of its own; ended, with its children, when dropped.
pub struct Daemon {
    /// Its process.
    pub process: Child,
    state: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Daemon {
    /// Starts one in a fresh directory. Its path is short, because sockets need that.
    pub fn start() -> Daemon {
        Daemon::start_with(&[])
    }

    /// As `start`, with these variables beside the test's own.
    pub fn start_with(environment: &[(&str, &str)]) -> Daemon {
        let state = tempfile::Builder::new().prefix("hone-").tempdir_in("/tmp").expect("/tmp is writable");
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let process = spawn(state.path(), &environment);
        Daemon { process, state, environment }
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.state.path())
    }

    /// Ends it without a word, as a crash would, and starts it again.
    pub fn crash(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it can be waited for");
        self.process = spawn(self.state.path(), &self.environment);
    }

    /// Ends it as a person would, and starts it again.
    pub fn restart(&mut self) {
        self.connect().ask(json!("shutdown"));
        self.process.wait().expect("it can be waited for");
        self.process = spawn(self.state.path(), &self.environment);
    }

    /// The HTTP address, `127.0.0.1:PORT`.
    pub fn http(&self) -> String {
        let text = std::fs::read_to_string(self.state.path().join("run/http")).expect("honed wrote its addresses");
        text.lines().find_map(|l| l.strip_prefix("http://")).expect("honed listens on loopback").to_owned()
    }

    /// Processes of this daemon that live: itself and its children.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.process.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Children of a process.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name may hold spaces; the fields go on after its last parenthesis: state, parent.
        let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        if fields.next() != Some("Z") && fields.next().and_then(|p| p.parse().ok()) == Some(pid) {
            found.push(child);
        }
    }
    found
}

fn spawn(state: &Path, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(state.join("honed.log")).expect("a log");
    let process = Command::new(programs().join("honed"))
        .args(["run", "--http", "127.0.0.1:0", "--state"])
        .arg(state)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("honed starts");
    wait_until("honed answers", || UnixStream::connect(state.join("run/hone.sock")).is_ok().then_some(()));
    process
}

/// Asks again until there is an answer; fails with `what` when that takes too long.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: did not happen within {} s", PATIENCE.as_secs());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A connection that speaks JSON lines.
pub struct Client {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    next: u64,
}

impl Client {
    /// Connects to the daemon of a state directory.
    pub fn connect(state: &Path) -> Client {
        let stream = UnixStream::connect(state.join("run/hone.sock")).expect("honed listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let lines = BufReader::new(stream.try_clone().expect("a second handle"));
        Client { stream, lines, next: 1 }
    }

    /// Sends a raw line.
    pub fn send(&mut self, line: &str) {
        self.stream.write_all(line.as_bytes()).expect("honed reads");
    }

    /// The next message.
    pub fn read(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("honed answers in time");
        assert!(!line.is_empty(), "honed closed the connection");
        serde_json::from_str(&line).expect("honed writes JSON")
    }

    /// Asks with an idempotency id; parts go to `part`. `Err` is the failure.
    pub fn ask_with(
        &mut self,
        request: Value,
        once: Option<&str>,
        mut part: impl FnMut(&Value),
    ) -> Result<Value, Value> {
        let id = self.next;
        self.next += 1;
        self.send(&format!("{}\n", json!({"ask": {"id": id, "once": once, "request": request}})));
        loop {
            let message = self.read();
            if message["part"]["id"] == id {
                part(&message["part"]["part"]);
            }
            let answer = &message["answer"];
            if answer["id"] == id || answer["id"] == 0 {
                return match &answer["answer"]["Ok"] {
                    Value::Null => Err(answer["answer"]["Err"].clone()),
                    Value::Object(named) => Ok(named.values().next().cloned().unwrap_or_default()),
                    plain => Ok(plain.clone()),
                };
            }
        }
    }

    /// Asks.
    pub fn try_ask(&mut self, request: Value) -> Result<Value, Value> {
        self.ask_with(request, None, |_| ())
    }

    /// Asks what must be answered.
    pub fn ask(&mut self, request: Value) -> Value {
        let said = request.to_string();
        self.try_ask(request).unwrap_or_else(|failure| panic!("{said} failed: {failure}"))
    }

    /// Submits a job; its id.
    pub fn submit(&mut self, spec: Value) -> String {
        let job = self.ask(json!({"submit": {"spec": spec}}));
        job["record"]["id"].as_str().expect("a job has an id").to_owned()
    }

    /// Waits for the end of a job; its view.
    pub fn finish(&mut self, job: &str) -> Value {
        self.ask(json!({"follow": {"job": job, "from_seq": 0}}))
    }

    /// Does a job that must succeed; its result.
    pub fn job(&mut self, spec: Value) -> Value {
        let id = self.submit(spec);
        let view = self.finish(&id);
        let result = view["record"]["state"]["succeeded"].clone();
        assert!(!result.is_null(), "job {id} ended as {}", view["record"]["state"]);
        result
    }

    /// Imports the starter from its file.
    pub fn import_starter(&mut self) {
        let path = starter().display().to_string();
        self.job(json!({"import_model": {"source": {"path": {"path": path, "in_place": true}}, "name": "starter"}}));
    }

    /// Imports the preset rows.
    pub fn import_rows(&mut self) {
        let source = json!({"preset": {"name": "support-desk"}});
        self.job(json!({"import_dataset": {"source": source, "name": "desk", "format": "detect"}}));
    }

    /// Waits until a service answers.
    pub fn wait_for_service(&mut self, name: &str) {
        wait_until(&format!("service {name} is on"), || {
            let services = self.ask(json!("services"));
            let service = services.as_array()?.iter().find(|s| s["record"]["name"] == name)?.clone();
            assert!(service["state"]["failed"].is_null(), "service {name}: {}", service["state"]);
            (service["state"] == "on").then_some(())
        });
    }
}

/// A short training run on the preset rows.
pub fn train_spec(steps: u64, register: Value) -> Value {
    json!({"train": {
        "base": "starter", "dataset": "desk", "split": {"held_out_percent": 15, "seed": 7}, "replay": null, "register": register,
        "params": {
            "method": "sft", "tuning": "lora", "scaling": "rank", "dropout": 0.0, "beta": 0.1, "decay_ratio": 0.2, "patience": 0,
            "rank": 4, "alpha": 8.0, "targets": ["q", "v"], "learning_rate": 0.001, "schedule": "constant",
            "warmup_ratio": 0.0, "epochs": 1, "steps_max": steps, "sequence_tokens": 128, "too_long": "leave_out",
            "batch_windows": 1, "accumulation": 1, "weight_decay": 0.0, "clip_norm": 1.0, "evaluate_steps": 0,
            "checkpoint_steps": 2, "seed": 42, "threads": 2,
        },
    }})
}

/// What a raw HTTP request was answered with.
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers as text.
    pub headers: String,
    /// The body; chunks are put together.
    pub body: String,
}

/// Uploads a file of requests for a batch, as a form; its id.
pub fn upload(address: &str, secret: &str, lines: &str) -> String {
    let part = |name: &str, text: &str| format!("--edge\r\nContent-Disposition: form-data; {name}\r\n\r\n{text}\r\n");
    let file = part("name=\"file\"; filename=\"q.jsonl\"", lines);
    let body = format!("{}{file}--edge--\r\n", part("name=\"purpose\"", "batch"));
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=edge\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let file: Value = serde_json::from_str(body).unwrap();
    file["id"].as_str().unwrap().to_owned()
}

/// Sends one request on a connection of its own.
pub fn http(address: &str, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Response {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let body = body.map(Value::to_string).unwrap_or_default();
    let auth = key.map(|k| format!("Authorization: Bearer {k}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{auth}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("the endpoint reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the endpoint answers in time");
    let text = String::from_utf8(bytes).expect("answers are UTF-8");
    let (headers, body) = text.split_once("\r\n\r\n").expect("an answer has headers");
    let status = headers.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body =
        if headers.to_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
    Response { status, headers: headers.to_owned(), body }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
