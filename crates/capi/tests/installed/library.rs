//! The library, installed once for all tests of this program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::common::project;

/// The profile that the tests are built with.
const PROFILE: &str = if cfg!(debug_assertions) {
    "dev"
} else {
    "release"
};

/// Where the library lies.
pub(crate) struct Library {
    folder: tempfile::TempDir,
}

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Static,
    Shared,
}

/// Installs the library when it is first asked for; `None`, with a word about it, without what that
/// needs.
pub(crate) fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    LIBRARY.get_or_init(install).as_ref()
}

fn install() -> Option<Library> {
    let programs = ["gcc", "g++", "make", "pkg-config", "ld", "nm", "objcopy"];
    let missing: Vec<&str> = programs.into_iter().filter(|name| !exists(name)).collect();
    if !cfg!(target_os = "linux") || !missing.is_empty() {
        println!("skipped: the C interface is tested on Linux with gcc; missing here: {missing:?}");
        return None;
    }
    let from = built().to_str().unwrap();
    Some(Library::install(&["--from", from]))
}

/// The build folder of the tests' profile, with the workspace built in it: its features are those
/// of the tests' own build, so that ggml is compiled once for both.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(project("."));
        command.args(["build", "--locked", "--quiet", "--workspace"]);
        run(command.args(["--profile", PROFILE]));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        target.join(if PROFILE == "dev" { "debug" } else { PROFILE })
    })
}

/// Whether a program can be started.
pub(crate) fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Runs a command that must succeed; what it printed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Both streams, for messages.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Library {
    /// Installs with these arguments of `scripts/install.sh`.
    pub(crate) fn install(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(project("scripts/install.sh"));
        run(command.args(arguments).arg("--prefix").arg(folder.path()));
        Self { folder }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The words that `pkg-config` gives.
    pub(crate) fn flags(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", self.path("lib/pkgconfig"));
        let words = run(command.args(arguments).arg("gpt2"));
        words.split_whitespace().map(str::to_owned).collect()
    }

    /// What links a program: for the static library the archive itself and the system's libraries.
    pub(crate) fn link_flags(&self, link: Link) -> Vec<String> {
        match link {
            Link::Shared => self.flags(&["--libs"]),
            Link::Static => {
                let mut words = self.flags(&["--static", "--libs"]);
                words.retain(|word| word != "-lgpt2");
                let archive = self.path("lib/libgpt2.a");
                words.insert(0, archive.to_str().unwrap().to_owned());
                words
            }
        }
    }

    /// Compiles one of the C programs of these tests; `extra` comes before the libraries.
    pub(crate) fn compile(
        &self,
        source: &Path,
        program: &Path,
        link: Link,
        extra: &[&OsStr],
    ) -> Output {
        let mut command = Command::new("gcc");
        command
            .args([
                "-std=gnu99",
                "-O1",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-pthread",
            ])
            .args(self.flags(&["--cflags"]))
            .arg("-I")
            .arg(project("crates/capi/tests/c"))
            .arg("-o")
            .arg(program)
            .arg(source)
            .args(extra)
            .args(self.link_flags(link))
            .arg("-lm");
        command.output().unwrap()
    }

    /// Compiles the program `name` of these tests into `folder`.
    #[track_caller]
    pub(crate) fn program(&self, name: &str, link: Link, folder: &Path) -> Command {
        let program = folder.join(format!("{name}-{link:?}"));
        let source = project(&format!("crates/capi/tests/c/{name}.c"));
        let output = self.compile(&source, &program, link, &[]);
        assert!(output.status.success(), "{name}: {}", text(&output));
        self.command(&program)
    }

    /// A command that finds the shared library.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", self.path("lib"));
        command
    }
}

/// The command `gpt2`, built with the same profile.
pub(crate) fn gpt2() -> Command {
    Command::new(built().join("gpt2"))
}
