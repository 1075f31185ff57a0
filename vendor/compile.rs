//! Compiles ggml's C and C++ into object files with the `cc` crate.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::backends::{self, Unit};
use crate::environment::Environment;
use crate::fetch::{self, Source};

/// A processor family that ggml is set up for here.
struct Processor {
    /// Rust's name of it.
    name: &'static str,
    /// ggml's folder of hand-written code for it, under `ggml-cpu/arch/`.
    folder: &'static str,
    /// The flag that means "this very machine".
    native: &'static str,
    /// What `-march` says otherwise, unless `GGML_CPU_ARCH` says more.
    portable: &'static str,
}

const PROCESSORS: [Processor; 2] = [
    Processor {
        name: "x86_64",
        folder: "x86",
        native: "-march=native",
        portable: "x86-64-v3", // AVX2 and FMA: Intel since 2013, AMD since 2015
    },
    Processor {
        name: "aarch64",
        folder: "arm",
        native: "-mcpu=native",
        portable: "armv8-a", // runs on every 64-bit ARM, Raspberry Pi 3 included
    },
];

/// Defined for all of ggml, as its own build files do.
const DEFINES: [(&str, Option<&str>); 4] = [
    ("_GNU_SOURCE", None),
    ("_XOPEN_SOURCE", Some("600")),
    ("NDEBUG", None),
    ("GGML_SCHED_MAX_COPIES", Some("4")),
];

/// Functions in sections of their own, so that the linker drops what is not called; ggml's symbols
/// hidden, so that they do not meet those of another ggml in the same process.
const FLAGS: [&str; 3] = [
    "-ffunction-sections",
    "-fdata-sections",
    "-fvisibility=hidden",
];

/// Compiles ggml and the backends asked for.
///
/// # Errors
/// When the target has no row in [`PROCESSORS`], or the compiler is missing or refuses a file.
pub(crate) fn objects(environment: &Environment, source: &Source) -> Result<Vec<PathBuf>> {
    if environment.toolchain == "msvc" {
        return Err(
            "ggml is not set up for the MSVC compiler here; build for a *-gnu target instead"
                .to_owned(),
        );
    }
    let processor = PROCESSORS
        .iter()
        .find(|processor| processor.name == environment.architecture)
        .ok_or_else(|| {
            format!(
                "ggml is not set up for processor {:?} here (it is for {}); add a row to PROCESSORS in vendor/compile.rs",
                environment.architecture,
                PROCESSORS.map(|processor| processor.name).join(" and ")
            )
        })?;
    let compiler = Compiler {
        environment,
        source,
        processor,
    };
    compiler.write_version_header()?;
    let backends = backends::enabled(|feature| environment.feature(feature));
    let backends = backends.flat_map(|backend| backend.units);
    let mut objects = Vec::new();
    for unit in backends::BASE.iter().chain(backends) {
        objects.extend(compiler.compile(unit)?);
    }
    Ok(objects)
}

struct Compiler<'a> {
    environment: &'a Environment,
    source: &'a Source,
    processor: &'static Processor,
}

impl Compiler<'_> {
    /// ggml's cmake makes this header; it says what `ggml_version()` returns.
    fn write_version_header(&self) -> Result<()> {
        let template = fetch::read(&self.source.root.join("src/ggml-version.h.in"))?;
        let header = template
            .replace("@GGML_VERSION@", &self.source.version)
            .replace("@GGML_BUILD_COMMIT@", "unknown");
        fetch::write(&self.environment.out.join("ggml-version.h"), &header)
    }

    fn compile(&self, unit: &Unit) -> Result<Vec<PathBuf>> {
        let mut build = self.prepare(unit);
        for file in unit.files {
            let file = file.replace("{arch}", self.processor.folder);
            build.file(self.source.root.join("src").join(file));
        }
        build.try_compile_intermediates().map_err(|error| {
            let (language, variable, package) = if unit.cpp {
                ("C++", "CXX", "g++")
            } else {
                ("C", "CC", "gcc")
            };
            format!(
                "compiling ggml failed: {error}\nIt needs a {language} compiler of 2019 or later (Debian: apt-get install \
                 {package}); {variable} names another one."
            )
        })
    }

    fn prepare(&self, unit: &Unit) -> cc::Build {
        let root = &self.source.root;
        let mut build = cc::Build::new();
        build
            .cargo_metadata(false) // link.rs says how to link
            .cpp(unit.cpp)
            .std(if unit.cpp { "gnu++17" } else { "gnu11" })
            .opt_level(3) // in a debug build too: ten times as slow is no use to anyone
            .debug(false)
            .warnings(false)
            .pic(true)
            .include(root.join("include"))
            .include(root.join("src"))
            .include(root.join("src/ggml-cpu"))
            .include(&self.environment.out)
            .flags(FLAGS)
            .flags(unit.flags)
            .flag(self.prefix_map());
        if unit.cpp {
            // A "unique" symbol of the C++ library cannot be hidden from a second ggml in the same program.
            build.flag_if_supported("-fno-gnu-unique");
        }
        for (name, value) in DEFINES {
            build.define(name, value);
        }
        let registers = unit.files.contains(&backends::REGISTRY);
        for backend in backends::enabled(|feature| self.environment.feature(feature)) {
            // The rest of ggml is the same whichever backends are beside it.
            if registers || backend.feature.is_none() {
                build.define(backend.define, None);
            }
        }
        if self.environment.feature("openmp") {
            build.define("GGML_USE_OPENMP", None).flag("-fopenmp");
        }
        if unit.tuned {
            build.flag(self.processor_flag());
        }
        build
    }

    fn processor_flag(&self) -> String {
        match &self.environment.cpu {
            Some(cpu) => format!("-march={cpu}"),
            None if self.environment.feature("native") && !self.environment.cross => {
                self.processor.native.to_owned()
            }
            None => format!("-march={}", self.processor.portable),
        }
    }

    /// Assertions in ggml name their file: without the folder of the machine that compiled it.
    fn prefix_map(&self) -> String {
        let root = fs::canonicalize(&self.source.root).unwrap_or_else(|_| self.source.root.clone());
        format!("-ffile-prefix-map={}=ggml", root.display())
    }
}
