//! What the libraries show to a linker: the functions of the header, listed in a committed file.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::common::project;
use crate::installed_or_return;
use crate::library::run;

/// The functions of the header; a unit test keeps the file in step with it.
fn committed() -> BTreeSet<String> {
    let committed = fs::read_to_string(project("crates/capi/tests/symbols.txt")).unwrap();
    committed.lines().map(str::to_owned).collect()
}

fn symbols(arguments: &[&str], file: &std::path::Path) -> BTreeSet<String> {
    let output = run(Command::new("nm").args(arguments).arg(file));
    output
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn libraries_show_the_interface_and_nothing_else() {
    let library = installed_or_return!();
    let declared = committed();
    let shared = library.path("lib/libgpt2.so");
    assert_eq!(symbols(&["-D", "--defined-only"], &shared), declared);
    let archive = library.path("lib/libgpt2.a");
    assert_eq!(symbols(&["-g", "--defined-only"], &archive), declared);
}

#[test]
fn the_shared_library_has_its_name() {
    let library = installed_or_return!();
    let output = run(Command::new("objdump")
        .arg("-p")
        .arg(library.path("lib/libgpt2.so")));
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    let name = format!("libgpt2.so.{major}");
    let line = output.lines().find(|line| line.contains("SONAME"));
    assert!(line.is_some_and(|line| line.ends_with(&name)), "{line:?}");
    assert!(library.path("lib").join(name).exists());
}
