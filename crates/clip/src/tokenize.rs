//! CLIP's tokeniser: a text to the token ids that open_clip 3.3's `SimpleTokenizer` gives it.
//!
//! Cleaning (in `clean`), splitting into words, and byte-pair encoding of each word. The encoding
//! is our own because the libraries at hand take time quadratic in the length of a word, and a
//! text may be one word of megabytes; here it is n log n, and no more words are encoded than fit.

mod clean;
mod html;
mod mojibake;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{LazyLock, OnceLock};

use regex::Regex;

use crate::model::CLIP_VOCABULARY;

/// Token that every text starts with.
pub const START_OF_TEXT: i64 = CLIP_VOCABULARY as i64 - 2;
/// Token that every text ends with, also a truncated one; the largest of all ids.
pub const END_OF_TEXT: i64 = CLIP_VOCABULARY as i64 - 1;

/// Bytes of a text that are looked at. 77 tokens are a few hundred bytes of text.
pub const MAX_TEXT_BYTES: usize = 1_000_000;

/// The merges of CLIP's byte-pair encoding in order of rank, from open_clip (MIT), OpenAI's own.
const MERGES: &str = include_str!("../data/clip_merges.txt");

/// Words: the two marks, English contractions, runs of letters, single digits, runs of the rest.
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    )
    .expect("the pattern is right")
});

/// The tokeniser of all CLIP models with 49,408 tokens.
#[derive(Debug)]
pub struct Tokenizer {
    /// The merged token of two adjacent ones; a smaller one is merged first.
    merges: HashMap<(u32, u32), u32>,
}

impl Tokenizer {
    /// The tokeniser, built at first use (some milliseconds).
    pub fn clip() -> &'static Self {
        static CLIP: OnceLock<Tokenizer> = OnceLock::new();
        CLIP.get_or_init(|| Self::from_merges(MERGES))
    }

    /// Ids 0 to 255 are bytes, 256 to 511 bytes at a word's end, then one id a merge.
    fn from_merges(text: &str) -> Self {
        let symbols = byte_symbols();
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(2 * CLIP_VOCABULARY as usize);
        for (id, (symbol, _)) in (0..).zip(&symbols) {
            ids.insert(symbol.to_string(), id);
            ids.insert(format!("{symbol}</w>"), id + 256);
        }
        let mut merges = HashMap::with_capacity(CLIP_VOCABULARY as usize);
        for (id, line) in (512..).zip(text.lines().skip(1)) {
            let (first, second) = line.split_once(' ').expect("a merge has two parts");
            merges.insert((ids[first], ids[second]), id);
            ids.insert(format!("{first}{second}"), id);
        }
        Self { merges }
    }

    /// The ids of a text, `context_length` of them: start, the text's own, end, then zeros. A text
    /// that is too long is cut so that the end fits. Any text will do; only the first
    /// [`MAX_TEXT_BYTES`] of it are looked at.
    pub fn encode(&self, text: &str, context_length: usize) -> Vec<i64> {
        let text = clean::clean(&text[..text.floor_char_boundary(MAX_TEXT_BYTES)]);
        let mut ids = Vec::with_capacity(context_length.max(2));
        ids.push(START_OF_TEXT);
        for word in WORDS.find_iter(&text) {
            if ids.len() >= context_length {
                break;
            }
            match word.as_str() {
                "<start_of_text>" => ids.push(START_OF_TEXT),
                "<end_of_text>" => ids.push(END_OF_TEXT),
                word => self.encode_word(word.as_bytes(), &mut ids),
            }
        }
        ids.truncate(context_length.saturating_sub(1));
        ids.push(END_OF_TEXT);
        ids.resize(context_length, 0);
        ids
    }

    /// Byte-pair encoding of one word: always the pair of lowest rank is merged, leftmost first.
    /// Tokens are a linked list; the heap holds pairs, some of them no longer there.
    fn encode_word(&self, word: &[u8], ids: &mut Vec<i64>) {
        let Some(last) = word.len().checked_sub(1) else { return };
        let mut tokens: Vec<u32> = word.iter().map(|byte| byte_id(*byte)).collect();
        tokens[last] += 256;
        // The neighbours of each token; `NONE` at the ends. A merged-away token is its own next.
        const NONE: usize = usize::MAX;
        let mut next: Vec<usize> = (1..=last).chain([NONE]).collect();
        let mut previous: Vec<usize> = [NONE].into_iter().chain(0..last).collect();
        let rank = |tokens: &[u32], left: usize, right: usize| {
            self.merges.get(&(tokens[left], tokens[right])).copied()
        };
        let mut pairs: BinaryHeap<_> =
            (0..last).filter_map(|at| Some(Reverse((rank(&tokens, at, at + 1)?, at)))).collect();
        while let Some(Reverse((merged, left))) = pairs.pop() {
            let right = next[left];
            if right == NONE || right == left || rank(&tokens, left, right) != Some(merged) {
                continue;
            }
            tokens[left] = merged;
            next[left] = next[right];
            next[right] = right;
            if next[left] != NONE {
                previous[next[left]] = left;
                pairs.extend(rank(&tokens, left, next[left]).map(|id| Reverse((id, left))));
            }
            let before = previous[left];
            if before != NONE {
                pairs.extend(rank(&tokens, before, left).map(|id| Reverse((id, before))));
            }
        }
        let mut at = 0;
        while at != NONE {
            ids.push(i64::from(tokens[at]));
            at = next[at];
        }
    }
}

/// What open_clip does to every text, whatever the tokeniser: ftfy's `fix_text`, Python's
/// `html.unescape` twice, white space off the ends.
#[cfg(feature = "tokenizers")]
pub(crate) fn basic_clean(text: &str) -> String {
    let fixed = clean::fix_text(text);
    let once = html::unescape(&fixed);
    html::unescape(&once).trim_matches(is_python_space).to_owned()
}

/// What Python splits texts at: Unicode's white space and four separators of ASCII.
#[cfg(feature = "tokenizers")]
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// The id of a byte within a word.
fn byte_id(byte: u8) -> u32 {
    static IDS: LazyLock<[u32; 256]> = LazyLock::new(|| {
        let mut ids = [0; 256];
        for (id, (_, byte)) in (0..).zip(byte_symbols()) {
            ids[usize::from(byte)] = id;
        }
        ids
    });
    IDS[usize::from(byte)]
}

/// The printable character that stands for each byte in the list of merges, in order of id: the
/// printable bytes of Latin-1 themselves, then the others from U+0100 on.
fn byte_symbols() -> Vec<(char, u8)> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let printable = (0..=255).filter(|byte| is_printable(*byte)).map(|b| (char::from(b), b));
    let others = (0..=255).filter(|byte| !is_printable(*byte));
    printable.chain(('\u{100}'..).zip(others)).collect()
}
