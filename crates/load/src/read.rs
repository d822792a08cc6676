//! The bytes of a batch: several threads read files ahead of the one that sends them, as far as the
//! budget of bytes allows. Each connection has a budget of its own: if they shared one, a
//! connection that waits for a lock in the server could keep bytes from the one that holds it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Condvar, Mutex};
use std::thread;

use crate::item::Item;

/// Bytes that may be held.
#[derive(Debug)]
struct Budget {
    free: Mutex<usize>,
    freed: Condvar,
    whole: usize,
}

impl Budget {
    fn new(whole: usize) -> Self {
        Self { free: Mutex::new(whole), freed: Condvar::new(), whole }
    }

    /// Waits for `bytes`, of a file that is larger than the budget for all of it.
    fn take(&self, bytes: usize) -> usize {
        let wanted = bytes.min(self.whole);
        let free = self.free.lock().expect("no thread panics with it");
        let mut free =
            self.freed.wait_while(free, |free| *free < wanted).expect("no thread panics with it");
        *free -= wanted;
        wanted
    }

    fn give(&self, bytes: usize) {
        *self.free.lock().expect("no thread panics with it") += bytes;
        self.freed.notify_all();
    }
}

/// Reads items with `readers` threads and hands each to `sink`, in any order, with its place in
/// `items`. Ends early when `sink` fails.
pub fn each<E>(
    items: &[&Item],
    readers: usize,
    budget: usize,
    most: u64,
    mut sink: impl FnMut(usize, Result<Vec<u8>, String>) -> Result<(), E>,
) -> Result<(), E> {
    let (budget, next) = (Budget::new(budget), AtomicUsize::new(0));
    let (budget, next) = (&budget, &next);
    thread::scope(|scope| {
        let (send, read) = sync_channel(readers);
        for _ in 0..readers.min(items.len()) {
            let send = send.clone();
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let length = item.image.length();
                    let held = budget.take(if length > most { 0 } else { length as usize });
                    if send.send((at, held, item.image.read(most))).is_err() {
                        budget.give(held);
                        return;
                    }
                }
            });
        }
        drop(send);
        let read: Receiver<_> = read;
        while let Ok((at, held, bytes)) = read.recv() {
            let taken = sink(at, bytes);
            budget.give(held);
            if taken.is_err() {
                // What waits for the budget gets it, and finds nobody to send to.
                next.store(items.len(), Ordering::Relaxed);
                while let Ok((_, held, _)) = read.recv() {
                    budget.give(held);
                }
                return taken;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Place;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn all_is_read_within_the_budget_and_failures_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let items: Vec<Item> = (0..40_usize)
            .map(|n| {
                let path = folder.path().join(n.to_string());
                if n != 7 {
                    std::fs::write(&path, vec![n as u8; if n == 9 { 5000 } else { 100 * n }])
                        .unwrap();
                }
                Item { name: n.to_string(), image: Place::File(path), fields: Vec::new() }
            })
            .collect();
        let all: Vec<&Item> = items.iter().collect();
        let mut seen = vec![0; items.len()];
        each(&all, 4, 3000, 4500, |at, bytes| {
            seen[at] += 1;
            match bytes {
                Ok(bytes) => {
                    assert!(bytes.len() == 100 * at && bytes.iter().all(|b| *b == at as u8))
                }
                Err(reason) if at == 7 => assert!(reason.contains("No such file"), "{reason}"),
                Err(reason) => assert!(at == 9 && reason.contains("5000 bytes"), "{reason}"),
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(seen, vec![1; items.len()]);
        // One that fails ends it, however many wait.
        let result = each(&all, 4, 3000, 4500, |at, _| if at == 20 { Err(at) } else { Ok(()) });
        assert_eq!(result, Err(20));
    }

    #[test]
    fn a_file_larger_than_the_budget_waits_for_all_of_it() {
        let budget = Budget::new(10);
        let held = budget.take(4);
        let got = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let all = budget.take(50);
                got.store(all as u64, Ordering::SeqCst);
                budget.give(all);
            });
            budget.give(held);
        });
        assert_eq!(got.into_inner(), 10);
        assert_eq!(*budget.free.lock().unwrap(), 10);
    }
}
