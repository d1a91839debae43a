//! `hone service stats`: how services did. Never here: a percentile.

use clap::{Args, ValueEnum};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::Failure;
use hone_protocol::request::Request;
use hone_protocol::service::ServiceView;
use hone_protocol::usage::{ServiceStats, Span, Stats};

use super::context::{Context, answer};
use crate::print::{self, Cell, Outcome, Table};

/// Over which time, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    /// The last 60 minutes
    Hour,
    /// The last 24 hours
    Day,
    /// The last 30 days
    Month,
}

/// Show how services did: requests, errors, times, rates; in all, and by application.
///
/// Times are the middle and the 95th percentile, in milliseconds, from rows of the ledger.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service stats desk --span day")]
pub(super) struct StatsVerb {
    /// Name of the service [default: all].
    name: Option<String>,
    /// Over which time.
    #[arg(long, value_enum, value_name = "SPAN", default_value = "hour")]
    span: Over,
}

impl StatsVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let span = match self.span {
            Over::Hour => Span::Hour,
            Over::Day => Span::Day,
            Over::Month => Span::Month,
        };
        let mut link = context.link()?;
        let mut stats = answer!(link.ask(Request::Stats { span })?, Stats);
        let services = answer!(link.ask(Request::Services)?, Services);
        if let Some(name) = &self.name {
            stats.lines.retain(|line| line.service == *name);
            stats.guards.retain(|line| line.service == *name);
            if stats.lines.is_empty() && !services.iter().any(|s| s.record.name == *name) {
                return Err(Failure::not_found("service", name).into());
            }
        }
        if context.json {
            return print::json(&stats);
        }
        if stats.lines.is_empty() {
            context.say("cli.no_stats", &[]);
            return Ok(());
        }
        if stats.is_cut {
            context.say("cli.stats_cut", &[]);
        }
        print::out(&table(context.language, &stats, &services).render(print::colour()))?;
        let guards = guards(context.language, &stats);
        if guards.is_empty() {
            return Ok(());
        }
        print::out(&format!("\n{}", guards.render(print::colour())))
    }
}

/// What guards found.
fn guards(language: Language, stats: &Stats) -> Table {
    let keys = [
        "cli.col.guard",
        "cli.col.service",
        "cli.col.application",
        "cli.col.found_in",
        "cli.col.found_out",
        "cli.col.refused",
    ];
    let mut table = Table::new(language, &keys);
    for line in &stats.guards {
        table.row(vec![
            line.guard.as_str().into(),
            line.service.as_str().into(),
            line.application.as_str().into(),
            Cell::number(line.counts.input),
            Cell::number(line.counts.output),
            Cell::number(line.counts.refused),
        ]);
    }
    table
}

fn pair(times: Option<(u32, u32)>) -> String {
    times.map_or_else(|| "-".to_owned(), |(middle, high)| format!("{middle}/{high}"))
}

/// The share of prompt tokens that were found in the cache, in percent.
fn cached(line: &ServiceStats) -> String {
    match line.usage.prompt_tokens {
        0 => "-".to_owned(),
        all => format!("{:.0} %", line.usage.cached_tokens as f64 * 100.0 / all as f64),
    }
}

fn table(language: Language, stats: &Stats, services: &[ServiceView]) -> Table {
    let keys = [
        "cli.col.service",
        "cli.col.application",
        "cli.col.requests",
        "cli.col.errors",
        "cli.col.total_ms",
        "cli.col.first_ms",
        "cli.col.rate",
        "cli.col.cached",
        "cli.col.up_down",
        "cli.col.active",
        "cli.col.waiting",
    ];
    let mut table = Table::new(language, &keys);
    for line in &stats.lines {
        // What is now is of the whole service.
        let live = services.iter().find(|s| s.record.name == line.service && line.application.is_none());
        let now = |of: fn(&ServiceView) -> u32| live.map_or_else(|| "-".to_owned(), |s| of(s).to_string());
        table.row(vec![
            line.service.as_str().into(),
            line.application.as_deref().unwrap_or("*").into(),
            Cell::number(line.usage.requests),
            Cell::number(line.usage.errors),
            Cell::number(pair(line.total_ms)),
            Cell::number(pair(line.first_token_ms)),
            Cell::number(line.tokens_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))),
            Cell::number(cached(line)),
            Cell::number(format!("{}/{}", line.feedback.up, line.feedback.down)),
            Cell::number(now(|s| s.active)),
            Cell::number(now(|s| s.waiting)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::application::Usage;
    use hone_protocol::log::FeedbackCounts;

    #[test]
    fn services_in_all_and_by_application() {
        let line = |application: Option<&str>, requests, rate| ServiceStats {
            service: "desk".into(),
            application: application.map(str::to_owned),
            usage: Usage { requests, prompt_tokens: 1000, cached_tokens: 250, errors: 1, ..Usage::default() },
            total_ms: Some((820, 2_140)),
            first_token_ms: application.map(|_| (64, 210)),
            tokens_per_s: rate,
            feedback: FeedbackCounts { up: 3, down: 1, corrections: 1 },
        };
        let lines = vec![line(None, 412, Some(31.25)), line(Some("web-shop"), 400, None)];
        let stats = Stats { span: Span::Hour, lines, is_cut: false, guards: Vec::new() };
        insta::assert_snapshot!(
            "service-stats",
            table(Language::En, &stats, &[crate::sample::service()]).render(false)
        );
    }
}
