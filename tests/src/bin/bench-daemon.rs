//! Measures the daemon itself against the budgets of its design: start, memory and wake-ups when nothing is asked,
//! reads and acknowledged writes over the socket. No model, no worker.
//!
//! Prints a table and, as its last line, one line of JSON. Never here: training or serving (see the other benches).

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hone_tests::{Client, Daemon};
use serde_json::json;

const READS: usize = 4000;
const WRITES: usize = 400;
const WRITERS: usize = 16;
const IDLE_S: u64 = 10;
const STARTS: usize = 7;

fn main() {
    let mut starts: Vec<f64> = (0..STARTS)
        .map(|_| {
            let begun = Instant::now();
            let daemon = Daemon::start();
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            drop(daemon);
            ms
        })
        .collect();
    let start_ms = middle(&mut starts);
    println!("start until it answers      {start_ms:>8.1} ms   (budget 100)");

    let daemon = Daemon::start();
    let pid = daemon.process.id();
    drop(daemon.connect());
    // What the start itself set going comes to rest.
    std::thread::park_timeout(Duration::from_secs(2));
    let before = switches(pid);
    std::thread::park_timeout(Duration::from_secs(IDLE_S));
    let wakeups = (switches(pid) - before) as f64 / IDLE_S as f64;
    let rss_mib = status_field(Path::new(&format!("/proc/{pid}/status")), "VmRSS") as f64 / 1024.0;
    println!("resident, nothing loaded    {rss_mib:>8.1} MiB  (budget 30)");
    println!("wake-ups, nothing asked     {wakeups:>8.1} /s   (budget 0)");

    let mut client = daemon.connect();
    let mut reads: Vec<f64> = (0..READS).map(|_| timed(|| drop(client.ask(json!("models"))))).collect();
    let (read_p50, read_p99) = (middle(&mut reads) * 1e3, reads[READS * 99 / 100] * 1e3);
    println!("socket read p50, p99        {read_p50:>8.0} µs   {read_p99:.0} µs   (budget p50 200)");

    let mut number = 0;
    let mut writes: Vec<f64> = (0..WRITES)
        .map(|_| {
            number += 1;
            timed(|| write(&mut client, "one", number))
        })
        .collect();
    let write_p50 = middle(&mut writes);
    println!("acknowledged write p50      {write_p50:>8.1} ms   (budget 15)");

    let rate = writers(&daemon);
    println!("acknowledged writes, {WRITERS} at once {rate:>5.0} /s   (budget 1000)");
    let fsync_ms = fsync(daemon.state());
    println!("one fsync of this disk      {fsync_ms:>8.2} ms   (the physical limit of a write that waits for itself)");
    println!(
        "{}",
        json!({"bench": "daemon", "figures": {
            "start_ms": start_ms, "rss_mib": rss_mib, "wakeups_per_s": wakeups, "read_p50_us": read_p50,
            "read_p99_us": read_p99, "write_p50_ms": write_p50, "writes_per_s": rate, "fsync_ms": fsync_ms,
        }, "ratios": {"write_p50_to_fsync": write_p50 / fsync_ms}})
    );
}

fn write(client: &mut Client, prefix: &str, number: usize) {
    client.ask(json!({"set_application": {"name": format!("{prefix}-{}", number % 50), "title": number.to_string(), "services": []}}));
}

/// Writes per second that `WRITERS` connections get acknowledged together.
fn writers(daemon: &Daemon) -> f64 {
    let start = Barrier::new(WRITERS + 1);
    let seconds = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (start, mut client) = (&start, daemon.connect());
                scope.spawn(move || {
                    start.wait();
                    (0..WRITES).for_each(|number| write(&mut client, &format!("w{writer}"), number));
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("a writer"));
        begun.elapsed().as_secs_f64()
    });
    (WRITERS * WRITES) as f64 / seconds
}

/// Milliseconds that this disk takes to make 4 KiB durable.
fn fsync(folder: &Path) -> f64 {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("fsync")).expect("the state directory is writable");
    let mut samples: Vec<f64> = (0..50)
        .map(|_| timed(|| file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("a file can be synced")))
        .collect();
    middle(&mut samples)
}

/// Milliseconds.
fn timed(act: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    act();
    begun.elapsed().as_secs_f64() * 1e3
}

/// The median; sorts.
fn middle(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Times that threads of the process gave up the processor to wait: each is a wake-up later.
fn switches(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon lives");
    threads.flatten().map(|thread| status_field(&thread.path().join("status"), "voluntary_ctxt_switches")).sum()
}

fn status_field(path: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
