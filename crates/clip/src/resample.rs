//! Pillow's bicubic and bilinear resize on 8-bit data, bit for bit, of the part of the result that is kept.
//!
//! Its own file because it is arithmetic and nothing else. Pillow (`Resample.c`) resizes the rows,
//! rounds to 8 bits, then the columns, with coefficients in fixed point of 22 bits; the same is
//! done here, block by block of input rows, so that no intermediate image is needed. Padding with
//! zeros is virtual: taps that fall on it are left out, which changes no sum.

/// Fraction bits of a coefficient: 32 less 8 for the pixel and 2 for headroom.
const PRECISION: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION - 1);
/// Input rows that are resized together.
const BLOCK: usize = 8;

/// One axis of a resize: for each output position that is wanted, which inputs count how much.
#[derive(Debug)]
pub(crate) struct Axis {
    /// First input and number of inputs of each output, then where its coefficients start.
    windows: Vec<(usize, usize, usize)>,
    coefficients: Vec<i32>,
}

/// The lengths along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Pixels of the image itself.
    pub input: usize,
    /// Zeros before the image, and its length with the zeros on both sides.
    pub before: usize,
    pub padded: usize,
    /// Length after the resize, and the first position that is kept.
    pub resized: usize,
    pub first: usize,
}

/// How far a filter reaches, in input pixels where nothing shrinks, and what a pixel at a distance
/// weighs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter {
    support: f64,
    weight: fn(f64) -> f64,
}

/// Keys' cubic with a = -0.5.
pub(crate) const BICUBIC: Filter = Filter { support: 2.0, weight: cubic };
/// A triangle.
pub(crate) const BILINEAR: Filter = Filter { support: 1.0, weight: triangle };

impl Axis {
    /// The `count` outputs from `span.first` on.
    pub(crate) fn new(filter: Filter, span: Span, count: usize) -> Self {
        let scale = span.padded as f64 / span.resized as f64;
        let stretch = scale.max(1.0);
        let support = filter.support * stretch;
        let mut axis = Self { windows: Vec::with_capacity(count), coefficients: Vec::new() };
        let mut weights = Vec::new();
        for output in span.first..span.first + count {
            let centre = (output as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(span.padded);
            weights.clear();
            weights.extend(
                (start..end)
                    .map(|input| (filter.weight)((input as f64 - centre + 0.5) * (1.0 / stretch))),
            );
            let sum: f64 = weights.iter().sum();
            // Only the inputs that are not padding; a window may have none.
            let real_start = start.max(span.before).min(end);
            let real_end = end.min(span.before + span.input).max(real_start);
            let real = &weights[real_start - start..real_end - start];
            let first = real_start.saturating_sub(span.before).min(span.input);
            axis.windows.push((first, real.len(), axis.coefficients.len()));
            axis.coefficients.extend(real.iter().map(|weight| {
                let scaled = weight / sum * f64::from(1 << PRECISION);
                (scaled + 0.5_f64.copysign(scaled)) as i32
            }));
        }
        axis
    }

    fn window(&self, output: usize) -> (usize, &[i32]) {
        let (start, length, at) = self.windows[output];
        (start, &self.coefficients[at..at + length])
    }

    fn len(&self) -> usize {
        self.windows.len()
    }

    /// The inputs that any output needs.
    fn inputs(&self) -> std::ops::Range<usize> {
        let used = || self.windows.iter().filter(|(_, length, _)| *length > 0);
        let start = used().map(|(start, ..)| *start).min().unwrap_or(0);
        start..used().map(|(start, length, _)| start + length).max().unwrap_or(start)
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Whether the columns are resized before the rows. Pillow does so since 13.0 where the height
/// shrinks by more than twice as much as the width (its pull request 9549), and the rounding in
/// between makes that a difference of up to some levels.
pub(crate) fn columns_first(x: Span, y: Span) -> bool {
    y.resized < y.padded && y.padded + 2 * x.resized > y.resized + 2 * x.padded
}

/// Swaps rows and columns of an image of `width` pixels of `C` bytes a row.
pub(crate) fn transposed<const C: usize>(pixels: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len());
    for column in 0..width {
        for row in pixels.chunks_exact(width * C) {
            out.extend_from_slice(&row[column * C..][..C]);
        }
    }
    out
}

/// Resizes `pixels` (rows of `width` pixels of `C` bytes, no gaps) to `x.len()` × `y.len()`,
/// the rows first.
pub(crate) fn resample<const C: usize>(pixels: &[u8], width: usize, x: &Axis, y: &Axis) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, as was just asked.
        return unsafe { resample_avx2::<C>(pixels, width, x, y) };
    }
    resample_any::<C>(pixels, width, x, y)
}

/// The same code, compiled for AVX2: the loops over `BLOCK` and over rows become vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn resample_avx2<const C: usize>(pixels: &[u8], width: usize, x: &Axis, y: &Axis) -> Vec<u8> {
    resample_any::<C>(pixels, width, x, y)
}

#[inline(always)]
fn resample_any<const C: usize>(pixels: &[u8], width: usize, x: &Axis, y: &Axis) -> Vec<u8> {
    let stride = width * C;
    let out_stride = x.len() * C;
    let columns = x.inputs();
    let rows = y.inputs();
    let mut sums = vec![HALF; y.len() * out_stride];
    let mut block = vec![[0u8; BLOCK]; columns.len() * C];
    let mut lines = vec![0u8; BLOCK * out_stride];
    // Outputs before this one have had all their rows.
    let mut done = 0;
    for top in rows.clone().step_by(BLOCK) {
        let height = BLOCK.min(rows.end - top);
        let lanes: [&[u8]; BLOCK] = std::array::from_fn(|lane| {
            let row = (top + lane.min(height - 1)) * stride;
            &pixels[row + columns.start * C..row + columns.end * C]
        });
        for (at, cell) in block.iter_mut().enumerate() {
            *cell = std::array::from_fn(|lane| lanes[lane][at]);
        }
        for output in 0..x.len() {
            let (start, taps) = x.window(output);
            let first = (start.max(columns.start) - columns.start) * C;
            let sum = weigh::<C>(&block[first..first + taps.len() * C], taps);
            for (channel, sum) in sum.iter().enumerate() {
                for (lane, sum) in sum.iter().enumerate() {
                    lines[lane * out_stride + output * C + channel] = clip(*sum);
                }
            }
        }
        while done < y.len() && {
            let (start, taps) = y.window(done);
            start + taps.len() <= top
        } {
            done += 1;
        }
        for output in done..y.len() {
            let (start, taps) = y.window(output);
            if start >= top + height {
                break;
            }
            let sum = &mut sums[output * out_stride..][..out_stride];
            let (from, to) = (start.max(top), (start + taps.len()).min(top + height));
            for row in from..to {
                let tap = taps[row - start];
                let line = &lines[(row - top) * out_stride..][..out_stride];
                for (sum, value) in sum.iter_mut().zip(line) {
                    *sum += tap * i32::from(*value);
                }
            }
        }
    }
    sums.into_iter().map(clip).collect()
}

/// The weighted sums of `C` channels over `BLOCK` rows at once.
#[inline(always)]
fn weigh<const C: usize>(cells: &[[u8; BLOCK]], taps: &[i32]) -> [[i32; BLOCK]; C] {
    let mut sums = [[HALF; BLOCK]; C];
    for (pixel, tap) in cells.chunks_exact(C).zip(taps) {
        for (sum, cell) in sums.iter_mut().zip(pixel) {
            for (sum, value) in sum.iter_mut().zip(cell) {
                *sum += tap * i32::from(*value);
            }
        }
    }
    sums
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
