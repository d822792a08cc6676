//! A bounded cache of text embeddings, so that a query asked again needs no inference. Its
//! own file because it knows nothing of requests: a digest and a text in, bytes out.

use pgclip_wire::protocol::ByteBuf;
use std::collections::HashMap;

/// Longer texts are not kept: queries are short.
const MAX_TEXT: usize = 1024;

type Generation = HashMap<[u8; 32], HashMap<String, ByteBuf>>;

/// Keeps what was used lately, in two generations: what is found in the old one moves to
/// the young one, and a full young one becomes the old one. Constant time, bounded memory.
#[derive(Debug)]
pub struct TextCache {
    young: Generation,
    old: Generation,
    /// Bytes of texts and embeddings in `young`.
    bytes: usize,
    /// Bytes that a generation holds at most.
    limit: usize,
}

impl TextCache {
    /// A cache of at most about `limit` bytes of texts and embeddings.
    pub fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), bytes: 0, limit: limit / 2 }
    }

    /// The embedding of a text by the model with this digest.
    pub fn get(&mut self, digest: &[u8; 32], text: &str) -> Option<ByteBuf> {
        if let Some(found) = self.young.get(digest).and_then(|texts| texts.get(text)) {
            return Some(found.clone());
        }
        let (text, found) = self.old.get_mut(digest)?.remove_entry(text)?;
        self.insert(digest, text, found.clone());
        Some(found)
    }

    pub fn insert(&mut self, digest: &[u8; 32], text: String, embedding: ByteBuf) {
        let size = text.len() + embedding.len();
        if text.len() > MAX_TEXT || size > self.limit {
            return;
        }
        if self.bytes + size > self.limit {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        if self.young.entry(*digest).or_default().insert(text, embedding).is_none() {
            self.bytes += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(n: u8) -> ByteBuf {
        ByteBuf::from(vec![n; 8])
    }

    #[test]
    fn models_are_kept_apart() {
        let mut cache = TextCache::new(1000);
        cache.insert(&[1; 32], "red".into(), embedding(1));
        assert_eq!(cache.get(&[1; 32], "red"), Some(embedding(1)));
        assert_eq!(cache.get(&[2; 32], "red"), None);
        assert_eq!(cache.get(&[1; 32], "Red"), None);
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = TextCache::new(200);
        cache.insert(&[1; 32], "kept".into(), embedding(1));
        for n in 0..100 {
            cache.insert(&[1; 32], format!("{n:04}"), embedding(2));
            assert_eq!(cache.get(&[1; 32], "kept"), Some(embedding(1)));
        }
        let held = (0..100).filter(|n| cache.get(&[1; 32], &format!("{n:04}")).is_some()).count();
        assert!(held <= 17, "{held}");
    }

    #[test]
    fn long_texts_are_not_kept() {
        let mut cache = TextCache::new(1 << 20);
        cache.insert(&[1; 32], "x".repeat(MAX_TEXT + 1), embedding(1));
        assert_eq!(cache.get(&[1; 32], &"x".repeat(MAX_TEXT + 1)), None);
    }
}
