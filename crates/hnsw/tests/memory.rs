//! Memory: a build takes what it says, and a lack of memory is an error. Its own file because the
//! allocator of the whole process is replaced.

mod common;

use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

use common::*;
use pgclip_hnsw::{
    BuildError, BuildOptions, Builder, Control, Metric, NoMemory, Placement, Pushed, Quiet, Values,
};

/// Counts bytes, and refuses to go above a limit.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Blocks larger than this are refused.
static LARGEST: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is passed on to the system's allocator, or refused by a null pointer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        if block.size() > LARGEST.load(SeqCst) {
            return std::ptr::null_mut();
        }
        let now = NOW.fetch_add(block.size(), SeqCst) + block.size();
        MOST.fetch_max(now, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        NOW.fetch_sub(block.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, block) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counts are of the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[test]
fn builds_stay_within_what_they_say() {
    let _alone = alone();
    const ROWS: usize = 20_000;
    for (dims, columns, placement) in
        [(32, 2, Placement::Inline), (64, 0, Placement::Split), (96, 1, Placement::Plain)]
    {
        let space = placed(Metric::Cosine, dims, columns, placement);
        let vectors = Dice(3).clusters(dims, ROWS);
        for threads in [1, 2] {
            let before = NOW.load(SeqCst);
            MOST.store(before, SeqCst);
            let mut builder = Builder::new(&space);
            builder.reserve(ROWS).unwrap();
            for (number, vector) in vectors.iter().enumerate() {
                builder.push(vector, tid(number), Values::new(0, &values(number, columns)));
            }
            let options = BuildOptions { ef_construction: 16, threads, seed: 7 };
            let pages = builder.build(options, 0, &Control::default(), &mut Quiet).unwrap();
            let (most, said) =
                (MOST.load(SeqCst) - before, Builder::bytes_for(&space, ROWS, threads));
            assert!(most <= said, "{dims} {threads}: {most} bytes where {said} were told");
            assert!(most >= said / 5 * 3, "{dims} {threads}: {most} bytes of {said}");
            assert_eq!(pages.elements(), ROWS);
        }
    }
}

#[test]
fn lack_of_memory_is_an_error() {
    let _alone = alone();
    let space = space(Metric::L2, 64, 1);
    let mut builder = Builder::new(&space);
    let refused = builder.reserve(usize::MAX / 8);
    assert!(matches!(refused, Err(NoMemory { bytes }) if bytes > 1 << 40), "{refused:?}");
    let vectors = Dice(4).clusters(64, 3000);
    let push = |builder: &mut Builder<'_>, number: usize| {
        builder.push(&vectors[number], tid(number), Values::new(0, &values(number, 1)))
    };
    assert_eq!(push(&mut builder, 0), Pushed::New);
    LARGEST.store(100_000, SeqCst);
    let pushed: Vec<Pushed> = (1..3000).map(|number| push(&mut builder, number)).collect();
    LARGEST.store(usize::MAX, SeqCst);
    let full = pushed.iter().position(|pushed| *pushed == Pushed::Full).expect("it ran full");
    assert_eq!(builder.len(), full + 1);
    // What was taken before is all there, and with memory it goes on.
    assert_eq!(push(&mut builder, 0), Pushed::Duplicate);
    assert_eq!(push(&mut builder, full + 1), Pushed::New);
    LARGEST.store(50_000, SeqCst);
    let options = BuildOptions { ef_construction: 16, threads: 1, seed: 7 };
    let built = builder.build(options, 0, &Control::default(), &mut Quiet);
    LARGEST.store(usize::MAX, SeqCst);
    assert!(matches!(built, Err(BuildError::NoMemory(_))), "{:?}", built.err());
}

/// None, one, two, and many that are all equal.
#[test]
fn builds_of_few_rows_are_whole() {
    let _alone = alone();
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let space = space(metric, 24, 0);
        let vectors = Dice(5).clusters(24, 3);
        for rows in 0..=3 {
            for threads in [1, 2] {
                let store = build(&space, &vectors[..rows], threads);
                assert_eq!(elements(&store).len(), rows);
                assert_eq!(unreachable(&store, &space), 0);
                let found = search(&store, &space, &vectors[0], 9, Default::default(), |_| true);
                assert_eq!(found.len(), rows);
            }
        }
        let equal = vec![vectors[0].clone(); 5000];
        let store = build(&space, &equal, 2);
        assert_eq!(elements(&store).len(), 1);
        let found = search(&store, &space, &vectors[1], 6000, Default::default(), |_| true);
        assert_eq!(found.len(), 5000);
    }
}
