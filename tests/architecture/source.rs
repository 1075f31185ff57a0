//! Rust sources as far as paths in them are concerned: the tree of modules, and what each file
//! refers to. Tests inside the sources are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Segments of a path, from the crate's root.
type ModulePath = Vec<String>;

/// A module: its file, and the names that it passes on from other modules.
#[derive(Debug, Default)]
struct Module {
    file: String,
    passed_on: BTreeMap<String, ModulePath>,
    references: BTreeSet<ModulePath>,
}

/// The modules of a crate.
#[derive(Debug)]
pub(crate) struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

/// A reference from one file to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    /// The room, and the file relative to the crate's `src`, that refers.
    pub(crate) from: (String, String),
    /// What is referred to.
    pub(crate) to: (String, String),
}

/// What a source is made of, without comments, strings and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(char),
    /// `::`
    PathSeparator,
}

impl Crate {
    /// Reads the modules under `folder`, a `src` with a `lib.rs`.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_module(folder, folder, "lib.rs", &[], &mut modules);
        Self { modules }
    }

    /// Every reference from one file to another, in the crate itself.
    pub(crate) fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for module in self.modules.values() {
            for reference in &module.references {
                let to = &self.modules[&self.module_of(reference)];
                if to.file != module.file {
                    arrows.insert(Arrow {
                        from: (room(&module.file), module.file.clone()),
                        to: (room(&to.file), to.file.clone()),
                    });
                }
            }
        }
        arrows
    }

    /// The room in which the item is declared that a path names.
    pub(crate) fn room_of(&self, path: &[String]) -> String {
        room(&self.modules[&self.module_of(path)].file)
    }

    /// The files of the modules, relative to `src`.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(|module| module.file.as_str())
    }

    /// The module in which the item is declared that a path names.
    fn module_of(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        // A name may be passed on from module to module; no chain is as long as this.
        for _ in 0..16 {
            let mut module = ModulePath::new();
            let mut rest = path.iter();
            let item = loop {
                let Some(segment) = rest.next() else {
                    return module;
                };
                module.push(segment.clone());
                if !self.modules.contains_key(&module) {
                    module.pop();
                    break segment;
                }
            };
            match self.modules[&module].passed_on.get(item) {
                Some(target) => path = target.iter().chain(rest).cloned().collect(),
                None => return module,
            }
        }
        panic!("{path:?} is passed on in a circle");
    }
}

/// The room of a file: its folder or its own name under `src`.
fn room(file: &str) -> String {
    let first = file.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

fn read_module(
    source: &Path,
    folder: &Path,
    name: &str,
    path: &[String],
    modules: &mut BTreeMap<ModulePath, Module>,
) {
    let file = folder.join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tokens = without_tests(&tokens(&text));
    let children = children(&tokens);
    let relative = file.strip_prefix(source).unwrap().to_str().unwrap();
    let mut module = Module {
        file: relative.to_owned(),
        ..Module::default()
    };
    for reference in references(&tokens, path, &children) {
        match reference {
            Reference::PassedOn { name, target } => {
                // Handing on what is another room's is an import of that room.
                if !path.is_empty() && path.first() != target.first() {
                    module.references.insert(target.clone());
                }
                module.passed_on.insert(name, target);
            }
            Reference::Used(target) => {
                module.references.insert(target);
            }
        }
    }
    modules.insert(path.to_vec(), module);
    for child in children {
        let mut below = path.to_vec();
        below.push(child.clone());
        // Modules of `x.rs` are in `x/`, those of `mod.rs` and `lib.rs` beside it.
        let inside = match name.strip_suffix(".rs") {
            Some("mod" | "lib") => folder.to_owned(),
            Some(own) => folder.join(own),
            None => unreachable!("a source ends in .rs"),
        };
        if inside.join(&child).join("mod.rs").exists() {
            read_module(source, &inside.join(&child), "mod.rs", &below, modules);
        } else {
            read_module(source, &inside, &format!("{child}.rs"), &below, modules);
        }
    }
}

/// The paths in a source that begin with `name`, another crate's.
pub(crate) fn paths_into(text: &str, name: &str) -> BTreeSet<Vec<String>> {
    let tokens = without_tests(&tokens(text));
    let mut paths = BTreeSet::new();
    for (place, token) in tokens.iter().enumerate() {
        let starts = *token == Token::Word(name.to_owned())
            && tokens.get(place + 1) == Some(&Token::PathSeparator)
            && (place == 0 || tokens[place - 1] != Token::PathSeparator);
        if starts {
            let mut tree = Vec::new();
            read_tree(&tokens, place + 2, &Vec::new(), &mut tree);
            paths.extend(tree.into_iter().map(|(path, _)| path));
        }
    }
    paths
}

enum Reference {
    /// `pub use target as name`
    PassedOn {
        name: String,
        target: ModulePath,
    },
    Used(ModulePath),
}

/// What the tokens of the module `path`, with its `children`, refer to in their crate.
fn references(tokens: &[Token], path: &[String], children: &[String]) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut place = 0;
    let (mut in_use, mut public) = (false, false);
    while place < tokens.len() {
        match &tokens[place] {
            Token::Word(word) if word == "use" => {
                in_use = true;
                public = is_public(&tokens[..place]);
            }
            Token::Symbol(';') => in_use = false,
            Token::Word(word) => {
                // Behind `in` stands who may see an item, as in `pub(in super::super)`.
                let follows = place > 0
                    && (tokens[place - 1] == Token::PathSeparator
                        || tokens[place - 1] == Token::Word("in".to_owned()));
                let continues = tokens.get(place + 1) == Some(&Token::PathSeparator);
                let base = match word.as_str() {
                    _ if follows => None,
                    "crate" if continues => Some(Vec::new()),
                    "self" if continues => Some(path.to_vec()),
                    "super" if continues => Some(path[..path.len().saturating_sub(1)].to_vec()),
                    child if children.iter().any(|known| known == child) && continues => {
                        Some(path.iter().chain([word]).cloned().collect())
                    }
                    _ => None,
                };
                if let Some(base) = base {
                    let mut tree = Vec::new();
                    let end = read_tree(tokens, place + 2, &base, &mut tree);
                    for (target, name) in tree {
                        found.push(if in_use && public {
                            Reference::PassedOn { name, target }
                        } else {
                            Reference::Used(target)
                        });
                    }
                    place = end;
                    continue;
                }
            }
            _ => {}
        }
        place += 1;
    }
    found
}

/// Whether a declaration behind `before` has a visibility.
fn is_public(before: &[Token]) -> bool {
    match before {
        [.., Token::Word(word)] => word == "pub",
        [.., Token::Symbol(')')] => {
            let open = before.iter().rposition(|t| *t == Token::Symbol('('));
            open.is_some_and(|open| open > 0 && before[open - 1] == Token::Word("pub".to_owned()))
        }
        _ => false,
    }
}

/// Reads what follows `base::`: one path, or a tree of them in braces. Each comes with the name it
/// has afterwards. Returns the place behind.
fn read_tree(
    tokens: &[Token],
    mut place: usize,
    base: &[String],
    found: &mut Vec<(ModulePath, String)>,
) -> usize {
    let mut path = base.to_vec();
    loop {
        match tokens.get(place) {
            Some(Token::Symbol('{')) => {
                place += 1;
                while tokens.get(place).is_some_and(|t| *t != Token::Symbol('}')) {
                    place = read_tree(tokens, place, &path, found);
                    if tokens.get(place) == Some(&Token::Symbol(',')) {
                        place += 1;
                    }
                }
                return place + 1;
            }
            Some(Token::Symbol('*')) => {
                found.push((path, "*".to_owned()));
                return place + 1;
            }
            Some(Token::Word(word)) => {
                match word.as_str() {
                    "super" => drop(path.pop()),
                    "self" => {}
                    _ => path.push(word.clone()),
                }
                place += 1;
            }
            _ => {
                // Such as the `<` of a turbofish: the path ends here.
                let name = path.last().cloned().unwrap_or_default();
                found.push((path, name));
                return place.max(1);
            }
        }
        if tokens.get(place) == Some(&Token::PathSeparator) {
            place += 1;
            continue;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if tokens.get(place) == Some(&Token::Word("as".to_owned()))
            && let Some(Token::Word(other)) = tokens.get(place + 1)
        {
            name.clone_from(other);
            place += 2;
        }
        found.push((path, name));
        return place;
    }
}

/// The modules declared in files of their own.
fn children(tokens: &[Token]) -> Vec<String> {
    let declared = tokens.windows(3).filter_map(|window| match window {
        [Token::Word(keyword), Token::Word(name), Token::Symbol(';')] if keyword == "mod" => {
            Some(name.clone())
        }
        _ => None,
    });
    declared.collect()
}

/// Leaves out the items under `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        if is_test_attribute(&tokens[place..]) {
            place = end_of_item(tokens, place);
        } else {
            kept.push(tokens[place].clone());
            place += 1;
        }
    }
    kept
}

fn is_test_attribute(tokens: &[Token]) -> bool {
    let words: Vec<&str> = tokens
        .iter()
        .take(7)
        .map(|token| match token {
            Token::Word(word) => word.as_str(),
            Token::Symbol('#') => "#",
            _ => "",
        })
        .collect();
    matches!(
        words[..],
        ["#", "", "cfg", "", "test", ..] | ["#", "", "cfg", "", "all", "", "test"]
    )
}

/// The place behind the item whose attributes begin at `place`.
fn end_of_item(tokens: &[Token], mut place: usize) -> usize {
    let mut depth = 0_usize;
    while place < tokens.len() {
        match tokens[place] {
            Token::Symbol('{' | '(' | '[') => depth += 1,
            Token::Symbol(close @ ('}' | ')' | ']')) => {
                depth = depth.saturating_sub(1);
                if depth == 0 && close == '}' {
                    return place + 1;
                }
            }
            Token::Symbol(';') if depth == 0 => return place + 1,
            _ => {}
        }
        place += 1;
    }
    place
}

/// Words and symbols; comments, strings, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("::") {
            found.push(Token::PathSeparator);
            2
        } else if let Some(length) = string(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let word = &rest[..end.unwrap_or(rest.len())];
            found.push(Token::Word(word.to_owned()));
            word.len()
        } else {
            if !first.is_whitespace() {
                found.push(Token::Symbol(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

/// The length of the literal that `text` begins with, if it is one of text.
fn string(text: &str) -> Option<usize> {
    let plain = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let before = text.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(inside) = raw[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = inside.find(&end)? + end.len();
            return Some(before + 1 + hashes + 1 + length);
        }
        return None;
    }
    if let Some(inside) = plain.strip_prefix('"') {
        return Some(before + 1 + end_of_literal(inside, '"')?);
    }
    let inside = plain.strip_prefix('\'')?;
    // A lifetime has no second quote behind its first letter.
    let mut letters = inside.chars();
    let first = letters.next()?;
    if first != '\\' && letters.next() != Some('\'') {
        return Some(before + 1);
    }
    Some(before + 1 + end_of_literal(inside, '\'')?)
}

/// The place behind the quote that ends a literal.
fn end_of_literal(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return Some(place + 1),
            _ => {}
        }
    }
    None
}

#[test]
fn paths_are_read() {
    let text = r#"
        //! [`crate::not::this`]
        use crate::a::{self, b::C as D, e::*};
        pub(crate) use super::f::G;
        mod child;
        fn x<'a>() -> &'a str { child::y(crate::z::<u8>('"'), "crate::in_a_string") }
        #[cfg(test)]
        mod tests { use crate::tested::T; }
        fn w() { self::v() }
    "#;
    let tokens = without_tests(&tokens(text));
    let children = children(&tokens);
    assert_eq!(children, ["child"]);
    let path = ["m".to_owned(), "n".to_owned()];
    let found: Vec<String> = references(&tokens, &path, &children)
        .into_iter()
        .map(|reference| match reference {
            Reference::PassedOn { name, target } => format!("{name} = {}", target.join("::")),
            Reference::Used(target) => target.join("::"),
        })
        .collect();
    let expected = [
        "a",
        "a::b::C",
        "a::e",
        "G = m::f::G",
        "m::n::child::y",
        "z",
        "m::n::v",
    ];
    assert_eq!(found, expected);
}
