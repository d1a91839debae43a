//! Every format through llama.cpp's quantiser: it loads, it is near, it says where it came from.

use super::hidden;
use crate::convert::quantize::{FORMATS, Quantize, quantize, requantising};
use crate::convert::{PARENT_KEY, WARNING_KEY};
use crate::gguf::GgufFile;
use crate::train::tests::llama_cpp::{difference, logits};
use crate::train::tests::models::{starter, tiny, tiny_rows};

#[test]
fn every_format_loads_and_is_near_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let source = tiny(folder.path(), 8);
    let tokens = &tiny_rows(&[24], 3)[0].tokens;
    let wanted = logits(&source, None, tokens);
    let spread = wanted.concat().iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    let spread = (spread / wanted.concat().len() as f64).sqrt();
    assert_eq!(requantising(&GgufFile::open(&source).unwrap()), None);
    for (format, _) in FORMATS {
        let target = folder.path().join(format!("{format}.gguf"));
        let (mut last, mut times) = ((0, 0), 0);
        let mut progress = |done, total| (last, times) = ((done, total), times + 1);
        let task =
            Quantize { source: &source, target: &target, format, threads: 2, source_sha256: "ab12", warning: "" };
        let note = quantize(&task, &mut progress).unwrap();
        let blocks = format.contains("_k");
        assert_eq!(note.is_some_and(|note| note.starts_with("15 of ")), blocks, "{format}");
        assert!(last.0 == last.1 && last.1 > 10 && times > 0, "{last:?}");
        let made = GgufFile::open(&target).unwrap();
        assert_eq!(made.str(PARENT_KEY).unwrap(), "ab12");
        assert_eq!(made.get(WARNING_KEY), None);
        let (_, rms) = difference(&logits(&target, None, tokens).concat(), &wanted);
        println!("{format}: rms {rms:.2e} of {spread:.2}");
        assert!(rms < 0.5 * spread, "{format}: {rms}");
    }
}

#[test]
fn the_starter_is_quantised_again_with_a_warning_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (starter(), folder.path().join("q8.gguf"));
    let warning = requantising(&GgufFile::open(&source).unwrap()).unwrap();
    assert!(warning.contains("Q4_1"), "{warning}");
    let task =
        Quantize { source: &source, target: &target, format: "q8_0", threads: 2, source_sha256: "", warning: &warning };
    quantize(&task, &mut hidden).unwrap();
    let (before, made) = (GgufFile::open(&source).unwrap(), GgufFile::open(&target).unwrap());
    assert_eq!(made.str(WARNING_KEY).unwrap(), warning);
    assert_eq!(made.tensor("blk.0.attn_q.weight").unwrap().type_name, "Q8_0");
    for (key, value) in before.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        assert_eq!(made.get(key), Some(value), "{key}");
    }
    let tokens: Vec<i32> = (0..32).map(|at| 1000 + at * 97 % 20_000).collect();
    let (_, rms) = difference(&logits(&target, None, &tokens).concat(), &logits(&source, None, &tokens));
    println!("Q4_1 -> Q8_0: rms {rms:.1e}");
    assert!(rms < 0.3, "{rms}");
}

#[test]
fn what_cannot_be_quantised_is_refused_with_a_sentence_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = tiny(folder.path(), 8);
    let target = folder.path().join("out.gguf");
    let refused = |source: &std::path::Path, format: &str| {
        let task = Quantize { source, target: &target, format, threads: 1, source_sha256: "", warning: "" };
        quantize(&task, &mut hidden).unwrap_err().to_string()
    };
    assert!(refused(&source, "q9").contains("q8_0"), "the formats are listed");
    let adapter = super::adapter(folder.path(), &source, 2, 2.0, 0.1, false);
    assert!(refused(&adapter, "q8_0").contains("merge it first"));
    let strange = folder.path().join("strange.gguf");
    let bytes = std::fs::read(&source).unwrap();
    let at = bytes.windows(5).position(|window| window == b"llama").unwrap();
    let mut changed = bytes.clone();
    changed[at..at + 5].copy_from_slice(b"lxama");
    std::fs::write(&strange, changed).unwrap();
    let said = refused(&strange, "q8_0");
    assert!(said.contains("lxama"), "{said}");
    assert!(!target.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}
