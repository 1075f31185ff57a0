//! Vectors with a lane for each row of one panel or of two, in the operations that kernels are written with.

mod avx2;
mod two;
mod vnni;

pub(super) use avx2::Avx2;
pub(super) use two::Two;
pub(super) use vnni::Vnni;

/// What an instruction set computes with. A place that takes an `other` is in a panel, and `other` bytes behind it the same
/// is found of the next panel, if the set takes two.
///
/// # Safety
/// The methods are only called inside functions that have the instructions of the set, and every place has as many bytes
/// as are read there.
pub(super) trait Vectors {
    /// A vector of integers: four bytes, two of 16 bits or one of 32 bits for each row.
    type Integers: Copy;
    /// A vector with an f32 for each row.
    type Floats: Copy;

    /// Panels that are worked on together.
    const PANELS: usize;
    /// Whether registers better hold some weights, which are multiplied with one token after the other, or the sums of all
    /// tokens, to which the products with one vector of weights after the other are added.
    const WEIGHTS_STAY: bool;

    /// Zeros.
    unsafe fn zero() -> Self::Integers;
    /// 32 bytes of each panel.
    unsafe fn load(place: *const u8, other: usize) -> Self::Integers;
    /// Eight bytes of each panel, each as an integer of 32 bits.
    unsafe fn load_bytes(place: *const u8, other: usize) -> Self::Integers;
    /// Sixteen bytes of each panel, each as an integer of 16 bits.
    unsafe fn load_pairs(place: *const u8, other: usize) -> Self::Integers;
    /// The lower four bits of every byte.
    unsafe fn low_nibbles(both: Self::Integers) -> Self::Integers;
    /// The upper four bits of every byte.
    unsafe fn high_nibbles(both: Self::Integers) -> Self::Integers;
    /// Difference of integers of 32 bits.
    unsafe fn less(a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// The first of several [`Vectors::small_dot`].
    unsafe fn small_first(weights: Self::Integers, bytes: *const u8) -> Self::Integers;
    /// The same, when the integer at `sum` is to be added in the end.
    unsafe fn small_start(
        weights: Self::Integers,
        sum: *const u8,
        bytes: *const u8,
    ) -> Self::Integers;
    /// Goes on with products of four bytes of each row and the four signed bytes at `bytes`: up to eight times with bytes of
    /// which none is above 15, see [`Vectors::fitting`] for others.
    unsafe fn small_dot(
        partial: Self::Integers,
        weights: Self::Integers,
        bytes: *const u8,
    ) -> Self::Integers;
    /// What it all comes to; with the same `sum`.
    unsafe fn small_end(partial: Self::Integers, sum: *const u8) -> Self::Integers;

    /// How many [`Vectors::small_dot`] may follow each other before [`Vectors::add_scaled`], with weights of which none is
    /// above `largest`.
    fn fitting(largest: i32) -> usize;
    /// `sum` + each row's scale, which is at most 127 and at least −128, times what `partial` has come to from
    /// [`Vectors::small_first`] on, of which no magnitude is above `largest`.
    unsafe fn add_scaled(
        sum: Self::Integers,
        partial: Self::Integers,
        scales: Self::Integers,
        largest: i32,
    ) -> Self::Integers;
    /// `sum` + for each row the products of its two factors of 16 bits with the two at `pair`.
    unsafe fn add_pair_products(
        sum: Self::Integers,
        factors: Self::Integers,
        pair: *const u8,
    ) -> Self::Integers;

    /// Signed weights as [`Vectors::signed_dot`] takes them.
    unsafe fn signed_weights(weights: Self::Integers) -> SignedWeights<Self::Integers>;
    /// What a sum of [`Vectors::signed_dot`] begins with; at `excess` is −128 · the sum of all bytes that it will have.
    unsafe fn signed_start(excess: *const u8) -> Self::Integers;
    /// `sum` + for each row the products of its four weights with the four bytes at `bytes`, all of which are signed.
    unsafe fn signed_dot(
        sum: Self::Integers,
        weights: SignedWeights<Self::Integers>,
        bytes: *const u8,
    ) -> Self::Integers;

    /// Zeros.
    unsafe fn float_zero() -> Self::Floats;
    /// Eight f32 of each panel.
    unsafe fn load_floats(place: *const u8, other: usize) -> Self::Floats;
    /// Eight half floats of each panel, expanded.
    unsafe fn load_halves(place: *const u8, other: usize) -> Self::Floats;
    /// The f32 at `place`, for every row.
    unsafe fn everywhere(place: *const u8) -> Self::Floats;
    /// Integers of 32 bits as f32.
    unsafe fn to_floats(integers: Self::Integers) -> Self::Floats;
    /// a + b.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a − b.
    unsafe fn subtract(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b.
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b + c, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// c − a · b, rounded once.
    unsafe fn subtract_product(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Writes the values of the first `rows` rows.
    unsafe fn store(values: Self::Floats, rows: usize, output: *mut f32);
}

/// The largest magnitude of an activation's byte.
pub(super) const LARGEST_BYTE: i32 = 128;

/// Weights prepared for products with signed bytes.
#[derive(Clone, Copy)]
pub(super) struct SignedWeights<Integers> {
    /// Their magnitudes, or 128 more than they are.
    unsigned: Integers,
    /// As they are.
    signed: Integers,
}

/// Methods of [`Vectors`] that are an expression of intrinsics each.
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
use operations;
