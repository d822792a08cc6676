//! Where in its picture a subject stands. The benchmark's web pictures have the formats that cameras
//! and telephones have and a subject of any size, all of it in the middle square, which is what a
//! crop to a square keeps.
//!
//! A file of its own because a model learns from it at which sizes things may appear.

use super::canvas::{Canvas, Point};
use crate::dice::Dice;

/// Width to height.
const FORMATS: [f32; 7] = [9.0 / 16.0, 2.0 / 3.0, 3.0 / 4.0, 1.0, 4.0 / 3.0, 3.0 / 2.0, 16.0 / 9.0];
/// The subject's part of the square, along the side of which it fills more.
const SHARE: [f32; 2] = [0.35, 0.9];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    /// Width to height of the picture.
    pub aspect: f32,
    /// The subject's part of the area where it stands.
    pub share: f32,
    /// Where in that area's free space it is, -1 to 1.
    pub place: Point,
}

impl Framing {
    /// A web picture's. Of two sizes the larger: who pictures a thing goes near more often than not.
    pub fn photo(dice: &mut Dice) -> Framing {
        let aspect = dice.one(&FORMATS);
        let mut share = || dice.range(SHARE[0], SHARE[1]);
        let share = share().max(share());
        Framing { aspect, share, place: [dice.range(-0.7, 0.7), dice.range(-0.4, 0.6)] }
    }

    /// Where in `area` the tallest person stands, and how tall that is, in pixels.
    pub fn stand(&self, area: &Area) -> (Point, f32) {
        let tall = self.share * area.height;
        // With what is carried a person is about half as wide as tall.
        let free = [(area.width - tall * 0.5) / 2.0, (area.height - tall) / 2.0];
        let foot = [
            area.corner[0] + area.width / 2.0 + free[0] * self.place[0],
            area.corner[1] + tall + free[1] * (1.0 + self.place[1]),
        ];
        (foot, tall)
    }
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    /// Left and top.
    pub corner: Point,
    pub width: f32,
    pub height: f32,
}

impl Area {
    pub fn whole(canvas: &Canvas) -> Area {
        Area { corner: [0.0, 0.0], width: canvas.width(), height: canvas.height() }
    }

    pub fn middle_square(canvas: &Canvas) -> Area {
        let (width, height) = (canvas.width(), canvas.height());
        let side = width.min(height);
        let corner = [(width - side) / 2.0, (height - side) / 2.0];
        Area { corner, width: side, height: side }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framings_have_all_formats_and_all_sizes() {
        let framings: Vec<Framing> =
            (0..2000).map(|seed| Framing::photo(&mut Dice::new(seed, 0))).collect();
        for format in FORMATS {
            let count = framings.iter().filter(|f| f.aspect == format).count();
            assert!((200..380).contains(&count), "{count} of {format}");
        }
        let below = |share: f32| framings.iter().filter(|f| f.share < share).count();
        assert_eq!((below(SHARE[0]), below(SHARE[1])), (0, 2000));
        // A quarter is in the smaller half.
        let half = below((SHARE[0] + SHARE[1]) / 2.0);
        assert!((430..570).contains(&half), "{half}");
    }

    #[test]
    fn the_square_lies_in_the_middle_and_holds_who_stands_in_it() {
        for (width, height, corner) in
            [(160, 90, [35.0, 0.0]), (90, 160, [0.0, 35.0]), (64, 64, [0.0, 0.0])]
        {
            let side = width.min(height) as f32;
            let square = Area::middle_square(&Canvas::new(width, height));
            assert_eq!(square, Area { corner, width: side, height: side });
            for seed in 0..200 {
                let framing = Framing::photo(&mut Dice::new(seed, 0));
                let ([x, y], tall) = framing.stand(&square);
                let [left, top] = corner;
                assert!(x - tall * 0.25 >= left && x + tall * 0.25 <= left + side, "{seed}: {x}");
                assert!(y - tall >= top && y <= top + side, "{seed}: {y} {tall}");
            }
        }
    }
}
