//! Text on its way out, delayed while it could still turn out to be a stop string.

use crate::{Error, Result};

/// Finds stop strings in text that arrives in pieces.
#[derive(Debug)]
pub(super) struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far: it begins some stop string.
    pending: String,
}

/// What became of a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// Text that is certain; never part of a stop string.
    pub(super) text: String,
    /// Whether a stop string was completed: the text ends before it.
    pub(super) stopped: bool,
}

impl StopStrings {
    /// # Errors
    /// [`Error::Argument`] for an empty stop string, which would stop before any text.
    pub(super) fn new(stops: &[String]) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            return Err(Error::Argument(
                "a stop string must not be empty".to_owned(),
            ));
        }
        Ok(Self {
            stops: stops.to_vec(),
            pending: String::new(),
        })
    }

    /// Takes the next piece; gives what can no longer be part of a stop string.
    pub(super) fn push(&mut self, piece: &str) -> Released {
        self.pending.push_str(piece);
        if let Some(start) = self
            .stops
            .iter()
            .filter_map(|stop| self.pending.find(stop))
            .min()
        {
            self.pending.truncate(start);
            return Released {
                text: std::mem::take(&mut self.pending),
                stopped: true,
            };
        }
        let begins_a_stop = |&start: &usize| {
            let end = &self.pending.as_bytes()[start..];
            self.stops
                .iter()
                .any(|stop| stop.as_bytes().starts_with(end))
        };
        let starts = self.pending.char_indices().map(|(start, _)| start);
        let kept_from = starts
            .into_iter()
            .find(begins_a_stop)
            .unwrap_or(self.pending.len());
        let kept = self.pending.split_off(kept_from);
        Released {
            text: std::mem::replace(&mut self.pending, kept),
            stopped: false,
        }
    }

    /// Ends the text: what was delayed was no stop string after all.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out for each piece, then at the end.
    fn released(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut finder = StopStrings::new(&stops).unwrap();
        let mut texts = Vec::new();
        for piece in pieces {
            let released = finder.push(piece);
            texts.push(released.text);
            if released.stopped {
                return (texts, true);
            }
        }
        texts.push(finder.finish());
        (texts, false)
    }

    #[test]
    fn without_stop_strings_all_passes_at_once() {
        assert_eq!(
            released(&[], &["a", "b"]),
            (vec!["a".into(), "b".into(), String::new()], false)
        );
    }

    #[test]
    fn text_ends_before_the_stop_string() {
        assert_eq!(
            released(&["\n\n"], &["one\n\ntwo"]),
            (vec!["one".into()], true)
        );
        // Of several, the one that begins first.
        assert_eq!(released(&["d", "bc"], &["abcd"]), (vec!["a".into()], true));
    }

    #[test]
    fn a_beginning_is_delayed_until_it_is_decided() {
        let (texts, stopped) = released(&["END"], &["the E", "N", "D of"]);
        assert_eq!(
            (texts, stopped),
            (vec!["the ".into(), String::new(), String::new()], true)
        );
        let (texts, stopped) = released(&["END"], &["the E", "N", "d"]);
        assert_eq!(texts, ["the ", "", "ENd", ""]);
        assert!(!stopped);
        // The delayed text still comes out at the end.
        assert_eq!(released(&["END"], &["EN"]).0, ["", "EN"]);
    }

    #[test]
    fn a_stop_string_that_overlaps_itself() {
        let (texts, stopped) = released(&["aab"], &["a", "a", "a", "b"]);
        assert_eq!(
            (texts, stopped),
            (["", "", "a", ""].map(String::from).to_vec(), true)
        );
    }

    #[test]
    fn characters_of_several_bytes_stay_whole() {
        assert_eq!(released(&["é!"], &["é", "è"]).0, ["", "éè", ""]);
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        assert!(StopStrings::new(&[String::new()]).is_err());
    }
}
