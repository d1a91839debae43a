//! Pools, attempts in Slurm, reserved services and priority, over simulated clocks and restarts. Never here: Slurm itself (the tests
//! over the real socket have one), arithmetic of token prices.

use hone_protocol::pool::{PoolPlace, Priority, Share, SlurmPlace, SlurmView};
use hone_protocol::service::Keep;
use hone_protocol::usage::{ComputePrice, ReservedRow};
use hone_protocol::value::Pico;

use super::*;
use crate::dispatcher::effect::StopHow;
use crate::{invoice, usage};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn share(cores: u32, mib: u64) -> Option<PoolPlace> {
    Some(PoolPlace::Share(Share { cores, memory_bytes: mib << 20, gpus: Vec::new() }))
}

fn slurm() -> Option<PoolPlace> {
    Some(PoolPlace::Slurm(Box::new(SlurmPlace {
        folder: "/shared".into(),
        programs: None,
        partition: None,
        account: None,
        qos: None,
        minutes: None,
        cores: 4,
        memory_mib: None,
        gres: Some("gpu:2".into()),
        options: Vec::new(),
    })))
}

fn pool(name: &str, place: Option<PoolPlace>) -> Request {
    Request::SetPool { name: name.into(), price: ComputePrice::default(), place }
}

fn submit(spec: JobSpec, payer: Option<&str>, pool: Option<&str>) -> Request {
    Request::Submit { spec, payer: payer.map(str::to_owned), pool: pool.map(str::to_owned) }
}

fn publish(name: &str, pool: Option<&str>) -> Request {
    Request::Publish {
        name: name.into(),
        version: "starter".into(),
        slots: 2,
        context_tokens: 512,
        price: Price::default(),
        keep: Some(Keep::Ready),
        pool: pool.map(str::to_owned),
    }
}

fn job(answer: Result<Answer, Failure>) -> JobId {
    match answer.unwrap() {
        Answer::Job(view) => view.record.id,
        other => panic!("{other:?}"),
    }
}

fn said(number: &str, state: &str, elapsed_s: u64) -> Fact {
    let view = SlurmView {
        number: number.into(),
        state: state.into(),
        reason: if state == "PENDING" { "Priority".into() } else { String::new() },
        node: if state == "PENDING" { String::new() } else { "n1".into() },
        elapsed_s,
        cpus: 4,
        gpus: 2,
    };
    Fact::Slurm(view)
}

impl Desk {
    fn application(&mut self, name: &str, priority: Option<Priority>) {
        let make = Request::SetApplication { name: name.into(), title: String::new(), services: Vec::new(), priority };
        self.ask("", make).unwrap();
    }

    /// Effects of what comes next, in words.
    fn effects_of(&mut self, event: Event) -> String {
        self.said.clear();
        self.tell("", event);
        let lines: Vec<&str> = self.said.lines().filter_map(|line| line.strip_prefix("effect   ")).collect();
        lines.join("\n")
    }

    fn reserved(&self, name: &str) -> Vec<ReservedRow> {
        let id = self.state().application(name).unwrap().id;
        let rows = self.store.as_ref().unwrap().prefix(Table::Reserved, id.bytes()).unwrap();
        codec::read_all(Table::Reserved, &rows).unwrap()
    }
}

#[test]
fn shares_are_of_this_machine_and_local_has_the_rest() {
    let mut desk = Desk::furnished();
    let refused = |desk: &mut Desk, name: &str, place| {
        let failure = desk.ask("", pool(name, place)).unwrap_err();
        (failure.code, failure.place)
    };
    assert_eq!(refused(&mut desk, "night", None).0, FailureCode::NotFound, "a new pool says what it is");
    assert_eq!(refused(&mut desk, "local", share(1, 100)), (FailureCode::InvalidField, "pool".into()));
    assert_eq!(
        refused(&mut desk, "night", share(2, 1024)),
        (FailureCode::InvalidField, "cores".into()),
        "local keeps one"
    );
    assert_eq!(refused(&mut desk, "night", share(1, 4000)), (FailureCode::InvalidField, "memory".into()));
    desk.ask("", pool("night", share(1, 1024))).unwrap();
    let of =
        |desk: &Desk, pool: &str| (desk.state().capacity(pool).cores, desk.state().capacity(pool).memory_bytes >> 20);
    assert_eq!((of(&desk, "night"), of(&desk, "local")), ((1, 1024), (1, 3072)));
    assert_eq!((desk.state().threads("local"), desk.state().threads("night")), (1, 1));
    assert_eq!(refused(&mut desk, "noon", share(1, 512)), (FailureCode::InvalidField, "cores".into()));
    desk.start("");
    assert_eq!(of(&desk, "night"), (1, 1024), "also after a restart");
    desk.ask("", Request::RemovePool { name: "night".into() }).unwrap();
    assert_eq!((of(&desk, "local"), desk.state().threads("local")), ((2, 4096), 0), "as before");
    assert_eq!(desk.ask("", Request::RemovePool { name: "local".into() }).unwrap_err().place, "pool");
}

#[test]
fn each_pool_has_a_plan_of_its_own_and_what_is_in_it_keeps_it() {
    let mut desk = Desk::furnished();
    desk.ask("", pool("night", share(1, 2048))).unwrap();
    let here = job(desk.ask("", submit(train(), None, None)));
    let there = job(desk.ask("", submit(train(), None, Some("night"))));
    let third = job(desk.ask("", submit(train(), None, Some("night"))));
    let running: Vec<JobId> = desk.state().attempts.keys().copied().collect();
    assert_eq!(running, [here, there], "one that keeps the cores busy in each");
    assert_eq!(desk.state().attempts[&there].cores, 1);
    assert!(desk.state().job_view(third).unwrap().waits_for.contains("another job uses the cores"));
    let busy = desk.ask("", Request::RemovePool { name: "night".into() }).unwrap_err();
    assert_eq!(busy.code, FailureCode::InUse);
    for id in [there, third] {
        assert!(busy.message_en.contains(&id.to_string()), "{busy}");
    }
    // What the pool could never hold is refused with both numbers, and what to change.
    desk.ask("", pool("tiny", share(1, 64))).unwrap_err();
    desk.ask("", Request::Cancel { job: third }).unwrap();
    desk.end("", there, AttemptEnd::Produced(Box::new(adapter())));
    desk.ask("", pool("night", share(1, 64))).unwrap();
    let large = desk.ask("", submit(train(), None, Some("night"))).unwrap_err();
    assert_eq!((large.code, large.place.as_str()), (FailureCode::DoesNotFit, "sequence_tokens"));
    assert!(large.message_en.contains("the pool night has 64 MiB"), "{large}");
    let too_large = desk.ask("", publish("desk", Some("night"))).unwrap_err();
    assert!(too_large.message_en.contains("the pool night has 64 MiB"), "{too_large}");
    desk.ask("", Request::RemovePool { name: "night".into() }).unwrap();
}

#[test]
fn services_of_one_base_are_in_one_pool_and_move_with_a_new_process() {
    let mut desk = Desk::furnished();
    desk.ask("", pool("night", share(1, 2048))).unwrap();
    desk.ask("", publish("desk", None)).unwrap();
    desk.ask("", publish("chat", None)).unwrap();
    let apart = desk.ask("", publish("chat", Some("night"))).unwrap_err();
    assert_eq!((apart.code, apart.place.as_str()), (FailureCode::InUse, "pool"));
    assert!(apart.message_en.contains("desk"), "{apart}");
    desk.ask("", Request::SetService { name: "desk".into(), wanted: false }).unwrap();
    desk.ask("", publish("chat", Some("night"))).unwrap();
    let serving = desk.state().serving.values().next().unwrap();
    assert_eq!((serving.pool.as_str(), serving.generation), ("night", 2));
    assert!(desk.state().committed_bytes("night") > 0);
    assert_eq!(desk.state().committed_bytes("local"), 0);
    // The one that is off cannot come back beside it.
    let back = desk.ask("", Request::SetService { name: "desk".into(), wanted: true }).unwrap_err();
    assert_eq!(back.code, FailureCode::InUse);
    desk.ask("", pool("far", slurm())).unwrap();
    assert_eq!(desk.ask("", publish("more", Some("far"))).unwrap_err().place, "pool");
    // A pool that shrinks below what is in it.
    let small = desk.ask("", pool("night", share(1, 64))).unwrap_err();
    assert_eq!((small.code, small.place.as_str()), (FailureCode::InUse, "memory"));
}

#[test]
fn an_attempt_in_slurm_is_stored_before_it_is_submitted_and_found_again() {
    let mut desk = Desk::furnished();
    let price = ComputePrice { core_hour_micros: Some(3_600_000), gpu_hour_micros: Some(36_000_000) };
    desk.ask("", Request::SetPool { name: "far".into(), price, place: slurm() }).unwrap();
    let id = job(desk.ask("", submit(train(), None, Some("far"))));
    let run = desk.state().slurm[&id].clone();
    assert_eq!(run.folder, format!("/shared/hone-{id}-1"));
    assert_eq!((run.name(), run.view.number.as_str()), (format!("hone-{id}-1"), ""));
    // A crash between the submission and its number: the same attempt begins again, and looks for its name.
    desk.start("");
    assert_eq!(desk.state().attempts[&id].number, 1);
    desk.fact("", id, said("7", "PENDING", 0));
    let view = desk.state().job_view(id).unwrap();
    assert_eq!(view.shown, hone_protocol::job::ShownState::Queued);
    assert_eq!(view.waits_for, "Slurm job 7 is pending (Priority)");
    desk.fact("", id, said("7", "RUNNING", 1));
    let taken = |number| Fact::At { position: number * 100, fact: Box::new(step(number)) };
    desk.fact("", id, taken(1));
    desk.fact("", id, taken(2));
    assert_eq!(desk.state().slurm[&id].position, 200, "how far the frames were taken is stored with what they said");
    let events = |desk: &Desk| desk.state().jobs[&id].next_event_seq;
    let before = events(&desk);
    desk.fact("", id, said("7", "RUNNING", 60));
    assert_eq!(events(&desk), before, "that time passes is no event");
    // The daemon stops: the run goes on, and is the same attempt at the next start.
    desk.ask("", Request::Shutdown).unwrap();
    assert!(desk.said.contains("Leave") && desk.said.contains("exit 0"), "{}", desk.said);
    desk.said.clear();
    desk.start("");
    assert!(desk.said.contains("start attempt 1 of"), "{}", desk.said);
    assert_eq!((events(&desk), desk.state().slurm[&id].position), (before, 200));
    assert_eq!(desk.state().jobs[&id].barren, 1, "a restart is no attempt");
    desk.fact("", id, said("7", "TIMEOUT", 90));
    let lost = Failure::new(FailureCode::Interrupted, "its time limit");
    let effects = desk.effects_of(Event::AttemptEnded { job: id, number: 1, end: AttemptEnd::Failed(lost) });
    assert!(effects.contains(&format!("remove the shared folder /shared/hone-{id}-1")), "{effects}");
    assert!(effects.contains("start attempt 2"), "{effects}");
    assert_eq!(desk.state().slurm[&id].folder, format!("/shared/hone-{id}-2"));
    // 90 s of four processors and two GPUs, whatever the daemon's own clocks say.
    let compute = desk.state().jobs[&id].compute.unwrap();
    assert_eq!((compute.core_ms, compute.gpu_ms), (360_000, 180_000));
    assert_eq!(compute.amount, Pico((360 * 1_000 + 180 * 10_000) * 1_000_000));
    // What was cancelled while no daemon was there is passed on.
    desk.fact("", id, said("8", "RUNNING", 5));
    desk.ask("", Request::Cancel { job: id }).unwrap();
    desk.said.clear();
    desk.start("");
    assert!(desk.said.contains(&format!("stop the attempt of {id} {:?}", StopHow::Now)), "{}", desk.said);
    desk.end("", id, AttemptEnd::Stopped);
    assert_eq!(desk.state().jobs[&id].state, hone_protocol::job::JobState::Cancelled);
    assert!(desk.state().slurm.is_empty());
}

#[test]
fn reserved_time_is_charged_over_midnight_price_changes_and_restarts() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("desk", None)).unwrap();
    desk.application("shop", None);
    let reserve = |application: Option<&str>, hour_micros| Request::Reserve {
        service: "desk".into(),
        application: application.map(str::to_owned),
        hour_micros,
    };
    assert_eq!(desk.ask("", reserve(None, 0)).unwrap_err().code, FailureCode::WrongState);
    assert_eq!(desk.ask("", reserve(Some("moon"), 1)).unwrap_err().code, FailureCode::NotFound);
    // Noon; 1.80 an hour.
    desk.ask("", reserve(Some("shop"), 1_800_000)).unwrap();
    assert!(desk.said.contains("charge reserved time in 3600000 ms"));
    for _ in 0..11 {
        desk.pass(HOUR_MS);
        desk.tell("", Event::LookReserved);
    }
    assert_eq!(desk.reserved("shop").len(), 11);
    // 23:30: the next look is at midnight, and comes two minutes late.
    desk.pass(HOUR_MS / 2);
    desk.said.clear();
    desk.tell("", Event::LookReserved);
    assert!(desk.said.contains("charge reserved time in 1800000 ms"), "{}", desk.said);
    desk.pass(HOUR_MS / 2 + 2 * MINUTE_MS);
    desk.tell("", Event::LookReserved);
    let rows = desk.reserved("shop");
    let [.., late, early] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((late.day.as_str(), late.reserved_ms), ("2026-11-28", 30 * 60_000));
    assert_eq!((early.day.as_str(), early.reserved_ms), ("2026-11-29", 2 * 60_000));
    // Another price from 00:10 on; off from 00:20 to 00:50; then a crash at 01:00 that loses ten minutes.
    desk.pass(8 * MINUTE_MS);
    desk.ask("", reserve(Some("shop"), 3_600_000)).unwrap();
    desk.pass(10 * MINUTE_MS);
    desk.ask("", Request::SetService { name: "desk".into(), wanted: false }).unwrap();
    desk.pass(30 * MINUTE_MS);
    desk.ask("", Request::SetService { name: "desk".into(), wanted: true }).unwrap();
    desk.pass(10 * MINUTE_MS);
    desk.start("");
    // The wall's clock is set back an hour: lengths are not the wall's.
    desk.now.wall_ms -= HOUR_MS;
    desk.pass(5 * MINUTE_MS);
    desk.ask("", reserve(None, 0)).unwrap();
    desk.pass(HOUR_MS);
    desk.tell("", Event::LookReserved);
    let rows = desk.reserved("shop");
    let ms = |price| rows.iter().filter(|row| row.hour_micros == price).map(|row| row.reserved_ms).sum::<u64>();
    assert_eq!(ms(1_800_000), (12 * HOUR_MS + 10 * MINUTE_MS) as u64);
    assert_eq!(ms(3_600_000), (15 * MINUTE_MS) as u64);
    let amount: i128 =
        rows.iter().map(|row| i128::from(row.reserved_ms) * i128::from(row.hour_micros) * 1_000_000 / 3_600_000).sum();
    let store = desk.store.as_ref().unwrap();
    let bill = invoice::invoice(store, desk.state(), "shop", "2026-11").unwrap();
    assert_eq!((bill.reserved.len(), bill.amount), (2, Pico(amount)));
    assert_eq!(bill.reserved.iter().map(|line| line.rounded.as_str()).collect::<Vec<_>>(), ["21.900000", "0.900000"]);
    let query = hone_protocol::usage::UsageQuery {
        application: "shop".into(),
        from: "2026-11-01".into(),
        to: "2026-11-30".into(),
        count: 10,
        ..Default::default()
    };
    let page = usage::page(store, desk.state(), &query).unwrap();
    assert_eq!((page.reserved.amount, page.reserved.rows), (Pico(amount), rows.len() as u64));
    let shop = desk.state().application("shop").unwrap().id;
    assert_eq!(desk.state().application_view(shop).unwrap().reserved.amount, Pico(amount));
    desk.start("");
    assert_eq!(desk.state().application_view(shop).unwrap().reserved.amount, Pico(amount), "as it is stored");
}

#[test]
fn a_reserved_service_stays_loaded_and_its_cost_counts_for_a_budget() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("desk", None)).unwrap();
    desk.application("shop", None);
    let reserve = Request::Reserve { service: "desk".into(), application: Some("shop".into()), hour_micros: 1_000_000 };
    desk.ask("", reserve).unwrap();
    let base = *desk.state().serving.keys().next().unwrap();
    desk.serving("", ServingFact::Ready { memory_bytes: 1 });
    assert!(!desk.decider().make_room("local", 4 << 30), "it makes no room for anything");
    assert!(desk.state().serving.contains_key(&base));
    let budget = hone_protocol::application::BudgetKind::Monthly(Pico(2_500_000_000_000));
    desk.ask("", Request::SetLimits { application: "shop".into(), limits: Default::default(), budget }).unwrap();
    desk.pass(2 * HOUR_MS);
    desk.ask("", Request::Shutdown).unwrap();
    let shop = desk.state().application("shop").unwrap().id;
    assert_eq!(desk.state().budgets_left[&shop], Pico(500_000_000_000), "a stop charges what is due");
}

#[test]
fn jobs_of_a_higher_priority_go_first_within_their_head_start() {
    let mut desk = Desk::furnished();
    for (name, priority) in [("low", Priority::Low), ("high", Priority::High)] {
        desk.application(name, Some(priority));
    }
    let running = job(desk.ask("", submit(train(), None, None)));
    desk.pass(MINUTE_MS);
    let low = job(desk.ask("", submit(train(), Some("low"), None)));
    desk.pass(MINUTE_MS);
    let normal = job(desk.ask("", submit(train(), None, None)));
    desk.pass(MINUTE_MS);
    let high = job(desk.ask("", submit(train(), Some("high"), None)));
    // Long after: a high one that came too late to overtake the low one.
    desk.pass(13 * HOUR_MS);
    let late = job(desk.ask("", submit(train(), Some("high"), None)));
    assert_eq!(desk.decider().line(), [high, normal, low, late]);
    desk.end("", running, AttemptEnd::Produced(Box::new(adapter())));
    assert!(desk.state().attempts.contains_key(&high));
    desk.application("high", Some(Priority::Low));
    assert_eq!(desk.decider().line(), [normal, low, late], "a change counts at once");
    desk.application("high", None);
    assert_eq!(desk.state().application("high").unwrap().priority, Some(Priority::Low), "what is not said stays");
}
