//! `hone app invoice`: what an application used in a month, line by line. Never here: a sum, a rounding.

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::Failure;
use hone_protocol::request::Request;
use hone_protocol::usage::{ComputeLine, Invoice, ReservedLine, TokenLine};

use super::application::is_month;
use super::context::{Context, answer};
use super::csv;
use crate::print::{self, Cell, Outcome, Table};

/// Print the invoice of a month: a line for each service and price, each kind of job and price, and each reservation.
///
/// Each line is rounded once to six digits; the total is the sum of the lines.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone app invoice shop --month 2026-11 --csv > invoice.csv")]
pub(super) struct InvoiceVerb {
    /// Name of the application.
    app: String,
    /// YYYY-MM [default: this month].
    #[arg(long, default_value = "", hide_default_value = true)]
    month: String,
    /// Write comma-separated values.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl InvoiceVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if !self.month.is_empty() && !is_month(&self.month) {
            let message = format!("{:?} is no month; write it as YYYY-MM", self.month);
            return Err(Failure::field("--month", message).into());
        }
        let request = Request::Invoice { application: self.app, month: self.month };
        let invoice = answer!(context.link()?.ask(request)?, Invoice);
        match (context.json, self.csv) {
            (true, _) => print::json(&invoice),
            (false, true) => print::out(&lines(&invoice)),
            (false, false) => print::out(&text(context.language, &invoice, print::colour())),
        }
    }
}

/// Hours with three digits, rounded; what is billed is the milliseconds.
fn hours(ms: u64) -> String {
    let thousandths = (ms + 1_800) / 3_600;
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

fn compute_price(line: &ComputeLine) -> String {
    match line.price.is_set() {
        true => [line.price.core_hour_micros, line.price.gpu_hour_micros].map(print::micros).join("/"),
        false => "-".to_owned(),
    }
}

fn text(language: Language, invoice: &Invoice, colour: bool) -> String {
    let head = print::pairs(
        language,
        &[
            ("cli.col.application", invoice.application.clone()),
            ("cli.col.month", format!("{} ({})", invoice.month, invoice.zone)),
            ("cli.col.total", format!("{} {}", invoice.rounded, invoice.currency)),
        ],
    );
    let tokens = [
        "cli.col.service",
        "cli.col.first_day",
        "cli.col.last_day",
        "cli.col.price",
        "cli.col.requests",
        "cli.col.prompt_tokens",
        "cli.col.cached_tokens",
        "cli.col.completion_tokens",
        "cli.col.amount",
    ];
    let mut table = Table::new(language, &tokens);
    for TokenLine { service, from, to, price, usage, rounded } in &invoice.tokens {
        table.row(vec![
            service.as_str().into(),
            from.as_str().into(),
            to.as_str().into(),
            Cell::number(print::price(price)),
            Cell::number(usage.requests),
            Cell::number(usage.prompt_tokens),
            Cell::number(usage.cached_tokens),
            Cell::number(usage.completion_tokens),
            Cell::number(rounded),
        ]);
    }
    let compute = [
        "cli.col.kind",
        "cli.col.first_day",
        "cli.col.last_day",
        "cli.col.hour_price",
        "cli.col.rows",
        "cli.col.core_hours",
        "cli.col.gpu_hours",
        "cli.col.amount",
    ];
    let mut computed = Table::new(language, &compute);
    for line in &invoice.compute {
        computed.row(vec![
            line.kind.as_str().into(),
            line.from.as_str().into(),
            line.to.as_str().into(),
            Cell::number(compute_price(line)),
            Cell::number(line.usage.rows),
            Cell::number(hours(line.usage.core_ms)),
            Cell::number(hours(line.usage.gpu_ms)),
            Cell::number(&line.rounded),
        ]);
    }
    let reserved = [
        "cli.col.service",
        "cli.col.first_day",
        "cli.col.last_day",
        "cli.col.reserved_price",
        "cli.col.rows",
        "cli.col.reserved_hours",
        "cli.col.amount",
    ];
    let mut kept = Table::new(language, &reserved);
    for ReservedLine { service, from, to, hour_micros, usage, rounded } in &invoice.reserved {
        kept.row(vec![
            service.as_str().into(),
            from.as_str().into(),
            to.as_str().into(),
            Cell::number(print::micros(Some(*hour_micros))),
            Cell::number(usage.rows),
            Cell::number(hours(usage.reserved_ms)),
            Cell::number(rounded),
        ]);
    }
    let mut text = head;
    for table in [table, computed, kept].iter().filter(|table| !table.is_empty()) {
        text.push('\n');
        text.push_str(&table.render(colour));
    }
    if invoice.tokens.is_empty() && invoice.compute.is_empty() && invoice.reserved.is_empty() {
        text.push_str(&format!("\n{}\n", catalogue::text(language, "cli.empty_invoice")));
    }
    text
}

/// One table for both kinds of line; cells that a kind does not have are empty.
fn lines(invoice: &Invoice) -> String {
    let mut text = csv::head(&[
        "application",
        "month",
        "line",
        "name",
        "first_day",
        "last_day",
        "input_price",
        "cached_price",
        "output_price",
        "core_hour_price",
        "gpu_hour_price",
        "hour_price",
        "count",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "core_ms",
        "gpu_ms",
        "reserved_ms",
        "amount",
        "currency",
    ]);
    let price = |micros: Option<u64>| micros.map_or(String::new(), |_| print::micros(micros));
    let mut add =
        |kind: &str, name: &str, days: [&str; 2], prices: [Option<u64>; 6], counts: [String; 7], rounded: &str| {
            let mut cells =
                vec![csv::text(&invoice.application), invoice.month.clone(), kind.to_owned(), csv::text(name)];
            cells.extend(days.map(str::to_owned));
            cells.extend(prices.map(price));
            cells.extend(counts);
            cells.extend([rounded.to_owned(), csv::text(&invoice.currency)]);
            text.push_str(&csv::line(&cells));
        };
    let none = String::new;
    for line in &invoice.tokens {
        let usage = &line.usage;
        let counts = [usage.requests, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens];
        let [count, input, cached, output] = counts.map(|count| count.to_string());
        let prices = [line.price.input_micros, line.price.cached_micros, line.price.output_micros, None, None, None];
        let counts = [count, input, cached, output, none(), none(), none()];
        add("tokens", &line.service, [&line.from, &line.to], prices, counts, &line.rounded);
    }
    for line in &invoice.compute {
        let usage = &line.usage;
        let [count, core, gpu] = [usage.rows, usage.core_ms, usage.gpu_ms].map(|count| count.to_string());
        let prices = [None, None, None, line.price.core_hour_micros, line.price.gpu_hour_micros, None];
        let counts = [count, none(), none(), none(), core, gpu, none()];
        add("compute", &line.kind, [&line.from, &line.to], prices, counts, &line.rounded);
    }
    for line in &invoice.reserved {
        let [count, reserved] = [line.usage.rows, line.usage.reserved_ms].map(|count| count.to_string());
        let prices = [None, None, None, None, None, Some(line.hour_micros)];
        let counts = [count, none(), none(), none(), none(), none(), reserved];
        add("reserved", &line.service, [&line.from, &line.to], prices, counts, &line.rounded);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::application::Usage;
    use hone_protocol::service::Price;
    use hone_protocol::usage::{ComputePrice, ComputeUsage, ReservedUsage};
    use hone_protocol::value::Pico;

    #[test]
    fn an_invoice_for_people_and_for_spreadsheets() {
        let usage = Usage {
            requests: 412,
            prompt_tokens: 31_240,
            cached_tokens: 12_000,
            completion_tokens: 18_930,
            amount: Pico(14_244_000_000),
            errors: 0,
        };
        let line = |service: &str, from: &str, to: &str, input| TokenLine {
            service: service.into(),
            from: from.into(),
            to: to.into(),
            price: Price { input_micros: Some(input), cached_micros: None, output_micros: Some(600_000) },
            usage,
            rounded: "0.014244".into(),
        };
        let compute = ComputeLine {
            kind: "train".into(),
            from: "2026-11-03".into(),
            to: "2026-11-03".into(),
            price: ComputePrice { core_hour_micros: Some(50_000), gpu_hour_micros: None },
            usage: ComputeUsage { rows: 2, core_ms: 5_400_000, gpu_ms: 0, amount: Pico(75_000_000_000) },
            rounded: "0.075000".into(),
        };
        let mut invoice = Invoice {
            application: "web-shop".into(),
            month: "2026-11".into(),
            zone: "Europe/Berlin".into(),
            currency: "EUR".into(),
            tokens: vec![
                line("desk", "2026-11-01", "2026-11-14", 150_000),
                line("desk", "2026-11-14", "2026-11-28", 200_000),
            ],
            compute: vec![compute],
            reserved: vec![ReservedLine {
                service: "desk".into(),
                from: "2026-11-28".into(),
                to: "2026-11-29".into(),
                hour_micros: 1_200_000,
                usage: ReservedUsage { rows: 3, reserved_ms: 5_400_000, amount: Pico(1_800_000_000_000) },
                rounded: "1.800000".into(),
            }],
            amount: Pico(1_903_488_000_000),
            rounded: "1.903488".into(),
        };
        insta::assert_snapshot!("invoice", text(Language::En, &invoice, false));
        insta::assert_snapshot!("invoice-zh", text(Language::Zh, &invoice, false));
        insta::assert_snapshot!("invoice-csv", lines(&invoice));
        (invoice.tokens, invoice.compute, invoice.reserved) = (Vec::new(), Vec::new(), Vec::new());
        assert!(text(Language::En, &invoice, false).contains("Nothing was used"));
    }
}
