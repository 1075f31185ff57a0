//! How other frameworks than `PyTorch` name the tensors of a model and orient its matrices.
//!
//! The modules have the same names in all of them. The separator of levels, the last name of a path
//! and the orientation of the matrix under it differ. So a framework is a table here, and the
//! model's own table (`spec/tensor_table.rs`) needs none of it.

/// A framework's names and orientations.
pub(super) struct Convention {
    /// How a list and its element are written.
    list: List,
    /// The last names of paths.
    leaves: &'static [Leaf],
}

/// How a list and its element are written.
enum List {
    /// As two levels.
    #[cfg(feature = "msgpack")]
    Levels,
    /// As one level with this between them.
    #[cfg(feature = "hdf5")]
    Joined(&'static str),
    /// As one level, the number behind the list of this name.
    Numbered(&'static str),
}

/// The last name of a path.
struct Leaf {
    /// The framework's name.
    theirs: &'static str,
    /// `PyTorch`'s name.
    ours: &'static str,
    /// Whether a matrix has its axes in the reverse of `PyTorch`'s order, whatever that is for the
    /// layer in question.
    swapped: bool,
}

const fn leaf(theirs: &'static str, ours: &'static str, swapped: bool) -> Leaf {
    Leaf {
        theirs,
        ours,
        swapped,
    }
}

/// Keras. Its `Conv1D` is GPT-2's own class and stores `weight` as `PyTorch`'s does; `Dense` stores
/// `kernel` as `[in, out]`. An embedding's matrix was called `weight` until 2020.
#[cfg(feature = "hdf5")]
pub(super) const TENSORFLOW: Convention = Convention {
    list: List::Joined("_._"),
    leaves: &[
        leaf("gamma:0", "weight", false),
        leaf("beta:0", "bias", false),
        leaf("embeddings:0", "weight", false),
        leaf("weight:0", "weight", false),
        leaf("bias:0", "bias", false),
        leaf("kernel:0", "weight", true),
    ],
};

/// `OpenAI`'s own program: `h0/attn/c_attn/w`. Its matrices have a leading axis of size 1 and
/// `Conv1D`'s orientation.
pub(super) const OPENAI: Convention = Convention {
    list: List::Numbered("h"),
    leaves: &[
        leaf("w", "weight", false),
        leaf("g", "weight", false),
        leaf("b", "bias", false),
        leaf("wte", "wte.weight", false),
        leaf("wpe", "wpe.weight", false),
    ],
};

/// Flax. Its `Conv1D` stores `kernel` as `[out, in]` and `Dense` as `[in, out]`: each the reverse
/// of `PyTorch`'s.
#[cfg(feature = "msgpack")]
pub(super) const FLAX: Convention = Convention {
    list: List::Levels,
    leaves: &[
        leaf("embedding", "weight", false),
        leaf("scale", "weight", false),
        leaf("bias", "bias", false),
        leaf("kernel", "weight", true),
    ],
};

impl Convention {
    /// `PyTorch`'s name for the tensor at `path`, and whether its matrix is swapped. An unknown
    /// last name is kept.
    pub(super) fn translate(&self, path: &[&str]) -> (String, bool) {
        let Some((last, levels)) = path.split_last() else {
            return (String::new(), false);
        };
        let mut name = String::new();
        for level in levels {
            match self.list {
                #[cfg(feature = "msgpack")]
                List::Levels => name.push_str(level),
                #[cfg(feature = "hdf5")]
                List::Joined(between) => name.push_str(&level.replace(between, ".")),
                List::Numbered(list) => match level.strip_prefix(list) {
                    Some(number) if number.parse::<u32>().is_ok() => {
                        name.extend([list, ".", number]);
                    }
                    _ => name.push_str(level),
                },
            }
            name.push('.');
        }
        let known = self.leaves.iter().find(|leaf| leaf.theirs == *last);
        name.push_str(known.map_or(last, |leaf| leaf.ours));
        (name, known.is_some_and(|leaf| leaf.swapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "hdf5")]
    #[test]
    fn tensorflow_names_become_pytorch_names() {
        for (path, name, swapped) in [
            (
                &["transformer", "h_._11", "attn", "c_attn", "weight:0"][..],
                "transformer.h.11.attn.c_attn.weight",
                false,
            ),
            (
                &["transformer", "wte", "weight:0"],
                "transformer.wte.weight",
                false,
            ),
            (
                &["transformer", "h_._0", "ln_1", "gamma:0"],
                "transformer.h.0.ln_1.weight",
                false,
            ),
            (&["score", "kernel:0"], "score.weight", true),
            (&["other", "momentum:0"], "other.momentum:0", false),
            (&[], "", false),
        ] {
            assert_eq!(TENSORFLOW.translate(path), (name.to_owned(), swapped));
        }
    }

    #[test]
    fn openais_names_become_pytorch_names() {
        for (path, name) in [
            (
                &["h11", "attn", "c_attn", "w"][..],
                "h.11.attn.c_attn.weight",
            ),
            (&["h0", "ln_1", "g"], "h.0.ln_1.weight"),
            (&["h0", "ln_1", "b"], "h.0.ln_1.bias"),
            (&["wte"], "wte.weight"),
            (&["ln_f", "g"], "ln_f.weight"),
            (&["head", "hx", "other"], "head.hx.other"),
        ] {
            assert_eq!(OPENAI.translate(path), (name.to_owned(), false));
        }
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn flax_names_become_pytorch_names() {
        for (path, name, swapped) in [
            (
                &["h", "3", "mlp", "c_fc", "kernel"][..],
                "h.3.mlp.c_fc.weight",
                true,
            ),
            (
                &["transformer", "ln_f", "scale"],
                "transformer.ln_f.weight",
                false,
            ),
            (
                &["transformer", "wpe", "embedding"],
                "transformer.wpe.weight",
                false,
            ),
        ] {
            assert_eq!(FLAX.translate(path), (name.to_owned(), swapped));
        }
    }
}
