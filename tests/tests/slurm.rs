//! Training in a pool of a real Slurm, over the real socket: the same curve as on this machine, across kills and stops of the daemon,
//! with pause, resume and cancel; what a job cost; what is refused. The longer matrix is `tests/prove/slurm.py`. Never here: what
//! Slurm's words mean (the daemon's tests).

use hone_tests::slurm::Cluster;
use hone_tests::terminal::Terminal;
use hone_tests::{Client, Daemon, train_spec, wait_until};
use serde_json::{Value, json};

const STEPS: u64 = 16;

/// One thread: on a busy machine threads that wait for each other make a step many times longer.
fn spec(steps: u64) -> Value {
    let mut spec = train_spec(steps, Value::Null);
    spec["train"]["params"]["threads"] = json!(1);
    spec
}

fn submit(client: &mut Client, steps: u64, pool: Option<&str>) -> String {
    let job = client.ask(json!({"submit": {"spec": spec(steps), "pool": pool}}));
    job["record"]["id"].as_str().unwrap().to_owned()
}

/// Steps with their losses.
fn curve(client: &mut Client, job: &str) -> Vec<(u64, f64)> {
    let points = client.ask(json!({"metrics": {"job": job, "series": "loss", "from_step": 0, "points": 0}}));
    let of = |point: &Value| (point["step"].as_u64().unwrap(), point["value"].as_f64().unwrap());
    points.as_array().unwrap().iter().map(of).collect()
}

fn view(client: &mut Client, job: &str) -> Value {
    client.ask(json!({"job": {"job": job}}))
}

fn wait_for_steps(client: &mut Client, job: &str, steps: usize) {
    wait_until(&format!("{steps} steps of {job}"), || {
        let shown = view(client, job);
        let state = &shown["record"]["state"];
        assert_eq!(state, "queued", "it ended early: {state}");
        (curve(client, job).len() >= steps).then_some(())
    });
}

/// The kinds of a job's events, in order.
fn events(client: &mut Client, job: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let follow = json!({"follow": {"job": job, "from_seq": 0}});
    client.ask_with(follow, None, |part| events.push(part["job"]["kind"].clone())).unwrap();
    events
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| *event == kind || !event[kind].is_null()).count()
}

fn slurm_states(events: &[Value]) -> Vec<String> {
    let states = events.iter().filter_map(|event| event["slurm"]["state"].as_str());
    states.map(str::to_owned).collect()
}

#[test]
fn a_run_in_slurm_is_the_run_of_this_machine_and_outlives_the_daemon() {
    let cluster = Cluster::start();
    let mut daemon = Daemon::start_with(&[("SLURM_CONF", &cluster.conf())]);
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    client.ask(cluster.pool("cluster"));
    let here = submit(&mut client, STEPS, None);
    client.finish(&here);
    let expected = curve(&mut client, &here);
    assert_eq!(expected.len() as u64, STEPS);

    // Killed in the middle: the run goes on without a daemon, and is found again.
    let there = submit(&mut client, STEPS, Some("cluster"));
    wait_for_steps(&mut client, &there, 3);
    let before = view(&mut client, &there)["slurm"].clone();
    assert_eq!((&before["state"], &before["number"]), (&json!("RUNNING"), &json!("1")), "{before}");
    daemon.crash();
    let mut client = daemon.connect();
    let again = view(&mut client, &there);
    assert_eq!((&again["record"]["attempt"], &again["slurm"]["number"]), (&json!(1), &json!("1")), "{again}");
    let users = client.ask(json!("pools"))[1]["users"].clone();
    assert!(users[0].as_str().unwrap().contains(&there), "{users}");
    let busy = client.try_ask(json!({"remove_pool": {"name": "cluster"}})).unwrap_err();
    assert_eq!(busy["code"], "in_use", "{busy}");
    let ended = client.finish(&there);
    assert!(!ended["record"]["state"]["succeeded"].is_null(), "{}", ended["record"]["state"]);
    assert_eq!(curve(&mut client, &there), expected, "the same losses, without gap or repeat");
    let told = events(&mut client, &there);
    assert_eq!((count(&told, "started"), count(&told, "planned"), count(&told, "interrupted")), (1, 1, 0), "{told:?}");
    assert_eq!(slurm_states(&told), ["PENDING", "RUNNING", "COMPLETED"]);
    let compute = &ended["record"]["compute"];
    let core_ms = compute["core_ms"].as_u64().unwrap();
    assert!(core_ms > 0 && core_ms.is_multiple_of(1000), "whole seconds, as Slurm counts: {compute}");
    // A unit for each core and second, in pico-units.
    assert_eq!(compute["amount"], json!((u128::from(core_ms / 1000) * 1_000_000_000_000).to_string()));

    // Paused at a checkpoint, resumed in a new job, stopped and started in between.
    let second = submit(&mut client, STEPS, Some("cluster"));
    wait_for_steps(&mut client, &second, 3);
    client.ask(json!({"pause": {"job": second}}));
    wait_until("it is paused", || (view(&mut client, &second)["shown"] == "paused").then_some(()));
    assert_eq!(cluster.queue(), "", "nothing of it is left in Slurm");
    assert!(view(&mut client, &second)["record"]["checkpoint"]["step"].as_u64().unwrap() >= 3);
    client.ask(json!({"resume": {"job": second}}));
    let steps = curve(&mut client, &second).len();
    wait_for_steps(&mut client, &second, steps + 1);
    daemon.restart();
    let mut client = daemon.connect();
    let ended = client.finish(&second);
    assert_eq!((&ended["record"]["attempt"], &ended["shown"]), (&json!(2), &json!("succeeded")), "{ended}");
    assert_eq!(curve(&mut client, &second), expected);

    // Cancelled while it runs.
    let third = submit(&mut client, 400, Some("cluster"));
    wait_for_steps(&mut client, &third, 1);
    client.ask(json!({"cancel": {"job": third}}));
    assert_eq!(client.finish(&third)["shown"], "cancelled");
    assert_eq!(cluster.queue(), "");
    wait_until("folders of attempts go with them", || {
        let left = std::fs::read_dir(cluster.shared()).unwrap().flatten().map(|entry| entry.file_name());
        (left.collect::<Vec<_>>() == ["hone-models"]).then_some(())
    });
    client.ask(json!({"remove_pool": {"name": "cluster"}}));
}

#[test]
fn what_waits_or_is_refused_in_slurm_says_why() {
    let cluster = Cluster::start();
    let daemon = Daemon::start_with(&[("SLURM_CONF", &cluster.conf())]);
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    client.ask(cluster.pool("cluster"));
    let evaluate = json!({"evaluate": {"version": "starter", "suite": "none", "answer_tokens_max": 8, "rows_max": 1}});
    let refused = client.try_ask(json!({"submit": {"spec": evaluate, "pool": "cluster"}})).unwrap_err();
    assert_eq!(refused["place"], "pool", "{refused}");
    let unknown = client.try_ask(json!({"submit": {"spec": spec(2), "pool": "moon"}})).unwrap_err();
    assert_eq!(unknown["code"], "not_found", "{unknown}");

    // A partition that is not there.
    let mut wrong = cluster.pool("wrong");
    wrong["set_pool"]["place"]["slurm"]["partition"] = json!("nowhere");
    client.ask(wrong);
    let job = submit(&mut client, 2, Some("wrong"));
    let failure = client.finish(&job)["record"]["state"]["failed"].clone();
    assert_eq!(failure["code"], "slurm_failed", "{failure}");
    assert!(failure["message_en"].as_str().unwrap().contains("invalid partition"), "{failure}");

    // More processors than there are free: it waits, and what waits is cancelled at once.
    cluster.ask("sbatch", &["--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 600"]);
    let waiting = submit(&mut client, 2, Some("cluster"));
    let shown = wait_until("Slurm says why it waits", || {
        let shown = view(&mut client, &waiting);
        (shown["slurm"]["reason"] == "Resources" || shown["slurm"]["reason"] == "Priority").then_some(shown)
    });
    assert_eq!(shown["shown"], "queued", "{shown}");
    assert!(shown["waits_for"].as_str().unwrap().contains("is pending ("), "{shown}");
    client.ask(json!({"cancel": {"job": waiting}}));
    assert_eq!(client.finish(&waiting)["shown"], "cancelled");
    assert_eq!(cluster.queue().lines().count(), 1, "only the other's job is left");
}

#[test]
fn a_run_is_sent_to_slurm_from_the_screen() {
    let cluster = Cluster::start();
    let daemon = Daemon::start_with(&[("SLURM_CONF", &cluster.conf())]);
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    client.ask(cluster.pool("cluster"));
    let mut terminal = Terminal::open(daemon.state(), "en", 200, 50);
    terminal.wait_for("Home");
    terminal.press("6");
    wait_until("the form is open", || {
        terminal.press("n");
        std::thread::park_timeout(std::time::Duration::from_millis(200));
        terminal.text().contains("Where, and who pays").then_some(())
    });
    // The last field that shows is the pool.
    terminal.press("G\rcluster\r");
    terminal.wait_for("cluster");
    terminal.press("r");
    let job = wait_until("the run is in Slurm", || {
        let jobs = client.ask(json!({"jobs": {"count": 10}}));
        let run = jobs.as_array()?.iter().find(|job| job["record"]["pool"] == "cluster")?.clone();
        (run["slurm"]["state"] == "RUNNING").then(|| run["record"]["id"].as_str().unwrap_or_default().to_owned())
    });
    wait_for_steps(&mut client, &job, 1);
    terminal.wait_for("on ");
    client.ask(json!({"cancel": {"job": job}}));
    assert_eq!(client.finish(&job)["shown"], "cancelled");
    terminal.wait_for("cancelled");
}
