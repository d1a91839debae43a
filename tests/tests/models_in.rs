//! Models that come in: pulled from a hub that lives in the test, through a crash of the daemon, and converted from a
//! folder and from a repository of safetensors. Never here: what goes wrong at a hub (unit tests of honed fetch), and
//! whether a conversion computes the same (`prove/convert.py`).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hone_tests::{Daemon, http, starter, wait_until};
use serde_json::{Value, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Given out in the first attempt before everything stands still.
const FIRST_BYTES: usize = 20 << 20;

/// A hub of two repositories: `owl/gguf` with the starter's file, `owl/folder` with the files of a folder.
struct Hub {
    base: String,
    /// Ranges that were asked of the large file, and whether the token came along.
    ranges: Mutex<Vec<usize>>,
    tokens: AtomicUsize,
    /// While it is closed, large files stop after [`FIRST_BYTES`].
    open: AtomicBool,
    large: Vec<u8>,
    small: Vec<(String, Vec<u8>)>,
}

impl Hub {
    fn start(small: Vec<(String, Vec<u8>)>) -> Arc<Hub> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Arc::new(Hub {
            base: format!("http://{}", listener.local_addr().unwrap()),
            ranges: Mutex::default(),
            tokens: AtomicUsize::new(0),
            open: AtomicBool::new(false),
            large: fs::read(starter()).unwrap(),
            small,
        });
        let serving = Arc::clone(&hub);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = Arc::clone(&serving);
                // A daemon that is killed in the middle is part of the test.
                std::thread::spawn(move || drop(hub.answer(stream)));
            }
        });
        hub
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or("").to_owned();
        let mut from = 0;
        for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
            let line = line.to_lowercase();
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().unwrap();
            }
            if line == "authorization: bearer hf_test" {
                self.tokens.fetch_add(1, Ordering::SeqCst);
            }
        }
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let body = self.listing(rest.split("/revision/").next().unwrap()).to_string();
            return reply(&mut stream, "200 OK", 0, body.len(), body.as_bytes());
        }
        if path.ends_with("/starter.gguf") {
            self.ranges.lock().unwrap().push(from);
            let stop = if self.open.load(Ordering::SeqCst) { self.large.len() } else { FIRST_BYTES };
            reply(&mut stream, "206 Partial Content", from, self.large.len(), &self.large[from..stop.max(from)])?;
            if stop < self.large.len() {
                stream.read_to_end(&mut Vec::new())?;
            }
            return Ok(());
        }
        match self.small.iter().find(|(name, _)| path.ends_with(&format!("/{name}"))) {
            Some((_, bytes)) => reply(&mut stream, "200 OK", 0, bytes.len(), bytes),
            None => reply(&mut stream, "404 Not Found", 0, 0, b""),
        }
    }

    fn listing(&self, repo: &str) -> Value {
        let siblings: Vec<Value> = match repo {
            "owl/gguf" => {
                vec![json!({"rfilename": "starter.gguf", "lfs": {"sha256": SHA256, "size": self.large.len()}})]
            }
            _ => self.small.iter().map(|(name, bytes)| json!({"rfilename": name, "size": bytes.len()})).collect(),
        };
        json!({"sha": COMMIT, "siblings": siblings, "tags": ["license:mit"]})
    }
}

const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

fn reply(stream: &mut TcpStream, status: &str, from: usize, all: usize, body: &[u8]) -> std::io::Result<()> {
    let range = if status.starts_with("206") {
        format!("Content-Range: bytes {from}-{}/{all}\r\n", all - 1)
    } else {
        String::new()
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        all - from
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// A folder of a llama with one layer and 259 tokens, whose weights are small numbers.
fn folder() -> Vec<(String, Vec<u8>)> {
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut others = 256u32..;
    let mut vocab = serde_json::Map::new();
    for byte in 0..256u32 {
        let letter = if printable(byte) { byte } else { others.next().unwrap() };
        vocab.insert(char::from_u32(letter).unwrap().to_string(), json!(byte + 3));
    }
    let added = ["<|pad|>", "<|begin|>", "<|end|>"].iter().enumerate();
    let added: Vec<Value> = added.map(|(id, text)| json!({"id": id, "content": text, "special": true})).collect();
    let tokenizer = json!({
        "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "vocab_size": 259, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    let tokenizer_config = json!({"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": template});
    let shapes: [(&str, &[usize]); 11] = [
        ("model.embed_tokens", &[259, 32]),
        ("model.norm", &[32]),
        ("model.layers.0.input_layernorm", &[32]),
        ("model.layers.0.post_attention_layernorm", &[32]),
        ("model.layers.0.self_attn.q_proj", &[32, 32]),
        ("model.layers.0.self_attn.k_proj", &[16, 32]),
        ("model.layers.0.self_attn.v_proj", &[16, 32]),
        ("model.layers.0.self_attn.o_proj", &[32, 32]),
        ("model.layers.0.mlp.gate_proj", &[64, 32]),
        ("model.layers.0.mlp.up_proj", &[64, 32]),
        ("model.layers.0.mlp.down_proj", &[32, 64]),
    ];
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in shapes {
        let from = data.len();
        for index in 0..shape.iter().product::<usize>() {
            let value = ((index * 7919 % 127) as f32 - 63.0) / 200.0;
            data.extend(value.to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]});
        header.insert(format!("{name}.weight"), entry);
    }
    let header = Value::Object(header).to_string();
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.as_bytes());
    weights.extend(data);
    let text = |value: Value| value.to_string().into_bytes();
    vec![
        ("config.json".to_owned(), text(config)),
        ("tokenizer.json".to_owned(), text(tokenizer)),
        ("tokenizer_config.json".to_owned(), text(tokenizer_config)),
        ("model.safetensors".to_owned(), weights),
        ("README.md".to_owned(), b"read me".to_vec()),
    ]
}

fn hub_source(repo: &str) -> Value {
    json!({"hub": {"hub": "huggingface", "repo": repo, "revision": "", "file": "", "weights": "as_stored"}})
}

fn version(daemon: &Daemon, name: &str) -> Value {
    let models = daemon.connect().ask(json!("models"));
    let model =
        models.as_array().unwrap().iter().find(|m| m["record"]["name"] == name).unwrap_or_else(|| panic!("{models}"));
    json!({"licence": model["record"]["licence"], "record": model["versions"][0]["record"]})
}

#[test]
fn a_pull_goes_on_after_a_crash_of_the_daemon() {
    let hub = Hub::start(Vec::new());
    let home = tempfile::tempdir().unwrap();
    let environment =
        [("HF_ENDPOINT", hub.base.as_str()), ("HF_TOKEN", "hf_test"), ("HF_HOME", home.path().to_str().unwrap())];
    let mut daemon = Daemon::start_with(&environment);
    let job = daemon.connect().submit(json!({"import_model": {"source": hub_source("owl/gguf"), "name": "owl"}}));
    let partial = daemon.state().join("jobs").join(&job).join("fetched/hub-starter.gguf.partial");
    wait_until("most of the first bytes are on the disk", || {
        fs::metadata(&partial).is_ok_and(|meta| meta.len() > FIRST_BYTES as u64 / 2).then_some(())
    });
    daemon.crash();
    hub.open.store(true, Ordering::SeqCst);
    let view = daemon.connect().finish(&job);
    assert!(!view["record"]["state"]["succeeded"].is_null(), "{}", view["record"]["state"]);
    let ranges = hub.ranges.lock().unwrap().clone();
    assert_eq!(ranges[0], 0);
    assert!(ranges.len() > 1 && ranges[1] > FIRST_BYTES / 2, "{ranges:?}");
    let version = version(&daemon, "owl");
    assert_eq!(version["record"]["file"]["sha256"], SHA256);
    assert_eq!(version["record"]["lineage"]["source"], format!("huggingface:owl/gguf@{COMMIT}/starter.gguf"));
    assert_eq!(version["record"]["facts"]["licence"], "apache-2.0", "the file's own word counts");
    assert!(hub.tokens.load(Ordering::SeqCst) >= 3, "the token goes to the hub");
    // Nothing that is kept holds the token.
    for place in ["jobs", "honed.log"] {
        assert!(!holds(&daemon.state().join(place), b"hf_test"), "{place} holds the token");
    }
    let store = fs::read(daemon.state().join("store.redb")).unwrap_or_default();
    assert!(!store.windows(7).any(|w| w == b"hf_test"));
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().flatten().any(|entry| holds(&entry.path(), needle));
    }
    fs::read(path).unwrap_or_default().windows(needle.len()).any(|window| window == needle)
}

#[test]
fn folders_are_converted_and_answer() {
    let files = folder();
    let hub = Hub::start(files.clone());
    let home = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(&[("HF_ENDPOINT", &hub.base), ("HF_HOME", home.path().to_str().unwrap())]);
    let mut client = daemon.connect();
    client.job(json!({"import_model": {"source": hub_source("owl/folder"), "name": "pulled"}}));
    let place = home.path().join("mine");
    fs::create_dir(&place).unwrap();
    for (name, bytes) in &files {
        fs::write(place.join(name), bytes).unwrap();
    }
    let source = json!({"folder": {"path": place, "weights": "q8_0"}});
    client.job(json!({"import_model": {"source": source, "name": "mine"}}));
    let (pulled, mine) = (version(&daemon, "pulled"), version(&daemon, "mine"));
    assert_eq!(pulled["licence"], "mit");
    assert_eq!(pulled["record"]["facts"]["trainable"], json!({"Ok": null}));
    assert_eq!(pulled["record"]["lineage"]["source"], format!("huggingface:owl/folder@{COMMIT}"));
    assert_eq!(mine["record"]["facts"]["tensor_types"][0][0], "Q8_0");
    assert_eq!(mine["record"]["facts"]["vocabulary"], 259);
    let price = json!({"input_micros": 0, "cached_micros": 0, "output_micros": 0});
    client.ask(
        json!({"publish": {"name": "mine", "version": "mine", "slots": 1, "context_tokens": 256, "price": price}}),
    );
    client.ask(json!({"set_application": {"name": "app", "title": "", "services": []}}));
    let key =
        client.ask(json!({"create_key": {"application": "app", "label": ""}}))["secret"].as_str().unwrap().to_owned();
    client.wait_for_service("mine");
    let body =
        json!({"model": "mine", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0});
    let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(&key), Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.body);
    // What has no place is refused with its name, and nothing is left.
    let mut config: Value = serde_json::from_slice(&files[0].1).unwrap();
    config["quantization_config"] = json!({"quant_method": "gptq"});
    fs::write(place.join("config.json"), config.to_string()).unwrap();
    let source = json!({"folder": {"path": place, "weights": "as_stored"}});
    let job = client.submit(json!({"import_model": {"source": source, "name": "other"}}));
    let failed = client.finish(&job)["record"]["state"]["failed"].clone();
    assert_eq!(failed["code"], "bad_file", "{failed}");
    assert!(failed["message_en"].as_str().unwrap().contains("gptq"), "{failed}");
}
