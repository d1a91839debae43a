//! The facts as a file would declare them, and a stamp by which it is seen that somebody changed them meanwhile. Never here:
//! changing them (`dispatcher/apply`).

use hone_protocol::application::{Budget, BudgetKind, Services};
use hone_protocol::declared::{
    Declared, DeclaredAlias, DeclaredApplication, DeclaredGuard, DeclaredHook, DeclaredPool, DeclaredService,
    DeclaredStandard, DeclaredUpstream,
};
use hone_protocol::upstream::{Address, Upstream};
use hone_protocol::value::Hash;
use hone_protocol::wire;
use sha2::{Digest, Sha256};

use crate::state::State;

/// Everything that can be declared, by name.
pub(crate) fn declared(state: &State) -> Declared {
    let mut all = Declared {
        pools: state.pools.values().map(|p| pool(p)).collect(),
        aliases: state.models.values().flat_map(|model| aliases(state, model)).collect(),
        services: state.services.values().map(|service| self::service(state, service)).collect(),
        applications: state.applications.values().map(|application| self::application(state, application)).collect(),
        guards: state.guards.values().map(|guard| self::guard(guard)).collect(),
        hooks: state.hooks.values().map(|hook| self::hook(hook)).collect(),
        standards: state
            .standard_views()
            .into_iter()
            .filter_map(|view| view.versions.into_iter().next_back())
            .map(|newest| DeclaredStandard { name: newest.name, spec: newest.spec })
            .collect(),
    };
    all.pools.sort_by(|a, b| a.name.cmp(&b.name));
    all.aliases.sort_by(|a, b| a.name.cmp(&b.name));
    all.services.sort_by(|a, b| a.name.cmp(&b.name));
    all.applications.sort_by(|a, b| a.name.cmp(&b.name));
    all.guards.sort_by(|a, b| a.name.cmp(&b.name));
    all.hooks.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Differs when anything that can be declared does.
pub(crate) fn stamp(declared: &Declared) -> Hash {
    Hash(Sha256::digest(wire::encode(declared)).into())
}

/// Aliases of a model, and gates of those that are not there yet.
fn aliases(state: &State, model: &hone_protocol::model::ModelRecord) -> Vec<DeclaredAlias> {
    let gates = model.gates.as_deref().unwrap_or_default();
    let names = model.aliases.iter().map(|alias| &alias.name).chain(gates.iter().map(|gate| &gate.alias));
    let names: std::collections::BTreeSet<&String> = names.collect();
    let version = |name: &str| {
        let alias = model.aliases.iter().find(|alias| alias.name == name)?;
        Some(state.version_reference(alias.version))
    };
    let one = |alias: &String| DeclaredAlias {
        name: format!("{}:{alias}", model.name),
        version: version(alias),
        gate: model.gate(alias).map(str::to_owned),
    };
    names.into_iter().map(one).collect()
}

fn service(state: &State, service: &hone_protocol::service::ServiceRecord) -> DeclaredService {
    let reference = state.version_reference(service.version);
    let version = match (&service.upstream, &service.follows, reference.split_once('@')) {
        (Some(_), ..) => String::new(),
        (None, Some(alias), Some((model, _))) => format!("{model}:{alias}"),
        _ => reference,
    };
    DeclaredService {
        name: service.name.clone(),
        version,
        upstream: service.upstream.as_ref().map(upstream),
        slots: service.slots,
        context_tokens: service.context_tokens,
        price: service.price,
        keep: service.keep.unwrap_or_default(),
        on: service.wanted,
        pool: service.pool.clone(),
    }
}

fn upstream(upstream: &Upstream) -> DeclaredUpstream {
    let open = Address::read(&upstream.url).ok().filter(|address| !address.secure && !address.is_loopback());
    DeclaredUpstream {
        url: upstream.url.clone(),
        model: upstream.model.clone(),
        plain_http: open.map(|address| address.host).unwrap_or_default(),
        key: None,
    }
}

fn application(state: &State, application: &hone_protocol::application::ApplicationRecord) -> DeclaredApplication {
    let mut services = match &application.services {
        Services::All => Vec::new(),
        Services::Listed(ids) => ids.iter().map(|id| state.service_name(*id)).collect(),
    };
    services.sort();
    DeclaredApplication {
        name: application.name.clone(),
        title: application.title.clone(),
        services,
        limits: application.limits.unwrap_or_default(),
        budget: match application.budget {
            None => BudgetKind::None,
            Some(Budget::Monthly { amount }) => BudgetKind::Monthly(amount),
            Some(Budget::Prepaid { .. }) => BudgetKind::Prepaid,
        },
        priority: application.priority.unwrap_or_default(),
    }
}

fn pool(pool: &hone_protocol::pool::PoolRecord) -> DeclaredPool {
    DeclaredPool { name: pool.name.clone(), price: pool.price, place: pool.place.clone() }
}

fn guard(guard: &hone_protocol::guard::GuardRecord) -> DeclaredGuard {
    let mut spec = guard.spec.clone();
    spec.services.sort();
    spec.applications.sort();
    DeclaredGuard { name: guard.name.clone(), spec }
}

fn hook(hook: &hone_protocol::hook::HookRecord) -> DeclaredHook {
    DeclaredHook {
        name: hook.name.clone(),
        on: hook.on.clone(),
        target: hook.target.clone(),
        timeout_ms: hook.timeout_ms,
    }
}
