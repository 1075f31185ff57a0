//! The options of models and sessions.

use crate::error::{Error, Result};
use crate::ggml::backend::MAX_THREADS;
use crate::gguf::TensorType;
use crate::machine::default_threads;
use crate::model::kv_cache::MAX_SEQUENCES;
use crate::spec::Hyperparameters;

/// How a model is loaded into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOptions {
    /// Use the mapped bytes of the file in place, shared with other processes. Without it every
    /// tensor is copied.
    pub map: bool,
    /// Keep the weights from being swapped out.
    pub lock: bool,
    /// Pack matrices into a layout that is multiplied faster, and release their mapped pages. Costs
    /// some time at the start. Ignored where the address space is bounded (`ulimit -v`) and has no
    /// room.
    pub repack: bool,
    /// Compute with this library's kernels: products of the matrix types they know where `repack`
    /// is set, and the steps between products (layer norm, bias, activation, residual) of every
    /// model. Without them ggml's operations compute them, slower: for comparisons. GELU has the
    /// precision of f32 where the matrices are f32, and otherwise that of f16, as in ggml.
    pub own_kernels: bool,
    /// Devices to compute on, besides the CPU, which always takes part: names as in
    /// [`system::devices`](crate::system::devices), or `rpc://HOST:PORT` for those of a
    /// worker on another machine. Empty: the CPU alone.
    pub devices: Vec<String>,
    /// How many layers, counted from the last, are on the GPUs among `devices`; the head counts as
    /// one. By default all. Their weights are in the memory of these devices alone.
    pub gpu_layers: Option<usize>,
    /// Most bytes of memory that the process may use; by default what is free and what its memory
    /// cgroups and resource limits leave.
    pub memory: Option<u64>,
    /// The session that is planned: a model is refused, before its weights are loaded, when there
    /// is no room for it.
    pub session: SessionOptions,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            map: true,
            lock: false,
            repack: true,
            own_kernels: true,
            devices: Vec::new(),
            gpu_layers: None,
            memory: None,
            session: SessionOptions::default(),
        }
    }
}

/// The type of the keys and values in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8.5 bits.
    Q8_0,
    /// 4.5 bits.
    Q4_0,
}

/// Names of the cache types, as the commands spell them.
const CACHE_TYPES: &[(&str, CacheType, TensorType)] = &[
    ("f32", CacheType::F32, TensorType::F32),
    ("f16", CacheType::F16, TensorType::F16),
    ("q8_0", CacheType::Q8_0, TensorType::Q8_0),
    ("q4_0", CacheType::Q4_0, TensorType::Q4_0),
];

impl CacheType {
    /// Every type, the largest first.
    pub fn all() -> impl Iterator<Item = Self> {
        CACHE_TYPES.iter().map(|(_, cache_type, _)| *cache_type)
    }

    /// The type called `name`, such as `f16`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = CACHE_TYPES.iter().find(|(known, ..)| *known == name);
        found.map(|(_, cache_type, _)| *cache_type)
    }

    fn entry(self) -> &'static (&'static str, Self, TensorType) {
        let index = match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 2,
            Self::Q4_0 => 3,
        };
        &CACHE_TYPES[index]
    }

    /// The name, such as `f16`.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// The tensor type of the cache's rows.
    pub fn tensor_type(self) -> TensorType {
        self.entry().2
    }
}

/// Whether attention avoids the score matrix in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlashAttention {
    /// As measured to be faster.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl FlashAttention {
    /// The setting called `name`: `auto`, `on` or `off`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// How a session works. The default suits one text at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Positions that the cache holds, of all sequences together; by default as many as the model
    /// has for each sequence, or as many as there is memory for.
    pub context: Option<usize>,
    /// The type of the cache; by default f16, and f32 for a model of f32 matrices, whose user wants
    /// every digit; `q8_0` where memory allows only few positions otherwise.
    pub cache_type: Option<CacheType>,
    /// How attention is computed.
    pub flash_attention: FlashAttention,
    /// Threads to compute with; by default one for each physical core of the fast kind that the
    /// process may use.
    pub threads: Option<usize>,
    /// Most tokens computed together, fewer where memory is short. Bounds the memory of the
    /// computation; more than the default gains nothing on a CPU.
    pub batch_size: usize,
    /// Sequences that the cache tells apart, numbered from 0.
    pub sequences: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            context: None,
            cache_type: None,
            flash_attention: FlashAttention::default(),
            threads: None,
            batch_size: 256,
            sequences: 1,
        }
    }
}

/// Options with every default filled in and every limit checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResolvedOptions {
    pub(super) context: usize,
    pub(super) cache_type: CacheType,
    pub(super) flash_attention: bool,
    pub(super) gelu_by_table: bool,
    pub(super) threads: usize,
    pub(super) batch_size: usize,
    pub(super) sequences: usize,
}

impl SessionOptions {
    /// The type of the cache for a model whose matrices are of `matrix_type`.
    pub(super) fn cache_type_for(&self, matrix_type: TensorType) -> CacheType {
        self.cache_type
            .unwrap_or(if matrix_type == TensorType::F32 {
                CacheType::F32
            } else {
                CacheType::F16
            })
    }

    /// Fills in the defaults for a model whose matrices are of `matrix_type`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] naming the option that is out of its range.
    pub(super) fn resolve(
        &self,
        hyperparameters: &Hyperparameters,
        matrix_type: TensorType,
    ) -> Result<ResolvedOptions> {
        let sequences = within("sequences", self.sequences, MAX_SEQUENCES)?;
        let most = hyperparameters.n_positions.saturating_mul(sequences);
        let context = within("context size", self.context.unwrap_or(most), most)?;
        let threads = self.threads.unwrap_or_else(default_threads);
        Ok(ResolvedOptions {
            context,
            cache_type: self.cache_type_for(matrix_type),
            flash_attention: self.flash_attention != FlashAttention::Off,
            gelu_by_table: matrix_type != TensorType::F32,
            threads: within("threads", threads, MAX_THREADS)?,
            batch_size: within("batch size", self.batch_size, usize::MAX)?.min(context),
            sequences,
        })
    }
}

fn within(name: &'static str, value: usize, most: usize) -> Result<usize> {
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Error::out_of_range(
            name,
            format!("from 1 to {most}"),
            &value,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_of_the_cache_agree() {
        for cache_type in CacheType::all() {
            assert_eq!(CacheType::from_name(cache_type.name()), Some(cache_type));
            assert_eq!(cache_type.tensor_type().name(), cache_type.name());
        }
        assert_eq!(CacheType::from_name("q5_0"), None);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let hyperparameters = Hyperparameters {
            n_positions: 64,
            ..Hyperparameters::default()
        };
        let resolve = |options: SessionOptions| options.resolve(&hyperparameters, TensorType::F16);
        let resolved = resolve(SessionOptions::default()).unwrap();
        assert_eq!(
            (resolved.context, resolved.cache_type),
            (64, CacheType::F16)
        );
        let exact = SessionOptions::default()
            .resolve(&hyperparameters, TensorType::F32)
            .unwrap();
        assert_eq!(exact.cache_type, CacheType::F32);
        let two = SessionOptions {
            sequences: 2,
            ..SessionOptions::default()
        };
        assert_eq!(resolve(two).unwrap().context, 128);
        for (options, name) in [
            (
                SessionOptions {
                    context: Some(65),
                    ..SessionOptions::default()
                },
                "context size",
            ),
            (
                SessionOptions {
                    context: Some(0),
                    ..SessionOptions::default()
                },
                "context size",
            ),
            (
                SessionOptions {
                    threads: Some(0),
                    ..SessionOptions::default()
                },
                "threads",
            ),
            (
                SessionOptions {
                    batch_size: 0,
                    ..SessionOptions::default()
                },
                "batch size",
            ),
            (
                SessionOptions {
                    sequences: 65,
                    ..SessionOptions::default()
                },
                "sequences",
            ),
        ] {
            assert!(resolve(options).unwrap_err().to_string().starts_with(name));
        }
    }
}
