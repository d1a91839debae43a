//! The sizes and numbers of a model as `config.json` and `generation_config.json` have them. Never here: tokens and tensors.

use serde_json::{Value as Json, json};

use super::{Source, refused};
use crate::arch::{Config, Matrix};
use crate::from_folder::{FolderError, llama3_divisors};

/// Divisors of rotary frequencies may differ by so much from what the configuration gives, relative to them.
const DIVISORS_APART_MAX: f32 = 1e-4;
/// Llama 3's other numbers, which all its models share.
const LLAMA3: [(&str, f64); 3] =
    [("low_freq_factor", 1.0), ("high_freq_factor", 4.0), ("original_max_position_embeddings", 8192.0)];

/// `config.json`, with weights of that type.
pub(super) fn config(source: &Source<'_>, dtype: &str) -> Result<Json, FolderError> {
    let (of, name) = (source.config, source.arch.name);
    let (class, model_type) = match name {
        "llama" => ("LlamaForCausalLM", "llama"),
        "qwen2" => ("Qwen2ForCausalLM", "qwen2"),
        "qwen3" => ("Qwen3ForCausalLM", "qwen3"),
        "gemma2" => ("Gemma2ForCausalLM", "gemma2"),
        "gemma3" => ("Gemma3ForCausalLM", "gemma3_text"),
        "phi3" => ("Phi3ForCausalLM", "phi3"),
        "ernie4_5" => ("Ernie4_5ForCausalLM", "ernie4_5"),
        other => return refused("general.architecture", format!("{other} has no folder that is known here")),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "torch_dtype": dtype,
        "vocab_size": of.vocab,
        "hidden_size": of.width,
        "intermediate_size": of.feed_forward,
        "num_hidden_layers": of.layers,
        "num_attention_heads": of.heads,
        "num_key_value_heads": of.kv_heads,
        "head_dim": of.head_dim,
        "max_position_embeddings": of.context_tokens,
        "rms_norm_eps": number(of.norm_eps),
        "tie_word_embeddings": of.tied_head,
        "attention_dropout": 0.0,
        "use_cache": true,
    });
    let mut set = |key: &str, value: Json| config[key] = value;
    for (key, value) in rotary(source)? {
        set(key, value);
    }
    for (key, value) in family(name, of)? {
        set(key, value);
    }
    for (key, id) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
        let id = source.file.u32(&format!("tokenizer.ggml.{id}_token_id")).ok();
        set(&format!("{key}_token_id"), json!(id));
    }
    Ok(config)
}

/// As short as the 32-bit number is, not as long as its 64-bit neighbour.
fn number(value: f32) -> Json {
    value.to_string().parse::<f64>().map_or(json!(value), |short| json!(short))
}

fn rotary(source: &Source<'_>) -> Result<Vec<(&'static str, Json)>, FolderError> {
    let of = source.config;
    let mut keys = vec![("rope_theta", number(of.rope_base))];
    let mut parameters = json!({"rope_type": "default", "rope_theta": number(of.rope_base)});
    if of.rope_factors {
        parameters = llama3(source)?;
    } else if of.rope_scale != 1.0 {
        parameters =
            json!({"rope_type": "linear", "factor": number(1.0 / of.rope_scale), "rope_theta": number(of.rope_base)});
    }
    if of.rope_dims != of.head_dim {
        let share = of.rope_dims as f64 / of.head_dim as f64;
        if source.arch.name != "phi3" {
            return refused(
                "rope.dimension_count",
                format!("{} of {} values per head are rotated", of.rope_dims, of.head_dim),
            );
        }
        keys.push(("partial_rotary_factor", json!(share)));
        parameters["partial_rotary_factor"] = json!(share);
    }
    match &of.local {
        Some(local) if source.arch.name == "gemma3" => {
            if local.rope_scale != 1.0 {
                return refused("rope.scaling", "local layers scale their positions, which the folder cannot say");
            }
            let own = json!({"rope_type": "default", "rope_theta": number(local.rope_base)});
            keys.push(("rope_local_base_freq", number(local.rope_base)));
            keys.push(("rope_parameters", json!({"full_attention": parameters, "sliding_attention": own})));
        }
        _ => keys.push(("rope_parameters", parameters)),
    }
    Ok(keys)
}

/// The file has the divisors, the folder the rule that they follow: it is found again, or refused.
fn llama3(source: &Source<'_>) -> Result<Json, FolderError> {
    let (of, file) = (source.config, source.file);
    let info = file.require_tensor("rope_freqs.weight")?;
    let fail = |error| FolderError::Io { path: file.path.clone(), source: error };
    let data = std::fs::File::open(&file.path).map_err(fail)?;
    let mut bytes = vec![0; info.size_bytes as usize];
    std::os::unix::fs::FileExt::read_exact_at(&data, &mut bytes, info.offset_bytes).map_err(fail)?;
    let mut there = vec![0.0f32; info.elements() as usize];
    crate::ggml::decode(info.type_id, &bytes, &mut there);
    let factor = there.iter().copied().fold(1.0, f32::max);
    let mut rule = json!({"rope_type": "llama3", "factor": number(factor), "rope_theta": number(of.rope_base)});
    // A small model may have been made for another length; the lengths are powers of two.
    for length in [LLAMA3[2].1, 16_384.0, 4096.0, 2048.0, 1024.0, 512.0, 256.0, 128.0, 64.0] {
        for (key, value) in LLAMA3 {
            rule[key] = json!(value);
        }
        rule["original_max_position_embeddings"] = json!(length as u64);
        let wanted = llama3_divisors(&rule, f64::from(of.rope_base), of.head_dim)?;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= DIVISORS_APART_MAX * b.abs();
        if wanted.len() == there.len() && there.iter().zip(&wanted).all(near) {
            return Ok(rule);
        }
    }
    refused("tensor \"rope_freqs.weight\"", "follows no rule that a folder could say")
}

/// What one family has and the others do not.
fn family(name: &str, of: &Config) -> Result<Vec<(&'static str, Json)>, FolderError> {
    let has = |wanted: &[Matrix]| wanted.iter().all(|matrix| of.biases.contains(matrix));
    let none = |wanted: &[Matrix]| !wanted.iter().any(|matrix| of.biases.contains(matrix));
    let (attention, feed_forward) =
        ([Matrix::Q, Matrix::K, Matrix::V, Matrix::O], [Matrix::Gate, Matrix::Up, Matrix::Down]);
    let bias = |wanted: &[Matrix], what: &str| match () {
        () if has(wanted) => Ok(true),
        () if none(wanted) => Ok(false),
        () => refused(
            format!("biases of {what}"),
            "some matrices have one and some have not, which the folder cannot say",
        ),
    };
    let silu = ("hidden_act", json!("silu"));
    Ok(match name {
        "llama" => vec![
            silu,
            ("attention_bias", json!(bias(&attention, "attention")?)),
            ("mlp_bias", json!(bias(&feed_forward, "the feed-forward block")?)),
        ],
        "qwen2" if !has(&attention[..3]) => {
            return refused("biases of attention", "queries, keys and values have none");
        }
        "qwen2" => vec![silu, ("use_sliding_window", json!(false))],
        "qwen3" => vec![silu, ("attention_bias", json!(false)), ("use_sliding_window", json!(false))],
        "phi3" => {
            vec![silu, ("sliding_window", Json::Null), ("original_max_position_embeddings", json!(of.context_tokens))]
        }
        "ernie4_5" => vec![silu, ("use_bias", json!(false))],
        _ => gemma(name, of),
    })
}

fn gemma(name: &str, of: &Config) -> Vec<(&'static str, Json)> {
    let cap = |value: f32| if value == 0.0 { Json::Null } else { number(value) };
    let gelu = json!("gelu_pytorch_tanh");
    // A whole number, and transformers insists on that.
    let scalar = json!((1.0 / (of.score_scale * of.score_scale)).round() as u64);
    let mut keys = vec![
        ("hidden_act", gelu.clone()),
        ("hidden_activation", gelu),
        ("attention_bias", json!(false)),
        ("query_pre_attn_scalar", scalar),
        ("attn_logit_softcapping", cap(of.score_cap)),
        ("final_logit_softcapping", cap(of.logit_cap)),
    ];
    if let Some(local) = &of.local {
        let kind = |local: &bool| if *local { "sliding_attention" } else { "full_attention" };
        keys.push(("sliding_window", json!(local.keys)));
        keys.push(("layer_types", json!(local.layers.iter().map(kind).collect::<Vec<_>>())));
        if name == "gemma3" {
            keys.push(("sliding_window_pattern", json!(6)));
        }
    }
    keys
}
