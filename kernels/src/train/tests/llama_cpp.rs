//! llama.cpp as an oracle: logits of a row, with or without an adapter. It computes in F32 as far as the file lets it:
//! F32 keys and values and no flash attention.

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use llama_cpp_sys_2 as sys;

/// Logits [position][vocab] of `tokens` by llama.cpp over `model`, with the adapter file if given.
pub(crate) fn logits(model: &Path, adapter: Option<&Path>, tokens: &[i32]) -> Vec<Vec<f32>> {
    crate::log_to_stderr();
    let text = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: every object is checked for null, used while its owner lives, and freed once in reverse order; the
    // batch's arrays have room for `tokens.len()` entries because it was made for that many.
    unsafe {
        let loaded = sys::llama_model_load_from_file(text(model).as_ptr(), sys::llama_model_default_params());
        assert!(!loaded.is_null(), "llama.cpp loads {}", model.display());
        let mut params = sys::llama_context_default_params();
        params.n_ctx = 256;
        params.n_batch = 256;
        params.n_ubatch = 256;
        params.n_threads = 2;
        params.n_threads_batch = 2;
        params.type_k = sys::GGML_TYPE_F32;
        params.type_v = sys::GGML_TYPE_F32;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        let context = sys::llama_init_from_model(loaded, params);
        assert!(!context.is_null());
        if let Some(adapter) = adapter {
            let mut lora = sys::llama_adapter_lora_init(loaded, text(adapter).as_ptr());
            assert!(!lora.is_null(), "llama.cpp loads {}", adapter.display());
            let mut scale = 1.0f32;
            assert_eq!(sys::llama_set_adapters_lora(context, &mut lora, 1, &mut scale), 0);
        }
        let mut batch = sys::llama_batch_init(tokens.len() as i32, 0, 1);
        for (at, &token) in tokens.iter().enumerate() {
            *batch.token.add(at) = token;
            *batch.pos.add(at) = at as i32;
            *batch.n_seq_id.add(at) = 1;
            **batch.seq_id.add(at) = 0;
            *batch.logits.add(at) = 1;
        }
        batch.n_tokens = tokens.len() as i32;
        assert_eq!(sys::llama_decode(context, batch), 0);
        let vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(loaded)) as usize;
        let out = (0..tokens.len())
            .map(|at| std::slice::from_raw_parts(sys::llama_get_logits_ith(context, at as i32), vocab).to_vec())
            .collect();
        sys::llama_batch_free(batch);
        sys::llama_set_adapters_lora(context, ptr::null_mut(), 0, ptr::null_mut());
        sys::llama_free(context);
        sys::llama_model_free(loaded);
        out
    }
}

/// Tokens of `text` by llama.cpp, control tokens recognised.
pub(super) fn tokens(model: &Path, text: &str) -> Vec<i32> {
    crate::log_to_stderr();
    let path = CString::new(model.to_str().unwrap()).unwrap();
    let mut tokens = vec![0; text.len() + 8];
    // SAFETY: the model is checked for null and freed once; text and token pointers come with their lengths.
    unsafe {
        let mut params = sys::llama_model_default_params();
        params.vocab_only = true;
        let loaded = sys::llama_model_load_from_file(path.as_ptr(), params);
        assert!(!loaded.is_null());
        let vocab = sys::llama_model_get_vocab(loaded);
        let (from, len) = (text.as_ptr().cast(), text.len() as i32);
        let count = sys::llama_tokenize(vocab, from, len, tokens.as_mut_ptr(), tokens.len() as i32, false, true);
        sys::llama_model_free(loaded);
        tokens.truncate(usize::try_from(count).unwrap());
    }
    tokens
}

/// Largest and root-mean-square difference, over the positions that both have.
pub(crate) fn difference(ours: &[f32], theirs: &[Vec<f32>]) -> (f64, f64) {
    let (mut largest, mut squares, mut count) = (0.0f64, 0.0, 0usize);
    for (ours, theirs) in ours.chunks_exact(theirs[0].len()).zip(theirs) {
        for (a, b) in ours.iter().zip(theirs) {
            let gap = f64::from(a - b).abs();
            assert!(gap.is_finite());
            largest = largest.max(gap);
            squares += gap * gap;
            count += 1;
        }
    }
    (largest, (squares / count as f64).sqrt())
}
