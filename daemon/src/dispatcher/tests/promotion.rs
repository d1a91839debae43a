//! Aliases that move through gates, and services that follow them: who answers when, what is loaded beside whom, and what a version
//! that cannot be loaded changes.

use hone_protocol::id::VersionId;
use hone_protocol::model::{AliasMove, MovedBy};
use hone_protocol::service::ServiceView;

use super::*;

/// Two adapters over one base, an alias on the first, a service that follows it and answers.
fn followed() -> Desk {
    let mut desk = Desk::furnished();
    for _ in 0..2 {
        let spec = JobSpec::Train(Box::new(TrainSpec {
            register: Some(Register { model: "desk".into(), alias: String::new(), publish: String::new() }),
            ..match train() {
                JobSpec::Train(spec) => *spec,
                _ => unreachable!(),
            }
        }));
        let job = desk.submit("", spec);
        desk.end("", job, AttemptEnd::Produced(Box::new(adapter())));
    }
    set(&mut desk, "desk@1", None).unwrap();
    desk.ask("", follow("desk:live")).unwrap();
    desk.serving("", ServingFact::Ready { memory_bytes: 1 });
    let first = version(&desk, "desk@1");
    desk.serving("", ServingFact::AdapterReady(first));
    desk.said.clear();
    desk
}

fn follow(version: &str) -> Request {
    let (name, price) = ("desk".into(), Price::default());
    Request::Publish { name, version: version.into(), slots: 2, context_tokens: 512, price, keep: None, pool: None }
}

fn set(desk: &mut Desk, version: &str, past_gate: Option<&str>) -> Result<Answer, Failure> {
    let (model, alias) = ("desk".into(), "live".into());
    let past_gate = past_gate.map(str::to_owned);
    desk.ask("the alias is moved", Request::SetAlias { model, alias, version: version.into(), past_gate })
}

fn roll_back(desk: &mut Desk) -> Result<Answer, Failure> {
    desk.ask("the alias is rolled back", Request::RollBack { model: "desk".into(), alias: "live".into() })
}

fn version(desk: &Desk, reference: &str) -> VersionId {
    desk.state().version(reference).unwrap().id
}

fn view(desk: &Desk) -> ServiceView {
    let id = desk.state().service("desk").unwrap().id;
    desk.state().service_view(id).unwrap()
}

fn open(desk: &mut Desk) -> LedgerId {
    let service = desk.state().service("desk").unwrap().clone();
    let id = new_id();
    let row = LedgerRow {
        id,
        application: desk.state().application(crate::state::OWNER).unwrap().id,
        key: None,
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
        amount: Default::default(),
        user: String::new(),
        metadata: Vec::new(),
        first_token_ms: None,
        total_ms: None,
    };
    desk.tell(
        "a request begins",
        Event::OpenRow { row: Box::new(row), tokens_most: (9, 9), reply: oneshot::channel().0 },
    );
    id
}

fn close(desk: &mut Desk, id: LedgerId) {
    let close = Close {
        outcome: Outcome::Complete,
        prompt_tokens: 9,
        cached_tokens: 0,
        completion_tokens: 3,
        first_token_ms: None,
        total_ms: 5,
        is_estimate: false,
    };
    desk.tell("the request ends", Event::CloseRow { id, close, reply: oneshot::channel().0 });
}

fn evaluated(desk: &mut Desk, version: &str, score: f64) {
    let spec = EvaluateSpec { suite: "exam".into(), version: version.into(), rows_max: 0, answer_tokens_max: 8 };
    let job = desk.submit("", JobSpec::Evaluate(spec));
    let produced = Produced::Evaluation { rows: 40, loss_sum: 80.0, loss_tokens: 40, score: Some(score) };
    desk.end("", job, AttemptEnd::Produced(Box::new(produced)));
}

fn exam(desk: &mut Desk) {
    let (name, dataset, split) = ("exam".into(), "desk".into(), split());
    let scorers = vec![Scorer::Loss, Scorer::Expect];
    desk.ask("", Request::CreateSuite { name, dataset, split, part: Part::HeldOut, scorers }).unwrap();
}

fn gate(desk: &mut Desk, gate: &str) -> Result<Answer, Failure> {
    let (model, alias, gate) = ("desk".into(), "live".into(), Some(gate.into()));
    desk.ask("", Request::SetGate { model, alias, gate })
}

fn moves(desk: &Desk) -> Vec<AliasMove> {
    let pairs = desk.store.as_ref().unwrap().prefix(Table::AliasMoves, b"desk:live\0").unwrap();
    codec::read_all(Table::AliasMoves, &pairs).unwrap()
}

#[test]
fn a_version_takes_over_when_it_answers_and_the_old_one_goes_with_its_last_request() {
    let mut desk = followed();
    let request = open(&mut desk);
    set(&mut desk, "desk@2", None).unwrap();
    assert_eq!(view(&desk).version_reference, "desk@1", "the old one answers until the new one can");
    assert_eq!(view(&desk).moving.unwrap().version_reference, "desk@2");
    let second = version(&desk, "desk@2");
    desk.serving("it is loaded", ServingFact::AdapterReady(second));
    assert_eq!((view(&desk).version_reference.as_str(), view(&desk).moving), ("desk@2", None));
    assert_eq!(view(&desk).state, ServiceState::On);
    desk.pass(following::GRACE_MS + 1);
    desk.tell("the time is over, and the request is not", Event::LookRetired);
    assert_eq!(desk.state().serving.values().next().unwrap().adapters.len(), 2);
    close(&mut desk, request);
    assert_eq!(desk.state().serving.values().next().unwrap().adapters, [second].into());
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn rolling_back_at_once_needs_no_loading_and_twice_is_forth_again() {
    let mut desk = followed();
    set(&mut desk, "desk@2", None).unwrap();
    let second = version(&desk, "desk@2");
    desk.serving("", ServingFact::AdapterReady(second));
    let request = open(&mut desk);
    roll_back(&mut desk).unwrap();
    assert_eq!(view(&desk).version_reference, "desk@1", "the old one was still loaded");
    close(&mut desk, request);
    roll_back(&mut desk).unwrap();
    assert_eq!(view(&desk).version_reference, "desk@2");
    let by: Vec<(Option<String>, Option<String>, MovedBy)> =
        moves(&desk).into_iter().map(|m| (m.from, m.to, m.by)).collect();
    let at = |number: u32| Some(format!("desk@{number}"));
    assert_eq!(
        by,
        [
            (None, at(1), MovedBy::Person),
            (at(1), at(2), MovedBy::Person),
            (at(2), at(1), MovedBy::RollBack),
            (at(1), at(2), MovedBy::RollBack),
        ]
    );
    desk.start("the daemon is killed and starts again");
    roll_back(&mut desk).unwrap();
    assert_eq!(moves(&desk).len(), 5, "numbers go on");
}

#[test]
fn a_version_that_cannot_be_loaded_changes_nothing_and_is_tried_again_when_asked_for() {
    let mut desk = followed();
    set(&mut desk, "desk@2", None).unwrap();
    let second = version(&desk, "desk@2");
    let failure = Failure::new(FailureCode::BadFile, "the adapter is damaged");
    desk.serving("", ServingFact::AdapterFailed(second, failure.clone()));
    assert_eq!((view(&desk).version_reference.as_str(), view(&desk).state), ("desk@1", ServiceState::On));
    assert_eq!(view(&desk).moving.unwrap().failure, Some(failure));
    desk.said.clear();
    desk.tell("", Event::LookRetired);
    assert!(!desk.said.contains("add "), "it is not tried over and over: {}", desk.said);
    set(&mut desk, "desk@2", None).unwrap();
    assert!(desk.said.contains("add "), "asked for again, it is tried again");
    roll_back(&mut desk).unwrap();
    assert_eq!((view(&desk).version_reference.as_str(), view(&desk).moving), ("desk@1", None));
}

#[test]
fn another_base_is_loaded_beside_the_one_that_answers_or_waits_for_room() {
    let mut desk = Desk::furnished();
    let job = desk.submit("", import_model());
    desk.end("", job, AttemptEnd::Produced(Box::new(model_file("another path"))));
    let set = |desk: &mut Desk, version: &str| {
        let (model, alias, version) = ("starter".into(), "live".into(), version.into());
        desk.ask("", Request::SetAlias { model, alias, version, past_gate: None }).unwrap()
    };
    set(&mut desk, "starter@1");
    desk.ask("", follow("starter:live")).unwrap();
    desk.serving("", ServingFact::Ready { memory_bytes: 1 });
    set(&mut desk, "starter@2");
    let (first, second) = (version(&desk, "starter@1"), version(&desk, "starter@2"));
    assert_eq!(desk.state().serving.len(), 2, "both are loaded");
    assert_eq!(view(&desk).version_reference, "starter@1");
    let generation = desk.state().serving[&second].generation;
    let fact = ServingFact::Ready { memory_bytes: 1 };
    desk.tell("", Event::Serving { base: second, generation, fact });
    assert_eq!((view(&desk).version_reference.as_str(), view(&desk).state), ("starter@2", ServiceState::On));
    assert!(desk.state().serving.contains_key(&first), "requests may be on their way to it");
    desk.pass(following::GRACE_MS);
    desk.tell("", Event::LookRetired);
    assert!(!desk.state().serving.contains_key(&first));
    // What does not fit beside is said, and begun when there is room.
    Arc::make_mut(&mut desk.decider().state.fixed).pool_memory_bytes = 300 << 20;
    set(&mut desk, "starter@1");
    assert_eq!(view(&desk).moving.unwrap().failure.unwrap().code, FailureCode::DoesNotFit);
    assert_eq!((view(&desk).version_reference.as_str(), desk.state().serving.len()), ("starter@2", 1));
    Arc::make_mut(&mut desk.decider().state.fixed).pool_memory_bytes = 4 << 30;
    desk.tell("", Event::LookRetired);
    assert_eq!(desk.state().serving.len(), 2);
}

#[test]
fn a_gate_lets_through_what_was_measured_well_enough_and_nothing_else() {
    let mut desk = followed();
    exam(&mut desk);
    let missing = gate(&mut desk, "score(final) >= 0.8").unwrap_err();
    assert_eq!(missing.code, FailureCode::NotFound, "a suite that is not there is no condition");
    gate(&mut desk, "score(exam) >= 0.8 and score(exam) >= score(exam, current) - 0.01").unwrap();
    let refused = set(&mut desk, "desk@2", None).unwrap_err();
    assert_eq!(refused.code, FailureCode::GateClosed);
    for word in ["score(exam) is not measured yet", "hone eval start desk@2 --suite exam"] {
        assert!(refused.message_en.contains(word), "{refused}");
    }
    evaluated(&mut desk, "desk@2", 0.85);
    let refused = set(&mut desk, "desk@2", None).unwrap_err();
    assert!(refused.message_en.contains("hone eval start desk@1 --suite exam"), "the other side too: {refused}");
    evaluated(&mut desk, "desk@1", 0.9);
    let refused = set(&mut desk, "desk@2", None).unwrap_err();
    assert!(refused.message_en.contains("score(exam, current) is 0.9"), "{refused}");
    assert_eq!(desk.state().version("desk:live").unwrap().number, 1);
    let empty = set(&mut desk, "desk@2", Some(" ")).unwrap_err();
    assert_eq!(empty.place, "past_gate");
    set(&mut desk, "desk@2", Some("the exam has a wrong row")).unwrap();
    let last = moves(&desk).pop().unwrap();
    assert!(matches!(&last.by, MovedBy::PastGate(reason, figures)
        if reason == "the exam has a wrong row" && figures.contains("score(exam) is 0.85")));
    // The newest evaluation counts.
    roll_back(&mut desk).unwrap();
    evaluated(&mut desk, "desk@2", 0.95);
    set(&mut desk, "desk@2", None).unwrap();
    assert!(matches!(moves(&desk).pop().unwrap().by, MovedBy::Gate(_)));
}

#[test]
fn a_run_does_not_pass_a_gate_by_registering() {
    let mut desk = Desk::furnished();
    exam(&mut desk);
    let job = desk.submit("", train());
    desk.end("", job, AttemptEnd::Produced(Box::new(adapter())));
    let gated =
        Request::SetGate { model: "desk".into(), alias: "latest".into(), gate: Some("score(exam) >= 0".into()) };
    desk.ask("", gated).unwrap();
    let job = desk.submit("", train());
    desk.end("", job, AttemptEnd::Produced(Box::new(adapter())));
    assert_eq!(desk.state().version("desk:latest").unwrap().number, 1, "the version is there, the alias waits");
    assert_eq!(desk.state().version("desk").unwrap().number, 2);
}

#[test]
fn what_others_rely_on_is_not_taken_away() {
    let mut desk = followed();
    let remove = Request::RemoveAlias { model: "desk".into(), alias: "live".into() };
    let refused = desk.ask("", remove.clone()).unwrap_err();
    assert_eq!(refused.code, FailureCode::InUse);
    assert!(refused.message_en.contains("service desk"), "{refused}");
    let nothing = roll_back(&mut desk).unwrap_err();
    assert_eq!(nothing.code, FailureCode::WrongState);
    desk.ask("", follow("desk@1")).unwrap();
    desk.ask("by number it follows nothing", remove).unwrap();
}
