//! The tables of the store, and nothing else. Keys sort as their bytes do; what a key is made of stands
//! beside each table. Values begin with a format byte (see [`super::codec`]).

use redb::TableDefinition;

/// Every table has bytes for keys and bytes for values; `Option` is never a redb type.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Names a table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Table { $($(#[$doc])* $name,)* }
        impl Table {
            /// All of them.
            pub const ALL: &'static [Table] = &[$(Table::$name,)*];
            /// The name inside the store. Never changed.
            pub const fn name(self) -> &'static str { match self { $(Table::$name => $text,)* } }
            pub(super) const fn definition(self) -> Definition { TableDefinition::new(self.name()) }
        }
    };
}
tables! {
    /// word → value: schema number, epoch, currency, zone.
    Meta = "meta";
    /// job id → JobRecord.
    Jobs = "jobs";
    /// job id, seq (u64 BE) → JobEvent.
    JobEvents = "job_events";
    /// job id, series (u8), step (u64 BE) → f64 LE. The last attempt wins.
    Metrics = "metrics";
    /// job id, step (u64 BE) → Sampled. The last attempt wins.
    Samples = "samples";
    /// model id → ModelRecord.
    Models = "models";
    /// `model:alias`, 0, seq (u64 BE) → AliasMove.
    AliasMoves = "alias_moves";
    /// version id → VersionRecord.
    Versions = "versions";
    /// dataset id → DatasetRecord.
    Datasets = "datasets";
    /// dataset version id → DatasetVersionRecord.
    DatasetVersions = "dataset_versions";
    /// suite id → SuiteRecord.
    Suites = "suites";
    /// evaluation id → EvaluationRecord.
    Evaluations = "evaluations";
    /// evaluation id, row id (u64 BE) → EvaluationRow.
    EvaluationRows = "evaluation_rows";
    /// job id, 0 for answered and 1 for failed, row (u64 BE) → BatchRow.
    BatchRows = "batch_rows";
    /// file id → FileRecord.
    Files = "files";
    /// service id → ServiceRecord.
    Services = "services";
    /// application id → ApplicationRecord.
    Applications = "applications";
    /// key id → KeyRecord.
    Keys = "keys";
    /// application id, payment id → Payment.
    Payments = "payments";
    /// application id, ledger id → LedgerRow. The application is in the key itself, so that no scan crosses it.
    Ledger = "ledger";
    /// ledger id → application id: rows that are open.
    OpenRows = "open_rows";
    /// application id, day (10 bytes), service id, price (27 bytes) → Usage: sums of closed rows.
    Sums = "sums";
    /// application id, day, service id, key id or zeros, part (16 bytes), user → Usage: the same rows by key and user. What has
    /// the same key but for its part is added up by whoever reads.
    UserSums = "user_sums";
    /// application id, compute id → ComputeRow.
    Compute = "compute";
    /// application id, day, price (18 bytes), kind → ComputeUsage.
    ComputeSums = "compute_sums";
    /// application id, compute id → ReservedRow.
    Reserved = "reserved";
    /// application id, day, service id, price (8 bytes) → ReservedUsage.
    ReservedSums = "reserved_sums";
    /// job id → SlurmRun: attempts that are jobs of Slurm.
    SlurmRuns = "slurm_runs";
    /// name → PoolRecord.
    Pools = "pools";
    /// service id → ServiceRecord of a service that was removed: the ledger keeps its name.
    FormerServices = "former_services";
    /// hook id → HookRecord.
    Hooks = "hooks";
    /// alert id → AlertRecord; the newest only.
    Alerts = "alerts";
    /// hook id, alert id → Delivery: what waits.
    Deliveries = "deliveries";
    /// dataset name → JudgedSet.
    JudgedSets = "judged_sets";
    /// dataset name, 0, seq (u64 BE) → JudgementRecord.
    Judgements = "judgements";
    /// name → ProjectRecord.
    Projects = "projects";
    /// name → ids of the rows of a project that does not have all of its version.
    ProjectRows = "project_rows";
    /// name of a project, 0, seq (u64 BE) → LabelRecord, as it was decided.
    Labels = "labels";
    /// The same key → when the label was taken back, Unix milliseconds.
    LabelsBack = "labels_back";
    /// name of a project, 0, row id (u64 BE) → Suggestion.
    Suggestions = "suggestions";
    /// name → PersonRecord.
    People = "people";
    /// name → GuardRecord.
    Guards = "guards";
    /// name of a guard, 0, day, service id, application id → GuardCounts.
    GuardSums = "guard_sums";
    /// application id, ledger id, user → FeedbackRecord.
    Feedback = "feedback";
    /// dataset name, 0, ledger id → nothing: rows of the dataset were made of this response.
    LoggedRows = "logged_rows";
    /// person, 0, kind, 0, name → NoteRecord.
    Notes = "notes";
    /// service id → Secret: the key of its upstream. It stands in no state, answer, event, log or export.
    UpstreamKeys = "upstream_keys";
    /// name, 0, number (u32 BE) → StandardRecord.
    Standards = "standards";
    /// job id, number (u64 BE) → RejectedCandidate of a generation.
    RejectedCandidates = "rejected_candidates";
    /// seq (u64 BE) → AuditRow.
    Audit = "audit";
    /// SHA-256 of person and idempotency text → time, payload hash, answer.
    Idempotency = "idempotency";
}
