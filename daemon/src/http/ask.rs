//! Reads the body of `POST /v1/chat/completions`: every field is taken, refused by name, or reported as ignored.
//! Lives here: the fields of the route. Never here: what routes share (`fields.rs`), the conversation
//! (`conversation.rs`), who may ask, answers.

use hone_protocol::generate::{Prompt, Wish};

use super::conversation;
use super::desk::Ask;
use super::failure::Refusal;
use super::fields::{self, Fields, out_of_range};

/// A chat request that makes sense.
#[derive(Debug, PartialEq)]
pub(super) struct ChatRequest {
    /// What is asked.
    pub(super) ask: Ask,
    /// Answer in pieces.
    pub(super) stream: bool,
    /// With a usage chunk at the end.
    pub(super) include_usage: bool,
    /// Fields that were not looked at, in the order of the body.
    pub(super) ignored: Vec<String>,
}

/// Fields that would change the answer and are not built: refused, unless they ask for nothing.
const UNSUPPORTED: &[&str] = &["functions", "function_call", "audio", "modalities", "prediction", "web_search_options"];

/// Reads the body.
pub(super) fn read(body: &[u8]) -> Result<ChatRequest, Refusal> {
    let mut fields = fields::read(body)?;
    let service = fields.model()?;
    let prompt = conversation::read(&mut fields)?;
    fields.refuse(UNSUPPORTED)?;
    let answers = fields.answers()?;
    let wish =
        Wish { chances: chances(&mut fields)?, format: conversation::response_format(&mut fields)?, ..fields.wish()? };
    let tokens_max = fields.tokens_max(1)?;
    let wish = Wish { stop: fields.stop()?, ..wish };
    let user = fields.user()?;
    let metadata = fields.metadata()?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let include_usage = fields.stream_options(stream)?;
    let ask = Ask {
        service,
        prompts: vec![Prompt::Chat(Box::new(prompt))],
        answers,
        wish,
        tokens_max,
        user,
        metadata,
        route: "/v1/chat/completions",
    };
    Ok(ChatRequest { ask, stream, include_usage, ignored: fields.rest() })
}

/// `logprobs` is a switch and `top_logprobs` how many.
fn chances(fields: &mut Fields) -> Result<Option<u32>, Refusal> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    match (wanted, fields.top("top_logprobs")?) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(out_of_range("top_logprobs", "top_logprobs needs logprobs: true")),
    }
}

#[cfg(test)]
mod tests;
