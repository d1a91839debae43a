//! Two days of traffic on a simulated clock, from noon to noon to noon: three applications, chats, embeddings and a batch, requests
//! that end well, fail, are given up or never open, jobs that succeed, die and are cancelled, prices that change at noon, payments,
//! a clock that is set, a daemon that is killed. The invoices must add up in the test's own arithmetic, which knows nothing of the
//! product's. Never here: orders of events (`interleavings`).

use std::collections::BTreeSet;

use hone_protocol::application::{Budget, BudgetKind, Limits};
use hone_protocol::batch::{BatchRow, BatchSpec, DatasetBatch};
use hone_protocol::id::KeyId;
use hone_protocol::usage::{ComputePrice, UsageBy, UsageQuery};
use hone_protocol::value::Pico;

use super::super::event::KeptRow;
use super::*;
use crate::{invoice, usage};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const APPS: [&str; 3] = ["shop", "lab", "night"];
const SERVICES: [&str; 3] = ["desk", "chat", "embed"];
const USERS: [&str; 4] = ["ada", "lin", "", "行"];

/// A request in the test's own book.
#[derive(Debug, Clone)]
struct Line {
    application: &'static str,
    service: &'static str,
    day: String,
    user: &'static str,
    key: u8,
    /// Micro-units for a million tokens: of prompts, of cached ones, of answers.
    price: [i128; 3],
    tokens: [u64; 3],
    is_error: bool,
}

impl Line {
    fn pico(&self) -> i128 {
        let [prompt, cached, completion] = self.tokens.map(i128::from);
        (prompt - cached) * self.price[0] + cached * self.price[1] + completion * self.price[2]
    }
}

/// Computing in the test's own book.
#[derive(Debug, Clone)]
struct Work {
    application: &'static str,
    kind: &'static str,
    day: String,
    core_ms: i128,
    hour_micros: i128,
}

impl Work {
    /// An hour of a core is 3.6 million milliseconds, a micro-unit a million pico-units; half a pico-unit is one.
    fn pico(&self) -> i128 {
        (self.core_ms * self.hour_micros * 1_000_000 + 1_800_000) / 3_600_000
    }
}

/// Prices of the services before and after noon of the second day; the cached price of `chat` is that of its prompts.
fn price(service: &str, is_after: bool) -> ([i128; 3], Price) {
    let (input, cached, output) = match (service, is_after) {
        ("desk", false) => (150_000, Some(15_000), Some(600_000)),
        ("desk", true) => (200_000, Some(0), Some(900_001)),
        ("chat", false) => (1_000_001, None, Some(3)),
        ("chat", true) => (999_999, None, Some(5_000_003)),
        (_, false) => (20_000, None, None),
        (_, true) => (21_007, None, None),
    };
    let own = [i128::from(input), cached.map_or(i128::from(input), i128::from), output.map_or(0, i128::from)];
    (own, Price { input_micros: Some(input), cached_micros: cached, output_micros: output })
}

/// Rounds pico-units to six digits by text, as a person with a pencil would.
fn pencil(pico: i128) -> String {
    let micros = (pico + 500_000) / 1_000_000;
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// The day of a moment, counted by hand: noon of 28 November 2026 is [`NOON_MS`].
fn day(wall_ms: i64) -> String {
    let days = (wall_ms - NOON_MS + 12 * HOUR_MS).div_euclid(24 * HOUR_MS);
    ["2026-11-27", "2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"][usize::try_from(days + 1).unwrap()]
        .to_owned()
}

struct Days {
    desk: Desk,
    lines: Vec<Line>,
    work: Vec<Work>,
    is_after: bool,
    /// What a core-hour costs, in micro-units.
    hour_micros: i128,
    paid: i128,
    refused: u64,
    /// The batch, and its next row.
    batch: (JobId, u64),
    dice: u64,
}

impl Days {
    fn new() -> Days {
        let mut desk = Desk::furnished();
        for name in APPS {
            let make = Request::SetApplication {
                name: name.into(),
                title: String::new(),
                services: Vec::new(),
                priority: None,
            };
            desk.ask("", make).unwrap();
        }
        let mut days = Days {
            desk,
            lines: Vec::new(),
            work: Vec::new(),
            is_after: false,
            hour_micros: 90_000,
            paid: 0,
            refused: 0,
            batch: (new_id(), 0),
            dice: 7,
        };
        days.publish();
        days.set_pool(90_000);
        let prepaid =
            Request::SetLimits { application: "shop".into(), limits: Limits::default(), budget: BudgetKind::Prepaid };
        days.desk.ask("", prepaid).unwrap();
        days.pay(3_000);
        let batch = DatasetBatch { service: "desk".into(), payer: "night".into(), ..super::batches::batch() };
        days.batch.0 = days.desk.submit("", JobSpec::Batch(BatchSpec::Dataset(Box::new(batch))));
        days
    }

    /// A number below `most`, the same in each run.
    fn roll(&mut self, most: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % most
    }

    fn publish(&mut self) {
        for name in SERVICES {
            let (_, price) = price(name, self.is_after);
            let (slots, context_tokens) = (2, 512);
            let publish = Request::Publish {
                name: name.into(),
                version: "starter".into(),
                slots,
                context_tokens,
                price,
                keep: None,
                pool: None,
            };
            self.desk.ask("", publish).unwrap();
        }
    }

    fn set_pool(&mut self, micros: u64) {
        let price = ComputePrice { core_hour_micros: Some(micros), gpu_hour_micros: None };
        self.desk.ask("", Request::SetPool { name: "local".into(), price, place: None }).unwrap();
        self.hour_micros = micros.into();
    }

    fn pay(&mut self, micros: u64) {
        let amount = Pico(i128::from(micros) * 1_000_000);
        let pay = Request::Pay { application: "shop".into(), amount, note: "a transfer".into() };
        self.desk.ask("", pay).unwrap();
        self.paid += amount.0;
    }

    fn row(&self, line: &Line) -> LedgerRow {
        let service = self.desk.state().service(line.service).unwrap();
        let mut id = *uuid::Uuid::now_v7().as_bytes();
        id[..6].copy_from_slice(&self.desk.now.wall_ms.to_be_bytes()[2..]);
        LedgerRow {
            id: LedgerId::from_bytes(id),
            application: self.desk.state().application(line.application).unwrap().id,
            key: (line.key > 0).then(|| KeyId::from_bytes([line.key; 16])),
            service: service.id,
            version: service.version,
            opened_at_ms: 0,
            day: String::new(),
            closed_at_ms: None,
            outcome: Outcome::Open,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            price: service.price,
            amount: Pico(0),
            user: line.user.into(),
            metadata: Vec::new(),
            first_token_ms: None,
            total_ms: None,
        }
    }

    /// Opens a row for what may become this line; nothing when its budget is spent.
    fn open(&mut self, line: &Line) -> Option<LedgerRow> {
        let row = self.row(line);
        let (reply, _) = oneshot::channel();
        self.desk.tell("", Event::OpenRow { row: Box::new(row.clone()), tokens_most: (200, 40), reply });
        self.desk.state().open_rows.contains_key(&row.id).then_some(row)
    }

    fn close(
        &mut self,
        row: &LedgerRow,
        outcome: Outcome,
        [prompt_tokens, cached_tokens, completion_tokens]: [u64; 3],
    ) {
        let (first_token_ms, total_ms) = (None, 10);
        let close = Close {
            outcome,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            first_token_ms,
            total_ms,
            is_estimate: false,
        };
        self.desk.tell("", Event::CloseRow { id: row.id, close, reply: oneshot::channel().0 });
    }

    /// A request of somebody; what the test writes into its book for it.
    fn request(&mut self, kill: bool) {
        let (application, service) = (APPS[self.roll(2) as usize], SERVICES[self.roll(3) as usize]);
        let (user, key, outcome) = (USERS[self.roll(4) as usize], 1 + self.roll(2) as u8, self.roll(8));
        let prompt = 40 + self.roll(91);
        let cached = if self.roll(2) == 0 { 0 } else { prompt / 3 };
        let completion = if service == "embed" { 0 } else { 1 + self.roll(40) };
        let (price, _) = price(service, self.is_after);
        let day = day(self.desk.now.wall_ms);
        let mut line =
            Line { application, service, day, user, key, price, tokens: [prompt, cached, completion], is_error: false };
        let Some(row) = self.open(&line) else {
            assert_eq!(application, "shop", "only a prepaid application can run out of money");
            self.refused += 1;
            return;
        };
        // Some answers end on the day after their beginning, whose day counts.
        let minutes = self.roll(5) as i64;
        self.desk.pass(minutes * MINUTE_MS);
        if kill {
            // Half of the answer is durably billed when the daemon is killed.
            line.tokens = [prompt, cached, completion / 2];
            line.is_error = true;
            let mark = Arc::default();
            let (id, tokens) = (row.id, completion / 2);
            let event = Event::Watermark { id, prompt_tokens: prompt, cached_tokens: cached, tokens, mark };
            self.desk.tell("", event);
            self.desk.start("");
        } else {
            let (outcome, tokens) = match outcome {
                0 => (Outcome::Failed, [0, 0, 0]),
                1 => (Outcome::Disconnected, [prompt, cached, completion / 3]),
                _ => (Outcome::Complete, [prompt, cached, completion]),
            };
            (line.tokens, line.is_error) = (tokens, outcome == Outcome::Failed);
            self.close(&row, outcome, tokens);
        }
        self.lines.push(line);
    }

    /// A row of the batch at night: kept with its bill, or from an attempt that is over, which nobody pays.
    fn batch_row(&mut self) {
        let (job, number) = (self.batch.0, self.desk.state().attempts.get(&self.batch.0).map_or(0, |a| a.number));
        assert!(number > 0, "the batch runs");
        let is_stale = self.roll(4) == 0;
        let tokens = if is_stale { [0; 3] } else { [50 + self.roll(20), 10, 1 + self.roll(30)] };
        let (price, _) = price("desk", self.is_after);
        let day = day(self.desk.now.wall_ms);
        let line =
            Line { application: "night", service: "desk", day, user: "", key: 0, price, tokens, is_error: is_stale };
        let row = self.open(&line).expect("no budget, no limit");
        let [prompt_tokens, cached_tokens, completion_tokens] = if is_stale { [9, 9, 9] } else { tokens };
        let kept = BatchRow {
            row: self.batch.1,
            custom_id: String::new(),
            answer: Ok("yes".into()),
            finish: "stop".into(),
            version: "starter@1".into(),
            ledger: Some(row.id),
            prompt_tokens,
            cached_tokens,
            completion_tokens,
        };
        let (outcome, first_token_ms, total_ms) = (Outcome::Complete, None, 0);
        let close = Close {
            outcome,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            first_token_ms,
            total_ms,
            is_estimate: false,
        };
        let kept = Box::new(KeptRow { row: kept, close: Some(close), tokens_per_s: 9.0, remaining_ms: None });
        let number = if is_stale { number - 1 } else { number };
        self.desk.tell("", Event::BatchRow { job, number, kept, done: oneshot::channel().0 });
        self.batch.1 += u64::from(!is_stale);
        self.lines.push(line);
    }

    /// A training job of some minutes, which ends in one of three ways.
    fn job(&mut self, application: &'static str, minutes: i64, way: u64) {
        let submit = Request::Submit { spec: train(), payer: Some(application.into()), pool: None };
        let Ok(Answer::Job(job)) = self.desk.ask("", submit) else { panic!("{application} may pay for a job") };
        let job = job.record.id;
        // It may wait for the cores that the batch has.
        let runs = self.desk.state().attempts.contains_key(&job);
        self.desk.pass(minutes * MINUTE_MS);
        match way {
            0 => self.desk.end("", job, AttemptEnd::Produced(Box::new(adapter()))),
            1 => {
                self.desk.end("", job, died());
                self.charge(application, "train", minutes, runs);
                self.desk.pass(minutes * MINUTE_MS);
                self.desk.ask("", Request::Cancel { job }).unwrap();
                self.desk.end("", job, AttemptEnd::Stopped);
            }
            _ => {
                self.desk.ask("", Request::Cancel { job }).unwrap();
                self.desk.end("", job, AttemptEnd::Stopped);
            }
        }
        self.charge(application, "train", minutes, runs);
    }

    fn charge(&mut self, application: &'static str, kind: &'static str, minutes: i64, runs: bool) {
        assert!(runs, "a job of {application} did not run");
        let (day, hour_micros) = (day(self.desk.now.wall_ms), self.hour_micros);
        // Both cores, for as long as the clock that nobody sets says.
        let core_ms = i128::from(2 * minutes * MINUTE_MS);
        self.work.push(Work { application, kind, day, core_ms, hour_micros });
    }

    fn of<'d>(&'d self, application: &'d str, month: &'d str) -> Vec<&'d Line> {
        self.lines.iter().filter(|l| l.application == application && l.day.starts_with(month)).collect()
    }

    fn check_invoice(&self, application: &str, month: &str) {
        let invoice = self.desk.read(|store, state| invoice::invoice(store, state, application, month));
        let mine = self.of(application, month);
        let mut by_price: BTreeMap<(&str, [i128; 3]), Vec<&Line>> = BTreeMap::new();
        mine.iter().for_each(|line| by_price.entry((line.service, line.price)).or_default().push(line));
        assert_eq!(invoice.tokens.len(), by_price.len(), "{application} {month}");
        let mut micros = 0;
        for line in &invoice.tokens {
            let input = i128::from(line.price.input_micros.unwrap());
            let (_, own) = by_price.iter().find(|((s, price), _)| *s == line.service && price[0] == input).unwrap();
            let pico: i128 = own.iter().map(|line| line.pico()).sum();
            assert_eq!((line.usage.amount.0, line.usage.requests), (pico, own.len() as u64), "{line:?}");
            let sum = |which: usize| own.iter().map(|line| line.tokens[which]).sum::<u64>();
            let tokens = [line.usage.prompt_tokens, line.usage.cached_tokens, line.usage.completion_tokens];
            assert_eq!(tokens, [sum(0), sum(1), sum(2)]);
            assert_eq!(line.usage.errors, own.iter().filter(|line| line.is_error).count() as u64);
            assert_eq!(Some(line.from.as_str()), own.iter().map(|line| line.day.as_str()).min());
            assert_eq!(Some(line.to.as_str()), own.iter().map(|line| line.day.as_str()).max());
            assert_eq!(line.rounded, pencil(pico));
            micros += (pico + 500_000) / 1_000_000;
        }
        let work = self.work.iter().filter(|w| w.application == application && w.day.starts_with(month));
        let mut by_kind: BTreeMap<(&str, i128), (i128, i128)> = BTreeMap::new();
        for one in work {
            let sums = by_kind.entry((one.kind, one.hour_micros)).or_default();
            *sums = (sums.0 + one.core_ms, sums.1 + one.pico());
        }
        // The batch still runs: of `night` only its tokens are known.
        assert_eq!(invoice.compute.len(), by_kind.len(), "{application} {month}");
        for line in &invoice.compute {
            let own = by_kind[&(line.kind.as_str(), i128::from(line.price.core_hour_micros.unwrap()))];
            assert_eq!((i128::from(line.usage.core_ms), line.usage.amount.0), own, "{line:?}");
            assert_eq!(line.rounded, pencil(own.1));
            micros += (own.1 + 500_000) / 1_000_000;
        }
        let exact = mine.iter().map(|line| line.pico()).sum::<i128>() + by_kind.values().map(|s| s.1).sum::<i128>();
        assert_eq!(invoice.amount.0, exact, "{application} {month}");
        assert_eq!(invoice.rounded, format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
    }

    fn check_pages(&self, application: &str) {
        let mine = self.of(application, "2026");
        let all: i128 = mine.iter().map(|line| line.pico()).sum();
        for by in [&[][..], &[UsageBy::Day], &[UsageBy::User, UsageBy::Day], &[UsageBy::Key], &[UsageBy::Service]] {
            let query = UsageQuery {
                application: application.into(),
                from: "2026-11-01".into(),
                to: "2026-12-31".into(),
                by: by.to_vec(),
                count: 1000,
                ..UsageQuery::default()
            };
            let page = self.desk.read(|store, state| usage::page(store, state, &query));
            assert_eq!((page.total.amount.0, page.total.requests), (all, mine.len() as u64), "{application} {by:?}");
            let mut seen = 0;
            for line in &page.lines {
                let key = |l: &Line| if l.key > 0 { KeyId::from_bytes([l.key; 16]).to_string() } else { String::new() };
                let own = mine.iter().filter(|l| {
                    line.day.as_ref().is_none_or(|day| *day == l.day)
                        && line.user.as_ref().is_none_or(|user| user == l.user)
                        && line.service.as_ref().is_none_or(|service| service == l.service)
                        && line.key.as_ref().is_none_or(|by| *by == key(l))
                });
                assert_eq!(line.usage.amount.0, own.map(|l| l.pico()).sum::<i128>(), "{line:?}");
                seen += line.usage.requests;
            }
            assert_eq!(seen, mine.len() as u64, "every request is on one line");
        }
    }
}

#[test]
fn two_days_of_traffic_give_an_invoice_that_adds_up_by_hand() {
    let mut days = Days::new();
    let end = days.desk.now.steady_ms + 48 * HOUR_MS;
    for number in 0.. {
        days.desk.pass(6 * MINUTE_MS);
        if days.desk.now.steady_ms >= end {
            break;
        }
        if !days.is_after && days.desk.now.wall_ms >= NOON_MS + 24 * HOUR_MS {
            // Noon of the second day: all prices change, those of computing too.
            days.is_after = true;
            days.publish();
            days.set_pool(120_001);
        }
        match number {
            // The wall's clock is set back by nine hours and put right again: over the border of a day, both times.
            150 => days.desk.now.wall_ms -= 9 * HOUR_MS,
            170 => days.desk.now.wall_ms += 9 * HOUR_MS,
            60 | 260 => days.pay(700),
            _ => {}
        }
        days.request(number % 97 == 50);
        if number % 3 == 0 {
            days.batch_row();
        }
    }
    assert!(days.refused > 0, "the prepaid application ran out of money, and was paid for again");
    assert!(days.lines.len() > 300, "{}", days.lines.len());
    let days_seen: BTreeSet<&str> = days.lines.iter().map(|line| line.day.as_str()).collect();
    assert_eq!(days_seen, ["2026-11-28", "2026-11-29", "2026-11-30"].into());

    // The batch is cancelled, and its attempts are paid by whom it is for; then jobs have the cores.
    let batch = days.batch.0;
    let began = days.desk.state().attempts[&batch].began_steady_ms;
    days.desk.ask("", Request::Cancel { job: batch }).unwrap();
    let minutes = (days.desk.now.steady_ms - began) / MINUTE_MS;
    let cores = i128::from(days.desk.state().attempts[&batch].cores);
    days.desk.end("", batch, AttemptEnd::Stopped);
    let (day, hour_micros) = (day(days.desk.now.wall_ms), days.hour_micros);
    let core_ms = cores * i128::from(minutes * MINUTE_MS);
    days.work.push(Work { application: "night", kind: "batch", day, core_ms, hour_micros });
    for (application, minutes, way) in [("lab", 11, 1), ("lab", 3, 0), ("night", 7, 2), ("lab", 5, 2)] {
        days.job(application, minutes, way);
    }
    for application in APPS {
        for month in ["2026-11", "2026-12"] {
            days.check_invoice(application, month);
        }
        days.check_pages(application);
    }
    // What the prepaid application paid in is what it used and what is left.
    let used: i128 = days.of("shop", "2026").iter().map(|line| line.pico()).sum();
    let shop = days.desk.state().application("shop").unwrap().clone();
    assert_eq!(shop.budget, Some(Budget::Prepaid { paid: Pico(days.paid), used_before: Pico(0) }));
    assert_eq!(days.desk.state().budgets_left[&shop.id].0, days.paid - used);
    assert!(days.paid >= used);
    let payments = days.desk.store.as_ref().unwrap().prefix(Table::Payments, shop.id.bytes()).unwrap();
    assert_eq!(payments.len(), 3);
}
