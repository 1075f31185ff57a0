//! The one table of ggml's backends: which can be compiled in, from which files.
//!
//! Paths are relative to ggml's `src/`, or begin with `vendor/`; `{arch}` is the folder of the
//! target's processor. Backends that ggml builds with tools of their own (CUDA, Metal, Vulkan,
//! BLAS) are built by ggml's cmake files; `plan.rs` says how. Nothing here looks at the machine, so
//! that the table of any system can be tested on any other.

use crate::plan::CMake;

/// A backend of ggml.
pub(crate) struct Backend {
    /// As `--device` and `--version` spell it.
    pub(crate) name: &'static str,
    /// The cargo feature that compiles it in; `None`: always.
    pub(crate) feature: Option<&'static str>,
    /// What makes ggml's registry know it.
    pub(crate) define: &'static str,
    /// What it is made of, for the C and C++ compilers.
    pub(crate) units: &'static [Unit],
    /// How ggml's cmake files build it, when they do.
    pub(crate) cmake: Option<&'static CMake>,
}

/// The file that makes a list of what is compiled in: the one place where a backend's define
/// matters.
pub(crate) const REGISTRY: &str = "ggml-backend-reg.cpp";

/// Source files that are compiled with the same flags.
pub(crate) struct Unit {
    /// Whether these are C++ (gnu++17) and not C (gnu11).
    pub(crate) cpp: bool,
    /// Whether these files are compiled for the instructions of the target's processor.
    pub(crate) tuned: bool,
    /// Defines and flags beyond those that all of ggml gets.
    pub(crate) flags: &'static [&'static str],
    /// The files; those in `vendor/` are of this package.
    pub(crate) files: &'static [&'static str],
}

/// What every backend stands on.
///
/// Its C files convert and quantize rows. Without fused multiply-add their results are
/// bit-identical to those of a build for any other processor; vector instructions alone change no
/// result. Floating-point traps, which nobody here enables, keep gcc from vectorizing the
/// conversion to f16 (five times as fast without); in the quantizers, doing without them gains and
/// loses about the same.
pub(crate) const BASE: &[Unit] = &[
    Unit {
        cpp: false,
        tuned: true,
        flags: &["-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"],
        files: &["ggml.c", "ggml-alloc.c"],
    },
    Unit {
        cpp: false,
        tuned: true,
        flags: &["-ffp-contract=off"],
        files: &["ggml-quants.c"],
    },
    Unit {
        cpp: true,
        tuned: false,
        flags: &[],
        files: &[
            "ggml.cpp",
            "ggml-backend.cpp",
            "ggml-backend-dl.cpp",
            "ggml-backend-meta.cpp",
            REGISTRY,
            "ggml-opt.cpp",
            "ggml-threading.cpp",
            "gguf.cpp",
        ],
    },
];

/// The file with the threads of the CPU backend.
pub(crate) const THREADS: &str = "ggml-cpu/ggml-cpu.c";

/// Weights rearranged for wide loads, and the matrix products of llamafile.
const CPU_FLAGS: &[&str] = &["-DGGML_USE_CPU_REPACK", "-DGGML_USE_LLAMAFILE"];

/// The name of the CPU backend.
pub(crate) const CPU: &str = "cpu";

/// Every backend this build knows.
pub(crate) const BACKENDS: &[Backend] = &[
    Backend {
        name: CPU,
        feature: None,
        define: "GGML_USE_CPU",
        units: &[
            Unit {
                cpp: false,
                tuned: true,
                flags: CPU_FLAGS,
                files: &[
                    THREADS,
                    "ggml-cpu/quants.c",
                    "ggml-cpu/arch/{arch}/quants.c",
                ],
            },
            Unit {
                cpp: true,
                tuned: true,
                flags: CPU_FLAGS,
                files: &[
                    "ggml-cpu/ggml-cpu.cpp",
                    "ggml-cpu/hbm.cpp",
                    "ggml-cpu/traits.cpp",
                    "ggml-cpu/ops.cpp",
                    "ggml-cpu/unary-ops.cpp",
                    "ggml-cpu/binary-ops.cpp",
                    "ggml-cpu/vec.cpp",
                    "ggml-cpu/repack.cpp",
                    "ggml-cpu/arch/{arch}/repack.cpp",
                    "ggml-cpu/amx/amx.cpp",
                    "ggml-cpu/amx/mmq.cpp",
                    "ggml-cpu/tiled/tiled.cpp",
                    "ggml-cpu/tiled/tiled-kernel.cpp",
                    "ggml-cpu/llamafile/sgemm.cpp",
                ],
            },
        ],
        cmake: None,
    },
    Backend {
        name: "rpc",
        feature: Some("rpc"),
        define: "GGML_USE_RPC",
        units: &[Unit {
            cpp: true,
            tuned: false,
            flags: &[],
            files: &[
                "ggml-rpc/ggml-rpc.cpp",
                "vendor/transport.cpp",
                "ggml-rpc/log.cpp",
            ],
        }],
        cmake: None,
    },
    Backend {
        name: "cuda",
        feature: Some("cuda"),
        define: "GGML_USE_CUDA",
        units: &[],
        cmake: Some(&crate::plan::CUDA),
    },
    Backend {
        name: "metal",
        feature: Some("metal"),
        define: "GGML_USE_METAL",
        units: &[],
        cmake: Some(&crate::plan::METAL),
    },
    Backend {
        name: "vulkan",
        feature: Some("vulkan"),
        define: "GGML_USE_VULKAN",
        units: &[],
        cmake: Some(&crate::plan::VULKAN),
    },
    Backend {
        name: "blas",
        feature: Some("blas"),
        define: "GGML_USE_BLAS",
        units: &[],
        cmake: Some(&crate::plan::BLAS),
    },
];

/// The backends that the features ask for, of which `has` says whether one is on.
pub(crate) fn enabled(has: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static Backend> {
    BACKENDS
        .iter()
        .filter(move |backend| backend.feature.is_none_or(&has))
}
