//! Ctrl-C: a comparison takes long, and a server that was left running would take its memory along.
//! A thread of its own waits for the signals, stops the server and removes its folders.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Weak};
use std::{fs, ptr, thread};

use pgclip_cluster::{Cluster, Shutdown};

/// Was there a signal?
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// What there is to stop.
static RUNNING: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// Blocks the signals, for this thread and those that it starts from now on, and waits for them.
/// Called before any other thread is there. Programs that are started get an empty mask from
/// [`std::process::Command`].
pub fn watch() {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that the other calls read.
    let signals = unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), ptr::null_mut());
        signals.assume_init()
    };
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: the set is initialised and the number can be written.
        while unsafe { libc::sigwait(&signals, &mut signal) } != 0 {}
        INTERRUPTED.store(true, Ordering::SeqCst);
        let running = RUNNING.lock().map(|running| running.upgrade());
        if let Ok(Some(cluster)) = running {
            eprintln!("stopping the server");
            // Nobody is left to tell of a failure.
            let _ = cluster.stop(Shutdown::Immediate);
            let _ = cluster.data().parent().map(fs::remove_dir_all);
            let _ = fs::remove_dir_all(cluster.sockets());
        }
        std::process::exit(128 + signal);
    });
}

/// From now on `cluster` is what is stopped.
pub fn stops(cluster: Weak<Cluster>) {
    if let Ok(mut running) = RUNNING.lock() {
        *running = cluster;
    }
}

/// Where a failure comes of a signal: leaves the rest to the thread that ends the program.
pub fn wait_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::park();
    }
}
