//! `hone app limit` and `hone app pay`: how much an application may ask for and spend. Never here: whether a request may begin.

use clap::Args;
use hone_protocol::application::{BudgetKind, Limits, Payment};
use hone_protocol::catalogue::Language;
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Pico;

use super::application::{all, find, money, show};
use super::context::{Context, answer};
use crate::print::{self, Cell, Outcome, Table};

/// Set how much an application may ask for and spend. What is left out has no limit.
///
/// Limits follow from the ledger, so a restart refills none. A request that would pass one is answered with 429 and the seconds
/// to wait; one that its budget may not pay for with insufficient_quota.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone app limit shop --requests 60 --tokens 40000 --parallel 4 --monthly 25")]
pub(super) struct Limit {
    /// Its name.
    name: String,
    /// Requests a minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Tokens a minute, of prompts and answers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens: Option<u64>,
    /// Requests at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    parallel: Option<u64>,
    /// Most that it may spend in a calendar month, in units of the currency.
    #[arg(long, value_name = "AMOUNT", value_parser = amount_of)]
    monthly: Option<Pico>,
    /// It may spend what is paid in (hone app pay), and no more.
    #[arg(long, conflicts_with = "monthly")]
    prepaid: bool,
}

impl Limit {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let limits =
            Limits { requests_per_minute: self.requests, tokens_per_minute: self.tokens, parallel: self.parallel };
        let budget = match (self.monthly, self.prepaid) {
            (Some(amount), _) => BudgetKind::Monthly(amount),
            (None, true) => BudgetKind::Prepaid,
            (None, false) => BudgetKind::None,
        };
        let mut link = context.link()?;
        let request = Request::SetLimits { application: self.name.clone(), limits, budget };
        let _done: Answer = context.change(&mut link, "limits", request)?;
        show(context, find(&all(&mut link)?, &self.name)?)
    }
}

/// Enter a payment of an application with a prepaid budget; without an amount, list its payments.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone app pay shop 50 --note \"invoice 12\"")]
pub(super) struct Pay {
    /// Its name.
    name: String,
    /// How much, in units of the currency; negative to take back.
    #[arg(value_name = "AMOUNT", value_parser = amount_of, allow_hyphen_values = true)]
    amount: Option<Pico>,
    /// What for.
    #[arg(long, default_value = "")]
    note: String,
}

impl Pay {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        if let Some(amount) = self.amount {
            let request = Request::Pay { application: self.name.clone(), amount, note: self.note };
            let _done: Answer = context.change(&mut link, "payment", request)?;
            return show(context, find(&all(&mut link)?, &self.name)?);
        }
        let payments = answer!(link.ask(Request::Payments { application: self.name })?, Payments);
        if context.json {
            return payments.iter().try_for_each(print::json);
        }
        print::out(&payments_table(context.language, &payments).render(print::colour()))
    }
}

fn payments_table(language: Language, payments: &[Payment]) -> Table {
    let mut table = Table::new(language, &["cli.col.paid_at", "cli.col.amount", "cli.col.person", "cli.col.note"]);
    for payment in payments {
        table.row(vec![
            print::moment(payment.at_ms).into(),
            Cell::number(money(payment.amount)),
            payment.person.as_str().into(),
            payment.note.as_str().into(),
        ]);
    }
    table
}

/// An amount as it is typed: units with up to twelve digits behind the point.
pub(super) fn amount_of(text: &str) -> Result<Pico, String> {
    let wrong = || format!("{text:?} is no amount; write it like 25 or 0.5");
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (units, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if units.is_empty() || units.len() > 12 || fraction.len() > 12 || !plain(units) || !plain(fraction) {
        return Err(wrong());
    }
    let units: i128 = units.parse().map_err(|_| wrong())?;
    let fraction: i128 = format!("{fraction:0<12}").parse().map_err(|_| wrong())?;
    Ok(Pico(sign * (units * Pico::PER_UNIT + fraction)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount_of("25"), Ok(Pico(25 * Pico::PER_UNIT)));
        assert_eq!(amount_of("-0.5"), Ok(Pico(-Pico::PER_UNIT / 2)));
        assert_eq!(amount_of("0.000000000001"), Ok(Pico(1)));
        for wrong in ["", "-", ".5", "1e3", "1,5", "+1", "0.0000000000001", "1234567890123"] {
            assert!(amount_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn payments_are_listed_with_who_and_why() {
        let payment = |amount, note: &str| Payment {
            application: hone_protocol::id::ApplicationId::from_bytes([1; 16]),
            at_ms: 1_795_449_912_345,
            amount: Pico(amount),
            note: note.into(),
            person: "lin".into(),
        };
        let payments = [payment(50 * Pico::PER_UNIT, "invoice 12"), payment(-Pico::PER_UNIT / 4, "")];
        insta::assert_snapshot!("app-payments", payments_table(Language::En, &payments).render(false));
    }
}
