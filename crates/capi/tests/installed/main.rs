//! The library as C programs meet it: installed by `install.sh`, and compiled against with gcc.

#[path = "../../../../tests/common/mod.rs"]
mod common;

mod abi;
mod documents;
mod library;
mod programs;
mod second_ggml;
mod symbols;

/// Ends the test with a word about what is missing, where there is nothing to compile C with.
macro_rules! installed_or_return {
    () => {
        match crate::library::library() {
            Some(library) => library,
            None => return,
        }
    };
}
pub(crate) use installed_or_return;
