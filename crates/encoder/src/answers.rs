//! Requests that were accepted and are not answered yet: whose they are, and the results
//! that have come in so far. Its own file because one request can be spread over many
//! batches and one batch over many requests; here they come together again.

use crate::pipeline::{ItemResult, Slot, Ticket};
use pgclip_wire::protocol::Response;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Names a connection among all that there ever were.
pub type ConnectionId = u64;

/// A request on its way.
#[derive(Debug)]
pub struct Pending {
    pub connection: ConnectionId,
    /// The id that the client chose.
    pub id: u64,
    pub arrived: Instant,
    /// Bytes of memory that the request is charged with.
    pub charge: usize,
    results: Vec<Option<ItemResult>>,
    missing: usize,
    dimensions: usize,
}

impl Pending {
    pub fn new(
        connection: ConnectionId,
        id: u64,
        arrived: Instant,
        charge: usize,
        items: usize,
    ) -> Self {
        let results = (0..items).map(|_| None).collect();
        Self { connection, id, arrived, charge, results, missing: items, dimensions: 0 }
    }

    /// Notes the result of one item.
    pub fn set(&mut self, index: usize, result: ItemResult, dimensions: usize) {
        if let Some(slot) = self.results.get_mut(index) {
            self.missing -= usize::from(slot.is_none());
            self.dimensions = dimensions;
            *slot = Some(result);
        }
    }

    /// Whether every item has its result.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub fn into_response(self) -> Response {
        let items = self.results.into_iter().flatten().collect();
        Response::Embeddings { id: self.id, dimensions: self.dimensions as u32, items }
    }
}

/// All requests on their way.
#[derive(Debug, Default)]
pub struct Answers {
    pending: HashMap<Ticket, Pending>,
    tickets: BTreeMap<(ConnectionId, u64), Ticket>,
    last: Ticket,
}

impl Answers {
    /// Takes a request in; `None` when its id is that of another that is on its way.
    pub fn open(&mut self, pending: Pending) -> Option<Ticket> {
        let key = (pending.connection, pending.id);
        if self.tickets.contains_key(&key) {
            return None;
        }
        self.last += 1;
        self.tickets.insert(key, self.last);
        self.pending.insert(self.last, pending);
        Some(self.last)
    }

    /// The ticket of a connection's request.
    pub fn find(&self, connection: ConnectionId, id: u64) -> Option<Ticket> {
        self.tickets.get(&(connection, id)).copied()
    }

    /// The tickets of all of a connection's requests.
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<Ticket> {
        let own = self.tickets.range((connection, 0)..=(connection, u64::MAX));
        own.map(|(_, &ticket)| ticket).collect()
    }

    /// An open request.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.pending.get_mut(&ticket)
    }

    /// Takes a request out: to answer it, or because nobody wants it any more.
    pub fn close(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = self.pending.remove(&ticket)?;
        self.tickets.remove(&(pending.connection, pending.id));
        Some(pending)
    }

    /// Notes results, and takes the requests out that are complete by them. Results of
    /// requests that were cancelled meanwhile have no one to go to.
    pub fn complete(
        &mut self,
        slots: &[Slot],
        results: Vec<ItemResult>,
        dimensions: usize,
    ) -> Vec<(Ticket, Pending)> {
        let mut complete = Vec::new();
        for (slot, result) in slots.iter().zip(results) {
            let Some(pending) = self.pending.get_mut(&slot.ticket) else { continue };
            pending.set(slot.index, result, dimensions);
            if pending.is_complete() {
                complete.extend(self.close(slot.ticket).map(|pending| (slot.ticket, pending)));
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgclip_wire::protocol::ByteBuf;

    fn pending(connection: ConnectionId, id: u64, items: usize) -> Pending {
        Pending::new(connection, id, Instant::now(), 0, items)
    }

    fn result(n: u8) -> ItemResult {
        Ok(ByteBuf::from(vec![n]))
    }

    #[test]
    fn results_of_many_batches_come_together() {
        let mut answers = Answers::default();
        let a = answers.open(pending(1, 7, 2)).unwrap();
        let b = answers.open(pending(2, 7, 1)).unwrap();
        let slots = [Slot { ticket: a, index: 1 }, Slot { ticket: b, index: 0 }];
        let done = answers.complete(&slots, vec![result(1), result(2)], 1);
        assert_eq!(done.iter().map(|(_, p)| (p.connection, p.id)).collect::<Vec<_>>(), [(2, 7)]);
        let mut done = answers.complete(&[Slot { ticket: a, index: 0 }], vec![result(3)], 1);
        let response = done.pop().unwrap().1.into_response();
        let items = vec![result(3), result(1)];
        assert_eq!(response, Response::Embeddings { id: 7, dimensions: 1, items });
    }

    /// A cancelled id may be used again at once, while the old request is in inference.
    #[test]
    fn results_of_a_cancelled_request_do_not_reach_the_next_of_its_id() {
        let mut answers = Answers::default();
        let old = answers.open(pending(1, 7, 1)).unwrap();
        assert!(answers.open(pending(1, 7, 1)).is_none());
        answers.close(answers.find(1, 7).unwrap());
        let new = answers.open(pending(1, 7, 1)).unwrap();
        assert!(answers.complete(&[Slot { ticket: old, index: 0 }], vec![result(1)], 1).is_empty());
        assert_eq!(answers.of_connection(1), [new]);
        assert_eq!(
            answers.complete(&[Slot { ticket: new, index: 0 }], vec![result(2)], 1).len(),
            1
        );
    }
}
