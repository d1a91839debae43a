//! Alerts and deliveries: what is told to whom, over failures and crashes, and how much at most.

use hone_protocol::application::{BudgetKind, Limits};
use hone_protocol::hook::{AlertKind, HookOutcome, HookRecord, HookTarget};
use hone_protocol::id::{AlertId, HookId};
use hone_protocol::value::Pico;

use super::*;

fn add(desk: &mut Desk, name: &str, on: &[AlertKind]) -> Result<Answer, Failure> {
    let target = HookTarget::Webhook("https://ops.example/hone".into());
    desk.ask("", Request::SetHook { name: name.into(), on: on.to_vec(), target, timeout_ms: 0 })
}

fn hook(desk: &Desk, name: &str) -> HookRecord {
    (**desk.state().hooks.values().find(|hook| hook.name == name).unwrap()).clone()
}

fn waiting(desk: &Desk) -> Vec<(HookId, AlertId)> {
    desk.decider.as_ref().unwrap().deliveries.keys().copied().collect()
}

fn delivered(desk: &mut Desk, ok: bool) {
    let (hook, alert) = waiting(desk)[0];
    let outcome = HookOutcome { ok, status: Some(if ok { 200 } else { 500 }), words: "said".into() };
    desk.tell("a try ended", Event::Delivered { hook, alert, outcome, ms: 7 });
}

fn failed_job(desk: &mut Desk) {
    let job = desk.submit("", import_dataset());
    let failure = Failure::new(FailureCode::FileUnreadable, "there is no file");
    desk.end("a job fails", job, AttemptEnd::Failed(failure));
}

#[test]
fn an_alert_is_told_until_it_arrived_also_over_a_crash() {
    let mut desk = Desk::furnished();
    let Ok(Answer::Hook { secret: Some(secret), .. }) = add(&mut desk, "ops", &[AlertKind::JobFailed]) else {
        panic!("a new webhook shows its secret")
    };
    assert!(secret.starts_with("hone_hook_") && secret.len() == 10 + 64);
    assert!(matches!(add(&mut desk, "ops", &[AlertKind::JobFailed]), Ok(Answer::Hook { secret: None, .. })), "once");
    desk.said.clear();
    failed_job(&mut desk);
    let first = waiting(&desk);
    assert_eq!(first.len(), 1);
    delivered(&mut desk, false);
    let tried = hook(&desk, "ops").last.unwrap();
    assert_eq!((tried.ok, tried.number, tried.words.as_str()), (false, 1, "said"));
    desk.start("the daemon is killed and starts again: it is told again, with the same id");
    assert_eq!(waiting(&desk), first);
    delivered(&mut desk, true);
    assert_eq!((waiting(&desk).len(), hook(&desk, "ops").delivered, hook(&desk, "ops").waiting), (0, 1, 0));
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn what_never_arrives_is_given_up() {
    let mut desk = Desk::furnished();
    add(&mut desk, "ops", &[AlertKind::JobFailed]).unwrap();
    failed_job(&mut desk);
    let mut tries = 0;
    while !waiting(&desk).is_empty() {
        delivered(&mut desk, false);
        tries += 1;
        assert!(tries < 100);
    }
    assert_eq!((tries, hook(&desk, "ops").given_up), (12, 1));
    // A late report of a try that is over changes nothing.
    let hook_id = hook(&desk, "ops").id;
    let outcome = HookOutcome { ok: true, status: None, words: String::new() };
    desk.tell("", Event::Delivered { hook: hook_id, alert: new_id(), outcome, ms: 1 });
    assert_eq!(hook(&desk, "ops").delivered, 0);
}

#[test]
fn a_storm_is_bounded_and_counted() {
    let mut desk = Desk::furnished();
    add(&mut desk, "ops", &[AlertKind::JobFailed]).unwrap();
    for _ in 0..130 {
        failed_job(&mut desk);
    }
    let ops = hook(&desk, "ops");
    assert_eq!((waiting(&desk).len(), ops.waiting, ops.dropped), (100, 100, 30));
    assert_eq!(desk.state().alerts.len(), 130, "they are kept all the same");
    desk.ask("", Request::RemoveHook { name: "ops".into() }).unwrap();
    assert!(waiting(&desk).is_empty());
    assert!(desk.store.as_ref().unwrap().prefix(Table::Deliveries, b"").unwrap().is_empty());
}

#[test]
fn nobody_is_told_of_what_nobody_asked_for() {
    let mut desk = Desk::furnished();
    let quiet = desk.submit("", import_model());
    desk.end("", quiet, AttemptEnd::Produced(Box::new(model_file("another path"))));
    assert!(desk.state().alerts.is_empty(), "a job that succeeds is no trouble");
    failed_job(&mut desk);
    assert_eq!(desk.state().alerts.len(), 1, "trouble is kept for Home");
    add(&mut desk, "all", &[AlertKind::JobSucceeded]).unwrap();
    failed_job(&mut desk);
    assert!(waiting(&desk).is_empty());
    desk.ask("", Request::TestHook { name: "all".into() }).unwrap();
    delivered(&mut desk, false);
    assert!(waiting(&desk).is_empty(), "a test is tried once");
    for (name, target) in [
        ("a", HookTarget::Webhook("ftp://x".into())),
        ("b", HookTarget::Webhook("https://u:p@x/".into())),
        ("c", HookTarget::Command(vec!["logger".into()])),
        ("d", HookTarget::Command(Vec::new())),
    ] {
        let on = vec![AlertKind::JobFailed];
        let refused = desk.ask("", Request::SetHook { name: name.into(), on, target, timeout_ms: 0 });
        assert_eq!(refused.unwrap_err().code, FailureCode::InvalidField, "{name}");
    }
}

#[test]
fn services_that_go_down_and_come_back_are_told_of_once_each() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("base")).unwrap();
    desk.serving("", ServingFact::Ready { memory_bytes: 1 });
    let kinds = |desk: &Desk| -> Vec<AlertKind> { desk.state().alerts.values().map(|alert| alert.kind).collect() };
    let gone = || Failure::new(FailureCode::WorkerDied, "signal 9");
    for _ in 0..3 {
        desk.serving("", ServingFact::Ended(gone()));
        let (base, generation) = desk.state().serving.iter().next().map(|(b, s)| (*b, s.generation)).unwrap();
        desk.tell("", Event::RetryServing { base, generation });
    }
    assert_eq!(kinds(&desk), [AlertKind::ServiceDown], "it is down once, however often it is tried");
    desk.serving("", ServingFact::Ready { memory_bytes: 1 });
    assert_eq!(kinds(&desk), [AlertKind::ServiceDown, AlertKind::ServiceUp]);
}

#[test]
fn budgets_are_told_of_as_they_are_used_up() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("base")).unwrap();
    let owner = crate::state::OWNER;
    let budget = |desk: &mut Desk, amount: i128| {
        let (limits, budget) = (Limits::default(), BudgetKind::Monthly(Pico(amount)));
        desk.ask("", Request::SetLimits { application: owner.into(), limits, budget }).unwrap();
    };
    budget(&mut desk, 100_000_000);
    let spend = |desk: &mut Desk| {
        let service = desk.state().service("base").unwrap().clone();
        let mut row = LedgerRow {
            id: new_id(),
            application: desk.state().application(owner).unwrap().id,
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
            amount: Pico(0),
            user: String::new(),
            metadata: Vec::new(),
            first_token_ms: None,
            total_ms: None,
        };
        row.id = new_id();
        let id = row.id;
        desk.tell("", Event::OpenRow { row: Box::new(row), tokens_most: (0, 1), reply: oneshot::channel().0 });
        // Fifteen tokens of output at two micro-units each: three tenths of the budget.
        let close = Close {
            outcome: Outcome::Complete,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 15,
            first_token_ms: None,
            total_ms: 1,
            is_estimate: false,
        };
        desk.tell("", Event::CloseRow { id, close, reply: oneshot::channel().0 });
    };
    let shares = |desk: &Desk| -> Vec<String> {
        let crossed = desk.state().alerts.values().filter(|alert| alert.kind == AlertKind::BudgetCrossed);
        crossed.map(|alert| alert.facts[0].1.clone()).collect()
    };
    spend(&mut desk);
    assert!(shares(&desk).is_empty());
    spend(&mut desk);
    assert_eq!(shares(&desk), ["50"]);
    desk.start("what was told is not told again");
    assert_eq!(shares(&desk), ["50"]);
    spend(&mut desk);
    assert_eq!(shares(&desk), ["50", "80"]);
    spend(&mut desk);
    assert_eq!(shares(&desk), ["50", "80", "100"]);
    budget(&mut desk, 1_000_000_000);
    assert_eq!(shares(&desk).len(), 3, "a budget that is raised is no news");
}

#[test]
fn a_disk_that_fills_and_requests_that_fail_are_told_of() {
    let mut desk = Desk::furnished();
    for free in [8 << 30, 1 << 30, 1 << 29, (5 << 30) / 2, 1 << 30, 4 << 30, 1 << 30] {
        desk.tell("", Event::DiskFree(free));
    }
    let of = |desk: &Desk, kind| desk.state().alerts.values().filter(|alert| alert.kind == kind).count();
    assert_eq!(of(&desk, AlertKind::DiskLow), 2, "told again only after there was room");
}
