//! `hone daemon`: start, stop, look, install as a user unit. Never here: what the daemon does.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{Request, Status as StatusAnswer};

use super::context::{Context, answer};
use super::status;
use crate::link::{self, Link, Options};
use crate::print::{self, End, Outcome};
use crate::start;

/// Longest wait for a daemon to end: it gives training 60 s for a checkpoint. Beyond it stopping has failed, though
/// the daemon may still end by itself.
const STOP_WAIT: Duration = Duration::from_secs(90);
/// Pause between two looks at an ending daemon.
const STOP_STEP: Duration = Duration::from_millis(20);
/// Present where systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";

/// The daemon: start it, stop it, keep it.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Start(Start),
    Stop(Stop),
    Status(Status),
    Install(Install),
    Run(Run),
}

impl Verb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Start(verb) => verb.run(context),
            Verb::Stop(verb) => verb.run(context),
            Verb::Status(verb) => verb.run(context),
            Verb::Install(verb) => verb.run(context),
            Verb::Run(verb) => verb.run(context),
        }
    }
}

/// What the daemon may use; counts from its start on.
#[derive(Debug, Args)]
struct DaemonArgs {
    /// Address of the HTTP endpoint; port 0 takes a free one; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Vec<String>,
    /// The same address again, when it is one that other machines can reach: a consent.
    #[arg(long, value_name = "ADDRESS:PORT")]
    expose: Vec<String>,
    /// Host name under which clients may call, besides localhost; may be given several times.
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// A second socket, for other users of this machine that `hone person` lets in.
    #[arg(long, value_name = "PATH")]
    share: Option<String>,
    /// Cores that jobs and services may use [default: all].
    #[arg(long, value_name = "N")]
    cores: Option<u32>,
    /// Memory that jobs and services may use [default: four fifths of what is free].
    #[arg(long, value_name = "N")]
    memory_mib: Option<u64>,
}

impl DaemonArgs {
    /// As flags, which are the same for `hone daemon run` and for `honed`.
    fn flags(&self) -> Vec<String> {
        let lists = [("--http", &self.http), ("--expose", &self.expose), ("--host-name", &self.host_name)];
        let mut flags: Vec<String> = lists
            .iter()
            .flat_map(|(flag, values)| values.iter().flat_map(|v| [(*flag).to_owned(), v.clone()]))
            .collect();
        flags.extend(self.share.iter().flat_map(|path| ["--share".to_owned(), path.clone()]));
        let numbers = [("--cores", self.cores.map(u64::from)), ("--memory-mib", self.memory_mib)];
        for (flag, number) in numbers {
            flags.extend(number.iter().flat_map(|n| [flag.to_owned(), n.to_string()]));
        }
        flags
    }
}

/// Start the daemon in the background, unless it runs already. It outlives this session.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone daemon start\n  hone daemon start --http 127.0.0.1:8080 --cores 4")]
pub(super) struct Start {
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Start {
    fn run(self, context: &Context) -> Outcome {
        let flags = self.daemon.flags();
        let mut link = match Link::connect_once(&context.options)? {
            None => start::ensure_daemon_with(&context.options, &flags)?,
            Some(link) if flags.is_empty() => link,
            Some(_) => {
                let message =
                    "the daemon runs already, and these flags count from its start on; hone daemon stop first";
                return Err(Failure::new(FailureCode::WrongState, message).at(flags.join(" ")).into());
            }
        };
        let status = answer!(link.ask(Request::Status)?, Status);
        show(context, &status)
    }
}

/// Stop the daemon: training checkpoints, workers end, services come back at the next start.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone daemon stop")]
pub(super) struct Stop {}

impl Stop {
    fn run(self, context: &Context) -> Outcome {
        let options = Options { start_daemon: false, ..context.options.clone() };
        let pid = match Link::connect_once(&options) {
            Ok(None) => {
                context.say("cli.not_running", &[("state", &options.state_dir)]);
                return if context.json { print::json(&serde_json::json!({ "running": false })) } else { Ok(()) };
            }
            Ok(Some(mut link)) => {
                let status = answer!(link.ask(Request::Status)?, Status);
                link.ask(Request::Shutdown)?;
                Some(status.pid)
            }
            // Another version: frames are foreign, but every version understands this line.
            Err(failure) if failure.code == FailureCode::VersionMismatch => {
                link::shut_down_by_line(&options)?;
                None
            }
            Err(failure) => return Err(failure.into()),
        };
        context.say("cli.stopping", &[]);
        wait_for_end(&options, pid)?;
        context.say("cli.stopped", &[]);
        if context.json { print::json(&serde_json::json!({ "running": false })) } else { Ok(()) }
    }
}

/// Waits until the daemon's process is gone; without its id, until nothing answers.
fn wait_for_end(options: &Options, pid: Option<u32>) -> Result<(), Failure> {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    let lives = || match pid {
        Some(pid) => rustix::process::test_kill_process(pid).is_ok(),
        None => !matches!(Link::connect_once(options), Ok(None)),
    };
    let deadline = Instant::now() + STOP_WAIT;
    while lives() {
        if Instant::now() >= deadline {
            let message =
                format!("the daemon still runs after {} s; it may be writing a checkpoint", STOP_WAIT.as_secs());
            return Err(Failure::new(FailureCode::WorkerSilent, message)
                .at(&options.state_dir)
                .hint(HintCode::TryAgain));
        }
        std::thread::sleep(STOP_STEP);
    }
    Ok(())
}

/// Say whether the daemon runs. Does not start it; exit status 8 when it does not run.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone daemon status || hone daemon start")]
pub(super) struct Status {}

impl Status {
    fn run(self, context: &Context) -> Outcome {
        let Some(mut link) = Link::connect_once(&context.options)? else {
            if context.json {
                print::json(&serde_json::json!({ "running": false, "state_dir": context.options.state_dir }))?;
            }
            context.say("cli.not_running", &[("state", &context.options.state_dir)]);
            return Err(End::Said(FailureCode::ServiceUnavailable.exit_status()));
        };
        let status = answer!(link.ask(Request::Status)?, Status);
        show(context, &status)
    }
}

fn show(context: &Context, status: &StatusAnswer) -> Outcome {
    if context.json {
        return print::json(status);
    }
    print::out(&status::text(context.language, status, print::now_ms()))
}

/// Write the systemd user unit, so that the daemon starts with the machine, and say how to turn it on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone daemon install")]
pub(super) struct Install {
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Install {
    fn run(self, context: &Context) -> Outcome {
        let folder = unit_folder()?;
        let path = folder.join("honed.service");
        let unwritable = |error: io::Error| {
            Failure::new(FailureCode::FileUnreadable, error.to_string()).at(path.display().to_string())
        };
        let honed = start::daemon_program()?;
        fs::create_dir_all(&folder).map_err(unwritable)?;
        fs::write(&path, unit(&honed, &self.daemon.flags(), &context.options.state_dir)).map_err(unwritable)?;
        let path = path.display().to_string();
        let has_systemd = Path::new(SYSTEMD).is_dir();
        let commands =
            ["systemctl --user daemon-reload", "systemctl --user enable --now honed.service", "loginctl enable-linger"];
        if context.json {
            return print::json(&serde_json::json!({ "unit": path, "systemd": has_systemd, "next": commands }));
        }
        context.say("cli.unit_written", &[("path", &path)]);
        context.say(if has_systemd { "cli.unit_next" } else { "cli.no_systemd" }, &[]);
        print::out(&format!("{}\n", commands.join("\n")))
    }
}

fn unit_folder() -> Result<PathBuf, Failure> {
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    env("XDG_CONFIG_HOME")
        .or_else(|| env("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("systemd/user"))
        .ok_or_else(|| Failure::field("HOME", "neither XDG_CONFIG_HOME nor HOME is an absolute path"))
}

fn unit(honed: &Path, flags: &[String], state_dir: &str) -> String {
    // In a unit, `%` begins a specifier, and a quoted word takes backslashes.
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"));
    let program = quoted(&honed.display().to_string());
    let words: Vec<String> = [program].into_iter().chain(flags.iter().map(|flag| quoted(flag))).collect();
    let program = words.join(" ").replace('$', "$$");
    let state = quoted(&format!("HONE_STATE={state_dir}"));
    format!(
        "[Unit]\nDescription=hone: language models on this machine\n\n[Service]\nExecStart={program}\n\
         Environment={state}\nRestart=on-failure\nKillMode=mixed\nTimeoutStopSec=90\n\n\
         [Install]\nWantedBy=default.target\n"
    )
}

/// Run the daemon in the foreground: this process becomes `honed`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone daemon run")]
pub(super) struct Run {
    /// Begin a session of its own first, so that no terminal's end reaches it.
    #[arg(long, hide = true)]
    new_session: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Run {
    fn run(self, context: &Context) -> Outcome {
        let honed = start::daemon_program()?;
        let failed = |error: io::Error| {
            Failure::new(FailureCode::FileUnreadable, format!("honed cannot be started: {error}"))
                .at(honed.display().to_string())
        };
        if self.new_session {
            rustix::process::setsid().map_err(|error| failed(error.into()))?;
        }
        // Comes back only when it has failed.
        let error = Command::new(&honed).args(self.daemon.flags()).env("HONE_STATE", &context.options.state_dir).exec();
        Err(failed(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_quotes_what_systemd_would_read() {
        let text = unit(Path::new("/opt/100% $HOME/honed"), &["--cores".into(), "2".into()], "/var/st\"ate");
        assert!(text.contains("ExecStart=\"/opt/100%% $$HOME/honed\" \"--cores\" \"2\"\n"), "{text}");
        assert!(text.contains("Environment=\"HONE_STATE=/var/st\\\"ate\"\n"), "{text}");
    }

    #[test]
    fn a_process_that_is_gone_is_not_waited_for() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let options = Options {
            state_dir: "/nonexistent".into(),
            person: None,
            start_daemon: false,
            shared: None,
            project: None,
        };
        wait_for_end(&options, Some(child.id())).unwrap();
        wait_for_end(&options, None).unwrap();
    }
}
