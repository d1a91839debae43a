//! `hone pool`: what computing costs. Never here: what was computed (`usage`, `invoice`).

use clap::{Args, Subcommand};
use hone_protocol::catalogue::Language;
use hone_protocol::request::{Answer, Request};
use hone_protocol::usage::{ComputePrice, PoolRecord};

use super::context::{Context, answer};
use super::service::micros;
use crate::print::{self, Cell, Outcome, Table};

/// Pools: where computing happens, and what it costs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Price(PriceVerb),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::Price(verb) => verb.run(context),
        }
    }
}

/// List pools with their prices.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone pool list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        show(context)
    }
}

/// Say what an hour of computing costs from now on. What is left out has no price.
///
/// Attempts of jobs and the time of services become rows of the ledger when they end, at the price of that moment.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone pool price local --core-hour 0.05")]
pub(super) struct PriceVerb {
    /// Name of the pool; this machine is `local`.
    name: String,
    /// Price of a core for an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    core_hour: Option<u64>,
    /// Price of a GPU for an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    gpu_hour: Option<u64>,
}

impl PriceVerb {
    fn run(self, context: &Context) -> Outcome {
        let price = ComputePrice { core_hour_micros: self.core_hour, gpu_hour_micros: self.gpu_hour };
        let request = Request::SetPool { name: self.name, price };
        let _done: Answer = context.change(&mut context.link()?, "pool", request)?;
        show(context)
    }
}

fn show(context: &Context) -> Outcome {
    let mut link = context.link()?;
    let pools = answer!(link.ask(Request::Pools)?, Pools);
    if context.json {
        return print::json(&pools);
    }
    let status = answer!(link.ask(Request::Status)?, Status);
    print::out(&table(context.language, &pools, &status.currency).render(print::colour()))
}

fn table(language: Language, pools: &[PoolRecord], currency: &str) -> Table {
    let keys = ["cli.col.pool", "cli.col.core_hour", "cli.col.gpu_hour", "cli.col.currency", "cli.col.since"];
    let mut table = Table::new(language, &keys);
    for pool in pools {
        let since = match pool.changed_at_ms {
            0 => "-".to_owned(),
            at => format!("{} ({})", print::moment(at), pool.changed_by),
        };
        table.row(vec![
            pool.name.as_str().into(),
            Cell::number(print::micros(pool.price.core_hour_micros)),
            Cell::number(print::micros(pool.price.gpu_hour_micros)),
            currency.into(),
            since.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_with_and_without_a_price() {
        let pool = |name: &str, core, at| PoolRecord {
            name: name.into(),
            price: ComputePrice { core_hour_micros: core, gpu_hour_micros: None },
            changed_at_ms: at,
            changed_by: "lin".into(),
        };
        let pools = [pool("local", Some(50_000), 1_795_449_912_345), pool("cluster", None, 0)];
        insta::assert_snapshot!("pools", table(Language::En, &pools, "EUR").render(false));
    }
}
