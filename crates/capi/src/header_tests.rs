//! The header and the library say the same: functions with their types, constants, structures.
//!
//! All of it is said again in a C file made from the Rust sources, which the compiler refuses where
//! it contradicts the header; names are compared as sets.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::structs::layouts;

/// A file of this package.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether a program can be started.
fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Both streams, for messages.
fn text(output: &std::process::Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
    format!("{}\n{stdout}{stderr}", output.status)
}

/// What Rust's types are in C. Longer names come before those they contain.
const TYPES: &[(&str, &str)] = &[
    ("gpt2_status", "gpt2_status"),
    ("*const c_char", "const char *"),
    ("*mut c_char", "char *"),
    ("*mut c_void", "void *"),
    ("*const u8", "const uint8_t *"),
    ("*mut u8", "uint8_t *"),
    ("*const u32", "const uint32_t *"),
    ("*mut u32", "uint32_t *"),
    ("*const f32", "const float *"),
    ("*mut f32", "float *"),
    ("*mut i32", "int32_t *"),
    ("*mut usize", "size_t *"),
    ("*const *const c_char", "const char *const *"),
    ("usize", "size_t"),
    ("u64", "uint64_t"),
    ("i64", "int64_t"),
    ("u32", "uint32_t"),
    ("i32", "int32_t"),
];

/// The C spelling of a Rust type of the interface.
fn c_type(rust: &str) -> String {
    if let Some((_, c)) = TYPES.iter().find(|(known, _)| *known == rust) {
        return (*c).to_owned();
    }
    if let Some(pointed) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_type(pointed));
    }
    if let Some(pointed) = rust.strip_prefix("*const ") {
        return format!("const {} *", c_type(pointed));
    }
    assert!(
        rust.starts_with("gpt2_"),
        "a type of the interface that has no row in TYPES: {rust}"
    );
    rust.to_owned()
}

/// The sources of the interface.
fn sources() -> String {
    let mut sources = String::new();
    for entry in fs::read_dir(project("src")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        // What tests declare is no part of it.
        sources.push_str(source.split("#[cfg(test)]").next().unwrap());
    }
    sources
}

/// A function of the interface.
struct Function {
    name: String,
    parameters: Vec<String>,
    result: String,
}

impl Function {
    fn declaration(&self) -> String {
        let parameters = match &self.parameters[..] {
            [] => "void".to_owned(),
            parameters => parameters.join(", "),
        };
        format!("{} {}({parameters});", self.result, self.name)
    }
}

/// The functions that Rust exports.
fn exported(sources: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    for part in sources.split("#[unsafe(no_mangle)]").skip(1) {
        let part = &part[part.find(" fn ").unwrap() + 4..];
        let (name, rest) = part.split_once('(').unwrap();
        if name.starts_with('$') {
            continue; // the macro's; see `initializers`
        }
        let (parameters, rest) = rest.split_once(')').unwrap();
        let (result, _) = rest.split_once('{').unwrap();
        let parameters = parameters
            .split(',')
            .map(str::trim)
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| c_type(parameter.split_once(':').unwrap().1.trim()))
            .collect();
        functions.push(Function {
            name: name.to_owned(),
            parameters,
            result: c_type(result.trim().strip_prefix("->").unwrap().trim()),
        });
    }
    functions.extend(initializers(sources));
    functions
}

/// The functions that the macro of structures makes.
fn initializers(sources: &str) -> impl Iterator<Item = Function> {
    sources.split(", init gpt2_").skip(1).map(|part| {
        let name = format!("gpt2_{}", part.split_whitespace().next().unwrap());
        let structure = name.strip_suffix("_init").unwrap();
        Function {
            parameters: vec![format!("{structure} *"), "size_t".to_owned()],
            result: "gpt2_status".to_owned(),
            name,
        }
    })
}

/// The function types of callbacks: name and C spelling.
fn callbacks(sources: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in sources.split("pub type gpt2_").skip(1) {
        let (name, rest) = part.split_once('=').unwrap();
        let (definition, _) = rest.split_once(';').unwrap();
        let Some(start) = definition.find("fn(") else {
            continue;
        };
        let (parameters, result) = definition[start + 3..].split_once(')').unwrap();
        let parameters: Vec<String> = parameters
            .split(',')
            .map(str::trim)
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| c_type(parameter.split_once(':').unwrap().1.trim()))
            .collect();
        let result = result.trim().trim_end_matches(['>', ',', '\n', ' ']);
        let result = match result.strip_prefix("->") {
            Some(result) => c_type(result.trim()),
            None => "void".to_owned(),
        };
        let name = format!("gpt2_{}", name.trim());
        let spelling = format!("{result} (*{name}_again)({})", parameters.join(", "));
        found.push((name, spelling));
    }
    found
}

/// The constants: names, and values where they are written as numbers.
fn constants(sources: &str) -> Vec<(String, Option<i64>)> {
    sources
        .split("pub const GPT2_")
        .skip(1)
        .map(|part| {
            let (name, rest) = part.split_once(':').unwrap();
            let (_, value) = rest.split_once('=').unwrap();
            let value = value.split_once(';').unwrap().0.trim();
            (format!("GPT2_{name}"), value.parse().ok())
        })
        .collect()
}

/// Words of a text that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(move |word| word.starts_with(prefix))
}

fn header() -> String {
    let header = fs::read_to_string(project("include/gpt2.h")).unwrap();
    // Without comments.
    let mut code = String::new();
    for part in header.split("/*") {
        code.push_str(part.split_once("*/").map_or(part, |(_, code)| code));
    }
    code
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = header();
    let declarations = header.split(';').filter(|part| !part.contains("typedef"));
    declarations
        .filter(|part| !part.contains("static inline"))
        .filter_map(|part| {
            let before = part.split_once('(')?.0;
            let name = words(before, "gpt2_").last()?;
            before.ends_with(name).then(|| name.to_owned())
        })
        .collect()
}

/// Everything Rust says, as C.
fn said_again(sources: &str) -> String {
    let mut file = "#include <gpt2.h>\n".to_owned();
    for function in exported(sources) {
        writeln!(file, "{}", function.declaration()).unwrap();
    }
    for (name, spelling) in callbacks(sources) {
        writeln!(file, "extern {spelling};\nextern {name} {name}_again;").unwrap();
    }
    for (name, value) in constants(sources) {
        if let Some(value) = value {
            writeln!(file, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
        }
    }
    for layout in layouts() {
        let name = layout.name;
        writeln!(
            file,
            "_Static_assert(sizeof({name}) == {}, \"size of {name}\");",
            layout.size
        )
        .unwrap();
        for (field, offset, size) in layout.fields {
            writeln!(
                file,
                "_Static_assert(offsetof({name}, {field}) == {offset} && sizeof((({name} \
                 *)0)->{field}) == {size}, \
                 \"{name}.{field}\");"
            )
            .unwrap();
        }
    }
    file
}

/// What the compiler says to a C file.
fn compile(folder: &std::path::Path, content: &str) -> std::process::Output {
    let file = folder.join("agree.c");
    fs::write(&file, content).unwrap();
    let mut command = Command::new("gcc");
    command
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-I",
        ])
        .arg(project("include"))
        .arg(&file);
    command.output().unwrap()
}

#[test]
fn header_and_library_agree() {
    if !exists("gcc") {
        println!("skipped: no gcc to compare the header with the library");
        return;
    }
    let sources = sources();
    let file = said_again(&sources);
    assert!(file.lines().count() > 150, "{file}");
    let folder = tempfile::tempdir().unwrap();
    let output = compile(folder.path(), &file);
    assert!(output.status.success(), "{}", text(&output));
    // The compiler does see contradictions.
    for (from, to) in [
        (
            "gpt2_find_token(const gpt2_model *",
            "gpt2_find_token(gpt2_model *",
        ),
        ("GPT2_ERROR_IO == -2", "GPT2_ERROR_IO == -3"),
        (
            "offsetof(gpt2_step, token) == 32",
            "offsetof(gpt2_step, token) == 36",
        ),
        (
            "int32_t (*gpt2_token_callback_again)",
            "int64_t (*gpt2_token_callback_again)",
        ),
    ] {
        assert!(file.contains(from), "{from}");
        let output = compile(folder.path(), &file.replace(from, to));
        assert!(!output.status.success(), "{to} is not seen");
    }
}

#[test]
fn header_and_library_have_the_same_names() {
    let (sources, header) = (sources(), header());
    let functions: BTreeSet<String> = exported(&sources).into_iter().map(|f| f.name).collect();
    assert_eq!(declared(), functions);

    let known: BTreeSet<String> = constants(&sources)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let named: BTreeSet<String> = words(&header, "GPT2_")
        .filter(|name| !["GPT2_H", "GPT2_VERSION"].contains(name))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, known);

    let structures: BTreeSet<&str> = layouts().iter().map(|layout| layout.name).collect();
    let defined: BTreeSet<&str> = header
        .split("typedef struct ")
        .skip(1)
        .filter_map(|part| {
            let (name, rest) = part.split_once(char::is_whitespace)?;
            rest.trim_start().starts_with('{').then_some(name)
        })
        .collect();
    assert_eq!(defined, structures);
    // No field that Rust does not know: with the offsets and sizes the fields are all there is.
    for layout in layouts() {
        let (_, rest) = header
            .split_once(&format!("typedef struct {} {{", layout.name))
            .unwrap();
        let (body, _) = rest.split_once('}').unwrap();
        assert_eq!(
            body.matches(';').count(),
            layout.fields.len(),
            "{}",
            layout.name
        );
    }
}

#[test]
fn the_version_is_the_packages() {
    let header = header();
    let parts = ["MAJOR", "MINOR", "PATCH"].map(|part| {
        let (_, rest) = header
            .split_once(&format!("#define GPT2_VERSION_{part} "))
            .unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    });
    assert_eq!(parts.join("."), env!("CARGO_PKG_VERSION"));
}

/// What every function's comment must say.
#[test]
fn every_function_says_what_can_go_wrong() {
    let header = fs::read_to_string(project("include/gpt2.h")).unwrap();
    for name in declared() {
        let results = ["gpt2_status ", "size_t ", "uint32_t ", "const char *"];
        let place = results
            .iter()
            .find_map(|result| header.find(&format!("\n{result}{name}(")));
        let before = &header[..place.unwrap()];
        let comment = &before[before.rfind("/*").unwrap()..];
        let declaration = &comment[comment.find("*/").unwrap() + 2..];
        assert!(
            !declaration.contains(';'),
            "{name} has no comment of its own"
        );
        let section = &before[before.rfind("/* -----").unwrap()..];
        let covered = section[..section.find("*/").unwrap()].contains("Errors of all");
        let says = ["Errors:", "Cannot fail", "not alive"];
        assert!(
            covered || says.iter().any(|word| comment.contains(word)),
            "{name} does not say what can go wrong"
        );
    }
}

/// One name a line. A change here is a change of the interface: adding is fine, taking away is not.
const COMMITTED: &str = "tests/symbols.txt";

/// `UPDATE_SYMBOLS=1` writes the list instead of comparing it.
#[test]
fn the_list_of_symbols_is_the_headers() {
    let declared = declared();
    if std::env::var_os("UPDATE_SYMBOLS").is_some() {
        let lines: Vec<&str> = declared.iter().map(String::as_str).collect();
        fs::write(project(COMMITTED), lines.join("\n") + "\n").unwrap();
        return;
    }
    let committed = fs::read_to_string(project(COMMITTED)).unwrap();
    let committed: BTreeSet<String> = committed.lines().map(str::to_owned).collect();
    assert_eq!(
        committed, declared,
        "UPDATE_SYMBOLS=1 writes {COMMITTED} again"
    );
}
