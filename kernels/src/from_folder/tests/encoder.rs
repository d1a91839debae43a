//! An encoder's folder: its vocabulary as llama.cpp reads it, its metadata, and what its neighbours' files may say.

use serde_json::json;

use super::*;

/// A bert of one layer and 16 tokens.
fn bert() -> Folder {
    let config = json!({
        "architectures": ["BertModel"], "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "max_position_embeddings": 64, "layer_norm_eps": 1e-12, "vocab_size": 16,
        "hidden_act": "gelu", "type_vocab_size": 2, "position_embedding_type": "absolute", "pad_token_id": 0,
    });
    let words =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "cafe", "!", "你", "the", "##s"];
    let vocab: serde_json::Map<String, Json> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let special = |id: usize| json!({"id": id, "content": words[id], "special": true});
    let part = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let tokenizer = json!({
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [part("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, part("[SEP]")]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocab},
    });
    let tokenizer_config = json!({
        "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]",
    });
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![16, WIDTH]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, WIDTH]),
        ("embeddings.position_embeddings.weight".into(), vec![64, WIDTH]),
        ("pooler.dense.weight".into(), vec![WIDTH, WIDTH]),
    ];
    let mut both = |name: &str, shape: &[usize]| {
        tensors.push((format!("{name}.weight"), shape.to_vec()));
        tensors.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    both("embeddings.LayerNorm", &[WIDTH]);
    for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
        both(&format!("encoder.layer.0.{name}"), &[WIDTH, WIDTH]);
    }
    both("encoder.layer.0.attention.output.LayerNorm", &[WIDTH]);
    both("encoder.layer.0.intermediate.dense", &[64, WIDTH]);
    both("encoder.layer.0.output.dense", &[WIDTH, 64]);
    both("encoder.layer.0.output.LayerNorm", &[WIDTH]);
    let place = tempfile::tempdir().unwrap();
    Folder { place, config, tokenizer, tokenizer_config, tensors, dtype: "F32", value: counting }
}

impl Folder {
    fn beside(&self, name: &str, text: &str) {
        let path = self.place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn an_encoder_is_what_llama_cpp_reads() {
    let folder = bert();
    folder.beside("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A card\n");
    folder.beside(
        "modules.json",
        r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}]"#,
    );
    folder.beside("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#);
    let file = folder.converted(Stored::F16).unwrap();
    for (key, value) in [
        ("bert.pooling_type", Value::U32(2)),
        ("bert.attention.causal", Value::Bool(false)),
        ("bert.attention.layer_norm_epsilon", Value::F32(1e-12)),
        ("bert.context_length", Value::U32(64)),
        ("tokenizer.ggml.token_type_count", Value::U32(2)),
        ("tokenizer.ggml.cls_token_id", Value::U32(2)),
        ("tokenizer.ggml.seperator_token_id", Value::U32(3)),
        ("tokenizer.ggml.mask_token_id", Value::U32(4)),
        ("tokenizer.ggml.unknown_token_id", Value::U32(1)),
        ("tokenizer.ggml.model", Value::Str("bert".into())),
    ] {
        assert_eq!(file.get(key), Some(&value), "{key}");
    }
    let tokens = file.strings("tokenizer.ggml.tokens").unwrap();
    // Beginnings of words are marked, and what goes on is not.
    assert_eq!(tokens[2..8], ["[CLS]", "[SEP]", "[MASK]", "▁un", "aff", "able"]);
    assert!(file.tensor("pooler.dense.weight").is_none(), "the pooler is no part of embeddings");
    assert_eq!(file.tensor("blk.0.attn_q.weight").unwrap().type_name, "F16");
    assert_eq!(file.tensor("position_embd.weight").unwrap().type_name, "F32");
    let inspect::Facts::Model(facts) = inspect::facts(&file).unwrap() else { panic!("a model") };
    assert_eq!((facts.is_encoder, facts.pooling), (true, Some(inspect::Pooling::First)));
    assert!(facts.untrainable.unwrap().contains("\"bert\" cannot be trained"));
    let vocab = Vocab::load(&folder.target()).unwrap();
    let ids = |text: &str| vocab.tokenize(text, false).unwrap();
    assert_eq!(ids("UNAFFABLE Cafés, café!"), [5, 6, 7, 8, 12, 1, 8, 9]);
    assert_eq!(ids("the你好"), [11, 10, 1]);
    // A person's words are never control tokens.
    assert!(ids("[SEP]").iter().all(|id| ![2, 3, 4].contains(id)));
    assert_eq!(vocab.around(), (Some(2), Some(3)));
}

#[test]
fn what_changes_the_vectors_and_has_no_place_is_refused() {
    let said = |name: &str, text: &str| {
        let folder = bert();
        folder.beside(name, text);
        folder.refusal()
    };
    let pooling = "1_Pooling/config.json";
    for (name, text, word) in [
        ("modules.json", r#"[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]"#, "models.Dense"),
        (pooling, r#"{"pooling_mode_max_tokens": true}"#, "pooling_mode_max_tokens"),
        (pooling, r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#, "joins several"),
        (pooling, "{}", "names no way"),
    ] {
        let sentence = said(name, text);
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
    type Change = fn(&mut Folder);
    let cases: &[(&str, Change)] = &[
        ("relative_key", |f| f.config["position_embedding_type"] = json!("relative_key")),
        ("gelu_new", |f| f.config["hidden_act"] = json!("gelu_new")),
        ("normalizer", |f| f.tokenizer["normalizer"]["lowercase"] = json!(false)),
        ("BertPreTokenizer", |f| f.tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"})),
        ("encoder.layer.0.extra.weight", |f| f.tensors.push(("encoder.layer.0.extra.weight".into(), vec![4]))),
        ("position_embeddings", |f| f.tensors.retain(|(name, _)| !name.contains("position"))),
    ];
    for (word, change) in cases {
        let mut folder = bert();
        change(&mut folder);
        let sentence = folder.refusal();
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
}
