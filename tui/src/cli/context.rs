//! What every verb is given: how to reach the daemon, and how to speak. Here too: turning what people type for a
//! job, an evaluation or a key into its id. Never here: printing data.

use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::{Id, JobId, Kind};
use hone_protocol::request::{Answer, ROWS_MAX, Request};

use crate::link::{Link, Options};
use crate::print;

/// Fewest characters of the end of an id that may stand for it.
const SUFFIX_MIN: usize = 4;

/// What every verb is given.
#[derive(Debug)]
pub(super) struct Context {
    /// How to reach the daemon.
    pub options: Options,
    /// Whether stdout is JSON.
    pub json: bool,
    /// The language of sentences.
    pub language: Language,
    /// The idempotency key, as typed.
    pub once: Option<String>,
    /// Who pays for jobs; none for the owner.
    pub payer: Option<String>,
    /// Where jobs and services compute; none for `local`, or for where they were.
    pub pool: Option<String>,
}

impl Context {
    /// A connection.
    pub(super) fn link(&self) -> Result<Link, Failure> {
        Link::connect(&self.options)
    }

    /// The text of a catalogue key with its variables.
    pub(super) fn fill(&self, key: &'static str, args: &[(&str, &str)]) -> String {
        catalogue::fill(self.language, key, args)
    }

    /// Says a sentence on stderr.
    pub(super) fn say(&self, key: &'static str, args: &[(&str, &str)]) {
        print::note(&self.fill(key, args));
    }

    /// Asks for a change, under the typed idempotency key when there is one. `part` tells apart the several
    /// changes that one verb may make.
    pub(super) fn change(&self, link: &mut Link, part: &str, request: Request) -> Result<Answer, Failure> {
        match &self.once {
            Some(once) => link.ask_once(request, &format!("{once}/{part}")),
            None => link.ask(request),
        }
    }

    /// The job that a person means: its id, the end of its id, or `last`.
    pub(super) fn job(&self, link: &mut Link, typed: &str) -> Result<JobId, Failure> {
        if let Ok(id) = typed.parse() {
            return Ok(id);
        }
        let count = if typed == "last" { 1 } else { ROWS_MAX };
        let jobs = answer!(link.ask(Request::Jobs { count })?, Jobs);
        let ids: Vec<JobId> = jobs.iter().map(|j| j.record.id).collect();
        match (typed, ids.first()) {
            ("last", Some(id)) => Ok(*id),
            _ => by_suffix("job", &ids, typed),
        }
    }
}

/// The one id whose end is what was typed.
pub(super) fn by_suffix<K: Kind>(kind: &str, ids: &[Id<K>], typed: &str) -> Result<Id<K>, Failure> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    let long_enough = typed.len() >= SUFFIX_MIN;
    let mut matching = ids.iter().filter(|id| long_enough && id.to_string().ends_with(typed));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(*id),
        (Some(_), Some(_)) => Err(Failure::new(
            FailureCode::InvalidRequest,
            format!("more than one {kind} ends with {typed:?}; type more of the id"),
        )
        .at(kind)
        .hint(HintCode::ListNames)),
        _ => Err(Failure::not_found(kind, typed)),
    }
}

/// The content of an answer of one variant; any other is a bug of the daemon's.
macro_rules! answer {
    ($answer:expr, $variant:ident) => {
        match $answer {
            hone_protocol::request::Answer::$variant(content) => content,
            other => return Err($crate::cli::context::surprise(&other).into()),
        }
    };
}
pub(super) use answer;

/// The failure for an answer that does not belong to the question.
pub(super) fn surprise(answer: &Answer) -> Failure {
    let word = print::word_of(answer);
    Failure::new(FailureCode::Internal, format!("the daemon answered {word:?}, which is no answer to this request"))
        .hint(HintCode::ReportBug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_id_is_enough_when_it_is_unique() {
        let ids = [JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16])];
        let end = ids[1].short();
        assert_eq!(by_suffix("job", &ids, &end).unwrap(), ids[1]);
        assert_eq!(by_suffix("job", &ids, &ids[0].to_string()).unwrap(), ids[0]);
        assert_eq!(by_suffix("job", &ids, &end[6..]).unwrap_err().code, FailureCode::NotFound, "too short");
        let twins = [ids[0], ids[0]];
        assert_eq!(by_suffix("job", &twins, &ids[0].short()).unwrap_err().code, FailureCode::InvalidRequest);
    }
}
