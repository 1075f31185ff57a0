//! The instruction sets that the CPU backend is compiled for, and what the Rust code is told of
//! them.
//!
//! Without the feature `dispatch` there is one: this machine's (feature `native`), the target's
//! default, or what `GGML_CPU_ARCH` says. With it there are several in one archive, and
//! `src/ggml/variant.rs` chooses at start. Either way a variant is a name, what it needs of a
//! processor and two functions, so that the Rust code has one way to go.

use std::fmt::Write as _;
use std::process::Command;

use crate::Result;
use crate::environment::Environment;
use crate::fetch;

/// The functions of the CPU backend that are called by name; everything else goes through the
/// device.
pub(crate) const FUNCTIONS: [&str; 2] = ["ggml_backend_cpu_reg", "ggml_get_type_traits_cpu"];

/// A processor family that ggml is set up for here.
pub(crate) struct Processor {
    /// Rust's name of it.
    pub(crate) name: &'static str,
    /// ggml's folder of hand-written code for it, under `ggml-cpu/arch/`.
    pub(crate) folder: &'static str,
    /// The flag that means "this very machine".
    native: &'static str,
    /// The index in `sets` of what one build without `dispatch` is for.
    portable: usize,
    /// What is worth compiling, the least demanding first; the first runs on every processor there
    /// is a reason to support, and is what everything but the CPU backend is compiled for with
    /// `dispatch`.
    sets: &'static [InstructionSet],
    /// Names that the compiler defines when it may use an instruction set, and Rust's name of that.
    macros: &'static [(&'static str, &'static str)],
}

/// An instruction set that the CPU backend can be compiled for.
struct InstructionSet {
    /// As `GPT2_CPU` and `--version` spell it.
    name: &'static str,
    /// The compiler's flags.
    flags: &'static [&'static str],
}

const fn set(name: &'static str, flags: &'static [&'static str]) -> InstructionSet {
    InstructionSet { name, flags }
}

const PROCESSORS: [Processor; 3] = [
    Processor {
        name: "x86_64",
        folder: "x86",
        native: "-march=native",
        portable: 1,
        sets: &[
            // SSE 4.2 and no AVX: Intel since 2008 (Atoms until 2021), AMD since 2011. Counting
            // bits is of no use here, and some virtual machines lack it.
            set("x86-64-v2", &["-march=x86-64-v2", "-mno-popcnt"]),
            // AVX2 and FMA: Intel since 2013, AMD since 2015.
            set("x86-64-v3", &["-march=x86-64-v3"]),
            // AVX-512 with dot products of bytes: Intel servers since 2019, AMD since 2022.
            set("x86-64-v4-vnni", &["-march=x86-64-v4", "-mavx512vnni"]),
        ],
        macros: &[
            ("__SSE3__", "sse3"),
            ("__SSSE3__", "ssse3"),
            ("__SSE4_1__", "sse4.1"),
            ("__SSE4_2__", "sse4.2"),
            ("__POPCNT__", "popcnt"),
            ("__AVX__", "avx"),
            ("__AVX2__", "avx2"),
            ("__FMA__", "fma"),
            ("__F16C__", "f16c"),
            ("__BMI__", "bmi1"),
            ("__BMI2__", "bmi2"),
            ("__LZCNT__", "lzcnt"),
            ("__MOVBE__", "movbe"),
            ("__AVX512F__", "avx512f"),
            ("__AVX512CD__", "avx512cd"),
            ("__AVX512BW__", "avx512bw"),
            ("__AVX512DQ__", "avx512dq"),
            ("__AVX512VL__", "avx512vl"),
            ("__AVX512VNNI__", "avx512vnni"),
            ("__AVX512VBMI__", "avx512vbmi"),
            ("__AVX512BF16__", "avx512bf16"),
        ],
    },
    Processor {
        name: "aarch64",
        folder: "arm",
        native: "-mcpu=native",
        portable: 0,
        sets: &[
            // Every 64-bit ARM, Raspberry Pi 3 and 4 included.
            set("armv8.0", &["-march=armv8-a"]),
            // Dot products of bytes, arithmetic in f16: Raspberry Pi 5.
            set("armv8.2-dotprod", &["-march=armv8.2-a+dotprod+fp16"]),
            // Matrix products of bytes. They are optional from 8.2 on, so that nothing else of 8.6
            // is asked for.
            set("armv8.6-i8mm", &["-march=armv8.2-a+dotprod+fp16+i8mm"]),
        ],
        macros: &[
            ("__ARM_FEATURE_CRC32", "crc"),
            ("__ARM_FEATURE_ATOMICS", "lse"),
            ("__ARM_FEATURE_QRDMX", "rdm"),
            ("__ARM_FEATURE_DOTPROD", "dotprod"),
            ("__ARM_FEATURE_FP16_VECTOR_ARITHMETIC", "fp16"),
            ("__ARM_FEATURE_MATMUL_INT8", "i8mm"),
            ("__ARM_FEATURE_BF16_VECTOR_ARITHMETIC", "bf16"),
            ("__ARM_FEATURE_SVE", "sve"),
        ],
    },
    Processor {
        name: "arm",
        folder: "arm",
        native: "-mcpu=native",
        portable: 0,
        sets: &[
            // 32-bit systems on Raspberry Pi 2 and later.
            set(
                "armv7-neon",
                &["-march=armv7-a", "-mfpu=neon-vfpv4", "-mfp16-format=ieee"],
            ),
        ],
        // Rust's standard library does not detect anything here.
        macros: &[],
    },
];

/// The processor family that the code is for.
///
/// # Errors
/// When the target has no row in the table.
pub(crate) fn processor(environment: &Environment) -> Result<&'static Processor> {
    let known = || PROCESSORS.map(|processor| processor.name).join(", ");
    PROCESSORS
        .iter()
        .find(|processor| processor.name == environment.architecture)
        .ok_or_else(|| {
            format!(
                "ggml is not set up for processor {:?} here (it is for {}); add a row to \
                 PROCESSORS in vendor/variants.rs",
                environment.architecture,
                known()
            )
        })
}

/// The CPU backend as it is compiled once.
pub(crate) struct Variant {
    /// As `GPT2_CPU` and `--version` spell it.
    pub(crate) name: String,
    /// The compiler's flags for its instruction set.
    pub(crate) flags: Vec<String>,
    /// What its functions are called instead, in a build of several: `FUNCTIONS` with this behind.
    pub(crate) suffix: String,
}

impl Variant {
    /// The names of [`FUNCTIONS`] in this variant.
    pub(crate) fn symbols(&self) -> [String; 2] {
        FUNCTIONS.map(|function| format!("{function}{}", self.suffix))
    }
}

/// The variants of a build with the feature `dispatch`, the least demanding first.
pub(crate) fn all(processor: &Processor) -> Vec<Variant> {
    let variant = |set: &InstructionSet| Variant {
        name: set.name.to_owned(),
        flags: set.flags.iter().map(|&flag| flag.to_owned()).collect(),
        suffix: format!("_{}", set.name.replace(['-', '.'], "_")),
    };
    processor.sets.iter().map(variant).collect()
}

/// The one variant of a build without.
pub(crate) fn single(environment: &Environment, processor: &Processor) -> Variant {
    let (name, flags) = match &environment.cpu {
        Some(cpu) => (cpu.clone(), vec![format!("-march={cpu}")]),
        None if environment.feature("native") && !environment.cross => {
            ("native".to_owned(), vec![processor.native.to_owned()])
        }
        None => {
            let set = &processor.sets[processor.portable];
            let flags = set.flags.iter().map(|&flag| flag.to_owned());
            (set.name.to_owned(), flags.collect())
        }
    };
    let suffix = String::new();
    Variant {
        name,
        flags,
        suffix,
    }
}

/// What a processor must have to run code compiled with `flags`: what the compiler says it may use.
///
/// # Errors
/// When the compiler does not start or does not know the flags.
pub(crate) fn needs(
    environment: &Environment,
    processor: &Processor,
    mut compiler: Command,
    flags: &[String],
) -> Result<Vec<&'static str>> {
    let empty = environment.out.join("empty.c");
    fetch::write(&empty, "")?;
    let output = compiler
        .args(flags)
        .args(["-dM", "-E"])
        .arg(empty)
        .output()
        .map_err(|error| format!("{compiler:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the compiler does not know {}: {}\nIt needs gcc 11 or clang 12, or later.",
            flags.join(" "),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let defined: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next())
        .collect();
    let used = processor
        .macros
        .iter()
        .filter(|(name, _)| defined.contains(name));
    Ok(used.map(|(_, feature)| *feature).collect())
}

/// The table's one row where nothing is compiled.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_stand_in(environment: &Environment) -> Result<()> {
    let variant = Variant {
        name: "none".to_owned(),
        flags: Vec::new(),
        suffix: String::new(),
    };
    write_table(environment, &[(variant, Vec::new())])
}

/// Writes the Rust table of the variants, which `src/ggml/variant.rs` includes.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_table(
    environment: &Environment,
    variants: &[(Variant, Vec<&str>)],
) -> Result<()> {
    let mut text = String::from(
        "// Made by vendor/variants.rs.\n\nmod linked {\n    use super::sys;\n\n    \
         unsafe extern \"C\" {\n",
    );
    for (index, (variant, _)) in variants.iter().enumerate() {
        let [registration, traits] = variant.symbols();
        _ = write!(
            text,
            "        #[link_name = {registration:?}]\n        \
             pub(super) fn registration_{index}() -> sys::ggml_backend_reg_t;\n        \
             #[link_name = {traits:?}]\n        \
             pub(super) fn type_traits_{index}(tensor_type: sys::ggml_type) \
             -> *const sys::ggml_type_traits_cpu;\n"
        ); // a String takes everything
    }
    text.push_str(
        "    }\n}\n\n/// The variants of this build, the least demanding first.\n\
         static VARIANTS: &[Variant] = &[\n",
    );
    for (index, (variant, needs)) in variants.iter().enumerate() {
        _ = write!(
            text,
            "    Variant {{\n        name: {:?},\n        needs: &{needs:?},\n        \
             registration: linked::registration_{index},\n        \
             type_traits: linked::type_traits_{index},\n    }},\n",
            variant.name
        );
    }
    text.push_str("];\n");
    fetch::write(&environment.out.join("cpu_variants.rs"), &text)
}
