//! Anti-aliased polygons, ellipses, lines and bitmap text on a pixel map: the few primitives from
//! which every scene is made. The only file that sees tiny-skia.

use font8x8::UnicodeFonts;
use image::RgbImage;
use tiny_skia::{FillRule, Paint, PathBuilder, Pixmap, Transform};

/// A point in pixels, y downwards.
pub(crate) type Point = [f32; 2];

/// A colour with opacity, components 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ink {
    pub rgb: [f32; 3],
    pub alpha: f32,
}

impl Ink {
    pub const fn new(r: u8, g: u8, b: u8) -> Ink {
        Ink { rgb: [r as f32, g as f32, b as f32], alpha: 1.0 }
    }

    pub const fn grey(v: u8) -> Ink {
        Ink::new(v, v, v)
    }

    pub const fn alpha(self, alpha: f32) -> Ink {
        Ink { alpha, ..self }
    }

    /// Brighter or darker by a factor.
    pub fn lit(self, factor: f32) -> Ink {
        Ink { rgb: self.rgb.map(|c| (c * factor).clamp(0.0, 255.0)), ..self }
    }

    pub fn mix(self, other: Ink, share: f32) -> Ink {
        let at = |i: usize| self.rgb[i] * (1.0 - share) + other.rgb[i] * share;
        Ink { rgb: [at(0), at(1), at(2)], ..self }
    }

    /// From hue in degrees, saturation and value in 0..1.
    pub fn hsv(hue: f32, saturation: f32, value: f32) -> Ink {
        let sector = (hue.rem_euclid(360.0)) / 60.0;
        let chroma = value * saturation;
        let x = chroma * (1.0 - (sector % 2.0 - 1.0).abs());
        let (r, g, b) = match sector as u32 {
            0 => (chroma, x, 0.0),
            1 => (x, chroma, 0.0),
            2 => (0.0, chroma, x),
            3 => (0.0, x, chroma),
            4 => (x, 0.0, chroma),
            _ => (chroma, 0.0, x),
        };
        let low = value - chroma;
        Ink { rgb: [r, g, b].map(|c| (c + low) * 255.0), alpha: 1.0 }
    }

    pub fn luma(self) -> f32 {
        0.299 * self.rgb[0] + 0.587 * self.rgb[1] + 0.114 * self.rgb[2]
    }
}

/// The 16 corners of a regular polygon on the unit circle, which stands for a circle: exact
/// constants instead of sines.
pub(crate) const CIRCLE: [Point; 16] = {
    const A: f32 = 0.923_879_5;
    const B: f32 = 0.707_106_77;
    const C: f32 = 0.382_683_43;
    [
        [1.0, 0.0],
        [A, C],
        [B, B],
        [C, A],
        [0.0, 1.0],
        [-C, A],
        [-B, B],
        [-A, C],
        [-1.0, 0.0],
        [-A, -C],
        [-B, -B],
        [-C, -A],
        [0.0, -1.0],
        [C, -A],
        [B, -B],
        [A, -C],
    ]
};

pub(crate) struct Canvas {
    pixmap: Pixmap,
}

impl Canvas {
    /// `width` and `height` in pixels, at least 1.
    pub fn new(width: u32, height: u32) -> Canvas {
        let pixmap = Pixmap::new(width.max(1), height.max(1)).expect("a small non-empty image");
        Canvas { pixmap }
    }

    pub fn width(&self) -> f32 {
        self.pixmap.width() as f32
    }

    pub fn height(&self) -> f32 {
        self.pixmap.height() as f32
    }

    pub fn polygon(&mut self, points: &[Point], ink: Ink) {
        if points.len() < 3 || ink.alpha <= 0.0 {
            return;
        }
        let bound = |v: f32| v.clamp(-8000.0, 8000.0);
        let mut path = PathBuilder::with_capacity(points.len() + 2, points.len() + 1);
        path.move_to(bound(points[0][0]), bound(points[0][1]));
        for p in &points[1..] {
            path.line_to(bound(p[0]), bound(p[1]));
        }
        path.close();
        // None: a polygon without an area, nothing to draw.
        if let Some(path) = path.finish() {
            let paint = paint(ink);
            self.pixmap.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
        }
    }

    pub fn ellipse(&mut self, centre: Point, rx: f32, ry: f32, ink: Ink) {
        let points = CIRCLE.map(|[x, y]| [centre[0] + x * rx, centre[1] + y * ry]);
        self.polygon(&points, ink);
    }

    pub fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, ink: Ink) {
        self.polygon(&[[x, y], [x + width, y], [x + width, y + height], [x, y + height]], ink);
    }

    pub fn line(&mut self, a: Point, b: Point, width: f32, ink: Ink) {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = (dx * dx + dy * dy).sqrt().max(1e-6);
        let (nx, ny) = (-dy / length * width / 2.0, dx / length * width / 2.0);
        self.polygon(
            &[
                [a[0] + nx, a[1] + ny],
                [b[0] + nx, b[1] + ny],
                [b[0] - nx, b[1] - ny],
                [a[0] - nx, a[1] - ny],
            ],
            ink,
        );
    }

    /// A vertical gradient over the rows `top..bottom`.
    pub fn gradient(&mut self, top: f32, bottom: f32, from: Ink, to: Ink) {
        const BANDS: u16 = 8;
        let step = (bottom - top) / f32::from(BANDS);
        for i in 0..BANDS {
            let ink = from.mix(to, f32::from(i) / f32::from(BANDS - 1));
            let width = self.width();
            self.rect(0.0, top + step * f32::from(i), width, step + 1.0, ink);
        }
    }

    /// ASCII text in an 8×8 bitmap font with its upper left corner at `at`, `size` pixels high.
    pub fn text(&mut self, at: Point, size: f32, text: &str, ink: Ink) {
        let place = |x: f32, y: f32| [at[0] + x * size, at[1] + y * size];
        self.glyphs(text, ink, place);
    }

    /// Text whose unit square per character is put on the image by `place`.
    pub fn glyphs(&mut self, text: &str, ink: Ink, place: impl Fn(f32, f32) -> Point) {
        for (i, c) in text.chars().enumerate() {
            let Some(rows) = font8x8::BASIC_FONTS.get(c) else { continue };
            for (y, row) in rows.iter().enumerate() {
                let mut x = 0;
                while x < 8 {
                    let start = x;
                    while x < 8 && row >> x & 1 == 1 {
                        x += 1;
                    }
                    if x > start {
                        let (left, right) = (start as f32 / 8.0, x as f32 / 8.0);
                        let (top, bottom) = (y as f32 / 8.0, (y + 1) as f32 / 8.0);
                        let at = |dx: f32, dy: f32| place(i as f32 + dx, dy);
                        self.polygon(
                            &[at(left, top), at(right, top), at(right, bottom), at(left, bottom)],
                            ink,
                        );
                    }
                    x += 1;
                }
            }
        }
    }

    /// The pixels as bytes r, g, b, a, row by row.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.pixmap.data_mut()
    }

    pub fn into_image(self) -> RgbImage {
        let (width, height) = (self.pixmap.width(), self.pixmap.height());
        let rgb = self.pixmap.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel")
    }
}

fn paint(ink: Ink) -> Paint<'static> {
    let [r, g, b] = ink.rgb.map(|c| (c + 0.5).clamp(0.0, 255.0) as u8);
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, (ink.alpha.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
    paint.anti_alias = true;
    paint
}
