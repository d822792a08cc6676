//! From pixels to the image tower's input, as open_clip's evaluation transform does it.
//!
//! Resize of the shortest side to the tower's size, centre crop, RGB, mean and standard deviation;
//! with [`ResizeMode::Pad`] an image is made a square with zeros first, as A3R does; with
//! [`ResizeMode::Squash`] both sides are resized to the tower's. The order
//! matters to the last bit and is open_clip's: colours become RGB *after* the resize, so that
//! palettes are resized without interpolation and transparent pixels weigh nothing, as in Pillow.

use crate::decode::{Decoded, Mode};
use crate::model::{ImageConfig, Interpolation, ResizeMode};
use crate::resample::{Axis, BICUBIC, BILINEAR, Filter, Span, columns_first, resample, transposed};
use crate::towers::{ElementType, Holds, Input, Layout};

/// Turns images into the input of one model's image tower.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    size: usize,
    resize: ResizeMode,
    filter: Filter,
    layout: Layout,
    /// What the tower is given for each 8-bit level, by channel.
    levels: Box<[[f32; 256]; 3]>,
}

impl Preprocessor {
    pub fn new(config: &ImageConfig) -> Self {
        let level = |channel: usize, value: usize| {
            (value as f32 / 255.0 - config.mean[channel]) / config.std[channel]
        };
        Self {
            size: config.size as usize,
            resize: config.resize,
            filter: match config.interpolation {
                Interpolation::Bicubic => BICUBIC,
                Interpolation::Bilinear => BILINEAR,
            },
            layout: Layout::Nchw,
            levels: Box::new(std::array::from_fn(|channel| {
                std::array::from_fn(|value| level(channel, value))
            })),
        }
    }

    /// The same for an input as a graph declares it: one of bytes is given them as they are.
    pub fn for_input(config: &ImageConfig, input: &Input) -> Self {
        let mut made = Self::new(config);
        if let Holds::Pixels { layout } = input.holds {
            made.layout = layout;
        }
        if input.element == ElementType::U8 {
            made.levels.fill(std::array::from_fn(|value| value as f32));
        }
        made
    }

    /// Width and height of the result, in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Resizes, crops and converts to RGB: `size` rows of `size` pixels of 3 bytes.
    pub fn run(&self, image: &Decoded) -> Vec<u8> {
        let (x, y) = (self.span(image, true), self.span(image, false));
        if image.mode == Mode::Palette {
            return self.nearest(image, x, y);
        }
        let filtered = |pixels: &[u8]| match image.mode.channels() {
            1 => self.filtered::<1>(pixels, x, y),
            2 => self.filtered::<2>(pixels, x, y),
            3 => self.filtered::<3>(pixels, x, y),
            _ => self.filtered::<4>(pixels, x, y),
        };
        // Pillow leaves an image alone that has the size already, and so its colours unmultiplied.
        let resized = (x.padded, y.padded) != (x.resized, y.resized);
        match image.mode {
            Mode::Rgb => filtered(&image.pixels),
            Mode::L => filtered(&image.pixels).into_iter().flat_map(|grey| [grey; 3]).collect(),
            Mode::La if resized => {
                let grey = filtered(&premultiplied::<2>(&image.pixels));
                grey.chunks_exact(2).flat_map(|p| [unmultiplied(p[0], p[1]); 3]).collect()
            }
            Mode::La => filtered(&image.pixels).chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
            Mode::Rgba if resized => filtered(&premultiplied::<4>(&image.pixels))
                .chunks_exact(4)
                .flat_map(|p| [p[0], p[1], p[2]].map(|colour| unmultiplied(colour, p[3])))
                .collect(),
            Mode::Rgba => {
                filtered(&image.pixels).chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
            }
            Mode::Cmyk => filtered(&image.pixels)
                .chunks_exact(4)
                .flat_map(|p| {
                    let light = 255 - p[3];
                    [p[0], p[1], p[2]].map(|ink| light.saturating_sub(times(ink, light)))
                })
                .collect(),
            Mode::Palette => unreachable!("palette images were handled above"),
        }
    }

    /// Writes the tower's input for the result of [`run`](Self::run): `size`² values of red, then
    /// of green, then of blue, or the three of each pixel together, as the layout is.
    ///
    /// # Panics
    /// If `rgb` or `out` has not 3 × `size`² values.
    pub fn normalise(&self, rgb: &[u8], out: &mut [f32]) {
        let area = self.size * self.size;
        assert_eq!((rgb.len(), out.len()), (3 * area, 3 * area), "3 × {area} values are needed");
        let [red, green, blue] = &*self.levels;
        if self.layout == Layout::Nhwc {
            for (pixel, out) in rgb.as_chunks::<3>().0.iter().zip(out.as_chunks_mut::<3>().0) {
                let [r, g, b] = pixel.map(usize::from);
                *out = [red[r], green[g], blue[b]];
            }
            return;
        }
        let (out_red, rest) = out.split_at_mut(area);
        let (out_green, out_blue) = rest.split_at_mut(area);
        let planes = out_red.iter_mut().zip(out_green).zip(out_blue);
        for (pixel, ((r, g), b)) in rgb.chunks_exact(3).zip(planes) {
            *r = red[usize::from(pixel[0])];
            *g = green[usize::from(pixel[1])];
            *b = blue[usize::from(pixel[2])];
        }
    }

    /// The lengths along one axis, by torchvision's rules for `pad`, `Resize` and `CenterCrop`.
    fn span(&self, image: &Decoded, horizontal: bool) -> Span {
        let (width, height) = (image.width as usize, image.height as usize);
        let padding = |side: usize| match self.resize {
            ResizeMode::Crop | ResizeMode::Squash => 0,
            ResizeMode::Pad => (width.max(height) - side) / 2,
        };
        let (before_x, before_y) = (padding(width), padding(height));
        let (padded_x, padded_y) = (width + 2 * before_x, height + 2 * before_y);
        let short = padded_x.min(padded_y);
        let (input, before, padded) =
            if horizontal { (width, before_x, padded_x) } else { (height, before_y, padded_y) };
        let resized = if padded == short || self.resize == ResizeMode::Squash {
            self.size
        } else {
            ((self.size * padded) as f64 / short as f64) as usize
        };
        Span { input, before, padded, resized, first: half_to_even(resized - self.size) }
    }

    /// Pillow's resize of everything else, and the crop.
    fn filtered<const C: usize>(&self, pixels: &[u8], x: Span, y: Span) -> Vec<u8> {
        let (x_axis, y_axis) =
            (Axis::new(self.filter, x, self.size), Axis::new(self.filter, y, self.size));
        if columns_first(x, y) {
            let turned = transposed::<C>(pixels, x.input);
            transposed::<C>(&resample::<C>(&turned, y.input, &y_axis, &x_axis), self.size)
        } else {
            resample::<C>(pixels, x.input, &x_axis, &y_axis)
        }
    }

    /// Pillow's resize of palette images: the nearest pixel, its position found by adding up
    /// steps, as rounding errors are part of the result.
    fn nearest(&self, image: &Decoded, x: Span, y: Span) -> Vec<u8> {
        let sources = |span: Span| -> Vec<Option<usize>> {
            let step = span.padded as f64 / span.resized as f64;
            let mut at = step * 0.5;
            // Beyond this many steps the sum would take longer than it is worth.
            if span.first < 1 << 20 {
                (0..span.first).for_each(|_| at += step);
            } else {
                at += step * span.first as f64;
            }
            (0..self.size)
                .map(|_| {
                    let source = (at as usize).checked_sub(span.before);
                    at += step;
                    source.filter(|&source| source < span.input)
                })
                .collect()
        };
        let (columns, rows) = (sources(x), sources(y));
        let mut rgb = Vec::with_capacity(3 * self.size * self.size);
        for row in rows {
            for column in &columns {
                let index = match (row, column) {
                    (Some(row), Some(column)) => image.pixels[row * x.input + column],
                    _ => 0,
                };
                rgb.extend(image.palette[usize::from(index)]);
            }
        }
        rgb
    }
}

/// Half of `n`, halves rounded to the even number as Python does.
fn half_to_even(n: usize) -> usize {
    n / 2 + usize::from(n % 4 == 3)
}

/// a × b / 255, rounded, as Pillow's `MULDIV255`.
fn times(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Colours times alpha, which is the last of `C` channels.
fn premultiplied<const C: usize>(pixels: &[u8]) -> Vec<u8> {
    let mut out = pixels.to_vec();
    for pixel in out.chunks_exact_mut(C) {
        let alpha = pixel[C - 1];
        pixel[..C - 1].iter_mut().for_each(|colour| *colour = times(*colour, alpha));
    }
    out
}

/// A colour divided by alpha, rounded down as Pillow does.
fn unmultiplied(colour: u8, alpha: u8) -> u8 {
    match alpha {
        0 | 255 => colour,
        _ => (255 * u32::from(colour) / u32::from(alpha)).min(255) as u8,
    }
}
