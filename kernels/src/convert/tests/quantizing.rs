//! Every format through llama.cpp's quantiser: it loads, it is near, it says where it came from.

use super::{config, hidden, values};
use crate::convert::importance::importance;
use crate::convert::quantize::{FORMATS, Quantize, quantize, requantising};
use crate::convert::receipt::{Side, measure};
use crate::convert::{PARENT_KEY, WARNING_KEY};
use crate::gguf::GgufFile;
use crate::train::TokenRow;
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
        let task = Quantize {
            source: &source,
            target: &target,
            format,
            threads: 2,
            source_sha256: "ab12",
            warning: "",
            importance: None,
        };
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
    let task = Quantize {
        source: &source,
        target: &target,
        format: "q8_0",
        threads: 2,
        source_sha256: "",
        warning: &warning,
        importance: None,
    };
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
        let task =
            Quantize { source, target: &target, format, threads: 1, source_sha256: "", warning: "", importance: None };
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

#[test]
fn importance_is_the_mean_square_of_what_flows_in() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path(), 8);
    let rows = tiny_rows(&[24, 7], 3);
    let found = importance(&model, &rows, 1, &mut hidden).unwrap();
    assert_eq!((found.rows, found.tokens), (2, 31));
    let config = config(&model);
    assert_eq!(found.columns.len(), 7 * config.layers);
    let names: Vec<&str> = found.columns.iter().map(|columns| columns.name.to_str().unwrap()).collect();
    assert!(names.contains(&"blk.1.ffn_down.weight") && names.is_sorted(), "{names:?}");

    // What flows into the first layer's queries is the normed embedding.
    let (embedding, norm) = (values(&model, "token_embd.weight"), values(&model, "blk.0.attn_norm.weight"));
    let mut wanted = vec![0.0f64; config.width];
    let tokens: Vec<i32> = rows.iter().flat_map(|row| row.tokens.clone()).collect();
    for &token in &tokens {
        let row = &embedding[token as usize * config.width..][..config.width];
        let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / config.width as f64;
        for ((sum, &x), &weight) in wanted.iter_mut().zip(row).zip(&norm) {
            *sum += f64::from(x * weight).powi(2) / (mean + f64::from(config.norm_eps)) / tokens.len() as f64;
        }
    }
    let queries = found.columns.iter().find(|columns| columns.name.as_c_str() == c"blk.0.attn_q.weight").unwrap();
    for (found, wanted) in queries.mean_squares.iter().zip(&wanted) {
        assert!((f64::from(*found) / wanted - 1.0).abs() < 1e-4, "{found} {wanted}");
    }
    let down = found.columns.iter().find(|columns| columns.name.as_c_str() == c"blk.0.ffn_down.weight").unwrap();
    assert_eq!(down.mean_squares.len(), config.feed_forward);
    let none = importance(&model, &[], 1, &mut hidden).unwrap_err().to_string();
    assert!(none.contains("imatrix_rows"), "{none}");
}

#[test]
fn what_is_rounded_by_importance_is_nearer_on_those_rows() {
    let folder = tempfile::tempdir().unwrap();
    let source = starter();
    let vocab = crate::vocab::Vocab::load(&source).unwrap();
    let desk = std::fs::read_to_string("../daemon/data/presets/support-desk.jsonl").unwrap();
    let rows: Vec<TokenRow> = desk
        .lines()
        .take(8)
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let said: Vec<&str> =
                row["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
            let tokens = vocab.tokenize(&said.join("\n"), false).unwrap();
            TokenRow { row_id: 0, trained: vec![true; tokens.len()], tokens }
        })
        .collect();
    let found = importance(&source, &rows, 1, &mut hidden).unwrap();
    let kl = |format: &str, importance: Option<_>| {
        let target = folder.path().join(format!("{format}-{}.gguf", importance.is_some()));
        let task = Quantize {
            source: &source,
            target: &target,
            format,
            threads: 2,
            source_sha256: "",
            warning: "",
            importance,
        };
        quantize(&task, &mut hidden).unwrap();
        let (version, parent) = (Side { model: &target, adapter: None }, Side { model: &source, adapter: None });
        let receipt = measure(version, parent, &rows, 1, &mut hidden).unwrap();
        (receipt.mean_kl, GgufFile::open(&target).unwrap())
    };
    let (plain, _) = kl("q4_0", None);
    let (by_importance, made) = kl("q4_0", Some((&found, "desk@1")));
    println!("q4_0: mean KL {plain:.4} without, {by_importance:.4} by importance");
    assert!(by_importance < plain, "{by_importance} {plain}");
    assert_eq!(made.str("quantize.imatrix.dataset").unwrap(), "desk@1");
    assert_eq!(made.get("quantize.imatrix.entries_count").and_then(|value| value.as_u64()), Some(210));
    assert_eq!(made.get("quantize.imatrix.chunks_count").and_then(|value| value.as_u64()), Some(8));
}
