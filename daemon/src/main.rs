//! honed's entry: the daemon itself, and the hidden modes that only the daemon starts.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use honed::config::{Options, Places};
use honed::lifecycle::{EXIT_IN_USE, StartError};
use honed::{data, fetch, hook, lifecycle, node, sandbox, upstream};

const HELP: &str = "honed: the daemon of hone. `hone daemon start` starts it for you.

usage: honed [run] [--state DIR] [--http ADDRESS:PORT]... [--expose ADDRESS:PORT]... [--host-name NAME]... [--share PATH] [--cores N] [--memory-mib N]

  --state DIR           where everything is kept (default: HONE_STATE, else XDG_STATE_HOME/hone)
  --http ADDRESS:PORT   address of the endpoint; port 0 chooses a free one (default 127.0.0.1:7077)
  --expose ADDRESS:PORT the same address again, when it is one that other machines can reach
  --host-name NAME      a host name under which clients may call, besides localhost
  --share PATH          a second socket, for other users of this machine that `hone person` lets in
  --cores N             cores that jobs and services may use (default: all)
  --memory-mib N        memory that jobs and services may use (default: four fifths of what is free)
  --version, --help";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    match args.next().as_deref() {
        Some("data") => data::run(),
        Some("fetch") => fetch::run(),
        Some("hook-run") => hook::run(false),
        Some("hook-post") => hook::run(true),
        Some("upstream") => upstream::run(),
        // Paths are bytes, not text.
        Some("node") => node::run(std::env::args_os().skip(2)),
        Some("child") => sandbox::run(std::env::args_os().skip(2)),
        Some("run") | None => daemon(args),
        Some("--help" | "-h") => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some("--version" | "-V") => {
            println!("honed {}", hone_protocol::VERSION);
            ExitCode::SUCCESS
        }
        Some(first) if first.starts_with("--") => daemon(std::env::args().skip(1)),
        Some(other) => {
            eprintln!("honed: {other:?} is no mode; see honed --help");
            ExitCode::from(2)
        }
    }
}

fn daemon(args: impl Iterator<Item = String>) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("honed: {message}");
            return ExitCode::from(2);
        }
    };
    // What passes here waits for others; each further thread is woken for nothing, and takes a core from a worker for it.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(4).min(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(64)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("honed: no threads: {error}");
            return ExitCode::from(71);
        }
    };
    let ended = runtime.block_on(lifecycle::run(options));
    runtime.shutdown_background();
    match ended {
        Ok(status) => ExitCode::from(status),
        Err(error @ StartError::InUse { .. }) => {
            eprintln!("honed: {error}");
            ExitCode::from(EXIT_IN_USE)
        }
        Err(error) => {
            eprintln!("honed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let set = |name: &str| std::env::var(name).ok();
    let mut state = hone_protocol::paths::state_dir(
        set("HONE_STATE").as_deref(),
        set("XDG_STATE_HOME").as_deref(),
        set("HOME").as_deref(),
    );
    let (mut http, mut expose, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cores, mut memory_mib) = (0, 0u64);
    let mut share = None;
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--state" => state = Some(value()?),
            "--http" => http.push(value()?),
            "--expose" => expose.push(value()?),
            "--host-name" => hosts.push(value()?),
            "--share" => share = Some(PathBuf::from(value()?)),
            "--cores" => cores = value()?.parse().map_err(|_| "--cores needs a number".to_owned())?,
            "--memory-mib" => memory_mib = value()?.parse().map_err(|_| "--memory-mib needs a number".to_owned())?,
            "--help" | "-h" => return Err(HELP.to_owned()),
            other => return Err(format!("{other:?} is no option; see honed --help")),
        }
    }
    if http.is_empty() {
        http.extend(set("HONE_HTTP"));
    }
    if share.is_none() {
        share = set("HONE_SHARE").filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    let state = state.ok_or("no state directory: set HONE_STATE or HOME to an absolute path")?;
    let state = PathBuf::from(state);
    if !state.is_absolute() {
        return Err(format!("the state directory {} is not an absolute path", state.display()));
    }
    let places = Places::new(state, set("HONE_MODELS").map(PathBuf::from));
    Ok(Options { places, http, expose, hosts, share, cores, pool_memory_bytes: memory_mib << 20 })
}
