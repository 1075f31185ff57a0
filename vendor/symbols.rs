//! Makes one object file of many, with nothing visible but what is named: so can a library be
//! linked several times over, or beside another copy of itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// Object files of systems that keep symbols as ELF does; others need other tools.
const ELF_SYSTEMS: [&str; 6] = [
    "linux",
    "android",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
];

/// Flags that the files to be merged are compiled with: symbols that are unique in the whole
/// process cannot be hidden. Compilers that do not know the flag make none.
pub(crate) const COMPILE_FLAGS: [&str; 1] = ["-fno-gnu-unique"];

/// The linker and the tool that edits object files.
pub(crate) struct Tools {
    compiler: cc::Tool,
    objcopy: PathBuf,
}

impl Tools {
    /// Finds the tools that belong to `compiler`; `objcopy` names another one.
    ///
    /// # Errors
    /// When `system` has other object files, or a tool is missing.
    pub(crate) fn find(compiler: cc::Tool, objcopy: Option<&Path>, system: &str) -> Result<Self> {
        if !ELF_SYSTEMS.contains(&system) {
            return Err(format!(
                "hiding symbols of object files is set up for ELF ({}), not for {system}",
                ELF_SYSTEMS.join(", ")
            ));
        }
        let objcopy = objcopy.map_or_else(|| beside(&compiler), Path::to_path_buf);
        run(Command::new(&objcopy).arg("--version")).map_err(|error| {
            format!(
                "{error}\nIt comes with binutils or LLVM (llvm-objcopy); OBJCOPY names another one."
            )
        })?;
        Ok(Self { compiler, objcopy })
    }

    /// Merges `objects` into `merged`, in which only the symbols `visible` can be linked to.
    ///
    /// # Errors
    /// When a tool fails.
    pub(crate) fn merge(
        &self,
        objects: &[PathBuf],
        visible: &[String],
        merged: &Path,
    ) -> Result<()> {
        // Code that C++ shares between object files is compiled for the instructions of each:
        // groups are resolved here, so that the final link does not choose one for all.
        let mut link = self.compiler.to_command();
        link.args(["-r", "-nostdlib", "-Wl,--force-group-allocation", "-o"])
            .arg(merged)
            .args(objects);
        run(&mut link)?;
        let mut hide = Command::new(&self.objcopy);
        for symbol in visible {
            hide.arg(format!("--keep-global-symbol={symbol}"));
        }
        run(hide.arg(merged))
    }
}

/// The `objcopy` that `compiler` would use itself, which is the target's.
fn beside(compiler: &cc::Tool) -> PathBuf {
    let answer = compiler
        .to_command()
        .arg("-print-prog-name=objcopy")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    answer
        .ok()
        .filter(|name| !name.is_empty())
        .map_or_else(|| PathBuf::from("objcopy"), PathBuf::from)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{} ended with {}: {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
