//! A grammar that an answer must keep to, from its first token or from a trigger text on: llama.cpp's own grammar
//! engine, which says of each token whether the answer may go on with it.
//!
//! What never lives here: where grammars come from (see `grammar`), the choice of a token (see `sampling`).

use std::ffi::CString;
use std::ptr::NonNull;

use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_sys_2 as sys;

use crate::vocab::Vocab;

/// Longest source of a grammar in bytes; a longer one is refused.
pub const GRAMMAR_BYTES_MAX: usize = 256 * 1024;
/// Name of the rule that a grammar begins with.
const ROOT: &std::ffi::CStr = c"root";

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Rules in GBNF; `root` is the first.
    pub grammar: String,
    /// The text after which the rules hold; before it everything goes. `None`: from the first token on.
    pub after: Option<String>,
}

/// Why a grammar was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grammar of this answer was refused: {why}")]
pub struct BadGrammar {
    /// What is wrong with it.
    pub why: String,
}

/// The grammar of one answer and how far the answer is in it.
#[derive(Debug)]
pub struct Constraint {
    sampler: NonNull<sys::llama_sampler>,
    /// While the trigger has not come: it, and the last bytes said.
    waiting: Option<(Vec<u8>, Vec<u8>)>,
    vocab: Vocab,
}

// SAFETY: a sampler is used by one thread at a time; `&mut` guards every use.
unsafe impl Send for Constraint {}

impl Constraint {
    /// Compiles a grammar. Its cost is bounded by the length of the source and by llama.cpp's bound on repetitions.
    pub fn new(limit: &Limit, vocab: &Vocab) -> Result<Self, BadGrammar> {
        let bad = |why: &str| BadGrammar { why: why.to_owned() };
        if limit.grammar.len() > GRAMMAR_BYTES_MAX {
            return Err(BadGrammar {
                why: format!("it has {} bytes, more than {GRAMMAR_BYTES_MAX}", limit.grammar.len()),
            });
        }
        let source = CString::new(limit.grammar.as_str()).map_err(|_| bad("it holds a NUL character"))?;
        // SAFETY: the vocabulary lives as long as `self.vocab`; both texts are C strings. The call catches exceptions
        // and answers null for a grammar that does not parse or is left-recursive.
        let sampler = unsafe { sys::llama_rs_sampler_init_grammar(vocab.ptr(), source.as_ptr(), ROOT.as_ptr()) };
        let sampler = NonNull::new(sampler).ok_or_else(|| bad("its rules cannot be compiled"))?;
        let waiting = limit.after.as_ref().map(|text| (text.clone().into_bytes(), Vec::new()));
        Ok(Self { sampler, waiting, vocab: vocab.clone() })
    }

    /// Whether the rules hold for the next token.
    pub fn is_active(&self) -> bool {
        self.waiting.is_none()
    }

    /// Whether the answer may go on with this token.
    pub fn allows(&mut self, token: i32) -> bool {
        self.first_allowed(&[token]).is_some()
    }

    /// The first of these tokens that the answer may go on with.
    pub fn first_allowed(&mut self, tokens: &[i32]) -> Option<i32> {
        let mut raw: Vec<_> = tokens
            .iter()
            .filter(|&&token| !self.vocab.is_control(token) || self.vocab.is_end(token))
            .map(|&id| sys::llama_token_data { id, logit: 0.0, p: 0.0 })
            .collect();
        self.apply(raw.as_mut_ptr(), raw.len());
        raw.iter().find(|token| token.logit == 0.0).map(|token| token.id)
    }

    /// Takes every token that may not come out of the candidates, by giving it the logit −∞. False when none is left.
    pub fn mask(&mut self, candidates: &mut [LlamaTokenData]) -> bool {
        for token in self.vocab.special_tokens().iter().filter(|t| t.control && !self.vocab.is_end(t.id)) {
            if let Some(candidate) = candidates.iter_mut().find(|c| c.id().0 == token.id) {
                candidate.set_logit(f32::NEG_INFINITY);
            }
        }
        let mut raw: Vec<sys::llama_token_data> = candidates
            .iter()
            .filter(|c| c.logit() > f32::NEG_INFINITY)
            .map(|c| sys::llama_token_data { id: c.id().0, logit: c.logit(), p: 0.0 })
            .collect();
        self.apply(raw.as_mut_ptr(), raw.len());
        let mut kept = raw.iter();
        let mut any = false;
        for candidate in candidates.iter_mut().filter(|c| c.logit() > f32::NEG_INFINITY) {
            let logit = kept.next().map_or(f32::NEG_INFINITY, |k| k.logit);
            any |= logit > f32::NEG_INFINITY;
            candidate.set_logit(logit);
        }
        any
    }

    fn apply(&mut self, data: *mut sys::llama_token_data, size: usize) {
        let mut array = sys::llama_token_data_array { data, size, selected: -1, sorted: false };
        // SAFETY: `data` points to `size` entries whose ids are in the vocabulary; the sampler only writes logits.
        unsafe { sys::llama_sampler_apply(self.sampler.as_ptr(), &raw mut array) }
    }

    /// Goes on by a token that was chosen. False if the rules do not allow it, after which nothing may be asked any
    /// more.
    pub fn accept(&mut self, token: i32) -> bool {
        if self.vocab.is_end(token) {
            return true;
        }
        let Some((trigger, said)) = &mut self.waiting else {
            return self.advance(token);
        };
        self.vocab.piece_into(token, false, said);
        let Some(at) = said.windows(trigger.len()).position(|w| w == trigger.as_slice()) else {
            let kept = said.len().min(trigger.len() - 1);
            said.drain(..said.len() - kept);
            return true;
        };
        // What the token says after the trigger goes through the rules too. Any tokens that spell it will do: the
        // rules are about characters.
        let rest = said.split_off(at + trigger.len());
        self.waiting = None;
        let Ok(rest) = self.vocab.tokenize(&String::from_utf8_lossy(&rest), false) else {
            return false;
        };
        rest.into_iter().all(|token| self.allows(token) && self.advance(token))
    }

    fn advance(&mut self, token: i32) -> bool {
        // SAFETY: the id is in the vocabulary; the call catches the exception of a token that does not fit.
        let status = unsafe { sys::llama_rs_sampler_accept(self.sampler.as_ptr(), token) };
        status == sys::LLAMA_RS_STATUS_OK
    }
}

impl Drop for Constraint {
    fn drop(&mut self) {
        // SAFETY: made by llama_rs_sampler_init_grammar and freed once.
        unsafe { sys::llama_sampler_free(self.sampler.as_ptr()) }
    }
}
