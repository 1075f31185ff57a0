//! What the documents say to type compiles.

use std::fs;
use std::process::Command;

use crate::common::project;
use crate::installed_or_return;
use crate::library::run;

/// The first block of C in a document.
fn block(document: &str) -> String {
    let text = fs::read_to_string(project(document)).unwrap();
    let (_, rest) = text.split_once("```c\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn documented_command_lines_link() {
    let library = installed_or_return!();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(library.path(""), folder.path().join(".local")).unwrap();
    fs::copy(
        project("crates/capi/examples/generate.c"),
        folder.path().join("main.c"),
    )
    .unwrap();
    let document = fs::read_to_string(project("docs/c.md")).unwrap();
    let commands = document.lines().filter(|line| line.starts_with("gcc "));
    let lines: Vec<&str> = commands.collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        let script = format!("export PKG_CONFIG_PATH=\"$HOME/.local/lib/pkgconfig\"\n{line}");
        let mut command = Command::new("sh");
        command.args(["-ec", &script]).env("HOME", folder.path());
        run(command.current_dir(folder.path()));
    }
}

#[test]
fn documented_code_compiles() {
    let library = installed_or_return!();
    let folder = tempfile::tempdir().unwrap();
    let readme = block("README.md");
    let (before, calls) = readme.split_once("/* ... */").unwrap();
    let options = block("docs/c.md");
    let code = format!(
        "#include <stdio.h>\n{before}\nvoid readme(gpt2_model *model, gpt2_session *session, \
         uint32_t *prompt,\n\
         size_t capacity, size_t n_prompt) {{\n{calls}\n}}\n\
         void document(gpt2_session *session) {{\n{options}\n\
         gpt2_generate(session, NULL, 0, &options, NULL, NULL, NULL);\n}}\n"
    );
    let file = folder.path().join("documents.c");
    fs::write(&file, code).unwrap();
    run(Command::new("gcc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
        .args(library.flags(&["--cflags"]))
        .arg(file));
}
