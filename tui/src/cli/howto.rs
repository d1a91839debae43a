//! `hone service howto`: how a service is called by clients and tools. Never here: what the texts say
//! (`hone_protocol::snippet`), or a key.

use clap::Args;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::Request;
use hone_protocol::snippet::{self, Call, Endpoint, Tool};
use serde_json::{Map, Value};

use super::context::{Context, answer};
use crate::print::{self, Outcome};

/// Print how clients and tools call a service.
///
/// The texts read the key from HONE_KEY. Without --with all are printed; with it only that text, ready for a file or a
/// pipe.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service howto support --with python > ask.py")]
pub(super) struct Howto {
    /// Name of the service.
    #[arg(value_name = "NAME")]
    name: String,
    /// Only for this client or tool.
    #[arg(long, value_name = "TOOL", value_parser = clap::builder::PossibleValuesParser::new(Tool::ALL.map(Tool::name)))]
    with: Option<String>,
}

impl Howto {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let services = answer!(link.ask(Request::Services)?, Services);
        let service = services.iter().find(|service| service.record.name == self.name);
        let service = service.ok_or_else(|| Failure::not_found("service", &self.name).hint(HintCode::ListNames))?;
        let status = answer!(link.ask(Request::Status)?, Status);
        let endpoint = Endpoint::of(&status.http).ok_or_else(|| {
            Failure::new(FailureCode::ServiceUnavailable, "the daemon listens on no HTTP address")
                .at("honed")
                .hint(HintCode::ReadLog)
        })?;
        let mut found = snippet::all(&endpoint, &Call::first(&self.name, service.is_encoder));
        if let Some(wanted) = &self.with {
            found.retain(|(tool, _)| tool.name() == wanted);
            let Some((_, text)) = found.first() else {
                let message = format!(
                    "{wanted} cannot call this service: it has no embeddings, or the daemon listens on no address"
                );
                return Err(Failure::field("with", message).into());
            };
            return match context.json {
                true => print::json(&serde_json::json!({ wanted: text })),
                false => print::out(&format!("{text}\n")),
            };
        }
        if context.json {
            let texts: Map<String, Value> =
                found.into_iter().map(|(tool, text)| (tool.name().into(), text.into())).collect();
            return print::json(&texts);
        }
        let parts: Vec<String> = found.iter().map(|(tool, text)| format!("# {}\n{text}\n", tool.title())).collect();
        print::out(&parts.join("\n"))
    }
}
