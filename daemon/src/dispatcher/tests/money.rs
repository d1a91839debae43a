//! Money over simulated clocks: borders of days and months, clocks that are set, jobs that are paid for. Never here: HTTP, two days
//! of traffic (`two_days`), orders of events (`interleavings`).

use hone_protocol::application::{BudgetKind, Limits, Outcome};
use hone_protocol::id::KeyId;
use hone_protocol::usage::{ComputePrice, ComputeRow, ComputeWhat, UsageBy, UsageQuery};
use hone_protocol::value::Pico;

use super::*;
use crate::{invoice, stats, usage};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn priced(name: &str, input: u64, cached: u64, output: u64) -> Request {
    let price = Price { input_micros: Some(input), cached_micros: Some(cached), output_micros: Some(output) };
    Request::Publish {
        name: name.into(),
        version: "starter".into(),
        slots: 2,
        context_tokens: 512,
        price,
        keep: None,
        pool: None,
    }
}

impl Desk {
    /// A shop beside the owner, and two services.
    fn shop() -> Desk {
        let mut desk = Desk::furnished();
        desk.ask("", priced("desk", 150_000, 15_000, 600_000)).unwrap();
        desk.ask("", priced("chat", 1_000_001, 7, 3)).unwrap();
        let make =
            Request::SetApplication { name: "shop".into(), title: String::new(), services: Vec::new(), priority: None };
        desk.ask("", make).unwrap();
        desk
    }

    /// A row of the shop at a service as the desk would open it.
    fn row(&self, service: &str, user: &str) -> LedgerRow {
        let service = self.state().service(service).unwrap();
        let mut id = [0; 16];
        id.copy_from_slice(uuid::Uuid::now_v7().as_bytes());
        // Identifiers carry the time of the simulated clock, as those of the real one do.
        id[..6].copy_from_slice(&self.now.wall_ms.to_be_bytes()[2..]);
        LedgerRow {
            id: LedgerId::from_bytes(id),
            application: self.state().application("shop").unwrap().id,
            key: Some(KeyId::from_bytes([9; 16])),
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
            user: user.into(),
            metadata: Vec::new(),
            first_token_ms: None,
            total_ms: None,
        }
    }

    /// Opens a row; the refusal when it may not begin.
    fn open(&mut self, row: &LedgerRow, most: (u64, u64)) -> Option<Failure> {
        let (reply, mut answer) = oneshot::channel();
        let before = self.state().open_rows.len();
        self.tell("", Event::OpenRow { row: Box::new(row.clone()), tokens_most: most, reply });
        match self.state().open_rows.len() > before {
            true => None,
            false => Some(answer.try_recv().unwrap().unwrap_err()),
        }
    }

    fn close(&mut self, id: LedgerId, outcome: Outcome, (prompt, cached, completion): (u64, u64, u64), ms: u32) {
        let close = Close {
            outcome,
            prompt_tokens: prompt,
            cached_tokens: cached,
            completion_tokens: completion,
            first_token_ms: (completion > 0).then_some(ms / 4),
            total_ms: ms,
            is_estimate: false,
        };
        self.tell("", Event::CloseRow { id, close, reply: oneshot::channel().0 });
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Store, &State) -> Result<T, Failure>) -> T {
        read(self.store.as_ref().unwrap(), self.state()).unwrap()
    }

    fn usage(&self, by: &[UsageBy]) -> hone_protocol::usage::UsagePage {
        let query = UsageQuery {
            application: "shop".into(),
            from: "2026-11-01".into(),
            to: "2026-12-31".into(),
            by: by.to_vec(),
            count: 1000,
            ..UsageQuery::default()
        };
        self.read(|store, state| usage::page(store, state, &query))
    }

    fn computed(&self, application: &str) -> Vec<ComputeRow> {
        let id = self.state().application(application).unwrap().id;
        let pairs = self.store.as_ref().unwrap().prefix(Table::Compute, id.bytes()).unwrap();
        codec::read_all(Table::Compute, &pairs).unwrap()
    }
}

#[test]
fn pages_end_where_the_next_begins() {
    let mut desk = Desk::shop();
    for number in 0..25 {
        let row = desk.row("desk", &format!("user {number:02}"));
        assert_eq!(desk.open(&row, (9, 9)), None);
        desk.close(row.id, Outcome::Complete, (9, 0, 2), 10);
    }
    let (mut after, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let query = UsageQuery {
            application: "shop".into(),
            from: "2026-11-28".into(),
            to: "2026-11-28".into(),
            by: vec![UsageBy::User],
            count: 10,
            after,
            ..UsageQuery::default()
        };
        let page = desk.read(|store, state| usage::page(store, state, &query));
        assert_eq!(page.total.requests, 25, "the total is of all pages");
        seen.extend(page.lines.iter().map(|line| line.user.clone().unwrap()));
        pages += 1;
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 25));
    assert!(seen.is_sorted());
    let refused = |query: UsageQuery| usage::page(desk.store.as_ref().unwrap(), desk.state(), &query).unwrap_err();
    assert_eq!(refused(UsageQuery { after: "zz".into(), ..UsageQuery::default() }).place, "after");
    assert_eq!(refused(UsageQuery { from: "2026-11-31".into(), ..UsageQuery::default() }).place, "from");
    assert_eq!(refused(UsageQuery { service: "nobody".into(), ..UsageQuery::default() }).code, FailureCode::NotFound);
}

#[test]
fn no_step_of_the_clock_opens_a_window_again() {
    let mut desk = Desk::shop();
    let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
    let set = Request::SetLimits { application: "shop".into(), limits, budget: BudgetKind::None };
    desk.ask("", set).unwrap();
    for _ in 0..2 {
        let row = desk.row("desk", "");
        assert_eq!(desk.open(&row, (9, 9)), None);
        desk.close(row.id, Outcome::Complete, (9, 0, 2), 10);
    }
    for step in [3 * HOUR_MS, -7 * HOUR_MS, 4 * HOUR_MS] {
        desk.now.wall_ms += step;
        desk.pass(10_000);
        let row = desk.row("desk", "");
        assert_eq!(desk.open(&row, (9, 9)).unwrap().code, FailureCode::LimitReached, "a step of {step} ms");
    }
    desk.pass(30_001);
    let row = desk.row("desk", "");
    assert_eq!(desk.open(&row, (9, 9)), None, "a minute of the clock that is never set has passed");
    // Set back while the daemon was down: what is in the future counts as of now.
    desk.now.wall_ms -= 2 * HOUR_MS;
    desk.start("");
    let row = desk.row("desk", "");
    desk.open(&row, (9, 9));
    let row = desk.row("desk", "");
    assert_eq!(desk.open(&row, (9, 9)).unwrap().code, FailureCode::LimitReached);
}

#[test]
fn what_is_set_aside_for_a_prompt_is_corrected_once_it_is_counted() {
    let mut desk = Desk::shop();
    let limits = Limits { tokens_per_minute: Some(1000), ..Limits::default() };
    let set = Request::SetLimits { application: "shop".into(), limits, budget: BudgetKind::None };
    desk.ask("", set).unwrap();
    let (first, second) = (desk.row("desk", ""), desk.row("desk", ""));
    assert_eq!(desk.open(&first, (900, 50)), None);
    let refused = desk.open(&second, (60, 50)).unwrap();
    let said = |name: &str| refused.args.iter().find(|(arg, _)| arg == name).map(|(_, value)| value.as_str());
    assert_eq!((said("tokens_limit"), said("tokens_left"), said("requests_limit")), (Some("1000"), Some("50"), None));
    desk.tell("", Event::Counted { id: first.id, prompt_tokens: 30, answer_most: 50 });
    assert_eq!(desk.open(&second, (60, 50)), None, "80 are set aside now, not 950");
}

#[test]
fn what_costs_nothing_passes_the_limit_of_requests() {
    let mut desk = Desk::shop();
    let limits = Limits { requests_per_minute: Some(2), parallel: Some(1), ..Limits::default() };
    let set = Request::SetLimits { application: "shop".into(), limits, budget: BudgetKind::None };
    desk.ask("", set).unwrap();
    let application = desk.state().application("shop").unwrap().id;
    let mut knock = || {
        let (reply, mut answer) = oneshot::channel();
        desk.tell("", Event::Knock { application, reply });
        answer.try_recv().unwrap()
    };
    assert_eq!((knock(), knock()), (Ok(()), Ok(())));
    assert_eq!(knock().unwrap_err().place, "requests_per_minute");
    assert_eq!(desk.state().usage.get(&application), None, "nothing is billed");
}

#[test]
fn every_attempt_is_charged_to_the_payer_of_its_job() {
    let mut desk = Desk::shop();
    let price = ComputePrice { core_hour_micros: Some(90_000), gpu_hour_micros: None };
    let before = desk.computed("owner").len();
    desk.ask("", Request::SetPool { name: "local".into(), price, place: None }).unwrap();
    let submit = Request::Submit { spec: train(), payer: Some("shop".into()), pool: None };
    let Answer::Job(job) = desk.ask("", submit).unwrap() else { panic!("a job") };
    let job = job.record.id;
    // The first attempt dies, the second succeeds while the wall's clock is set back: its length is not the wall's.
    desk.pass(10_000);
    desk.end("", job, died());
    desk.pass(20_000);
    desk.now.wall_ms -= HOUR_MS;
    desk.end("", job, AttemptEnd::Produced(Box::new(adapter())));
    let rows = desk.computed("shop");
    let of: Vec<(u64, i128)> = rows.iter().map(|row| (row.core_ms, row.amount.0)).collect();
    // Two cores; 90,000 micro-units for an hour are 25 micro-units for a second of a core.
    assert_eq!(of, [(20_000, 500_000_000), (40_000, 1_000_000_000)]);
    assert!(matches!(&rows[1].what, ComputeWhat::Attempt { attempt: 2, kind, .. } if kind == "train"));
    let record = desk.state().job(job).unwrap().clone();
    assert_eq!(record.compute.map(|c| (c.rows, c.core_ms, c.amount.0)), Some((2, 60_000, 1_500_000_000)));
    assert_eq!(desk.computed("owner").len(), before, "nobody else pays");

    // A cancelled attempt is charged, too.
    let Answer::Job(job) = desk.ask("", Request::Submit { spec: train(), payer: None, pool: None }).unwrap() else {
        panic!("a job")
    };
    desk.pass(5_000);
    desk.ask("", Request::Cancel { job: job.record.id }).unwrap();
    desk.end("", job.record.id, AttemptEnd::Stopped);
    assert_eq!(desk.computed("owner").last().map(|row| row.core_ms), Some(10_000));

    let invoice = desk.read(|store, state| invoice::invoice(store, state, "shop", "2026-11"));
    assert_eq!(invoice.compute.len(), 1);
    assert_eq!((invoice.compute[0].kind.as_str(), invoice.compute[0].rounded.as_str()), ("train", "0.001500"));
    assert_eq!((invoice.amount, invoice.rounded.as_str()), (Pico(1_500_000_000), "0.001500"));
    // A budget that jobs spent is spent for requests, and for the next job.
    let budget = BudgetKind::Monthly(Pico(1_500_000_000));
    desk.ask("", Request::SetLimits { application: "shop".into(), limits: Limits::default(), budget }).unwrap();
    let row = desk.row("desk", "");
    assert_eq!(desk.open(&row, (9, 9)).unwrap().code, FailureCode::BudgetSpent);
    let refused = desk.ask("", Request::Submit { spec: train(), payer: Some("shop".into()), pool: None }).unwrap_err();
    assert_eq!((refused.code, refused.place.as_str()), (FailureCode::BudgetSpent, "payer"));
    let nobody = desk.ask("", Request::Submit { spec: train(), payer: Some("nobody".into()), pool: None }).unwrap_err();
    assert_eq!(nobody.code, FailureCode::NotFound);
}

#[test]
fn a_serving_process_is_charged_for_the_time_that_it_answers() {
    let mut desk = Desk::shop();
    let price = ComputePrice { core_hour_micros: Some(90_000), gpu_hour_micros: None };
    desk.ask("", Request::SetPool { name: "local".into(), price, place: None }).unwrap();
    let before = desk.computed("owner").len();
    desk.serving("", ServingFact::Ready { memory_bytes: 1 });
    let load = |active| ServingFact::Load { active, waiting: 0, memory_bytes: 1 };
    desk.pass(60_000);
    desk.serving("", load(1));
    desk.pass(4_000);
    desk.serving("", load(0));
    desk.pass(36_000);
    for name in ["desk", "chat"] {
        desk.ask("", Request::SetService { name: name.into(), wanted: false }).unwrap();
    }
    let rows = desk.computed("owner");
    assert_eq!(rows.len(), before + 1);
    let row = rows.last().unwrap();
    assert_eq!(row.what, ComputeWhat::Serving { version: "starter@1".into(), loaded_ms: 100_000 });
    assert_eq!((row.core_ms, row.amount), (8_000, Pico(200_000_000)));
}

#[test]
fn a_service_in_use_stays_and_a_removed_one_keeps_its_name_in_the_ledger() {
    let mut desk = Desk::shop();
    let row = desk.row("desk", "");
    assert_eq!(desk.open(&row, (9, 9)), None);
    let list = Request::SetApplication {
        name: "shop".into(),
        title: String::new(),
        services: vec!["desk".into()],
        priority: None,
    };
    desk.ask("", list).unwrap();
    let delete = || Request::DeleteService { name: "desk".into() };
    let refused = desk.ask("", delete()).unwrap_err();
    assert_eq!(refused.code, FailureCode::InUse);
    for word in ["it is on", "1 requests are being answered", "application shop lists it"] {
        assert!(refused.message_en.contains(word), "{refused}");
    }
    desk.close(row.id, Outcome::Complete, (9, 0, 2), 10);
    desk.ask("", Request::SetService { name: "desk".into(), wanted: false }).unwrap();
    let all =
        Request::SetApplication { name: "shop".into(), title: String::new(), services: Vec::new(), priority: None };
    desk.ask("", all).unwrap();
    desk.ask("", delete()).unwrap();
    assert_eq!(desk.ask("", delete()).unwrap_err().code, FailureCode::NotFound);
    desk.start("");
    let page = desk.usage(&[UsageBy::Service]);
    assert_eq!(page.lines[0].service.as_deref(), Some("desk"));
    // The name is free again, and both are one line for whoever reads by name.
    desk.ask("", priced("desk", 1, 1, 1)).unwrap();
    let row = desk.row("desk", "");
    assert_eq!(desk.open(&row, (9, 9)), None);
    desk.close(row.id, Outcome::Complete, (9, 0, 2), 10);
    let page = desk.usage(&[UsageBy::Service]);
    assert_eq!((page.lines.len(), page.lines[0].usage.requests), (1, 2));
}

#[test]
fn statistics_are_of_the_rows_of_their_span() {
    let mut desk = Desk::shop();
    for (ms, outcome) in
        [(100, Outcome::Complete), (300, Outcome::Complete), (200, Outcome::Complete), (9_000, Outcome::Failed)]
    {
        let row = desk.row("desk", "");
        assert_eq!(desk.open(&row, (9, 9)), None);
        desk.close(row.id, outcome, (40, 10, 5), ms);
    }
    let now_ms = desk.now.wall_ms;
    let hour = desk.read(|store, state| stats::read(store, state, hone_protocol::usage::Span::Hour, now_ms));
    assert_eq!(hour.lines.len(), 2, "of the service, and of the shop at it");
    let line = &hour.lines[0];
    assert_eq!((line.service.as_str(), line.application.as_deref()), ("desk", None));
    assert_eq!((line.usage.requests, line.usage.errors, line.usage.cached_tokens), (4, 1, 40));
    assert_eq!((line.total_ms, line.first_token_ms), (Some((200, 300)), Some((50, 2_250))));
    // 4 tokens after the first of each in 75 + 225 + 150 + 6750 ms.
    assert!((line.tokens_per_s.unwrap() - 16.0 / 7.2).abs() < 1e-9);
    let later =
        desk.read(|store, state| stats::read(store, state, hone_protocol::usage::Span::Hour, now_ms + 2 * HOUR_MS));
    assert_eq!(later.lines, []);
}
