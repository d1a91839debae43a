//! One attempt at a job: what its work may use (children, facts, the wish to stop) and how it reports its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::JobId;
use hone_protocol::job::{JobRecord, Progress};
use hone_protocol::paths;
use hone_protocol::worker::FromWorker;
use tokio::sync::{oneshot, watch};

use crate::config::Places;
use crate::desk::ServiceDesk;
use crate::dispatcher::Events;
use crate::dispatcher::effect::StopHow;
use crate::dispatcher::event::{AttemptEnd, Event, Fact};
use crate::machine;
use crate::sandbox::Paths;
use crate::state::State;
use crate::store::Store;
use crate::workers::far::Far;
use crate::workers::line::Line;
use crate::workers::process::{Program, Spawner};

/// Why work ended without a product.
#[derive(Debug)]
pub enum Stop {
    /// By wish.
    Wished,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// What the work of an attempt may use.
pub struct Context {
    /// The job as the attempt began.
    pub job: Arc<JobRecord>,
    /// The facts as the attempt began.
    pub state: Arc<State>,
    /// Where files are.
    pub places: Arc<Places>,
    /// For reading what earlier attempts stored.
    pub store: Arc<Store>,
    /// Starts children.
    pub spawner: Spawner,
    /// Takes reports.
    pub events: Events,
    /// Asks services, metered.
    pub desk: ServiceDesk,
    /// The wish to stop.
    pub stop: watch::Receiver<Option<StopHow>>,
    /// The job of a cluster that does the work; none for work on this machine.
    pub far: Option<Arc<Far>>,
}

impl Context {
    /// The job's own folder.
    pub fn folder(&self) -> PathBuf {
        job_folder(&self.places, self.job.id)
    }

    /// The job's log.
    pub fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// Starts a child of this attempt that may use `paths`.
    pub async fn child(&self, program: Program, paths: Paths) -> Result<Line, Failure> {
        let cards = self.state.cards(self.state.pool_of(&self.job));
        let line = Line::open(&self.spawner, program, paths, cards, &self.log()).await?;
        self.fact(Fact::Pid(line.process.pid())).await;
        Ok(line)
    }

    /// A fact with how far the frames were taken that it is of, where they can be taken again.
    fn placed(&self, fact: Fact) -> Fact {
        match &self.far {
            Some(far) => Fact::At { position: far.position.load(Ordering::Acquire), fact: Box::new(fact) },
            None => fact,
        }
    }

    /// Reports a fact.
    pub async fn fact(&self, fact: Fact) {
        let fact = self.placed(fact);
        self.events.post(Event::Attempt { job: self.job.id, number: self.job.attempt, fact, done: None }).await;
    }

    /// Reports a fact and waits until it is durable.
    pub async fn durable(&self, fact: Fact) -> Result<(), Stop> {
        let (done, durable) = oneshot::channel();
        let fact = self.placed(fact);
        self.events.post(Event::Attempt { job: self.job.id, number: self.job.attempt, fact, done: Some(done) }).await;
        taken(durable, self.stop.clone()).await
    }

    /// Reports how far it is.
    pub async fn progress(&self, phase: &str, done: u64, total: u64) {
        let progress = Progress { phase: phase.to_owned(), done, total, remaining_ms: None };
        self.fact(Fact::Progress(progress)).await;
    }

    /// The next message of a child; progress is reported on the way. A wish to stop ends the child, which is
    /// right for every kind that has no checkpoints.
    pub async fn next(&mut self, line: &mut Line) -> Result<FromWorker, Stop> {
        loop {
            let message = tokio::select! {
                biased;
                _ = wished(&mut self.stop) => {
                    line.process.kill();
                    return Err(Stop::Wished);
                }
                message = line.recv() => message?,
            };
            match message {
                FromWorker::Progress { phase, done, total } => self.progress(&phase, done, total).await,
                other => return Ok(other),
            }
        }
    }

    /// Whether somebody wishes the attempt to stop.
    pub fn stopping(&self) -> Option<StopHow> {
        *self.stop.borrow()
    }

    /// Whether the daemon goes and leaves what it started elsewhere.
    pub fn is_left(&self) -> bool {
        // Without anybody who could wish the daemon is ending.
        self.stopping() == Some(StopHow::Leave) || self.stop.has_changed().is_err()
    }
}

/// Waits for a wish to stop; at once when one stands.
pub async fn wished(stop: &mut watch::Receiver<Option<StopHow>>) -> StopHow {
    match stop.wait_for(Option::is_some).await {
        Ok(how) => how.unwrap_or(StopHow::Leave),
        // Whoever could wish is gone: the daemon is ending. Children of this machine end with it.
        Err(_) => StopHow::Leave,
    }
}

/// Waits until a report is durable. One of an attempt that is no longer the daemon's is not taken; why, the wish says that is on
/// its way then. Ending anything before it has come would end what the daemon leaves running.
async fn taken(durable: oneshot::Receiver<()>, mut stop: watch::Receiver<Option<StopHow>>) -> Result<(), Stop> {
    match durable.await {
        Ok(()) => Ok(()),
        Err(_) => {
            wished(&mut stop).await;
            Err(Stop::Wished)
        }
    }
}

/// A message that has no place here.
pub fn unexpected(message: &FromWorker) -> Stop {
    let word = format!("{message:?}");
    let word = word.split([' ', '(', '{']).next().unwrap_or("?");
    Stop::Failed(Failure::new(FailureCode::BadFrame, format!("the worker sent {word} where it has no place")))
}

/// The folder of a job.
pub fn job_folder(places: &Places, job: JobId) -> PathBuf {
    places.state.join(paths::JOBS).join(job.to_string())
}

/// Runs one attempt to its end and reports it.
pub async fn run(context: Context) {
    let (events, job, state) = (context.events.clone(), context.job.clone(), context.places.state.clone());
    let folder = context.folder();
    let end = match tokio::fs::create_dir_all(&folder).await {
        Err(error) => {
            let message = format!("the job's folder cannot be made: {error}");
            AttemptEnd::Failed(Failure::new(FailureCode::DiskFull, message).at(folder.display().to_string()))
        }
        Ok(()) => match (super::kind(&job.spec).run)(context).await {
            Ok(produced) => AttemptEnd::Produced(Box::new(produced)),
            Err(Stop::Wished) => AttemptEnd::Stopped,
            Err(Stop::Failed(failure)) => AttemptEnd::Failed(failure),
        },
    };
    events.post(Event::AttemptEnded { job: job.id, number: job.attempt, end }).await;
    if let Some(bytes) = machine::disk_free_bytes(&state) {
        events.post(Event::DiskFree(bytes)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_that_is_not_taken_waits_for_the_wish_that_says_why() {
        for wish in [StopHow::Leave, StopHow::Now] {
            let ((done, durable), (wishes, stop)) = (oneshot::channel(), watch::channel(None));
            drop(done);
            let mut waiting = std::pin::pin!(taken(durable, stop.clone()));
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("it ended before anybody said how"),
                () = tokio::task::yield_now() => {}
            }
            wishes.send(Some(wish)).unwrap();
            assert!(matches!(waiting.await, Err(Stop::Wished)));
            assert_eq!(*stop.borrow(), Some(wish));
        }
        let ((_, durable), (wishes, mut stop)) = (oneshot::channel(), watch::channel(None));
        drop(wishes);
        assert!(matches!(taken(durable, stop.clone()).await, Err(Stop::Wished)), "the daemon is ending");
        assert_eq!(wished(&mut stop).await, StopHow::Leave, "what runs elsewhere goes on");
    }
}
