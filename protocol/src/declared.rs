//! What can be declared in a file: services, applications, aliases, guards, hooks, pools, standards. One form for the daemon's facts, for a
//! file, and for what is between them. Never here: reading or writing a file.
//!
//! Another kind of thing needs a field here, its lines in the daemon's `declared`, and a section for files.

use serde::{Deserialize, Serialize};

use crate::application::{BudgetKind, Limits};
use crate::guard::GuardSpec;
use crate::hook::{AlertKind, HookTarget};
use crate::pool::{PoolPlace, Priority};
use crate::service::{Keep, Price};
use crate::standard::StandardSpec;
use crate::upstream::Secret;
use crate::usage::ComputePrice;

/// Most changes that are applied at once.
pub const CHANGES_MAX: usize = 2000;

/// Everything that can be declared, each list by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// Pools.
    pub pools: Vec<DeclaredPool>,
    /// Aliases and their gates.
    pub aliases: Vec<DeclaredAlias>,
    /// Services.
    pub services: Vec<DeclaredService>,
    /// Applications.
    pub applications: Vec<DeclaredApplication>,
    /// Guards.
    pub guards: Vec<DeclaredGuard>,
    /// Hooks.
    pub hooks: Vec<DeclaredHook>,
    /// Standards, as their newest versions say.
    pub standards: Vec<DeclaredStandard>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredPool {
    /// Its name.
    pub name: String,
    /// What computing costs.
    pub price: ComputePrice,
    /// What it is; none for `local`.
    pub place: Option<PoolPlace>,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredAlias {
    /// `model:alias`.
    pub name: String,
    /// `name@number` of what it points at; none to leave that to people.
    pub version: Option<String>,
    /// What must be measured before it moves.
    pub gate: Option<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredService {
    /// Its name.
    pub name: String,
    /// `model:alias` that it follows, or `name@number`; empty where a server elsewhere answers.
    pub version: String,
    /// The server elsewhere that answers.
    pub upstream: Option<DeclaredUpstream>,
    /// Sequences at once; 0 to leave it as it is.
    pub slots: u32,
    /// Context of each in tokens; 0 to leave it as it is.
    pub context_tokens: u32,
    /// What a token costs.
    pub price: Price,
    /// How long it stays loaded.
    pub keep: Keep,
    /// Whether it is on.
    pub on: bool,
    /// The pool that it is in.
    pub pool: String,
}

/// A server elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredUpstream {
    /// Where its routes begin.
    pub url: String,
    /// What `model` says to it.
    pub model: String,
    /// The host again where it is plain http to another machine; empty otherwise.
    pub plain_http: String,
    /// Its key on the way to the daemon, out of a variable that the file names; never told by the daemon.
    pub key: Option<Secret>,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredApplication {
    /// Its name.
    pub name: String,
    /// Free title.
    pub title: String,
    /// Names of services that it may call; empty for all.
    pub services: Vec<String>,
    /// Its limits.
    pub limits: Limits,
    /// Its budget. What was paid in is never in a file.
    pub budget: BudgetKind,
    /// Who goes first where applications wait for the same thing.
    pub priority: Priority,
}

/// A guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredGuard {
    /// Its name.
    pub name: String,
    /// What it does.
    pub spec: GuardSpec,
}

/// A standard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredStandard {
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: StandardSpec,
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeclaredHook {
    /// Its name.
    pub name: String,
    /// Of what it is told.
    pub on: Vec<AlertKind>,
    /// How.
    pub target: HookTarget,
    /// How long a try may take, in milliseconds.
    pub timeout_ms: u32,
}
