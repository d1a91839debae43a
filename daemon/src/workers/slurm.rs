//! Slurm's commands: submitting a job, asking where it stands, ending it. Each runs without a shell, with a cleared environment,
//! a deadline, and an end to how much of its words is read. Lives here: what is said to them and how their words are read. Never
//! here: following a job (`far`), what a job is for (jobs).

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::pool::{SlurmPlace, SlurmView};

use crate::pools::SlurmRun;

/// The file that Slurm starts. It is the same for every job: what differs comes as arguments, which no shell reads again.
pub const SCRIPT: &str = "#!/bin/sh\nexec \"$1\" node \"$2\" \"$3\"\n";
/// Its name in an attempt's folder, and that of its words.
pub const SCRIPT_NAME: &str = "run.sh";
/// Where Slurm puts what the job says.
pub const LOG_NAME: &str = "log";
/// A command that takes longer is ended: a controller under load answers in seconds.
const COMMAND_MS: u64 = 30_000;
/// Bytes of a command's answer that are read.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;
/// Seconds before its end at which Slurm announces a time limit; it is punctual to a minute.
const NOTICE_S: u32 = 60;
/// What is asked of each job, with `|` between.
const COLUMNS: &str = "%i|%T|%r|%N|%M|%C";
/// The same of accounting.
const PAST_COLUMNS: &str = "JobIDRaw,State,Reason,NodeList,ElapsedRaw,AllocCPUS";
/// The state of a job that nobody knows any more.
pub const UNKNOWN: &str = "UNKNOWN";

/// How a command ended.
#[derive(Debug)]
enum Said {
    Well(String),
    /// With its last words.
    Badly(String),
}

fn kept() -> impl Iterator<Item = (&'static str, OsString)> {
    ["PATH", "HOME", "USER", "SLURM_CONF", "HONE_TEST_FAULT", "HONE_ISA", "HONE_BACKENDS"]
        .into_iter()
        .filter_map(|word| Some((word, std::env::var_os(word)?)))
}

/// Runs a command of Slurm's.
async fn command(program: &'static str, arguments: Vec<OsString>) -> Result<Said, Failure> {
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(kept()).env("LC_ALL", "C").current_dir("/");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        read_out(child?)
    })
    .await;
    match ran {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let message =
                format!("{program} is not on this machine; install Slurm's client commands (Debian: slurm-client)");
            Err(Failure::new(FailureCode::SlurmFailed, message).at("pool"))
        }
        Ok(Err(error)) => Err(Failure::new(FailureCode::SlurmFailed, format!("{program}: {error}")).at("pool")),
        Err(error) => Err(Failure::new(FailureCode::Internal, error.to_string())),
    }
}

/// Reads both streams to their bound; ends a command that takes too long.
fn read_out(mut child: Child) -> std::io::Result<Said> {
    let (told, done) = channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
    ];
    for (number, stream) in streams.into_iter().enumerate() {
        let told = told.clone();
        std::thread::Builder::new().name("slurm".into()).stack_size(128 << 10).spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // What is read stays, whatever ends the reading.
                let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
            }
            let _ = told.send((number, bytes));
        })?;
    }
    let mut words = [Vec::new(), Vec::new()];
    for _ in 0..words.len() {
        match done.recv_timeout(Duration::from_millis(COMMAND_MS)) {
            Ok((number, bytes)) => words[number] = bytes,
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Said::Badly(format!("no answer in {} s", COMMAND_MS / 1000)));
            }
        }
    }
    // Both streams are closed: it has ended, or is about to.
    let status = child.wait()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(match status.success() {
        true => Said::Well(text(&words[0])),
        false => {
            let said = text(&words[1]);
            Said::Badly(if said.is_empty() { format!("ended with {status}") } else { last_words(&said) })
        }
    })
}

/// The last lines of what a command said, in one.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(3);
    lines[from..].join(" | ")
}

/// Whether a refusal says that the controller could not be asked, not what it thinks of the job.
fn is_unreachable(said: &str) -> bool {
    [
        "Unable to contact",
        "Socket timed out",
        "onnection refused",
        "standby",
        "Communication",
        "no answer in",
        "Zero Bytes",
    ]
    .iter()
    .any(|words| said.contains(words))
}

fn failed(program: &str, said: String) -> Failure {
    match is_unreachable(&said) {
        true => Failure::new(FailureCode::Interrupted, format!("{program}: {said}")).hint(HintCode::TryAgain),
        false => Failure::new(FailureCode::SlurmFailed, format!("{program}: {said}")),
    }
    .at("pool")
}

/// Slurm expands `%` in the name of a log.
fn literal(path: &Path) -> OsString {
    path.display().to_string().replace('%', "%%").into()
}

fn submit_arguments(run: &SlurmRun, program: &Path, model: &Path, threads: u32) -> Vec<OsString> {
    let SlurmPlace { partition, account, qos, minutes, memory_mib, gres, options, .. } = &run.place;
    let folder = Path::new(&run.folder);
    let mut words: Vec<OsString> =
        ["--parsable", "--no-requeue", "--nodes=1", "--ntasks=1", "--export=ALL"].map(OsString::from).into();
    words.push(format!("--job-name={}", run.name()).into());
    words.push(format!("--cpus-per-task={threads}").into());
    words.push(format!("--signal=B:TERM@{NOTICE_S}").into());
    let log: OsString = [OsString::from("--output="), literal(&folder.join(LOG_NAME))].into_iter().collect();
    words.push(log);
    words.push(format!("--chdir={}", run.folder).into());
    let named = [("partition", partition), ("account", account), ("qos", qos), ("gres", gres)];
    words.extend(named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?).into())));
    words.extend(minutes.map(|minutes| format!("--time={minutes}").into()));
    words.extend(memory_mib.map(|mib| format!("--mem={mib}M").into()));
    words.extend(options.iter().map(OsString::from));
    words.push(folder.join(SCRIPT_NAME).into());
    words.extend([program.into(), folder.into(), model.into()]);
    words
}

/// Submits an attempt. What is in its folder must be complete. Answers with Slurm's number.
pub async fn submit(run: &SlurmRun, program: &Path, model: &Path, threads: u32) -> Result<String, Failure> {
    match command("sbatch", submit_arguments(run, program, model, threads)).await? {
        Said::Well(answer) => {
            // `number` or `number;cluster`, after whatever the site says first.
            let line = answer.lines().last().unwrap_or_default();
            let number = line.split(';').next().unwrap_or_default().trim();
            match !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
                true => Ok(number.to_owned()),
                false => Err(failed("sbatch", format!("{line:?} is no job number"))),
            }
        }
        Said::Badly(said) => Err(failed("sbatch", said)),
    }
}

/// Looks for a submitted attempt by its name; the oldest of several.
pub async fn find(run: &SlurmRun) -> Result<Option<SlurmView>, Failure> {
    let name = format!("--name={}", run.name());
    let words = ["--noheader", "--states=all", "--format", COLUMNS, name.as_str()].map(OsString::from);
    let listed = match command("squeue", words.into()).await? {
        Said::Well(answer) => read_list(&answer),
        Said::Badly(said) => return Err(failed("squeue", said)),
    };
    let of_past = match listed.is_empty() {
        true => past(&[&name, "--starttime=now-30days"]).await,
        false => None,
    };
    Ok(listed.into_iter().min_by_key(|view| view.number.parse::<u64>().unwrap_or(u64::MAX)).or(of_past))
}

/// Where a job stands. One that Slurm has forgotten is [`UNKNOWN`].
pub async fn look(number: &str) -> Result<SlurmView, Failure> {
    let job = format!("--jobs={number}");
    let words = ["--noheader", "--states=all", "--format", COLUMNS, job.as_str()].map(OsString::from);
    let listed = match command("squeue", words.into()).await? {
        Said::Well(answer) => read_list(&answer),
        Said::Badly(said) if said.contains("Invalid job id") => Vec::new(),
        Said::Badly(said) => return Err(failed("squeue", said)),
    };
    match listed.into_iter().find(|view| view.number == number) {
        Some(view) => Ok(view),
        None => Ok(past(&[&job]).await.unwrap_or_else(|| SlurmView {
            number: number.to_owned(),
            state: UNKNOWN.to_owned(),
            ..SlurmView::default()
        })),
    }
}

/// What accounting knows of a job that the controller has forgotten. Many clusters, and all small ones, have none.
async fn past(which: &[&str]) -> Option<SlurmView> {
    let mut words: Vec<OsString> = ["--noheader", "--parsable2", "--allocations"].map(OsString::from).into();
    words.push(format!("--format={PAST_COLUMNS}").into());
    words.extend(which.iter().map(OsString::from));
    match command("sacct", words).await {
        Ok(Said::Well(answer)) => read_list(&answer).into_iter().next(),
        _ => None,
    }
}

/// Ends a job. One that has ended already is no mistake.
pub async fn cancel(number: &str) -> Result<(), Failure> {
    match command("scancel", vec!["--quiet".into(), number.into()]).await? {
        Said::Well(_) => Ok(()),
        Said::Badly(said) if said.contains("Invalid job id") => Ok(()),
        Said::Badly(said) => Err(failed("scancel", said)),
    }
}

fn read_list(answer: &str) -> Vec<SlurmView> {
    answer.lines().filter_map(read_line).collect()
}

/// A line of `squeue` or `sacct`; nothing where it is none.
fn read_line(line: &str) -> Option<SlurmView> {
    let mut words = line.trim().split('|');
    let mut word = || words.next().map(|word| word.chars().take(256).collect::<String>());
    let (number, state, reason, node, elapsed, cpus) = (word()?, word()?, word()?, word()?, word()?, word()?);
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let known =
        |text: String| if matches!(text.as_str(), "None" | "None assigned" | "(null)") { String::new() } else { text };
    Some(SlurmView {
        number,
        // `CANCELLED by 1000`.
        state: state.split(' ').next()?.to_owned(),
        reason: known(reason),
        node: known(node),
        elapsed_s: seconds(&elapsed)?,
        cpus: cpus.trim().parse().ok()?,
        gpus: 0,
    })
}

/// `3`, `1:02`, `3:04:05`, `2-03:04:05` in seconds. One number is seconds.
fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.trim().split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text.trim()),
    };
    if clock == "INVALID" {
        return Some(0);
    }
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    (parts.len() <= 3).then(|| days * 86_400 + parts.iter().fold(0, |all, part| all * 60 + part))
}

/// GPUs that `gres` asks for: `gpu`, `gpu:2`, `gpu:a100:2`, in a list with others.
pub fn gpus(place: &SlurmPlace) -> u32 {
    let of = |one: &str| {
        let mut words = one.split(':');
        if words.next() != Some("gpu") {
            return 0;
        }
        words.next_back().map_or(1, |last| last.parse().unwrap_or(1))
    };
    place.gres.as_deref().map_or(0, |gres| gres.split(',').map(of).sum())
}

/// Whether a state is an end. Unknown words of later versions are none.
pub fn is_over(state: &str) -> bool {
    matches!(
        state,
        "BOOT_FAIL"
            | "CANCELLED"
            | "COMPLETED"
            | "DEADLINE"
            | "FAILED"
            | "NODE_FAIL"
            | "OUT_OF_MEMORY"
            | "PREEMPTED"
            | "REVOKED"
            | "TIMEOUT"
            | UNKNOWN
    )
}

/// The failure of a job that ended without its child saying how.
pub fn ended(view: &SlurmView) -> Failure {
    let SlurmView { number, state, reason, node, .. } = view;
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let again = |what: &str| {
        let message = format!("Slurm job {number} {what}{reason}; the run goes on from its checkpoint in a new job");
        Failure::new(FailureCode::Interrupted, message)
    };
    let for_good = |code, what: &str| Failure::new(code, format!("Slurm job {number} {what}{reason}"));
    let failure = match state.as_str() {
        "TIMEOUT" | "DEADLINE" => again("reached its time limit"),
        "NODE_FAIL" | "BOOT_FAIL" => again(&format!("lost its node {node}")),
        "PREEMPTED" => again("had to give way to others"),
        UNKNOWN => again("is no longer known to Slurm"),
        "OUT_OF_MEMORY" => {
            let what = "needed more memory than it asked for; give the pool more memory, or choose a shorter sequence or a smaller batch";
            for_good(FailureCode::DoesNotFit, what).hint(HintCode::ReduceMemory)
        }
        "CANCELLED" => {
            for_good(FailureCode::SlurmFailed, "was cancelled in Slurm; hone job resume goes on from the checkpoint")
        }
        // A node without hone's programs, a full disk, a worker that does not start.
        _ => for_good(FailureCode::WorkerDied, &format!("ended as {state} on {node} and no reason"))
            .hint(HintCode::ReadLog),
    };
    failure.arg("slurm_job", number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::id::JobId;

    fn run() -> SlurmRun {
        SlurmRun {
            job: JobId::from_bytes([7; 16]),
            attempt: 2,
            place: SlurmPlace {
                folder: "/shared/100%".into(),
                programs: None,
                partition: Some("main".into()),
                account: None,
                qos: Some("night".into()),
                minutes: Some(90),
                cores: 4,
                memory_mib: Some(2048),
                gres: Some("gpu:a100:2,tmp:5G".into()),
                options: vec!["--constraint=avx512".into()],
            },
            folder: "/shared/100%/hone $(rm -rf ~)".into(),
            position: 0,
            began_at_ms: 0,
            plan: None,
            view: SlurmView::default(),
        }
    }

    #[test]
    fn what_is_submitted_is_arguments_and_a_constant_file() {
        let words = submit_arguments(&run(), Path::new("/opt/hone/honed"), Path::new("/shared/m.gguf"), 4);
        let words: Vec<String> = words.into_iter().map(|word| word.into_string().unwrap()).collect();
        insta::assert_snapshot!(words.join("\n"));
        assert!(!SCRIPT.contains("shared"));
    }

    #[test]
    fn lists_are_read_and_what_is_no_line_is_passed_over() {
        let answer =
            "slurm says hello\n12|RUNNING|None|n[1-2]|1-02:03:04|8\n13|PENDING|Resources||0:00|2\n14|X|\n|||||\n";
        let read = read_list(answer);
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].elapsed_s, read[0].cpus, read[0].node.as_str()), (93_784, 8, "n[1-2]"));
        assert_eq!(
            (read[1].state.as_str(), read[1].reason.as_str(), read[1].node.as_str()),
            ("PENDING", "Resources", "")
        );
        let past = read_line("12|CANCELLED by 1000|None|None assigned|61|2").unwrap();
        assert_eq!((past.state.as_str(), past.node.as_str(), past.elapsed_s), ("CANCELLED", "", 61));
        assert_eq!(
            [seconds("5"), seconds("1:02"), seconds("x"), seconds("INVALID")],
            [Some(5), Some(62), None, Some(0)]
        );
    }

    #[test]
    fn gpus_are_counted_out_of_gres() {
        let of = |gres: &str| gpus(&SlurmPlace { gres: Some(gres.into()), ..run().place });
        assert_eq!([of("gpu"), of("gpu:3"), of("gpu:a100:2,tmp:5G"), of("gpu:h100"), of("tmp:1")], [1, 3, 2, 1, 0]);
        assert_eq!(gpus(&SlurmPlace { gres: None, ..run().place }), 0);
    }

    #[test]
    fn an_end_says_what_comes_next() {
        let of = |state: &str| {
            let failure = ended(&SlurmView { number: "9".into(), state: state.into(), ..SlurmView::default() });
            assert!(is_over(state), "{state}");
            failure.code
        };
        for again in ["TIMEOUT", "NODE_FAIL", "PREEMPTED", UNKNOWN] {
            assert_eq!(of(again), FailureCode::Interrupted, "{again}");
        }
        assert_eq!(of("OUT_OF_MEMORY"), FailureCode::DoesNotFit);
        assert_eq!(of("CANCELLED"), FailureCode::SlurmFailed);
        assert_eq!(of("FAILED"), FailureCode::WorkerDied);
        for state in ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"] {
            assert!(!is_over(state), "{state}");
        }
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_says_what_to_install() {
        let failure = command("no-such-command-of-slurm", Vec::new()).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::SlurmFailed);
        assert!(failure.message_en.contains("slurm-client"), "{failure}");
        let said = command("sh", vec!["-c".into(), "echo no; echo why >&2; exit 1".into()]).await.unwrap();
        assert!(matches!(said, Said::Badly(words) if words == "why"));
    }
}
