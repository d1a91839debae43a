//! Measures the whole endpoint (HTTP, metering, worker, engine) in its default layout against the engine's own plain
//! loop and against llama.cpp's server of the same engine. They take turns, so that all see the same moods of the machine.
//!
//! Arguments: the path of llama-server (see `tests/peers/llama_server.py`), `--rounds N`, and `--only PART,PART` of
//! engine, memory, peer, formats, stalls, adapters, start. Prints tables with the raw samples and, as its last line, one
//! line of JSON. Never here: what the engine alone does (`bench-serve-engine`).

mod client;
mod peers;

use std::time::Instant;

use client::{Author, Burst, Load, Server, burst, median};
use hone_tests::{Client, Daemon, children_of, train_spec};
use peers::{LlamaServer, ceiling, resident_mb};
use serde_json::{Map, Value, json};

const CLIENTS: [usize; 3] = [1, 4, 16];
/// Long prompts that arrive while a stream is watched.
const ARRIVALS: usize = 4;

/// A part of the bench by its word.
type Part = (&'static str, fn(&mut Bench));

/// What is measured, in this order.
const PARTS: [Part; 7] = [
    ("engine", Bench::against_the_engine),
    ("memory", Bench::memory),
    ("peer", Bench::against_llama_server),
    ("formats", Bench::formats),
    ("stalls", Bench::stalls),
    ("adapters", Bench::adapters),
    ("start", Bench::start),
];

/// Figures and ratios as they are found.
#[derive(Default)]
struct Found {
    figures: Map<String, Value>,
    ratios: Map<String, Value>,
}

impl Found {
    fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), json!((value * 10.0).round() / 10.0));
    }

    fn ratio(&mut self, name: impl Into<String>, value: f64) {
        self.ratios.insert(name.into(), json!((value * 1000.0).round() / 1000.0));
    }
}

/// The running endpoint, and what asks it.
struct Bench {
    daemon: Daemon,
    client: Client,
    server: Server,
    author: Author,
    llama: String,
    rounds: usize,
    /// Services that are on.
    services: Vec<&'static str>,
    found: Found,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let llama =
        args.first().expect("the first argument is the path of llama-server: `make bench-serve` gives it").clone();
    let option = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let rounds = option("--rounds").map_or(5, |n| n.parse().expect("a number of rounds"));
    let only = option("--only").cloned();
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let price = json!({"input_micros": 1, "cached_micros": 1, "output_micros": 1});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": 0, "context_tokens": 0, "price": price}}),
    );
    client.ask(json!({"set_application": {"name": "bench", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "bench", "label": ""}}));
    let key = key["secret"].as_str().expect("a secret").to_owned();
    client.wait_for_service("base");
    let server = Server { address: daemon.http(), key };
    let mut bench = Bench {
        daemon,
        client,
        server,
        author: Author::default(),
        llama,
        rounds,
        services: vec!["base"],
        found: Found::default(),
    };
    println!("greedy, {} tokens out, medians of {rounds} interleaved rounds, {}", client::ANSWER_TOKENS, cores());
    bench.ask(Load::Short, 1);
    for (name, part) in PARTS {
        if only.as_ref().is_none_or(|only| only.split(',').any(|wanted| wanted == name)) {
            part(&mut bench);
        }
    }
    println!("{}", json!({"bench": "serve", "figures": bench.found.figures, "ratios": bench.found.ratios}));
}

impl Bench {
    /// A burst of new requests at hone's endpoint.
    fn ask(&mut self, load: Load, clients: usize) -> Burst {
        burst(&self.server, &self.author.bodies("base", load, clients))
    }

    /// Short requests: what the endpoint decodes beside the engine's plain loop over as many sequences.
    fn against_the_engine(&mut self) {
        let prompt = self.ask(Load::Short, 1).told[0].prompt_tokens;
        println!("\nshort, {prompt} tokens in: the endpoint and the engine's own loop");
        println!(
            "clients  decode tok/s  ceiling  ratio  with prompts  ceiling  ratio  first token ms   raw decode | raw ceiling"
        );
        for clients in CLIENTS {
            let (mut own, mut top, mut job, mut whole, mut first) = (vec![], vec![], vec![], vec![], vec![]);
            for _ in 0..self.rounds {
                let most = ceiling(clients, prompt);
                let burst = self.ask(Load::Short, clients);
                own.push(burst.decode_rate());
                job.push(burst.rate());
                first.push(burst.first_ms());
                top.push(most.decode);
                whole.push(most.whole);
            }
            let (ratio, job_ratio) = (ratio(&own, &top), ratio(&job, &whole));
            println!(
                "{clients:>7}  {:>12.1}  {:>7.1}  {ratio:>5.3}  {:>12.1}  {:>7.1}  {job_ratio:>5.3}  {:>14.0}   {} | {}",
                median(&own),
                median(&top),
                median(&job),
                median(&whole),
                median(&first),
                show(&own),
                show(&top)
            );
            self.found.figure(format!("decode_{clients}"), median(&own));
            self.found.figure(format!("decode_ceiling_{clients}"), median(&top));
            self.found.figure(format!("first_token_ms_{clients}"), median(&first));
            self.found.ratio(format!("decode_vs_engine_{clients}"), ratio);
            self.found.ratio(format!("job_vs_engine_{clients}"), job_ratio);
        }
    }

    /// Resident memory after sixteen clients were answered at once.
    fn memory(&mut self) {
        self.ask(Load::Short, 16);
        let mut pids = vec![self.daemon.process.id()];
        pids.extend(children_of(pids[0]));
        let sum: f64 = pids.iter().map(|&pid| resident_mb(pid)).sum();
        println!("\nresident after 16 clients: {sum:.0} MB, daemon and worker together");
        self.found.figure("rss_16_slots_mb", sum);
    }

    /// The same loads at llama-server with as many slots as clients, and at its defaults.
    fn against_llama_server(&mut self) {
        println!("\nhone and llama-server, answer tok/s with prompts");
        println!(
            "load    clients   hone  llama-server  ratio  first token ms, hone | llama-server   raw hone | raw llama-server"
        );
        for clients in CLIENTS {
            let peer = LlamaServer::start(&self.llama, Some(clients));
            burst(&peer.server, &self.author.bodies("base", Load::Short, 1));
            for load in [Load::Short, Load::Shared, Load::Json, Load::Long] {
                let rounds = if load == Load::Long { 1 } else { self.rounds };
                let ratio = self.compare(&peer, load, clients, rounds, load.name());
                self.found.ratio(format!("{}_vs_llama_server_{clients}", load.name()), ratio);
            }
            if clients == 16 {
                self.found.figure("llama_server_rss_16_slots_mb", peer.resident_mb());
            }
        }
        let peer = LlamaServer::start(&self.llama, None);
        burst(&peer.server, &self.author.bodies("base", Load::Short, 1));
        let ratio = self.compare(&peer, Load::Short, 16, self.rounds, "default");
        self.found.ratio("default_16_clients_vs_llama_server_default", ratio);
    }

    fn compare(&mut self, peer: &LlamaServer, load: Load, clients: usize, rounds: usize, name: &str) -> f64 {
        let (mut own, mut theirs, mut own_first, mut their_first) = (vec![], vec![], vec![], vec![]);
        for _ in 0..rounds {
            let burst = self.ask(load, clients);
            own.push(burst.rate());
            own_first.push(burst.first_ms());
            let burst = client::burst(&peer.server, &self.author.bodies("base", load, clients));
            theirs.push(burst.rate());
            their_first.push(burst.first_ms());
        }
        let ratio = ratio(&own, &theirs);
        println!(
            "{name:<7} {clients:>7} {:>6.1}  {:>12.1}  {ratio:>5.3}  {:>20.0} | {:<12.0}   {} | {}",
            median(&own),
            median(&theirs),
            median(&own_first),
            median(&their_first),
            show(&own),
            show(&theirs)
        );
        self.found.figure(format!("{name}_{clients}"), median(&own));
        ratio
    }

    /// What a JSON schema costs, against the same sampling in free text.
    fn formats(&mut self) {
        for clients in [1, 4] {
            let (mut free, mut kept) = (vec![], vec![]);
            for _ in 0..self.rounds {
                free.push(self.ask(Load::Free, clients).decode_rate());
                kept.push(self.ask(Load::Json, clients).decode_rate());
            }
            let cost = 1.0 - ratio(&kept, &free);
            println!(
                "\na JSON schema at {clients} clients costs {:.1} % of decoding   raw kept {} | raw free {}",
                cost * 100.0,
                show(&kept),
                show(&free)
            );
            self.found.ratio(if clients == 1 { "json_cost".into() } else { format!("json_cost_{clients}") }, cost);
        }
    }

    /// The longest wait of a running stream while long prompts come in one after the other.
    fn stalls(&mut self) {
        let own = self.watched("base", "base");
        let server = self.server.clone();
        let peer = LlamaServer::start(&self.llama, Some(4));
        self.server = peer.server.clone();
        burst(&self.server, &self.author.bodies("base", Load::Short, 1));
        let theirs = self.watched("base", "base");
        self.server = server;
        println!(
            "\n{ARRIVALS} prompts of 1,024 tokens arrive: a running stream waits at most {own:.0} ms; at llama-server {theirs:.0} ms"
        );
        self.found.figure("stall_max_ms", own);
        self.found.figure("llama_server_stall_max_ms", theirs);
    }

    /// Watches a stream of `watched` while long prompts go to `busy`.
    fn watched(&mut self, watched: &str, busy: &str) -> f64 {
        let mut stream = self.author.bodies(watched, Load::Short, 1);
        stream[0]["max_tokens"] = json!(400);
        let mut long = self.author.bodies(busy, Load::Long, ARRIVALS);
        for body in &mut long {
            body["max_tokens"] = json!(4);
        }
        let server = &self.server;
        std::thread::scope(|scope| {
            let watched = scope.spawn(|| burst(server, &stream));
            for body in long {
                burst(server, &[body]);
            }
            watched.join().expect("a client").stall_ms()
        })
    }

    /// Two adapters of one base at once: their speed beside one adapter's, waits, and the same answers as alone.
    fn adapters(&mut self) {
        self.client.import_rows();
        let price = json!({"input_micros": 1, "cached_micros": 1, "output_micros": 1});
        for name in ["first", "second"] {
            let mut spec = train_spec(4, json!({"model": name, "alias": "", "publish": ""}));
            spec["train"]["params"]["seed"] = json!(name.len());
            self.client.job(spec);
            self.client.ask(
                json!({"publish": {"name": name, "version": name, "slots": 0, "context_tokens": 0, "price": price}}),
            );
            self.client.wait_for_service(name);
            self.services.push(name);
            burst(&self.server, &self.author.bodies(name, Load::Short, 1));
        }
        let (mut one, mut two, mut equal, mut asked) = (vec![], vec![], 0, 0);
        for _ in 0..self.rounds {
            one.push(burst(&self.server, &self.author.bodies("first", Load::Short, 4)).rate());
            let mut both = self.author.bodies("first", Load::Short, 2);
            both.extend(self.author.bodies("second", Load::Short, 2));
            two.push(burst(&self.server, &both).rate());
            let pair =
                [self.author.bodies("first", Load::Short, 1), self.author.bodies("second", Load::Short, 1)].concat();
            let alone: Vec<String> =
                pair.iter().map(|body| burst(&self.server, std::slice::from_ref(body)).told[0].text.clone()).collect();
            let together = burst(&self.server, &pair);
            equal += together.told.iter().zip(&alone).filter(|(told, alone)| told.text == **alone).count();
            asked += pair.len();
        }
        let stall = self.watched("first", "second");
        println!(
            "\ntwo adapters at 2 clients each: {:.1} tok/s, one at 4: {:.1}; {equal} of {asked} answers as alone; a stream of one waits at most {stall:.0} ms for the other's long prompts",
            median(&two),
            median(&one)
        );
        assert_eq!(equal, asked, "an adapter answers otherwise beside another one");
        self.found.ratio("two_adapters_vs_one", ratio(&two, &one));
        self.found.figure("two_adapters_stall_max_ms", stall);
    }

    /// From turning a service on, its file in the page cache, to its first token.
    fn start(&mut self) {
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            for name in &self.services {
                self.client.ask(json!({"set_service": {"name": name, "wanted": false}}));
            }
            let begun = Instant::now();
            self.client.ask(json!({"set_service": {"name": "base", "wanted": true}}));
            self.client.wait_for_service("base");
            let ready_ms = begun.elapsed().as_secs_f64() * 1e3;
            times.push(ready_ms + self.ask(Load::Short, 1).first_ms());
        }
        println!("\nfrom off to the first token: {:.0} ms   raw {}", median(&times), show(&times));
        self.found.figure("start_to_first_token_ms", median(&times));
    }
}

/// The median of the quotients of samples that were taken side by side.
fn ratio(own: &[f64], other: &[f64]) -> f64 {
    median(&own.iter().zip(other).map(|(own, other)| own / other).collect::<Vec<_>>())
}

fn show(samples: &[f64]) -> String {
    samples.iter().map(|s| format!("{s:.1}")).collect::<Vec<_>>().join(" ")
}

fn cores() -> String {
    format!("{} cores", std::thread::available_parallelism().map_or(0, usize::from))
}
