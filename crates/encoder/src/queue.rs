//! What waits to be encoded: a bounded lane of images, and one of texts. Its own file, and
//! free of threads and clocks, so that fairness, bounds and cancelling can be tested alone;
//! the one thread that owns it is the server's.
//!
//! Connections take turns, and the requests of each: a batch starts with the request at the front,
//! whose connection then goes to the back with all that it has. A single image does not wait for
//! the thousands of another's request, nor for its hundred requests, and other requests of the same
//! model fill the batch up.

use crate::answers::ConnectionId;
use crate::pipeline::{Batch, Slot, Ticket};
use pgclip_wire::protocol::ModelRef;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Items of one kind that wait, by request.
#[derive(Debug)]
pub struct Lane<T> {
    jobs: VecDeque<Job<T>>,
    waiting: usize,
    limit: usize,
    max_batch: usize,
    max_wait: Duration,
}

#[derive(Debug)]
struct Job<T> {
    connection: ConnectionId,
    ticket: Ticket,
    model: ModelRef,
    /// Index in the request, and the item.
    items: VecDeque<(usize, T)>,
    arrived: Instant,
}

impl<T> Lane<T> {
    /// `limit` bounds the items that wait, `max_batch` those of one batch; a batch that is
    /// not full waits for `max_wait` from the arrival of its oldest request.
    pub fn new(limit: usize, max_batch: usize, max_wait: Duration) -> Self {
        Self { jobs: VecDeque::new(), waiting: 0, limit, max_batch, max_wait }
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether a request of `items` may come in where `others` of its kind wait elsewhere. One that
    /// is larger than the bound may, when nothing else waits.
    pub fn has_room(&self, items: usize, others: usize) -> bool {
        let waiting = self.waiting + others;
        waiting == 0 || waiting + items <= self.limit
    }

    /// Takes the items of a request in: each with its index there.
    pub fn push(
        &mut self,
        connection: ConnectionId,
        ticket: Ticket,
        model: ModelRef,
        items: impl IntoIterator<Item = (usize, T)>,
        now: Instant,
    ) {
        let items: VecDeque<_> = items.into_iter().collect();
        self.waiting += items.len();
        if !items.is_empty() {
            self.jobs.push_back(Job { connection, ticket, model, items, arrived: now });
        }
    }

    /// Drops what waits of a request.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.jobs.retain(|job| job.ticket != ticket);
        self.waiting = self.jobs.iter().map(|job| job.items.len()).sum();
    }

    /// When the next batch is due: at once when it is full, `None` when nothing waits.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let front = self.jobs.front()?;
        let same = self.jobs.iter().filter(|job| job.model == front.model);
        let mut items = 0;
        if same.map(|job| job.items.len()).any(|n| {
            items += n;
            items >= self.max_batch
        }) {
            return Some(now);
        }
        self.jobs.iter().map(|job| job.arrived + self.max_wait).min()
    }

    /// Takes the next batch out.
    pub fn pop(&mut self) -> Option<Batch<T>> {
        let Job { connection, ticket, ref model, .. } = *self.jobs.front()?;
        let model = model.clone();
        let mut batch = Batch { model, slots: Vec::new(), items: Vec::new() };
        for job in self.jobs.iter_mut().filter(|job| job.model == batch.model) {
            let take = job.items.len().min(self.max_batch - batch.items.len());
            for (index, item) in job.items.drain(..take) {
                batch.slots.push(Slot { ticket: job.ticket, index });
                batch.items.push(item);
            }
            if batch.items.len() == self.max_batch {
                break;
            }
        }
        self.waiting -= batch.items.len();
        self.jobs.retain(|job| !job.items.is_empty());
        let (mut own, others): (VecDeque<_>, VecDeque<_>) =
            self.jobs.drain(..).partition(|job| job.connection == connection);
        if own.front().is_some_and(|job| job.ticket == ticket) {
            own.rotate_left(1);
        }
        self.jobs = others;
        self.jobs.extend(own);
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(n: u8) -> ModelRef {
        ModelRef { directory: "/m".into(), digest: [n; 32], language: None }
    }

    fn lane(limit: usize, max_batch: usize) -> Lane<u32> {
        Lane::new(limit, max_batch, Duration::from_millis(5))
    }

    fn push(lane: &mut Lane<u32>, ticket: Ticket, model_number: u8, items: u32, now: Instant) {
        // Each of a connection of its own.
        lane.push(ticket, ticket, model(model_number), (0..items).map(|i| (i as usize, i)), now);
    }

    fn tickets(batch: &Batch<u32>) -> Vec<Ticket> {
        batch.slots.iter().map(|slot| slot.ticket).collect()
    }

    #[test]
    fn a_batch_is_due_when_full_or_old() {
        let (mut lane, now) = (lane(100, 4), Instant::now());
        assert_eq!(lane.due(now), None);
        push(&mut lane, 1, 1, 3, now);
        assert_eq!(lane.due(now), Some(now + Duration::from_millis(5)));
        // Items of another model do not fill it.
        push(&mut lane, 2, 2, 3, now);
        assert_eq!(lane.due(now), Some(now + Duration::from_millis(5)));
        push(&mut lane, 3, 1, 1, now);
        assert_eq!(lane.due(now), Some(now));
        assert_eq!(tickets(&lane.pop().unwrap()), [1, 1, 1, 3]);
        assert_eq!(tickets(&lane.pop().unwrap()), [2, 2, 2]);
        assert_eq!((lane.pop(), lane.len(), lane.due(now)), (None, 0, None));
    }

    #[test]
    fn a_large_request_does_not_hold_up_a_small_one() {
        let (mut lane, now) = (lane(100, 4), Instant::now());
        push(&mut lane, 1, 1, 10, now);
        push(&mut lane, 2, 1, 1, now);
        push(&mut lane, 3, 2, 1, now);
        assert_eq!(tickets(&lane.pop().unwrap()), [1; 4]);
        assert_eq!(tickets(&lane.pop().unwrap()), [2, 1, 1, 1]);
        assert_eq!(tickets(&lane.pop().unwrap()), [3]);
        let last = lane.pop().unwrap();
        assert_eq!((tickets(&last), last.items), (vec![1; 3], vec![7, 8, 9]));
    }

    /// A session with many requests on their way once had as many turns.
    #[test]
    fn many_requests_of_one_connection_do_not_hold_up_another() {
        let (mut lane, now) = (lane(1000, 4), Instant::now());
        for ticket in 1..=100 {
            lane.push(1, ticket, model(1), (0..8).map(|i| (i as usize, i)), now);
        }
        lane.push(2, 101, model(2), [(0, 0)], now);
        assert_eq!(tickets(&lane.pop().unwrap()), [1; 4]);
        assert_eq!(tickets(&lane.pop().unwrap()), [101]);
        // Nor do its requests hold up each other.
        assert_eq!(tickets(&lane.pop().unwrap()), [2; 4]);
    }

    #[test]
    fn the_lane_is_bounded_but_takes_any_one_request() {
        let (mut lane, now) = (lane(10, 4), Instant::now());
        assert!(lane.has_room(4096, 0));
        push(&mut lane, 1, 1, 8, now);
        assert!(lane.has_room(2, 0) && !lane.has_room(3, 0) && !lane.has_room(2, 1));
        lane.pop();
        assert!(lane.has_room(6, 0) && !lane.has_room(7, 0));
    }

    #[test]
    fn what_is_cancelled_is_gone() {
        let (mut lane, now) = (lane(10, 4), Instant::now());
        push(&mut lane, 1, 1, 6, now);
        push(&mut lane, 2, 1, 1, now);
        lane.pop();
        lane.cancel(1);
        assert_eq!(lane.len(), 1);
        assert_eq!(tickets(&lane.pop().unwrap()), [2]);
        assert!(lane.pop().is_none());
    }
}
