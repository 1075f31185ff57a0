//! What of a mapped file stays in memory, as Linux says it of pages of 4 KiB.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::common::{austen, cores};
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};

/// How many whole pages of `bytes` this process has in memory (bit 63 of the system's table of
/// pages).
fn pages_present(bytes: &[u8]) -> usize {
    let page = 4096;
    let first = bytes.as_ptr().addr().div_ceil(page);
    let end = (bytes.as_ptr().addr() + bytes.len()) / page;
    let mut table = std::fs::File::open("/proc/self/pagemap").unwrap();
    table.seek(SeekFrom::Start(8 * first as u64)).unwrap();
    let mut entries = vec![0; 8 * (end - first)];
    table.read_exact(&mut entries).unwrap();
    entries
        .chunks_exact(8)
        .filter(|entry| entry[7] >> 7 == 1)
        .count()
}

#[test]
fn position_embeddings_that_were_read_are_given_back() {
    let _cores = cores();
    let model = Model::open(austen("f32"), &ModelOptions::default()).unwrap();
    let info = model.gguf().tensor("position_embd.weight").unwrap();
    let data = model.gguf().tensor_data(info);
    let mut session = Session::new(Arc::clone(&model), SessionOptions::default()).unwrap();
    let tokens = vec![1; 63];
    session.prefill(&tokens).unwrap();
    let before = pages_present(data);
    session.decode(1).unwrap();
    let after = pages_present(data);
    println!("{before} pages, then {after}");
    assert!(before > 0 && after == 0, "{before} pages, then {after}");
}
