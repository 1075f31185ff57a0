//! The tokenizer against Hugging Face's `tokenizers` library, loaded from the same tokenizer.json,
//! on random Unicode text: ids, offsets and decoded texts, from files of this library and from
//! files such as llama.cpp writes.
//!
//! `GPT2_EDGE_TOKENIZER=FOLDER` names another folder to compare, such as GPT-2's own.

use std::path::{Path, PathBuf};

use crate::folders::{as_llama_cpp, as_ours, data};
use gpt2::TokenId;
use gpt2::tokenizer::{
    DecodeOptions, EncodeOptions, Padding, PaddingLength, Side, Tokenizer, Truncation,
    TruncationStrategy,
};
use tokenizers::utils::padding::{PaddingDirection, PaddingParams, PaddingStrategy};
use tokenizers::utils::truncation::{
    TruncationDirection, TruncationParams, TruncationStrategy as Strategy,
};

type Reference = tokenizers::Tokenizer;

/// A generator of numbers (`SplitMix64`), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn character(&mut self, start: u32, end: u32) -> char {
        let code = start + self.below((end - start) as usize) as u32;
        char::from_u32(code).unwrap_or('\u{FFFD}')
    }

    /// A text of up to `parts` parts, among them the `added` tokens.
    fn text(&mut self, parts: usize, added: &[String]) -> String {
        let mut text = String::new();
        for _ in 0..self.below(parts + 1) {
            self.part(added, &mut text);
        }
        text
    }

    fn part(&mut self, added: &[String], text: &mut String) {
        const WORDS: [&str; 14] = [
            "the",
            "Emma",
            "universally",
            "a",
            "I",
            "naïve",
            "x1y2",
            "GPT",
            "über",
            "2nd",
            "ﬁne",
            "Straße",
            "hello",
            "WORLD",
        ];
        const CONTRACTIONS: [&str; 16] = [
            "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "''s", " 's", "'",
            "'r", "'l", "n't",
        ];
        const SPACES: [char; 22] = [
            ' ', ' ', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1f}', '\u{85}',
            '\u{a0}', '\u{1680}', '\u{180e}', '\u{2003}', '\u{200a}', '\u{200b}', '\u{2028}',
            '\u{202f}', '\u{205f}', '\u{3000}', '\u{feff}',
        ];
        const CLUSTERS: [&str; 8] = [
            "👩\u{200d}👩\u{200d}👧\u{200d}👦",
            "🏳\u{fe0f}\u{200d}🌈",
            "👍🏽",
            "🇩🇪🇫🇷",
            "e\u{301}\u{323}",
            "क्षि",
            "각",
            "1️⃣",
        ];
        match self.below(14) {
            0 | 1 => text.push_str(self.of(&WORDS)),
            2 => {
                text.push(' ');
                text.push_str(self.of(&WORDS));
            }
            3 => text.push_str(self.of(&CONTRACTIONS)),
            4 => text.push(self.of(&SPACES)),
            5 => {
                let (space, count) = (self.of(&SPACES), 1 + self.below(5));
                text.extend(std::iter::repeat_n(space, count));
            }
            6 => text.push_str(self.of(&CLUSTERS)),
            7 => text.push(self.character(0, 0x20)),
            8 => text.push(self.character(0x300, 0x370)),
            9 => text.push(self.character(0x80, 0x3000)),
            10 => text.push(self.character(0, 0x11_0000)),
            11 => text.push(self.character(0x21, 0x7F)),
            12 if !added.is_empty() => {
                let token = &added[self.below(added.len())];
                // Whole, or nearly.
                let end = match self.below(4) {
                    0 => token.chars().count().saturating_sub(1),
                    _ => usize::MAX,
                };
                text.extend(token.chars().take(end));
            }
            _ => {
                let digits = self.below(1_000_000).to_string();
                text.push_str(&digits);
            }
        }
        if self.below(200) == 0 {
            let (character, count) = (self.character(0x20, 0x2FF), self.below(400));
            text.extend(std::iter::repeat_n(character, count));
        }
    }
}

fn reference(folder: &Path) -> Reference {
    Reference::from_file(folder.join("tokenizer.json")).expect("the library takes the folder")
}

fn added(tokenizer: &Reference) -> Vec<String> {
    let mut added: Vec<String> = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .map(|token| token.content)
        .collect();
    added.sort();
    added
}

/// Everything that two tokenizers say of one text.
fn compare(name: &str, ours: &Tokenizer, theirs: &Reference, ordinary: &Reference, text: &str) {
    let expected = theirs.encode_char_offsets(text, true).expect("a text");
    let ids = ours.encode(text).expect("a short text");
    assert_eq!(ids, expected.get_ids(), "{name}: {text:?}");
    let spans = ours
        .encode_with_offsets(text, EncodeOptions::default())
        .expect("a short text");
    let found: Vec<(TokenId, (usize, usize))> = spans
        .into_iter()
        .map(|span| (span.id, (span.characters.start, span.characters.end)))
        .collect();
    let ids_with_offsets = expected.get_ids().iter().zip(expected.get_offsets());
    let wanted: Vec<(TokenId, (usize, usize))> =
        ids_with_offsets.map(|(&id, &place)| (id, place)).collect();
    assert_eq!(found, wanted, "{name}: offsets of {text:?}");
    for skip_special_tokens in [false, true] {
        let options = DecodeOptions {
            skip_special_tokens,
            ..DecodeOptions::default()
        };
        assert_eq!(
            ours.decode_with(&ids, options),
            theirs.decode(&ids, skip_special_tokens).expect("a text"),
            "{name}: {text:?} decoded, special tokens skipped: {skip_special_tokens}"
        );
    }
    let expected = ordinary.encode(text, false).expect("a text");
    assert_eq!(
        ours.encode_ordinary(text).expect("a short text"),
        expected.get_ids(),
        "{name}: {text:?} with special tokens split"
    );
}

fn compare_many(name: &str, folder: &Path, ours: &[Tokenizer], count: usize) {
    let theirs = reference(folder);
    let mut ordinary = theirs.clone();
    ordinary.set_encode_special_tokens(true);
    let added = added(&theirs);
    let mut numbers = Numbers(7);
    for _ in 0..count {
        let text = numbers.text(12, &added);
        for ours in ours {
            compare(name, ours, &theirs, &ordinary, &text);
        }
    }
    // Ids in no order that a text would give.
    let rows = ours[0].vocabulary_size();
    for _ in 0..count / 10 {
        let ids: Vec<TokenId> = (0..numbers.below(12))
            .map(|_| numbers.below(rows + 3) as TokenId)
            .collect();
        for ours in ours {
            let expected = theirs.decode(&ids, false).expect("a text");
            assert_eq!(ours.decode(&ids), expected, "{name}: {ids:?}");
        }
    }
}

#[test]
fn twenty_thousand_texts_give_the_same_tokens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/austen-gpt2");
    let ours = [as_ours(&folder), as_llama_cpp(&folder)];
    compare_many("austen-gpt2", &folder, &ours, 20_000);
}

#[test]
fn added_tokens_and_prefix_spaces_give_the_same_tokens() {
    for name in ["tok_added", "tok_prefix", "tok_chat"] {
        compare_many(name, &data(name), &[as_ours(&data(name))], 5_000);
    }
}

#[test]
fn a_folder_named_by_the_environment_gives_the_same_tokens() {
    let Some(folder) = std::env::var_os("GPT2_EDGE_TOKENIZER").map(PathBuf::from) else {
        println!("skipped: GPT2_EDGE_TOKENIZER names no folder");
        return;
    };
    let ours = [as_ours(&folder), as_llama_cpp(&folder)];
    compare_many("the folder", &folder, &ours, 20_000);
}

#[cfg(feature = "tokenizers")]
#[test]
fn tokenizers_carried_whole_give_the_same_tokens() {
    for name in ["tok_wordpiece", "tok_charbpe"] {
        compare_many(name, &data(name), &[as_ours(&data(name))], 2_000);
    }
}

/// Two texts together, cut and filled in every way.
fn compare_pairs(name: &str) {
    let (ours, original) = (as_ours(&data(name)), reference(&data(name)));
    let added = added(&original);
    let mut numbers = Numbers(11);
    for _ in 0..1_000 {
        let (first, second) = (numbers.text(8, &added), numbers.text(8, &added));
        let second = (numbers.below(3) > 0).then_some(second);
        let (max_length, length) = (3 + numbers.below(20), numbers.below(30));
        let side = numbers.of(&[Side::Left, Side::Right]);
        let (strategy, theirs) = numbers.of(&[
            (TruncationStrategy::LongestFirst, Strategy::LongestFirst),
            (TruncationStrategy::OnlyFirst, Strategy::OnlyFirst),
            (TruncationStrategy::OnlySecond, Strategy::OnlySecond),
        ]);
        let truncation = Truncation {
            max_length,
            side,
            strategy,
        };
        let options = EncodeOptions {
            add_special_tokens: numbers.below(2) == 0,
            ..EncodeOptions::default()
        };
        let mut reference = original.clone();
        let (cut, filled) = match side {
            Side::Left => (TruncationDirection::Left, PaddingDirection::Left),
            Side::Right => (TruncationDirection::Right, PaddingDirection::Right),
        };
        reference
            .with_truncation(Some(TruncationParams {
                max_length,
                strategy: theirs,
                stride: 0,
                direction: cut,
            }))
            .expect("no stride is too long");
        reference.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            direction: filled,
            pad_to_multiple_of: Some(4),
            pad_id: 3,
            pad_type_id: 0,
            pad_token: "x".to_owned(),
        }));
        // Cut after both are encoded: where the library cuts while it encodes, it cuts a text that
        // was to stay whole.
        let encode = |text: &str| original.encode_char_offsets(text, false).expect("a text");
        let other = second.as_deref().map(|text| {
            let mut encoding = encode(text);
            encoding.set_type_ids(vec![1; encoding.len()]);
            encoding
        });
        let expected = reference.post_process(encode(&first), other, options.add_special_tokens);
        let found = ours.encode_pair(&first, second.as_deref(), options, Some(truncation));
        let what = format!("{name}: {first:?} {second:?} {truncation:?} {options:?}");
        let (mut found, expected) = match (found, expected) {
            (Ok(found), Ok(expected)) => (found, expected),
            (Err(_), Err(_)) => continue,
            (found, expected) => panic!("{what}: {found:?}, expected {expected:?}"),
        };
        let padding = Padding {
            length: PaddingLength::Tokens(length),
            multiple_of: Some(4),
            side,
            token: Some(3),
        };
        ours.pad(std::slice::from_mut(&mut found), padding)
            .expect("a padding token");
        let bits = |mask: &[bool]| mask.iter().map(|&bit| u32::from(bit)).collect::<Vec<_>>();
        assert_eq!(found.ids, expected.get_ids(), "{what}");
        assert_eq!(found.type_ids, expected.get_type_ids(), "{what}: types");
        let mask = bits(&found.attention_mask);
        assert_eq!(mask, expected.get_attention_mask(), "{what}: mask");
        let special = bits(&found.special_tokens_mask);
        assert_eq!(
            special,
            expected.get_special_tokens_mask(),
            "{what}: special"
        );
        let offsets: Vec<(usize, usize)> = found
            .offsets
            .iter()
            .map(|characters| (characters.start, characters.end))
            .collect();
        assert_eq!(offsets, expected.get_offsets(), "{what}: offsets");
        assert_eq!(found.sequence_ids.len(), found.len());
    }
}

#[test]
fn pairs_are_cut_and_filled_alike() {
    compare_pairs("tok_added");
    #[cfg(feature = "tokenizers")]
    compare_pairs("tok_wordpiece");
}
