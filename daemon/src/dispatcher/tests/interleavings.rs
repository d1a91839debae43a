//! Whatever happens in whatever order — streams, clients that go away, workers that die, jobs that are cancelled, prices that
//! change, clocks that are set, and a daemon that is killed before or after any commit — the money adds up. The real decider and
//! a real store; the test keeps its own books beside them, in its own arithmetic. `HONE_CASES` says how many cases are tried.

use hone_protocol::application::{BudgetKind, Limits};
use hone_protocol::batch::{BatchRow, BatchSpec, DatasetBatch};
use hone_protocol::id::{ApplicationId, KeyId};
use hone_protocol::usage::{ComputePrice, ComputeRow, UsageBy, UsageQuery};
use hone_protocol::value::Pico;
use proptest::prelude::*;

use super::super::event::KeptRow;
use super::*;
use crate::{invoice, usage};

/// Cases when nobody says how many: some seconds.
const CASES: u32 = 24;
/// Tokens that may be written beyond what is durably billed: what DESIGN promises.
const AHEAD: u64 = 64;
const MINUTE_MS: i64 = 60_000;
const APPS: [&str; 3] = ["prepaid", "limited", "monthly"];
const SERVICES: [&str; 2] = ["desk", "chat"];
/// Index of the application that batches are of, behind those above.
const OWNER: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    Pass(u32),
    SetClock(i64),
    Open { application: usize, service: usize, prompt: u64, answer: u64, cached: u64, user: u8 },
    Batch,
    Count(usize),
    Write(usize, u64),
    Mark(usize),
    Close(usize, bool),
    GoAway(usize),
    Crash(usize),
    Price(usize, Option<u64>, Option<u64>, Option<u64>),
    Pool(u64),
    Limit(u64, u64, u64),
    Budget(u64),
    Pay(u64),
    Job,
    EndJob(usize, bool),
    Commit,
    Kill { saved: bool, told: bool, down_ms: u32, step_ms: i64 },
}

fn op() -> impl Strategy<Value = Op> {
    let step =
        prop_oneof![Just(0), -900_i64..900, Just(-9 * 60 * MINUTE_MS), Just(26 * 60 * MINUTE_MS), -90_000_i64..90_000];
    let price = || proptest::option::weighted(0.9, 0_u64..3_000_000);
    prop_oneof![
        4 => prop_oneof![0_u32..3_000, 0_u32..40_000].prop_map(Op::Pass),
        2 => step.clone().prop_map(Op::SetClock),
        10 => (0_usize..3, 0_usize..2, 1_u64..90, 1_u64..200, 0_u64..90, any::<u8>()).prop_map(
            |(application, service, prompt, answer, cached, user)| Op::Open { application, service, prompt, answer, cached, user }
        ),
        2 => Just(Op::Batch),
        3 => any::<usize>().prop_map(Op::Count),
        12 => (any::<usize>(), 1_u64..64).prop_map(|(stream, tokens)| Op::Write(stream, tokens)),
        5 => any::<usize>().prop_map(Op::Mark),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(stream, well)| Op::Close(stream, well)),
        2 => any::<usize>().prop_map(Op::GoAway),
        1 => (0_usize..2).prop_map(Op::Crash),
        2 => (0_usize..2, price(), price(), price()).prop_map(|(service, i, c, o)| Op::Price(service, i, c, o)),
        1 => (0_u64..500_000).prop_map(Op::Pool),
        1 => (1_u64..6, 100_u64..900, 1_u64..5).prop_map(|(requests, tokens, parallel)| Op::Limit(requests, tokens, parallel)),
        1 => (0_u64..900).prop_map(Op::Budget),
        2 => (1_u64..900).prop_map(Op::Pay),
        1 => Just(Op::Job),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(job, cancel)| Op::EndJob(job, cancel)),
        8 => Just(Op::Commit),
        3 => (any::<bool>(), any::<bool>(), 0_u32..20_000, step).prop_map(
            |(saved, told, down_ms, step_ms)| Op::Kill { saved, told, down_ms, step_ms }
        ),
    ]
}

/// A request, as its client and the test know it.
struct Stream {
    id: LedgerId,
    application: usize,
    service: usize,
    day: String,
    price: [i128; 3],
    begun_ms: i64,
    prompt: u64,
    cached: u64,
    /// What limits and budgets set aside: tokens and cost.
    aside: (u64, i128),
    answer_most: u64,
    /// Tokens whose bytes were written.
    written: u64,
    mark: Arc<Watermark>,
    opened: oneshot::Receiver<Result<Allowance, Failure>>,
    is_open: bool,
    /// Row and attempt of the batch.
    batch: Option<(u64, JobId, u32)>,
    closed: Option<oneshot::Receiver<Result<LedgerRow, Failure>>>,
    /// What the client was told.
    told: Option<LedgerRow>,
    /// Prompt and cached and completion tokens once nothing more can come.
    end: Option<[u64; 3]>,
    /// A commit has it.
    durable: bool,
}

impl Stream {
    fn pico(&self, [prompt, cached, completion]: [u64; 3]) -> i128 {
        let [input, of_cached, output] = self.price;
        i128::from(prompt - cached) * input + i128::from(cached) * of_cached + i128::from(completion) * output
    }
    fn is_live(&self) -> bool {
        self.end.is_none()
    }
}

/// What the test itself sums up: the books beside the books.
struct World {
    desk: Desk,
    ids: [ApplicationId; 4],
    streams: Vec<Stream>,
    prices: [[Option<u64>; 3]; 2],
    limits: (u64, u64, u64),
    paid: i128,
    monthly: i128,
    batch_rows: u64,
    kills: u32,
    /// Since when no clock was set and no daemon killed: only then does the test know when a limit must let through.
    calm_since_ms: i64,
    uncommitted: Vec<Uncommitted>,
}

/// What the test must take back when a commit never came.
enum Uncommitted {
    Price(usize, [Option<u64>; 3]),
    Limits((u64, u64, u64)),
    Paid(i128),
    Monthly(i128),
}

impl World {
    fn new() -> World {
        let mut desk = Desk::furnished();
        let prices = [[Some(150_000), Some(15_000), Some(600_000)], [Some(1_000_001), None, Some(3)]];
        for (name, price) in SERVICES.iter().zip(prices) {
            desk.ask("", priced(name, price)).unwrap();
        }
        for name in APPS {
            let make = Request::SetApplication {
                name: name.into(),
                title: String::new(),
                services: Vec::new(),
                priority: None,
            };
            desk.ask("", make).unwrap();
        }
        let limits = (4, 600, 3);
        desk.ask("", limit(limits)).unwrap();
        desk.ask("", budget("prepaid", BudgetKind::Prepaid)).unwrap();
        desk.ask("", pay(2_000)).unwrap();
        let monthly = 1_000 * 1_000_000;
        desk.ask("", budget("monthly", BudgetKind::Monthly(Pico(monthly)))).unwrap();
        let batch = DatasetBatch { service: "desk".into(), ..super::batches::batch() };
        desk.submit("", JobSpec::Batch(BatchSpec::Dataset(Box::new(batch))));
        let id = |name: &str| desk.state().application(name).unwrap().id;
        let ids = [id(APPS[0]), id(APPS[1]), id(APPS[2]), id(crate::state::OWNER)];
        let paid = 2_000 * 1_000_000;
        let (streams, uncommitted, calm_since_ms) = (Vec::new(), Vec::new(), desk.now.steady_ms);
        World { desk, ids, streams, prices, limits, paid, monthly, batch_rows: 0, kills: 0, calm_since_ms, uncommitted }
    }

    /// Decides without committing.
    fn tell(&mut self, event: Event) {
        let now = self.desk.now;
        self.desk.decider().decide(event, now);
        self.desk.decider().arrange();
    }

    fn wish(&mut self, request: Request) -> bool {
        let (reply, _) = oneshot::channel();
        self.tell(Event::Request { person: "ada".into(), once: None, request: Box::new(request), reply });
        let effects = &self.desk.decider().effects;
        effects.iter().rev().find_map(|e| match e {
            Effect::Reply(_, answer) => Some(answer.is_ok()),
            _ => None,
        }) == Some(true)
    }

    /// Makes all that was decided durable, and perhaps tells of it.
    fn commit(&mut self, told: bool) {
        let decider = self.desk.decider();
        decider.changes();
        let writes = std::mem::take(&mut decider.writes);
        let effects = std::mem::take(&mut decider.effects);
        self.desk.store.as_ref().unwrap().commit(&writes).unwrap();
        self.uncommitted.clear();
        self.streams.iter_mut().for_each(|stream| stream.durable = true);
        if !told {
            return;
        }
        for effect in effects {
            match effect {
                Effect::Opened(to, allowance) => drop(to.send(Ok(allowance))),
                Effect::Closed(to, row) => drop(to.send(Ok(*row))),
                Effect::Marked(mark, tokens) => mark.raise(tokens),
                _ => {}
            }
        }
        for stream in &mut self.streams {
            stream.is_open |= stream.opened.try_recv().is_ok_and(|opened| opened.is_ok());
            if let Some(row) = stream.closed.as_mut().and_then(|closed| closed.try_recv().ok()) {
                stream.told = Some(row.unwrap());
            }
        }
    }

    fn kill(&mut self, saved: bool, told: bool, down_ms: u32, step_ms: i64) {
        match saved {
            true => self.commit(told),
            false => self.take_back(),
        }
        (self.desk.decider, self.desk.store) = (None, None);
        self.desk.store = Some(Store::open(&self.desk._folder.path().join("store.redb")).unwrap());
        self.desk.pass(down_ms.into());
        self.desk.now.wall_ms += step_ms;
        self.desk.start("");
        (self.kills, self.calm_since_ms) = (self.kills + 1, self.desk.now.steady_ms);
        let store = self.desk.store.as_ref().unwrap();
        for stream in &mut self.streams {
            let row = stored(store, self.ids[stream.application], stream.id).expect("what was committed is there");
            let billed = [row.prompt_tokens, row.cached_tokens, row.completion_tokens];
            assert!(row.closed_at_ms.is_some(), "nothing stays open after a start");
            if stream.told.is_none() && stream.batch.is_none() {
                // Its close may have been lost with the daemon: then it was open.
                let ahead = stream.written.checked_sub(row.completion_tokens).expect("more is billed than was written");
                assert!(ahead <= AHEAD, "{ahead} tokens were written that nobody pays");
            }
            stream.end = Some(billed);
            stream.durable = true;
        }
    }

    /// Nothing of what was decided since the last commit ever was.
    fn take_back(&mut self) {
        for back in std::mem::take(&mut self.uncommitted).into_iter().rev() {
            match back {
                Uncommitted::Price(service, price) => self.prices[service] = price,
                Uncommitted::Limits(limits) => self.limits = limits,
                Uncommitted::Paid(paid) => self.paid = paid,
                Uncommitted::Monthly(monthly) => self.monthly = monthly,
            }
        }
        self.streams.retain(|stream| stream.durable);
    }

    fn open(&mut self, application: usize, service: usize, (prompt, answer, cached): (u64, u64, u64), user: u8) {
        let now = self.desk.now;
        let mut id = *uuid::Uuid::now_v7().as_bytes();
        id[..6].copy_from_slice(&now.wall_ms.to_be_bytes()[2..]);
        let id = LedgerId::from_bytes(id);
        let price = self.prices[service];
        let record = self.desk.state().service(SERVICES[service]).unwrap().clone();
        let row = LedgerRow {
            id,
            application: self.ids[application],
            key: (application != OWNER).then(|| KeyId::from_bytes([user % 2 + 1; 16])),
            service: record.id,
            version: record.version,
            opened_at_ms: 0,
            day: String::new(),
            closed_at_ms: None,
            outcome: Outcome::Open,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            price: record.price,
            amount: Pico(0),
            user: ["", "ada", "行"][usize::from(user) % 3].into(),
            metadata: Vec::new(),
            first_token_ms: None,
            total_ms: None,
        };
        let (reply, opened) = oneshot::channel();
        let micros = |price: Option<u64>| i128::from(price.unwrap_or(0));
        // Of a prompt that is not counted yet half as much again is set aside.
        let estimate = prompt + prompt / 2;
        let mut stream = Stream {
            id,
            application,
            service,
            day: jiff::Timestamp::from_millisecond(now.wall_ms).unwrap().to_string()[..10].to_owned(),
            price: [micros(price[0]), price[1].map_or(micros(price[0]), i128::from), micros(price[2])],
            begun_ms: now.steady_ms,
            prompt,
            cached: cached.min(prompt),
            aside: (0, 0),
            answer_most: answer,
            written: 0,
            mark: Arc::default(),
            opened,
            is_open: false,
            batch: None,
            closed: None,
            told: None,
            end: None,
            durable: false,
        };
        stream.aside = (estimate + answer, stream.pico([estimate, 0, answer]));
        let allowed = self.may_begin(&stream);
        self.tell(Event::OpenRow { row: Box::new(row), tokens_most: (estimate, answer), reply });
        let begun = self.desk.state().open_rows.contains_key(&id);
        assert!(allowed || !begun, "a limit or a budget was passed by {}", self.ids[application]);
        let calm = now.steady_ms - self.calm_since_ms > MINUTE_MS;
        assert!(!calm || !allowed || begun, "refused although there is room: {:?}", stream.opened.try_recv());
        if begun {
            if application == OWNER
                && let Some((job, number)) = self.running_batch()
            {
                stream.batch = Some((self.batch_rows, job, number));
                self.batch_rows += 1;
            }
            self.streams.push(stream);
        }
    }

    /// The batch and its attempt, while it runs.
    fn running_batch(&self) -> Option<(JobId, u32)> {
        let state = self.desk.state();
        let is_batch = |job: &JobId| matches!(state.jobs[job].spec, JobSpec::Batch(_));
        state.attempts.iter().find(|(job, _)| is_batch(job)).map(|(job, attempt)| (*job, attempt.number))
    }

    /// What the test itself says of limits and budgets.
    fn may_begin(&self, stream: &Stream) -> bool {
        let own = || self.streams.iter().filter(|s| s.application == stream.application);
        let tokens = |s: &Stream| s.end.map_or(s.aside.0, |[prompt, _, completion]| prompt + completion);
        match stream.application {
            0 => self.balance() > 0 && stream.aside.1 <= self.balance(),
            1 => {
                let recent = || own().filter(|s| s.begun_ms > self.desk.now.steady_ms - MINUTE_MS);
                let (requests, tokens_most, parallel) = self.limits;
                let open = own().filter(|s| s.is_live()).count() as u64;
                let used: u64 = recent().map(tokens).sum();
                open < parallel && (recent().count() as u64) < requests && used + stream.aside.0 <= tokens_most
            }
            2 => {
                let month = &stream.day[..7];
                let spent: i128 = own().filter(|s| s.day.starts_with(month)).filter_map(|s| Some(s.pico(s.end?))).sum();
                let left = self.monthly - spent - own().filter(|s| s.is_live()).map(|s| s.aside.1).sum::<i128>();
                left > 0 && stream.aside.1 <= left
            }
            _ => true,
        }
    }

    /// What is paid in, but for what is billed and set aside.
    fn balance(&self) -> i128 {
        let own = self.streams.iter().filter(|s| s.application == 0);
        self.paid - own.map(|s| s.end.map_or(s.aside.1, |end| s.pico(end))).sum::<i128>()
    }

    /// The stream that a number means among those that can go on.
    fn pick(&self, number: usize) -> Option<usize> {
        let live: Vec<usize> = (0..self.streams.len()).filter(|&at| self.streams[at].is_live()).collect();
        (!live.is_empty()).then(|| live[number % live.len()])
    }

    fn close(&mut self, at: usize, outcome: Outcome) {
        let stream = &mut self.streams[at];
        // Before it was open nothing of the prompt was told.
        let [prompt, cached] = if stream.is_open { [stream.prompt, stream.cached] } else { [0, 0] };
        let close = |completion_tokens| Close {
            outcome,
            prompt_tokens: prompt,
            cached_tokens: cached,
            completion_tokens,
            first_token_ms: None,
            total_ms: 10,
            is_estimate: false,
        };
        let id = stream.id;
        match stream.batch {
            Some((row, job, number)) => {
                let kept = batch_row(row, id, [prompt, cached, stream.answer_most]);
                let close = Some(close(stream.answer_most));
                let is_current = self.desk.state().attempts.get(&job).is_some_and(|a| a.number == number);
                let stream = &mut self.streams[at];
                stream.end = Some(if is_current { [prompt, cached, stream.answer_most] } else { [0; 3] });
                let kept = Box::new(KeptRow { row: kept, close, tokens_per_s: 1.0, remaining_ms: None });
                self.tell(Event::BatchRow { job, number, kept, done: oneshot::channel().0 });
            }
            None => {
                let (reply, closed) = oneshot::channel();
                stream.closed = Some(closed);
                stream.end = Some([prompt, cached, stream.written]);
                let close = close(stream.written);
                self.tell(Event::CloseRow { id, close, reply });
            }
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Pass(ms) => self.desk.pass(ms.into()),
            Op::SetClock(ms) => {
                self.desk.now.wall_ms += ms;
                self.calm_since_ms = self.desk.now.steady_ms;
            }
            Op::Open { application, service, prompt, answer, cached, user } => {
                self.open(application, service, (prompt, answer, cached), user);
            }
            Op::Batch => {
                if self.running_batch().is_some() {
                    self.open(OWNER, 0, (20, 7, 4), 0);
                }
            }
            Op::Count(number) => {
                let Some(at) = self.pick(number) else { return };
                let stream = &mut self.streams[at];
                if stream.is_open && stream.batch.is_none() {
                    stream.aside =
                        (stream.prompt + stream.answer_most, stream.pico([stream.prompt, 0, stream.answer_most]));
                    let (id, prompt_tokens, answer_most) = (stream.id, stream.prompt, stream.answer_most);
                    self.tell(Event::Counted { id, prompt_tokens, answer_most });
                }
            }
            Op::Write(number, tokens) => {
                let Some(at) = self.pick(number) else { return };
                let stream = &mut self.streams[at];
                if stream.is_open && stream.batch.is_none() {
                    let may = (stream.mark.tokens() + AHEAD).min(stream.answer_most);
                    stream.written = (stream.written + tokens).min(may).max(stream.written);
                }
            }
            Op::Mark(number) => {
                let Some(at) = self.pick(number) else { return };
                let stream = &self.streams[at];
                if stream.is_open && stream.batch.is_none() {
                    let (id, tokens, mark) = (stream.id, stream.written, stream.mark.clone());
                    let (prompt_tokens, cached_tokens) = (stream.prompt, stream.cached);
                    self.tell(Event::Watermark { id, prompt_tokens, cached_tokens, tokens, mark });
                }
            }
            Op::Close(number, well) => {
                if let Some(at) = self.pick(number) {
                    self.close(at, if well { Outcome::Complete } else { Outcome::Failed });
                }
            }
            Op::GoAway(number) => {
                if let Some(at) = self.pick(number) {
                    self.close(at, Outcome::Disconnected);
                }
            }
            Op::Crash(service) => self.crash(service),
            Op::Price(service, input, cached, output) => {
                let (before, price) = (self.prices[service], [input, cached, output]);
                assert!(self.wish(priced(SERVICES[service], price)));
                self.uncommitted.push(Uncommitted::Price(service, before));
                self.prices[service] = price;
            }
            Op::Pool(micros) => {
                let price = ComputePrice { core_hour_micros: Some(micros), gpu_hour_micros: None };
                assert!(self.wish(Request::SetPool { name: "local".into(), price, place: None }));
            }
            Op::Limit(requests, tokens, parallel) => {
                let limits = (requests, tokens, parallel);
                assert!(self.wish(limit(limits)));
                self.uncommitted.push(Uncommitted::Limits(std::mem::replace(&mut self.limits, limits)));
            }
            Op::Budget(micros) => {
                // A budget is only raised: what is spent stays spent.
                let amount = self.monthly + i128::from(micros) * 1_000_000;
                assert!(self.wish(budget("monthly", BudgetKind::Monthly(Pico(amount)))));
                self.uncommitted.push(Uncommitted::Monthly(std::mem::replace(&mut self.monthly, amount)));
            }
            Op::Pay(micros) => {
                assert!(self.wish(pay(micros)));
                let paid = self.paid + i128::from(micros) * 1_000_000;
                self.uncommitted.push(Uncommitted::Paid(std::mem::replace(&mut self.paid, paid)));
            }
            Op::Job => {
                self.wish(Request::Submit { spec: train(), payer: Some("limited".into()), pool: None });
            }
            Op::EndJob(number, cancel) => self.end_job(number, cancel),
            Op::Commit => self.commit(true),
            Op::Kill { saved, told, down_ms, step_ms } => self.kill(saved, told, down_ms, step_ms),
        }
    }

    /// The worker ends: whoever waits for an answer of its services gets what was written, and it comes back.
    fn crash(&mut self, service: usize) {
        let Some((base, generation)) = self.desk.state().serving.iter().next().map(|(b, s)| (*b, s.generation)) else {
            return;
        };
        let failure = Failure::new(FailureCode::WorkerDied, "hone-worker serve ended by signal 9");
        self.tell(Event::Serving { base, generation, fact: ServingFact::Ended(failure) });
        for at in 0..self.streams.len() {
            if self.streams[at].is_live() && self.streams[at].service == service && self.streams[at].batch.is_none() {
                self.close(at, Outcome::Failed);
            }
        }
        self.tell(Event::RetryServing { base, generation });
        if let Some((base, generation)) = self.desk.state().serving.iter().next().map(|(b, s)| (*b, s.generation)) {
            self.tell(Event::Serving { base, generation, fact: ServingFact::Ready { memory_bytes: 1 } });
        }
    }

    fn end_job(&mut self, number: usize, cancel: bool) {
        let running: Vec<(JobId, u32)> = self.desk.state().attempts.iter().map(|(job, a)| (*job, a.number)).collect();
        if running.is_empty() {
            return;
        }
        let (job, attempt) = running[number % running.len()];
        let end = match cancel {
            true => {
                self.wish(Request::Cancel { job });
                AttemptEnd::Stopped
            }
            false => died(),
        };
        self.tell(Event::AttemptEnded { job, number: attempt, end });
    }

    /// All that is promised of money, when everything that was decided is durable.
    fn verify(&self) {
        let store = self.desk.store.as_ref().unwrap();
        for stream in &self.streams {
            let row = stored(store, self.ids[stream.application], stream.id).expect("every row is kept");
            if let Some(told) = &stream.told {
                assert_eq!(told, &row, "a client was told what no row says");
                assert_eq!(row.completion_tokens, stream.written);
            }
            if let Some(end) = stream.end {
                assert_eq!([row.prompt_tokens, row.cached_tokens, row.completion_tokens], end);
                assert_eq!((row.amount.0, &row.day), (stream.pico(end), &stream.day));
            }
            if let Some((number, job, _)) = stream.batch {
                let kept = store.get(Table::BatchRows, &batch_key(job, false, number)).unwrap().is_some();
                assert_eq!(kept, row.completion_tokens > 0, "what is kept is paid, and what is paid is kept");
            }
        }
        for (at, name) in APPS.iter().chain([&crate::state::OWNER]).enumerate() {
            self.verify_application(store, at, name);
        }
        let spent: i128 = self.of(0).filter_map(|s| Some(s.pico(s.end?))).sum();
        assert!(self.paid >= spent, "a prepaid budget was overrun");
        let left = self.desk.state().budgets_left[&self.ids[0]];
        assert_eq!(left.0, self.balance(), "what is left is what is paid, but for what is billed and set aside");
    }

    fn of(&self, application: usize) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |s| s.application == application)
    }

    fn verify_application(&self, store: &Store, at: usize, name: &str) {
        let closed = || self.of(at).filter_map(|s| Some((s, s.end?)));
        let all: i128 = closed().map(|(s, end)| s.pico(end)).sum();
        let tokens: u64 = closed().map(|(_, [prompt, _, completion])| prompt + completion).sum();
        for by in [&[][..], &[UsageBy::Day], &[UsageBy::Service, UsageBy::Key], &[UsageBy::User, UsageBy::Day]] {
            let query = UsageQuery {
                application: name.into(),
                from: "2026-01-01".into(),
                to: "2027-12-31".into(),
                by: by.to_vec(),
                count: 1000,
                ..UsageQuery::default()
            };
            let page = usage::page(store, self.desk.state(), &query).unwrap();
            let total = page.total;
            assert_eq!((total.amount.0, total.requests), (all, closed().count() as u64), "{name} by {by:?}");
            assert_eq!(total.prompt_tokens + total.completion_tokens, tokens);
            assert_eq!(page.lines.iter().map(|line| line.usage.amount.0).sum::<i128>(), all);
            for line in &page.lines {
                let is_of = |s: &Stream| {
                    line.day.as_ref().is_none_or(|day| *day == s.day)
                        && line.service.as_ref().is_none_or(|service| service == SERVICES[s.service])
                };
                if line.user.is_none() && line.key.is_none() {
                    let own: i128 = closed().filter(|(s, _)| is_of(s)).map(|(s, end)| s.pico(end)).sum();
                    assert_eq!(line.usage.amount.0, own, "{line:?}");
                }
            }
        }
        let computed: Vec<ComputeRow> =
            codec::read_all(Table::Compute, &store.prefix(Table::Compute, self.ids[at].bytes()).unwrap()).unwrap();
        let months: std::collections::BTreeSet<String> = closed()
            .map(|(s, _)| s.day[..7].to_owned())
            .chain(computed.iter().map(|c| c.day[..7].to_owned()))
            .collect();
        for month in &months {
            let invoice = invoice::invoice(store, self.desk.state(), name, month).unwrap();
            let own: i128 = closed().filter(|(s, _)| s.day.starts_with(month)).map(|(s, end)| s.pico(end)).sum();
            let compute: i128 = computed.iter().filter(|c| c.day.starts_with(month)).map(|c| c.amount.0).sum();
            assert_eq!(invoice.amount.0, own + compute, "the invoice of {name} for {month} is not the ledger");
            let lines = invoice.tokens.iter().map(|l| l.usage.amount.0);
            assert_eq!(lines.sum::<i128>(), own);
        }
    }
}

fn stored(store: &Store, application: ApplicationId, id: LedgerId) -> Option<LedgerRow> {
    let key = ledger::ledger_key(application, id);
    let value = store.get(Table::Ledger, &key).unwrap()?;
    Some(codec::read(Table::Ledger, &key, &value).unwrap())
}

fn priced(name: &str, [input_micros, cached_micros, output_micros]: [Option<u64>; 3]) -> Request {
    let price = Price { input_micros, cached_micros, output_micros };
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

fn limit((requests, tokens, parallel): (u64, u64, u64)) -> Request {
    let limits =
        Limits { requests_per_minute: Some(requests), tokens_per_minute: Some(tokens), parallel: Some(parallel) };
    Request::SetLimits { application: "limited".into(), limits, budget: BudgetKind::None }
}

fn budget(name: &str, budget: BudgetKind) -> Request {
    Request::SetLimits { application: name.into(), limits: Limits::default(), budget }
}

fn pay(micros: u64) -> Request {
    let amount = Pico(i128::from(micros) * 1_000_000);
    Request::Pay { application: "prepaid".into(), amount, note: String::new() }
}

fn batch_row(row: u64, ledger: LedgerId, [prompt_tokens, cached_tokens, completion_tokens]: [u64; 3]) -> BatchRow {
    BatchRow {
        row,
        custom_id: String::new(),
        answer: Ok("yes".into()),
        finish: "stop".into(),
        version: "starter@1".into(),
        ledger: Some(ledger),
        prompt_tokens,
        cached_tokens,
        completion_tokens,
    }
}

fn cases() -> u32 {
    std::env::var("HONE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_money_adds_up(ops in proptest::collection::vec(op(), 20..90)) {
        let mut world = World::new();
        for op in ops {
            let looks = matches!(op, Op::Commit | Op::Kill { .. });
            world.carry_out(op);
            if looks {
                // What a start decided is durable with its next commit.
                world.commit(true);
                world.verify();
            }
        }
        world.kill(true, true, 100, 0);
        world.verify();
    }
}

/// The clock is set on by an hour, and the daemon killed within the minute: the last minute's requests are not an hour old.
#[test]
fn a_clock_set_on_and_a_restart_refill_no_limit() {
    for step_ms in [60 * MINUTE_MS, -60 * MINUTE_MS, 999, -999] {
        let mut world = World::new();
        for _ in 0..4 {
            world.open(1, 0, (9, 9, 0), 0);
            world.commit(true);
            world.close(world.streams.len() - 1, Outcome::Complete);
            world.commit(true);
        }
        assert_eq!(world.streams.len(), 4);
        world.desk.pass(10_000);
        world.desk.now.wall_ms += step_ms;
        world.kill(true, true, 1_000, 0);
        world.open(1, 0, (9, 9, 0), 0);
        assert_eq!(world.streams.len(), 4, "a step of {step_ms} ms refilled the limit");
        world.desk.pass(51_000);
        world.open(1, 0, (9, 9, 0), 0);
        assert_eq!(world.streams.len(), 5, "a minute later there is room again");
    }
}
