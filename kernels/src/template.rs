//! The one renderer of chat templates, for training and for serving: messages in, segments of text
//! and tokens out, with the template's markup and the users' words kept apart.
//!
//! How they are kept apart: the template is rendered once with the true contents and once with an
//! unguessable placeholder in place of each content. The second rendering shows where contents go;
//! putting the contents there must give the first rendering. Markup may then become control tokens,
//! content never.
//!
//! What never lives here: tokenizer internals (see `vocab`), sampling, HTTP shapes.

mod align;
mod env;
mod row;

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::vocab::{Vocab, VocabError};

pub use row::{LossOn, RowPart, TrainingRow};

/// Most bytes of a template's source.
pub const SOURCE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes that a rendering may have; a rendering that would be longer fails.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Instructions that one rendering may execute; one that would need more fails.
pub const FUEL: u64 = 4_000_000;
/// Depth of nested macro calls and blocks; a deeper rendering fails.
pub const RECURSION_MAX: usize = 100;
/// Most messages in one conversation.
pub const MESSAGES_MAX: usize = 4096;
/// Longest role, in bytes.
pub const ROLE_BYTES_MAX: usize = 32;

/// Why a template could not be compiled or rendered, or its rendering not be tokenised.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The source is longer than `SOURCE_BYTES_MAX`.
    #[error("the chat template has {bytes} bytes, more than {SOURCE_BYTES_MAX}")]
    SourceTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The template does not compile.
    #[error("chat template line {line}: {detail}")]
    Syntax {
        /// Line in the template, from 1; 0 where unknown.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// The template compiles and fails while rendering.
    #[error("chat template line {line}: {detail}")]
    Render {
        /// Line in the template, from 1; 0 where unknown.
        line: usize,
        /// What went wrong.
        detail: String,
    },
    /// The template itself refused the messages (`raise_exception`).
    #[error("the chat template refused these messages: {message}")]
    Raised {
        /// Its own words.
        message: String,
    },
    /// The template needed more than `FUEL` instructions.
    #[error("the chat template ran for more than {FUEL} instructions\nhint: it loops; use another template")]
    OutOfFuel,
    /// The rendering is longer than `OUTPUT_BYTES_MAX`.
    #[error("the rendered prompt is longer than {OUTPUT_BYTES_MAX} bytes")]
    OutputTooLong,
    /// A conversation without messages, or with too many.
    #[error("{count} messages; a conversation has 1 to {MESSAGES_MAX}")]
    MessageCount {
        /// How many there are.
        count: usize,
    },
    /// A role that is no plain word.
    #[error(
        "messages[{message}].role {role:?} must be 1 to {ROLE_BYTES_MAX} of a-z, 0-9, _ and -, starting with a letter"
    )]
    Role {
        /// Index of the message.
        message: usize,
        /// The role as given.
        role: String,
    },
    /// The template rewrites contents and a content holds the text of a control token, so that it
    /// cannot be told from the template's own.
    #[error(
        "messages[{message}].content holds {token:?}, a control token of this model, and the chat template rewrites contents, so the two cannot be kept apart\nhint: remove that text from the message"
    )]
    ControlText {
        /// Index of the message.
        message: usize,
        /// The control token's text.
        token: String,
    },
    /// A tool or a call holds the text of a control token; the template writes it between its own.
    #[error("the tools or calls hold {token:?}, a control token of this model\nhint: remove that text from them")]
    ControlInTools {
        /// The control token's text.
        token: String,
    },
    /// The template rewrites contents in a way that changes the number of control tokens.
    #[error("the chat template rewrites contents so that control tokens appear or vanish\nhint: use another template")]
    ControlTokensDiffer,
    /// The template rewrites contents, so a training row cannot say which tokens an answer has.
    #[error(
        "the chat template rewrites the contents of this conversation, so the trained tokens cannot be marked\nhint: see which message it changes by showing the row as text"
    )]
    ContentRewritten,
    /// Tokenising failed.
    #[error(transparent)]
    Vocab(#[from] VocabError),
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl ChatMessage {
    /// A message of `role` saying `content`.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.to_owned(), content: content.to_owned() }
    }
}

/// What a rendering may have beside roles and contents.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Fields of the messages beside role and content, such as `tool_calls`; as long as the messages, or empty.
    pub fields: Vec<Map<String, Json>>,
    /// What the model may call, in the form of the OpenAI protocol.
    pub tools: Option<Json>,
    /// Further variables, such as `enable_thinking`. They never replace the renderer's own.
    pub variables: Map<String, Json>,
}

/// Who wrote a stretch of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// The template: may become control tokens.
    Markup,
    /// A message's content: never becomes control tokens.
    Content,
}

/// A stretch of the rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its text.
    pub text: String,
    /// Who wrote it.
    pub kind: SegmentKind,
    /// The message whose content it is; `None` for markup.
    pub message: Option<usize>,
}

/// Texts of the vocabulary that a template may print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateFacts {
    /// Text of the begin-of-text token, or empty.
    pub bos_token: String,
    /// Text of the end-of-text token, or empty.
    pub eos_token: String,
}

impl TemplateFacts {
    /// The facts of a vocabulary.
    pub fn of(vocab: &Vocab) -> Self {
        let named = vocab.named();
        Self { bos_token: vocab.spelling(named.bos), eos_token: vocab.spelling(named.eos) }
    }
}

/// What a template was seen to do with three fixed conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateTraits {
    /// A first message of role `system` is rendered and not refused or dropped.
    pub takes_system: bool,
    /// Contents go through unchanged or trimmed, so that trained tokens can be marked.
    pub keeps_contents: bool,
    /// The prompt of a later turn starts with the rendering of the earlier ones: what training sees
    /// before an answer is what serving sends.
    pub prompt_matches_history: bool,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    facts: TemplateFacts,
    sha256: [u8; 32],
    source: String,
}

impl ChatTemplate {
    /// Compiles `source` as Hugging Face does: blocks trimmed, `raise_exception`, `strftime_now`,
    /// Python's string methods, `tojson` with Python's spacing; `{% generation %}` tags are ignored.
    pub fn new(source: &str, facts: TemplateFacts) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::SourceTooLong { bytes: source.len() });
        }
        let sha256 = Sha256::digest(source.as_bytes()).into();
        Ok(Self { env: env::environment(source)?, facts, sha256, source: source.to_owned() })
    }

    /// The source as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the source as given.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The prompt as one text, without knowing who wrote what. For showing only.
    pub fn render_text(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TemplateError> {
        check_messages(messages)?;
        self.render_raw(messages.iter().map(as_pair), &Extras::default(), add_generation_prompt)
    }

    /// The prompt in segments. `None` where the template rewrites contents beyond trimming them, so
    /// that markup and content cannot be told apart.
    pub fn segments(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Option<Vec<Segment>>, TemplateError> {
        check_messages(messages)?;
        let none = Extras::default();
        let truth = self.render_raw(messages.iter().map(as_pair), &none, add_generation_prompt)?;
        self.align(&truth, messages, &none, add_generation_prompt).map(|(segments, _)| segments)
    }

    /// The prompt in segments, ready to tokenise. Where the template rewrites contents, the whole
    /// rendering is one segment of markup, allowed only if no content holds a control token's text
    /// and the number of control tokens does not depend on the contents.
    pub fn render(
        &self,
        vocab: &Vocab,
        messages: &[ChatMessage],
        extras: &Extras,
        add_generation_prompt: bool,
    ) -> Result<Vec<Segment>, TemplateError> {
        check_messages(messages)?;
        check_extras(vocab, extras)?;
        let truth = self.render_raw(messages.iter().map(as_pair), extras, add_generation_prompt)?;
        let (segments, masked) = self.align(&truth, messages, extras, add_generation_prompt)?;
        if let Some(segments) = segments {
            return Ok(segments);
        }
        for (message, m) in messages.iter().enumerate() {
            if let Some(token) = vocab.control_text_in(&m.content) {
                return Err(TemplateError::ControlText { message, token: token.text.clone() });
            }
        }
        if control_count(vocab, &truth)? != control_count(vocab, &masked)? {
            return Err(TemplateError::ControlTokensDiffer);
        }
        Ok(vec![Segment { text: truth, kind: SegmentKind::Markup, message: None }])
    }

    /// The prompt as tokens, with the model's begin token in front where it wants one and the
    /// template did not write it.
    pub fn tokens(
        &self,
        vocab: &Vocab,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<i32>, TemplateError> {
        let segments = self.render(vocab, messages, &Extras::default(), add_generation_prompt)?;
        self.spell(vocab, &segments)
    }

    /// The tokens of a prompt that was rendered in segments, as [`ChatTemplate::tokens`] gives them.
    pub fn spell(&self, vocab: &Vocab, segments: &[Segment]) -> Result<Vec<i32>, TemplateError> {
        let mut tokens = Vec::new();
        for segment in segments {
            tokens.extend(vocab.tokenize(&segment.text, segment.kind == SegmentKind::Markup)?);
        }
        if let Some(bos) = missing_bos(vocab, &tokens) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// A conversation as a row to train on, with the tokens that carry loss marked: every answer, or the last, and
    /// the end-of-turn token after it.
    pub fn training_row(
        &self,
        vocab: &Vocab,
        messages: &[ChatMessage],
        loss_on: LossOn,
    ) -> Result<TrainingRow, TemplateError> {
        let segments = self.segments(messages, false)?.ok_or(TemplateError::ContentRewritten)?;
        row::build(self, vocab, messages, segments, loss_on)
    }

    /// Tries three fixed conversations. An error means that the template cannot render even a plain
    /// question and answer.
    pub fn probe(&self) -> Result<TemplateTraits, TemplateError> {
        let message = |role, text| ChatMessage::new(role, text);
        let turns = [
            message("user", "First question?"),
            message("assistant", "First answer."),
            message("user", "Second question?"),
            message("assistant", "Second answer."),
        ];
        let whole = self.render_text(&turns, false)?;
        let prompt = self.render_text(&turns[..3], true)?;
        let keeps_contents = self.segments(&turns, false)?.is_some();
        let marked = [message("system", "Answer in verse."), turns[0].clone()];
        let takes_system = self.render_text(&marked, true).is_ok_and(|text| text.contains("Answer in verse."));
        Ok(TemplateTraits { takes_system, keeps_contents, prompt_matches_history: whole.starts_with(&prompt) })
    }

    /// Whether the template knows tools and writes calls as `open`, a line end, `{"name": NAME, "arguments": OBJECT}`.
    pub fn writes_calls(&self, open: &str) -> bool {
        const NAME: &str = "probe_of_tools";
        let messages = [ChatMessage::new("user", "Question?"), ChatMessage::new("assistant", "")];
        let function = json!({"name": NAME, "arguments": {"probe_key": 1}});
        let calls = json!([{"type": "function", "id": "call_1", "function": function}]);
        let tool = json!({"name": NAME, "description": "Probe.", "parameters": {"type": "object", "properties": {}}});
        let extras = Extras {
            fields: vec![Map::new(), Map::from_iter([("tool_calls".to_owned(), calls)])],
            tools: Some(json!([{"type": "function", "function": tool}])),
            variables: Map::new(),
        };
        let call = format!("{open}\n{{\"name\": \"{NAME}\", \"arguments\": {{\"probe_key\": 1}}}}");
        let text = self.render_raw(messages.iter().map(as_pair), &extras, false);
        text.is_ok_and(|text| text.matches(NAME).count() >= 2 && text.contains(&call))
    }

    /// Renders with placeholders and aligns the result with `truth`. Also gives the rendering with
    /// placeholders.
    fn align(
        &self,
        truth: &str,
        messages: &[ChatMessage],
        extras: &Extras,
        add_generation_prompt: bool,
    ) -> Result<(Option<Vec<Segment>>, String), TemplateError> {
        let contents: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        let placeholders = align::placeholders(&contents);
        let pairs = messages.iter().zip(&placeholders).map(|(m, p)| (m.role.as_str(), p.as_str()));
        let masked = match self.render_raw(pairs, extras, add_generation_prompt) {
            Ok(masked) => masked,
            // A template may refuse the placeholder where it took the content; then the two cannot
            // be told apart, which the caller deals with.
            Err(TemplateError::Raised { .. } | TemplateError::Render { .. }) => {
                return Ok((None, String::new()));
            }
            Err(e) => return Err(e),
        };
        Ok((align::segments(truth, &masked, &placeholders, &contents), masked))
    }

    fn render_raw<'m>(
        &self,
        messages: impl Iterator<Item = (&'m str, &'m str)>,
        extras: &Extras,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let none = Map::new();
        let with_fields = |(index, (role, content)): (usize, (&str, &str))| {
            let more = extras.fields.get(index).unwrap_or(&none);
            let more = more.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
            Value::from_pairs([("role", Value::from(role)), ("content", Value::from(content))].into_iter().chain(more))
        };
        let messages: Vec<Value> = messages.enumerate().map(with_fields).collect();
        let variables = extras.variables.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        let own = [
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("bos_token", Value::from(self.facts.bos_token.as_str())),
            ("eos_token", Value::from(self.facts.eos_token.as_str())),
            ("tools", extras.tools.as_ref().map_or(Value::from(()), |tools| Value::from(Serde(tools)))),
            ("documents", Value::from(())),
        ];
        env::render(&self.env, Value::from_pairs(variables.chain(own)))
    }
}

fn as_pair(message: &ChatMessage) -> (&str, &str) {
    (message.role.as_str(), message.content.as_str())
}

fn check_messages(messages: &[ChatMessage]) -> Result<(), TemplateError> {
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return Err(TemplateError::MessageCount { count: messages.len() });
    }
    for (message, m) in messages.iter().enumerate() {
        let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
        let starts = m.role.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || m.role.len() > ROLE_BYTES_MAX || !m.role.chars().all(plain) {
            return Err(TemplateError::Role { message, role: m.role.chars().take(2 * ROLE_BYTES_MAX).collect() });
        }
    }
    Ok(())
}

/// What the template writes as its own must hold no control token of a stranger's.
fn check_extras(vocab: &Vocab, extras: &Extras) -> Result<(), TemplateError> {
    let mut texts: Vec<String> = extras.fields.iter().filter(|f| !f.is_empty()).map(|f| json!(f).to_string()).collect();
    texts.extend(extras.tools.as_ref().map(Json::to_string));
    texts.push(json!(extras.variables).to_string());
    match texts.iter().find_map(|text| vocab.control_text_in(text)) {
        Some(token) => Err(TemplateError::ControlInTools { token: token.text.clone() }),
        None => Ok(()),
    }
}

fn control_count(vocab: &Vocab, text: &str) -> Result<usize, TemplateError> {
    let tokens = vocab.tokenize(text, true)?;
    Ok(tokens.iter().filter(|&&t| vocab.is_control(t)).count())
}

/// The begin token, if the model wants one and `tokens` does not start with it.
fn missing_bos(vocab: &Vocab, tokens: &[i32]) -> Option<i32> {
    let bos = vocab.named().bos?;
    (vocab.wants_bos() && tokens.first() != Some(&bos)).then_some(bos)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
