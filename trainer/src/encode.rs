//! Pictures and texts on the host as tensors, and many of them through a model.
//!
//! Shared by training and evaluation: both hand over host data and want one tensor back.

use std::borrow::Borrow;

use anyhow::Result;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::Config;
use crate::images::{self, Broken, Pictures};
use crate::model::Clip;
use crate::passes::Trained;
use crate::place::Place;
use crate::shim::Lists;

/// Pictures or texts that a thread encodes at a time.
const PIECE: usize = 64;

/// A model or lists of parameters that several threads read at a time.
pub(crate) struct ReadOnly<T>(pub T);

// SAFETY: nothing writes to the parameters while pieces are encoded or differentiated (the
// optimiser runs afterwards, and needs `&mut Params`); libtorch counts references atomically,
// lets any number of threads read a tensor, and each piece has a graph of its own.
unsafe impl Sync for ReadOnly<&Clip> {}
// SAFETY: as above.
unsafe impl Sync for ReadOnly<[Trained; 2]> {}

// SAFETY: the optimiser gives each thread parameters of its own to update, and all of them the
// step's number to read.
unsafe impl Sync for ReadOnly<(Lists<'_>, &Tensor)> {}

impl<T> ReadOnly<T> {
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Texts as a rectangle cut to the longest of them: rows [N, L] and ends [N].
pub fn rectangle(texts: &[Vec<i64>], device: Device) -> (Tensor, Tensor) {
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    let mut rows = vec![0i64; texts.len() * longest];
    for (line, text) in rows.chunks_mut(longest.max(1)).zip(texts) {
        line[..text.len()].copy_from_slice(text);
    }
    let ends: Vec<i64> = texts.iter().map(|text| text.len() as i64 - 1).collect();
    let rows = Tensor::from_slice(&rows).view([texts.len() as i64, longest as i64]);
    (rows.to_device(device), Tensor::from_slice(&ends).to_device(device))
}

/// Unit-length embeddings of texts (rows of the token table), [N, D] on the CPU, without gradients.
pub fn texts(model: &Clip, texts: &[Vec<i64>], device: Device) -> Tensor {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&index| texts[index].len());
    let sorted: Vec<Vec<i64>> = order.iter().map(|&index| texts[index].clone()).collect();
    let shared = ReadOnly(model);
    let parts: Vec<Tensor> = sorted
        .par_chunks(PIECE)
        .map(|part| {
            let (rows, ends) = rectangle(part, device);
            no_grad(|| shared.get().encode_rows(&rows, &ends).to_device(Device::Cpu))
        })
        .collect();
    let encoded = Tensor::cat(&parts, 0);
    let mut back = vec![0i64; order.len()];
    for (place, &index) in order.iter().enumerate() {
        back[index] = place as i64;
    }
    encoded.index_select(0, &Tensor::from_slice(&back))
}

/// A batch of pictures on the host as a tensor [N, S, S, 3].
pub fn picture_tensor(bytes: &[u8], size: usize, device: Device) -> Tensor {
    let n = bytes.len() / (size * size * 3);
    let shape = [n as i64, size as i64, size as i64, 3];
    Tensor::from_data_size(bytes, &shape, Kind::Uint8).to_device(device)
}

/// Unit-length embeddings of all pictures, [N, D] on the CPU, without gradients.
pub fn pictures(model: &Clip, pictures: &Pictures, device: Device) -> Tensor {
    let shared = ReadOnly(model);
    let parts: Vec<Tensor> = pictures
        .bytes
        .par_chunks(pictures.stride() * PIECE)
        .map(|part| {
            let tensor = picture_tensor(part, pictures.size, device);
            no_grad(|| shared.get().encode_bytes(&tensor).to_device(Device::Cpu))
        })
        .collect();
    Tensor::cat(&parts, 0)
}

/// Pictures that could be read, encoded.
#[derive(Debug)]
pub struct Embedded {
    /// [N, D] on the CPU.
    pub embeddings: Tensor,
    /// For each row, which of the places it is.
    pub kept: Vec<usize>,
    pub broken: Vec<Broken>,
}

/// Unit-length embeddings of the pictures at `places`, `batch` of them in memory at a time. That
/// none can be read is an error.
pub fn places<P: Borrow<Place> + Sync>(
    model: &Clip,
    config: &Config,
    places: &[P],
    batch: usize,
    device: Device,
) -> Result<Embedded> {
    let (mut parts, mut kept, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for (number, part) in places.chunks(batch).enumerate() {
        let loaded = images::load_readable(part, config);
        if !loaded.kept.is_empty() {
            parts.push(pictures(model, &loaded.pictures, device));
        }
        kept.extend(loaded.kept.iter().map(|at| number * batch + at));
        broken.extend(loaded.broken);
    }
    images::some_readable(places.len(), &broken)?;
    Ok(Embedded { embeddings: Tensor::cat(&parts, 0), kept, broken })
}
