//! The service desk: who calls, what may be called, and metered answers, for HTTP and for chats over the socket.
//! A row of the ledger is durably open before the first byte of an answer leaves; watermarks and the close go
//! through the dispatcher; tokens do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hone_protocol::application::{LedgerRow, Outcome, Services};
use hone_protocol::dataset::ChatMessage;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::LedgerId;
use hone_protocol::model::Weights;
use hone_protocol::service::{ServiceRecord, ServiceState};
use hone_protocol::value::{Hash, Pico};
use hone_protocol::worker::{Finish, FromWorker, GenerateTask, ToWorker};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::dispatcher::Events;
use crate::dispatcher::event::{Close, Event, Watermark};
use crate::http::desk::{AnswerStep, Answering, Ask, Callable, Caller, Desk, Opening};
use crate::hub::Hub;
use crate::secret;
use crate::state::State;
use crate::workers::serving::{Serving, ServingTable};

/// Tokens that may be written beyond what is durably billed.
const AHEAD_MAX: u64 = 64;
/// A watermark is asked for when so many tokens were delivered since the last one…
const MARK_TOKENS: u64 = 16;
/// …or when so much time has passed.
const MARK_MS: u64 = 250;
/// Bytes of text in a token, at least, but for odd texts.
const BYTES_PER_TOKEN: usize = 2;
/// Tokens of markup that a message brings, at most, but for odd templates.
const MARKUP_TOKENS: usize = 16;
/// Requests of one base that may be under way or wait; more are refused at once.
const REQUESTS_MAX: usize = 256;

/// The desk. Cheap to clone.
#[derive(Clone)]
pub struct ServiceDesk {
    /// The facts.
    pub hub: Arc<Hub>,
    /// Takes rows.
    pub events: Events,
    /// Serving processes.
    pub serving: ServingTable,
}

impl ServiceDesk {
    fn may_call(state: &State, caller: &Caller, service: &ServiceRecord) -> bool {
        match state.applications.get(&caller.application).map(|a| &a.services) {
            Some(Services::All) => true,
            Some(Services::Listed(ids)) => ids.contains(&service.id),
            None => false,
        }
    }

    /// The process that answers for a service, and the adapter's number in it.
    fn find(&self, state: &State, service: &ServiceRecord) -> Result<(Arc<Serving>, Option<u32>), Failure> {
        let not_now = |message: String| {
            Failure::new(FailureCode::ServiceUnavailable, message)
                .at(service.name.clone())
                .arg("service", &service.name)
        };
        let view = state.service_view(service.id).map(|v| v.state);
        match view {
            Some(ServiceState::On) => {}
            Some(ServiceState::Starting) => {
                return Err(not_now(format!("service {} is still loading", service.name)).hint(HintCode::TryAgain));
            }
            Some(ServiceState::Waiting { failure, .. }) => {
                let message = format!("service {} is being started again after its worker ended", service.name);
                return Err(not_now(message).arg("reason", failure.message_en).hint(HintCode::TryAgain));
            }
            Some(ServiceState::Failed { .. }) => {
                let message = format!("service {} could not be started", service.name);
                return Err(not_now(message).hint(HintCode::StartService));
            }
            Some(ServiceState::Off) | None => {
                return Err(not_now(format!("service {} is off", service.name)).hint(HintCode::StartService));
            }
        }
        let version = state.versions.get(&service.version);
        let version = version.ok_or_else(|| Failure::not_found("version", &service.version.to_string()))?;
        let loading = || not_now(format!("service {} is still loading", service.name)).hint(HintCode::TryAgain);
        let serving = self.serving.get(state.base_of(version)).ok_or_else(loading)?;
        let adapter = match version.weights {
            Weights::Base => None,
            Weights::Adapter { .. } => Some(serving.adapter(version.id).ok_or_else(loading)?),
        };
        Ok((serving, adapter))
    }

    async fn answer(&self, caller: Caller, ask: Ask) -> Result<Metered, Failure> {
        let state = self.hub.state();
        let service = state
            .services
            .values()
            .find(|s| s.name == ask.service && Self::may_call(&state, &caller, s))
            .cloned()
            .ok_or_else(|| Failure::not_found("model", &ask.service))?;
        let (serving, adapter) = self.find(&state, &service)?;
        if serving.open_requests() >= REQUESTS_MAX {
            let message = format!("{REQUESTS_MAX} requests wait already");
            return Err(Failure::new(FailureCode::Overloaded, message)
                .at(service.name.clone())
                .hint(HintCode::TryAgain));
        }
        let (request, words) = serving.request();
        let now_ms = clock::now_ms();
        let row = LedgerRow {
            id: clock::new_id(),
            application: caller.application,
            key: caller.key,
            service: service.id,
            version: service.version,
            opened_at_ms: now_ms,
            day: clock::day(now_ms, &state.fixed.zone),
            closed_at_ms: None,
            outcome: Outcome::Open,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            price: service.price,
            amount: Pico(0),
            user: ask.user.clone(),
            first_token_ms: None,
        };
        let mut answer = Metered {
            events: self.events.clone(),
            serving: serving.clone(),
            request,
            words,
            opening: Opening {
                ledger: row.id,
                service: service.name.clone(),
                version_reference: state.version_reference(service.version),
                prompt_tokens: 0,
                cached_tokens: 0,
            },
            mark: Arc::default(),
            delivered: 0,
            asked: 0,
            asked_at: Instant::now(),
            started: Instant::now(),
            first_token_ms: None,
            closed: false,
        };
        let (opened, open) = oneshot::channel();
        let tokens_most =
            (prompt_tokens_most(&ask.messages), u64::from(ask.tokens_max.unwrap_or(service.context_tokens)));
        self.events.post(Event::OpenRow { row: Box::new(row), tokens_most, reply: opened }).await;
        // The scope is the application's and the version's own: a prefix never crosses either.
        let scope = Sha256::digest([caller.application.bytes().as_slice(), service.version.bytes()].concat());
        let task = GenerateTask {
            request,
            adapter,
            messages: ask.messages,
            tokens_max: ask.tokens_max.unwrap_or(service.context_tokens),
            sampling: ask.sampling,
            stop: ask.stop,
            scope: Hash(scope.into()),
        };
        if !serving.send(ToWorker::Generate(task)).await {
            return Err(answer.fail(gone()).await);
        }
        match open.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                answer.closed = true;
                answer.serving.forget(request);
                return Err(failure);
            }
            Err(_) => return Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")),
        }
        match answer.words.recv().await {
            Some(FromWorker::Began { prompt_tokens, cached_tokens, .. }) => {
                answer.opening.prompt_tokens = prompt_tokens;
                answer.opening.cached_tokens = cached_tokens.min(prompt_tokens);
                Ok(answer)
            }
            Some(FromWorker::Refused { failure, .. }) => Err(answer.fail(failure).await),
            _ => Err(answer.fail(gone()).await),
        }
    }
}

/// What limits and budgets set aside for a prompt before it is tokenised. Text in use has two bytes and more in a token.
fn prompt_tokens_most(messages: &[ChatMessage]) -> u64 {
    messages.iter().map(|message| (message.content.len() / BYTES_PER_TOKEN + MARKUP_TOKENS) as u64).sum()
}

fn gone() -> Failure {
    Failure::new(FailureCode::WorkerDied, "the serving process ended in the middle of the answer")
        .hint(HintCode::TryAgain)
}

impl Desk for ServiceDesk {
    type Answering = Metered;

    fn authenticate(&self, bearer: &str) -> Result<Caller, Failure> {
        let wrong = || {
            Failure::new(FailureCode::Unauthenticated, "the key is missing, wrong or revoked").hint(HintCode::MakeKey)
        };
        let state = self.hub.state();
        let known = secret::claimed_id(bearer).and_then(|id| state.keys.get(&id));
        // An unknown id costs the same comparison as a known one.
        let stored = known.map_or(Hash([0; 32]), |k| k.sha256);
        let matches = secret::matches(bearer, &stored);
        let key = known.filter(|k| matches && k.is_live(clock::now_ms())).ok_or_else(wrong)?;
        let application = state.applications.get(&key.application).ok_or_else(wrong)?;
        Ok(Caller { application: application.id, application_name: application.name.clone(), key: Some(key.id) })
    }

    fn services(&self, caller: &Caller) -> Vec<Callable> {
        let state = self.hub.state();
        let mut services: Vec<Callable> = state
            .services
            .values()
            .filter(|s| Self::may_call(&state, caller, s))
            .map(|s| Callable {
                name: s.name.clone(),
                created_at_ms: s.created_at_ms,
                version_reference: state.version_reference(s.version),
                context_tokens: s.context_tokens,
                wanted: s.wanted,
            })
            .collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }

    async fn begin(&self, caller: &Caller, ask: Ask) -> Result<Metered, Failure> {
        self.answer(caller.clone(), ask).await
    }
}

/// A metered answer under way.
pub struct Metered {
    events: Events,
    serving: Arc<Serving>,
    request: u64,
    words: mpsc::Receiver<FromWorker>,
    opening: Opening,
    mark: Arc<Watermark>,
    delivered: u64,
    /// The highest watermark that was asked for.
    asked: u64,
    asked_at: Instant,
    started: Instant,
    first_token_ms: Option<u32>,
    closed: bool,
}

impl Metered {
    fn ledger(&self) -> LedgerId {
        self.opening.ledger
    }

    fn close_of(&self, outcome: Outcome, tokens: u64) -> Close {
        Close {
            outcome,
            prompt_tokens: u64::from(self.opening.prompt_tokens),
            cached_tokens: u64::from(self.opening.cached_tokens),
            completion_tokens: tokens,
            first_token_ms: self.first_token_ms,
        }
    }

    fn mark_event(&mut self) -> Event {
        self.asked = self.delivered;
        self.asked_at = Instant::now();
        Event::Watermark {
            id: self.ledger(),
            prompt_tokens: u64::from(self.opening.prompt_tokens),
            cached_tokens: u64::from(self.opening.cached_tokens),
            tokens: self.delivered,
            mark: self.mark.clone(),
        }
    }

    fn is_mark_due(&self) -> bool {
        let ahead = self.delivered - self.asked;
        ahead >= MARK_TOKENS || (ahead > 0 && self.asked_at.elapsed() >= Duration::from_millis(MARK_MS))
    }

    /// Closes the row of an answer that never began.
    async fn fail(mut self, failure: Failure) -> Failure {
        match self.finish(Outcome::Failed, 0).await {
            Ok(_) => failure,
            Err(unsaved) => unsaved,
        }
    }

    async fn finish(&mut self, outcome: Outcome, tokens: u64) -> Result<LedgerRow, Failure> {
        self.closed = true;
        self.serving.forget(self.request);
        let (reply, closed) = oneshot::channel();
        let close = self.close_of(outcome, tokens);
        self.events.post(Event::CloseRow { id: self.ledger(), close, reply }).await;
        closed.await.unwrap_or_else(|_| Err(Failure::new(FailureCode::NotSaved, "the daemon is ending")))
    }
}

impl Answering for Metered {
    fn opening(&self) -> &Opening {
        &self.opening
    }

    async fn next(&mut self) -> AnswerStep {
        loop {
            if self.is_mark_due() {
                let event = self.mark_event();
                self.events.post(event).await;
            }
            let wait = Duration::from_millis(MARK_MS);
            let message = if self.delivered > self.asked {
                match tokio::time::timeout(wait, self.words.recv()).await {
                    Ok(message) => message,
                    Err(_) => continue,
                }
            } else {
                self.words.recv().await
            };
            match message {
                Some(FromWorker::Piece { text, tokens, .. }) => {
                    let elapsed = self.started.elapsed().as_millis().min(u128::from(u32::MAX)) as u32;
                    self.first_token_ms.get_or_insert(elapsed);
                    return AnswerStep::Piece { text, tokens: u64::from(tokens) };
                }
                Some(FromWorker::Ended { finish: Finish::Cancelled, .. }) => {
                    return AnswerStep::Failed(Failure::new(FailureCode::Interrupted, "the answer was cancelled"));
                }
                Some(FromWorker::Ended { finish, tokens, .. }) => {
                    return AnswerStep::Ended { finish, tokens: u64::from(tokens) };
                }
                Some(FromWorker::Refused { failure, .. }) => return AnswerStep::Failed(failure),
                Some(_) => {}
                None => return AnswerStep::Failed(gone()),
            }
        }
    }

    fn delivered(&mut self, tokens: u64) {
        self.delivered = self.delivered.max(tokens);
    }

    async fn allow(&mut self, tokens: u64) {
        if self.is_mark_due() {
            let event = self.mark_event();
            self.events.post(event).await;
        }
        while tokens > self.mark.tokens() + AHEAD_MAX && self.mark.tokens() < self.delivered {
            if self.asked < self.delivered {
                let event = self.mark_event();
                self.events.post(event).await;
            }
            self.mark.reach(self.asked).await;
        }
    }

    async fn close(mut self, outcome: Outcome, tokens: u64) -> Result<LedgerRow, Failure> {
        self.finish(outcome, tokens).await
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        self.serving.forget(self.request);
        let (reply, _) = oneshot::channel();
        let close = self.close_of(Outcome::Disconnected, self.delivered);
        let event = Event::CloseRow { id: self.ledger(), close, reply };
        let events = self.events.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { events.post(event).await });
        }
    }
}
