//! `honed data`: the child that reads and writes rows; one session of requests over fd 0.
//! Never here: what is done with rows (see the crate `hone_data`).

use std::process::ExitCode;
use std::time::Duration;

use hone_data::{Said, Session};

use crate::child::{self, Channel};

/// A reader that gets no request for so long ends by itself; the daemon starts another when it needs one.
pub const READER_IDLE: Duration = Duration::from_secs(300);

/// The child's main. Serves pages until idle; an import or an export is the one task of the child's life.
pub fn run() -> ExitCode {
    let channel = match child::start() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("honed data: {error}");
            return ExitCode::FAILURE;
        }
    };
    serve(&channel);
    ExitCode::SUCCESS
}

fn serve(channel: &Channel) {
    let mut session = Session::default();
    while let Some(request) = channel.recv_within(READER_IDLE) {
        let mut work = channel.work();
        let said = session.answer(request, &mut |phase, done, total| work.progress(phase, done, total));
        drop(work);
        match said {
            Said::More(answer) => channel.send(&answer),
            Said::Last(answer) => {
                channel.send(&answer);
                return;
            }
        }
    }
}
