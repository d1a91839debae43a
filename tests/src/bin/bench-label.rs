//! Measures labelling as a person feels it: from the key that decides to the next row on the screen, in a real terminal, on a project of
//! 100,000 rows in shuffled order, while a training run keeps all cores busy. Beside it the same without training, and how fast decisions
//! become durable.
//!
//! Prints a table and, as its last line, one line of JSON. Never here: what keys mean (see the tests of the client).

use std::io::Write as _;
use std::time::{Duration, Instant};

use hone_tests::terminal::Terminal;
use hone_tests::{Client, Daemon, train_spec, wait_until};
use serde_json::{Value, json};

/// Rows of the project.
const ROWS: u64 = 100_000;
/// Keys that are measured.
const KEYS: usize = 600;
/// Between two keys: faster than anybody reads.
const PAUSE: Duration = Duration::from_millis(40);
/// Longest wait for one row.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    import_many(&daemon, &mut client);
    let label = |name: &str| json!({"name": name, "title": "", "keep": true});
    let spec = json!({
        "title": "", "dataset": "many", "standard": null, "question": "", "guide": "", "order": "random", "seed": 7,
        "task": {"choice": {"labels": [label("good"), label("bad")]}}, "repeat_percent": 5, "persons": 1, "rows_max": 0,
    });
    client.ask(json!({"labelling": {"set_project": {"name": "tone", "spec": spec, "rows": null}}}));

    let mut terminal = Terminal::open_at(daemon.state(), "en", (100, 30), &["label", "open", "tone"]);
    let mut quiet = keys(&mut terminal);
    let mut spec = train_spec(100_000, Value::Null);
    spec["train"]["params"]["epochs"] = json!(1000);
    let job = client.submit(spec);
    wait_until("the run takes steps", || {
        let points = client.ask(json!({"metrics": {"job": job, "series": "loss", "from_step": 0, "points": 0}}));
        (points.as_array().is_some_and(|points| points.len() >= 2)).then_some(())
    });
    let mut busy = keys(&mut terminal);
    let still = client.ask(json!({"job": {"job": job}}));
    assert_eq!(still["shown"], "running", "the run should last longer than the keys");

    // What a script gets acknowledged, one decision a request.
    let mut script = daemon.connect();
    let next = script.ask(json!({"labelling": {"next": {"project": "tone", "session": 9, "held": [], "count": 100}}}));
    let rows: Vec<u64> = next["next"]["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|next| next["row"]["row_id"].as_u64())
        .collect();
    let mut acks: Vec<f64> = rows
        .into_iter()
        .map(|row| {
            let decision = json!({
                "row_id": row, "value": {"labels": ["good"]}, "flag": "", "note": "", "spent_ms": 1, "how": "own",
            });
            let begun = Instant::now();
            script.ask(json!({"labelling": {"decide": {"project": "tone", "person": null, "decisions": [decision]}}}));
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let labels = client.ask(json!({"labelling": "projects"}));
    let done = labels["projects"][0]["counts"]["next_seq"].as_u64().unwrap_or(0);
    assert!(done >= 2 * KEYS as u64, "every key was a decision: {done}");

    let say = |what: &str, samples: &mut Vec<f64>| {
        let (p50, p99) = (at(samples, 0.5), at(samples, 0.99));
        println!("{what:<44} p50 {p50:>7.2} ms   p99 {p99:>7.2} ms   most {:>7.2} ms", at(samples, 1.0));
        (p50, p99)
    };
    println!("{KEYS} keys each, {ROWS} rows in shuffled order, 100x30");
    let quiet = say("key to next row, nothing else runs", &mut quiet);
    let busy = say("key to next row while training runs", &mut busy);
    let acks = say("a script's decision until it is durable, busy", &mut acks);
    println!("the limit: one frame of the client, and the terminal's own reading of it");
    println!(
        "{}",
        json!({"bench": "label", "figures": {
            "key_to_row_p50_ms": busy.0, "key_to_row_p99_ms": busy.1, "key_to_row_quiet_p50_ms": quiet.0,
            "key_to_row_quiet_p99_ms": quiet.1, "decision_durable_p50_ms": acks.0, "rows": ROWS, "keys": KEYS,
        }, "ratios": {}})
    );
    let ok = busy.0 <= 5.0 && busy.1 <= 20.0;
    // Leaving at once would leave the daemon and its run behind.
    drop((terminal, client, script, daemon));
    std::process::exit(i32::from(!ok));
}

/// A dataset of as many rows as are wanted, with the words of real ones.
fn import_many(daemon: &Daemon, client: &mut Client) {
    let split = json!({"held_out_percent": 0, "seed": 1});
    let page =
        client.ask(json!({"rows": {"dataset": "desk", "offset": 0, "count": 1000, "split": split, "part": "all"}}));
    let rows = page["rows"].as_array().expect("rows").clone();
    let path = daemon.state().join("many.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("the state directory is writable"));
    for number in 0..ROWS {
        let mut messages = rows[(number as usize * 7919) % rows.len()]["messages"].clone();
        let asked = messages.as_array().map_or(0, |all| all.iter().position(|m| m["role"] == "user").unwrap_or(0));
        let text = format!("{} (case {number})", messages[asked]["content"].as_str().unwrap_or_default());
        messages[asked]["content"] = json!(text);
        writeln!(file, "{}", json!({ "messages": messages })).expect("a full disk");
    }
    file.flush().expect("a full disk");
    client.job(json!({"import_dataset": {"source": {"path": {"path": path}}, "name": "many", "format": "open_ai"}}));
}

/// The row that a desk shows.
fn row_shown(screen: &str) -> Option<u64> {
    let head = screen.lines().find(|line| line.contains("%   row "))?;
    head.split("%   row ").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// Milliseconds from each key to the next row.
fn keys(terminal: &mut Terminal) -> Vec<f64> {
    let mut row = wait_until("a row at the desk", || row_shown(&terminal.text()));
    let mut samples = Vec::new();
    for number in 0..KEYS {
        std::thread::park_timeout(PAUSE);
        let bytes = terminal.bytes();
        let begun = Instant::now();
        terminal.press(if number.is_multiple_of(3) { "2" } else { "1" });
        let took = loop {
            assert!(begun.elapsed() < PATIENCE, "no next row:\n{}", terminal.text());
            if terminal.bytes() == bytes {
                std::thread::park_timeout(Duration::from_micros(50));
                continue;
            }
            let took = begun.elapsed();
            match row_shown(&terminal.text()) {
                Some(next) if next != row => {
                    row = next;
                    break took;
                }
                _ => std::thread::park_timeout(Duration::from_micros(50)),
            }
        };
        samples.push(took.as_secs_f64() * 1e3);
    }
    samples
}

/// A share of the samples lies at or below this; sorts.
fn at(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len()) - 1]
}
