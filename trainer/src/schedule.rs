//! The learning rate of each step: linear warm-up, then a half cosine to zero.
//!
//! open_clip's `cosine_lr`, apart so that its values can be tested alone.

/// Learning rate of step `step` (from 0) of `total`, as open_clip's `cosine_lr`.
pub fn cosine(step: u64, base: f64, warmup: u64, total: u64) -> f64 {
    if step < warmup {
        return base * (step + 1) as f64 / warmup as f64;
    }
    let span = total.saturating_sub(warmup).max(1) as f64;
    let done = (step - warmup) as f64 / span;
    0.5 * (1.0 + (std::f64::consts::PI * done).cos()) * base
}
