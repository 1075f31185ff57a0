//! Every file that a document names is there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use regex_lite::Regex;

use crate::{files, is_of, project};

/// Names of files of other projects, and of ggml's sources.
const OTHERS: &[&str] = &[
    "include/ggml-rpc.h",
    "llama-cpp-sys-4-0.11.0/llama.cpp",
    "run_generation.py",
    "src/CMakeLists.txt",
    "src/ggml-cpu/CMakeLists.txt",
];

/// Endings by which a name without a folder is known for a file of the project.
const SOURCES: &[&str] = &["rs", "c", "h", "hpp", "sh", "md", "py", "toml"];

/// The documents: what lies at the root, and the folder `docs`.
fn documents() -> impl Iterator<Item = String> {
    files().filter(|file| {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        is_of(file, &["md"])
            && ["", "docs", "vendor", "models", "crates/kernels"].contains(&folder)
            && file != "CHANGELOG.md"
            && file != "THIRD_PARTY.md"
    })
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn expanded(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let Some((choices, after)) = rest.split_once('}') else {
        return Vec::new();
    };
    let names = choices
        .split(',')
        .map(|choice| format!("{before}{choice}{after}"));
    names.flat_map(|name| expanded(&name)).collect()
}

/// What a document names in backticks and links, where it looks like a file of the project.
fn named(text: &str) -> BTreeSet<String> {
    let code = Regex::new(r"`([^`\n]+)`").unwrap();
    let link = Regex::new(r"\]\(([^)#\s]+)").unwrap();
    let path = Regex::new(r"^[.\w{},-]+(/[.\w{},-]+)*/?$").unwrap();
    let blocks = Regex::new(r"(?ms)^```.*?^```").unwrap();
    let text = blocks.replace_all(text, "");
    let mut found = BTreeSet::new();
    for captures in link.captures_iter(&text) {
        if !captures[1].contains("://") {
            found.insert(captures[1].to_owned());
        }
    }
    for captures in code.captures_iter(&text) {
        let name = captures[1].trim_start_matches("./");
        let is_file = name.contains('/') || is_of(name, SOURCES);
        if is_file && path.is_match(name) {
            found.extend(expanded(name));
        }
    }
    found
}

#[test]
fn files_that_documents_name_exist() {
    let files: BTreeSet<String> = files().collect();
    let exists = |document: &str, name: &str| {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        // What a build makes is not there before.
        name.starts_with("target/")
            || project(name).exists()
            || project(folder).join(name).exists()
            // A file alone, of which the sentence says where it is.
            || !name.contains('/')
                && files.iter().any(|file| file.rsplit('/').next() == Some(name))
    };
    let mut missing = String::new();
    let mut others = BTreeSet::new();
    for document in documents() {
        let text = fs::read_to_string(project(&document)).unwrap();
        for name in named(&text)
            .into_iter()
            .filter(|name| !exists(&document, name))
        {
            if OTHERS.contains(&name.as_str()) {
                others.insert(name);
            } else {
                writeln!(missing, "{document}: {name}").unwrap();
            }
        }
    }
    assert!(
        missing.is_empty(),
        "files that documents name and that are not there:\n{missing}"
    );
    assert!(
        others.iter().eq(OTHERS),
        "of OTHERS documents name {others:?} alone"
    );
}

#[test]
fn names_of_files_are_recognized() {
    let text = "`src/{a,b}.rs`, [x](docs/c.md#part), `Model::open`, `--flag`, `f16/f32`, \
                `two words`\n\
                ```sh\ncat `not/this`\n```\n`install.sh`, <https://e.org/`x`>";
    let expected = ["docs/c.md", "f16/f32", "install.sh", "src/a.rs", "src/b.rs"];
    assert_eq!(named(text), expected.map(str::to_owned).into());
}

/// Blocks of Rust are compiled and run with the crate's documentation.
#[test]
fn examples_in_rust_are_tested() {
    let root = fs::read_to_string(project("src/lib.rs")).unwrap();
    for document in documents().filter(|name| !name.starts_with("vendor/")) {
        let text = fs::read_to_string(project(&document)).unwrap();
        let included = root.contains(&format!("include_str!(\"../{document}\")"));
        assert_eq!(
            text.contains("```rust"),
            included,
            "{document} in src/lib.rs"
        );
    }
}
