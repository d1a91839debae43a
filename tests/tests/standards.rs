//! Standards and generation on the real starter: rows that keep to a standard, each answer paid once over a crash, ceilings that hold,
//! candidates that are a row or have a reason, drafts that are not trained on, and rows that are never held out.

use std::process::{Command, Output};

use hone_tests::{Client, Daemon, programs, train_spec, wait_until};
use serde_json::{Value, json};

fn publish(client: &mut Client) {
    client.import_starter();
    let price = json!({"input_micros": 1_000_000, "cached_micros": 1_000_000, "output_micros": 1_000_000});
    client.ask(
        json!({"publish": {"name": "base", "version": "starter", "slots": 3, "context_tokens": 1024, "price": price}}),
    );
    client.wait_for_service("base");
}

const STANDARD: &str = r#"
title = "How the desk speaks"
about = "You answer customers of a shop in one sentence."

[checks]
prompt_chars = { min = 8, max = 120 }
answer_chars = { min = 2, max = 900 }
turns = { min = 1, max = 1 }
must_not_match = ['(?i)as an ai language model']
language = "en"

[[criteria]]
name = "kind"
about = "It is kind."
scale = 3

[[examples]]
good = true
reason = "to the point"
messages = [{ role = "user", content = "When do you open on Sunday?" }, { role = "assistant", content = "At ten." }]

[[examples]]
good = true
messages = [{ role = "user", content = "Can I send the parcel back?" }, { role = "assistant", content = "Yes, within thirty days." }]
"#;

fn hone(daemon: &Daemon, args: &[&str]) -> Output {
    Command::new(programs().join("hone")).args(args).env("HONE_STATE", daemon.state()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(daemon: &Daemon, args: &[&str]) -> String {
    let output = hone(daemon, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn set_standard(daemon: &Daemon) {
    let path = daemon.state().join("tone.toml");
    std::fs::write(&path, STANDARD).unwrap();
    done(daemon, &["standard", "set", "tone", path.to_str().unwrap()]);
}

fn spec(method: Value, source: &str, name: &str, count: u32) -> Value {
    json!({"standard": "tone", "service": "base", "name": name, "method": method, "source": source, "count": count,
        "seed": 7, "temperature": 0.9, "top_p": 1.0, "tokens_max": 64, "similarity_max_percent": 70, "judge": "",
        "judge_least_percent": 0, "requests_max": 0, "total_tokens_max": 0, "payer": "owner", "at_once": 0})
}

fn with(mut spec: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn generate(spec: &Value) -> Value {
    json!({"generate": spec})
}

fn rows(client: &mut Client, dataset: &str) -> Vec<Value> {
    let split = json!({"held_out_percent": 0, "seed": 0});
    let request = json!({"rows": {"dataset": dataset, "offset": 0, "count": 1000, "split": split, "part": "all"}});
    client.ask(request)["rows"].as_array().unwrap().clone()
}

fn version(client: &mut Client, name: &str) -> Value {
    let datasets = client.ask(json!("datasets"));
    let dataset = datasets.as_array().unwrap().iter().find(|one| one["record"]["name"] == name).unwrap().clone();
    dataset["versions"].as_array().unwrap().last().unwrap().clone()
}

fn report(view: &Value) -> Value {
    view["record"]["state"]["succeeded"]["dataset"][1].clone()
}

/// What the ledger bills is what the job counted, and each answered request stands in it once.
fn paid_once(client: &mut Client, job: &str) {
    let counts = client.ask(json!({"job": {"job": job}}))["record"]["batch"].clone();
    let ledger = client.ask(json!({"ledger": {"application": "owner", "count": 1000}}));
    let own: Vec<&Value> = ledger.as_array().unwrap().iter().filter(|row| row["user"] == job).collect();
    for field in ["prompt_tokens", "completion_tokens"] {
        let sum: u64 = own.iter().map(|row| row[field].as_u64().unwrap()).sum();
        assert_eq!(sum, counts[field].as_u64().unwrap(), "{field}");
    }
    let complete = own.iter().filter(|row| row["outcome"] == "complete").count() as u64;
    assert_eq!(complete, counts["answered"].as_u64().unwrap(), "one row of the ledger for each answer");
    assert!(own.iter().all(|row| row["outcome"] != "open"));
}

/// Every row keeps to the standard and says where it came from; every other candidate has a reason.
fn kept_and_rejected(client: &mut Client, job: &str, name: &str, method: &str) -> Vec<Value> {
    let view = client.finish(job);
    let report = report(&view);
    assert!(!report.is_null(), "{}", view["record"]["state"]);
    let rows = rows(client, name);
    assert_eq!(report["read"], report["kept"].as_u64().unwrap() + report["rejected"].as_u64().unwrap());
    assert_eq!(rows.len() as u64, report["kept"].as_u64().unwrap());
    let rejected = client.ask(json!({"rejected_candidates": {"job": job, "from": 0, "count": 1000}}));
    assert_eq!(rejected.as_array().unwrap().len() as u64, report["rejected"].as_u64().unwrap(), "{rejected}");
    assert!(rejected.as_array().unwrap().iter().all(|one| !one["faults"][0]["reason"].as_str().unwrap().is_empty()));
    let checked = client.ask(json!({"check_rows": {"standard": "tone", "dataset": name, "offset": 0, "count": 1000}}));
    assert_eq!(checked["faulty"], json!([]), "rows keep to the standard");
    for row in &rows {
        let generated = &row["original"]["generated"];
        assert_eq!((&generated["standard"], &generated["method"]), (&json!("tone@1"), &json!(method)), "{row}");
        assert_eq!((&generated["service"], &generated["versions"]), (&json!("base"), &json!(["starter@1"])));
        assert!(
            !generated["seeds"].as_array().unwrap().is_empty() && !generated["prompts"].as_array().unwrap().is_empty()
        );
        assert!(!generated["requests"].as_array().unwrap().is_empty());
    }
    paid_once(client, job);
    rows
}

#[test]
fn new_prompts_are_written_and_answered_once_over_a_crash() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client);
    client.import_rows();
    set_standard(&daemon);
    let spec = spec(json!("self_instruct"), "desk", "made", 6);
    let estimate = client.ask(json!({"estimate_generate": {"spec": spec}}));
    assert_eq!((&estimate["rows"], &estimate["requests"]), (&json!(6), &json!(15)), "{estimate}");
    assert!(estimate["cost"].is_string() && estimate["requests_max"] == 60, "{estimate}");
    let job = client.submit(generate(&spec));
    wait_until("some are answered", || {
        let counts = client.ask(json!({"job": {"job": job}}))["record"]["batch"].clone();
        (counts["answered"].as_u64()? >= 4).then_some(())
    });
    daemon.crash();
    let mut client = daemon.connect();
    let rows = kept_and_rejected(&mut client, &job, "made", "self_instruct");
    assert!(!rows.is_empty() && rows.len() <= 6);
    let prompts: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row["messages"][0]["content"].as_str().unwrap()).collect();
    assert_eq!(prompts.len(), rows.len(), "no prompt stands twice");
    let version = version(&mut client, "made");
    assert_eq!(version["release"], "draft");
    let made = &version["generated"];
    assert_eq!((&made["standard"], &made["service"]), (&json!("tone@1"), &json!("base")), "{made}");

    // Never held out, and not trained on before somebody releases it.
    let suite = json!({"create_suite": {"name": "exam", "dataset": "made", "part": "all", "scorers": ["loss"],
        "split": {"held_out_percent": 0, "seed": 0}}});
    let refused = client.try_ask(suite).unwrap_err();
    assert!(refused["message_en"].as_str().unwrap().contains("written by a service"), "{refused}");
    let run = |held_out: u64, consent: Value| {
        let mut run = train_spec(1, Value::Null);
        run["train"]["dataset"] = json!("made");
        run["train"]["split"]["held_out_percent"] = json!(held_out);
        run["train"]["draft_consent"] = consent;
        json!({"submit": {"spec": run}})
    };
    let refused = client.try_ask(run(0, Value::Null)).unwrap_err();
    assert_eq!((&refused["code"], &refused["place"]), (&json!("wrong_state"), &json!("dataset")), "{refused}");
    done(&daemon, &["dataset", "release", "made@1"]);
    let refused = client.try_ask(run(15, Value::Null)).unwrap_err();
    assert_eq!(refused["place"], "held_out_percent", "{refused}");
    let trained = client.ask(run(0, Value::Null))["record"]["id"].as_str().unwrap().to_owned();
    let view = client.finish(&trained);
    assert!(
        !view["record"]["state"]["succeeded"].is_null(),
        "released rows are trained on: {}",
        view["record"]["state"]
    );
}

#[test]
fn ceilings_hold_and_what_was_made_stays() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client);
    client.import_rows();
    set_standard(&daemon);
    let base = spec(json!("answers"), "desk", "few", 30);
    let job = client.submit(generate(&with(base.clone(), json!({"requests_max": 5, "tokens_max": 200}))));
    let rows = kept_and_rejected(&mut client, &job, "few", "answers");
    assert!(rows.len() <= 5);
    let made = version(&mut client, "few")["generated"].clone();
    assert_eq!(made["requests"], 5, "{made}");
    assert_eq!(made["ended"], "the ceiling of 5 requests is reached");
    let job =
        client.submit(generate(&with(base, json!({"name": "cheap", "total_tokens_max": 2500, "tokens_max": 160}))));
    kept_and_rejected(&mut client, &job, "cheap", "answers");
    let counts = client.ask(json!({"job": {"job": job}}))["record"]["batch"].clone();
    let used = counts["prompt_tokens"].as_u64().unwrap() + counts["completion_tokens"].as_u64().unwrap();
    assert!(used <= 2500 && used > 300, "{counts}");
    assert!(version(&mut client, "cheap")["generated"]["ended"].as_str().unwrap().contains("2500 tokens"));
}

#[test]
fn every_method_makes_rows_that_tell_where_they_came_from() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    publish(&mut client);
    client.import_rows();
    set_standard(&daemon);
    let text = "Zellavane is a shop for lamps. It opens at nine in the morning and closes at six in the evening. Parcels \
        come back within thirty days, and the shop pays for the way. Lamps have a guarantee of two years.";
    let path = daemon.state().join("texts.jsonl");
    std::fs::write(&path, format!("{}\n", json!({"text": text}))).unwrap();
    client.job(json!({"import_dataset": {"source": {"path": {"path": path}}, "name": "manual", "format": "detect"}}));
    let documents = json!({"documents": {"chunk_chars": 120, "overlap_chars": 30}});
    let open = json!({"similarity_max_percent": 100, "tokens_max": 160});
    let job = client.submit(generate(&with(spec(documents, "manual", "asked", 0), open.clone())));
    let asked = kept_and_rejected(&mut client, &job, "asked", "documents");
    assert!(asked.iter().all(|row| row["original"]["generated"]["seeds"][0]["piece"].is_u64()), "{asked:?}");
    let paraphrase = with(spec(json!("paraphrase"), "", "again", 2), open.clone());
    let job = client.submit(generate(&paraphrase));
    let again = kept_and_rejected(&mut client, &job, "again", "paraphrase");
    for row in &again {
        assert!(["At ten.", "Yes, within thirty days."].contains(&row["messages"][1]["content"].as_str().unwrap()));
    }
    let judged = with(spec(json!("answers"), "desk", "judged", 6), json!({"judge": "base", "tokens_max": 240}));
    let job = client.submit(generate(&judged));
    let judged = kept_and_rejected(&mut client, &job, "judged", "answers");
    assert!(judged.iter().all(|row| row["original"]["generated"]["judge"]["percent"].is_f64()), "{judged:?}");
    let translate = with(spec(json!({"translate": {"language": "English"}}), "again", "english", 1), open);
    if !again.is_empty() {
        let job = client.submit(generate(&translate));
        client.finish(&job);
        paid_once(&mut client, &job);
    }
    assert!(!asked.is_empty() || !again.is_empty(), "the starter wrote something that passes");
}

#[test]
fn the_command_line_keeps_standards_and_checks_rows() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_rows();
    set_standard(&daemon);
    let shown = done(&daemon, &["standard", "show", "tone"]);
    assert!(shown.contains("# tone@1") && shown.contains("language = \"en\""), "{shown}");
    let path = daemon.state().join("again.toml");
    std::fs::write(&path, &shown).unwrap();
    done(&daemon, &["standard", "set", "tone", path.to_str().unwrap()]);
    assert!(done(&daemon, &["standard", "show", "tone"]).contains("# tone@1"), "what is equal makes no number");
    let edited = Command::new(programs().join("hone"))
        .args(["standard", "edit", "tone"])
        .env("HONE_STATE", daemon.state())
        .env("VISUAL", "sed -i s/900/40/")
        .output()
        .unwrap();
    assert!(edited.status.success(), "{}", said(&edited));
    assert!(done(&daemon, &["standard", "list"]).contains("tone@2"));
    let checked = hone(&daemon, &["standard", "check", "tone", "desk", "--json"]);
    assert_eq!(checked.status.code(), Some(5), "{}", said(&checked));
    let first: Value = serde_json::from_str(String::from_utf8_lossy(&checked.stdout).lines().next().unwrap()).unwrap();
    assert!(first["row_id"].is_u64() && first["faults"][0]["check"].is_string(), "{first}");
    assert!(said(&checked).contains("of 669 rows"), "{}", said(&checked));

    // A standard stands in a declared file, and nothing is changed by its own export.
    let export = done(&daemon, &["export"]);
    assert!(export.contains("[standards.tone]"), "{export}");
    let file = daemon.state().join("hone.toml");
    std::fs::write(&file, &export).unwrap();
    done(&daemon, &["apply", "-f", file.to_str().unwrap(), "--plan"]);
    std::fs::write(&file, export.replace("max = 40", "max = 50")).unwrap();
    done(&daemon, &["apply", "-f", file.to_str().unwrap()]);
    assert!(done(&daemon, &["standard", "show", "tone"]).contains("# tone@3"));
    done(&daemon, &["standard", "remove", "tone"]);
    assert!(hone(&daemon, &["standard", "show", "tone"]).status.code() == Some(3));
    assert!(done(&daemon, &["standard", "show", "tone@1"]).contains("# tone@1"), "its numbers stay readable");
}

#[test]
fn datasets_go_into_the_trash_and_come_back_or_are_gone() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_rows();
    let segment = version(&mut client, "desk")["segments"][0]["sha256"].as_str().unwrap().to_owned();
    done(&daemon, &["dataset", "trash", "desk"]);
    assert!(done(&daemon, &["dataset", "list", "--trash"]).contains("desk@1"));
    let refused = hone(&daemon, &["dataset", "rows", "desk"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(said(&refused).contains("hone dataset restore desk@1"), "{}", said(&refused));
    done(&daemon, &["dataset", "restore", "desk@1"]);
    assert!(done(&daemon, &["dataset", "rows", "desk", "--count", "1"]).contains("#0"));
    done(&daemon, &["dataset", "trash", "desk@1"]);
    let blobs = || {
        let mut folders = vec![daemon.state().to_owned()];
        let mut found = false;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found |= path.to_string_lossy().contains(&segment),
                }
            }
        }
        found
    };
    assert!(blobs());
    done(&daemon, &["dataset", "purge", "desk@1", "--yes"]);
    wait_until("the rows are removed", || (!blobs()).then_some(()));
    let gone = hone(&daemon, &["dataset", "restore", "desk@1"]);
    assert_eq!(gone.status.code(), Some(4), "{}", said(&gone));
    client.import_rows();
    assert_eq!(version(&mut client, "desk")["number"], 2, "no number is given again");
    // A draft is made by its import, and released by a person.
    let path = daemon.state().join("a.jsonl");
    let row = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]});
    std::fs::write(&path, format!("{row}\n")).unwrap();
    done(&daemon, &["dataset", "import", path.to_str().unwrap(), "--name", "mine", "--draft"]);
    assert_eq!(version(&mut client, "mine")["release"], "draft");
    done(&daemon, &["dataset", "release", "mine@1"]);
    assert!(version(&mut client, "mine")["release"]["released"]["at_ms"].is_i64());
}

#[test]
fn mixtures_splits_differences_and_lineage_on_real_rows() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_rows();
    let lines = |rows: &[(u64, &str)]| {
        let row = |(number, answer): &(u64, &str)| {
            let asked = format!("Question {number}?");
            json!({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], "label": number})
        };
        rows.iter().map(|one| format!("{}\n", row(one))).collect::<String>()
    };
    let path = daemon.state().join("mine.jsonl");
    let mut import = |text: String| {
        std::fs::write(&path, text).unwrap();
        done(&daemon, &["dataset", "import", path.to_str().unwrap(), "--name", "mine"]);
    };
    import(lines(&[(1, "one"), (2, "two"), (3, "three"), (4, "four")]));
    import(lines(&[(1, "one"), (2, "zwei"), (4, "four"), (5, "five")]));
    let diff = client.ask(json!({"diff_datasets": {"before": "mine@1", "after": "mine@2", "offset": 0, "count": 10}}));
    let counts = ["added", "removed", "changed", "same"].map(|key| diff[key].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 1, 2], "{diff}");
    assert_eq!(diff["rows"][0]["before"]["messages"][1]["content"], "two");
    assert_eq!(diff["rows"][0]["after"]["messages"][1]["content"], "zwei");
    let page = client.ask(json!({"diff_datasets": {"before": "mine@1", "after": "mine@2", "offset": 2, "count": 10}}));
    assert_eq!(page["rows"].as_array().unwrap().len(), 1, "the last page");
    assert!(done(&daemon, &["dataset", "diff", "mine@1", "mine@2"]).contains("zwei"));

    let mixed = done(&daemon, &["dataset", "mix", "blend", "--from", "desk:10", "--from", "mine:1", "--rows", "44"]);
    assert!(mixed.contains("blend@1: 44 rows"), "{mixed}");
    let rows = rows(&mut client, "blend");
    let of = |name: &str| rows.iter().filter(|row| row["original"]["parent"]["dataset"] == name).count();
    assert_eq!((of("desk@1"), of("mine@2")), (40, 4));
    assert!(rows.iter().any(|row| row["original"]["label"].is_u64()), "fields that no format knows stay");
    done(&daemon, &["dataset", "mix", "again", "--from", "desk:10", "--from", "mine:1", "--rows", "44"]);
    let same = client.ask(json!({"diff_datasets": {"before": "blend@1", "after": "again@1", "offset": 0, "count": 1}}));
    assert_eq!(same["same"], 44, "the same seed chooses the same rows");

    let parts = ["dataset", "split", "desk", "--into", "train:80", "--into", "validation:10", "--into", "test:10"];
    let made = done(&daemon, &parts);
    assert_eq!(made.lines().count(), 3, "{made}");
    let sizes = ["train", "validation", "test"].map(|name| version(&mut client, name)["rows"].as_u64().unwrap());
    assert_eq!(sizes.iter().sum::<u64>(), 669);
    assert!(sizes[0] > 480 && sizes[1] > 30 && sizes[2] > 30, "{sizes:?}");
    let between =
        client.ask(json!({"diff_datasets": {"before": "train@1", "after": "test@1", "offset": 0, "count": 1}}));
    assert_eq!(between["same"], 0, "no row is in two parts");
    let lineage = done(&daemon, &["dataset", "lineage", "desk"]);
    assert!(lineage.contains("test@1") && lineage.contains("blend@1") && lineage.contains("split"), "{lineage}");
}
