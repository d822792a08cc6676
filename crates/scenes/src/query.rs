//! Sentences as conditions on a scene: which scenes a query asks for. Evaluation and the demo mark
//! hits by it, and the tests hold every caption to it.

use crate::attributes::{
    Age, Carrying, Colour, Facing, Gender, Lower, MAKES, Make, Pedestrian, Sleeves, Upper, Vehicle,
    VehicleType,
};
use crate::caption::n_before_vowel;
use crate::scene::{Scene, Subject};

/// What a sentence asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    Vehicle(VehicleQuery),
    Pedestrian(PedestrianQuery),
}

/// A vehicle; what is `None` (or an empty list) is left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VehicleQuery {
    pub colour: Option<Colour>,
    /// Any of these types: a "van" is a minivan or a microbus, a "car" a sedan or an SUV.
    pub kinds: Vec<VehicleType>,
    pub make: Option<Make>,
}

/// A pedestrian; what is `None` is left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PedestrianQuery {
    pub gender: Option<Gender>,
    pub age: Option<Age>,
    pub facing: Option<Facing>,
    pub hat: Option<bool>,
    pub glasses: Option<bool>,
    pub boots: Option<bool>,
    pub long_coat: Option<bool>,
    pub carrying: Option<Carrying>,
    pub sleeves: Option<Sleeves>,
    pub upper: Option<Upper>,
    pub upper_colour: Option<Colour>,
    pub lower: Option<Lower>,
    pub lower_colour: Option<Colour>,
}

impl Query {
    /// "a red sedan", with its condition.
    pub fn colour_and_type(colour: Colour, kind: VehicleType) -> (String, Query) {
        let kind_word = match kind {
            VehicleType::Suv => "SUV".to_owned(),
            other => other.word().to_lowercase(),
        };
        let text = format!("a{} {colour} {kind_word}", n_before_vowel(colour.word()));
        let query = VehicleQuery { colour: Some(colour), kinds: vec![kind], make: None };
        (text, Query::Vehicle(query))
    }

    /// All 66 queries of a colour and a type.
    pub fn colours_and_types() -> Vec<(String, Query)> {
        let pairs = Colour::ALL.iter().flat_map(|&c| VehicleType::ALL.iter().map(move |&k| (c, k)));
        pairs.map(|(c, k)| Query::colour_and_type(c, k)).collect()
    }

    /// What the words ask for, as far as they are words of this crate's captions; `None` if they
    /// speak of neither a vehicle nor a pedestrian. A colour alone asks for a vehicle.
    pub fn parse(text: &str) -> Option<Query> {
        let words = words(text);
        if is_about_people(&words) {
            return Some(Query::Pedestrian(pedestrian(&words)));
        }
        let query = vehicle(&words);
        let named = words.iter().any(|w| w == "vehicle") || query != VehicleQuery::default();
        named.then_some(Query::Vehicle(query))
    }

    pub fn matches(&self, scene: &Scene) -> bool {
        match (self, &scene.subject) {
            (Query::Vehicle(q), Subject::Vehicle(v)) => q.matches(v),
            (Query::Pedestrian(q), Subject::Pedestrian(p)) => q.matches(p),
            _ => false,
        }
    }
}

/// Whether a condition, if there is one, is met.
fn met<T: PartialEq>(wanted: Option<T>, is: T) -> bool {
    wanted.is_none_or(|w| w == is)
}

impl VehicleQuery {
    pub fn matches(&self, v: &Vehicle) -> bool {
        met(self.colour, v.colour)
            && met(self.make, v.make)
            && (self.kinds.is_empty() || self.kinds.contains(&v.kind))
    }
}

impl PedestrianQuery {
    /// What a long coat hides is not there to be found.
    pub fn matches(&self, p: &Pedestrian) -> bool {
        met(self.gender, p.gender)
            && met(self.age, p.age)
            && met(self.facing, p.facing)
            && met(self.hat, p.hat)
            && met(self.glasses, p.glasses)
            && met(self.boots, p.boots)
            && met(self.long_coat, p.long_coat)
            && met(self.carrying, p.carrying)
            && met(self.sleeves, p.sleeves)
            && met(self.upper, p.upper)
            && met(self.upper_colour, p.upper_colour)
            && (self.lower.is_none_or(|l| l == p.lower && !p.long_coat))
            && (self.lower_colour.is_none_or(|c| c == p.lower_colour && !p.long_coat))
    }
}

/// Lower-case words; hyphens inside words stay.
fn words(text: &str) -> Vec<String> {
    let cut = text.split(|c: char| !c.is_alphanumeric() && c != '-');
    cut.filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

/// The first entry whose phrase occurs in the words.
fn find<T: Copy>(words: &[String], table: &[(&str, T)]) -> Option<T> {
    table.iter().find(|(phrase, _)| has(words, phrase)).map(|&(_, value)| value)
}

fn has(words: &[String], phrase: &str) -> bool {
    position(words, phrase).is_some()
}

fn position(words: &[String], phrase: &str) -> Option<usize> {
    let phrase: Vec<String> = phrase.split(' ').map(str::to_lowercase).collect();
    words.windows(phrase.len()).position(|w| w == phrase)
}

fn is_about_people(words: &[String]) -> bool {
    const PEOPLE: [&str; 11] = [
        "pedestrian",
        "person",
        "man",
        "woman",
        "lady",
        "boy",
        "girl",
        "child",
        "male",
        "female",
        "people",
    ];
    words.iter().any(|w| PEOPLE.contains(&w.as_str()))
}

fn colour_of(word: &str) -> Option<Colour> {
    if word == "gray" {
        return Some(Colour::Grey);
    }
    Colour::ALL.iter().copied().find(|c| c.word() == word)
}

fn vehicle(words: &[String]) -> VehicleQuery {
    let mut words = words.to_vec();
    let found = MAKES.iter().enumerate().find_map(|(i, m)| Some((i, m, position(&words, m)?)));
    let make = found.map(|(index, name, at)| {
        // "Balong Heavy Truck" names no type.
        words.drain(at..at + name.split(' ').count());
        Make::at(index)
    });
    const TYPES: [(&str, &[VehicleType]); 13] = [
        ("bus", &[VehicleType::Bus]),
        ("coach", &[VehicleType::Bus]),
        ("microbus", &[VehicleType::Microbus]),
        ("minibus", &[VehicleType::Microbus]),
        ("minivan", &[VehicleType::Minivan]),
        ("mpv", &[VehicleType::Minivan]),
        ("van", &[VehicleType::Minivan, VehicleType::Microbus]),
        ("suv", &[VehicleType::Suv]),
        ("sedan", &[VehicleType::Sedan]),
        ("saloon", &[VehicleType::Sedan]),
        ("car", &[VehicleType::Sedan, VehicleType::Suv]),
        ("truck", &[VehicleType::Truck]),
        ("lorry", &[VehicleType::Truck]),
    ];
    let kinds = find(&words, &TYPES).map(<[VehicleType]>::to_vec).unwrap_or_default();
    VehicleQuery { colour: words.iter().find_map(|w| colour_of(w)), kinds, make }
}

fn pedestrian(words: &[String]) -> PedestrianQuery {
    let worn = |phrases: &[&str]| phrases.iter().any(|p| has(words, p)).then_some(true);
    let mut query = PedestrianQuery {
        gender: find(
            words,
            &[
                ("female", Gender::Female),
                ("woman", Gender::Female),
                ("lady", Gender::Female),
                ("girl", Gender::Female),
                ("male", Gender::Male),
                ("man", Gender::Male),
                ("boy", Gender::Male),
            ],
        ),
        age: find(
            words,
            &[
                ("not an adult", Age::Under18),
                ("a minor", Age::Under18),
                ("less than 18", Age::Under18),
                ("18 or younger", Age::Under18),
                ("boy", Age::Under18),
                ("girl", Age::Under18),
                ("child", Age::Under18),
                ("between 18 and 60", Age::Adult),
                ("18-60", Age::Adult),
                ("60 or older", Age::Over60),
                ("over 60", Age::Over60),
                ("at least 60", Age::Over60),
                ("elderly", Age::Over60),
                ("old man", Age::Over60),
                ("old woman", Age::Over60),
            ],
        ),
        facing: find(
            words,
            &[
                ("facing the camera", Facing::Front),
                ("from the front", Facing::Front),
                ("sideways", Facing::Side),
                ("from the side", Facing::Side),
                ("back to the camera", Facing::Back),
                ("from behind", Facing::Back),
            ],
        ),
        hat: worn(&["hat"]),
        glasses: worn(&["glasses"]),
        boots: worn(&["boots"]),
        long_coat: worn(&["coat", "longcoat"]),
        carrying: find(
            words,
            &[
                ("backpack", Carrying::Backpack),
                ("handbag", Carrying::Handbag),
                ("shoulderbag", Carrying::ShoulderBag),
                ("shoulder bag", Carrying::ShoulderBag),
                ("bag over the shoulder", Carrying::ShoulderBag),
                ("objects in front", Carrying::ObjectInFront),
                ("box", Carrying::ObjectInFront),
            ],
        ),
        sleeves: find(
            words,
            &[
                ("short sleeve", Sleeves::Short),
                ("short sleeves", Sleeves::Short),
                ("long sleeve", Sleeves::Long),
                ("long sleeves", Sleeves::Long),
            ],
        ),
        upper: find(
            words,
            &[
                ("stripe", Upper::Stripe),
                ("stripes", Upper::Stripe),
                ("striped", Upper::Stripe),
                ("logo", Upper::Logo),
                ("plaid", Upper::Plaid),
                ("splice", Upper::Splice),
                ("two-colour", Upper::Splice),
            ],
        ),
        lower: find(
            words,
            &[("skirt", Lower::Skirt), ("shorts", Lower::Shorts), ("trousers", Lower::Trousers)],
        ),
        ..PedestrianQuery::default()
    };
    for (i, word) in words.iter().enumerate() {
        let Some(colour) = colour_of(word) else { continue };
        match words.get(i + 1).map(String::as_str) {
            Some("trousers" | "skirt" | "shorts" | "dress") => query.lower_colour = Some(colour),
            _ => query.upper_colour = Some(colour),
        }
    }
    query
}
