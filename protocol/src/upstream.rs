//! Services whose engine is an OpenAI-compatible server elsewhere: its address and model, its key on the way to where it
//! is kept, and what the child is told that speaks to it. Lives here: the rules of an address. Never here: connections.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Longest address in bytes.
pub const URL_BYTES_MAX: usize = 512;
/// Longest name of a model in bytes.
pub const MODEL_BYTES_MAX: usize = 256;
/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// An OpenAI-compatible server that answers for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Where its routes begin: `https://api.example.com/v1`, no slash at the end.
    pub url: String,
    /// What `model` says to it.
    pub model: String,
    /// Whether a key is kept for it. The key itself is never shown again.
    pub has_key: bool,
}

/// What a person says of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamWish {
    /// Its address; without a path `/v1` is meant.
    pub url: String,
    /// What `model` says to it.
    pub model: String,
    /// Its key; an empty one removes what is kept, and none leaves it as it is.
    pub key: Option<Secret>,
    /// The host again, for an address that is plain http to another machine: what is asked, answered and the key can be
    /// read on the way. Empty otherwise.
    pub plain_http: String,
}

/// A text that nobody prints.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The one task of `honed upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTask {
    /// Name of the service, for its failures.
    pub service: String,
    /// Where its routes begin.
    pub url: String,
    /// What `model` says to it.
    pub model: String,
    /// Its key; empty for none.
    pub key: Secret,
    /// Requests at once; more wait.
    pub slots: u32,
}

/// An address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether it is https.
    pub secure: bool,
    /// The host, in lower case; of an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where routes begin: `/v1`, no slash at the end; empty for the root.
    pub path: String,
}

impl Address {
    /// Reads an address as a person types it.
    pub fn read(url: &str) -> Result<Address, Failure> {
        let wrong = |what: String| Failure::field("url", format!("{url:?} cannot be an upstream: {what}"));
        if url.len() > URL_BYTES_MAX {
            return Err(Failure::field("url", format!("the address has {} bytes; at most {URL_BYTES_MAX}", url.len())));
        }
        if let Some(bad) = url.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(wrong(format!("it has the character {bad:?}")));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it begins with http:// or https://".into()))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            other => return Err(wrong(format!("it begins with http:// or https://, not {other}://"))),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            // The address is shown on screens and stands in logs.
            return Err(Failure::field("url", "the address holds a name or password before @; give a key instead"));
        }
        if let Some(mark) = url.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(wrong(format!("it has a {mark}, but routes are added at its end")));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("HOST or HOST:PORT is expected".into()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(wrong("its host is no name and no address".into()));
        }
        let path = match path.trim_end_matches('/') {
            "" => "/v1",
            path => path,
        };
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(Address { secure, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }

    /// Whether it is this machine itself.
    pub fn is_loopback(&self) -> bool {
        let ip: Option<std::net::IpAddr> = self.host.parse().ok();
        self.host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
    }

    /// Host and port, as a request names them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether a key for the one may go to the other.
    pub fn same_place(&self, other: &Address) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Host and, where it is named, port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let number = |text: &str| text.parse().ok().filter(|port| *port > 0);
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let host = host.parse::<std::net::Ipv6Addr>().is_ok().then_some(host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(number(port)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(number(port)?))),
        None => Some((authority, None)),
    }
}

impl UpstreamWish {
    /// Names the first thing that cannot be, else gives the address.
    pub fn check(&self) -> Result<Address, Failure> {
        let address = Address::read(&self.url)?;
        let model = &self.model;
        if model.is_empty() || model.len() > MODEL_BYTES_MAX || !model.chars().all(|c| c.is_ascii_graphic()) {
            let message = format!("the model is 1 to {MODEL_BYTES_MAX} printable characters without spaces");
            return Err(Failure::field("model", message));
        }
        if let Some(Secret(key)) = &self.key {
            // It becomes a header.
            if key.len() > KEY_BYTES_MAX || !key.chars().all(|c| c.is_ascii_graphic()) {
                let message = format!("a key has at most {KEY_BYTES_MAX} printable characters, no spaces or line ends");
                return Err(Failure::field("key", message));
            }
        }
        if !address.secure && !address.is_loopback() && !self.plain_http.eq_ignore_ascii_case(&address.host) {
            let message = format!(
                "{address} is plain http to another machine: what is asked and answered, and the key, can be read on the \
                 way; use https, or say the host again to have it so (--plain-http {})",
                address.host
            );
            return Err(Failure::field("plain_http", message));
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_back() {
        for (typed, written) in [
            ("https://api.example.com/v1/", "https://api.example.com/v1"),
            ("HTTPS://API.example.com", "https://api.example.com/v1"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("http://localhost:80/openai/v1", "http://localhost/openai/v1"),
            ("https://[::1]:8443/v1", "https://[::1]:8443/v1"),
        ] {
            let address = Address::read(typed).unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(Address::read(written).unwrap(), address);
        }
        assert!(Address::read("http://[::1]:1").unwrap().is_loopback());
        assert!(Address::read("http://localhost").unwrap().is_loopback());
        assert!(!Address::read("http://localhost.example.com").unwrap().is_loopback());
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for typed in [
            "",
            "api.example.com",
            "ftp://a",
            "https://",
            "https://a:0",
            "https://a:70000",
            "https://a:b",
            "https://me:secret@a/v1",
            "https://a/v1?key=1",
            "https://a/v1#x",
            "https://a b",
            "https://[a]/v1",
            "https://ä/v1",
            "https://a/v1\r\nx: y",
        ] {
            let failure = Address::read(typed).expect_err(typed);
            assert_eq!(failure.place, "url", "{typed}");
            assert!(!failure.message_en.contains("secret"), "{}", failure.message_en);
        }
        assert!(Address::read(&format!("https://{}", "a".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn plain_http_beyond_this_machine_is_said_twice() {
        let wish = |url: &str, plain_http: &str| UpstreamWish {
            url: url.into(),
            model: "m".into(),
            key: None,
            plain_http: plain_http.into(),
        };
        assert!(wish("http://127.0.0.1:1", "").check().is_ok());
        assert!(wish("https://node7", "").check().is_ok());
        assert!(wish("http://node7", "Node7").check().is_ok());
        for other in ["", "node8", "yes"] {
            assert_eq!(wish("http://node7", other).check().unwrap_err().place, "plain_http");
        }
    }

    #[test]
    fn models_and_keys_are_bounded_and_a_key_is_never_printed() {
        let key = |text: &str| Some(Secret(text.into()));
        let wish = UpstreamWish {
            url: "https://a".into(),
            model: "org/model:7b".into(),
            key: key("sk-very"),
            plain_http: String::new(),
        };
        assert!(wish.check().is_ok());
        assert!(!format!("{wish:?}").contains("sk-very"));
        for (model, text, place) in
            [("", "k", "model"), ("a b", "k", "model"), ("m", "k\n", "key"), ("m", "k k", "key")]
        {
            let wish = UpstreamWish { model: model.into(), key: key(text), ..wish.clone() };
            assert_eq!(wish.check().unwrap_err().place, place);
        }
    }

    #[test]
    fn a_key_goes_to_one_place() {
        let at = |url: &str| Address::read(url).unwrap();
        assert!(at("https://a/v1").same_place(&at("https://A:443/v2")));
        for other in ["http://a:443", "https://b", "https://a:8443"] {
            assert!(!at("https://a").same_place(&at(other)), "{other}");
        }
    }
}
