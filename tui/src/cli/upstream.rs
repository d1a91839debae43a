//! The words of `hone service publish` for a server elsewhere, and `hone service show`. Never here: the rules of an address
//! (`protocol/src/upstream.rs`), and a key on a command line: it is read from a file or stdin.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::request::Request;
use hone_protocol::service::{Price, ServiceRecord, ServiceView};
use hone_protocol::upstream::{KEY_BYTES_MAX, Secret, UpstreamWish};

use super::context::{Context, answer};
use crate::print::{self, Outcome};

/// A server elsewhere, in the place of a version.
#[derive(Debug, Default, Args)]
pub(super) struct UpstreamArgs {
    /// Instead of a version: an OpenAI-compatible server elsewhere; without a path, /v1 is meant.
    #[arg(long, value_name = "URL", conflicts_with = "version")]
    upstream: Option<String>,
    /// What `model` says to the upstream.
    #[arg(long, value_name = "MODEL", conflicts_with = "version")]
    upstream_model: Option<String>,
    /// File with the upstream's key; - reads it from stdin. Without it the kept key stays.
    #[arg(long, value_name = "FILE", conflicts_with = "version")]
    upstream_key_file: Option<PathBuf>,
    /// The upstream wants no key; a kept one is forgotten.
    #[arg(long, conflicts_with_all = ["version", "upstream_key_file"])]
    no_upstream_key: bool,
    /// The upstream's host again, when it is plain http to another machine: everything can be read on the way.
    #[arg(long, value_name = "HOST", conflicts_with = "version")]
    plain_http: Option<String>,
}

impl UpstreamArgs {
    /// Whether a server elsewhere is meant, by a word or because the service is one.
    pub(super) fn is_meant(&self, old: Option<&ServiceRecord>) -> bool {
        self.upstream.is_some() || old.is_some_and(|old| old.upstream.is_some())
    }

    /// The wish; what is not typed stays as it was.
    pub(super) fn request(
        self,
        name: String,
        old: Option<&ServiceRecord>,
        (slots, context_tokens): (Option<u32>, Option<u32>),
        price: Price,
    ) -> Result<Request, Failure> {
        let before = old.and_then(|old| old.upstream.as_ref());
        let key = match (&self.upstream_key_file, self.no_upstream_key) {
            (Some(file), _) => Some(Secret(read_key(file)?)),
            (None, true) => Some(Secret(String::new())),
            (None, false) => None,
        };
        let missing = |flag: &str, what: &str| {
            Failure::new(FailureCode::InvalidField, format!("{flag} is missing: {what}"))
                .at(flag)
                .hint(HintCode::CorrectField)
        };
        let url = self.upstream.or_else(|| before.map(|b| b.url.clone()));
        let model = self.upstream_model.or_else(|| before.map(|b| b.model.clone()));
        let upstream = UpstreamWish {
            url: url.ok_or_else(|| missing("--upstream", "where the server is"))?,
            model: model.ok_or_else(|| missing("--upstream-model", "what `model` says to the upstream"))?,
            key,
            plain_http: self.plain_http.unwrap_or_default(),
        };
        let (slots, context_tokens) = (slots.unwrap_or(0), context_tokens.unwrap_or(0));
        Ok(Request::PublishUpstream { name, upstream, slots, context_tokens, price })
    }
}

/// A key out of a file or stdin, without the line end that editors add.
fn read_key(file: &std::path::Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(FailureCode::FileUnreadable, error.to_string()).at(file.display().to_string())
    };
    let most = KEY_BYTES_MAX as u64 + 2;
    let mut text = String::new();
    match file.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_string(&mut text).map_err(unreadable)?,
        false => std::fs::File::open(file)
            .and_then(|opened| opened.take(most).read_to_string(&mut text))
            .map_err(unreadable)?,
    };
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        let message = "there is no key in it; --no-upstream-key says that none is wanted";
        return Err(Failure::field("--upstream-key-file", message));
    }
    Ok(key.to_owned())
}

/// Show a service: what answers, how it is, slots, price.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone service show desk")]
pub(super) struct Show {
    /// Name of the service.
    name: String,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let services = answer!(context.link()?.ask(Request::Services)?, Services);
        let found = services.iter().find(|view| view.record.name == self.name);
        let view = found.ok_or_else(|| Failure::not_found("service", &self.name))?;
        if context.json {
            return print::json(view);
        }
        print::out(&details(context.language, view))
    }
}

/// All about a service.
fn details(language: Language, view: &ServiceView) -> String {
    let say = |key| catalogue::text(language, key).to_owned();
    let record = &view.record;
    let mut pairs = vec![
        ("cli.col.service", record.name.clone()),
        ("cli.col.version", view.version_reference.clone()),
        ("cli.col.state", print::service_state(language, &view.state).text().to_owned()),
    ];
    if let Some(upstream) = &record.upstream {
        pairs.push(("cli.col.upstream", upstream.url.clone()));
        pairs.push(("cli.col.upstream_model", upstream.model.clone()));
        let key = if upstream.has_key { "cli.upstream_key_kept" } else { "cli.upstream_no_key" };
        pairs.push(("cli.col.upstream_key", say(key)));
        let health =
            view.trouble.as_ref().map_or_else(|| say("cli.upstream_well"), |failure| failure.message_en.clone());
        pairs.push(("cli.col.upstream_state", health));
    }
    pairs.extend([
        ("cli.col.active", view.active.to_string()),
        ("cli.col.waiting", view.waiting.to_string()),
        ("cli.col.slots", record.slots.to_string()),
        ("cli.col.context", record.context_tokens.to_string()),
        ("cli.col.price", print::price(&record.price)),
        ("cli.col.memory", print::bytes(view.memory_bytes)),
        ("cli.col.restarts", view.restarts.to_string()),
    ]);
    print::pairs(language, &pairs)
}

#[cfg(test)]
mod tests {
    use hone_protocol::upstream::Upstream;

    use super::*;

    fn far() -> ServiceView {
        let mut view = crate::sample::service();
        let upstream = Upstream { url: "https://up.example/v1".into(), model: "big".into(), has_key: true };
        view.record.upstream = Some(upstream);
        view.version_reference = "upstream:big".into();
        view.memory_bytes = 0;
        view
    }

    #[test]
    fn a_service_elsewhere_is_shown() {
        let mut ill = far();
        let failure = Failure::new(FailureCode::UpstreamFailed, "the upstream of service desk refuses the key");
        ill.trouble = Some(failure);
        insta::assert_snapshot!("service-show", details(Language::En, &far()));
        insta::assert_snapshot!("service-show-zh", details(Language::Zh, &ill));
    }

    #[test]
    fn what_is_not_typed_stays() {
        let old = far().record;
        let args = UpstreamArgs { upstream_model: Some("bigger".into()), ..UpstreamArgs::default() };
        assert!(args.is_meant(Some(&old)) && !args.is_meant(None));
        let request = args.request("desk".into(), Some(&old), (None, Some(9000)), Price::default()).unwrap();
        let Request::PublishUpstream { upstream, context_tokens: 9000, slots: 0, .. } = request else {
            panic!("{request:?}")
        };
        assert_eq!(
            (upstream.url.as_str(), upstream.model.as_str(), upstream.key),
            ("https://up.example/v1", "bigger", None)
        );
        let args = UpstreamArgs { upstream: Some("https://a".into()), ..UpstreamArgs::default() };
        let failure = args.request("new".into(), None, (None, None), Price::default()).unwrap_err();
        assert_eq!(failure.place, "--upstream-model");
    }

    #[test]
    fn a_key_comes_out_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-upstream\r\n").unwrap();
        assert_eq!(read_key(&file).unwrap(), "sk-upstream");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(read_key(&file).unwrap_err().place, "--upstream-key-file");
        assert_eq!(read_key(&folder.path().join("none")).unwrap_err().code, FailureCode::FileUnreadable);
    }
}
