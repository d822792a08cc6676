//! Counters, and the two things that are more than a counter: images a second over the
//! last minute and percentiles of latency. Its own file so that the server only says what
//! happened.

use crate::pipeline::{ItemResult, Lane};
use pgclip_wire::protocol::Status;
use std::time::{Duration, Instant};

/// Latencies that the percentiles are taken of.
const LATENCIES: usize = 1024;
/// Seconds that images a second are counted over.
const WINDOW: usize = 60;

#[derive(Debug)]
pub struct Stats {
    started: Instant,
    /// The counters, in the form in which they are told.
    pub counters: Status,
    batched_images: u64,
    max_batch: usize,
    /// Images done in each of the last seconds; second `s` is at `s % WINDOW`.
    images: [u64; WINDOW],
    /// The second that `images` is up to date with, since the start.
    second: u64,
    latencies: Vec<Duration>,
    next_latency: usize,
}

impl Stats {
    pub fn new(max_batch: usize, now: Instant) -> Self {
        Self {
            started: now,
            counters: Status::default(),
            batched_images: 0,
            max_batch,
            images: [0; WINDOW],
            second: 0,
            latencies: Vec::new(),
            next_latency: 0,
        }
    }

    /// A batch went through inference.
    pub fn batch(&mut self, lane: Lane, results: &[ItemResult], now: Instant) {
        let good = results.iter().filter(|result| result.is_ok()).count() as u64;
        self.counters.item_errors += results.len() as u64 - good;
        match lane {
            Lane::Images | Lane::Large => {
                self.counters.images += good;
                self.counters.image_batches += 1;
                self.batched_images += results.len() as u64;
                self.advance(now);
                self.images[(self.second % WINDOW as u64) as usize] += good;
            }
            Lane::Texts => {
                self.counters.texts += good;
                self.counters.text_batches += 1;
            }
        }
    }

    /// A request was answered that had arrived `latency` ago.
    pub fn answered(&mut self, latency: Duration) {
        if self.latencies.len() < LATENCIES {
            self.latencies.push(latency);
        } else {
            self.latencies[self.next_latency] = latency;
        }
        self.next_latency = (self.next_latency + 1) % LATENCIES;
    }

    /// Everything that is counted here.
    pub fn status(&mut self, now: Instant) -> Status {
        self.advance(now);
        let uptime = now.duration_since(self.started).as_secs_f64();
        let batches = self.counters.image_batches.max(1) as f64;
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let percentile = |share: f64| {
            let at = (sorted.len() as f64 * share) as usize;
            sorted
                .get(at.min(sorted.len().saturating_sub(1)))
                .map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        Status {
            uptime_seconds: uptime,
            image_batch_fill: self.batched_images as f64 / batches / self.max_batch as f64,
            images_per_second: self.images.iter().sum::<u64>() as f64
                / uptime.clamp(1.0, WINDOW as f64),
            latency_p50_ms: percentile(0.5),
            latency_p99_ms: percentile(0.99),
            ..self.counters.clone()
        }
    }

    /// Empties the seconds that have passed without an image.
    fn advance(&mut self, now: Instant) {
        let second = now.duration_since(self.started).as_secs();
        let passed = (second - self.second).min(WINDOW as u64);
        for s in second + 1 - passed..=second {
            self.images[(s % WINDOW as u64) as usize] = 0;
        }
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgclip_wire::protocol::{ByteBuf, ErrorKind, ItemError};

    #[test]
    fn images_a_second_are_those_of_the_last_minute() {
        let start = Instant::now();
        let mut stats = Stats::new(4, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let bad = Err(ItemError { kind: ErrorKind::BadImage, message: "bad".into() });
        let batch = [Ok(ByteBuf::new()), Ok(ByteBuf::new()), bad];
        stats.batch(Lane::Images, &batch, start);
        stats.batch(Lane::Images, &batch, at(9));
        let status = stats.status(at(10));
        assert_eq!((status.images, status.item_errors, status.image_batches), (4, 2, 2));
        assert_eq!((status.images_per_second, status.image_batch_fill), (0.4, 0.75));
        assert_eq!(stats.status(at(68)).images_per_second, 2.0 / 60.0);
        assert_eq!(stats.status(at(10_000)).images_per_second, 0.0);
    }

    #[test]
    fn percentiles_are_of_the_last_requests() {
        let start = Instant::now();
        let mut stats = Stats::new(4, start);
        assert_eq!(stats.status(start).latency_p50_ms, 0.0);
        for n in 0..3000 {
            stats.answered(Duration::from_millis(if n < 1500 { 1000 } else { n % 100 }));
        }
        let status = stats.status(start);
        assert!((45.0..55.0).contains(&status.latency_p50_ms), "{}", status.latency_p50_ms);
        assert!((95.0..100.0).contains(&status.latency_p99_ms), "{}", status.latency_p99_ms);
    }
}
