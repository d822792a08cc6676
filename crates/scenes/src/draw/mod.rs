//! From a scene's attributes and seed to pixels: viewpoint, backdrop, subject, camera.

mod backdrop;
mod badge;
mod camera;
mod canvas;
mod clothes;
mod effects;
mod figure;
mod framing;
mod head;
mod models;
mod paint;
mod person;
mod solid;
mod vehicle;

use image::RgbImage;

use crate::attributes::{Age, Facing, Pedestrian, Vehicle};
use crate::dice::Dice;
use crate::scene::{Domain, Scene, Subject};
use camera::{Camera, unit};
use canvas::{Canvas, Ink};
use figure::Figure;
use framing::{Area, Framing};
use models::Model;
use person::Look;
use solid::Stage;

/// Streams of a scene's seed; the attributes are stream 0.
const LOOK: u64 = 1;
const CAMERA: u64 = 2;
const GRAIN: u64 = 3;

/// The tallest person's part of a picture's height.
const TALLEST: f32 = 0.95;

/// Draws the scene with its longer side at `long_side` pixels (at least 16).
pub(crate) fn draw(scene: &Scene, long_side: u32) -> RgbImage {
    let mut dice = Dice::new(scene.seed, LOOK);
    let mut canvas = match &scene.subject {
        Subject::Vehicle(v) => draw_vehicle(v, scene.domain, long_side, &mut dice),
        Subject::Pedestrian(p) => draw_pedestrian(p, scene.domain, long_side, &mut dice),
    };
    let (mut lens, mut grain) = (Dice::new(scene.seed, CAMERA), Dice::new(scene.seed, GRAIN));
    effects::apply(&mut canvas, scene.domain, &mut lens, &mut grain);
    canvas.into_image()
}

fn blank(long_side: u32, aspect: f32) -> Canvas {
    let long = long_side.max(16);
    let short = |part: f32| ((long as f32 * part + 0.5) as u32).max(8);
    if aspect >= 1.0 {
        Canvas::new(long, short(1.0 / aspect))
    } else {
        Canvas::new(short(aspect), long)
    }
}

fn draw_vehicle(vehicle: &Vehicle, domain: Domain, long_side: u32, dice: &mut Dice) -> Canvas {
    let model = Model::new(vehicle.kind, dice);
    let mut camera = viewpoint(&model, domain, dice);
    let corners = vehicle::corners(&model);
    let bounds = camera.bounds(&corners);
    let own = (bounds[2] - bounds[0]) / (bounds[3] - bounds[1]);
    let framing = match domain {
        Domain::Photo => Framing::photo(dice),
        _ => {
            let aspect = match domain {
                Domain::Crop => (own * dice.range(0.92, 1.08)).clamp(0.6, 3.2),
                _ => (own * dice.range(0.75, 1.0)).clamp(0.95, 1.55),
            };
            let place = [dice.range(-0.7, 0.7), dice.range(-0.2, 0.5)];
            let share = match domain {
                Domain::Crop => dice.range(0.92, 1.0),
                _ => dice.range(0.84, 0.96),
            };
            Framing { aspect, share, place }
        }
    };
    let mut canvas = blank(long_side, framing.aspect);
    if domain == Domain::Crop {
        // Seen from so high, what the street is drawn on may end inside the picture.
        let (width, height) = (canvas.width(), canvas.height());
        canvas.rect(0.0, 0.0, width, height, Ink::new(116, 118, 108));
    }
    let area = match domain {
        Domain::Photo => Area::middle_square(&canvas),
        _ => Area::whole(&canvas),
    };
    camera.fit(bounds, &area, &framing);
    let light = unit([dice.range(-1.0, 1.0), dice.range(-1.0, 1.0), dice.range(0.8, 1.6)]);
    let mut stage = Stage { canvas: &mut canvas, camera: &camera, light };
    backdrop::street(&mut stage, dice);
    let paint = paint::seen(vehicle.colour, domain, dice);
    vehicle::draw(&mut stage, &model, vehicle.kind, vehicle.make, paint, dice);
    canvas
}

/// Sides and three-quarter views mostly, a detector's crops front and back mostly; a web photo from
/// eye level, a surveillance camera from above.
fn viewpoint(model: &Model, domain: Domain, dice: &mut Dice) -> Camera {
    // Side, front and rear three-quarter, front, rear: out of twenty.
    let turns = match domain {
        Domain::Crop => [2, 11, 16, 18],
        _ => [6, 13, 17, 19],
    };
    let drawn = dice.below(20);
    let turn = match turns.iter().filter(|&&end| end <= drawn).count() {
        0 => dice.range(72.0, 108.0),
        1 => dice.range(28.0, 65.0),
        2 => dice.range(118.0, 150.0),
        3 => dice.range(0.0, 18.0),
        _ => dice.range(164.0, 180.0),
    };
    let azimuth = if dice.chance(0.5) { turn } else { -turn };
    let (elevation, near) = match domain {
        Domain::Web | Domain::Photo => (dice.range(3.0, 14.0), dice.range(1.5, 2.8)),
        Domain::Surveillance => (dice.range(16.0, 36.0), dice.range(2.2, 4.0)),
        Domain::Crop => (dice.range(20.0, 48.0), dice.range(2.5, 5.0)),
    };
    Camera::orbit(azimuth, elevation, 2.0 + near * model.length, model.height * 0.5)
}

fn draw_pedestrian(person: &Pedestrian, domain: Domain, long_side: u32, dice: &mut Dice) -> Canvas {
    let photo = (domain == Domain::Photo).then(|| Framing::photo(dice));
    let aspect = match (&photo, domain) {
        (Some(framing), _) => framing.aspect,
        (None, Domain::Crop) => dice.range(0.28, 0.42),
        (None, _) => dice.range(0.4, 0.52),
    };
    let mut canvas = blank(long_side, aspect);
    let (width, height) = (canvas.width(), canvas.height());
    let stand = photo.map(|framing| framing.stand(&Area::middle_square(&canvas)));
    let horizon = match (stand, domain) {
        (Some(([_, ground], tall)), _) => ground - tall * dice.range(0.17, 0.53),
        (None, Domain::Web | Domain::Photo) => height * dice.range(0.5, 0.75),
        (None, Domain::Surveillance | Domain::Crop) => height * dice.range(0.1, 0.45),
    };
    backdrop::pavement(&mut canvas, horizon, dice);
    if dice.chance(0.15) {
        let base = horizon + 0.04 * height;
        backdrop::tree(&mut canvas, dice.range(0.0, 1.0) * width, base, height * 0.4, dice);
    }
    let look = Look::new(person, domain, dice);
    let size = match person.age {
        Age::Under18 => dice.range(0.78, 0.88),
        _ => dice.range(0.88, TALLEST),
    };
    let taper = match domain {
        Domain::Web | Domain::Photo => dice.range(-0.03, 0.06),
        Domain::Surveillance | Domain::Crop => dice.range(0.1, 0.32),
    };
    let mirrored = match person.facing {
        Facing::Side => dice.chance(0.5),
        _ => dice.chance(0.3),
    };
    let lean = if person.age == Age::Over60 && person.facing == Facing::Side { 0.14 } else { 0.0 };
    let (foot, scale) = match stand {
        Some((foot, tall)) => (foot, tall * size / TALLEST),
        None => {
            let foot = [width * dice.range(0.46, 0.54), height * dice.range(0.965, 0.985)];
            (foot, size * height)
        }
    };
    let mut figure = Figure {
        canvas: &mut canvas,
        foot,
        scale,
        mirror: if mirrored { -1.0 } else { 1.0 },
        taper,
        lean,
    };
    person::draw(&mut figure, person, &look);
    let light = dice.range(0.0, 0.12);
    canvas.rect(0.0, 0.0, width, height, Ink::new(255, 240, 215).alpha(light * 0.5));
    canvas
}
