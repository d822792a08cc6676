//! What a scene can show: the closed sets of attributes, with the words of the challenge's
//! lexicon. Drawing, captions and queries all start from these types.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word in the challenge's spelling.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// The eleven colours of the challenge's lexicon.
    Colour {
        Black = "black", Blue = "blue", Brown = "brown", Green = "green", Grey = "grey",
        Orange = "orange", Pink = "pink", Purple = "purple", Red = "red", White = "white",
        Yellow = "yellow",
    }
}

impl Colour {
    /// The colours that it is taken for most easily.
    pub fn neighbours(self) -> &'static [Colour] {
        use Colour::*;
        match self {
            Black => &[Grey, Brown],
            Blue => &[Purple, Green],
            Brown => &[Orange, Red, Black],
            Green => &[Blue, Yellow],
            Grey => &[Black, White],
            Orange => &[Red, Yellow],
            Pink => &[Red, Purple, White],
            Purple => &[Blue, Pink],
            Red => &[Orange, Pink, Brown],
            White => &[Grey, Yellow],
            Yellow => &[Orange, White],
        }
    }
}

words! {
    /// The six vehicle types of the challenge's lexicon.
    VehicleType {
        Bus = "Bus", Microbus = "Microbus", Minivan = "Minivan", Suv = "SUV", Sedan = "Sedan",
        Truck = "Truck",
    }
}

impl VehicleType {
    /// The type that is built most like it.
    pub fn twin(self) -> VehicleType {
        use VehicleType::*;
        match self {
            Bus => Microbus,
            Microbus => Minivan,
            Minivan => Microbus,
            Suv => Sedan,
            Sedan => Suv,
            Truck => Bus,
        }
    }
}

words! { Gender { Male = "male", Female = "female" } }
words! { Age { Under18 = "under 18", Adult = "18-60", Over60 = "over 60" } }
words! { Facing { Front = "front", Side = "side", Back = "back" } }
words! {
    /// What a pedestrian carries, if anything.
    Carrying {
        Nothing = "nothing", Handbag = "handbag", ShoulderBag = "shoulderbag",
        Backpack = "backpack", ObjectInFront = "objects in front",
    }
}
words! { Sleeves { Short = "short", Long = "long" } }
words! { Upper { Plain = "plain", Stripe = "stripe", Logo = "logo", Plaid = "plaid", Splice = "splice" } }
words! { Lower { Trousers = "trousers", Shorts = "shorts", Skirt = "skirt" } }
words! { LowerPattern { Plain = "plain", Stripe = "stripe", Pattern = "pattern" } }

/// The 65 makes of the challenge's lexicon; a make is an index into it.
pub const MAKES: [&str; 65] = [
    "Audi",
    "BAOJUN",
    "BESTUNE",
    "BMW",
    "BYD",
    "Balong Heavy Truck",
    "Bentley",
    "Benz",
    "Buick",
    "Cadillac",
    "Chana",
    "Chery",
    "Chevrolet",
    "China-Moto",
    "Citroen",
    "Dongfeng",
    "FAW",
    "FORLAND",
    "FOTON",
    "Ford",
    "Geely",
    "Golden Dragon",
    "GreatWall",
    "HAFEI",
    "Haima",
    "Honda",
    "Hongyan",
    "Hyundai",
    "Infiniti",
    "Isuzu",
    "Iveco",
    "JAC",
    "JMC",
    "Jeep",
    "Jinbei",
    "KINGLONG",
    "Karma",
    "Kia",
    "LEOPAARD",
    "Landrover",
    "Lexus",
    "Luxgen",
    "MORRIS-GARAGE",
    "Mazda",
    "Mini",
    "Mitsubishi",
    "Nissan",
    "OPEL",
    "PEUGEOT",
    "Porsche",
    "ROEWE",
    "SGMW",
    "SKODA",
    "Shacman",
    "Shuanghuan",
    "Soueast",
    "Style",
    "Subaru",
    "Suzuki",
    "Toyota",
    "Volkswagen",
    "Volvo",
    "XIALI",
    "Yutong",
    "ZXAUTO",
];

/// A make of vehicle, drawn as a badge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Make(u8);

impl Make {
    pub fn all() -> impl Iterator<Item = Make> {
        (0..MAKES.len() as u8).map(Make)
    }

    pub(crate) fn at(index: usize) -> Make {
        Make((index % MAKES.len()) as u8)
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The name in the challenge's spelling.
    pub fn word(self) -> &'static str {
        MAKES[self.index()]
    }
}

impl From<Make> for String {
    fn from(make: Make) -> String {
        make.word().to_owned()
    }
}

impl TryFrom<String> for Make {
    type Error = String;

    fn try_from(name: String) -> Result<Make, String> {
        let found = MAKES.iter().position(|m| *m == name);
        found.map(|i| Make(i as u8)).ok_or_else(|| format!("unknown make {name:?}"))
    }
}

/// A vehicle; all three attributes are always drawn, a caption may name fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vehicle {
    pub colour: Colour,
    #[serde(rename = "type")]
    pub kind: VehicleType,
    pub make: Make,
}

/// A pedestrian with the attributes that the challenge's captions tell, and the clothes' colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pedestrian {
    pub gender: Gender,
    pub age: Age,
    pub facing: Facing,
    pub hat: bool,
    /// Never with [`Facing::Back`], where they could not be seen.
    pub glasses: bool,
    /// [`Carrying::ObjectInFront`] never with [`Facing::Back`].
    pub carrying: Carrying,
    /// Always long with a long coat.
    pub sleeves: Sleeves,
    /// Always plain with a long coat.
    pub upper: Upper,
    pub upper_colour: Colour,
    pub lower: Lower,
    pub lower_pattern: LowerPattern,
    pub lower_colour: Colour,
    pub long_coat: bool,
    pub boots: bool,
}

/// Names of the numbers of [`Pedestrian::flags`], in order, in PA-100K's words.
pub const PEDESTRIAN_FLAGS: [&str; 21] = [
    "Female",
    "AgeOver60",
    "Age18-60",
    "AgeLess18",
    "Front",
    "Side",
    "Back",
    "Hat",
    "Glasses",
    "HandBag",
    "ShoulderBag",
    "Backpack",
    "HoldObjectsInFront",
    "ShortSleeve",
    "UpperStride",
    "UpperLogo",
    "UpperPlaid",
    "UpperSplice",
    "LongCoat",
    "Skirt&Dress",
    "boots",
];

impl Pedestrian {
    /// The 21 attributes as a challenge label has them: 21 flags, named by [`PEDESTRIAN_FLAGS`].
    /// No short sleeves means long ones.
    pub fn flags(&self) -> [bool; 21] {
        [
            self.gender == Gender::Female,
            self.age == Age::Over60,
            self.age == Age::Adult,
            self.age == Age::Under18,
            self.facing == Facing::Front,
            self.facing == Facing::Side,
            self.facing == Facing::Back,
            self.hat,
            self.glasses,
            self.carrying == Carrying::Handbag,
            self.carrying == Carrying::ShoulderBag,
            self.carrying == Carrying::Backpack,
            self.carrying == Carrying::ObjectInFront,
            self.sleeves == Sleeves::Short,
            self.upper == Upper::Stripe,
            self.upper == Upper::Logo,
            self.upper == Upper::Plaid,
            self.upper == Upper::Splice,
            self.long_coat,
            self.lower == Lower::Skirt,
            self.boots,
        ]
    }

    /// Makes the attributes agree with each other where one hides another.
    pub fn consistent(mut self) -> Pedestrian {
        if self.long_coat {
            self.sleeves = Sleeves::Long;
            self.upper = Upper::Plain;
        }
        if self.facing == Facing::Back {
            self.glasses = false;
            if self.carrying == Carrying::ObjectInFront {
                self.carrying = Carrying::Backpack;
            }
        }
        if self.lower == Lower::Skirt {
            self.lower_pattern = LowerPattern::Plain;
        }
        self
    }
}
