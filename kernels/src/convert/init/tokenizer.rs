//! Byte pairs learnt from texts by the `tokenizers` crate, left in a folder as `tokenizer.json` and `tokenizer_config.json`. Text
//! is cut as llama.cpp's `qwen2` cuts it: digits one by one, words of any script. Never here: which texts.

use std::fs;
use std::path::Path;

use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel as Decoder;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, parallelism};

use crate::convert::ConvertError;
use crate::from_folder::QWEN2_WORDS;

/// Ends a text.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Begin and end of a turn.
const TURN: [&str; 2] = ["<|im_start|>", "<|im_end|>"];
/// ChatML, without a system turn that nobody wrote.
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/// Pairs that occur less often are not learnt.
const FREQUENCY_MIN: u64 = 2;

/// Learns at most `vocabulary` tokens, the named ones and all bytes among them, and says how many. The same texts give the
/// same tokens.
pub fn learn(folder: &Path, texts: impl Iterator<Item = String> + Send, vocabulary: u32) -> Result<u32, ConvertError> {
    let failed = |problem: tokenizers::Error| ConvertError::Refused {
        path: folder.to_owned(),
        field: "tokenizer".to_owned(),
        problem: problem.to_string(),
    };
    // The crate's pool would take all cores of the machine, whatever this process was given.
    parallelism::set_parallelism(false);
    let named = [END_OF_TEXT, TURN[0], TURN[1]].map(|text| AddedToken::from(text, true));
    let trainer = BpeTrainer::builder()
        .vocab_size(vocabulary as usize)
        .min_frequency(FREQUENCY_MIN)
        .show_progress(false)
        .special_tokens(named.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let words = SplitPattern::Regex(QWEN2_WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), ByteLevel::new(false, false, false).into()])));
    tokenizer.with_decoder(Some(Decoder::default()));
    tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(failed)?;
    let text = tokenizer.to_string(false).map_err(failed)?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "add_bos_token": false,
        "add_eos_token": false,
        "chat_template": TEMPLATE,
    });
    for (name, text) in [("tokenizer.json", text), ("tokenizer_config.json", config.to_string())] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| ConvertError::Io { action: "write", path, source })?;
    }
    Ok(tokenizer.get_vocab_size(true) as u32)
}
