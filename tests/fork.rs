//! Sessions in children made by `fork()`: they go on with threads of the child's, and can be dropped
//! there.
#![cfg(unix)]

mod common;
#[path = "common/fork.rs"]
mod fork;

use std::sync::Arc;

use common::austen;
use fork::in_child;
use gpt2::Error;
use gpt2::session::{Model, ModelOptions, Session, SessionOptions};

const TOKENS: [u32; 6] = [5, 6, 7, 8, 9, 10];

fn session(model: &Arc<Model>, threads: usize) -> Session {
    let options = SessionOptions {
        threads: Some(threads),
        context: Some(64),
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn logits(session: &mut Session) -> Vec<f32> {
    session.clear();
    session.prefill(&TOKENS).unwrap();
    session.decode(11).unwrap().to_vec()
}

/// With threads of the kernels' pool, and with ggml's where those compute.
#[test]
fn sessions_go_on_in_a_forked_child() {
    for kind in ["q8_0", "f32"] {
        let model = Model::open(austen(kind), &ModelOptions::default()).unwrap();
        for threads in [1, 2] {
            let mut used = session(&model, threads);
            let expected = logits(&mut used);
            let child = in_child(|| {
                assert_eq!(logits(&mut used), expected);
                assert_eq!(logits(&mut session(&model, threads)), expected);
                let grandchild = in_child(|| assert_eq!(logits(&mut used), expected));
                assert_eq!(grandchild, 0);
                drop(std::mem::replace(&mut used, session(&model, 1)));
            });
            assert_eq!(child, 0, "{kind}, {threads} threads");
            let unused = session(&model, threads);
            let mut unused = Some(unused);
            let child = in_child(|| drop(unused.take()));
            assert_eq!(child, 0, "{kind}, {threads} threads, dropped");
            assert_eq!(logits(&mut used), expected);
        }
        // Another device may have been the parent's: its driver's state is not copied.
        let child = in_child(|| {
            let options = ModelOptions {
                devices: vec!["cuda0".to_owned()],
                ..ModelOptions::default()
            };
            let refused = Model::open(austen(kind), &options).unwrap_err();
            assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
        });
        assert_eq!(child, 0);
    }
}
