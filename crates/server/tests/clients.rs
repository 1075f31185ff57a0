//! OpenAI's own client, where there is one: the short form of the stage `clients`, which installs
//! what it needs.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Server, Setup};

/// A Python that has the package `openai`.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| root.join("target"), PathBuf::from);
    let installed = target.join("ci/clients/openai-newest/bin/python");
    [installed, PathBuf::from("python3")]
        .into_iter()
        .find(|python| {
            let mut import = Command::new(python);
            let output = import.args(["-c", "import openai"]).output();
            output.is_ok_and(|output| output.status.success())
        })
}

#[test]
fn openais_client_for_python_works() {
    let Some(python) = python() else {
        println!("skipped: no Python with the package openai; .ci/run clients installs one");
        return;
    };
    let mut setup = Setup::default();
    setup.settings.name = "austen".to_owned();
    let server = Server::start(setup);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/openai_client.py");
    let output = Command::new(python)
        .arg(script)
        .arg(format!("http://{}", server.address))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
