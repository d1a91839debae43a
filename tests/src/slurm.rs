//! A real Slurm of one node for tests: `tests/slurm/cluster.sh` starts and stops it. Never here: anything that stands in for Slurm.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::repository;

/// A cluster of one node; stopped, with what runs in it, when dropped.
pub struct Cluster {
    folder: tempfile::TempDir,
}

fn script(act: &str, folder: &Path) -> bool {
    let mut command = Command::new(repository().join("tests/slurm/cluster.sh"));
    // It is given no pipe of ours: daemons that it leaves would keep it open.
    command.arg(act).arg(folder).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Cluster {
    /// Starts one. Its programs must be there: `.ci/slurm.sh` brings them.
    pub fn start() -> Cluster {
        let folder = tempfile::Builder::new().prefix("slurm-").tempdir_in("/tmp").expect("/tmp is writable");
        assert!(script("start", folder.path()), "Slurm does not start; run .ci/slurm.sh");
        std::fs::create_dir(folder.path().join("shared")).expect("a folder");
        Cluster { folder }
    }

    /// What makes Slurm's commands talk to it.
    pub fn conf(&self) -> String {
        self.folder.path().join("slurm.conf").display().to_string()
    }

    /// The folder that all its nodes have.
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// A pool of it.
    pub fn pool(&self, name: &str) -> Value {
        let place = json!({"folder": self.shared(), "cores": 2, "options": []});
        let price = json!({"core_hour_micros": 3_600_000_000_u64, "gpu_hour_micros": null});
        json!({"set_pool": {"name": name, "price": price, "place": {"slurm": place}}})
    }

    /// What one of Slurm's commands says.
    pub fn ask(&self, program: &str, words: &[&str]) -> String {
        let output =
            Command::new(program).args(words).env("SLURM_CONF", self.conf()).output().expect("it is installed");
        assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("Slurm writes UTF-8").trim().to_owned()
    }

    /// Jobs that have not ended.
    pub fn queue(&self) -> String {
        self.ask("squeue", &["--noheader", "--format", "%i %T"])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Jobs first: they outlive the daemons of Slurm.
        for job in self.queue().lines().filter_map(|line| line.split(' ').next()) {
            self.ask("scancel", &["--signal=KILL", "--batch", job]);
        }
        script("stop", self.folder.path());
    }
}
