//! The paths that a Rust source uses, as far as they tell which module or crate it depends on: those
//! that begin with `crate`, `self`, `super` or the name of a crate. Comments and strings are passed
//! over, braces are taken apart (`crate::{a::b, c}`), and `super` is resolved. Not a parser of Rust: a
//! path that a macro puts together is not seen, and none here does so.

/// A path that a source uses: its parts, and the line that it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub path: Vec<String>,
    pub line: usize,
}

/// A file with its path below the folder of sources.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    pub source: String,
}

impl File {
    /// The module that the file is: `a/b.rs` and `a/b/mod.rs` are `["a", "b"]`, `lib.rs` is `[]`.
    pub fn module(&self) -> Vec<&str> {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let mut parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["lib"] | ["main"] => parts.clear(),
            [.., "mod"] => _ = parts.pop(),
            _ => {}
        }
        parts
    }

    /// The paths that the file uses; those of its own crate begin with `crate`.
    pub fn imports(&self) -> Vec<Import> {
        let tokens = tokens(&self.source);
        let mut scanner = Scanner { tokens: &tokens, at: 0, found: Vec::new() };
        scanner.run(self.module().into_iter().map(str::to_owned).collect());
        scanner.found
    }
}

/// What breaks the order in which `rooms` are declared: a room of a crate is a folder or file beside
/// its root, and uses none that stands behind it. The root knows them all.
pub fn against_order(rooms: &[&str], files: &[File]) -> Vec<String> {
    let place = |room: &str| rooms.iter().position(|other| *other == room);
    let mut faults = Vec::new();
    for file in files {
        let module = file.module();
        let Some(room) = module.first() else { continue };
        let Some(own) = place(room) else {
            faults.push(format!("{}:1: `{room}` has no place in the declared order", file.path));
            continue;
        };
        for Import { path, line } in file.imports() {
            let [root, other, ..] = path.as_slice() else { continue };
            if root != "crate" {
                continue;
            }
            // A name that is no module of the root is an item of it, or of the root's own imports.
            let Some(at) = place(other) else {
                faults.push(format!(
                    "{}:{line}: `{room}` uses `crate::{other}`, which has no place in the declared \
                     order",
                    file.path
                ));
                continue;
            };
            if at > own {
                faults.push(format!(
                    "{}:{line}: `{room}` uses `{other}`, which stands behind it",
                    file.path
                ));
            }
        }
    }
    faults
}

/// What a crate's files use that is not among `allowed`, of crates that `concerned` knows.
pub fn strangers(
    files: &[File],
    allowed: &[&str],
    concerned: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for Import { path, line } in file.imports() {
            let used = path[0].as_str();
            if concerned(used) && !allowed.contains(&used) {
                faults.push(format!("{}:{line}: uses `{used}`, which stands behind it", file.path));
            }
        }
    }
    faults
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Mark(char),
}

/// The words and marks of a source with their lines, without comments and strings.
fn tokens(source: &str) -> Vec<(Token, usize)> {
    let text: Vec<char> = source.chars().collect();
    let (mut at, mut line) = (0, 1);
    let mut tokens = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while at < text.len() {
        let (c, next) = (text[at], text.get(at + 1).copied().unwrap_or(' '));
        let begin = at;
        match c {
            '/' if next == '/' => {
                while at < text.len() && text[at] != '\n' {
                    at += 1;
                }
            }
            '/' if next == '*' => {
                let mut depth = 0;
                while at < text.len() {
                    match (text[at], text.get(at + 1)) {
                        ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
                        ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            '"' => at = string_end(&text, at),
            // A character, or a lifetime.
            '\'' if next == '\\' => {
                at += 3;
                while at < text.len() && text[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' if text.get(at + 2) == Some(&'\'') => at += 3,
            '\'' => at += 1,
            ':' if next == ':' => {
                tokens.push((Token::Path, line));
                at += 2;
            }
            _ if is_word(c) => {
                while at < text.len() && is_word(text[at]) {
                    at += 1;
                }
                let word: String = text[begin..at].iter().collect();
                match (word.as_str(), text.get(at)) {
                    ("r" | "br" | "cr", Some('"' | '#')) if is_raw(&text, at) => {
                        at = raw_end(&text, at);
                    }
                    ("r", Some('#')) => at += 1,
                    ("b" | "c", Some('"')) => at = string_end(&text, at),
                    _ => tokens.push((Token::Word(word), line)),
                }
            }
            _ => {
                if !c.is_whitespace() {
                    tokens.push((Token::Mark(c), line));
                }
                at += 1;
            }
        }
        at = at.min(text.len());
        line += text[begin..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Behind the string that begins at `at` with its quote.
fn string_end(text: &[char], mut at: usize) -> usize {
    at += 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Whether the marks at `at` open a raw string, rather than a raw identifier.
fn is_raw(text: &[char], at: usize) -> bool {
    text[at..].iter().find(|c| **c != '#') == Some(&'"')
}

/// Behind the raw string whose marks begin at `at`.
fn raw_end(text: &[char], mut at: usize) -> usize {
    let marks = text[at..].iter().take_while(|c| **c == '#').count();
    at += marks + 1;
    while at < text.len() {
        let closes = text[at] == '"'
            && text[at + 1..].iter().take(marks).filter(|c| **c == '#').count() == marks;
        at += 1;
        if closes {
            return at + marks;
        }
    }
    at
}

struct Scanner<'a> {
    tokens: &'a [(Token, usize)],
    at: usize,
    found: Vec<Import>,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }

    /// Reads up to the brace that closes `module`, or the end.
    fn run(&mut self, module: Vec<String>) {
        let mut depth = 0;
        while let Some((token, _)) = self.tokens.get(self.at) {
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') if depth == 0 => return,
                Token::Mark('}') => depth -= 1,
                Token::Word(word) if word == "mod" => {
                    if let (Some(Token::Word(name)), Some(Token::Mark('{'))) =
                        (self.peek(1).cloned(), self.peek(2))
                    {
                        self.at += 3;
                        self.run([module.clone(), vec![name]].concat());
                    }
                }
                Token::Word(_) => {
                    let goes_on = self.at > 0 && self.tokens[self.at - 1].0 == Token::Path;
                    if !goes_on && self.peek(1) == Some(&Token::Path) {
                        self.path(&module, Vec::new());
                        continue;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Reads a path, with all that its braces hold.
    fn path(&mut self, module: &[String], mut parts: Vec<String>) {
        let line = self.tokens[self.at].1;
        loop {
            match self.peek(0).cloned() {
                Some(Token::Word(word)) => {
                    parts.push(word);
                    self.at += 1;
                    if self.peek(0) != Some(&Token::Path) {
                        break;
                    }
                    self.at += 1;
                }
                Some(Token::Mark('{')) => {
                    self.at += 1;
                    loop {
                        match self.peek(0) {
                            Some(Token::Word(_)) => self.path(module, parts.clone()),
                            Some(Token::Mark(',' | '*')) => self.at += 1,
                            Some(Token::Mark('}')) => {
                                self.at += 1;
                                return;
                            }
                            _ => return,
                        }
                    }
                }
                // `*`, or `<` of `::<T>`, which is no part of a path.
                _ => break,
            }
        }
        if let (Some(Token::Word(word)), Some(Token::Word(_))) = (self.peek(0), self.peek(1))
            && word == "as"
        {
            self.at += 2;
        }
        if let Some(path) = resolved(module, parts) {
            self.found.push(Import { path, line });
        }
    }
}

/// A path from the root of its crate; none where it leads above it.
fn resolved(module: &[String], mut parts: Vec<String>) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut relative = false;
    while let Some(first) = parts.first() {
        match first.as_str() {
            "self" => {}
            "super" => _ = base.pop()?,
            _ => break,
        }
        relative = true;
        parts.remove(0);
    }
    match relative {
        true => Some([vec!["crate".to_owned()], base, parts].concat()),
        false => Some(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, source: &str) -> File {
        File { path: path.into(), source: source.into() }
    }

    fn paths(source: &str) -> Vec<String> {
        let imports = file("search/filter/bind.rs", source).imports();
        imports.iter().map(|import| format!("{}@{}", import.path.join("::"), import.line)).collect()
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        assert_eq!(
            paths(
                "use crate::a::b;\n\nfn f(x: crate::c::D) -> super::E { self::g::<u8>(crate::h()) }"
            ),
            [
                "crate::a::b@1",
                "crate::c::D@3",
                "crate::search::filter::E@3",
                "crate::search::filter::bind::g@3",
                "crate::h@3"
            ]
        );
    }

    #[test]
    fn braces_are_taken_apart() {
        assert_eq!(
            paths("use crate::{a::{self, B}, c as d,\n    e::*};\nuse super::super::run;"),
            [
                "crate::a::self@1",
                "crate::a::B@1",
                "crate::c@1",
                "crate::e@2",
                "crate::search::run@3"
            ]
        );
    }

    #[test]
    fn what_only_tells_of_a_path_is_none() {
        let source = r##"
            //! [`crate::a`]
            /* crate::b /* crate::c */ crate::d */
            const S: &str = "crate::e \" crate::f";
            const R: &str = r#"crate::g " crate::h"#;
            pub(crate) fn f<'a>(c: char) -> bool { c == '"' || c == '\'' || c == 'x' }
            use crate::i;
        "##;
        assert_eq!(paths(source), ["crate::i@7"]);
    }

    #[test]
    fn an_inline_module_is_one() {
        assert_eq!(
            paths("mod tests { use super::*; use super::super::parse; }\nuse super::run;"),
            [
                "crate::search::filter::bind@1",
                "crate::search::filter::parse@1",
                "crate::search::filter::run@2"
            ]
        );
    }

    /// The order is worth what the test finds: each way to write a backward import, each with its file
    /// and line.
    #[test]
    fn a_backward_import_is_found() {
        let rooms = ["error", "encoder", "search"];
        let faults = |source| against_order(&rooms, &[file("encoder/functions.rs", source)]);
        assert_eq!(
            faults("use crate::error::Failure;\nuse crate::search::prompt;\n"),
            ["encoder/functions.rs:2: `encoder` uses `search`, which stands behind it"]
        );
        for source in [
            "use crate::{error, search};",
            "use super::super::search;",
            "fn f() { crate::search::g() }",
            "pub use crate::search as hidden;",
        ] {
            assert_eq!(faults(source).len(), 1, "{source}");
        }
        assert_eq!(
            faults("use crate::stranger::X;"),
            [
                "encoder/functions.rs:1: `encoder` uses `crate::stranger`, which has no place in the declared order"
            ]
        );
        let unknown = against_order(&rooms, &[file("new.rs", "")]);
        assert_eq!(unknown, ["new.rs:1: `new` has no place in the declared order"]);
        let forward = "use crate::error::Failure;\nuse super::client;\nuse self::own;";
        assert_eq!(faults(forward), Vec::<String>::new());
        assert_eq!(
            against_order(&rooms, &[file("lib.rs", "use crate::search::x;")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_crate_that_stands_behind_is_found() {
        let source = "use pgclip_simd::level;\nfn f() { pgclip_encoder::serve() }\nuse serde::X;";
        let faults = strangers(&[file("lib.rs", source)], &["pgclip_simd"], |name| {
            name.starts_with("pgclip_")
        });
        assert_eq!(faults, ["lib.rs:2: uses `pgclip_encoder`, which stands behind it"]);
    }
}
