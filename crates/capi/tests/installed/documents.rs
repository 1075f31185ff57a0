//! What the documents say to type compiles.

use std::fs;
use std::process::Command;

use crate::common::project;
use crate::installed_or_return;
use crate::library::run;

/// The blocks of C in a document.
fn blocks(document: &str) -> Vec<String> {
    let text = fs::read_to_string(project(document)).unwrap();
    let blocks = text.split("```c\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
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
    let readme = blocks("README.md").remove(0);
    let (before, calls) = readme.split_once("/* ... */").unwrap();
    let found = blocks("docs/c.md");
    let [options, loading] = &found[..] else {
        panic!("expected two blocks, found {found:?}");
    };
    let code = format!(
        "#include <stdio.h>\n{before}\nvoid readme(gpt2_model *model, gpt2_session *session, \
         uint32_t *prompt,\n\
         size_t capacity, size_t n_prompt) {{\n{calls}\n}}\n\
         void document(gpt2_session *session) {{\n{options}\n\
         gpt2_generate(session, NULL, 0, &options, NULL, NULL, NULL);\n}}\n\
         void load(gpt2_model **model) {{\n{loading}\n\
         gpt2_model_load(\"model.gguf\", &loading, model);\n}}\n"
    );
    let file = folder.path().join("documents.c");
    fs::write(&file, code).unwrap();
    run(Command::new("gcc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
        .args(library.flags(&["--cflags"]))
        .arg(file));
}
