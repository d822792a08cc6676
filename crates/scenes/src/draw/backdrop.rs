//! What lies behind and under the subject: sky, buildings, trees, road and pavement.

use super::canvas::{Canvas, Ink};
use super::solid::Stage;
use crate::dice::Dice;

/// Sky, skyline and road for a vehicle, in the camera's perspective.
pub(crate) fn street(stage: &mut Stage, dice: &mut Dice) {
    let horizon = stage.camera.horizon();
    let (width, height) = (stage.canvas.width(), stage.canvas.height());
    if horizon > -height * 0.5 {
        sky(stage.canvas, horizon, dice);
        skyline(stage.canvas, horizon, dice);
    }
    let verge =
        dice.one(&[Ink::new(120, 125, 110), Ink::new(96, 122, 78), Ink::new(150, 146, 138)]);
    stage.canvas.rect(0.0, horizon, width, height * 4.0, verge);
    let asphalt = Ink::grey(0).mix(Ink::new(255, 253, 250), dice.range(0.28, 0.5));
    let left = dice.range(2.4, 6.5);
    let right = -dice.range(2.4, 6.5);
    strip(stage, [left + 1.6, right - 1.6], asphalt.lit(1.3));
    strip(stage, [left, right], asphalt);
    let marking = if dice.chance(0.7) { Ink::grey(225) } else { Ink::new(225, 185, 70) };
    let marking = marking.alpha(dice.range(0.5, 0.9));
    for y in [1.75_f32, -1.75] {
        if y < left && y > right {
            for i in -6..6 {
                let x = i as f32 * 5.0;
                ground(stage, [x, x + 2.4], [y + 0.08, y - 0.08], marking);
            }
        }
    }
    strip(stage, [left - 0.15, left - 0.3], marking);
    strip(stage, [right + 0.3, right + 0.15], marking);
}

fn strip(stage: &mut Stage, y: [f32; 2], ink: Ink) {
    ground(stage, [-60.0, 60.0], y, ink);
}

fn ground(stage: &mut Stage, x: [f32; 2], y: [f32; 2], ink: Ink) {
    let corners = [[x[0], y[0], 0.0], [x[1], y[0], 0.0], [x[1], y[1], 0.0], [x[0], y[1], 0.0]];
    stage.fill(&corners, ink);
}

fn sky(canvas: &mut Canvas, horizon: f32, dice: &mut Dice) {
    let top =
        dice.one(&[Ink::new(120, 165, 215), Ink::new(165, 190, 215), Ink::new(190, 195, 200)]);
    canvas.gradient(0.0, horizon.max(1.0), top, Ink::new(225, 230, 232));
}

/// Buildings and trees that stand on the row `base`.
fn skyline(canvas: &mut Canvas, base: f32, dice: &mut Dice) {
    let (width, height) = (canvas.width(), canvas.height());
    let mut x = -dice.range(0.0, 0.2) * width;
    while x < width {
        let w = dice.range(0.12, 0.35) * width;
        match dice.below(4) {
            0 => tree(canvas, x + w / 2.0, base, height * dice.range(0.25, 0.5), dice),
            1 => {}
            _ => building(canvas, [x, base], w, height * dice.range(0.2, 0.7), dice),
        }
        x += w * dice.range(0.7, 1.1);
    }
    let hedge = Ink::new(70, 98, 62).lit(dice.range(0.7, 1.2));
    if dice.chance(0.5) {
        let h = height * dice.range(0.02, 0.08);
        canvas.rect(0.0, base - h, width, h + 1.0, hedge);
    }
}

fn building(canvas: &mut Canvas, [x, base]: [f32; 2], w: f32, h: f32, dice: &mut Dice) {
    let wall = Ink::hsv(dice.range(15.0, 50.0), dice.range(0.02, 0.28), dice.range(0.5, 0.85));
    canvas.rect(x, base - h, w, h, wall);
    let pane = if dice.chance(0.3) { wall.lit(1.2) } else { wall.lit(0.62) };
    let (columns, rows) = (2 + dice.below(3), 2 + dice.below(3));
    let (dx, dy) = (w / columns as f32, h / rows as f32);
    for row in 0..rows {
        for column in 0..columns {
            let (px, py) = (x + dx * (column as f32 + 0.25), base - h + dy * (row as f32 + 0.25));
            canvas.rect(px, py, dx * 0.5, dy * 0.5, pane);
        }
    }
}

pub(crate) fn tree(canvas: &mut Canvas, x: f32, base: f32, size: f32, dice: &mut Dice) {
    canvas.rect(x - size * 0.05, base - size * 0.5, size * 0.1, size * 0.5, Ink::new(90, 72, 55));
    let leaf = Ink::hsv(dice.range(85.0, 125.0), dice.range(0.3, 0.5), dice.range(0.3, 0.5));
    for _ in 0..4 {
        let (dx, dy) = (dice.range(-0.22, 0.22) * size, dice.range(-0.9, -0.5) * size);
        let r = size * dice.range(0.16, 0.26);
        canvas.ellipse([x + dx, base + dy], r, r, leaf.lit(dice.range(0.85, 1.15)));
    }
}

/// A wall, shop or park behind a pedestrian and the pavement below; `horizon` is where they meet,
/// in pixels.
pub(crate) fn pavement(canvas: &mut Canvas, horizon: f32, dice: &mut Dice) {
    let (width, height) = (canvas.width(), canvas.height());
    match dice.below(3) {
        0 => {
            sky(canvas, horizon, dice);
            skyline(canvas, horizon, dice);
        }
        1 => {
            let wall =
                Ink::hsv(dice.range(0.0, 360.0), dice.range(0.02, 0.2), dice.range(0.5, 0.9));
            canvas.rect(0.0, 0.0, width, horizon, wall);
            let step = height * dice.range(0.08, 0.16);
            let mut y = step * 0.5;
            while y < horizon {
                canvas.rect(0.0, y, width, height * 0.006, wall.lit(0.82));
                y += step;
            }
        }
        _ => {
            let wall =
                Ink::hsv(dice.range(15.0, 60.0), dice.range(0.05, 0.25), dice.range(0.45, 0.8));
            canvas.rect(0.0, 0.0, width, horizon, wall);
            let (x, w) = (dice.range(-0.2, 0.5) * width, dice.range(0.3, 0.8) * width);
            canvas.rect(x, height * 0.1, w, horizon - height * 0.18, wall.lit(0.5));
            canvas.rect(
                x,
                height * 0.1,
                w * 0.48,
                horizon * 0.3,
                Ink::new(150, 170, 185).alpha(0.4),
            );
        }
    }
    let floor = Ink::grey(0).mix(Ink::new(255, 250, 242), dice.range(0.42, 0.72));
    canvas.gradient(horizon, height, floor.lit(0.88), floor);
    for i in 0..5 {
        let t = i as f32 / 4.0;
        let x = width * (t * 1.8 - 0.4);
        let foot = width * (t * 3.0 - 1.0);
        canvas.line([x, horizon], [foot, height], height * 0.006, floor.lit(0.8));
    }
    let kerb = horizon + (height - horizon) * dice.range(0.2, 0.9);
    canvas.rect(0.0, kerb, width, height * 0.008, floor.lit(0.78));
}
