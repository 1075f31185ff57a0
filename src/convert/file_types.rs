//! The types of files: single types, and llama.cpp's mixes, in which tensors have different types.
//!
//! The rules are those of llama.cpp's quantizer for the architecture `gpt2`, so that files of the
//! same name compare. They are a table.

use crate::error::{Error, Result};
use crate::gguf::TensorType;
use crate::spec::tensor_table::Module;

/// A type of file, such as `q8_0` or the mix `q4_k_m`.
#[derive(Debug, PartialEq, Eq)]
pub struct FileType {
    /// Its names in lower case, the usual one first.
    pub names: &'static [&'static str],
    /// The number in `general.file_type`.
    pub number: u32,
    /// The type of every matrix that no rule gives another.
    pub base: TensorType,
    /// Tensors that get another type than the base.
    rules: &'static [Rule],
}

/// Gives the matrices of a module another type in some of the layers.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    module: Module,
    layers: Layers,
    importance: Importance,
    tensor_type: TensorType,
}

/// Which layers a rule is for. Divisions round down, as in llama.cpp.
#[derive(Debug, PartialEq, Eq)]
enum Layers {
    /// All of them.
    All,
    /// Those before the given one.
    Before(usize),
    /// The first `layers / n`.
    FirstPart(usize),
    /// The first and last eighth, and every third in between.
    MoreBits,
}

/// Whether a rule depends on an importance matrix.
#[derive(Debug, PartialEq, Eq)]
enum Importance {
    Any,
    With,
    Without,
}

impl Layers {
    fn contain(&self, layer: usize, layers: usize) -> bool {
        match self {
            Self::All => true,
            Self::Before(end) => layer < *end,
            Self::FirstPart(parts) => layer < layers / parts,
            Self::MoreBits => {
                let eighth = layers / 8;
                layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
            }
        }
    }
}

use Importance::{Any, With, Without};
use Layers::{All, Before, FirstPart, MoreBits};
use Module::{AttnOutput, AttnQkv, FfnDown};
use TensorType as T;

const fn rule(module: Module, layers: Layers, importance: Importance, tensor_type: T) -> Rule {
    Rule {
        module,
        layers,
        importance,
        tensor_type,
    }
}

const fn plain(names: &'static [&'static str], number: u32, base: T) -> FileType {
    FileType {
        names,
        number,
        base,
        rules: &[],
    }
}

const fn mix(
    names: &'static [&'static str],
    number: u32,
    base: T,
    rules: &'static [Rule],
) -> FileType {
    FileType {
        names,
        number,
        base,
        rules,
    }
}

/// Every type of file. The first rule that fits a tensor decides.
#[rustfmt::skip]
pub static FILE_TYPES: &[FileType] = &[
    plain(&["f32"], 0, T::F32),
    plain(&["f16"], 1, T::F16),
    plain(&["bf16"], 32, T::BF16),
    plain(&["q8_0"], 7, T::Q8_0),
    mix(&["q4_0"], 2, T::Q4_0, &[rule(FfnDown, FirstPart(8), With, T::Q4_1)]),
    plain(&["q4_1"], 3, T::Q4_1),
    mix(&["q5_0"], 8, T::Q5_0, &[rule(FfnDown, FirstPart(8), With, T::Q5_1)]),
    plain(&["q5_1"], 9, T::Q5_1),
    mix(&["q2_k"], 10, T::Q2_K, &[
        rule(AttnQkv, All, Any, T::Q3_K),
        rule(AttnOutput, All, Any, T::Q3_K),
        rule(FfnDown, All, Any, T::Q3_K),
    ]),
    mix(&["q2_k_s"], 21, T::Q2_K, &[rule(FfnDown, FirstPart(8), Any, T::Q4_K)]),
    plain(&["q3_k_s"], 11, T::Q3_K),
    mix(&["q3_k", "q3_k_m"], 12, T::Q3_K, &[
        rule(AttnQkv, Before(2), Any, T::Q5_K),
        rule(AttnQkv, All, Any, T::Q4_K),
        rule(AttnOutput, All, Any, T::Q4_K),
        rule(FfnDown, FirstPart(16), Any, T::Q5_K),
        rule(FfnDown, All, Any, T::Q4_K),
    ]),
    mix(&["q3_k_l"], 13, T::Q3_K, &[
        rule(AttnQkv, All, Any, T::Q5_K),
        rule(AttnOutput, All, Any, T::Q5_K),
        rule(FfnDown, All, Any, T::Q5_K),
    ]),
    mix(&["q4_k_s"], 14, T::Q4_K, &[
        rule(AttnQkv, Before(4), Any, T::Q5_K),
        rule(FfnDown, FirstPart(8), Any, T::Q5_K),
    ]),
    mix(&["q4_k", "q4_k_m"], 15, T::Q4_K, &[
        rule(AttnQkv, MoreBits, Any, T::Q6_K),
        rule(FfnDown, MoreBits, Any, T::Q6_K),
    ]),
    plain(&["q5_k_s"], 16, T::Q5_K),
    mix(&["q5_k", "q5_k_m"], 17, T::Q5_K, &[
        rule(AttnQkv, MoreBits, Any, T::Q6_K),
        rule(FfnDown, MoreBits, Any, T::Q6_K),
    ]),
    plain(&["q6_k"], 18, T::Q6_K),
    mix(&["iq4_nl"], 25, T::IQ4_NL, &[rule(FfnDown, FirstPart(8), Without, T::Q5_K)]),
    mix(&["iq4_xs"], 30, T::IQ4_XS, &[rule(FfnDown, FirstPart(8), Without, T::Q5_K)]),
];

impl FileType {
    /// The type of file called `name`, in any case.
    ///
    /// # Errors
    /// [`Error::Argument`] listing the names there are.
    pub fn from_name(name: &str) -> Result<&'static Self> {
        FILE_TYPES
            .iter()
            .find(|known| known.names.iter().any(|own| own.eq_ignore_ascii_case(name)))
            .ok_or_else(|| {
                let names: Vec<&str> = FILE_TYPES
                    .iter()
                    .flat_map(|known| known.names)
                    .copied()
                    .collect();
                Error::Argument(format!(
                    "unknown type '{name}'; known are {}",
                    names.join(", ")
                ))
            })
    }

    /// The usual name.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The type the mix gives a matrix inside layer `layer` of `layers`, before its shape is
    /// considered.
    pub(super) fn type_in_layer(
        &self,
        module: Module,
        layer: usize,
        layers: usize,
        importance: bool,
    ) -> TensorType {
        self.rules
            .iter()
            .find(|rule| {
                rule.module == module
                    && rule.layers.contain(layer, layers)
                    && match rule.importance {
                        Any => true,
                        With => importance,
                        Without => !importance,
                    }
            })
            .map_or(self.base, |rule| rule.tensor_type)
    }
}

/// A type that a single tensor may get: any that is the base of a file type.
///
/// # Errors
/// [`Error::Argument`] listing the names there are.
pub fn tensor_type_from_name(name: &str) -> Result<TensorType> {
    TensorType::from_name(name)
        .filter(|wanted| FILE_TYPES.iter().any(|known| known.base == *wanted))
        .ok_or_else(|| {
            let mut names: Vec<&str> = FILE_TYPES.iter().map(|known| known.base.name()).collect();
            names.dedup();
            Error::Argument(format!(
                "unknown tensor type '{name}'; known are {}",
                names.join(", ")
            ))
        })
}

/// The type used instead of one whose block size does not divide the columns; `F16` when there is
/// none.
pub(super) fn fit_to_columns(wanted: TensorType, columns: u64) -> TensorType {
    let fits = |candidate: &TensorType| columns.is_multiple_of(candidate.block_size() as u64);
    let smaller = match wanted {
        T::IQ4_XS => T::IQ4_NL,
        T::Q2_K | T::Q3_K => T::Q4_0,
        T::Q4_K => T::Q5_0,
        T::Q5_K => T::Q5_1,
        T::Q6_K => T::Q8_0,
        other => other,
    };
    [wanted, smaller].into_iter().find(fits).unwrap_or(T::F16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers of a 12-layer model whose tensor gets `tensor_type`.
    fn layers_with(
        name: &str,
        module: Module,
        importance: bool,
        tensor_type: TensorType,
    ) -> Vec<usize> {
        let file_type = FileType::from_name(name).unwrap();
        (0..12)
            .filter(|layer| file_type.type_in_layer(module, *layer, 12, importance) == tensor_type)
            .collect()
    }

    #[test]
    fn mixes_are_those_of_llama_cpp() {
        // What llama-quantize writes for gpt2's 12 layers.
        let more_bits = [0, 3, 6, 9, 10, 11];
        assert_eq!(layers_with("Q4_K_M", AttnQkv, false, T::Q6_K), more_bits);
        assert_eq!(layers_with("q4_k", FfnDown, false, T::Q6_K), more_bits);
        assert_eq!(layers_with("q5_k", FfnDown, false, T::Q6_K), more_bits);
        assert_eq!(layers_with("q4_k", AttnOutput, false, T::Q4_K).len(), 12);
        assert_eq!(layers_with("q3_k", AttnQkv, false, T::Q5_K), [0, 1]);
        assert_eq!(layers_with("q3_k", FfnDown, false, T::Q4_K).len(), 12);
        assert_eq!(layers_with("q4_k_s", AttnQkv, false, T::Q5_K), [0, 1, 2, 3]);
        assert_eq!(layers_with("iq4_xs", FfnDown, false, T::Q5_K), [0]);
        assert!(layers_with("iq4_xs", FfnDown, true, T::Q5_K).is_empty());
        assert_eq!(layers_with("q4_0", FfnDown, true, T::Q4_1), [0]);
        assert!(layers_with("q4_0", FfnDown, false, T::Q4_1).is_empty());
    }

    #[test]
    fn names_and_numbers_are_unique() {
        let mut names: Vec<&str> = FILE_TYPES
            .iter()
            .flat_map(|known| known.names)
            .copied()
            .collect();
        let mut numbers: Vec<u32> = FILE_TYPES.iter().map(|known| known.number).collect();
        let counts = (names.len(), numbers.len());
        names.sort_unstable();
        names.dedup();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((names.len(), numbers.len()), counts);
    }

    #[test]
    fn types_fall_back_until_they_fit() {
        for (wanted, columns, expected) in [
            (T::Q4_K, 768, T::Q4_K),
            (T::Q4_K, 1600, T::Q5_0),
            (T::Q6_K, 1600, T::Q8_0),
            (T::IQ4_XS, 1600, T::IQ4_NL),
            (T::Q2_K, 1600, T::Q4_0),
            (T::Q5_K, 1600, T::Q5_1),
            (T::Q4_0, 1600, T::Q4_0),
            (T::Q4_0, 100, T::F16),
            (T::BF16, 7, T::BF16),
        ] {
            assert_eq!(
                fit_to_columns(wanted, columns),
                expected,
                "{wanted:?} at {columns}"
            );
        }
    }
}
