//! The parts `exact` and `near`: duplicates found through the real daemon, as a recipe of one step, beside polars and rensa on the same
//! rows in the same run. Rows have planted copies, so that recall and precision are known. Never here: what the libraries do
//! (`tests/peers/data_duplicates.py`).

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use hone_tests::{Client, Daemon, repository};
use serde_json::{Value, json};

use super::{Bench, median, show};

/// Entries of a ledger that are asked for at once.
const PAGE: u64 = 200;

impl Bench {
    /// A task of the libraries of this part.
    fn duplicates_peer(&self, words: &[&str]) -> Value {
        let driver = repository().join("tests/peers/data_duplicates.py");
        let done = Command::new(&self.python).arg(driver).args(words).output().expect("the peer runs");
        assert!(done.status.success(), "the peer failed: {}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8_lossy(&done.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the peer says JSON")
    }

    /// Both parts, as far as they are wanted.
    pub(super) fn duplicates(&mut self, daemon: &Daemon) {
        let path = |bench: &Bench, name: &str| bench.path(name).display().to_string();
        let (clean, planted, truth) = (path(self, "clean.jsonl"), path(self, "planted.jsonl"), path(self, "truth.txt"));
        let rows = self.made.rows.to_string();
        let made = self.duplicates_peer(&["plant", &clean, &planted, &truth, &rows]);
        println!("rows with planted copies            {}", made["rows"]);
        let mut client = daemon.connect();
        let source = json!({"path": {"path": planted}});
        client.job(json!({"import_dataset": {"source": source, "name": "planted", "format": "detect"}}));
        if self.wants("exact") {
            self.exact(&mut client, &planted);
        }
        if self.wants("near") {
            self.near(&mut client, &planted, &truth);
        }
    }

    /// From a version to a version without copies; from Parquet to an IPC file without them.
    fn exact(&mut self, client: &mut Client, planted: &str) {
        let parquet = self.path("planted.parquet").display().to_string();
        let written = self.path("kept.arrow").display().to_string();
        self.duplicates_peer(&["to-parquet", planted, &parquet]);
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        let mut kept = Value::Null;
        for round in 0..self.rounds {
            own.push(deduplicate(client, "exact", &[], &format!("exact{round}")));
            let peer = self.duplicates_peer(&["polars-exact", &parquet, &written]);
            theirs.push(peer["wall_s"].as_f64().expect("seconds"));
            self.figure("exact_polars_count_only_s", peer["count_only_s"].as_f64().expect("seconds"));
            kept = peer["kept"].clone();
        }
        println!("exact copies, hone, version to version  {} s", show(&own));
        println!("exact copies, polars, file to file      {} s, {kept} kept", show(&theirs));
        let (own, theirs) = (median(&mut own), median(&mut theirs));
        self.figure("exact_dedup_s", own);
        self.figure("exact_polars_s", theirs);
        self.ratios.insert("exact_dedup_vs_fastest".into(), json!((theirs / own * 1000.0).round() / 1000.0));
    }

    fn near(&mut self, client: &mut Client, planted: &str, truth: &str) {
        let seconds = deduplicate(client, "near", &[("threshold", "0.7")], "near0");
        let found = self.path("found.txt").display().to_string();
        let mut out = std::fs::File::create(&found).expect("the file is made");
        let (mut offset, mut total) = (0, 1);
        while offset < total {
            let page = json!({"recipe_ledger": {"dataset": "near0", "step": 0, "offset": offset, "count": PAGE}});
            let page = client.ask(page);
            total = page["total"].as_u64().expect("a number of entries");
            for entry in page["entries"].as_array().expect("entries") {
                writeln!(out, "{}", entry["row_id"]).expect("the file is written");
            }
            offset += PAGE;
        }
        let own = self.duplicates_peer(&["judge", truth, &found]);
        let theirs = self.path("rensa.txt").display().to_string();
        let peer = self.duplicates_peer(&["rensa-near", planted, &theirs]);
        let judged = self.duplicates_peer(&["judge", truth, &theirs]);
        let wall = peer["wall_s"].as_f64().expect("seconds");
        println!("near copies, hone                   {seconds:.2} s: {own}");
        println!("near copies, rensa                  {wall:.2} s: {judged}");
        for (name, of) in [("near_recall", "near_recall"), ("near_precision", "precision")] {
            self.figure(name, own[of].as_f64().expect("a share"));
            self.figure(&format!("{name}_rensa"), judged[of].as_f64().expect("a share"));
        }
        self.figure("near_s", seconds);
        self.figure("near_rensa_s", wall);
        self.ratios.insert("minhash_vs_fastest".into(), json!((wall / seconds * 1000.0).round() / 1000.0));
    }
}

/// The seconds of a recipe of one step, from the wish to the version.
fn deduplicate(client: &mut Client, step: &str, settings: &[(&str, &str)], name: &str) -> f64 {
    // A row that is no row of the set: so that no run finds the step of the one before.
    let keep =
        [u64::MAX - u64::from(std::process::id()) - name.len() as u64 - u64::from(name.as_bytes()[name.len() - 1])];
    let recipe = json!({"steps": [{"step": step, "settings": settings, "keep": keep}]});
    let spec = json!({"process": {"source": "planted", "name": name, "recipe_name": step, "recipe": recipe}});
    let begun = Instant::now();
    client.job(spec);
    begun.elapsed().as_secs_f64()
}
