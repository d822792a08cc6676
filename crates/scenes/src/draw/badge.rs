//! Badges of the 65 makes: the pair of shape and colour is unique to a make, its first letter
//! tells more where the picture is large enough.

use super::canvas::{CIRCLE, Canvas, Ink, Point};
use crate::attributes::Make;

const COLOURS: [Ink; 13] = [
    Ink::new(220, 30, 40),
    Ink::new(30, 80, 220),
    Ink::new(20, 150, 70),
    Ink::new(250, 200, 30),
    Ink::new(245, 245, 245),
    Ink::new(25, 25, 30),
    Ink::new(240, 120, 20),
    Ink::new(140, 50, 180),
    Ink::new(60, 200, 220),
    Ink::new(250, 140, 190),
    Ink::new(130, 80, 40),
    Ink::new(150, 220, 60),
    Ink::new(130, 135, 145),
];

const DIAMOND: [Point; 4] = [[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]];
const SQUARE: [Point; 4] = [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]];
const SHIELD: [Point; 5] = [[-0.85, -0.9], [0.85, -0.9], [0.85, 0.2], [0.0, 1.0], [-0.85, 0.2]];
const TRIANGLE: [Point; 3] = [[0.0, -1.0], [1.0, 0.8], [-1.0, 0.8]];

/// Draws the make's badge; `place` maps the square from -1 to 1 (y down) to the image.
pub(crate) fn draw(canvas: &mut Canvas, make: Make, place: impl Fn(f32, f32) -> Point) {
    let outline: &[Point] = match make.index() % 5 {
        0 => &CIRCLE,
        1 => &DIAMOND,
        2 => &SQUARE,
        3 => &SHIELD,
        _ => &TRIANGLE,
    };
    let ink = COLOURS[make.index() / 5 % COLOURS.len()];
    let light = ink.luma() > 130.0;
    let (rim, glyph) =
        if light { (Ink::grey(20), Ink::grey(20)) } else { (Ink::grey(250), Ink::grey(250)) };
    let ring: Vec<Point> = outline.iter().map(|&[x, y]| place(x, y)).collect();
    canvas.polygon(&ring, rim);
    let inner: Vec<Point> = outline.iter().map(|&[x, y]| place(x * 0.8, y * 0.8)).collect();
    canvas.polygon(&inner, ink);
    canvas.glyphs(&make.word()[..1], glyph, |x, y| place(x * 0.9 - 0.42, y * 0.9 - 0.4));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_makes_have_the_same_badge() {
        let badges: HashSet<Vec<u8>> = Make::all()
            .map(|make| {
                let mut canvas = Canvas::new(24, 24);
                draw(&mut canvas, make, |x, y| [12.0 + x * 11.0, 12.0 + y * 11.0]);
                canvas.into_image().into_raw()
            })
            .collect();
        assert_eq!(badges.len(), 65);
    }
}
