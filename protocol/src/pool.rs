//! Pools: named shares of this machine, and ways out of it (Slurm), each with a price of computing. The order between
//! applications. Never here: what was computed (see [`crate::usage`]).

use serde::{Deserialize, Serialize};

use crate::usage::ComputePrice;

/// The pool that is always there: what of this machine no other pool has.
pub const LOCAL_POOL: &str = "local";
/// Pools at most.
pub const POOLS_MAX: usize = 64;
/// `sbatch` options of a pool at most, and bytes of each.
pub const OPTIONS_MAX: usize = 32;
/// Bytes of a word or option of a pool at most.
pub const WORD_BYTES_MAX: usize = 256;

/// A pool as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Its name; `local` is always there.
    pub name: String,
    /// What an hour costs.
    pub price: ComputePrice,
    /// When that was said last, Unix milliseconds; 0 for never.
    pub changed_at_ms: i64,
    /// Who said it.
    pub changed_by: String,
    /// What it is; none for `local`, which has what is left of this machine.
    pub place: Option<PoolPlace>,
}

/// What a pool is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolPlace {
    /// A share of this machine.
    Share(Share),
    /// Jobs of a Slurm cluster.
    Slurm(Box<SlurmPlace>),
}

/// A share of this machine. All shares together leave `local` at least one core and some memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Cores: no child of the pool computes with more threads.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// GPUs that its children see, by index or UUID as the driver names them.
    pub gpus: Vec<String>,
}

/// How jobs of a Slurm cluster are submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlurmPlace {
    /// Absolute path of a folder that this machine and all nodes have under the same name.
    pub folder: String,
    /// Absolute path of the folder of hone's programs on the nodes; none for where they are here.
    pub programs: Option<String>,
    /// Partition; none for the cluster's default.
    pub partition: Option<String>,
    /// Account.
    pub account: Option<String>,
    /// Quality of service.
    pub qos: Option<String>,
    /// Time limit of one Slurm job in minutes. At the limit a run writes a checkpoint and goes on in the next job.
    pub minutes: Option<u32>,
    /// Cores of a job.
    pub cores: u32,
    /// Memory of a job in MiB; none for the cluster's default.
    pub memory_mib: Option<u64>,
    /// Generic resources, for example `gpu:1`.
    pub gres: Option<String>,
    /// More options of `sbatch`, each `--name=value` or `--name`.
    pub options: Vec<String>,
}

/// Options of `sbatch` that hone sets, or that would take the job from its hands.
pub const OPTIONS_OF_HONE: [&str; 24] = [
    "--job-name",
    "--output",
    "--error",
    "--input",
    "--open-mode",
    "--parsable",
    "--partition",
    "--account",
    "--qos",
    "--time",
    "--cpus-per-task",
    "--ntasks",
    "--nodes",
    "--mem",
    "--gres",
    "--signal",
    "--requeue",
    "--no-requeue",
    "--wrap",
    "--array",
    "--export",
    "--wait",
    "--test-only",
    "--help",
];

impl SlurmPlace {
    /// Refuses what cannot be submitted: the field, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let absolute = |field, path: &str| match path.starts_with('/') && !path.contains('\0') {
            true => Ok(()),
            false => Err((field, format!("{path:?} is no absolute path"))),
        };
        absolute("folder", &self.folder)?;
        if let Some(programs) = &self.programs {
            absolute("programs", programs)?;
        }
        let words =
            [("partition", &self.partition), ("account", &self.account), ("qos", &self.qos), ("gres", &self.gres)];
        for (field, word) in words {
            let Some(word) = word else { continue };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:,=@/[]".contains(&b);
            if word.is_empty() || word.len() > WORD_BYTES_MAX || !word.bytes().all(plain) {
                return Err((field, format!("{word:?} cannot be a {field} of Slurm")));
            }
        }
        if self.cores == 0 {
            return Err(("cores", "cores is 0; a job needs at least one".to_owned()));
        }
        if self.minutes == Some(0) || self.minutes.is_some_and(|minutes| minutes < 3) {
            return Err(("minutes", "a job needs 3 minutes at least, so that it can write a checkpoint".to_owned()));
        }
        if self.options.len() > OPTIONS_MAX {
            return Err(("options", format!("{} options; at most {OPTIONS_MAX} are possible", self.options.len())));
        }
        for option in &self.options {
            let name = option.split('=').next().unwrap_or_default();
            let odd = !option.starts_with("--") || option.len() < 3 || option.len() > WORD_BYTES_MAX;
            if odd || option.chars().any(char::is_control) {
                return Err(("options", format!("{option:?} is no option; write --name=value")));
            }
            // sbatch takes the beginning of a long option for the whole.
            if OPTIONS_OF_HONE.iter().any(|own| own.starts_with(name)) {
                return Err(("options", format!("{name} is set by hone; use the pool's own fields")));
            }
        }
        Ok(())
    }
}

/// A pool as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// The record.
    pub record: PoolRecord,
    /// Cores that work in it may use; of one job in a Slurm pool.
    pub cores: u32,
    /// Memory that work in it may use, in bytes; of one job in a Slurm pool, 0 for the cluster's default.
    pub memory_bytes: u64,
    /// Memory that running work in it holds or was admitted with, in bytes; 0 for a Slurm pool.
    pub used_bytes: u64,
    /// Jobs in it that have not ended, and services, in words: what keeps it from being removed.
    pub users: Vec<String>,
}

impl PoolView {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self.record.place {
            None => "local",
            Some(PoolPlace::Share(_)) => "share",
            Some(PoolPlace::Slurm(_)) => "slurm",
        }
    }
}

/// Where a job of a Slurm pool stands, in Slurm's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SlurmView {
    /// Slurm's number of the job; empty before it was submitted.
    pub number: String,
    /// `PENDING`, `RUNNING`, `TIMEOUT`…
    pub state: String,
    /// Why it waits (`Resources`, `Priority`…), or why it ended; empty when Slurm says none.
    pub reason: String,
    /// The node that it runs on; empty before.
    pub node: String,
    /// For how long it has run, in seconds, as Slurm counts.
    pub elapsed_s: u64,
    /// Processors that it holds.
    pub cpus: u32,
    /// GPUs that it asked for.
    pub gpus: u32,
}

/// Who goes first where applications wait for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Gets a quarter of what `high` gets.
    Low,
    /// Gets half of what `high` gets.
    #[default]
    Normal,
    /// Gets four times what `low` gets.
    High,
}

impl Priority {
    /// All of them, in order.
    pub const ALL: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

    /// The share of an application among those that wait.
    pub fn weight(self) -> u32 {
        match self {
            Priority::Low => 1,
            Priority::Normal => 2,
            Priority::High => 4,
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }

    /// The priority of that word.
    pub fn named(word: &str) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| priority.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> SlurmPlace {
        SlurmPlace {
            folder: "/shared/hone".into(),
            programs: None,
            partition: Some("gpu,main".into()),
            account: None,
            qos: None,
            minutes: Some(60),
            cores: 8,
            memory_mib: None,
            gres: Some("gpu:a100:1".into()),
            options: vec!["--constraint=avx512".into(), "--exclusive".into()],
        }
    }

    #[test]
    fn what_cannot_be_submitted_is_refused_with_its_field() {
        place().check().unwrap();
        let refused = |change: &dyn Fn(&mut SlurmPlace)| {
            let mut place = place();
            change(&mut place);
            place.check().unwrap_err().0
        };
        assert_eq!(refused(&|p| p.folder = "shared".into()), "folder");
        assert_eq!(refused(&|p| p.programs = Some("bin".into())), "programs");
        assert_eq!(refused(&|p| p.partition = Some("a; rm -rf".into())), "partition");
        assert_eq!(refused(&|p| p.gres = Some(String::new())), "gres");
        assert_eq!(refused(&|p| p.cores = 0), "cores");
        assert_eq!(refused(&|p| p.minutes = Some(1)), "minutes");
        for option in ["-p x", "x", "--", "--job-name=x", "--job=x", "--mem", "--a\nb", "--wrap=rm", "--par=x"] {
            assert_eq!(refused(&|p| p.options = vec![option.into()]), "options", "{option}");
        }
        assert_eq!(refused(&|p| p.options = vec!["--x".into(); OPTIONS_MAX + 1]), "options");
    }

    #[test]
    fn words_of_priorities_lead_back() {
        for priority in Priority::ALL {
            assert_eq!(Priority::named(priority.word()), Some(priority));
        }
        assert_eq!(Priority::named("urgent"), None);
        assert!(Priority::ALL.is_sorted_by_key(|p| p.weight()));
    }
}
