//! What one turn is: a line, or several.

use std::io::BufRead;

use crate::failure::Failure;

/// Opens and closes a turn of several lines.
const FENCE: &str = "\"\"\"";

/// Reads lines until they are a turn. At the end of the input what there is counts.
pub(super) fn read_turn(input: &mut dyn BufRead) -> Result<Option<String>, Failure> {
    let mut typed = String::new();
    loop {
        let mut bytes = Vec::new();
        let count = input
            .read_until(b'\n', &mut bytes)
            .map_err(|error| Failure::at("stdin", &error))?;
        if count == 0 {
            // The line that was to follow never came.
            let whole = typed.strip_suffix('\n').unwrap_or(&typed);
            return Ok((!typed.is_empty()).then(|| turn(whole)));
        }
        let line = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            Failure::Work(format!(
                "stdin: expected UTF-8 text, found something else at byte {offset} of a line"
            ))
        })?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        typed.push_str(line.strip_suffix('\r').unwrap_or(line));
        if is_complete(&typed) {
            return Ok(Some(turn(&typed)));
        }
        typed.push('\n');
    }
}

/// Whether what was typed is a whole turn.
pub(super) fn is_complete(typed: &str) -> bool {
    match typed.trim_start().strip_prefix(FENCE) {
        Some(rest) => rest.trim_end().ends_with(FENCE),
        None => !typed.ends_with('\\'),
    }
}

/// The turn in what was typed.
pub(super) fn turn(typed: &str) -> String {
    let Some(rest) = typed.trim_start().strip_prefix(FENCE) else {
        let joined = typed.replace("\\\n", "\n");
        return joined.strip_suffix('\\').unwrap_or(&joined).to_owned();
    };
    let trimmed = rest.trim_end();
    let inside = trimmed.strip_suffix(FENCE).unwrap_or(rest);
    // The fences may have lines of their own.
    let inside = inside.strip_prefix('\n').unwrap_or(inside);
    inside.strip_suffix('\n').unwrap_or(inside).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All turns of an input.
    fn turns(mut input: &[u8]) -> Vec<String> {
        let mut turns = Vec::new();
        while let Some(turn) = read_turn(&mut input).unwrap() {
            turns.push(turn);
        }
        turns
    }

    #[test]
    fn a_line_is_a_turn() {
        assert_eq!(turns(b"one\r\n two \n\nlast"), ["one", " two ", "", "last"]);
        assert_eq!(turns(b""), [""; 0]);
        let Err(Failure::Work(message)) = read_turn(&mut &b"a\xFF"[..]) else {
            panic!("accepted");
        };
        assert!(message.contains("byte 1"), "{message}");
    }

    #[test]
    fn a_backslash_goes_on_in_the_next_line() {
        assert_eq!(
            turns(b"one\\\ntwo\\\n\nthree\nfour\\"),
            ["one\ntwo\n", "three", "four"]
        );
    }

    #[test]
    fn fences_hold_several_lines() {
        assert_eq!(
            turns(b"\"\"\"\none\\\n\n/two\n\"\"\"\n \"\"\"a \"quoted\" b\"\"\" \n\"\"\"open\nend"),
            ["one\\\n\n/two", "a \"quoted\" b", "open\nend"]
        );
        assert_eq!(turns(b"\"\"\"\"\"\"\nx"), ["", "x"]);
        assert!(!is_complete(FENCE));
    }
}
