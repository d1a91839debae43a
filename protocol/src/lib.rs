//! The words that hone's processes say to each other: plain data, framing to and from byte buffers,
//! the message catalogue and the form schema. Lives here: every type on any wire or screen catalogue.
//! Never here: I/O, threads, tokio, or a decision about facts.
//!
//! Reading order: [`hello`] and [`frame`] (how bytes become messages), [`id`] and [`value`] (the wrappers),
//! [`failure`], then the nouns ([`model`], [`dataset`], [`job`], [`train`], [`evaluation`], [`service`],
//! [`upstream`], [`application`], [`usage`], [`convert`], [`blueprint`], [`bench`], [`batch`], [`generate`], [`standard`], [`generation`], [`mixture`], [`judgement`], [`labelling`], [`person`], [`note`]), then [`request`], [`event`] (client and daemon) and
//! [`worker`] (daemon and child).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod about;
pub mod answer;
pub mod application;
pub mod batch;
pub mod bench;
pub mod blueprint;
pub mod catalogue;
pub mod convert;
pub mod dataset;
pub mod declared;
pub mod embed;
pub mod envelope;
pub mod evaluation;
pub mod event;
pub mod failure;
pub mod form;
pub mod frame;
pub mod gate;
pub mod generate;
pub mod generation;
pub mod guard;
pub mod hello;
pub mod hook;
pub mod id;
pub mod job;
pub mod judgement;
pub mod labelling;
pub mod log;
pub mod mixture;
pub mod model;
pub mod note;
pub mod paths;
pub mod person;
pub mod pool;
pub mod preset;
mod reads;
pub mod recipe;
pub mod request;
pub mod service;
pub mod snippet;
pub mod standard;
pub mod train;
pub mod upstream;
pub mod usage;
pub mod value;
pub mod wire;
pub mod worker;

/// The number that both ends of a bincode connection must share. Raised on every change of a wire type.
pub const PROTOCOL: u16 = 5;

/// The version of hone itself, shown to people.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
