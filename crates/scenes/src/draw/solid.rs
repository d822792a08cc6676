//! Solids of a vehicle: a convex side profile extruded across, drawn face by face with flat
//! shading, and the decals (windows, lamps, badges) that lie on their faces.

use super::camera::{Camera, Point3, cross, dot, sub, unit};
use super::canvas::{CIRCLE, Canvas, Ink};

/// Canvas, camera and light of one drawing.
pub(crate) struct Stage<'a> {
    pub canvas: &'a mut Canvas,
    pub camera: &'a Camera,
    /// Unit vector towards the light.
    pub light: Point3,
}

impl Stage<'_> {
    pub fn shade(&self, normal: Point3) -> f32 {
        0.78 + 0.28 * dot(normal, self.light).max(0.0)
    }

    /// Fills a flat polygon in space, whichever side is seen.
    pub fn fill(&mut self, points: &[Point3], ink: Ink) {
        let outline = self.camera.polygon(points);
        self.canvas.polygon(&outline, ink);
    }
}

/// A profile of (x, z) corners, anticlockwise when seen from the left (front first, going up and
/// back), extruded to half the width `below` at height `z0` and `above` at height `z1`.
#[derive(Clone, Debug)]
pub(crate) struct Solid {
    pub profile: Vec<[f32; 2]>,
    pub z: [f32; 2],
    pub half_width: [f32; 2],
}

impl Solid {
    pub fn new(profile: &[[f32; 2]], below: f32, above: f32) -> Solid {
        let z = profile.iter().fold([f32::MAX, f32::MIN], |b, p| [b[0].min(p[1]), b[1].max(p[1])]);
        Solid { profile: profile.to_vec(), z, half_width: [below, above] }
    }

    /// Half the width at height `z`.
    fn half(&self, z: f32) -> f32 {
        let t = ((z - self.z[0]) / (self.z[1] - self.z[0]).max(1e-6)).clamp(0.0, 1.0);
        self.half_width[0] + (self.half_width[1] - self.half_width[0]) * t
    }

    /// A point on the left (`side` 1) or right (-1) face.
    pub fn on_side(&self, side: f32, p: [f32; 2]) -> Point3 {
        [p[0], side * self.half(p[1]), p[1]]
    }

    /// A point on the face over profile edge `edge`: `u` across from -1 (right) to 1 (left), `v`
    /// along the edge from 0 to 1.
    pub fn on_edge(&self, edge: usize, u: f32, v: f32) -> Point3 {
        let (a, b) = (self.profile[edge], self.profile[(edge + 1) % self.profile.len()]);
        let (x, z) = (a[0] + (b[0] - a[0]) * v, a[1] + (b[1] - a[1]) * v);
        [x, u * self.half(z), z]
    }

    pub fn corners(&self) -> impl Iterator<Item = Point3> + '_ {
        self.profile.iter().flat_map(|&p| [self.on_side(1.0, p), self.on_side(-1.0, p)])
    }

    pub fn side_visible(&self, camera: &Camera, side: f32) -> bool {
        let n = self.side_normal(side);
        let p = self.on_side(side, self.profile[0]);
        dot(n, sub(camera.eye, p)) > 0.0
    }

    fn side_normal(&self, side: f32) -> Point3 {
        let rise = (self.z[1] - self.z[0]).max(1e-6);
        unit([0.0, side, (self.half_width[0] - self.half_width[1]) / rise])
    }

    fn edge_quad(&self, edge: usize) -> [Point3; 4] {
        [
            self.on_edge(edge, -1.0, 0.0),
            self.on_edge(edge, 1.0, 0.0),
            self.on_edge(edge, 1.0, 1.0),
            self.on_edge(edge, -1.0, 1.0),
        ]
    }

    fn edge_normal(&self, edge: usize) -> Point3 {
        let q = self.edge_quad(edge);
        unit(cross(sub(q[1], q[0]), sub(q[3], q[0])))
    }

    pub fn edge_visible(&self, camera: &Camera, edge: usize) -> bool {
        dot(self.edge_normal(edge), sub(camera.eye, self.on_edge(edge, 0.0, 0.5))) > 0.0
    }

    /// Draws all faces towards the camera in one paint.
    pub fn draw(&self, stage: &mut Stage, ink: Ink) {
        for edge in 0..self.profile.len() {
            if self.edge_visible(stage.camera, edge) {
                let shade = stage.shade(self.edge_normal(edge));
                stage.fill(&self.edge_quad(edge), ink.lit(shade));
            }
        }
        for side in [1.0, -1.0] {
            if self.side_visible(stage.camera, side) {
                let face: Vec<Point3> =
                    self.profile.iter().map(|&p| self.on_side(side, p)).collect();
                stage.fill(&face, ink.lit(stage.shade(self.side_normal(side))));
            }
        }
    }

    /// Draws a polygon of (x, z) corners on both sides, where seen.
    pub fn decal(&self, stage: &mut Stage, points: &[[f32; 2]], ink: Ink) {
        for side in [1.0, -1.0] {
            if self.side_visible(stage.camera, side) {
                let face: Vec<Point3> = points.iter().map(|&p| self.on_side(side, p)).collect();
                stage.fill(&face, ink);
            }
        }
    }

    /// Draws a rectangle (`u` and `v` as in [`Self::on_edge`]) on the face over an edge, if seen.
    pub fn panel(&self, stage: &mut Stage, edge: usize, u: [f32; 2], v: [f32; 2], ink: Ink) {
        if self.edge_visible(stage.camera, edge) {
            let quad = [
                self.on_edge(edge, u[0], v[0]),
                self.on_edge(edge, u[1], v[0]),
                self.on_edge(edge, u[1], v[1]),
                self.on_edge(edge, u[0], v[1]),
            ];
            stage.fill(&quad, ink);
        }
    }
}

/// An upright disc beside the vehicle, facing left or right.
pub(crate) fn disc(stage: &mut Stage, x: f32, y: f32, z: f32, radius: f32, ink: Ink) {
    let points = CIRCLE.map(|[c, s]| [x + c * radius, y, z + s * radius]);
    stage.fill(&points, ink);
}
