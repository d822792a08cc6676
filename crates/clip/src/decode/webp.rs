//! WebP as Pillow reads it: RGB, or RGBA where the file says that it has alpha; of an animation the
//! first frame, on a canvas of zeros. By libwebp, since no other decoder at hand has the same pixels.

use std::ptr;

use libwebp_sys as sys;

use super::{DecodeError, Decoded, Format, Limits, Mode, buffer, orient};

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    if let Some(size) = bytes.get(4..8).and_then(|field| field.try_into().ok()) {
        let size = u64::from(u32::from_le_bytes(size)) + 8;
        // A last byte of padding may be missing.
        if (bytes.len() as u64) + 1 < size {
            let message = format!("its header says {size} bytes");
            let format = Format::WebP;
            return Err(DecodeError::Truncated { format, bytes: bytes.len(), message });
        }
    }
    let file = Demuxer::new(bytes)?;
    let (width, height) = (file.get(CANVAS_WIDTH), file.get(CANVAS_HEIGHT));
    let mode = if file.get(FLAGS) & ALPHA != 0 { Mode::Rgba } else { Mode::Rgb };
    // The decoder itself keeps four bytes of each pixel of a lossless frame.
    limits.check(width.into(), height.into(), 4 + mode.channels() as u64)?;
    let stride = width as usize * mode.channels();
    let mut pixels = buffer(stride * height as usize)?;
    let frame = file.first_frame()?;
    let (left, top) = (frame.x_offset as usize, frame.y_offset as usize);
    if left + frame.width as usize > width as usize || top + frame.height as usize > height as usize
    {
        return Err(corrupt("its frame is larger than its canvas"));
    }
    // SAFETY: zeros are a valid value of a struct of numbers and pointers.
    let mut config: sys::WebPDecoderConfig = unsafe { std::mem::zeroed() };
    // SAFETY: `config` is there to be written.
    if unsafe {
        sys::WebPInitDecoderConfigInternal(&mut config, sys::WEBP_DECODER_ABI_VERSION as i32)
    } == 0
    {
        return Err(corrupt("the decoder is of another version"));
    }
    let place = &mut pixels[top * stride + left * mode.channels()..];
    config.output.colorspace = match mode {
        Mode::Rgba => sys::WEBP_CSP_MODE::MODE_RGBA,
        _ => sys::WEBP_CSP_MODE::MODE_RGB,
    };
    config.output.is_external_memory = 1;
    config.output.u.RGBA =
        sys::WebPRGBABuffer { rgba: place.as_mut_ptr(), stride: stride as i32, size: place.len() };
    // SAFETY: the fragment lies in `bytes`, the output in `place`, of which the decoder is told the
    // size; it checks that a frame of this stride fits.
    let status = unsafe { sys::WebPDecode(frame.fragment.bytes, frame.fragment.size, &mut config) };
    match status {
        sys::VP8StatusCode::VP8_STATUS_OK => {}
        sys::VP8StatusCode::VP8_STATUS_OUT_OF_MEMORY => {
            let (what, limit) = ("a WebP's buffers".into(), "what the system has".into());
            return Err(DecodeError::TooLarge { what, limit });
        }
        sys::VP8StatusCode::VP8_STATUS_NOT_ENOUGH_DATA => {
            let (bytes, message) = (bytes.len(), "its frame ends early".into());
            return Err(DecodeError::Truncated { format: Format::WebP, bytes, message });
        }
        sys::VP8StatusCode::VP8_STATUS_UNSUPPORTED_FEATURE => {
            return Err(DecodeError::Unsupported { found: "WebP with an unknown feature".into() });
        }
        _ => return Err(corrupt("its bit stream is damaged")),
    }
    let image = Decoded { width, height, mode, pixels, palette: Vec::new() };
    Ok(if limits.exif_orientation { orient::apply_exif(image, file.exif(bytes)) } else { image })
}

const FLAGS: sys::WebPFormatFeature = sys::WebPFormatFeature::WEBP_FF_FORMAT_FLAGS;
const CANVAS_WIDTH: sys::WebPFormatFeature = sys::WebPFormatFeature::WEBP_FF_CANVAS_WIDTH;
const CANVAS_HEIGHT: sys::WebPFormatFeature = sys::WebPFormatFeature::WEBP_FF_CANVAS_HEIGHT;
const ALPHA: u32 = sys::WebPFeatureFlags::ALPHA_FLAG as u32;

/// A file taken apart into its chunks, by libwebp.
struct Demuxer<'a> {
    file: ptr::NonNull<sys::WebPDemuxer>,
    /// What it points at.
    _bytes: &'a [u8],
}

impl<'a> Demuxer<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let data = sys::WebPData { bytes: bytes.as_ptr(), size: bytes.len() };
        // SAFETY: `data` is read during the call; what it points at outlives the demuxer.
        let file = unsafe {
            sys::WebPDemuxInternal(&data, 0, ptr::null_mut(), sys::WEBP_DEMUX_ABI_VERSION as i32)
        };
        let file = ptr::NonNull::new(file).ok_or_else(|| corrupt("its chunks are damaged"))?;
        Ok(Self { file, _bytes: bytes })
    }

    fn get(&self, feature: sys::WebPFormatFeature) -> u32 {
        // SAFETY: the demuxer lives.
        unsafe { sys::WebPDemuxGetI(self.file.as_ptr(), feature) }
    }

    /// Where the first frame lies, in the file and on the canvas.
    fn first_frame(&self) -> Result<sys::WebPIterator, DecodeError> {
        // SAFETY: zeros are a valid value of a struct of numbers and pointers.
        let mut frame: sys::WebPIterator = unsafe { std::mem::zeroed() };
        // SAFETY: the demuxer lives, and `frame` is there to be written; it owns nothing.
        if unsafe { sys::WebPDemuxGetFrame(self.file.as_ptr(), 1, &mut frame) } == 0 {
            return Err(corrupt("it has no frame"));
        }
        if frame.width <= 0 || frame.height <= 0 || frame.x_offset < 0 || frame.y_offset < 0 {
            return Err(corrupt("its frame has no pixels"));
        }
        Ok(frame)
    }

    /// The content of the EXIF chunk.
    fn exif(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = bytes.get(12..)?;
        loop {
            let size = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize;
            let content = rest.get(8..8usize.checked_add(size)?)?;
            if rest.starts_with(b"EXIF") {
                // Some writers put the introduction of JPEG's segment here too.
                return Some(content.strip_prefix(b"Exif\0\0").unwrap_or(content));
            }
            rest = rest.get(8 + size + size % 2..)?;
        }
    }
}

impl Drop for Demuxer<'_> {
    fn drop(&mut self) {
        // SAFETY: it lives, and nobody uses it after this.
        unsafe { sys::WebPDemuxDelete(self.file.as_ptr()) }
    }
}

fn corrupt(message: &str) -> DecodeError {
    DecodeError::Corrupt { format: Format::WebP, message: message.into() }
}
