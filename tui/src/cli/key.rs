//! `hone key`: API keys of applications, each shown once. Never here: what a key may do.

use clap::{Args, Subcommand};
use hone_protocol::failure::Failure;
use hone_protocol::id::KeyId;
use hone_protocol::request::{Answer, Request};

use super::application::all;
use super::context::{Context, by_suffix, surprise};
use crate::link::Link;
use crate::print::{self, Outcome};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS as i64;

/// API keys of applications.
#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    Create(KeyCreate),
    Rotate(KeyRotate),
    Revoke(KeyRevoke),
}

impl KeyVerb {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self {
            KeyVerb::Create(verb) => verb.run(context),
            KeyVerb::Rotate(verb) => verb.run(context),
            KeyVerb::Revoke(verb) => verb.run(context),
        }
    }
}

/// Make an API key. It is written to stdout, now and never again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone key create shop --label web > key.txt")]
pub(super) struct KeyCreate {
    /// Name of the application.
    app: String,
    /// What you call the key.
    #[arg(long, default_value = "")]
    label: String,
    /// Days after which it ends by itself.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires: Option<u32>,
}

impl KeyCreate {
    fn run(self, context: &Context) -> Outcome {
        let expires_at_ms = self.expires.map(|days| print::now_ms() + i64::from(days) * DAY_MS);
        let request = Request::CreateKey { application: self.app, label: self.label, expires_at_ms };
        let (key, secret) = key_of(context.change(&mut context.link()?, "key", request)?)?;
        if context.json {
            return print::json(&Answer::Key { key, secret });
        }
        context.say("cli.key_once", &[("key", &key.to_string())]);
        print::out(&format!("{secret}\n"))
    }
}

/// Make a key in the place of another, which goes on for a while. The new one is written to stdout, now and never again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone key rotate key-01jd8z3k7x2v5n9q4r6t8w0y1a --overlap 24 > key.txt")]
pub(super) struct KeyRotate {
    /// The old key's id, or the end of it (hone app show APP lists them).
    key: String,
    /// Hours for which both are valid.
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=8_784))]
    overlap: u32,
}

impl KeyRotate {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let old = known_key(&mut link, &self.key)?;
        let overlap_ms = u64::from(self.overlap) * HOUR_MS;
        let (key, secret) = key_of(context.change(&mut link, "key", Request::RotateKey { key: old, overlap_ms })?)?;
        if context.json {
            return print::json(&Answer::Key { key, secret });
        }
        context.say("cli.key_once", &[("key", &key.to_string())]);
        print::out(&format!("{secret}\n"))
    }
}

/// A key by its id or the end of it.
fn known_key(link: &mut Link, written: &str) -> Result<KeyId, Failure> {
    if let Ok(key) = written.parse() {
        return Ok(key);
    }
    let ids: Vec<KeyId> = all(link)?.iter().flat_map(|a| &a.keys).map(|k| k.id).collect();
    by_suffix("key", &ids, written)
}

/// Revoke a key: its next request fails.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone key revoke key-01jd8z3k7x2v5n9q4r6t8w0y1a")]
pub(super) struct KeyRevoke {
    /// The key's id, or the end of it (hone app show APP lists them).
    key: String,
}

impl KeyRevoke {
    fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let key = known_key(&mut link, &self.key)?;
        let answer = context.change(&mut link, "revoke", Request::RevokeKey { key })?;
        if context.json {
            return print::json(&answer);
        }
        context.say("cli.key_revoked", &[("key", &key.to_string())]);
        Ok(())
    }
}

/// The id and secret of a key that was just made.
pub(super) fn key_of(answer: Answer) -> Result<(KeyId, String), Failure> {
    match answer {
        Answer::Key { key, secret } => Ok((key, secret)),
        other => Err(surprise(&other)),
    }
}
