//! Who goes first at a serving process. Somebody who waits for an answer never stands behind rows of a batch: rows begin
//! only where a slot stays free after them, and when all slots are taken the youngest rows give way; they are asked again
//! later. Lives here: the counts of both and that rule. Never here: metering, which row comes next, the engine's own queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Turns at one serving process.
#[derive(Default)]
pub struct Turns {
    lanes: Mutex<Lanes>,
    changed: Notify,
}

#[derive(Default)]
struct Lanes {
    /// By adapter: each has slots of its own.
    lanes: HashMap<Option<u32>, Lane>,
    next: u64,
}

#[derive(Default)]
struct Lane {
    /// Answers that somebody waits for.
    urgent: usize,
    /// Rows under way, the youngest last.
    rows: Vec<Row>,
}

struct Row {
    number: u64,
    /// Slots that it takes.
    slots: usize,
    give_way: Arc<Notify>,
}

impl Lane {
    fn taken(&self) -> usize {
        self.urgent + self.rows.iter().map(|row| row.slots).sum::<usize>()
    }

    /// Whether a row may begin: one slot stays free for who comes next, or nobody else is there at all.
    fn has_room(&self, wanted: usize, slots: usize) -> bool {
        self.taken() + wanted < slots || self.taken() == 0
    }
}

/// The turn of somebody who waits; given back when dropped.
pub struct Urgent {
    turns: Arc<Turns>,
    adapter: Option<u32>,
    wanted: usize,
}

/// The turn of a row; given back when dropped.
pub struct Spare {
    turns: Arc<Turns>,
    adapter: Option<u32>,
    number: u64,
    give_way: Arc<Notify>,
}

impl Turns {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn at once. Where `slots` are not enough, rows give way.
    pub fn urgent(self: &Arc<Self>, adapter: Option<u32>, wanted: usize, slots: usize) -> Urgent {
        let mut lanes = self.lanes();
        let lane = lanes.lanes.entry(adapter).or_default();
        lane.urgent += wanted;
        while lane.taken() > slots
            && let Some(row) = lane.rows.pop()
        {
            row.give_way.notify_one();
        }
        Urgent { turns: Arc::clone(self), adapter, wanted }
    }

    /// Waits until a row may begin.
    pub async fn spare(self: &Arc<Self>, adapter: Option<u32>, wanted: usize, slots: usize) -> Spare {
        loop {
            let changed = self.changed.notified();
            if let Some(turn) = self.try_spare(adapter, wanted, slots) {
                return turn;
            }
            changed.await;
        }
    }

    fn try_spare(self: &Arc<Self>, adapter: Option<u32>, wanted: usize, slots: usize) -> Option<Spare> {
        let mut lanes = self.lanes();
        lanes.next += 1;
        let number = lanes.next;
        let lane = lanes.lanes.entry(adapter).or_default();
        if !lane.has_room(wanted, slots) {
            return None;
        }
        let give_way = Arc::new(Notify::new());
        lane.rows.push(Row { number, slots: wanted, give_way: Arc::clone(&give_way) });
        Some(Spare { turns: Arc::clone(self), adapter, number, give_way })
    }

    /// Slots that rows take, of all adapters.
    pub fn rows(&self) -> usize {
        self.lanes().lanes.values().flat_map(|lane| &lane.rows).map(|row| row.slots).sum()
    }
}

impl Spare {
    /// Returns when the row must give way.
    pub async fn taken(&self) {
        self.give_way.notified().await;
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some(lane) = self.turns.lanes().lanes.get_mut(&self.adapter) {
            lane.urgent -= self.wanted;
        }
        self.turns.changed.notify_waiters();
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(lane) = self.turns.lanes().lanes.get_mut(&self.adapter) {
            // One that gave way is no longer there.
            lane.rows.retain(|row| row.number != self.number);
        }
        self.turns.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gave_way(turn: &Spare) -> bool {
        use std::future::Future;
        use std::task::{Context, Poll, Waker};
        let mut taken = std::pin::pin!(turn.taken());
        taken.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn rows_leave_a_slot_free_and_the_youngest_give_way() {
        let turns = Arc::new(Turns::default());
        let first = turns.try_spare(None, 1, 3).unwrap();
        let second = turns.try_spare(None, 1, 3).unwrap();
        assert!(turns.try_spare(None, 1, 3).is_none(), "the third slot stays free");
        assert!(turns.try_spare(Some(1), 1, 3).is_some(), "another adapter has its own slots");
        let asker = turns.urgent(None, 1, 3);
        assert!(!gave_way(&first) && !gave_way(&second), "the free slot was enough");
        let next = turns.urgent(None, 1, 3);
        assert!(gave_way(&second) && !gave_way(&first));
        assert_eq!(turns.rows(), 1);
        drop((asker, second));
        assert!(turns.try_spare(None, 1, 3).is_none());
        drop(next);
        assert!(turns.try_spare(None, 1, 3).is_some());
    }

    #[test]
    fn the_only_slot_is_a_rows_only_while_nobody_waits() {
        let turns = Arc::new(Turns::default());
        let row = turns.try_spare(None, 1, 1).unwrap();
        assert!(turns.try_spare(None, 1, 1).is_none());
        let asker = turns.urgent(None, 1, 1);
        assert!(gave_way(&row));
        drop(row);
        assert!(turns.try_spare(None, 1, 1).is_none(), "not while somebody waits");
        drop(asker);
        // More answers than slots: alone or not at all.
        let wide = turns.try_spare(None, 8, 1).unwrap();
        assert!(turns.try_spare(None, 1, 1).is_none());
        drop(wide);
        assert_eq!(turns.rows(), 0);
    }
}
