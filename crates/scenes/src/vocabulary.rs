//! Every word that a caption can use, from which a trainer learns the tokens that its text tower
//! must know.

use std::collections::BTreeSet;

use crate::attributes::{Colour, MAKES, VehicleType};

/// Words of captions that are no attribute's name, with the marks and numbers.
const OTHERS: &str = "
    a an the this is there that who and or in on of with by from over to at than , . -
    18 60 photo image picture camera cameras footage frame video web cctv
    taken traffic surveillance seen recorded captured photographed security road street outdoors
    vehicle gray car saloon van mpv minibus coach lorry
    pedestrian person man woman lady boy girl child young old elderly male female
    someone walks walking foot between years aged adult minor less age younger not least older
    he she his her body facing back standing sideways behind front side
    backpack handbag shoulderbag shoulder bag has carrying holding clutching holds objects box
    wearning wearing hat glasses longcoat coat long boots
    short sleeve sleeves shirt tee upper stripe stripes striped logo plaid splice two colour
    skirt dress shorts trousers
";

/// All words in lower case, sorted, without duplicates; marks and numbers are words of their own.
pub fn vocabulary() -> Vec<String> {
    let colours = Colour::ALL.iter().map(|c| c.word());
    let types = VehicleType::ALL.iter().map(|t| t.word());
    let named = MAKES.iter().copied().chain(colours).chain(types);
    let names = named.flat_map(split).map(|w| w.to_lowercase());
    let all: BTreeSet<String> = names.chain(OTHERS.split_whitespace().map(str::to_owned)).collect();
    all.into_iter().collect()
}

/// Runs of letters, runs of digits, and single marks.
pub fn split(text: &str) -> Vec<&str> {
    let class = |c: char| match c {
        c if c.is_alphabetic() => 0,
        c if c.is_ascii_digit() => 1,
        c if c.is_whitespace() => 2,
        _ => 3,
    };
    let mut parts = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (i, c) in text.char_indices() {
        if last.is_some_and(|l| l != class(c) || l == 3) {
            parts.push(&text[start..i]);
            start = i;
        }
        last = Some(class(c));
    }
    parts.push(&text[start..]);
    parts.retain(|p| !p.trim().is_empty());
    parts
}
