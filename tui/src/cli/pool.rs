//! `hone pool`: where computing happens, and what it costs. Never here: what was computed (`usage`, `invoice`).

use clap::{Args, Subcommand};
use hone_protocol::catalogue::Language;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::pool::{PoolPlace, PoolView, Share, SlurmPlace};
use hone_protocol::request::{Answer, Request};
use hone_protocol::usage::ComputePrice;

use super::context::{Context, answer};
use super::service::micros;
use crate::link::Link;
use crate::print::{self, Cell, End, Outcome, Table};

/// Pools: where computing happens, and what it costs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    List(List),
    Show(Show),
    Create(Create),
    Set(Set),
    Price(PriceVerb),
    Remove(Remove),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::List(verb) => verb.run(context),
            Verb::Show(verb) => verb.run(context),
            Verb::Create(verb) => verb.run(context),
            Verb::Set(verb) => verb.run(context),
            Verb::Price(verb) => verb.run(context),
            Verb::Remove(verb) => verb.run(context),
        }
    }
}

/// List pools with what they have and cost.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone pool list")]
pub(super) struct List {}

impl List {
    fn run(self, context: &Context) -> Outcome {
        show_all(context)
    }
}

/// Show a pool: what it is, what it costs, what is in it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone pool show cluster")]
pub(super) struct Show {
    /// Name of the pool.
    name: String,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        show_one(context, &find(&mut link, &self.name)?)
    }
}

/// What a pool is: a share of this machine, or jobs of a Slurm cluster.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Cores of the share; of each job in a Slurm pool.
    #[arg(long, value_name = "N")]
    cores: Option<u32>,
    /// Memory of the share in MiB; of each job in a Slurm pool.
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u64>,
    /// GPUs of the share, by index or UUID, with commas between.
    #[arg(long, value_name = "GPUS", value_delimiter = ',')]
    gpus: Option<Vec<String>>,
    /// Makes it a Slurm pool: a folder that this machine and all nodes have under the same name.
    #[arg(long, value_name = "DIR", help_heading = "Slurm")]
    slurm_folder: Option<String>,
    /// Folder of hone's programs on the nodes [default: where they are here].
    #[arg(long, value_name = "DIR", help_heading = "Slurm")]
    programs: Option<String>,
    /// Partition.
    #[arg(long, value_name = "NAME", help_heading = "Slurm")]
    partition: Option<String>,
    /// Account.
    #[arg(long, value_name = "NAME", help_heading = "Slurm")]
    account: Option<String>,
    /// Quality of service.
    #[arg(long, value_name = "NAME", help_heading = "Slurm")]
    qos: Option<String>,
    /// Time limit of a Slurm job; a run goes on in the next one.
    #[arg(long, value_name = "MINUTES", help_heading = "Slurm")]
    minutes: Option<u32>,
    /// Generic resources, for example gpu:1.
    #[arg(long, value_name = "LIST", help_heading = "Slurm")]
    gres: Option<String>,
    /// One more option of sbatch, as --name=value; may be given several times.
    #[arg(long = "sbatch", value_name = "OPTION", allow_hyphen_values = true, help_heading = "Slurm")]
    options: Option<Vec<String>>,
    /// Price of a core for an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros, help_heading = "Price")]
    core_hour: Option<u64>,
    /// Price of a GPU for an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros, help_heading = "Price")]
    gpu_hour: Option<u64>,
}

impl PlaceArgs {
    /// What a new pool is.
    fn made(&self) -> Result<PoolPlace, Failure> {
        let needs = |what: &str| Failure::field(what, format!("{what} is missing: say how much the pool has"));
        let cores = self.cores.ok_or_else(|| needs("--cores"))?;
        Ok(match &self.slurm_folder {
            None => PoolPlace::Share(Share {
                cores,
                memory_bytes: self.memory_mib.ok_or_else(|| needs("--memory-mib"))? << 20,
                gpus: self.gpus.clone().unwrap_or_default(),
            }),
            Some(folder) => PoolPlace::Slurm(Box::new(SlurmPlace {
                folder: folder.clone(),
                programs: self.programs.clone(),
                partition: self.partition.clone(),
                account: self.account.clone(),
                qos: self.qos.clone(),
                minutes: self.minutes,
                cores,
                memory_mib: self.memory_mib,
                gres: self.gres.clone(),
                options: self.options.clone().unwrap_or_default(),
            })),
        })
    }

    /// What a pool becomes; what is not typed stays. What it cannot become the daemon says.
    fn changed(self, before: &PoolView) -> Result<(ComputePrice, Option<PoolPlace>), Failure> {
        let was = before.record.price;
        let price = ComputePrice {
            core_hour_micros: self.core_hour.or(was.core_hour_micros),
            gpu_hour_micros: self.gpu_hour.or(was.gpu_hour_micros),
        };
        let has_place = self.cores.is_some() || self.memory_mib.is_some() || self.gpus.is_some();
        let place = match before.record.place.clone() {
            Some(PoolPlace::Share(_)) | None if self.slurm_folder.is_some() => Some(self.made()?),
            None if has_place => Some(PoolPlace::Share(Share {
                cores: self.cores.unwrap_or(before.cores),
                memory_bytes: self.memory_mib.map_or(before.memory_bytes, |mib| mib << 20),
                gpus: self.gpus.unwrap_or_default(),
            })),
            None => None,
            Some(PoolPlace::Share(share)) => Some(PoolPlace::Share(Share {
                cores: self.cores.unwrap_or(share.cores),
                memory_bytes: self.memory_mib.map_or(share.memory_bytes, |mib| mib << 20),
                gpus: self.gpus.unwrap_or(share.gpus),
            })),
            Some(PoolPlace::Slurm(slurm)) => Some(PoolPlace::Slurm(Box::new(SlurmPlace {
                folder: self.slurm_folder.unwrap_or(slurm.folder),
                programs: self.programs.or(slurm.programs),
                partition: self.partition.or(slurm.partition),
                account: self.account.or(slurm.account),
                qos: self.qos.or(slurm.qos),
                minutes: self.minutes.or(slurm.minutes),
                cores: self.cores.unwrap_or(slurm.cores),
                memory_mib: self.memory_mib.or(slurm.memory_mib),
                gres: self.gres.or(slurm.gres),
                options: self.options.unwrap_or(slurm.options),
            }))),
        };
        Ok((price, place))
    }
}

/// Make a pool: a share of this machine, or with --slurm-folder jobs of a Slurm cluster.
///
/// What pools have is taken from `local`, which keeps a core and some memory. Jobs and services choose a pool with --pool.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone pool create night --cores 4 --memory-mib 8192\n  hone pool create cluster --slurm-folder /shared/hone --cores 16 --partition main --minutes 240"
)]
pub(super) struct Create {
    /// Its name.
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Create {
    fn run(self, context: &Context) -> Outcome {
        let place = self.place.made()?;
        let mut link = context.link()?;
        if all(&mut link)?.iter().any(|pool| pool.record.name == self.name) {
            let message = format!("there is a pool named {:?} already; hone pool set changes it", self.name);
            return Err(Failure::new(FailureCode::NameTaken, message).at("name").into());
        }
        let price = ComputePrice { core_hour_micros: self.place.core_hour, gpu_hour_micros: self.place.gpu_hour };
        change(context, &mut link, self.name, price, Some(place))
    }
}

/// Change what a pool is or costs; what is not typed stays as it was.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone pool set night --cores 2\n  hone pool set cluster --sbatch=--constraint=avx512"
)]
pub(super) struct Set {
    /// Its name.
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Set {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let before = find(&mut link, &self.name)?;
        let (price, place) = self.place.changed(&before)?;
        change(context, &mut link, self.name, price, place)
    }
}

/// Say what an hour of computing costs from now on. What is left out has no price.
///
/// Attempts of jobs and the time of services become rows of the ledger when they end, at the price of that moment.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone pool price local --core-hour 0.05")]
pub(super) struct PriceVerb {
    /// Name of the pool; this machine is `local`.
    name: String,
    /// Price of a core for an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    core_hour: Option<u64>,
    /// Price of a GPU for an hour.
    #[arg(long, value_name = "PRICE", value_parser = micros)]
    gpu_hour: Option<u64>,
}

impl PriceVerb {
    fn run(self, context: &Context) -> Outcome {
        let price = ComputePrice { core_hour_micros: self.core_hour, gpu_hour_micros: self.gpu_hour };
        let request = Request::SetPool { name: self.name, price, place: None };
        let _done: Answer = context.change(&mut context.link()?, "pool", request)?;
        show_all(context)
    }
}

/// Remove a pool. Refused while jobs or services are in it; they are listed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone pool remove night")]
pub(super) struct Remove {
    /// Its name.
    name: String,
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        let request = Request::RemovePool { name: self.name };
        let _done: Answer = context.change(&mut context.link()?, "pool", request)?;
        show_all(context)
    }
}

fn change(context: &Context, link: &mut Link, name: String, price: ComputePrice, place: Option<PoolPlace>) -> Outcome {
    let request = Request::SetPool { name: name.clone(), price, place };
    let _done: Answer = context.change(link, "pool", request)?;
    show_one(context, &find(link, &name)?)
}

/// All pools of the daemon.
pub(super) fn all(link: &mut Link) -> Result<Vec<PoolView>, Failure> {
    Ok(answer!(link.ask(Request::Pools)?, Pools))
}

/// A pool by name; none is `local`.
pub(super) fn find(link: &mut Link, name: &str) -> Result<PoolView, End> {
    let found = all(link)?.into_iter().find(|pool| pool.record.name == name);
    found.ok_or_else(|| Failure::not_found("pool", name).into())
}

fn show_all(context: &Context) -> Outcome {
    let mut link = context.link()?;
    let pools = all(&mut link)?;
    if context.json {
        return print::json(&pools);
    }
    let status = answer!(link.ask(Request::Status)?, Status);
    print::out(&table(context.language, &pools, &status.currency).render(print::colour()))
}

fn show_one(context: &Context, pool: &PoolView) -> Outcome {
    if context.json {
        return print::json(pool);
    }
    print::out(&details(context.language, pool))
}

fn memory(pool: &PoolView) -> String {
    if pool.memory_bytes == 0 { "-".to_owned() } else { print::bytes(pool.memory_bytes) }
}

fn table(language: Language, pools: &[PoolView], currency: &str) -> Table {
    let keys = [
        "cli.col.pool",
        "cli.col.kind",
        "cli.col.pool_cores",
        "cli.col.memory",
        "cli.col.pool_used",
        "cli.col.pool_users",
        "cli.col.core_hour",
        "cli.col.gpu_hour",
        "cli.col.currency",
        "cli.col.since",
    ];
    let mut table = Table::new(language, &keys);
    for pool in pools {
        let since = match pool.record.changed_at_ms {
            0 => "-".to_owned(),
            at => format!("{} ({})", print::moment(at), pool.record.changed_by),
        };
        table.row(vec![
            pool.record.name.as_str().into(),
            pool.kind().into(),
            Cell::number(pool.cores),
            Cell::number(memory(pool)),
            Cell::number(print::bytes(pool.used_bytes)),
            Cell::number(pool.users.len()),
            Cell::number(print::micros(pool.record.price.core_hour_micros)),
            Cell::number(print::micros(pool.record.price.gpu_hour_micros)),
            currency.into(),
            since.into(),
        ]);
    }
    table
}

fn details(language: Language, pool: &PoolView) -> String {
    let price = pool.record.price;
    let mut pairs = vec![
        ("cli.col.pool", pool.record.name.clone()),
        ("cli.col.kind", pool.kind().to_owned()),
        ("cli.col.pool_cores", pool.cores.to_string()),
        ("cli.col.memory", memory(pool)),
        ("cli.col.core_hour", print::micros(price.core_hour_micros)),
        ("cli.col.gpu_hour", print::micros(price.gpu_hour_micros)),
    ];
    match &pool.record.place {
        None => {}
        Some(PoolPlace::Share(share)) => pairs.push(("cli.col.gpus", share.gpus.join(" "))),
        Some(PoolPlace::Slurm(slurm)) => {
            let word = |word: &Option<String>| word.clone().unwrap_or_default();
            pairs.extend([
                ("cli.col.slurm_folder", slurm.folder.clone()),
                ("cli.col.programs", word(&slurm.programs)),
                ("cli.col.partition", word(&slurm.partition)),
                ("cli.col.account", word(&slurm.account)),
                ("cli.col.qos", word(&slurm.qos)),
                ("cli.col.minutes", slurm.minutes.map_or_else(String::new, |minutes| minutes.to_string())),
                ("cli.col.gres", word(&slurm.gres)),
                ("cli.col.sbatch", slurm.options.join(" ")),
            ]);
        }
    }
    pairs.push(("cli.col.pool_users", pool.users.join(", ")));
    pairs.retain(|(_, text)| !text.is_empty());
    print::pairs(language, &pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::pool::PoolRecord;

    fn pool(name: &str, core: Option<u64>, at: i64, place: Option<PoolPlace>) -> PoolView {
        PoolView {
            record: PoolRecord {
                name: name.into(),
                price: ComputePrice { core_hour_micros: core, gpu_hour_micros: None },
                changed_at_ms: at,
                changed_by: "lin".into(),
                place,
            },
            cores: 4,
            memory_bytes: 8 << 30,
            used_bytes: 3 << 30,
            users: vec!["service desk".into()],
        }
    }

    fn slurm() -> PoolPlace {
        PoolPlace::Slurm(Box::new(SlurmPlace {
            folder: "/shared/hone".into(),
            programs: None,
            partition: Some("main".into()),
            account: None,
            qos: None,
            minutes: Some(240),
            cores: 16,
            memory_mib: None,
            gres: None,
            options: vec!["--constraint=avx512".into()],
        }))
    }

    #[test]
    fn pools_with_and_without_a_price() {
        let share = PoolPlace::Share(Share { cores: 2, memory_bytes: 4 << 30, gpus: vec!["0".into()] });
        let pools = [
            pool("local", Some(50_000), 1_795_449_912_345, None),
            pool("night", None, 0, Some(share)),
            pool("cluster", None, 0, Some(slurm())),
        ];
        insta::assert_snapshot!("pools", table(Language::En, &pools, "EUR").render(false));
        insta::assert_snapshot!("pool-show", pools.each_ref().map(|pool| details(Language::En, pool)).join("\n"));
    }

    #[test]
    fn what_is_not_typed_stays() {
        let typed = PlaceArgs {
            cores: Some(8),
            memory_mib: None,
            gpus: None,
            slurm_folder: None,
            programs: None,
            partition: None,
            account: None,
            qos: Some("night".into()),
            minutes: None,
            gres: None,
            options: None,
            core_hour: None,
            gpu_hour: Some(2_000_000),
        };
        let before = pool("cluster", Some(50_000), 0, Some(slurm()));
        let (price, place) = typed.changed(&before).unwrap();
        assert_eq!((price.core_hour_micros, price.gpu_hour_micros), (Some(50_000), Some(2_000_000)));
        let Some(PoolPlace::Slurm(place)) = place else { panic!("it is a Slurm pool") };
        assert_eq!((place.cores, place.qos.as_deref(), place.minutes), (8, Some("night"), Some(240)));
        assert_eq!(place.options, ["--constraint=avx512"]);
    }
}
