//! Work goes on with the threads that the system has.
//!
//! A build asked for threads by a function that panics where there are none, after it had counted them;
//! whoever waited for the count to fall then waited for ever, and a backend did not hear SIGTERM.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgclip_hnsw::build::threads::{Control, Quiet, take_turns};

/// Says to the process that it is the one that has no threads.
const INSIDE: &str = "PGCLIP_TEST_NO_THREADS";

/// Takes items one by one, with four threads wished for; how many were done.
fn work() -> (usize, Control) {
    let (control, next) = (Control::default(), AtomicUsize::new(0));
    let take = |done: &mut usize| {
        let taken = usize::from(next.fetch_add(1, Ordering::Relaxed) < 1000);
        *done += taken;
        taken
    };
    take_turns(&control, &mut Quiet, 4, 1000, || 0, take).expect("nobody stops it");
    (control.done(), control)
}

#[test]
fn where_no_thread_can_be_started_the_caller_does_the_work() {
    if std::env::var_os(INSIDE).is_some() {
        let another = std::thread::Builder::new().spawn(|| ());
        assert!(another.is_err(), "a thread has a stack of 64 TB");
        let (done, control) = work();
        assert_eq!(done, 1000);
        // Waits for all threads that are counted.
        control.stop_and_wait();
        return;
    }
    assert_eq!(work().0, 1000);
    let name = "where_no_thread_can_be_started_the_caller_does_the_work";
    let inside = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(INSIDE, "1")
        .env("RUST_MIN_STACK", (1_u64 << 46).to_string())
        .output()
        .expect("this test starts");
    let told = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success() && told.contains("1 passed"), "{told}");
}
