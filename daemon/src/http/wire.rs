//! The counting writer: it knows which frames of a streamed body `write()` has accepted, because that is what is
//! billed. One [`Wire`] per connection; HTTP/1 has one answer on it at a time.
//! Lives here: the shared counters and the stream that hyper writes to. Never here: tokens, money, JSON.
//!
//! Why a flush means acceptance: hyper's HTTP/1 dispatcher takes a frame from the body and puts it into its write
//! buffer in the same poll; it calls `poll_flush` of the stream only when that buffer is empty, that is after
//! `write()` has taken every byte (`Buffered::poll_flush`, with `pipeline_flush` off as here). So at every call
//! of `poll_flush` all frames handed over so far are accepted. A body offers its next frame only then, so that
//! one frame at most is in doubt and a connection that breaks is billed to the frame.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// What the body of an answer and the connection under it share.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// At most one frame: the next is offered when this one was accepted.
    slot: Mutex<Slot>,
    /// Frames that the body has handed to hyper.
    handed: AtomicU64,
    /// Frames whose bytes `write()` has accepted.
    accepted: AtomicU64,
    /// Told when `accepted` rises.
    flushed: Notify,
    /// Whether nothing may be written any more.
    severed: AtomicBool,
}

#[derive(Debug, Default)]
struct Slot {
    frame: Option<Bytes>,
    offered: u64,
}

/// The client takes nothing: no frame was accepted within the bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has stopped reading")]
pub(super) struct Stalled;

impl Wire {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        // A panic while the lock is held leaves plain data behind.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame where the body finds it; returns its number. The one before it must be accepted.
    pub(super) fn offer(&self, frame: Bytes) -> u64 {
        let mut slot = self.slot();
        debug_assert!(slot.frame.is_none(), "a frame is offered only after the one before it was taken");
        slot.frame = Some(frame);
        slot.offered += 1;
        slot.offered
    }

    /// Takes the offered frame to hand it to hyper.
    pub(super) fn take(&self) -> Option<Bytes> {
        let frame = self.slot().frame.take()?;
        self.handed.fetch_add(1, Ordering::Relaxed);
        Some(frame)
    }

    /// Whether `write()` has accepted every byte of a frame.
    pub(super) fn is_accepted(&self, number: u64) -> bool {
        self.accepted.load(Ordering::Acquire) >= number
    }

    /// Waits until a frame is accepted, at most as long as told.
    pub(super) async fn accepted(&self, number: u64, stall: Duration) -> Result<(), Stalled> {
        let wait = async {
            while !self.is_accepted(number) {
                // One waiter: a permit that was left over only costs one more look.
                self.flushed.notified().await;
            }
        };
        tokio::time::timeout(stall, wait).await.map_err(|_| Stalled)
    }

    /// Lets no byte out any more, so that a count that is about to be billed stays true.
    pub(super) fn sever(&self) {
        self.severed.store(true, Ordering::Release);
    }

    fn is_severed(&self) -> bool {
        self.severed.load(Ordering::Acquire)
    }

    fn note_flush(&self) {
        let handed = self.handed.load(Ordering::Relaxed);
        if self.accepted.swap(handed, Ordering::AcqRel) != handed {
            self.flushed.notify_one();
        }
    }
}

/// A stream that reports to a [`Wire`] what it has accepted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    wire: Arc<Wire>,
}

impl<S> Counted<S> {
    /// Wraps a connection.
    pub(super) fn new(stream: S, wire: Arc<Wire>) -> Counted<S> {
        Counted { stream, wire }
    }

    fn check(&self) -> io::Result<()> {
        if self.wire.is_severed() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the answer was ended: the client stopped reading"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.wire.note_flush();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const STALL: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_frame_counts_only_after_it_was_taken_and_flushed() {
        let (near, _far) = tokio::io::duplex(1024);
        let wire = Arc::new(Wire::default());
        let mut stream = Counted::new(near, Arc::clone(&wire));
        let number = wire.offer(Bytes::from_static(b"one"));
        stream.flush().await.unwrap();
        assert!(!wire.is_accepted(number), "a flush before the frame was handed over says nothing about it");
        let frame = wire.take().unwrap();
        assert_eq!(wire.take(), None);
        stream.write_all(&frame).await.unwrap();
        assert!(!wire.is_accepted(number));
        assert_eq!(wire.accepted(number, STALL).await, Err(Stalled));
        stream.flush().await.unwrap();
        assert_eq!(wire.accepted(number, STALL).await, Ok(()));
    }

    #[tokio::test]
    async fn a_severed_wire_takes_no_more_bytes() {
        let (near, _far) = tokio::io::duplex(1024);
        let wire = Arc::new(Wire::default());
        let mut stream = Counted::new(near, Arc::clone(&wire));
        stream.write_all(b"before").await.unwrap();
        wire.sever();
        assert_eq!(stream.write_all(b"after").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
