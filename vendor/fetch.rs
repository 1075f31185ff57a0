//! Where ggml's sources come from: a crate of the registry, fetched and checked by cargo, or a tree
//! of the user's own.
//!
//! The crate `llama-cpp-sys-4` carries ggml whole. Its files are used, the crate itself is never
//! built: as a dependency of ours it would bring a hundred packages into every lock file. So a
//! manifest of its own, written into the build's folder, asks for that one crate; empty packages
//! stand in for its build-dependencies.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::Environment;
use crate::{Result, sha256};

/// The crate that carries ggml.
const CARRIER: &str = "llama-cpp-sys-4";

/// Where ggml lies in the carrier.
const INSIDE_CARRIER: &str = "llama.cpp/ggml";

/// The pin: version and SHA-256 of the carrier.
const LOCK: &str = "vendor/ggml.lock";

/// The carrier's build-dependencies: name, version that satisfies it, features it asks for.
const STAND_INS: [(&str, &str, &str); 10] = [
    ("bindgen", "0.73.2", ""),
    ("cc", "1.2.63", "parallel"),
    ("cmake", "0.1.99", ""),
    ("flate2", "1.0.99", ""),
    ("glob", "0.3.3", ""),
    ("patch-apply", "0.8.3", ""),
    ("tar", "0.4.99", ""),
    ("toml_edit", "0.25.0", "parse"),
    ("ureq", "2.12.0", "tls"),
    ("winreg", "0.56.0", ""),
];

/// A tree of ggml.
pub(crate) struct Source {
    /// The folder that holds `include/` and `src/`.
    pub(crate) root: PathBuf,
    /// What the tree says it is: `0.28.0`.
    pub(crate) version: String,
}

/// Finds ggml's sources, fetching them when this machine has not got them yet.
///
/// # Errors
/// When `GGML_SOURCE_DIR` is no tree of ggml, when the carrier cannot be had, or when its archive
/// is not the pinned one.
pub(crate) fn locate(environment: &Environment) -> Result<Source> {
    let root = match &environment.source {
        Some(folder) => {
            println!("cargo::rerun-if-changed={}", folder.display());
            folder.clone()
        }
        None => carrier(environment)?.join(INSIDE_CARRIER),
    };
    for file in ["CMakeLists.txt", "include/ggml.h", "src/ggml.c"] {
        if !root.join(file).is_file() {
            return Err(format!(
                "{}: not a tree of ggml, it has no {file}; set GGML_SOURCE_DIR to the folder \
                 `ggml` of a llama.cpp \
                 checkout or to a checkout of ggml, or unset it",
                root.display()
            ));
        }
    }
    let version = version(&root)?;
    Ok(Source { root, version })
}

/// The carrier's folder in cargo's cache, its archive checked.
fn carrier(environment: &Environment) -> Result<PathBuf> {
    let lock = read(&environment.package.join(LOCK))?;
    let pin = Pin::parse(&lock)?;
    let manifest = write_manifest(&environment.out.join("ggml-source"), &lock, &pin)?;
    // Without the network first: cargo then answers at once, whatever state the network is in.
    let folder = match ask_cargo(environment, &manifest, true) {
        Ok(folder) => folder,
        Err(_) => ask_cargo(environment, &manifest, false).map_err(|reason| {
            format!(
                "ggml's sources (crate {CARRIER} {}) are not on this machine and could not be \
                 fetched:\n{}\n\
                 Either let cargo reach its registry once (no --offline, no CARGO_NET_OFFLINE; \
                 later builds need no \
                 network), or set GGML_SOURCE_DIR to a tree of ggml, the folder `ggml` of a \
                 llama.cpp checkout.",
                pin.version,
                reason.trim()
            )
        })?,
    };
    check_archive(&folder, &pin)?;
    Ok(folder)
}

/// What the lock file says of the carrier.
struct Pin {
    version: String,
    checksum: String,
}

impl Pin {
    fn parse(lock: &str) -> Result<Self> {
        let entry = lock
            .split("[[package]]")
            .find(|entry| entry.contains(&format!("name = \"{CARRIER}\"")))
            .ok_or_else(|| format!("{LOCK}: no package {CARRIER}; restore the file from git"))?;
        let field = |name: &str| {
            entry
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} = ")))
                .map(|value| value.trim_matches('"').to_owned())
                .ok_or_else(|| {
                    format!("{LOCK}: {CARRIER} has no {name}; restore the file from git")
                })
        };
        Ok(Self {
            version: field("version")?,
            checksum: field("checksum")?,
        })
    }
}

/// Writes the manifest that asks for the carrier, its lock file and the stand-ins; returns its
/// path.
fn write_manifest(folder: &Path, lock: &str, pin: &Pin) -> Result<PathBuf> {
    let mut manifest = format!(
        "[package]\nname = \"ggml-source\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[lib]\n\
         path = \"empty.rs\"\n\n\
         [workspace]\n\n[dependencies]\n{CARRIER} = {{ version = \"={}\", default-features = \
         false }}\n\n\
         [patch.crates-io]\n",
        pin.version
    );
    for (name, version, feature) in STAND_INS {
        let mut stand_in = format!(
            "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n\n[lib]\n\
             path = \"../empty.rs\"\n"
        );
        if !feature.is_empty() {
            _ = write!(stand_in, "\n[features]\n{feature} = []\n");
        }
        write(&folder.join(name).join("Cargo.toml"), &stand_in)?;
        _ = writeln!(manifest, "{name} = {{ path = \"{name}\" }}");
    }
    write(&folder.join("empty.rs"), "")?;
    write(&folder.join("Cargo.lock"), lock)?;
    let path = folder.join("Cargo.toml");
    write(&path, &manifest)?;
    Ok(path)
}

/// Asks cargo where the carrier lies; it downloads and checks it first when it must and may.
fn ask_cargo(environment: &Environment, manifest: &Path, offline: bool) -> Result<PathBuf> {
    let mut command = Command::new(&environment.cargo);
    command.args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--manifest-path",
    ]);
    command.arg(manifest);
    if offline {
        command.arg("--offline");
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot run {}: {error}", environment.cargo.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == CARRIER)
        .and_then(|package| Path::new(package["manifest_path"].as_str()?).parent())
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("cargo metadata names no folder for {CARRIER}"))
}

/// Compares the archive in cargo's cache with the pin. cargo does so when it downloads, not
/// afterwards.
///
/// A registry replaced by a vendored folder has no archive; cargo checks such a folder itself, file
/// by file.
fn check_archive(folder: &Path, pin: &Pin) -> Result<()> {
    // …/registry/src/INDEX/NAME-VERSION was unpacked from …/registry/cache/INDEX/NAME-VERSION.crate
    let archive = folder.parent().and_then(|index| {
        let registry = index.parent()?.parent()?;
        let file = format!("{CARRIER}-{}.crate", pin.version);
        Some(registry.join("cache").join(index.file_name()?).join(file))
    });
    let Some(archive) = archive.filter(|path| path.is_file()) else {
        return Ok(());
    };
    let content = fs::read(&archive).map_err(|error| format!("{}: {error}", archive.display()))?;
    let found = sha256::hex(&content);
    if found == pin.checksum {
        return Ok(());
    }
    Err(format!(
        "{}: SHA-256 expected {} ({LOCK}), found {found}; delete this file and {} and build again",
        archive.display(),
        pin.checksum,
        folder.display()
    ))
}

/// The version that ggml's own build file states.
fn version(root: &Path) -> Result<String> {
    let path = root.join("CMakeLists.txt");
    let text = read(&path)?;
    let part = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.trim()
                    .strip_prefix(&format!("set(GGML_VERSION_{name} "))?
                    .strip_suffix(')')
            })
            .ok_or_else(|| {
                format!(
                    "{}: expected a line set(GGML_VERSION_{name} …); is this tree of ggml \
                     complete?",
                    path.display()
                )
            })
    };
    Ok(format!(
        "{}.{}.{}",
        part("MAJOR")?,
        part("MINOR")?,
        part("PATCH")?
    ))
}

/// A text file, whole.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Writes a file, making its folder; leaves one alone that has this content already.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, content))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
