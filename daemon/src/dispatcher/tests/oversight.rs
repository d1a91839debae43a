//! Guards, the request log's settings and feedback, as facts: what is checked, counted by day, and there after a crash.

use hone_protocol::guard::{GuardAct, GuardCounts, GuardHit, GuardSide, GuardSpec};
use hone_protocol::hook::{AlertKind, HookTarget};
use hone_protocol::log::{Feedback, FeedbackRecord, LogSettings, Rating};

use super::*;
use crate::state::OWNER;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn spec(words: &[&str]) -> Box<GuardSpec> {
    Box::new(GuardSpec {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        patterns: Vec::new(),
        kinds: Vec::new(),
        input: true,
        output: false,
        act: GuardAct::Refuse,
        services: Vec::new(),
        applications: Vec::new(),
    })
}

#[test]
fn a_guard_is_checked_and_what_it_found_is_counted_by_day_and_survives_it() {
    let mut desk = Desk::furnished();
    let set = |name: &str, spec| Request::SetGuard { name: name.into(), spec };
    for (name, wrong, field) in [
        ("Bad Name", spec(&["x"]), "guard"),
        ("empty", spec(&[]), "words"),
        ("broken", Box::new(GuardSpec { patterns: vec!["(".into()], ..*spec(&[]) }), "patterns"),
        ("nowhere", Box::new(GuardSpec { services: vec!["none".into()], ..*spec(&["x"]) }), "service"),
    ] {
        assert_eq!(desk.ask("", set(name, wrong)).unwrap_err().place, field, "{name}");
    }
    desk.ask("", set("rivals", spec(&["Acme"]))).unwrap();
    let hit = |matches| GuardHit { guard: "rivals".into(), side: GuardSide::Input, act: GuardAct::Refuse, matches };
    let (service, application) = (new_id(), desk.state().application(OWNER).unwrap().id);
    for _ in 0..2 {
        desk.tell("", Event::Guarded { service, application, hits: vec![hit(1)] });
    }
    desk.pass(DAY_MS);
    desk.tell("", Event::Guarded { service, application, hits: vec![hit(3)] });
    desk.ask("", Request::RemoveGuard { name: "rivals".into() }).unwrap();
    assert_eq!(desk.ask("", Request::RemoveGuard { name: "rivals".into() }).unwrap_err().code, FailureCode::NotFound);
    desk.start("a crash");
    assert!(desk.state().guards.is_empty());
    assert_eq!(desk.state().guard_counts["rivals"], GuardCounts { input: 5, output: 0, refused: 3 });
    let days = desk.store.as_ref().unwrap().prefix(Table::GuardSums, b"rivals\0").unwrap();
    assert_eq!(days.len(), 2, "a sum for each day");
}

#[test]
fn what_a_guard_finds_is_told_of_once_a_minute() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("desk")).unwrap();
    desk.ask("", Request::SetGuard { name: "rivals".into(), spec: spec(&["Acme"]) }).unwrap();
    let (service, application) =
        (desk.state().service("desk").unwrap().id, desk.state().application(OWNER).unwrap().id);
    let found = |desk: &mut Desk, guard: &str, side, act, matches| {
        let hits = vec![GuardHit { guard: guard.into(), side, act, matches }];
        desk.tell("", Event::Guarded { service, application, hits });
        let told = desk.state().alerts.values().filter(|alert| alert.kind == AlertKind::GuardHit);
        told.map(|alert| alert.message.clone()).collect::<Vec<_>>()
    };
    assert!(found(&mut desk, "rivals", GuardSide::Input, GuardAct::Flag, 1).is_empty(), "nobody asked to be told");
    let target = HookTarget::Webhook("https://ops.example/hone".into());
    let on = vec![AlertKind::GuardHit];
    desk.ask("", Request::SetHook { name: "ops".into(), on, target, timeout_ms: 0 }).unwrap();
    desk.pass(60_000);
    for _ in 0..3 {
        found(&mut desk, "rivals", GuardSide::Input, GuardAct::Refuse, 2);
    }
    let told = found(&mut desk, "pii", GuardSide::Output, GuardAct::Mask, 1);
    assert_eq!(
        told,
        [
            "guard rivals refused what application owner sent to service desk (2 matches)",
            "guard pii masked what service desk answered to application owner (1 matches)"
        ]
    );
    desk.pass(60_000);
    assert_eq!(found(&mut desk, "rivals", GuardSide::Input, GuardAct::Refuse, 1).len(), 3);
}

#[test]
fn a_log_that_is_turned_off_keeps_its_rules() {
    let mut desk = Desk::furnished();
    let set = |log| Request::SetLog { application: OWNER.into(), log };
    let good = LogSettings { retention_days: 7, ..LogSettings::default() };
    for (wrong, field) in [
        (LogSettings { share_percent: 0, ..good }, "share_percent"),
        (LogSettings { share_percent: 101, ..good }, "share_percent"),
        (LogSettings { retention_days: 0, ..good }, "retention_days"),
        (LogSettings { bytes_max: 9, ..good }, "bytes_max"),
        (LogSettings { bytes_max: 1 << 20, entry_bytes_max: 1 << 18, ..good }, "entry_bytes_max"),
    ] {
        assert_eq!(desk.ask("", set(Some(wrong))).unwrap_err().place, field);
    }
    assert_eq!(desk.state().application(OWNER).unwrap().log, None);
    desk.ask("", set(None)).unwrap();
    assert_eq!(desk.state().application(OWNER).unwrap().log, None, "off before it was ever on");
    desk.ask("", set(Some(good))).unwrap();
    desk.ask("", set(None)).unwrap();
    desk.start("a crash");
    let kept = desk.state().application(OWNER).unwrap().log;
    assert_eq!(kept, Some(LogSettings { share_percent: 0, ..good }), "what is kept is let go by the same rules");
}

#[test]
fn the_last_word_of_a_user_counts() {
    let mut desk = Desk::furnished();
    let (response, service) = (new_id(), new_id());
    let application = desk.state().application(OWNER).unwrap().id;
    for (user, rating) in [("ann", Rating::Up), ("bo", Rating::Up), ("ann", Rating::Down)] {
        desk.pass(1000);
        let feedback = Feedback { rating: Some(rating), user: user.into(), ..Feedback::default() };
        let version = "starter@1".into();
        let record = Box::new(FeedbackRecord { response, application, service, version, feedback, at_ms: 0 });
        desk.tell("", Event::Feedback { record, reply: oneshot::channel().0 });
    }
    let pairs = desk.store.as_ref().unwrap().prefix(Table::Feedback, application.bytes()).unwrap();
    let kept: Vec<FeedbackRecord> = codec::read_all(Table::Feedback, &pairs).unwrap();
    let said: Vec<_> = kept.iter().map(|r| (r.feedback.user.as_str(), r.feedback.rating, r.at_ms - NOON_MS)).collect();
    assert_eq!(said, [("ann", Some(Rating::Down), 3000), ("bo", Some(Rating::Up), 2000)]);
}
