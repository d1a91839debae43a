//! `hone-worker`: the child process in which everything native runs. One mode per life: `inspect`,
//! `tokenize`, `train`, `serve`, `from-folder`, `convert` or `checkpoint`; frames over fd 0, words for people on stderr.
//!
//! `child` performs a child's first acts and owns the frames; `facts` turns what this crate knows into
//! the protocol's words; each mode has its file.
//!
//! What never lives here: numbers of its own. Everything is computed in the library beside it.

mod answer;
mod checkpoint;
pub mod child;
mod convert;
mod ear;
mod facts;
mod from_folder;
mod init;
mod inspect;
mod rows;
mod sampler;
mod serve;
mod talk;
mod tokenize;
mod train;
mod warnings;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::worker::FromWorker;

use child::{Channel, StartError};

/// Exit status when the process was not started as a child of the daemon, or with a wrong mode.
pub const EXIT_USAGE: u8 = 64;
/// Exit status after a task that failed and said so.
pub const EXIT_TASK_FAILED: u8 = 1;

/// A mode of the worker: its name and what it runs.
struct Mode {
    name: &'static str,
    run: fn(&Channel) -> Result<(), Failure>,
}

const MODES: [Mode; 7] = [
    Mode { name: "inspect", run: inspect::run },
    Mode { name: "tokenize", run: tokenize::run },
    Mode { name: "train", run: train::run },
    Mode { name: "serve", run: serve::run },
    Mode { name: "from-folder", run: from_folder::run },
    Mode { name: "convert", run: convert::run },
    Mode { name: "checkpoint", run: checkpoint::run },
];

/// Runs the mode called `name` to its end. The answer is the exit status.
pub fn run(name: &str) -> Result<u8, StartError> {
    let Some(mode) = MODES.iter().find(|m| m.name == name) else {
        let known: Vec<&str> = MODES.iter().map(|m| m.name).collect();
        eprintln!("hone-worker: no mode {name:?}; modes: {}", known.join(", "));
        return Ok(EXIT_USAGE);
    };
    let channel = child::start()?;
    let result = child::check_processor().and_then(|()| (mode.run)(&channel));
    match result {
        Ok(()) => Ok(0),
        Err(failure) => {
            eprintln!("hone-worker {name}: {failure}");
            channel.send(&FromWorker::Failed(failure));
            Ok(EXIT_TASK_FAILED)
        }
    }
}

/// A first message that this mode does not take.
fn wrong_task(mode: &str) -> Failure {
    Failure::new(FailureCode::BadFrame, format!("hone-worker {mode} was given a task of another mode"))
}
