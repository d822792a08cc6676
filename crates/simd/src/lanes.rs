//! The register that the algorithms are written over: a handful of fp32 lanes that load fp16.
//! Its own file because each architecture implements it and [`generic`](crate::generic) uses it.

/// A vector register of [`WIDTH`](Lanes::WIDTH) fp32 lanes.
///
/// # Safety
/// Every method must be called from a function compiled with the target features that the
/// implementing module names; they are inlined into it.
pub(crate) trait Lanes: Copy {
    /// The number of lanes, at most [`MAX_WIDTH`].
    const WIDTH: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self;

    /// Reads `WIDTH` fp16 at any alignment and widens them.
    unsafe fn load_f16(from: *const u16) -> Self;

    /// Rounds to fp16, ties to even, and writes `WIDTH` of them at any alignment.
    unsafe fn store_f16(self, to: *mut u16);

    /// Reads `WIDTH` fp32 at any alignment.
    unsafe fn load_f32(from: *const f32) -> Self;

    /// Writes `WIDTH` fp32 at any alignment.
    unsafe fn store_f32(self, to: *mut f32);

    /// Lane by lane `self + other`.
    unsafe fn add(self, other: Self) -> Self;

    /// Lane by lane `self - other`.
    unsafe fn sub(self, other: Self) -> Self;

    /// Lane by lane `self * other + sum`, rounded once.
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self;

    /// The sum of all lanes.
    unsafe fn sum(self) -> f32;
}

/// The widest register of any variant, the size of the buffers for the odd tail.
pub(crate) const MAX_WIDTH: usize = 16;

/// A register whose lanes can be switched by the bits of a code.
///
/// # Safety
/// That of [`Lanes`].
pub(crate) trait MaskedLanes: Lanes {
    /// One bit or one full lane for each lane.
    type Mask: Copy;

    /// The mask of the lanes that are at least zero.
    unsafe fn not_negative(self) -> Self::Mask;

    /// The mask as bits, lane 0 lowest.
    unsafe fn bits(mask: Self::Mask) -> u64;

    /// `self + other` in the lanes of the mask, `self` in the others.
    unsafe fn add_where(self, other: Self, mask: Self::Mask) -> Self;
}
