//! What a server is asked to generate and how its answer is told: prompts, conversations with tools, how tokens are
//! chosen, what an answer must look like, log-probabilities. Never here: shapes of HTTP, prices, the engine.

use serde::{Deserialize, Serialize};

use crate::dataset::ChatMessage;
use crate::failure::Failure;
use crate::value::{Bytes, Hash, Json};

/// Most log-probabilities of other tokens beside each token.
pub const TOP_CHANCES_MAX: u32 = 20;
/// Most entries of [`Wish::logit_bias`]; more are refused.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Most tools of one request; more are refused.
pub const TOOLS_MAX: usize = 128;
/// Most calls in one answer: the grammar ends it there.
pub const CALLS_MAX: u32 = 16;

/// One request to a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateTask {
    /// Chosen by the daemon, unique in the life of the process.
    pub request: u64,
    /// Adapter number; none for the base.
    pub adapter: Option<u32>,
    /// What to go on from.
    pub prompt: Prompt,
    /// How.
    pub wish: Wish,
    /// Whose cache it may share: one value per application. Prefixes never cross it.
    pub scope: Hash,
    /// Whose turn it is.
    pub turn: Share,
}

/// Whose share of a process a request is, where more wait than there are slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// One number per application.
    pub owner: u64,
    /// Its weight among those that wait, from 1; 0 counts as 1.
    pub weight: u32,
}

/// What an answer goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A conversation, rendered by the worker with the model's template and a generation prompt.
    Chat(Box<ChatPrompt>),
    /// Text as it stands, with the model's begin token in front where the model wants one.
    Text {
        /// The text.
        text: String,
        /// Whether the spelling of a control token in it becomes that token.
        parse_special: bool,
        /// Whether the begin token is put in front.
        add_special: bool,
    },
    /// Tokens as they are.
    Tokens(Vec<i32>),
}

impl Prompt {
    /// A conversation without tools.
    pub fn chat(messages: Vec<ChatMessage>) -> Prompt {
        let turns = messages.into_iter().map(Turn::from).collect();
        Prompt::Chat(Box::new(ChatPrompt { turns, ..ChatPrompt::default() }))
    }
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatPrompt {
    /// The messages; never empty.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel_calls: bool,
    /// Further variables of the template, such as `enable_thinking`: an object.
    pub variables: Json,
}

impl Default for ChatPrompt {
    fn default() -> Self {
        ChatPrompt {
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_calls: true,
            variables: Json(serde_json::Value::Object(serde_json::Map::new())),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text; empty beside calls.
    pub content: String,
    /// Calls that the assistant made.
    pub calls: Vec<Call>,
    /// For a result: the call that it belongs to.
    pub call_id: Option<String>,
}

impl From<ChatMessage> for Turn {
    fn from(message: ChatMessage) -> Turn {
        Turn { role: message.role, content: message.content, calls: Vec::new(), call_id: None }
    }
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// What the client names it.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// The arguments: an object.
    pub arguments: Json,
}

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// JSON schema of the arguments; null where there is none.
    pub parameters: Json,
    /// Whether a schema that cannot be kept to is refused rather than loosened to any object.
    pub strict: bool,
}

/// Whether a tool must be called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// No calls.
    None,
    /// At least one call.
    Required,
    /// A call of this tool.
    Named(String),
}

/// How to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Longest answer in tokens. 0 only with `echo`.
    pub tokens_max: u32,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Keep tokens whose surprise is near the expected one, up to this share of the probability: above 0 up to 1, 1
    /// for all (locally typical sampling, Meister et al. 2022).
    pub typical_p: f32,
    /// Added to the logits of these tokens, -100 to 100.
    pub logit_bias: Vec<(i32, f32)>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// What the answer must look like.
    pub format: Format,
    /// Log-probabilities of the answer's tokens, with so many of the likeliest beside each.
    pub chances: Option<u32>,
    /// Give the prompt back first, with log-probabilities if `chances` asks for them.
    pub echo: bool,
    /// Go on after the end mark (for measuring).
    pub ignore_end: bool,
    /// Tell what the prompt is as text, template applied, once.
    pub tell_prompt: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Wish {
            tokens_max: u32::MAX,
            sampling: Sampling::default(),
            typical_p: 1.0,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            format: Format::Text,
            chances: None,
            echo: false,
            ignore_end: false,
            tell_prompt: false,
        }
    }
}

impl Wish {
    /// Names the first field outside its range.
    pub fn check(&self) -> Result<(), Failure> {
        self.sampling.check()?;
        let outside = |field: &str, rule: String| Err(Failure::field(field, rule));
        if !(f32::MIN_POSITIVE..=1.0).contains(&self.typical_p) {
            return outside("typical_p", format!("typical_p is {}; it must be above 0 and at most 1", self.typical_p));
        }
        if self.logit_bias.len() > LOGIT_BIAS_MAX {
            let count = self.logit_bias.len();
            return outside(
                "logit_bias",
                format!("logit_bias has {count} entries; at most {LOGIT_BIAS_MAX} are taken"),
            );
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(bias)) {
            return outside("logit_bias", format!("logit_bias[{token}] is {bias}; it must be between -100 and 100"));
        }
        if self.chances.is_some_and(|top| top > TOP_CHANCES_MAX) {
            return outside("top_logprobs", format!("at most {TOP_CHANCES_MAX} log-probabilities are told per token"));
        }
        Ok(())
    }
}

/// A prompt as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PromptText {
    /// Its text, control tokens spelled out; bytes that are no UTF-8 became U+FFFD.
    pub text: String,
    /// Where control tokens stand in it: first byte, and the first byte after.
    pub control: Vec<(u32, u32)>,
    /// Its tokens.
    pub tokens: u32,
}

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As the model likes.
    Text,
    /// A JSON object.
    Object,
    /// A JSON document of this schema.
    Schema(Json),
}

/// What a piece of an answer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The answer itself.
    Text,
    /// What the model thought before it.
    Reasoning,
    /// A call begins: its text is empty.
    Call {
        /// Which call of this answer, from 0.
        index: u32,
        /// Name of the tool.
        name: String,
    },
    /// A piece of the arguments of a call: of a JSON object.
    Arguments {
        /// Which call of this answer, from 0.
        index: u32,
    },
}

/// How likely a token was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenChance {
    /// The token.
    pub token: i32,
    /// Its bytes, which need not be whole characters.
    pub bytes: Bytes,
    /// Natural logarithm of its probability before any sampler; none for the first token of a prompt.
    pub ln_p: Option<f32>,
    /// The likeliest tokens in its place, the likeliest first.
    pub top: Vec<(i32, Bytes, f32)>,
}

/// What tokenizers of clients ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerFacts {
    /// Spelling of the begin token; empty where there is none.
    pub bos: String,
    /// Spelling of the end token; empty where there is none.
    pub eos: String,
    /// Spelling of the padding token; empty where there is none.
    pub pad: String,
    /// Whether every text begins with the begin token.
    pub adds_bos: bool,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Source of the chat template; empty where there is none.
    pub chat_template: String,
}

/// How to choose tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy; up to 2.
    pub temperature: f32,
    /// Share of the probability to keep, above 0 up to 1.
    pub top_p: f32,
    /// Tokens to keep; 0 for all.
    pub top_k: u32,
    /// Least probability relative to the best, 0 to 1.
    pub min_p: f32,
    /// Penalty on repeated tokens, -2 to 2.
    pub frequency_penalty: f32,
    /// Penalty on tokens that occurred, -2 to 2.
    pub presence_penalty: f32,
    /// Multiplicative penalty on tokens of the last 64; 1 for none.
    pub repeat_penalty: f32,
    /// Same seed, same answer (same worker and load); none for chance.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_penalty: 1.0,
            seed: None,
        }
    }
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// Names the first field outside its range.
    pub fn check(&self) -> Result<(), Failure> {
        let inside = |name: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Failure::field(name, format!("{name} is {value}; it must be between {low} and {high}")))
            }
        };
        inside("temperature", self.temperature, 0.0, 2.0)?;
        inside("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        inside("min_p", self.min_p, 0.0, 1.0)?;
        inside("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        inside("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        inside("repeat_penalty", self.repeat_penalty, 0.5, 2.0)
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// An end mark.
    Stop,
    /// A stop text: which of the request's.
    StopText(u32),
    /// The longest answer or the end of the context.
    Length,
    /// By wish.
    Cancelled,
    /// The answer calls tools.
    Calls,
    /// A guard ended it.
    Filtered,
}

impl Finish {
    /// The word of the OpenAI protocol.
    pub fn word(self) -> &'static str {
        match self {
            Finish::Stop | Finish::StopText(_) => "stop",
            Finish::Length => "length",
            Finish::Cancelled => "cancelled",
            Finish::Calls => "tool_calls",
            Finish::Filtered => "content_filter",
        }
    }
}
