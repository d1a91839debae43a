//! The worker alone, driven over its frames as the daemon drives it: what the gateway is compared with. Never here: HTTP,
//! metering, and what a figure means.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hone_protocol::dataset::ChatMessage;
use hone_protocol::generate::{Prompt, Sampling, Wish};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, GenerateTask, ServeTask, ToWorker};
use hone_protocol::{frame, wire};
use hone_tests::{PATIENCE, programs, starter};
use serde_json::Value;

/// A worker process of our own.
pub(crate) struct Worker {
    child: Child,
    line: UnixStream,
    next: u64,
}

/// What became of a burst.
pub(crate) struct Told {
    /// Tokens of all answers.
    pub(crate) tokens: u64,
    /// From the first request to the last word.
    pub(crate) seconds: f64,
    /// When the first token of each answer came, in milliseconds.
    pub(crate) first_ms: Vec<f64>,
}

impl Worker {
    /// Starts it with the starter model.
    pub(crate) fn start(slots: u32, context_tokens: u32) -> Worker {
        let (line, theirs) = UnixStream::pair().expect("a pair of sockets");
        line.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let child = Command::new(programs().join("hone-worker"))
            .arg("serve")
            .env("HONE_SANDBOX", "none: this is a benchmark")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("hone-worker starts");
        let mut worker = Worker { child, line, next: 1 };
        let task = ServeTask { model_path: starter().display().to_string(), slots, context_tokens, threads: 0 };
        worker.send(&ToWorker::Serve(task));
        while !matches!(worker.read(), FromWorker::Ready { .. }) {}
        worker
    }

    fn send(&mut self, message: &ToWorker) {
        let bytes = frame::frame(&wire::encode(message)).expect("a request fits a frame");
        self.line.write_all(&bytes).expect("the worker reads");
    }

    fn read(&mut self) -> FromWorker {
        let mut header = [0; 4];
        self.line.read_exact(&mut header).expect("the worker answers in time");
        let mut payload = vec![0; frame::length(header).expect("a frame")];
        self.line.read_exact(&mut payload).expect("a whole frame");
        wire::decode(&payload).expect("a message")
    }

    /// Asks all bodies at once: the fields of the chat requests that clients send over HTTP.
    pub(crate) fn burst(&mut self, bodies: &[Value]) -> Told {
        let first = self.next;
        self.next += bodies.len() as u64;
        let tasks: Vec<ToWorker> = (first..).zip(bodies).map(|(request, body)| task(request, body)).collect();
        let begun = Instant::now();
        tasks.iter().for_each(|task| self.send(task));
        let (mut first_ms, mut tokens, mut open) = (vec![None; bodies.len()], 0, bodies.len());
        while open > 0 {
            match self.read() {
                FromWorker::Piece { request, .. } => {
                    let place = &mut first_ms[(request - first) as usize];
                    place.get_or_insert(begun.elapsed().as_secs_f64() * 1e3);
                }
                FromWorker::Ended { tokens: told, .. } => {
                    tokens += u64::from(told);
                    open -= 1;
                }
                FromWorker::Refused { failure, .. } | FromWorker::Failed(failure) => panic!("the worker: {failure}"),
                _ => {}
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Told { tokens, seconds, first_ms: first_ms.into_iter().map(|at| at.expect("a first token")).collect() }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request of HTTP as the daemon hands it on.
fn task(request: u64, body: &Value) -> ToWorker {
    let text = body["messages"][0]["content"].as_str().expect("a text").to_owned();
    let prompt = Prompt::chat(vec![ChatMessage { role: "user".into(), content: text }]);
    let bias = body["logit_bias"].as_object().into_iter().flatten();
    let wish = Wish {
        tokens_max: body["max_tokens"].as_u64().expect("a length") as u32,
        sampling: Sampling::greedy(),
        logit_bias: bias
            .map(|(token, bias)| (token.parse().expect("a token"), bias.as_f64().expect("a number") as f32))
            .collect(),
        ..Wish::default()
    };
    ToWorker::Generate(GenerateTask {
        request,
        adapter: None,
        prompt,
        wish,
        scope: Hash([7; 32]),
        turn: hone_protocol::generate::Share { owner: 0, weight: 1 },
    })
}
