//! How the project is written: code within 100 columns, everything in the words of the field.

use std::fmt::Write as _;
use std::fs;

use regex_lite::Regex;

use crate::{files, is_of, project};

/// The widest line, in characters.
const COLUMNS: usize = 100;

/// Endings of code.
const CODE: &[&str] = &["rs", "c", "h", "hpp", "cpp", "sh", "py"];

/// A word that is not used, as a pattern; where; and what is written instead.
struct Word {
    pattern: &'static str,
    folders: &'static [&'static str],
    instead: &'static str,
}

const fn word(
    pattern: &'static str,
    folders: &'static [&'static str],
    instead: &'static str,
) -> Word {
    Word {
        pattern,
        folders,
        instead,
    }
}

const ANYWHERE: &[&str] = &[""];
const SOURCES: &[&str] = &["src/", "crates/", "tools/"];
const KERNELS: &[&str] = &["crates/kernels/"];
/// Where tokens, rows and positions are said to be in the KV cache.
const CACHE: &[&str] = &["src/generate/", "src/session/", "src/model/", "src/chat/"];

/// Words of this project's own that the field has others for. Names of types are matched as they
/// are spelled, everything else without regard to case.
const WORDS: &[Word] = &[
    word(
        r"(?i)\bupcoming\b|\bPool::expect\b|\bpool\.expect\(",
        KERNELS,
        "prefetch",
    ),
    word(
        r"(?i)\bask(s|ed|ing)? (for|ahead)\b",
        KERNELS,
        "prefetch, request",
    ),
    word(r"\b(Finish|After)(::|<| \{)", ANYWHERE, "Epilogue"),
    word(
        r"(?i)\bturn(s|ed|ing)? round\b|\bturn_round\b",
        ANYWHERE,
        "transpose",
    ),
    word(
        r"\b(everywhere|spread|gather|less)\(",
        KERNELS,
        "splat, interleave, sub",
    ),
    word(r"\bshort_sums\b", ANYWHERE, "accumulators"),
    word(
        r"(?i)\barrange(ments?|d|s)?\b|\bhad back\b",
        ANYWHERE,
        "packing, packed, unpack",
    ),
    word(r"(?i)\bexpanded\b", KERNELS, "unpacked"),
    word(r"(?i)\bhalf[- ]floats?\b", ANYWHERE, "f16"),
    word(
        r"(?i)\bround(ing of|ed) activations\b",
        ANYWHERE,
        "quantized activations",
    ),
    word(
        r"(?i)\b(is|are|be|was|were) no numbers?\b",
        ANYWHERE,
        "NaN, non-finite",
    ),
    word(r"(?i)\bas[ _]if[ _]alone\b", ANYWHERE, "batch-invariant"),
    word(r"(?i)\belsewhere\b", ANYWHERE, "other device, unsupported"),
    word(
        r"\b(Ports|Home|Placed|Outline)\b",
        ANYWHERE,
        "GraphIo, Placement, PlannedTensor",
    ),
    word(r"(?i)\bsettle[sd]?\b", ANYWHERE, "resolve"),
    word(r"(?i)\bheld\b", CACHE, "cached"),
    word(
        r"\bPredictor\b|\bgo_back\b|\bappend_apart\b",
        ANYWHERE,
        "LogitsSource",
    ),
    word(
        r"(?i)\bpropos(e[sd]?|als?|ing)\b|\bfn learn\b",
        SOURCES,
        "draft, feedback",
    ),
    word(r"(?i)\bweighing\b", KERNELS, "softmax times V"),
    word(r"(?i)\bfor who knows\b", ANYWHERE, "coming from"),
    word(r"(?i)\bto the bit\b", ANYWHERE, "bit-identical"),
    word(r"(?i)\bgo(es)? both ways\b", ANYWHERE, "interoperable"),
    word(r"(?i)\banew\b", ANYWHERE, "regenerates, recomputed"),
    word(r"(?i)\bso many\b", ANYWHERE, "n"),
    word(
        r"(?i)\bgoes before\b|\bput aside\b",
        ANYWHERE,
        "overrides, ignored",
    ),
    word(
        r"(?i)\bno whole (block|number)s?\b",
        ANYWHERE,
        "not a multiple",
    ),
    word(r"(?i)\bwho is gone\b", ANYWHERE, "broken pipe"),
    word(r"(?i)\b(is|are) handed on\b", ANYWHERE, "for distribution"),
    word(r"(?i)\bmistake in gpt2-edge\b", ANYWHERE, "internal error"),
    word(
        r"(?i)\bone way to decode\b",
        ANYWHERE,
        "conflicting decoding methods",
    ),
];

/// Where they may stand: what was written about earlier versions, what others wrote, and this list.
const FREE: &[&str] = &[
    "CHANGELOG.md",
    "docs/notes/",
    "models/",
    "src/ggml/bindings.rs",
    "tests/architecture/style.rs",
    "tests/data/",
    "THIRD_PARTY.md",
];

fn is_code(file: &str) -> bool {
    is_of(file, CODE) || file.starts_with(".ci/")
}

fn is_free(file: &str) -> bool {
    FREE.iter().any(|start| file.starts_with(start))
}

#[test]
fn lines_of_code_fit_100_columns() {
    let mut wide = String::new();
    for file in files().filter(|file| is_code(file) && !is_free(file)) {
        let text = fs::read_to_string(project(&file)).unwrap();
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                writeln!(wide, "{file}:{}: {columns} columns", number + 1).unwrap();
            }
        }
    }
    assert!(wide.is_empty(), "{} lines:\n{wide}", wide.lines().count());
}

#[test]
fn words_are_those_of_the_field() {
    let mut found = String::new();
    let words: Vec<(Regex, &Word)> = WORDS
        .iter()
        .map(|word| (Regex::new(word.pattern).unwrap(), word))
        .collect();
    let written = |file: &String| is_code(file) || is_of(file, &["md", "toml"]);
    for file in files().filter(|file| written(file) && !is_free(file)) {
        let text = fs::read_to_string(project(&file)).unwrap();
        for (pattern, word) in &words {
            let there = word.folders.iter().any(|folder| file.starts_with(folder));
            if !there || !pattern.is_match(&text) {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                if let Some(hit) = pattern.find(line) {
                    let (number, hit) = (number + 1, hit.as_str());
                    writeln!(found, "{file}:{number}: {hit:?}, better {:?}", word.instead).unwrap();
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} places:\n{found}",
        found.lines().count()
    );
}

/// Where stdout and stderr are written to in the commands. The library, its C interface and the
/// kernels write to neither.
const STREAMS: &str = "tools/src/stream.rs";

/// One room writes to stdout and stderr: what `println!` and `eprintln!` cannot write is a panic.
#[test]
fn streams_are_written_to_in_one_room() {
    let writes = Regex::new(r"\b(e?print(ln)?!|dbg!|(stdout|stderr)\(\))").unwrap();
    let tests = Regex::new(r"\n#\[cfg\((all\()?test\b[^\n]*\nmod ").unwrap();
    let mut found = String::new();
    let folders = [
        "src/",
        "crates/capi/src/",
        "crates/server/src/",
        "crates/kernels/src/",
        "tools/src/",
    ];
    let written = |file: &String| {
        is_of(file, &["rs"])
            && file != STREAMS
            && folders.iter().any(|folder| file.starts_with(folder))
            // Modules that are compiled for tests alone.
            && !file.contains("tests")
    };
    for file in files().filter(written) {
        let text = fs::read_to_string(project(&file)).unwrap();
        let code = tests.split(&text).next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap();
            if let Some(hit) = writes.find(line) {
                writeln!(found, "{file}:{}: {}", number + 1, hit.as_str()).unwrap();
            }
        }
    }
    assert!(found.is_empty(), "not in {STREAMS}:\n{found}");
}
