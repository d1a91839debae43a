//! `hone model init`: a small model from nothing. Its sizes and what it weighs are said before the job begins. Never here: which
//! sizes are possible, which the protocol and the daemon say.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hone_protocol::blueprint::{Blueprint, NewArchitecture, SIZES, Size, Tokens};
use hone_protocol::convert::{Conversion, WeightsFormat};
use hone_protocol::failure::Failure;

use super::context::Context;
use super::{convert, model};
use crate::print::{self, Outcome};

/// Make a small model from nothing, to be pre-trained.
///
/// A size gives all numbers; each can be set apart. Tokens are learnt from the texts of a dataset (byte pairs, with ChatML), or
/// taken over from a model with its chat template. Weights are drawn at random, the same for the same seed. Train it with
/// method pretrain and tuning full.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model init novelist --size small --learn-from novels\n  hone model init twin --size tiny --layers 8 --tokens-of smollm2-135m@1"
)]
pub(super) struct Init {
    /// Name of the model that gets the version.
    name: String,
    /// Sizes by name: about 1, 10, 50 and 135 million parameters.
    #[arg(long, value_name = "SIZE", default_value = "small", value_parser = sizes())]
    size: &'static Size,
    /// Family of the model.
    #[arg(long, value_name = "NAME", default_value = "llama", value_parser = architectures())]
    architecture: NewArchitecture,
    /// Learn tokens from the texts of this dataset.
    #[arg(long, value_name = "DATASET", required_unless_present = "tokens_of")]
    learn_from: Option<String>,
    /// Tokens to learn, at most [default: that of the size].
    #[arg(long, value_name = "TOKENS", requires = "learn_from")]
    vocabulary: Option<u32>,
    /// Take over tokens and chat template of this model: NAME, NAME@NUMBER or NAME:ALIAS.
    #[arg(long, value_name = "MODEL", conflicts_with = "learn_from")]
    tokens_of: Option<String>,
    /// Transformer blocks.
    #[arg(long, value_name = "COUNT")]
    layers: Option<u32>,
    /// Width of embeddings, a multiple of 32.
    #[arg(long, value_name = "WIDTH")]
    embedding: Option<u32>,
    /// Query heads; each has a multiple of 16 values.
    #[arg(long, value_name = "COUNT")]
    heads: Option<u32>,
    /// Key and value heads.
    #[arg(long, value_name = "COUNT")]
    kv_heads: Option<u32>,
    /// Width inside the feed-forward block, a multiple of 32.
    #[arg(long, value_name = "WIDTH")]
    feed_forward: Option<u32>,
    /// Longest context in tokens.
    #[arg(long, value_name = "TOKENS")]
    context_tokens: Option<u32>,
    /// How matrices are stored.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16", ignore_case = true, value_parser = formats())]
    weights: WeightsFormat,
    /// The same seed draws the same weights.
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    seed: u64,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

impl Init {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let blueprint = self.blueprint();
        blueprint.check()?;
        let (tokens, most) = match (self.learn_from, self.tokens_of) {
            (Some(dataset), _) => {
                let vocabulary = self.vocabulary.unwrap_or(self.size.vocabulary);
                (Tokens::Learn { dataset, vocabulary }, vocabulary)
            }
            (None, Some(version)) => {
                let most = model::vocabulary(context, &version)?;
                (Tokens::Of { version }, most)
            }
            (None, None) => return Err(Failure::field("--learn-from", "say where tokens come from").into()),
        };
        tell(context, &blueprint, most, self.weights);
        let name = model::name_or(Some(self.name), String::new())?;
        let conversion = Conversion::Init { blueprint, tokens, format: self.weights, seed: self.seed, name };
        convert::submit(context, "init", conversion, self.detach)
    }

    fn blueprint(&self) -> Blueprint {
        let named = self.size.blueprint(self.architecture);
        Blueprint {
            architecture: self.architecture,
            layers: self.layers.unwrap_or(named.layers),
            embedding: self.embedding.unwrap_or(named.embedding),
            heads: self.heads.unwrap_or(named.heads),
            kv_heads: self.kv_heads.unwrap_or(named.kv_heads),
            feed_forward: self.feed_forward.unwrap_or(named.feed_forward),
            context_tokens: self.context_tokens.unwrap_or(named.context_tokens),
        }
    }
}

/// Sizes, parameters and bytes, before anything begins.
fn tell(context: &Context, blueprint: &Blueprint, vocabulary: u32, format: WeightsFormat) {
    let parameters = blueprint.parameters(vocabulary);
    let bytes = parameters * if format == WeightsFormat::F32 { 4 } else { 2 };
    let sizes = [
        ("architecture", blueprint.architecture.word().to_owned()),
        ("layers", blueprint.layers.to_string()),
        ("width", blueprint.embedding.to_string()),
        ("tokens", vocabulary.to_string()),
        ("parameters", print::count(parameters)),
        ("size", print::bytes(bytes)),
    ];
    let args: Vec<(&str, &str)> = sizes.iter().map(|(name, value)| (*name, value.as_str())).collect();
    context.say("cli.init_sizes", &args);
}

fn sizes() -> impl TypedValueParser<Value = &'static Size> {
    let words: Vec<&str> = SIZES.iter().map(|size| size.word).collect();
    PossibleValuesParser::new(words).try_map(|word| Size::named(&word).ok_or("no such size"))
}

fn architectures() -> impl TypedValueParser<Value = NewArchitecture> {
    PossibleValuesParser::new(["llama", "qwen3"]).map(|word| match word.as_str() {
        "qwen3" => NewArchitecture::Qwen3,
        _ => NewArchitecture::Llama,
    })
}

fn formats() -> impl TypedValueParser<Value = WeightsFormat> {
    PossibleValuesParser::new(["f32", "f16", "bf16"]).try_map(|word| WeightsFormat::named(&word).ok_or("no such type"))
}
