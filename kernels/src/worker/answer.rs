//! One answer under way: from the engine's events to the daemon's messages. Text is told apart, what was asked for is
//! checked at the end, log-probabilities get the bytes of their tokens.
//!
//! What never lives here: scheduling, prompts.

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Channel, PromptText, TokenChance, Wish};
use hone_protocol::value::Bytes;
use hone_protocol::worker::{self, FromWorker};

use super::ear::{Ear, Said};
use crate::serve::grammar::Check;
use crate::serve::{Chance, EngineEvent, Finish};
use crate::vocab::Vocab;

/// Log-probabilities of so many tokens of a prompt go in one message.
const ECHO_TOKENS_MAX: usize = 512;

/// See the module.
pub(super) struct Answer {
    request: u64,
    /// Kept where it is to be told in one form or the other.
    prompt: Vec<i32>,
    echo: bool,
    tells_prompt: bool,
    tells_chances: bool,
    ear: Option<Ear>,
    check: Option<Check>,
    /// The answer itself so far, when it will be checked.
    text: String,
    /// Of text that is not given out yet.
    untold: Vec<TokenChance>,
    /// Tokens that were told of so far.
    tokens: u32,
}

impl Answer {
    pub(super) fn new(request: u64, wish: &Wish, prompt: Vec<i32>, ear: Option<Ear>, check: Option<Check>) -> Self {
        let tells_chances = wish.chances.is_some();
        let prompt = if wish.echo || wish.tell_prompt { prompt } else { Vec::new() };
        Self {
            request,
            prompt,
            echo: wish.echo,
            tells_prompt: wish.tell_prompt,
            tells_chances,
            ear,
            check,
            text: String::new(),
            untold: Vec::new(),
            tokens: 0,
        }
    }

    /// Takes an event of this answer; true after the last one.
    pub(super) fn take(&mut self, vocab: &Vocab, event: EngineEvent, words: &mut Vec<FromWorker>) -> bool {
        let request = self.request;
        match event {
            EngineEvent::Started { prompt_tokens, cached_tokens, .. } => {
                words.push(FromWorker::Began { request, prompt_tokens, cached_tokens });
                if self.tells_prompt {
                    words.push(FromWorker::Prompted { request, prompt: prompt_text(vocab, &self.prompt) });
                }
                if self.echo && !self.tells_chances {
                    let text = vocab.text(&self.prompt, true);
                    words.push(FromWorker::Echoed { request, text, chances: Vec::new() });
                }
                false
            }
            EngineEvent::Echoed { chances, .. } => {
                self.echo(vocab, chances, words);
                false
            }
            EngineEvent::Piece { text, tokens_total, chances, .. } => {
                self.untold.extend(chances.into_iter().map(|c| with_bytes(vocab, c)));
                let said = match &mut self.ear {
                    None => vec![Said::Text(text)],
                    Some(ear) => ear.hear(&text),
                };
                let whole = self.ear.as_ref().is_none_or(|ear| !ear.is_holding());
                self.say(said, tokens_total, whole, words);
                false
            }
            EngineEvent::Finished { finish, completion_tokens, end, .. } => {
                self.end(vocab, finish, completion_tokens, end, words);
                true
            }
            EngineEvent::Failed { error, .. } => {
                let failure = Failure::new(FailureCode::Internal, error).hint(HintCode::ReadLog);
                words.push(FromWorker::Refused { request, failure });
                true
            }
            EngineEvent::Scored { .. } | EngineEvent::EmbedStarted { .. } | EngineEvent::Embedded { .. } => false,
        }
    }

    fn echo(&mut self, vocab: &Vocab, chances: Vec<Chance>, words: &mut Vec<FromWorker>) {
        let request = self.request;
        let first = self.prompt.first().map(|&token| TokenChance {
            token,
            bytes: Bytes(vocab.piece(token, true)),
            ln_p: None,
            top: Vec::new(),
        });
        let all: Vec<TokenChance> =
            first.into_iter().chain(chances.into_iter().map(|c| with_bytes(vocab, c))).collect();
        let mut text = vocab.text(&self.prompt, true);
        for part in all.chunks(ECHO_TOKENS_MAX) {
            words.push(FromWorker::Echoed { request, text: std::mem::take(&mut text), chances: part.to_vec() });
        }
    }

    /// Gives out what was said. The tokens of a piece count with the last of its parts, when nothing of it is held back.
    fn say(&mut self, said: Vec<Said>, tokens_total: u32, whole: bool, words: &mut Vec<FromWorker>) {
        let last = said.len().wrapping_sub(1);
        for (index, said) in said.into_iter().enumerate() {
            let (channel, text) = match said {
                Said::Text(text) => (Channel::Text, text),
                Said::Reasoning(text) => (Channel::Reasoning, text),
                Said::Call { index, name } => (Channel::Call { index, name }, String::new()),
                Said::Arguments { index, text } => (Channel::Arguments { index }, text),
            };
            let chances = std::mem::take(&mut self.untold);
            let is_text = channel == Channel::Text;
            if is_text && self.check.is_some() {
                self.text.push_str(&text);
            }
            if index == last && whole {
                self.tokens = tokens_total;
            }
            words.push(FromWorker::Piece {
                request: self.request,
                channel,
                text,
                tokens: self.tokens,
                // Only the answer itself has log-probabilities in the protocol.
                chances: if is_text { chances } else { Vec::new() },
            });
        }
    }

    fn end(&mut self, vocab: &Vocab, finish: Finish, tokens: u32, end: Vec<Chance>, words: &mut Vec<FromWorker>) {
        let mut told = match finish {
            Finish::End => worker::Finish::Stop,
            Finish::StopString(stop) => worker::Finish::StopText(stop as u32),
            Finish::MaxTokens | Finish::ContextFull => worker::Finish::Length,
            Finish::Cancelled => worker::Finish::Cancelled,
        };
        let mut called = false;
        if let Some(ear) = &mut self.ear {
            let rest = ear.end();
            told = ear.finish(told);
            called = ear.heard_calls();
            self.say(rest, tokens, true, words);
        }
        if let (Some(check), worker::Finish::Stop | worker::Finish::StopText(_), false) = (&self.check, told, called)
            && let Err(why) = check.look(&self.text)
        {
            let message = format!("the model's answer is not of the wanted format: {why}");
            let failure =
                Failure::new(FailureCode::FormatNotKept, message).at("response_format").hint(HintCode::TryAgain);
            words.push(FromWorker::Refused { request: self.request, failure });
            return;
        }
        let mut left = std::mem::take(&mut self.untold);
        left.extend(end.into_iter().map(|c| with_bytes(vocab, c)));
        words.push(FromWorker::Ended { request: self.request, finish: told, tokens, end: left });
    }
}

/// A prompt as text, with the places of its control tokens.
fn prompt_text(vocab: &Vocab, tokens: &[i32]) -> PromptText {
    let mut prompt = PromptText { tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX), ..PromptText::default() };
    let mut plain = 0;
    for (at, &token) in tokens.iter().enumerate().filter(|(_, token)| vocab.is_control(**token)) {
        prompt.text.push_str(&vocab.text(&tokens[plain..at], true));
        let from = prompt.text.len() as u32;
        prompt.text.push_str(&vocab.text(&[token], true));
        prompt.control.push((from, prompt.text.len() as u32));
        plain = at + 1;
    }
    prompt.text.push_str(&vocab.text(&tokens[plain..], true));
    prompt
}

fn with_bytes(vocab: &Vocab, chance: Chance) -> TokenChance {
    let bytes = |token: i32| Bytes(vocab.piece(token, true));
    TokenChance {
        token: chance.token,
        bytes: bytes(chance.token),
        ln_p: Some(chance.ln_p),
        top: chance.top.into_iter().map(|(token, ln_p)| (token, bytes(token), ln_p)).collect(),
    }
}
