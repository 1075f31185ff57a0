//! Licences: every package we use is under one that `deny.toml` allows, and every package that is
//! linked into our binaries is named in `THIRD_PARTY.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What cargo knows of the packages for this machine, without touching the network.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--filter-platform",
        ])
        .arg(target())
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// The target that `rustc` compiles for when told nothing.
fn target() -> String {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc -vV names the host")
        .to_owned()
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// Whether the licences `allowed` satisfy an SPDX expression; the old form `A/B` means `A OR B`.
/// Of brackets there is one level at most in practice: anything deeper counts as not allowed.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((before, rest)) = expression.split_once('(') {
        let Some((inside, after)) = rest.split_once(')') else {
            return false;
        };
        let verdict = if satisfied(inside, allowed) {
            "allowed"
        } else {
            "refused"
        };
        return satisfied(&format!("{before}{verdict}{after}"), allowed);
    }
    expression.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|licence| licence.trim() == "allowed" || allowed.contains(licence.trim()))
    })
}

fn allowed_licences() -> BTreeSet<String> {
    let deny = read("deny.toml");
    let line = deny
        .lines()
        .find_map(|line| line.strip_prefix("allow = "))
        .expect("deny.toml has a line `allow = [...]`");
    serde_json::from_str(line).expect("the list in deny.toml is a list of strings")
}

#[test]
fn expressions_are_understood() {
    let allowed = ["MIT", "Zlib"].map(str::to_owned).into();
    for yes in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR X) AND Zlib",
        "MIT AND Zlib",
    ] {
        assert!(satisfied(yes, &allowed), "{yes}");
    }
    for no in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(X OR Y) AND MIT",
        "MIT WITH exception",
    ] {
        assert!(!satisfied(no, &allowed), "{no}");
    }
}

#[test]
fn every_package_is_under_an_allowed_licence() {
    let allowed = allowed_licences();
    let metadata = metadata();
    let refused: Vec<String> = list(&metadata, "packages")
        .filter(|package| !satisfied(text(package, "license"), &allowed))
        .map(|package| format!("{}: {}", text(package, "name"), text(package, "license")))
        .collect();
    assert!(
        refused.is_empty(),
        "not allowed by deny.toml:\n{}",
        refused.join("\n")
    );
}

/// `UPDATE_THIRD_PARTY=1` writes the table instead of comparing it.
#[test]
fn third_party_names_every_linked_package() {
    const BEGIN: &str = "| crate | licence | source |\n|---|---|---|\n";
    let metadata = metadata();
    let packages: BTreeMap<&str, &Value> = list(&metadata, "packages")
        .map(|package| (text(package, "id"), package))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"], "nodes")
        .map(|node| (text(node, "id"), node))
        .collect();
    // From our own packages along ordinary dependencies: not those of build scripts and tests.
    let mut pending: Vec<&str> = list(&metadata, "workspace_members")
        .filter_map(Value::as_str)
        .collect();
    let mut linked = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if linked.insert(id) {
            let dependencies = list(nodes[id], "deps");
            let ordinary = dependencies.filter(|dependency| {
                list(dependency, "dep_kinds").any(|kind| kind["kind"].is_null())
            });
            pending.extend(ordinary.map(|dependency| text(dependency, "pkg")));
        }
    }
    let rows: BTreeSet<String> = linked
        .iter()
        .map(|id| packages[id])
        .filter(|package| !package["source"].is_null())
        .map(|package| {
            let [name, licence, repository] =
                ["name", "license", "repository"].map(|field| text(package, field));
            format!("| {name} | {licence} | <{repository}> |\n")
        })
        .collect();
    let expected: String = rows.into_iter().collect();

    let document = read("THIRD_PARTY.md");
    let start = document
        .find(BEGIN)
        .expect("THIRD_PARTY.md has the table of crates")
        + BEGIN.len();
    // The table ends at the first empty line, which may follow its head at once.
    let end = document[start - 1..]
        .find("\n\n")
        .map_or(document.len(), |end| start + end);
    if std::env::var_os("UPDATE_THIRD_PARTY").is_some() {
        let updated = format!("{}{expected}{}", &document[..start], &document[end..]);
        fs::write(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("THIRD_PARTY.md"),
            updated,
        )
        .expect("writable");
        return;
    }
    let missing: Vec<&str> = expected
        .lines()
        .filter(|row| !document.contains(row))
        .collect();
    assert!(
        missing.is_empty(),
        "THIRD_PARTY.md lacks (UPDATE_THIRD_PARTY=1 cargo test --test licenses puts them in):\n{}",
        missing.join("\n")
    );
}
