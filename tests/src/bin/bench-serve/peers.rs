//! What the endpoint is measured against: the engine's own plain loop, and llama.cpp's server of the same engine. Never
//! here: hone.

use std::process::{Child, Command, Stdio};

use hone_tests::{http, programs, starter, wait_until};

use crate::client::{ANSWER_TOKENS, Server};

/// Rates of a plain loop of the engine, measured in a process of its own, in answer tokens per second.
pub(crate) struct Ceiling {
    /// Prompts included.
    pub(crate) whole: f64,
    /// Without them.
    pub(crate) decode: f64,
}

/// Lets the engine decode for so many sequences at once.
pub(crate) fn ceiling(clients: usize, prompt_tokens: u64) -> Ceiling {
    let output = Command::new(programs().join("bench-serve-engine"))
        .args(["--ceiling".to_owned(), clients.to_string(), "--prompt".into(), prompt_tokens.to_string()])
        .args(["--answer".to_owned(), ANSWER_TOKENS.to_string(), "--model".into()])
        .arg(starter())
        .stderr(Stdio::null())
        .output()
        .expect("bench-serve-engine stands beside honed");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut rates = text.split_whitespace().map(|rate| rate.parse().expect("a rate"));
    let mut rate = || rates.next().unwrap_or_else(|| panic!("bench-serve-engine said {text:?}"));
    Ceiling { whole: rate(), decode: rate() }
}

/// A running llama-server; ended when dropped.
pub(crate) struct LlamaServer {
    process: Child,
    /// Where it listens.
    pub(crate) server: Server,
}

impl LlamaServer {
    /// Starts `program` with so many slots of 2,048 tokens, or with its own defaults.
    pub(crate) fn start(program: &str, slots: Option<usize>) -> LlamaServer {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut command = Command::new(program);
        command.arg("--model").arg(starter()).args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--alias",
            "base",
        ]);
        if let Some(slots) = slots {
            command.args(["--parallel", &slots.to_string(), "--ctx-size", &(slots * 2048).to_string()]);
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("llama-server starts");
        let server = Server { address: format!("127.0.0.1:{port}"), key: String::new() };
        wait_until("llama-server answers", || {
            std::net::TcpStream::connect(&server.address).ok()?;
            (http(&server.address, "GET", "/health", None, None).status == 200).then_some(())
        });
        LlamaServer { process, server }
    }

    /// Resident memory, in MB.
    pub(crate) fn resident_mb(&self) -> f64 {
        resident_mb(self.process.id())
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Resident memory of a process, in MB of 1,000,000 bytes.
pub(crate) fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
