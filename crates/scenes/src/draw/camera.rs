//! A pinhole camera that looks at the origin, and the fit of what it sees into an image. World
//! axes: x forward along the road, y to the left, z up; metres.

use super::canvas::Point;
use super::framing::{Area, Framing};

pub(crate) type Point3 = [f32; 3];

pub(crate) fn sub(a: Point3, b: Point3) -> Point3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn dot(a: Point3, b: Point3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: Point3, b: Point3) -> Point3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn unit(a: Point3) -> Point3 {
    let length = dot(a, a).sqrt().max(1e-9);
    a.map(|v| v / length)
}

/// Nothing nearer than this is drawn, in metres.
const NEAR: f32 = 0.6;

#[derive(Clone, Debug)]
pub(crate) struct Camera {
    pub eye: Point3,
    right: Point3,
    up: Point3,
    forward: Point3,
    /// Pixels per unit of tangent, and the image point of the optical axis.
    scale: f32,
    centre: Point,
}

impl Camera {
    /// Angles in degrees: `azimuth` 0 looks at the front, 90 at the left side; `elevation` above
    /// the horizon. `distance` and `height` of the point looked at in metres.
    pub fn orbit(azimuth: f32, elevation: f32, distance: f32, height: f32) -> Camera {
        let (azimuth, elevation) = (azimuth.to_radians(), elevation.to_radians());
        let (sa, ca) = (libm::sinf(azimuth), libm::cosf(azimuth));
        let (se, ce) = (libm::sinf(elevation), libm::cosf(elevation));
        let forward = [-ca * ce, -sa * ce, -se];
        let right = [-sa, ca, 0.0];
        let up = cross(right, forward);
        let eye = [ca * ce * distance, sa * ce * distance, height + se * distance];
        Camera { eye, right, up, forward, scale: 1.0, centre: [0.0, 0.0] }
    }

    fn view(&self, p: Point3) -> Point3 {
        let d = sub(p, self.eye);
        [dot(d, self.right), dot(d, self.up), dot(d, self.forward)]
    }

    fn project(&self, v: Point3) -> Point {
        let s = self.scale / v[2];
        [self.centre[0] + v[0] * s, self.centre[1] - v[1] * s]
    }

    /// The bounding box (left, top, right, bottom) of `points` in units of tangent.
    pub fn bounds(&self, points: &[Point3]) -> [f32; 4] {
        points.iter().map(|&p| self.view(p)).fold(
            [f32::MAX, f32::MAX, f32::MIN, f32::MIN],
            |b, v| {
                let (x, y) = (v[0] / v[2].max(NEAR), -v[1] / v[2].max(NEAR));
                [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)]
            },
        )
    }

    /// Places `bounds` in an area of the image so that it fills the framing's share of the tighter
    /// side.
    pub fn fit(&mut self, bounds: [f32; 4], area: &Area, framing: &Framing) {
        let (w, h) = (bounds[2] - bounds[0], bounds[3] - bounds[1]);
        self.scale = framing.share * (area.width / w).min(area.height / h);
        let free = [(area.width - w * self.scale) / 2.0, (area.height - h * self.scale) / 2.0];
        let at = |axis: usize| {
            area.corner[axis] + free[axis] * (1.0 + framing.place[axis]) - bounds[axis] * self.scale
        };
        self.centre = [at(0), at(1)];
    }

    /// The image of a polygon, cut at the near plane; empty when behind the camera.
    pub fn polygon(&self, points: &[Point3]) -> Vec<Point> {
        let views: Vec<Point3> = points.iter().map(|&p| self.view(p)).collect();
        let mut out = Vec::with_capacity(views.len() + 1);
        for (i, &a) in views.iter().enumerate() {
            let b = views[(i + 1) % views.len()];
            if a[2] >= NEAR {
                out.push(self.project(a));
            }
            if (a[2] >= NEAR) != (b[2] >= NEAR) {
                let t = (NEAR - a[2]) / (b[2] - a[2]);
                let cut = [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]), NEAR];
                out.push(self.project(cut));
            }
        }
        out
    }

    pub fn point(&self, p: Point3) -> Point {
        let v = self.view(p);
        self.project([v[0], v[1], v[2].max(NEAR)])
    }

    /// The image row of the horizon.
    pub fn horizon(&self) -> f32 {
        // The direction of view, level: forward without its z, up to scale.
        let level = unit([self.forward[0], self.forward[1], 0.0]);
        let (along, above) = (dot(level, self.forward), dot(level, self.up));
        self.centre[1] - above / along * self.scale
    }
}
