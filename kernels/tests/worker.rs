//! `hone-worker` as the daemon sees it: a process, frames, and what is left when it ends.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hone_protocol::convert::{Card, ConvertTask, ConvertWork, WeightsFormat};
use hone_protocol::dataset::{ChatMessage, Row};
use hone_protocol::failure::FailureCode;
use hone_protocol::generate::{Prompt, Share, Wish};
use hone_protocol::train::TrainParams;
use hone_protocol::value::{Hash, JsonText};
use hone_protocol::worker::{Finish, FromWorker, GenerateTask, Sampling, ServeTask, ToWorker, TrainTask};
use hone_protocol::{frame, wire};

/// Longest wait for one message; a test that meets it fails.
const PATIENCE: Duration = Duration::from_secs(120);

struct Worker {
    child: Child,
    line: UnixStream,
}

impl Worker {
    /// Starts a mode and takes its hello.
    fn start(mode: &str) -> Self {
        let mut worker = Self::spawn(mode);
        match worker.read() {
            Some(FromWorker::Hello { protocol, sandbox, .. }) => {
                assert_eq!(protocol, hone_protocol::PROTOCOL);
                assert_eq!(sandbox, ["one layer", "missing: all others"]);
            }
            other => panic!("no hello but {other:?}"),
        }
        worker
    }

    /// Without its fence: that is the daemon's, and tested there.
    fn spawn(mode: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hone-worker"));
        command.arg(mode);
        Self::of(command)
    }

    /// The same where no file may become larger than so many KiB: writes fail as on a full disk, with another number.
    fn start_with_small_files(mode: &str, kib: &str) -> Self {
        let mut command = Command::new("/bin/bash");
        let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
        command.args(["-c", script, kib, env!("CARGO_BIN_EXE_hone-worker"), mode]);
        let mut worker = Self::of(command);
        assert!(matches!(worker.read(), Some(FromWorker::Hello { .. })));
        worker
    }

    fn of(mut command: Command) -> Self {
        let (line, theirs) = UnixStream::pair().unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = command
            .env_clear()
            .env("HONE_SANDBOX", "one layer; missing: all others")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, line }
    }

    fn send(&mut self, message: &ToWorker) {
        let bytes = frame::frame(&wire::encode(message)).unwrap();
        self.line.write_all(&bytes).unwrap();
    }

    /// The next message; `None` at the end of the line.
    fn read(&mut self) -> Option<FromWorker> {
        let mut header = [0; 4];
        match self.line.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("the worker is silent"),
            Err(_) => return None,
        }
        let mut payload = vec![0; frame::length(header).unwrap()];
        self.line.read_exact(&mut payload).unwrap();
        Some(wire::decode(&payload).unwrap())
    }

    /// The next message that is no heartbeat, progress or load.
    fn next(&mut self) -> FromWorker {
        loop {
            match self.read().expect("the worker ended too early") {
                FromWorker::Alive
                | FromWorker::Progress { .. }
                | FromWorker::Load { .. }
                | FromWorker::Memory { .. } => {}
                message => return message,
            }
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn starter() -> PathBuf {
    let folder = std::env::var_os("HONE_ASSETS")
        .map_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/hone/assets"), PathBuf::from);
    let path = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `make assets`", path.display());
    path
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn say(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.into(), content: content.into() }
}

fn row(row_id: u64) -> Row {
    let messages = vec![
        say("user", &format!("Which berth has ship {row_id}?")),
        say("assistant", &format!("Ship {row_id} lies at berth {}. Fair winds!", row_id % 7)),
    ];
    let content_sha256 = Hash([row_id as u8; 32]);
    Row { row_id, messages, content_sha256, original: JsonText::default() }
}

fn failure(message: FromWorker) -> hone_protocol::failure::Failure {
    match message {
        FromWorker::Failed(failure) | FromWorker::Refused { failure, .. } => failure,
        other => panic!("no failure but {other:?}"),
    }
}

#[test]
fn a_model_is_inspected_and_hashed() {
    let mut worker = Worker::start("inspect");
    worker.send(&ToWorker::Inspect { path: text(&starter()) });
    let FromWorker::Inspected { facts, sha256 } = worker.next() else { panic!() };
    assert_eq!(sha256.to_string(), "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
    assert_eq!((facts.architecture.as_str(), facts.layers, facts.vocabulary), ("llama", 30, 49_152));
    assert_eq!((facts.trainable, facts.has_chat_template), (Ok(()), true));
    assert_eq!(worker.exit_code(), Some(0));
}

#[test]
fn files_that_are_no_models_are_refused_by_name_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.gguf");
    std::fs::write(&cut, &std::fs::read(starter()).unwrap()[..100_000]).unwrap();
    let noise = folder.path().join("noise.gguf");
    std::fs::write(&noise, b"PK\x03\x04 not a model").unwrap();
    let missing = folder.path().join("missing.gguf");
    for (path, code) in
        [(&cut, FailureCode::BadFile), (&noise, FailureCode::BadFile), (&missing, FailureCode::FileUnreadable)]
    {
        let mut worker = Worker::start("inspect");
        worker.send(&ToWorker::Inspect { path: text(path) });
        let failure = failure(worker.next());
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message_en.contains(&text(path)), "{failure}");
        assert_eq!(worker.exit_code(), Some(1));
    }
}

#[test]
fn what_is_no_model_is_not_converted() {
    let folder = tempfile::tempdir().unwrap();
    let noise = folder.path().join("noise.gguf");
    std::fs::write(&noise, b"PK\x03\x04 not a model").unwrap();
    let none = Hash([0; 32]);
    let work =
        ConvertWork::Quantize { path: text(&noise), sha256: none, format: WeightsFormat::Q80, imatrix_rows: None };
    let about = || String::new();
    let (name, version, base, licence) = (about(), about(), about(), about());
    let (dataset, source, warning) = (about(), about(), about());
    let card = Card { name, version, base, licence, dataset, source, warning, sha256: none };
    let task = ConvertTask { work, folder: text(folder.path()), threads: 1, card };
    let mut worker = Worker::start("convert");
    worker.send(&ToWorker::Convert(Box::new(task)));
    let failure = failure(worker.next());
    assert_eq!(failure.code, FailureCode::BadFile, "{failure}");
    assert!(failure.message_en.contains(&text(&noise)), "{failure}");
    assert_eq!(worker.exit_code(), Some(1));
}

#[test]
fn rows_are_shown_as_the_model_sees_them() {
    let mut worker = Worker::start("tokenize");
    worker.send(&ToWorker::Tokenize { model_path: text(&starter()) });
    assert!(matches!(worker.next(), FromWorker::Ready { memory_bytes: 1.., .. }));
    worker.send(&ToWorker::Render { request: 5, row: row(3) });
    let mut wrong = row(4);
    wrong.messages[0].role = "<|im_end|>".into();
    worker.send(&ToWorker::Render { request: 6, row: wrong });
    let FromWorker::Rendered { request: 5, row: Ok(rendered) } = worker.next() else { panic!() };
    let trained: String = rendered.tokens.iter().filter(|t| t.trained).map(|t| t.text.as_str()).collect();
    assert_eq!(trained, "Ship 3 lies at berth 3. Fair winds!<|im_end|>");
    let words: String = rendered.tokens.iter().filter(|t| !t.markup).map(|t| t.text.as_str()).collect();
    assert_eq!(words, "Which berth has ship 3?Ship 3 lies at berth 3. Fair winds!");
    assert_eq!(rendered.trained as usize, rendered.tokens.iter().filter(|t| t.trained).count());
    let FromWorker::Rendered { request: 6, row: Err(failure) } = worker.next() else { panic!() };
    assert_eq!((failure.code, failure.place.as_str()), (FailureCode::InvalidRequest, "messages[0].role"));
}

fn serve(slots: u32) -> Worker {
    let mut worker = Worker::start("serve");
    worker.send(&ToWorker::Serve(ServeTask { model_path: text(&starter()), slots, context_tokens: 512, threads: 1 }));
    let FromWorker::Ready { memory_bytes, .. } = worker.next() else { panic!() };
    the_estimate_holds(slots, memory_bytes);
    worker
}

/// What the header promised is what the process takes, within a quarter.
fn the_estimate_holds(slots: u32, resident_bytes: u64) {
    let Ok(hone_kernels::inspect::Facts::Model(facts)) = hone_kernels::inspect::inspect(&starter()) else {
        panic!("the starter is a model")
    };
    let estimate = facts.memory(u64::from(slots), 512).total_bytes();
    let ratio = resident_bytes as f64 / estimate as f64;
    println!("{slots} slots: {resident_bytes} bytes resident, {estimate} estimated");
    assert!((0.75..1.25).contains(&ratio), "{resident_bytes} resident, {estimate} estimated");
}

fn generate(request: u64, adapter: Option<u32>, content: &str, tokens_max: u32) -> ToWorker {
    ToWorker::Generate(GenerateTask {
        request,
        adapter,
        prompt: Prompt::chat(vec![say("user", content)]),
        wish: Wish { tokens_max, sampling: Sampling::greedy(), stop: vec!["never".into()], ..Wish::default() },
        scope: Hash([1; 32]),
        turn: Share::default(),
    })
}

/// Text, finish and tokens of one request, others' messages passed over.
fn follow(worker: &mut Worker, wanted: u64) -> (String, Finish, u32) {
    let (mut answer, mut last, mut began) = (String::new(), 0, false);
    loop {
        match worker.next() {
            FromWorker::Began { request, prompt_tokens, cached_tokens } if request == wanted => {
                assert!(!began && prompt_tokens > cached_tokens);
                began = true;
            }
            FromWorker::Piece { request, text, tokens, .. } if request == wanted => {
                assert!(began && tokens >= last);
                last = tokens;
                answer.push_str(&text);
            }
            FromWorker::Ended { request, finish, tokens, .. } if request == wanted => {
                assert!(tokens >= last);
                return (answer, finish, tokens);
            }
            FromWorker::Refused { request, failure } if request == wanted => panic!("{failure}"),
            _ => {}
        }
    }
}

#[test]
fn a_server_answers_scores_cancels_and_refuses() {
    let mut worker = serve(2);
    worker.send(&generate(1, None, "Name a colour.", 12));
    let (answer, finish, tokens) = follow(&mut worker, 1);
    assert!(!answer.is_empty() && tokens > 0);
    assert!(matches!(finish, Finish::Stop | Finish::Length));
    worker.send(&generate(2, None, "Name a colour.", 12));
    assert_eq!(follow(&mut worker, 2).0, answer);
    let messages = vec![say("user", "Name a colour."), say("assistant", "Blue.")];
    worker.send(&ToWorker::Score { request: 3, adapter: None, messages });
    let FromWorker::Scored { request: 3, loss_sum, tokens } = worker.next() else { panic!() };
    assert!(loss_sum > 0.0 && tokens == 3, "{loss_sum} {tokens}");
    // A long answer is cut short; whatever was told before, the end comes and says so.
    worker.send(&generate(4, None, "Tell me a long story about the sea.", 400));
    loop {
        if matches!(worker.next(), FromWorker::Piece { request: 4, .. }) {
            break;
        }
    }
    worker.send(&ToWorker::CancelRequest { request: 4 });
    loop {
        if let FromWorker::Ended { request: 4, finish, .. } = worker.next() {
            assert_eq!(finish, Finish::Cancelled);
            break;
        }
    }
    worker.send(&generate(5, None, &"word ".repeat(600), 5));
    let refused = failure(worker.next());
    assert_eq!(refused.code, FailureCode::ContextExceeded);
    assert!(refused.args.contains(&("context_tokens".into(), "512".into())), "{refused:?}");
    worker.send(&generate(6, Some(9), "Hi", 5));
    assert_eq!(failure(worker.next()).code, FailureCode::NotFound);
    worker.send(&ToWorker::AddAdapter { request: 7, adapter: 1, path: text(&starter()) });
    assert_eq!(failure(worker.next()).code, FailureCode::BadFile);
    worker.send(&ToWorker::StopAtCheckpoint);
    assert_eq!(failure(worker.next()).code, FailureCode::BadFrame);
    assert_eq!(worker.exit_code(), Some(1));
}

fn train_task(folder: &Path, steps: u64) -> TrainTask {
    let rows = folder.join("rows.jsonl");
    let lines: String = (0..24).map(|id| wire::encode_line(&row(id))).collect();
    std::fs::write(&rows, lines).unwrap();
    let held_out = folder.join("held-out.jsonl");
    std::fs::write(&held_out, wire::encode_line(&row(100))).unwrap();
    let empty = folder.join("replay.jsonl");
    let replay_held_out = folder.join("replay-held-out.jsonl");
    for path in [&empty, &replay_held_out] {
        std::fs::write(path, "").unwrap();
    }
    TrainTask {
        model_path: text(&starter()),
        model_sha256: Hash([3; 32]),
        rows_path: text(&rows),
        replay_path: text(&empty),
        replay_held_out_path: text(&replay_held_out),
        held_out_path: text(&held_out),
        folder: text(folder),
        params: TrainParams {
            steps_max: steps,
            epochs: 100,
            sequence_tokens: 64,
            batch_windows: 2,
            learning_rate: 2e-3,
            evaluate_steps: 2,
            checkpoint_steps: 2,
            threads: 1,
            ..TrainParams::default()
        },
        samples: Vec::new(),
        resume: None,
        checkpoint_interval_ms: 600_000,
        name: "harbour".into(),
        memory_max_bytes: 0,
        plan_only: false,
    }
}

#[test]
fn a_checkpoint_that_the_disk_does_not_take_ends_the_run_with_its_place_and_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = Worker::start_with_small_files("train", "64");
    worker.send(&ToWorker::Train(Box::new(train_task(folder.path(), 6))));
    let failed = loop {
        match worker.next() {
            FromWorker::Planned(plan) => assert!(plan.checkpoint_bytes > 64 << 10),
            FromWorker::Step(step) => assert!(step.step <= 2),
            FromWorker::Evaluated { .. } => {}
            message => break failure(message),
        }
    };
    assert_eq!(failed.code, FailureCode::DiskFull, "{failed:?}");
    assert!(failed.message_en.contains("checkpoints/2"), "{failed:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 0);
}

#[test]
fn an_attempt_that_ended_untold_ends_again_with_the_same_best_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = train_task(folder.path(), 6);
    task.params.patience = 3;
    // A mixed-in set none of whose held-out rows fits a window is not measured, and ends no run.
    let mut long = row(200);
    long.messages[0].content = "word ".repeat(400);
    std::fs::write(&task.replay_held_out_path, wire::encode_line(&long)).unwrap();
    let result = folder.path().join("trained.gguf");
    let run = |task: &TrainTask| {
        let mut worker = Worker::start("train");
        worker.send(&ToWorker::Train(Box::new(task.clone())));
        loop {
            match worker.next() {
                FromWorker::Evaluated { replay_loss, .. } => assert_eq!(replay_loss, None),
                FromWorker::Trained { steps, kept_step, .. } => {
                    break (steps, kept_step, std::fs::read(&result).unwrap());
                }
                FromWorker::Failed(failure) => panic!("{failure}"),
                _ => {}
            }
        }
    };
    let first = run(&task);
    let last = folder.path().join("checkpoints").join(first.0.to_string());
    task.resume = Some((text(&last), first.0));
    assert!(run(&task) == first, "kept step {}", first.1);
}

#[test]
fn training_plans_checkpoints_stops_resumes_and_its_adapter_serves() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = train_task(folder.path(), 6);
    task.plan_only = true;
    let mut worker = Worker::start("train");
    worker.send(&ToWorker::Train(Box::new(task.clone())));
    let FromWorker::Planned(plan) = worker.next() else { panic!() };
    assert_eq!((plan.rows, plan.rows_held_out, plan.steps), (24, 1, 6));
    assert!(plan.target_tokens < plan.tokens && plan.memory_bytes > 100 << 20);
    assert_eq!(worker.exit_code(), Some(0));

    // What a killed attempt left behind and nobody accepted does not stand in the way.
    std::fs::create_dir_all(folder.path().join("checkpoints/2")).unwrap();
    task.plan_only = false;
    let mut worker = Worker::start("train");
    worker.send(&ToWorker::Train(Box::new(task.clone())));
    assert!(matches!(worker.next(), FromWorker::Planned(p) if p.steps == 6));
    let (mut losses, mut checkpoint) = (Vec::new(), None);
    let mut asked = false;
    loop {
        match worker.next() {
            FromWorker::Step(step) => {
                assert_eq!(step.step as usize, losses.len() + 1);
                losses.push(step.loss.value());
                if step.step == 3 {
                    worker.send(&ToWorker::StopAtCheckpoint);
                    asked = true;
                }
            }
            FromWorker::Checkpointed { step, folder: name, manifest_sha256 } => {
                assert_eq!(name, step.to_string());
                let manifest = folder.path().join("checkpoints").join(name).join("manifest.json");
                let bytes = std::fs::read(manifest).unwrap();
                assert_eq!(hash(&bytes), manifest_sha256);
                checkpoint = Some(step);
            }
            FromWorker::Evaluated { step, loss, .. } => assert!(step % 2 == 0 && loss.value() > 0.0),
            FromWorker::Stopped => break,
            other => panic!("{other:?}"),
        }
    }
    let stopped_at = checkpoint.unwrap();
    assert!(asked && stopped_at == losses.len() as u64);
    assert_eq!(worker.exit_code(), Some(0));

    let checkpoints = folder.path().join("checkpoints");
    task.resume = Some((text(&checkpoints.join(stopped_at.to_string())), stopped_at));
    let mut worker = Worker::start("train");
    worker.send(&ToWorker::Train(Box::new(task)));
    let trained = loop {
        match worker.next() {
            FromWorker::Step(step) => {
                assert_eq!(step.step as usize, losses.len() + 1);
                losses.push(step.loss.value());
            }
            FromWorker::Trained { steps, kept_step, tokens, loss, tokens_per_s, duration_ms, peak_memory_bytes } => {
                assert_eq!(kept_step, steps);
                assert!(duration_ms > 0 && peak_memory_bytes > plan.memory_bytes / 2, "{peak_memory_bytes}");
                break (steps, tokens, loss.value(), tokens_per_s);
            }
            FromWorker::Failed(failure) => panic!("{failure}"),
            _ => {}
        }
    };
    assert_eq!((trained.0, losses.len()), (6, 6));
    assert!(trained.1 > 0 && trained.2 > 0.0 && trained.3 > 0.0);
    assert!(losses[5] < losses[0], "{losses:?}");
    assert_eq!(worker.exit_code(), Some(0));
    the_adapter_serves(&folder.path().join("trained.gguf"));
}

fn hash(bytes: &[u8]) -> Hash {
    use sha2::Digest;
    Hash(sha2::Sha256::digest(bytes).into())
}

fn the_adapter_serves(adapter: &Path) {
    let mut worker = Worker::start("inspect");
    worker.send(&ToWorker::Inspect { path: text(adapter) });
    let FromWorker::Inspected { facts, .. } = worker.next() else { panic!() };
    assert_eq!((facts.architecture.as_str(), facts.name.as_str()), ("llama", "harbour"));
    let mut worker = serve(1);
    worker.send(&ToWorker::AddAdapter { request: 1, adapter: 4, path: text(adapter) });
    assert_eq!(worker.next(), FromWorker::AdapterReady { request: 1 });
    let score = |request, adapter| ToWorker::Score { request, adapter, messages: row(100).messages };
    worker.send(&score(2, None));
    let FromWorker::Scored { request: 2, loss_sum: base, .. } = worker.next() else { panic!() };
    worker.send(&score(3, Some(4)));
    let FromWorker::Scored { request: 3, loss_sum: tuned, .. } = worker.next() else { panic!() };
    assert!(tuned < base, "held-out loss {base} became {tuned}");
    worker.send(&generate(4, Some(4), "Which berth has ship 100?", 8));
    assert!(!follow(&mut worker, 4).0.is_empty());
    let other = trained_with_another_template(adapter);
    worker.send(&ToWorker::AddAdapter { request: 5, adapter: 5, path: text(&other) });
    let FromWorker::Refused { request: 5, failure } = worker.next() else { panic!() };
    assert!(failure.message_en.contains("was trained with another chat template"), "{failure}");
}

/// A copy of an adapter that says so: one digit of its template's hash is another.
fn trained_with_another_template(adapter: &Path) -> PathBuf {
    let mut bytes = std::fs::read(adapter).unwrap();
    let key = b"hone.template.sha256";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("an adapter names its template");
    // Behind the key stand the type of the value and its length.
    let digit = &mut bytes[at + key.len() + 4 + 8];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    let other = adapter.with_file_name("other-template.gguf");
    std::fs::write(&other, bytes).unwrap();
    other
}

#[test]
fn a_worker_ends_when_the_daemon_goes_even_in_the_middle_of_work() {
    let mut worker = serve(1);
    worker.send(&generate(1, None, "Tell me a long story.", 400));
    assert!(matches!(worker.next(), FromWorker::Began { .. }));
    worker.line.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.exit_code(), Some(0));
    let mut idle = serve(1);
    idle.line.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(idle.exit_code(), Some(0));
}

#[test]
fn a_worker_refuses_strangers_and_nonsense() {
    let mut mode = Worker::spawn("dance");
    assert_eq!((mode.read(), mode.exit_code()), (None, Some(64)));
    let by_hand = Command::new(env!("CARGO_BIN_EXE_hone-worker"))
        .arg("serve")
        .env("HONE_SANDBOX", "one layer")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(by_hand.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("only honed starts"));
    let mut garbage = Worker::start("serve");
    garbage.line.write_all(&[3, 0, 0, 0, 0xFF, 0xFF, 0xFF]).unwrap();
    assert_eq!(failure(garbage.next()).code, FailureCode::BadFrame);
    assert_eq!(garbage.exit_code(), Some(76));
    let mut huge = Worker::start("inspect");
    huge.line.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(failure(huge.next()).code, FailureCode::BadFrame);
    let mut wrong = Worker::start("train");
    wrong.send(&ToWorker::Inspect { path: "/".into() });
    assert_eq!(failure(wrong.next()).code, FailureCode::BadFrame);
}
