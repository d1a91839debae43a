//! Versions into the trash, out of it, and gone.

use hone_protocol::model::{Storage, TRASH_KEPT_MS};

use super::*;

/// A base and an adapter over it that a service, an alias and a job use.
fn used() -> (Desk, VersionId, VersionId) {
    let mut desk = Desk::furnished();
    let base = *desk.state().versions.keys().next().unwrap();
    let run = desk.submit("", train());
    desk.end("", run, AttemptEnd::Produced(Box::new(adapter())));
    let adapter = desk.state().version("desk@1").unwrap().id;
    desk.said.clear();
    (desk, base, adapter)
}

fn trash(version: &str) -> Request {
    Request::Trash { version: version.into() }
}

fn restore(version: &str) -> Request {
    Request::Restore { version: version.into() }
}

fn purge(versions: &[&str]) -> Request {
    Request::Purge { versions: versions.iter().map(|v| (*v).to_owned()).collect() }
}

/// Gives the store's own name to a version's file, as an import does.
fn own_file(desk: &mut Desk, id: VersionId) {
    let versions = Arc::make_mut(&mut desk.decider().state.versions);
    Arc::make_mut(versions.get_mut(&id).unwrap()).file.path = format!("{id}.gguf");
}

#[test]
fn a_version_in_use_stays_and_its_users_are_named() {
    let (mut desk, ..) = used();
    let merge = Conversion::Merge {
        version: "desk".into(),
        format: WeightsFormat::F16,
        name: "merged".into(),
        receipt_rows: None,
    };
    let job = desk.submit("", JobSpec::Convert(merge));
    let said = |desk: &mut Desk, version: &str| {
        let failure = desk.ask("", trash(version)).unwrap_err();
        assert_eq!((failure.code, failure.hint), (FailureCode::InUse, Some(HintCode::StopUsers)));
        failure.message_en
    };
    let expected = format!("desk@1 is used by service desk, alias desk:latest, job {job} (merge)");
    assert_eq!(said(&mut desk, "desk@1"), expected);
    assert_eq!(said(&mut desk, "starter@1"), format!("starter@1 is used by adapter desk@1, job {job} (merge)"));
    assert_eq!(desk.ask("", trash("desk")).unwrap_err().place, "version");
    desk.ask("", Request::Cancel { job }).unwrap();
    desk.end("", job, AttemptEnd::Stopped);
    desk.ask("", Request::SetService { name: "desk".into(), wanted: false }).unwrap();
    assert_eq!(said(&mut desk, "desk@1"), "desk@1 is used by alias desk:latest");
    desk.ask("", Request::RemoveAlias { model: "desk".into(), alias: "latest".into() }).unwrap();
    desk.ask("", trash("desk@1")).unwrap();
    assert_eq!(desk.ask("", trash("desk@1")).unwrap_err().code, FailureCode::WrongState);
}

#[test]
fn what_is_in_the_trash_cannot_be_used_and_comes_back_with_its_base() {
    let (mut desk, ..) = used();
    desk.ask("", Request::SetService { name: "desk".into(), wanted: false }).unwrap();
    desk.ask("", Request::RemoveAlias { model: "desk".into(), alias: "latest".into() }).unwrap();
    desk.said.clear();
    desk.ask("the adapter goes into the trash", trash("desk@1")).unwrap();
    desk.ask("then its base can", trash("starter@1")).unwrap();
    desk.start("the daemon starts again");
    desk.ask("nobody trains from it", Request::Submit { spec: train(), payer: None, pool: None }).unwrap_err();
    desk.ask("nobody publishes it", publish("other")).unwrap_err();
    desk.ask("its service does not start", Request::SetService { name: "desk".into(), wanted: true }).unwrap_err();
    desk.ask("an adapter comes out after its base", restore("desk@1")).unwrap_err();
    desk.ask("the base comes out", restore("starter@1")).unwrap();
    desk.ask("the adapter comes out", restore("desk@1")).unwrap();
    desk.ask("once", restore("desk@1")).unwrap_err();
    let run = desk.submit("", train());
    desk.end("a number is never given again", run, AttemptEnd::Produced(Box::new(adapter())));
    assert_eq!(desk.state().version("desk").unwrap().number, 2);
    insta::assert_snapshot!(desk.transcript());
}

#[test]
fn files_go_when_their_time_is_over_or_by_wish_and_never_a_persons_own() {
    let (mut desk, base, adapter) = used();
    own_file(&mut desk, adapter);
    desk.ask("", Request::SetService { name: "desk".into(), wanted: false }).unwrap();
    desk.ask("", Request::RemoveAlias { model: "desk".into(), alias: "latest".into() }).unwrap();
    desk.ask("", trash("desk@1")).unwrap();
    desk.ask("", trash("starter@1")).unwrap();
    assert_eq!(desk.ask("", purge(&["desk@1"])).unwrap_err().message_en, "desk@1 is used by service desk");
    assert_eq!(desk.ask("", purge(&["starter@1"])).unwrap_err().message_en, "starter@1 is used by adapter desk@1");
    let later = |desk: &mut Desk, id: VersionId| {
        let versions = Arc::make_mut(&mut desk.decider().state.versions);
        Arc::make_mut(versions.get_mut(&id).unwrap()).trashed_at_ms = Some(NOON_MS - TRASH_KEPT_MS);
    };
    later(&mut desk, adapter);
    later(&mut desk, base);
    desk.said.clear();
    desk.tell("a service that is off keeps its version and the base of that", Event::EmptyTrash);
    let services = Arc::make_mut(&mut desk.decider().state.services);
    services.clear();
    desk.tell("both go; only the store's own file is removed", Event::EmptyTrash);
    for id in [base, adapter] {
        assert_eq!(desk.state().versions[&id].file.storage, Storage::Removed);
    }
    desk.ask("it does not come back", restore("desk@1")).unwrap_err();
    desk.ask("nor twice", purge(&["desk@1"])).unwrap_err();
    desk.start("a start carries out what a crash left undone");
    insta::assert_snapshot!(desk.transcript());
}
