//! What open_clip does to a text before it is split.

/// The cleaned text: whitespace collapsed, lower case.
pub(super) fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}
