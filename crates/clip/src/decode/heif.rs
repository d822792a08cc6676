//! AVIF and HEIC, telephones' format, by the system's libheif, which is looked for when a picture of
//! theirs comes and used where it is there. RGB, or RGBA where the file has alpha, turned as the file says.
//!
//! HEVC's decoders are patented in places, so none is built in. Of AV1's the one in Rust that is kept
//! up (rav1d 1.1) decodes well, but ends the process over some damaged files: its entrances are C's,
//! which no panic leaves.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use super::{DecodeError, Decoded, Format, Limits, Mode, bmff, buffer};

/// Names that the system's library has.
const NAMES: [&CStr; 2] = [c"libheif.so.1", c"libheif.so"];
/// What to do where it is not there.
fn install(format: Format) -> String {
    let (plugin, fedora) = match format {
        Format::Avif => ("libheif-plugin-dav1d", "libheif"),
        _ => ("libheif-plugin-libde265", "libheif and libheif-freeworld"),
    };
    format!(
        "{format}, which the server decodes with libheif: install it (Debian and Ubuntu: libheif1 and, \
         where it is apart, {plugin}; Fedora: {fedora}), or convert the picture"
    )
}

/// Bytes a pixel while it is decoded, with the result: frames, tiles, colours.
const DECODING: u64 = 16;

/// libheif's `heif_error`.
#[repr(C)]
struct Fault {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

/// `heif_error_Unsupported_filetype`, `_Unsupported_feature`, `_Plugin_loading_error`, and
/// `_Memory_allocation_error`.
const UNSUPPORTED: [c_int; 3] = [3, 4, 12];
const NO_MEMORY: c_int = 6;
/// `heif_colorspace_RGB`, `heif_chroma_interleaved_RGB` and `_RGBA`, `heif_channel_interleaved`.
const RGB: c_int = 1;
const INTERLEAVED: [c_int; 2] = [10, 11];
const CHANNEL: c_int = 10;

/// The functions of libheif that are used, by their names and types in `heif.h`.
struct Library {
    context_alloc: unsafe extern "C" fn() -> *mut c_void,
    context_free: unsafe extern "C" fn(*mut c_void),
    read: unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_void) -> Fault,
    primary: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Fault,
    handle_release: unsafe extern "C" fn(*const c_void),
    width: unsafe extern "C" fn(*const c_void) -> c_int,
    height: unsafe extern "C" fn(*const c_void) -> c_int,
    has_alpha: unsafe extern "C" fn(*const c_void) -> c_int,
    decode:
        unsafe extern "C" fn(*const c_void, *mut *mut c_void, c_int, c_int, *const c_void) -> Fault,
    image_release: unsafe extern "C" fn(*const c_void),
    image_width: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    image_height: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    plane: unsafe extern "C" fn(*const c_void, c_int, *mut c_int) -> *const u8,
    /// Of 1.11 and later: whether colours are multiplied with alpha.
    premultiplied: Option<unsafe extern "C" fn(*const c_void) -> c_int>,
    /// Of 1.13 and later: how many threads a context may start.
    threads: Option<unsafe extern "C" fn(*mut c_void, c_int)>,
}

impl Library {
    /// Opens the system's library; each time anew, so that installing it mends a running server. It is
    /// never closed again, and a second time costs nothing.
    fn open() -> Option<Self> {
        let handle = NAMES
            .iter()
            // SAFETY: the library's initialisation is its own.
            .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) })
            .find(|handle| !handle.is_null())?;
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            (!symbol.is_null()).then_some(symbol)
        };
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: heif.h declares it with the type of this field.
                symbol($name).map(|symbol| unsafe { std::mem::transmute_copy(&symbol) })
            };
        }
        Some(Self {
            context_alloc: function!(c"heif_context_alloc")?,
            context_free: function!(c"heif_context_free")?,
            read: function!(c"heif_context_read_from_memory_without_copy")?,
            primary: function!(c"heif_context_get_primary_image_handle")?,
            handle_release: function!(c"heif_image_handle_release")?,
            width: function!(c"heif_image_handle_get_width")?,
            height: function!(c"heif_image_handle_get_height")?,
            has_alpha: function!(c"heif_image_handle_has_alpha_channel")?,
            decode: function!(c"heif_decode_image")?,
            image_release: function!(c"heif_image_release")?,
            image_width: function!(c"heif_image_get_width")?,
            image_height: function!(c"heif_image_get_height")?,
            plane: function!(c"heif_image_get_plane_readonly")?,
            premultiplied: function!(c"heif_image_is_premultiplied_alpha"),
            threads: function!(c"heif_context_set_max_decoding_threads"),
        })
    }
}

/// Something of libheif's, given back at the end.
struct Owned<T>(T, unsafe extern "C" fn(T))
where
    T: Copy;

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the function takes back what it made, once.
        unsafe { (self.1)(self.0) }
    }
}

pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    format: Format,
) -> Result<Decoded, DecodeError> {
    let corrupt = |message: &str| DecodeError::Corrupt { format, message: message.into() };
    let meta = bmff::meta(bytes).ok_or_else(|| DecodeError::Truncated {
        format,
        bytes: bytes.len(),
        message: "its meta box is missing".into(),
    })?;
    let said = bmff::picture(meta).ok_or_else(|| corrupt("its meta box is damaged"))?;
    limits.check(said.width.into(), said.height.into(), DECODING)?;
    let library =
        Library::open().ok_or_else(|| DecodeError::Unsupported { found: install(format) })?;
    // SAFETY: no precondition.
    let context = unsafe { (library.context_alloc)() };
    if context.is_null() {
        return Err(no_memory(format));
    }
    let context = Owned(context, library.context_free);
    if let Some(threads) = library.threads {
        // SAFETY: the context lives. Decoding is on this thread, which others wait for.
        unsafe { threads(context.0, 0) };
    }
    let (data, length) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the bytes outlive the context; no options.
    checked(unsafe { (library.read)(context.0, data, length, ptr::null()) }, format)?;
    let mut handle = ptr::null_mut();
    // SAFETY: the context lives, and the handle is there to be written.
    checked(unsafe { (library.primary)(context.0, &mut handle) }, format)?;
    let handle = Owned(handle.cast_const(), library.handle_release);
    // SAFETY: the handle lives.
    let size = unsafe { ((library.width)(handle.0), (library.height)(handle.0)) };
    let most = match said.turned {
        true => (said.height, said.width),
        false => (said.width, said.height),
    };
    let (width, height) = (size.0.max(0) as u32, size.1.max(0) as u32);
    // It may be cut by `clap`, but is no larger than what memory was kept for.
    if width == 0 || height == 0 || width > most.0 || height > most.1 {
        return Err(corrupt("its picture is of another size than it says"));
    }
    // SAFETY: the handle lives.
    let alpha = unsafe { (library.has_alpha)(handle.0) } != 0;
    let mode = if alpha { Mode::Rgba } else { Mode::Rgb };
    let mut image = ptr::null_mut();
    let chroma = INTERLEAVED[usize::from(alpha)];
    // SAFETY: the handle lives, the image is there to be written; no options.
    checked(unsafe { (library.decode)(handle.0, &mut image, RGB, chroma, ptr::null()) }, format)?;
    let image = Owned(image.cast_const(), library.image_release);
    // SAFETY: the image lives.
    let found = unsafe {
        ((library.image_width)(image.0, CHANNEL), (library.image_height)(image.0, CHANNEL))
    };
    let mut stride = 0;
    // SAFETY: the image lives, and the stride is there to be written.
    let plane = unsafe { (library.plane)(image.0, CHANNEL, &mut stride) };
    let row = width as usize * mode.channels();
    if found != size || plane.is_null() || (stride as usize) < row {
        return Err(corrupt("its pixels are of another kind than it says"));
    }
    let mut pixels = buffer(row * height as usize)?;
    for (y, out) in pixels.chunks_exact_mut(row).enumerate() {
        // SAFETY: the plane has `height` rows of `stride` bytes, of which a row's pixels are taken.
        let from = unsafe { std::slice::from_raw_parts(plane.add(y * stride as usize), row) };
        out.copy_from_slice(from);
    }
    // SAFETY: the image lives.
    if alpha && library.premultiplied.is_some_and(|is| unsafe { is(image.0) } != 0) {
        divide(&mut pixels);
    }
    Ok(Decoded { width, height, mode, pixels, palette: Vec::new() })
}

/// Takes alpha out of the colours that it was multiplied into.
fn divide(pixels: &mut [u8]) {
    for [red, green, blue, alpha] in pixels.as_chunks_mut::<4>().0 {
        let alpha = u32::from(*alpha);
        for colour in [red, green, blue] {
            let whole = (u32::from(*colour) * 255 + alpha / 2).checked_div(alpha).unwrap_or(0);
            *colour = whole.min(255) as u8;
        }
    }
}

fn checked(fault: Fault, format: Format) -> Result<(), DecodeError> {
    if fault.code == 0 {
        return Ok(());
    }
    let message = match fault.message.is_null() {
        true => format!("error {} of libheif's", fault.code),
        // SAFETY: libheif's messages are constant, or live as long as the context.
        false => unsafe { CStr::from_ptr(fault.message) }.to_string_lossy().into_owned(),
    };
    Err(match fault.code {
        code if UNSUPPORTED.contains(&code) => {
            let found = format!("{format} that libheif cannot decode: {message}");
            DecodeError::Unsupported { found }
        }
        NO_MEMORY => no_memory(format),
        _ => DecodeError::Corrupt { format, message },
    })
}

fn no_memory(format: Format) -> DecodeError {
    let (what, limit) = (format!("the buffers of {format}"), "what the system has".into());
    DecodeError::TooLarge { what, limit }
}
