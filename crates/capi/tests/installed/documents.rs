//! What headers and documents say to type compiles, links and runs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{austen, cores, project};
use crate::installed_or_return;
use crate::library::{Library, exists, run};

/// Every document of the project's users.
fn documents() -> Vec<String> {
    let folder = fs::read_dir(project("docs")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let name = |path: std::path::PathBuf| path.file_name().unwrap().display().to_string();
    let mut all: Vec<String> = pages.map(|path| format!("docs/{}", name(path))).collect();
    all.extend(["README.md", "models/README.md"].map(str::to_owned));
    all.sort();
    all
}

/// The fenced blocks of a language in a document.
fn fenced(document: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(project(document)).unwrap();
    let start = format!("```{language}\n");
    let blocks = text.split(&start).skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// The examples in a header's comments: paragraphs of which every line is indented by four more
/// than the text.
fn in_comments(header: &str, mark: &str) -> Vec<String> {
    let text = fs::read_to_string(project(header)).unwrap();
    let mut paragraphs = vec![Vec::new()];
    for line in text.lines() {
        match line.strip_prefix(mark) {
            Some(comment) if !comment.trim().is_empty() => {
                paragraphs.last_mut().unwrap().push(comment);
            }
            _ => paragraphs.push(Vec::new()),
        }
    }
    let examples = paragraphs.into_iter().filter(|lines: &Vec<&str>| {
        !lines.is_empty() && lines.iter().all(|line| line.starts_with("     "))
    });
    examples.map(|lines| lines.join("\n")).collect()
}

/// The functions that return a status.
fn checked() -> String {
    let names = fs::read_to_string(project("crates/capi/tests/symbols.txt")).unwrap();
    let others = ["gpt2_version", "gpt2_build_info", "gpt2_last_error"];
    let mut macros = String::new();
    for name in names.lines() {
        if !others.contains(&name) && !name.ends_with("_count") {
            writeln!(
                macros,
                "#define {name}(...) checked(\"{name}\", {name}(__VA_ARGS__))"
            )
            .unwrap();
        }
    }
    macros
}

/// A folder with a model under the names that examples use.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.gguf", "model-q4_k.gguf"] {
        std::os::unix::fs::symlink(austen("q8_0"), folder.path().join(name)).unwrap();
    }
    folder
}

/// A block as the body of a function, between what it leaves out and what it is for. In an example
/// a GPU may be named, which is not here.
fn body(block: &str) -> String {
    let block = block.replace("\"cuda0\"", "\"cpu\"");
    let mut declared = String::new();
    for (name, declaration) in [
        ("gpt2_model *model;", "gpt2_model *model = given_model;"),
        (
            "gpt2_session *session;",
            "gpt2_session *session = given_session;",
        ),
    ] {
        if !block.contains(name) {
            writeln!(declared, "{declaration}").unwrap();
        }
    }
    let mut used = "(void)model; (void)session;\n".to_owned();
    if block.contains("gpt2_generate_options options;") {
        used += "gpt2_generate(session, prompt, n_prompt, &options, NULL, NULL, NULL);\n";
    }
    if block.contains("gpt2_model_options loading;") {
        used += "gpt2_model_load(\"model.gguf\", &loading, &model);\n";
    }
    if block.contains("gpt2_batch batch;") {
        used += "gpt2_run(session, &batch, &output);\n";
    }
    format!("{{\n{declared}{block}\n{used}}}\n")
}

#[test]
fn every_example_in_c_runs() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = folder();
    let mut blocks = in_comments("crates/capi/include/gpt2.h", " *");
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    for document in documents() {
        blocks.extend(fenced(&document, "c"));
    }
    assert!(blocks.len() >= 4, "{blocks:?}");
    for (number, block) in blocks.iter().enumerate() {
        let (before, calls) = block.split_once("/* ... */").unwrap_or(("", block));
        let code = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <gpt2.h>\n\
             static gpt2_status checked(const char *name, gpt2_status status) {{\n\
             if (status < 0) {{ fprintf(stderr, \"%s: %s\\n\", name, gpt2_last_error()); exit(1); \
             }}\nreturn status;\n}}\n{}{before}\n\
             static uint32_t prompt[64];\nstatic size_t capacity = 64, n_prompt;\n\
             static gpt2_model *given_model;\nstatic gpt2_session *given_session;\n\
             static gpt2_output *output;\n\
             static int example(void) {}\
             int main(void) {{\n\
             gpt2_model_load(\"model.gguf\", NULL, &given_model);\n\
             gpt2_session_new(given_model, NULL, &given_session);\n\
             gpt2_tokenize(given_model, \"It is\", GPT2_NUL_TERMINATED, 0, prompt, capacity, \
             &n_prompt);\n\
             (void)output;\nreturn example();\n}}\n",
            checked(),
            body(calls).replace("\n}\n", "\nreturn 0;\n}\n")
        );
        let source = folder.path().join(format!("example{number}.c"));
        fs::write(&source, &code).unwrap();
        let program = source.with_extension("");
        run(Command::new("gcc")
            .args(["-std=c99", "-Wall", "-Wextra", "-Werror"])
            .args(library.flags(&["--cflags"]))
            .arg("-o")
            .arg(&program)
            .arg(&source)
            .args(library.flags(&["--libs"])));
        run(library.command(&program).current_dir(folder.path()));
    }
}

#[test]
fn every_example_in_cpp_runs() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = folder();
    let mut blocks = in_comments("crates/capi/include/gpt2.hpp", "//");
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    for document in documents() {
        blocks.extend(fenced(&document, "cpp"));
    }
    for (number, block) in blocks.iter().enumerate() {
        let block = block.replace("\"cuda0\"", "\"cpu\"");
        let code = format!(
            "#include <gpt2.hpp>\n#include <iostream>\nint main() {{\ntry {{\n{block}\n}} catch \
             (const gpt2::error &error) {{\nstd::cerr << error.what() << '\\n';\nreturn \
             1;\n}}\n}}\n"
        );
        let source = folder.path().join(format!("example{number}.cpp"));
        fs::write(&source, code).unwrap();
        let program = source.with_extension("");
        for standard in ["c++17", "c++20"] {
            run(Command::new("g++")
                .arg(format!("-std={standard}"))
                .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
                .args(library.flags(&["--cflags"]))
                .arg("-o")
                .arg(&program)
                .arg(&source)
                .args(library.flags(&["--libs"])));
            let text = run(library.command(&program).current_dir(folder.path()));
            assert_eq!(block.contains("std::cout"), !text.is_empty(), "{text}");
        }
    }
}

/// What the program of a command line needs of other libraries.
fn needed(program: &Path) -> String {
    run(Command::new("readelf").arg("-d").arg(program))
}

/// Whether this machine has the libraries of C and C++ to link statically.
fn links_statically(compiler: &str, folder: &Path) -> bool {
    let source = folder.join("empty.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut command = Command::new(compiler);
    command.arg("-static").arg(&source).arg("-o");
    command.arg(folder.join("empty")).args(["-lstdc++", "-lm"]);
    let found = command.output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: {compiler} has no static libraries here");
    }
    found
}

/// The example in C, linked by a line of the manual in a folder with `.local`; what it prints.
fn linked(library: &Library, line: &str, folder: &Path) -> String {
    let script = format!("export PKG_CONFIG_PATH=\"$HOME/.local/lib/pkgconfig\"\n{line}");
    let mut command = Command::new("sh");
    command.args(["-ec", &script]).env("HOME", folder);
    run(command.current_dir(folder));
    let program = folder.join("a.out");
    let mut command = library.command(&program);
    let text = run(command
        .arg("model.gguf")
        .args(["It is", "max_new_tokens=4"])
        .current_dir(folder));
    assert!(!text.trim().is_empty(), "{line}: {text}");
    text
}

#[test]
fn documented_command_lines_link() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = folder();
    let folder = folder.path();
    std::os::unix::fs::symlink(library.path(""), folder.join(".local")).unwrap();
    let example = project("crates/capi/examples/generate.c");
    fs::copy(example, folder.join("main.c")).unwrap();
    let document = fs::read_to_string(project("docs/c.md")).unwrap();
    let commands = document.lines().filter(|line| line.starts_with("gcc "));
    let lines: Vec<&str> = commands.collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let mut texts = Vec::new();
    for line in lines {
        for compiler in ["gcc", "clang"] {
            let is_static = line.contains(" -static ");
            if !exists(compiler) || is_static && !links_statically(compiler, folder) {
                continue;
            }
            texts.push(linked(library, &line.replacen("gcc", compiler, 1), folder));
            let needs = needed(&folder.join("a.out"));
            assert_eq!(needs.contains("NEEDED"), !is_static, "{line}: {needs}");
        }
    }
    assert!(texts.len() >= 3 && texts.iter().all(|text| *text == texts[0]));
}
