//! HTTP as a hub needs it: GET with a token that never leaves the hub's own host, redirects followed by hand, and which
//! troubles are worth another try. Never here: what a hub's answers mean, and files.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use ureq::http::{HeaderMap, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::child::Work;

/// Redirects that are followed; one more is a failure.
const REDIRECTS_MAX: usize = 10;
/// Longest answer of an API in bytes; a longer one is a failure. The largest repositories list some MiB of files.
const API_BYTES_MAX: u64 = 32 << 20;
/// Tries in a row that bring nothing; then the task fails, and can be resumed.
const TRIES_MAX: u32 = 6;
/// Longest answer in bytes that an error page is read to.
const ERROR_BYTES_MAX: u64 = 4096;

/// How patient a client is. Tests are not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// First pause before another try; doubled each time.
    pub(super) pause: Duration,
    /// Longest pause that a hub may ask for (`Retry-After`); when it asks for more, the task fails and says so.
    pub(super) retry_after_max: Duration,
    /// A connection on which nothing comes for so long is given up.
    pub(super) idle: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            pause: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Another try may help, after so long if the server said.
    Later(String, Option<Duration>),
    /// No try helps.
    Final(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Final(failure)
    }
}

/// Counts tries and waits between them, with the task reported alive.
pub(super) struct Tries {
    patience: Patience,
    vain: u32,
}

impl Tries {
    pub(super) fn new(patience: Patience) -> Tries {
        Tries { patience, vain: 0 }
    }

    /// Something came: the count begins anew.
    pub(super) fn progress(&mut self) {
        self.vain = 0;
    }

    /// Waits before another try, or says that there is none.
    pub(super) fn wait(&mut self, work: &Work<'_>, trouble: Trouble) -> Result<(), Failure> {
        let (what, asked) = match trouble {
            Trouble::Final(failure) => return Err(failure),
            Trouble::Later(what, asked) => (what, asked),
        };
        self.vain += 1;
        if self.vain >= TRIES_MAX {
            return Err(download_failed(format!(
                "{what} ({} tries brought nothing); resume the job to go on",
                self.vain
            )));
        }
        if let Some(asked) = asked.filter(|asked| *asked > self.patience.retry_after_max) {
            let message = format!("{what}: the hub asks to wait {} s; resume the job after that", asked.as_secs());
            return Err(download_failed(message));
        }
        let pause = asked.unwrap_or(self.patience.pause * 2u32.pow(self.vain - 1));
        eprintln!("honed fetch: {what}; trying again in {:.1} s", pause.as_secs_f64());
        let until = Instant::now() + pause;
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            work.tick();
            std::thread::sleep(rest.min(Duration::from_millis(200)));
        }
        Ok(())
    }
}

pub(super) fn download_failed(message: String) -> Failure {
    Failure::new(FailureCode::DownloadFailed, message).hint(HintCode::TryAgain)
}

/// A client of one hub.
pub(super) struct Client {
    agent: ureq::Agent,
    /// `https://huggingface.co`, without a slash at the end.
    pub(super) base: String,
    /// Never printed.
    token: Option<String>,
    pub(super) patience: Patience,
}

/// An answer with status 200 or 206.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The headers of the answer, and before them those of the redirects that led to it.
    headers: Vec<HeaderMap>,
    pub(super) body: ureq::Body,
}

impl Answer {
    /// A header of the hub's own answer, else of where it led.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|headers| headers.get(name)?.to_str().ok())
    }

    /// A header of the last answer.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.headers.last()?.get(name)?.to_str().ok()
    }
}

impl Client {
    pub(super) fn new(base: &str, token: Option<String>, patience: Patience) -> Result<Client, Failure> {
        let base = base.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = base.parse().ok();
        let secure = match uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?))) {
            Some(("https", _)) => true,
            Some(("http", _)) => false,
            _ => return Err(download_failed(format!("{base:?} is no address of a hub: https://HOST is expected"))),
        };
        let tls = tls(secure)?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            // Together below the time after which a task that does not tick is taken for stalled.
            .timeout_resolve(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(patience.idle.min(Duration::from_secs(30))))
            .user_agent(format!("hone/{}", hone_protocol::VERSION))
            .build()
            .new_agent();
        Ok(Client { agent, base, token, patience })
    }

    /// Whether a token is sent.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// One try at `url`, from byte `from` on, redirects followed. Any status but 200 and 206 is a trouble.
    pub(super) fn get(&self, work: &Work<'_>, url: &str, from: u64) -> Result<Answer, Trouble> {
        let mut url = url.to_owned();
        let mut headers = Vec::new();
        for _ in 0..=REDIRECTS_MAX {
            work.tick();
            let mut request = self.agent.get(&url).header(header::ACCEPT_ENCODING, "identity");
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            // The whole rule about the token: only to the scheme, host and port that it is for.
            if let Some(token) =
                self.token.as_ref().filter(|_| origin(&url).is_some_and(|o| Some(o) == origin(&self.base)))
            {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| unreachable(&url, &error))?;
            let (parts, body) = response.into_parts();
            headers.push(parts.headers);
            let last = headers.last().expect("one was just pushed");
            if parts.status.is_redirection() {
                let place = last.get(header::LOCATION).and_then(|place| place.to_str().ok());
                url = place.and_then(|place| joined(&url, place)).ok_or_else(|| {
                    download_failed(format!("{} redirects to a place that is no address", host(&url)))
                })?;
                continue;
            }
            if parts.status == StatusCode::OK || parts.status == StatusCode::PARTIAL_CONTENT {
                return Ok(Answer { status: parts.status, headers, body });
            }
            return Err(refused(&url, parts.status, &headers, body));
        }
        Err(download_failed(format!("{} redirects more than {REDIRECTS_MAX} times", host(&url))).into())
    }

    /// The JSON at `url`, tried again where that can help.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, work: &Work<'_>, url: &str) -> Result<T, Failure> {
        let mut tries = Tries::new(self.patience);
        loop {
            let text = self.get(work, url, 0).and_then(|answer| {
                let body = answer.body.into_with_config().limit(API_BYTES_MAX);
                body.read_to_vec().map_err(|error| unreachable(url, &error))
            });
            match text {
                Ok(text) => {
                    return serde_json::from_slice(&text).map_err(|error| {
                        download_failed(format!("{} did not answer as a model hub does: {error}", host(url))).at(url)
                    });
                }
                Err(trouble) => tries.wait(work, trouble)?,
            }
        }
    }
}

/// A client that follows nothing and is done within a time.
pub(super) fn agent(secure: bool, limit: Duration) -> Result<ureq::Agent, Failure> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(tls(secure)?)
        .timeout_global(Some(limit))
        .user_agent(format!("hone/{}", hone_protocol::VERSION));
    Ok(config.build().new_agent())
}

fn tls(secure: bool) -> Result<TlsConfig, Failure> {
    let roots = if secure { authorities()? } else { Vec::new() };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// The certificate authorities of this system, or of `SSL_CERT_FILE`.
fn authorities() -> Result<Vec<Certificate<'static>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let message = "no certificate authorities were found on this system: install ca-certificates, or name a file of \
                       them in SSL_CERT_FILE for honed";
        return Err(Failure::new(FailureCode::DownloadFailed, message));
    }
    Ok(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

fn host(url: &str) -> String {
    url.parse::<Uri>().ok().and_then(|uri| Some(uri.host()?.to_owned())).unwrap_or_else(|| "the hub".into())
}

/// Where a redirect leads. From https only to https.
fn joined(from: &str, place: &str) -> Option<String> {
    let (scheme, rest) = from.split_once("://")?;
    let target = if place.contains("://") {
        place.to_owned()
    } else if let Some(rest) = place.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if place.starts_with('/') {
        format!("{scheme}://{}{place}", rest.split('/').next()?)
    } else {
        return None;
    };
    let kept = target.starts_with("https://") || (scheme == "http" && target.starts_with("http://"));
    (kept && origin(&target).is_some()).then_some(target)
}

/// A request that got no whole answer. Nothing that is sent stands in ureq's errors.
pub(super) fn unreachable(url: &str, error: &ureq::Error) -> Trouble {
    let message = format!("{} cannot be reached: {error}", host(url));
    let not_safe = match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(inner) => inner.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        _ => false,
    };
    if not_safe {
        return Trouble::Final(download_failed(format!(
            "the connection to {} is not safe: {error}; where a proxy signs connections, name its certificate in \
             SSL_CERT_FILE for honed",
            host(url)
        )));
    }
    match error {
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Http(_) => {
            Trouble::Final(download_failed(message))
        }
        ureq::Error::BodyExceedsLimit(limit) => {
            Trouble::Final(download_failed(format!("the answer of {} is longer than {limit} bytes", host(url))))
        }
        _ => Trouble::Later(message, None),
    }
}

/// A status that is no success.
fn refused(url: &str, status: StatusCode, headers: &[HeaderMap], body: ureq::Body) -> Trouble {
    let last = headers.last().expect("every answer has headers");
    let word = |name: &str| last.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut said = word("x-error-message");
    if said.is_empty() {
        let mut page = Vec::new();
        let _ = body.into_reader().take(ERROR_BYTES_MAX).read_to_end(&mut page);
        // What is no sentence (a page of HTML) is not repeated.
        said = String::from_utf8(page).ok().filter(|t| t.len() < 200 && !t.contains('<')).unwrap_or_default();
    }
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    let what = format!("{} answered {status}{}{said}", host(url), if said.is_empty() { "" } else { ": " });
    match status.as_u16() {
        429 | 500..=599 | 408 => Trouble::Later(what, word("retry-after").trim().parse().ok().map(Duration::from_secs)),
        code => {
            let kind = match code {
                401 | 403 => FailureCode::Forbidden,
                404 | 410 => FailureCode::NotFound,
                _ => FailureCode::DownloadFailed,
            };
            Trouble::Final(Failure::new(kind, what).arg("error", word("x-error-code")).arg("status", code))
        }
    }
}

/// A text as one part of an address; slashes are kept with `path`.
pub(super) fn encoded(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (path && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_safe_and_an_origin_has_a_port() {
        assert_eq!(joined("https://a/b/c", "/d").as_deref(), Some("https://a/d"));
        assert_eq!(joined("https://a:8/b", "//x/d").as_deref(), Some("https://x/d"));
        assert_eq!(joined("https://a/b", "http://a/b"), None);
        assert_eq!(joined("http://a/b", "https://a/b").as_deref(), Some("https://a/b"));
        assert_eq!(joined("http://a/b", "file:///etc/passwd"), None);
        assert_eq!(joined("http://a/b", "relative"), None);
        assert_eq!(origin("https://A.b/c"), origin("https://a.b:443/d?e"));
        assert_ne!(origin("https://a.b/c"), origin("http://a.b/c"));
        assert_ne!(origin("http://a.b:81/c"), origin("http://a.b/c"));
    }

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(encoded("a b/模.gguf", true), "a%20b/%E6%A8%A1.gguf");
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
