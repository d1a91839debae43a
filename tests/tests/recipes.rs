//! Recipes over the real daemon: what each step did, rescue, what is known from an earlier run, preview, facts, and a third-party set that
//! goes from a package to a trained adapter. Never here: what a single step does (see the daemon's own tests).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use hone_tests::{Client, Daemon, programs, train_spec};
use serde_json::{Value, json};

/// Good rows of the set that the tests import.
const GOOD: u64 = 60;

fn good(number: u64) -> (String, String) {
    let words: String = (0..30).map(|word| format!("word{} ", number * 31 + word)).collect();
    (format!("Question {number}?"), format!("It is {words}and that is all."))
}

/// Good rows, then one that refuses, an exact and a near copy, one with an address, and one with strange spaces.
fn import(daemon: &Daemon, client: &mut Client, name: &str) {
    let mut rows: Vec<(String, String)> = (0..GOOD).map(good).collect();
    rows.push(("Help".into(), "I'm sorry, but I can't assist with that.".into()));
    rows.push((good(7).0.to_uppercase(), good(7).1));
    rows.push((good(8).0, good(8).1.replace("and that is all", "and that is everything")));
    rows.push(("Write to ann@example.org".into(), "I wrote to her about the meeting.".into()));
    rows.push(("Strange\u{a0}spaces?  ".into(), "They are made plain, and nothing else is.".into()));
    let mut lines = String::new();
    for (question, answer) in rows {
        let row = json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], "source": "test"});
        writeln!(lines, "{row}").unwrap();
    }
    let path = daemon.state().join(format!("{name}.jsonl"));
    std::fs::write(&path, lines).unwrap();
    client.job(json!({"import_dataset": {"source": {"path": {"path": path}}, "name": name, "format": "detect"}}));
}

fn recipe(words: &[&str]) -> Value {
    let step = |word: &&str| json!({"step": word, "settings": [], "keep": []});
    json!({"steps": words.iter().map(step).collect::<Vec<_>>()})
}

fn process(source: &str, name: &str, recipe: &Value) -> Value {
    json!({"process": {"source": source, "name": name, "recipe_name": "test", "recipe": recipe}})
}

/// The newest version of a dataset.
fn version(client: &mut Client, name: &str) -> Value {
    let datasets = client.ask(json!("datasets"));
    let dataset = datasets.as_array().unwrap().iter().find(|dataset| dataset["record"]["name"] == name).unwrap();
    dataset["versions"].as_array().unwrap().last().unwrap().clone()
}

fn ledger(client: &mut Client, dataset: &str, step: usize) -> Vec<Value> {
    let page = client.ask_with(
        json!({"recipe_ledger": {"dataset": dataset, "step": step, "offset": 0, "count": 200}}),
        None,
        |_| (),
    );
    let page = page.unwrap();
    let entries = page["entries"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
    assert_eq!(page["total"], entries.len());
    entries
}

fn rows(client: &mut Client, dataset: &str) -> Vec<Value> {
    let split = json!({"held_out_percent": 0, "seed": 0});
    let request = json!({"rows": {"dataset": dataset, "offset": 0, "count": 1000, "split": split, "part": "all"}});
    client.ask_with(request, None, |_| ()).unwrap()["rows"].as_array().unwrap().clone()
}

#[test]
fn a_recipe_makes_a_version_with_a_ledger_and_rows_are_rescued() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&daemon, &mut client, "raw");
    let words = ["spaces", "phrases", "exact", "near", "mask"];
    let steps = recipe(&words);

    // Preview first: nothing is written, and it says what the run will do.
    let preview = client.ask(json!({"preview_recipe": {"dataset": "raw", "recipe": steps, "from": 0, "count": 5}}));
    assert_eq!(preview["counts"], json!([[0, 1], [1, 0], [1, 0], [1, 0], [0, 1]]));
    assert_eq!(preview["looked_at"], GOOD + 5);
    let touched = preview["rows"].as_array().unwrap().iter().filter(|row| !row["acts"].as_array().unwrap().is_empty());
    assert_eq!(touched.count(), 5);
    assert_eq!(client.ask(json!("datasets")).as_array().unwrap().len(), 1);

    client.job(process("raw", "clean", &steps));
    let made = version(&mut client, "clean");
    let processed = &made["processed"];
    assert_eq!((&processed["rows_in"], &processed["rows_out"]), (&json!(GOOD + 5), &json!(GOOD + 2)));
    assert_eq!(processed["source_name"], "raw@1");
    let did = |processed: &Value, what: &str| -> Vec<u64> {
        processed["steps"].as_array().unwrap().iter().map(|step| step[what].as_u64().unwrap()).collect()
    };
    assert_eq!((did(processed, "dropped"), did(processed, "changed")), (vec![0, 1, 1, 1, 0], vec![1, 0, 0, 0, 1]));
    // The thresholds that it worked with are told, defaults included.
    let near = &processed["steps"][3]["spec"]["settings"];
    assert!(near.as_array().unwrap().contains(&json!(["threshold", "0.7"])), "{near}");

    let near = ledger(&mut client, "clean", 3);
    assert_eq!((&near[0]["row_id"], &near[0]["detail"]), (&json!(GOOD + 2), &json!("row 8")));
    assert!(near[0]["value"].as_f64().unwrap() >= 0.7, "{}", near[0]);
    assert_eq!(near[0]["before"][0]["content"], "Question 8?");
    let masked = ledger(&mut client, "clean", 4);
    assert_eq!(masked[0]["before"][0]["content"], "Write to ann@example.org");
    assert_eq!(masked[0]["after"][0]["content"], "Write to [EMAIL]");
    let out = rows(&mut client, "clean");
    assert_eq!(out.len() as u64, GOOD + 2);
    assert_eq!(out[GOOD as usize]["original"]["messages"][0]["content"], "Write to [EMAIL]");
    assert_eq!(out[GOOD as usize]["original"]["source"], "test", "a person's own field stays");

    // Another end: the steps before it are known. The rescued row is in the next version.
    let mut other = steps.clone();
    other["steps"][3]["keep"] = json!([GOOD + 2]);
    client.job(process("raw@1", "clean", &other));
    let made = version(&mut client, "clean");
    let cached: Vec<bool> =
        made["processed"]["steps"].as_array().unwrap().iter().map(|step| step["cached"] == true).collect();
    assert_eq!(cached, [true, true, true, false, false]);
    assert_eq!((&made["number"], &made["rows"]), (&json!(2), &json!(GOOD + 3)));
    let rescued = rows(&mut client, "clean")
        .iter()
        .any(|row| row["messages"][1]["content"].as_str().unwrap().ends_with("everything."));
    assert!(rescued);

    // What no run could do is refused by its place, and the daemon stays up.
    for (wrong, place) in [
        (json!({"steps": []}), "steps"),
        (json!({"steps": [{"step": "fly", "settings": [], "keep": []}]}), "steps[0].step"),
        (json!({"steps": [{"step": "near", "settings": [["threshold", "7"]], "keep": []}]}), "steps[0].threshold"),
        (json!({"steps": [{"step": "exact", "settings": [["against", "nowhere"]], "keep": []}]}), "steps[0].against"),
    ] {
        let spec = process("raw", "wrong", &wrong);
        let failure = client.try_ask(json!({"submit": {"spec": spec, "payer": null, "pool": null}})).unwrap_err();
        assert_eq!(failure["where"].as_str().or(failure["place"].as_str()), Some(place), "{failure}");
    }
    let everything = json!({"steps": [{"step": "length", "settings": [["min", "100000"]], "keep": []}]});
    let job = client.submit(process("raw", "none", &everything));
    let end = client.finish(&job);
    assert!(end.to_string().contains("drops all of"), "{end}");
}

#[test]
fn a_dataset_is_kept_out_of_another_and_facts_are_found() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&daemon, &mut client, "raw");
    import(&daemon, &mut client, "exam");
    let spec = json!({"steps": [{"step": "decontaminate", "settings": [["against", "exam"]], "keep": []},
        {"step": "sample", "settings": [["rows", "1"]], "keep": []}]});
    client.job(process("raw", "apart", &spec));
    let made = version(&mut client, "apart");
    let first = &made["processed"]["steps"][0];
    // Only rows of fewer words than a run are left.
    assert_eq!(first["dropped"], GOOD + 2, "{first}");
    assert!(first["spec"]["settings"].as_array().unwrap().contains(&json!(["against", "exam@1"])), "names are exact");

    client.job(json!({"facts": {"dataset": "raw", "model": null}}));
    let facts = version(&mut client, "raw")["facts"].clone();
    assert_eq!((&facts["rows"], &facts["messages"]), (&json!(GOOD + 5), &json!(2 * (GOOD + 5))));
    assert_eq!((&facts["exact_duplicates"], &facts["near_duplicates"]), (&json!(1), &json!(2)));
    assert_eq!(facts["private"], json!([["email", 1]]));
    let by_length: u64 = facts["lengths"].as_array().unwrap().iter().map(|rows| rows.as_u64().unwrap()).sum();
    assert_eq!(by_length, GOOD + 5);
}

/// `hone` with these words; what it printed.
fn hone(daemon: &Daemon, words: &[&str]) -> String {
    let done = Command::new(programs().join("hone"))
        .args(["--lang", "en", "--state"])
        .arg(daemon.state())
        .args(words)
        .output()
        .unwrap();
    let (out, error) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{words:?}: {out}{error}");
    out.into_owned()
}

#[test]
fn the_command_line_does_all_of_it() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&daemon, &mut client, "raw");
    let file = daemon.state().join("mine.toml").display().to_string();
    std::fs::write(&file, hone(&daemon, &["recipe", "show", "chat"])).unwrap();
    hone(&daemon, &["recipe", "save", "mine", &file]);
    assert!(hone(&daemon, &["recipe", "list"]).contains("mine"));
    assert_eq!(hone(&daemon, &["recipe", "show", "mine"]), hone(&daemon, &["recipe", "show", "chat"]));
    assert!(hone(&daemon, &["recipe", "steps", "near"]).contains("0.5..1"));
    assert!(hone(&daemon, &["recipe", "preview", "raw", "mine"]).contains("near duplicate"));
    let run = hone(&daemon, &["recipe", "run", "raw", "mine", "--name", "clean"]);
    assert!(run.contains("clean@1") && run.contains("threshold=0.7"), "{run}");
    let entries = hone(&daemon, &["--json", "recipe", "ledger", "clean", "--step", "10"]);
    let entry: Value = serde_json::from_str(entries.lines().next().unwrap()).unwrap();
    assert_eq!(entry["reason"], "near_duplicate");
    let row = entry["row_id"].to_string();
    assert!(hone(&daemon, &["recipe", "rescue", "clean", "--step", "10", &row]).contains("clean@2"));
    assert_eq!(version(&mut client, "clean")["rows"], version(&mut client, "raw")["rows"].as_u64().unwrap() - 2);
    assert!(hone(&daemon, &["dataset", "facts", "raw"]).contains("near duplicates"));
    hone(&daemon, &["recipe", "remove", "mine"]);
    assert!(!hone(&daemon, &["recipe", "list"]).contains("mine"));
}

/// The preset of help-desk chats goes through its recipe, is split, and an adapter is trained on it for some steps.
#[test]
fn from_rows_through_a_recipe_to_an_adapter_without_hand_work() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    let sets = client.ask(json!("datasets"));
    let name = sets[0]["record"]["name"].as_str().unwrap().to_owned();
    let words = [
        "unicode",
        "control",
        "spaces",
        "roles",
        "answer",
        "phrases",
        "repetition",
        "length",
        "exact",
        "near",
        "secrets",
        "mask",
    ];
    client.job(process(&name, "desk-clean", &recipe(&words)));
    let made = version(&mut client, "desk-clean");
    let (rows_in, rows_out) = (made["processed"]["rows_in"].as_u64().unwrap(), made["rows"].as_u64().unwrap());
    let dropped: u64 =
        made["processed"]["steps"].as_array().unwrap().iter().map(|step| step["dropped"].as_u64().unwrap()).sum();
    assert_eq!(rows_in, rows_out + dropped);
    assert!(rows_out * 10 > rows_in * 7, "a good set stays mostly as it is: {rows_out} of {rows_in}");
    let ids: BTreeSet<u64> =
        rows(&mut client, "desk-clean").iter().map(|row| row["row_id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len() as u64, rows_out.min(1000));
    let mut spec = train_spec(2, json!({"model": "desk", "alias": "", "publish": ""}));
    spec["train"]["dataset"] = json!("desk-clean");
    client.job(spec);
    let models = client.ask(json!("models"));
    assert!(models.to_string().contains("desk"), "{models}");
}
