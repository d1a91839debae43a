//! The fence of every class of child, tried from inside: this test's own program is started through `honed child`,
//! tries each act, and says how it ended. Lives here: what must be refused and what must work, as root and as anyone.
//! Never here: what a class is for, and the words of the table (unit tests of `src/sandbox`).
//!
//! On a kernel without a layer the child must say so; what only that layer refuses is then not asked for.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use honed::sandbox::{self, APPLIED_VARIABLE, Class, EXIT_NO_PROGRAM, EXIT_REFUSED, MISSING, Paths, TABLE};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// The environment variable in which a test says what its own program shall try: lines of an act and its argument.
const TRY_VARIABLE: &str = "HONE_TEST_TRY";
/// What begins a line about a try.
const TRIED: &str = "tried ";

/// A folder as a state directory looks, with one that is given and one that is not.
struct Ground {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    _unix: UnixListener,
}

impl Ground {
    fn new() -> Ground {
        let folder = tempfile::Builder::new().prefix("hone-").tempdir_in("/tmp").unwrap();
        for name in ["given", "scratch", "run"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["given/model.gguf", "store.redb", "secret"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::copy("/bin/true", folder.path().join("scratch/program")).unwrap();
        let unix = UnixListener::bind(folder.path().join("run/hone.sock")).unwrap();
        Ground { folder, tcp: TcpListener::bind("127.0.0.1:0").unwrap(), _unix: unix }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start(&self, class: Class, program: &Path, arguments: &[&str], tries: &[String]) -> Output {
        let paths = Paths::none().read(self.path("given")).write(self.path("scratch"));
        Command::new(env!("CARGO_BIN_EXE_honed"))
            .args(sandbox::arguments(class, std::process::id(), &paths, program, arguments))
            .env(TRY_VARIABLE, tries.join("\n"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Lets a child of a class try acts.
    fn tries(&self, class: Class, acts: &[(&str, &str)]) -> Tries {
        let lines: Vec<String> = acts.iter().map(|(act, argument)| format!("{act} {argument}")).collect();
        let own = std::env::current_exe().unwrap();
        let output = self.start(class, &own, &["--exact", "the_program_inside", "--nocapture"], &lines);
        let said = String::from_utf8(output.stdout).unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class:?} ended with {}: {said}{words}", output.status);
        let line = |start: &str| said.lines().find_map(|l| l.split_once(start).map(|(_, rest)| rest.to_owned()));
        let applied = line("applied ").expect("the fence is said").split("; ").map(str::to_owned).collect();
        let answer = |act: &String| line(&format!("{TRIED}{act}: ")).unwrap_or_else(|| panic!("{act}: {said}{words}"));
        Tries { class, answers: lines.iter().map(|act| (act.clone(), answer(act))).collect(), applied }
    }
}

struct Tries {
    class: Class,
    applied: Vec<String>,
    answers: Vec<(String, String)>,
}

impl Tries {
    fn lacks(&self, word: &str) -> bool {
        self.applied.iter().any(|item| item.starts_with(MISSING) && item.contains(word))
    }

    /// All were refused, unless the child said that the layer is missing.
    fn refused(&self, layer: &str) {
        for (act, answer) in &self.answers {
            let refused = answer.starts_with("refused");
            assert!(refused || self.lacks(layer), "{:?}: {act} was {answer}; applied: {:?}", self.class, self.applied);
        }
    }

    fn worked(&self) {
        for (act, answer) in &self.answers {
            assert_eq!(answer, "done", "{:?}: {act}; applied: {:?}", self.class, self.applied);
        }
    }
}

/// Not a test of its own: what the tests below start. Without their variable it does nothing.
#[test]
fn the_program_inside() {
    let Ok(acts) = std::env::var(TRY_VARIABLE) else { return };
    println!("\napplied {}", std::env::var(APPLIED_VARIABLE).unwrap());
    for line in acts.lines() {
        let (act, argument) = line.split_once(' ').unwrap();
        let answer = match attempt(act, argument) {
            Ok(()) => "done".to_owned(),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => format!("refused ({e})"),
            Err(e) => format!("failed ({e})"),
        };
        println!("{TRIED}{line}: {answer}");
    }
}

fn attempt(act: &str, argument: &str) -> std::io::Result<()> {
    let other = |suffix: &str| PathBuf::from(format!("{argument}{suffix}"));
    match act {
        "read" => fs::read(argument).map(drop),
        "list" => fs::read_dir(argument).map(drop),
        "write" => fs::write(argument, "words"),
        "cut" => fs::OpenOptions::new().write(true).truncate(true).open(argument).map(drop),
        "remove" => fs::remove_file(argument),
        "folder" => fs::create_dir(argument).and_then(|()| fs::remove_dir(argument)),
        "move" => fs::rename(argument, other(".moved")).and_then(|()| fs::rename(other(".moved"), argument)),
        "mode" => fs::set_permissions(argument, fs::Permissions::from_mode(0o700)),
        "tcp" => TcpStream::connect(argument).map(drop),
        "listen" => TcpListener::bind(argument).map(drop),
        "udp" => UdpSocket::bind(argument).map(drop),
        "unix" => UnixStream::connect(argument).map(drop),
        "pair" => UnixStream::pair().map(drop),
        "thread" => std::thread::Builder::new().spawn(|| ()).map(drop),
        "start" => Command::new(argument).stdin(Stdio::null()).status().map(drop),
        // Where it works, this program is gone and its answer missing.
        "become" => Err(Command::new(argument).exec()),
        "ptrace" => nix::sys::ptrace::traceme().map_err(Into::into),
        "mount" => mount(None::<&str>, argument, Some("tmpfs"), MsFlags::empty(), None::<&str>).map_err(Into::into),
        "namespace" => unshare(CloneFlags::CLONE_NEWUSER).map_err(Into::into),
        "signal" => {
            let parent = rustix::process::getppid().expect("it has a parent");
            rustix::process::test_kill_process(parent).map_err(Into::into)
        }
        "allocate" => {
            let bytes = argument.parse().expect("a number");
            let refused = Vec::<u8>::new().try_reserve_exact(bytes).is_err();
            if refused { Err(ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        }
        "grow" => fs::File::create(argument)?.set_len(1 << 62),
        other => panic!("no act {other:?}"),
    }
}

#[test]
fn no_class_reads_or_writes_what_is_not_its_own() {
    let ground = Ground::new();
    let (store, secret, given) = (ground.path("store.redb"), ground.path("secret"), ground.path("given/model.gguf"));
    let (state, new) = (ground.path(""), ground.path("new"));
    let environment = format!("/proc/{}/environ", std::process::id());
    for class in TABLE.map(|r| r.class) {
        ground
            .tries(
                class,
                &[
                    ("read", &store),
                    ("read", &secret),
                    ("read", &environment),
                    ("list", &state),
                    ("list", &ground.path("run")),
                    ("write", &new),
                    ("write", &store),
                    ("write", &given),
                    ("remove", &secret),
                    ("remove", &given),
                    ("folder", &new),
                    ("become", &ground.path("scratch/program")),
                ],
            )
            .refused("Landlock");
        ground.tries(class, &[("cut", &secret), ("cut", &given)]).refused("trunc");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(fs::read_to_string(&given).unwrap(), "given/model.gguf");
    }
}

#[test]
fn every_class_reads_what_is_given_and_writes_its_scratch() {
    let ground = Ground::new();
    for class in TABLE.map(|r| r.class) {
        ground
            .tries(
                class,
                &[
                    ("read", &ground.path("given/model.gguf")),
                    ("list", &ground.path("given")),
                    ("write", &ground.path("scratch/a")),
                    ("read", &ground.path("scratch/a")),
                    ("cut", &ground.path("scratch/a")),
                    ("move", &ground.path("scratch/a")),
                    ("remove", &ground.path("scratch/a")),
                    ("folder", &ground.path("scratch/b")),
                    ("write", "/dev/null"),
                    ("read", "/proc/self/statm"),
                    ("read", "/proc/meminfo"),
                    ("list", "/usr/lib"),
                    ("thread", "of its own"),
                    ("pair", "of sockets"),
                ],
            )
            .worked();
    }
}

#[test]
fn only_fetcher_and_upstream_have_a_network_and_nobody_reaches_the_daemon() {
    let ground = Ground::new();
    let tcp = ground.tcp.local_addr().unwrap().to_string();
    let socket = ground.path("run/hone.sock");
    for rules in TABLE {
        ground.tries(rules.class, &[("unix", &socket)]).refused("seccomp");
        if rules.network {
            ground.tries(rules.class, &[("tcp", &tcp), ("udp", "127.0.0.1:0")]).worked();
            ground.tries(rules.class, &[("listen", "127.0.0.1:0")]).refused("TCP");
        } else {
            ground
                .tries(rules.class, &[("tcp", &tcp), ("listen", "127.0.0.1:0"), ("udp", "[::1]:0")])
                .refused("seccomp");
        }
    }
}

#[test]
fn no_class_reaches_other_processes_or_the_kernel() {
    let ground = Ground::new();
    let mount = ground.path("scratch");
    for class in TABLE.map(|r| r.class) {
        ground.tries(class, &[("ptrace", "-"), ("mount", &mount), ("namespace", "-")]).refused("seccomp");
        ground.tries(class, &[("signal", "to the parent")]).refused("signals");
    }
}

#[test]
fn only_fetcher_and_tools_start_programs() {
    let ground = Ground::new();
    for rules in TABLE {
        if rules.exec {
            ground.tries(rules.class, &[("start", "/bin/true"), ("mode", &ground.path("scratch/program"))]).worked();
            ground.tries(rules.class, &[("start", &ground.path("scratch/program"))]).refused("Landlock");
        } else {
            let own = [("start", "/bin/true"), ("mode", &*ground.path("scratch/program"))];
            ground.tries(rules.class, &own).refused("seccomp");
            ground.tries(rules.class, &[("become", "/bin/true")]).refused("Landlock");
        }
    }
}

#[test]
fn limits_hold() {
    let ground = Ground::new();
    for rules in TABLE {
        let tries = ground.tries(rules.class, &[("read", "/proc/self/limits")]);
        tries.worked();
        let said = format!("file size {}, core files 0, open files {}", rules.file_bytes, rules.open_files);
        assert!(tries.applied.iter().any(|item| item.contains(&said)), "{said}: {:?}", tries.applied);
        if let Some(bytes) = rules.address_space_bytes {
            ground.tries(rules.class, &[("allocate", &(bytes + 1).to_string())]).refused("address space");
        }
        // What a program that did not arrange for it hears of a file beyond the limit.
        let own = std::env::current_exe().unwrap();
        let grow = [format!("grow {}", ground.path("scratch/big"))];
        let ended = ground.start(rules.class, &own, &["--exact", "the_program_inside"], &grow).status;
        assert_eq!(ended.signal(), Some(rustix::process::Signal::XFSZ.as_raw()), "{ended}");
    }
}

#[test]
fn a_program_ends_with_the_process_that_started_its_shim() {
    // The shell is the parent; the program inside keeps the pipe open as long as it lives.
    let script = "\"$0\" child tool --parent $$ -- /bin/sh -c 'echo inside; exec sleep 600' & wait";
    let mut parent = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_honed")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(parent.stdout.take().unwrap());
    let (mut line, begun) = (String::new(), Instant::now());
    words.read_line(&mut line).unwrap();
    assert_eq!(line, "inside\n");
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert_eq!(words.read_line(&mut line).unwrap(), 0, "the pipe is closed");
    assert!(begun.elapsed() < Duration::from_secs(300), "it did not end with its parent");
}

#[test]
fn a_shim_that_cannot_go_on_says_why() {
    let ground = Ground::new();
    let absent = ground.start(Class::Tool, Path::new("/absent/program"), &[], &[]);
    assert_eq!(absent.status.code(), Some(i32::from(EXIT_NO_PROGRAM)));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/absent/program could not be started"));
    for line in [&["child"][..], &["child", "king", "--parent", "1", "--", "/bin/true"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_honed")).args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(EXIT_REFUSED)));
        assert!(String::from_utf8_lossy(&output.stderr).contains("only the daemon starts"));
    }
    let orphan = sandbox::arguments(Class::Tool, 1, &Paths::none(), Path::new("/bin/true"), &[]);
    let output = Command::new(env!("CARGO_BIN_EXE_honed")).args(orphan).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is gone") && !output.status.success());
}
