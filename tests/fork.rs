//! Sessions in children made by `fork()`: they go on with threads of the child's, and can be
//! dropped there.
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
    }
    other_devices_are_refused();
}

/// A driver's state or a connection is the parent's.
fn other_devices_are_refused() {
    let open = |device: &str| {
        let options = ModelOptions {
            devices: vec![device.to_owned()],
            ..ModelOptions::default()
        };
        Model::open(austen("q8_0"), &options)
    };
    let refused = |error: Error| {
        let message = error.to_string();
        assert!(
            matches!(error, Error::Unsupported(_)) && message.contains("fork"),
            "{message}"
        );
    };
    for device in ["cuda0", "rpc://127.0.0.1:1"] {
        assert_eq!(in_child(|| refused(open(device).unwrap_err())), 0);
    }
    #[cfg(feature = "rpc")]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        std::thread::spawn(move || gpt2::worker::serve(address, "cpu", 1));
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        let model = open(&format!("rpc://{address}")).unwrap();
        let mut used = Some(session(&model, 1));
        let expected = logits(used.as_mut().unwrap());
        let mut model = Some(model);
        let child = in_child(|| {
            let session = used.as_mut().unwrap();
            refused(session.prefill(&TOKENS).unwrap_err());
            refused(session.project(&[0.0; 256]).unwrap_err());
            let file = std::env::temp_dir().join("gpt2-edge-forked.cache");
            refused(session.save(0, &file, true).unwrap_err());
            let options = SessionOptions::default();
            let other = Session::new(Arc::clone(model.as_ref().unwrap()), options);
            refused(other.unwrap_err());
            drop((used.take(), model.take()));
        });
        assert_eq!(child, 0);
        assert_eq!(logits(used.as_mut().unwrap()), expected);
    }
}
