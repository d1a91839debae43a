//! What a training run cannot be made of is said before its first step, over the real socket with the real starter: rows that
//! are too long, empty or masked, settings beyond reason, too little memory. Never here: what goes wrong during a run.

use hone_tests::{Client, Daemon, train_spec};
use serde_json::{Value, json};

/// Imports rows given as questions and answers.
fn import(client: &mut Client, daemon: &Daemon, name: &str, rows: &[(String, String)]) {
    let line = |(question, answer): &(String, String)| {
        let say = |role: &str, content: &str| json!({"role": role, "content": content});
        format!("{}\n", json!({"messages": [say("user", question), say("assistant", answer)]}))
    };
    let path = daemon.state().join(format!("{name}.jsonl"));
    std::fs::write(&path, rows.iter().map(line).collect::<String>()).unwrap();
    let source = json!({"path": {"path": path.display().to_string(), "in_place": false}});
    client.job(json!({"import_dataset": {"source": source, "name": name, "format": "detect"}}));
}

/// A short run on a dataset, with some settings changed.
fn spec(dataset: &str, changes: Value) -> Value {
    let mut spec = train_spec(2, Value::Null);
    spec["train"]["dataset"] = json!(dataset);
    spec["train"]["split"]["held_out_percent"] = json!(0);
    for (key, value) in changes.as_object().unwrap() {
        spec["train"]["params"][key] = value.clone();
    }
    spec
}

fn plan(client: &mut Client, dataset: &str, changes: Value) -> Result<Value, Value> {
    client.try_ask(json!({"plan_train": {"spec": spec(dataset, changes)["train"]}}))
}

fn text(question: &str, answer: &str) -> (String, String) {
    (question.to_owned(), answer.to_owned())
}

#[test]
fn rows_that_cannot_be_trained_on_are_counted_or_refused_before_the_first_step() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let (short, long) = (text("Why is the sky blue?", "Air scatters blue light most."), "word ".repeat(300));
    let empty = text("Say nothing.", "");
    import(&mut client, &daemon, "mixed", &[short.clone(), text("Tell me more.", &long), empty.clone()]);
    let counts = |plan: &Value| {
        ["rows", "rows_left_out", "rows_cut"].map(|key| plan[key].as_u64().unwrap_or_else(|| panic!("{plan}")))
    };
    let left_out = plan(&mut client, "mixed", json!({})).unwrap();
    assert_eq!(counts(&left_out)[1..], [1, 0], "{left_out}");
    let cut = plan(&mut client, "mixed", json!({"too_long": "cut"})).unwrap();
    assert_eq!(counts(&cut)[1..], [0, 1], "{cut}");
    assert_eq!(counts(&cut)[0], counts(&left_out)[0] + 1, "{cut}");

    import(&mut client, &daemon, "long", &[text("Tell me more.", &long)]);
    // A row that is cut inside its question has nothing left to learn from.
    import(&mut client, &daemon, "masked", &[text(&long, "Yes.")]);
    for (dataset, changes, word) in
        [("long", json!({}), "longer than sequence_tokens"), ("masked", json!({"too_long": "cut"}), "1 have no target")]
    {
        let refused = plan(&mut client, dataset, changes.clone()).unwrap_err();
        assert_eq!(refused["code"], "no_rows", "{refused}");
        assert!(refused["message_en"].as_str().unwrap().contains(word), "{refused}");
        let job = client.submit(spec(dataset, changes));
        let failed = client.finish(&job)["record"]["state"]["failed"].clone();
        assert_eq!(failed["message_en"], refused["message_en"], "the run says what the plan said");
        let losses = client.ask(json!({"metrics": {"job": job, "series": "loss", "from_step": 0, "points": 0}}));
        assert_eq!(losses, json!([]), "no step was made");
    }
}

#[test]
fn settings_beyond_reason_are_refused_with_their_names_when_they_are_submitted() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    for (field, value, word) in [
        ("rank", json!(0), "rank"),
        ("rank", json!(100_000), "rank"),
        ("learning_rate", json!(50.0), "learning_rate"),
        ("learning_rate", json!(0.0), "learning_rate"),
        ("epochs", json!(0), "epochs"),
        ("warmup_ratio", json!(3.0), "warmup_ratio"),
        ("sequence_tokens", json!(60_000), "sequence_tokens"),
    ] {
        let submit = json!({"submit": {"spec": spec("desk", json!({field: value}))}});
        let refused = client.try_ask(submit).unwrap_err();
        assert_eq!(refused["place"], field, "{refused}");
        assert!(refused["message_en"].as_str().unwrap().contains(word), "{refused}");
    }
    // More memory than any machine has that runs this test.
    let huge = json!({"sequence_tokens": 8192, "batch_windows": 64});
    for request in ["submit", "plan_train"] {
        let spec = spec("desk", huge.clone());
        let spec = if request == "submit" { spec } else { spec["train"].clone() };
        let refused = client.try_ask(json!({request: {"spec": spec}})).unwrap_err();
        assert_eq!(refused["code"], "does_not_fit", "{refused}");
        assert_eq!(refused["hint"], "reduce_memory", "{refused}");
    }
}
