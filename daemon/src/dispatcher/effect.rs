//! Everything that the daemon does in return, after the commit. Every effect that matters can be derived again
//! from the store at start; only replies may be lost.

use std::path::PathBuf;
use std::sync::Arc;

use hone_protocol::application::LedgerRow;
use hone_protocol::failure::Failure;
use hone_protocol::hook::{AlertRecord, HookRecord};
use hone_protocol::id::{AlertId, ApplicationId, FileId, HookId, JobId, ServiceId, VersionId};
use hone_protocol::job::JobRecord;
use hone_protocol::request::Answer;
use hone_protocol::value::Hash;
use tokio::sync::oneshot;

use super::event::{ReplyTo, Watermark};
use super::limits::Allowance;
use crate::pools::Cards;

/// One thing to do.
pub enum Effect {
    /// Answer a request.
    Reply(ReplyTo, Result<Answer, Failure>),
    /// A ledger row is open; what its limits leave.
    Opened(oneshot::Sender<Result<Allowance, Failure>>, Allowance),
    /// A ledger row is closed.
    Closed(oneshot::Sender<Result<LedgerRow, Failure>>, Box<LedgerRow>),
    /// A watermark is durable.
    Marked(Arc<Watermark>, u64),
    /// A fact of an attempt is durable.
    Durable(oneshot::Sender<()>),
    /// Begin an attempt.
    StartAttempt(Arc<JobRecord>),
    /// End an attempt.
    StopAttempt(JobId, StopHow),
    /// Start a serving process.
    StartServing(ServingStart),
    /// Make an adapter known to a serving process.
    AddAdapter {
        /// Its base.
        base: VersionId,
        /// The adapter.
        adapter: VersionId,
    },
    /// An adapter is used no more.
    DropAdapter {
        /// Its base.
        base: VersionId,
        /// The adapter.
        adapter: VersionId,
    },
    /// End a serving process.
    StopServing(VersionId),
    /// Try again later.
    RetryServing {
        /// Its base.
        base: VersionId,
        /// The process that ended.
        generation: u64,
        /// After so long.
        after_ms: u64,
    },
    /// A service that was asked is being loaded.
    Awake(oneshot::Sender<Result<(), Failure>>),
    /// Look later whether a service was used again.
    LookIdle {
        /// Which.
        service: ServiceId,
        /// After so long.
        after_ms: u64,
    },
    /// Look later whether what no longer answers has a request still.
    LookRetired {
        /// After so long.
        after_ms: u64,
    },
    /// Tell a hook of an alert.
    Deliver(Box<Delivering>),
    /// Tell it again later.
    RetryDelivery {
        /// The hook.
        hook: HookId,
        /// The alert.
        alert: AlertId,
        /// After so long.
        after_ms: u64,
    },
    /// Remove what only the work of a job needed.
    CleanJob {
        /// Which.
        job: JobId,
        /// Whether what it ended with stays, because it is no version yet.
        keep_result: bool,
    },
    /// A wish for a file is durable.
    FileDone(oneshot::Sender<Result<(), Failure>>),
    /// What somebody says of an answer is durable.
    Heard(oneshot::Sender<Result<(), Failure>>),
    /// Remove all that an application has logged.
    ClearLog(ApplicationId),
    /// Let go of request logs what is too old or too much.
    SweepLog,
    /// Remove the bytes of an uploaded file.
    RemoveFile(FileId),
    /// Remove a file of this name from the models folder.
    RemoveWeights(String),
    /// Remove the file of a segment of rows.
    RemoveSegment(Hash),
    /// Remove the folder of an attempt from the shared disk of a cluster.
    RemoveFarFolder(PathBuf),
    /// Charge reserved time later.
    LookReserved {
        /// After so long.
        after_ms: u64,
    },
    /// Everything has stopped, or nothing can be saved any more: end the process with this status.
    Exit(u8),
}

/// How to end an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopHow {
    /// Write a checkpoint first, if the kind has them.
    AtCheckpoint,
    /// At once.
    Now,
    /// Not at all: the daemon stops, the work goes on elsewhere.
    Leave,
}

/// An alert for a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivering {
    /// Who is told.
    pub hook: Arc<HookRecord>,
    /// Of what.
    pub alert: AlertRecord,
    /// Which try, from 1.
    pub number: u32,
}

/// A serving process to start.
#[derive(Debug, Clone, PartialEq)]
pub struct ServingStart {
    /// The complete model.
    pub base: VersionId,
    /// Which process this is.
    pub generation: u64,
    /// Sequences at once, for each adapter.
    pub slots: u32,
    /// Context of each.
    pub context_tokens: u32,
    /// Adapters to load.
    pub adapters: Vec<VersionId>,
    /// Threads to compute with; 0 for the worker's choice.
    pub threads: u32,
    /// GPUs that it may see.
    pub cards: Cards,
    /// The service that a server elsewhere answers; then there is no model.
    pub upstream: Option<ServiceId>,
}
