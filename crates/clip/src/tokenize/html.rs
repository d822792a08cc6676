//! Character references, as Python's `html.unescape` and as ftfy decode them: the two differ in
//! what they leave alone, and no crate at hand does either.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use entities::ENTITIES;
use regex::{Captures, Regex};

/// Characters by name, as in `amp;`; some names are there without the semicolon too.
static NAMED: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| ENTITIES.iter().map(|e| (&e.entity[1..], e.characters)).collect());

/// ftfy's additions: names in small letters, written in capitals, where that is no name already.
static CAPITALS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let small = NAMED
        .iter()
        .filter(|(name, _)| name.ends_with(';') && !name.chars().any(|c| c.is_ascii_uppercase()));
    small
        .map(|(name, characters)| (name.to_uppercase(), characters.to_uppercase()))
        .filter(|(name, _)| {
            let reference = format!("&{name}");
            unescape(&reference) == reference
        })
        .collect()
});

/// What windows-1252 has at 0x80 to 0x9f; what it leaves free stands for itself.
pub(super) const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Python's `html.unescape`: the HTML 5 rules for valid and invalid references.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\x0c <&#;]{1,32};?)")
            .expect("the pattern is right")
    });
    if !text.contains('&') {
        return text.into();
    }
    REFERENCE.replace_all(text, |found: &Captures| {
        let name = &found[1];
        if let Some(number) = name.strip_prefix('#') {
            return numeric(number);
        }
        if let Some(characters) = NAMED.get(name) {
            return (*characters).to_owned();
        }
        // The longest name that is known and its start, of two characters at least.
        let ends = name.char_indices().map(|(at, _)| at).skip(2).collect::<Vec<_>>();
        for end in ends.into_iter().rev() {
            if let Some(characters) = NAMED.get(&name[..end]) {
                return format!("{characters}{}", &name[end..]);
            }
        }
        found[0].to_owned()
    })
}

/// The character of a numeric reference, without its `#`.
fn numeric(number: &str) -> String {
    let digits = number.trim_end_matches(';');
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    match code.unwrap_or(u32::MAX) {
        0 => "\u{fffd}".into(),
        0x0d => "\r".into(),
        code @ 0x80..=0x9f => WINDOWS_1252[code as usize - 0x80].into(),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        code if code <= 0x10_ffff && code & 0xfffe == 0xfffe => String::new(),
        code => char::from_u32(code).unwrap_or('\u{fffd}').into(),
    }
}

/// ftfy's milder rule: only what ends in a semicolon, but names in capitals as well.
pub(super) fn unescape_as_ftfy(text: &str) -> Cow<'_, str> {
    static REFERENCE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"&(#?[0-9A-Za-z]{1,24};)").expect("the pattern is right"));
    if !text.contains('&') {
        return text.into();
    }
    REFERENCE.replace_all(text, |found: &Captures| {
        let name = &found[1];
        if let Some(characters) = NAMED.get(name) {
            return (*characters).to_owned();
        }
        if let Some(characters) = CAPITALS.get(name) {
            return characters.clone();
        }
        if name.starts_with('#') {
            let decoded = unescape(&found[0]);
            if !decoded.contains(';') {
                return decoded.into_owned();
            }
        }
        found[0].to_owned()
    })
}
