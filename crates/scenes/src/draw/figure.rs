//! The frame of a pedestrian: body proportions by age and gender in units of body height (x to the
//! right, y up, feet at 0, crown at 1), and their place in the image.

use super::canvas::{CIRCLE, Canvas, Ink, Point};
use crate::attributes::{Age, Gender};

/// Proportions, as parts of the body's height.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proportions {
    /// Half the height and half the width of the head.
    pub head: [f32; 2],
    pub shoulder: f32,
    pub hip: f32,
    pub knee: f32,
    /// Half widths.
    pub shoulder_width: f32,
    pub waist_width: f32,
    pub hip_width: f32,
    pub arm: f32,
    pub leg: f32,
}

impl Proportions {
    /// Stylised: heads a little larger than life, so that faces are visible in small crops, and
    /// children's larger still.
    pub fn new(age: Age, gender: Gender) -> Proportions {
        let female = gender == Gender::Female;
        let head = if age == Age::Under18 { 0.125 } else { 0.082 };
        let child = age == Age::Under18;
        Proportions {
            head: [head, head * 0.82],
            shoulder: 1.0 - head * 2.0 - 0.02,
            hip: if child { 0.43 } else { 0.49 },
            knee: 0.25,
            shoulder_width: if child {
                0.115
            } else if female {
                0.118
            } else {
                0.145
            },
            waist_width: if child {
                0.095
            } else if female {
                0.082
            } else {
                0.115
            },
            hip_width: if child {
                0.095
            } else if female {
                0.118
            } else {
                0.108
            },
            arm: if female { 0.036 } else { 0.042 },
            leg: if female { 0.056 } else { 0.062 },
        }
    }
}

/// A canvas in body units.
pub(crate) struct Figure<'a> {
    pub canvas: &'a mut Canvas,
    /// Image point of the feet's middle and pixels per unit of height.
    pub foot: Point,
    pub scale: f32,
    /// -1 mirrors left and right.
    pub mirror: f32,
    /// How much narrower the feet are than the crown: the view from above.
    pub taper: f32,
    /// The upper body's forward lean, in x per unit of height.
    pub lean: f32,
}

impl Figure<'_> {
    pub fn place(&self, [x, y]: Point) -> Point {
        let wide = 1.0 + self.taper * (y - 0.6);
        let lean = self.lean * (y - 0.5).max(0.0);
        [self.foot[0] + self.mirror * (x + lean) * wide * self.scale, self.foot[1] - y * self.scale]
    }

    pub fn fill(&mut self, points: &[Point], ink: Ink) {
        let placed: Vec<Point> = points.iter().map(|&p| self.place(p)).collect();
        self.canvas.polygon(&placed, ink);
    }

    pub fn rect(&mut self, left: f32, right: f32, bottom: f32, top: f32, ink: Ink) {
        self.fill(&[[left, bottom], [right, bottom], [right, top], [left, top]], ink);
    }

    pub fn oval(&mut self, centre: Point, rx: f32, ry: f32, ink: Ink) {
        let points = CIRCLE.map(|[x, y]| [centre[0] + x * rx, centre[1] + y * ry]);
        self.fill(&points, ink);
    }

    /// A limb with round ends from `a` to `b`, half widths `wa` and `wb`.
    pub fn limb(&mut self, a: Point, b: Point, wa: f32, wb: f32, ink: Ink) {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = (dx * dx + dy * dy).sqrt().max(1e-6);
        let n = [-dy / length, dx / length];
        self.fill(
            &[
                [a[0] + n[0] * wa, a[1] + n[1] * wa],
                [b[0] + n[0] * wb, b[1] + n[1] * wb],
                [b[0] - n[0] * wb, b[1] - n[1] * wb],
                [a[0] - n[0] * wa, a[1] - n[1] * wa],
            ],
            ink,
        );
        self.oval(a, wa, wa, ink);
        self.oval(b, wb, wb, ink);
    }
}
