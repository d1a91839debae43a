//! One connection: the hello, then requests in and answers out. Answers, parts and events share one bounded outbox;
//! a client that does not read stops being read from, and events that it misses are mended by a fresh snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hone_protocol::dataset::ChatMessage;
use hone_protocol::event::{Change, Event as PublicEvent, Machine, Snapshot};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Format, Prompt, TokenChance, Wish};
use hone_protocol::hello::{HEADER_BYTES, Hello, Kind, MAGIC};
use hone_protocol::labelling::LabelRequest;
use hone_protocol::log::Feedback;
use hone_protocol::person::{PersonRecord, Role, Standing};
use hone_protocol::request::{Answer, ChatEnd, Down, Request, StreamPart, Up};
use hone_protocol::{PROTOCOL, VERSION};
use interprocess::local_socket::tokio::{Stream, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::codec::{Came, Codec, Reader, write};
use super::label_reads;
use super::readers::Readers;
use super::reads;
use crate::config::Options;
use crate::desk::ServiceDesk;
use crate::dispatcher::Events;
use crate::dispatcher::event::Event;
use crate::http::desk::{AnswerStep, Answering, Ask, Caller, Desk, Piece};
use crate::hub::Hub;
use crate::machine;
use crate::state::{OWNER, State};
use crate::store::Store;
use crate::workers::process::Spawner;

/// Messages that may wait for a client to read them; at the bound whoever wants to send waits.
const OUTBOX_MAX: usize = 256;
/// Requests of one connection under way; at the bound the connection is not read.
const REQUESTS_MAX: usize = 64;
/// Windows of one connection whose rows are free when it ends; rows of others stay for their time.
const DESKS_MAX: usize = 64;
/// How long a client may take for its first bytes.
const HELLO_MS: u64 = 10_000;

/// What connections share.
pub struct Room {
    /// The facts.
    pub hub: Arc<Hub>,
    /// For reads of what is not in memory.
    pub store: Arc<Store>,
    /// Takes wishes.
    pub events: Events,
    /// Metered answers.
    pub desk: ServiceDesk,
    /// Children that are kept for reads.
    pub readers: Readers,
    /// Starts children.
    pub spawner: Spawner,
    /// What the daemon was started with.
    pub options: Options,
    /// What to know about this machine, as sentences.
    pub notes: Vec<String>,
    /// When the daemon started, Unix milliseconds.
    pub started_at_ms: i64,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    /// Number of the system's user.
    uid: u32,
    /// Its name there.
    user: String,
    /// Whether it is the daemon's own user.
    is_own: bool,
}

impl Peer {
    /// What the peer may do, as things are now. `said` is who they say they are, `project` the one that the connection is for.
    fn standing(&self, state: &State, said: &str, project: Option<&str>) -> Result<Standing, Failure> {
        let mut standing = if self.is_own {
            let known = state.people.get(said).filter(|person| person.uid.is_none());
            known.map_or_else(|| Standing::owner(said), |person| standing_of(person))
        } else {
            let known = state.people.values().find(|person| person.uid == Some(self.uid));
            // Who comes as a user of their own is who that user is, whatever they say.
            known.map(|person| standing_of(person)).ok_or_else(|| forbidden(&self.user, "use this hone"))?
        };
        if let Some(project) = project {
            if !standing.sees(project) {
                return Err(forbidden(&standing.person, &format!("label {project}")));
            }
            standing.role = Role::Annotator;
            standing.projects = vec![project.to_owned()];
        }
        Ok(standing)
    }
}

/// A peer, who they say they are, and the one project that the connection is for.
type Who = (Peer, String, Option<String>);

fn standing_of(person: &PersonRecord) -> Standing {
    Standing { person: person.name.clone(), role: person.role, projects: person.projects.clone() }
}

fn forbidden(person: &str, what: &str) -> Failure {
    let message = format!("{person} may not {what}; ask who owns it");
    Failure::new(FailureCode::Forbidden, message).hint(HintCode::AskOwner)
}

/// A client that said hello.
struct Client {
    peer: Peer,
    person: String,
    /// The one project of labelling that the connection is for.
    project: Option<String>,
    codec: Codec,
    reader: Reader<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
}

/// Serves one connection to its end.
pub async fn serve(stream: Stream, room: Arc<Room>) {
    let Some(peer) = check_peer(&stream, &room.hub.state()) else { return };
    let (reader, writer) = tokio::io::split(stream);
    let hello = tokio::time::timeout(Duration::from_millis(HELLO_MS), greet(reader, writer, &peer)).await;
    if let Ok(Ok(Some(client))) = hello {
        run(client, room).await;
    }
}

/// Who is at the other end, when it is the daemon's own user or one that is let in. Nobody else gets a byte parsed.
fn check_peer(stream: &Stream, state: &State) -> Option<Peer> {
    let uid = stream.peer_creds().ok()?.euid()?;
    let is_own = uid == rustix::process::geteuid().as_raw();
    let is_known = || state.people.values().any(|person| person.uid == Some(uid));
    (is_own || is_known()).then(|| Peer { uid, user: machine::user_name(uid), is_own })
}

async fn greet(
    mut reader: ReadHalf<Stream>,
    mut writer: WriteHalf<Stream>,
    peer: &Peer,
) -> std::io::Result<Option<Client>> {
    let first = reader.read_u8().await?;
    if first == b'{' {
        let reader = Reader::new(Codec::Lines, reader, vec![first]);
        let (peer, person) = (peer.clone(), peer.user.clone());
        return Ok(Some(Client { peer, person, project: None, codec: Codec::Lines, reader, writer }));
    }
    let answer = |kind, say: &str| {
        let fields = vec![("version".to_owned(), VERSION.to_owned()), ("say".to_owned(), say.to_owned())];
        Hello { protocol: PROTOCOL, kind, fields }.to_bytes()
    };
    if first != MAGIC[0] {
        writer.write_all(&answer(Kind::Refused, "the first byte must be hone's magic or {")).await?;
        return Ok(None);
    }
    let mut header = [0; HEADER_BYTES];
    header[0] = first;
    reader.read_exact(&mut header[1..]).await?;
    let (hello, length) = match Hello::from_header(&header) {
        Ok(read) => read,
        Err(error) => {
            writer.write_all(&answer(Kind::Refused, &error.to_string())).await?;
            return Ok(None);
        }
    };
    let mut text = vec![0; length];
    reader.read_exact(&mut text).await?;
    let hello = hello.with_text(&text).map_err(std::io::Error::other)?;
    if hello.protocol != PROTOCOL {
        let theirs = hello.field("version").unwrap_or("?");
        let older =
            if hello.protocol < PROTOCOL { "upgrade hone (the client)" } else { "upgrade honed and restart it" };
        let say = format!(
            "this daemon is hone {VERSION} with protocol {PROTOCOL}, the client is {theirs} with protocol {}: {older}",
            hello.protocol
        );
        writer.write_all(&answer(Kind::Mismatch, &say)).await?;
        return Ok(None);
    }
    writer.write_all(&answer(Kind::Welcome, "")).await?;
    let person = hello.field("person").filter(|p| !p.is_empty()).unwrap_or(&peer.user).to_owned();
    let project = hello.field("project").filter(|p| !p.is_empty()).map(str::to_owned);
    let reader = Reader::new(Codec::Frames, reader, Vec::new());
    Ok(Some(Client { peer: peer.clone(), person, project, codec: Codec::Frames, reader, writer }))
}

/// Requests under way that can be stopped by their id.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<HashMap<u64, AbortHandle>>>);

impl Streams {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, AbortHandle>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn run(client: Client, room: Arc<Room>) {
    let Client { peer, mut person, mut project, codec, mut reader, mut writer } = client;
    let (outbox, mut queue) = mpsc::channel::<Down>(OUTBOX_MAX);
    let writing = tokio::spawn(async move {
        while let Some(down) = queue.recv().await {
            if write(codec, &mut writer, &down).await.is_err() {
                break;
            }
        }
    });
    let streams = Streams::default();
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut watching: Option<AbortHandle> = None;
    // Windows of this connection that label.
    let mut desks: HashSet<(String, String, u64)> = HashSet::new();
    loop {
        let came = tokio::select! {
            came = reader.next() => came,
            () = outbox.closed() => break,
        };
        let (id, once, request) = match came {
            Came::Up(Up::Hello { person: said, project: only }) => {
                // A bound is taken on and never off, and binds whom it was taken on by.
                if project.is_none() {
                    person = said;
                    project = only;
                }
                continue;
            }
            Came::Up(Up::Stop { id }) => {
                if let Some(stream) = streams.with(|s| s.remove(&id)) {
                    stream.abort();
                    let failure = Failure::new(FailureCode::Interrupted, "stopped by the client");
                    let _ = outbox.send(Down::Answer { id, answer: Err(failure) }).await;
                }
                continue;
            }
            Came::Up(Up::Ask { id, once, request }) => (id, once, request),
            Came::Bad(failure) => {
                let _ = outbox.send(Down::Answer { id: 0, answer: Err(failure) }).await;
                continue;
            }
            Came::Lost(failure) => {
                let _ = outbox.send(Down::Answer { id: 0, answer: Err(failure) }).await;
                break;
            }
            Came::End => break,
        };
        let standing = match peer.standing(&room.hub.state(), &person, project.as_deref()) {
            Ok(standing) if standing.may(&request) => standing,
            Ok(standing) => {
                let failure = forbidden(&standing.person, "do that");
                let _ = outbox.send(Down::Answer { id, answer: Err(failure) }).await;
                continue;
            }
            Err(failure) => {
                let _ = outbox.send(Down::Answer { id, answer: Err(failure) }).await;
                continue;
            }
        };
        let who = (peer.clone(), person.clone(), project.clone());
        if request == Request::Watch {
            if let Some(before) = watching.take() {
                before.abort();
            }
            watching = Some(tokio::spawn(watch(room.clone(), who.clone(), outbox.clone())).abort_handle());
            let _ = outbox.send(Down::Answer { id, answer: Ok(Box::new(Answer::Done)) }).await;
            continue;
        }
        let Ok(place) = places.clone().acquire_owned().await else { break };
        if let Request::Labelling(LabelRequest::Next { project, session: session @ 1.., .. }) = &request
            && desks.len() < DESKS_MAX
        {
            desks.insert((standing.person.clone(), project.clone(), *session));
        }
        if let Err(failure) = label_reads::check(&room, &standing, &request).await {
            let _ = outbox.send(Down::Answer { id, answer: Err(failure) }).await;
            continue;
        }
        let asked = Asked { id, room: room.clone(), person: standing.person.clone(), standing, outbox: outbox.clone() };
        let streams_of_task = streams.clone();
        let (ready, go) = oneshot::channel::<()>();
        // A wish enters the dispatcher's queue here, in the order of the connection; only waiting happens aside.
        let wished = if is_wish(&request) { Some(asked.wish(once, request.clone()).await) } else { None };
        let task = tokio::spawn(async move {
            let _ = go.await;
            asked.answer(request, wished).await;
            streams_of_task.with(|s| s.remove(&id));
            drop(place);
        });
        streams.with(|s| s.insert(id, task.abort_handle()));
        let _ = ready.send(());
    }
    if let Some(watching) = watching {
        watching.abort();
    }
    for (person, project, session) in desks {
        room.events.post(Event::LeaveDesk { person, project, session }).await;
    }
    // Streams of a client that is gone end; wishes that were posted are carried out all the same.
    streams.with(|s| s.drain().for_each(|(_, stream)| stream.abort()));
    drop(outbox);
    let _ = tokio::time::timeout(Duration::from_secs(5), writing).await;
}

fn is_wish(request: &Request) -> bool {
    let aside = matches!(
        request,
        Request::Chat { .. } | Request::Rate { .. } | Request::Watch | Request::Labelling(LabelRequest::Next { .. })
    );
    !request.is_read() && !aside
}

/// A snapshot, then events; after a gap a snapshot again.
async fn watch(room: Arc<Room>, (peer, person, project): Who, outbox: mpsc::Sender<Down>) {
    loop {
        let standing = || peer.standing(&room.hub.state(), &person, project.as_deref());
        let Ok(standing_now) = standing() else { return };
        let (state, seq, mut events) = room.hub.watch();
        let mut snapshot = state.snapshot(seq, &standing_now.person);
        drop(state);
        if standing_now.role == Role::Annotator {
            snapshot = only_projects(snapshot, &standing_now);
        }
        if outbox.send(Down::Snapshot(Box::new(snapshot))).await.is_err() {
            return;
        }
        loop {
            match events.recv().await {
                Ok(event) => {
                    // Whoever is let in no longer hears nothing from now on.
                    let Ok(standing) = standing() else { return };
                    let theirs = match &event.change {
                        Change::Project(view) => standing.sees(&view.record.name),
                        _ => standing.role != Role::Annotator,
                    };
                    // Numbers have no gaps for a mirror: what is not theirs comes as the machine, of which they know nothing.
                    let change = if theirs { event.change.clone() } else { Change::Machine(Machine::default()) };
                    let event = PublicEvent { epoch: event.epoch, seq: event.seq, change };
                    if outbox.send(Down::Event(Box::new(event))).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// What somebody sees who only labels: what is not named here is not theirs.
fn only_projects(snapshot: Snapshot, standing: &Standing) -> Snapshot {
    let Snapshot { epoch, seq, at_ms, person, currency, mut projects, .. } = snapshot;
    projects.retain(|view| standing.sees(&view.record.name));
    Snapshot { epoch, seq, at_ms, person, currency, projects, ..Snapshot::default() }
}

/// One request under way.
struct Asked {
    id: u64,
    room: Arc<Room>,
    person: String,
    standing: Standing,
    outbox: mpsc::Sender<Down>,
}

type Wished = oneshot::Receiver<Result<Answer, Failure>>;

impl Asked {
    async fn wish(&self, once: Option<String>, request: Request) -> Wished {
        let (reply, answer) = oneshot::channel();
        let (person, request) = (self.person.clone(), Box::new(request));
        self.room.events.post(Event::Request { person, once, request, reply }).await;
        answer
    }

    async fn answer(self, request: Request, wished: Option<Wished>) {
        let answer = match (wished, request) {
            (Some(wished), _) => {
                wished.await.unwrap_or_else(|_| Err(Failure::new(FailureCode::NotSaved, "the daemon is ending")))
            }
            (None, Request::Chat { service, messages, sampling, tokens_max, typical_p, stop, format, chances }) => {
                if messages.is_empty() {
                    return self.say(Err(Failure::field("messages", "messages is empty"))).await;
                }
                let ask = Ask {
                    service,
                    prompts: vec![Prompt::chat(messages)],
                    answers: 1,
                    wish: Wish {
                        sampling,
                        typical_p: typical_p.unwrap_or(1.0),
                        stop: stop.unwrap_or_default(),
                        format: format.unwrap_or(Format::Text),
                        chances,
                        ..Wish::default()
                    },
                    tokens_max: Some(tokens_max),
                    user: self.person.clone(),
                    metadata: Vec::new(),
                    route: "socket",
                };
                self.chat(ask).await
            }
            (None, Request::Follow { job, from_seq }) => {
                let parts = |part| self.outbox.send(Down::Part { id: self.id, part });
                reads::follow(&self.room, job, from_seq, parts).await
            }
            (None, Request::Rate { response, feedback }) => self.rate(&response, feedback).await,
            (None, Request::CountTokens { service, messages }) => self.count_tokens(&service, messages).await,
            (None, Request::Labelling(request)) if !request.is_read() => {
                label_reads::next(&self.room, &self.person, request).await
            }
            (None, Request::Labelling(request)) => {
                label_reads::answer(&self.room, &self.room.hub.state(), &self.standing, request).await
            }
            (None, request) => reads::answer(&self.room, &self.person, request).await,
        };
        self.say(answer).await;
    }

    async fn say(&self, answer: Result<Answer, Failure>) {
        let _ = self.outbox.send(Down::Answer { id: self.id, answer: answer.map(Box::new) }).await;
    }

    async fn chat(&self, ask: Ask) -> Result<Answer, Failure> {
        ask.wish.check()?;
        let caller = self.owner()?;
        let started = tokio::time::Instant::now();
        let mut answer = self.room.desk.begin(&caller, ask).await?;
        let mut written = 0;
        let finish = loop {
            match answer.next().await {
                AnswerStep::Echo { .. } => {}
                AnswerStep::Counted { tokens } => written = tokens,
                AnswerStep::Piece(Piece { text, tokens, chances, .. }) => {
                    answer.allow(tokens).await;
                    let part = StreamPart::Text { text, tokens };
                    if self.outbox.send(Down::Part { id: self.id, part }).await.is_err() {
                        return Err(Failure::new(FailureCode::Interrupted, "the client went away"));
                    }
                    written = tokens;
                    answer.delivered(tokens);
                    self.tell_chances(chances).await;
                }
                AnswerStep::Ended { finish, tokens, end, .. } => {
                    written = written.max(tokens);
                    self.tell_chances(end).await;
                    break finish;
                }
                AnswerStep::Failed(failure) => {
                    answer.close(hone_protocol::application::Outcome::Failed, written).await?;
                    return Err(failure);
                }
            }
        };
        let version = answer.opening().version_reference.clone();
        let row = answer.close(hone_protocol::application::Outcome::Complete, written).await?;
        Ok(Answer::Chat(ChatEnd {
            finish: finish.word().to_owned(),
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            completion_tokens: row.completion_tokens,
            first_token_ms: row.first_token_ms.unwrap_or(0),
            total_ms: started.elapsed().as_millis().min(u128::from(u32::MAX)) as u32,
            version,
            amount: row.amount,
        }))
    }

    /// Who pays for what is asked over the socket.
    fn owner(&self) -> Result<Caller, Failure> {
        let owner = self.room.hub.state().application(OWNER)?.clone();
        Ok(Caller { application: owner.id, application_name: owner.name.clone(), key: None })
    }

    /// A person says something of an answer, whoever's it is.
    async fn rate(&self, response: &str, mut feedback: Feedback) -> Result<Answer, Failure> {
        let (_, application) = self.room.desk.response(response)?;
        let state = self.room.hub.state();
        let name = state.applications.get(&application).map(|a| a.name.clone()).unwrap_or_default();
        if feedback.user.is_empty() {
            feedback.user.clone_from(&self.person);
        }
        let caller = Caller { application, application_name: name, key: None };
        self.room.desk.hear(&caller, response, feedback).await.map(|_| Answer::Done)
    }

    /// A client that went away is noticed at the next piece.
    async fn tell_chances(&self, chances: Vec<TokenChance>) {
        if !chances.is_empty() {
            let _ = self.outbox.send(Down::Part { id: self.id, part: StreamPart::Chances(chances) }).await;
        }
    }

    async fn count_tokens(&self, service: &str, messages: Vec<ChatMessage>) -> Result<Answer, Failure> {
        if messages.is_empty() {
            return Err(Failure::field("messages", "messages is empty"));
        }
        let (tokens, _) = self.room.desk.spell(&self.owner()?, service, Prompt::chat(messages)).await?;
        let context_tokens = self.room.hub.state().service(service)?.context_tokens;
        Ok(Answer::Counted { tokens: tokens.len() as u64, context_tokens })
    }
}
