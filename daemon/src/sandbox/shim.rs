//! `honed child CLASS --parent PID [--read PATH]… [--write PATH]… -- PROGRAM ARGS…`: fences its own process and
//! becomes the program. Lives here: the order of the layers. Never here: what a class may do (the table says), and
//! anything that runs beside the program; this code is gone when the program begins.
//!
//! What the system lacks is named and the program runs all the same. Only a parent that is gone, or a command line
//! that makes no sense, ends it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Rlimit, Signal, getppid, getrlimit, nice, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

use super::{APPLIED_VARIABLE, Class, MISSING, Paths, Rules, calls, files};

/// Exit status of a shim that was called wrongly, or whose parent is gone.
pub const EXIT_REFUSED: u8 = 125;
/// How much a long computation gives way: it has the cores while nobody else wants them.
const GIVES_WAY: i32 = 10;
/// Exit status of a shim whose program cannot be started.
pub const EXIT_NO_PROGRAM: u8 = 127;

struct Call {
    class: Class,
    parent: i32,
    paths: Paths,
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// The shim's main, with what follows `honed child`. It returns only when the program cannot be started.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let call = match parse(arguments) {
        Ok(call) => call,
        Err(reason) => {
            eprintln!("this is an inner part of honed that only the daemon starts ({reason}); run `honed` instead");
            return ExitCode::from(EXIT_REFUSED);
        }
    };
    let mut applied = Vec::new();
    layer(&mut applied, "ends with its parent", "parent-death signal, so it ends when fd 0 hangs up", || {
        set_parent_process_death_signal(Some(Signal::KILL))
    });
    // The parent may have ended before the signal was asked for; then nobody will ever send it.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(call.parent) {
        eprintln!("the daemon (process {}) is gone", call.parent);
        return ExitCode::from(EXIT_REFUSED);
    }
    fence(&call, &mut applied);
    for missing in applied.iter().filter(|item| item.starts_with(MISSING)) {
        eprintln!("honed child {}: {missing}", call.class.rules().word);
    }
    let error = Command::new(&call.program).args(&call.arguments).env(APPLIED_VARIABLE, join(&applied)).exec();
    eprintln!("{} could not be started: {error}", call.program.display());
    ExitCode::from(EXIT_NO_PROGRAM)
}

fn join(applied: &[String]) -> String {
    let items: Vec<String> = applied.iter().map(|item| item.replace(';', ",")).collect();
    items.join("; ")
}

fn fence(call: &Call, applied: &mut Vec<String>) {
    let rules = call.class.rules();
    layer(applied, "no new privileges", "no new privileges", || set_no_new_privs(true));
    layer(applied, "no capabilities but reading and writing files", "giving up capabilities", give_up_capabilities);
    limit(rules, applied);
    if gives_way(call) {
        layer(applied, "gives way to people and requests", "giving way to others", || nice(GIVES_WAY).map(drop));
    }
    applied.extend(files::restrict(rules, &call.paths, &call.program));
    match calls::restrict(rules) {
        Ok(words) => applied.push(words),
        Err(error) => applied.push(format!("{MISSING}seccomp ({error}), so system calls are not fenced")),
    }
}

/// Whether a child computes for hours with all cores, while people type and requests wait for an answer.
fn gives_way(call: &Call) -> bool {
    let mode = call.arguments.first().and_then(|word| word.to_str());
    call.class == Class::Compute && matches!(mode, Some("train" | "convert"))
}

fn layer<E: std::fmt::Display>(
    applied: &mut Vec<String>,
    done: &str,
    lacking: &str,
    act: impl FnOnce() -> Result<(), E>,
) {
    applied.push(match act() {
        Ok(()) => done.to_owned(),
        Err(error) => format!("{MISSING}{lacking} ({error})"),
    });
}

/// A daemon that runs as root keeps for its children only what reads and writes other people's files, which their
/// owner asked it to do; Landlock says which files those are.
fn give_up_capabilities() -> rustix::io::Result<()> {
    let keep = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let have = capabilities(None)?;
    let sets = CapabilitySets {
        effective: have.effective & keep,
        permitted: have.permitted & keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

fn limit(rules: &Rules, applied: &mut Vec<String>) {
    let table = [
        (Resource::As, rules.address_space_bytes, "address space"),
        (Resource::Cpu, rules.cpu_s, "processor time"),
        (Resource::Fsize, Some(rules.file_bytes), "file size"),
        (Resource::Core, Some(0), "core files"),
        (Resource::Nofile, Some(rules.open_files), "open files"),
        (Resource::Nproc, rules.processes, "processes"),
    ];
    let mut said = Vec::new();
    for (resource, most, what) in table {
        let Some(most) = most else { continue };
        // Never ask for more than the hard limit that the daemon itself was given: raising is refused.
        let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        match setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }) {
            Ok(()) => said.push(format!("{what} {most}")),
            Err(error) => applied.push(format!("{MISSING}the limit of {what} ({error})")),
        }
    }
    applied.push(format!("limits: {}", said.join(", ")));
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Call, String> {
    let class = words.next().unwrap_or_default();
    let class = class.to_str().and_then(Class::named).ok_or_else(|| format!("{class:?} is no class of child"))?;
    let (mut parent, mut paths) = (None, Paths::none());
    loop {
        let Some(flag) = words.next() else { return Err("no program".into()) };
        if flag == "--" {
            break;
        }
        let value = words.next().ok_or_else(|| format!("{flag:?} needs a value"))?;
        match flag.to_str() {
            Some("--parent") => parent = value.to_str().and_then(|v| v.parse().ok()),
            Some("--read") => paths = paths.read(value),
            Some("--write") => paths = paths.write(value),
            _ => return Err(format!("{flag:?} is no option")),
        }
    }
    Ok(Call {
        class,
        parent: parent.ok_or("--parent is missing")?,
        paths,
        program: words.next().map(PathBuf::from).ok_or("no program")?,
        arguments: words.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox;
    use std::path::Path;

    #[test]
    fn what_the_spawner_writes_is_what_the_shim_reads() {
        let paths = Paths::none().read("/a b").write("/c");
        let words = sandbox::arguments(Class::Data, 7, &paths, Path::new("/bin/x"), &["data", "--", "-v"]);
        assert_eq!(words[0], "child");
        let call = parse(words.into_iter().skip(1)).ok().unwrap();
        assert_eq!((call.class, call.parent, call.program), (Class::Data, 7, PathBuf::from("/bin/x")));
        assert_eq!((call.paths, call.arguments), (paths, ["data", "--", "-v"].map(OsString::from).to_vec()));
    }

    #[test]
    fn a_command_line_that_makes_no_sense_is_refused() {
        for line in ["", "king", "data", "data --parent x -- p", "data -- p", "data --parent 1 --", "data --run 1 -- p"]
        {
            assert!(parse(line.split(' ').map(OsString::from)).is_err(), "{line}");
        }
    }
}
