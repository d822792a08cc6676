//! The functions of `shim.cpp`: what tch leaves out of libtorch.
//!
//! The only file that calls C++ beside tch, so that pointers and their lifetimes are checked in
//! one place.

use std::ffi::{CStr, c_char, c_void};

use anyhow::{Result, bail};
use tch::Tensor;

unsafe extern "C" {
    fn pgclip_free(text: *mut c_char);
    fn pgclip_fused_adamw(
        parameters: *const *const c_void,
        gradients: *const *const c_void,
        means: *const *const c_void,
        squares: *const *const c_void,
        step: *const c_void,
        count: usize,
        rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    fn pgclip_cuda_memory(device: i32, current: *mut i64, peak: *mut i64) -> *mut c_char;
    fn pgclip_reset_cuda_peak(device: i32) -> *mut c_char;
    fn pgclip_attention_order(order: *const i64, count: usize) -> *mut c_char;
}

/// Tensors that an update reads and writes together, in the same order in each list.
#[derive(Default)]
pub struct Lists<'a> {
    pub parameters: Vec<&'a Tensor>,
    pub gradients: Vec<&'a Tensor>,
    pub means: Vec<&'a Tensor>,
    pub squares: Vec<&'a Tensor>,
}

/// Settings of one update.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub eps: f64,
}

/// One AdamW update of all parameters in the lists; `step` holds its number, from 1.
pub fn fused_adamw(lists: &Lists<'_>, step: &Tensor, update: Update) -> Result<()> {
    let pointers = |tensors: &[&Tensor]| -> Vec<*const c_void> {
        tensors.iter().map(|tensor| tensor.as_ptr().cast()).collect()
    };
    let count = lists.parameters.len();
    assert!(
        [&lists.gradients, &lists.means, &lists.squares].iter().all(|list| list.len() == count),
        "this is a bug: the lists of an update differ in length"
    );
    let (parameters, gradients) = (pointers(&lists.parameters), pointers(&lists.gradients));
    let (means, squares) = (pointers(&lists.means), pointers(&lists.squares));
    let Update { rate, beta1, beta2, weight_decay, eps } = update;
    // SAFETY: each list has `count` pointers to tensors that outlive the call; libtorch checks
    // their shapes, kinds and devices, and throws, which comes back as a text.
    check(unsafe {
        pgclip_fused_adamw(
            parameters.as_ptr(),
            gradients.as_ptr(),
            means.as_ptr(),
            squares.as_ptr(),
            step.as_ptr().cast(),
            count,
            rate,
            beta1,
            beta2,
            weight_decay,
            eps,
        )
    })
}

/// Bytes that tensors take on a CUDA device: now, and at most since the last reset.
pub fn cuda_memory(device: usize) -> Result<(i64, i64)> {
    let (mut current, mut peak) = (0, 0);
    // SAFETY: both pointers are to numbers of this frame.
    check(unsafe { pgclip_cuda_memory(device as i32, &mut current, &mut peak) })?;
    Ok((current, peak))
}

/// Begins the count of [`cuda_memory`]'s peak anew.
pub fn reset_cuda_peak(device: usize) -> Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { pgclip_reset_cuda_peak(device as i32) })
}

/// A kernel for attention, by its number in libtorch's `SDPBackend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    Math = 0,
    Flash = 1,
    Efficient = 2,
    CuDnn = 3,
}

/// The order in which attention's kernels are tried on CUDA.
pub fn attention_order(order: &[Attention]) -> Result<()> {
    let numbers: Vec<i64> = order.iter().map(|&kernel| kernel as i64).collect();
    // SAFETY: the pointer is to as many numbers as are named; they are copied.
    check(unsafe { pgclip_attention_order(numbers.as_ptr(), numbers.len()) })
}

fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error that is not null is a C string of the shim's, freed here and nowhere else.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        pgclip_free(error);
        text
    };
    bail!("libtorch: {}", text.lines().next().unwrap_or_default())
}
