//! Unrolled loops.

/// A loop of a constant number of rounds, at most 12, written out: left a loop, it would keep what
/// each round adds to in memory instead of in registers, which the compiler decides by length
/// alone.
macro_rules! unroll {
    ($index:ident in $count:expr => $body:block) => {
        unroll!(@ $index ($count) $body 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $index:ident ($count:expr) $body:block $($number:literal)*) => {
        const { assert!($count <= 12) };
        $(if $number < $count {
            let $index = $number;
            $body
        })*
    };
}
pub(super) use unroll;
