//! Head, hair, face, glasses and hat of a pedestrian, from the front, the side and the back.

use super::canvas::Ink;
use super::figure::Figure;
use super::person::Look;
use crate::attributes::{Facing, Gender, Pedestrian};

/// Long hair behind neck and shoulders, to be drawn before the torso.
pub(crate) fn long_hair(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    if person.gender == Gender::Male || person.facing == Facing::Back {
        return;
    }
    let [ry, rx] = look.body.head;
    let (back, wide) = match person.facing {
        Facing::Side => (-rx * 0.5, rx * 0.85),
        _ => (0.0, rx * 1.25),
    };
    figure.oval([back, 1.0 - ry * 1.35], wide, ry * 1.5, look.hair);
}

pub(crate) fn draw(figure: &mut Figure, person: &Pedestrian, look: &Look) {
    let [ry, rx] = look.body.head;
    let y = 1.0 - ry;
    let female = person.gender == Gender::Female;
    let hair = look.hair;
    match person.facing {
        Facing::Front => {
            figure.oval([0.0, y], rx, ry, look.skin);
            if female {
                for x in [-1.0, 1.0] {
                    let (top, end) = ([x * rx * 0.95, y + ry * 0.3], [x * rx * 1.05, y - ry * 1.4]);
                    figure.limb(top, end, rx * 0.22, rx * 0.24, hair);
                }
            }
            fringe(figure, rx, ry, y, hair);
            for x in [-0.38, 0.38] {
                figure.oval([x * rx, y - ry * 0.02], rx * 0.12, ry * 0.1, Ink::grey(25));
            }
            let lips = if female { Ink::new(190, 50, 60) } else { look.skin.lit(0.6) };
            figure.oval([0.0, y - ry * 0.52], rx * 0.28, ry * 0.07, lips);
            figure.oval([0.0, y - ry * 0.24], rx * 0.1, ry * 0.12, look.skin.lit(0.82));
        }
        Facing::Side => {
            figure.oval([0.0, y], rx * 0.95, ry, look.skin);
            figure.fill(
                &[[rx * 0.75, y + ry * 0.1], [rx * 1.2, y - ry * 0.2], [rx * 0.75, y - ry * 0.32]],
                look.skin.lit(0.94),
            );
            figure.oval([-rx * 0.3, y + ry * 0.3], rx * 0.86, ry * 0.74, hair);
            if female {
                figure.oval([-rx * 0.62, y - ry * 0.5], rx * 0.5, ry * 1.15, hair);
            }
            figure.oval([rx * 0.52, y], rx * 0.12, ry * 0.11, Ink::grey(25));
            figure.oval([-rx * 0.1, y - ry * 0.12], rx * 0.14, ry * 0.18, look.skin.lit(0.8));
        }
        Facing::Back => {
            figure.oval([0.0, y], rx, ry, look.skin.lit(0.9));
            figure.oval([0.0, y + ry * 0.16], rx * 1.03, ry * 0.86, hair);
            if female {
                figure.oval([0.0, y - ry * 0.7], rx * 1.1, ry * 1.25, hair);
                figure.rect(-rx * 0.04, rx * 0.04, y - ry * 1.6, y, hair.lit(0.7));
            }
        }
    }
    if person.glasses {
        glasses(figure, person.facing, rx, ry, y);
    }
    if person.hat {
        hat(figure, person.facing, look, rx, ry);
    }
}

fn fringe(figure: &mut Figure, rx: f32, ry: f32, y: f32, hair: Ink) {
    figure.fill(
        &[
            [-rx * 1.02, y + ry * 0.1],
            [-rx * 0.9, y + ry * 0.75],
            [-rx * 0.45, y + ry * 1.04],
            [rx * 0.45, y + ry * 1.04],
            [rx * 0.9, y + ry * 0.75],
            [rx * 1.02, y + ry * 0.1],
            [rx * 0.78, y + ry * 0.45],
            [-rx * 0.78, y + ry * 0.45],
        ],
        hair,
    );
}

fn glasses(figure: &mut Figure, facing: Facing, rx: f32, ry: f32, y: f32) {
    let (rim, lens) = (Ink::grey(15), Ink::new(60, 70, 95));
    match facing {
        Facing::Front => {
            figure.rect(-rx * 1.0, rx * 1.0, y, y + ry * 0.1, rim);
            for x in [-0.45, 0.45] {
                figure.oval([x * rx, y], rx * 0.42, ry * 0.3, rim);
                figure.oval([x * rx, y], rx * 0.27, ry * 0.18, lens);
            }
        }
        Facing::Side => {
            figure.rect(-rx * 0.3, rx * 0.7, y, y + ry * 0.12, rim);
            figure.oval([rx * 0.58, y - ry * 0.02], rx * 0.34, ry * 0.29, rim);
            figure.oval([rx * 0.6, y - ry * 0.02], rx * 0.2, ry * 0.16, lens);
        }
        Facing::Back => {}
    }
}

/// A cap with its peak forward; from behind, a round crown with a rim.
fn hat(figure: &mut Figure, facing: Facing, look: &Look, rx: f32, ry: f32) {
    let base = 1.0 - ry * 0.55;
    let dark = look.hat.lit(0.62);
    figure.fill(
        &[
            [-rx * 1.12, base],
            [-rx * 1.02, base + ry * 0.55],
            [-rx * 0.55, base + ry * 0.88],
            [rx * 0.55, base + ry * 0.88],
            [rx * 1.02, base + ry * 0.55],
            [rx * 1.12, base],
        ],
        look.hat,
    );
    match facing {
        Facing::Front => figure.oval([0.0, base], rx * 1.35, ry * 0.17, dark),
        Facing::Side => figure.fill(
            &[
                [-rx * 1.12, base],
                [rx * 2.0, base - ry * 0.1],
                [rx * 1.9, base + ry * 0.12],
                [-rx * 1.1, base + ry * 0.2],
            ],
            dark,
        ),
        Facing::Back => {
            figure.rect(-rx * 1.15, rx * 1.15, base - ry * 0.08, base + ry * 0.14, dark)
        }
    }
}
