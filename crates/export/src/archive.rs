//! PyTorch's `.pt` and `.bin` archives: which tensors are in them, and where their bytes lie.
//!
//! Apart from the checkpoint because this is torch's format, not ours to know elsewhere. Nothing is
//! copied out of an archive but the names: torch stores tensors uncompressed, so that a range of
//! the mapped file is a tensor. The pickle that says which is read by `pickle`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use crate::pickle::{Machine, View};

/// A tensor of the archive.
#[derive(Debug, PartialEq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Its bytes within the file.
    pub bytes: Range<usize>,
}

/// The largest pickle read: those of the largest models have some 200 kB.
const MOST_PICKLE_BYTES: u64 = 64 << 20;

/// Whether the file is an archive of `torch.save`, not safetensors.
pub fn is_archive(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04")
}

/// Whether the file is a pickle with no archive around it, as torch saved before 1.6.
pub fn is_bare(file: &[u8]) -> bool {
    file.starts_with(b"\x80\x02")
}

/// The tensors of the archive's state dict, which is its root or the root's `state_dict`.
pub fn tensors(file: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    let mut archive = ZipArchive::new(Cursor::new(file)).map_err(|e| e.to_string())?;
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    let root = names
        .iter()
        .find_map(|name| name.strip_suffix("/data.pkl"))
        .ok_or("there is no data.pkl in the archive")?;
    if names.iter().any(|name| name == &format!("{root}/constants.pkl")) {
        return Err("it is a TorchScript program, not a state dict".into());
    }
    let pickle = {
        let entry = archive.by_name(&format!("{root}/data.pkl")).map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        entry.take(MOST_PICKLE_BYTES).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        bytes
    };
    if let Ok(mut order) = archive.by_name(&format!("{root}/byteorder")) {
        let mut text = String::new();
        order.read_to_string(&mut text).map_err(|e| e.to_string())?;
        if text.trim() != "little" {
            return Err(format!("its byte order is {text:?}"));
        }
    }
    let machine = Machine::run(&pickle)?;
    let mut found = BTreeMap::new();
    for (name, tensor) in machine.state_dict()? {
        let storage = &machine.storages[tensor.storage];
        let path = format!("{root}/data/{}", storage.key);
        let bytes = range(&mut archive, file.len(), &path, storage.dtype, tensor)
            .map_err(|message| format!("tensor \"{name}\": {message}"))?;
        let (dtype, shape) = (storage.dtype, tensor.shape.clone());
        found.insert(name.to_owned(), Stored { dtype, shape, bytes });
    }
    // What DistributedDataParallel saved has its name before every other.
    if !found.is_empty() && found.keys().all(|name| name.starts_with("module.")) {
        found = found.into_iter().map(|(name, stored)| (name[7..].to_owned(), stored)).collect();
    }
    Ok(found)
}

/// Where a tensor's bytes are, checked against the archive's entry for its storage.
fn range(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    whole: usize,
    path: &str,
    dtype: Dtype,
    tensor: &View,
) -> Result<Range<usize>, String> {
    let entry = archive.by_name(path).map_err(|e| format!("\"{path}\": {e}"))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(format!("\"{path}\" is compressed"));
    }
    let mut next = 1;
    for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if size != 1 && stride != next {
            return Err(format!("strides {:?} are not in order", tensor.strides));
        }
        next = size.checked_mul(next).ok_or("is too large")?;
    }
    let element = dtype.bitsize() / 8;
    let first = tensor.offset.checked_mul(element).ok_or("is too large")?;
    let length = next.checked_mul(element).ok_or("is too large")?;
    let end = first.checked_add(length).ok_or("is too large")?;
    if end as u64 > entry.size() {
        return Err(format!("ends at byte {end} of {} in \"{path}\"", entry.size()));
    }
    let start = entry.data_start() as usize;
    let range = start.saturating_add(first)..start.saturating_add(end);
    if range.end > whole { Err("lies beyond the end of the file".into()) } else { Ok(range) }
}
