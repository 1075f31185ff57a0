//! Programs compiled against other versions of the header.

use std::process::Command;

use crate::common::{austen, cores};
use crate::installed_or_return;
use crate::library::{Link, run};

#[test]
fn older_and_newer_programs_work() {
    let library = installed_or_return!();
    let _cores = cores();
    let folder = tempfile::tempdir().unwrap();
    let model = austen("q4_0");
    for link in [Link::Static, Link::Shared] {
        let mut program: Command = library.program("abi", link, folder.path());
        assert_eq!(run(program.arg(&model)), "older and newer programs work\n");
    }
}
