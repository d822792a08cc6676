//! JPEG XL as libjxl shows it: grey or RGB of 8 bits, with alpha where the file has it, turned as the file
//! says; of an animation the first frame. By jxl-oxide.

use jxl_oxide::{AllocTracker, InitializeResult, JxlImage, JxlThreadPool, PixelFormat};

use super::{DecodeError, Decoded, Format, Limits, Mode, buffer};

/// Bytes a pixel while it is decoded: floats of all channels, and the same again while filters run.
const DECODING: u64 = 40;
/// Bytes that are looked at before the question is asked again whether a picture is complete.
const STEP: usize = 64 << 10;
/// Frames that may be put together to the first picture.
const MOST_FRAMES: usize = 64;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let tracker = AllocTracker::with_limit(usize::try_from(limits.memory).unwrap_or(usize::MAX));
    let builder = JxlImage::builder().pool(JxlThreadPool::none()).alloc_tracker(tracker);
    let mut waiting = builder.build_uninit();
    let mut parts = bytes.chunks(STEP);
    let mut image = loop {
        let part = parts.next().ok_or_else(|| truncated(bytes, "its header ends early"))?;
        waiting.feed_bytes(part).map_err(|error| told(&*error))?;
        match waiting.try_init().map_err(|error| told(&*error))? {
            InitializeResult::NeedMoreData(more) => waiting = more,
            InitializeResult::Initialized(image) => break image,
        }
    };
    let (width, height) = (image.width(), image.height());
    let mode = match image.pixel_format() {
        PixelFormat::Gray => Mode::L,
        PixelFormat::Graya => Mode::La,
        PixelFormat::Rgb => Mode::Rgb,
        PixelFormat::Rgba => Mode::Rgba,
        PixelFormat::Cmyk | PixelFormat::Cmyka => {
            return Err(DecodeError::Unsupported { found: "JPEG XL of inks (CMYK)".into() });
        }
    };
    limits.check(width.into(), height.into(), DECODING)?;
    if width == 0 || height == 0 {
        return Err(DecodeError::Corrupt {
            format: Format::Jxl,
            message: "it has no pixels".into(),
        });
    }
    while image.num_loaded_keyframes() == 0 {
        if image.num_loaded_frames() > MOST_FRAMES {
            let found = format!("JPEG XL of more than {MOST_FRAMES} frames in one picture");
            return Err(DecodeError::Unsupported { found });
        }
        let part = parts.next().ok_or_else(|| truncated(bytes, "its picture ends early"))?;
        image.feed_bytes(part).map_err(|error| told(&*error))?;
    }
    let mut pixels = buffer(width as usize * height as usize * mode.channels())?;
    let render = image.render_frame(0).map_err(|error| told(&*error))?;
    let mut stream = match mode {
        Mode::La | Mode::Rgba => render.stream(),
        _ => render.stream_no_alpha(),
    };
    let (found, wanted) = ((stream.width(), stream.height()), (width, height));
    if found != wanted || stream.channels() as usize != mode.channels() {
        let message = "its frame is of another kind than its header says".into();
        return Err(DecodeError::Corrupt { format: Format::Jxl, message });
    }
    stream.write_to_buffer(&mut pixels);
    Ok(Decoded { width, height, mode, pixels, palette: Vec::new() })
}

fn told(error: &(dyn std::error::Error + 'static)) -> DecodeError {
    let message = error.to_string();
    if message.contains("failed to allocate") {
        let (what, limit) = ("a JPEG XL's buffers".into(), "what its header is given".into());
        return DecodeError::TooLarge { what, limit };
    }
    DecodeError::Corrupt { format: Format::Jxl, message }
}

fn truncated(bytes: &[u8], message: &str) -> DecodeError {
    DecodeError::Truncated { format: Format::Jxl, bytes: bytes.len(), message: message.into() }
}
