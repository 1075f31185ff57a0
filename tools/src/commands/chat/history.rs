//! Where the lines of earlier conversations are kept.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names another file; empty, there is no history.
const VARIABLE: &str = "GPT2_CHAT_HISTORY";

/// The history's file.
pub(super) fn path() -> Option<PathBuf> {
    path_in(&|name| env::var_os(name))
}

fn path_in(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(named) = variable(VARIABLE) {
        return (!named.is_empty()).then(|| named.into());
    }
    // The specification has relative folders ignored.
    let state = set("XDG_STATE_HOME").filter(|folder| Path::new(folder).is_absolute());
    let folder = state
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")))
        .or_else(|| set("LOCALAPPDATA").map(PathBuf::from))?;
    Some(folder.join("gpt2-edge").join("chat_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<String> {
        let path = path_in(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        });
        path.map(|path| path.display().to_string())
    }

    #[cfg(unix)]
    #[test]
    fn the_history_is_where_programs_keep_their_state() {
        let home = ("HOME", "/home/anne");
        let usual = Some("/home/anne/.local/state/gpt2-edge/chat_history".to_owned());
        assert_eq!(with(&[home]), usual);
        assert_eq!(with(&[home, ("XDG_STATE_HOME", "relative")]), usual);
        assert_eq!(
            with(&[home, ("XDG_STATE_HOME", "/state")]).as_deref(),
            Some("/state/gpt2-edge/chat_history")
        );
        assert_eq!(with(&[home, (VARIABLE, "/x")]).as_deref(), Some("/x"));
        assert_eq!(with(&[home, (VARIABLE, "")]), None);
        assert_eq!(with(&[]), None);
    }
}
