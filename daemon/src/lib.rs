//! honed: the daemon that owns every fact. See ARCHITECTURE.md for the map.
#![forbid(unsafe_code)]

mod archive;
pub mod child;
pub mod clock;
pub mod config;
mod counts;
pub mod data;
mod declared;
pub mod desk;
pub mod dispatcher;
pub mod fetch;
pub mod history;
pub mod hook;
pub mod http;
mod hub;
mod invoice;
pub mod jobs;
mod judged;
pub mod lifecycle;
mod listening;
pub mod machine;
mod metrics;
mod perform;
pub mod sandbox;
mod secret;
pub mod socket;
pub mod state;
mod stats;
pub mod store;
mod sums;
mod usage;
pub mod workers;
