//! Labels in the challenge's grammar, down to its spelling ("wearning"): the caption and the
//! attribute field of a label line.

use crate::attributes::{
    Age, Carrying, Facing, Gender, Lower, Pedestrian, Sleeves, Upper, Vehicle,
};
use crate::dice::Dice;
use crate::scene::{Naming, Scene, Subject};
use rand_chacha::rand_core::RngCore;

/// Stream of a scene's seed for its wording.
const WORDING: u64 = 5;

pub(crate) fn caption(scene: &Scene) -> String {
    let mut dice = Dice::new(scene.seed, WORDING);
    match &scene.subject {
        Subject::Vehicle(v) => {
            let words = named(v, scene.naming);
            let start = dice.pick(&["A", "This is a"]);
            format!("{start}{} {words}", n_before_vowel(&words))
        }
        Subject::Pedestrian(p) => pedestrian(p, &mut dice),
    }
}

pub(crate) fn attributes(scene: &Scene) -> String {
    match &scene.subject {
        Subject::Vehicle(v) => named(v, scene.naming),
        Subject::Pedestrian(p) => p.flags().map(|f| if f { "1" } else { "0" }).join(","),
    }
}

/// The words that a label names, as "white Audi Sedan".
pub(crate) fn named(vehicle: &Vehicle, naming: Naming) -> String {
    let words = [
        naming.colour.then(|| vehicle.colour.word()),
        naming.make.then(|| vehicle.make.word()),
        naming.kind.then(|| vehicle.kind.word()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What turns "a" into "an" before these words.
pub(crate) fn n_before_vowel(words: &str) -> &'static str {
    let vowel = words.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']);
    let spelled = words.starts_with("SUV") || words.starts_with("suv") || words.starts_with("mpv");
    if vowel || spelled { "n" } else { "" }
}

/// "A female pedestrian who is …, with her body facing the camera and …. She is in …."
pub(crate) fn pedestrian<R: RngCore>(p: &Pedestrian, dice: &mut Dice<R>) -> String {
    let (he, his) = match p.gender {
        Gender::Male => ("He", "his"),
        Gender::Female => ("She", "her"),
    };
    let start = match p.gender {
        Gender::Male => dice.pick(&[
            "A male pedestrian is someone who walks on foot, is",
            "A male pedestrian who is",
            "A pedestrian who is male is",
            "A walking man who is",
        ]),
        Gender::Female => dice.pick(&[
            "A female pedestrian is someone who walks on foot, is",
            "A female pedestrian who is",
            "A pedestrian who is female is",
            "A walking woman who is",
        ]),
    };
    let age = match p.age {
        Age::Under18 => {
            dice.pick(&["a minor", "less than 18 years old", "age 18 or younger", "not an adult"])
        }
        Age::Adult => dice.pick(&["between 18 and 60 years old", "an adult person aged 18-60"]),
        Age::Over60 => dice.pick(&[
            "at least 60 years old",
            "aged 60 or older",
            "aged over 60",
            "an elderly person over 60 years old",
        ]),
    };
    let facing = match p.facing {
        Facing::Front => format!("with {his} body facing the camera"),
        Facing::Side => "and is standing sideways".to_owned(),
        Facing::Back => format!("with {his} body back to the camera"),
    };
    let carrying = match p.carrying {
        Carrying::Nothing => "",
        Carrying::Handbag => dice.pick(&[
            " and with a handbag",
            " and carrying a handbag",
            " and holding a handbag",
            " and clutching a handbag",
        ]),
        Carrying::ShoulderBag => dice.pick(&[
            " and has a shoulderbag",
            " and with a shoulderbag",
            " and is carrying a shoulder bag",
            " and has a bag over the shoulder",
        ]),
        Carrying::Backpack => dice.pick(&[" and with a backpack", " and carrying a backpack"]),
        Carrying::ObjectInFront => " and holds objects in front",
    };
    format!("{start} {age}, {facing}{carrying}. {he} is {}.", wearing(p, dice))
}

/// Hat, glasses, coat and boots where there are any, else the clothes.
fn wearing<R: RngCore>(p: &Pedestrian, dice: &mut Dice<R>) -> String {
    let coat = dice.pick(&["a longcoat", "a coat that is long"]);
    let worn: Vec<&str> = [
        p.hat.then_some("a hat"),
        p.glasses.then_some("glasses"),
        p.long_coat.then_some(coat),
        p.boots.then_some("boots"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !worn.is_empty() {
        return format!("wearning {}", worn.join(","));
    }
    let sleeves = match p.sleeves {
        Sleeves::Short => dice.pick(&[
            "in a short sleeve shirt",
            "in a shirt with short sleeves",
            "in a tee shirt with short sleeves",
        ]),
        Sleeves::Long => dice.pick(&[
            "in a long sleeve shirt",
            "in a shirt with long sleeves",
            "in a tee shirt with long sleeves",
        ]),
    };
    let upper = match p.upper {
        Upper::Plain => String::new(),
        // The challenge says "a stripe on the upper" too seldom to tell.
        Upper::Stripe => " with an upper stripe".to_owned(),
        other => match dice.below(2) {
            0 => format!(" with an upper {other}"),
            _ => format!(" with a {other} on the upper"),
        },
    };
    let lower = match p.lower {
        Lower::Skirt => dice.pick(&[" and wearing skirt or dress", " and in a skirt or dress"]),
        Lower::Trousers | Lower::Shorts => "",
    };
    format!("{sleeves}{upper}{lower}")
}
