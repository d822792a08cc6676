//! What open_clip does to a text before it is split: ftfy's `fix_text` (6.3), Python's
//! `html.unescape` twice, whitespace collapsed, lower case.
//!
//! The steps of ftfy are here, but for the one that repairs mojibake (`mojibake`).

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::html::{WINDOWS_1252, unescape, unescape_as_ftfy};
use super::mojibake;

/// Rounds of ftfy that a line gets. ftfy goes on until nothing changes, which a text made for it
/// (`&amp;amp;amp;…`) can keep up for as many rounds as it has characters.
const ROUNDS: usize = 64;

/// The cleaned text.
pub(crate) fn clean(text: &str) -> String {
    let fixed = fix_text(text);
    let once = unescape(&fixed);
    let words = unescape(&once);
    let mut out = String::with_capacity(words.len());
    for word in words.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.to_lowercase()
}

/// ftfy's `fix_text` with its default settings.
pub(crate) fn fix_text(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'%' | b'\''..=b'~' | b'\t' | b'\n');
    if text.bytes().all(is_plain) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    // A literal < says that this is HTML, whose references are to stay, here and from here on.
    let mut is_html = false;
    for line in text.split_inclusive('\n') {
        is_html |= line.contains('<');
        out.push_str(&fix_line(line, !is_html));
    }
    out.into()
}

fn fix_line(line: &str, unescape_html: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..ROUNDS {
        let unescaped = if unescape_html { unescape_as_ftfy(&text) } else { (&text).into() };
        let repaired = mojibake::repair(&unescaped);
        let next: String =
            remove_escapes(&replaced(&repaired)).chars().filter(is_wanted).nfc().collect();
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Single characters that ftfy replaces: C1 controls, ligatures, widths, quotes, line breaks.
fn replaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let character = match character {
            '\u{80}'..='\u{9f}' => WINDOWS_1252[character as usize - 0x80],
            other => other,
        };
        match character {
            '\r' => {
                characters.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{3000}' => out.push(' '),
            'ﬅ' => out.push_str("ſt"),
            'Ĳ' | 'ĳ' | 'ŉ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' | 'ﬀ'..='ﬆ' | '\u{ff01}'..='\u{ffef}' =>
            {
                out.extend([character].into_iter().nfkc().map(uncurled));
            }
            other => out.push(uncurled(other)),
        }
    }
    out
}

/// Straight quotes for curly ones.
fn uncurled(character: char) -> char {
    match character {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        other => other,
    }
}

/// The text without the sequences that colour a terminal's output.
fn remove_escapes(text: &str) -> Cow<'_, str> {
    static ESCAPE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("the pattern is right"));
    if text.contains('\x1b') { ESCAPE.replace_all(text, "") } else { text.into() }
}

/// Whether a character is to stay: no control character that has no effect on a text.
fn is_wanted(character: &char) -> bool {
    !matches!(
        character,
        '\0'..='\x08'
            | '\x0b'
            | '\x0e'..='\x1f'
            | '\x7f'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_made_to_take_long_does_not() {
        let nested = format!("&{};", "amp;".repeat(30_000));
        assert!(clean(&nested).starts_with("&amp;"));
        let marks = format!("a{}", "\u{301}".repeat(100_000));
        assert_eq!(clean(&marks).chars().count(), 100_000);
    }

    #[test]
    fn html_keeps_its_references_in_ftfy() {
        assert_eq!(fix_text("a &amp;amp; b"), "a & b");
        assert_eq!(fix_text("<b> &amp;amp; b"), "<b> &amp;amp; b");
        assert_eq!(clean("<b> &amp;amp;amp; b"), "<b> &amp; b");
    }
}
