//! A program that has a ggml of its own beside the library's.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{austen, cores, project};
use crate::installed_or_return;
use crate::library::{Link, built, run, text};

/// The ggml that was compiled for these tests, as an archive that shows everything.
fn other_ggml() -> PathBuf {
    let builds = fs::read_dir(built().join("build")).unwrap();
    let archives = builds.map(|entry| entry.unwrap().path().join("out/libggml.a"));
    let existing = archives.filter(|path| path.exists());
    existing
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("the build script leaves libggml.a")
}

#[test]
fn a_second_ggml_works_in_the_same_program() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("q4_0");
    let source = project("crates/capi/tests/c/second_ggml.c");
    let other = other_ggml();
    for link in [Link::Static, Link::Shared] {
        let program = folder.path().join(format!("{link:?}"));
        // Its own ggml is C++ as well, and comes first, so that nothing of it is left out for ours.
        let whole = [
            OsStr::new("-Wl,--whole-archive"),
            other.as_os_str(),
            OsStr::new("-Wl,--no-whole-archive"),
            OsStr::new("-lstdc++"),
        ];
        let output = library.compile(&source, &program, link, &whole);
        assert!(output.status.success(), "{link:?}: {}", text(&output));
        let said = run(library.command(&program).arg(&model));
        assert!(said.starts_with("beside ggml 0."), "{said}");
    }
}

/// Harsher: every function of ggml is also one of the program's, and ends it when called.
#[test]
fn the_library_never_calls_a_ggml_of_the_program() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("q4_0");
    let names = run(Command::new("nm")
        .args(["-g", "--defined-only"])
        .arg(other_ggml()));
    let mut traps = "#include <stdlib.h>\n".to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for name in names
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|name| name.contains("ggml") || name.contains("gguf") || name.contains("quantize"))
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    {
        if seen.insert(name) {
            writeln!(
                traps,
                "void {name}(void);\nvoid {name}(void) {{ abort(); }}"
            )
            .unwrap();
        }
    }
    assert!(seen.len() > 700, "{} names of ggml", seen.len());
    let source = folder.path().join("traps.c");
    fs::write(&source, traps).unwrap();
    let object = folder.path().join("traps.o");
    run(Command::new("gcc")
        .args(["-w", "-fno-builtin", "-c", "-o"])
        .args([&object, &source]));
    for link in [Link::Static, Link::Shared] {
        let program = folder.path().join(format!("traps-{link:?}"));
        let source = project("crates/capi/tests/c/abi.c");
        // Exported, so that the shared library would find them if it looked.
        let extra = [OsStr::new("-rdynamic"), object.as_os_str()];
        let output = library.compile(&source, &program, link, &extra);
        assert!(output.status.success(), "{link:?}: {}", text(&output));
        run(library.command(&program).arg(&model));
    }
}
