//! A session's cache in a file: kept, restored, cut, and refused where it does not belong.

use std::fs;
use std::sync::Arc;

use crate::common::{austen, austen_f32, cores, ids, reference};
use gpt2::Error;
use gpt2::session::{CacheType, Model, ModelOptions, Session, SessionOptions};

fn session(model: &Arc<Model>, cache_type: CacheType) -> Session {
    let options = SessionOptions {
        cache_type: Some(cache_type),
        sequences: 3,
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn prompt() -> Vec<u32> {
    ids(&reference()["prompts"][0]["ids"])
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn a_restored_cache_goes_on_to_the_bit() {
    let _cores = cores();
    let model = austen_f32();
    let folder = tempfile::tempdir().unwrap();
    for cache_type in CacheType::all() {
        let file = folder.path().join(cache_type.name());
        let mut first = session(&model, cache_type);
        first.prefill(&prompt()).unwrap();
        first.save(0, &file, false).unwrap();
        let expected = first.decode(11).unwrap().to_vec();

        let mut second = session(&model, cache_type);
        second.prefill(&[1, 2, 3]).unwrap();
        assert_eq!(second.restore(0, &file).unwrap(), prompt().len());
        assert_eq!(second.tokens(0), prompt());
        let worst = difference(second.decode(11).unwrap(), &expected);
        assert_eq!(worst, 0.0, "a {} cache", cache_type.name());

        // Into another sequence, cut back and extended again.
        let last = prompt().len() - 1;
        second.clear();
        second.restore(2, &file).unwrap();
        second.truncate(2, last).unwrap();
        second.fork(2, 0).unwrap();
        second.decode(prompt()[last]).unwrap();
        let worst = difference(second.decode(11).unwrap(), &expected);
        println!("{}, cut and extended: {worst:.2e}", cache_type.name());
        assert!(worst < 1e-2, "{worst:e}");
    }
}

#[test]
fn an_existing_file_is_only_replaced_when_asked() {
    let model = austen_f32();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let session = session(&model, CacheType::F32);
    session.save(0, &file, false).unwrap();
    assert!(session.save(0, &file, false).is_err());
    session.save(0, &file, true).unwrap();
    assert!(session.save(7, &file, true).is_err(), "no such sequence");
}

#[test]
fn caches_that_do_not_fit_are_refused() {
    let _cores = cores();
    let model = austen_f32();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let mut saved = session(&model, CacheType::F16);
    saved.prefill(&prompt()).unwrap();
    saved.save(0, &file, false).unwrap();

    let message = |mut session: Session| {
        session.decode(5).unwrap();
        let before = session.decode(6).unwrap().to_vec();
        session.truncate(0, 1).unwrap();
        let error = session.restore(0, &file).unwrap_err();
        assert_eq!(session.tokens(0), [5], "the session is as it was");
        assert_eq!(difference(session.decode(6).unwrap(), &before), 0.0);
        error.to_string()
    };
    let other = Model::open(austen("q8_0"), &ModelOptions::default()).unwrap();
    let text = message(session(&other, CacheType::F16));
    assert!(text.contains("its model is"), "{text}");
    let text = message(session(&model, CacheType::Q8_0));
    assert!(
        text.contains("its cache type is f16, expected q8_0"),
        "{text}"
    );
    let options = SessionOptions {
        context: Some(4),
        cache_type: Some(CacheType::F16),
        ..SessionOptions::default()
    };
    let text = message(Session::new(Arc::clone(&model), options).unwrap());
    assert!(text.contains("the context is full"), "{text}");
}

#[test]
fn damaged_files_are_refused() {
    let _cores = cores();
    let model = austen_f32();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let mut session = session(&model, CacheType::Q4_0);
    session.prefill(&prompt()).unwrap();
    session.save(0, &file, false).unwrap();
    let whole = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;

    let mut refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = session.restore(0, &file).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Format { .. } | Error::Argument(_) | Error::Io { .. }
            ),
            "{error}"
        );
        assert_eq!(session.tokens(0), prompt());
    };
    for length in [0, 7, 8, 100, header, header + 4, whole.len() - 1] {
        refused(&whole[..length]);
    }
    let step = whole.len() / 997;
    for index in (0..8).chain((header..whole.len()).step_by(step)) {
        let mut changed = whole.clone();
        changed[index] ^= 0x41;
        refused(&changed);
    }
    // What the header says may change without harm (a space), but nothing else may.
    for index in 8..header {
        let mut changed = whole.clone();
        changed[index] = b'7';
        fs::write(&file, &changed).unwrap();
        let _ = session.restore(0, &file);
        assert_eq!(session.tokens(0), prompt());
    }
}
