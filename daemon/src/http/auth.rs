//! The guards that stand before every route, in this order: host name, origin, fetch site, key, content type,
//! announced length. Loopback is no access control: every local user and every web page of a local browser can
//! reach it (DNS rebinding, cross-site requests), hence a key always and no browser at all.
//! Never here: what a key may do, which the desk knows.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use hone_protocol::failure::FailureCode;

use super::Hosts;
use super::desk::{Caller, Desk};
use super::failure::Refusal;

/// Largest body of a request. A larger one is refused with 413.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;
/// Longest key text. A longer one is a wrong key.
const KEY_BYTES_MAX: usize = 256;
/// Wrong keys that a peer may send in a minute; each one more is answered late.
const WRONG_KEYS_PER_MINUTE_MAX: u32 = 20;
/// How late. The connection keeps its place for so long.
const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);
/// Peers that are counted at once. Past it the counts begin anew, which only forgets delays.
const PEERS_MAX: usize = 1024;
const MINUTE: Duration = Duration::from_secs(60);

/// Set by browsers on every request that they send.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request may be answered at all: host, origin, fetch site.
pub(super) fn check_source(request: &Request<Body>, hosts: &Hosts) -> Result<(), Refusal> {
    let forbid = |code, message: &str| Err(Refusal::new(StatusCode::FORBIDDEN, code, message));
    if !host_is_allowed(request, hosts) {
        return forbid(
            "host_not_allowed",
            "this Host is not allowed; use 127.0.0.1, localhost, [::1] or a name that the owner has configured",
        );
    }
    if request.headers().contains_key(ORIGIN) {
        return forbid("origin_not_allowed", "requests from web pages (header Origin) are not answered");
    }
    let foreign = |site: &axum::http::HeaderValue| !matches!(site.as_bytes(), b"same-origin" | b"none");
    if request.headers().get_all(SEC_FETCH_SITE).iter().any(foreign) {
        return forbid("fetch_site_not_allowed", "cross-site requests of a browser are not answered");
    }
    Ok(())
}

/// Exactly one Host, and a name of the list; if the target names an authority, that too.
fn host_is_allowed(request: &Request<Body>, hosts: &Hosts) -> bool {
    let mut given = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return false;
    };
    let in_target = request.uri().authority().is_none_or(|authority| name_is_allowed(authority.as_str(), hosts));
    in_target && host.to_str().is_ok_and(|host| name_is_allowed(host, hosts))
}

/// The name decides, the port does not: a forwarded port has another number here than there.
fn name_is_allowed(host: &str, hosts: &Hosts) -> bool {
    let name = match host.rsplit_once(':') {
        // A colon inside brackets belongs to the address.
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    let loopback = ["127.0.0.1", "localhost", "[::1]"].into_iter();
    loopback.chain(hosts.names.iter().map(String::as_str)).any(|allowed| name.eq_ignore_ascii_case(allowed))
        || (hosts.addresses && is_address(name))
}

/// An address in numbers, written as a host.
fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    inner.map_or_else(|| name.parse::<Ipv4Addr>().is_ok(), |inner| inner.parse::<Ipv6Addr>().is_ok())
}

/// Where clients of the Anthropic protocol send the key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who calls, by the one key of the request.
pub(super) fn caller<D: Desk>(desk: &D, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let key = bearer(headers).ok_or_else(Refusal::wrong_key)?;
    desk.authenticate(key).map_err(|failure| match failure.code {
        // Whatever is wrong with the key itself has one body.
        FailureCode::NotFound | FailureCode::Forbidden | FailureCode::InvalidRequest | FailureCode::InvalidField => {
            Refusal::wrong_key()
        }
        _ => Refusal::from(failure),
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let plausible = |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    let mut given = headers.get_all(AUTHORIZATION).iter().chain(headers.get_all(X_API_KEY));
    let (Some(value), None) = (given.next(), given.next()) else {
        return None;
    };
    let value = value.to_str().ok()?;
    if headers.contains_key(X_API_KEY) {
        return Some(value).filter(plausible);
    }
    let (scheme, key) = value.split_once(' ')?;
    Some(key.trim_matches(' ')).filter(|key| scheme.eq_ignore_ascii_case("bearer") && plausible(key))
}

/// Content type and announced length. JSON is asked for by name, because a web page can send anything else
/// without asking first.
pub(super) fn check_body(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if method == Method::POST && !is_json(headers) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the body as JSON with the header 'Content-Type: application/json'",
        ));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    Ok(())
}

/// The refusal of a body past [`BODY_BYTES_MAX`].
pub(super) fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        format!("the body is larger than {BODY_BYTES_MAX} bytes; shorten the conversation"),
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return false;
    };
    let essence = value.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or("");
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Counts wrong keys per peer, so that guessing is slow. Every connection of a Unix socket is one peer.
#[derive(Debug, Default)]
pub(super) struct WrongKeys {
    peers: Mutex<HashMap<Option<IpAddr>, (Instant, u32)>>,
}

impl WrongKeys {
    /// Notes a wrong key and says how long to wait with the answer.
    pub(super) fn note(&self, peer: Option<IpAddr>, now: Instant) -> Duration {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            peers.clear();
        }
        let (since, count) = peers.entry(peer).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count > WRONG_KEYS_PER_MINUTE_MAX { WRONG_KEY_DELAY } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_and_configured_ones_pass_with_any_port() {
        let hosts = Hosts { names: vec!["models.example".to_owned()], addresses: false };
        for good in
            ["127.0.0.1", "localhost", "LocalHost:9000", "[::1]", "[::1]:80", "127.0.0.1:1", "Models.Example:443"]
        {
            assert!(name_is_allowed(good, &hosts), "{good}");
        }
        for bad in [
            "",
            "evil.test",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "localhost.",
            "0.0.0.0",
            "::1",
            "[::2]",
            "user@localhost",
            "localhost:",
            "localhost:80a",
            "localhost:123456",
            "127.0.0.1:80:80",
            "localhost:80@evil.test",
            "[::1]evil",
            "127.1",
            "2130706433",
            "models.example.evil.test",
        ] {
            assert!(!name_is_allowed(bad, &hosts), "{bad}");
        }
        let open = Hosts { names: Vec::new(), addresses: true };
        for good in ["192.168.0.2:7077", "0.0.0.0", "[fe80::1]:80", "localhost"] {
            assert!(name_is_allowed(good, &open), "{good}");
        }
        for bad in ["models.example", "fe80::1", "127.1", "2130706433", "[127.0.0.1]", "evil.test:80"] {
            assert!(!name_is_allowed(bad, &open), "{bad}");
        }
    }

    #[test]
    fn a_bearer_key_is_one_header_with_one_visible_word() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer hone_a_b"])), Some("hone_a_b"));
        assert_eq!(bearer(&headers(&["bEARER  hone_a_b "])), Some("hone_a_b"));
        let long = format!("Bearer {}", "x".repeat(KEY_BYTES_MAX + 1));
        for bad in [
            &["Bearer"][..],
            &["Bearer "],
            &["Basic aGk="],
            &["hone_a_b"],
            &["Bearer a b"],
            &["Bearer a", "Bearer a"],
            &[&long],
        ] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn guessing_becomes_slow_and_is_forgiven_after_a_minute() {
        let wrong = WrongKeys::default();
        let start = Instant::now();
        let peer = Some(IpAddr::from([127, 0, 0, 1]));
        for _ in 0..WRONG_KEYS_PER_MINUTE_MAX {
            assert_eq!(wrong.note(peer, start), Duration::ZERO);
        }
        assert_eq!(wrong.note(peer, start), WRONG_KEY_DELAY);
        assert_eq!(wrong.note(None, start), Duration::ZERO, "another peer");
        assert_eq!(wrong.note(peer, start + MINUTE), Duration::ZERO);
    }
}
