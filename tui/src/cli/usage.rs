//! `hone usage`: what was used, by day, application, service, user and key. Never here: a sum.

use clap::{Args, ValueEnum};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::request::{ROWS_MAX, Request};
use hone_protocol::usage::{UsageBy, UsageLine, UsagePage, UsageQuery};

use super::application::{money, usage_cells};
use super::context::{Context, answer};
use super::csv;
use crate::print::{self, Cell, Outcome, Table};

/// What lines are told apart by, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Billing day
    Day,
    /// Application
    App,
    /// Service
    Service,
    /// `user` of the request
    User,
    /// Key
    Key,
}

impl By {
    fn wire(self) -> UsageBy {
        match self {
            By::Day => UsageBy::Day,
            By::App => UsageBy::Application,
            By::Service => UsageBy::Service,
            By::User => UsageBy::User,
            By::Key => UsageBy::Key,
        }
    }
}

/// Show what was used: this month by application, or as asked.
///
/// Requests under way come in when they end. Amounts are exact.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone usage --app shop --by day,service --from 2026-11-01 --to 2026-11-30 --csv > usage.csv"
)]
pub(super) struct UsageVerb {
    /// Only this application.
    #[arg(long, visible_alias = "application", value_name = "APP", default_value = "", hide_default_value = true)]
    app: String,
    /// Only this service, also one that was deleted.
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    /// What lines are told apart by, with commas between.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', default_value = "app")]
    by: Vec<By>,
    /// First billing day, YYYY-MM-DD [default: the first of this month].
    #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
    from: String,
    /// Last billing day [default: today].
    #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
    to: String,
    /// Write comma-separated values.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl UsageVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut query = UsageQuery {
            application: self.app,
            service: self.service,
            from: self.from,
            to: self.to,
            by: self.by.iter().map(|by| by.wire()).collect(),
            after: String::new(),
            count: ROWS_MAX,
        };
        let mut link = context.link()?;
        let mut page = answer!(link.ask(Request::Usage(query.clone()))?, Usage);
        while let Some(next) = page.next.take() {
            query.after = next;
            let more = answer!(link.ask(Request::Usage(query.clone()))?, Usage);
            page.lines.extend(more.lines);
            page.next = more.next;
        }
        match (context.json, self.csv) {
            (true, _) => print::json(&page),
            (false, true) => print::out(&lines(&page, &query.by)),
            (false, false) => print::out(&table(context.language, &page, &query.by).render(print::colour())),
        }
    }
}

/// What a line is of, in the order of the columns.
fn dimensions<'l>(line: &'l UsageLine, by: &[UsageBy]) -> Vec<&'l str> {
    let of = |by: &UsageBy| match by {
        UsageBy::Day => &line.day,
        UsageBy::Application => &line.application,
        UsageBy::Service => &line.service,
        UsageBy::User => &line.user,
        UsageBy::Key => &line.key,
    };
    by.iter().map(|by| of(by).as_deref().unwrap_or("")).collect()
}

fn table(language: Language, page: &UsagePage, by: &[UsageBy]) -> Table {
    let name = |by: &UsageBy| match by {
        UsageBy::Day => "cli.col.day",
        UsageBy::Application => "cli.col.application",
        UsageBy::Service => "cli.col.service",
        UsageBy::User => "cli.col.user",
        UsageBy::Key => "cli.col.key",
    };
    let mut keys: Vec<&'static str> = by.iter().map(name).collect();
    keys.extend([
        "cli.col.requests",
        "cli.col.prompt_tokens",
        "cli.col.cached_tokens",
        "cli.col.completion_tokens",
        "cli.col.errors",
        "cli.col.amount",
        "cli.col.currency",
    ]);
    let mut table = Table::new(language, &keys);
    let mut add = |mut row: Vec<Cell>, usage: &hone_protocol::application::Usage| {
        row.extend(usage_cells(usage));
        row.extend([Cell::number(usage.errors), Cell::number(money(usage.amount)), page.currency.as_str().into()]);
        table.row(row);
    };
    for line in &page.lines {
        add(dimensions(line, by).into_iter().map(|text| Cell::from(print::harmless(text))).collect(), &line.usage);
    }
    if !by.is_empty() {
        let total = std::iter::once(Cell::from(catalogue::text(language, "cli.total")));
        add(total.chain(by.iter().skip(1).map(|_| Cell::from(""))).collect(), &page.total);
    }
    table
}

fn lines(page: &UsagePage, by: &[UsageBy]) -> String {
    let names: Vec<String> = by.iter().map(print::word_of).collect();
    let mut head: Vec<&str> = names.iter().map(String::as_str).collect();
    head.extend(["requests", "errors", "input_tokens", "cached_tokens", "output_tokens", "amount", "currency"]);
    let mut text = csv::head(&head);
    for line in &page.lines {
        let usage = &line.usage;
        let mut cells: Vec<String> = dimensions(line, by).into_iter().map(csv::text).collect();
        let counts = [usage.requests, usage.errors, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens];
        cells.extend(counts.map(|count| count.to_string()));
        cells.extend([money(usage.amount), csv::text(&page.currency)]);
        text.push_str(&csv::line(&cells));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::application::Usage;
    use hone_protocol::value::Pico;

    #[test]
    fn a_table_and_its_values_for_spreadsheets() {
        let usage = Usage {
            requests: 3,
            prompt_tokens: 1200,
            cached_tokens: 40,
            completion_tokens: 96,
            amount: Pico(1_240_000_000),
            errors: 1,
        };
        let line = |day: &str, user: &str| UsageLine {
            day: Some(day.into()),
            application: None,
            service: None,
            user: Some(user.into()),
            key: None,
            usage,
        };
        let mut total = usage;
        total.merge(&usage);
        let page = UsagePage {
            from: "2026-11-01".into(),
            to: "2026-11-28".into(),
            zone: "Europe/Berlin".into(),
            currency: "EUR".into(),
            lines: vec![line("2026-11-27", "=HYPERLINK(\"x\")"), line("2026-11-28", "")],
            next: None,
            total,
            compute: None,
            reserved: Default::default(),
        };
        let by = [UsageBy::Day, UsageBy::User];
        insta::assert_snapshot!("usage", table(Language::En, &page, &by).render(false));
        insta::assert_snapshot!("usage-csv", lines(&page, &by));
    }
}
