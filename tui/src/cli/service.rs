//! `hone service`: publishing versions, turning services on and off, calling one. Never here: applications and keys.

use std::io::{Read, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::dataset::ChatMessage;
use hone_protocol::event::Change;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{Answer, ChatEnd, Request, StreamPart};
use hone_protocol::service::{Keep, Price, ServiceState, ServiceView};
use hone_protocol::worker::Sampling;

use super::context::{Context, answer};
use super::howto::Howto;
use super::reserve::Reserve;
use super::service_bench::Bench;
use super::stats::StatsVerb;
use super::upstream::{Show, UpstreamArgs};
use super::watch::{self, Fact};
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table};

/// Longest wait for a service to answer: loading a big model from a slow disk. Beyond it the wish stands, and the
/// verb fails with what to look at.
const ON_WAIT: Duration = Duration::from_secs(180);

/// Services: what applications can call.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Show(Show),
    Publish(Publish),
    Start(Start),
    Stop(Stop),
    Call(Call),
    Howto(Howto),
    Stats(StatsVerb),
    Delete(Delete),
    Reserve(Reserve),
    Bench(Bench),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Publish(verb) => verb.run(context),
            Verb::Start(verb) => verb.run(context),
            Verb::Stop(verb) => verb.run(context),
            Verb::Call(verb) => verb.run(context),
            Verb::Howto(verb) => verb.run(context),
            Verb::Stats(verb) => verb.run(context),
            Verb::Delete(verb) => verb.run(context),
            Verb::Reserve(verb) => verb.run(context),
            Verb::Bench(verb) => verb.run(context),
        }
    }
}

/// List services and whether they answer.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let services = answer!(context.link()?.ask(Request::Services)?, Services);
        if context.json {
            return print::json(&services);
        }
        if services.is_empty() {
            context.say("cli.no_services", &[]);
            return Ok(());
        }
        print::out(&table(context.language, &services).render(print::colour()))
    }
}

/// Publish a version, or a server elsewhere, under a name, and wait until it answers.
///
/// The same name again moves the service; what is not typed stays as it was. Prices are in units of
/// the store's currency per million tokens, as a decimal number; no price is not the same as 0.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service publish desk support@1 --slots 4 --price-in 0.15 --price-out 0.6")]
pub(super) struct Publish {
    /// Name of the service: what `model` says in a request.
    name: String,
    /// NAME, NAME@NUMBER or NAME:ALIAS.
    version: Option<String>,
    #[command(flatten)]
    upstream: UpstreamArgs,
    /// Sequences at once; 0 for the default.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Context of each in tokens; 0 for the default.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Price of a million computed prompt tokens.
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    price_in: Option<u64>,
    /// Price of a million prompt tokens found in the cache [default: the price of computed ones].
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    price_cached: Option<u64>,
    /// Price of a million completion tokens.
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    price_out: Option<u64>,
    /// While nobody asks: ready (loaded until its memory is needed), pinned (always loaded), or so many minutes.
    #[arg(long, value_name = "ready|pinned|MINUTES", value_parser = keep)]
    keep: Option<Keep>,
    /// Do not wait until it answers.
    #[arg(long)]
    detach: bool,
}

/// Reads `--keep`.
pub(super) fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "ready" => Ok(Keep::Ready),
        "pinned" => Ok(Keep::Pinned),
        minutes => minutes
            .parse()
            .ok()
            .filter(|minutes| *minutes > 0)
            .map(Keep::Minutes)
            .ok_or_else(|| "type ready, pinned, or a number of minutes from 1".to_owned()),
    }
}

impl Publish {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let services = answer!(link.ask(Request::Services)?, Services);
        let old = services.iter().find(|s| s.record.name == self.name).map(|s| &s.record);
        let old_price = old.map_or(Price::default(), |o| o.price);
        let price = Price {
            input_micros: self.price_in.or(old_price.input_micros),
            cached_micros: self.price_cached.or(old_price.cached_micros),
            output_micros: self.price_out.or(old_price.output_micros),
        };
        let request = match self.version {
            None if self.upstream.is_meant(old) => {
                if self.keep.is_some() {
                    return Err(Failure::field(
                        "--keep",
                        "a server elsewhere is never loaded here, so it never sleeps",
                    )
                    .into());
                }
                self.upstream.request(self.name, old, (self.slots, self.context), price)?
            }
            None => {
                let message = "say what is published: a version, or --upstream URL with --upstream-model MODEL";
                return Err(Failure::field("version", message).into());
            }
            Some(version) => {
                // What was said of a server elsewhere says nothing of a model.
                let ours = old.filter(|old| old.upstream.is_none());
                Request::Publish {
                    name: self.name,
                    version,
                    slots: self.slots.unwrap_or(ours.map_or(0, |o| o.slots)),
                    context_tokens: self.context.unwrap_or(ours.map_or(0, |o| o.context_tokens)),
                    price,
                    keep: self.keep,
                    pool: context.pool.clone(),
                }
            }
        };
        let view = answer!(context.change(&mut link, "publish", request)?, Service);
        let view = if self.detach { *view } else { wait_until_on(context, *view)? };
        if let Some(trouble) = &view.trouble {
            context.say("cli.upstream_ill", &[("why", &trouble.message_en)]);
        }
        show(context, &view)
    }
}

/// Turn a service on, and wait until it answers.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service start desk")]
pub(super) struct Start {
    /// Name of the service.
    name: String,
    /// Do not wait until it answers.
    #[arg(long)]
    detach: bool,
}

impl Start {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::SetService { name: self.name, wanted: true };
        let view = answer!(context.change(&mut context.link()?, "start", request)?, Service);
        let view = if self.detach { *view } else { wait_until_on(context, *view)? };
        show(context, &view)
    }
}

/// Turn a service off. Its name, price and keys stay.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service stop desk")]
pub(super) struct Stop {
    /// Name of the service.
    name: String,
}

impl Stop {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::SetService { name: self.name, wanted: false };
        let view = answer!(context.change(&mut context.link()?, "stop", request)?, Service);
        show(context, &view)
    }
}

/// Delete a service for good. Refused while it is on or something uses it; the ledger keeps its name.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service delete desk")]
pub(super) struct Delete {
    /// Name of the service.
    name: String,
}

impl Delete {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::DeleteService { name: self.name.clone() };
        let done: Answer = context.change(&mut context.link()?, "delete", request)?;
        if context.json {
            return print::json(&done);
        }
        context.say("cli.service_deleted", &[("service", &self.name)]);
        Ok(())
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone, Args)]
pub(super) struct SamplingArgs {
    /// What the model is told first.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// 0 always takes the likeliest token; up to 2.
    #[arg(long, value_name = "X", default_value_t = 0.7)]
    temperature: f32,
    /// Share of the probability to keep.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    top_p: f32,
    /// Tokens to keep; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: u32,
    /// Same seed, same answer.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
}

impl SamplingArgs {
    pub(super) fn sampling(&self) -> Result<Sampling, Failure> {
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(Failure::field("--temperature", "the temperature must be between 0 and 2"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Failure::field("--top-p", "top-p must be above 0 and at most 1"));
        }
        Ok(Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
            ..Sampling::default()
        })
    }
}

/// Ask a service one thing; the answer streams to stdout. Application `owner` pays.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service call desk \"Where is my parcel?\" --temperature 0")]
pub(super) struct Call {
    /// Name of the service.
    name: String,
    /// What to ask; `-` reads it from stdin.
    text: String,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Longest text that is read from stdin, in bytes. Beyond it the call is refused: no context holds it.
const TEXT_BYTES_MAX: u64 = 4 << 20;

impl Call {
    fn run(self, context: &Context) -> Outcome {
        let text = if self.text == "-" { read_stdin()? } else { self.text };
        let mut messages: Vec<ChatMessage> = Vec::new();
        if let Some(system) = &self.sampling.system {
            messages.push(ChatMessage { role: "system".into(), content: system.clone() });
        }
        messages.push(ChatMessage { role: "user".into(), content: text });
        let mut link = context.link()?;
        let (text, end) = chat(context, &mut link, &self.name, messages, &self.sampling)?;
        if context.json {
            return print::json(&serde_json::json!({ "text": text, "end": end }));
        }
        print::out("\n")?;
        context.say("cli.chat_end", &chat_args(&end).each_ref().map(|(k, v)| (*k, v.as_str())));
        Ok(())
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let got = std::io::stdin().take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
    match got {
        Ok(bytes) if bytes as u64 <= TEXT_BYTES_MAX => Ok(text.trim_end_matches('\n').to_owned()),
        Ok(_) => Err(Failure::field("stdin", format!("the text is longer than {TEXT_BYTES_MAX} bytes"))),
        Err(error) => Err(Failure::new(FailureCode::FileUnreadable, error.to_string()).at("stdin")),
    }
}

/// Asks, streaming the pieces to stdout (not under `--json`), and gives the whole answer with its end.
pub(super) fn chat(
    context: &Context,
    link: &mut Link,
    service: &str,
    messages: Vec<ChatMessage>,
    args: &SamplingArgs,
) -> Result<(String, ChatEnd), print::End> {
    let request = Request::Chat {
        service: service.to_owned(),
        messages,
        sampling: args.sampling()?,
        tokens_max: args.tokens,
        typical_p: None,
        stop: None,
        format: None,
        chances: None,
    };
    let mut whole = String::new();
    let answer = link.ask_streaming_while(request, |part| {
        let StreamPart::Text { text, .. } = part else { return Ok(()) };
        whole.push_str(&text);
        if context.json { Ok(()) } else { print::out(&print::harmless(&text)) }
    })?;
    // A closed stderr or stdout shows up at the next write; nothing is buffered here.
    let _ = std::io::stdout().flush();
    Ok((whole, answer!(answer, Chat)))
}

/// The numbers of a chat's end, for the sentence about it.
pub(super) fn chat_args(end: &ChatEnd) -> [(&'static str, String); 5] {
    // The first token comes with the prompt's computation, so neither is in the rate when both times are known.
    let (tokens, ms) = match end.total_ms.checked_sub(end.first_token_ms) {
        Some(ms) if ms > 0 => (end.completion_tokens.saturating_sub(1), ms),
        _ => (end.completion_tokens, end.total_ms.max(1)),
    };
    let rate = tokens as f64 * 1000.0 / f64::from(ms);
    [
        ("finish", end.finish.clone()),
        ("prompt", end.prompt_tokens.to_string()),
        ("completion", end.completion_tokens.to_string()),
        ("first", end.first_token_ms.to_string()),
        ("rate", format!("{rate:.1}")),
    ]
}

/// Waits until a service answers; a service that was tried too often is a failure.
pub(super) fn wait_until_on(context: &Context, view: ServiceView) -> Result<ServiceView, Failure> {
    if view.state == ServiceState::On {
        return Ok(view);
    }
    let name = view.record.name;
    context.say("cli.service_starting", &[("service", &name)]);
    let mut told = None;
    watch::until(&context.options, Some(ON_WAIT), |fact| {
        let view = match fact {
            Fact::All(snapshot) => snapshot.services.iter().find(|s| s.record.name == name),
            Fact::One(Change::Service(view)) if view.record.name == name => Some(&**view),
            Fact::One(_) => return Ok(None),
        };
        let Some(view) = view else { return Err(Failure::not_found("service", &name)) };
        match &view.state {
            ServiceState::On | ServiceState::Asleep => Ok(Some(view.clone())),
            ServiceState::Starting => Ok(None),
            ServiceState::Waiting { failure, .. } => {
                if told.as_ref() != Some(&failure.message_en) {
                    context.say("cli.service_retry", &[("why", &failure.message_en)]);
                    told = Some(failure.message_en.clone());
                }
                Ok(None)
            }
            ServiceState::Failed { failure } => Err(failure.clone()),
            ServiceState::Off => Err(Failure::new(
                FailureCode::ServiceUnavailable,
                format!("service {name:?} was turned off while it was waited for"),
            )
            .hint(HintCode::StartService)),
        }
    })
}

pub(super) fn show(context: &Context, view: &ServiceView) -> Outcome {
    if context.json {
        return print::json(view);
    }
    print::out(&table(context.language, std::slice::from_ref(view)).render(print::colour()))
}

/// A decimal number of units as micro-units, exactly.
pub(super) fn micros(text: &str) -> Result<u64, String> {
    let wrong = || "a price is a decimal number like 0.15, with at most six digits behind the point".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let units: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let micros: u64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
    units.checked_mul(1_000_000).and_then(|m| m.checked_add(micros)).ok_or_else(wrong)
}

/// Catalogue key of what a service is for.
fn kind(view: &ServiceView) -> &'static str {
    if view.is_encoder { "services.embeddings" } else { "services.chat" }
}

fn table(language: Language, services: &[ServiceView]) -> Table {
    let mut table = Table::new(
        language,
        &[
            "cli.col.service",
            "cli.col.version",
            "cli.col.kind",
            "cli.col.state",
            "cli.col.active",
            "cli.col.waiting",
            "cli.col.slots",
            "cli.col.context",
            "cli.col.price",
            "cli.col.memory",
            "cli.col.restarts",
        ],
    );
    for view in services {
        table.row(vec![
            view.record.name.as_str().into(),
            view.version_reference.as_str().into(),
            catalogue::text(language, kind(view)).into(),
            print::service_state(language, &view.state),
            Cell::number(view.active),
            Cell::number(view.waiting),
            Cell::number(view.record.slots),
            Cell::number(view.record.context_tokens),
            Cell::number(print::price(&view.record.price)),
            Cell::number(print::bytes(view.memory_bytes)),
            Cell::number(view.restarts),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use hone_protocol::value::Pico;

    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, micro) in [("0", 0), ("0.15", 150_000), (".5", 500_000), ("3", 3_000_000), ("1.000001", 1_000_001)] {
            assert_eq!(micros(text), Ok(micro), "{text}");
            if !text.starts_with('.') {
                assert_eq!(print::micros(Some(micro)), text);
            }
        }
        for text in ["", ".", "-1", "1e3", "0.1234567", "1,5", "99999999999999999999"] {
            assert!(micros(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_rate_leaves_out_the_first_token() {
        let end = |first_token_ms, total_ms| ChatEnd {
            finish: "stop".into(),
            prompt_tokens: 5,
            cached_tokens: 0,
            completion_tokens: 11,
            first_token_ms,
            total_ms,
            version: "desk@1".into(),
            amount: Pico(0),
        };
        assert_eq!(chat_args(&end(500, 1500))[4].1, "10.0");
        assert_eq!(chat_args(&end(0, 1100))[4].1, "9.1");
        assert_eq!(chat_args(&end(2000, 1100))[4].1, "10.0", "times that do not fit together");
    }

    #[test]
    fn the_table() {
        let price = Price { input_micros: Some(150_000), cached_micros: None, output_micros: Some(0) };
        let mut on = crate::sample::service();
        on.record.price = price;
        let mut failed = on.clone();
        failed.record.price = Price::default();
        failed.state = ServiceState::Failed { failure: Failure::new(FailureCode::WorkerDied, "signal 9") };
        let encoder = ServiceView { is_encoder: true, ..on.clone() };
        insta::assert_snapshot!("service-list", table(Language::En, &[on.clone(), failed, encoder]).render(false));
        insta::assert_snapshot!("service-list-zh", table(Language::Zh, &[on]).render(false));
    }
}
