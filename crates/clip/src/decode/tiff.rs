//! The first page of a TIFF file as Pillow reads it: modes, alpha and orientation are its choices.
//!
//! Own code around libraries for what chunks are packed with: no reader at hand gives indices, ink,
//! single bits and both kinds of alpha. What Pillow reads in a mode that is not resized here (more than
//! 8 bits of grey, Lab), and what it reads by its accidents, is refused by name.

mod compression;
mod directory;
mod fax;
mod layout;

use compression::{Compression, corrupt, unpack};
use directory::{Directory, tag};
use layout::{Layout, Samples};

use super::libjpeg::{Colours, Jpeg};
use super::{DecodeError, Decoded, Format, Limits, buffer, jpeg, orient, unpacked};

/// Strips or tiles, all of one size.
#[derive(Debug)]
struct Chunks {
    width: usize,
    height: usize,
    /// Tiles are whole, the last strip ends with the image.
    is_tiled: bool,
    across: usize,
    down: usize,
    offsets: Vec<u64>,
    lengths: Option<Vec<u64>>,
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::of(&directory)?;
    let (width, height) = (layout.width, layout.height);
    let mode = layout.mode();
    limits.check(width as u64, height as u64, layout.count.max(mode.channels()) as u64)?;
    let chunks = Chunks::of(&directory, &layout)?;
    let planes = if layout.is_planar { layout.count } else { 1 };
    let size = (layout.chunk_row(&chunks) as u64).saturating_mul(chunks.height as u64);
    let area = width * height * mode.channels();
    if size.saturating_add(area as u64) > limits.memory {
        let what = format!("{width} × {height} pixels in strips or tiles of {size} bytes");
        return Err(DecodeError::TooLarge { what, limit: format!("{} bytes", limits.memory) });
    }
    let mut pixels = buffer(area)?;
    let mut chunk = buffer(size as usize)?;
    // Data that are read again for each of many chunks would cost far more than a file of its size.
    let mut budget = 4 * bytes.len() as u64 + (64 << 20);
    for plane in 0..planes.min(mode.channels()) {
        for down in 0..chunks.down {
            for across in 0..chunks.across {
                let index = (plane * chunks.down + down) * chunks.across + across;
                let data = chunks.data(bytes, index)?;
                budget = budget
                    .checked_sub(data.len() as u64)
                    .ok_or_else(|| corrupt("its strips or tiles overlap"))?;
                let rows = chunks.height.min(height - down * chunks.height);
                layout.read_chunk(&directory, data, &chunks, rows, limits, &mut chunk)?;
                let place = (across * chunks.width, down * chunks.height, plane);
                layout.place(&chunk, &chunks, place, mode.channels(), &mut pixels);
            }
        }
    }
    layout.finish(&mut pixels);
    let image = Decoded {
        width: width as u32,
        height: height as u32,
        mode,
        pixels,
        palette: layout.palette(&directory)?,
    };
    Ok(orient::apply(image, directory.number(tag::ORIENTATION).unwrap_or(1)))
}

/// The orientation tag in the first directory of a TIFF file, or of an EXIF block, which is like one.
pub(super) fn orientation(bytes: &[u8]) -> Option<u64> {
    Directory::read(bytes).ok()?.number(tag::ORIENTATION)
}

impl Layout {
    /// Bytes of a chunk's row.
    fn chunk_row(&self, chunks: &Chunks) -> usize {
        (chunks.width * self.together() * self.bits).div_ceil(8)
    }

    /// Fills `out` with a chunk's samples of 8 bits or less, or the bytes of those of 16.
    fn read_chunk(
        &self,
        directory: &Directory<'_>,
        data: &[u8],
        chunks: &Chunks,
        rows: usize,
        limits: &Limits,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let stride = self.chunk_row(chunks);
        let rows = if chunks.is_tiled { chunks.height } else { rows };
        if self.compression == Compression::Jpeg {
            return self.read_jpeg(directory, data, stride, limits, &mut out[..stride * rows]);
        }
        let reversed: Vec<u8>;
        let data = if self.is_reversed {
            // No more than the chunk could need, were it not packed at all, twice over.
            reversed = data.iter().map(|byte| byte.reverse_bits()).collect();
            &reversed
        } else {
            data
        };
        unpack(self.compression, data, chunks.width, &mut out[..stride * rows])?;
        if self.is_predicted {
            for row in out[..stride * rows].chunks_exact_mut(stride) {
                self.undo_predictor(row, directory.is_little());
            }
        }
        Ok(())
    }

    /// A chunk that is a JPEG picture, its tables perhaps in a tag.
    fn read_jpeg(
        &self,
        directory: &Directory<'_>,
        data: &[u8],
        stride: usize,
        limits: &Limits,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let failed = |error| jpeg::error_of(error, Format::Tiff, data);
        jpeg::Segments::of(data).check("TIFF with a JPEG")?;
        let tables = directory.bytes(tag::JPEG_TABLES);
        let mut picture = Jpeg::new(tables, data).map_err(failed)?;
        let count = self.together();
        let (width, height) = (stride / count, out.len() / stride);
        let stored = (picture.width() as usize, picture.height() as usize, picture.components());
        if stored.0 != width || stored.1 < height || stored.2 != count {
            return Err(corrupt("a strip or tile holds a JPEG of another size"));
        }
        if self.samples == Samples::YCbCr {
            picture.set_colours(Colours::JCS_YCbCr, Colours::JCS_RGB);
        } else if picture.is_subsampled() {
            return Err(corrupt("a strip or tile holds a JPEG with subsampling"));
        } else {
            picture.set_colours(Colours::JCS_UNKNOWN, Colours::JCS_UNKNOWN);
        }
        jpeg::check(&picture, limits, count as u64)?;
        picture.set_whole(self.width as u64 * self.height as u64);
        let (_, height, _) = picture.start().map_err(failed)?;
        let mut pixels = buffer(stride * height as usize)?;
        picture.read(&mut pixels).map_err(failed)?;
        out.copy_from_slice(&pixels[..out.len()]);
        Ok(())
    }

    /// Adds to each sample the one of the same kind before it.
    fn undo_predictor(&self, row: &mut [u8], is_little: bool) {
        let step = self.together() * self.bits / 8;
        if self.bits == 8 {
            for at in step..row.len() {
                row[at] = row[at].wrapping_add(row[at - step]);
            }
            return;
        }
        let read = if is_little { u16::from_le_bytes } else { u16::from_be_bytes };
        let write = if is_little { u16::to_le_bytes } else { u16::to_be_bytes };
        for at in (step..row.len()).step_by(2) {
            let before = read([row[at - step], row[at - step + 1]]);
            let sum = read([row[at], row[at + 1]]).wrapping_add(before);
            row[at..at + 2].copy_from_slice(&write(sum));
        }
    }

    /// Copies a chunk's samples to their place among the pixels; 16 bits lose the lower ones.
    fn place(
        &self,
        chunk: &[u8],
        chunks: &Chunks,
        (left, top, plane): (usize, usize, usize),
        channels: usize,
        pixels: &mut [u8],
    ) {
        let together = self.together();
        let (columns, rows) =
            (chunks.width.min(self.width - left), chunks.height.min(self.height - top));
        let used = together.min(channels);
        let mut wide = vec![0; if self.bits < 8 { chunks.width * together } else { 0 }];
        for (row, line) in chunk.chunks_exact(self.chunk_row(chunks)).take(rows).enumerate() {
            // The samples of 8 bits lie `step` bytes apart, the first at `high`.
            let (samples, step, high) = match self.bits {
                8 => (line, 1, 0),
                16 => (line, 2, self.high_byte),
                bits => {
                    unpacked(line, bits, &mut wide);
                    (wide.as_slice(), 1, 0)
                }
            };
            let start = ((top + row) * self.width + left) * channels;
            let out = pixels[start..start + columns * channels].chunks_exact_mut(channels);
            for (column, out) in out.enumerate() {
                let pixel = &samples[column * together * step..];
                for sample in 0..used {
                    out[plane + sample] = pixel[sample * step + high];
                }
            }
        }
    }

    /// What is left to do with samples that are in their places.
    fn finish(&self, pixels: &mut [u8]) {
        match self.samples {
            Samples::Grey { is_inverted } => {
                let most = ((1u16 << self.bits) - 1) as u8;
                // Single bits stay an index of black or white.
                let factor = if self.bits == 1 { 1 } else { 255 / most };
                for level in pixels {
                    *level = factor * if is_inverted { most - *level } else { *level };
                }
            }
            Samples::RgbAssociated => {
                for pixel in pixels.chunks_exact_mut(4) {
                    let alpha = u32::from(pixel[3]);
                    for colour in &mut pixel[..3] {
                        *colour = match alpha {
                            0 => 0,
                            _ => (u32::from(*colour) * 255 / alpha).min(255) as u8,
                        };
                    }
                }
            }
            _ => {}
        }
    }

    fn palette(&self, directory: &Directory<'_>) -> Result<Vec<[u8; 3]>, DecodeError> {
        let mut palette = vec![[0; 3]; 256];
        match self.samples {
            Samples::Palette => {
                let stored = directory.numbers(tag::COLOR_MAP);
                let stored = stored.ok_or_else(|| corrupt("it has no palette"))?;
                let length = stored.len() / 3;
                if length > 256 {
                    return Err(corrupt("its palette has more than 256 colours"));
                }
                for (index, colour) in palette.iter_mut().take(length).enumerate() {
                    *colour = [0, 1, 2].map(|part| (stored[part * length + index] >> 8) as u8);
                }
            }
            Samples::Grey { .. } if self.bits == 1 => palette[1..].fill([255; 3]),
            _ => palette.clear(),
        }
        Ok(palette)
    }
}

impl Chunks {
    fn of(directory: &Directory<'_>, layout: &Layout) -> Result<Self, DecodeError> {
        let tiles = directory.numbers(tag::TILE_OFFSETS);
        let strips = directory.numbers(tag::STRIP_OFFSETS);
        let side = |tag: u16, most: usize| match directory.number(tag) {
            Some(0) | None => Err(corrupt("its tiles have no size")),
            Some(side) => Ok(usize::try_from(side).unwrap_or(most).min(most)),
        };
        let (width, height, offsets, counts, is_tiled) = match (strips, tiles) {
            (Some(strips), _) => {
                let rows = directory.number(tag::ROWS_PER_STRIP).unwrap_or(u64::MAX);
                let rows = usize::try_from(rows).unwrap_or(usize::MAX).min(layout.height);
                if rows == 0 {
                    return Err(corrupt("its strips have no rows"));
                }
                (layout.width, rows, strips, tag::STRIP_BYTE_COUNTS, false)
            }
            (None, Some(tiles)) => {
                let most = i32::MAX as usize;
                let (width, height) = (side(tag::TILE_WIDTH, most)?, side(tag::TILE_LENGTH, most)?);
                (width, height, tiles, tag::TILE_BYTE_COUNTS, true)
            }
            (None, None) => return Err(corrupt("it has neither strips nor tiles")),
        };
        let (across, down) = (layout.width.div_ceil(width), layout.height.div_ceil(height));
        let planes = if layout.is_planar { layout.count } else { 1 };
        if offsets.len() < across * down * planes {
            return Err(corrupt("it has fewer strips or tiles than pixels need"));
        }
        let lengths = directory.numbers(counts);
        Ok(Self { width, height, is_tiled, across, down, offsets, lengths })
    }

    /// The bytes of a chunk, as far as they are there.
    fn data<'a>(&self, bytes: &'a [u8], index: usize) -> Result<&'a [u8], DecodeError> {
        let start = usize::try_from(self.offsets[index]).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).ok_or_else(|| DecodeError::Truncated {
            format: Format::Tiff,
            bytes: bytes.len(),
            message: "its pixels would lie beyond it".into(),
        })?;
        let length = self.lengths.as_ref().and_then(|lengths| lengths.get(index));
        let length = length.map_or(rest.len(), |length| *length as usize);
        Ok(&rest[..length.min(rest.len())])
    }
}
