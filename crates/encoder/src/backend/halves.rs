//! Batches that a device has no memory for, in halves. Apart from the towers, so that it is tested
//! without a device.

use crate::failure::Failure;
use pgclip_wire::protocol::ErrorKind;
use std::ops::Range;

/// Runs `items`, at most `most` of them at once, or, where there is no memory for that, each half on
/// its own, and so on.
pub(super) fn in_halves(
    items: usize,
    most: usize,
    mut run: impl FnMut(Range<usize>) -> Result<Vec<f32>, Failure>,
) -> Result<Vec<f32>, Failure> {
    let mut values = Vec::new();
    let mut at = 0;
    let mut size = items.min(most);
    while at < items {
        let end = items.min(at + size);
        match run(at..end) {
            Ok(part) if values.is_empty() => values = part,
            Ok(part) => values.extend(part),
            Err(failure) if failure.kind == ErrorKind::OutOfMemory && end - at > 1 => {
                size = (end - at).div_ceil(2);
                tracing::warn!("no memory for {} items at once, trying {size}", end - at);
                continue;
            }
            Err(failure) => return Err(failure),
        }
        at = end;
    }
    Ok(values)
}

/// ONNX Runtime has no code for it: what its allocators, CUDA and the C++ library say.
pub(super) fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["failed to allocate memory", "out of memory", "out_of_memory", "bad_alloc", "alloc_failed"]
        .iter()
        .any(|sign| message.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with room for three items at once, and none for item 12 at all if `cursed`.
    fn run(items: usize, cursed: bool) -> (Result<Vec<f32>, Failure>, Vec<usize>) {
        let mut sizes = Vec::new();
        let result = in_halves(items, usize::MAX, |range| {
            sizes.push(range.len());
            if range.len() > 3 || cursed && range.contains(&12) {
                let what = "Failed to allocate memory for requested buffer of size 1";
                assert!(is_out_of_memory(what));
                return Err(Failure::new(ErrorKind::OutOfMemory, what));
            }
            Ok(range.map(|n| n as f32).collect())
        });
        (result, sizes)
    }

    #[test]
    fn a_batch_without_memory_is_split_and_stays_in_order() {
        for items in [0, 1, 3, 4, 16, 17] {
            let (result, sizes) = run(items, false);
            assert_eq!(result.unwrap(), (0..items).map(|n| n as f32).collect::<Vec<_>>());
            // What was learnt of the room holds for the rest of the batch.
            assert!(sizes.iter().filter(|size| **size > 3).count() <= 3, "{sizes:?}");
        }
    }

    #[test]
    fn one_item_without_memory_fails_the_batch() {
        let (result, sizes) = run(16, true);
        assert_eq!(result.unwrap_err().kind, ErrorKind::OutOfMemory);
        assert_eq!(sizes.last(), Some(&1));
    }
}
