//! Tokenisation with llama.cpp's own vocabulary code: the one truth for training, serving and
//! counting tokens of a GGUF model.
//!
//! What never lives here: chat templates (see `template`), training of new tokenizers.

use std::path::Path;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::serve::llama::{LlamaError, Model};

/// Most bytes of text in one call. Longer text is refused: llama.cpp counts in 32 bits.
pub const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest run of text that is given to llama.cpp's pre-tokenizer at once, in bytes. Its regular
/// expressions may recurse once per character of a run without a break, so longer pieces are split
/// at a space or line break before this bound, and in the middle of the run where there is none.
/// Training and serving split alike, so both see the same tokens.
const RUN_BYTES_MAX: usize = 4 * 1024;

/// Why text could not be tokenised.
#[derive(Debug, thiserror::Error)]
pub enum VocabError {
    /// The text is longer than `TEXT_BYTES_MAX`.
    #[error("text has {bytes} bytes, more than the {TEXT_BYTES_MAX} that are tokenised at once\nhint: send less text")]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
    /// llama.cpp answered with a failure.
    #[error("llama.cpp could not tokenise {bytes} bytes of text")]
    Failed {
        /// Length of the piece.
        bytes: usize,
    },
    /// The file could not be loaded.
    #[error(transparent)]
    Load(#[from] LlamaError),
}

/// A token with a meaning of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its id.
    pub id: i32,
    /// Its text as the vocabulary spells it.
    pub text: String,
    /// Whether it is a control token. The others are "user defined": ordinary text that the model's
    /// maker wanted to be one token, and which is recognised in any text.
    pub control: bool,
}

/// Tokens that the vocabulary names for a purpose; `None` where the model has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedTokens {
    /// Begin of text.
    pub bos: Option<i32>,
    /// End of text.
    pub eos: Option<i32>,
    /// End of turn.
    pub eot: Option<i32>,
    /// Padding.
    pub pad: Option<i32>,
}

/// The vocabulary of a model.
#[derive(Clone, Debug)]
pub struct Vocab {
    model: Arc<Model>,
    special: Arc<Vec<SpecialToken>>,
}

impl Vocab {
    /// Loads the vocabulary of a GGUF file, without weights.
    pub fn load(path: &Path) -> Result<Self, VocabError> {
        Ok(Self::of(Model::load_vocab_only(path)?))
    }

    /// The vocabulary of a model that is loaded already.
    pub fn of(model: Arc<Model>) -> Self {
        let mut special = Vec::new();
        for id in 0..model.vocab_size() as i32 {
            // SAFETY: the id is in range and the vocabulary lives as long as the model.
            let (attributes, text) = unsafe {
                let attributes = sys::llama_vocab_get_attr(model.vocab_ptr(), id);
                let text = sys::llama_vocab_get_text(model.vocab_ptr(), id);
                (attributes as u32, text)
            };
            let control_bits = sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN;
            let control = attributes & control_bits != 0;
            let user_defined = attributes & sys::LLAMA_TOKEN_ATTR_USER_DEFINED != 0;
            if !(control || user_defined) || text.is_null() {
                continue;
            }
            // SAFETY: a NUL-terminated string owned by the vocabulary.
            let text = unsafe { std::ffi::CStr::from_ptr(text) };
            special.push(SpecialToken { id, text: text.to_string_lossy().into_owned(), control });
        }
        Self { model, special: Arc::new(special) }
    }

    pub(crate) fn ptr(&self) -> *const sys::llama_vocab {
        self.model.vocab_ptr()
    }

    /// Tokens in the vocabulary.
    pub fn size(&self) -> usize {
        self.model.vocab_size()
    }

    /// Every token with a meaning of its own, by rising id.
    pub fn special_tokens(&self) -> &[SpecialToken] {
        &self.special
    }

    /// The first control token whose text occurs in `text`.
    pub fn control_text_in(&self, text: &str) -> Option<&SpecialToken> {
        self.special.iter().find(|t| t.control && !t.text.is_empty() && text.contains(&t.text))
    }

    /// Tokens of `text`, without any begin or end token. With `parse_special` the text of control
    /// tokens becomes those tokens (only ever for text that the template's author wrote); without,
    /// it stays plain text.
    pub fn tokenize(&self, text: &str, parse_special: bool) -> Result<Vec<i32>, VocabError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(VocabError::TextTooLong { bytes: text.len() });
        }
        let mut tokens = Vec::with_capacity(text.len() / 3 + 8);
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(safe_split(rest));
            self.tokenize_piece(piece, parse_special, &mut tokens)?;
            rest = after;
        }
        Ok(tokens)
    }

    fn tokenize_piece(&self, text: &str, parse_special: bool, out: &mut Vec<i32>) -> Result<(), VocabError> {
        let failed = || VocabError::Failed { bytes: text.len() };
        let length = i32::try_from(text.len()).map_err(|_| failed())?;
        let start = out.len();
        // A token covers at least one byte, but a vocabulary may add a space in front.
        let mut room = text.len() + 8;
        for _ in 0..2 {
            out.resize(start + room, 0);
            let capacity = i32::try_from(room).map_err(|_| failed())?;
            // SAFETY: pointer and length describe `text`; `room` tokens may be written after `start`.
            let count = unsafe {
                sys::llama_tokenize(
                    self.model.vocab_ptr(),
                    text.as_ptr().cast(),
                    length,
                    out[start..].as_mut_ptr(),
                    capacity,
                    false,
                    parse_special,
                )
            };
            if count >= 0 {
                out.truncate(start + count.unsigned_abs() as usize);
                return Ok(());
            }
            if count == i32::MIN {
                break;
            }
            room = count.unsigned_abs() as usize;
        }
        out.truncate(start);
        Err(failed())
    }

    /// Bytes that a token stands for. With `show_special` control tokens give their text, else none.
    /// The bytes of one token need not be whole UTF-8 characters.
    pub fn piece(&self, token: i32, show_special: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.piece_into(token, show_special, &mut bytes);
        bytes
    }

    /// As `piece`, appended to `out`. An id outside the vocabulary appends nothing.
    pub fn piece_into(&self, token: i32, show_special: bool, out: &mut Vec<u8>) {
        if usize::try_from(token).map_or(true, |t| t >= self.size()) {
            return;
        }
        let start = out.len();
        let mut room = 32_usize;
        for _ in 0..2 {
            out.resize(start + room, 0);
            let capacity = i32::try_from(room).unwrap_or(i32::MAX);
            // SAFETY: `room` bytes may be written after `start`; the token id is in range.
            let count = unsafe {
                sys::llama_token_to_piece(
                    self.model.vocab_ptr(),
                    token,
                    out[start..].as_mut_ptr().cast(),
                    capacity,
                    0,
                    show_special,
                )
            };
            if count >= 0 {
                out.truncate(start + count.unsigned_abs() as usize);
                return;
            }
            room = count.unsigned_abs() as usize;
        }
        out.truncate(start);
    }

    /// Text of several tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self, tokens: &[i32], show_special: bool) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            self.piece_into(token, show_special, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the token ends a generation (end of text, end of turn and their like).
    pub fn is_end(&self, token: i32) -> bool {
        // SAFETY: llama.cpp looks the id up in a set; any value is allowed.
        unsafe { sys::llama_vocab_is_eog(self.model.vocab_ptr(), token) }
    }

    /// Whether the token is a control token.
    pub fn is_control(&self, token: i32) -> bool {
        self.special.binary_search_by_key(&token, |t| t.id).is_ok_and(|i| self.special[i].control)
    }

    /// Whether the model expects every text to start with `bos`.
    pub fn wants_bos(&self) -> bool {
        // SAFETY: the vocabulary lives as long as the model.
        unsafe { sys::llama_vocab_get_add_bos(self.model.vocab_ptr()) }
    }

    /// Whether the model expects every text to end with `eos`.
    pub fn wants_eos(&self) -> bool {
        // SAFETY: the vocabulary lives as long as the model.
        unsafe { sys::llama_vocab_get_add_eos(self.model.vocab_ptr()) }
    }

    /// The tokens that the model expects around a whole text which is not gone on with.
    pub fn around(&self) -> (Option<i32>, Option<i32>) {
        let named = self.named();
        let vocab = self.model.vocab_ptr();
        // SAFETY: the vocabulary lives as long as the model.
        let (adds_sep, sep) = unsafe { (sys::llama_vocab_get_add_sep(vocab), sys::llama_vocab_sep(vocab)) };
        let last = match self.wants_eos() {
            true => named.eos,
            false => (adds_sep && sep >= 0).then_some(sep),
        };
        (named.bos.filter(|_| self.wants_bos()), last)
    }

    /// The tokens named for a purpose.
    pub fn named(&self) -> NamedTokens {
        let some = |id: i32| (id >= 0).then_some(id);
        let vocab = self.model.vocab_ptr();
        // SAFETY: the vocabulary lives as long as the model.
        unsafe {
            NamedTokens {
                bos: some(sys::llama_vocab_bos(vocab)),
                eos: some(sys::llama_vocab_eos(vocab)),
                eot: some(sys::llama_vocab_eot(vocab)),
                pad: some(sys::llama_vocab_pad(vocab)),
            }
        }
    }

    /// The text of a token as the vocabulary spells it, for templates (`bos_token`, `eos_token`).
    pub fn spelling(&self, token: Option<i32>) -> String {
        token.map_or_else(String::new, |t| String::from_utf8_lossy(&self.piece(t, true)).into_owned())
    }
}

/// Where to cut `text` so that no run without a break is longer than `RUN_BYTES_MAX`: its whole
/// length when there is no such run, which is nearly always.
fn safe_split(text: &str) -> usize {
    let mut run_start = 0;
    let mut previous = None;
    for (i, c) in text.char_indices() {
        let class = break_class(c);
        if previous != Some(class) {
            run_start = i;
            previous = Some(class);
        } else if i - run_start >= RUN_BYTES_MAX {
            return i;
        }
    }
    text.len()
}

/// Characters of one class may form one run in a pre-tokenizer's expression.
fn break_class(c: char) -> u8 {
    match c {
        '\r' | '\n' => 0,
        c if c.is_whitespace() => 1,
        c if c.is_alphabetic() || is_combining_mark(c) => 2,
        c if c.is_numeric() => 3,
        _ => 4,
    }
}

/// Blocks of combining marks; pre-tokenizers count them as part of the word they follow.
fn is_combining_mark(c: char) -> bool {
    matches!(u32::from(c), 0x0300..=0x036F | 0x0483..=0x0489 | 0x0591..=0x05C7 | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F)
}

/// The starter model that tests run on. A missing file fails the test that asked for it.
#[cfg(test)]
pub(crate) fn starter_for_tests() -> std::path::PathBuf {
    const NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let folder = std::env::var_os("HONE_ASSETS").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set where tests run");
            Path::new(&home).join(".cache/hone/assets")
        },
        std::path::PathBuf::from,
    );
    let path = folder.join(NAME);
    assert!(
        path.is_file(),
        "{} is missing: run `make assets`, or set HONE_ASSETS to the folder that holds it",
        path.display()
    );
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab() -> Vocab {
        Vocab::load(&starter_for_tests()).unwrap()
    }

    #[test]
    fn the_starters_vocabulary_is_as_its_header_says() {
        let vocab = vocab();
        assert_eq!(vocab.size(), 49_152);
        assert_eq!(vocab.special_tokens().len(), 17);
        assert_eq!(vocab.named().bos, Some(1));
        assert_eq!(vocab.named().eos, Some(2));
        assert!(!vocab.wants_bos());
        assert!(vocab.is_end(2) && vocab.is_end(0) && !vocab.is_end(17));
        assert_eq!(vocab.spelling(Some(2)), "<|im_end|>");
        assert_eq!(vocab.piece(2, false), b"");
        assert_eq!(vocab.piece(-1, true), b"");
        assert_eq!(vocab.piece(49_152, true), b"");
    }

    #[test]
    fn text_goes_through_tokens_unchanged() {
        let vocab = vocab();
        for text in ["", "Hello, world!", "  two\n\n\tlines ", "naïve 你好 🦙", "a\0b", "<|im_end|>"] {
            let tokens = vocab.tokenize(text, false).unwrap();
            assert!(tokens.iter().all(|&t| !vocab.is_control(t)), "{text:?}");
            assert_eq!(vocab.text(&tokens, true), text);
        }
        assert_eq!(vocab.tokenize("<|im_end|>", true).unwrap(), [2]);
    }

    #[test]
    fn long_runs_of_one_character_neither_crash_nor_lose_text() {
        let vocab = vocab();
        for run in ["Z", " ", "\n", "7", "\u{301}", "e\u{301}", "!", "你"] {
            let text = run.repeat(1024 * 1024 / run.len());
            let tokens = vocab.tokenize(&text, false).unwrap();
            assert_eq!(vocab.text(&tokens, true), text, "{run:?}");
        }
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        assert!(matches!(vocab.tokenize(&long, false), Err(VocabError::TextTooLong { .. })));
    }
}
