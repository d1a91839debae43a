//! The service desk: who calls, what may be called, and metered answers, for HTTP and for chats over the socket.
//! A row of the ledger is durably open before the first byte of an answer leaves; watermarks and the close go
//! through the dispatcher; tokens do not. Lives here: who may call what, and how an answer begins. `desk/metered`: an answer
//! under way.

mod batch;
mod embed;
mod feedback;
mod guarding;
mod logging;
mod metered;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hone_protocol::application::{LedgerRow, Outcome, Services};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{GenerateTask, Prompt, Share, TokenizerFacts, Turn, Wish};
use hone_protocol::id::{ApplicationId, LedgerId, ServiceId};
use hone_protocol::log::Feedback;
use hone_protocol::model::Weights;
use hone_protocol::service::{ServiceRecord, ServiceState};
use hone_protocol::usage::{UsagePage, UsageQuery};
use hone_protocol::value::{Bytes, Hash, Json, Pico};
use hone_protocol::worker::{FromWorker, ToWorker};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::clock;
use crate::config::Places;
use crate::dispatcher::event::Event;
use crate::dispatcher::{Allowance, Events};
use crate::guards::{GuardTable, Hits};
use crate::http::desk::{Ask, Callable, Caller, Desk, EmbedAsk, Embedded, Opening};
use crate::hub::Hub;
use crate::request_log::RequestLog;
use crate::state::State;
use crate::store::Store;
use crate::workers::serving::{Serving, ServingTable};
use crate::workers::turns::Spare;
use crate::{metrics, secret, usage};
use metered::{InTurn, beat};

pub use batch::Pace;
pub use metered::Metered;

/// Bytes of text in a token, at least, but for odd texts.
const BYTES_PER_TOKEN: usize = 2;
/// Tokens that a template adds to a conversation of its own, at most, but for odd templates: a default system turn.
const TEMPLATE_TOKENS: u64 = 64;
/// Tokens of markup that a message brings, at most, but for odd templates.
const MARKUP_TOKENS: usize = 16;
/// Longest wait of a request for its service to load: a big model from a slow disk. Beyond it 503 says that it still loads.
const LOAD_WAIT: Duration = Duration::from_secs(180);
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
    /// For what was used, and rows of batches.
    pub store: Arc<Store>,
    /// Where files are.
    pub places: Arc<Places>,
    /// Guards that are compiled already.
    pub guards: GuardTable,
    /// Where requests are logged.
    pub log: RequestLog,
}

impl ServiceDesk {
    fn may_call(state: &State, caller: &Caller, service: &ServiceRecord) -> bool {
        match state.applications.get(&caller.application).map(|a| &a.services) {
            Some(Services::All) => true,
            Some(Services::Listed(ids)) => ids.contains(&service.id),
            None => false,
        }
    }

    /// The facts once a service that sleeps or loads is loaded, or has failed to, or [`LOAD_WAIT`] is over.
    async fn loaded(&self, service: ServiceId) -> Result<Arc<State>, Failure> {
        let stage = |state: &State| state.service_view(service).map(|view| view.state);
        let waits = |state: &State| matches!(stage(state), Some(ServiceState::Asleep | ServiceState::Starting));
        let state = self.hub.state();
        if !waits(&state) {
            return Ok(state);
        }
        // Subscribed before the second look, so that no change falls between.
        let (mut state, _, mut changes) = self.hub.watch();
        let until = tokio::time::Instant::now() + LOAD_WAIT;
        while waits(&state) {
            if stage(&state) == Some(ServiceState::Asleep) {
                let (reply, woken) = oneshot::channel();
                self.events.post(Event::Wake { service, reply }).await;
                let stopping = || Failure::new(FailureCode::Stopping, "the daemon is stopping");
                woken.await.unwrap_or_else(|_| Err(stopping()))?;
            } else if tokio::time::timeout_at(until, changes.recv()).await.is_err() {
                break;
            }
            state = self.hub.state();
        }
        Ok(state)
    }

    /// The process that answers for a service, and the adapter's number in it.
    fn find(&self, state: &State, service: &ServiceRecord) -> Result<(Arc<Serving>, Option<u32>), Failure> {
        let not_now = |message: String| {
            Failure::new(FailureCode::ServiceUnavailable, message).at("model").arg("service", &service.name)
        };
        let view = state.service_view(service.id).map(|v| v.state);
        match view {
            Some(ServiceState::On) => {}
            Some(ServiceState::Starting | ServiceState::Asleep) => {
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
        let engine = state.engine_of(service);
        let engine = engine.ok_or_else(|| Failure::not_found("version", &service.version.to_string()))?;
        let loading = || not_now(format!("service {} is still loading", service.name)).hint(HintCode::TryAgain);
        let serving = self.serving.get(engine).ok_or_else(loading)?;
        let version = state.versions.get(&service.version);
        let adapter = match version.map(|version| (version.id, &version.weights)) {
            None | Some((_, Weights::Base)) => None,
            Some((id, Weights::Adapter { .. })) => Some(serving.adapter(id).ok_or_else(loading)?),
        };
        Ok((serving, adapter))
    }

    fn service(&self, state: &State, caller: &Caller, name: &str) -> Result<Arc<ServiceRecord>, Failure> {
        let mut services = state.services.values();
        let found = services.find(|s| s.name == name && Self::may_call(state, caller, s));
        found.cloned().ok_or_else(|| Failure::not_found("model", name))
    }

    /// One question and its one answer, beside the generating.
    async fn question(
        &self,
        caller: &Caller,
        service: &str,
        question: impl FnOnce(u64) -> ToWorker,
    ) -> Result<FromWorker, Failure> {
        let asked = self.service(&self.hub.state(), caller, service)?;
        let state = self.loaded(asked.id).await?;
        let service = self.service(&state, caller, service)?;
        let (serving, _) = self.find(&state, &service)?;
        check_room(&serving, &service, 1)?;
        if is_limited(&state, caller) {
            self.knock(caller).await?;
        }
        let (request, mut words) = serving.request();
        if !serving.send(question(request)).await {
            serving.forget(request);
            return Err(gone());
        }
        match words.recv().await {
            Some(FromWorker::Refused { failure, .. }) => Err(failure),
            Some(word) => Ok(word),
            None => Err(gone()),
        }
    }

    /// What costs nothing passes the limit of requests, too.
    async fn knock(&self, caller: &Caller) -> Result<(), Failure> {
        let (reply, admitted) = oneshot::channel();
        self.events.post(Event::Knock { application: caller.application, reply }).await;
        admitted.await.unwrap_or_else(|_| Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")))
    }

    /// Begins to answer a row of a batch when its turn comes, behind everybody who waits for an answer.
    pub async fn begin_row(&self, caller: &Caller, ask: Ask) -> Result<Metered, Failure> {
        let asked = self.service(&self.hub.state(), caller, &ask.service)?;
        let state = self.loaded(asked.id).await?;
        let service = self.service(&state, caller, &ask.service)?;
        let (serving, adapter) = self.find(&state, &service)?;
        let turn = serving.turns.spare(adapter, ask.choices(), slots_of(&state, &service)).await;
        self.answer(caller.clone(), ask, Some(turn)).await
    }

    /// Begins to answer: in the turn of a row, or at once.
    async fn answer(&self, caller: Caller, mut ask: Ask, row_turn: Option<Spare>) -> Result<Metered, Failure> {
        let asked = self.service(&self.hub.state(), &caller, &ask.service)?;
        let state = self.loaded(asked.id).await?;
        let service = self.service(&state, &caller, &ask.service)?;
        embed::check_writes(&state, &service)?;
        let (serving, adapter) = self.find(&state, &service)?;
        let (hits, outward) = self.guard(&state, &caller, &service, &mut ask).await?;
        let choices = ask.choices();
        let turn = match row_turn {
            Some(turn) => InTurn::Row(turn),
            None => {
                check_room(&serving, &service, choices)?;
                InTurn::First { _turn: serving.turns.urgent(adapter, choices, slots_of(&state, &service)) }
            }
        };
        let counts = (ask.answers, choices);
        let row = self.row(&caller, &service, ask.user.clone(), ask.metadata.clone());
        let mut answer = self.metered(&state, &service, serving.clone(), counts, row.clone(), turn);
        answer.uncounted = is_limited(&state, &caller).then_some(ask.prompts.len());
        answer.draft = self.draft(&state, &caller, row.id, &ask);
        (answer.hits, answer.outward) = (hits, outward);
        let first = answer.first;
        let tokens_max = ask.tokens_max.unwrap_or(service.context_tokens);
        let prompt_most = ask.prompts.iter().map(prompt_tokens_most).sum();
        answer.answer_most = u64::from(tokens_max) * choices as u64;
        let tokens_most = (prompt_most, answer.answer_most);
        let (opened, open) = oneshot::channel();
        let mut open = Some(open);
        self.events.post(Event::OpenRow { row: Box::new(row), tokens_most, reply: opened }).await;
        // What limits and budgets may refuse is not computed before they have spoken.
        if is_limited(&state, &caller)
            && let Some(open) = open.take()
        {
            answer.opened(open).await?;
        }
        // The scope is the application's and the version's own: a prefix never crosses either.
        let scope = Sha256::digest([caller.application.bytes().as_slice(), service.version.bytes()].concat());
        let turn = share(&state, caller.application);
        // A server elsewhere has a longest answer of its own.
        let engines_own = service.upstream.is_some() && ask.tokens_max.is_none();
        let tokens_max = if engines_own { u32::MAX } else { tokens_max };
        let wish = Wish { tokens_max, tell_prompt: answer.draft.is_some(), ..ask.wish };
        for (request, choice) in (first..).zip(0..choices) {
            let mut wish = wish.clone();
            // Several answers with one seed are not the same answer several times.
            let answer_number = (choice % ask.answers as usize) as u64;
            wish.sampling.seed = wish.sampling.seed.map(|seed| seed.wrapping_add(answer_number));
            wish.tell_prompt &= answer_number == 0;
            let prompt = ask.prompts[choice / ask.answers as usize].clone();
            let scope = Hash(scope.into());
            let task = GenerateTask { request, adapter, prompt, wish, scope, turn };
            if !serving.send(ToWorker::Generate(task)).await {
                return Err(answer.fail(gone()).await);
            }
        }
        if let Some(open) = open {
            answer.opened(open).await?;
        }
        match answer.word().await {
            Some(began @ FromWorker::Began { .. }) => {
                answer.note_begin(&began);
                answer.tell_count().await;
                Ok(answer)
            }
            Some(FromWorker::Refused { failure, .. }) => Err(answer.fail(failure).await),
            _ => Err(answer.fail(gone()).await),
        }
    }

    /// A request with numbers of its own in the process, for which `row` is to be opened. Of `counts` the first are the
    /// answers to each prompt, the second all answers.
    fn metered(
        &self,
        state: &State,
        service: &ServiceRecord,
        serving: Arc<Serving>,
        (answers, choices): (u32, usize),
        row: LedgerRow,
        turn: InTurn,
    ) -> Metered {
        let (first, words) = serving.requests(choices);
        Metered {
            events: self.events.clone(),
            serving,
            first,
            answers,
            tokens: vec![0; choices],
            prompts: vec![(0, 0); choices],
            estimated: vec![service.upstream.is_some(); choices],
            words,
            opening: Opening {
                ledger: row.id,
                service: service.name.clone(),
                version_reference: state.version_reference(service.version),
                allowance: Allowance::default(),
            },
            uncounted: None,
            answer_most: 0,
            row,
            turn,
            mark: Arc::default(),
            delivered: 0,
            asked: 0,
            asked_at_beat: beat(),
            started: Instant::now(),
            first_token_ms: None,
            closed: false,
            steps: VecDeque::new(),
            hits: Hits::default(),
            outward: None,
            draft: None,
        }
    }

    /// A row as it begins; the dispatcher says when and of which day.
    fn row(
        &self,
        caller: &Caller,
        service: &ServiceRecord,
        user: String,
        metadata: Vec<(String, String)>,
    ) -> LedgerRow {
        LedgerRow {
            id: clock::new_id(),
            application: caller.application,
            key: caller.key,
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
            user,
            metadata,
            first_token_ms: None,
            total_ms: None,
        }
    }
}

/// The share of an application among those that wait for a slot.
fn share(state: &State, application: ApplicationId) -> Share {
    let priority = state.applications.get(&application).and_then(|application| application.priority);
    let owner = application.bytes().last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Share { owner, weight: priority.unwrap_or_default().weight() }
}

fn is_limited(state: &State, caller: &Caller) -> bool {
    let application = state.applications.get(&caller.application);
    application.is_some_and(|application| application.limits.is_some() || application.budget.is_some())
}

/// What limits and budgets set aside for a prompt before it is tokenised. Text in use has two bytes and more in a token.
fn prompt_tokens_most(prompt: &Prompt) -> u64 {
    let of = |bytes: usize| (bytes / BYTES_PER_TOKEN + MARKUP_TOKENS) as u64;
    match prompt {
        Prompt::Tokens(tokens) => tokens.len() as u64,
        Prompt::Text { text, .. } => of(text.len()),
        Prompt::Chat(chat) => {
            let written = |value: &Json| value.0.to_string().len();
            let calls =
                |turn: &Turn| turn.calls.iter().map(|call| call.name.len() + written(&call.arguments)).sum::<usize>();
            let turns = chat.turns.iter().map(|turn| of(turn.content.len() + calls(turn)));
            let tools = chat.tools.iter();
            let tools = tools.map(|tool| of(tool.name.len() + tool.description.len() + written(&tool.parameters)));
            TEMPLATE_TOKENS + turns.chain(tools).sum::<u64>()
        }
    }
}

/// Slots of the process that answers for a service, for each adapter.
fn slots_of(state: &State, service: &ServiceRecord) -> usize {
    state.engine_of(service).and_then(|engine| state.serving.get(&engine)).map_or(1, |serving| serving.slots as usize)
}

/// Refuses what would be more than [`REQUESTS_MAX`] at once; rows of batches take no place from others.
fn check_room(serving: &Serving, service: &ServiceRecord, more: usize) -> Result<(), Failure> {
    let open = serving.open_requests().saturating_sub(serving.turns.rows());
    if open + more > REQUESTS_MAX {
        let message = format!("{open} requests wait already, and {more} more would be over {REQUESTS_MAX}");
        return Err(Failure::new(FailureCode::Overloaded, message).at(service.name.clone()).hint(HintCode::TryAgain));
    }
    Ok(())
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
                is_encoder: state.is_encoder(s.version),
            })
            .collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }

    async fn spell(&self, caller: &Caller, service: &str, prompt: Prompt) -> Result<(Vec<i32>, Vec<Bytes>), Failure> {
        match self.question(caller, service, |request| ToWorker::Spell { request, prompt }).await? {
            FromWorker::Spelled { tokens, pieces, .. } => Ok((tokens, pieces)),
            _ => Err(Failure::new(FailureCode::BadFrame, "the serving worker gave another answer than was asked for")),
        }
    }

    async fn tokenizer(&self, caller: &Caller, service: &str) -> Result<TokenizerFacts, Failure> {
        match self.question(caller, service, |request| ToWorker::AboutTokenizer { request }).await? {
            FromWorker::Tokenizer { facts, .. } => Ok(*facts),
            _ => Err(Failure::new(FailureCode::BadFrame, "the serving worker gave another answer than was asked for")),
        }
    }

    async fn embed(&self, caller: &Caller, ask: EmbedAsk) -> Result<Embedded, Failure> {
        self.vectors(caller, ask).await
    }

    async fn usage(&self, query: UsageQuery) -> Result<UsagePage, Failure> {
        let (store, state) = (self.store.clone(), self.hub.state());
        usage::aside(move || usage::page(&store, &state, &query)).await
    }

    fn metrics(&self) -> String {
        metrics::text(&self.hub.state(), &self.log)
    }

    async fn hear(&self, caller: &Caller, response: &str, feedback: Feedback) -> Result<LedgerId, Failure> {
        self.keep_feedback(caller, response, feedback).await
    }

    async fn begin(&self, caller: &Caller, ask: Ask) -> Result<Metered, Failure> {
        self.answer(caller.clone(), ask, None).await
    }
}
