//! Draws a vehicle of any type from any side: solids, glass, wheels, lamps and badges.

use super::badge;
use super::camera::{Camera, Point3};
use super::canvas::Ink;
use super::models::{Model, Windows};
use super::solid::{Solid, Stage, disc};
use crate::attributes::{Make, VehicleType};
use crate::dice::Dice;

const GLASS: Ink = Ink::new(38, 48, 60);
const TYRE: Ink = Ink::new(22, 22, 24);
const PLASTIC: Ink = Ink::new(44, 45, 48);

/// All corners, for fitting the camera to the vehicle.
pub(crate) fn corners(model: &Model) -> Vec<Point3> {
    let mut all: Vec<Point3> = model.body.corners().chain(model.cabin.corners()).collect();
    all.extend(model.cargo.iter().flat_map(Solid::corners));
    let half = model.width / 2.0;
    all.extend(model.wheels.iter().flat_map(|&x| [[x, half, 0.0], [x, -half, 0.0]]));
    all
}

/// Draws the vehicle with its shadow. `paint` is the body's colour in white light.
pub(crate) fn draw(
    stage: &mut Stage,
    model: &Model,
    kind: VehicleType,
    make: Make,
    paint: Ink,
    dice: &mut Dice,
) {
    let lamps_on = dice.chance(0.25);
    let cargo_paint =
        if dice.chance(0.75) { paint.lit(0.96) } else { paint.mix(Ink::grey(190), 0.3) };
    shadow(stage, model);
    inner_wheels(stage, model);
    let chassis = if kind == VehicleType::Truck { PLASTIC } else { paint };
    model.body.draw(stage, chassis);
    if kind != VehicleType::Truck {
        trim(stage, model, paint, dice);
    }
    ends(stage, model, lamps_on, dice);
    wheels(stage, model, dice);
    match &model.cargo {
        Some(cargo) if stage.camera.eye[0] > 1.7 => {
            load(stage, cargo, cargo_paint, make);
            greenhouse(stage, model, kind, paint, dice);
        }
        Some(cargo) => {
            greenhouse(stage, model, kind, paint, dice);
            load(stage, cargo, cargo_paint, make);
        }
        None => greenhouse(stage, model, kind, paint, dice),
    }
    badges(stage, model, kind, make);
}

fn shadow(stage: &mut Stage, model: &Model) {
    for (grow, alpha) in [(0.45, 0.22), (0.15, 0.4)] {
        let (l, w) = (model.length / 2.0 + grow, model.width / 2.0 + grow);
        let (dx, dy) = (-stage.light[0] * 0.5, -stage.light[1] * 0.5);
        let ground = [[l, w], [l, -w], [-l, -w], [-l, w]].map(|[x, y]| [x + dx, y + dy, 0.0]);
        stage.fill(&ground, Ink::grey(10).alpha(alpha));
    }
}

/// The tyres' treads and inner sides, of which the body leaves the lower part visible.
fn inner_wheels(stage: &mut Stage, model: &Model) {
    let r = model.wheel_radius;
    for side in [1.0, -1.0] {
        let (outer, inner) = (side * model.width / 2.0, side * (model.width / 2.0 - 0.26));
        for &x in &model.wheels {
            for dx in [-0.7 * r, 0.0, 0.7 * r] {
                let (low, high) = (r * if dx == 0.0 { 0.0 } else { 0.29 }, 2.0 * r);
                let x = x + dx;
                let tread = [[x, outer, low], [x, inner, low], [x, inner, high], [x, outer, high]];
                stage.fill(&tread, TYRE);
            }
            disc(stage, x, inner, r, r, TYRE);
        }
    }
}

fn wheels(stage: &mut Stage, model: &Model, dice: &mut Dice) {
    let rim = Ink::grey(0).mix(Ink::grey(255), dice.range(0.5, 0.85));
    let r = model.wheel_radius;
    for side in [1.0, -1.0] {
        if !model.body.side_visible(stage.camera, side) {
            continue;
        }
        let y = side * (model.width / 2.0 + 0.01);
        for &x in &model.wheels {
            disc(stage, x, y, r, r * 1.14, Ink::grey(14));
            disc(stage, x, y, r, r, TYRE);
            disc(stage, x, y, r, r * 0.62, rim);
            disc(stage, x, y, r, r * 0.2, rim.lit(0.5));
        }
    }
}

/// Lower edge, door lines and a light line under the windows.
fn trim(stage: &mut Stage, model: &Model, paint: Ink, dice: &mut Dice) {
    let [low, high] = model.body.z;
    let (front, back) = (model.length * 0.48, -model.length * 0.48);
    let band = |a: f32, b: f32| [[front, a], [front, b], [back, b], [back, a]];
    if model.cladding {
        model.body.decal(stage, &band(low, low + 0.2), PLASTIC);
    } else {
        model.body.decal(stage, &band(low, low + 0.12), paint.lit(0.55));
    }
    let shine = low + (high - low) * 0.72;
    model.body.decal(stage, &band(shine, shine + 0.05), Ink::grey(255).alpha(0.28));
    let doors: &[f32] = if model.public { &[] } else { &[0.28, -0.02, -0.3] };
    for door in doors {
        let x = door * model.length;
        let line =
            [[x, low + 0.1], [x, high - 0.06], [x - 0.03, high - 0.06], [x - 0.03, low + 0.1]];
        model.body.decal(stage, &line, paint.lit(0.5).alpha(0.7));
    }
    if model.public && dice.chance(0.5) {
        let stripe = if paint.luma() > 150.0 { Ink::grey(70) } else { Ink::grey(235) };
        model.body.decal(stage, &band(low + 0.28, low + 0.38), stripe.alpha(0.85));
    }
}

/// Grille, plates, head and tail lamps.
fn ends(stage: &mut Stage, model: &Model, lamps_on: bool, dice: &mut Dice) {
    let [grille, lamps, rear] = model.ends;
    let body = &model.body;
    let head = if lamps_on { Ink::new(255, 252, 225) } else { Ink::new(215, 220, 222) };
    let tail = if lamps_on { Ink::new(255, 40, 30) } else { Ink::new(170, 20, 25) };
    body.panel(stage, grille, [-1.0, 1.0], [0.0, 0.2], PLASTIC);
    body.panel(stage, grille, [-0.45, 0.45], [0.3, 0.85], Ink::grey(34));
    body.panel(stage, rear, [-1.0, 1.0], [0.85, 1.0], PLASTIC);
    let plate = dice.one(&[Ink::new(40, 80, 190), Ink::new(235, 235, 230), Ink::new(235, 190, 60)]);
    body.panel(stage, grille, [-0.26, 0.26], [0.08, 0.28], plate);
    body.panel(stage, rear, [-0.26, 0.26], [0.62, 0.82], plate);
    for u in [[0.55, 0.95], [-0.95, -0.55]] {
        let v = if lamps == grille { [0.5, 0.8] } else { [0.1, 0.9] };
        body.panel(stage, lamps, u, v, head);
        body.panel(stage, rear, u, [0.15, 0.5], tail);
    }
    // Their corners, seen from the side.
    let at = |edge: usize| {
        let (a, b) = (body.profile[edge], body.profile[(edge + 1) % body.profile.len()]);
        [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]
    };
    for (edge, ink, inward) in [(lamps, head, -0.22), (rear, tail, 0.18)] {
        let [x, z] = at(edge);
        let z = z + if lamps == grille && edge == lamps { 0.1 } else { 0.04 };
        let corner = [[x, z - 0.07], [x, z + 0.07], [x + inward, z + 0.07], [x + inward, z - 0.07]];
        body.decal(stage, &corner, ink);
    }
}

/// The upper part with its glass.
fn greenhouse(stage: &mut Stage, model: &Model, kind: VehicleType, paint: Ink, dice: &mut Dice) {
    let cabin = &model.cabin;
    cabin.draw(stage, paint);
    let glass = GLASS.lit(dice.range(0.8, 1.5));
    for (edge, v) in model.screens {
        cabin.panel(stage, edge, [-0.9, 0.9], v, glass);
        let shine = [v[0] + (v[1] - v[0]) * 0.5, v[1] - (v[1] - v[0]) * 0.15];
        cabin.panel(stage, edge, [-0.75, 0.1], shine, Ink::new(150, 175, 200).alpha(0.35));
    }
    for pane in panes(&model.windows) {
        cabin.decal(stage, &pane, glass);
        let [a, b, c, d] = pane;
        let lerp =
            |p: [f32; 2], q: [f32; 2], t: f32| [p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t];
        let upper = [lerp(a, b, 0.55), lerp(a, b, 0.95), lerp(d, c, 0.95), lerp(d, c, 0.55)];
        cabin.decal(stage, &upper, Ink::new(150, 175, 200).alpha(0.3));
    }
    let roof = model.height;
    if kind == VehicleType::Suv {
        let rail =
            [[0.3, roof - 0.03], [0.3, roof + 0.05], [-1.8, roof + 0.05], [-1.8, roof - 0.03]];
        cabin.decal(stage, &rail, Ink::grey(50));
        if stage.camera.eye[0] < -1.0 {
            spare_wheel(stage);
        }
    }
    if model.public {
        cabin.panel(stage, 0, [-0.7, 0.7], [0.76, 0.94], Ink::grey(20));
        cabin.panel(stage, 0, [-0.5, 0.5], [0.8, 0.9], Ink::new(255, 170, 40));
        bus_doors(stage, model, glass);
    }
}

fn spare_wheel(stage: &mut Stage) {
    use super::canvas::CIRCLE;
    for (radius, ink) in [(0.36, TYRE), (0.2, Ink::grey(120))] {
        let points = CIRCLE.map(|[c, s]| [-2.42, c * radius, 0.95 + s * radius]);
        stage.fill(&points, ink);
    }
}

/// Doors are on the right side only.
fn bus_doors(stage: &mut Stage, model: &Model, glass: Ink) {
    if !model.body.side_visible(stage.camera, -1.0) {
        return;
    }
    for x in [model.length * 0.44, model.length * 0.03] {
        let y = -model.width / 2.0 - 0.01;
        for (inset, ink) in [(0.0, PLASTIC), (0.09, glass.lit(1.3))] {
            let (front, back) = (x - inset, x - 1.1 + inset);
            let (low, high) = (0.45 + inset, model.windows.z[1] - inset);
            stage.fill(&[[front, y, low], [front, y, high], [back, y, high], [back, y, low]], ink);
        }
    }
}

/// The side windows as quadrangles, front lower corner first, going up.
fn panes(w: &Windows) -> Vec<[[f32; 2]; 4]> {
    const PILLAR: f32 = 0.05;
    let count = f32::from(w.count);
    (0..w.count)
        .map(|i| {
            let at = |t: f32, level: usize| {
                [w.front[level] + (w.back[level] - w.front[level]) * t, w.z[level]]
            };
            let (a, b) = (f32::from(i) / count, (f32::from(i) + 1.0) / count);
            let gap = PILLAR / (w.front[0] - w.back[0]).max(0.5);
            [at(a + gap, 0), at(a + gap, 1), at(b - gap, 1), at(b - gap, 0)]
        })
        .collect()
}

/// The truck's box or drop side.
fn load(stage: &mut Stage, cargo: &Solid, paint: Ink, make: Make) {
    cargo.draw(stage, paint);
    let [low, high] = cargo.z;
    for i in 0..6 {
        let x = 1.5 - i as f32;
        let rib = [[x, low], [x, high], [x - 0.06, high], [x - 0.06, low]];
        cargo.decal(stage, &rib, paint.lit(0.72));
    }
    let rear = 2;
    cargo.panel(stage, rear, [-0.03, 0.03], [0.0, 1.0], paint.lit(0.5));
    if high < 2.0 {
        // The open bed is dark inside.
        cargo.panel(stage, 1, [-0.92, 0.92], [0.03, 0.97], PLASTIC);
        return;
    }
    side_badge(stage, cargo, make, [-1.0, (low + high) / 2.0], 0.55);
}

fn badges(stage: &mut Stage, model: &Model, kind: VehicleType, make: Make) {
    let body = &model.body;
    let middle = (body.z[0] + body.z[1]) / 2.0;
    let [grille, _, rear] = model.ends;
    match kind {
        VehicleType::Truck => {
            side_badge(stage, &model.cabin, make, [2.55, 1.1], 0.34);
            end_badge(stage, &model.cabin, make, (0, 0.55), 0.34);
            if let Some(cargo) = &model.cargo {
                end_badge(stage, cargo, make, (2, 0.5), 0.4);
            }
        }
        VehicleType::Bus => {
            side_badge(stage, body, make, [-0.6, middle], 0.42);
            end_badge(stage, body, make, (grille, 0.6), 0.36);
            end_badge(stage, body, make, (rear, 0.4), 0.36);
        }
        _ => {
            side_badge(stage, body, make, [0.1, middle + 0.02], 0.24);
            end_badge(stage, body, make, (grille, 0.75), 0.17);
            end_badge(stage, body, make, (rear, 0.3), 0.17);
        }
    }
}

fn side_badge(stage: &mut Stage, solid: &Solid, make: Make, at: [f32; 2], radius: f32) {
    let camera: &Camera = stage.camera;
    for side in [1.0, -1.0] {
        if solid.side_visible(camera, side) {
            badge::draw(stage.canvas, make, |x, y| {
                let p = [at[0] - side * x * radius, at[1] - y * radius];
                camera.point(solid.on_side(side, p))
            });
        }
    }
}

/// On the middle of an end face: the edge and the place along it.
fn end_badge(stage: &mut Stage, solid: &Solid, make: Make, (edge, v): (usize, f32), radius: f32) {
    let camera: &Camera = stage.camera;
    if solid.edge_visible(camera, edge) {
        let [x0, _, z0] = solid.on_edge(edge, 0.0, v);
        let facing = if x0 > 0.0 { 1.0 } else { -1.0 };
        badge::draw(stage.canvas, make, |x, y| {
            camera.point([x0 + facing * 0.02, facing * x * radius, z0 - y * radius])
        });
    }
}
