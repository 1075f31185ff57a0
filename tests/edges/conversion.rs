//! The options of a conversion.

use std::fs;

use gpt2::convert::{ConvertOptions, FileType, convert, plan};

use crate::tiny::checkpoint;
use crate::{COUNTS, check};

#[test]
fn any_number_of_threads_converts_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in checkpoint() {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let output = folder.path().join("out.gguf");
    for &threads in COUNTS {
        let options = ConvertOptions {
            threads: Some(threads),
            overwrite: true,
            ..ConvertOptions::new(FileType::from_name("q8_0").unwrap())
        };
        let what = format!("{threads} threads");
        let planned = check(&what, || plan(folder.path(), &options));
        assert!(
            planned.is_some_and(|plan| plan.bits_per_weight > 8.0),
            "{what}"
        );
        let done = check(&what, || convert(folder.path(), &output, &options, &()));
        assert_eq!(done.is_some(), threads <= 1024, "{what}");
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_found_before_the_work() {
    struct Never;

    impl gpt2::convert::Progress for Never {
        fn begin(&self, _plan: &gpt2::convert::Plan) {
            panic!("the work has begun");
        }
    }

    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in checkpoint() {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let options = ConvertOptions::new(FileType::from_name("f16").unwrap());
    let output = folder.path().join("no/out.gguf");
    let error = convert(folder.path(), &output, &options, &Never).unwrap_err();
    assert!(error.to_string().contains("no/out.gguf"), "{error}");
}
