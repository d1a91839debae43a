//! `GET /v1/models` and `GET /v1/models/{id}`: what this key may call, and nothing else.
//! Lives here: the lookup of a name and its nearest names. Never here: who may call what.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::Response;
use axum::response::IntoResponse;

use super::Room;
use super::desk::{Callable, Caller, Desk};
use super::failure::Refusal;
use super::openai::{self, Model, ModelList};

/// Names that an unknown one is answered with.
const NEAREST_MAX: usize = 3;
/// Characters of a name that are compared: enough to tell names apart, and a bound on the work.
const COMPARED_CHARS_MAX: usize = 64;

/// `GET /v1/models`.
pub(super) async fn list<D: Desk>(State(room): State<Room<D>>, Extension(caller): Extension<Caller>) -> Response<Body> {
    let mut services = room.desk.services(&caller);
    services.retain(|service| service.wanted);
    super::json_response(openai::json(&ModelList::new(&services)))
}

/// `GET /v1/models/{id}`.
pub(super) async fn retrieve<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
) -> Response<Body> {
    // A name that is no text is a name that nothing has.
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    match find(&room.desk.services(&caller), &name) {
        Ok(callable) => super::json_response(openai::json(&Model::new(callable))),
        Err(refusal) => refusal.into_response(),
    }
}

/// The service of a name, or the refusal that names the nearest.
pub(super) fn find<'a>(callables: &'a [Callable], name: &str) -> Result<&'a Callable, Refusal> {
    callables
        .iter()
        .find(|callable| callable.name == name)
        .ok_or_else(|| Refusal::unknown_model(name, &nearest(callables, name)))
}

/// The service that a request without a name means: the one that this key may call.
pub(super) fn only(callables: &[Callable]) -> Result<&Callable, Refusal> {
    let mut on = callables.iter().filter(|callable| callable.wanted);
    match (on.next(), on.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Refusal::param(
            "model",
            "missing_required_parameter",
            "model is missing; without it exactly one service must be on for this key",
        )),
    }
}

fn nearest<'a>(callables: &'a [Callable], name: &str) -> Vec<&'a str> {
    let mut names: Vec<(usize, &str)> =
        callables.iter().map(|callable| (distance(&callable.name, name), callable.name.as_str())).collect();
    names.sort();
    names.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
}

/// Edit distance (Levenshtein 1966) over the first [`COMPARED_CHARS_MAX`] characters, case set aside.
fn distance(a: &str, b: &str) -> usize {
    let chars = |text: &str| text.chars().take(COMPARED_CHARS_MAX).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (chars(a), chars(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("Desk", "desk", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
        assert_eq!(distance(&"x".repeat(1_000_000), "x"), COMPARED_CHARS_MAX - 1);
    }
}
