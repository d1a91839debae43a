//! Standards and what is made to them: numbers, drafts, releases, and rows that are never held out. And the trash of datasets.

use hone_protocol::dataset::{DatasetVersionRecord, Shape};
use hone_protocol::evaluation::Scorer;
use hone_protocol::generation::{GenerateMethod, GenerateSpec, Generated};
use hone_protocol::job::JobResult;
use hone_protocol::mixture::{MixSource, MixSpec, SplitPart, SplitSpec};
use hone_protocol::model::TRASH_KEPT_MS;
use hone_protocol::standard::{StandardExample, StandardSpec};

use super::super::event::PickedPart;
use super::*;

pub(super) fn generate() -> GenerateSpec {
    GenerateSpec {
        standard: "tone".into(),
        service: "base".into(),
        name: "made".into(),
        method: GenerateMethod::SelfInstruct,
        source: "desk".into(),
        count: 10,
        seed: 1,
        temperature: 0.7,
        top_p: 1.0,
        tokens_max: 64,
        similarity_max_percent: 70,
        judge: String::new(),
        judge_least_percent: 0,
        requests_max: 0,
        total_tokens_max: 0,
        payer: "owner".into(),
        at_once: 0,
    }
}

pub(super) fn mix() -> MixSpec {
    let source = |dataset: &str, weight| MixSource { dataset: dataset.into(), weight };
    MixSpec { sources: vec![source("desk", 3), source("made", 1)], name: "mixed".into(), rows: 0, seed: 1 }
}

pub(super) fn split() -> SplitSpec {
    let part = |name: &str, percent| SplitPart { name: name.into(), percent };
    SplitSpec { dataset: "desk".into(), parts: vec![part("desk-train", 80), part("desk-test", 20)], seed: 1 }
}

fn set(desk: &mut Desk, about: &str) -> Result<Answer, Failure> {
    let spec = StandardSpec { about: about.into(), ..StandardSpec::new(Shape::Chat) };
    desk.ask("", Request::SetStandard { name: "tone".into(), spec: Box::new(spec) })
}

fn number(answer: Result<Answer, Failure>) -> u32 {
    let Ok(Answer::Standard(record)) = answer else { panic!("{answer:?}") };
    record.number
}

fn submit(desk: &mut Desk, spec: GenerateSpec) -> Result<Answer, Failure> {
    desk.ask("", Request::Submit { spec: JobSpec::Generate(Box::new(spec)), payer: None, pool: None })
}

/// A desk with a standard, a service, and a version that was generated.
fn with_generated() -> (Desk, JobId) {
    let mut desk = Desk::furnished();
    desk.ask("", publish("base")).unwrap();
    set(&mut desk, "Be kind.").unwrap();
    let job = desk.submit("", JobSpec::Generate(Box::new(generate())));
    let source = desk.state().dataset_version("desk").unwrap().id;
    let made = Generated {
        standard: "tone@1".into(),
        method: "self_instruct".into(),
        source: Some(source),
        service: "base".into(),
        versions: vec!["starter@1".into()],
        requests: 25,
        kept: 10,
        rejected: 2,
        ended: String::new(),
    };
    let report = ImportReport { format: "openai".into(), read: 12, kept: 10, rejected: 2, ..ImportReport::default() };
    let segment = Segment { sha256: Hash([6; 32]), size_bytes: 4096, rows: 10, first_row_id: 0 };
    let produced = Produced::Generated { made, report, segments: vec![segment], first_row_id: 0 };
    desk.end("", job, AttemptEnd::Produced(Box::new(produced)));
    desk.said.clear();
    (desk, job)
}

fn version<'d>(desk: &'d Desk, reference: &str) -> &'d DatasetVersionRecord {
    desk.state().any_dataset_version(reference).unwrap()
}

#[test]
fn an_edit_makes_a_number_and_removal_keeps_what_was() {
    let mut desk = Desk::furnished();
    assert_eq!(number(set(&mut desk, "Be kind.")), 1);
    assert_eq!(number(set(&mut desk, "Be kind.")), 1, "nothing was changed");
    assert_eq!(number(set(&mut desk, "Be brief.")), 2);
    assert_eq!(desk.state().standard("tone@1").unwrap().spec.about, "Be kind.");
    desk.ask("", Request::RemoveStandard { name: "tone".into() }).unwrap();
    assert_eq!(desk.state().standard("tone").unwrap_err().code, FailureCode::NotFound);
    assert!(desk.state().standard_views().is_empty());
    assert_eq!(desk.state().standard("tone@2").unwrap().spec.about, "Be brief.", "what was made to it can be read");
    assert_eq!(number(set(&mut desk, "Be brief.")), 3, "no number is given again");
    desk.start("it is stored");
    assert_eq!(desk.state().standard("tone").unwrap().number, 3);
    let wrong = Request::SetStandard { name: "No Name".into(), spec: Box::new(StandardSpec::new(Shape::Chat)) };
    assert_eq!(desk.ask("", wrong).unwrap_err().place, "name");
}

#[test]
fn a_form_that_cannot_work_is_refused_by_its_field() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("base")).unwrap();
    set(&mut desk, "Be kind.").unwrap();
    let mut place = |change: &dyn Fn(&mut GenerateSpec)| {
        let mut spec = generate();
        change(&mut spec);
        submit(&mut desk, spec).unwrap_err().place
    };
    assert_eq!(place(&|s| s.standard = "none".into()), "standard");
    assert_eq!(place(&|s| s.service = "none".into()), "service");
    assert_eq!(place(&|s| s.count = 0), "count");
    assert_eq!(place(&|s| s.tokens_max = 0), "tokens_max");
    assert_eq!(place(&|s| s.similarity_max_percent = 101), "similarity_max_percent");
    assert_eq!(place(&|s| s.judge = "base".into()), "judge", "there is no rubric");
    assert_eq!(place(&|s| s.source = String::new()), "source", "there is no example");
    assert_eq!(place(&|s| s.name = "A B".into()), "name");
    assert_eq!(place(&|s| s.payer = "none".into()), "application");
    let documents = GenerateMethod::Documents { chunk_chars: 200, overlap_chars: 150 };
    assert_eq!(place(&|s| s.method = documents.clone()), "overlap_chars");
    assert_eq!(place(&|s| s.method = GenerateMethod::Translate { language: " ".into() }), "language");
    submit(&mut desk, generate()).unwrap();
    let job = desk.state().jobs.values().next_back().unwrap().clone();
    let JobSpec::Generate(spec) = &job.spec else { panic!("a generation") };
    assert_eq!((spec.standard.as_str(), spec.source.as_str()), ("tone@1", "desk@1"), "names are exact");
    let failure = desk.ask("", Request::RemoveStandard { name: "tone".into() }).unwrap_err();
    assert_eq!(failure.code, FailureCode::InUse);
    assert!(failure.message_en.contains(&job.id.to_string()), "{failure}");
}

#[test]
fn what_was_generated_is_a_draft_and_is_never_held_out() {
    let (mut desk, _) = with_generated();
    assert!(!version(&desk, "made@1").is_released());
    assert_eq!(version(&desk, "made@1").generated.as_ref().unwrap().standard, "tone@1");
    let suite = Request::CreateSuite {
        name: "exam".into(),
        dataset: "made".into(),
        split: super::split(),
        part: Part::HeldOut,
        scorers: vec![Scorer::Loss],
    };
    let failure = desk.ask("", suite).unwrap_err();
    assert_eq!(failure.place, "dataset");
    assert!(failure.message_en.contains("made@1"), "{failure}");
    let run = |held_out_percent, draft_consent| {
        let JobSpec::Train(spec) = train() else { panic!("a run") };
        let split = Split { held_out_percent, seed: 7 };
        let spec = TrainSpec { dataset: "made".into(), split, draft_consent, ..*spec };
        Request::Submit { spec: JobSpec::Train(Box::new(spec)), payer: None, pool: None }
    };
    let failure = desk.ask("", run(0, None)).unwrap_err();
    assert_eq!((failure.code, failure.place.as_str()), (FailureCode::WrongState, "dataset"), "{failure}");
    desk.ask("", run(0, Some(true))).unwrap();
    let release = |released| Request::ReleaseDataset { version: "made@1".into(), released };
    desk.ask("", release(true)).unwrap();
    assert_eq!(desk.ask("", release(true)).unwrap_err().code, FailureCode::WrongState);
    let failure = desk.ask("", run(10, None)).unwrap_err();
    assert_eq!(failure.place, "held_out_percent", "{failure}");
    desk.ask("", run(0, None)).unwrap();
    desk.ask("", release(false)).unwrap();
    assert!(!version(&desk, "made@1").is_released());
    desk.ask("what people wrote is released", Request::ReleaseDataset { version: "desk@1".into(), released: true })
        .unwrap_err();
}

#[test]
fn rejected_candidates_are_kept() {
    let (mut desk, _) = with_generated();
    let job = desk.submit("", JobSpec::Generate(Box::new(generate())));
    let candidate =
        hone_protocol::generation::RejectedCandidate { number: 3, messages: Vec::new(), faults: Vec::new() };
    desk.fact("", job, Fact::Rejected(vec![candidate]));
    let key = crate::dispatcher::candidate_key(job, 3);
    desk.start("the store has it");
    let kept = desk.store.as_ref().unwrap().get(crate::store::Table::RejectedCandidates, &key).unwrap();
    assert!(kept.is_some());
}

#[test]
fn a_dataset_in_use_stays_and_one_in_the_trash_comes_back_or_goes() {
    let (mut desk, _) = with_generated();
    let trash = |name: &str| Request::TrashDataset { dataset: name.into() };
    let suite = Request::CreateSuite {
        name: "exam".into(),
        dataset: "desk".into(),
        split: super::split(),
        part: Part::HeldOut,
        scorers: vec![Scorer::Loss],
    };
    desk.ask("", suite).unwrap();
    let failure = desk.ask("", trash("desk")).unwrap_err();
    assert_eq!(failure.code, FailureCode::InUse);
    assert!(failure.message_en.contains("suite exam"), "{failure}");
    desk.ask("", trash("made@1")).unwrap();
    let failure = desk.state().dataset_version("made").unwrap_err();
    assert!(failure.message_en.contains("hone dataset restore made@1"), "{failure}");
    assert_eq!(desk.ask("", trash("made")).unwrap_err().code, FailureCode::WrongState);
    desk.ask("", Request::RestoreDataset { dataset: "made".into() }).unwrap();
    desk.state().dataset_version("made").unwrap();
    let purge = Request::PurgeDatasets { versions: vec!["made@1".into()] };
    assert_eq!(desk.ask("", purge.clone()).unwrap_err().code, FailureCode::WrongState, "it is in use");
    desk.ask("", trash("made")).unwrap();
    desk.said.clear();
    desk.ask("its rows go", purge).unwrap();
    assert!(desk.transcript().contains("remove the segment"), "{}", desk.transcript());
    assert!(version(&desk, "made@1").is_removed());
    let failure = desk.ask("", Request::RestoreDataset { dataset: "made@1".into() }).unwrap_err();
    assert_eq!(failure.code, FailureCode::WrongState);
    desk.said.clear();
    desk.start("a start carries out what a crash left");
    assert!(desk.transcript().contains("remove the segment"), "{}", desk.transcript());
}

#[test]
fn rows_go_after_thirty_days_and_no_earlier() {
    let (mut desk, _) = with_generated();
    desk.ask("", Request::TrashDataset { dataset: "made".into() }).unwrap();
    let at = version(&desk, "made@1").trashed_at_ms.unwrap();
    assert_eq!(at, desk.now.wall_ms);
    desk.pass(TRASH_KEPT_MS - 1);
    desk.tell("", Event::EmptyTrash);
    assert!(!version(&desk, "made@1").is_removed());
    desk.pass(1);
    desk.tell("", Event::EmptyTrash);
    assert!(version(&desk, "made@1").is_removed());
    assert_eq!(version(&desk, "desk@1").trashed_at_ms, None);
}

#[test]
fn examples_of_a_standard_can_be_the_seeds() {
    let mut desk = Desk::furnished();
    desk.ask("", publish("base")).unwrap();
    let message =
        |role: &str, text: &str| hone_protocol::dataset::ChatMessage { role: role.into(), content: text.into() };
    let messages = vec![message("user", "Hi"), message("assistant", "Hello.")];
    let example = StandardExample { messages, good: true, reason: String::new() };
    let spec = StandardSpec { examples: vec![example], ..StandardSpec::new(Shape::Chat) };
    desk.ask("", Request::SetStandard { name: "tone".into(), spec: Box::new(spec) }).unwrap();
    submit(&mut desk, GenerateSpec { source: String::new(), ..generate() }).unwrap();
}

#[test]
fn lineage_goes_up_to_what_a_version_was_made_of_and_down_to_what_was_made_of_it() {
    let (mut desk, _) = with_generated();
    let run = desk.submit("", train());
    desk.end("", run, AttemptEnd::Produced(Box::new(adapter())));
    let said = |reference: &str| {
        let edges = crate::lineage::around(desk.state(), reference).unwrap();
        edges.iter().map(|e| format!("{} -{}-> {}", e.from, e.kind.word(), e.to)).collect::<Vec<_>>()
    };
    assert_eq!(said("made"), [" -import-> desk@1", "desk@1 -generation-> made@1"]);
    assert_eq!(said("desk@1"), [" -import-> desk@1", "desk@1 -generation-> made@1", "desk@1 -training-> desk@1"]);
    assert_eq!(crate::lineage::around(desk.state(), "none").unwrap_err().code, FailureCode::NotFound);
}

fn picked(name: &str, hash: u8, rows: u64) -> PickedPart {
    let report = ImportReport { format: "openai".into(), read: rows, kept: rows, ..ImportReport::default() };
    let segments = vec![Segment { sha256: Hash([hash; 32]), size_bytes: 4096, rows, first_row_id: 0 }];
    PickedPart { name: name.into(), report, segments, first_row_id: 0 }
}

#[test]
fn mixtures_and_splits_keep_their_parents_and_what_holds_of_them() {
    let (mut desk, _) = with_generated();
    let job = desk.submit("", JobSpec::Mix(Box::new(mix())));
    let ids = |desk: &Desk, names: &[&str]| -> Vec<_> { names.iter().map(|name| version(desk, name).id).collect() };
    let sources = ids(&desk, &["desk@1", "made@1"]);
    let produced = Produced::Picked { sources: sources.clone(), parts: vec![picked("mixed", 7, 40)] };
    desk.end("", job, AttemptEnd::Produced(Box::new(produced)));
    let mixed = version(&desk, "mixed@1");
    assert_eq!(mixed.parents, Some(sources));
    assert!(!mixed.is_released(), "one of them is a draft");
    assert_eq!(desk.state().generated_in(mixed.id).as_deref(), Some("made@1"), "and has rows of a service");

    let job = desk.submit("", JobSpec::Split(Box::new(split())));
    let parts = vec![picked("desk-train", 8, 80), picked("desk-test", 9, 20)];
    let produced = Produced::Picked { sources: ids(&desk, &["desk@1"]), parts };
    desk.end("", job, AttemptEnd::Produced(Box::new(produced)));
    let Some(JobState::Succeeded(JobResult::Datasets(made))) = desk.state().jobs.get(&job).map(|job| job.state.clone())
    else {
        panic!("two versions")
    };
    assert_eq!(made, ids(&desk, &["desk-train@1", "desk-test@1"]));
    assert!(version(&desk, "desk-test@1").is_released());
    let edges = crate::lineage::around(desk.state(), "desk-test").unwrap();
    assert!(edges.iter().any(|e| (e.from.as_str(), e.kind.word()) == ("desk@1", "split")), "{edges:?}");
}

#[test]
fn a_mixture_or_split_that_cannot_be_is_refused_by_its_field() {
    let (mut desk, _) = with_generated();
    let mut place = |spec: JobSpec| desk.ask("", Request::Submit { spec, payer: None, pool: None }).unwrap_err().place;
    let mixed = |change: &dyn Fn(&mut MixSpec)| {
        let mut spec = mix();
        change(&mut spec);
        JobSpec::Mix(Box::new(spec))
    };
    assert_eq!(place(mixed(&|s| s.sources.clear())), "sources");
    assert_eq!(place(mixed(&|s| s.sources[1].weight = 0)), "sources[1].weight");
    assert_eq!(place(mixed(&|s| s.rows = 1000)), "rows");
    assert_eq!(place(mixed(&|s| s.name = "A B".into())), "name");
    let parts = |change: &dyn Fn(&mut SplitSpec)| {
        let mut spec = split();
        change(&mut spec);
        JobSpec::Split(Box::new(spec))
    };
    assert_eq!(place(parts(&|s| s.parts[0].percent = 70)), "parts");
    assert_eq!(place(parts(&|s| s.parts[1].name = "desk-train".into())), "parts");
    assert_eq!(place(parts(&|s| s.parts.truncate(1))), "parts");
}
