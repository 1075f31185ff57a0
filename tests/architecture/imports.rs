//! Which room imports which, against the table of `ARCHITECTURE.md`; circles of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use crate::source::{Arrow, Crate, paths_into};
use crate::{files, is_of, project};

/// Files that may know each other. A buffer is made of a device and of the tensors of a context, a
/// context knows the buffers that hold its tensors and its custom operations; a scheduler computes
/// graphs, and a graph is computed by a scheduler.
const CIRCLES: &[&[&str]] = &[
    &[
        "src/ggml/buffer.rs",
        "src/ggml/context.rs",
        "src/ggml/custom.rs",
        "src/ggml/device.rs",
    ],
    &["src/ggml/graph.rs", "src/ggml/scheduler.rs"],
];

/// The table under `## Imports`: what each room may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let document = fs::read_to_string(project("ARCHITECTURE.md")).unwrap();
    let (_, section) = document
        .split_once("\n## Imports\n")
        .expect("ARCHITECTURE.md has a section `Imports`");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|');
        let mut names = || -> BTreeSet<String> {
            let cell = cells.next().unwrap_or_default();
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        let room = names().pop_first().expect("a row names its room first");
        (room, names())
    })
    .collect()
}

/// The library's rooms and what each imports, with a file that does; `kernels` is the package of
/// that name, `capi`, `server` and `tools` the packages that use the library.
fn imports(library: &Crate) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for Arrow { from, to } in library.arrows() {
        // The crate's root passes names on, and what it declares itself is for every room.
        if from.0 != "lib" && to.0 != "lib" && to.0 != from.0 {
            found.entry((from.0, to.0)).or_insert(from.1);
        }
    }
    for file in library.files() {
        let text = fs::read_to_string(project("src").join(file)).unwrap();
        if !paths_into(&text, "gpt2_kernels").is_empty() {
            let room = file.split('/').next().unwrap().trim_end_matches(".rs");
            let arrow = (room.to_owned(), "kernels".to_owned());
            found.entry(arrow).or_insert(file.to_owned());
        }
    }
    for (package, folder) in [
        ("capi", "crates/capi/src/"),
        ("server", "crates/server/src/"),
        ("tools", "tools/src/"),
    ] {
        for file in files().filter(|file| file.starts_with(folder) && is_of(file, &["rs"])) {
            let text = fs::read_to_string(project(&file)).unwrap();
            for path in paths_into(&text, "gpt2") {
                let room = library.room_of(&path);
                if room != "lib" {
                    let arrow = (package.to_owned(), room);
                    found.entry(arrow).or_insert(file.clone());
                }
            }
            if package == "tools" && !paths_into(&text, "gpt2_server").is_empty() {
                let arrow = (package.to_owned(), "server".to_owned());
                found.entry(arrow).or_insert(file.clone());
            }
        }
    }
    found
}

/// What can be reached from each other by arrows: one set for each group.
fn circles<T: Ord + Clone>(arrows: &BTreeSet<(T, T)>) -> BTreeSet<BTreeSet<T>> {
    let mut next: BTreeMap<&T, Vec<&T>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(from).or_default().push(to);
    }
    let reached = |start: &T| {
        let mut seen = BTreeSet::new();
        let mut pending = next.get(start).cloned().unwrap_or_default();
        while let Some(at) = pending.pop() {
            if seen.insert(at) {
                pending.extend(next.get(at).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&T, BTreeSet<&T>> = next.keys().map(|&n| (n, reached(n))).collect();
    let from_itself = reached.iter().filter(|(node, seen)| seen.contains(*node));
    from_itself
        .map(|(node, seen)| {
            let back = |other: &&&T| reached.get(*other).is_some_and(|seen| seen.contains(*node));
            seen.iter()
                .filter(back)
                .map(|other| (*other).clone())
                .collect()
        })
        .collect()
}

#[test]
fn rooms_import_what_the_table_allows() {
    let table = table();
    let imports = imports(&Crate::read(&project("src")));
    let mut wrong = String::new();
    for ((from, to), file) in &imports {
        if !table.get(from).is_some_and(|allowed| allowed.contains(to)) {
            writeln!(wrong, "{from} imports {to} (in {file})").unwrap();
        }
    }
    for (room, allowed) in &table {
        for other in allowed {
            if !imports.contains_key(&(room.clone(), other.clone())) {
                writeln!(
                    wrong,
                    "{room} does not import {other}: the table allows more"
                )
                .unwrap();
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "against the table of ARCHITECTURE.md:\n{wrong}"
    );
    let arrows = imports.into_keys().collect();
    assert_eq!(
        circles(&arrows),
        BTreeSet::new(),
        "rooms that import each other"
    );
}

#[test]
fn files_import_each_other_one_way() {
    let mut found = BTreeMap::new();
    for folder in [
        "src",
        "crates/kernels/src",
        "crates/capi/src",
        "crates/server/src",
        "tools/src",
    ] {
        let arrows: BTreeSet<(String, String)> = Crate::read(&project(folder))
            .arrows()
            .into_iter()
            .map(|arrow| (arrow.from.1, arrow.to.1))
            .filter(|(from, to)| from != "lib.rs" && to != "lib.rs")
            .map(|(from, to)| (format!("{folder}/{from}"), format!("{folder}/{to}")))
            .collect();
        for circle in circles(&arrows) {
            let inside = arrows
                .iter()
                .filter(|(from, to)| circle.contains(from) && circle.contains(to));
            let lines = inside.map(|(from, to)| format!("    {from} imports {to}\n"));
            let lines: String = lines.collect();
            found.insert(circle, lines);
        }
    }
    let mut wrong = String::new();
    let known: BTreeSet<BTreeSet<String>> = CIRCLES
        .iter()
        .map(|files| files.iter().map(|&file| file.to_owned()).collect())
        .collect();
    for (number, (circle, lines)) in found.iter().enumerate() {
        if !known.contains(circle) {
            writeln!(wrong, "circle {}:\n{lines}", number + 1).unwrap();
        }
    }
    for circle in known.iter().filter(|circle| !found.contains_key(*circle)) {
        writeln!(
            wrong,
            "no circle any more, take it out of CIRCLES: {circle:?}"
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "files that import each other:\n{wrong}");
}

#[test]
fn circles_are_found() {
    let arrows = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")].into();
    assert_eq!(circles(&arrows), [["b", "c"].into()].into());
}
