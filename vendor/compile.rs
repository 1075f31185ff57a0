//! Compiles ggml's C and C++ into object files with the `cc` crate.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::backends::{self, Backend, Unit};
use crate::environment::Environment;
use crate::fetch::{self, Source};
use crate::symbols::{self, Tools};
use crate::variants::{self, FUNCTIONS, Processor, Variant};

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
    let processor = variants::processor(environment)?;
    let compiler = Compiler {
        environment,
        source,
        processor,
    };
    compiler.write_version_header()?;
    if environment.feature("dispatch") {
        let tools = Tools::find(
            compiler.prepare(&LINKED_UNIT, &[]).get_compiler(),
            environment.objcopy.as_deref(),
            &environment.system,
        );
        match tools {
            Ok(tools) => return compiler.several(&tools),
            Err(reason) => {
                for line in reason.lines() {
                    println!("cargo::warning=feature dispatch: {line}");
                }
            }
        }
    }
    compiler.one()
}

/// A unit without files, whose compiler also links.
const LINKED_UNIT: Unit = Unit {
    cpp: false,
    tuned: false,
    flags: &[],
    files: &[],
};

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

    /// Everything compiled once.
    fn one(&self) -> Result<Vec<PathBuf>> {
        let variant = variants::single(self.environment, self.processor);
        if self.environment.feature("dispatch") {
            println!(
                "cargo::warning=feature dispatch: the CPU backend is compiled once, for {}",
                variant.name
            );
        }
        let mut objects = self.shared(&variant)?;
        for unit in self.cpu_units() {
            objects.extend(self.compile(unit, &variant)?);
        }
        self.describe(vec![variant])?;
        Ok(objects)
    }

    /// The CPU backend compiled for several instruction sets, each merged into one object file that
    /// shows nothing but its renamed [`FUNCTIONS`]; everything else for the least of them.
    fn several(&self, tools: &Tools) -> Result<Vec<PathBuf>> {
        let variants = variants::all(self.processor);
        let mut objects = self.shared(&variants[0])?;
        for variant in &variants {
            let mut parts = Vec::new();
            for unit in self.cpu_units() {
                parts.extend(self.compile(unit, variant)?);
            }
            let merged = self
                .environment
                .out
                .join(format!("cpu{}.o", variant.suffix));
            tools.merge(&parts, &variant.symbols(), &merged)?;
            objects.push(merged);
        }
        self.describe(variants)?;
        Ok(objects)
    }

    fn describe(&self, variants: Vec<Variant>) -> Result<()> {
        let needs = |variant: Variant| {
            let compiler = self.prepare(&LINKED_UNIT, &[]).get_compiler().to_command();
            let needs =
                variants::needs(self.environment, self.processor, compiler, &variant.flags)?;
            Ok((variant, needs))
        };
        let described: Vec<_> = variants.into_iter().map(needs).collect::<Result<_>>()?;
        variants::write_table(self.environment, &described)
    }

    /// All but the CPU backend, tuned for `variant`.
    fn shared(&self, variant: &Variant) -> Result<Vec<PathBuf>> {
        let others = self.enabled().filter(|backend| !is_cpu(backend));
        let mut objects = Vec::new();
        for unit in backends::BASE
            .iter()
            .chain(others.flat_map(|backend| backend.units))
        {
            objects.extend(self.compile(unit, variant)?);
        }
        Ok(objects)
    }

    fn enabled(&self) -> impl Iterator<Item = &'static Backend> {
        backends::enabled(|feature| self.environment.feature(feature))
    }

    fn cpu_units(&self) -> impl Iterator<Item = &'static Unit> {
        self.enabled()
            .filter(|backend| is_cpu(backend))
            .flat_map(|backend| backend.units)
    }

    fn compile(&self, unit: &Unit, variant: &Variant) -> Result<Vec<PathBuf>> {
        let flags = if unit.tuned { &variant.flags[..] } else { &[] };
        let mut build = self.prepare(unit, flags);
        // Objects of the same file must not overwrite each other.
        build.out_dir(
            self.environment
                .out
                .join(format!("objects{}", variant.suffix)),
        );
        if !variant.suffix.is_empty() {
            for function in FUNCTIONS {
                build.define(function, &*format!("{function}{}", variant.suffix));
            }
            for flag in symbols::COMPILE_FLAGS {
                build.flag_if_supported(flag);
            }
        }
        for file in unit.files {
            let file = file.replace("{arch}", self.processor.folder);
            let root = if file.starts_with("vendor/") {
                self.environment.package.clone()
            } else {
                self.source.root.join("src")
            };
            build.file(root.join(file));
        }
        build.try_compile_intermediates().map_err(|error| {
            let (language, variable, package) = if unit.cpp {
                ("C++", "CXX", "g++")
            } else {
                ("C", "CC", "gcc")
            };
            format!(
                "compiling ggml failed: {error}\n\
                 It needs a {language} compiler of 2021 or later (Debian: apt-get install \
                 {package}); {variable} names another one."
            )
        })
    }

    fn prepare(&self, unit: &Unit, processor_flags: &[String]) -> cc::Build {
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
            .flag(self.prefix_map())
            .flags(processor_flags);
        if unit.cpp {
            // A "unique" symbol of the C++ library cannot be hidden from a second ggml in the same
            // program.
            build.flag_if_supported("-fno-gnu-unique");
        }
        for (name, value) in DEFINES {
            build.define(name, value);
        }
        if unit.files.contains(&backends::THREADS) {
            build
                .flag("-include")
                .flag(self.environment.package.join("vendor/yield.h"));
        }
        // The rest of ggml is the same whichever backends are beside it.
        if unit.files.contains(&backends::REGISTRY) {
            for backend in self.enabled().filter(|backend| !is_cpu(backend)) {
                build.define(backend.define, None);
            }
        }
        if self.environment.feature("openmp") {
            build.define("GGML_USE_OPENMP", None).flag("-fopenmp");
        }
        build
    }

    /// Assertions in ggml name their file: without the folder of the machine that compiled it.
    fn prefix_map(&self) -> String {
        let root = fs::canonicalize(&self.source.root).unwrap_or_else(|_| self.source.root.clone());
        format!("-ffile-prefix-map={}=ggml", root.display())
    }
}

/// The CPU backend is registered by `src/ggml/variant.rs`, not by ggml's registry.
fn is_cpu(backend: &Backend) -> bool {
    backend.name == backends::CPU
}
