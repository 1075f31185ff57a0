//! The byte alphabet: every byte as one printable character, so that token strings are text.
//!
//! GPT-2's vocabulary files write each byte of a token as a character: bytes that print in Latin-1
//! stand for themselves, the other 68 take the code points from U+0100 on, in ascending order (a
//! space is `Ġ`, a newline `Ċ`). Nothing here knows of tokens or merges.

/// Characters of the alphabet lie below this code point: 256 for the bytes that do not print, of
/// which there are 68.
const ALPHABET_END: usize = 0x100 + 68;

/// Marks a code point that stands for no byte.
const NO_BYTE: u16 = u16::MAX;

const fn prints(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

const TO_CHARACTER: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut next = 0x100_u16;
    let mut byte = 0_usize;
    while byte < 256 {
        table[byte] = if prints(byte as u8) {
            byte as u16
        } else {
            next += 1;
            next - 1
        };
        byte += 1;
    }
    table
};

const TO_BYTE: [u16; ALPHABET_END] = {
    let mut table = [NO_BYTE; ALPHABET_END];
    let mut byte = 0_usize;
    while byte < 256 {
        table[TO_CHARACTER[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
};

/// The character that stands for `byte`.
pub(super) fn character(byte: u8) -> char {
    // Every entry is below U+0144, so the fallback is never taken.
    char::from_u32(u32::from(TO_CHARACTER[usize::from(byte)]))
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `character` stands for, if it is of the alphabet.
pub(super) fn byte(character: char) -> Option<u8> {
    match TO_BYTE.get(character as usize) {
        Some(&byte) if byte != NO_BYTE => Some(byte as u8),
        _ => None,
    }
}

/// Appends the bytes that `token` spells and says `true`; a token with a character outside the
/// alphabet is appended as the UTF-8 it is, with `false`.
pub(super) fn append_spelled(token: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    for character in token.chars() {
        if let Some(byte) = byte(character) {
            out.push(byte);
        } else {
            out.truncate(start);
            out.extend_from_slice(token.as_bytes());
            return false;
        }
    }
    true
}

/// `bytes` written in the alphabet.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| character(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_a_bijection_with_the_known_landmarks() {
        for value in 0..=u8::MAX {
            assert_eq!(byte(character(value)), Some(value));
        }
        for (value, expected) in [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (b'\t', 'ĉ'),
            (0, 'Ā'),
            (0x7F, 'ġ'),
            (0xAD, 'Ń'),
            (b'!', '!'),
            (0xFF, 'ÿ'),
        ] {
            assert_eq!(character(value), expected);
        }
        let of_alphabet = (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .filter(|&candidate| byte(candidate).is_some())
            .count();
        assert_eq!(of_alphabet, 256);
    }

    #[test]
    fn a_token_outside_the_alphabet_is_taken_as_it_is() {
        let mut out = b"x".to_vec();
        assert!(append_spelled("Ġcaf\u{c3}\u{a9}", &mut out));
        assert_eq!(out, "x café".as_bytes());
        assert!(!append_spelled("Ġ New", &mut out));
        assert_eq!(out, "x caféĠ New".as_bytes());
        assert_eq!(spell("x café".as_bytes()), "xĠcafÃ©");
    }
}
