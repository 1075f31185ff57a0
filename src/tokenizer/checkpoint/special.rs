//! Added and special tokens, collected from the files that name them.
//!
//! Which file counts is as in transformers: a `tokenizer_config.json` with an
//! `added_tokens_decoder` (4.34 and later) says everything; beside an older one
//! `special_tokens_map.json` goes before it and `added_tokens.json` adds to it. What ids the tokens
//! get is in [`numbering`](super::numbering).

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::class::Class;
use super::files::TokenizerFiles;
use super::json;
use super::numbering::Numbering;
use crate::tokenizer::settings::AddedToken;
use crate::{Error, Result, TokenId};

/// The roles that `special_tokens_map.json` and `tokenizer_config.json` give to tokens, in the
/// order in which tokens that no file lists are added.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Lists of further special tokens; the first is their name since transformers 5, and counts alone.
const LISTS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// transformers' class for GPT-2 takes this for bos, eos and unk where nothing else is said.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";

/// A token described by name: its text alone, or with how it matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Described(Described),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
struct Described {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Named {
    fn content(&self) -> &str {
        match self {
            Self::Text(content) | Self::Described(Described { content, .. }) => content,
        }
    }

    /// The token, special if it is given by its text alone. Its id comes later.
    fn token(&self) -> AddedToken {
        let described = match self {
            Self::Described(described) => described.clone(),
            Self::Text(content) => Described {
                content: content.clone(),
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: None,
                special: true,
            },
        };
        AddedToken {
            id: 0,
            content: described.content,
            single_word: described.single_word,
            lstrip: described.lstrip,
            rstrip: described.rstrip,
            normalized: described.normalized.unwrap_or(!described.special),
            special: described.special,
        }
    }

    fn make_special(&mut self) {
        if let Self::Described(described) = self {
            described.special = true;
        }
    }
}

/// What the files say together.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// All added tokens.
    pub(super) added: Vec<AddedToken>,
    /// Ids of the roles that are given to a token.
    pub(super) roles: HashMap<String, TokenId>,
    /// What the user should know, a sentence each.
    pub(super) warnings: Vec<String>,
}

/// Completes the `added` tokens of tokenizer.json with those of the other files. `ids` are the
/// tokens of the vocabulary.
pub(super) fn collect(
    added: Vec<AddedToken>,
    ids: &HashMap<&str, TokenId>,
    files: &TokenizerFiles,
    config: &Map<String, Value>,
    class: Class,
) -> Result<SpecialTokens> {
    let named = NamedTokens::read(files, config, class)?;
    let listed = listed(&added, files, config, &named)?;
    let mut numbering = Numbering::new(ids);
    numbering.add(added);
    // All that is listed is added once more: of different descriptions the last counts.
    let mut more: Vec<AddedToken> = Vec::new();
    for (id, mut token) in listed {
        token.id = id;
        token.special |= named.has_role(&token.content);
        more.push(token);
    }
    let mut known: HashSet<String> = more.iter().map(|token| token.content.clone()).collect();
    known.extend(numbering.contents().map(str::to_owned));
    let mut seen = HashSet::new();
    let roles = named.roles.iter().map(|(_, token)| token);
    for token in roles.chain(&named.extra) {
        if !known.contains(token.content()) && seen.insert(token) {
            let mut token = token.token();
            token.id = TokenId::MAX;
            token.special |= named.has_role(&token.content);
            more.push(token);
        }
    }
    numbering.add(more);
    let roles = named
        .roles
        .iter()
        .filter_map(|(role, token)| Some((role.clone(), numbering.id(token.content())?)))
        .collect();
    let (added, warnings) = numbering.finish()?;
    Ok(SpecialTokens {
        added,
        roles,
        warnings,
    })
}

/// The tokens with a role, and further special ones.
struct NamedTokens {
    roles: Vec<(String, Named)>,
    /// The texts of those.
    with_role: HashSet<String>,
    extra: Vec<Named>,
}

impl NamedTokens {
    fn read(files: &TokenizerFiles, config: &Map<String, Value>, class: Class) -> Result<Self> {
        let map: Map<String, Value> = match &files.special_tokens_map {
            Some(bytes) if !has_decoder(config) => json::parse(MAP, bytes)?,
            _ => Map::new(),
        };
        let mut roles = Vec::new();
        for role in ROLES {
            let sources = [(MAP, &map), (CONFIG, config)];
            let given = sources
                .into_iter()
                .find_map(|(file, source)| Some((file, source.get(role)?)));
            let is_default = matches!(role, "bos_token" | "eos_token" | "unk_token");
            let token = match given {
                // No token has the role.
                Some((_, Value::Null)) => None,
                Some((file, value)) => {
                    let mut token: Named = read(file, role, value)?;
                    token.make_special();
                    Some(token)
                }
                None => (is_default && class == Class::Gpt2)
                    .then(|| Named::Text(END_OF_TEXT.to_owned())),
            };
            roles.extend(token.map(|token| (role.to_owned(), token)));
        }
        // Models have roles of their own, such as an image_token.
        let mut seen: HashSet<&str> = ROLES.into();
        for (file, source) in [(MAP, &map), (CONFIG, config)] {
            for (name, value) in source {
                let is_token = value.is_string() || value.get("content").is_some();
                if name.ends_with("_token") && is_token && seen.insert(name) {
                    roles.push((name.clone(), read(file, name, value)?));
                }
            }
        }
        let mut extra: Vec<Named> = Vec::new();
        for (file, source) in [(CONFIG, config), (MAP, &map)] {
            for list in LISTS {
                let newer = source.get(LISTS[0]).and_then(Value::as_array);
                let is_replaced = list != LISTS[0] && newer.is_some_and(|list| !list.is_empty());
                match source.get(list).filter(|_| !is_replaced) {
                    None | Some(Value::Null) => {}
                    Some(Value::Array(tokens)) => {
                        for token in tokens {
                            let mut token: Named = read(file, list, token)?;
                            if file == MAP {
                                token.make_special();
                            }
                            extra.push(token);
                        }
                    }
                    // By the names of further roles.
                    Some(Value::Object(tokens)) => {
                        for (name, token) in tokens {
                            roles.push((name.clone(), read(file, list, token)?));
                        }
                    }
                    Some(_) => {
                        let message = format!("{list}: expected a list of tokens");
                        return Err(Error::format(file, message));
                    }
                }
            }
        }
        let texts = roles.iter().map(|(_, token)| token.content().to_owned());
        Ok(Self {
            with_role: texts.collect(),
            roles,
            extra,
        })
    }

    fn has_role(&self, content: &str) -> bool {
        self.with_role.contains(content)
    }
}

/// The tokens that files list with their ids, by id. Of two with the same id the last counts.
fn listed(
    added: &[AddedToken],
    files: &TokenizerFiles,
    config: &Map<String, Value>,
    named: &NamedTokens,
) -> Result<BTreeMap<TokenId, AddedToken>> {
    let mut listed = BTreeMap::new();
    if has_decoder(config) {
        let place = "tokenizer_config.json: added_tokens_decoder";
        let decoder: Map<String, Value> = read(CONFIG, DECODER, &config[DECODER])?;
        for (id, description) in &decoder {
            let number = id.parse().map_err(|_| {
                Error::format(place, format!("expected ids for names, found {id:?}"))
            })?;
            let described: Described = read(place, id, description)?;
            listed.insert(number, Named::Described(described).token());
        }
        return Ok(listed);
    }
    if let Some(bytes) = &files.added_tokens {
        let place = "added_tokens.json";
        let tokens: Map<String, Value> = json::parse(place, bytes)?;
        let extra: HashSet<&str> = named.extra.iter().map(Named::content).collect();
        for (content, id) in tokens {
            let mut token = Named::Text(content).token();
            token.special = named.has_role(&token.content) || extra.contains(&*token.content);
            token.normalized = !token.special;
            listed.insert(read(place, &token.content, &id)?, token);
        }
    }
    for token in added {
        listed.insert(token.id, token.clone());
    }
    Ok(listed)
}

const DECODER: &str = "added_tokens_decoder";

fn has_decoder(config: &Map<String, Value>) -> bool {
    config
        .get(DECODER)
        .is_some_and(|decoder| !decoder.is_null())
}

fn read<T: for<'a> Deserialize<'a>>(file: &str, name: &str, value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|error| {
        let found: String = value.to_string().chars().take(60).collect();
        Error::format(file, format!("{name}: {error}; found {found}"))
    })
}
