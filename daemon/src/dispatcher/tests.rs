//! What the dispatcher decides, as transcripts: events in; store, effects and publications out. Real store, no
//! processes. Never here: how an effect is carried out; that is tested over the real socket with real workers.

mod apply;
mod batches;
mod history;
mod hooks;
mod interleavings;
mod judgements;
mod labelling;
mod money;
mod oversight;
mod pools;
mod promotion;
mod sleep;
mod standards;
mod trash;
mod two_days;
mod upstreams;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::batch::BatchSpec;
use hone_protocol::blueprint::{NewArchitecture, SIZES, Tokens};
use hone_protocol::convert::{Conversion, ExportFormat, WeightsFormat};
use hone_protocol::dataset::{DatasetSource, ImportReport, Part, RowFormat, Segment, Split};
use hone_protocol::evaluation::{EvaluateSpec, Scorer};
use hone_protocol::job::{Checkpoint, FactsSpec, JobSpec, RegisterSpec};
use hone_protocol::model::{ModelFacts, ModelSource, WeightsFile};
use hone_protocol::recipe::{ProcessSpec, preset};
use hone_protocol::request::{Answer, Request};
use hone_protocol::service::{Price, ServiceState};
use hone_protocol::train::{Register, StepMetrics, TrainParams, TrainResult, TrainSpec};
use hone_protocol::value::Metric;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::event::{AttemptEnd, Close, Fact, Produced, ServingFact, Watermark};
use super::*;
use crate::clock::new_id;
use crate::jobs;
use crate::state::Fixed;

/// A decider over a real store, and what was said so far.
struct Desk {
    _folder: TempDir,
    store: Option<Store>,
    decider: Option<Decider>,
    said: String,
    /// What both clocks say; tests move them.
    now: Moment,
}

/// Noon of 2026-11-28, UTC, in Unix milliseconds.
const NOON_MS: i64 = 1_795_867_200_000;

impl Desk {
    fn new() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let now = Moment { wall_ms: NOON_MS, steady_ms: 0 };
        let mut desk = Desk { _folder: folder, store: Some(store), decider: None, said: String::new(), now };
        desk.start("the daemon starts");
        desk
    }

    /// Begins again from what the store holds, as after a crash.
    fn start(&mut self, title: &str) {
        let store = self.store.as_ref().unwrap();
        let fixed = Fixed {
            epoch: 1,
            boot: 1,
            currency: "USD".into(),
            zone: "UTC".into(),
            cores: 2,
            pool_memory_bytes: 4 << 30,
            hook_key: crate::state::HookKey([3; 32]),
        };
        let state = State::load(store, fixed).unwrap();
        self.decider = Some(Decider::new(state, store, self.now).unwrap());
        self.settle(title);
    }

    /// Both clocks go on.
    fn pass(&mut self, ms: i64) {
        self.now.wall_ms += ms;
        self.now.steady_ms += ms;
    }

    fn decider(&mut self) -> &mut Decider {
        self.decider.as_mut().unwrap()
    }

    fn state(&self) -> &State {
        &self.decider.as_ref().unwrap().state
    }

    /// Decides one event, commits, and writes down what came of it.
    fn tell(&mut self, title: &str, event: Event) {
        let now = self.now;
        self.decider().decide(event, now);
        self.decider().arrange();
        self.settle(title);
    }

    fn settle(&mut self, title: &str) {
        let decider = self.decider.as_mut().unwrap();
        decider.progress_at.clear();
        let changes = decider.changes();
        let writes = std::mem::take(&mut decider.writes);
        let effects = std::mem::take(&mut decider.effects);
        self.store.as_ref().unwrap().commit(&writes).unwrap();
        let _ = writeln!(self.said, "# {title}");
        let mut tables: BTreeMap<String, usize> = BTreeMap::new();
        for put in &writes.puts {
            let verb = if put.value.is_some() { "put" } else { "delete" };
            *tables.entry(format!("{verb} {:?}", put.table)).or_default() += 1;
        }
        for sweep in &writes.sweeps {
            *tables.entry(format!("sweep {:?}", sweep.table)).or_default() += 1;
        }
        for (what, count) in tables {
            let _ =
                writeln!(self.said, "store    {what}{}", if count > 1 { format!(" ×{count}") } else { String::new() });
        }
        for effect in &effects {
            let _ = writeln!(self.said, "effect   {}", effect_words(effect));
        }
        for change in &changes {
            let _ = writeln!(self.said, "publish  {}", change_words(change));
        }
        self.said.push('\n');
    }

    fn ask(&mut self, title: &str, request: Request) -> Result<Answer, Failure> {
        self.ask_once(title, None, request)
    }

    fn ask_once(&mut self, title: &str, once: Option<&str>, request: Request) -> Result<Answer, Failure> {
        let (reply, _) = oneshot::channel();
        let once = once.map(str::to_owned);
        let (event, now) = (Event::Request { person: "ada".into(), once, request: Box::new(request), reply }, self.now);
        self.decider().decide(event, now);
        let answer = self.decider().effects.iter().rev().find_map(|e| match e {
            Effect::Reply(_, answer) => Some(answer.clone()),
            _ => None,
        });
        self.decider().arrange();
        self.settle(title);
        answer.expect("every request is answered")
    }

    fn submit(&mut self, title: &str, spec: JobSpec) -> JobId {
        match self.ask(title, Request::Submit { spec, payer: None, pool: None }).unwrap() {
            Answer::Job(view) => view.record.id,
            other => panic!("{other:?}"),
        }
    }

    fn fact(&mut self, title: &str, job: JobId, fact: Fact) {
        let number = self.state().attempts.get(&job).map_or(0, |a| a.number);
        self.tell(title, Event::Attempt { job, number, fact, done: None });
    }

    fn end(&mut self, title: &str, job: JobId, end: AttemptEnd) {
        let number = self.state().attempts.get(&job).map_or(0, |a| a.number);
        self.tell(title, Event::AttemptEnded { job, number, end });
    }

    fn serving(&mut self, title: &str, fact: ServingFact) {
        let (base, generation) = self.state().serving.iter().next().map(|(b, s)| (*b, s.generation)).unwrap();
        self.tell(title, Event::Serving { base, generation, fact });
    }

    /// A base model and rows, without writing their transcript.
    fn furnished() -> Desk {
        let mut desk = Desk::new();
        let job = desk.submit("", import_model());
        desk.end("", job, AttemptEnd::Produced(Box::new(model_file("a path"))));
        let job = desk.submit("", import_dataset());
        desk.end("", job, AttemptEnd::Produced(Box::new(rows())));
        desk.said.clear();
        desk
    }

    fn transcript(&self) -> String {
        name_ids(&self.said)
    }
}

fn effect_words(effect: &Effect) -> String {
    match effect {
        Effect::Reply(_, Ok(answer)) => format!("reply {}", answer_words(answer)),
        Effect::Reply(_, Err(failure)) => {
            format!("refuse {:?} at {:?}: {}", failure.code, failure.place, failure.message_en)
        }
        Effect::Opened(..) => "the row is open".into(),
        Effect::Awake(_) => "the service is awake".into(),
        Effect::LookIdle { after_ms, .. } => format!("look in {after_ms} ms whether it was used"),
        Effect::Closed(_, row) => format!("the row is closed: {}", row_words(row)),
        Effect::Marked(_, tokens) => format!("{tokens} tokens are durable"),
        Effect::Durable(_) => "the fact is durable".into(),
        Effect::StartAttempt(job) => {
            format!("start attempt {} of {} from {:?}", job.attempt, job.id, job.checkpoint.as_ref().map(|c| c.step))
        }
        Effect::StopAttempt(job, how) => format!("stop the attempt of {job} {how:?}"),
        Effect::StartServing(s) => {
            format!(
                "start serving {} #{}: {} × {} tokens, adapters {:?}",
                s.base, s.generation, s.slots, s.context_tokens, s.adapters
            )
        }
        Effect::AddAdapter { base, adapter } => format!("add {adapter} to {base}"),
        Effect::DropAdapter { base, adapter } => format!("drop {adapter} from {base}"),
        Effect::LookRetired { after_ms } => format!("look in {after_ms} ms for requests of what went"),
        Effect::Deliver(one) => format!("tell hook {} of {:?}, try {}", one.hook.name, one.alert.kind, one.number),
        Effect::RetryDelivery { after_ms, .. } => format!("tell it again in {after_ms} ms"),
        Effect::StopServing(base) => format!("stop serving {base}"),
        Effect::RetryServing { base, generation, after_ms } => {
            format!("try {base} #{generation} again in {after_ms} ms")
        }
        Effect::CleanJob { job, keep_result: false } => format!("clean {job}"),
        Effect::CleanJob { job, .. } => format!("clean {job}, its result stays"),
        Effect::FileDone(_) => "the file is as wished".into(),
        Effect::Heard(_) => "what was said is durable".into(),
        Effect::ClearLog(application) => format!("clear the log of {application}"),
        Effect::SweepLog => "sweep the logs".into(),
        Effect::RemoveFile(file) => format!("remove file {file}"),
        Effect::RemoveWeights(name) => format!("remove weights {name}"),
        Effect::RemoveSegment(hash) => format!("remove the segment {hash}"),
        Effect::RemoveFarFolder(folder) => format!("remove the shared folder {}", folder.display()),
        Effect::LookReserved { after_ms } => format!("charge reserved time in {after_ms} ms"),
        Effect::Exit(status) => format!("exit {status}"),
    }
}

fn answer_words(answer: &Answer) -> String {
    match answer {
        Answer::Job(view) => job_words(view),
        Answer::Service(view) => format!("service {} {}", view.record.name, state_words(&view.state)),
        Answer::Key { key, .. } => format!("key {key}"),
        Answer::Suite(suite) => format!("suite {}", suite.name),
        Answer::Done => "done".into(),
        other => format!("{other:?}"),
    }
}

fn job_words(view: &hone_protocol::job::JobView) -> String {
    let record = &view.record;
    format!(
        "{} {} {:?}, attempt {}, strikes {}, barren {}, checkpoint {:?}{}",
        record.spec.kind(),
        record.id,
        view.shown,
        record.attempt,
        record.strikes,
        record.barren,
        record.checkpoint.as_ref().map(|c| c.step),
        if view.waits_for.is_empty() { String::new() } else { format!(", waits: {}", view.waits_for) }
    )
}

fn state_words(state: &ServiceState) -> String {
    match state {
        ServiceState::Waiting { failure, .. } => format!("waiting ({})", failure.message_en),
        ServiceState::Failed { failure } => format!("failed ({})", failure.message_en),
        other => format!("{other:?}"),
    }
}

fn row_words(row: &LedgerRow) -> String {
    format!("{:?} {}+{} tokens, {} pico", row.outcome, row.prompt_tokens, row.completion_tokens, row.amount.0)
}

fn change_words(change: &Change) -> String {
    match change {
        Change::Job(view) => job_words(view),
        Change::Service(view) => format!("service {} {}", view.record.name, state_words(&view.state)),
        Change::Model(view) => {
            let aliases: Vec<_> = view.record.aliases.iter().map(|a| format!("{} = {}", a.name, a.version)).collect();
            format!("model {} with {} versions, aliases {aliases:?}", view.record.name, view.versions.len())
        }
        Change::ServiceGone(id) => format!("service {id} is gone"),
        Change::Alert(alert) => format!("alert {}: {}", alert.kind.word(), alert.message),
        Change::Hook(hook) => format!("hook {}: {} waiting, {} delivered", hook.name, hook.waiting, hook.delivered),
        Change::HookGone(id) => format!("hook {id} is gone"),
        Change::Dataset(view) => format!("dataset {}", view.record.name),
        Change::Pools(pools) => format!("{} pools", pools.len()),
        Change::Application(view) => format!(
            "application {}: {} keys, {} requests, {} pico",
            view.record.name,
            view.keys.len(),
            view.usage.requests,
            view.usage.amount.0
        ),
        Change::Suite(suite) => format!("suite {}", suite.name),
        Change::Evaluation(evaluation) => format!("evaluation {}", evaluation.id),
        other => format!("{other:?}"),
    }
}

/// Replaces each identifier by its kind and the order of its first appearance.
fn name_ids(text: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut named = String::new();
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    for word in text.split_inclusive(|c: char| !is_part(c)) {
        let bare = word.trim_end_matches(|c: char| !is_part(c));
        match bare.split_once('-') {
            Some((prefix, digits)) if digits.len() == 26 => {
                let at = known.iter().position(|k| k == bare).unwrap_or_else(|| {
                    known.push(bare.to_owned());
                    known.len() - 1
                });
                let number = known[..=at].iter().filter(|k| k.split('-').next() == Some(prefix)).count();
                let _ = write!(named, "{prefix}{number}{}", &word[bare.len()..]);
            }
            _ => named.push_str(word),
        }
    }
    named
}

fn facts() -> ModelFacts {
    ModelFacts {
        architecture: "llama".into(),
        name: "starter".into(),
        licence: "apache-2.0".into(),
        parameters: 135_000_000,
        layers: 30,
        context_tokens: 8192,
        vocabulary: 49_152,
        embedding: 576,
        tensor_types: vec![("Q4_1".into(), 210)],
        kv_bytes_per_token: 23_040,
        size_bytes: 98 << 20,
        has_chat_template: true,
        template_sha256: Hash([7; 32]),
        trainable: Ok(()),
        pooling: None,
    }
}

fn file() -> WeightsFile {
    WeightsFile {
        path: "blobs/x.gguf".into(),
        size_bytes: 98 << 20,
        modified_ns: 1,
        sha256: Hash([9; 32]),
        storage: hone_protocol::model::Storage::HardLinked,
    }
}

fn model_file(source: &str) -> Produced {
    Produced::Model { version: new_id(), facts: facts(), file: file(), source: source.into() }
}

fn rows() -> Produced {
    let report = ImportReport { format: "openai".into(), read: 100, kept: 100, ..ImportReport::default() };
    let segment = Segment { sha256: Hash([5; 32]), size_bytes: 4096, rows: 100, first_row_id: 0 };
    Produced::Dataset {
        report,
        segments: vec![segment],
        first_row_id: 0,
        licence: "CC0-1.0".into(),
        lineage: None,
        responses: Vec::new(),
        processed: None,
    }
}

fn adapter() -> Produced {
    let version = Some((new_id(), file(), facts()));
    let result = TrainResult {
        steps: 20,
        kept_step: 20,
        tokens: 9000,
        loss: Metric::Finite(1.25),
        tokens_per_s: 180.0,
        duration_ms: Some(50_000),
        peak_memory_bytes: Some(1 << 30),
        version: None,
    };
    Produced::Adapter { version, result }
}

fn import_model() -> JobSpec {
    let source = ModelSource::Path { path: "/models/x.gguf".into(), in_place: true };
    JobSpec::ImportModel { source, name: "starter".into() }
}

fn import_dataset() -> JobSpec {
    let source = DatasetSource::Path { path: "/rows/x.jsonl".into() };
    JobSpec::ImportDataset { source, name: "desk".into(), format: RowFormat::Detect }
}

fn split() -> Split {
    Split { held_out_percent: 10, seed: 7 }
}

fn train() -> JobSpec {
    JobSpec::Train(Box::new(TrainSpec {
        base: "starter".into(),
        params: TrainParams::default(),
        dataset: "desk".into(),
        split: split(),
        replay: None,
        samples: None,
        register: Some(Register { model: "desk".into(), alias: "latest".into(), publish: "desk".into() }),
        draft_consent: None,
    }))
}

fn checkpoint(step: u64) -> Fact {
    Fact::Checkpoint(Checkpoint { step, folder: format!("step-{step}"), manifest_sha256: Hash([1; 32]) })
}

fn step(step: u64) -> Fact {
    let value = Metric::Finite(2.0);
    Fact::Step(StepMetrics {
        step,
        loss: value,
        grad_norm: value,
        learning_rate: value,
        tokens: 512,
        target_tokens: 100,
        epoch: 0.5,
        step_ms: 2000.0,
        preference: None,
    })
}

fn died() -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(FailureCode::WorkerDied, "hone-worker train ended by signal 9"))
}

fn publish(name: &str) -> Request {
    let price = Price { input_micros: Some(1_000_000), cached_micros: Some(0), output_micros: Some(2_000_000) };
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

#[test]
fn the_main_job() {
    let mut desk = Desk::new();
    let job = desk.submit("a model file is imported", import_model());
    desk.end("the file is inspected", job, AttemptEnd::Produced(Box::new(model_file("/models/x.gguf"))));
    let job = desk.submit("rows are imported", import_dataset());
    desk.end("the rows are segments", job, AttemptEnd::Produced(Box::new(rows())));
    let job = desk.submit("a run is asked for", train());
    desk.fact("the trainer runs", job, Fact::Pid(Some(7)));
    desk.fact("one step", job, step(1));
    desk.fact("a checkpoint", job, checkpoint(1));
    desk.end(
        "the adapter is there: version, alias and service commit together",
        job,
        AttemptEnd::Produced(Box::new(adapter())),
    );
    desk.serving("the process answers", ServingFact::Ready { memory_bytes: 300 << 20 });
    let suite = Request::CreateSuite {
        name: "exam".into(),
        dataset: "desk".into(),
        split: split(),
        part: Part::HeldOut,
        scorers: vec![Scorer::Loss],
    };
    desk.ask("a suite is made", suite).unwrap();
    let spec = EvaluateSpec { suite: "exam".into(), version: "desk:latest".into(), rows_max: 0, answer_tokens_max: 32 };
    desk.submit("an evaluation is asked for", JobSpec::Evaluate(spec));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn workers_that_die_are_replaced_until_the_work_is_poison() {
    let mut desk = Desk::furnished();
    let job = desk.submit("a run is asked for", train());
    desk.fact("a checkpoint", job, checkpoint(4));
    desk.end("the worker dies", job, died());
    desk.tell("a report of the dead one comes late", Event::Attempt { job, number: 1, fact: step(9), done: None });
    desk.end("the second dies", job, died());
    desk.end("the third dies: set aside", job, died());
    let resume = Request::Resume { job };
    desk.ask("a person lets it go on", resume.clone()).unwrap();
    desk.fact("a later checkpoint forgives", job, checkpoint(8));
    let wrong = desk.ask("what runs cannot be resumed", resume).unwrap_err();
    assert_eq!(wrong.code, FailureCode::WrongState);
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_crash_of_the_daemon_goes_on_from_the_checkpoint() {
    let mut desk = Desk::furnished();
    let job = desk.submit("a run is asked for", train());
    desk.fact("a checkpoint", job, checkpoint(3));
    desk.fact("a step beyond it", job, step(4));
    desk.start("the daemon starts again");
    assert_eq!(desk.state().jobs[&job].attempt, 2);
    let store = desk.store.as_ref().unwrap();
    assert!(store.get(Table::Metrics, &metric_key(job, 0, 4)).unwrap().is_none(), "step 4 will be measured again");
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn wishes_are_durable_and_cancel_wins() {
    let mut desk = Desk::furnished();
    let job = desk.submit("a run is asked for", train());
    let second = desk.submit("another waits for the cores", train());
    desk.ask("pause the running one", Request::Pause { job }).unwrap();
    desk.end("it stops at a checkpoint", job, AttemptEnd::Stopped);
    desk.ask("cancel the other", Request::Cancel { job: second }).unwrap();
    desk.end("it had just succeeded", second, AttemptEnd::Produced(Box::new(adapter())));
    desk.start("the daemon starts again");
    desk.ask("resume the first", Request::Resume { job }).unwrap();
    let gone = desk.ask("what is cancelled stays so", Request::Resume { job: second }).unwrap_err();
    assert_eq!(gone.code, FailureCode::WrongState);
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_repeated_wish_is_one_wish() {
    let mut desk = Desk::furnished();
    let first = desk.ask_once("submit", Some("k"), Request::Submit { spec: train(), payer: None, pool: None }).unwrap();
    let again =
        desk.ask_once("the same again", Some("k"), Request::Submit { spec: train(), payer: None, pool: None }).unwrap();
    let id = |answer: &Answer| match answer {
        Answer::Job(view) => view.record.id,
        other => panic!("{other:?}"),
    };
    assert_eq!(id(&first), id(&again));
    desk.start("the daemon starts again");
    let later =
        desk.ask_once("the same again", Some("k"), Request::Submit { spec: train(), payer: None, pool: None }).unwrap();
    assert_eq!(id(&first), id(&later));
    let other = desk.ask_once(
        "the id with another wish",
        Some("k"),
        Request::Submit { spec: import_model(), payer: None, pool: None },
    );
    assert_eq!(other.unwrap_err().code, FailureCode::IdempotencyConflict);
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn serving_comes_back_and_gives_up_in_the_end() {
    let mut desk = Desk::furnished();
    desk.ask("publish", publish("base")).unwrap();
    desk.serving("ready", ServingFact::Ready { memory_bytes: 1 << 20 });
    for round in 1..=6 {
        let dead = Failure::new(FailureCode::WorkerDied, "hone-worker serve ended by signal 9");
        desk.serving(&format!("it ends, {round}"), ServingFact::Ended(dead));
        let (base, generation) = desk.state().serving.iter().next().map(|(b, s)| (*b, s.generation)).unwrap();
        desk.tell("the pause is over", Event::RetryServing { base, generation });
    }
    desk.ask("somebody asks again", Request::SetService { name: "base".into(), wanted: true }).unwrap();
    desk.ask("off", Request::SetService { name: "base".into(), wanted: false }).unwrap();
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn the_ledger_bills_what_was_written() {
    let mut desk = Desk::furnished();
    desk.ask("publish", publish("base")).unwrap();
    let service = desk.state().services.values().next().unwrap().clone();
    let application = desk.state().application(crate::state::OWNER).unwrap().id;
    let row = |id: LedgerId| LedgerRow {
        id,
        application,
        key: None,
        service: service.id,
        version: service.version,
        opened_at_ms: 0,
        day: "2026-01-01".into(),
        closed_at_ms: None,
        outcome: Outcome::Open,
        prompt_tokens: 0,
        cached_tokens: 0,
        completion_tokens: 0,
        price: service.price,
        amount: Default::default(),
        user: String::new(),
        metadata: Vec::new(),
        first_token_ms: None,
        total_ms: None,
    };
    let (told, cut): (LedgerId, LedgerId) = (new_id(), new_id());
    for (title, id) in [("a row opens", told), ("another opens", cut)] {
        desk.tell(title, Event::OpenRow { row: Box::new(row(id)), tokens_most: (20, 64), reply: oneshot::channel().0 });
        let mark = Arc::new(Watermark::default());
        desk.tell("64 are written", Event::Watermark { id, prompt_tokens: 20, cached_tokens: 5, tokens: 64, mark });
    }
    let close = Close {
        outcome: Outcome::Complete,
        prompt_tokens: 20,
        cached_tokens: 5,
        completion_tokens: 70,
        first_token_ms: Some(9),
        total_ms: 20,
        is_estimate: false,
    };
    desk.tell("the first closes", Event::CloseRow { id: told, close, reply: oneshot::channel().0 });
    desk.start("the daemon is killed and starts again: the other is billed to its watermark");
    desk.tell("nothing is open any more", Event::CloseRow { id: cut, close, reply: oneshot::channel().0 });
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn a_stop_waits_for_checkpoints_and_open_answers() {
    let mut desk = Desk::furnished();
    let job = desk.submit("a run is asked for", train());
    desk.ask("stop", Request::Shutdown).unwrap();
    let late =
        desk.ask("nothing new is taken", Request::Submit { spec: train(), payer: None, pool: None }).unwrap_err();
    assert_eq!(late.code, FailureCode::Stopping);
    desk.end("the trainer wrote its checkpoint", job, AttemptEnd::Stopped);
    insta::assert_snapshot!(desk.transcript());
}

/// Walks the table: adding a kind of job without its line, its page in both languages or its memory is seen here.
#[test]
fn every_kind_of_job_is_in_the_table_and_in_the_documents() {
    let desk = Desk::furnished();
    let evaluate = EvaluateSpec { suite: "exam".into(), version: "starter".into(), rows_max: 0, answer_tokens_max: 32 };
    let (version, name) = (|| "starter@1".to_owned(), || "new".to_owned());
    let format = WeightsFormat::Q4KM;
    let blueprint = SIZES[0].blueprint(NewArchitecture::Llama);
    let tokens = Tokens::Learn { dataset: "rows".into(), vocabulary: 1024 };
    let conversions = [
        Conversion::Init { blueprint, tokens, format: WeightsFormat::F16, seed: 1, name: name() },
        Conversion::Bench { version: version(), dataset: "rows".into(), formats: Vec::new(), threads: 0 },
        Conversion::Merge { version: version(), format, name: name(), receipt_rows: None },
        Conversion::Quantize { version: version(), format, name: name(), receipt_rows: None, imatrix_rows: None },
        Conversion::ImportPeft { path: "/adapters/x".into(), base: version(), name: name() },
        Conversion::Export { version: version(), format: ExportFormat::Gguf, path: "/out/x".into() },
    ];
    let mut specs = vec![import_model(), import_dataset(), train(), JobSpec::Evaluate(evaluate)];
    specs.extend(conversions.map(JobSpec::Convert));
    let register = Register { model: name(), alias: String::new(), publish: String::new() };
    specs.push(JobSpec::Register(RegisterSpec { run: new_id(), step: Some(7), register }));
    specs.push(JobSpec::Batch(BatchSpec::Dataset(Box::new(batches::batch()))));
    let (source, recipe) = ("rows".into(), preset("chat").unwrap());
    specs.push(JobSpec::Process(Box::new(ProcessSpec { source, name: name(), recipe_name: String::new(), recipe })));
    specs.push(JobSpec::Facts(FactsSpec { dataset: "rows".into(), model: Some(version()) }));
    specs.push(JobSpec::Generate(Box::new(standards::generate())));
    specs.push(JobSpec::Mix(Box::new(standards::mix())));
    specs.push(JobSpec::Split(Box::new(standards::split())));
    specs.push(JobSpec::Suggest(labelling::suggest()));
    assert_eq!(jobs::KINDS.len(), specs.len(), "a kind without an example here");
    for spec in specs {
        let kind = jobs::kind(&spec);
        assert_eq!(kind.word, spec.kind());
        assert!((kind.memory)(desk.state(), &spec).least < 4 << 30, "{}", kind.word);
        for page in ["docs/jobs.md", "docs/zh/jobs.md"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(text.contains(&format!("`{}`", kind.word)), "{page} does not tell of `{}`", kind.word);
        }
    }
}
