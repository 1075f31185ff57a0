//! Programs in C and C++: those of `examples/c`, which must say what the command `gpt2` says, and
//! those that try every function.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpt2::convert::{ConvertOptions, FileType, convert};

use crate::common::{austen, cores, project};
use crate::installed_or_return;
use crate::library::{Library, Link, exists, gpt2, run, text};

const PROMPT: &str = "It is a truth universally acknowledged, that";

/// `examples/c`, built by its Makefile.
fn examples(library: &Library, link: &str, folder: &Path) -> PathBuf {
    let copy = folder.join(link);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(project("crates/capi/examples")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    run(Command::new("make")
        .arg("--directory")
        .arg(&copy)
        .arg(format!("LINK={link}"))
        .arg("CFLAGS=-O2 -Wall -Wextra -Werror")
        .arg("CXXFLAGS=-O2 -Wall -Wextra -Werror")
        .env("PKG_CONFIG_PATH", library.path("lib/pkgconfig")));
    copy
}

#[test]
fn examples_say_what_the_command_says() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("q8_0");
    let generate = |arguments: &[&str]| {
        let mut command = gpt2();
        command.arg("generate").arg("-m").arg(&model);
        run(command.args(["-p", PROMPT, "-n", "24"]).args(arguments))
    };
    let greedy = generate(&[]);
    let drawn = generate(&[
        "--do-sample",
        "--temperature",
        "0.8",
        "--top-k",
        "40",
        "--seed",
        "7",
    ]);
    assert_ne!(greedy, drawn);
    let drawing = ["do_sample=true", "temperature=0.8", "top_k=40", "seed=7"];
    for link in ["static", "shared"] {
        let folder = examples(library, link, folder.path());
        for program in ["generate", "generate_cpp"] {
            let example = |parameters: &[&str]| {
                let mut command = library.command(&folder.join(program));
                let command = command.arg(&model).args([PROMPT, "max_new_tokens=24"]);
                run(command.args(parameters))
            };
            assert_eq!(example(&[]), greedy, "{link} {program}");
            assert_eq!(example(&drawing), drawn, "{link} {program}");
        }
        let likeness = |a: &str, b: &str| -> f64 {
            let mut command = library.command(&folder.join("embed"));
            run(command.arg(&model).args([a, b]))
                .trim()
                .parse()
                .unwrap()
        };
        assert!((likeness(PROMPT, PROMPT) - 1.0).abs() < 1e-6);
        assert!(likeness("She was happy.", "She was glad.") > likeness("She was happy.", "1 2 3"));
        let mut command = library.command(&folder.join("sampler"));
        let text = run(command.arg(&model).args([PROMPT, "20"]));
        assert!(text.trim().len() > 20 && !text.contains('e'), "{text}");
        // With a letter that no token has, nothing is ruled out.
        let mut command = library.command(&folder.join("sampler"));
        let text = run(command.arg(&model).args([PROMPT, "24", "\u{1}"]));
        assert_eq!(text, greedy);
        failures_are_told(library, &folder, &model);
    }
}

fn failures_are_told(library: &Library, folder: &Path, model: &Path) {
    for program in ["generate", "generate_cpp"] {
        for (arguments, word) in [
            (["/no/such.gguf", "a", "top_k=1"], "/no/such.gguf"),
            ([model.to_str().unwrap(), "a", "top_kk=1"], "top_kk"),
        ] {
            let mut command = library.command(&folder.join(program));
            let output = command.args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", text(&output));
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                message.starts_with("error: ") && message.contains(word),
                "{message}"
            );
        }
    }
}

/// With the features of the workspace there are Hugging Face's tokenizers library, grammars and RPC
/// in it.
/// With the default ones, for which everything is compiled once more, where `GPT2_EXHAUSTIVE` is
/// set.
#[test]
fn a_program_that_only_generates_is_small() {
    let library = installed_or_return!();
    if cfg!(debug_assertions) {
        println!("skipped: the size is that of a release build");
        return;
    }
    let small = |library: &Library, most: u64| {
        let folder = tempfile::tempdir().unwrap();
        let program = examples(library, "static", folder.path()).join("generate");
        run(Command::new("strip").arg(&program));
        let bytes = program.metadata().unwrap().len();
        println!("{bytes} bytes");
        assert!(bytes <= most, "{bytes} bytes, more than {most}");
    };
    small(library, 9_000_000);
    if std::env::var_os("GPT2_EXHAUSTIVE").is_some() {
        small(&Library::install(&["--profile", "release"]), 4_000_000);
    }
}

#[test]
fn every_function_does_what_the_header_says() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    // With the kernels of ggml and with ours.
    for (kind, link) in [("f32", Link::Static), ("q8_0", Link::Shared)] {
        let model = austen(kind);
        let scratch = folder.path().join(format!("scratch-{link:?}"));
        fs::create_dir(&scratch).unwrap();
        let mut program = library.program("interface", link, folder.path());
        let output = run(program.arg(&model).arg(&scratch));
        assert!(
            output.ends_with(" lines of log\n") && !output.starts_with("0 "),
            "{output}"
        );
    }
}

#[test]
fn the_wrapper_for_cpp_works() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("f32");
    let program = folder.path().join("wrapper");
    run(Command::new("g++")
        .args([
            "-std=c++17",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
        ])
        .args(library.flags(&["--cflags"]))
        .arg("-o")
        .arg(&program)
        .arg(project("crates/capi/tests/c/wrapper.cpp"))
        .args(library.flags(&["--libs"])));
    let output = run(library.command(&program).arg(&model).arg(folder.path()));
    assert_eq!(output, "wrapped\n");
}

#[test]
fn eight_threads_share_a_model() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("q8_0");
    let mut program = library.program("threads", Link::Shared, folder.path());
    let output = run(program.arg(&model).arg(folder.path()));
    assert_eq!(output, "the same from every thread\n");
}

/// Runs a program that must succeed and say nothing on stderr.
#[track_caller]
fn quietly(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{command:?}: {}",
        text(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// With threads of our own pool, and with ggml's where those compute.
#[test]
fn a_forked_child_uses_and_frees_what_its_parent_made() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    for (kind, link, tokens) in [("q8_0", Link::Shared, "12"), ("f32", Link::Static, "1")] {
        let mut program = library.program("forks", link, folder.path());
        let found = quietly(program.arg(austen(kind)).arg(tokens));
        assert_eq!(found, "children use and free what their parent made\n");
    }
}

#[test]
fn freeing_waits_for_the_call_that_is_at_work() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    for (kind, link) in [("q8_0", Link::Shared), ("f32", Link::Static)] {
        let mut program = library.program("freeing", link, folder.path());
        let found = quietly(program.arg(austen(kind)));
        assert_eq!(found, "freed while at work\n");
    }
}

#[test]
fn misuse_is_refused_by_every_function() {
    let library = installed_or_return!();
    let _cores = cores();
    let source = fs::read_to_string(project("crates/capi/tests/c/misuse.c")).unwrap();
    let symbols = fs::read_to_string(project("crates/capi/tests/symbols.txt")).unwrap();
    // They take nothing that could be wrong.
    let cannot_fail = ["gpt2_version", "gpt2_build_info", "gpt2_last_error"];
    for symbol in symbols.lines().filter(|name| !cannot_fail.contains(name)) {
        assert!(
            source.contains(&format!("{symbol}(")),
            "{symbol} is missing"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    for (kind, link, kernels) in [
        ("q8_0", Link::Shared, &["invariant"][..]),
        ("f32", Link::Static, &[]),
    ] {
        let mut program = library.program("misuse", link, folder.path());
        let program = program.arg(austen(kind)).arg(folder.path()).args(kernels);
        assert_eq!(quietly(program), "refused as the header says\n");
    }
}

/// `GPT2_FUZZ_SECONDS` says for how long, `GPT2_FUZZ_SEED` with which calls. With
/// `AddressSanitizer`: see `.ci/sanitize.sh`.
#[test]
fn calls_in_random_order_do_no_harm() {
    let library = installed_or_return!();
    let _cores = cores();
    let source = fs::read_to_string(project("crates/capi/tests/c/fuzz.c")).unwrap();
    let symbols = fs::read_to_string(project("crates/capi/tests/symbols.txt")).unwrap();
    for symbol in symbols.lines() {
        assert!(
            source.contains(&format!("{symbol}(")),
            "{symbol} is missing"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let mut program = library.program("fuzz", Link::Shared, folder.path());
    let found = quietly(program.arg(austen("q8_0")).arg(folder.path()));
    println!("{found}");
    assert!(found.contains(" calls, "), "{found}");
}

/// A table without its first column.
fn without_marks(text: &str) -> String {
    let line = |line: &str| format!("{}\n", line.split_once('\t').map_or("", |(_, rest)| rest));
    text.lines().map(line).collect()
}

#[test]
fn tasks_say_what_the_command_says() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let program = library.program("tasks", Link::Shared, folder.path());
    let program = PathBuf::from(program.get_program());
    let text = "Emma Woodhouse lived at Hartfield.";
    let cases: [(&str, &str, &[&str], &[&str]); 4] = [
        ("classify", "seqcls", &[text], &["-p", text]),
        ("tag", "tokencls", &[text], &["-p", text]),
        (
            "answer",
            "qa",
            &[text, "Who?"],
            &["-p", text, "--question", "Who?", "--top-k", "2"],
        ),
        (
            "choose",
            "doubleheads",
            &[text, " Yes.", " No."],
            &["-p", text, "--choice", " Yes.", "--choice", " No."],
        ),
    ];
    for (task, checkpoint, ours, theirs) in cases {
        let model = folder.path().join(format!("{checkpoint}.gguf"));
        let source = project(&format!("tests/data/heads/{checkpoint}"));
        let options = ConvertOptions::new(FileType::from_name("f32").unwrap());
        convert(&source, &model, &options, &()).unwrap();
        let found = run(library.command(&program).arg(task).arg(&model).args(ours));
        let expected = run(gpt2().arg(task).arg("-m").arg(&model).args(theirs));
        let expected = match task {
            "choose" => without_marks(&expected),
            _ => expected,
        };
        assert!(!found.is_empty());
        assert_eq!(found, expected, "{task}");
    }
    let model = austen("f32");
    let found = run(library.command(&program).arg("embed").arg(&model).arg(text));
    let length: f64 = found
        .lines()
        .map(|line| line.parse::<f64>().unwrap().powi(2))
        .sum();
    assert_eq!(found.lines().count(), 256);
    assert!((length - 1.0).abs() < 1e-5, "{length}");
}

#[test]
fn scores_are_what_the_command_says() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("f32");
    let texts = ["She was happy.", " He was not at all.", "No one knew."];
    let mut program = library.program("scores", Link::Shared, folder.path());
    let found = run(program.arg(&model).args(texts));
    let mut command = gpt2();
    command.arg("score").arg("-m").arg(&model);
    let expected = run(command.args(["--bos", "--summary"]).args(texts));
    // A session of other sequences sums in another order.
    let fields = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines();
        lines
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect()
    };
    let (found, expected) = (fields(&found), fields(&expected));
    assert_eq!(found.len(), texts.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found[3..], expected[3..]);
        for (found, expected) in found.iter().zip(expected).take(2) {
            let number = |text: &str| text.parse::<f64>().unwrap();
            assert!((number(found) - number(expected)).abs() < 1e-3);
        }
    }
}

#[test]
fn cmake_finds_the_library() {
    let library = installed_or_return!();
    if !exists("cmake") {
        println!("skipped: no cmake");
        return;
    }
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("q4_0");
    for target in ["gpt2::gpt2", "gpt2::static", "gpt2::shared"] {
        let source = project("crates/capi/tests/c/abi.c");
        let include = project("crates/capi/tests/c");
        let list = format!(
            "cmake_minimum_required(VERSION 3.10)\nproject(test C)\n\
             find_package(gpt2 0.1 REQUIRED)\n\
             add_executable(abi {})\ntarget_include_directories(abi PRIVATE {})\n\
             target_link_libraries(abi {target})\n",
            source.display(),
            include.display()
        );
        let project = folder.path().join(target.replace("::", "-"));
        fs::create_dir(&project).unwrap();
        fs::write(project.join("CMakeLists.txt"), list).unwrap();
        let build = project.join("build");
        run(Command::new("cmake")
            .arg("-S")
            .arg(&project)
            .arg("-B")
            .arg(&build)
            .arg(format!(
                "-DCMAKE_PREFIX_PATH={}",
                library.path("").display()
            )));
        run(Command::new("cmake").arg("--build").arg(&build));
        run(library.command(&build.join("abi")).arg(&model));
    }
}

#[test]
fn what_was_installed_can_be_taken_away() {
    let library = installed_or_return!();
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().to_str().unwrap();
    for entry in ["lib", "include"] {
        run(Command::new("cp")
            .arg("-r")
            .arg(library.path(entry))
            .arg(prefix));
    }
    run(Command::new(project("scripts/install.sh")).args(["--prefix", prefix, "--uninstall"]));
    let left = run(Command::new("find").args([prefix, "-not", "-type", "d"]));
    assert_eq!(left, "");
    let usage = Command::new(project("scripts/install.sh"))
        .arg("--prefx")
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
