//! Measures the serving engine against its ceiling on one model: a plain `llama_decode` loop without
//! sampling, text or scheduling, in the same process, interleaved with our engine.
//!
//! Prints a table with the raw samples and, as its last line, one line of JSON. What never lives
//! here: HTTP (see the bench of the whole endpoint).

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use hone_kernels::serve::llama::{Batch, Context, ContextParams, Model, ThreadPool};
use hone_kernels::serve::threads::physical_cores;
use hone_kernels::serve::{Engine, EngineEvent, EngineParams, GenRequest, KvType, Sampling};

const STARTER: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const CLIENTS: [usize; 3] = [1, 4, 16];
const SLOTS: usize = 16;
const SLOT_TOKENS: u32 = 2048;
const PROMPT_TOKENS: usize = 32;
const ANSWER_TOKENS: usize = 64;
/// Length of the prompt that arrives while others are being answered.
const LONG_PROMPT_TOKENS: usize = 1024;
/// Tokens that all prompts of the shared workload have in common.
const SHARED_TOKENS: usize = 900;

struct Options {
    model: PathBuf,
    rounds: usize,
    threads: usize,
    /// Only the plain loop with so many sequences: two figures, for the bench of the whole endpoint.
    ceiling: Option<usize>,
    prompt: usize,
    answer: usize,
    clients: Vec<usize>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        model: default_model(),
        rounds: 3,
        threads: physical_cores(),
        ceiling: None,
        prompt: PROMPT_TOKENS,
        answer: ANSWER_TOKENS,
        clients: CLIENTS.to_vec(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--model" => options.model = value()?.into(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--threads" => options.threads = value()?.parse()?,
            "--ceiling" => options.ceiling = Some(value()?.parse()?),
            "--prompt" => options.prompt = value()?.parse()?,
            "--answer" => options.answer = value()?.parse()?,
            "--clients" => options.clients = vec![value()?.parse()?],
            _ => {
                let known = "--model --rounds --threads --ceiling --prompt --answer --clients";
                return Err(format!("unknown argument {arg}; known: {known}").into());
            }
        }
    }
    if !options.model.is_file() {
        return Err(format!("{} is missing\nhint: set HONE_ASSETS or --model", options.model.display()).into());
    }
    Ok(options)
}

fn default_model() -> PathBuf {
    let folder = std::env::var_os("HONE_ASSETS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").unwrap_or_default();
        PathBuf::from(home).join(".cache/hone/assets")
    });
    folder.join(STARTER)
}

/// Output tokens per second of a plain loop: all prompts in as few batches as hold them, then a batch of one token per
/// sequence for each further token of the answer. With the prompts, and without.
fn ceiling(
    context: &mut Context,
    batch: &mut Batch,
    sequences: usize,
    prompt: usize,
    answer: usize,
) -> Result<(f64, f64), Box<dyn Error>> {
    context.clear();
    let started = Instant::now();
    batch.clear();
    for slot in 0..sequences {
        if batch.len() + prompt > context.params().batch_tokens_max as usize {
            context.decode(batch)?;
            batch.clear();
        }
        for position in 0..prompt {
            batch.add(slot as u32, position, 100 + position as i32, position + 1 == prompt);
        }
    }
    context.decode(batch)?;
    // Reading waits for what is computed aside.
    context.logits(batch.len() - 1).ok_or("no logits")?;
    let prompted = Instant::now();
    for step in 0..answer - 1 {
        batch.clear();
        for slot in 0..sequences {
            batch.add(slot as u32, prompt + step, 500 + step as i32, true);
        }
        context.decode(batch)?;
    }
    context.logits(0).ok_or("no logits")?;
    let whole = (sequences * answer) as f64 / started.elapsed().as_secs_f64();
    Ok((whole, (sequences * (answer - 1)) as f64 / prompted.elapsed().as_secs_f64()))
}

/// Prompts that share nothing: a fresh scope and a fresh first token each.
struct Requests {
    next: u64,
}

impl Requests {
    fn make(&mut self, tokens: Vec<i32>, answer: usize, scope: u64) -> GenRequest {
        self.next += 1;
        let mut cache_scope = [0; 32];
        cache_scope[..8].copy_from_slice(&scope.to_le_bytes());
        GenRequest {
            limit: None,
            chances: None,
            echo: false,
            id: self.next,
            adapter: None,
            tokens,
            sampling: Sampling::greedy(),
            stop: vec!["<never>".into()],
            max_tokens: answer as u32,
            cache_scope,
            ignore_end: true,
        }
    }

    fn of(&mut self, prompt: usize, answer: usize) -> GenRequest {
        let first = 100 + (self.next % 1000) as i32;
        let tokens = (0..prompt as i32).map(|i| first + i * 7).collect();
        self.make(tokens, answer, self.next + 1)
    }
}

/// Output tokens per second of `clients` requests submitted together, prompts and text included.
fn ours(
    engine: &mut Engine,
    requests: &mut Requests,
    clients: usize,
    options: &Options,
) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    for _ in 0..clients {
        engine.submit(requests.of(options.prompt, options.answer))?;
    }
    let events = finish(engine);
    let sampled: u32 = events
        .iter()
        .map(|e| match e {
            EngineEvent::Finished { sampled_tokens, .. } => *sampled_tokens,
            _ => 0,
        })
        .sum();
    if sampled as usize != clients * options.answer {
        return Err(format!("{sampled} tokens instead of {}", clients * options.answer).into());
    }
    Ok(f64::from(sampled) / started.elapsed().as_secs_f64())
}

fn finish(engine: &mut Engine) -> Vec<EngineEvent> {
    let mut events = Vec::new();
    while engine.step(&mut events) {}
    events
}

/// Longest wait of a running stream between two of its tokens while a long prompt comes in, in
/// milliseconds; and how long that prompt took to its first token.
fn stall(engine: &mut Engine, requests: &mut Requests) -> Result<(f64, f64), Box<dyn Error>> {
    let watched = requests.of(PROMPT_TOKENS, ANSWER_TOKENS);
    let watched_id = watched.id;
    engine.submit(watched)?;
    let mut events = Vec::new();
    for _ in 0..8 {
        engine.step(&mut events);
    }
    let long = (0..LONG_PROMPT_TOKENS as i32).map(|i| 300 + i % 2000).collect();
    let long = requests.make(long, 8, 1 << 40 | requests.next);
    let long_id = long.id;
    engine.submit(long)?;
    let arrived = Instant::now();
    let (mut last, mut worst, mut first) = (Instant::now(), 0.0_f64, 0.0);
    loop {
        events.clear();
        let more = engine.step(&mut events);
        let of = |wanted: u64| events.iter().any(|e| matches!(e, EngineEvent::Piece { id, .. } if *id == wanted));
        if of(watched_id) {
            worst = worst.max(last.elapsed().as_secs_f64() * 1e3);
            last = Instant::now();
        }
        if of(long_id) && first == 0.0 {
            first = arrived.elapsed().as_secs_f64() * 1e3;
        }
        if !more {
            return Ok((worst, first));
        }
    }
}

/// Output tokens per second of `clients` requests whose first `SHARED_TOKENS` tokens are the same,
/// none of them cached before.
fn shared(engine: &mut Engine, requests: &mut Requests, clients: usize) -> Result<f64, Box<dyn Error>> {
    let scope = 1 << 50 | requests.next;
    let started = Instant::now();
    for client in 0..clients as i32 {
        let common = (0..SHARED_TOKENS as i32).map(|i| 900 + i);
        let tokens = common.chain((0..PROMPT_TOKENS as i32).map(|i| 9000 + client * 40 + i));
        let request = requests.make(tokens.collect(), ANSWER_TOKENS, scope);
        engine.submit(request)?;
    }
    finish(engine);
    Ok((clients * ANSWER_TOKENS) as f64 / started.elapsed().as_secs_f64())
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn show(samples: &[f64]) -> String {
    let texts: Vec<String> = samples.iter().map(|s| format!("{s:.1}")).collect();
    texts.join(" ")
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let model = Model::load(&options.model)?;
    let wanted = ContextParams {
        slots: SLOTS as u32,
        tokens_per_slot: SLOT_TOKENS,
        batch_tokens_max: 2048,
        graph_tokens_max: 512,
        outputs_max: SLOTS as u32,
        threads: options.threads,
        kv_type: KvType::F16,
        embeds: false,
    };
    let pool = ThreadPool::new(options.threads);
    let mut context = Context::new(&model, None, pool, wanted)?;
    let mut batch = Batch::default();
    if let Some(sequences) = options.ceiling {
        ceiling(&mut context, &mut batch, sequences, options.prompt, 8)?;
        let (whole, decode) = ceiling(&mut context, &mut batch, sequences, options.prompt, options.answer)?;
        println!("{whole:.2} {decode:.2}");
        return Ok(());
    }
    let started = Instant::now();
    let mut engine = Engine::load(EngineParams {
        slots: SLOTS,
        context_tokens_per_slot: SLOT_TOKENS,
        threads: Some(options.threads),
        ..EngineParams::new(&options.model)
    })?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut requests = Requests { next: 0 };
    println!(
        "model {}  threads {}  {} in / {} out, greedy, medians of {} interleaved rounds",
        options.model.display(),
        options.threads,
        options.prompt,
        options.answer,
        options.rounds
    );
    ceiling(&mut context, &mut batch, 1, options.prompt, options.answer)?;
    ours(&mut engine, &mut requests, 1, &options)?;
    let mut figures = Vec::new();
    let mut ratios = Vec::new();
    println!("clients  ceiling tok/s  ours tok/s  ratio   raw ceiling | raw ours");
    for &clients in &options.clients {
        let (mut top, mut own) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            top.push(ceiling(&mut context, &mut batch, clients, options.prompt, options.answer)?.0);
            own.push(ours(&mut engine, &mut requests, clients, &options)?);
        }
        let pairs: Vec<f64> = own.iter().zip(&top).map(|(o, t)| o / t).collect();
        let (top_median, own_median, ratio) = (median(&top), median(&own), median(&pairs));
        println!(
            "{clients:>7}  {top_median:>13.1}  {own_median:>10.1}  {ratio:>5.3}   {} | {}",
            show(&top),
            show(&own)
        );
        figures.push(format!("\"ceiling_{clients}\":{top_median:.1},\"ours_{clients}\":{own_median:.1}"));
        ratios.push(format!("\"ours_to_ceiling_{clients}\":{ratio:.3}"));
    }
    let (stall_ms, first_ms) = stall(&mut engine, &mut requests)?;
    println!(
        "a {LONG_PROMPT_TOKENS}-token prompt arrives: a running stream waits at most {stall_ms:.0} ms; its own first token after {first_ms:.0} ms"
    );
    let shared_tok_s = shared(&mut engine, &mut requests, 4)?;
    println!("4 clients sharing {SHARED_TOKENS} uncached tokens: {shared_tok_s:.1} output tok/s");
    println!("engine load {load_ms:.0} ms, prompt rate {:.0} tok/s", engine.stats().prompt_tokens_per_s);
    println!(
        "{{\"bench\":\"serve-engine\",\"figures\":{{{},\"stall_ms\":{stall_ms:.1},\"shared_4\":{shared_tok_s:.1},\"load_ms\":{load_ms:.0}}},\"ratios\":{{{}}}}}",
        figures.join(","),
        ratios.join(",")
    );
    Ok(())
}
