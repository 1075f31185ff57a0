//! Unrolled loops.

/// Repeats a body for the vectors 0 to 7 of 32 bytes: `$lane` is which four of 16 activations go
/// with one, `$half` which 16. Registers are addressed by constants.
macro_rules! each_vector {
    (|$vector:ident, $half:ident, $lane:ident| $body:block) => {
        each_vector!(@ [0 0 0] [1 0 1] [2 0 2] [3 0 3] [4 1 0] [5 1 1] [6 1 2] [7 1 3]
            |$vector, $half, $lane| $body)
    };
    (@ $([$v:literal $h:literal $l:literal])*
        |$vector:ident, $half:ident, $lane:ident| $body:block) => {
        each_vector!(@@ [$([$v $h $l])*] $vector $half $lane $body)
    };
    (@@ [] $vector:ident $half:ident $lane:ident $body:block) => {};
    (@@ [[$v:literal $h:literal $l:literal] $($rest:tt)*]
        $vector:ident $half:ident $lane:ident $body:block) => {
        {
            const $vector: usize = $v;
            const $half: usize = $h;
            const $lane: i32 = $l;
            $body
        }
        each_vector!(@@ [$($rest)*] $vector $half $lane $body)
    };
}
pub(super) use each_vector;
