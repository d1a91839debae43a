//! `hone model pull`: a model out of a hub. Lives here: what a person types for a repository. Never here: requests to a
//! hub, which a child of the daemon makes.

use clap::{Args, ValueEnum};
use hone_protocol::failure::{Failure, HintCode};
use hone_protocol::model::{Hub, HubSource, ModelSource, WeightsAs};

use super::context::Context;
use super::model::{bring, name_from, name_or};
use crate::print::Outcome;

/// Bring a model out of a hub and wait until it is usable.
///
/// Takes a GGUF file of the repository: the one that is named by its path or its quantisation, else the only one, else
/// the one of Q4_K_M. A repository without GGUF files but with safetensors is converted. What a cut or a restart left is
/// gone on with; hashes are checked; what lies in the Hugging Face cache is linked and not fetched. Where the hub is and
/// which token it gets stands in the environment of the daemon: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE,
/// MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone model pull Qwen/Qwen3-0.6B-GGUF:Q8_0 --name qwen3\n  hone model pull Qwen/Qwen3-0.6B --from modelscope --weights q8_0"
)]
pub(super) struct Pull {
    /// OWNER/NAME, with `:FILE` or `:QUANTISATION` for one GGUF file of several.
    repository: String,
    /// Branch, tag or commit [default: the hub's main branch].
    #[arg(long)]
    revision: Option<String>,
    /// Which hub.
    #[arg(long, value_enum, default_value_t)]
    from: From,
    /// Name of the model that gets the version [default: from the repository].
    #[arg(long)]
    name: Option<String>,
    /// How matrices are stored that are converted from safetensors.
    #[arg(long, value_enum, default_value_t)]
    weights: WeightType,
    /// Do not wait; print the job's id.
    #[arg(long)]
    detach: bool,
}

/// A hub on the command line.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum From {
    #[default]
    Huggingface,
    Modelscope,
}

/// How converted matrices are stored, on the command line.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum WeightType {
    #[default]
    AsStored,
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl std::convert::From<WeightType> for WeightsAs {
    fn from(stored: WeightType) -> WeightsAs {
        match stored {
            WeightType::AsStored => WeightsAs::AsStored,
            WeightType::F32 => WeightsAs::F32,
            WeightType::F16 => WeightsAs::F16,
            WeightType::Bf16 => WeightsAs::Bf16,
            WeightType::Q8_0 => WeightsAs::Q8_0,
        }
    }
}

impl Pull {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let hub = match self.from {
            From::Huggingface => Hub::Huggingface,
            From::Modelscope => Hub::Modelscope,
        };
        let mut source = hub_source(&self.repository, hub)?;
        source.weights = self.weights.into();
        if let Some(revision) = self.revision {
            source.revision = revision;
        }
        let name = name_or(self.name, name_of(&source))?;
        bring(context, ModelSource::Hub(source), name, self.detach)
    }
}

/// What a typed repository means.
pub(super) fn hub_source(typed: &str, hub: Hub) -> Result<HubSource, Failure> {
    HubSource::parse(typed, hub).ok_or_else(|| {
        let message = "a repository is [hf:|modelscope:]OWNER/NAME[@REVISION][:FILE or QUANTISATION]";
        Failure::field("REPOSITORY", message).at(typed).hint(HintCode::CorrectField)
    })
}

/// The name that a repository suggests: its own without the word GGUF.
pub(super) fn name_of(source: &HubSource) -> String {
    let name = source.repo.rsplit('/').next().unwrap_or_default();
    let plain = name_from(&format!("{name}.folder"));
    plain.strip_suffix("-gguf").map_or(plain.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_store_has_the_words_of_the_protocol() {
        for stored in WeightType::value_variants() {
            let word = stored.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(word, WeightsAs::from(*stored).word());
        }
        assert_eq!(WeightType::value_variants().len(), WeightsAs::ALL.len());
    }

    #[test]
    fn a_repository_suggests_a_name_or_is_refused() {
        let name = |typed| hub_source(typed, Hub::Huggingface).map(|source| name_of(&source));
        assert_eq!(name("bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M").unwrap(), "smollm2-1.7b-instruct");
        assert!(name("Qwen3").unwrap_err().message_en.contains("OWNER/NAME"));
    }
}
