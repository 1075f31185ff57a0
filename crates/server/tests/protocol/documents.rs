//! `docs/server.md` says what the tables of fields say.

use std::path::Path;

use gpt2_server::protocol::reference;

const BEGIN: &str = "<!-- The tables of the fields: UPDATE_DOCS=1 cargo test --test protocol -->\n";
const END: &str = "<!-- The end of the tables. -->\n";

#[test]
fn documents_list_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/server.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
    } else {
        assert!(found == expected, "docs/server.md: run with UPDATE_DOCS=1");
    }
}
