//! New models: tokens that llama.cpp reads as the `tokenizers` crate does, weights as they are to be drawn, and a first loss of
//! about ln(vocabulary).

use std::path::{Path, PathBuf};

use hone_protocol::blueprint::{Blueprint, NewArchitecture, Size};

use super::{config, hidden, values};
use crate::convert::init::{Init, Tokens, init, tokenizer};
use crate::convert::merge::Store;
use crate::gguf::GgufFile;
use crate::inspect::{self, Facts};
use crate::train::tests::llama_cpp::logits;
use crate::train::tests::models::starter;
use crate::vocab::Vocab;

fn pages(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn make(folder: &Path, blueprint: &Blueprint, tokens: Tokens<'_>, store: Store, seed: u64) -> PathBuf {
    let target = folder.join(format!("{}-{store:?}-{seed}.gguf", blueprint.architecture.word()));
    let task = Init { blueprint, name: "new", source: "made from nothing", store, seed, folder, target: &target };
    init(&task, tokens, &mut hidden).unwrap();
    target
}

#[test]
fn learnt_tokens_mean_the_same_in_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let (english, chinese) = (pages("docs"), pages("docs/zh"));
    // Every second page is learnt from, all are read.
    let texts: Vec<String> = english.iter().chain(&chinese).step_by(2).cloned().collect();
    let learnt = tokenizer::learn(folder.path(), texts.into_iter(), 3_000).unwrap();
    assert_eq!(learnt, 3_000);
    let before = std::fs::read(folder.path().join("tokenizer.json")).unwrap();
    let blueprint = Size::named("tiny").unwrap().blueprint(NewArchitecture::Llama);
    let path = make(folder.path(), &blueprint, Tokens::Learnt(learnt), Store::F16, 1);
    let theirs = tokenizers::Tokenizer::from_bytes(&before).unwrap();
    let ours = Vocab::load(&path).unwrap();
    assert_eq!(ours.size(), 3_000);
    let odd =
        "  3 141,59\t\r\n\r\n naïve Ünïcode 'S’s I'LL 🦙👩‍🚀 \u{301}e\u{301} 你好，世界！１２３ ½ ไทย हिन्दी\u{0}end  ";
    let (mut tokens, mut bytes) = (0, 0);
    for text in english.iter().chain(&chinese).map(String::as_str).chain([odd]) {
        let wanted: Vec<i32> = theirs.encode(text, false).unwrap().get_ids().iter().map(|&id| id as i32).collect();
        // Some pages name tokens by their text, which both take for those tokens.
        assert_eq!(ours.tokenize(text, true).unwrap(), wanted, "{:?}", &text[..text.len().min(60)]);
        assert_eq!(ours.text(&wanted, true), text);
        (tokens, bytes) = (tokens + wanted.len(), bytes + text.len());
    }
    println!("{tokens} tokens of {bytes} bytes are the same");
    assert!(bytes > 100_000 && tokens * 2 < bytes);
    let named = ours.named();
    assert_eq!((named.eos, named.bos, ours.wants_bos()), (Some(0), Some(0), false));
    assert_eq!(ours.tokenize("<|im_start|>a<|im_end|>", true).unwrap()[0], 1);
    assert!(ours.is_end(0) && ours.is_end(2) && !ours.is_end(1));
    let Facts::Model(facts) = inspect::inspect(&path).unwrap() else { panic!("a model") };
    assert!(facts.chat_template.is_some() && facts.untrainable.is_none(), "{:?}", facts.untrainable);
    assert_eq!(facts.parameters, blueprint.parameters(3_000));

    let texts: Vec<String> = english.iter().chain(&chinese).step_by(2).cloned().collect();
    tokenizer::learn(folder.path(), texts.into_iter(), 3_000).unwrap();
    assert_eq!(std::fs::read(folder.path().join("tokenizer.json")).unwrap(), before, "the same texts, the same tokens");
}

#[test]
fn weights_are_drawn_as_is_usual_and_by_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let blueprint = Size::named("tiny").unwrap().blueprint(NewArchitecture::Llama);
    let source = starter();
    let path = make(folder.path(), &blueprint, Tokens::Of(&source), Store::F32, 7);
    let other = make(folder.path(), &blueprint, Tokens::Of(&source), Store::F32, 8);
    let spread = |name: &str| {
        let values = values(&path, name);
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        assert!(mean.abs() < 0.1 * 0.02, "{name}: {mean}");
        (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count).sqrt()
    };
    let inner = 0.02 / (2.0 * 4.0f64).sqrt();
    for (name, wanted) in [
        ("token_embd.weight", 0.02),
        ("blk.0.attn_q.weight", 0.02),
        ("blk.3.ffn_up.weight", 0.02),
        ("blk.1.attn_output.weight", inner),
        ("blk.2.ffn_down.weight", inner),
    ] {
        let found = spread(name);
        assert!((found / wanted - 1.0).abs() < 0.03, "{name}: {found}, not {wanted}");
    }
    assert!(values(&path, "blk.0.attn_norm.weight").iter().all(|&value| value == 1.0));
    assert_ne!(values(&path, "blk.0.attn_q.weight"), values(&other, "blk.0.attn_q.weight"));
    let again = tempfile::tempdir().unwrap();
    let twin = make(again.path(), &blueprint, Tokens::Of(&source), Store::F32, 7);
    assert_eq!(std::fs::read(twin).unwrap(), std::fs::read(&path).unwrap(), "the same seed, the same file");

    // Tokens and template are the starter's, to the byte.
    let (from, made) = (GgufFile::open(&source).unwrap(), GgufFile::open(&path).unwrap());
    for (key, value) in from.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        assert_eq!(made.get(key), Some(value), "{key}");
    }
}

#[test]
fn a_new_model_knows_nothing_in_each_family_and_format() {
    let folder = tempfile::tempdir().unwrap();
    let source = starter();
    let vocabulary = Vocab::load(&source).unwrap().size();
    let tokens: Vec<i32> = (0..48).map(|at| 1_000 + at * 977 % 40_000).collect();
    for architecture in [NewArchitecture::Llama, NewArchitecture::Qwen3] {
        let blueprint = Size::named("tiny").unwrap().blueprint(architecture);
        for store in [Store::F32, Store::F16, Store::Bf16] {
            let path = make(folder.path(), &blueprint, Tokens::Of(&source), store, 3);
            assert_eq!(config(&path).layers, 4);
            let mut loss = 0.0;
            for (logits, &next) in logits(&path, None, &tokens).iter().zip(&tokens[1..]) {
                let most = logits.iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
                loss += f64::from(most) + sum.ln() - f64::from(logits[next as usize]);
            }
            let (loss, chance) = (loss / (tokens.len() - 1) as f64, (vocabulary as f64).ln());
            println!("{} {store:?}: {loss:.3} beside ln(vocabulary) {chance:.3}", architecture.word());
            assert!((loss - chance).abs() < 0.15, "{loss} {chance}");
        }
    }
}
