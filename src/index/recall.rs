//! What a search really finds: `clip_index_recall`, and the calibration behind `pgclip.target_recall`,
//! which a build makes and a vacuum makes anew. The measuring itself is `pgclip-hnsw`'s.

use pgclip_hnsw::{Calibration, Space, Truth};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;

use super::check::open_owned;
use super::elements::each_element;
use super::error::or_raise;
use super::meta::{FIRST_BLOCK, Meta};
use super::open;
use super::scan;
use super::store::{IndexStore, Writing};
use crate::error::Failure;

/// The most that may be asked for: the truth of so many samples about so many neighbours is 8 MB.
const MOST: i32 = 1000;

/// Elements from all over the index, and what is nearest to each: for each pair of a k and a number of
/// samples. `pause` is called before each page.
fn truths(
    store: &IndexStore,
    space: &Space,
    asked: &[(usize, usize)],
    mut pause: impl FnMut(),
) -> Vec<Truth> {
    /// The golden section: blocks are spread evenly however many are looked at.
    const STEP: f64 = 0.618_034;
    let blocks = u64::from(store.blocks().saturating_sub(FIRST_BLOCK));
    let step = coprime((blocks as f64 * STEP) as u64, blocks);
    let ask = |(k, samples): &(usize, usize), pause: &mut dyn FnMut()| {
        let mut truth = Truth::new(*k);
        // One of a page, where there are pages enough; a page may hold none.
        let share = samples.div_ceil((blocks as usize).max(1));
        for number in 0..blocks {
            if truth.len() == *samples {
                break;
            }
            pause();
            let block = FIRST_BLOCK + (number * step % blocks) as u32;
            let most = (truth.len() + share).min(*samples);
            each_element(store, space, block, |id, element| {
                if truth.len() < most {
                    truth.ask(space, id, element);
                }
            });
        }
        truth
    };
    let mut truths: Vec<Truth> = asked.iter().map(|asked| ask(asked, &mut pause)).collect();
    let mut block = FIRST_BLOCK;
    while truths.iter().any(|truth| !truth.is_empty()) && block < store.blocks() {
        pause();
        each_element(store, space, block, |id, element| {
            truths.iter_mut().for_each(|truth| truth.see(space, id, element));
        });
        block += 1;
    }
    truths
}

/// The next number from this on that has no divisor in common with another.
fn coprime(from: u64, with: u64) -> u64 {
    let divisor = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (from.max(1)..).find(|step| divisor(*step, with) == 1).unwrap_or(1)
}

/// Measures what slack a recall takes, and notes it in the index.
pub fn calibrate(store: &IndexStore, pause: impl FnMut()) {
    let meta = store.meta();
    let Some(space) = open::space(store, &meta) else { return };
    let truths = truths(store, &space, &Calibration::ASKED, pause);
    let calibration = if truths.iter().all(Truth::is_empty) {
        Calibration::default()
    } else {
        let moments = open::moments(store, &meta, &space);
        or_raise(store.index(), Calibration::measure(&truths, store, &space, &moments))
    };
    store.change_meta(|meta| {
        meta.calibration = calibration;
        meta.calibrated = store.blocks();
        meta.gone = 0;
        Some(())
    });
}

/// Is the calibration missing, or was a fifth of the index added or freed since?
pub fn is_due(store: &IndexStore, meta: &Meta) -> bool {
    let Ok(Some(layout)) = meta.layout() else { return false };
    let fifth = meta.calibrated / 5;
    let grown = store.blocks() > meta.calibrated + fifth;
    let shrunk = u64::from(meta.gone) > u64::from(fifth) * layout.elements_a_page() as u64;
    meta.entry.is_some() && (!meta.calibration.is_known() || grown || shrunk)
}

/// The recall of searches with the settings as they are.
#[pg_extern(sql = false)]
fn clip_index_recall(index: pg_sys::Oid, k: i32, samples: i32) -> Result<Option<f64>, ErrorReport> {
    for (name, value) in [("k", k), ("samples", samples)] {
        if !(1..=MOST).contains(&value) {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{name} is {value}, outside 1 to {MOST}"),
            )
            .hint("k is the LIMIT of the searches, samples how many there are.")
            .into());
        }
    }
    let relation = open_owned(index, pg_sys::AccessShareLock)?;
    let store = IndexStore::new(relation.as_ptr(), Writing::Logged);
    let meta = store.meta();
    let Some(space) = open::space(&store, &meta) else { return Ok(None) };
    let pause = || {
        pgrx::check_for_interrupts!();
    };
    let truths = truths(&store, &space, &[(k as usize, samples as usize)], pause);
    let moments = open::moments(&store, &meta, &space);
    let options = scan::options(relation.as_ptr(), &meta);
    Ok(or_raise(store.index(), truths[0].recall(&store, &space, &moments, options)))
}
