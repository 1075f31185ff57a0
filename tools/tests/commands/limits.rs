//! Memory that is bounded: defaults give way, what was asked for is refused, nothing ever breaks.

use std::fs;

use super::run::{Done, run_after, run_with};

const PROMPT: &str = "It is a truth universally acknowledged, that";

/// Whether the program did its work; it may also say that there is not enough memory, and nothing
/// else.
fn worked(done: &Done) -> bool {
    if done.status == Some(0) {
        return true;
    }
    let line = done.error(1);
    assert!(line.starts_with("not enough memory: "), "{line}");
    false
}

#[test]
fn a_stated_limit_is_kept_or_refused() {
    let (mut kept, mut shortened, mut refused) = (0, 0, 0);
    let mut shortest = None;
    for mebibytes in (8..=48).rev().step_by(2) {
        let limit = format!("{mebibytes}M");
        let arguments = [
            "generate", "-p", PROMPT, "-n", "8", "--json", "--mem", &limit,
        ];
        let done = run_with(&arguments);
        if worked(&done) {
            kept += 1;
            if done.stderr.contains("context shortened from 512 to") {
                shortened += 1;
                shortest.get_or_insert(limit.clone());
            }
            let document = done.json();
            let peak = document["memory"]["peak_rss"].as_u64().unwrap();
            assert!(peak <= mebibytes << 20, "{peak} bytes with --mem {limit}");
        } else {
            refused += 1;
        }
    }
    assert!(kept > 5 && refused > 0, "{kept} kept, {refused} refused");
    assert!(shortened > 0, "the context was never shortened");
    let limit = shortest.unwrap();
    // Both asked for, neither gives way.
    let wanted = "generate -p x -n 8 -c 512 --cache-type f16 --mem";
    let wanted: Vec<&str> = wanted.split(' ').chain([limit.as_str()]).collect();
    let done = run_with(&wanted);
    let line = done.error(1);
    assert!(
        line.contains("of the") && line.contains("--mem allows"),
        "{line}"
    );
    assert!(line.contains("would fit: -c "), "{line}");
    // What is said to fit does.
    let advice = line.split_once("would fit: ").unwrap().1;
    let mut arguments = vec!["generate", "-p", PROMPT, "-n", "8", "--mem", &limit];
    arguments.extend(advice.split_whitespace());
    run_with(&arguments).ok();
}

#[test]
fn nothing_breaks_where_addresses_are_bounded() {
    for (limit, unit) in [("-v", 2000), ("-d", 1000)] {
        let (mut kept, mut refused) = (0, 0);
        for step in (4..44).step_by(2) {
            let before = format!("ulimit {limit} {}", step * unit);
            // More threads wait for each other, which takes time where tests run side by side.
            let threads = if step % 8 == 0 { "2" } else { "1" };
            let arguments = ["generate", "-p", PROMPT, "-n", "2", "-t", threads];
            let done = run_after(&before, &arguments);
            // Below some limit the system does not even start the program.
            let started = done.status != Some(127) && done.status.is_some();
            if kept + refused > 0 || started {
                if done.stderr.contains("error while loading shared libraries") {
                    continue;
                }
                if worked(&done) {
                    kept += 1;
                } else {
                    assert_eq!(kept, 0, "{before}: refused, and less was enough");
                    refused += 1;
                }
            }
        }
        assert!(
            kept > 0 && refused > 0,
            "{limit}: {kept} kept, {refused} refused"
        );
    }
}

/// A file as long as a large model's, of which nothing but the beginning is on the disk.
#[test]
fn a_file_too_long_to_map_is_refused_with_what_would_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf");
    let demo = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/austen-gpt2-q8_0.gguf"
    );
    fs::copy(demo, &path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(256 << 20).unwrap();
    let arguments = ["generate", "-m", path.to_str().unwrap(), "-p", "x"];
    // The least limit under which the program starts, and does something.
    let least = (8..64).find(|mebibytes| {
        let before = format!("ulimit -v {}", mebibytes << 10);
        run_after(&before, &["--version"]).status == Some(0)
    });
    let least = least.unwrap();
    for mebibytes in [least + 4, least + 8, least + 16, 128, 256] {
        let done = run_after(&format!("ulimit -v {}", mebibytes << 10), &arguments);
        let line = done.error(1);
        assert!(
            line.starts_with("not enough memory: ") && line.contains("would fit: -c "),
            "{mebibytes} MiB: {line}"
        );
    }
}

#[test]
fn the_variant_of_the_cpu_code_is_named_and_can_be_forced() {
    let version = run_with(&["--version"]).ok();
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("CPU code: "));
    let name = line.unwrap().split_whitespace().next().unwrap();
    let forced = run_after(&format!("export GPT2_CPU={name}"), &["--version"]);
    assert_eq!(forced.ok(), version);
    let wrong = run_after(
        "export GPT2_CPU=z80",
        &["generate", "-p", PROMPT, "-n", "1"],
    );
    let line = wrong.error(2);
    assert!(
        line.starts_with("GPT2_CPU=z80: expected what this build has: "),
        "{line}"
    );
    assert!(line.contains(name), "{line}");
}
