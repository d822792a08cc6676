//! Captions of vehicles with what they do not say filled in: where the missing words go.
//!
//! Apart from `augment`, which asks a model which words these are, so that the rules are
//! tested on words alone. Nothing that a caption says is changed: words are put beside those
//! that are there, and an article before them follows.

use pgclip_query::enhance::{self, Domain};

use crate::lexicon::{Kind, Lexicon, Named};
use crate::lines::Line;

/// What a vehicle's label says about it, and what it leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vehicle {
    pub colour: Option<String>,
    pub make: Option<String>,
    pub kind: Option<String>,
    /// What the caption itself names, from left to right.
    named: Vec<Named>,
}

/// The rules, with the words they look for.
#[derive(Debug)]
pub struct Captions<'a> {
    pub lexicon: &'a Lexicon,
    /// Cut off what stands before the first attribute.
    pub drop_prefix: bool,
    domains: enhance::Lexicon<'a>,
}

impl<'a> Captions<'a> {
    /// `domains` tell persons from vehicles where the attributes do not.
    pub fn new(lexicon: &'a Lexicon, domains: &'a [Domain], drop_prefix: bool) -> Self {
        Captions { lexicon, drop_prefix, domains: enhance::Lexicon::new(domains) }
    }

    /// What the line says of its vehicle, in its caption or else in its attributes; `None`
    /// for a person, and where the caption names no type, no make and no "car".
    pub fn vehicle(&self, line: &Line) -> Option<Vehicle> {
        if line.is_person() || self.is_about_a_person(&line.caption) {
            return None;
        }
        let named = self.lexicon.find(&line.caption);
        if named.iter().all(|word| word.kind == Kind::Colour) {
            return None;
        }
        let also = self.lexicon.find(&line.attributes);
        let first = |kind| {
            let mut both = named.iter().chain(&also);
            both.find(|word| word.kind == kind).map(|word| word.name.clone())
        };
        let make = first(Kind::Make);
        let in_make = make.as_deref().and_then(|make| self.lexicon.type_in_make(make));
        let kind = first(Kind::Type).or(in_make.map(str::to_owned));
        Some(Vehicle { colour: first(Kind::Colour), make, kind, named })
    }

    fn is_about_a_person(&self, caption: &str) -> bool {
        let found = self.domains.enhance(caption, None);
        found.is_ok_and(|found| found.domain.as_deref() == Some("person"))
    }

    /// The caption with `colour` and `kind` where it names none. A "car" gives its place to
    /// the type.
    pub fn fill(&self, caption: &str, vehicle: &Vehicle, colour: &str, kind: &str) -> String {
        let of = |kind| vehicle.named.iter().find(move |word| word.kind == kind);
        let (has_colour, noun) = (of(Kind::Colour), of(Kind::Noun));
        let (make, has_kind) = (of(Kind::Make), of(Kind::Type));
        let in_make = make.and_then(|make| self.lexicon.type_in_make(&make.name));
        // (start, end, words): replacements, from left to right.
        let mut edits: Vec<(usize, usize, String)> = Vec::new();
        if has_colour.is_none() {
            let before = [make, has_kind, noun].into_iter().flatten().map(|word| word.start).min();
            edits.extend(before.map(|at| (at, at, format!("{colour} "))));
        }
        if has_kind.is_none() && in_make.is_none() {
            match (noun, make) {
                (Some(noun), _) => edits.push((noun.start, noun.end, kind.to_owned())),
                (None, Some(make)) => edits.push((make.end, make.end, format!(" {kind}"))),
                (None, None) => {}
            }
        }
        let mut text = caption.to_owned();
        for (start, end, words) in edits.iter().rev() {
            text.replace_range(*start..*end, words);
        }
        let first = vehicle.named.iter().map(|word| word.start).min().unwrap_or(0);
        match self.drop_prefix {
            true => text[first..].to_owned(),
            // The first edit is the only one that can follow an article.
            false => match edits.first() {
                Some(&(at, _, _)) => agree(&text, at),
                None => text,
            },
        }
    }
}

/// Text with the article before `at`, if there is one, in agreement with what follows.
fn agree(text: &str, at: usize) -> String {
    let before = text[..at].trim_end();
    let word = before.rsplit(' ').next().unwrap_or("");
    if !matches!(word, "a" | "A" | "an" | "An") {
        return text.to_owned();
    }
    let rest = &text[at..];
    let article = &word[..1];
    let n = if takes_an(rest) { "n" } else { "" };
    format!("{}{article}{n} {rest}", &before[..before.len() - word.len()])
}

/// Whether "an" stands before these words: vowels, and S U V spelled out.
fn takes_an(words: &str) -> bool {
    words.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O'])
        || words.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("suv"))
}

/// `{}` in a template replaced, an article before it in agreement.
pub fn in_template(template: &str, words: &str) -> String {
    match template.find("{}") {
        Some(at) => agree(&template.replacen("{}", words, 1), at),
        None => template.to_owned(),
    }
}
