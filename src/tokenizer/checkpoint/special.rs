//! Added and special tokens, collected from the four files that name them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::files::TokenizerFiles;
use super::json;
use crate::tokenizer::settings::AddedToken;
use crate::{Error, Result, TokenId};

/// The roles that `special_tokens_map.json` and `tokenizer_config.json` give to tokens.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
];

/// Lists of further special tokens; the second is their name since transformers 5.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// transformers' class for GPT-2 takes this for bos, eos and unk where nothing else is said.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

/// A token described by name: its text alone, or with how it matches.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Described(Described),
}

#[derive(Debug, Clone, Deserialize)]
struct Described {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    special: Option<bool>,
}

impl Described {
    fn plain(content: String) -> Self {
        Self {
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: None,
        }
    }

    fn into_token(self, id: TokenId, special: bool) -> AddedToken {
        let special = special || self.special.unwrap_or(false);
        AddedToken {
            id,
            content: self.content,
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!special),
            special,
        }
    }
}

/// What the files say together.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// All added tokens, by id.
    pub(super) added: Vec<AddedToken>,
    /// Ids of the roles that are given to a token.
    pub(super) roles: HashMap<&'static str, TokenId>,
}

/// Completes the `added` tokens of tokenizer.json with those of the other files, as transformers
/// does: `added_tokens.json` adds what is missing, the `added_tokens_decoder` of
/// `tokenizer_config.json` overrides, and whatever is given a role is special. `ids` are the tokens
/// of the vocabulary.
pub(super) fn collect(
    added: Vec<AddedToken>,
    ids: &HashMap<&str, TokenId>,
    files: &TokenizerFiles,
    config: &Map<String, Value>,
) -> Result<SpecialTokens> {
    let mut tokens = Tokens::new(added, ids);
    if let Some(bytes) = &files.added_tokens {
        let listed: Map<String, Value> = json::parse("added_tokens.json", bytes)?;
        for (content, id) in listed {
            let id = read("added_tokens.json", &content, id)?;
            if tokens.find(&content).is_none() {
                tokens.set(Described::plain(content).into_token(id, false));
            }
        }
    }
    if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
        let place = "tokenizer_config.json: added_tokens_decoder";
        for (id, description) in decoder {
            let number = id.parse().map_err(|_| {
                Error::format(place, format!("expected ids for names, found {id:?}"))
            })?;
            let described: Described = read(place, id, description.clone())?;
            tokens.set(described.into_token(number, false));
        }
    }
    let map = match &files.special_tokens_map {
        Some(bytes) => json::parse("special_tokens_map.json", bytes)?,
        None => Map::new(),
    };
    let sources = [
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", &map),
    ];
    let mut roles = HashMap::new();
    for role in ROLES {
        let given = sources
            .iter()
            .find_map(|(file, source)| source.get(role).map(|value| (*file, value)));
        let named = match given {
            Some((_, Value::Null)) => None,
            Some((file, value)) => Some(read(file, role, value.clone())?),
            None if is_default(role, config) && tokens.find(END_OF_TEXT).is_some() => {
                Some(Named::Text(END_OF_TEXT.to_owned()))
            }
            None => None,
        };
        if let Some(named) = named {
            roles.insert(role, tokens.mark(named)?);
        }
    }
    for (file, source) in sources {
        for name in LISTS {
            let listed = match source.get(name) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(list)) => list.clone(),
                Some(Value::Object(map)) => map.values().cloned().collect(),
                Some(_) => {
                    return Err(Error::format(
                        file,
                        format!("{name}: expected a list of tokens"),
                    ));
                }
            };
            for token in listed {
                tokens.mark(read(file, name, token)?)?;
            }
        }
    }
    for token in &tokens.added {
        if let Some(other) = ids
            .get(token.content.as_str())
            .filter(|&&id| id != token.id)
        {
            let message = format!(
                "{:?} has the id {}, and {other} in the vocabulary",
                token.content, token.id
            );
            return Err(Error::format("added tokens", message));
        }
    }
    Ok(SpecialTokens {
        added: tokens.added,
        roles,
    })
}

/// Whether transformers gives `role` to `<|endoftext|>` when no file says anything.
fn is_default(role: &str, config: &Map<String, Value>) -> bool {
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    matches!(role, "bos_token" | "eos_token" | "unk_token")
        && class.is_none_or(|class| class.starts_with("GPT2Tokenizer"))
}

fn read<T: for<'a> Deserialize<'a>>(file: &str, name: &str, value: Value) -> Result<T> {
    let found = value.to_string();
    serde_json::from_value(value).map_err(|error| {
        let found: String = found.chars().take(60).collect();
        Error::format(file, format!("{name}: {error}; found {found}"))
    })
}

/// Added tokens while they are collected.
struct Tokens<'a> {
    added: Vec<AddedToken>,
    /// Where a token's text stands in `added`.
    places: HashMap<String, usize>,
    ids: &'a HashMap<&'a str, TokenId>,
    /// The id after the highest.
    next: u64,
}

impl<'a> Tokens<'a> {
    fn new(added: Vec<AddedToken>, ids: &'a HashMap<&'a str, TokenId>) -> Self {
        let mut tokens = Self {
            added: Vec::with_capacity(added.len()),
            places: HashMap::new(),
            ids,
            next: ids.values().max().map_or(0, |&id| u64::from(id) + 1),
        };
        for token in added {
            tokens.set(token);
        }
        tokens
    }

    fn find(&self, content: &str) -> Option<TokenId> {
        match self.places.get(content) {
            Some(&place) => Some(self.added[place].id),
            None => self.ids.get(content).copied(),
        }
    }

    /// Adds `token`, in the place of one that has the same text.
    fn set(&mut self, token: AddedToken) {
        self.next = self.next.max(u64::from(token.id) + 1);
        if let Some(&place) = self.places.get(&token.content) {
            self.added[place] = token;
        } else {
            self.places.insert(token.content.clone(), self.added.len());
            self.added.push(token);
        }
    }

    /// Makes a token special that is named as such. One that no file gave an id gets the next.
    fn mark(&mut self, named: Named) -> Result<TokenId> {
        let described = match named {
            Named::Described(described) => described,
            Named::Text(content) => Described::plain(content),
        };
        if let Some(&place) = self.places.get(&described.content) {
            let token = &mut self.added[place];
            token.special = true;
            return Ok(token.id);
        }
        let id = match self.ids.get(described.content.as_str()) {
            Some(&id) => id,
            None => TokenId::try_from(self.next).map_err(|_| {
                let message = format!("no id is left for {:?}", described.content);
                Error::format("tokenizer_config.json", message)
            })?,
        };
        self.set(described.into_token(id, true));
        Ok(id)
    }
}
