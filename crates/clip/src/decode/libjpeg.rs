//! libjpeg's decompressor as a safe value. Its own file because all that is unsafe about JPEG is here.
//!
//! The library is libjpeg-turbo's, as vendored by `mozjpeg-sys` and built without assembler: its
//! decoder is what Pillow has, to the bit. An error of the library unwinds through its frames, which
//! are compiled for that, and ends here as a value; a warning is counted and ignored, as Pillow does.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use libc::{c_int, c_long};
use mozjpeg_sys as sys;

use super::idct;

/// Work that a picture may cost, in pixels × scans; one of this size takes about a second.
const MAX_SCAN_PIXELS: u64 = 4_000_000_000;
/// Most scans of a picture. Ten are usual, and some 200 are all that a full progression can have.
const MAX_SCANS: u64 = 1000;

/// Why the library gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JpegError {
    /// The data end before the picture does.
    Ended,
    /// More scans than are worth the work.
    Scans,
    /// The library's own code and message, without the values that it would quote.
    Library { code: c_int, message: String },
}

pub(super) use sys::J_COLOR_SPACE as Colours;

/// A picture under decompression, with its bytes.
///
/// The C structs are boxed since they point at each other.
pub(super) struct Jpeg<'a> {
    info: Box<sys::jpeg_decompress_struct>,
    _error: Box<sys::jpeg_error_mgr>,
    source: Box<sys::jpeg_source_mgr>,
    _progress: Box<sys::jpeg_progress_mgr>,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Jpeg<'a> {
    /// Reads the header of `bytes`; `tables` are a stream of tables alone that comes before it.
    pub(super) fn new(tables: Option<&'a [u8]>, bytes: &'a [u8]) -> Result<Self, JpegError> {
        // SAFETY: all four are C structs for which zeros are a valid value (null pointers, `None`).
        let mut error: Box<sys::jpeg_error_mgr> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: as above.
        let mut source: Box<sys::jpeg_source_mgr> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: as above.
        let mut progress: Box<sys::jpeg_progress_mgr> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: as above.
        let mut info: Box<sys::jpeg_decompress_struct> = Box::new(unsafe { std::mem::zeroed() });
        progress.progress_monitor = Some(watch);
        source.init_source = Some(nothing);
        source.fill_input_buffer = Some(suspend);
        source.skip_input_data = Some(skip);
        source.resync_to_restart = Some(sys::jpeg_resync_to_restart);
        source.term_source = Some(nothing);
        // SAFETY: `error` outlives the call, and lives as long as `info` does.
        unsafe { sys::jpeg_std_error(&mut error) };
        error.error_exit = Some(exit);
        error.emit_message = Some(emit);
        error.output_message = Some(silent);
        info.common.err = &mut *error;
        caught(|| {
            // SAFETY: a zeroed struct with an error manager is what the library wants.
            unsafe { sys::jpeg_create_decompress(&mut *info) };
        })?;
        // SAFETY: the library's declaration names another struct and no type for the function, and
        // takes this struct and a function of this type.
        unsafe {
            let set: unsafe extern "C-unwind" fn(
                *mut sys::jpeg_decompress_struct,
                *const libc::c_void,
            ) = std::mem::transmute(sys::jpeg_set_idct_method_selector as *const ());
            set(&mut *info, idct::select as *const libc::c_void);
        }
        info.common.progress = &mut *progress;
        info.src = &mut *source;
        let mut jpeg =
            Self { info, _error: error, source, _progress: progress, bytes: PhantomData };
        for (part, is_image) in
            tables.map(|tables| (tables, false)).into_iter().chain([(bytes, true)])
        {
            jpeg.source.next_input_byte = part.as_ptr();
            jpeg.source.bytes_in_buffer = part.len();
            // SAFETY: the struct was created, and the source has its bytes, which outlive it.
            let found = jpeg.call(|info| unsafe { sys::jpeg_read_header(info, 0) })?;
            match found {
                SUSPENDED => return Err(JpegError::Ended),
                TABLES_ONLY if !is_image => {}
                TABLES_ONLY => {
                    let message = "JPEG datastream contains no image".into();
                    return Err(JpegError::Library { code: 0, message });
                }
                _ => {}
            }
        }
        Ok(jpeg)
    }

    pub(super) fn width(&self) -> u32 {
        self.info.image_width
    }

    pub(super) fn height(&self) -> u32 {
        self.info.image_height
    }

    pub(super) fn components(&self) -> usize {
        self.info.num_components as usize
    }

    /// The colours that the library takes the stored ones for.
    pub(super) fn stored_colours(&self) -> Colours {
        self.info.jpeg_color_space
    }

    /// Whether some component has fewer samples than another.
    pub(super) fn is_subsampled(&self) -> bool {
        self.info.max_h_samp_factor.max(self.info.max_v_samp_factor) > 1
            && self.component_infos().iter().any(|component| {
                (component.h_samp_factor, component.v_samp_factor)
                    != (self.info.max_h_samp_factor, self.info.max_v_samp_factor)
            })
    }

    fn component_infos(&self) -> &[sys::jpeg_component_info] {
        // SAFETY: the library has `num_components` of these once the header was read.
        unsafe { std::slice::from_raw_parts(self.info.comp_info, self.components()) }
    }

    /// Sets what the stored colours are to be taken for, and what they become.
    pub(super) fn set_colours(&mut self, stored: Colours, out: Colours) {
        self.info.jpeg_color_space = stored;
        self.info.out_color_space = out;
    }

    /// Counts scans against the work of a picture of so many pixels, of which this one is a part.
    pub(super) fn set_whole(&mut self, pixels: u64) {
        self.info.common.client_data = pixels as *mut libc::c_void;
    }

    /// Divides each side by 1, 2, 4 or 8 as the coefficients are transformed.
    pub(super) fn set_scale(&mut self, parts: u32) {
        self.info.scale_num = 1;
        self.info.scale_denom = parts;
    }

    /// Bytes of the coefficients of all blocks, which a picture of more scans than one is kept as.
    pub(super) fn coefficient_bytes(&self) -> u64 {
        // SAFETY: the header was read.
        if unsafe { sys::jpeg_has_multiple_scans(&self.info) } == 0 {
            return 0;
        }
        self.component_infos()
            .iter()
            .map(|c| 128 * u64::from(c.width_in_blocks + 8) * u64::from(c.height_in_blocks + 8))
            .sum()
    }

    /// Width, height and bytes a pixel of what [`Self::read`] gives.
    pub(super) fn start(&mut self) -> Result<(u32, u32, usize), JpegError> {
        // SAFETY: the header was read.
        match self.call(|info| unsafe { sys::jpeg_start_decompress(info) })? {
            0 => Err(JpegError::Ended),
            _ => {
                let info = &self.info;
                Ok((info.output_width, info.output_height, info.output_components as usize))
            }
        }
    }

    /// Reads all rows into `pixels`, of the size that [`Self::start`] told.
    ///
    /// # Panics
    /// If `pixels` has another size.
    pub(super) fn read(&mut self, pixels: &mut [u8]) -> Result<(), JpegError> {
        let row = self.info.output_width as usize * self.info.output_components as usize;
        assert_eq!(pixels.len(), row * self.info.output_height as usize, "a buffer for all rows");
        let mut rows: Vec<*mut u8> = pixels.chunks_exact_mut(row).map(<[u8]>::as_mut_ptr).collect();
        while self.info.output_scanline < self.info.output_height {
            let at = self.info.output_scanline as usize;
            let left = &mut rows[at..];
            let (first, count) = (left.as_mut_ptr(), left.len() as u32);
            // SAFETY: `first` points at `count` rows of the output's width that nobody else sees.
            if self.call(|info| unsafe { sys::jpeg_read_scanlines(info, first, count) })? == 0 {
                return Err(JpegError::Ended);
            }
        }
        // The rest up to the end is looked at, as Pillow does: an error in it counts, its lack does not.
        // SAFETY: all rows were read.
        self.call(|info| unsafe { sys::jpeg_finish_decompress(info) })?;
        Ok(())
    }

    fn call<T>(
        &mut self,
        work: impl FnOnce(&mut sys::jpeg_decompress_struct) -> T,
    ) -> Result<T, JpegError> {
        caught(|| work(&mut self.info))
    }
}

impl Drop for Jpeg<'_> {
    fn drop(&mut self) {
        // SAFETY: the struct was created, and may be destroyed in any state.
        let _ = self.call(|info| unsafe { sys::jpeg_destroy_decompress(info) });
    }
}

const SUSPENDED: c_int = 0;
const TABLES_ONLY: c_int = 2;

/// Turns the unwinding that [`exit`] began into an error.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, JpegError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|cause| match cause.downcast::<JpegError>() {
        Ok(error) => *error,
        Err(panic) => resume_unwind(panic),
    })
}

/// The library's way to say that it cannot go on; it must not return.
unsafe extern "C-unwind" fn exit(common: &mut sys::jpeg_common_struct) {
    // SAFETY: the library calls with its own structs; the table has an entry for each code.
    let error = unsafe {
        let manager = &*common.err;
        let code = manager.msg_code;
        let template = if (0..=manager.last_jpeg_message).contains(&code) {
            *manager.jpeg_message_table.add(code as usize)
        } else {
            ptr::null()
        };
        let template = if template.is_null() {
            "unknown error".into()
        } else {
            std::ffi::CStr::from_ptr(template.cast()).to_string_lossy()
        };
        // Values would be bytes of the data, which nobody is shown.
        let words = template.split('%').next().unwrap_or_default();
        let message = words.trim_end_matches("0x").trim_end_matches([' ', ':', '=', '(']);
        JpegError::Library { code, message: message.into() }
    };
    resume_unwind(Box::new(error));
}

/// Warnings and traces: counted, not told.
unsafe extern "C-unwind" fn emit(common: &mut sys::jpeg_common_struct, level: c_int) {
    if level < 0 {
        // SAFETY: the library calls with its own structs.
        unsafe { (*common.err).num_warnings += 1 };
    }
}

unsafe extern "C-unwind" fn silent(_: &mut sys::jpeg_common_struct) {}

unsafe extern "C-unwind" fn nothing(_: &mut sys::jpeg_decompress_struct) {}

/// There is no more than what there was at first.
unsafe extern "C-unwind" fn suspend(_: &mut sys::jpeg_decompress_struct) -> sys::boolean {
    0
}

unsafe extern "C-unwind" fn skip(info: &mut sys::jpeg_decompress_struct, count: c_long) {
    // SAFETY: the source is ours and lives as long as the struct.
    let source = unsafe { &mut *info.src };
    let count = usize::try_from(count).unwrap_or(0).min(source.bytes_in_buffer);
    // SAFETY: not past the end of the buffer.
    source.next_input_byte = unsafe { source.next_input_byte.add(count) };
    source.bytes_in_buffer -= count;
}

/// Called once a row of blocks; ends pictures of scan upon scan.
unsafe extern "C-unwind" fn watch(common: &mut sys::jpeg_common_struct) {
    // SAFETY: `common` is the first member of the struct of every decompressor, and only
    // decompressors have this monitor.
    let info =
        unsafe { &*ptr::from_mut(common).cast_const().cast::<sys::jpeg_decompress_struct>() };
    let whole = info.common.client_data as u64;
    let pixels = (u64::from(info.image_width) * u64::from(info.image_height)).max(whole);
    let scans = u64::try_from(info.input_scan_number).unwrap_or(0);
    if scans > MAX_SCANS || scans.saturating_mul(pixels) > MAX_SCAN_PIXELS.max(pixels) {
        resume_unwind(Box::new(JpegError::Scans));
    }
}
