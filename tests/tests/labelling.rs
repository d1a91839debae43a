//! Labelling with the real programs: keys in a terminal through kills of both sides, several persons at once, suggestions by the real
//! starter, labels that become versions and files of other tools.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use hone_tests::terminal::Terminal;
use hone_tests::{Client, Daemon, programs, wait_until};
use serde_json::{Value, json};

/// Rows that the walk labels.
const ROWS: u64 = 200;

fn import(client: &mut Client, preset: &str, name: &str) {
    client.job(json!({"import_dataset": {"source": {"preset": {"name": preset}}, "name": name, "format": "detect"}}));
}

fn choice() -> Value {
    let label = |name: &str, keep| json!({"name": name, "title": "", "keep": keep});
    json!({"choice": {"labels": [label("good", true), label("fixable", true), label("bad", false)]}})
}

/// What a project is asked for.
fn spec(dataset: &str, task: Value) -> Value {
    json!({
        "title": "", "dataset": dataset, "standard": null, "question": "", "task": task, "guide": "", "order": "file", "seed": 7,
        "repeat_percent": 0, "persons": 1, "rows_max": 0,
    })
}

fn set(client: &mut Client, name: &str, spec: Value) -> Value {
    client.ask(json!({"labelling": {"set_project": {"name": name, "spec": spec, "rows": null}}}))
}

fn labels(client: &mut Client, project: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let before = all.last().map_or(Value::Null, |label: &Value| label["seq"].clone());
        let page = client.ask(json!({"labelling": {"labels": {
            "project": project, "person": "", "row_id": null, "before": before, "taken_back": false, "count": 100,
        }}}));
        let page = page["labels"].as_array().unwrap().clone();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The row that a desk shows.
fn row_shown(screen: &str) -> Option<u64> {
    let head = screen.lines().find(|line| line.contains("%   row "))?;
    head.split("%   row ").nth(1)?.split_whitespace().next()?.parse().ok()
}

fn wait_for_row(terminal: &Terminal, fits: impl Fn(u64) -> bool) -> u64 {
    let start = Instant::now();
    wait_until("a row at the desk", || {
        let screen = terminal.text();
        assert!(start.elapsed() < Duration::from_secs(60), "no such row is on the screen:\n{screen}");
        row_shown(&screen).filter(|row| fits(*row))
    })
}

#[test]
fn two_hundred_rows_by_one_key_each_through_five_kills_and_back_again() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&mut client, "support-desk", "desk");
    set(
        &mut client,
        "tone",
        json!({"rows_max": ROWS, "dataset": "desk"}).as_object().unwrap().iter().fold(
            spec("desk", choice()),
            |mut spec, (key, value)| {
                spec[key] = value.clone();
                spec
            },
        ),
    );
    let open = |daemon: &Daemon| Terminal::open_at(daemon.state(), "en", (100, 30), &["label", "open", "tone"]);
    let mut terminal = open(&daemon);
    let mut shown = BTreeSet::new();
    let key_of = |row: u64| ["1", "2", "3"][(row % 3) as usize];
    while (shown.len() as u64) < ROWS {
        let row = wait_for_row(&terminal, |row| !shown.contains(&row));
        terminal.press(key_of(row));
        // What the next row stands on the screen for is kept, whoever dies next.
        if (shown.len() as u64) + 1 < ROWS {
            wait_for_row(&terminal, |next| next != row);
        } else {
            terminal.wait_for("All rows are done");
        }
        shown.insert(row);
        match shown.len() {
            30 | 110 => {
                terminal.kill();
                terminal = open(&daemon);
            }
            70 | 150 => daemon.crash(),
            190 => {
                terminal.kill();
                daemon.crash();
                terminal = open(&daemon);
            }
            _ => {}
        }
    }
    let mut client = daemon.connect();
    let told = wait_until("all decisions at the daemon", || {
        let told = labels(&mut client, "tone");
        (told.len() as u64 >= ROWS).then_some(told)
    });
    let words = ["good", "fixable", "bad"];
    let by_row: BTreeMap<u64, &Value> =
        told.iter().map(|label| (label["decision"]["row_id"].as_u64().unwrap(), &label["decision"]["value"])).collect();
    assert_eq!((told.len() as u64, by_row.len() as u64), (ROWS, ROWS), "none is lost and none is doubled");
    for (row, value) in by_row {
        assert_eq!(*value, json!({"labels": [words[(row % 3) as usize]]}), "row {row}");
    }
    // Back through all of them, those of clients that are gone too.
    for left in (0..ROWS).rev() {
        terminal.press("u");
        let start = Instant::now();
        wait_until("a decision is taken back", || {
            assert!(start.elapsed() < Duration::from_secs(60), "{left} should be left:\n{}", terminal.text());
            (labels(&mut client, "tone").len() as u64 == left).then_some(())
        });
    }
    wait_for_row(&terminal, |row| row == 0);
}

/// Asks as a person until no row is left for them; the rows that they decided.
fn label_all(daemon: &Daemon, person: &str, word: impl Fn(u64) -> &'static str) -> Vec<u64> {
    let mut client = daemon.connect();
    client.send(&format!("{{\"hello\": {{\"person\": \"{person}\"}}}}\n"));
    let mut done = Vec::new();
    loop {
        let next =
            client.ask(json!({"labelling": {"next": {"project": "tone", "session": 1, "held": [], "count": 7}}}));
        let rows: Vec<u64> = next["next"]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|next| next["row"]["row_id"].as_u64().unwrap())
            .collect();
        if rows.is_empty() {
            return done;
        }
        for row in rows {
            let decision = json!({
                "row_id": row, "value": {"labels": [word(row)]}, "flag": "", "note": "", "spent_ms": 5, "how": "own",
            });
            let decide = json!({"labelling": {"decide": {"project": "tone", "person": null, "decisions": [decision]}}});
            client.ask(decide);
            done.push(row);
        }
    }
}

#[test]
fn persons_at_once_judge_no_row_twice_and_their_labels_become_a_version() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&mut client, "support-desk", "desk");
    let rows = set(&mut client, "tone", spec("desk", choice()))["project"]["record"]["rows"].as_u64().unwrap();
    let word = |row: u64| if row.is_multiple_of(5) { "bad" } else { "good" };
    let done: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let persons = ["ada", "lin", "mo"].map(|person| scope.spawn(|| label_all(&daemon, person, word)));
        persons.map(|person| person.join().unwrap()).into()
    });
    let all: BTreeSet<u64> = done.iter().flatten().copied().collect();
    assert_eq!(done.iter().map(Vec::len).sum::<usize>() as u64, rows, "no row was judged twice");
    assert_eq!(all.len() as u64, rows);

    let made = client.job(json!({"import_dataset": {
        "source": {"labels": {"project": "tone", "until": 0, "suggested_least_percent": null}}, "name": "desk", "format": "detect",
    }}));
    let report = &made["dataset"][1];
    let kept = (0..rows).filter(|row| !row.is_multiple_of(5)).count();
    assert_eq!(report["kept"], json!(kept), "{report}");
    assert!(report["source"].as_str().unwrap().contains("labels of tone by ada, lin, mo"), "{report}");
    let split = json!({"held_out_percent": 0, "seed": 1});
    let window =
        client.ask(json!({"rows": {"dataset": "desk@2", "offset": 0, "count": 3, "split": split, "part": "all"}}));
    let original = &window["rows"][0]["original"];
    assert_eq!(original["labels"]["tone"]["value"], "good");
    assert_eq!(original["parent"], json!({"dataset": "desk@1", "row_id": 1}));
    let lineage = client.ask(json!({"dataset_lineage": {"dataset": "desk@2"}}));
    let edge = lineage.as_array().unwrap().iter().find(|edge| edge["kind"] == "labels").unwrap();
    assert_eq!((&edge["from"], &edge["by"], &edge["to"]), (&json!("desk@1"), &json!("tone"), &json!("desk@2")));
}

#[test]
fn the_starter_suggests_and_nothing_counts_until_a_person_takes_it() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    import(&mut client, "support-desk", "desk");
    let price = json!({"input_micros": 1_000_000, "cached_micros": null, "output_micros": 2_000_000});
    client.ask(json!({"publish": {"name": "starter", "version": "starter", "slots": 2, "context_tokens": 1024, "price": price}}));
    client.wait_for_service("starter");
    let mut tone = spec("desk", choice());
    tone["rows_max"] = json!(24);
    tone["order"] = json!("unsure");
    set(&mut client, "tone", tone);
    let made = client.job(json!({"suggest": {
        "project": "tone", "service": "starter", "payer": "owner", "at_once": 0, "rows_max": 0,
    }}));
    assert_eq!(made, json!({"suggested": 24}));
    let told = client.ask(json!({"labelling": {"suggestions": {"project": "tone", "from": 0, "count": 100}}}));
    let told = told["suggestions"].as_array().unwrap().clone();
    assert_eq!(told.len(), 24);
    let sure: Vec<f64> = told.iter().map(|suggestion| suggestion["probability"].as_f64().unwrap()).collect();
    assert!(sure.iter().all(|sure| (1.0 / 3.0 - 1e-6..=1.0).contains(sure)), "the likeliest of three: {sure:?}");
    assert!(told.iter().all(|suggestion| suggestion["by"] == "starter (starter@1)"), "{told:?}");
    let projects = client.ask(json!({"labelling": "projects"}));
    assert_eq!(
        (&projects["projects"][0]["counts"]["suggested"], &projects["projects"][0]["counts"]["begun"]),
        (&json!(24), &json!(0))
    );
    // The least sure come first, with what was suggested.
    let next = client.ask(json!({"labelling": {"next": {"project": "tone", "session": 1, "held": [], "count": 24}}}));
    let order: Vec<f64> = next["next"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|next| next["suggestion"]["probability"].as_f64().unwrap())
        .collect();
    assert!(order.windows(2).all(|pair| pair[0] <= pair[1]), "{order:?}");
    client.ask(json!({"labelling": {"next": {"project": "tone", "session": 1, "held": [], "count": 0}}}));
    // Enter takes it, as the label says.
    let mut terminal = Terminal::open_at(daemon.state(), "en", (100, 30), &["label", "open", "tone"]);
    terminal.wait_for("Enter takes the model's answer");
    let row = wait_for_row(&terminal, |_| true);
    terminal.press("\r");
    let label = wait_until("a label", || labels(&mut client, "tone").into_iter().next());
    let suggestion = told.iter().find(|suggestion| suggestion["row_id"] == json!(row)).unwrap();
    assert_eq!((&label["decision"]["value"], &label["decision"]["how"]), (&suggestion["value"], &json!("accepted")));
    assert_eq!(label["as_suggested"], true);
}

#[test]
fn chinese_words_are_found_and_spans_beyond_the_text_are_refused() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let path = daemon.state().join("zh.jsonl");
    std::fs::write(&path, "{\"text\":\"请把包裹改寄到杭州市西湖区文三路90号。\"}\n{\"text\":\"我叫王小明。\"}\n")
        .unwrap();
    client.job(json!({"import_dataset": {"source": {"path": {"path": path}}, "name": "zh", "format": "detect"}}));
    let label = json!({"name": "place", "title": "地址", "keep": true});
    set(&mut client, "places", spec("zh", json!({"span": {"labels": [label]}})));
    let next = client.ask(json!({"labelling": {"next": {"project": "places", "session": 1, "held": [], "count": 2}}}));
    assert_eq!(next["next"]["rows"][0]["words"], json!([[0, 1, 2, 4, 6, 7, 10, 13, 16, 18, 19]]));
    client.ask(json!({"labelling": {"next": {"project": "places", "session": 1, "held": [], "count": 0}}}));
    let decide = |start: u32, end: u32| {
        let span = json!({"message": 0, "start": start, "end": end, "label": "place"});
        let decision = json!({
            "row_id": 0, "value": {"spans": [span]}, "flag": "", "note": "", "spent_ms": 0, "how": "own",
        });
        json!({"labelling": {"decide": {"project": "places", "person": null, "decisions": [decision]}}})
    };
    let refused = client.try_ask(decide(7, 21)).unwrap_err();
    assert_eq!(refused["place"], "decisions[0].value");
    assert!(refused["message_en"].as_str().unwrap().contains("has 20 characters"), "{refused}");
    client.ask(decide(7, 19));
    // The same by keys: two words to the right, a span begun, a digit ends it.
    let mut terminal = Terminal::open_at(daemon.state(), "zh", (100, 30), &["label", "open", "places"]);
    terminal.wait_for("我叫王小明");
    for key in ["\x1b[C", "\x1b[C", "v", "1", " "] {
        terminal.press(key);
    }
    let label =
        wait_until("a span", || labels(&mut client, "places").into_iter().find(|l| l["decision"]["row_id"] == 1));
    let span = &label["decision"]["value"]["spans"][0];
    assert_eq!((&span["start"], &span["end"]), (&json!(2), &json!(5)), "the name is a word");
}

fn hone(daemon: &Daemon, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(programs().join("hone"))
        .args(["--lang", "en"])
        .args(arguments)
        .env("HONE_STATE", daemon.state())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn labels_go_out_to_other_tools_and_come_back_with_their_persons() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&mut client, "support-desk", "desk");
    let run = |arguments: &[&str]| {
        let (done, said) = hone(&daemon, arguments);
        assert!(done, "{arguments:?}: {said}");
        said
    };
    run(&[
        "label",
        "new",
        "tone",
        "--dataset",
        "desk",
        "--labels",
        "good,fixable,-bad",
        "--rows-max",
        "12",
        "--persons",
        "2",
    ]);
    for (person, row, word) in
        [("ada", "0", "good"), ("lin", "0", "bad"), ("ada", "1", "fixable"), ("lin", "2", "good")]
    {
        run(&["--as", person, "label", "answer", "tone", row, word, "--note", "as it is, \"quoted\"\nand more"]);
    }
    let shown = run(&["label", "show", "tone"]);
    assert!(shown.contains("done 1 of 12, disputed 1"), "{shown}");
    for format in ["hone", "label-studio", "argilla", "doccano"] {
        let path = daemon.state().join(format!("tone.{format}"));
        let path = path.to_str().unwrap();
        run(&["label", "export", "tone", path, "--format", format]);
        let name = format!("back-{format}");
        run(&[
            "label",
            "new",
            &name,
            "--dataset",
            "desk",
            "--labels",
            "good,fixable,-bad",
            "--rows-max",
            "12",
            "--persons",
            "2",
        ]);
        let said = run(&["label", "import", &name, path, "--format", format]);
        assert!(said.contains("4 labels of ada, lin read"), "{format}: {said}");
        let plain = |project: &str| {
            let mut all: Vec<(u64, String, Value)> = labels(&mut daemon.connect(), project)
                .into_iter()
                .map(|label| {
                    let decision = &label["decision"];
                    let person = label["person"].as_str().unwrap().to_owned();
                    (decision["row_id"].as_u64().unwrap(), person, decision["value"].clone())
                })
                .collect();
            all.sort_by_key(|(row, person, _)| (*row, person.clone()));
            all
        };
        assert_eq!(plain(&name), plain("tone"), "{format}");
    }
    let path = daemon.state().join("broken.json");
    std::fs::write(&path, "[{\"id\": 0, \"data\": {}, \"annotations\": 7}]").unwrap();
    let (done, said) = hone(&daemon, &["label", "import", "tone", path.to_str().unwrap(), "--format", "label-studio"]);
    assert!(!done && said.contains("annotations"), "{said}");
    run(&["--as", "mo", "label", "answer", "tone", "0", "good", "--settle"]);
    let made = run(&["label", "make", "tone", "--name", "desk-good"]);
    assert!(made.contains("desk-good@1"), "{made}");
}

#[test]
fn a_connection_for_one_project_finds_nothing_else() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    import(&mut client, "support-desk", "desk");
    for name in ["tone", "other"] {
        set(&mut client, name, spec("desk", choice()));
    }
    let mut bound = daemon.connect();
    bound.send("{\"hello\": {\"person\": \"lin\", \"project\": \"tone\"}}\n");
    // The bound stays, and so does the person.
    bound.send("{\"hello\": {\"person\": \"ada\", \"project\": null}}\n");
    for refused in [
        json!("datasets"),
        json!("shutdown"),
        json!({"labelling": {"next": {"project": "other", "session": 1, "held": [], "count": 1}}}),
        json!({"labelling": {"agreement": {"project": "tone"}}}),
        json!({"set_person": {"name": "lin", "role": "owner", "uid": null, "projects": []}}),
    ] {
        assert_eq!(bound.try_ask(refused.clone()).unwrap_err()["code"], "forbidden", "{refused}");
    }
    let decision = |how: &str| {
        let value = json!({"labels": ["good"]});
        let decision = json!({"row_id": 0, "value": value, "flag": "", "note": "", "spent_ms": 0, "how": how});
        json!({"labelling": {"decide": {"project": "tone", "person": null, "decisions": [decision]}}})
    };
    for how in ["final", "imported"] {
        assert_eq!(bound.try_ask(decision(how)).unwrap_err()["code"], "forbidden");
    }
    bound.ask(decision("own"));
    assert_eq!(labels(&mut client, "tone")[0]["person"], "lin");
    // The screen shows the one project and leads nowhere else.
    let mut terminal = Terminal::open_at(daemon.state(), "en", (100, 30), &["--as", "lin", "label", "desk", "tone"]);
    wait_for_row(&terminal, |row| row == 1);
    terminal.press("\x1b");
    terminal.wait_for("new project");
    for key in ["1", ":", "{", "g", "m"] {
        terminal.press(key);
    }
    terminal.press("\r");
    wait_for_row(&terminal, |row| row == 1);
    assert!(!terminal.text().contains("other"), "{}", terminal.text());
}
