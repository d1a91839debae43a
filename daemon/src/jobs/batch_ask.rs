//! Asking the rows of a batch: so many at once, behind everybody who waits for an answer; each is kept with its bill, or put
//! back when the trouble is not its own. Never here: where rows come from, what becomes of answers.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hone_protocol::batch::BatchRow;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::JobId;
use tokio::task::JoinSet;

use super::attempt::{Context, Stop, wished};
use crate::desk::{Metered, Pace, ServiceDesk};
use crate::dispatcher::batch_prefix;
use crate::http::RETRY_AFTER_ARG;
use crate::http::answer::gather;
use crate::http::desk::{Answering, Ask, Caller, EmbedAsk};
use crate::http::lines::{Wanted, Write, WriteVectors};
use crate::store::{Table, after};

/// Serving processes that may die under a row before it is taken for the cause.
const DEATHS_MAX: u32 = 3;
/// How long a batch waits before it asks a service again that could not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows whose time says how fast the batch is.
const PACE_ROWS: usize = 64;
/// Keys that are read at once.
const KEYS: usize = 1000;

/// One row to ask.
pub(super) struct Item {
    /// Id of the dataset's row, or line of the file.
    pub(super) row: u64,
    /// What the client named it, may be empty.
    pub(super) custom_id: String,
    /// What to ask and keep, or why that cannot be asked.
    pub(super) wanted: Result<Wanted, Failure>,
    /// Whether a service that is not there ends the batch rather than the row.
    pub(super) one_service: bool,
    deaths: u32,
}

impl Item {
    pub(super) fn new(row: u64, custom_id: String, wanted: Result<Wanted, Failure>, one_service: bool) -> Item {
        Item { row, custom_id, wanted, one_service, deaths: 0 }
    }
}

/// Where rows come from.
pub(super) trait Feed: Send {
    /// The next row that is not done.
    fn next(&mut self, context: &mut Context) -> impl Future<Output = Result<Option<Item>, Stop>> + Send;
}

/// Rows that earlier attempts have kept, with an answer or failed.
pub(super) fn done_rows(context: &Context) -> Result<HashSet<u64>, Stop> {
    let mut done = HashSet::new();
    for failed in [false, true] {
        let prefix = batch_prefix(context.job.id, failed);
        let mut from = prefix.clone();
        loop {
            let pairs = context.store.range(Table::BatchRows, &from, &after(&prefix), false, KEYS);
            let pairs = pairs.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
            let Some((last, _)) = pairs.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            let number = |key: &[u8]| Some(u64::from_be_bytes(key.get(prefix.len()..)?.try_into().ok()?));
            done.extend(pairs.iter().filter_map(|(key, _)| number(key)));
        }
    }
    Ok(done)
}

/// When the next row may be asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hold {
    No,
    Until(Instant),
    /// What open rows have set aside may be enough when one of them ends.
    NextEnd,
}

/// How fast rows are done in this attempt.
struct Meter {
    began: Instant,
    rows: u64,
    left: u64,
    recent: VecDeque<(Instant, u64)>,
}

impl Meter {
    fn note(&mut self, tokens: u64) -> Pace {
        let now = Instant::now();
        self.rows += 1;
        self.left = self.left.saturating_sub(1);
        if self.recent.len() == PACE_ROWS {
            self.recent.pop_front();
        }
        self.recent.push_back((now, tokens));
        let since = if self.recent.len() < PACE_ROWS { self.began } else { self.recent[0].0 };
        let seconds = now.duration_since(since).as_secs_f64().max(1e-3);
        let tokens: u64 = self.recent.iter().map(|(_, tokens)| tokens).sum();
        let row_ms = now.duration_since(self.began).as_secs_f64() * 1000.0 / self.rows as f64;
        Pace { tokens_per_s: tokens as f64 / seconds, remaining_ms: Some((row_ms * self.left as f64) as u64) }
    }
}

/// What every row of a batch needs.
#[derive(Clone)]
struct Asker {
    desk: ServiceDesk,
    caller: Caller,
    job: JobId,
    attempt: u32,
    meter: Arc<Mutex<Meter>>,
}

/// Rows under way.
struct Asking {
    asker: Asker,
    open: JoinSet<(Item, Option<Failure>)>,
    back: VecDeque<Item>,
    hold: Hold,
    at_once: usize,
    waits: bool,
    fed: bool,
}

/// Asks all rows; returns when each is kept.
pub(super) async fn ask_all(
    context: &mut Context,
    caller: Caller,
    feed: &mut impl Feed,
    at_once: usize,
    left: u64,
) -> Result<(), Stop> {
    let meter = Meter { began: Instant::now(), rows: 0, left, recent: VecDeque::new() };
    let (desk, job, attempt) = (context.desk.clone(), context.job.id, context.job.attempt);
    let mut asking = Asking {
        asker: Asker { desk, caller, job, attempt, meter: Arc::new(Mutex::new(meter)) },
        open: JoinSet::new(),
        back: VecDeque::new(),
        hold: Hold::No,
        at_once: at_once.max(1),
        waits: false,
        fed: false,
    };
    loop {
        asking.fill(context, feed).await?;
        if asking.open.is_empty() && asking.back.is_empty() {
            return Ok(());
        }
        let hold = asking.hold;
        let held = async {
            match hold {
                Hold::Until(at) => tokio::time::sleep_until(at.into()).await,
                Hold::No | Hold::NextEnd => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = wished(&mut context.stop) => {
                // Rows under way are put back: nothing of them is billed.
                asking.open.shutdown().await;
                return Err(Stop::Wished);
            }
            Some(ended) = asking.open.join_next() => {
                let panicked = |_| Failure::new(FailureCode::Internal, "the asking of a row panicked");
                let (item, failure) = ended.map_err(panicked)?;
                asking.took(context, item, failure).await?;
            }
            () = held => asking.hold = Hold::No,
        }
    }
}

impl Asking {
    async fn fill(&mut self, context: &mut Context, feed: &mut impl Feed) -> Result<(), Stop> {
        while self.open.len() < self.at_once && self.hold == Hold::No {
            let item = match self.back.pop_front() {
                Some(item) => item,
                None if self.fed => return Ok(()),
                None => match feed.next(context).await? {
                    Some(item) => item,
                    None => {
                        self.fed = true;
                        return Ok(());
                    }
                },
            };
            let asker = self.asker.clone();
            self.open.spawn(async move {
                let failure = asker.ask(&item).await.err();
                (item, failure)
            });
        }
        Ok(())
    }

    /// Takes a row that ended: kept, or put back with the reason.
    async fn took(&mut self, context: &mut Context, mut item: Item, failure: Option<Failure>) -> Result<(), Stop> {
        if self.hold == Hold::NextEnd || (self.waits && failure.is_none()) {
            self.hold = Hold::No;
        }
        let Some(failure) = failure else {
            self.waits = false;
            return Ok(());
        };
        match failure.code {
            // A row that gave way asks for its turn again.
            FailureCode::Overloaded => {}
            FailureCode::BudgetSpent if self.open.is_empty() => return Err(failure.into()),
            FailureCode::BudgetSpent => self.hold = Hold::NextEnd,
            FailureCode::NotFound => return Err(failure.into()),
            FailureCode::LimitReached => {
                let wait = retry_after(&failure).unwrap_or(PAUSE);
                self.hold = Hold::Until(Instant::now() + wait);
            }
            _ => {
                let wait = retry_after(&failure).unwrap_or(PAUSE);
                item.deaths += u32::from(is_death(&failure));
                if item.deaths >= DEATHS_MAX {
                    item.wanted = Err(failure);
                }
                self.hold = Hold::Until(Instant::now() + wait);
                if !std::mem::replace(&mut self.waits, true) {
                    let state = context.desk.hub.state();
                    let counts = state.jobs.get(&context.job.id).and_then(|job| job.batch).unwrap_or_default();
                    context.progress("phase.batch_wait", counts.answered + counts.failed, counts.rows).await;
                }
            }
        }
        self.back.push_front(item);
        Ok(())
    }
}

fn is_death(failure: &Failure) -> bool {
    matches!(failure.code, FailureCode::WorkerDied | FailureCode::WorkerSilent | FailureCode::UpstreamFailed)
}

fn retry_after(failure: &Failure) -> Option<Duration> {
    let said = failure.args.iter().find(|(name, _)| name == RETRY_AFTER_ARG)?;
    said.1.parse().ok().map(Duration::from_secs)
}

impl Asker {
    /// Asks a row and keeps what became of it. An error is trouble that is not the row's: it is to be put back.
    async fn ask(&self, item: &Item) -> Result<(), Failure> {
        match &item.wanted {
            Ok(Wanted::Answer(ask, write)) => self.ask_answer(item, ask.clone(), write).await,
            Ok(Wanted::Vectors(ask, write)) => self.ask_vectors(item, ask.clone(), write).await,
            Err(failure) => self.refuse(item, failure.clone()).await,
        }
    }

    async fn ask_answer(&self, item: &Item, ask: Ask, write: &Write) -> Result<(), Failure> {
        let choices = ask.choices();
        let mut answering = match self.desk.begin_row(&self.caller, ask).await {
            Ok(answering) => answering,
            Err(failure) if is_anothers(&failure, item) => return Err(failure),
            Err(failure) => return self.refuse(item, failure).await,
        };
        let (answer, finish, tokens) = match gather(&mut answering, choices).await {
            Ok((gathered, tokens)) => {
                let finish = gathered.first().and_then(|choice| choice.finish).map_or("", |finish| finish.word());
                let row = answering.row_with(tokens);
                (write(answering.opening(), &gathered, &row), finish.to_owned(), tokens)
            }
            Err(failure) if is_anothers(&failure, item) => return Err(failure),
            Err(failure) => (Err(failure), String::new(), 0),
        };
        self.keep(item, answering, answer, finish, tokens).await
    }

    async fn ask_vectors(&self, item: &Item, ask: EmbedAsk, write: &WriteVectors) -> Result<(), Failure> {
        let (answering, made) = match self.desk.begin_vectors_row(&self.caller, ask).await {
            Ok(begun) => begun,
            Err(failure) if is_anothers(&failure, item) => return Err(failure),
            Err(failure) => return self.refuse(item, failure).await,
        };
        let answer = match made {
            Ok(vectors) => write(answering.opening(), &vectors, &answering.row_with(0)),
            Err(failure) if is_anothers(&failure, item) => return Err(failure),
            Err(failure) => Err(failure),
        };
        self.keep(item, answering, answer, String::new(), 0).await
    }

    async fn keep(
        &self,
        item: &Item,
        answering: Metered,
        answer: Result<String, Failure>,
        finish: String,
        tokens: u64,
    ) -> Result<(), Failure> {
        let pace = self.pace(answering.row_with(tokens).prompt_tokens + tokens);
        let row = BatchRow { answer, finish, ..blank(item) };
        answering.keep(self.job, self.attempt, row, tokens, pace).await
    }

    async fn refuse(&self, item: &Item, failure: Failure) -> Result<(), Failure> {
        let row = BatchRow { answer: Err(failure), ..blank(item) };
        self.desk.keep_refused(self.job, self.attempt, row, self.pace(0)).await
    }

    fn pace(&self, tokens: u64) -> Pace {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).note(tokens)
    }
}

/// Whether the trouble is not the row's own, so that asking again can help.
fn is_anothers(failure: &Failure, item: &Item) -> bool {
    match failure.code {
        FailureCode::BudgetSpent => true,
        FailureCode::LimitReached => retry_after(failure).is_some(),
        FailureCode::NotFound => item.one_service,
        _ => failure.code.is_transient(),
    }
}

fn blank(item: &Item) -> BatchRow {
    BatchRow {
        row: item.row,
        custom_id: item.custom_id.clone(),
        answer: Ok(String::new()),
        finish: String::new(),
        version: String::new(),
        ledger: None,
        prompt_tokens: 0,
        cached_tokens: 0,
        completion_tokens: 0,
    }
}
