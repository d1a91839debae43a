//! PEFT folders: there and back is the same, rows are in transformers' order, scales are what PEFT multiplies by, and what
//! GGUF cannot hold is refused by its name.

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use super::{adapter, config, values};
use crate::arch::REGISTRY;
use crate::convert::peft::{CONFIG_FILE, VALUES_FILE, from_peft, to_peft};
use crate::gguf::GgufFile;
use crate::train::tests::models::{tiny, tiny_of};

#[test]
fn there_and_back_is_the_same_adapter_in_every_architecture() {
    let folder = tempfile::tempdir().unwrap();
    for arch in REGISTRY {
        for uneven in [false, true] {
            let base = tiny_of(folder.path(), arch.name, 5);
            let before = adapter(folder.path(), &base, 4, 8.0, 0.2, uneven);
            to_peft(&before, &base, folder.path(), "a/b").unwrap();
            let after = folder.path().join("back.gguf");
            let made = from_peft(folder.path(), &base, &after, &[]).unwrap();
            assert_eq!(
                (made.rank, made.pairs * 2),
                (if uneven { 8 } else { 4 }, GgufFile::open(&before).unwrap().tensors.len())
            );
            assert_eq!(made.alpha, 8.0);
            for tensor in &GgufFile::open(&before).unwrap().tensors {
                assert_eq!(
                    values(&before, &tensor.name),
                    values(&after, &tensor.name),
                    "{}: {}",
                    arch.name,
                    tensor.name
                );
            }
        }
    }
}

#[test]
fn rows_of_queries_and_keys_are_in_the_order_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let base = tiny(folder.path(), 5);
    let before = adapter(folder.path(), &base, 2, 4.0, 0.2, false);
    to_peft(&before, &base, folder.path(), "a/b").unwrap();
    let bytes = std::fs::read(folder.path().join(VALUES_FILE)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (config, rank) = (config(&base), 2);
    for (module, name, heads) in
        [("q_proj", "attn_q", config.heads), ("k_proj", "attn_k", config.kv_heads), ("v_proj", "attn_v", 0)]
    {
        let theirs =
            tensors.tensor(&format!("base_model.model.model.layers.1.self_attn.{module}.lora_B.weight")).unwrap();
        let theirs: Vec<f32> =
            theirs.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let ours = values(&before, &format!("blk.1.{name}.weight.lora_b"));
        for row in 0..ours.len() / rank {
            // `reshape(heads, 2, half).swapaxes(1, 2)` of llama.cpp's converter, backwards.
            let (head, at, half) = (row / config.head_dim, row % config.head_dim, config.head_dim / 2);
            let there = if heads > 0 { head * config.head_dim + at % 2 * half + at / 2 } else { row };
            assert_eq!(ours[row * rank..][..rank], theirs[there * rank..][..rank], "{module} row {row}");
        }
    }
    let config: Value = serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG_FILE)).unwrap()).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"], &config["peft_type"]), (&json!(2), &json!(4), &json!("LORA")));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 7);
    assert_eq!(config["base_model_name_or_path"], "a/b");
}

/// A folder with adapters of `modules` in layer 0 and these settings; every A and B of ones.
fn folder_with(modules: &[(&str, usize, usize, usize)], settings: Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut all = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": false});
    for (key, value) in settings.as_object().unwrap() {
        all[key] = value.clone();
    }
    std::fs::write(folder.path().join(CONFIG_FILE), all.to_string()).unwrap();
    let mut tensors = Vec::new();
    for &(module, input, output, rank) in modules {
        let ones = |count: usize| 1.0f32.to_le_bytes().repeat(count);
        tensors.push((format!("base_model.model.{module}.lora_A.weight"), vec![rank, input], ones(rank * input)));
        tensors.push((format!("base_model.model.{module}.lora_B.weight"), vec![output, rank], ones(output * rank)));
    }
    save(folder.path(), &tensors);
    folder
}

fn save(folder: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, &folder.join(VALUES_FILE)).unwrap();
}

const Q: (&str, usize, usize, usize) = ("model.layers.0.self_attn.q_proj", 64, 64, 4);
const DOWN: (&str, usize, usize, usize) = ("model.layers.0.mlp.down_proj", 96, 64, 16);

#[test]
fn scales_are_what_peft_multiplies_by() {
    let home = tempfile::tempdir().unwrap();
    let base = tiny(home.path(), 5);
    let target = home.path().join("made.gguf");
    // alpha, alpha by module and the root; the scale of q (rank 4) and of down (rank 16).
    for (settings, q, down) in [
        (json!({}), 2.0, 0.5),
        (json!({"use_rslora": true}), 4.0, 2.0),
        (json!({"alpha_pattern": {"down_proj": 32}}), 2.0, 2.0),
        (json!({"alpha_pattern": {"self_attn.q_proj": 2}, "use_rslora": true}), 1.0, 2.0),
        (json!({"lora_alpha": 0.5}), 0.125, 0.03125),
    ] {
        let folder = folder_with(&[Q, DOWN], settings.clone());
        let made = from_peft(folder.path(), &base, &target, &[]).unwrap();
        for (name, rank, wanted) in [("blk.0.attn_q", 4, q), ("blk.0.ffn_down", 16, down)] {
            let b = values(&target, &format!("{name}.weight.lora_b"))[0];
            let scale = made.alpha / rank as f32 * b;
            assert!((scale - wanted).abs() < 1e-6, "{settings}: {name} has {scale}, PEFT {wanted}");
        }
    }
}

#[test]
fn what_gguf_cannot_hold_is_refused_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    let base = tiny(home.path(), 5);
    let target = home.path().join("no.gguf");
    let refused = |folder: &Path| from_peft(folder, &base, &target, &[]).unwrap_err().to_string();
    for (settings, word) in [
        (json!({"use_dora": true}), "use_dora"),
        (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
        (json!({"bias": "all"}), "bias"),
        (json!({"lora_bias": true}), "lora_bias"),
        (json!({"peft_type": "IA3"}), "peft_type"),
        (json!({"lora_alpha": 0}), "lora_alpha"),
        (json!({"trainable_token_indices": [3]}), "trainable_token_indices"),
        (json!({"alpha_pattern": {"^model.*": 2}}), "alpha_pattern"),
    ] {
        let said = refused(folder_with(&[Q], settings).path());
        assert!(said.contains(word) && said.contains(CONFIG_FILE), "{word}: {said}");
    }
    for (module, word) in [
        (("model.layers.7.self_attn.q_proj", 64, 64, 4), "layers.7"),
        (("model.vision_tower.layers.0.self_attn.q_proj", 64, 64, 4), "vision_tower"),
        (("lm_head", 64, 99, 4), "lm_head"),
        (("model.layers.0.self_attn.q_proj", 32, 64, 4), "does not fit 64 x 64"),
        (("model.embed_tokens", 64, 160, 4), "embed_tokens"),
    ] {
        let said = refused(folder_with(&[module], json!({})).path());
        assert!(said.contains(word), "{word}: {said}");
    }
    let folder = folder_with(&[Q], json!({}));
    let alone =
        [("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".to_owned(), vec![4, 64], vec![0; 1024])];
    save(folder.path(), &alone);
    assert!(refused(folder.path()).contains("not both"));
    let magnitude =
        [("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector".to_owned(), vec![64], vec![0; 256])];
    save(folder.path(), &magnitude);
    assert!(refused(folder.path()).contains("lora_magnitude_vector"));
    std::fs::write(folder.path().join(VALUES_FILE), b"no such file").unwrap();
    assert!(refused(folder.path()).contains("safetensors"));
    std::fs::remove_file(folder.path().join(VALUES_FILE)).unwrap();
    std::fs::write(folder.path().join("adapter_model.bin"), b"pickle").unwrap();
    assert!(refused(folder.path()).contains("pickle"));
    assert!(!target.exists());
}
