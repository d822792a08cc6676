//! Draws a pedestrian, from the ground up and from back to front.

use super::canvas::{Ink, Point};
use super::clothes;
use super::figure::{Figure, Proportions};
use super::head;
use super::paint;
use crate::attributes::{Age, Carrying, Facing, Lower, Pedestrian, Sleeves};
use crate::dice::Dice;
use crate::scene::Domain;

/// The colours and the pose of one drawing.
pub(crate) struct Look {
    pub skin: Ink,
    pub hair: Ink,
    pub upper: Ink,
    /// For patterns on the upper: apart from `upper` in brightness.
    pub accent: Ink,
    pub lower: Ink,
    pub shoes: Ink,
    pub bag: Ink,
    pub hat: Ink,
    pub body: Proportions,
    /// Half the distance between the feet.
    pub stride: f32,
}

impl Look {
    pub fn new(person: &Pedestrian, domain: Domain, dice: &mut Dice) -> Look {
        let skin = dice.one(&[
            Ink::new(240, 202, 172),
            Ink::new(224, 178, 142),
            Ink::new(190, 138, 100),
            Ink::new(132, 90, 64),
        ]);
        let hair = if person.age == Age::Over60 {
            Ink::grey(0).mix(Ink::grey(255), dice.range(0.78, 0.92))
        } else {
            dice.one(&[Ink::new(28, 22, 20), Ink::new(60, 40, 26), Ink::new(110, 72, 38)])
        };
        let upper = paint::seen(person.upper_colour, domain, dice);
        let accent =
            if upper.luma() > 120.0 { Ink::new(30, 30, 50) } else { Ink::new(245, 242, 230) };
        let stride = match person.facing {
            Facing::Side => dice.range(0.06, 0.13),
            _ => dice.range(0.045, 0.07),
        };
        Look {
            skin,
            hair,
            upper,
            accent,
            lower: paint::seen(person.lower_colour, domain, dice),
            shoes: dice.one(&[Ink::grey(30), Ink::grey(225), Ink::new(110, 60, 40)]),
            bag: dice.one(&[
                Ink::new(150, 90, 45),
                Ink::new(40, 42, 60),
                Ink::new(190, 40, 50),
                Ink::new(50, 120, 130),
                Ink::new(215, 190, 140),
            ]),
            hat: dice.one(&[
                Ink::new(40, 40, 46),
                Ink::new(200, 50, 45),
                Ink::new(235, 225, 195),
                Ink::new(50, 80, 150),
            ]),
            body: Proportions::new(person.age, person.gender),
            stride,
        }
    }
}

pub(crate) fn draw(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    let side = person.facing == Facing::Side;
    figure.oval([0.0, 0.005], 0.2, 0.022, Ink::grey(10).alpha(0.35));
    if person.carrying == Carrying::Backpack && person.facing != Facing::Back {
        backpack(figure, person.facing, look);
    }
    if side {
        arm(figure, person, look, -0.12, 1.0);
    }
    legs(figure, person, look);
    head::long_hair(figure, person, look);
    clothes::torso(figure, person, look);
    if person.long_coat {
        clothes::long_coat(figure, person, look);
    }
    if person.carrying == Carrying::Backpack && person.facing == Facing::Back {
        backpack(figure, Facing::Back, look);
    }
    if person.carrying == Carrying::ShoulderBag {
        shoulder_bag(figure, side, look);
    }
    head::draw(figure, person, look);
    if side {
        let reach = if person.carrying == Carrying::ObjectInFront { 1.0 } else { 0.1 };
        arm(figure, person, look, reach, 0.0);
    } else {
        arm(figure, person, look, 0.0, -1.0);
        arm(figure, person, look, 0.0, 1.0);
    }
    if person.carrying == Carrying::ObjectInFront {
        parcel(figure, side, look);
    }
    if person.age == Age::Over60 {
        let x = if side { 0.2 } else { -look.body.shoulder_width - 0.1 };
        figure.limb([x, 0.44], [x + 0.01, 0.01], 0.01, 0.01, Ink::new(88, 58, 34));
        figure.limb([x, 0.44], [x - 0.04, 0.45], 0.012, 0.012, Ink::new(88, 58, 34));
    }
}

fn legs(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    let b = look.body;
    let side = person.facing == Facing::Side;
    for (which, shade) in [(-1.0, 0.86), (1.0, 1.0)] {
        let hip = [which * if side { 0.012 } else { b.hip_width * 0.5 }, b.hip];
        let foot = [which * look.stride, 0.035];
        let bend = if side { 0.03 } else { 0.0 };
        let knee = [(hip[0] + foot[0]) / 2.0 + bend, b.knee];
        let toe = if side { [foot[0] + 0.06, 0.018] } else { [foot[0] + which * 0.012, 0.018] };
        let bare = look.skin.lit(shade);
        let cloth = look.lower.lit(shade);
        let (thigh, shin) = match person.lower {
            Lower::Trousers => (cloth, cloth),
            Lower::Shorts => (cloth, bare),
            Lower::Skirt => (bare, bare),
        };
        let thin = if person.lower == Lower::Trousers { 1.0 } else { 0.72 };
        figure.limb(knee, foot, b.leg * 0.8 * thin, b.leg * 0.62 * thin, shin);
        figure.limb(hip, knee, b.leg * 1.08, b.leg * 0.84, thigh);
        if person.lower == Lower::Shorts {
            let hem = [knee[0], knee[1] + 0.01];
            figure.limb(hip, hem, b.leg * 1.15, b.leg * 1.08, thigh);
        }
        clothes::leg_pattern(figure, person, look, hip, knee, foot);
        if person.boots {
            let leather = Ink::new(92, 48, 24).lit(shade);
            let top = [knee[0] * 0.6 + foot[0] * 0.4, b.knee * 0.78];
            figure.limb(top, foot, b.leg * 0.95, b.leg * 0.8, leather);
            figure.limb(foot, toe, 0.04, 0.032, leather.lit(0.7));
        } else {
            figure.limb(foot, toe, 0.032, 0.026, look.shoes.lit(shade));
        }
    }
    if person.lower == Lower::Skirt {
        clothes::skirt(figure, person, look);
    }
}

/// An arm on side `which` (-1 left, 1 right; in profile 0 near, 1 far), swung by `reach`.
fn arm(figure: &mut Figure, person: &Pedestrian, look: &Look, reach: f32, which: f32) {
    let b = look.body;
    let side = person.facing == Facing::Side;
    let shade = if side && which > 0.5 { 0.78 } else { 0.9 };
    let holds = person.carrying == Carrying::ObjectInFront;
    let shoulder = if side {
        [0.0, b.shoulder - 0.045]
    } else {
        [which * (b.shoulder_width - b.arm * 0.7), b.shoulder - b.arm]
    };
    let (elbow, hand): (Point, Point) = if side && holds {
        ([0.035, 0.63], [0.17, 0.62])
    } else if side {
        ([shoulder[0] - 0.03 + reach * 0.3, 0.62], [shoulder[0] + reach * 0.7 + 0.03, 0.48])
    } else if holds {
        ([which * (b.shoulder_width + 0.04), 0.63], [which * 0.07, 0.6])
    } else {
        ([which * (b.shoulder_width + 0.028), 0.62], [which * (b.shoulder_width + 0.035), 0.47])
    };
    let cloth = clothes::sleeve_ink(person, look).lit(shade);
    let bare = look.skin.lit(shade + 0.08);
    let short = person.sleeves == Sleeves::Short;
    figure.limb(elbow, hand, b.arm * 0.85, b.arm * 0.68, if short { bare } else { cloth });
    if short {
        let middle = [shoulder[0] * 0.35 + elbow[0] * 0.65, shoulder[1] * 0.35 + elbow[1] * 0.65];
        figure.limb(shoulder, elbow, b.arm * 0.9, b.arm * 0.85, bare);
        figure.limb(shoulder, middle, b.arm * 1.12, b.arm * 1.12, cloth);
    } else {
        figure.limb(shoulder, elbow, b.arm * 1.05, b.arm * 0.92, cloth);
    }
    figure.oval(hand, b.arm * 0.75, b.arm * 0.8, look.skin);
    let carries = if side { which < 0.5 } else { which > 0.0 };
    if person.carrying == Carrying::Handbag && carries {
        handbag(figure, hand, look);
    }
}

fn handbag(figure: &mut Figure, [x, y]: Point, look: &Look) {
    let top = y - 0.07;
    for dx in [-0.04, 0.04] {
        figure.limb([x, y], [x + dx, top], 0.009, 0.009, look.bag.lit(0.6));
    }
    let shape =
        [[x - 0.065, top], [x + 0.065, top], [x + 0.085, top - 0.13], [x - 0.085, top - 0.13]];
    figure.fill(&shape, look.bag);
    figure.rect(x - 0.07, x + 0.07, top - 0.035, top - 0.02, look.bag.lit(0.65));
}

/// A strap across the chest and a bag at the hip.
fn shoulder_bag(figure: &mut Figure, side: bool, look: &Look) {
    let b = look.body;
    let strap = look.bag.lit(0.7);
    if side {
        figure.limb([0.0, b.shoulder], [-0.02, b.hip + 0.03], 0.016, 0.016, strap);
        figure.rect(-0.12, 0.07, b.hip - 0.09, b.hip + 0.06, look.bag);
        figure.rect(-0.12, 0.07, b.hip - 0.01, b.hip + 0.06, look.bag.lit(0.78));
        return;
    }
    let w = b.shoulder_width;
    figure.limb([w * 0.6, b.shoulder], [-b.hip_width, b.hip + 0.03], 0.016, 0.016, strap);
    let x = -b.hip_width - 0.03;
    figure.rect(x - 0.075, x + 0.075, b.hip - 0.1, b.hip + 0.05, look.bag);
    figure.rect(x - 0.075, x + 0.075, b.hip - 0.02, b.hip + 0.05, look.bag.lit(0.78));
}

fn backpack(figure: &mut Figure, facing: Facing, look: &Look) {
    let b = look.body;
    let (top, bottom) = (b.shoulder + 0.005, b.hip + 0.05);
    match facing {
        Facing::Side => {
            let shape = [
                [-0.06, top],
                [-0.17, top - 0.03],
                [-0.21, bottom + 0.05],
                [-0.18, bottom],
                [-0.04, bottom],
            ];
            figure.fill(&shape, look.bag);
            figure.rect(-0.2, -0.12, bottom + 0.02, bottom + 0.11, look.bag.lit(0.7));
        }
        Facing::Back => {
            let w = b.shoulder_width * 0.82;
            figure.fill(
                &[
                    [-w * 0.8, top],
                    [w * 0.8, top],
                    [w, top - 0.06],
                    [w, bottom],
                    [-w, bottom],
                    [-w, top - 0.06],
                ],
                look.bag,
            );
            figure.rect(-w * 0.7, w * 0.7, bottom + 0.02, bottom + 0.11, look.bag.lit(0.7));
            figure.rect(-w * 0.15, w * 0.15, top, top + 0.02, look.bag.lit(0.5));
        }
        Facing::Front => {
            // Its edges beside the shoulders; the straps are drawn with the torso.
            let w = b.shoulder_width + 0.035;
            figure.fill(
                &[
                    [-w * 0.8, top + 0.03],
                    [w * 0.8, top + 0.03],
                    [w, top - 0.04],
                    [w, b.hip + 0.14],
                    [-w, b.hip + 0.14],
                    [-w, top - 0.04],
                ],
                look.bag,
            );
        }
    }
}

fn parcel(figure: &mut Figure, side: bool, look: &Look) {
    let card = Ink::new(196, 152, 98);
    let (left, right) = if side { (0.11, 0.27) } else { (-0.115, 0.115) };
    figure.rect(left, right, 0.54, 0.7, card);
    figure.rect(left, right, 0.61, 0.63, card.lit(0.72));
    let middle = (left + right) / 2.0;
    figure.rect(middle - 0.012, middle + 0.012, 0.54, 0.7, card.lit(1.18));
    let hands: &[f32] = if side { &[0.14] } else { &[-0.11, 0.11] };
    for &x in hands {
        figure.oval([x, 0.57], look.body.arm * 0.75, look.body.arm * 0.75, look.skin);
    }
}
