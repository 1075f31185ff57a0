//! Two panels, each in vectors of a set that takes one: what is the same for every row is loaded
//! once for both.

use std::marker::PhantomData;

use super::super::super::layout::{F16Bytes, PANEL};
use super::operations::{PanelVectors, SignedWeights};

/// A vector of `V` for each of two panels.
pub(in super::super) struct Two<V>(PhantomData<V>);

/// Methods of [`PanelVectors`] that do the same with both vectors: what stands in brackets there
/// are two of.
macro_rules! with_both {
    ($(fn $name:ident
        [$($both:ident: $type:ty),*] ($($same:ident: $same_type:ty),*) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($both: $type,)* $($same: $same_type),*) -> $result {
                // SAFETY: the trait's condition.
                unsafe { [V::$name($($both[0],)* $($same),*), V::$name($($both[1],)* $($same),*)] }
            }
        )*
    };
}

/// Methods of [`PanelVectors`] that read the same place of both panels.
macro_rules! of_both {
    ($(fn $name:ident(*const $type:ty) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name(source: *const $type, stride: usize) -> $result {
                // SAFETY: the trait's condition.
                unsafe { [V::$name(source, 0), V::$name(source.byte_add(stride), 0)] }
            }
        )*
    };
}

impl<V: PanelVectors> PanelVectors for Two<V> {
    type Ints = [V::Ints; 2];
    type Floats = [V::Floats; 2];

    const PANELS: usize = 2;
    const KEEPS_WEIGHTS: bool = false;

    of_both! {
        fn load_u8_as_i32(*const [u8; PANEL]) -> Self::Ints;
        fn load_u8_as_i16(*const [[u8; 2]; PANEL]) -> Self::Ints;
        fn load_f32(*const [f32; PANEL]) -> Self::Floats;
        fn load_f16(*const [F16Bytes; PANEL]) -> Self::Floats;
    }

    with_both! {
        fn zero_i32[]() -> Self::Ints;
        fn low_nibbles[both: Self::Ints]() -> Self::Ints;
        fn high_nibbles[both: Self::Ints]() -> Self::Ints;
        fn iq4_values[indices: Self::Ints]() -> Self::Ints;
        fn sub_i32[a: Self::Ints, b: Self::Ints]() -> Self::Ints;
        fn dot_u8_first[weights: Self::Ints](x: [i8; 4]) -> Self::Ints;
        fn dot_u8_start[weights: Self::Ints](correction: i32, x: [i8; 4]) -> Self::Ints;
        fn dot_u8[partial: Self::Ints, weights: Self::Ints](x: [i8; 4]) -> Self::Ints;
        fn dot_u8_end[partial: Self::Ints](correction: i32) -> Self::Ints;
        fn add_scaled[sum: Self::Ints, partial: Self::Ints, scales: Self::Ints](largest: i32)
            -> Self::Ints;
        fn dot_i16[sum: Self::Ints, factors: Self::Ints](pair: [i16; 2]) -> Self::Ints;
        fn dot_i8_start[](correction: i32) -> Self::Ints;
        fn zero_f32[]() -> Self::Floats;
        fn splat[](x: f32) -> Self::Floats;
        fn to_f32[integers: Self::Ints]() -> Self::Floats;
        fn add[a: Self::Floats, b: Self::Floats]() -> Self::Floats;
        fn sub[a: Self::Floats, b: Self::Floats]() -> Self::Floats;
        fn mul[a: Self::Floats, b: Self::Floats]() -> Self::Floats;
        fn fma[a: Self::Floats, b: Self::Floats, c: Self::Floats]() -> Self::Floats;
        fn fnma[a: Self::Floats, b: Self::Floats, c: Self::Floats]() -> Self::Floats;
    }

    #[inline(always)]
    unsafe fn load<T>(source: *const T, stride: usize) -> Self::Ints {
        // SAFETY: the trait's condition.
        unsafe { [V::load(source, 0), V::load(source.byte_add(stride), 0)] }
    }

    #[inline(always)]
    fn max_dots(largest: i32) -> usize {
        V::max_dots(largest)
    }

    #[inline(always)]
    unsafe fn dot_i8_weights(weights: Self::Ints) -> SignedWeights<Self::Ints> {
        // SAFETY: the trait's condition.
        let [first, second] =
            unsafe { [V::dot_i8_weights(weights[0]), V::dot_i8_weights(weights[1])] };
        SignedWeights {
            unsigned: [first.unsigned, second.unsigned],
            signed: [first.signed, second.signed],
        }
    }

    #[inline(always)]
    unsafe fn dot_i8(
        sum: Self::Ints,
        weights: SignedWeights<Self::Ints>,
        x: [i8; 4],
    ) -> Self::Ints {
        let of = |panel: usize| SignedWeights {
            unsigned: weights.unsigned[panel],
            signed: weights.signed[panel],
        };
        // SAFETY: the trait's condition.
        unsafe { [V::dot_i8(sum[0], of(0), x), V::dot_i8(sum[1], of(1), x)] }
    }

    #[inline(always)]
    unsafe fn store(values: Self::Floats, rows: usize, output: *mut f32) {
        // SAFETY: the trait's condition.
        unsafe {
            V::store(values[0], rows.min(PANEL), output);
            if rows > PANEL {
                V::store(values[1], rows - PANEL, output.add(PANEL));
            }
        }
    }
}
