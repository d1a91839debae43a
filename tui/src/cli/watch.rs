//! Waiting for a fact: a connection of its own that gets a snapshot and then events, so that nothing is polled.
//! Never here: what is waited for, or how it is shown.

use std::time::{Duration, Instant};

use hone_protocol::event::{Change, Snapshot};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::{Down, Request, Up};

use crate::link::{Link, LinkError, Options};

/// What a watcher sees.
pub(super) enum Fact<'a> {
    /// Everything, at the start and after a gap.
    All(&'a Snapshot),
    /// One thing that changed.
    One(&'a Change),
}

/// Looks at facts until one is what was waited for, at most `wait` (none: until the daemon ends).
pub(super) fn until<T>(
    options: &Options,
    wait: Option<Duration>,
    mut look: impl FnMut(Fact<'_>) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let socket = options.socket()?;
    let (mut reader, writer) = Link::connect(options)?.into_parts();
    let fail = |error: LinkError| error.into_failure(&socket);
    writer.send(&Up::Ask { id: 1, once: None, request: Request::Watch }).map_err(fail)?;
    let deadline = wait.map(|wait| Instant::now() + wait);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let seconds = wait.map_or(0, |wait| wait.as_secs());
            return Err(Failure::new(FailureCode::WorkerSilent, format!("it did not happen within {seconds} s"))
                .hint(HintCode::ReadLog));
        }
        reader.set_timeout(left).map_err(fail)?;
        let seen = match reader.read() {
            Err(LinkError::TimedOut) => None,
            Err(error) => return Err(fail(error)),
            Ok(Down::Snapshot(snapshot)) => look(Fact::All(&snapshot))?,
            Ok(Down::Event(event)) => look(Fact::One(&event.change))?,
            Ok(Down::Answer { answer: Err(failure), .. }) => return Err(failure),
            Ok(Down::Answer { .. } | Down::Part { .. }) => None,
        };
        if let Some(found) = seen {
            return Ok(found);
        }
    }
}
