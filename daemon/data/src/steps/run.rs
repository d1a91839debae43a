//! Running a recipe: which steps are known already, the passes over the rows, and the version that comes out.
//! Lives here: the task. Never here: what a single step does.
//!
//! Steps that look at one row are done in one pass as long as no other step is between them; a step that sees all rows has a pass of its
//! own. Each step leaves its ledger, and the next pass reads the version's segments with all ledgers so far: nothing but what was dropped
//! or changed is written until the end. A step whose ledger is there is not done again, so a change of step 5 does steps 5 and up.

use std::collections::HashSet;
use std::path::Path;

use arrow::error::ArrowError;
use hone_protocol::dataset::{ChatMessage, ImportReport, Segment, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::recipe::{StepOutcome, StepSpec};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, ProcessTask};
use sha2::{Digest, Sha256};

use super::item::{Item, Verdict, shape_of};
use super::ledger::{self, Ledger, Line, Sums, Writer};
use super::source::{Chunked, Left, Source};
use super::{Built, RowStep, Rows, SetStep, build};
use crate::canonical::content_sha256;
use crate::distinct::{self, Distinct};
use crate::format::Turn;
use crate::ordered::{ordered, threads};
use crate::quick::Literal;
use crate::segment_writer::{Encoded, Encoder, SegmentWriter, broken};
use crate::{Progress, unwritable};

/// Raised when a step means something else than before, so that what was kept of it is not taken for the new meaning.
const STEPS_VERSION: u32 = 2;

/// Names of the ledgers of a recipe over some segments: each follows from all before it.
pub(super) fn names(task: &ProcessTask) -> Vec<Hash> {
    let segments = |hash: &mut Sha256, segments: &[Segment]| {
        for segment in segments {
            hash.update(segment.sha256.0);
        }
        hash.update([0xff]);
    };
    let mut hash = Sha256::new();
    hash.update(STEPS_VERSION.to_le_bytes());
    segments(&mut hash, &task.segments);
    let mut last: [u8; 32] = hash.finalize().into();
    let mut name = |spec: &StepSpec| {
        let mut hash = Sha256::new();
        hash.update(last);
        hash.update(serde_json::to_vec(&spec.effective()).unwrap_or_default());
        for other in spec.others() {
            let there = task.others.iter().find(|(name, _)| *name == other);
            segments(&mut hash, there.map_or(&[], |(_, segments)| segments));
        }
        last = hash.finalize().into();
        Hash(last)
    };
    task.recipe.steps.iter().map(&mut name).collect()
}

/// Does the task. Progress counts rows through passes.
pub(crate) fn process(task: &ProcessTask, progress: Progress<'_>) -> Result<FromWorker, Failure> {
    task.recipe.check()?;
    let (blobs, folder) = (Path::new(&task.folder), Path::new(&task.ledgers));
    let names = names(task);
    let mut source = Source::open(blobs, &task.segments, Some(folder))?;
    let mut outcomes: Vec<StepOutcome> = Vec::new();
    let specs = &task.recipe.steps;
    let built: Vec<Built> = (0..specs.len()).map(|index| ready(task, index)).collect::<Result<_, _>>()?;
    let passes = specs.len() as u64 + 1;
    let total = source.rows() * passes;
    while outcomes.len() < specs.len() {
        let at = outcomes.len();
        let before = source.rows() * at as u64;
        let mut progress = |place: u64| progress(before + place, total);
        let (sums, cached) = match (ledger::known(folder, &names[at]), &built[at]) {
            (Some(sums), _) => (vec![sums], true),
            (None, Built::Set(step)) => {
                (vec![whole(&**step, &specs[at], &source, folder, names[at], &mut progress)?], false)
            }
            (None, Built::Row(_)) => {
                (rowwise(&built[at..], &specs[at..], &names[at..], &source, folder, &mut progress)?, false)
            }
        };
        for sums in sums {
            let index = outcomes.len();
            source.after(Ledger::open(folder, &names[index])?);
            let Sums { dropped, changed, reasons } = sums;
            outcomes.push(StepOutcome {
                spec: specs[index].effective(),
                ledger: names[index],
                cached,
                dropped,
                changed,
                reasons,
            });
        }
    }
    let before = source.rows() * specs.len() as u64;
    let (report, segments) = write(task, &source, &mut |place| progress(before + place, total))?;
    progress(total, total);
    if report.kept == 0 {
        return Err(nothing_left(&report, &outcomes));
    }
    Ok(FromWorker::Processed { report, segments, steps: outcomes })
}

fn ready(task: &ProcessTask, index: usize) -> Result<Built, Failure> {
    let spec = &task.recipe.steps[index];
    let wanted = spec.others();
    let others: Vec<_> = task.others.iter().filter(|(name, _)| wanted.contains(name)).cloned().collect();
    build(index, spec, Source::others(Path::new(&task.folder), &others, 0)?)
}

/// A step that sees all rows.
fn whole(
    step: &dyn SetStep,
    spec: &StepSpec,
    source: &Source,
    folder: &Path,
    name: Hash,
    progress: &mut dyn FnMut(u64),
) -> Result<Sums, Failure> {
    let rescued: HashSet<u64> = spec.keep.iter().copied().collect();
    let dropped = step.decide(source, progress)?;
    let mut writer = Writer::new(folder, name)?;
    for one in dropped.into_iter().filter(|one| !rescued.contains(&one.row_id)) {
        writer.push(one.index, &Line::dropped(one.row_id, one.why))?;
    }
    writer.finish()
}

/// Steps that look at one row, in one pass: from the first one up to the next that must see all.
fn rowwise(
    built: &[Built],
    specs: &[StepSpec],
    names: &[Hash],
    source: &Source,
    folder: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Sums>, Failure> {
    let steps: Vec<&dyn RowStep> = built
        .iter()
        .map_while(|built| match built {
            Built::Row(step) => Some(&**step),
            Built::Set(_) => None,
        })
        .collect();
    let rescued: Vec<HashSet<u64>> = specs.iter().map(|spec| spec.keep.iter().copied().collect()).collect();
    let mut writers = Vec::new();
    for name in &names[..steps.len()] {
        writers.push(Writer::new(folder, *name)?);
    }
    let work = |chunk| {
        let mut done = Vec::new();
        for item in source.read(chunk)? {
            through(item, &steps, &rescued, &mut done);
        }
        Ok(done)
    };
    ordered(0..source.chunks(), threads(), work, |done| {
        for (step, place, line) in done {
            progress(place);
            writers[step].push(place, &line)?;
        }
        Ok(())
    })?;
    writers.into_iter().map(Writer::finish).collect()
}

/// One row through steps: what each did, as step, place and line.
fn through(
    mut item: Item,
    steps: &[&dyn RowStep],
    rescued: &[HashSet<u64>],
    done: &mut Vec<(usize, u64, Line)>,
) -> Option<Item> {
    for (number, step) in steps.iter().enumerate() {
        let kept = rescued[number].contains(&item.row_id).then(|| item.clone());
        match (step.apply(&mut item), kept) {
            (Verdict::Keep, _) => {}
            (Verdict::Changed(why), _) => done.push((number, item.index, Line::changed(&item, why))),
            // A rescued row passes as it came.
            (Verdict::Drop(_), Some(before)) => item = before,
            (Verdict::Drop(why), None) => {
                done.push((number, item.index, Line::dropped(item.row_id, why)));
                return None;
            }
        }
    }
    Some(item)
}

/// One row through steps in memory, for previews.
pub(super) fn one(item: Item, step: &dyn RowStep, keep: &[u64]) -> (Option<Item>, Option<Line>) {
    let rescued = [keep.iter().copied().collect()];
    let mut done = Vec::new();
    let left = through(item, &[step], &rescued, &mut done);
    (left, done.pop().map(|(_, _, line)| line))
}

/// Rows on their way into the new version: batches as they are written, and what is counted of them.
#[derive(Default)]
struct Written {
    batches: Vec<Encoded>,
    hashes: Vec<[u8; 32]>,
    /// Shape and id of the first row.
    first: Option<(Shape, u64)>,
    /// Place after the last row.
    place: u64,
}

/// What is left of a chunk as batches. All rows have one shape.
fn encoded(blobs: &Path, chunk: &Chunked) -> Result<Written, Failure> {
    let Chunked { place, rows, left } = chunk;
    let failed = |error: ArrowError| broken(blobs, error);
    let damaged = |reason| Failure::new(FailureCode::BadFile, reason).hint(HintCode::CorrectFile);
    let mut written = Written::default();
    let mut encoder = Encoder::new().map_err(failed)?;
    encoder.begin(rows.bytes());
    for (at, left) in left.iter().enumerate() {
        let row_id = rows.row_id(at);
        let (shape, hash, is_full) = match left {
            Left::Gone => continue,
            Left::AsItWas => {
                let shape = shape_of(rows.messages(at).map(|(role, _)| role));
                (shape, rows.hash(at).map_err(damaged)?, encoder.copy(rows, at))
            }
            Left::Changed(messages, original) => {
                let turns: Vec<Turn<'_>> =
                    messages.iter().map(Turn::of_message).collect::<Option<_>>().ok_or_else(|| {
                        Failure::new(FailureCode::Internal, format!("row {row_id} has a role that is not known"))
                    })?;
                let hash = content_sha256(messages.iter().map(|m| (m.role.as_str(), m.content.as_str())));
                let literals = literals(original, messages);
                let shape = shape_of(messages.iter().map(|message| message.role.as_str()));
                (shape, hash, encoder.push(&turns, &hash, original, &literals))
            }
        };
        let (first, _) = *written.first.get_or_insert((shape, row_id));
        same_shape(row_id, shape, first)?;
        written.hashes.push(hash);
        written.place = place + at as u64 + 1;
        if is_full {
            written.batches.extend(encoder.take().map_err(failed)?);
        }
    }
    written.batches.extend(encoder.take().map_err(failed)?);
    Ok(written)
}

/// Where the contents stand in an original that is written anew, so that each text is kept once; none when one does not.
fn literals(original: &str, messages: &[ChatMessage]) -> Vec<Literal> {
    let mut from = 0;
    let literal = |message: &ChatMessage| {
        let quoted = serde_json::Value::from(message.content.as_str()).to_string();
        let start = from + memchr::memmem::find(&original.as_bytes()[from..], quoted.as_bytes())?;
        from = start + quoted.len();
        Some(Literal { start: start + 1, end: from - 1, canonical: true })
    };
    messages.iter().map(literal).collect::<Option<_>>().unwrap_or_default()
}

fn same_shape(row_id: u64, its: Shape, others: Shape) -> Result<(), Failure> {
    if its == others {
        return Ok(());
    }
    let message = format!("row {row_id} is a {} row among {} rows; add the step convert", its.word(), others.word());
    Err(Failure::new(FailureCode::InvalidField, message).at("steps").hint(HintCode::CorrectField))
}

/// Writes the rows that are left as a new version.
fn write(
    task: &ProcessTask,
    source: &Source,
    progress: &mut dyn FnMut(u64),
) -> Result<(ImportReport, Vec<Segment>), Failure> {
    let blobs = Path::new(&task.folder);
    let failed = |error: std::io::Error| unwritable(blobs, &error);
    let mut segments = SegmentWriter::new(blobs, task.first_row_id)?;
    let mut distinct = Distinct::new(blobs);
    let (mut kept, mut shape) = (0, None);
    let work = |chunk| encoded(blobs, &source.left(chunk)?);
    ordered(0..source.chunks(), threads(), work, |written: Written| {
        if let Some((its, row_id)) = written.first {
            same_shape(row_id, its, *shape.get_or_insert(its))?;
        }
        for hash in &written.hashes {
            distinct.push(distinct::key(hash)).map_err(failed)?;
        }
        kept += written.hashes.len() as u64;
        progress(written.place);
        written.batches.iter().try_for_each(|batch| segments.add(batch))
    })?;
    let segments = segments.finish()?;
    let different = distinct.count().map_err(failed)?;
    let format = match shape.unwrap_or(Shape::Chat) {
        Shape::Preference => "preference",
        Shape::Text => "text",
        Shape::Prompt => "prompt",
        Shape::Chat => "messages",
    };
    let report = ImportReport {
        format: format.into(),
        source: task.source.clone(),
        read: source.rows(),
        kept,
        rejected: source.rows() - kept,
        duplicates: kept - different,
        rejections: Vec::new(),
    };
    Ok((report, segments))
}

fn nothing_left(report: &ImportReport, outcomes: &[StepOutcome]) -> Failure {
    let most = outcomes.iter().enumerate().max_by_key(|(_, outcome)| outcome.dropped);
    let why = most.map_or(String::new(), |(index, outcome)| {
        let reason = outcome.reasons.first().map_or(String::new(), |(reason, count)| format!(", {count} for {reason}"));
        format!("; step {}, {}, dropped {}{reason}", index + 1, outcome.spec.step, outcome.dropped)
    });
    Failure::new(FailureCode::NoRows, format!("the recipe drops all of {} rows{why}", report.read))
        .at("steps")
        .arg("read", report.read)
        .hint(HintCode::CorrectField)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::item::tests::chat;
    use super::super::page::page;
    use super::super::preview::preview;
    use super::super::tests::spec;
    use super::*;
    use hone_protocol::dataset::ChatMessage;
    use hone_protocol::recipe::{LedgerAct, LedgerEntry, Recipe, preset};
    use hone_protocol::worker::{LedgerTask, RecipePreviewTask};
    use proptest::prelude::*;

    /// A version with these chats, and where it is.
    struct Version {
        folder: tempfile::TempDir,
        segments: Vec<Segment>,
    }

    /// What came of a recipe.
    struct Done {
        steps: Vec<StepOutcome>,
        report: ImportReport,
        rows: Vec<Item>,
    }

    const FIRST_ROW_ID: u64 = 100;

    impl Version {
        fn new(rows: &[Item]) -> Version {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("ledgers")).unwrap();
            let mut writer = SegmentWriter::new(folder.path(), FIRST_ROW_ID).unwrap();
            for row in rows {
                let turns: Vec<Turn<'_>> = row.messages.iter().map(|m| Turn::of_message(m).unwrap()).collect();
                let hash = content_sha256(row.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())));
                writer.push(&turns, &hash, &row.original).unwrap();
            }
            let segments = writer.finish().unwrap();
            Version { folder, segments }
        }

        fn ledgers(&self) -> String {
            self.folder.path().join("ledgers").display().to_string()
        }

        fn run(&self, recipe: &Recipe) -> Result<Done, Failure> {
            let task = ProcessTask {
                folder: self.folder.path().display().to_string(),
                ledgers: self.ledgers(),
                segments: self.segments.clone(),
                source: "rows@1 through a test".into(),
                recipe: recipe.clone(),
                others: Vec::new(),
                first_row_id: 5000,
            };
            let FromWorker::Processed { report, segments, steps } = process(&task, &mut |_, _| {})? else { panic!() };
            let rows = Source::open(self.folder.path(), &segments, None).unwrap();
            let rows = (0..rows.chunks()).flat_map(|chunk| rows.read(chunk).unwrap()).collect();
            Ok(Done { steps, report, rows })
        }

        fn page(&self, steps: &[StepOutcome], step: usize) -> Vec<LedgerEntry> {
            let task = LedgerTask {
                request: 1,
                folder: self.folder.path().display().to_string(),
                ledgers: self.ledgers(),
                segments: self.segments.clone(),
                names: steps[..=step].iter().map(|step| step.ledger).collect(),
                offset: 0,
                count: u32::MAX,
            };
            let (entries, total) = page(&task).unwrap();
            assert_eq!(entries.len() as u64, total);
            entries
        }
    }

    /// Rows that steps find something in, now and then.
    fn rows() -> impl Strategy<Value = Vec<Item>> {
        let texts = prop::sample::select(vec![
            "What is a good question?",
            "what is  a good question?",
            "a\u{200b}b &amp; c",
            "mail ann@example.org now",
            "漢語 question",
            "I'm sorry, but I can't do that.",
            "Yes",
            "x",
            "A longer answer that says one thing and another thing and a third one, too.",
            "A longer answer that says one thing and another thing and a third one, too!",
            "###$$$%%%",
            "  spaced  \n\n\n\n out ",
            "e\u{301}",
        ]);
        prop::collection::vec((texts.clone(), texts, any::<bool>()), 1..40).prop_map(|rows| {
            rows.iter()
                .map(|(question, answer, extra)| {
                    let mut item = chat(&[("user", question), ("assistant", answer)]);
                    if *extra {
                        item.original = item.original.replace("{\"messages\"", "{\"source\":\"web\",\"messages\"");
                    }
                    item
                })
                .collect()
        })
    }

    fn recipes() -> impl Strategy<Value = Recipe> {
        let steps = prop::sample::select(vec![
            spec("unicode", &[]),
            spec("control", &[]),
            spec("spaces", &[]),
            spec("html", &[]),
            spec("simplified", &[]),
            spec("length", &[("min", "3"), ("of", "answer")]),
            spec("phrases", &[]),
            spec("characters", &[]),
            spec("answer", &[]),
            spec("exact", &[]),
            spec("near", &[("of", "answer")]),
            spec("mask", &[]),
            spec("field", &[("path", "source")]),
            spec("sample", &[("percent", "60")]),
            spec("convert", &[("to", "text")]),
        ]);
        let keep = prop::collection::vec(FIRST_ROW_ID..FIRST_ROW_ID + 40, 0..3);
        prop::collection::vec((steps, keep), 1..7).prop_map(|steps| Recipe {
            steps: steps.into_iter().map(|(step, keep)| StepSpec { keep, ..step }).collect(),
        })
    }

    type Messages = Vec<ChatMessage>;

    /// Follows every row through the ledgers: what must have come out, in order.
    fn followed(version: &Version, rows: &[Item], done: &[StepOutcome], recipe: &Recipe) -> Vec<Messages> {
        let mut there: Vec<(u64, Messages)> =
            (FIRST_ROW_ID..).zip(rows.iter().map(|row| row.messages.clone())).collect();
        for (number, outcome) in done.iter().enumerate() {
            let entries: HashMap<u64, LedgerEntry> =
                version.page(done, number).into_iter().map(|entry| (entry.row_id, entry)).collect();
            assert_eq!(entries.len() as u64, outcome.dropped + outcome.changed, "a row stands once in a ledger");
            assert_eq!(outcome.reasons.iter().map(|(_, count)| count).sum::<u64>(), outcome.dropped + outcome.changed);
            let met = there.iter().filter(|(row_id, _)| entries.contains_key(row_id)).count();
            assert_eq!(met, entries.len(), "only rows that reach a step are in its ledger");
            there.retain_mut(|(row_id, messages)| match entries.get(row_id) {
                None => true,
                Some(entry) => {
                    assert_eq!(&entry.before, messages);
                    assert!(!entry.reason.is_empty());
                    messages.clone_from(&entry.after);
                    let dropped = entry.act == LedgerAct::Dropped;
                    assert!(!dropped || !recipe.steps[number].keep.contains(row_id), "a rescued row is not dropped");
                    !dropped
                }
            });
        }
        there.into_iter().map(|(_, messages)| messages).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_row_is_lost_or_changed_without_a_line(rows in rows(), recipe in recipes(), cut in 0usize..6) {
            let version = Version::new(&rows);
            let done = match version.run(&recipe) {
                Ok(done) => done,
                Err(failure) => {
                    prop_assert_eq!(failure.code, FailureCode::NoRows);
                    return Ok(());
                }
            };
            let out: Vec<Messages> = done.rows.iter().map(|row| row.messages.clone()).collect();
            prop_assert_eq!(&out, &followed(&version, &rows, &done.steps, &recipe));
            let dropped: u64 = done.steps.iter().map(|step| step.dropped).sum();
            prop_assert_eq!(rows.len() as u64, out.len() as u64 + dropped);
            prop_assert_eq!((done.report.read, done.report.kept), (rows.len() as u64, out.len() as u64));
            for row in &done.rows {
                let original: serde_json::Value = serde_json::from_str(&row.original).unwrap();
                prop_assert!(original.get("messages").is_some() || original.get("text").is_some());
            }
            // Again: everything is known. With another end: all before it is.
            let again = version.run(&recipe).unwrap();
            prop_assert!(again.steps.iter().all(|step| step.cached));
            prop_assert!(again.rows == done.rows);
            let mut other = recipe.clone();
            let cut = cut.min(other.steps.len() - 1);
            other.steps[cut] = spec("turns", &[("max", "77")]);
            if let Ok(other) = version.run(&other) {
                prop_assert!(other.steps[..cut].iter().all(|step| step.cached));
                prop_assert!(!other.steps[cut].cached);
            }
        }

        #[test]
        fn a_preview_of_all_rows_says_what_the_run_does(rows in rows(), recipe in recipes()) {
            let version = Version::new(&rows);
            let Ok(done) = version.run(&recipe) else { return Ok(()) };
            let task = RecipePreviewTask {
                request: 1,
                folder: version.folder.path().display().to_string(),
                segments: version.segments.clone(),
                recipe,
                others: Vec::new(),
                from: 0,
                count: 50,
            };
            let seen = preview(&task).unwrap();
            let counts: Vec<(u64, u64)> = done.steps.iter().map(|step| (step.dropped, step.changed)).collect();
            prop_assert_eq!(seen.counts, counts);
            prop_assert_eq!(seen.looked_at, rows.len() as u64);
            let left = seen.rows.iter().filter(|row| !row.after.is_empty()).count();
            prop_assert_eq!(left, done.rows.len());
        }
    }

    #[test]
    fn presets_keep_what_is_good() {
        let good = |n: u64| {
            let words: String = (0..30).map(|word| format!("word{} ", n * 31 + word)).collect();
            chat(&[("user", &format!("Question {n}?")), ("assistant", &format!("It is {words}and that is all."))])
        };
        let mut rows: Vec<Item> = (0..1200).map(good).collect();
        rows.push(chat(&[("user", "Help"), ("assistant", "I'm sorry, but I can't assist with that.")]));
        rows.push(good(7));
        rows.push(chat(&[("user", "Write to ann@example.org"), ("assistant", "I wrote to her about the meeting.")]));
        let done = Version::new(&rows).run(&preset("chat").unwrap()).unwrap();
        let did: Vec<(String, u64, u64)> = done
            .steps
            .iter()
            .filter(|s| s.dropped + s.changed > 0)
            .map(|s| (s.spec.step.clone(), s.dropped, s.changed))
            .collect();
        assert_eq!(did, [("phrases".into(), 1, 0), ("exact".into(), 1, 0), ("mask".into(), 0, 1)]);
        assert_eq!(done.rows.len(), 1201);
        assert!(done.rows.iter().zip(5000..).all(|(row, id)| row.row_id == id));
    }
}
