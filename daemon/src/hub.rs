//! What readers see: the published state, and the numbered events that follow it. Lives here: publication and
//! subscription. Never here: a decision.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hone_protocol::event::{Change, Event};
use tokio::sync::{Notify, broadcast};

use crate::state::State;

/// Events that a slow subscriber may be behind; at the bound it gets a fresh snapshot instead.
const EVENTS_BEHIND_MAX: usize = 1024;

/// The published state and its events.
pub struct Hub {
    state: RwLock<Arc<State>>,
    // Held while state and number change together, so that a snapshot's number is exactly its content's.
    seq: Mutex<u64>,
    events: broadcast::Sender<Arc<Event>>,
    watched: Notify,
}

impl Hub {
    /// Begins with a state and no event.
    pub fn new(state: State) -> Hub {
        let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        Hub { state: RwLock::new(Arc::new(state)), seq: Mutex::new(0), events, watched: Notify::new() }
    }

    /// The state as last committed.
    pub fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections watch.
    pub fn watchers(&self) -> usize {
        self.events.receiver_count()
    }

    /// Publishes a committed state and what changed in it.
    pub fn publish(&self, state: State, changes: Vec<Change>) {
        let mut seq = self.seq.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = state.fixed.epoch;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        for change in changes {
            *seq += 1;
            // Nobody watching is not an error.
            let _ = self.events.send(Arc::new(Event { epoch, seq: *seq, change }));
        }
    }

    /// The state, the number of the last event in it, and all events after it.
    pub fn watch(&self) -> (Arc<State>, u64, broadcast::Receiver<Arc<Event>>) {
        let seq = self.seq.lock().unwrap_or_else(PoisonError::into_inner);
        let events = self.events.subscribe();
        self.watched.notify_waiters();
        (self.state(), *seq, events)
    }

    /// Waits until somebody watches.
    pub async fn someone_watches(&self) {
        loop {
            let watched = self.watched.notified();
            if self.watchers() > 0 {
                return;
            }
            watched.await;
        }
    }
}
