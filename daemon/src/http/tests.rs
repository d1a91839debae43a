//! The endpoint over real loopback connections, with a scripted desk behind it.

mod client;
mod fake;
mod guards;
mod metering;
mod shapes;
mod transport;
