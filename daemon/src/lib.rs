//! honed: the daemon that owns every fact. See ARCHITECTURE.md for the map.
#![forbid(unsafe_code)]

pub mod child;
pub mod clock;
pub mod config;
pub mod data;
pub mod desk;
pub mod dispatcher;
pub mod fetch;
pub mod history;
pub mod http;
mod hub;
pub mod jobs;
mod judged;
pub mod lifecycle;
pub mod machine;
mod perform;
pub mod sandbox;
mod secret;
pub mod socket;
pub mod state;
pub mod store;
pub mod workers;
