//! What the machine makes of a pickle.

use super::globals::Global;
use crate::convert::element_type::ElementType;

/// A value; the indices refer to the [`Machine`](super::machine::Machine)'s arenas.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Integer(i64),
    /// A number that is not used here: a fraction, or one of more than 64 bits.
    Number,
    /// Bytes of the pickle: where they begin, and how many they are.
    Bytes(usize, usize),
    Text(&'a str),
    /// A tuple or list.
    Sequence(usize),
    Dictionary(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
    /// Something beside the state dict.
    Object(usize),
}

/// A storage as a pickle refers to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    /// Its name among the file's storages.
    pub key: &'a str,
    /// The type of its elements.
    pub element: &'static ElementType,
    /// Elements in it.
    pub elements: u64,
    /// Its first element in the storage of that name.
    pub first: u64,
    /// Where its elements are in the pickle, when they are inside it.
    pub inside: Option<(usize, usize)>,
}

/// A tensor as a pickle describes it.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// The index of its storage.
    pub storage: usize,
    /// Its first element in the storage.
    pub offset: u64,
    /// Its sizes, slowest axis first.
    pub shape: Vec<u64>,
    /// For each axis, the distance of neighbours in elements of the storage.
    pub strides: Vec<u64>,
}
