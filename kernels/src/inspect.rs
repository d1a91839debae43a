//! What a GGUF file is, read from its header alone, before ggml sees the file: facts for the model
//! list, reasons why it cannot be used, and how much memory it will need.
//!
//! What never lives here: loading of weights, tokenisation.

mod encoder;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::arch;
use crate::gguf::{Array, GgufError, GgufFile, Value};

pub use encoder::Pooling;

/// Most layers that llama.cpp has room for; a file that announces more is refused.
pub const LAYERS_MAX: u64 = 512;
/// Most tokens of a vocabulary; a file with more is refused.
pub const VOCAB_MAX: usize = 4 * 1024 * 1024;
/// Longest spelling of one token in bytes; a file with a longer one is refused.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Key in an adapter for the SHA-256 of the chat template it was trained with.
pub const TEMPLATE_KEY: &str = "hone.template.sha256";
/// Key in an adapter for the SHA-256 of the base file it was trained on.
pub const BASE_KEY: &str = "hone.base.sha256";
/// Key in a model for the SHA-256 of the file whose values its training began with.
pub const PARENT_KEY: &str = "hone.parent.sha256";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The header is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// One part of a model that was cut into several files.
    #[error(
        "{path}: part {number} of {count} of a split model\nhint: join the parts with llama-gguf-split --merge and import the result"
    )]
    Split {
        /// The file.
        path: String,
        /// This part, from 1.
        number: u64,
        /// All parts.
        count: u64,
    },
    /// Neither a model nor an adapter.
    #[error("{path}: general.type is {found:?}; only \"model\" and \"adapter\" files can be used")]
    Type {
        /// The file.
        path: String,
        /// Its type.
        found: String,
    },
    /// A number or list in the header breaks a rule.
    #[error("{path}: {key}: {rule}")]
    Rule {
        /// The file.
        path: String,
        /// Key or tensor.
        key: String,
        /// The rule and what was found.
        rule: String,
    },
}

/// How many bytes of the weights are in one storage type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeShare {
    /// ggml's name, for instance `Q4_1`.
    pub type_name: String,
    /// Tensors of this type.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What the file says about its tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerFacts {
    /// `tokenizer.ggml.model`: `gpt2`, `llama`, `bert` and so on.
    pub model: String,
    /// `tokenizer.ggml.pre`, empty when absent.
    pub pre: String,
    /// Tokens.
    pub size: usize,
    /// Token ids by purpose (`bos`, `eos`, `eot`, `padding` and so on), as far as the file has them.
    pub special: Vec<(String, i64)>,
    /// Whether a begin token belongs in front of every text; `None` when the file does not say.
    pub add_bos: Option<bool>,
}

/// What a model file is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFacts {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, empty when absent.
    pub name: String,
    /// `general.license`, empty when absent.
    pub license: String,
    /// Values in all tensors.
    pub parameters: u64,
    /// Transformer layers.
    pub layers: u64,
    /// Tokens that the model was trained to look back on.
    pub context_tokens: u64,
    /// Width of the residual stream.
    pub embedding_width: u64,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Storage types, the largest share first.
    pub types: Vec<TypeShare>,
    /// The type of the largest share, for one-word display.
    pub quantization: String,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Key and value bytes that one token takes in the cache at F16, all layers together.
    pub kv_bytes_per_token: u64,
    /// The tokenizer, if the file has one.
    pub tokenizer: Option<TokenizerFacts>,
    /// Source of the default chat template.
    pub chat_template: Option<String>,
    /// SHA-256 of its source.
    pub chat_template_sha256: Option<[u8; 32]>,
    /// `None` when this build can train the model, else why not.
    pub untrainable: Option<String>,
    /// Whether it makes embeddings and nothing else.
    pub is_encoder: bool,
    /// How vectors become one, where the file says so.
    pub pooling: Option<Pooling>,
}

/// What an adapter file is.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFacts {
    /// Architecture of the base it fits.
    pub architecture: String,
    /// `general.name`, empty when absent.
    pub name: String,
    /// `adapter.lora.alpha`.
    pub alpha: f32,
    /// Largest rank of its pairs.
    pub rank: u64,
    /// Pairs of matrices.
    pub pairs: usize,
    /// Values in all tensors.
    pub parameters: u64,
    /// `hone.template.sha256` as hexadecimal digits: the template it was trained with, if it says so.
    pub template_sha256: Option<String>,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
}

/// A file that can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Facts {
    /// A whole model.
    Model(Box<ModelFacts>),
    /// A LoRA adapter.
    Adapter(AdapterFacts),
}

/// Bytes that serving a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights: mapped from the file, shared between contexts.
    pub weights_bytes: u64,
    /// Keys and values of all slots of one context.
    pub kv_bytes: u64,
    /// Buffers for computing one batch, logits included.
    pub compute_bytes: u64,
}

impl MemoryEstimate {
    /// All together, for one context.
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes.saturating_add(self.kv_bytes).saturating_add(self.compute_bytes)
    }
}

impl ModelFacts {
    /// What a context of `slots` slots with `tokens_per_slot` tokens takes at F16.
    ///
    /// Compute buffers are estimated for batches of 512 tokens: 16 rows of activations of the widest
    /// kind per token, and logits for every slot and 64 more. Measured on a 135 M model the sum is
    /// within 15 % of the process's resident memory; the larger the model, the more the weights,
    /// which are exact, outweigh the rest.
    pub fn memory(&self, slots: u64, tokens_per_slot: u64) -> MemoryEstimate {
        const BATCH_TOKENS: u64 = 512;
        const ROWS_PER_TOKEN: u64 = 16;
        let vocab = self.tokenizer.as_ref().map_or(0, |t| t.size as u64);
        let activations = BATCH_TOKENS.saturating_mul(self.embedding_width).saturating_mul(4 * ROWS_PER_TOKEN);
        // One copy in the graph, one for the caller.
        let logits = vocab.saturating_mul(4).saturating_mul(slots + 64).saturating_mul(2);
        MemoryEstimate {
            weights_bytes: self.weight_bytes,
            kv_bytes: self
                .kv_bytes_per_token
                .saturating_mul(slots)
                .saturating_mul(tokens_per_slot.next_multiple_of(256)),
            compute_bytes: activations.saturating_add(logits),
        }
    }
}

/// Reads and checks the header of `path`.
pub fn inspect(path: &Path) -> Result<Facts, InspectError> {
    facts(&GgufFile::open(path)?)
}

/// As `inspect`, for a header that was read already.
pub fn facts(file: &GgufFile) -> Result<Facts, InspectError> {
    let count = integer(file, "split.count").unwrap_or(0);
    if count > 1 {
        return Err(InspectError::Split {
            path: file.path.display().to_string(),
            number: integer(file, "split.no").unwrap_or(0) + 1,
            count,
        });
    }
    match text(file, "general.type").as_str() {
        "" | "model" => Ok(Facts::Model(Box::new(model_facts(file)?))),
        "adapter" => Ok(Facts::Adapter(adapter_facts(file)?)),
        found => Err(InspectError::Type { path: file.path.display().to_string(), found: found.to_owned() }),
    }
}

fn model_facts(file: &GgufFile) -> Result<ModelFacts, InspectError> {
    let architecture = file.architecture()?.to_owned();
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    if file.tensors.is_empty() {
        return Err(rule(file, "tensors", "the file has none".into()));
    }
    let is_encoder = encoder::is_encoder(&architecture);
    let layers = bounded(file, &key("block_count"), LAYERS_MAX)?;
    let embedding_width = bounded(file, &key("embedding_length"), 1 << 24)?;
    let context_tokens = bounded(file, &key("context_length"), 1 << 32)?;
    let weight_bytes = weight_bytes(file);
    let types = type_shares(file);
    let template = file
        .get("tokenizer.chat_template")
        .is_some()
        .then(|| file.str("tokenizer.chat_template"))
        .transpose()?
        .map(str::to_owned);
    Ok(ModelFacts {
        name: text(file, "general.name"),
        license: text(file, "general.license"),
        parameters: file.tensors.iter().map(|t| t.elements()).sum(),
        layers,
        context_tokens,
        embedding_width,
        tied_embeddings: file.tensor("output.weight").is_none(),
        quantization: types.first().map_or(String::new(), |t| t.type_name.clone()),
        types,
        file_bytes: file.file_bytes,
        weight_bytes,
        kv_bytes_per_token: if is_encoder {
            0
        } else {
            kv_bytes_per_token(file, &architecture, layers, embedding_width)?
        },
        tokenizer: tokenizer_facts(file)?,
        chat_template_sha256: template.as_ref().map(|source| Sha256::digest(source.as_bytes()).into()),
        chat_template: template,
        untrainable: arch::recognise(file).err().map(|e| e.to_string()),
        is_encoder,
        pooling: encoder::pooling(file, &key("pooling_type"))?,
        architecture,
    })
}

fn adapter_facts(file: &GgufFile) -> Result<AdapterFacts, InspectError> {
    let kind = file.str("adapter.type")?;
    if kind != "lora" {
        return Err(rule(file, "adapter.type", format!("must be \"lora\", is {kind:?}")));
    }
    let alpha = file.f32("adapter.lora.alpha")?;
    if !alpha.is_finite() {
        return Err(rule(file, "adapter.lora.alpha", format!("must be finite, is {alpha}")));
    }
    let mut rank = 0;
    let mut pairs = 0;
    for tensor in &file.tensors {
        let Some(stem) = tensor.name.strip_suffix(".lora_a") else {
            if !tensor.name.ends_with(".lora_b") {
                return Err(rule(file, &tensor.name, "is neither .lora_a nor .lora_b".into()));
            }
            continue;
        };
        let other = format!("{stem}.lora_b");
        let Some(b) = file.tensor(&other) else {
            return Err(rule(file, &tensor.name, format!("has no {other} beside it")));
        };
        if tensor.dim(1) != b.dim(0) || tensor.dim(1) == 0 {
            let found = format!("ranks differ: {} and {}", tensor.dim(1), b.dim(0));
            return Err(rule(file, &tensor.name, found));
        }
        rank = rank.max(tensor.dim(1));
        pairs += 1;
    }
    if pairs == 0 || 2 * pairs != file.tensors.len() {
        let found = format!("{pairs} pairs in {} tensors", file.tensors.len());
        return Err(rule(file, "tensors", found));
    }
    Ok(AdapterFacts {
        architecture: file.architecture()?.to_owned(),
        name: text(file, "general.name"),
        alpha,
        rank,
        pairs,
        parameters: file.tensors.iter().map(|t| t.elements()).sum(),
        template_sha256: file.str(TEMPLATE_KEY).ok().map(str::to_owned),
        file_bytes: file.file_bytes,
        weight_bytes: weight_bytes(file),
    })
}

fn weight_bytes(file: &GgufFile) -> u64 {
    file.tensors.iter().map(|t| t.size_bytes).sum()
}

fn type_shares(file: &GgufFile) -> Vec<TypeShare> {
    let mut shares: Vec<TypeShare> = Vec::new();
    for tensor in &file.tensors {
        let share = match shares.iter().position(|s| s.type_name == tensor.type_name) {
            Some(at) => &mut shares[at],
            None => {
                shares.push(TypeShare { type_name: tensor.type_name.to_owned(), tensors: 0, bytes: 0 });
                shares.last_mut().expect("one was just pushed")
            }
        };
        share.tensors += 1;
        share.bytes += tensor.size_bytes;
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

/// 2 bytes x (key width + value width) x key heads, over all layers. Head counts may differ from
/// layer to layer, and are 0 in layers without attention.
fn kv_bytes_per_token(file: &GgufFile, architecture: &str, layers: u64, width: u64) -> Result<u64, InspectError> {
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    let heads = per_layer(file, &key("attention.head_count"), layers)?;
    let kv_heads = match file.get(&key("attention.head_count_kv")) {
        Some(_) => per_layer(file, &key("attention.head_count_kv"), layers)?,
        None => heads.clone(),
    };
    let most = heads.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return Err(rule(file, &key("attention.head_count"), "must be at least 1".into()));
    }
    let head_width = |suffix: &str| match file.get(&key(suffix)) {
        Some(_) => bounded(file, &key(suffix), 1 << 16),
        None => Ok(width / most),
    };
    let both = head_width("attention.key_length")? + head_width("attention.value_length")?;
    Ok(kv_heads.iter().map(|&h| 2 * both * h).sum())
}

/// A number that the file gives once or for each layer.
fn per_layer(file: &GgufFile, key: &str, layers: u64) -> Result<Vec<u64>, InspectError> {
    const HEADS_MAX: u64 = 65_536;
    let numbers: Vec<u64> = match file.require(key)? {
        Value::Array(Array::U32(v)) => v.iter().map(|&n| u64::from(n)).collect(),
        Value::Array(Array::I32(v)) => v.iter().map(|&n| n.max(0) as u64).collect(),
        _ => vec![file.u64(key)?; layers as usize],
    };
    if numbers.len() as u64 != layers {
        let found = format!("{} numbers for {layers} layers", numbers.len());
        return Err(rule(file, key, found));
    }
    match numbers.iter().find(|&&n| n > HEADS_MAX) {
        Some(n) => Err(rule(file, key, format!("must be at most {HEADS_MAX}, is {n}"))),
        None => Ok(numbers),
    }
}

fn tokenizer_facts(file: &GgufFile) -> Result<Option<TokenizerFacts>, InspectError> {
    if file.get("tokenizer.ggml.model").is_none() {
        return Ok(None);
    }
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let tokens = file.strings(TOKENS)?;
    if tokens.is_empty() || tokens.len() > VOCAB_MAX {
        let found = format!("must have 1 to {VOCAB_MAX} entries, has {}", tokens.len());
        return Err(rule(file, TOKENS, found));
    }
    if let Some(at) = tokens.iter().position(|t| t.len() > TOKEN_BYTES_MAX) {
        let found = format!("entry {at} has {} bytes, more than {TOKEN_BYTES_MAX}", tokens[at].len());
        return Err(rule(file, TOKENS, found));
    }
    // llama.cpp reads these arrays as plain memory of the type it expects.
    if file.get("tokenizer.ggml.scores").is_some() {
        same_length(file, "tokenizer.ggml.scores", file.f32s("tokenizer.ggml.scores")?.len(), tokens.len())?;
    }
    if file.get("tokenizer.ggml.token_type").is_some() {
        let types = file.i32s("tokenizer.ggml.token_type")?;
        same_length(file, "tokenizer.ggml.token_type", types.len(), tokens.len())?;
        byte_tokens(file, tokens, types)?;
    }
    if file.get("tokenizer.ggml.merges").is_some() {
        file.strings("tokenizer.ggml.merges")?;
    }
    Ok(Some(TokenizerFacts {
        model: file.str("tokenizer.ggml.model")?.to_owned(),
        pre: text(file, "tokenizer.ggml.pre"),
        size: tokens.len(),
        special: special_ids(file, tokens.len())?,
        add_bos: match file.get("tokenizer.ggml.add_bos_token") {
            Some(_) => Some(file.bool("tokenizer.ggml.add_bos_token")?),
            None => None,
        },
    }))
}

fn same_length(file: &GgufFile, key: &str, found: usize, wanted: usize) -> Result<(), InspectError> {
    if found == wanted {
        return Ok(());
    }
    Err(rule(file, key, format!("has {found} entries for {wanted} tokens")))
}

/// Byte tokens must read `<0x00>` to `<0xFF>`: llama.cpp computes an address from them.
fn byte_tokens(file: &GgufFile, tokens: &[String], types: &[i32]) -> Result<(), InspectError> {
    const BYTE: i32 = 6;
    for (token, _) in tokens.iter().zip(types).filter(|(_, kind)| **kind == BYTE) {
        let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
        let fine = hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit()));
        if !fine {
            let shown: String = token.chars().take(32).collect();
            let found = format!("byte token {shown:?} must read <0x00> to <0xFF>");
            return Err(rule(file, "tokenizer.ggml.tokens", found));
        }
    }
    Ok(())
}

fn special_ids(file: &GgufFile, size: usize) -> Result<Vec<(String, i64)>, InspectError> {
    let mut special = Vec::new();
    for (key, value) in &file.metadata {
        let name = key.strip_prefix("tokenizer.ggml.").and_then(|k| k.strip_suffix("_token_id"));
        let Some(name) = name else { continue };
        let id = match value {
            // Absent tokens are written as -1.
            Value::I32(-1) | Value::U32(u32::MAX) => continue,
            other => other.as_u64().and_then(|id| i64::try_from(id).ok()),
        };
        match id.filter(|&id| (id as u64) < size as u64) {
            Some(id) => special.push((name.to_owned(), id)),
            None => {
                let found = format!("{value:?} is no token; there are {size}");
                return Err(rule(file, key, found));
            }
        }
    }
    Ok(special)
}

fn rule(file: &GgufFile, key: &str, rule: String) -> InspectError {
    InspectError::Rule { path: file.path.display().to_string(), key: key.to_owned(), rule }
}

fn bounded(file: &GgufFile, key: &str, most: u64) -> Result<u64, InspectError> {
    let number = file.u64(key)?;
    if (1..=most).contains(&number) {
        return Ok(number);
    }
    Err(rule(file, key, format!("must be 1 to {most}, is {number}")))
}

fn integer(file: &GgufFile, key: &str) -> Option<u64> {
    file.get(key).and_then(Value::as_u64)
}

fn text(file: &GgufFile, key: &str) -> String {
    file.str(key).map(str::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufWriter;
    use crate::vocab::starter_for_tests;

    #[test]
    fn the_starter_is_what_it_is() {
        let Facts::Model(facts) = inspect(&starter_for_tests()).unwrap() else { panic!("the starter is a model") };
        assert_eq!(facts.architecture, "llama");
        assert_eq!(facts.license, "apache-2.0");
        assert_eq!((facts.layers, facts.context_tokens, facts.parameters), (30, 8192, 134_515_008));
        assert!(facts.tied_embeddings);
        assert_eq!(facts.quantization, "Q4_1");
        assert_eq!(facts.weight_bytes, 96_576_768);
        assert_eq!(facts.kv_bytes_per_token, 23_040);
        assert_eq!(facts.untrainable, None);
        assert!(facts.chat_template.unwrap().contains("<|im_start|>"));
        let tokenizer = facts.tokenizer.unwrap();
        assert_eq!((tokenizer.model.as_str(), tokenizer.pre.as_str()), ("gpt2", "smollm"));
        assert_eq!(tokenizer.size, 49_152);
        assert!(tokenizer.special.contains(&("eos".to_owned(), 2)));
        assert_eq!(tokenizer.add_bos, Some(false));
    }

    /// A model header as small as one can be, with `change` made to it.
    fn small(name: &str, change: impl Fn(&mut Vec<(String, Value)>)) -> Result<Facts, InspectError> {
        let mut keys: Vec<(String, Value)> = vec![
            ("general.architecture".into(), Value::Str("llama".into())),
            ("llama.block_count".into(), Value::U32(1)),
            ("llama.embedding_length".into(), Value::U32(8)),
            ("llama.context_length".into(), Value::U32(64)),
            ("llama.attention.head_count".into(), Value::U32(2)),
            ("tokenizer.ggml.model".into(), Value::Str("gpt2".into())),
            ("tokenizer.ggml.tokens".into(), Value::Array(Array::Str(vec!["a".into(), "b".into()]))),
            ("tokenizer.ggml.token_type".into(), Value::Array(Array::I32(vec![1, 1]))),
        ];
        change(&mut keys);
        let mut writer = GgufWriter::new();
        for (key, value) in keys {
            writer.meta(&key, value);
        }
        writer.tensor_f32("token_embd.weight", &[8, 2], &[0.0; 16]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        writer.write(&path).unwrap();
        inspect(&path)
    }

    fn set(keys: &mut Vec<(String, Value)>, key: &str, value: Value) {
        keys.retain(|(k, _)| k != key);
        keys.push((key.to_owned(), value));
    }

    #[test]
    fn a_small_model_is_accepted_and_says_why_it_cannot_be_trained() {
        let Facts::Model(facts) = small("ok.gguf", |_| {}).unwrap() else { panic!() };
        assert_eq!(facts.kv_bytes_per_token, 2 * 2 * 8);
        assert!(facts.untrainable.is_some());
        let memory = facts.memory(4, 100);
        assert_eq!(memory.kv_bytes, 32 * 4 * 256);
        assert!(memory.total_bytes() > memory.kv_bytes + memory.weights_bytes);
    }

    #[test]
    fn every_broken_rule_names_its_key() {
        type Change = (&'static str, Value, &'static str);
        let cases: Vec<Change> = vec![
            ("split.count", Value::U16(3), "of a split model"),
            ("general.type", Value::Str("mmproj".into()), "mmproj"),
            ("llama.block_count", Value::U32(513), "llama.block_count: must be 1 to 512, is 513"),
            ("llama.block_count", Value::U32(0), "must be 1 to 512"),
            ("llama.embedding_length", Value::U64(u64::MAX), "llama.embedding_length"),
            ("llama.attention.head_count", Value::U32(0), "llama.attention.head_count"),
            ("llama.attention.head_count", Value::Array(Array::U32(vec![1, 1])), "2 numbers for 1 layers"),
            ("tokenizer.ggml.token_type", Value::Array(Array::U32(vec![1, 1])), "tokenizer.ggml.token_type"),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1])), "has 1 entries for 2 tokens"),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 6])), "byte token \"b\""),
            ("tokenizer.ggml.scores", Value::Array(Array::I32(vec![1, 1])), "tokenizer.ggml.scores"),
            ("tokenizer.ggml.eos_token_id", Value::U32(2), "eos_token_id: U32(2) is no token"),
            ("tokenizer.ggml.tokens", Value::Array(Array::Str(vec![])), "1 to 4194304 entries"),
        ];
        for (key, value, words) in cases {
            let error = small("bad.gguf", |keys| set(keys, key, value.clone())).unwrap_err().to_string();
            assert!(error.contains(words), "{key}: {error}");
        }
    }

    #[test]
    fn adapters_are_recognised_and_checked() {
        let write = |change: fn(&mut GgufWriter)| {
            let mut writer = GgufWriter::new();
            writer.meta("general.type", Value::Str("adapter".into()));
            writer.meta("general.architecture", Value::Str("llama".into()));
            writer.meta("adapter.type", Value::Str("lora".into()));
            writer.meta("adapter.lora.alpha", Value::F32(16.0));
            writer.tensor_f32("blk.0.attn_q.weight.lora_a", &[8, 2], &[0.0; 16]);
            change(&mut writer);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("adapter.gguf");
            writer.write(&path).unwrap();
            inspect(&path)
        };
        let good = write(|w| {
            w.tensor_f32("blk.0.attn_q.weight.lora_b", &[2, 8], &[0.0; 16]);
        });
        let Facts::Adapter(facts) = good.unwrap() else { panic!() };
        assert_eq!((facts.rank, facts.pairs, facts.alpha), (2, 1, 16.0));
        let alone = write(|_| {}).unwrap_err().to_string();
        assert!(alone.contains("has no blk.0.attn_q.weight.lora_b"), "{alone}");
        let uneven = write(|w| {
            w.tensor_f32("blk.0.attn_q.weight.lora_b", &[1, 8], &[0.0; 8]);
        });
        assert!(uneven.unwrap_err().to_string().contains("ranks differ"));
        let stray = write(|w| {
            w.tensor_f32("blk.0.attn_q.weight.lora_b", &[2, 8], &[0.0; 16]);
            w.tensor_f32("blk.0.bias", &[2], &[0.0; 2]);
        });
        assert!(stray.unwrap_err().to_string().contains("blk.0.bias"));
    }
}
