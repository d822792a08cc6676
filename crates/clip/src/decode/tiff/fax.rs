//! CCITT's compression of single bits (T.4 and T.6): modified Huffman, group 3 in one and two
//! dimensions, group 4. The `fax` crate has the tables of codes; the rows are put together here, since
//! its own decoder goes on over data that contradict themselves, and knows no group 3 as TIFF has it.

use std::convert::Infallible;
use std::iter;

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, ByteReader};

/// How rows are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Runs, each row from a byte of its own on.
    Runs,
    /// Runs after a mark of the row's end; with a bit after it that tells rows in two dimensions.
    Group3 { is_2d: bool },
    /// Every row by the one above.
    Group4,
}

/// Unpacks rows of `width` pixels until `out` is full; 1 is black. `None`: the data are damaged.
pub(super) fn unpack(coding: Coding, data: &[u8], width: usize, out: &mut [u8]) -> Option<()> {
    // Some zeros more, for the tables to look at.
    let bytes = data.iter().copied().chain(iter::repeat_n(0, 4)).map(Ok::<u8, Infallible>);
    let mut reader = ByteReader::new(bytes).ok()?;
    let (mut above, mut row) = (Vec::new(), Vec::new());
    for line in out.chunks_exact_mut(width.div_ceil(8)) {
        row.clear();
        let is_2d = match coding {
            Coding::Runs => {
                let bits = reader.bits_to_byte_boundary();
                reader.consume(bits).ok()?;
                false
            }
            Coding::Group3 { is_2d } => {
                end_of_line(&mut reader, data.len())?;
                is_2d && {
                    let tag = reader.peek(1)?;
                    reader.consume(1).ok()?;
                    tag == 0
                }
            }
            Coding::Group4 => true,
        };
        if is_2d {
            by_the_row_above(&mut reader, &above, &mut row, width)?;
        } else {
            runs(&mut reader, &mut row, width)?;
        }
        draw(&row, width, line);
        std::mem::swap(&mut above, &mut row);
    }
    Some(())
}

/// Reads zeros and the one that ends them: eleven or more are a mark.
fn end_of_line(reader: &mut impl BitReader, length: usize) -> Option<()> {
    let mut zeros = 0;
    for _ in 0..=8 * length {
        let bit = reader.peek(1)?;
        reader.consume(1).ok()?;
        match (bit, zeros) {
            (0, _) => zeros += 1,
            (_, 11..) => return Some(()),
            // The mark before the first row, which some leave out, is never anything else.
            _ => return None,
        }
    }
    None
}

/// The length of a run, which codes of 64 and more go before.
fn run(reader: &mut impl BitReader, is_black: bool) -> Option<usize> {
    let mut sum = 0;
    loop {
        let part = if is_black { black::decode(reader)? } else { white::decode(reader)? };
        sum += usize::from(part);
        if part < 64 {
            return Some(sum);
        }
        if sum > usize::from(u16::MAX) * 2 {
            return None;
        }
    }
}

/// Notes that the colour changes at a place; where it did so there already, it does not at all. An even
/// number of changes ends in white.
fn change(row: &mut Vec<usize>, at: usize) {
    if row.last() == Some(&at) {
        row.pop();
    } else {
        row.push(at);
    }
}

fn runs(reader: &mut impl BitReader, row: &mut Vec<usize>, width: usize) -> Option<()> {
    let (mut at, mut is_black) = (0, false);
    while at < width {
        at += run(reader, is_black)?;
        if at > width {
            return None;
        }
        change(row, at);
        is_black = !is_black;
    }
    Some(())
}

fn by_the_row_above(
    reader: &mut impl BitReader,
    above: &[usize],
    row: &mut Vec<usize>,
    width: usize,
) -> Option<()> {
    let (mut at, mut is_black, mut is_first) = (0, false, true);
    while at < width {
        // The first change above that is right of here and to the other colour, and the one after it.
        let mut next = above.partition_point(|place| *place < at + usize::from(!is_first));
        next += usize::from(next % 2 != usize::from(is_black));
        let place = |index: usize| above.get(index).copied().unwrap_or(width);
        match mode::decode(reader)? {
            Mode::Pass => at = place(next + 1),
            Mode::Horizontal => {
                for is_black in [is_black, !is_black] {
                    at += run(reader, is_black)?;
                    if at > width {
                        return None;
                    }
                    change(row, at);
                }
            }
            Mode::Vertical(by) => {
                let to = place(next).checked_add_signed(by.into())?;
                if to < at || to > width {
                    return None;
                }
                change(row, to);
                (at, is_black) = (to, !is_black);
            }
            Mode::Extension | Mode::EOF => return None,
        }
        is_first = false;
    }
    Some(())
}

/// Black runs lie from each change at an even place to the next.
fn draw(row: &[usize], width: usize, line: &mut [u8]) {
    line.fill(0);
    for run in row.chunks(2) {
        for x in run[0]..run.get(1).copied().unwrap_or(width) {
            line[x / 8] |= 0x80 >> (x % 8);
        }
    }
}
