//! What the strips and tiles of a TIFF file are packed with. A chunk is unpacked into a buffer of the
//! size that its place in the image gives it, and no further, whatever the data say.

use std::io::{self, Read};

use flate2::read::ZlibDecoder;
use weezl::{BitOrder, LzwStatus, decode::Decoder as LzwDecoder};

use super::fax::{self, Coding};
use crate::decode::{DecodeError, Format};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Fax(Coding),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

impl Compression {
    /// By the number in the tag, and the options of CCITT's group 3.
    pub(super) fn of(number: u64, options: u64) -> Result<Self, DecodeError> {
        let name = match number {
            1 => return Ok(Self::None),
            2 => return Ok(Self::Fax(Coding::Runs)),
            3 if options & 2 == 0 => {
                return Ok(Self::Fax(Coding::Group3 { is_2d: options & 1 != 0 }));
            }
            4 => return Ok(Self::Fax(Coding::Group4)),
            5 => return Ok(Self::Lzw),
            7 => return Ok(Self::Jpeg),
            8 | 32946 => return Ok(Self::Deflate),
            32773 => return Ok(Self::PackBits),
            3 => "CCITT group 3 (uncompressed mode)",
            6 => "old-style JPEG",
            32766 => "NeXT",
            32771 => "CCITT RLE with words",
            32809 => "ThunderScan",
            32908 | 32909 => "Pixar",
            33003 | 33004 | 33005 | 34712 => "JPEG 2000",
            34661 => "JBIG",
            34676 | 34677 => "SGI LogLuv",
            34887 => "LERC",
            34892 | 52546 => "lossy DNG JPEG",
            34925 => "LZMA",
            50000 => "ZSTD",
            50001 | 34927 => "WebP",
            50002 => "JPEG XL",
            other => {
                let found = format!("TIFF with compression {other}");
                return Err(DecodeError::Unsupported { found });
            }
        };
        Err(DecodeError::Unsupported { found: format!("TIFF with {name} compression") })
    }
}

/// Unpacks `data` into all of `out`; `width` are the pixels of a row of the chunk. Not for JPEG.
pub(super) fn unpack(
    compression: Compression,
    data: &[u8],
    width: usize,
    out: &mut [u8],
) -> Result<(), DecodeError> {
    let is_whole = match compression {
        Compression::None => match data.get(..out.len()) {
            Some(data) => {
                out.copy_from_slice(data);
                true
            }
            None => false,
        },
        Compression::Lzw => {
            if let [0, second, ..] = data
                && second & 1 == 1
            {
                let found = "TIFF with LZW compression as before TIFF 5.0".into();
                return Err(DecodeError::Unsupported { found });
            }
            lzw(data, out)?
        }
        Compression::Deflate => {
            let mut decoder = ZlibDecoder::new(data);
            // What follows is asked for too: it is the sum that tells whether the data are whole.
            match decoder.read_exact(out).and_then(|()| decoder.read(&mut [0])) {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(_) => return Err(corrupt("its Deflate data are damaged")),
            }
        }
        Compression::PackBits => pack_bits(data, out),
        Compression::Fax(coding) => fax::unpack(coding, data, width, out).is_some(),
        Compression::Jpeg => unreachable!("JPEG chunks are unpacked as pictures"),
    };
    if is_whole { Ok(()) } else { Err(corrupt("a strip or tile has too few data")) }
}

fn lzw(data: &[u8], out: &mut [u8]) -> Result<bool, DecodeError> {
    let mut decoder = LzwDecoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let (mut read, mut written) = (0, 0);
    while written < out.len() {
        let result = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += result.consumed_in;
        written += result.consumed_out;
        match result.status {
            Ok(LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(_) => break,
            Err(_) => return Err(corrupt("its LZW data are damaged")),
        }
    }
    Ok(written == out.len())
}

fn pack_bits(mut data: &[u8], out: &mut [u8]) -> bool {
    let mut at = 0;
    while at < out.len() {
        let Some((&head, rest)) = data.split_first() else { return false };
        let left = out.len() - at;
        data = match head {
            0..=127 => {
                let count = (usize::from(head) + 1).min(rest.len());
                let used = count.min(left);
                out[at..at + used].copy_from_slice(&rest[..used]);
                at += used;
                &rest[count..]
            }
            128 => rest,
            _ => {
                let Some((&value, rest)) = rest.split_first() else { return false };
                let used = (257 - usize::from(head)).min(left);
                out[at..at + used].fill(value);
                at += used;
                rest
            }
        };
    }
    true
}

pub(super) fn corrupt(message: &str) -> DecodeError {
    DecodeError::Corrupt { format: Format::Tiff, message: message.into() }
}
