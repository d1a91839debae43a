//! The life of versions over the real socket with the real starter: into the trash and out of it, files removed, and kept
//! checkpoints of runs made into versions. Never here: what the dispatcher decides, which its own tests walk through.

use std::path::{Path, PathBuf};

use hone_tests::{Client, Daemon, starter, train_spec, wait_until};
use serde_json::{Value, json};

/// The version of a reference as lists show it.
fn version(client: &mut Client, reference: &str) -> Value {
    let models = client.ask(json!("models"));
    let all = models.as_array().unwrap().iter().flat_map(|m| m["versions"].as_array().unwrap().clone());
    all.into_iter().find(|v| v["reference"] == reference).unwrap_or_else(|| panic!("no {reference} in {models}"))
}

fn weights(daemon: &Daemon, version: &Value) -> PathBuf {
    daemon.state().join("models").join(version["record"]["file"]["path"].as_str().unwrap())
}

fn one_threaded(steps: u64, register: Value) -> Value {
    let mut spec = train_spec(steps, register);
    spec["train"]["params"]["threads"] = json!(1);
    spec
}

fn import(client: &mut Client, path: &Path) {
    let path = path.display().to_string();
    client.job(json!({"import_model": {"source": {"path": {"path": path, "in_place": false}}, "name": "starter"}}));
}

#[test]
fn the_trash_keeps_what_is_used_and_removes_only_the_stores_own_names() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let mine = daemon.state().join("mine.gguf");
    std::fs::copy(starter(), &mine).unwrap();
    import(&mut client, &mine);
    client.import_rows();
    client.job(one_threaded(2, json!({"model": "support", "alias": "live", "publish": ""})));
    let trash = |client: &mut Client, version: &str| client.try_ask(json!({"trash": {"version": version}}));

    let refused = trash(&mut client, "starter@1").unwrap_err();
    assert_eq!(
        (&refused["code"], &refused["message_en"]),
        (&json!("in_use"), &json!("starter@1 is used by adapter support@1"))
    );
    let refused = trash(&mut client, "support@1").unwrap_err();
    assert_eq!(refused["args"], json!([["users", "alias support:live"]]));
    client.ask(json!({"remove_alias": {"model": "support", "alias": "live"}}));
    trash(&mut client, "support@1").unwrap();
    trash(&mut client, "starter@1").unwrap();

    // A crash keeps it there; nothing can be made of it, and the files are untouched.
    daemon.crash();
    let mut client = daemon.connect();
    let (adapter, base) = (version(&mut client, "support@1"), version(&mut client, "starter@1"));
    assert!(adapter["record"]["trashed_at_ms"].is_i64());
    let files = [weights(&daemon, &adapter), weights(&daemon, &base)];
    assert!(files.iter().all(|file| file.is_file()));
    let refused = client.try_ask(json!({"submit": {"spec": train_spec(2, Value::Null)}})).unwrap_err();
    assert!(refused["message_en"].as_str().unwrap().contains("trash"), "{refused}");
    for reference in ["starter@1", "support@1"] {
        client.ask(json!({"restore": {"version": reference}}));
    }
    client.job(json!({"convert": {"export": {"version": "support@1", "format": "gguf", "path": daemon.state().join("copy.gguf").display().to_string()}}}));

    // What a purge would free is said first: nothing for a file that a person has too.
    trash(&mut client, "support@1").unwrap();
    trash(&mut client, "starter@1").unwrap();
    let items = client.ask(json!("trash_list"));
    let frees = |reference: &str| {
        items.as_array().unwrap().iter().find(|i| i["version"] == reference).unwrap()["frees_bytes"].as_u64().unwrap()
    };
    assert_eq!(frees("support@1"), std::fs::metadata(&files[0]).unwrap().len());
    let linked = base["record"]["file"]["storage"] == "hard_linked";
    assert_eq!(frees("starter@1") == 0, linked, "{items}");
    let refused = client.try_ask(json!({"purge": {"versions": ["starter@1"]}})).unwrap_err();
    assert_eq!(refused["code"], "in_use", "an adapter over it may still come back");
    client.ask(json!({"purge": {"versions": ["starter@1", "support@1"]}}));
    wait_until("the files are gone", || files.iter().all(|file| !file.exists()).then_some(()));
    assert_eq!(std::fs::read(&mine).unwrap(), std::fs::read(starter()).unwrap());
    assert_eq!(version(&mut client, "support@1")["record"]["file"]["storage"], "removed");
    assert_eq!(client.ask(json!("trash_list")), json!([]));

    // The number is not given again.
    import(&mut client, &mine);
    assert!(version(&mut client, "starter@2")["record"]["trashed_at_ms"].is_null());
    let audit = client.ask(json!({"audit": {"count": 20}}));
    let verbs: Vec<&str> = audit.as_array().unwrap().iter().map(|row| row["verb"].as_str().unwrap()).collect();
    for verb in ["trash", "restore", "purge", "remove_alias"] {
        assert!(verbs.contains(&verb), "{verb} is not in {verbs:?}");
    }
}
