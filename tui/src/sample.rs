//! Facts for tests: what a daemon on a small machine would say in the middle of the main job. The tests of
//! the screens and of the command line build on the same facts. Only tests see this. Never here: a test.

use hone_protocol::application::{
    ApplicationRecord, ApplicationView, Budget, KeyRecord, Limits, Outcome, Services, Usage,
};
use hone_protocol::dataset::{
    ChatMessage, DatasetRecord, DatasetVersionRecord, DatasetView, ImportReport, Part, Rejection, Segment, Shape, Split,
};
use hone_protocol::evaluation::{EvaluationRecord, Scorer, SuiteRecord};
use hone_protocol::event::{Machine, Snapshot};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Prompt, PromptText, Wish};
use hone_protocol::guard::{GuardAct, GuardCounts, GuardHit, GuardRecord, GuardSide, GuardSpec, GuardView, PiiKind};
use hone_protocol::hook::{AlertKind, AlertRecord, HookRecord, HookTarget, HookTry};
use hone_protocol::id::{
    AlertId, ApplicationId, DatasetId, DatasetVersionId, EvaluationId, HookId, JobId, KeyId, LedgerId, ModelId,
    ServiceId, SuiteId, VersionId,
};
use hone_protocol::job::{Checkpoint, JobRecord, JobResult, JobSpec, JobState, JobView, Progress, ShownState};
use hone_protocol::log::{
    Feedback, FeedbackRecord, LogDetail, LogEntry, LogLine, LogPage, LogSettings, LoggedAnswer, Rating,
};
use hone_protocol::model::{
    Alias, Fit, HistoryEntry, Lineage, ModelFacts, ModelRecord, ModelSource, ModelView, Storage, VersionRecord,
    VersionView, Weights, WeightsFile,
};
use hone_protocol::pool::{PoolPlace, PoolRecord, PoolView};
use hone_protocol::service::{ContextMemory, Price, ServiceRecord, ServiceState, ServiceView, ServingMemory};
use hone_protocol::standard::{Bounds, Checks, Criterion, StandardExample, StandardRecord, StandardSpec};
use hone_protocol::train::{Register, TrainParams, TrainPlan, TrainResult, TrainSpec};
use hone_protocol::usage::{ComputePrice, ComputeUsage, ReservedUsage};
use hone_protocol::value::{Hash, Metric, Pico};

pub(crate) mod labels;

/// The clock of all tests.
pub(crate) const NOW_MS: i64 = 1_774_000_000_000;
const MINUTE_MS: i64 = 60_000;

/// A daemon that was just installed.
pub(crate) fn empty() -> Snapshot {
    Snapshot {
        epoch: 7,
        seq: 1,
        at_ms: NOW_MS,
        person: "lin".into(),
        machine: Machine {
            host: "workshop".into(),
            cores: 2,
            cpu_busy: Some(0.97),
            memory_bytes: 24 << 30,
            memory_available_bytes: 20 << 30,
            pool_memory_bytes: 18 << 30,
            disk_free_bytes: 410 << 30,
            gpus: Vec::new(),
        },
        models: Vec::new(),
        datasets: Vec::new(),
        jobs: Vec::new(),
        services: Vec::new(),
        applications: Vec::new(),
        suites: Vec::new(),
        evaluations: Vec::new(),
        http: vec!["127.0.0.1:8080".into()],
        currency: "EUR".into(),
        pools: vec![pool("local", 0, None)],
        hooks: Vec::new(),
        alerts: Vec::new(),
        projects: Vec::new(),
    }
}

/// A pool with nothing in it.
pub(crate) fn pool(name: &str, changed_at_ms: i64, place: Option<PoolPlace>) -> PoolView {
    let changed_by = if changed_at_ms == 0 { String::new() } else { "lin".into() };
    PoolView {
        record: PoolRecord { name: name.into(), price: ComputePrice::default(), changed_at_ms, changed_by, place },
        cores: 8,
        memory_bytes: 18 << 30,
        used_bytes: 0,
        users: Vec::new(),
    }
}

/// An address that is told, and a command whose last try failed.
pub(crate) fn hooks() -> Vec<HookRecord> {
    let ops = HookRecord {
        id: HookId::from_bytes([90; 16]),
        name: "ops".into(),
        on: vec![AlertKind::JobFailed, AlertKind::ServiceDown],
        target: HookTarget::Webhook("https://ops.example/hone".into()),
        timeout_ms: 30_000,
        created_at_ms: NOW_MS - 90 * MINUTE_MS,
        created_by: "lin".into(),
        last: Some(HookTry {
            alert: AlertId::from_bytes([91; 16]),
            at_ms: NOW_MS - 12 * MINUTE_MS,
            number: 1,
            ok: true,
            status: Some(204),
            words: String::new(),
            ms: 84,
        }),
        delivered: 7,
        given_up: 0,
        dropped: 0,
        waiting: 0,
    };
    let tried = HookTry {
        alert: AlertId::from_bytes([92; 16]),
        at_ms: NOW_MS - 2 * MINUTE_MS,
        number: 3,
        ok: false,
        status: Some(1),
        words: "logger: no socket".into(),
        ms: 9,
    };
    let log = HookRecord {
        id: HookId::from_bytes([93; 16]),
        name: "log".into(),
        on: vec![AlertKind::JobSucceeded, AlertKind::BudgetCrossed],
        target: HookTarget::Command(vec!["/usr/bin/logger".into(), "-t".into(), "hone".into()]),
        last: Some(tried),
        delivered: 2,
        given_up: 1,
        waiting: 1,
        ..ops.clone()
    };
    vec![ops, log]
}

/// What was worth an alert, newest first.
pub(crate) fn alerts() -> Vec<AlertRecord> {
    let alert = |id: u8, minutes: i64, kind, subject: &str, message: &str| AlertRecord {
        id: AlertId::from_bytes([id; 16]),
        kind,
        at_ms: NOW_MS - minutes * MINUTE_MS,
        subject: subject.into(),
        message: message.into(),
        facts: Vec::new(),
    };
    vec![
        alert(
            96,
            2,
            AlertKind::BudgetCrossed,
            "web-shop",
            "application web-shop used 80 % of its budget; 4.20 is left",
        ),
        alert(95, 12, AlertKind::ServiceDown, "desk", "service desk is down: the worker was ended by signal 9"),
    ]
}

/// What inspection says of the starter.
pub(crate) fn facts() -> ModelFacts {
    ModelFacts {
        architecture: "llama".into(),
        name: "SmolLM2 135M Instruct".into(),
        licence: "apache-2.0".into(),
        parameters: 134_515_008,
        layers: 30,
        context_tokens: 8192,
        vocabulary: 49_152,
        embedding: 576,
        tensor_types: vec![("Q4_1".into(), 210), ("F32".into(), 61)],
        kv_bytes_per_token: 23_040,
        size_bytes: 91_000_000,
        has_chat_template: true,
        template_sha256: Hash([1; 32]),
        trainable: Ok(()),
        pooling: None,
    }
}

/// A version of a model; one with a base is an adapter.
pub(crate) fn version(id: u8, model: u8, reference: &str, weights: Weights, base: Option<&str>) -> VersionView {
    VersionView {
        record: VersionRecord {
            id: VersionId::from_bytes([id; 16]),
            model: ModelId::from_bytes([model; 16]),
            number: 1,
            weights,
            file: WeightsFile {
                path: format!("{reference}.gguf"),
                storage: Storage::HardLinked,
                size_bytes: if base.is_some() { 9_800_000 } else { 91_000_000 },
                sha256: Hash([id; 32]),
                modified_ns: 0,
            },
            facts: facts(),
            lineage: Lineage {
                job: Some(JobId::from_bytes([id; 16])),
                step: base.map(|_| 284),
                dataset: base.map(|_| DatasetVersionId::from_bytes([41; 16])),
                source: if base.is_some() { String::new() } else { "starter".into() },
                parent: None,
                warning: None,
            },
            created_at_ms: NOW_MS - 95 * MINUTE_MS,
            created_by: "lin".into(),
            receipt: None,
            trashed_at_ms: None,
        },
        reference: reference.into(),
        base_reference: base.map(str::to_owned),
        services: if base.is_some() { vec!["desk".into()] } else { Vec::new() },
        score: base.map(|_| ("desk-held-out".into(), 0.81)),
        fit: Fit { serve_bytes: 420 << 20, train_bytes: 900 << 20, pool_bytes: 18 << 30 },
    }
}

/// A model; one whose newest version is an adapter has an alias.
pub(crate) fn model(id: u8, name: &str, title: &str, versions: Vec<VersionView>) -> ModelView {
    let aliases = match versions.first() {
        Some(v) if v.base_reference.is_some() => {
            vec![Alias { name: "stable".into(), version: v.record.id, previous: None }]
        }
        _ => Vec::new(),
    };
    ModelView {
        record: ModelRecord {
            id: ModelId::from_bytes([id; 16]),
            name: name.into(),
            title: title.into(),
            licence: "Apache-2.0".into(),
            aliases,
            gates: None,
            created_at_ms: NOW_MS - 100 * MINUTE_MS,
            created_by: "lin".into(),
        },
        versions,
    }
}

/// A run as the form makes it.
pub(crate) fn spec() -> TrainSpec {
    TrainSpec {
        base: "smollm2@1".into(),
        params: TrainParams { batch_windows: 4, sequence_tokens: 128, evaluate_steps: 20, ..TrainParams::default() },
        dataset: "support-desk".into(),
        split: Split { held_out_percent: 15, seed: 42 },
        replay: None,
        samples: Some(vec!["How do I reset my password?".into(), "Where is my order?".into()]),
        register: Some(Register { model: "support-desk-tuned".into(), alias: String::new(), publish: String::new() }),
        draft_consent: None,
    }
}

/// A job that was asked for some minutes ago.
pub(crate) fn job(id: u8, spec: JobSpec, state: JobState, shown: ShownState, minutes_ago: i64) -> JobView {
    let ended = !matches!(state, JobState::Queued);
    let at = NOW_MS - minutes_ago * MINUTE_MS;
    JobView {
        record: JobRecord {
            id: JobId::from_bytes([id; 16]),
            spec,
            person: "lin".into(),
            payer: ApplicationId::from_bytes([60; 16]),
            created_at_ms: at,
            state,
            wish: None,
            attempt: u32::from(shown != ShownState::Queued),
            strikes: 0,
            barren: 0,
            checkpoint: None,
            started_at_ms: Some(at),
            ended_at_ms: ended.then_some(at + 2 * MINUTE_MS),
            next_event_seq: 4,
            compute: None,
            batch: None,
            pool: None,
        },
        shown,
        waits_for: String::new(),
        progress: None,
        plan: None,
        last_loss: None,
        tokens_per_s: None,
        pid: None,
        slurm: None,
    }
}

fn jobs() -> Vec<JobView> {
    let plan = TrainPlan {
        rows: 571,
        rows_held_out: 98,
        tokens: 35_120,
        target_tokens: 16_400,
        rows_left_out: 0,
        rows_cut: 0,
        rows_without_targets: 0,
        windows: 284,
        steps: 142,
        memory_bytes: 860 << 20,
        streamed: false,
        recompute_every: 0,
        checkpoint_bytes: 29_300_000,
        adapter_bytes: 9_770_000,
        duration_ms: Some(301_000),
    };
    let mut running = job(17, JobSpec::Train(Box::new(spec())), JobState::Queued, ShownState::Running, 6);
    running.progress =
        Some(Progress { phase: "phase.train".into(), done: 65, total: 142, remaining_ms: Some(9 * 60_000) });
    running.plan = Some(plan);
    running.last_loss = Some(1.083);
    running.record.checkpoint =
        Some(Checkpoint { step: 60, folder: "checkpoint-60".into(), manifest_sha256: Hash([5; 32]) });
    let mut waiting = job(
        16,
        JobSpec::Evaluate(hone_protocol::evaluation::EvaluateSpec {
            version: "support-desk-tuned@1".into(),
            suite: "desk-held-out".into(),
            answer_tokens_max: 64,
            rows_max: 0,
        }),
        JobState::Queued,
        ShownState::Queued,
        5,
    );
    waiting.waits_for = "the pool's cores are taken by a training run".into();
    let result = TrainResult {
        steps: 142,
        kept_step: 142,
        tokens: 70_240,
        loss: Metric::Finite(1.12),
        tokens_per_s: 244.0,
        duration_ms: Some(287_000),
        peak_memory_bytes: Some(1_240_000_000),
        version: Some(VersionId::from_bytes([32; 16])),
    };
    let with = |change: fn(&mut TrainParams)| {
        let mut spec = spec();
        change(&mut spec.params);
        JobSpec::Train(Box::new(spec))
    };
    let mut done = job(
        15,
        with(|params| (params.rank, params.learning_rate) = (16, 1e-3)),
        JobState::Succeeded(JobResult::Train(result)),
        ShownState::Succeeded,
        60,
    );
    done.last_loss = Some(1.12);
    done.plan = Some(plan);
    let failure = Failure::new(FailureCode::DoesNotFit, "the run needs 25.1 G and the pool has 18.0 G")
        .at("batch_windows")
        .hint(HintCode::ReduceMemory);
    let large = with(|params| (params.batch_windows, params.sequence_tokens) = (64, 2048));
    let failed = job(14, large, JobState::Failed(failure), ShownState::Failed, 70);
    let import = job(
        12,
        JobSpec::ImportModel { source: ModelSource::Starter, name: "smollm2".into() },
        JobState::Succeeded(JobResult::Model(VersionId::from_bytes([31; 16]))),
        ShownState::Succeeded,
        95,
    );
    vec![running, waiting, done, failed, import]
}

/// The preset rows with two lines that were rejected.
pub(crate) fn dataset() -> DatasetView {
    let rejection = |line, field: &str, reason: &str| Rejection { line, field: field.into(), reason: reason.into() };
    DatasetView {
        record: DatasetRecord {
            id: DatasetId::from_bytes([40; 16]),
            name: "support-desk".into(),
            title: "Zellavane help desk".into(),
            shape: Shape::Chat,
            licence: "CC0-1.0".into(),
            next_row_id: 669,
            created_at_ms: NOW_MS - 90 * MINUTE_MS,
            created_by: "lin".into(),
        },
        versions: vec![DatasetVersionRecord {
            id: DatasetVersionId::from_bytes([41; 16]),
            dataset: DatasetId::from_bytes([40; 16]),
            number: 1,
            segments: vec![Segment { sha256: Hash([9; 32]), size_bytes: 300_000, rows: 669, first_row_id: 0 }],
            rows: 669,
            import: ImportReport {
                format: "open_ai".into(),
                source: "preset support-desk".into(),
                read: 672,
                kept: 669,
                rejected: 3,
                duplicates: 1,
                rejections: vec![
                    rejection(12, "messages[1].role", "\"bot\" is no role; use system, user or assistant"),
                    rejection(90, "", "the line is not JSON: expected `,` at column 41"),
                ],
            },
            job: None,
            lineage: None,
            processed: None,
            facts: None,
            created_at_ms: NOW_MS - 90 * MINUTE_MS,
            created_by: "lin".into(),
            generated: None,
            release: None,
            trashed_at_ms: None,
            removed: None,
            parents: None,
        }],
    }
}

/// A standard with something of everything.
pub(crate) fn standard() -> StandardRecord {
    let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let example = |good, answer: &str, reason: &str| StandardExample {
        messages: vec![message("user", "When do you open?"), message("assistant", answer)],
        good,
        reason: reason.into(),
    };
    StandardRecord {
        name: "tone".into(),
        number: 2,
        spec: StandardSpec {
            title: "How the help desk speaks".into(),
            shape: Shape::Chat,
            about: "You answer customers of a shop, kindly and in one or two sentences.".into(),
            criteria: vec![
                Criterion { name: "kind".into(), about: "It is kind.".into(), weight: 1, scale: 5 },
                Criterion { name: "true".into(), about: "It says only what is so.".into(), weight: 3, scale: 5 },
            ],
            examples: vec![
                example(true, "We open at nine.", "short and to the point"),
                example(false, "As an AI I cannot know.", "says nothing"),
            ],
            checks: Checks {
                answer_chars: Bounds { min: Some(10), max: Some(400) },
                must_not_match: vec!["(?i)as an ai".into()],
                language: "en".into(),
                similarity_max_percent: Some(80),
                pii: vec![PiiKind::Email],
                turns: Bounds { min: Some(1), max: Some(3) },
                ..Checks::default()
            },
        },
        created_at_ms: NOW_MS - 30 * MINUTE_MS,
        created_by: "lin".into(),
        removed_at_ms: None,
    }
}

/// The owner, and a shop that calls a service.
pub(crate) fn applications() -> Vec<ApplicationView> {
    let application = |id: u8, name: &str, usage: Usage, keys: Vec<KeyRecord>| ApplicationView {
        record: ApplicationRecord {
            id: ApplicationId::from_bytes([id; 16]),
            name: name.into(),
            title: String::new(),
            services: Services::All,
            limits: (id != 60).then_some(Limits {
                requests_per_minute: Some(60),
                tokens_per_minute: None,
                parallel: Some(4),
            }),
            budget: (id != 60).then_some(Budget::Monthly { amount: Pico(25 * Pico::PER_UNIT) }),
            log: (id != 60).then_some(LogSettings { share_percent: 25, mask_pii: true, ..LogSettings::default() }),
            priority: None,
            created_at_ms: NOW_MS - 50 * MINUTE_MS,
            created_by: "lin".into(),
        },
        services: vec!["desk".into()],
        keys,
        usage,
        compute: ComputeUsage::default(),
        reserved: ReservedUsage::default(),
        left: (id != 60).then_some(Pico(24_924_150_000_000)),
    };
    let key = KeyRecord {
        id: KeyId::from_bytes([70; 16]),
        application: ApplicationId::from_bytes([61; 16]),
        sha256: Hash([7; 32]),
        label: "laptop".into(),
        created_at_ms: NOW_MS - 40 * MINUTE_MS,
        revoked_at_ms: None,
        expires_at_ms: Some(NOW_MS + 30 * 24 * 60 * MINUTE_MS),
        last_used_at_ms: Some(NOW_MS - 2 * MINUTE_MS),
    };
    let usage = Usage {
        requests: 412,
        prompt_tokens: 31_240,
        cached_tokens: 12_000,
        completion_tokens: 18_930,
        amount: Pico(75_850_000_000),
        errors: 3,
    };
    vec![application(60, "owner", Usage::default(), Vec::new()), application(61, "web-shop", usage, vec![key])]
}

fn evaluation(id: u8, version: u8, loss: f64, score: f64) -> EvaluationRecord {
    EvaluationRecord {
        id: EvaluationId::from_bytes([id; 16]),
        suite: SuiteId::from_bytes([50; 16]),
        version: VersionId::from_bytes([version; 16]),
        job: JobId::from_bytes([id; 16]),
        rows: 98,
        loss: Some(loss),
        loss_tokens: 2_900,
        score: Some(score),
        created_at_ms: NOW_MS - 30 * MINUTE_MS,
    }
}

/// A service that answers.
pub(crate) fn service() -> ServiceView {
    ServiceView {
        record: ServiceRecord {
            id: ServiceId::from_bytes([80; 16]),
            name: "desk".into(),
            version: VersionId::from_bytes([32; 16]),
            pool: "cpu".into(),
            slots: 4,
            context_tokens: 2048,
            price: Price { input_micros: Some(500_000), cached_micros: None, output_micros: Some(1_500_000) },
            wanted: true,
            keep: None,
            reserved: None,
            follows: None,
            created_at_ms: NOW_MS - 45 * MINUTE_MS,
            created_by: "lin".into(),
            upstream: None,
        },
        version_reference: "support-desk-tuned@1".into(),
        state: ServiceState::On,
        active: 1,
        waiting: 0,
        restarts: 0,
        requests: 412,
        memory_bytes: 310 << 20,
        is_encoder: false,
        memory: Some(ServingMemory {
            weights_bytes: 94 << 20,
            contexts: vec![ContextMemory {
                adapter: Some(VersionId::from_bytes([32; 16])),
                adapter_bytes: 4 << 20,
                cache_bytes: 52 << 20,
                cache_bytes_max: 180 << 20,
            }],
        }),
        moving: None,
        trouble: None,
    }
}

/// A gallery with something on every shelf: a merged version, an import, and one in the trash for four days.
pub(crate) fn gallery() -> Snapshot {
    let mut facts = filled();
    let mut merged = version(33, 21, "support-desk-tuned@2", Weights::Base, None);
    (merged.record.number, merged.record.lineage.parent) = (2, Some(VersionId::from_bytes([32; 16])));
    merged.record.lineage.source = "support-desk-tuned@1 merged into smollm2@1 as f16".into();
    let adapter = Weights::Adapter { base: VersionId::from_bytes([31; 16]), rank: 4, alpha: 8.0 };
    let mut trashed = version(34, 21, "support-desk-tuned@3", adapter, Some("smollm2@1"));
    (trashed.record.number, trashed.services) = (3, Vec::new());
    trashed.record.trashed_at_ms = Some(NOW_MS - 4 * 24 * 60 * MINUTE_MS);
    facts.models[1].versions.extend([merged, trashed]);
    let mut brought = version(35, 22, "qwen3-0.6b@1", Weights::Base, None);
    brought.record.lineage.source = "huggingface:Qwen/Qwen3-0.6B-GGUF@main/q8_0.gguf".into();
    facts.models.push(model(22, "qwen3-0.6b", "", vec![brought]));
    facts
}

/// What touched the adapter.
pub(crate) fn history() -> Vec<HistoryEntry> {
    let entry = |what: &str, minutes: i64, job: Option<u8>, state, made, other: &str| HistoryEntry {
        version: "support-desk-tuned@1".into(),
        at_ms: NOW_MS - minutes * MINUTE_MS,
        person: "lin".into(),
        what: what.into(),
        made,
        job: job.map(|id| JobId::from_bytes([id; 16])),
        state,
        other: other.into(),
    };
    vec![
        entry("export", 20, Some(18), Some(ShownState::Failed), false, "there is something of that name already"),
        entry("evaluate", 30, Some(52), Some(ShownState::Succeeded), false, "desk-held-out, 0.810"),
        entry("publish", 45, None, None, false, "desk"),
        entry("train", 60, Some(15), Some(ShownState::Succeeded), true, "smollm2@1, support-desk@1"),
    ]
}

/// A daemon in the middle of the main job.
pub(crate) fn filled() -> Snapshot {
    let adapter = Weights::Adapter { base: VersionId::from_bytes([31; 16]), rank: 8, alpha: 16.0 };
    Snapshot {
        models: vec![
            model(20, "smollm2", "SmolLM2 135M Instruct", vec![version(31, 20, "smollm2@1", Weights::Base, None)]),
            model(
                21,
                "support-desk-tuned",
                "",
                vec![version(32, 21, "support-desk-tuned@1", adapter, Some("smollm2@1"))],
            ),
        ],
        datasets: vec![dataset()],
        jobs: jobs(),
        services: vec![service()],
        applications: applications(),
        suites: vec![SuiteRecord {
            id: SuiteId::from_bytes([50; 16]),
            name: "desk-held-out".into(),
            dataset: DatasetVersionId::from_bytes([41; 16]),
            split: Split { held_out_percent: 15, seed: 42 },
            part: Part::HeldOut,
            scorers: vec![Scorer::Loss, Scorer::Expect],
            created_at_ms: NOW_MS - 35 * MINUTE_MS,
            created_by: "lin".into(),
        }],
        evaluations: vec![evaluation(52, 32, 0.94, 0.81), evaluation(51, 31, 2.71, 0.22)],
        projects: labels::projects(),
        ..empty()
    }
}

/// Two logged requests of web-shop: one that was said to be bad and corrected, one with a call that a guard looked at.
pub(crate) fn log_page() -> LogPage {
    let line = |id: u8, asked: &str, answered: &str, ratings, is_corrected| LogLine {
        id: LedgerId::from_bytes([id; 16]),
        at_ms: NOW_MS - i64::from(id) * MINUTE_MS,
        service: "desk".into(),
        version: "support@2".into(),
        user: "ann".into(),
        outcome: Outcome::Complete,
        finish: "stop".into(),
        prompt_tokens: 76,
        completion_tokens: 46,
        total_ms: Some(820),
        asked: asked.into(),
        answered: answered.into(),
        ratings,
        is_corrected,
        guarded: 1,
        cut_bytes: 0,
    };
    LogPage {
        lines: vec![
            line(40, "When are you open on Sundays?", "We are open at any time.", (0, 1), true),
            line(41, "我的订单在哪里？", "您的订单已发出。", (2, 0), false),
        ],
        next: None,
        bytes: 81_920,
        dropped: 0,
    }
}

/// The first of them in full.
pub(crate) fn log_detail() -> LogDetail {
    let line = log_page().lines.remove(0);
    let entry = LogEntry {
        id: line.id,
        opened_at_ms: line.at_ms - 820,
        at_ms: line.at_ms,
        key: None,
        service: line.service,
        version: line.version.clone(),
        route: "/v1/chat/completions".into(),
        outcome: line.outcome,
        prompts: vec![Prompt::chat(vec![ChatMessage { role: "user".into(), content: line.asked.clone() }])],
        answers_wanted: 1,
        tokens_max: Some(64),
        wish: Wish::default(),
        rendered: vec![PromptText {
            text: format!("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", line.asked),
            control: vec![(0, 12), (46, 56), (57, 69)],
            tokens: 76,
        }],
        answers: vec![LoggedAnswer { finish: "stop".into(), text: line.answered, ..LoggedAnswer::default() }],
        prompt_tokens: line.prompt_tokens,
        cached_tokens: 30,
        completion_tokens: line.completion_tokens,
        first_token_ms: Some(64),
        total_ms: line.total_ms,
        user: line.user,
        metadata: vec![("page".into(), "help".into())],
        guards: vec![GuardHit { guard: "pii".into(), side: GuardSide::Input, act: GuardAct::Mask, matches: 1 }],
        masked: 0,
        cut_bytes: 0,
    };
    let feedback = Feedback {
        rating: Some(Rating::Down),
        comment: "Not true.".into(),
        correction: "We are open from ten to six on Sundays.".into(),
        user: "ann".into(),
    };
    let record = FeedbackRecord {
        response: entry.id,
        application: ApplicationId::from_bytes([61; 16]),
        service: ServiceId::from_bytes([80; 16]),
        version: line.version,
        feedback,
        at_ms: NOW_MS - 5 * MINUTE_MS,
    };
    LogDetail { application: "web-shop".into(), entry: Some(entry), feedback: vec![record] }
}

/// A guard that masks personal data everywhere, and one that keeps names of rivals out of one service's answers.
pub(crate) fn guards() -> Vec<GuardView> {
    let spec = |act, output_only: bool| GuardSpec {
        words: Vec::new(),
        patterns: Vec::new(),
        kinds: Vec::new(),
        input: !output_only,
        output: true,
        act,
        services: Vec::new(),
        applications: Vec::new(),
    };
    let view = |name: &str, spec, counts| GuardView {
        record: GuardRecord {
            name: name.into(),
            spec,
            changed_at_ms: NOW_MS - 60 * MINUTE_MS,
            changed_by: "lin".into(),
        },
        counts,
    };
    let kinds = vec![PiiKind::Email, PiiKind::Phone, PiiKind::Card];
    let words = vec!["Acme".to_owned(), "Blue Ox".to_owned()];
    let rivals = GuardSpec {
        words,
        patterns: vec!["(?i)acme-[0-9]+".into()],
        services: vec!["desk".into()],
        ..spec(GuardAct::Refuse, true)
    };
    vec![
        view(
            "pii",
            GuardSpec { kinds, ..spec(GuardAct::Mask, false) },
            GuardCounts { input: 41, output: 3, refused: 0 },
        ),
        view("rivals", rivals, GuardCounts { input: 0, output: 5, refused: 5 }),
    ]
}
