//! The client's entry: everything is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    hone::cli::main()
}
