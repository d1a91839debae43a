//! `honed data` as the daemon sees it: a real process behind a socket pair.
//! Lives here: hello, tasks, memory, hang-ups, broken frames. Never here: the rules of import (see the crate `hone_data`).

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hone_protocol::dataset::{ImportReport, Part, RowFormat, Segment, Split};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::frame;
use hone_protocol::wire;
use hone_protocol::worker::{ExportTask, FromWorker, ImportTask, ReadTask, Select, ToWorker};
use honed::child::{ALLOCATOR, EXIT_BAD_FRAME};
use honed::sandbox::{self, APPLIED_VARIABLE, Class, Paths};

const EVERYTHING: Split = Split { held_out_percent: 0, seed: 0 };

struct DataChild {
    process: Child,
    socket: UnixStream,
    sandbox: Vec<String>,
}

fn spawn(parent: u32) -> (Child, UnixStream) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honed"));
    // The files of these tests: what the daemon gives its children is for the tests that start a daemon.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let paths = Paths::none().write(std::env::temp_dir()).read(fixtures);
    command.args(sandbox::arguments(Class::Data, parent, &paths, Path::new(env!("CARGO_BIN_EXE_honed")), &["data"]));
    spawn_by(command)
}

fn spawn_by(mut command: Command) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let process = command
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (process, ours)
}

impl DataChild {
    fn start() -> DataChild {
        let (process, socket) = spawn(std::process::id());
        DataChild::greet(process, socket)
    }

    fn greet(process: Child, socket: UnixStream) -> DataChild {
        let mut child = DataChild { process, socket, sandbox: Vec::new() };
        match child.read() {
            Some(FromWorker::Hello { protocol, version, sandbox }) => {
                assert_eq!((protocol, version.as_str()), (hone_protocol::PROTOCOL, hone_protocol::VERSION));
                child.sandbox = sandbox;
            }
            other => panic!("{other:?}"),
        }
        child
    }

    fn send(&mut self, message: &ToWorker) {
        self.socket.write_all(&frame::frame(&wire::encode(message)).unwrap()).unwrap();
    }

    fn read(&mut self) -> Option<FromWorker> {
        let mut header = [0; 4];
        self.socket.read_exact(&mut header).ok()?;
        let mut payload = vec![0; frame::length(header).unwrap()];
        self.socket.read_exact(&mut payload).ok()?;
        Some(wire::decode(&payload).unwrap())
    }

    /// The answer to a task, and the progress before it.
    fn answer(&mut self) -> (FromWorker, Vec<(u64, u64)>) {
        let mut steps = Vec::new();
        loop {
            match self.read().expect("an answer before the end") {
                FromWorker::Alive => {}
                FromWorker::Progress { done, total, .. } => steps.push((done, total)),
                answer => return (answer, steps),
            }
        }
    }

    fn end(mut self) -> ExitStatus {
        assert_eq!(self.read(), None, "nothing follows the answer");
        self.process.wait().unwrap()
    }
}

fn import_task(path: &Path, folder: &Path) -> ToWorker {
    ToWorker::Import(ImportTask {
        path: path.display().to_string(),
        source: path.display().to_string(),
        format: RowFormat::Detect,
        folder: folder.display().to_string(),
        first_row_id: 0,
    })
}

fn window(request: u64, folder: &Path, segments: &[Segment], offset: u64, count: u32) -> ToWorker {
    let select = Select::Window { offset, count, split: EVERYTHING, part: Part::All };
    ToWorker::Read(ReadTask { request, folder: folder.display().to_string(), segments: segments.to_vec(), select })
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/import").join(name)
}

fn imported(path: &Path, folder: &Path) -> (ImportReport, Vec<Segment>) {
    let mut child = DataChild::start();
    child.send(&import_task(path, folder));
    let (answer, steps) = child.answer();
    assert!(child.end().success());
    assert_eq!(steps.last().map(|(done, total)| done == total), Some(true), "{steps:?}");
    match answer {
        FromWorker::Imported { report, segments } => (report, segments),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_goes_in_and_its_rows_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let (report, segments) = imported(&fixture("mixed.jsonl"), folder.path());
    assert_eq!((report.read, report.kept, report.rejected), (6, 4, 2));

    // One reader serves many pages, and ends when the daemon closes the socket.
    let mut reader = DataChild::start();
    assert!(reader.sandbox.iter().any(|layer| layer.starts_with("limits: ")), "{:?}", reader.sandbox);
    for request in 0..3 {
        reader.send(&window(request, folder.path(), &segments, request, 2));
    }
    for request in 0..3 {
        match reader.answer().0 {
            FromWorker::Window { request: answered, rows, total } => {
                let ids: Vec<u64> = rows.unwrap().iter().map(|row| row.row_id).collect();
                assert_eq!((answered, total, ids), (request, 4, vec![request, request + 1]));
            }
            other => panic!("{other:?}"),
        }
    }
    reader.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(reader.end().success());

    let path = folder.path().join("rows.jsonl");
    let mut exporter = DataChild::start();
    exporter.send(&ToWorker::Export(ExportTask {
        format: hone_protocol::dataset::ExportFormat::Rows,
        folder: folder.path().display().to_string(),
        segments,
        split: EVERYTHING,
        part: Part::All,
        rows_max: 3,
        path: path.display().to_string(),
    }));
    assert_eq!(exporter.answer().0, FromWorker::Exported { rows: 3 });
    assert!(exporter.end().success());
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 3);
}

fn failure(message: &ToWorker) -> Failure {
    let mut child = DataChild::start();
    child.send(message);
    let answer = child.answer().0;
    child.end();
    match answer {
        FromWorker::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_that_cannot_be_done_is_a_failure_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let absent = import_task(&folder.path().join("absent"), folder.path());
    assert_eq!(failure(&absent).code, FailureCode::FileUnreadable);
    assert_eq!(failure(&import_task(&fixture("all-bad.jsonl"), folder.path())).code, FailureCode::NoRows);
    assert_eq!(failure(&ToWorker::StopAtCheckpoint).code, FailureCode::InvalidRequest);
    let nowhere = import_task(&fixture("mixed.jsonl"), Path::new("/proc/self/nowhere"));
    assert_eq!(failure(&nowhere).code, FailureCode::NotSaved);
}

#[test]
fn a_file_beyond_the_limit_is_a_failure_and_not_a_death() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    write_chats(&path, 5_000);
    let segments = folder.path().join("segments");
    fs::create_dir(&segments).unwrap();
    // A limit that the shell sets for good, as an administrator would: the child may not raise it.
    let mut shell = Command::new("/bin/sh");
    let paths = Paths::none().write(folder.path());
    let program = Path::new(env!("CARGO_BIN_EXE_honed"));
    let arguments = sandbox::arguments(Class::Data, std::process::id(), &paths, program, &["data"]);
    shell.arg("-c").arg("ulimit -f 64; exec \"$0\" \"$@\"").arg(program).args(arguments);
    let (process, socket) = spawn_by(shell);
    let mut child = DataChild::greet(process, socket);
    child.send(&import_task(&path, &segments));
    match child.answer().0 {
        FromWorker::Failed(failure) => assert_eq!(failure.code, FailureCode::LimitReached, "{failure}"),
        other => panic!("{other:?}"),
    }
    assert!(child.end().success());
    assert_eq!(fs::read_dir(&segments).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn bytes_that_are_no_frame_are_answered_and_end_the_child() {
    for bytes in [&[0, 0, 0, 0][..], &[0xff; 8], &[2, 0, 0, 0, 0xff, 0xff]] {
        let mut child = DataChild::start();
        child.socket.write_all(bytes).unwrap();
        match child.read() {
            Some(FromWorker::Failed(failure)) => assert_eq!(failure.code, FailureCode::BadFrame),
            other => panic!("{other:?}"),
        }
        assert_eq!(child.end().code(), Some(EXIT_BAD_FRAME));
    }
}

#[test]
fn it_starts_only_as_a_child_of_the_daemon_that_named_itself() {
    let (process, _socket) = spawn(1);
    let output = process.wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains("is gone"), "{words}");

    let by_hand = Command::new(env!("CARGO_BIN_EXE_honed"))
        .arg("data")
        .env_remove(APPLIED_VARIABLE)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8(by_hand.stderr).unwrap();
    assert!(!by_hand.status.success() && words.contains("only the daemon starts"), "{words}");
}

#[test]
fn a_daemon_that_goes_away_in_the_middle_of_an_import_ends_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    write_chats(&path, 400_000);
    let mut child = DataChild::start();
    child.send(&import_task(&path, folder.path()));
    assert!(matches!(child.read(), Some(FromWorker::Progress { .. })));
    drop(child.socket);
    child.process.wait().unwrap();
    let whole = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "arrow"));
    assert!(whole.count() < 8, "it did not go on to the end");
}

/// Some 300 bytes a row, no two alike.
fn write_chats(path: &Path, rows: u64) {
    let mut file = BufWriter::new(fs::File::create(path).unwrap());
    for row in 0..rows {
        let mixed = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(
            file,
            r#"{{"messages":[{{"role":"system","content":"You are brief."}},{{"role":"user","content":"Question {row}: what is {mixed:x} in words, and what is it good for?"}},{{"role":"assistant","content":"Answer {row}: {mixed} is a number of {} digits.\nIt is good for tests."}}],"id":{row}}}"#,
            mixed.to_string().len()
        )
        .unwrap();
    }
    file.flush().unwrap();
}

fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find(|line| line.starts_with("VmHWM:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// Follows the peak of a process until it ends.
fn follow_peak(process: u32, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut peak = 0;
        while !ended.load(Ordering::Relaxed) {
            peak = peak.max(peak_kib(process).unwrap_or(0));
            std::thread::yield_now();
        }
        peak
    })
}

/// Imports a file and says by how many KiB the resident memory of the child grew at its peak.
fn import_growth_kib(path: &Path, folder: &Path) -> (ImportReport, Vec<Segment>, u64) {
    let mut child = DataChild::start();
    let before = peak_kib(child.process.id()).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let peak = follow_peak(child.process.id(), Arc::clone(&ended));
    child.send(&import_task(path, folder));
    let (answer, _) = child.answer();
    ended.store(true, Ordering::Relaxed);
    let grown = peak.join().unwrap() - before;
    println!("{} bytes imported; resident memory grew by {grown} KiB", fs::metadata(path).unwrap().len());
    match answer {
        FromWorker::Imported { report, segments } => (report, segments, grown),
        other => panic!("{other:?}"),
    }
}

/// The promise for an import of any size.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

#[test]
fn memory_does_not_grow_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    write_chats(&path, 200_000);
    let (report, segments, grown) = import_growth_kib(&path, folder.path());
    assert_eq!((report.kept, report.rejected, report.duplicates), (200_000, 0, 0));
    // A segment ends with a batch, and holds at most 50,000 rows.
    assert_eq!(segments.iter().map(|segment| segment.rows).sum::<u64>(), 200_000);
    assert!(segments.len() == 5 && segments.iter().all(|segment| segment.rows <= 50_000), "{segments:?}");
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
}

#[test]
fn memory_is_bounded_for_the_longest_lines_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    // Just below the cap, with escapes so that the text cannot stay where it is in the line; then one far beyond.
    let long = "a line of text\\n".repeat((16 << 20) / 16 - 64);
    let row = format!(r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"{long}"}}]}}"#);
    let mut file = fs::File::create(&path).unwrap();
    writeln!(file, "{row}\n{row}").unwrap();
    for _ in 0..20 {
        file.write_all(long.as_bytes()).unwrap();
    }
    writeln!(file, "\n{row}").unwrap();
    let (report, _, grown) = import_growth_kib(&path, folder.path());
    assert_eq!((report.kept, report.rejected, report.duplicates), (3, 1, 2));
    // Each thread may hold one such line: as it is read, as text, and as it is written.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u64;
    assert!(grown < GROWTH_KIB_MAX * threads, "{grown} KiB");
}
