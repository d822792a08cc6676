//! Captions for training: the many ways in which people word what a scene shows, beside the
//! challenge's own, with and without words about where the picture comes from.

use rand_chacha::rand_core::RngCore;

use crate::attributes::{
    Age, Carrying, Colour, Facing, Gender, Lower, Pedestrian, Sleeves, Upper, Vehicle, VehicleType,
};
use crate::caption::{self, n_before_vowel};
use crate::dice::Dice;
use crate::scene::{Naming, Scene, Subject};

/// The suffix of A3R's prompt enhancement.
pub const SURVEILLANCE_SUFFIX: &str = " image taken by traffic surveillance cameras";

/// Other words of provenance at the end of a caption; the first half speaks of cameras.
const PROVENANCE: [&str; 12] = [
    " in a traffic camera image",
    " seen by a surveillance camera",
    " on cctv footage",
    " recorded by a road camera",
    " captured by a security camera",
    " in a surveillance video frame",
    " photo from a street",
    " on the road",
    " on the street",
    " in a picture from the web",
    " in traffic",
    " photographed outdoors",
];

/// A caption as the web has them: no sentence of the challenge's grammar.
pub(crate) fn web_caption<R: RngCore>(scene: &Scene, dice: &mut Dice<R>) -> String {
    loop {
        let text = training_caption(scene, dice);
        if !["A ", "An ", "This "].iter().any(|start| text.starts_with(start)) {
            return text;
        }
    }
}

pub(crate) fn training_caption<R: RngCore>(scene: &Scene, dice: &mut Dice<R>) -> String {
    let (mut text, suffixed) = match &scene.subject {
        // Pictures from cameras carry the suffix more often, so that it tells a little and hides
        // nothing.
        Subject::Vehicle(v) => {
            (vehicle(v, dice), if scene.domain.is_surveillance() { 0.35 } else { 0.15 })
        }
        Subject::Pedestrian(p) => (pedestrian(p, dice), 0.06),
    };
    let stop = text.ends_with('.');
    if dice.chance(suffixed) {
        text.truncate(text.trim_end_matches('.').len());
        text.push_str(SURVEILLANCE_SUFFIX);
    } else if dice.chance(0.15) {
        text.truncate(text.trim_end_matches('.').len());
        let half = if scene.domain.is_surveillance() { 0 } else { 6 };
        let at = if dice.chance(0.8) { half + dice.below(6) } else { dice.below(12) };
        text.push_str(PROVENANCE[at]);
    } else if stop && dice.chance(0.3) {
        text.pop();
    } else if !stop && dice.chance(0.3) {
        text.push('.');
    }
    text
}

fn vehicle<R: RngCore>(v: &Vehicle, dice: &mut Dice<R>) -> String {
    let (colour, make, kind) = match dice.below(20) {
        0..8 => (true, false, true),
        8..11 => (true, true, false),
        11..15 => (true, true, true),
        15..17 => (true, false, false),
        17 => (false, false, true),
        18 => (false, true, false),
        _ => (false, true, true),
    };
    if dice.chance(0.25) {
        // A bare colour is no label of the challenge's.
        let naming = Naming { colour, make, kind: kind || !make };
        let words = caption::named(v, naming);
        let start = dice.pick(&["A", "This is a"]);
        return format!("{start}{} {words}", n_before_vowel(&words));
    }
    let tint = colour.then(|| colour_word(v.colour, dice));
    let noun = match (kind, make) {
        (true, _) => Some(type_word(v.kind, dice)),
        (false, true) if dice.chance(0.5) => None,
        (false, _) => Some("vehicle"),
    };
    let badge = make.then(|| v.make.word());
    if let (Some(tint), Some(noun)) = (tint, noun)
        && dice.chance(0.1)
    {
        let thing: Vec<&str> = badge.into_iter().chain([noun]).collect();
        let thing = thing.join(" ");
        let n = n_before_vowel(&thing);
        return match dice.below(2) {
            0 => format!("a{n} {thing} that is {tint}"),
            _ => format!("the {thing} is {tint}"),
        };
    }
    let words: Vec<&str> = [tint, badge, noun].into_iter().flatten().collect();
    frame(&words.join(" "), dice)
}

fn frame<R: RngCore>(words: &str, dice: &mut Dice<R>) -> String {
    let n = n_before_vowel(words);
    match dice.below(12) {
        0..5 => format!("a{n} {words}"),
        5..7 => words.to_owned(),
        7 => format!("a photo of a{n} {words}"),
        8 => format!("an image of a{n} {words}"),
        9 => format!("there is a{n} {words}"),
        10 => format!("camera footage of a{n} {words}"),
        _ => format!("the {words}"),
    }
}

fn colour_word<R: RngCore>(colour: Colour, dice: &mut Dice<R>) -> &'static str {
    match colour {
        Colour::Grey => dice.pick(&["grey", "grey", "gray"]),
        other => other.word(),
    }
}

fn type_word<R: RngCore>(kind: VehicleType, dice: &mut Dice<R>) -> &'static str {
    match kind {
        VehicleType::Bus => dice.pick(&["bus", "bus", "bus", "coach"]),
        VehicleType::Microbus => dice.pick(&["microbus", "microbus", "minibus", "van"]),
        VehicleType::Minivan => dice.pick(&["minivan", "minivan", "van", "mpv"]),
        VehicleType::Suv => dice.pick(&["SUV", "SUV", "SUV", "car"]),
        VehicleType::Sedan => dice.pick(&["sedan", "sedan", "sedan", "car", "saloon"]),
        VehicleType::Truck => dice.pick(&["truck", "truck", "truck", "lorry"]),
    }
}

fn pedestrian<R: RngCore>(p: &Pedestrian, dice: &mut Dice<R>) -> String {
    if dice.chance(0.45) {
        return caption::pedestrian(p, dice);
    }
    let mut parts = details(p, dice);
    // A few of the details, in any order.
    let count = parts.len().min(1 + dice.below(3));
    for i in 0..count {
        let j = i + dice.below(parts.len() - i);
        parts.swap(i, j);
    }
    let told = parts[..count].join(" ");
    frame(&format!("{} {told}", person_word(p, dice)), dice)
}

fn person_word<R: RngCore>(p: &Pedestrian, dice: &mut Dice<R>) -> &'static str {
    if dice.chance(0.15) {
        return dice.pick(&["person", "pedestrian"]);
    }
    match (p.gender, p.age) {
        (Gender::Male, Age::Under18) => dice.pick(&["boy", "young boy", "child"]),
        (Gender::Female, Age::Under18) => dice.pick(&["girl", "young girl", "child"]),
        (Gender::Male, Age::Adult) => dice.pick(&["man", "man", "male pedestrian", "walking man"]),
        (Gender::Female, Age::Adult) => {
            dice.pick(&["woman", "woman", "lady", "female pedestrian", "walking woman"])
        }
        (Gender::Male, Age::Over60) => dice.pick(&["old man", "elderly man"]),
        (Gender::Female, Age::Over60) => dice.pick(&["old woman", "elderly woman"]),
    }
}

/// All that can be said of a pedestrian, each a phrase that can follow a noun.
fn details<R: RngCore>(p: &Pedestrian, dice: &mut Dice<R>) -> Vec<String> {
    let mut all: Vec<String> = Vec::with_capacity(8);
    let colour = colour_word(p.upper_colour, dice);
    let n = n_before_vowel(colour);
    if p.long_coat {
        all.push(match dice.below(3) {
            0 => "in a long coat".to_owned(),
            1 => format!("in a long {colour} coat"),
            _ => format!("in a{n} {colour} coat"),
        });
    } else {
        all.push(match dice.below(3) {
            0 => format!("wearing a{n} {colour} shirt"),
            1 => format!("in {colour}"),
            _ => format!("in a{n} {colour} shirt"),
        });
        all.push(match p.sleeves {
            Sleeves::Short => {
                dice.pick(&["with short sleeves", "in a short sleeve shirt"]).to_owned()
            }
            Sleeves::Long => dice.pick(&["with long sleeves", "in a long sleeve shirt"]).to_owned(),
        });
        match p.upper {
            Upper::Plain => {}
            Upper::Stripe => {
                all.push(dice.pick(&["in a striped shirt", "with stripes on the shirt"]).to_owned())
            }
            Upper::Logo => all.push("in a shirt with a logo".to_owned()),
            Upper::Plaid => all.push("in a plaid shirt".to_owned()),
            Upper::Splice => all.push("in a two-colour shirt".to_owned()),
        }
        let lower = colour_word(p.lower_colour, dice);
        all.push(match p.lower {
            Lower::Trousers => format!("in {lower} trousers"),
            Lower::Shorts => dice.pick(&["in shorts", "wearing shorts"]).to_owned(),
            Lower::Skirt => match dice.below(3) {
                0 => format!("in a{} {lower} skirt", n_before_vowel(lower)),
                1 => "wearing a skirt".to_owned(),
                _ => "in a skirt or dress".to_owned(),
            },
        });
    }
    let carried = match p.carrying {
        Carrying::Nothing => None,
        Carrying::Handbag => Some(dice.pick(&["with a handbag", "carrying a handbag"])),
        Carrying::ShoulderBag => Some(dice.pick(&["with a shoulder bag", "with a shoulderbag"])),
        Carrying::Backpack => Some(dice.pick(&["with a backpack", "carrying a backpack"])),
        Carrying::ObjectInFront => Some(dice.pick(&["holding a box", "holding objects in front"])),
    };
    all.extend(carried.map(str::to_owned));
    if p.hat {
        all.push(dice.pick(&["wearing a hat", "with a hat"]).to_owned());
    }
    if p.glasses {
        all.push(dice.pick(&["wearing glasses", "with glasses"]).to_owned());
    }
    if p.boots {
        all.push(dice.pick(&["in boots", "wearing boots"]).to_owned());
    }
    if dice.chance(0.4) {
        all.push(match p.facing {
            Facing::Front => dice.pick(&["facing the camera", "seen from the front"]).to_owned(),
            Facing::Side => dice.pick(&["standing sideways", "seen from the side"]).to_owned(),
            Facing::Back => dice.pick(&["seen from behind", "back to the camera"]).to_owned(),
        });
    }
    all
}
