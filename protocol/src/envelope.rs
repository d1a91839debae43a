//! What goes over a connection around requests and answers: who asks, which answer is to which wish, what is streamed. Never here:
//! the wishes themselves (see [`crate::request`]).

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::event::{Event, Snapshot};
use crate::failure::Failure;
use crate::generate::TokenChance;
use crate::job::JobEvent;
use crate::request::Request;

/// From client to daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// On JSON lines only, optional, first: who is asking. Frames say it in the hello.
    Hello {
        /// The person that acts are attributed to.
        person: String,
        /// A project of labelling that the connection is for, and nothing else from then on; none for no such bound.
        project: Option<String>,
    },
    /// Ask.
    Ask {
        /// Chosen by the client; the answer carries it.
        id: u64,
        /// Makes a repeated wish harmless: the same text with the same request gets the same answer for 7 days.
        once: Option<String>,
        /// The wish.
        request: Request,
    },
    /// End the stream that belongs to an earlier request (a followed job, a chat answer).
    Stop {
        /// The id of that request.
        id: u64,
    },
}

/// From daemon to client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// The answer to a request. The last message that carries its id.
    Answer {
        /// The request's id.
        id: u64,
        /// What it is.
        answer: Result<Box<Answer>, Failure>,
    },
    /// A part of a longer answer: followed events, chat text.
    Part {
        /// The request's id.
        id: u64,
        /// The part.
        part: StreamPart,
    },
    /// Everything a mirror needs; sent after `watch` and after a gap.
    Snapshot(Box<Snapshot>),
    /// A fact that changed, for watching clients.
    Event(Box<Event>),
}

/// A part of a longer answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamPart {
    /// A durable event of a followed job.
    Job(JobEvent),
    /// A piece of a chat answer.
    Text {
        /// The piece.
        text: String,
        /// Tokens sampled so far, up to the end of this piece.
        tokens: u64,
    },
    /// How likely the tokens of a chat answer were that have become wholly part of its text since the last ones, when
    /// `chances` asked for them.
    Chances(Vec<TokenChance>),
}
