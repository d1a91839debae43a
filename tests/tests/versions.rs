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

fn register(client: &mut Client, run: &str, step: Value, model: &str) -> Result<Value, Value> {
    let register = json!({"model": model, "alias": "", "publish": ""});
    let job =
        client.try_ask(json!({"submit": {"spec": {"register": {"run": run, "step": step, "register": register}}}}))?;
    let view = client.finish(job["record"]["id"].as_str().unwrap());
    let state = &view["record"]["state"];
    if state["failed"].is_null() { Ok(state["succeeded"]["model"].clone()) } else { Err(state["failed"].clone()) }
}

fn kept(client: &mut Client, run: &str) -> Vec<(u64, bool)> {
    let kept = client.ask(json!({"checkpoints": {"job": run}}));
    let of = |c: &Value| (c["step"].as_u64().unwrap(), c["result"].as_bool().unwrap());
    kept.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn kept_checkpoints_become_versions_after_any_end_of_the_run() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();

    // A run that ended well and was not registered: its result, and each step that was kept.
    let run = client.submit(one_threaded(5, Value::Null));
    assert_eq!(client.finish(&run)["shown"], "succeeded");
    wait_until("only values are kept", || {
        let moments = daemon.state().join(format!("jobs/{run}/checkpoints/5/first_moment.f32"));
        (!moments.exists()).then_some(())
    });
    assert_eq!(kept(&mut client, &run), [(5, true), (4, false), (2, false)]);
    register(&mut client, &run, Value::Null, "support").unwrap();
    register(&mut client, &run, json!(2), "support").unwrap();
    register(&mut client, &run, json!(4), "support").unwrap();
    let made: Vec<Value> = (1..=3).map(|n| version(&mut client, &format!("support@{n}"))).collect();
    for (version, step) in made.iter().zip([5, 2, 4]) {
        let lineage = &version["record"]["lineage"];
        assert_eq!((&lineage["step"], &lineage["job"]), (&json!(step), &json!(run)), "{lineage}");
        assert_eq!(version["base_reference"], "starter@1");
        assert_eq!(version["record"]["weights"]["adapter"]["rank"], 4);
    }
    let files: Vec<Vec<u8>> = made.iter().map(|v| std::fs::read(weights(&daemon, v)).unwrap()).collect();
    assert!(files[0] != files[1] && files[1] != files[2], "each step has weights of its own");
    // A version of a checkpoint answers like any other.
    let price = json!({"input_micros": null, "cached_micros": null, "output_micros": null});
    client.ask(json!({"publish": {"name": "early", "version": "support@2", "slots": 1, "context_tokens": 256, "price": price}}));
    client.wait_for_service("early");

    let refused = register(&mut client, &run, json!(3), "support").unwrap_err();
    assert_eq!(refused["code"], "not_found");
    assert!(refused["message_en"].as_str().unwrap().ends_with("kept are 5, 4, 2"), "{refused}");

    // A run that was cancelled, after a crash of the daemon in between.
    let run = client.submit(one_threaded(5000, json!({"model": "never", "alias": "", "publish": ""})));
    let refused = register(&mut client, &run, Value::Null, "support").unwrap_err();
    assert_eq!((&refused["code"], &refused["place"]), (&json!("wrong_state"), &json!("run")));
    let accepted =
        |client: &mut Client| client.ask(json!({"job": {"job": run}}))["record"]["checkpoint"]["step"].as_u64();
    wait_until("two checkpoints", || accepted(&mut client).filter(|step| *step >= 4));
    daemon.crash();
    let mut client = daemon.connect();
    client.ask(json!({"cancel": {"job": run}}));
    assert_eq!(client.finish(&run)["shown"], "cancelled");
    // The record of the base: what was made from it, by whom, and how that ended; of a version: what made it.
    let history = client.ask(json!({"history": {"model": "starter@1"}}));
    let told: Vec<(&str, bool)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["what"].as_str().unwrap(), e["made"].as_bool().unwrap()))
        .collect();
    assert_eq!(told, [("train", false), ("train", false), ("import_model", true)], "{history}");
    assert_eq!(history[0]["state"], "cancelled");
    let history = client.ask(json!({"history": {"model": "support@2"}}));
    let told: Vec<&str> = history.as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["publish", "register", "train"], "{history}");
    assert_eq!(
        (&history[0]["other"], &history[1]["made"], &history[0]["job"]),
        (&json!("early"), &json!(true), &Value::Null)
    );
    assert_eq!(client.ask(json!({"history": {"model": "support"}})).as_array().unwrap().len(), 7);
    let newest = kept(&mut client, &run)[0].0;
    register(&mut client, &run, Value::Null, "rescued").unwrap();
    assert_eq!(version(&mut client, "rescued@1")["record"]["lineage"]["step"], json!(newest));
}
