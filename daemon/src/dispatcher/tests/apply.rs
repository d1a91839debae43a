//! Several wishes as one: all or none, and only on what they were made for.

use hone_protocol::application::{BudgetKind, Limits};
use hone_protocol::usage::ComputePrice;

use super::*;
use crate::declared::{declared, stamp};

fn now(desk: &Desk) -> Hash {
    stamp(&declared(desk.state()))
}

fn application(name: &str, services: &[&str]) -> Request {
    let services = services.iter().map(|s| (*s).to_owned()).collect();
    Request::SetApplication { name: name.into(), title: String::new(), services, priority: None }
}

#[test]
fn all_changes_are_made_or_none() {
    let mut desk = Desk::furnished();
    let made_for = now(&desk);
    let price = ComputePrice { core_hour_micros: Some(7), gpu_hour_micros: None };
    let changes = vec![
        Request::SetPool { name: "local".into(), price, place: None },
        publish("base"),
        application("shop", &["base"]),
        application("lab", &["nobody"]),
    ];
    let before = desk.state().clone();
    let audit = desk.store.as_ref().unwrap().prefix(Table::Audit, b"").unwrap().len();
    let refused = desk.ask("", Request::Apply { made_for, changes: changes.clone() }).unwrap_err();
    assert_eq!(refused.code, FailureCode::NotFound);
    assert_eq!((&desk.state().services, &desk.state().applications), (&before.services, &before.applications));
    assert_eq!(desk.state().pools, before.pools);
    assert!(desk.state().serving.is_empty(), "nothing was started");
    assert_eq!(desk.store.as_ref().unwrap().prefix(Table::Audit, b"").unwrap().len(), audit);
    let some = changes[..3].to_vec();
    desk.ask("", Request::Apply { made_for, changes: some }).unwrap();
    assert!(desk.state().service("base").is_ok() && desk.state().application("shop").is_ok());
    desk.start("");
    assert_eq!(desk.state().pools["local"].price, price, "and it is durable");
}

#[test]
fn a_plan_for_what_is_no_more_so_is_refused() {
    let mut desk = Desk::furnished();
    let made_for = now(&desk);
    desk.ask("somebody else is faster", application("shop", &[])).unwrap();
    let changes = vec![application("lab", &[])];
    let refused = desk.ask("", Request::Apply { made_for, changes: changes.clone() }).unwrap_err();
    assert_eq!((refused.code, refused.place.as_str()), (FailureCode::WrongState, "made_for"));
    let made_for = now(&desk);
    // What a request or a payment changes is no change of what is declared.
    let limits =
        Request::SetLimits { application: "shop".into(), limits: Limits::default(), budget: BudgetKind::Prepaid };
    desk.ask("", limits).unwrap();
    assert_ne!(now(&desk), made_for);
    let made_for = now(&desk);
    let amount = hone_protocol::value::Pico(5);
    desk.ask("", Request::Pay { application: "shop".into(), amount, note: String::new() }).unwrap();
    desk.ask("", Request::Apply { made_for, changes }).unwrap();
}

#[test]
fn only_what_a_file_can_hold_is_applied() {
    let mut desk = Desk::furnished();
    let made_for = now(&desk);
    let (application, label) = ("owner".to_owned(), String::new());
    for change in [
        Request::CreateKey { application, label, expires_at_ms: None },
        Request::Shutdown,
        Request::Apply { made_for, changes: Vec::new() },
    ] {
        let refused = desk.ask("", Request::Apply { made_for, changes: vec![change] }).unwrap_err();
        assert_eq!((refused.code, refused.place.as_str()), (FailureCode::InvalidRequest, "changes[0]"));
    }
}
