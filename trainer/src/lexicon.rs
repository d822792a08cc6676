//! The words by which vehicles are labelled: colours, types and makes, as A3R's JSON has them.
//!
//! A file of its own because two commands share it: `prepare` gathers a lexicon from attribute
//! fields, `augment` looks its words up in captions. Names of several words are one name
//! ("Golden Dragon", "Balong Heavy Truck"), looked up before their parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_scenes::{Colour, MAKES, VehicleType};
use serde::{Deserialize, Serialize};

/// Words for a vehicle that say nothing about it.
const NOUNS: [&str; 2] = ["car", "vehicle"];

/// Spellings that mean a word of the lexicon.
const SPELLINGS: [(&str, &str); 1] = [("gray", "grey")];

/// Colours, types and makes, each in its own spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lexicon {
    #[serde(rename = "Colors")]
    pub colours: Vec<String>,
    #[serde(rename = "Types")]
    pub types: Vec<String>,
    #[serde(rename = "Brands")]
    pub makes: Vec<String>,
}

/// What a word of a caption names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Colour,
    Make,
    Type,
    /// "car", "vehicle"
    Noun,
}

/// A name in a text: its bytes, and how the lexicon spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    pub name: String,
}

impl Lexicon {
    /// The challenge's: 11 colours, 6 types, 65 makes.
    pub fn challenge() -> Self {
        Lexicon {
            colours: Colour::ALL.iter().map(|colour| colour.word().to_owned()).collect(),
            types: VehicleType::ALL.iter().map(|kind| kind.word().to_owned()).collect(),
            makes: MAKES.iter().map(|&make| make.to_owned()).collect(),
        }
    }

    /// Reads A3R's JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the lexicon {}", path.display()))?;
        let lexicon: Lexicon = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is no lexicon: {{\"Colors\": […], \"Types\": […], \"Brands\": […]}}",
                path.display()
            )
        })?;
        ensure!(
            !lexicon.colours.is_empty() && !lexicon.types.is_empty(),
            "{} has no colours or no types",
            path.display()
        );
        Ok(lexicon)
    }

    /// Gathers a lexicon from the attribute fields of vehicles, as "white Audi", "Sedan" or
    /// "red Golden Dragon Bus": what is written in lower case is the colour; a name that stands
    /// alone is a type, unless it has several words, follows a colour elsewhere, or is known
    /// as a make; what stands before a type is a make. Names that the challenge's lexicon has
    /// are what they are there.
    pub fn gather<'a>(fields: impl IntoIterator<Item = &'a str>) -> Self {
        let known = Lexicon::challenge();
        let mut colours = BTreeSet::new();
        // What follows the colour, or stands alone, by whether it follows a colour anywhere.
        let mut names: BTreeMap<String, bool> = BTreeMap::new();
        for field in fields {
            let words: Vec<&str> = field.trim_end_matches('.').split_whitespace().collect();
            let lower = |word: &&&str| !word.starts_with(|c: char| c.is_uppercase());
            let colour = words.iter().take_while(lower).count();
            if colour > 0 {
                colours.insert(words[..colour].join(" "));
            }
            if colour < words.len() {
                *names.entry(words[colour..].join(" ")).or_default() |= colour > 0;
            }
        }
        let types: BTreeSet<String> = names
            .iter()
            .filter(|(name, coloured)| {
                let single = !name.contains(' ') && !known.makes.contains(name);
                known.types.contains(name) || (single && !**coloured)
            })
            .map(|(name, _)| name.clone())
            .chain(names.keys().filter_map(|name| {
                let last = name.rsplit(' ').next()?;
                (!known.makes.contains(name) && known.types.iter().any(|t| t == last))
                    .then(|| last.to_owned())
            }))
            .collect();
        let mut makes = BTreeSet::new();
        for name in names.keys() {
            let make = match name.rsplit_once(' ') {
                Some((before, last)) if !known.makes.contains(name) && types.contains(last) => {
                    before
                }
                _ => name,
            };
            if !types.contains(make) {
                makes.insert(make.to_owned());
            }
        }
        Lexicon {
            colours: colours.into_iter().collect(),
            types: types.into_iter().collect(),
            makes: makes.into_iter().collect(),
        }
    }

    /// The names in a text from left to right, whatever their case, the longest at each place.
    pub fn find(&self, text: &str) -> Vec<Named> {
        let (words, entries) = (words(text), self.entries());
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let longest = entries
                .iter()
                .filter_map(|&(kind, name, spelling)| {
                    let length = matches(spelling, &words[at..])?;
                    Some((length, kind, name))
                })
                .max_by_key(|&(length, _, _)| length);
            match longest {
                Some((length, kind, name)) => {
                    let (start, end) = (words[at].0, words[at + length - 1].1);
                    found.push(Named { kind, start, end, name: name.to_owned() });
                    at += length;
                }
                None => at += 1,
            }
        }
        found
    }

    /// Every name as (kind, how the lexicon spells it, how it may be written).
    fn entries(&self) -> Vec<(Kind, &str, &str)> {
        let own =
            [(Kind::Colour, &self.colours), (Kind::Make, &self.makes), (Kind::Type, &self.types)];
        let mut entries: Vec<(Kind, &str, &str)> = Vec::new();
        for (kind, names) in own {
            entries.extend(names.iter().map(|name| (kind, name.as_str(), name.as_str())));
        }
        for (spelling, name) in SPELLINGS {
            if self.colours.iter().any(|colour| colour == name) {
                entries.push((Kind::Colour, name, spelling));
            }
        }
        entries.extend(NOUNS.map(|noun| (Kind::Noun, noun, noun)));
        entries
    }

    /// The type that a make has in its own name, as "Balong Heavy Truck".
    pub fn type_in_make(&self, make: &str) -> Option<&str> {
        let (_, last) = make.rsplit_once(' ')?;
        self.types.iter().find(|kind| kind.eq_ignore_ascii_case(last)).map(String::as_str)
    }
}

/// Byte ranges of a text's words, without the marks around them.
fn words(text: &str) -> Vec<(usize, usize, &str)> {
    text.split_whitespace()
        .filter_map(|piece| {
            let word = piece.trim_matches(|c: char| !c.is_alphanumeric());
            let start = word.as_ptr() as usize - text.as_ptr() as usize;
            (!word.is_empty()).then_some((start, start + word.len(), word))
        })
        .collect()
}

/// How many of `words` the name takes, if it stands at their beginning.
fn matches(name: &str, words: &[(usize, usize, &str)]) -> Option<usize> {
    let mut length = 0;
    for part in name.split_whitespace() {
        let (_, _, word) = words.get(length)?;
        if !word.eq_ignore_ascii_case(part) {
            return None;
        }
        length += 1;
    }
    (length > 0).then_some(length)
}
