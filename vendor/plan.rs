//! How ggml's cmake files build the backends for graphics processors, and what these are linked
//! with.
//!
//! Pure functions of the target's system and the features asked for: what happens on a Mac is
//! tested on Linux.

use crate::backends::Backend;

/// What one backend needs of cmake and of the linker.
pub(crate) struct CMake {
    /// The library that ggml's cmake files make of it.
    pub(crate) target: &'static str,
    /// Options beyond [`COMMON`].
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// Files or folders it is built from, relative to ggml's `src/`.
    pub(crate) files: &'static [&'static str],
    /// What is linked with it, by system; the row for `""` serves systems that have none of their
    /// own.
    pub(crate) libraries: &'static [(&'static str, &'static [Library])],
    /// Where these may lie, beside the places every linker looks: a variable or a folder, and
    /// folders in it.
    pub(crate) search: &'static [(&'static str, &'static [&'static str])],
    /// Systems that have it, in Rust's spelling; none named: every system.
    pub(crate) systems: &'static [&'static str],
    /// What must be installed, for the message when the build fails.
    pub(crate) needs: &'static str,
}

/// A library beside ggml's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    /// Linked in whichever form the linker finds.
    System(&'static str),
    /// A framework of Apple's systems.
    Framework(&'static str),
}

use Library::{Framework, System};

const APPLE: &[&str] = &["macos", "ios", "tvos", "visionos"];

/// The toolkit's libraries, and what stands in for the driver's where there is no driver.
const CUDA_FOLDERS: &[&str] = &["lib64", "lib64/stubs", "lib", "lib/x64"];

pub(crate) const CUDA: CMake = CMake {
    target: "ggml-cuda",
    // NCCL, for several cards in one machine, is not looked for: whether it is there would change
    // what is linked.
    options: &[("GGML_CUDA", "ON"), ("GGML_CUDA_NCCL", "OFF")],
    files: &["ggml-cuda"],
    libraries: &[(
        "",
        &[
            System("cudart"),
            System("cublas"),
            System("cuda"), // the driver's own library
        ],
    )],
    search: &[
        ("CUDAToolkit_ROOT", CUDA_FOLDERS),
        ("CUDA_PATH", CUDA_FOLDERS),
        ("/usr/local/cuda", CUDA_FOLDERS),
    ],
    systems: &["linux", "windows"],
    needs: "the CUDA Toolkit, 12 or later (CUDACXX names its nvcc, CUDAToolkit_ROOT its folder, \
            CUDAARCHS the \
            architectures to compile for)",
};

pub(crate) const METAL: CMake = CMake {
    target: "ggml-metal",
    // The kernels' source becomes part of the program: nothing is looked for beside it at run time.
    options: &[("GGML_METAL", "ON"), ("GGML_METAL_EMBED_LIBRARY", "ON")],
    files: &[
        "ggml-metal/ggml-metal.cpp",
        "ggml-metal/ggml-metal-common.cpp",
        "ggml-metal/ggml-metal-context.m",
        "ggml-metal/ggml-metal-device.cpp",
        "ggml-metal/ggml-metal-device.m",
        "ggml-metal/ggml-metal-fusion.cpp",
        "ggml-metal/ggml-metal-ops.cpp",
        "ggml-metal/ggml-metal-tuning.cpp",
        "ggml-metal/kernels",
    ],
    libraries: &[(
        "",
        &[
            Framework("Foundation"),
            Framework("Metal"),
            Framework("MetalKit"),
        ],
    )],
    search: &[],
    systems: APPLE,
    needs: "Xcode's command line tools (xcode-select --install)",
};

pub(crate) const VULKAN: CMake = CMake {
    target: "ggml-vulkan",
    options: &[("GGML_VULKAN", "ON")],
    files: &["ggml-vulkan"],
    libraries: &[
        ("windows", &[System("vulkan-1")]),
        ("", &[System("vulkan")]),
    ],
    search: &[("VULKAN_SDK", &["lib", "Lib"])],
    systems: &[],
    needs: "the Vulkan SDK: loader, headers of 1.4 or later, glslc and SPIRV-Headers (Debian: \
            apt-get install \
            libvulkan-dev glslc spirv-headers; newer headers go on CPATH, the SDK's folder in \
            VULKAN_SDK)",
};

pub(crate) const BLAS: CMake = CMake {
    target: "ggml-blas",
    options: &[("GGML_BLAS", "ON")],
    files: &["ggml-blas"],
    libraries: &[
        ("macos", &[Framework("Accelerate")]),
        ("ios", &[Framework("Accelerate")]),
        ("", &[System("openblas")]),
    ],
    search: &[],
    systems: &[],
    needs: "OpenBLAS with its header cblas.h, and pkg-config (Debian: apt-get install \
            libopenblas-dev pkg-config)",
};

/// Options of every cmake build: static libraries of the backends alone. ggml's base and its CPU
/// backend are compiled by `compile.rs`.
const COMMON: [(&str, &str); 9] = [
    ("BUILD_SHARED_LIBS", "OFF"),
    ("CMAKE_POSITION_INDEPENDENT_CODE", "ON"),
    // The backends' own objects, without those of the libraries they will be linked with.
    ("CMAKE_OPTIMIZE_DEPENDENCIES", "ON"),
    ("GGML_CPU", "OFF"),
    ("GGML_OPENMP", "OFF"),
    ("GGML_CCACHE", "OFF"),
    ("GGML_NATIVE", "OFF"),
    ("GGML_ALL_WARNINGS", "OFF"),
    // Each backend turns itself on; some would be on by default.
    ("GGML_ACCELERATE", "OFF"),
];

/// Options that are on by default on some systems: off unless their backend is asked for.
const OFF_BY_DEFAULT: [&str; 2] = ["GGML_METAL", "GGML_BLAS"];

/// Everything cmake and the linker are told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The libraries to build.
    pub(crate) targets: Vec<&'static str>,
    /// What they are built from, relative to ggml's `src/`.
    pub(crate) files: Vec<&'static str>,
    /// Options, each once.
    pub(crate) options: Vec<(&'static str, &'static str)>,
    /// What is linked behind them.
    pub(crate) libraries: Vec<Library>,
    /// Where those may lie, as [`CMake::search`] has it.
    pub(crate) search: Vec<(&'static str, &'static [&'static str])>,
    /// What must be installed, one entry a backend.
    pub(crate) needs: Vec<String>,
}

/// The plan for `backends` on `system`; `None` when none of them is built by cmake.
///
/// # Errors
/// When a backend does not exist on that system.
pub(crate) fn plan<'a>(
    backends: impl Iterator<Item = &'a Backend>,
    system: &str,
) -> Result<Option<Plan>, String> {
    let mut plan = Plan {
        targets: Vec::new(),
        files: Vec::new(),
        options: COMMON.to_vec(),
        libraries: Vec::new(),
        search: Vec::new(),
        needs: Vec::new(),
    };
    for (name, cmake) in backends.filter_map(|backend| Some((backend.name, backend.cmake?))) {
        if !cmake.systems.is_empty() && !cmake.systems.contains(&system) {
            return Err(format!(
                "feature {name}: expected a target among {}, found {system}; build without this \
                 feature",
                cmake.systems.join(", ")
            ));
        }
        plan.targets.push(cmake.target);
        plan.files.extend(cmake.files);
        plan.options.extend(cmake.options);
        if name == "blas" && !APPLE.contains(&system) {
            plan.options.push(("GGML_BLAS_VENDOR", "OpenBLAS"));
        }
        let own = cmake.libraries.iter().find(|(known, _)| *known == system);
        let row = own.or_else(|| cmake.libraries.iter().find(|(known, _)| known.is_empty()));
        plan.libraries
            .extend(row.iter().flat_map(|(_, libraries)| *libraries));
        plan.search.extend(cmake.search);
        plan.needs.push(format!("{name} needs {}", cmake.needs));
    }
    if plan.targets.is_empty() {
        return Ok(None);
    }
    for option in OFF_BY_DEFAULT {
        if !plan.options.iter().any(|(name, _)| *name == option) {
            plan.options.push((option, "OFF"));
        }
    }
    Ok(Some(plan))
}

/// The project that is configured: ggml's own fails as the outermost one, because the crate that
/// carries it lacks files which only an installation needs.
pub(crate) fn wrapper(ggml: &str, targets: &[&str]) -> String {
    let targets = targets.join(" ");
    format!(
        "cmake_minimum_required(VERSION 3.19)\n\
         project(gpt2-edge-backends C CXX)\n\
         set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${{CMAKE_BINARY_DIR}}/archives)\n\
         foreach(configuration DEBUG RELEASE RELWITHDEBINFO MINSIZEREL)\n  \
         set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY_${{configuration}} ${{CMAKE_BINARY_DIR}}/archives)\n\
         endforeach()\n\
         add_subdirectory(\"{ggml}\" ggml)\n\
         add_custom_target(backends DEPENDS {targets})\n"
    )
}
