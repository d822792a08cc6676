//! What a user may size, and how far: every bound on an argument in one place. A bound comes before
//! memory and time are spent, since a failed allocation ends the process, and with it every session.
//! Passing one is SQLSTATE 54000 with the size and the bound.

use std::borrow::Cow;

use pgclip_wire::protocol::MAX_TEXT_BYTES;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::error::Failure;

/// Elements of an array that is encoded in one call.
pub const ITEMS: usize = 100_000;
/// Prompts of one call: labels times templates, or the templates of a domain.
pub const PROMPTS: usize = 10_000;
/// Bytes of all prompts of one call.
pub const PROMPT_BYTES: usize = 16 << 20;
/// Words of all domains, or of the values of all attributes of a domain, that a query is held against.
pub const WORDS: usize = 100_000;
/// Bytes of a filter or of options, as JSON.
pub const JSON_BYTES: usize = 1 << 20;
/// Bytes of a name or an option that is text.
pub const OPTION_BYTES: usize = 8 << 10;
/// Attributes that an option lists.
pub const LISTED: usize = 100;
/// Roles of one root.
pub const ROLES: usize = 1_000;
/// Bytes that an array may have, which is what one allocation of the server's may have.
pub const RESULT_BYTES: usize = 1 << 30;
/// Rounds of a loop over what a user sized, between two looks for interrupts.
const ROUNDS: usize = 1024;
/// How much of a value at fault a message shows, in characters.
const SHOWN: usize = 60;

/// Refuses what is larger than its bound.
pub fn check(what: &str, found: usize, most: usize) -> Result<(), Failure> {
    if found <= most {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("{what}: {found} is more than the {most} that are allowed"),
    ))
}

/// Refuses a name or an option that is too long to be one.
pub fn option(name: &str, value: Option<&str>) -> Result<(), Failure> {
    check(&format!("bytes of {name}"), value.map_or(0, str::len), OPTION_BYTES)
}

/// Refuses a text that is too long to be encoded.
pub fn text(text: &str) -> Result<(), Failure> {
    text_of(text.len())
}

/// The same for a text of so many bytes.
pub fn text_of(bytes: usize) -> Result<(), Failure> {
    check("bytes of a text", bytes, MAX_TEXT_BYTES)
        .map_err(|failure| failure.hint("Models read the beginning of a text only."))
}

/// Bytes of the prompt that `{}` in a template standing for a text of so many bytes makes.
pub fn prompt_bytes(template: &str, text: usize) -> usize {
    let places = template.matches("{}").count();
    (template.len() - 2 * places).saturating_add(places.saturating_mul(text))
}

/// Refuses a result that the server could not hold: `count` values of so many bytes each.
pub fn result(count: usize, bytes: usize) -> Result<(), Failure> {
    check("bytes of the result", count.saturating_mul(bytes.saturating_add(8)), RESULT_BYTES)
        .map_err(|failure| failure.hint("Ask for less at once."))
}

/// The bytes of a value of a type of variable length, decompressed, without reading it.
///
/// # Safety
/// `datum` must be such a value, and not NULL.
pub unsafe fn size_of_value(datum: pg_sys::Datum) -> usize {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::toast_raw_datum_size(datum) }.saturating_sub(size_of::<u32>())
}

/// Room for so many more elements, or SQLSTATE 53200.
pub fn reserve<T>(vector: &mut Vec<T>, more: usize) -> Result<(), Failure> {
    vector.try_reserve(more).map_err(|_| {
        Failure::new(Code::ERRCODE_OUT_OF_MEMORY, "out of memory")
            .detail(format!("{} bytes are not to be had.", more.saturating_mul(size_of::<T>())))
    })
}

/// Hears interrupts now and then: for each round of a long loop.
pub fn poll(round: usize) {
    if round.is_multiple_of(ROUNDS) {
        pgrx::check_for_interrupts!();
    }
}

/// The beginning of a value, for a message.
pub fn shown(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]).into(),
        None => value.into(),
    }
}
