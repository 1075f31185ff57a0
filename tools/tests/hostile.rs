//! Every broken file, given to the programs: status 1, one clear line, nothing on stdout, no output
//! file, in bounded time and memory.

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hostile::HostileFolder;
use hostile::bundle::{bundle_cases, valid_bundle};
use hostile::config::config_cases;
use hostile::gguf::{gguf_cases, gguf_value_cases};
use hostile::hdf5::{hdf5_cases, valid_hdf5};
use hostile::model::{Refuser, model_cases};
use hostile::msgpack::{msgpack_cases, valid_msgpack};
use hostile::pickle::{pickle_cases, valid_archive, valid_stream};
use hostile::safetensors::{safetensors_cases, valid_shards};
use hostile::tiny::{Files, TinyModel, checkpoint};
use hostile::tokenizer::{tokenizer_cases, valid_in_two_files};
use tempfile::TempDir;

const GPT2: &str = env!("CARGO_BIN_EXE_gpt2");
const CONVERT: &str = env!("CARGO_BIN_EXE_gpt2-convert");
/// Far more than any of the files needs, even on a busy machine.
const LONGEST: Duration = Duration::from_secs(30);
/// Address space in KiB, stacks of threads included.
const MOST_MEMORY: u32 = 2 << 20;
/// The longest line a person may be shown.
const LONGEST_LINE: usize = 1500;

/// Starts a program with limited memory, where the system can.
fn start(program: &str, arguments: &[&str], folder: &Path) -> Child {
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &format!("ulimit -v {MOST_MEMORY}; exec \"$0\" \"$@\""),
            program,
        ]);
        shell
    } else {
        Command::new(program)
    };
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Runs a program to its end, or ends it. What it prints must fit a pipe.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<Output, String> {
    let mut child = start(program, arguments, folder);
    let began = Instant::now();
    while child
        .try_wait()
        .expect("the program can be waited for")
        .is_none()
    {
        if began.elapsed() > LONGEST {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("did not end in {LONGEST:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().map_err(|error| error.to_string())
}

/// What is wrong with how a program refused a file, if anything. `planned` is whether it may say
/// before the error what it was going to do.
fn judge(output: &Output, expect: &str, planned: bool) -> Result<(), String> {
    let error = String::from_utf8(output.stderr.clone()).map_err(|_| "stderr is not UTF-8")?;
    if output.status.code() != Some(1) {
        return Err(format!("ended with {}: {error}", output.status));
    }
    if !output.stdout.is_empty() {
        let shown = String::from_utf8_lossy(&output.stdout);
        return Err(format!("wrote to stdout: {shown}"));
    }
    // The converter shows its plan before it reads the weights.
    let lines: Vec<&str> = error.lines().collect();
    let errors = lines.iter().filter(|line| line.contains("error")).count();
    let Some(line) = lines.last().filter(|line| line.starts_with("error: ")) else {
        return Err(format!("the last line is no error: {error:?}"));
    };
    if errors > 1 || !planned && lines.len() > 1 || line.contains(char::is_control) {
        return Err(format!("more than one clear line: {error:?}"));
    }
    if line.len() > LONGEST_LINE {
        return Err(format!("{} bytes of error", line.len()));
    }
    if !line.contains(expect) {
        return Err(format!("{expect:?} is not in {line:?}"));
    }
    Ok(())
}

/// One run of a program on one case.
struct Trial {
    name: String,
    program: &'static str,
    arguments: Vec<&'static str>,
    files: Files,
    expect: &'static str,
}

impl Trial {
    /// The programs are given `model.gguf`, write `out`, and run in a folder of their own.
    fn check(&self) -> Result<(), String> {
        let folder = folder_of(&self.files);
        let verdict = run(self.program, &self.arguments, folder.path())
            .and_then(|output| judge(&output, self.expect, self.program == CONVERT));
        let left: Vec<PathBuf> = fs::read_dir(folder.path())
            .expect("the folder can be listed")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !self.files.keys().any(|name| path.ends_with(name)))
            .collect();
        let verdict = verdict.and_then(|()| {
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("left behind: {left:?}"))
            }
        });
        verdict.map_err(|message| format!("{} ({:?}): {message}", self.name, self.arguments))
    }
}

fn folder_of(files: &Files) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("the file is written");
    }
    folder
}

fn check_all(trials: &[Trial]) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = |worker: usize| {
            let mine = trials.iter().skip(worker).step_by(workers);
            mine.filter_map(|trial| trial.check().err())
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..workers)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a worker"))
            .collect()
    });
    println!("{} runs", trials.len());
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        trials.len(),
        failures.join("\n")
    );
}

fn one_file(bytes: Vec<u8>) -> Files {
    Files::from([("model.gguf".to_owned(), bytes)])
}

const INFO: &[&str] = &["info", "model.gguf"];
const FORWARD: &[&str] = &[
    "forward",
    "-m",
    "model.gguf",
    "--ids",
    "1,2,3",
    "--output",
    "out",
];
const GENERATE: &[&str] = &["generate", "-m", "model.gguf", "--ids", "1", "-n", "2"];
const TOKENIZE: &[&str] = &["tokenize", "-m", "model.gguf", "the text"];
const REQUANTIZE: &[&str] = &["model.gguf", "-o", "out", "--type", "q8_0"];
const CONVERT_FOLDER: &[&str] = &[".", "-o", "out", "--type", "f16"];

fn refuser(refuser: Refuser) -> (&'static str, &'static [&'static str]) {
    match refuser {
        Refuser::Forward => (GPT2, FORWARD),
        Refuser::Generate => (GPT2, GENERATE),
        Refuser::Tokenize => (GPT2, TOKENIZE),
        Refuser::Requantize => (CONVERT, REQUANTIZE),
    }
}

#[test]
fn gguf_files_are_refused_by_every_command() {
    let cases = gguf_cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let commands = [
        (GPT2, INFO),
        (GPT2, FORWARD),
        (GPT2, TOKENIZE),
        (CONVERT, REQUANTIZE),
    ];
    let trials: Vec<Trial> = cases
        .into_iter()
        .zip(commands.into_iter().cycle())
        .flat_map(|(case, other)| {
            // Each by `info`, and in turn by another command.
            [(GPT2, INFO), other].map(|(program, arguments)| Trial {
                name: case.name.to_owned(),
                program,
                arguments: arguments.to_vec(),
                // A file without bytes cannot be mapped, which is said before anything is parsed.
                expect: if case.bytes.is_empty() {
                    "the file is empty"
                } else {
                    case.expect
                },
                files: one_file(case.bytes.clone()),
            })
        })
        .collect();
    check_all(&trials);
}

#[test]
fn broken_values_are_shown_and_never_believed() {
    for case in gguf_value_cases() {
        let folder = folder_of(&one_file(case.bytes));
        let output = run(GPT2, INFO, folder.path()).expect("info ends");
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}: {output:?}",
            case.name
        );
    }
}

#[test]
fn models_are_refused_by_the_commands_that_use_them() {
    let trials: Vec<Trial> = model_cases()
        .into_iter()
        .flat_map(|case| {
            case.refusers.iter().map(move |&by| {
                let (program, arguments) = refuser(by);
                Trial {
                    name: case.name.to_owned(),
                    program,
                    arguments: arguments.to_vec(),
                    files: one_file(case.bytes.clone()),
                    expect: case.expect,
                }
            })
        })
        .collect();
    check_all(&trials);
}

fn check_folders(cases: Vec<HostileFolder>) {
    let trials: Vec<Trial> = cases
        .into_iter()
        .map(|case| Trial {
            name: case.name.to_owned(),
            program: CONVERT,
            arguments: CONVERT_FOLDER.to_vec(),
            files: case.files,
            expect: case.expect,
        })
        .collect();
    check_all(&trials);
}

#[test]
fn checkpoints_with_broken_weights_are_refused() {
    check_folders(safetensors_cases());
}

#[cfg(feature = "pickle")]
#[test]
fn pickles_are_refused_and_never_run() {
    check_folders(pickle_cases());
}

/// The error that `docs/convert.md` shows.
#[cfg(feature = "pickle")]
#[test]
fn a_program_in_a_pickle_is_refused_as_documented() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/convert.md");
    let document = fs::read_to_string(document).expect("a document");
    let (_, shown) = document
        .split_once("```console\n$ gpt2-convert somewhere -o out.gguf --type q8_0\n")
        .expect("a session");
    let (shown, _) = shown.split_once("\n```").expect("the session ends");
    let cases = pickle_cases();
    let case = cases
        .iter()
        .find(|case| case.expect.contains("'os.system': "));
    let folder = folder_of(&case.expect("a pickle that calls os.system").files);
    let output = run(CONVERT, CONVERT_FOLDER, folder.path()).expect("the conversion ends");
    let error = String::from_utf8(output.stderr).expect("stderr is UTF-8");
    assert_eq!(error.lines().last(), Some(shown));
}

#[cfg(feature = "hdf5")]
#[test]
fn broken_hdf5_is_refused() {
    check_folders(hdf5_cases());
}

#[cfg(feature = "msgpack")]
#[test]
fn broken_msgpack_is_refused() {
    check_folders(msgpack_cases());
}

#[test]
fn broken_tensorflow_checkpoints_are_refused() {
    check_folders(bundle_cases());
}

#[test]
fn checkpoints_with_a_broken_configuration_are_refused() {
    check_folders(config_cases());
}

#[test]
fn checkpoints_with_a_broken_tokenizer_are_refused() {
    check_folders(tokenizer_cases());
}

/// The limits refuse nothing by themselves: what the broken files are made from is taken.
#[test]
fn the_files_they_are_made_from_are_taken() {
    for files in [
        checkpoint(),
        valid_shards(),
        valid_in_two_files(),
        valid_archive(),
        valid_stream(),
        valid_msgpack(),
        valid_bundle(),
    ] {
        let folder = folder_of(&files);
        let output = run(CONVERT, CONVERT_FOLDER, folder.path()).expect("the conversion ends");
        assert!(output.status.success(), "{output:?}");
        fs::rename(folder.path().join("out"), folder.path().join("model.gguf")).expect("an output");
        for arguments in [INFO, GENERATE, TOKENIZE] {
            let output = run(GPT2, arguments, folder.path()).expect("the command ends");
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        }
    }
    // It has no tokenizer.
    let folder = folder_of(&valid_hdf5());
    let output = run(CONVERT, CONVERT_FOLDER, folder.path()).expect("the conversion ends");
    assert!(output.status.success(), "{output:?}");
    let folder = folder_of(&one_file(TinyModel::tiny().bytes()));
    for (program, arguments) in [
        (GPT2, INFO),
        (GPT2, FORWARD),
        (GPT2, GENERATE),
        (GPT2, TOKENIZE),
        (CONVERT, &["model.gguf", "-o", "other", "--type", "q4_0"]),
    ] {
        let output = run(program, arguments, folder.path()).expect("the command ends");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}
