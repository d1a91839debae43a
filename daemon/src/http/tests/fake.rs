//! A desk that answers by script and writes down what is asked of it. No ledger, no worker.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hone_protocol::application::{LedgerRow, Outcome, Usage, amount};
use hone_protocol::batch::{BatchRow, FileBatch, FileRecord};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Channel, Finish, Prompt, TokenizerFacts};
use hone_protocol::id::{ApplicationId, FileId, JobId, LedgerId, ServiceId, VersionId};
use hone_protocol::job::JobView;
use hone_protocol::log::Feedback;
use hone_protocol::service::Price;
use hone_protocol::usage::{UsagePage, UsageQuery};
use hone_protocol::value::Bytes;
use tokio::sync::{Semaphore, watch};

use crate::dispatcher::Allowance;

use super::super::archive::Archive;
use super::super::desk::{
    AnswerStep, Answering, Ask, Callable, Caller, Desk, EmbedAsk, Embedded, Opening, Piece, Vector,
};

/// The one good key.
pub(super) const KEY: &str = "hone_test_key";
/// Longest wait for something that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// One step of a scripted answer.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Piece(String, u64),
    /// Any step as it is.
    Plain(AnswerStep),
    /// Goes on when the test says so.
    Gate,
    End(Finish, u64),
    Fail(Failure),
}

pub(super) fn piece(text: &str, tokens: u64) -> Step {
    Step::Piece(text.to_owned(), tokens)
}

/// What a service does.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) begin: Option<Failure>,
    pub(super) close: Option<Failure>,
    /// `begin` waits at the gate too.
    pub(super) begin_at_gate: bool,
    /// The closing commit waits at the gate too.
    pub(super) close_at_gate: bool,
    /// The watermark is committed at the gate only, not at once.
    pub(super) commit_at_gate: bool,
}

impl Script {
    pub(super) fn new(steps: Vec<Step>) -> Script {
        Script { steps, ..Script::default() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Fake {
    scripts: Arc<BTreeMap<String, Script>>,
    log: Arc<watch::Sender<Vec<String>>>,
    asks: Arc<Mutex<Vec<Ask>>>,
    rows: Arc<Mutex<Vec<LedgerRow>>>,
    gate: Arc<Semaphore>,
}

impl Fake {
    pub(super) fn new(scripts: impl IntoIterator<Item = (&'static str, Script)>) -> Fake {
        Fake {
            scripts: Arc::new(scripts.into_iter().map(|(name, script)| (name.to_owned(), script)).collect()),
            log: Arc::new(watch::Sender::new(Vec::new())),
            asks: Arc::default(),
            rows: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn opening(&self, service: &str) -> Opening {
        let mut id = [0; 16];
        // Unix milliseconds of September 2026, as a UUIDv7 has them.
        id[..6].copy_from_slice(&1_790_000_123_456_u64.to_be_bytes()[2..]);
        id[15] = u8::try_from(self.asks.lock().unwrap().len()).unwrap();
        Opening {
            ledger: LedgerId::from_bytes(id),
            version_reference: format!("{service}-model@3"),
            service: service.to_owned(),
            allowance: Allowance::default(),
        }
    }

    /// Lets one waiting step go on.
    pub(super) fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    fn note(&self, line: String) {
        self.log.send_modify(|log| log.push(line));
    }

    /// Everything so far.
    pub(super) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Waits for a line that begins so.
    pub(super) async fn logged(&self, start: &str) -> String {
        let mut log = self.log.subscribe();
        let found = log.wait_for(|log| log.iter().any(|line| line.starts_with(start)));
        let log =
            tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {start:?} in {:?}", self.log()));
        log.unwrap().iter().find(|line| line.starts_with(start)).unwrap().clone()
    }

    pub(super) fn asks(&self) -> Vec<Ask> {
        self.asks.lock().unwrap().clone()
    }

    /// Rows that were closed.
    pub(super) fn rows(&self) -> Vec<LedgerRow> {
        self.rows.lock().unwrap().clone()
    }
}

/// Notes when a wait in `begin` is dropped.
struct Waiting<'a>(&'a Fake);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.note("begin dropped".to_owned());
    }
}

/// The scripted desk keeps no files; what files and batches do is tested on the real one.
impl Archive for Fake {
    fn folder(&self) -> PathBuf {
        PathBuf::new()
    }

    fn files(&self, _: &Caller) -> Vec<Arc<FileRecord>> {
        Vec::new()
    }

    async fn add_file(&self, _: FileRecord) -> Result<(), Failure> {
        Err(no_files())
    }

    async fn remove_file(&self, _: &Caller, _: FileId) -> Result<(), Failure> {
        Err(no_files())
    }

    fn batches(&self, _: &Caller) -> Vec<JobView> {
        Vec::new()
    }

    async fn submit(&self, _: &Caller, _: FileBatch) -> Result<JobView, Failure> {
        Err(no_files())
    }

    async fn cancel(&self, _: &Caller, _: JobId) -> Result<JobView, Failure> {
        Err(no_files())
    }

    fn rows(&self, _: JobId, _: bool, _: u64, _: usize) -> Result<Vec<BatchRow>, Failure> {
        Ok(Vec::new())
    }

    async fn let_rows_go(&self, _: JobId, _: bool) -> Result<(), Failure> {
        Err(no_files())
    }
}

fn no_files() -> Failure {
    Failure::new(FailureCode::Unsupported, "the scripted desk keeps no files")
}

impl Desk for Fake {
    type Answering = FakeAnswering;

    fn authenticate(&self, bearer: &str) -> Result<Caller, Failure> {
        match bearer {
            KEY => Ok(Caller {
                application: ApplicationId::from_bytes([7; 16]),
                application_name: "tests".to_owned(),
                key: None,
            }),
            "hone_stopping" => Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")),
            _ => Err(Failure::new(FailureCode::Unauthenticated, "the key was revoked at noon")),
        }
    }

    fn services(&self, _: &Caller) -> Vec<Callable> {
        let callable = |name: &String| Callable {
            name: name.clone(),
            created_at_ms: 1_790_000_000_999,
            version_reference: format!("{name}-model@3"),
            context_tokens: 2048,
            wanted: true,
            is_encoder: name == "vectors",
        };
        self.scripts.keys().map(callable).collect()
    }

    async fn spell(&self, _: &Caller, _: &str, prompt: Prompt) -> Result<(Vec<i32>, Vec<Bytes>), Failure> {
        Ok(match prompt {
            Prompt::Tokens(tokens) => {
                let pieces = tokens.iter().map(|token| Bytes(vec![*token as u8])).collect();
                (tokens, pieces)
            }
            Prompt::Text { text, .. } => {
                (text.bytes().map(i32::from).collect(), text.bytes().map(|byte| Bytes(vec![byte])).collect())
            }
            Prompt::Chat(_) => (vec![1, 2, 3], Vec::new()),
        })
    }

    async fn tokenizer(&self, _: &Caller, _: &str) -> Result<TokenizerFacts, Failure> {
        Ok(TokenizerFacts {
            bos: "<s>".into(),
            eos: "</s>".into(),
            pad: String::new(),
            adds_bos: true,
            vocabulary: 99,
            chat_template: "{{ messages }}".into(),
        })
    }

    async fn embed(&self, _: &Caller, ask: EmbedAsk) -> Result<Embedded, Failure> {
        let script = self.scripts[&ask.service].clone();
        self.note(format!("embed {} {:?}", ask.service, ask.inputs));
        if let Some(failure) = script.begin {
            return Err(failure);
        }
        let opening = self.opening(&ask.service);
        let vector = |index| Vector { values: vec![0.6, -0.8, index as f32 / 3.0], was_cut: ask.cut && index == 1 };
        let vectors = (0..ask.inputs.len()).map(vector).collect();
        Ok(Embedded { row: row(opening.ledger, Outcome::Complete, 0), opening, vectors })
    }

    async fn usage(&self, query: UsageQuery) -> Result<UsagePage, Failure> {
        self.note(format!("usage of {:?} by {:?} from {:?}", query.application, query.by, query.from));
        Ok(UsagePage {
            from: query.from,
            to: query.to,
            zone: "UTC".into(),
            currency: "EUR".into(),
            lines: Vec::new(),
            next: None,
            total: Usage::default(),
            compute: None,
            reserved: Default::default(),
        })
    }

    fn metrics(&self) -> String {
        "hone_jobs 0\n".into()
    }

    async fn hear(&self, _: &Caller, response: &str, feedback: Feedback) -> Result<LedgerId, Failure> {
        self.note(format!("feedback on {response}: {:?} {:?}", feedback.rating, feedback.correction));
        let id = hone_protocol::log::response_id(response).ok_or_else(|| Failure::not_found("response", response))?;
        Ok(id)
    }

    async fn begin(&self, _: &Caller, ask: Ask) -> Result<FakeAnswering, Failure> {
        let script = self.scripts[&ask.service].clone();
        self.note(format!("begin {}", ask.service));
        self.asks.lock().unwrap().push(ask.clone());
        if script.begin_at_gate {
            let waiting = Waiting(self);
            self.gate.acquire().await.unwrap().forget();
            std::mem::forget(waiting);
        }
        if let Some(failure) = script.begin {
            return Err(failure);
        }
        Ok(FakeAnswering {
            opening: self.opening(&ask.service),
            steps: script.steps.into(),
            close: script.close,
            close_at_gate: script.close_at_gate,
            commit_at_gate: script.commit_at_gate,
            delivered: 0,
            billed: 0,
            written_max: 0,
            open: true,
            desk: self.clone(),
        })
    }
}

#[derive(Debug)]
pub(super) struct FakeAnswering {
    opening: Opening,
    steps: VecDeque<Step>,
    close: Option<Failure>,
    close_at_gate: bool,
    commit_at_gate: bool,
    delivered: u64,
    billed: u64,
    written_max: u64,
    open: bool,
    desk: Fake,
}

impl FakeAnswering {
    async fn gate(&self) {
        self.desk.gate.acquire().await.unwrap().forget();
    }
}

impl Answering for FakeAnswering {
    fn opening(&self) -> &Opening {
        &self.opening
    }

    async fn next(&mut self) -> AnswerStep {
        loop {
            match self.steps.pop_front() {
                Some(Step::Piece(text, tokens)) => {
                    let channel = Channel::Text;
                    return AnswerStep::Piece(Piece { choice: 0, channel, text, chances: Vec::new(), tokens });
                }
                Some(Step::Plain(step)) => return step,
                Some(Step::Gate) => {
                    self.desk.note("at the gate".to_owned());
                    self.gate().await;
                }
                Some(Step::End(finish, tokens)) => {
                    return AnswerStep::Ended { choice: 0, finish, tokens, end: Vec::new() };
                }
                Some(Step::Fail(failure)) => return AnswerStep::Failed(failure),
                None => panic!("the script of {} has no end", self.opening.service),
            }
        }
    }

    fn delivered(&mut self, tokens: u64) {
        assert!(tokens >= self.delivered, "delivered falls from {} to {tokens}", self.delivered);
        assert!(tokens <= self.written_max, "{tokens} delivered, only {} allowed", self.written_max);
        self.delivered = tokens;
        if !self.commit_at_gate {
            self.billed = tokens;
        }
    }

    async fn allow(&mut self, tokens: u64) {
        while tokens.saturating_sub(self.billed) > 64 && self.billed < self.delivered {
            self.desk.note(format!("waits with {} delivered", self.delivered));
            self.gate().await;
            self.billed = self.delivered;
        }
        self.written_max = self.written_max.max(tokens);
    }

    async fn close(mut self, outcome: Outcome, tokens: u64) -> Result<LedgerRow, Failure> {
        self.open = false;
        assert!(tokens >= self.delivered);
        if self.close_at_gate {
            self.desk.note("closing".to_owned());
            self.gate().await;
        }
        if let Some(failure) = self.close.take() {
            self.desk.note("close fails".to_owned());
            return Err(failure);
        }
        let row = row(self.opening.ledger, outcome, tokens);
        self.desk.rows.lock().unwrap().push(row.clone());
        self.desk.note(format!("closed {outcome:?} {tokens}"));
        Ok(row)
    }
}

fn row(id: LedgerId, outcome: Outcome, tokens: u64) -> LedgerRow {
    let price = Price { input_micros: Some(1), cached_micros: None, output_micros: Some(2) };
    LedgerRow {
        id,
        application: ApplicationId::from_bytes([7; 16]),
        key: None,
        service: ServiceId::from_bytes([1; 16]),
        version: VersionId::from_bytes([2; 16]),
        opened_at_ms: 0,
        day: "2026-09-21".to_owned(),
        closed_at_ms: Some(1),
        outcome,
        prompt_tokens: 11,
        cached_tokens: 4,
        completion_tokens: tokens,
        price,
        amount: amount(&price, 11, 4, tokens),
        user: String::new(),
        metadata: Vec::new(),
        first_token_ms: None,
        total_ms: None,
    }
}

impl Drop for FakeAnswering {
    fn drop(&mut self) {
        if self.open {
            self.desk.note(format!("dropped {}", self.delivered));
        }
    }
}
