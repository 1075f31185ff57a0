//! Packed activations: the tokens of a tile, quantized, and interleaved so that all that a kernel
//! needs at one step lies together.

use super::plain::{Layout, cast_mut};

/// The type of a field: a value for each token, or an array of such.
macro_rules! per_token {
    ($type:ty) => {
        [$type; TOKENS]
    };
    ($type:ty; $count:literal) => {
        [[$type; TOKENS]; $count]
    };
}

/// Declares a step of a tile twice: as a type for kernels, which know the number of tokens at
/// compile time, and as slices for the quantizer, which does not. `field: T; n` is
/// `[[T; TOKENS]; n]`.
macro_rules! tile {
    (
        $(#[$attribute:meta])*
        $tile:ident, $step:ident: $bytes:literal bytes per token {
            $($(#[$field_attribute:meta])* $field:ident: $type:ty $(; $count:literal)?,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub(in super::super) struct $tile<const TOKENS: usize> {
            $($(#[$field_attribute])*
            pub(in super::super) $field: per_token!($type $(; $count)?),)*
        }

        const _: () = assert!(size_of::<$tile<1>>() == $bytes);
        const _: () = assert!(size_of::<$tile<12>>() == 12 * $bytes);

        // SAFETY: integers and floats, which any bytes are; there is no padding, since the bytes of
        // a token, the sum of its fields', are a multiple of the alignment.
        unsafe impl<const TOKENS: usize> Layout for $tile<TOKENS> {}

        $(#[$attribute])*
        /// The number of tokens is known at run time.
        pub(in super::super) struct $step<'a> {
            $($(#[$field_attribute])*
            pub(in super::super) $field: &'a mut [$type],)*
        }

        impl<'a> $step<'a> {
            /// A step of `tokens` tokens in `bytes`.
            #[inline(always)]
            pub(in super::super) fn new(bytes: &'a mut [u8], tokens: usize) -> Self {
                $(
                    let size = $($count *)? tokens * size_of::<$type>();
                    let ($field, bytes) = bytes.split_at_mut(size);
                )*
                debug_assert!(bytes.is_empty());
                Self { $($field: cast_mut($field),)* }
            }
        }
    };
}

tile! {
    /// 32 elements beside `q4_0`, and beside `q8_0` in large batches.
    Q8_0Tile, Q8_0Step: 40 bytes per token {
        qs: [[i8; 4]; 8],
        d: f32,
        /// −zero point · the sum of `qs`: what unsigned weights add too much.
        correction: i32,
    }
}

tile! {
    /// 32 elements beside `q8_0`, whose fourths are accumulated in lanes of their own.
    Q8_0LanesTile, Q8_0LanesStep: 68 bytes per token {
        qs: [[i8; 4]; 8],
        /// −128 · the sum of each four of `qs`.
        corrections: [i32; 8],
        d: f32,
    }
}

tile! {
    /// 32 elements beside rows of blocks of 32 that are not packed.
    Q8_1Tile, Q8_1Step: 40 bytes per token {
        qs: [[i8; 4]; 8],
        d: f32,
        /// The sum of the values, rounded to f16: what minimums are multiplied with.
        s: f32,
    }
}

tile! {
    /// 256 elements beside K-quants.
    Q8KTile, Q8KStep: 308 bytes per token {
        /// For each group of 32.
        qs: [[i8; 4]; 8]; 8,
        /// For each pair of groups of 32 their two sums.
        pair_sums: [i16; 2]; 4,
        /// The sums of 16.
        sums: [[i16; 2]; 8],
        d: f32,
    }
}
