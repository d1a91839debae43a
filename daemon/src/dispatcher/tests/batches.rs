//! Rows of batches and the files that they are of: what is kept, billed, and let go.

use hone_protocol::batch::{BatchCounts, BatchRow, BatchSpec, DatasetBatch, DatasetLineage, FileBatch, FileRecord};
use hone_protocol::generate::{Format, Sampling};
use hone_protocol::job::JobRecord;

use super::super::event::{FileWish, KeptRow};
use super::*;

pub(super) fn batch() -> DatasetBatch {
    DatasetBatch {
        dataset: "desk".into(),
        service: "base".into(),
        name: "answers".into(),
        system: String::new(),
        sampling: Sampling::greedy(),
        tokens_max: 32,
        format: Format::Text,
        payer: "owner".into(),
        rows_at_once: 0,
        rows_max: 0,
    }
}

fn running() -> (Desk, JobId) {
    let mut desk = Desk::furnished();
    desk.ask("", publish("base")).unwrap();
    let spec = JobSpec::Batch(BatchSpec::Dataset(Box::new(batch())));
    let job = desk.submit("", spec);
    desk.fact("", job, Fact::BatchCounted(100));
    desk.said.clear();
    (desk, job)
}

fn opened(desk: &mut Desk) -> LedgerId {
    let service = desk.state().services.values().next().unwrap().clone();
    let id = new_id();
    let row = LedgerRow {
        id,
        application: desk.state().application(crate::state::OWNER).unwrap().id,
        key: None,
        service: service.id,
        version: service.version,
        opened_at_ms: 0,
        day: "2026-01-01".into(),
        closed_at_ms: None,
        outcome: Outcome::Open,
        prompt_tokens: 0,
        cached_tokens: 0,
        completion_tokens: 0,
        price: service.price,
        amount: Default::default(),
        user: String::new(),
        metadata: Vec::new(),
        first_token_ms: None,
        total_ms: None,
    };
    desk.tell("a row opens", Event::OpenRow { row: Box::new(row), tokens_most: (20, 32), reply: oneshot::channel().0 });
    id
}

fn kept(desk: &mut Desk, title: &str, job: JobId, number: u32, row: u64, ledger: LedgerId) {
    let done = BatchRow {
        row,
        custom_id: String::new(),
        answer: Ok("yes".into()),
        finish: "stop".into(),
        version: "starter@1".into(),
        ledger: Some(ledger),
        prompt_tokens: 20,
        cached_tokens: 4,
        completion_tokens: 7,
    };
    let close = Close {
        outcome: Outcome::Complete,
        prompt_tokens: 20,
        cached_tokens: 4,
        completion_tokens: 7,
        first_token_ms: None,
        total_ms: 0,
        is_estimate: false,
    };
    let kept = KeptRow { row: done, close: Some(close), tokens_per_s: 50.0, remaining_ms: None };
    desk.tell(title, Event::BatchRow { job, number, kept: Box::new(kept), done: oneshot::channel().0 });
}

fn counts(desk: &Desk, job: JobId) -> BatchCounts {
    desk.state().job(job).unwrap().batch.unwrap()
}

fn stored(desk: &Desk, job: JobId, failed: bool) -> usize {
    desk.store.as_ref().unwrap().prefix(Table::BatchRows, &batch_prefix(job, failed)).unwrap().len()
}

#[test]
fn a_row_and_its_bill_are_one_and_what_a_crash_cuts_is_neither() {
    let (mut desk, job) = running();
    let told = opened(&mut desk);
    opened(&mut desk);
    kept(&mut desk, "the first is answered", job, 1, 0, told);
    let waiting =
        BatchCounts { rows: 100, answered: 1, failed: 0, prompt_tokens: 20, cached_tokens: 4, completion_tokens: 7 };
    assert_eq!((counts(&desk, job), stored(&desk, job, false)), (waiting, 1));
    desk.start("the daemon is killed and starts again: the other is billed nothing");
    let owner = desk.state().application(crate::state::OWNER).unwrap().id;
    let usage = desk.state().usage[&owner];
    assert_eq!((usage.requests, usage.prompt_tokens, usage.completion_tokens), (2, 20, 7));
    assert_eq!(counts(&desk, job), waiting, "counts are durable");
    let late = opened(&mut desk);
    kept(&mut desk, "an older attempt reports late", job, 1, 1, late);
    assert_eq!(counts(&desk, job), waiting);
    assert_eq!(stored(&desk, job, false), 1, "its answer is not kept");
    let usage = desk.state().usage[&owner];
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (20, 7), "and not billed");
}

#[test]
fn answers_are_let_go_when_they_are_rows_of_a_dataset_and_failures_stay() {
    let (mut desk, job) = running();
    let ledger = opened(&mut desk);
    kept(&mut desk, "", job, 1, 0, ledger);
    let failure = Failure::new(FailureCode::ContextExceeded, "too long");
    let row = BatchRow {
        row: 1,
        custom_id: String::new(),
        answer: Err(failure),
        finish: String::new(),
        version: String::new(),
        ledger: None,
        prompt_tokens: 0,
        cached_tokens: 0,
        completion_tokens: 0,
    };
    let refused = KeptRow { row, close: None, tokens_per_s: 0.0, remaining_ms: None };
    desk.tell("", Event::BatchRow { job, number: 1, kept: Box::new(refused), done: oneshot::channel().0 });
    assert_eq!((counts(&desk, job).answered, counts(&desk, job).failed), (1, 1));
    let source = desk.state().dataset_version("desk").unwrap().id;
    let lineage = Some(DatasetLineage { source, service: "base".into(), versions: vec!["starter@1".into()] });
    let report = ImportReport { format: "messages".into(), read: 2, kept: 1, rejected: 1, ..ImportReport::default() };
    let segment = Segment { sha256: Hash([6; 32]), size_bytes: 512, rows: 1, first_row_id: 0 };
    let made = Produced::Dataset {
        report,
        segments: vec![segment],
        first_row_id: 0,
        licence: String::new(),
        lineage,
        responses: Vec::new(),
        processed: None,
    };
    desk.end("", job, AttemptEnd::Produced(Box::new(made)));
    assert_eq!((stored(&desk, job, false), stored(&desk, job, true)), (0, 1));
    let version = desk.state().dataset_version("answers@1").unwrap();
    assert_eq!(version.lineage.as_ref().map(|lineage| lineage.source), Some(source));
}

#[test]
fn a_file_is_its_applications_and_stays_while_a_batch_reads_it() {
    let mut desk = Desk::furnished();
    let owner = desk.state().application(crate::state::OWNER).unwrap().id;
    let file = FileRecord {
        id: new_id(),
        application: owner,
        filename: "q.jsonl".into(),
        purpose: "batch".into(),
        size_bytes: 9,
        created_at_ms: 0,
    };
    let id = file.id;
    let wish = |desk: &mut Desk, wish: FileWish| {
        let (reply, mut done) = oneshot::channel();
        desk.tell("", Event::File { wish, reply });
        // What is refused is told at once; nothing here carries out the effect that tells of success.
        done.try_recv().is_ok_and(|told| told.is_err())
    };
    assert!(!wish(&mut desk, FileWish::Add(file)));
    desk.start("");
    assert!(desk.state().files.contains_key(&id), "it is durable");
    let spec = FileBatch {
        file: id,
        filename: "q.jsonl".into(),
        endpoint: "/v1/chat/completions".into(),
        payer: "owner".into(),
        metadata: Vec::new(),
        window: "24h".into(),
    };
    let job = desk.submit("", JobSpec::Batch(BatchSpec::File(spec)));
    let remove = |application| FileWish::Remove { application, file: id };
    assert!(wish(&mut desk, remove(owner)) && desk.state().files.contains_key(&id), "a batch reads it");
    desk.ask("", Request::Cancel { job }).unwrap();
    desk.end("", job, AttemptEnd::Stopped);
    let is_ended = |job: &Arc<JobRecord>| job.state == hone_protocol::job::JobState::Cancelled;
    assert!(is_ended(desk.state().job(job).unwrap()));
    assert!(wish(&mut desk, remove(new_id())) && desk.state().files.contains_key(&id), "another application");
    assert!(!wish(&mut desk, remove(owner)));
    assert!(!desk.state().files.contains_key(&id));
}
