//! Between this crate's words and the protocol's: facts of files, messages, and failures.
//!
//! What never lives here: decisions.

use hone_protocol::dataset;
use hone_protocol::embed::Pooling;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::ModelFacts;
use hone_protocol::value::Hash;
use sha2::{Digest, Sha256};

use crate::gguf::GgufError;
use crate::inspect::{self, AdapterFacts, Facts, InspectError};
use crate::serve::{EngineError, LlamaError, Refusal};
use crate::template::{ChatMessage, ChatTemplate, TemplateError, TemplateFacts};
use crate::train::{CheckpointError, TrainError};
use crate::vocab::{Vocab, VocabError};

/// A file's facts as the protocol tells them. An adapter has no layers of its own.
pub(super) fn of_file(facts: &Facts) -> ModelFacts {
    match facts {
        Facts::Adapter(adapter) => of_adapter(adapter),
        Facts::Model(model) => ModelFacts {
            architecture: model.architecture.clone(),
            name: model.name.clone(),
            licence: model.license.clone(),
            parameters: model.parameters,
            layers: small(model.layers),
            context_tokens: small(model.context_tokens),
            vocabulary: model.tokenizer.as_ref().map_or(0, |t| small(t.size as u64)),
            embedding: small(model.embedding_width),
            tensor_types: model.types.iter().map(|t| (t.type_name.clone(), small(t.tensors as u64))).collect(),
            kv_bytes_per_token: model.kv_bytes_per_token,
            size_bytes: model.file_bytes,
            has_chat_template: model.chat_template.is_some(),
            template_sha256: Hash(model.chat_template_sha256.unwrap_or_else(hash_of_nothing)),
            trainable: model.untrainable.clone().map_or(Ok(()), Err),
            pooling: model.is_encoder.then(|| of_pooling(model.pooling)),
        },
    }
}

fn of_adapter(adapter: &AdapterFacts) -> ModelFacts {
    ModelFacts {
        architecture: adapter.architecture.clone(),
        name: adapter.name.clone(),
        licence: String::new(),
        parameters: adapter.parameters,
        layers: 0,
        context_tokens: 0,
        vocabulary: 0,
        embedding: 0,
        tensor_types: vec![("F32".into(), small(2 * adapter.pairs as u64))],
        kv_bytes_per_token: 0,
        size_bytes: adapter.file_bytes,
        has_chat_template: false,
        template_sha256: Hash(hash_of_nothing()),
        trainable: Err("an adapter is trained by training its base".into()),
        pooling: None,
    }
}

/// Where the file does not say, the engine takes the mean.
fn of_pooling(pooling: Option<inspect::Pooling>) -> Pooling {
    match pooling {
        None | Some(inspect::Pooling::Mean) => Pooling::Mean,
        Some(inspect::Pooling::First) => Pooling::First,
        Some(inspect::Pooling::Last) => Pooling::Last,
    }
}

fn hash_of_nothing() -> [u8; 32] {
    Sha256::digest(b"").into()
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Messages as the renderer takes them.
pub(super) fn messages(messages: &[dataset::ChatMessage]) -> Vec<ChatMessage> {
    messages.iter().map(|m| ChatMessage::new(&m.role, &m.content)).collect()
}

/// The chat template of a model.
pub(super) fn template(facts: &Facts, vocab: &Vocab) -> Result<ChatTemplate, Failure> {
    let source = match facts {
        Facts::Model(model) => model.chat_template.as_deref(),
        Facts::Adapter(_) => None,
    };
    let source = source.ok_or_else(|| Failure::new(FailureCode::TemplateFailed, "this model has no chat template"))?;
    ChatTemplate::new(source, TemplateFacts::of(vocab)).map_err(of_template)
}

pub(super) fn of_template(error: TemplateError) -> Failure {
    let code = match &error {
        TemplateError::Role { .. } | TemplateError::MessageCount { .. } => FailureCode::InvalidRequest,
        TemplateError::Vocab(VocabError::TextTooLong { .. }) | TemplateError::OutputTooLong => {
            FailureCode::ContextExceeded
        }
        _ => FailureCode::TemplateFailed,
    };
    let place = match &error {
        TemplateError::Role { message, .. } => format!("messages[{message}].role"),
        TemplateError::ControlText { message, .. } => format!("messages[{message}].content"),
        TemplateError::ControlInTools { .. } => "tools".into(),
        _ => "messages".into(),
    };
    Failure::new(code, error.to_string()).at(place)
}

pub(super) fn of_inspect(error: InspectError) -> Failure {
    match error {
        InspectError::Gguf(error) => of_gguf(error),
        other => Failure::new(FailureCode::BadFile, other.to_string()),
    }
}

/// Whether the system refuses more bytes: no space, a quota, a limit on files.
pub(super) fn disk_is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

pub(super) fn of_gguf(error: GgufError) -> Failure {
    let code = match &error {
        GgufError::Io { source, .. } if disk_is_full(source) => {
            return Failure::new(FailureCode::DiskFull, error.to_string()).hint(HintCode::FreeDisk);
        }
        GgufError::Io { .. } => FailureCode::FileUnreadable,
        _ => FailureCode::BadFile,
    };
    Failure::new(code, error.to_string())
}

pub(super) fn of_vocab(error: VocabError) -> Failure {
    match error {
        VocabError::Load(error) => of_llama(&error),
        other => Failure::new(FailureCode::InvalidRequest, other.to_string()),
    }
}

pub(super) fn of_llama(error: &LlamaError) -> Failure {
    let (code, hint) = match error {
        LlamaError::ModelLoad { .. } | LlamaError::AdapterLoad { .. } => (FailureCode::BadFile, None),
        LlamaError::Path { .. } => (FailureCode::FileUnreadable, None),
        LlamaError::Context { .. } => (FailureCode::DoesNotFit, Some(HintCode::ReduceMemory)),
        _ => (FailureCode::Internal, Some(HintCode::ReadLog)),
    };
    let failure = Failure::new(code, error.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

pub(super) fn of_engine(error: EngineError) -> Failure {
    match error {
        EngineError::Llama(error) => of_llama(&error),
        EngineError::Params { field, .. } => Failure::field(field, error.to_string()),
        EngineError::AdapterBusy { .. } => Failure::new(FailureCode::InUse, error.to_string()),
    }
}

pub(super) fn of_refusal(error: &Refusal) -> Failure {
    let text = error.to_string();
    match error {
        Refusal::PromptTooLong { prompt_tokens, context_tokens } => Failure::new(FailureCode::ContextExceeded, text)
            .at("messages")
            .arg("prompt_tokens", prompt_tokens)
            .arg("context_tokens", context_tokens)
            .hint(HintCode::ShortenPrompt),
        Refusal::InputTooLong { index, tokens, tokens_max } => Failure::new(FailureCode::ContextExceeded, text)
            .at(format!("input[{index}]"))
            .arg("prompt_tokens", tokens)
            .arg("context_tokens", tokens_max)
            .hint(HintCode::ShortenPrompt),
        Refusal::EmptyInput { index } => Failure::field(&format!("input[{index}]"), text),
        Refusal::Encoder => Failure::new(FailureCode::InvalidRequest, text).at("model"),
        Refusal::NoContext { .. } => Failure::new(FailureCode::DoesNotFit, text).hint(HintCode::ReduceMemory),
        Refusal::QueueFull { waiting } => {
            Failure::new(FailureCode::Overloaded, text).arg("waiting", waiting).hint(HintCode::TryAgain)
        }
        Refusal::Sampling(wrong) => Failure::field(wrong.field, text),
        Refusal::MaxTokens => Failure::field("tokens_max", text),
        Refusal::Stop { index, .. } => Failure::field(&format!("stop[{index}]"), text),
        Refusal::Grammar(_) => Failure::field("response_format", text),
        Refusal::Bias { .. } => Failure::field("logit_bias", text),
        Refusal::UnknownAdapter { .. } => Failure::new(FailureCode::NotFound, text).at("adapter"),
        Refusal::Empty | Refusal::Token { .. } | Refusal::Trained { .. } | Refusal::IdInUse { .. } => {
            Failure::new(FailureCode::InvalidRequest, text)
        }
    }
}

pub(super) fn of_train(error: TrainError) -> Failure {
    let text = error.to_string();
    match error {
        TrainError::Params(wrong) => Failure::field(wrong.field, text),
        TrainError::Arch(_) => Failure::new(FailureCode::UnsupportedArchitecture, text),
        TrainError::Gguf(error) => of_gguf(error),
        TrainError::Model { .. } => Failure::new(FailureCode::BadFile, text),
        TrainError::Row { row_id, .. } => Failure::new(FailureCode::InvalidRequest, text).at(format!("row {row_id}")),
        TrainError::NoRows { .. } => Failure::new(FailureCode::NoRows, text),
        TrainError::DoesNotFit { .. } | TrainError::Backend(_) => {
            Failure::new(FailureCode::DoesNotFit, text).hint(HintCode::ReduceMemory)
        }
        TrainError::NotFinite { step, .. } | TrainError::Diverged { step, .. } => {
            Failure::new(FailureCode::Diverged, text).arg("step", step).hint(HintCode::LowerLearningRate)
        }
        TrainError::Checkpoint(CheckpointError::Io { source, .. }) if disk_is_full(&source) => {
            Failure::new(FailureCode::DiskFull, text).hint(HintCode::FreeDisk)
        }
        TrainError::Checkpoint(_) => Failure::new(FailureCode::BadCheckpoint, text),
    }
}
