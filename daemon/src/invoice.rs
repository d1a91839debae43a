//! Invoices: what an application used in a month, read out of the sums. Amounts are exact; each line is rounded once.
//! Never here: a price.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use hone_protocol::application::Usage;
use hone_protocol::failure::Failure;
use hone_protocol::id::ServiceId;
use hone_protocol::service::Price;
use hone_protocol::usage::{ComputeLine, ComputePrice, ComputeUsage, Invoice, ReservedLine, ReservedUsage, TokenLine};
use hone_protocol::value::Pico;

use crate::clock;
use crate::state::State;
use crate::store::{Store, Table, codec};
use crate::sums::DayKey;
use crate::usage::{each_compute, each_reserved, range};

/// Bytes of `YYYY-MM`.
const MONTH_BYTES: usize = 7;

/// First and last day that a month can have.
fn month(state: &State, text: &str) -> Result<(String, String, String), Failure> {
    let today = clock::day(clock::now_ms(), &state.fixed.zone);
    let month = if text.is_empty() { today.get(..MONTH_BYTES).unwrap_or_default() } else { text };
    let first = format!("{month}-01");
    if month.len() != MONTH_BYTES || !clock::is_day(&first) {
        return Err(Failure::field("month", format!("{month:?} is not of the form YYYY-MM")));
    }
    Ok((month.to_owned(), first, format!("{month}-31")))
}

/// A line in the making: first and last day, and the sums.
struct Spread<T> {
    from: String,
    to: String,
    sums: T,
}

impl<T: Default> Spread<T> {
    fn new(day: &str) -> Spread<T> {
        Spread { from: day.to_owned(), to: day.to_owned(), sums: T::default() }
    }
}

/// What tokens are told apart by on an invoice: the service, and the three prices so that they sort.
type Priced = (ServiceId, [Option<u64>; 3]);

/// The invoice of an application for a month.
pub(crate) fn invoice(store: &Store, state: &State, name: &str, text: &str) -> Result<Invoice, Failure> {
    let (month, first, last) = month(state, text)?;
    let application = state.application(name)?;
    let mut tokens: BTreeMap<Priced, Spread<Usage>> = BTreeMap::new();
    let (begin, end) = range(application, &first, &last);
    store.visit(Table::Sums, (&begin, &end), false, |key, value| {
        let usage: Usage = codec::read(Table::Sums, key, value)?;
        if let Some(DayKey { day, service, price }) = DayKey::read(key) {
            let prices = [price.input_micros, price.cached_micros, price.output_micros];
            let line = tokens.entry((service, prices)).or_insert_with(|| Spread::new(&day));
            line.to = day;
            line.sums.merge(&usage);
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    let mut compute: BTreeMap<(String, [Option<u64>; 2]), Spread<ComputeUsage>> = BTreeMap::new();
    each_compute(store, application, &first, &last, |key, usage| {
        let prices = [key.price.core_hour_micros, key.price.gpu_hour_micros];
        let line = compute.entry((key.kind, prices)).or_insert_with(|| Spread::new(&key.day));
        line.from = key.day.clone().min(std::mem::take(&mut line.from));
        line.to = key.day.max(std::mem::take(&mut line.to));
        line.sums.merge(&usage);
    })?;
    let mut reserved: BTreeMap<(ServiceId, u64), Spread<ReservedUsage>> = BTreeMap::new();
    each_reserved(store, application, &first, &last, |key, usage| {
        let line = reserved.entry((key.service, key.hour_micros)).or_insert_with(|| Spread::new(&key.day));
        line.from = key.day.clone().min(std::mem::take(&mut line.from));
        line.to = key.day.max(std::mem::take(&mut line.to));
        line.sums.merge(&usage);
    })?;
    let mut reserved: Vec<ReservedLine> = reserved.into_iter().map(|line| reserved_line(state, line)).collect();
    reserved.sort_by(|a, b| (&a.service, &a.from).cmp(&(&b.service, &b.from)));
    let mut tokens: Vec<TokenLine> = tokens.into_iter().map(|line| token_line(state, line)).collect();
    tokens.sort_by(|a, b| (&a.service, &a.from).cmp(&(&b.service, &b.from)));
    let compute: Vec<ComputeLine> = compute.into_iter().map(compute_line).collect();
    let amounts = || {
        let tokens = tokens.iter().map(|l| l.usage.amount);
        let compute = compute.iter().map(|l| l.usage.amount);
        tokens.chain(compute).chain(reserved.iter().map(|l| l.usage.amount))
    };
    Ok(Invoice {
        application: name.to_owned(),
        month,
        zone: state.fixed.zone.clone(),
        currency: state.fixed.currency.clone(),
        amount: amounts().sum(),
        rounded: amounts().map(Pico::to_micros).sum::<Pico>().rounded(),
        tokens,
        compute,
        reserved,
    })
}

fn token_line(state: &State, ((service, prices), line): (Priced, Spread<Usage>)) -> TokenLine {
    let [input_micros, cached_micros, output_micros] = prices;
    TokenLine {
        service: state.service_name(service),
        from: line.from,
        to: line.to,
        price: Price { input_micros, cached_micros, output_micros },
        rounded: line.sums.amount.rounded(),
        usage: line.sums,
    }
}

fn compute_line(((kind, prices), line): ((String, [Option<u64>; 2]), Spread<ComputeUsage>)) -> ComputeLine {
    let [core_hour_micros, gpu_hour_micros] = prices;
    ComputeLine {
        kind,
        from: line.from,
        to: line.to,
        price: ComputePrice { core_hour_micros, gpu_hour_micros },
        rounded: line.sums.amount.rounded(),
        usage: line.sums,
    }
}

fn reserved_line(
    state: &State,
    ((service, hour_micros), line): ((ServiceId, u64), Spread<ReservedUsage>),
) -> ReservedLine {
    ReservedLine {
        service: state.service_name(service),
        from: line.from,
        to: line.to,
        hour_micros,
        rounded: line.sums.amount.rounded(),
        usage: line.sums,
    }
}
