//! Ctrl-C and SIGTERM: the first asks a run to save and stop, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupt {
    /// The number of the signal; 0: none has come.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Watches for signals from now on.
    pub fn watch() -> Result<Self> {
        let (came, signal) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for number in [SIGINT, SIGTERM] {
            // In this order: a signal ends the process only where one came before.
            flag::register_conditional_shutdown(number, status(number).into(), Arc::clone(&came))?;
            flag::register(number, Arc::clone(&came))?;
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Interrupt { signal })
    }

    pub fn asked(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// The exit status that tells of the signal: 128 and its number, as shells have it.
    pub fn status(&self) -> u8 {
        status(self.signal.load(Ordering::Relaxed) as i32)
    }
}

fn status(signal: i32) -> u8 {
    128 + signal as u8
}
