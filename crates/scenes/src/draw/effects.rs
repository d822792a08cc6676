//! What the camera does to a picture: light, tint, blur, noise, coarse colour, a timestamp. Whole
//! numbers and exact arithmetic only, on 8-bit pixels.

use super::canvas::{Canvas, Ink};
use crate::dice::Dice;
use crate::scene::Domain;

/// Applies the domain's camera to a finished drawing.
pub(crate) fn apply(canvas: &mut Canvas, domain: Domain, dice: &mut Dice, grain: &mut Dice) {
    // Strengths are given for a long side of 160 pixels and grow with the picture.
    let unit = (canvas.width().max(canvas.height()) / 160.0).max(0.5);
    match domain {
        Domain::Web | Domain::Photo => {
            let exposure = dice.range(0.94, 1.08);
            let warm = dice.range(-0.025, 0.025);
            tone(canvas, [exposure * (1.0 + warm), exposure, exposure * (1.0 - warm)], 0.0, 0.0);
            if dice.chance(0.3) {
                blur(canvas, dice.range(0.2, 0.6) * unit, dice.range(0.2, 0.6) * unit);
            }
            noise(canvas, dice.range(0.0, 3.0), unit, grain);
        }
        Domain::Surveillance => wear(canvas, &FRAME, unit, dice, grain),
        Domain::Crop => wear(canvas, &CROP, unit, dice, grain),
    }
}

/// How far a surveillance camera spoils a picture: bounds of uniform draws, and probabilities.
struct Wear {
    exposure: [f32; 2],
    haze: f32,
    desaturation: f32,
    motion: (f32, [f32; 2]),
    defocus: [f32; 2],
    noise: [f32; 2],
    timestamp: f32,
}

const FRAME: Wear = Wear {
    exposure: [0.62, 1.0],
    haze: 0.1,
    desaturation: 0.22,
    motion: (0.3, [0.5, 1.6]),
    defocus: [0.4, 1.3],
    noise: [5.0, 15.0],
    timestamp: 0.6,
};

/// A crop is small already; a timestamp lies outside of it.
const CROP: Wear = Wear {
    exposure: [0.45, 0.95],
    haze: 0.14,
    desaturation: 0.3,
    motion: (0.4, [0.8, 2.4]),
    defocus: [0.8, 2.2],
    noise: [6.0, 20.0],
    timestamp: 0.0,
};

fn wear(canvas: &mut Canvas, how: &Wear, unit: f32, dice: &mut Dice, grain: &mut Dice) {
    let [low, high] = how.exposure;
    let exposure = dice.range(low, high);
    let tint =
        dice.one(&[[1.0, 1.0, 1.0], [0.95, 1.03, 0.97], [0.94, 0.99, 1.06], [1.05, 1.0, 0.92]]);
    let haze = dice.range(0.0, how.haze);
    tone(canvas, tint.map(|t| t * exposure), dice.range(0.0, how.desaturation), haze);
    let (often, [low, high]) = how.motion;
    let motion = if dice.chance(often) { dice.range(low, high) } else { 0.0 };
    let defocus = dice.range(how.defocus[0], how.defocus[1]) * unit;
    blur(canvas, defocus + motion * unit, defocus);
    coarse_colour(canvas, ((unit * 4.0) as usize).max(2));
    noise(canvas, dice.range(how.noise[0], how.noise[1]), unit, grain);
    if dice.chance(how.timestamp) {
        timestamp(canvas, dice);
    }
}

/// Gains of the channels, desaturation and a share of flat grey (haze).
fn tone(canvas: &mut Canvas, gains: [f32; 3], desaturate: f32, haze: f32) {
    for p in canvas.bytes_mut().chunks_exact_mut(4) {
        let rgb = [f32::from(p[0]), f32::from(p[1]), f32::from(p[2])];
        let luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        for i in 0..3 {
            let v = rgb[i] + (luma - rgb[i]) * desaturate;
            let v = v * gains[i];
            p[i] = (v + (150.0 - v) * haze + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
}

/// Box blurs of the given radii in pixels across and down; parts of pixels count.
fn blur(canvas: &mut Canvas, across: f32, down: f32) {
    let (width, height) = (canvas.width() as usize, canvas.height() as usize);
    let bytes = canvas.bytes_mut();
    for y in 0..height {
        blur_line(bytes, y * width * 4, 4, width, across);
    }
    for x in 0..width {
        blur_line(bytes, x * 4, width * 4, height, down);
    }
}

fn blur_line(bytes: &mut [u8], start: usize, step: usize, length: usize, radius: f32) {
    let whole = radius as usize;
    let part = ((radius - whole as f32) * 256.0) as u32;
    let weight = (2 * whole as u32 + 1) * 256 + 2 * part;
    let mut line = vec![0u32; length];
    for channel in 0..3 {
        for (i, v) in line.iter_mut().enumerate() {
            *v = u32::from(bytes[start + i * step + channel]);
        }
        let at = |i: isize| line[i.clamp(0, length as isize - 1) as usize];
        let reach = whole as isize;
        let mut sum: u32 = (-reach..=reach).map(at).sum();
        for i in 0..length as isize {
            let edges = at(i - reach - 1) + at(i + reach + 1);
            let value = (sum * 256 + edges * part + weight / 2) / weight;
            bytes[start + i as usize * step + channel] = value as u8;
            sum = sum + at(i + reach + 1) - at(i - reach);
        }
    }
}

/// Colour in blocks of `size` pixels under full brightness, as strong JPEG compression leaves it.
fn coarse_colour(canvas: &mut Canvas, size: usize) {
    let (width, height) = (canvas.width() as usize, canvas.height() as usize);
    let bytes = canvas.bytes_mut();
    let luma =
        |p: &[u8]| (77 * i32::from(p[0]) + 150 * i32::from(p[1]) + 29 * i32::from(p[2])) >> 8;
    for top in (0..height).step_by(size) {
        for left in (0..width).step_by(size) {
            let (bottom, right) = ((top + size).min(height), (left + size).min(width));
            let pixels =
                || (top..bottom).flat_map(move |y| (left..right).map(move |x| (y * width + x) * 4));
            let mut sum = [0i32; 3];
            for at in pixels() {
                let y = luma(&bytes[at..at + 3]);
                for (i, s) in sum.iter_mut().enumerate() {
                    *s += i32::from(bytes[at + i]) - y;
                }
            }
            let count = ((bottom - top) * (right - left)) as i32;
            for at in pixels() {
                let y = luma(&bytes[at..at + 3]);
                for (i, s) in sum.iter().enumerate() {
                    // Half of the pixel's own colour stays: edges bleed rather than vanish.
                    let own = i32::from(bytes[at + i]) - y;
                    bytes[at + i] = (y + (own + s / count) / 2).clamp(0, 255) as u8;
                }
            }
        }
    }
}

/// Brightness noise with a triangular distribution of half width `strength` levels, in grains of
/// about `unit` pixels.
fn noise(canvas: &mut Canvas, strength: f32, unit: f32, grain: &mut Dice) {
    if strength < 0.5 {
        return;
    }
    let size = (unit + 0.5).max(1.0) as usize;
    let (width, height) = (canvas.width() as usize, canvas.height() as usize);
    let columns = width.div_ceil(size);
    let mut row = vec![0i32; columns];
    let bytes = canvas.bytes_mut();
    for y in 0..height {
        if y % size == 0 {
            for v in &mut row {
                *v = ((grain.unit() + grain.unit() - 1.0) * strength) as i32;
            }
        }
        for x in 0..width {
            let at = (y * width + x) * 4;
            for v in &mut bytes[at..at + 3] {
                *v = (i32::from(*v) + row[x / size]).clamp(0, 255) as u8;
            }
        }
    }
}

fn timestamp(canvas: &mut Canvas, dice: &mut Dice) {
    let text = format!(
        "CAM{:02} 2026-{:02}-{:02} {:02}:{:02}:{:02}",
        1 + dice.below(24),
        1 + dice.below(12),
        1 + dice.below(28),
        dice.below(24),
        dice.below(60),
        dice.below(60)
    );
    let size = (canvas.width() * dice.range(0.035, 0.05)).max(3.0);
    let x = canvas.width() * 0.02;
    let y = if dice.chance(0.5) { canvas.height() * 0.015 } else { canvas.height() * 0.985 - size };
    let shift = size / 10.0;
    canvas.text([x + shift, y + shift], size, &text, Ink::grey(10));
    let ink = if dice.chance(0.7) { Ink::grey(250) } else { Ink::new(250, 230, 70) };
    canvas.text([x, y], size, &text, ink);
}
