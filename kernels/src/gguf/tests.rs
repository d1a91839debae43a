//! What the reader must refuse and what must survive writing and reading.

use std::fs;

use proptest::prelude::*;

use super::*;

fn sample() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer
        .meta("general.architecture", Value::Str("llama".to_owned()))
        .meta("a.u8", Value::U8(1))
        .meta("a.i64", Value::I64(-5))
        .meta("a.f64", Value::F64(0.5))
        .meta("a.bool", Value::Bool(true))
        .meta("a.texts", Value::Array(Array::Str(vec!["x".to_owned(), String::new()])))
        .meta("a.numbers", Value::Array(Array::I32(vec![1, -2, 3])))
        .tensor_f32("one", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .tensor_f32("two", &[5], &[0.0; 5]);
    writer
}

fn written(writer: &GgufWriter) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.gguf");
    writer.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes)
}

/// Opens `bytes` as a file and returns the error text.
fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    fs::write(&path, bytes).unwrap();
    let text = GgufFile::open(&path).unwrap_err().to_string();
    assert!(text.contains("bad.gguf"), "{text}");
    text
}

fn header(tensors: u64, keys: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(keys.to_le_bytes());
    bytes
}

fn key(bytes: &mut Vec<u8>, name: &str, tag: u32) {
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(tag.to_le_bytes());
}

#[test]
fn round_trip_keeps_everything() {
    let (_folder, path, bytes) = written(&sample());
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.version, 3);
    assert_eq!(file.architecture().unwrap(), "llama");
    assert_eq!(file.u32("a.u8").unwrap(), 1);
    assert_eq!(file.get("a.i64"), Some(&Value::I64(-5)));
    assert_eq!(file.f32("a.f64").unwrap(), 0.5);
    assert!(file.bool("a.bool").unwrap());
    assert_eq!(file.strings("a.texts").unwrap(), ["x", ""]);
    assert_eq!(file.i32s("a.numbers").unwrap(), [1, -2, 3]);
    let one = file.tensor("one").unwrap();
    assert_eq!((one.dims.as_slice(), one.type_name, one.size_bytes), ([3, 2].as_slice(), "F32", 24));
    let at = one.offset_bytes as usize;
    assert_eq!(bytes[at..at + 8], [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
    assert_eq!(file.tensor("two").unwrap().offset_bytes % 32, 0);
    assert!(file.u32("a.texts").unwrap_err().to_string().contains("a.texts"));
    assert!(file.u64("a.i64").is_err());
    assert!(file.str("absent").unwrap_err().to_string().contains("absent"));
    assert!(file.require_tensor("three").unwrap_err().to_string().contains("three"));
}

#[test]
fn every_truncation_is_refused_with_a_place() {
    let (_folder, path, bytes) = written(&sample());
    let file = GgufFile::open(&path).unwrap();
    let two = file.tensor("two").unwrap();
    let end_of_data = (two.offset_bytes + two.size_bytes) as usize;
    for len in 0..end_of_data {
        let text = refused(&bytes[..len]);
        assert!(text.contains("at byte"), "length {len}: {text}");
    }
}

#[test]
fn absurd_counts_are_refused_before_memory_is_taken() {
    assert!(refused(&header(u64::MAX, 0)).contains("tensor count"));
    assert!(refused(&header(0, u64::MAX)).contains("key count"));
    assert!(refused(&header(0, 60_000)).contains("cut short"));

    let mut long_key = header(0, 1);
    long_key.extend(u64::MAX.to_le_bytes());
    long_key.extend([0; 32]);
    assert!(refused(&long_key).contains("key 0"));

    let mut long_text = header(0, 1);
    key(&mut long_text, "k", 8);
    long_text.extend((1u64 << 40).to_le_bytes());
    assert!(refused(&long_text).contains("exceeds the limit"));

    for (tag, problem) in [(4, "exceeds the limit"), (9, "arrays of arrays"), (99, "unknown array element type")] {
        let mut array = header(0, 1);
        key(&mut array, "k", 9);
        array.extend(u32::to_le_bytes(tag));
        array.extend((u64::MAX / 2).to_le_bytes());
        assert!(refused(&array).contains(problem));
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    assert!(refused(b"PK\x03\x04 a zip file, not a model").contains("magic"));
    let mut old = header(0, 0);
    old[4] = 1;
    assert!(refused(&old).contains("not supported"));
    let mut swapped = header(0, 0);
    swapped[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(refused(&swapped).contains("big-endian"));

    let mut flag = header(0, 1);
    key(&mut flag, "flag", 7);
    flag.extend([2; 8]);
    assert!(refused(&flag).contains("boolean"));

    let mut twice = header(0, 2);
    for _ in 0..2 {
        key(&mut twice, "k", 0);
        twice.push(0);
    }
    assert!(refused(&twice).contains("twice"));

    let mut latin = header(0, 1);
    key(&mut latin, "k", 8);
    latin.extend(4u64.to_le_bytes());
    latin.extend([0xff; 4]);
    assert!(refused(&latin).contains("UTF-8"));
}

/// One tensor entry after a header with no key.
fn with_tensor(dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = header(1, 0);
    bytes.extend(1u64.to_le_bytes());
    bytes.push(b't');
    bytes.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(256, 0);
    bytes
}

#[test]
fn tensors_outside_the_file_are_refused() {
    assert!(refused(&with_tensor(&[1 << 40], 0, 0)).contains("cut short"));
    assert!(refused(&with_tensor(&[u64::MAX], 0, 0)).contains("dimension"));
    assert!(refused(&with_tensor(&[1 << 62, 1 << 62], 0, 0)).contains("do not fit"));
    assert!(refused(&with_tensor(&[4], 0, u64::MAX - 31)).contains("overflows"));
    assert!(refused(&with_tensor(&[4], 0, 8)).contains("multiple"));
    assert!(refused(&with_tensor(&[33], 3, 0)).contains("do not fit"));
    assert!(refused(&with_tensor(&[32], 4, 0)).contains("unknown storage type"));
    assert!(refused(&with_tensor(&[1; 5], 0, 0)).contains("5 dimensions"));
    assert!(refused(&with_tensor(&[0], 0, 0)).contains("0 elements"));
}

#[test]
fn the_writer_refuses_what_the_format_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let mut writer = GgufWriter::new();
    writer.tensor_f32("t", &[3], &[1.0]);
    assert!(writer.write(&path).unwrap_err().to_string().contains("\"t\""));
    let mut writer = GgufWriter::new();
    writer.meta("k", Value::U8(1)).meta("k", Value::U8(2));
    assert!(writer.write(&path).unwrap_err().to_string().contains("twice"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn sizes_agree_with_ggml() {
    for &(id, name, block, bytes) in TYPES {
        // SAFETY: the id is below GGML_TYPE_COUNT (checked first); the calls read a static table.
        let (ggml_block, ggml_bytes) = unsafe {
            assert!(id < llama_cpp_sys_2::GGML_TYPE_COUNT);
            (llama_cpp_sys_2::ggml_blck_size(id), llama_cpp_sys_2::ggml_type_size(id))
        };
        assert_eq!((block as i64, bytes as usize), (ggml_block, ggml_bytes), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn flipped_bytes_never_panic(at in 0usize..400, value in any::<u8>()) {
        let (_folder, path, mut bytes) = written(&sample());
        let at = at % bytes.len();
        bytes[at] = value;
        fs::write(&path, &bytes).unwrap();
        if let Ok(file) = GgufFile::open(&path) {
            for tensor in &file.tensors {
                prop_assert!(tensor.offset_bytes + tensor.size_bytes <= file.file_bytes);
            }
        }
    }

    #[test]
    fn texts_and_numbers_survive(text in ".{0,40}", numbers in proptest::collection::vec(any::<f32>(), 1..50)) {
        let mut writer = GgufWriter::new();
        writer.meta("t", Value::Str(text.clone())).tensor_f32("n", &[numbers.len() as u64], &numbers);
        let (_folder, path, bytes) = written(&writer);
        let file = GgufFile::open(&path).unwrap();
        prop_assert_eq!(file.str("t").unwrap(), text);
        let tensor = file.tensor("n").unwrap();
        let data = &bytes[tensor.offset_bytes as usize..][..tensor.size_bytes as usize];
        let read: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        prop_assert_eq!(data, read.as_slice());
    }
}
