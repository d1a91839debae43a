//! `hone service bench`: how many clients a service carries, measured as clients see it, over its real endpoint with a key of an
//! application, whose requests are metered as any. Never here: HTTP itself (`stream.rs`).

use std::time::{Duration, Instant};

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::ShownState;
use hone_protocol::request::{Answer, Request};
use serde::Serialize;

use super::context::{Context, answer, surprise};
use super::stream::{self, Ask, Heard};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Most clients at once.
const CLIENTS_MAX: u32 = 256;
/// Tokens of prompts are taken from the ones below this, where every vocabulary has words; the first are often marks.
const TOKENS_BELOW: u64 = 4096;
/// See [`TOKENS_BELOW`].
const TOKENS_FROM: u64 = 300;

/// Measure how many clients a service carries at once.
///
/// Asks with 1, 2, 4, 8… clients at a time, each with a prompt of its own, and says with how many the first token
/// still comes in time and each client still gets its tokens per second. The requests are real: they are metered, and
/// paid by the application.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service bench desk --clients 16 --input-tokens 256 --output-tokens 64")]
pub(super) struct Bench {
    /// Name of the service.
    name: String,
    /// Most clients at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
    clients: u32,
    /// Tokens of each prompt.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    input_tokens: u32,
    /// Tokens of each answer.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    output_tokens: u32,
    /// Requests of each client, one after the other.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds within which the first token must come, for 95 of 100 requests.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    first_token_ms: u32,
    /// Tokens per second that the slowest client must get.
    #[arg(long, value_name = "N", default_value_t = 8.0)]
    tokens_per_s: f64,
    /// The application that asks and pays; made if it is not there.
    #[arg(long, value_name = "APP", default_value = "bench")]
    app: String,
}

/// What one number of clients came to. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Load {
    clients: u32,
    requests: usize,
    /// Tokens of answers per second, of all clients together.
    tokens_per_s: f64,
    /// Tokens per second of the slowest request, after its first token.
    slowest_tokens_per_s: f64,
    first_token_p50_ms: f64,
    first_token_p95_ms: f64,
    between_tokens_p50_ms: f64,
    between_tokens_p95_ms: f64,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Report {
    service: String,
    version: String,
    input_tokens: u32,
    output_tokens: u32,
    rounds: u32,
    first_token_ms: u32,
    tokens_per_s: f64,
    /// Other work of hone that ran meanwhile; figures are lower than they could be.
    beside: Vec<String>,
    loads: Vec<Load>,
    /// Most clients that it carries; 0 for none.
    carries: u32,
}

impl Bench {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let services = answer!(link.ask(Request::Services)?, Services);
        let found = services.iter().find(|service| service.record.name == self.name);
        let service = found.ok_or_else(|| Failure::not_found("service", &self.name))?;
        let needed = self.input_tokens + self.output_tokens;
        if needed > service.record.context_tokens {
            let most = service.record.context_tokens;
            let message =
                format!("{needed} tokens of prompt and answer do not fit into the service's context of {most}");
            return Err(Failure::field("input_tokens", message).into());
        }
        let version = service.version_reference.clone();
        let address = address(&mut link)?;
        let (key, secret) = self.key(&mut link)?;
        let mut beside = busy(&mut link, &self.name)?;
        let is_ours = service.record.upstream.is_none();
        let measured = self.measure(context, &address, &secret, is_ours);
        // The key goes whatever came of it.
        let revoked = link.ask(Request::RevokeKey { key });
        let loads = measured?;
        revoked?;
        beside.extend(busy(&mut link, &self.name)?);
        beside.sort();
        beside.dedup();
        let report = self.report(version, beside, loads);
        if context.json {
            return print::json(&report);
        }
        print::out(&table(context.language, &report.loads).render(print::colour()))?;
        print::out(&format!("{}\n", sentence(context.language, &report)))?;
        if !report.beside.is_empty() {
            context.say("cli.bench_beside", &[("what", &report.beside.join(", "))]);
        }
        Ok(())
    }

    /// A key of the application, which is made where it is missing.
    fn key(&self, link: &mut Link) -> Result<(hone_protocol::id::KeyId, String), Failure> {
        let applications = match link.ask(Request::Applications)? {
            Answer::Applications(applications) => applications,
            other => return Err(surprise(&other)),
        };
        if !applications.iter().any(|application| application.record.name == self.app) {
            let title = "hone service bench".to_owned();
            link.ask(Request::SetApplication { name: self.app.clone(), title, services: Vec::new(), priority: None })?;
        }
        let label = "hone service bench".to_owned();
        match link.ask(Request::CreateKey { application: self.app.clone(), label, expires_at_ms: None })? {
            Answer::Key { key, secret } => Ok((key, secret)),
            other => Err(surprise(&other)),
        }
    }

    fn measure(&self, context: &Context, address: &str, secret: &str, is_ours: bool) -> Result<Vec<Load>, Failure> {
        // Nobody here knows the vocabulary of a server elsewhere; all in use are larger.
        let vocabulary = match is_ours {
            true => {
                stream::get(address, secret, &format!("/tokenizer_info?model={}", self.name))?["vocab_size"].as_u64()
            }
            false => None,
        };
        let vocabulary = vocabulary.unwrap_or(TOKENS_BELOW);
        let mut prompts = Prompts { seed: 1, below: vocabulary.min(TOKENS_BELOW) };
        let ask = |tokens| Ask {
            address: address.to_owned(),
            secret: secret.to_owned(),
            service: self.name.clone(),
            tokens,
            output_tokens: self.output_tokens,
        };
        // The first request wakes what sleeps; it is not measured.
        stream::ask(&Ask { output_tokens: 2, ..ask(prompts.next(self.input_tokens)) })?;
        let mut loads = Vec::new();
        for clients in steps(self.clients) {
            context.say("cli.bench_clients", &[("n", &clients.to_string())]);
            let asks: Vec<Vec<Ask>> = (0..clients)
                .map(|_| (0..self.rounds).map(|_| ask(prompts.next(self.input_tokens))).collect())
                .collect();
            let began = Instant::now();
            let heard = all_at_once(asks)?;
            loads.push(load(clients, &heard, began.elapsed()));
        }
        Ok(loads)
    }

    fn report(&self, version: String, beside: Vec<String>, loads: Vec<Load>) -> Report {
        let carried = |load: &&Load| {
            load.first_token_p95_ms <= f64::from(self.first_token_ms) && load.slowest_tokens_per_s >= self.tokens_per_s
        };
        // Up to the first number of clients that is too many.
        let carries = loads.iter().take_while(carried).last().map_or(0, |load| load.clients);
        Report {
            service: self.name.clone(),
            version,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            rounds: self.rounds,
            first_token_ms: self.first_token_ms,
            tokens_per_s: self.tokens_per_s,
            beside,
            loads,
            carries,
        }
    }
}

/// 1, 2, 4, 8… and the last one itself.
fn steps(most: u32) -> Vec<u32> {
    let mut steps: Vec<u32> = (0..).map(|power| 1 << power).take_while(|clients| *clients < most).collect();
    steps.push(most);
    steps
}

/// Prompts of which no two begin alike, so that none is found in a cache. SplitMix64 (Steele, Lea, Flood 2014).
struct Prompts {
    seed: u64,
    below: u64,
}

impl Prompts {
    fn next(&mut self, tokens: u32) -> Vec<u32> {
        let from = TOKENS_FROM.min(self.below / 2);
        let token = |_| {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (from + (z ^ (z >> 31)) % (self.below - from).max(1)) as u32
        };
        (0..tokens).map(token).collect()
    }
}

/// Where HTTP listens on this machine.
fn address(link: &mut Link) -> Result<String, Failure> {
    let Answer::Status(status) = link.ask(Request::Status)? else {
        return Err(Failure::new(FailureCode::Internal, "the daemon did not say its status").hint(HintCode::ReportBug));
    };
    let address = status.http.iter().find_map(|address| address.strip_prefix("http://"));
    address.map(|address| address.trim_end_matches('/').to_owned()).ok_or_else(|| {
        Failure::new(FailureCode::WrongState, "HTTP listens on no address of this machine; hone status says why")
            .at("http")
    })
}

/// Work of hone that runs beside the measurement.
fn busy(link: &mut Link, service: &str) -> Result<Vec<String>, Failure> {
    let jobs = match link.ask(Request::Jobs { count: 100 })? {
        Answer::Jobs(jobs) => jobs,
        other => return Err(surprise(&other)),
    };
    let services = match link.ask(Request::Services)? {
        Answer::Services(services) => services,
        other => return Err(surprise(&other)),
    };
    let jobs = jobs.iter().filter(|job| job.shown == ShownState::Running);
    let jobs = jobs.map(|job| format!("{} {}", job.record.spec.kind(), job.record.id.short()));
    let asked = services.iter().filter(|other| other.record.name != service && other.active + other.waiting > 0);
    Ok(jobs.chain(asked.map(|other| format!("service {}", other.record.name))).collect())
}

/// Lets each list of questions be asked by a client of its own; all begin together.
fn all_at_once(asks: Vec<Vec<Ask>>) -> Result<Vec<Heard>, Failure> {
    let clients: Vec<_> = asks
        .into_iter()
        .map(|asks| std::thread::spawn(move || asks.iter().map(stream::ask).collect::<Result<Vec<_>, _>>()))
        .collect();
    let mut heard = Vec::new();
    for client in clients {
        let panicked = |_| Failure::new(FailureCode::Internal, "a client of the bench panicked");
        heard.extend(client.join().map_err(panicked)??);
    }
    Ok(heard)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The value that so many of a hundred do not pass, by the nearest rank.
fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

fn load(clients: u32, heard: &[Heard], wall: Duration) -> Load {
    let first: Vec<f64> = heard.iter().map(|one| ms(one.first)).collect();
    let between: Vec<f64> = heard.iter().flat_map(|one| &one.between).map(|time| ms(*time)).collect();
    let tokens: u64 = heard.iter().map(|one| one.completion_tokens).sum();
    let rate = |one: &Heard| {
        one.completion_tokens.saturating_sub(1) as f64 / one.total.saturating_sub(one.first).as_secs_f64().max(1e-6)
    };
    Load {
        clients,
        requests: heard.len(),
        tokens_per_s: tokens as f64 / wall.as_secs_f64().max(1e-6),
        slowest_tokens_per_s: heard.iter().map(rate).fold(f64::INFINITY, f64::min),
        first_token_p50_ms: percentile(first.clone(), 50),
        first_token_p95_ms: percentile(first, 95),
        between_tokens_p50_ms: percentile(between.clone(), 50),
        between_tokens_p95_ms: percentile(between, 95),
    }
}

fn table(language: Language, loads: &[Load]) -> Table {
    let keys = [
        "cli.col.clients",
        "cli.col.tokens_per_s",
        "cli.col.slowest",
        "cli.col.first_p50",
        "cli.col.first_p95",
        "cli.col.between_p50",
        "cli.col.between_p95",
    ];
    let mut table = Table::new(language, &keys);
    for load in loads {
        let one = |value: f64| Cell::number(format!("{value:.1}"));
        let whole = |value: f64| Cell::number(format!("{value:.0}"));
        table.row(vec![
            Cell::number(load.clients),
            one(load.tokens_per_s),
            one(load.slowest_tokens_per_s),
            whole(load.first_token_p50_ms),
            whole(load.first_token_p95_ms),
            one(load.between_tokens_p50_ms),
            one(load.between_tokens_p95_ms),
        ]);
    }
    table
}

fn sentence(language: Language, report: &Report) -> String {
    let numbers = [
        report.carries.to_string(),
        report.first_token_ms.to_string(),
        format!("{}", report.tokens_per_s),
        report.input_tokens.to_string(),
        report.output_tokens.to_string(),
    ];
    let args = [
        ("service", report.service.as_str()),
        ("n", &numbers[0]),
        ("ms", &numbers[1]),
        ("rate", &numbers[2]),
        ("input", &numbers[3]),
        ("output", &numbers[4]),
    ];
    catalogue::fill(language, if report.carries == 0 { "cli.bench_carries_none" } else { "cli.bench_carries" }, &args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(first_ms: u64, between_ms: u64, tokens: u64) -> Heard {
        let between = vec![Duration::from_millis(between_ms); tokens as usize - 1];
        let first = Duration::from_millis(first_ms);
        let total = first + between.iter().sum::<Duration>();
        Heard { first, between, total, prompt_tokens: 8, completion_tokens: tokens }
    }

    #[test]
    fn numbers_of_clients_double_up_to_the_last() {
        assert_eq!(steps(1), [1]);
        assert_eq!(steps(16), [1, 2, 4, 8, 16]);
        assert_eq!(steps(12), [1, 2, 4, 8, 12]);
    }

    #[test]
    fn no_two_prompts_begin_alike() {
        let mut prompts = Prompts { seed: 1, below: 4096 };
        let (one, two) = (prompts.next(64), prompts.next(64));
        assert_eq!((one.len(), two.len()), (64, 64));
        assert_ne!(one[..4], two[..4]);
        assert!(one.iter().all(|token| (300..4096).contains(token)), "{one:?}");
        assert!(Prompts { seed: 1, below: 2 }.next(9).iter().all(|token| *token < 2));
    }

    #[test]
    fn a_load_is_what_its_requests_heard_and_the_first_that_is_too_much_ends_what_is_carried() {
        assert_eq!(percentile((1..=100).map(f64::from).collect(), 95), 95.0);
        assert_eq!(percentile(vec![3.0], 50), 3.0);
        let one = load(1, &[heard(100, 50, 21)], Duration::from_millis(1100));
        assert!(
            (one.slowest_tokens_per_s - 20.0).abs() < 1e-9 && (one.tokens_per_s - 21.0 / 1.1).abs() < 1e-9,
            "{one:?}"
        );
        let two = load(2, &[heard(200, 100, 11), heard(1200, 100, 11)], Duration::from_secs(2));
        assert_eq!((two.first_token_p50_ms, two.first_token_p95_ms), (200.0, 1200.0));
        let four = load(4, &[heard(100, 50, 21)], Duration::from_millis(1100));
        let bench = Bench {
            name: "desk".into(),
            clients: 4,
            input_tokens: 64,
            output_tokens: 21,
            rounds: 1,
            first_token_ms: 1000,
            tokens_per_s: 8.0,
            app: "bench".into(),
        };
        let report = bench.report("support@1".into(), Vec::new(), vec![one, two, four]);
        assert_eq!(report.carries, 1, "two are too many, whatever four came to");
        insta::assert_snapshot!(
            "service-bench",
            format!("{}{}", table(Language::En, &report.loads).render(false), sentence(Language::En, &report))
        );
    }
}
