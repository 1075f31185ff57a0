//! The key that clients show.

use std::fmt;

use subtle::ConstantTimeEq;

/// Bytes of a key at most.
const LONGEST: usize = 255;

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
pub struct ApiKey {
    padded: [u8; LONGEST + 1],
}

impl ApiKey {
    /// A key of 1 to 255 visible ASCII characters; blanks and line ends around it do not count.
    ///
    /// # Errors
    /// What is wrong with it, without the key.
    pub fn new(text: &str) -> Result<Self, String> {
        let key = text.trim();
        if key.is_empty() {
            return Err("expected a key, found nothing".to_owned());
        }
        if key.len() > LONGEST || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "expected a key of 1 to {LONGEST} ASCII characters in one line without blanks"
            ));
        }
        Ok(Self {
            padded: padded(key.as_bytes()),
        })
    }

    /// Whether `shown` is this key. How long that takes says nothing about the key.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        let fits = shown.len() <= LONGEST;
        let same = self.padded.ct_eq(&padded(shown));
        bool::from(same) && fits
    }
}

/// The first bytes of a key, and its length in the last: two keys are the same when these are.
fn padded(key: &[u8]) -> [u8; LONGEST + 1] {
    let mut padded = [0; LONGEST + 1];
    let length = key.len().min(LONGEST);
    padded[..length].copy_from_slice(&key[..length]);
    padded[LONGEST] = length as u8;
    padded
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_is_the_key() {
        let key = ApiKey::new(" secret\n").unwrap();
        assert!(key.is(b"secret"));
        for shown in [
            &b""[..],
            b"secre",
            b"secret\0",
            b"secrets",
            b"Secret",
            &[b's'; 300],
        ] {
            assert!(!key.is(shown), "{shown:?}");
        }
        let long = "k".repeat(255);
        let key = ApiKey::new(&long).unwrap();
        assert!(key.is(long.as_bytes()));
        assert!(!key.is("k".repeat(256).as_bytes()));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for text in ["", "  \n", "two words", "schlüssel", &"k".repeat(256)] {
            let error = ApiKey::new(text).unwrap_err();
            assert!(!error.contains("words") && !error.contains("kk"), "{error}");
        }
        assert_eq!(format!("{:?}", ApiKey::new("secret").unwrap()), "ApiKey(…)");
    }
}
