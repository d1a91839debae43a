//! A merged file gives the logits of base and adapter, and carries everything else over.

use std::path::Path;

use super::{adapter, hidden, values};
use crate::arch::REGISTRY;
use crate::convert::merge::{Merge, Store, merge};
use crate::convert::{set, set_parent};
use crate::gguf::{GgufFile, GgufWriter, Value};
use crate::train::tests::llama_cpp::{difference, logits};
use crate::train::tests::models::{dequantised, starter, tiny_of, tiny_rows};

fn merged(base: &Path, adapter: &Path, target: &Path, store: Store) {
    merge(&Merge { base, adapter, target, store, threads: 2 }, |_| {}, &mut hidden).unwrap();
}

#[test]
fn a_merged_model_gives_the_logits_of_base_and_adapter_in_every_architecture() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = &tiny_rows(&[24], 3)[0].tokens;
    for arch in REGISTRY {
        let base = tiny_of(folder.path(), arch.name, 5);
        let adapter = adapter(folder.path(), &base, 3, 6.0, 0.2, true);
        let target = folder.path().join("merged.gguf");
        merged(&base, &adapter, &target, Store::F32);
        let wanted = logits(&base, Some(&adapter), tokens);
        let found: Vec<f32> = logits(&target, None, tokens).concat();
        let plain: Vec<f32> = logits(&base, None, tokens).concat();
        let (moved, _) = difference(&plain, &wanted);
        let (largest, rms) = difference(&found, &wanted);
        println!("{}: max {largest:.1e}, rms {rms:.1e}; the adapter moved logits by {moved:.2}", arch.name);
        assert!(moved > 0.2, "{}: {moved}", arch.name);
        assert!(largest < 1e-3 * moved.max(1.0) && rms < 1e-4 * moved.max(1.0), "{}: {largest} {rms}", arch.name);
    }
}

#[test]
fn the_starter_merged_gives_the_logits_of_base_and_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let base = starter();
    // llama.cpp rounds activations where weights are quantised; over floats it does not, so this is W + scale B A exactly.
    let floats = folder.path().join("floats.gguf");
    dequantised(&base, &floats);
    let adapter = adapter(folder.path(), &base, 8, 16.0, 0.05, false);
    let tokens: Vec<i32> = (0..48).map(|at| 1000 + at * 97 % 20_000).collect();
    let wanted = logits(&floats, Some(&adapter), &tokens);
    let plain: Vec<f32> = logits(&floats, None, &tokens).concat();
    let (moved, moved_rms) = difference(&plain, &wanted);
    let before = GgufFile::open(&base).unwrap();
    for (store, bound) in [(Store::F32, 1e-3), (Store::F16, 0.05), (Store::Bf16, 0.3), (Store::Same, f64::MAX)] {
        let target = folder.path().join(format!("{store:?}.gguf"));
        merged(&base, &adapter, &target, store);
        let found: Vec<f32> = logits(&target, None, &tokens).concat();
        let (largest, rms) = difference(&found, &wanted);
        println!(
            "{store:?}: max {largest:.1e}, rms {rms:.1e}; the adapter moved logits by {moved:.2}, rms {moved_rms:.2}"
        );
        assert!(rms < bound * moved_rms, "{store:?}: {rms}");
        let after = GgufFile::open(&target).unwrap();
        for (key, value) in before.metadata.iter().filter(|(key, _)| key != "general.file_type") {
            assert_eq!(after.get(key), Some(value), "{key}");
        }
        if store == Store::Same {
            assert_eq!(after.tensors.len(), before.tensors.len());
            assert_eq!(after.tensor("blk.3.attn_q.weight").unwrap().type_name, "Q4_1");
            // What the adapter does not touch is the same bytes.
            let name = "token_embd.weight";
            assert_eq!(values(&target, name), values(&base, name));
            // What it does touch is off by half a step of its block at most.
            let name = "blk.3.attn_q.weight";
            let (exact, rounded) = (values(&folder.path().join("F32.gguf"), name), values(&target, name));
            for (exact, rounded) in exact.chunks_exact(32).zip(rounded.chunks_exact(32)) {
                let (least, most) =
                    exact.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
                let step = (most - least) / 15.0;
                for (exact, rounded) in exact.iter().zip(rounded) {
                    assert!((exact - rounded).abs() < 0.51 * step + 1e-4, "{exact} {rounded} {step}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_merged_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = tiny_of(folder.path(), "llama", 1);
    let other = tiny_of(folder.path(), "qwen2", 1);
    let adapter = adapter(folder.path(), &other, 2, 2.0, 0.1, false);
    let target = folder.path().join("no.gguf");
    let refused = |adapter: &Path| {
        let task = Merge { base: &base, adapter, target: &target, store: Store::F32, threads: 1 };
        merge(&task, |_| {}, &mut hidden).unwrap_err().to_string()
    };
    assert!(refused(&adapter).contains("general.architecture"));
    assert!(refused(&base).contains("only an adapter can be merged"));
    let with = |name: &str, a: [u64; 2], b: [u64; 2], tokens: bool| {
        let mut writer = GgufWriter::new();
        writer
            .meta("general.type", Value::Str("adapter".into()))
            .meta("general.architecture", Value::Str("llama".into()))
            .meta("adapter.type", Value::Str("lora".into()))
            .meta("adapter.lora.alpha", Value::F32(1.0));
        if tokens {
            writer.meta("adapter.alora.invocation_tokens", Value::Array(crate::gguf::Array::U32(vec![1])));
        }
        let zeros = |dims: [u64; 2]| vec![0.0; (dims[0] * dims[1]) as usize];
        writer.tensor_f32(&format!("{name}.lora_a"), &a, &zeros(a));
        writer.tensor_f32(&format!("{name}.lora_b"), &b, &zeros(b));
        let path = folder.path().join("odd.gguf");
        writer.write(&path).unwrap();
        path
    };
    let q = "blk.0.attn_q.weight";
    assert!(refused(&with("blk.9.attn_q.weight", [64, 2], [2, 64], false)).contains("blk.9.attn_q.weight"));
    assert!(refused(&with(q, [32, 2], [2, 64], false)).contains("32 x 64 does not fit"));
    assert!(refused(&with(q, [64, 2], [2, 64], true)).contains("invocation_tokens"));
    assert!(refused(&with("token_embd.weight", [64, 2], [2, 160], false)).contains("plain matrices"));
    assert!(!target.exists());
}

#[test]
fn provenance_replaces_what_the_base_said_of_its_own_parents() {
    let mut metadata = vec![
        ("general.base_model.count".to_owned(), Value::U32(2)),
        ("general.base_model.1.name".to_owned(), Value::Str("old".into())),
        ("general.name".to_owned(), Value::Str("a".into())),
    ];
    set_parent(&mut metadata, "starter@1");
    set(&mut metadata, "general.name", Value::Str("b".into()));
    let keys: Vec<&str> = metadata.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["general.name", "general.base_model.count", "general.base_model.0.name"]);
    assert_eq!(metadata[0].1, Value::Str("b".into()));
}
