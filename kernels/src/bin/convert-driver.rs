//! `convert-driver`: the conversion of Hugging Face folders under remote control, and what llama.cpp makes of the result:
//! one JSON command a line on standard input, one JSON answer a line on standard output. `tests/prove/convert.py` drives
//! it beside transformers. It computes in F32 as far as the file lets it. No part of the product.

use std::ffi::CString;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use hone_kernels::from_folder::{Conversion, Stored, convert};
use llama_cpp_sys_2 as sys;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Command {
    /// A folder into a file.
    Convert { folder: PathBuf, target: PathBuf, stored: String },
    /// A file into a folder.
    Folder { model: PathBuf, folder: PathBuf },
    /// Token ids of texts, with the tokens that belong around a text.
    Tokens { model: PathBuf, texts: Vec<String> },
    /// Logits of every position as F32 in a file.
    Logits { model: PathBuf, tokens: Vec<i32>, out: PathBuf },
    /// The pooled embedding of each text.
    Embed { model: PathBuf, texts: Vec<String> },
}

fn main() -> anyhow::Result<()> {
    hone_kernels::log_to_stderr();
    for line in std::io::stdin().lock().lines() {
        let command = serde_json::from_str(&line?).context("a command is a JSON object with \"do\"")?;
        let answer = obey(command).unwrap_or_else(|error| json!({ "failed": format!("{error:#}") }));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn obey(command: Command) -> anyhow::Result<Value> {
    match command {
        Command::Convert { folder, target, stored } => {
            let stored = match stored.as_str() {
                "f32" => Stored::F32,
                "f16" => Stored::F16,
                "bf16" => Stored::Bf16,
                "q8_0" => Stored::Q8_0,
                _ => Stored::AsStored,
            };
            let (folder, target) = (folder.as_path(), target.as_path());
            let task = Conversion { folder, target, stored, name: "proof", licence: "", source: "" };
            let begun = std::time::Instant::now();
            let tensors = convert(&task, &mut |_, _| ())?;
            let bytes = std::fs::metadata(target)?.len();
            Ok(
                json!({ "tensors": tensors, "bytes": bytes, "seconds": begun.elapsed().as_secs_f64(), "peak_mib": peak_mib()? }),
            )
        }
        Command::Folder { model, folder } => {
            std::fs::create_dir(&folder)?;
            let files = hone_kernels::to_folder::to_folder(&model, &folder, &mut |_, _| ())?;
            Ok(json!({ "files": files }))
        }
        Command::Tokens { model, texts } => {
            let model = Loaded::open(&model, true)?;
            let ids = texts.iter().map(|text| model.tokens(text)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(json!({ "ids": ids }))
        }
        Command::Logits { model, tokens, out } => {
            let values = Loaded::open(&model, false)?.logits(&tokens)?;
            std::fs::write(&out, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
            Ok(json!({ "values": values.len() }))
        }
        Command::Embed { model, texts } => {
            let model = Loaded::open(&model, false)?;
            let all = texts.iter().map(|text| model.embedding(text)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(json!({ "embeddings": all }))
        }
    }
}

/// Most memory that was resident so far.
fn peak_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// A model of llama.cpp, freed when dropped.
struct Loaded(*mut sys::llama_model);

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: made by llama_model_load_from_file and freed once.
        unsafe { sys::llama_model_free(self.0) }
    }
}

impl Loaded {
    fn open(path: &Path, vocab_only: bool) -> anyhow::Result<Loaded> {
        let name = CString::new(path.to_str().context("a path of UTF-8")?)?;
        // SAFETY: the path lives during the call; the result is checked.
        let model = unsafe {
            let mut params = sys::llama_model_default_params();
            params.vocab_only = vocab_only;
            sys::llama_model_load_from_file(name.as_ptr(), params)
        };
        ensure!(!model.is_null(), "llama.cpp does not load {}", path.display());
        Ok(Loaded(model))
    }

    fn tokens(&self, text: &str) -> anyhow::Result<Vec<i32>> {
        let mut tokens = vec![0; text.len() + 16];
        // SAFETY: text and tokens come with their lengths; the vocabulary lives as long as the model.
        let count = unsafe {
            let vocab = sys::llama_model_get_vocab(self.0);
            let (from, length) = (text.as_ptr().cast(), text.len() as i32);
            sys::llama_tokenize(vocab, from, length, tokens.as_mut_ptr(), tokens.len() as i32, true, true)
        };
        tokens.truncate(usize::try_from(count).context("llama.cpp cannot tokenise")?);
        Ok(tokens)
    }

    fn logits(&self, tokens: &[i32]) -> anyhow::Result<Vec<f32>> {
        // SAFETY: the vocabulary lives as long as the model.
        let vocab = unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(self.0)) } as usize;
        self.computed(tokens, false, |context| {
            let mut all = Vec::with_capacity(tokens.len() * vocab);
            for at in 0..tokens.len() {
                // SAFETY: every token of the batch asked for logits, so there are `vocab` at each.
                all.extend_from_slice(unsafe {
                    std::slice::from_raw_parts(sys::llama_get_logits_ith(context, at as i32), vocab)
                });
            }
            Ok(all)
        })
    }

    fn embedding(&self, text: &str) -> anyhow::Result<Vec<f32>> {
        // SAFETY: reads a number of the model.
        let width = unsafe { sys::llama_model_n_embd(self.0) } as usize;
        self.computed(&self.tokens(text)?, true, |context| {
            // SAFETY: the sequence was computed with pooling; the result is checked and has the model's width.
            let values = unsafe { sys::llama_get_embeddings_seq(context, 0) };
            ensure!(!values.is_null(), "llama.cpp pools nothing");
            Ok(unsafe { std::slice::from_raw_parts(values, width) }.to_vec())
        })
    }

    /// Computes one sequence in a context of its own and hands that to `read`.
    fn computed<T>(
        &self,
        tokens: &[i32],
        embeddings: bool,
        read: impl FnOnce(*mut sys::llama_context) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let count = tokens.len() as i32;
        // SAFETY: each object is checked for null and freed once in reverse order; the batch has room for `count` tokens.
        unsafe {
            let mut params = sys::llama_context_default_params();
            (params.n_ctx, params.n_batch, params.n_ubatch) = (512, 512, 512);
            (params.n_threads, params.n_threads_batch) = (2, 2);
            (params.type_k, params.type_v) = (sys::GGML_TYPE_F32, sys::GGML_TYPE_F32);
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
            params.embeddings = embeddings;
            let context = sys::llama_init_from_model(self.0, params);
            ensure!(!context.is_null(), "llama.cpp makes no context");
            let mut batch = sys::llama_batch_init(count, 0, 1);
            for (at, &token) in tokens.iter().enumerate() {
                *batch.token.add(at) = token;
                *batch.pos.add(at) = at as i32;
                *batch.n_seq_id.add(at) = 1;
                **batch.seq_id.add(at) = 0;
                *batch.logits.add(at) = 1;
            }
            batch.n_tokens = count;
            let status = if embeddings { sys::llama_encode(context, batch) } else { sys::llama_decode(context, batch) };
            let result =
                if status == 0 { read(context) } else { Err(anyhow::anyhow!("llama.cpp computes nothing: {status}")) };
            sys::llama_batch_free(batch);
            sys::llama_free(context);
            result
        }
    }
}
