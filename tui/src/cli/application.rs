//! `hone app`, `hone ledger`: who calls, and what it costs. Never here: counting, keys (`key`), limits (`budget`),
//! usage (`usage`), invoices (`invoice`).

use clap::{Args, Subcommand};
use hone_protocol::application::{ApplicationView, Budget, KeyRecord, LedgerRow, Usage};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::Failure;
use hone_protocol::pool::Priority;
use hone_protocol::request::{Answer, ROWS_MAX, Request};
use hone_protocol::service::ServiceView;
use hone_protocol::value::Pico;

use super::budget::{Limit, Pay};
use super::context::{Context, answer};
use super::invoice::InvoiceVerb;
use super::log::settings_text;
use crate::link::Link;
use crate::print::{self, Cell, Outcome, Table, Tone};

/// Applications: who calls services and pays.
#[derive(Debug, Subcommand)]
pub(super) enum AppVerb {
    Create(Create),
    Limit(Limit),
    Pay(Pay),
    Invoice(InvoiceVerb),
    List(List),
    Show(Show),
}

impl AppVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            AppVerb::Create(verb) => verb.run(context),
            AppVerb::Limit(verb) => verb.run(context),
            AppVerb::Pay(verb) => verb.run(context),
            AppVerb::Invoice(verb) => verb.run(context),
            AppVerb::List(verb) => verb.run(context),
            AppVerb::Show(verb) => verb.run(context),
        }
    }
}

/// Make an application, or set what an existing one may call.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone app create shop --title \"Web shop\" --services desk,chat")]
pub(super) struct Create {
    /// Its name.
    name: String,
    /// Free title.
    #[arg(long, default_value = "")]
    title: String,
    /// Services it may call, with commas between [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    services: Vec<String>,
    /// Who goes first where applications wait: high gets four times what low gets [default: normal, or as before].
    #[arg(long, value_name = "high|normal|low", value_parser = priority)]
    priority: Option<Priority>,
}

/// Reads `--priority`.
fn priority(text: &str) -> Result<Priority, String> {
    Priority::named(text).ok_or_else(|| "type high, normal or low".to_owned())
}

impl Create {
    fn run(self, context: &Context) -> Outcome {
        let name = self.name.clone();
        let request = Request::SetApplication {
            name: self.name,
            title: self.title,
            services: self.services,
            priority: self.priority,
        };
        let mut link = context.link()?;
        let _done: Answer = context.change(&mut link, "app", request)?;
        let applications = all(&mut link)?;
        show(context, find(&applications, &name)?)
    }
}

/// List applications with their keys and usage.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone app list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        let applications = all(&mut context.link()?)?;
        if context.json {
            return print::json(&applications);
        }
        print::out(&table(context.language, &applications, print::now_ms()).render(print::colour()))
    }
}

/// Show an application: what it may call, its keys, its usage.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone app show shop")]
pub(super) struct Show {
    /// Its name.
    name: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let applications = all(&mut context.link()?)?;
        show(context, find(&applications, &self.name)?)
    }
}

/// Print metered requests, newest first; with --json, one row a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone ledger --app shop --count 20")]
pub(super) struct Ledger {
    /// Only those of this application.
    #[arg(long, value_name = "APP", default_value = "")]
    app: String,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    count: u32,
}

impl Ledger {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let rows = answer!(link.ask(Request::Ledger { application: self.app, count: self.count })?, Ledger);
        if context.json {
            return rows.iter().try_for_each(print::json);
        }
        if rows.is_empty() {
            context.say("cli.no_ledger", &[]);
            return Ok(());
        }
        let applications = all(&mut link)?;
        let services = answer!(link.ask(Request::Services)?, Services);
        print::out(&ledger_table(context.language, &rows, &applications, &services).render(print::colour()))
    }
}

pub(super) fn is_month(text: &str) -> bool {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('-')
        .is_some_and(|(year, month)| digits(year, 4) && digits(month, 2) && ("01"..="12").contains(&month))
}

/// All applications of the daemon.
pub(super) fn all(link: &mut Link) -> Result<Vec<ApplicationView>, Failure> {
    Ok(answer!(link.ask(Request::Applications)?, Applications))
}

/// An application by name.
pub(super) fn find<'a>(applications: &'a [ApplicationView], name: &str) -> Result<&'a ApplicationView, Failure> {
    applications.iter().find(|a| a.record.name == name).ok_or_else(|| Failure::not_found("application", name))
}

fn services_text(language: Language, application: &ApplicationView) -> String {
    use hone_protocol::application::Services;
    match application.record.services {
        Services::All => hone_protocol::catalogue::text(language, "cli.all_services").to_owned(),
        Services::Listed(_) => application.services.join(" "),
    }
}

/// An amount in units, exact: all digits that are there, at least two behind the point.
pub(super) fn money(amount: Pico) -> String {
    let sign = if amount.0 < 0 { "-" } else { "" };
    let (units, rest) = (amount.0.abs() / Pico::PER_UNIT, amount.0.abs() % Pico::PER_UNIT);
    let mut fraction = format!("{rest:012}");
    while fraction.len() > 2 && fraction.ends_with('0') {
        fraction.pop();
    }
    format!("{sign}{units}.{fraction}")
}

fn table(language: Language, applications: &[ApplicationView], now_ms: i64) -> Table {
    let keys = [
        "cli.col.application",
        "cli.col.title",
        "cli.col.services",
        "cli.col.keys",
        "cli.col.requests",
        "cli.col.amount",
    ];
    let mut table = Table::new(language, &keys);
    for application in applications {
        let live = application.keys.iter().filter(|k| k.is_live(now_ms)).count();
        table.row(vec![
            application.record.name.as_str().into(),
            application.record.title.as_str().into(),
            services_text(language, application).into(),
            Cell::number(live),
            Cell::number(application.usage.requests),
            Cell::number(money(application.usage.amount)),
        ]);
    }
    table
}

/// Shows an application.
pub(super) fn show(context: &Context, application: &ApplicationView) -> Outcome {
    if context.json {
        return print::json(application);
    }
    print::out(&details(context.language, application, print::now_ms(), print::colour()))
}

/// Limits in words; a dash where there are none.
fn limits_text(language: Language, application: &ApplicationView) -> String {
    let limits = application.record.limits.unwrap_or_default();
    let each = [
        ("cli.limit.requests", limits.requests_per_minute),
        ("cli.limit.tokens", limits.tokens_per_minute),
        ("cli.limit.parallel", limits.parallel),
    ];
    let words: Vec<String> = each
        .into_iter()
        .filter_map(|(key, limit)| Some(catalogue::fill(language, key, &[("n", &limit?.to_string())])))
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// The budget and what is left of it; a dash where there is none.
fn budget_text(language: Language, application: &ApplicationView) -> String {
    let left = money(application.left.unwrap_or_default());
    match application.record.budget {
        None => "-".to_owned(),
        Some(Budget::Monthly { amount }) => {
            catalogue::fill(language, "cli.budget.monthly", &[("amount", &money(amount)), ("left", &left)])
        }
        Some(Budget::Prepaid { paid, .. }) => {
            catalogue::fill(language, "cli.budget.prepaid", &[("paid", &money(paid)), ("left", &left)])
        }
    }
}

fn key_state(language: Language, key: &KeyRecord, now_ms: i64) -> Cell {
    let at = |word, at_ms| catalogue::fill(language, word, &[("at", &print::moment(at_ms))]);
    match (key.revoked_at_ms, key.expires_at_ms) {
        (Some(revoked), _) => Cell::toned(at("cli.revoked_at", revoked), Tone::Bad),
        (None, Some(end)) if end <= now_ms => Cell::toned(at("cli.expired_at", end), Tone::Bad),
        (None, Some(end)) => Cell::toned(at("cli.valid_until", end), Tone::Good),
        (None, None) => Cell::toned(catalogue::text(language, "cli.valid"), Tone::Good),
    }
}

fn details(language: Language, application: &ApplicationView, now_ms: i64, colour: bool) -> String {
    let record = &application.record;
    let usage = &application.usage;
    let mut text = print::pairs(
        language,
        &[
            ("cli.col.application", record.name.clone()),
            ("cli.col.title", record.title.clone()),
            ("cli.col.services", services_text(language, application)),
            ("cli.col.requests", usage.requests.to_string()),
            ("cli.col.prompt_cached", format!("{} ({})", usage.prompt_tokens, usage.cached_tokens)),
            ("cli.col.completion_tokens", usage.completion_tokens.to_string()),
            ("cli.col.amount", money(usage.amount)),
            ("cli.col.compute_amount", money(application.compute.amount)),
            ("cli.col.reserved_amount", money(application.reserved.amount)),
            ("cli.col.priority", record.priority.unwrap_or_default().word().to_owned()),
            ("cli.col.limits", limits_text(language, application)),
            ("cli.col.budget", budget_text(language, application)),
            ("cli.col.log", settings_text(language, record.log.as_ref())),
            ("cli.col.made", format!("{} ({})", print::moment(record.created_at_ms), record.created_by)),
        ],
    );
    let columns = ["cli.col.key", "cli.col.label", "cli.col.made", "cli.col.last_used", "cli.col.state"];
    let mut keys = Table::new(language, &columns);
    for key in &application.keys {
        keys.row(vec![
            key.id.to_string().into(),
            key.label.as_str().into(),
            print::moment(key.created_at_ms).into(),
            key.last_used_at_ms.map_or_else(|| "-".to_owned(), print::moment).into(),
            key_state(language, key, now_ms),
        ]);
    }
    if !keys.is_empty() {
        text.push('\n');
        text.push_str(&keys.render(colour));
    }
    text
}

pub(super) fn usage_cells(usage: &Usage) -> [Cell; 4] {
    [usage.requests, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens].map(Cell::number)
}

fn ledger_table(
    language: Language,
    rows: &[LedgerRow],
    applications: &[ApplicationView],
    services: &[ServiceView],
) -> Table {
    let keys = [
        "cli.col.opened",
        "cli.col.application",
        "cli.col.service",
        "cli.col.outcome",
        "cli.col.prompt_tokens",
        "cli.col.cached_tokens",
        "cli.col.completion_tokens",
        "cli.col.amount",
        "cli.col.request",
    ];
    let mut table = Table::new(language, &keys);
    for row in rows {
        let application = applications.iter().find(|a| a.record.id == row.application).map(|a| a.record.name.clone());
        let service = services.iter().find(|s| s.record.id == row.service).map(|s| s.record.name.clone());
        table.row(vec![
            print::moment(row.opened_at_ms).into(),
            application.unwrap_or_else(|| row.application.short()).into(),
            service.unwrap_or_else(|| row.service.short()).into(),
            print::word_of(&row.outcome).into(),
            Cell::number(row.prompt_tokens),
            Cell::number(row.cached_tokens),
            Cell::number(row.completion_tokens),
            Cell::number(money(row.amount)),
            row.id.short().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::application::{Outcome as Ending, Services};
    use hone_protocol::id::{LedgerId, ServiceId, VersionId};
    use hone_protocol::service::Price;

    /// A shop that may call one service, with a key that is valid and one that is not.
    fn application() -> ApplicationView {
        let mut shop = crate::sample::applications().remove(1);
        shop.record.title = "Web shop".into();
        shop.record.services = Services::Listed(vec![ServiceId::from_bytes([80; 16])]);
        let old = KeyRecord { label: "old".into(), revoked_at_ms: Some(1_774_000_000_000), ..shop.keys[0].clone() };
        shop.keys.push(old);
        shop
    }

    #[test]
    fn money_is_exact() {
        assert_eq!(money(Pico(0)), "0.00");
        assert_eq!(money(Pico(81_000_001)), "0.000081000001");
        assert_eq!(money(Pico(-1_500_000_000_000)), "-1.50");
    }

    #[test]
    fn months() {
        assert!(is_month("2026-11"));
        for bad in ["2026-13", "2026-00", "26-11", "2026/11", "2026-1", "-"] {
            assert!(!is_month(bad), "{bad}");
        }
    }

    #[test]
    fn tables() {
        let application = application();
        let applications = [application.clone()];
        insta::assert_snapshot!("app-list", table(Language::En, &applications, crate::sample::NOW_MS).render(false));
        insta::assert_snapshot!("app-show", details(Language::En, &application, crate::sample::NOW_MS, false));
        let row = LedgerRow {
            id: LedgerId::from_bytes([7; 16]),
            application: application.record.id,
            key: None,
            service: ServiceId::from_bytes([9; 16]),
            version: VersionId::from_bytes([2; 16]),
            opened_at_ms: 1_795_449_912_345,
            day: "2026-11-23".into(),
            closed_at_ms: None,
            outcome: Ending::CutByRestart,
            prompt_tokens: 12,
            cached_tokens: 4,
            completion_tokens: 30,
            price: Price::default(),
            amount: Pico(5),
            user: String::new(),
            metadata: Vec::new(),
            first_token_ms: Some(80),
            total_ms: Some(900),
        };
        insta::assert_snapshot!("ledger", ledger_table(Language::En, &[row], &applications, &[]).render(false));
    }
}
