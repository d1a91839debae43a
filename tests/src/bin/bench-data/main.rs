//! Measures rows through the real daemon: import of a large file with broken lines, pages and a search over a million rows, beside
//! well-known libraries on the same rows in the same run.
//!
//! Arguments: the Python of the peers (see `tests/peers/data_tools.py`), `--rows N`, `--rounds N`, `--only PARTS` (import, pages, filter, exact, near;
//! with commas between).
//! Prints tables with the raw samples and, as its last line, one line of JSON. Never here: what the libraries do (`data_driver.py`).

mod duplicates;
mod generate;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use generate::Dice;
use hone_protocol::dataset::{Part, Split};
use hone_protocol::request::Request;
use hone_tests::frames::Frames;
use hone_tests::{Daemon, children_of, repository};
use serde_json::{Map, Value, json};

/// Rows of a page.
const PAGE_ROWS: u64 = 50;
/// Warm pages that are timed.
const PAGES: u64 = 40;
/// Searches that are timed; the fastest counts, as for the libraries.
const SEARCHES: u64 = 4;

struct Bench {
    python: String,
    rounds: usize,
    only: Option<String>,
    folder: tempfile::TempDir,
    made: generate::Made,
    figures: Map<String, Value>,
    ratios: Map<String, Value>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let python = args.first().filter(|arg| !arg.starts_with("--")).cloned();
    let python = python.expect("the first argument is the Python of the peers: `make bench-data` gives it");
    let option = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1).cloned();
    let number = |name: &str, otherwise: u64| option(name).map_or(otherwise, |n| n.parse().expect("a number"));
    let rows = number("--rows", 1_000_000);
    // The rows are on a disk, as those of people are.
    let folder =
        tempfile::Builder::new().prefix("hone-bench-data-").tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let (data, clean) = (folder.path().join("data.jsonl"), folder.path().join("clean.jsonl"));
    let made = generate::write(rows, &data, &clean).expect("the rows are written");
    println!("{} rows, {} broken, {} MB", made.rows, made.broken, made.bytes / 1_000_000);
    let rounds = number("--rounds", 3) as usize;
    let (figures, ratios) = (Map::new(), Map::new());
    let mut bench = Bench { python, rounds, only: option("--only"), folder, made, figures, ratios };
    let mut daemon = Daemon::start();
    bench.imports(&daemon);
    if bench.wants("pages") {
        bench.pages(&mut daemon);
    }
    if bench.wants("filter") {
        bench.filter(&daemon);
    }
    if bench.wants("exact") || bench.wants("near") {
        bench.duplicates(&daemon);
    }
    println!("{}", json!({"bench": "data", "figures": bench.figures, "ratios": bench.ratios}));
}

impl Bench {
    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only.split(',').any(|wanted| wanted == part))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.into(), json!((value * 1000.0).round() / 1000.0));
    }

    /// What a library does with a file, as its driver tells.
    fn peer(&self, words: &[&str]) -> Value {
        let driver = repository().join("tests/peers/data_driver.py");
        let done = Command::new(&self.python).arg(driver).args(words).output().expect("the peer runs");
        assert!(done.status.success(), "the peer failed: {}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8_lossy(&done.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the peer says JSON")
    }

    /// Imports, the daemon and the libraries in turn. Without the part, one import for the other parts.
    fn imports(&mut self, daemon: &Daemon) {
        let (measured, rounds) = if self.wants("import") { (true, self.rounds) } else { (false, 1) };
        let (mut own, mut arrow, mut hub) = (Vec::new(), Vec::new(), Vec::new());
        let (clean, ipc) =
            (self.path("clean.jsonl").display().to_string(), self.path("peer.arrow").display().to_string());
        let cache = self.path("cache").display().to_string();
        for round in 0..rounds {
            let (seconds, peak) = self.import(daemon, round);
            own.push(seconds);
            self.figure("import_peak_mb", peak);
            let wanted = measured || self.wants("filter");
            if wanted {
                arrow.push(self.peer(&["pyarrow-import", &clean, &ipc])["wall_s"].as_f64().expect("seconds"));
            }
            if measured {
                hub.push(self.peer(&["datasets-import", &clean, &cache])["wall_s"].as_f64().expect("seconds"));
            }
        }
        if !measured {
            return;
        }
        println!("import with broken lines, hone      {} s", show(&own));
        println!("import without, pyarrow to IPC      {} s", show(&arrow));
        println!("import without, datasets to Arrow   {} s", show(&hub));
        let (own, arrow, hub) = (median(&mut own), median(&mut arrow), median(&mut hub));
        self.figure("import_s", own);
        self.figure("import_mb_s", self.made.bytes as f64 / 1e6 / own);
        self.figure("import_pyarrow_s", arrow);
        self.figure("import_datasets_s", hub);
        self.ratios.insert("import_vs_fastest".into(), json!((arrow.min(hub) / own * 1000.0).round() / 1000.0));
    }

    /// One import as a job: its seconds, and the most memory of its child in MB.
    fn import(&self, daemon: &Daemon, round: usize) -> (f64, f64) {
        let mut client = daemon.connect();
        let source = json!({"path": {"path": self.path("data.jsonl")}});
        let spec = json!({"import_dataset": {"source": source, "name": format!("rows{round}"), "format": "detect"}});
        let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
        let seconds = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    peak.fetch_max(peak_kb(daemon), Ordering::Relaxed);
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            });
            let begun = Instant::now();
            client.job(spec);
            done.store(true, Ordering::Relaxed);
            begun.elapsed().as_secs_f64()
        });
        let report = &client.ask(json!("datasets"))[0]["versions"][0]["import"];
        let (read, kept) = (report["read"].as_u64(), report["kept"].as_u64());
        assert_eq!(read, Some(self.made.rows), "every line is counted");
        assert_eq!(kept, Some(self.made.rows - self.made.broken), "every broken line is found, and no other");
        (seconds, peak.into_inner() as f64 / 1000.0)
    }

    fn rows(&self, offset: u64) -> Value {
        let split = json!({"held_out_percent": 0, "seed": 0});
        json!({"rows": {"dataset": "rows0", "offset": offset, "count": PAGE_ROWS, "split": split, "part": "all"}})
    }

    fn pages(&mut self, daemon: &mut Daemon) {
        let mut dice = Dice(3);
        let kept = self.made.rows - self.made.broken;
        let mut cold = Vec::new();
        for _ in 0..3 {
            // A fresh daemon has no reader.
            daemon.restart();
            let mut client = daemon.connect();
            let wish = self.rows(dice.below(kept - PAGE_ROWS));
            cold.push(timed(|| client.ask(wish)));
        }
        let mut client = daemon.connect();
        let mut warm: Vec<f64> = (0..PAGES)
            .map(|_| self.rows(dice.below(kept - PAGE_ROWS)))
            .map(|wish| timed(|| client.ask(wish)))
            .collect();
        // The same as `hone` asks: in frames, whose rows need no second reading.
        let mut frames = Frames::connect(daemon.state());
        let mut framed: Vec<f64> = (0..PAGES)
            .map(|_| Request::Rows {
                dataset: "rows0".into(),
                offset: dice.below(kept - PAGE_ROWS),
                count: PAGE_ROWS as u32,
                split: Split { held_out_percent: 0, seed: 0 },
                part: Part::All,
            })
            .map(|wish| timed(|| frames.ask(wish).expect("a page")))
            .collect();
        println!("first page, cold reader             {} ms", show(&cold));
        let (cold, warm, framed) = (median(&mut cold), median(&mut warm), median(&mut framed));
        println!("page, warm, median of {PAGES}            {framed:.2} ms to hone, {warm:.2} ms as JSON");
        self.figure("first_page_ms", cold);
        self.figure("page_warm_ms", framed);
        self.figure("page_warm_json_ms", warm);
    }

    fn filter(&mut self, daemon: &Daemon) {
        let mut client = daemon.connect();
        let split = json!({"held_out_percent": 0, "seed": 0});
        let (mut own, mut found) = (Vec::new(), 0);
        for round in 0..SEARCHES {
            // Each differs from the one before, because a reader keeps what it found last.
            let filter = json!({"contains": "whale", "ignore_case": false, "role": "", "min_characters": 4001,
                "max_characters": 100_000_000 + round, "split": split, "part": "all"});
            let wish = json!({"find_rows": {"dataset": "rows0", "filter": filter, "offset": 0, "count": 1}});
            let begun = Instant::now();
            found = client.ask(wish)["total"].as_u64().expect("a number of rows");
            own.push(begun.elapsed().as_secs_f64());
        }
        let peer = self.peer(&["pyarrow-filter", &self.path("peer.arrow").display().to_string()]);
        assert_eq!(peer["rows"].as_u64(), Some(found), "both find the same rows");
        let theirs: Vec<f64> = peer["walls_s"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        println!("filter, {found} rows, hone              {} s", show(&own));
        println!("filter, pyarrow IPC mmap            {} s", show(&theirs));
        let best = |samples: &[f64]| samples.iter().copied().fold(f64::INFINITY, f64::min);
        self.figure("filter_s", best(&own));
        self.figure("filter_pyarrow_s", best(&theirs));
        self.ratios.insert("filter_vs_fastest".into(), json!((best(&theirs) / best(&own) * 1000.0).round() / 1000.0));
    }
}

/// The most memory that a child of the daemon has had.
fn peak_kb(daemon: &Daemon) -> u64 {
    let peak = |pid: &u32| {
        let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    children_of(daemon.process.id()).iter().filter_map(peak).max().unwrap_or_default()
}

fn timed<T>(act: impl FnOnce() -> T) -> f64 {
    let begun = Instant::now();
    drop(act());
    begun.elapsed().as_secs_f64() * 1e3
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn show(samples: &[f64]) -> String {
    samples.iter().map(|sample| format!("{sample:.2}")).collect::<Vec<_>>().join(" ")
}
