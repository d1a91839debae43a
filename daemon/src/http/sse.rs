//! Server-sent events: how frames look, and the body that hands one frame at a time to the connection.
//! Lives here: `data:` lines, the keep-alive comment, the body. Never here: what is in a frame, or a count of tokens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::wire::{Stalled, Wire};

/// A comment that clients skip: the connection lives.
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// The end of a stream.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// One event. JSON has no raw line end, so one `data:` line carries it.
pub(super) fn event(json: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(json.len() + 8);
    push_event(&mut frame, json);
    Bytes::from(frame)
}

/// One event with a name of its own.
pub(super) fn named_event(name: &str, json: &[u8]) -> Vec<u8> {
    let mut frame = format!("event: {name}\n").into_bytes();
    push_event(&mut frame, json);
    frame
}

fn push_event(frame: &mut Vec<u8>, json: &[u8]) {
    debug_assert!(!json.contains(&b'\n'), "an event is one line");
    frame.extend_from_slice(b"data: ");
    frame.extend_from_slice(json);
    frame.extend_from_slice(b"\n\n");
}

/// What makes the frames: it offers them on the wire and ends when the last one is offered.
pub(super) type Frames = Pin<Box<dyn Future<Output = Result<(), Stalled>> + Send>>;

/// The body of a streamed answer. When it is dropped, so is what makes its frames, and with it the answer.
pub(super) struct SseBody {
    wire: Arc<Wire>,
    frames: Option<Frames>,
}

impl SseBody {
    /// A body whose frames come from a future that offers them on the same wire.
    pub(super) fn new(wire: Arc<Wire>, frames: Frames) -> SseBody {
        SseBody { wire, frames: Some(frames) }
    }
}

impl Body for SseBody {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        if let Some(frames) = self.frames.as_mut()
            && let Poll::Ready(end) = frames.as_mut().poll(cx)
        {
            self.frames = None;
            if let Err(stalled) = end {
                // An error makes hyper end the connection: a client must not take a cut answer for a whole one.
                return Poll::Ready(Some(Err(stalled)));
            }
        }
        match self.wire.take() {
            Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            None if self.frames.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
