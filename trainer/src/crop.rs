//! Random resized crops: a random part of a picture, enlarged to the picture's size, so that a model
//! sees things at other sizes than a set shows them. As torchvision draws them, which open_clip trains
//! with: sides in a ratio from 3:4 to 4:3.
//!
//! Of the square that the model sees, where torchvision cuts the file's picture: pictures may be held
//! in memory as squares.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use rand::Rng;

/// The shares of the area that parts have: uniform between the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    min: f64,
    max: f64,
}

impl FromStr for Scale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (min, max) = text.split_once(',').context("two numbers with a comma, as in 0.4,1")?;
        let number = |text: &str| {
            text.trim().parse::<f64>().with_context(|| format!("{text:?} is no number"))
        };
        let (min, max) = (number(min)?, number(max)?);
        ensure!(0.0 < min && min <= max && max <= 1.0, "shares of the area, 0 < MIN <= MAX <= 1");
        Ok(Scale { min, max })
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{},{}", self.min, self.max)
    }
}

/// Width to height of a part, at most and the other way round.
const RATIO: f64 = 4.0 / 3.0;
/// Draws until one fits into the picture; then the picture is left whole.
const TRIES: usize = 10;

/// A part of a square picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Part {
    /// A random part of a picture with this side.
    pub fn draw(scale: Scale, side: u32, rng: &mut impl Rng) -> Part {
        for _ in 0..TRIES {
            let area = f64::from(side).powi(2) * rng.random_range(scale.min..=scale.max);
            let ratio = rng.random_range(-RATIO.ln()..=RATIO.ln()).exp();
            let round = |length: f64| length.sqrt().round() as u32;
            let (width, height) = (round(area * ratio), round(area / ratio));
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let top = rng.random_range(0..=side - height);
                let left = rng.random_range(0..=side - width);
                return Part { left, top, width, height };
            }
        }
        Part { left: 0, top: 0, width: side, height: side }
    }

    /// The part of the picture [side, side, 3], as large as the picture, by cubic interpolation.
    pub fn enlarge(self, picture: &[u8], side: u32) -> Vec<u8> {
        let Part { left, top, width, height } = self;
        let pixels = picture.as_chunks::<3>().0;
        let part = RgbImage::from_fn(width, height, |x, y| {
            Rgb(pixels[((top + y) * side + left + x) as usize])
        });
        imageops::resize(&part, side, side, FilterType::CatmullRom).into_raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn shares_are_two_numbers_in_order() {
        let scale: Scale = "0.25, 1".parse().unwrap();
        assert_eq!((scale, scale.to_string()), (Scale { min: 0.25, max: 1.0 }, "0.25,1".into()));
        for bad in ["", "0.5", "0.5,", "a,1", "0,1", "0.9,0.5", "0.5,1.1", "NaN,1", "0.1,0.2,0.3"] {
            assert!(bad.parse::<Scale>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts_lie_in_the_picture_and_have_the_shares() {
        let (side, scale) = (96, Scale { min: 0.2, max: 0.6 });
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut sum, mut corners) = (0.0, [0; 2]);
        for _ in 0..2000 {
            let part = Part::draw(scale, side, &mut rng);
            assert!(part.left + part.width <= side && part.top + part.height <= side, "{part:?}");
            let share = f64::from(part.width * part.height) / f64::from(side * side);
            // Sides are whole pixels.
            assert!((0.18..0.62).contains(&share), "{part:?}: {share}");
            let ratio = f64::from(part.width) / f64::from(part.height);
            assert!((0.72..1.38).contains(&ratio), "{part:?}: {ratio}");
            sum += share;
            corners[0] += u32::from(part.left == 0 && part.top == 0);
            corners[1] += u32::from(part.left + part.width == side);
        }
        assert!((sum / 2000.0 - 0.4).abs() < 0.01, "{sum}");
        assert!(corners[0] < 40 && corners[1] > 20, "{corners:?}");
        let whole = Part { left: 0, top: 0, width: 8, height: 8 };
        assert_eq!(Part::draw(Scale { min: 1.0, max: 1.0 }, 8, &mut rng), whole);
    }

    #[test]
    fn a_part_is_enlarged_and_the_whole_stays_as_it_is() {
        // A quarter of each colour.
        let side = 16;
        let colour = |at: u32| -> [u8; 3] {
            match (at % side < side / 2, at / side < side / 2) {
                (true, true) => [200, 10, 10],
                (false, true) => [10, 200, 10],
                (true, false) => [10, 10, 200],
                (false, false) => [90, 90, 90],
            }
        };
        let picture: Vec<u8> = (0..side * side).flat_map(colour).collect();
        let whole = Part { left: 0, top: 0, width: side, height: side };
        assert_eq!(whole.enlarge(&picture, side), picture);
        for (left, top) in [(0, 0), (8, 0), (0, 8), (8, 8)] {
            let quarter = Part { left, top, width: 8, height: 8 }.enlarge(&picture, side);
            let expected = colour(top * side + left).repeat((side * side) as usize);
            assert_eq!(quarter, expected, "{left}, {top}");
        }
    }
}
