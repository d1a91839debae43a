//! What must be changed so that things are as a file declares them: steps that people read, with the requests that carry them out.
//! Never here: asking the daemon.
//!
//! Another kind of thing needs a [`Thing`] and a few lines in [`plan`].

use hone_protocol::catalogue::{self, Language};
use hone_protocol::declared::{
    Declared, DeclaredAlias, DeclaredApplication, DeclaredGuard, DeclaredHook, DeclaredPool, DeclaredService,
    DeclaredStandard, DeclaredUpstream,
};
use hone_protocol::request::Request;
use hone_protocol::upstream::UpstreamWish;
use serde::Serialize;

use super::write::{Fields, Thing};

/// One thing that is made, changed or removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Step {
    /// What happens to it.
    pub(super) what: What,
    /// The word for its kind.
    pub(super) kind: &'static str,
    /// Its name.
    pub(super) name: String,
    /// Fields that change.
    pub(super) fields: Vec<Field>,
    /// What is asked for.
    #[serde(skip)]
    pub(super) requests: Vec<Request>,
}

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Create,
    Change,
    Delete,
}

/// A field that changes, as TOML.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Field {
    field: &'static str,
    before: Option<String>,
    after: Option<String>,
}

/// All steps, in an order in which each finds what it needs.
pub(super) fn plan(now: &Declared, wanted: &Declared, prune: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    compare(&mut steps, &now.pools, &wanted.pools, set_pool);
    compare(&mut steps, &now.aliases, &wanted.aliases, set_alias);
    compare(&mut steps, &now.services, &wanted.services, set_service);
    compare(&mut steps, &now.applications, &wanted.applications, set_application);
    compare(&mut steps, &now.guards, &wanted.guards, set_guard);
    compare(&mut steps, &now.hooks, &wanted.hooks, set_hook);
    compare(&mut steps, &now.standards, &wanted.standards, set_standard);
    if prune {
        remove(&mut steps, &now.standards, &wanted.standards, |standard| {
            vec![Request::RemoveStandard { name: standard.name.clone() }]
        });
        remove(&mut steps, &now.hooks, &wanted.hooks, |hook| vec![Request::RemoveHook { name: hook.name.clone() }]);
        remove(&mut steps, &now.guards, &wanted.guards, |guard| {
            vec![Request::RemoveGuard { name: guard.name.clone() }]
        });
        remove(&mut steps, &now.services, &wanted.services, remove_service);
        remove(&mut steps, &now.aliases, &wanted.aliases, remove_alias);
        // `local` is always there.
        let pools: Vec<_> = now.pools.iter().filter(|pool| pool.place.is_some()).cloned().collect();
        remove(&mut steps, &pools, &wanted.pools, |pool| vec![Request::RemovePool { name: pool.name.clone() }]);
    }
    steps
}

/// Steps for what is declared and is not so. `set` gives the thing as it is to be, and what makes it so.
fn compare<T: Thing + Clone>(
    steps: &mut Vec<Step>,
    now: &[T],
    wanted: &[T],
    set: impl Fn(Option<&T>, &T) -> (T, Vec<Request>),
) {
    for wanted in wanted {
        let before = now.iter().find(|thing| thing.name() == wanted.name());
        let (after, requests) = set(before, wanted);
        let fields = changed(&before.map(Thing::fields).unwrap_or_default(), &after.fields());
        if before.is_none() || !fields.is_empty() {
            let what = if before.is_none() { What::Create } else { What::Change };
            steps.push(Step { what, kind: T::WORD, name: wanted.name().to_owned(), fields, requests });
        }
    }
}

fn remove<T: Thing>(steps: &mut Vec<Step>, now: &[T], wanted: &[T], by: impl Fn(&T) -> Vec<Request>) {
    for thing in now.iter().filter(|thing| wanted.iter().all(|other| other.name() != thing.name())) {
        let fields = changed(&thing.fields(), &Fields::new());
        let name = thing.name().to_owned();
        steps.push(Step { what: What::Delete, kind: T::WORD, name, fields, requests: by(thing) });
    }
}

fn changed(before: &Fields, after: &Fields) -> Vec<Field> {
    let of = |fields: &Fields, key| fields.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
    let gone = before.iter().filter(|(key, _)| after.iter().all(|(other, _)| other != key));
    let keys = after.iter().chain(gone).map(|(key, _)| *key);
    let each = keys.map(|field| Field { field, before: of(before, field), after: of(after, field) });
    each.filter(|field| field.before != field.after).collect()
}

fn set_pool(_: Option<&DeclaredPool>, pool: &DeclaredPool) -> (DeclaredPool, Vec<Request>) {
    (pool.clone(), vec![Request::SetPool { name: pool.name.clone(), price: pool.price, place: pool.place.clone() }])
}

fn set_alias(before: Option<&DeclaredAlias>, wanted: &DeclaredAlias) -> (DeclaredAlias, Vec<Request>) {
    let mut after = wanted.clone();
    let is_at = before.and_then(|before| before.version.clone());
    let (model, alias) = wanted.name.split_once(':').unwrap_or((&wanted.name, ""));
    let (model, alias) = (model.to_owned(), alias.to_owned());
    let mut requests = Vec::new();
    if before.and_then(|before| before.gate.as_ref()) != wanted.gate.as_ref() {
        requests.push(Request::SetGate { model: model.clone(), alias: alias.clone(), gate: wanted.gate.clone() });
    }
    match &wanted.version {
        // People move it.
        None => after.version = is_at,
        Some(version) if is_at.as_ref() != Some(version) => {
            requests.push(Request::SetAlias { model, alias, version: version.clone(), past_gate: None });
        }
        Some(_) => {}
    }
    (after, requests)
}

fn set_service(before: Option<&DeclaredService>, wanted: &DeclaredService) -> (DeclaredService, Vec<Request>) {
    let mut after = wanted.clone();
    if let Some(before) = before {
        after.slots = if after.slots == 0 { before.slots } else { after.slots };
        after.context_tokens = if after.context_tokens == 0 { before.context_tokens } else { after.context_tokens };
    }
    let name = || wanted.name.clone();
    // A key goes with what changes; it is no change of its own, for nobody can see whether it is one.
    let keyless = |service: &DeclaredService| {
        let upstream = service.upstream.clone().map(|upstream| DeclaredUpstream { key: None, ..upstream });
        DeclaredService { on: after.on, upstream, ..service.clone() }
    };
    let is_served_so = before.is_some_and(|before| keyless(before) == keyless(&after));
    let mut requests = Vec::new();
    if !is_served_so {
        requests.push(publish(wanted));
    }
    // Publishing turns it on.
    let is_on = if is_served_so { before.is_some_and(|before| before.on) } else { true };
    if is_on != wanted.on {
        requests.push(Request::SetService { name: name(), wanted: wanted.on });
    }
    (after, requests)
}

fn publish(wanted: &DeclaredService) -> Request {
    let DeclaredService { name, version, upstream, slots, context_tokens, price, keep, pool, .. } = wanted.clone();
    match upstream {
        None => Request::Publish { name, version, slots, context_tokens, price, keep: Some(keep), pool: Some(pool) },
        Some(DeclaredUpstream { url, model, plain_http, key }) => {
            let upstream = UpstreamWish { url, model, key, plain_http };
            Request::PublishUpstream { name, upstream, slots, context_tokens, price }
        }
    }
}

fn set_guard(_: Option<&DeclaredGuard>, wanted: &DeclaredGuard) -> (DeclaredGuard, Vec<Request>) {
    (wanted.clone(), vec![Request::SetGuard { name: wanted.name.clone(), spec: Box::new(wanted.spec.clone()) }])
}

fn set_application(
    before: Option<&DeclaredApplication>,
    wanted: &DeclaredApplication,
) -> (DeclaredApplication, Vec<Request>) {
    let mut requests = Vec::new();
    let name = || wanted.name.clone();
    if before.is_none_or(|b| (&b.title, &b.services, b.priority) != (&wanted.title, &wanted.services, wanted.priority))
    {
        let (title, services) = (wanted.title.clone(), wanted.services.clone());
        requests.push(Request::SetApplication { name: name(), title, services, priority: Some(wanted.priority) });
    }
    let none = (hone_protocol::application::Limits::default(), hone_protocol::application::BudgetKind::None);
    if before.map_or(none, |b| (b.limits, b.budget)) != (wanted.limits, wanted.budget) {
        requests.push(Request::SetLimits { application: name(), limits: wanted.limits, budget: wanted.budget });
    }
    (wanted.clone(), requests)
}

fn set_standard(_: Option<&DeclaredStandard>, standard: &DeclaredStandard) -> (DeclaredStandard, Vec<Request>) {
    let spec = Box::new(standard.spec.clone());
    (standard.clone(), vec![Request::SetStandard { name: standard.name.clone(), spec }])
}

fn set_hook(before: Option<&DeclaredHook>, wanted: &DeclaredHook) -> (DeclaredHook, Vec<Request>) {
    let mut after = wanted.clone();
    if let (0, Some(before)) = (after.timeout_ms, before) {
        after.timeout_ms = before.timeout_ms;
    }
    let DeclaredHook { name, on, target, timeout_ms } = after.clone();
    (after, vec![Request::SetHook { name, on, target, timeout_ms }])
}

fn remove_service(service: &DeclaredService) -> Vec<Request> {
    let name = || service.name.clone();
    let off = service.on.then(|| Request::SetService { name: name(), wanted: false });
    off.into_iter().chain([Request::DeleteService { name: name() }]).collect()
}

fn remove_alias(known: &DeclaredAlias) -> Vec<Request> {
    let (model, alias) = known.name.split_once(':').unwrap_or((&known.name, ""));
    let (model, alias) = (model.to_owned(), alias.to_owned());
    let mut requests = Vec::new();
    if known.gate.is_some() {
        requests.push(Request::SetGate { model: model.clone(), alias: alias.clone(), gate: None });
    }
    if known.version.is_some() {
        requests.push(Request::RemoveAlias { model, alias });
    }
    requests
}

/// The steps as people read them.
pub(super) fn text(language: Language, steps: &[Step]) -> String {
    if steps.is_empty() {
        return format!("{}\n", catalogue::text(language, "cli.as_declared"));
    }
    let mut out = String::new();
    for step in steps {
        let sign = match step.what {
            What::Create => '+',
            What::Change => '~',
            What::Delete => '-',
        };
        out.push_str(&format!("{sign} {} {}\n", step.kind, step.name));
        for Field { field, before, after } in &step.fields {
            let line = match (before, after) {
                (None, Some(after)) => format!("    {field} = {after}\n"),
                (Some(before), Some(after)) => format!("    {field}: {before} -> {after}\n"),
                (before, _) => format!("    {field}: {} -> -\n", before.as_deref().unwrap_or("-")),
            };
            out.push_str(&line);
        }
    }
    let count = |what| steps.iter().filter(|step| step.what == what).count().to_string();
    let (create, change, delete) = (count(What::Create), count(What::Change), count(What::Delete));
    let args = [("create", create.as_str()), ("change", change.as_str()), ("delete", delete.as_str())];
    out.push_str(&format!("{}\n", catalogue::fill(language, "cli.steps", &args)));
    out
}

#[cfg(test)]
mod tests {
    use super::super::{read::read, write::write};
    use super::*;

    const FILE: &str = r#"
[pools.local]
core_hour = 0.05

[aliases."support:live"]
version = "support@3"
gate = "score(exam) >= 0.8"

[services."desk.v1"]
version = "support:live"
slots = 4
context_tokens = 2048
price_in = 0.15
price_out = 0.6
keep = 30

[services.old]
version = "support@1"
slots = 2
context_tokens = 512
keep = "pinned"
on = false

[services.big]
url = "http://gpu.example:8000"
model = "org/big-70b"
plain_http = "gpu.example"
slots = 8
price_out = 2

[applications.shop]
title = "Web \"shop\" 商店"
services = ["desk.v1"]
requests_per_minute = 60
monthly = 25.5

[applications.lab]
prepaid = true

[guards.pii]
personal = ["email", "chinese_id"]

[guards.rivals]
words = ["Acme", "Blue Ox"]
patterns = ["(?i)acme-\\d+"]
on = ["output"]
act = "refuse"
services = ["desk.v1"]
applications = ["shop"]

[hooks.ops]
on = ["job_failed", "service_down"]
url = "https://ops.example/hone?a=1"
timeout_s = 30

[hooks.log]
on = ["budget_crossed"]
command = ["/usr/bin/logger", "-t", "hone"]
timeout_s = 5

[standards.tone]
title = "How the desk \"speaks\""
criteria = [{ name = "kind", about = "It is kind.", weight = 2, scale = 5 }]
checks = { answer_chars = { max = 400 }, must_not_match = ['(?i)as an ai\b'], language = "en" }
"#;

    #[test]
    fn what_is_written_is_read_the_same_and_changes_nothing() {
        let declared = read("hone.toml", FILE).unwrap();
        let again = read("again.toml", &write(&declared)).unwrap();
        let sorted = |mut d: Declared| {
            d.services.sort_by(|a, b| a.name.cmp(&b.name));
            d.applications.sort_by(|a, b| a.name.cmp(&b.name));
            d.guards.sort_by(|a, b| a.name.cmp(&b.name));
            d.hooks.sort_by(|a, b| a.name.cmp(&b.name));
            d
        };
        assert_eq!(sorted(declared.clone()), sorted(again));
        assert_eq!(plan(&declared, &declared, true), []);
        insta::assert_snapshot!("export", write(&sorted(declared)));
    }

    #[test]
    fn everything_is_made_in_an_order_that_works() {
        let declared = read("hone.toml", FILE).unwrap();
        let steps = plan(&Declared::default(), &declared, false);
        insta::assert_snapshot!("plan-all", text(Language::En, &steps));
        insta::assert_snapshot!("plan-all-zh", text(Language::Zh, &steps));
        let requests: Vec<String> = steps.iter().flat_map(|s| &s.requests).map(crate::print::word_of).collect();
        insta::assert_snapshot!("plan-requests", requests.join("\n"));
    }

    #[test]
    fn only_what_differs_is_changed_and_nothing_goes_unasked() {
        let now = read("hone.toml", FILE).unwrap();
        let wanted = FILE
            .replace("slots = 4\n", "")
            .replace("version = \"support@3\"\n", "")
            .replace("price_in = 0.15", "price_in = 0.2")
            .replace("requests_per_minute = 60\n", "")
            .replace("[hooks.log]\non = [\"budget_crossed\"]\ncommand = [\"/usr/bin/logger\", \"-t\", \"hone\"]\ntimeout_s = 5\n", "")
            .replace("[services.old]\nversion = \"support@1\"\nslots = 2\ncontext_tokens = 512\nkeep = \"pinned\"\non = false\n", "");
        let wanted = read("hone.toml", &wanted).unwrap();
        insta::assert_snapshot!("plan-some", text(Language::En, &plan(&now, &wanted, false)));
        insta::assert_snapshot!("plan-prune", text(Language::En, &plan(&now, &wanted, true)));
        assert!(plan(&now, &wanted, false).iter().all(|step| step.what != What::Delete));
    }
}
