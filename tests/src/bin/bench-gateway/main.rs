//! Measures what the gateway costs: tokens a second and time to the first token through HTTP, metering and the daemon,
//! against the same worker driven over its frames; and how many tiny calls of a server elsewhere pass in a second, beside
//! litellm's proxy in the same run.
//!
//! Arguments: the path of litellm (see `tests/peers/litellm_proxy.py`), `--rounds N`, and `--only worker|tiny`. Prints tables with the raw samples
//! and, as its last line, one line of JSON. Never here: what the engine does (`bench-serve`).

#[path = "../bench-serve/client.rs"]
#[allow(dead_code)]
mod client;
mod tiny;
mod worker;

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Author, Load, Server, burst, median};
use hone_tests::{Client, Daemon, wait_until};
use serde_json::{Map, Value, json};
use tiny::{CONNECTIONS, Calls};
use worker::Worker;

/// Clients of the comparison.
const CLIENTS: usize = 16;
/// Single requests whose first tokens are compared.
const FIRSTS: usize = 60;
/// Between two measurements, so that the one worker's threads sleep when the other computes.
const REST: Duration = Duration::from_millis(400);
/// Tiny calls a second that are to pass.
const RATE: f64 = 1000.0;
/// For how long.
const HOLD: Duration = Duration::from_secs(30);
/// What calls must cost at most: beyond, the run fails.
const BUDGETS: [(&str, f64); 2] = [("gateway_cost", 0.03), ("ttft_added_p95_ms", 5.0)];

fn main() {
    let mut args = std::env::args().skip(1);
    let litellm = args.next().expect("the first argument is the path of litellm: `make bench-gateway` gives it");
    let more: Vec<String> = args.collect();
    let option = |name: &str| more.iter().skip_while(|arg| *arg != name).nth(1);
    let rounds = option("--rounds").map_or(5, |n| n.parse().expect("a number of rounds"));
    let has = |part: &str| option("--only").is_none_or(|only| only == part);
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.ask(json!({"set_application": {"name": "bench", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "bench", "label": ""}}));
    let server = Server { address: daemon.http(), key: key["secret"].as_str().expect("a secret").to_owned() };
    println!(
        "medians of {rounds} interleaved rounds, {} cores",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let (mut figures, mut ratios) = (Map::new(), Map::new());
    if has("worker") {
        let cost = against_the_worker(&mut client, &server, rounds, &mut figures);
        ratios.insert("gateway_cost".into(), json!((cost * 1000.0).round() / 1000.0));
    }
    if has("tiny") {
        tiny_calls(&mut client, &server, &litellm, &mut figures, &mut ratios);
    }
    let over = BUDGETS.iter().filter(|(name, most)| {
        let found = figures.get(*name).or_else(|| ratios.get(*name)).and_then(Value::as_f64);
        found.map_or(has("worker"), |found| found > *most)
    });
    for (name, most) in over {
        println!("over its budget: {name}, at most {most}");
    }
    println!("{}", json!({"bench": "gateway", "figures": figures, "ratios": ratios}));
}

/// Threads of the engine that has just computed go on looking for work for a while, on the cores that the other needs.
fn rest() {
    std::thread::sleep(REST);
}

fn figure(figures: &mut Map<String, Value>, name: &str, value: f64) {
    figures.insert(name.into(), json!((value * 100.0).round() / 100.0));
}

fn show(samples: &[f64]) -> String {
    samples.iter().map(|sample| format!("{sample:.1}")).collect::<Vec<_>>().join(" ")
}

fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    samples
}

/// The share of tokens a second that the gateway costs.
fn against_the_worker(client: &mut Client, server: &Server, rounds: usize, figures: &mut Map<String, Value>) -> f64 {
    client.import_starter();
    let price = json!({"input_micros": 1, "cached_micros": 1, "output_micros": 1});
    let wish = json!({"name": "base", "version": "starter", "slots": 0, "context_tokens": 0, "price": price});
    let view = client.ask(json!({"publish": wish}));
    client.wait_for_service("base");
    let number = |field: &str| view["record"][field].as_u64().expect("a number") as u32;
    let mut worker = Worker::start(number("slots"), number("context_tokens"));
    let mut author = Author::default();
    // The first of each is slower: memory is touched, pages are mapped.
    burst(server, &author.bodies("base", Load::Short, CLIENTS));
    worker.burst(&author.bodies("base", Load::Short, CLIENTS));
    let (mut through, mut alone) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each goes first in every second round.
        for turn in [round % 2, 1 - round % 2] {
            rest();
            let bodies = author.bodies("base", Load::Short, CLIENTS);
            match turn {
                0 => through.push(burst(server, &bodies).rate()),
                _ => {
                    let told = worker.burst(&bodies);
                    alone.push(told.tokens as f64 / told.seconds);
                }
            }
        }
    }
    let cost = 1.0 - median(&through) / median(&alone);
    println!("\n{CLIENTS} clients, {} tokens each, answer tok/s with prompts", client::ANSWER_TOKENS);
    println!("the worker alone (the limit)  {:>7.1}   raw {}", median(&alone), show(&alone));
    println!("through the gateway           {:>7.1}   raw {}", median(&through), show(&through));
    println!("the gateway costs {:.1} %", cost * 100.0);
    figure(figures, "tokens_per_s_16", median(&through));
    figure(figures, "worker_alone_tokens_per_s_16", median(&alone));
    let (mut through, mut alone) = (Vec::new(), Vec::new());
    for round in 0..FIRSTS {
        for turn in [round % 2, 1 - round % 2] {
            rest();
            let mut bodies = author.bodies("base", Load::Short, 1);
            bodies[0]["max_tokens"] = json!(1);
            match turn {
                0 => through.push(burst(server, &bodies).first_ms()),
                _ => alone.push(worker.burst(&bodies).first_ms[0]),
            }
        }
    }
    let (through, alone) = (sorted(through), sorted(alone));
    println!("\nfirst token of {FIRSTS} single requests, ms: p50, p95");
    for (name, samples) in [("the worker alone", &alone), ("through the gateway", &through)] {
        println!("{name:<20} {:>6.1} {:>6.1}", Calls::of(samples, 50), Calls::of(samples, 95));
    }
    figure(figures, "ttft_added_p50_ms", Calls::of(&through, 50) - Calls::of(&alone, 50));
    figure(figures, "ttft_added_p95_ms", Calls::of(&through, 95) - Calls::of(&alone, 95));
    // Neither computes while tiny calls are measured.
    client.ask(json!({"set_service": {"name": "base", "wanted": false}}));
    cost
}

/// Tiny calls through hone, through litellm, and at the server itself.
fn tiny_calls(
    client: &mut Client,
    server: &Server,
    litellm: &str,
    figures: &mut Map<String, Value>,
    ratios: &mut Map<String, Value>,
) {
    let upstream = tiny::serve();
    let price = json!({"input_micros": 1, "cached_micros": null, "output_micros": 1});
    let url = format!("http://{upstream}/v1");
    let wish = json!({"url": url, "model": "tiny", "key": "sk-bench", "plain_http": ""});
    client.ask(json!({"publish_upstream":
        {"name": "tiny", "upstream": wish, "slots": 256, "context_tokens": 0, "price": price}}));
    client.wait_for_service("tiny");
    let peer = Litellm::start(litellm, &upstream);
    println!("\n{RATE} tiny calls a second for {} s over {CONNECTIONS} connections", HOLD.as_secs());
    println!("                     calls/s  errors   due: p50     p99   sent: p50     p99  ms");
    let warm = Duration::from_secs(2);
    let all = [
        ("the server itself", upstream.as_str(), "none", "direct"),
        ("hone", server.address.as_str(), server.key.as_str(), "hone"),
        ("litellm", peer.address.as_str(), Litellm::KEY, "litellm"),
    ];
    for (name, address, key, word) in all {
        tiny::call(address, key, 100.0, warm);
        let calls = tiny::call(address, key, RATE, HOLD);
        let ms = |samples: &[f64], percent| Calls::of(samples, percent);
        println!(
            "{name:<18} {:>9.1} {:>7} {:>10.2} {:>7.2} {:>10.2} {:>8.2}",
            calls.rate,
            calls.errors,
            ms(&calls.due_ms, 50),
            ms(&calls.due_ms, 99),
            ms(&calls.sent_ms, 50),
            ms(&calls.sent_ms, 99)
        );
        figure(figures, &format!("{word}_calls_per_s"), calls.rate);
        figure(figures, &format!("{word}_p50_ms"), ms(&calls.due_ms, 50));
        figure(figures, &format!("{word}_p99_ms"), ms(&calls.due_ms, 99));
        figure(figures, &format!("{word}_sent_p99_ms"), ms(&calls.sent_ms, 99));
        figure(figures, &format!("{word}_errors"), calls.errors as f64);
    }
    let ratio = |name: &str| figures[name].as_f64().unwrap_or(0.0);
    let held = ratio("hone_calls_per_s") / RATE;
    let beside = ratio("hone_calls_per_s") / ratio("litellm_calls_per_s");
    ratios.insert("tiny_calls_held".into(), json!((held * 1000.0).round() / 1000.0));
    ratios.insert("tiny_calls_vs_litellm".into(), json!((beside * 1000.0).round() / 1000.0));
    let rows = client.ask(json!({"usage": {"application": "bench", "service": "tiny", "by": [], "from": "", "to": "",
        "count": 10, "after": ""}}));
    println!("metered: {} requests of tiny", rows["total"]["requests"]);
}

/// litellm's proxy with the same server behind it.
struct Litellm {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Litellm {
    const KEY: &str = "sk-litellm";

    fn start(program: &str, upstream: &str) -> Litellm {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config.yaml");
        let text = format!(
            "model_list:\n  - model_name: tiny\n    litellm_params:\n      model: openai/tiny\n      api_base: http://{upstream}/v1\n      api_key: sk-bench\ngeneral_settings:\n  master_key: {}\n",
            Litellm::KEY
        );
        std::fs::write(&config, text).expect("a file");
        let version = Command::new(program).arg("--version").output().expect("litellm is there");
        println!("\npeer: {}", String::from_utf8_lossy(&version.stdout).trim().replace('\n', " "));
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let workers = std::thread::available_parallelism().map_or(2, usize::from).to_string();
        let process = Command::new(program)
            .args(["--host", "127.0.0.1", "--num_workers", &workers, "--port", &port.to_string(), "--config"])
            .arg(&config)
            .env("LITELLM_LOG", "ERROR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("litellm starts");
        let address = format!("127.0.0.1:{port}");
        let begun = Instant::now();
        let peer = Litellm { process, address, _folder: folder };
        wait_until("litellm listens", || TcpStream::connect(&peer.address).ok());
        wait_until("litellm answers", || {
            let calls =
                std::panic::catch_unwind(|| tiny::call(&peer.address, Litellm::KEY, 20.0, Duration::from_millis(900)));
            calls.is_ok_and(|calls| calls.errors == 0).then_some(())
        });
        println!("litellm answered after {:.0} s", begun.elapsed().as_secs_f64());
        peer
    }
}

impl Drop for Litellm {
    fn drop(&mut self) {
        // Its workers are of its group.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.process.wait();
    }
}
