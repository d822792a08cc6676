//! A scene: its attributes as plain data, sampled from a seed, and what can be made of it. The
//! picture and the words are functions of this data alone.

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use crate::attributes::{
    Age, Carrying, Colour, Facing, Gender, Lower, LowerPattern, Make, Pedestrian, Sleeves, Upper,
    Vehicle, VehicleType,
};
use crate::dice::Dice;
use crate::{caption, draw, phrasing};

/// Where a picture seems to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Clean and bright, from eye level.
    Web,
    /// From above, dim, tinted, blurred and noisy, often with a timestamp.
    Surveillance,
    /// The benchmark's web pictures: all formats, the subject of any size in the middle square.
    Photo,
    /// What a detector cuts out of a surveillance frame: tight, long or tall, from high above and
    /// mostly from front or back, small, dark, blurred, strongly compressed.
    Crop,
}

impl Domain {
    pub fn is_surveillance(self) -> bool {
        matches!(self, Domain::Surveillance | Domain::Crop)
    }

    /// Whether colours come near their neighbours', as in the benchmark's pictures.
    pub(crate) fn blends_colours(self) -> bool {
        matches!(self, Domain::Photo | Domain::Crop)
    }
}

/// Which subjects and domains to draw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneOptions {
    /// The share of vehicles among the scenes, 0 to 1; the others are pedestrians.
    pub vehicles: f32,
    /// The share of surveillance pictures, 0 to 1; the others are web-like.
    pub surveillance: f32,
    /// The longer side of pictures written to files, in pixels: uniform between the two.
    pub long_side: (u32, u32),
    /// JPEG quality of web pictures, 1 to 100; surveillance pictures get between 40 % and 90 %
    /// of it, a detector's crops between 25 % and 70 %.
    pub quality: u8,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self { vehicles: 0.6, surveillance: 0.5, long_side: (160, 360), quality: 90 }
    }
}

impl SceneOptions {
    pub fn vehicles() -> Self {
        Self { vehicles: 1.0, ..Self::default() }
    }

    pub fn pedestrians() -> Self {
        Self { vehicles: 0.0, ..Self::default() }
    }

    /// The same subjects in one domain.
    pub fn in_domain(self, domain: Domain) -> Self {
        let surveillance = if domain == Domain::Surveillance { 1.0 } else { 0.0 };
        Self { surveillance, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    Vehicle(Vehicle),
    Pedestrian(Pedestrian),
}

/// Which of a vehicle's attributes its label names; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Naming {
    pub colour: bool,
    pub make: bool,
    #[serde(rename = "type")]
    pub kind: bool,
}

/// One labelled scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scene {
    /// Decides everything that is not an attribute: viewpoint, backdrop, shades, wording.
    pub seed: u64,
    pub domain: Domain,
    pub subject: Subject,
    /// What the label names of a vehicle.
    pub naming: Naming,
}

impl Scene {
    /// The scene of a seed; independent of the machine and of the picture's size.
    pub fn sample(seed: u64, options: &SceneOptions) -> Scene {
        let mut dice = Dice::new(seed, 0);
        let vehicle = dice.chance(options.vehicles);
        let surveillance = dice.chance(options.surveillance);
        let subject = if vehicle {
            Subject::Vehicle(sample_vehicle(&mut dice))
        } else {
            Subject::Pedestrian(sample_pedestrian(&mut dice))
        };
        let domain = if surveillance { Domain::Surveillance } else { Domain::Web };
        Scene { seed, domain, subject, naming: sample_naming(&mut dice) }
    }

    /// Draws the scene, its longer side `long_side` pixels (at least 16). Scenes look alike at any
    /// size; the pixels are the same on every machine with IEEE 754 arithmetic.
    pub fn draw(&self, long_side: u32) -> RgbImage {
        draw::draw(self, long_side)
    }

    /// The picture as a JPEG file of the given quality (1 to 100).
    pub fn jpeg(&self, long_side: u32, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100))
            .encode_image(&self.draw(long_side))
            .expect("writing to memory");
        bytes
    }

    /// The picture as a file of a set has it: size and quality within the options, by the seed.
    pub fn file(&self, options: &SceneOptions) -> Vec<u8> {
        let mut dice = Dice::new(self.seed, 4);
        let (low, high) = options.long_side;
        let long_side = low + dice.below((high.max(low) - low + 1) as usize) as u32;
        let share = match self.domain {
            Domain::Web | Domain::Photo => 1.0,
            Domain::Surveillance => dice.range(0.4, 0.9),
            Domain::Crop => dice.range(0.25, 0.7),
        };
        self.jpeg(long_side, (f32::from(options.quality) * share) as u8)
    }

    /// The caption in the challenge's grammar.
    pub fn caption(&self) -> String {
        caption::caption(self)
    }

    /// The attribute field of a label: named words of a vehicle, 21 flags of a pedestrian.
    pub fn attributes(&self) -> String {
        caption::attributes(self)
    }

    /// The label line of a picture file, `image$attributes$caption`.
    pub fn label_line(&self, image: &str) -> String {
        format!("{image}${}${}", self.attributes(), self.caption())
    }

    /// A caption in one of many wordings, for training; true of the scene.
    pub fn training_caption(&self, rng: &mut impl RngCore) -> String {
        phrasing::training_caption(self, &mut Dice(rng))
    }

    /// The same without the sentences of the challenge's grammar.
    pub fn web_caption(&self, rng: &mut impl RngCore) -> String {
        phrasing::web_caption(self, &mut Dice(rng))
    }

    pub fn vehicle(&self) -> Option<&Vehicle> {
        match &self.subject {
            Subject::Vehicle(v) => Some(v),
            Subject::Pedestrian(_) => None,
        }
    }

    pub fn pedestrian(&self) -> Option<&Pedestrian> {
        match &self.subject {
            Subject::Vehicle(_) => None,
            Subject::Pedestrian(p) => Some(p),
        }
    }
}

fn sample_vehicle(dice: &mut Dice) -> Vehicle {
    Vehicle {
        colour: dice.one(Colour::ALL),
        kind: dice.one(VehicleType::ALL),
        make: Make::at(dice.below(crate::attributes::MAKES.len())),
    }
}

/// Mostly colour and make, as in the challenge, where many labels lack the type and some the
/// colour.
fn sample_naming(dice: &mut Dice) -> Naming {
    let (colour, make, kind) = match dice.below(20) {
        0..8 => (true, true, false),
        8..13 => (true, true, true),
        13..17 => (true, false, true),
        17..19 => (false, true, true),
        _ => (false, false, true),
    };
    Naming { colour, make, kind }
}

fn sample_pedestrian(dice: &mut Dice) -> Pedestrian {
    let gender = dice.one(Gender::ALL);
    let skirt = gender == Gender::Female && dice.chance(0.35);
    let lower = if skirt {
        Lower::Skirt
    } else {
        dice.one(&[Lower::Trousers, Lower::Trousers, Lower::Shorts])
    };
    let upper = if dice.chance(0.4) { Upper::Plain } else { dice.one(&Upper::ALL[1..]) };
    let lower_pattern =
        if dice.chance(0.75) { LowerPattern::Plain } else { dice.one(&LowerPattern::ALL[1..]) };
    let upper_colour = dice.one(Colour::ALL);
    // The lower clothes' colour differs, so that the two can be told apart.
    let step = 1 + dice.below(Colour::ALL.len() - 1);
    let lower_colour = Colour::ALL[(upper_colour as usize + step) % Colour::ALL.len()];
    let person = Pedestrian {
        gender,
        age: dice.one(&[Age::Adult, Age::Adult, Age::Under18, Age::Over60]),
        facing: dice.one(Facing::ALL),
        hat: dice.chance(0.25),
        glasses: dice.chance(0.3),
        carrying: dice.one(Carrying::ALL),
        sleeves: dice.one(Sleeves::ALL),
        upper,
        upper_colour,
        lower,
        lower_pattern,
        lower_colour,
        long_coat: dice.chance(0.12),
        boots: dice.chance(0.18),
    };
    person.consistent()
}
