//! What a server elsewhere answers, event by event, as pieces of an answer with their tokens. Where it tells no counts, each
//! event that says something is a token, because that is how such servers send. Never here: bytes, connections.

use hone_protocol::generate::{Channel, Finish, TokenChance};
use hone_protocol::value::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::ask::Route;
use super::trouble::{Trouble, sentence, words};

/// Most calls of one answer; more end it.
const CALLS_MAX: usize = 128;
/// Numbers of no token: a server elsewhere tells texts only.
const NO_TOKEN: i32 = -1;

/// What a server counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Prompt tokens.
    pub(super) prompt: u32,
    /// Of these, found in its cache.
    pub(super) cached: u32,
    /// Completion tokens.
    pub(super) tokens: u32,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// What it is a piece of.
    pub(super) channel: Channel,
    /// Its text.
    pub(super) text: String,
    /// Tokens of the answer so far.
    pub(super) tokens: u32,
    /// How likely its tokens were.
    pub(super) chances: Vec<TokenChance>,
}

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Reading {
    route: Route,
    /// Whether log-probabilities were asked for; what comes unasked is not told.
    tells_chances: bool,
    /// Tokens so far.
    pub(super) tokens: u32,
    /// The last word on counts.
    pub(super) counts: Option<Counts>,
    /// Why it ended, once it did.
    pub(super) finish: Option<Finish>,
    /// Whether the end mark came.
    pub(super) is_done: bool,
    /// Log-probabilities of tokens without text.
    pub(super) end: Vec<TokenChance>,
    /// The server's own numbers of the calls so far.
    calls: Vec<u64>,
}

impl Reading {
    pub(super) fn new(route: Route, tells_chances: bool) -> Reading {
        Reading {
            route,
            tells_chances,
            tokens: 0,
            counts: None,
            finish: None,
            is_done: false,
            end: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// Takes the data of an event, or a whole answer of a server that does not stream.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<Vec<Said>, Trouble> {
        if data.trim_ascii() == b"[DONE]" {
            self.is_done = true;
            return Ok(Vec::new());
        }
        let value: Value = serde_json::from_slice(data).map_err(|error| garbage(&error.to_string()))?;
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            return Err(Trouble::BrokenOff(sentence(error)));
        }
        let counts = value.get("usage").and_then(counts);
        self.counts = counts.or(self.counts);
        let choices = value.get("choices").and_then(Value::as_array);
        let Some(choice) = choices.and_then(|choices| choices.first()) else { return Ok(Vec::new()) };
        let mut said = match self.route {
            Route::Chat => self.chat(choice)?,
            Route::Text => text(choice.get("text")).map(|text| (Channel::Text, text)).into_iter().collect(),
        };
        let chances = choice.get("logprobs").map_or_else(Vec::new, |chances| match self.route {
            Route::Chat => chat_chances(chances),
            Route::Text => text_chances(chances),
        });
        self.count(!said.is_empty(), chances.len(), counts);
        self.finish(choice.get("finish_reason"))?;
        let before = self.tokens;
        let chances = if self.tells_chances { chances } else { Vec::new() };
        let Some((channel, last)) = said.pop() else {
            self.end.extend(chances);
            return Ok(Vec::new());
        };
        let tokens = self.tokens;
        let earlier =
            said.into_iter().map(|(channel, text)| Said { channel, text, tokens: before, chances: Vec::new() });
        let last = Said { channel, text: last, tokens, chances };
        Ok(earlier.chain([last]).collect())
    }

    /// Log-probabilities tell the tokens of an event, and so do counts beside it; else it is one.
    fn count(&mut self, says_something: bool, chances: usize, counts: Option<Counts>) {
        if says_something {
            self.tokens = self.tokens.saturating_add(u32::try_from(chances.max(1)).unwrap_or(u32::MAX));
        }
        if let Some(counts) = counts {
            self.tokens = self.tokens.max(counts.tokens);
        }
    }

    fn chat(&mut self, choice: &Value) -> Result<Vec<(Channel, String)>, Trouble> {
        let delta = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(&Value::Null);
        let reasoning = text(delta.get("reasoning_content")).or_else(|| text(delta.get("reasoning")));
        let mut said: Vec<(Channel, String)> = reasoning.map(|text| (Channel::Reasoning, text)).into_iter().collect();
        // A refusal is the answer that there is.
        let answers = [delta.get("content"), delta.get("refusal")];
        said.extend(answers.into_iter().filter_map(text).map(|text| (Channel::Text, text)));
        let calls = delta.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (place, call) in calls.iter().enumerate() {
            self.call(place as u64, call, &mut said)?;
        }
        Ok(said)
    }

    fn call(&mut self, place: u64, call: &Value, said: &mut Vec<(Channel, String)>) -> Result<(), Trouble> {
        let number = call.get("index").and_then(Value::as_u64).unwrap_or(place);
        let function = call.get("function").unwrap_or(&Value::Null);
        let index = match self.calls.iter().position(|known| *known == number) {
            Some(index) => index as u32,
            None => {
                let name = text(function.get("name")).ok_or_else(|| garbage("a call without a name"))?;
                if self.calls.len() == CALLS_MAX {
                    return Err(garbage("more calls than any answer has"));
                }
                self.calls.push(number);
                let index = self.calls.len() as u32 - 1;
                said.push((Channel::Call { index, name }, String::new()));
                index
            }
        };
        let arguments = match function.get("arguments") {
            Some(Value::Object(arguments)) => Some(Value::Object(arguments.clone()).to_string()),
            other => text(other),
        };
        said.extend(arguments.map(|text| (Channel::Arguments { index }, text)));
        Ok(())
    }

    fn finish(&mut self, reason: Option<&Value>) -> Result<(), Trouble> {
        self.finish = match reason.and_then(Value::as_str) {
            None => return Ok(()),
            Some("length" | "max_tokens") => Some(Finish::Length),
            Some("tool_calls") => Some(Finish::Calls),
            Some("stop" | "eos" | "eos_token" | "stop_sequence") if !self.calls.is_empty() => Some(Finish::Calls),
            Some("stop" | "eos" | "eos_token" | "stop_sequence") => Some(Finish::Stop),
            Some(other) => return Err(Trouble::BrokenOff(format!("its answer ended with {:?}", words(other)))),
        };
        Ok(())
    }

    /// Why it ended; nothing where it was cut.
    pub(super) fn ended(&self) -> Option<Finish> {
        let silent = if self.calls.is_empty() { Finish::Stop } else { Finish::Calls };
        self.finish.or(self.is_done.then_some(silent))
    }
}

fn garbage(what: &str) -> Trouble {
    Trouble::Garbage(words(what))
}

/// A text that says something.
fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Counts as servers tell them; nothing where the prompt's are missing.
pub(super) fn counts(usage: &Value) -> Option<Counts> {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let prompt = number(usage.get("prompt_tokens"))?;
    let cached = number(usage.pointer("/prompt_tokens_details/cached_tokens"))
        .or_else(|| number(usage.get("prompt_cache_hit_tokens")))
        .unwrap_or(0)
        .min(prompt);
    Some(Counts { prompt, cached, tokens: number(usage.get("completion_tokens")).unwrap_or(0) })
}

/// `{"content": [{"token", "bytes", "logprob", "top_logprobs": […]}]}`.
fn chat_chances(chances: &Value) -> Vec<TokenChance> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let bytes = |one: &Value| {
        let told = one.get("bytes").and_then(Value::as_array);
        let told: Option<Vec<u8>> =
            told.and_then(|list| list.iter().map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect());
        Bytes(told.unwrap_or_else(|| one.get("token").and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec()))
    };
    let ln_p = |one: &Value| one.get("logprob").and_then(Value::as_f64).map(|ln_p| ln_p as f32);
    let chance = |one: &Value| TokenChance {
        token: NO_TOKEN,
        bytes: bytes(one),
        ln_p: ln_p(one),
        top: list(one.get("top_logprobs")).iter().filter_map(|t| Some((NO_TOKEN, bytes(t), ln_p(t)?))).collect(),
    };
    list(chances.get("content")).iter().map(chance).collect()
}

/// `{"tokens": […], "token_logprobs": […], "top_logprobs": [{…}]}`.
fn text_chances(chances: &Value) -> Vec<TokenChance> {
    let list = |name: &str| chances.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (logs, tops) = (list("token_logprobs"), list("top_logprobs"));
    let spelled = |token: &str| Bytes(token.as_bytes().to_vec());
    let chance = |(place, token): (usize, &Value)| {
        let top = tops.get(place).and_then(Value::as_object);
        let top = top
            .into_iter()
            .flatten()
            .filter_map(|(token, ln_p)| Some((NO_TOKEN, spelled(token), ln_p.as_f64()? as f32)));
        TokenChance {
            token: NO_TOKEN,
            bytes: spelled(token.as_str().unwrap_or_default()),
            ln_p: logs.get(place).and_then(Value::as_f64).map(|ln_p| ln_p as f32),
            top: top.collect(),
        }
    };
    list("tokens").iter().enumerate().map(chance).collect()
}

/// The vectors of a request.
#[derive(Debug, Deserialize)]
pub(super) struct Vectors {
    data: Vec<Vector>,
    usage: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Vector {
    index: Option<u32>,
    embedding: Vec<f32>,
}

impl Vectors {
    /// As many vectors as inputs, in their order, and the counts.
    pub(super) fn read(body: &[u8], inputs: usize) -> Result<(Vec<Vec<f32>>, Option<Counts>), Trouble> {
        let read: Vectors = serde_json::from_slice(body).map_err(|error| garbage(&error.to_string()))?;
        let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); inputs];
        for (place, vector) in read.data.into_iter().enumerate() {
            let place = vector.index.map_or(place, |index| index as usize);
            *vectors.get_mut(place).ok_or_else(|| garbage("a vector of no input"))? = vector.embedding;
        }
        if vectors.iter().any(Vec::is_empty) {
            return Err(garbage("fewer vectors than inputs"));
        }
        Ok((vectors, read.usage.as_ref().and_then(counts)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(route: Route, tells_chances: bool, events: &[Value]) -> (Vec<(String, String, u32)>, Reading) {
        let mut reading = Reading::new(route, tells_chances);
        let mut said = Vec::new();
        for event in events {
            let pieces = reading.take(event.to_string().as_bytes()).unwrap();
            said.extend(pieces.into_iter().map(|piece| (format!("{:?}", piece.channel), piece.text, piece.tokens)));
        }
        (said, reading)
    }

    fn delta(delta: Value) -> Value {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    }

    fn piece(channel: &str, text: &str, tokens: u32) -> (String, String, u32) {
        (channel.to_owned(), text.to_owned(), tokens)
    }

    #[test]
    fn thoughts_text_and_calls_are_told_apart() {
        let call = |index: u64, name: Value, arguments: &str| {
            delta(json!({"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]}))
        };
        let (said, reading) = read(
            Route::Chat,
            false,
            &[
                delta(json!({"role": "assistant", "content": ""})),
                delta(json!({"reasoning_content": "hm"})),
                delta(json!({"content": "so"})),
                call(3, json!("look"), ""),
                call(3, json!(null), "{\"a\":"),
                call(3, json!(null), "1}"),
                call(7, json!("see"), "{}"),
                json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
                json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 31,
                    "prompt_tokens_details": {"cached_tokens": 4}}}),
            ],
        );
        let look = "Call { index: 0, name: \"look\" }";
        let see = "Call { index: 1, name: \"see\" }";
        let all = [
            piece("Reasoning", "hm", 1),
            piece("Text", "so", 2),
            piece(look, "", 3),
            piece("Arguments { index: 0 }", "{\"a\":", 4),
            piece("Arguments { index: 0 }", "1}", 5),
        ];
        assert_eq!(said[..5], all);
        assert_eq!(said[5].0, see);
        assert_eq!(said[6], piece("Arguments { index: 1 }", "{}", 6));
        assert_eq!(reading.counts, Some(Counts { prompt: 9, cached: 4, tokens: 31 }));
        assert_eq!(reading.ended(), Some(Finish::Calls));
    }

    #[test]
    fn a_whole_answer_is_read_as_well() {
        let whole = json!({"choices": [{"message": {"role": "assistant", "content": "hi there"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
        let (said, reading) = read(Route::Chat, false, &[whole]);
        assert_eq!(said, [piece("Text", "hi there", 2)]);
        assert_eq!((reading.ended(), reading.counts.unwrap().cached), (Some(Finish::Stop), 0));
    }

    #[test]
    fn log_probabilities_count_the_tokens_of_an_event() {
        let one = |token: &str| {
            json!({"token": token, "logprob": -0.5, "bytes": null,
            "top_logprobs": [{"token": "x", "logprob": -1.0, "bytes": [120]}]})
        };
        let event = json!({"choices": [{"delta": {"content": "ab"}, "logprobs": {"content": [one("a"), one("b")]}}]});
        let mut reading = Reading::new(Route::Chat, true);
        let said = reading.take(event.to_string().as_bytes()).unwrap();
        assert_eq!((said[0].tokens, said[0].chances.len()), (2, 2));
        assert_eq!(said[0].chances[1].bytes.0, b"b");
        assert_eq!(said[0].chances[0].top, [(NO_TOKEN, Bytes(b"x".to_vec()), -1.0)]);
        let event = json!({"choices": [{"text": "ab", "logprobs": {"tokens": ["a", "b"], "token_logprobs": [null, -2.0],
            "top_logprobs": [null, {"c": -3.0}]}}]});
        let mut reading = Reading::new(Route::Text, true);
        let said = reading.take(event.to_string().as_bytes()).unwrap();
        assert_eq!((said[0].chances[0].ln_p, said[0].chances[1].ln_p), (None, Some(-2.0)));
        assert_eq!(said[0].chances[1].top.len(), 1);
    }

    #[test]
    fn what_is_no_answer_is_named() {
        let trouble = |data: &str| Reading::new(Route::Chat, false).take(data.as_bytes()).unwrap_err();
        assert!(matches!(trouble("<html>"), Trouble::Garbage(_)));
        assert_eq!(trouble(r#"{"error":{"message":"busy"}}"#), Trouble::BrokenOff("busy".into()));
        let filtered = r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#;
        assert!(matches!(trouble(filtered), Trouble::BrokenOff(what) if what.contains("content_filter")));
        let nameless = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{}}]}}]}"#;
        assert!(matches!(trouble(nameless), Trouble::Garbage(what) if what.contains("name")));
        let mut reading = Reading::new(Route::Chat, false);
        assert_eq!(reading.ended(), None, "nothing came: it was cut");
        assert!(reading.take(b" [DONE]").unwrap().is_empty() && reading.ended() == Some(Finish::Stop));
    }

    #[test]
    fn vectors_are_as_many_as_inputs() {
        let read = |data: Value, inputs| Vectors::read(json!({"data": data}).to_string().as_bytes(), inputs);
        let two = json!([{"index": 1, "embedding": [0.5]}, {"index": 0, "embedding": [1.0]}]);
        assert_eq!(read(two.clone(), 2).unwrap(), (vec![vec![1.0], vec![0.5]], None));
        assert!(read(two.clone(), 3).is_err() && read(two, 1).is_err());
        assert!(read(json!([{"embedding": "AAA"}]), 1).is_err());
    }
}
