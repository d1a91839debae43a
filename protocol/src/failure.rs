//! The only error on any wire. A code from a closed list (never reused), arguments for localising, where it
//! happened, what to do next, and the English sentence for logs and scripts.

use serde::{Deserialize, Serialize};

/// A closed list of words, and the list of all of them from the same lines.
macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl $name {
            /// All of them, in the order of the wire.
            pub const ALL: &[$name] = &[$($name::$word,)*];
        }
    };
}

closed_list! {
    /// What went wrong, as a closed list. Names are the wire form: never rename or reuse one.
    FailureCode {
        /// The request does not make sense as written.
        InvalidRequest,
        /// A field of a specification is outside its range.
        InvalidField,
        /// Nothing of that name or id.
        NotFound,
        /// The name is taken.
        NameTaken,
        /// The same idempotency id came with another payload.
        IdempotencyConflict,
        /// The thing is in use, so it cannot be changed that way now.
        InUse,
        /// Not possible in the present state (for example pausing a finished job).
        WrongState,
        /// A file is not what it says it is.
        BadFile,
        /// A file is missing or unreadable.
        FileUnreadable,
        /// An architecture that the engine or the trainer does not know.
        UnsupportedArchitecture,
        /// It does not fit into the memory of the pool.
        DoesNotFit,
        /// The disk is full or nearly so.
        DiskFull,
        /// The store could not be written; nothing was saved.
        NotSaved,
        /// A child process ended without saying why.
        WorkerDied,
        /// A child process did not answer in time.
        WorkerSilent,
        /// The loss is not a number, or grew without bound.
        Diverged,
        /// No rows are left to work on.
        NoRows,
        /// A checkpoint does not belong to this job or is damaged.
        BadCheckpoint,
        /// A download did not work.
        DownloadFailed,
        /// A hash differs from the pinned one.
        HashMismatch,
        /// No key, or a wrong, expired or revoked one.
        Unauthenticated,
        /// The key may not do this.
        Forbidden,
        /// The prompt and the answer do not fit into the context.
        ContextExceeded,
        /// Too many requests wait already.
        Overloaded,
        /// The service is not on, or still loading.
        ServiceUnavailable,
        /// A limit of the application is reached.
        LimitReached,
        /// The template cannot render these messages.
        TemplateFailed,
        /// The daemon is stopping.
        Stopping,
        /// The peers' protocol numbers differ.
        VersionMismatch,
        /// A frame or line could not be read.
        BadFrame,
        /// The attempt was interrupted; it will be tried again.
        Interrupted,
        /// Poison work: it brought a process down twice and is set aside.
        Quarantined,
        /// Not built for this platform or in this version.
        Unsupported,
        /// A bug of hone's own.
        Internal,
        /// The application's budget is spent.
        BudgetSpent,
        /// The model's answer is not of the format that was asked for.
        FormatNotKept,
        /// A guard does not let the request in.
        RefusedByGuard,
        /// Slurm refused a job, or ended it for a reason that trying again does not mend.
        SlurmFailed,
        /// The gate of an alias does not hold for a version.
        GateClosed,
        /// An upstream cannot be reached, or has too much to do.
        UpstreamUnavailable,
        /// An upstream answered what it must not, or refuses us.
        UpstreamFailed,
    }
}

impl FailureCode {
    /// The HTTP status that stands for this code. The one place where the two meet.
    pub fn http_status(self) -> u16 {
        use FailureCode::*;
        match self {
            InvalidRequest
            | InvalidField
            | BadFile
            | NoRows
            | ContextExceeded
            | TemplateFailed
            | BadFrame
            | UnsupportedArchitecture
            | HashMismatch
            | RefusedByGuard => 400,
            Unauthenticated => 401,
            Forbidden => 403,
            NotFound | FileUnreadable => 404,
            NameTaken | IdempotencyConflict | InUse | WrongState | BadCheckpoint | GateClosed => 409,
            Overloaded | LimitReached | BudgetSpent => 429,
            Unsupported => 501,
            UpstreamFailed => 502,
            WorkerDied | WorkerSilent | ServiceUnavailable | Stopping | NotSaved | DiskFull | DoesNotFit
            | Interrupted | UpstreamUnavailable => 503,
            Diverged | DownloadFailed | VersionMismatch | Quarantined | Internal | FormatNotKept | SlurmFailed => 500,
        }
    }

    /// The exit status of a CLI verb that failed so (documented in `docs/exit-codes.md`).
    pub fn exit_status(self) -> u8 {
        use FailureCode::*;
        match self {
            InvalidRequest | InvalidField | BadFrame => 2,
            NotFound | FileUnreadable => 3,
            NameTaken | IdempotencyConflict | InUse | WrongState | GateClosed => 4,
            BadFile | BadCheckpoint | HashMismatch | NoRows | TemplateFailed | UnsupportedArchitecture => 5,
            DoesNotFit | DiskFull | Overloaded | LimitReached | BudgetSpent | ContextExceeded => 6,
            Unauthenticated | Forbidden | RefusedByGuard => 7,
            ServiceUnavailable | Stopping | NotSaved | UpstreamUnavailable => 8,
            WorkerDied | WorkerSilent | Diverged | DownloadFailed | Interrupted | Quarantined | FormatNotKept
            | SlurmFailed | UpstreamFailed => 9,
            VersionMismatch => 10,
            Unsupported => 11,
            Internal => 70,
        }
    }

    /// Whether trying the same thing again later can help.
    pub fn is_transient(self) -> bool {
        use FailureCode::*;
        matches!(
            self,
            WorkerDied
                | WorkerSilent
                | Overloaded
                | ServiceUnavailable
                | Stopping
                | NotSaved
                | DiskFull
                | DownloadFailed
                | Interrupted
                | UpstreamUnavailable
                | UpstreamFailed
        )
    }
}

closed_list! {
    /// What to do next, as a closed list; the catalogue has the sentence in both languages.
    HintCode {
        /// List what there is and choose from it.
        ListNames,
        /// Choose another name.
        ChooseAnotherName,
        /// Correct the named field.
        CorrectField,
        /// Free memory or choose smaller numbers.
        ReduceMemory,
        /// Free disk space; it goes on by itself.
        FreeDisk,
        /// Read the job's log.
        ReadLog,
        /// Try again; nothing was changed.
        TryAgain,
        /// Start the service.
        StartService,
        /// Lower the learning rate.
        LowerLearningRate,
        /// Shorten the prompt or raise the context.
        ShortenPrompt,
        /// Make a key and send it as a bearer token.
        MakeKey,
        /// Upgrade the older side.
        Upgrade,
        /// Correct the file at the named place and import it again.
        CorrectFile,
        /// Move the state directory to a local disk or a shorter path with HONE_STATE.
        MoveState,
        /// Stop what uses it first.
        StopUsers,
        /// Start the daemon.
        StartDaemon,
        /// Report it with the log; it is a bug.
        ReportBug,
        /// Correct the address, the model or the key of the upstream.
        CheckUpstream,
        /// Ask the owner for another role.
        AskOwner,
    }
}

/// One failure, ready for any client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message_en}")]
pub struct Failure {
    /// What went wrong.
    pub code: FailureCode,
    /// Named values for the localised sentence.
    pub args: Vec<(String, String)>,
    /// Where: a file with line, a field path, a socket. Empty when it is the request as a whole.
    pub place: String,
    /// What to do next.
    pub hint: Option<HintCode>,
    /// The sentence in English: a lowercase fragment without a full stop.
    pub message_en: String,
}

impl Failure {
    /// A failure with its English sentence.
    pub fn new(code: FailureCode, message_en: impl Into<String>) -> Failure {
        Failure { code, args: Vec::new(), place: String::new(), hint: None, message_en: message_en.into() }
    }
    /// Says where.
    pub fn at(mut self, place: impl Into<String>) -> Failure {
        self.place = place.into();
        self
    }
    /// Says what to do next.
    pub fn hint(mut self, hint: HintCode) -> Failure {
        self.hint = Some(hint);
        self
    }
    /// Adds a named value.
    pub fn arg(mut self, name: &str, value: impl ToString) -> Failure {
        self.args.push((name.to_owned(), value.to_string()));
        self
    }
    /// Nothing of that kind and name.
    pub fn not_found(kind: &str, name: &str) -> Failure {
        Failure::new(FailureCode::NotFound, format!("there is no {kind} named {name:?}"))
            .at(kind)
            .arg("name", name)
            .hint(HintCode::ListNames)
    }
    /// A field outside its range.
    pub fn field(field: &str, message_en: impl Into<String>) -> Failure {
        Failure::new(FailureCode::InvalidField, message_en).at(field).hint(HintCode::CorrectField)
    }
}
