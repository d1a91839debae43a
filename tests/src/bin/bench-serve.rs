//! Measures the whole endpoint (HTTP, metering, worker, engine) against a plain `llama_decode` loop over the same
//! model, prompt length and answer length; the two take turns. Clients are threads that only read.
//!
//! Prints a table with the raw samples and, as its last line, one line of JSON. Never here: what the engine alone
//! does (see `bench-serve-engine` in kernels/).

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Instant;

use hone_tests::{Daemon, PATIENCE, programs, starter};
use serde_json::{Value, json};

const CLIENTS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 7;
const ANSWER_TOKENS: u64 = 64;
const TOPICS: [&str; 16] = [
    "rivers",
    "bakers",
    "planets",
    "violins",
    "harbours",
    "glaciers",
    "deserts",
    "bridges",
    "lanterns",
    "orchards",
    "engines",
    "libraries",
    "volcanoes",
    "gardens",
    "castles",
    "markets",
];

/// What one client was told.
struct Told {
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    first_ms: f64,
}

fn main() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let price = json!({"input_micros": 1, "cached_micros": 1, "output_micros": 1});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": 16, "context_tokens": 512, "price": price}}),
    );
    client.ask(json!({"set_application": {"name": "bench", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "bench", "label": ""}}));
    let key = key["secret"].as_str().expect("a secret").to_owned();
    client.wait_for_service("base");
    let address = daemon.http();
    let mut topic = 0;
    let (prompt, _, _) = burst(&address, &key, 1, &mut topic);
    println!(
        "about {prompt} tokens in, {ANSWER_TOKENS} out, greedy, medians of {ROUNDS} interleaved rounds, {}",
        cores()
    );
    println!("clients  ceiling tok/s  endpoint tok/s  ratio  first token ms   raw ceiling | raw endpoint");
    let (mut figures, mut ratios) = (json!({}), json!({}));
    for clients in CLIENTS {
        let (mut top, mut own, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            top.push(ceiling(clients, prompt));
            let (_, rate, first_ms) = burst(&address, &key, clients, &mut topic);
            own.push(rate);
            first.push(first_ms);
        }
        let pairs: Vec<f64> = own.iter().zip(&top).map(|(own, top)| own / top).collect();
        let (top_median, own_median, ratio, first_ms) = (median(&top), median(&own), median(&pairs), median(&first));
        println!(
            "{clients:>7}  {top_median:>13.1}  {own_median:>14.1}  {ratio:>5.3}  {first_ms:>14.0}   {} | {}",
            show(&top),
            show(&own)
        );
        figures[format!("ceiling_{clients}")] = json!(round(top_median));
        figures[format!("endpoint_{clients}")] = json!(round(own_median));
        figures[format!("first_token_ms_{clients}")] = json!(round(first_ms));
        ratios[format!("endpoint_to_ceiling_{clients}")] = json!((ratio * 1000.0).round() / 1000.0);
    }
    println!("{}", json!({"bench": "serve", "figures": figures, "ratios": ratios}));
}

/// Output tokens per second of a plain loop of the engine, measured in a process of its own.
fn ceiling(clients: usize, prompt_tokens: u64) -> f64 {
    let output = Command::new(programs().join("bench-serve-engine"))
        .args(["--ceiling".to_owned(), clients.to_string(), "--prompt".into(), prompt_tokens.to_string()])
        .args(["--answer".to_owned(), ANSWER_TOKENS.to_string(), "--model".into()])
        .arg(starter())
        .stderr(Stdio::null())
        .output()
        .expect("bench-serve-engine stands beside honed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("bench-serve-engine said {text:?}"))
}

/// Lets `clients` ask at the same moment. Mean prompt tokens, output tokens per second of all, median time to first
/// token in milliseconds.
fn burst(address: &str, key: &str, clients: usize, topic: &mut usize) -> (u64, f64, f64) {
    let start = Barrier::new(clients + 1);
    let begun = *topic;
    *topic += clients;
    let (told, seconds) = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..clients)
            .map(|client| {
                let start = &start;
                scope.spawn(move || ask(address, key, begun + client, start))
            })
            .collect();
        start.wait();
        let started = Instant::now();
        let told: Vec<Told> = asked.into_iter().map(|thread| thread.join().expect("a client")).collect();
        (told, started.elapsed().as_secs_f64())
    });
    let sum: u64 = told.iter().map(|t| t.completion_tokens).sum();
    let prompt = told.iter().map(|t| t.prompt_tokens).sum::<u64>() / told.len() as u64;
    for t in &told {
        assert_eq!(t.completion_tokens, ANSWER_TOKENS, "an answer ended early: choose another prompt");
        assert!(
            t.cached_tokens < 12,
            "{} prompt tokens came from the cache: the prompts are too alike",
            t.cached_tokens
        );
    }
    (prompt, sum as f64 / seconds, median(&told.iter().map(|t| t.first_ms).collect::<Vec<_>>()))
}

fn ask(address: &str, key: &str, number: usize, start: &Barrier) -> Told {
    let topic = TOPICS[number % TOPICS.len()];
    let body = json!({
        "model": "base", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0,
        "max_tokens": ANSWER_TOKENS,
        "messages": [
            {"role": "system", "content": format!("{number} {topic}: you tell very long stories.")},
            {"role": "user", "content": format!("Tell me a very long story about {topic} and a traveller.")},
        ],
    })
    .to_string();
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("a socket option");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    start.wait();
    let asked = Instant::now();
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("the endpoint reads");
    let mut told = Told { prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, first_ms: 0.0 };
    for line in BufReader::new(stream).lines() {
        let line = line.expect("the endpoint answers in time");
        let Some(data) = line.strip_prefix("data: {") else { continue };
        // Reading must stay cheap beside the engine: only the last chunk is looked into.
        if told.first_ms == 0.0 && data.contains("\"content\":\"") && !data.contains("\"content\":\"\"") {
            told.first_ms = asked.elapsed().as_secs_f64() * 1e3;
        }
        if data.contains("\"prompt_tokens\"") {
            let chunk: Value = serde_json::from_str(&format!("{{{data}")).expect("a chunk is JSON");
            let usage = &chunk["usage"];
            told.prompt_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
            told.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
            told.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
        }
    }
    told
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn show(samples: &[f64]) -> String {
    samples.iter().map(|s| format!("{s:.1}")).collect::<Vec<_>>().join(" ")
}

fn cores() -> String {
    format!("{} cores", std::thread::available_parallelism().map_or(0, usize::from))
}
