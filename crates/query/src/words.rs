//! Words of a query: where they begin and end, how they compare. Apart from the rules that use
//! them, since this is all that knows about characters.

/// One word of a text, or one character of a script that sets no spaces.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    /// As written.
    pub text: &'a str,
    /// In lower case.
    pub folded: String,
    /// Byte range in the text.
    pub start: usize,
    pub end: usize,
    /// Followed by an apostrophe and an s, or by an apostrophe alone.
    pub possessive: bool,
    /// More than blanks, a hyphen, a slash or an underscore stands before it.
    pub after_break: bool,
}

/// Splits a text at everything that is no letter or digit.
pub(crate) fn tokenize(text: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = text.char_indices().peekable();
    let mut after_break = false;
    while let Some((start, c)) = rest.next() {
        if matches!(c, '\'' | '’') && tokens.last().is_some_and(|t| t.end == start) {
            let after = &text[start + c.len_utf8()..];
            let s = after.starts_with(['s', 'S']) && !after[1..].starts_with(char::is_alphanumeric);
            if s {
                rest.next();
            }
            if let Some(last) = tokens.last_mut().filter(|t| s || t.folded.ends_with('s')) {
                last.possessive = true;
                continue;
            }
        }
        if !c.is_alphanumeric() {
            after_break |= !(c.is_whitespace() || matches!(c, '-' | '/' | '_' | '‐' | '‑'));
            continue;
        }
        let mut end = start + c.len_utf8();
        if !is_unspaced(c) {
            while let Some((at, next)) =
                rest.next_if(|(_, n)| n.is_alphanumeric() && !is_unspaced(*n))
            {
                end = at + next.len_utf8();
            }
        }
        let word = &text[start..end];
        let folded = word.to_lowercase();
        tokens.push(Token { text: word, folded, start, end, possessive: false, after_break });
        after_break = false;
    }
    tokens
}

/// Letters of scripts that write words without spaces: each is a word here, a word a phrase.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// The plurals an English word may have; none for what is no Latin word.
fn plurals(word: &str) -> [Option<String>; 2] {
    let latin = word.len() > 1 && word.bytes().all(|b| b.is_ascii_alphanumeric());
    if !latin || !word.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return [None, None];
    }
    let folded = word.to_ascii_lowercase();
    let sibilant = ["s", "x", "z", "ch", "sh"].iter().any(|end| folded.ends_with(end));
    let y =
        folded.ends_with('y') && !folded[..folded.len() - 1].ends_with(['a', 'e', 'i', 'o', 'u']);
    let second = match (sibilant, y) {
        (true, _) => Some(format!("{word}es")),
        (_, true) => Some(format!("{}ies", &word[..word.len() - 1])),
        _ => None,
    };
    [Some(format!("{word}s")), second]
}

/// The forms under which an entry's first word is looked up; plurals count in single words alone.
pub(crate) fn singular_and_plural(word: &str, single: bool) -> impl Iterator<Item = String> {
    let plurals = if single { plurals(word) } else { [None, None] };
    std::iter::once(word.to_owned()).chain(plurals.into_iter().flatten())
}

/// Whether the token is the plural of `word`.
pub(crate) fn is_plural_of(token: &Token, word: &str, exact_case: bool) -> bool {
    let text = if exact_case { token.text } else { &token.folded };
    text.len() > word.len() && plurals(word).iter().flatten().any(|p| p == text)
}
