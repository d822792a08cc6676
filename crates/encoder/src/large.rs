//! Large images: those that take much memory or time to decode. They wait apart from the others,
//! and what is being decoded of them together stays within one budget, so that whatever anybody
//! sends, the pictures of others go on beside it. Its own file, and free of threads and clocks, so
//! that budget, turns and cancelling can be tested alone; the thread that owns the queue owns this.
//!
//! - The budget is cut in two. At most a quarter is for ordinary images, of which there is at most one
//!   a thread: each may take that quarter divided by the threads, or [`ORDINARY`] if that is less.
//!   The rest is for large ones, and an image that needs more than that is refused.
//! - Connections take turns: first who has least memory in use, then who has waited longest.
//! - Who is first and finds too little memory keeps his place. Others may go before him, as long as
//!   he and they fit in together: they never make him wait longer.

use crate::answers::ConnectionId;
use crate::pipeline::{Large, Slot, Ticket};
use std::collections::{BTreeMap, VecDeque};

/// Bytes that an ordinary image takes at most while it is decoded: the time that it takes is in
/// proportion, and others of its batch wait for it. A JPEG of 5 megapixels is one.
const ORDINARY: u64 = 24 << 20;

/// How much memory decoding may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of one ordinary image at most.
    pub ordinary: u64,
    /// Bytes of all large images that are decoded at the same time.
    pub large: u64,
}

impl Budget {
    /// Of `bytes` in all.
    pub fn new(bytes: u64, threads: usize) -> Self {
        let ordinary = (bytes / 4 / threads.max(1) as u64).min(ORDINARY);
        Self { ordinary, large: bytes - ordinary * threads.max(1) as u64 }
    }

    /// Every image is an ordinary one.
    pub fn unlimited() -> Self {
        Self { ordinary: u64::MAX, large: u64::MAX }
    }
}

/// The large images that wait, and what those take that are being decoded.
#[derive(Debug)]
pub struct LargeLane {
    budget: u64,
    /// Of each connection that has any, never empty.
    queues: BTreeMap<ConnectionId, Queue>,
    waiting: usize,
    running: Vec<Running>,
    /// Workers that have nothing to do.
    free_workers: usize,
    /// Counts what happens, as a clock for turns.
    clock: u64,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Large>,
    /// When it began to wait, or was last served.
    since: u64,
}

#[derive(Debug)]
struct Running {
    slot: Slot,
    connection: ConnectionId,
    need: u64,
    /// It went before somebody who still waits.
    overtook: bool,
}

impl LargeLane {
    pub fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.large,
            queues: BTreeMap::new(),
            waiting: 0,
            running: Vec::new(),
            free_workers: 0,
            clock: 0,
        }
    }

    /// Images that wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    pub fn push(&mut self, connection: ConnectionId, item: Large) {
        self.clock += 1;
        let since = self.clock;
        let new = || Queue { items: VecDeque::new(), since };
        self.queues.entry(connection).or_insert_with(new).items.push_back(item);
        self.waiting += 1;
    }

    /// Drops what waits of a request.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.queues.retain(|_, queue| {
            queue.items.retain(|item| item.slot.ticket != ticket);
            !queue.items.is_empty()
        });
        self.waiting = self.queues.values().map(|queue| queue.items.len()).sum();
    }

    /// A worker has nothing to do.
    pub fn ready(&mut self) {
        self.free_workers += 1;
    }

    /// The memory of an image is free again.
    pub fn freed(&mut self, slot: Slot) {
        if let Some(at) = self.running.iter().position(|running| running.slot == slot) {
            let Running { connection, .. } = self.running.swap_remove(at);
            // Served just now: those who have been waiting meanwhile are first.
            self.clock += 1;
            if let Some(queue) = self.queues.get_mut(&connection) {
                queue.since = self.clock;
            }
        }
    }

    fn used(&self, by: impl Fn(&Running) -> bool) -> u64 {
        self.running.iter().filter(|running| by(running)).map(|running| running.need).sum()
    }

    /// The next image that there are a worker and memory for.
    pub fn next(&mut self) -> Option<Large> {
        if self.free_workers == 0 {
            return None;
        }
        let free = self.budget.saturating_sub(self.used(|_| true));
        let overtakers = self.used(|running| running.overtook);
        let mut turns: Vec<(u64, u64, ConnectionId, u64)> = self
            .queues
            .iter()
            .map(|(&connection, queue)| {
                let used = self.used(|running| running.connection == connection);
                (used, queue.since, connection, queue.items[0].need)
            })
            .collect();
        turns.sort_unstable();
        let (.., first) = *turns.first()?;
        let (at, (.., connection, need)) = turns.into_iter().enumerate().find(|(at, turn)| {
            let fits = turn.3 <= free;
            fits && (*at == 0 || overtakers + turn.3 + first <= self.budget)
        })?;
        if at == 0 {
            self.running.iter_mut().for_each(|running| running.overtook = false);
        }
        self.clock += 1;
        let queue = self.queues.get_mut(&connection)?;
        queue.since = self.clock;
        let item = queue.items.pop_front()?;
        if queue.items.is_empty() {
            self.queues.remove(&connection);
        }
        self.waiting -= 1;
        self.free_workers -= 1;
        self.running.push(Running { slot: item.slot, connection, need, overtook: at > 0 });
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgclip_wire::protocol::{Image, ModelRef};

    fn item(ticket: Ticket, index: usize, need: u64) -> Large {
        let model = ModelRef { directory: "/m".into(), digest: [1; 32], language: None };
        Large { model, slot: Slot { ticket, index }, image: Image::from(Vec::new()), need }
    }

    fn lane(budget: u64, workers: usize) -> LargeLane {
        let mut lane = LargeLane::new(&Budget { ordinary: 1, large: budget });
        (0..workers).for_each(|_| lane.ready());
        lane
    }

    /// Takes out what can begin now; ticket and index of each.
    fn begin(lane: &mut LargeLane) -> Vec<(Ticket, usize)> {
        std::iter::from_fn(|| lane.next()).map(|item| (item.slot.ticket, item.slot.index)).collect()
    }

    fn end(lane: &mut LargeLane, ticket: Ticket, index: usize) {
        lane.freed(Slot { ticket, index });
        lane.ready();
    }

    #[test]
    fn the_parts_of_a_budget_make_it_up() {
        for (bytes, threads) in [(2 << 30, 2), (2 << 30, 16), (2 << 30, 500), (64 << 20, 3)] {
            let Budget { ordinary, large } = Budget::new(bytes, threads);
            assert_eq!(ordinary * threads as u64 + large, bytes);
            assert!(large >= bytes / 4 * 3 && ordinary > 0 && ordinary <= ORDINARY);
        }
    }

    /// Four lossless WebP of 34 bytes and 9999 × 9999 pixels once took 0.9 GB each at once.
    #[test]
    fn together_they_stay_within_the_budget() {
        let mut lane = lane(1000, 4);
        (0..4).for_each(|index| lane.push(1, item(1, index, 600)));
        assert_eq!(begin(&mut lane), [(1, 0)]);
        assert_eq!((begin(&mut lane), lane.len()), (vec![], 3));
        end(&mut lane, 1, 0);
        assert_eq!(begin(&mut lane), [(1, 1)]);
    }

    #[test]
    fn there_is_one_a_worker() {
        let mut lane = lane(1000, 2);
        (0..3).for_each(|index| lane.push(1, item(1, index, 10)));
        assert_eq!(begin(&mut lane), [(1, 0), (1, 1)]);
        // Its memory is free before its worker is.
        lane.freed(Slot { ticket: 1, index: 0 });
        assert_eq!(begin(&mut lane), []);
        lane.ready();
        assert_eq!(begin(&mut lane), [(1, 2)]);
    }

    #[test]
    fn a_flood_of_one_connection_delays_another_by_one_image() {
        let mut lane = lane(1000, 8);
        // Of many requests, as a connection may have.
        (0..100).for_each(|ticket| lane.push(1, item(ticket, 0, 600)));
        assert_eq!(begin(&mut lane), [(0, 0)]);
        lane.push(2, item(200, 0, 700));
        lane.push(3, item(300, 0, 300));
        // The third fits beside the second's, which is first now, so it makes nobody wait.
        assert_eq!(begin(&mut lane), [(300, 0)]);
        end(&mut lane, 0, 0);
        assert_eq!(begin(&mut lane), [(200, 0)]);
        end(&mut lane, 300, 0);
        end(&mut lane, 200, 0);
        assert_eq!(begin(&mut lane), [(1, 0)]);
    }

    #[test]
    fn who_waits_for_memory_is_not_overtaken_for_ever() {
        let mut lane = lane(1000, 50);
        lane.push(1, item(1, 0, 900));
        assert_eq!(begin(&mut lane), [(1, 0)]);
        lane.push(2, item(2, 0, 950));
        // Small ones of others that never end: as many as fit in beside the one that waits.
        for connection in 3..30 {
            lane.push(connection, item(connection, 0, 20));
        }
        assert_eq!(begin(&mut lane), [(3, 0), (4, 0)]);
        end(&mut lane, 1, 0);
        assert_eq!(begin(&mut lane), [(2, 0)]);
    }

    #[test]
    fn what_is_cancelled_is_gone() {
        let mut lane = lane(1000, 8);
        lane.push(1, item(1, 0, 900));
        lane.push(1, item(1, 1, 900));
        lane.push(1, item(2, 0, 900));
        assert_eq!(begin(&mut lane), [(1, 0)]);
        lane.cancel(1);
        assert_eq!(lane.len(), 1);
        end(&mut lane, 1, 0);
        assert_eq!(begin(&mut lane), [(2, 0)]);
        // What is told twice frees nothing twice.
        end(&mut lane, 1, 0);
        lane.push(3, item(3, 0, 900));
        assert_eq!(begin(&mut lane), []);
    }
}
