//! A small folder, made here, and what becomes of it: values in their places, the vocabulary, what is around it, and
//! everything that is refused. Whole models against transformers are `tests/prove/convert.py`'s work.

mod encoder;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::*;
use crate::gguf::{Array, TYPE_F32};
use crate::vocab::Vocab;

const WIDTH: usize = 32;
const HEAD: usize = 8;
const VOCAB: usize = 300;
const TEMPLATE: &str = "{% for m in messages %}{{ m.content }}{% endfor %}\n";

/// A folder that tests change before it is converted.
struct Folder {
    place: tempfile::TempDir,
    config: Json,
    tokenizer: Json,
    tokenizer_config: Json,
    tensors: Vec<(String, Vec<usize>)>,
    dtype: &'static str,
    /// What every tensor's value at an index is.
    value: fn(&str, usize) -> f32,
}

fn counting(name: &str, index: usize) -> f32 {
    let seed = name.bytes().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    ((seed.wrapping_add(index * 37) % 64) as f32 - 32.0) / 32.0
}

impl Folder {
    fn llama() -> Folder {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "vocab_size": VOCAB, "hidden_act": "silu", "tie_word_embeddings": true,
            "bos_token_id": 0, "eos_token_id": [1, 2],
        });
        let layer = |name: &str, shape: &[usize]| (format!("model.layers.0.{name}.weight"), shape.to_vec());
        let tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![VOCAB, WIDTH]),
            ("model.norm.weight".to_owned(), vec![WIDTH]),
            layer("input_layernorm", &[WIDTH]),
            layer("post_attention_layernorm", &[WIDTH]),
            layer("self_attn.q_proj", &[WIDTH, WIDTH]),
            layer("self_attn.k_proj", &[2 * HEAD, WIDTH]),
            layer("self_attn.v_proj", &[2 * HEAD, WIDTH]),
            layer("self_attn.o_proj", &[WIDTH, WIDTH]),
            layer("mlp.gate_proj", &[64, WIDTH]),
            layer("mlp.up_proj", &[64, WIDTH]),
            layer("mlp.down_proj", &[WIDTH, 64]),
        ];
        let place = tempfile::tempdir().unwrap();
        let tokenizer_config =
            json!({"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}, "chat_template": TEMPLATE});
        Folder { place, config, tokenizer: byte_level(), tokenizer_config, tensors, dtype: "F32", value: counting }
    }

    fn write(&self) {
        let write = |name: &str, json: &Json| fs::write(self.place.path().join(name), json.to_string()).unwrap();
        write("config.json", &self.config);
        write("tokenizer.json", &self.tokenizer);
        write("tokenizer_config.json", &self.tokenizer_config);
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape) in &self.tensors {
            let from = data.len();
            for index in 0..shape.iter().product() {
                let value = (self.value)(name, index);
                match self.dtype {
                    "BF16" => data.extend(((value.to_bits() >> 16) as u16).to_le_bytes()),
                    _ => data.extend(value.to_le_bytes()),
                }
            }
            header
                .insert(name.clone(), json!({"dtype": self.dtype, "shape": shape, "data_offsets": [from, data.len()]}));
        }
        let header = Json::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(data);
        fs::write(self.place.path().join("model.safetensors"), file).unwrap();
    }

    fn target(&self) -> PathBuf {
        self.place.path().join("out.gguf")
    }

    fn converted(&self, stored: Stored) -> Result<GgufFile, FolderError> {
        self.write();
        self.convert(stored)
    }

    fn convert(&self, stored: Stored) -> Result<GgufFile, FolderError> {
        let target = self.target();
        let task = Conversion {
            folder: self.place.path(),
            target: &target,
            stored,
            name: "tiny",
            licence: "apache-2.0",
            source: "test",
        };
        let mut heard = (0, 0);
        convert(&task, &mut |done, total| heard = (done, total))?;
        assert_eq!(heard.0, heard.1, "the progress ends at its end");
        Ok(GgufFile::open(&target)?)
    }

    /// The sentence of a refusal; nothing may be left of the file.
    fn refusal(&self) -> String {
        self.write();
        self.refusal_as_written()
    }

    fn refusal_as_written(&self) -> String {
        let sentence = self.convert(Stored::AsStored).expect_err("this is refused").to_string();
        let left = fs::read_dir(self.place.path())
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().contains("gguf"));
        assert_eq!(left.count(), 0, "{sentence}");
        sentence
    }
}

/// 256 bytes, two merges, two control tokens and one of a person's.
fn byte_level() -> Json {
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut others = 256..;
    let mut vocab = serde_json::Map::new();
    for byte in 0..256u32 {
        let letter = if printable(byte) { byte } else { others.next().unwrap() };
        vocab.insert(char::from_u32(letter).unwrap().to_string(), json!(byte + 3));
    }
    vocab.insert("he".into(), json!(259));
    vocab.insert("hel".into(), json!(260));
    let added = |id: u32, content: &str, special: bool| json!({"id": id, "content": content, "special": special});
    json!({
        "added_tokens": [added(0, "<|begin|>", true), added(1, "<|end|>", true), added(2, "<|turn|>", false), added(261, "hone▁", false)],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["h", "e"], ["he", "l"]]},
    })
}

fn values(file: &GgufFile, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    let bytes = fs::read(&file.path).unwrap();
    let data = &bytes[tensor.offset_bytes as usize..][..tensor.size_bytes as usize];
    let mut values = vec![0.0; tensor.elements() as usize];
    crate::ggml::decode(tensor.type_id as crate::ggml::Type, data, &mut values);
    values
}

#[test]
fn values_come_to_their_places() {
    let folder = Folder::llama();
    let file = folder.converted(Stored::AsStored).unwrap();
    assert_eq!(file.tensors.len(), folder.tensors.len());
    let at = |name: &str, row: usize, column: usize| counting(name, row * WIDTH + column);
    let value = values(&file, "blk.0.attn_v.weight");
    assert_eq!(value[5 * WIDTH + 3], at("model.layers.0.self_attn.v_proj.weight", 5, 3));
    // Row 2i + 1 of a head comes from its second half.
    let query = values(&file, "blk.0.attn_q.weight");
    let source = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(query[(HEAD + 3) * WIDTH + 9], at(source, HEAD + HEAD / 2 + 1, 9));
    assert_eq!(query[(HEAD + 4) * WIDTH + 9], at(source, HEAD + 2, 9));
    assert_eq!(file.u32("llama.attention.head_count_kv").unwrap(), 2);
    assert_eq!(file.str("general.license").unwrap(), "apache-2.0");
}

#[test]
fn every_way_to_store_keeps_what_it_can() {
    let exact = values(&Folder::llama().converted(Stored::F32).unwrap(), "blk.0.ffn_up.weight");
    for (stored, kind, most) in [(Stored::F16, "F16", 0.0), (Stored::Bf16, "BF16", 0.0), (Stored::Q8_0, "Q8_0", 0.01)] {
        let folder = Folder { dtype: "BF16", ..Folder::llama() };
        let file = folder.converted(stored).unwrap();
        assert_eq!(file.tensor("blk.0.ffn_up.weight").unwrap().type_name, kind);
        assert_eq!(file.tensor("blk.0.attn_norm.weight").unwrap().type_id, TYPE_F32);
        let found = values(&file, "blk.0.ffn_up.weight");
        let gap = found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap <= most, "{kind}: {gap}");
    }
    let large = Folder { value: |name, index| counting(name, index) * 1e6, ..Folder::llama() };
    large.write();
    let sentence = large.convert(Stored::F16).unwrap_err().to_string();
    assert!(sentence.contains("choose bf16") && !large.target().exists(), "{sentence}");
}

#[test]
fn gemma_norms_get_the_one_that_is_added() {
    let mut folder = Folder::llama();
    folder.config["architectures"] = json!(["Gemma2ForCausalLM"]);
    for (key, value) in
        [("head_dim", json!(HEAD)), ("sliding_window", json!(64)), ("final_logit_softcapping", json!(30.0))]
    {
        folder.config[key] = value;
    }
    for name in ["pre_feedforward_layernorm", "post_feedforward_layernorm"] {
        folder.tensors.push((format!("model.layers.0.{name}.weight"), vec![WIDTH]));
    }
    let file = folder.converted(Stored::AsStored).unwrap();
    let norm = values(&file, "blk.0.post_attention_norm.weight");
    assert_eq!(norm[4], 1.0 + counting("model.layers.0.post_attention_layernorm.weight", 4));
    assert_eq!(values(&file, "blk.0.attn_q.weight")[WIDTH], counting("model.layers.0.self_attn.q_proj.weight", WIDTH));
    folder.config["query_pre_attn_scalar"] = json!(17);
    folder.write();
    assert!(folder.convert(Stored::AsStored).unwrap_err().to_string().contains("query_pre_attn_scalar"));
}

#[test]
fn the_vocabulary_is_that_of_the_folder() {
    let folder = Folder::llama();
    let file = folder.converted(Stored::AsStored).unwrap();
    assert_eq!(file.str("tokenizer.ggml.pre").unwrap(), "gpt-2");
    assert_eq!(file.str("tokenizer.chat_template").unwrap(), TEMPLATE);
    let tokens = file.strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), tokens[261].as_str(), tokens[299].as_str()), (VOCAB, "hone ", "[PAD299]"));
    let kinds = file.i32s("tokenizer.ggml.token_type").unwrap();
    // The turn's end is not marked in the folder; its look says it.
    assert_eq!([kinds[0], kinds[2], kinds[3], kinds[261], kinds[299]], [3, 3, 1, 4, 5]);
    assert_eq!(file.get("tokenizer.ggml.bos_token_id"), Some(&Value::U32(0)));
    assert_eq!(file.get("tokenizer.ggml.eos_token_id"), Some(&Value::U32(1)));
    // config.json ends answers at two tokens.
    assert_eq!(file.get("tokenizer.ggml.eot_token_id"), Some(&Value::U32(2)));
    assert_eq!(file.get("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(true)));
    assert_eq!(file.get("tokenizer.ggml.add_eos_token"), Some(&Value::Bool(false)));
    assert!(matches!(file.get("tokenizer.ggml.merges"), Some(Value::Array(Array::Str(m))) if m == &["h e", "he l"]));
    let vocab = Vocab::load(&folder.target()).unwrap();
    let byte = |b: u8| i32::from(b) + 3;
    let expected = [260, byte(b'l'), byte(b'o'), byte(b' '), byte(0xE4), byte(0xBD), byte(0xA0)];
    assert_eq!(vocab.tokenize("hello 你", false).unwrap(), expected);
    assert_eq!(vocab.tokenize("<|end|>", true).unwrap(), [1]);
}

#[test]
fn a_template_of_its_own_counts_byte_for_byte() {
    let folder = Folder::llama();
    folder.write();
    let own = "{{ messages }}  \r\n\n";
    fs::write(folder.place.path().join("chat_template.jinja"), own).unwrap();
    assert_eq!(folder.convert(Stored::AsStored).unwrap().str("tokenizer.chat_template").unwrap(), own);
}

#[test]
fn every_token_at_which_an_answer_ends_is_carried_over() {
    let folder = Folder::llama();
    folder.write();
    let ends = |list: Json| {
        fs::write(folder.place.path().join("generation_config.json"), json!({"eos_token_id": list}).to_string())
            .unwrap();
        folder.convert(Stored::AsStored)
    };
    let file = ends(json!([2, 1, 261])).unwrap();
    assert_eq!(file.get("tokenizer.ggml.eos_token_id"), Some(&Value::U32(1)));
    assert_eq!(file.get("tokenizer.ggml.eot_token_id"), Some(&Value::U32(2)));
    assert_eq!(file.get("tokenizer.ggml.eom_token_id"), Some(&Value::U32(261)));
    assert_eq!(ends(json!(1)).unwrap().get("tokenizer.ggml.eot_token_id"), None);
    assert!(ends(json!([2, 1, 261, 0])).unwrap_err().to_string().contains("token 0 ends answers too"));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    type Change = fn(&mut Folder);
    let cases: &[(&str, Change)] = &[
        ("MambaForCausalLM", |f| f.config["architectures"] = json!(["MambaForCausalLM"])),
        ("awq", |f| f.config["quantization_config"] = json!({"quant_method": "awq"})),
        ("vision_config", |f| f.config["vision_config"] = json!({})),
        ("num_local_experts", |f| f.config["num_local_experts"] = json!(8)),
        ("yarn", |f| f.config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0})),
        ("relu", |f| f.config["hidden_act"] = json!("relu")),
        ("hidden_size", |f| f.config["hidden_size"] = json!(null)),
        ("num_hidden_layers", |f| f.config["num_hidden_layers"] = json!(-1)),
        ("model.layers.0.extra.weight", |f| f.tensors.push(("model.layers.0.extra.weight".into(), vec![4]))),
        ("up_proj", |f| f.tensors.retain(|(name, _)| !name.contains("up_proj"))),
        ("blk.0.attn_q.weight", |f| f.tensors[4].1 = vec![WIDTH, WIDTH - 1]),
        ("300 rows", |f| f.tokenizer["added_tokens"][3]["id"] = json!(300)),
        ("Whitespace", |f| f.tokenizer["pre_tokenizer"] = json!({"type": "Whitespace"})),
        ("Lowercase", |f| f.tokenizer["normalizer"] = json!({"type": "Lowercase"})),
        ("Unigram", |f| f.tokenizer["model"] = json!({"type": "Unigram", "vocab": []})),
        ("post_processor", |f| f.tokenizer["post_processor"] = json!({"type": "Whatever"})),
        ("eos_token", |f| f.tokenizer_config["eos_token"] = json!("<|nothing|>")),
        ("chat_template", |f| f.tokenizer_config["chat_template"] = json!(7)),
    ];
    for (word, change) in cases {
        let mut folder = Folder::llama();
        change(&mut folder);
        let sentence = folder.refusal();
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
}

#[test]
fn damaged_safetensors_are_refused() {
    let folder = Folder::llama();
    let path = folder.place.path().join("model.safetensors");
    folder.write();
    let whole = fs::read(&path).unwrap();
    for keep in [0, 7, 8, 100, whole.len() - 1] {
        fs::write(&path, &whole[..keep]).unwrap();
        folder.refusal_as_written();
    }
    let text = String::from_utf8_lossy(&whole[8..]).into_owned();
    let header = &text[..text.find("}}").unwrap() + 2];
    for (from, to) in [
        ("\"F32\"", "\"F8_E4M3\""),
        ("\"shape\":[300,32]", "\"shape\":[300,18446744073709551615]"),
        ("data_offsets", "data_off"),
    ] {
        let broken = header.replacen(from, to, 1);
        assert_ne!(broken, header);
        let mut bytes = (broken.len() as u64).to_le_bytes().to_vec();
        bytes.extend(broken.as_bytes());
        bytes.extend(&whole[8 + header.len()..]);
        fs::write(&path, bytes).unwrap();
        let sentence = folder.refusal_as_written();
        assert!(sentence.contains("model.embed_tokens.weight"), "{sentence}");
    }
    let wrong = Folder { value: |_, index| if index == 3 { f32::NAN } else { 0.0 }, dtype: "BF16", ..Folder::llama() };
    wrong.write();
    assert!(wrong.convert(Stored::F32).unwrap_err().to_string().contains("damaged"));
    fs::remove_file(&path).unwrap();
    assert!(folder.refusal_as_written().contains("no model*.safetensors"));
}
