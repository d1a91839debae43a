//! Files of every kind in, and rows of every format out and in again.

use std::io::Write;

use hone_protocol::dataset::{FieldMap, FieldRole, Shape};
use hone_protocol::worker::PreviewTask;

use super::super::detect::preview;
use super::super::import::import_with;
use super::*;

/// A file of that name with these bytes, imported as it is detected.
fn file(name: &str, bytes: &[u8]) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let import =
        run_import(folder.path(), &path, RowFormat::Detect, 0).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    Imported { folder, import }
}

fn said(imported: &Imported) -> Vec<Vec<(String, String)>> {
    let owned = |row: &Row| messages(row).into_iter().map(|(role, text)| (role.to_owned(), text.to_owned())).collect();
    imported.rows().iter().map(owned).collect()
}

fn turns(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A ZIP archive with its members deflated.
fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(bytes).unwrap();
        let packed = packed.finish().unwrap();
        let mut head = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head.extend([packed.len(), bytes.len()].iter().flat_map(|n| (*n as u32).to_le_bytes()));
        head.extend((name.len() as u32).to_le_bytes());
        let start = archive.len() as u32;
        archive.extend([&b"PK\x03\x04"[..], &head, name.as_bytes(), &packed].concat());
        directory.extend([&b"PK\x01\x02\x14\x03"[..], &head, &[0; 10]].concat());
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, start) = (members.len() as u16, archive.len() as u32);
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend([count, count].iter().flat_map(|n| n.to_le_bytes()));
    end.extend([directory.len() as u32, start].iter().flat_map(|n| n.to_le_bytes()));
    end.extend([0, 0]);
    [archive, directory, end].concat()
}

#[test]
fn files_of_every_kind_are_recognised() {
    let pair = turns(&[("user", "q, \"one\""), ("assistant", "a\nb")]);
    let table = "question,answer\n\"q, \"\"one\"\"\",\"a\nb\"\n";
    for (name, bytes, format) in [
        ("a.csv", table.as_bytes().to_vec(), "csv:mapped_chat"),
        ("b.csv", b"\xef\xbb\xbfQuestion;Answer\r\n\"q, \"\"one\"\"\";\"a\nb\"\r\n".to_vec(), "csv:mapped_chat"),
        ("c.tsv", b"prompt\tresponse\n\"q, \"\"one\"\"\"\t\"a\nb\"".to_vec(), "tsv:mapped_chat"),
        ("d.csv.gz", gzipped(table.as_bytes()), "csv.gz:mapped_chat"),
        ("e.jsonl.zst", zstd::encode_all(chat("q, \"one\"", "a\nb").as_bytes(), 3).unwrap(), "jsonl.zst:messages"),
        (
            "f.json",
            format!("{{\n \"instruction\": {:?},\n \"output\": \"a\\nb\"\n}}\n", "q, \"one\"").into_bytes(),
            "json:alpaca",
        ),
        (
            "g.zip",
            zipped(&[("README.md", b"# no rows"), ("x/rows.jsonl", chat("q, \"one\"", "a\nb").as_bytes())]),
            "zip:messages",
        ),
        ("h", br#"[{"prompt":"q, \"one\"","response":[["a\nb"]]}]"#.to_vec(), "qianfan"),
    ] {
        let imported = file(name, &bytes);
        assert_eq!(imported.import.report.format, format, "{name}");
        assert_eq!(said(&imported), std::slice::from_ref(&pair), "{name}");
    }
    assert_eq!(
        said(&file("t.txt", b"one\nline\n\n\n two \n")),
        [turns(&[("text", "one\nline")]), turns(&[("text", "two")])]
    );
    let markdown = b"before\n# A\ntext\n```\n# no heading\n```\n# B\nmore\n";
    let sections = ["before", "# A\ntext\n```\n# no heading\n```", "# B\nmore"].map(|text| turns(&[("text", text)]));
    assert_eq!(said(&file("t.md", markdown)), sections);
}

#[test]
fn records_of_tables_that_do_not_fit_are_named_and_formulas_are_texts() {
    let report = file("a.csv", b"question,answer\nq,=1+1\nq\nq,a,b\n\xff,a\n,a\nr,b\n").import.report;
    let places: Vec<_> = report.rejections.iter().map(|found| (found.line, found.field.as_str())).collect();
    assert_eq!((report.read, report.kept), (6, 2));
    assert_eq!(places, [(3, ""), (4, ""), (5, "question"), (6, "question")]);
    assert_eq!(said(&file("b.csv", b"question,answer\nq,=1+1\n")), [turns(&[("user", "q"), ("assistant", "=1+1")])]);
}

#[test]
fn a_folder_is_its_files_and_says_what_it_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    fs::create_dir_all(rows.join("deep")).unwrap();
    fs::write(rows.join("b.jsonl"), format!("x\n{}\n", chat("q", "b"))).unwrap();
    fs::write(rows.join("deep/c.jsonl.gz"), gzipped(chat("q", "c").as_bytes())).unwrap();
    fs::write(rows.join("a.jsonl"), format!("{}\nx\n", chat("q", "a"))).unwrap();
    fs::write(rows.join("README.md"), "# words").unwrap();
    fs::write(rows.join("picture.png"), "no").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", rows.join("link.jsonl")).unwrap();
    let import = run_import(folder.path(), &rows, RowFormat::Detect, 0).unwrap();
    let imported = Imported { folder, import };
    let answers: Vec<String> = imported.rows().iter().map(|row| row.messages[1].content.clone()).collect();
    assert_eq!(answers, ["a", "b", "c"]);
    let report = &imported.import.report;
    let told: Vec<_> =
        report.rejections.iter().map(|r| (r.line, r.reason.split(':').next().unwrap_or_default())).collect();
    let passed = [(0, "link.jsonl"), (0, "picture.png"), (0, "README.md"), (2, "a.jsonl"), (1, "b.jsonl")];
    assert_eq!(told, passed, "{:#?}", report.rejections);
    assert_eq!(report.read, report.kept + report.rejected);
}

#[test]
fn a_bomb_is_refused_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = vec![b' '; 1 << 20];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..200 {
        packed.write_all(&zeros).unwrap();
    }
    let path = folder.path().join("bomb.jsonl.gz");
    fs::write(&path, packed.finish().unwrap()).unwrap();
    let failure = run_import(folder.path(), &path, RowFormat::Detect, 0).unwrap_err();
    assert!(failure.message_en.contains("unpacks to more than 250 times"), "{failure}");
}

#[test]
fn a_file_gives_the_same_segments_with_any_number_of_threads() {
    let mut text = String::new();
    for n in 0..6000usize {
        text.push_str(&chat(&format!("q{n}"), &noise(n % 900 + 1, n as u64)));
        text.push_str(if n % 97 == 0 { "\nbroken\n" } else { "\n" });
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    fs::write(&path, text).unwrap();
    let with = |threads| {
        let task = ImportTask {
            path: path.display().to_string(),
            source: String::new(),
            format: RowFormat::Detect,
            folder: folder.path().display().to_string(),
            first_row_id: 9,
        };
        import_with(&task, threads, &mut |_, _| {}).unwrap()
    };
    let one = with(1);
    assert!(one.report.rejected > 50 && one.report.rejections[1].line == 100, "{:?}", one.report.rejections[1]);
    for threads in [2, 3, 7] {
        assert_eq!(with(threads), one, "{threads}");
    }
}

#[test]
fn rows_can_be_written_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = super::super::segment_writer::SegmentWriter::new(folder.path(), 40).unwrap();
    for text in ["one", "two"] {
        let turns = [super::super::format::Turn::new(super::super::format::Role::Text, text)];
        let hash = content_sha256([("text", text)]);
        writer.push(&turns, &hash, &format!("{{\"text\":\"{text}\"}}")).unwrap();
    }
    let import = Import { report: Default::default(), segments: writer.finish().unwrap() };
    let rows = Imported { folder, import }.rows();
    assert_eq!(rows.iter().map(|row| (row.row_id, messages(row)[0].1)).collect::<Vec<_>>(), [(40, "one"), (41, "two")]);
    assert_eq!(rows[1].original.value(), serde_json::json!({"text": "two"}));
}

#[test]
fn a_preview_says_what_an_import_does_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, "id,title,body\n1,a,some text\n2,b,\n3,c,more\n").unwrap();
    let look = |format| preview(&PreviewTask { path: path.display().to_string(), format, first_row_id: 5 }).unwrap();
    let made = look(RowFormat::Detect);
    assert_eq!((made.container.as_str(), made.format.as_str(), made.shape), ("csv", "csv:mapped_text", Shape::Text));
    assert_eq!(made.mapping, [FieldMap { field: "body".into(), role: FieldRole::Text }]);
    assert_eq!((made.read, made.kept, made.whole), (3, 2, true));
    assert_eq!((made.rejections[0].line, made.rejections[0].field.as_str()), (3, "body"));
    assert_eq!(made.rows.iter().map(|row| row.row_id).collect::<Vec<_>>(), [5, 6]);
    let names: Vec<&str> = made.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["id", "title", "body"]);
    let mapping = vec![
        FieldMap { field: "title".into(), role: FieldRole::User },
        FieldMap { field: "body".into(), role: FieldRole::Expected },
    ];
    let mapped = look(RowFormat::Mapped(mapping.clone()));
    assert_eq!((mapped.shape, mapped.kept), (Shape::Prompt, 2));
    let imported = run_import(folder.path(), &path, RowFormat::Mapped(mapping), 5).unwrap();
    let imported = Imported { folder, import: imported };
    assert_eq!(imported.rows(), mapped.rows);
}

#[test]
fn a_search_finds_what_a_look_at_every_row_finds() {
    let text: String =
        (0..3000).map(|n| chat(&format!("Question {n}"), &format!("answer {}", "中".repeat(n % 40))) + "\n").collect();
    let imported = imported_from(text.as_bytes(), 7);
    let rows = imported.rows();
    let mut reader = Reader::default();
    for (contains, ignore_case, role, min, max) in [
        ("99", false, "", 0, 0),
        ("question 1", true, "user", 0, 0),
        ("question 1", false, "", 0, 0),
        ("", false, "assistant", 40, 45),
        ("中", false, "user", 0, 0),
    ] {
        let split = Split { held_out_percent: 30, seed: 4 };
        let filter = hone_protocol::dataset::RowFilter {
            contains: contains.into(),
            ignore_case,
            role: role.into(),
            min_characters: min,
            max_characters: max,
            split,
            part: Part::Train,
        };
        let passes = |row: &&Row| {
            split.includes(Part::Train, row.row_id)
                && row.messages.iter().any(|message| {
                    let characters = message.content.chars().count() as u64;
                    let (content, wanted) = match ignore_case {
                        true => (message.content.to_lowercase(), contains.to_lowercase()),
                        false => (message.content.clone(), contains.to_owned()),
                    };
                    content.contains(&wanted)
                        && (role.is_empty() || message.role == role)
                        && characters >= min
                        && (max == 0 || characters <= max)
                })
        };
        let wanted: Vec<Row> = rows.iter().filter(passes).cloned().collect();
        for (offset, count) in [(0, 5), (3, 1000), (wanted.len() as u64, 5)] {
            let (found, total) = imported.read(&mut reader, Select::Find { filter: filter.clone(), offset, count });
            assert_eq!(total, wanted.len() as u64, "{contains}");
            let end = wanted.len().min((offset + u64::from(count)) as usize);
            assert_eq!(found.unwrap(), wanted.get(offset as usize..end).unwrap_or_default(), "{contains} {offset}");
        }
    }
}

/// A text that every format can say: no white space around it, no empty line within.
fn plain() -> impl Strategy<Value = String> {
    "[a-z=+@,;\"'中é😀][a-zA-Z0-9 ,;\t\"'\\\\{}\\[\\]中é😀-]{0,30}[a-z中\"]"
}

/// The same with line ends.
fn lines() -> impl Strategy<Value = String> {
    prop::collection::vec(plain(), 1..4).prop_map(|lines| lines.join("\n"))
}

fn written_and_read(imported: &Imported, format: ExportFormat, name: &str) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let task = ExportTask {
        folder: imported.folder.path().display().to_string(),
        segments: imported.import.segments.clone(),
        split: EVERYTHING,
        part: Part::All,
        rows_max: 0,
        format,
        path: path.display().to_string(),
    };
    export(&task, &mut |_, _| {}).unwrap_or_else(|failure| panic!("{format:?}: {failure}"));
    let import = run_import(folder.path(), &path, RowFormat::Detect, 0)
        .unwrap_or_else(|failure| panic!("{format:?}: {failure}"));
    assert_eq!(import.report.rejected, 0, "{format:?}: {:?}", import.report.rejections);
    Imported { folder, import }
}

fn as_json(rows: &[serde_json::Value]) -> Imported {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    imported(text.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chats_go_out_and_in_in_every_format(
        rows in prop::collection::vec((prop::option::of(lines()), lines(), lines()), 1..12),
        rounds in prop::collection::vec((lines(), lines()), 0..3),
    ) {
        use serde_json::json;
        let short: Vec<_> = rows.iter().map(|(system, ask, answer)| {
            let mut messages = Vec::new();
            messages.extend(system.as_ref().map(|system| json!({"role": "system", "content": system})));
            messages.push(json!({"role": "user", "content": ask}));
            messages.push(json!({"role": "assistant", "content": answer}));
            json!({"messages": messages, "id": 7})
        }).collect();
        let long: Vec<_> = short.iter().map(|row| {
            let mut row = row.clone();
            for (ask, answer) in &rounds {
                let turns = [json!({"role": "user", "content": ask}), json!({"role": "assistant", "content": answer})];
                row["messages"].as_array_mut().unwrap().extend(turns);
            }
            row
        }).collect();
        for (format, name, rows) in [
            (ExportFormat::Messages, "a.jsonl", &long),
            (ExportFormat::Original, "a.jsonl", &long),
            (ExportFormat::Rows, "a.jsonl", &long),
            (ExportFormat::ShareGpt, "a.json", &long),
            (ExportFormat::Alpaca, "a.jsonl", &long),
            (ExportFormat::Kto, "a.jsonl", &long),
            (ExportFormat::Parquet, "a.parquet", &long),
            (ExportFormat::Arrow, "a.arrow", &long),
            (ExportFormat::Csv, "a.csv", &short),
        ] {
            let before = as_json(rows);
            let after = written_and_read(&before, format, name);
            prop_assert_eq!(said(&after), said(&before), "{:?}", format);
        }
    }

    #[test]
    fn pairs_prompts_and_texts_go_out_and_in(rows in prop::collection::vec((plain(), lines(), lines()), 1..12)) {
        use serde_json::json;
        let pairs: Vec<_> = rows.iter().filter(|(_, good, bad)| good != bad).map(|(ask, good, bad)| json!({"prompt": ask, "chosen": good, "rejected": bad})).collect();
        let prompts: Vec<_> = rows.iter().map(|(ask, expected, _)| json!({"prompt": ask, "expected": expected})).collect();
        let texts: Vec<_> = rows.iter().map(|(_, text, _)| json!({"text": text})).collect();
        for rows in [pairs, prompts, texts.clone()] {
            if rows.is_empty() {
                continue;
            }
            let before = as_json(&rows);
            for (format, name) in [
                (ExportFormat::Messages, "a.jsonl"),
                (ExportFormat::Csv, "a.csv"),
                (ExportFormat::Parquet, "a.parquet"),
                (ExportFormat::Arrow, "a.arrow"),
            ] {
                prop_assert_eq!(said(&written_and_read(&before, format, name)), said(&before), "{:?}", format);
            }
        }
        let before = as_json(&texts);
        prop_assert_eq!(said(&written_and_read(&before, ExportFormat::Text, "a.txt")), said(&before));
    }

    #[test]
    fn originals_come_back_whatever_their_texts_hold(texts in prop::collection::vec(("[^\\s\0][^\0]{0,40}", "[^\\s\0][^\0]{0,40}"), 1..20)) {
        use serde_json::json;
        let rows: Vec<_> = texts.iter().map(|(ask, answer)| json!({
            "id": 1.5, "messages": [{"role": "user", "content": ask, "x": ask}, {"content": answer, "role": "assistant"}], "more": [answer, null],
        })).collect();
        let originals: Vec<_> = as_json(&rows).rows().into_iter().map(|row| row.original.value()).collect();
        prop_assert_eq!(originals, rows);
    }

    #[test]
    fn read_is_kept_and_rejected_for_mutated_files_of_every_kind(
        kind in 0usize..7, at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let rows = chats(20);
        let parquet = || {
            let imported = imported(chats(20).as_bytes());
            let other = written_and_read(&imported, ExportFormat::Parquet, "rows");
            fs::read(other.folder.path().join("rows")).unwrap()
        };
        let (name, mut bytes) = match kind {
            0 => ("a.jsonl", rows.into_bytes()),
            1 => ("a.json", format!("[{}]", rows.trim_end().replace('\n', ",\n")).into_bytes()),
            2 => ("a.csv", b"question,answer\n\"a\",b\nc,\"d\ne\"\n".repeat(3)),
            3 => ("a.jsonl.gz", gzipped(rows.as_bytes())),
            4 => ("a.zip", zipped(&[("a.jsonl", rows.as_bytes()), ("b.csv", b"question,answer\na,b\n")])),
            5 => ("a.parquet", parquet()),
            _ => ("a.md", b"# a\nb\n# c\nd\n".to_vec()),
        };
        for (at, byte) in at {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        if let Ok(import) = run_import(folder.path(), &path, RowFormat::Detect, 0) {
            prop_assert_eq!(import.report.read, import.report.kept + import.report.rejected);
            let imported = Imported { folder, import };
            prop_assert_eq!(imported.rows().len() as u64, imported.import.report.kept);
        }
    }
}
