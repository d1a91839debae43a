//! The child process of honed in which everything native runs: `hone-worker inspect|tokenize|train|serve|from-folder|convert`.
//! It speaks frames over fd 0 and is of no use by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    match hone_kernels::worker::run(&mode) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("hone-worker: {error}");
            ExitCode::from(hone_kernels::worker::EXIT_USAGE)
        }
    }
}
