//! The load: prompts of a wanted length, clients that ask at the same moment, and when each token came. Never here:
//! servers, and what a figure means.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Instant;

use hone_tests::PATIENCE;
use serde_json::{Value, json};

/// Tokens of each answer.
pub(crate) const ANSWER_TOKENS: u64 = 64;
/// Tokens that end an answer of the starter (`<|endoftext|>`, `<|im_start|>`, `<|im_end|>`): never chosen, so that all
/// answers are equally long.
const ENDS: [&str; 3] = ["0", "1", "2"];
/// Words that are one token each for the starter, with a space before.
const WORDS: [&str; 32] = [
    "river", "bread", "planet", "music", "water", "summer", "desert", "bridge", "light", "garden", "engine", "book",
    "mountain", "city", "castle", "market", "winter", "family", "village", "stone", "forest", "animal", "history",
    "island", "school", "doctor", "table", "window", "paper", "friend", "morning", "color",
];

/// Where to ask.
#[derive(Clone)]
pub(crate) struct Server {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Bearer key.
    pub(crate) key: String,
}

/// What clients ask for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// 32 tokens in, nothing shared but the template's own words.
    Short,
    /// 1,024 tokens in.
    Long,
    /// 932 tokens in, of which 900 are the same for all clients of a burst and new to the server.
    Shared,
    /// As short, at random, in free text: what `Json` is compared with.
    Free,
    /// As `Free`, kept to a JSON schema.
    Json,
}

impl Load {
    /// Its name in tables and figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Short => "short",
            Load::Long => "long",
            Load::Shared => "shared",
            Load::Free => "free",
            Load::Json => "json",
        }
    }
}

/// One answer as its client saw it.
pub(crate) struct Told {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u64,
    /// Of them found in a cache.
    pub(crate) cached_tokens: u64,
    /// Tokens of the answer.
    pub(crate) completion_tokens: u64,
    /// When each piece of text came, in milliseconds after the burst began.
    pub(crate) arrivals_ms: Vec<f64>,
    /// The answer.
    pub(crate) text: String,
}

/// All clients of one moment.
pub(crate) struct Burst {
    /// Their answers.
    pub(crate) told: Vec<Told>,
    /// From the first request to the last byte.
    pub(crate) seconds: f64,
}

impl Burst {
    /// Answer tokens per second, prompts included.
    pub(crate) fn rate(&self) -> f64 {
        self.told.iter().map(|t| t.completion_tokens).sum::<u64>() as f64 / self.seconds
    }

    /// Answer tokens per second while all clients were being answered: from the last first token to the first last one.
    pub(crate) fn decode_rate(&self) -> f64 {
        let from = self.told.iter().map(|t| t.arrivals_ms[0]).fold(0.0, f64::max);
        let to = self.told.iter().map(|t| *t.arrivals_ms.last().expect("an answer")).fold(f64::MAX, f64::min);
        let tokens: f64 = self.told.iter().map(|t| t.between(from, to)).sum();
        tokens / ((to - from) / 1e3)
    }

    /// Median time to the first token, in milliseconds.
    pub(crate) fn first_ms(&self) -> f64 {
        median(&self.told.iter().map(|t| t.arrivals_ms[0]).collect::<Vec<_>>())
    }

    /// The longest wait of any client between two pieces of its answer, in milliseconds.
    pub(crate) fn stall_ms(&self) -> f64 {
        self.told.iter().map(Told::stall_ms).fold(0.0, f64::max)
    }
}

impl Told {
    /// Tokens that came after `from` and up to `to`; pieces count as equally many tokens.
    fn between(&self, from: f64, to: f64) -> f64 {
        let pieces = self.arrivals_ms.iter().filter(|&&at| at > from && at <= to).count();
        pieces as f64 * self.completion_tokens as f64 / self.arrivals_ms.len() as f64
    }

    /// The longest wait between two pieces, in milliseconds.
    pub(crate) fn stall_ms(&self) -> f64 {
        self.arrivals_ms.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
    }
}

/// Makes requests that no server has seen before.
#[derive(Default)]
pub(crate) struct Author {
    written: u64,
}

impl Author {
    /// So many words, different from all before.
    fn words(&mut self, count: usize) -> String {
        self.written += 1;
        let mut seed = self.written.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut word = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            WORDS[(seed >> 33) as usize % WORDS.len()]
        };
        (0..count).map(|_| word()).collect::<Vec<_>>().join(" ")
    }

    /// The bodies of a burst.
    pub(crate) fn bodies(&mut self, model: &str, load: Load, clients: usize) -> Vec<Value> {
        let common = if load == Load::Shared { self.words(890) } else { String::new() };
        (0..clients).map(|_| self.body(model, load, &common)).collect()
    }

    fn body(&mut self, model: &str, load: Load, common: &str) -> Value {
        // The template's own words are about 30 tokens: the rest makes the wanted length.
        let own = self.words(if load == Load::Long { 1_000 } else { 12 });
        let bias: serde_json::Map<String, Value> = ENDS.iter().map(|end| ((*end).to_owned(), json!(-100))).collect();
        let mut body = json!({
            "model": model, "stream": true, "stream_options": {"include_usage": true}, "temperature": 0,
            "max_tokens": ANSWER_TOKENS, "logit_bias": bias,
            "messages": [{"role": "user", "content": format!("{common} {own}").trim_start()}],
        });
        if matches!(load, Load::Free | Load::Json) {
            body["temperature"] = json!(0.8);
            body["seed"] = json!(self.written);
        }
        if load == Load::Json {
            let person = json!({
                "type": "object", "additionalProperties": false, "required": ["name", "age", "city", "friends"],
                "properties": {
                    "name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"},
                    "friends": {"type": "array", "items": {"type": "string"}, "minItems": 40},
                },
            });
            body["response_format"] =
                json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": person}});
        }
        body
    }
}

/// Lets one client per body ask at the same moment.
pub(crate) fn burst(server: &Server, bodies: &[Value]) -> Burst {
    let start = Barrier::new(bodies.len() + 1);
    std::thread::scope(|scope| {
        let asked: Vec<_> = bodies
            .iter()
            .map(|body| {
                let (start, text) = (&start, body.to_string());
                scope.spawn(move || ask(server, &text, start))
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        let told = asked.into_iter().map(|thread| thread.join().expect("a client")).collect();
        Burst { told, seconds: begun.elapsed().as_secs_f64() }
    })
}

/// Asks and only reads: what is read is looked into afterwards, so that the load costs next to nothing.
fn ask(server: &Server, body: &str, start: &Barrier) -> Told {
    let Server { address, key } = server;
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("a socket option");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    start.wait();
    let asked = Instant::now();
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("the server reads");
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        lines.push((asked.elapsed().as_secs_f64() * 1e3, line.expect("the server answers in time")));
    }
    read(&lines)
}

fn read(lines: &[(f64, String)]) -> Told {
    let mut told =
        Told { prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, arrivals_ms: Vec::new(), text: String::new() };
    for (at, line) in lines {
        let Some(chunk) = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok()) else {
            continue;
        };
        assert!(chunk["error"].is_null(), "the server said {chunk}");
        if let Some(piece) = chunk["choices"][0]["delta"]["content"].as_str().filter(|piece| !piece.is_empty()) {
            told.arrivals_ms.push(*at);
            told.text.push_str(piece);
        }
        if let Some(usage) = chunk["usage"].as_object() {
            told.prompt_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
            told.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
            let details = usage.get("prompt_tokens_details");
            told.cached_tokens = details.and_then(|d| d["cached_tokens"].as_u64()).unwrap_or(0);
        }
    }
    assert!(
        !told.arrivals_ms.is_empty(),
        "no answer: {:?}",
        lines.iter().map(|(_, line)| line).take(12).collect::<Vec<_>>()
    );
    told
}

/// The middle one.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
