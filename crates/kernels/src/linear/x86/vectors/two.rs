//! Two panels, each in vectors of a set that takes one: what is the same for every row is loaded once for both.

use std::marker::PhantomData;

use super::super::super::PANEL;
use super::{SignedWeights, Vectors};

/// A vector of `V` for each of two panels.
pub(in super::super) struct Two<V>(PhantomData<V>);

/// Methods of [`Vectors`] that do the same with both vectors: what stands in brackets there are two of.
macro_rules! with_both {
    ($(fn $name:ident [$($both:ident: $type:ty),*] ($($same:ident: $same_type:ty),*) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($both: $type,)* $($same: $same_type),*) -> $result {
                // SAFETY: the trait's condition.
                unsafe { [V::$name($($both[0],)* $($same),*), V::$name($($both[1],)* $($same),*)] }
            }
        )*
    };
}

/// Methods of [`Vectors`] that read the same place of both panels.
macro_rules! of_both {
    ($(fn $name:ident -> $result:ty;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name(place: *const u8, other: usize) -> $result {
                // SAFETY: the trait's condition.
                unsafe { [V::$name(place, 0), V::$name(place.add(other), 0)] }
            }
        )*
    };
}

impl<V: Vectors> Vectors for Two<V> {
    type Integers = [V::Integers; 2];
    type Floats = [V::Floats; 2];

    const PANELS: usize = 2;
    const WEIGHTS_STAY: bool = false;

    of_both! {
        fn load -> Self::Integers;
        fn load_bytes -> Self::Integers;
        fn load_pairs -> Self::Integers;
        fn load_floats -> Self::Floats;
        fn load_halves -> Self::Floats;
    }

    with_both! {
        fn zero[]() -> Self::Integers;
        fn low_nibbles[both: Self::Integers]() -> Self::Integers;
        fn high_nibbles[both: Self::Integers]() -> Self::Integers;
        fn less[a: Self::Integers, b: Self::Integers]() -> Self::Integers;
        fn small_first[weights: Self::Integers](bytes: *const u8) -> Self::Integers;
        fn small_start[weights: Self::Integers](sum: *const u8, bytes: *const u8) -> Self::Integers;
        fn small_dot[partial: Self::Integers, weights: Self::Integers](bytes: *const u8) -> Self::Integers;
        fn small_end[partial: Self::Integers](sum: *const u8) -> Self::Integers;
        fn add_scaled[sum: Self::Integers, partial: Self::Integers, scales: Self::Integers](largest: i32)
            -> Self::Integers;
        fn add_pair_products[sum: Self::Integers, factors: Self::Integers](pair: *const u8) -> Self::Integers;
        fn signed_start[](excess: *const u8) -> Self::Integers;
        fn float_zero[]() -> Self::Floats;
        fn everywhere[](place: *const u8) -> Self::Floats;
        fn to_floats[integers: Self::Integers]() -> Self::Floats;
        fn add[a: Self::Floats, b: Self::Floats]() -> Self::Floats;
        fn subtract[a: Self::Floats, b: Self::Floats]() -> Self::Floats;
        fn multiply[a: Self::Floats, b: Self::Floats]() -> Self::Floats;
        fn multiply_add[a: Self::Floats, b: Self::Floats, c: Self::Floats]() -> Self::Floats;
        fn subtract_product[a: Self::Floats, b: Self::Floats, c: Self::Floats]() -> Self::Floats;
    }

    #[inline(always)]
    fn fitting(largest: i32) -> usize {
        V::fitting(largest)
    }

    #[inline(always)]
    unsafe fn signed_weights(weights: Self::Integers) -> SignedWeights<Self::Integers> {
        // SAFETY: the trait's condition.
        let [first, second] =
            unsafe { [V::signed_weights(weights[0]), V::signed_weights(weights[1])] };
        SignedWeights {
            unsigned: [first.unsigned, second.unsigned],
            signed: [first.signed, second.signed],
        }
    }

    #[inline(always)]
    unsafe fn signed_dot(
        sum: Self::Integers,
        weights: SignedWeights<Self::Integers>,
        bytes: *const u8,
    ) -> Self::Integers {
        let of = |panel: usize| SignedWeights {
            unsigned: weights.unsigned[panel],
            signed: weights.signed[panel],
        };
        // SAFETY: the trait's condition.
        unsafe {
            [
                V::signed_dot(sum[0], of(0), bytes),
                V::signed_dot(sum[1], of(1), bytes),
            ]
        }
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
