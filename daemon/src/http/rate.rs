//! What limits leave, as the headers that clients of the OpenAI protocol read. Never here: a limit.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use hone_protocol::failure::Failure;

use crate::dispatcher::{Allowance, Room};

/// Names of the headers, for requests and for tokens: limit, left, time until all is there again.
const NAMES: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

/// Says what limits leave.
pub(super) fn tell(allowance: Allowance, headers: &mut HeaderMap) {
    for (room, [most, left, reset]) in [allowance.requests, allowance.tokens].into_iter().zip(NAMES) {
        let Some(room) = room else { continue };
        headers.insert(most, HeaderValue::from(room.most));
        headers.insert(left, HeaderValue::from(room.left));
        if let Ok(seconds) = HeaderValue::try_from(seconds(room.reset_ms)) {
            headers.insert(reset, seconds);
        }
    }
}

/// Milliseconds as the protocol writes them: seconds, without zeros at the end.
fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What a failure says of limits.
pub(super) fn of(failure: &Failure) -> Allowance {
    let number =
        |name: &str| failure.args.iter().find(|(arg, _)| arg == name).and_then(|(_, value)| value.parse().ok());
    let room = |[most, left, reset]: [&str; 3]| {
        Some(Room { most: number(most)?, left: number(left)?, reset_ms: number(reset)? })
    };
    let [requests, tokens] = Allowance::ARGS.map(room);
    Allowance { requests, tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_as_the_protocol_writes_them() {
        for (ms, text) in [(0, "0s"), (1, "0.001s"), (1_500, "1.5s"), (60_000, "60s"), (100_000, "100s")] {
            assert_eq!(seconds(ms), text);
        }
    }
}
