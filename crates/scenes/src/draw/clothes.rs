//! Torso, coat, skirt, and the patterns on upper and lower clothes.

use super::canvas::{Ink, Point};
use super::figure::Figure;
use super::person::Look;
use crate::attributes::{Carrying, Facing, Lower, LowerPattern, Pedestrian, Upper};

/// The sleeves' colour: a spliced top has sleeves of the second colour.
pub(crate) fn sleeve_ink(person: &Pedestrian, look: &Look) -> Ink {
    if person.upper == Upper::Splice { splice_ink(look) } else { look.upper }
}

fn splice_ink(look: &Look) -> Ink {
    look.accent.mix(look.upper, 0.12)
}

/// Half the torso's width at part `t` of its height, hip 0 to shoulder 1.
fn half(person: &Pedestrian, look: &Look, t: f32) -> f32 {
    let b = look.body;
    let w = if t < 0.45 {
        b.hip_width + (b.waist_width - b.hip_width) * (t / 0.45)
    } else {
        b.waist_width + (b.shoulder_width - b.waist_width) * ((t - 0.45) / 0.55)
    };
    if person.facing == Facing::Side { w * 0.74 } else { w }
}

pub(crate) fn torso(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    let b = look.body;
    let (low, high) = (b.hip - 0.03, b.shoulder);
    let y = |t: f32| low + (high - low) * t;
    let w = |t: f32| half(person, look, t);
    figure.rect(-0.035, 0.035, high - 0.02, high + 0.05, look.skin.lit(0.88));
    let outline = [
        [-w(0.0), y(0.0)],
        [w(0.0), y(0.0)],
        [w(0.45), y(0.45)],
        [w(0.95), y(0.92)],
        [w(1.0) * 0.8, y(1.0)],
        [0.04, y(1.04)],
        [-0.04, y(1.04)],
        [-w(1.0) * 0.8, y(1.0)],
        [-w(0.95), y(0.92)],
        [-w(0.45), y(0.45)],
    ];
    figure.fill(&outline, look.upper);
    let mut band = |a: f32, c: f32, ink: Ink| {
        figure.fill(&[[-w(a), y(a)], [w(a), y(a)], [w(c), y(c)], [-w(c), y(c)]], ink);
    };
    match person.upper {
        Upper::Plain => {}
        Upper::Stripe => {
            for i in 0..4 {
                let t = 0.06 + 0.23 * i as f32;
                band(t, t + 0.11, look.accent);
            }
        }
        Upper::Plaid => {
            for i in 0..4 {
                let t = 0.08 + 0.24 * i as f32;
                band(t, t + 0.07, look.accent.alpha(0.75));
            }
            for i in [-0.6_f32, 0.0, 0.6] {
                let line = [
                    [(i - 0.12) * w(0.0), y(0.0)],
                    [(i + 0.12) * w(0.0), y(0.0)],
                    [(i + 0.12) * w(0.9), y(0.93)],
                    [(i - 0.12) * w(0.9), y(0.93)],
                ];
                figure.fill(&line, look.accent.alpha(0.6));
            }
        }
        Upper::Splice => {
            figure.fill(
                &[
                    [-w(0.6), y(0.6)],
                    [w(0.6), y(0.6)],
                    [w(0.95), y(0.92)],
                    [w(1.0) * 0.8, y(1.0)],
                    [-w(1.0) * 0.8, y(1.0)],
                    [-w(0.95), y(0.92)],
                ],
                splice_ink(look),
            );
        }
        Upper::Logo => {
            let x = if person.facing == Facing::Side { w(0.6) * 0.35 } else { 0.0 };
            let r = b.waist_width * 0.5;
            figure.oval([x, y(0.66)], r, r * 1.05, look.accent);
            figure.oval([x, y(0.66)], r * 0.5, r * 0.55, Ink::new(225, 60, 60));
        }
    }
    if person.facing == Facing::Front && person.carrying == Carrying::Backpack {
        for x in [-1.0, 1.0] {
            let at = x * b.shoulder_width * 0.58;
            figure.limb([at, y(1.0)], [at * 1.05, y(0.42)], 0.02, 0.02, look.bag.lit(0.8));
        }
    }
    if person.facing == Facing::Side && person.carrying == Carrying::Backpack {
        figure.limb([-0.01, y(1.0)], [-0.03, y(0.5)], 0.02, 0.02, look.bag.lit(0.8));
    }
}

/// A coat to below the knees over everything.
pub(crate) fn long_coat(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    let b = look.body;
    let slim = if person.facing == Facing::Side { 0.8 } else { 1.0 };
    let (top, hem) = (b.shoulder, b.knee * 0.62);
    let (shoulder, waist, wide) =
        (b.shoulder_width * slim, (b.waist_width + 0.022) * slim, (b.hip_width + 0.065) * slim);
    figure.fill(
        &[
            [-shoulder, top - 0.02],
            [-0.04, top + 0.015],
            [0.04, top + 0.015],
            [shoulder, top - 0.02],
            [waist, b.hip + 0.1],
            [wide, hem],
            [-wide, hem],
            [-waist, b.hip + 0.1],
        ],
        look.upper,
    );
    let dark = look.upper.lit(0.55);
    let belt = b.hip + 0.1;
    figure.rect(-waist, waist, belt - 0.014, belt + 0.014, dark);
    match person.facing {
        Facing::Front => {
            figure.rect(-0.006, 0.006, hem, top - 0.06, dark);
            for i in 0..4 {
                let y = top - 0.13 - 0.09 * i as f32;
                figure.oval([0.035, y], 0.011, 0.011, dark);
            }
            figure.fill(&[[-0.055, top + 0.01], [0.0, top - 0.09], [0.055, top + 0.01]], dark);
        }
        Facing::Side => figure.rect(wide * 0.55, wide * 0.62, hem, belt, dark),
        Facing::Back => figure.rect(-0.008, 0.008, hem, hem + 0.16, dark),
    }
}

pub(crate) fn skirt(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    let b = look.body;
    let slim = if person.facing == Facing::Side { 0.8 } else { 1.0 };
    let (waist, wide) = (b.hip_width * 0.85 * slim, (b.hip_width + 0.075) * slim);
    let (top, hem) = (b.hip + 0.05, b.knee + 0.02);
    figure.fill(&[[-waist, top], [waist, top], [wide, hem], [-wide, hem]], look.lower);
    for x in [-0.4, 0.1, 0.55] {
        let fold = [[x * waist, top - 0.06], [x * wide + 0.006, hem], [x * wide - 0.006, hem]];
        figure.fill(&fold, look.lower.lit(0.72));
    }
}

/// Stripes along a leg, or dots on it, where there is cloth.
pub(crate) fn leg_pattern(
    figure: &mut Figure,
    person: &Pedestrian,
    look: &Look,
    hip: Point,
    knee: Point,
    foot: Point,
) {
    let ink = if look.lower.luma() > 120.0 { Ink::grey(25) } else { Ink::grey(240) };
    let long = person.lower == Lower::Trousers;
    match person.lower_pattern {
        LowerPattern::Plain => {}
        LowerPattern::Stripe => {
            figure.limb(hip, knee, 0.014, 0.014, ink);
            if long {
                figure.limb(knee, foot, 0.014, 0.014, ink);
            }
        }
        LowerPattern::Pattern => {
            let dots = if long { 7 } else { 3 };
            for i in 0..dots {
                let t = i as f32 / 3.5;
                let (a, b, t) = if t < 1.0 { (hip, knee, t) } else { (knee, foot, t - 1.0) };
                let side = if i % 2 == 0 { 0.018 } else { -0.018 };
                let at = [a[0] + (b[0] - a[0]) * t + side, a[1] + (b[1] - a[1]) * t - 0.01];
                figure.oval(at, 0.014, 0.014, ink);
            }
        }
    }
}
