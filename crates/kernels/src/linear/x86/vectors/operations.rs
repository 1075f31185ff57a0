//! The operations that microkernels are written with.

use super::super::super::layout::{F16Bytes, PANEL};

/// What microkernels compute with, over the tokens of [`simd`](crate::simd). A load with a
/// `stride` is from the first panel; `stride` bytes behind it the same is found of the next panel,
/// if the set takes two.
///
/// # Safety
/// The methods are only called inside functions that have the instructions of the set, and every
/// pointer is to a value in each panel.
pub(in super::super) trait PanelVectors {
    /// A vector of integers: four bytes, two of 16 bits or one of 32 bits for each row.
    type Ints: Copy;
    /// A vector with an f32 for each row.
    type Floats: Copy;

    /// Panels that are worked on together.
    const PANELS: usize;
    /// Whether registers better hold some weights, which are multiplied with one token after the
    /// other, or the accumulators of all tokens, to which the products with one vector of weights
    /// after the other are added.
    const KEEPS_WEIGHTS: bool;

    /// Zeros.
    unsafe fn zero_i32() -> Self::Ints;
    /// 32 bytes of each panel.
    unsafe fn load<T>(source: *const T, stride: usize) -> Self::Ints;
    /// A byte of each row, as an integer of 32 bits.
    unsafe fn load_u8_as_i32(source: *const [u8; PANEL], stride: usize) -> Self::Ints;
    /// Two bytes of each row, each as an integer of 16 bits.
    unsafe fn load_u8_as_i16(source: *const [[u8; 2]; PANEL], stride: usize) -> Self::Ints;
    /// The lower four bits of every byte.
    unsafe fn low_nibbles(both: Self::Ints) -> Self::Ints;
    /// The upper four bits of every byte.
    unsafe fn high_nibbles(both: Self::Ints) -> Self::Ints;
    /// The values of `iq4_nl` that bytes below 16 choose.
    unsafe fn iq4_values(indices: Self::Ints) -> Self::Ints;
    /// a − b, of 32 bits.
    unsafe fn sub_i32(a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// Dot products of each row's four bytes, which are unsigned, with `x`: the first of several.
    unsafe fn dot_u8_first(weights: Self::Ints, x: [i8; 4]) -> Self::Ints;
    /// The same, when `correction` is to be added in the end.
    unsafe fn dot_u8_start(weights: Self::Ints, correction: i32, x: [i8; 4]) -> Self::Ints;
    /// `partial` + the dot products of another four bytes: up to eight times with weights of which
    /// none is above 15, see [`PanelVectors::max_dots`] for others.
    unsafe fn dot_u8(partial: Self::Ints, weights: Self::Ints, x: [i8; 4]) -> Self::Ints;
    /// The dot products as integers of 32 bits; with the same `correction`.
    unsafe fn dot_u8_end(partial: Self::Ints, correction: i32) -> Self::Ints;

    /// How many [`PanelVectors::dot_u8`] may follow each other before [`PanelVectors::add_scaled`],
    /// with weights of which none is above `largest`.
    fn max_dots(largest: i32) -> usize;
    /// `sum` + each row's scale, which is at most 127 and at least −128, times `partial`, which
    /// began with [`PanelVectors::dot_u8_first`] and of which no magnitude is above `largest`.
    unsafe fn add_scaled(
        sum: Self::Ints,
        partial: Self::Ints,
        scales: Self::Ints,
        largest: i32,
    ) -> Self::Ints;
    /// `sum` + each row's dot product of its two integers of 16 bits with `pair`.
    unsafe fn dot_i16(sum: Self::Ints, factors: Self::Ints, pair: [i16; 2]) -> Self::Ints;

    /// Signed weights as [`PanelVectors::dot_i8`] takes them.
    unsafe fn dot_i8_weights(weights: Self::Ints) -> SignedWeights<Self::Ints>;
    /// What a sum of [`PanelVectors::dot_i8`] begins with; `correction` is −128 · the sum of all of
    /// `x` that it will have.
    unsafe fn dot_i8_start(correction: i32) -> Self::Ints;
    /// `sum` + dot products of each row's four signed bytes with `x`.
    unsafe fn dot_i8(sum: Self::Ints, weights: SignedWeights<Self::Ints>, x: [i8; 4])
    -> Self::Ints;

    /// Zeros.
    unsafe fn zero_f32() -> Self::Floats;
    /// An f32 of each row.
    unsafe fn load_f32(source: *const [f32; PANEL], stride: usize) -> Self::Floats;
    /// An f16 of each row, converted.
    unsafe fn load_f16(source: *const [F16Bytes; PANEL], stride: usize) -> Self::Floats;
    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self::Floats;
    /// Integers of 32 bits as f32.
    unsafe fn to_f32(integers: Self::Ints) -> Self::Floats;
    /// a + b.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a − b.
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b + c, rounded once.
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// c − a · b, rounded once.
    unsafe fn fnma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Writes the values of the first `rows` rows.
    unsafe fn store(values: Self::Floats, rows: usize, output: *mut f32);
}

/// The largest magnitude of an activation's byte.
pub(in super::super) const LARGEST_BYTE: i32 = 128;

/// Weights prepared for products with signed bytes.
#[derive(Clone, Copy)]
pub(in super::super) struct SignedWeights<Ints> {
    /// Their magnitudes, or 128 more than they are.
    pub(super) unsigned: Ints,
    /// As they are.
    pub(super) signed: Ints,
}

/// Methods of [`PanelVectors`] that are an expression of intrinsics each.
macro_rules! operations {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($argument: $type),*) -> $result {
                // SAFETY: the trait's condition.
                unsafe { $body }
            }
        )*
    };
}
pub(super) use operations;
