//! What the colour names look like: a range of shades for each, apart from its neighbours'.

use super::canvas::Ink;
use crate::attributes::Colour;
use crate::dice::Dice;
use crate::scene::Domain;

/// A shade as the domain's pictures have it; the benchmark's lean towards a neighbouring colour.
pub(crate) fn seen(colour: Colour, domain: Domain, dice: &mut Dice) -> Ink {
    let own = shade(colour, dice);
    if !domain.blends_colours() {
        return own;
    }
    let towards = shade(dice.one(colour.neighbours()), dice);
    own.mix(towards, dice.range(0.0, 0.4))
}

/// A shade of the colour. Greys stay at least 45 levels from black and white; red, orange, pink,
/// purple and brown keep to ranges of hue or value that don't touch.
pub(crate) fn shade(colour: Colour, dice: &mut Dice) -> Ink {
    let (hue, saturation, value) = match colour {
        Colour::Black => ([220.0, 250.0], [0.0, 0.2], [0.08, 0.15]),
        Colour::Blue => ([208.0, 228.0], [0.65, 0.92], [0.5, 0.85]),
        Colour::Brown => ([20.0, 30.0], [0.5, 0.68], [0.32, 0.46]),
        Colour::Green => ([110.0, 150.0], [0.55, 0.85], [0.38, 0.65]),
        Colour::Grey => ([190.0, 230.0], [0.0, 0.06], [0.4, 0.54]),
        Colour::Orange => ([22.0, 31.0], [0.85, 0.97], [0.92, 1.0]),
        Colour::Pink => ([328.0, 345.0], [0.36, 0.54], [0.94, 1.0]),
        Colour::Purple => ([270.0, 288.0], [0.58, 0.78], [0.45, 0.66]),
        Colour::Red => ([350.0, 363.0], [0.85, 0.96], [0.66, 0.9]),
        Colour::White => ([30.0, 220.0], [0.0, 0.03], [0.94, 1.0]),
        Colour::Yellow => ([48.0, 55.0], [0.8, 0.95], [0.92, 1.0]),
    };
    let mut at = |[low, high]: [f32; 2]| dice.range(low, high);
    Ink::hsv(at(hue), at(saturation), at(value))
}
