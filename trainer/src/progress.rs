//! Progress bars, alike in all commands.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, nothing elsewhere.
pub fn progress_bar(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>8} {wide_bar} {pos}/{len} {per_sec} {eta_precise} {msg}",
    );
    let bar = ProgressBar::new(total).with_prefix(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
