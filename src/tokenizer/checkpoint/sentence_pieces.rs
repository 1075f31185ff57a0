//! `SentencePiece`'s `spiece.model` as a tokenizer.json that gives the same ids.
//!
//! The `tokenizers` library knows the algorithms, and most of what precedes them. Where it would
//! give other ids than `SentencePiece` the file is refused. It cuts texts into characters as
//! readers see them (grapheme clusters) before it looks up what they become, and `SentencePiece`
//! does not: that is the one difference left, in rare texts.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::pieces::{Algorithm, Kind, PLACE, Pieces};
use crate::{Error, Result, TokenId};

/// What stands for a space in a piece.
const SPACE: char = '▁';

/// Below what any piece of text scores, for pieces that no text is to become.
const NEVER: f64 = -1e5;

/// The number of further tokens that T5's tokenizer has where its configuration says nothing.
const EXTRA_IDS: u64 = 100;

/// The class that the file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Nothing goes around a text.
    Plain,
    /// `</s>` goes behind a text.
    T5,
}

/// The tokenizer.json of the file, and what `tokenizer_config.json` says with the roles that the
/// file itself gives.
///
/// # Errors
/// [`Error::Format`] for a file that is broken; [`Error::Unsupported`] for what cannot be done as
/// `SentencePiece` does it.
pub(super) fn to_tokenizer_json(
    file: &[u8],
    config: &Map<String, Json>,
    class: Option<&str>,
) -> Result<(Json, Map<String, Json>)> {
    let pieces = Pieces::parse(file)?;
    let class = match class {
        None => Class::Plain,
        Some(name) if name.starts_with("GPT2Tokenizer") => Class::Plain,
        Some(name) if name.starts_with("T5Tokenizer") => Class::T5,
        Some(other) => {
            return Err(unsupported(&format!(
                "tokenizer_class {other:?} without a tokenizer.json"
            )));
        }
    };
    check(&pieces)?;
    let config = with_roles(&pieces, config, class);
    let vocabulary_ids = ids(&pieces)?;
    let mut added = special_pieces(&pieces);
    if class == Class::T5 {
        added.extend(extra_tokens(&config, pieces.all.len())?);
    }
    let is_cut = pieces
        .all
        .iter()
        .filter(|piece| matches!(piece.kind, Kind::Normal | Kind::UserDefined))
        .all(|piece| {
            !piece
                .text
                .chars()
                .skip(1)
                .any(|character| character == SPACE)
        })
        && vocabulary_ids.contains_key("▁");
    let model = match pieces.algorithm {
        Algorithm::Unigram => unigram(&pieces),
        Algorithm::Bpe => merges(&pieces, &vocabulary_ids),
        Algorithm::Other(number) => {
            return Err(unsupported(&format!("a model of the kind {number}")));
        }
    };
    let metaspace = json!({
        "type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": true,
    });
    let around = match class {
        Class::T5 => t5_template(&config, &vocabulary_ids)?,
        Class::Plain => Json::Null,
    };
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer(&pieces),
        // Words are looked up one by one where no piece reaches beyond one.
        "pre_tokenizer": if is_cut { metaspace } else { Json::Null },
        "post_processor": around,
        "decoder": decoder(&pieces),
        "model": model,
    });
    Ok((tokenizer, config))
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported(format!(
        "{PLACE} (SentencePiece): {what}, which cannot be done exactly here; load the folder with \
         transformers and save its tokenizer with save_pretrained, which writes a tokenizer.json"
    ))
}

/// Refuses what the library does in another way.
fn check(pieces: &Pieces) -> Result<()> {
    if pieces.whitespace_is_suffix {
        return Err(unsupported("treat_whitespace_as_suffix"));
    }
    if !pieces.escape_whitespaces {
        return Err(unsupported("escape_whitespaces is false"));
    }
    let is_text = |kind: Kind| matches!(kind, Kind::Normal | Kind::UserDefined);
    if !pieces.all.iter().any(|piece| is_text(piece.kind)) {
        return Err(Error::format(
            PLACE,
            "expected pieces of text, found none: the SentencePiece model is empty",
        ));
    }
    // A character within a piece that is none itself may be unknown or not: how likely that is
    // differs.
    let single: HashSet<&str> = pieces
        .all
        .iter()
        .filter(|piece| is_text(piece.kind))
        .map(|piece| piece.text.as_str())
        .collect();
    let covered = |text: &str| {
        let mut buffer = [0; 4];
        text.chars()
            .all(|character| single.contains(&*character.encode_utf8(&mut buffer)))
    };
    let splits = pieces.add_dummy_prefix || pieces.remove_extra_whitespaces;
    for piece in &pieces.all {
        let text = &piece.text;
        let reason = match piece.kind {
            Kind::Normal | Kind::Unused if !covered(text) => "has characters that are no pieces",
            Kind::Byte if pieces.algorithm == Algorithm::Unigram && !covered(text) => {
                "could not be told from text"
            }
            Kind::Unused if pieces.algorithm == Algorithm::Bpe => "is left out of merges",
            Kind::UserDefined if pieces.algorithm == Algorithm::Bpe && splits => {
                "always stays whole"
            }
            Kind::UserDefined
                if !text.bytes().all(|byte| byte.is_ascii_graphic())
                    && !pieces.characters.is_empty() =>
            {
                "always stays as it is"
            }
            Kind::UserDefined if text.contains(' ') => "has a space",
            _ => continue,
        };
        return Err(unsupported(&format!("the piece {text:?} {reason}")));
    }
    Ok(())
}

/// The pieces with their ids.
fn ids(pieces: &Pieces) -> Result<HashMap<&str, TokenId>> {
    let mut ids = HashMap::new();
    for (id, piece) in (0..).zip(&pieces.all) {
        if ids.insert(piece.text.as_str(), id).is_some() {
            let message = format!("the piece {:?} occurs twice", piece.text);
            return Err(Error::format(PLACE, message));
        }
    }
    Ok(ids)
}

/// The configuration, with the roles that the file gives where it says nothing.
fn with_roles(pieces: &Pieces, config: &Map<String, Json>, class: Class) -> Map<String, Json> {
    let mut config = config.clone();
    let mut role = |name: &str, id: Option<TokenId>, default: Option<&str>| {
        let text = id
            .and_then(|id| pieces.piece(id))
            .map(|piece| piece.text.as_str());
        if let Some(text) = default.or(text) {
            config.entry(name).or_insert_with(|| text.into());
        }
    };
    let t5 = |text| (class == Class::T5).then_some(text);
    role("unk_token", Some(pieces.unknown), t5("<unk>"));
    role("eos_token", pieces.eos, t5("</s>"));
    role("pad_token", pieces.padding, t5("<pad>"));
    // T5 has no beginning of its own.
    role("bos_token", pieces.bos.filter(|_| class != Class::T5), None);
    config
}

fn special(id: usize, content: &str, strip: bool) -> Json {
    json!({
        "id": id, "content": content, "special": true, "normalized": false,
        "single_word": false, "lstrip": strip, "rstrip": strip,
    })
}

/// Markers, which are found in a text only before it is cut.
fn special_pieces(pieces: &Pieces) -> Vec<Json> {
    let is_bpe = pieces.algorithm == Algorithm::Bpe;
    let all = pieces.all.iter().enumerate();
    all.filter_map(|(id, piece)| match piece.kind {
        Kind::Control | Kind::Unknown => Some(special(id, &piece.text, false)),
        Kind::UserDefined if is_bpe => {
            let mut token = special(id, &piece.text, false);
            token["special"] = false.into();
            Some(token)
        }
        _ => None,
    })
    .collect()
}

/// The tokens behind T5's vocabulary, the last first.
fn extra_tokens(config: &Map<String, Json>, start: usize) -> Result<Vec<Json>> {
    let count = match config.get("extra_ids") {
        None => EXTRA_IDS,
        Some(count) => count
            .as_u64()
            .filter(|&count| count <= 1 << 16)
            .ok_or_else(|| {
                let message = format!("extra_ids: expected a number up to 65536, found {count}");
                Error::format("tokenizer_config.json", message)
            })?,
    };
    let names = (0..count)
        .rev()
        .map(|number| format!("<extra_id_{number}>"));
    Ok(names
        .enumerate()
        .map(|(place, name)| special(start + place, &name, true))
        .collect())
}

fn t5_template(config: &Map<String, Json>, ids: &HashMap<&str, TokenId>) -> Result<Json> {
    let end = config.get("eos_token");
    let end = end.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
    let end = end.unwrap_or("</s>");
    let id = ids.get(end).ok_or_else(|| {
        let message = format!("expected T5's eos_token {end:?} among the pieces, found none");
        Error::format(PLACE, message)
    })?;
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let marker = json!({"SpecialToken": {"id": end, "type_id": 0}});
    let mut defined = Map::new();
    defined.insert(
        end.to_owned(),
        json!({"id": end, "ids": [id], "tokens": [end]}),
    );
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [text("A"), marker],
        "pair": [text("A"), marker, text("B"), marker],
        "special_tokens": defined,
    }))
}

/// What happens to a text before it is cut.
fn normalizer(pieces: &Pieces) -> Json {
    let replace = |regex: &str, content: &str| {
        let pattern = json!({"Regex": regex});
        json!({"type": "Replace", "pattern": pattern, "content": content})
    };
    let mut steps = Vec::new();
    if !pieces.characters.is_empty() {
        let characters = base64(&pieces.characters);
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": characters}));
    }
    if pieces.remove_extra_whitespaces {
        steps.push(replace("^ +| +$", ""));
        steps.push(replace(" {2,}", " "));
    }
    if pieces.add_dummy_prefix {
        steps.push(json!({"type": "Prepend", "prepend": SPACE}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    if pieces.remove_extra_whitespaces {
        steps.push(replace("▁+$", ""));
    }
    json!({"type": "Sequence", "normalizers": steps})
}

/// Bytes as JSON carries them.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let is_padding = place > group.len();
            text.push(if is_padding {
                '='
            } else {
                char::from(DIGITS[digit as usize])
            });
        }
    }
    text
}

fn decoder(pieces: &Pieces) -> Json {
    let mut steps = Vec::new();
    if pieces.byte_fallback {
        steps.push(json!({"type": "ByteFallback"}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}));
    steps.push(json!({"type": "Fuse"}));
    if pieces.add_dummy_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn unigram(pieces: &Pieces) -> Json {
    let normal = pieces.all.iter().filter(|piece| piece.kind == Kind::Normal);
    let best = normal.map(|piece| piece.score).fold(f32::MIN, f32::max);
    let vocabulary: Vec<Json> = pieces
        .all
        .iter()
        .map(|piece| {
            let score = match piece.kind {
                Kind::Normal => f64::from(piece.score),
                // The bonus with which they are always taken.
                Kind::UserDefined => piece.text.len() as f64 * f64::from(best.max(-1e3)) - 0.1,
                _ => NEVER,
            };
            json!([piece.text, score])
        })
        .collect();
    json!({
        "type": "Unigram",
        "unk_id": pieces.unknown,
        "vocab": vocabulary,
        "byte_fallback": pieces.byte_fallback,
    })
}

/// Every way to put a piece together, the best piece first.
fn merges(pieces: &Pieces, ids: &HashMap<&str, TokenId>) -> Json {
    let is_part = |text: &str| {
        let id = ids.get(text).copied()?;
        let kind = pieces.piece(id)?.kind;
        (kind == Kind::Normal).then_some(id)
    };
    let mut found = Vec::new();
    for piece in pieces.all.iter().filter(|piece| piece.kind == Kind::Normal) {
        for (cut, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(cut);
            if let (Some(first), Some(second)) = (is_part(left), is_part(right)) {
                found.push((piece.score, (first, second), [left, right]));
            }
        }
    }
    found.sort_by(|one, other| {
        let by_score = other.0.total_cmp(&one.0);
        by_score.then_with(|| one.1.cmp(&other.1))
    });
    let merges: Vec<[&str; 2]> = found.into_iter().map(|(_, _, merge)| merge).collect();
    let vocabulary: Map<String, Json> = ids
        .iter()
        .map(|(text, id)| ((*text).to_owned(), (*id).into()))
        .collect();
    let unknown = pieces.piece(pieces.unknown).map(|piece| &piece.text);
    json!({
        "type": "BPE",
        "unk_token": unknown,
        "fuse_unk": true,
        "byte_fallback": pieces.byte_fallback,
        "vocab": vocabulary,
        "merges": merges,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_base64() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xFB, 0xFF]), "+/8=");
    }
}
