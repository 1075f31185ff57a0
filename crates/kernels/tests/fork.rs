//! The pool in children made by `fork()`.
#![cfg(unix)]

#[path = "../../../tests/common/fork.rs"]
mod fork;

use std::sync::atomic::{AtomicUsize, Ordering};

use fork::in_child;
use gpt2_kernels::fork::forks;
use gpt2_kernels::pool::Pool;

fn sums_up(pool: &Pool) {
    for chunks in [1, 7, 100] {
        let sum = AtomicUsize::new(0);
        pool.run(chunks, &|chunk| {
            sum.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), chunks * (chunks - 1) / 2);
    }
}

#[test]
fn a_pool_goes_on_in_a_forked_child() {
    for threads in 1..4 {
        let before = forks();
        let mut pool = Pool::new(threads);
        for _ in 0..20 {
            sums_up(&pool);
            let child = in_child(|| {
                assert_eq!(forks(), before + 1);
                // Dropped without use.
                drop(std::mem::replace(&mut pool, Pool::new(threads)));
                sums_up(&pool);
            });
            assert_eq!(child, 0);
            let child = in_child(|| {
                sums_up(&pool);
                let grandchild = in_child(|| {
                    sums_up(&pool);
                    drop(std::mem::replace(&mut pool, Pool::new(1)));
                });
                assert_eq!(grandchild, 0);
                sums_up(&pool);
            });
            assert_eq!(child, 0);
        }
        assert_eq!(forks(), before);
        sums_up(&pool);
    }
}
