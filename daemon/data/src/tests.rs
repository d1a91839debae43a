//! Tests of whole tasks: import, page, export, damage. Single steps are tested beside their code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hone_protocol::dataset::{ExportFormat, Part, REJECTIONS_MAX, Row, RowFormat, Segment, Split};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::frame::FRAME_BYTES_MAX;
use hone_protocol::preset::PRESETS;
use hone_protocol::value::Hash;
use hone_protocol::wire;
use hone_protocol::worker::{ExportTask, FromWorker, ImportTask, ReadTask, Select};
use proptest::prelude::*;
use tempfile::TempDir;

use super::export::export;
use super::import::{Import, import};
use super::presets::{INSIDE, write_preset};
use super::segment::segment_path;
use super::segment_writer::{SEGMENT_BYTES_MAX, SEGMENT_ROWS_MAX};
use super::window::{Reader, answer};
use super::*;

mod formats;

const EVERYTHING: Split = Split { held_out_percent: 0, seed: 0 };

/// A folder with a file to import and the segments that came of it.
struct Imported {
    folder: TempDir,
    import: Import,
}

fn run_import(folder: &Path, path: &Path, format: RowFormat, first_row_id: u64) -> Result<Import, Failure> {
    let task = ImportTask {
        path: path.display().to_string(),
        source: "the file".into(),
        format,
        folder: folder.display().to_string(),
        first_row_id,
    };
    import(&task, &mut |_, _| {})
}

fn imported(bytes: &[u8]) -> Imported {
    imported_from(bytes, 0)
}

fn imported_from(bytes: &[u8], first_row_id: u64) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    fs::write(&path, bytes).unwrap();
    let import = run_import(folder.path(), &path, RowFormat::Detect, first_row_id).unwrap();
    Imported { folder, import }
}

impl Imported {
    fn read(&self, reader: &mut Reader, select: Select) -> (Result<Vec<Row>, Failure>, u64) {
        let task = ReadTask {
            request: 7,
            folder: self.folder.path().display().to_string(),
            segments: self.import.segments.clone(),
            select,
        };
        match answer(reader, &task) {
            FromWorker::Window { request: 7, rows, total } => (rows, total),
            other => panic!("{other:?}"),
        }
    }

    fn page(&self, reader: &mut Reader, offset: u64, count: u32, split: Split, part: Part) -> (Vec<Row>, u64) {
        let (rows, total) = self.read(reader, Select::Window { offset, count, split, part });
        (rows.unwrap(), total)
    }

    fn rows(&self) -> Vec<Row> {
        self.page(&mut Reader::default(), 0, u32::MAX, EVERYTHING, Part::All).0
    }

    fn export(&self, split: Split, part: Part, rows_max: u64) -> Result<Vec<Row>, Failure> {
        let path = self.folder.path().join("export.jsonl");
        let task = ExportTask {
            folder: self.folder.path().display().to_string(),
            segments: self.import.segments.clone(),
            split,
            part,
            rows_max,
            format: ExportFormat::Rows,
            path: path.display().to_string(),
        };
        let written = export(&task, &mut |_, _| {})?;
        let rows: Vec<Row> =
            fs::read_to_string(path).unwrap().lines().map(|line| wire::decode_line(line).unwrap()).collect();
        assert_eq!(written, rows.len() as u64);
        Ok(rows)
    }

    fn segment(&self, index: usize) -> PathBuf {
        segment_path(self.folder.path(), &self.import.segments[index].sha256)
    }
}

fn chat(question: &str, answer: &str) -> String {
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let (question, answer) = (text(question), text(answer));
    format!(r#"{{"messages":[{{"role":"user","content":{question}}},{{"role":"assistant","content":{answer}}}]}}"#)
}

fn chats(count: usize) -> String {
    (0..count).map(|n| chat(&format!("question {n}"), &format!("answer {n}")) + "\n").collect()
}

fn messages(row: &Row) -> Vec<(&str, &str)> {
    row.messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/import")
}

#[test]
fn every_fixture_gives_the_counts_and_places_of_its_readme() {
    let expected: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    assert!(expected.len() >= 15, "the fixtures are there");
    for (name, expected) in expected {
        let folder = tempfile::tempdir().unwrap();
        let Import { report, segments } =
            run_import(folder.path(), &fixtures().join(&name), RowFormat::Detect, 0).unwrap();
        assert_eq!(report.format, expected["format"], "{name}");
        assert_eq!((report.read, report.kept), (number(&expected["read"]), number(&expected["kept"])), "{name}");
        assert_eq!(report.read, report.kept + report.rejected, "{name}");
        assert_eq!(segments.iter().map(|segment| segment.rows).sum::<u64>(), report.kept, "{name}");
        let places = |value: &serde_json::Value| (number(&value["line"]), value["field"].as_str().unwrap().to_owned());
        let wanted: Vec<_> = expected["rejected"].as_array().unwrap().iter().map(places).collect();
        let found: Vec<_> = report.rejections.iter().map(|found| (found.line, found.field.clone())).collect();
        assert_eq!(found, wanted, "{name}: {:#?}", report.rejections);
        assert_eq!(report.rejected, wanted.len() as u64, "{name}");
    }
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn reasons_say_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let reasons = |name: &str| -> Vec<String> {
        let import = run_import(folder.path(), &fixtures().join(name), RowFormat::Detect, 0).unwrap();
        import.report.rejections.into_iter().map(|rejection| rejection.reason).collect()
    };
    assert!(reasons("deep-nesting.jsonl")[0].contains("at most 64 levels"));
    assert!(reasons("invalid-utf8.jsonl")[0].starts_with("invalid UTF-8: byte 0xff at byte "));
    assert_eq!(
        reasons("mixed.jsonl")[0],
        "field missing; the row looks like ShareGPT, but the file is read as OpenAI messages"
    );
    assert_eq!(reasons("wrong-role.jsonl")[0], "unknown role \"robot\"; it must be system, user or assistant");
    assert_eq!(reasons("missing-messages.jsonl")[5], "a string, not an object");
}

#[test]
fn every_unknown_field_and_the_digits_of_numbers_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixtures().join("unknown-fields.jsonl");
    let import = run_import(folder.path(), &path, RowFormat::Detect, 0).unwrap();
    let imported = Imported { folder, import };
    let lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    for (row, line) in imported.rows().iter().zip(&lines) {
        assert_eq!(row.original.value(), serde_json::from_str::<serde_json::Value>(line).unwrap());
    }
}

#[test]
fn an_import_that_keeps_nothing_fails_with_one_sentence() {
    for (name, reason) in [
        ("empty.jsonl", "nothing to import from the file: the file has no rows"),
        (
            "all-bad.jsonl",
            "nothing to import from the file: none of the 3 rows can be used; the first, line 1: bad JSON",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let import = run_import(folder.path(), &fixtures().join(name), RowFormat::Detect, 0).unwrap();
        let failure = import.into_answer().unwrap_err();
        assert_eq!(failure.code, FailureCode::NoRows);
        assert!(failure.message_en.starts_with(reason), "{}", failure.message_en);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
    }
}

#[test]
fn a_json_array_is_read_value_by_value_and_what_is_cut_off_is_told() {
    let text = format!("[\n{},\n  {{}},\n{}\n]\n", chat("q", "a\"]}"), chat("r", "b"));
    let report = imported(text.as_bytes()).import.report;
    assert_eq!((report.format.as_str(), report.read, report.kept), ("json:messages", 3, 2));
    assert_eq!(report.rejections[0].line, 3);
    let cut = imported(text.trim_end_matches("]\n").as_bytes()).import.report;
    assert_eq!((cut.read, cut.kept), (4, 2));
    assert!(cut.rejections[1].reason.ends_with("the file ends inside the list"), "{:?}", cut.rejections);
}

#[test]
fn what_is_no_file_of_rows_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| run_import(folder.path(), path, RowFormat::Detect, 0).unwrap_err();
    assert_eq!(refused(&folder.path().join("absent")).code, FailureCode::FileUnreadable);
    assert!(refused(folder.path()).message_en.ends_with("has no file of rows"));
    assert!(refused(Path::new("/dev/zero")).message_en.ends_with("is not a regular file"));
    for (bytes, words) in [
        (&b"\xff\xfe{\0"[..], "UTF-16"),
        (b"\x1f\x8b\x08\0", "cannot be unpacked"),
        (b"PAR1....", "damaged"),
        (b"PK\x03\x04", "damaged ZIP"),
        (b"ARROW1..", "damaged"),
    ] {
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        let failure = refused(&path);
        assert!(failure.code == FailureCode::BadFile && failure.message_en.contains(words), "{failure}");
    }
}

#[test]
fn the_format_is_that_of_most_rows_or_the_chosen_one() {
    let sharegpt = r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#;
    let report = imported(format!("{sharegpt}\nnot JSON\n{sharegpt}\n{}\n", chat("q", "a")).as_bytes()).import.report;
    assert_eq!((report.format.as_str(), report.kept, report.rejected), ("sharegpt", 2, 2));

    // Nothing to recognise in the first hundred rows: the look goes on.
    let late = "{}\n".repeat(150) + &chats(2);
    let report = imported(late.as_bytes()).import.report;
    assert_eq!((report.format.as_str(), report.kept, report.rejected), ("messages", 2, 150));
    assert_eq!(report.rejections[149].line, 150);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    fs::write(&path, format!("{sharegpt}\n{}\n{sharegpt}\n", chat("q", "a"))).unwrap();
    let report = run_import(folder.path(), &path, RowFormat::OpenAi, 0).unwrap().report;
    assert_eq!((report.format.as_str(), report.kept, report.rejected), ("messages", 1, 2));
}

#[test]
fn duplicates_are_counted_by_what_is_trained_on() {
    let mut same = chat("q", "a").replace("\"user\"", "\"\\u0075ser\"");
    same.insert_str(1, r#""id":1,"#);
    let text = format!("{}\n{same}\n{}\n{}\n", chat("q", "a"), chat("q", "b"), chat("q", "a"));
    let imported = imported(text.as_bytes());
    assert_eq!((imported.import.report.kept, imported.import.report.duplicates), (4, 2));
    let rows = imported.rows();
    assert_eq!(rows[0].content_sha256, rows[1].content_sha256);
    assert_ne!(rows[0].original, rows[1].original);
    assert_eq!(rows[2].content_sha256, Hash(content_sha256([("user", "q"), ("assistant", "b")])));
}

#[test]
fn rejections_are_listed_to_a_bound_and_counted_beyond() {
    let text = "x\n".repeat(REJECTIONS_MAX + 50) + &chats(1);
    let report = imported(text.as_bytes()).import.report;
    assert_eq!((report.rejections.len(), report.rejected), (REJECTIONS_MAX, REJECTIONS_MAX as u64 + 50));
}

#[test]
fn a_key_that_would_turn_an_object_into_text_is_refused_and_prompts_may_expect_nothing() {
    let chat = chats(1);
    let text = chat.trim_end().replacen('{', r#"{"m":{"$serde_json::private::RawValue":"no json"},"#, 1) + "\n" + &chat;
    let report = imported(text.as_bytes()).import.report;
    assert_eq!((report.kept, report.rejected), (1, 1), "{:?}", report.rejections);
    assert!(report.rejections[0].field.starts_with("m."), "{:?}", report.rejections);
    let asks = [
        r#"{"prompt":[{"role":"user","content":"q"}]}"#,
        r#"{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"so"}],"expected":"far"}"#,
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asks.jsonl");
    fs::write(&path, asks.join("\n")).unwrap();
    let import = run_import(folder.path(), &path, RowFormat::Prompt, 0).unwrap();
    assert_eq!(import.report.kept, 2, "{:?}", import.report.rejections);
}

#[test]
fn the_preset_imports_whole_and_splits() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_preset("support-desk", folder.path()).unwrap();
    let import = run_import(folder.path(), &path, RowFormat::Detect, 0).unwrap();
    let lines = INSIDE[0].1.lines().count() as u64;
    assert_eq!((import.report.kept, import.report.rejected, import.report.duplicates), (lines, 0, 0));
    let imported = Imported { folder, import };
    let split = Split { held_out_percent: 15, seed: 1 };
    let (train, held_out) = (imported.export(split, Part::Train, 0), imported.export(split, Part::HeldOut, 0));
    let (train, held_out) = (train.unwrap(), held_out.unwrap());
    assert_eq!((train.len() + held_out.len()) as u64, lines);
    assert!(held_out.len() >= 64, "{}", held_out.len());
    assert!(held_out[0].original.value()["expect"].is_object(), "the rule of the score is still there");
    assert_eq!(write_preset("nobody", imported.folder.path()).unwrap_err().code, FailureCode::NotFound);
}

#[test]
fn every_preset_that_comes_with_hone_is_what_its_card_says() {
    for preset in PRESETS.iter().filter(|preset| preset.package.is_none()) {
        let folder = tempfile::tempdir().unwrap();
        let path = write_preset(preset.name, folder.path()).unwrap();
        let import = run_import(folder.path(), &path, preset.format(), 0).unwrap();
        assert_eq!((import.report.kept, import.report.rejected, import.report.duplicates), (preset.rows, 0, 0));
        let rows = Imported { folder, import }.rows();
        assert!(rows.iter().all(|row| row.shape() == preset.shape), "{}", preset.name);
    }
    assert_eq!(PRESETS.iter().filter(|preset| preset.package.is_none()).count(), INSIDE.len());
}

#[test]
fn pages_are_slices_of_the_export_on_both_sides_of_a_split() {
    let imported = imported_from(chats(3000).as_bytes(), 41);
    let mut reader = Reader::default();
    for part in [Part::All, Part::Train, Part::HeldOut] {
        let split = Split { held_out_percent: 20, seed: 9 };
        let all = imported.export(split, part, 0).unwrap();
        assert!(all.iter().all(|row| split.includes(part, row.row_id)));
        for (offset, count) in [(0, 10), (500, 50), (511, 3), (all.len() - 1, 5), (all.len(), 5), (9_999, 5), (0, 0)] {
            let (rows, total) = imported.page(&mut reader, offset as u64, count, split, part);
            assert_eq!(total, all.len() as u64);
            let end = all.len().min(offset + count as usize);
            assert_eq!(rows, all.get(offset..end).unwrap_or_default(), "{part:?} {offset} {count}");
        }
        assert_eq!(imported.export(split, part, 7).unwrap(), all[..7]);
    }
    let (rows, _) = imported.read(&mut reader, Select::One { row_id: 41 + 2999 });
    assert_eq!(messages(&rows.unwrap()[0]), [("user", "question 2999"), ("assistant", "answer 2999")]);
    let (rows, _) = imported.read(&mut reader, Select::One { row_id: 40 });
    assert_eq!(rows.unwrap_err().code, FailureCode::NotFound);
}

#[test]
fn the_same_rows_make_the_same_segment() {
    let (one, two) = (imported(chats(1000).as_bytes()), imported(chats(1000).as_bytes()));
    assert_eq!(one.import.segments, two.import.segments);
    assert_ne!(one.import.segments, imported_from(chats(1000).as_bytes(), 1).import.segments);
}

#[test]
fn segments_end_at_their_bounds_and_pages_cross_them() {
    let count = SEGMENT_ROWS_MAX + 700;
    let text: String = (0..count).map(|n| chat("q", &n.to_string()) + "\n").collect();
    let many = imported(text.as_bytes());
    let sizes: Vec<_> = many.import.segments.iter().map(|segment| (segment.first_row_id, segment.rows)).collect();
    // A segment ends with the last batch that has room in it.
    let [(0, first), (second, rest)] = sizes[..] else { panic!("{sizes:?}") };
    assert!(first <= SEGMENT_ROWS_MAX && second == first && first + rest == count, "{sizes:?}");
    let (rows, _) = many.page(&mut Reader::default(), first - 2, 4, EVERYTHING, Part::All);
    let ids: Vec<u64> = rows.iter().map(|row| row.row_id).collect();
    assert_eq!(ids, (first - 2..first + 2).collect::<Vec<_>>());
    assert_eq!(rows[3].messages[1].content, (first + 1).to_string());

    // Text that does not compress, so that bytes and not rows end the segments.
    let text: String = (0..12).map(|n| chat("q", &noise(6 << 20, n)) + "\n").collect();
    let big = imported(text.as_bytes());
    assert!(big.import.segments.len() >= 2, "{:?}", big.import.segments);
    for segment in &big.import.segments {
        assert!(segment.size_bytes <= SEGMENT_BYTES_MAX, "{}", segment.size_bytes);
    }
    // A page stays within a frame by having fewer rows.
    let (rows, total) = big.page(&mut Reader::default(), 0, 12, EVERYTHING, Part::All);
    assert!(total == 12 && rows.len() == 1, "{}", rows.len());
    let reply = FromWorker::Window { request: u64::MAX, rows: Ok(rows), total };
    assert!(wire::encode(&reply).len() <= FRAME_BYTES_MAX);
}

/// Printable text without repeats that a compressor would find.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'0' + (state % 64) as u8)
        })
        .filter(|c| *c != '\\')
        .collect()
}

#[test]
fn a_row_beyond_a_frame_is_refused_by_name_and_exported_whole() {
    let imported = imported(format!("{}\n", chat("q", &noise(12 << 20, 1))).as_bytes());
    let mut reader = Reader::default();
    let (rows, _) = imported.read(&mut reader, Select::One { row_id: 0 });
    let failure = rows.unwrap_err();
    assert!(failure.code == FailureCode::LimitReached && failure.message_en.starts_with("row 0 has"), "{failure}");
    assert_eq!(imported.export(EVERYTHING, Part::All, 0).unwrap().len(), 1);
}

#[test]
fn a_line_beyond_the_cap_is_one_rejection_and_the_next_line_is_read() {
    let mut bytes = chat("q", &"x".repeat(pieces::LINE_BYTES_MAX)).into_bytes();
    bytes.extend_from_slice(format!("\n{}\n", chat("q", "a")).as_bytes());
    let report = imported(&bytes).import.report;
    assert_eq!((report.read, report.kept, report.rejected), (2, 1, 1));
    assert!(report.rejections[0].reason.contains("at most 16777216 are read"), "{:?}", report.rejections);
}

#[test]
fn a_damaged_segment_is_a_failure_that_names_the_file() {
    let imported = imported(chats(1500).as_bytes());
    let path = imported.segment(0);
    let whole = fs::read(&path).unwrap();
    let everything = Select::Window { offset: 0, count: 1500, split: EVERYTHING, part: Part::All };
    let name = path.display().to_string();
    let check = |what: &str, code: FailureCode| {
        let (read, _) = imported.read(&mut Reader::default(), everything.clone());
        for failure in [read.unwrap_err(), imported.export(EVERYTHING, Part::All, 0).unwrap_err()] {
            assert!(
                failure.code == code && failure.place == name && failure.message_en.contains(&name),
                "{what}: {failure}"
            );
        }
    };
    for length in [0, 1, 9, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        check(&format!("cut to {length}"), FailureCode::BadFile);
    }
    // Bytes that no page needs (padding, the schema at the front) are only proved by an export.
    for at in (0..whole.len()).step_by(997).chain((whole.len() - 600..whole.len()).step_by(7)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        fs::write(&path, &flipped).unwrap();
        let exported = imported.export(EVERYTHING, Part::All, 0).unwrap_err();
        assert!(exported.code == FailureCode::BadFile && exported.place == name, "byte {at}: {exported}");
        let (read, _) = imported.read(&mut Reader::default(), everything.clone());
        match read {
            Ok(rows) => assert_eq!(rows.len(), 1500, "byte {at} does not belong to a row"),
            Err(failure) => assert!(failure.code == FailureCode::BadFile && failure.place == name, "{failure}"),
        }
    }
    fs::remove_file(&path).unwrap();
    check("removed", FailureCode::FileUnreadable);
    assert!(
        !fs::read_dir(imported.folder.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(PARTIAL_SUFFIX) })
    );
}

#[test]
fn a_segment_of_another_version_is_noticed() {
    let imported = imported(chats(600).as_bytes());
    let mut wrong = Imported { folder: imported.folder, import: imported.import.clone() };
    for change in [|s: &mut Segment| s.first_row_id = 5, |s: &mut Segment| s.rows = 599] {
        wrong.import.segments = imported.import.segments.clone();
        change(&mut wrong.import.segments[0]);
        assert_eq!(wrong.export(EVERYTHING, Part::All, 0).unwrap_err().code, FailureCode::BadFile);
    }
    wrong.import.segments[0].first_row_id = u64::MAX;
    assert_eq!(wrong.export(EVERYTHING, Part::All, 0).unwrap_err().code, FailureCode::InvalidField);
    let split = Split { held_out_percent: 91, seed: 0 };
    assert_eq!(wrong.export(split, Part::All, 0).unwrap_err().code, FailureCode::InvalidField);
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let row = (any::<String>(), any::<String>()).prop_map(|(q, a)| chat(&q, &a).into_bytes());
    let cut = (any::<String>(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let mut bytes = chat(&text, "a").into_bytes();
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"messages\"",
        "\"role\"",
        "\"content\"",
        "\"user\"",
        "\"assistant\"",
        "null",
        "\"conversations\"",
        "\"instruction\"",
        "\"output\"",
        "1e9",
        "-",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\r",
        "\u{feff}",
    ]);
    let soup = prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![3 => row, 1 => cut, 1 => soup, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_are_kept_or_rejected_and_never_lost(lines in prop::collection::vec(any_line(), 0..12)) {
        let bytes = lines.join(&b'\n');
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        fs::write(&path, &bytes).unwrap();
        let Ok(import) = run_import(folder.path(), &path, RowFormat::Detect, 3) else { return Ok(()) };
        let blank = |line: &&[u8]| line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii().is_empty();
        let rows = bytes.split(|byte| *byte == b'\n').filter(|line| !blank(line)).count() as u64;
        // What begins as a list is read as one, and then a row is a value of it.
        let is_list = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii_start().starts_with(b"[");
        prop_assert!(is_list || import.report.read == rows, "{} of {rows}", import.report.read);
        prop_assert_eq!(import.report.read, import.report.kept + import.report.rejected);
        prop_assert_eq!(import.report.rejections.len() as u64, import.report.rejected);
        let imported = Imported { folder, import };
        prop_assert_eq!(imported.rows().len() as u64, imported.import.report.kept);
    }

    #[test]
    fn what_was_imported_is_what_is_read_and_exported(
        texts in prop::collection::vec(("[^\\s\0][^\0]{0,40}", "[^\\s\0][^\0]{0,40}"), 1..40),
        percent in 0u32..=90,
        seed in any::<u64>(),
    ) {
        let text: String = texts.iter().map(|(question, answer)| chat(question, answer) + "\n").collect();
        let imported = imported_from(text.as_bytes(), 100);
        prop_assert_eq!(imported.import.report.kept, texts.len() as u64);
        let rows = imported.rows();
        for (row, (question, answer)) in rows.iter().zip(&texts) {
            prop_assert_eq!(messages(row), vec![("user", question.as_str()), ("assistant", answer.as_str())]);
            prop_assert_eq!(row.content_sha256, Hash(content_sha256(messages(row))));
        }
        let split = Split { held_out_percent: percent, seed };
        let mut both = imported.export(split, Part::Train, 0).unwrap();
        both.extend(imported.export(split, Part::HeldOut, 0).unwrap());
        both.sort_by_key(|row| row.row_id);
        prop_assert_eq!(both, rows);
    }
}
